"""The driver and its client against a small NATS server that does what a test tells it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Message
from event_agent.drivers.nats import connection as nats_client
from event_agent.drivers.nats import driver as module
from event_agent.drivers.nats import pace as nats_pace
from event_agent.drivers.nats.auth import Credentials
from event_agent.drivers.nats.driver import NatsDriver, NatsOptions
from event_agent.errors import AgentError

LIMIT = 5.0


def until(condition: Callable[[], object], what: str, timeout: float = LIMIT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.001)


class Link:
    """The server's end of one connection. Answers PING by itself; keeps what else comes, in order."""

    def __init__(self, sock: socket.socket, info: dict[str, Any], *, greet: bool = True, pongs: bool = True) -> None:
        self.sock = sock
        self.lines: list[bytes] = []
        """Control lines, PING and PONG too."""
        self.messages: list[tuple[str, bytes]] = []
        self.raw = b""
        """All that came."""
        self.pongs = pongs
        self.reading = threading.Event()
        self.reading.set()
        self.ended = threading.Event()
        self.faults: list[bytes] = []
        if greet:
            self.send(b"INFO " + json.dumps(info).encode() + b"\r\n")
        self._thread = threading.Thread(target=self._read, name="fake-nats", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def deliver(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        """To all subscriptions of this very subject."""
        for line in self.lines:
            fields = line.split()
            if fields[0] == b"SUB" and fields[1].decode() == subject:
                head = f"{'H' if headers else ''}MSG {subject} {fields[-1].decode()} {reply} "
                sizes = f"{len(headers)} " if headers else ""
                self.send(f"{head}{sizes}{len(headers) + len(data)}\r\n".encode() + headers + data + b"\r\n")

    @property
    def subscriptions(self) -> list[bytes]:
        return [line for line in self.lines if line.startswith(b"SUB ")]

    @property
    def options(self) -> dict[str, Any]:
        """What CONNECT said."""
        (line,) = [line for line in self.lines if line.startswith(b"CONNECT ")]
        found: dict[str, Any] = json.loads(line[8:])
        return found

    def _read(self) -> None:
        data = b""
        try:
            while True:
                self.reading.wait()
                chunk = self.sock.recv(65536)
                if not chunk:
                    break
                data += chunk
                self.raw += chunk
                data = self._parse(data)
        except OSError:
            pass
        self.ended.set()

    def _parse(self, data: bytes) -> bytes:
        while (end := data.find(b"\r\n")) >= 0:
            line = data[:end]
            fields = line.split()
            if fields and fields[0] in (b"PUB", b"HPUB"):
                stop = end + 2 + int(fields[-1])
                if len(data) < stop + 2:
                    return data
                if data[stop : stop + 2] != b"\r\n":
                    self.faults.append(data[: stop + 2])
                self.messages.append((fields[1].decode(errors="replace"), data[end + 2 : stop]))
                data = data[stop + 2 :]
                continue
            if not fields or fields[0] not in (b"CONNECT", b"PING", b"PONG", b"SUB", b"UNSUB"):
                self.faults.append(line)
            self.lines.append(line)
            data = data[end + 2 :]
            if line == b"PING" and self.pongs:
                self.send(b"PONG\r\n")
        return data

    def close(self) -> None:
        self.reading.set()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(LIMIT)
        self.sock.close()


class FakeNats:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.info: dict[str, Any] = {"server_id": "FAKE", "version": "2.9", "max_payload": 1000, "headers": True}
        self.links: list[Link] = []

    def accept(self, *, greet: bool = True, pongs: bool = True) -> Link:
        sock, _ = self._listener.accept()
        self.links.append(Link(sock, self.info, greet=greet, pongs=pongs))
        return self.links[-1]

    def close(self) -> None:
        self._listener.close()
        for link in self.links:
            link.close()


class Under:
    """A driver and all that it said."""

    def __init__(self, *servers: str, **options: Any) -> None:
        self.driver = NatsDriver(NatsOptions(servers, reconnect_wait=0.01, **options))
        self.ups = 0
        self.downs: list[str] = []
        self.gave_up: list[str] = []
        self.batches = 0
        self.got: list[Message] = []
        self.driver.on_up = self._up
        self.driver.on_down = self.downs.append
        self.driver.on_gave_up = self.gave_up.append
        self.driver.on_batch_end = self._batch

    def _up(self) -> None:
        self.ups += 1

    def _batch(self) -> None:
        self.batches += 1

    def connect(self, server: FakeNats) -> Link:
        """Start it and wait until it is up."""
        self.driver.connect()
        link = server.accept()
        until(lambda: self.ups, "up")
        return link


@pytest.fixture
def server() -> Iterator[FakeNats]:
    found = FakeNats()
    yield found
    found.close()
    assert not [fault for link in found.links for fault in link.faults], "bytes that are no NATS were sent"


Start = Callable[..., Under]


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes drivers; all are closed after the test, and leave no thread."""
    made: list[Under] = []

    def make(*servers: str, **options: Any) -> Under:
        made.append(Under(*servers, **options))
        return made[-1]

    yield make
    for each in made:
        each.driver.close(2)
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("nats-")], "no thread is left")


def narrow(under: Under, link: Link) -> None:
    """Make the socket's buffers small, so that it soon takes no more."""
    client = under.driver._client
    assert client is not None
    client._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def bodies(*links: Link) -> list[bytes]:
    return [data for link in links for _, data in link.messages]


# -- connecting


def test_connect_says_who_we_are(server: FakeNats, start: Start) -> None:
    under = start(server.url.replace("//", "//me:p%40ss@"))
    link = under.connect(server)
    options = link.options
    assert (options["user"], options["pass"]) == ("me", "p@ss")
    assert (options["protocol"], options["headers"], options["no_responders"]) == (1, True, True)
    assert options["verbose"] is False and options["name"].startswith("event-agent/")
    assert under.driver.is_connected and under.driver.max_payload == 1000
    assert under.driver.stats()["server"] == "FAKE"


def test_a_token(server: FakeNats, start: Start) -> None:
    link = start(server.url, credentials=Credentials(token="t0ken")).connect(server)
    assert link.options["auth_token"] == "t0ken"


def test_a_refusal_is_told_and_tried_again(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    under = start(server.url.replace("//", "//me:secret@"))
    under.driver.connect()
    for _ in range(3):
        link = server.accept(pongs=False)
        until(lambda link=link: b"PING" in link.lines, "its first words")  # type: ignore[misc]
        link.send(b"-ERR 'Authorization Violation'\r\n")
        link.close()
    assert not under.driver.is_connected and not under.ups
    server.accept()
    until(lambda: under.ups, "up at last")
    assert caplog.text.count("Authorization Violation") == 1, "the same is not told again and again"
    assert "secret" not in caplog.text


def test_what_a_server_said_before_it_closed_is_heard(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes at once; that we can't write to it any more is not what there is to say."""
    under = start(server.url)
    under.driver.connect()
    for _ in range(20):
        link = server.accept(greet=False)
        link.send(b"INFO {}\r\n-ERR 'maximum connections exceeded'\r\n")
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)
        link.close()
    server.accept()
    until(lambda: under.ups, "the next try")
    assert caplog.text.count("maximum connections exceeded") == 1
    assert not re.search("pipe|reset|closed", caplog.text)


def test_what_comes_with_the_last_word_of_the_handshake_is_heard(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.connect()
    link = server.accept(pongs=False)
    until(lambda: b"PING" in link.lines, "its first words")
    link.send(b'PONG\r\nINFO {"max_payload":77}\r\nPING\r\n')
    until(lambda: under.ups and b"PONG" in link.lines, "up, and the PING was answered")
    assert under.driver.max_payload == 77


@pytest.mark.parametrize("hello", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n", b"INFO []\r\n", b"",
                                   b"INFO " + b"[" * 100000 + b"\r\n"])
def test_who_is_no_nats_server(server: FakeNats, start: Start, hello: bytes) -> None:
    under = start(server.url)
    under.driver.connect()
    link = server.accept(greet=False)
    link.send(hello)
    link.close()
    server.accept()
    until(lambda: under.ups == 1, "the next try")


def test_a_server_that_refuses_right_behind_its_greeting_is_understood(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    under.driver.connect()
    link = server.accept(greet=False)
    link.send(b"INFO {}\r\n-ERR 'maximum connections exceeded'\r\n")
    link.close()
    server.accept()
    until(lambda: under.ups == 1, "the next try")
    assert "maximum connections exceeded; trying on" in caplog.text


def test_it_gives_up_where_it_is_told_to(server: FakeNats, start: Start) -> None:
    server.close()
    under = start(server.url, max_reconnect=2)
    under.driver.connect()
    until(lambda: under.gave_up, "given up")
    assert "max_reconnect" in under.gave_up[0] and len(under.gave_up) == 1
    under.driver.publish("a", b"x")  # kept, and no fault


def test_several_servers(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    away = FakeNats()
    away.close()
    under = start(away.url, server.url)
    under.connect(server)
    assert "NATS configured with 2 servers (cluster failover)" in caplog.text


# -- messages


def test_messages_come_with_reply_and_headers(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a.b", under.got.append)
    under.driver.subscribe("c", under.got.append, "group")
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    assert link.subscriptions[1].split()[:3] == [b"SUB", b"c", b"group"]
    link.deliver("a.b", b"one", "inbox.1")
    link.deliver("c", b"two\r\n", "", b"NATS/1.0\r\nA: b\r\n\r\n")
    until(lambda: len(under.got) == 2, "both")
    assert under.got == [Message("a.b", b"inbox.1", b"one"), Message("c", b"", b"two\r\n", b"NATS/1.0\r\nA: b\r\n\r\n")]
    link.send(b"MSG nobody 999 3\r\nxyz\r\n")
    link.deliver("a.b", b"three")
    until(lambda: len(under.got) == 3, "a subscription that is not ours is no fault")


def test_a_pause_inside_a_payload_is_no_end(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.got.append)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    sid = link.subscriptions[0].split()[-1]
    data = b"MSG a " + sid + b"  inbox   10\r\n0123456789\r\n"
    before = under.batches
    for at in range(len(data)):
        link.send(data[at : at + 1])
        if at in (3, 12, 20, len(data) - 2):
            expected = under.batches
            until(lambda expected=expected: under.batches > expected or under.batches > before, "read")  # type: ignore[misc]
            assert not under.got
    until(lambda: under.got, "whole")
    assert under.got == [Message("a", b"inbox", b"0123456789")] and not under.downs


def test_info_and_errors_in_mid_stream(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.got.append)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.send(b'INFO {"max_payload":5000,"connect_urls":["127.0.0.1:1","127.0.0.1:2"]}\r\nPING\r\n+OK\r\n')
    link.send(b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
    link.deliver("a", b"after")
    until(lambda: under.got, "after all that")
    assert under.driver.max_payload == 5000 and len(under.driver._servers) == 3
    assert under.driver.stats()["server"] == "FAKE", "an INFO adds to the first"
    assert "Permissions Violation" in caplog.text and not under.downs
    until(lambda: b"PONG" in link.lines, "its PING was answered")


def test_subscriptions_end(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    number = under.driver.subscribe("a", under.got.append)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    under.driver.unsubscribe(number)
    until(lambda: [line for line in link.lines if line.startswith(b"UNSUB ")], "unsubscribed")
    link.deliver("a", b"late")
    under.driver.subscribe("b", under.got.append)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    link.deliver("b", b"x")
    until(lambda: under.got, "the other")
    assert [message.subject for message in under.got] == ["b"]
    under.driver.unsubscribe(number)  # once more is no fault
    under.driver.unsubscribe(12345)


def test_a_limit_to_subscriptions(start: Start) -> None:
    under = start("nats://127.0.0.1:1")
    for number in range(MAX_SUBSCRIPTIONS):
        under.driver.subscribe(f"s{number}", under.got.append)
    with pytest.raises(AgentError, match="subscriptions"):
        under.driver.subscribe("one.more", under.got.append)


def test_a_subscription_made_while_it_connects_is_not_forgotten(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moment in which the subscriptions are sent and that in which the link counts as up."""
    under = start(server.url)
    first = under.driver.subscribe("first", under.got.append)
    plain = NatsDriver._subscribe_on
    meanwhile: list[int] = []

    def subscribe_on(self: NatsDriver, client: Any, sub: Any) -> None:
        plain(self, client, sub)
        if not meanwhile:
            meanwhile.append(self.subscribe("meanwhile", under.got.append))
            self.unsubscribe(first)

    monkeypatch.setattr(NatsDriver, "_subscribe_on", subscribe_on)
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 2, "both were subscribed")
    sid = link.subscriptions[0].split()[-1]
    until(lambda: b"UNSUB " + sid in link.lines, "and the first was taken back")
    link.deliver("meanwhile", b"x")
    until(lambda: under.got, "it is heard")


def test_replies(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    under.driver.reply(Message("a", b"inbox.1", b""), b"plain", "an error")
    under.driver.reply(Message("a", b"inbox.2", b"", b"NATS/1.0\r\n\r\n"), b"marked", "an\r\nerror")
    under.driver.reply(Message("a", b"inbox.3", b"", b"NATS/1.0\r\n\r\n"), b"fine")
    until(lambda: len(link.messages) == 3, "three replies")
    assert b"PUB inbox.1 5\r\nplain\r\n" in link.raw and b"PUB inbox.3 4\r\nfine\r\n" in link.raw
    assert b"Nats-Service-Error: an error\r\nNats-Service-Error-Code: 500\r\n\r\nmarked\r\n" in link.raw


def test_the_mark_of_an_error_never_makes_a_reply_too_large(server: FakeNats, start: Start) -> None:
    """Headers count towards max_payload, and a message over that would cut the link."""
    under = start(server.url)
    link = under.connect(server)
    request = Message("a", b"inbox", b"", b"NATS/1.0\r\n\r\n")
    for size in (100, 380, 420, 500, 999, 1000):
        for error in ("short", "é" * 2000, "\ud800\r\n\x00" * 300):
            under.driver.reply(request, b"x" * size, error)
    until(lambda: len(link.messages) == 18, "all")
    assert max(len(data) for data in bodies(link)) <= 1000
    assert len([data for data in bodies(link) if data.startswith(b"NATS/1.0")]) == 6, "marked where there is room"


# -- sending


def test_a_batch_leaves_in_one_write(server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    under = start(server.url)
    link = under.connect(server)
    writes: list[bytes] = []
    client = under.driver._client
    assert client is not None
    plain = client.send_now

    def send_now(data: bytes) -> int:
        writes.append(data)
        return plain(data)

    monkeypatch.setattr(client, "send_now", send_now)
    with under.driver.batch():
        for number in range(50):
            under.driver.publish("a", b"%d" % number)
        assert not [data for data in writes if b"PUB" in data]
    until(lambda: len(link.messages) == 50, "all")
    assert len([data for data in writes if b"PUB" in data]) == 1
    assert bodies(link) == [b"%d" % number for number in range(50)]


def test_a_slow_server_gets_whole_messages_in_order_and_our_lines_between_them(
    server: FakeNats, start: Start
) -> None:
    """The socket takes parts of messages; PONG, SUB and UNSUB must fall between messages, in their own order."""
    under = start(server.url)
    link = under.connect(server)
    link.reading.clear()
    narrow(under, link)
    sent = [b"%d " % number + b"x" * 900 for number in range(6000)]
    numbers = []
    for at, data in enumerate(sent):
        assert under.driver.publish("a", data)
        if at % 1000 == 500:
            link.send(b"PING\r\n")
            numbers.append(under.driver.subscribe(f"sub.{at}", under.got.append))
    until(lambda: under.driver._sender._blocked, "the socket takes no more")
    threads = [threading.Thread(target=under.driver.unsubscribe, args=(number,)) for number in numbers[-2:]]
    for thread in threads:
        thread.start()
    link.reading.set()
    until(lambda: len(link.messages) == len(sent), "all messages", 20)
    for thread in threads:
        thread.join(LIMIT)
    assert bodies(link) == sent and not link.faults
    assert link.lines.count(b"PONG") == 6
    until(lambda: sum(line.startswith(b"UNSUB") for line in link.lines) == 2, "both ended")
    for line in [line for line in link.lines if line.startswith(b"UNSUB")]:
        sid = line.split()[-1]
        (sub,) = [each for each in link.subscriptions if each.split()[-1] == sid]
        assert link.lines.index(sub) < link.lines.index(line), "ended before it began: it would go on for ever"
    until(lambda: under.driver.stats()["buffered_bytes"] == 0, "nothing is left")


def test_what_does_not_fit_is_counted_and_said_once(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url, buffer=1000)
    results = [under.driver.publish("a", b"%03d" % number + b"x" * 97) for number in range(20)]
    kept = results.index(False)
    assert results == [True] * kept + [False] * (20 - kept) and 5 < kept < 10
    assert under.driver.stats()["messages_dropped"] == 20 - kept
    assert under.driver.stats()["buffered_bytes"] <= 1000
    assert caplog.text.count("messages are dropped") == 1
    link = under.connect(server)
    until(lambda: len(link.messages) == kept, "what was kept")
    assert [data[:3] for data in bodies(link)] == [b"%03d" % number for number in range(kept)]
    assert under.driver.publish("a", b"again"), "there is room again"


def test_the_bound_is_for_what_has_to_wait(server: FakeNats, start: Start) -> None:
    """A message larger than the buffer, and a batch that is, leave at once while the link is up."""
    under = start(server.url, buffer=1024)
    link = under.connect(server)
    assert under.driver.publish("a", b"x" * 5000)
    with under.driver.batch():
        assert all(under.driver.publish("a", b"y" * 300) for _ in range(100))
    until(lambda: len(link.messages) == 101, "all of them")
    assert under.driver.stats()["messages_dropped"] == 0
    link.close()
    until(lambda: under.downs, "noticed")
    assert not under.driver.publish("a", b"x" * 5000) and under.driver.publish("a", b"z" * 500)
    assert under.driver.stats()["messages_dropped"] == 1 and under.driver.stats()["buffered_bytes"] < 1024


def test_order_is_kept_over_a_reconnect(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.got.append)
    under.driver.subscribe("b", under.got.append, "group")
    for number in range(10):
        under.driver.publish("x", b"%d" % number)
    first = under.connect(server)
    until(lambda: len(first.messages) == 10, "the first ten")
    first.close()
    until(lambda: under.downs, "noticed")
    assert not under.driver.is_connected
    for number in range(10, 30):
        assert under.driver.publish("x", b"%d" % number)
    second = server.accept()
    until(lambda: len(second.messages) == 20, "the rest")
    assert bodies(first, second) == [b"%d" % number for number in range(30)]
    assert [line.split()[1:-1] for line in second.subscriptions] == [[b"a"], [b"b", b"group"]]
    last = max(second.raw.index(line) for line in second.subscriptions)
    assert last < second.raw.index(b"PUB "), "first the subscriptions, then what waited"
    second.deliver("a", b"hello")
    until(lambda: under.got, "heard again")
    assert under.driver.stats()["reconnects"] == 1 and under.ups == 2


def test_a_message_of_which_half_was_sent_goes_out_whole_again(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    first = under.connect(server)
    first.reading.clear()
    narrow(under, first)
    sent = [b"%d " % number + b"y" * 990 for number in range(6000)]
    for data in sent:
        under.driver.publish("a", data)
    until(lambda: under.driver._sender._blocked, "the socket takes no more")
    first.sock.shutdown(socket.SHUT_RDWR)
    second = server.accept()
    until(lambda: second.messages and second.messages[-1][1] == sent[-1], "the last message", 20)
    first.close()
    found = bodies(first, second)
    positions = [sent.index(data) for data in bodies(second)]
    assert positions == list(range(positions[0], len(sent))), "none twice, none left out, none in pieces"
    assert found == sorted(found, key=sent.index)
    assert not second.faults
    assert under.driver.stats()["messages_unconfirmed"] >= positions[0] - len(first.messages)


def test_lines_of_a_link_that_is_gone_do_not_go_to_the_next(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    number = under.driver.subscribe("a", under.got.append)
    first = under.connect(server)
    old = under.driver._client
    assert old is not None
    first.close()
    second = server.accept()
    until(lambda: under.ups == 2, "back")
    sub = under.driver._subs[number]
    for late in (old.ping, lambda: old._send(b"UNSUB", sub.wire.sid), lambda: old.subscribe("z", callback=print)):
        with pytest.raises(AgentError):
            late()
    under.driver.publish("x", b"marker")
    until(lambda: second.messages, "the marker")
    assert not [line for line in second.lines if line.startswith((b"UNSUB", b"SUB z"))]


def test_a_subject_that_would_cut_the_link_is_never_sent(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    link = under.connect(server)
    driver = under.driver
    assert not driver.publish("a." * 3000 + "b", b"x")
    assert not driver.publish("é" * 2047, b"x" * 100)  # 4094 bytes, a blank and three digits
    assert driver.publish("é" * 2046, b"x" * 100)
    for reply, sent in ((b"\xff" * 4097, False), (b"\xff" * 4091, True), (b"a\r", False), (b"\xe9", True)):
        assert driver.reply(Message("a", reply, b""), b"y" * 1000) is sent
    assert not driver.reply(Message("a", b"\xff" * 4091, b"", b"NATS/1.0\r\n\r\n"), b"y", "an error")  # as an HPUB
    until(lambda: len(link.messages) == 3, "the others")
    assert b"PUB " + b"\xff" * 4091 + b" 1000\r\n" in link.raw and b"PUB \xe9 1000\r\n" in link.raw
    assert driver.stats()["messages_dropped"] == 5 and not under.downs
    lines = [record.getMessage() for record in caplog.records if "their subject" in record.getMessage()]
    assert len(lines) == 1 and "the last one has 6001 bytes" in lines[0]


def test_a_server_that_takes_shorter_lines_is_learned_from(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Its max_control_line may be below the usual one, and nothing but its complaint says so."""
    under = start(server.url)
    link = under.connect(server)
    for size, most in ((3000, 1501), (1400, 701)):
        assert under.driver.publish("a" * size, b"")
        until(partial(lambda link: link.messages, link), "it came")
        link.send(b"-ERR 'Maximum Control Line Exceeded'\r\n")
        until(partial(lambda most: under.driver._most_line == most, most), "learned")
        link.close()
        link = server.accept()
    until(lambda: under.ups == 3, "up")
    assert not under.driver.publish("a" * 1000, b"") and under.driver.publish("a" * 500, b"")
    until(lambda: len(link.messages) == 1, "what fits")
    assert "no message is sent whose line has more than 701 bytes" in caplog.text


def test_a_connect_that_is_too_long_is_explained(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent all the same: the server may be set up for it."""
    under = start(server.url, credentials=Credentials(token="t" * 5000))
    under.driver.connect()
    link = server.accept(pongs=False)
    until(lambda: link.lines, "CONNECT")
    link.send(b"-ERR 'maximum control line exceeded'\r\n")
    until(lambda: "raise max_control_line there" in caplog.text, "explained")
    assert re.search(r"CONNECT has 5\d\d\d bytes", caplog.text) and "tttt" not in caplog.text


def test_what_can_not_be_subscribed_to_is_refused_at_once(start: Start, server: FakeNats) -> None:
    with pytest.raises(AgentError, match="can't be subscribed to"):
        start(server.url).driver.subscribe("a" * 4000, print, "q" * 100)


def test_another_server_that_takes_less(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What waits for it was measured by the last server's limit, and would cut the link."""
    under = start(server.url)
    first = under.connect(server)
    first.close()
    until(lambda: under.downs, "noticed")
    for size in (900, 90, 600, 80):
        assert under.driver.publish("a", b"x" * size)
    server.info["max_payload"] = 500
    second = server.accept()
    until(lambda: len(second.messages) == 2, "those that fit")
    assert [len(data) for data in bodies(second)] == [90, 80]
    assert under.driver.stats()["messages_dropped"] == 2 and under.driver.max_payload == 500
    until(lambda: "2 messages are larger" in caplog.text, "told")


def test_refusals_are_told_once_each_and_not_any_number_of_them(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    link = under.connect(server)
    for number in range(50):
        subject = f"s{number % 25}"
        link.send(f"-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n".encode())
    until(lambda: under.driver.stats()["messages_refused"] == 50, "all are counted")
    lines = [record.getMessage() for record in caplog.records if "Permissions Violation" in record.getMessage()]
    assert len(lines) == len(set(lines)) == module.TOLD and '"s0"' in lines[0]
    assert caplog.text.count("further complaints") == 1 and not under.downs


# -- a link that dies


def test_a_server_that_says_why_it_closes(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    link.send(b"-ERR 'Stale Connection'\r\n")
    link.close()
    until(lambda: under.downs, "noticed")
    assert under.downs == ["Stale Connection"]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_complaint_does_not_explain_an_end_long_after(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_client, "BLAME", 0.0)
    under = start(server.url)
    link = under.connect(server)
    link.send(b"-ERR 'Invalid Subject'\r\n")
    link.close()
    until(lambda: under.downs, "noticed")
    assert under.downs == ["the server closed the connection"]


def test_a_server_to_which_we_are_too_slow(server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It just closes. What waits to be read by then tells why, and so does the time in which nothing was read."""
    under = start(server.url)
    held = threading.Event()
    under.driver.subscribe("a", lambda message: _hold(held))
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.deliver("a", b"x")
    link.deliver("a", b"y" * 200000)
    link.sock.shutdown(socket.SHUT_WR)
    held.set()
    until(lambda: under.downs, "noticed")
    assert re.search(r"when \d+ kB waited to be read by us \(too slow for it\)", under.downs[0])
    monkeypatch.setattr(nats_pace, "SLOW_CONSUMER", 0.02)
    under.driver.subscribe("b", lambda message: time.sleep(0.05))
    link = server.accept()
    until(lambda: len(link.subscriptions) == 2, "again")
    link.deliver("b", b"x")
    link.sock.shutdown(socket.SHUT_WR)
    until(lambda: len(under.downs) == 2, "noticed")
    assert re.search(r"after 0\.\d s in which we read nothing", under.downs[1])


def test_a_server_that_takes_us_and_drops_us_is_not_knocked_at_without_a_pause(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    plain = NatsDriver._pause

    def pause(self: NatsDriver, seconds: float) -> None:
        waits.append(seconds)
        plain(self, seconds)

    monkeypatch.setattr(NatsDriver, "_pause", pause)
    under = start(server.url)
    under.connect(server).close()
    for ups in range(2, 6):
        link = server.accept()
        until(lambda ups=ups: under.ups == ups, "up again")  # type: ignore[misc]
        link.close()
    until(lambda: len(waits) == 5, "five pauses")
    assert all(later > earlier * 1.1 for earlier, later in zip(waits[:3], waits[1:3], strict=False)), waits


def test_faults_of_several_servers_are_told_once_each(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Two servers with two faults, in turn: neither is news because it follows the other."""
    away = FakeNats()
    away.close()
    under = start(away.url, server.url)
    under.driver.connect()
    for _ in range(4):
        link = server.accept(pongs=False)
        until(lambda link=link: b"PING" in link.lines, "its first words")  # type: ignore[misc]
        link.send(b"-ERR 'Authorization Violation'\r\n")
        link.close()
    assert caplog.text.count("Connection refused") == caplog.text.count("Authorization Violation") == 1


def test_a_server_that_trickles_its_greeting_is_left(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_client, "CONNECT_LIMIT", 0.1)
    under = start(server.url)
    under.driver.connect()
    link = server.accept(greet=False)
    until(lambda: _trickled(link), "it hangs up")
    server.accept()
    until(lambda: under.ups, "the next try")


def _hold(held: threading.Event) -> None:
    assert held.wait(LIMIT)


def _trickled(link: Link) -> bool:
    try:
        link.send(b"I")
    except OSError:
        return True
    return False


def test_garbage_ends_the_link(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    link.send(b"MSG a 1 x\r\n")
    until(lambda: under.downs, "noticed")
    assert "bad length" in under.downs[0]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_server_that_answers_no_ping(server: FakeNats, start: Start) -> None:
    under = start(server.url, ping_interval=0.03)
    link = under.connect(server)
    until(lambda: link.lines.count(b"PING") > 4, "it lives")
    assert not under.downs
    link.pongs = False
    until(lambda: under.downs, "noticed")
    assert "PINGs" in under.downs[0]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_lame_duck_is_left_for_another(server: FakeNats, start: Start) -> None:
    other = FakeNats()
    try:
        under = start(server.url, other.url)
        link = under.connect(server)
        link.send(b'INFO {"ldm":true}\r\n')
        other.accept()
        until(lambda: under.ups == 2, "moved")
        assert under.downs == ["lame duck"]
    finally:
        under.driver.close(2)
        other.close()


def test_flush_waits_for_the_answer_to_its_own_ping(server: FakeNats, start: Start) -> None:
    """Not for that to an earlier one, which says nothing of what was sent meanwhile."""
    under = start(server.url)
    link = under.connect(server)
    client = under.driver._client
    assert client is not None
    link.pongs = False
    client.ping()
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(client.flush(LIMIT)))
    before = link.lines.count(b"PING")
    thread.start()
    until(lambda: link.lines.count(b"PING") > before, "both PINGs are there")
    pings = link.lines.count(b"PING")
    under.driver.subscribe("marker", under.got.append)
    until(lambda: link.subscriptions, "subscribed")
    link.send(b"PONG\r\n")
    link.deliver("marker", b"x")
    until(lambda: under.got, "what came after the first PONG was handed on")
    assert not done
    link.send(b"PONG\r\n" * pings)
    thread.join(LIMIT)
    assert done == [True]


def test_close_sends_what_waits(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    for number in range(2000):
        under.driver.publish("a", b"%d" % number)
    started = time.monotonic()
    under.driver.close(5)
    assert time.monotonic() - started < 4
    until(lambda: link.ended.is_set(), "closed")
    assert bodies(link) == [b"%d" % number for number in range(2000)] and not under.downs


def test_close_does_not_wait_for_a_server_that_is_away(server: FakeNats, start: Start) -> None:
    server.close()
    under = start(server.url)
    under.driver.connect()
    under.driver.publish("a", b"x")
    started = time.monotonic()
    under.driver.close(5)
    assert time.monotonic() - started < 2
    never = start(server.url)
    never.driver.close(1)


def test_what_is_shown_of_the_link(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    assert json.loads(json.dumps(under.driver.stats()))["server"] == ""
    link = under.connect(server)
    under.driver.publish("a", b"x")
    until(lambda: link.messages, "sent")
    stats = under.driver.stats()
    assert stats["messages_sent"] == 1 and stats["messages_dropped"] == stats["reconnects"] == 0
    assert re.fullmatch(r"event-agent/\S+ pid=\d+", link.options["name"])
    assert module.MAX_PAYLOAD == 1048576
