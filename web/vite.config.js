import { defineConfig } from "vite";

// With these two, a page may use threads in WebAssembly. Where a server cannot send them, public/service-worker.js adds them.
const isolated = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  base: "./", // the page works in any folder of any server
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: "es" },
  server: { headers: isolated },
  preview: { headers: isolated },
  test: { include: ["tests/**/*.test.js"], testTimeout: 300_000, hookTimeout: 300_000 },
});
