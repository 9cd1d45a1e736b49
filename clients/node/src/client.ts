/// <reference lib="esnext.disposable" preserve="true" />
// The client: requests, calls and events of all agents on a NATS server. It knows no transport: see index.ts and core.ts.

import { Call, checked, nameAndNumber, pause, type CallerId, type Variables } from "./call.js";
import { AgentError, CommandFailed, Hangup, LinkError, NoAgent, NoReply, NotAllowed, Refused, causeOf, wordsOf, type Reply } from "./errors.js";
import { ChannelEvent, ChannelPark, Events, whyNotPublished, eventOf, type EventName, type EventOf, type EventsOptions } from "./events.js";
import { Link, type LinkOptions, type Message, type NatsConnectionLike, type Subscription } from "./link.js";
import { Live, type LiveOptions } from "./live.js";
import {
  UNNAMED, checkOptions, isQuestion, isToken, laneOfOne, lineOf, newUuid, objectOf, slug, textOf, timeFor, type Payload,
} from "./protocol.js";
import { Routes, type RouteHandler, type RouteOptions } from "./route.js";

const GATHER = 5; // seconds
const SETTLE = 0.3; // seconds without a further reply after which nobody else is expected to answer
const LOOK = 5; // seconds between two looks at agents of whose calls something is waited for
const MISSED = 3; // looks without an answer after which an agent is given up
const CHANGES = 3; // how often a call that is taken may be connected to another one meanwhile
const PARTNER = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]; // seconds between two questions to whom a leg is connected
const ABANDON = 120; // seconds in which a call of which nothing is known is to be hung up

export interface ClientOptions extends LinkOptions {
  /** What nobody waits for: a handler that failed, park mode that can't be set. console.error. */
  onError?: (error: Error, call?: Call) => void;
  /** The link to NATS was lost (false), or is back (true). */
  onLink?: (up: boolean) => void;
}

export interface RequestOptions {
  /** Only this node; without it one that is ready. */
  node?: string;
  /** Seconds that the reply is waited for. */
  wait?: number;
}

export interface GatherOptions {
  /** Seconds until the first reply. */
  wait?: number;
  /** Seconds without a further one after which nobody else is expected to answer. */
  settle?: number;
}

export interface DialOptions {
  /** Seconds that it may ring; FreeSWITCH's own limit is 60. */
  ring?: number;
  callerId?: CallerId;
  variables?: Variables;
  /** Early media, such as a ringing tone, counts as answered. */
  earlyMedia?: boolean;
  node?: string;
  /** Seconds that the client waits for the outcome; a little more than `ring`. */
  wait?: number;
}

export interface IncomingOptions {
  context?: string | readonly string[];
  /** A regular expression, searched in the number dialled. */
  number?: string;
  /** What callers hear until something else is played: "silence", "ringback" or "music". "ringback". */
  audio?: "silence" | "ringback" | "music";
  /** The class of the music. */
  music?: string;
  /** Calls are answered before they are parked. */
  answer?: boolean;
  /** Numbers that are never taken, such as "112". */
  except?: string | readonly string[];
  /** The name by which workers that share the calls know each other; made of context and number. */
  group?: string;
  /** Only the calls of this node. */
  node?: string;
}

export type Handler = (call: Call) => unknown;

/** Incoming calls that are being taken. */
export interface Incoming {
  /** Take no more. Calls that were taken go on; park mode stays as it is. */
  stop(): void;
}

/** One node: `fs.node("fs-1")`; as `fs.any` whichever is ready. */
export class Node {
  /** @internal */
  constructor(private readonly client: Client, readonly name: string) {}

  private options(wait: number | undefined): RequestOptions {
    return { ...(this.name === "" ? {} : { node: this.name }), ...(wait === undefined ? {} : { wait }) };
  }

  request(command: string, fields: Record<string, unknown> = {}, options: { wait?: number } = {}): Promise<Reply> {
    return this.client.request(command, fields, this.options(options.wait));
  }

  /** The output of a FreeSWITCH API command: `fs.node("fs-1").api("sofia status", { wait: 35 })`. */
  async api(line: string, options: { wait?: number } = {}): Promise<string> {
    const { command, ...fields } = lineOf(line);
    return String((await this.request(command, { ...fields, parts: true }, options)).data ?? "");
  }

  /** agent.status. */
  status(options: { wait?: number } = {}): Promise<Reply> {
    return this.request("agent.status", {}, options);
  }

  /** Let the node take no new work (`any`), or again. */
  async drain(enabled = true): Promise<void> {
    await this.request("agent.drain", { enabled });
  }
}

/** What ClientOptions may have. */
export const CLIENT_OPTIONS = ["prefix", "inboxPrefix", "wait", "linkWait", "lanes", "onError", "onLink"];

/** All nodes: `fs.all`. */
export class All {
  /** @internal */
  constructor(private readonly client: Client) {}

  /** The reply of each node, success or error. Throws LinkError. */
  request(command: string, fields: Record<string, unknown> = {}, options: GatherOptions = {}): Promise<Reply[]> {
    return this.client.gather(command, fields, { wait: this.client.link.wait, settle: 1, ...options });
  }

  /** A FreeSWITCH API command on each node: `fs.all.api("reloadxml")`. */
  api(line: string, options: GatherOptions = {}): Promise<Reply[]> {
    const { command, ...fields } = lineOf(line);
    return this.request(command, { ...fields, parts: true }, options);
  }
}

function ifAgentError(error: unknown): undefined {
  if (!(error instanceof AgentError)) throw error;
}

export class Client {
  /** All nodes. */
  readonly all: All;
  /** One node that is ready; which one is NATS's choice, for each request anew. */
  readonly any: Node;
  /** @internal */
  readonly link: Link;
  private readonly calls = new Map<string, Call>();
  private readonly places = new Map<string, Call>();
  private readonly seen = new Map<string, { started?: number; missed: number }>();
  private readonly incomings = new Set<IncomingCalls>();
  private readonly routes = new Set<Routes>();
  private readonly onError: (error: Error, call?: Call) => void;
  private readonly looking: ReturnType<typeof setInterval>;
  private number = 0;
  /** @internal */
  closing = false;

  constructor(nats: NatsConnectionLike, options: ClientOptions = {}) {
    for (const name of ["onError", "onLink"] as const) if (options[name] !== undefined) checkHandler(name, options[name]);
    this.link = new Link(nats, options);
    this.all = new All(this);
    this.any = new Node(this, "");
    this.onError = options.onError ?? ((error, call) => console.error(call ? `call ${call.uuid}:` : "event-agent-client:", error));
    this.link.subscribe(`${this.link.inbox}.c.>`, (message) => this.callEvent(message));
    this.link.subscribe(`${this.link.prefix}.events.agent.>`, (message) => this.agentEvent(message));
    const { onLink } = options;
    if (onLink !== undefined) {
      this.link.on("down", () => this.guarded(() => onLink(false)));
      this.link.on("up", () => this.guarded(() => onLink(true)));
    }
    this.link.on("up", () => {
      for (const call of [...this.calls.values()]) void call.resume(false);
      this.again();
    });
    this.link.on("end", (error) => {
      clearInterval(this.looking);
      for (const call of [...this.calls.values()]) {
        call.fail(new LinkError(error?.message ?? "the client was closed", "unknown"));
        call.forget();
      }
    });
    this.looking = setInterval(() => void this.lookAround(), LOOK * 1000);
    (this.looking as { unref?: () => void }).unref?.(); // the connection keeps a program alive, this does not
  }

  /** The agents' `subject_prefix`. */
  get prefix(): string {
    return this.link.prefix;
  }

  /** Whether there is a link to a NATS server now. */
  get connected(): boolean {
    return this.link.up;
  }

  /** JetStream streams that have answered requests: their subjects include command lanes, and should not. */
  get streams(): ReadonlySet<string> {
    return this.link.streams;
  }

  /** End the link and all that wait on it. Calls go on. */
  async close(): Promise<void> {
    this.closing = true;
    for (const each of [...this.incomings, ...this.routes]) each.stop();
    await this.link.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // -- requests

  /**
   * The reply to one command: to `node`, else to one node that is ready. `fields` are those of docs/API.md. Throws
   * CommandFailed (Refused, …) if the reply is an error, NoAgent, NoReply, LinkError.
   */
  async request(command: string, fields: Record<string, unknown> = {}, options: RequestOptions = {}): Promise<Reply> {
    return checked(await this.call({ ...fields, command }, options));
  }

  /**
   * The reply to a request as it stands, success or error. If nobody listens on `any`, a command that only asks goes
   * to all nodes, of which the first to answer is heard; one that acts goes to one node, which is ready by its own
   * agent.status, or NoAgent says why none is.
   */
  async call(payload: Payload, options: RequestOptions = {}): Promise<Reply> {
    checkOptions("a request", options, ["node", "wait"]);
    const { link } = this;
    const wait = options.wait ?? timeFor(payload, link.wait);
    const node = options.node ?? (typeof payload.node_id === "string" ? payload.node_id : "");
    if (node !== "") return link.request(this.laneOf(node), payload, wait);
    try {
      return await link.request(`${link.prefix}.any`, payload, wait);
    } catch (error) {
      if (!(error instanceof NoAgent)) throw error;
    }
    if (isQuestion(payload.command)) return link.request(`${link.prefix}.api`, payload, wait);
    return link.request(laneOfOne(link.prefix, await this.statuses(Math.min(wait, GATHER))), payload, wait);
  }

  /** Send a request to which no reply comes (`async`). Ends when the server has it. Throws LinkError. */
  async send(command: string, fields: Record<string, unknown> = {}, options: { node?: string } = {}): Promise<void> {
    const { link } = this;
    checkOptions("send", options, ["node"]);
    const payload: Payload = { ...fields, command, async: true };
    const text = textOf(payload);
    await link.ready();
    link.publish(link.lane(options.node === undefined ? `${link.prefix}.any` : this.laneOf(options.node), command), text);
    await link.flush();
  }

  /** The replies of all nodes, success or error. Nobody listening is an empty list. */
  async gather(command: string, fields: Record<string, unknown> = {}, options: GatherOptions = {}): Promise<Reply[]> {
    checkOptions("gather", options, ["wait", "settle"]);
    const { wait = GATHER, settle = SETTLE } = options;
    return this.link.gather(`${this.prefix}.api`, { ...fields, command }, wait, settle);
  }

  /** One node, by the name in its `node_id`. */
  node(name: string): Node {
    if (name === "") throw new Refused("a node's name must not be empty", "node");
    return new Node(this, name);
  }

  /** The output of a FreeSWITCH API command on one node that is ready: `fs.api("status")`. */
  api(line: string, options: { wait?: number } = {}): Promise<string> {
    return this.any.api(line, options);
  }

  /** agent.status of all nodes that answer. */
  nodes(options: { wait?: number } = {}): Promise<Reply[]> {
    return this.gather("agent.status", {}, { wait: options.wait ?? GATHER });
  }

  /** @internal */
  statuses(wait = GATHER): Promise<Reply[]> {
    return this.gather("agent.status", {}, { wait });
  }

  /** @internal The lane of a node; that of all for one without a name. */
  laneOf(node: string): string {
    return node === "" || node === UNNAMED ? `${this.prefix}.api` : `${this.prefix}.node.${slug(node)}`;
  }

  // -- events

  /**
   * Events from now on: `for await (const item of fs.events("CHANNEL_ANSWER", "sofia::register", { node: "fs-1" }))`.
   * Without a name it is all events. Names are FreeSWITCH's, CHANNEL_* for all that begin so, or patterns of subjects
   * (`channel.>`). What is missing, for whichever reason, is a `Gap` among the events. Throws Refused for what is no
   * event, and, when it begins, for one that no node publishes.
   */
  events<N extends EventName>(...names: N[]): Events<EventOf<N>>;
  events<N extends EventName>(...names: [...N[], EventsOptions]): Events<EventOf<N>>;
  events(...names: (EventName | EventsOptions)[]): Events {
    const last = names.at(-1);
    const has = typeof last === "object" && !Array.isArray(last);
    const options = has ? last : {};
    checkOptions("events", options, ["node", "size", "check"]);
    const wanted = (has ? names.slice(0, -1) : names) as EventName[];
    return new Events(this.link, wanted, options, () => this.statuses());
  }

  private agentEvent(message: Message): void {
    const event = eventOf(message.data);
    if (event === undefined) return;
    if (event.name === "AGENT_CONNECTED") {
      const rows = event.raw.channels;
      const there = Array.isArray(rows) ? new Set(rows.map((row: { uuid?: string }) => row.uuid)) : undefined;
      for (const call of this.callsOf(event.node)) {
        // FreeSWITCH's own list is behind by up to a second, so a call that is not in it is asked about.
        if (there === undefined || call.settled) void call.resume(true);
      }
      this.again(event.node);
    } else if (event.name === "AGENT_STOPPING") {
      for (const call of this.callsOf(event.node)) void call.stopping();
    } else if (event.name === "AGENT_CHANNEL_GONE") this.calls.get(event.uuid)?.gone();
  }

  private callEvent(message: Message): void {
    const call = this.places.get(message.subject.slice(this.link.inbox.length + 3).split(".", 1)[0] ?? "");
    const event = call && eventOf(message.data);
    if (event) call.heard(event);
  }

  private callsOf(node: string): Call[] {
    return [...this.calls.values()].filter((call) => slug(call.node || UNNAMED) === slug(node));
  }

  // -- calls

  /**
   * Call somebody. When the promise is kept it is answered, and parked: nothing happens to it but what you do. Events
   * of the call are heard from its first on. Of several telephones of one user the first is called. Throws Busy,
   * NoAnswer, NotRegistered, NoRoute or another CallFailed; Refused, NoAgent, LinkError, NoReply. If it isn't known
   * what has become of it, it is hung up as soon as that is possible.
   */
  async dial(endpoint: string, options: DialOptions = {}): Promise<Call> {
    checkOptions("dial", options, ["ring", "callerId", "variables", "earlyMedia", "node", "wait"]);
    const call = new Call(this, newUuid(), options.node ?? "");
    const payload: Payload = {
      command: "originate", endpoint, extension: "&park", uuid: call.uuid, events_to: this.eventsTo(call),
    };
    if (options.ring !== undefined) payload.timeout = options.ring;
    if (options.callerId !== undefined) {
      [payload.caller_id_name, payload.caller_id_number] = nameAndNumber(options.callerId);
    }
    if (options.variables !== undefined) payload.variables = options.variables;
    if (options.earlyMedia) payload.early_media = true;
    call.settled = false;
    this.enter(call);
    let reply: Reply;
    try {
      const { node, wait } = options;
      reply = checked(await this.call(payload, { ...(node === undefined ? {} : { node }), ...(wait === undefined ? {} : { wait }) }));
    } catch (error) {
      call.forget();
      if (error instanceof AgentError && error.executed === "unknown") void this.abandon(call.uuid);
      throw (error instanceof CommandFailed ? causeOf(error) : undefined) ?? error;
    }
    [call.node, call.answered, call.settled] = [reply.node_id, true, true];
    const uuid = (reply.data as { uuid?: string } | undefined)?.uuid ?? call.uuid;
    if (uuid !== call.uuid) {
      call.forget(); // another leg has answered
      return this.take(uuid, reply.node_id);
    }
    if (call.event.name === "") await call.first(); // the reply has overtaken the events; they say who calls whom
    return call;
  }

  /** A Call for a channel that is there already. Throws Hangup if it is not. */
  async take(uuid: string, node = ""): Promise<Call> {
    const known = this.calls.get(uuid);
    if (known?.up === false) throw new Hangup(known.cause);
    if (known !== undefined) return known;
    const call = new Call(this, uuid, node);
    this.enter(call);
    try {
      await call.watch();
    } catch (error) {
      call.forget();
      throw error;
    }
    call.bridgedTo = [...this.calls.values()].find((each) => each.bridgedTo === uuid)?.uuid ?? "";
    if (call.bridgedTo === "") await this.findOtherLeg(call);
    return call;
  }

  /**
   * To whom a call that was taken is connected. That leg is heard of too: its events may be those that tell the end.
   * `bridge_to` is set as long as two legs are connected (switch_ivr_bridge.c, switch_ivr_multi_threaded_bridge). It is
   * asked again once both are heard of, since they may have parted before that.
   */
  private async findOtherLeg(call: Call): Promise<void> {
    for (let left = CHANGES; left > 0; left--) {
      const seen = call.joins;
      const uuid = await call.get("bridge_to").catch(ifAgentError);
      if (uuid === undefined || call.joins !== seen) return; // what events say is newer
      const known = this.calls.get(uuid);
      if (known !== undefined) {
        call.bridgedTo = known.uuid;
        known.bridgedTo = call.uuid;
        return;
      }
      const other = new Call(this, uuid, call.node);
      this.enter(other);
      try {
        await other.watch();
      } catch (error) {
        other.forget();
        return ifAgentError(error);
      }
    }
  }

  /**
   * @internal A leg that was called is connected now: to whom, if nobody has heard it of the other one. Both have the
   * other's uuid in `bridge_to` as long as they are; it is set after the leg's state has changed.
   */
  async findPartner(call: Call): Promise<void> {
    const { joins } = call;
    // What events say is newer.
    const done = (): boolean => call.bridgedTo !== "" || call.joins !== joins || !call.up || this.closing;
    for (const seconds of PARTNER) {
      await pause(seconds);
      if (done()) return;
      const uuid = await call.get("bridge_to").catch(ifAgentError);
      if (uuid === undefined) continue; // not yet
      const question = { command: "uuid_getvar", args: `${uuid} bridge_to` };
      const back = await this.link.request(this.laneOf(call.node), question, GATHER).catch(ifAgentError);
      if (back?.data !== call.uuid) continue; // what is there is of the connection before
      if (done()) return;
      call.bridgedTo = uuid;
      const other = this.callOf(uuid);
      if (other !== undefined) other.bridgedTo = call.uuid;
      return;
    }
  }

  /** @internal */
  place(): string {
    return String(++this.number);
  }

  /** @internal */
  eventsTo(call: Call): string {
    return `${this.link.inbox}.c.${call.place}`;
  }

  /** @internal */
  enter(call: Call): void {
    this.calls.set(call.uuid, call);
    this.places.set(call.place, call);
  }

  /** @internal */
  forget(call: Call): void {
    if (this.calls.get(call.uuid) === call) this.calls.delete(call.uuid);
    this.places.delete(call.place);
  }

  /** @internal The call of this uuid, if somebody here has it. */
  callOf(uuid: string): Call | undefined {
    return this.calls.get(uuid);
  }

  /** @internal Hang up, however long the link takes to come back. */
  async endQuietly(call: Call): Promise<void> {
    try {
      await call.hangup();
    } catch (error) {
      if (this.closing) return;
      this.report(new AgentError(`it could not be hung up yet: ${wordsOf(error)}`), call);
      void this.abandon(call.uuid);
    }
  }

  /** It is not known what has become of it: let it not live on without an owner. */
  private async abandon(uuid: string): Promise<void> {
    const until = Date.now() + ABANDON * 1000;
    const hangup: Payload = { command: "hangup", uuid, cause: "ORIGINATOR_CANCEL" };
    while (!this.closing && Date.now() < until) {
      try {
        const replies = await this.link.gather(`${this.prefix}.api`, hangup, GATHER, SETTLE);
        if (replies.length > 0 && replies.every((each) => each.executed === undefined)) return;
      } catch (error) {
        if (error instanceof NotAllowed) return this.report(error);
      }
      await pause(1);
    }
  }

  /**
   * Take the calls to these contexts and numbers: park mode is set for them on all nodes, also on those that come
   * later, and each call that is parked goes to `handler`. Programs that are started several times share the calls:
   * each call goes to one of them.
   *
   * A handler that ends leaves no call behind: one that is still up, and was not transferred, is hung up. A Hangup
   * that it does not catch is an ordinary end; other errors go to `onError`. Ends when all nodes that are there have
   * park mode. Throws Refused, NotAllowed, LinkError.
   */
  async incoming(options: IncomingOptions, handler: Handler): Promise<Incoming> {
    checkOptions("incoming", options, [
      "context", "number", "audio", "music", "answer", "except", "group", "node",
    ]);
    checkHandler("incoming", handler);
    const each = new IncomingCalls(this, options, handler);
    await each.begin();
    return each;
  }

  /**
   * Decide calls (`dialplan.route`): `handler` gets each one that is in scope, and what it returns becomes of it, see
   * `to`. Programs that are started several times share the calls. What it throws goes to `onError`, and the call takes
   * the way that `fallback` says.
   */
  async route(options: RouteOptions, handler: RouteHandler): Promise<Incoming> {
    checkOptions("route", options, [
      "context", "number", "except", "variables", "timeout", "fallback", "subject", "group", "node",
    ]);
    checkHandler("route", handler);
    const each = new Routes(this, options, handler);
    await each.begin();
    return each;
  }

  /** @internal Those whose settings are to be on all nodes, also on those that come later. */
  keep(each: IncomingCalls | Routes, kept: boolean): void {
    const set = (each instanceof Routes ? this.routes : this.incomings) as Set<unknown>;
    if (kept) set.add(each);
    else set.delete(each);
  }

  /** @internal One scope of park mode that takes what any of the handlers takes. */
  scope(): Record<string, unknown> {
    const all = [...this.incomings];
    const contexts = [...new Set(all.flatMap((each) => each.contexts))];
    const numbers = [...new Set(all.map((each) => each.number))];
    const except = [...new Set(all.flatMap((each) => each.except))];
    const number = numbers.length === 1 ? numbers[0] : numbers.map((each) => `(?:${each})`).join("|");
    return {
      ...(contexts.length > 0 && all.every((each) => each.contexts.length > 0) ? { context: contexts } : {}),
      ...(number !== "" && numbers.every((each) => each !== "") ? { number } : {}),
      ...(except.length > 0 ? { except } : {}),
    };
  }

  /** @internal Set something on all nodes, or on one. A node that can't is reported; if none can, it is thrown. */
  async setOn(node: string, what: string, payloads: readonly Payload[]): Promise<void> {
    for (const payload of payloads) {
      const replies = await this.link.gather(this.laneOf(node), payload, GATHER, node === "" ? SETTLE : 0);
      const failed = replies.filter((each) => !each.success);
      if (failed.length > 0 && failed.length === replies.length) checked(failed[0] as Reply);
      for (const each of failed) this.report(new AgentError(`${what} could not be set on node ${each.node_id}: ${each.message}`));
    }
  }

  private again(node = ""): void {
    for (const each of [...this.incomings, ...this.routes]) each.set(node).catch((error: Error) => this.report(error));
  }

  /** @internal A listener of the program's own: what it throws is no reason to stop. */
  guarded(listener: () => unknown): void {
    try {
      listener();
    } catch (error) {
      this.report(error);
    }
  }

  /** @internal */
  report(error: unknown, call?: Call): void {
    try {
      this.onError(error instanceof Error ? error : new Error(String(error)), call);
    } catch (another) {
      console.error(another);
    }
  }

  /** What is going on now: the calls of all nodes, kept up to date. */
  async live(options: LiveOptions = {}): Promise<Live> {
    checkOptions("live", options, ["resync"]);
    const live = new Live(this, options);
    await live.begin();
    return live;
  }

  // -- whether somebody is there

  /**
   * Agents of whose calls something is waited for are asked now and then whether they are there, and the same: one that
   * was killed can't say so, and its watches end with it.
   */
  private async lookAround(): Promise<void> {
    const waited = [...this.calls.values()].filter((call) => call.waitedFor && call.settled && call.node !== "");
    const names = new Set(waited.map((call) => call.node));
    for (const name of this.seen.keys()) if (!names.has(name)) this.seen.delete(name);
    if (this.link.up) await Promise.all([...names].map((name) => this.lookAt(name)));
  }

  private async lookAt(name: string): Promise<void> {
    const node = this.seen.get(name) ?? { missed: 0 };
    this.seen.set(name, node);
    let reply: Reply;
    try {
      reply = await this.link.request(this.laneOf(name), { command: "agent.status" }, LOOK);
    } catch (error) {
      if (!this.link.up || !(error instanceof NoAgent || error instanceof NoReply)) return;
      node.missed += 1;
      if (node.missed < MISSED) return;
      const fault = new NoAgent(`the agent of node ${name} is not there any more: ${wordsOf(error)}`, "unknown");
      for (const call of this.callsOf(name)) call.fail(fault);
      return;
    }
    node.missed = 0;
    if (typeof reply.uptime !== "number") return;
    const started = Date.now() / 1000 - reply.uptime;
    if (node.started !== undefined && started > node.started + 3) {
      for (const call of this.callsOf(name)) void call.resume(true);
    }
    node.started = started;
  }
}

/** One handler of incoming calls. */
class IncomingCalls implements Incoming {
  readonly contexts: string[];
  readonly number: string;
  readonly except: string[];
  private readonly pattern: RegExp | undefined;
  private sub: Subscription | undefined;

  constructor(
    private readonly client: Client,
    private readonly options: IncomingOptions,
    private readonly handler: Handler,
  ) {
    const list = (some: string | readonly string[] | undefined): string[] => (typeof some === "string" ? [some] : [...(some ?? [])]);
    this.contexts = list(options.context);
    this.except = list(options.except);
    this.number = options.number ?? "";
    if (!["silence", "ringback", "music"].includes(options.audio ?? "ringback")) {
      throw new Refused("audio must be silence, ringback or music", "audio");
    }
    if (options.group !== undefined && !isToken(options.group)) throw new Refused("group must be one word", "group");
    this.pattern = patternOf(this.number);
  }

  async begin(): Promise<void> {
    const { client } = this;
    const { link } = client;
    await link.ready();
    const group = this.options.group ?? `ea-${hash(`${[...this.contexts].sort().join("-")}.${this.number}`)}`;
    let refused: NotAllowed | undefined;
    this.sub = link.subscribe(`${link.prefix}.events.channel.park`, (message) => this.parked(message), {
      queue: group,
      refused: (error) => {
        refused = error;
        client.report(error);
      },
    });
    client.keep(this, true);
    try {
      await link.flush();
      if (refused !== undefined) throw refused;
      await this.set("");
      await this.lookAtFilters();
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** A node that parks calls and does not publish CHANNEL_PARK is reported. Throws Refused if all are so. */
  private async lookAtFilters(): Promise<void> {
    const only = this.options.node;
    const statuses = (await this.client.statuses()).filter((each) => only === undefined || slug(each.node_id) === slug(only));
    const kept = statuses.map((each) => whyNotPublished("CHANNEL_PARK", each)).filter((why) => why !== "");
    const faults = kept.map((why) => new Refused(`calls are parked, but CHANNEL_PARK is not published: ${why}`, "events"));
    if (faults[0] !== undefined && faults.length === statuses.length) throw faults[0];
    for (const fault of faults) this.client.report(fault);
  }

  async set(node: string): Promise<void> {
    const { audio = "ringback", music, answer = false } = this.options;
    if (this.options.node !== undefined && node !== "" && slug(node) !== slug(this.options.node)) return;
    await this.client.setOn(this.options.node ?? node, "park mode", [
      { command: "dialplan.audio", mode: audio, ...(music === undefined ? {} : { music_class: music }) },
      { command: "dialplan.autoanswer", enabled: answer },
      { command: "dialplan.enable", ...this.client.scope() },
    ]);
  }

  private parked(message: Message): void {
    const event = eventOf(message.data);
    if (!(event instanceof ChannelPark) || event.uuid === "" || event.variable("event_agent_parked") === "") return;
    if (event.variable("event_agent_worker") !== "" || this.client.callOf(event.uuid)) return; // somebody has it
    if (this.options.node !== undefined && slug(event.node) !== slug(this.options.node)) return;
    const whole = isWhole(event);
    if (whole && !this.isOurs(event)) return;
    const call = new Call(this.client, event.uuid, event.node, event);
    this.client.enter(call);
    void this.handle(call, whole);
  }

  private isOurs(event: ChannelEvent): boolean {
    const context = event.context.toLowerCase();
    if (this.contexts.length > 0 && !this.contexts.some((each) => each.toLowerCase() === context)) return false;
    return this.pattern === undefined || this.pattern.test(event.destination.split(";", 1)[0] ?? "");
  }

  private async handle(call: Call, whole: boolean): Promise<void> {
    const { client } = this;
    try {
      await call.watch();
      if (!whole) {
        await call.look();
        if (!this.isOurs(call.event)) {
          call.letGo();
          return call.forget();
        }
      }
      await call.start("set", `event_agent_worker=${client.link.inbox.slice(-12)}`);
      await this.handler(call);
    } catch (error) {
      if (!(error instanceof Hangup) && !client.closing) client.report(error, call);
    } finally {
      if (call.up && !call.released && !client.closing) await client.endQuietly(call);
    }
  }

  stop(): void {
    this.client.keep(this, false);
    this.sub?.unsubscribe();
    this.sub = undefined;
  }
}

/** What an event carries can be chosen (the agents' setting event_fields). */
function isWhole(event: ChannelEvent): boolean {
  return "Caller-Destination-Number" in event.headers;
}

function checkHandler(what: string, handler: unknown): void {
  if (typeof handler !== "function") throw new Refused(`${what} needs a function`, "handler");
}

/** The agents' expressions are Python's; one that JavaScript does not know is left to them. */
function patternOf(number: string): RegExp | undefined {
  try {
    return number === "" ? undefined : new RegExp(number);
  } catch {
    return undefined;
  }
}

/** A short name for a text (FNV-1a, twice 32 bits). */
function hash(text: string): string {
  return [0x811c9dc5, 0x01000193].map((seed) => {
    let value = seed;
    for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
    return value.toString(16).padStart(8, "0");
  }).join("");
}

/** @internal */
export { objectOf };
