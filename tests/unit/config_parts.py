"""A configuration file of a test's own, and short ways to load it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from event_agent.config.load import Loaded, load
from event_agent.errors import ConfigError


class Folder:
    """A place for a configuration file, and short ways to load it."""

    def __init__(self, path: Path) -> None:
        self.file = path / "agent.xml"
        self.path = str(self.file)

    def raw(self, content: str | bytes, environ: Mapping[str, str] | None = None) -> Loaded:
        self.file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(self.path, environ or {})

    def params(self, *lines: str, environ: Mapping[str, str] | None = None) -> Loaded:
        """Loads a file whose third line and the next ones are `lines`."""
        body = "\n".join(lines)
        head = '<configuration name="event_agent.conf">\n<settings>\n'
        return self.raw(f"{head}{body}\n</settings>\n</configuration>\n", environ)

    def faults(self, *lines: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.params(*lines, environ=environ)
        return self.short(caught.value.faults)

    def raw_faults(self, content: str | bytes) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.raw(content)
        return self.short(caught.value.faults)

    def short(self, messages: tuple[str, ...]) -> list[str]:
        assert not any("\n" in message for message in messages)
        return [message.replace(self.path, "F") for message in messages]


def param(name: str, value: str) -> str:
    return f'<param name="{name}" value="{value}"/>'


def define(data: str) -> str:
    return f'<X-PRE-PROCESS cmd="set" data="{data}"/>'


def credentials(path: Path, files: Mapping[str, str | bytes]) -> dict[str, str]:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"CREDENTIALS_DIRECTORY": str(path)}
