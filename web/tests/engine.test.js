/** What the page asks of its worker. The worker is a double: it keeps what it is sent. */

import { expect, test, vi } from "vitest";

import { Engine } from "../src/engine.js";

vi.mock("../src/worker.js?worker", () => ({
  default: class {
    sent = [];
    postMessage(message) {
      this.sent.push(message);
    }
  },
}));

const settings = { prompt: "a cat", scheduler: "ddim", steps: 2, guidance: 4, seed: 0 };
const branch = { ...settings, prompt: "a hamburger" };
const asked = (engine) => engine.worker.sent.filter(({ type }) => type === "decode");

/** An engine that has drawn lane a; its first step was not decoded on the way. */
function drawn() {
  const engine = new Engine("model", "processor");
  engine.draw({ a: settings, b: null, at: null });
  for (const noisy of [null, "picture"]) engine.receive({ type: "step", id: engine.id, lane: "a", step: { noisy } });
  engine.receive({ type: "finished", id: engine.id, lane: "a" });
  engine.receive({ type: "done", id: engine.id });
  return engine;
}

test("a picture is asked for once, and not while drawing", () => {
  const engine = drawn();
  engine.want("a", 0, "noisy");
  engine.want("a", 0, "noisy");
  engine.want("a", 1, "noisy"); // it is there
  engine.draw({ a: settings, b: branch, at: 1 });
  engine.want("a", 0, "guess");
  expect(asked(engine)).toEqual([{ type: "decode", id: 1, lane: "a", index: 0, what: "noisy" }]);
});

test.each(["drawn", "stopped"])("a picture whose answer another drawing overtook is asked for again once that is %s", (end) => {
  const engine = drawn();
  engine.want("a", 0, "noisy");
  engine.draw({ a: settings, b: branch, at: 1 });
  engine.receive({ type: "picture", id: 1, lane: "a", index: 0, what: "noisy", picture: "late" });
  if (end === "stopped") engine.stop();
  else engine.receive({ type: "done", id: engine.id });
  engine.want("a", 0, "noisy");
  expect(asked(engine).map(({ id }) => id)).toEqual([1, engine.id]);
  engine.receive({ type: "picture", id: engine.id, lane: "a", index: 0, what: "noisy", picture: "first" });
  expect(engine.lanes.a.steps[0].noisy).toBe("first");
});
