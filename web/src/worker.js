/**
 * The machine in a thread of its own, so that the page stays responsive.
 *
 * In:   { type: "draw", id, phases: [[{ lane, settings, at }]] }   runs of one phase take turns; a phase waits for the one before
 *       { type: "guess", id, lane, index }                         decode what the U-Net believed in that step
 *       { type: "cancel" }
 * Out:  progress { done, total }; ready { model, threads }; words, step, finished, guess of a lane; done, cancelled of an id; error
 */

import * as ort from "onnxruntime-web/wasm";
import wasmScript from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { FileError, loadNetworks } from "./diffusion/networks.js";
import { denoise, prepare, toBytes } from "./diffusion/pipeline.js";
import { Tokenizer } from "./diffusion/tokenizer.js";
import { readFile, readManifest } from "./files.js";

// Threads that wait by spinning take the processor from those they wait for, wherever something else runs, too
const OPTIONS = { executionProviders: ["wasm"], extra: { session: { intra_op: { allow_spinning: "0" } } } };

let machine; // { model, networks, tokenizer }
let current = null; // id of what is being drawn
const runs = {}; // lane -> its steps so far: what a branch starts from

const tell = (type, content = {}) => postMessage({ type, ...content });
const others = new MessageChannel();
/** Let waiting messages, such as "cancel", in. */
const pause = () =>
  new Promise((resolve) => {
    others.port1.onmessage = resolve;
    others.port2.postMessage(null);
  });

async function load(folder) {
  if (typeof WebAssembly !== "object") throw new FileError("This browser has no WebAssembly, which the networks run in. A current one has.");
  const threads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  Object.assign(ort.env.wasm, { numThreads: threads, wasmPaths: { wasm: new URL(wasm, import.meta.url).href, mjs: new URL(wasmScript, import.meta.url).href } });
  ort.env.logLevel = "error";

  const model = await readManifest(folder);
  const total = Object.values(model.files).reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const read = (entry) => readFile(folder, entry, (bytes) => tell("progress", { done: (done += bytes), total }));
  const data = {};
  await Promise.all(Object.entries(model.files).map(async ([name, entry]) => (data[name] = await read(entry))));
  const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(data.tokenizer)), model.characters);
  const byFile = new Map(Object.entries(model.files).map(([name, entry]) => [entry, data[name]]));
  const networks = await loadNetworks(ort, model, async (entry) => byFile.get(entry), OPTIONS);
  machine = { model, networks, tokenizer };
  tell("ready", { model, threads });
}

async function draw(id, phases) {
  current = id;
  for (const phase of phases) {
    let active = [];
    for (const { lane, settings, at } of phase) {
      const run = await start(lane, settings, at);
      active.push({ lane, run, steps: denoise(machine.networks, run) });
    }
    while (active.length) {
      const going = [];
      for (const job of active) {
        const began = performance.now();
        const { value: step, done } = await job.steps.next();
        if (!done) {
          const [noisy] = (await machine.networks.decode(step.latents)).map(toBytes);
          const { before, ...rest } = step;
          runs[job.lane].push(step);
          await pause();
          if (current !== id) return tell("cancelled", { id });
          tell("step", { id, lane: job.lane, step: { ...rest, input: before.latents, noisy, ms: performance.now() - began } });
          going.push(job);
        } else tell("finished", { id, lane: job.lane });
      }
      active = going;
    }
  }
  current = null;
  tell("done", { id });
}

async function start(lane, settings, at) {
  const { model, networks, tokenizer } = machine;
  let branch;
  if (at !== undefined) {
    const from = runs.a[at];
    branch = { at, levels: from.levels, latents: from.before.latents, generator: from.before.generator };
  }
  const run = await prepare(model, networks, tokenizer, settings, branch);
  runs[lane] = branch ? runs.a.slice(0, at) : [];
  const { ids, used, cut } = run.encoded;
  const tokens = Array.from(ids, (tokenId) => tokenizer.readable((tokenizer.tokens.get(tokenId) ?? "?").replace(/<\/w>$/, "")));
  tell("words", { id: current, lane, ids, used, cut, tokens, words: tokenizer.wordsOf(run.encoded), states: run.states });
  return run;
}

/** Decoding costs as much as half a step: the guess is decoded only where someone looks at it. */
async function decodeGuess(id, lane, index) {
  const step = runs[lane]?.[index];
  if (!step) return;
  const [guess] = (await machine.networks.decode(step.denoised)).map(toBytes);
  tell("guess", { id, lane, index, guess });
}

/** What a person can do about it, rather than what the code calls it. */
function explain(error) {
  if (error instanceof FileError) return error.message;
  const text = String(error?.message ?? error);
  if (error instanceof RangeError && /memory|allocation|buffer/i.test(text)) return TOO_LITTLE;
  if (/out of memory|bad_alloc|allocat|OOM/i.test(text)) return TOO_LITTLE;
  if (/wasm|WebAssembly/i.test(text)) return `The networks could not be started in WebAssembly: ${text}`;
  return text;
}
const TOO_LITTLE = "There is too little memory for the networks: they need about 300 MB. Close other tabs and reload.";

onmessage = async ({ data }) => {
  try {
    if (data.type === "load") await load(data.folder);
    else if (data.type === "cancel") current = null;
    else if (data.type === "draw") await draw(data.id, data.phases);
    else if (data.type === "guess" && current === null) await decodeGuess(data.id, data.lane, data.index);
  } catch (error) {
    current = null;
    tell("error", { id: data.id, message: explain(error) });
  }
};
