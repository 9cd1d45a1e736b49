"""Event sockets of many switches in one process, with recorded calls that are played at a rate.

A real FreeSWITCH, and the simulator of the tests too, cost many times what an agent does; these cost little, so that
the agents and nats-server have the machine. They answer what an agent asks, and each command with `+OK`. A call is 38
events of 3 kB with uuids, times and numbers of its own: those that a loopback call of FreeSWITCH 1.10.12 has. Ten of
them are recorded; in place of the others its CHANNEL_ANSWER comes as CHANNEL_CALLSTATE.

`python -m bench.scale.switches COUNT` says the ports, then takes lines on its stdin: `RATE HOLD` calls a second over
all, each of HOLD seconds, 0 for none; it answers each with the calls begun and the channels up.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import time
import uuid
from collections.abc import Sequence

from bench.cannon import RECORDING, framed

STATUS = (
    "UP 0 years, 0 days, 0 hours, 1 minute, 0 seconds, 0 milliseconds, 0 microseconds\n"
    "FreeSWITCH (Version 1.10.12 -release 64bit) is ready\n0 session(s) since startup\n"
    "0 session(s) - peak 0, last 5min 0\n0 session(s) per Sec out of max 1000, peak 0, last 5min 0\n"
    "5000 session(s) max\nmin idle cpu 0.00/98.00\nCurrent Stack Size/Max 240K/8192K\n"
)
INTERFACES = '{"row_count":1,"rows":[{"type":"application","name":"set","ikey":"x"}]}\n'
LEGS = ("aaaaaaaa-0000-4000-8000-000000000002", "c1d5e5f8-a10a-4332-8ca5-65b8f2e20955")
TICK = 0.02  # seconds between two looks at the clock
BEGINNING = 34  # events of a call with which it is up


def recorded_call() -> list[bytes]:
    """The events of both legs, from CHANNEL_CREATE to CHANNEL_DESTROY."""
    stream = b"".join(
        ast.literal_eval(line[4:]) for line in RECORDING.read_text().splitlines() if line.startswith("<<< b'")
    )
    found = re.findall(rb'\{"Event-Name":"(?:CHANNEL|CALL)_.*?"\}(?=Content-|$)', stream)
    events = [event for event in found if any(leg.encode() in event for leg in LEGS)]
    others = [event.replace(b'"CHANNEL_ANSWER"', b'"CHANNEL_CALLSTATE"', 1) for event in events[2:4]]
    return [*events[:6], *others * 14, *events[6:]]


class Template:
    """An event of a call, to be filled in. Numbers and times have a fixed width, so its frame has a fixed length."""

    def __init__(self, event: bytes) -> None:
        for leg, mark in zip(LEGS, (b"\0A", b"\0B"), strict=True):
            event = event.replace(leg.encode(), mark)
        event = re.sub(rb'"Core-UUID":"[^"]*"', b'"Core-UUID":"\0C"', event)
        event = re.sub(rb'"Event-Date-Timestamp":"\d+"', b'"Event-Date-Timestamp":"\0T"', event)
        event = re.sub(rb'"Event-Sequence":"\d+"', b'"Event-Sequence":"\0S"', event)
        parts = re.split(rb"(\0[ABCTS])", event)
        length = sum({b"\0T": 16, b"\0S": 10}.get(part, 36) if part[:1] == b"\0" else len(part) for part in parts)
        self._parts = [framed(b"").replace(b" 0\n", b" %d\n" % length, 1), *parts]

    def filled(self, values: dict[bytes, bytes]) -> bytes:
        return b"".join([values.get(part, part) for part in self._parts])


class Switch:
    """One of them."""

    def __init__(self) -> None:
        self.core = str(uuid.uuid4()).encode()
        self.sequence = 1_000_000_000
        self.targets: list[asyncio.StreamWriter] = []
        self.answers = {
            "version": "FreeSWITCH Version 1.10.12-release~64bit\n", "hostname": "scale", "status": STATUS,
            "global_getvar core_uuid": self.core.decode(), "show interfaces as json": INTERFACES,
            "show channels as json": '{"row_count":0}\n', "fsctl pause_check outbound": "false",
            "fsctl ready_check": "true", "module_exists mod_xml_curl": "false",
        }  # fmt: skip

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until its end."""
        writer.write(b"Content-Type: auth/request\n\n")
        lines: list[str] = []
        try:
            while line := (await reader.readline()).decode():
                if line != "\n":
                    lines.append(line.rstrip("\n"))
                elif lines:
                    self._answer("\n".join(lines), writer)
                    lines = []
        except OSError:
            pass  # the agent went away
        if writer in self.targets:
            self.targets.remove(writer)
        writer.close()

    def _answer(self, command: str, writer: asyncio.StreamWriter) -> None:
        if command.startswith("api "):
            body = self.answers.get(command[4:], "+OK\n").encode()
            writer.write(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))
            return
        reply = b"-ERR command not found" if command == "connect" else b"+OK accepted"
        writer.write(b"Content-Type: command/reply\nReply-Text: " + reply + b"\n\n")
        if command.startswith("sendevent"):
            self.sequence += 1
            now = int(time.time() * 1e6)
            headers = dict(line.split(": ", 1) for line in command.split("\n")[1:] if ": " in line)
            mark, subclass = headers.get("Mark", ""), headers.get("Event-Subclass", "")
            text = (
                f'{{"Event-Subclass":"{subclass}","Mark":"{mark}","Event-Name":"CUSTOM",'
                f'"Core-UUID":"{self.core.decode()}","Event-Date-Timestamp":"{now}","Event-Sequence":"{self.sequence}"}}'
            )
            writer.write(framed(text.encode()))
        elif command.startswith("event json ALL") and writer not in self.targets:
            self.targets.append(writer)

    def play(self, templates: Sequence[Template], legs: tuple[bytes, bytes]) -> None:
        """Some events of a call."""
        if not self.targets:
            return
        stamp = b"%016d" % int(time.time() * 1e6)
        out = []
        for template in templates:
            self.sequence += 1
            values = {b"\0A": legs[0], b"\0B": legs[1], b"\0C": self.core, b"\0T": stamp, b"\0S": b"%d" % self.sequence}
            out.append(template.filled(values))
        data = b"".join(out)
        for target in self.targets:
            target.write(data)


class Load:
    """Calls at a rate."""

    def __init__(self, switches: Sequence[Switch]) -> None:
        self.switches = switches
        self.rate, self.hold = 0.0, 0.0
        self.begun = 0
        self.up: list[tuple[float, Switch, tuple[bytes, bytes]]] = []  # when it ends, in that order
        events = [Template(event) for event in recorded_call()]
        self.events = len(events)
        self._first, self._last = events[:BEGINNING], events[BEGINNING:]

    async def run(self) -> None:
        """Until it is cancelled."""
        since, owed = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            owed += (now - since) * self.rate
            since = now
            while owed >= 1:
                owed -= 1
                switch = self.switches[self.begun % len(self.switches)]
                legs = str(uuid.uuid4()).encode(), str(uuid.uuid4()).encode()
                switch.play(self._first, legs)
                self.begun += 1
                self.up.append((now + self.hold, switch, legs))
            ended = 0
            while ended < len(self.up) and (self.up[ended][0] <= now or not self.rate):
                _, switch, legs = self.up[ended]
                switch.play(self._last, legs)
                ended += 1
            del self.up[:ended]


async def serve(count: int) -> None:
    """See the module's text."""
    switches = [Switch() for _ in range(count)]
    servers = [await asyncio.start_server(switch.serve, "127.0.0.1", 0) for switch in switches]
    load = Load(switches)
    player = asyncio.create_task(load.run())
    print(*(server.sockets[0].getsockname()[1] for server in servers), load.events, flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        load.rate, load.hold = map(float, line.split())
        print(load.begun, 2 * len(load.up), flush=True)
    player.cancel()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
