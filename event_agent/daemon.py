"""Builds the parts, wires them by passing callables, starts and stops them in order.

Start: NATS and FreeSWITCH each begin connecting on threads of their own; whichever is not there is waited for.
Stop: unsubscribe, let what runs finish and be answered, flush, close; each part in its own try.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from event_agent import __version__
from event_agent.commands.api import ApiCommand
from event_agent.commands.app import LIST_VERB, AppList, ExecuteApp
from event_agent.commands.call import Hangup, Originate
from event_agent.commands.dialplan import dialplan_commands
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Registry
from event_agent.commands.status import status_command
from event_agent.dialplan.control import DialplanControl, widened
from event_agent.drivers import make_driver
from event_agent.drivers.base import Driver
from event_agent.errors import CommandError, LinkError
from event_agent.freeswitch.command_lane import CommandLane
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.event_reader import PROBE, EventReader
from event_agent.freeswitch.ordering import Command
from event_agent.freeswitch.worker_pool import WorkerPool
from event_agent.health import vital_signs, watch_dialplan, watch_nats
from event_agent.log import AuditLog
from event_agent.protocol.announce import announcement, channels_of
from event_agent.protocol.events import BadEvent, EventEncoder
from event_agent.protocol.filters import EventFilter
from event_agent.protocol.subjects import any_lane, lanes
from event_agent.settings import PARAMS, Settings
from event_agent.stats import Stats

log = logging.getLogger(__name__)

CONNECT_LIMIT = 5.0  # seconds for each step of connecting to FreeSWITCH
DRAIN = 5.0  # seconds from SIGTERM to the end
# Settings that a SIGHUP changes without losing a connection or an event.
RELOADED = (
    "publish_all_events", "include", "exclude", "api_denylist", "api_allowlist", "app_denylist", "log_level",
)  # fmt: skip
# Needed for the list of applications, published or not; there are none but when modules come and go.
MODULE_EVENTS = frozenset(("MODULE_LOAD", "MODULE_UNLOAD"))
COMMAND_ACTIVE = 0.5  # seconds after a command for which events are fetched quickly
SERVER_ID = 56  # characters of what a NATS server without a name calls itself


class Daemon:
    """All of the program but its signals and its command line."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError where the settings can't be used."""
        self._settings = settings
        self._filter = _filter_of(settings)
        self.stats = Stats()
        self.audit = AuditLog()
        self.driver: Driver = make_driver(settings)
        self._switch: dict[str, Any] = {"version": "", "core_uuid": "", "hostname": ""}
        self._apps = AppList()
        self._announced = False
        self._dropped_then = 0  # events dropped before the last announcement
        self._told = ""
        self.gave_up = threading.Event()
        self._any: int | None = None
        self._subscriptions: list[int] = []
        self._encoder = EventEncoder(settings.subject_prefix, settings.node_id)
        self.pool = WorkerPool(lambda: self._connect(False), settings.workers)
        self.lane = CommandLane(
            self._connect, self.pool, self.driver.batch, self._switch_up, self._switch_down, settings.command_timeout
        )
        self.lane.wake_jobs = settings.event_wake_ms > 0
        self.events = EventReader(
            lambda: self._connect(False),
            self._event,
            self.driver.batch,
            self._events_up,
            self._events_down,
            settings.event_wake_ms / 1000,
        )
        self._watched: frozenset[str] = frozenset()  # events that are needed here, published or not
        self._subscribing = threading.Lock()
        self.dialplan = DialplanControl(settings.dialplan_listen, settings.state_dir, self._send, self._watch)
        self.guards = Guards()
        self.registry = Registry(
            self.driver,
            settings.node_id,
            settings.subject_prefix,
            self.stats,
            self.audit,
            self.guards,
            fallback=ApiCommand(self.lane.submit, self.guards),
        )
        self.registry.add("agent.status", status_command(self.stats, self.driver, settings.driver, self._sections))
        self.registry.add("originate", Originate(self.lane.submit, self.guards))
        self.registry.add("hangup", Hangup(self.lane.submit))
        self.registry.add("execute_app", ExecuteApp(self._send, self.guards, self._apps))
        for name, handler in dialplan_commands(self.dialplan).items():
            self.registry.add(name, handler)
        # The lane answers all it is given within a command's time limit, behind others that had theirs before.
        self._health = vital_signs(
            self._ask_lane, 2 * settings.command_timeout, lambda: self.events.connected, lambda: self.events.beat
        )
        if settings.driver == "nats":
            watch_nats(self._health, lambda: self.driver.is_connected)
        if settings.dialplan_listen is not None:
            watch_dialplan(self._health, self.dialplan._do, self._listener)
        self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        """What may change while running."""
        self.guards.set(settings.api_denylist, settings.api_allowlist, settings.app_denylist)
        self.audit.enabled = settings.log_level in ("debug", "info")
        self._watch(self._watched)
        logging.getLogger("event_agent").setLevel(settings.log_level.upper())

    def reload(self, settings: Settings) -> None:
        """Take over what may change while running; the rest is said to need a restart. Raises ConfigError."""
        wanted = _filter_of(settings)
        fixed = [
            name for name in PARAMS if name not in RELOADED and getattr(settings, name) != getattr(self._settings, name)
        ]
        for name in fixed:
            log.warning("%s has changed: restart event-agent for it to take effect", name)
        self._filter = wanted
        self._apply(settings)
        self._settings = replace(self._settings, **{name: getattr(settings, name) for name in RELOADED})
        log.info("configuration read again")

    def start(self) -> None:
        """Start all parts; returns at once."""
        # Threads hand the interpreter to each other at every switch interval; a busy event thread must not make a
        # command wait 5 ms for it. Objects made at start-up live for ever: the collector need not look at them.
        sys.setswitchinterval(0.0005)
        gc.collect()
        gc.freeze()
        log.info("event-agent %s, node %s", __version__, self._settings.node_id or "unknown")
        self.audit.start()
        self.driver.on_down = lambda reason: log.warning("NATS lost: %s", reason)
        self.driver.on_gave_up = self._give_up
        self.driver.on_batch_end = self._commands_in
        for subject, queue in lanes(self._settings.subject_prefix, self._settings.node_id):
            self._subscriptions.append(self.driver.subscribe(subject, self.registry.handle, queue))
        self.driver.connect()
        self._watch(self._watched)
        self.dialplan.start()
        self.lane.start()
        self.events.start()

    def stop(self) -> None:
        """Drain and end, within DRAIN seconds."""
        deadline = time.monotonic() + DRAIN

        def left(reserve: float = 0.0) -> float:
            return max(0.05, deadline - reserve - time.monotonic())

        steps: list[tuple[str, Callable[[], None]]] = [
            ("unsubscribe", self._unsubscribe),
            ("dialplan", lambda: self.dialplan.stop(left(2.5))),
            ("finish commands", lambda: self._finish(left(1.5))),
            ("worker pool", lambda: self.pool.stop(left(1.2))),
            ("command lane", lambda: self.lane.stop(left(1.0))),
            ("events", lambda: self.events.stop(left(0.8))),
            ("driver", lambda: self.driver.close(left(0.2))),
            ("audit", lambda: self.audit.stop(left())),
        ]
        for name, step in steps:
            try:
                step()
            except Exception:
                log.exception("stopping: %s", name)
        log.info("event-agent ended")

    def _unsubscribe(self) -> None:
        self._leave_any()
        for number in self._subscriptions:
            self.driver.unsubscribe(number)

    def _finish(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while (pending := self.lane.pending) and time.monotonic() < deadline:
            time.sleep(0.01)
        if pending:
            log.warning("%d commands were still running at the end", pending)

    # -- for the service manager

    @property
    def links(self) -> str:
        """How the two links stand, in a line."""
        broker = "connected" if self.driver.is_connected else "not connected"
        server = str(self.driver.stats().get("server", ""))
        if 0 < len(server) < SERVER_ID:
            broker += f" ({server})"
        version = str(self._switch["version"]).removeprefix("FreeSWITCH Version ").partition(" ")[0].partition("~")[0]
        switch = f"connected ({version})" if self.lane.connected else "not connected"
        if self.lane.connected and not self.events.connected:
            switch += ", without events"
        return f"{self._settings.driver.upper()} {broker}; FreeSWITCH {switch}"

    def healthy(self) -> bool:
        """False where a thread is stuck or has ended. Called about once a second, by one thread."""
        return self._health.well()

    def _ask_lane(self, answered: Callable[[], None]) -> None:
        self._send([Command(PROBE, "filter", lambda _: answered(), lambda _: answered())])

    def _listener(self) -> tuple[str, int] | None:
        try:
            self.dialplan.check()
        except CommandError:
            return None
        return self._settings.dialplan_listen

    # -- FreeSWITCH

    def _connect(self, fresh: bool) -> Connection:
        """A connection; for a new link it also asks who is there. Raises LinkError."""
        settings = self._settings
        connection = Connection(settings.esl_host, settings.esl_port, settings.esl_password, CONNECT_LIMIT)
        if fresh:
            try:
                for name, verb in _IDENTITY:
                    answer = connection.ask(f"api {verb}\n\n", CONNECT_LIMIT).text.strip()
                    if answer.startswith("-ERR"):  # mod_commands is loaded after mod_event_socket
                        raise LinkError("FreeSWITCH is still starting")
                    self._switch[name] = answer
                self._apps.learn(connection.ask(f"api {LIST_VERB}\n\n", CONNECT_LIMIT).text)
            except BaseException:
                connection.close()
                raise
        return connection

    def _switch_up(self) -> None:
        self._told = ""
        if self._any is None:
            subject, queue = any_lane(self._settings.subject_prefix)
            self._any = self.driver.subscribe(subject, self.registry.handle, queue)
        log.info("FreeSWITCH connected: %s", self._switch["version"].partition("~")[0])
        self._links_up()

    def _links_up(self) -> None:
        """Both connections are up: say so to consumers, with what is in progress."""
        with self._subscribing:  # each of the two threads may be the one that completes the link
            up = self.lane.connected and self.events.connected and not self._announced
            self._announced = self._announced or up
        if up:
            self.dialplan.links_up()
            dropped, self._dropped_then = self.stats.events_dropped - self._dropped_then, self.stats.events_dropped
            unseen = self.events.unseen

            def told(answer: str) -> None:
                self._announce("connected", channels=channels_of(answer), events_dropped=dropped, events_unseen=unseen)

            def untold(_: str) -> None:
                pass  # the link is lost again: there will be another announcement

            self._send([Command("api show channels as json\n\n", "show", told, untold, slow=True)])

    def _announce(self, what: str, **fields: Any) -> None:
        settings = self._settings
        name = f"AGENT_{what.upper()}"
        if name in self._filter.exclude:
            return
        payload = announcement(name, settings.node_id, self._switch, **fields)
        if len(payload) > self.driver.max_payload:
            payload = announcement(name, settings.node_id, self._switch, **{**fields, "channels": None})
        self.driver.publish(f"{settings.subject_prefix}.events.agent.{what}", payload)

    def _switch_down(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            log.warning("FreeSWITCH is away: %s; trying on", reason)
        self._leave_any()
        self.dialplan.link_down()
        self._links_down(reason)

    def _leave_any(self) -> None:
        number, self._any = self._any, None
        if number is not None:
            self.driver.unsubscribe(number)

    def _events_up(self) -> None:
        log.info("FreeSWITCH events: subscribed")
        self._links_up()

    def _watch(self, names: frozenset[str]) -> None:
        """Events that are published, and these, are what FreeSWITCH sends from now on. From any thread."""
        with self._subscribing:
            self._watched = names
            self.events.subscribe(widened(self._filter, names | MODULE_EVENTS))

    def _send(self, commands: Sequence[Command]) -> None:
        """Commands of our own, in this order. From any thread."""
        for command in commands:
            self.lane.submit(command)
        self.lane.flush()

    def _links_down(self, reason: str) -> None:
        if self._announced:
            self._announced = False
            self._announce("disconnected", reason=reason)

    def _events_down(self, reason: str) -> None:
        self._links_down(reason)
        log.debug("events: %s", reason)
        if "frozen" in reason:
            self.lane.abort()
            self.pool.abort()

    # -- the two paths

    def _commands_in(self) -> None:
        """All requests of one read were handed on: send what came of them."""
        self.events.active_until = max(self.events.active_until, time.monotonic() + COMMAND_ACTIVE)
        self.lane.flush()

    def _event(self, data: bytes) -> None:
        """An event came: FreeSWITCH's JSON, on the event thread."""
        try:
            event = self._encoder.encode(data)
        except BadEvent as error:
            log.warning("event dropped: %s", error)
            self.stats.events_dropped += 1
            return
        if event.name == "CHANNEL_CREATE":
            self.events.calls += 1
        elif event.name == "CHANNEL_DESTROY":
            self.events.calls = max(0, self.events.calls - 1)
        elif event.name in MODULE_EVENTS:
            self._apps.module_event(data, event.name == "MODULE_LOAD")
        self.dialplan.event(event.name, data)
        if not self._filter.wants(event.name):
            return
        if len(event.payload) > self.driver.max_payload:
            most = self.driver.max_payload
            log.warning("event %s dropped: %d bytes, the broker takes %d", event.name, len(event.payload), most)
            self.stats.events_dropped += 1
        elif self.driver.publish(event.subject, event.payload):
            self.stats.events_published += 1
        else:
            self.stats.events_dropped += 1

    # -- the rest

    def _sections(self) -> dict[str, Any]:
        return {
            "freeswitch": {
                "connected": self.lane.connected,
                "events": self.events.connected,
                "events_lag": round(self.events.lag, 3),
                **self._switch,
            },
            "dialplan": self.dialplan.section(),
            "commands_pending": self.lane.pending,
        }

    def _give_up(self, reason: str) -> None:
        log.critical("%s", reason)
        self.gave_up.set()


_IDENTITY = (("version", "version"), ("core_uuid", "global_getvar core_uuid"), ("hostname", "hostname"))


def _filter_of(settings: Settings) -> EventFilter:
    return EventFilter.of(settings.publish_all_events, settings.include, settings.exclude)
