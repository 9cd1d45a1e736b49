"""What a supervisor does with calls on the panel, and what the panel says became of it, in a real browser."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from typing import Any

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, my_phone, press, row_of, row_to, see
from tests.functional.parts import Agent, Client
from tests.support import until

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")

PHONE = "loopback/park/default"


def act(panel: Panel, action: str, uuid: str, **more: Any) -> dict[str, Any]:
    """What another supervisor's page does."""
    body = json.dumps({"action": action, "node": "FS-Node-01", "uuid": uuid, **more}).encode()
    headers = {"Content-Type": "application/json", "Origin": panel.url.rstrip("/")}
    with urllib.request.urlopen(urllib.request.Request(f"{panel.url}act", body, headers), timeout=90) as answer:
        return dict(json.load(answer))


def waiting(browser: Browser, client: Client, name: str) -> str:
    """The row of a caller who waits."""
    row = row_of(call(client, "park", caller_id_name=name))
    # Both ends of the loopback are parked; the row is about the caller as soon as that end is known.
    until(lambda: browser.count(f"{row}[data-state=parked] [data-act=take]"), f"{name} waits", 20)
    return row


def test_taken_to_my_phone(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    row = waiting(browser, client, "Ada Lovelace")
    browser.sees("#calls-count", "1 call · 1 waiting", 20)
    # Without a phone it is asked for, and then called: one that is not registered loses no caller.
    press(browser, row, "take")
    browser.type("#prefs [name=phone]", "user/1000")
    browser.press("enter")
    browser.sees("#notices .bad", "user/1000 is not registered. The call is where it was.", 20)
    assert browser.count(f"{row}[data-state=parked]")
    browser.click("#notices .bad button")
    my_phone(browser, PHONE)
    press(browser, row, "take")
    browser.sees("#notices", f"talks to {PHONE}", 20)
    until(lambda: browser.count(f"{row}[data-state=active]"), "it is shown", 20)
    browser.sees("#calls-count", "1 call", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_two_take_the_same_call(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    row = waiting(browser, client, "Ada Lovelace")
    inbound = str(browser.js("return document.querySelector(arguments[0]).dataset.uuid", row))
    outcome: list[dict[str, Any]] = []
    other = threading.Thread(
        target=lambda: outcome.append(act(panel, "take", inbound, phone="loopback/ring/default")), name="other-page"
    )
    other.start()
    browser.sees(row, "loopback/ring/default is taking it", 20)
    until(lambda: browser.count(f"{row} [data-act=take]:disabled"), "it can't be taken here", 20)
    assert act(panel, "take", inbound, phone=PHONE)["say"] == "act.taken"
    client.request("hupall")
    other.join(60)
    assert [each["ok"] for each in outcome] == [False]
    browser.sees("#calls-empty", "No calls.", 20)


def test_a_transfer_is_followed(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    row = waiting(browser, client, "Ada Lovelace")
    press(browser, row, "transfer")
    browser.click("#transfer [value=phone]")
    browser.type("#transfer [name=target]", "user/1001")
    browser.press("enter")
    browser.sees("#notices .bad", "user/1001 is not registered. The call is where it was.", 20)
    browser.click("#notices .bad button")
    press(browser, row, "transfer")
    browser.type("#transfer [name=target]", "park")
    browser.press("enter")
    browser.sees("#notices .done", "waits at park", 20)
    press(browser, row, "transfer")
    browser.type("#transfer [name=target]", "nosuch")
    browser.press("enter")
    browser.sees("#notices .bad", "nosuch does not exist. The caller has been disconnected.", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_nothing_can_be_pressed_that_can_not_work(
    browser: Browser, panel: Panel, agent: Agent, client: Client, start_agent: Any, nats: Any, own_switch: Any
) -> None:
    second = start_agent(nats, own_switch, node_id="second")
    see(browser, panel, "FS-Node-01", "second", view="supervisor")
    call(client, "park", "second", caller_id_name="Grace Hopper")
    row = row_to(browser, "park", "parked")
    until(lambda: browser.count(f"{row} button:enabled") >= 3, "it can be used", 20)
    own_switch.freeze()
    try:
        browser.sees("#trouble", "second: FreeSWITCH does not answer since", 20)
        until(lambda: not browser.count(f"{row} button:enabled"), "it is dark while FreeSWITCH is frozen", 20)
    finally:
        own_switch.thaw()
    until(lambda: browser.count(f"{row} button:enabled") >= 3, "it can be used again", 20)
    assert second.process
    second.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not browser.count(f"{row} button:enabled"), "it is dark while the agent is frozen", 20)
        browser.sees("#trouble", "second: its agent does not answer since", 20)
        title = str(browser.js("return document.querySelector(arguments[0]).title", row))
        assert "its agent does not answer since" in title
    finally:
        second.process.send_signal(signal.SIGCONT)
    until(lambda: browser.count(f"{row} button:enabled") >= 3, "it can be used again", 20)
    second.kill()
    until(lambda: not browser.count(f"{row} button:enabled"), "it can't be used", 20)
    browser.sees("#trouble", "second: its agent does not answer", 20)
    browser.sees("#trouble", "since", 20)


def test_consulted_listened_to_and_lost(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    row = waiting(browser, client, "Ada Lovelace")
    my_phone(browser, PHONE)
    press(browser, row, "take")
    until(lambda: browser.count(f"{row}[data-state=active]"), "it is taken", 20)
    press(browser, row, "listen")
    browser.sees("#notices", f"{PHONE} listens", 20)
    browser.sees(f"{row} .now", "listens", 20)
    # To somebody who is not there: back with the caller at once.
    press(browser, row, "consult")
    browser.type("#transfer [name=target]", "user/1001")
    browser.press("enter")
    browser.sees("#notices .bad", "user/1001 is not registered. The call is where it was.", 20)
    until(lambda: browser.count(f"{row}[data-state=active]"), "they talk again", 20)
    press(browser, row, "consult")
    browser.type("#transfer [name=target]", PHONE)
    browser.press("enter")
    browser.sees(f"{row} .now", f"on hold while {PHONE} is asked", 20)
    press(browser, row, "connect")
    browser.sees("#notices", f"talks to {PHONE}", 20)
    until(lambda: browser.count(f"{row}[data-state=active]"), "they talk", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)
    # Who talked is not lost, who went while waiting is.
    assert "Ada" not in browser.text("#lost-rows")
    uuid = call(client, "park", caller_id_name="Grace Hopper")
    until(lambda: browser.count(f"{row_of(uuid)}[data-state=parked]"), "she waits", 20)
    client.request("hangup", fields={"uuid": uuid})
    browser.sees("#lost-rows", "Grace Hopper 5551234", 20)
    browser.click("#lost-rows button")
    browser.sees("#notices", "calls 5551234", 20)
    browser.sees("#lost-rows", f"called back by {PHONE}", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_a_consultation_that_goes_otherwise(
    browser: Browser, panel: Panel, agent: Agent, client: Client, real: bool
) -> None:
    """Each of the three may be busy, not answer or hang up: it is said what is so, and nobody is left in silence."""
    see(browser, panel, view="supervisor")

    def taken(name: str) -> tuple[str, str]:
        row = waiting(browser, client, name)
        uuid = str(browser.js("return document.querySelector(arguments[0]).dataset.uuid", row))
        assert act(panel, "take", uuid, phone=PHONE)["ok"]
        until(lambda: browser.count(f"{row}[data-state=active]"), "it is taken", 20)
        return row, uuid

    def asked(uuid: str, target: str) -> tuple[threading.Thread, list[dict[str, Any]]]:
        outcome: list[dict[str, Any]] = []
        thread = threading.Thread(
            target=lambda: outcome.append(act(panel, "consult", uuid, target=target)), name="other-page"
        )
        thread.start()
        return thread, outcome

    row, uuid = taken("Ada Lovelace")
    outcome = act(panel, "consult", uuid, target="error/user_busy")
    assert (outcome["say"], outcome["words"]["cause"]) == ("act.cause", "USER_BUSY")
    until(lambda: browser.count(f"{row}[data-state=active]"), "they talk again", 20)

    # Back while it rings: it rings no longer, and takes nobody away when it is answered.
    thread, said = asked(uuid, "loopback/ring/default")
    browser.sees(f"{row} .now", "on hold while loopback/ring/default rings", 20)
    assert browser.count(f"{row} [data-act=connect]:disabled")
    press(browser, row, "back")
    browser.sees("#notices", "back with the caller", 20)
    thread.join(60)
    assert [(each["ok"], each["say"]) for each in said] == [(True, "act.consult_over")]
    until(lambda: "ring" not in client.request("show", "channels as json")["data"], "it rings no longer", 20)

    # The one that is asked hangs up.
    assert act(panel, "consult", uuid, target=PHONE)["say"] == "act.consults"
    browser.sees(f"{row} .now", f"on hold while {PHONE} is asked", 20)
    consult = """const { store } = await import('/store.js');
        return [...store.calls.values()].find((leg) => leg.consult).consult"""
    client.request("hangup", fields={"uuid": browser.js(consult)["to"]})
    if real:  # the simulator knows no park_after_bridge: there our side ends with it
        browser.sees(f"{row} .now", f"{PHONE} has hung up", 20)
        assert browser.count(f"{row} [data-act=connect]:disabled")
        press(browser, row, "back")
        browser.sees("#notices .notice:last-child", "back with the caller", 20)
        client.request("hangup", fields={"uuid": uuid})
        until(lambda: client.request("show", "channels count")["data"].strip() == "0 total.", "nobody is left", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)

    # The caller hangs up while the phone rings: it stops, and our side is not left alone.
    row, uuid = taken("Grace Hopper")
    thread, said = asked(uuid, "loopback/ring/default")
    browser.sees(f"{row} .now", "rings", 20)
    client.request("hangup", fields={"uuid": uuid})
    thread.join(60)
    assert [(each["ok"], each["say"]) for each in said] == [(False, "act.ended")]
    until(lambda: client.request("show", "channels count")["data"].strip() == "0 total.", "all have ended", 20)
    browser.sees("#calls-empty", "No calls.", 20)
