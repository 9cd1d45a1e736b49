"""Verbs that run others: which ones a request's arguments name, read as FreeSWITCH reads them.

Pure functions for `guards.py`. Source: mod_commands.c and mod_dptools.c of FreeSWITCH 1.10.12, the functions of these
names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from event_agent.commands.hidden import BLANKS, Text, arguments, as_words
from event_agent.errors import CommandError

_API = as_words(["api"])
_READS = frozenset({"status", "mediastats", "channeldata", "sofia.status", "sofia.status.info"})  # JSON commands


@dataclass(slots=True)
class Inner:
    """What a verb runs: verbs and applications with their arguments, and texts in which names may stand anywhere."""

    verbs: list[tuple[str, str]] = field(default_factory=list)
    apps: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


VERBS = frozenset({
    "bgapi", "expand", "xml_wrap", "sched_api", "show", "json", "event_channel_broadcast", "chat",
})  # fmt: skip


def inner_commands(verb: str, args: str) -> Inner:
    """What `verb`, one of VERBS, runs. Raises CommandError if it can't be seen."""
    args = args.strip(BLANKS)
    match verb:
        case "bgapi" | "expand":
            return Inner([_split(args.partition(" ")[2] if args[:5].lower() == "uuid:" else args)])
        case "xml_wrap":
            return Inner([_split(args[8:] if args[:8].lower() == "encoded " else args)])
        case "sched_api":  # <time> <group> <verb> <arguments>&
            return Inner([_split(args.partition(" ")[2].partition(" ")[2].removesuffix("&"))])
        case "show":
            return Inner([(each, "") for each in arguments(args[:64])[:1] if each.startswith("status")])
        case "json":
            return _json_command(args)
        case "event_channel_broadcast":
            return Inner(texts=[text for pair in _pairs(args) for text in pair])
    refuse_chat_to_api(Text(args))
    return Inner()


def refuse_chat_to_api(text: Text) -> None:
    """A message to `api` runs a verb: its receiver, URL-encoded, or the name of a global variable that holds one."""
    if text.word(_API):
        raise CommandError("chat to api is denied: what it would run can't be seen")


def _split(text: str) -> tuple[str, str]:
    verb, _, args = text.partition(" ")
    return verb.strip(BLANKS), args


def _json_command(text: str) -> Inner:
    """What `json {"command":"fsapi","data":{"cmd":…,"arg":…}}` and its like run, wherever in the object that stands."""
    pairs = _pairs(text)
    told = dict(pairs)
    for key in ("command", "cmd", "app", "arg"):
        if sum(1 for each, _ in pairs if each == key) > 1:
            raise CommandError("json with several commands is denied")
    command, arg = told.get("command", "").lower(), told.get("arg", "")
    found = Inner()
    if "cmd" in told:
        found.verbs.append((told["cmd"].strip(BLANKS), arg))
    if "app" in told:
        found.apps.append((told["app"], arg))
    if not (command in _READS or (command == "fsapi" and found.verbs) or (command == "execute" and found.apps)):
        found.texts += [text for pair in pairs for text in pair]
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """The names, in lower case, and texts in a JSON document, as C reads them: up to a NUL. Raises CommandError."""
    found: list[tuple[str, object]] = []
    try:
        json.JSONDecoder(strict=False, object_pairs_hook=found.extend).decode(text)
    except (ValueError, RecursionError):
        raise CommandError("json is denied where its argument is not JSON") from None
    pairs: list[tuple[str, str]] = []
    while found:
        key, value = found.pop()
        if isinstance(value, str):
            pairs.append((key.partition("\0")[0].lower(), value.partition("\0")[0]))
        elif isinstance(value, list):
            found += [(key, each) for each in value]
    return pairs
