"""The panel's picture of the calls: made of lists and events, in whatever order these come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

calls = pytest.importorskip("examples.panel.calls", reason="not a checkout")
journal = pytest.importorskip("examples.panel.journal", reason="not a checkout")
world = pytest.importorskip("examples.panel.world", reason="not a checkout")

NODE = "fs-1"


def event(name: str, uuid: str = "a", sequence: int = 0, state: str = "ACTIVE", **headers: Any) -> dict[str, Any]:
    """`_` in a header stands for `-`."""
    usual = {
        "Channel-State": "CS_EXECUTE", "Channel-Call-State": state, "Call-Direction": "inbound",
        "Caller-Caller-ID-Name": "Ada", "Caller-Caller-ID-Number": "100", "Caller-Destination-Number": "700",
        "Caller-Channel-Created-Time": "5000000", "Event-Sequence": str(sequence),
    }  # fmt: skip
    return {
        "event_name": name, "node_id": NODE, "uuid": uuid, "timestamp": 7,
        "headers": usual | {
            key if key.startswith("variable_") else key.replace("_", "-"): value for key, value in headers.items()
        },
    }  # fmt: skip


def row(uuid: str = "a", **more: str) -> dict[str, str]:
    usual = {
        "uuid": uuid, "call_uuid": uuid, "created_epoch": "5", "cid_name": "Ada", "cid_num": "100", "dest": "700",
        "state": "CS_EXECUTE", "callstate": "ACTIVE", "direction": "inbound", "application": "echo",
    }  # fmt: skip
    return usual | more


def legs(found: Any) -> dict[str, Any]:
    return {leg["uuid"]: leg for leg in found.all()}


def has(leg: dict[str, Any], **fields: object) -> bool:
    return leg | fields == leg


def test_the_life_of_a_call() -> None:
    found = calls.Calls()
    assert found.apply(event("CHANNEL_CREATE", state="DOWN"))[0][0] == "call"
    assert has(legs(found)["a"], name="Ada", number="100", to="700", state="new", since=5000000)
    found.apply(event("CHANNEL_CALLSTATE", sequence=1, state="RINGING"))
    found.apply(event("CHANNEL_PARK", sequence=2, state="EARLY"))
    assert legs(found)["a"]["state"] == "early" and legs(found)["a"]["parked"]
    assert found.apply(event("CHANNEL_PARK", sequence=3, state="EARLY")) == []  # nothing new
    found.apply(event("CHANNEL_UNPARK", sequence=4))
    found.apply(event("CHANNEL_EXECUTE", sequence=5, Application="playback", Application_Data="a.wav"))
    assert has(legs(found)["a"], parked=False, app="playback a.wav", state="active")
    gone = found.apply(event("CHANNEL_HANGUP", sequence=6, Hangup_Cause="USER_BUSY"))
    assert gone == [("gone", {"node": NODE, "uuid": "a", "cause": "USER_BUSY"})]
    assert found.all() == []


@pytest.mark.parametrize(
    "end",
    [
        {"name": "CHANNEL_HANGUP_COMPLETE"},
        {"name": "CHANNEL_DESTROY"},
        {"name": "CHANNEL_STATE", "Channel_State": "CS_REPORTING"},
        {"name": "CHANNEL_CALLSTATE", "state": "HANGUP"},
        {"name": "CHANNEL_STATE", "Answer_State": "hangup"},
    ],
)
def test_the_end_comes_before_the_beginning(end: dict[str, Any]) -> None:
    found = calls.Calls()
    assert found.apply(event(**end)) == []
    assert found.apply(event("CHANNEL_CREATE")) == []
    assert found.all() == []
    # A later call may have the same uuid, where somebody chooses it.
    assert found.apply(event("CHANNEL_CREATE", Caller_Channel_Created_Time="6000000"))


def test_what_comes_late_does_not_turn_back_the_state() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_ANSWER", sequence=9))
    assert found.apply(event("CHANNEL_CALLSTATE", sequence=8, state="RINGING")) == []
    assert legs(found)["a"]["state"] == "active"


def test_bridged_legs_know_of_each_other() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_ANSWER", "a", 1))
    found.apply(event("CHANNEL_ANSWER", "b", 2))
    sides = {"Bridge_A_Unique_ID": "a", "Bridge_B_Unique_ID": "b"}
    found.apply(event("CHANNEL_BRIDGE", "a", 3, **sides))
    assert legs(found)["a"]["other"] == "b" and legs(found)["b"]["other"] == "a"
    found.apply(event("CHANNEL_UNBRIDGE", "a", 4, **sides))
    assert not legs(found)["a"]["other"] and not legs(found)["b"]["other"]
    found.apply(event("CHANNEL_BRIDGE", "a", 5, **sides))
    changes = found.apply(event("CHANNEL_HANGUP", "b", 6))
    assert [kind for kind, _ in changes] == ["gone", "call"] and not legs(found)["a"]["other"]


def test_legs_that_are_one_call_say_so() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "a", 1, variable_other_loopback_leg_uuid="b"))
    found.apply(event("CHANNEL_CREATE", "b", 2, Channel_Call_UUID="b"))
    found.apply(event("CHANNEL_CREATE", "c", 3, Channel_Call_UUID="a"))
    found.apply(event("CHANNEL_CREATE", "d", 4, Other_Type="originator", Other_Leg_Unique_ID="a"))
    assert [(leg["pair"], leg["origin"]) for leg in found.all()] == [("b", ""), ("", ""), ("", "a"), ("", "a")]
    listed = calls.Calls()
    ends = [row("x", name="loopback/9-a", call_uuid="x"), row("y", name="loopback/9-b", call_uuid="")]
    twice = [row(uuid, name=f"loopback/7-{uuid[0]}") for uuid in ("a1", "a2", "b1", "b2")]
    listed.replace(NODE, [*ends, row("z", name="loopback/8-b"), row("p", call_uuid="x"), *twice], 0)
    assert [(leg["pair"], leg["origin"]) for leg in listed.all()][:4] == [("y", ""), ("x", ""), ("", ""), ("", "x")]
    assert not any(leg["pair"] for leg in listed.all()[4:]), "which of them belong together is not known"


def test_how_long_somebody_waits() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "a", 1))
    assert legs(found)["a"]["waits"] == 5000000
    found.apply(event("CHANNEL_PARK", "a", 2, Event_Date_Timestamp="6000000"))
    found.apply(event("CHANNEL_PARK", "a", 3, Event_Date_Timestamp="7000000"))
    assert legs(found)["a"]["waits"] == 6000000
    sides = {"Bridge_A_Unique_ID": "a", "Bridge_B_Unique_ID": "b"}
    found.apply(event("CHANNEL_BRIDGE", "a", 4, **sides))
    found.apply(event("CHANNEL_UNBRIDGE", "a", 5, Event_Date_Timestamp="9000000", **sides))
    assert has(legs(found)["a"], waits=9000000, talked=True)


def test_a_channel_that_gets_another_uuid() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "old"))
    found.apply(event("CHANNEL_UUID", "new", 1, Old_Unique_ID="old"))
    assert list(legs(found)) == ["new"]


def test_a_list() -> None:
    found = calls.Calls()
    rows = [
        row("a", application="bridge", state="CS_EXECUTE"),
        row("b", application="", state="CS_EXCHANGE_MEDIA", call_uuid="a", direction="outbound"),
        row("p", application="park", callstate="EARLY"),
        row("z", state="CS_HANGUP"),
        row("x" * 300),
    ]
    changes = found.replace(NODE, rows, found.mark())
    assert {value["uuid"] for _, value in changes} == set(legs(found)) == {"a", "b", "p"}
    assert legs(found)["a"]["other"] == "b" and legs(found)["b"]["other"] == "a"
    assert has(legs(found)["p"], parked=True, answered=0)
    assert legs(found)["a"]["answered"]
    assert found.replace(NODE, rows, found.mark()) == []
    # What is not in the list any more has ended unseen; other nodes' calls are none of its business.
    found.replace("other", [row("a")], found.mark())
    assert found.replace(NODE, rows[:1], found.mark())
    assert sorted((leg["node"], leg["uuid"]) for leg in found.all()) == [(NODE, "a"), ("other", "a")]
    found.forget("other")
    assert [leg["node"] for leg in found.all()] == [NODE]


def test_what_happens_while_a_list_is_asked_for() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "old", 1))
    found.apply(event("CHANNEL_CREATE", "ended", 2))
    mark = found.mark()
    found.apply(event("CHANNEL_CREATE", "young", 3, state="RINGING"))
    found.apply(event("CHANNEL_HANGUP", "ended", 4))
    found.apply(event("CHANNEL_PARK", "old", 5))
    found.replace(NODE, [row("old"), row("ended")], mark)
    assert set(legs(found)) == {"old", "young"} and legs(found)["old"]["parked"]


def test_the_agent_says_which_calls_are_parked() -> None:
    found = calls.Calls()
    ours = {"variable_event_agent_parked": "1"}
    found.apply(event("CHANNEL_PARK", "a", 1, **ours))
    playing = {"application": "playback", "application_data": "tone_stream://x"}
    rows = [row("a", **playing), row("b", **playing), row("c"), row("d", application="park")]
    found.replace(NODE, rows, found.mark())
    assert found.waiting()[NODE] == 1 and not legs(found)["b"]["parked"], "the list does not tell of b"
    found.parked(NODE, {"a", "b", "gone"}, found.mark())
    assert found.waiting()[NODE] == 2 and legs(found)["b"]["parked"] and found.waiting()["other"] == 0
    assert legs(found)["d"]["parked"] and not legs(found)["d"]["ours"], "parked by somebody else, and stays so"
    # An event that came after the agent was asked is newer than its answer.
    mark = found.mark()
    found.apply(event("CHANNEL_UNPARK", "b", 2, **ours))
    assert found.parked(NODE, {"a", "b"}, mark) == [] and found.waiting()[NODE] == 1
    # A bridge by execute_app, and its end: no CHANNEL_PARK comes, but the agent knows.
    found.apply(event("CHANNEL_BRIDGE", "a", 3, **ours))
    assert found.waiting()[NODE] == 0
    found.apply(event("CHANNEL_UNBRIDGE", "a", 4, **ours))
    assert [change[1]["parked"] for change in found.parked(NODE, {"a"}, found.mark())] == [True]
    assert [change[1]["parked"] for change in found.parked(NODE, set(), found.mark())] == [False]
    found.replace(NODE, [row("a", dest="800", **playing)], found.mark())
    assert not legs(found)["a"]["parked"]


def test_it_has_bounds() -> None:
    found = calls.Calls(most=3)
    for number in range(10):
        found.apply(event("CHANNEL_CREATE", f"u{number}"))
    assert len(found.all()) == 3 and found.untold == 7
    found.replace(NODE, [row(f"r{number}") for number in range(10)], found.mark())
    assert len(found.all()) == 3
    found.apply(event("CHANNEL_CREATE", "u0", 1, Caller_Caller_ID_Name="x" * 10_000))
    assert all(len(value) <= calls.LONGEST for leg in found.all() for value in leg.values() if isinstance(value, str))
    for number in range(calls.ENDED + 10):
        found.apply(event("CHANNEL_HANGUP", f"e{number}"))
    assert len(found.ended) == calls.ENDED


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([f"CHANNEL_{name}" for name in ("CREATE", "PARK", "BRIDGE", "UUID", "HANGUP")])
SOME = [*event("x")["headers"], "Bridge-A-Unique-ID", "Bridge-B-Unique-ID", "Application", "Old-Unique-ID"]
HEADERS = st.dictionaries(st.sampled_from(SOME), ANYTHING)


@given(st.lists(st.tuples(NAMES, ANYTHING, HEADERS | ANYTHING), max_size=8))
def test_whatever_an_event_holds(given_events: list[tuple[str, Any, Any]]) -> None:
    found, kept = calls.Calls(most=3), journal.Journal(first=1)
    for name, uuid, headers in given_events:
        happened = {"event_name": name, "node_id": uuid, "uuid": uuid, "headers": headers, "timestamp": uuid}
        for kind, value in found.apply(happened):
            assert kind in ("call", "gone") and isinstance(value["uuid"], str)
        json.dumps(kept.add(happened))
    json.dumps(found.all())


def test_who_is_lost() -> None:
    found = world.World()
    sides = {"Bridge_A_Unique_ID": "t", "Bridge_B_Unique_ID": "x"}
    for uuid, number, parked in (("w", "1", True), ("t", "2", True), ("i", "3", False), ("o", "", True)):
        more = {"Caller_Caller_ID_Number": number, "Caller_Channel_Answered_Time": "5000001"}
        found.event(event("CHANNEL_ANSWER", uuid, 1, **more))
        if parked:
            found.event(event("CHANNEL_PARK", uuid, 2, **more))
    found.event(event("CHANNEL_BRIDGE", "t", 3, Caller_Caller_ID_Number="2", **sides))
    for uuid in "wtio":
        found.event(event("CHANNEL_HANGUP", uuid, 4, Hangup_Cause="NORMAL_CLEARING"))
    # One waited and went; one talked, one heard an announcement to its end, one has no number to call.
    assert [entry["number"] for entry in found.lost_callers.all()] == ["1"]
    # The same number, and somebody spoke to it.
    found.event(event("CHANNEL_ANSWER", "again", 5, Caller_Caller_ID_Number="1"))
    found.event(event("CHANNEL_BRIDGE", "again", 6, Caller_Caller_ID_Number="1", Bridge_A_Unique_ID="again"))
    found.event(event("CHANNEL_HANGUP", "again", 7))
    assert found.lost_callers.all() == []
    for each in range(500):
        found.event(event("CHANNEL_PARK", f"u{each}", 8, Caller_Caller_ID_Number=str(each)))
        found.event(event("CHANNEL_HANGUP", f"u{each}", 9))
    assert len(found.lost_callers.all()) == 300 and found.lost_callers.all()[0]["number"] == "499"


def test_phones_of() -> None:
    rows = [
        {"reg_user": "1001", "realm": "pbx"},
        {"reg_user": "1000", "realm": "pbx"},
        {"reg_user": "1000", "realm": "pbx"},
    ]
    assert calls.phones_of(json.dumps({"row_count": 3, "rows": [*rows, {"reg_user": ""}, {"reg_user": 5}]})) == [
        "1000@pbx", "1001@pbx",
    ]  # fmt: skip
    with pytest.raises(ValueError):
        calls.phones_of("-ERR")


def test_rows_of() -> None:
    assert calls.rows_of('{"row_count": 0}\n') == []
    assert calls.rows_of('{"row_count":1,"rows":[{"uuid":"a"},5]}') == [{"uuid": "a"}]
    for wrong in ("", "-ERR", "[]", "{}", None, '{"row_count":1,"rows":5}'):
        with pytest.raises(ValueError):
            calls.rows_of(wrong)


# -- the journal


def test_the_journal_keeps_the_last_ones() -> None:
    kept = journal.Journal(events=3, first=1)
    for number in range(1, 6):
        assert kept.add(event("CHANNEL_ANSWER", f"u{number}"))["id"] == number
    assert [short["id"] for short in kept.recent()] == [3, 4, 5]
    assert kept.whole(2) is None and kept.whole(6) is None and json.loads(kept.whole(4))["uuid"] == "u4"
    big = journal.Journal(most=10_000, first=1)
    for _ in range(50):
        big.add(event("CHANNEL_ANSWER", Other="x" * 1000))
    assert 0 < len(big.recent()) < 10
    # Pages outlive their server, and ask for what comes after the last one they know.
    assert journal.Journal().add(event("A"))["id"] > big.add(event("A"))["id"]


@pytest.mark.parametrize(
    ("happened", "text"),
    [
        (event("CHANNEL_HANGUP", Hangup_Cause="USER_BUSY"), "USER_BUSY"),
        (event("CHANNEL_EXECUTE", Application="playback", Application_Data="a.wav"), "playback a.wav"),
        (event("CHANNEL_CALLSTATE", state="HELD"), "HELD"),
        (event("CUSTOM", Event_Subclass="sofia::register"), "sofia::register"),
        ({"event_name": "AGENT_DISCONNECTED", "reason": "frozen?"}, "frozen?"),
        (event("API", API_Command="status"), "status"),
        (event("CHANNEL_ANSWER"), ""),
        ({"event_name": 5, "headers": 5}, ""),
    ],
)
def test_one_line_of_an_event(happened: dict[str, Any], text: str) -> None:
    assert journal.shortened(happened)["text"] == text


# -- the nodes


def status(node: str, connected: bool = True, **park: object) -> dict[str, Any]:
    switch = {"connected": connected, "version": "FreeSWITCH Version 1.10.12"}
    data = {"version": "1.0.0", "freeswitch": switch, "dialplan": {"available": True, **park}}
    return {"node_id": node, "data": data}


def links(found: Any) -> dict[str, Any]:
    picture = b"".join(found.join()[1])
    for line in picture.decode().split("\n"):
        if line.startswith("data: {"):
            return dict(json.loads(line[6:]))
    raise AssertionError(picture)


def test_nodes_come_and_go() -> None:
    found = world.World()
    odd = [{"node_id": 5}, {"node_id": "odd", "data": 5}]
    assert found.answered([status("one"), status("two", connected=False), *odd]) == ["one"]
    assert found.answered([status("one"), status("two")]) == ["two"]
    assert sorted(found.nodes()) == ["one", "two"]
    found.event({"event_name": "AGENT_DISCONNECTED", "node_id": "two", "reason": "gone", "headers": {}})
    assert found.nodes() == ["one"]
    found.event({"event_name": "AGENT_CONNECTED", "node_id": "two", "headers": {}})
    assert sorted(found.nodes()) == ["one", "two"]
    found.event(event("CHANNEL_CREATE") | {"node_id": "two"})
    for _ in range(world.SILENCE):
        assert not found.forget("two")
        found.answered([status("one")])
    assert found.nodes() == ["one"]
    assert found.forget("two") and not found.forget("two")
    assert [node["id"] for node in links(found)["nodes"]] == ["odd", "one"]
    found.answered([status(f"n{number}") for number in range(200)])
    assert len(links(found)["nodes"]) == world.NODES


def test_calls_of_a_node_that_never_answers_are_forgotten() -> None:
    found = world.World()
    found.answered([status("one")])
    found.event(event("CHANNEL_CREATE") | {"node_id": "stranger"})
    found.event(event("CHANNEL_CREATE") | {"node_id": "one"})
    for _ in range(world.STRANGE - 1):
        found.answered([status("one")])
    assert found.calls.nodes() == {"one", "stranger"}
    found.answered([status("one")])
    assert found.calls.nodes() == {"one"} and "stranger" not in found.silent


def test_what_a_page_gets_of_a_node() -> None:
    found = world.World()
    assert has(links(found)["nats"], connected=False, reason="not tried yet")
    found.linked("nats://localhost:4222")
    found.answered([status("one", mode="park", audio="music", secret="x")])
    found.not_listed("one", "too many")
    told = links(found)
    assert told["nats"]["connected"]
    assert told["nodes"][0]["park"] == {"available": True, "mode": "park", "audio": "music"}
    assert told["nodes"][0]["list_fault"] == "too many"
    found.listed("one", [row()], found.mark())
    assert links(found)["nodes"][0]["list_fault"] == ""
    found.lost("refused")
    assert has(links(found)["nats"], connected=False, reason="refused")
    since = links(found)["nats"]["since"]
    found.lost("refused again")
    assert has(links(found)["nats"], reason="refused again", since=since)
    assert found.lane("unknown") is None and found.lane("fs-1") == "fs-1"


def test_a_page_shows_which_nodes_take_no_calls_and_what_is_waited_for() -> None:
    found = world.World()

    def told(**data: Any) -> tuple[Any, Any]:
        reply = status("one")
        found.answered([reply | {"data": reply["data"] | data}])
        node = links(found)["nodes"][0]
        return node["not_ready"], node["waiting"]

    assert told() == ([], 0), "an agent of 1.0"
    assert told(readiness={"reasons": ["drained", "paused"]}, applications_waiting=7) == (["drained", "paused"], 7)
    assert told(readiness={"reasons": ["not connected"]}) == ([], 0), "that is said in its own words"
    odds: tuple[Any, ...] = (None, [], {"reasons": None}, {"reasons": "drained"}, "x")
    for odd in odds:
        assert told(readiness=odd, applications_waiting="many") == ([], 0)
    (long,) = told(readiness={"reasons": ["x" * 1000]})[0]
    assert len(long) <= 33


def test_who_was_first_has_the_call() -> None:
    found = world.World()
    found.event(event("CHANNEL_CREATE"))
    assert found.claim(NODE, "a", "ann") == "" and found.claim(NODE, "a", "bob") == "ann"
    assert found.claim(NODE, "gone", "bob") == ""
    found.release(NODE, "a")
    assert found.claim(NODE, "a", "bob") == ""


def test_a_call_is_followed_to_its_end() -> None:
    found = world.World()
    assert found.follow(NODE, "a") is None
    found.event(event("CHANNEL_CREATE"))
    with found.follow(NODE, "a") as followed:
        found.event(event("CHANNEL_PARK", sequence=1))
        assert followed.until(lambda leg: leg["parked"], 0)
        assert not followed.until(lambda leg: leg["other"], 0)
        found.event(event("CHANNEL_HANGUP", sequence=2, Hangup_Cause="USER_BUSY"))
        assert followed.until(lambda leg: leg is None, 0) and followed.cause == "USER_BUSY"
    assert not found._followed


def test_an_agent_that_stops_is_away_at_once() -> None:
    found = world.World()
    found.answered([status("one"), status("two")])
    found.event({"event_name": "AGENT_STOPPING", "node_id": "one", "headers": {}})
    found.away("two", "absent")
    assert [(node["up"], node["away"]) for node in links(found)["nodes"]] == [(False, "stopped"), (False, "absent")]
    assert found.unheard() == []
    found.answered([status("one"), status("two")])
    assert [(node["up"], node["away"]) for node in links(found)["nodes"]] == [(True, ""), (True, "")]
    found.answered([status("one")])
    assert found.unheard() == ["two"]


def test_a_page_gets_the_picture_and_then_every_change() -> None:
    found = world.World()
    found.event(event("CHANNEL_CREATE"))
    page, pieces = found.join()
    picture = b"".join(pieces)
    assert b"retry: " in picture and b'"uuid":"a"' in picture and page.take(0) == b""
    found.event(event("CHANNEL_HANGUP", sequence=1))
    news = page.take(0)
    assert b"event: events\n" in news and b'"gone":true' in news and b"event: calls" not in news
    found.answered([status("one")])
    assert page.take(0).startswith(b"event: links\n")
    found.answered([status("one")])
    assert page.take(0) == b""  # nothing new


def test_what_a_node_carries() -> None:
    ready = {"sessions": 3, "max_sessions": 100, "idle_cpu": 97.5, "sessions_per_second": 1, "drained": True}
    data = {"readiness": ready, "uptime": 5, "events_dropped": 0}
    assert world.load_of({"data": data}) == {
        "sessions": 3, "most": 100, "idle": 97.5, "rate": 1, "uptime": 5, "dropped": 0, "drained": True,
    }  # fmt: skip
    odds: tuple[Any, ...] = (
        None,
        [],
        {},
        {"readiness": 5, "uptime": "x"},
        {"readiness": {"drained": "yes", "sessions": True}},
    )
    assert [world.load_of({"data": odd}) for odd in odds] == [{}] * 5


def test_what_a_node_says_of_routing() -> None:
    route = {
        "enabled": True, "subject": "a.route", "fallback": "park", "calls_waiting": 2,
        "decisions": {"park": 3, "apps": 1}, "fallbacks": {"late": 5}, "last_fallback": "no answer came",
        "latency_ms": {"median": 1.25},
    }  # fmt: skip
    found = world.node_of("n", {"data": {"dialplan": {"route": route}}}, None)
    assert found["routing"] == {
        "subject": "a.route", "fallback": "park", "waiting": 2, "decided": 4, "undecided": 5, "why": "no answer came",
        "median": 1.25,
    }  # fmt: skip
    others: tuple[object, ...] = (None, [], {}, route | {"enabled": False})
    for other in others:
        found = world.node_of("n", {"data": {"dialplan": {"route": other}}}, None)
        assert found["routing"] is None
    odd = world.routing({"enabled": True, "subject": 5, "decisions": [1], "fallbacks": {"a": "b"}, "latency_ms": 7})
    assert odd == {
        "subject": "", "fallback": "", "waiting": 0, "decided": 0, "undecided": 0, "why": "", "median": None,
    }  # fmt: skip
