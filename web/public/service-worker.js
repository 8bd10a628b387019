/**
 * Keeps every file of the page for the next visit, offline too, and adds the two headers that threads in WebAssembly need.
 *
 * What has a hash in its address (the page's scripts, the model's files) never changes and is answered from the cache. The rest
 * (index.html, model.json) is asked of the server first, so that a new version of the page is seen.
 */

const CACHE = "ldm-tutorial-1";
const UNCHANGING = /\/assets\/|[?&]sha256=/;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(self.registration.scope)) return;
  event.respondWith(answer(request, event));
});

async function answer(request, event) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request);
  if (kept && UNCHANGING.test(request.url)) return isolated(kept);
  try {
    const response = await fetch(request);
    if (response.ok) event.waitUntil(keep(cache, request, response.clone()));
    return isolated(response);
  } catch (error) {
    if (kept) return isolated(kept);
    throw error;
  }
}

/** Store the response, and forget the earlier version of the same file. A full disk is no error: the page works without. */
async function keep(cache, request, response) {
  try {
    await cache.put(request, response);
    const [path, version] = request.url.split("?");
    if (!version) return;
    for (const other of await cache.keys()) {
      if (other.url.startsWith(`${path}?`) && other.url !== request.url) await cache.delete(other);
    }
  } catch {
    // not kept
  }
}

function isolated(response) {
  if (response.status === 0) return response; // an opaque one has no headers to add to
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
