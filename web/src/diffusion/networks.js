/**
 * The three networks in ONNX Runtime. Shapes: (b, 77, d) states, (b, 4, h, w) latents; one row of a batch is one array.
 */

import { map } from "./arrays.js";

/** A file of the model that is missing, cut off or damaged; the message says which. */
export class FileError extends Error {}

/**
 * Load all networks.
 *
 * @param ort the onnxruntime-web module, or another with its interface
 * @param {object} model what model.json holds
 * @param {Object<string, Uint8Array>} data what the three files hold
 * @param {object} options of InferenceSession.create
 */
export async function loadNetworks(ort, model, data, options) {
  const sessions = {};
  for (const name of ["text_encoder", "unet", "vae_decoder"]) {
    sessions[name] = await ort.InferenceSession.create(data[name], options);
  }
  const tensor = (data, ...dims) => new ort.Tensor(data instanceof Int32Array ? "int32" : "float32", data, dims);
  const { latents, states, picture } = model;
  let last = Promise.resolve();
  /** One after the other: on a graphics processor, runs that overlap write into each other's memory. */
  const run = (name, inputs) => (last = last.catch(() => {}).then(() => sessions[name].run(inputs)));

  return {
    /** (77,) token ids -> (77, d) */
    async encodeText(ids) {
      const out = await run("text_encoder", { input_ids: tensor(ids, 1, ids.length) });
      return out.states.data;
    },

    /** (b, 4, h, w), a timestep, (b, 77, d) -> noise: b arrays (4, h, w); attention (77, h, w), that of the last of the batch */
    async predictNoise(batch, timestep, context) {
      const b = batch.length / size(latents);
      const { noise_pred: noise, attention } = await run("unet", {
        latents: tensor(batch, b, ...latents),
        timesteps: tensor(new Float32Array(b).fill(timestep), b),
        states: tensor(context, b, ...states),
      });
      return { noise: rows(noise.data, b), attention: rows(attention.data, b).at(-1) };
    },

    /** (b, 4, h, w) scaled latents -> b arrays of pixels, (3, height, width), about [-1, 1] */
    async decode(batch) {
      const b = batch.length / size(latents);
      const unscaled = map((z) => z / model.scaling_factor, batch);
      const { pixels } = await run("vae_decoder", { latents: tensor(unscaled, b, ...latents) });
      if (pixels.data.length !== b * size(picture)) throw new FileError("model.json and vae_decoder.onnx do not belong together");
      return rows(pixels.data, b);
    },
  };
}

/** Compute once what model.json says it must be. Throws where this machine computes something else, as some graphics drivers do. */
export async function checkNetworks(model, networks, tokenizer) {
  const { timestep, pixels } = model.check;
  const latents = Float32Array.from({ length: size(model.latents) }, (_, i) => Math.sin(i));
  const states = await networks.encodeText(tokenizer.encode("", model.tokens).ids);
  const { noise } = await networks.predictNoise(latents, timestep, states);
  const [found] = await networks.decode(noise[0]);
  const wrong = pixels.some((expected, i) => !(Math.abs(found[i] - expected) < 0.02)); // not even nearly, or not a number
  if (wrong) throw new FileError("The networks were computed wrongly on this machine. Another browser may do better.");
}

const size = (shape) => shape.reduce((a, b) => a * b);

/** The rows of a batch, each a copy. */
function rows(data, b) {
  const length = data.length / b;
  return Array.from({ length: b }, (_, i) => data.slice(i * length, (i + 1) * length));
}
