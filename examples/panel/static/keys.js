// Keys that work everywhere on the page.

import { $ } from "./dom.js";
import { prefs } from "./prefs.js";

const STOPS = "button, input, select, textarea, summary, a[href]";

/** The tab key goes round in a dialog, and not out of it into the browser's own buttons. */
function round(event, dialog) {
  const stops = [...dialog.querySelectorAll(STOPS)].filter((each) => !each.disabled && each.tabIndex >= 0 && each.checkVisibility());
  const [first, last] = [stops[0], stops.at(-1)];
  const from = document.activeElement;
  if (!first || from !== (event.shiftKey ? first : last) && dialog.contains(from) && from !== dialog) return;
  event.preventDefault();
  (event.shiftKey ? last : first).focus();
}

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const dialog = document.querySelector("dialog[open]");
    if (event.key === "Tab" && dialog) round(event, dialog);
    if (event.key !== "/" || !prefs.slash || dialog || event.target.closest?.("input, select, textarea")) return;
    event.preventDefault();
    $("calls-filter").focus();
    $("calls-filter").select();
  });
}
