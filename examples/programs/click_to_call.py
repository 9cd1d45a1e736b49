"""Click-to-call: a web page or a CRM posts two numbers; the first telephone rings, then the second, and they talk.

    python3 click_to_call.py --gateway sofia/gateway/carrier/ --listen 127.0.0.1:8000

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
import asyncio
import email
import json
import os
import re
import signal
import uuid
from collections import OrderedDict
from email.message import Message
from http import HTTPStatus
from typing import Any

import event_agent_client as ea

USER, NUMBER = re.compile(r"[\w.-]{1,32}", re.ASCII), re.compile(r"\+?[0-9]{1,20}")
MOST = 50  # calls at one time
KEPT = 1000  # ended ones whose state can be asked for
LIMIT = 30.0  # seconds that a request over HTTP may take


class ClickedCall:
    """One, a task of its own; a task that is cancelled hangs up."""

    def __init__(self, fs: ea.Client, first: str, second: str, shown: str, ring: float) -> None:
        self.id = str(uuid.uuid4())
        self.state, self.cause = "ringing from", ""
        self.task = asyncio.create_task(self._run(fs, first, second, shown, ring))

    async def _run(self, fs: ea.Client, first: str, second: str, shown: str, ring: float) -> None:
        """Returns when it has ended. What goes wrong is its cause."""
        try:
            async with fs.dial(first, ring=ring, caller_id=("Click to call", shown)) as call:
                self.state = "ringing to"
                other = await call.bridge(second, ring=ring)
                self.state = "talking"
                self.cause = (await other.ended()).cause  # leaving `async with` hangs up the first one
        except (ea.CallFailed, ea.Hangup) as over:
            self.cause = over.cause
        except ea.AgentError as error:
            self.cause = f"{type(error).__name__}: {error}"
        finally:
            self.state = "ended"
            self.cause = self.cause or "NORMAL_CLEARING"
            print(f"{self.id} {first} {second}: {self.cause}", flush=True)

    def hang_up(self) -> None:
        if not self.task.cancelling():  # once: a second time would end the hanging up
            self.task.cancel()

    def shown(self) -> dict[str, str]:
        return {"id": self.id, "state": self.state, "cause": self.cause}


class Desk:
    """Answers requests over HTTP."""

    def __init__(self, fs: ea.Client, gateway: str, user: str, ring: float) -> None:
        self.fs, self.gateway, self.user, self.ring = fs, gateway, user, ring
        self.calls: OrderedDict[str, ClickedCall] = OrderedDict()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        try:
            async with asyncio.timeout(LIMIT):
                status, body = await self._answer(reader)
                data = json.dumps(body).encode() + b"\n"
                head = f"HTTP/1.0 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):  # gone, too slow, or no HTTP
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[HTTPStatus, dict[str, Any]]:
        line, _, rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n")
        method, path, _ = line.split(" ")
        if (method, path) == ("POST", "/calls"):
            headers = email.message_from_string(rest)
            size = min(max(0, int(headers.get("Content-Length", "0"))), 4096)
            return self._begin(headers, await reader.readexactly(size))
        call = self.calls.get(path.removeprefix("/calls/"))
        if call is None or method not in ("GET", "DELETE"):
            return HTTPStatus.NOT_FOUND, {"error": "POST /calls; GET or DELETE /calls/ID"}
        if method == "GET":
            return HTTPStatus.OK, call.shown()
        call.hang_up()
        return HTTPStatus.ACCEPTED, call.shown()

    def _begin(self, headers: Message, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        if headers.get_content_type() != "application/json":  # which no page of another site can send unasked
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "Content-Type must be application/json"}
        try:
            wanted = json.loads(body)
            first, second = wanted["from"], wanted["to"]
            if not USER.fullmatch(first) or not NUMBER.fullmatch(second):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            return HTTPStatus.BAD_REQUEST, {"error": '{"from": a user, "to": a number of up to 20 digits}'}
        if sum(each.state != "ended" for each in self.calls.values()) >= MOST:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"there are {MOST} calls"}
        call = ClickedCall(self.fs, f"{self.user}{first}", f"{self.gateway}{second}", second, self.ring)
        self.calls[call.id] = call
        for each in [each for each in self.calls.values() if each.state == "ended"][:-KEPT]:
            del self.calls[each.id]
        return HTTPStatus.CREATED, call.shown()


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--listen", default="127.0.0.1:8000")
    options.add_argument("--gateway", default="sofia/gateway/carrier/", help="what stands before the number")
    options.add_argument("--user", default="user/", help="what stands before the user")
    options.add_argument("--ring", type=float, default=30.0, help="seconds for which each of them rings")
    given = options.parse_args()
    host, _, port = given.listen.rpartition(":")
    async with ea.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        desk = Desk(fs, given.gateway, given.user, given.ring)
        async with await asyncio.start_server(desk.serve, host, int(port)):
            print(f"listening on {given.listen}", flush=True)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
            try:
                await fs.forever()
            finally:
                for call in desk.calls.values():
                    call.hang_up()
                await asyncio.gather(*(call.task for call in desk.calls.values()), return_exceptions=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
