/** Eight stations for the first visit. Each says one thing, and shows it by changing the page. */

import { h } from "./dom.js";

export function stationsOf(model) {
  const title = (name) => model.schedulers[name]?.title;
  return [
    {
      title: "A picture out of noise",
      text: "This tab holds a whole latent diffusion model, and draws a picture of the prompt. Nothing is sent anywhere: it runs on your own machine.",
      show: "#result",
      set: () => ({ b: null, at: null, step: null }),
    },
    {
      title: "It starts as noise",
      text: "This is the first step. The latents are random numbers that the seed decides. The same seed and the same settings give the same picture; press “New noise” for another.",
      show: ".map",
      set: () => ({ b: null, at: null, step: 0, part: "vae" }),
    },
    {
      title: "Words become numbers",
      text: "The text encoder cuts the prompt into tokens and turns each into a vector. That is all that the rest of the machine ever sees of your words. Type another prompt and watch the tokens.",
      show: "#panel",
      set: () => ({ part: "text_encoder" }),
    },
    {
      title: "The U-Net looks for the noise",
      text: "It sees the noisy latents and the words, and answers with the noise that it believes is in them. Choose a word below to see where the U-Net reads it.",
      show: "#panel",
      set: ({ a }) => ({ part: "unet", step: Math.floor(a.steps / 3) }),
    },
    {
      title: "A scheduler takes a step",
      text: "Taking all of the predicted noise away gives a guess. The scheduler goes only to the next lower noise level; below is its formula with its numbers. Move the step with the slider, or with the arrow keys.",
      show: "#panel",
      set: ({ a }) => ({ part: "scheduler", step: Math.floor(a.steps / 2) }),
    },
    {
      title: "Few steps, or many",
      text: "B is drawn from the same noise with 5 steps. Each step must then go five times as far, on a guess that is no better. Move its slider to find how many are enough.",
      show: "#result",
      set: ({ a }) => ({ b: { ...a, steps: 5 }, at: null, step: null }),
    },
    {
      title: "Guidance",
      text: "B now has guidance 1: the words count as much as in training. Above 1, the difference that they make is enlarged. Too little ignores the prompt, too much glares.",
      show: "#result",
      set: ({ a }) => ({ b: { ...a, guidance: 1 }, at: null, step: null, part: "unet" }),
    },
    {
      title: "Leave the path in the middle",
      text: `B takes the first steps together with A, and then goes on with ${title("euler_a") ?? "another scheduler"}. You can change a word instead: move to any step and press “Branch here”. The decoder at the end turns the last latents into pixels. Each part links to the notebook that builds it.`,
      show: "#result",
      set: ({ a }) => {
        const at = Math.floor(a.steps / 2);
        return { b: { ...a, scheduler: model.schedulers.euler_a && a.scheduler !== "euler_a" ? "euler_a" : a.scheduler }, at, step: null, part: "vae" };
      },
    },
  ];
}

/**
 * @param set is called with a function from the state to what changes in it
 * @returns { element, start(), open }
 */
export function tour(model, set) {
  const stations = stationsOf(model);
  let i = 0;
  const count = h("span", { class: "count" });
  const title = h("h2", { tabindex: -1 });
  const text = h("p");
  const back = h("button", { type: "button", onclick: () => go(i - 1) }, "Back");
  const next = h("button", { type: "button", class: "main", onclick: () => (i + 1 < stations.length ? go(i + 1) : close()) });
  const leave = h("button", { type: "button", class: "quiet", onclick: () => close() }, "End tour");
  const element = h("section", { class: "tour", "aria-label": "Tour", hidden: true }, count, title, text, h("div", { class: "line" }, back, next, leave));
  element.addEventListener("keydown", (event) => event.key === "Escape" && close());

  function go(to, focus = true) {
    i = to;
    const station = stations[i];
    count.textContent = `Station ${i + 1} of ${stations.length}`;
    title.textContent = station.title;
    text.textContent = station.text;
    back.disabled = i === 0;
    next.textContent = i + 1 < stations.length ? "Next" : "Done";
    element.hidden = false;
    document.body.classList.add("touring");
    set(station.set);
    for (const shown of document.querySelectorAll(".shown")) shown.classList.remove("shown");
    const place = document.querySelector(station.show);
    place.classList.add("shown");
    if (!focus) return;
    title.focus({ preventScroll: true });
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    requestAnimationFrame(() => requestAnimationFrame(() => place.scrollIntoView({ block: "start", behavior }))); // once it is laid out
  }

  function close() {
    element.hidden = true;
    document.body.classList.remove("touring");
    for (const shown of document.querySelectorAll(".shown")) shown.classList.remove("shown");
    try {
      localStorage.setItem("tour", "seen");
    } catch {
      // without storage it is offered again at the next visit
    }
    document.querySelector("#start-tour")?.focus({ preventScroll: true });
  }

  return { element, start: (focus) => go(0, focus) };
}

export function tourSeen() {
  try {
    return localStorage.getItem("tour") === "seen";
  } catch {
    return true;
  }
}
