"""A client of the agents on a NATS server: requests, one reply of each node, events.

    with Client("nats://127.0.0.1:4222", token="…") as client:
        print(client.request("show", "channels count")["data"])
        for reply in client.gather("agent.status"):
            print(reply["node_id"], reply["uptime"])
        for event in client.events("channel.>"):
            print(event["event_name"], event.get("uuid"))

Every method may be called from any thread. Replies and events come in on one thread of the connection, which hands
them to the callers that wait. The client does not reconnect by itself: a caller that waits when the link is lost gets a
LinkError, and so does every later call until `connect` is called again, which subscriptions do not outlast.

All that is raised is an AgentError: ConfigError (URL or credentials that can't be used), LinkError (the NATS server
can't be reached, refused us or is lost), NoAgent (NotAllowed, if the server does not let us send there; NoneReady, if
there are agents and none should get it), AgentTimeout, CommandFailed; the last three, and their kinds, say in
`executed` whether the command was carried out ("no", "unknown", or "" if it does not arise). Misuse, such as a pattern
that is no subject, is a ValueError.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from event_agent.client.events import Event, EventStream, event_pattern
from event_agent.client.replies import (
    AgentTimeout,
    CommandFailed,
    NoAgent,
    NoneReady,
    NotAllowed,
    Reply,
    acknowledging,
    decoded,
    lane_of_one,
    payload_of,
)
from event_agent.config.table import PARAMS, Settings, masked_url
from event_agent.drivers.base import Message
from event_agent.drivers.nats.auth import client_name, credentials
from event_agent.drivers.nats.connection import NatsClient, Observer
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.errors import AgentError, ConfigError, LinkError
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import VERBS, with_verb
from event_agent_client.parts import Parts
from event_agent_client.replies import is_question
from event_agent_client.subjects import all_lane, any_lane, is_subject, lane_for, node_lane

log = logging.getLogger(__name__)

TIMEOUT = 35.0  # seconds; the agents themselves give up on FreeSWITCH after 30
MARGIN = 5.0  # seconds more than an agent waits by itself
GATHER_TIMEOUT = 5.0  # seconds
SETTLE = 0.3  # seconds without a further reply after which nobody else is expected to answer
PING_INTERVAL = 5.0  # seconds; a frozen server is noticed after three of them
MAX_LANE = 2048  # bytes of a subject; the server would end the link for a line of more than 4096
MOST_STREAMS = 100  # names kept
LOST = "not connected"
NOT_ALLOWED = "Permissions Violation for Publish to "  # and the subject in quotes: nats-server, pubPermissionViolation

__all__ = ["AgentTimeout", "Client", "CommandFailed", "Event", "EventStream", "NoAgent", "NoneReady", "NotAllowed",
           "Reply", "event_pattern"]  # fmt: skip

class Client:
    """See the module's text. Used in a `with` statement it connects at the beginning and closes at the end."""

    def __init__(
        self,
        url: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        prefix: str = "freeswitch",
        token: str = "",
        nkey_seed: str = "",
        creds: str = "",
        tls: TlsOptions | None = None,
        ping_interval: float = PING_INTERVAL,
        verbs: bool = False,
    ) -> None:
        """`url` is one server or several of a cluster, as a list or separated by commas. Raises ConfigError.

        `creds` is the name of a .creds file; it wins over an NKey seed, which wins over a token. `verbs`: each command
        is sent with its name in the subject, by which NATS permissions can tell commands apart.
        """
        try:
            servers = [each for text in ([url] if isinstance(url, str) else url) for each in PARAMS["url"].read(text)]
        except ValueError as fault:
            raise ConfigError([str(fault)]) from None
        if not servers:
            raise ConfigError(["url names no server"])
        if not is_subject(prefix):
            raise ConfigError(["prefix must be a plain subject"])
        self.servers: tuple[str, ...] = tuple(servers)
        self.prefix = prefix
        self._verbs = verbs
        self._credentials = credentials(token, nkey_seed, creds)
        self._tls = tls or TlsOptions()
        self._ping_interval = ping_interval
        self._nats: NatsClient | None = None
        self._lock = threading.Lock()  # guards what follows
        self._inbox = ""
        self._number = 0
        # Of each inbox: where its request went, what has come.
        self._waiting: dict[str, tuple[str, SimpleQueue[Message | AgentError]]] = {}
        self._streams: set[EventStream] = set()
        self._lost = LOST
        self.streams: set[str] = set()
        """JetStream streams that have answered requests: their subjects include command lanes, and should not."""

    @classmethod
    def of(cls, settings: Settings) -> Client:
        """A client that connects as an agent with these settings does. Raises ConfigError."""
        return cls(
            settings.url,
            prefix=settings.subject_prefix,
            token=settings.token,
            nkey_seed=settings.nkey_seed,
            creds=settings.creds,
            tls=TlsOptions(settings.tls_ca, settings.tls_cert, settings.tls_key, settings.tls_verify),
            verbs=settings.lanes == VERBS,
        )

    # -- the link

    def connect(self) -> None:
        """Connect to the first server that takes us, also again after a loss. Raises LinkError."""
        self.close()
        faults = []
        for url in self.servers:
            nats = NatsClient(
                url,
                name=client_name(),
                credentials=self._credentials,
                tls=self._tls,
                ping_interval=self._ping_interval,
                observer=(heard := _Heard(self)),
            )
            heard.nats = nats
            try:
                nats.connect()
            except LinkError as error:
                faults.append(f"NATS at {masked_url(url)}: {error}")
                continue
            self._begin(nats)
            return
        raise LinkError("; ".join(faults))

    def _begin(self, nats: NatsClient) -> None:
        inbox = f"_INBOX.{nats._nuid.next_().decode()}"
        with self._lock:
            self._nats, self._inbox, self._lost = nats, inbox, ""
        try:
            # One subscription for all replies there will be, instead of one a request.
            nats.subscribe(f"{inbox}.*", callback=self._replied)
        except LinkError:
            self.close()
            raise
        if not nats.flush(5.0):  # a server that closed at once has done it by now
            reason = nats.reason or "the server does not answer"
            self.close()
            raise LinkError(f"NATS: {reason}")

    def close(self) -> None:
        """End the link and all waits on it. May be called at any time, twice as well."""
        with self._lock:
            nats, self._nats = self._nats, None
        self._end(LOST)
        if nats is not None:
            nats.close()

    @property
    def connected(self) -> bool:
        return not self._lost

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _closed(self, nats: NatsClient, reason: str) -> None:
        if nats is self._nats:
            self._end(f"the link to NATS is lost: {reason}")

    def _not_allowed(self, nats: NatsClient, subject: str) -> None:
        """The server has refused what was sent there."""
        if nats is not self._nats:
            return
        with self._lock:
            waiting = [queue for lane, queue in self._waiting.values() if lane == subject]
        for queue in waiting:
            queue.put(NotAllowed(f"the NATS server does not allow us to publish on {subject}"))

    def _end(self, reason: str) -> None:
        """Tell everybody who waits."""
        with self._lock:
            self._lost = self._lost or reason
            waiting, self._waiting = [queue for _, queue in self._waiting.values()], {}
            streams, self._streams = list(self._streams), set()
        for queue in waiting:
            queue.put(LinkError(reason))
        for stream in streams:
            stream._end(reason)

    def _link(self) -> NatsClient:
        nats = self._nats
        if nats is None or self._lost:
            raise LinkError(self._lost or LOST)
        return nats

    # -- requests

    def request(
        self,
        command: str,
        args: str | None = None,
        node: str | None = None,
        timeout: float | None = None,
        fields: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Reply:
        """The reply to one command, waited for at most `timeout` seconds; see `call`.

        `fields` and `more` are further fields of the request; `fields` is for names that are taken here or no Python
        names. How long an `originate` may ring is `fields={"timeout": 20}`; with a `timeout` and without that it is
        made as it always was, and a warning says so. As to which node takes it see `call`. Raises CommandFailed where
        the reply is an error, NoAgent, AgentTimeout, LinkError.
        """
        payload = payload_of(command, args, fields, more)
        if timeout is not None and command == "originate" and "timeout" not in payload:
            warnings.warn(
                'timeout=… is how long the client waits; how long it may ring is fields={"timeout": …}', stacklevel=2
            )
        reply = self.call(payload, node, timeout)
        if not reply.get("success"):
            raise CommandFailed(reply)
        return reply

    def call(self, payload: Mapping[str, Any], node: str | None = None, timeout: float | None = None) -> Reply:
        """The reply to a request as it stands, success or error. Raises NoAgent, AgentTimeout, LinkError.

        Without a `timeout` it is waited for 35 seconds, or 5 more than the request's own `wait`.

        It goes to `node`, or the `node_id` in the payload; else to exactly one agent that is ready (`<prefix>.any`). If
        nobody listens there, a command that only asks goes to all (`<prefix>.api`), of which the first to answer is
        heard; one that acts goes to one node, which is ready by its own agent.status, or NoneReady says why none is.
        """
        data = to_utf8(dump_json(payload))
        if timeout is None:
            timeout = _time_for(payload)
        lane = lane_for(self.prefix, payload, node)
        try:
            return self._answer(self._subject(lane, payload), data, timeout)
        except NoAgent:
            if lane != any_lane(self.prefix):
                raise
        return self._answer(self._subject(self._other_lane(payload, timeout), payload), data, timeout)

    def _subject(self, lane: str, payload: Mapping[str, Any]) -> str:
        """Where a request for a lane is sent. Raises ValueError for a command that fits into no subject."""
        if not self._verbs:
            return lane
        subject = with_verb(self.prefix, lane, str(payload.get("command", "")))
        if not is_subject(subject):
            raise ValueError(f"{payload.get('command')!r} can't stand in a subject")
        return subject

    def _answer(self, lane: str, data: bytes, timeout: float) -> Reply:
        with self._sent(lane, data) as replies:
            return self._reply(replies, lane, time.monotonic() + timeout, timeout)

    def send(self, payload: Mapping[str, Any], node: str | None = None, timeout: float = GATHER_TIMEOUT) -> None:
        """Send a request to which no reply comes (`"async": true`); to whom, see `call`. Raises NoAgent, LinkError.

        Returns when the server has handed it on.
        """
        data = to_utf8(dump_json(payload))
        lane = lane_for(self.prefix, payload, node)
        try:
            self._hand_over(self._subject(lane, payload), data, timeout)
        except NoAgent:
            if lane != any_lane(self.prefix):
                raise
            self._hand_over(self._subject(self._other_lane(payload, timeout), payload), data, timeout)

    def _hand_over(self, lane: str, data: bytes, timeout: float) -> None:
        with self._sent(lane, data) as replies:
            if not self._link().flush(timeout):
                raise LinkError(self._lost or "the NATS server does not answer")
            with suppress(AgentTimeout):
                # That nobody listens is said before the flush is answered.
                self._reply(replies, lane, 0.0, timeout)

    def ask(self, subject: str, data: bytes, timeout: float = GATHER_TIMEOUT) -> tuple[bytes, bytes]:
        """One request to a service that is no agent, such as JetStream; payload and header block of the first answer.

        Raises NoAgent if nobody listens, AgentTimeout, LinkError.
        """
        with self._sent(subject, data) as replies:
            message = self._next(replies, time.monotonic() + timeout, timeout)
        if isinstance(message, AgentError):
            raise message
        if message.headers.startswith(b"NATS/1.0 503"):
            raise NoAgent(f"nobody listens on {subject}")
        return message.data, message.headers

    def gather(
        self,
        command: str,
        args: str | None = None,
        timeout: float = GATHER_TIMEOUT,
        fields: Mapping[str, Any] | None = None,
        *,
        node: str | None = None,
        settle: float | None = None,
        expect: int | None = None,
        until: Callable[[Reply], bool] | None = None,
        **more: Any,
    ) -> list[Reply]:
        """The replies of all agents (`<prefix>.api`) to one command, successes and errors, in order of arrival.

        With a `node` those of all that go by this name: there should be one.

        Waits `timeout` seconds; not as long where, after a first reply, none came for `settle` seconds, where
        `expect` replies have come, or where `until` says of one that it is enough. An empty list: nobody answered in
        time. Raises NoAgent where nobody even listens, LinkError.
        """
        payload = payload_of(command, args, fields, more)
        lane = self._subject(node_lane(self.prefix, node) if node else all_lane(self.prefix), payload)
        end = time.monotonic() + timeout
        found: list[Reply] = []
        parts = Parts()
        with self._sent(lane, to_utf8(dump_json(payload))) as replies:
            while expect is None or len(found) < expect:
                wait = end if not found or settle is None or parts.missing else min(end, time.monotonic() + settle)
                try:
                    found.append(self._reply(replies, lane, wait, timeout, parts))
                except AgentTimeout:
                    break
                if until is not None and until(found[-1]):
                    break
        return found

    def _other_lane(self, payload: Mapping[str, Any], timeout: float) -> str:
        """Where a request goes if nobody listens on `any`."""
        if is_question(payload.get("command")):
            return all_lane(self.prefix)
        statuses = self.gather("agent.status", timeout=min(timeout, GATHER_TIMEOUT), settle=SETTLE)
        return lane_of_one(self.prefix, statuses)

    @contextmanager
    def _sent(self, lane: str, data: bytes) -> Iterator[SimpleQueue[Message | AgentError]]:
        """Send a request; the queue gets its replies. Raises LinkError."""
        if len(lane) > MAX_LANE:
            raise ValueError(f"a node's name of {len(lane)} characters: the NATS server would end the link")
        nats = self._link()
        limit = nats.info.get("max_payload")
        if isinstance(limit, int) and len(data) > limit:
            raise ValueError(f"a request of {len(data)} bytes: the NATS server takes {limit}")
        replies: SimpleQueue[Message | AgentError] = SimpleQueue()
        with self._lock:
            self._number += 1
            inbox = f"{self._inbox}.{self._number}"
            self._waiting[inbox] = (lane, replies)
        try:
            self._link()  # what was lost before we stood in the list was not told us
            nats.publish(lane, payload=data, reply=inbox)
            yield replies
        finally:
            with self._lock:
                self._waiting.pop(inbox, None)

    def _reply(
        self, replies: SimpleQueue[Message | AgentError], lane: str, end: float, timeout: float,
        parts: Parts | None = None,
    ) -> Reply:
        """The next reply of an agent, which a stream's acknowledgement is not; put together, if it is in parts."""
        stream = ""
        parts = parts or Parts()
        while True:
            try:
                message = self._next(replies, end, timeout)
            except AgentTimeout as error:
                if parts.missing:
                    raise AgentTimeout(f"{error}{parts.late}") from None
                if not stream:
                    raise
                raise AgentTimeout(
                    f"{error}; the JetStream stream {stream} takes what is sent to {lane}, so whether an agent listens "
                    "there is not known"
                ) from None
            if not (name := acknowledging(message)):
                if (reply := decoded(message, lane, parts)) is not None:
                    return reply
                continue
            stream = name
            if len(self.streams) < MOST_STREAMS:
                self.streams.add(name)

    def _next(self, replies: SimpleQueue[Message | AgentError], end: float, timeout: float) -> Message | AgentError:
        try:
            return replies.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            raise AgentTimeout(f"no reply within {timeout:g} seconds") from None

    def _replied(self, messages: list[Message]) -> None:
        """On the reader thread."""
        for message in messages:
            with self._lock:
                waiting = self._waiting.get(message.subject.decode(errors="replace"))
            if waiting is not None:  # else it came too late
                waiting[1].put(message)

    # -- events

    def events(self, pattern: str = ">", callback: Callable[[Event], None] | None = None) -> EventStream:
        """Events from now on, of all nodes. Raises LinkError; ValueError for what is no pattern.

        `pattern` is what `event_pattern` takes: `channel.*`, `CHANNEL_ANSWER`, `sofia::register`. With a `callback`
        each event goes there, on the connection's thread, which must not be kept waiting and must not call `request`;
        without one the stream is to be iterated over.
        """
        return self._stream(f"{self.prefix}.events.{event_pattern(pattern)}", callback)

    def watch(
        self,
        uuid: str,
        events: Sequence[str] = (),
        callback: Callable[[Event], None] | None = None,
        timeout: float = GATHER_TIMEOUT,
    ) -> EventStream:
        """The events of one call from now on, whatever the agent's filters say; see `call.watch` in docs/API.md.

        The stream does not end with the call: CHANNEL_DESTROY is its last event. Raises CommandFailed if no agent has
        the channel, NoAgent, LinkError; ValueError for a uuid that is no part of a subject.
        """
        place = f"{self.prefix}.calls.{uuid}"
        if not is_subject(place):
            raise ValueError(f"{uuid!r} is no part of a subject")
        stream = self._stream(f"{place}.>", callback)
        fields = {"uuid": uuid, **({"events": list(events)} if events else {})}
        try:
            replies = self.gather(
                "call.watch", None, timeout, fields, settle=SETTLE, until=lambda reply: reply.get("success") is True
            )
            if not replies:
                raise AgentTimeout(f"no reply within {timeout:g} seconds")
            if not replies[-1].get("success"):
                raise CommandFailed(replies[-1])
        except BaseException:
            stream.close()
            raise
        return stream

    def _stream(self, subject: str, callback: Callable[[Event], None] | None) -> EventStream:
        """The events on a subject, from the moment on at which this returns."""
        nats = self._link()
        stream = EventStream(callback)
        with self._lock:
            self._streams.add(stream)
        self._link()
        sub = nats.subscribe(subject, callback=stream._put)

        def close() -> None:
            with self._lock:
                self._streams.discard(stream)
            try:
                nats.unsubscribe(sub)
            except LinkError as error:
                log.debug("unsubscribe: %s", error)  # the link is gone, and with it the subscription

        stream._on_close = close
        nats.flush(5.0)  # what happens after this call returns is seen
        return stream


def _time_for(payload: Mapping[str, Any]) -> float:
    """Seconds within which its reply should be there."""
    wait = payload.get("wait")
    return max(TIMEOUT, wait + MARGIN) if isinstance(wait, (int, float)) else TIMEOUT


class _Heard(Observer):
    """What is heard of one connection: the end of an old one must not be taken for the end of a newer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.nats: NatsClient

    def closed(self, reason: str) -> None:
        self._client._closed(self.nats, reason)

    def complained(self, text: str) -> None:
        log.info("NATS server says: %s", text)
        if text.startswith(NOT_ALLOWED):
            self._client._not_allowed(self.nats, text[len(NOT_ALLOWED) :].strip('"'))
