"""event_fields and event_variables: what is published is small; records, watches and the agent itself see all."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from tests.functional.parts import Agent, Client, NatsServer
from tests.support import until

TEXT = """<configuration name="event_agent.conf"><settings>
  <param name="event_fields" value="{}"/><param name="event_variables" value="{}"/>
</settings></configuration>"""
LANE = "small.api"
SETTINGS = {"subject_prefix": "small", "node_id": "small", "cdr": "true", "cdr_variables": "ticket"}


def call(client: Client, uuid: str) -> None:
    """A call that is watched, with a variable, whose application's result is asked for."""
    fields: dict[str, Any] = {"endpoint": "loopback/park/default", "destination": "&park", "uuid": uuid,
              "variables": {"ticket": "4711"}, "events_to": f"watched.{uuid}"}  # fmt: skip
    assert client.request("originate", None, LANE, fields=fields, _timeout=30)["success"] is True
    fields = {"uuid": uuid, "app": "set", "args": "result=yes", "wait": 30, "result": ["result", "ticket"]}
    reply = client.request("execute_app", None, LANE, fields=fields, _timeout=40)
    assert reply["data"]["variables"] == {"result": "yes", "ticket": "4711"}, reply
    assert client.request("hangup", uuid, LANE)["success"] is True


def test_events_are_small_and_all_else_is_whole(
    nats: NatsServer, switch: Any, start_agent: Callable[..., Agent], client: Client, tmp_path: Any
) -> None:
    config = tmp_path / "agent.xml"
    config.write_text(TEXT.format("Caller-D*", "tick*"))
    agent = start_agent(nats, switch, ready=False, **SETTINGS)
    agent.kill()
    agent.config = config
    agent.start()
    events, records = client.events("small.events.channel.>"), client.events("small.cdr.>")
    copies = client.events("watched.>")
    call(client, "small-1")
    end = events.wait("CHANNEL_HANGUP_COMPLETE", Unique_ID="small-1")[0]
    headers = end["headers"]
    assert headers["variable_ticket"] == "4711" and headers["Caller-Destination-Number"]
    assert headers["Hangup-Cause"] == "NORMAL_CLEARING" and headers["Core-UUID"] and headers["Event-Sequence"]
    variables = {name for name in headers if name.startswith("variable_")}
    assert "variable_ticket" in variables and variables <= {"variable_ticket", "variable_event_agent_call"}
    assert "Caller-Caller-ID-Number" not in headers and "Event-Calling-File" not in headers
    whole = copies.wait("CHANNEL_HANGUP_COMPLETE", Unique_ID="small-1")[0]
    assert whole["headers"]["Caller-Caller-ID-Number"] and "variable_uuid" in whole["headers"]
    assert {name: whole["headers"][name] for name in headers} == headers
    record = until(records.parsed, "the record")[0]
    assert record["caller_id_number"] and record["variables"] == {"ticket": "4711"}

    config.write_text(TEXT.format("none", "none"))
    agent.signal(signal.SIGHUP)
    agent.logged("configuration read again")
    call(client, "small-2")
    end = events.wait("CHANNEL_HANGUP_COMPLETE", Unique_ID="small-2")[0]
    assert "variable_ticket" not in end["headers"] and "Caller-Destination-Number" not in end["headers"]
    assert end["headers"]["Hangup-Cause"] == "NORMAL_CLEARING" and end["uuid"] == "small-2"
