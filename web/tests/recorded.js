/** What Python recorded: see tests/web/record.py in the project's root, which `npm test` needs to have run. */

import { readFileSync } from "node:fs";

const FOLDER = new URL("./recorded/", import.meta.url);
const MODEL = new URL("../public/model/", import.meta.url);

export const recorded = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8"));
export const modelFile = (name) => readFileSync(new URL(name, MODEL));
export const model = JSON.parse(modelFile("model.json"));

export const bytes = (base64) => Uint8Array.from(Buffer.from(base64, "base64"));
export const floats = (base64) => new Float32Array(bytes(base64).buffer);

export function largestDifference(a, b) {
  if (a.length !== b.length) throw new RangeError(`${a.length} numbers against ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference; // also for NaN
  }
  return largest;
}
