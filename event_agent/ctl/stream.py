"""`stream create` and `stream show`: the JetStream stream that keeps the agents' events.

The agents never make or change a stream; a person does, by this or by NATS' own tool.
Source: NATS docs, "JetStream wire API reference": $JS.API.STREAM.CREATE, .NAMES, .INFO.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from event_agent.client.client import Client, NoAgent
from event_agent.ctl.views import duration, number, safe, to_json

TIMEOUT = 5.0  # seconds
NANO = 1_000_000_000


class StreamError(Exception):
    """JetStream refused; its own words."""


def run(client: Client, options: argparse.Namespace) -> int:
    """Returns the exit code."""
    timeout = options.timeout or TIMEOUT
    if options.what == "create":
        return _create(client, options, timeout)
    return _show(client, options, timeout)


def _create(client: Client, options: argparse.Namespace, timeout: float) -> int:
    config = {
        "name": options.name,
        "subjects": [f"{client.prefix}.events.>", f"{client.prefix}.cdr.>"],
        "retention": "limits",
        "storage": options.storage,
        "num_replicas": options.replicas,
        "duplicate_window": int(options.window * NANO),
        "max_age": int(options.max_age * NANO),
        "max_bytes": options.max_bytes or -1,
        "max_msgs": -1,
        "discard": "old",
    }
    answer = _ask(client, f"STREAM.CREATE.{options.name}", config, timeout)
    print(f"stream {options.name}: made; it takes {', '.join(config['subjects'])}")
    _print(answer)
    return 0


def _show(client: Client, options: argparse.Namespace, timeout: float) -> int:
    answer = _info(client, options.name, timeout)
    if options.json:
        print(to_json(answer))
    else:
        _print(answer)
    return 0


def _info(client: Client, name: str | None, timeout: float) -> dict[str, Any]:
    """JetStream's answer on a stream, or on the one that has the events."""
    if not name:
        found = _ask(client, "STREAM.NAMES", {"subject": f"{client.prefix}.events.>"}, timeout).get("streams") or []
        if not found:
            raise StreamError(
                f"no stream takes {client.prefix}.events.>; make one: event-agentctl stream create"
            )
        name = str(found[0])
    return _ask(client, f"STREAM.INFO.{name}", None, timeout)


def found_stream(client: Client, name: str) -> tuple[str, list[str]]:
    """The stream that has the events, and why it does not fit. Raises StreamError, AgentTimeout, LinkError."""
    config = _part(_info(client, name, TIMEOUT), "config")
    return str(config.get("name", "?")), faults(config)


def _print(answer: dict[str, Any]) -> None:
    """A stream in a few lines."""
    config, state = _part(answer, "config"), _part(answer, "state")
    window = _seconds(config.get("duplicate_window"))
    lines = [
        ("stream", config.get("name", "?")),
        ("subjects", ", ".join(map(str, config.get("subjects") or []))),
        ("messages", number(_whole(state.get("messages")))),
        ("bytes", number(_whole(state.get("bytes")))),
        ("first, last", f"{state.get('first_seq', '?')}, {state.get('last_seq', '?')}"),
        ("consumers", str(state.get("consumer_count", "?"))),
        ("storage", f"{config.get('storage', '?')}, {config.get('num_replicas', '?')} copies"),
        ("kept for", duration(age) if (age := _seconds(config.get("max_age"))) else "no limit"),
        ("duplicates", f"known for {duration(window)}" if window else "not removed"),
    ]
    for what, value in lines:
        print(f"{what + ':':13}{safe(value)}")
    for fault in faults(config):
        print(f"warning:     {fault}")


def faults(config: dict[str, Any]) -> list[str]:
    """Why a stream does not fit at-least-once delivery."""
    found = []
    if config.get("no_ack"):
        found.append("it does not acknowledge (no_ack): the agents do not use it")
    if config.get("discard") == "new":
        found.append("it refuses new events when it is full (discard new): these are lost, and counted")
    if config.get("storage") == "memory":
        found.append("it is kept in memory: it is gone with the server")
    window = _seconds(config.get("duplicate_window"))
    if window < 60:
        found.append(f"it knows duplicates for {duration(window)} only: a longer outage can store some twice")
    return found


def _ask(client: Client, what: str, payload: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
    """One request of JetStream's API. Raises StreamError, AgentTimeout, LinkError."""
    try:
        data, _ = client.ask(f"$JS.API.{what}", b"" if payload is None else json.dumps(payload).encode(), timeout)
    except NoAgent:
        raise StreamError("this NATS server has no JetStream (-js, or jetstream {} in its file)") from None
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise StreamError("JetStream gave an answer that can't be read")
    if isinstance(error := answer.get("error"), dict):
        raise StreamError(f"{error.get('description', 'refused')} ({error.get('err_code', error.get('code', '?'))})")
    return answer


def _part(answer: dict[str, Any], name: str) -> dict[str, Any]:
    part = answer.get(name)
    return part if isinstance(part, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _seconds(value: object) -> float:
    return value / NANO if isinstance(value, int) else 0.0
