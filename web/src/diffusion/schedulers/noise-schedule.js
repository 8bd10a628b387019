/**
 * Which of the T noise levels of training a sampler visits, and how much noise each holds.
 *
 *   alphaBar   ᾱ_t, what is left of the picture's variance (Ho et al. 2020, eq. 4)
 *   sigma      σ_t = sqrt((1 - ᾱ_t) / ᾱ_t), noise per unit of picture (Karras et al. 2022)
 */

import { round } from "../arrays.js";

export const sigmaOf = (alphaBar) => Math.fround(Math.sqrt((1 - alphaBar) / alphaBar));
export const alphaBarOf = (sigma) => 1 / (sigma ** 2 + 1);

/**
 * n of T training timesteps, falling (Lin et al. 2023, table 2). With T = 1000 and n = 5:
 *
 *   leading    800, 600, 400, 200, 0      the start of each of n equal parts, + offset
 *   linspace   999, 749.25, 499.5 ... 0   from end to end
 *   trailing   999, 799, 599, 399, 199    the end of each part
 *
 * A single step starts where training ended, whatever the spacing: there the noise is.
 */
export function spacedTimesteps(spacing, n, T, offset) {
  if (!Number.isInteger(n) || n < 1 || n > T) throw new RangeError(`steps=${n} must be a whole number, 1 ... ${T}`);
  if (n === 1) return [T - 1];
  const falling = Array.from({ length: n }, (_, i) => n - 1 - i);
  if (spacing === "leading") {
    // Parts of floor(T / n) timesteps leave T % n at the noisy end to no part; where that is much, the parts share all T
    const starts = falling.map((i) => (T % n <= T / 10 ? i * Math.floor(T / n) : Math.floor((i * T) / n)));
    return starts.map((t) => t + Math.min(offset, T - 1 - starts[0]));
  }
  if (spacing === "trailing") {
    const down = T - T / n - T; // as numpy.arange computes it: the roundings of halves hang on it
    return falling.map((_, i) => round(T + i * down) - 1);
  }
  if (spacing === "linspace") return falling.map((i) => (i * (T - 1)) / (n - 1));
  throw new TypeError(`timestep_spacing="${spacing}" is none of leading, linspace, trailing`);
}

/** The value at `t`, which may have a fraction, on the straight line between the two entries around it. */
export function interpolate(t, values) {
  const below = Math.min(Math.floor(t), values.length - 2);
  return values[below] + (t - below) * (values[below + 1] - values[below]);
}
