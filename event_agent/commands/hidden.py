"""How a verb or an application can hide in text, and how it is found: FreeSWITCH's own ways of reading, followed.

Pure functions for `guards.py`. Sources are named where they are followed; all are of FreeSWITCH 1.10.12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from event_agent.errors import CommandError

BLANKS = "\r\n\t \v"  # what is taken off a verb and its arguments (switch_utils.c, switch_strip_whitespace)
MAX_EXPANSIONS = 64  # `${…}` in one text
# The run's first backslash alone begins a match, so a long run costs its length and not the square of it.
_ESCAPE = re.compile(r"(?<!\\)\\+[nrst]")
_QUOTES = re.compile(r"[\\'\"]+")
_WORD = re.compile(r"\w+|\.\.\.")  # `...` is a verb: another name of shutdown
_BRACE = re.compile(r"[{}]")
_BRACKET = re.compile(r"[()]")
_ENDS_NAME = re.compile(r"[ (]")


def spellings(text: str) -> tuple[str, ...]:
    """`text` as it stands, and as it may be read once quotes and backslashes are taken away: `sy''stem` is `system`.

    Source: switch_utils.c, cleanup_separated_string, which some texts pass once and others three times.
    """
    if not _QUOTES.search(text):
        return (text,)
    return text, _QUOTES.sub("", _ESCAPE.sub(" ", text)), _QUOTES.sub("", text)


def words(text: str) -> Iterator[str]:
    """The words of a text, however it is quoted; in lower case, and some of them twice."""
    for spelling in spellings(text):
        yield from _WORD.findall(spelling.lower())


def expansions(text: str) -> Iterator[tuple[str, str]]:
    """Verb and arguments of each `${verb(arguments)}` and `${verb arguments}`. Raises CommandError.

    FreeSWITCH runs these wherever it expands a text. Source: switch_event.c, switch_event_expand_headers_check.
    """
    if "${" not in _QUOTES.sub("", text):
        return
    for spelling in spellings(text):
        if spelling.count("${") > MAX_EXPANSIONS:
            raise CommandError("${…} so many times is denied")
        at = spelling.find("${")
        while at >= 0:
            inner = _until_closed(spelling, at + 2, _BRACE)
            if "${" in inner:
                raise CommandError("${…} within ${…} is denied: what it would run can't be seen")
            # FreeSWITCH looks for the name's end from its first character; blanks before it are let through here,
            # where it would not find a verb.
            inner = inner.lstrip(BLANKS)
            end = _ENDS_NAME.search(inner)
            if end is not None:
                arguments = inner[end.end() :]
                if end[0] == " " and arguments.lstrip(" ").startswith("("):
                    arguments = arguments.lstrip(" ")[1:]
                yield inner[: end.start()].strip(BLANKS), _until_closed(arguments, 0, _BRACKET)
            at = spelling.find("${", at + 2)


def _until_closed(text: str, start: int, brackets: re.Pattern[str]) -> str:
    """From `start` to the bracket that closes one opened before it, or to the end."""
    depth = 1
    for match in brackets.finditer(text, start):
        depth += 1 if match[0] in "{(" else -1
        if depth == 0:
            return text[start : match.start()]
    return text[start:]


def inner_commands(verb: str, args: str) -> list[tuple[str, str]]:
    """Verb and arguments of each command that `verb`, in lower case, runs. Raises CommandError where it can't be seen.

    Source: mod_commands.c and mod_dptools.c, the functions of these names.
    """
    args = args.strip(BLANKS)
    match verb:
        case "bgapi":
            return [_split(args)]
        case "expand":
            if args[:5].lower() == "uuid:":
                args = args.partition(" ")[2]
            return [_split(args)]
        case "xml_wrap":
            return [_split(args[8:] if args[:8].lower() == "encoded " else args)]
        case "sched_api":  # <time> <group> <verb> <arguments>&
            return [_split(args.partition(" ")[2].partition(" ")[2].removesuffix("&"))]
        case "show":
            return [(each, "") for each in words(args[:64]) if each.startswith("status")]
        case "json":
            return _json_commands(args)
        case "chat" if "api" in words(args):
            # Its receiver is a verb, URL-encoded or the name of a global variable that holds one.
            raise CommandError("chat to api is denied: what it would run can't be seen")
    return []


def _split(text: str) -> tuple[str, str]:
    verb, _, args = text.partition(" ")
    return verb.strip(BLANKS), args


def _json_commands(text: str) -> list[tuple[str, str]]:
    """What `json {"command":"fsapi","data":{"cmd":…,"arg":…}}` runs, wherever in the object it stands."""
    found: list[tuple[str, object]] = []
    try:
        json.JSONDecoder(strict=False, object_pairs_hook=found.extend).decode(text)
    except (ValueError, RecursionError):
        raise CommandError("json is denied where its argument is not JSON") from None
    commands = [value for key, value in found if key.lower() == "cmd" and isinstance(value, str)]
    arguments = [value for key, value in found if key.lower() == "arg" and isinstance(value, str)]
    if len(commands) > 1 or len(arguments) > 1:
        raise CommandError("json with several commands is denied")
    return [(each.strip(BLANKS), arguments[0] if arguments else "") for each in commands]
