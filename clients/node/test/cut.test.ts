// Replies in parts, of which the NATS server lets only the first through (allow_responses).

import assert from "node:assert/strict";
import { test } from "node:test";
import { NoReply } from "event-agent-client";
import { client, thrown } from "./parts.js";

const fs = await client();

test("what did not come is named", async () => {
  const late = await thrown(fs.request("agent.status", { parts: true }, { wait: 2 }));
  assert.ok(late instanceof NoReply);
  assert.match(late.message, /^no reply within 2 seconds: parts? 2.* of the reply did not come$/);
  assert.deepEqual(await fs.gather("agent.status", { parts: true }, { wait: 2, settle: 0.2 }), []);
});
