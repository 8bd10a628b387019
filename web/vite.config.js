import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

// With these two, a page may use threads in WebAssembly. Where a server cannot send them, public/service-worker.js adds them.
const isolated = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** ONNX Runtime's programs, compressed: servers of plain files do not do it, and src/runtime.js unpacks them. */
const packed = {
  name: "packed-wasm",
  generateBundle(_, bundle) {
    for (const file of Object.values(bundle)) if (file.fileName.endsWith(".wasm.packed")) file.source = gzipSync(file.source, { level: 9 });
  },
};
const assetFileNames = ({ names }) => `assets/[name]-[hash][extname]${names[0]?.endsWith(".wasm") ? ".packed" : ""}`;

export default defineConfig({
  base: "./", // the page works in any folder of any server
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: "es", plugins: () => [packed], rollupOptions: { output: { assetFileNames } } },
  server: { headers: isolated },
  preview: { headers: isolated },
  test: { include: ["tests/**/*.test.js"], testTimeout: 300_000, hookTimeout: 300_000 },
});
