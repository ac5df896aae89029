// The page works without scripts; these spare reloads. Each module owns one part of the page.
import { startComposer } from "./composer.js";
import { startCopy } from "./copy.js";
import { startLive } from "./live.js";
import { startRate } from "./rate.js";
import { startScroll } from "./scroll.js";
import { startSidebar } from "./sidebar.js";
import { startSources } from "./sources.js";
import { startTheme } from "./theme.js";

document.documentElement.classList.add("js");

// The server shows days and times in the browser's time zone.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes(`tz=${zone}`)) {
  document.cookie = `tz=${zone}; path=/; max-age=31536000; samesite=lax`;
}

startTheme();
startCopy();
startRate();
startSidebar();
startSources();
startScroll();
startLive();
startComposer();
