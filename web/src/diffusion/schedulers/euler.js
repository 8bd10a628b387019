/** Euler's method on the probability-flow ODE of EDM, Karras et al. 2022 (arXiv:2206.00364). */

import { map } from "../arrays.js";
import { VEScheduler } from "./spaces.js";

/** Follow the slope dx/dσ = (x - D(x; σ)) / σ from level to level: Algorithm 2 without churn and Heun's correction. */
export class Euler extends VEScheduler {
  constructor(model, name, levels) {
    super(model, name, levels);
    for (const setting of ["use_karras_sigmas", "s_churn"]) {
      if (this.settings[setting]) throw new TypeError(`${setting}=${this.settings[setting]} is not supported here`);
    }
  }

  step(output, i, x) {
    // 1. The noise levels here and at the next step
    const [sigma, sigmaNext] = [this.sigmas[i], this.sigmas[i + 1]];

    // 2. The denoised picture, D(x; σ)
    const x0 = this.predict(output, x, sigma);

    // 3. Line 7: the slope, d = (x - D(x; σ)) / σ
    const d = map((x, x0) => (x - x0) / sigma, x, x0);

    // 4. Line 8: Euler's step, x_{i+1} = x + (σ_{i+1} - σ) d
    const prev = map((x, d) => x + (sigmaNext - sigma) * d, x, d);

    return { prev, x0, numbers: { sigma, sigmaNext } };
  }
}
