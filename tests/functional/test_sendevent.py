"""sendevent over real parts: what is fired arrives, and what must not be fired is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, Client, NatsServer


def test_a_custom_event_arrives_whole(agent: Agent, client: Client) -> None:
    events = client.events("freeswitch.events.custom.shop.order")
    for headers, body in (
        ({"Order": 4711, "Paid": True, "Note": "a, b: 'c' \"d\" \\ 日本"}, "two\npizzas\r\n\n é"),
        ({"Order": 4712, "X-1_y": "x" * 2000}, ""),
        ({"Order": 4713}, "x" * 40000),
    ):
        reply = client.request("sendevent", event="custom", subclass="shop::order", headers=headers, body=body)
        assert reply["success"] is True and reply["message"] == "Event fired", reply
        (event,) = events.wait("CUSTOM", Event_UUID=reply["data"]["event_uuid"])
        assert event["headers"]["Event-Subclass"] == "shop::order" and event.get("body", "") == body
        for name, value in headers.items():
            assert event["headers"][name] == (str(value).lower() if value is True else str(value))


def test_one_without_anything(agent: Agent, client: Client) -> None:
    events = client.events("freeswitch.events.notify")
    reply = client.request("sendevent", event="NOTIFY")
    (event,) = events.wait("NOTIFY", Event_UUID=reply["data"]["event_uuid"])
    assert "body" not in event


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "event must be between 1 and 63 characters"),
        ({"event": 5}, "event must be between 1 and 63 characters"),
        ({"event": "a b"}, "event must not contain white space"),
        ({"event": "CUSTOM\n\napi status"}, "event must not contain line breaks or NUL"),
        ({"event": "NO_SUCH"}, "event must be one that FreeSWITCH has"),
        ({"event": "ALL"}, "event must be one that FreeSWITCH has"),
        ({"event": "module_unload"}, "event can't be MODULE_UNLOAD: the agent itself relies on it"),
        ({"event": "CUSTOM", "subclass": "event_agent::sync"}, "event can't be event_agent::sync: the agent itself"),
        ({"event": "CUSTOM", "subclass": "a\nb"}, "subclass must not contain line breaks or NUL"),
        ({"event": "CUSTOM", "subclass": ""}, "subclass must be between 1 and 255 characters"),
        ({"event": "CUSTOM", "headers": "a"}, "headers must be an object of strings, numbers, and booleans"),
        ({"event": "CUSTOM", "headers": {"a": None}}, "headers must be an object of strings, numbers, and booleans"),
        ({"event": "CUSTOM", "headers": {"": "a"}}, "headers must be an object of strings, numbers, and booleans"),
        ({"event": "CUSTOM", "headers": {"a:b": "c"}}, "headers: a name must be 1 to 128 letters, digits, _ and -"),
        ({"event": "CUSTOM", "headers": {"a" * 129: "c"}}, "headers: a name must be 1 to 128 letters, digits, _ and -"),
        ({"event": "CUSTOM", "headers": {"a\n": "c"}}, "headers must not contain line breaks or NUL"),
        ({"event": "CUSTOM", "headers": {"a": "b\nc: d"}}, "headers must not contain line breaks or NUL"),
        ({"event": "CUSTOM", "headers": {"a": "b\u0000"}}, "headers must not contain line breaks or NUL"),
        ({"event": "CUSTOM", "headers": {"content-LENGTH": "5"}}, "headers can't hold content-LENGTH: FreeSWITCH sets"),
        ({"event": "CUSTOM", "headers": {"Event-Date-Timestamp": 1}}, "headers can't hold Event-Date-Timestamp: Free"),
        ({"event": "CUSTOM", "headers": {"Event-Subclass": "a"}}, "headers can't hold Event-Subclass: subclass is for"),
        ({"event": "CUSTOM", "headers": {"a": "mod_event_socket unload"}}, "a command can't hold mod_event_socket"),
        ({"event": "CUSTOM", "body": "a\u0000"}, "body must not contain NUL"),
        ({"event": "CUSTOM", "body": ["a"]}, "body must be a string"),
    ],
)  # fmt: skip
def test_what_can_not_be_fired(agent: Agent, client: Client, fields: dict[str, Any], message: str) -> None:
    reply = client.request("sendevent", fields=fields)
    assert reply["success"] is False and reply["message"].startswith(message), reply
    assert client.request("status")["success"] is True


def test_the_lists_hold_for_it(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client
) -> None:
    start_agent(nats, switch, subject_prefix="no", node_id="no", api_denylist="sendevent")
    assert client.request("sendevent", None, "no.api", event="CUSTOM")["message"] == "API command 'sendevent' is denied"
    start_agent(nats, switch, subject_prefix="some", node_id="some", api_denylist="fsctl", app_denylist="system")
    chat = {"event": "CUSTOM", "subclass": "SMS::SEND_MESSAGE", "body": "status"}
    for proto in ("api", "%61pi"):
        reply = client.request("sendevent", None, "some.api", fields={**chat, "headers": {"dest_proto": proto}})
        assert reply["message"] == "chat to api is denied: what it would run can't be seen"
    expanded = client.request("sendevent", None, "some.api", event="CUSTOM", headers={"a": "${fsctl(pause)}"})
    assert expanded["message"] == "API command 'fsctl' is denied"
    assert client.request("sendevent", None, "some.api", event="CUSTOM", headers={"a": "b"})["success"] is True


def test_with_our_own_tool(agent: Agent, client: Client, nats: NatsServer) -> None:
    events = client.events("freeswitch.events.custom.shop.tool")
    name = str(uuid4())
    argv = [sys.executable, "-m", "event_agent.ctl", "--url", nats.url, "sendevent", "CUSTOM"]
    argv += ["--subclass", "shop::tool", "-H", f"Name={name}", "--header", "a=b=c", "--body", "x"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    (event,) = events.wait("CUSTOM", Name=name)
    assert event["headers"]["Event-UUID"] == done.stdout.strip() and event["headers"]["a"] == "b=c"
