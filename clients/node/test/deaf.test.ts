// Incoming calls at an agent that does not publish CHANNEL_PARK.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Refused } from "event-agent-client";
import { client, thrown } from "./parts.js";

const fs = await client();

test("park mode that nobody could hear of is refused", async () => {
  const error = await thrown(fs.incoming({ context: "default" }, () => undefined));
  assert.ok(error instanceof Refused, String(error));
  assert.match(error.message, /CHANNEL_PARK is not published: .*: exclude has CHANNEL_PARK/);
  assert.equal(error.field, "events");
});
