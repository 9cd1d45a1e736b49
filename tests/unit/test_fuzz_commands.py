"""The text of commands, made of hostile parts and damaged whole: what may be sent is read as exactly one command.

Both barriers are tried: `wire`, which makes the text, and the lane's last look at it, `as_frames`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from event_agent.errors import BadCommand, CommandError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import as_frames
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import damaged, long, text
from tests.switchsim.framing import Framer

CORPUS: tuple[bytes, ...] = tuple(each.encode() for each in (
    "api status\n\n", "api uuid_setvar 1-2 a b c\n\n", "bgapi originate {a=b}user/1 &park\nJob-UUID: 1-2\n\n",
    "sendmsg u\ncall-command: execute\nexecute-app-name: answer\n\n",
    "sendmsg u\ncall-command: execute\nexecute-app-name: log\ncontent-type: text/plain\ncontent-length: 5\n\nhello",
    "sendevent CUSTOM\nEvent-Subclass: a::b\nMark: é\ncontent-length: 4\n\n\n\nab", wire.PROBE,
))  # fmt: skip
UUID = "aaaaaaaa-0000-4000-8000-000000000001"


class Commands(Target):
    """An input is a text that is to be sent, whole or damaged (its first byte is !), or a part that one is made of."""

    def __init__(self) -> None:
        self.sent = self.refused = 0

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return b"!" + (damaged(rng, rng.choice(CORPUS), CORPUS) if rng.random() < 0.95 else rng.choice(CORPUS))
        if rng.random() < 0.05:
            return b"=" + long(rng, 60_000)
        return b"=" + "".join(text(rng, 2000) for _ in range(rng.choice((1, 1, 2, 3)))).encode(errors="surrogatepass")

    def feed(self, rng: random.Random, data: bytes) -> None:
        given = data[1:].decode(errors=rng.choice(("replace", "surrogateescape")))
        if data[:1] == b"!":
            self._send(given)
            return
        try:
            made = self._made_of(rng, given)()
        except CommandError:
            self.refused += 1
        else:
            self._send(made)

    def _made_of(self, rng: random.Random, part: str) -> Callable[[], str]:
        """A command with this part in one place, or in several."""
        one, two, three = ((part, "x", "a b")[rng.randrange(3)] for _ in range(3))
        return rng.choice([
            lambda: wire.line(part),
            lambda: wire.api(one, part),
            lambda: wire.api(part, two),
            lambda: wire.bgapi(one, part, rng.choice((UUID, part))),
            lambda: wire.execute(rng.choice((UUID, part)), rng.choice(("log", part)), part),
            lambda: wire.execute(UUID, "log", two, {part: three}),
            lambda: wire.execute(UUID, "log", two, {"Event-UUID": part, "loops": three}),
            lambda: wire.sendevent(rng.choice(("CUSTOM", part)), {"Event-Subclass": part, "A": two}, three),
            lambda: wire.sendevent("CUSTOM", {part: two}, part),
        ])  # fmt: skip

    def _send(self, command: str) -> None:
        try:
            sent = as_frames([command]).encode()
        except BadCommand:
            self.refused += 1
            return
        self.sent += 1
        framer = Framer()
        frames = list(framer.feed(sent))
        assert len(frames) == 1 and not framer.partial, f"not exactly one command: {sent!r}"
        head, _, body = sent.partition(b"\n\n")
        assert frames[0].line.encode(errors="surrogateescape") == head.partition(b"\n")[0]
        assert (frames[0].body or "").encode(errors="surrogateescape") == body


def test_hostile_parts_of_commands() -> None:
    found: list[Commands] = []

    def build() -> Commands:
        found.append(Commands())
        return found[-1]

    fuzz(build, least=400)
    assert found[0].sent > 30 and found[0].refused > 30, (found[0].sent, found[0].refused)
