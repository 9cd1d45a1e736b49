"""What is sent: in order, whole, in one write what comes together, and within its bounds."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest

from event_agent.drivers.base import Message
from event_agent.errors import AgentError
from tests.fakes.nats import LIMIT, FakeNats, bodies, narrow
from tests.support import until
from tests.unit.nats.conftest import Start


def test_what_is_given_together_leaves_in_one_write(
    server: FakeNats, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    under = start(server.url)
    link = under.connect(server)
    writes: list[bytes] = []
    client = under.driver.client
    assert client is not None
    plain = client.send_now

    def send_now(data: bytes) -> int:
        writes.append(data)
        return plain(data)

    monkeypatch.setattr(client, "send_now", send_now)
    assert under.publish("a", *(b"%d" % number for number in range(50))) == 50
    request = Message(b"x", b"inbox", b"")
    assert under.driver.send([(request, b"r%d" % number, "") for number in range(30)]) == 30
    until(lambda: len(link.messages) == 80, "all")
    assert [data.count(b"PUB ") for data in writes if b"PUB" in data] == [50, 30]
    assert bodies(link) == [b"%d" % number for number in range(50)] + [b"r%d" % number for number in range(30)]


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
        assert under.publish("a", data)
        if at % 1000 == 500:
            link.send(b"PING\r\n")
            numbers.append(under.driver.subscribe(f"sub.{at}", under.take))
    until(lambda: under.driver.sender.blocked, "the socket takes no more")
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
        assert link.lines.index(sub) < link.lines.index(line), "ended before it began: it would never end"
    until(lambda: under.driver.stats()["buffered_bytes"] == 0, "nothing is left")


def test_what_does_not_fit_is_counted_and_said_once(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url, buffer=1000)
    results = [under.publish("a", b"%03d" % number + b"x" * 97) for number in range(20)]
    kept = results.index(0)
    assert results == [1] * kept + [0] * (20 - kept) and 5 < kept < 10
    assert under.publish("a", *[b"y" * 100] * 3) == 0
    assert under.driver.stats()["messages_dropped"] == 23 - kept
    assert under.driver.stats()["buffered_bytes"] <= 1000
    assert caplog.text.count("messages are dropped") == 1
    link = under.connect(server)
    until(lambda: len(link.messages) == kept, "what was kept")
    assert [data[:3] for data in bodies(link)] == [b"%03d" % number for number in range(kept)]
    assert under.publish("a", b"again"), "there is room again"


def test_the_bound_is_for_what_has_to_wait(server: FakeNats, start: Start) -> None:
    """A message larger than the buffer, and a list that is, leave at once while the link is up, in their order."""
    under = start(server.url, buffer=1024)
    link = under.connect(server)
    assert under.publish("a", b"0" * 300, b"x" * 5000, b"1" * 300) == 3
    assert under.publish("a", *[b"y" * 300] * 100) == 100
    until(lambda: len(link.messages) == 103, "all of them")
    assert [data[:1] for data in bodies(link)][:3] == [b"0", b"x", b"1"]
    assert under.driver.stats()["messages_dropped"] == 0
    link.close()
    until(lambda: under.downs, "noticed")
    assert not under.publish("a", b"x" * 5000) and under.publish("a", b"z" * 500)
    assert under.driver.stats()["messages_dropped"] == 1 and under.driver.stats()["buffered_bytes"] < 1024


def test_a_buffer_full_of_events_has_room_for_replies_and_they_go_first(server: FakeNats, start: Start) -> None:
    under = start(server.url, buffer=10_000)
    while under.publish("a", b"x" * 400):
        pass
    request = Message(b"lane", b"inbox", b"")
    assert under.driver.send([(request, b"reply %d" % number, "") for number in range(40)]) == 40
    link = under.connect(server)
    until(lambda: len(link.messages) > 60, "replies and events")
    assert [subject for subject, _ in link.messages][:41] == ["inbox"] * 40 + ["a"]


def test_order_is_kept_over_a_reconnect(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.subscribe("a", under.take)
    under.driver.subscribe("b", under.take, "group")
    for number in range(10):
        under.publish("x", b"%d" % number)
    first = under.connect(server)
    until(lambda: len(first.messages) == 10, "the first ten")
    first.close()
    until(lambda: under.downs, "noticed")
    assert not under.driver.status.up
    for number in range(10, 30):
        assert under.publish("x", b"%d" % number)
    second = server.accept()
    until(lambda: len(second.messages) == 20, "the rest")
    assert bodies(first, second) == [b"%d" % number for number in range(30)]
    assert [line.split()[1:-1] for line in second.subscriptions] == [[b"a"], [b"b", b"group"]]
    last = max(second.raw.index(line) for line in second.subscriptions)
    assert last < second.raw.index(b"PUB "), "first the subscriptions, then what waited"
    second.deliver("a", b"hello")
    until(lambda: under.got and under.ups == 2, "heard again, and up")  # up is said after all else
    assert under.driver.stats()["reconnects"] == 1


def test_a_message_of_which_half_was_sent_goes_out_whole_again(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    first = under.connect(server)
    first.reading.clear()
    narrow(under, first)
    sent = [b"%d " % number + b"y" * 990 for number in range(6000)]
    for data in sent:
        under.publish("a", data)
    until(lambda: under.driver.sender.blocked, "the socket takes no more")
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
    number = under.driver.subscribe("a", under.take)
    first = under.connect(server)
    old = under.driver.client
    assert old is not None
    first.close()
    second = server.accept()
    until(lambda: under.ups == 2, "back")
    sub = under.driver.subscriptions.get(number)
    for late in (old.ping, lambda: old.unsubscribe(sub.wire), lambda: old.subscribe("z", callback=print)):
        with pytest.raises(AgentError):
            late()
    under.publish("x", b"marker")
    until(lambda: second.messages, "the marker")
    assert not [line for line in second.lines if line.startswith((b"UNSUB", b"SUB z"))]


def test_a_subject_that_would_cut_the_link_is_never_sent(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    link = under.connect(server)
    driver = under.driver
    assert not under.publish("a." * 3000 + "b", b"x")
    assert not under.publish("é" * 2047, b"x" * 100)  # 4094 bytes, a blank and three digits
    assert under.publish("é" * 2046, b"x" * 100)
    for reply, sent in ((b"\xff" * 4097, 0), (b"\xff" * 4091, 1), (b"a\r", 0), (b"\xe9", 1)):
        assert driver.send([(Message(b"a", reply, b""), b"y" * 1000, "")]) == sent
    marked = Message(b"a", b"\xff" * 4091, b"", b"NATS/1.0\r\n\r\n")
    assert driver.send([(marked, b"y", "an error")]) == 0, "as an HPUB it is longer"
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
        assert under.publish("a" * size, b"")
        until(partial(lambda link: link.messages, link), "it came")
        link.send(b"-ERR 'Maximum Control Line Exceeded'\r\n")
        until(partial(lambda most: under.driver._lines.most == most, most), "learned")
        link.close()
        link = server.accept()
    until(lambda: under.ups == 3, "up")
    assert not under.publish("a" * 1000, b"") and under.publish("a" * 500, b"")
    until(lambda: len(link.messages) == 1, "what fits")
    assert "no message is sent whose line has more than 701 bytes" in caplog.text


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
        assert under.publish("a", b"x" * size)
    server.info["max_payload"] = 500
    second = server.accept()
    until(lambda: len(second.messages) == 2, "those that fit")
    assert [len(data) for data in bodies(second)] == [90, 80]
    assert under.driver.stats()["messages_dropped"] == 2 and under.driver.max_payload == 500
    until(lambda: "2 messages are larger" in caplog.text, "told")


# -- what has arrived


def test_events_are_settled_when_the_server_has_confirmed_them(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    events = under.driver.events
    link = under.connect(server)
    assert under.publish("a", b"1", b"2") == 2
    until(lambda: not events.pending, "confirmed")
    assert under.settled_to[-1] == (2, 0)
    link.pongs = False
    under.driver.send([(Message(b"l", b"inbox", b""), b"a reply", "")])
    assert under.publish("a", b"3") == 1
    until(lambda: len(link.messages) == 4, "written")
    assert events.pending == 1 and not events.flush(0.1), "replies do not count, and nothing was confirmed"
    link.send(b"PONG\r\n" * link.lines.count(b"PING"))
    until(lambda: events.flush(0.0), "confirmed")
    assert under.settled_to[-1] == (3, 0) and under.driver.stats()["messages_unconfirmed"] == 0


def test_events_that_may_be_lost_are_settled_as_that(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    events = under.driver.events
    link = under.connect(server)
    link.pongs = False
    until(lambda: under.publish("a", b"1", b"2", b"3") == 3, "taken")
    until(lambda: len(link.messages) == 3, "written")
    link.close()
    until(lambda: under.downs, "lost")
    assert under.settled_to[-1] == (3, 3) and events.pending == 0
    assert under.publish("a", b"x" * 900, b"4") == 2
    assert events.pending == 2
    server.info["max_payload"] = 500
    second = server.accept()
    until(lambda: not events.pending, "the next link confirms")
    assert under.settled_to[-1] == (5, 4), "the large one was dropped: it is through as well"
    assert bodies(second) == [b"4"] and under.driver.stats()["messages_sent"] == 4


def test_what_is_settled_never_goes_back(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.connect(server)
    for number in range(200):
        under.publish("a", b"%d" % number)
        if number == 100:
            server.links[-1].sock.shutdown(socket.SHUT_RDWR)
            server.accept()
    until(lambda: not under.driver.events.pending, "all are through")
    assert under.settled_to == sorted(under.settled_to) and under.settled_to[-1][0] == 200
    assert under.settled_to[-1][1] == under.driver.stats()["messages_unconfirmed"]
