"""Whatever reads text that others wrote costs no more than the text is long: subjects, events, replies, views.

What the lists look through has its own tests, in test_guards_cost.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from event_agent.commands.unknown import NAME, KnownFields
from event_agent.config.table import masked_url
from event_agent.ctl.commands import park_table
from event_agent.ctl.nodes import short_version
from event_agent.ctl.views import Painter, cut, safe
from event_agent.dialplan.answers import read_params
from event_agent.drivers.nats.wire import WireReader
from event_agent.freeswitch.frames import FrameReader
from event_agent.protocol.raw_event import Key, RawEvent
from event_agent.protocol.subjects import event_subject, slug
from event_agent.protocol.validation import Declaration, strict_subject
from event_agent.runtime.log import clean, escaped
from tests.timing import cpu_of

NAME_OF_EVENT = Key("Event-Name")
READERS: dict[str, Callable[[str], object]] = {
    "node ids": slug,
    "event subjects": lambda text: event_subject("p", text, text),
    "subjects": strict_subject,
    "log lines": clean,
    "escapes": escaped,
    "URLs": masked_url,
    "questions of mod_xml_curl": lambda text: read_params(text.encode()),
    "events": lambda text: RawEvent(text.encode()).get(NAME_OF_EVENT),
    "events, scanned": lambda text: RawEvent(b'{"a":"' + text.encode()).scan(NAME_OF_EVENT),
    "NATS lines": lambda text: WireReader().feed(text.encode()),
    "frames": lambda text: FrameReader().feed(text.encode()),
    "the tool's texts": safe,
    "the tool's cells": lambda text: cut(text, 80),
    "versions": short_version,
    "park mode of other agents": lambda text: park_table([{"info": text}], Painter(False)),
    "unknown fields": lambda text: KnownFields([Declaration("", "", (), ())]).warnings("x", {text: 1}),
}
PIECES = [
    "a", "1", "1.", ".", "a.", "-", " ", "a ", "\t", "\n", "\x1b", "\x1b[", "\x1b]", "\x9b", "é", "中", "\u2028", "a: ",
    "|", "a|b: ", "a: b |", "%", "%2", "%41", "a=b&", '"', "\\", '\\"', '"Event-Name":', '{"', "[[", "MSG a 1 5\r\n",
    "MSG a 1 0\r\n\r\n", "+OK\r\n", "INFO {", "Content-Length: 0\n\n", "a: b\n", "\n\n", "@", "://", "/", "\u200b",
]  # fmt: skip
LENGTHS = (16000, 64000)  # characters
FACTOR = 10  # at most so much longer for four times the text, and
NOISE = 0.002  # seconds


def spent(read: Callable[[str], object], text: str) -> float:
    def read_or_not() -> None:
        with contextlib.suppress(Exception):
            read(text)

    return cpu_of(read_or_not)


@pytest.mark.parametrize("what", READERS)
def test_it_costs_no_more_than_the_text_is_long(what: str) -> None:
    read = READERS[what]
    for piece in PIECES:
        texts = [piece * (length // len(piece)) for length in LENGTHS]
        least = [1.0, 1.0]
        for _ in range(10):  # a neighbour on this machine can make any one run slow
            least = [min(each, spent(read, text)) for each, text in zip(least, texts, strict=True)]
            if least[1] <= FACTOR * least[0] + NOISE:
                break
        else:
            raise AssertionError(f"{piece!r}: {least[0]} s, and {least[1]} s for four times as much")


def test_long_names_of_fields_are_not_kept() -> None:
    known = KnownFields([Declaration("", "", (), ())])
    assert known.warnings("x", {"b" * 60000: 1}) == [f"unknown field '{'b' * NAME}…'"]


def test_cells_are_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert cut("中中中", 4) == "中…"
    assert cut("中中中", 5) == "中中…"
    assert cut("abc", 1) == "…"
    assert cut("abc", 0) == ""


def test_what_others_say_of_park_mode() -> None:
    reply = {"node_id": "n", "info": "Mode: park | Audio: ringback | Auto-answer: on"}
    (line,) = park_table([reply], Painter(False))[1:]
    assert line.split()[:4] == ["n", "park", "ringback", "on"]
    assert short_version("FreeSWITCH Version 1.10.12-release+git~2024 (64bit)") == "1.10.12"
