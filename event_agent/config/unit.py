"""What the service on this machine is started with: its unit, the drop-ins, the environment files, the credentials.

`event-agent --check` and event-agentctl look at these, so that they see what the service sees. Only files are read:
systemd need not run, and nothing is started.

Sources: systemd.unit(5) for where units and drop-ins are and which wins; systemd.exec(5) for Environment=,
EnvironmentFile=, UnsetEnvironment= and the credentials; systemd.syntax(7) for lines. Left out: PassEnvironment= and
ImportCredential=.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from event_agent.config.access import fault
from event_agent.config.load import ENVIRONMENT_PREFIX, IN_FILE, MAX_VALUE, Loaded, load
from event_agent.config.table import FILE, find
from event_agent.errors import ConfigError

NAME = "event-agent.service"
PACKAGED = "/etc/event-agent/event_agent.conf.xml"  # the program's own, if nobody names another
FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system",
           "lib/systemd/system")  # fmt: skip
STORES = ("etc/credstore", "run/credstore", "usr/lib/credstore")
ENCRYPTED = ("etc/credstore.encrypted", "run/credstore.encrypted", "usr/lib/credstore.encrypted")
YES = ("yes", "true", "on", "1")
DECRYPT_LIMIT = 10.0  # seconds


@dataclass(frozen=True)
class Line:
    """A line of [Service]."""

    key: str
    value: str
    where: str  # FILE:LINE


@dataclass
class Service:
    """What was found. `environ` holds the credentials too: it is for `load`, and not to be shown."""

    name: str
    user: str = "root"
    config: str = ""
    enabled: bool = False
    files: list[str] = field(default_factory=list)  # the unit and its drop-ins
    environ: dict[str, str] = field(default_factory=dict, repr=False)
    replaced: set[str] = field(default_factory=set, repr=False)  # values that another one has replaced
    origins: dict[str, str] = field(default_factory=dict)  # of a variable: where it is set
    unread: list[str] = field(default_factory=list)  # what we may not read, each with the reason
    hidden: tuple[str, ...] = ()  # folders that the service does not have
    writable: tuple[str, ...] | None = None  # folders it may write to; None: wherever its user may

    def put(self, variable: str, text: str, where: str) -> None:
        """Set a variable of its environment."""
        if variable in self.environ:
            self.replaced.add(self.environ[variable])
        self.environ[variable], self.origins[variable] = text, where

    def load(self, environ: Mapping[str, str], judge: Callable[[str, str], str] | None = None) -> Loaded:
        """The settings of the service. What `environ` says wins, as it is our caller's word. Raises ConfigError.

        `judge` as in config.load; without one files are judged as the service's user. Without a `judge` a file of
        settings that can't be read is a fault, with one it is left out and stands in `unread`.
        """
        ours = {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
        origins = {name: where for name, where in self.origins.items() if name not in ours}
        origins |= {name: f"your environment {name}" for name in ours}
        config: str | None = self.config or None
        if judge is not None and config and not os.access(config, os.R_OK):
            config = None
        theirs = dict(self.environ)
        faults = []
        for name, where, param, path in self._secrets_in_files(ours):
            if judge is not None and judge(param, path):
                del theirs[name]
            elif judge is None and (why := fault(path, self.user, self.hidden)):
                del theirs[name]
                faults.append(f"{where}: {why}")
        try:
            loaded = load(config, {**theirs, **ours}, origins, judge or self._judge)
        except ConfigError as error:
            raise ConfigError([*faults, *error.faults]) from None
        if faults:
            raise ConfigError(faults)
        return loaded

    def _secrets_in_files(self, ours: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
        """(variable, where it is set, param, path) of each variable that names a file with the value in it."""
        found = []
        for name, path in self.environ.items():
            bare = name.removeprefix(ENVIRONMENT_PREFIX)
            if name not in ours and bare != name and bare.endswith(IN_FILE) and find(bare) is None:
                if (param := find(bare.removesuffix(IN_FILE))) is not None:
                    found.append((name, self.origins.get(name, ""), param.name, path))
        return found

    def _judge(self, param: str, path: str) -> str:
        # systemd reads a credential for the service, with root's rights.
        if self.origins.get(f"{ENVIRONMENT_PREFIX}{param.upper()}", "").startswith("credential "):
            return fault(path)
        return fault(path, self.user, self.hidden)


def service(name: str = NAME, root: str = "/") -> Service | None:
    """The service of this name, if there is one on this machine."""
    if not name.endswith(".service"):
        name += ".service"
    top = Path(root)
    files = _files(name, top)
    if not files:
        return None
    found = Service(name, files=[_shown(path, top) for path in files])
    wants = [each for folder in FOLDERS[:2] for each in (top / folder).glob("*.wants")]
    found.enabled = any(os.path.lexists(each / name) for each in wants)
    lines = [line for path in files for line in _lines(path, _shown(path, top))]
    instance = name.partition("@")[2].removesuffix(".service")
    lines = [Line(line.key, _specified(line.value, name, instance), line.where) for line in lines]
    found.user = _last(lines, "User") or "root"
    hidden = []
    if _last(lines, "ProtectHome") in (*YES, "tmpfs"):
        hidden += ["/home", "/root", "/run/user"]
    if _last(lines, "PrivateTmp") in (*YES, "disconnected"):
        hidden += ["/tmp", "/var/tmp"]
    found.hidden = tuple(hidden)
    if _last(lines, "ProtectSystem") == "strict":
        state = [f"/var/lib/{word}" for line in _of(lines, "StateDirectory") for word in _words(line.value)]
        paths = [word.lstrip("-+") for line in _of(lines, "ReadWritePaths") for word in _words(line.value)]
        found.writable = (*state, *paths)
    found.config = _config(lines) or (PACKAGED if (top / PACKAGED.lstrip("/")).exists() else "")
    if found.config and os.path.exists(found.config) and not os.access(found.config, os.R_OK):
        found.unread.append(f"{found.config}: {os.strerror(errno.EACCES)}")
    _environment(found, lines, top)
    _credentials(found, lines, top)
    return found


# -- units


def _files(name: str, top: Path) -> list[Path]:
    """The unit, then its drop-ins in their order; empty if there is none or it is masked."""
    template = re.sub(r"@.*\.service$", "@.service", name)
    for each in dict.fromkeys((name, template)):
        unit = next((top / folder / each for folder in FOLDERS if (top / folder / each).exists()), None)
        if unit is not None:
            break
    else:
        return []
    if str(unit.resolve()) == os.devnull or not unit.is_file():
        return []
    names = [f"{name}.d", f"{template}.d"]
    parts = name.partition("@")[0].removesuffix(".service").split("-")
    names += [f"{'-'.join(parts[:count])}-.service.d" for count in range(len(parts) - 1, 0, -1)] + ["service.d"]
    drop_ins: dict[str, Path] = {}
    for folder in dict.fromkeys(names):
        for place in FOLDERS:
            for path in sorted((top / place / folder).glob("*.conf")):
                drop_ins.setdefault(path.name, path)
    return [unit, *(path for _, path in sorted(drop_ins.items()) if str(path.resolve()) != os.devnull)]


def _shown(path: Path, top: Path) -> str:
    return f"/{path.relative_to(top)}"


def _lines(path: Path, name: str) -> Iterator[Line]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    section, held, begun = "", "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.lstrip()[:1] in ("#", ";"):
            continue
        begun = begun if held else number
        if raw.endswith("\\"):
            held += raw[:-1] + " "
            continue
        line, held = (held + raw).strip(), ""
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line:
            key, _, value = line.partition("=")
            yield Line(key.strip(), value.strip(), f"{name}:{begun}")


def _specified(text: str, name: str, instance: str) -> str:
    known = {"%i": instance, "%I": instance, "%n": name, "%N": name.removesuffix(".service"), "%%": "%",
             "%p": name.partition("@")[0].removesuffix(".service"), "%S": "/var/lib", "%t": "/run",
             "%E": "/etc"}  # fmt: skip
    return re.sub(r"%[a-zA-Z%]", lambda match: known.get(match[0], match[0]), text)


def _of(lines: list[Line], *keys: str) -> list[Line]:
    """The lines with these keys that are in force: an empty one takes back all before it."""
    found: list[Line] = []
    for line in lines:
        if line.key in keys:
            found = [*found, line] if line.value else [each for each in found if each.key != line.key]
    return found


def _last(lines: list[Line], key: str) -> str:
    found = _of(lines, key)
    return found[-1].value.lower() if found and key != "User" else found[-1].value if found else ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _config(lines: list[Line]) -> str:
    """The file that ExecStart= names."""
    starts = _of(lines, "ExecStart")
    words = _words(starts[-1].value) if starts else []
    for at, word in enumerate(words):
        if word in ("-c", "--config") and at + 1 < len(words):
            return words[at + 1]
        if found := re.fullmatch(r"(?:-c|--config=)(.+)", word):
            return found[1]
    return ""


# -- its environment


def _environment(found: Service, lines: list[Line], top: Path) -> None:
    for line in _of(lines, "Environment"):
        for word in _words(line.value):
            variable, equals, text = word.partition("=")
            if equals:
                found.put(variable, text, f"{line.where}, {variable}")
    for line in _of(lines, "EnvironmentFile"):
        _environment_file(found, line.value, top)
    for line in _of(lines, "UnsetEnvironment"):
        for word in _words(line.value):
            found.replaced.add(found.environ.pop(word.partition("=")[0], ""))


def _environment_file(found: Service, text: str, top: Path) -> None:
    path = top / text.removeprefix("-").lstrip("/")
    for each in sorted(path.parent.glob(path.name)) or [path]:
        shown = _shown(each, top)
        try:
            content = each.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            if not text.startswith("-"):
                found.unread.append(f"{shown}: there is no such file (EnvironmentFile=)")
            continue
        except OSError as error:
            found.unread.append(f"{shown}: {error.strerror}")
            continue
        for number, variable, value in _assignments(content):
            found.put(variable, value, f"{shown}:{number}, {variable}")


def _assignments(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, variable, value) of an environment file."""
    held, begun = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        if not held and (not raw.strip() or raw.lstrip()[:1] in ("#", ";")):
            continue
        begun = begun if held else number
        if raw.endswith("\\") and not raw.endswith("\\\\"):
            held += raw[:-1]
            continue
        line, held = held + raw, ""
        variable, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable.strip()):
            yield begun, variable.strip(), _unquoted(value.strip())


def _unquoted(text: str) -> str:
    """A value as systemd reads it: blanks inside stay, quotes go, `#` is no comment here."""
    if text[:1] not in ("'", '"') and "\\" not in text:
        return text
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace, words.whitespace_split, words.commenters = "", True, ""
    try:
        return "".join(words)
    except ValueError:
        return text


# -- credentials


def _credentials(found: Service, lines: list[Line], top: Path) -> None:
    """As variables: a credential wins over the environment, and each is a setting or is not ours."""
    keys = ("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted")
    given: dict[str, tuple[str, str, str]] = {}
    for key in reversed(keys):  # what is loaded wins over what is set
        for line in _of(lines, key):
            name, _, rest = line.value.partition(":")
            given[name] = (key, rest, line.where)
    for name, (key, rest, where) in given.items():
        param = find(name.upper().replace("-", "_").removeprefix(ENVIRONMENT_PREFIX))
        if param is None:
            continue
        variable = ENVIRONMENT_PREFIX + param.name.upper()
        encrypted = key.endswith("Encrypted")
        path = _stored(rest or name, ENCRYPTED if encrypted else STORES, top) if key.startswith("Load") else None
        origin = f"credential {name}" + (f" from {_shown(path, top)}" if path is not None else "") + f" ({where})"
        if param.kind is FILE and not encrypted and path is not None:
            text = str(path)
            if not os.access(path, os.R_OK):
                found.unread.append(f"{_shown(path, top)} ({key}={name}): {_why(path)}")
                found.replaced.add(found.environ.pop(variable, ""))
                continue
        else:
            content = _content(path, rest, name, encrypted)
            if content is None:
                found.unread.append(f"{_shown(path, top) if path else where} ({key}={name}): {_why(path)}")
                found.replaced.add(found.environ.pop(variable, ""))
                continue
            text = content.rstrip("\r\n")
            if param.kind is FILE:
                found.unread.append(f"{where} ({key}={name}): decrypted for the service alone")
                continue
        if text:
            found.put(variable, text, origin)


def _stored(text: str, stores: tuple[str, ...], top: Path) -> Path:
    if text.startswith("/"):
        return top / text.lstrip("/")
    return next((top / store / text for store in stores if (top / store / text).exists()), top / stores[0] / text)


def _content(path: Path | None, text: str, name: str, encrypted: bool) -> str | None:
    try:
        if not encrypted:
            data = path.read_bytes()[: MAX_VALUE + 2] if path is not None else text.encode()
        elif os.geteuid() == 0 and (program := shutil.which("systemd-creds")):
            command = [program, "decrypt", f"--name={name}", str(path) if path is not None else "-", "-"]
            done = subprocess.run(command, input=b"" if path else text.encode(), capture_output=True,
                                  timeout=DECRYPT_LIMIT, check=False)  # fmt: skip
            if done.returncode:
                return None
            data = done.stdout
        else:
            return None
        return data.decode()
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None


def _why(path: Path | None) -> str:
    if path is None:
        return "can't be decrypted by you"
    try:
        path.open("rb").close()
    except OSError as error:
        return error.strerror or "can't be read"
    return "can't be decrypted by you, or is no text"
