"""Does FreeSWITCH ask us? It is made to ask, and the question is recognised when it arrives.

`xml_locate dialplan event-agent probe <nonce>` runs every dialplan binding of mod_xml_curl in turn, as a call would;
one that leads here brings the nonce.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from event_agent.dialplan.answers import PROBE
from event_agent.dialplan.parked import Send
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command

log = logging.getLogger(__name__)

PROBE_AGAIN = 10.0  # seconds at least between two tries to find a binding
LIMIT = 15.0  # seconds; other bindings may have to time out first
UNKNOWN, BOUND, NO_MODULE, NO_BINDING = "unknown", "ok", "no mod_xml_curl", "no binding"


class Binding:
    """What is known of the way from FreeSWITCH's dialplan to our listener. Any thread."""

    def __init__(self, send: Send, url: Callable[[bool], str], enabled: Callable[[], bool]) -> None:
        """`url(True)` is as it may stand in the log."""
        self._send = send
        self._url = url
        self._enabled = enabled
        self._lock = threading.Lock()
        self._nonce = ""
        self._told = ""
        self.state = UNKNOWN
        self._probe_wanted = False
        self._probe_at = 0.0  # time.monotonic() before which FreeSWITCH is not probed again

    def want_probe(self, again: bool = False) -> None:
        """Have `probe_if_due` probe; `again`: at once, as the link is a new one."""
        if again:
            self._probe_at = 0.0
        self._probe_wanted = True

    def probe_if_due(self) -> None:
        """Probe, if that is wanted and the last time was long enough ago."""
        if self._probe_wanted and time.monotonic() >= self._probe_at:
            self._probe_wanted, self._probe_at = False, time.monotonic() + PROBE_AGAIN
            self.probe()

    def help(self, shown: bool = False) -> str:
        """The line to add, if one is missing or that is not known yet; else empty. `shown`: as it may be logged."""
        if self.state == NO_MODULE:
            return 'in modules.conf.xml: <load module="mod_xml_curl"/>, then: fs_cli -x "load mod_xml_curl"'
        if self.state == NO_BINDING or (self.state == UNKNOWN and not self._enabled()):
            url = self._url(shown)
            return (
                f'in xml_curl.conf.xml: <binding name="event-agent"><param name="gateway-url" value="{url}" '
                'bindings="dialplan"/><param name="timeout" value="2"/></binding>, '
                'then: fs_cli -x "reload mod_xml_curl"'
            )
        return ""

    def probe(self) -> None:
        """Begin to find out; returns at once."""
        self._send([Command(wire.api("module_exists", "mod_xml_curl"), "module_exists", self._module, log.debug)])

    def arrived(self, nonce: str) -> bool:
        """A request with our tag name came; True when it is the one under way."""
        with self._lock:
            ours = bool(self._nonce) and nonce == self._nonce
        if ours:
            self._found(BOUND)
        return ours

    def call_came(self) -> None:
        """FreeSWITCH asked for a call: there is nothing to find out."""
        if self.state != BOUND:
            self._found(BOUND)

    def lost(self) -> None:
        """FreeSWITCH is unreachable; when it is back its configuration may be another."""
        self.state = UNKNOWN

    def _module(self, answer: str) -> None:
        if self.state == BOUND:
            return  # a call was quicker than this answer
        if answer.strip() == "false":
            self._found(NO_MODULE)
            return
        nonce = os.urandom(8).hex()
        with self._lock:
            self._nonce = nonce

        def done(_: str) -> None:
            with self._lock:
                missing = self._nonce == nonce and self.state != BOUND
            if missing:
                self._found(NO_BINDING)

        text = wire.api("xml_locate", f"dialplan {PROBE} probe {nonce}")
        self._send([Command(text, "xml_locate", done, log.debug, slow=True, limit=LIMIT)])

    def _found(self, state: str) -> None:
        with self._lock:
            if state != BOUND:
                self._nonce = ""
            self.state = state
            told, self._told = self._told, state
        if told == state:
            return
        if state == BOUND:
            log.info("FreeSWITCH's mod_xml_curl asks here for its dialplan")
        else:
            # Not a fault if park mode was switched off meanwhile.
            level = logging.WARNING if self._enabled() else logging.INFO
            missing = "no module mod_xml_curl" if state == NO_MODULE else "no mod_xml_curl binding"
            log.log(level, "dialplan control is without effect, FreeSWITCH has %s that asks here; %s",
                    missing, self.help(shown=True))
