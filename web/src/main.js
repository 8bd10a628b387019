/** The page: controls, pictures, the map, the step that is looked at, the open part, the tour. */

import { schedulerNames } from "./diffusion/schedulers/index.js";
import { Engine } from "./engine.js";
import { fromLink, initialState, toLink } from "./state.js";
import { controls } from "./ui/controls.js";
import { h, icon, newId, number } from "./ui/dom.js";
import { levelsChart } from "./ui/levels.js";
import { machineMap } from "./ui/map.js";
import { schedulerPanel, textEncoderPanel, unetPanel, vaePanel } from "./ui/panels.js";
import { PARTS, placesOf } from "./ui/parts.js";
import { drawPicture } from "./ui/pictures.js";
import { tour, tourSeen } from "./ui/tour.js";

const PANELS = { text_encoder: textEncoderPanel, unet: unetPanel, scheduler: schedulerPanel, vae: vaePanel };

const page = document.querySelector("#page");
const status = h("p", { class: "status", role: "status", "aria-live": "polite" }); // what a screen reader says
const bar = h("progress", { max: 1, value: 0, "aria-label": "loading the model" });
const loading = h("div", { class: "loading" }, h("p", {}, "Fetching the model. It is kept for the next visit."), bar);
const alarm = h("p", { class: "alarm", role: "alert", hidden: true });
const theme = h("button", { type: "button", class: "quiet", onclick: changeTheme }, "Dark or light");

page.append(
  h(
    "header",
    {},
    h("h1", {}, "Stable Diffusion, live in this tab"),
    h("p", { class: "lead" }, "A whole latent diffusion model, small enough to run here. Move its settings, and watch every part work."),
    theme,
  ),
  alarm,
  loading,
  status,
);

let engine;
if (!(await throughServiceWorker())) {
  engine = new Engine(new URL("model/", document.baseURI), new URLSearchParams(location.search).get("compute"));
  engine.addEventListener("progress", ({ detail }) => (bar.value = detail.done / detail.total));
  engine.addEventListener("ready", ({ detail }) => start(detail));
  engine.addEventListener("error", ({ detail }) => {
    alarm.textContent = detail.message;
    alarm.hidden = false;
    loading.hidden = true;
  });
}

/**
 * The service worker keeps the files, and makes threads possible on a server that does not send the headers for them. For that the
 * page is loaded once more, through it: true where that is about to happen. Without one, the page works with one thread.
 */
async function throughServiceWorker() {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return false;
  try {
    const registration = await navigator.serviceWorker.register("./service-worker.js");
    if (crossOriginIsolated || sessionStorage.getItem("reloaded")) return false;
    await Promise.race([navigator.serviceWorker.ready, new Promise((resolve) => setTimeout(resolve, 4000))]);
    if (!registration.active) return false;
    sessionStorage.setItem("reloaded", "once");
    location.reload();
    return true;
  } catch {
    return false; // a private window, or an address that is not secure
  }
}

function changeTheme() {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
}

function start({ model, threads, gpu }) {
  loading.remove();
  const fragment = location.hash.slice(1);
  let state = { ...(fragment ? fromLink(model, fragment, Object.keys(PARTS)) : initialState(model)), spot: middle(model) };
  let playing = null;

  // ---- what is on the page

  const choose = { a: controls(model, "a", (change) => set({ a: { ...state.a, ...change } })), b: controls(model, "b", (change) => set({ b: { ...state.b, ...change } })) };
  const draw = h("button", { type: "button", class: "main", onclick: () => (engine.busy ? stop() : redraw()) });
  const compare = h("button", { type: "button", onclick: () => set(state.b ? { b: null, at: null } : { b: other(), at: null }) });
  const share = h("button", { type: "button", onclick: copyLink }, "Copy link");
  const tourButton = h("button", { type: "button", id: "start-tour", onclick: () => guide.start() }, "Tour");

  const results = Object.fromEntries(
    ["a", "b"].map((lane) => {
      const canvas = h("canvas", { width: 1, height: 1, role: "img", class: "picture" });
      const caption = h("span", {});
      const warning = h("span", { class: "warning" });
      return [lane, { canvas, caption, warning, element: h("figure", { class: `result lane-${lane}` }, canvas, h("figcaption", {}, caption, warning)) }];
    }),
  );

  const slider = h("input", { id: newId("step"), type: "range", min: 1, value: 1, step: 1, oninput: () => look(Number(slider.value) - 1) });
  const readout = h("output", { for: slider.id });
  const move = (label, title, to) => h("button", { type: "button", class: "quiet", title, "aria-label": title, onclick: () => look(to()) }, label);
  const play = h("button", { type: "button", class: "quiet", onclick: () => (playing ? pause() : replay()) });
  const branch = h("button", { type: "button", onclick: () => set({ b: { ...state.a, ...(state.b && state.at !== null ? state.b : {}), steps: state.a.steps, seed: state.a.seed }, at: shownStep(), step: state.step }) }, "Branch here");
  const steps = h(
    "div",
    { class: "steps", role: "group", "aria-label": "The step that is shown" },
    h("label", { for: slider.id }, "Step ", readout),
    slider,
    h(
      "div",
      { class: "line" },
      move(icon("first"), "First step", () => 0),
      move(icon("back"), "One step back", () => shownStep() - 1),
      play,
      move(icon("on"), "One step on", () => shownStep() + 1),
      move(icon("last"), "Last step", () => length() - 1),
      branch,
    ),
  );

  const map = machineMap(model, (part) => {
    set({ part });
    panel.scrollIntoView({ block: "nearest" });
  });
  const chart = levelsChart(model);
  const columns = Object.fromEntries(
    ["a", "b"].map((lane) => [
      lane,
      Object.fromEntries(Object.entries(PANELS).map(([part, make]) => [part, make(model, (value) => set(part === "scheduler" ? { spot: value } : { word: value }))])),
    ]),
  );
  const panelTitle = h("h2", {});
  const lines = h("div", { class: "lines" });
  const places = h("p", { class: "places" });
  const sides = h("div", { class: "sides" });
  const panel = h("section", { class: "panel", id: "panel", "aria-live": "off" }, panelTitle, lines, places, sides);
  const guide = tour(model, (change) => set(change(state)));

  page.append(
    h(
      "main",
      {},
      h(
        "section",
        { class: "bench", "aria-label": "Settings and pictures" },
        h("div", { class: "choose" }, choose.a.element, choose.b.element, h("div", { class: "line" }, draw, compare, share, tourButton)),
        h("div", { class: "watch", id: "result" }, h("div", { class: "results" }, results.a.element, results.b.element)),
      ),
      steps,
      h("section", { "aria-labelledby": "map-title" }, h("h2", { id: "map-title" }, "The machine, at this step"), h("p", { class: "hint" }, "Each part is a button: it opens what goes in and out of it."), map.element),
      panel,
      h("section", { "aria-labelledby": "levels-title" }, h("h2", { id: "levels-title" }, "Where the steps go"), chart.element),
    ),
    h(
      "footer",
      {},
      h(
        "p",
        {},
        `Model “${model.name}”: ${millions(model.parameters.text_encoder + model.parameters.unet + model.parameters.vae)} million parameters, trained by this project. It draws what it has seen in training; for real photographs the same code runs Stable Diffusion v1.5.`,
      ),
      h("p", {}, `${gpu === null ? `Computed in WebAssembly with ${threads} thread${threads > 1 ? "s" : ""}` : `Computed by the graphics processor (WebGPU: ${gpu}); ?compute=processor in the address takes WebAssembly`}. No request leaves this page. Equal to Python's pictures within two levels of 255.`),
    ),
    guide.element,
  );

  // ---- what happens

  engine.addEventListener("change", render);
  engine.addEventListener("step", ({ detail }) => {
    const { steps } = engine.lanes[detail.lane];
    if (steps.length === 1 && !said.started) say("Drawing.");
    said.started = true;
    render();
  });
  engine.addEventListener("done", () => {
    const seconds = (performance.now() - engine.began) / 1000;
    say(`Drawn in ${seconds.toFixed(1)} seconds: ${state.a.prompt || "nothing"}.`);
    page.dataset.drawn = String(engine.id);
    render();
  });
  engine.addEventListener("error", render);
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) === toLink(state)) return;
    state = { ...fromLink(model, location.hash.slice(1), Object.keys(PARTS)), spot: state.spot };
    settle();
  });
  const said = { started: false };
  settle();
  if (!fragment && !tourSeen()) guide.start(false);

  function set(change) {
    const before = state;
    state = { ...state, ...change };
    if (state.b) {
      state.b = { ...state.b, seed: state.a.seed }; // a comparison is from the same noise
      if (state.at !== null) {
        state.at = Math.min(state.at, state.a.steps - 1);
        state.b.steps = state.a.steps;
      }
    }
    const drawn = ["a", "b", "at"].some((name) => JSON.stringify(before[name]) !== JSON.stringify(state[name]));
    if (drawn && !("step" in change)) state.step = null; // look at the newest step
    settle(drawn);
  }

  /** After a change of the state: the link, the page, and, if what it draws has changed, the pictures. */
  function settle(draws = true) {
    history.replaceState(null, "", `#${toLink(state)}`);
    if (draws) alarm.hidden = true;
    said.started = false;
    choose.a.update(state.a);
    if (state.b) choose.b.update(state.b, state.at === null ? ["seed"] : ["seed", "steps"]); // those are A's
    if (draws) engine.draw(state);
    if (engine.busy) delete page.dataset.drawn;
    render();
  }

  function redraw() {
    engine.settings = { a: null, b: null };
    state.step = null;
    settle();
  }

  function stop() {
    engine.stop();
    say("Stopped.");
    render();
  }

  function other() {
    const names = schedulerNames(model);
    return { ...state.a, scheduler: names[(names.indexOf(state.a.scheduler) + 1) % names.length] };
  }

  function length() {
    return Math.max(state.a.steps, state.b?.steps ?? 0);
  }

  /** The step that is looked at: the chosen one, or the newest. */
  function shownStep() {
    const newest = Math.max(engine.lanes.a.steps.length, state.b ? engine.lanes.b.steps.length : 0) - 1;
    return Math.max(0, state.step === null ? newest : Math.min(state.step, length() - 1));
  }

  function look(step) {
    state.step = Math.min(Math.max(0, step), length() - 1);
    history.replaceState(null, "", `#${toLink(state)}`);
    render();
  }

  function replay() {
    const from = shownStep() >= length() - 1 ? 0 : shownStep();
    look(from);
    playing = setInterval(() => (shownStep() + 1 < length() ? look(shownStep() + 1) : pause()), 250);
    render();
  }

  function pause() {
    clearInterval(playing);
    playing = null;
    render();
  }

  async function copyLink() {
    history.replaceState(null, "", `#${toLink(state)}`);
    try {
      await navigator.clipboard.writeText(location.href);
      say("Link copied. It restores all settings, the step and the open part.");
    } catch {
      say("The link is in the address bar: it restores all settings, the step and the open part.");
    }
  }

  function say(text) {
    status.textContent = text;
  }

  // ---- the page as the state says; many changes before the next frame are one

  function render() {
    render.asked ??= requestAnimationFrame(() => {
      render.asked = null;
      paint();
    });
  }

  function paint() {
    const lanes = state.b ? ["a", "b"] : ["a"];
    const index = shownStep();
    /** In a run of another length, the step that is as far along. */
    const stepOf = (lane) => {
      const { steps } = engine.lanes[lane];
      const i = length() > 1 ? Math.round((index * (state[lane].steps - 1)) / (length() - 1)) : 0;
      return steps[Math.min(i, steps.length - 1)];
    };

    page.classList.toggle("two", lanes.length === 2);
    choose.b.element.hidden = results.b.element.hidden = !state.b;
    choose.b.element.querySelector("legend").textContent = state.at === null ? "B, from the same noise" : `B, from step ${state.at + 1} on`;
    choose.a.element.querySelector("legend").textContent = state.b ? "A" : "What to draw";
    draw.textContent = engine.busy ? "Stop" : "Draw again";
    draw.classList.toggle("stop", engine.busy);
    compare.textContent = state.b ? "Remove B" : "Compare";
    play.textContent = playing ? "Pause" : "Replay";
    branch.disabled = !engine.lanes.a.finished || index >= state.a.steps || index === 0;
    branch.title = "B goes on from here with other words, another scheduler or other guidance";

    slider.max = length();
    slider.value = index + 1;
    readout.value = `${index + 1} of ${length()}`;
    slider.setAttribute("aria-valuetext", `${index + 1} of ${length()}`);

    for (const lane of lanes) {
      const step = stepOf(lane);
      const { canvas, caption } = results[lane];
      if (step) engine.want(lane, step.index, "noisy");
      results[lane].element.setAttribute("aria-busy", String(!step?.noisy));
      // While drawing, a step may not have been decoded: then the one before it stays
      drawPicture(canvas, step?.noisy ?? (engine.busy ? engine.lanes[lane].steps.findLast(({ noisy }) => noisy)?.noisy : null));
      const settings = state[lane];
      canvas.setAttribute("aria-label", step ? `${settings.prompt || "no prompt"}, after step ${step.index + 1} of ${settings.steps}` : "nothing drawn yet");
      const speed = step && import.meta.env.DEV ? ` · ${step.ms.toFixed(0)} ms` : "";
      const what = `${model.schedulers[settings.scheduler].title}, ${settings.steps} steps, guidance ${number(settings.guidance)}`;
      caption.textContent = `${lanes.length === 2 ? `${lane.toUpperCase()}: ` : ""}${what}${speed}`;
    }
    for (const lane of lanes) results[lane].warning.textContent = startsTooLow(engine.lanes[lane].steps[0]);
    const [a, b] = lanes.map(stepOf);
    if (a?.noisy && b?.noisy) results.b.caption.textContent += ` · ${number(difference(a.noisy, b.noisy), 2)} levels from A`;

    map.update(state, a, engine.lanes.a, engine.busy);
    chart.update(lanes.map((name) => ({ name, steps: engine.lanes[name].steps, total: state[name].steps })), index);

    const { title, lines: text } = PARTS[state.part];
    if (panel.of !== state.part) {
      panel.of = state.part;
      panel.className = `panel ${state.part}`;
      panelTitle.textContent = title;
      lines.replaceChildren(...text.map((line) => h("p", {}, line)));
    }
    const { notebook, file } = placesOf(state.part, state.a.scheduler);
    const place = `${notebook.url} ${file.url}`;
    if (places.of !== place) {
      places.of = place;
      places.replaceChildren("Built in notebook ", h("a", { href: notebook.url }, notebook.name), "; its code is ", h("a", { href: file.url }, file.name), ".");
    }
    const shown = `${state.part} ${lanes}`;
    if (sides.of !== shown) {
      sides.of = shown;
      sides.replaceChildren(...lanes.map((lane) => h("div", { class: `side lane-${lane}`, role: lanes.length === 2 && "group", "aria-label": lanes.length === 2 && lane.toUpperCase() }, lanes.length === 2 && h("p", { class: "name" }, lane.toUpperCase()), columns[lane][state.part].element)));
    }
    for (const lane of lanes) {
      const step = stepOf(lane);
      if (step && state.part !== "text_encoder") engine.want(lane, step.index, "guess");
      const record = { ...engine.lanes[lane], branched: lane === "b" && state.at !== null };
      columns[lane][state.part].update(stepOf(lane), record, state[lane], state);
    }
  }
}

/** As Python warns: pure noise does not belong where more than an eighth of the variance should be picture. */
function startsTooLow(first) {
  const picture = first ? 1 / (first.sigma ** 2 + 1) : 0;
  if (picture <= 1 / 8) return "";
  const percent = Math.round(100 * picture);
  return ` With so few steps, this scheduler begins at timestep ${number(first.timestep)}, where the U-Net expects ${percent} % picture and is given only noise. Take more.`;
}

const middle = ({ latents: [, height, width] }) => Math.floor(height / 2) * width + Math.floor(width / 2);
const millions = (n) => Math.round(n / 1e6);

/** Mean absolute difference of two pictures, in levels of 255. */
function difference(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += Math.abs(one[i] - other[i]);
  return sum / ((one.length * 3) / 4);
}
