// A source of an answer opens above the conversation, which stays where it is.
import { signedOut } from "./signedout.js";

export function startSources() {
  const dialog = document.getElementById("source-dialog");
  const heading = document.getElementById("source-heading");
  const body = document.getElementById("source-body");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a.cite, a.source");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    heading.textContent = "Source";
    body.textContent = "";
    const response = await fetch(`/fragments${link.pathname}`, { headers: { Accept: "text/html" } }).catch(() => null);
    if (response?.status === 401) {
      signedOut();
      return;
    }
    if (response?.headers.get("Content-Type")?.startsWith("text/html")) {
      body.innerHTML = await response.text();
      heading.textContent = body.querySelector("[data-title]")?.dataset.title || "Source";
    } else {
      body.textContent = "The source cannot be shown right now. Try again in a moment.";
    }
    dialog.showModal();
    body.scrollTop = 0;
    body.querySelector(".quoted")?.scrollIntoView({ block: "nearest" });
  });
}
