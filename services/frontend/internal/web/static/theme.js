// The choice of colours sets the cookie that the server reads for the next page, and
// applies to this one at once.
export function startTheme() {
  const form = document.getElementById("theme");
  form?.addEventListener("submit", (event) => {
    const choice = event.submitter?.value;
    if (!choice) return;
    event.preventDefault();
    const age = choice === "auto" ? 0 : 34560000;
    document.cookie = `theme=${choice}; path=/; max-age=${age}; samesite=lax`;
    document.documentElement.dataset.theme = choice;
    for (const button of form.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === choice));
    }
  });
}
