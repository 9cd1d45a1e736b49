"""NATS's side: each server of `url`, whether it lets us in, which subjects it refuses, what it tells of itself."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from event_agent.config.table import Settings, masked_url
from event_agent.drivers.nats.auth import client_name, credentials
from event_agent.drivers.nats.connection import NatsClient, Observer
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.errors import AgentError, ConfigError, LinkError
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding
from event_agent.protocol.subjects import call_lane, endpoints_of

ABOUT = "nats"
LIMIT = 3.0  # seconds for a server to take a connection, to answer
MOST_ADVERTISED = 16  # servers tried
SMALL_PAYLOAD = 65536  # bytes; an event of FreeSWITCH with many variables has more
AUTHENTICATION = ("token", "nkey_seed", "creds")


class _Heard(Observer):
    def __init__(self) -> None:
        self.complaints: list[str] = []

    def complained(self, text: str) -> None:
        self.complaints.append(text)


def look(settings: Settings, sources: Mapping[str, str]) -> list[Finding]:
    """What there is to say; `sources` says where each setting is from."""
    try:
        ours = credentials(settings.token, settings.nkey_seed, settings.creds)
    except ConfigError as error:
        return [Finding(FAULT, ABOUT, str(error))]
    found: list[Finding] = []
    looked = False
    for url in settings.url:
        heard = _Heard()
        nats = NatsClient(url, name=client_name(), credentials=ours, tls=_tls(settings), observer=heard)
        try:
            begun = time.monotonic()
            nats.connect()
        except LinkError as error:
            found.append(_refused(settings, url, error, sources))
            continue
        try:
            took = (time.monotonic() - begun) * 1000
            version = nats.info.get("version", "?")
            found.append(Finding(OK, ABOUT, f"{masked_url(url)} lets us in: nats-server {version}, in {took:.0f} ms"))
            if not looked:  # the servers of a cluster have the same accounts
                looked = True
                found += _inside(nats, heard, settings)
        except LinkError as error:
            found.append(Finding(FAULT, ABOUT, f"{masked_url(url)} broke off: {error}"))
        finally:
            nats.close()
    return found


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 4222


def _tls(settings: Settings) -> TlsOptions:
    return TlsOptions(settings.tls_ca, settings.tls_cert, settings.tls_key, settings.tls_verify)


def _refused(settings: Settings, url: str, error: LinkError, sources: Mapping[str, str]) -> Finding:
    """A server that can't be used."""
    text = f"{masked_url(url)}: {error}"
    try:
        socket.create_connection(_address(url), LIMIT).close()
    except OSError:
        todo = f"does a NATS server run there, and may this machine reach it? url ({sources.get('url', 'default')})"
        return Finding(FAULT, ABOUT, text, todo)
    used = [f"{name} ({sources.get(name, 'default')})" for name in AUTHENTICATION if getattr(settings, name)]
    if "@" in url:
        used.append(f"the user in url ({sources.get('url', 'default')})")
    todo = f"tried with {', '.join(used)}" if used else "no credentials are set: set token, nkey_seed or creds"
    if url.startswith("tls:"):
        todo += f"\ntls_ca ({sources.get('tls_ca', 'default')}) must be the authority of the server's certificate"
    return Finding(FAULT, ABOUT, text, todo)


def _inside(nats: NatsClient, heard: _Heard, settings: Settings) -> list[Finding]:
    found = []
    size = nats.info.get("max_payload")
    if isinstance(size, int) and size < SMALL_PAYLOAD:
        found.append(Finding(WARNING, ABOUT, f"max_payload is {size} bytes: longer answers are refused, and larger "
                             "events go without their largest parts", "raise max_payload of the server"))  # fmt: skip
    if not nats.info.get("headers"):
        found.append(Finding(NOTE, ABOUT, "no headers: clients wait in vain if nobody listens, and no event is "
                             "acknowledged", "a nats-server of version 2.2 or later"))  # fmt: skip
    found += _permissions(nats, heard, settings)
    if not settings.ignore_discovered:
        found += _advertised(nats.info.get("connect_urls"))
    return found


def _permissions(nats: NatsClient, heard: _Heard, settings: Settings) -> list[Finding]:
    """Each subject is subscribed to and left in one write, so that no request is taken from an agent."""
    prefix, mark = settings.subject_prefix, os.urandom(8).hex()
    endpoints = endpoints_of(prefix, settings.node_id, settings.lanes)
    subjects = [each.subject for each in endpoints]
    optional = {each.subject for each in endpoints if each.optional}
    if settings.call_lanes:
        subjects.append(call_lane(prefix, mark))
    if settings.discovery:
        subjects += ["$SRV.PING", "$SRV.INFO", "$SRV.STATS"]
    if settings.events_delivery == "at_least_once":
        subjects.append(f"_INBOX.{mark}.*")
    lines = "".join(f"SUB {subject} {sid}\r\nUNSUB {sid}\r\n" for sid, subject in enumerate(subjects, 1_000_000))
    nats.send_lines(lines.encode())
    with suppress(AgentError):
        nats.publish(f"_INBOX.{mark}")
    if not nats.flush(LIMIT):
        raise LinkError(nats.reason or "it does not answer")
    refused = [match[1] for text in heard.complaints if (match := re.search(r'Violation.*"(.+?)"', text))]
    if not refused:
        return [Finding(OK, ABOUT, f"we may listen on all {len(subjects)} subjects, and answer")]
    found = []
    for subject in dict.fromkeys(refused):
        what = "publish" if subject.startswith("_INBOX.") else "listen"
        if subject in optional:
            text = f"we may not listen on {subject}: no requests with the command in the subject"
            found.append(Finding(NOTE, ABOUT, text, "if you want them, allow it for the agent's user (SECURITY.md)"))
        else:
            todo = "allow it for the agent's user in the server's file; SECURITY.md has the whole block"
            found.append(Finding(FAULT, ABOUT, f"we may not {what} on {subject}", todo))
    return found


def _advertised(urls: object) -> list[Finding]:
    """The other servers of the cluster: the agent goes there if the first one is away."""
    found = []
    for each in (urls if isinstance(urls, list) else [])[:MOST_ADVERTISED]:
        try:
            socket.create_connection(_address(f"nats://{each}"), LIMIT).close()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            text = f"the cluster advertises {each}, which can't be reached from here: {why}"
            todo = "set client_advertise in that server's file; or ignore_discovered here"
            found.append(Finding(WARNING, ABOUT, text, todo))
    return found

