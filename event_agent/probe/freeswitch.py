"""FreeSWITCH's side: is it there, does it let us in, does its clock agree, has it what we need."""

from __future__ import annotations

import time
from collections.abc import Mapping

from event_agent.config.table import Settings
from event_agent.errors import LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.connection import Connection, NotListed, Refused
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding

ABOUT = "freeswitch"
LIMIT = 5.0  # seconds for each step
APART = 2.0  # seconds by which two clocks may differ
LOOPBACK = ("127.", "::1", "localhost")
RELOAD = 'fs_cli -x "reload mod_event_socket"'


def look(settings: Settings, sources: Mapping[str, str]) -> list[Finding]:
    """What there is to say; `sources` says where each setting is from."""
    try:
        connection = Connection(settings.esl_host, settings.esl_port, settings.esl_password, LIMIT)
    except NotListed as error:
        todo = f"in event_socket.conf.xml let apply-inbound-acl name a list that has this machine, then: {RELOAD}"
        return [Finding(FAULT, ABOUT, str(error), todo)]
    except Refused as error:
        todo = f"esl_password ({sources.get('esl_password', 'default')}) must be the password in event_socket.conf.xml"
        return [Finding(FAULT, ABOUT, str(error), todo)]
    except LinkError as error:
        todo = (
            "is it running (fs_cli -x status there)? Compare listen-ip and listen-port in event_socket.conf.xml with "
            f"esl_host ({sources.get('esl_host', 'default')}) and esl_port ({sources.get('esl_port', 'default')})"
        )
        return [Finding(FAULT, ABOUT, str(error), todo)]
    try:
        return _inside(connection, settings)
    except LinkError as error:
        return [Finding(FAULT, ABOUT, f"{_where(settings)}: {error}")]
    finally:
        connection.close()


def _where(settings: Settings) -> str:
    return f"FreeSWITCH at {settings.esl_host}:{settings.esl_port}"


def _inside(connection: Connection, settings: Settings) -> list[Finding]:
    def ask(verb: str, args: str = "") -> str:
        return connection.ask(wire.api(verb, args), LIMIT).text.strip()

    version = ask("version")
    if version.startswith("-ERR"):
        return [Finding(WARNING, ABOUT, f"{_where(settings)} lets us in and knows no commands: it is still starting, "
                        "or mod_commands is not loaded, or not in its interface-allowlist (switch.conf.xml)",
                        'fs_cli -x "load mod_commands"')]  # fmt: skip
    short = version.removeprefix("FreeSWITCH Version ").partition(" ")[0].partition("~")[0]
    found = [Finding(OK, ABOUT, f"{_where(settings)} lets us in: {short}")]
    if not settings.esl_host.startswith(LOOPBACK) and settings.esl_password == "ClueCon":
        found.append(Finding(WARNING, ABOUT, "the event socket is reached over the network with the password that "
                             "everybody knows", "set another in event_socket.conf.xml and esl_password"))  # fmt: skip
    found += _clock(ask("strepoch"))
    if ask("module_exists", "mod_xml_curl") == "false":
        found.append(Finding(NOTE, ABOUT, "mod_xml_curl is not loaded: no park mode and no routing",
                             'if you want them: <load module="mod_xml_curl"/> in modules.conf.xml, then fs_cli -x '
                             '"load mod_xml_curl"'))  # fmt: skip
    return found


def _clock(answer: str) -> list[Finding]:
    if not answer.isdigit():
        return []
    apart = time.time() - int(answer)  # it counts whole seconds
    if -APART < apart < 1 + APART:
        return []
    return [Finding(WARNING, ABOUT, f"its clock is {abs(apart):.0f} s {'behind' if apart > 0 else 'ahead of'} ours: "
                    "times in events and records are wrong by that", "timedatectl on both machines")]  # fmt: skip
