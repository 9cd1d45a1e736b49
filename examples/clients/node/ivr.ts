// An IVR with a menu and a PIN: 1 says the time, 2 records a message behind a PIN, 0 rings the front desk.
//
//     node ivr.js public user/1000          calls in context "public"; the front desk is user/1000
//
// Start it several times, and the calls are shared. It outlasts restarts of the NATS server, the agents and FreeSWITCH.

import { CallFailed, CommandFailed, NoInput, connect, type Call } from "event-agent-client";

const [context = "public", desk = "user/1000"] = process.argv.slice(2);
const sounds = process.env.SOUNDS ?? "ivr"; // FreeSWITCH looks for these in its sound_prefix
const pins = new Set((process.env.PINS ?? "1234").split(","));

async function menu(call: Call): Promise<void> {
  await call.answer();
  await call.play(`${sounds}/welcome.wav`);
  for (;;) {
    const options = { prompt: `${sounds}/menu.wav`, invalid: `${sounds}/invalid.wav`, tries: 3, timeout: 5, pattern: "[012]" };
    const choice = await call.digits(1, options);
    log(call, `chose ${choice}`);
    if (choice === "1") await time(call);
    else if (choice === "2") await message(call);
    else if (await frontDesk(call)) return;
  }
}

async function time(call: Call): Promise<void> {
  try {
    await call.say("now", { kind: "current_time" });
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error; // the node has no say module, or no sounds
    log(call, error.message);
  }
}

async function message(call: Call): Promise<void> {
  const pin = await call.digits(4, { prompt: `${sounds}/pin.wav`, tries: 3 });
  if (!pins.has(pin)) {
    log(call, "wrong PIN");
    await call.play(`${sounds}/invalid.wav`);
    return;
  }
  const recording = await call.record(`/tmp/${call.uuid}.wav`, { limit: 60, silence: 4 });
  log(call, `recorded ${recording.seconds} s`);
}

async function frontDesk(call: Call): Promise<boolean> {
  try {
    const other = await call.bridge(desk, { ring: 20 });
    await other.ended();
    return true;
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error;
    log(call, `the front desk: ${error.cause}`);
    await call.play(`${sounds}/busy.wav`);
    return false;
  }
}

function log(call: Call, text: string): void {
  // JSON.stringify: what a caller puts into a number must not reach the terminal as it is.
  console.log(call.uuid, JSON.stringify(call.callerNumber), text);
}

const fs = await connect(process.env.NATS_URL, {
  prefix: process.env.PREFIX ?? "freeswitch",
  onError: (error, call) => console.error(call?.uuid ?? "-", `${error.name}: ${error.message}`),
});
await fs.incoming({ context, audio: "silence" }, async (call) => {
  log(call, `calls ${JSON.stringify(call.destination)}`);
  try {
    await menu(call);
  } catch (error) {
    if (!(error instanceof NoInput)) throw error;
    log(call, "dialled nothing");
  } finally {
    log(call, "is done");
  }
});
console.log(`taking calls in ${context}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => void fs.close());
