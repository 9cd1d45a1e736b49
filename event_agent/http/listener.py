"""The process's HTTP listener as a part: its address, and what is answered there. Others register their routes.

A port that is taken is said once and tried again; everything else runs meanwhile. Routes may be added until `start`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from event_agent.http.server import HttpServer, Route
from event_agent.runtime.health import STUCK, Echo, Signs, Watched

log = logging.getLogger(__name__)

AGAIN = 10.0  # seconds between two tries to get a port that is taken


class HttpListener:
    """One listener, or none at all; its thread is `http`."""

    name = "http"

    def __init__(self, address: tuple[str, int] | None, again: float = AGAIN) -> None:
        """`address` None: there is none. `again`: seconds between two tries."""
        self._address = address
        self._again = again
        self._routes: dict[tuple[str, str], Route] = {}
        self._server: HttpServer | None = None
        self._opened: list[Callable[[], None]] = []
        self.where = _where(address)

    @property
    def wanted(self) -> bool:
        """False if the settings say that there is none."""
        return self._address is not None

    @property
    def fault(self) -> str:
        """Why nobody can ask here; empty while somebody can."""
        if self._address is None:
            return "http_listen is empty"
        if self._server is None or not self._server.fault:
            return ""
        return f"{self.where} can't be listened on: {self._server.fault}"

    def route(self, method: str, path: str, route: Route) -> None:
        """What answers this; before `start`. HEAD is answered as GET, without the body."""
        self._routes[method, path] = route

    def on_open(self, opened: Callable[[], None]) -> None:
        """Called when it listens: by `start`, or later on its thread. Before `start`."""
        self._opened.append(opened)

    def start(self) -> None:
        """Listen; returns at once."""
        if self._address is None:
            return
        self._server = HttpServer(self._routes, self._tell)
        self._server.start(*self._address, again=self._again)
        if self.fault:
            if self._server.taken:
                log.error(
                    "no park mode, /health or /metrics: another program listens on %s (http_listen); "
                    "trying every %g s", self.where, self._again,
                )  # fmt: skip
            else:
                log.error(
                    "no park mode, /health or /metrics: %s (http_listen); trying every %g s", self.fault, self._again
                )

    def stop(self, timeout: float) -> None:
        """End the thread and close everything, within `timeout` seconds."""
        if self._server is not None:
            self._server.stop(timeout)

    def signs(self) -> Signs:
        """By which its thread is known to be alive: it answers, however many connections wait."""
        if self._address is None:
            return Signs()
        return Signs((self.name,), (Watched(f"thread {self.name}", STUCK, Echo(self._ask)),))

    def _tell(self) -> None:
        for opened in self._opened:
            opened()

    def _ask(self, answered: Callable[[], None]) -> None:
        if self._server is None:
            answered()
        else:
            self._server.ask(answered)


def _where(address: tuple[str, int] | None) -> str:
    if address is None:
        return ""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
