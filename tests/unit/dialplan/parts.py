"""Park mode with its HTTP server, and calls that are fakes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from event_agent.commands.dialplan import dialplan_commands
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.router import Router
from event_agent.freeswitch.command import Command
from event_agent.http.listener import HttpListener
from tests.fakes.questions import FakeQuestions, anything
from tests.support import free_port

RECORDED = Path(__file__).parents[2] / "fixtures" / "xml-curl" / "dialplan-request.txt"
BODY = RECORDED.read_bytes().strip().rpartition(b"\n")[2]

UUID = "5484c8f6-edf8-4b61-b2d3-19b27bc6518e"


class FakeCall:
    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        self.outcome: Any = None
        self.ended = threading.Event()

    def finish(self, outcome: Any) -> None:
        self.outcome = outcome
        self.ended.set()


class House:
    """A DialplanControl, and FreeSWITCH as a function from command to answer."""

    def __init__(self, folder: Path, port: int | None = None, key: str = "") -> None:
        self.port = port or free_port()
        self.answers: dict[str, str] = {"show": '{"row_count":0}', "module_exists": "true"}
        self.sent: list[str] = []
        self.watched: list[frozenset[str]] = []
        self.asks = True  # FreeSWITCH has a binding that leads here
        self.hold = False  # whether the answer to module_exists is left to the test
        self.held: list[Command] = []
        self.listener = HttpListener(("127.0.0.1", self.port), again=0.1)
        self.questions = FakeQuestions()
        self.router = Router("fs-1", "freeswitch.route", self.questions, anything)
        self.control = DialplanControl(
            self.listener, str(folder), self.send, self.watched.append, self.router, key, tick=0.05
        )
        self.handlers = dialplan_commands(self.control, "freeswitch")

    def start(self) -> None:
        self.control.start()
        self.listener.start()

    def stop(self) -> None:
        self.listener.stop(5)
        self.control.stop(5)

    def send(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self.sent.append(command.text)
            verb = command.text.split()[1]
            if self.hold and verb == "module_exists":
                self.held.append(command)
                continue
            if verb == "xml_locate" and self.asks:
                nonce = command.text.split()[-1]
                self.post(f"section=dialplan&tag_name=event-agent&key_name=probe&key_value={nonce}".encode())
            command.done(self.answers.get(verb, "+OK"))

    def run(self, name: str, **payload: Any) -> Any:
        call = FakeCall(payload)
        outcome = self.handlers[name](call)  # type: ignore[arg-type]
        if outcome is None:
            assert call.ended.wait(5)
            outcome = call.outcome
        assert outcome.ok
        return outcome

    def post(self, body: bytes = BODY, path: str = "/dialplan") -> bytes:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        client.request("POST", path, body)
        answer = client.getresponse()
        assert answer.status == 200
        data = answer.read()
        client.close()
        return data


    def call(self, body: bytes) -> Callable[[], bytes]:
        """Post it, and go on; what is returned waits for the answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.request("POST", "/dialplan", body)

        def answer() -> bytes:
            data = client.getresponse().read()
            client.close()
            return data

        return answer

    def get(self, path: str) -> bytes:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.request("GET", path)
        data = client.getresponse().read()
        client.close()
        return data


Make = Callable[..., House]


# -- the key


def status_of(house: House, query: str) -> int:
    client = http.client.HTTPConnection("127.0.0.1", house.port, timeout=5)
    client.request("POST", f"/dialplan{query}", BODY)
    answer = client.getresponse()
    answer.read()
    client.close()
    return answer.status
