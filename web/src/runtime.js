/** ONNX Runtime, in one of two builds: for the graphics processor (WebGPU) where there is one, else for the processor. */

import gpuScript from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuProgram from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuScript from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import cpuProgram from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { FileError } from "./diffusion/networks.js";

/**
 * The name of the graphics processor that the networks can run on, null for none. One that is only imitated by the processor, slowly,
 * counts where `compute` asks for "graphics".
 */
export async function graphicsProcessor(compute) {
  const adapter = compute === "processor" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter || (adapter.info.isFallbackAdapter && compute !== "graphics")) return null;
  const { vendor, architecture, description } = adapter.info;
  return description || `${vendor} ${architecture}`.trim() || "unknown";
}

/** The module, and the options of its sessions. `gpu`: the build for WebGPU. */
export async function loadRuntime(gpu) {
  if (typeof WebAssembly !== "object") throw new FileError("This browser has no WebAssembly, which the networks run in. A current one has.");
  const ort = gpu ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
  const threads = !gpu && globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  Object.assign(ort.env.wasm, {
    numThreads: threads,
    wasmPaths: { mjs: new URL(gpu ? gpuScript : cpuScript, import.meta.url).href },
    wasmBinary: await unpacked(new URL(gpu ? gpuProgram : cpuProgram, import.meta.url)),
  });
  ort.env.logLevel = "error";
  // Threads that wait by spinning take the processor from those they wait for, wherever something else runs, too
  const options = { executionProviders: [gpu ? "webgpu" : "wasm"], logSeverityLevel: 3, extra: { session: { intra_op: { allow_spinning: "0" } } } };
  return { ort, options, threads };
}

/** A file, unpacked if it is compressed: a server may have done so on the way. */
async function unpacked(url) {
  const name = url.pathname.split("/").at(-1);
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new FileError(`${name}, the program that runs the networks, did not arrive. Reload the page.`);
  const bytes = await response.arrayBuffer();
  const [first, second] = new Uint8Array(bytes, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
