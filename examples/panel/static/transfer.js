// The dialog that sends a call elsewhere.

import { $, setText } from "./dom.js";
import { partyOf } from "./legs.js";
import { reported } from "./notices.js";
import { on, keyOf, store } from "./store.js";
import { command } from "./stream.js";

let leg = null;

const fields = () => $("transfer-form").elements;

export function askTransfer(found) {
  leg = found;
  const form = $("transfer-form");
  form.reset();
  setText($("transfer-who"), partyOf(leg));
  fields().context.placeholder = leg.context || "default";
  fields().context.value = "";
  $("transfer-other").hidden = !leg.other;
  shape();
  $("transfer").showModal();
  fields().target.focus();
}

/** An extension is looked up in a context, a phone is called directly. */
function shape() {
  const phone = fields().kind.value === "phone";
  setText($("transfer-label"), phone ? "Phone or gateway" : "Extension");
  fields().target.placeholder = phone ? "user/1000" : "1000";
  $("transfer-context").hidden = phone;
  setText($("transfer-fault"), "");
}

/** uuid_transfer's arguments, or the fault in what was typed. */
export function transferArguments({ uuid, kind, target, context, other }) {
  if (!target) return { fault: "Say where it is to go." };
  // FreeSWITCH takes its arguments apart at blanks, and an inline dialplan at commas.
  if (/[\s'"\\]/.test(target) || /[\s'"\\]/.test(context)) return { fault: "No blanks, quotes or backslashes, please." };
  if (target.startsWith("-")) return { fault: "That would be read as an option." };
  if (kind === "phone" && target.includes(",")) return { fault: "One phone only: no commas." };
  const where = kind === "phone" ? `bridge:${target} inline` : `${target} XML ${context}`;
  return { args: `${uuid} ${other ? "-bleg " : ""}${where}` };
}

async function go(event) {
  event.preventDefault();
  const { kind, target, context, other } = fields();
  const { args, fault } = transferArguments({
    uuid: leg.uuid,
    kind: kind.value,
    target: target.value.trim(),
    context: context.value.trim() || leg.context || "default",
    other: other.checked && Boolean(leg.other),
  });
  if (fault) {
    setText($("transfer-fault"), fault);
    target.focus();
    return;
  }
  $("transfer").close();
  const to = target.value.trim();
  await reported(`Transfer ${partyOf(leg)} to ${to}`, command({ command: "uuid_transfer", args }, leg.node),
    `Transferred ${partyOf(leg)} to ${to}`);
}

export function start() {
  $("transfer-form").addEventListener("submit", go);
  $("transfer-form").addEventListener("change", shape);
  $("transfer-cancel").addEventListener("click", () => $("transfer").close());
  $("transfer").addEventListener("click", (event) => {
    if (event.target === $("transfer")) $("transfer").close();
  });
  on("gone", (ended) => {
    if (!$("transfer").open || keyOf(ended) !== keyOf(leg)) return;
    setText($("transfer-fault"), "This call has ended.");
  });
  on("call", (changed) => {
    if ($("transfer").open && keyOf(changed) === keyOf(leg)) {
      leg = store.calls.get(keyOf(leg)) ?? leg;
      $("transfer-other").hidden = !leg.other;
    }
  });
}
