"""The panel as a process of its own, as its README says to start it, and what is done on its page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.functional.browser import Browser
from tests.functional.parts import ROOT, Client
from tests.support import free_port, until


class Panel:
    """`start`, then `url` is the page's address; `options` are further arguments."""

    def __init__(self, nats_url: str, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._command = [
            sys.executable, str(ROOT / "examples/panel"),
            "--listen", f"127.0.0.1:{self.port}", "--url", nats_url, *options,
        ]  # fmt: skip
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
        self._folder = tempfile.TemporaryDirectory(prefix="event-agent-panel-")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged."""
        return Path(self._folder.name, "log").read_text(errors="replace")

    def start(self) -> Panel:
        """Start it (again, on the same port); returns when it listens."""
        with open(Path(self._folder.name, "log"), "wb") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ
            )
        try:
            until(self._listens, "the panel listens", 60)
        except BaseException:
            self.remove()
            raise
        return self

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        return " panel: http://" in self.log

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C does; the exit code. AssertionError when it takes long."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it did not end in time:\n{self.log[-2000:]}") from None

    def remove(self) -> None:
        """End it, whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._folder.cleanup()


def see(browser: Browser, panel: Panel, *nodes: str, view: str = "engineer") -> None:
    """Open the page; wait until these nodes are there."""
    browser.open("about:blank")  # another view alone would not load it anew
    browser.open(f"{panel.url}#{view}")
    for node in nodes or ("FS-Node-01",):
        linked(browser, node)


def untroubled(browser: Browser, timeout: float = 30.0) -> None:
    try:
        until(lambda: not browser.text("#trouble"), "", timeout)
    except AssertionError:
        raise AssertionError(f"it still says {browser.text('#trouble')!r}") from None


def linked(browser: Browser, node: str) -> None:
    until(lambda: browser.count(f'[data-link="{node}"][data-state="ok"]'), f"{node} is on the page")


def has_row(browser: Browser, uuid: str) -> None:
    until(lambda: browser.count(row_of(uuid)), f"{uuid} is on the page")


def row_of(uuid: str) -> str:
    """The row of the call that this leg is part of: a selector."""
    return f'#calls-rows tr[data-legs~="{uuid}"]'


def call(client: Client, to: str, node: str = "fs_node_01", **fields: Any) -> str:
    """Make a call to an extension of the switch, and leave its calling side parked; the calling side's uuid."""
    reply = client.request(
        "originate", subject=f"freeswitch.node.{node}", fields={"timeout": 20},
        endpoint=f"loopback/{to}/default", extension="&park()", caller_id_number="5551234", **fields, _timeout=30,
    )  # fmt: skip
    assert reply["success"], reply
    return str(reply["data"]["uuid"])


def row_to(browser: Browser, number: str, state: str = "") -> str:
    """The row of the call that came in for this number: a selector. Waits for it."""

    def uuid() -> str:
        script = """return [...document.querySelectorAll('#calls-rows tr')].find((row) =>
            row.querySelector('.c-to').textContent === arguments[0] && row.dataset.state !== 'ended'
            && (!arguments[1] || row.dataset.state === arguments[1]))?.dataset.uuid ?? ''"""
        return str(browser.js(script, number, state))

    found = until(uuid, lambda: f"a call to {number} {state}; these are there: {browser.text('#calls-rows')!r}")
    return f'#calls-rows tr[data-uuid="{found}"]'


def press(browser: Browser, row: str, action: str) -> None:
    """Do something with the row's call: its button, or the one in the dialog with all that can be done."""
    button = f"{row} button[data-act={action}]:not([hidden])"
    if browser.count(button):
        # One that has just come to mean this does nothing for a moment.
        ready = """const button = document.querySelector(arguments[0]);
            return !button || !button.disabled && !(button.settled > performance.now())"""
        until(lambda: browser.js(ready, button), f"{action} can be pressed", 20)
    if browser.count(button):
        browser.click(button)
        return
    browser.click(f"{row} .more")
    browser.click(f"#menu-list button[data-act={action}]")


def my_phone(browser: Browser, phone: str) -> None:
    """Set what rings when a call is taken."""
    browser.click("#prefs-open")
    browser.type("#prefs [name=phone]", phone)
    browser.click("#prefs .main")


def hang_up(browser: Browser, row: str) -> None:
    press(browser, row, "hangup")
    assert browser.text(f"{row} .end") == "Sure?"
    # A double click does not count as a second press.
    until(lambda: browser.count(f"{row} .end[data-armed=ready]"), "it can be pressed again")
    press(browser, row, "hangup")
