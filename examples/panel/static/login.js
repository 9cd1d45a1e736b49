// Logging in and out, on a panel that has users. What the server says of a session is what counts.

import { $, setText } from "./dom.js";
import { said } from "./legs.js";
import { on, store, tell } from "./store.js";
import { connect, post, whoAmI } from "./stream.js";
import { t } from "./text.js";

function ask(why) {
  if (why === "login.ended_click") setText($("login-fault"), t(why)); // it says more than that the session has ended
  if ($("login").open) return;
  for (const each of document.querySelectorAll("dialog[open]")) each.close();
  setText($("login-fault"), why ? t(why) : "");
  $("login").showModal();
  $("login-form").elements[$("login-form").elements.name.value ? "password" : "name"].focus();
}

async function go(event) {
  event.preventDefault();
  const { name, password } = $("login-form").elements;
  const button = $("login-form").querySelector("button");
  button.disabled = true;
  const answer = await post("login", { name: name.value.trim(), password: password.value });
  button.disabled = false;
  password.value = "";
  if (!answer.ok) {
    setText($("login-fault"), answer.wait ? t("login.wait", { seconds: answer.wait })
      : answer.status === 401 ? t("login.wrong") : answer.status === 503 ? t("login.file") : answer.say ? said(answer) : answer.error);
    password.focus();
    return;
  }
  $("login").close();
  connect();
}

function draw() {
  const { users, name, role } = store.me;
  $("who").hidden = !users || !name;
  setText($("who-name"), users && name ? `${name} (${t(`role.${role}`)})` : "");
}

export async function start() {
  $("login-form").addEventListener("submit", go);
  $("login").addEventListener("cancel", (event) => event.preventDefault());
  $("logout").addEventListener("click", async () => {
    await post("logout", {});
    location.reload();
  });
  on("me", draw);
  on("prefs", draw);
  on("logged_out", ask);
  const me = await whoAmI();
  if (me?.name) {
    store.me = me;
    tell("me");
  }
  if (me?.users && !me.name) tell("logged_out");
  else connect();
}
