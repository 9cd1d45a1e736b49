"""Damage: bytes of a corpus cut, doubled, mixed, and spiked with what has broken such programs before."""

from __future__ import annotations

import random
from collections.abc import Sequence

# Texts that mean something to FreeSWITCH, NATS, HTTP, JSON, XML, a log, or a regular expression.
TEXTS: tuple[str, ...] = (
    "", " ", "\n", "\r\n", "\n\n", "\r\n\r\n", "\0", "\t", "\x1b[2J", "\x7f", "\x85", "\u2028", "\ufeff", "\u202e",
    "\n\napi global_setvar pwned=1\n\n", "x\n\napi system touch pwned #", "\\n\\napi\\sglobal_setvar\\spwned=1\\n\\n",
    "Content-Length: 5\n\nhello", "\ncontent-length: 99999\n\n", "content-type: text/plain\n", "Job-UUID: x\n\n",
    "${global_setvar(pwned=1)}", "$${hostname}", "${", "$", "}", "{", "{a=b}", "[a=b]", "<a=b>", ":_:", "|", ",", ";",
    "'", '"', "\\", "\\\\", "\\s", "^^:", "m:^:", "&park", "&park(a)b)", "undef", "UNDEF", "loopback/park/default",
    "uuid:", "ARRAY::a|:b", "api_hangup_hook", "execute_on_answer", "set_global:pwned=1", "inline", "*",
    "event_agent_parked", ">", ".", "a..b", "_INBOX.a.b", "freeswitch.api", "freeswitch.node.x", "PING",
    "PUB x 1\r\na\r\n", "+OK", "-ERR", "%s", "%n", "%(x)s", "%00", "%0a%0aapi", "%zz", "+", "=", "&", "?", "#", "/",
    "//", "../../etc/passwd", "-1", "0", "1e999", "NaN", "-0", "18446744073709551616", "9" * 20, "9" * 5000, "0x10",
    "null", "true", "[]", "{}", "é", "日本", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&amp;", "&#0;", "&b;", "<![CDATA[",
    "]]>", "<!--", "-->", "</settings>",
)  # fmt: skip
BYTES: tuple[bytes, ...] = (
    b"\xff", b"\xfe\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe9", b"\x80" * 8, b"\x00\x01",
)  # fmt: skip
TOKENS: tuple[bytes, ...] = (*(each.encode() for each in TEXTS), *BYTES)
# What is quadratic somewhere shows only in thousands.
LONG: tuple[bytes, ...] = (
    b"\\", b"'", b"{", b"[", b"${", b"${a(", b"a,", b"a=", b" ", b"\t", b"\n", b"\r\n", b"%", b"&", b"::", b":_:",
    b"\xff", b"\xc3\xa9", b'"', b"<a>", b".", b"0", b"a\nb: c\n", b",a='",
)  # fmt: skip


def long(rng: random.Random, most: int) -> bytes:
    """At most `most` bytes of the same again and again, with something else before and behind it."""
    each = rng.choice(LONG) if rng.random() < 0.7 else rng.choice(LONG) + rng.choice(LONG)
    ends = rng.choice(TOKENS[:100]), rng.choice(TOKENS[:100])
    return (ends[0][:100] + each * rng.randrange(1, max(2, most // len(each))) + ends[1][:100])[:most]


def token(rng: random.Random, most: int = 4000) -> bytes:
    """Something to put in; now and then thousands of it."""
    if rng.random() < 0.03:
        return long(rng, most)
    return rng.choice(TOKENS)


def text(rng: random.Random, most: int = 4000) -> str:
    """The same as text."""
    return token(rng, most).decode(errors="replace") if rng.random() < 0.97 else chr(rng.randrange(0x110000))


def damaged(rng: random.Random, data: bytes, corpus: Sequence[bytes], most: int = 100_000) -> bytes:
    """`data` with one to four pieces of damage; `corpus` is what it may be mixed with."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 1, 2, 8, 60))
        match rng.randrange(8):
            case 0:
                data = data[:at] + token(rng) + data[at:]
            case 1:
                data = data[:at] + token(rng) + data[at + size :]
            case 2:
                data = data[:at] + data[at + size :]
            case 3:
                data = data[:at] + data[at : at + size] * rng.randrange(2, 6) + data[at:]
            case 4:
                data = data[:at]
            case 5:
                data = data[:at] + rng.randbytes(size) + data[at + size :]
            case 6:
                other = rng.choice(corpus)
                data = data[:at] + other[rng.randrange(len(other) + 1) :]
            case 7:
                start = rng.randrange(len(data) + 1)
                data = data[:at] + data[start : start + size] + data[at:]
    return data[:most]


def cut(rng: random.Random, data: bytes, most: int = 6) -> list[bytes]:
    """The same bytes in pieces, as reads may bring them; short ones now and then byte by byte."""
    if len(data) < 400 and rng.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))
    return [piece for a, b in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[a:b])]
