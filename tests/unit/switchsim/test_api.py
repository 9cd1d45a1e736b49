"""Verbs of the simulator."""

from __future__ import annotations

import json
import time

import pytest

from tests.switchsim import SwitchSim
from tests.unit.switchsim.parts import Client, parked, wait_until

# --- API -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("global_setvar colour=blue", "+OK"),
        ("eval ${colour} $${colour:0:2}", "blue bl"),
        ("expand echo <${colour}>", "<blue>"),
        ("eval ${echo(a ${colour})}", "a blue"),
        ("eval ${nothing}", "-ERR no reply\n"),
        ("global_setvar colour=", "+OK"),
        ("global_getvar colour", "-ERR no reply\n"),
        ("expr (2+3)*4-1", "19"),
        ("expr 1/0", "ERR"),
        ("strftime 0|%Y", time.strftime("%Y", time.localtime(0))),
        ("module_exists mod_sofia", "true"),
        ("unload mod_sofia", "+OK\n"),
        ("unload mod_sofia", "-ERR [No such module!]\n"),
        ("load mod_sofia", "+OK Reloading XML\n+OK\n"),
        ("load mod_sofia", "+OK Reloading XML\n-ERR [Module already loaded]\n"),
        ("reload mod_sofia", "+OK Reloading XML\n+OK module unloaded\n+OK module loaded\n"),
        ("show channels count", "\n0 total.\n"),
        ("show nonsense", "-USAGE: codec|"),
        ("uuid_getvar x", "-USAGE: <uuid> <var>\n"),
        ("uuid_bridge a b", "-ERR Invalid uuid\n"),
        ("uuid_broadcast a b", "-ERR invalid uuid\n"),
        ("uuid_transfer a b", "-ERR No such channel!\n"),
        ("VERSION short", "1.10.12\n"),
        (" ", "-ERR  Command not found!\n"),
    ],
)
def test_api_output(client: Client, command: str, output: str) -> None:
    if command.startswith(("eval", "expand", "global_setvar")) or "colour" in command:
        client.api("global_setvar colour=blue")
    if command.startswith("global_getvar colour"):
        client.api("global_setvar colour=")
    if command == "load mod_sofia" and output.endswith("+OK\n") or output.startswith("-ERR [No"):
        client.api("unload mod_sofia")
    assert client.api(command).startswith(output)


def test_lists_as_json(sim: SwitchSim, client: Client) -> None:
    names = {row["name"] for row in json.loads(client.api("show application as json"))["rows"]}
    assert {"park", "playback", "set", "bridge", "hangup"} <= names
    assert len(names) > 140
    uuid = sim.call()
    parked(sim, uuid)
    shown = json.loads(client.api("show channels as json"))
    assert shown["row_count"] == 2
    assert {row["uuid"] for row in shown["rows"]} == set(sim.channels)
    assert client.api("show channels").endswith("\n\n2 total.\n")
    assert "RUNNING" in client.api("sofia status")


def test_interfaces_of_all_types_come_and_go_with_their_modules(sim: SwitchSim, client: Client) -> None:
    def rows() -> list[dict[str, str]]:
        answer = json.loads(client.api("show interfaces as json"))
        assert answer["row_count"] == len(answer["rows"])
        return list(answer["rows"])

    found = rows()
    assert all(list(row) == ["type", "name", "ikey"] for row in found)
    assert {"api", "application", "chat", "codec", "dialplan", "endpoint", "file", "timer"} <= {
        row["type"] for row in found
    }
    assert {"type": "application", "name": "hash", "ikey": "mod_hash"} in found
    assert {"type": "application", "name": "page", "ikey": "mod_dptools"} in found  # it has no description, so …
    shown = {row["name"] for row in json.loads(client.api("show application as json"))["rows"]}
    assert "hash" in shown and "page" not in shown
    client.api("unload mod_hash")
    assert not [row for row in rows() if row["ikey"] == "mod_hash"]
    uuid = sim.call("sim/x", "&park()")
    assert client.command(f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: hash") == "+OK"
    wait_until(lambda: uuid not in sim.channels, "an application that went with its module hangs up")


def test_status_is_answered(sim: SwitchSim, client: Client) -> None:
    assert client.api("status").startswith("UP 0 years, ")


def test_every_verb_fires_an_api_event_and_is_counted(sim: SwitchSim, client: Client) -> None:
    client.command("event json API MODULE_LOAD MODULE_UNLOAD RELOADXML")
    client.api("echo  a b ")
    event = client.event("API")
    assert (event["API-Command"], event["API-Command-Argument"]) == ("echo", "a b")
    client.api("reload mod_sofia")
    assert client.event()["Event-Name"] == "RELOADXML"
    brought = [client.event() for _ in range(12)]  # one event for each interface of the module
    assert [event["Event-Name"] for event in brought] == ["MODULE_UNLOAD"] * 6 + ["MODULE_LOAD"] * 6
    assert {(event["type"], event["name"]) for event in brought} >= {("application", "sofia_sla"), ("api", "sofia")}
    assert client.event()["Event-Name"] == "API"
    assert sim.api_calls["echo"] == sim.api_calls["reload"] == 1


def test_a_slow_verb_holds_up_its_own_connection_only(sim: SwitchSim, client: Client) -> None:
    with Client(sim) as other:
        client.send("api echo first\n\napi msleep 150\n\napi echo last\n\n")
        assert client.read().body == b"first"  # does not wait for what comes behind it
        start = time.perf_counter()
        assert other.api("echo quick") == "quick"
        assert time.perf_counter() - start < 0.1
        assert [client.read().body for _ in range(2)] == [b"+OK", b"last"]
        assert time.perf_counter() - start > 0.1


def test_bgapi_does_not_hold_up_its_connection(sim: SwitchSim, client: Client) -> None:
    client.command("event json BACKGROUND_JOB")
    assert client.command("bgapi msleep 100\nJob-UUID: slow") == "+OK Job-UUID: slow"
    assert client.command("bgapi echo quick") != ""
    assert client.api("echo now") == "now"
    assert [client.event()["Job-Command"] for _ in range(2)] == ["echo", "msleep"]


def test_delay_of_a_verb(sim: SwitchSim, client: Client) -> None:
    sim.delay("Echo", 0.05)
    start = time.perf_counter()
    client.api("echo x")
    assert time.perf_counter() - start >= 0.05
    sim.delay("echo", 0)
    assert sim.switch.delays == {}
