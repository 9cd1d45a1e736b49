"""Calls, for threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from event_agent_client import aio
from event_agent_client.calls import CallEvents, End, Recording
from event_agent_client.core import LONGEST, Reply
from event_agent_client.events import Event, EventLike
from event_agent_client.sync.thread import twin_of

if TYPE_CHECKING:
    from event_agent_client.sync.client import Client


class Call:
    """One call (one channel), as `ea.Call` is for asyncio. As a `with` statement it is hung up in the end."""

    def __init__(self, client: Client, inner: aio.Call) -> None:
        self._client = client
        self._inner = inner

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._inner._let_go:
            self._client._run(self._inner._end_quietly())

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def uuid(self) -> str:
        return self._inner.uuid

    @property
    def node(self) -> str:
        """The node that has it."""
        return self._inner.node

    @property
    def up(self) -> bool:
        """False once it has ended."""
        return self._inner.up

    @property
    def answered(self) -> bool:
        return self._inner.answered

    @property
    def cause(self) -> str:
        """Why it has ended, "" while it has not."""
        return self._inner.cause

    @property
    def bridged_to(self) -> str:
        """The other leg's uuid, "" if it is connected to none."""
        return self._inner.bridged_to

    @property
    def event(self) -> Event:
        """The last event that was seen of it, with all headers and variables as they were then."""
        return self._inner.event

    @property
    def caller_number(self) -> str:
        return self._inner.caller_number

    @property
    def caller_name(self) -> str:
        return self._inner.caller_name

    @property
    def destination(self) -> str:
        """The number dialled."""
        return self._inner.destination

    @property
    def context(self) -> str:
        return self._inner.context

    @twin_of(aio.Call.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        return self._client._run(self._inner.request(command, args, wait=wait, fields=fields, **more))

    @twin_of(aio.Call.execute)
    def execute(
        self, app: str, args: str = "", *, wait: float | None = None, result: str | Sequence[str] = ()
    ) -> Reply:
        return self._client._run(self._inner.execute(app, args, wait=wait, result=result))

    @twin_of(aio.Call.answer)
    def answer(self) -> None:
        self._client._run(self._inner.answer())

    @twin_of(aio.Call.ring)
    def ring(self) -> None:
        self._client._run(self._inner.ring())

    @twin_of(aio.Call.play)
    def play(self, what: str, *, wait: float | None = None) -> None:
        self._client._run(self._inner.play(what, wait=wait))

    @twin_of(aio.Call.stop)
    def stop(self) -> None:
        self._client._run(self._inner.stop())

    @twin_of(aio.Call.sleep)
    def sleep(self, seconds: float) -> None:
        self._client._run(self._inner.sleep(seconds))

    @twin_of(aio.Call.digits)
    def digits(
        self,
        count: int,
        most: int | None = None,
        *,
        prompt: str = "",
        invalid: str = "",
        tries: int = 1,
        timeout: float = 6.0,
        between: float | None = None,
        end: str = "#",
        pattern: str = r"\d+",
    ) -> str:
        return self._client._run(
            self._inner.digits(
                count, most, prompt=prompt, invalid=invalid, tries=tries, timeout=timeout, between=between, end=end,
                pattern=pattern,
            )
        )  # fmt: skip

    @twin_of(aio.Call.say)
    def say(self, text: str, *, kind: str = "number", method: str = "pronounced", language: str = "en") -> None:
        self._client._run(self._inner.say(text, kind=kind, method=method, language=language))

    @twin_of(aio.Call.speak)
    def speak(self, text: str, *, engine: str, voice: str) -> None:
        self._client._run(self._inner.speak(text, engine=engine, voice=voice))

    @twin_of(aio.Call.record)
    def record(
        self, path: str, *, limit: float | None = None, silence: float | None = None, level: int = 200, end: str = "#"
    ) -> Recording:
        return self._client._run(self._inner.record(path, limit=limit, silence=silence, level=level, end=end))

    @twin_of(aio.Call.set)
    def set(self, **variables: str | int | float | bool) -> None:
        self._client._run(self._inner.set(**variables))

    @twin_of(aio.Call.get)
    def get(self, name: str) -> str | None:
        return self._client._run(self._inner.get(name))

    @twin_of(aio.Call.send_digits)
    def send_digits(self, digits: str) -> None:
        self._client._run(self._inner.send_digits(digits))

    @twin_of(aio.Call.bridge)
    def bridge(
        self,
        to: str | Call,
        *,
        ring: float | None = None,
        caller_id: tuple[str, str] | str | None = None,
        variables: Mapping[str, str | int | float | bool] | None = None,
        wait: float = LONGEST,
    ) -> Call:
        target = to._inner if isinstance(to, Call) else to
        found = self._client._run(
            self._inner.bridge(target, ring=ring, caller_id=caller_id, variables=variables, wait=wait)
        )
        return Call(self._client, found)

    @twin_of(aio.Call.transfer)
    def transfer(self, extension: str, *, context: str = "default", dialplan: str = "XML") -> None:
        self._client._run(self._inner.transfer(extension, context=context, dialplan=dialplan))

    @twin_of(aio.Call.let_go)
    def let_go(self) -> None:
        self._inner.let_go()

    @twin_of(aio.Call.hangup)
    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        self._client._run(self._inner.hangup(cause))

    @twin_of(aio.Call.ended)
    def ended(self, wait: float | None = None) -> End:
        return self._client._run(self._inner.ended(wait))

    @twin_of(aio.Call.wait_for)
    def wait_for(self, *names: str, wait: float | None = None) -> Event:
        return self._client._run(self._inner.wait_for(*names, wait=wait))

    @twin_of(aio.Call.events)
    def events(self) -> Iterator[EventLike]:
        async def begin() -> CallEvents:
            return self._inner.events()

        inner = self._client._run(begin())
        while (event := self._client._run(inner.next())) is not None:
            yield event
