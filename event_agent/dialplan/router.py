"""Asks a program about calls, and counts what it says. A call that no program decides takes the fallback.

All on the listener's thread, but that the driver answers on its own. How many calls may wait at one time is for the
driver to say (MAX_QUESTIONS): those beyond take the fallback at once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from event_agent.dialplan.routing import ACTIONS, Check, Decision, Route, decision, question
from event_agent.drivers.base import Answer, Questions, Unanswered
from event_agent.errors import CommandError
from event_agent.runtime.log import Seldom
from event_agent.runtime.stats import Latency

log = logging.getLogger(__name__)

INVALID, GAVE_UP = "invalid", "gave_up"
REASONS = (*(each.value for each in Unanswered), INVALID, GAVE_UP)
RECENT = 1000  # answers of which the median and the 99th percentile are told
SHOWN = 200  # characters of what is wrong with an answer


class Router:
    """Asks a program what is to be done with a call, and answers for it if none does."""

    def __init__(self, node_id: str, subject: str, questions: Questions | None, check: Check) -> None:
        """`subject`: where programs are asked, unless the route says. `check`: see routing.decision."""
        self._node_id = node_id
        self._subject = subject
        self._questions = questions
        self._check = check
        self.waiting = 0  # calls
        self.asked = 0
        self.actions = dict.fromkeys(ACTIONS, 0)  # calls decided by a program
        self.fallbacks = dict.fromkeys(REASONS, 0)
        self.latency = Latency()  # of answers, valid or not
        self._recent: deque[float] = deque(maxlen=RECENT)  # seconds
        self.last = ""  # why the last one was taken
        self._seldom = {reason: Seldom() for reason in REASONS}

    @property
    def able(self) -> bool:
        """False if the driver can't ask."""
        return self._questions is not None

    def begin(self) -> None:
        """Calls will be asked about. From any thread."""
        if self._questions is not None:
            self._questions.begin()

    def subject(self, route: Route) -> str:
        """Where programs are asked."""
        return route.subject or self._subject

    def ask(
        self, route: Route, params: Mapping[str, str], answered: Callable[[Callable[[bool], Decision]], None]
    ) -> None:
        """Ask about a call. `answered` is called once, on any thread, with what gives the decision.

        That must be called, once, on the listener's thread, with True if FreeSWITCH waits no longer.
        """
        began = time.monotonic()
        self.asked += 1
        self.waiting += 1

        def then(answer: Answer) -> None:
            took = time.monotonic() - began
            answered(lambda gone: self._decide(route, answer, took, gone))

        if self._questions is None:
            then(Unanswered.DOWN)
        else:
            data = question(self._node_id, route, params)
            self._questions.ask(self.subject(route), data, route.timeout, then)

    def _decide(self, route: Route, answer: Answer, took: float, gone: bool) -> Decision:
        self.waiting -= 1
        if gone:  # it has taken its own dialplan
            self._count(route, GAVE_UP)
            return Decision("dialplan")
        if isinstance(answer, Unanswered):
            return self._fall_back(route, answer.value)
        self.latency.add(int(took * 1_000_000), True)
        self._recent.append(took)
        try:
            found = decision(answer, self._check)
        except CommandError as error:
            return self._fall_back(route, INVALID, str(error))
        self.actions[found.action] += 1
        return found

    def _fall_back(self, route: Route, reason: str, fault: str = "") -> Decision:
        self._count(route, reason, fault)
        return Decision(route.fallback)

    def _count(self, route: Route, reason: str, fault: str = "") -> None:
        self.fallbacks[reason] += 1
        self.last = self._why(route, reason, fault)
        if self._seldom[reason].due():
            log.warning("dialplan.route: %s; so far %d calls took the fallback for that reason",
                        self.last, self.fallbacks[reason])

    def _why(self, route: Route, reason: str, fault: str) -> str:
        subject = self.subject(route)
        if reason == INVALID:
            return f"an answer is not valid: {fault[:SHOWN]}"
        if reason == GAVE_UP:
            return f"FreeSWITCH gave up waiting before {route.timeout:g} s: raise the timeout in xml_curl.conf.xml, " \
                   "unless this process was stopped, or other programs keep the processors busy"
        return {
            Unanswered.NOBODY: f"no program listens on {subject}",
            Unanswered.LATE: f"no answer came from {subject} within {route.timeout:g} s",
            Unanswered.BUSY: "too many calls wait for an answer",
            Unanswered.DOWN: "NATS is not connected",
            Unanswered.REFUSED: f"the NATS server does not let the agent ask on {subject}, or hear the answers",
            Unanswered.TOO_LARGE: "a request is larger than the NATS server takes",
        }[Unanswered(reason)]

    def fields(self, route: Route) -> dict[str, Any]:
        """What was chosen, and the counters, as they stand in replies."""
        recent = sorted(self._recent.copy())
        return {
            "enabled": route.enabled,
            "subject": self.subject(route),
            "timeout": route.timeout,
            "context": list(route.contexts),
            "number": route.number,
            "except": list(route.excepted),
            "variables": list(route.variables),
            "fallback": route.fallback,
            "calls_waiting": self.waiting,
            "calls_asked": self.asked,
            "decisions": dict(self.actions),
            "fallbacks": dict(self.fallbacks),
            "last_fallback": self.last or None,
            "answers_ignored": dict(self._questions.ignored()) if self._questions is not None else {},
            "latency_ms": {
                "answers": len(recent),
                "median": _milliseconds(recent, 0.5),
                "p99": _milliseconds(recent, 0.99),
            },
        }


def _milliseconds(found: list[float], share: float) -> float | None:
    return round(found[min(len(found) - 1, int(len(found) * share))] * 1000, 3) if found else None
