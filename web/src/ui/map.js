/**
 * The map of the machine: words and noise in, a picture out, with what flows now. Each part is a button that opens its panel.
 */

import { h, shape } from "./dom.js";
import { PARTS } from "./parts.js";
import { drawLatents, drawPicture, summary } from "./pictures.js";

/**
 * @param open is called with the name of a part
 * @returns { element, update(state, step, lane, busy) }
 */
export function machineMap(model, open) {
  const parts = Object.entries(PARTS).map(([name, { title, question }]) => {
    const button = h(
      "button",
      { type: "button", class: `part ${name}`, "aria-expanded": "false", "aria-controls": "panel", onclick: () => open(name) },
      h("strong", {}, title),
      h("span", {}, question),
    );
    return [name, button];
  });
  const part = Object.fromEntries(parts);

  const picture = (label) => h("canvas", { class: "thumb", width: 1, height: 1, role: "img", "aria-label": label });
  const noise = picture("the noise that the run started from");
  const latents = picture("latents");
  const predicted = picture("predicted noise");
  const result = picture("the picture");
  const words = h("q", {});
  const around = h("span", {});

  const flow = (place, what, sizes, ...content) =>
    h(
      "div",
      { class: `flow ${place}` },
      h("span", { class: "above" }, content, h("span", { class: "what" }, what)),
      h("span", { class: "arrow", "aria-hidden": "true" }),
      h("span", { class: "shape" }, shape(sizes)),
    );

  const element = h(
    "div",
    { class: "map" },
    h("div", { class: "end words" }, h("span", { class: "what" }, "the prompt"), words),
    flow("tokens", "token ids", [model.tokens]),
    part.text_encoder,
    h("p", { class: "aside hint" }, "in training, and to start from a picture: notebook 12"),
    h("div", { class: "part vae unused" }, h("strong", {}, "VAE encoder"), h("span", {}, "pixels to latents")),
    flow("states", "text embeddings", model.states),
    h("div", { class: "end noise" }, noise, h("span", { class: "what" }, "noise from a seed")),
    flow("latents", "latents", model.latents, latents),
    part.unet,
    flow("predicted", "predicted noise", model.latents, predicted),
    part.scheduler,
    h("div", { class: "loop" }, around),
    flow("clean", "the last latents", model.latents),
    part.vae,
    h("div", { class: "end picture" }, result, h("span", { class: "what" }, "picture"), h("span", { class: "shape" }, shape(model.picture))),
  );

  return {
    element,
    update(state, step, lane, busy) {
      for (const [name, button] of parts) button.setAttribute("aria-expanded", String(name === state.part));
      words.textContent = state.a.prompt || "nothing";
      const first = lane.steps[0];
      drawLatents(noise, first?.input, model.latents);
      drawLatents(latents, step?.input, model.latents);
      drawLatents(predicted, step?.noise, model.latents);
      drawPicture(result, step?.noisy);
      const total = state.a.steps;
      const text = step ? `around again with less noise: step ${step.index + 1} of ${total}` : `around again with less noise, ${total} times`;
      around.textContent = text;
      if (step) {
        const { std } = summary(step.input);
        latents.setAttribute("aria-label", `latents before step ${step.index + 1}, standard deviation ${std.toFixed(2)}`);
        predicted.setAttribute("aria-label", `predicted noise of step ${step.index + 1}`);
        result.setAttribute("aria-label", `the latents after step ${step.index + 1} of ${total}, decoded`);
      }
      element.classList.toggle("busy", busy);
    },
  };
}
