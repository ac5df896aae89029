// One answer while it is written: the server sends rendered blocks, each changed one again from where it changed.
import { announce } from "./live.js";

const patience = [300, 1000, 2000, 4000, 8000]; // milliseconds between attempts to connect

// follow shows an answer in its article until it ends, and calls on.start({title}) and on.end(state).
export function follow(article, on) {
  const body = article.querySelector(".body");
  const waiting = article.querySelector(".waiting");
  const shown = article.dataset.generation;
  let blocks = [], source, last = "", failures = 0;
  const whole = body.children.length > 0;

  connect();
  return () => source?.close();

  function connect() {
    const url = new URL(`/generations/${encodeURIComponent(shown)}/events`, location.href);
    if (last) url.searchParams.set("after", last);
    else if (whole) url.searchParams.set("whole", "1");
    source = new EventSource(url);
    const listen = (name, handle) =>
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        handle(JSON.parse(event.data));
      });
    listen("start", on.start);
    listen("queue", ({ text }) => say(text));
    listen("blocks", (update) => {
      failures = 0;
      say("");
      apply(update);
    });
    listen("again", retry);
    listen("end", end);
    source.onerror = () => {
      // A connection that broke is taken up again by the browser; one that was refused is not.
      if (source.readyState === EventSource.CLOSED) retry();
    };
  }

  function retry() {
    source.close();
    if (failures >= patience.length) {
      end({ state: "failed", footer: "" });
      article.querySelector(".footer").replaceChildren(lost());
      return;
    }
    setTimeout(connect, patience[failures++]);
  }

  function say(text) {
    if (!waiting) return;
    const label = waiting.querySelector(".waiting-text");
    label.textContent = text || "The answer is being written";
    label.classList.toggle("vh", !text);
  }

  // apply keeps the first update.from blocks and, of the next, as many characters as update.keep.
  function apply({ from, keep = 0, html }) {
    const fresh = html.slice();
    if (keep) fresh[0] = blocks[from].slice(0, keep) + fresh[0];
    blocks.length = from;
    blocks.push(...fresh);
    fresh.forEach((text, i) => {
      const template = document.createElement("template");
      template.innerHTML = text.trim();
      const element = template.content.firstElementChild;
      const old = body.children[from + i];
      if (!element) return;
      if (old) morph(old, element);
      else body.append(element);
    });
    while (body.children.length > blocks.length) body.lastElementChild.remove();
    article.dataset.begun = "";
  }

  function end({ state, footer }) {
    source.close();
    article.dataset.state = state;
    delete article.dataset.generation;
    waiting?.remove();
    article.querySelector(".footer").innerHTML = footer;
    announce(state === "failed" ? "The answer failed" : `Answer: ${spoken(body)}`);
    on.end(state);
  }
}

// spoken is what a screen reader reads of an answer at its end: a code block is better read where it stands.
function spoken(body) {
  const parts = [...body.children].map((block) => (block.matches(".code") ? "Code block." : block.innerText));
  return parts.join(" ").slice(0, 2000);
}

function lost() {
  const p = document.createElement("p");
  p.className = "failure";
  p.append("The connection to the answer was lost. ");
  const again = document.createElement("a");
  again.href = location.href;
  again.textContent = "Show what there is";
  p.append(again);
  return p;
}

// morph makes old equal to fresh and leaves alone what is equal already, so that a selection or a scrolled code block
// in it stays.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName || !sameAttributes(old, fresh)) {
    old.replaceWith(fresh);
    return;
  }
  const wanted = [...fresh.childNodes];
  wanted.forEach((child, i) => {
    const have = old.childNodes[i];
    if (!have) old.append(child);
    else if (have.nodeType === Node.TEXT_NODE && child.nodeType === Node.TEXT_NODE) {
      if (child.data.startsWith(have.data)) have.appendData(child.data.slice(have.data.length));
      else have.data = child.data;
    } else morph(have, child);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function sameAttributes(a, b) {
  return a.attributes.length === b.attributes.length && [...a.attributes].every((x) => b.getAttribute(x.name) === x.value);
}
