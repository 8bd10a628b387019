import { expect, test } from "vitest";
import { fromLink, initialState, toLink } from "../src/state.js";
import { model } from "./recorded.js";

const PARTS = ["text_encoder", "unet", "scheduler", "vae"];
const start = () => initialState(model);

test("a link restores the whole state", () => {
  const a = { prompt: "a cat & a dog = 猫 #1", scheduler: "ddpm", steps: 7, guidance: 3.5, seed: 2 ** 32 - 1 };
  const states = [
    { ...start(), a },
    { ...start(), a, step: 3, word: 1, part: "unet" },
    { ...start(), a, b: { ...a, scheduler: "euler", steps: 50 } },
    { ...start(), a, b: { ...a, prompt: "", guidance: 1 }, at: 4, step: 6 },
  ];
  for (const state of states) expect(fromLink(model, toLink(state), PARTS)).toEqual(state);
});

test("what a link says wrongly is as at the start", () => {
  expect(fromLink(model, "", PARTS)).toEqual(start());
  const wrong = "s=heun&n=0&g=99&seed=-1&step=1000&word=x&part=cellar&with=branch&at=26";
  expect(fromLink(model, wrong, PARTS)).toEqual(start());
  expect(fromLink(model, "n=2.5&n=3&seed=1e99", PARTS)).toEqual(start());
  expect(fromLink(model, `p=${"x".repeat(5000)}`, PARTS).a.prompt.length).toBe(2000);
});

test("a comparison is from the same noise, and a branch has the same steps", () => {
  const compared = fromLink(model, "seed=5&b.seed=6&b.n=9&with=compare", PARTS);
  expect([compared.b.seed, compared.b.steps]).toEqual([5, 9]);
  expect(fromLink(model, "n=12&b.n=9&with=branch&at=3", PARTS).b.steps).toBe(12);
});
