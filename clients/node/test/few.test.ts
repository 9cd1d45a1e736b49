// Incoming calls at an agent whose events have few fields.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, until } from "./parts.js";

const errors: Error[] = [];
const fs = await client({ onError: (error) => errors.push(error) });

test("who calls whom is known all the same", async () => {
  const taken: string[] = [];
  await fs.incoming({ context: "default", number: "^70" }, (call) => {
    taken.push(`${call.callerNumber} ${call.destination} ${call.context}`);
  });
  const parks = fs.events("CHANNEL_PARK");
  await parks.begin();
  for (const number of ["7101", "7001"]) {
    await fs.api(`bgapi originate {origination_caller_id_number=5551234}loopback/${number}/default &park()`);
  }
  await until("the call was taken", () => taken.length === 1);
  assert.deepEqual(taken, ["5551234 7001 default"]);
  assert.deepEqual(errors, []);
  const park = await parks.next(60);
  assert.ok(park?.kind === "event" && park.destination === "" && park.uuid !== "", "its event does not say so");
  parks.close();
  await fs.api("hupall");
});
