// Which view is shown, supervisor or engineer, and on a phone which part of it.

import { may, on, store, tell } from "./store.js";

const buttons = (kind) => document.querySelectorAll(`nav [data-${kind}]`);

function show(kind, name) {
  document.body.dataset[kind] = name;
  tell("view");
  for (const each of buttons(kind)) {
    if (each.dataset[kind] === name) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

/** `#engineer` in the address opens that view, for those who may see it. */
function fromAddress() {
  show("view", location.hash === "#engineer" && may("engineer") ? "engineer" : "supervisor");
  if (!document.querySelector(`.tabs [data-tab="${document.body.dataset.tab}"]`)?.checkVisibility?.()) show("tab", "calls");
}

export function start() {
  for (const button of buttons("view")) {
    button.addEventListener("click", () => {
      history.replaceState(null, "", `#${button.dataset.view}`);
      fromAddress();
    });
  }
  for (const button of buttons("tab")) {
    button.addEventListener("click", () => {
      show("tab", button.dataset.tab);
      window.scrollTo(0, 0);
    });
  }
  addEventListener("hashchange", fromAddress);
  on("me", () => {
    document.body.dataset.role = store.me.role;
    fromAddress();
  });
  document.body.dataset.role = store.me.role;
  fromAddress();
}
