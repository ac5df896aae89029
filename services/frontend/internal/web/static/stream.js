// An answer while it is written. The server sends rendered blocks, and a block that changed
// from where it changed.
import { announce } from "./live.js";
import { signedOut } from "./signedout.js";

const pauses = [200, 500, 1000, 2000, 4000, 5000]; // milliseconds between attempts to connect; the last one repeats
const patience = 5 * 60 * 1000; // without any connection, before the person is asked

// follow shows an answer in its article until it ends, and calls on.start({title}) and on.end(state).
export function follow(article, on) {
  const body = article.querySelector(".body");
  const waiting = article.querySelector(".waiting");
  const shown = article.dataset.generation;
  const whole = body.children.length > 0 || article.querySelector(".thoughts")?.textContent;
  let blocks = [], source, last = "", failures = 0, connected = Date.now(), timer, left = false;

  connect();
  return () => {
    left = true;
    clearTimeout(timer);
    source?.close();
  };

  function address() {
    const url = new URL(`/generations/${encodeURIComponent(shown)}/events`, location.href);
    if (last) url.searchParams.set("after", last);
    else if (whole) url.searchParams.set("whole", "1");
    return url;
  }

  function connect() {
    source = new EventSource(address());
    const listen = (name, handle) =>
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        connected = Date.now();
        handle(JSON.parse(event.data));
      });
    const progress = (name, handle) =>
      listen(name, (data) => {
        failures = 0;
        handle(data);
      });
    listen("start", on.start);
    progress("queue", ({ text }) => say(text));
    progress("history", ({ text }) => {
      const note = article.querySelector(".left-out");
      note.textContent = text;
      note.hidden = !text;
    });
    progress("thinking", think);
    progress("blocks", (update) => {
      say("");
      thought();
      apply(update);
    });
    listen("again", retry);
    listen("end", end);
    let open = false;
    source.onopen = () => {
      open = true;
      connected = Date.now();
    };
    source.onerror = () => {
      if (open) connected = Date.now(); // it is lost now, however long it was silent
      const refused = source.readyState === EventSource.CLOSED; // the response was no stream
      source.close();
      if (refused) look();
      else retry();
    };
  }

  // look finds out why a stream was refused: an answer that is gone does not come back, and somebody
  // who has been signed out finds it after signing in.
  async function look() {
    const given = new AbortController();
    const status = await fetch(address(), { signal: given.signal }).then((r) => r.status, () => 0);
    given.abort();
    if (status === 401) signedOut();
    else if (status === 404 || status === 410) lose("The answer is no longer there. ", () => location.reload());
    else retry();
  }

  // retry connects again after a pause, for as long as the answer runs, and for some minutes if the
  // server cannot be reached.
  function retry() {
    source.close();
    if (left) return;
    if (Date.now() - connected > patience) {
      lose("The connection to the answer was lost. ", () => {
        article.querySelector(".footer").replaceChildren();
        connected = Date.now();
        connect();
      });
      return;
    }
    const pause = pauses[Math.min(failures++, pauses.length - 1)];
    timer = setTimeout(connect, pause * (0.8 + 0.4 * Math.random())); // not all pages at once
  }

  function lose(words, again) {
    if (left) return;
    const p = document.createElement("p");
    p.className = "failure";
    const text = document.createElement("span");
    text.className = "grow";
    text.textContent = words;
    const button = document.createElement("button");
    button.className = "plain";
    button.textContent = "Show what there is";
    button.addEventListener("click", again);
    p.append(text, button);
    article.querySelector(".footer").replaceChildren(p);
    announce(words);
  }

  // think inserts the reasoning from an offset on.
  function think({ from, text }) {
    const box = article.querySelector(".thoughts");
    if (!box.firstChild) box.append("");
    const node = box.firstChild;
    if (from < node.length) node.deleteData(from, node.length - from);
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    node.appendData(text);
    if (atEnd) box.scrollTop = box.scrollHeight;
    box.parentElement.hidden = false;
    say("");
  }

  function thought() {
    const label = article.querySelector(".thinking-label");
    if (label) label.textContent = "Thought for a moment";
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
    thought();
    article.dataset.state = state;
    delete article.dataset.generation;
    waiting?.remove();
    article.querySelector(".footer").innerHTML = footer;
    announce(state === "failed" ? "The answer failed" : `Answer: ${spoken(body)}`);
    on.end(state);
  }
}

// spoken returns what a screen reader reads of an answer at its end. Code blocks are left out: they
// are better read in their place.
function spoken(body) {
  const parts = [...body.children].map((block) => (block.matches(".code") ? "Code block." : block.innerText));
  return parts.join(" ").slice(0, 2000);
}

// morph makes old equal to fresh but leaves equal parts alone, so that a selection or a scrolled
// code block in them stays.
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
