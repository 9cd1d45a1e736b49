"""Where event-agentctl connects to: its options, else the environment, else as the agent on this machine does (its
unit, /etc/default/event-agent, its file), else the default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from event_agent.client.client import Client
from event_agent.config.load import ENVIRONMENT_PREFIX, Loaded, load
from event_agent.config.table import PARAMS, Settings
from event_agent.config.unit import NAME as UNIT
from event_agent.config.unit import Service, service
from event_agent.errors import ConfigError
from event_agent.protocol.subjects import VERBS

DEFAULT_FILE = "/etc/event-agent/event_agent.conf.xml"
# What a connection is made of; the rest of the environment is the daemon's business, faults in it too.
CONNECTION = ("url", "host", "subject_prefix", "token", "nkey_seed", "nkey", "creds",
              "tls_ca", "tls_cert", "tls_key", "tls_verify", "lanes")  # fmt: skip


def client(options: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    """A client, not yet connected, for the options url, token, creds, prefix, verbs and config. Raises ConfigError."""
    return Client.of(with_options(options, settings_of(options, environ)))


def with_options(options: argparse.Namespace, settings: Settings) -> Settings:
    """These settings with what the options say instead. Raises ConfigError."""
    changes: dict[str, Any] = {}
    if options.url is not None:
        changes["url"] = _read("url", options.url, "--url")
        if any(urlsplit(url).username for url in changes["url"]):
            # Who says whom to be there does not mean to be somebody else as well.
            changes |= {"token": "", "nkey_seed": "", "creds": ""}
    if options.token is not None:
        changes |= {"token": _read("token", options.token, "--token"), "nkey_seed": "", "creds": ""}
    if options.creds is not None:
        changes["creds"] = options.creds
    if options.prefix is not None:
        changes["subject_prefix"] = _read("subject_prefix", options.prefix, "--prefix")
        if changes["subject_prefix"] != options.prefix:
            raise ConfigError([f"--prefix must be {PARAMS['subject_prefix'].allowed}"])
    if options.verbs:
        changes["lanes"] = VERBS
    return replace(settings, **changes)


def settings_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The agent's settings as far as this tool needs them. Raises ConfigError.

    Unless they are told from where, they are those of the service on this machine, as far as we may read them.
    """
    return loaded_of(options, environ).settings


def loaded_of(options: argparse.Namespace, environ: Mapping[str, str], whole: bool = False) -> Loaded:
    """As `settings_of`, with the source of each. `whole`: the environment as the agent would read it."""
    ours = {
        name: value
        for name, value in environ.items()
        if whole
        or not name.startswith(ENVIRONMENT_PREFIX)
        or name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("-", "_").removesuffix("_file") in CONNECTION
    }
    if options.config is not None:
        return load(options.config, ours)
    if (found := own_service(options, environ)) is not None:
        return found.load(ours, _for_us)
    # The agent's file may hold secrets, and then not everybody may read it.
    if not os.access(DEFAULT_FILE, os.R_OK):
        return load(None, ours)
    try:
        return load(DEFAULT_FILE, ours)
    except ConfigError:
        # It may name files that only the agent may read. Who says where to connect does not need it.
        if not elsewhere(options, environ):
            raise
        return load(None, ours)


def elsewhere(options: argparse.Namespace, environ: Mapping[str, str]) -> bool:
    """Whether our caller says where to connect."""
    named = any(environ.get(f"{ENVIRONMENT_PREFIX}{name}") for name in ("URL", "HOST"))
    return options.url is not None or options.config is not None or named


def own_service(options: argparse.Namespace, environ: Mapping[str, str]) -> Service | None:
    """The service on this machine, unless our caller means something else. Raises ConfigError."""
    if elsewhere(options, environ):
        return None
    unit = getattr(options, "unit", "")  # not every program that connects so has the option
    found = service(unit or UNIT)
    if found is None and unit:
        raise ConfigError([f"there is no unit {unit} on this machine"])
    return found


def not_read(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """What of the service's settings we had to go without, as a sentence; empty if there is none."""
    try:
        found = own_service(options, environ)
    except ConfigError:
        return ""
    if found is None or not found.unread:
        return ""
    return f"tried without what you may not read: {', '.join(found.unread)}: {_LEAVE}"


def _for_us(_: str, path: str) -> str:
    return f"{path} can't be read by you: {_LEAVE}" if not os.access(path, os.R_OK) else ""


_LEAVE = "use sudo, or: sudo adduser $USER event-agent"


def _read(name: str, text: str, option: str) -> Any:
    try:
        return PARAMS[name].read(text)
    except ValueError as fault:
        raise ConfigError([f"{option}: {fault}"]) from None
