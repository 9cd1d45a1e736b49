"""An agent that is none: it speaks the agents' protocol on NATS, and its calls are what a test says.

It does what programs go by: replies, events of calls, lanes of calls, the ends of applications, park mode, call.watch.
Applications end after `seconds` (none, unless a test says so) or with the call. It is no simulation of FreeSWITCH: for
that run the real agent on one.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid as uuids
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from event_agent_client._auth import Identity
from event_agent_client._link import Link, Subscription
from event_agent_client._wire import Message
from event_agent_client.core import slug

Handler = Callable[[dict[str, Any]], dict[str, Any] | None]
NO_CHANNEL = "-ERR No such channel!"


class FakeCall:
    """One channel."""

    def __init__(self, agent: FakeAgent, uuid: str, direction: str, headers: dict[str, str]) -> None:
        self.agent = agent
        self.uuid = uuid
        self.direction = direction
        self.headers = headers
        self.variables: dict[str, str] = {}
        self.applications: list[tuple[str, str]] = []
        """What was executed on it, with arguments, in order."""
        self.answered = False
        self.cause = ""
        """Why it has ended, "" while it has not."""
        self.transferred = ""
        """Where it was sent by uuid_transfer."""
        self.changed = asyncio.Event()
        self._places: list[str] = []
        self._waits: dict[str, Callable[[str], None]] = {}
        self._waited_for: dict[str, str] = {}  # Application-UUID: application, if somebody waits for its end
        self._left: Callable[[], object] = lambda: None  # what its end is for the one it is connected to
        self._lane: Subscription | None = None

    def event(self, name: str, **more: str) -> None:
        """Have it publish an event, as FreeSWITCH would fire it."""
        self.agent._publish_event(self, name, more)

    def dial(self, digits: str) -> None:
        """The caller dials."""
        for digit in digits:
            self.event("DTMF", **{"DTMF-Digit": digit})

    def hang_up(self, cause: str = "NORMAL_CLEARING") -> None:
        """The other end hangs up."""
        self.agent._end(self, cause)

    async def ended(self, limit: float = 20.0) -> str:
        """Wait until it has ended; returns the cause."""
        await self._until(lambda: bool(self.cause), limit)
        return self.cause

    async def executed(self, app: str, limit: float = 20.0) -> str:
        """Wait until this application was executed on it; returns its arguments."""
        await self._until(lambda: any(name == app for name, _ in self.applications), limit)
        return next(args for name, args in reversed(self.applications) if name == app)

    async def _until(self, holds: Callable[[], bool], limit: float) -> None:
        async with asyncio.timeout(limit):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class FakeAgent:
    """See the module's text. `async with FakeAgent(url) as agent`."""

    def __init__(self, url: str, *, node: str = "fake-1", prefix: str = "freeswitch") -> None:
        self.node, self.prefix = node, prefix
        self.calls: dict[str, FakeCall] = {}
        """Those that are up."""
        self.ended: list[FakeCall] = []
        self.requests: list[dict[str, Any]] = []
        """All that came, in order."""
        self.park: dict[str, Any] | None = None
        """What dialplan.enable has set; None while park mode is off."""
        self.seconds: dict[str, float] = {}
        """How long an application takes, by its name; others none."""
        self.rings: dict[str, float] = {}
        """How long a bridge to an endpoint rings before its outcome; others not at all."""
        self._digits: deque[str] = deque()
        self._outcomes: dict[str, str] = {}
        self._handlers: dict[str, Handler] = {}
        self._link = Link([url], Identity(), None, f"fake agent {node}", 5.0)
        self._sequence = 0
        self._core = str(uuids.uuid4())
        self._began = time.monotonic()
        self._timers: set[asyncio.TimerHandle] = set()

    # -- what a test says

    def digits(self, *dialled: str) -> None:
        """What the next callers dial when they are asked; "" for one who dials nothing."""
        self._digits.extend(dialled)

    def outcome(self, endpoint: str, cause: str) -> None:
        """What becomes of calls to this endpoint: USER_BUSY, …; all others are answered."""
        self._outcomes[endpoint] = cause

    def on(self, command: str, handler: Handler | None) -> None:
        """Have this command answered by a function: request in, reply's fields out, None for no reply.

        With None in the function's place it is answered as at first.
        """
        if handler is None:
            self._handlers.pop(command, None)
        else:
            self._handlers[command] = handler

    async def incoming(self, number: str, *, context: str = "public", caller: str = "5551234") -> FakeCall:
        """Somebody calls, and is parked, if park mode takes calls of this context."""
        headers = {
            "Caller-Destination-Number": number, "Caller-Context": context, "Caller-Caller-ID-Number": caller,
            "Caller-Caller-ID-Name": caller,
        }  # fmt: skip
        call = self._begin(str(uuids.uuid4()), "inbound", headers)
        await self._link.flush(5.0)
        contexts = (self.park or {}).get("context")
        contexts = [contexts] if isinstance(contexts, str) else contexts
        if self.park is not None and (not contexts or context in contexts):
            call.variables["event_agent_parked"] = "1"
            call.event("CHANNEL_PARK")
        return call

    async def parks(self, limit: float = 20.0) -> None:
        """Wait until a program has switched park mode on."""
        async with asyncio.timeout(limit):
            while self.park is None:
                await asyncio.sleep(0.01)

    # -- a life

    async def __aenter__(self) -> FakeAgent:
        own = slug(self.node)
        for lane in ("api", f"node.{own}", f"api.{own}"):
            self._link.subscribe(f"{self.prefix}.{lane}", self._requested)
        self._link.subscribe(f"{self.prefix}.any", self._requested, f"{self.prefix}.any")
        await self._link.start(10.0)
        self._announce("AGENT_CONNECTED", channels=[], events_dropped=0, events_unseen=None)
        await self._link.flush(5.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._link.up:
            self._announce("AGENT_STOPPING")
        await self._link.close()

    # -- requests

    def _requested(self, message: Message) -> None:
        try:
            request = json.loads(message.data)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(command := request.get("command"), str):
            self._reply(message, self._error("Missing 'command' string"))
            return
        node = request.get("node_id")
        if isinstance(node, str) and node and slug(node) != slug(self.node):
            return
        lane = f"{self.prefix}.call."
        if message.subject.startswith(lane):
            request.setdefault("uuid", message.subject[len(lane) :])
        self.requests.append(request)
        if command in self._handlers:
            answer = self._handlers[command](request)
        elif handler := getattr(self, f"_do_{command.replace('.', '_')}", None):
            answer = handler(request, lambda fields: self._reply(message, fields))
        else:
            answer = self._ok("API command executed", data="")
        if answer is not None and not request.get("async"):
            self._reply(message, answer)

    def _reply(self, message: Message, fields: dict[str, Any]) -> None:
        ok = fields.get("success", True)
        reply = {"success": ok, "status": "success" if ok else "error", "message": "done"}
        reply |= {"timestamp": time.time_ns() // 1000, "node_id": self.node, **fields}
        if message.reply and self._link.up:
            self._link.publish(message.reply, json.dumps(reply).encode())

    def _ok(self, message: str, **more: Any) -> dict[str, Any]:
        return {"success": True, "message": message, **more}

    def _error(self, message: str, **more: Any) -> dict[str, Any]:
        return {"success": False, "message": message, **more}

    def _do_agent_status(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        uptime = int(time.monotonic() - self._began)
        data = {
            "version": "fake", "uptime": uptime, "freeswitch": {"connected": True},
            "readiness": {"ready": True, "reasons": [], "drained": False},
            "events": {"publish_all_events": True, "include": [], "exclude": []},
        }  # fmt: skip
        return self._ok("Agent status", data=data, uptime=uptime, version="fake")

    def _do_dialplan_enable(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.park = {key: request[key] for key in ("context", "number", "except") if key in request}
        return self._ok("Park mode enabled", mode="park")

    def _do_dialplan_disable(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.park = None
        return self._ok("Park mode disabled", mode="disabled")

    def _do_show(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        rows = [
            {"uuid": call.uuid, "direction": call.direction, "cid_num": call.headers["Caller-Caller-ID-Number"],
             "dest": call.headers["Caller-Destination-Number"], "callstate": "ACTIVE"}
            for call in self.calls.values()
        ]  # fmt: skip
        return self._ok("API command executed", data=json.dumps({"row_count": len(rows), "rows": rows}))

    def _do_originate(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        endpoint, uuid = str(request.get("endpoint", "")), str(request.get("uuid") or uuids.uuid4())
        if cause := self._outcomes.get(endpoint):
            return self._error(f"-ERR {cause}", data=f"-ERR {cause}\n")
        headers = {
            "Caller-Destination-Number": endpoint.rpartition("/")[2], "Caller-Context": "default",
            "Caller-Caller-ID-Number": str(request.get("caller_id_number", "")),
            "Caller-Caller-ID-Name": str(request.get("caller_id_name", "")),
        }  # fmt: skip
        call = FakeCall(self, uuid, "outbound", headers)
        if place := request.get("events_to"):
            call._places.append(str(place))
        self._begin(uuid, "outbound", headers, call)
        call.variables |= {key: str(value) for key, value in (request.get("variables") or {}).items()}
        call.answered = True
        call.event("CHANNEL_ANSWER")
        destination = request.get("extension") or request.get("destination")
        data = {"uuid": uuid, "endpoint": endpoint, "destination": destination}
        return self._ok("Call originated successfully", data=data)

    def _do_hangup(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        call = self.calls.get(str(request.get("uuid", "")))
        if call is None:
            return self._error(NO_CHANNEL, data=f"{NO_CHANNEL}\n")
        self._end(call, str(request.get("cause") or "NORMAL_CLEARING"))
        return self._ok("Channel hangup successful", data=call.uuid)

    def _do_call_watch(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        call = self.calls.get(str(request.get("uuid", "")))
        if call is None:
            return self._error(NO_CHANNEL)
        place = str(request.get("to") or f"{self.prefix}.calls.{call.uuid}")
        if place not in call._places:
            call._places.append(place)
        data: dict[str, Any] = {"uuid": call.uuid, "to": place}
        if call._waited_for:
            data["applications"] = [{"app": app, "app_uuid": each} for each, app in call._waited_for.items()]
        return self._ok("Call watched", data=data)

    def _do_uuid_dump(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        call = self.calls.get(str(request.get("args", "")).partition(" ")[0])
        if call is None:
            return self._error(NO_CHANNEL, data=f"{NO_CHANNEL}\n")
        return self._ok("API command executed", data=json.dumps(self._headers(call, "CHANNEL_DATA", {})))

    def _do_uuid_exists(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        there = str(request.get("args", "")).strip() in self.calls
        return self._ok("API command executed", data="true" if there else "false")

    def _do_uuid_getvar(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        uuid, _, name = str(request.get("args", "")).partition(" ")
        call = self.calls.get(uuid)
        if call is None:
            return self._error(NO_CHANNEL, data=f"{NO_CHANNEL}\n")
        return self._ok("API command executed", data=call.variables.get(name, "_undef_"))

    def _do_uuid_transfer(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        uuid, _, where = str(request.get("args", "")).partition(" ")
        call = self.calls.get(uuid)
        if call is None:
            return self._error(NO_CHANNEL, data=f"{NO_CHANNEL}\n")
        call.transferred = where
        call.changed.set()
        return self._ok("API command executed", data="+OK\n")

    def _do_uuid_bridge(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        legs = [self.calls.get(uuid) for uuid in str(request.get("args", "")).split()]
        if len(legs) != 2 or legs[0] is None or legs[1] is None:
            return self._error("-ERR Invalid uuid", data="-ERR Invalid uuid\n")
        self._connect(legs[0], legs[1])
        return self._ok("API command executed", data=f"+OK {legs[1].uuid}\n")

    def _do_execute_app(
        self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any] | None:
        call, app_uuid = self.calls.get(str(request.get("uuid", ""))), str(uuids.uuid4())
        app, args = str(request.get("app", "")), str(request.get("args", ""))
        if call is None:
            said = f"-ERR invalid session id [{request.get('uuid')}]"
            return self._error(said, data=said, app_uuid=app_uuid)
        call.applications.append((app, args))
        about = {"Application": app, "Application-Data": args, "Application-UUID": app_uuid}
        call.event("CHANNEL_EXECUTE", **about)
        if "wait" in request:
            call._waited_for[app_uuid] = app
        response = self._run(call, app, args)

        def over(cause: str) -> None:
            call._waits.pop(app_uuid, None)
            call._waited_for.pop(app_uuid, None)
            call.variables["current_application"] = app
            if response != "_none_":
                call.variables["current_application_response"] = response
            call.event("CHANNEL_EXECUTE_COMPLETE", **about, **{"Application-Response": response})
            if "wait" not in request:
                return
            if cause:
                answer(self._error(f"Channel hung up: {cause}", cause=cause, executed="unknown", app_uuid=app_uuid))
                return
            names = request.get("result") or []
            names = [names] if isinstance(names, str) else names
            data = {
                "uuid": call.uuid, "app": app, "application_uuid": app_uuid, "response": response,
                "variables": {name: call.variables.get(name) for name in names},
            }  # fmt: skip
            answer(self._ok("execute_app completed", data=data, app_uuid=app_uuid))

        call.changed.set()
        if app == "hangup":
            self._end(call, args or "NORMAL_CLEARING")
        seconds = self.seconds.get(app, 0.0)
        if app == "bridge":
            call._waits[app_uuid] = over
            self._later(self.rings.get(args, 0.0), lambda: self._decide(call, app_uuid, args))
        elif seconds:
            call._waits[app_uuid] = over
            self._later(seconds, lambda: over("") if app_uuid in call._waits else None)
        else:
            over(call.cause)
        return None if "wait" in request else self._ok("execute_app dispatched", app_uuid=app_uuid)

    def _decide(self, call: FakeCall, app_uuid: str, endpoint: str) -> None:
        """A bridge has rung long enough."""
        over = call._waits.get(app_uuid)
        if over is None:
            return
        headers = {**call.headers, "Caller-Destination-Number": endpoint}
        other = self._begin(str(uuids.uuid4()), "outbound", headers)
        if cause := self._outcomes.get(endpoint):
            call.variables["originate_failed_cause"] = cause
            self._end(other, cause)
            over("")
            return
        other.answered = True
        self._connect(call, other)

        def left() -> None:
            if app_uuid in call._waits:
                call.event("CHANNEL_UNBRIDGE")
                over("")

        other._left = left

    def _connect(self, call: FakeCall, other: FakeCall) -> None:
        for leg, far in ((call, other), (other, call)):
            leg.variables["bridge_uuid"] = far.uuid
            leg.event("CHANNEL_BRIDGE", **{"Other-Leg-Unique-ID": far.uuid})

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        def go() -> None:
            self._timers.discard(timer)
            what()

        timer = asyncio.get_running_loop().call_later(seconds, go)
        self._timers.add(timer)

    def _run(self, call: FakeCall, app: str, args: str) -> str:
        """Its effect; returns the response."""
        if app == "answer" and not call.answered:
            call.answered = True
            call.event("CHANNEL_ANSWER")
        elif app == "set":
            self._set(call, args)
        elif app == "multiset":
            mark = args[2:3] if args.startswith("^^") else " "
            for pair in args[3:].split(mark):
                self._set(call, pair)
        elif app == "play_and_get_digits":
            words = args.split(" ")
            dialled = self._digits.popleft() if self._digits else ""
            name = words[7] if len(words) > 7 else "digits"
            call.dial(dialled)
            if len(dialled) >= int(words[0]):
                call.variables[name] = dialled[: int(words[1])]
            else:
                call.variables.pop(name, None)
            return "_none_"
        elif app in ("say", "playback"):
            call.variables["playback_ms"] = "100"
        return "FILE PLAYED" if app == "playback" else "_none_"

    @staticmethod
    def _set(call: FakeCall, pair: str) -> None:
        name, _, value = pair.partition("=")
        if value:
            call.variables[name] = value
        else:
            call.variables.pop(name, None)

    # -- calls and events

    def _begin(
        self, uuid: str, direction: str, headers: dict[str, str], call: FakeCall | None = None
    ) -> FakeCall:
        call = self.calls[uuid] = call or FakeCall(self, uuid, direction, headers)
        call._lane = self._link.subscribe(f"{self.prefix}.call.{uuid}", self._requested)
        call.event("CHANNEL_CREATE")
        return call

    def _end(self, call: FakeCall, cause: str) -> None:
        if call.cause:
            return
        call.cause = cause
        for name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
            call.event(name, **{"Hangup-Cause": cause})
        for over in list(call._waits.values()):
            over(cause)
        call.event("CHANNEL_DESTROY", **{"Hangup-Cause": cause})
        if call._lane is not None:
            self._link.unsubscribe(call._lane)
        self.calls.pop(call.uuid, None)
        call._left()
        self.ended.append(call)
        call.changed.set()

    def _publish_event(self, call: FakeCall, name: str, more: dict[str, str]) -> None:
        event = {
            "event_name": name, "timestamp": time.time_ns() // 1000, "node_id": self.node, "uuid": call.uuid,
            "headers": self._headers(call, name, more),
        }  # fmt: skip
        data, tail = json.dumps(event).encode(), name.lower().replace("_", ".")
        if self._link.up:
            for place in (f"{self.prefix}.events", *call._places):
                self._link.publish(f"{place}.{tail}", data)

    def _headers(self, call: FakeCall, name: str, more: dict[str, str]) -> dict[str, str]:
        self._sequence += 1
        state = "hangup" if call.cause else "answered" if call.answered else "ringing"
        return {
            "Event-Name": name, "Core-UUID": self._core, "Event-Sequence": str(self._sequence), "Unique-ID": call.uuid,
            "Call-Direction": call.direction, "Answer-State": state, **call.headers,
            **{f"variable_{key}": value for key, value in call.variables.items()}, **more,
        }  # fmt: skip

    def _announce(self, name: str, **fields: Any) -> None:
        headers = {"FreeSWITCH-Version": "fake", "FreeSWITCH-Hostname": "fake", "Core-UUID": self._core}
        event = {
            "event_name": name, "timestamp": time.time_ns() // 1000, "node_id": self.node, "headers": headers, **fields,
        }  # fmt: skip
        tail = name.removeprefix("AGENT_").lower()
        self._link.publish(f"{self.prefix}.events.agent.{tail}", json.dumps(event).encode())
