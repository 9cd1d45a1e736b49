// How many channels there are on each node, a line for each change; it never drifts.
//
//     node live_counter.js
//
// Gaps in the events (a lost link, an agent or a FreeSWITCH that was restarted) are put right by FreeSWITCH's own list.

import { connect } from "event-agent-client";

const fs = await connect(process.env.NATS_URL, { prefix: process.env.PREFIX ?? "freeswitch" });
const live = await fs.live({ resync: Number(process.env.RESYNC ?? 60) });
let last = "";

function show(): void {
  const counts = Object.entries(live.calls).map(([node, calls]) => `${node} ${calls.length}`);
  const line = counts.sort().join("  ") || "no node";
  if (line !== last) console.log(line);
  last = line;
}

show();
live.onChange(show);
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => void fs.close());
