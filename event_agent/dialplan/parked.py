"""Which calls are parked now, and what they hear.

A call of ours carries the variable `event_agent_parked`, set to the Caller-Profile-Index it was parked under; a
transfer raises the index, so variable and index are equal exactly while the call has not been sent elsewhere. Anybody
who makes a call can set variables on it, so a seal beside the mark proves that it is ours. Events tell of calls as
they come and go. What was missed (another link, another life of this agent, an event lost) is found by asking
FreeSWITCH about single channels, with uuid_dump: `eval` would run a `${verb(…)}` in the value of a variable.

An application that is run on a parked call (execute_app) runs inside `park`: no CHANNEL_UNPARK comes. While it has
the caller talk to somebody, by a bridge or in a conference, the call is engaged and does not count as parked; when
that ends it waits again and counts again. CHANNEL_BRIDGE, CHANNEL_UNBRIDGE and conference::maintenance tell, and of a
single channel its variables `bridge_to` (switch_ivr_bridge.c) and `conference_call_key` (conference_member.c), which
FreeSWITCH sets and takes off.

Callers choose the uuids, and questions may come from anybody on this machine: a uuid that could be
read as more than one word is ignored and counted, wherever it comes from.

`park` supplies no audio, so the stream is started by `sendmsg … execute` when CHANNEL_PARK comes. Without
`event-lock`: uuid_broadcast and a dialplan's own `app::data` set it, and FreeSWITCH then leaves every later execute
on that channel in its queue until the stream ends, which it never does (switch_core_session.c,
switch_core_session_dequeue_private_event). `loops: -1` starts a stream again that has ended; uuid_break ends both.

A call can be sent on by others before its stream is started, and FreeSWITCH would then play it wherever the call is
by now. PLAYBACK_START tells: one of our streams on a call that had left is broken off.

Threads: `event` on esl-events, `expect` on the listener's, the rest on any; one lock guards all state and is never
held while FreeSWITCH is spoken to.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from event_agent.dialplan.choices import MARK, SEAL, Choices
from event_agent.dialplan.secret import Seal
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.protocol.raw_event import Key, RawEvent
from event_agent.runtime.log import Tally

log = logging.getLogger(__name__)

BRIDGES = {"CHANNEL_BRIDGE": True, "CHANNEL_UNBRIDGE": False}  # True: the call is engaged from here on
CONFERENCE = "conference::maintenance"
MEMBERS = {b"add-member": True, b"del-member": False}
# Needed while calls are or may be parked.
EVENTS = frozenset({"CHANNEL_PARK", "CHANNEL_UNPARK", "PLAYBACK_START", CONFERENCE, *BRIDGES})
ENDS = frozenset({"CHANNEL_UNPARK", "CHANNEL_DESTROY"})
# 440 + 480 Hz, two seconds of six. The scoped variable keeps a caller's `*` from ending the tone.
RINGBACK = "tone_stream://%(2000,4000,440,480);loops=-1"
UNBREAKABLE = "%[playback_terminators=none]"
DEFAULT_MUSIC = "hold_music"  # channel variable, else FreeSWITCH's global one
SILENT = ("", "silence")  # FreeSWITCH's own word in hold_music
EXPECTED = 1.0  # seconds after an answer within which CHANNEL_PARK should have come; else FreeSWITCH is asked
EXPECTING = 8192  # calls answered and not yet parked that are remembered
AGAIN = (1.0, 3.0)  # seconds after which channels are listed again: FreeSWITCH's own list is behind by up to a second
REVIEW = 30.0  # seconds between two checks of the calls parked longest
REVIEWED = 64  # calls looked at in one check
ASKING = 32  # questions under way at one time
GONE = 4096  # calls remembered to have left: FreeSWITCH sends events out of order now and then
GONE_FOR = 10.0  # seconds
_MARKED = f'"variable_{MARK}":'.encode()
_ACTION, _SEQUENCE = Key("Action"), Key("Event-Sequence")
_LEGS = (Key("Bridge-A-Unique-ID"), Key("Bridge-B-Unique-ID"))
ENGAGED = ("variable_bridge_to", "variable_conference_call_key")
STREAM = 1024  # characters of what hold_music may name

Send = Callable[[Sequence[Command]], None]


class _Doubts:
    """What FreeSWITCH is to be asked about channels."""

    def __init__(self) -> None:
        self.ask: deque[tuple[str, bool]] = deque()  # channels to ask about; True: it may be without audio
        self.asking = 0
        self.review_at = 0.0
        self.looks: list[float] = []  # time.monotonic() at which to list the channels again
        self.others: set[str] = set()  # channels that were asked about since the link is up, and are not parked


class _Music:
    """FreeSWITCH's global hold_music, and whether a line has said that it can't be used."""

    def __init__(self) -> None:
        self.stream = ""
        self.told = False


class ParkedCalls:
    """Follows the calls that were parked by us."""

    def __init__(self, send: Send, choices: Callable[[], Choices], seal: Seal) -> None:
        self._send = send
        self._choices = choices
        self._seal = seal
        self.expected_within, self.again = EXPECTED, AGAIN
        self._lock = threading.Lock()
        self._parked: dict[str, float] = {}  # uuid: time.monotonic() of the last sign that it is parked
        self._turns: dict[str, tuple[float, int, bool]] = {}  # of a parked call: clock, Event-Sequence, engaged
        self._old_audio: set[str] = set()  # engaged while the audio was changed: theirs is started when they wait again
        self.expected: dict[str, float] = {}  # uuid: time.monotonic() by which its CHANNEL_PARK should have come
        self._playing: dict[str, str] = {}  # uuid: the stream that was started on it
        self.gone: dict[str, tuple[float, int, str]] = {}  # uuid: when it left (clock, Event-Sequence), its stream
        self._doubts = _Doubts()
        self._music = _Music()
        self._refusals = Tally()  # uuids that were ignored
        self._misses = Tally()  # calls that should have been parked and were not: the answer came too late
        self.total = 0

    @property
    def refused(self) -> int:
        """Uuids that were ignored."""
        return self._refusals.count

    @property
    def missed(self) -> int:
        """Calls that should have been parked and were not: the answer came too late."""
        return self._misses.count

    @property
    def now(self) -> int:
        """Calls parked at this moment."""
        return len(self.calls())

    def calls(self) -> list[str]:
        """Their uuids."""
        with self._lock:
            return [uuid for uuid in self._parked if not self._engaged(uuid)]

    def _engaged(self, uuid: str) -> bool:
        """Lock held."""
        turn = self._turns.get(uuid)
        return turn is not None and turn[2]

    @property
    def watching(self) -> bool:
        """True while events of parked calls are needed although park mode is off."""
        return bool(self._parked or self.expected)

    # -- what happens to calls

    def known(self, uuid: object) -> bool:
        """False for what can't be a channel's uuid; it is counted then, and said now and then."""
        if wire.is_uuid(uuid):
            return True
        if self._refusals.add():
            log.warning(
                "a question or event of park mode was ignored: its uuid is not valid (%.40r); %d so far",
                uuid, self._refusals.count,
            )  # fmt: skip
        return False

    def expect(self, uuid: str) -> None:
        """FreeSWITCH was told to park this call."""
        with self._lock:
            if len(self.expected) < EXPECTING:
                self.expected[uuid] = time.monotonic() + self.expected_within

    def miss(self) -> None:
        """FreeSWITCH got the answer for a call too late, or did not take it. Said now and then."""
        if self._misses.add():
            log.warning(
                "calls go past park mode, %d so far: FreeSWITCH gave up waiting for the answer (the timeout in "
                "xml_curl.conf.xml); this process was stopped, or other programs keep the processors busy",
                self._misses.count,
            )  # fmt: skip

    def event(self, name: str, event: RawEvent) -> None:
        """An event came. Never raises: this runs on the thread that all events pass."""
        if name in BRIDGES:
            if self._parked:
                self._turned({event.get(leg) for leg in _LEGS}, event.number(_SEQUENCE), BRIDGES[name])
            return
        if name == CONFERENCE:
            if self._parked and (joined := MEMBERS.get(event.scan(_ACTION) or b"")) is not None:
                self._turned({event.uuid}, event.number(_SEQUENCE), joined)
            return
        if name in ENDS:
            if not (self.watching or _MARKED in event.data):  # the mark may have been taken off a call that is parked
                return
        elif name not in EVENTS or _MARKED not in event.data:
            return
        headers = event.headers
        try:
            uuid, sequence = headers["Unique-ID"], int(headers["Event-Sequence"])
        except (ValueError, KeyError, TypeError, OverflowError):
            return
        if name in ENDS:
            if wire.is_uuid(uuid):
                self._left(uuid, sequence)
        elif not self.known(uuid):
            return
        elif name == "PLAYBACK_START":
            self._started(uuid, sequence, headers.get("Playback-File-Path"))
        elif self._ours(uuid, headers):
            self._came(uuid, sequence, headers)

    def _ours(self, uuid: str, headers: Mapping[str, Any]) -> bool:
        """True for a channel that was parked by us and not sent elsewhere since."""
        mark = headers.get(f"variable_{MARK}")
        if mark is None or mark != headers.get("Caller-Profile-Index"):
            return False
        return self._seal.fits(uuid, headers.get(f"variable_{SEAL}"))

    def _came(self, uuid: str, sequence: int, headers: Mapping[str, Any]) -> None:
        with self._lock:
            self.expected.pop(uuid, None)
            left = self.gone.get(uuid)
            stays = left is None or left[1] < sequence
            if uuid not in self._parked:
                self.total += 1
            if stays:
                self.gone.pop(uuid, None)
                self._parked[uuid] = time.monotonic()
        if stays:
            self._play(uuid, str(headers.get(f"variable_{DEFAULT_MUSIC}", "")))

    def _turned(self, uuids: set[str], sequence: int, engaged: bool) -> None:
        """These calls, if they are parked, talk to somebody now, or wait again."""
        with self._lock:
            late = {uuid for uuid in uuids if (turn := self._turns.get(uuid)) is not None and turn[1] > sequence}
            ours = [uuid for uuid in uuids - late if uuid in self._parked]
            for uuid in ours:
                self._turns[uuid] = (time.monotonic(), sequence, engaged)
            again = [] if engaged else [uuid for uuid in ours if uuid in self._old_audio]
            self._old_audio.difference_update(again)
        for uuid in again:
            self._break(uuid)
            self._play(uuid)

    def _left(self, uuid: str, sequence: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._drop(uuid)
            self.expected.pop(uuid, None)
            self.gone.pop(uuid, None)
            while self.gone:
                first = next(iter(self.gone))
                if len(self.gone) < GONE and now - self.gone[first][0] < GONE_FOR:
                    break
                del self.gone[first]
            self.gone[uuid] = (now, sequence, self._playing.pop(uuid, ""))

    def _drop(self, uuid: str) -> None:
        """It is not parked any more. Lock held."""
        self._parked.pop(uuid, None)
        self._turns.pop(uuid, None)
        self._old_audio.discard(uuid)

    def _started(self, uuid: str, sequence: int, path: object) -> None:
        with self._lock:
            left = self.gone.get(uuid)
            astray = left is not None and left[1] < sequence and left[2] == path
        if astray:
            log.debug("%s had been sent on before its audio began", uuid)
            self._break(uuid)

    # -- what callers hear

    def _play(self, uuid: str, own_music: str = "") -> None:
        """Start what this call should hear; it hears nothing now."""
        choices = self._choices()
        stream = ""
        if choices.audio == "ringback":
            stream = RINGBACK
        elif choices.audio == "music" and choices.music_class:
            stream = f"local_stream://{choices.music_class}"
        elif choices.audio == "music":
            stream = self._hold_music(own_music)
        if stream in SILENT:
            return
        with self._lock:
            if uuid in self._parked:
                self._playing[uuid] = stream
        text = wire.execute(uuid, "playback", f"{UNBREAKABLE}{stream}", {"loops": "-1"})
        self._send([Command(text, "sendmsg", _ignore, _ignore, (uuid,))])  # a call that has gone needs no audio

    def _hold_music(self, own: str) -> str:
        """The stream that the channel's hold_music names, or FreeSWITCH's; ringback for one that can't be used."""
        stream = " ".join((own or self._music.stream).split())
        if stream and "$" not in stream and len(stream) <= STREAM and stream.isprintable():
            return stream
        if not self._music.told:
            self._music.told = True
            if stream:  # FreeSWITCH would run a ${verb(…)} in it
                log.warning("parked callers hear ringback, not music: hold_music can't be used: %.60r", stream)
            else:
                log.warning("parked callers hear ringback, not music: FreeSWITCH's variable hold_music is not set")
        return RINGBACK

    def _break(self, uuid: str) -> None:
        self._send([Command(wire.api("uuid_break", uuid), "uuid_break", _ignore, _ignore, (uuid,))])

    def _learn_music(self, then: Callable[[], None]) -> None:
        """Ask for the global hold_music. Asked once a call it could come after a transfer of the call."""

        def done(answer: str) -> None:
            self._music.stream = "" if answer.startswith("-ERR") else answer.strip()
            then()

        self._send([Command(wire.api("global_getvar", DEFAULT_MUSIC), "global_getvar", done, log.debug)])

    def prepare(self) -> None:
        """Park mode is on now: learn what is needed when the first call comes."""
        self._learn_music(_nothing)

    def audio_changed(self) -> None:
        """Let the calls parked now hear what was chosen now."""
        self._music.told = False
        self._learn_music(self._play_all)

    def _play_all(self) -> None:
        with self._lock:
            engaged = {uuid for uuid in self._parked if self._engaged(uuid)}
            self._old_audio |= engaged
            calls = [uuid for uuid in self._parked if uuid not in engaged]
        for uuid in calls:
            # Both go on one connection in this order: the old stream stops within 25 ms, then the new one starts.
            self._break(uuid)
            self._play(uuid)

    # -- what FreeSWITCH says of them

    def resynchronise(self) -> None:
        """A link is up: find out which calls are parked by us."""
        with self._lock:
            self._doubts.asking = 0
            self._doubts.ask = deque((uuid, False) for uuid in self._parked)
            self._doubts.looks = [time.monotonic() + seconds for seconds in self.again]
            self._doubts.others.clear()
        self._learn_music(self._pump)
        self._look()

    def _look(self) -> None:
        self._send([Command(wire.api("show", "channels as json"), "show", self._channels, log.debug, slow=True)])

    def _channels(self, answer: str) -> None:
        try:
            rows = json.loads(answer).get("rows", [])
            found = [
                (row["uuid"], row["application"] == "park")
                for row in rows
                if row["direction"] == "inbound" and row["state"] == "CS_EXECUTE" and self.known(row["uuid"])
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            log.debug("show channels: %.200s", answer)
            return
        with self._lock:
            # What becomes of the others since then, events tell.
            self._doubts.ask.extend(each for each in found if each[0] not in self._doubts.others)
        self._pump()

    def tick(self) -> None:
        """Now and then, by the thread of dialplan control: doubts are settled by asking."""
        now = time.monotonic()
        with self._lock:
            for uuid, by in list(self.expected.items()):
                if by > now:
                    break
                del self.expected[uuid]
                self._doubts.ask.append((uuid, True))
            look = bool(self._doubts.looks) and now >= self._doubts.looks[0]
            if look:
                del self._doubts.looks[0]
            review = now >= self._doubts.review_at
            if review:
                self._doubts.review_at = now + REVIEW
                for uuid, since in list(self._parked.items())[:REVIEWED]:
                    if now - since < REVIEW:
                        break
                    self._doubts.ask.append((uuid, False))
        choices = self._choices()
        used = choices.enabled or self.watching
        if review and used and choices.audio == "music" and not choices.music_class:
            self._learn_music(_nothing)
        if look:
            self._look()
        self._pump()

    def _pump(self) -> None:
        """Ask about the next channels."""
        commands = []
        with self._lock:
            while self._doubts.ask and self._doubts.asking < ASKING:
                uuid, silent = self._doubts.ask.popleft()
                self._doubts.asking += 1
                commands.append(self._question(uuid, silent))
        if commands:
            self._send(commands)

    def _question(self, uuid: str, silent: bool) -> Command:
        asked = time.monotonic()

        def done(answer: str) -> None:
            self._answered()
            headers = _headers(answer)
            parked = headers.get("Channel-State") == "CS_EXECUTE" and self._ours(uuid, headers)
            if silent and headers.get("Channel-State") == "CS_EXECUTE" and f"variable_{SEAL}" not in headers:
                self.miss()  # the seal is set before anything else, and it runs something without one
            with self._lock:
                known = uuid in self._parked
                left = self.gone.get(uuid)
                if not parked or (left is not None and left[0] >= asked):
                    if self._doubts.looks:
                        self._doubts.others.add(uuid)
                    if known and self._parked[uuid] <= asked:
                        self._drop(uuid)
                        self._playing.pop(uuid, None)
                    parked = False
                else:
                    self._parked.pop(uuid, None)
                    self._parked[uuid] = time.monotonic()
                    self.expected.pop(uuid, None)
                    self.total += not known
                    turn = self._turns.get(uuid, (0.0, 0, False))
                    if turn[0] < asked:  # no event has told of it since
                        self._turns[uuid] = (asked, turn[1], any(name in headers for name in ENGAGED))
            if parked and not known and silent:
                self._play(uuid)
            self._pump()

        def failed(_: object) -> None:
            self._answered()

        return Command(wire.api("uuid_dump", f"{uuid} json"), "uuid_dump", done, failed, (uuid,))

    def _answered(self) -> None:
        with self._lock:
            self._doubts.asking = max(0, self._doubts.asking - 1)


def _headers(answer: str) -> dict[str, Any]:
    """What uuid_dump says of a channel; nothing of one that is not there."""
    try:
        found = json.loads(answer) if answer.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ignore(_: object) -> None:
    pass


def _nothing() -> None:
    pass
