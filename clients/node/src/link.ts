// The link to NATS: requests and their replies, whichever client the connection is of.

import { AgentError, LinkError, NoAgent, NoReply, NotAllowed, Refused, wordsOf, type Reply } from "./errors.js";
import { Parts } from "./parts.js";
import { acknowledging, isSubject, newUuid, objectOf, replyOf, textOf, type Payload } from "./protocol.js";

/** What we need of a message. */
export interface Message {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly reply?: string;
  readonly headers?: { readonly code: number } | undefined;
}

/** What we need of a subscription. */
export interface Subscription {
  unsubscribe(): void;
}

/**
 * What we need of a NATS connection: that of `@nats-io/transport-node`, of `wsconnect` in `@nats-io/nats-core`, or of
 * `nats.ws`, which runs in a browser as it is.
 */
export interface NatsConnectionLike {
  readonly info?: { readonly max_payload?: number } | undefined;
  publish(subject: string, payload?: string | Uint8Array, options?: { reply?: string }): void;
  subscribe(
    subject: string,
    // any: the two generations of nats.js differ in the type of a message.
    options: { queue?: string; callback: (error: Error | null, message: any) => void },
  ): Subscription;
  flush(): Promise<void>;
  status(): AsyncIterable<unknown>;
  closed(): Promise<void | Error>;
  close(): Promise<void>;
  isClosed(): boolean;
}

export interface LinkOptions {
  /** The agents' `subject_prefix`. "freeswitch". */
  prefix?: string;
  /** Where replies and the events of calls come: `<inboxPrefix>.…`, for NATS permissions. "_INBOX". */
  inboxPrefix?: string;
  /** Seconds that a reply is waited for. 35: the agents give up on FreeSWITCH after 30. */
  wait?: number;
  /** Seconds that a request waits for a lost link to come back before it is given up, unsent. 10. */
  linkWait?: number;
  /** Whose lanes the agents listen on: "all", or "verbs" if their setting `lanes` is so. "all". */
  lanes?: "all" | "verbs";
}

interface Pending {
  subject: string;
  held: boolean;
  parts: Parts;
  answer: (reply: Reply) => void;
  fail: (error: AgentError) => void;
  /** A part has come, of a reply that is not whole. */
  begun?: () => void;
}

interface Listeners {
  up: (error?: undefined) => void;
  down: (error: LinkError) => void;
  end: (error: LinkError | undefined) => void;
}

const FLUSH = 5; // seconds
const LAST_FLUSH = 2; // seconds, of a program that ends

/** @internal */
export class Link {
  readonly prefix: string;
  readonly inbox: string;
  readonly wait: number;
  readonly streams = new Set<string>();
  up = true;
  private readonly verbs: boolean;
  private readonly linkWait: number;
  private readonly pending = new Map<string, Pending>();
  private readonly listeners = { up: new Set<Listeners["up"]>(), down: new Set<Listeners["down"]>(), end: new Set<Listeners["end"]>() };
  private readonly refusals = new Map<string, Set<(error: NotAllowed) => void>>();
  private number = 0;
  private ended: { error?: LinkError } | undefined;

  constructor(readonly nats: NatsConnectionLike, options: LinkOptions) {
    this.prefix = options.prefix ?? "freeswitch";
    const inbox = options.inboxPrefix ?? "_INBOX";
    for (const [field, subject] of [["prefix", this.prefix], ["inboxPrefix", inbox]] as const) {
      if (!isSubject(subject)) throw new Refused(`${field} must be a plain subject`, field);
    }
    this.inbox = `${inbox}.${newUuid().replaceAll("-", "")}`;
    this.wait = options.wait ?? 35;
    this.linkWait = options.linkWait ?? 10;
    if (!["all", "verbs"].includes(options.lanes ?? "all")) throw new Refused("lanes must be all or verbs", "lanes");
    this.verbs = options.lanes === "verbs";
    this.subscribe(`${this.inbox}.r.*`, (message) => this.replied(message));
    void this.follow();
    void nats.closed().then(
      (error) => this.finish(error instanceof Error ? new LinkError(`the link to NATS is closed: ${error.message}`) : undefined),
      (error: unknown) => this.finish(new LinkError(`the link to NATS is closed: ${wordsOf(error)}`)),
    );
  }

  on<K extends keyof Listeners>(what: K, listener: Listeners[K]): () => void {
    const set = this.listeners[what] as Set<Listeners[K]>;
    set.add(listener);
    return () => set.delete(listener);
  }

  // -- what the connection says of itself; both generations of nats.js are understood

  private async follow(): Promise<void> {
    try {
      for await (const each of this.nats.status()) this.heard(each as Said);
    } catch {
      // It ends with the connection, of which `closed` tells.
    }
  }

  private heard(said: Said): void {
    if (said.type === "disconnect" && this.up && this.ended === undefined) {
      this.up = false;
      const error = new LinkError("the link to NATS was lost before the reply came", "unknown");
      for (const each of [...this.pending.values()]) if (!each.held) each.fail(error);
      for (const each of [...this.listeners.down]) each(error);
    } else if (said.type === "reconnect" && !this.up && this.ended === undefined) {
      this.up = true;
      for (const each of [...this.listeners.up]) each();
    } else if (said.type === "error") {
      const refused = said.permissionContext ?? said.error;
      if (typeof refused?.subject === "string") this.refused(refused.operation ?? "", refused.subject);
    }
  }

  private refused(operation: string, subject: string): void {
    if (operation === "publish") {
      const error = new NotAllowed(`the NATS server does not allow us to publish on ${subject}`);
      for (const each of [...this.pending.values()]) if (each.subject === subject) each.fail(error);
    } else {
      const error = new NotAllowed(`the NATS server does not let us listen on ${subject}`);
      for (const each of this.refusals.get(subject) ?? []) each(error);
    }
  }

  private finish(error: LinkError | undefined): void {
    if (this.ended !== undefined) return;
    this.up = false;
    this.ended = error === undefined ? {} : { error };
    const unknown = new LinkError(error?.message ?? "the client was closed", "unknown");
    for (const each of [...this.pending.values()]) each.fail(unknown);
    for (const each of [...this.listeners.end]) each(error);
  }

  /** End the link and all that wait on it. */
  async close(): Promise<void> {
    const { up } = this;
    this.finish(undefined);
    if (this.nats.isClosed()) return;
    // What was sent is to arrive. A socket that the server has just ended must show that before it is closed: nats.js
    // takes its listeners away then, and the error of a write to it would end the program.
    if (up) await this.flush(LAST_FLUSH).catch(() => undefined);
    await this.nats.close();
  }

  /** Wait until the link is there. Throws LinkError: nothing was sent. */
  async ready(wait = this.linkWait): Promise<void> {
    if (this.ended !== undefined) throw this.ended.error ?? new LinkError("the client is closed");
    if (this.up) return;
    await new Promise<void>((resolve, reject) => {
      const done = (error?: LinkError): void => {
        clearTimeout(timer);
        up();
        end();
        if (error === undefined) resolve();
        else reject(error);
      };
      const timer = setTimeout(() => done(new LinkError("there is no link to NATS; nothing was sent")), wait * 1000);
      const up = this.on("up", () => done());
      const end = this.on("end", (error) => done(error ?? new LinkError("the client is closed")));
    });
  }

  /** Until the server has taken what was sent, and said what it does not allow. Throws LinkError. */
  async flush(wait = FLUSH): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new LinkError("the NATS server has not confirmed it", "unknown")), wait * 1000);
    });
    try {
      await Promise.race([this.nats.flush(), late]);
    } catch (error) {
      throw error instanceof LinkError ? error : new LinkError(`NATS: ${wordsOf(error)}`, "unknown");
    } finally {
      clearTimeout(timer);
    }
  }

  // -- sending and listening

  subscribe(
    subject: string,
    take: (message: Message) => void,
    options: { queue?: string; refused?: (error: NotAllowed) => void } = {},
  ): Subscription {
    const callback = (error: Error | null, message: Message): void => {
      if (error === null) take(message);
    };
    const sub = this.nats.subscribe(subject, options.queue === undefined ? { callback } : { callback, queue: options.queue });
    const { refused } = options;
    if (refused === undefined) return sub;
    const all = this.refusals.get(subject) ?? new Set();
    this.refusals.set(subject, all.add(refused));
    return {
      unsubscribe: () => {
        all.delete(refused);
        if (all.size === 0) this.refusals.delete(subject);
        sub.unsubscribe();
      },
    };
  }

  publish(subject: string, text: string, reply?: string): void {
    if (!isSubject(subject)) throw new Refused(`${JSON.stringify(subject)} is no subject to send to`);
    try {
      this.nats.publish(subject, text, reply === undefined ? undefined : { reply });
    } catch (error) {
      throw new LinkError(`NATS: ${wordsOf(error)}`);
    }
  }

  /** The subject for a command on a lane. */
  lane(lane: string, command: string): string {
    if (!this.verbs) return lane;
    return `${lane === `${this.prefix}.api` ? `${this.prefix}.all` : lane}.${command}`;
  }

  private replied(message: Message): void {
    const pending = this.pending.get(message.subject.slice(this.inbox.length + 3));
    if (pending === undefined) return; // it came too late
    if (message.data.length === 0 && message.headers?.code === 503) {
      pending.fail(new NoAgent(`no agent listens on ${pending.subject}`));
      return;
    }
    const found = objectOf(message.data);
    const stream = acknowledging(found);
    if (stream !== "") {
      if (this.streams.size < 100) this.streams.add(stream);
      return;
    }
    try {
      const whole = pending.parts.add(replyOf(found));
      if (whole !== undefined) pending.answer(whole);
      else pending.begun?.();
    } catch (error) {
      pending.fail(error as AgentError);
    }
  }

  private send(lane: string, payload: Payload, text: string, waits: Omit<Pending, "subject">): string {
    const subject = this.lane(lane, payload.command);
    const token = String(++this.number);
    this.pending.set(token, { ...waits, subject });
    try {
      this.publish(subject, text, `${this.inbox}.r.${token}`);
    } catch (error) {
      this.pending.delete(token);
      throw error;
    }
    return token;
  }

  /**
   * One request, one reply, success or error. A `held` one outlasts the loss of the link: the agent keeps replies for
   * us until NATS is back. `begun` gets a function that ends the wait with an error.
   */
  async request(
    lane: string,
    payload: Payload,
    wait: number,
    options: { held?: boolean; begun?: (end: (how: AgentError | Reply) => void) => void } = {},
  ): Promise<Reply> {
    const text = textOf(payload);
    if (!this.up || this.ended !== undefined) await this.ready(Math.min(wait, this.linkWait));
    return new Promise<Reply>((resolve, reject) => {
      const over = (): void => {
        clearTimeout(timer);
        this.pending.delete(token);
      };
      const answer = (reply: Reply): void => {
        over();
        resolve(reply);
      };
      const fail = (error: AgentError): void => {
        over();
        reject(error);
      };
      const parts = new Parts();
      const token = this.send(lane, payload, text, { answer, fail, parts, held: options.held === true });
      const late = (): void => fail(new NoReply(`no reply within ${wait} seconds${parts.late || this.streamsNote()}`));
      const timer = setTimeout(late, Math.min(wait * 1000, 2 ** 31 - 1));
      options.begun?.((how) => (how instanceof Error ? fail(how) : answer(how)));
    });
  }

  private streamsNote(): string {
    return this.streams.size === 0 ? "" : ` (the JetStream streams ${[...this.streams].join(", ")} take requests, too)`;
  }

  /**
   * The replies of all who listen: those that come until none has come for `settle` seconds, or `wait` are over. Nobody
   * listening is an empty list. Throws LinkError.
   */
  async gather(lane: string, payload: Payload, wait: number, settle: number): Promise<Reply[]> {
    const text = textOf(payload);
    await this.ready(Math.min(wait, this.linkWait));
    const found: Reply[] = [];
    let token = "";
    let timer: ReturnType<typeof setTimeout> | undefined;
    const until = Date.now() + wait * 1000;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(resolve, wait * 1000);
        const parts = new Parts();
        const begun = (): void => {
          const left = until - Date.now();
          clearTimeout(timer);
          timer = setTimeout(resolve, parts.missing === "" ? Math.min(settle * 1000, left) : left);
        };
        const answer = (reply: Reply): void => {
          found.push(reply);
          begun();
        };
        const fail = (error: AgentError): void => {
          if (error instanceof NoAgent && !(error instanceof NotAllowed)) resolve();
          else reject(error);
        };
        token = this.send(lane, payload, text, { answer, fail, begun, parts, held: false });
      });
    } finally {
      clearTimeout(timer);
      this.pending.delete(token);
    }
    return found;
  }
}

/** What `status()` says: of nats.js 3 an `error` with its subject, of nats.ws a `permissionContext`. */
interface Said {
  type: string;
  error?: { operation?: string; subject?: string };
  permissionContext?: { operation?: string; subject?: string };
}
