"""The panel's HTTP server: the page's files, a stream of what happens for each page, and commands.

GET  /                the page; its other files stand beside it in static/
GET  /stream          server-sent events: links, calls, events, call, gone, tick
GET  /event?id=N      one event whole
POST /command         {"request": {"command": …}, "node": "fs-node-01" or null} -> {"ok": …, "reply": …, "error": …}
POST /act             {"action": "take", "node": …, "uuid": …, …} -> {"ok": …, "say": …, "words": {…}}, see actions.py
POST /forget          {"node": …}: take a node that is away off the page

One request a connection, each on a thread panel-request-N of its own, of which there are at most CONNECTIONS. A whole
request has ASK seconds, however its bytes come. When there are too many connections, the one that has been longest
without a whole request is closed; if all have asked, a new one gets 503.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from event_agent.client import AgentTimeout, NoAgent
from event_agent.errors import AgentError, LinkError

from . import guard
from .actions import Actions
from .hub import message
from .world import World

log = logging.getLogger(__name__)

STATIC = Path(__file__).resolve().parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
CONNECTIONS = 64
ASK = 10.0  # seconds from a connection to the end of its request
HEAD = 131_072  # bytes of a request without its body
DIGITS = 100  # of an event's number
ROOM = 1.0  # seconds that a thread has to end whose connection is closed to make room
TAKE = 20.0  # seconds it may take to receive what is sent at a time
WAIT = 35.0  # seconds for a command; the agents give up on FreeSWITCH after 30
RINGS = 60.0  # seconds that a call rings where nobody says how long
MARGIN = 15.0  # seconds beyond the ringing time of an originate

# Nothing but what is ours, nothing inline, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Connection": "close",
}
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Command = Callable[[Mapping[str, Any], str | None, float], Mapping[str, Any] | None]


class Server(HTTPServer):
    """Listens; `serve_forever` runs it until `shutdown`. Raises OSError where the address can't be had."""

    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], world: World, command: Command, names: tuple[str, ...] = ()) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        self.world = world
        self.command = command
        self.actions = Actions(world, command)
        self.hosts = guard.hosts(address[0], self.server_port, names)
        # A fixed list of names: no path from a request ever reaches the file system.
        self.files = {f"/{path.name}": path for path in STATIC.iterdir() if path.suffix in TYPES}
        self.files["/"] = self.files.pop("/index.html")
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._asking: dict[socket.socket, float] = {}  # connections without a whole request, and by when it must come
        self._lock = threading.Lock()  # guards that
        self._numbers = itertools.count(1)

    def server_bind(self) -> None:
        # Without the reverse look-up of the standard one, which may take long.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not (self._slots.acquire(blocking=False) or (self._make_room() and self._slots.acquire(timeout=ROOM))):
            with suppress(OSError):
                request.settimeout(0.2)
                request.sendall(BUSY)
            self.shutdown_request(request)
            return
        with self._lock:
            self._asking[request] = time.monotonic() + ASK
        threading.Thread(
            target=self._serve,
            args=(request, client_address),
            name=f"panel-request-{next(self._numbers)}",
            daemon=True,
        ).start()

    def asked(self, request: socket.socket) -> None:
        """Its whole request is here; or it is at its end."""
        with self._lock:
            self._asking.pop(request, None)

    def service_actions(self) -> None:
        """Now and then, by `serve_forever`."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, by in self._asking.items() if by <= now]
        for request in late:
            self._cut(request)

    def _make_room(self) -> bool:
        """Close the connection that has been longest without a whole request; False if there is none."""
        with self._lock:
            oldest = next(iter(self._asking), None)
        if oldest is not None:
            self._cut(oldest)
        return oldest is not None

    def _cut(self, request: socket.socket) -> None:
        """Its thread finds the connection at its end."""
        self.asked(request)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as error:  # mostly a browser that has gone
            log.debug("%s: %s", client_address, error)
        except Exception:
            log.exception("unhandled exception in a request")
        finally:
            self.asked(request)
            self.shutdown_request(request)
            self._slots.release()


class _Head:
    """The lines of a request, of which there may be HEAD bytes; the standard server bounds each line only."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = HEAD

    def readline(self, size: int = -1) -> bytes:
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("header")  # which the standard server answers
        return line

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class Handler(BaseHTTPRequestHandler):
    """One request. On its own thread."""

    server: Server
    server_version = "event-agent-panel"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = ASK
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.rfile = _Head(self.rfile)  # type: ignore[assignment]

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":  # its answers have no headers, and so none of ours
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        self.close_connection = True
        self.connection.settimeout(TAKE)
        if self.command != "POST":
            self.server.asked(self.connection)
        return True

    def do_GET(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._fault(HTTPStatus.BAD_REQUEST, "not a path that is understood here")
            return
        if self._refuse(url.path):
            return
        if url.path in self.server.files:
            self._file(self.server.files[url.path])
        elif url.path == "/stream":
            self._stream()
        elif url.path == "/event":
            text = parse_qs(url.query).get("id", [""])[0]
            if len(text) > DIGITS:
                self._fault(HTTPStatus.BAD_REQUEST, f"id must be a number of at most {DIGITS} digits")
                return
            found = self.server.world.whole_event(int(text)) if text.isascii() and text.isdecimal() else None
            if found is None:
                self._fault(HTTPStatus.NOT_FOUND, "that event is not kept any more")
            else:
                self._answer(HTTPStatus.OK, found, "application/json")
        else:
            self._fault(HTTPStatus.NOT_FOUND, "nothing here")

    def do_POST(self) -> None:
        if self._refuse(self.path):
            return
        size = guard.length(self.headers)
        if isinstance(size, tuple):
            self._fault(*size)
            return
        body = self.rfile.read(size)
        self.server.asked(self.connection)
        try:
            asked = json.loads(body) if len(body) == size else None
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            self._fault(HTTPStatus.BAD_REQUEST, "not a JSON object")
        elif self.path == "/command":
            self._command(asked.get("request"), asked.get("node"))
        elif self.path == "/act":
            self._act(asked)
        elif self.path == "/forget":
            done = self.server.world.forget(str(asked.get("node")))
            self._json({"ok": done, "error": "" if done else "that node is there, or not known"})
        else:
            self._fault(HTTPStatus.NOT_FOUND, "nothing here")

    # -- the parts

    def _file(self, path: Path) -> None:
        self._answer(HTTPStatus.OK, path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8")

    def _stream(self) -> None:
        joined = self.server.world.join()
        if joined is None:
            self._fault(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
            return
        page, picture = joined
        try:
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream; charset=utf-8")
            self.send_header("X-Accel-Buffering", "no")  # nginx would hold it back
            self.end_headers()
            self.wfile.write(picture)
            while (data := page.take()) is not None:
                self.wfile.write(data or message("tick", {}))
        finally:
            self.server.world.hub.leave(page)
        log.info("a page was cut off: %s", page.cut)

    def _command(self, request: object, node: object) -> None:
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            self._fault(HTTPStatus.BAD_REQUEST, "request must be an object with a command")
            return
        if node is not None and not isinstance(node, str):
            self._fault(HTTPStatus.BAD_REQUEST, "node must be a string or null")
            return
        wait = WAIT
        if request["command"].lower() == "originate":
            wait = _ringing(request.get("timeout")) + MARGIN
        status, result = HTTPStatus.OK, "ok"
        answer: dict[str, object]
        try:
            reply = self.server.command(request, node or None, wait)
            answer = {"ok": reply is None or bool(reply.get("success")), "reply": reply}
        except NoAgent:
            status, answer = HTTPStatus.BAD_GATEWAY, {"ok": False, "error": f"nobody listens for {node or 'any node'}"}
        except AgentTimeout as error:
            status, answer = HTTPStatus.GATEWAY_TIMEOUT, {"ok": False, "error": str(error)}
        except LinkError as error:
            status, answer = HTTPStatus.SERVICE_UNAVAILABLE, {"ok": False, "error": str(error)}
        except (AgentError, ValueError, RecursionError) as error:
            status, answer = HTTPStatus.BAD_REQUEST, {"ok": False, "error": str(error)}
        if not answer["ok"]:
            result = "err"
        # Written so that no name can forge a line; what the command was given is nobody's business.
        log.info("command=%r node=%r result=%s from=%s", request["command"][:64], (node or "any")[:64], result,
                 self.client_address[0])  # fmt: skip
        self._json(answer, status)

    def _act(self, asked: Mapping[str, object]) -> None:
        outcome = self.server.actions.do(asked, "")
        log.info("action=%r node=%r uuid=%r result=%s said=%s from=%s", str(asked.get("action"))[:32],
                 str(asked.get("node"))[:64], str(asked.get("uuid"))[:64], "ok" if outcome["ok"] else "err",
                 outcome["say"], self.client_address[0])  # fmt: skip
        self._json(outcome)

    # -- answers

    def _refuse(self, path: str) -> bool:
        refusal = guard.refused(self.command, path, self.headers, self.server.hosts)
        if refusal is not None:
            log.warning("refused from %s: %s", self.client_address[0], refusal[1])
            self._fault(*refusal)
        return refusal is not None

    def _fault(self, status: HTTPStatus, text: str) -> None:
        self._json({"ok": False, "error": text}, status)

    def _json(self, value: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard server finds wrong: a method that is none, a line too long."""
        self.close_connection = True
        self.request_version = self.protocol_version  # what was asked in may not be one that has headers
        with suppress(OSError):
            self._fault(HTTPStatus(code), "not a request that is understood here")

    def log_message(self, format: str, *args: Any) -> None:
        """The standard server's line for each request, which nobody needs."""


def _ringing(timeout: object) -> float:
    """Seconds for which an originate may ring; FreeSWITCH's own limit if the request names none that is a time."""
    if isinstance(timeout, int | float) and 1 <= timeout <= 600 and math.isfinite(timeout):
        return float(timeout)
    return RINGS
