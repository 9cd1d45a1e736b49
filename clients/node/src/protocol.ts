// What the client knows of agents: values in, values out. No connection, no clock.

import { CommandFailed, NoAgent, Refused, type Reply } from "./errors.js";

export const UNNAMED = "unknown"; // the name of all nodes without one
export const MAX_REQUEST = 65_536; // bytes that an agent takes

/** A node's name as it stands in subjects: FS-Node-01 is fs_node_01. */
export function slug(node: string): string {
  return node.toLowerCase().replace(/[^a-z0-9]/g, "_");
}

/** Whether it can be one part of a subject. */
export function isToken(text: string): boolean {
  return text.length <= 255 && /^[^\s.*>\x00-\x1f\x7f]+$/.test(text);
}

/** Whether something can be sent there. */
export function isSubject(text: string): boolean {
  return text.length <= 1024 && text.split(".").every(isToken);
}

// Names that FreeSWITCH has (switch_event.c, EVENT_NAMES), and those of the agents, to find slips.
const NAMES = new Set(
  `CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER CHANNEL_HANGUP
  CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_BRIDGE
  CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK
  CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH
  UNPUBLISH TALK NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN PRESENCE_OUT
  PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB DETECTED_SPEECH DETECTED_TONE
  PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY PHONE_FEATURE
  PHONE_FEATURE_SUBSCRIBE SEND_MESSAGE RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
  CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE SEND_RTCP_MESSAGE CALL_SECURE NAT
  RECORD_START RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP
  CONFERENCE_DATA_QUERY CONFERENCE_DATA CALL_SETUP_REQ CALL_SETUP_RESULT CALL_DETAIL DEVICE_STATE TEXT
  SHUTDOWN_REQUESTED AGENT_CONNECTED AGENT_DISCONNECTED AGENT_GAP AGENT_READINESS AGENT_HEARTBEAT AGENT_STOPPING
  AGENT_CHANNEL_GONE AGENT_CHANNEL_FOUND`.split(/\s+/),
);

/**
 * The part of a subject behind `<prefix>.events.` for what a person writes: an event's name in FreeSWITCH's spelling
 * (CHANNEL_ANSWER, sofia::register), all that begin so (CHANNEL_*), or a pattern of subjects (`channel.*`,
 * `custom.sofia.>`). Throws Refused.
 */
export function eventPattern(text: string): string {
  if (typeof text !== "string") {
    throw new Refused(`events are named one by one, as in events("CHANNEL_ANSWER", "DTMF"): ${String(text)}`, "events");
  }
  let pattern = text.trim();
  if (/[\s,;|]/.test(pattern)) {
    throw new Refused(`${JSON.stringify(text)} are several events in one text: give each of its own`, "events");
  }
  if (pattern.includes("::") || pattern.includes("_") || pattern !== pattern.toLowerCase()) {
    const custom = pattern.includes("::");
    const name = pattern.toUpperCase();
    if (!custom && !/[*.]/.test(name) && !NAMES.has(name)) {
      const close = closest(name, NAMES);
      throw new Refused(`there is no event ${text}${close ? `: ${close}?` : ""}`, "events");
    }
    pattern = pattern.toLowerCase().replace(/[^a-z0-9.*>]+/g, ".");
    if (pattern.endsWith(".*")) pattern = `${pattern.slice(0, -1)}>`;
    if (custom && !pattern.startsWith("custom.")) pattern = `custom.${pattern}`;
  }
  const tokens = pattern.split(".");
  const whole = tokens.every((token, at) => token === "*" || isToken(token) || (token === ">" && at === tokens.length - 1));
  if (pattern.length > 1024 || !whole) {
    throw new Refused(`${JSON.stringify(text)} is neither an event's name nor a pattern such as channel.*`, "events");
  }
  return pattern;
}

/** The most similar of these, "" if none is. */
function closest(text: string, among: Iterable<string>): string {
  let best = "";
  let least = Math.max(2, Math.floor(text.length / 3)) + 1;
  for (const each of among) {
    const far = distance(text, each, least);
    if (far < least) [best, least] = [each, far];
  }
  return best;
}

function distance(a: string, b: string, most: number): number {
  if (a.length > 64 || Math.abs(a.length - b.length) >= most) return most;
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? most;
}

/** Whether a pattern of subjects takes this subject, or all that another pattern takes. */
export function patternTakes(pattern: string, subject: string): boolean {
  const ours = pattern.split(".");
  const theirs = subject.split(".");
  for (const [at, token] of ours.entries()) {
    if (token === ">") return theirs.length > at;
    const other = theirs[at];
    if (other === undefined || other === ">" || (token !== "*" && token !== other)) return false;
  }
  return ours.length === theirs.length;
}

/** These patterns without those that another one takes as well: so no event comes twice. */
export function withoutDoubles(patterns: readonly string[]): string[] {
  const all = [...new Set(patterns)];
  return all.filter((each) => !all.some((other) => other !== each && patternTakes(other, each)));
}

/** What a node publishes, as `data.events` of agent.status has it. */
export interface Filters {
  include?: string[];
  exclude?: string[];
  publish_all_events?: boolean;
}

/** Why a node does not publish an event of this name; "" if it may. A pattern may always get something. */
export function keptBack(text: string, filters: Filters): string {
  const wanted = text.trim();
  const custom = wanted.includes("::");
  if (!custom && (wanted !== wanted.toUpperCase() || /[*.>]/.test(wanted))) return "";
  const names = custom ? [wanted, "CUSTOM"] : [wanted];
  const known = (list: string[] | undefined): string[] =>
    (list ?? []).map((each) => (each.includes("::") ? each : each.toUpperCase()));
  const excluded = known(filters.exclude).find((each) => names.includes(each) || each === "ALL");
  if (excluded !== undefined) return `exclude has ${excluded}`;
  if (wanted.startsWith("AGENT_")) return "";
  const include = known(filters.include);
  if (include.length > 0) {
    const has = include.some((each) => each === "ALL" || names.includes(each));
    return has || (wanted === "CUSTOM" && include.some((each) => each.includes("::"))) ? "" : "include does not have it";
  }
  return filters.publish_all_events === false ? "publish_all_events is false" : "";
}

// Commands that change nothing, so that several nodes may be given the same.
const ASKING = new Set(
  `acl create_uuid domain_exists echo global_getvar hostname is_lan_addr list_users md5 module_exists regex show
  status strepoch strftime strftime_tz switchname uptime url_decode url_encode user_data user_exists uuid_dump
  uuid_exists uuid_getvar version agent.status dialplan.status`.split(/\s+/),
);

/** Whether a request with this command only asks, whatever its arguments are. */
export function isQuestion(command: string): boolean {
  return ASKING.has(command.toLowerCase());
}

const SECONDS = new Set(["wait", "settle", "ring", "timeout", "between", "resync", "ackWait", "connectWait", "linkWait", "pingInterval"]);

/** Throws Refused for an option that there is not, with the closest that there is, and for seconds that are no number. */
export function checkOptions(what: string, options: object, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) throw new Refused(`${what}: options must be an object`, "options");
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) {
      const close = name === "timeout" && known.includes("wait") ? "wait" : closest(name, known);
      throw new Refused(`${what} has no option ${name}${close ? `: ${close}?` : ""}`, name);
    }
    if (SECONDS.has(name) && value !== undefined && !(typeof value === "number" && value >= 0 && value < Infinity)) {
      throw new Refused(`${what}: ${name} must be a number of seconds, not ${JSON.stringify(value) ?? String(value)}`, name);
    }
  }
}

/** A request, as docs/API.md has it. */
export interface Payload {
  command: string;
  args?: string;
  [field: string]: unknown;
}

/** A request's text. Throws Refused for what JSON can't hold, and for what no agent would take. */
export function textOf(payload: Payload): string {
  if (typeof payload.command !== "string" || payload.command.trim() === "") throw new Refused("there is no command", "command");
  let text: string;
  try {
    text = JSON.stringify(payload);
  } catch (error) {
    throw new Refused(`a request can't hold that: ${error instanceof Error ? error.message : String(error)}`);
  }
  // A character is at most three bytes, so most texts need not be counted.
  if (text.length > MAX_REQUEST / 3 && new TextEncoder().encode(text).length > MAX_REQUEST) {
    throw new Refused(`a request of more than ${MAX_REQUEST} bytes`);
  }
  return text;
}

/** Seconds within which the reply to it should be there. */
export function timeFor(payload: Payload, usual: number): number {
  if (typeof payload.wait === "number") return Math.max(usual, payload.wait + 5);
  if (payload.command === "originate") {
    const ring = typeof payload.timeout === "number" ? payload.timeout : 60;
    return Math.max(usual, ring * String(payload.endpoint ?? "").split("|").length + 15);
  }
  return usual;
}

const decoder = new TextDecoder();

/** What stands in a message; undefined if that is no object. */
export function objectOf(data: Uint8Array): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(decoder.decode(data));
    return typeof found === "object" && found !== null && !Array.isArray(found)
      ? (found as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The JetStream stream that says by this that it has stored the request; "" for anything else. A stream whose subjects
 * include command lanes answers what comes there, whoever else does, and often first.
 */
export function acknowledging(found: Record<string, unknown> | undefined): string {
  if (found === undefined || "success" in found || typeof found.stream !== "string") return "";
  return typeof found.seq === "number" || typeof found.error === "object" ? found.stream : "";
}

/** The reply in what a message held. Throws CommandFailed if it is none. */
export function replyOf(found: Record<string, unknown> | undefined): Reply {
  if (found === undefined || typeof found.success !== "boolean") {
    throw new CommandFailed("the reply is none of an agent", { success: false, executed: "unknown" });
  }
  return found as Reply;
}

/**
 * The subject of one ready node, of those whose agent.status these are. Throws NoAgent: why there is none.
 *
 * For when nobody listens on `any`: no node is ready, or NATS permissions keep agents or the client from it.
 */
export function laneOfOne(prefix: string, statuses: readonly Reply[]): string {
  const ready: string[] = [];
  const away: string[] = [];
  const faults: string[] = [];
  for (const status of statuses) {
    let why = whyNot(status);
    let lane = "";
    const twins = statuses.filter((other) => slug(other.node_id) === slug(status.node_id)).length;
    if (status.node_id === UNNAMED) {
      if (statuses.length === 1) lane = `${prefix}.api`; // this one leads to nobody else
      else why = "it has no node_id";
    } else if (twins > 1) why = `${twins} agents are called so`;
    else lane = `${prefix}.node.${slug(status.node_id)}`;
    if (lane && !why) ready.push(lane);
    if (lane && why === AWAY) away.push(lane);
    if (why) faults.push(`${status.node_id} (${why})`);
  }
  const lanes = ready.length > 0 ? ready : away.length === statuses.length ? away : [];
  const chosen = lanes[Math.floor(Math.random() * lanes.length)];
  if (chosen === undefined) throw new NoAgent(`no node can take it: ${faults.join(", ") || "none has replied"}`);
  return chosen;
}

const AWAY = "not connected";

function whyNot(status: Reply): string {
  const data = (status.data ?? {}) as { twins?: unknown[]; readiness?: { reasons?: unknown[] }; freeswitch?: { connected?: boolean } };
  if (data.twins?.length) return "another agent is called so";
  if (Array.isArray(data.readiness?.reasons)) return data.readiness.reasons.join(", ");
  if (!status.success) return status.message;
  return data.freeswitch?.connected === true ? "" : AWAY; // an agent of 1.0
}

/** One word of an application's arguments, whatever is in it (switch_separate_string: '…', with \ before '). */
export function quoted(text: string): string {
  if (text !== "" && !/[\s'\\]/.test(text)) return text;
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** A verb and its arguments of a line as at FreeSWITCH's console. */
export function lineOf(line: string): Payload {
  const [, command = "", args = ""] = /^\s*(\S*)\s*([^]*?)\s*$/.exec(line) ?? [];
  return args === "" ? { command } : { command, args };
}

declare const crypto: { getRandomValues(bytes: Uint8Array): Uint8Array }; // in Node.js as in a browser

/** A name that nobody else has, as FreeSWITCH's are. A browser page that is not served over TLS has no randomUUID. */
export function newUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
