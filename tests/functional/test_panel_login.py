"""Logging in to the panel in a real browser: what is seen before, what a role may, and a session that ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, row_of
from tests.functional.parts import Agent, Client, NatsServer
from tests.support import until

users = pytest.importorskip("examples.panel.users", reason="not a checkout")

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "users"
    for name, role in (("vic", "viewer"), ("sue", "supervisor"), ("eng", "engineer")):
        users.put(found, name, role, f"{name}-password")
    return found


@pytest.fixture
def guarded(nats: NatsServer, path: Path) -> Iterator[Panel]:
    """A panel with users."""
    found = Panel(nats.url, "--users", str(path)).start()
    yield found
    try:
        assert found.stop() == 0
    finally:
        found.remove()


def login(browser: Browser, name: str, password: str = "") -> None:
    browser.type("#login [name=name]", name)
    browser.type("#login [name=password]", password or f"{name}-password")
    browser.press("enter")


def test_logged_in_by_role_until_the_session_ends(
    browser: Browser, guarded: Panel, path: Path, agent: Agent, client: Client
) -> None:
    uuid = call(client, "park", caller_id_name="Ada Lovelace")
    row = row_of(uuid)
    browser.open(guarded.url)
    login(browser, "vic", "wrong")
    browser.sees("#login-fault", "Wrong name or password", 20)
    assert not browser.count(row)
    login(browser, "vic")
    until(lambda: browser.count(row), "the call is seen", 20)
    browser.sees("#who", "vic (viewer)", 20)
    assert not browser.count(f"{row} button:not([hidden])")
    assert not browser.js("return document.querySelector('#dial').checkVisibility()")
    browser.click("#logout")
    login(browser, "sue")
    until(lambda: browser.count(f"{row} button:not([hidden])"), "a supervisor may act", 20)
    browser.js("location.hash = 'engineer'")
    assert browser.js("return document.body.dataset.view") == "supervisor"
    # Taken out of the file: the page says so at once, and nothing is done any more.
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("sue")))
    until(lambda: browser.count("#login[open]"), "it is to log in again", 20)
    browser.sees("#trouble", "You are not logged in. This page is out of date since", 20)
    until(lambda: not browser.count(f"{row} button:enabled"), "nothing can be pressed", 20)
    login(browser, "eng")
    until(lambda: browser.count(f"{row} button:enabled"), "it goes on", 20)
    # The session ends in the middle of a click: one message, and the call is where it was.
    browser.js("""const headers = { "Content-Type": "application/json" };
        await fetch("logout", { method: "POST", headers, body: "{}" });
        document.querySelector(arguments[0] + " [data-act=transfer]").click();
        document.querySelector("#transfer [name=target]").value = "9196";
        document.querySelector("#transfer .main").click();""", row)
    browser.sees("#login-fault", "what you pressed was not done", 20)
    assert not browser.count("#notices .notice") and browser.count("dialog[open]") == 1
    assert "true" in client.request("uuid_exists", uuid)["data"]
    login(browser, "eng")
    until(lambda: browser.count(f"{row} button:enabled"), "it goes on", 20)
    browser.sees("#who", "eng (engineer)", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)
    assert "login='vic' result=err" in guarded.log and "password" not in guarded.log
