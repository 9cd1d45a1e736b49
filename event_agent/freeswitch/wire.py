"""The text of the event socket's commands. It is made here and nowhere else, so it is checked here, wherever its parts
come from: a request, an event, a list of channels, a question of mod_xml_curl, an answer of FreeSWITCH.

A command is one line, or one line and headers, closed by an empty line; a body of a declared length may follow. So a
line break in a part would begin a second command (mod_event_socket.c, read_packet). And a command, headers included,
that has `mod_event_socket` and `unload` or `reload` anywhere in it is carried out as `unload mod_event_socket` or
`reload mod_event_socket`, whatever it says (parse_command). `Unfit` is raised for what can't be written; nothing is
changed or left out.

Pure functions; any thread may call them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from event_agent.errors import CommandError
from event_agent.protocol.validation import CHANNEL_CHARACTERS

PROBE = "filter delete event-agent-probe\n\n"  # answered at once, changes nothing, fires no event
NUDGE = "\n\n"  # no command: a connection that waits looks at its events at once
LONGEST_UUID = 255  # characters
_UUID = re.compile(f"[{CHANNEL_CHARACTERS}]{{1,{LONGEST_UUID}}}\\Z", re.ASCII)
_NO_WORD = re.compile(r"[\s\0]")
_SOCKET = "mod_event_socket"
_MEANT = frozenset(f"api {verb} {_SOCKET}\n\n" for verb in ("unload", "reload", "bgapi unload", "bgapi reload"))


class Unfit(CommandError):
    """A text that can't be part of a command."""


def is_uuid(text: object) -> bool:
    """True for a text that may stand for a channel in a command."""
    return isinstance(text, str) and _UUID.match(text) is not None and not _ends_the_socket(text)


def checked_uuid(text: str) -> str:
    """`text`, which must be a channel's uuid. Raises Unfit."""
    if not _UUID.match(text):
        raise Unfit("uuid must contain only letters, digits and _ . : @ + / = ~ # * ! % ? -")
    return text


def word(text: str) -> str:
    """`text`, which must be one word. Raises Unfit."""
    if not text or _NO_WORD.search(text):
        raise Unfit("a word of a command must not be empty, and must not contain white space or NUL")
    return text


def line(text: str) -> str:
    """A command of one line. Raises Unfit."""
    return _head(f"{_one_line(text)}\n\n")


def api(verb: str, args: str = "") -> str:
    """`api verb args`. Raises Unfit. Nearly every command passes here, so this is written out."""
    text = f"api {verb} {args}\n\n" if args else f"api {verb}\n\n"
    if text.find("\n") != len(text) - 2 or "\r" in text or "\0" in text:
        raise Unfit("a command must not contain line breaks or NUL")
    return _head(text) if _SOCKET in text.lower() else text


def bgapi(verb: str, args: str, job: str) -> str:
    """`bgapi verb args`, whose end is a BACKGROUND_JOB event with this Job-UUID. Raises Unfit."""
    return _head(f"{_one_line(f'bgapi {verb} {args}')}\nJob-UUID: {checked_uuid(job)}\n\n")


def execute(uuid: str, app: str, args: str = "", headers: Mapping[str, str] | None = None) -> str:
    """`sendmsg`: have a channel run a dialplan application. `args` may hold line breaks. Raises Unfit.

    `args` travel as a body: byte for byte, line breaks and blanks at both ends included. `headers` are further ones.
    """
    text = f"sendmsg {checked_uuid(uuid)}\ncall-command: execute\nexecute-app-name: {word(app)}\n"
    if headers:
        text += _headers(headers)
    _head(text)
    if args:
        return f"{text}content-type: text/plain\n{_body(args)}"
    return f"{text}\n"


def sendevent(name: str, headers: Mapping[str, str], body: str = "") -> str:
    """`sendevent`: have FreeSWITCH fire an event. Raises Unfit."""
    text = _head(f"sendevent {word(name)}\n{_headers(headers)}")
    return f"{text}{_body(body)}" if body else f"{text}\n"


def _head(text: str) -> str:
    """A command, its body aside. Raises Unfit for what FreeSWITCH takes for another command."""
    if _ends_the_socket(text):
        raise Unfit(f"a command can't hold {_SOCKET} with unload or reload: FreeSWITCH would end its event socket")
    return text


def _ends_the_socket(text: str) -> bool:
    lower = text.lower()
    return _SOCKET in lower and ("unload" in lower or "reload" in lower) and lower not in _MEANT


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text or "\0" in text:
        raise Unfit("a command must not contain line breaks or NUL")
    return text


def _headers(headers: Mapping[str, str]) -> str:
    for name in headers:
        if ":" in word(name) or name.lower() == "content-length":
            raise Unfit("a header of a command must not have a colon in its name, nor be content-length")
    return "".join(f"{name}: {_one_line(value)}\n" for name, value in headers.items())


def _body(text: str) -> str:
    if "\0" in text:
        raise Unfit("the body of a command must not contain NUL")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Unfit("the body of a command must not contain characters that UTF-8 does not have") from None
    return f"content-length: {size}\n\n{text}"
