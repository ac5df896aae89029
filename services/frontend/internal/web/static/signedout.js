// The session can end while a page is open: signed out elsewhere, or idle for too long.

// signedOut tells the person, who finds the page, and what was typed, again after signing in.
export function signedOut() {
  if (isSignedOut()) return;
  const banner = document.createElement("div");
  banner.id = "signed-out";
  banner.className = "banner bad";
  banner.setAttribute("role", "alert");
  const text = document.createElement("p");
  text.className = "grow";
  text.textContent = "You have been signed out.";
  const link = document.createElement("a");
  link.className = "plain";
  link.href = `/sign-in?back=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in";
  banner.append(text, link);
  (document.querySelector(".dock > .column") ?? document.querySelector("main")).prepend(banner);
}

// isSignedOut reports whether the person knows: there is nothing to ask the server for then.
export const isSignedOut = () => document.getElementById("signed-out") !== null;
