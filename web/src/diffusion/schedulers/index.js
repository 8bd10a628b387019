import { DDIM } from "./ddim.js";
import { DDPM } from "./ddpm.js";
import { EulerAncestral } from "./euler-ancestral.js";
import { Euler } from "./euler.js";

const SCHEDULERS = { ddpm: DDPM, ddim: DDIM, euler: Euler, euler_a: EulerAncestral };

/** The names that this page and the model both know. */
export const schedulerNames = (model) => Object.keys(SCHEDULERS).filter((name) => name in model.schedulers);

/** A scheduler by its name, over a number of steps or over given levels: see spaces.js. */
export function makeScheduler(model, name, levels) {
  const names = schedulerNames(model);
  if (!names.includes(name)) throw new TypeError(`scheduler="${name}" is none of ${names.join(", ")}`);
  return new SCHEDULERS[name](model, name, levels);
}
