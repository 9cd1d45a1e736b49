"""Links that end, and what is made of it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from event_agent.drivers.nats import connecting, events
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.timing import Timing
from tests.fakes.nats import LIMIT, FakeNats, Link, bodies
from tests.support import until
from tests.unit.nats.conftest import Start


def test_a_server_that_says_why_it_closes(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    link.send(b"-ERR 'Stale Connection'\r\n")
    link.close()
    until(lambda: under.downs, "noticed")
    assert under.downs == ["Stale Connection"]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_complaint_does_not_explain_an_end_long_after(server: FakeNats, start: Start) -> None:
    under = start(server.url, timing=Timing(blame=0.0))
    link = under.connect(server)
    link.send(b"-ERR 'Invalid Subject'\r\n")
    link.close()
    until(lambda: under.downs, "noticed")
    assert under.downs == ["the server closed the connection"]


def test_a_server_to_which_we_are_too_slow(server: FakeNats, start: Start) -> None:
    """It just closes. What waits to be read by then tells why."""
    under = start(server.url)
    hold = Hold()
    under.driver.subscribe("a", lambda messages: hold())
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.deliver("a", b"x")
    link.deliver("a", b"y" * 600000)
    link.sock.shutdown(socket.SHUT_WR)
    hold.end.set()
    until(lambda: under.downs, "noticed")
    assert re.search(r"when \d+ kB waited to be read by us \(too slow for it\)", under.downs[0])


def test_a_server_that_was_not_read_for_long(server: FakeNats, start: Start) -> None:
    """The time in which nothing was read tells why it closes."""
    under = start(server.url, timing=Timing(slow=0.02))
    under.driver.subscribe("b", lambda message: time.sleep(0.05))  # a slow reader
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.deliver("b", b"x")
    link.sock.shutdown(socket.SHUT_WR)
    until(lambda: under.downs, "noticed")
    assert re.search(r"after \d\.\d s in which we read nothing", under.downs[0])


def test_a_server_that_takes_us_and_drops_us_is_not_asked_without_a_pause(server: FakeNats, start: Start) -> None:
    under = start(server.url, reconnect_wait=0.05)
    under.connect(server).close()
    began = time.monotonic()
    for ups in range(2, 5):
        link = server.accept()
        until(lambda ups=ups: under.ups == ups, "up again")  # type: ignore[misc]
        link.close()
    assert time.monotonic() - began >= (0.05 + 0.1 + 0.2) * 0.75, "each wait is twice the one before"


def test_faults_of_several_servers_are_logged_once_each(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Two servers with two faults, in turn: neither is news because it follows the other."""
    away = FakeNats()
    away.close()
    under = start(away.url, server.url)
    under.driver.start()
    for _ in range(4):
        link = server.accept(pongs=False)
        until(lambda link=link: b"PING" in link.lines, "its first words")  # type: ignore[misc]
        link.send(b"-ERR 'Authorization Violation'\r\n")
        link.close()
    assert caplog.text.count("Connection refused") == caplog.text.count("refused us: no credentials are set") == 1


def test_a_server_that_trickles_its_greeting_is_left(server: FakeNats, start: Start) -> None:
    under = start(server.url, timing=Timing(connect=0.1))
    under.driver.start()
    link = server.accept(greet=False)
    until(lambda: _trickled(link), "it hangs up")
    server.accept()
    until(lambda: under.ups, "the next try")


class Hold:
    """Keeps the thread that calls it, until its end."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.end.wait(LIMIT)


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
    under = start(server.url, ping_interval=1.0, ping_timeout=2.0)
    link = under.connect(server)
    until(lambda: link.lines.count(b"PING") > 3, "it lives")
    assert not under.downs
    link.pongs = False
    until(lambda: under.downs, "noticed")
    assert under.downs == ["the server did not answer a PING within 2 s (ping_timeout)"]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_server_that_takes_what_is_sent_and_answers_nothing(server: FakeNats, start: Start) -> None:
    """While much is sent it is asked every second, however long ping_interval is: a link may be half open."""
    under = start(server.url, ping_interval=60.0, ping_timeout=2.0)
    link = under.connect(server)
    link.pongs = False
    under.publish("x", b"an event")
    until(lambda: under.downs, "noticed")
    assert "ping_timeout" in under.downs[0]
    server.accept()
    until(lambda: under.ups == 2, "back")


def test_a_driver_that_was_paused_itself_reads_before_it_judges(server: FakeNats, start: Start) -> None:
    """A machine that was suspended finds old PINGs, and their answers unread."""
    under = start(server.url, ping_interval=60.0, ping_timeout=2.0)
    link = under.connect(server)
    client = under.driver.client
    assert client is not None
    hold = Hold()
    under.loop.call(hold)
    assert hold.begun.wait(LIMIT)
    client.ping()
    until(lambda: client._stream.unread, "its answer waits")
    threading.Event().wait(3.0)  # longer than ping_timeout: nothing is to happen
    hold.end.set()
    link.send(b"PING\r\n")
    until(lambda: b"PONG" in link.lines, "it reads")
    assert not under.downs


REFUSAL = b"-ERR 'Permissions Violation for Subscription to \"a\"'\r\n"


def test_a_subscription_that_is_refused_is_tried_until_it_holds(server: FakeNats, start: Start) -> None:
    under = start(server.url, timing=Timing(round=1.0))
    under.driver.subscribe("a", under.take, "group")
    under.driver.subscribe("b", under.take)
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    assert under.driver.refused() == {} and under.driver.stats()["subscriptions_refused"] == {}

    def tries() -> int:
        return sum(line.startswith(b"SUB a group ") for line in link.lines)

    for number in (1, 2, 3):
        link.send(REFUSAL)
        until(lambda: under.driver.refused() == {"a": "Permissions Violation for Subscription to \"a\""}, "noticed")
        assert under.driver.stats()["subscriptions_refused"] == under.driver.refused()
        until(partial(lambda least: tries() > least, number), "tried again")
    until(lambda: under.driver.refused() == {}, "it holds")
    link.deliver("a", b"x")
    until(lambda: under.got, "and is heard")
    assert not under.downs and sum(line.startswith(b"SUB b ") for line in link.lines) == 1


def test_another_server_may_allow_what_one_has_refused(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.send(REFUSAL)
    until(lambda: under.driver.refused(), "refused")
    link.close()
    server.accept()
    until(lambda: under.ups == 2, "back")
    assert under.driver.refused() == {}


@pytest.fixture
def cluster(server: FakeNats) -> Iterator[tuple[FakeNats, FakeNats]]:
    """Two servers; the first one is that of `server`."""
    other = FakeNats()
    other.info["server_id"] = "OTHER"
    yield server, other
    other.close()


def test_a_lame_duck_is_left_for_another(cluster: tuple[FakeNats, FakeNats], start: Start) -> None:
    """The new link stands before the old one is left, and what comes by both of them is handed on once."""
    server, other = cluster
    under = start(server.url, other.url)
    under.driver.subscribe("a", under.take)
    under.driver.subscribe("q", under.take, "group")
    link = under.connect(server)
    link.send(b'INFO {"ldm":true}\r\n')
    after = other.accept()
    until(lambda: len(after.subscriptions) == 2, "subscribed there too")
    assert not link.ended.is_set()
    for number in range(50):  # by both links, as a cluster does it
        link.deliver("a", b"%d" % number, reply=f"r{number}")
        after.deliver("a", b"%d" % number, reply=f"r{number}")
    link.deliver("q", b"the last by the old link")
    until(lambda: len(under.got) >= 51, "all are handed on")
    until(link.ended.is_set, "the old link is left")
    assert [line for line in link.lines if line.startswith(b"UNSUB")] == [b"UNSUB 2"]
    numbers = [b"%d" % number for number in range(50)]
    assert sorted(each.data for each in under.got) == sorted([*numbers, b"the last by the old link"])
    under.publish("x", b"an event")
    until(lambda: bodies(after) == [b"an event"], "the new link is used")
    assert under.ups == 1 and not under.downs and under.driver.stats()["reconnects"] == 0


def test_what_comes_as_soon_as_the_new_link_has_a_subscription_is_handed_on_once(
    cluster: tuple[FakeNats, FakeNats], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = cluster
    sent: set[str] = set()
    plain = NatsClient.subscribe

    def subscribe(client: NatsClient, subject: str, **options: Any) -> Any:
        """The thread that reads is at once at what comes."""
        made = plain(client, subject, **options)
        if client is not first:
            until(lambda: subject in sent, "the server has sent it")
            under.rounds()
        return made

    under = start(old.url, new.url)
    many = under.driver.many(under.take)
    subjects = [f"one.{number}" for number in range(30)]
    for subject in subjects:
        under.driver.subscribe(subject, under.take)
    channels = [f"call.{number}" for number in range(30)]
    many.join(*channels)
    link = under.connect(old)
    until(lambda: len(link.subscriptions) == 60, "subscribed")
    first = under.driver.client
    monkeypatch.setattr(NatsClient, "subscribe", subscribe)

    def heard(after: Link, line: bytes) -> None:
        if line.startswith(b"SUB "):
            subject = line.split()[1].decode()
            link.deliver(subject, b"", reply=subject)
            after.deliver(subject, b"", reply=subject)
            sent.add(subject)

    link.send(b'INFO {"ldm":true}\r\n')
    after = new.accept(heard=heard)
    until(link.ended.is_set, "the old link is left")
    under.rounds()
    assert len(after.subscriptions) == 60
    assert sorted(each.reply.decode() for each in under.got) == sorted([*subjects, *channels])


def test_what_is_on_its_way_through_the_cluster_while_links_change_is_handed_on_once(
    cluster: tuple[FakeNats, FakeNats], start: Start
) -> None:
    """The new server has it later, and then the agent may have subscribed there."""
    old, new = cluster
    under = start(old.url, new.url, timing=Timing(crossing=0.5))
    under.driver.subscribe("one", under.take)
    many = under.driver.many(under.take)
    many.join("call.1")
    link = under.connect(old)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    after: list[Link] = []
    late = deque[bytes]()
    fed = 0
    link.send(b'INFO {"ldm":true}\r\n')
    accepting = threading.Thread(target=lambda: after.append(new.accept()), name="accepting")
    accepting.start()

    def feed() -> bool:
        """One more by the old server; the new one has it 20 messages later."""
        nonlocal fed
        late.append(b"%d" % fed)
        for subject in ("one", "call.1"):
            link.deliver(subject, late[-1], reply=f"{subject}.{fed}")
        if len(late) > 20:
            data = late.popleft()
            for subject in ("one", "call.1"):
                for each in after:
                    each.deliver(subject, data, reply=f"{subject}.{data.decode()}")
        fed += 1
        return bool(after) and len(after[0].subscriptions) == 2

    until(feed, "subscribed there too")
    for _ in range(40):
        feed()
    accepting.join(LIMIT)
    until(lambda: len(under.got) >= 2 * fed, "all")
    until(link.ended.is_set, "the old link is left")
    under.rounds()
    assert sorted(each.reply for each in under.got) == sorted(
        f"{subject}.{number}".encode() for subject in ("one", "call.1") for number in range(fed)
    )


def test_what_is_subscribed_to_while_links_change_is_handed_on_once(
    cluster: tuple[FakeNats, FakeNats], start: Start
) -> None:
    old, new = cluster
    under = start(old.url, new.url)
    under.driver.subscribe("first", under.take)
    link = under.connect(old)
    until(lambda: link.subscriptions, "subscribed")

    def heard(after: Link, line: bytes) -> None:
        if line.startswith(b"SUB first"):
            under.driver.subscribe("meanwhile", under.take)
        elif line.startswith(b"SUB meanwhile"):
            link.deliver("meanwhile", b"", reply="r")
            after.deliver("meanwhile", b"", reply="r")

    link.send(b'INFO {"ldm":true}\r\n')
    after = new.accept(heard=heard)
    until(link.ended.is_set, "the old link is left")
    under.rounds()
    assert len(after.subscriptions) == 2 and [each.reply for each in under.got] == [b"r"]
    after.deliver("meanwhile", b"", reply="later")
    until(lambda: len(under.got) == 2, "it is there to stay")


def test_flush_waits_for_the_answer_to_its_own_ping(server: FakeNats, start: Start) -> None:
    """Not for that to an earlier one, which says nothing of what was sent meanwhile."""
    under = start(server.url)
    link = under.connect(server)
    client = under.driver.client
    assert client is not None
    link.pongs = False
    client.ping()
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(client.flush(LIMIT)))
    before = link.lines.count(b"PING")
    thread.start()
    until(lambda: link.lines.count(b"PING") > before, "both PINGs are there")
    pings = link.lines.count(b"PING")
    under.driver.subscribe("marker", under.take)
    until(lambda: link.subscriptions, "subscribed")
    link.send(b"PONG\r\n")
    link.deliver("marker", b"x")
    until(lambda: under.got, "what came after the first PONG was handed on")
    assert not done
    link.send(b"PONG\r\n" * pings)
    thread.join(LIMIT)
    assert done == [True]


def test_stop_sends_what_waits(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    for number in range(2000):
        under.publish("a", b"%d" % number)
    started = time.monotonic()
    under.driver.stop(60)
    assert time.monotonic() - started < 20
    until(lambda: link.ended.is_set(), "closed")
    assert bodies(link) == [b"%d" % number for number in range(2000)] and not under.downs


def test_stop_does_not_wait_for_a_server_that_is_away(server: FakeNats, start: Start) -> None:
    server.close()
    under = start(server.url)
    under.driver.start()
    under.publish("a", b"x")
    started = time.monotonic()
    under.driver.stop(60)
    assert time.monotonic() - started < 20
    never = start(server.url)
    never.driver.stop(1)


def test_what_is_shown_of_the_link(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    assert json.loads(json.dumps(under.driver.stats()))["server"] == ""
    link = under.connect(server)
    under.publish("a", b"x")
    until(lambda: link.messages, "sent")
    stats = under.driver.stats()
    assert stats["messages_sent"] == 1 and stats["messages_dropped"] == stats["reconnects"] == 0
    assert re.fullmatch(r"event-agent/\S+ pid=\d+", link.options["name"])
    assert events.MAX_PAYLOAD == 1048576


def test_refusals_are_logged_once_each_and_not_any_number_of_them(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    link = under.connect(server)
    for number in range(50):
        subject = f"s{number % 25}"
        link.send(f"-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n".encode())
    until(lambda: under.driver.stats()["messages_refused"] == 50, "all are counted")
    lines = [record.getMessage() for record in caplog.records if "Permissions Violation" in record.getMessage()]
    assert len(lines) == len(set(lines)) == connecting.TOLD and '"s0"' in lines[0]
    assert caplog.text.count("further complaints") == 1 and not under.downs


def test_what_was_read_and_is_not_dealt_with_yet_is_no_silence(server: FakeNats, start: Start) -> None:
    """The answer to a PING may stand behind a request that takes long: it is out of the socket, and not counted yet."""
    under = start(server.url, ping_interval=60.0, ping_timeout=1.0)
    link = under.connect(server)
    client = under.driver.client
    assert client is not None
    hold = Hold()
    under.driver.subscribe("a", lambda messages: hold())
    until(lambda: link.subscriptions, "subscribed")
    link.pongs = False
    client.ping()
    (sid,) = [line.split()[-1] for line in link.lines if line.startswith(b"SUB a ")]
    link.send(b"MSG a %b 1\r\nx\r\nPONG\r\n" % sid)
    assert hold.begun.wait(LIMIT)
    until(lambda: client.pings.late, "its time is over")
    threading.Event().wait(1.5)  # longer than between two looks: nothing is to happen
    assert not under.downs
    hold.end.set()
    until(lambda: not client.pings.late, "it is counted")
    link.send(b"PING\r\n")
    until(lambda: b"PONG" in link.lines, "it reads")
    assert not under.downs
