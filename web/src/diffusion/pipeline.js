/**
 * Words and noise in, a picture out: the loop of ldm_tutorial/pipeline.py, for one picture.
 *
 * Shapes: (4, h, w) latents, (77, d) states of the text encoder, flat and in float32. `networks` computes: see networks.js.
 */

import { concat, map, round } from "./arrays.js";
import { Generator } from "./random.js";
import { makeScheduler } from "./schedulers/index.js";

/**
 * @typedef {object} Settings what a person chooses
 * @property {string} prompt
 * @property {string} scheduler
 * @property {number} steps
 * @property {number} guidance
 * @property {number} seed
 *
 * @typedef {object} Branch where another run is left: `at` is the first step that is taken with the new settings
 * @property {number} at
 * @property {{ timesteps: number[], sigmas: number[] }} levels those of the other run, from there on
 * @property {Float32Array} latents its latents there, at the model's scale
 * @property {Generator} generator its generator there
 */

/** Classifier-free guidance: away from what the noise would be without the prompt (Ho and Salimans 2022, eq. 6). */
export const guide = (without, withPrompt, scale) => map((u, c) => u + scale * (c - u), without, withPrompt);

/**
 * A run, ready for the loop: prompt encoded, noise drawn. With `branch` it goes on where another run was left.
 *
 * @param {Settings} settings
 * @param {Branch} [branch]
 */
export async function prepare(model, networks, tokenizer, settings, branch) {
  const encoded = tokenizer.encode(settings.prompt, model.tokens);
  const states = await networks.encodeText(encoded.ids); // (77, d)
  // At scale 1 only the prompt counts, for half the work
  const guided = settings.guidance !== 1;
  const context = guided ? concat(await networks.encodeText(tokenizer.encode("", model.tokens).ids), states) : states;

  const scheduler = makeScheduler(model, settings.scheduler, branch ? branch.levels : settings.steps);
  const generator = branch ? branch.generator.clone() : new Generator(settings.seed);
  const start = branch
    ? scheduler.fromModel(branch.latents, 0)
    : map((z) => scheduler.initNoiseSigma * z, generator.randn(model.latents.reduce((a, b) => a * b)));
  return { settings, encoded, states, context, guided, scheduler, generator, start, first: branch?.at ?? 0 };
}

/** The loop: one object for each step, after it was taken. */
export async function* denoise(networks, run) {
  const { scheduler, generator, guided, settings } = run;
  let x = run.start;
  for (let i = 0; i < scheduler.steps; i++) {
    const before = { latents: scheduler.toModel(x, i), generator: generator.clone() };
    const batch = guided ? concat(before.latents, before.latents) : before.latents;
    const answer = await networks.predictNoise(batch, scheduler.timesteps[i], run.context);
    const [without, withPrompt] = guided ? answer.noise : [null, answer.noise[0]];
    const noise = guided ? guide(without, withPrompt, settings.guidance) : withPrompt;
    if (!noise.every(Number.isFinite)) throw new RangeError(`the predicted noise at step ${i + 1} is not finite`);

    const { prev, x0, numbers } = scheduler.step(noise, i, x, generator);
    x = prev;
    yield {
      index: run.first + i,
      timestep: scheduler.timesteps[i],
      sigma: scheduler.sigmaAt(i),
      before, // at the model's scale: what the U-Net saw
      without, // the noise predicted without the prompt, (4, h, w); null if that was not asked for
      withPrompt,
      noise, // the two, guided
      attention: answer.attention, // (77, h, w): how much each position read each token
      denoised: x0, // the guess of the clean latents
      latents: i + 1 < scheduler.steps ? scheduler.toModel(prev, i + 1) : prev, // after the step, at the model's scale
      numbers, // of the scheduler's formula
      levels: scheduler.levelsFrom(i),
    };
  }
}

/** Pixels in about [-1, 1], (3, height, width), to bytes as a canvas takes them: RGBA. Rounded as in Python. */
export function toBytes(pixels) {
  const area = pixels.length / 3;
  const bytes = new Uint8ClampedArray(4 * area).fill(255);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < area; i++) {
      const level = Math.min(Math.max(pixels[channel * area + i] / 2 + 0.5, 0), 1) * 255;
      bytes[4 * i + channel] = round(level);
    }
  }
  return bytes;
}
