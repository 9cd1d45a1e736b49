"""A real browser for tests: Debian's chromium, driven by its chromedriver over W3C WebDriver (plain HTTP and JSON).

https://www.w3.org/TR/webdriver2/; the `goog/cdp` command is chromedriver's own. Each browser has a chromedriver
process and a profile of its own, both gone at the end. A driver library would bring some fifteen packages for this.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support import free_port, until

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that the standard gives an element's reference
KEYS = {
    "up": "\ue013",
    "down": "\ue015",
    "enter": "\ue007",
    "escape": "\ue00c",
    "right": "\ue014",
    "left": "\ue012",
    "tab": "\ue004",
    "home": "\ue011",
    "end": "\ue010",
    "shift": "\ue008",
}

# As root and in a container chromium can't make its sandbox; the pages it sees here are ours.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--force-device-scale-factor=1", "--lang=en-US",
)  # fmt: skip


def missing() -> str:
    """What there is not, for pytest to say; nothing where all is there."""
    names = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    left = [package for name, package in names.items() if shutil.which(name) is None]
    return f"{' and '.join(left)} {'is' if len(left) == 1 else 'are'} not installed" if left else ""


class BrowserError(Exception):
    """What the browser says it could not do."""


class Browser:
    """One window; `start`, or a `with` statement."""

    def __init__(self, width: int = 1440, height: int = 900, *, dark: bool = False, phone: bool = False) -> None:
        self._port = free_port()
        self._size = (width, height)
        self._dark = dark
        self._phone = phone
        self._folder = Path(tempfile.mkdtemp(prefix="event-agent-chromium-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._session = ""

    def start(self) -> Browser:
        environ = {**os.environ, "HOME": str(self._folder)}
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("chromedriver") or "chromedriver", f"--port={self._port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True,
            )  # fmt: skip
        until(self._ready, "chromedriver is ready")
        options = {
            "binary": shutil.which("chromium"),
            "args": [*OPTIONS, f"--user-data-dir={self._folder / 'profile'}", "--window-size=1440,900"],
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}}, timeout=60)
        self._session = f"/session/{answer['sessionId']}"
        self.resize(*self._size)
        self.scheme(self._dark)
        return self

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._ask("GET", "/status")["ready"])
        return False

    def stop(self) -> None:
        """End the browser, its driver, and all that they have started; remove the profile."""
        if self._session:
            with contextlib.suppress(OSError, BrowserError):
                self._ask("DELETE", self._session)
            self._session = ""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Browser:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: object = None, timeout: float = 30.0) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            data = None if method != "POST" else json.dumps(body or {}).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise BrowserError(f"{value['error']}: {value.get('message', '')[:500]}")
        return value

    def _post(self, path: str, body: object = None) -> Any:
        return self._ask("POST", f"{self._session}/{path}", body)

    # -- the window

    def resize(self, width: int, height: int) -> None:
        """The size of the page itself, whatever the smallest window is."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=self._phone)  # fmt: skip

    def scheme(self, dark: bool, *, still: bool = False) -> None:
        """Dark or light colours; `still` asks for reduced motion."""
        wanted = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce" if still else "no-preference"}
        features = [{"name": f"prefers-{name}", "value": value} for name, value in wanted.items()]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url: str) -> None:
        self._post("url", {"url": url})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser's console has said since the last call: faults of scripts, refusals of the policy."""
        return [f"{each['level']}: {each['message']}" for each in self._post("se/log", {"type": "browser"})]

    def cpu(self) -> float:
        """Seconds of CPU that the page's main thread has used."""
        found = [0]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes()
                if b"--type=renderer" in line and bytes(self._folder) in line:
                    found.append(int((path.parent / "task" / path.parent.name / "schedstat").read_text().split()[0]))
        return max(found) / 1e9

    # -- the page

    def js(self, script: str, *arguments: object) -> Any:
        """What a function with this body returns."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css: str) -> str:
        """The first element that is seen; waits for it. Returns its reference."""

        def found() -> str:
            for each in self._post("elements", {"using": "css selector", "value": css}):
                with contextlib.suppress(BrowserError):  # it has gone meanwhile
                    if self._ask("GET", f"{self._session}/element/{each[ELEMENT]}/displayed"):
                        return str(each[ELEMENT])
            return ""

        return until(found, f"{css} is on the page")

    def click(self, css: str) -> None:
        """As a user does: refused where something else lies over it. Tried again while the page moves."""

        def clicked() -> bool:
            with contextlib.suppress(BrowserError):
                self._post(f"element/{self.find(css)}/click")
                return True
            return False

        until(clicked, f"{css} can be clicked")

    def type(self, css: str, text: str, *, clear: bool = True) -> None:
        """Into a field, key by key; KEYS has names for those that are no text."""
        element = self.find(css)
        if clear:
            self._post(f"element/{element}/clear")
        self._post(f"element/{element}/value", {"text": text})

    def press(self, *keys: str, held: str = "") -> None:
        """Keys for whatever has the focus, by their names in KEYS; `held` is one that is down meanwhile."""
        actions = [{"type": kind, "value": KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")]
        if held:
            actions = [{"type": "keyDown", "value": KEYS[held]}, *actions, {"type": "keyUp", "value": KEYS[held]}]
        self._post("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def keys(self, text: str) -> None:
        """Text for whatever has the focus."""
        actions = [{"type": kind, "value": each} for each in text for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def text(self, css: str) -> str:
        """All that is seen in the first element; empty where there is none."""
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def value(self, css: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.value ?? ''", css))

    def count(self, css: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", css))

    def sees(self, css: str, text: str, timeout: float = 30.0) -> str:
        """Wait until the element's text has `text` in it; returns all of it."""

        def seen() -> str:
            found = self.text(css)
            return found if text in found else ""

        try:
            return until(seen, "", timeout)
        except AssertionError:
            raise AssertionError(f"{css} does not say {text!r} but {self.text(css)!r}") from None
