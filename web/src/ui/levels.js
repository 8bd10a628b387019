/** The noise levels that the runs visit, as a curve for each lane, and where the step that is looked at is. */

import { number, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [1000, 210, 46, 30, 12];

export function levelsChart(model) {
  const largest = Math.sqrt((1 - model.alphas_cumprod.at(-1)) / model.alphas_cumprod.at(-1));
  const smallest = Math.sqrt((1 - model.alphas_cumprod[0]) / model.alphas_cumprod[0]);
  const y = (sigma) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.log(Math.max(sigma, smallest) / smallest) / Math.log(largest / smallest));
  const title = svg("title");
  const lines = svg("g");
  const ticks = [0.03, 0.1, 0.3, 1, 3, 10].map((sigma) =>
    svg("g", { class: "tick" }, svg("line", { x1: LEFT, x2: WIDTH - 8, y1: y(sigma), y2: y(sigma) }), svg("text", { x: LEFT - 6, y: y(sigma) + 4, "text-anchor": "end" }, String(sigma))),
  );
  const element = svg(
    "svg",
    { class: "levels", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" },
    title,
    ticks,
    svg("text", { x: LEFT, y: HEIGHT - 8 }, "first step"),
    svg("text", { x: WIDTH - 8, y: HEIGHT - 8, "text-anchor": "end" }, "last step"),
    svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "noise level σ, from noise to picture"),
    lines,
  );
  return {
    element,
    update(lanes, index) {
      const said = [];
      lines.replaceChildren(
        ...lanes.flatMap(({ name, steps, total }) => {
          if (!steps.length) return [];
          const x = (i) => LEFT + ((WIDTH - 8 - LEFT) * i) / Math.max(1, total - 1);
          const points = steps.map(({ sigma }, i) => `${x(i).toFixed(1)},${y(sigma).toFixed(1)}`);
          const now = steps[Math.min(index, steps.length - 1)];
          said.push(`${name.toUpperCase()}: σ ${number(now.sigma)} at step ${now.index + 1} of ${total}`);
          return [
            svg("polyline", { class: `lane-${name}`, points: points.join(" ") }),
            ...steps.map(({ sigma }, i) => svg("circle", { class: `lane-${name}`, cx: x(i), cy: y(sigma), r: i === now.index ? 6 : 2 })),
          ];
        }),
      );
      title.textContent = `Noise levels of the steps, falling. ${said.join("; ")}`;
    },
  };
}
