"""Events with numbers: fired at FreeSWITCH's event socket, and read out of a stream."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import suppress

from tests.package.machine import (
    ESL,
)

MARK, SUBJECT = "lifecycle::n", "freeswitch.events.custom.lifecycle.n"


class Fire:
    """Numbered events, one each few milliseconds, by an event socket of its own."""

    def __init__(self) -> None:
        self.count = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="fire")

    def _run(self) -> None:
        with socket.create_connection(ESL, 10) as link:
            link.sendall(b"auth ClueCon\n\n")
            while not self._ended:
                link.sendall(f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nNumber: {self.count}\n\n".encode())
                self.count += 1
                link.setblocking(False)
                with suppress(BlockingIOError):
                    link.recv(65536)
                link.setblocking(True)
                time.sleep(0.004)

    def __enter__(self) -> Fire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()


class Stored:
    """The numbers of the events of a JetStream stream, as it stores them: those that come twice are not there twice."""

    def __init__(self, port: int) -> None:
        self.numbers: list[int] = []
        self._link = socket.create_connection(("127.0.0.1", port), 10)
        self._link.settimeout(None)
        # A consumer that is pushed to, from the first event on, without acknowledgements.
        config = {"deliver_subject": "lifecycle.push", "deliver_policy": "all", "ack_policy": "none",
                  "filter_subject": SUBJECT}  # fmt: skip
        ask = json.dumps({"stream_name": "events", "config": config}).encode()
        self._link.sendall(
            b'CONNECT {"verbose":false}\r\nSUB lifecycle.push 1\r\n'
            b"PUB $JS.API.CONSUMER.CREATE.events lifecycle.none %d\r\n%b\r\n" % (len(ask), ask)
        )
        self._thread = threading.Thread(target=self._read, name="stored", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._link.makefile("rb") as stream:
            while line := stream.readline():
                if line.startswith(b"PING"):
                    self._link.sendall(b"PONG\r\n")
                elif line.startswith((b"MSG ", b"HMSG ")):
                    whole = stream.read(int(line.split()[-1]) + 2)
                    if found := re.search(rb'"Number":"(\d+)"', whole):
                        self.numbers.append(int(found[1]))

    def close(self) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._link.close()
