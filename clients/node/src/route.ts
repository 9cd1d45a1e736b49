// Deciding calls before they enter the dialplan: dialplan.route.

import type { Client, Incoming } from "./client.js";
import { NotAllowed, Refused } from "./errors.js";
import type { Message, Subscription } from "./link.js";
import { isSubject, isToken, objectOf, slug } from "./protocol.js";

/** A call to decide on. */
export interface RouteRequest {
  node_id: string;
  uuid: string;
  direction: string;
  caller_id_name: string;
  caller_id_number: string;
  destination: string;
  context: string;
  network_addr: string;
  /** Those that `variables` of the options names. */
  variables: Record<string, string | null>;
}

/** What becomes of it; `to` makes them. */
export type RouteAction =
  | { action: "park" | "dialplan" }
  | { action: "transfer"; extension: string; context?: string; dialplan?: string }
  | { action: "hangup"; cause?: string }
  | { action: "apps"; apps: readonly { app: string; args?: string }[]; expand?: boolean };

export type RouteHandler = (call: RouteRequest) => RouteAction | Promise<RouteAction>;

export interface RouteOptions {
  context?: string | readonly string[];
  /** A regular expression, searched in the number dialled. */
  number?: string;
  /** Numbers that are never asked about, such as "112". */
  except?: string | readonly string[];
  /** Names of channel variables that the handler is to get. */
  variables?: readonly string[];
  /** Seconds that an agent waits for the answer, 0.1 to 5. 0.8. */
  timeout?: number;
  /** What becomes of a call without an answer: "dialplan" or "park". "dialplan". */
  fallback?: "dialplan" | "park";
  /** Where the questions go. `<prefix>.route`. */
  subject?: string;
  /** The name by which programs that share the questions know each other. "event-agent-routers". */
  group?: string;
  /** Only the calls of this node. */
  node?: string;
}

/** What a route handler returns. */
export const to = {
  /** Park it, for a program that takes parked calls. */
  park: (): RouteAction => ({ action: "park" }),
  /** FreeSWITCH's own dialplan. */
  dialplan: (): RouteAction => ({ action: "dialplan" }),
  transfer: (extension: string, options: { context?: string; dialplan?: string } = {}): RouteAction =>
    ({ action: "transfer", extension, ...options }),
  hangup: (cause?: string): RouteAction => ({ action: "hangup", ...(cause === undefined ? {} : { cause }) }),
  /** Applications of FreeSWITCH's dialplan, one after the other. `${…}` in them only with `expand`. */
  apps: (apps: readonly (readonly [app: string, args?: string])[], options: { expand?: boolean } = {}): RouteAction =>
    ({ action: "apps", apps: apps.map(([app, args]) => (args === undefined ? { app } : { app, args })), ...options }),
};

// What is no answer is taken for one at once: the agent goes by its fallback then, and counts it.
const NOTHING = '{"action":null}';

/** @internal */
export class Routes implements Incoming {
  private readonly subject: string;
  private sub: Subscription | undefined;

  constructor(
    private readonly client: Client,
    private readonly options: RouteOptions,
    private readonly handler: RouteHandler,
  ) {
    this.subject = options.subject ?? `${client.prefix}.route`;
    if (!isSubject(this.subject)) throw new Refused("subject must be a plain subject", "subject");
    if (options.group !== undefined && !isToken(options.group)) throw new Refused("group must be one word", "group");
  }

  async begin(): Promise<void> {
    const { link } = this.client;
    await link.ready();
    let refused: NotAllowed | undefined;
    this.sub = link.subscribe(this.subject, (message) => void this.asked(message), {
      queue: this.options.group ?? "event-agent-routers",
      refused: (error) => {
        refused = error;
        this.client.report(error);
      },
    });
    this.client.keep(this, true);
    try {
      await link.flush();
      if (refused !== undefined) throw refused;
      await this.set("");
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  async set(node: string): Promise<void> {
    const { subject, group: _, node: only, ...fields } = this.options;
    if (only !== undefined && node !== "" && slug(node) !== slug(only)) return;
    await this.client.setOn(only ?? node, "routing", [
      { command: "dialplan.route", enabled: true, ...fields, ...(subject === undefined ? {} : { subject }) },
    ]);
  }

  private async asked(message: Message): Promise<void> {
    const request = objectOf(message.data);
    if (request === undefined || message.reply === undefined || message.reply === "") return;
    let text = NOTHING;
    try {
      const action: unknown = await this.handler(request as unknown as RouteRequest);
      if (typeof action !== "object" || action === null) throw new Refused("a router must return an action, see `to`", "action");
      text = JSON.stringify(action);
    } catch (error) {
      this.client.report(error);
    }
    try {
      this.client.link.publish(message.reply, text);
    } catch {
      // The link is closed: the call goes by the fallback.
    }
  }

  stop(): void {
    this.client.keep(this, false);
    this.sub?.unsubscribe();
    this.sub = undefined;
  }
}
