// Replies that are over the NATS server's max_payload: they come in parts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandFailed } from "event-agent-client";
import { client, thrown, until } from "./parts.js";

const fs = await client();
const count = (data: unknown): number => (JSON.parse(String(data)) as { row_count: number }).row_count;

test("an answer in parts is one reply", async () => {
  await until("all channels are shown", async () => count(await fs.api("show channels as json")) >= 10);
  const args = "channels as json";
  const reply = await fs.request("show", { args, parts: true });
  assert.ok(count(reply.data) >= 10);
  assert.ok(!("part" in reply || "parts" in reply || "json" in reply));
  const status = (await fs.request("agent.status", { parts: true })).data as { call_lanes: { held: number } };
  assert.ok(status.call_lanes.held >= 10);
});

test("those of all nodes", async () => {
  for (const replies of [
    await fs.all.api("show channels as json"), await fs.gather("show", { args: "channels as json", parts: true }),
  ]) {
    assert.equal(replies.length, 1);
    assert.ok(count(replies[0]?.data) >= 10);
  }
});

test("the calls there are, however many", async () => {
  const live = await fs.live();
  assert.ok(live.count() >= 10);
  live.close();
});

test("without being asked for it does not come", async () => {
  const failed = await thrown(fs.request("show", { args: "channels as json" }));
  assert.ok(failed instanceof CommandFailed);
  assert.match(failed.message, /^Reply too large/);
});
