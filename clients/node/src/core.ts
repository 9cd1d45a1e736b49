// All but the transport: for a browser, or a connection that is there already.

import { CLIENT_OPTIONS, Client, type ClientOptions } from "./client.js";
import type { NatsConnectionLike } from "./link.js";
import { checkOptions } from "./protocol.js";

/**
 * A client on a NATS connection: one of `nats.ws`, of `wsconnect` in `@nats-io/nats-core`, or of
 * `@nats-io/transport-node`. It should reconnect without a limit (`maxReconnectAttempts: -1`).
 */
export function attach(nats: NatsConnectionLike, options: ClientOptions = {}): Client {
  checkOptions("attach", options, CLIENT_OPTIONS);
  return new Client(nats, options);
}

export { Client, All, Node } from "./client.js";
export type {
  ClientOptions, DialOptions, GatherOptions, Handler, Incoming, IncomingOptions, RequestOptions,
} from "./client.js";
export { Call } from "./call.js";
export type { BridgeOptions, CallerId, DigitsOptions, Done, End, RecordOptions, Recording, SayOptions, Variables } from "./call.js";
export {
  AgentError, Busy, CallFailed, CommandFailed, Hangup, LinkError, NoAgent, NoAnswer, NoInput, NoReply, NoRoute,
  NotAllowed, NotRegistered, Refused,
} from "./errors.js";
export type { Executed, Reply } from "./errors.js";
export {
  AgentConnected, AgentStopping, BackgroundJob, ChannelAnswer, ChannelBridge, ChannelCreate, ChannelDestroy, ChannelEvent,
  ChannelExecute, ChannelExecuteComplete, ChannelHangup, ChannelHangupComplete, ChannelPark, ChannelProgress,
  ChannelUnbridge, Custom, Dtmf, Event, Events, Gap, PlaybackStop, RecordStop,
} from "./events.js";
export type { EventName, EventOf, EventTypes, EventsOptions } from "./events.js";
export { Live } from "./live.js";
export type { LiveCall, LiveOptions } from "./live.js";
export { to } from "./route.js";
export type { RouteAction, RouteHandler, RouteOptions, RouteRequest } from "./route.js";
export type { NatsConnectionLike } from "./link.js";
