"""What the panel says became of an action: with a world that is told events, and a switch made of a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from event_agent.client.client import AgentTimeout, NoAgent
from event_agent.errors import LinkError
from tests.support import until
from tests.unit.test_panel_calls import NODE, event

actions = pytest.importorskip("examples.panel.actions", reason="not a checkout")
world = pytest.importorskip("examples.panel.world", reason="not a checkout")

Answer = Callable[[dict[str, Any]], Any]
OK = {"success": True, "data": "+OK\n", "message": "done"}


class Desk:
    """One call with uuid `a`; `answer` is what FreeSWITCH does when it is asked something."""

    def __init__(self, answer: Answer = lambda request: OK, settles: float = 15.0) -> None:
        self.world = world.World()
        self.asked: list[dict[str, Any]] = []
        self.answer = answer
        self.actions = actions.Actions(self.world, self._command, settles)
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
        "uuid_setvar",
        "originate",
        "uuid_setvar",
        "uuid_transfer",
    ]
    assert desk.do("connect") == (False, "act.no_consult") and desk.do("back") == (False, "act.no_consult")


class Asked(Desk):
    """The caller `a` talks to `m`; the phone that is asked is a leg of the uuid that the panel gives it."""

    def __init__(
        self, meanwhile: Callable[[str], Any] = lambda phone: OK, joined: bool = True, settles: float = 15.0
    ) -> None:
        """`meanwhile` is what happens while that phone rings; it is given its uuid and says what becomes of it."""
        super().__init__(settles=settles)
        self.meanwhile, self.joined = meanwhile, joined
        self.rings = threading.Event()
        self.hung_up: list[str] = []
        self.phone = ""
        self.answer = self._answer
        self.tell("CHANNEL_CREATE", "m", Call_Direction="outbound")
        self.bridge("a", "m")

    def bridge(self, one: str, other: str, end: bool = False) -> None:
        name = "CHANNEL_UNBRIDGE" if end else "CHANNEL_BRIDGE"
        self.tell(name, one, Bridge_A_Unique_ID=one, Bridge_B_Unique_ID=other)

    def _answer(self, request: dict[str, Any]) -> Any:
        text = request.get("args", "")
        if "-both" in text:
            self.bridge("m", "a", end=True)
            self.tell("CHANNEL_PARK", "a")
            self.tell("CHANNEL_PARK", "m")
        elif "intercept:" in text:
            leg, caller = text.split()[0], text.partition("intercept:")[2].split()[0]
            if self.world.leg(NODE, leg) is None:
                return {"success": False, "data": "-ERR No such channel!\n", "message": "-ERR No such channel!"}
            self.bridge(leg, caller)
        elif request["command"] == "hangup":
            self.hung_up.append(request["uuid"])
            self.tell("CHANNEL_HANGUP", request["uuid"])
        elif request["command"] == "originate":
            self.phone = request["variables"]["origination_uuid"]
            self.tell("CHANNEL_CREATE", self.phone, "RINGING", Call_Direction="outbound")
            self.rings.set()
            answer = self.meanwhile(self.phone)
            if answer == OK:
                if self.joined and self.world.leg(NODE, "m"):
                    self.bridge(self.phone, "m")
                return OK | {"data": {"uuid": self.phone}}
            self.tell("CHANNEL_HANGUP", self.phone)
            return answer
        return OK

    def is_cancelled(self, phone: str) -> Any:
        """Ring until the panel gives it up."""
        until(lambda: phone in self.hung_up, "it rings no longer", 20)
        return failed("ORIGINATOR_CANCEL")

    def tell(self, name: str, uuid: str = "a", state: str = "ACTIVE", **headers: str) -> None:
        self.sequence += 1
        self.world.event(event(name, uuid, self.sequence, state, **headers))


def test_a_consultation_and_then_connected_or_back() -> None:
    desk = Asked()
    assert desk.do("consult", target="user/2") == (True, "act.consults")
    assert desk.world.leg(NODE, "a")["consult"] == {"with": "m", "to": desk.phone, "phone": "user/2", "ended": False}
    assert desk.do("back") == (True, "act.came_back")
    leg = desk.world.leg(NODE, "a")
    assert leg["other"] == "m" and leg["consult"] is None and desk.hung_up == [desk.phone]
    assert desk.do("consult", target="user/2") == (True, "act.consults")
    assert desk.do("connect") == (True, "act.talks") and desk.words == {"phone": "user/2"}
    assert desk.world.leg(NODE, "a")["other"] == desk.phone and desk.hung_up[1:] == ["m"]


def test_who_is_asked_hangs_up() -> None:
    desk = Asked()
    assert desk.do("consult", target="user/2") == (True, "act.consults")
    desk.tell("CHANNEL_HANGUP", desk.phone)
    assert desk.world.leg(NODE, "a")["consult"]["ended"]
    assert desk.do("connect") == (False, "act.no_consult")
    assert desk.do("back") == (True, "act.came_back")


def test_back_while_the_phone_still_rings() -> None:
    desk = Asked()
    said: list[tuple[bool, str]] = []

    def meanwhile(phone: str) -> Any:
        outcome = desk.actions.do({"action": "connect", "node": NODE, "uuid": "a"}, "ann")
        assert outcome["say"] == "act.no_consult", "nobody has answered"
        outcome = desk.actions.do({"action": "back", "node": NODE, "uuid": "a"}, "ann")
        said.append((outcome["ok"], outcome["say"]))
        return failed("ORIGINATOR_CANCEL") if phone in desk.hung_up else OK

    desk.meanwhile = meanwhile
    assert desk.do("consult", target="user/2") == (True, "act.consult_over")
    assert said == [(True, "act.came_back")] and desk.world.leg(NODE, "a")["other"] == "m"


@pytest.mark.parametrize(
    ("gone", "outcome", "ends"),
    [("a", (False, "act.ended"), ["m"]), ("m", (False, "act.ours_gone"), [])],
)
def test_one_of_those_who_talked_hangs_up_while_the_phone_rings(
    gone: str, outcome: tuple[bool, str], ends: list[str]
) -> None:
    desk = Asked()

    def meanwhile(phone: str) -> Any:
        desk.tell("CHANNEL_HANGUP", gone, Hangup_Cause="NORMAL_CLEARING")
        return desk.is_cancelled(phone)

    desk.meanwhile = meanwhile
    assert desk.do("consult", target="user/2") == outcome
    assert [uuid for uuid in desk.hung_up if uuid != desk.phone] == ends, "nobody is left in silence"
    left = desk.world.leg(NODE, "a")
    assert left is None or (left["consult"] is None and left["parked"])


@pytest.mark.parametrize("action", ["take", "transfer"])
def test_a_phone_rings_no_longer_than_the_caller_waits(action: str) -> None:
    desk = Asked()
    if action == "take":
        desk.bridge("m", "a", end=True)

    def meanwhile(phone: str) -> Any:
        desk.tell("CHANNEL_HANGUP", "a", Hangup_Cause="NORMAL_CLEARING")
        return desk.is_cancelled(phone)

    desk.meanwhile = meanwhile
    assert desk.do(action, phone="user/1", target="user/1", kind="phone") == (False, "act.ended")
    assert desk.words["cause"] == "NORMAL_CLEARING"


def test_a_phone_that_answers_and_is_gone_again() -> None:
    desk = Asked(joined=False, settles=0.3)
    assert desk.do("consult", target="user/2") == (False, "act.not_met")
    assert desk.world.leg(NODE, "a")["other"] == "m", "the caller is back"

    def meanwhile(phone: str) -> Any:
        threading.Timer(0.1, desk.tell, ["CHANNEL_HANGUP", phone], {"Hangup_Cause": "NORMAL_CLEARING"}).start()
        return OK

    desk = Asked(meanwhile, joined=False)
    assert desk.do("consult", target="user/2") == (False, "act.asked_gone")
    assert desk.words == {"phone": "user/2"} and desk.world.leg(NODE, "a")["other"] == "m"


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
