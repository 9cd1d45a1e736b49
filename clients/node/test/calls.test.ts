// Calls that are made: dial, and all that is done with a Call.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Busy, CallFailed, CommandFailed, Hangup, NoAnswer, NoInput, NoRoute, NotRegistered, Refused } from "event-agent-client";
import { PARK, client, dials, thrown, until } from "./parts.js";

const fs = await client();

test("a call is dialled, and ends", async () => {
  const call = await fs.dial(PARK, { ring: 20, callerId: ["Shop", "555"], variables: { ticket: "4711, urgent" } });
  assert.equal(call.up, true);
  assert.equal(call.answered, true);
  assert.equal(await call.get("ticket"), "4711, urgent");
  assert.equal(await call.get("never_set"), undefined);
  await call.set({ colour: "red", round: true });
  assert.equal(await call.get("round"), "true");
  await until("its events have come", () => call.event.header("Caller-Callee-ID-Number") === "555");
  const ended = call.ended();
  await call.hangup("USER_BUSY");
  const end = await ended;
  assert.equal(end.cause, "USER_BUSY");
  assert.equal(end.event?.name, "CHANNEL_HANGUP_COMPLETE");
  assert.equal(end.event?.variable("colour"), "red");
  assert.ok(end.duration !== null && end.duration >= 0 && end.duration < 60);
  await call.hangup(); // nothing happens
  assert.deepEqual((await call.ended()).cause, "USER_BUSY");
  assert.ok((await thrown(call.play("silence_stream://10"))) instanceof Hangup);
});

test("applications are waited for", async () => {
  await using call = await fs.dial(PARK);
  await call.answer();
  assert.equal(await call.play("silence_stream://100"), "FILE PLAYED");
  await call.sleep(0.05);
  const done = await call.execute("set", "pin=12", { result: ["pin", "never_set"] });
  assert.deepEqual(done.variables, { pin: "12", never_set: null });
  const appUuid = await call.start("playback", "silence_stream://50");
  const complete = await call.waitFor("CHANNEL_EXECUTE_COMPLETE", { wait: 60 });
  assert.equal(complete.appUuid, appUuid);
  await call.say("12", { kind: "number" }).catch((error: unknown) => {
    if (process.env.SIMULATED || !(error instanceof CommandFailed)) throw error; // a switch may have no sound files
  });
  const unknown = await thrown(call.execute("no_such_app"));
  assert.ok(unknown instanceof Refused);
  assert.equal(unknown.executed, "no");
  const short = await thrown(call.play("silence_stream://-1", { wait: 0.2 }));
  assert.ok(short instanceof CommandFailed, String(short));
  await call.stop();
});

test("digits", async () => {
  await using call = await fs.dial(PARK);
  const asked = call.digits(4, { prompt: "silence_stream://50", tries: 2, timeout: 20 });
  await dials(fs, call, "1234");
  assert.equal(await asked, "1234");
  const less = call.digits(1, { most: 6, timeout: 20, prompt: "silence_stream://50" });
  await dials(fs, call, "77#");
  assert.equal(await less, "77");
  assert.ok((await thrown(call.digits(2, { timeout: 0.2 }))) instanceof NoInput);
  for (const [count, options] of [[0, {}], [3, { most: 2 }], [1, { tries: 0 }], [1.5, {}], [1, { timeout: 0 }]] as const) {
    assert.ok((await thrown(call.digits(count, options))) instanceof Refused);
  }
});

test("a hang-up ends every wait", async () => {
  const call = await fs.dial(PARK);
  const waits = [
    call.play("silence_stream://-1"),
    call.digits(4, { timeout: 100 }),
    call.waitFor("CHANNEL_UNHOLD", { wait: 100 }),
    call.sleep(100),
  ].map(thrown);
  const seen: string[] = [];
  const events = (async () => {
    for await (const event of call.events()) seen.push(event.name);
  })();
  await until("an application runs", async () => (await call.get("current_application")) !== "park");
  await fs.any.request("uuid_kill", { args: `${call.uuid} CALL_REJECTED` });
  for (const error of await Promise.all(waits)) {
    assert.ok(error instanceof Hangup, String(error));
    assert.equal(error.cause, "CALL_REJECTED");
  }
  await events;
  assert.ok(seen.includes("CHANNEL_HANGUP_COMPLETE") && seen.includes("CHANNEL_DESTROY"), seen.join());
  assert.ok((await thrown(call.get("x"))) instanceof Hangup);
});

test("why a call was not answered is the error's type", async () => {
  for (const [cause, kind] of [
    ["USER_BUSY", Busy], ["NO_ANSWER", NoAnswer], ["USER_NOT_REGISTERED", NotRegistered], ["NO_ROUTE_DESTINATION", NoRoute],
    ["UNALLOCATED_NUMBER", NoRoute], ["CALL_REJECTED", CallFailed],
  ] as const) {
    const error = await thrown(fs.dial(`error/${cause}`));
    assert.ok(error instanceof kind, `${cause}: ${String(error)}`);
    assert.equal(error.constructor, kind);
    assert.equal(error.cause, cause);
  }
  assert.ok((await thrown(fs.dial("loopback/ring/default", { ring: 1 }))) instanceof NoAnswer);
  assert.ok((await thrown(fs.dial("user/1000 XML"))) instanceof Refused);
  assert.ok((await thrown(fs.dial(PARK, { ring: 0 }))) instanceof Refused);
});

test("two calls are connected", async () => {
  await using one = await fs.dial(PARK);
  await using two = await fs.dial(PARK);
  assert.equal(await one.bridge(two), two);
  await until("both know of it", () => one.bridgedTo === two.uuid && two.bridgedTo === one.uuid);
  await two.hangup();
  assert.equal((await two.ended()).cause, "NORMAL_CLEARING");
});

test("a called leg that somebody else connects", async () => {
  const maker = await client();
  await using one = await maker.dial(PARK);
  await using two = await maker.dial(PARK);
  await using three = await maker.dial(PARK);
  const called = await fs.take(two.uuid);
  assert.equal(called.bridgedTo, "");
  await fs.api(`uuid_bridge ${one.uuid} ${two.uuid}`);
  await until("it knows to whom", () => called.bridgedTo === one.uuid);
  await maker.api(`uuid_transfer ${one.uuid} -both park inline`);
  await until("they were parted", () => called.bridgedTo === "");
  await fs.api(`uuid_bridge ${three.uuid} ${two.uuid}`);
  await until("it knows of the next", () => called.bridgedTo === three.uuid);
  await three.hangup();
  await until("it is connected to nobody", () => called.bridgedTo === "");
});

test("a call that somebody else made is taken", async () => {
  const made = await fs.any.request("originate", { endpoint: PARK, extension: "&park" });
  const { uuid } = made.data as { uuid: string };
  const call = await fs.take(uuid);
  assert.equal(call.node, made.node_id);
  await call.hangup();
  await call.ended({ wait: 60 });
  assert.ok((await thrown(fs.take("no-such-channel", made.node_id))) instanceof Hangup);
});

test("a leg that is connected to one that nobody here has", async () => {
  const maker = await client();
  await using one = await maker.dial(PARK);
  await using two = await maker.dial(PARK);
  await one.bridge(two);
  // It is set right after the event.
  for (const leg of [one, two]) await until("both have it", async () => (await leg.get("bridge_to")) !== undefined);
  for (const [leg, other] of [[one, two], [two, one]] as const) {
    const watcher = await client();
    const taken = await watcher.take(leg.uuid);
    assert.equal(taken.bridgedTo, other.uuid);
    const far = await watcher.take(other.uuid);
    assert.equal(far.bridgedTo, leg.uuid);
  }
  const taken = await fs.take(two.uuid);
  assert.equal(taken.bridgedTo, one.uuid);
  await one.hangup();
  await until("it is connected to nobody", () => taken.bridgedTo === "");
  const alone = await fs.dial(PARK);
  assert.equal((await (await client()).take(alone.uuid)).bridgedTo, "");
  await alone.hangup();
});

test("a call is transferred, and not hung up any more", async () => {
  let uuid: string;
  {
    await using call = await fs.dial(PARK);
    uuid = call.uuid;
    await call.transfer("9196");
  }
  const call = await fs.take(uuid);
  assert.equal(call.up, true);
  await call.hangup();
});
