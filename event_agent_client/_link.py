"""The link to NATS: one connection at a time, made again when it is lost, with all subscriptions. asyncio.

Written here, on the protocol of `_wire.py`, and not on nats-py: Debian has no package of it, and the client has to
know of each request whether it had left when the link broke. Nothing but the standard library is needed (PyNaCl for
NKeys).

    connecting --taken by a server--> up --lost--> connecting --…
         \\------------------ close ------------------/--> closed

All methods belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from event_agent_client import _wire
from event_agent_client._auth import Identity
from event_agent_client._wire import Control, Message, Parser
from event_agent_client.errors import AgentError, ConfigError, LinkError

STEP = 5.0  # seconds for each step of connecting
SLOWEST = 5.0  # seconds between two rounds of all servers, at most
MOST_SERVERS = 64
MOST_UNSENT = 16 * 1024 * 1024  # bytes that wait for a server that takes nothing
REFUSED_PUBLISH = "Permissions Violation for Publish to "  # and the subject in quotes: nats-server, client.go
REFUSED_SUBSCRIBE = "Permissions Violation for Subscription to "

Deliver = Callable[[Message], None]


class Server:
    """One URL, taken apart."""

    def __init__(self, url: str) -> None:
        if "//" not in url:
            url = f"nats://{url}"
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or 4222
        except ValueError:
            raise ConfigError("url: its port is no number") from None
        if parts.scheme not in ("nats", "tls") or not self.host:
            raise ConfigError("url must be like nats://host:4222 or tls://host:4222")
        self.tls = parts.scheme == "tls"
        self.user = unquote(parts.username) if parts.username else ""
        self.password = unquote(parts.password) if parts.password is not None else None
        self.given = True

    @property
    def name(self) -> str:
        """Without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


class Subscription:
    """One subject, on whichever connection there is."""

    def __init__(self, sid: int, subject: str, queue: str, deliver: Deliver) -> None:
        self.sid = sid
        self.subject = subject
        self.queue = queue
        self.deliver = deliver
        self.refused = ""  # the server's words


class _Connection(asyncio.Protocol):
    """One connection: what comes goes to its link as operations."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._parser = Parser()
        self.info: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pongs: list[asyncio.Future[bool]] = []
        self.unanswered = 0
        self.refused = False  # the server has said why it does not take us
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            found = self._parser.feed(data)
        except LinkError as error:
            self.end(str(error))
            return
        for each in found:
            if isinstance(each, Message):
                self._link._message(each)
            else:
                self._control(each)

    def _control(self, what: Control) -> None:
        if what.name == "PING":
            if self.transport is not None:
                self.transport.write(b"PONG\r\n")
        elif what.name == "PONG":
            self.unanswered = 0
            if self.pongs:
                pong = self.pongs.pop(0)
                if not pong.done():
                    pong.set_result(True)
        elif what.name == "INFO":
            try:
                info = json.loads(what.rest)
            except ValueError:
                info = None
            if not isinstance(info, dict):
                self.end("the server sent an INFO that is no object")
            elif not self.info.done():
                self.info.set_result(info)
            else:
                self._link._informed(info)
        elif what.name == "-ERR":
            self._link._complained(self, what.rest.decode(errors="replace").strip().strip("'"))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(str(error) if error else "the server closed the connection")

    def end(self, reason: str) -> None:
        """It is not used any more."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self.info.done():
            self.info.cancel()
        for pong in self.pongs:
            if not pong.done():
                pong.set_result(False)
        self.pongs.clear()
        if self.transport is not None:
            self.transport.abort()


class Link:
    """See the module's text."""

    def __init__(
        self,
        urls: Sequence[str],
        identity: Identity,
        tls: ssl.SSLContext | None,
        name: str,
        ping_interval: float,
        use_discovered: bool = True,
    ) -> None:
        self._servers = [Server(url) for url in urls]
        self._identity = identity
        self._tls = tls
        self._name = name
        self._ping_interval = ping_interval
        self._use_discovered = use_discovered
        self._subs: dict[int, Subscription] = {}
        self._sids = 0
        self._connection: _Connection | None = None
        self._greeting: _Connection | None = None
        self._out: list[bytes] = []
        self._flushing = False
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self.written = 0  # messages handed to `publish` so far
        self.left = 0  # of these, those that the operating system may have
        self.info: dict[str, Any] = {}
        self.reason = "not connected"
        self.hopeless = False  # all servers have refused us, the last time they were tried
        self.connects = 0
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda _: None
        self.on_refused: Callable[[str, str], None] = lambda subject, words: None

    # -- the state

    @property
    def up(self) -> bool:
        return self._connection is not None

    async def start(self, wait: float) -> None:
        """Begin to connect. Raises LinkError if there is no link within `wait` seconds, or no server takes us."""
        self._task = asyncio.create_task(self._keep(), name="event-agent-client link")
        deadline = asyncio.get_running_loop().time() + wait
        while not self.up and not self.hopeless:
            if not await self._change(deadline):
                break
        if not self.up:
            reason = self.reason
            await self.close()
            raise LinkError(reason)

    async def wait_up(self, deadline: float) -> None:
        """Returns when there is a link. Raises LinkError if there is none by then (the loop's time)."""
        while not self.up:
            if self._closed or not await self._change(deadline):
                raise LinkError(self.reason)

    async def _change(self, deadline: float) -> bool:
        """Wait until the state changes; False if it has not by then."""
        left, changed = deadline - asyncio.get_running_loop().time(), self._changed
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def _turn(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def close(self) -> None:
        """End it for good. What was published leaves first."""
        self._closed = True
        self.reason = "the client is closed"
        if self._connection is not None:
            await self.flush(1.0)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end("closed")
            self.on_down("the client is closed")
        self._turn()

    # -- connecting

    async def _keep(self) -> None:
        pause = 0.1
        while not self._closed:
            connection = await self._round()
            if connection is None:
                self._turn()
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))
                pause = min(pause * 2, SLOWEST)
                continue
            began = asyncio.get_running_loop().time()
            pinger = asyncio.create_task(self._ping(connection), name="event-agent-client ping")
            try:
                self.on_up()
                self._turn()
                reason = await connection.lost
            finally:
                pinger.cancel()
            self._connection = None
            self.reason = f"the link to NATS is lost: {reason}"
            self.on_down(self.reason)
            self._out.clear()
            if asyncio.get_running_loop().time() - began > 10.0:
                pause = 0.1

    async def _round(self) -> _Connection | None:
        """Try all servers."""
        faults, refused = [], 0
        for server in list(self._servers):
            try:
                connection = await self._connect(server)
            except ConfigError as error:
                faults.append(str(error))
                refused += 1
            except _Refusal as error:
                faults.append(f"NATS at {server.name} refused us: {error}")
                refused += 1
            except (AgentError, OSError, TimeoutError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                    raise
                faults.append(f"NATS at {server.name}: {_said(error)}")
            else:
                self.hopeless = False
                # The one that was lost comes last the next time.
                self._servers.remove(server)
                self._servers.append(server)
                return connection
        self.hopeless = refused == len(self._servers)
        self.reason = "; ".join(faults)
        return None

    async def _connect(self, server: Server) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = self._greeting = _Connection(self)
        try:
            async with asyncio.timeout(STEP):
                await loop.create_connection(lambda: connection, server.host, server.port)
                info = await self._or_lost(connection, connection.info)
            if server.tls or info.get("tls_required"):
                if not (info.get("tls_required") or info.get("tls_available")):
                    raise LinkError("the server offers no TLS")
                context = self._tls or ssl.create_default_context()
                assert connection.transport is not None
                transport = await loop.start_tls(
                    connection.transport, connection, context, server_hostname=server.host, ssl_handshake_timeout=STEP
                )
                if transport is None:
                    raise LinkError("the server ended the TLS handshake")
                connection.transport = transport
            self.info = info
            self._informed(info)
            assert connection.transport is not None
            connection.transport.write(b"CONNECT " + json.dumps(self._fields(server, info)).encode() + b"\r\nPING\r\n")
            pong: asyncio.Future[bool] = loop.create_future()
            connection.pongs.append(pong)
            async with asyncio.timeout(STEP):
                if not await self._or_lost(connection, pong):
                    raise LinkError(await connection.lost)
            subs = list(self._subs.values())
            for each in subs:
                each.refused = ""
            lines = [_wire.sub(each.subject, each.queue, each.sid) for each in subs]
            subscribed: asyncio.Future[bool] = loop.create_future()
            connection.pongs.append(subscribed)
            connection.transport.write(b"".join(lines) + b"PING\r\n")
            async with asyncio.timeout(STEP):
                if not await self._or_lost(connection, subscribed):
                    raise LinkError(await connection.lost)
        except BaseException:
            connection.end("not connected")
            raise
        finally:
            self._greeting = None
        if connection.lost.done():
            raise LinkError(connection.lost.result())
        self._connection = connection
        self.connects += 1
        # Subscriptions that were added while these were on their way.
        late = [each for each in self._subs.values() if each not in subs]
        if late:
            connection.transport.write(b"".join(_wire.sub(each.subject, each.queue, each.sid) for each in late))
        return connection

    @staticmethod
    async def _or_lost(connection: _Connection, what: asyncio.Future[Any]) -> Any:
        await asyncio.wait({what, connection.lost}, return_when=asyncio.FIRST_COMPLETED)
        if connection.lost.done():
            reason = connection.lost.result()
            raise _Refusal(reason) if connection.refused else LinkError(reason)
        return what.result()

    def _fields(self, server: Server, info: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": self._name, "lang": "python-event-agent-client", "version": "1", "protocol": 1, "verbose": False,
            "pedantic": False, "headers": bool(info.get("headers")), "no_responders": bool(info.get("headers")),
        }  # fmt: skip
        if server.user and server.password is not None:
            fields |= {"user": server.user, "pass": server.password}
        elif server.user:
            fields["auth_token"] = server.user
        return fields | self._identity.fields(info.get("nonce"))

    def _informed(self, info: dict[str, Any]) -> None:
        """INFO: the servers of the cluster may have changed."""
        self.info.update(info)
        if not self._use_discovered:
            return
        model = self._servers[0]
        known = {(each.host, each.port) for each in self._servers}
        for url in info.get("connect_urls") or ():
            try:
                found = Server(str(url))
            except ConfigError:
                continue
            if (found.host, found.port) not in known and len(self._servers) < MOST_SERVERS:
                found.user, found.password, found.tls, found.given = model.user, model.password, model.tls, False
                self._servers.append(found)

    def _complained(self, connection: _Connection, words: str) -> None:
        """-ERR."""
        for begin in (REFUSED_PUBLISH, REFUSED_SUBSCRIBE):
            if words.startswith(begin):
                subject = words[len(begin) :].split('"')[1] if '"' in words else words[len(begin) :]
                if begin is REFUSED_SUBSCRIBE:
                    for each in self._subs.values():
                        if each.subject == subject:
                            each.refused = words
                self.on_refused(subject, words)
                return
        # During the greeting what the server says is about us; a later end is one like any other.
        connection.refused = connection is self._greeting
        connection.end(words)

    async def _ping(self, connection: _Connection) -> None:
        while True:
            await asyncio.sleep(self._ping_interval)
            if connection.unanswered >= 2:
                connection.end("the server does not answer")
                return
            connection.unanswered += 1
            connection.pongs.append(asyncio.get_running_loop().create_future())
            if connection.transport is not None:
                connection.transport.write(b"PING\r\n")

    # -- messages

    def _message(self, message: Message) -> None:
        found = self._subs.get(message.sid)
        if found is not None:
            found.deliver(message)

    def publish(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> int:
        """Send; returns its number, which `left` reaches when it may have left. Raises LinkError, ValueError."""
        connection = self._connection
        if connection is None:
            raise LinkError(self.reason)
        limit = self.info.get("max_payload")
        if isinstance(limit, int) and len(data) + len(headers) > limit:
            raise ValueError(f"a message of {len(data)} bytes: the NATS server takes {limit}")
        line = _wire.pub(subject, reply, data, headers)
        assert connection.transport is not None
        if connection.transport.get_write_buffer_size() > MOST_UNSENT:
            raise LinkError("the NATS server takes nothing")
        self._write(line)
        self.written += 1
        return self.written

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if connection is None or connection.transport is None or not self._out:
            return
        out, self._out = self._out, []
        connection.transport.write(b"".join(out))
        self.left = self.written

    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> Subscription:
        """Listen there, now and after each reconnect, until `unsubscribe`."""
        self._sids += 1
        found = self._subs[self._sids] = Subscription(self._sids, subject, queue, deliver)
        if self._connection is not None:
            self._write(_wire.sub(subject, queue, self._sids))
        return found

    def unsubscribe(self, found: Subscription) -> None:
        """Listen there no longer."""
        if self._subs.pop(found.sid, None) is not None and self._connection is not None:
            self._write(b"UNSUB %d\r\n" % found.sid)

    async def flush(self, wait: float) -> bool:
        """Returns when the server has taken all that was sent; False if it has not in time, or the link is lost."""
        connection = self._connection
        if connection is None or connection.transport is None:
            return False
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._flush()
        connection.pongs.append(pong)
        connection.transport.write(b"PING\r\n")
        try:
            async with asyncio.timeout(wait):
                return await pong
        except TimeoutError:
            return False


class _Refusal(LinkError):
    """The server has said why it does not take us."""


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
