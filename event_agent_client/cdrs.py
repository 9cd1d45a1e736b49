"""Call records from a JetStream stream, for asyncio: a durable pull consumer, each record acknowledged by its reader.

    subject <prefix>.cdr.> -- stream -- consumer `durable` -- next(): a batch is asked for when none waits

What was handed out and not acknowledged within `ack_wait` comes again, to this program or to another one of the same
`durable`. Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from event_agent_client import core
from event_agent_client._link import Subscription
from event_agent_client._wire import Message, status_of
from event_agent_client.core import GATHER, is_token
from event_agent_client.errors import AgentError, CommandFailed, LinkError, NoAgent, NoReply, Refused
from event_agent_client.events import Cdr, event_of

if TYPE_CHECKING:
    from event_agent_client.aio import Client

PULL = 5.0  # seconds for which a batch is waited for
NOTHING = (100, 404, 408)  # statuses that say no more than that no record came
NO_CONSUMER = 10014  # nats-server, errors.json: JSConsumerNotFoundErr


class Record(Cdr):
    """A call record of a stream: a dictionary as docs/API.md describes it. Acknowledge it when it is stored."""

    _client: Client
    _ack: str
    key: str
    """Names this record and no other, however often it comes: for a unique column."""
    deliveries: int
    """How often it was handed out: 1 for the first time."""
    pending: int
    """How many records wait behind it."""

    async def ack(self) -> None:
        """It is stored: it does not come again. Raises NoReply or LinkError if the stream has not confirmed that."""
        await self._client._settle(self._ack, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """It could not be stored: have it again, after `delay` seconds."""
        body = b'-NAK {"delay": %d}' % round(delay * 1e9) if delay else b"-NAK"
        await self._client._settle(self._ack, body)

    async def term(self) -> None:
        """It can't be stored at all: it does not come again."""
        await self._client._settle(self._ack, b"+TERM")


def record_of(client: Client, message: Message) -> Record | None:
    """The record in a message; None if it is none."""
    event = event_of(message.data)
    if event is None:
        return None
    record = Record(event)
    words = message.reply.split(".")  # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<seq>.….<pending>
    words = words[4:] if len(words) >= 12 else words[2:]
    try:
        record.deliveries, record.pending = int(words[2]), int(words[6])
    except (IndexError, ValueError):
        record.deliveries, record.pending = 1, 0
    ids = [
        line.partition(b":")[2].strip().decode(errors="replace")
        for line in message.headers.split(b"\r\n")
        if line.lower().startswith(b"nats-msg-id:")
    ]
    # Its number in the stream names it only as long as the stream is not made anew.
    record.key = ids[0] if ids else f"{record.node}.{record.uuid}.{record.get('created')}"
    record._client, record._ack = client, message.reply
    return record


class Cdrs:
    """Call records: `async for cdr in fs.cdrs(durable="billing")`."""

    def __init__(self, client: Client, durable: str, stream: str, batch: int, ack_wait: float) -> None:
        if not is_token(durable):
            raise Refused("durable must be a name: letters, digits, - and _", field="durable")
        self._client = client
        self._durable, self._stream = durable, stream
        self._batch, self._ack_wait = max(1, batch), ack_wait
        self._sub: Subscription | None = None
        self._items: deque[Message] = deque()
        self._asked = 0
        self._more = asyncio.Event()
        self._closed = False
        self._found = ""  # the stream's name, once it is known
        self._gone = False  # the consumer, or the stream, or JetStream for a while

    async def begin(self) -> Cdrs:
        """Find the stream, and make the consumer if there is none yet. Raises CommandFailed if there is no stream."""
        if self._sub is not None:
            return self
        client = self._client
        subject = f"{client.prefix}.cdr.>"
        stream = self._stream
        if not stream:
            names = (await self._api("STREAM.NAMES", {"subject": subject})).get("streams") or []
            if not names:
                raise CommandFailed(f"no JetStream stream takes {subject}: event-agentctl stream create")
            stream = str(names[0])
        known = await self._api(f"CONSUMER.INFO.{stream}.{self._durable}", {}, missing=NO_CONSUMER)
        if not known:
            config = {
                "durable_name": self._durable, "name": self._durable, "deliver_policy": "all", "ack_policy": "explicit",
                "ack_wait": round(self._ack_wait * 1e9), "filter_subject": subject,
                "max_ack_pending": max(1000, self._batch * 4),
            }  # fmt: skip
            asked = {"stream_name": stream, "config": config}
            await self._api(f"CONSUMER.CREATE.{stream}.{self._durable}", asked)
        self._found, self._gone = stream, False
        self._sub = client._link.subscribe(client._new_inbox(), self._deliver)
        client._pulls.add(self)
        return self

    async def _api(self, what: str, payload: Mapping[str, Any], missing: int = 0) -> dict[str, Any]:
        """The answer of JetStream; {} for the error `missing`. Raises CommandFailed, NoAgent, NoReply, LinkError."""
        message = await self._client._raw(f"$JS.API.{what}", json.dumps(payload).encode(), GATHER)
        if status_of(message.headers) == 503:
            raise NoAgent("JetStream is not enabled at the NATS server, or not for this account")
        answer = json.loads(message.data)
        if isinstance(error := answer.get("error"), dict):
            if missing and error.get("err_code") == missing:
                return {}
            raise CommandFailed(f"JetStream: {error.get('description')}", {"data": error})
        return answer if isinstance(answer, dict) else {}

    def _deliver(self, message: Message) -> None:
        status = status_of(message.headers) if not message.data and message.headers else 0
        if status and status != 100:  # none now, the time is over, the consumer is gone
            self._asked = 0
            self._gone |= status not in NOTHING
        elif not status:
            self._asked = max(0, self._asked - 1)
            self._items.append(message)
        self._more.set()

    def _again(self) -> None:
        """There is another link: what was asked for on the last one does not come."""
        self._asked = 0
        self._more.set()

    async def next(self, wait: float | None = None) -> Record | None:
        """The next record; None if none came within `wait` seconds, or after `aclose`."""
        loop = asyncio.get_running_loop()
        core.check_seconds(wait)
        deadline = None if wait is None else loop.time() + wait
        while not self._closed:
            if self._gone and not self._items:
                self._leave()
            await self._begun(deadline)
            while self._items:
                message = self._items.popleft()
                if (record := record_of(self._client, message)) is not None:
                    return record
                with suppress(LinkError):  # something else on these subjects: it would come again without end
                    self._client._link.publish(message.reply, b"+TERM")
            if deadline is not None and loop.time() >= deadline:
                return None
            self._more.clear()
            if not self._asked and self._sub is not None and self._client._link.up:
                ask = json.dumps({"batch": self._batch, "expires": round(PULL * 1e9)}).encode()
                with_reply = self._client._link.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self._found}.{self._durable}", ask, self._sub.subject
                )
                self._asked = self._batch if with_reply else 0
            left = PULL + 2.0 if deadline is None else min(PULL + 2.0, deadline - loop.time())
            try:
                async with asyncio.timeout(left):
                    await self._more.wait()
            except TimeoutError:
                if left >= PULL + 2.0:
                    self._asked = 0  # not even a word that there is none
        return None

    async def _begun(self, deadline: float | None) -> None:
        """The first time; while there is no link it is tried again, and whatever the fault is once it has begun."""
        while self._sub is None and not self._closed:
            try:
                await self.begin()
            except AgentError as error:
                if not self._found and not isinstance(error, (LinkError, NoReply)):
                    raise
                if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                    return
                await asyncio.sleep(1.0 if self._found else 0.2)

    def _leave(self) -> None:
        """What was found is there no longer: it is looked for again."""
        if self._sub is not None:
            self._client._link.unsubscribe(self._sub)
        self._sub, self._asked = None, 0

    async def aclose(self) -> None:
        """No more records. Those that were not acknowledged come again, to the next that asks."""
        self._closed = True
        self._client._pulls.discard(self)
        self._leave()
        self._more.set()

    async def __aenter__(self) -> Cdrs:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[Record]:
        try:
            while (record := await self.next()) is not None:
                yield record
        finally:
            await self.aclose()


__all__ = ["Cdrs", "Record"]
