"""What the panel says became of an action: with a world that is told events, and a switch made of a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from event_agent.client.client import AgentTimeout, NoAgent
from event_agent.errors import LinkError
from tests.unit.test_panel_calls import NODE, event

actions = pytest.importorskip("examples.panel.actions", reason="not a checkout")
world = pytest.importorskip("examples.panel.world", reason="not a checkout")

Answer = Callable[[dict[str, Any]], Any]
OK = {"success": True, "data": "+OK\n", "message": "done"}


class Desk:
    """One call with uuid `a`; `answer` is what FreeSWITCH does when it is asked something."""

    def __init__(self, answer: Answer = lambda request: OK) -> None:
        self.world = world.World()
        self.asked: list[dict[str, Any]] = []
        self.answer = answer
        self.actions = actions.Actions(self.world, self._command)
        self.sequence = 0
        self.tell("CHANNEL_CREATE", "a", Caller_Channel_Answered_Time="5000001", Caller_Context="public")

    def _command(self, request: Any, node: Any, wait: float) -> Any:
        assert node == NODE and 0 < wait < 100
        self.asked.append(request)
        return self.answer(request)

    def tell(self, name: str, uuid: str = "a", **headers: str) -> None:
        self.sequence += 1
        self.world.event(event(name, uuid, self.sequence, **headers))

    def do(self, action: str, **more: Any) -> tuple[bool, str]:
        outcome = self.actions.do({"action": action, "node": NODE, "uuid": "a", **more}, "ann")
        self.words = outcome["words"]
        return outcome["ok"], outcome["say"]


def failed(cause: str) -> dict[str, Any]:
    return {"success": False, "data": f"-ERR {cause}\n", "message": f"-ERR {cause}"}


def test_a_phone_that_can_not_be_called_costs_no_caller() -> None:
    desk = Desk(lambda request: failed("SUBSCRIBER_ABSENT"))
    for action, more in (("take", {"phone": "user/1"}), ("transfer", {"kind": "phone", "target": "user/1"})):
        assert desk.do(action, **more) == (False, "act.cause")
        assert desk.words == {"cause": "SUBSCRIBER_ABSENT", "phone": "user/1", "context": ""}
    assert [each["command"] for each in desk.asked] == ["originate"] * 2
    assert desk.world.leg(NODE, "a") and not desk.world.leg(NODE, "a")["taking"]


def test_taken_is_when_they_talk() -> None:
    desk = Desk()

    def answer(request: dict[str, Any]) -> Any:
        assert desk.world.leg(NODE, "a")["taking"] == "ann"
        desk.tell("CHANNEL_BRIDGE", "a", Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="m")
        return OK | {"data": {"uuid": "m"}}

    desk.answer = answer
    assert desk.do("take", phone="user/1") == (True, "act.talks")
    assert desk.do("take", phone="user/1") == (False, "act.is_taken")


def test_of_several_who_take_a_call_at_once_one_gets_it() -> None:
    desk = Desk()
    together = threading.Barrier(8)
    everybody = threading.Event()

    def answer(request: dict[str, Any]) -> Any:
        assert everybody.wait(20), "the others were told while the phone of the first rang"
        desk.tell("CHANNEL_BRIDGE", "a", Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="m")
        return OK | {"data": {"uuid": "m"}}

    desk.answer = answer
    said: list[tuple[bool, str, object]] = []

    def take(who: str) -> None:
        together.wait(20)
        asked = {"action": "take", "node": NODE, "uuid": "a", "phone": "user/1"}
        outcome = desk.actions.do(asked, who)
        said.append((outcome["ok"], outcome["say"], outcome["words"].get("who")))
        if len(said) == 7:
            everybody.set()

    threads = [threading.Thread(target=take, args=(f"p{number}",), name=f"test-{number}") for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    *others, (ok, say, _) = said
    assert (ok, say) == (True, "act.talks") and len(desk.asked) == 1
    assert {each[:2] for each in others} == {(False, "act.taken")} and len({each[2] for each in others}) == 1


def test_somebody_else_was_faster() -> None:
    desk = Desk()

    def answer(request: dict[str, Any]) -> Any:
        desk.tell("CHANNEL_CREATE", "m")
        desk.tell("CHANNEL_BRIDGE", "a", Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="other")
        desk.tell("CHANNEL_HANGUP", "m")
        return OK | {"data": {"uuid": "m"}}

    desk.answer = answer
    assert desk.do("take", phone="user/1") == (False, "act.is_taken")


@pytest.mark.parametrize(
    ("happens", "outcome"),
    [
        ([("CHANNEL_HANGUP", {"Hangup_Cause": "NO_ROUTE_DESTINATION"})], (False, "act.lost")),
        ([("CHANNEL_PARK", {})], (True, "act.at_waits")),
        ([("CHANNEL_EXECUTE", {"Application": "set"}), ("CHANNEL_EXECUTE", {"Application": "echo"})],
         (True, "act.at_runs")),
        ([("CHANNEL_EXECUTE", {"Application": "bridge"}),
          ("CHANNEL_BRIDGE", {"Bridge_A_Unique_ID": "a", "Bridge_B_Unique_ID": "b"})], (True, "act.at_talks")),
        ([("CHANNEL_EXECUTE_COMPLETE", {"Application": "bridge", "Application_Data": "user/1",
                                        "variable_originate_disposition": "USER_NOT_REGISTERED"}),
          ("CHANNEL_EXECUTE", {"Application": "voicemail"})], (True, "act.at_runs_cause")),
        ([("CHANNEL_EXECUTE_COMPLETE", {"Application": "bridge", "Application_Data": "user/1",
                                        "variable_originate_disposition": "USER_NOT_REGISTERED"}),
          ("CHANNEL_HANGUP", {"Hangup_Cause": "NORMAL_CLEARING"})], (False, "act.lost")),
    ],
)  # fmt: skip
def test_a_transfer_is_followed(
    happens: list[tuple[str, dict[str, str]]], outcome: tuple[bool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "RUNS", 0.05)
    desk = Desk()

    def answer(request: dict[str, Any]) -> Any:
        assert request["args"] == "a 1000 XML public"
        for name, headers in happens:
            desk.tell(name, Caller_Destination_Number="1000", **headers)
        return OK

    desk.answer = answer
    assert desk.do("transfer", kind="extension", target="1000") == outcome
    if any("variable_originate_disposition" in headers for _, headers in happens):
        assert desk.words["cause"] == "USER_NOT_REGISTERED" and desk.words["phone"] == "user/1"


def test_a_transfer_that_goes_on_ringing_or_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "LONGEST", 0.05)
    desk = Desk()
    assert desk.do("transfer", kind="extension", target="1000") == (False, "act.unseen")
    desk.tell("CHANNEL_EXECUTE", Application="bridge", Caller_Destination_Number="1000")
    assert desk.do("transfer", kind="extension", target="1000") == (False, "act.still_rings")


@pytest.mark.parametrize(
    ("error", "said"),
    [(NoAgent("x"), "act.no_agent"), (AgentTimeout("x"), "act.no_answer"), (LinkError("x"), "act.no_nats")],
)
def test_nobody_answers(error: Exception, said: str) -> None:
    def answer(request: dict[str, Any]) -> Any:
        raise error

    assert Desk(answer).do("hangup") == (False, said)


@pytest.mark.parametrize(
    "word", ["", " ", "a b", "-both", "a'b", "a\nb", "${x}", "a|b", "<a>", 5, None, ["a"], "x" * 256]
)
def test_a_word_that_freeswitch_would_take_for_something_else(word: object) -> None:
    desk = Desk()
    assert desk.do("take", phone=word) == (False, "act.bad_phone")
    assert desk.do("transfer", target=word) == (False, "act.bad_target")
    assert desk.do("transfer", target="1", context=word or " ") == (False, "act.bad_context")
    assert not desk.asked


def test_what_is_no_action_and_no_call() -> None:
    desk = Desk()
    assert desk.do("format") == (False, "act.unknown") and desk.do("hangup", node=5) == (False, "act.unknown")
    for uuid in ("b", "", "a b", None, 5):
        assert desk.do("hangup", uuid=uuid) == (False, "act.gone")
    assert not desk.asked


def test_hung_up_and_answered_are_when_it_is_so() -> None:
    desk = Desk()

    def answer(request: dict[str, Any]) -> Any:
        threading.Timer(0.02, desk.tell, ["CHANNEL_HANGUP"]).start()
        return OK

    desk.answer = answer
    assert desk.do("hangup") == (True, "act.hung_up")
    assert desk.do("hangup") == (False, "act.gone")


# -- listening, consulting, calling back


def talking(answer: Answer | None = None) -> Desk:
    """The caller `a` talks to `m`."""
    desk = Desk(answer or (lambda request: OK))
    desk.tell("CHANNEL_CREATE", "m", Call_Direction="outbound")
    desk.tell("CHANNEL_BRIDGE", "a", Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="m")
    return desk


def test_listening_is_to_our_side_and_a_whisper_too() -> None:
    desk = talking()

    def answer(request: dict[str, Any]) -> Any:
        words = {"Application": "eavesdrop", "Application_Data": "m"}
        threading.Timer(0.05, desk.tell, ["CHANNEL_EXECUTE", request["uuid"]], words).start()  # after the reply
        return OK | {"data": {"uuid": request["uuid"]}}

    numbers = iter("xy")
    desk.answer = lambda request: answer(request | {"uuid": next(numbers)})
    assert desk.do("listen", phone="user/1") == (True, "act.listens")
    assert desk.do("whisper", phone="user/1") == (True, "act.whispers")
    assert [each["extension"] for each in desk.asked] == ["&eavesdrop(m)"] * 2
    assert [each["variables"]["eavesdrop_whisper_bleg"] for each in desk.asked] == ["false", "true"]
    assert Desk().do("listen", phone="user/1") == (False, "act.no_talk")


def test_a_consultation_that_fails_gives_the_caller_back() -> None:
    desk = talking()

    def answer(request: dict[str, Any]) -> Any:
        text = request.get("args", "")
        if "-both" in text:
            desk.tell("CHANNEL_UNBRIDGE", "a", Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="m")
            desk.tell("CHANNEL_PARK", "a")
        elif "intercept" in text:
            desk.tell("CHANNEL_BRIDGE", "m", Bridge_A_Unique_ID="m", Bridge_B_Unique_ID="a")
        return failed("USER_BUSY") if request["command"] == "originate" else OK

    desk.answer = answer
    assert desk.do("consult", target="user/2") == (False, "act.cause")
    leg = desk.world.leg(NODE, "a")
    assert leg["other"] == "m" and leg["consult"] is None
    assert [each["command"] for each in desk.asked] == [
        "uuid_setvar_multi",
        "uuid_transfer",
        "originate",
        "uuid_transfer",
    ]
    assert desk.do("connect") == (False, "act.no_consult") and desk.do("back") == (False, "act.no_consult")


def test_a_lost_caller_is_called_back_once_it_is_known_who() -> None:
    desk = Desk()
    for uuid, number in (("b", "030 1"), ("c", "0301")):
        desk.tell("CHANNEL_PARK", uuid, Caller_Caller_ID_Number=number)
        desk.tell("CHANNEL_HANGUP", uuid)
    assert desk.do("callback", phone="user/1", id=f"{NODE}/b") == (False, "act.bad_number")
    assert desk.do("callback", phone="user/1", id=f"{NODE}/c") == (True, "act.calls_back")
    assert desk.do("callback", phone="user/1", id="x") == (False, "act.not_lost")
    assert [each["extension"] for each in desk.asked] == ["0301"]
    assert desk.world.lost_caller(f"{NODE}/c")["back"] == "ann"
