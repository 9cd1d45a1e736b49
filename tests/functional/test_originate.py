"""What the reply of originate says: answered or not, and how long FreeSWITCH may take to know."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, hang_up_all
from tests.support import until

PARK = "loopback/park/default"


def inline(*actions: str) -> str:
    """An endpoint that does this: the far end of a loopback, with a dialplan of its own."""
    return f"loopback/m:^:{'^'.join(actions)}/default/inline"


BUSY_BEHIND_AUDIO = inline("pre_answer", "sleep:1200", "hangup:USER_BUSY")
ANSWERED_LATER = inline("ring_ready", "sleep:700", "answer", "park")
ANNOUNCED = inline("pre_answer", "sleep:700", "answer", "park")


@pytest.fixture(autouse=True)
def nobody_left(agent: Agent, switch: Switch) -> Iterator[None]:
    yield
    hang_up_all(switch.port, switch.password)


def timed(client: Client, **fields: object) -> tuple[dict[str, object], float]:
    started = time.monotonic()
    reply = client.request("originate", fields={"destination": "&park", **fields}, _timeout=60)
    return reply, time.monotonic() - started


@pytest.mark.parametrize("endpoint", [BUSY_BEHIND_AUDIO, f"{BUSY_BEHIND_AUDIO}|error/USER_BUSY",
                                      f"error/NO_ANSWER,{BUSY_BEHIND_AUDIO}", f"[x=1]{BUSY_BEHIND_AUDIO}"])
def test_early_media_is_no_answer(agent: Agent, client: Client, endpoint: str) -> None:
    reply, took = timed(client, endpoint=endpoint)
    assert (reply["success"], reply["message"]) == (False, "-ERR USER_BUSY") and took >= 1.1
    # FreeSWITCH's list is behind by up to a second.
    until(lambda: client.request("show", "channels")["data"], "no call is left",
          holds=lambda found: found == "\n0 total.\n")  # fmt: skip


@pytest.mark.parametrize("endpoint", [ANSWERED_LATER, ANNOUNCED])
def test_the_reply_comes_when_it_is_answered(agent: Agent, client: Client, endpoint: str) -> None:
    events = client.events("freeswitch.events.channel.answer")
    reply, took = timed(client, endpoint=endpoint, uuid=(uuid := f"late-{time.monotonic_ns()}"))
    assert reply["success"] is True and 0.6 <= took < 15
    assert events.wait("CHANNEL_ANSWER", Unique_ID=uuid)


@pytest.mark.parametrize(
    "fields",
    [
        {"early_media": True},
        {"variables": {"ignore_early_media": "false"}},
        {"variables": {"Ignore_Early_Media": False}},
        {"endpoint": "{ignore_early_media=false}" + BUSY_BEHIND_AUDIO},
    ],
)
def test_who_wants_early_media_gets_it(agent: Agent, client: Client, fields: dict[str, object]) -> None:
    reply, _ = timed(client, **({"endpoint": BUSY_BEHIND_AUDIO} | fields))
    assert reply["success"] is True, "or it would have waited for USER_BUSY"


def test_what_the_caller_says_of_early_media_counts(agent: Agent, client: Client) -> None:
    for fields in ({"variables": {"ignore_early_media": True}}, {"early_media": False}):
        reply, took = timed(client, endpoint=BUSY_BEHIND_AUDIO, **fields)
        assert reply["message"] == "-ERR USER_BUSY" and took >= 1.1
    reply, _ = timed(client, endpoint=PARK, early_media="yes")
    assert reply["message"] == "early_media must be true or false"


def test_a_bridge_from_the_new_call_still_hears_early_media(agent: Agent, client: Client) -> None:
    """FreeSWITCH bridges with the ignore_early_media of the channel that asks for it."""
    reply, _ = timed(client, endpoint=PARK)
    uuid = reply["data"]["uuid"]  # type: ignore[index]
    assert "ignore_early_media" not in json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
    assert client.request("uuid_getvar", f"{uuid} ignore_early_media")["data"] == "_undef_"


def test_each_alternative_has_its_own_time(agent: Agent, client: Client) -> None:
    """The last one answers, after each of the others has rung for its three seconds."""
    alternatives = ["[leg_timeout=3]loopback/ring/default"] * 4
    reply, took = timed(client, endpoint="|".join([*alternatives, PARK]), timeout=6)
    assert reply["success"] is True and 12 <= took < 20, (reply, took)


def test_the_timeout_of_the_variables_counts(agent: Agent, client: Client) -> None:
    started, took = timed(
        client, endpoint=inline("ring_ready", "sleep:13000", "answer", "park"), timeout=2,
        variables={"originate_timeout": 30},
    )  # fmt: skip
    assert started["success"] is True and took > 12.5


def test_legs_of_a_group_ring_together(agent: Agent, client: Client) -> None:
    reply, took = timed(client, endpoint=f"loopback/ring/default,{ANSWERED_LATER},loopback/ring/default", timeout=20)
    assert reply["success"] is True and 0.6 <= took < 15, (reply, took)
    reply, took = timed(client, endpoint="loopback/ring/default,loopback/ring/default", timeout=5)
    assert reply["message"] == "-ERR NO_ANSWER" and 3.9 < took < 9.5, (reply, took)


@pytest.mark.parametrize("fields", [{}, {"uuid": "taken-down"}, {"endpoint": f"{PARK}|{PARK}", "timeout": 1}])
def test_a_call_that_nobody_waits_for_is_taken_down(
    agent: Agent, client: Client, real: bool, fields: dict[str, object]
) -> None:
    """FreeSWITCH is held up by a verb that the call runs, beyond any time that can be foreseen."""
    if not real:
        pytest.skip("the simulator runs no api_on_originate")
    answers = client.events("freeswitch.events.channel.answer")
    jobs = client.events("freeswitch.events.background.job")
    reply, took = timed(
        client, **({"endpoint": PARK, "timeout": 1, "variables": {"api_on_originate": "msleep 17000"}} | fields)
    )
    assert 10 < took < 16 and str(reply["message"]).startswith("Command timed out after "), (reply, took)
    assert str(reply["message"]).endswith(" seconds; the call was taken down")
    (job,) = jobs.wait("BACKGROUND_JOB", timeout=60)
    assert job["body"].startswith("-ERR "), "FreeSWITCH is through with it, and it was not answered"
    assert not answers.named("CHANNEL_ANSWER")
