/** DDIM: Denoising Diffusion Implicit Models, Song et al. 2020 (arXiv:2010.02502). Its α is DDPM's ᾱ. */

import { map } from "../arrays.js";
import { VPScheduler } from "./spaces.js";

/** Guess the picture and the noise, then put them together again with less of the noise. */
export class DDIM extends VPScheduler {
  get finalAlphaBar() {
    return this.settings.set_alpha_to_one ? 1 : this.alphasCumprod[0];
  }

  step(output, i, x, generator) {
    // 1. The noise levels here and at the next timestep
    const [alphaBar, alphaBarPrev] = [this.alphaBars[i], this.alphaBars[i + 1]];

    // 2. Eq. 9: x_0 = (x - sqrt(1 - α) ε) / sqrt(α)
    const { x0, eps } = this.predict(output, x, alphaBar);

    // 3. Eq. 16: σ² = η² (1 - α_prev) / (1 - α) (1 - α / α_prev), no more than all noise
    const eta = this.settings.eta ?? 0;
    const variance = Math.min(((eta ** 2 * (1 - alphaBarPrev)) / (1 - alphaBar)) * (1 - alphaBar / alphaBarPrev), 1 - alphaBarPrev);
    const sigma = Math.sqrt(variance);

    // 4. Eq. 12: x_prev = sqrt(α_prev) x_0 + sqrt(1 - α_prev - σ²) ε + σ z
    const [x0Share, epsShare] = [Math.sqrt(alphaBarPrev), Math.sqrt(1 - alphaBarPrev - variance)];
    let prev = map((x0, eps) => x0Share * x0 + epsShare * eps, x0, eps);
    if (variance > 0) prev = map((prev, z) => prev + sigma * z, prev, generator.randn(x.length));

    return { prev, x0, numbers: { alphaBar, alphaBarPrev, x0Share, epsShare, sigma } };
  }
}
