// Parts of the page update themselves. An element with data-url and data-poll is fetched again
// after as many milliseconds, and every element of the response replaces the one with its id.

import { isSignedOut, signedOut } from "./signedout.js";

// announce tells screen readers, once.
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

export async function fragment(url) {
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  if (response.status === 401) signedOut();
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  return template.content;
}

// refresh fetches a fragment and puts its elements in place.
export async function refresh(url) {
  const fresh = await fragment(url);
  for (const element of [...fresh.children]) {
    const old = element.id && document.getElementById(element.id);
    if (!old || old.isEqualNode(element)) continue;
    const select = old.querySelector("select");
    if (select && document.activeElement === select) continue; // someone is choosing
    const chosen = select?.value;
    old.replaceWith(element);
    const now = element.querySelector("select");
    if (now && chosen && [...now.options].some((o) => o.value === chosen)) now.value = chosen;
    element.dispatchEvent(new CustomEvent("refreshed", { bubbles: true, detail: { old } }));
  }
}

export function startLive() {
  for (const element of document.querySelectorAll("[data-poll]")) poll(element.id);
  for (const element of document.querySelectorAll("[data-load]")) {
    fragment(element.dataset.load).then((f) => element.replaceWith(f), () => {});
  }
  // The chat service is back: what could not be shown can be now. Typed text is kept.
  document.addEventListener("refreshed", (event) => {
    const main = document.querySelector("main[data-degraded]");
    if (main && event.target.dataset.reachable === "true") location.reload();
  });
}

function poll(id) {
  const wait = Number(document.getElementById(id)?.dataset.poll);
  if (!wait) return;
  setTimeout(async () => {
    const element = document.getElementById(id);
    if (isSignedOut()) return;
    if (element?.dataset.url && !document.hidden) await refresh(element.dataset.url).catch(() => {});
    poll(id);
  }, wait);
}
