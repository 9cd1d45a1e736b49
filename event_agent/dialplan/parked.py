"""Which calls are parked now, and what they hear.

A call of ours carries the variable `event_agent_parked`, set to the Caller-Profile-Index it was parked under; a
transfer raises the index, so variable and index are equal exactly while the call has not been sent elsewhere. Events
tell of calls as they come and go. What was missed (another link, another life of this agent, an event lost) is found
by asking FreeSWITCH about single channels.

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

from event_agent.dialplan.choices import MARK, Choices
from event_agent.freeswitch.command import Command
from event_agent.protocol.raw_event import RawEvent

log = logging.getLogger(__name__)

EVENTS = frozenset({"CHANNEL_PARK", "CHANNEL_UNPARK", "PLAYBACK_START"})  # needed while calls are or may be parked
ENDS = frozenset({"CHANNEL_UNPARK", "CHANNEL_DESTROY"})
# 440 + 480 Hz, two seconds of six. The scoped variable keeps a caller's `*` from ending what he hears.
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
_STATE = f"${{variable_{MARK}}} ${{Caller-Profile-Index}} ${{Channel-State}}"

Send = Callable[[Sequence[Command]], None]


class ParkedCalls:
    """Follows the calls that were parked by us."""

    def __init__(self, send: Send, choices: Callable[[], Choices]) -> None:
        self._send = send
        self._choices = choices
        self._lock = threading.Lock()
        self._parked: dict[str, float] = {}  # uuid: time.monotonic() of the last sign that it is parked
        self._expected: dict[str, float] = {}  # uuid: time.monotonic() by which its CHANNEL_PARK should have come
        self._playing: dict[str, str] = {}  # uuid: the stream that was started on it
        self._gone: dict[str, tuple[float, int, str]] = {}  # uuid: when it left (clock, Event-Sequence), its stream
        self._ask: deque[tuple[str, bool]] = deque()  # channels to ask about; True: it may be without audio
        self._asking = 0
        self._review_at = 0.0
        self._looks: list[float] = []  # time.monotonic() at which to list the channels again
        self._music = ""  # FreeSWITCH's global hold_music
        self._told_music = False
        self.total = 0

    @property
    def now(self) -> int:
        """Calls parked at this moment."""
        return len(self._parked)

    @property
    def watching(self) -> bool:
        """True while events of parked calls are needed although park mode is off."""
        return bool(self._parked or self._expected)

    # -- what happens to calls

    def expect(self, uuid: str) -> None:
        """FreeSWITCH was told to park this call."""
        with self._lock:
            if uuid and len(self._expected) < EXPECTING:
                self._expected[uuid] = time.monotonic() + EXPECTED

    def event(self, name: str, event: RawEvent) -> None:
        """An event came. Never raises: this runs on the thread that all events pass."""
        if name in ENDS:
            if not (self.watching or _MARKED in event.data):  # the mark may have been taken off a call that is parked
                return
        elif name not in EVENTS or _MARKED not in event.data:
            return
        headers = event.headers
        try:
            uuid, sequence = str(headers["Unique-ID"]), int(headers["Event-Sequence"])
        except (ValueError, KeyError, TypeError):
            return
        if name in ENDS:
            self._left(uuid, sequence)
        elif name == "PLAYBACK_START":
            self._started(uuid, sequence, headers.get("Playback-File-Path"))
        elif headers.get(f"variable_{MARK}") == headers.get("Caller-Profile-Index") is not None:
            self._came(uuid, sequence, headers)

    def _came(self, uuid: str, sequence: int, headers: Mapping[str, Any]) -> None:
        with self._lock:
            self._expected.pop(uuid, None)
            left = self._gone.get(uuid)
            stays = left is None or left[1] < sequence
            if uuid not in self._parked:
                self.total += 1
            if stays:
                self._gone.pop(uuid, None)
                self._parked[uuid] = time.monotonic()
        if stays:
            self._play(uuid, str(headers.get(f"variable_{DEFAULT_MUSIC}", "")))

    def _left(self, uuid: str, sequence: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._parked.pop(uuid, None)
            self._expected.pop(uuid, None)
            self._gone.pop(uuid, None)
            while self._gone:
                first = next(iter(self._gone))
                if len(self._gone) < GONE and now - self._gone[first][0] < GONE_FOR:
                    break
                del self._gone[first]
            self._gone[uuid] = (now, sequence, self._playing.pop(uuid, ""))

    def _started(self, uuid: str, sequence: int, path: object) -> None:
        with self._lock:
            left = self._gone.get(uuid)
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
            stream = " ".join((own_music or self._music).split())
            if not stream:
                stream = RINGBACK
                if not self._told_music:
                    self._told_music = True
                    log.warning("parked callers hear ringback, not music: FreeSWITCH's variable hold_music is not set")
        if stream in SILENT:
            return
        with self._lock:
            if uuid in self._parked:
                self._playing[uuid] = stream
        text = (
            f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: playback\n"
            f"execute-app-arg: {UNBREAKABLE}{stream}\nloops: -1\n\n"
        )
        self._send([Command(text, "sendmsg", _ignore, _ignore, (uuid,))])  # a call that has gone needs no audio

    def _break(self, uuid: str) -> None:
        self._send([Command(f"api uuid_break {uuid}\n\n", "uuid_break", _ignore, _ignore, (uuid,))])

    def _learn_music(self, then: Callable[[], None]) -> None:
        """Ask for the global hold_music. Asked once a call it could come after whoever sends the call on."""

        def done(answer: str) -> None:
            self._music = "" if answer.startswith("-ERR") else answer.strip()
            then()

        self._send([Command(f"api global_getvar {DEFAULT_MUSIC}\n\n", "global_getvar", done, log.debug)])

    def audio_changed(self) -> None:
        """Let the calls parked now hear what was chosen now."""
        self._told_music = False
        self._learn_music(self._play_all)

    def _play_all(self) -> None:
        with self._lock:
            calls = list(self._parked)
        for uuid in calls:
            # Both go on one connection in this order: the old stream stops within 25 ms, then the new one starts.
            self._break(uuid)
            self._play(uuid)

    # -- what FreeSWITCH says of them

    def resynchronise(self) -> None:
        """A link is up: find out which calls are parked by us."""
        with self._lock:
            self._asking = 0
            self._ask = deque((uuid, False) for uuid in self._parked)
            self._looks = [time.monotonic() + seconds for seconds in AGAIN]
        self._learn_music(self._pump)
        self._look()

    def _look(self) -> None:
        self._send([Command("api show channels as json\n\n", "show", self._channels, log.debug, slow=True)])

    def _channels(self, answer: str) -> None:
        try:
            rows = json.loads(answer).get("rows", [])
            found = [
                (str(row["uuid"]), row["application"] == "park")
                for row in rows
                if row["direction"] == "inbound" and row["state"] == "CS_EXECUTE"
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            log.debug("show channels: %.200s", answer)
            return
        with self._lock:
            self._ask.extend(found)
        self._pump()

    def tick(self) -> None:
        """Now and then, by the thread of dialplan control: doubts are settled by asking."""
        now = time.monotonic()
        with self._lock:
            for uuid, by in list(self._expected.items()):
                if by > now:
                    break
                del self._expected[uuid]
                self._ask.append((uuid, True))
            look = bool(self._looks) and now >= self._looks[0]
            if look:
                del self._looks[0]
            review = now >= self._review_at
            if review:
                self._review_at = now + REVIEW
                for uuid, since in list(self._parked.items())[:REVIEWED]:
                    if now - since < REVIEW:
                        break
                    self._ask.append((uuid, False))
            choices = self._choices()
        if review and choices.audio == "music" and not choices.music_class:
            self._learn_music(_nothing)
        if look:
            self._look()
        self._pump()

    def _pump(self) -> None:
        """Ask about the next channels."""
        commands = []
        with self._lock:
            while self._ask and self._asking < ASKING:
                uuid, silent = self._ask.popleft()
                self._asking += 1
                commands.append(self._question(uuid, silent))
        if commands:
            self._send(commands)

    def _question(self, uuid: str, silent: bool) -> Command:
        asked = time.monotonic()

        def done(answer: str) -> None:
            self._answered()
            # eval fills in the headers of the channel's CHANNEL_DATA event; those of no channel are empty.
            mark, _, rest = answer.strip().partition(" ")
            index, _, state = rest.partition(" ")
            parked = bool(mark) and mark == index and state == "CS_EXECUTE"
            with self._lock:
                known = uuid in self._parked
                left = self._gone.get(uuid)
                if not parked or (left is not None and left[0] >= asked):
                    if known and self._parked[uuid] <= asked:
                        del self._parked[uuid]
                        self._playing.pop(uuid, None)
                    parked = False
                else:
                    self._parked.pop(uuid, None)
                    self._parked[uuid] = time.monotonic()
                    self._expected.pop(uuid, None)
                    self.total += not known
            if parked and not known and silent:
                self._play(uuid)
            self._pump()

        def failed(_: str) -> None:
            self._answered()

        return Command(f"api eval uuid:{uuid} {_STATE}\n\n", "eval", done, failed, (uuid,))

    def _answered(self) -> None:
        with self._lock:
            self._asking = max(0, self._asking - 1)


def _ignore(_: str) -> None:
    pass


def _nothing() -> None:
    pass
