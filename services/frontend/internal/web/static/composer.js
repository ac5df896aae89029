// The composer: sends a message without leaving the page, and stops the answer.
import { ask, askKeyed } from "./ask.js";
import { forgetKey, keyOf, newKey } from "./key.js";
import { refresh } from "./live.js";
import { toEnd } from "./scroll.js";
import { refreshList } from "./sidebar.js";
import { follow } from "./stream.js";

export function startComposer() {
  const main = document.querySelector("main.chat");
  const form = document.getElementById("composer");
  if (!main || !form) return; // a page of earlier messages has no composer
  const box = document.getElementById("message");
  const send = document.getElementById("send");
  const stop = document.getElementById("stop");
  const stopForm = document.getElementById("stop-form");
  const messages = document.getElementById("messages");
  const alert = document.getElementById("alert");
  const again = document.getElementById("alert-retry");
  const waiting = document.getElementById("sending");
  let running = null, sending = false, retried = null, leave = () => {};

  const draftKey = () => `draft:${form.conversation_id.value}`;
  if (!box.value) box.value = sessionStorage.getItem(draftKey()) ?? "";

  box.addEventListener("input", () => {
    sessionStorage.setItem(draftKey(), box.value);
    update();
  });
  box.addEventListener("keydown", (event) => {
    // An input method uses Enter to choose a word; on a touch keyboard it is the only way to a new line.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    if (matchMedia("(pointer: coarse) and (hover: none)").matches) return;
    event.preventDefault();
    if (!send.disabled && !send.hidden) form.requestSubmit(send);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !document.querySelector("dialog[open], .drawer-open")) stopForm.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const conversation = form.conversation_id.value;
    const sent = box.value;
    post(new FormData(form), keyOf(conversation), () => {
      forgetKey(conversation);
      if (box.value.trim() !== sent.trim()) return; // the text is the next message
      sessionStorage.removeItem(draftKey());
      box.value = "";
    });
  });
  messages.addEventListener("submit", (event) => {
    if (!event.target.matches(".retry")) return;
    event.preventDefault();
    const data = new FormData(event.target);
    const article = event.target.closest("article");
    if (!data.get("message")) data.set("message", question(article));
    if (form.model?.value) data.set("model", form.model.value);
    data.set("conversation_id", form.conversation_id.value);
    post(data, newKey(), () => event.target.remove());
  });
  again.addEventListener("click", () => retried?.());
  document.addEventListener("click", (event) => {
    const prompt = event.target.closest?.(".prompt");
    if (!prompt) return;
    box.value = prompt.dataset.prompt;
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
    update();
  });
  stopForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!running) return;
    stop.disabled = true;
    const ok = await ask(`/generations/${encodeURIComponent(running)}/stop`, new FormData()).catch((e) => warn(e.message));
    if (!ok) stop.disabled = false;
  });
  document.addEventListener("refreshed", update);
  addEventListener("pagehide", () => leave());
  addEventListener("pageshow", (event) => event.persisted && location.reload()); // its stream is closed

  const unfinished = messages.querySelector("article[data-generation]");
  if (unfinished) attend(unfinished);
  update();

  // update enables the buttons that can be pressed, and fits the height of the box to its text.
  function update() {
    const usable = document.getElementById("model-state")?.dataset.usable === "true";
    send.hidden = running !== null;
    stop.hidden = running === null;
    send.disabled = !usable || sending || box.value.trim() === "";
    if (!CSS.supports("field-sizing", "content")) {
      box.style.height = "auto"; // the policy allows this to scripts, not to markup
      box.style.height = `${box.scrollHeight}px`;
    }
  }

  // post sends a message under its key, and calls accepted if it was.
  async function post(data, key, accepted) {
    if (sending || running) return;
    sending = true;
    data.set("key", key);
    warn("");
    update();
    try {
      const { reply } = await askKeyed("/chat", data, key, () => (waiting.hidden = false));
      accepted();
      show(reply);
    } catch (error) {
      retried = () => post(data, key, accepted);
      if (error.status === 401) return; // the page says so
      warn(error.message, ![409, 413, 422].includes(error.status));
      if (error.status === 503 || error.status === 502) refresh("/fragments/model").catch(() => {});
    } finally {
      sending = false;
      waiting.hidden = true;
      update();
    }
  }

  function show({ conversation_id: id, url, html }) {
    document.getElementById("empty")?.remove();
    main.classList.remove("fresh");
    messages.insertAdjacentHTML("beforeend", html);
    if (form.conversation_id.value !== id) {
      form.conversation_id.value = id;
      main.dataset.conversation = id;
      stopForm.back.value = url;
      history.pushState(null, "", url);
      path = location.pathname;
    }
    toEnd(true);
    attend(messages.lastElementChild);
    refreshList(id);
  }

  // attend follows the answer that an article shows.
  function attend(article) {
    running = article.dataset.generation;
    stop.disabled = false;
    leave = follow(article, {
      start({ title }) {
        const heading = document.getElementById("heading");
        if (!title || heading.textContent !== "New chat") return; // it may have been renamed since
        heading.textContent = title;
        document.title = `${title} · ${document.body.dataset.site}`;
      },
      end(state) {
        running = null;
        update();
        refreshList(form.conversation_id.value);
        if (state === "failed") refresh("/fragments/model").catch(() => {});
      },
    });
    update();
  }

  function question(article) {
    const before = article.previousElementSibling?.querySelector("template.source");
    return before?.content.textContent ?? "";
  }

  function warn(text, retry = false) {
    alert.hidden = !text;
    document.getElementById("alert-text").textContent = text;
    again.hidden = !retry;
  }
}

// Back and forward go to other conversations, unless only the fragment differs.
let path = location.pathname;
addEventListener("popstate", () => location.pathname !== path && location.reload());
