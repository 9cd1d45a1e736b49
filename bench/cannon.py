"""An event socket that fires recorded events as fast as they are taken: FreeSWITCH itself is slower than the agent.

It knows as much of the protocol as the agent asks for at its start. Runs in a process of its own:
`python -m bench.cannon COUNT [numbered]`, says the port it listens on, and fires COUNT events at each line on its
stdin, then says so. With `numbered` each has an Event-Sequence of its own: a stream that stores each event once takes
the others for one; a line that is a number is how many of these it fires a second. At the line `calls` they are those
of whole calls, each with uuids of its own (bench/scale/switches.py): two of 38 events are a CHANNEL_CREATE, where else
each event is one.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
import uuid
from pathlib import Path

RECORDING = Path(__file__).resolve().parent.parent / "tests/fixtures/event-socket/originate-json.txt"
CORE = "cccccccc-0000-4000-8000-000000000001"
ANSWERS = {
    "api version": "FreeSWITCH Version 1.10.12-cannon\n",
    "api hostname": "cannon",
    "api global_getvar core_uuid": CORE,
    "api show interfaces as json": '{"row_count":1,"rows":[{"type":"application","name":"set","ikey":"x"}]}\n',
    "api show channels as json": '{"row_count":0}\n',
}


def recorded_event() -> bytes:
    """One CHANNEL_CREATE, framed as `event json` frames it."""
    text = RECORDING.read_text()
    found = re.search(r'text/event-json\\n\\n(\{"Event-Name":"CHANNEL_CREATE".*?\})Con', text)
    assert found, "no CHANNEL_CREATE in the recording"
    return framed(found.group(1).encode())


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(body), body)


class Cannon:
    """Listens; `fire` sends to every connection that subscribed to all events."""

    def __init__(self) -> None:
        self.number = 1_000_000_000
        self._whole = threading.Lock()  # an answer must not fall into the middle of an event
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.targets: list[socket.socket] = []
        threading.Thread(target=self._accept, name="cannon", daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), name="cannon-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.sendall(b"Content-Type: auth/request\n\n")
        stream = client.makefile("r", newline="\n")
        try:
            while command := self._command(stream):
                if command.startswith("api "):
                    body = ANSWERS.get(command, "+OK\n").encode()
                    self._send(client, b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))
                    continue
                reply = b"-ERR command not found" if command == "connect" else b"+OK accepted"
                self._send(client, b"Content-Type: command/reply\nReply-Text: " + reply + b"\n\n")
                if command.startswith("sendevent"):
                    subclass = command.rpartition(": ")[2]
                    self._send(client, framed(b'{"Event-Subclass":"%b","Event-Sequence":"1"}' % subclass.encode()))
                if command == "event json ALL":
                    self.targets.append(client)
        except OSError:
            pass  # the agent went away
        if client in self.targets:
            self.targets.remove(client)

    def _send(self, to: socket.socket, data: bytes) -> None:
        with self._whole:
            to.sendall(data)

    @staticmethod
    def _command(stream: object) -> str:
        """The next command with its headers, "" at the end; lone line breaks are passed over."""
        lines: list[str] = []
        for line in stream:  # type: ignore[attr-defined]
            if line != "\n":
                lines.append(line.rstrip("\n"))
            elif lines:
                return "\n".join(lines)
        return ""

    def fire(self, count: int) -> None:
        """Send so many events to the subscriber."""
        event = recorded_event()
        block = event * 100
        for target in self.targets:
            for _ in range(count // 100):
                self._send(target, block)

    def fire_numbered(self, count: int, rate: float = 0.0) -> None:
        """The same, with numbers that rise over all calls. `rate`: events a second, 0 for as fast as they are taken."""
        body = recorded_event().partition(b"\n\n")[2]
        before, _, after = body.partition(b'"Event-Sequence":"')
        after = after.partition(b'"')[2]
        size = len(before) + len(after) + len(b'"Event-Sequence":"1000000000"')
        head = b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (size, before)
        for target in self.targets:
            began = time.monotonic()
            for first in range(self.number, self.number + count, 100):
                if rate:
                    time.sleep(max(0.0, began + (first - self.number) / rate - time.monotonic()))
                self._send(target, b"".join(
                    b'%b"Event-Sequence":"%d"%b' % (head, number, after) for number in range(first, first + 100)
                ))  # fmt: skip
        self.number += count

    def fire_calls(self, count: int) -> None:
        """The events of so many calls as have `count` events, or a few less."""
        from bench.scale.switches import Template, recorded_call  # which needs this module

        templates = [Template(event) for event in recorded_call()]
        for target in self.targets:
            for _ in range(count // len(templates)):
                legs = {b"\0A": str(uuid.uuid4()).encode(), b"\0B": str(uuid.uuid4()).encode()}
                values = {**legs, b"\0C": CORE.encode(), b"\0T": b"%016d" % int(time.time() * 1e6)}
                call = []
                for template in templates:
                    self.number += 1
                    call.append(template.filled(values | {b"\0S": b"%d" % self.number}))
                self._send(target, b"".join(call))


def main() -> None:
    """See the module's text."""
    cannon = Cannon()
    print(cannon.listener.getsockname()[1], flush=True)
    usual = cannon.fire_numbered if "numbered" in sys.argv else cannon.fire
    for line in sys.stdin:
        if line.strip().isdigit():
            cannon.fire_numbered(int(sys.argv[1]), float(line))
        else:
            (cannon.fire_calls if line == "calls\n" else usual)(int(sys.argv[1]))
        print("fired", flush=True)


if __name__ == "__main__":
    main()
