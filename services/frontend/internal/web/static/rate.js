// Rates an answer without leaving the page. The same button takes the verdict back.
import { ask } from "./ask.js";
import { announce } from "./live.js";

export function startRate() {
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest?.("form.rate");
    if (!form || !event.submitter) return;
    event.preventDefault();
    const verdict = event.submitter.value;
    try {
      await ask(form.action, { verdict });
    } catch (error) {
      announce(error.message);
      return;
    }
    for (const button of form.querySelectorAll("button")) {
      const pressed = button.dataset.verdict === verdict;
      button.setAttribute("aria-pressed", pressed);
      button.value = pressed ? "none" : button.dataset.verdict;
    }
    form.querySelector(".say-why").hidden = verdict === "none";
    announce(verdict === "none" ? "Your opinion was taken back" : "Thank you");
  });
}
