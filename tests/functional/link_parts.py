"""What the tests of both links share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.functional.parts import Agent, Client, Events
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import until
from tests.switchsim import SwitchSim

Start = Callable[..., Agent]
AnySwitch = RealSwitch | SwitchSim


def kill(switch: AnySwitch) -> None:
    switch.kill() if isinstance(switch, RealSwitch) else switch.stop()


def status(client: Client, subject: str = "freeswitch.api") -> dict[str, Any]:
    return dict(client.request("agent.status", subject=subject)["data"])


def numbered(client: Client, prefix: str, count: int, window: int = 50) -> dict[int, list[dict[str, Any]]]:
    """Send numbered echoes, a few in flight, and gather what comes back for each."""
    answers = client.gather(f"{prefix}.numbered")
    sent = 0

    def room() -> bool:
        return sent - len(answers) < window

    for number in range(count):
        until(room, "room for one more", 60)
        sent += 1
        payload = json.dumps({"command": "echo", "args": f"n{number}", "correlation_id": number}).encode()
        client.publish(f"{prefix}.api", payload, reply=f"{prefix}.numbered")
    until(lambda: len(answers) >= count, lambda: f"{count} replies, {len(answers)} came", 60)
    found: dict[int, list[dict[str, Any]]] = {}
    for message in list(answers):
        reply = json.loads(message.data)
        found.setdefault(reply["correlation_id"], []).append(reply)
    return found


def check_numbered(found: dict[int, list[dict[str, Any]]], count: int) -> int:
    """Each answered once, and right where it succeeded; returns how many did."""
    missing = set(range(count)) - set(found)
    twice = {number: replies for number, replies in found.items() if len(replies) != 1}
    assert not missing and not twice and len(found) == count, f"missing: {missing}; twice: {twice}"
    good = [number for number, (reply,) in found.items() if reply["success"]]
    assert all(found[number][0]["data"] == f"n{number}" for number in good)
    return len(good)


# -- the broker


def fire(raw: RawEvents, number: int) -> None:
    raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::n\nX-N: {number}\n")


def got(events: Events) -> list[int]:
    return [int(event["headers"]["X-N"]) for event in events.named("CUSTOM", Event_Subclass="agent::n")]
