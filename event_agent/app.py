"""Builds the parts in order from the settings, starts them forward and stops them backward. No data passes here.

NATS and FreeSWITCH each begin connecting on threads of their own; whichever is not there is waited for.
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
from event_agent.bridge.live import EVENTS as LIVE_EVENTS
from event_agent.bridge.live import CallLanes
from event_agent.bridge.losses import Announcer, Losses
from event_agent.bridge.presence import Presence, Subjects
from event_agent.bridge.readiness import EVENTS as SHUTDOWN_EVENTS
from event_agent.bridge.readiness import Readiness
from event_agent.bridge.records import EVENTS as RECORD_EVENTS
from event_agent.bridge.records import CallRecords
from event_agent.bridge.requests import Answers, Requests
from event_agent.bridge.twins import Twins
from event_agent.bridge.unseen import FOUND, GONE, UnseenChannels
from event_agent.commands.api import ApiCommand
from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.dialplan import dialplan_commands
from event_agent.commands.drain import drain_command
from event_agent.commands.execute_app import AppList, ExecuteApp
from event_agent.commands.guards import Guards
from event_agent.commands.hangup import Hangup
from event_agent.commands.originate import Originate
from event_agent.commands.registry import Registry
from event_agent.commands.sendevent import Sendevent
from event_agent.commands.status import status_command
from event_agent.commands.waiting import EVENTS as WAITING_EVENTS
from event_agent.commands.waiting import Waiting
from event_agent.commands.watch import CallWatch, Watches, unwatch
from event_agent.config.event_names import FREESWITCH, LATER, OF_CHANNELS
from event_agent.config.table import PARAMS, Settings
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.parked import ENDS as PARKED_ENDS
from event_agent.dialplan.parked import EVENTS as PARKED_EVENTS
from event_agent.dialplan.router import Router
from event_agent.drivers import delivery_faults, make_driver
from event_agent.drivers.base import Driver, Loss, Observer
from event_agent.errors import CommandError, ConfigError
from event_agent.freeswitch.bell import Bell
from event_agent.freeswitch.channels import Channels
from event_agent.freeswitch.dialer import Dialer
from event_agent.freeswitch.event_reader import EventReader
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import Gaps
from event_agent.freeswitch.handover import Handover, Keeper
from event_agent.freeswitch.lane import CommandLane
from event_agent.freeswitch.link import Switch
from event_agent.freeswitch.pool import WorkerPool
from event_agent.freeswitch.scheduler import Limits
from event_agent.http.listener import HttpListener
from event_agent.observe.discovery import Discovery
from event_agent.observe.figures import EVENTS as HEARTBEAT
from event_agent.observe.figures import SwitchFigures
from event_agent.observe.gateways import AskedFigures
from event_agent.observe.monitoring import Monitoring
from event_agent.protocol.carried import carried
from event_agent.protocol.events import EventEncoder
from event_agent.protocol.subjects import BELOW, VERBS, endpoints_of, slug
from event_agent.runtime import memory
from event_agent.runtime.health import Health
from event_agent.runtime.link import Link, LinkState, LinkStatus
from event_agent.runtime.log import AuditLog, change_format
from event_agent.runtime.loop import Loop
from event_agent.runtime.part import Part, Parts
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

DRAIN = 5.0  # seconds from SIGTERM to the end
# Needed for the list of applications, published or not; there are none but when modules come and go.
MODULE_EVENTS = frozenset(("MODULE_LOAD", "MODULE_UNLOAD"))
SERVER_ID = 56  # characters of what a NATS server without a name calls itself


class Daemon:
    """All of the program but its signals and its command line."""

    def __init__(
        self, settings: Settings, keeper: Keeper | None = None, inherited: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """`keeper` takes descriptors that are to outlive the process, `inherited` are those of the process before.

        Raises ConfigError if the settings can't be used.
        """
        where = f"{settings.esl_host}:{settings.esl_port}"
        handover = Handover(keeper, inherited or {}, where) if keeper is not None else None
        self._settings = settings
        chosen = _filter_of(settings)
        self.stats = Stats()
        self.audit = AuditLog()
        self.loop = Loop()
        self.losses = losses = Losses(self.stats)
        broker = _Broker(losses)
        self.gave_up = broker.gave_up
        self.driver: Driver = make_driver(settings, self.loop, broker)
        answers = Answers(self.driver)

        self.path = EventPath(_encoder_of(settings), self.driver.events, self.stats, losses)
        gaps = Gaps()
        # Who wants to hear of neither pays for neither.
        tracked = not {GONE, FOUND} <= chosen.exclude
        self.channels = Channels(settings.state_dir, gaps) if tracked else None
        self.switch = _switch_of(settings, self.loop, self.driver, answers, self.path, handover, gaps, self.channels)
        self.guards = Guards()
        self.apps = AppList(self.switch.send)
        self.waiting = Waiting(self.switch, self.loop.after)
        self.watches = Watches(
            settings.subject_prefix, OF_CHANNELS, self.switch, self.driver, self.switch.send, self.loop.after
        )
        self.path.copies = self.watches
        after: dict[str, Callable[[], None]] = {}
        self.registry = Registry(
            settings.subject_prefix,
            self.guards,
            fallback=ApiCommand(self.switch.lane.submit, self.guards, after),
            declared=COMMANDS,
        )
        self.twins = Twins(
            self.driver, self.loop.after, lambda: self.driver.status, settings.node_id, settings.subject_prefix,
            verbs=settings.lanes == VERBS,
        )
        self.requests = Requests(
            self.registry, self.driver, self.driver, answers, self.switch.lane, self.switch.events, self.stats,
            self.audit, settings.node_id, self.twins.hear, settings.subject_prefix,
        )  # fmt: skip
        if settings.lanes == VERBS and not self.driver.wildcards:
            raise ConfigError([f"lanes can't be {VERBS} with driver {settings.driver}: it knows no wildcards"])
        self.endpoints = endpoints = endpoints_of(
            settings.subject_prefix, settings.node_id, settings.lanes, self.driver.wildcards
        )
        self.subjects = subjects = Subjects(self.driver, endpoints, self.requests.take, self.requests.take_verbs)
        self.listener = HttpListener(settings.http_listen)
        self.dialplan = DialplanControl(
            self.listener,
            settings.state_dir,
            self.switch.send,
            lambda names: self.switch.want("park mode", names),
            Router(
                settings.node_id or "unknown", f"{settings.subject_prefix}.route",
                self.driver.questions(slug(settings.node_id)), self._check_app,
            ),
            settings.dialplan_key,
        )
        self.readiness = Readiness(
            self.switch,
            self.driver.events,
            losses,
            subjects,
            settings.node_id,
            settings.subject_prefix,
            lambda: self.path.filter,
            lambda: self.dialplan.parked.now,
            lambda: 0 if self.channels is None else self.channels.count,
            settings.state_dir,
            settings.heartbeat,
        )
        after["fsctl"] = self.readiness.look
        self.path.tap(self.readiness.name, SHUTDOWN_EVENTS, self.readiness.event)
        self.switch.want(self.readiness.name, SHUTDOWN_EVENTS)
        figures, asked = SwitchFigures(), AskedFigures(self.switch.send)
        if settings.http_listen is not None:
            self.path.tap(figures.name, HEARTBEAT, figures.event)
            self.switch.want(figures.name, HEARTBEAT)
            self.switch.observe(asked)
        self.monitoring = Monitoring(
            settings, self.driver, self.stats, self.switch, self.readiness, self.dialplan, endpoints, self.twins,
            figures, asked,
        )  # fmt: skip
        for (method, path), route in self.monitoring.routes.items():
            self.listener.route(method, path, route)
        self._presence = presence = Presence(
            self.switch,
            self.driver.events,
            subjects,
            self.stats,
            losses,
            settings.node_id,
            settings.subject_prefix,
            lambda: self.path.filter,
            lambda: self.driver.status.up,
        )
        if self.channels is not None:
            UnseenChannels(
                self.switch, self.channels, self.driver.events, losses, self.stats, self.loop, settings.node_id,
                settings.subject_prefix, lambda: self.path.filter,
            )  # fmt: skip
        self.switch.observe(self.apps)
        self.switch.observe(self.dialplan)
        self.switch.observe(self.waiting)
        self.switch.observe(self.watches)
        self.path.tap("parked calls", PARKED_EVENTS | PARKED_ENDS, self.dialplan.event)
        self.path.tap("the list of applications", MODULE_EVENTS, self.apps.module_event)
        self.path.tap(self.waiting.name, WAITING_EVENTS, self.waiting.event)
        self.switch.want("the list of applications", MODULE_EVENTS)
        self.records = CallRecords(
            self.driver.events, self.stats, losses, settings.subject_prefix, settings.node_id
        )
        if settings.cdr:
            self.path.tap("call records", RECORD_EVENTS, self.records.event)
            self.switch.want("call records", RECORD_EVENTS)
        self.calls = self._call_lanes(settings)
        self._add_commands()

        discovery = Discovery(
            settings, self.driver, self.driver, self.stats, self.switch, endpoints, lambda: subjects.holds("any"),
            lambda: self.readiness.reasons, self.driver.refused,
        )
        found = [discovery] if settings.discovery and settings.driver == "nats" else []
        channels = [self.channels] if self.channels is not None else []
        # Discovery subscribes before the driver has a link: from then on it is asked.
        parts: list[Part] = [
            self.audit, self.loop, self._announcer(settings), *found, self.driver, *channels, self.switch,
            self.dialplan, self.waiting, self.watches, self.listener, self.readiness, presence, self.twins,
            *([self.calls] if self.calls is not None else []),
        ]  # fmt: skip
        self._parts = Parts(parts)
        self.health = Health(self._parts.signs())
        self._apply(settings, chosen)

    def _announcer(self, settings: Settings) -> Announcer:
        """What says what was lost. It starts before the driver, and ends after it."""
        always = settings.events_delivery == "at_least_once" and settings.spool_mode == "always"
        return Announcer(
            self.losses,
            self.driver.events,
            self.loop,
            lambda: self.driver.status.up,
            lambda: self.switch.identity,
            settings.node_id,
            settings.subject_prefix,
            lambda: self.path.filter,
            lambda: self.stats.events_published,
            settings.state_dir,
            always and bool(settings.spool_folder),
        )

    def _call_lanes(self, settings: Settings) -> CallLanes | None:
        """None if there are none."""
        subjects = self.driver.many(self.requests.take_verbs) if settings.call_lanes else None
        if subjects is None:
            return None
        plain = [] if settings.lanes == VERBS else [""]
        tails = (*plain, *([BELOW] if self.driver.wildcards else []))
        calls = CallLanes(
            settings.subject_prefix, subjects, self.switch.send, self.loop.after,
            lambda: self.switch.identity["core_uuid"], tails,
        )  # fmt: skip
        self.switch.observe(calls)
        self.path.tap(calls.name, LIVE_EVENTS, calls.event)
        self.switch.want(calls.name, LIVE_EVENTS)
        return calls

    def _add_commands(self) -> None:
        """The commands that are no API verbs."""
        add, submit, guards = self.registry.add, self.switch.lane.submit, self.guards
        add("agent.status", status_command(self.stats, self.driver, self._sections))
        add("agent.drain", drain_command(self.readiness.drain))
        began = self.calls.began if self.calls is not None else _nobody
        add("originate", Originate(submit, guards, self.switch.send, self.watches, began))
        add("hangup", Hangup(submit))
        add("execute_app", ExecuteApp(self.switch.send, guards, self.apps, self.waiting, self.watches))
        names = frozenset((*FREESWITCH, *LATER))
        add("sendevent", Sendevent(submit, guards, names))
        add("call.watch", CallWatch(self.watches, self.switch.send, names, self.waiting.of))
        add("call.unwatch", unwatch(self.watches))
        for name, handler in dialplan_commands(self.dialplan, self._settings.subject_prefix).items():
            add(name, handler)

    def _check_app(self, app: str, args: str) -> None:
        """Raises CommandError for what a program must not have a call run."""
        self.guards.check_app(app, args)
        if not self.apps.has(app):
            raise CommandError(f"Unknown application: {app}", field="app")

    # -- settings that may change while running

    def _apply(self, settings: Settings, chosen: EventFilter) -> None:
        self.guards.set(settings.api_denylist, settings.api_allowlist, settings.app_denylist)
        self.audit.enabled = settings.log_level in ("debug", "info") and settings.audit != "off"
        self.audit.json = settings.log_format == "json"
        self.requests.audited, self.requests.slow = settings.audit, settings.slow_log
        self.records.variables = settings.cdr_variables
        self.path.filter = chosen
        self.path.carry(carried(settings.event_fields, settings.event_variables))
        self.switch.publish(chosen)
        logging.getLogger("event_agent").setLevel(settings.log_level.upper())
        change_format(settings.log_format)

    def reload(self, settings: Settings) -> None:
        """Take over what may change while running; the rest is said to need a restart. Raises ConfigError."""
        chosen = _filter_of(settings)
        for name, param in PARAMS.items():
            if not param.reload and getattr(settings, name) != getattr(self._settings, name):
                log.warning("%s has changed: restart event-agent for it to take effect", name)
        self._apply(settings, chosen)
        taken = {name: getattr(settings, name) for name, param in PARAMS.items() if param.reload}
        self._settings = replace(self._settings, **taken)
        log.info("configuration read again")

    # -- life

    def start(self) -> None:
        """Start all parts; returns at once."""
        # Threads hand the interpreter to each other at every switch interval; a busy event thread must not make a
        # command wait 5 ms for it.
        sys.setswitchinterval(0.0005)
        memory.settle()
        log.info("event-agent %s, node %s", __version__, self._settings.node_id or "unknown")
        self._presence.listen()  # before there is a link: then a client may send a request at once
        self._parts.start()

    def stop(self) -> None:
        """Drain and end, within DRAIN seconds."""
        self._parts.stop(DRAIN)
        log.info("event-agent ended")

    def check(self, connect: bool) -> list[str]:
        """Instead of `start`: what the settings don't tell. `connect`: ask the broker, too."""
        return delivery_faults(self._settings, connect)

    # -- for the service manager

    @property
    def links(self) -> str:
        """How the two links stand, in a line."""
        broker = "connected" if self.driver.status.up else f"not connected{_why(self.driver.status)}"
        server = str(self.driver.stats().get("server", ""))
        if 0 < len(server) < SERVER_ID:
            broker += f" ({server})"
        switch = self.switch.state + ("" if self.switch.connected else _why(self.switch.status))
        return f"{self._settings.driver.upper()} {broker}; FreeSWITCH {switch}"

    def healthy(self) -> bool:
        """False if a thread is stuck or has ended. Called about once a second, by one thread."""
        well = self.health.well()
        self.monitoring.threads(self.health.found)
        return well

    # -- the rest

    def _lanes_held(self) -> dict[str, str]:
        """Where requests are taken now, by the names of the endpoints."""
        refused = self.driver.refused()
        return {
            each.name: each.subject for each in self.endpoints
            if self.subjects.holds(each.lane) and each.subject not in refused
        }  # fmt: skip

    def _sections(self) -> dict[str, Any]:
        return {
            "freeswitch": self.switch.section(),
            "lanes": self._lanes_held(),
            "readiness": self.readiness.section(),
            "twins": self.twins.section(),
            "losses": self.losses.section(),
            "channels": {
                "tracked": None if self.channels is None else self.channels.count,
                "gone": self.stats.channels_gone,
                "found": self.stats.channels_found,
            },
            "dialplan": self.dialplan.section(),
            "events": self.path.filter.section(),
            "commands_pending": self.switch.lane.pending,
            "command_connections": self.switch.lane.connections,
            "applications_waiting": len(self.waiting),
            "calls_watched": len(self.watches),
            **({"call_lanes": self.calls.figures()} if self.calls is not None else {}),
        }


def _why(status: LinkStatus) -> str:
    """Since when a link is down, and why, in local time."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.since))
    return f" since {since}{': ' if status.reason else ''}{status.reason}"


def _nobody(_: str) -> None:
    """Hears of calls that have begun if there are no lanes of calls."""


class _Broker(Observer):
    """Tells the daemon when its driver has given up, and what was lost."""

    def __init__(self, losses: Losses) -> None:
        self.gave_up = threading.Event()
        self._losses = losses

    def link_changed(self, status: LinkStatus) -> None:
        if status.state is LinkState.GAVE_UP:
            log.critical("%s", status.reason)
            self.gave_up.set()

    def settled(self, number: int, lost: int) -> None:
        self._losses.through(number, lost)

    def lost(self, loss: Loss) -> None:
        self._losses.add(loss)


def _switch_of(
    settings: Settings, loop: Loop, driver: Driver, answers: Answers, path: EventPath, handover: Handover | None,
    gaps: Gaps, channels: Channels | None,
) -> Switch:
    """The link to FreeSWITCH and its parts."""
    dialer = Dialer(settings.esl_host, settings.esl_port, settings.esl_password)
    pool = WorkerPool(dialer.further, 2 * settings.workers)  # of which one verb has half, see shares.py
    nudge = settings.event_wake_ms > 0
    limits = Limits(timeout=settings.command_timeout, reads=settings.lanes_read, nudge=nudge)
    lane = CommandLane(loop, dialer.connect, pool, answers, Link(), limits, driver.resume)
    wake = settings.event_wake_ms / 1000
    bell = Bell(settings.event_wake_multicast, wake) if settings.event_wake_multicast else None
    events = EventReader(
        dialer.further, path.take, Link(), wake, handover=handover, gaps=gaps, channels=channels, bell=bell
    )
    return Switch(dialer, pool, lane, events)


def _encoder_of(settings: Settings) -> EventEncoder:
    ids = settings.events_delivery == "at_least_once"
    return EventEncoder(settings.subject_prefix, settings.node_id, ids)


def _filter_of(settings: Settings) -> EventFilter:
    return EventFilter.of(settings.publish_all_events, settings.include, settings.exclude)
