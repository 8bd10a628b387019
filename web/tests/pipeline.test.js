import * as ort from "onnxruntime-web/wasm";
import { beforeAll, expect, test } from "vitest";
import { checkNetworks, loadNetworks } from "../src/diffusion/networks.js";
import { denoise, prepare, toBytes } from "../src/diffusion/pipeline.js";
import { Tokenizer } from "../src/diffusion/tokenizer.js";
import { bytes, largestDifference, model, modelFile, recorded } from "./recorded.js";

const tokenizer = new Tokenizer(JSON.parse(modelFile("tokenizer.json")), model.characters);
let networks;

beforeAll(async () => {
  ort.env.wasm.numThreads = 1;
  const data = Object.fromEntries(Object.entries(model.files).map(([name, { file }]) => [name, modelFile(file)]));
  networks = await loadNetworks(ort, model, data, { executionProviders: ["wasm"] });
});

async function draw(settings, branch) {
  const steps = [];
  for await (const step of denoise(networks, await prepare(model, networks, tokenizer, settings, branch))) steps.push(step);
  return steps;
}

const levels = async ({ latents }) => toBytes((await networks.decode(latents))[0]).filter((_, i) => i % 4 < 3);

for (const { pixels, width, ...settings } of recorded("pictures").filter((_, i) => i % 9 === 0)) {
  test(`picture within 2 levels of Python's: ${JSON.stringify(settings)}`, async () => {
    const found = await levels((await draw(settings)).at(-1));
    expect(found.length).toBe(3 * width * width);
    expect(largestDifference(found, bytes(pixels))).toBeLessThanOrEqual(2);
  });
}

const settings = { prompt: "a cat", scheduler: "euler_a", steps: 6, guidance: 4, seed: 3 };

test("a run that branches off with the same settings ends as it would have", async () => {
  const whole = await draw(settings);
  const { before, levels } = whole[2];
  const rest = await draw(settings, { at: 2, levels, latents: before.latents, generator: before.generator });
  expect(rest.map(({ index }) => index)).toEqual([2, 3, 4, 5]);
  expect(largestDifference(rest.at(-1).latents, whole.at(-1).latents)).toBeLessThan(1e-3);
});

test("a run can change its scheduler and its words in the middle", async () => {
  const { before, levels } = (await draw(settings))[2];
  const other = { ...settings, scheduler: "ddim", prompt: "a dog" };
  const rest = await draw(other, { at: 2, levels, latents: before.latents, generator: before.generator });
  expect(rest.map(({ timestep }) => timestep)).toEqual(levels.timesteps);
  expect(rest.at(-1).latents.every((z) => Math.abs(z) < 20)).toBe(true);
});

test("each place reads one unit of attention, spread over the tokens", async () => {
  const [{ attention }] = await draw({ ...settings, steps: 1 });
  const area = model.latents[1] * model.latents[2];
  for (const place of [0, area - 1]) {
    let sum = 0;
    for (let token = 0; token < model.tokens; token++) sum += attention[token * area + place];
    expect(sum).toBeCloseTo(1, 5);
  }
});

test("a machine that computes wrongly is found out", async () => {
  await checkNetworks(model, networks, tokenizer);
  const slightly = { ...networks, predictNoise: async (...given) => ({ noise: (await networks.predictNoise(...given)).noise.map((row) => row.map((z) => 1.1 * z)) }) };
  const broken = { ...networks, decode: async (batch) => (await networks.decode(batch)).map((row) => row.fill(NaN)) };
  for (const machine of [slightly, broken]) await expect(checkNetworks(model, machine, tokenizer)).rejects.toThrow("computed wrongly");
});
