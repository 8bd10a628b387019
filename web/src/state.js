/**
 * What a person has chosen, and its link. One or two lanes: `b`, if there is one, is compared with `a` from the same noise, or
 * branches off it at step `at`.
 */

import { schedulerNames } from "./diffusion/schedulers/index.js";

export const MAX_STEPS = 100;
export const MAX_GUIDANCE = 15;
export const MAX_SEED = 2 ** 32 - 1;

export function initialState(model) {
  const { subjects, styles } = model.prompts;
  const subject = subjects.includes("a cat") ? "a cat" : (subjects[0] ?? "a cat");
  const { steps, guidance_scale: guidance } = model.defaults;
  const names = schedulerNames(model);
  const scheduler = names.includes(model.scheduler) ? model.scheduler : names[0];
  const a = { prompt: subject + (styles[0] ?? ""), scheduler, steps, guidance, seed: 0 };
  return { a, b: null, at: null, step: null, word: null, part: "scheduler" };
}

const KEYS = { prompt: "p", scheduler: "s", steps: "n", guidance: "g", seed: "seed" };

/** The state as the part of a link after #. */
export function toLink(state) {
  const query = new URLSearchParams();
  for (const [name, key] of Object.entries(KEYS)) query.set(key, state.a[name]);
  if (state.b) {
    for (const [name, key] of Object.entries(KEYS)) if (state.b[name] !== state.a[name]) query.set(`b.${key}`, state.b[name]);
    query.set("with", state.at === null ? "compare" : "branch");
    if (state.at !== null) query.set("at", state.at + 1);
  }
  if (state.step !== null) query.set("step", state.step + 1);
  if (state.word !== null) query.set("word", state.word + 1);
  query.set("part", state.part);
  return query.toString();
}

/** The state that a link says. What it does not say, or says wrongly, is as at the start. */
export function fromLink(model, link, parts) {
  const query = new URLSearchParams(link);
  const state = initialState(model);
  const lane = (prefix, other) => {
    const number = (key, low, high, whole, fallback) => {
      const value = query.has(prefix + key) ? Number(query.get(prefix + key)) : NaN;
      return value >= low && value <= high && (!whole || Number.isInteger(value)) ? value : fallback;
    };
    const scheduler = query.get(`${prefix}s`);
    return {
      prompt: (query.get(`${prefix}p`) ?? other.prompt).toWellFormed().slice(0, 2000),
      scheduler: schedulerNames(model).includes(scheduler) ? scheduler : other.scheduler,
      steps: number("n", 1, MAX_STEPS, true, other.steps),
      guidance: number("g", 1, MAX_GUIDANCE, false, other.guidance),
      seed: number("seed", 0, MAX_SEED, true, other.seed),
    };
  };
  state.a = lane("", state.a);
  const counted = (key, size) => {
    const value = Number(query.get(key));
    return Number.isInteger(value) && value >= 1 && value <= size ? value - 1 : null;
  };
  const kind = query.get("with");
  if (kind === "branch") state.at = counted("at", state.a.steps);
  if (kind === "compare" || state.at !== null) {
    state.b = { ...lane("b.", state.a), seed: state.a.seed }; // always from the same noise
    if (state.at !== null) state.b.steps = state.a.steps;
  }
  state.step = counted("step", Math.max(state.a.steps, state.b?.steps ?? 0));
  state.word = counted("word", model.tokens);
  if (parts.includes(query.get("part"))) state.part = query.get("part");
  return state;
}
