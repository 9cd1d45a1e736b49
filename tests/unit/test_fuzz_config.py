"""The configuration, damaged: it is taken or refused, each fault is one line, and no secret is in any of them."""

from __future__ import annotations

import random
import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

from event_agent.config.load import ENVIRONMENT_PREFIX, load
from event_agent.config.render import check_report, sample_file
from event_agent.config.table import PARAMS
from event_agent.errors import ConfigError
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import damaged, text

SECRET = "hunter2hunter2"
# Where a secret may stand: settings of their own, and in front of the host of a URL.
SECRET_PLACES = ("token", "nkey_seed", "esl_password")
VALUES: tuple[str, ...] = (
    "", " ", "true", "false", "off", "0", "1", "-1", "1.5", "1e9", "99999999999999999999", "127.0.0.1", "::1", "[::1]",
    "127.0.0.1:8092", "[::1]:1", "localhost:0", "nats://127.0.0.1", "tls://u:p@h:4222,tls://i", "a,b, c ,,d", "a b",
       "$${name}", "$${none}", "$${", "$${{}}", "$${a}$${a}$${a}", "debug", "nats", "/etc/passwd", "/", "\u0130", "ı",
)  # fmt: skip
_UNFIT = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MOD = (Path(__file__).resolve().parent.parent / "fixtures" / "mod_event_agent.conf.xml").read_bytes()
CORPUS: tuple[bytes, ...] = (
    sample_file().encode(), MOD, b"<configuration><settings/></configuration>", b"",
    *(f'<?xml version="1.0" encoding="{each}"?><configuration/>'.encode() for each in ("UTF-16", "euc-jp", "x")),
)  # fmt: skip


class Configuration(Target):
    """Each input is a file. One made from parts has a secret in it, and the environment comes from its text too."""

    limit = 0.1  # not a request: it is read at the start, and each unknown name is compared with all known ones
    room = 2_000_000
    spike = 30_000_000

    def __init__(self, folder: Path) -> None:
        self._file = folder / "event_agent.conf.xml"

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return damaged(rng, rng.choice(CORPUS), CORPUS)
        lines = []
        for _ in range(rng.randrange(8)):
            if rng.random() < 0.3:
                lines.append(self._variable(rng))
            name = rng.choice((*PARAMS, "tls", "nats-timeout", "no_such", text(rng, 300)))
            lines.append(f"<param name={_attribute(name)} value={_attribute(self._value(rng, name))}/>")
        body = "\n".join(lines)
        return f'<configuration name="event_agent.conf"><settings>\n{body}\n</settings></configuration>'.encode()

    def _variable(self, rng: random.Random) -> str:
        name = rng.choice(("name", "a", "nats_host", text(rng, 40)))
        value = rng.choice((*VALUES, text(rng), "$${a}$${a}"))
        command = rng.choice(("set", "set", "SET", "exec"))
        return f"<X-PRE-PROCESS cmd={_attribute(command)} data={_attribute(f'{name}={value}')}/>"

    def _value(self, rng: random.Random, name: str) -> str:
        if name in SECRET_PLACES:
            return rng.choice((SECRET, SECRET * 30, text(rng) + SECRET, SECRET + text(rng)))
        if name == "url":
            word = rng.choice((SECRET, f"{SECRET},{SECRET}", f"{SECRET}{text(rng, 60)}"))
            # What stands before a colon is a user, and no secret.
            user = rng.choice((f"{word.replace(':', '')}@", f"u:{word}@", ""))
            scheme = rng.choice(("nats://", "tls://", "", "http://"))
            if not scheme:  # then nothing tells a comma of a password from that between two servers
                user = user.replace(",", "")
            return f"{scheme}{user}{rng.choice(('h:4222', '[::1]:1', 'h:x', '', text(rng, 60)))}"
        return rng.choice((*VALUES, text(rng)))

    def feed(self, rng: random.Random, data: bytes) -> None:
        self._file.write_bytes(data)
        environ = {"HOME": "/root", "name": "value"}
        for _ in range(rng.choice((0, 0, 2))):
            name = rng.choice((*PARAMS, "NO_SUCH"))
            environ[ENVIRONMENT_PREFIX + name.upper()] = self._value(rng, name).replace("\0", "")
        try:
            loaded = load(str(self._file), environ)
        except ConfigError as error:
            lines = list(error.faults)
            assert lines
        else:
            lines = [*loaded.warnings, *check_report(loaded).splitlines(), *repr(loaded.settings).splitlines()]
            again = load(str(self._file), environ)
            assert again.settings == loaded.settings
        for line in lines:
            assert not _UNFIT.search(line), repr(line)
            assert SECRET not in line, line
        assert sum(map(len, lines)) < 4 * len(data) + 50_000, "more is said than was given"


def _attribute(value: str) -> str:
    """Quoted for XML, which can't hold some characters at all."""
    return quoteattr(re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]", "?", value))


def test_damaged_files(tmp_path: Path) -> None:
    fuzz(lambda: Configuration(tmp_path))
