// The end of a conversation is replaced: its last answer is written again, or a question is asked in
// other words in its place.
import { fit, sends } from "./box.js";
import { newKey } from "./key.js";

// startReplace lets questions be asked again. send(url, data, key, accepted) sends a form, and calls
// accepted with the reply before it is shown.
export function startReplace(messages, model, send) {
  const layout = document.getElementById("question-form");

  messages.addEventListener("submit", (event) => {
    if (!event.target.matches(".again")) return;
    event.preventDefault();
    const form = event.target;
    replace(form.action, new FormData(form), ({ generation_id: id }) => {
      const answer = form.closest("article");
      const link = answer.previousElementSibling?.querySelector(".edit-question");
      if (link) link.href = link.href.replace(/[^/]*$/, encodeURIComponent(id));
      drop(answer);
    });
  });
  messages.addEventListener("click", (event) => {
    const link = event.target.closest(".edit-question");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    edit(link);
  });

  function replace(url, data, accepted) {
    if (model()) data.set("model", model());
    const key = newKey();
    data.set("key", key);
    send(url, data, key, (reply) => {
      accepted(reply);
      document.getElementById("main").focus({ preventScroll: true }); // what had it is gone
    });
  }

  // edit puts a form in the place of a question, and marks what goes when it is sent.
  function edit(link) {
    for (const open of messages.querySelectorAll(".edit-form")) open.cancel();
    const question = link.closest("article");
    const bubble = question.querySelector(".bubble");
    const below = following(question);
    const last = messages.querySelector("article.answer:last-of-type").dataset.answer;
    const form = layout.content.firstElementChild.cloneNode(true);
    const box = form.querySelector("textarea");
    const shown = (editing) => {
      link.hidden = bubble.hidden = editing;
      for (const article of below) article.classList.toggle("going", editing);
    };
    box.value = question.querySelector("template.source").content.textContent;
    form.querySelector(".going-note").textContent =
      below.length > 1 ? `Asking again removes the ${below.length} messages below.` : "Asking again removes the answer below.";
    form.action = link.href.replace(/\/edit\/[^/]*$/, "/replace");
    form.cancel = () => {
      form.remove();
      shown(false);
    };
    const leave = () => {
      form.cancel();
      link.focus();
    };
    form.querySelector("[data-cancel]").addEventListener("click", leave);
    box.addEventListener("input", () => fit(box));
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation(); // it stops no answer
        leave();
      }
    });
    box.addEventListener("keydown", (event) => {
      if (!sends(event)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const data = new FormData(form);
      data.set("from", link.href.replace(/^.*\//, ""));
      data.set("to", last); // of those that are marked: if others came since it is refused
      replace(form.action, data, () => drop(question));
    });
    shown(true);
    question.append(form);
    fit(box);
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
    form.scrollIntoView({ block: "nearest" });
  }
}

function following(article) {
  const all = [];
  for (let next = article.nextElementSibling; next; next = next.nextElementSibling) all.push(next);
  return all;
}

function drop(article) {
  for (const gone of [article, ...following(article)]) gone.remove();
}
