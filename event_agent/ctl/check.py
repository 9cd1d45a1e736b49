"""`event-agentctl check`: one line and an exit code as monitoring plugins have them.

Source: the Monitoring Plugins guidelines, https://www.monitoring-plugins.org/doc/guidelines.html
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from event_agent.client.client import AgentTimeout, NoAgent, Reply
from event_agent.config.unit import Service
from event_agent.ctl.connection import client, not_read, own_service, settings_of
from event_agent.ctl.nodes import GATHER_TIMEOUT, SETTLE, data_of, node_of, section, since
from event_agent.ctl.service import State, state_of
from event_agent.ctl.views import safe, some
from event_agent.errors import ConfigError, LinkError
from event_agent.protocol.subjects import slug

OK, WARNING, CRITICAL, UNKNOWN = range(4)
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the line; returns the exit code."""
    performance = ""
    try:
        here = _here(options, environ)
        if here is not None and here[1] is not None and not here[1].runs:
            code, text = CRITICAL, f"{here[0].name} on this machine is {here[1].text}; see event-agentctl doctor"
        else:
            if here is not None:
                options.node = settings_of(options, environ).node_id or None
            with client(options, environ) as connected:
                timeout = options.timeout or GATHER_TIMEOUT
                found = connected.gather("agent.status", timeout=timeout, node=options.node, settle=timeout * SETTLE)
                replies = sorted(found, key=node_of)
            code, text = judge(replies, options, connected.streams)
            performance = " | " + figures(replies) if replies else ""
            if here is not None and options.node is None and len(replies) > 1:
                code = max(code, WARNING)
                text += "; this machine's agent can't be told from the others: set its node_id, or use --all"
    except (ConfigError, ValueError) as error:
        code, text = UNKNOWN, str(error)
    except (LinkError, NoAgent, AgentTimeout) as error:
        code, text = CRITICAL, str(error)
        if isinstance(error, LinkError) and (why := not_read(options, environ)):
            text += f"; {why}"
    except KeyboardInterrupt:
        code, text = UNKNOWN, "interrupted"
    except Exception as error:  # whatever it is, a monitoring system must not take it for one of the other states
        code, text = UNKNOWN, f"{type(error).__name__}: {error}"
    # A bar would begin the figures.
    print(f"EVENT-AGENT {STATES[code]} - {safe(text).replace('|', '/')}{performance}")
    return code


def _here(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Service, State | None] | None:
    """The service of this machine and how it stands, if that is what is asked about."""
    if options.all or options.node or options.min_nodes is not None:
        return None
    found = own_service(options, environ)
    if found is None:
        return None
    state = state_of(found.name)
    # A package that was installed for this tool alone, and whose service is disabled, is no agent.
    in_use = found.enabled or bool(options.unit) or (state is not None and state.active != "inactive")
    return (found, state) if in_use else None


def judge(
    replies: Sequence[Reply], options: argparse.Namespace, streams: Collection[str] = ()
) -> tuple[int, str]:
    """State and what to say about it; the worst comes first. `streams` have answered requests."""
    warning = [
        f"the JetStream stream {name} takes requests and answers them itself: keep its subjects to events and cdr"
        for name in sorted(streams)
    ]
    if not replies:
        return CRITICAL, "; ".join(["no agent has replied", *warning])
    critical: list[str] = []
    wanted = 1 if options.node or options.min_nodes is None else options.min_nodes
    if len(replies) < wanted:
        critical.append(f"{_nodes(len(replies))} of at least {wanted}")
    answered = [reply for reply in replies if reply.get("success")]
    away = [node_of(reply) for reply in answered if not section(reply, "freeswitch").get("connected")]
    if away:
        # As long as one node can take calls the service is up.
        (critical if len(away) == len(replies) else warning).extend(_away(answered))
    names = Counter(slug(node_of(reply)) for reply in replies if node_of(reply) != "unknown")
    twins = [(name, count) for name, count in names.items() if count > 1]
    warning += [f"{count} agents are called {name}: each takes its commands" for name, count in twins]
    for reply in replies:
        node, data = node_of(reply), data_of(reply)
        if not reply.get("success"):
            warning.append(f"{node}: {reply.get('message', 'no status')}")
            continue
        switch = section(reply, "freeswitch")
        if switch.get("events") is False and node not in away:
            why = f": {switch['events_reason']}" if switch.get("events_reason") else ""
            warning.append(f"{node} gets no events from FreeSWITCH{why}")
        if section(reply, "dialplan").get("key") == "optional":
            warning.append(f"{node}: mod_xml_curl's URL has no key yet, see event-agentctl park status")
        if refused := section(reply, str(data.get("driver"))).get("subscriptions_refused"):
            warning.append(f"{node} may not listen on {', '.join(map(str, refused))}")
        if fault := _part(section(reply, str(data.get("driver"))), "delivery").get("fault"):
            warning.append(f"{node}: {fault}")
        others = data.get("twins")
        if isinstance(others, list) and others and names[slug(node)] < 2:
            warning.append(f"{node}: {_nodes_more(len(others))} called so: each takes its commands")
        if (reasons := _reasons(reply)) and node not in away:
            warning.append(f"{node} is not ready: {', '.join(reasons)}")
        if (pending := _count(data, "commands_pending")) > options.max_pending:
            warning.append(f"{node}: {pending} commands waiting")
        dropped = max(_count(data, "events_dropped"), _lost(reply))
        if options.max_dropped is not None and dropped > options.max_dropped:
            warning.append(f"{node}: {dropped} events dropped")
    if critical or warning:
        return CRITICAL if critical else WARNING, some(critical + warning, "; ")
    return OK, f"{_nodes(len(replies))}, FreeSWITCH connected on all" if len(replies) > 1 else (
        f"{node_of(replies[0])}: FreeSWITCH connected"
    )


def _away(replies: Sequence[Reply]) -> list[str]:
    """The nodes without FreeSWITCH, those with one reason in one text, and since when."""
    found: dict[str, list[str]] = {}
    for reply in replies:
        switch = section(reply, "freeswitch")
        if not switch.get("connected"):
            found.setdefault(str(switch.get("reason") or ""), []).append(node_of(reply) + since(switch))
    return [f"FreeSWITCH unreachable on {some(names)}{reason and ': '}{reason}" for reason, names in found.items()]


def _reasons(reply: Reply) -> list[str]:
    """Why a node takes no requests that any could."""
    found = section(reply, "readiness").get("reasons")
    return [str(each) for each in found] if isinstance(found, list) else []


def _part(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}


def _lost(reply: Reply) -> int:
    """Events that were lost, for whatever reason, as far as they could be counted."""
    return sum(each for each in _part(section(reply, "losses"), "events").values() if isinstance(each, int))


def figures(replies: Sequence[Reply]) -> str:
    """Performance data: sums over the nodes, `c` marks counters."""
    up = sum(bool(section(reply, "freeswitch").get("connected")) for reply in replies)
    data = [data_of(reply) for reply in replies]
    sums = {
        "nodes": f"{len(replies)}",
        "freeswitch": f"{up}",
        "pending": f"{sum(_count(each, 'commands_pending') for each in data)}",
        "commands": f"{sum(_count(each, 'commands_received') for each in data)}c",
        "failed": f"{sum(_count(section(reply, 'stats'), 'requests_failed') for reply in replies)}c",
        "events": f"{sum(_count(each, 'events_published') for each in data)}c",
        "dropped": f"{sum(_count(each, 'events_dropped') for each in data)}c",
        "lost": f"{sum(map(_lost, replies))}c",
    }
    return " ".join(f"{name}={value}" for name, value in sums.items())


def _nodes_more(count: int) -> str:
    return f"{count} more agent{' is' if count == 1 else 's are'}"


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _count(data: Mapping[str, object], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0
