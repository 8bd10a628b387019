import { describe, expect, test } from "vitest";
import { map } from "../src/diffusion/arrays.js";
import { Generator } from "../src/diffusion/random.js";
import { makeScheduler, schedulerNames } from "../src/diffusion/schedulers/index.js";
import { spacedTimesteps } from "../src/diffusion/schedulers/noise-schedule.js";
import { floats, largestDifference, model, recorded } from "./recorded.js";

/** Largest difference, relative to the largest number of the right answer where that is more than 1: Euler begins at 14. */
const relative = (a, b) => largestDifference(a, b) / Math.max(1, ...b.map(Math.abs));

for (const { name, steps, seed, start, taken } of recorded("schedulers")) {
  test(`${name}: every one of ${steps} steps equals Python's`, () => {
    const scheduler = makeScheduler(model, name, steps);
    const generator = new Generator(seed);
    const noise = generator.randn(24);
    expect(relative(map((z) => scheduler.initNoiseSigma * z, noise), floats(start))).toBeLessThan(1e-5);
    expect(taken.length).toBe(steps);
    for (const { i, timestep, sigma, x, shown, answer, prev, x0 } of taken) {
      expect(scheduler.timesteps[i]).toBe(timestep);
      expect(Math.abs(scheduler.sigmaAt(i) - sigma)).toBeLessThan(1e-5 * Math.max(1, sigma));
      expect(largestDifference(scheduler.toModel(floats(x), i), floats(shown))).toBeLessThan(1e-5);
      const step = scheduler.step(floats(answer), i, floats(x), generator);
      expect(largestDifference(step.prev, floats(prev)), `step ${i}`).toBeLessThan(1e-4);
      expect(relative(step.x0, floats(x0)), `x0 of step ${i}`).toBeLessThan(1e-5);
    }
  });
}

test.each(Object.entries(recorded("spacings")))("%s: the timesteps of 1 ... 1000 steps are Python's", (spacing, all) => {
  for (const timesteps of all) {
    const found = spacedTimesteps(spacing, timesteps.length, 1000, 1);
    expect(found.length).toBe(timesteps.length);
    expect(largestDifference(found, timesteps)).toBeLessThan(1e-9);
  }
});

describe("levels", () => {
  test.each(schedulerNames(model))("%s continues on its own levels as if it had not been stopped", (name) => {
    const scheduler = makeScheduler(model, name, 10);
    const continued = makeScheduler(model, name, scheduler.levelsFrom(4));
    const x = new Generator(1).randn(64);
    const answer = new Generator(2).randn(64);
    const whole = scheduler.step(answer, 6, scheduler.fromModel(x, 6), new Generator(3));
    const rest = continued.step(answer, 2, continued.fromModel(x, 2), new Generator(3));
    expect(continued.steps).toBe(6);
    expect(largestDifference(whole.prev, rest.prev)).toBeLessThan(1e-5);
  });

  test("on one grid of levels DDIM is Euler, and DDPM is Euler ancestral", () => {
    for (const [vp, ve] of [["ddim", "euler"], ["ddpm", "euler_a"]]) {
      const one = makeScheduler(model, vp, 10);
      const other = makeScheduler(model, ve, one.levelsFrom(0));
      const [x, answer] = [new Generator(1).randn(64), new Generator(2).randn(64)];
      const a = one.toModel(one.step(answer, 3, one.fromModel(x, 3), new Generator(3)).prev, 4);
      const b = other.toModel(other.step(answer, 3, other.fromModel(x, 3), new Generator(3)).prev, 4);
      expect(largestDifference(a, b), vp).toBeLessThan(1e-5);
    }
  });

  test("v-prediction is understood in both spaces", () => {
    const other = structuredClone(model);
    for (const settings of Object.values(other.schedulers)) settings.prediction_type = "v_prediction";
    for (const name of ["ddim", "euler"]) {
      const [eps, v] = [makeScheduler(model, name, 10), makeScheduler(other, name, 10)];
      const alphaBar = 1 / (eps.sigmaAt(5) ** 2 + 1);
      const [x0, noise] = [new Generator(1).randn(64), new Generator(2).randn(64)];
      const x = eps.fromModel(map((x0, z) => Math.sqrt(alphaBar) * x0 + Math.sqrt(1 - alphaBar) * z, x0, noise), 5);
      const velocity = map((x0, z) => Math.sqrt(alphaBar) * z - Math.sqrt(1 - alphaBar) * x0, x0, noise);
      expect(largestDifference(eps.step(noise, 5, x).x0, x0)).toBeLessThan(1e-5);
      expect(largestDifference(v.step(velocity, 5, x).x0, x0)).toBeLessThan(1e-5);
      expect(largestDifference(v.step(velocity, 5, x).prev, eps.step(noise, 5, x).prev)).toBeLessThan(1e-5);
    }
  });
});

test("what is not possible is refused by name", () => {
  expect(() => makeScheduler(model, "heun", 5)).toThrow('scheduler="heun"');
  expect(() => makeScheduler(model, "ddim", 0)).toThrow("steps=0");
  expect(() => spacedTimesteps("karras", 5, 1000, 0)).toThrow("karras");
  const other = structuredClone(model);
  other.schedulers.euler.use_karras_sigmas = true;
  expect(() => makeScheduler(other, "euler", 5)).toThrow("use_karras_sigmas=true");
});
