"""What leaves for FreeSWITCH, looked at as FreeSWITCH would read it: each text is exactly one command."""

from __future__ import annotations

import re

from event_agent.freeswitch.command import Command
from tests.switchsim.framing import Command as Frame
from tests.switchsim.framing import Framer

# A channel's name in a command: one word, in which FreeSWITCH finds nothing to expand, to split or to unescape.
UUID = re.compile(r"[^\s\0-\x20\x7f$'\"`\\{}\[\]()<>,;|&^]{1,255}\Z")
_VERBS = ("api ", "bgapi ", "sendmsg ", "sendevent ")
_HEADERS = frozenset((
    "call-command", "execute-app-name", "execute-app-arg", "loops", "content-type", "content-length", "event-uuid",
    "event-lock", "hangup-cause", "job-uuid",
))  # fmt: skip


def one_frame(command: Command) -> Frame:
    """What FreeSWITCH's parser makes of a command. AssertionError if that is not one command of a kind that we send."""
    data = command.text.encode()
    framer = Framer()
    frames = list(framer.feed(data))
    assert len(frames) == 1 and not framer.partial, f"not exactly one command: {data!r}"
    (frame,) = frames
    assert frame.line.startswith(_VERBS), data
    names = [name.lower() for name, _ in frame.headers]
    if frame.line.startswith("sendevent "):  # the client's own headers
        assert len(set(names)) == len(names) and not {"event-name", "event-uuid", "core-uuid"} & set(names), data
    else:
        assert set(names) <= _HEADERS, data
    assert frame.body is not None or data.endswith(b"\n\n"), data
    return frame


def of_our_own(command: Command) -> Frame:
    """The same for a command that no client asked for: nothing of it may be expanded, or name more than a channel."""
    frame = one_frame(command)
    words = frame.line.split(" ")
    if words[0] == "sendmsg":
        assert len(words) == 2 and UUID.match(words[1]), frame
    elif words[1].startswith("uuid_"):
        assert UUID.match(words[2]), frame
    assert "$" not in command.text, frame
    assert frame.body is None or frame.body.isprintable(), frame
    for key in command.keys:
        assert UUID.match(key), key
    return frame
