// Park incoming calls, do something with each, and send it on.
//
//     node park_and_route.mjs public 1001     calls in context "public" go to extension 1001 of context "default"
//
// Each call has a handler of its own, and all run at once. Start the program twice, and the calls are shared. Ctrl-C
// switches park mode off again. Calls that are parked then stay parked.

import { AgentError, Hangup, connect } from "event-agent-client";

const [context, extension] = process.argv.slice(2);
if (extension === undefined) {
  console.error("usage: park_and_route.mjs CONTEXT EXTENSION");
  process.exit(1);
}

async function route(call) {
  console.error(`${call.uuid}: parked`);
  try {
    await call.set({ routed_by: "park_and_route" });
    await call.transfer(extension);
    console.error(`${call.uuid}: sent to ${extension}`);
  } catch (error) {
    if (!(error instanceof Hangup)) throw error; // it goes to onError, and the call is hung up
    console.error(`${call.uuid}: has hung up: ${error.cause}`);
  }
}

let fs;
try {
  fs = await connect(process.env.NATS_URL, {
    prefix: process.env.PREFIX,
    onError: (error, call) => console.error(`${call?.uuid ?? "-"}: ${error.name}: ${error.message}`),
  });
  for (const name of ["SIGINT", "SIGTERM"]) process.once(name, leave); // first: nothing else switches park mode off
  await fs.incoming({ context }, route);
  console.error(`Park mode enabled for ${context}`);
} catch (error) {
  if (!(error instanceof AgentError)) throw error;
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
  await fs?.close();
}

async function leave() {
  try {
    for (const reply of await fs.all.request("dialplan.disable", {}, { wait: 3 })) console.error(reply.message);
  } catch (error) {
    console.error(`park mode is still on: ${error.message}`);
  }
  await fs.close();
}
