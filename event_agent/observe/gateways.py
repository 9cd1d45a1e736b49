"""Gateways, registrations and calls as the metrics that FreeSWITCH's exporters have. For these it has to be asked.

It is asked if /metrics is: at most once in EVERY seconds, and not again while an answer is out. A scrape does not wait
for it, but shows what the one before has asked for. A question that is not answered within LIMIT seconds has no answer
(with a locked core.db `show` takes 30 seconds and then says 0), and is put again after LATER. To the scheduler they
are slow commands, so a worker carries them out, on a connection of its own.

The names are those of freeswitch_exporter and of a descendant that has gateways as well
(https://github.com/mroject/freeswitch_exporter). Source of the answers: mod_sofia.c, xml_gateway_status, and
mod_commands.c, show_function. `add` runs on `http`, answers come on a worker's thread, `up` is called by `esl-lane`:
each replaces values, and changes none.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence

from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.link import SwitchObserver
from event_agent.observe.exposition import Page
from event_agent.observe.figures import number

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two questions
LIMIT = 5.0  # seconds an answer may take
LATER = 60.0  # seconds until the next question if there was none
OLD = 300.0  # seconds after which an answer is no longer shown
MOST = 500  # gateways that are shown; those that are down come first
LABEL = 200  # characters of a label

_FIELD = re.compile(r" *<([a-z-]+)>(.*)</\1>\Z")
# The name after freeswitch_sofia_gateway_: the element, help.
GATEWAY = {
    "ping": ("ping", "When the gateway is pinged next, in seconds since 1970; 0: it is not."),
    "pingfreq": ("pingfreq", "Seconds between two pings."),
    "pingmin": ("pingmin", "Pings answered from which on it counts as up again."),
    "pingmax": ("pingmax", "How far that is counted."),
    "pingcount": ("pingcount", "How far it has been counted."),
    "pingtime": ("pingtime", "Milliseconds the last ping took."),
    "call_in": ("calls-in", "Calls that came by it."),
    "call_out": ("calls-out", "Calls that went by it."),
    "failed_call_in": ("failed-calls-in", "Calls that came by it and failed."),
    "failed_call_out": ("failed-calls-out", "Calls that went by it and failed."),
}


def gateways_of(answer: str) -> Iterator[dict[str, str]]:
    """The elements of each gateway. Read by lines: FreeSWITCH does not escape all values, so it may be no XML."""
    from html import unescape  # only here: its tables take 0.3 MB

    found: dict[str, str] = {}
    for line in answer.split("\n"):
        if field := _FIELD.match(line):
            found[field[1]] = unescape(field[2])
        elif line.strip() == "</gateway>":
            yield found
            found = {}


def gateway_page(answer: str) -> bytes | None:
    """The metrics of all gateways, None if it is no such answer."""
    if "<gateways>" not in answer or "</gateways>" not in answer:
        return None
    # A series that is there twice spoils the whole scrape.
    each = {(gateway.get("name", "")[:LABEL], gateway.get("profile", "")[:LABEL]): gateway
            for gateway in gateways_of(answer)}  # fmt: skip
    shown = sorted(each.values(), key=lambda gateway: (gateway.get("status") == "UP", gateway.get("name", "")))[:MOST]
    labels = [_labels(gateway, "name", "proxy", "profile") for gateway in shown]
    page = Page()
    page.gauges(
        "freeswitch_sofia_gateway_status", "1 while the gateway is up.",
        [
            (label | _labels(gateway, "context", "scheme"), int(gateway.get("status") == "UP"))
            for gateway, label in zip(shown, labels, strict=True)
        ],
    )  # fmt: skip
    page.gauges(
        "freeswitch_sofia_gateway_state", "The state of its registration: REGED, NOREG, FAIL_WAIT and so on; 1.",
        [(label | _labels(gateway, "state"), 1) for gateway, label in zip(shown, labels, strict=True)],
    )  # fmt: skip
    for name, (element, help) in GATEWAY.items():
        page.gauges(
            f"freeswitch_sofia_gateway_{name}", help,
            [(label, known) for gateway, label in zip(shown, labels, strict=True)
             if (known := number(gateway.get(element, ""))) is not None],
        )  # fmt: skip
    page.gauge("freeswitch_sofia_gateways", "Gateways that there are.", len(each))
    return page.text()


def _labels(gateway: dict[str, str], *names: str) -> dict[str, str]:
    return {name: gateway.get(name, "")[:LABEL] for name in names}


def count_page(name: str, help: str) -> Callable[[str], bytes | None]:
    """Reads an answer of `show … count as json`."""

    def read(answer: str) -> bytes | None:
        try:
            count = json.loads(answer)["row_count"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if type(count) is not int or count < 0:
            return None
        page = Page()
        page.gauge(name, help, count)
        return page.text()

    return read


class Question:
    """One that is put again and again: the text of its last answer's metrics, and when the next may be put."""

    def __init__(self, verb: str, args: str, read: Callable[[str], bytes | None]) -> None:
        self.verb, self.args = verb, args
        self._read = read
        self.out: Command | None = None  # what waits for an answer
        self.due = 0.0
        self._answer: tuple[float, bytes] = (0.0, b"")  # when it came

    def text(self, now: float) -> bytes:
        """The metrics; nothing if they are too old."""
        at, text = self._answer
        return text if now - at < OLD else b""

    def forget(self) -> None:
        """There is another FreeSWITCH: an answer that is still out is of the one before."""
        self.out, self._answer, self.due = None, (0.0, b""), 0.0

    def ask(self, clock: Callable[[], float]) -> Command:
        """The command that asks."""

        def done(answer: str) -> None:
            if self.out is command:
                text = self._read(answer)
                if text is None:
                    log.debug("%s %s: %.200r", self.verb, self.args, answer)
                    self.due = clock() + LATER
                self._answer, self.out = (clock(), text or b""), None

        def failed(why: object) -> None:
            if self.out is command:
                log.debug("%s %s: %s", self.verb, self.args, why)
                self.due, self.out = clock() + LATER, None

        command = Command(wire.api(self.verb, self.args), self.verb, done, failed, slow=True, limit=LIMIT)
        self.out, self.due = command, clock() + EVERY
        return command


class AskedFigures(SwitchObserver):
    """Asks, keeps the answers, and adds them to a scrape."""

    def __init__(self, send: Callable[[Sequence[Command]], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._questions = (
            Question("sofia", "xmlstatus gateway", gateway_page),
            Question("show", "registrations count as json",
                     count_page("freeswitch_registrations", "SIP users that are registered.")),
            Question("show", "calls count as json", count_page("freeswitch_current_calls", "Calls that there are.")),
        )  # fmt: skip

    def up(self) -> None:
        """What was known is of a FreeSWITCH that may have been another one."""
        for question in self._questions:
            question.forget()

    def add(self, page: Page, connected: bool) -> None:
        """Add what is known to a page of metrics, and ask for the next."""
        if not connected:
            return
        now = self._clock()
        for question in self._questions:
            if text := question.text(now):
                page.add(text)
        due = [each for each in self._questions if each.out is None and now >= each.due]
        if due:
            self._send([each.ask(self._clock) for each in due])
