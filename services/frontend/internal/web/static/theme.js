// The choice of colours: the cookie that the server reads for the next page, at once for this one.
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
