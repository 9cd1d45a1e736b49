"""The panel's server on loopback: whom it answers, what it sends, what it bounds, how it ends."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from event_agent.client.client import AgentTimeout, CommandFailed, NoAgent
from event_agent.errors import LinkError
from tests.support import until

guard = pytest.importorskip("examples.panel.guard", reason="not a checkout")
hub = pytest.importorskip("examples.panel.hub", reason="not a checkout")
web = pytest.importorskip("examples.panel.web", reason="not a checkout")
app = pytest.importorskip("examples.panel.app", reason="not a checkout")
world = pytest.importorskip("examples.panel.world", reason="not a checkout")

JSON = {"Content-Type": "application/json"}


class Site:
    """A server that runs, with commands that are answered by `answer`."""

    def __init__(self, connections: int = web.CONNECTIONS) -> None:
        self.world = world.World()
        self.asked: list[tuple[Any, Any, float]] = []
        self.answer: Callable[[], Any] = lambda: {"success": True, "message": "done"}
        self.server = web.Server(("127.0.0.1", 0), self.world, self._command, ("panel.example.org",),
                                 connections=connections)  # fmt: skip
        self.port = self.server.server_port
        self.origin = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), name="test-panel")
        self.thread.start()

    def _command(self, request: Any, node: Any, wait: float) -> Any:
        self.asked.append((request, node, wait))
        return self.answer()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """`_` in a header stands for `-`; None takes a usual one away."""
        usual: dict[str, Any] = {"Host": f"127.0.0.1:{self.port}"}
        if method == "POST":
            usual |= JSON | {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        usual |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if data is not None and "Content-Length" not in usual:
                usual["Content-Length"] = str(len(data))
            for name, value in usual.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def stream(self) -> tuple[socket.socket, bytes]:
        """An open stream, and what has come of it up to the end of the picture."""
        raw = socket.create_connection(("127.0.0.1", self.port), 10)
        raw.sendall(f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        came = b""
        while b"event: me\n" not in came or not came.endswith(b"\n\n"):
            data = raw.recv(65536)
            assert data, came
            came += data
        return raw, came

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.world.hub.close()
        self.thread.join(5)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    found = Site(getattr(request, "param", web.CONNECTIONS))
    yield found
    found.close()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("panel-")], "no thread is left")


# -- whom it answers


def test_the_page_and_its_files(site: Site) -> None:
    status, headers, body = site.ask("GET", "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and b"<!DOCTYPE html>" in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    for path, kind in (("/main.js", "text/javascript"), ("/base.css", "text/css"), ("/icon.svg", "image/svg+xml")):
        status, headers, _ = site.ask("GET", path)
        assert status == 200 and headers["Content-Type"].startswith(kind)
        assert headers["Content-Security-Policy"] == policy
    for path in ("/index.html", "/../web.py", "/..%2fweb.py", "//etc/passwd", "/static/main.js", "/main.js/", "/%00"):
        assert site.ask("GET", path)[0] == 404, path


def test_nothing_of_the_page_is_inline_or_from_elsewhere() -> None:
    static = Path(web.STATIC)
    page = (static / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page) == [""]
    for path in static.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//\w+\.\w+/", text), path
        code = "\n".join(line.partition("//")[0] for line in text.splitlines()) if path.suffix == ".js" else ""
        assert not re.search(r"innerHTML|outerHTML\s*=|insertAdjacent|document\.write|eval\(|new Function", code), path
        assert len(text.splitlines()) < 350 or path.name.startswith("texts-"), path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 200),
        ({"Host": "panel.example.org", "Origin": "https://panel.example.org"}, 200),
        ({"Host": "127.0.0.1:{port}", "Origin": "https://PANEL.example.org"}, 200),  # a proxy that changes Host
        ({"Host": "evil.example"}, 421),  # DNS rebinding
        ({"Host": "127.0.0.1:{port}.evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),  # another port: somebody else's
        ({"Host": None}, 421),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "file://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}/x"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Content_Length": "x"}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "65537"}, 413),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_who_may_give_commands(site: Site, headers: dict[str, str | None], status: int) -> None:
    filled = {
        name.replace("_", "-"): None if value is None else value.format(port=site.port)
        for name, value in headers.items()
    }
    answer = site.ask("POST", "/command", {"request": {"command": "status"}}, **filled)  # type: ignore[arg-type]
    assert answer[0] == status, answer
    assert len(site.asked) == (status == 200)
    assert "Access-Control-Allow-Origin" not in answer[1]


def test_other_sites_can_link_to_the_page_and_do_nothing_else(site: Site) -> None:
    assert site.ask("GET", "/", Sec_Fetch_Site="cross-site")[0] == 200
    assert site.ask("GET", "/stream", Sec_Fetch_Site="cross-site")[0] == 403
    assert site.ask("GET", "/event?id=1", Sec_Fetch_Site="same-site")[0] == 403
    assert site.ask("GET", "/", Host="evil.example")[0] == 421
    assert site.ask("GET", "/stream", Host="evil.example")[0] == 421


def test_hosts() -> None:
    assert guard.hosts("0.0.0.0", 80) == {"127.0.0.1:80", "127.0.0.1", "localhost:80", "localhost", "[::1]:80", "[::1]"}
    assert "[fe80::1]:8095" in guard.hosts("fe80::1", 8095) and "10.0.0.5:8095" in guard.hosts("10.0.0.5", 8095)
    twice = Message()
    twice["Host"] = "localhost:1"
    twice["Host"] = "localhost:1"
    assert guard.refused("GET", "/", twice, frozenset({"localhost:1"}))[0] == 421


def test_what_is_no_request(site: Site) -> None:
    for text in (
        b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\nHost: localhost\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b"\r\n\r\n", b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
            raw.sendall(text)
            answer = b""
            while data := raw.recv(65536):
                answer += data
            assert re.match(rb"HTTP/1\.1 [45]\d\d ", answer) and b"Content-Security-Policy" in answer, text[:40]
    assert site.ask("GET", "/")[0] == 200


# -- commands


def test_commands(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    request = {"command": "originate", "timeout": 100, "args": "a secret"}
    status, _, body = site.ask("POST", "/command", {"request": request, "node": "fs-1"})
    assert (status, json.loads(body)) == (200, {"ok": True, "reply": {"success": True, "message": "done"}})
    assert site.asked.pop() == (request, "fs-1", 115.0)
    site.ask("POST", "/command", {"request": {"command": "status"}, "node": ""})
    assert site.asked.pop() == ({"command": "status"}, None, web.WAIT)
    site.answer = lambda: {"success": False, "message": "no"}
    assert json.loads(site.ask("POST", "/command", {"request": {"command": "x\ny"}})[2])["ok"] is False
    assert "secret" not in caplog.text and "command='x\\ny' node='any' result=err" in caplog.text
    site.answer = lambda: None
    assert json.loads(site.ask("POST", "/command", {"request": {"command": "x"}})[2]) == {"ok": True, "reply": None}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (NoAgent("x"), 502),
        (AgentTimeout("no reply within 35 seconds"), 504),
        (LinkError("the link to NATS is lost"), 503),
        (CommandFailed({"message": "odd"}), 400),
        (ValueError("a request of 2 MB"), 400),
    ],
)
def test_commands_that_fail(site: Site, fault: Exception, status: int) -> None:
    def fail() -> None:
        raise fault

    site.answer = fail
    got, _, body = site.ask("POST", "/command", {"request": {"command": "status"}})
    assert got == status and json.loads(body)["ok"] is False and json.loads(body)["error"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 60_000, {}, {"request": 5}, {"request": {}}, {"request": {"command": 5}},
             {"request": {"command": "x"}, "node": 5}],
)  # fmt: skip
def test_what_is_no_command(site: Site, body: Any) -> None:
    assert site.ask("POST", "/command", body)[0] == 400
    assert site.asked == []
    assert site.ask("POST", "/elsewhere", {})[0] == 404


def test_events_and_nodes(site: Site) -> None:
    event = {"event_name": "CUSTOM", "node_id": "n", "headers": {"a": "\u2028<"}}
    site.world.event(event)
    (short,) = site.world.journal.recent()
    status, headers, body = site.ask("GET", f"/event?id={short['id']}")
    assert status == 200 and json.loads(body) == event and headers["Content-Type"] == "application/json"
    for wrong in ("0", "-1", "x", "", "\u0661", "9" * 30):
        assert site.ask("GET", f"/event?id={wrong.encode('utf-8').hex() if not wrong.isascii() else wrong}")[0] == 404
    assert json.loads(site.ask("POST", "/forget", {"node": "n"})[2])["ok"] is False


# -- the stream


def test_a_stream(site: Site) -> None:
    raw, came = site.stream()
    with raw:
        head, _, rest = came.partition(b"\r\n\r\n")
        assert b"Content-Type: text/event-stream" in head and b"Content-Security-Policy" in head
        assert rest.startswith(b"retry: 1000\n\nevent: links\ndata: {")
        site.world.linked("x")
        assert raw.recv(65536).startswith(b"event: links\ndata: ")
    # Nothing in an event can end its line.
    assert hub.message("events", ["a\nb\r\u2028"]) == b'event: events\ndata: ["a\\nb\\r\\u2028"]\n\n'


def test_a_page_hears_that_there_is_no_news(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    take = hub.Page.take
    monkeypatch.setattr(hub.Page, "take", lambda page: take(page, 0.02))
    raw, _ = site.stream()
    with raw:
        assert raw.recv(65536).startswith(b"event: tick\n")
    until(lambda: not len(site.world.hub), "that the page is gone is noticed")


def test_pages_have_a_bound(site: Site) -> None:
    open_pages = [site.stream()[0] for _ in range(hub.PAGES)]
    assert site.ask("GET", "/stream")[0] == 503
    assert site.ask("GET", "/")[0] == 200
    for raw in open_pages:
        raw.close()


def test_connections_that_ask_nothing_keep_nobody_out(site: Site) -> None:
    """Twice as many as there may be; some send a byte now and then, and a part of a command."""
    idle = [socket.create_connection(("127.0.0.1", site.port), 5) for _ in range(2 * web.CONNECTIONS)]
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.01):
            for raw in idle[web.CONNECTIONS :]:
                with suppress(OSError):
                    raw.send(b"G")

    dripping = threading.Thread(target=drip, name="test-drip")
    dripping.start()
    started = time.monotonic()
    try:
        for _ in range(10):
            assert site.ask("GET", "/")[0] == 200
            assert site.ask("POST", "/command", {"request": {"command": "status"}})[0] == 200
    finally:
        stop.set()
        dripping.join(5)
    assert time.monotonic() - started < 5
    for raw in idle:
        raw.close()


@pytest.mark.parametrize("site", [4], indirect=True)
def test_requests_that_are_worked_on_have_a_bound(site: Site) -> None:
    pages = [site.stream()[0] for _ in range(4)]
    with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
        assert raw.recv(100).startswith(b"HTTP/1.1 503 ")
    for raw in pages:
        raw.close()
    site.world.hub.close()
    until(lambda: site.ask("GET", "/")[0] == 200, "it goes on when they have gone")


@pytest.mark.parametrize(
    "start", [b"G", b"GET / HTTP/1.1\r\nHost: ", b"POST /command HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: "
              b"http://127.0.0.1:PORT\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"],
)  # fmt: skip
def test_a_whole_request_has_one_deadline(site: Site, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(web, "ASK", 0.3)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", site.port), 5) as raw, suppress(OSError):
        raw.sendall(start.replace(b"PORT", str(site.port).encode()))
        raw.settimeout(0.02)
        while time.monotonic() - started < 30:
            raw.send(b"x")
            with suppress(TimeoutError):
                if not raw.recv(100):
                    break
    assert 0.2 < time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /event?id=" + b"1" * 5000 + b" HTTP/1.1\r\n", 400),
        (b"GET /event?id=" + b"1" * 101 + b" HTTP/1.1\r\n", 400),
        (b"GET /event?id=" + b"1" * 100 + b" HTTP/1.1\r\n", 404),
        (b"GET http://[x/ HTTP/1.1\r\n", 400),
        (b"GET //[/x HTTP/1.1\r\n", 404),
        (b"GET / HTTP/1." + b"1" * 5000 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: %b\r\n" % (at, b"x" * 60_000) for at in range(4)), 431),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200, 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n", 414),
        (b"POST /command HTTP/1.1\r\nContent-Type: application/json\r\nOrigin: http://127.0.0.1:PORT\r\n"
         b"Content-Length: " + b"1" * 5000 + b"\r\n", 411),
        (b"POST /command HTTP/1.1\r\nContent-Type: application/json\r\nOrigin: http://[x\r\n"
         b"Content-Length: 1\r\n", 403),
    ],
)  # fmt: skip
def test_long_and_odd_requests_get_a_clean_answer(
    site: Site, text: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    text += b"Host: 127.0.0.1:PORT\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
        with suppress(OSError):
            raw.sendall(text.replace(b"PORT", str(site.port).encode()))
        assert raw.recv(100).startswith(b"HTTP/1.1 %d " % status)
    assert "should not" not in caplog.text


@pytest.mark.parametrize(
    "timeout", ["10", None, True, -1, 0, 1e300, 10**400, float("nan"), float("inf"), -float("inf"), [], {}, 601]
)
def test_any_timeout_of_a_call_is_waited_for_in_a_bound(site: Site, timeout: object) -> None:
    status, _, _ = site.ask("POST", "/command", {"request": {"command": "originate", "timeout": timeout}})
    assert status == 200 and 0 < site.asked[-1][2] <= 615


def test_a_client_that_does_not_ask_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
        raw.sendall(b"GET / HT")
        assert raw.recv(100) == b""


def test_a_page_that_does_not_read_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TAKE", 0.5)
    raw, _ = site.stream()
    event = {"event_name": "X", "node_id": "n", "headers": {"Event-Info": "x" * 150}}
    with raw:
        for _ in range(200_000):
            site.world.event(event)
            if not len(site.world.hub):
                break
        until(lambda: not len(site.world.hub), "it is cut off")


def test_a_page_that_is_too_slow_keeps_nothing() -> None:
    page = hub.Page()
    page.change(("n", "a"), b"x" * hub.BYTES)
    assert not page.cut
    page.change(("n", "a"), b"x" * hub.BYTES)  # in the place of the one before
    assert not page.cut
    page.change(("n", "b"), b"x")
    assert page.cut == "too slow" and page.take(0) is None and page._bytes == 0
    page.change(("n", "c"), b"x")
    page.put("links", b"{}")
    page.event(b"{}")
    assert not page._waiting


def test_a_page_gets_how_things_are_now() -> None:
    page = hub.Page()
    for number in range(3):
        page.change(("n", "a"), b'{"n":%d}' % number)
        page.change(("n", f"b{number}"), b"{}")
        page.put("links", b"%d" % number)
    assert page.take() == b'event: links\ndata: 2\n\nevent: changes\ndata: [{},{},{"n":2},{}]\n\n'
    for number in range(hub.EVENTS + 5):
        page.event(b"%d" % number)
    pieces = page.take().split(b"\n\n")[:-1]
    events = [json.loads(each.partition(b"data: ")[2]) for each in pieces]
    assert sum(events, []) == list(range(5, hub.EVENTS + 5)) and max(map(len, events)) == hub.PIECE
    # What comes soon after waits, so that it comes together.
    began = time.monotonic()
    page.event(b"1")
    assert page.take() == b"event: events\ndata: [1]\n\n" and time.monotonic() - began > hub.GATHER / 2
    assert page.take(0) == b""


def test_the_end_reaches_all_pages(site: Site) -> None:
    raw, _ = site.stream()
    with raw:
        site.world.hub.close()
        assert raw.recv(65536) == b""
    assert site.ask("GET", "/stream")[0] == 503


# -- the program


def test_addresses() -> None:
    assert app.address("127.0.0.1:8095") == ("127.0.0.1", 8095) and app.address(":80") == ("127.0.0.1", 80)
    assert app.address("[::1]:0") == ("::1", 0)
    for wrong in ("", "8095", "host", "host:x", "host:70000"):
        with pytest.raises(ValueError):
            app.address(wrong)


def test_faults_at_the_start(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    for arguments, said in (
        (["--listen", "x"], "--listen must be HOST:PORT"),
        (["--url", "http://x"], "url"),
        (["--listen", f"127.0.0.1:{site.port}"], "can't be listened on"),
    ):
        assert app.main(arguments) == 2
        assert said in capsys.readouterr().err
