/**
 * The machine in a thread of its own, so that the page stays responsive.
 *
 * In:   { type: "load", folder, compute }                          compute: "graphics", "processor", or whichever is there
 *       { type: "draw", id, phases: [[{ lane, settings, at }]] }   runs of one phase take turns; a phase waits for the one before
 *       { type: "decode", id, lane, index, what }                  a picture of that step: its "guess", or "noisy", its latents
 *       { type: "cancel" }
 * Out:  progress { done, total }; ready { model, threads, gpu }; words, step, finished, picture of a lane; done of an id; error
 */

import { checkNetworks, FileError, loadNetworks } from "./diffusion/networks.js";
import { denoise, prepare, toBytes } from "./diffusion/pipeline.js";
import { Tokenizer } from "./diffusion/tokenizer.js";
import { readFile, readManifest } from "./files.js";
import { graphicsProcessor, loadRuntime } from "./runtime.js";

let machine; // { model, networks, tokenizer }
let current = null; // id of what is being drawn
const runs = {}; // lane -> its steps so far: what a branch starts from

const tell = (type, content = {}) => postMessage({ type, ...content });

/** Let waiting messages, such as "cancel", in. */
const pause = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  });

async function load({ folder, compute }) {
  const [gpu, model] = await Promise.all([graphicsProcessor(compute), readManifest(folder)]);
  const runtime = loadRuntime(gpu !== null); // arrives beside the model's files
  runtime.catch(() => {}); // awaited below
  const total = Object.values(model.files).reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const arrived = (bytes) => tell("progress", { done: (done += bytes), total });
  const data = {};
  await Promise.all(Object.entries(model.files).map(async ([name, entry]) => (data[name] = await readFile(folder, entry, arrived))));
  const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(data.tokenizer)), model.characters);

  const start = async ({ ort, options, threads }) => {
    const networks = await loadNetworks(ort, model, data, options);
    await checkNetworks(model, networks, tokenizer);
    return { networks, threads };
  };
  let where = gpu;
  const { networks, threads } = await runtime.then(start).catch(async (error) => {
    if (gpu === null) throw error;
    where = null; // a driver that does not do what it should: the processor does
    return start(await loadRuntime(false));
  });
  machine = { model, networks, tokenizer };
  tell("ready", { model, threads, gpu: where });
}

async function draw(id, phases) {
  current = id;
  for (const phase of phases) {
    let active = [];
    for (const { lane, settings, at } of phase) {
      const run = await start(id, lane, settings, at);
      if (!run) return;
      active.push({ lane, run, steps: denoise(machine.networks, run), decoded: -Infinity });
    }
    while (active.length) {
      const going = [];
      for (const job of active) {
        const began = performance.now();
        const { value: step, done } = await job.steps.next();
        if (!done) {
          const computed = performance.now();
          // Where decoding takes longer than a step, as for large pictures, not every step is decoded: at most half of the time
          const due = step.index + 1 === job.run.first + job.run.scheduler.steps || decoding <= computed - job.decoded;
          const noisy = due ? await decode(step.latents) : null;
          if (due) [decoding, job.decoded] = [performance.now() - computed, performance.now()];
          await pause();
          if (current !== id) return; // stopped, or overtaken by another
          runs[job.lane].push(step);
          const { before, ...rest } = step;
          tell("step", { id, lane: job.lane, step: { ...rest, input: before.latents, noisy, ms: performance.now() - began } });
          going.push(job);
        } else tell("finished", { id, lane: job.lane });
      }
      active = going;
    }
  }
  if (current === id) current = null;
  tell("done", { id });
}

/** A run, ready for the loop; null if another drawing has overtaken this one. */
async function start(id, lane, settings, at) {
  const { model, networks, tokenizer } = machine;
  let branch;
  if (at !== undefined) {
    const from = runs.a[at];
    branch = { at, levels: from.levels, latents: from.before.latents, generator: from.before.generator };
  }
  const run = await prepare(model, networks, tokenizer, settings, branch);
  await pause();
  if (current !== id) return null;
  runs[lane] = branch ? runs.a.slice(0, at) : [];
  const { ids, used, cut } = run.encoded;
  const tokens = Array.from(ids, (tokenId) => tokenizer.readable((tokenizer.tokens.get(tokenId) ?? "?").replace(/<\/w>$/, "")));
  tell("words", { id, lane, ids, used, cut, tokens, words: tokenizer.wordsOf(run.encoded), states: run.states });
  return run;
}

let decoding = 0; // how long the last one took, in milliseconds

async function decode(latents) {
  const [pixels] = await machine.networks.decode(latents);
  return toBytes(pixels);
}

/** A picture that someone looks at: the guesses, and what was left out while drawing. */
async function decodeStep({ id, lane, index, what }) {
  const step = runs[lane]?.[index];
  if (step) tell("picture", { id, lane, index, what, picture: await decode(what === "guess" ? step.denoised : step.latents) });
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
    if (data.type === "load") await load(data);
    else if (data.type === "cancel") current = null;
    else if (data.type === "draw") await draw(data.id, data.phases);
    else if (data.type === "decode" && current === null) await decodeStep(data);
  } catch (error) {
    current = null;
    tell("error", { id: data.id, message: explain(error) });
  }
};
