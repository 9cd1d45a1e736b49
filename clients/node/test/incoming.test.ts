// Incoming calls, and those that a router decides on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Hangup, NoInput, Refused, type Call } from "event-agent-client";
import { client, dials, thrown, until } from "./parts.js";

const fs = await client({ onError: (error, call) => errors.push([error, call]) });
const errors: [Error, Call | undefined][] = [];

function ring(number: string): Promise<unknown> {
  return fs.api(`bgapi originate {origination_caller_id_number=5551234}loopback/${number}/default &park()`);
}

test("an IVR, shared by two workers", async () => {
  const other = await client();
  const taken: [string, string, string][] = [];
  const ivr = (worker: string) => async (call: Call) => {
    await call.answer();
    await call.play("silence_stream://50");
    const asked = call.digits(4, { prompt: "silence_stream://10", tries: 2, timeout: 20 });
    void dials(fs, call, "1234");
    taken.push([worker, call.destination, await asked]);
  };
  const options = { context: "default", number: "^70", audio: "silence" } as const;
  const workers = [await fs.incoming(options, ivr("one")), await other.incoming(options, ivr("two"))];
  const numbers = ["7001", "7002", "7003", "7004", "7005", "7006"];
  for (const number of numbers) await ring(number);
  await until("all calls were taken, each once", () => taken.length === numbers.length);
  assert.deepEqual(taken.map(([, number]) => number).sort(), numbers);
  assert.ok(taken.every(([, , digits]) => digits === "1234"));
  await until("none is left behind", async () => (await parked()) === 0);
  for (const each of workers) each.stop();
  assert.deepEqual(errors, []);
});

async function parked(): Promise<number> {
  const { data } = await fs.request("dialplan.status");
  return (data as { calls_parked: number }).calls_parked;
}

test("a handler that fails, and a caller who hangs up", async () => {
  const ends: string[] = [];
  const worker = await fs.incoming({ context: ["default"], number: "^71" }, async (call) => {
    assert.equal(call.callerNumber, "5551234");
    if (call.destination === "7101") throw new Error("a fault in the program");
    if (call.destination === "7102") {
      void fs.api(`uuid_kill ${call.uuid} CALL_REJECTED`);
      await call.play("silence_stream://-1");
    }
    if (call.destination === "7103") await call.digits(1, { timeout: 0.2 });
    ends.push(call.destination);
  });
  for (const number of ["7101", "7102", "7103"]) await ring(number);
  await until("what was thrown was reported", () => errors.length === 2);
  assert.deepEqual(errors.map(([error]) => error.constructor).sort((a, b) => a.name.localeCompare(b.name)), [Error, NoInput]);
  assert.ok(errors.every(([error, call]) => call !== undefined && !(error instanceof Hangup)));
  await until("none is left behind", async () => (await parked()) === 0);
  assert.deepEqual(ends, []);
  errors.length = 0;
  worker.stop();
});

test("a router that fails decides nothing, at once", async () => {
  const routes = await fs.route({ context: "default", number: "^72", timeout: 5, fallback: "park", group: "two" }, (call) => {
    if (call.destination === "7201") throw new Error("a fault in the router");
    return undefined as never;
  });
  const parks = fs.events("CHANNEL_PARK");
  await parks.begin();
  for (const number of ["7201", "7202"]) {
    await ring(number);
    await until(`${number} is parked`, async () => {
      const item = await parks.next(1);
      return item?.kind === "event" && item.destination === number;
    });
  }
  await until("both faults were reported", () => errors.length === 2);
  assert.deepEqual(errors.map(([error]) => error.constructor), [Error, Refused]);
  errors.length = 0;
  parks.close();
  routes.stop();
  await fs.request("dialplan.route", { enabled: false });
  await fs.api("hupall");
});

test("what is wrong is refused", async () => {
  const none = (): void => undefined;
  assert.ok((await thrown(fs.incoming({ number: "(" }, none))) instanceof Refused);
  assert.ok((await thrown(fs.incoming({ audio: "jazz" as never }, none))) instanceof Refused);
  assert.ok((await thrown(fs.incoming({ group: "a b" }, none))) instanceof Refused);
  assert.ok((await thrown(fs.incoming({ context: "" }, none))) instanceof Refused);
});
