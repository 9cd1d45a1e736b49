"""Requests and their replies, for the client for asyncio: sent, waited for, told apart, put together."""

from __future__ import annotations

import asyncio
import uuid as uuids
from collections.abc import Callable, Mapping
from typing import Any

from event_agent_client import core
from event_agent_client._link import Link
from event_agent_client._wire import Message
from event_agent_client.core import GATHER, Reply
from event_agent_client.errors import AgentError, NoAgent, NoReply, NotAllowed, Refused
from event_agent_client.events import Event
from event_agent_client.parts import Parts
from event_agent_client.state import CallState, Running


class Asking:
    """What a client needs to ask agents over its link. Replies come to an inbox of its own."""

    def __init__(self, prefix: str, link: Link, away: float) -> None:
        self.prefix = prefix
        """`subject_prefix` of the agents."""
        self.streams: set[str] = set()
        """JetStream streams that have answered requests: their subjects include command lanes, and should not."""
        self._away = away
        self._link = link
        self._inbox = f"_INBOX.{uuids.uuid4().hex}"
        self._number = 0
        self._pending: dict[str, _Pending] = {}

    async def _gather(self, lane: str, data: bytes, wait: float, settle: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        await self._link.wait_up(deadline)
        found: list[Reply] = []
        parts = Parts()
        queue: asyncio.Queue[Message | AgentError] = asyncio.Queue()
        pending = self._begin(lane, data, queue.put_nowait)
        try:
            while True:
                until = min(deadline, loop.time() + settle) if found and not parts.missing else deadline
                if (left := until - loop.time()) <= 0:
                    break
                async with asyncio.timeout(left):
                    what = await queue.get()
                if isinstance(what, AgentError):
                    raise what
                if stream := core.acknowledging(what.data):
                    self._stream_answers(stream)
                    continue
                if (whole := parts.add(core.reply_of(what.headers, what.data, lane))) is not None:
                    found.append(whole)
        except (TimeoutError, NoAgent):
            pass
        finally:
            self._pending.pop(pending.token, None)
        return found

    def _lane(self, payload: Mapping[str, Any], node: str | None) -> str:
        return core.lane_for(self.prefix, payload, node)

    def _lane_of(self, node: str) -> str:
        """The lane of a node; that of all for one without a name."""
        return core.lane_of(self.prefix, node)

    async def _wait_up(self, wait: float) -> None:
        if not self._link.up:
            await self._link.wait_up(asyncio.get_running_loop().time() + wait)

    def _begin(self, subject: str, data: bytes, answer: Callable[[Message | AgentError], object]) -> _Pending:
        """Send a request. Raises LinkError, and Refused for what can't be sent."""
        self._number += 1
        token = str(self._number)
        try:
            number = self._link.publish(subject, data, f"{self._inbox}.r.{token}")
        except ValueError as fault:
            raise Refused(str(fault)) from None
        pending = self._pending[token] = _Pending(token, number, subject, answer)
        return pending

    async def _ask(
        self, subject: str, data: bytes, wait: float, state: CallState | None = None, running: Running | None = None
    ) -> Reply:
        """One request, one reply. With `state` the end of that call ends it, too; `running` outlasts a lost link."""
        what = await self._answer(subject, data, wait, state, running, Parts())
        return what if isinstance(what, Reply) else core.reply_of(what.headers, what.data, subject)

    def _new_inbox(self) -> str:
        """A subject of our own."""
        self._number += 1
        return f"{self._inbox}.n.{self._number}"

    async def _settle(self, subject: str, data: bytes) -> None:
        """Acknowledge, and have that confirmed."""
        await self._raw(subject, data, GATHER)

    async def _raw(self, subject: str, data: bytes, wait: float) -> Message:
        """One request; the message that answers it."""
        what = await self._answer(subject, data, wait)
        assert isinstance(what, Message)
        return what

    async def _answer(
        self, subject: str, data: bytes, wait: float, state: CallState | None = None, running: Running | None = None,
        parts: Parts | None = None,
    ) -> Message | Reply:  # fmt: skip
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        if not self._link.up:
            await self._link.wait_up(min(deadline, loop.time() + self._away))
        future: asyncio.Future[Message | Reply] = loop.create_future()

        def answer(what: Message | Reply | Event | AgentError) -> None:
            if future.done():
                return
            if isinstance(what, AgentError):
                future.set_exception(what)
            elif isinstance(what, Message) and b'"stream"' in what.data and (stream := core.acknowledging(what.data)):
                self._stream_answers(stream)
            elif parts is not None and isinstance(what, Message) and b'"parts":' in what.data:
                self._put_together(parts, what, subject, future)
            elif not isinstance(what, Event):
                future.set_result(what)

        def late() -> None:
            answer(NoReply(f"no reply within {wait:g} seconds{parts.late if parts is not None else ''}"))

        pending = self._begin(subject, data, answer)
        if running is not None:
            pending.running, running.end = running, answer
        number = state.wait(None, answer, command=True) if state is not None else 0
        if running is not None:
            running.number = number
        timer = loop.call_at(deadline, late)
        try:
            return await future
        finally:
            timer.cancel()
            self._pending.pop(pending.token, None)
            if state is not None:
                state.leave(number)

    @staticmethod
    def _put_together(parts: Parts, message: Message, subject: str, future: asyncio.Future[Message | Reply]) -> None:
        """A message that may be a part of a reply."""
        try:
            whole = parts.add(core.reply_of(message.headers, message.data, subject))
        except AgentError as error:
            future.set_exception(error)
        else:
            if whole is not None:
                future.set_result(whole)

    def _stream_answers(self, stream: str) -> None:
        if len(self.streams) < 100:
            self.streams.add(stream)

    def _replied(self, message: Message) -> None:
        pending = self._pending.get(message.subject.rpartition(".")[2])
        if pending is not None:  # else it came too late
            pending.answer(message)

    def _refused(self, subject: str, words: str) -> None:
        """The server does not let us send there, or listen there."""
        for pending in list(self._pending.values()):
            if pending.subject == subject:
                pending.fail(NotAllowed(f"the NATS server does not allow us to publish on {subject}"))


class _Pending:
    """A request under way."""

    __slots__ = ("token", "number", "subject", "answer", "running")

    def __init__(
        self, token: str, number: int, subject: str, answer: Callable[[Message | AgentError], object]
    ) -> None:
        self.token, self.number, self.subject, self.answer = token, number, subject, answer
        self.running: Running | None = None

    def fail(self, error: AgentError) -> None:
        self.answer(error)
