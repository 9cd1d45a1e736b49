// Streams of events, call records, what is live.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ChannelAnswer, ChannelEvent, ChannelExecuteComplete, ChannelHangupComplete, Custom, Dtmf, Event, Gap, Refused,
} from "event-agent-client";
import { PARK, client, thrown, until } from "./parts.js";

const fs = await client();
const node = process.env.NODE_ID ?? "FS-Node-01";

test("events of some names, of one node", async () => {
  const events = fs.events("CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE", { node });
  const others = fs.events({ node: "somebody-else" });
  await Promise.all([events.begin(), others.begin()]);
  const call = await fs.dial(PARK);
  await call.hangup();
  const names: string[] = [];
  for await (const item of events) {
    assert.ok(item instanceof Event);
    if (item.uuid !== call.uuid) continue;
    names.push(item.name);
    assert.equal(item.node, node);
    if (names.length === 2) break;
  }
  assert.deepEqual(names, ["CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE"]);
  assert.equal(await others.next(0.1), undefined);
  others.close();
  assert.equal(await others.next(), undefined);
});

test("events have types, which their names choose", async () => {
  const events = fs.events("CHANNEL_ANSWER", "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP_COMPLETE");
  await events.begin();
  const call = await fs.dial(PARK, { callerId: ["Shop", "555"] });
  assert.ok(call.event instanceof ChannelEvent && call.event.name !== "", "its first event has come");
  await call.execute("answer");
  const played = call.waitFor("CHANNEL_EXECUTE_COMPLETE", { wait: 60 });
  await call.execute("playback", "silence_stream://20"); // to its end: a hang-up's events may overtake those of its end
  const complete: ChannelExecuteComplete = await played;
  assert.ok(complete instanceof ChannelExecuteComplete);
  await call.hangup();
  const data: string[] = [];
  let [answered, ended] = [false, false];
  for await (const item of events) {
    if (item.kind === "gap" || item.uuid !== call.uuid) continue;
    if (item.name === "CHANNEL_ANSWER") answered = item instanceof ChannelAnswer && item.direction === "outbound";
    else if (item.name === "CHANNEL_EXECUTE_COMPLETE") data.push(`${item.application}(${item.data})`);
    else {
      assert.ok(item instanceof ChannelHangupComplete && item.duration >= item.billsec);
      ended = item.cause === "NORMAL_CLEARING";
      break;
    }
  }
  assert.deepEqual([answered, ended], [true, true]);
  assert.ok(data.includes("answer()"), `what is empty is "": ${data.join()}`);
  assert.ok(data.includes("playback(silence_stream://20)"), data.join());
  const digit = new Dtmf({ event_name: "DTMF", headers: { "DTMF-Digit": "7" } });
  assert.equal(digit.digit, "7");
});

test("an event comes once, whichever patterns take it", async () => {
  const events = fs.events("channel.>", "CHANNEL_*", "CHANNEL_DESTROY", "channel.hangup");
  await events.begin();
  const call = await fs.dial(PARK);
  await call.hangup();
  const seen = new Map<string, number>();
  for await (const item of events) {
    if (!(item instanceof Event) || item.uuid !== call.uuid) continue;
    const key = `${item.name} ${item.header("Event-Sequence")}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    if (item.name === "CHANNEL_DESTROY") break;
  }
  assert.ok(seen.size > 5 && [...seen.values()].every((count) => count === 1), JSON.stringify([...seen]));
});

test("custom events, and what is fired by us", async () => {
  const events = fs.events("shop::order");
  await events.begin();
  await fs.request("sendevent", { event: "CUSTOM", subclass: "shop::order", headers: { Order: 4711 }, body: "two pizzas" });
  const item = await events.next(20);
  assert.ok(item instanceof Custom);
  assert.deepEqual([item.subclass, item.header("Order"), item.body.trim()], ["shop::order", "4711", "two pizzas"]);
  events.close();
});

test("what can't be subscribed to is refused", async () => {
  for (const name of ["CHANNEL_ANSWER,DTMF", "CHANNEL_ANSWER DTMF", "CHANEL_ANSWER", "channel.>.x", "a..b", ""]) {
    assert.throws(() => fs.events(name), Refused, name);
  }
  assert.throws(() => fs.events("CHANEL_ANSWER"), /CHANNEL_ANSWER\?/);
  assert.throws(() => fs.events(["CHANNEL_ANSWER"] as never), Refused);
});

test("a slow reader gets a gap, with its size", async () => {
  const events = fs.events("CUSTOM", "shop::*", { size: 4 });
  await events.begin();
  for (let number = 0; number < 20; number++) {
    await fs.request("sendevent", { event: "CUSTOM", subclass: "shop::many", headers: { Number: number } });
  }
  const gaps: Gap[] = []; // more than one if events come while it reads
  let got = 0;
  const accounted = (): number => gaps.reduce((sum, gap) => sum + (gap.count ?? 0), got);
  await until("all are accounted for", async () => {
    for (let item = await events.next(0.05); item !== undefined; item = await events.next(0.05)) {
      if (item instanceof Gap) gaps.push(item);
      else if (item instanceof Custom && item.subclass === "shop::many") got += 1;
    }
    return accounted() >= 20;
  });
  assert.ok(gaps.length > 0 && gaps.every((gap) => gap.reason === "too slow"));
  assert.equal(accounted(), 20);
  events.close();
});

test("what is live never drifts", async () => {
  const before = await fs.dial(PARK);
  const live = await fs.live({ resync: 1 });
  let changes = 0;
  const off = live.onChange(() => (changes += 1));
  const has = (uuid: string): boolean => live.calls[node]?.some((each) => each.uuid === uuid) ?? false;
  await until("the call from before is there", () => has(before.uuid));
  const call = await fs.dial(PARK, { callerId: "4711" });
  await until("the new one, too", () => has(call.uuid));
  assert.equal(live.count(node), live.count());
  await call.hangup();
  await before.hangup();
  await until("both are gone", () => !has(call.uuid) && !has(before.uuid));
  await until("it agrees with FreeSWITCH", async () => {
    const total = /(\d+) total/.exec(await fs.api("show channels count"))?.[1];
    return String(live.count(node)) === total;
  });
  assert.ok(changes > 0);
  off();
  live.close();
});

test("call records from the stream, acknowledged", { skip: process.env.STREAM === undefined && "no stream" }, async () => {
  const calls = new Set<string>();
  for (let number = 0; number < 3; number++) {
    const call = await fs.dial(PARK);
    calls.add(call.uuid);
    await call.hangup();
  }
  const keys = new Map<string, string>();
  const read = async (): Promise<Set<string>> => {
    const found = new Set<string>();
    for await (const cdr of fs.cdrs({ durable: "billing", ackWait: 2 })) {
      if (!calls.has(cdr.record.uuid)) {
        await cdr.ack();
        continue;
      }
      found.add(cdr.record.uuid);
      keys.set(cdr.record.uuid, cdr.key);
      if (found.size === 2) break; // the second one is not acknowledged
      assert.equal(await cdr.ack(), true);
    }
    return found;
  };
  const first = await read();
  const [, unacknowledged = ""] = first;
  const second = new Map<string, boolean>();
  for await (const cdr of fs.cdrs({ durable: "billing" })) {
    if (calls.has(cdr.record.uuid)) second.set(cdr.record.uuid, cdr.redelivered);
    if (cdr.record.uuid === unacknowledged) assert.equal(cdr.key, keys.get(unacknowledged));
    else keys.set(cdr.record.uuid, cdr.key);
    await cdr.ack();
    if (second.size === 2) break;
  }
  assert.deepEqual(new Set([...first, ...second.keys()]), calls);
  assert.equal(second.get(unacknowledged), true);
  assert.equal(new Set(keys.values()).size, keys.size);
  assert.match([...keys.values()].join(" "), /^\S+( \S+)+$/);
  assert.ok((await thrown(fs.cdrs({ durable: "x", stream: "no_such" }).begin())) instanceof Refused);
  const other = await client({ prefix: "nobody" });
  assert.match(String(await thrown(other.cdrs({ durable: "x" }).begin())), /no stream takes nobody\.cdr/);
});
