// All that can be done with a call, in a dialog: what has no room in its row.

import { perform } from "./acts.js";
import { $, h, setText } from "./dom.js";
import { partyOf } from "./legs.js";
import { actionsOf, isDark } from "./rows.js";
import { t } from "./text.js";

export function askAction(shown) {
  const call = { ...shown };
  setText($("menu-who"), partyOf(call.main));
  $("menu-list").replaceChildren(...actionsOf(call).filter((action) => action !== "hangup").map((action) => h("li", {},
    h("button", {
      type: "button",
      "data-act": action,
      disabled: isDark(action, call),
      onclick: () => {
        $("menu").close();
        perform(action, call);
      },
    }, h("b", {}, t(`do.${action}`)), h("span", {}, t(`what.${action}`))))));
  $("menu").showModal();
}

export function start() {
  $("menu-cancel").addEventListener("click", () => $("menu").close());
  $("menu").addEventListener("click", (event) => {
    if (event.target === $("menu")) $("menu").close();
  });
  $("menu-list").addEventListener("keydown", (event) => {
    const buttons = [...$("menu-list").querySelectorAll("button:enabled")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length].focus();
  });
}
