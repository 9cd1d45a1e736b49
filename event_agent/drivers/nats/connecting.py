"""Becoming the client of one of the servers: each is tried once a round, and what goes wrong is said once.

All on nats-link, but for what is heard on a connection: that comes on the loop's thread.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import urlsplit

from event_agent.drivers.nats import connection
from event_agent.drivers.nats.auth import client_name
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.options import NatsOptions
from event_agent.drivers.nats.race import greetings
from event_agent.drivers.nats.servers import ServerPool
from event_agent.errors import GaveUp, LinkError, NotAuthorized
from event_agent.runtime.loop import Loop

log = logging.getLogger(__name__)

TOLD = 16  # different faults of a try to connect that are logged until things change


class Owner(Protocol):
    """Hears what is said on a connection."""

    def happened(self) -> None:
        """A connection is lost, or its server is about to shut down."""

    def informed(self, client: NatsClient) -> None:
        """INFO came."""

    def complained(self, text: str, before: set[str]) -> None:
        """-ERR came; `before` are the complaints of this connection that were logged."""

    def ponged(self, client: NatsClient) -> None:
        """A PONG came."""


class Connected(connection.Observer):
    """One connection, and what is heard of it."""

    def __init__(self, owner: Owner, url: str) -> None:
        self.url = url
        self.client: NatsClient
        self.lost = threading.Event()
        self.lame = False  # the server is about to shut down
        self.reason = ""
        self._owner = owner
        self._complaints: set[str] = set()  # logged

    def closed(self, reason: str) -> None:
        """See connection.Observer."""
        self.reason = reason
        self.lost.set()
        self._owner.happened()

    def informed(self, info: dict[str, Any]) -> None:
        """See connection.Observer."""
        self._owner.informed(self.client)
        if info.get("ldm") and not self.lame:
            self.lame = True
            self._owner.happened()

    def complained(self, text: str) -> None:
        """See connection.Observer."""
        self._owner.complained(text, self._complaints)

    def ponged(self) -> None:
        """See connection.Observer."""
        self._owner.ponged(self.client)


class Connecting:
    """Tries the servers until one takes us."""

    def __init__(
        self, options: NatsOptions, loop: Loop, owner: Owner, servers: ServerPool, go_on: Callable[[], bool]
    ) -> None:
        """`go_on`: called all the while; False ends it."""
        self._options, self._loop, self._owner = options, loop, owner
        self._servers = servers
        self._go_on = go_on
        self._tries = 0  # since the last link
        self._faults: set[str] = set()  # of these, logged
        self.current: Connected | None = None  # the latest; `stop` of the driver ends it
        self.stopping = False

    def first(self) -> Connected:
        """A connection to the first server that takes us. Raises LinkError, and GaveUp if that was the last try."""
        current = self.another(None)
        self._tries = 0
        self._faults.clear()
        return current

    def another(self, leaving: Connected | None) -> Connected:
        """Try each server once, but not the one that we are leaving. Raises LinkError."""
        fault = LinkError("stopping")
        urls = [each for each in self._servers.round() if leaving is None or each != leaving.url]
        with closing(greetings(urls, self._options.timing.connect, self._go_on, self._begin_tls)) as found:
            for url, answer in found:
                try:
                    if isinstance(answer, LinkError):
                        raise answer
                    return self._open(url, answer, leaving)
                except LinkError as error:
                    if not isinstance(answer, LinkError):
                        answer.close()
                    fault = error
                    if leaving is None:
                        self._failed(url, error)
        raise fault

    def _begin_tls(self, url: str, sock: socket.socket) -> socket.socket:
        from event_agent.drivers.nats import tls  # only here: see there

        return tls.begin(sock, self._options.tls, self._servers.tls_name(url) or urlsplit(url).hostname or "")

    def _failed(self, url: str, error: LinkError) -> None:
        """Raises GaveUp if that was the last try."""
        self._tries += 1
        fault = str(error)
        if fault not in self._faults and len(self._faults) < TOLD and not self.stopping:
            self._faults.add(fault)
            if isinstance(error, NotAuthorized):
                log.warning("NATS at %s refused us: %s; retrying", self._servers.shown(url), error.why)
            else:
                log.warning("NATS at %s: %s; retrying", self._servers.shown(url), fault)
        if 0 <= self._options.max_reconnect < self._tries // len(self._servers):
            raise GaveUp(f"NATS could not be reached in {self._tries} tries (max_reconnect): {fault}") from None

    def _open(self, url: str, sock: socket.socket, leaving: Connected | None) -> Connected:
        """The server has greeted: become its client. Raises LinkError."""
        options = self._options
        current = Connected(self._owner, url)
        current.client = client = NatsClient(
            url,
            name=client_name(),
            credentials=options.credentials.renewed(),
            tls=options.tls,
            tls_name=self._servers.tls_name(url),
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            loop=self._loop,
            observer=current,
            sock=sock,
            timing=options.timing,
        )
        self.current = current
        if self.stopping:  # looked at after that: `stop` looks at them the other way round
            raise LinkError("stopping")
        client.connect()
        left = leaving.client.info.get("server_id") if leaving is not None else None
        if left and left == client.info.get("server_id"):  # by another of its addresses
            client.close()
            raise LinkError("it is the same server")
        return current

    def stop(self) -> None:
        """Nothing is begun any more; what has begun ends. From any thread."""
        self.stopping = True
        if (last := self.current) is not None:
            last.lost.set()
