// The dialog that sends a call elsewhere, at once or after a word with the person that is to get it.

import { follow } from "./acts.js";
import { $, setAttribute, setText } from "./dom.js";
import { calledOf, partyOf } from "./legs.js";
import { on, keyOf } from "./store.js";
import { t } from "./text.js";

const SIGNS = /[\s'"\\{}[\]<>|$&]/; // FreeSWITCH takes its arguments apart at blanks
const isFaulty = (text) => SIGNS.test(text) || text.startsWith("-");

let asked = null; // {call, action}

const fields = () => $("transfer-form").elements;

export function askTransfer(call, action) {
  asked = { call, action };
  const form = $("transfer-form");
  form.reset();
  setText($("transfer-title"), t(`do.${action}`));
  setText($("transfer-go"), t(`do.${action}`));
  setText($("transfer-who"), partyOf(call.main));
  fields().context.placeholder = call.main.context || "default";
  if (action === "consult") fields().kind.value = "phone";
  $("transfer-kinds").hidden = action === "consult";
  shape();
  $("transfer").showModal();
  fields().target.focus();
}

/** An extension is looked up in a context, a phone is called directly. */
function shape() {
  const phone = fields().kind.value === "phone";
  const other = asked.action === "transfer" && Boolean(asked.call.partner?.other);
  setText($("transfer-label"), t(phone ? "transfer.phone" : "transfer.extension"));
  setText($("transfer-hint"), t(asked.action === "consult" ? "transfer.hint_consult" : phone ? "transfer.hint_phone" : "transfer.hint_extension"));
  fields().target.placeholder = phone ? "user/1000" : "1000";
  $("transfer-context").hidden = phone;
  $("transfer-other").hidden = !other;
  if (other) setText($("transfer-other-label"), t("transfer.partner", { who: calledOf(asked.call.partner) }));
  setText($("transfer-fault"), "");
  for (const field of [fields().target, fields().context]) setAttribute(field, "aria-invalid", null);
}

/** What is to be sent to the server, or the fault in what was typed. */
export function transferRequest({ kind, target, context }) {
  if (!target) return { fault: "transfer.where" };
  if (SIGNS.test(target + context)) return { fault: "transfer.signs" };
  if (target.startsWith("-") || context.startsWith("-")) return { fault: "transfer.option" };
  return kind === "phone" ? { kind, target } : { kind, target, context };
}

async function go(event) {
  event.preventDefault();
  const { kind, target, context, other } = fields();
  const { call, action } = asked;
  const request = transferRequest({ kind: kind.value, target: target.value.trim(), context: context.value.trim() });
  if (request.fault) {
    setText($("transfer-fault"), t(request.fault));
    const wrong = isFaulty(context.value.trim()) && !isFaulty(target.value.trim()) ? context : target;
    setAttribute(wrong, "aria-invalid", "true");
    wrong.focus();
    return;
  }
  $("transfer").close();
  const main = other.checked && !$("transfer-other").hidden ? call.partner : call.main;
  await follow(action, { ...call, main }, request);
}

export function start() {
  $("transfer-form").addEventListener("submit", go);
  $("transfer-form").addEventListener("change", shape);
  $("transfer-cancel").addEventListener("click", () => $("transfer").close());
  $("transfer").addEventListener("click", (event) => {
    if (event.target === $("transfer")) $("transfer").close();
  });
  on("gone", (ended) => {
    if ($("transfer").open && keyOf(ended) === keyOf(asked.call.main)) setText($("transfer-fault"), t("act.gone"));
  });
}
