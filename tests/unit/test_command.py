"""A command is exactly one frame: what FreeSWITCH would read as two, or wait behind, is never sent."""

from __future__ import annotations

import random

import pytest

from event_agent.errors import BadCommand
from event_agent.freeswitch.command import MAX_HEAD, as_frames, fault_of

BODY = "sendmsg u\ncall-command: execute\nexecute-app-name: log\ncontent-type: text/plain\ncontent-length: "


@pytest.mark.parametrize(
    "text",
    [
        "api status\n\n",
        "api uuid_kill 1-2 NORMAL_CLEARING\n\n",
        "api echo é\n\n",
        "api echo \N{SNOWMAN}  \n\n",
        "api expand a: b: content-length: 5\n\n",
        "bgapi originate {a=b}user/1 &park\nJob-UUID: 1-2\n\n",
        "sendmsg u\ncall-command: execute\nexecute-app-name: answer\n\n",
        f"{BODY}5\n\nhello",
        f"{BODY}0\n\n",
        f"{BODY}12\n\none\n\ntwo\r\n\n\n",
        f"{BODY}2\n\né",
        "sendevent CUSTOM\nEvent-Subclass: a::b\nMark: \n\n",
        "filter delete event-agent-probe\n\n",
        "api " + "x" * 70000 + "\n\n",
    ],
)
def test_one_frame(text: str) -> None:
    assert fault_of(text) == ""
    assert as_frames([text, text]) == text * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        "\n\n\n",
        "api status",
        "api status\n",
        "api status\n\n\n",
        "\napi status\n\n",
        "api status\n\napi system x\n\n",
        "api status\n\napi system x # \n\n",
        "api é\n\napi system x\n\n",
        "api status\napi system x\n\n",
        "api status\nJob-UUID: x\n\n",
        "bgapi originate x\nJob-UUID: x\nexecute-app-name: x\n\n",
        "bgapi originate x\nJob-UUID: x\nJob-UUID: y\n\n",
        "api a\rb\n\n",
        "api status\r\n\r\n",
        "api status\n\r\n",
        "api a\0b\n\n",
        "api é\0b\n\n",
        "api \ud800\n\n",
        "api \udcff\n\n",
        "sendmsg u\ncall-command: execute\nexecute-app-name: a\n\napi system x\n\n",
        "sendmsg u\ncall-command: execute\nexecute-app-name: a\rb: c\n\n",
        "sendmsg u\ncall-command: execute\nexecute-app-name: a\nexecute-app-name: b\n\n",
        "sendmsg u\ncall-command\n\n",
        "sendmsg u\n: execute\n\n",
        "sendmsg u\n content-length: 5\n\nhello",
        "sendmsg u\ncontent-length : 5\n\nhello",
        f"{BODY}5\n\nhell",
        f"{BODY}5\n\nhello\n\n",
        f"{BODY}5\n\nhello\n\napi system x\n\n",
        f"{BODY}1\n\né",
        f"{BODY}4\n\na\0bc",
        f"{BODY}1\n\n\ud800",
        f"{BODY}+5\n\nhello",
        f"{BODY}5x\n\nhello",
        f"{BODY}\n\n",
        f"{BODY}-5\n\n",
        f"{BODY}99999999999\n\nhello",
        f"{BODY}5\nContent-Length: 5\n\nhellohello",
        "api " + "x" * MAX_HEAD + "\n\n",
        "api é" + "x" * MAX_HEAD + "\n\n",
    ],
)
def test_not_one_frame(text: str) -> None:
    fault = fault_of(text)
    assert fault
    with pytest.raises(BadCommand, match="exactly one command to FreeSWITCH: it has "):
        as_frames(["api status\n\n", text])


def read_by_freeswitch(data: bytes) -> int:
    """How many commands mod_event_socket's read_packet finds in it; -1 when it waits for more at the end."""
    found = at = 0
    while at < len(data):
        if data[at] in b"\r\n":  # before a command it takes no notice of these
            at += 1
            continue
        start, breaks = at, 0
        while breaks < 2:
            if at == len(data):
                return -1
            breaks = breaks + 1 if data[at] == 10 else breaks if data[at] == 13 else 0
            at += 1
        found += 1
        for line in data[start:at].replace(b"\r", b"\n").split(b"\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                digits = value.lstrip(b" ")
                size = int(digits) if digits.isdigit() else 0
                if at + size > len(data):
                    return -1
                at += size
    return found


def test_what_passes_is_one_command_to_freeswitch_however_it_is_put_together() -> None:
    rng = random.Random(1)
    pieces = (
        "api ", "bgapi ", "sendmsg u", "\n", "\n\n", "\r", "x", "é", "content-length: 4", "Content-Length:2", ":",
        "execute-app-name: y", " ", "abcd", "\n\n", "Job-UUID: 1",
    )  # fmt: skip
    passed = 0
    for _ in range(200_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 9))) + rng.choice(("", "\n\n"))
        if not fault_of(text):
            passed += 1
            assert read_by_freeswitch(text.encode()) == 1, text
    assert passed > 1000
