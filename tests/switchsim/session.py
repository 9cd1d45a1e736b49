"""The event-socket protocol of one connection: bytes in, bytes out, no sockets.

One session belongs to one connection and is used by that connection's thread alone; API verbs run in it, so a slow
one holds up this connection's later commands and its events, and nothing else. Texts of the replies, oddities
included, are those of FreeSWITCH's mod_event_socket 1.10.12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from uuid import uuid4

from .bus import Source
from .channel import Channel
from .events import Event, Headers, header_value, to_bytes
from .framing import Command, Framer, FramingError
from .names import NAMED_LOG_LEVELS, event_name
from .subscription import Subscription
from .switch import Switch

GREETING: Final = b"Content-Type: auth/request\n\n"
FLUSH: Final = b""
"""Among the answers: send what there is now, what follows may take its time."""

_FAREWELL: Final = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_OVERRUN: Final = b"killed listener because of lost events\n"
_REJECTION: Final = b"Access Denied, go away.\n"

_BACKGROUND_JOB: Final = Source("mod_event_socket.c", "api_exec", 1572)
_SENDEVENT: Final = Source("mod_event_socket.c", "parse_command", 2275)
_NO_KEYWORDS: Final = "-ERR no keywords supplied"
_UNKNOWN: Final = "-ERR command not found"



def notice(message: bytes) -> bytes:
    return b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n%s" % (len(message), message)


def rejection() -> bytes:
    """What a peer gets that the ACL does not let in."""
    return b"Content-Type: text/rude-rejection\nContent-Length: %d\n\n%s" % (len(_REJECTION), _REJECTION) + notice(
        _FAREWELL
    )


class Session:
    """What mod_event_socket keeps of a connection."""

    def __init__(self, switch: Switch, password: str, queue_bound: int) -> None:
        self.switch = switch
        self.subscription = Subscription(queue_bound)
        self.authenticated = False
        self.closed = False
        """Nothing is read any more; `farewell` is the last that is sent."""
        self._password = password
        self.framer = Framer()
        self._logging = False
        self._channel: Channel | None = None

    # --- what the connection's thread asks for -----------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Executes the commands the bytes complete; yields their answers, and FLUSH before one that may last."""
        try:
            for command in self.framer.feed(data):
                yield from self._handle(command)
                if self.closed:
                    return
        except FramingError:
            self.closed = True

    def events(self) -> bytes:
        """The events that wait, unless a command has begun to arrive."""
        if self.subscription.overrun:
            self.closed = True
            return notice(_OVERRUN)
        if self.framer.partial or not self.authenticated:
            return b""
        form = self.subscription.format
        return b"".join([event.framed(form) for event in self.subscription.take()])

    def farewell(self) -> bytes:
        return notice(_FAREWELL)

    # --- commands ----------------------------------------------------------------------------------------------

    def _handle(self, command: Command) -> Iterator[bytes]:
        line = command.line
        lowered = line[:16].lower()
        if self.authenticated and lowered.startswith("api "):
            verb, _, argument = line[4:].partition(" ")
            if self.switch.may_take_time(verb):
                yield FLUSH
            output = self.switch.execute(verb, argument).output or "-ERR no reply\n"
            raw = to_bytes(output)
            yield b"Content-Type: api/response\nContent-Length: %d\n\n%s" % (len(raw), raw)
            self.switch.answered()
        elif self.authenticated and lowered.startswith("bgapi "):
            yield self._bgapi(command)
        else:
            reply = self._reply(command, lowered) or _UNKNOWN
            yield b"Content-Type: command/reply\nReply-Text: %s\n\n" % to_bytes(reply)

    def _reply(self, command: Command, lowered: str) -> str:
        """The Reply-Text of a command; commands are told apart by how their line begins, as FreeSWITCH does it."""
        if lowered.startswith(("exit", "...")):
            self.closed = True
            return "+OK bye"
        if not self.authenticated:
            return self._auth(command.line) if lowered.startswith("auth ") else ""
        for beginning, handler in _HANDLERS:
            if lowered.startswith(beginning):
                return handler(self, command)
        return ""

    def _auth(self, line: str) -> str:
        if line[len("auth ") :] == self._password:
            self.authenticated = True
            return "+OK accepted"
        self.closed = True
        return "-ERR invalid"

    def _bgapi(self, command: Command) -> bytes:
        verb, _, argument = command.line[len("bgapi ") :].partition(" ")
        job = command.get("Job-UUID") or str(uuid4())
        owner = self._channel.uuid if self._channel else ""
        self.switch.start_job(verb, argument, job, owner, _BACKGROUND_JOB)
        return b"Content-Type: command/reply\nReply-Text: +OK Job-UUID: %s\nJob-UUID: %s\n\n" % (
            to_bytes(job),
            to_bytes(job),
        )

    # --- events ------------------------------------------------------------------------------------------------

    def _event(self, command: Command) -> str:
        words = _words(command.line)
        if not self.subscription.add(words):
            return _NO_KEYWORDS
        return f"+OK event listener enabled {self.subscription.format}"

    def _nixevent(self, command: Command) -> str:
        return "+OK events nixed" if self.subscription.nix(_words(command.line)) else _NO_KEYWORDS

    def _noevents(self, command: Command) -> str:
        if self.subscription.clear():
            return "+OK no longer listening for events"
        return "-ERR not listening for events"

    def _filter(self, command: Command) -> str:
        header, blank, value = command.line[len("filter ") :].lstrip(" ").partition(" ")
        if header.lower() == "delete" and blank:
            header, _, value = value.partition(" ")
            self.subscription.delete_filter(header, value or None)
            return f"+OK filter deleted. [{header}][{value}]"
        if not blank:
            return "-ERR invalid syntax"
        if header.lower() == "add":
            header, blank, value = value.partition(" ")
        self.subscription.add_filter(header, value)
        return f"+OK filter added. [{header}]=[{value if blank else '(null)'}]"

    def _myevents(self, command: Command) -> str:
        uuid, _, form = command.line[len("myevents ") :].partition(" ")
        if self._channel is None:
            self._channel = self.switch.calls.find(uuid)
            if self._channel is None:
                return "-ERR invalid uuid" if form else ""
        if not self.subscription.only_mine():
            return "-ERR aready enabled."
        self.subscription.uuid = self._channel.uuid
        if form.lower() in ("plain", "json", "xml"):
            self.subscription.format = form.lower()
        return "+OK Events Enabled"

    def _divert_events(self, command: Command) -> str:
        if self._channel is None:
            return "-ERR not controlling a session."
        wanted = command.line[len("divert_events") :].strip(" ")
        if not wanted:
            return "-ERR missing value."
        return "+OK events diverted" if wanted.lower() == "on" else "+OK events not diverted"

    def _sendevent(self, command: Command) -> str:
        """Fires an event of the client's making: its headers, then those the switch gives every event."""
        uuid = str(uuid4())
        name = event_name(command.line[len("sendevent") :].strip("\t ")) or "CLONE"
        stamp = self.switch.bus.stamp()
        if self.switch.bus.wanted(name):
            base = self.switch.bus.base_headers(name, _SENDEVENT, stamp)
            self.switch.bus.deliver(Event(name, [*_sent_headers(command, name, uuid), *base], command.body))
        return f"+OK {uuid}"

    # --- a channel's own ---------------------------------------------------------------------------------------

    def _sendmsg(self, command: Command) -> str:
        uuid = command.line[len("sendmsg") :].strip(" ") or command.get("session-id") or ""
        channel = self.switch.calls.find(uuid) if uuid else self._channel
        if channel is None:
            return f"-ERR invalid session id [{uuid}]"
        headers: Headers = [("Command", command.line)]
        headers += [(name, header_value(value)) for name, value in command.headers]
        self.switch.execution.private_command(channel, headers, command.body)
        return "+OK"

    def _linger(self, command: Command) -> str:
        if self._channel is None:
            return "-ERR not controlling a session"
        seconds = re.match(r"linger (\d+)", command.line)
        return f"+OK will linger {seconds[1]} seconds" if seconds else "+OK will linger"

    def _nolinger(self, command: Command) -> str:
        return "+OK will not linger" if self._channel else "-ERR not controlling a session"

    # --- logging -----------------------------------------------------------------------------------------------

    def _log(self, command: Command) -> str:
        level = command.line[len("log") :].lstrip(" ").partition(" ")[0]
        if level.isdigit():
            number = int(level)
        elif not level:
            number = NAMED_LOG_LEVELS.index("debug")
        elif level.lower() in NAMED_LOG_LEVELS:
            number = NAMED_LOG_LEVELS.index(level.lower())
        else:
            return "-ERR invalid log level"
        self._logging = True
        return f"+OK log level {level} [{number}]"

    def _nolog(self, command: Command) -> str:
        was, self._logging = self._logging, False
        return "+OK no longer logging" if was else "-ERR not loging"


def _words(line: str) -> list[str]:
    return [word for word in line.split(" ")[1:] if word]


def _sent_headers(command: Command, name: str, uuid: str) -> Headers:
    headers: Headers = [("Command", command.line)]
    headers += [(key, header_value(value)) for key, value in command.headers]
    headers.append(("Event-UUID", uuid))
    if name == "CUSTOM":  # FreeSWITCH takes the subclass out and puts it first
        subclass = [(key, value) for key, value in headers if key.lower() == "event-subclass"]
        rest = [(key, value) for key, value in headers if key.lower() != "event-subclass"]
        headers = [("Event-Subclass", value) for _, value in subclass[:1]] + rest
    return headers


_HANDLERS: Final[tuple[tuple[str, Callable[[Session, Command], str]], ...]] = (
    ("filter ", Session._filter),
    ("myevents ", Session._myevents),
    ("divert_events", Session._divert_events),
    ("sendmsg", Session._sendmsg),
    ("sendevent", Session._sendevent),
    ("log", Session._log),
    ("linger", Session._linger),
    ("nolinger", Session._nolinger),
    ("nolog", Session._nolog),
    ("event", Session._event),
    ("nixevent", Session._nixevent),
    ("noevents", Session._noevents),
)
