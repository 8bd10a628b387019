/** What a person chooses, for one lane: prompt, scheduler, steps, guidance, seed. */

import { schedulerNames } from "../diffusion/schedulers/index.js";
import { MAX_GUIDANCE, MAX_SEED, MAX_STEPS } from "../state.js";
import { h, newId, number } from "./dom.js";

/**
 * @param lane "a" or "b"
 * @param change is called with { name: value } when something was chosen
 * @returns { element, update(settings, fixed) }: `fixed` are the names of what cannot be chosen in this lane, and is not shown
 */
export function controls(model, lane, change) {
  const ids = Object.fromEntries(["prompt", "known", "scheduler", "steps", "guidance", "seed"].map((name) => [name, newId(name)]));
  const { subjects, styles } = model.prompts;

  const prompt = h("input", {
    id: ids.prompt,
    type: "text",
    list: ids.known,
    maxlength: 2000,
    autocomplete: "off",
    spellcheck: "false",
    onchange: () => change({ prompt: prompt.value }),
    oninput: () => suggest(),
  });
  const known = h("datalist", { id: ids.known });
  /** The subjects that the model knows; once one is written, in each style. */
  function suggest() {
    const text = prompt.value.trim();
    const subject = subjects.find((name) => name === text || styles.some((style) => name + style === text));
    const options = subject ? styles.map((style) => subject + style) : subjects;
    if (known.dataset.of === (subject ?? "")) return;
    known.dataset.of = subject ?? "";
    known.replaceChildren(...options.map((value) => h("option", { value })));
  }
  const another = subjects.length
    ? h(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => {
            const pick = (list) => list[Math.floor(Math.random() * list.length)] ?? "";
            change({ prompt: pick(subjects) + pick(styles) });
          },
        },
        "Surprise me",
      )
    : null;

  const schedulers = schedulerNames(model).map((name) => {
    const input = h("input", { type: "radio", name: ids.scheduler, value: name, onchange: () => change({ scheduler: name }) });
    return { name, input, label: h("label", {}, input, h("span", {}, model.schedulers[name].title)) };
  });

  const slider = (name, label, low, high, by, hint) => {
    const readout = h("output", { for: ids[name] });
    const input = h("input", {
      id: ids[name],
      type: "range",
      min: low,
      max: high,
      step: by,
      "aria-describedby": `${ids[name]}-hint`,
      oninput: () => (readout.value = number(Number(input.value))),
      onchange: () => change({ [name]: Number(input.value) }),
    });
    const set = (value) => {
      input.value = value;
      readout.value = number(value);
    };
    const row = h("div", { class: "field" }, h("label", { for: ids[name] }, label, " ", readout), input, h("p", { class: "hint", id: `${ids[name]}-hint` }, hint));
    return { input, set, row };
  };
  const steps = slider("steps", "Steps", 1, MAX_STEPS, 1, "how many noise levels to visit");
  const guidance = slider("guidance", "Guidance", 1, MAX_GUIDANCE, 0.5, "how strongly the words count; 1: not enlarged");

  const seed = h("input", {
    id: ids.seed,
    type: "number",
    min: 0,
    max: MAX_SEED,
    step: 1,
    inputmode: "numeric",
    "aria-describedby": `${ids.seed}-hint`,
    onchange: () => {
      const value = Math.min(MAX_SEED, Math.max(0, Math.round(Number(seed.value) || 0)));
      change({ seed: value });
    },
  });
  const other = h("button", { type: "button", class: "quiet", onclick: () => change({ seed: Math.floor(Math.random() * 10000) }) }, "New noise");

  const noise = h(
    "div",
    { class: "field" },
    h("label", { for: ids.seed }, "Seed"),
    h("div", { class: "line" }, seed, other),
    h("p", { class: "hint", id: `${ids.seed}-hint` }, "which noise to start from; the same seed in Python starts from the same"),
  );

  const element = h(
    "fieldset",
    { class: `controls lane-${lane}` },
    h("legend", {}, lane === "a" ? "What to draw" : "B, for comparison"),
    h("div", { class: "field prompt" }, h("label", { for: ids.prompt }, "Prompt"), h("div", { class: "line" }, prompt, another), known),
    h(
      "div",
      { class: "field" },
      h("div", { class: "label", id: `${ids.scheduler}-label` }, "Scheduler"),
      h("div", { class: "choices", role: "radiogroup", "aria-labelledby": `${ids.scheduler}-label` }, schedulers.map(({ label }) => label)),
    ),
    steps.row,
    guidance.row,
    noise,
  );

  return {
    element,
    update(settings, fixed = []) {
      if (prompt.value !== settings.prompt) prompt.value = settings.prompt;
      suggest();
      for (const { name, input } of schedulers) input.checked = name === settings.scheduler;
      steps.set(settings.steps);
      guidance.set(settings.guidance);
      seed.value = settings.seed;
      steps.row.hidden = fixed.includes("steps");
      noise.hidden = fixed.includes("seed");
    },
  };
}
