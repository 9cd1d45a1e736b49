"""The `show` verb: the tables of the switch as text, JSON or XML."""

from __future__ import annotations

import json
import time
from typing import Final
from xml.sax.saxutils import escape

from .api import VERBS, verb
from .channel import Channel
from .interfaces import CORE_INTERFACES, UNDESCRIBED, applications, interfaces, owner
from .switch import Switch
from .text import separate

Row = dict[str, str]

_USAGE: Final = (
    "-USAGE: codec|endpoint|application|api|dialplan|file|timer|calls [count]|channels [count|like <match string>]|"
    "calls|detailed_calls|bridged_calls|detailed_bridged_calls|aliases|complete|chat|management|modules|nat_map|say|"
    "interfaces|interface_types|tasks|limits|status\n"
)


def _channel_row(switch: Switch, channel: Channel) -> Row:
    profile = channel.profile
    created = channel.times.channel_created // 1_000_000
    top = channel.stack[-1] if channel.stack else None
    return {
        "uuid": channel.uuid,
        "direction": channel.direction,
        "created": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created)),
        "created_epoch": str(created),
        "name": channel.name,
        "state": channel.running_state.name,
        "cid_name": profile.caller_name if profile else "",
        "cid_num": profile.caller_number if profile else "",
        "ip_addr": "",
        "dest": profile.destination if profile else "",
        "application": top.application if top else "",
        "application_data": top.argument if top else "",
        "dialplan": profile.dialplan if profile else "",
        "context": profile.context if profile else "",
        "read_codec": "L16",
        "read_rate": "8000",
        "read_bit_rate": "128000",
        "write_codec": "L16",
        "write_rate": "8000",
        "write_bit_rate": "128000",
        "secure": "",
        "hostname": switch.identity.hostname,
        "presence_id": channel.get("presence_id") or "",
        "presence_data": "",
        "accountcode": channel.get("accountcode") or "",
        "callstate": channel.call_state.name,
        "callee_name": profile.callee_name if profile else "",
        "callee_num": profile.callee_number if profile else "",
        "callee_direction": "",
        "call_uuid": channel.get("call_uuid") or channel.uuid,
        "sent_callee_name": "",
        "sent_callee_num": "",
        "initial_cid_name": profile.orig_caller_name if profile else "",
        "initial_cid_num": profile.orig_caller_number if profile else "",
        "initial_ip_addr": "",
        "initial_dest": profile.destination if profile else "",
        "initial_dialplan": profile.dialplan if profile else "",
        "initial_context": profile.context if profile else "",
    }


def _channels(switch: Switch) -> list[Row]:
    with switch.calls.lock:
        return [_channel_row(switch, channel) for channel in switch.calls.all() if channel.profile]


def _calls(switch: Switch) -> list[Row]:
    """One row a call: a leg and what it is bridged with."""
    rows = []
    with switch.calls.lock:
        for channel in switch.calls.all():
            if channel.bridged is not None and not channel.bridge_originator:
                continue
            row = _channel_row(switch, channel)
            peer = channel.bridged
            other = _channel_row(switch, peer) if peer else dict.fromkeys(row, "")
            rows.append(row | {f"b_{name}": value for name, value in other.items()})
    return rows


def _applications(switch: Switch, names: list[str]) -> list[Row]:
    """Only those that have a description, as FreeSWITCH has it."""
    return [
        {"name": name, "description": f"Execute {name}", "syntax": "", "ikey": owner("application", name)}
        for name in sorted(applications(switch.modules) - UNDESCRIBED)
        if not names or name in names
    ]


def _interfaces(switch: Switch, kind: str = "") -> list[Row]:
    found = [("api", name, owner("api", name)) for name in VERBS if owner("api", name) in switch.modules]
    for module in switch.modules:
        found += [(each.kind, each.name, module) for each in interfaces(module)]
    return [
        {"type": each, "name": name, "ikey": module}
        for each, name, module in sorted({*found, *CORE_INTERFACES})
        if kind in ("", each)
    ]


def _rows(switch: Switch, table: str, rest: list[str]) -> list[Row] | None:
    if table == "channels":
        rows = _channels(switch)
        if rest[:1] == ["like"] and len(rest) > 1:
            wanted = rest[1].strip("%")
            return [row for row in rows if any(wanted in row[key] for key in ("uuid", "name", "cid_name", "cid_num"))]
        return rows
    if table in ("calls", "detailed_calls", "bridged_calls", "detailed_bridged_calls"):
        return [row for row in _calls(switch) if "bridged" not in table or row["b_uuid"]]
    names = [word for word in rest[:1] if word != "as"]
    if table == "application":
        return _applications(switch, names)
    if table == "api":
        return [
            {"name": name, "description": name, "syntax": "", "ikey": owner("api", name)}
            for name in sorted(VERBS)
            if not names or name in names
        ]
    if table in ("modules", "module"):
        return [
            {"type": "generic", "name": module, "ikey": module, "filename": f"/usr/lib/freeswitch/mod/{module}.so"}
            for module in sorted(switch.modules)
        ]
    if table in ("registrations", "aliases", "complete", "tasks", "nat_map", "limits"):
        return []
    if table.startswith("interface") and table != "interface_types":
        return _interfaces(switch)
    if table in ("codec", "endpoint", "dialplan", "file", "timer", "chat", "say", "management"):
        return _interfaces(switch, table)
    return None


@verb("show")
def show(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=6)
    if not words:
        return _USAGE
    table, rest = words[0].lower(), words[1:]
    if table.startswith("status"):
        return switch.execute("status", "").output
    rows = _rows(switch, table, rest)
    if rows is None:
        return _USAGE
    form = rest[rest.index("as") + 1] if "as" in rest[:-1] else "delim"
    if rest[:1] == ["count"]:
        return {
            "json": f'{{"row_count":{len(rows)},"rows":[]}}',
            "xml": f'<result row_count="{len(rows)}"/>\n',
        }.get(form.lower(), f"\n{len(rows)} total.\n")
    if form.lower() == "json":
        if not rows:
            return '{"row_count": 0}\n'
        return json.dumps({"row_count": len(rows), "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    if form.lower() == "xml":
        return _xml(rows)
    if form.lower() not in ("delim", "csv"):
        return f"-ERR Cannot find format {form}\n"
    lines = [",".join(rows[0])] if rows else []
    lines += [",".join(row.values()) for row in rows]
    return "".join(f"{line}\n" for line in lines) + f"\n{len(rows)} total.\n"


def _xml(rows: list[Row]) -> str:
    if not rows:
        return '<result row_count="0"/>\n'
    out = [f'<result row_count="{len(rows)}">']
    for number, row in enumerate(rows, 1):
        out.append(f'  <row row_id="{number}">')
        out += [f"    <{name}>{escape(value)}</{name}>" for name, value in row.items()]
        out.append("  </row>")
    return "\n".join([*out, "</result>\n"])
