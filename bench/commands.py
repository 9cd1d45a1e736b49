"""Measures of commands: how many a second, how late the answers, what one costs."""

from __future__ import annotations

import time

from bench.rig import MODULE, NATS, OURS, RAW, REQUEST, Rig, cpu, peak_memory
from bench.rows import Results, rotated
from tests.functional.parts import Agent

WINDOWS = {1: 5000, 2: 8000, 4: 10000, 8: 20000, 20: 30000, 50: 50000, 100: 50000, 200: 50000}
"""In flight: how many requests a run."""
BURST = 100_000


def commands(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """At several numbers in flight: event-agent, the raw event socket, the C module, NATS without any of them."""
    group = "commands"
    windows = {window: WINDOWS[window] // 10 for window in (1, 8, 50, 200)} if quick else WINDOWS
    with rig.agent() as agent, rig.client() as client:
        body = client.raw("freeswitch.any", REQUEST.encode()).data.decode()
        with rig.echo(body):
            peers = rig.peers(OURS, RAW, MODULE, NATS)
            for peer in peers:
                rig.requests(peer, 50, 2000)  # warmed up
            for run in range(repeats):
                for window, count in windows.items():
                    for peer in rotated(peers, run):
                        _commands(rig, results, group, agent, peer, window, count)


def _commands(rig: Rig, results: Results, group: str, agent: Agent, peer: str, window: int, count: int) -> None:
    before = cpu(agent.process), rig.switch_cpu(peer), cpu(rig.nats.process)
    result = rig.requests(peer, window, count)
    after = cpu(agent.process), rig.switch_cpu(peer), cpu(rig.nats.process)
    mine, switch, broker = ((end - start) / count * 1e6 for start, end in zip(before, after, strict=True))
    ours = peer == OURS
    goal = {"floor": 10_000.0, "aim": 20_000.0} if ours and window == 50 else {}
    results.add(group, "commands a second", "/s", peer, result["per_second"], window, more=True, **goal)
    results.add(group, "median latency", "µs", peer, result["p50_us"], window)
    goal = {"floor": 1000.0} if ours and window == 1 else {}
    results.add(group, "99th percentile", "µs", peer, result["p99_us"], window, **goal)
    if window == 1:
        results.add(group, "99.9th percentile", "µs", peer, result["p999_us"], window)
    if ours:
        results.add(group, "CPU of the agent a command", "µs", peer, mine, window)
    if rig.real and peer != NATS:
        results.add(group, "CPU of FreeSWITCH a command", "µs", peer, switch, window)
    if peer != RAW:
        results.add(group, "CPU of nats-server a command", "µs", peer, broker, window)
    if rig.real and peer != NATS:
        whole = mine * ours + switch + broker * (peer != RAW)
        results.add(group, "CPU of all but the load generator a command", "µs", peer, whole, window)
    results.add(group, "CPU of the load generator a command", "µs", peer, result["own_cpu_us"], window)


def mixed(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """50 in flight while six slow commands are under way."""
    group, slow = "commands while six slow ones run", 500 if quick else 3000  # milliseconds
    count = 2000 if quick else 20000
    for run in range(repeats):
        for peer in rig.peers(OURS, MODULE):
            if run and peer == MODULE:
                continue  # it waits for all of them, each time
            subject = {OURS: "freeswitch.api", MODULE: "module.api"}[peer]
            with rig.agent(workers="8"), rig.client() as client:
                ask = f'{{"command":"msleep","args":"{slow}","async":true}}'.encode()
                client.publish_all(subject, [ask] * 6)
                result = rig.requests(peer, 50, count)
            more = {"note": "one run"} if peer == MODULE else {}
            results.add(group, "commands a second", "/s", peer, result["per_second"], 50, more=True, **more)
            results.add(group, "99th percentile", "µs", peer, result["p99_us"], 50, **more)
            results.add(group, "longest", "ms", peer, result["max_us"] / 1000, 50, **more)


def others(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """What a request for another node costs: all nodes of a cluster read what goes to the lane of all of them."""
    count = 2000 if quick else 50_000
    request = b'{"command":"version","node_id":"another"}'
    with rig.agent() as agent, rig.client() as client:
        for _ in range(repeats):
            client.raw("freeswitch.api", REQUEST.encode())
            before = cpu(agent.process)
            client.publish_all("freeswitch.api", [request] * count)
            client.raw("freeswitch.api", REQUEST.encode(), 60)
            cost = (cpu(agent.process) - before) / count * 1e6
            results.add("nodes", "CPU of the agent for a request meant for another node", "µs", OURS, cost)


def burst(rig: Rig, results: Results, repeats: int, quick: bool) -> None:
    """100,000 requests at once: all answered, well or with a refusal, in bounded memory."""
    count = 10_000 if quick else BURST
    group = f"{count:,} requests at once"
    for run in range(min(repeats, 3)):
        for peer in rig.peers(OURS, MODULE):
            if peer == MODULE and run:
                continue  # one is enough to see it; where replies are missing, each run waits 30 s for them
            with rig.agent() as agent:
                result = rig.requests(peer, count, count, partial=True)
                process = agent.process if peer == OURS else rig.switch_of(peer).process
                peak = peak_memory(process)
                time.sleep(0.2)
            good = result["count"] - result["bad"]
            results.add(group, "answered well", "", peer, good, more=True)
            results.add(group, "refused with a reply", "", peer, result["bad"])
            results.add(group, "not answered", "", peer, count - result["count"])
            results.add(group, "seconds to the last reply", "s", peer, result["seconds"])
            note = "FreeSWITCH's" if peer == MODULE else ""
            results.add(group, "most resident memory", "MB", peer, peak, note=note)
