"""The panel's HTTP server: the page's files, a stream of what happens for each page, and commands.

GET  /                the page; its other files stand beside it in static/
GET  /stream          server-sent events, see hub.py: me, links, calls, more, whole, changes, load,
                      people, lost, events, tick
GET  /event?id=N      one event whole
GET  /me              who is logged in: {"users": …, "name": …, "role": …}
POST /login           {"name": …, "password": …}; POST /logout
POST /command         {"request": {"command": …}, "node": "fs-node-01" or null} -> {"ok": …, "reply": …, "error": …}
POST /act             {"action": "take", "node": …, "uuid": …, …} -> {"ok": …, "say": …, "words": {…}}, see actions.py
POST /forget          {"node": …}: take a node that is away off the page

With a file of users (users.py) all but the page's own files and /login needs a session (sessions.py): a viewer sees, a
supervisor acts on calls and makes them, an engineer may do all. Without one everybody is an engineer.

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

from . import guard, sessions
from .actions import Actions
from .hub import message
from .users import User, Users, UsersError
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

ANYBODY = User("", "engineer", "")  # without a file of users
NEEDS = {"/stream": "viewer", "/event": "engineer", "/command": "engineer", "/act": "supervisor", "/forget": "engineer"}

Command = Callable[[Mapping[str, Any], str | None, float], Mapping[str, Any] | None]


class Server(HTTPServer):
    """Listens; `serve_forever` runs it until `shutdown`. Raises OSError where the address can't be had."""

    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self, address: tuple[str, int], world: World, command: Command, names: tuple[str, ...] = (),
        users: Users | None = None, connections: int = CONNECTIONS,
    ) -> None:  # fmt: skip
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        self.world = world
        self.command = command
        self.actions = Actions(world, command)
        self.sessions = sessions.Sessions(users) if users is not None else None
        self.hosts = guard.hosts(address[0], self.server_port, names)
        # A fixed list of names: no path from a request ever reaches the file system.
        self.files = {f"/{path.name}": path for path in STATIC.iterdir() if path.suffix in TYPES}
        self.files["/"] = self.files.pop("/index.html")
        self._slots = threading.BoundedSemaphore(connections)
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
    _cookie = ""

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
        if url.path == "/me":
            self._json({"users": self.server.sessions is not None, **_shown(self._user())})
        elif url.path in NEEDS and not self._may(NEEDS[url.path]):
            pass
        elif url.path in self.server.files:
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
        elif self.path == "/login":
            self._login(asked.get("name"), asked.get("password"))
        elif self.path == "/logout":
            self._logout()
        elif self.path in NEEDS and not self._may(_needed(self.path, asked)):
            pass
        elif self.path == "/command":
            self._command(asked.get("request"), asked.get("node"))
        elif self.path == "/act":
            self._act(asked)
        elif self.path == "/forget":
            done = self.server.world.forget(str(asked.get("node")))
            fault = {"error": "that node is there, or not known", **_said("act.not_away")}
            self._json({"ok": done, **({"error": ""} if done else fault)})
        else:
            self._fault(HTTPStatus.NOT_FOUND, "nothing here")

    # -- the parts

    def _file(self, path: Path) -> None:
        self._answer(HTTPStatus.OK, path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8")

    def _stream(self) -> None:
        user = self._user()
        joined = self.server.world.join(events=user is not None and user.may("engineer"))
        if joined is None:
            self._fault(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
            return
        page, picture = joined
        try:
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream; charset=utf-8")
            self.send_header("X-Accel-Buffering", "no")  # nginx would hold it back
            self.end_headers()
            for piece in picture:
                self.wfile.write(piece)
            self.wfile.write(message("me", {"users": self.server.sessions is not None, **_shown(user)}))
            while (data := page.take()) is not None:
                if self._user() != user:
                    page.end("the session has ended")
                    break
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
            status = HTTPStatus.BAD_GATEWAY
            said = _said("act.no_agent", node=node or "any")
            answer = {"ok": False, "error": f"nobody listens for {node or 'any node'}", **said}
        except AgentTimeout as error:
            status, answer = HTTPStatus.GATEWAY_TIMEOUT, {"ok": False, "error": str(error), **_said("act.no_answer")}
        except LinkError as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            answer = {"ok": False, "error": str(error), **_said("act.no_nats", why=str(error))}
        except (AgentError, ValueError, RecursionError) as error:
            status, answer = HTTPStatus.BAD_REQUEST, {"ok": False, "error": str(error)}
        if not answer["ok"]:
            result = "err"
        # Written so that no name can forge a line; what the command was given is nobody's business.
        self._audit("command=%r node=%r result=%s", request["command"][:64], (node or "any")[:64], result)
        self._json(answer, status)

    def _act(self, asked: Mapping[str, object]) -> None:
        user = self._user() or ANYBODY
        outcome = self.server.actions.do(asked, user.name)
        self._audit("action=%r node=%r uuid=%r result=%s said=%s", str(asked.get("action"))[:32],
                    str(asked.get("node"))[:64], str(asked.get("uuid"))[:64], "ok" if outcome["ok"] else "err",
                    outcome["say"])  # fmt: skip
        self._json(outcome)

    # -- who it is

    def _user(self) -> User | None:
        """Whose request this is; None: nobody's who is logged in."""
        if self.server.sessions is None:
            return ANYBODY
        return self.server.sessions.user(sessions.token_of(self.headers.get("Cookie")))

    def _may(self, role: str) -> bool:
        """Answers the request if it must not be carried out."""
        user = self._user()
        if user is None:
            self._json({"ok": False, "error": "nobody is logged in here, or the session has ended", "login": True,
                        **_said("login.ended_click")}, HTTPStatus.UNAUTHORIZED)  # fmt: skip
        elif not user.may(role):
            self._audit("refused=%r needs=%s", self.path[:64], role)
            self._json({"ok": False, "error": f"{user.name} is {user.role}; this is for a {role}",
                        **_said("act.forbidden", name=user.name, role=user.role, needs=role)},
                       HTTPStatus.FORBIDDEN)  # fmt: skip
        return user is not None and user.may(role)

    def _login(self, name: object, password: object) -> None:
        if self.server.sessions is None or not isinstance(name, str) or not isinstance(password, str):
            self._fault(HTTPStatus.BAD_REQUEST, "login needs a name and a password, and a panel with users")
            return
        try:
            found = self.server.sessions.login(name, password, self.client_address[0])
        except sessions.TooMany as many:
            log.warning("login=%r result=too_many from=%s", name[:64], self.client_address[0])
            self._json({"ok": False, "error": "too many tries", "wait": round(many.wait) + 1},
                       HTTPStatus.TOO_MANY_REQUESTS)  # fmt: skip
            return
        except UsersError as error:
            log.error("nobody can log in: %s", error)
            self._json({"ok": False, "error": "the file of users can't be used, see the panel's log"},
                       HTTPStatus.SERVICE_UNAVAILABLE)  # fmt: skip
            return
        log.info("login=%r result=%s from=%s", name[:64], "ok" if found else "err", self.client_address[0])
        if found is None:
            self._json({"ok": False, "error": "wrong name or password"}, HTTPStatus.UNAUTHORIZED)
            return
        token, user = found
        self._set_cookie(token)
        self._json({"ok": True, **_shown(user)})

    def _logout(self) -> None:
        if self.server.sessions is not None:
            self._audit("logout")
            self.server.sessions.logout(sessions.token_of(self.headers.get("Cookie")))
        self._set_cookie("")
        self._json({"ok": True})

    def _set_cookie(self, token: str) -> None:
        # Only a page that came over TLS, from a reverse proxy, says https.
        self._cookie = sessions.cookie(token, self.headers.get("Origin", "").startswith("https:"))

    def _audit(self, text: str, *words: object) -> None:
        """One line for each click: whose it was, and what."""
        user = self._user() or ANYBODY
        log.info("user=%r role=%s %s from=%s", user.name or "-", user.role, text % words, self.client_address[0])

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
        if self._cookie:
            self.send_header("Set-Cookie", self._cookie)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard server finds wrong: a method that is none, a line too long."""
        self.close_connection = True
        self.request_version = self.protocol_version  # what was asked in may not be one that has headers
        with suppress(OSError):
            self._fault(HTTPStatus(code), "not a request that is understood here")

    def log_message(self, format: str, *args: Any) -> None:
        """The standard server's line for each request, which nobody needs."""


def _said(say: str, **words: object) -> dict[str, object]:
    """The same in words of the page's language, see static/texts-en.js."""
    return {"say": say, "words": words}


def _shown(user: User | None) -> dict[str, object]:
    return {"name": user.name, "role": user.role} if user else {"name": "", "role": ""}


def _needed(path: str, asked: Mapping[str, object]) -> str:
    """The role for a POST. A supervisor may make a call, to an extension or to wait."""
    request = asked.get("request")
    if path == "/command" and isinstance(request, dict) and request.get("command") == "originate":
        extension = str(request.get("extension", "&"))
        plain = not extension.startswith("&") or extension in ("&park", "&park()")
        others = request.keys() - {"command", "endpoint", "extension", "context", "timeout", "caller_id_name",
                                   "caller_id_number"}  # fmt: skip
        # In braces stand variables, and a variable can name an application.
        if plain and not others and not set(str(request.get("endpoint"))) & set("{}[]<>"):
            return "supervisor"
    return NEEDS[path]


def _ringing(timeout: object) -> float:
    """Seconds for which an originate may ring; FreeSWITCH's own limit if the request names none that is a time."""
    if isinstance(timeout, int | float) and 1 <= timeout <= 600 and math.isfinite(timeout):
        return float(timeout)
    return RINGS
