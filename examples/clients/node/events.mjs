// Events as they come, until Ctrl-C.
//
//     node events.mjs                 those of channels
//     node events.mjs '>'             all
//     node events.mjs CHANNEL_ANSWER
//     node events.mjs custom.sofia.register

import { AgentError, connect } from "event-agent-client";

const pattern = process.argv[2] ?? "channel.>";

try {
  const fs = await connect(process.env.NATS_URL, {
    prefix: process.env.PREFIX,
    onLink: (up) => console.error(up ? "NATS is back" : "NATS is unreachable: what happens now is not seen"),
  });
  for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => void fs.close());
  // An agent says when its own link to FreeSWITCH goes and comes.
  const events = fs.events(pattern, "AGENT_DISCONNECTED", "AGENT_CONNECTED");
  await events.begin();
  console.error(`listening on ${fs.prefix}.events.${pattern}`);
  for await (const item of events) {
    if (item.kind === "gap") {
      console.error(`${item.node || "all nodes"}: events are missing: ${item.reason}`);
    } else if (item.name === "AGENT_DISCONNECTED") {
      console.error(`${item.node}: no events: ${item.raw.reason}`);
    } else if (item.name === "AGENT_CONNECTED") {
      console.error(`${item.node}: events flow; ${item.raw.channels?.length ?? 0} channels are up`);
    } else {
      // JSON.stringify: what a caller puts into a number must not reach the terminal as it is.
      const caller = JSON.stringify(item.header("Caller-Caller-ID-Number"));
      console.log(item.timestamp, item.node, item.name, item.uuid || "-", caller);
    }
  }
} catch (error) {
  if (!(error instanceof AgentError)) throw error;
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
}
