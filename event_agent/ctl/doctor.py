"""`event-agentctl doctor`: all that can be wrong between FreeSWITCH, this machine's agent and NATS, on one page, each
with what to do. It asks and looks; it changes nothing.
"""

from __future__ import annotations

import argparse
import http.client
import os
import pwd
import socket
import sys
import time
from collections.abc import Mapping

from event_agent import __version__
from event_agent.client.client import AgentTimeout, Client, NoAgent
from event_agent.config.load import Loaded
from event_agent.config.table import Settings
from event_agent.config.unit import Service
from event_agent.ctl.connection import loaded_of, not_read, own_service, with_options
from event_agent.ctl.nodes import GATHER_TIMEOUT, SETTLE, node_of
from event_agent.ctl.service import State, output, state_of
from event_agent.ctl.stream import StreamError, found_stream
from event_agent.ctl.troubles import FEW, of_agents
from event_agent.ctl.views import columns_of, number, safe, some
from event_agent.drivers.segments import SpoolError, look
from event_agent.errors import ConfigError, LinkError
from event_agent.probe import nats
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding, page, worst
from event_agent.protocol.subjects import slug

LIMIT = 3.0  # seconds for an answer of the agent's listener
LITTLE = 100 * 1024 * 1024  # bytes free on the disk of the state


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the page; 0 if nothing is at fault, 1 if something is, 2 if the settings can't be read."""
    head = f"event-agentctl {__version__} on {socket.gethostname()}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}"
    findings = examine(options, environ)
    print(safe("\n".join((head, "", page(findings, columns_of(sys.stdout)))), lines=True), end="")
    return int(worst(findings) == FAULT)


def examine(options: argparse.Namespace, environ: Mapping[str, str]) -> list[Finding]:
    """All that is found, in the order in which one would look."""
    try:
        found = own_service(options, environ)
        state = state_of(found.name) if found is not None else None
        service = _service(found, state)
        loaded = loaded_of(options, environ, whole=True)
        settings = with_options(options, loaded.settings)
    except ConfigError as error:
        todo = "correct it, then: sudo event-agent --check"
        return [Finding(FAULT, "settings", each, todo) for each in error.faults]
    unread = not_read(options, environ)
    findings = [*service, *_settings(loaded, unread)]
    if unread and loaded.sources["esl_password"] == "default":
        findings.append(Finding(NOTE, "freeswitch", "not tried: you may not read its password"))
    else:
        findings += _freeswitch(settings, loaded)
    links = nats.look(settings, loaded.sources)
    findings += links
    if any(each.level == OK for each in links):
        findings += _agents(settings, found is not None or bool(settings.node_id))
    if found is not None:
        findings += _listener(settings, state) + _disk(settings, found)
    return findings


def _service(found: Service | None, state: State | None) -> list[Finding]:
    about = "service"
    if found is None:
        return [Finding(NOTE, about, "no agent on this machine, or another is meant: links and nodes alone")]
    if state is None:
        return [Finding(NOTE, about, f"{found.name}: there is no systemd to ask")]
    if not state.runs:
        words = output("journalctl", "--quiet", "-u", found.name, "-p", "warning", "-n", "3", "-o", "cat").splitlines()
        words = [f"its log: {line}" for line in words]
        start = f"sudo systemctl {'enable --now' if not found.enabled else 'restart'} {found.name}"
        return [Finding(FAULT, about, f"{found.name} is {state.text}", "\n".join([*words, start]))]
    findings = [Finding(OK, about, f"{found.name} runs since {state.since}: {state.status}")]
    if state.restarts:
        findings.append(Finding(WARNING, about, f"systemd has started it again {state.restarts} times",
                                f"journalctl -u {found.name} -p warning"))  # fmt: skip
    if state.stale:
        todo = f"sudo systemctl daemon-reload && sudo systemctl restart {found.name}"
        findings.append(Finding(WARNING, about, "its unit has changed since systemd read it", todo))
    if not found.enabled:
        todo = f"sudo systemctl enable {found.name}"
        findings.append(Finding(WARNING, about, "it does not start with the machine", todo))
    return findings


def _settings(loaded: Loaded, unread: str) -> list[Finding]:
    findings = [Finding(WARNING, "settings", text) for text in loaded.warnings]
    if unread:
        findings.append(Finding(WARNING, "settings", unread))
    return findings or [Finding(OK, "settings", "they can be used")]


def _freeswitch(settings: Settings, loaded: Loaded) -> list[Finding]:
    try:
        from event_agent.probe import freeswitch
    except ImportError:  # the tool alone, without FreeSWITCH's own module
        return [Finding(NOTE, "freeswitch", "not tried: this installation has no ESL module")]
    return freeswitch.look(settings, loaded.sources)


# -- what the agents say


def _agents(settings: Settings, here: bool) -> list[Finding]:
    about = "agent"
    try:
        with Client.of(settings) as client:
            replies = sorted(client.gather("agent.status", timeout=GATHER_TIMEOUT, settle=GATHER_TIMEOUT * SETTLE),
                             key=node_of)  # fmt: skip
            findings = _stream(client, settings)
            findings += [Finding(WARNING, "stream", f"the stream {name} takes requests and answers them itself",
                                 "keep its subjects to events and cdr") for name in sorted(client.streams)]  # fmt: skip
    except (LinkError, NoAgent, AgentTimeout) as error:
        return [Finding(FAULT, about, f"no agent answers: {error}", "is it running, and with this subject_prefix?")]
    name = slug(settings.node_id)
    ours = [reply for reply in replies if name and slug(node_of(reply)) == name]
    if here and name and not ours:
        names = some([node_of(reply) for reply in replies], most=FEW) or "nobody"
        findings.append(Finding(FAULT, about, f"{settings.node_id} does not answer over NATS; there: {names}",
                                "sudo systemctl restart event-agent; compare url and subject_prefix"))  # fmt: skip
    if len(ours) > 1:
        text = f"{len(ours)} agents are called {settings.node_id}: each carries out what is sent to it"
        findings.append(Finding(FAULT, about, text, "give each its own node_id"))
    return findings + of_agents(replies)


def _stream(client: Client, settings: Settings) -> list[Finding]:
    """The stream that stores the events, if they are to be stored."""
    if settings.events_delivery != "at_least_once":
        return []
    try:
        name, faults = found_stream(client, settings.stream)
    except (StreamError, AgentTimeout) as error:
        return [Finding(FAULT, "stream", f"events wait: {error}", "event-agentctl stream create")]
    return [Finding(WARNING, "stream", f"{name}: {fault}") for fault in faults] or [
        Finding(OK, "stream", f"{name} takes the events")
    ]


# -- this machine


def _listener(settings: Settings, state: State | None) -> list[Finding]:
    about = "listener"
    if settings.http_listen is None or state is None or not state.runs:
        return []
    host, port = settings.http_listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    where = f"{host}:{port} (http_listen)"
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT)
    try:
        connection.request("GET", "/live")
        answer = connection.getresponse()
        text = answer.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return [Finding(FAULT, about, f"nothing answers on {where}: {error}", "no park mode, /health or /metrics: "
                        "journalctl -u event-agent -p warning")]  # fmt: skip
    finally:
        connection.close()
    if not text.startswith("{"):
        todo = f"ss -ltnp 'sport = :{port}' names it; set http_listen to another port"
        return [Finding(FAULT, about, f"another program answers on {where}", todo)]
    return [Finding(OK if answer.status == 200 else FAULT, about, f"{where}: /live says {answer.status}",
                    "" if answer.status == 200 else "sudo systemctl restart event-agent")]  # fmt: skip


def _disk(settings: Settings, found: Service) -> list[Finding]:
    findings = []
    about = "disk"
    folders = [folder for folder in (settings.state_dir, settings.spool_dir) if folder]
    for folder in folders:
        if found.writable is not None and not any(f"{folder}/".startswith(f"{each}/") for each in found.writable):
            text = f"the service may not write to {folder} (ProtectSystem=strict)"
            todo = f"sudo systemctl edit {found.name}: [Service] ReadWritePaths={folder}"
            findings.append(Finding(FAULT, about, text, todo))
        elif os.path.isdir(folder) and not _owned(folder, found.user):
            findings.append(Finding(FAULT, about, f"{folder} does not belong to {found.user}: nothing is kept there",
                                    f"sudo chown {found.user}: {folder}"))  # fmt: skip
        elif os.path.isdir(folder):
            space = os.statvfs(folder)
            free = space.f_bavail * space.f_frsize
            if free < LITTLE or not space.f_favail and space.f_files:
                what = f"{free // 1024 // 1024} MB" if free < LITTLE else "no inode"
                findings.append(Finding(FAULT, about, f"{what} left on the disk of {folder}: events that wait, park "
                                        "mode and records can't be kept", f"df -h {folder}"))  # fmt: skip
    spool = settings.spool_folder
    if spool and os.access(spool, os.R_OK | os.X_OK):
        try:
            waits = look(spool)
        except SpoolError as error:
            findings.append(Finding(WARNING, about, str(error)))
        else:
            if waits.records:
                findings.append(Finding(WARNING, about, f"{number(waits.records)} events wait in {spool}",
                                        "event-agentctl spool show; is the stream there?"))  # fmt: skip
    return findings or [Finding(OK, about, f"room, and nothing waits in {settings.state_dir or 'memory'}")]


def _owned(folder: str, user: str) -> bool:
    """Whether a folder is the user's, so that it may write there."""
    if user in ("", "root"):
        return True
    try:
        return os.stat(folder).st_uid == pwd.getpwnam(user).pw_uid
    except (KeyError, OSError):
        return True  # it can't be said
