"""Which events of a FreeSWITCH arrive in a JetStream stream while something breaks: each fault, counted.

    python -m bench.losses                        all faults, 2,000 calls each, with the defaults of the agent
    python -m bench.losses --calls 300 broker-killed agent-killed --set events_delivery=at_least_once

A second event socket, the witness, takes all events as they come from FreeSWITCH. At the end the stream's messages are
held against it: those that are missing, those that are there twice, and those that are not in FreeSWITCH's order.
Core-UUID and Event-Sequence identify an event. As under systemd, another process keeps the agent's file
descriptors while the agent restarts.

`FREESWITCH_BIN` names the FreeSWITCH, without one it is the simulator; `NATS_SERVER_BIN` names the nats-server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nats
from nats.js.api import StorageType, StreamConfig

from tests.functional.keeper import Keeper
from tests.functional.parts import Agent, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch, binary
from tests.support import until
from tests.switchsim import SwitchSim

STREAM = "losses"
LEFT_OUT = ("API", "HEARTBEAT", "RE_SCHEDULE", "DTMF", "BACKGROUND_JOB", "COMMAND")
OWN = "event_agent::sync"  # by which an agent measures how late it is; fired by it and never published
MARK = "event_agent::losses"  # the subclass of the events that stand at both ends of a run
Key = tuple[str, str]


class Witness:
    """All events of a FreeSWITCH, by an event socket of its own."""

    def __init__(self, switch: Any) -> None:
        self.socket = RawEvents(switch.port, switch.password, f"event json ALL CUSTOM {MARK}")
        self._switch = switch

    def mark(self) -> None:
        """Fire an event that stands for this moment, and wait for it."""
        text = os.urandom(6).hex()
        with RawEvents(self._switch.port, self._switch.password) as control:
            control.command(f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nMark: {text}\n\n".encode())
        until(lambda: any(each.get("Mark") == text for each in self.socket.events[-5000:]), "the mark", 60)

    def keys(self) -> list[Key]:
        """What was seen between the first mark and the last, in order, but for what agents leave out."""
        events = list(self.socket.events)
        marks = [at for at, each in enumerate(events) if each.get("Event-Subclass") == MARK]
        between = events[marks[0] : marks[-1] + 1]
        return [
            key_of(each)
            for each in between
            if each["Event-Name"] not in LEFT_OUT and each.get("Event-Subclass") != OWN
        ]


def key_of(headers: dict[str, Any]) -> Key:
    return str(headers.get("Core-UUID")), str(headers.get("Event-Sequence"))


async def read_stream(url: str) -> tuple[list[Key], Counter[str]]:
    """The keys of FreeSWITCH's events in the stream, in its order; and the agent's own events, by name."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        found: list[Key] = []
        own: Counter[str] = Counter()
        subscription = await stream.pull_subscribe("", stream=STREAM, durable=f"r{time.time_ns()}")
        total = (await stream.stream_info(STREAM)).state.messages
        read = 0
        while read < total:
            for message in await subscription.fetch(min(500, total - read), timeout=10):
                read += 1
                event = json.loads(message.data)
                if event["event_name"].startswith("AGENT_"):
                    own[event["event_name"]] += 1
                else:
                    found.append(key_of(event["headers"]))
                await message.ack()
        return found, own
    finally:
        await client.close()


async def make_stream(url: str) -> None:
    client = await nats.connect(url)
    config = StreamConfig(
        name=STREAM, subjects=["freeswitch.events.>"], storage=StorageType.FILE, duplicate_window=600
    )
    await client.jetstream().add_stream(config)
    await client.close()


def inversions(found: list[Key], order: dict[Key, int]) -> int:
    """Events that come behind one that FreeSWITCH sent later."""
    latest = count = 0
    for key in found:
        place = order.get(key)
        if place is None:
            continue
        if place < latest:
            count += 1
        latest = max(latest, place)
    return count


class Trial:
    """The parts of one run."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace, settings: dict[str, str]) -> None:
        self.options = options
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="event-agent-losses-")))
        self.switch: Any = RealSwitch() if binary() else SwitchSim()
        self.switch.start()
        stack.callback(self.switch.stop)
        self.nats = self.server(stack, "one")
        self.proxy = Proxy(self.nats.port)
        stack.callback(self.proxy.stop)
        asyncio.run(make_stream(self.nats.url))
        # Two ways to one server: what a link that breaks off does is seen, and what a second server does for it.
        links = {
            "url": f"{self.proxy.url},{self.nats.url}", "esl_port": str(self.switch.port),
            "exclude": ",".join(LEFT_OUT), "reconnect_wait": "0.2",
        }  # fmt: skip
        self.agent = Agent(**(links | settings))
        self.keeper = Keeper(self.agent)
        stack.callback(self.agent.remove)
        stack.callback(self.keeper.close)
        self.witness = Witness(self.switch)
        stack.callback(self.witness.socket.__exit__)

    def server(self, stack: ExitStack, name: str) -> NatsServer:
        """A nats-server with a JetStream of its own on disk."""
        server = NatsServer(config=f'jetstream {{ store_dir: "{self.folder / name}" }}\n')
        server.start()
        stack.callback(server.stop)
        return server

    def calls(self) -> None:
        """Make the calls, at their rate."""
        count, rate = self.options.calls, self.options.rate
        with RawEvents(self.switch.port, self.switch.password) as control:
            began = time.monotonic()
            for number in range(count):
                control.command("bgapi originate loopback/short/default &park()")
                time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


def run(name: str, fault: Callable[[Trial], None], options: argparse.Namespace, settings: dict[str, str]) -> bool:
    """One fault while calls are made; prints its row. True where nothing is missing, twice or out of order."""
    with ExitStack() as stack:
        trial = Trial(stack, options, settings)
        trial.keeper.start()
        for line in ("NATS connected", "FreeSWITCH events: subscribed"):
            trial.agent.logged(line)
        trial.witness.mark()
        calls = threading.Thread(target=trial.calls, name="calls")
        calls.start()
        time.sleep(options.calls / options.rate / 4)
        began = time.monotonic()
        fault(trial)
        lasted = time.monotonic() - began
        calls.join()
        quiet(trial.witness)
        trial.witness.mark()
        keys = trial.witness.keys()
        found, own = settled(trial.nats.url, keys[-1], options.wait)
        seen = Counter(found)
        order = {key: at for at, key in enumerate(keys)}
        missing = sum(key not in seen for key in order)
        twice = sum(count - 1 for key, count in seen.items() if key in order)
        late = inversions(found, order)
        told = ", ".join(f"{count} {what}" for what, count in sorted(own.items())) or "nothing"
        print(
            f"{name:16} {len(order):7} events, {missing:6} missing, {twice:4} twice, {late:4} out of order; "
            f"fault {lasted:5.1f} s; told: {told}; {trial.agent.memory():.1f} MB",
            flush=True,
        )
        if options.log:
            events = {key_of(each): each for each in trial.witness.socket.events}
            for key in [key for key in order if key not in seen][:50]:
                each = events[key]
                print("missing:", order[key], each["Event-Name"], each.get("Event-Date-Timestamp"), file=sys.stderr)
            print(trial.agent.log, file=sys.stderr)
        return not (missing or twice or late)


def quiet(witness: Witness) -> None:
    """Until calls have ended: no event for a second."""
    count = -1
    while count != len(witness.socket.events):
        count = len(witness.socket.events)
        time.sleep(1.0)


def settled(url: str, last: Key, limit: float) -> tuple[list[Key], Counter[str]]:
    """What is in the stream once the last event is, or has not come for `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        try:
            found, own = asyncio.run(read_stream(url))
        except Exception as error:  # the server is just starting, or its JetStream is
            found, own = [], Counter({type(error).__name__: 1})
        if last in found[-2000:] or time.monotonic() > deadline:
            return found, own
        time.sleep(1.0)


# -- the faults


def nothing(_: Trial) -> None:
    pass


def broker_killed(trial: Trial) -> None:
    for _ in range(3):
        trial.nats.kill()
        time.sleep(1.0)
        trial.nats.start()
        time.sleep(3.0)


def broker_hangs(trial: Trial) -> None:
    trial.nats.signal(signal.SIGSTOP)
    time.sleep(2.0)
    trial.nats.kill()
    trial.nats.start()


def broker_frozen(trial: Trial) -> None:
    trial.nats.signal(signal.SIGSTOP)
    time.sleep(5.0)
    trial.nats.signal(signal.SIGCONT)


def agent_restarted(trial: Trial) -> None:
    trial.keeper.restart(signal.SIGTERM)


def agent_killed(trial: Trial) -> None:
    trial.keeper.restart(signal.SIGKILL)


def broker_away(trial: Trial) -> None:
    trial.nats.kill()
    time.sleep(trial.options.away)
    trial.nats.start()


def link_half_open(trial: Trial) -> None:
    """Nothing comes through and nothing is refused; a second server is there."""
    trial.proxy.stall()
    time.sleep(trial.options.away / 4)
    trial.proxy.drop()


def link_cut(trial: Trial) -> None:
    for _ in range(5):
        trial.proxy.cut()
        time.sleep(1.0)


def torture(trial: Trial) -> None:
    """Faults at random, with pauses at random, until the calls are nearly all made."""
    dice = random.Random(trial.options.seed)
    until = time.monotonic() + trial.options.calls / trial.options.rate * 0.6
    while time.monotonic() < until:
        name = dice.choice([name for name in FAULTS if name not in ("nothing", "broker-away", "torture")])
        print(f"  {name}", file=sys.stderr, flush=True)
        FAULTS[name](trial)
        time.sleep(dice.uniform(0.2, 6.0))


FAULTS: dict[str, Callable[[Trial], None]] = {
    "nothing": nothing,
    "broker-killed": broker_killed,
    "broker-hangs": broker_hangs,
    "broker-frozen": broker_frozen,
    "agent-restarted": agent_restarted,
    "agent-killed": agent_killed,
    "broker-away": broker_away,
    "link-half-open": link_half_open,
    "link-cut": link_cut,
    "torture": torture,
}


@contextmanager
def nats_server(path: str) -> Iterator[None]:
    """Tests' parts take the nats-server that PATH has first."""
    before = os.environ["PATH"]
    if path:
        folder = tempfile.mkdtemp(prefix="event-agent-bin-")
        os.symlink(path, f"{folder}/nats-server")
        os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.losses", description=__doc__.partition("\n")[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of: {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each run (%(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, help="calls a second (%(default)s)")
    parser.add_argument("--away", type=float, default=120.0, help="seconds of broker-away (%(default)s)")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds the last event may take (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of torture (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the agent")
    parser.add_argument("--log", action="store_true", help="print the agent's log to stderr")
    options = parser.parse_args()
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    settings = dict(each.split("=", 1) for each in options.set)
    with nats_server(os.environ.get("NATS_SERVER_BIN", "")):
        version = os.popen("nats-server --version").read().strip()
        print(f"{version}; FreeSWITCH: {binary() or 'the simulator'}; {options.calls} calls at {options.rate:g}/s; "
              f"settings: {settings or 'the defaults'}")  # fmt: skip
        results = [run(name, FAULTS[name], options, settings) for name in options.faults or FAULTS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
