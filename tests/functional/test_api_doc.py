"""docs/API.md and docs/SECURITY.md, executed: each request in them is sent to a running agent, each reply compared.

How the examples are marked is told in docs/API.md, "How the examples are written".
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, Client, Events, NatsServer
from tests.support import free_port, until

DOCS = ROOT / "docs"
NODE = "fs-node-01"
QUIET = 0.3  # seconds in which a request that gets no reply must not get one

_FENCE = re.compile(r"^```(\w+) (request|reply|event)\b ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
_ROW = re.compile(r"^\| `(\{.*?\})` \| `(.+?)` \|", re.MULTILINE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Step:
    """One example: what kind, the words behind it, its text, and where it stands."""

    kind: str  # request, reply, event, row
    words: dict[str, str]
    text: str
    line: int


def steps(text: str) -> list[Step]:
    """The examples of a document, in its order."""
    found = []
    for match in _FENCE.finditer(text):
        words = dict(word.partition("=")[::2] for word in match[3].split())
        found.append((match.start(), match[2], words, match[4].removesuffix("\n")))
    for match in _ROW.finditer(text):
        found.append((match.start(), "row", {"message": match[2]}, match[1]))
    return [
        Step(kind, words, body, text.count("\n", 0, start) + 1) for start, kind, words, body in sorted(found, key=first)
    ]


def first(found: tuple[int, str, dict[str, str], str]) -> int:
    return found[0]


def differences(wanted: Any, got: Any, path: str, varies: list[str], more: list[str]) -> Iterator[str]:
    """What in `got` is not as `wanted` has it; the two lists are paths as the examples give them."""
    free = path.rpartition(".")[2] == "timestamp" or any(path == each or path.startswith(f"{each}.") for each in varies)
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in wanted.keys() - got.keys():
            yield f"{path}.{key} is missing"
        if path not in more:
            for key in got.keys() - wanted.keys():
                yield f"{path}.{key} is not in the document: {got[key]!r}"
        for key in wanted.keys() & got.keys():
            yield from differences(wanted[key], got[key], f"{path}.{key}".lstrip("."), varies, more)
    elif not free:
        if wanted != got or type(wanted) is not type(got):
            yield f"{path} is {got!r}, not {wanted!r}"
    elif type(wanted) is not type(got):
        yield f"{path} is {got!r}, of another type than {wanted!r}"
    elif isinstance(wanted, str) and _UUID.fullmatch(wanted) and not _UUID.fullmatch(got):
        yield f"{path} is {got!r}, which is no uuid"


def compare(step: Step, got: Any) -> list[str]:
    """The differences between an example and what came."""
    lists = [step.words.get(name, "").split(",") for name in ("varies", "more")]
    return list(differences(json.loads(step.text), got, "", *lists))


class Runner:
    """Sends the requests of a document, one after the other, and compares what comes."""

    def __init__(self, client: Client, prefix: str = "freeswitch") -> None:
        self.client = client
        self.prefix = prefix
        self.messages = client.gather(">")
        self.reply = b""
        self.wrong: list[str] = []

    def run(self, text: str) -> None:
        """All of them; AssertionError with everything that differs."""
        for step in steps(text):
            for difference in self.one(step):
                self.wrong.append(f"line {step.line}: {difference}")
        assert not self.wrong, "\n".join(self.wrong)

    def one(self, step: Step) -> list[str]:
        if step.kind == "reply":
            found = compare(step, json.loads(self.reply))
            return [*found, f"the reply is {self.reply.decode()}"] if found else []
        if step.kind == "event":
            return self._event(step)
        data = step.text.encode()
        subject = step.words.get("subject", f"{self.prefix}.api")
        if "silent" in step.words:
            with contextlib.suppress(nats.errors.TimeoutError):
                return [f"a reply: {self.client.raw(subject, data, QUIET).data.decode()}"]
            return []
        self.reply = self.client.raw(subject, data, 15).data
        if step.kind == "row":
            reply = json.loads(self.reply)
            wanted = step.words["message"]
            same = reply["success"] is False and reply["message"] == wanted
            return [] if same else [f"{step.text}: {reply['message']!r}, not {wanted!r}"]
        if forward := re.search(r'"forward_to":"(.+?)"', step.text):
            copies = until(lambda: self._on(forward[1]), f"the reply on {forward[1]}")
            return [] if copies[-1] == self.reply else [f"another reply on {forward[1]}"]
        return []

    def _on(self, subject: str) -> list[bytes]:
        return [message.data for message in list(self.messages) if message.subject == subject]

    def _event(self, step: Step) -> list[str]:
        def near() -> list[str]:
            return min((compare(step, json.loads(data)) for data in self._on(step.words["subject"])), key=len)

        try:
            until(lambda: self._on(step.words["subject"]) and not near(), f"the event {step.words['subject']}", 5)
        except AssertionError as error:
            return near() if self._on(step.words["subject"]) else [str(error)]
        return []


@pytest.fixture
def prepared(nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]) -> Callable[..., Agent]:
    def start(**settings: str) -> Agent:
        return start_agent(nats, switch, **({"node_id": NODE} | settings))

    return start


def test_every_example_of_the_api_is_true(prepared: Callable[..., Agent], client: Client) -> None:
    runner = Runner(client)  # hears what the agent says when it starts, too
    prepared(http_listen=f"127.0.0.1:{free_port()}")
    runner.run((DOCS / "API.md").read_text(encoding="utf-8"))


def test_the_examples_are_found() -> None:
    """The document is really read: as many examples as it has fences, each reply and event parsed."""
    text = (DOCS / "API.md").read_text(encoding="utf-8")
    found = steps(text)
    assert sum(step.kind != "row" for step in found) == len(re.findall(r"^```(?:json|text) \w+", text, re.MULTILINE))
    for step in found:
        if step.kind in ("reply", "event"):
            json.loads(step.text)
    commands = {json.loads(step.text)["command"] for step in found if step.kind == "request" and step.text[:1] == "{"}
    assert commands >= {
        "originate", "hangup", "execute_app", "agent.status", "dialplan.enable", "dialplan.disable", "dialplan.audio",
        "dialplan.autoanswer", "dialplan.status",
    }  # fmt: skip


# -- docs/SECURITY.md


def block(text: str, kind: str) -> str:
    """The one fenced block with this info string."""
    (found,) = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_refusal_of_the_lists_is_true(prepared: Callable[..., Agent], client: Client) -> None:
    text = (DOCS / "SECURITY.md").read_text(encoding="utf-8")
    params = dict(re.findall(r'<param name="(\w+)" value="(.*?)"/>', block(text, "xml lists")))
    prepared(**params)
    Runner(client).run(text)


@pytest.fixture
def guarded_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with the permissions of docs/SECURITY.md; passwords are the users' names."""
    config = block((DOCS / "SECURITY.md").read_text(encoding="utf-8"), "conf nats-server")
    config = re.sub(r"\$(\w+)_PASSWORD", lambda match: match[1].lower(), config)
    server = NatsServer(config=config).start()
    yield server
    server.stop()


def test_the_permissions_do_what_the_document_says(
    guarded_nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]
) -> None:
    port = guarded_nats.port
    agent = start_agent(
        guarded_nats, switch, url=f"nats://agent:agent@127.0.0.1:{port}", node_id=NODE, include="CHANNEL_ANSWER"
    )
    errors: list[str] = []

    async def told(error: Exception) -> None:
        errors.append(str(error))

    clients = {
        name: Client(f"nats://{name}:{name}@127.0.0.1:{port}", error_cb=told, inbox_prefix=f"_INBOX_{name}".encode())
        for name in ("dialler", "billing")
    }
    try:
        dialler, billing = clients["dialler"], clients["billing"]
        assert dialler.request("version", subject="freeswitch.node.fs_node_01")["success"] is True
        events = Events(billing.gather("freeswitch.events.>"))
        reply = dialler.request(
            "originate", subject="freeswitch.node.fs_node_01", endpoint="loopback/park/default", destination="&park"
        )
        assert reply["success"] is True
        events.wait("CHANNEL_ANSWER")
        for name, subject in (("dialler", "freeswitch.api"), ("dialler", "freeswitch.node.fs_node_02"),
                              ("billing", "freeswitch.node.fs_node_01"), ("dialler", "freeswitch.events.x")):
            before = len(errors)
            clients[name].publish(subject, b'{"command":"version","async":true}')
            until(lambda count=before: len(errors) > count, f"{name} is refused on {subject}")  # type: ignore[misc]
            assert subject in errors[-1] and "permissions violation" in errors[-1].lower()
        dialler.request("version", subject="freeswitch.node.fs_node_01", forward_to="audit.replies")
        dialler.request("version", subject="freeswitch.node.fs_node_01", forward_to="elsewhere.replies")
        agent.logged('Permissions Violation for Publish to "elsewhere.replies"')
        assert "audit.replies" not in agent.log
        operator = clients["operator"] = Client(f"nats://operator:operator@127.0.0.1:{port}")
        assert json.loads(operator.raw("$SRV.PING", b"").data)["metadata"]["node_id"] == NODE
        assert "$SRV" not in agent.log
    finally:
        for each in clients.values():
            each.close()

