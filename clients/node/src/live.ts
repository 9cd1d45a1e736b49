// What is going on now: a snapshot, kept up to date by events, and put right after each gap.

import { pause } from "./call.js";
import type { Client } from "./client.js";
import { Event, eventOf } from "./events.js";
import type { Message, Subscription } from "./link.js";
import type { Reply } from "./errors.js";

/** A channel that is up. */
export interface LiveCall {
  uuid: string;
  node: string;
  direction: string;
  callerNumber: string;
  destination: string;
  /** FreeSWITCH's: DOWN, RINGING, EARLY, ACTIVE, HELD, … */
  state: string;
}

export interface LiveOptions {
  /** Seconds between two looks at FreeSWITCH's own lists, gaps or none. 60. */
  resync?: number;
}

const LATE = 3_000; // ms by which FreeSWITCH's own list, or an event, may be late
const STONE = 60_000; // ms that an ended channel is remembered

interface Known extends LiveCall {
  seen: number;
}

/**
 * The calls of all nodes. `live.calls["fs-1"]` is those of one, `live.count("fs-1")` how many; `onChange` is called
 * after each change. Channels are counted, as FreeSWITCH does: a call between two phones has two.
 */
export class Live {
  /** How often a look at FreeSWITCH's lists has put something right that no event had shown. */
  corrections = 0;
  private readonly known = new Map<string, Known>();
  private readonly nodes = new Map<string, string>(); // name: Core-UUID
  private readonly stones = new Map<string, number>();
  private readonly listeners = new Set<(live: Live) => void>();
  private subs: Subscription[] = [];
  private forget: (() => void)[] = [];
  private timer: ReturnType<typeof setInterval> | undefined;
  private looking: Promise<void> | undefined;
  private closed = false;
  private changed = false;

  /** @internal */
  constructor(private readonly client: Client, private readonly options: LiveOptions) {}

  /** The calls by node. A node without calls has an empty list. */
  get calls(): Record<string, LiveCall[]> {
    const found: Record<string, LiveCall[]> = Object.fromEntries([...this.nodes.keys()].map((name) => [name, []]));
    for (const { seen: _, ...call } of this.known.values()) (found[call.node] ??= []).push(call);
    return found;
  }

  /** How many there are, on one node or on all. */
  count(node?: string): number {
    if (node === undefined) return this.known.size;
    let count = 0;
    for (const each of this.known.values()) if (each.node === node) count += 1;
    return count;
  }

  /** Have this called when something has changed, soon after it. Returns what ends that. */
  onChange(listener: (live: Live) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** @internal */
  async begin(): Promise<void> {
    const { link } = this.client;
    await link.ready();
    for (const each of ["channel.>", "agent.>"]) {
      this.subs.push(link.subscribe(`${link.prefix}.events.${each}`, (message) => this.heard(message)));
    }
    this.forget = [link.on("up", () => this.later()), link.on("end", () => this.close())];
    try {
      await link.flush(); // events come from here on, so the list below is never older than they
      await this.look();
    } catch (error) {
      this.close();
      throw error;
    }
    this.later();
    this.timer = setInterval(() => void this.look().catch(() => undefined), (this.options.resync ?? 60) * 1000);
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
    for (const each of [...this.forget, ...this.subs.map((sub) => () => sub.unsubscribe())]) each();
    [this.forget, this.subs] = [[], []];
  }

  // -- events

  private heard(message: Message): void {
    const event = eventOf(message.data);
    if (event === undefined) return;
    const core = event.header("Core-UUID");
    if (core !== "") this.isNode(event.node, core);
    if (event.name === "AGENT_CONNECTED" || event.name === "AGENT_GAP") this.later();
    else if (event.name === "CHANNEL_DESTROY" || event.name === "AGENT_CHANNEL_GONE") this.remove(event.uuid);
    else if (event.uuid !== "" && event.name !== "CHANNEL_HANGUP" && event.name !== "CHANNEL_HANGUP_COMPLETE") this.update(event);
  }

  private isNode(name: string, core: string): void {
    const before = this.nodes.get(name);
    this.nodes.set(name, core);
    if (before === undefined) this.tell();
    if (before === undefined || before === core) return;
    // FreeSWITCH was restarted: what was there before is not any more.
    for (const each of [...this.known.values()]) if (each.node === name) this.remove(each.uuid);
  }

  private update(event: Event): void {
    if (this.stones.has(event.uuid)) return; // its end was there before this event
    const before = this.known.get(event.uuid);
    this.put({
      uuid: event.uuid,
      node: event.node,
      direction: event.header("Call-Direction") || String(event.raw.direction ?? before?.direction ?? ""),
      callerNumber: event.header("Caller-Caller-ID-Number") || String(event.raw.cid_num ?? before?.callerNumber ?? ""),
      destination: event.header("Caller-Destination-Number") || String(event.raw.dest ?? before?.destination ?? ""),
      state: event.header("Channel-Call-State") || String(event.raw.callstate ?? before?.state ?? ""),
    });
  }

  private put(call: LiveCall): void {
    const before = this.known.get(call.uuid);
    const same = before !== undefined && before.state === call.state && before.destination === call.destination;
    this.known.set(call.uuid, { ...call, seen: Date.now() });
    if (!same) this.tell();
  }

  private remove(uuid: string): void {
    this.stones.set(uuid, Date.now());
    if (this.known.delete(uuid)) this.tell();
  }

  private tell(): void {
    if (this.changed || this.closed) return;
    this.changed = true;
    setTimeout(() => {
      this.changed = false;
      if (this.closed) return;
      for (const each of [...this.listeners]) this.client.guarded(() => each(this));
    }, 10);
  }

  // -- FreeSWITCH's own lists

  /** Look now, and once more when what was late has come. */
  private later(): void {
    const twice = async (): Promise<void> => {
      await this.look();
      await pause((LATE + 500) / 1000);
      if (!this.closed) await this.look();
    };
    void twice().catch(() => undefined); // the link is gone: the next "up" does it
  }

  /** Ask all nodes for their channels, and put right what is wrong here. Throws LinkError. */
  look(): Promise<void> {
    this.looking ??= this.ask().finally(() => (this.looking = undefined));
    return this.looking;
  }

  private async ask(): Promise<void> {
    const asked = Date.now();
    const replies = await this.client.gather("show", { args: "channels as json", parts: true }, { wait: 10, settle: 0.5 });
    for (const [uuid, at] of this.stones) if (at < asked - STONE) this.stones.delete(uuid);
    for (const reply of replies) this.compare(reply, asked);
  }

  private compare(reply: Reply, asked: number): void {
    const rows = rowsOf(reply);
    if (rows === undefined) return; // FreeSWITCH is away, or its database is: nothing is known
    const node = reply.node_id;
    if (!this.nodes.has(node)) {
      this.nodes.set(node, "");
      this.tell();
    }
    const there = new Set(rows.map((row) => row.uuid ?? ""));
    for (const row of rows) {
      const { uuid = "" } = row;
      const before = this.known.get(uuid);
      if (uuid === "" || this.stones.has(uuid) || before !== undefined) continue;
      this.corrections += 1;
      this.put({
        uuid, node, direction: row.direction ?? "", callerNumber: row.cid_num ?? "", destination: row.dest ?? "",
        state: row.callstate ?? "",
      });
    }
    for (const each of [...this.known.values()]) {
      if (each.node !== node || there.has(each.uuid) || each.seen > asked - LATE) continue;
      this.corrections += 1;
      this.remove(each.uuid);
    }
  }
}

type Row = Partial<Record<"uuid" | "direction" | "cid_num" | "dest" | "callstate", string>>;

function rowsOf(reply: Reply): Row[] | undefined {
  if (!reply.success || typeof reply.data !== "string") return undefined;
  try {
    const found = JSON.parse(reply.data) as { row_count?: number; rows?: Row[] };
    return found.rows ?? (found.row_count === 0 ? [] : undefined);
  } catch {
    return undefined;
  }
}
