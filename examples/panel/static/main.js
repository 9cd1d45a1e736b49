// Starts the parts of the page; each has a module of its own.

import * as calls from "./calls.js";
import * as console_ from "./console.js";
import * as dial from "./dial.js";
import * as events from "./events.js";
import { BUDGET } from "./frames.js";
import * as keys from "./keys.js";
import * as links from "./links.js";
import * as login from "./login.js";
import * as lost from "./lost.js";
import * as menu from "./menu.js";
import * as nodes from "./nodes.js";
import * as over from "./over.js";
import * as park from "./park.js";
import * as people from "./people.js";
import * as prefs from "./prefs.js";
import * as transfer from "./transfer.js";
import * as views from "./views.js";

let end = performance.now() + BUDGET;
for (const part of [prefs, views, links, calls, transfer, menu, people, lost, dial, nodes, park, events, console_, keys, over]) {
  if (performance.now() > end) {
    await new Promise((go) => setTimeout(go)); // else the first frame would wait for all of them
    end = performance.now() + BUDGET;
  }
  part.start();
}
dial.startScopes();
login.start();
