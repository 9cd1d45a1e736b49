// Requests, their replies, and what can go wrong with them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentError, CommandFailed, LinkError, NoAgent, Refused, connect } from "event-agent-client";
import { PREFIX, client, thrown } from "./parts.js";

const fs = await client();
const node = process.env.NODE_ID ?? "FS-Node-01";

test("a command and its reply", async () => {
  assert.match(await fs.api("version"), /^FreeSWITCH Version/);
  assert.equal(await fs.api("echo a  b\"c\\d é ☎"), "a  b\"c\\d é ☎");
  const reply = await fs.request("status", {}, { node });
  assert.equal(reply.node_id, node);
  assert.equal((await fs.call({ command: "version", correlation_id: 7 })).correlation_id, 7);
  assert.equal((await fs.node(node.toLowerCase()).status()).node_id, node);
  await fs.send("version");
});

test("all nodes", async () => {
  const replies = await fs.all.api("echo here");
  assert.deepEqual(replies.map((each) => [each.node_id, each.data]), [[node, "here"]]);
  assert.equal((await fs.nodes()).length, 1);
});

test("errors are types", async () => {
  const failed = await thrown(fs.api("no_such_verb"));
  assert.ok(failed instanceof CommandFailed && !(failed instanceof Refused));
  assert.equal(failed.reply.data, "-ERR no_such_verb Command not found!\n");
  const refused = await thrown(fs.request("hangup"));
  assert.ok(refused instanceof Refused);
  assert.equal(refused.executed, "no");
  assert.ok((await thrown(fs.request("version", {}, { node: "nobody" }))) instanceof NoAgent);
  assert.ok((await thrown(fs.request("x".repeat(70_000)))) instanceof Refused);
  assert.ok((await thrown(fs.request("version", { x: 1n }))) instanceof Refused);
  assert.throws(() => fs.node(""), Refused);
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  assert.ok((await thrown(fs.request("version", circle))) instanceof Refused);
});

test("bad input is refused before anything is sent", async () => {
  const wrong: [string, () => unknown, string, RegExp][] = [
    ["timeout", () => fs.request("version", {}, { timeout: 20 } as never), "timeout", /no option timeout: wait\?/],
    ["a slip", () => fs.dial("user/1", { callerID: "5" } as never), "callerID", /callerId\?/],
    ["seconds", () => fs.dial("user/1", { ring: "20" as never }), "ring", /number of seconds, not "20"/],
    ["not a number", () => fs.api("version", { wait: Number.NaN }), "wait", /number of seconds/],
    ["no command", () => fs.request(""), "command", /no command/],
    ["no verb", () => fs.api("  "), "command", /no command/],
    ["no text", () => fs.request(undefined as never), "command", /no command/],
    ["a handler", () => fs.incoming({ context: "x" }, undefined as never), "handler", /function/],
    ["a router", () => fs.route({ context: "x" }, 5 as never), "handler", /function/],
    ["scope", () => fs.incoming({ contxt: "x" } as never, () => undefined), "contxt", /context\?/],
    ["events", () => fs.events("CHANNEL_ANSWER", { nodes: "x" } as never), "nodes", /node\?/],
    ["all", () => fs.all.api("version", { timeout: 1 } as never), "timeout", /wait\?/],
    ["live", () => fs.live({ every: 3 } as never), "every", /no option every/],
    ["records", () => fs.cdrs({ durable: "a b" }), "durable", /one word/],
    ["a URL", () => connect("http://127.0.0.1"), "url", /no URL of a NATS server/],
    ["a port", () => connect("nats://127.0.0.1:99999"), "url", /no URL of a NATS server/],
    ["a key", () => connect(process.env.NATS_URL, { nkeySeed: "SUAxx" }), "creds", /nkeySeed/],
    ["connect", () => connect(process.env.NATS_URL, { pingIntervall: 1 } as never), "pingIntervall", /pingInterval\?/],
  ];
  for (const [what, run, field, words] of wrong) {
    const error = await thrown((async () => run())());
    assert.ok(error instanceof Refused, `${what}: ${String(error)}`);
    assert.equal(error.field, field, what);
    assert.match(error.message, words, what);
    assert.equal(error.executed, "no");
  }
});

test("no agent, no server, no such name", async () => {
  const other = await client({ prefix: "nobody-listens" });
  const nobody = await thrown(other.api("version"));
  assert.ok(nobody instanceof NoAgent);
  assert.equal(nobody.executed, "no");
  assert.ok((await thrown(other.dial("user/1"))) instanceof NoAgent);
  assert.deepEqual(await other.all.api("version"), []);
  const away = await thrown(connect("nats://127.0.0.1:1", { connectWait: 2 }));
  assert.ok(away instanceof LinkError && /127\.0\.0\.1:1/.test(away.message));
  const secret = await thrown(connect("nats://me:secret@127.0.0.1:1", { connectWait: 2 }));
  assert.ok(secret instanceof LinkError && !/secret/.test(secret.message), String(secret));
  assert.ok((await thrown(connect(process.env.NATS_URL, { prefix: "a b" }))) instanceof AgentError);
  assert.ok((await thrown(connect(process.env.NATS_URL, { creds: "/no/such/file" }))) instanceof Refused);
});

test("a client that was closed says so", async () => {
  const other = await connect(process.env.NATS_URL, { prefix: PREFIX });
  const events = other.events("CHANNEL_ANSWER");
  await events.begin();
  const waiting = events.next();
  await other.close();
  assert.equal(await waiting, undefined);
  assert.ok((await thrown(other.api("version"))) instanceof LinkError);
  assert.equal(other.connected, false);
  await other.close();
});
