"""Which events of a FreeSWITCH arrive in a JetStream stream while something breaks: each fault, counted.

    python -m bench.losses                              all faults, 2,000 calls each, at least once
    python -m bench.losses --calls 300 broker-killed agent-killed --set spool_mode=always
    python -m bench.losses --set events_delivery=at_most_once --nats-server /opt/nats-server-2.14/nats-server
    python -m bench.losses --torture --seed 7           half an hour of all faults at random, spool_mode always

A second event socket, the witness, takes all events as they come from FreeSWITCH. At the end the stream's messages are
held against it: those that are missing, those that are there twice, and those that are not in FreeSWITCH's order.
Core-UUID and Event-Sequence identify an event. `announced` is what AGENT_GAP has said: the number of events for each
reason, `?` if the agent can't know it. `longest pause` is the time between two events of the stream. As under systemd,
another process keeps the agent's file descriptors while the agent restarts.

`FREESWITCH_BIN` names the FreeSWITCH, without one it is the simulator; the nats-server is that of PATH if
`--nats-server` names no other.
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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from tests.functional.keeper import Keeper
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch, binary
from tests.support import free_port, nats_server, until
from tests.switchsim import SwitchSim

STREAM = "losses"
LEFT_OUT = ("API", "HEARTBEAT", "RE_SCHEDULE", "DTMF", "BACKGROUND_JOB", "COMMAND")
OWN = "event_agent::sync"  # by which an agent measures how late it is; fired by it and never published
MARK = "event_agent::losses"  # the subclass of the events that stand at both ends of a run
Key = tuple[str, str]


class Keys(list[Any]):
    """Takes parsed events and keeps of each that counts its key, so that half an hour of them fits into memory."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[str, int]] = []  # text, and how many keys stand before it

    def append(self, event: dict[str, Any]) -> None:
        """What RawEvents calls."""
        if event.get("Event-Subclass") == MARK:
            super().append(key_of(event))
            self.marks.append((str(event.get("Mark")), len(self)))
        elif event["Event-Name"] not in LEFT_OUT and event.get("Event-Subclass") != OWN:
            super().append(key_of(event))


class Witness:
    """All events of a FreeSWITCH, by an event socket of its own."""

    def __init__(self, switch: Any) -> None:
        self._switch = switch
        self.socket = RawEvents(switch.port, switch.password)
        self.seen = self.socket.events = Keys()
        self.socket.command(f"event json ALL CUSTOM {MARK}")

    def mark(self) -> None:
        """Fire an event that stands for this moment, and wait for it."""
        text = os.urandom(6).hex()
        with RawEvents(self._switch.port, self._switch.password) as control:
            control.command(f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nMark: {text}\n\n".encode())
        until(lambda: any(mark == text for mark, _ in self.seen.marks), "the mark", 60)

    def keys(self) -> list[Key]:
        """What was seen between the first mark and the last, in order, but for what agents leave out."""
        return self.seen[self.seen.marks[0][1] - 1 : self.seen.marks[-1][1]]


def key_of(headers: dict[str, Any]) -> Key:
    return str(headers.get("Core-UUID")), str(headers.get("Event-Sequence"))


class Stored:
    """What is in the stream."""

    def __init__(self) -> None:
        self.keys: list[Key] = []  # of FreeSWITCH's events, in the stream's order
        self.own: Counter[str] = Counter()  # the agent's own events, by name
        self.announced: dict[str, int | None] = {}  # reason: how many AGENT_GAP have said; None if one can't know
        self.pause = 0.0  # seconds between two events, the longest time
        self._before: float | None = None

    def take(self, event: dict[str, Any], when: float) -> None:
        if self._before is not None:
            self.pause = max(self.pause, when - self._before)
        self._before = when
        if not event["event_name"].startswith("AGENT_"):
            self.keys.append(key_of(event["headers"]))
            return
        self.own[event["event_name"]] += 1
        if event["event_name"] == "AGENT_GAP":
            before, count = self.announced.get(event["reason"], 0), event["count"]
            self.announced[event["reason"]] = None if before is None or count is None else before + count

    @property
    def said(self) -> str:
        """What was announced, in a word or two."""
        gaps = ", ".join(f"{'?' if count is None else count} {reason}" for reason, count in self.announced.items())
        return gaps or "nothing"


async def read_stream(url: str, last: Key) -> Stored | None:
    """All of the stream, once the event `last` is among its newest; None before."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream(timeout=10)
        state = (await stream.stream_info(STREAM)).state
        found = Stored()
        # The default of 1,000 unacknowledged messages would end the reading there: it is read without acknowledgements.
        options: dict[str, Any] = {"max_ack_pending": -1, "ack_wait": 3600}
        if state.messages and not await _newest(stream, state, last, options):
            return None
        config = ConsumerConfig(**options)
        subscription = await stream.pull_subscribe("", stream=STREAM, config=config)
        read = 0
        while read < state.messages:
            for message in await subscription.fetch(min(500, state.messages - read), timeout=10):
                read += 1
                found.take(json.loads(message.data), message.metadata.timestamp.timestamp())
        return found
    finally:
        await client.close()


async def _newest(stream: Any, state: Any, last: Key, options: dict[str, Any]) -> bool:
    """Whether an event is one of the last 500 of the stream."""
    begin = max(state.first_seq, state.last_seq - 500)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=begin, **options)
    subscription = await stream.pull_subscribe("", stream=STREAM, config=config)
    messages = await subscription.fetch(state.last_seq - begin + 1, timeout=10)
    return any(key_of(json.loads(each.data)["headers"]) == last for each in messages)


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

    def __init__(
        self, stack: ExitStack, options: argparse.Namespace, settings: dict[str, str], leaf: bool = False
    ) -> None:
        """`leaf`: the agent's first link is to a server of its own, a leaf node of the one that has the stream."""
        self.options = options
        self.note = ""  # what else a fault has measured
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="event-agent-losses-")))
        self.switch: Any = RealSwitch() if binary() else SwitchSim()
        self.switch.start()
        stack.callback(self.switch.stop)
        self.nats = self.server(stack, "one")
        asyncio.run(make_stream(self.nats.url))
        near = self.leaf(stack) if leaf else self.nats
        self.proxy = Proxy(near.port)
        stack.callback(self.proxy.stop)
        # Two ways to the stream: what a link that breaks off does is seen, and what a second server does for it.
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
        self.leaf_port = free_port()
        leafs = f'leafnodes {{ host: "127.0.0.1", port: {self.leaf_port} }}\n'
        server = NatsServer(config=f'jetstream {{ store_dir: "{self.folder / name}", domain: hub }}\n{leafs}')
        server.start()
        stack.callback(server.stop)
        return server

    def leaf(self, stack: ExitStack) -> NatsServer:
        """Another nats-server, without JetStream, that is one with the first."""
        config = f'leafnodes {{ remotes: [ {{ url: "nats://127.0.0.1:{self.leaf_port}" }} ] }}\n'
        server = NatsServer(config=config + 'default_js_domain: {"$G": "hub"}\n').start()
        stack.callback(server.stop)
        until(lambda: "Leafnode connection created" in server.log, "the two servers are linked", 30)
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
        trial = Trial(stack, options, settings, leaf=fault is link_half_open)
        trial.keeper.start()
        for line in ("NATS connected", "FreeSWITCH events: subscribed"):
            trial.agent.logged(line)
        trial.witness.mark()
        calls = threading.Thread(target=trial.calls, name="calls")
        calls.start()
        time.sleep(min(15.0, options.calls / options.rate / 4))
        began = time.monotonic()
        fault(trial)
        lasted = time.monotonic() - began
        calls.join()
        quiet(trial.witness)
        trial.witness.mark()
        keys = trial.witness.keys()
        stored = settled(trial.nats.url, keys[-1], options.wait)
        seen = Counter(stored.keys)
        order = {key: at for at, key in enumerate(keys)}
        missing = [key for key in order if key not in seen]
        twice = sum(count - 1 for key, count in seen.items() if key in order)
        late = inversions(stored.keys, order)
        told = ", ".join(f"{count} {what}" for what, count in sorted(stored.own.items())) or "nothing"
        print(
            f"{name:16} {len(order):7} events, {len(missing):6} missing, {twice:4} twice, {late:4} out of order; "
            f"announced: {stored.said}; fault {lasted:5.1f} s, longest pause {stored.pause:.1f} s; told: {told}; "
            f"{trial.agent.memory():.1f} MB{trial.note}",
            flush=True,
        )
        if options.log:
            print("missing:", [order[key] for key in missing[:200]], file=sys.stderr)
            print(trial.agent.log, file=sys.stderr)
        return not (missing or twice or late)


def quiet(witness: Witness) -> None:
    """Until calls have ended: no event for a second."""
    count = -1
    while count != len(witness.seen):
        count = len(witness.seen)
        time.sleep(1.0)


def settled(url: str, last: Key, limit: float) -> Stored:
    """What is in the stream once the last event is; AssertionError if that takes more than `limit` seconds."""

    def there() -> Stored | None:
        try:
            return asyncio.run(read_stream(url, last))
        except Exception as error:  # the server is just starting, or its JetStream is
            print(f"  the stream can't be read: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(1.0)
            return None

    found = until(there, "the last event is in the stream", limit)
    assert found is not None
    return found


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


def broker_away(trial: Trial, seconds: float = 0.0) -> None:
    trial.nats.kill()
    time.sleep(seconds or trial.options.away)
    trial.nats.start()


def link_half_open(trial: Trial) -> None:
    """What is sent is taken and nothing comes back, and nothing is refused. A second server is well, and so are its
    clients: they send requests to whichever node takes them."""
    with Requests(trial.nats.url) as requests:
        time.sleep(1.0)
        trial.proxy.stall()
        time.sleep(30.0)
        trial.proxy.drop()
    trial.note = f"; {requests.said}"


def link_stalled(trial: Trial) -> None:
    """The same for a short time, with one server."""
    trial.proxy.stall()
    time.sleep(8.0)
    trial.proxy.drop()


def link_cut(trial: Trial) -> None:
    for _ in range(5):
        trial.proxy.cut()
        time.sleep(1.0)


class Requests:
    """Four requests a second on `any`, and which of them are answered."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._ended = threading.Event()
        self._answered: list[tuple[float, bool]] = []  # time.monotonic() of each, and whether it was
        self._thread = threading.Thread(target=self._run, name="requests")

    def _run(self) -> None:
        while not self._ended.wait(0.25):
            at = time.monotonic()
            try:
                self._client.raw("freeswitch.any", b'{"command":"version"}', 1.0)
            except Exception:  # no reply within a second, or nobody there
                self._answered.append((at, False))
            else:
                self._answered.append((at, True))

    @property
    def said(self) -> str:
        good = [at for at, answered in self._answered if answered]
        ends = [self._answered[0][0], *good, self._answered[-1][0]]
        blind = max(after - before for before, after in zip(ends, ends[1:], strict=False))
        lost = len(self._answered) - len(good)
        return f"{lost} of {len(self._answered)} requests on any unanswered, for {blind:.1f} s at most"

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()


def torture(trial: Trial) -> None:
    """Faults at random, with pauses at random, as long as calls are made."""
    dice = random.Random(trial.options.seed)
    end = time.monotonic() + trial.options.calls / trial.options.rate - 45.0
    done: Counter[str] = Counter()
    most = trial.agent.memory()
    while time.monotonic() < end:
        name = dice.choice(MIXED)
        done[name] += 1
        print(f"  {time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        if name == "broker-away":
            broker_away(trial, dice.uniform(2.0, 40.0))
        else:
            FAULTS[name](trial)
        time.sleep(dice.uniform(0.0, 6.0))
        most = max(most, trial.agent.memory())
    trial.note = f" ({most:.1f} MB at most); {', '.join(f'{count} {name}' for name, count in sorted(done.items()))}"


FAULTS: dict[str, Callable[[Trial], None]] = {
    "nothing": nothing,
    "broker-killed": broker_killed,
    "broker-hangs": broker_hangs,
    "broker-frozen": broker_frozen,
    "agent-restarted": agent_restarted,
    "agent-killed": agent_killed,
    "broker-away": broker_away,
    "link-half-open": link_half_open,
    "link-stalled": link_stalled,
    "link-cut": link_cut,
    "torture": torture,
}
MIXED = [name for name in FAULTS if name not in ("nothing", "torture", "link-half-open")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.losses", description=__doc__.partition("\n")[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of: {', '.join(FAULTS)} (all but torture)")
    parser.add_argument("--calls", type=int, help="calls of each run (2000)")
    parser.add_argument("--rate", type=float, help="calls a second (30, torture: 5)")
    parser.add_argument("--away", type=float, default=120.0, help="seconds of broker-away (%(default)g)")
    parser.add_argument("--wait", type=float, default=180.0, help="seconds the last event may take (%(default)g)")
    parser.add_argument("--torture", action="store_true", help="all faults at random, with spool_mode always")
    parser.add_argument("--minutes", type=float, default=30.0, help="of torture (%(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="of torture (%(default)s)")
    parser.add_argument("--nats-server", default=os.environ.get("NATS_SERVER_BIN", ""), help="the program to use")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the agent")
    parser.add_argument("--log", action="store_true", help="print what is missing, and the agent's log, to stderr")
    options = parser.parse_args()
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    faults = options.faults or [name for name in FAULTS if name != "torture"]
    settings = {"events_delivery": "at_least_once"}
    if options.torture:
        faults, settings["spool_mode"] = ["torture"], "always"
    tortured = faults == ["torture"]
    options.rate = options.rate or (5.0 if tortured else 30.0)
    options.calls = options.calls or (int(options.minutes * 60 * options.rate) if tortured else 2000)
    settings |= dict(each.split("=", 1) for each in options.set)
    with nats_server(options.nats_server):
        version = os.popen("nats-server --version").read().strip()
        print(f"{version}; FreeSWITCH: {binary() or 'the simulator'}; {options.calls} calls at {options.rate:g}/s; "
              f"settings: {settings}; seed {options.seed}", flush=True)  # fmt: skip
        results = [run(name, FAULTS[name], options, settings) for name in faults]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
