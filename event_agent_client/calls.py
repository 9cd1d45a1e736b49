"""Calls for asyncio: a Call hears of its own end, and each wait ends with it."""

from __future__ import annotations

import asyncio
import logging
import uuid as uuids
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from event_agent_client import core
from event_agent_client.core import GATHER, LONGEST, SETTLE, CallState, Payload, Reply, payload_of, quoted
from event_agent_client.errors import (
    AgentError,
    CallFailed,
    CommandFailed,
    Hangup,
    NoAgent,
    NoInput,
    NoReply,
    Refused,
    call_failed,
)
from event_agent_client.events import Event

if TYPE_CHECKING:
    from event_agent_client.aio import Client

log = logging.getLogger("event_agent_client")

SET = 30.0  # seconds that a variable may take to be set


def _variables(reply: Reply) -> dict[str, Any]:
    data = reply.data
    found = data.get("variables") if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


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
        call = Call(client, CallState(self.uuid, self._node or ""))
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


class Call:
    """One call (one channel). It knows its node, and hears of its own end.

    A method that waits ends with Hangup when the call does. Others that can come of each: Refused and CommandFailed,
    what FreeSWITCH or the agent said; NoAgent, no agent has it any more; NoReply and LinkError, what has become of the
    command is not known (`executed`).
    """

    def __init__(self, client: Client, state: CallState) -> None:
        self._client = client
        self._state = state
        client._number += 1
        self._place = str(client._number)
        self._settled = True  # False while it is being made: there may be no channel yet
        self._watched = False
        self._let_go = False
        self._listeners: list[CallEvents] = []
        self._resuming: asyncio.Lock = asyncio.Lock()

    # -- what is known

    @property
    def uuid(self) -> str:
        return self._state.uuid

    @property
    def node(self) -> str:
        """The node that has it."""
        return self._state.node

    @property
    def up(self) -> bool:
        """False once it has ended."""
        return self._state.up

    @property
    def answered(self) -> bool:
        return self._state.answered

    @property
    def cause(self) -> str:
        """Why it has ended, "" while it has not."""
        return self._state.cause

    @property
    def bridged_to(self) -> str:
        """The other leg's uuid, "" if it is connected to none."""
        return self._state.bridged

    @property
    def event(self) -> Event:
        """The last event that was seen of it, with all headers and variables as they were then."""
        return self._state.last

    @property
    def caller_number(self) -> str:
        return self.event.header("Caller-Caller-ID-Number")

    @property
    def caller_name(self) -> str:
        return self.event.header("Caller-Caller-ID-Name")

    @property
    def destination(self) -> str:
        """The number dialled."""
        return self.event.header("Caller-Destination-Number")

    @property
    def context(self) -> str:
        return self.event.header("Caller-Context")

    def __repr__(self) -> str:
        return f"<Call {self.uuid} on {self.node or '?'}: {self.cause or 'up'}>"

    # -- commands

    async def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        """A command on the call's own lane: it reaches the node that has the call. Raises Hangup if none has."""
        payload = payload_of(command, args, fields, more)
        core.check_patience(payload, wait)
        return await self._checked(payload, core.time_for(payload, self._client._wait) if wait is None else wait)

    async def _checked(self, payload: Payload, wait: float) -> Reply:
        """The reply. Raises what it stands for: Hangup if FreeSWITCH could not do it because the call has ended."""
        reply = await self._ask(payload, wait)
        if not reply.ok and "data" in reply and (not self.up or await self._gone()):
            raise Hangup(self.cause)
        return reply.check()

    async def _ask(self, payload: Payload, wait: float) -> Reply:
        client = self._client
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        patience = min(deadline, loop.time() + client._patience)
        lanes = [f"{client.prefix}.call.{self.uuid}"] if core.is_token(self.uuid) else []
        lanes.append(client._lane_of(self.node))
        data = payload.data
        while True:
            if not self.up:
                raise Hangup(self.cause)
            for lane in lanes:
                try:
                    return await client._ask(lane, data, max(0.05, deadline - loop.time()), self._state)
                except NoAgent as error:
                    if error.executed != "no":
                        raise
                    missing = error
                if lane is not lanes[-1] and await self._gone():
                    raise Hangup(self.cause)
            if loop.time() > patience:
                raise missing
            await asyncio.sleep(0.2)

    async def _gone(self) -> bool:
        """Nobody listens on the call's lane: whether that is because it has ended. Its node is asked."""
        data = Payload(command="uuid_exists", args=self.uuid).data
        with suppress(NoAgent, NoReply):
            reply = await self._client._ask(self._client._lane_of(self.node), data, GATHER, self._state)
            if reply.ok and str(reply.data).strip() == "false":
                if self._watched:
                    with suppress(Hangup, NoReply):  # its last events may be on their way, with the cause
                        await self._until(None, 1.0)
                self._state.gone()
                self._ended()
                return True
        return False

    async def execute(
        self, app: str, args: str = "", *, wait: float | None = None, result: str | Sequence[str] = ()
    ) -> Reply:
        """Run a dialplan application and wait for its end: `data` of the reply has `response` and `variables`.

        `result` names the channel variables that the reply is to have. `wait` is how long it may take, in seconds: an
        hour if it is left out; 0 does not wait. Raises Hangup when the call ends; Refused for an application that there
        is not.
        """
        payload = Payload(command="execute_app", uuid=self.uuid, app=app)
        if args:
            payload["args"] = args
        if wait == 0:
            return await self._checked(payload, self._client._wait)
        seconds = min(LONGEST, LONGEST if wait is None else max(0.1, wait))
        payload["wait"] = seconds
        if result:
            payload["result"] = result if isinstance(result, str) else list(result)
        return await self._checked(payload, seconds + 10.0)

    async def answer(self) -> None:
        """Answer it; nothing happens if it is."""
        if not self.answered:
            await self.execute("answer", wait=30)
            self._state.answered = True

    async def ring(self) -> None:
        """Let the caller hear that it rings (180), without answering."""
        await self.execute("ring_ready", wait=30)

    async def play(self, what: str, *, wait: float | None = None) -> None:
        """Play a file, or a stream such as `tone_stream://%(300,100,800)`, and wait for its end.

        `wait=0` does not wait for it. A stream without an end is ended by `stop`.
        """
        await self.execute("playback", what, wait=wait)

    async def stop(self) -> None:
        """End what is played now."""
        await self.request("uuid_break", f"{self.uuid} all")

    async def sleep(self, seconds: float) -> None:
        """Silence for so long; ends with Hangup when the call does."""
        await self.execute("sleep", str(round(seconds * 1000)), wait=seconds + 30)

    async def digits(
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
        """What the caller dials: `count` digits, or `count` to `most`, ended early by the key `end`.

        `prompt` is played first, and ended by the first digit. The first one is waited for `timeout` seconds, each
        further one `between` (`timeout` if it is left out). What does not match `pattern`, or is too short, gets
        `invalid` played and another of the `tries`. Raises NoInput if none has brought what was asked for.
        """
        most = count if most is None else most
        if not 1 <= count <= most <= 128 or not 1 <= tries <= 100:
            raise Refused("count must be 1 to 128, and not over most; tries must be 1 to 100", field="count")
        silence = "silence_stream://10"
        words = [
            str(count), str(most), str(tries), str(round(timeout * 1000)), end or "none", prompt or silence,
            invalid or silence, "event_agent_digits", pattern, str(round((between or timeout) * 1000)),
        ]  # fmt: skip
        limit = tries * (timeout + most * (between or timeout) + 300.0)
        reply = await self.execute(
            "play_and_get_digits", " ".join(map(quoted, words)), wait=limit, result="event_agent_digits"
        )
        found = _variables(reply).get("event_agent_digits")
        if not isinstance(found, str) or not found:
            raise NoInput(f"nothing that fits was dialled in {tries} {'try' if tries == 1 else 'tries'}")
        return found

    async def say(self, text: str, *, kind: str = "number", method: str = "pronounced", language: str = "en") -> None:
        """Say a number, a date, …, with FreeSWITCH's `say` and its sound files: `say("4711", kind="number")`."""
        await self.execute("say", f"{language} {kind} {method} {text}")

    async def speak(self, text: str, *, engine: str, voice: str) -> None:
        """Say a text with a text-to-speech engine of FreeSWITCH, such as flite with voice kal."""
        await self.execute("speak", f"{engine}|{voice}|{text}")

    async def record(
        self, path: str, *, limit: float | None = None, silence: float | None = None, level: int = 200, end: str = "#"
    ) -> Recording:
        """Record the caller to a file on the node's disk; ends with the key `end`, `limit`, or `silence` (seconds)."""
        await self.set(playback_terminators=end or "none")
        words = [quoted(path)]
        if limit is not None or silence is not None:
            words.append(str(round(limit or 0)))
        if silence is not None:
            words += [str(level), str(max(1, round(silence)))]
        wanted = ("record_seconds", "record_ms", "playback_terminator_used")
        found = _variables(await self.execute("record", " ".join(words), result=wanted))
        ms = str(found.get("record_ms") or "")
        seconds = int(ms) / 1000 if ms.isdigit() else float(found.get("record_seconds") or 0)
        return Recording(path, seconds, str(found.get("playback_terminator_used") or ""))

    async def set(self, **variables: str | int | float | bool) -> None:
        """Set channel variables. They are set when it returns."""
        await self._set_all({
            name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in variables.items()
        })  # fmt: skip

    async def get(self, name: str) -> str | None:
        """A channel variable, None if it is not set."""
        found = str((await self.request("uuid_getvar", f"{self.uuid} {name}")).data or "")
        return None if found in ("", "_undef_") else found

    async def send_digits(self, digits: str) -> None:
        """Dial digits to the other end."""
        await self.request("uuid_send_dtmf", f"{self.uuid} {digits}")

    async def bridge(
        self,
        to: str | Call,
        *,
        ring: float | None = None,
        caller_id: tuple[str, str] | str | None = None,
        variables: Mapping[str, str | int | float | bool] | None = None,
        wait: float = LONGEST,
    ) -> Call:
        """Connect it to an endpoint, or to another call; returns the other leg, once they are connected.

        The caller hears the other end ring. When the other leg hangs up this one goes on, and is yours again
        (`await b.ended()` waits for that). Raises Busy, NoAnswer, … if nobody answers, Hangup if the caller hangs up.
        """
        settings: dict[str, str] = {"hangup_after_bridge": "false", "continue_on_fail": "true"}
        if isinstance(to, Call):
            settings["park_after_bridge"] = "true"
            await self._set_all(settings)
            await to._set_all({"hangup_after_bridge": "false", "park_after_bridge": "true"})
            bridged = self._expect(lambda event: event.name == "CHANNEL_BRIDGE")
            try:
                await self.request("uuid_bridge", f"{self.uuid} {to.uuid}")
                await self._within(bridged, 30.0, "the two calls were not connected")
            finally:
                bridged.cancel()
            return to
        if ring is not None:
            settings["call_timeout"] = str(max(1, round(ring)))
        if caller_id is not None:
            name, number = ("", caller_id) if isinstance(caller_id, str) else caller_id
            settings |= {"effective_caller_id_name": name, "effective_caller_id_number": number}
        await self._set_all(settings)
        for key, value in (variables or {}).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            await self.execute("export", f"nolocal:{key}={text}", wait=0)
        app_uuid = ""

        def decides(event: Event) -> bool:
            if event.name == "CHANNEL_BRIDGE":
                return True
            if event.name != "CHANNEL_EXECUTE_COMPLETE" or event.header("Application") != "bridge":
                return False
            return not app_uuid or event.header("Application-UUID") == app_uuid

        decided = self._expect(decides)
        try:
            app_uuid = str((await self.execute("bridge", to, wait=0)).get("app_uuid", ""))
            event = await self._within(decided, wait, f"{to} has neither answered nor failed")
        finally:
            decided.cancel()
        if event.name == "CHANNEL_BRIDGE" and (other := getattr(event, "other_uuid", "")):
            return await self._client.take(other, self.node)
        for key in ("originate_failed_cause", "last_bridge_hangup_cause", "originate_disposition"):
            if cause := event.variable(key):
                raise call_failed(cause)
        raise CallFailed(event.variable("DIALSTATUS") or "NORMAL_UNSPECIFIED")

    async def _set_all(self, variables: Mapping[str, str]) -> None:
        """Several variables, in one request; they are set when it returns."""
        mark = next((each for each in "|~;!^" if not any(each in value for value in variables.values())), None)
        if len(variables) == 1 or mark is None:
            for name, value in variables.items():
                await self.execute("set", f"{name}={value}", wait=SET)
        elif variables:
            pairs = mark.join(f"{name}={value}" for name, value in variables.items())
            await self.execute("multiset", f"^^{mark}{pairs}", wait=SET)

    async def transfer(self, extension: str, *, context: str = "default", dialplan: str = "XML") -> None:
        """Send it to an extension of FreeSWITCH's dialplan. It is not hung up by us any more."""
        await self.request("uuid_transfer", f"{self.uuid} {extension} {dialplan} {context}")
        self._let_go = True

    def let_go(self) -> None:
        """Leave it as it is when the handler or the `async with` ends."""
        self._let_go = True

    async def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """End it; nothing happens if it has."""
        try:
            reply = await self._ask(Payload(command="hangup", uuid=self.uuid, cause=cause), self._client._wait)
        except Hangup:
            return
        if not reply.ok and not await self._gone():
            reply.check()

    # -- waiting

    async def ended(self, wait: float | None = None) -> End:
        """Wait for its end, and tell why. Raises NoReply if it has not ended within `wait` seconds."""
        if self.up:
            with suppress(Hangup):
                await self._until(None, wait)
        for _ in range(100):  # what comes behind CHANNEL_HANGUP
            if self._state.told:
                break
            await asyncio.sleep(0.02)
        return End(self.cause, self._state.complete)

    async def wait_for(self, *names: str, wait: float | None = None) -> Event:
        """The next event of this call with one of these names. Raises Hangup, and NoReply if none came in time."""
        wanted = frozenset(names)
        return await self._until(lambda event: event.name in wanted, wait)

    def events(self) -> CallEvents:
        """All events of this call from now on, whatever the agents publish: `async for event in call.events()`.

        It ends with the call.
        """
        return CallEvents(self)

    def _expect(self, wanted: core.Wanted | None) -> asyncio.Future[Event]:
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def answer(what: Event | AgentError) -> None:
            if not future.done():
                if isinstance(what, AgentError):
                    future.set_exception(what)
                    future.exception()  # it is not to be complained about if nobody waits any more
                else:
                    future.set_result(what)

        number = self._state.wait(wanted, answer)
        future.add_done_callback(lambda _: self._state.leave(number))
        return future

    async def _within(self, future: asyncio.Future[Event], wait: float | None, late: str) -> Event:
        try:
            async with asyncio.timeout(wait):
                return await future
        except TimeoutError:
            raise NoReply(f"{late} within {wait:g} seconds") from None

    async def _until(self, wanted: core.Wanted | None, wait: float | None) -> Event:
        future = self._expect(wanted)
        try:
            return await self._within(future, wait, "it has not happened")
        finally:
            future.cancel()

    # -- events

    def _heard(self, event: Event) -> None:
        self._state.feed(event)
        for each in self._listeners:
            each._put(event)
        if self._state.over:
            self._ended()

    def _ended(self) -> None:
        """Nothing more is to be heard of it."""
        client = self._client
        if client._calls.get(self.uuid) is self:
            del client._calls[self.uuid]
        client._places.pop(self._place, None)
        client._connected(self.uuid, self.bridged_to, "")
        self._state.bridged = ""
        for each in self._listeners:
            each._put(None)

    async def _watch(self) -> None:
        """Have its events sent here. Raises Hangup if it is not there."""
        client = self._client
        payload = Payload(command="call.watch", uuid=self.uuid, to=f"{client._inbox}.c.{self._place}")
        reply = await self._ask(payload, GATHER)
        if not reply.ok:
            if await self._gone():
                raise Hangup(self.cause)
            reply.check()
        self._state.node = self._state.node or reply.node
        self._watched = True

    async def _stopped(self) -> None:
        """The agent ends: what it has not answered by now it never will."""
        before = list(self._state._waits)
        await asyncio.sleep(2.0)
        self._state.fail_some(before, NoReply("the agent has stopped, so the end is not known"))

    async def _resume(self, restarted: bool = False) -> None:
        """After a loss: hear of it again, or of its end. An agent that was restarted answers no wait of before."""
        if not self._settled:
            return
        async with self._resuming:
            before = list(self._state._waits)
            with suppress(AgentError):
                await self._watch()
            if restarted and self.up:
                await asyncio.sleep(2.0)  # replies and events that are on their way
                self._state.fail_some(before, NoReply("the agent was restarted, so the end is not known"))

    async def _abandon(self) -> None:
        """It is not known what has become of it: let it not live on without an owner."""
        deadline = asyncio.get_running_loop().time() + 120.0
        data = Payload(command="hangup", uuid=self.uuid, cause="ORIGINATOR_CANCEL").data
        while asyncio.get_running_loop().time() < deadline:
            with suppress(AgentError):
                await self._client._link.wait_up(deadline)
                await self._client._gather(f"{self._client.prefix}.api", data, GATHER, SETTLE)
                return
            await asyncio.sleep(1.0)

    async def _end_quietly(self) -> None:
        """Hang up, however long the link takes to come back (a minute at most)."""
        if not self.up:
            return
        try:
            await self.hangup()
        except AgentError as error:
            log.warning("call %s could not be hung up yet: %s", self.uuid, error)
            self._client._spawn(self._abandon(), "abandon")


class CallEvents:
    """The events of one call, until it ends."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(10_000)
        call._listeners.append(self)
        if not call.up:
            self._put(None)

    def _put(self, event: Event | None) -> None:
        if not self._queue.full():
            self._queue.put_nowait(event)

    async def next(self) -> Event | None:
        """The next one; None when the call has ended."""
        event = await self._queue.get()
        if event is None and self in self._call._listeners:
            self._call._listeners.remove(self)
        return event

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while (event := await self.next()) is not None:
                yield event
        finally:
            if self in self._call._listeners:
                self._call._listeners.remove(self)
