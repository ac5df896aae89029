// The messages stay at their end while they grow, as long as the reader is there.
const near = 80; // pixels from the end that count as the end

let box, jump, atEnd = true;

export function startScroll() {
  box = document.getElementById("scroll");
  jump = document.getElementById("jump");
  if (!box) return;
  box.addEventListener("scroll", look, { passive: true });
  jump.addEventListener("click", () => toEnd(true));
  new ResizeObserver(follow).observe(box.firstElementChild);
  new ResizeObserver(follow).observe(box);
  toEnd(false);
}

function look() {
  atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < near;
  jump.hidden = atEnd;
}

function follow() {
  if (atEnd) box.scrollTop = box.scrollHeight;
  else look();
}

export function toEnd(smooth) {
  if (!box) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  box.scrollTo({ top: box.scrollHeight, behavior: smooth && !still ? "smooth" : "instant" });
  atEnd = true;
  jump.hidden = true;
}
