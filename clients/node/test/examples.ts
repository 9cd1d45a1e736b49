// Runs an example of README.md: a client, calls that come meanwhile, and an end.

import { LinkError, NotRegistered, connect as connectReally, type ConnectOptions, type NodeClient } from "event-agent-client";
import { PREFIX } from "./parts.js";

type Connect = (url?: string, options?: ConnectOptions) => Promise<NodeClient>;

const MEANWHILE = 600; // ms in which an example without an end of its own is watched

/** Throws what the example throws, and what it reports. An `endless` one is ended. */
export async function example(endless: boolean, run: (fs: NodeClient, connect: Connect) => Promise<void>): Promise<void> {
  const faults: unknown[] = [];
  const clients: NodeClient[] = [];
  const connect: Connect = async (_url, options = {}) => {
    const onError = (error: Error): void => void faults.push(error);
    const fs = await connectReally(process.env.NATS_URL, { prefix: PREFIX, onError, ...options });
    clients.push(fs);
    return fs;
  };
  const fs = await connect();
  const running = run(fs, connect).catch((error: unknown) => {
    const over = endless && error instanceof LinkError && !fs.connected;
    if (!over && !(error instanceof NotRegistered)) throw error; // here nobody has a telephone
  });
  running.catch(() => undefined); // it is looked at below
  for (const number of ["49301", "4711", "4712"]) {
    await fs.api(`bgapi originate {ticket=4711}loopback/${number}/public &park()`);
  }
  const late = new Promise((resolve) => setTimeout(resolve, MEANWHILE));
  try {
    await (endless ? late : Promise.all([running, late])); // after a program's last line its calls go on
  } finally {
    for (const each of clients) await each.close();
  }
  await running; // a loop over events ends with its client
  for (const fault of faults) if (!(fault instanceof NotRegistered)) throw fault;
}
