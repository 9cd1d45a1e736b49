"""The text of `originate` read as FreeSWITCH reads it, to know beforehand what it would make of it.

What a client gives is a dial string of FreeSWITCH's own: blocks of variables, alternatives, groups, quotes and escapes.
FreeSWITCH cuts, joins and unescapes it several times over, and where it can't read it on it goes on with what it has
got. Here the same is done step by step, and what FreeSWITCH would misread is refused.

Source, all of FreeSWITCH 1.10.12: mod_commands.c, originate_function; switch_ivr_originate.c, switch_ivr_originate;
switch_event.c, switch_event_create_brackets; switch_utils.c, switch_separate_string and what it calls. Held against a
real one by tests/functional/test_dial_strings.py. Pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PARTS = 128  # alternatives, or legs of one group: the last one swallows what is beyond (MAX_PEERS)
MAX_VARIABLES = 1024  # variables of one block: the same

_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}
_QUOTED_COMMA, _BARE_COMMA = "\1", "\2"  # what commas in [] are while the legs are cut
_ONE_LEG = re.compile(r"[^\\'\[\]{}<>|,^ \0-\x1f]+\Z")
_BLANKS = re.compile(" +")
_NUMBER = re.compile(r"[-+]?[0-9.]+\Z", re.ASCII)
_TRUE = frozenset(("yes", "on", "true", "t", "enabled", "active", "allow"))

Pairs = list[tuple[str, str]]


class Misread(ValueError):
    """FreeSWITCH would read this text in another way than it looks. The message says what is wrong with it."""


@dataclass(slots=True)
class Leg:
    """One endpoint, `loopback/9000`, and the variables of the blocks in square brackets before it."""

    target: str
    variables: Pairs

    @property
    def kind(self) -> str:
        """`loopback`, `sofia`, `user` …, in lower case."""
        return self.target.partition("/")[0].lower()


@dataclass(slots=True)
class Dial:
    """A dial string: variables for all legs, and alternatives, each of which is a group of legs called together."""

    variables: Pairs
    alternatives: list[list[Leg]]

    @property
    def legs(self) -> list[Leg]:
        """All legs."""
        return [leg for group in self.alternatives for leg in group]

    def pairs(self) -> Pairs:
        """All variables, wherever they stand."""
        return self.variables + [pair for leg in self.legs for pair in leg.variables]


def arguments(text: str, most: int = 10) -> list[str]:
    """The arguments of an API verb. Raises Misread."""
    return _separate(text, " ", most)


def read(text: str) -> Dial:
    """An endpoint, as a client writes it into a command. Raises Misread."""
    if _ONE_LEG.match(text):
        return Dial([], [[Leg(text, [])]])
    words = arguments(f"{text} x")
    if len(words) != 2 or words[1] != "x":
        raise Misread("quotes that are not closed, or a backslash at its end")
    return _dial(words[0])


def first_leg(text: str) -> int:
    """Where the first leg of an endpoint begins, behind the blocks of variables for all. Raises Misread.

    As the client wrote it: quotes and escapes around brackets protect nothing, so these stand where they stand.
    """
    at = 0
    for opening, closing in ("<>", "{}"):
        while text.startswith(opening, at):
            at += _closing(text[at:], opening, closing) + 1
    return at


def true(text: str) -> bool:
    """What FreeSWITCH takes for true (switch_utils.h, switch_true)."""
    if _NUMBER.match(text):
        return number(text) != 0
    return text.lower() in _TRUE


def number(text: str) -> int:
    """The number that a text begins with, 0 if there is none: C's atoi."""
    digits = re.match(r"\s*[-+]?\d+", text, re.ASCII)
    return int(digits[0].strip()[:12]) if digits else 0


def _dial(text: str) -> Dial:
    variables: Pairs = []
    text = text.lstrip(" ")
    for opening, closing in ("<>", "{}"):
        while text.startswith(opening):
            found, text = _block(text, opening, closing, ",")
            variables += found
    alternatives = []
    for choice in _parts(text.lstrip(" "), "|"):
        legs = []
        for each in _parts(_with_marked_commas(choice), ","):
            each = each.lstrip(" ")
            own: Pairs = []
            while each.startswith("["):
                end = _closing(each, "[", "]")
                each = each[:end].replace(_QUOTED_COMMA, ",") + each[end:]
                found, each = _block(each, "[", "]", _BARE_COMMA)
                own += found
            legs.append(Leg(each.lstrip(" "), own))
        alternatives.append(legs)
    return Dial(variables, alternatives)


def _parts(text: str, delimiter: str) -> list[str]:
    found = _separate(text, delimiter, MAX_PARTS + 1)
    if len(found) > MAX_PARTS:
        raise Misread(f"more than {MAX_PARTS} parts between '{delimiter}'")
    return found


def _with_marked_commas(text: str) -> str:
    """Commas within `[…]` are hidden while the legs are cut (switch_ivr_originate)."""
    if "[" not in text:
        return text
    ends = _ends(text)
    result: list[str] = []
    end = -1
    quoted = other = False
    for at, char in enumerate(text):
        if end < 0 and char == "[":
            end = ends.get(at, -1)
            other = text[at + 1 : at + 3] == "^^"
            quoted = False
        if char == "'":
            quoted = not quoted
        if at < end and char == "," and text[at - 1] != "\\":
            result.append(_QUOTED_COMMA if quoted or other else _BARE_COMMA)
        else:
            result.append(char)
        if at == end:
            end = -1
    return "".join(result)


def _ends(text: str) -> dict[int, int]:
    """Where each `[` that is closed is closed (switch_find_end_paren, for all of them at once)."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for at, char in enumerate(text):
        if char == "[":
            opened.append(at)
        elif char == "]" and opened:
            found[opened.pop()] = at
    return found


def _closing(text: str, opening: str, closing: str) -> int:
    """Where the bracket that `text` begins with is closed. Raises Misread."""
    depth = 0
    for at, char in enumerate(text):
        if char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if not depth:
                return at
    raise Misread(f"a '{opening}' that is not closed")


def _block(text: str, opening: str, closing: str, delimiter: str) -> tuple[Pairs, str]:
    """The variables of the block that `text` begins with, and what stands behind it."""
    end = _closing(text, opening, closing)
    inner, rest = text[1:end], text[end + 1 :]
    following = rest.lstrip(" ")
    if not following:
        raise Misread("nothing to call")
    if following.startswith(opening) and following[1:].lstrip(" ").startswith(opening):
        raise Misread(f"two '{opening}' one after the other")
    if inner.startswith("^^"):
        if len(inner) < 3:
            raise Misread("^^ without a character behind it")
        delimiter, inner = inner[2], inner[3:]
    pairs: Pairs = []
    found = _separate(inner, delimiter, MAX_VARIABLES + 1)
    if len(found) > MAX_VARIABLES:
        raise Misread(f"more than {MAX_VARIABLES} variables in one block")
    for each in found:
        pair = _separate(each, "=", 2)
        if len(pair) == 2:
            pairs.append((pair[0], pair[1]))
    return pairs, rest


def _separate(text: str, delimiter: str, most: int) -> list[str]:
    """switch_separate_string: at most `most` parts, the last of which is all that is left."""
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    if "\\" not in text and "'" not in text:
        return _plain(text, delimiter, most)
    blanks = delimiter == " "
    parts: list[str] = []
    start = at = 0
    quoted = False
    while at < len(text):
        if len(parts) == most - 1:
            at = len(text)
            break
        char = text[at]
        if char == "\\":
            at += 1
            if at == len(text):
                raise Misread("a backslash at the end of a part")
        elif char == "'" and (blanks or quoted or text.find("'", at + 1) > 0):
            quoted = not quoted
        elif char == delimiter and not quoted and not (blanks and at == start):
            parts.append(text[start:at])
            if blanks:
                while text[at + 1 : at + 2] == " ":
                    at += 1
            start = at + 1
        elif blanks and char == " " and at == start:
            start += 1
        at += 1
    if start < len(text):
        parts.append(text[start:])
    unescape = "" if blanks else delimiter
    return [_cleaned(part, unescape) for part in parts]


def _plain(text: str, delimiter: str, most: int) -> list[str]:
    """The same for a text without quotes and escapes."""
    if delimiter == " ":
        text = text.strip(" ")
        return _BLANKS.split(text, most - 1) if text else []
    parts = [part.strip(" ") for part in text.split(delimiter, most - 1)]
    if text.endswith(delimiter) and len(parts) > 1 and not parts[-1]:
        parts.pop()  # nothing begins behind the last one
    return parts if text else []


def _cleaned(text: str, delimiter: str) -> str:
    """cleanup_separated_string: blanks at both ends, quotes and one level of escapes are gone."""
    text = text.lstrip(" ")
    result: list[str] = []
    kept = -1  # how much is kept when the blanks at the end go; -1 while there was nothing else
    quoted = False
    at, last = 0, len(text)
    while at < last:
        char = text[at]
        if char == "\\" and at + 1 < last:
            following = text[at + 1]
            unescaped = following if following in "'\"\\" or following == delimiter else _ESCAPED.get(following)
            if unescaped is not None:
                result.append(unescaped)
                kept = len(result)
                at += 2
                continue
        if char == "'" and (quoted or text.find("'", at + 1) > 0):
            quoted = not quoted
            if quoted:
                kept = len(result)
        else:
            result.append(char)
            if char != " " or quoted:
                kept = len(result)
        at += 1
    return "".join(result[:kept] if kept >= 0 else result)
