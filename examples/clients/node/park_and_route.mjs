// Park incoming calls, do something with each, and send it on: a workflow that waits for nobody.
//
//     node park_and_route.mjs public 1001     calls in context "public" go to extension 1001 of context "default"
//
// Each step is sent with `async`, so nobody waits for its reply. The reply comes on the subject in `forward_to`, with
// the `correlation_id` that was given, and starts the next step:
//
//     CHANNEL_PARK -> execute_app -> reply: step "mark" -> uuid_transfer -> reply: step "transfer" -> log
//
// Ctrl-C switches park mode off again. Calls that are parked then stay parked.

import { connect, createInbox, RequestStrategy } from "nats";

const URL = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const PREFIX = process.env.PREFIX ?? "freeswitch";
const [context, extension] = process.argv.slice(2);
if (extension === undefined) {
  console.error("usage: park_and_route.mjs CONTEXT EXTENSION");
  process.exit(1);
}

const nc = await connect({ servers: URL, maxReconnectAttempts: -1 });
const outcomes = createInbox(); // nobody else's subject; any plain one will do

function step(name, uuid, node, request) {
  request = { ...request, async: true, forward_to: outcomes, correlation_id: `${name} ${uuid}` };
  if (node !== "unknown") request.node_id = node; // to the call's own node; one without node_id can't be named
  nc.publish(`${PREFIX}.api`, JSON.stringify(request));
}

async function parked() {
  for await (const message of nc.subscribe(`${PREFIX}.events.channel.park`)) {
    const { uuid, node_id, headers } = message.json();
    if (!("variable_event_agent_parked" in headers)) continue; // parked by somebody else
    console.error(`${uuid}: parked`);
    step("mark", uuid, node_id, { command: "execute_app", uuid, app: "set", args: "routed_by=park_and_route" });
  }
}

async function finished() {
  for await (const message of nc.subscribe(outcomes)) {
    const reply = message.json();
    const [name, uuid] = reply.correlation_id.split(" ");
    if (!reply.success) {
      console.error(`${uuid}: ${name} failed: ${reply.message}`); // most likely the caller has hung up
    } else if (name === "mark") {
      step("transfer", uuid, reply.node_id, { command: "uuid_transfer", args: `${uuid} ${extension} XML default` });
    } else {
      console.error(`${uuid}: sent to ${extension}`);
    }
  }
}

async function park(request) {
  const options = { strategy: RequestStrategy.Timer, maxWait: 10_000 };
  for await (const message of await nc.requestMany(`${PREFIX}.api`, JSON.stringify(request), options)) {
    const reply = message.json();
    if (!("success" in reply)) continue; // a JetStream stream that takes requests answers as well, without it
    console.error(reply.message);
    if (!reply.success) process.exit(1);
    return;
  }
  console.error("no reply");
  process.exit(1);
}

const all = [parked(), finished()];
await park({ command: "dialplan.enable", context });
for (const name of ["SIGINT", "SIGTERM"]) {
  process.once(name, async () => {
    await park({ command: "dialplan.disable" });
    await nc.close();
  });
}
await Promise.all(all);
