"""Everything that has been tried against the agent, thrown at it at one time, beside a client that keeps count.

`Asker` sends numbered requests and keeps what comes back; each `Attack` goes on, on a thread of its own, until it is
ended. They speak to the NATS server, the HTTP listener and FreeSWITCH through bare sockets: no library would send what
they send.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote

from tests.fuzz.mutator import LONG, TOKENS

WINDOW = 50  # requests under way at one time
STUCK = 30.0  # seconds without an answer after which an asker gives up
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}\r\n'
PARK = "loopback/park/default"


class BareNats:
    """A connection to a NATS server without a library. One thread at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.settimeout(0.2)
        self._data = b""
        self.write(CONNECT)

    def write(self, data: bytes) -> None:
        self._socket.settimeout(30)
        self._socket.sendall(data)
        self._socket.settimeout(0.2)

    def request(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        self.write(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload))

    def read(self) -> list[tuple[bytes, bytes]]:
        """(subject, payload) of the messages that came within 0.2 s; ConnectionError at the end of the link."""
        try:
            chunk = self._socket.recv(262144)
        except TimeoutError:
            return []
        if not chunk:
            raise ConnectionError("the NATS server closed the connection")
        data, at, found = self._data + chunk, 0, []
        while (end := data.find(b"\r\n", at)) >= 0:
            fields = data[at:end].split()
            if fields and fields[0] in (b"MSG", b"HMSG"):
                stop = end + 2 + int(fields[-1])
                if len(data) < stop + 2:
                    break
                found.append((fields[1], data[end + 2 : stop]))
                at = stop + 2
                continue
            if fields and fields[0] == b"PING":
                self.write(b"PONG\r\n")
            elif fields and fields[0] == b"-ERR":
                raise ConnectionError(data[at:end].decode(errors="replace"))
            at = end + 2
        self._data = data[at:]
        return found

    def close(self) -> None:
        self._socket.close()


class Asker(threading.Thread):
    """Sends `count` requests with an answer of its own each, and goes on until `enough` says so."""

    def __init__(self, port: int, name: str, count: int, enough: Callable[[], bool]) -> None:
        super().__init__(name=f"chaos-{name}", daemon=True)
        self.nats = BareNats(port)
        self._inbox = f"chaos.{name}."
        self._count = count
        self._enough = enough
        self.asked = 0
        self.replies: dict[int, list[bytes]] = {}
        self.extra = 0  # answers beyond the first
        self.took: list[float] = []  # seconds
        self.seconds = 0.0
        self.fault = ""

    def run(self) -> None:
        try:
            self._ask()
        except OSError as error:
            self.fault = f"{type(error).__name__}: {error}"
        self.nats.close()

    def _ask(self) -> None:
        self.nats.write(f"SUB {self._inbox}> 1\r\n".encode())
        began = heard = time.monotonic()
        sent: dict[int, float] = {}
        quiet_since = 0.0
        while True:
            lines = []
            while len(sent) < WINDOW and (self.asked < self._count or not self._enough()):
                payload = json.dumps({"command": "echo", "args": self.text(self.asked), "correlation_id": self.asked})
                lines.append(f"PUB freeswitch.api {self._inbox}{self.asked} {len(payload)}\r\n{payload}\r\n")
                sent[self.asked] = time.monotonic()
                self.asked += 1
            if lines:
                self.nats.write("".join(lines).encode())
                quiet_since = 0.0  # all may be answered before the next look
            now = time.monotonic()
            for subject, data in self.nats.read():
                number = int(subject.rpartition(b".")[2])
                self.replies.setdefault(number, []).append(data)
                if (at := sent.pop(number, None)) is not None:
                    heard = time.monotonic()
                    self.took.append(heard - at)
                else:
                    self.extra += 1
            if sent:
                quiet_since = 0.0
                if now - heard > STUCK:
                    self.fault = f"{len(sent)} requests without an answer for {STUCK:g} s"
                    return
            elif not quiet_since:
                quiet_since = now
                self.seconds = heard - began
            elif now - quiet_since > 1.0:
                return  # a wait for a fixed time: nothing may come twice

    def text(self, number: int) -> str:
        return f"{self._inbox}{number}!"

    def faults(self) -> list[str]:
        """What was answered wrongly, twice or not at all."""
        found = [self.fault] if self.fault else []
        for number in range(self.asked):
            replies = self.replies.get(number, [])
            if len(replies) != 1:
                found.append(f"{self._inbox}{number} has {len(replies)} answers: {replies[:3]}")
                continue
            reply = json.loads(replies[0])
            if reply.get("data") != self.text(number) or reply.get("correlation_id") != number:
                found.append(f"{self._inbox}{number} has another's answer: {replies[0]!r}")
        return found

    def figures(self) -> str:
        took = sorted(self.took)
        median, late = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
        rate = self.asked / self.seconds if self.seconds else 0.0
        return f"{self.asked} requests in {self.seconds:.1f} s ({rate:.0f}/s, p50 {median:.1f} ms, p99 {late:.1f} ms)"


class Attack(threading.Thread):
    """One kind of attack, again and again. `rounds` counts them; a fault of its own ends it and is kept in `fault`."""

    def __init__(self, name: str, once: Callable[[int], None], pause: float) -> None:
        super().__init__(name=f"attack-{name}", daemon=True)
        self._once = once
        self._pause = pause
        self._stop_it = threading.Event()
        self.rounds = 0
        self.fault = ""

    def run(self) -> None:
        while not self._stop_it.wait(self._pause):
            try:
                self._once(self.rounds)
            except Exception as error:  # said at the end of the test
                self.fault = f"{type(error).__name__}: {error}"
                return
            self.rounds += 1

    def end(self) -> None:
        self._stop_it.set()
        self.join(30)


# -- what is thrown; MARK is a global variable that must never be set, FILE one that must never be made


def uuids(mark: str, file: str) -> list[bytes]:
    """For questions of mod_xml_curl and for events."""
    texts = [
        f"x\n\napi global_setvar {mark}=1\n\n", f"x\n\napi system touch {file} #", f"x ${{global_setvar({mark}=1)}}",
        f"x\r\n\r\napi global_setvar {mark}=1\r\n\r\n", f"x\rapi global_setvar {mark}=1", "x y", "x\0y", "", "\n\n",
        f"x\\n\\napi\\sglobal_setvar\\s{mark}=1\\n\\n", f"${{system touch {file}}}", f"$${{{mark}}}", "x" * 5000,
    ]  # fmt: skip
    return [*(each.encode() for each in texts), b"\xff" * 300, *TOKENS[:60], b"a" * 30_000 + b"\n\napi status"]


def originates(mark: str) -> list[dict[str, object]]:
    """Calls that would inject, split, or end FreeSWITCH."""
    base: dict[str, object] = {"command": "originate", "endpoint": PARK, "extension": "&park", "timeout": 2}
    inject = f"\\n\\napi\\sglobal_setvar\\s{mark}=1\\n\\n"
    split = f":_:loopback/app=set_global:{mark}=1:_:"
    changes: list[dict[str, object]] = [
        {"endpoint": f"{{origination_uuid=x{inject},event_agent_parked=1}}{PARK}"},
        {"endpoint": f"[origination_uuid=x{inject}]{PARK}"},
        {"endpoint": f"{PARK}{split}"}, {"endpoint": f"{{note='{split}'}}{PARK}"},
        {"variables": {"note": split}}, {"variables": {split: "x"}}, {"caller_id_name": split},
        {"caller_id_number": split[:63]}, {"extension": split}, {"variables": {"event_agent_parked": "1"}},
        {"variables": {"origination_uuid": f"x{inject}"}}, {"uuid": "x\n\napi status"}, {"uuid": f"x{inject}"[:63]},
        {"extension": "undef"}, {"extension": "UNDEF"}, {"extension": "uNdEf", "context": "undef"},
        {"variables": {f"v{number}": "x" for number in range(1100)}}, {"extension": f"&set_global({mark}=1)"},
        {"extension": f"&park(a)b)&set_global({mark}=1)"}, {"extension": f"set_global:{mark}=1", "dialplan": "inline"},
        {"variables": {"api_on_answer": f"global_setvar {mark}=1"}}, {"endpoint": f"loopback/app=set_global:{mark}=1"},
        {"variables": {"a": f"${{global_setvar({mark}=1)}}"}}, {"dialplan": f"XML\n\napi global_setvar {mark}=1"},
        {"extension": f"m:z:answerzset_global:{mark}=1", "dialplan": "inline"}, {"endpoint": "loopback/x/y/LUA"},
    ]  # fmt: skip
    return [base | change for change in changes]


def bypasses(mark: str) -> list[dict[str, object]]:
    """Ways round the deny lists."""
    uuid = "c4a05000-0000-4000-8000-000000000001"
    verbs = [
        ("uuid_transfer", f"{uuid} m:z:answerzset_global:{mark}=1 inline"), ("bgapi", f"global_setvar {mark}=1"),
        ("chat", f"^^zapizazglobal_setvar {mark}=1zx"), ("bgapi", f"uuid:{uuid} global_setvar {mark}=1"),
        ("expand", f"expand glo${{z}}bal_setvar {mark}=1"), ("eval", f"${{global_setvar({mark}=1)}}"),
        ("sched_api", f"+0 none global_setvar {mark}=1"), ("xml_wrap", f"encoded global_setvar {mark}=1"),
        ("json", f'{{"command":"fsapi","data":{{"cmd":"globa\\u006c_setvar","arg":"{mark}=1"}}}}'),
        ("json", f'{{"command":"fsapi","data":{{"cmd":"global_setvar\\u0000x","arg":"{mark}=1"}}}}'),
        ("json", f'{{"command":"execute","data":{{"uuid":"{uuid}","app":"set_globa\\u006c","arg":"{mark}=1"}}}}'),
        ("originate", f"{{api_on_answer=global_setvar\\s{mark}=1}}{PARK} &park"), ("global_setvar", f"{mark}=1"),
        ("GLOBAL_setvar", f"{mark}=1"), ("status", f"\n\napi global_setvar {mark}=1"),
        ("status", f"\r\n\r\napi global_setvar {mark}=1"), (f"status\n\napi global_setvar {mark}=1\n\n", ""),
    ]  # fmt: skip
    apps = [
        ("bridge", f"loopback/ap${{z}}p=set_glo${{z}}bal:{mark}=1"), ("set_global", f"{mark}=1"),
        ("multiset", f"a=b ap${{z}}i_hangup_ho${{z}}ok=glo${{z}}bal_setvar {mark}=1"),
        ("eval", f"${{glo${{z}}bal_setvar({mark}=1)}}"), ("log", f"INFO ${{global_setvar {mark}=1}}"),
    ]  # fmt: skip
    found: list[dict[str, object]] = [{"command": verb, "args": args} for verb, args in verbs]
    return found + [{"command": "execute_app", "uuid": uuid, "app": app, "args": args} for app, args in apps]


def long_texts(rng: random.Random) -> Iterator[bytes]:
    """Requests that cost much where something is looked through in more than linear time."""
    while True:
        for each in LONG:
            text = (each * 64_000)[:32_000].decode(errors="replace")
            request = rng.choice((
                {"command": "status", "args": text}, {"command": text, "args": ""},
                {"command": "execute_app", "uuid": "x", "app": "set", "args": text},
                {"command": "originate", "endpoint": text[:4000], "extension": "&park", "variables": {"a": text}},
                {"command": "echo", "forward_to": text},
            ))  # fmt: skip
            yield json.dumps(request).encode()


def garbage(rng: random.Random) -> bytes:
    """No request at all, or nearly one."""
    return rng.choice((
        b"", b"{", b"[" * 30_000, b'{"a":' * 10_000, rng.randbytes(rng.randrange(2000)), b"x" * 65_537, b"null",
        b"[]", b'"', b'{"command":"status","args":' + b"9" * 5000 + b"}", b'{"command":"\\ud800"}',
        b'{"command":"echo","args":"\xff"}',
    ))  # fmt: skip


def replies(rng: random.Random) -> bytes:
    """Reply subjects that are hard to answer on."""
    return rng.choice((
        b"\xff" * 1400, b"bytes.\xe9", b"a" * 3900, b"\xc3\xa9" * 1900, b"a." * 500 + b"b", b"\x80\x81.\xfe", b"x\x0by",
        b"x\x0cy", b"freeswitch.events.x", b"_INBOX.\xf0\x9f\x98\x80", b"$SRV.PING", b"$JS.API.INFO",
    ))  # fmt: skip


class IdleConnections:
    """640 connections to the HTTP listener that ask nothing, or one byte at a time."""

    def __init__(self, port: int, count: int = 640) -> None:
        self._port = port
        self._count = count
        self._sockets: list[socket.socket] = []

    def round(self, number: int) -> None:
        """Make up for those that were closed; send a byte on every tenth."""
        kept = []
        for at, each in enumerate(self._sockets):
            with suppress(OSError):
                if at % 10 == 0:
                    each.send(b"GET /health HTTP/1.1\r\n"[number % 22 :][:1])
                try:
                    if each.recv(1) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    pass
                kept.append(each)
                continue
            each.close()
        while len(kept) < self._count:
            made = socket.socket()
            made.setblocking(False)
            made.connect_ex(("127.0.0.1", self._port))
            kept.append(made)
        self._sockets = kept

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def ask_http(port: int, data: bytes, timeout: float = 10.0) -> bytes:
    """What the listener answers, up to the end of the connection or of what Content-Length says."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout) as peer:
        peer.settimeout(timeout)
        peer.sendall(data)
        while chunk := peer.recv(65536):
            found += chunk
            head, blank, body = found.partition(b"\r\n\r\n")
            lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            if blank and lengths and len(body) >= int(lengths[0]):
                break
    return found


def question(uuid: bytes) -> bytes:
    """mod_xml_curl's, about a call of this uuid."""
    body = b"section=dialplan&Hunt-Context=default&Hunt-Destination-Number=1&Caller-Profile-Index=1&Unique-ID="
    body += quote(uuid, safe="").encode()
    return b"POST /dialplan HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def forged_event(uuid: bytes, number: int) -> bytes:
    """A `sendevent` of a park event that never was."""
    name = (b"CHANNEL_PARK", b"CHANNEL_UNPARK", b"CHANNEL_CREATE", b"CHANNEL_DESTROY")[number % 4]
    uuid = uuid.replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\0", b"")[:4000]
    return b"sendevent %b\nUnique-ID: %b\nCaller-Profile-Index: 1\nvariable_event_agent_parked: 1\n\n" % (name, uuid)
