// The page of a collection sends its files one after the other, each with its progress. Without this
// the form sends them all at once.
const form = document.getElementById("upload");
const input = form.querySelector("input[type=file]");
const stop = document.getElementById("stop-upload");
const status = document.getElementById("upload-status");
const whole = document.getElementById("upload-all");
const dialog = document.getElementById("replace-dialog");

let sending = null; // what is sent now: {stopped, request}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  const replace = form.elements.replace.checked;
  let files = [...input.files].map((file) => ({ file, replace }));
  const there = names();
  const twice = files.filter(({ file }) => there.has(file.name));
  if (!replace && twice.length > 0) {
    const answer = await askAbout(twice.map(({ file }) => file.name));
    if (answer === "replace") for (const one of twice) one.replace = true;
    else if (answer === "leave") files = files.filter((one) => !twice.includes(one));
    else return;
  }
  if (files.length > 0) await send(files);
  form.reset();
});

stop.addEventListener("click", () => {
  sending.stopped = true;
  sending.request?.abort();
});

addEventListener("beforeunload", (event) => {
  if (sending) event.preventDefault();
});

// names returns those of the documents that are there.
function names() {
  return new Set([...document.querySelectorAll("#documents [data-file]")].map((x) => x.dataset.file));
}

// askAbout asks what to do with files whose names are taken: "replace", "leave" or "cancel".
function askAbout(files) {
  const list = document.getElementById("replace-names");
  list.replaceChildren(...files.map((name) => element("li", "file", name)));
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

async function send(files) {
  sending = { stopped: false };
  const list = document.getElementById("uploads");
  const rows = files.map(({ file }) => row(file));
  list.replaceChildren(...rows.map(({ item }) => item));
  document.getElementById("sending").hidden = stop.hidden = false;
  const button = form.querySelector(".primary");
  button.disabled = input.disabled = true;
  stop.focus({ preventScroll: true }); // what had it is disabled
  whole.max = files.length;

  let added = 0;
  let failed = 0;
  for (const [i, one] of files.entries()) {
    whole.value = i;
    status.textContent = `${i + 1} of ${files.length} files${failed ? `, ${failed} failed` : ""}`;
    if (sending.stopped) break;
    try {
      await sendOne(one, rows[i]);
      added++;
    } catch (error) {
      if (sending.stopped) break;
      failed++;
      rows[i].say(error.message, "bad-text");
      rows[i].item.scrollIntoView({ block: "nearest" });
      if (error.final) sending.stopped = true; // the others would fail as well
    }
  }

  const left = files.length - added - failed;
  for (const one of rows) if (one.waits) one.say("not sent", "muted");
  whole.value = added + failed;
  status.textContent = `${added} added` + (failed ? `, ${failed} failed` : "") + (left ? `, ${left} not sent` : "");
  button.disabled = input.disabled = false;
  if (document.activeElement === stop) button.focus({ preventScroll: true });
  stop.hidden = true;
  sending = null;
  await refresh();
}

// row returns the line of a file.
function row(file) {
  const item = element("li", "");
  const state = element("span", "muted", "waits");
  const bar = document.createElement("progress");
  bar.hidden = true;
  bar.setAttribute("aria-label", file.name);
  item.append(element("span", "file", file.name), " ", state, bar);
  const one = { item, bar, waits: true };
  one.say = (text, style) => {
    one.waits = false;
    bar.hidden = true;
    state.textContent = text;
    state.className = style;
  };
  return one;
}

function element(name, style, text = "") {
  const x = document.createElement(name);
  x.className = style;
  x.textContent = text;
  return x;
}

// sendOne sends a file. Its error says what went wrong; it is final if it is not about this file.
function sendOne({ file, replace }, one) {
  const largest = Number(form.dataset.largest);
  if (file.size > largest) {
    return Promise.reject(new Error(`It is larger than ${largest / 2 ** 20} MiB.`));
  }
  const path = `${form.getAttribute("action")}/files/${encodeURIComponent(file.name)}`;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    sending.request = request;
    const refuse = (text, final) => reject(Object.assign(new Error(text), { final }));
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      one.say(`${Math.floor((100 * loaded) / total)} %`, "muted");
      one.bar.max = total;
      one.bar.value = loaded;
      one.bar.hidden = false;
    });
    request.upload.addEventListener("load", () => {
      one.say("is being read", "muted");
      one.bar.removeAttribute("value"); // it is not known how long that takes
      one.bar.hidden = false;
      watchTurn();
    });
    // One document is read at a time, and somebody else may add some as well.
    const watchTurn = async () => {
      const open = () => request.readyState < XMLHttpRequest.DONE;
      for (let first = true; open(); first = false) {
        await new Promise((resolve) => setTimeout(resolve, first ? 500 : 2000));
        try {
          const reply = await fetch(`${path}/turn`, { headers: { Accept: "application/json" } });
          if (!reply.ok || !open()) continue;
          const { waits } = await reply.json();
          if (!open()) continue;
          one.say(waits ? "waits until others are read" : "is being read", "muted");
          one.bar.hidden = false;
        } catch {
          // The next time may do.
        }
      }
    };
    request.addEventListener("load", () => {
      if (request.status === 200) {
        const { outcome, warnings } = request.response;
        one.say([outcome, ...(warnings ?? [])].join(". "), warnings ? "warn-text" : "good-text");
        resolve();
        return;
      }
      const detail = request.response?.detail ?? `Error ${request.status}`;
      refuse(detail, [401, 403, 404, 507].includes(request.status) || request.status === 503);
    });
    request.addEventListener("error", () => refuse("It did not get through. Is the file still there as it was?"));
    request.addEventListener("abort", () => refuse("stopped"));
    request.open("PUT", path + (replace ? "?replace=yes" : ""));
    request.responseType = "json";
    request.send(file);
  });
}

// refresh shows the documents as they are now, unless somebody is at one of them with the keyboard.
async function refresh() {
  const shown = document.getElementById("documents");
  if (!shown.contains(document.activeElement)) {
    try {
      const reply = await fetch(location.pathname, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const fresh = page.getElementById("documents");
      if (reply.ok && fresh) shown.replaceWith(fresh);
    } catch {
      // The next time may do.
    }
  }
  follow();
}

// follow looks again in a while for as long as vectors are made.
let waiting = 0;
function follow() {
  clearTimeout(waiting);
  if (document.querySelector("#documents [data-state=indexing]")) {
    waiting = setTimeout(() => (document.hidden || sending ? follow() : refresh()), 3000);
  }
}

follow();
