// Events as they come, and streams of them.

import type { Link, Message, Subscription } from "./link.js";
import { NotAllowed, Refused, type AgentError, type Reply } from "./errors.js";
import { eventPattern, keptBack, objectOf, patternTakes, slug, withoutDoubles, type Filters } from "./protocol.js";

/** One event. What is not in it is "", never undefined: FreeSWITCH leaves out what is empty. */
export class Event<N extends string = string> {
  readonly kind = "event";

  /** `raw`: all of it, as docs/API.md describes it. */
  constructor(readonly raw: Record<string, unknown>) {}

  /** CHANNEL_ANSWER. */
  get name(): N {
    return String(this.raw.event_name ?? "") as N;
  }

  /** The channel's, "" if the event is of none. */
  get uuid(): string {
    return String(this.raw.uuid ?? "");
  }

  /** The node's name as it is configured. */
  get node(): string {
    return String(this.raw.node_id ?? "unknown");
  }

  /** Microseconds since 1970, by FreeSWITCH's clock. */
  get timestamp(): number {
    return typeof this.raw.timestamp === "number" ? this.raw.timestamp : 0;
  }

  get headers(): Record<string, string | string[]> {
    const found = this.raw.headers;
    return typeof found === "object" && found !== null ? (found as Record<string, string | string[]>) : {};
  }

  get body(): string {
    return String(this.raw.body ?? "");
  }

  /** One header, the first of a list. */
  header(name: string): string {
    const headers = this.headers;
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    return String((Array.isArray(value) ? value[0] : value) ?? "");
  }

  /** A channel variable. */
  variable(name: string): string {
    return this.header(`variable_${name}`);
  }
}

/** What all events of channels have. */
export class ChannelEvent<N extends string = string> extends Event<N> {
  /** "inbound" or "outbound", as FreeSWITCH sees it. */
  get direction(): string {
    return this.header("Call-Direction");
  }

  get callerNumber(): string {
    return this.header("Caller-Caller-ID-Number");
  }

  get callerName(): string {
    return this.header("Caller-Caller-ID-Name");
  }

  /** The number dialled. */
  get destination(): string {
    return this.header("Caller-Destination-Number");
  }

  get context(): string {
    return this.header("Caller-Context");
  }

  /** `sofia/internal/1000@…`. */
  get channelName(): string {
    return this.header("Channel-Name");
  }

  /** The other leg's uuid. */
  get otherUuid(): string {
    const names = ["Other-Leg-Unique-ID", "Bridge-B-Unique-ID", "Bridge-A-Unique-ID"];
    return names.map((name) => this.header(name)).find((found) => found !== "" && found !== this.uuid) ?? "";
  }
}

/** A channel begins. */
export class ChannelCreate extends ChannelEvent<"CHANNEL_CREATE"> {}

/** It rings. */
export class ChannelProgress extends ChannelEvent<"CHANNEL_PROGRESS" | "CHANNEL_PROGRESS_MEDIA"> {}

/** It was answered. */
export class ChannelAnswer extends ChannelEvent<"CHANNEL_ANSWER"> {}

/** It is parked. */
export class ChannelPark extends ChannelEvent<"CHANNEL_PARK"> {}

/** It is connected to another one: `otherUuid`. */
export class ChannelBridge extends ChannelEvent<"CHANNEL_BRIDGE"> {}

/** It is not any more. */
export class ChannelUnbridge extends ChannelEvent<"CHANNEL_UNBRIDGE"> {}

/** It has hung up, or was; what is left of it comes with ChannelHangupComplete. */
export class ChannelHangup<N extends string = "CHANNEL_HANGUP"> extends ChannelEvent<N> {
  /** NORMAL_CLEARING, USER_BUSY, … */
  get cause(): string {
    return this.header("Hangup-Cause");
  }
}

/** The same, with all variables of the channel. */
export class ChannelHangupComplete extends ChannelHangup<"CHANNEL_HANGUP_COMPLETE"> {
  /** Seconds from its beginning to its end. */
  get duration(): number {
    return secondsOf(this.variable("mduration"));
  }

  /** Seconds from its answer to its end. */
  get billsec(): number {
    return secondsOf(this.variable("billmsec"));
  }
}

/** The last event of a channel. */
export class ChannelDestroy extends ChannelEvent<"CHANNEL_DESTROY"> {}

/** An application begins on it. */
export class ChannelExecute<N extends string = "CHANNEL_EXECUTE"> extends ChannelEvent<N> {
  get application(): string {
    return this.header("Application");
  }

  /** Its arguments; FreeSWITCH leaves the header out if there are none. */
  get data(): string {
    return this.header("Application-Data");
  }

  /** `app_uuid` of the reply to execute_app. */
  get appUuid(): string {
    return this.header("Application-UUID");
  }
}

/** An application has ended on it. */
export class ChannelExecuteComplete extends ChannelExecute<"CHANNEL_EXECUTE_COMPLETE"> {
  get response(): string {
    return this.header("Application-Response");
  }
}

/** A digit was dialled. The shipped configuration excludes these events; `call.events()` has them all the same. */
export class Dtmf extends ChannelEvent<"DTMF"> {
  get digit(): string {
    return this.header("DTMF-Digit");
  }
}

/** A file was played, or playing it was ended. */
export class PlaybackStop extends ChannelEvent<"PLAYBACK_STOP"> {
  get path(): string {
    return this.header("Playback-File-Path");
  }

  get completed(): boolean {
    return this.header("Playback-Status") === "done";
  }
}

/** A recording has ended. */
export class RecordStop extends ChannelEvent<"RECORD_STOP"> {
  /** On the node's disk. */
  get path(): string {
    return this.header("Record-File-Path");
  }
}

/** The end of a bgapi; its output is in `body`. */
export class BackgroundJob extends Event<"BACKGROUND_JOB"> {
  get job(): string {
    return this.header("Job-UUID");
  }
}

/** An event of a module. */
export class Custom extends Event<"CUSTOM"> {
  /** `sofia::register`. */
  get subclass(): string {
    return this.header("Event-Subclass");
  }
}

/** An agent has its connections to FreeSWITCH, for the first time or again. */
export class AgentConnected extends Event<"AGENT_CONNECTED"> {
  /** The channels that there are now; undefined if that is not known. */
  get channels(): Record<string, string>[] | undefined {
    const found = this.raw.channels;
    return Array.isArray(found) ? (found as Record<string, string>[]) : undefined;
  }
}

/** An agent ends, and says so. */
export class AgentStopping extends Event<"AGENT_STOPPING"> {}

const TYPES = {
  CHANNEL_CREATE: ChannelCreate, CHANNEL_PROGRESS: ChannelProgress, CHANNEL_PROGRESS_MEDIA: ChannelProgress,
  CHANNEL_ANSWER: ChannelAnswer, CHANNEL_PARK: ChannelPark, CHANNEL_BRIDGE: ChannelBridge,
  CHANNEL_UNBRIDGE: ChannelUnbridge, CHANNEL_HANGUP: ChannelHangup<"CHANNEL_HANGUP">,
  CHANNEL_HANGUP_COMPLETE: ChannelHangupComplete, CHANNEL_DESTROY: ChannelDestroy,
  CHANNEL_EXECUTE: ChannelExecute<"CHANNEL_EXECUTE">, CHANNEL_EXECUTE_COMPLETE: ChannelExecuteComplete, DTMF: Dtmf,
  PLAYBACK_STOP: PlaybackStop, RECORD_STOP: RecordStop, BACKGROUND_JOB: BackgroundJob, CUSTOM: Custom,
  AGENT_CONNECTED: AgentConnected, AGENT_STOPPING: AgentStopping,
};

/** The events that have a type of their own, by their names. */
export type EventTypes = { [N in keyof typeof TYPES]: InstanceType<(typeof TYPES)[N]> };

/** The type of the events that come for a name: its own, that of events of channels, or Event for a pattern. */
export type EventOf<N extends string> = N extends keyof EventTypes
  ? EventTypes[N]
  : N extends `${string}*` | `${string}>` ? Event
  : N extends `${string}::${string}` ? Custom
  : N extends `CHANNEL_${string}` ? ChannelEvent<N>
  : Event;

/** Names of events, for an editor to offer; any other text is allowed. */
export type EventName =
  | keyof EventTypes | "AGENT_DISCONNECTED" | "AGENT_GAP" | "AGENT_CHANNEL_GONE" | "AGENT_CHANNEL_FOUND"
  | "AGENT_READINESS" | "AGENT_HEARTBEAT"
  | (string & {});

function secondsOf(milliseconds: string): number {
  return /^\d+$/.test(milliseconds) ? Number(milliseconds) / 1000 : 0;
}

/** Something is missing here: events were lost, or may have been. */
export class Gap {
  readonly kind = "gap";

  constructor(
    /** That of `agent.gap`, or "link lost" and "too slow" for losses on this client's own way. */
    readonly reason: string,
    /** Whose events; "" if it may be those of all nodes. */
    readonly node = "",
    /** How many; null if that can't be known. */
    readonly count: number | null = null,
    /** Microseconds since 1970; null if not known. */
    readonly from: number | null = null,
    readonly to: number | null = null,
  ) {}
}

/** Why a node does not publish an event, by its agent.status; "" if it may. Older agents do not say. */
export function whyNotPublished(name: string, status: Reply): string {
  const filters = (status.data as { events?: Filters } | undefined)?.events;
  const why = filters === undefined ? "" : keptBack(name, filters);
  return why === "" ? "" : `${status.node_id}: ${why}`;
}

/** The event in a message; undefined if it is none. */
export function eventOf(data: Uint8Array): Event | undefined {
  const found = objectOf(data);
  const name = found?.event_name;
  if (found === undefined || typeof name !== "string") return undefined;
  if (Object.hasOwn(TYPES, name)) return new TYPES[name as keyof typeof TYPES](found);
  const event = new ChannelEvent(found);
  return name.startsWith("CHANNEL_") || event.header("Unique-ID") !== "" ? event : new Event(found);
}

function gapOf(event: Event): Gap {
  const number = (name: string): number | null => {
    const value = event.raw[name];
    return typeof value === "number" ? value : null;
  };
  return new Gap(String(event.raw.reason ?? ""), event.node, number("count"), number("from"), number("to"));
}

/** What waits for a reader: bounded, with an end. One reader at a time. */
export class Waiting<T> {
  private items: T[] = [];
  private head = 0;
  private wake: (() => void) | undefined;
  private over: { error?: AgentError } | undefined;

  get size(): number {
    return this.items.length - this.head;
  }

  put(item: T): void {
    if (this.over === undefined) {
      this.items.push(item);
      this.wake?.();
    }
  }

  /** All that waits. */
  drain(): T[] {
    const left = this.items.slice(this.head);
    [this.items, this.head] = [[], 0];
    return left;
  }

  /** No more from here on. What waits is still read, unless it is dropped; then `error` is thrown, if there is one. */
  end(error?: AgentError, drop = false): void {
    if (this.over === undefined) this.over = error === undefined ? {} : { error };
    if (drop) this.drain();
    this.wake?.();
  }

  /** The next item; undefined at the end, or if none came within `wait` seconds. */
  async next(wait?: number): Promise<T | undefined> {
    const until = wait === undefined ? Infinity : Date.now() + wait * 1000;
    while (this.size === 0) {
      if (this.over !== undefined) {
        if (this.over.error !== undefined) throw this.over.error;
        return undefined;
      }
      const left = until - Date.now();
      if (left <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = left === Infinity ? undefined : setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.wake = undefined;
    }
    const item = this.items[this.head++] as T;
    if (this.head > 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return item;
  }
}

export interface EventsOptions {
  /** Only the events of this node. */
  node?: string;
  /** How many wait for a reader who is slower than they come; what finds no room becomes one Gap. 10,000. */
  size?: number;
  /** Refuse events that no node publishes. True. */
  check?: boolean;
}

/** A stream of events: `for await (const item of fs.events("CHANNEL_ANSWER"))`. Leaving the loop ends it. */
export class Events<E extends Event = Event> implements AsyncIterable<E | Gap> {
  private readonly waiting = new Waiting<E | Gap>();
  private readonly subjects: string[];
  private readonly only: string;
  private readonly size: number;
  private readonly gapToo: boolean;
  private subs: Subscription[] = [];
  private missed: { count: number; from: number; to: number } | undefined;
  private lostAt = 0;
  private begun: Promise<void> | undefined;
  private forget: (() => void)[] = [];

  /** @internal */
  constructor(
    private readonly link: Link,
    private readonly names: readonly string[],
    private readonly options: EventsOptions,
    private readonly statuses: () => Promise<Reply[]>,
  ) {
    const patterns = names.length > 0 ? names.map(eventPattern) : [">"];
    const gap = `${link.prefix}.events.agent.gap`;
    const wanted = patterns.map((each) => `${link.prefix}.events.${each}`);
    this.gapToo = wanted.some((each) => patternTakes(each, gap));
    this.subjects = withoutDoubles([...wanted, gap]);
    this.only = options.node === undefined ? "" : slug(options.node);
    this.size = options.size ?? 10_000;
  }

  /** Listen: events are kept from now on. Iterating does it by itself. Throws Refused, NotAllowed, LinkError. */
  begin(): Promise<void> {
    this.begun ??= this.listen();
    return this.begun;
  }

  private async listen(): Promise<void> {
    const { link } = this;
    await link.ready();
    this.forget.push(link.on("down", () => (this.lostAt = Date.now() * 1000)));
    this.forget.push(link.on("up", () => this.put(new Gap("link lost", "", null, this.lostAt, Date.now() * 1000))));
    this.forget.push(link.on("end", (error) => this.waiting.end(error)));
    let refused: NotAllowed | undefined;
    for (const subject of this.subjects) {
      this.subs.push(link.subscribe(subject, (message) => this.heard(message), {
        refused: (error) => {
          refused = error;
          this.finish(error);
        },
      }));
    }
    try {
      await link.flush();
      if (refused !== undefined) throw refused;
      if (this.options.check !== false) await this.lookAtFilters();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private async lookAtFilters(): Promise<void> {
    const named = this.names.filter((each) => !/[*>]/.test(each));
    if (named.length === 0) return;
    const statuses = (await this.statuses()).filter((each) => !this.only || slug(each.node_id) === this.only);
    if (statuses.length === 0) return; // nobody is there yet
    for (const name of named) {
      const reasons = statuses.map((each) => whyNotPublished(name, each));
      if (reasons.every((why) => why !== "")) {
        throw new Refused(`${name} is not published (${reasons.join("; ")}); the events of one call are in call.events()`, "events");
      }
    }
  }

  private heard(message: Message): void {
    const event = eventOf(message.data);
    if (event === undefined || (this.only !== "" && slug(event.node) !== this.only)) return;
    this.put(event.name === "AGENT_GAP" && !this.gapToo ? gapOf(event) : (event as E)); // its subject was asked for
  }

  private put(item: E | Gap): void {
    const at = Date.now() * 1000;
    if (this.waiting.size >= this.size || (this.missed !== undefined && this.waiting.size > this.size / 2)) {
      this.missed = { count: (this.missed?.count ?? 0) + 1, from: this.missed?.from ?? at, to: at };
      return;
    }
    this.tellMissed();
    this.waiting.put(item);
  }

  private tellMissed(): void {
    const { missed } = this;
    this.missed = undefined;
    if (missed) this.waiting.put(new Gap("too slow", "", missed.count, missed.from, missed.to));
  }

  /** The next event or gap; undefined if none came within `wait` seconds, or after the end. */
  async next(wait?: number): Promise<E | Gap | undefined> {
    await this.begin();
    if (this.waiting.size === 0) this.tellMissed();
    return this.waiting.next(wait);
  }

  /** No more events from here on. */
  close(): void {
    this.finish();
  }

  private finish(error?: AgentError): void {
    for (const each of this.forget) each();
    for (const each of this.subs) each.unsubscribe();
    [this.forget, this.subs] = [[], []];
    this.waiting.end(error, error === undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<E | Gap, void, void> {
    try {
      for (let item = await this.next(); item !== undefined; item = await this.next()) yield item;
    } finally {
      this.close();
    }
  }
}
