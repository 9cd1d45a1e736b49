/// <reference lib="esnext.disposable" preserve="true" />
// One call: what its events tell of it, and what can be done with it.

import type { Client } from "./client.js";
import { CommandFailed, Hangup, NoAgent, NoInput, NoReply, Refused, callFailed, failureOf, type AgentError, type Reply } from "./errors.js";
import {
  ChannelBridge, ChannelEvent, ChannelExecute, ChannelExecuteComplete, ChannelHangup, ChannelHangupComplete, Waiting,
  type Event, type EventName, type EventOf,
} from "./events.js";
import { UNNAMED, checkOptions, isToken, quoted, timeFor, type Payload } from "./protocol.js";

const LONGEST = 3600; // seconds that the agents wait for the end of an application
const SHORT = 5; // seconds for what is answered at once
const PATIENCE = 10; // seconds that a call's agent may be away
const SETTLE = 3; // seconds after which what the agent kept for us has come, once NATS is back
const RESPONSE = "current_application_response";
const UNSEEN = "unknown"; // the cause of an end that nobody saw

export type Variables = Record<string, string | number | boolean>;
/** A number, or a name and a number. */
export type CallerId = string | readonly [name: string, number: string];

/** How a call ended. */
export interface End {
  /** FreeSWITCH's word for why; "unknown" if its end was not seen. */
  cause: string;
  /** Seconds from its beginning, and from its answer, to its end; null if not known. */
  duration: number | null;
  billsec: number | null;
  /** With all variables of the channel. */
  event?: ChannelHangupComplete;
}

/** How an application ended. */
export interface Done {
  /** FreeSWITCH's `Application-Response`. */
  response: string;
  /** Those that were asked for; null for one that is not set. */
  variables: Record<string, string | string[] | null>;
}

export interface Recording {
  /** On the node's disk. */
  path: string;
  seconds: number;
  /** The key that ended it, "" if none did. */
  terminator: string;
}

export interface DigitsOptions {
  /** How many at most; as many as asked for. */
  most?: number;
  /** Played first; the first digit ends it. */
  prompt?: string;
  /** Played after a try that did not fit. */
  invalid?: string;
  /** 1. */
  tries?: number;
  /** Seconds until the first digit. 6. */
  timeout?: number;
  /** Seconds until each further digit; as `timeout`. */
  between?: number;
  /** The key that ends them early, "" for none. "#". */
  end?: string;
  /** What they must match, a regular expression of FreeSWITCH. `\d+`. */
  pattern?: string;
}

export interface SayOptions {
  /** FreeSWITCH's say type: "number", "current_time", "short_date_time", "name_spelled", … "number". */
  kind?: string;
  /** "pronounced". */
  method?: string;
  /** "en". */
  language?: string;
}

export interface RecordOptions {
  /** Seconds. */
  limit?: number;
  /** Seconds of silence that end it. */
  silence?: number;
  /** What counts as silence. 200. */
  level?: number;
  /** The key that ends it, "" for none. "#". */
  end?: string;
}

export interface BridgeOptions {
  /** Seconds that the other end may ring. */
  ring?: number;
  callerId?: CallerId;
  /** Variables of the other leg. */
  variables?: Variables;
  /** Seconds until it must have answered or failed. An hour. */
  wait?: number;
}

interface Wait {
  wanted: ((event: Event) => boolean) | undefined;
  resolve: (event: Event) => void;
  reject: (error: AgentError) => void;
}

/** An application whose end is waited for: the reply says how it ended, or, if that is lost, the events do. */
interface Running {
  app: string;
  names: readonly string[];
  /** That of its events, "" while it is not known that it has begun. */
  uuid: string;
  complete?: ChannelExecuteComplete;
  end?: (how: AgentError | Reply) => void;
}

/** What is waited for, and can be left. */
interface Expected<T> {
  promise: Promise<T>;
  leave: () => void;
}

/**
 * One call (one channel). It knows its node, and hears of its own end.
 *
 * A method that waits ends with Hangup when the call does. Others that can come of each: Refused and CommandFailed,
 * what FreeSWITCH or the agent said; NoAgent, no agent has it any more; NoReply and LinkError, what has become of the
 * command is not known (`executed`).
 */
export class Call {
  /** The last event that was seen of it, with all headers and variables as they were then. */
  event: ChannelEvent;
  /** The node that has it. */
  node: string;
  answered: boolean;
  /** Why it has ended, "" while it has not. */
  cause = "";
  /** The other leg's uuid, "" if it is connected to none. */
  bridgedTo = "";
  /** @internal How often an event has said to whom it is connected, or to nobody. */
  joins = 0;
  /** @internal It is in the state of a leg that is connected, and was called. */
  called = false;
  private movedAt = -1; // Event-Sequence of the last CHANNEL_STATE
  /** @internal Where its events come: the last part of their subject. */
  readonly place: string;
  /** @internal false while it is being made: there may be no channel yet. */
  settled = true;
  /** @internal */
  released = false;
  private complete: ChannelHangupComplete | undefined;
  private over = false;
  private readonly waits = new Set<Wait>();
  private readonly running = new Set<Running>();
  private readonly listeners = new Set<Waiting<Event>>();
  /** Applications whose replies have come: their events may come later, and are not those of others. */
  private readonly known = new Set<string>();
  /** Those whose reply may have been lost. */
  private readonly lost = new WeakSet<Running>();

  /** @internal */
  constructor(private readonly client: Client, readonly uuid: string, node: string, event?: ChannelEvent) {
    this.place = client.place();
    this.node = node;
    this.event = event ?? new ChannelEvent({ event_name: "", uuid, node_id: node });
    this.answered = this.event.header("Answer-State") === "answered";
  }

  /** false once it has ended. */
  get up(): boolean {
    return this.cause === "";
  }

  get callerNumber(): string {
    return this.event.callerNumber;
  }

  get callerName(): string {
    return this.event.callerName;
  }

  /** The number dialled. */
  get destination(): string {
    return this.event.destination;
  }

  get context(): string {
    return this.event.context;
  }

  // -- commands

  /** A command on the call's own lane: it reaches the node that has the call. Throws Hangup if none has. */
  async request(command: string, fields: Record<string, unknown> = {}, options: { wait?: number } = {}): Promise<Reply> {
    checkOptions("a request", options, ["wait"]);
    const payload: Payload = { ...fields, command };
    return checked(await this.ask(payload, options.wait ?? timeFor(payload, this.client.link.wait)));
  }

  /** A FreeSWITCH API command on the node that has the call: `call.api("uuid_getvar … name")`. Its output. */
  async api(line: string, options: { wait?: number } = {}): Promise<string> {
    const [, verb = "", args] = /^\s*(\S*)\s*([^]*?)\s*$/.exec(line) ?? [];
    return String((await this.request(verb, args ? { args } : {}, options)).data ?? "");
  }

  /** @internal */
  async ask(payload: Payload, wait: number, running?: Running): Promise<Reply> {
    const { link } = this.client;
    const until = Date.now() + wait * 1000;
    const patience = Math.min(until, Date.now() + PATIENCE * 1000);
    const lanes = isToken(this.uuid) ? [`${link.prefix}.call.${this.uuid}`] : [];
    // A node without a name has no lane of its own; on that of all others would answer as well.
    if (lanes.length === 0 || (this.node !== "" && this.node !== UNNAMED)) lanes.push(this.client.laneOf(this.node));
    for (;;) {
      let missing: NoAgent | undefined;
      for (const [at, lane] of lanes.entries()) {
        if (!this.up) throw new Hangup(this.cause);
        try {
          const reply = await this.once(lane, payload, Math.max(0.05, (until - Date.now()) / 1000), running);
          if (typeof reply.app_uuid === "string") this.known.add(reply.app_uuid);
          // FreeSWITCH's own error may be that the channel has just ended, before its events have said so.
          if (!reply.success && typeof reply.data === "string" && (await this.isGone())) throw new Hangup(this.cause);
          return reply;
        } catch (error) {
          if (!(error instanceof NoAgent)) throw error;
          missing = error;
        }
        if (at === 0 && (await this.isGone())) throw new Hangup(this.cause);
      }
      if (Date.now() > patience) throw missing ?? new NoAgent("no agent has it");
      await pause(0.2);
    }
  }

  /** One request that the call's end ends, too. */
  private async once(lane: string, payload: Payload, wait: number, running?: Running): Promise<Reply> {
    const ended = this.expect();
    try {
      return await this.client.link.request(lane, payload, wait, {
        held: running !== undefined,
        begun: (end) => {
          if (running) running.end = end;
          ended.promise.catch(end);
        },
      });
    } finally {
      ended.leave();
    }
  }

  /** Nobody listens on the call's lane: whether that is because it has ended. Its node is asked. */
  private async isGone(): Promise<boolean> {
    const ask: Payload = { command: "uuid_exists", args: this.uuid };
    const replies = await this.client.link.gather(this.client.laneOf(this.node), ask, SHORT, this.node ? 0 : 0.3).catch(() => []);
    const known = replies.filter((each) => each.success);
    if (known.length === 0 || known.some((each) => String(each.data).trim() !== "false")) return false;
    for (let turn = 0; turn < 50 && this.up; turn++) await pause(0.02); // its last events may be on their way
    this.gone();
    return true;
  }

  /**
   * Run a dialplan application and wait for its end. `result` names the channel variables that are wanted. `wait` is
   * how long it may take, in seconds: an hour if it is left out. Throws Hangup when the call ends; Refused for an
   * application that there is not.
   */
  async execute(app: string, args = "", options: { wait?: number; result?: readonly string[] } = {}): Promise<Done> {
    checkOptions("execute", options, ["wait", "result"]);
    const seconds = Math.min(LONGEST, Math.max(0.1, options.wait ?? LONGEST));
    const names = options.result ?? [];
    const payload: Payload = { command: "execute_app", uuid: this.uuid, app, wait: seconds };
    if (args !== "") payload.args = args;
    if (names.length > 0) payload.result = names;
    const running: Running = { app, names, uuid: "" };
    this.running.add(running);
    try {
      const reply = checked(await this.ask(payload, seconds + 10, running));
      const data = (reply.data ?? {}) as Partial<Done>;
      return { response: data.response ?? "", variables: data.variables ?? {} };
    } finally {
      this.running.delete(running);
    }
  }

  /** The same without waiting for its end. Returns `app_uuid`, the `appUuid` of its events. */
  async start(app: string, args = ""): Promise<string> {
    const fields = { uuid: this.uuid, app, ...(args === "" ? {} : { args }) };
    return String((await this.request("execute_app", fields)).app_uuid ?? "");
  }

  /** Answer it; nothing happens if it is. */
  async answer(): Promise<void> {
    if (!this.answered) await this.execute("answer", "", { wait: 30 });
    this.answered = true;
  }

  /** Let the caller hear that it rings (180), without answering. */
  async ring(): Promise<void> {
    await this.execute("ring_ready", "", { wait: 30 });
  }

  /**
   * Play a file, or a stream such as `tone_stream://%(300,100,800)`, and wait for its end. Returns FreeSWITCH's word
   * for how it ended: `FILE PLAYED`, `FILE NOT FOUND`, …
   */
  async play(what: string, options: { wait?: number } = {}): Promise<string> {
    return (await this.execute("playback", what, options)).response;
  }

  /** End what is played now. */
  async stop(): Promise<void> {
    await this.request("uuid_break", { args: `${this.uuid} all` });
  }

  /** Silence for so long; ends with Hangup when the call does. */
  async sleep(seconds: number): Promise<void> {
    await this.execute("sleep", String(Math.round(seconds * 1000)), { wait: seconds + 30 });
  }

  /**
   * What the caller dials: `count` digits, or `count` to `most`, ended early by the key `end`. What does not match
   * `pattern`, or is too short, gets `invalid` played and another of the `tries`. Throws NoInput if none has brought
   * what was asked for.
   */
  async digits(count: number, options: DigitsOptions = {}): Promise<string> {
    checkOptions("digits", options, ["most", "prompt", "invalid", "tries", "timeout", "between", "end", "pattern"]);
    const { most = count, tries = 1, timeout = 6, prompt = "", invalid = "", end = "#", pattern = "\\d+" } = options;
    const between = options.between ?? timeout;
    const whole = [count, most, tries].every(Number.isInteger);
    if (!whole || count < 1 || count > most || most > 128 || tries < 1 || tries > 100) {
      throw new Refused("count must be 1 to 128, and not over most; tries must be 1 to 100", "count");
    }
    if (!(timeout > 0 && timeout <= 3600 && between > 0 && between <= 3600)) {
      throw new Refused("timeout and between must be over 0 and at most 3600 seconds", "timeout");
    }
    const silence = "silence_stream://10";
    const words = [
      count, most, tries, Math.round(timeout * 1000), end || "none", prompt || silence, invalid || silence,
      "event_agent_digits", pattern, Math.round(between * 1000),
    ].map((word) => quoted(String(word)));
    const wait = tries * (timeout + most * between + 300);
    const done = await this.execute("play_and_get_digits", words.join(" "), { wait, result: ["event_agent_digits"] });
    const found = done.variables.event_agent_digits;
    if (typeof found === "string" && found !== "") return found;
    throw new NoInput(`nothing that fits was dialled in ${tries} ${tries === 1 ? "try" : "tries"}`);
  }

  /**
   * Say a number, a date, …, with FreeSWITCH's `say` and its sound files: `call.say("4711", { kind: "number" })`. Throws
   * CommandFailed if nothing was played: the node has no say module (mod_say_en), no language of that name, no sound
   * files, or the text does not fit the kind. FreeSWITCH itself says so in its log only.
   */
  async say(text: string, options: SayOptions = {}): Promise<void> {
    checkOptions("say", options, ["kind", "method", "language"]);
    const { kind = "number", method = "pronounced", language = "en" } = options;
    await this.set({ playback_ms: "" }); // of what was played before
    const words = [language, kind, method, text].map(quoted).join(" ");
    const { variables } = await this.execute("say", words, { result: ["playback_ms"] });
    if (variables.playback_ms === undefined || variables.playback_ms === null)
      throw new CommandFailed(
        `nothing was said: the node has no say module, language or sound files for "${language}", ` +
          `or "${text}" is no ${kind}; see FreeSWITCH's log`,
      );
  }

  /** Say a text with a text-to-speech engine of FreeSWITCH, such as flite with voice kal. */
  async speak(text: string, options: { engine: string; voice: string }): Promise<void> {
    checkOptions("speak", options, ["engine", "voice"]);
    await this.execute("speak", `${options.engine}|${options.voice}|${text}`);
  }

  /** Record the caller to a file on the node's disk; ends with the key `end`, `limit`, or `silence`. */
  async record(path: string, options: RecordOptions = {}): Promise<Recording> {
    checkOptions("record", options, ["limit", "silence", "level", "end"]);
    const { limit, silence, level = 200, end = "#" } = options;
    await this.set({ playback_terminators: end || "none" });
    const words = [quoted(path)];
    if (limit !== undefined || silence !== undefined) words.push(String(Math.round(limit ?? 0)));
    if (silence !== undefined) words.push(String(level), String(Math.max(1, Math.round(silence))));
    const result = ["record_seconds", "record_ms", "playback_terminator_used"];
    const { variables } = await this.execute("record", words.join(" "), { result });
    const ms = Number(variables.record_ms ?? Number.NaN);
    const seconds = Number.isNaN(ms) ? Number(variables.record_seconds ?? 0) : ms / 1000;
    return { path, seconds, terminator: String(variables.playback_terminator_used ?? "") };
  }

  /** Set channel variables. FreeSWITCH expands `${…}` in a value. */
  async set(variables: Variables): Promise<void> {
    const pairs = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    const mark = ["|", "~", ";", "!"].find((each) => !pairs.some((pair) => pair.includes(each)));
    if (pairs.length > 1 && mark !== undefined) await this.execute("multiset", `^^${mark}${pairs.join(mark)}`, { wait: 30 });
    else for (const pair of pairs) await this.execute("set", pair, { wait: 30 });
  }

  /** A channel variable; undefined if it is not set. */
  async get(name: string): Promise<string | undefined> {
    const found = await this.api(`uuid_getvar ${this.uuid} ${name}`);
    return found === "" || found === "_undef_" ? undefined : found;
  }

  /** Dial digits to the other end. */
  async sendDigits(digits: string): Promise<void> {
    await this.request("uuid_send_dtmf", { args: `${this.uuid} ${digits}` });
  }

  /**
   * Connect it to an endpoint, or to another call; returns the other leg, once they are connected. The caller hears
   * the other end ring. When the other leg hangs up this one goes on, and is yours again (`await other.ended()` waits
   * for that). Throws Busy, NoAnswer, … if nobody answers, Hangup if the caller hangs up.
   */
  async bridge(to: string | Call, options: BridgeOptions = {}): Promise<Call> {
    checkOptions("bridge", options, ["ring", "callerId", "variables", "wait"]);
    const settings: Variables = { hangup_after_bridge: false, park_after_bridge: true, continue_on_fail: true };
    if (to instanceof Call) {
      await this.set(settings);
      await to.set({ hangup_after_bridge: false, park_after_bridge: true });
      await this.connected(30, () => this.request("uuid_bridge", { args: `${this.uuid} ${to.uuid}` }));
      return to;
    }
    delete settings.park_after_bridge;
    if (options.ring !== undefined) settings.call_timeout = Math.max(1, Math.round(options.ring));
    if (options.callerId !== undefined) {
      const [name, number] = nameAndNumber(options.callerId);
      settings.effective_caller_id_name = name;
      settings.effective_caller_id_number = number;
    }
    await this.set(settings);
    for (const [name, value] of Object.entries(options.variables ?? {})) {
      await this.start("export", `nolocal:${name}=${value}`);
    }
    const event = await this.connected(options.wait ?? LONGEST, () => this.start("bridge", to));
    if (event instanceof ChannelBridge && event.otherUuid !== "") return this.client.take(event.otherUuid, this.node);
    const named = ["originate_failed_cause", "last_bridge_hangup_cause", "originate_disposition", "DIALSTATUS"];
    throw callFailed(named.map((name) => event.variable(name)).find((cause) => cause !== "") ?? "NORMAL_UNSPECIFIED");
  }

  /** What comes first of what begins a connection, and what ends a bridge without one. */
  private async connected(wait: number, begin: () => Promise<unknown>): Promise<Event> {
    let appUuid = "";
    const expected = this.expect((event) =>
      event instanceof ChannelBridge ||
      (event instanceof ChannelExecuteComplete && event.application === "bridge" && (!appUuid || event.appUuid === appUuid)),
    );
    try {
      const begun = await begin();
      if (typeof begun === "string") appUuid = begun;
      return await within(expected.promise, wait, "the call was neither connected nor refused");
    } finally {
      expected.leave();
    }
  }

  /** Send it to an extension of FreeSWITCH's dialplan. It is not hung up by us any more. */
  async transfer(extension: string, options: { context?: string; dialplan?: string } = {}): Promise<void> {
    checkOptions("transfer", options, ["context", "dialplan"]);
    const { context = "default", dialplan = "XML" } = options;
    await this.request("uuid_transfer", { args: `${this.uuid} ${extension} ${dialplan} ${context}` });
    this.released = true;
  }

  /** Leave it as it is when the handler or the `await using` ends. */
  letGo(): void {
    this.released = true;
  }

  /** End it; nothing happens if it has. */
  async hangup(cause = "NORMAL_CLEARING"): Promise<void> {
    try {
      checked(await this.ask({ command: "hangup", uuid: this.uuid, cause }, this.client.link.wait));
    } catch (error) {
      if (!(error instanceof Hangup)) throw error;
    }
  }

  /** Hangs it up, unless it was let go. For `await using call = await fs.dial(…)`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.up && !this.released) await this.client.endQuietly(this);
  }

  // -- waiting

  /** Wait for its end, and tell why. Throws NoReply if it has not ended within `wait` seconds (a day). */
  async ended(options: { wait?: number } = {}): Promise<End> {
    checkOptions("ended", options, ["wait"]);
    if (this.up) {
      await this.until(undefined, options.wait ?? 86_400).catch((error: unknown) => {
        if (!(error instanceof Hangup)) throw error;
      });
    }
    // What comes behind CHANNEL_HANGUP.
    for (let turn = 0; turn < 100 && this.complete === undefined && !this.over; turn++) await pause(0.02);
    const seconds = (name: string): number | null => {
      const text = this.complete?.variable(name) ?? "";
      return /^\d+$/.test(text) ? Number(text) / 1000 : null;
    };
    const end: End = { cause: this.cause, duration: seconds("mduration"), billsec: seconds("billmsec") };
    return this.complete === undefined ? end : { ...end, event: this.complete };
  }

  /** The next event of this call with one of these names. Throws Hangup, and NoReply if none came in time. */
  async waitFor<N extends EventName>(names: N | readonly N[], options: { wait: number }): Promise<EventOf<N>> {
    checkOptions("waitFor", options, ["wait"]);
    const wanted: readonly string[] = typeof names === "string" ? [names] : names;
    return (await this.until((event) => wanted.includes(event.name), options.wait)) as EventOf<N>;
  }

  /** All events of this call from now on, whatever the agents publish. It ends with the call. */
  events(): AsyncIterable<Event> {
    const waiting = new Waiting<Event>();
    if (this.over) waiting.end();
    else this.listeners.add(waiting);
    const { listeners } = this;
    return {
      async *[Symbol.asyncIterator]() {
        try {
          for (let event = await waiting.next(); event !== undefined; event = await waiting.next()) yield event;
        } finally {
          listeners.delete(waiting);
        }
      },
    };
  }

  private expect(wanted?: (event: Event) => boolean): Expected<Event> {
    let leave = (): void => undefined;
    const promise = new Promise<Event>((resolve, reject) => {
      const wait: Wait = { wanted, resolve, reject };
      if (this.up) this.waits.add(wait);
      else reject(new Hangup(this.cause));
      leave = () => void this.waits.delete(wait);
    });
    promise.catch(() => undefined); // nobody may be waiting yet, or any more
    return { promise, leave };
  }

  private async until(wanted: ((event: Event) => boolean) | undefined, wait: number): Promise<Event> {
    const expected = this.expect(wanted);
    try {
      return await within(expected.promise, wait, "it has not happened");
    } finally {
      expected.leave();
    }
  }

  /** @internal The first event of a call that was just made, for a second at most. */
  async first(): Promise<void> {
    await this.until(() => true, 1).catch(() => undefined);
  }

  /** @internal Ask FreeSWITCH who calls whom. Throws Hangup. */
  async look(): Promise<void> {
    const headers = JSON.parse(await this.api(`uuid_dump ${this.uuid} json`)) as Record<string, string>;
    this.event = new ChannelEvent({ event_name: "CHANNEL_DATA", uuid: this.uuid, node_id: this.node, headers });
  }

  /** @internal Whether something is waited for. */
  get waitedFor(): boolean {
    return this.waits.size > 0;
  }

  // -- events

  /** @internal */
  heard(event: Event): void {
    if (event.uuid !== "" && event.uuid !== this.uuid) return;
    if (event instanceof ChannelEvent) this.event = event;
    if (this.node === "") this.node = event.node;
    if (event.header("Answer-State") === "answered") this.answered = true;
    if (event instanceof ChannelBridge) this.joined(event.otherUuid);
    else if (event.name === "CHANNEL_UNBRIDGE") this.joined("");
    else if (event.name === "CHANNEL_STATE") this.moved(event);
    else if (event instanceof ChannelExecuteComplete) this.completed(event);
    else if (event instanceof ChannelExecute) this.began(event);
    for (const wait of [...this.waits]) {
      if (wait.wanted?.(event)) {
        this.waits.delete(wait);
        wait.resolve(event);
      }
    }
    for (const each of this.listeners) each.put(event);
    // Events do not always come in the order in which things happened: the first of the three ends it.
    if (event instanceof ChannelHangupComplete) this.complete = event;
    if (event.name === "CHANNEL_DESTROY") this.over = true;
    if (event instanceof ChannelHangup || this.over) {
      this.end(event.header("Hangup-Cause") || UNSEEN);
    } else if (event.name === "AGENT_CHANNEL_GONE") this.gone();
    if (this.over) this.forget();
  }

  /** FreeSWITCH says it of one of the two legs only. */
  private joined(to: string): void {
    this.joins += 1;
    const other = this.client.callOf(to === "" ? this.bridgedTo : to);
    if (other !== undefined && (to !== "" || other.bridgedTo === this.uuid)) other.bridgedTo = to === "" ? "" : this.uuid;
    this.bridgedTo = to;
  }

  /**
   * FreeSWITCH fires CHANNEL_BRIDGE and CHANNEL_UNBRIDGE for the calling leg only (switch_ivr_bridge.c,
   * switch_ivr_multi_threaded_bridge). The state of the called one is CS_EXCHANGE_MEDIA in between.
   */
  private moved(event: Event): void {
    const sequence = event.header("Event-Sequence");
    const number = /^\d+$/.test(sequence) ? Number(sequence) : this.movedAt;
    if (number < this.movedAt) return; // it has been overtaken
    this.movedAt = number;
    const before = this.called;
    this.called = event.header("Channel-State") === "CS_EXCHANGE_MEDIA";
    if (before && !this.called) this.joined("");
    else if (this.called && !before) void this.client.findPartner(this);
  }

  private began(event: ChannelExecute): void {
    if (this.known.has(event.appUuid)) return; // its reply has overtaken this event
    const running = [...this.running].find((each) => each.uuid === "" && each.app === event.application);
    if (running) running.uuid = event.appUuid;
  }

  private completed(event: ChannelExecuteComplete): void {
    const running = [...this.running].find((each) => each.uuid !== "" && each.uuid === event.appUuid);
    if (running === undefined) return;
    running.complete = event;
    // Its reply is on its way, or was lost with a link.
    if (this.lost.has(running)) setTimeout(() => this.finish(running), SHORT * 200);
  }

  /** The reply that was lost, by what the events say. */
  private finish(running: Running): void {
    const { complete } = running;
    if (complete === undefined || !this.running.has(running)) return;
    const variables = Object.fromEntries(running.names.map((name) => [name, complete.headers[`variable_${name}`] ?? null]));
    running.end?.({
      success: true, status: "success", message: "execute_app completed", timestamp: complete.timestamp,
      node_id: complete.node, data: { response: complete.response, variables },
    });
  }

  /** @internal It has ended unseen. */
  gone(): void {
    this.over = true;
    this.end(UNSEEN);
    this.forget();
  }

  private end(cause: string): void {
    // What is known of it first counts, but a cause wins over none.
    if (this.up || (this.cause === UNSEEN && cause !== UNSEEN)) this.cause = cause;
    this.fail(new Hangup(this.cause));
  }

  /** @internal What is waited for can't be heard of any more. */
  fail(error: AgentError, waits: readonly Wait[] = [...this.waits]): void {
    for (const wait of waits) if (this.waits.delete(wait)) wait.reject(error);
  }

  /** @internal The agent ends: what it has not answered by now it never will. */
  async stopping(): Promise<void> {
    const before = [...this.waits];
    await pause(2); // replies that are on their way
    this.fail(new NoReply("the agent has stopped, so the end is not known"), before);
  }

  /** @internal Nothing more is to be heard of it. */
  forget(): void {
    this.client.forget(this);
    for (const each of this.listeners) each.end();
  }

  /** @internal Have its events sent here. Throws Hangup if it is not there. */
  async watch(wait = this.client.link.wait): Promise<void> {
    const payload: Payload = { command: "call.watch", uuid: this.uuid, to: this.client.eventsTo(this) };
    const reply = checked(await this.ask(payload, wait));
    if (this.node === "") this.node = reply.node_id;
  }

  /** @internal After a loss: hear of it again, or of its end. An agent that was restarted answers no wait of before. */
  async resume(restarted: boolean): Promise<void> {
    if (!this.settled || !this.up) return;
    const before = [...this.running];
    for (const each of before) this.lost.add(each);
    await this.watch(SHORT).catch(() => undefined);
    await pause(SETTLE); // replies and events that are on their way
    for (const each of before) {
      if (each.complete !== undefined) this.finish(each);
      else if (!this.running.has(each)) continue;
      else if (restarted) each.end?.(new NoReply("the agent was restarted, so the end is not known"));
      else if (each.uuid === "") each.end?.(new NoReply("the link to NATS was lost, and nothing was heard of it since"));
      else void this.follow(each);
    }
  }

  /** Its reply and its events may have come before we listened again: look whether it still runs. */
  private async follow(running: Running): Promise<void> {
    for (let looks = 0; this.running.has(running) && running.complete === undefined && this.up; ) {
      looks = (await this.seemsOver(running).catch(() => false)) ? looks + 1 : 0;
      if (looks >= 2 && this.running.has(running)) {
        const values = await Promise.all(running.names.map((name) => this.get(name))).catch(() => undefined);
        if (values === undefined) { // the call has ended, or the link is lost again
          looks = 0;
          await pause(1);
          continue;
        }
        const variables = Object.fromEntries(running.names.map((name, at) => [name, values[at] ?? null]));
        running.end?.({
          success: true, status: "success", message: "execute_app completed", timestamp: Date.now() * 1000,
          node_id: this.node, data: { response: (await this.get(RESPONSE).catch(() => undefined)) ?? "", variables },
        });
        return;
      }
      await pause(1);
    }
  }

  /** The agent waits for the end of no application, or FreeSWITCH has noted how this one ended. */
  private async seemsOver(running: Running): Promise<boolean> {
    const status = await this.client.link.request(this.client.laneOf(this.node), { command: "agent.status" }, SHORT);
    if ((status.data as { applications_waiting?: number } | undefined)?.applications_waiting === 0) return true;
    if ((await this.get("current_application")) !== running.app) return false; // another one runs inside it
    const noted = { playback: RESPONSE, play_and_get_digits: "read_result" }[running.app];
    return noted !== undefined && (await this.get(noted)) !== undefined;
  }
}

export function nameAndNumber(callerId: CallerId): readonly [string, string] {
  return typeof callerId === "string" ? ["", callerId] : callerId;
}

/** @internal Itself. Throws what it stands for if it is an error. */
export function checked(reply: Reply): Reply {
  if (!reply.success) throw failureOf(reply);
  return reply;
}

/** @internal */
export function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

async function within<T>(promise: Promise<T>, wait: number, late: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<never>((_, reject) => {
    const ms = Math.min(wait * 1000, 2 ** 31 - 1);
    timer = setTimeout(() => reject(new NoReply(`${late} within ${wait} seconds`)), ms);
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}
