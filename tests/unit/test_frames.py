"""The event socket's stream cut into frames, however it was cut before."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import LinkError
from event_agent.freeswitch.frames import EVENT, MAX_BODY, MAX_HEADERS, Frame, FrameReader

RECORDINGS = sorted((Path(__file__).parent.parent / "fixtures" / "event-socket").glob("*.txt"))

LINE = st.binary(min_size=1, max_size=20).map(lambda raw: b"X-" + raw.replace(b"\n", b"?"))
FRAMES = st.lists(
    st.tuples(st.lists(LINE, max_size=3), st.binary(max_size=80) | st.just(b"\n\nContent-Length: 9\n\n")), max_size=8
)


def wire(lines: list[bytes], body: bytes) -> tuple[bytes, Frame]:
    """Bytes of one frame, and the frame."""
    length = [b"Content-Length: %d" % len(body)] if body else []
    head = b"\n".join([b"Content-Type: text/event-json", *lines, *length])
    return head + b"\n\n" + body, Frame(head, body)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(marks, marks[1:], strict=False)]


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=12))
def test_any_cutting_gives_the_same_frames(given_frames: list[tuple[list[bytes], bytes]], cuts: list[int]) -> None:
    made = [wire(lines, body) for lines, body in given_frames]
    data = b"".join(raw for raw, _ in made)
    reader = FrameReader()
    found = [frame for piece in pieces(data, cuts) for frame in reader.feed(piece)]
    assert found == [frame for _, frame in made]


@given(FRAMES)
def test_a_frame_is_given_out_with_its_last_byte(given_frames: list[tuple[list[bytes], bytes]]) -> None:
    reader = FrameReader()
    for lines, body in given_frames:
        raw, frame = wire(lines, body)
        assert reader.feed(raw[:-1]) == []
        assert reader.feed(raw[-1:]) == [frame]


HEADS = (
    b"Content-Length: %d\nContent-Type: text/event-json", b"Content-Length: %04d\nContent-Type: text/event-json",
    b"Content-Length: %d\nContent-Type: text/event-json\nX: y", b"Content-Length: %d\nContent-Type: text/event-jsonx",
    b"Content-Length: %d", b"Content-Type: api/response\nContent-Length: %d",
    b"Content-Type: api/response\nContent-Length: %d\nX: y", b"Content-Type: api/response\nContent-Length: %012d",
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(HEADS), st.binary(max_size=40)), max_size=6), st.integers(0, 500))
def test_what_is_cut_a_quicker_way_gives_the_same_frames(given_frames: list[tuple[bytes, bytes]], cut: int) -> None:
    """The usual heads of events and answers, and those that are nearly like them; 12 digits end the link."""
    usual = [head.startswith(b"Content-Length: ") and head.endswith(EVENT) for head, _ in given_frames]
    made = [
        Frame(EVENT if short else head % len(body), body)
        for (head, body), short in zip(given_frames, usual, strict=True)
    ]
    good = next((at for at, (head, _) in enumerate(given_frames) if b"012d" in head), len(made))
    reader, found = FrameReader(), []
    data = b"".join(head % len(body) + b"\n\n" + body for head, body in given_frames)
    try:
        for piece in pieces(data, [cut, *range(len(data))] if cut % 2 else [cut]):
            found += reader.feed(piece)
    except LinkError:
        assert found == made[: len(found)], "none before its time"
        assert len(found) <= good < len(made)
    else:
        assert found == made and good == len(made)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recorded_streams(path: Path) -> None:
    """Byte by byte and all at once give the same, and nothing is left over."""
    received = [ast.literal_eval(line[4:]) for line in path.read_text().splitlines() if line.startswith("<<< b")]
    data = b"".join(received)
    at_once = FrameReader().feed(data)
    reader = FrameReader()
    singly = [frame for at in range(len(data)) for frame in reader.feed(data[at : at + 1])]
    assert at_once == singly and at_once
    assert at_once[0].content_type == b"auth/request"
    known = {b"auth/request", b"command/reply", b"api/response", b"text/disconnect-notice"}
    known |= {b"text/event-json", b"text/event-plain", b"text/event-xml"}
    assert {frame.content_type for frame in at_once} <= known
    lengths = [len(b"Content-Length: %d\n" % len(frame.body)) for frame in at_once if frame.head is EVENT]
    assert sum(len(frame.head) + 2 + len(frame.body) for frame in at_once) + sum(lengths) == len(data)


def test_text_is_what_a_command_was_answered() -> None:
    head = b"Content-Type: api/response\nContent-Length: 3"
    assert Frame(head, b"+OK").text == "+OK"
    assert Frame(b"Content-Type: command/reply\nReply-Text: -ERR no", b"").text == "-ERR no"
    assert Frame(b"Content-Type: command/reply", b"").text == ""
    assert Frame(head, b"\xff\xfe").text == "\N{REPLACEMENT CHARACTER}" * 2


def test_headers_are_found_by_their_whole_name() -> None:
    frame = Frame(b"X-Reply-Text: no\nReply-Text-More: no\nReply-Text: yes: it is\nReply-Text: second", b"")
    assert frame.header(b"Reply-Text") == b"yes: it is"
    assert frame.header(b"Absent") == b""
    assert frame.content_type == b""


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"1 ", b"0x10", b"12345678901", b"%d" % (MAX_BODY + 1), b"\xb2"])
def test_a_bad_length_ends_the_link(length: bytes) -> None:
    with pytest.raises(LinkError, match="Content-Length"):
        FrameReader().feed(b"Content-Length: " + length + b"\n\nxxxx")


def test_a_length_that_is_none() -> None:
    """Only a header at the beginning of a line counts."""
    (frame,) = FrameReader().feed(b"X-Content-Length: 5\n\n")
    assert frame == Frame(b"X-Content-Length: 5", b"")
    (frame,) = FrameReader().feed(b"Content-Length: 0\n\n")
    assert frame.body == b""


@pytest.mark.parametrize("step", [100, 1000, MAX_HEADERS * 2])
def test_headers_without_end_end_the_link(step: int) -> None:
    reader, sent = FrameReader(), 0
    with pytest.raises(LinkError, match="without end"):
        while sent < MAX_HEADERS * 3:
            reader.feed(b"x" * step)
            sent += step
    assert sent <= MAX_HEADERS


def test_a_large_body_is_not_joined_at_every_read() -> None:
    """Else a body of some MB in small pieces would cost minutes."""
    size = 4_000_000
    reader = FrameReader()
    assert reader.feed(b"Content-Length: %d\n\n" % size) == []
    piece = b"x" * 1000
    for _ in range(size // 1000 - 1):
        assert reader.feed(piece) == []
    assert len(reader.parts) > 3000
    (frame,) = reader.feed(piece)
    assert frame.body == b"x" * size
