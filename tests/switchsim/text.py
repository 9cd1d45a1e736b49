r"""FreeSWITCH's own ways with text: splitting with quotes and escapes, `{…}` blocks, `${…}` expansion.

Pure functions. They follow FreeSWITCH step by step, oddities included, because a client's escaping is right only if
it comes through exactly these steps: `originate` splits three times (at blanks, at commas, at `=`), and each split
takes one level of `\` and `'` away.
"""

from __future__ import annotations

from collections.abc import Callable

_BLANKS = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


def _clean(piece: str, delimiter: str) -> str:
    """Takes one level of escapes and quotes away, and the blanks around (those quoted or escaped stay)."""
    text = piece.lstrip(" ")
    out: list[str] = []
    end = 0
    quoted = False
    at = 0
    while at < len(text):
        char = text[at]
        following = text[at + 1] if at + 1 < len(text) else ""
        if char == "\\" and following and (following in "'\"\\" or following == delimiter or following in _BLANKS):
            out.append(following if following == delimiter else _BLANKS.get(following, following))
            end = len(out)
            at += 2
            continue
        if char == "'" and (quoted or "'" in text[at + 1 :]):
            quoted = not quoted
            if quoted:
                end = len(out)
        else:
            out.append(char)
            if char != " " or quoted:
                end = len(out)
        at += 1
    return "".join(out[:end])


def separate(text: str, delimiter: str = " ", limit: int = 1024) -> list[str]:
    """Splits as FreeSWITCH does; the last of `limit` pieces holds all the rest. `^^:a:b` names another delimiter."""
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    pieces: list[str] = []
    start = at = 0
    quoted = False
    while at < len(text) and len(pieces) < limit - 1:
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if char == "'" and (quoted or delimiter == " " or "'" in text[at + 1 :]):
            quoted = not quoted
        elif char == delimiter and not quoted:
            if delimiter != " " or at > start:
                pieces.append(text[start:at])
            start = at + 1
        at += 1
    if start < len(text):
        pieces.append(text[start:])
    return [_clean(piece, "" if delimiter == " " else delimiter) for piece in pieces]


def end_of_block(text: str, opening: str, closing: str) -> int:
    """Where the block that opens the text ends (braces inside count), or -1."""
    depth = 0
    for at, char in enumerate(text):
        if char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if not depth:
                return at
    return -1


def variable_block(text: str, opening: str = "{", closing: str = "}") -> tuple[dict[str, str], str] | None:
    """Variables of the `{a=b,c=d}` blocks that open the text, and the rest; None for a block that never ends."""
    variables: dict[str, str] = {}
    rest = text.lstrip(" ")
    while rest.startswith(opening):
        end = end_of_block(rest, opening, closing)
        if end < 0:
            return None
        inner, delimiter = rest[1:end], ","
        if inner.startswith("^^") and len(inner) > 2:  # here, and once more in separate
            delimiter, inner = inner[2], inner[3:]
        for pair in separate(inner, delimiter):
            sides = separate(pair, "=", limit=2)
            if len(sides) == 2:
                variables.pop(sides[0], None)
                if sides[1]:
                    variables[sides[0]] = sides[1]
        rest = rest[end + 1 :].lstrip(" ")
    return variables, rest


def expand(text: str, variable: Callable[[str], str], api: Callable[[str, str], str], depth: int = 0) -> str:
    """Replaces `${name}`, `$${name}`, `${name:offset:length}` and `${verb(args)}`, from the inside out."""
    if "${" not in text or depth > 100:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        if text.startswith("\\$", at):
            out.append("$")
            at += 2
            continue
        opening = at + 1 if text.startswith("$$", at) else at
        if not text.startswith("${", opening):
            out.append(text[at])
            at += 1
            continue
        end = end_of_block(text[opening + 1 :], "{", "}")
        if end < 0:
            out.append(text[at:])
            break
        inner = expand(text[opening + 2 : opening + 1 + end], variable, api, depth + 1)
        out.append(_replacement(inner, variable, api))
        at = opening + 2 + end
    return "".join(out)


def _replacement(inner: str, variable: Callable[[str], str], api: Callable[[str, str], str]) -> str:
    for at, char in enumerate(inner):
        if char in " (":
            arguments = inner[at + 1 :]
            if char == "(":
                end = end_of_block(inner[at:], "(", ")")
                arguments = inner[at + 1 : at + end] if end > 0 else arguments
            return api(inner[:at], arguments)
    name, _, cut = inner.partition(":")
    value = variable(name)
    if not cut:
        return value
    offset, _, length = cut.partition(":")
    try:
        value = value[int(offset) :]
        return value[: int(length)] if length and int(length) > 0 else value
    except ValueError:
        return value


def is_true(text: str | None) -> bool:
    """What FreeSWITCH takes for yes."""
    return (text or "").lower() in ("yes", "on", "true", "t", "enabled", "active", "allow", "1")
