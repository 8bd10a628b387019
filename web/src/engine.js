/** The worker, and what it has said: one list of steps for each lane. Listeners are told of every change. */

import Machine from "./worker.js?worker";

export class Engine extends EventTarget {
  /** compute: "graphics", "processor", or anything else for what is best */
  constructor(folder, compute) {
    super();
    this.lanes = { a: emptyLane(), b: emptyLane() };
    this.settings = { a: null, b: null }; // with which each lane was drawn
    this.id = 0;
    this.busy = false;
    this.began = 0;
    this.worker = new Machine();
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => this.tell("error", { message: event.message || "The part of the page that computes could not be started. Reload." });
    this.worker.postMessage({ type: "load", folder: String(folder), compute });
  }

  /** Draw what is new in the state: lane a, lane b, or both. Whatever is being drawn is given up. */
  draw(state) {
    const a = JSON.stringify(state.a);
    const b = state.b && JSON.stringify([state.b, state.at]);
    const newA = a !== this.settings.a;
    const newB = b !== null && (b !== this.settings.b || (state.at !== null && newA));
    if (b === null) this.settings.b = null;
    if (!newA && !newB) return;
    this.stop();
    const jobA = newA ? [{ lane: "a", settings: state.a }] : [];
    const jobB = newB ? [{ lane: "b", settings: state.b, at: state.at ?? undefined }] : [];
    const phases = state.at === null ? [[...jobA, ...jobB]] : [jobA, jobB];
    if (newA) [this.lanes.a, this.settings.a] = [emptyLane(), a];
    if (newB) {
      [this.lanes.b, this.settings.b] = [emptyLane(), b];
      if (state.at !== null && !newA) this.lanes.b.steps = this.lanes.a.steps.slice(0, state.at);
    }
    this.branchAt = state.at;
    this.busy = true;
    this.began = performance.now();
    this.worker.postMessage({ type: "draw", id: ++this.id, phases: phases.filter((phase) => phase.length) });
    this.tell("change");
  }

  /** Stop at once: what still arrives of it is ignored. Lanes that are not complete are drawn again when asked for. */
  stop() {
    if (!this.busy) return;
    this.busy = false;
    this.id++;
    for (const lane of ["a", "b"]) if (!this.lanes[lane].finished) this.settings[lane] = null;
    this.worker.postMessage({ type: "cancel" });
    this.tell("change");
  }

  /** Ask for a picture of a step, its "guess" or "noisy", its latents. Not while drawing: that would slow it down. */
  want(lane, index, what) {
    const step = this.lanes[lane].steps[index];
    if (this.busy || !step || step[what] || step.asked?.[what] === this.id) return;
    (step.asked ??= {})[what] = this.id; // once another drawing has begun, the answer would be ignored, and is asked for again
    this.worker.postMessage({ type: "decode", id: this.id, lane, index, what });
  }

  receive(data) {
    if (data.type === "ready" || data.type === "progress") return this.tell(data.type, data);
    if (data.type === "error") {
      this.busy = false;
      this.settings = { a: null, b: null };
      return this.tell("error", data);
    }
    if (data.id !== this.id) return;
    const lane = this.lanes[data.lane];
    if (data.type === "words") {
      lane.words = data;
      if (data.lane === "b" && this.branchAt !== null) lane.steps = this.lanes.a.steps.slice(0, this.branchAt);
    }
    if (data.type === "step") lane.steps.push(data.step);
    if (data.type === "picture") lane.steps[data.index][data.what] = data.picture;
    if (data.type === "finished") lane.finished = true;
    if (data.type === "done") this.busy = false;
    this.tell(data.type === "step" || data.type === "done" ? data.type : "change", data);
  }

  tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

const emptyLane = () => ({ steps: [], words: null, finished: false });
