"""All known attacks at one time, and a client beside them whose every question gets its own answer, once.

5,000 requests; EVENT_AGENT_SCALE=20 makes 100,000 of them.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.functional import chaos
from tests.functional.chaos import Asker, Attack, BareNats, IdleConnections
from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim

REQUESTS = 5000 * SCALE
ROUNDS = 30  # of each attack at least
MARK = "chaos_was_here"
LISTS = {"api_denylist": "global_setvar,system,bg_system", "app_denylist": "set_global,system"}
GROWN = 8  # MB more than before, at most; with all slow commands that there may be at one time it is 3
HEALTH = 5.0  # seconds within which the listener must answer, whatever else is going on


class Watch(threading.Thread):
    """Asks for /health as long as it goes on."""

    def __init__(self, port: int) -> None:
        super().__init__(name="chaos-watch", daemon=True)
        self._port = port
        self.ended = threading.Event()
        self.slowest = 0.0
        self.answers: list[int] = []

    def run(self) -> None:
        while not self.ended.wait(0.1):
            began = time.monotonic()
            try:
                data = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                answer = chaos.ask_http(self._port, data, 60)
                self.answers.append(int(answer[9:12]))
            except (OSError, ValueError):
                self.answers.append(0)
            self.slowest = max(self.slowest, time.monotonic() - began)


class Attacks:
    """All of them, each on connections of its own."""

    def __init__(self, nats: NatsServer, switch: RealSwitch | SwitchSim, port: int, file: Path) -> None:
        self._nats, self._port = nats, port
        self._links: list[BareNats] = []
        self._raw = RawEvents(switch.port, switch.password)
        self._idle = IdleConnections(port)
        self._rng = random.Random(1)
        self._uuids = chaos.uuids(MARK, str(file))
        self.answered = 0  # attacks by NATS that were answered
        self.all = [
            self._requests("originates", chaos.originates(MARK), 0.05),
            self._requests("bypasses", chaos.bypasses(MARK), 0.03),
            self._made("long texts", map(bytes, chaos.long_texts(self._rng)), 0.05),
            self._made("garbage", (chaos.garbage(self._rng) for _ in itertools.count()), 0.01),
            Attack("reply subjects", self._hard_to_answer(), 0.01),
            Attack("questions", self._ask, 0.02),
            Attack("events", self._fire, 0.02),
            Attack("idle connections", self._idle.round, 0.05),
        ]

    def _link(self) -> BareNats:
        self._links.append(BareNats(self._nats.port))
        return self._links[-1]

    def _requests(self, name: str, requests: list[dict[str, object]], pause: float) -> Attack:
        return self._made(name, (json.dumps(each).encode() for each in itertools.cycle(requests)), pause)

    def _made(self, name: str, payloads: Iterator[bytes], pause: float) -> Attack:
        """An attack that waits for an answer each time: the agent must not take its load for an excuse."""
        link = self._link()
        inbox = f"attack.{name.replace(' ', '_')}".encode()
        link.write(b"SUB %b 1\r\n" % inbox)

        def once(number: int) -> None:
            link.request(b"freeswitch.api", inbox, next(payloads))
            deadline = time.monotonic() + 30
            while not (came := link.read()):
                assert time.monotonic() < deadline, "no answer within 30 s"
            self.answered += len(came)

        return Attack(name, once, pause)

    def _hard_to_answer(self) -> Callable[[int], None]:
        link = self._link()

        def once(number: int) -> None:
            payload = b'{"command":"echo","args":"lost"}' if number % 3 else b'{"command":"echo","args":"\\n"}'
            link.request(b"freeswitch.any" if number % 2 else b"freeswitch.api", chaos.replies(self._rng), payload)
            link.read() if number % 50 == 0 else None  # PINGs

        return once

    def _ask(self, number: int) -> None:
        uuid = self._uuids[number % len(self._uuids)]
        try:
            answer = chaos.ask_http(self._port, chaos.question(uuid))
        except (ConnectionResetError, TimeoutError):
            return  # closed for one of the idle ones' newer
        assert answer[:9] == b"HTTP/1.1 " or not answer, answer[:100]

    def _fire(self, number: int) -> None:
        self._raw.command(chaos.forged_event(self._uuids[number % len(self._uuids)], number))

    def start(self) -> None:
        for each in self.all:
            each.start()

    def end(self) -> None:
        for each in self.all:
            each.end()
        self._idle.close()
        for link in self._links:
            link.close()
        self._raw.__exit__()

    def enough(self) -> bool:
        return all(each.rounds >= ROUNDS or each.fault for each in self.all)

    def __str__(self) -> str:
        return ", ".join(f"{each.rounds} {each.name.removeprefix('attack-')}" for each in self.all)


def test_every_answer_belongs_to_its_question(
    own_nats: NatsServer,
    own_switch: RealSwitch | SwitchSim,
    start_agent: Callable[..., Agent],
    connect: Callable[..., Client],
    tmp_path: Path,
) -> None:
    port, file = free_port(), tmp_path / "made"
    agent = start_agent(own_nats, own_switch, http_listen=f"127.0.0.1:{port}", node_id="FS-1", **LISTS)
    client = connect(own_nats.url)
    assert client.request("dialplan.enable")["success"], "park mode, so that questions count"
    threads, memory = agent.threads(), agent.memory()
    attacks = Attacks(own_nats, own_switch, port, file)
    askers = [Asker(own_nats.port, f"asker{number}", REQUESTS // 2, attacks.enough) for number in range(2)]
    watch = Watch(port)
    attacks.start()
    watch.start()
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    attacks.end()
    watch.ended.set()
    watch.join()
    print(f"\n{'; '.join(asker.figures() for asker in askers)}; {attacks}; {attacks.answered} attacks answered; "
          f"{len(watch.answers)} times /health, the slowest {watch.slowest:.2f} s; {agent.memory():.1f} MB, "
          f"{memory:.1f} MB before")

    faults = [fault for asker in askers for fault in asker.faults()]
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])
    assert not [f"{each.name}: {each.fault}" for each in attacks.all if each.fault]
    assert all(each.rounds >= ROUNDS for each in attacks.all), str(attacks)
    assert watch.slowest < HEALTH and set(watch.answers) == {200}, (watch.slowest, watch.answers)
    assert agent.memory() - memory < GROWN, f"{memory:.1f} MB before, {agent.memory():.1f} MB after"
    # Nothing of it has run, and neither link, nor FreeSWITCH, nor a thread has come to harm.
    client.request("hupall")
    assert client.request("global_getvar", MARK)["data"] == "" and not file.exists()
    status = client.request("agent.status")["data"]
    assert status["nats"]["reconnects"] == 0 and status["connected"] and status["freeswitch"]["connected"]
    assert "Traceback" not in agent.log and "unhandled" not in agent.log, agent.log[-3000:]
    for words in ("FreeSWITCH connected", "NATS connected"):
        assert agent.log.count(words) == 1, agent.log[-3000:]
    until(lambda: set(threads) <= set(agent.threads()), "all threads are there")
    assert agent.stop() == 0


def test_the_client_that_keeps_count_counts(own_nats: NatsServer) -> None:
    """Else the test above would prove nothing: answers that are missing, twice, or another's are found."""
    asker = Asker(own_nats.port, "counted", 0, lambda: True)
    asker.asked = 4
    good = [json.dumps({"data": asker.text(number), "correlation_id": number}).encode() for number in range(4)]
    asker.replies = {0: [good[0]], 1: [good[1], good[1]], 3: [good[2]]}
    asker.nats.close()
    faults = asker.faults()
    assert [fault.split()[0] for fault in faults] == ["chaos.counted.1", "chaos.counted.2", "chaos.counted.3"], faults
