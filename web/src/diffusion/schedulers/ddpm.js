/** DDPM: Denoising Diffusion Probabilistic Models, Ho et al. 2020 (arXiv:2006.11239). */

import { map } from "../arrays.js";
import { VPScheduler } from "./spaces.js";

/** Guess the picture, then draw the next x from the posterior q(x_{t-1} | x_t, x_0), where t - 1 is the next level. */
export class DDPM extends VPScheduler {
  step(output, i, x, generator) {
    // 1. The noise levels here and at the next timestep; α_t and β_t span the stride between them
    const [alphaBar, alphaBarPrev] = [this.alphaBars[i], this.alphaBars[i + 1]];
    const alpha = alphaBar / alphaBarPrev;
    const beta = 1 - alpha;

    // 2. Eq. 15: x_0 = (x_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t)
    const { x0 } = this.predict(output, x, alphaBar);

    // 3. Eq. 7: the posterior's mean and variance, with that guess in the place of x_0; section 3.2: σ² = β̃_t, or β_t
    const x0Share = (Math.sqrt(alphaBarPrev) * beta) / (1 - alphaBar);
    const xShare = (Math.sqrt(alpha) * (1 - alphaBarPrev)) / (1 - alphaBar);
    const variance = this.settings.variance_type === "fixed_large" ? beta : ((1 - alphaBarPrev) / (1 - alphaBar)) * beta;
    let prev = map((x0, x) => x0Share * x0 + xShare * x, x0, x);

    // 4. Algorithm 2: x_{t-1} = μ̃ + σ z, and z = 0 in the last step
    const sigma = i + 1 < this.steps ? Math.sqrt(variance) : 0;
    if (sigma > 0) prev = map((mean, z) => mean + sigma * z, prev, generator.randn(x.length));

    return { prev, x0, numbers: { alphaBar, alphaBarPrev, alpha, beta, x0Share, xShare, sigma } };
  }
}
