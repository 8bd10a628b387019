/** f of the entries at each place of some arrays of one length: `map((a, b) => a + b, x, y)`. In float32, as PyTorch. */
export function map(f, ...arrays) {
  const out = new Float32Array(arrays[0].length);
  if (arrays.some((array) => array.length !== out.length)) {
    throw new RangeError(`arrays of different lengths: ${arrays.map((array) => array.length).join(", ")}`);
  }
  if (arrays.length === 1) for (let i = 0; i < out.length; i++) out[i] = f(arrays[0][i]);
  else if (arrays.length === 2) for (let i = 0; i < out.length; i++) out[i] = f(arrays[0][i], arrays[1][i]);
  else for (let i = 0; i < out.length; i++) out[i] = f(...arrays.map((array) => array[i]));
  return out;
}

/** Arrays one after the other, as a batch. */
export function concat(...arrays) {
  const out = new Float32Array(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    out.set(array, at);
    at += array.length;
  }
  return out;
}

/** To the nearest integer, a half to the nearest even one, as numpy and PyTorch round. */
export function round(x) {
  const nearest = Math.round(x);
  return nearest - x === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}
