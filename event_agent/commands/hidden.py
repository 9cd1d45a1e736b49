"""How a verb or an application can hide in text, and how it is found: FreeSWITCH's own ways of reading, followed.

Pure functions for `guards.py`. Sources are named where they are followed; all are of FreeSWITCH 1.10.12. Everything
here costs no more than the text is long: nothing is searched again for each place where a search may begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from event_agent.errors import CommandError

BLANKS = "\r\n\t \v"  # what is taken off a verb and its arguments (switch_utils.c, switch_strip_whitespace)
MAX_EXPANSIONS = 64  # `${…}` in one text
MAX_BRACKETS = 1024  # braces, and parentheses, in a text with `${…}`
FLAT = re.compile(r"\$?\$\{[^{}]*\}")  # `${…}` without another brace in it
_MARKED = re.compile(r"[\\'\"%$^]")  # a text without any of these is read as it stands
_ENCODED = re.compile("%[0-9a-f][0-9a-f]")
# Letters, digits and _ in lower case as they are, all else a blank: names stand between blanks then.
_LETTERS = bytes(each if chr(each) in "abcdefghijklmnopqrstuvwxyz0123456789_" else ord(" ") for each in range(256))
_BRACE = re.compile(r"[{}]")
_BRACKET = re.compile(r"[()]")
_ENDS_NAME = re.compile(r"[ (]")
_PUT_TOGETHER = "$$${"
# An argument as FreeSWITCH cuts it off at a blank: switch_utils.c, separate_string_blank_delim.
_ARGUMENT = re.compile(r"(?:[^ \\']|\\.?|'(?:[^'\\]|\\.)*(?:'|\\?\Z))+", re.DOTALL)


class Text:
    """A text, and whatever FreeSWITCH may read in it, in lower case."""

    __slots__ = ("text", "marked", "readings", "_names")

    def __init__(self, text: str) -> None:
        self.text = text
        self.marked = _MARKED.search(text) is not None
        self.readings = _readings(text.lower()) if self.marked else (text.lower(),)
        self._names: tuple[str, ...] | None = None

    def holds(self, what: str) -> bool:
        """True if `what`, in lower case, stands in it, however it is read."""
        for reading in self.readings:
            if what in reading:
                return True
        return False

    def hints(self, hints: Iterable[str]) -> bool:
        """True if one of `hints`, in lower case, stands in it, however it is read."""
        for reading in self.readings:
            for hint in hints:
                if hint in reading:
                    return True
        return False

    def word(self, words: Iterable[str]) -> str | None:
        """The first of `words`, made by as_words, that stands in it as a word of its own, however it is read."""
        if self._names is None:
            self._names = tuple(_words_of(each) for each in self.readings)
        for word in words:
            for names in self._names:
                if word in names:
                    return word
        return None

    def finds(self, pattern: re.Pattern[str]) -> bool:
        """True if `pattern`, which has to be linear, is found in it, however it is read."""
        return any(pattern.search(each) for each in self.readings)

    def as_written(self, found: str) -> str:
        """A word found in it, for a message: in the case in which it stands there."""
        word = found.strip()
        at = self.text.lower().find(word)
        return self.text[at : at + len(word)] if at >= 0 else word


def as_words(names: Iterable[str]) -> tuple[str, ...]:
    """Names, in lower case and of letters, digits and _, made ready for Text.word."""
    return tuple(f" {each} " for each in sorted(names))


def _words_of(reading: str) -> str:
    return f" {reading.encode('utf-8', 'surrogatepass').translate(_LETTERS).decode('ascii')} "


def _readings(plain: str) -> tuple[str, ...]:
    """As it stands, and as it may be read later.

    - Quotes and backslashes taken away, so `sy''stem` is `system`; some texts pass switch_utils.c,
      cleanup_separated_string, once and others three times.
    - `%73` decoded: mod_commands.c, uuid_record's variables; mod_dptools.c, those of record_session, and chat to api.
    - `${…}` taken away, for a variable may be empty: `glo${z}bal` is `global`.
    """
    found = [plain, *_unquoted(plain)]
    if "%" in plain and _ENCODED.search(found[-1]):
        for each in found[1:]:
            decoded = unquote_to_bytes(each.encode("utf-8", "surrogatepass")).decode("latin-1").lower()
            found += [decoded, *_unquoted(decoded)]
    found = list(dict.fromkeys(found))
    if "${" in found[-1] or any("${" in each for each in found):
        found += [FLAT.sub("", each) for each in found]
        found = list(dict.fromkeys(found))
    return tuple(found)


def _unquoted(text: str) -> tuple[str, ...]:
    """Without quotes and backslashes: their escapes blanks, and their escapes letters."""
    if "\\" not in text:
        return (text.replace("'", "").replace('"', ""),)
    blank = text
    for escape in (r"\n", r"\r", r"\s", r"\t"):
        blank = blank.replace(escape, " ")
    return tuple(each.replace("\\", "").replace("'", "").replace('"', "") for each in (blank, text))


def arguments(text: str) -> list[str]:
    """The arguments of a verb or an application that takes several, in lower case, without their quotes."""
    lower = text.strip(BLANKS).lower()
    if "'" not in lower and "\\" not in lower:
        return [each for each in lower.split(" ") if each]
    return [_unquoted(each)[-1] for each in _ARGUMENT.findall(lower)]


def expansions(text: str) -> Iterator[tuple[str, str]]:
    """Verb and arguments of each `${verb(arguments)}` and `${verb arguments}`. Raises CommandError.

    FreeSWITCH runs these wherever it expands a text. Source: switch_event.c, switch_event_expand_headers_check.
    """
    if "$" not in text:
        return
    for spelling in _spellings(text):
        at = spelling.find("${")
        if at < 0:
            continue
        if spelling.count("${") > MAX_EXPANSIONS or max(spelling.count("{"), spelling.count("(")) > MAX_BRACKETS:
            raise CommandError("${…} so many times is denied")
        if _PUT_TOGETHER in spelling:
            raise CommandError("$$${…} is denied: what it would run can't be seen")
        while at >= 0:
            inner = _until_closed(spelling, at + 2, _BRACE)
            if "${" in inner:
                raise CommandError("${…} within ${…} is denied: what it would run can't be seen")
            if spelling.startswith("}{", at + 2 + len(inner)):
                raise CommandError("${…}{…} is denied: what it would run can't be seen")
            # FreeSWITCH looks for the name's end from its first character; blanks before it are let through here,
            # where it would not find a verb.
            inner = inner.lstrip(BLANKS)
            end = _ENDS_NAME.search(inner)
            if end is not None:
                its_arguments = inner[end.end() :]
                if end[0] == " " and its_arguments.lstrip(" ").startswith("("):
                    its_arguments = its_arguments.lstrip(" ")[1:]
                yield inner[: end.start()].strip(BLANKS), _until_closed(its_arguments, 0, _BRACKET)
            at = spelling.find("${", at + 2)


def _spellings(text: str) -> Iterable[str]:
    """As it stands, and without quotes and backslashes; in its own case."""
    return dict.fromkeys((text, *_unquoted(text)))


def _until_closed(text: str, start: int, brackets: re.Pattern[str]) -> str:
    """From `start` to the bracket that closes one opened before it, or to the end."""
    depth = 1
    for match in brackets.finditer(text, start):
        depth += 1 if match[0] in "{(" else -1
        if depth == 0:
            return text[start : match.start()]
    return text[start:]
