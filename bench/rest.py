"""Measures of what the agent costs while little happens, of what calls cost, and of memory."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack

from bench.events import NUDGE, UNNUDGED, fire
from bench.rig import MODULE, MODULE_PREFIX, OURS, REQUEST, Rig, cpu, peak_memory, seen
from bench.rows import Results, rotated
from tests.functional.parts import Client, NatsServer
from tests.support import until

NOBODY = "FreeSWITCH alone"
MILLION = 1_000_000
SETTLED = 15  # seconds after a flood: every two of them the agent looks what memory it can give back


def at_rest(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """Start, memory, idle CPU, memory after many requests."""
    seconds, count = (2, 5000) if quick else (8, 100_000)
    for _ in range(repeats):
        started = time.monotonic()  # the client's connecting, some 10 ms, is counted too
        with rig.client() as client, rig.agent(ready=False) as agent:
            while True:
                try:
                    client.raw("freeswitch.any", REQUEST.encode(), 0.5)
                    break
                except Exception:  # nobody listens there yet
                    time.sleep(0.002)
            results.add("start", "from start to first reply", "s", OURS, time.monotonic() - started, floor=1.0)
            agent.logged("events: subscribed")
            results.add("memory", "resident at the start", "MB", OURS, agent.memory(), floor=30.0)
            time.sleep(2.6)  # what the start and the first command woke has come to rest
            before = cpu(agent.process), rig.switch_cpu(OURS), time.monotonic()
            time.sleep(seconds)
            spent = time.monotonic() - before[2]
            mine, switch = cpu(agent.process) - before[0], rig.switch_cpu(OURS) - before[1]
            results.add("idle", "CPU of the agent", "% of a core", OURS, mine / spent * 100, floor=0.5)
            if rig.real:
                results.add("idle", "CPU of FreeSWITCH", "% of a core", OURS, switch / spent * 100)
            rig.requests(OURS, 50, count)
            results.add("memory", f"resident after {count:,} requests", "MB", OURS, agent.memory(), floor=30.0)
        for peer in rig.peers(NOBODY, MODULE):
            if rig.real:
                before_one, began = rig.switch_cpu(peer), time.monotonic()
                time.sleep(seconds / 2)
                share = (rig.switch_cpu(peer) - before_one) / (time.monotonic() - began) * 100
                results.add("idle", "CPU of FreeSWITCH", "% of a core", peer, share)


def million(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """Memory after 1,000,000 events; once, it takes a while."""
    count = 20_000 if quick else MILLION
    with rig.cannon(count) as (port, gun), rig.agent(esl_port=port) as agent:
        with rig.background(
            "events", "127.0.0.1", rig.nats.port, "freeswitch.events.channel.create", count, 300
        ) as subscriber:
            fire(gun)
            result = seen(subscriber, 310)
        settled = 1 if quick else SETTLED
        time.sleep(settled)
        results.add("memory", f"resident {settled} s after {count:,} events", "MB", OURS, agent.memory(), floor=30.0)
        results.add("memory", f"most ever, {count:,} events", "MB", OURS, peak_memory(agent.process))
        results.add("memory", f"of {count:,} events not seen", "", OURS, count - result["count"])


def nudge(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """What the nudge costs FreeSWITCH and the agent, idle and while one call is up."""
    group, seconds = "the nudge", 1.5 if quick else 5
    for run in range(min(repeats, 3)):
        for peer in rotated([OURS, UNNUDGED], run):
            with rig.agent(event_wake_ms=str(NUDGE if peer == OURS else 0)) as agent:
                for state in ("idle", "one call up"):
                    if state != "idle":
                        rig.api("originate loopback/park/default &park")
                    time.sleep(2.6)  # the agent leaves the connection alone 2 s after the last event
                    before, began = (cpu(agent.process), rig.switch_cpu(peer)), time.monotonic()
                    time.sleep(seconds)
                    spent = time.monotonic() - began
                    mine, switch = cpu(agent.process) - before[0], rig.switch_cpu(peer) - before[1]
                    results.add(group, f"{state}: CPU of the agent", "% of a core", peer, mine / spent * 100)
                    if rig.real:
                        results.add(group, f"{state}: CPU of FreeSWITCH", "% of a core", peer, switch / spent * 100)
                rig.api("hupall")


def calls(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """Short loopback calls at several rates: events a call, and what they cost, over the seconds in which calls are
    started. What their ends cost after it, half a second's worth, is in it too."""
    group, seconds = "calls", 2 if quick else 4
    peers = rig.peers(NOBODY, OURS, MODULE)
    if not rig.real:
        return
    for run in range(min(repeats, 3)):
        for peer in rotated(peers, run):
            with ExitStack() as stack:
                agent = stack.enter_context(rig.agent()) if peer == OURS else None
                process = agent.process if agent else None
                for rate in (10,) if quick else (1, 10, 50):
                    count = rate * seconds
                    subject = f"{MODULE_PREFIX if peer == MODULE else 'freeswitch'}.events.>"
                    before = cpu(process), rig.switch_cpu(peer), cpu(rig.nats.process)
                    with rig.background(
                        "events", "127.0.0.1", rig.nats.port, subject, 10_000_000, seconds + 0.7
                    ) as subscriber:
                        rig.fire(peer, count, rate, "bgapi originate loopback/short/default &hangup")
                        result = seen(subscriber)
                    after = cpu(process), rig.switch_cpu(peer), cpu(rig.nats.process)
                    shares = [(end - start) / seconds * 100 for start, end in zip(before, after, strict=True)]
                    if peer != NOBODY:
                        results.add(group, "events a call", "", peer, result["count"] / count, rate)
                        results.add(group, "CPU of nats-server", "% of a core", peer, shares[2], rate)
                    if agent:
                        results.add(group, "CPU of the agent", "% of a core", peer, shares[0], rate)
                        each = (after[0] - before[0]) / count * 1000
                        results.add(group, "CPU of the agent a call", "ms", peer, each, rate)
                    results.add(group, "CPU of FreeSWITCH", "% of a core", peer, shares[1], rate)


def flood(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """Events while the broker is frozen: memory stays bounded, and what did not fit is counted."""
    count = 20_000 if quick else 100_000
    group = f"{count:,} events while the broker is frozen"
    broker = NatsServer().start()  # the C module must not lose its own
    try:
        for _ in range(min(repeats, 3)):
            with rig.cannon(count) as (port, gun), rig.agent(esl_port=port, url=broker.url) as agent:
                broker.signal(signal.SIGSTOP)
                fire(gun)
                gun.stdout.readline()  # fired: all but what is in the socket's buffers is with the agent
                broker.signal(signal.SIGCONT)
                published, dropped = _counted(broker.url, count)
                results.add(group, "published", "", OURS, published, more=True)
                results.add(group, "dropped and counted", "", OURS, dropped)
                results.add(group, "neither", "", OURS, count - published - dropped)
                results.add(group, "most resident memory", "MB", OURS, peak_memory(agent.process))
    finally:
        broker.stop()


def _counted(url: str, count: int) -> tuple[int, int]:
    """Events published and dropped, when they are all of them; AssertionError after 30 s."""
    client = Client(url)

    def counted() -> tuple[int, int] | None:
        status = client.request("agent.status", _timeout=20)["data"]
        published, dropped = status["events_published"], status["events_dropped"]
        return (published, dropped) if published + dropped >= count else None

    try:
        found = until(counted, f"{count} events counted", 30)
        assert found
        return found
    finally:
        client.close()
