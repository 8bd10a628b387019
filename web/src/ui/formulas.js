/**
 * The formula of a step in MathML: once in symbols, as the paper writes it, and once with the values of one number of the latents.
 */

import { math, number } from "./dom.js";

const mi = (text) => math("mi", text);
const mo = (text) => math("mo", text);
const mn = (value) => (value < 0 ? row(mo("("), math("mn", number(value, 4)), mo(")")) : math("mn", number(value, 4)));
const first = (value) => math("mn", number(value, 4)); // where no operator is before it, a minus needs no parentheses
const row = (...parts) => math("mrow", ...parts.flat());
const sub = (base, below) => math("msub", typeof base === "string" ? mi(base) : base, typeof below === "string" ? math("mtext", below) : below);
const root = (...parts) => math("msqrt", ...parts.flat());
const over = (above, below) => math("mfrac", row(above), row(below));
const hat = (letter) => math("mover", mi(letter), mo("^"));

const X0 = () => sub(hat("x"), "0");
const EPS = () => mi("ε");
const X = () => sub("x", "t");
const PREV = () => sub("x", "next");
const ABAR = () => sub(math("mover", mi("α"), mo("¯")), "t");
const APREV = () => sub(math("mover", mi("α"), mo("¯")), "next");
const SIGMA = () => sub("σ", "t");
const SNEXT = () => sub("σ", "next");

/** How the guess follows from the predicted noise: the same for all, in the two ways to write a noisy picture. */
function guess(n, v) {
  if ("alphaBar" in n) {
    return {
      symbols: row(X0(), mo("="), over([X(), mo("−"), root(mn(1), mo("−"), ABAR()), EPS()], root(ABAR()))),
      values: row(first(v.x0), mo("="), over([first(v.x), mo("−"), mn(Math.sqrt(1 - n.alphaBar)), mo("·"), mn(v.noise)], mn(Math.sqrt(n.alphaBar)))),
    };
  }
  return {
    symbols: row(X0(), mo("="), X(), mo("−"), SIGMA(), EPS()),
    values: row(first(v.x0), mo("="), first(v.x), mo("−"), mn(n.sigma), mo("·"), mn(v.noise)),
  };
}

const NEXT = {
  ddpm: (n, v) => ({
    symbols: row(PREV(), mo("="), over([root(APREV()), sub("β", "t")], [mn(1), mo("−"), ABAR()]), X0(), mo("+"), over([root(sub("α", "t")), mo("("), mn(1), mo("−"), APREV(), mo(")")], [mn(1), mo("−"), ABAR()]), X(), mo("+"), SIGMA(), mi("z")),
    values: row(first(v.prev), mo("="), mn(n.x0Share), mo("·"), mn(v.x0), mo("+"), mn(n.xShare), mo("·"), mn(v.x), mo("+"), mn(n.sigma), mo("·"), n.sigma > 0 ? mn((v.prev - n.x0Share * v.x0 - n.xShare * v.x) / n.sigma) : mn(0)),
  }),
  ddim: (n, v) => ({
    symbols: row(PREV(), mo("="), root(APREV()), X0(), mo("+"), root(mn(1), mo("−"), APREV()), EPS()),
    values: row(first(v.prev), mo("="), mn(n.x0Share), mo("·"), mn(v.x0), mo("+"), mn(n.epsShare), mo("·"), mn(v.noise)),
  }),
  euler: (n, v) => ({
    symbols: row(PREV(), mo("="), X(), mo("+"), mo("("), SNEXT(), mo("−"), SIGMA(), mo(")"), over([X(), mo("−"), X0()], [SIGMA()])),
    values: row(first(v.prev), mo("="), first(v.x), mo("+"), mo("("), mn(n.sigmaNext), mo("−"), mn(n.sigma), mo(")"), mo("·"), mn((v.x - v.x0) / n.sigma)),
  }),
  euler_a: (n, v) => ({
    symbols: row(PREV(), mo("="), X(), mo("+"), mo("("), sub("σ", "down"), mo("−"), SIGMA(), mo(")"), over([X(), mo("−"), X0()], [SIGMA()]), mo("+"), sub("σ", "up"), mi("z")),
    values: row(first(v.prev), mo("="), first(v.x), mo("+"), mo("("), mn(n.sigmaDown), mo("−"), mn(n.sigma), mo(")"), mo("·"), mn((v.x - v.x0) / n.sigma), mo("+"), mn(n.sigmaUp), mo("·"), n.sigmaUp > 0 ? mn((v.prev - v.x - ((n.sigmaDown - n.sigma) * (v.x - v.x0)) / n.sigma) / n.sigmaUp) : mn(0)),
  }),
};

function guidance(step, scale, at) {
  if (!step.without) return null;
  return {
    title: "Guidance: away from what the noise would be without the words",
    symbols: row(EPS(), mo("="), sub("ε", "∅"), mo("+"), mi("w"), mo("("), sub("ε", "c"), mo("−"), sub("ε", "∅"), mo(")")),
    values: row(first(step.noise[at]), mo("="), first(step.without[at]), mo("+"), mn(scale), mo("·"), mo("("), first(step.withPrompt[at]), mo("−"), mn(step.without[at]), mo(")")),
  };
}

/** The formulas of one step, in order: [{ title, symbols, values }], with the values of number `at` of the latents. */
export function formulasOf(step, settings, at) {
  const n = step.numbers;
  // A scheduler of Euler's kind writes x at the picture's scale: the model's x times sqrt(σ² + 1)
  const [scale, scaleNext] = "alphaBar" in n ? [1, 1] : [Math.sqrt(n.sigma ** 2 + 1), Math.sqrt(n.sigmaNext ** 2 + 1)];
  const v = { x: step.input[at] * scale, noise: step.noise[at], x0: step.denoised[at], prev: step.latents[at] * scaleNext };
  return [
    guidance(step, settings.guidance, at),
    { title: "The guess: take all of the predicted noise away", ...guess(n, v) },
    { title: "The step: only as far as the next noise level", ...NEXT[settings.scheduler](n, v) },
  ].filter(Boolean);
}

export const toMath = (content) => {
  const element = math("math", content);
  element.setAttribute("display", "block");
  return element;
};
