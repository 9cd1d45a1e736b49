"""The faults of a soak, one a minute by turns."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

from bench.soak.parts import Parts

FROZEN = 5.0  # seconds
LONGER = 15.0


def nothing(_: Parts) -> None:
    pass


def broker_killed(parts: Parts) -> None:
    parts.nats.kill()
    time.sleep(1.0)
    parts.nats.start()


def broker_frozen(parts: Parts, seconds: float = FROZEN) -> None:
    parts.nats.signal(signal.SIGSTOP)
    time.sleep(seconds)
    parts.nats.signal(signal.SIGCONT)


def agent_restarted(parts: Parts) -> None:
    parts.restart_agent(signal.SIGTERM)


def agent_killed(parts: Parts) -> None:
    parts.restart_agent(signal.SIGKILL)


def agent_frozen(parts: Parts, seconds: float = FROZEN) -> None:
    parts.agent.signal(signal.SIGSTOP)
    time.sleep(seconds)
    parts.agent.signal(signal.SIGCONT)


def link_cut(parts: Parts) -> None:
    """Of the agent to FreeSWITCH, which is out of reach for two seconds."""
    parts.proxy.refusing = True
    parts.proxy.cut()
    time.sleep(2.0)
    parts.proxy.refusing = False


def postgres_restarted(parts: Parts) -> None:
    parts.postgres.kill()
    time.sleep(1.0)
    parts.postgres.start()


def writer_killed(parts: Parts) -> None:
    parts.programs["writer"].kill()
    time.sleep(1.0)
    parts.start_writer()


def router_killed(parts: Parts) -> None:
    parts.programs["router"].kill()
    time.sleep(1.0)
    parts.start_router()


FAULTS: dict[str, Callable[[Parts], None]] = {
    "agent restarted": agent_restarted,
    "agent killed": agent_killed,
    "broker killed": broker_killed,
    "router killed": router_killed,
    "broker frozen": broker_frozen,
    "writer killed": writer_killed,
    "agent frozen": agent_frozen,
    "PostgreSQL killed": postgres_restarted,
    "event link cut": link_cut,
    "none": nothing,
    "broker frozen 15 s": lambda parts: broker_frozen(parts, LONGER),
    "agent frozen 15 s": lambda parts: agent_frozen(parts, LONGER),
}
LONG_LIFE = {"agent restarted": "broker frozen 15 s", "agent killed": "agent frozen 15 s"}
ROUND = list(FAULTS)[:10]


def turns(left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """One a minute. An agent lives through two rounds of three, so that growth would show."""
    number = 0
    while True:
        for name in ROUND:
            name = LONG_LIFE.get(name, name) if number % 3 else name
            yield "none" if name in left_out else name
        number += 1
