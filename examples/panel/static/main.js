// Starts the parts of the page; each has a module of its own.

import * as calls from "./calls.js";
import * as console_ from "./console.js";
import * as dial from "./dial.js";
import * as events from "./events.js";
import * as links from "./links.js";
import * as park from "./park.js";
import * as transfer from "./transfer.js";
import { connect } from "./stream.js";

for (const part of [links, calls, transfer, dial, park, events, console_]) part.start();
dial.startScopes();

// On a phone one part is shown at a time.
for (const button of document.querySelectorAll(".tabs button")) {
  button.addEventListener("click", () => {
    document.body.dataset.tab = button.dataset.tab;
    for (const each of document.querySelectorAll(".tabs button")) each.toggleAttribute("aria-current", false);
    button.setAttribute("aria-current", "page");
    window.scrollTo(0, 0);
  });
}

connect();
