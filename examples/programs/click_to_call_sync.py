"""click_to_call.py with threads: a web page posts two numbers; one telephone rings, then the other, and they talk.

    python3 click_to_call_sync.py --gateway sofia/gateway/carrier/ --listen 127.0.0.1:8000

    curl -d '{"from": "1000", "to": "493012345"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/calls
    {"id": "7b6e…", "state": "ringing from", "cause": ""}
    curl http://127.0.0.1:8000/calls/7b6e…                    its state now
    curl -X DELETE http://127.0.0.1:8000/calls/7b6e…          hang up

`from` is a user of the directory, `to` a number behind the gateway. States: ringing from, ringing to, talking, ended;
`cause` says why it has ended. Whoever reaches the address may make calls: leave it on the loopback address, behind your
application, which knows its users.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import re
import signal
import threading
import uuid
from collections import OrderedDict
from typing import Any

import event_agent_client as ea

USER, NUMBER = re.compile(r"[\w.-]{1,32}", re.ASCII), re.compile(r"\+?[0-9]{1,20}")
MOST = 50  # calls at one time
KEPT = 1000  # ended ones whose state can be asked for


class ClickedCall:
    """One, on a thread of its own."""

    def __init__(self, fs: ea.sync.Client, first: str, second: str, shown: str, ring: float) -> None:
        self.id = str(uuid.uuid4())
        self.state, self.cause = "ringing from", ""
        self._fs, self._first, self._second, self._shown, self._ring = fs, first, second, shown, ring
        self._call: ea.sync.Call | None = None
        self._unwanted = False

    def run(self) -> None:
        """Returns when it has ended. What goes wrong is its cause."""
        try:
            with self._fs.dial(self._first, ring=self._ring, caller_id=("Click to call", self._shown)) as call:
                self._call = call
                if self._unwanted:
                    return
                self.state = "ringing to"
                other = call.bridge(self._second, ring=self._ring)
                self.state = "talking"
                self.cause = other.ended().cause  # leaving `with` hangs up the first one
        except (ea.CallFailed, ea.Hangup) as over:
            self.cause = over.cause
        except ea.AgentError as error:
            self.cause = f"{type(error).__name__}: {error}"
        finally:
            self.state = "ended"
            self.cause = self.cause or "NORMAL_CLEARING"
            print(f"{self.id} {self._first} {self._second}: {self.cause}", flush=True)

    def hang_up(self) -> None:
        self._unwanted = True
        if (call := self._call) is not None:
            call.hangup()

    def shown(self) -> dict[str, str]:
        return {"id": self.id, "state": self.state, "cause": self.cause}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], fs: ea.sync.Client, gateway: str, user: str, ring: float) -> None:
        self.fs, self.gateway, self.user, self.ring = fs, gateway, user, ring
        self.calls: OrderedDict[str, ClickedCall] = OrderedDict()
        self.lock = threading.Lock()
        super().__init__(address, Handler)

    def begin(self, first: str, second: str) -> ClickedCall | None:
        """None if there are too many."""
        call = ClickedCall(self.fs, f"{self.user}{first}", f"{self.gateway}{second}", second, self.ring)
        with self.lock:
            if sum(each.state != "ended" for each in self.calls.values()) >= MOST:
                return None
            self.calls[call.id] = call
            for each in [each for each in self.calls.values() if each.state == "ended"][:-KEPT]:
                del self.calls[each.id]
        threading.Thread(target=call.run, name=f"call {call.id}", daemon=True).start()
        return call


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = 30

    def do_POST(self) -> None:
        if self.path != "/calls":
            return self.answer(404, {"error": "POST /calls"})
        if self.headers.get_content_type() != "application/json":  # which no page of another site can send unasked
            return self.answer(415, {"error": "Content-Type must be application/json"})
        try:
            wanted = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", "0")), 4096)))
            first, second = wanted["from"], wanted["to"]
            if not USER.fullmatch(first) or not NUMBER.fullmatch(second):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            return self.answer(400, {"error": '{"from": a user, "to": a number of up to 20 digits}'})
        call = self.server.begin(first, second)
        if call is None:
            return self.answer(503, {"error": f"there are {MOST} calls"})
        self.answer(201, call.shown())

    def do_GET(self) -> None:
        if (call := self.wanted()) is not None:
            self.answer(200, call.shown())

    def do_DELETE(self) -> None:
        if (call := self.wanted()) is not None:
            try:
                call.hang_up()
                self.answer(202, call.shown())
            except ea.AgentError as error:
                self.answer(503, {"error": f"{type(error).__name__}: {error}"})

    def wanted(self) -> ClickedCall | None:
        call = self.server.calls.get(self.path.removeprefix("/calls/"))
        if call is None:
            self.answer(404, {"error": "no such call"})
        return call

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--listen", default="127.0.0.1:8000")
    options.add_argument("--gateway", default="sofia/gateway/carrier/", help="what stands before the number")
    options.add_argument("--user", default="user/", help="what stands before the user")
    options.add_argument("--ring", type=float, default=30.0, help="seconds for which each of them rings")
    given = options.parse_args()
    host, _, port = given.listen.rpartition(":")
    with ea.sync.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        with Server((host, int(port)), fs, given.gateway, given.user, given.ring) as server:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            print(f"listening on {given.listen}", flush=True)
            try:
                server.serve_forever()
            finally:
                for call in list(server.calls.values()):
                    if call.state != "ended":
                        call.hang_up()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
