// Call records from a JetStream stream, each acknowledged when it is stored.

import { AckPolicy, DeliverPolicy, jetstream, type Consumer, type JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { pause } from "./call.js";
import type { Client } from "./client.js";
import { LinkError, Refused, wordsOf, type AgentError } from "./errors.js";
import { Waiting } from "./events.js";
import { checkOptions, isToken, objectOf } from "./protocol.js";

const ACK = 5; // seconds
const AHEAD = 32; // records that are fetched before they are asked for

/** A call record, see "Call records" in docs/API.md; times are microseconds since 1970, null if there was none. */
export interface CdrRecord {
  event_name: "CDR";
  node_id: string;
  uuid: string;
  other_uuid: string | null;
  direction: "inbound" | "outbound" | null;
  caller_id_name: string | null;
  caller_id_number: string | null;
  destination: string | null;
  context: string | null;
  created: number | null;
  ringing: number | null;
  early_media: number | null;
  answered: number | null;
  bridged: number | null;
  ended: number | null;
  duration: number;
  billsec: number;
  cause: string | null;
  sip_code: number | null;
  hung_up_by: "us" | "them" | null;
  gateway: string | null;
  account: string | null;
  remote_addr: string | null;
  read_codec: string | null;
  write_codec: string | null;
  variables: Record<string, unknown>;
  truncated?: string[];
}

export interface CdrsOptions {
  /** The consumer's name: a program that comes with it goes on where the last one stopped. */
  durable: string;
  /** The stream's name; without it the one that has the records' subject. */
  stream?: string;
  /** Seconds after which a record that was not acknowledged is delivered again; 30, or as the consumer has it. */
  ackWait?: number;
}

/** A record that waits to be acknowledged. */
export class Cdr {
  /** @internal */
  constructor(readonly record: CdrRecord, private readonly message: JsMsg, private readonly client: Client) {}

  /** The same for each delivery of this record, and for no other, also if the stream is made anew. */
  get key(): string {
    const { node_id, uuid, created } = this.record;
    return this.message.headers?.get("Nats-Msg-Id") || `${node_id}.${uuid}.${created}`;
  }

  /** It was delivered before, and not acknowledged: look whether it is stored already. */
  get redelivered(): boolean {
    return this.message.redelivered;
  }

  /** It is stored. Returns when the server knows, true; false if that is not certain, and it may come again. */
  async ack(): Promise<boolean> {
    const { link } = this.client;
    if (!link.up) return false; // it would wait for the link, and comes again anyway
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), ACK * 1000);
    });
    const over: (() => void)[] = [];
    const lost = new Promise<boolean>((resolve) => {
      over.push(link.on("down", () => resolve(false)), link.on("end", () => resolve(false)));
    });
    try {
      return await Promise.race([this.message.ackAck().catch(() => false), late, lost]);
    } finally {
      clearTimeout(timer);
      for (const each of over) each();
    }
  }

  /** Deliver it again, after `delay` seconds. */
  nak(delay = 0): void {
    this.message.nak(delay * 1000);
  }

  /** Never deliver it again: it can't be stored, ever. */
  term(): void {
    this.message.term("refused by the program");
  }
}

/** Call records: `for await (const cdr of fs.cdrs({ durable: "billing" }))`. Leaving the loop ends it. */
export class Cdrs implements AsyncIterable<Cdr> {
  /** Messages in the stream that are no records; they are not delivered again. */
  malformed = 0;
  private readonly waiting = new Waiting<Cdr>();
  private stop: (() => void) | undefined;
  private closed = false;
  private begun: Promise<void> | undefined;

  /** @internal */
  constructor(private readonly client: Client, private readonly nats: NatsConnection, private readonly options: CdrsOptions) {
    checkOptions("cdrs", options, ["durable", "stream", "ackWait"]);
    if (typeof options.durable !== "string" || !isToken(options.durable)) throw new Refused("durable must be one word", "durable");
    client.link.on("end", (error) => {
      this.closed = true;
      this.waiting.end(error, true);
    });
  }

  /** Find the stream and its consumer. Iterating does it by itself. Throws Refused if there is no stream, LinkError. */
  begin(): Promise<void> {
    this.begun ??= this.find().then((consumer) => void this.follow(consumer));
    return this.begun;
  }

  private async find(): Promise<Consumer> {
    const { prefix } = this.client;
    await this.client.link.ready();
    const js = jetstream(this.nats, { timeout: 5_000 });
    const manager = await js.jetstreamManager(false);
    let stream = this.options.stream ?? "";
    try {
      if (stream === "") stream = await manager.streams.find(`${prefix}.cdr.any_node`);
      const there = await manager.consumers.info(stream, this.options.durable).catch(() => undefined);
      const same = this.options.ackWait === undefined || there?.config.ack_wait === this.options.ackWait * 1e9;
      if (there === undefined || !same) await manager.consumers.add(stream, {
        durable_name: this.options.durable,
        ack_policy: AckPolicy.Explicit,
        deliver_policy: DeliverPolicy.All,
        filter_subject: `${prefix}.cdr.>`,
        ack_wait: (this.options.ackWait ?? 30) * 1e9,
      });
      return await js.consumers.get(stream, this.options.durable);
    } catch (error) {
      const what = stream === "" ? `no stream takes ${prefix}.cdr.>` : `stream ${stream}, consumer ${this.options.durable}`;
      if (!this.client.connected) throw new LinkError(`${what}: the link to NATS was lost`);
      throw new Refused(`${what}: ${wordsOf(error)}`, "stream");
    }
  }

  /** Until it is closed: what ends a delivery (a server that restarts, a leader that changes) begins another. */
  private async follow(consumer: Consumer): Promise<void> {
    while (!this.closed) {
      try {
        const messages = await consumer.consume({ max_messages: AHEAD, idle_heartbeat: 2_000, expires: 10_000 });
        this.stop = () => messages.stop();
        if (this.closed) messages.stop();
        for await (const message of messages) this.take(message);
      } catch {
        // The next turn says whether it is still so.
      }
      if (this.closed) break;
      await pause(1);
      consumer = await this.find().catch((error: AgentError) => {
        if (error instanceof Refused && this.client.connected) this.client.report(error);
        return consumer;
      });
    }
  }

  private take(message: JsMsg): void {
    const found = objectOf(message.data);
    if (this.closed) message.nak();
    else if (found?.event_name === "CDR") this.waiting.put(new Cdr(found as unknown as CdrRecord, message, this.client));
    else {
      this.malformed += 1;
      message.term("no call record");
    }
  }

  /** The next record; undefined if none came within `wait` seconds, or after the end. */
  async next(wait?: number): Promise<Cdr | undefined> {
    await this.begin();
    return this.waiting.next(wait);
  }

  close(): void {
    this.closed = true;
    this.stop?.();
    // Nobody will read these here: they are for the next reader, at once.
    for (const cdr of this.waiting.drain()) cdr.nak();
    this.waiting.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Cdr, void, void> {
    try {
      for (let cdr = await this.next(); cdr !== undefined; cdr = await this.next()) yield cdr;
    } finally {
      this.close();
    }
  }
}
