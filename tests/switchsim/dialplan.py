"""Where a call goes: the dialplan hook (mod_xml_curl's place) and the dialplan the simulator has by itself.

A hook is asked first, with the very parameters FreeSWITCH would post to an xml_curl listener. It answers the
extension, an empty one for "no route", or None for "not found: use your own dialplan".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .bus import EventBus, Source, Stamp
from .channel import Action, Channel
from .events import flat
from .text import separate

Extension = list[Action]
DialplanHook = Callable[[dict[str, str]], Extension | None]

_REQUEST: Final = Source("mod_dialplan_xml.c", "dialplan_xml_locate", 610)

DEFAULT_CONTEXT: Final[tuple[tuple[str, Extension], ...]] = (
    ("park", [("answer", ""), ("park", "")]),
    ("ring", [("ring_ready", ""), ("park", "")]),
    ("early", [("pre_answer", ""), ("park", "")]),
    ("short", [("answer", ""), ("hangup", "")]),
    ("busy", [("hangup", "USER_BUSY")]),
    ("music|9664", [("answer", ""), ("playback", "local_stream://moh")]),
    (r"\d+", [("answer", ""), ("echo", "")]),
)
"""What `default` holds: a pattern for the whole destination, and the actions. Other contexts hold nothing."""


def request_params(bus: EventBus, channel: Channel, stamp: Stamp) -> dict[str, str]:
    """What FreeSWITCH asks an xml_curl listener about a call that looks for its extension."""
    assert channel.profile is not None
    asked = {"hostname": bus.identity.hostname, "section": "dialplan", "tag_name": "", "key_name": "", "key_value": ""}
    headers = [
        *bus.base_headers("REQUEST_PARAMS", _REQUEST, stamp),
        *channel.headers("REQUEST_PARAMS"),
        *channel.profile.headers("Hunt", channel),
    ]
    return asked | {name: flat(value) for name, value in headers if value}


def own_extension(destination: str, context: str, dialplan: str) -> Extension | None:
    if dialplan.lower() == "inline":
        delimiter = ","
        if destination[:2] == "m:" and destination[3:4] == ":":
            delimiter, destination = destination[2], destination[4:]
        pairs = (each.partition(":") for each in separate(destination, delimiter, 128))
        return [(application.lstrip(" "), argument) for application, _, argument in pairs]
    if context == "default":
        for pattern, actions in DEFAULT_CONTEXT:
            if re.fullmatch(pattern, destination):
                return list(actions)
    return None
