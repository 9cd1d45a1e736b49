"""What the panel knows of a call's legs is the same in whatever order FreeSWITCH's events come."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.test_panel_calls import NODE, event, has, legs, row

calls = pytest.importorskip("examples.panel.calls", reason="not a checkout")


def test_a_consultation_in_every_order_of_its_events() -> None:
    """FreeSWITCH fires them from the threads of three legs; what is known in the end is the same."""
    talk, ask = ({"Bridge_A_Unique_ID": ours, "Bridge_B_Unique_ID": with_} for ours, with_ in ("bc", "db"))
    happened = [
        event("CHANNEL_BRIDGE", "b", 11, **talk),
        event("CHANNEL_PARK", "c", 12),  # the caller's thread is faster than that which ends the bridge
        event("CHANNEL_UNBRIDGE", "b", 13, **talk),
        event("CHANNEL_PARK", "b", 14),
        event("CHANNEL_BRIDGE", "d", 15, **ask),
        event("CHANNEL_EXECUTE", "c", 16, Application="park"),
    ]
    for order in itertools.permutations(happened):
        found = calls.Calls()
        for number, uuid in enumerate("bcd"):
            found.apply(event("CHANNEL_ANSWER", uuid, number))
        for each in order:
            found.apply(each)
        known = {uuid: (leg["parked"], leg["other"], leg["talked"]) for uuid, leg in legs(found).items()}
        told = [each["headers"]["Event-Sequence"] for each in order]
        assert known == {"b": (False, "d", True), "c": (True, "", True), "d": (False, "b", True)}, told
        assert legs(found)["c"]["app"] == "park", told


def test_a_bridge_that_is_told_after_the_end_of_a_leg() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_ANSWER", "a", 1))
    found.apply(event("CHANNEL_ANSWER", "b", 2))
    found.apply(event("CHANNEL_HANGUP", "b", 4))
    found.apply(event("CHANNEL_BRIDGE", "a", 3, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="b"))
    assert has(legs(found)["a"], other="", talked=True)


def test_the_end_of_an_earlier_bridge_leaves_a_later_one() -> None:
    found = calls.Calls()
    for number, uuid in enumerate("abc"):
        found.apply(event("CHANNEL_ANSWER", uuid, number))
    found.apply(event("CHANNEL_BRIDGE", "b", 4, Bridge_A_Unique_ID="b", Bridge_B_Unique_ID="a"))
    found.apply(event("CHANNEL_BRIDGE", "c", 5, Bridge_A_Unique_ID="c", Bridge_B_Unique_ID="a"))
    found.apply(event("CHANNEL_UNBRIDGE", "b", 6, Bridge_A_Unique_ID="b", Bridge_B_Unique_ID="a"))
    assert {uuid: leg["other"] for uuid, leg in legs(found).items()} == {"a": "c", "b": "", "c": "a"}


def test_a_caller_keeps_the_name() -> None:
    """When a caller is taken out of a park, FreeSWITCH puts the other side's name there (switch_channel_flip_cid)."""
    came = {"Caller_Orig_Caller_ID_Name": "Ada", "Caller_Orig_Caller_ID_Number": "100"}
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "a", 1, **came))
    looked_up = {"Caller_Caller_ID_Name": "Ada Lovelace"}
    found.apply(event("CHANNEL_ANSWER", "a", 2, **came, **looked_up))
    assert has(legs(found)["a"], name="Ada Lovelace", number="100")
    flipped = {"Caller_Caller_ID_Name": "Outbound Call", "Caller_Caller_ID_Number": "1000"}
    found.apply(event("CHANNEL_CALLSTATE", "a", 3, **came, **flipped))
    assert has(legs(found)["a"], name="Ada", number="100")
    found.apply(event("CHANNEL_CREATE", "b", 4, Call_Direction="outbound", **flipped))
    assert has(legs(found)["b"], name="", number="1000")
    listed = calls.Calls()
    first = {"initial_cid_name": "Ada", "initial_cid_num": "100"}
    listed.replace(
        NODE, [row("a", cid_name="Outbound Call", cid_num="1000", **first), row("b", cid_name="Bob", **first)], 0
    )
    assert [(leg["name"], leg["number"]) for leg in listed.all()] == [("Ada", "100"), ("Bob", "100")]


def test_a_list_leaves_together_whom_it_does_not_part() -> None:
    """A caller whom somebody has taken: the list names the phone at the caller, and nobody at the phone."""
    found = calls.Calls()
    for number, uuid in enumerate("ab"):
        found.apply(event("CHANNEL_ANSWER", uuid, number))
    found.apply(event("CHANNEL_BRIDGE", "b", 3, Bridge_A_Unique_ID="b", Bridge_B_Unique_ID="a"))
    media = {"state": "CS_EXCHANGE_MEDIA", "application": "uuid_bridge"}
    soft = media | {"state": "CS_SOFT_EXECUTE"}

    def others() -> dict[str, str]:
        return {uuid: leg["other"] for uuid, leg in legs(found).items()}

    for rows in (
        [row("a", call_uuid="b", **media), row("b", **soft)],
        [row("a", **media), row("b", **media)],
        [row("a", **media), row("b", **soft)],
    ):
        found.replace(NODE, rows, found.mark())
        assert others() == {"a": "b", "b": "a"}, rows
    found.replace(NODE, [row("a", application="park"), row("b", **media)], found.mark())
    assert others() == {"a": "", "b": ""}
    # A panel that comes new knows from the list alone.
    found = calls.Calls()
    found.replace(NODE, [row("a", call_uuid="b", **media), row("b", **soft)], 0)
    assert others() == {"a": "b", "b": "a"}


def test_what_was_called_stays_when_a_leg_is_only_parted_or_joined() -> None:
    found = calls.Calls()
    found.apply(event("CHANNEL_CREATE", "a", 1, Caller_Destination_Number="1000", Caller_Dialplan="XML"))
    for number in ("park", "intercept:b"):
        found.apply(event("CHANNEL_STATE", "a", 2, Caller_Destination_Number=number, Caller_Dialplan="inline"))
        found.replace(NODE, [row("a", dest=number, dialplan="inline")], found.mark())
        assert legs(found)["a"]["to"] == "1000"
    found.apply(event("CHANNEL_STATE", "a", 3, Caller_Destination_Number="park", Caller_Dialplan="XML"))
    assert legs(found)["a"]["to"] == "park"
