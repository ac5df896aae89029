// Copy buttons copy the text of a code block, or the Markdown of an answer.
import { announce } from "./live.js";

export function startCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(".copy, .copy-message");
    if (!button) return;
    const text = button.classList.contains("copy")
      ? button.closest(".code").querySelector("code").textContent
      : button.closest("article").querySelector("template.source").content.textContent;
    const done = await copy(text);
    button.dataset.copied = done ? "yes" : "no";
    if (button.classList.contains("copy")) button.textContent = done ? "Copied" : "Select and copy";
    announce(done ? "Copied" : "The browser does not allow copying");
    setTimeout(() => {
      delete button.dataset.copied;
      if (button.classList.contains("copy")) button.textContent = "Copy";
    }, 1600);
  });
}

// The clipboard API exists only on localhost and over https; a server in one's own network often has neither.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "vh";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
