"""execute_app: a dialplan application on a live channel, by `sendmsg … execute`.

FreeSWITCH says +OK to an application that does not exist and then hangs the channel up, so the names are asked of it
beforehand (`show interfaces`, which has those without a description too) and kept fresh by the MODULE_LOAD and
MODULE_UNLOAD events, of which there is one for each interface.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence

from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.commands.waiting import Waiter, Waiting
from event_agent.commands.watch import Watches, events_to
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.freeswitch.link import SwitchObserver
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.validation import BODY, CHANNEL, WORD, Declaration, number, string, strings
from event_agent.runtime.uuids import new_uuid

log = logging.getLogger(__name__)

UUID = string("uuid", 1, 63, form=CHANNEL, help="the channel")
APP = string("app", 1, 63, form=WORD, help="the application")
ARGS = string(
    "args", form=BODY, help="passed byte for byte, blanks and line breaks as well. NUL is refused"
).optional("")
WAIT = number(
    "wait", 0.1, 3600, help="seconds: the reply comes when the application has ended, or its channel, or they are over"
).optional(None, shown="the reply comes at once")
RESULT = strings(
    "result", 1, 127, 64, help="with `wait`: the names of channel variables whose values the reply is to have"
).optional(())
EVENTS_TO = events_to("all events of the channel are also published below this subject from now on, see call.watch")
FIELDS = Declaration(
    "execute_app",
    "Runs a dialplan application on a channel. The reply comes when it is queued or, with `wait`, when it has ended.",
    (UUID, APP, ARGS, WAIT, RESULT, EVENTS_TO),
    ({"uuid": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10", "app": "playback", "args": "silence_stream://100",
      "forward_to": "workflow.callbacks.7", "correlation_id": 7},
     {"uuid": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10", "app": "play_and_get_digits",
      "args": "4 4 3 6000 # pin.wav wrong.wav pin \\d+", "wait": 40, "result": ["pin"]}),
    together=((RESULT, WAIT),),
)  # fmt: skip
LIST_VERB = "show interfaces as json"  # to be asked with `api`
UNLISTED = 2.0  # seconds a command waits for the first list of a link; then its application is not checked
SETTLED = 10.0  # seconds after which a list has what events told: it comes from a table that is written behind them

Send = Callable[[Sequence[Command]], None]


class AppList(SwitchObserver):
    """The applications FreeSWITCH has. Any thread may ask; the names are compared as FreeSWITCH does, without case."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._names: frozenset[str] | None = None
        self.known = False  # whether FreeSWITCH has answered since the link came up, be it without a list
        self._gone: dict[str, float] = {}  # unloaded lately: the clock at that

    def up(self) -> None:
        """Another FreeSWITCH may be there. The list comes from its database, and may be long in coming."""
        with self._lock:
            self._names, self.known = None, False
        self._send([Command(wire.api(LIST_VERB), "show", self.learn, log.debug, slow=True)])

    def learn(self, answer: str) -> None:
        """FreeSWITCH's answer to LIST_VERB."""
        try:
            rows = json.loads(answer)["rows"]
            names = frozenset(row["name"].lower() for row in rows if row["type"] == "application")
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("FreeSWITCH does not list its applications: execute_app can't check them: %r", answer[:60])
            names = frozenset()
        now = self._clock()
        with self._lock:
            self._gone = {name: since for name, since in self._gone.items() if now - since < SETTLED}
            self._names = (names - self._gone.keys()) or None
            self.known = True

    def module_event(self, event_name: str, event: RawEvent) -> None:
        """A MODULE_LOAD or MODULE_UNLOAD came."""
        loaded = event_name == "MODULE_LOAD"
        kind, name = event.headers.get("type"), event.headers.get("name")
        if not isinstance(name, str):
            return  # not about an interface
        name = name.lower()
        if kind == "application":
            now = self._clock()
            with self._lock:
                self._gone.pop(name, None)
                if not loaded:
                    self._gone[name] = now
                if self._names is not None:
                    self._names = self._names | {name} if loaded else self._names - {name}

    def has(self, name: str) -> bool:
        """True for an application that FreeSWITCH has, or if it does not list its applications."""
        return self._names is None or name.lower() in self._names


def traced(invocation: Invocation, uuid: str) -> list[Command]:
    """What puts the request's trace onto the channel; nobody waits for it."""
    if invocation.trace is None or not uuid.isprintable() or " " in uuid:
        return []
    return [
        Command(wire.api("uuid_setvar", f"{uuid} {name} {value}"), "uuid_setvar", log.debug, log.debug, (uuid,))
        for name, value in invocation.trace.variables.items()
    ]


class ExecuteApp:
    """Runs the application on the channel; its outcome comes as CHANNEL_EXECUTE_COMPLETE.

    FreeSWITCH takes an Event-UUID in `sendmsg` for the Application-UUID of the application's events
    (switch_core_session.c, switch_core_session_exec), so the reply can say which events are its own.
    """

    def __init__(self, send: Send, guards: Guards, apps: AppList, waiting: Waiting, watches: Watches) -> None:
        self._send = send
        self._guards = guards
        self._apps = apps
        self._waiting = waiting
        self._watches = watches

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        payload = invocation.payload
        uuid, app, args = UUID(payload), APP(payload), ARGS(payload)
        wait, names, watched = WAIT(payload), RESULT(payload), EVENTS_TO(payload)
        FIELDS.check(payload)
        if watched:
            self._watches.place(uuid, watched, EVENTS_TO.name)
        self._guards.check_app(app, args)
        app_uuid = new_uuid()
        extra = {"app_uuid": app_uuid}

        def give_up() -> None:
            self._waiting.leave(app_uuid)
            if watched:
                self._watches.take_back(uuid, watched)

        def done(answer: str) -> None:
            if not answer.startswith("+OK"):
                give_up()
                invocation.finish(Outcome(answer.strip() or "-ERR no answer", answer, extra, ok=False))
            elif wait is None:
                invocation.finish(Outcome("execute_app dispatched", extra=extra))

        def failed(why: Failure) -> None:
            give_up()
            invocation.fail(why, extra)

        text = wire.execute(uuid, app, args, {"Event-UUID": app_uuid})
        invocation.sent = command = Command(text, "sendmsg", done, failed, (uuid,))

        commands = [*traced(invocation, uuid), command]

        def begin() -> None:
            if wait is None:
                self._send(commands)
            else:
                waiter = Waiter(invocation, uuid, app, app_uuid, wait, names)
                self._waiting.enter(waiter, lambda: self._send(commands))

        def begun(why: Failure | None) -> None:
            if why is not None:
                invocation.fail(why, extra)
            else:
                begin()

        if watched:
            self._if_known(invocation, app, lambda: self._watches.begin(uuid, watched, begun))
        else:
            self._if_known(invocation, app, begin)

    def _if_known(self, invocation: Invocation, app: str, begin: Callable[[], None]) -> None:
        """Call `begin` if FreeSWITCH has the application, or can't say; else answer the request."""

        def listed(answer: str) -> None:
            self._apps.learn(answer)
            if self._apps.has(app):
                begin()
            else:
                invocation.fail(f"Unknown application: {app}")

        def not_listed(why: Failure) -> None:
            if self._apps.known:
                invocation.fail(Failure(why.why, Executed.NO))  # whatever became of the question
            else:  # its database is locked, say
                begin()

        if self._apps.known and self._apps.has(app):
            begin()
        else:
            # Asked again before it is refused: the list may be from when FreeSWITCH had not loaded all its modules.
            limit = 0.0 if self._apps.known else UNLISTED
            self._send([Command(wire.api(LIST_VERB), "show", listed, not_listed, limit=limit)])
