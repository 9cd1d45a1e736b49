"""What modules bring: the interfaces that `show interfaces` lists and MODULE_LOAD and MODULE_UNLOAD tell of.

Pure tables and look-ups. Source: `show interfaces as json` of FreeSWITCH 1.10.12.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from .names import APPLICATIONS


class Interface(NamedTuple):
    """One thing a module brings; `kind` is what FreeSWITCH calls its type."""

    kind: str
    name: str


_BROUGHT: Final = {
    "mod_commands": "json_api:channelData json_api:execute json_api:fsapi json_api:mediaStats json_api:status",
    "mod_conference": "application:conference application:conference_set_auto_outcall api:conference chat:conf",
    "mod_db": "application:db application:group api:db api:group limit:db",
    "mod_dialplan_xml": "dialplan:XML",
    "mod_dptools": "chat:api chat:event dialplan:inline endpoint:error endpoint:group endpoint:pickup endpoint:user "
    "file:file file:file_string",
    "mod_esf": "application:esf_page_group",
    "mod_event_socket": "application:socket api:event_sink",
    "mod_expr": "api:expr",
    "mod_fifo": "application:fifo application:fifo_track_call api:fifo api:fifo_member",
    "mod_hash": "application:hash api:hash api:hash_dump api:hash_remote limit:hash",
    "mod_local_stream": "file:local_stream api:local_stream",
    "mod_loopback": "application:unloop endpoint:loopback endpoint:null",
    "mod_sndfile": "file:au file:gsm file:raw file:ul file:wav",
    "mod_sofia": "application:sofia_sla endpoint:sofia endpoint:rtc chat:sip api:sofia api:sofia_contact",
    "mod_tone_stream": "file:silence_stream file:tone_stream",
    "mod_valet_parking": "application:valet_park api:valet_info",
}
CORE_INTERFACES: Final = frozenset({
    ("codec", "G.711 alaw", "CORE_PCM_MODULE"),
    ("codec", "G.711 ulaw", "CORE_PCM_MODULE"),
    ("timer", "soft", "CORE_SOFTTIMER_MODULE"),
})  # fmt: skip
"""(type, name, ikey) of what is there without any module."""

UNDESCRIBED: Final = frozenset(("blind_transfer_ack", "page"))
"""Applications that `show application` leaves out, because they have no description."""


def _parsed(text: str) -> tuple[Interface, ...]:
    return tuple(Interface(*each.split(":", 1)) for each in text.split())


_TABLE: Final = {module: _parsed(text) for module, text in _BROUGHT.items()}
_OWNERS: Final = {each: module for module, found in _TABLE.items() for each in found}
_CORE_APPLICATIONS: Final = tuple(
    Interface("application", name) for name in sorted(APPLICATIONS) if Interface("application", name) not in _OWNERS
)


def interfaces(module: str) -> tuple[Interface, ...]:
    """What the module brings; one the table does not know brings an API verb of its own name."""
    found = _TABLE.get(module) or (Interface("api", module.removeprefix("mod_")),)
    return found + _CORE_APPLICATIONS if module == "mod_dptools" else found


def owner(kind: str, name: str) -> str:
    """The module that brings it."""
    return _OWNERS.get(Interface(kind, name), "mod_dptools" if kind == "application" else "mod_commands")


def applications(modules: Collection[str]) -> frozenset[str]:
    """Names of the dialplan applications there are while these modules are loaded."""
    return frozenset(name for name in APPLICATIONS if owner("application", name) in modules)
