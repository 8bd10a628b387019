/** The model's files, with progress, and checked: a file that did not arrive whole is an error that names it. */

import { FileError } from "./diffusion/networks.js";

export async function readManifest(folder) {
  const response = await get(new URL("model.json", folder), "model.json");
  let model;
  try {
    model = await response.json();
  } catch {
    throw new FileError("model.json arrived damaged. Reload the page; if that does not help, it was not built completely.");
  }
  if (model.format !== 1) throw new FileError(`model.json has format ${model.format}; this page reads format 1. Build both anew.`);
  return model;
}

/**
 * @param {{ file: string, bytes: number, sha256: string }} entry of model.json
 * @param {(bytes: number) => void} arrived is called with the number of bytes of each part that arrives
 */
export async function readFile(folder, entry, arrived = () => {}) {
  const url = new URL(entry.file, folder);
  url.searchParams.set("sha256", entry.sha256); // a new version has a new address, so that no cache gives the old one
  const response = await get(url, entry.file);
  const data = new Uint8Array(entry.bytes);
  const reader = response.body.getReader();
  let at = 0;
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch {
      throw new FileError(`${entry.file} stopped arriving after ${at} of ${entry.bytes} bytes. Check the connection and reload.`);
    }
    if (part.done) break;
    if (at + part.value.length > entry.bytes) throw new FileError(`${entry.file} is longer than model.json says. Build both anew.`);
    data.set(part.value, at);
    at += part.value.length;
    arrived(part.value.length);
  }
  if (at < entry.bytes) throw new FileError(`${entry.file} arrived with ${at} of ${entry.bytes} bytes. Reload the page.`);
  await check(data, entry);
  return data;
}

async function check(data, { file, sha256 }) {
  if (!globalThis.crypto?.subtle) return; // only where the connection is secure, or to this machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new FileError(`${file} arrived damaged: its contents are not those that model.json names. Reload the page.`);
}

async function get(url, name) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new FileError(`${name} did not arrive: no connection to the server. Reload the page when there is one.`);
  }
  if (!response.ok) throw new FileError(`${name} did not arrive: the server answered ${response.status}. Was the page built with make web?`);
  return response;
}
