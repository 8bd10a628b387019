/** An element: h("button", { type: "button", class: "quiet", onclick: f }, "Text", child). null and false children are left out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

const MATHML = "http://www.w3.org/1998/Math/MathML";
export function math(tag, ...children) {
  return fill(document.createElementNS(MATHML, tag), {}, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let count = 0;
export const newId = (name) => `${name}-${++count}`;

/** A number for people: three digits that count, a true minus sign. */
export function number(x, digits = 3) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size < 1e-4 || size >= 1e5 ? x.toExponential(1) : Number(x.toPrecision(digits)).toLocaleString("en", { useGrouping: false, maximumFractionDigits: 6 });
  return text.replaceAll("-", "−");
}

export const shape = (sizes) => `(${sizes.join(", ")})`;

const ICONS = { first: "M4 3v10M13 3 6 8l7 5z", back: "M12 3 5 8l7 5z", on: "M4 3l7 5-7 5z", last: "M12 3v10M3 3l7 5-7 5z" };
export const icon = (name) => svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
