// What the tests have in common: a client of the agent that NATS_URL and PREFIX name.

import { after } from "node:test";
import { connect, type Call, type ConnectOptions, type NodeClient } from "event-agent-client";

export const PREFIX = process.env.PREFIX ?? "freeswitch";
export const PARK = "loopback/park/default";

/** A client that is closed after the tests. */
export async function client(options: ConnectOptions = {}): Promise<NodeClient> {
  const fs = await connect(process.env.NATS_URL, { prefix: PREFIX, ...options });
  after(() => fs.close());
  return fs;
}

/** Wait for a condition, a minute at most. */
export async function until(what: string, holds: () => unknown): Promise<void> {
  const end = Date.now() + 60_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What was thrown; fails if nothing was. */
export async function thrown(promise: Promise<unknown>): Promise<unknown> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`nothing was thrown, but this returned: ${JSON.stringify(value)}`);
}

/** Dial a call's digits when an application on it waits for them. */
export async function dials(fs: NodeClient, call: Call, digits: string): Promise<void> {
  await until("digits are collected", async () => (await call.get("current_application")) === "play_and_get_digits");
  await fs.any.request("uuid_recv_dtmf", { args: `${call.uuid} ${digits}` });
}
