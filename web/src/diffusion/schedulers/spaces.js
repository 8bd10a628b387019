/**
 * The two ways to write one noisy picture, and what the schedulers of each have in common.
 *
 *   variance preserving   x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε    x keeps unit scale          DDPM, DDIM
 *   variance exploding    x = x0 + σ ε                      x grows with the noise      Euler, Euler ancestral
 *
 * Divide the first by sqrt(ᾱ), and it is the second: σ = sqrt((1 - ᾱ) / ᾱ), and so ᾱ = 1 / (σ² + 1). The U-Net was trained on
 * the first: `toModel` and `fromModel` go there and back.
 *
 * `levels` are the timesteps to visit and their σ: by default those that the scheduler itself chooses for `steps`; those of
 * another scheduler when a run is continued with this one. Step i goes from level i to level i + 1, the last one to the picture.
 */

import { map, round } from "../arrays.js";
import { alphaBarOf, interpolate, sigmaOf, spacedTimesteps } from "./noise-schedule.js";

class Scheduler {
  /**
   * @param {object} model what model.json holds
   * @param {string} name a key of its `schedulers`
   * @param {number | { timesteps: number[], sigmas: number[] }} levels a number of steps, or the levels themselves
   */
  constructor(model, name, levels) {
    this.settings = model.schedulers[name];
    this.alphasCumprod = model.alphas_cumprod;
    const { prediction_type: type } = this.settings;
    if (type !== "epsilon" && type !== "v_prediction") throw new TypeError(`prediction_type="${type}" is not supported`);
    this.visit(typeof levels === "number" ? this.choose(levels) : levels);
  }

  get steps() {
    return this.timesteps.length;
  }

  spacedTimesteps(steps) {
    const { timestep_spacing: spacing, steps_offset: offset, num_train_timesteps: T } = this.settings;
    return spacedTimesteps(spacing, steps, T, offset);
  }

  /** The levels from step `first` on. */
  levelsFrom(first) {
    return { timesteps: this.timesteps.slice(first), sigmas: this.timesteps.slice(first).map((_, i) => this.sigmaAt(first + i)) };
  }
}

export class VPScheduler extends Scheduler {
  get finalAlphaBar() {
    return 1;
  }

  choose(steps) {
    const timesteps = this.spacedTimesteps(steps).map(round);
    return { timesteps, alphaBars: timesteps.map((t) => this.alphasCumprod[t]) };
  }

  visit({ timesteps, sigmas, alphaBars = sigmas.map(alphaBarOf) }) {
    this.timesteps = timesteps;
    this.alphaBars = [...alphaBars, this.finalAlphaBar]; // one more than there are steps
  }

  sigmaAt(i) {
    return Math.sqrt((1 - this.alphaBars[i]) / this.alphaBars[i]);
  }

  get initNoiseSigma() {
    return 1;
  }

  toModel(x) {
    return x;
  }

  fromModel(x) {
    return x;
  }

  /** x0 and ε in x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε, as the model's output tells them. */
  predict(output, x, alphaBar) {
    const [signal, noise] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
    if (this.settings.prediction_type === "epsilon") {
      return { x0: map((x, eps) => (x - noise * eps) / signal, x, output), eps: output };
    }
    // v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0
    return { x0: map((x, v) => signal * x - noise * v, x, output), eps: map((x, v) => signal * v + noise * x, x, output) };
  }
}

export class VEScheduler extends Scheduler {
  choose(steps) {
    const timesteps = this.spacedTimesteps(steps);
    const trainSigmas = this.alphasCumprod.map(sigmaOf);
    return { timesteps: timesteps.map(Math.fround), sigmas: timesteps.map((t) => Math.fround(interpolate(t, trainSigmas))) };
  }

  visit({ timesteps, sigmas }) {
    this.timesteps = timesteps;
    this.sigmas = [...sigmas, 0]; // one more than there are steps
  }

  sigmaAt(i) {
    return this.sigmas[i];
  }

  get initNoiseSigma() {
    const sigma = this.sigmas[0];
    return this.settings.timestep_spacing === "leading" ? Math.sqrt(sigma ** 2 + 1) : sigma;
  }

  toModel(x, i) {
    const scale = Math.sqrt(this.sigmas[i] ** 2 + 1);
    return map((x) => x / scale, x);
  }

  fromModel(x, i) {
    const scale = Math.sqrt(this.sigmas[i] ** 2 + 1);
    return map((x) => x * scale, x);
  }

  /** x0 in x = x0 + σ ε, as the model's output tells it: the denoiser D(x; σ) of Karras et al. */
  predict(output, x, sigma) {
    if (this.settings.prediction_type === "epsilon") return map((x, eps) => x - sigma * eps, x, output);
    const alphaBar = alphaBarOf(sigma); // v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0
    return map((x, v) => alphaBar * x - sigma * Math.sqrt(alphaBar) * v, x, output);
  }
}
