"""Where the settings come from: file, environment and systemd credentials in, `Settings` or every fault out.

Precedence: credentials, then environment, then file, then default. `load` reads everything before it complains, so
one start shows all that is wrong. It keeps nothing between calls; a reload is a second call.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from event_agent.config.event_names import likely
from event_agent.config.table import FILE, PARAMS, Param, Settings, closest_name, find, shown
from event_agent.errors import ConfigError

ENVIRONMENT_PREFIX = "MOD_EVENT_AGENT_"
MAX_FILE = 1 << 20
MAX_VALUE = 1 << 13  # also keeps variables that double each other from filling the memory

_CONFIGURATIONS = ("event_agent.conf", "mod_event_agent.conf")
# The file that came with the first mod_event_agent has these; the module never read them.
_NEVER_READ = frozenset({"tls", "nats_timeout", "nats_max_reconnect", "nats_reconnect_wait", "jetstream"})
_ROOTS = ("configuration", "document", "section", "include")
_VARIABLE = re.compile(r"\$\$\{(?:([\w.-]+)\})?")


@dataclass(frozen=True)
class Loaded:
    """Checked settings; `warnings` are to be logged; `sources` says for each param where its value is from."""

    settings: Settings
    warnings: tuple[str, ...]
    sources: Mapping[str, str]


def load(path: str | None, environ: Mapping[str, str]) -> Loaded:
    """The settings in force; `path` None is a start without a file.

    ConfigError holds every fault, one line each, and never a secret.
    """
    found = _Found(environ)
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
        raise ConfigError(found.faults)
    return Loaded(Settings(**found.values), tuple(found.warnings), {name: found.source(name) for name in PARAMS})


class _Found:
    """What has been read so far: values, faults and warnings."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.seen: dict[str, str] = {}  # in the source that is being read
        self.overridden: set[str] = set()
        self.variables: dict[str, str] = {}

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
        """`text` with its $${variables} replaced; None and a fault (a warning if `optional`) where one is unknown."""
        faults = []

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                faults.append("'$${' must be followed by a name and '}'")
            elif name not in self.variables and name not in self.environ:
                faults.append(f"unknown variable $${{{name}}}: set it above with X-PRE-PROCESS, or in the environment")
            return self.variables.get(name, self.environ.get(name, "")) if name else ""

        text = _VARIABLE.sub(value, text)
        if len(text) > MAX_VALUE:
            faults.append(f"value too long, at most {MAX_VALUE} characters are allowed")
        (self.warnings if optional else self.faults).extend(f"{where}: {fault}" for fault in faults)
        return None if faults else text

    def check(self) -> None:
        """What can be said only of the values in force."""
        for name, param in PARAMS.items():
            file = self.values.get(name, "")
            if param.kind is FILE and file and not (os.path.isfile(file) and os.access(file, os.R_OK)):
                self.faults.append(f"{self.source(name)}: {name} must be {param.allowed}, not {shown(file)}")
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


# --- the file ---


def _read_file(path: str, found: _Found) -> None:
    """The params of the file, in its order. Faults are collected; ConfigError where the file as a whole won't do."""
    root, lines = _parse(path, _read_bytes(path))
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
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if len(data) > MAX_FILE:
        raise ConfigError([f"{path}: too large, at most {MAX_FILE} bytes are allowed"])
    return data


def _parse(path: str, data: bytes) -> tuple[ET.Element, dict[ET.Element, int]]:
    """The document, and the line each element begins on, which ElementTree's own parser does not tell.

    A DOCTYPE is refused, and with it every entity: nothing can be expanded without end or fetched from elsewhere.
    """
    parser = expat.ParserCreate()
    builder = ET.TreeBuilder()
    lines: dict[ET.Element, int] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def doctype(*_: object) -> None:
        raise ConfigError([f"{path}:{parser.CurrentLineNumber}: a DOCTYPE is not allowed"])

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ConfigError([f"{path}:{error.lineno}: not well-formed XML: {expat.ErrorString(error.code)}"]) from None
    except (LookupError, ValueError):
        raise ConfigError([f"{path}:1: unknown encoding, UTF-8 is best"]) from None
    return builder.close(), lines


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
    if text is None:
        return
    if text and param.name in ("token", "nkey_seed"):
        variable = ENVIRONMENT_PREFIX + param.name.upper()
        found.warnings.append(f"{where}: DEPRECATED: {param.name} in the file, use the environment ({variable})")
    found.take(where, param, text)


def _never_read(where: str, name: str, value: str, found: _Found) -> None:
    if name.lower() == "tls" and value.strip().lower() not in ("", "false", "no", "off", "0"):
        found.faults.append(f"{where}: tls: write tls:// in url instead")  # whoever asks for it must not go without
    else:
        found.warnings.append(f"{where}: {name} is not read (mod_event_agent did not read it either)")


# --- environment and credentials ---


def _variables(environ: Mapping[str, str], found: _Found) -> list[tuple[str, Param, str]]:
    """What the environment sets, as (where, param, text); empty variables don't count.

    An unknown one is a warning only: environments hold stray things (Kubernetes adds some for every service).
    """
    given = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        param = find(name)
        if param is not None:
            given.append((f"environment {variable}", param, text))
        else:
            known = ENVIRONMENT_PREFIX + closest_name(name).upper()
            found.warnings.append(f"environment: unknown variable {shown(variable)}, the closest known one is {known}")
    return given


def _credentials(environ: Mapping[str, str], found: _Found) -> list[tuple[str, Param, str]]:
    """What systemd hands over with LoadCredential=, as (where, param, text).

    A credential is named after a param or its environment variable. Its content is the value; where the value is a
    file's name (creds, tls_key), the credential itself is that file.
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
        text = os.path.join(folder or "", name)
        if param.kind is not FILE:
            try:
                with open(text, "rb") as file:
                    text = file.read(MAX_VALUE + 1).decode().rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                found.faults.append(f"{where}: must be UTF-8 text that can be read")
                continue
            if len(text) > MAX_VALUE:
                found.faults.append(f"{where}: too long, at most {MAX_VALUE} characters are allowed")
                continue
        if text:
            given.append((where, param, text))
    return given
