/**
 * What goes into and out of the part that is open, at the step that is looked at. One column for each lane.
 *
 * Each of the four functions makes the elements once, and returns { element, update(step, lane, settings, state) }.
 */

import { h, newId, number, shape } from "./dom.js";
import { formulasOf, toMath } from "./formulas.js";
import { drawAttention, drawLatents, drawMatrix, drawPicture, summary } from "./pictures.js";

/** A picture of numbers with its name, its shape and, in words, what is in it. */
function tile(title, sizes, className = "latents") {
  const canvas = h("canvas", { width: 1, height: 1, role: "img", class: className });
  const note = h("span", { class: "note" });
  const element = h("figure", { class: "tile" }, canvas, h("figcaption", {}, h("strong", {}, title), sizes ? h("span", { class: "shape" }, shape(sizes)) : null, note));
  const describe = (text) => {
    note.textContent = text;
    canvas.setAttribute("aria-label", `${title}: ${text || "nothing yet"}`);
  };
  describe("");
  return {
    element,
    canvas,
    numbers(values, sizes, range) {
      drawLatents(canvas, values, sizes, range);
      if (!values) return describe("");
      const { mean, std } = summary(values);
      describe(`mean ${number(mean, 2)}, standard deviation ${number(std, 2)}`);
    },
    picture(bytes, text = "") {
      drawPicture(canvas, bytes);
      describe(bytes ? text : "");
    },
    describe,
  };
}

export function textEncoderPanel(model) {
  const tokens = h("ol", { class: "tokens", start: 0 });
  const cut = h("p", { class: "warning", hidden: true });
  const states = tile("text embeddings", model.states, "matrix");
  const element = h(
    "div",
    { class: "beside" },
    h("div", {}, h("h3", {}, "In: token ids ", h("span", { class: "shape" }, shape([model.tokens]))), tokens, cut),
    h("div", {}, h("h3", {}, "Out"), states.element, h("p", { class: "hint" }, `One row for each token, ${model.states[1]} numbers wide; dark is low, yellow is high. After the prompt come end tokens, up to ${model.tokens}.`)),
  );
  return {
    element,
    update(step, { words }) {
      if (tokens.of === words) return;
      tokens.of = words;
      if (!words) return tokens.replaceChildren();
      const shown = words.used + 2; // start and the first end
      const items = words.tokens.slice(0, shown).map((token, i) => {
        const text = i === 0 ? "start" : i === words.used + 1 ? "end" : token;
        return h("li", { class: i === 0 || i > words.used ? "special" : "" }, h("span", {}, text), h("span", { class: "id" }, String(words.ids[i])));
      });
      const rest = model.tokens - shown;
      tokens.replaceChildren(...items, ...(rest > 0 ? [h("li", { class: "special rest" }, `and ${rest} more end tokens`)] : []));
      cut.hidden = words.cut === 0;
      cut.textContent = `The text encoder reads ${model.tokens - 2} tokens; the last ${words.cut} of this prompt are cut.`;
      drawMatrix(states.canvas, words.states, ...model.states, -2, 2);
      states.describe(`${model.tokens} rows of ${model.states[1]} numbers`);
    },
  };
}

export function unetPanel(model, choose) {
  const input = tile("latents, x", model.latents);
  const without = tile("noise without the words", model.latents);
  const withPrompt = tile("noise with the words", model.latents);
  const guided = tile("predicted noise, guided", model.latents);
  const attention = tile("attention", [model.tokens, ...model.latents.slice(1)], "picture");
  const legend = newId("words");
  const chips = h("div", { class: "choices words", role: "radiogroup", "aria-labelledby": legend });
  const time = h("p", { class: "facts" });
  const name = newId("word");
  const element = h(
    "div",
    { class: "beside" },
    h(
      "div",
      {},
      h("h3", {}, "In"),
      h("div", { class: "tiles" }, input.element),
      time,
      h("h3", {}, "Out"),
      h("div", { class: "tiles" }, without.element, withPrompt.element, guided.element),
    ),
    h("div", {}, h("h3", { id: legend }, "Inside: where was this word read?"), chips, h("div", { class: "tiles large" }, attention.element)),
  );
  return {
    element,
    update(step, { words }, settings, state) {
      input.numbers(step?.input, model.latents);
      without.element.hidden = withPrompt.element.hidden = settings.guidance === 1;
      without.numbers(step?.without, model.latents);
      withPrompt.numbers(step?.without && step.withPrompt, model.latents);
      guided.numbers(step?.noise, model.latents);
      time.textContent = step ? `Also in: timestep ${number(step.timestep, 4)}, and the text embeddings ${shape(model.states)}` : "";
      const list = words?.words ?? [];
      const word = Math.min(state.word ?? Math.min(1, list.length - 1), list.length - 1);
      if (chips.of !== words) {
        chips.of = words;
        chips.replaceChildren(...list.map(({ text }, i) => h("label", {}, h("input", { type: "radio", name, value: i, onchange: () => choose(i) }), h("span", {}, text))));
      }
      for (const radio of chips.querySelectorAll("input")) radio.checked = Number(radio.value) === word;
      drawAttention(attention.canvas, step?.attention, list[word]?.positions, model.latents.slice(1), step?.guess ?? step?.noisy);
      attention.describe(step && list[word] ? `yellow: where “${list[word].text}” is read most in step ${step.index + 1}` : "");
    },
  };
}

export function schedulerPanel(model, pick) {
  const before = tile("latents, x", model.latents);
  const noise = tile("predicted noise, ε", model.latents);
  const guess = tile("guess, x̂₀", model.latents);
  const picture = tile("guess, decoded", null, "picture");
  const after = tile("next latents", model.latents);
  const formulas = h("div", { class: "formulas", role: "group", "aria-label": "The formulas of the step", tabindex: 0 }); // it may scroll sideways
  const facts = h("dl", { class: "facts" });
  const [, height, width] = model.latents;
  const spot = h("span", {});
  const another = h("button", { type: "button", class: "quiet", onclick: () => pick(Math.floor(Math.random() * model.latents.reduce((a, b) => a * b))) }, "another number");
  before.canvas.classList.add("pickable");
  before.canvas.addEventListener("click", (event) => {
    const box = before.canvas.getBoundingClientRect();
    const columns = Math.min(2, model.latents[0]);
    const [w, h] = [before.canvas.width, before.canvas.height];
    const [x, y] = [Math.floor(((event.clientX - box.left) / box.width) * w), Math.floor(((event.clientY - box.top) / box.height) * h)];
    const channel = Math.floor(y / (height + 1)) * columns + Math.floor(x / (width + 1));
    if (channel < model.latents[0] && x % (width + 1) < width && y % (height + 1) < height) {
      pick((channel * height + (y % (height + 1))) * width + (x % (width + 1)));
    }
  });
  const element = h(
    "div",
    { class: "beside" },
    h(
      "div",
      {},
      h("h3", {}, "In"),
      h("div", { class: "tiles" }, before.element, noise.element),
      h("h3", {}, "Out"),
      h("div", { class: "tiles" }, guess.element, picture.element, after.element),
    ),
    h("div", {}, facts, formulas, h("p", { class: "hint" }, spot, another)),
  );
  return {
    element,
    update(step, lane, settings, state) {
      before.numbers(step?.input, model.latents);
      noise.numbers(step?.noise, model.latents);
      guess.numbers(step?.denoised, model.latents);
      picture.picture(step?.guess, "what the U-Net believes the picture to be");
      after.numbers(step?.latents, model.latents);
      formulas.replaceChildren();
      facts.replaceChildren();
      spot.textContent = "";
      if (!step) return;
      const alphaBar = 1 / (step.sigma ** 2 + 1);
      const fact = (term, ...value) => h("div", {}, h("dt", {}, term), h("dd", {}, value));
      facts.append(
        fact("timestep t", number(step.timestep, 4)),
        fact("noise level σ", number(step.sigma)),
        fact("ᾱ, what is left of the picture's variance", number(alphaBar)),
      );
      const at = state.spot;
      const own = step.index < (state.at ?? 0) && lane.branched ? state.a : settings;
      for (const { title, symbols, values } of formulasOf(step, own, at)) formulas.append(h("p", {}, title), toMath(symbols), toMath(values));
      const [c, y, x] = [Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width];
      spot.textContent = `The values are those of one of the ${model.latents.reduce((a, b) => a * b)} numbers: channel ${c + 1}, row ${y + 1}, column ${x + 1}. Click one in the latents, or take `;
    },
  };
}

export function vaePanel(model) {
  const latents = tile("latents after the step", model.latents);
  const noisy = tile("decoded", model.picture, "picture");
  const denoised = tile("guess, x̂₀", model.latents);
  const guess = tile("decoded", model.picture, "picture");
  const [, side] = model.picture;
  const times = (side / model.latents[1]) ** 2;
  const fewer = (model.picture.reduce((a, b) => a * b) / model.latents.reduce((a, b) => a * b)).toFixed(0);
  const element = h(
    "div",
    {},
    h(
      "div",
      { class: "beside" },
      h("div", {}, h("h3", {}, "What the run has now"), h("div", { class: "tiles" }, latents.element, noisy.element)),
      h("div", {}, h("h3", {}, "What the U-Net expects it to become"), h("div", { class: "tiles" }, denoised.element, guess.element)),
    ),
    h("p", { class: "hint" }, `${model.latents[0]} numbers stand for ${times} pixels: ${fewer} times fewer numbers than the picture has. Before decoding they are divided by ${number(model.scaling_factor, 5)}, which undoes the scaling of training.`),
  );
  return {
    element,
    update(step) {
      latents.numbers(step?.latents, model.latents);
      noisy.picture(step?.noisy, `after step ${step ? step.index + 1 : 0}`);
      denoised.numbers(step?.denoised, model.latents);
      guess.picture(step?.guess, `the guess in step ${step ? step.index + 1 : 0}`);
    },
  };
}
