/** Euler ancestral: k-diffusion's sampler of that name (Katherine Crowson, 2022). */

import { map } from "../arrays.js";
import { VEScheduler } from "./spaces.js";

/** Euler's step, but too far down, and back up with new noise. With η = 1 this is DDPM, written for x = x0 + σ ε. */
export class EulerAncestral extends VEScheduler {
  step(output, i, x, generator) {
    // 1. The noise levels here and at the next step
    const [sigma, sigmaNext] = [this.sigmas[i], this.sigmas[i + 1]];

    // 2. σ_up = η sqrt(σ_next² (σ² - σ_next²) / σ²), at most σ_next;  σ_down = sqrt(σ_next² - σ_up²)
    const eta = this.settings.eta ?? 1;
    const sigmaUp = Math.min(sigmaNext, eta * Math.sqrt((sigmaNext ** 2 * (sigma ** 2 - sigmaNext ** 2)) / sigma ** 2));
    const sigmaDown = Math.sqrt(sigmaNext ** 2 - sigmaUp ** 2);

    // 3. Euler's step to σ_down: x + (σ_down - σ) d, with the slope d = (x - x0) / σ
    const x0 = this.predict(output, x, sigma);
    let prev = map((x, x0) => x + ((sigmaDown - sigma) * (x - x0)) / sigma, x, x0);

    // 4. Back up to σ_next: + σ_up z
    if (sigmaUp > 0) prev = map((prev, z) => prev + sigmaUp * z, prev, generator.randn(x.length));

    return { prev, x0, numbers: { sigma, sigmaNext, sigmaUp, sigmaDown } };
  }
}
