// One command and its reply.
//
//     node request.mjs status
//     node request.mjs show channels count
//
// Exit code: 0 done, 1 the reply is an error, 2 there is no reply.

import { connect, ErrorCode, RequestStrategy } from "nats";

const URL = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const PREFIX = process.env.PREFIX ?? "freeswitch";
const TIMEOUT = 35_000; // ms; the agent itself gives up after 30 s and says so

const [command, ...args] = process.argv.slice(2);
if (command === undefined) {
  console.error("usage: request.mjs COMMAND [ARGS]");
  process.exit(2);
}

// The agent's reply. `nc.request` would take whatever comes first: a JetStream stream on the subject answers, too.
async function ask(nc, subject, request) {
  const options = { strategy: RequestStrategy.Timer, maxWait: TIMEOUT };
  for await (const message of await nc.requestMany(subject, JSON.stringify(request), options)) {
    const reply = message.json();
    if ("success" in reply) return reply;
  }
  throw new Error("no reply");
}

let reply;
try {
  const nc = await connect({ servers: URL, reconnect: false });
  try {
    // .any: one node, whichever. All nodes: .api. One certain node: .node.<id>
    reply = await ask(nc, `${PREFIX}.any`, { command, args: args.join(" ") });
  } finally {
    await nc.close();
  }
} catch (error) {
  const nobody = error.code === ErrorCode.NoResponders;
  console.error(nobody ? "no agent, or none whose FreeSWITCH is connected" : `NATS at ${URL}: ${error.message}`);
  process.exit(2);
}
if (reply.success) {
  console.log(reply.data);
} else {
  console.error(reply.message);
  process.exitCode = 1;
}
