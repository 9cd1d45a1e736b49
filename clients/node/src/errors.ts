// What can go wrong, as types. All of it is an AgentError; each says whether the command may have been carried out.

/** A reply of an agent, as it came (docs/API.md). */
export interface Reply {
  success: boolean;
  status: string;
  message: string;
  timestamp: number;
  node_id: string;
  data?: unknown;
  executed?: "no" | "unknown";
  warnings?: string[];
  [key: string]: unknown;
}

/**
 * "no": it was not carried out and never will be, so it may be asked again. "unknown": it may have been, be under way,
 * or still come. "": the question does not arise.
 */
export type Executed = "no" | "unknown" | "";

/** Whatever this package throws on purpose. */
export class AgentError extends Error {
  executed: Executed;

  constructor(message: string, executed: Executed = "") {
    super(message);
    this.name = new.target.name;
    this.executed = executed;
  }
}

/** The NATS server can't be reached, refused us, or was lost. The client goes on trying. */
export class LinkError extends AgentError {
  constructor(message: string, executed: Executed = "no") {
    super(message, executed);
  }
}

/** No agent listens there, or none is ready. */
export class NoAgent extends AgentError {
  constructor(message: string, executed: Executed = "no") {
    super(message, executed);
  }
}

/** The NATS server does not let us send there, or listen there. */
export class NotAllowed extends NoAgent {}

/** No reply came in time, or it can't come any more. The command may have been carried out. */
export class NoReply extends AgentError {
  constructor(message: string) {
    super(message, "unknown");
  }
}

/** The reply says `success: false`; `reply` is all of it. */
export class CommandFailed extends AgentError {
  readonly reply: Partial<Reply>;

  constructor(message: string, reply: Partial<Reply> = {}) {
    super(message, reply.executed ?? "");
    this.reply = reply;
  }
}

/** The request is wrong, or not allowed by the agent's lists. Also for what can't be subscribed to. */
export class Refused extends CommandFailed {
  /** The field that is wrong, "" if it is none. */
  readonly field: string;

  constructor(message: string, field = "", reply: Partial<Reply> = {}) {
    super(message, reply);
    this.field = field;
    this.executed = "no";
  }
}

/** The call was not answered; `cause` is FreeSWITCH's word for why. */
export class CallFailed extends CommandFailed {
  override readonly cause: string; // in Error as well, as whatever was the reason

  constructor(cause: string, reply: Partial<Reply> = {}) {
    super(cause, reply);
    this.cause = cause;
  }
}

/** USER_BUSY. */
export class Busy extends CallFailed {}
/** It rang, or should have, and nobody answered in time. */
export class NoAnswer extends CallFailed {}
/** No telephone is registered there now. */
export class NotRegistered extends CallFailed {}
/** There is no way to that number: no route, no gateway, not a number. */
export class NoRoute extends CallFailed {}

/** The call has ended; `cause` is FreeSWITCH's word for why, "unknown" if its end was not seen. */
export class Hangup extends AgentError {
  override readonly cause: string; // in Error as well, as whatever was the reason

  constructor(cause: string) {
    super(`the call has ended: ${cause}`, "unknown");
    this.cause = cause;
  }
}

/** The caller has not dialled what was asked for, in all tries. */
export class NoInput extends AgentError {}

const CAUSES: Record<string, typeof CallFailed> = {
  USER_BUSY: Busy,
  NO_ANSWER: NoAnswer,
  NO_USER_RESPONSE: NoAnswer,
  ALLOTTED_TIMEOUT: NoAnswer,
  PROGRESS_TIMEOUT: NoAnswer,
  MEDIA_TIMEOUT: NoAnswer,
  USER_NOT_REGISTERED: NotRegistered,
  SUBSCRIBER_ABSENT: NotRegistered,
  NO_ROUTE_DESTINATION: NoRoute,
  NO_ROUTE_TRANSIT_NET: NoRoute,
  UNALLOCATED_NUMBER: NoRoute,
  INVALID_NUMBER_FORMAT: NoRoute,
  INVALID_GATEWAY: NoRoute,
  GATEWAY_DOWN: NoRoute,
  INVALID_URL: NoRoute,
  INVALID_PROFILE: NoRoute,
  CHAN_NOT_IMPLEMENTED: NoRoute,
  NETWORK_OUT_OF_ORDER: NoRoute,
  DESTINATION_OUT_OF_ORDER: NoRoute,
};

/** The error for a call that was not answered. */
export function callFailed(cause: string, reply: Partial<Reply> = {}): CallFailed {
  const kind = Object.hasOwn(CAUSES, cause) ? CAUSES[cause] : undefined;
  return new (kind ?? CallFailed)(cause, reply);
}

/** The error that a reply stands for. It goes by the reply's fields, never by the words of its message. */
export function failureOf(reply: Reply): CommandFailed | Hangup {
  if (typeof reply.cause === "string") return new Hangup(reply.cause); // of an application whose channel has ended
  if ("data" in reply || "executed" in reply) return new CommandFailed(reply.message, reply);
  return new Refused(reply.message, typeof reply.field === "string" ? reply.field : "", reply);
}

/** The error of an originate that FreeSWITCH answered with a cause; undefined if it failed in another way. */
export function causeOf(error: CommandFailed): CallFailed | undefined {
  const found = typeof error.reply.data === "string" ? /^-ERR ([A-Z0-9_]+)\s*$/.exec(error.reply.data) : null;
  return found === null ? undefined : callFailed(found[1] ?? "", error.reply);
}

/** An error's words, whatever was thrown. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
