import { expect, test } from "vitest";
import { Generator } from "../src/diffusion/random.js";
import { floats, largestDifference, recorded } from "./recorded.js";

test("noise equals PyTorch's for the same seed, draw after draw", () => {
  for (const { seed, size, draws } of recorded("noise")) {
    const generator = new Generator(seed);
    for (const draw of draws) {
      expect(largestDifference(generator.randn(size), floats(draw)), `seed ${seed}, ${size} numbers`).toBeLessThan(2e-6);
    }
  }
});

test("a clone gives the same noise, and leaves the first alone", () => {
  const generator = new Generator(5);
  generator.randn(40);
  const twin = generator.clone();
  const expected = generator.randn(1000);
  expect(twin.randn(1000)).toEqual(expected);
});

test("fewer than 16 numbers are refused", () => {
  expect(() => new Generator(0).randn(15)).toThrow("randn(15)");
});
