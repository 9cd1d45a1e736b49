"""What comes from the server, and what is answered."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Message
from event_agent.drivers.nats import subscriptions
from event_agent.errors import AgentError
from tests.fakes.nats import LIMIT, Driven, FakeNats, Link, bodies
from tests.support import until
from tests.unit.nats.conftest import Start


def test_messages_come_with_reply_and_headers(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a.b", under.take)
    under.driver.subscribe("c", under.take, "group")
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    assert link.subscriptions[1].split()[:3] == [b"SUB", b"c", b"group"]
    link.deliver("a.b", b"one", "inbox.1")
    link.deliver("c", b"two\r\n", "", b"NATS/1.0\r\nA: b\r\n\r\n")
    until(lambda: len(under.got) == 2, "both")
    assert under.got[0] == Message(b"a.b", b"inbox.1", b"one")
    assert under.got[1] == Message(b"c", b"", b"two\r\n", b"NATS/1.0\r\nA: b\r\n\r\n")
    link.send(b"MSG nobody 999 3\r\nxyz\r\n")
    link.deliver("a.b", b"three")
    until(lambda: len(under.got) == 3, "a subscription that is not ours is no fault")


def test_a_pause_inside_a_payload_is_no_end(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    sid = link.subscriptions[0].split()[-1]
    data = b"MSG a " + sid + b"  inbox   10\r\n0123456789\r\n"
    for at in range(len(data)):
        link.send(data[at : at + 1])
        if at in (3, 12, 20, len(data) - 2):
            under.rounds()
            assert not under.got
    until(lambda: under.got, "whole")
    assert under.got == [Message(b"a", b"inbox", b"0123456789")] and not under.downs


def test_info_and_errors_in_mid_stream(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.send(b'INFO {"max_payload":5000,"connect_urls":["127.0.0.1:1","127.0.0.1:2"]}\r\nPING\r\n+OK\r\n')
    link.send(b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
    link.deliver("a", b"after")
    until(lambda: under.got, "after all that")
    assert under.driver.max_payload == 5000 and len(under.driver.servers) == 3
    assert under.driver.stats()["server"] == "FAKE", "an INFO adds to the first"
    assert "Permissions Violation" in caplog.text and not under.downs
    until(lambda: b"PONG" in link.lines, "its PING was answered")


def test_subscriptions_end(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    number = under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    under.driver.unsubscribe(number)
    until(lambda: [line for line in link.lines if line.startswith(b"UNSUB ")], "unsubscribed")
    link.deliver("a", b"late")
    under.driver.subscribe("b", under.take)
    until(lambda: len(link.subscriptions) == 2, "subscribed")
    link.deliver("b", b"x")
    until(lambda: under.got, "the other")
    assert [message.subject for message in under.got] == [b"b"]
    under.driver.unsubscribe(number)  # once more is no fault
    under.driver.unsubscribe(12345)


def test_a_limit_to_subscriptions(start: Start) -> None:
    under = start("nats://127.0.0.1:1")
    for number in range(MAX_SUBSCRIPTIONS):
        under.driver.subscribe(f"s{number}", under.take)
    with pytest.raises(AgentError, match="subscriptions"):
        under.driver.subscribe("one.more", under.take)


def test_a_subscription_made_while_it_connects_is_not_forgotten(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moment in which the subscriptions are sent and that in which the link counts as up."""
    under = start(server.url)
    first = under.driver.subscribe("first", under.take)
    plain = subscriptions.subscribe_on
    meanwhile: list[int] = []

    def subscribe_on(client: Any, sub: Any) -> None:
        plain(client, sub)
        if not meanwhile:
            meanwhile.append(under.driver.subscribe("meanwhile", under.take))
            under.driver.unsubscribe(first)

    monkeypatch.setattr(subscriptions, "subscribe_on", subscribe_on)
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 2, "both were subscribed")
    sid = link.subscriptions[0].split()[-1]
    until(lambda: b"UNSUB " + sid in link.lines, "and the first was taken back")
    link.deliver("meanwhile", b"x")
    until(lambda: under.got, "it is heard")


def test_the_messages_of_one_read_come_in_one_list_whichever_subscription_they_came_by(
    server: FakeNats, start: Start
) -> None:
    under = start(server.url)
    others: list[int] = []
    under.driver.subscribe("a", under.take)
    under.driver.subscribe("b", under.take)
    under.driver.subscribe("c", lambda messages: others.append(len(messages)))
    link = under.connect(server)
    until(lambda: len(link.subscriptions) == 3, "subscribed")
    a, b, c = (line.split()[-1].decode() for line in link.subscriptions)
    sent = [f"MSG x {sid} 1\r\n{at}\r\n" for at, sid in enumerate((a, b, a, c, c, b, a))]
    link.send("".join(sent).encode())
    until(lambda: len(under.got) == 5, "all")
    assert under.reads == [3, 2] and others == [2]
    assert [message.data for message in under.got] == [b"0", b"1", b"2", b"5", b"6"]


def test_what_came_before_a_pong_is_handed_on_before_it_counts(server: FakeNats, start: Start) -> None:
    """Or an `unsubscribe` would end before its last messages came, which are in the same read as its PONG."""
    under = start(server.url)
    number = under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    sid = link.subscriptions[0].split()[-1]
    link.pongs = False
    seen: list[int] = []

    def leave() -> None:
        under.driver.unsubscribe(number)
        seen.append(len(under.got))

    thread = threading.Thread(target=leave)
    thread.start()
    until(lambda: link.lines[-1] == b"PING" and b"UNSUB " + sid in link.lines, "it asks")
    link.send(b"MSG a %b 1\r\n1\r\nMSG a %b 1\r\n2\r\n%bMSG a %b 1\r\n3\r\n" % (sid, sid, b"PONG\r\n" * 3, sid))
    thread.join(LIMIT)
    assert seen == [2] or seen == [3]
    assert [message.data for message in under.got][:2] == [b"1", b"2"]


def test_replies(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    link = under.connect(server)
    asked = [Message(b"a", reply, b"", headers) for reply, headers in (
        (b"inbox.1", b""), (b"inbox.2", b"NATS/1.0\r\n\r\n"), (b"inbox.3", b"NATS/1.0\r\n\r\n"))]  # fmt: skip
    texts = ((b"plain", "an error"), (b"marked", "an\r\nerror"), (b"fine", ""))
    assert under.driver.send([(message, *text) for message, text in zip(asked, texts, strict=True)]) == 3
    until(lambda: len(link.messages) == 3, "three replies")
    assert b"PUB inbox.1 5\r\nplain\r\n" in link.raw and b"PUB inbox.3 4\r\nfine\r\n" in link.raw
    assert b"Nats-Service-Error: an error\r\nNats-Service-Error-Code: 500\r\n\r\nmarked\r\n" in link.raw


def test_the_mark_of_an_error_never_makes_a_reply_too_large(server: FakeNats, start: Start) -> None:
    """Headers count towards max_payload, and a message over that would cut the link."""
    under = start(server.url)
    link = under.connect(server)
    request = Message(b"a", b"inbox", b"", b"NATS/1.0\r\n\r\n")
    for size in (100, 380, 420, 500, 999, 1000):
        for error in ("short", "é" * 2000, "\ud800\r\n\x00" * 300):
            under.driver.send([(request, b"x" * size, error)])
    until(lambda: len(link.messages) == 18, "all")
    assert max(len(data) for data in bodies(link)) <= 1000
    assert len([data for data in bodies(link) if data.startswith(b"NATS/1.0")]) == 6, "marked if there is room"


# -- pauses


def paused(server: FakeNats, start: Start, **options: Any) -> tuple[Driven, Link]:
    """A driver that is connected, subscribed to `a`, and paused."""
    under = start(server.url, **options)
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    under.driver.pause()
    return under, link


def test_while_it_is_paused_nothing_is_read_and_the_link_lives(server: FakeNats, start: Start) -> None:
    under, link = paused(server, start, ping_interval=0.02, ping_timeout=0.5, pause=60.0)
    link.deliver("a", b"1")
    pings = link.lines.count(b"PING")
    until(lambda: link.lines.count(b"PING") > pings + 40, "it is asked for longer than a dead link")
    assert not under.got and not under.downs and under.driver.status.up
    assert under.publish("x", b"an event") == 1
    until(lambda: link.messages, "it still sends")
    under.driver.resume()
    until(lambda: under.got, "what waited")
    link.deliver("a", b"2")
    until(lambda: len(under.got) == 2, "read as before")
    link.pongs = False
    until(lambda: under.downs, "a server that does not answer is noticed as before")


def test_a_pause_ends_before_the_server_ends_the_link(server: FakeNats, start: Start) -> None:
    under, link = paused(server, start, pause=0.05)
    link.send(b"PING\r\n")
    link.deliver("a", b"1")
    until(lambda: under.got and b"PONG" in link.lines, "read all the same")
    under.driver.pause()  # there is still no room: it is read, so that the link lives
    link.deliver("a", b"2")
    until(lambda: len(under.got) == 2, "read")
    under.driver.resume()
    under.driver.pause()
    link.deliver("a", b"3")
    under.rounds()
    assert len(under.got) == 2, "there has been room, so it may be paused again"
    until(lambda: len(under.got) == 3, "until that pause ends")


def test_a_resume_in_time_leaves_nothing_of_the_pause(server: FakeNats, start: Start) -> None:
    under, link = paused(server, start, pause=0.1)
    for _ in range(3):
        under.driver.resume()
        under.driver.pause()
    under.driver.resume()
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.15, "longer than the pauses would have been")
    under.driver.pause()
    link.deliver("a", b"1")
    under.rounds()
    assert not under.got, "the limit of an earlier pause does not end this one"


def test_a_new_link_is_read(server: FakeNats, start: Start) -> None:
    under, link = paused(server, start, pause=0.05)
    link.close()
    until(lambda: under.downs, "its end is seen when the pause ends")
    second = server.accept()
    until(lambda: under.ups == 2 and second.subscriptions, "back")
    second.deliver("a", b"1")
    until(lambda: under.got, "read")


def test_a_driver_that_is_paused_stops(server: FakeNats, start: Start) -> None:
    under, link = paused(server, start, pause=60.0)
    under.publish("x", b"the last")
    began = time.monotonic()
    under.driver.stop(1.0)
    assert time.monotonic() - began < 10
    until(lambda: link.ended.is_set(), "closed")
    assert bodies(link) == [b"the last"] and not under.downs


def test_before_there_is_a_link_nothing_is_paused(server: FakeNats, start: Start) -> None:
    under = start(server.url, pause=60.0)
    under.driver.pause()
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    until(lambda: link.subscriptions, "subscribed")
    link.deliver("a", b"1")
    until(lambda: under.got, "read")
    under.driver.resume()
