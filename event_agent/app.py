"""Builds the parts in order from the settings, starts them forward and stops them backward. No data passes here.

NATS and FreeSWITCH each begin connecting on threads of their own; whichever is not there is waited for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from event_agent import __version__, quick
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
from event_agent.commands.registry import Handler, Registry
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
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.subjects import BELOW, VERBS, Endpoint, endpoints_of, slug
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
        stats = Stats()
        audit = AuditLog()
        loop = Loop()
        losses = Losses(stats)
        broker = _Broker(losses)
        self.gave_up = broker.gave_up
        self.driver = driver = make_driver(settings, loop, broker)
        answers = Answers(driver)

        path = EventPath(_encoder_of(settings), driver.events, stats, losses)
        gaps = Gaps()
        # Who wants to hear of neither pays for neither.
        tracked = not {GONE, FOUND} <= chosen.exclude
        channels = Channels(settings.state_dir, gaps) if tracked else None
        self.switch = switch = _switch_of(settings, loop, driver, answers, path, handover, gaps, channels)
        guards = Guards()
        apps = AppList(switch.send)
        waiting = Waiting(switch, loop.after)
        watches = Watches(settings.subject_prefix, OF_CHANNELS, switch, driver, switch.send, loop.after)
        path.copies = watches
        after: dict[str, Callable[[], None]] = {}
        registry = Registry(
            settings.subject_prefix,
            guards,
            fallback=ApiCommand(switch.lane.submit, guards, after),
            declared=COMMANDS,
        )
        twins = Twins(
            driver, loop.after, lambda: driver.status, settings.node_id, settings.subject_prefix,
            verbs=settings.lanes == VERBS,
        )
        requests = Requests(
            registry, driver, driver, answers, switch.lane, switch.events, stats,
            audit, settings.node_id, twins.hear, settings.subject_prefix,
        )  # fmt: skip
        if settings.lanes == VERBS and not driver.wildcards:
            raise ConfigError([f"lanes can't be {VERBS} with driver {settings.driver}: it knows no wildcards"])
        endpoints = endpoints_of(settings.subject_prefix, settings.node_id, settings.lanes, driver.wildcards)
        subjects = Subjects(driver, endpoints, requests.take, requests.take_verbs)
        listener = HttpListener(settings.http_listen)
        dialplan = DialplanControl(
            listener,
            settings.state_dir,
            switch.send,
            lambda names: switch.want("park mode", names),
            Router(
                settings.node_id or "unknown", f"{settings.subject_prefix}.route",
                driver.questions(slug(settings.node_id)), partial(_check_app, guards, apps),
            ),
            settings.dialplan_key,
        )
        readiness = Readiness(
            switch,
            driver.events,
            losses,
            subjects,
            settings.node_id,
            settings.subject_prefix,
            lambda: path.filter,
            lambda: dialplan.parked.now,
            lambda: 0 if channels is None else channels.count,
            settings.state_dir,
            settings.heartbeat,
        )
        after["fsctl"] = readiness.look
        path.tap(readiness.name, SHUTDOWN_EVENTS, readiness.event)
        switch.want(readiness.name, SHUTDOWN_EVENTS)
        figures, asked = SwitchFigures(), AskedFigures(switch.send)
        if settings.http_listen is not None:
            path.tap(figures.name, HEARTBEAT, figures.event)
            switch.want(figures.name, HEARTBEAT)
            switch.observe(asked)
        self.monitoring = Monitoring(
            settings, driver, stats, switch, readiness, dialplan, endpoints, twins,
            figures, asked,
        )  # fmt: skip
        for (method, place), route in self.monitoring.routes.items():
            listener.route(method, place, route)
        self._presence = presence = Presence(
            switch,
            driver.events,
            subjects,
            stats,
            losses,
            settings.node_id,
            settings.subject_prefix,
            lambda: path.filter,
            lambda: driver.status.up,
        )
        if channels is not None:
            UnseenChannels(
                switch, channels, driver.events, losses, stats, loop, settings.node_id,
                settings.subject_prefix, lambda: path.filter,
            )  # fmt: skip
        switch.observe(apps)
        switch.observe(dialplan)
        switch.observe(waiting)
        switch.observe(watches)
        path.tap("parked calls", PARKED_EVENTS | PARKED_ENDS, dialplan.event)
        path.tap("the list of applications", MODULE_EVENTS, apps.module_event)
        path.tap(waiting.name, WAITING_EVENTS, waiting.event)
        switch.want("the list of applications", MODULE_EVENTS)
        records = CallRecords(driver.events, stats, losses, settings.subject_prefix, settings.node_id)
        if settings.cdr:
            path.tap("call records", RECORD_EVENTS, records.event)
            switch.want("call records", RECORD_EVENTS)
        calls = _call_lanes_of(settings, loop, driver, switch, path, requests)
        self._sections: dict[str, Callable[[], Any]] = {
            "freeswitch": switch.section,
            "lanes": partial(_lanes_held, driver, subjects, endpoints),
            "readiness": readiness.section,
            "twins": twins.section,
            "losses": losses.section,
            "channels": lambda: {
                "tracked": None if channels is None else channels.count,
                "gone": stats.channels_gone,
                "found": stats.channels_found,
            },
            "dialplan": dialplan.section,
            "events": lambda: path.filter.section(),
            "commands_pending": lambda: switch.lane.pending,
            "command_connections": lambda: switch.lane.connections,
            "applications_waiting": lambda: len(waiting),
            "calls_watched": lambda: len(watches),
            **({"call_lanes": calls.figures} if calls is not None else {}),
        }
        submit, names = switch.lane.submit, frozenset((*FREESWITCH, *LATER))
        commands: dict[str, Handler] = {
            "agent.status": status_command(stats, driver, self._status),
            "agent.drain": drain_command(readiness.drain),
            "originate": Originate(submit, guards, switch.send, watches, _nobody if calls is None else calls.began),
            "hangup": Hangup(submit),
            "execute_app": ExecuteApp(switch.send, guards, apps, waiting, watches),
            "sendevent": Sendevent(submit, guards, names),
            "call.watch": CallWatch(watches, switch.send, names, waiting.of),
            "call.unwatch": unwatch(watches),
            **dialplan_commands(dialplan, settings.subject_prefix),
        }
        for name, handler in commands.items():
            registry.add(name, handler)

        discovery = Discovery(
            settings, driver, driver, stats, switch, endpoints, lambda: subjects.holds("any"),
            lambda: readiness.reasons, driver.refused,
        )
        found = [discovery] if settings.discovery and settings.driver == "nats" else []
        # Discovery subscribes before the driver has a link: from then on it is asked.
        parts: list[Part] = [
            audit, loop, _announcer_of(settings, loop, driver, switch, path, stats, losses), *found, driver,
            *([channels] if channels is not None else []), switch, dialplan, waiting, watches, listener, readiness,
            presence, twins, *([calls] if calls is not None else []),
        ]  # fmt: skip
        self._parts = Parts(parts)
        self._spare = memory.Spare()
        self.health = Health(self._parts.signs())
        self._changed = _Changed(guards, audit, requests, records, path, switch)
        self._changed.apply(settings, chosen)

    # -- settings that may change while running

    def reload(self, settings: Settings) -> None:
        """Take over what may change while running; the rest is said to need a restart. Raises ConfigError."""
        chosen = _filter_of(settings)
        for name, param in PARAMS.items():
            if not param.reload and getattr(settings, name) != getattr(self._settings, name):
                log.warning("%s has changed: restart event-agent for it to take effect", name)
        self._changed.apply(settings, chosen)
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
        if quick.compiled is None:
            log.info("events take half as much CPU again, without event_agent._quick: %s", quick.REMEDY)
        self._presence.listen()  # before there is a link: then a client may send a request at once
        self._parts.start()

    def stop(self) -> None:
        """Drain and end, within DRAIN seconds."""
        self._parts.stop(DRAIN)
        log.info("event-agent ended")

    def check(self, connect: bool) -> list[str]:
        """Instead of `start`: faults that the settings alone don't show. `connect`: ask the broker, too."""
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
        """False if a thread is stuck or has ended. Called every two seconds or so, by one thread."""
        self._spare.look()
        well = self.health.well()
        self.monitoring.threads(self.health.found)
        return well

    # -- the rest

    def _status(self) -> dict[str, Any]:
        """What agent.status shows beside the driver's and the counters."""
        return {name: section() for name, section in self._sections.items()}


@dataclass(frozen=True)
class _Changed:
    """The parts that have settings which may change while running."""

    guards: Guards
    audit: AuditLog
    requests: Requests
    records: CallRecords
    path: EventPath
    switch: Switch

    def apply(self, settings: Settings, chosen: EventFilter) -> None:
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


def _lanes_held(driver: Driver, subjects: Subjects, endpoints: Sequence[Endpoint]) -> dict[str, str]:
    """Where requests are taken now, by the names of the endpoints."""
    refused = driver.refused()
    return {
        each.name: each.subject for each in endpoints if subjects.holds(each.lane) and each.subject not in refused
    }


def _check_app(guards: Guards, apps: AppList, app: str, args: str) -> None:
    """Raises CommandError for what a program must not have a call run."""
    guards.check_app(app, args)
    if not apps.has(app):
        raise CommandError(f"Unknown application: {app}", field="app")


def _why(status: LinkStatus) -> str:
    """Since when a link is down, and why, in local time."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.since))
    return f" since {since}{': ' if status.reason else ''}{status.reason}"


def _nobody(_: str) -> None:
    """In the place of CallLanes.began, if calls have no lanes."""


class _Broker(Observer):
    """Hears from the driver that it has given up, and what was lost."""

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
    # With one processor FreeSWITCH could not answer while our thread stays awake for the answer.
    soon = settings.command_awake_us / 1e6 if len(os.sched_getaffinity(0)) > 1 else 0.0
    limits = Limits(timeout=settings.command_timeout, reads=settings.lanes_read, soon=soon, nudge=nudge)
    lane = CommandLane(loop, dialer.connect, pool, answers, Link(), limits, driver.resume)
    wake = settings.event_wake_ms / 1000
    bell = Bell(settings.event_wake_multicast, wake) if settings.event_wake_multicast else None

    def take(found: Sequence[RawEvent]) -> None:
        loop.rest()  # the loop's thread, awake, would keep this one waiting for the interpreter
        path.take(found)

    events = EventReader(
        dialer.further, take, Link(), wake, handover=handover, gaps=gaps, channels=channels, bell=bell
    )
    return Switch(dialer, pool, lane, events)


def _announcer_of(
    settings: Settings, loop: Loop, driver: Driver, switch: Switch, path: EventPath, stats: Stats, losses: Losses
) -> Announcer:
    """What says what was lost. It starts before the driver, and ends after it."""
    always = settings.events_delivery == "at_least_once" and settings.spool_mode == "always"
    return Announcer(
        losses,
        driver.events,
        loop,
        lambda: driver.status.up,
        lambda: switch.identity,
        settings.node_id,
        settings.subject_prefix,
        lambda: path.filter,
        lambda: stats.events_published,
        settings.state_dir,
        always and bool(settings.spool_folder),
    )


def _call_lanes_of(
    settings: Settings, loop: Loop, driver: Driver, switch: Switch, path: EventPath, requests: Requests
) -> CallLanes | None:
    """A lane for each call; None if there are none."""
    subjects = driver.many(requests.take_verbs) if settings.call_lanes else None
    if subjects is None:
        return None
    plain = [] if settings.lanes == VERBS else [""]
    tails = (*plain, *([BELOW] if driver.wildcards else []))
    calls = CallLanes(
        settings.subject_prefix, subjects, switch.send, loop.after, lambda: switch.identity["core_uuid"], tails
    )
    switch.observe(calls)
    path.tap(calls.name, LIVE_EVENTS, calls.event, calls.told)
    switch.want(calls.name, LIVE_EVENTS)
    return calls


def _encoder_of(settings: Settings) -> EventEncoder:
    ids = settings.events_delivery == "at_least_once"
    return EventEncoder(settings.subject_prefix, settings.node_id, ids)


def _filter_of(settings: Settings) -> EventFilter:
    return EventFilter.of(settings.publish_all_events, settings.include, settings.exclude)
