"""API verbs that concern the switch as a whole; those about channels are in api_calls.py, `show` in api_show.py.

A verb is a function (switch, argument) -> output. It runs in the thread of the connection that asked, or in that of a
bgapi, and may block there. `verb` registers it in VERBS.
"""

from __future__ import annotations

import ast
import hashlib
import json
import operator
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import quote, unquote
from uuid import uuid4

from .bus import Source
from .channel import Channel
from .events import Headers, to_bytes
from .interfaces import Interface, interfaces
from .switch import FULL_VERSION, REVISION, VERSION, Switch, Verb
from .text import separate

_BGAPI: Final = Source("mod_commands.c", "bgapi_exec", 5037)

VERBS: Final[dict[str, Verb]] = {}


def verb(name: str) -> Callable[[Verb], Verb]:
    """Registers a function as an API verb."""

    def register(function: Verb) -> Verb:
        VERBS[name] = function
        return function

    return register


# --- what the switch is ----------------------------------------------------------------------------------------


@verb("version")
def version(switch: Switch, argument: str) -> str:
    if "short" in argument:
        return "1.10.12\n"
    return f"FreeSWITCH Version {FULL_VERSION} ({REVISION})\n"


@verb("status")
def status(switch: Switch, argument: str) -> str:
    calls = switch.calls
    return (
        f"UP {switch.up_time()}\n"
        f"FreeSWITCH (Version {VERSION} {REVISION}) is ready\n"
        f"{calls.sessions} session(s) since startup\n"
        f"{len(calls.channels)} session(s) - peak {calls.peak}, last 5min {calls.peak} \n"
        f"0 session(s) per Sec out of max 1000, peak 0, last 5min 0 \n"
        f"{switch.max_sessions} session(s) max\n"
        f"min idle cpu 0.00/98.00\n"
        f"Current Stack Size/Max 240K/8192K\n"
    )


@verb("uptime")
def uptime(switch: Switch, argument: str) -> str:
    seconds = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}.get(argument.lower())
    return "-USAGE: [us|ms|s|m|h|d]\n" if seconds is None else f"{int(switch.uptime / seconds)}\n"


@verb("hostname")
def hostname(switch: Switch, argument: str) -> str:
    return switch.identity.hostname


@verb("switchname")
def switchname(switch: Switch, argument: str) -> str:
    return switch.identity.hostname


@verb("fsctl")
def fsctl(switch: Switch, argument: str) -> str:
    words = separate(argument)
    if not words:
        return "-USAGE: [hupall|pause|resume|shutdown|…]\n"
    what, which = words[0].lower(), words[1].lower() if len(words) > 1 else ""
    directions = {which} if which in ("inbound", "outbound") else {"inbound", "outbound"}
    if what == "pause":
        switch.paused |= directions
    elif what == "resume":
        switch.paused -= directions
    elif what == "pause_check":
        return "true" if directions <= switch.paused else "false"
    elif what == "shutdown_check":
        return "true" if switch.shutting_down else "false"
    elif what == "shutdown":
        switch.shut_down(which)
    elif what == "max_sessions":
        switch.max_sessions = int(which or 0) or switch.max_sessions
        return f"+OK max sessions: {switch.max_sessions}\n"
    return "+OK\n"


@verb("json")
def json_api(switch: Switch, argument: str) -> str:
    try:
        asked = json.loads(argument)
    except ValueError:
        return '{"status":"error","message":"The input is not valid JSON."}'
    if asked.get("command") != "status" or "data" not in asked:
        return json.dumps({**asked, "status": "error", "message": "Invalid request or non-existant command"})
    count = {"total": switch.calls.sessions, "active": len(switch.calls.channels), "limit": switch.max_sessions}
    response = {
        "systemStatus": "ready",
        "sessions": {"count": count, "rate": {"current": 0, "max": 1000}},
        "idleCPU": {"used": 0, "allowed": 98},
    }
    return json.dumps({**asked, "status": "success", "response": response})


# --- text and sums ---------------------------------------------------------------------------------------------


@verb("echo")
def echo(switch: Switch, argument: str) -> str:
    return argument


@verb("md5")
def md5(switch: Switch, argument: str) -> str:
    return hashlib.md5(to_bytes(argument)).hexdigest() if argument else "!err!"


@verb("url_encode")
def url_encode(switch: Switch, argument: str) -> str:
    return quote(argument, safe="-_.!~*'(),/$")


@verb("url_decode")
def url_decode(switch: Switch, argument: str) -> str:
    return unquote(argument)


_SUMS: Final[dict[type[ast.operator] | type[ast.unaryop], Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}


def _sum(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        return _SUMS[type(node.op)](_sum(node.left), _sum(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SUMS:
        return _SUMS[type(node.op)](_sum(node.operand))
    raise ValueError("no sum")


@verb("expr")
def expr(switch: Switch, argument: str) -> str:
    try:
        return f"{_sum(ast.parse(argument.strip(), mode='eval').body):g}"
    except (SyntaxError, ValueError, ZeroDivisionError):
        return "ERR"


@verb("strftime")
def strftime(switch: Switch, argument: str) -> str:
    given = re.match(r"(\d+)\|", argument)
    seconds = int(given[1]) if given else time.time()
    return time.strftime(argument[given.end() if given else 0 :] or "%Y-%m-%d %T", time.localtime(seconds))


@verb("strepoch")
def strepoch(switch: Switch, argument: str) -> str:
    return str(int(time.time()))


@verb("create_uuid")
def create_uuid(switch: Switch, argument: str) -> str:
    return str(uuid4())


@verb("msleep")
def msleep(switch: Switch, argument: str) -> str:
    digits = re.match(r"\d+", argument)
    switch.workers.pause(int(digits[0]) / 1000 if digits else 0)
    return "+OK"


# --- variables -------------------------------------------------------------------------------------------------


@verb("global_getvar")
def global_getvar(switch: Switch, argument: str) -> str:
    if not argument:
        return "".join(f"{name}={value}\n" for name, value in switch.variables.items())
    return switch.variables.get(argument, "")


@verb("global_setvar")
def global_setvar(switch: Switch, argument: str) -> str:
    sides = separate(argument, "=", limit=3)
    if not sides or not sides[0]:
        return "-USAGE: <var>=<value> [=<value2>]\n"
    name, value = sides[0], sides[1] if len(sides) > 1 else ""
    if len(sides) > 2 and sides[2] and switch.variables.get(name, "") != sides[2]:
        return "+OK"
    if value:
        switch.variables[name] = value
    else:
        switch.variables.pop(name, None)
    return "+OK"


def _of_channel(switch: Switch, argument: str) -> tuple[Channel | None, str]:
    """`uuid:<uuid> rest`: the channel that is meant, and the rest."""
    if not argument.lower().startswith("uuid:"):
        return None, argument
    uuid, _, rest = argument[5:].partition(" ")
    return switch.calls.find(uuid), rest


def _lookup(channel: Channel | None) -> Callable[[str], str | None]:
    shown = dict(channel.headers("CHANNEL_DATA")) if channel else {}

    def value(name: str) -> str | None:
        found = shown.get(name) or shown.get(f"variable_{name}")
        return found if isinstance(found, str) else channel.get(name) if channel else None

    return value


@verb("eval")
def evaluate(switch: Switch, argument: str) -> str:
    channel, rest = _of_channel(switch, argument)
    return switch.expand(rest, _lookup(channel))


@verb("expand")
def expand(switch: Switch, argument: str) -> str:
    channel, rest = _of_channel(switch, argument)
    if not rest:
        return "-ERR No input\n"
    name, _, text = rest.partition(" ")
    result = switch.execute(name, switch.expand(text, _lookup(channel)))
    return result.output if result.known else "INVALID COMMAND!\n-ERR Cannot execute command\n"


@verb("bgapi")
def bgapi(switch: Switch, argument: str) -> str:
    name, _, rest = argument.partition(" ")
    if not name:
        return "-ERR Invalid syntax\n"
    job = str(uuid4())
    switch.start_job(name, rest, job, "", _BGAPI)
    return f"+OK Job-UUID: {job}\n"


@verb("hash")
def hash_(switch: Switch, argument: str) -> str:
    words = separate(argument, "/")
    if len(words) < 2:
        return "-USAGE: [insert|insert_ifempty|delete|delete_ifmatch]/<realm>/<key>/<val> | select/<realm>/<key>\n"
    return "" if words[0].lower() == "select" else "+OK\n"


@verb("cond")
def cond(switch: Switch, argument: str) -> str:
    parts = re.fullmatch(r"(.*?)\s*(==|!=)\s*(.*?)\s*\?\s*(.*?)\s*:\s*(.*)", argument)
    if not parts:
        return "-ERR"
    return parts[4] if (parts[1] == parts[3]) == (parts[2] == "==") else parts[5]


# --- configuration and modules ---------------------------------------------------------------------------------

_RELOADXML: Final = Source("switch_xml.c", "switch_xml_open_root", 2423)
_LOAD: Final = Source("switch_loadable_module.c", "switch_loadable_module_process", 449)
_UNLOAD: Final = Source("switch_loadable_module.c", "switch_loadable_module_unprocess", 1410)


def _reload_configuration(switch: Switch) -> None:
    switch.bus.fire("RELOADXML", _RELOADXML)


def _load(switch: Switch, module: str) -> str:
    """Loads a module; returns what is wrong, or nothing."""
    if module in switch.modules:
        return "Module already loaded"
    if not re.fullmatch(r"mod_\w+", module):
        return "module load file routine returned an error"
    switch.modules.add(module)
    for each in interfaces(module):
        switch.bus.fire("MODULE_LOAD", _LOAD, partial(_told, each, module))
    return ""


def _unload(switch: Switch, module: str) -> str:
    if module not in switch.modules:
        return "No such module!"
    switch.modules.discard(module)
    for each in interfaces(module):
        switch.bus.fire("MODULE_UNLOAD", _UNLOAD, partial(_told, each, module))
    return ""


def _told(interface: Interface, module: str) -> Headers:
    """What MODULE_LOAD and MODULE_UNLOAD say; there is one for each interface."""
    return [
        ("type", interface.kind),
        ("name", interface.name),
        ("description", f"{interface.name} of {module}"),
        ("key", module),
        ("filename", f"/usr/lib/freeswitch/mod/{module}.so"),
    ]


@verb("reloadxml")
def reloadxml(switch: Switch, argument: str) -> str:
    _reload_configuration(switch)
    return "+OK [Success]\n"


@verb("reloadacl")
def reloadacl(switch: Switch, argument: str) -> str:
    return "+OK acl reloaded\n"


@verb("module_exists")
def module_exists(switch: Switch, argument: str) -> str:
    return "" if not argument else "true" if argument in switch.modules else "false"


@verb("load")
def load(switch: Switch, argument: str) -> str:
    if not argument:
        return "-USAGE: <mod_name>\n"
    _reload_configuration(switch)
    fault = _load(switch, argument)
    return "+OK Reloading XML\n" + (f"-ERR [{fault}]\n" if fault else "+OK\n")


@verb("unload")
def unload(switch: Switch, argument: str) -> str:
    module = argument.removeprefix("-f").strip()
    if not module:
        return "-USAGE: [-f] <mod_name>\n"
    fault = _unload(switch, module)
    return f"-ERR [{fault}]\n" if fault else "+OK\n"


@verb("reload")
def reload(switch: Switch, argument: str) -> str:
    module = argument.removeprefix("-f").strip()
    if not module:
        return "-USAGE: [-f] <mod_name>\n"
    _reload_configuration(switch)
    out = "+OK Reloading XML\n"
    fault = _unload(switch, module)
    out += f"-ERR unloading module [{fault}]\n" if fault else "+OK module unloaded\n"
    fault = _load(switch, module)
    return out + (f"-ERR loading module [{fault}]\n" if fault else "+OK module loaded\n")


@verb("sofia")
def sofia(switch: Switch, argument: str) -> str:
    line = "=" * 97
    if argument == "xmlstatus gateway":
        return '<?xml version="1.0" encoding="ISO-8859-1"?>\n<gateways>\n</gateways>\n'
    if argument.startswith("status"):
        return (
            f"{'Name':>25s}\t{'Type':>8s}\t{'Data':>40s}\tState\n{line}\n"
            f"{'internal':>25s}\t{'profile':>8s}\t{'sip:mod_sofia@' + switch.identity.ipv4 + ':5060':>40s}\t"
            f"RUNNING (0)\n{line}\n1 profile 0 aliases\n\n"
        )
    return "-ERR Unknown command!\n"
