/** Numbers to pixels: pictures, latents in two colors around white, attention over a gray picture. */

/** Draw bytes, RGBA, of a square picture; none: an empty gray field. */
export function drawPicture(canvas, bytes) {
  if (!bytes) return clear(canvas);
  const side = Math.sqrt(bytes.length / 4);
  put(canvas, bytes, side, side);
}

/** The channels of latents, (c, h, w), two in a row: blue below 0, vermilion above, white at 0; full color at `range`. */
export function drawLatents(canvas, values, [channels, height, width], range = 3) {
  if (!values) return clear(canvas);
  const columns = Math.min(2, channels);
  const rows = Math.ceil(channels / columns);
  const gap = 1;
  const [w, h] = [columns * (width + gap) - gap, rows * (height + gap) - gap];
  const bytes = new Uint8ClampedArray(4 * w * h); // the gap stays transparent
  for (let c = 0; c < channels; c++) {
    const [left, top] = [(c % columns) * (width + gap), Math.floor(c / columns) * (height + gap)];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) signed(bytes, 4 * ((top + y) * w + left + x), values[(c * height + y) * width + x] / range);
    }
  }
  put(canvas, bytes, w, h);
}

const BELOW = [0x00, 0x72, 0xb2];
const ABOVE = [0xd5, 0x5e, 0x00];

function signed(bytes, at, value) {
  const color = value < 0 ? BELOW : ABOVE;
  const share = Math.min(1, Math.abs(value));
  for (let k = 0; k < 3; k++) bytes[at + k] = 255 + share * (color[k] - 255);
  bytes[at + 3] = 255;
}

/** A matrix, (rows, columns), from dark blue (low) to yellow (high), as the notebooks' heat maps. */
export function drawMatrix(canvas, values, rows, columns, low, high) {
  if (!values) return clear(canvas);
  const bytes = new Uint8ClampedArray(4 * rows * columns).fill(255);
  for (let i = 0; i < rows * columns; i++) bytes.set(cividis((values[i] - low) / (high - low)), 4 * i);
  put(canvas, bytes, columns, rows);
}

/** Where a word is read: the mean of its tokens' maps, (tokens, h, w), over the picture in gray. */
export function drawAttention(canvas, attention, positions, [height, width], picture) {
  if (!attention || !picture || !positions?.length) return clear(canvas);
  const heat = wordMap(attention, positions, height * width);
  const side = Math.sqrt(picture.length / 4);
  const bytes = new Uint8ClampedArray(picture.length).fill(255);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = 4 * (y * side + x);
      const gray = 0.299 * picture[at] + 0.587 * picture[at + 1] + 0.114 * picture[at + 2];
      const color = cividis(sample(heat, height, width, ((y + 0.5) / side) * height - 0.5, ((x + 0.5) / side) * width - 0.5));
      for (let k = 0; k < 3; k++) bytes[at + k] = 0.35 * gray + 0.65 * color[k];
    }
  }
  put(canvas, bytes, side, side);
}

/** The mean of the maps of some tokens, stretched to 0 ... 1. */
export function wordMap(attention, positions, area) {
  const mean = new Float32Array(area);
  for (const position of positions) for (let i = 0; i < area; i++) mean[i] += attention[position * area + i] / positions.length;
  const [low, high] = [Math.min(...mean), Math.max(...mean)];
  return mean.map((value) => (high > low ? (value - low) / (high - low) : 0));
}

function sample(values, height, width, y, x) {
  const [top, left] = [clamp(Math.floor(y), height), clamp(Math.floor(x), width)];
  const [bottom, right] = [clamp(Math.floor(y) + 1, height), clamp(Math.floor(x) + 1, width)];
  const [v, u] = [Math.min(1, Math.max(0, y - top)), Math.min(1, Math.max(0, x - left))];
  const row = (r) => (1 - u) * values[r * width + left] + u * values[r * width + right];
  return (1 - v) * row(top) + v * row(bottom);
}
const clamp = (i, size) => Math.min(size - 1, Math.max(0, i));

// Nine colors of matplotlib's cividis, between which straight lines lead: the same to any eye (Nuñez et al. 2018)
const CIVIDIS = [
  [0, 34, 78],
  [26, 56, 111],
  [67, 78, 108],
  [97, 101, 111],
  [125, 124, 120],
  [155, 148, 118],
  [188, 174, 108],
  [222, 201, 88],
  [254, 232, 56],
];

export function cividis(value) {
  const place = Math.min(1, Math.max(0, value)) * (CIVIDIS.length - 1);
  const i = Math.min(CIVIDIS.length - 2, Math.floor(place));
  return [0, 1, 2].map((k) => CIVIDIS[i][k] + (place - i) * (CIVIDIS[i + 1][k] - CIVIDIS[i][k])).concat(255);
}

function put(canvas, bytes, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
  canvas.classList.remove("empty");
}

function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.classList.add("empty");
}

/** Mean and standard deviation, for those who cannot see the picture of the numbers. */
export function summary(values) {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return { mean, std: Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length) };
}
