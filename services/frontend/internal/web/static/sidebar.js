// The list of conversations: the drawer on phones, and the dialogs to rename and delete.
import { ask } from "./ask.js";
import { announce, fragment } from "./live.js";

const list = () => document.getElementById("list");
const current = () => document.querySelector("main")?.dataset.conversation ?? "";

export function startSidebar() {
  drawer();
  const edit = document.getElementById("edit-dialog");
  const remove = document.getElementById("delete-dialog");
  const title = document.getElementById("edit-title");
  let item = { id: "", title: "" };

  list().addEventListener("click", (event) => {
    const link = event.target.closest("a.edit");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const { id, title: name } = link.closest(".item").dataset;
    item = { id, title: name };
    title.value = name;
    for (const format of ["markdown", "json"]) {
      document.getElementById(`export-${format}`).href = `/api/conversations/${encodeURIComponent(id)}/export?format=${format}`;
    }
    open(edit);
    title.select();
  });
  document.getElementById("ask-delete").addEventListener("click", () => {
    edit.close();
    document.getElementById("delete-title").textContent = `“${item.title}”`;
    open(remove);
  });
  for (const dialog of [edit, remove]) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
    dialog.querySelector("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const action = dialog === edit ? "rename" : "delete";
      try {
        await ask(`/c/${encodeURIComponent(item.id)}/${action}`, new FormData(event.target));
        dialog.close();
        await (dialog === edit ? renamed(item, title.value.trim()) : deleted(item));
      } catch (error) {
        const p = dialog.querySelector(".dialog-error");
        p.textContent = error.message;
        p.hidden = false;
      }
    });
  }
}

function open(dialog) {
  dialog.querySelector(".dialog-error").hidden = true;
  dialog.showModal();
}

async function renamed({ id }, name) {
  if (id === current()) {
    document.getElementById("heading").textContent = name;
    document.title = `${name} · ${document.body.dataset.site}`;
  }
  announce("Renamed");
  await refreshList(current());
  list().querySelector(`[data-id="${CSS.escape(id)}"] a`)?.focus();
}

async function deleted({ id }) {
  if (id === current()) {
    location.assign("/");
    return;
  }
  announce("Deleted");
  await refreshList(current());
  list().querySelector("a")?.focus();
}

// refreshList fetches the list again; id is the conversation that is shown.
export async function refreshList(id) {
  try {
    const fresh = await fragment(`/fragments/sidebar?current=${encodeURIComponent(id)}`);
    list().replaceChildren(fresh);
  } catch {
    // the old list is better than none
  }
}

function drawer() {
  const side = document.getElementById("sidebar");
  const opener = document.getElementById("open-drawer");
  const small = matchMedia("(max-width: 760px)");
  const set = (show) => {
    document.body.classList.toggle("drawer-open", show);
    opener?.setAttribute("aria-expanded", String(show));
    document.querySelector(".pane").inert = show;
    side.inert = small.matches && !show;
    if (show) side.querySelector("a").focus();
  };
  opener?.addEventListener("click", (event) => {
    event.preventDefault();
    set(true);
  });
  for (const close of document.querySelectorAll("[data-close-drawer]")) {
    close.addEventListener("click", (event) => {
      event.preventDefault();
      set(false);
      opener?.focus();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !document.body.classList.contains("drawer-open") || document.querySelector("dialog[open]")) return;
    set(false);
    opener?.focus();
  });
  small.addEventListener("change", () => set(false));
  set(false);
}
