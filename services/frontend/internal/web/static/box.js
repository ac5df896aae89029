// A box of text that is sent.

// fit makes a box as high as its text, where the style does not.
export function fit(box) {
  if (CSS.supports("field-sizing", "content")) return;
  box.style.height = "auto"; // the policy allows this to scripts, not to markup
  box.style.height = `${box.scrollHeight}px`;
}

// sends reports whether a key that was pressed sends the text. An input method uses Enter to choose a
// word; on a touch keyboard it is the only way to a new line.
export function sends(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return false;
  return !matchMedia("(pointer: coarse) and (hover: none)").matches;
}
