"""What event-agentctl does once and prints: req, api, originate, hangup, app, park, route, status."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from event_agent.client.client import TIMEOUT, Client, CommandFailed, Reply
from event_agent.ctl.nodes import (
    GATHER_TIMEOUT,
    Nodes,
    add_counts,
    count_of,
    counts,
    data_of,
    node_of,
    node_table,
    reasons,
    section,
    statuses,
    summary,
)
from event_agent.ctl.views import Cell, Painter, is_coloured, number, safe, table, to_json

PARTS: dict[str, Any] = {"parts": True}  # an answer may be longer than one message
PROMPT = 3  # lines of the terminal that are not the table's: the one above it, and the prompt
LOOK = 0.7  # seconds over which `status` takes rates
CHANNEL_SETTLE = 2.0  # seconds; the node that has the channel may be busier than the others
ORIGINATE_TIMEOUT = 60  # seconds for which FreeSWITCH lets a call ring
NO_CHANNEL = "-ERR No such channel!"  # as FreeSWITCH has it
MARGIN = 5.0  # seconds for the way there and back


class Usage(Exception):
    """The command line is wrong; exit code 2."""


def request(client: Client, options: argparse.Namespace) -> int:
    """`req JSON`: the reply as it is, pretty on a terminal, one line in a pipe."""
    payload = _object(sys.stdin.read() if options.json == "-" else options.json)
    if payload.get("async") is True:
        client.send(payload, options.node)
        return 0
    timeout = options.timeout or TIMEOUT
    if options.all:
        command = payload.get("command")
        if not isinstance(command, str):
            raise Usage("command must be a string")
        replies, code = _everywhere(client, command, payload, timeout)
    else:
        replies, code = [client.call(payload, options.node, timeout)], 0
    for reply in replies:
        print(to_json(reply, pretty=sys.stdout.isatty()))
    return code or _code(replies)


def api(client: Client, options: argparse.Namespace) -> int:
    """`api VERB [ARGS…]`: FreeSWITCH's output as it is."""
    timeout = options.timeout or TIMEOUT
    args = " ".join(options.args) or None
    if not options.all:
        _print_data(client.request(options.verb, args, options.node, timeout, PARTS))
        return 0
    replies, code = _everywhere(client, options.verb, PARTS | ({} if args is None else {"args": args}), timeout)
    paint = Painter(is_coloured(sys.stdout))
    for reply in sorted(replies, key=node_of):
        print(paint(f"--- {safe(reply.get('node_id', 'unknown'))}", "bold"))
        if reply.get("success"):
            _print_data(reply)
        else:
            _complain(reply)
    return code or _code(replies)


def originate(client: Client, options: argparse.Namespace) -> int:
    """`originate ENDPOINT DESTINATION`: waits until the call is answered or has failed, and prints its uuid."""
    fields: dict[str, Any] = {"endpoint": options.endpoint, "extension": options.destination}
    for name in ("context", "dialplan", "caller_id_name", "caller_id_number", "uuid"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    if options.ring is not None:
        fields["timeout"] = options.ring
    if options.variable:
        fields["variables"] = dict(options.variable)
    timeout = options.timeout or (options.ring or ORIGINATE_TIMEOUT) + MARGIN
    reply = client.call({"command": "originate", **fields}, options.node, timeout)
    if not reply["success"]:
        raise CommandFailed(reply)
    data = reply.get("data")
    print(safe(data.get("uuid", "") if isinstance(data, dict) else data))
    return 0


def hangup(client: Client, options: argparse.Namespace) -> int:
    """`hangup UUID [CAUSE]`, on whichever node has the channel."""
    fields = {"uuid": options.uuid} | ({"cause": options.cause} if options.cause is not None else {})
    return _on_channel(client, options, "hangup", fields)


def app(client: Client, options: argparse.Namespace) -> int:
    """`app UUID APP [ARGS]`, on whichever node has the channel."""
    fields: dict[str, Any] = {"uuid": options.uuid, "app": options.app}
    if options.args:
        fields["args"] = " ".join(options.args)
    if options.result and options.wait is None:
        raise Usage("--result needs --wait")
    if options.wait is None:
        return _on_channel(client, options, "execute_app", fields)
    fields["wait"] = options.wait
    if options.result:
        fields["result"] = options.result
    node = options.node or _node_with(client, options.uuid, options.timeout or TIMEOUT)
    timeout = (options.timeout or 0.0) + options.wait + MARGIN
    reply = client.request("execute_app", None, node, timeout, fields)
    print(f"{safe(reply.get('node_id', 'unknown'))}: {safe(reply.get('message', ''))}")
    variables = data_of(reply).get("variables")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if value is not None:
            print(f"{safe(name)}={safe(value)}")
    return 0


def watch(client: Client, options: argparse.Namespace) -> int:
    """`watch UUID [EVENT…]`, on whichever node has the channel."""
    given = {"events": options.events, "to": options.to, "ttl": options.ttl}
    fields = {"uuid": options.uuid} | {name: value for name, value in given.items() if value}
    return _on_channel(client, options, "call.watch", fields)


def unwatch(client: Client, options: argparse.Namespace) -> int:
    """`unwatch UUID`, on whichever node watches it."""
    fields = {"uuid": options.uuid} | ({"to": options.to} if options.to else {})
    return _on_channel(client, options, "call.unwatch", fields)


def sendevent(client: Client, options: argparse.Namespace) -> int:
    """`sendevent EVENT`: prints the event's Event-UUID."""
    fields: dict[str, Any] = {"event": options.event}
    if options.subclass is not None:
        fields["subclass"] = options.subclass
    if options.header:
        fields["headers"] = dict(options.header)
    if options.body is not None:
        fields["body"] = sys.stdin.read() if options.body == "-" else options.body
    reply = client.request("sendevent", None, options.node, options.timeout or TIMEOUT, fields)
    print(safe(data_of(reply).get("event_uuid", "")))
    return 0


def _node_with(client: Client, uuid: str, timeout: float) -> str | None:
    """The node that has the channel; None if it can't be named or nodes can't say. Raises CommandFailed if none has it.

    All are asked, because a question harms nobody, and what acts is then sent to one.
    """
    replies = client.gather(
        "uuid_exists", uuid, timeout, settle=CHANNEL_SETTLE, until=lambda reply: reply.get("data") == "true"
    )
    found = [node_of(reply) for reply in replies if reply.get("data") == "true"]
    if replies and all(reply.get("data") == "false" for reply in replies):
        raise CommandFailed({"success": False, "message": NO_CHANNEL})
    return found[0] if found and found[0] != "unknown" else None


def _on_channel(client: Client, options: argparse.Namespace, command: str, fields: Mapping[str, Any]) -> int:
    """On the node that has the channel. If it can't be named, all get it, and only the one that has it can do it."""
    timeout = options.timeout or TIMEOUT
    if node := options.node or _node_with(client, options.uuid, timeout):
        reply = client.request(command, None, node, timeout, fields)
    else:
        replies = client.gather(
            command, None, timeout, fields, settle=CHANNEL_SETTLE, until=lambda reply: bool(reply.get("success"))
        )
        if not replies:
            return _silence(timeout)
        reply = replies[-1]
        if not reply.get("success"):
            for each in _distinct(replies):
                _complain(each)
            return 1
    print(f"{safe(reply.get('node_id', 'unknown'))}: {safe(reply.get('message', ''))}")
    return 0


def park(client: Client, options: argparse.Namespace) -> int:
    """`park on|off|audio|autoanswer|status`, on the given node or on all."""
    fields: dict[str, Any] = {}
    command = {"on": "enable", "off": "disable"}.get(options.what, options.what)
    if options.what == "on":
        if options.context:
            fields["context"] = options.context if len(options.context) > 1 else options.context[0]
        if options.number is not None:
            fields["number"] = options.number
        if options.excepted:
            fields["except"] = options.excepted
    elif options.what == "audio":
        fields["mode"] = options.mode
        if options.music_class is not None:
            fields["music_class"] = options.music_class
    elif options.what == "autoanswer":
        fields["enabled"] = options.enabled == "on"
    replies, code = _of_nodes(client, options, f"dialplan.{command}", fields)
    good = [reply for reply in replies if reply.get("success")]
    if options.what == "status" and good:
        print("\n".join(park_table(good, Painter(is_coloured(sys.stdout)))))
        for reply in good:
            if data_of(reply).get("key") == "optional":
                print(
                    f"{safe(node_of(reply))}: mod_xml_curl's URL has no key yet, so any program on that machine can "
                    "ask for the dialplan; data.dialplan.add of agent.status has the line for xml_curl.conf.xml"
                )
    else:
        for reply in good:
            print(f"{safe(node_of(reply))}: {safe(reply.get('message', ''))}")
    for reply in replies:
        if not reply.get("success"):
            _complain(reply, with_node=True)
    return code or _code(replies)


def route(client: Client, options: argparse.Namespace) -> int:
    """`route on|off|status`, on the given node or on all."""
    command = "dialplan.route"
    fields: dict[str, Any] = {"enabled": False}
    if options.what == "status":
        command, fields = "dialplan.status", {}
    elif options.what == "on":
        given = {
            "subject": options.subject, "timeout": options.wait, "context": options.context, "number": options.number,
            "except": options.excepted, "variables": options.variable, "fallback": options.fallback,
        }  # fmt: skip
        fields = {name: value for name, value in given.items() if value is not None}
    replies, code = _of_nodes(client, options, command, fields)
    good = [reply for reply in replies if reply.get("success")]
    if options.what == "status" and good:
        print("\n".join(route_table(good, Painter(is_coloured(sys.stdout)))))
    else:
        for reply in good:
            print(f"{safe(node_of(reply))}: {safe(reply.get('message', ''))}")
            for warning in reply.get("warnings") or ():
                _say(f"{safe(node_of(reply))}: {safe(warning)}")
    for reply in good:
        if last := section(reply, "route").get("last_fallback"):
            print(f"{safe(node_of(reply))}: the last call that took the fallback: {safe(last)}")
    for reply in replies:
        if not reply.get("success"):
            _complain(reply, with_node=True)
    return code or _code(replies)


def route_table(replies: Iterable[Reply], paint: Painter) -> list[str]:
    """Routing of the nodes, one a line."""
    rows = []
    for reply in replies:
        data = section(reply, "route")
        on, latency = data.get("enabled") is True, data.get("latency_ms")
        latency = latency if isinstance(latency, dict) else {}
        fallbacks, decisions = data.get("fallbacks"), data.get("decisions")
        taken = {str(name): count for name, count in fallbacks.items() if count} if isinstance(fallbacks, dict) else {}
        rows.append(
            (
                node_of(reply),
                Cell("on", "green") if on else Cell("off"),
                str(data.get("subject", "-")),
                str(data.get("fallback", "-")),
                number(data.get("calls_waiting")),
                number(data.get("calls_asked")),
                number(sum(decisions.values()) if isinstance(decisions, dict) else None),
                *(str(latency.get(name)) if latency.get(name) is not None else "-" for name in ("median", "p99")),
                ", ".join(f"{count} {name}" for name, count in taken.items()) or "none",
            )
        )
    heads = (
        "NODE", "ROUTING", "SUBJECT", "FALLBACK", "WAITING", "ASKED", "DECIDED", "MEDIAN MS", "P99 MS", "FALLBACKS",
    )  # fmt: skip
    return table(heads, rows, paint, right=(4, 5, 6, 7, 8))


def drain(client: Client, options: argparse.Namespace) -> int:
    """`drain on|off`: the given node takes no requests that any could, or does again."""
    if not options.node:
        raise Usage("drain needs --node: with all nodes drained none would take requests")
    reply = client.request("agent.drain", None, options.node, options.timeout or TIMEOUT,
                           {"enabled": options.enabled == "on"})  # fmt: skip
    print(f"{safe(node_of(reply))}: {safe(reply.get('message', ''))}")
    return 0


def park_table(replies: Iterable[Reply], paint: Painter) -> list[str]:
    """Park mode of the nodes, one a line."""
    replies = list(replies)
    exceptions = any(data_of(reply).get("except") for reply in replies)  # the column is there when there are any
    rows = []
    for reply in replies:
        # Others than event-agent may say it in `info` only: `Mode: park | Audio: ringback | …`.
        said = {}
        for part in str(reply.get("info", "")).split("|"):
            name, _, value = part.partition(": ")
            said[name.strip()] = value.strip()
        data = data_of(reply)
        mode = str(data.get("mode", said.get("Mode", "-")))
        audio = str(data.get("audio", said.get("Audio", "-")))
        answer = data.get("auto_answer", said.get("Auto-answer", "-"))
        contexts, excepted = data.get("context"), data.get("except")
        rows.append(
            (
                node_of(reply),
                Cell(mode, "green") if mode == "park" else Cell(mode),
                f"{audio} ({data['music_class']})" if audio == "music" and data.get("music_class") else audio,
                ("on" if answer else "off") if isinstance(answer, bool) else str(answer),
                ", ".join(map(str, contexts)) if isinstance(contexts, list) and contexts else "any",
                str(data.get("number") or "any"),
                *([", ".join(map(str, excepted)) if isinstance(excepted, list) and excepted else "none"] * exceptions),
                str(data.get("calls_parked", said.get("Calls parked", "-"))),
                number(data.get("calls_parked_total")),
            )
        )
    heads = ("NODE", "MODE", "AUDIO", "ANSWER", "CONTEXT", "NUMBER", *["EXCEPT"] * exceptions, "PARKED", "IN ALL")
    return table(heads, rows, paint, right=(len(heads) - 2, len(heads) - 1))


# -- status


def status(client: Client, options: argparse.Namespace) -> int:
    """`status`: the nodes as a table, or their replies as JSON. Rates are what was done while we looked."""
    timeout = options.timeout or GATHER_TIMEOUT
    begun = time.monotonic()
    replies = statuses(client, options.node, timeout)
    if not replies:
        return _silence(timeout)
    if options.json:
        for reply in replies:
            print(to_json(reply, pretty=sys.stdout.isatty()))
        return _code(replies)
    nodes = Nodes()
    nodes.asked()
    nodes.update(replies, begun)
    counted = {}
    for kind in ("calls", "channels"):
        if any(count_of(reply, kind) is None for reply in replies):
            nodes.asked()
            counted[kind] = counts(client, options.node, kind, timeout, len(replies))
    time.sleep(max(0.0, LOOK - (time.monotonic() - begun)))
    nodes.asked()
    again = statuses(client, options.node, timeout, expect=len(replies))
    for kind, answers in counted.items():
        add_counts(again, kind, answers)
    now = time.monotonic()
    nodes.update(again, now)
    columns, lines = shutil.get_terminal_size() if sys.stdout.isatty() else (0, 0)
    head = textwrap.wrap(summary(nodes, now), columns) if lines else []
    why = [line for each in reasons(nodes, now) for line in textwrap.wrap(safe(each), columns or 1000)]
    room = max(0, lines - PROMPT - len(head) + 1 - len(why))
    print("\n".join([*head, *node_table(nodes, now, Painter(is_coloured(sys.stdout)), columns, room), *why]))
    return _code(node.reply for node in nodes)


# -- the rest


def _of_nodes(
    client: Client, options: argparse.Namespace, command: str, fields: Mapping[str, Any]
) -> tuple[list[Reply], int]:
    """The replies of the given node or of all, sorted, and an exit code: 3 if one has not replied."""
    timeout = options.timeout or GATHER_TIMEOUT
    if options.node:
        return [client.call({"command": command, **fields}, options.node, timeout)], 0
    replies, code = _everywhere(client, command, fields, timeout)
    return sorted(replies, key=node_of), code


def _everywhere(
    client: Client, command: str, fields: Mapping[str, Any], timeout: float
) -> tuple[list[Reply], int]:
    """The replies of all nodes, and an exit code: 3 if one that is there has not replied."""
    # Who is there is asked first: one node may be much slower than another with the same command.
    nodes = statuses(client, None, min(timeout, GATHER_TIMEOUT))
    if not nodes:
        return [], _silence(min(timeout, GATHER_TIMEOUT))
    replies = client.gather(command, None, timeout, fields, expect=len(nodes))
    missing = Counter(map(node_of, nodes)) - Counter(map(node_of, replies))
    for node in missing:
        _say(f"{safe(node)}: no reply within {timeout:g} seconds")
    return replies, 3 if missing else 0


def _object(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise Usage(f"not JSON{where}") from None
    if not isinstance(payload, dict):
        raise Usage('a request is a JSON object, such as {"command":"status"}')
    return payload


def _print_data(reply: Reply) -> None:
    """Output of an API verb: as it is in a pipe, without control sequences on a terminal."""
    data = reply.get("data", "")
    text = data if isinstance(data, str) else to_json(data, pretty=sys.stdout.isatty())
    if sys.stdout.isatty():
        text = safe(text, lines=True)
    sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"event-agentctl: {text}", file=sys.stderr, flush=True)


def _complain(reply: Reply, with_node: bool = False) -> None:
    _say((f"{safe(node_of(reply))}: " if with_node else "") + safe(CommandFailed(reply)))


def _distinct(replies: Iterable[Reply]) -> Iterable[Reply]:
    return {str(reply.get("message")): reply for reply in replies}.values()


def _silence(timeout: float) -> int:
    _say(f"no reply within {timeout:g} seconds")
    return 3


def _code(replies: Iterable[Reply]) -> int:
    return 0 if all(reply.get("success") for reply in replies) else 1


COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "req": request,
    "api": api,
    "originate": originate,
    "hangup": hangup,
    "app": app,
    "watch": watch,
    "unwatch": unwatch,
    "sendevent": sendevent,
    "park": park,
    "route": route,
    "drain": drain,
    "status": status,
}
