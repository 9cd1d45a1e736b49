"""What a program that decides over calls adds to them: the time from INVITE to 200, by SIP, on a real FreeSWITCH.

    FREESWITCH_BIN=/usr/bin/freeswitch python -m bench.routing
    FREESWITCH_BIN=/usr/bin/freeswitch python -m bench.routing --rate 100 --calls 1000 --repeats 5

FreeSWITCH's own dialplan answers them in each of these cases, taken in turn:

    off        the agent is asked by mod_xml_curl and says "not found": routing and park mode are off
    routed     a program in Python (nats-py, docs/DIALPLAN.md) is asked, and says "dialplan"
    slow       the same, which takes 100 ms for each answer
    absent     nobody listens
    hung       the program never answers, and has 0.3 s
    two        two programs in one queue group

So what a case takes more than `off` is what the question adds. `agent` is the agent's own median and 99th percentile,
from the question to the answer. It needs nats-server; nothing that runs on the machine is touched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch, binary
from tests.support import free_port

ROOT = Path(__file__).resolve().parent.parent
HOLD = 0.05  # seconds that a call lasts
CASES: dict[str, tuple[dict[str, Any], list[float]]] = {  # what is set, and the seconds that each program takes
    "off": ({"enabled": False}, []),
    "routed": ({}, [0.0]),
    "two": ({}, [0.0, 0.0]),
    "slow": ({}, [0.1]),
    "absent": ({}, []),
    "hung": ({"timeout": 0.3}, [-1.0]),
}
async def decide(url: str, seconds: float) -> None:
    """The program: answers after so many seconds, never if that is below 0."""
    import nats
    from nats.aio.msg import Msg

    tasks = set()

    async def later(message: Msg) -> None:
        await asyncio.sleep(seconds)
        await message.respond(b'{"action":"dialplan"}')

    async def came(message: Msg) -> None:
        json.loads(message.data)
        if seconds == 0:
            await message.respond(b'{"action":"dialplan"}')
        elif seconds > 0:
            task = asyncio.ensure_future(later(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    client = await nats.connect(url)
    await client.subscribe("freeswitch.route", "routers", came)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextmanager
def program(url: str, seconds: float) -> Iterator[None]:
    """One of them, in a process of its own."""
    command = [sys.executable, "-m", "bench.routing", "--program", url, str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


class Calls:
    """SIP calls from one socket: each is answered, lasts HOLD seconds, and is ended. Times in milliseconds."""

    def __init__(self, port: int, count: int, rate: float) -> None:
        self.times: list[float] = []
        self._count = count
        self._gap = 1 / rate
        self._peer = ("127.0.0.1", port)
        self._began: dict[str, float] = {}  # Call-ID: when its INVITE left
        self._held: deque[tuple[float, str, str]] = deque()  # when a call is to end, its Call-ID, its To
        self._bye = 0

    def run(self) -> list[float]:
        """Make all of them; RuntimeError if some are not answered."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as self._socket:
            self._socket.bind(("127.0.0.1", 0))
            self._me = f"127.0.0.1:{self._socket.getsockname()[1]}"
            made, due = 0, time.monotonic()
            end = due + self._count * self._gap + 30
            while self._bye < self._count:
                now = time.monotonic()
                if now > end:
                    raise RuntimeError(f"{len(self.times)} of {made} calls answered, {self._bye} ended")
                while made < self._count and due <= now:
                    self._invite(f"{made}-{os.urandom(6).hex()}")
                    made, due = made + 1, due + self._gap
                while self._held and self._held[0][0] <= now:
                    _, call, to = self._held.popleft()
                    self._send("BYE", call, to, 2)
                ends = [*([due] if made < self._count else []), *([self._held[0][0]] if self._held else []), now + 0.5]
                self._socket.settimeout(max(0.0001, min(ends) - now))
                with suppress(TimeoutError):
                    self._came(self._socket.recv(65536).decode(errors="replace"), time.monotonic())
        return self.times

    def _send(self, method: str, call: str, to: str, number: int, body: str = "") -> None:
        lines = [
            f"{method} sip:7000@127.0.0.1:{self._peer[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._me};branch=z9hG4bK{call}{method}", f"From: <sip:bench@{self._me}>;tag={call}", to,
            f"Call-ID: {call}", f"CSeq: {number} {method}", f"Contact: <sip:bench@{self._me}>", "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}",
        ]  # fmt: skip
        self._socket.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self._peer)

    def _invite(self, call: str) -> None:
        sdp = "v=0\r\no=b 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
        self._began[call] = time.monotonic()
        self._send("INVITE", call, "To: <sip:7000@127.0.0.1>", 1, sdp)

    def _came(self, text: str, now: float) -> None:
        head = {name.lower(): value for name, _, value in (line.partition(": ") for line in text.split("\r\n"))}
        call, what = head.get("call-id", ""), head.get("cseq", "").partition(" ")[2]
        if not text.startswith("SIP/2.0 ") or text[8] == "1":
            return
        if what == "BYE":
            self._bye += 1
        elif call in self._began:
            if text[8:11] != "200":
                raise RuntimeError(text.partition("\r\n")[0])
            self.times.append((now - self._began.pop(call)) * 1000)
            to = f"To: {head['to']}"
            self._send("ACK", call, to, 1)
            self._held.append((now + HOLD, call, to))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(options: argparse.Namespace) -> None:
    found: dict[str, list[list[float]]] = {name: [] for name in options.cases}
    agents: dict[str, list[dict[str, Any]]] = {name: [] for name in options.cases}
    listen, sip = free_port(), free_port()
    with ExitStack() as stack:
        server = NatsServer().start()
        stack.callback(server.stop)
        url = f"http://127.0.0.1:{listen}/dialplan"
        switch = RealSwitch(dialplan_url=url, sip_port=sip, rtp=(40000, 41999)).start()  # a call takes two ports
        stack.callback(switch.stop)
        for _ in range(options.repeats):
            for name in options.cases:
                fields, seconds = CASES[name]
                with ExitStack() as inner:
                    agent = Agent(url=server.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{listen}")
                    inner.callback(agent.remove)
                    agent.start()
                    client = Client(server.url)
                    inner.callback(client.close)
                    for each in seconds:
                        inner.enter_context(program(server.url, each))
                    assert client.request("dialplan.route", fields=fields)["success"]
                    Calls(sip, 20, options.rate).run()  # the first calls of a process are slower
                    found[name].append(Calls(sip, options.calls, options.rate).run())
                    agents[name].append(client.request("dialplan.status")["data"]["route"])
    print(f"{options.calls} calls at {options.rate:g}/s, {options.repeats} runs in turn; milliseconds, INVITE to 200\n")
    print("| case | median | 99th percentile | more than off: median, 99th | agent: median, 99th | took the fallback |")
    print("|---|---|---|---|---|---|")
    base = found.get("off")
    for name, runs in found.items():
        middle = statistics.median(percentile(run, 0.5) for run in runs)
        high = statistics.median(percentile(run, 0.99) for run in runs)
        more = ""
        if base and name != "off":
            less = [statistics.median(percentile(run, share) for run in base) for share in (0.5, 0.99)]
            more = f"{middle - less[0]:.1f}, {high - less[1]:.1f}"
        own = [each["latency_ms"] for each in agents[name] if each["latency_ms"]["median"] is not None]
        told = ", ".join(f"{statistics.median(one[key] for one in own):.1f}" for key in ("median", "p99") if own)
        taken: Counter[str] = Counter()
        for route in agents[name]:
            taken.update(route["fallbacks"])
        reasons = ", ".join(f"{count} {reason}" for reason, count in taken.items() if count)
        print(f"| {name} | {middle:.1f} | {high:.1f} | {more} | {told} | {reasons} |")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500, help="calls of a run (500)")
    parser.add_argument("--rate", type=float, default=50, help="calls a second (50)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case (3)")
    parser.add_argument("--program", nargs=2, metavar=("URL", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (all)")
    options = parser.parse_args()
    if options.program:
        asyncio.run(decide(options.program[0], float(options.program[1])))
        return 0
    options.cases = options.cases or list(CASES)
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if binary() is None:
        print("bench.routing: FREESWITCH_BIN and PATH name no FreeSWITCH", file=sys.stderr)
        return 2
    measure(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
