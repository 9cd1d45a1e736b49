"""/metrics and /health on the agent's HTTP listener: for Prometheus, for load balancers, for people with curl.

Both run on the thread `http`, on which FreeSWITCH waits for its dialplan too. So nothing here waits for anything, and
/metrics is made at most once in FRESH seconds, however often it is asked for. The number of series has a bound: the
lanes are seven, the commands are those that `Stats` counts apart, all else is there once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from event_agent import __version__
from event_agent.config.table import Settings
from event_agent.dialplan.control import DialplanControl
from event_agent.drivers.base import Driver
from event_agent.freeswitch.link import Switch
from event_agent.http.server import HttpAnswer, HttpRequest
from event_agent.observe.exposition import CONTENT_TYPE, Page
from event_agent.observe.figures import SwitchFigures
from event_agent.observe.gateways import AskedFigures
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import Endpoint
from event_agent.runtime.stats import Stats

FRESH = 1.0  # seconds for which a scrape is given out again
LOOKED = 10.0  # seconds after which it is suspicious that nobody has looked at the threads
POWERS = (*range(7, 21), 22, 24, 26)  # the histograms' bounds are these powers of two, in microseconds: 128 µs to 67 s
LABEL = 200  # characters of what FreeSWITCH says of itself
# What a driver may count, and how it is called here.
LINK = {
    "messages_sent": "Messages written to the link, replies and events.",
    "messages_dropped": "Messages dropped: the buffer was full, or another server takes less in one.",
    "messages_unconfirmed": "Messages that were on their way when the link broke; they may be lost.",
    "messages_refused": "Messages that the broker refused: our account may not publish there.",
    "reconnects": "How often the link was lost.",
}
# At-least-once delivery: a driver's `delivery`, kind, help. There are none of it at most once: then all are 0.
DELIVERY = {
    "acknowledged": ("counter", "Events that the stream has stored and acknowledged."),
    "sent_again": ("counter", "Events that were sent once more."),
    "duplicates": ("counter", "Events of which the stream said that it had them already."),
    "pending": ("gauge", "Events that are not acknowledged, in memory and on disk."),
    "oldest_pending_seconds": ("gauge", "Seconds for which the oldest of them has waited."),
    "spooled_bytes": ("gauge", "Bytes that events take on disk."),
}
# Lanes without which a node is deaf; the other one has two spellings, and need not be found.
NEEDED = frozenset(("all", "node", "any", "all_verbs", "node_verbs", "any_verbs"))
# What FreeSWITCH says of its load.
FIGURES = {
    "sessions": "Sessions that FreeSWITCH has.",
    "max_sessions": "Sessions that it takes at most.",
    "sessions_per_second": "Sessions begun in the last second.",
    "max_sessions_per_second": "Sessions that it begins in a second at most.",
    "idle_cpu": "Idle processor time of its machine, per cent.",
}


class Readiness(Protocol):
    """Whether the node takes requests that any could."""

    @property
    def reasons(self) -> list[str]:
        """Why it does not; empty if it does."""
        ...

    def section(self) -> dict[str, Any]:
        """All that is known of it, and FIGURES."""
        ...


class Twins(Protocol):
    """Whether another agent goes by our name."""

    @property
    def found(self) -> Sequence[object]:
        """Those that do."""
        ...

    @property
    def fault(self) -> str:
        """What to say of it; "" if none does."""
        ...


CHECKS = ("nats", "subscriptions", "freeswitch", "events", "threads", "node_id", "delivery")


class Monitoring:
    """Tells how the agent does. `threads` is called by the thread that looks after the others, all else by `http`."""

    def __init__(
        self, settings: Settings, driver: Driver, stats: Stats, switch: Switch, readiness: Readiness,
        dialplan: DialplanControl, endpoints: list[Endpoint], twins: Twins, figures: SwitchFigures | None = None,
        asked: AskedFigures | None = None,
    ) -> None:
        self._figures = figures or SwitchFigures()
        self._asked = asked
        self._settings = settings
        self._driver = driver
        self._stats = stats
        self._switch = switch
        self._readiness = readiness
        self._endpoints = endpoints
        self._optional = {each.subject for each in endpoints if each.optional}
        self._twins = twins
        self._started = time.time()
        self._fault = "not looked at yet"
        self.looked_at = time.monotonic()
        self.page, self._page_at = b"", 0.0
        self._dialplan = dialplan
        self.routes: dict[tuple[str, str], Callable[[HttpRequest], HttpAnswer]] = {
            ("GET", "/metrics"): self._metrics, ("GET", "/health"): self._health, ("GET", "/ready"): self._ready,
            ("GET", "/live"): self._live,
        }  # fmt: skip

    def threads(self, faults: list[str]) -> None:
        """Somebody has looked at the threads and found this wrong with them."""
        self._fault, self.looked_at = "; ".join(faults), time.monotonic()

    # -- /health

    def _health(self, _: HttpRequest) -> HttpAnswer:
        faults = self.faults()
        head = {"status": "failing" if faults else "ok", "node_id": self._settings.node_id or "unknown"}
        checks = {name: faults.get(name, "ok") for name in CHECKS}
        links: dict[str, Any] = {"nats": self._driver, "freeswitch": self._switch, "events": self._switch.events.link}
        body = {
            **head, "version": __version__, "checks": checks,
            "links": {name: link.status.fields() for name, link in links.items()},
            "ready": not (not_ready := self._readiness.reasons), "not_ready": not_ready,
        }  # fmt: skip
        return _answer(body, not faults)

    def _ready(self, _: HttpRequest) -> HttpAnswer:
        """Whether work can be taken: for a load balancer, for Kubernetes."""
        reasons = self._readiness.reasons + ([] if self._driver.status.up else ["NATS is not connected"])
        return _answer({"ready": not reasons, "not_ready": reasons}, not reasons)

    def _live(self, _: HttpRequest) -> HttpAnswer:
        """Whether the threads are alive; if not, a restart helps."""
        fault = self._thread_fault()
        return _answer({"live": not fault, "threads": fault or "ok"}, not fault)

    def faults(self) -> dict[str, str]:
        """What is wrong, by the name of the part; empty if all is well."""
        found = {}
        if not self._driver.status.up:
            reason = self._driver.status.reason
            found["nats"] = f"not connected: {reason}" if reason else "not connected"
        refused = self._refused
        needed = [each.subject for each in self._endpoints if each.name in NEEDED and not each.optional]
        if deaf := [each for each in needed if each in refused]:
            found["subscriptions"] = f"refused by the NATS server: {', '.join(deaf)}"
        if (fault := self._driver.events.fault) and self._driver.status.up:
            found["delivery"] = fault
        if not self._switch.connected:
            reason = self._switch.status.reason
            found["freeswitch"] = f"not connected: {reason}" if reason else "not connected"
        if not self._switch.events.connected:
            found["events"] = "not subscribed"
        if fault := self._thread_fault():
            found["threads"] = fault
        if fault := self._twins.fault:
            found["node_id"] = fault
        return found

    @property
    def _refused(self) -> Mapping[str, str]:
        return self._driver.refused()

    def _thread_fault(self) -> str:
        if (since := time.monotonic() - self.looked_at) > LOOKED:
            return f"thread MainThread has not looked at the others for {since:.0f} s"
        return self._fault

    # -- /metrics

    def _metrics(self, _: HttpRequest) -> HttpAnswer:
        now = time.monotonic()
        if not self.page or now - self._page_at > FRESH:
            page = Page()
            self._agent(page)
            self._links(page)
            self._commands(page)
            self._events(page)
            self._park_mode(page)
            self._figures.add(page, self._switch.connected)
            if self._asked is not None:
                self._asked.add(page, self._switch.connected)
            self._routing(page)
            self._process(page)
            self.page, self._page_at = page.text(), now
        return HttpAnswer(self.page, CONTENT_TYPE)

    def _agent(self, page: Page) -> None:
        settings = self._settings
        page.gauge(
            "event_agent_build_info", "The agent's version; 1.", 1, version=__version__,
            python=sys.version.split()[0], driver=settings.driver,
        )  # fmt: skip
        page.gauge(
            "event_agent_node_info", "Which node this is; 1.", 1, node_id=settings.node_id or "unknown",
            subject_prefix=settings.subject_prefix,
        )  # fmt: skip
        page.gauge(
            "event_agent_twins", "Other agents of the same node_id; they carry out the same commands.",
            len(self._twins.found),
        )  # fmt: skip
        page.gauge("event_agent_healthy", "1 where /health says 200.", not self.faults())

    def _links(self, page: Page) -> None:
        switch, counted = self._switch, self._driver.stats()
        page.gauge("event_agent_nats_connected", "1 while the link to the broker is up.", self._driver.status.up)
        for name, help in LINK.items():
            if name in counted:
                page.counter(f"event_agent_nats_{name}_total", help, counted[name])
        page.gauge(
            "event_agent_nats_subscriptions_refused", "Subscriptions that the broker has refused or taken away.",
            len(self._refused.keys() - self._optional),
        )  # fmt: skip
        if "buffered_bytes" in counted:
            page.gauge("event_agent_nats_buffered_bytes", "Bytes that wait for the broker.", counted["buffered_bytes"])
        page.gauge(
            "event_agent_nats_buffer_limit_bytes", "Bytes that may wait; what is beyond is dropped.",
            self._settings.reconnect_buf_size,
        )  # fmt: skip
        page.gauge(
            "event_agent_freeswitch_connected", "1 while commands reach FreeSWITCH.", switch.connected
        )
        page.gauge(
            "event_agent_freeswitch_events_connected", "1 while events come from FreeSWITCH.", switch.events.connected
        )
        self._delivery(page, counted.get("delivery") or {})
        known = self._readiness.section()
        page.gauge("event_agent_ready", "1 while the node takes requests that any could.", known["ready"])
        page.gauge("event_agent_drained", "1 while the node is drained.", known["drained"])
        for name, help in FIGURES.items():
            if known[name] is not None:
                page.gauge(f"event_agent_freeswitch_{name}", help, known[name])
        page.counter("event_agent_freeswitch_disconnects_total", "How often FreeSWITCH was lost.", switch.losses)
        if switch.identity["version"]:
            page.gauge(
                "event_agent_freeswitch_info", "The FreeSWITCH that is, or was, connected; 1.", 1,
                **{name: str(value)[:LABEL] for name, value in switch.identity.items()},
            )  # fmt: skip

    def _delivery(self, page: Page, counted: Mapping[str, Any]) -> None:
        page.gauge(
            "event_agent_delivery_fault", "1 while events wait although the link is up, or the disk fails them.",
            bool(self._driver.events.fault),
        )  # fmt: skip
        for name, (kind, help) in DELIVERY.items():
            value = counted.get(name.removesuffix("_seconds"), 0)
            if kind == "counter":
                page.counter(f"event_agent_delivery_{name}_total", help, value)
            else:
                page.gauge(f"event_agent_delivery_{name}", help, value)
        page.gauge(
            "event_agent_delivery_spool_limit_bytes", "Bytes that they may take there.",
            self._settings.spool_max_bytes if counted else 0,
        )  # fmt: skip

    def _commands(self, page: Page) -> None:
        stats = self._stats
        counted = stats.lanes()  # a copy: a counter that seems to go back by one is a restart to Prometheus
        page.counter("event_agent_requests_received_total", "Requests that were for this node.", stats.received)
        lanes = [(each.name, counted[each.subject]) for each in self._endpoints]
        page.counters(
            "event_agent_lane_requests_total", "Requests answered, by the lane on which they came.",
            [
                ({"lane": name, "result": result}, number)
                for name, each in lanes
                for result, number in (("ok", each.requests - each.errors), ("error", each.errors))
            ],
        )  # fmt: skip
        latencies = sorted(stats.latencies().items())
        page.counters(
            "event_agent_commands_total", "Commands answered.",
            [
                ({"command": name, "result": result}, number)
                for name, each in latencies
                for result, number in (("ok", each.count - each.errors), ("error", each.errors))
            ],
        )  # fmt: skip
        page.histograms(
            "event_agent_command_seconds", "Seconds from a request's arrival to its reply.",
            [2**power / 1e6 for power in POWERS],
            [({"command": name}, each.below(POWERS), each.count, each.microseconds / 1e6) for name, each in latencies],
        )  # fmt: skip
        page.gauge("event_agent_commands_pending", "Commands not answered yet.", self._switch.lane.pending)
        page.gauge(
            "event_agent_command_connections", "Connections to FreeSWITCH that take commands: one, or lanes_read.",
            self._switch.lane.connections,
        )  # fmt: skip

    def _events(self, page: Page) -> None:
        stats = self._stats
        page.counter("event_agent_events_published_total", "Events handed to the broker.", stats.events_published)
        page.counter(
            "event_agent_events_dropped_total", "Events dropped: the buffer was full, or they were too large.",
            stats.events_dropped,
        )  # fmt: skip
        page.counter(
            "event_agent_records_published_total", "Call records handed to the broker.", stats.records_published
        )
        page.counters(
            "event_agent_events_lost_total", "Events lost for sure or maybe, as far as they could be counted.",
            [({"reason": reason}, count) for reason, count in stats.events_lost.items()],
        )  # fmt: skip
        page.counters(
            "event_agent_gaps_total", "Gaps in the events that were announced, the uncounted ones too.",
            [({"reason": reason}, count) for reason, count in stats.gaps.items()],
        )  # fmt: skip
        page.gauge("event_agent_gaps_waiting", "Gaps that are not announced yet.", stats.gaps_waiting)
        page.counter(
            "event_agent_channels_gone_total", "Channels that ended unseen and were announced.", stats.channels_gone
        )
        page.counter(
            "event_agent_channels_found_total", "Channels that began unseen and were announced.", stats.channels_found
        )
        page.gauge(
            "event_agent_events_lag_seconds", "How late the last event came.", float(self._switch.events.lag.seconds)
        )
        page.gauge(
            "event_agent_freeswitch_clock_difference_seconds", "How far FreeSWITCH's clock is behind the agent's.",
            float(self._switch.events.lag.difference),
        )  # fmt: skip

    def _park_mode(self, page: Page) -> None:
        fields = self._dialplan.fields()
        page.gauge("event_agent_park_mode", "1 while park mode is on.", fields["mode"] == "park")
        page.gauge(
            "event_agent_dialplan_bound", "1 if FreeSWITCH has asked this listener for its dialplan.",
            self._dialplan.bound,
        )  # fmt: skip
        page.gauge("event_agent_parked_calls", "Calls parked now.", fields["calls_parked"])
        page.counter("event_agent_calls_parked_total", "Calls parked.", fields["calls_parked_total"])
        page.counter(
            "event_agent_calls_missed_total", "Calls that went past park mode: FreeSWITCH was answered too late.",
            fields["calls_missed"],
        )  # fmt: skip
        page.counter(
            "event_agent_calls_intercepted_total", "Calls taken from the dialplan.", fields["calls_intercepted"]
        )
        page.counter(
            "event_agent_dialplan_questions_refused_total", "Questions without the right dialplan_key.",
            self._dialplan.questions_refused,
        )  # fmt: skip

    def _routing(self, page: Page) -> None:
        router = self._dialplan.router
        page.gauge("event_agent_routing", "1 while a program decides over calls.", self._dialplan.routing)
        page.gauge("event_agent_route_calls_waiting", "Calls that wait for a program's answer.", router.waiting)
        page.counter("event_agent_route_calls_total", "Calls that a program was asked about.", router.asked)
        page.counters(
            "event_agent_route_decisions_total", "Calls that a program has decided.",
            [({"action": action}, number) for action, number in router.actions.items()],
        )  # fmt: skip
        page.counters(
            "event_agent_route_fallbacks_total", "Calls that no program has decided.",
            [({"reason": reason}, number) for reason, number in router.fallbacks.items()],
        )  # fmt: skip
        latency = router.latency
        page.histograms(
            "event_agent_route_seconds", "Seconds from a question to its answer, valid or not.",
            [2**power / 1e6 for power in POWERS],
            [({}, latency.below(POWERS), latency.count, latency.microseconds / 1e6)],
        )  # fmt: skip

    def _process(self, page: Page) -> None:
        """The names that Prometheus's client libraries have agreed on."""
        for name, kind, help, value in process():
            (page.counter if kind == "counter" else page.gauge)(name, help, value)
        page.gauge(
            "process_start_time_seconds", "Start time of the process since unix epoch in seconds.", self._started
        )


def _answer(body: dict[str, object], well: bool) -> HttpAnswer:
    return HttpAnswer(to_utf8(dump_json(body)) + b"\n", "application/json", 200 if well else 503)


def process() -> Iterator[tuple[str, str, str, float]]:
    """What the kernel tells of this process."""
    times = os.times()
    yield (
        "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
        times.user + times.system,
    )  # fmt: skip
    with open("/proc/self/statm", "rb") as file:
        pages = file.read().split()
    size = os.sysconf("SC_PAGE_SIZE")
    yield "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", int(pages[0]) * size
    yield "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", int(pages[1]) * size
    yield "process_open_fds", "gauge", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))
