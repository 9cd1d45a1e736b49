"""`event-agentctl support-bundle`: one file for a bug report, with nothing secret in it.

No file of settings goes in as it is: the settings are those of `--check`, masked. All text passes `Mask`, which takes
out the secrets that are in force, in each way in which they are written, and whatever looks like one. What calls
were about, numbers for instance, may stand in the log's lines: the last line says so.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import html
import http.client
import io
import json
import os
import platform
import re
import socket
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

from event_agent import __version__
from event_agent.client.client import AgentTimeout, Client, NoAgent
from event_agent.config.load import Loaded
from event_agent.config.render import check_report
from event_agent.config.table import MASK, PARAMS, Settings, find
from event_agent.config.unit import Service
from event_agent.ctl.connection import DEFAULT_FILE, loaded_of, own_service, with_options
from event_agent.ctl.doctor import examine
from event_agent.ctl.nodes import GATHER_TIMEOUT, SETTLE
from event_agent.ctl.service import output
from event_agent.ctl.views import safe, to_json
from event_agent.errors import ConfigError, LinkError
from event_agent.probe.findings import page

LIMIT = 3.0  # seconds for an answer of the agent's listener
SHORT = 4  # characters; what is shorter stands for other things as well
MOST = 1 << 16  # bytes of a file with secrets that are looked at
_LIKE_SECRETS = (
    (re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END \1-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"\bS[UAONCX][A-Z2-7]{40,}"), MASK),  # a seed of NATS, whole or cut
    (re.compile(r"\beyJ[\w-]{10,}(?:\.[\w-]+)*"), MASK),  # a JWT
    (re.compile(r"(\w+://)[^\s/@'\"]+@"), rf"\1{MASK}@"),  # user and password in a URL
    (re.compile(r"(?i)([?&](?:key|token|password|secret|sig)=)[^&\s'\"<>]+"), rf"\1{MASK}"),
    # NAME=value, "name": "value", name value="…"; not `token (environment …)`, which says where it is from.
    (re.compile(r"(?i)(?<![\w-])(?<!LoadCredential=)(?<!LoadCredentialEncrypted=)"
                r"([\w-]*(?:password|passwd|passphrase|secret|token|nkey_seed|seed|creds_data|api_?key)[\w-]*"
                r"[\"']?\s*(?:=|:(?!:)|[\"'] value=)\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"), rf"\1{MASK}"),
    (re.compile(r"(?i)(\bauth(?:orization)?:?\s+)(?:bearer\s+|basic\s+)?\S+"), rf"\1{MASK}"),
    (re.compile(r"(?m)^(SetCredential(?:Encrypted)?=[^:\n]*:).*$"), rf"\1{MASK}"),
)  # fmt: skip


_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_SECRET_NAME = re.compile(r"(?i)pass|pw|secret|token|key|seed|cred|auth")


class Mask:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            for line in (secret, *secret.split("\n")):
                text = line.strip()
                if len(text) >= SHORT:
                    forms |= _forms(text)
        # The longest first, so that none is left in part.
        found = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, found))) if found else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, instead in _LIKE_SECRETS:
            text = pattern.sub(instead, text)
        return text


def _forms(text: str) -> set[str]:
    """A secret as it may stand somewhere."""
    data = text.encode(errors="surrogateescape")
    found = {text, quote(text, safe=""), quote(text), quote_plus(text), unquote(text)}
    found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
    found |= {data.hex(), base64.b64encode(data).decode().rstrip("=")}
    found.add(base64.urlsafe_b64encode(data).decode().rstrip("="))
    for old, new in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(old, new)
    return {each for each in found | {text} if len(each) >= SHORT}


def secrets_of(settings: Settings, service: Service | None) -> set[str]:
    """All that must not be shown: of the settings, of the service's environment, and in the files they name."""
    found = {str(getattr(settings, name)) for name, param in PARAMS.items() if param.secret}
    found.discard(str(PARAMS["esl_password"].default))  # everybody knows it
    for url in settings.url:
        parts = urlsplit(url)
        found.add(parts.password or parts.username or "")  # a name without a password is a token
    files = [settings.creds, settings.tls_key]
    files += [str(path) for path in (Path(settings.state_dir) / name for name in ("seal.key", "dialplan.key"))]
    for path in filter(None, files):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found.add(file.read(MOST).decode(errors="replace"))
    if service is not None:
        # Whatever it is called: the environment of a service is where secrets are put.
        known = {f"MOD_EVENT_AGENT_{name.upper()}" for name, param in PARAMS.items() if not param.secret}
        found |= {text for name, text in service.environ.items() if name not in known}
        plain = {text for name, text in service.environ.items() if name in known}
        found |= service.replaced - plain
    return {each for each in found if each not in ("auto", "off", "")}


def secrets_in_file(path: str) -> set[str]:
    """Those in a file of settings, whether they are in force or not and whether the file can be used or not."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    found: set[str] = set()
    for tag in re.findall(r"<[^>]*>", text):
        given = {name: html.unescape(value[1:-1]) for name, value in _ATTRIBUTE.findall(tag)}
        name, value = given.get("name", ""), given.get("value", "")
        if (param := find(name)) is not None and param.secret:
            found.add(value)
        if "url" in name.lower() or "host" in name.lower():
            found |= {unquote(each) for user in re.findall(r"//([^@/]*)@", value) for each in user.split(":")[-1:]}
        variable, equals, value = given.get("data", "").partition("=")
        if equals and _SECRET_NAME.search(variable):
            found.add(value)
    return found


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Write the file and say where it is; returns the exit code."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"event-agent-support-{re.sub(r'[^A-Za-z0-9.-]', '_', socket.gethostname())}-{stamp}"
    path = options.file or f"{name}.tar.gz"
    parts = collected(options, environ)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for title, text in parts.items():
                data = text.encode(errors="replace")
                entry = tarfile.TarInfo(f"{name}/{title}")
                entry.size, entry.mtime = len(data), int(time.time())
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        print(f"event-agentctl: {safe(path)} can't be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{path}: {', '.join(parts)}")
    print("Secrets are masked. Lines of the log and states may name callers: look through it before you send it.")
    return 0


def collected(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """What goes into the file: the text of each part, by its name, masked."""
    loaded: Loaded | None = None
    service: Service | None = None
    faults = ""
    try:
        service = own_service(options, environ)
        loaded = loaded_of(options, environ, whole=True)
        settings = with_options(options, loaded.settings)
    except ConfigError as error:
        faults, settings = "\n".join(error.faults) + "\n", Settings()
    parts = {
        "versions.txt": _versions(),
        "settings.txt": faults or (check_report(loaded) if loaded is not None else ""),
        "doctor.txt": page(examine(options, environ)),
        "status.json": _statuses(settings),
    }
    if settings.http_listen is not None:
        parts |= {f"{name}.txt": _asked(settings.http_listen, f"/{name}") for name in ("health", "metrics")}
    if service is not None:
        parts["unit.txt"] = "".join(f"# {path}\n{_text(path)}\n" for path in service.files)
        parts["service.txt"] = output("systemctl", "show", service.name) + "\n".join(service.unread)
        parts["log.txt"] = output("journalctl", "--quiet", "--no-pager", "-u", service.name, "-n", str(options.lines))
    file = options.config or (service.config if service is not None else DEFAULT_FILE)
    mask = Mask(secrets_of(settings, service) | secrets_in_file(file) | _planted(environ))
    return {name: mask(text) for name, text in parts.items()}


def _planted(environ: Mapping[str, str]) -> set[str]:
    """Secrets of our own environment."""
    known = {f"MOD_EVENT_AGENT_{name.upper()}" for name, param in PARAMS.items() if not param.secret}
    ours = {name: text for name, text in environ.items() if name.startswith("MOD_EVENT_AGENT_")}
    return {text for name, text in ours.items() if name not in known}


def _versions() -> str:
    lines = [f"event-agent {__version__}", f"Python {platform.python_version()}", " ".join(platform.uname())]
    for package in ("event-agent", "python3-nacl", "systemd", "nats-server", "freeswitch"):
        if version := output("dpkg-query", "-W", "-f", "${Version}", package):
            lines.append(f"package {package} {version}")
    with contextlib.suppress(OSError):
        lines.append(Path("/etc/os-release").read_text(encoding="utf-8", errors="replace"))
    return "\n".join(lines) + "\n"


def _statuses(settings: Settings) -> str:
    try:
        with Client.of(settings) as client:
            replies = client.gather("agent.status", timeout=GATHER_TIMEOUT, settle=GATHER_TIMEOUT * SETTLE)
    except (LinkError, NoAgent, AgentTimeout, ConfigError) as error:
        return f"{error}\n"
    return "".join(f"{to_json(reply, pretty=True)}\n" for reply in replies)


def _asked(where: tuple[str, int], path: str) -> str:
    connection = http.client.HTTPConnection(*where, timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return f"{answer.status}\n{answer.read(1 << 20).decode(errors='replace')}\n"
    except (OSError, http.client.HTTPException) as error:
        return f"{error}\n"
    finally:
        connection.close()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{error.strerror}\n"
