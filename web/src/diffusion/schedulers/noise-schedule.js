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
 */
export function spacedTimesteps(spacing, n, T, offset) {
  if (!Number.isInteger(n) || n < 1 || n > T) throw new RangeError(`steps=${n} must be a whole number, 1 ... ${T}`);
  const places = Array.from({ length: n }, (_, i) => i);
  if (spacing === "leading") {
    const stride = Math.floor(T / n);
    const first = (n - 1) * stride;
    return places.map((i) => first - i * stride + Math.min(offset, T - 1 - first));
  }
  if (spacing === "trailing") return places.map((i) => round(T - (i * T) / n) - 1);
  if (spacing === "linspace") return n === 1 ? [T - 1] : places.map((i) => ((n - 1 - i) * (T - 1)) / (n - 1));
  throw new TypeError(`timestep_spacing="${spacing}" is none of leading, linspace, trailing`);
}

/** The value at `t`, which may have a fraction, on the straight line between the two entries around it. */
export function interpolate(t, values) {
  const below = Math.min(Math.floor(t), values.length - 2);
  return values[below] + (t - below) * (values[below + 1] - values[below]);
}
