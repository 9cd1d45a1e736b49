"""Calls for asyncio: a Call hears of its own end, and each wait ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from event_agent_client import core
from event_agent_client.channel import CallEvents, Channel
from event_agent_client.core import LONGEST, Payload, Reply, payload_of, quoted
from event_agent_client.dialling import Dial, End, Recording
from event_agent_client.errors import CallFailed, CommandFailed, Hangup, NoInput, NoReply, Refused, call_failed
from event_agent_client.events import Event
from event_agent_client.state import CallState

__all__ = ["Call", "CallEvents", "Dial", "End", "Recording"]

SET = 30.0  # seconds that a variable may take to be set
CAUSES = ("originate_failed_cause", "last_bridge_hangup_cause", "originate_disposition", "DIALSTATUS")
OTHER = "bridge_uuid"  # the other leg of the last connection, see switch_ivr_multi_threaded_bridge


def _variables(reply: Reply) -> dict[str, Any]:
    data = reply.data
    found = data.get("variables") if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


class Call(Channel):
    """One call (one channel). It knows its node, and hears of its own end.

    A method that waits ends with Hangup when the call does. Others that can come of each: Refused and CommandFailed,
    what FreeSWITCH or the agent said; NoAgent, no agent has it any more; NoReply and LinkError, what has become of the
    command is not known (`executed`).

    It outlasts a link to NATS that is lost and comes back: what is waited for goes on being waited for, and what
    happened meanwhile is asked.
    """

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

    async def execute(
        self, app: str, args: str = "", *, wait: float | None = None, result: str | Sequence[str] = ()
    ) -> Reply:
        """Run a dialplan application and wait for its end: `data` of the reply has `response` and `variables`.

        `result` names the channel variables that the reply is to have. `wait` is how long it may take, in seconds: an
        hour if it is left out; 0 does not wait. Raises Hangup when the call ends; Refused for an application that there
        is not.
        """
        core.check_seconds(wait)
        payload = Payload(command="execute_app", uuid=self.uuid, app=app)
        if args:
            payload["args"] = args
        if wait == 0:
            return await self._checked(payload, self._client._wait)
        seconds = min(LONGEST, LONGEST if wait is None else max(0.1, wait))
        payload["wait"] = seconds
        if result:
            payload["result"] = [result] if isinstance(result, str) else list(result)
        return await self._run(payload, seconds + 10.0, payload.get("result", ()))

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
        core.check_seconds(seconds, "seconds")
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
        core.check_seconds(timeout, "timeout")
        core.check_seconds(between, "between")
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
        """Say a number, a date, …, with FreeSWITCH's `say` and its sound files: `say("4711", kind="number")`.

        Raises CommandFailed if nothing was played: the node has no say module (mod_say_en), no language of that name,
        no sound files, or the text does not fit the kind. FreeSWITCH itself says so in its log only.
        """
        await self.set(playback_ms="")  # of what was played before
        words = " ".join(map(quoted, (language, kind, method, text)))
        reply = await self.execute("say", words, result="playback_ms")
        if _variables(reply).get("playback_ms") is None:
            raise CommandFailed(core.said_nothing(text, kind, language), reply)

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
        core.check_seconds(ring, "ring")
        core.check_seconds(wait)
        if not isinstance(to, Call):
            core.check_text(to, "to")
        if to is self or not to:
            raise Refused("to must be an endpoint, or another call", field="to")
        # What `bridge_uuid` says later is of this connection, even if its events are missed.
        settings: dict[str, str] = {OTHER: "", "hangup_after_bridge": "false", "continue_on_fail": "true"}
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
        return await self._connected(to, min(LONGEST, max(0.1, wait)))

    async def _connected(self, to: str, wait: float) -> Call:
        """Run `bridge`; the other leg, once they are connected, or why they are not."""
        connected = self._expect(lambda event: event.name == "CHANNEL_BRIDGE")
        over = asyncio.create_task(self.execute("bridge", to, wait=LONGEST, result=(*CAUSES, OTHER)))
        try:
            both: list[asyncio.Future[Any]] = [connected, over]
            await asyncio.wait(both, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if not connected.done() and over.done():
                causes = _variables(over.result())  # or what kept it from beginning
                if other := causes.get(OTHER):  # they have talked, and nobody was there to hear it
                    return await self._other(str(other))
                raise call_failed(str(next(filter(None, map(causes.get, CAUSES)), "NORMAL_UNSPECIFIED")))
            if not connected.done():
                raise NoReply(f"{to} has neither answered nor failed within {wait:g} seconds")
            other = getattr(connected.result(), "other_uuid", "")
        finally:
            connected.cancel()
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)
        if not other:
            raise CallFailed("NORMAL_UNSPECIFIED")
        return await self._other(other)

    async def _other(self, uuid: str) -> Call:
        """The leg that it is, or was, connected to. One that has hung up already is one that has ended."""
        try:
            return await self._client.take(uuid, self.node)
        except Hangup:
            if not self.up:
                raise Hangup(self.cause) from None
            other = Call(self._client, CallState(uuid, self.node))
            other._state.gone()
            return other

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
        await self._hang_up(cause)

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
        """The next event of this call with one of these names. Raises Hangup, and NoReply if none came in time.

        One that is fired while there is no link to NATS is not seen.
        """
        wanted = frozenset(names)
        return await self._until(lambda event: event.name in wanted, wait)

    def events(self) -> CallEvents:
        """All events of this call from now on, whatever the agents publish: `async for event in call.events()`.

        It ends with the call. A Gap among them says that the link to NATS was lost, and events may be missing.
        """
        return CallEvents(self)
