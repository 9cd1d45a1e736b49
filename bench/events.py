"""Measures of events: how late they come, how many a second, what one costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.rig import MODULE, MODULE_PREFIX, OURS, RAW, RUNG, Rig, cpu, peak_memory, seen
from bench.rows import Results, rotated
from tests.functional.real_switch import GROUP
from tests.support import until

UNNUDGED = f"{OURS}, never nudged"
RAW_NUDGED, RAW_UNNUDGED = f"{RAW}, nudged", f"{RAW}, never nudged"
NUDGE = 2  # milliseconds
QUIET = 2.6  # seconds after which the agent leaves an event connection alone
CANNON = 100_000
FEW = "Caller-Caller-ID-*,Caller-Destination-Number,Call-Direction,Application*"
CARRIED: dict[str, dict[str, str]] = {
    OURS: {},
    f"{OURS}, no variables": {"event_variables": "none"},
    f"{OURS}, a few headers": {"event_fields": FEW, "event_variables": "none"},
}


@contextmanager
def reader(rig: Rig, peer: str, count: int, seconds: float) -> Iterator[Any]:
    """The client that is to see the events that `fire` fires at this peer's FreeSWITCH, subscribed."""
    if peer in (RAW_NUDGED, RAW_UNNUDGED):
        switch = rig.switch
        how: tuple[object, ...] = (
            "listen", "127.0.0.1", switch.port, switch.password, "bench::event", count, seconds,
            NUDGE if peer == RAW_NUDGED else 0,
        )  # fmt: skip
    else:
        subject = f"{MODULE_PREFIX}.events.custom" if peer == MODULE else "freeswitch.events.custom.bench.event"
        how = ("events", "127.0.0.1", rig.nats.port, subject, count, seconds)
    with rig.background(*how) as process:
        yield process


def latency(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """From the moment before FreeSWITCH is asked to fire an event to a subscriber. A rate of 0.4 is idle: each event
    comes after the agent has left the connection alone."""
    rates = {0.4: 2, 1: 3, 100: 300, 1000: 3000}
    if quick:
        rates = {0.4: 1, 100: 50, 1000: 300}
    rung = [RUNG] if rig.real else []
    peers = rig.peers(OURS, *rung, UNNUDGED, RAW_NUDGED, RAW_UNNUDGED, MODULE)
    for run in range(repeats):
        for peer in rotated(peers, run):
            with ExitStack() as stack:
                if peer in (OURS, RUNG, UNNUDGED):
                    port, group = str(rig.switch.port), ""
                    if peer == RUNG:
                        port = str(stack.enter_context(rig.bell()).port)
                        group = f"{GROUP}:{port}"
                    wake = str(0 if peer == UNNUDGED else NUDGE)
                    agent = rig.agent(esl_port=port, event_wake_ms=wake, event_wake_multicast=group)
                    stack.enter_context(agent)
                for rate, count in rates.items():
                    _latency(rig, results, peer, rate, count)


def _latency(rig: Rig, results: Results, peer: str, rate: float, count: int) -> None:
    group = "event latency"
    if rate < 1:
        time.sleep(QUIET)
    with reader(rig, peer, count, 20 + count / rate) as process:
        rig.fire(peer, count, rate)
        result = seen(process)
    goals: tuple[dict[str, Any], ...] = ({}, {})
    if peer == OURS and rate == 100:
        goals = {"floor": 2.0}, {"floor": 4.0}
    results.add(group, "median", "ms", peer, result["p50_us"] / 1000, rate, **goals[0])
    if rate >= 100:
        results.add(group, "99th percentile", "ms", peer, result["p99_us"] / 1000, rate, **goals[1])


def flat_out(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """Events a second as fast as FreeSWITCH fires them, and what one costs everybody."""
    group, count = "events flat out, fired by FreeSWITCH", 3000 if quick else 20_000
    peers = rig.peers(OURS, RAW_NUDGED, MODULE)
    for run in range(repeats):
        for peer in rotated(peers, run):
            with ExitStack() as stack:
                agent = stack.enter_context(rig.agent()) if peer == OURS else None
                process = agent.process if agent else None
                before = cpu(process), rig.switch_cpu(peer)
                with reader(rig, peer, count, 60) as subscriber:
                    rig.fire(peer, count, 0)
                    result = seen(subscriber)
                mine = (cpu(process) - before[0]) / count * 1e6
                switch = (rig.switch_cpu(peer) - before[1]) / count * 1e6
            results.add(group, "events a second", "/s", peer, result["per_second"], more=True)
            results.add(group, "not seen", "", peer, count - result["count"])
            if agent:
                results.add(group, "CPU of the agent an event", "µs", peer, mine)
            if rig.real:
                results.add(group, "CPU of FreeSWITCH an event", "µs", peer, switch)


def cannon(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """The agent's own limit: recorded events of 2.9 kB from somebody who is faster than FreeSWITCH."""
    group, count = "events flat out, from a recording", 5000 if quick else CANNON
    for _ in range(repeats):
        with rig.cannon(count) as (port, gun), rig.agent(esl_port=port) as agent:
            before = cpu(agent.process)
            with rig.background(
                "events", "127.0.0.1", rig.nats.port, "freeswitch.events.channel.create", count, 60
            ) as subscriber:
                fire(gun)
                result = seen(subscriber)
            cost = (cpu(agent.process) - before) / count * 1e6
            results.add(group, "events a second", "/s", OURS, result["per_second"], more=True, aim=30_000.0)
            results.add(group, "CPU of the agent an event", "µs", OURS, cost, aim=15.0)
            results.add(group, "not seen", "", OURS, count - result["count"])
            results.add(group, "most resident memory", "MB", OURS, peak_memory(agent.process), floor=30.0)


def carried(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """What it saves to leave out of events what nobody reads: the recorded event with three choices, in turn."""
    group, count = "what an event carries", 5000 if quick else CANNON
    for run in range(repeats):
        for peer in rotated(list(CARRIED), run):
            settings = CARRIED[peer]
            if not run:
                results.add(group, "bytes an event", "", peer, _size(rig, settings))
            with rig.cannon(count) as (port, gun), rig.agent(esl_port=port, ready=True, **settings) as agent:
                before = cpu(agent.process), cpu(rig.nats.process)
                with rig.background(
                    "events", "127.0.0.1", rig.nats.port, "freeswitch.events.channel.create", count, 60
                ) as subscriber:
                    fire(gun)
                    result = seen(subscriber)
                used = cpu(agent.process) - before[0], cpu(rig.nats.process) - before[1]
            for who, seconds in zip(("the agent", "nats-server"), used, strict=True):
                results.add(group, f"CPU of {who} an event", "µs", peer, seconds / count * 1e6)
            results.add(group, "events a second", "/s", peer, result["per_second"], more=True)


def _size(rig: Rig, settings: dict[str, str]) -> int:
    """Of the recorded event, as it is published."""
    with rig.cannon(100) as (port, gun), rig.agent(esl_port=port, ready=True, **settings), rig.client() as client:
        events = client.events("freeswitch.events.channel.create")
        fire(gun)
        until(lambda: len(events.messages) == 100, "the events", 30)
        return len(events.messages[0].data)


def fire(gun: Any) -> None:
    """Let the cannon fire."""
    gun.stdin.write("fire\n")
    gun.stdin.flush()
