// What a request through event-agent-client costs beside one with bare nats.js: the same agent, in turn, one at a time.
// bench/client_overhead.py --node runs it with an echo in an agent's place.
//
//     (cd clients/node && npm ci && npm run build); NATS_URL=nats://127.0.0.1:4222 node bench/node_client.mjs [rounds]

import { createRequire } from "node:module";
import { connect } from "../clients/node/dist/index.js";

const require = createRequire(new URL("../clients/node/package.json", import.meta.url));
const nats = require("@nats-io/transport-node");
const rounds = Number(process.argv[2] ?? 40);
const EACH = 100; // requests of one kind in a round

const bare = await nats.connect({ servers: process.env.NATS_URL });
const fs = await connect(process.env.NATS_URL);
const subject = `${process.env.PREFIX ?? "freeswitch"}.any`;
const kinds = {
  "nats.js": async () => {
    const reply = (await bare.request(subject, JSON.stringify({ command: "version" }), { timeout: 5000 })).json();
    if (!reply.success) throw new Error(reply.message);
  },
  "event-agent-client": () => fs.request("version"),
};
const wall = { "nats.js": [], "event-agent-client": [] };
const cpu = { "nats.js": [], "event-agent-client": [] };
for (let round = -3; round < rounds; round++) { // the first three warm up
  for (const [name, ask] of Object.entries(kinds)) {
    const [began, used] = [performance.now(), process.cpuUsage()];
    for (let number = 0; number < EACH; number++) await ask();
    const { user, system } = process.cpuUsage(used);
    if (round < 0) continue;
    wall[name].push(((performance.now() - began) * 1000) / EACH);
    cpu[name].push((user + system) / EACH);
  }
}
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
for (const name of Object.keys(kinds)) {
  console.log(`${name}: ${median(wall[name]).toFixed(0)} us a request, ${median(cpu[name]).toFixed(0)} us of CPU`);
}
const ratio = (of) => (median(of["event-agent-client"]) / median(of["nats.js"])).toFixed(2);
console.log(`ratio: ${ratio(wall)} of the time, ${ratio(cpu)} of the CPU`);
await Promise.all([bare.close(), fs.close()]);
