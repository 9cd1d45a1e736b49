// Events as they come, until Ctrl-C.
//
//     node events.mjs                 those of channels
//     node events.mjs '>'             all
//     node events.mjs custom.sofia.register

import { connect, Events } from "nats";

const URL = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const PREFIX = process.env.PREFIX ?? "freeswitch";
const pattern = process.argv[2] ?? "channel.>";

// For ever: a program that follows events should outlast its broker.
const nc = await connect({ servers: URL, maxReconnectAttempts: -1 });

async function show() {
  for await (const message of nc.subscribe(`${PREFIX}.events.${pattern}`)) {
    const event = message.json();
    const caller = event.headers["Caller-Caller-ID-Number"] ?? "";
    // JSON.stringify: what a caller puts into his number must not reach the terminal as it is.
    console.log(event.timestamp, event.node_id, event.event_name, event.uuid ?? "-", JSON.stringify(caller));
  }
}

// The agent tells when its own link to FreeSWITCH goes and comes: then events are missing.
async function gaps() {
  for await (const message of nc.subscribe(`${PREFIX}.events.agent.>`)) {
    const event = message.json();
    if (event.event_name === "AGENT_DISCONNECTED") {
      console.error(`${event.node_id}: no events: ${event.reason}`);
    } else {
      console.error(`${event.node_id}: events flow; ${event.channels?.length ?? 0} channels are up`);
    }
  }
}

async function link() {
  for await (const status of nc.status()) {
    if (status.type === Events.Disconnect) console.error("NATS is unreachable: what happens now is not seen");
    if (status.type === Events.Reconnect) console.error("NATS is back");
  }
}

const all = [show(), gaps(), link()];
await nc.flush();
console.error(`listening on ${PREFIX}.events.${pattern}`);
await Promise.all(all);
