// The client for Node.js, with its transport.

import { readFile } from "node:fs/promises";
import { connect as connectNats, credsAuthenticator, nkeyAuthenticator, tokenAuthenticator, usernamePasswordAuthenticator, type Authenticator, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import { Cdrs, type CdrsOptions } from "./cdrs.js";
import { CLIENT_OPTIONS, Client, type ClientOptions } from "./client.js";
import { LinkError, Refused, wordsOf } from "./errors.js";
import { checkOptions } from "./protocol.js";

export * from "./core.js";
export { Cdr, Cdrs } from "./cdrs.js";
export type { CdrRecord, CdrsOptions } from "./cdrs.js";

const OPTIONS = [
  ...CLIENT_OPTIONS, "creds", "nkeySeed", "token", "user", "password", "tls", "connectWait", "pingInterval", "name",
];
const CREDENTIALS = /^([a-z]+:\/\/)?([^:@/]+)(?::([^@/]*))?@/;

export interface ConnectOptions extends ClientOptions {
  /** The name of a .creds file; it wins over an NKey seed, which wins over a token, which wins over a user. */
  creds?: string;
  nkeySeed?: string;
  token?: string;
  user?: string;
  password?: string;
  /** Of `@nats-io/transport-node`: caFile, certFile, keyFile, … */
  tls?: NodeConnectionOptions["tls"];
  /** Seconds that the first connection may take. 10. */
  connectWait?: number;
  /** Seconds between two PINGs: after three without an answer a server counts as lost. 5. */
  pingInterval?: number;
  /** How the connection is called in the server's lists. */
  name?: string;
}

/** A client with call records. */
export class NodeClient extends Client {
  constructor(private readonly connection: NatsConnection, options: ClientOptions = {}) {
    super(connection, options);
  }

  /**
   * Call records from a JetStream stream, from the first that nobody with this name has acknowledged on. Each is
   * delivered until it is acknowledged, so over a crash one may come twice: store it by its `key`.
   */
  cdrs(options: CdrsOptions): Cdrs {
    return new Cdrs(this, this.connection, options);
  }
}

/**
 * Connect: `const fs = await connect("nats://127.0.0.1:4222")`. Several servers of a cluster are a list, or separated by
 * commas; without a URL it is that in NATS_URL. Reconnects by itself, without a limit. Throws Refused
 * for what can't be right, LinkError if no server takes us.
 */
export async function connect(url?: string | readonly string[], options: ConnectOptions = {}): Promise<NodeClient> {
  const text = url === undefined || url.length === 0 ? process.env.NATS_URL || "nats://127.0.0.1:4222" : url;
  const servers = (typeof text === "string" ? [text] : text).flatMap((each) => each.split(","))
    .map((each) => each.trim()).filter((each) => each !== "");
  checkOptions("connect", options, OPTIONS);
  for (const each of servers) checkUrl(each);
  let nats: NatsConnection;
  try {
    const found = await authenticator(options, servers);
    checkIdentity(found);
    nats = await connectNats({
      servers: servers.map((each) => each.replace(CREDENTIALS, (_, scheme?: string) => scheme ?? "")),
      name: options.name ?? `event-agent-client pid=${process.pid}`,
      timeout: (options.connectWait ?? 10) * 1000,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      reconnectJitter: 250,
      reconnectJitterTLS: 500,
      pingInterval: (options.pingInterval ?? 5) * 1000,
      maxPingOut: 2,
      ignoreAuthErrorAbort: true, // a server that refuses us now may take us later, as after a reload
      ...(found === undefined ? {} : { authenticator: found }),
      ...(options.tls === undefined ? {} : { tls: options.tls }),
    });
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new LinkError(`NATS at ${servers.map(masked).join(", ")}: ${wordsOf(error)}`);
  }
  try {
    return new NodeClient(nats, options);
  } catch (error) {
    await nats.close();
    throw error;
  }
}

async function authenticator(options: ConnectOptions, servers: readonly string[]): Promise<Authenticator | undefined> {
  if (options.creds !== undefined) {
    const file = options.creds;
    const text = await readFile(file).catch((error: unknown) => {
      throw new Refused(`creds: ${wordsOf(error)}`, "creds");
    });
    return credsAuthenticator(new Uint8Array(text));
  }
  if (options.nkeySeed !== undefined) return nkeyAuthenticator(new TextEncoder().encode(options.nkeySeed));
  if (options.token !== undefined) return tokenAuthenticator(options.token);
  if (options.user !== undefined) return usernamePasswordAuthenticator(options.user, options.password);
  return inUrl(servers);
}

/** A seed or a .creds file that is none would show only when a server asks for a signature. */
function checkIdentity(found: Authenticator | undefined): void {
  try {
    found?.("a nonce");
  } catch (error) {
    throw new Refused(`creds or nkeySeed: ${wordsOf(error)}`, "creds");
  }
}

function checkUrl(text: string): void {
  const whole = text.includes("://") ? text : `nats://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || url.hostname === "" || !["nats:", "tls:"].includes(url.protocol)) {
    throw new Refused(`${masked(text)} is no URL of a NATS server, such as nats://127.0.0.1:4222`, "url");
  }
}

/** User and password, or a token, that stand in a URL. */
function inUrl(servers: readonly string[]): Authenticator | undefined {
  for (const each of servers) {
    const [, , user, password] = CREDENTIALS.exec(each) ?? [];
    if (user === undefined) continue;
    if (password === undefined) return tokenAuthenticator(decodeURIComponent(user));
    return usernamePasswordAuthenticator(decodeURIComponent(user), decodeURIComponent(password));
  }
  return undefined;
}

function masked(url: string): string {
  return url.replace(CREDENTIALS, (_, scheme?: string) => `${scheme ?? ""}…@`);
}
