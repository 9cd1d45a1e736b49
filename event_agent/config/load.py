"""Where the settings come from: file, environment and systemd credentials in, `Settings` or every fault out.

Precedence: credentials, then environment, then file, then default. `load` reads everything before it complains, so
one start shows all that is wrong. It keeps nothing between calls; a reload is a second call.
"""

from __future__ import annotations

import os
import re
import socket
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from event_agent.config.document import parse
from event_agent.config.event_names import likely
from event_agent.config.files import forbidden, missing, readable
from event_agent.config.table import FILE, PARAMS, Param, Settings, closest_name, find, shown
from event_agent.errors import ConfigError

ENVIRONMENT_PREFIX = "MOD_EVENT_AGENT_"
IN_FILE = "_FILE"  # behind a variable's name: its value is in the file
MAX_FILE = 1 << 20
MAX_VALUE = 1 << 13  # also keeps variables that double each other from filling the memory

_CONFIGURATIONS = ("event_agent.conf", "mod_event_agent.conf")
# The file that came with the first mod_event_agent has these; the module never read them.
_NEVER_READ = frozenset({"tls", "nats_timeout", "nats_max_reconnect", "nats_reconnect_wait", "jetstream"})
_ADDRESSES = {
    "local_ip_v4": (socket.AF_INET, "82.45.148.209", "127.0.0.1"),
    "local_ip_v6": (socket.AF_INET6, "2001:503:BA3E::2:30", "::1"),
}
_ROOTS = ("configuration", "document", "section", "include")
_VARIABLE = re.compile(r"\$\$\{(?:([\w.-]+)\})?")


@dataclass(frozen=True)
class Loaded:
    """Checked settings; `warnings` are to be logged; `sources` says for each param where its value is from."""

    settings: Settings
    warnings: tuple[str, ...]
    sources: Mapping[str, str]


def load(
    path: str | None,
    environ: Mapping[str, str],
    origins: Mapping[str, str] | None = None,
    judge: Callable[[str, str], str] | None = None,
) -> Loaded:
    """The settings in force; `path` None is a start without a file.

    `origins` says of a variable where it was set, if that is not our own environment. `judge` is asked of each param
    that names a file, and the file, whether it can be read; it returns what is wrong.

    ConfigError holds every fault, one line each, and never a secret.
    """
    found = _Found(environ, origins or {}, judge)
    above = (_variables(environ, found), _credentials(environ, found))
    if path is not None:
        # A value that is overridden may use a variable nobody has set: a container gives the URL, not its parts.
        found.overridden = {param.name for source in above for _, param, _ in source}
        try:
            _read_file(path, found)
        except ConfigError as error:
            found.faults += error.faults
    for source in above:
        found.seen.clear()
        for where, param, text in source:
            found.take(where, param, text)
    found.check()
    if found.faults:
        raise ConfigError(found.faults, str(found.values.get("log_format", "text")))
    return Loaded(Settings(**found.values), tuple(found.warnings), {name: found.source(name) for name in PARAMS})


class _Found:
    """What has been read so far: values, faults and warnings."""

    def __init__(
        self, environ: Mapping[str, str], origins: Mapping[str, str], judge: Callable[[str, str], str] | None
    ) -> None:
        self.environ = environ
        self.origins = origins
        self.judge = judge
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.seen: dict[str, str] = {}  # in the source that is being read
        self.overridden: set[str] = set()
        self.variables: dict[str, str] = {}
        self.of_machine = False  # the text that was expanded last names this machine

    def source(self, name: str) -> str:
        return self.sources.get(name, "default")

    def take(self, where: str, param: Param, text: str) -> None:
        """A value given for `param`: it replaces one from a lower source, or from further up in the same."""
        # FreeSWITCH's modules let the last one win, so a file that works there works here; it still is a slip.
        if param.name in self.seen:
            self.warnings.append(f"{where}: {param.name} is set twice, this replaces {self.seen[param.name]}")
        self.seen[param.name] = where
        try:
            value = param.read(text)
        except ValueError as fault:
            self.faults.append(f"{where}: {fault}")
            return
        if param.name == "subject_prefix" and value != text.strip():
            self.warnings.append(f"{where}: subject_prefix is {value!r}, not {shown(text)}: it takes {param.allowed}")
        self.values[param.name] = value
        self.sources[param.name] = where

    def expand(self, where: str, text: str, optional: bool = False) -> str | None:
        """`text` with its $${variables} replaced; None and a fault (a warning if `optional`) if one is unknown."""
        faults = []
        self.of_machine = False

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                faults.append("'$${' must be followed by a name and '}'")
                return ""
            for known in (self.variables, self.environ):
                if name in known:
                    return known[name]
            if (text := _of_this_machine(name)) is not None:
                self.of_machine = True
                return text
            faults.append(f"unknown variable $${{{name}}}: set it above with X-PRE-PROCESS, or in the environment")
            return ""

        text = _VARIABLE.sub(value, text)
        if len(text) > MAX_VALUE:
            faults.append(f"value too long, at most {MAX_VALUE} characters are allowed")
        (self.warnings if optional else self.faults).extend(f"{where}: {fault}" for fault in faults)
        return None if faults else text

    def check(self) -> None:
        """What can be said only of the values in force."""
        for name, param in PARAMS.items():
            file = self.values.get(name, "")
            if param.kind is FILE and file and self.judge is not None:
                if fault := self.judge(name, file):
                    self.faults.append(f"{self.source(name)}: {name}: {fault}")
            elif param.kind is FILE and file and not readable(file):
                self.faults.append(f"{self.source(name)}: {name}: {forbidden(file) or missing(file)}")
        for name in ("include", "exclude"):
            where = self.source(name)
            for each in self.values.get(name, ()):
                if meant := likely(each):
                    self.warnings.append(
                        f"{where}: {name}: no event is called {shown(each)}, the closest known one is {meant}"
                    )
        for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            if self.values.get(one) and not self.values.get(other):
                self.faults.append(f"{self.source(one)}: {one} needs {other} as well")


def _of_this_machine(name: str) -> str | None:
    """A variable that FreeSWITCH's own files know without setting it; None if it is no such, or not known here."""
    if name == "hostname":
        return socket.gethostname()
    if name not in _ADDRESSES:
        return None
    # As switch_utils.c, switch_find_local_ip: the address from which the internet would be spoken to. Nothing is sent.
    family, anybody, alone = _ADDRESSES[name]
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((anybody, 53))
        return str(probe.getsockname()[0])
    return alone


# --- the file ---


def _read_file(path: str, found: _Found) -> None:
    """The params of the file, in its order. Faults are collected; ConfigError if the file as a whole can't be used."""
    root, lines = parse(path, _read_bytes(path))
    blocks = [block for block in root.iter("configuration") if block.get("name", _CONFIGURATIONS[0]) in _CONFIGURATIONS]
    if root.tag not in _ROOTS or not blocks:
        raise ConfigError([f'{path}:{lines[root]}: <configuration name="{_CONFIGURATIONS[0]}"> expected'])
    ours = {element for block in blocks for element in block.iter()}
    params = {param for block in blocks for param in block.findall("settings/param")}
    for element in root.iter():
        where = f"{path}:{lines[element]}"
        if element.tag.upper() == "X-PRE-PROCESS":
            _define(where, element, found)
        elif element in params:
            _take_param(where, element, found)
        elif element in ours and element.tag not in ("configuration", "settings", "X-NO-PRE-PROCESS"):
            found.faults.append(f"{where}: unknown element {shown(element.tag)}, only <param> in <settings> is allowed")


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise ConfigError([
            f"{path}: there is no such file; name another with -c, or none if all settings are in the environment"
        ]) from None  # fmt: skip
    except OSError as error:
        raise ConfigError([forbidden(path) or f"{path}: can't be read: {error.strerror}"]) from None
    if len(data) > MAX_FILE:
        raise ConfigError([f"{path}: too large, at most {MAX_FILE} bytes are allowed"])
    return data


def _define(where: str, element: ET.Element, found: _Found) -> None:
    """<X-PRE-PROCESS cmd="set" data="name=value"/>; `name` is known from here on."""
    name, equals, text = element.get("data", "").partition("=")
    # The data is not shown: it may hold a password.
    if element.get("cmd", "").lower() != "set" or not equals or not name.strip():
        found.faults.append(f'{where}: X-PRE-PROCESS must be cmd="set" data="name=value"')
        return
    value = found.expand(where, text.lstrip(" "))
    found.variables[name.strip()] = value or ""  # known even if faulty: one fault is enough


def _take_param(where: str, element: ET.Element, found: _Found) -> None:
    name, value = element.get("name"), element.get("value")
    if not name or value is None:
        found.faults.append(f'{where}: <param> must have name="..." and value="..."')
        return
    param = find(name)
    if param is None and name.lower().replace("-", "_") in _NEVER_READ:
        _never_read(where, name, value, found)
        return
    if param is None:
        found.faults.append(f"{where}: unknown param {shown(name)}, the closest known one is {closest_name(name)}")
        return
    text = found.expand(where, value, optional=param.name in found.overridden)
    # In 1.0 the file that comes with the program had no name in it: an environment that says so gets none.
    if text is None or (found.of_machine and found.environ.get(ENVIRONMENT_PREFIX + param.name.upper()) == ""):
        return
    if text and param.name in ("token", "nkey_seed"):
        variable = ENVIRONMENT_PREFIX + param.name.upper()
        found.warnings.append(f"{where}: DEPRECATED: {param.name} in the file, use the environment ({variable})")
    found.take(where, param, text)


def _never_read(where: str, name: str, value: str, found: _Found) -> None:
    if name.lower() == "tls" and value.strip().lower() not in ("", "false", "no", "off", "0"):
        found.faults.append(f"{where}: tls: write tls:// in url instead")  # asked for, it must not be left out
    else:
        found.warnings.append(f"{where}: {name} is not read (mod_event_agent did not read it either)")


# --- environment and credentials ---


def _variables(environ: Mapping[str, str], found: _Found) -> list[tuple[str, Param, str]]:
    """What the environment sets, as (where, param, text); empty variables don't count.

    With _FILE behind a name, the text is in that file: secrets are mounted so in containers. An unknown variable is a
    warning only: environments hold stray things (Kubernetes adds some for every service).
    """
    given = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        where = found.origins.get(variable, f"environment {variable}")
        param = find(name)
        if param is None and (param := find(name.removesuffix(IN_FILE))) is not None:
            value = _content(where, text, param, found)
            if value:
                given.append((where, param, value))
        elif param is not None:
            given.append((where, param, text))
        else:
            known = ENVIRONMENT_PREFIX + closest_name(name).upper()
            found.warnings.append(f"environment: unknown variable {shown(variable)}, the closest known one is {known}")
    return given


def _credentials(environ: Mapping[str, str], found: _Found) -> list[tuple[str, Param, str]]:
    """What systemd hands over with LoadCredential=, as (where, param, text).

    A credential is named after a param or its environment variable.
    """
    given = []
    folder = environ.get("CREDENTIALS_DIRECTORY")
    try:
        names = sorted(os.listdir(folder)) if folder else []
    except OSError as error:
        found.faults.append(f"credentials: {shown(folder or '')} can't be read: {error.strerror}")
        return []
    for name in names:
        where = f"credential {name}"
        bare = name.upper().replace("-", "_").removeprefix(ENVIRONMENT_PREFIX)
        param = find(bare)
        if param is None:
            known = closest_name(bare)
            found.warnings.append(f"credentials: unknown credential {shown(name)}, the closest known one is {known}")
            continue
        text = _content(where, os.path.join(folder or "", name), param, found)
        if text:
            given.append((where, param, text))
    return given


def _content(where: str, path: str, param: Param, found: _Found) -> str | None:
    """What stands in a file instead of a text; None and a fault if it can't be read.

    Line breaks at its end are not part of it: editors and `echo` make them. Nor is a byte order mark at its beginning,
    which editors of Windows make and nobody sees. If the value is a file's name (creds, tls_key), it is that file.
    """
    if param.kind is FILE:
        return path
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_VALUE + 1).decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        why = forbidden(path) or f"{shown(path)} can't be read: {error.strerror}"
        found.faults.append(f"{where}: {why}")
        return None
    except UnicodeDecodeError:
        found.faults.append(f"{where}: {shown(path)} is not UTF-8 text; save it as UTF-8 without a byte order mark")
        return None
    if len(text) > MAX_VALUE:
        found.faults.append(f"{where}: too long, at most {MAX_VALUE} characters are allowed")
        return None
    if not text:
        found.warnings.append(f"{where}: {shown(path)} is empty; {param.name} is not set by it")
    return text
