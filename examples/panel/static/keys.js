// Keys that work everywhere on the page.

import { $ } from "./dom.js";
import { prefs } from "./prefs.js";

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || !prefs.slash || event.ctrlKey || event.altKey || event.metaKey) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
    event.preventDefault();
    $("calls-filter").focus();
    $("calls-filter").select();
  });
}
