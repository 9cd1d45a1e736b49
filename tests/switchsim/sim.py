"""`SwitchSim`: the simulator as tests use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from . import api_calls as _api_calls
from . import api_show as _api_show
from .api import VERBS
from .bus import Source
from .channel import Channel
from .dialplan import DialplanHook
from .events import Value
from .originate import Order
from .server import Connection, Server
from .subscription import QUEUE_BOUND
from .switch import Switch

__all__ = ["SwitchSim"]

assert _api_calls and _api_show  # imported for the verbs they register

_FIRED = Source("switchsim", "fire", 1)


class SwitchSim:
    """An event socket that behaves like FreeSWITCH's, on a port of its own.

    Use it as a context manager, or call `start` and `stop`. After `stop` it may be started again, on the same port,
    as a switch that was restarted: no channels, another Core-UUID, no globals or delays kept.
    """

    def __init__(
        self,
        port: int = 0,
        password: str = "ClueCon",
        *,
        host: str = "127.0.0.1",
        hostname: str = "switchsim",
        heartbeat: float | None = None,
        queue_bound: int = QUEUE_BOUND,
        reject_acl: bool = False,
        never_greet: bool = False,
        delays: Mapping[str, float] | None = None,
        dialplan_hook: DialplanHook | None = None,
    ) -> None:
        """`port` 0 takes a free one; `heartbeat` is the interval in seconds (20 on a real switch), None for none;
        `delays` are seconds a verb takes longer; `dialplan_hook` plays mod_xml_curl's part (see dialplan.py)."""
        self.host = host
        self.port = port
        """The port it listens on (after `start`)."""
        self.password = password
        self._hostname = hostname
        self._heartbeat = heartbeat
        self._queue_bound = queue_bound
        self._reject_acl = reject_acl
        self._never_greet = never_greet
        self._delays = dict(delays or {})
        self._dialplan_hook = dialplan_hook
        self._switch: Switch | None = None
        self._server: Server | None = None

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        if self._switch is not None:
            raise RuntimeError("already started")
        switch = Switch(VERBS, self._hostname)
        try:
            server = Server(switch, self.host, self.port, self.password, self._queue_bound)
        except OSError:
            switch.stop()
            raise
        server.reject_acl, server.never_greet = self._reject_acl, self._never_greet
        switch.delays.update({verb.lower(): seconds for verb, seconds in self._delays.items()})
        switch.calls.dialplan_hook = self._dialplan_hook
        self._switch, self._server, self.port = switch, server, server.port
        server.start()
        if self._heartbeat:
            switch.beat(self._heartbeat)
        return self

    def stop(self) -> None:
        """Ends all threads and connections; safe to call twice."""
        server, switch = self._server, self._switch
        self._server = self._switch = None
        if server is not None and switch is not None:
            server.close()
            switch.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- looking in --------------------------------------------------------------------------------------------

    @property
    def switch(self) -> Switch:
        if self._switch is None:
            raise RuntimeError("not started")
        return self._switch

    @property
    def server(self) -> Server:
        if self._server is None:
            raise RuntimeError("not started")
        return self._server

    @property
    def channels(self) -> dict[str, Channel]:
        """The channels there are, by uuid."""
        return {channel.uuid: channel for channel in self.switch.calls.all()}

    @property
    def connections(self) -> list[Connection]:
        return self.server.connections

    @property
    def api_calls(self) -> Counter[str]:
        """How often each API verb was executed, over whatever way."""
        return self.switch.api_calls

    @property
    def core_uuid(self) -> str:
        return self.switch.identity.core_uuid

    # --- making things happen ----------------------------------------------------------------------------------

    def fire(self, event_name: str, headers: Mapping[str, Value] | None = None, body: str | None = None) -> None:
        """Fires an event with the given headers behind the ones every event has."""
        given = list((headers or {}).items())
        self.switch.bus.fire(event_name, _FIRED, lambda: given, body)

    def api(self, command: str) -> str:
        """Runs an API command as a console would, in this thread; returns its output."""
        verb, _, argument = command.partition(" ")
        output = self.switch.execute(verb, argument).output
        self.switch.answered()
        return output

    def call(self, dial_string: str = "loopback/park/default", destination: str = "&park()") -> str:
        """Makes a call; returns its uuid once it is up. RuntimeError with the cause when it fails."""
        done, text = self.switch.originator.originate(Order(dial_string, destination), self.switch.expand)
        self.switch.answered()
        if not done:
            raise RuntimeError(text)
        return text

    def set_dialplan_hook(self, hook: DialplanHook | None) -> None:
        """Asks this callable where calls go, before the simulator's own dialplan; see dialplan.py."""
        self._dialplan_hook = hook
        if self._switch is not None:
            self._switch.calls.dialplan_hook = hook

    # --- faults ------------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """From now on connections are taken, but nothing is read and nothing is sent."""
        self.server.gate.clear()

    def thaw(self) -> None:
        self.server.gate.set()

    def kill_connections(self, *, reset: bool = False) -> int:
        """Cuts all connections at once, without a word; returns how many there were."""
        return self.server.kill_connections(reset=reset)

    def reject_acl(self, on: bool = True) -> None:
        """Refuses new connections as an ACL does."""
        self._reject_acl = on
        if self._server is not None:
            self._server.reject_acl = on

    def never_greet(self, on: bool = True) -> None:
        """Takes new connections and never says a word."""
        self._never_greet = on
        if self._server is not None:
            self._server.never_greet = on

    def delay(self, verb: str, seconds: float) -> None:
        """Makes an API verb take so much longer; 0 takes the delay away."""
        if seconds:
            self._delays[verb.lower()] = self.switch.delays[verb.lower()] = seconds
        else:
            self._delays.pop(verb.lower(), None)
            self.switch.delays.pop(verb.lower(), None)
