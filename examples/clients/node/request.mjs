// One command and its reply.
//
//     node request.mjs status
//     node request.mjs show channels count
//
// Exit code: 0 done, 1 the reply is an error, 2 there is no reply.

import { AgentError, CommandFailed, connect } from "event-agent-client";

const [command, ...args] = process.argv.slice(2);
if (command === undefined) {
  console.error("usage: request.mjs COMMAND [ARGS]");
  process.exit(2);
}

try {
  const fs = await connect(process.env.NATS_URL, { prefix: process.env.PREFIX });
  try {
    // One node that is ready. All nodes: fs.all.request(…). One certain node: fs.node("fs-1").request(…)
    const reply = await fs.request(command, args.length > 0 ? { args: args.join(" ") } : {});
    console.log(reply.data ?? reply.message);
  } finally {
    await fs.close();
  }
} catch (error) {
  if (!(error instanceof AgentError)) throw error;
  console.error(error.message);
  process.exitCode = error instanceof CommandFailed ? 1 : 2;
}
