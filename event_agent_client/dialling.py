"""Dial, which makes a call, and End and Recording, which say how a call and a recording ended. asyncio."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from event_agent_client import core
from event_agent_client.core import Payload
from event_agent_client.errors import AgentError, CommandFailed, NoAgent
from event_agent_client.events import Event
from event_agent_client.state import CallState

if TYPE_CHECKING:
    from event_agent_client.aio import Client
    from event_agent_client.calls import Call


class End:
    """How a call ended."""

    def __init__(self, cause: str, event: Event | None) -> None:
        self.cause = cause
        """FreeSWITCH's word for why; "unknown" if its end was not seen."""
        self.event = event
        """CHANNEL_HANGUP_COMPLETE with all variables of the channel; None if it was not seen."""

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its end; None if not known."""
        return self._seconds("mduration")

    @property
    def billsec(self) -> float | None:
        """Seconds from its answer to its end; None if not known."""
        return self._seconds("billmsec")

    def _seconds(self, name: str) -> float | None:
        value = self.event.variable(name) if self.event is not None else ""
        return int(value) / 1000 if value.isdigit() else None

    def __repr__(self) -> str:
        return f"End({self.cause!r})"


class Recording:
    """A recording that has ended."""

    def __init__(self, path: str, seconds: float, terminator: str) -> None:
        self.path = path
        """On the node's disk."""
        self.seconds = seconds
        self.terminator = terminator
        """The key that ended it, "" if none did."""

    def __repr__(self) -> str:
        return f"Recording({self.path!r}, {self.seconds:g} s)"


class Dial:
    """A call that is being made: to be awaited, or entered with `async with`, which hangs it up in the end."""

    def __init__(self, client: Client, fields: dict[str, Any], node: str | None, wait: float | None) -> None:
        self._client = client
        self._fields = fields
        self._node = node
        self._wait = wait
        self.uuid = str(uuids.uuid4())
        """The call's, chosen before anything is sent."""
        self._call: Call | None = None

    def __await__(self) -> Generator[Any, None, Call]:
        return self._dial().__await__()

    async def __aenter__(self) -> Call:
        self._call = await self._dial()
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None and not self._call._let_go:
            await self._call._end_quietly()

    async def _dial(self) -> Call:
        client = self._client
        call = client._call(CallState(self.uuid, self._node or ""))
        call._settled, call._watched = False, True
        client._enter(call)
        payload = Payload(
            command="originate", uuid=self.uuid, events_to=f"{client._inbox}.c.{call._place}", **self._fields
        )
        try:
            reply = (await client.call(payload, node=self._node, wait=self._wait)).check()
        except CommandFailed as error:
            call._ended()
            if error.executed == "unknown":
                client._spawn(call._abandon(), "abandon")
            raise (core.cause_of(error) or error) from None
        except NoAgent:
            call._ended()
            raise
        except BaseException as error:
            if not isinstance(error, AgentError) or error.executed != "no":
                client._spawn(call._abandon(), "abandon")
            call._ended()
            raise
        call._state.node, call._state.answered, call._settled = reply.node, True, True
        uuid = reply.data.get("uuid") if isinstance(reply.data, dict) else None
        if isinstance(uuid, str) and uuid != self.uuid:  # another leg has answered
            call._ended()
            return await client.take(uuid, reply.node)
        if not call.event.headers:  # the reply has overtaken the events; they say who calls whom
            with suppress(AgentError):
                await call._until(lambda event: True, 1.0)
        return call
