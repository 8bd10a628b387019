import { expect, test } from "vitest";
import { Tokenizer } from "../src/diffusion/tokenizer.js";
import { model, modelFile, recorded } from "./recorded.js";

const tokenizer = new Tokenizer(JSON.parse(modelFile("tokenizer.json")), model.characters);

test("token ids equal Python's on 1,000 prompts of any Unicode", () => {
  const prompts = recorded("tokens");
  expect(prompts.length).toBe(1000);
  const different = prompts.filter(({ prompt, ids }) => tokenizer.encode(prompt, model.tokens).ids.join() !== ids.join());
  expect(different.map(({ prompt }) => prompt)).toEqual([]);
});

test("what does not fit is counted, and the end token is kept", () => {
  const { ids, used, cut } = tokenizer.encode("cat ".repeat(100), model.tokens);
  expect([used, cut]).toEqual([model.tokens - 2, 102 - model.tokens]);
  expect(ids.at(-1)).toBe(tokenizer.end);
});

test("words know their positions", () => {
  const words = tokenizer.wordsOf(tokenizer.encode("A cat, supercalifragilistic 猫", model.tokens));
  expect(words.map(({ text }) => text)).toEqual(["a", "cat", ",", "supercalifragilistic", "猫"]);
  expect(words.flatMap(({ positions }) => positions)).toEqual(Array.from({ length: words.at(-1).positions.at(-1) }, (_, i) => i + 1));
});

test("another kind of tokenizer is refused", () => {
  expect(() => new Tokenizer({ model: { type: "WordPiece" } })).toThrow("not of CLIP's kind");
});
