"""Builds the parts, wires them by passing callables, starts and stops them in order.

Start: NATS and FreeSWITCH each begin connecting on threads of their own; whichever is not there is waited for.
Stop: unsubscribe, let what runs finish and be answered, flush, close; each part in its own try.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from event_agent import __version__
from event_agent.bridge.events import EventPath
from event_agent.commands.api import ApiCommand
from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.dialplan import dialplan_commands
from event_agent.commands.execute_app import LIST_VERB, AppList, ExecuteApp
from event_agent.commands.guards import Guards
from event_agent.commands.hangup import Hangup
from event_agent.commands.originate import Originate
from event_agent.commands.registry import Registry
from event_agent.commands.status import status_command
from event_agent.config.table import PARAMS, Settings
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.parked import ENDS as PARKED_ENDS
from event_agent.dialplan.parked import EVENTS as PARKED_EVENTS
from event_agent.drivers import make_driver
from event_agent.drivers.base import Driver
from event_agent.errors import CommandError
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.handover import Handover, Keeper
from event_agent.freeswitch.link import Switch
from event_agent.observe.discovery import Discovery
from event_agent.observe.monitoring import Monitoring
from event_agent.protocol.events import EventEncoder
from event_agent.protocol.subjects import any_lane, endpoints_of, lanes
from event_agent.runtime import memory
from event_agent.runtime.health import (
    Health,
    watch_audit,
    watch_dialplan,
    watch_lane,
    watch_loop,
    watch_nats,
)
from event_agent.runtime.log import AuditLog
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

DRAIN = 5.0  # seconds from SIGTERM to the end
# Settings that a SIGHUP changes without losing a connection or an event.
RELOADED = (
    "publish_all_events", "include", "exclude", "api_denylist", "api_allowlist", "app_denylist", "log_level",
)  # fmt: skip
# Needed for the list of applications, published or not; there are none but when modules come and go.
MODULE_EVENTS = frozenset(("MODULE_LOAD", "MODULE_UNLOAD"))
SERVER_ID = 56  # characters of what a NATS server without a name calls itself


class Daemon:
    """All of the program but its signals and its command line."""

    def __init__(
        self, settings: Settings, keeper: Keeper | None = None, inherited: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """`keeper` takes descriptors that are to outlive the process, `inherited` are those of the process before.

        Raises ConfigError.
        """
        where = f"{settings.esl_host}:{settings.esl_port}"
        handover = Handover(keeper, inherited or {}, where) if keeper is not None else None
        self._settings = settings
        self._filter = _filter_of(settings)
        self.stats = Stats()
        self.audit = AuditLog()
        self.loop = Loop()
        self.driver: Driver = make_driver(settings)
        self.driver.loop = self.loop
        self._apps = AppList()
        self.gave_up = threading.Event()
        self._any: int | None = None
        self._subscriptions: list[int] = []
        self.path = EventPath(EventEncoder(settings.subject_prefix, settings.node_id), self.driver, self.stats)
        self.switch = Switch(settings, self.loop, self.driver, self.stats, self.path.take, LIST_VERB, handover)
        self.switch.on_greeted = self._apps.learn
        self.switch.on_up = self._join_any
        self.switch.on_down = self._switch_down
        self.pool, self.lane, self.events = self.switch.pool, self.switch.lane, self.switch.events
        endpoints = endpoints_of(settings.subject_prefix, settings.node_id)
        self.discovery = Discovery(
            settings, self.driver, self.stats, self.switch, endpoints, lambda: self._any is not None
        )
        self.monitoring = Monitoring(settings, self.driver, self.stats, self.switch, endpoints)
        self.dialplan = DialplanControl(
            settings.dialplan_listen, settings.state_dir, self.switch.send, self.switch.watch, self.monitoring.routes
        )
        self.monitoring.dialplan = self.dialplan
        self.path.tap("parked calls", PARKED_EVENTS | PARKED_ENDS, self.dialplan.event)
        self.path.tap("the list of applications", MODULE_EVENTS, self._apps.module_event)
        self.switch.on_linked = self.dialplan.links_up
        self.guards = Guards()
        self.registry = Registry(
            self.driver,
            settings.node_id,
            settings.subject_prefix,
            self.stats,
            self.audit,
            self.guards,
            fallback=ApiCommand(self.lane.submit, self.guards),
            declared=COMMANDS,
        )
        self.registry.add("agent.status", status_command(self.stats, self.driver, settings.driver, self._sections))
        self.registry.add("originate", Originate(self.lane.submit, self.guards))
        self.registry.add("hangup", Hangup(self.lane.submit))
        self.registry.add("execute_app", ExecuteApp(self.switch.send, self.guards, self._apps))
        for name, handler in dialplan_commands(self.dialplan).items():
            self.registry.add(name, handler)
        self._health = Health()
        watch_audit(self._health, lambda: self.audit.beat, lambda: self.audit.writing)
        watch_loop(self._health, self.loop.call)
        # The lane answers all it is given within a command's time limit, behind others that had theirs before.
        limit = 2 * settings.command_timeout
        watch_lane(self._health, self.switch.ask_lane, limit, lambda: self.lane.connected, self.pool.overdue)
        self._health.add(self.events.signs())
        if settings.driver == "nats":
            watch_nats(
                self._health, lambda: self.driver.is_connected, settings.reconnect_wait, settings.ping_interval
            )
        if settings.dialplan_listen is not None:
            watch_dialplan(self._health, self.dialplan.do, self._listener)
        self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        """What may change while running."""
        self.guards.set(settings.api_denylist, settings.api_allowlist, settings.app_denylist)
        self.audit.enabled = settings.log_level in ("debug", "info")
        self.path.filter = self._filter
        self.switch.publish(self._filter, MODULE_EVENTS)
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
        # command wait 5 ms for it.
        sys.setswitchinterval(0.0005)
        memory.settle()
        log.info("event-agent %s, node %s", __version__, self._settings.node_id or "unknown")
        self.audit.start()
        self.loop.start()
        self.driver.on_down = lambda reason: log.warning("NATS lost: %s", reason)
        self.driver.on_gave_up = self._give_up
        self.driver.on_batch_end = self._commands_in
        for subject, queue in lanes(self._settings.subject_prefix, self._settings.node_id):
            self._subscriptions.append(self.driver.subscribe(subject, self.registry.handle, queue))
        if self._settings.discovery and self._settings.driver == "nats":
            self.discovery.start()
        self.driver.connect()
        self.dialplan.start()
        self.switch.start()

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
            ("loop", lambda: self.loop.stop(left(0.1))),
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
        return f"{self._settings.driver.upper()} {broker}; FreeSWITCH {self.switch.state}"

    def healthy(self) -> bool:
        """False where a thread is stuck or has ended. Called about once a second, by one thread."""
        well = self._health.well()
        self.monitoring.threads(self._health.found)
        return well

    def _listener(self) -> tuple[str, int] | None:
        try:
            self.dialplan.check()
        except CommandError:
            return None
        return self._settings.dialplan_listen

    # -- the lane that only a node with a FreeSWITCH listens on

    def _join_any(self) -> None:
        if self._any is None:
            subject, queue = any_lane(self._settings.subject_prefix)
            self._any = self.driver.subscribe(subject, self.registry.handle, queue)

    def _leave_any(self) -> None:
        number, self._any = self._any, None
        if number is not None:
            self.driver.unsubscribe(number)

    def _switch_down(self) -> None:
        self._leave_any()
        self.dialplan.link_down()

    # -- the path of commands

    def _commands_in(self) -> None:
        """All requests of one read were handed on: send what came of them."""
        self.events.expect()
        self.lane.flush()

    # -- the rest

    def _sections(self) -> dict[str, Any]:
        return {
            "freeswitch": self.switch.section(),
            "dialplan": self.dialplan.section(),
            "commands_pending": self.lane.pending,
        }

    def _give_up(self, reason: str) -> None:
        log.critical("%s", reason)
        self.gave_up.set()


def _filter_of(settings: Settings) -> EventFilter:
    return EventFilter.of(settings.publish_all_events, settings.include, settings.exclude)
