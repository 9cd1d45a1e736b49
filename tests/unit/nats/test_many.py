"""Subscriptions by the thousand."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from event_agent.drivers.base import MAX_SUBSCRIPTIONS
from event_agent.drivers.nats.connection import MANY
from event_agent.drivers.nats.timing import Timing
from event_agent.errors import AgentError
from tests.fakes.nats import FakeNats, Link
from tests.support import until
from tests.unit.nats.conftest import Start

OFTEN = Timing(round=0.3, again_first=0.2, again_most=0.5)


def lanes(link: Link) -> list[str]:
    return [line.split()[1].decode() for line in link.subscriptions if int(line.split()[-1]) >= MANY]


def test_they_come_and_go_beside_the_others(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    many.join("early")
    under.driver.subscribe("other", under.take)
    link = under.connect(server)
    assert lanes(link) == ["early"], "with the others, before the link counts as up"
    for number in range(3 * MAX_SUBSCRIPTIONS):
        many.join(f"call.{number}")
    many.join("call.5")
    until(lambda: len(lanes(link)) == 3 * MAX_SUBSCRIPTIONS + 1, "all of them, each once")
    assert len(many) == 3 * MAX_SUBSCRIPTIONS + 1
    link.deliver("call.5", b"one", "inbox.1")
    link.deliver("other", b"two")
    until(lambda: [each.data for each in under.got] == [b"one", b"two"], "handed on")
    many.leave(["call.5", "call.6", "never"])
    until(lambda: sum(line.startswith(b"UNSUB ") for line in link.lines) == 2, "two end")
    link.deliver("call.5", b"late")
    until(lambda: [each.data for each in under.got[2:]] == [b"late"], "what was on its way is handed on")


def test_a_new_link_gets_all_of_them_before_what_waits(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)
    for number in range(1000):
        many.join(f"call.{number}")
    until(lambda: len(lanes(link)) == 1000, "on the first link")
    link.close()
    until(lambda: under.downs, "lost")
    many.leave([f"call.{number}" for number in range(500)])
    many.join("call.new")
    under.publish("events.a", b"x")
    second = server.accept()
    until(lambda: second.messages, "what waited")
    assert len(lanes(second)) == 501 and "call.new" in lanes(second) and "call.1" not in lanes(second)
    assert second.raw.index(b"SUB call.new") < second.raw.index(b"PUB events.a")
    assert not server.links[0].faults and not second.faults


def refusal(subject: str) -> bytes:
    return f"-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n".encode()


def test_a_server_that_refuses_them_is_asked_for_one_now_and_then(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    under = start(server.url, timing=OFTEN)
    many = under.driver.many(under.take)
    link = under.connect(server)
    for number in range(20):
        many.join(f"call.{number}")
    for number in range(20):
        link.send(refusal(f"call.{number}"))
    until(lambda: len(many) == 0, "noticed")
    (what, why), = under.driver.refused().items()
    assert what == "call.*" and why.startswith("Permissions Violation for Subscription to ")
    under.rounds()
    link.send(refusal("call.over"))  # of a call that has ended
    link.send(refusal("other"))  # what is not one of them
    many.leave(["call.3"])
    until(lambda: any(line.startswith(b"UNSUB") for line in link.lines), "left")

    def tries() -> int:
        return sum(line.startswith(b"SUB call.0 ") for line in link.lines)

    many.join("call.more")
    for number in (1, 2):
        until(partial(lambda least: tries() > least, number), "one is tried again", 20)
        link.send(refusal("call.0"))
        until(lambda: len(many) == 0, "and refused again")
    until(lambda: len(many) == 20 and not under.driver.refused(), "all hold", 20)
    until(lambda: "call.more" in lanes(link), "the one that came meanwhile, too")
    link.deliver("call.more", b"one", "inbox.1")
    until(lambda: under.got, "it is handed on")
    said = [each.message for each in caplog.records if "lanes of calls" in each.message or "call." in each.message]
    assert said[0].startswith("NATS refuses the lanes of calls") and "set call_lanes to false" in said[0]
    assert set(said[1:]) <= {said[0], "NATS server accepts the lanes of calls: call.*"}, "no line for each"
    assert any('"other"' in each.message for each in caplog.records)
    assert not under.downs


def test_a_limit_to_subscriptions_is_left_to_the_lanes_of_the_node(server: FakeNats, start: Start) -> None:
    """nats-server says so and names no subject."""
    under = start(server.url, timing=OFTEN)
    many = under.driver.many(under.take)
    under.driver.subscribe("a", under.take)
    link = under.connect(server)
    for number in range(20):
        many.join(f"call.{number}")
    until(lambda: len(lanes(link)) == 20, "subscribed")
    link.send(b"-ERR 'maximum subscriptions exceeded'\r\n")
    until(lambda: len(many) == 0, "they are given up")
    until(lambda: sum(line.startswith(b"UNSUB") for line in link.lines) >= 20, "and their room is free")
    assert list(under.driver.refused().values()) == ["maximum subscriptions exceeded"]
    many.leave([f"call.{number}" for number in range(10)])
    until(lambda: len(many) == 10 and not under.driver.refused(), "there are few enough", 20)
    assert sum(line.startswith(b"SUB a ") for line in link.lines) == 1, "it was known to hold"
    assert not under.downs


def test_what_may_have_found_no_room_is_asked_for_again_and_misses_nothing(server: FakeNats, start: Start) -> None:
    under = start(server.url, timing=Timing(round=30.0))
    many = under.driver.many(under.take)
    link = under.connect(server)
    many.join("call.1")
    under.driver.subscribe("late", under.take)

    def numbers() -> list[bytes]:
        return [line.split()[-1] for line in link.subscriptions if line.startswith(b"SUB late ")]

    (old,) = until(numbers, "subscribed")
    link.pongs, pings = False, link.lines.count(b"PING")
    link.send(b"-ERR 'maximum subscriptions exceeded'\r\n")
    until(lambda: link.lines.count(b"PING") > pings, "it asks whether that was all", 20)
    link.send(b"PONG\r\n")
    until(lambda: b"UNSUB %b\r\nSUB late " % old in link.raw, "in one write", 20)
    new = numbers()[-1]
    link.send(b"MSG late %b 3\r\none\r\n" % old)  # it was on its way
    link.send(b"MSG late %b 3\r\ntwo\r\n" % new)
    until(lambda: [each.data for each in under.got] == [b"one", b"two"], "both are handed on")
    link.pongs = True
    link.send(b"PONG\r\n")
    assert not under.downs and "late" not in under.driver.refused()


def test_another_server_may_take_what_one_has_refused(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)
    many.join("call.1")
    link.send(refusal("call.1"))
    until(lambda: len(many) == 0, "noticed")
    link.close()
    second = server.accept()
    until(lambda: under.ups == 2, "up again")
    assert lanes(second) == ["call.1"] and len(many) == 1


def test_a_subject_that_no_server_takes(start: Start, server: FakeNats) -> None:
    under = start(server.url)
    with pytest.raises(AgentError):
        under.driver.many(under.take).join("x" * 5000)


def test_many_threads(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)

    def work(name: str) -> None:
        for number in range(200):
            many.join(f"{name}.{number}")
            if number % 2:
                many.leave([f"{name}.{number}", f"{name}.{number - 1}"])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    until(lambda: sum(line.startswith(b"UNSUB") for line in link.lines) == 600, "all left")
    assert len(many) == 0 and not link.faults


def test_those_with_a_wildcard_may_be_refused_alone(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)
    many.join("call.1", "call.1.>")
    until(lambda: lanes(link) == ["call.1", "call.1.>"], "both")
    assert len(many) == 2
    link.send(b"-ERR 'Permissions Violation for Subscription to \"call.1.>\"'\r\n")
    until(lambda: len(many) == 1, "it is known")
    many.join("call.2", "call.2.>")
    until(lambda: lanes(link) == ["call.1", "call.1.>", "call.2"], "no further one is asked for")
    assert not [each for each in caplog.records if each.levelname == "WARNING"], "what is needed is there"
    link.send(b"-ERR 'Permissions Violation for Subscription to \"call.2\"'\r\n")
    until(lambda: len(many) == 0, "the others, too")
    (warned,) = until(lambda: [each.message for each in caplog.records if each.levelname == "WARNING"], "it is said")
    assert warned.startswith("NATS refuses the lanes of calls")


def test_what_may_be_later_is_told_with_the_next_event_in_one_write(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)
    many.join("call.1")
    until(lambda: lanes(link) == ["call.1"], "without `later` the server hears of it at once")
    many.join("call.2", "call.2.>", later=True)
    many.leave(["call.1"], later=True)
    before = len(link.raw)
    under.publish("events.a", b"x")
    until(lambda: link.messages, "the event")
    told = link.raw[before:]
    places = [told.index(each) for each in (b"SUB call.2 ", b"SUB call.2.> ", b"UNSUB ", b"PUB events.a ")]
    assert places == sorted(places)
    link.deliver("call.2", b"one", "inbox.1")
    until(lambda: [each.data for each in under.got] == [b"one"], "handed on")
    many.join("call.3", later=True)
    many.tell()
    until(lambda: "call.3" in lanes(link), "with nothing to be written, when it is asked for")
    many.join("call.4", later=True)
    many.join("call.5")
    until(lambda: lanes(link)[-2:] == ["call.4", "call.5"], "in their order")


def test_what_may_be_later_outlives_a_link(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    many = under.driver.many(under.take)
    link = under.connect(server)
    many.join("call.1", later=True)
    link.close()
    until(lambda: under.downs, "lost")
    many.tell()
    second = server.accept()
    until(lambda: lanes(second) == ["call.1"], "the next link has it, once")
