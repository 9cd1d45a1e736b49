// Replies that come in parts, put together. Each has `part` and `parts`, its piece of `data`, and else the same.

import { CommandFailed, type Reply } from "./errors.js";

const MOST_PARTS = 1000; // of one reply
const MOST_REPLIES = 1000; // that are incomplete at one time
const SHOWN = 5; // numbers of parts in an error's text

/** @internal The parts that have come for one request, of one agent or several. */
export class Parts {
  private readonly found = new Map<string, { count: number; pieces: Map<number, Reply> }>();

  /** The whole reply, if this one completes it or is one itself. Throws CommandFailed for nonsense. */
  add(reply: Reply): Reply | undefined {
    if (!("part" in reply && "parts" in reply)) return reply;
    const { part, parts } = reply;
    if (!isCount(part) || !isCount(parts) || part > parts || parts > MOST_PARTS) {
      throw nonsense("the reply has parts that can't be", reply);
    }
    const name = JSON.stringify([reply.node_id, reply.timestamp, parts]);
    const { pieces } = this.found.get(name) ?? this.begin(name, parts);
    pieces.set(part, reply);
    if (this.found.size > MOST_REPLIES) throw nonsense("too many replies in parts", reply);
    return pieces.size === parts ? whole(pieces) : undefined;
  }

  private begin(name: string, count: number): { count: number; pieces: Map<number, Reply> } {
    const begun = { count, pieces: new Map<number, Reply>() };
    this.found.set(name, begun);
    return begun;
  }

  /** What has not come of a reply that has begun; "" if none has. */
  get missing(): string {
    for (const { count, pieces } of this.found.values()) {
      const lost = Array.from({ length: count }, (_, at) => at + 1).filter((each) => !pieces.has(each));
      if (lost.length === 0) continue;
      const shown = lost.slice(0, SHOWN).join(", ") + (lost.length > SHOWN ? ", …" : "");
      return `part${lost.length > 1 ? "s" : ""} ${shown} of ${count}`;
    }
    return "";
  }

  /** The same as the end of a sentence that says what did not come in time. */
  get late(): string {
    return this.missing === "" ? "" : `: ${this.missing} of the reply did not come`;
  }
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1;
}

function whole(pieces: Map<number, Reply>): Reply {
  const { part: _part, parts: _parts, json, ...first } = pieces.get(1) as Reply;
  const text = Array.from({ length: pieces.size }, (_, at) => String(pieces.get(at + 1)?.data ?? "")).join("");
  if (json !== true) return { ...first, data: text };
  try {
    return { ...first, data: JSON.parse(text) as unknown };
  } catch {
    throw nonsense("the parts of the reply do not fit together", first);
  }
}

/** The command was carried out, as far as anybody knows. */
function nonsense(message: string, reply: Reply): CommandFailed {
  return new CommandFailed(message, { ...reply, success: false, executed: "unknown", message });
}
