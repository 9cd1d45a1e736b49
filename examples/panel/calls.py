"""The legs (channels) there are, on all nodes: made from `show channels as json`, kept true by events.

Knows no sockets and no threads; world.py calls it under its lock. Every change comes back as a pair for the page:
("call", the leg) when one is new or different, ("gone", {node, uuid, cause}) when one has ended. The legs that ended
stand in `departed` until somebody takes them from there.

Legs are one call if they are bridged (`other`), if one was made for the other (`origin`), or if they are the two ends
of a loopback (`pair`); the page joins them.

Events do not always come in the order in which things happened (a hangup before the create of the same channel), and
they come while a list is being asked for. So each leg keeps the Event-Sequence of what is known of it, for each part
that events of its own change (`Seen`): the picture is the same in whatever order they come. Legs that ended are
remembered for a while, and a list changes nothing that events have changed since it was asked for.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Container, Mapping
from typing import Any

MOST = 20_000  # legs kept; further ones are counted in `untold`
ENDED = 20_000  # legs remembered after their end
LONGEST = 256  # characters kept of a name, a number, an argument: callers choose them

Leg = dict[str, Any]
Change = tuple[str, dict[str, Any]]
Key = tuple[str, str]  # node id, uuid

CALL_STATES = {
    "DOWN": "new", "DIALING": "ringing", "RINGING": "ringing", "RING_WAIT": "ringing", "EARLY": "early",
    "ACTIVE": "active", "UNHELD": "active", "HELD": "held", "HANGUP": "ended",
}  # fmt: skip
FRESH: Mapping[str, Any] = {
    "parked": False, "ours": False, "other": "", "pair": "", "origin": "", "app": "", "answered": 0, "waits": 0,
    "left": 0, "talked": False, "presence": "", "taking": "", "consult": None,
}  # fmt: skip
BRIDGES = ("bridge", "uuid_bridge")
MEDIA = ("CS_EXCHANGE_MEDIA", "CS_SOFT_EXECUTE")
UNNAMED = "Outbound Call"
OVER = ("CS_HANGUP", "CS_REPORTING", "CS_DESTROY")
ENDS = ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY")


def cut(value: object, longest: int = LONGEST) -> str:
    """A header as text of bounded length; FreeSWITCH's arrays as a list with commas."""
    text = value if isinstance(value, str) else ", ".join(map(str, value)) if isinstance(value, list) else ""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number(value: object) -> int:
    """A header that holds a number; 0 for what does not."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20 else 0


class Seen:
    """What the newest event was that each part of a leg comes from, by Event-Sequence; and by the clock of `Calls`."""

    __slots__ = ("app", "clock", "other", "parked", "whole")

    def __init__(self) -> None:
        self.clock = self.whole = self.parked = self.other = self.app = 0


class Calls:
    """See the module's text."""

    def __init__(self, most: int = MOST) -> None:
        self.departed: list[tuple[Leg, str]] = []
        """Legs that ended, each with its cause."""
        self.untold = 0
        """Events of legs that there was no more room for."""
        self._most = most
        self._legs: dict[Key, Leg] = {}
        self._seen: dict[Key, Seen] = {}
        self._consulting: set[Key] = set()  # legs that wait for a consultation, or did
        self.ended: OrderedDict[Key, int] = OrderedDict()  # when it had been created, in µs
        self._clock = 0

    def mark(self) -> int:
        """To be taken before a list is asked for, and given to `replace` with it."""
        return self._clock

    def all(self) -> list[Leg]:
        return list(self._legs.values())

    def nodes(self) -> set[str]:
        """Those that there are legs of."""
        return {node for node, _ in self._legs}

    # -- events

    def apply(self, event: Mapping[str, Any]) -> list[Change]:
        """What an event changes. Events without a channel change nothing."""
        headers, uuid, node = event.get("headers"), event.get("uuid"), event.get("node_id")
        if not isinstance(headers, dict) or not isinstance(uuid, str) or not isinstance(node, str) or len(uuid) > 255:
            return []
        if "Channel-State" not in headers:
            return []
        self._clock += 1
        key = (node, uuid)
        created = number(headers.get("Caller-Channel-Created-Time"))
        if self._has_ended(key, created):
            return []
        if self._is_end(event["event_name"], headers):
            return self._end(key, cut(headers.get("Hangup-Cause")), created)
        changes = []
        if event["event_name"] == "CHANNEL_UUID" and (old := cut(headers.get("Old-Unique-ID"))):
            changes = self._end((node, old), "", 0)
        leg = self._legs.get(key)
        if leg is None:
            if len(self._legs) >= self._most:
                self.untold += 1
                return changes
            leg = {"node": node, "uuid": uuid, **FRESH}
        told = self._told(event["event_name"], headers, leg, self._seen.setdefault(key, Seen()))
        if told != self._legs.get(key):
            self._legs[key] = told
            changes.append(("call", told))
        return changes + self._pair(event["event_name"], headers, node)

    def _told(self, name: str, headers: Mapping[str, Any], leg: Leg, seen: Seen) -> Leg:
        """The leg as this event has it."""
        sequence = number(headers.get("Event-Sequence"))
        seen.clock = self._clock
        new = dict(leg)
        if sequence >= seen.whole or "since" not in leg:
            seen.whole = sequence
            new |= _headers_of(headers, leg)
        if name in ("CHANNEL_PARK", "CHANNEL_UNPARK", "CHANNEL_BRIDGE") and sequence >= seen.parked:
            seen.parked = sequence
            new["parked"] = name == "CHANNEL_PARK"
            if new["parked"] != leg["parked"]:
                what = "waits" if new["parked"] else "left"
                new[what] = number(headers.get("Event-Date-Timestamp")) or new[what]
        elif name == "CHANNEL_EXECUTE" and sequence >= seen.app:
            seen.app = sequence
            new["app"] = _application(headers.get("Application"), headers.get("Application-Data"))
        return new

    def _pair(self, name: str, headers: Mapping[str, Any], node: str) -> list[Change]:
        """Both legs of a bridge know of each other."""
        if name not in ("CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE"):
            return []
        sequence = number(headers.get("Event-Sequence"))
        legs = [cut(headers.get(f"Bridge-{side}-Unique-ID")) for side in "AB"]
        changes: list[Change] = []
        for uuid, other in (legs, reversed(legs)):
            key = (node, uuid)
            if (leg := self._legs.get(key)) is None:
                continue
            seen = self._seen.setdefault(key, Seen())
            seen.clock = self._clock
            new = dict(leg)
            if name == "CHANNEL_BRIDGE":
                new["talked"] = True
                if sequence >= seen.parked:
                    seen.parked, new["parked"] = sequence, False
                if sequence >= seen.other:
                    gone = (node, other) in self.ended and (node, other) not in self._legs
                    seen.other, new["other"], new["consult"] = sequence, "" if gone else other, None
            elif sequence >= seen.other and leg["other"] in ("", other):
                # FreeSWITCH fires it from the other leg's thread, often when this one is parked already.
                seen.other, new["other"] = sequence, ""
                if not leg["parked"]:
                    new["waits"] = number(headers.get("Event-Date-Timestamp")) or leg["waits"]
            if new != leg:
                self._legs[key] = new
                changes.append(("call", new))
        return changes

    @staticmethod
    def _is_end(name: str, headers: Mapping[str, Any]) -> bool:
        return (
            name in ENDS
            or headers.get("Channel-State") in OVER
            or headers.get("Channel-Call-State") == "HANGUP"
            or headers.get("Answer-State") == "hangup"
        )

    def _has_ended(self, key: Key, created: int) -> bool:
        # The uuid may be used again by a later call, where somebody chooses it: that one was created later.
        return key in self.ended and not created > self.ended[key]

    def _end(self, key: Key, cause: str, created: int = 0) -> list[Change]:
        leg = self._legs.pop(key, None)
        self._seen.pop(key, None)
        self.ended[key] = max(created, leg["since"] if leg else 0)
        self.ended.move_to_end(key)
        while len(self.ended) > ENDED:
            self.ended.popitem(last=False)
        if leg is None:
            return []
        self.departed.append((leg, cause))
        changes: list[Change] = [("gone", {"node": key[0], "uuid": key[1], "cause": cause})]
        other = (key[0], leg["other"])
        if other in self._legs and self._legs[other]["other"] == key[1]:
            self._legs[other] = self._legs[other] | {"other": ""}
            changes.append(("call", self._legs[other]))
        return changes + (self._asked(key) if leg["talked"] else [])

    def _asked(self, key: Key) -> list[Change]:
        """A leg that has talked is gone: who consulted with it knows so."""
        changes: list[Change] = []
        for each in list(self._consulting):
            leg = self._legs.get(each)
            if leg is None or not leg["consult"]:
                self._consulting.discard(each)
            elif (each[0], leg["consult"]["to"]) == key:
                changes += self.note(*each, consult=leg["consult"] | {"ended": True})
        return changes

    def get(self, node: str, uuid: str) -> Leg | None:
        return self._legs.get((node, uuid))

    def note(self, node: str, uuid: str, **fields: Any) -> list[Change]:
        """Write what the panel itself knows of a leg: who is taking it, with whom somebody consults."""
        leg = self._legs.get((node, uuid))
        if leg is None or leg | fields == leg:
            return []
        self._legs[node, uuid] = leg | fields
        if fields.get("consult"):
            self._consulting.add((node, uuid))
        return [("call", leg | fields)]

    # -- lists

    def replace(self, node: str, rows: list[Mapping[str, Any]], mark: int) -> list[Change]:
        """Take over the list of a node's channels that was asked for at `mark`."""
        listed = {row["uuid"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("uuid"), str)}
        ends: dict[tuple[str, ...], str] = {}
        for uuid, row in listed.items():
            end = _end_of(row)
            ends[end] = "" if end in ends else uuid
        made = {str(row.get("call_uuid")): uuid for uuid, row in reversed(listed.items()) if _bridged(row, listed)}
        changes: list[Change] = []
        for key in [key for key in self._legs if key[0] == node and key[1] not in listed]:
            if self._seen[key].clock <= mark:
                changes += self._end(key, "")
        for uuid, row in listed.items():
            key = (node, uuid)
            created = number(row.get("created_epoch")) * 1_000_000
            # The list has whole seconds: one that was created in the second of the other's creation is the same.
            if len(uuid) > 255 or self._has_ended(key, created):
                continue
            if (key in self._seen and self._seen[key].clock > mark) or row.get("state") in OVER:
                continue
            old = self._legs.get(key)
            if old is None and len(self._legs) >= self._most:
                self.untold += 1
                continue
            new = self._listed(node, row, old, listed, made)
            new["pair"] = new["pair"] or ends.get(_end_of(row, {"-a": "-b", "-b": "-a"}), "")
            if new != old:
                self._legs[key] = new
                self._seen.setdefault(key, Seen())
                changes.append(("call", new))
        return changes

    @staticmethod
    def _listed(
        node: str, row: Mapping[str, Any], old: Leg | None, listed: Mapping[str, Mapping[str, Any]],
        made: Mapping[str, str],
    ) -> Leg:  # fmt: skip
        application = row.get("application")
        partner = _partner(row, listed, made) or _still(row, listed, old["other"] if old else "")
        to = _to(row.get("dest"), row.get("dialplan"), old["to"] if old else "")
        # Where a parked caller hears something, the list has that for the application.
        still = old is not None and old["parked"] and not partner and old["to"] == to
        created = number(row.get("created_epoch")) * 1_000_000
        state = CALL_STATES.get(str(row.get("callstate")), "new")
        before = old or FRESH
        return {
            **before,
            "node": node,
            "uuid": row["uuid"],
            **_caller(
                row.get("direction"),
                row.get("cid_name"),
                row.get("cid_num"),
                row.get("initial_cid_name"),
                row.get("initial_cid_num"),
            ),
            "to": to,
            "context": cut(row.get("context")),
            "channel": cut(row.get("name")),
            "direction": "outbound" if row.get("direction") == "outbound" else "inbound",
            "state": state,
            "parked": application == "park" or still,
            "other": partner,
            "origin": before["origin"] or _made_for(row, listed),
            "talked": before["talked"] or bool(partner),
            "presence": before["presence"] or cut(row.get("presence_id")),
            "waits": before["waits"] or created,
            "app": _application(application, row.get("application_data")),
            "since": (old and old["since"]) or created,
            # When it was answered is not in the list; that it was is.
            "answered": (old and old["answered"]) or (created if state in ("active", "held") else 0),
        }

    def waiting(self) -> Counter[str]:
        """How many legs of each node its agent has parked, as far as is known here."""
        return Counter(node for (node, _), leg in self._legs.items() if leg["parked"] and leg["ours"])

    def parked(self, node: str, uuids: Container[str], mark: int) -> list[Change]:
        """Take over which calls an agent says are parked, asked for at `mark`. What others have parked stays so."""
        changes: list[Change] = []
        for key, leg in self._legs.items():
            if key[0] != node or self._seen[key].clock > mark:
                continue
            parked = key[1] in uuids
            if (parked or leg["ours"]) and (leg["parked"], leg["ours"]) != (parked, True):
                self._legs[key] = leg | {"parked": parked, "ours": True}
                changes.append(("call", self._legs[key]))
        return changes

    def forget(self, node: str) -> list[Change]:
        """A node is gone for good."""
        return [change for key in list(self._legs) if key[0] == node for change in self._end(key, "")]


def _headers_of(headers: Mapping[str, Any], leg: Leg) -> Leg:
    """What an event says of its leg as that is now."""
    new = {
        **_caller(
            headers.get("Call-Direction"),
            headers.get("Caller-Caller-ID-Name"),
            headers.get("Caller-Caller-ID-Number"),
            headers.get("Caller-Orig-Caller-ID-Name"),
            headers.get("Caller-Orig-Caller-ID-Number"),
        ),
        "to": _to(headers.get("Caller-Destination-Number"), headers.get("Caller-Dialplan"), leg.get("to", "")),
        "context": cut(headers.get("Caller-Context")),
        "channel": cut(headers.get("Channel-Name")),
        "direction": "outbound" if headers.get("Call-Direction") == "outbound" else "inbound",
        "state": CALL_STATES.get(str(headers.get("Channel-Call-State")), "new"),
        "since": number(headers.get("Caller-Channel-Created-Time")) or leg.get("since", 0),
        "answered": number(headers.get("Caller-Channel-Answered-Time")) or leg["answered"],
        "ours": leg["ours"] or bool(headers.get("variable_event_agent_parked")),
        "pair": cut(headers.get("variable_other_loopback_leg_uuid")) or leg["pair"],
        "origin": _origin(headers, leg["uuid"]) or leg["origin"],
        "presence": cut(headers.get("Channel-Presence-ID")) or leg["presence"],
    }
    return new | {"waits": leg["waits"] or new["since"]}


def _caller(direction: object, name: object, number: object, first_name: object, first_number: object) -> Leg:
    """Who a leg is: name and number.

    When somebody takes a caller out of a park, FreeSWITCH puts the other side's name and number in the place of the
    caller's (switch_channel_flip_cid): then those that the caller came with count. A name that the dialplan has looked
    up for the same number counts. A leg that is called without a name is "Outbound Call" for FreeSWITCH.
    """
    shown, came = cut(number), cut(first_number)
    if direction != "outbound" and came and came != shown:
        return {"name": cut(first_name), "number": came}
    found = cut(name)
    return {"name": "" if direction == "outbound" and found == UNNAMED else found, "number": shown}


def _origin(headers: Mapping[str, Any], uuid: str) -> str:
    """The leg for which this one was made."""
    call = cut(headers.get("Channel-Call-UUID"))
    if call and call != uuid:
        return call
    return cut(headers.get("Other-Leg-Unique-ID")) if headers.get("Other-Type") == "originator" else ""


def _end_of(row: Mapping[str, Any], others: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What tells one end of a loopback from other legs; with `others` the other end of it.

    The list does not say which two belong together: `loopback/9-a` and `-b`, of the same second and the same caller.
    """
    name = str(row.get("name"))
    if others is not None:
        name = name[:-2] + others.get(name[-2:], " ") if name.startswith("loopback/") else ""
    return name, *(str(row.get(key)) for key in ("created_epoch", "initial_cid_name", "initial_cid_num"))


def _application(name: object, data: object) -> str:
    return cut(f"{cut(name)} {cut(data)}".strip())


def _bridged(row: Mapping[str, Any], listed: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a leg talks to the one by whose call it came to be."""
    return row.get("state") == "CS_EXCHANGE_MEDIA" and bool(_made_for(row, listed))


def _made_for(row: Mapping[str, Any], listed: Container[str]) -> str:
    """The leg by whose call this one came to be; "" if there is none in the list."""
    uuid = row.get("call_uuid")
    return uuid if isinstance(uuid, str) and uuid != row["uuid"] and uuid in listed else ""


def _partner(row: Mapping[str, Any], listed: Mapping[str, Mapping[str, Any]], made: Mapping[str, str]) -> str:
    """The uuid of the leg this one is bridged with; `made`: the legs that talk to those by whose calls they came."""
    if _bridged(row, listed):
        return str(row["call_uuid"])
    return made.get(row["uuid"], "") if row.get("application") in BRIDGES else ""


def _still(row: Mapping[str, Any], listed: Mapping[str, Mapping[str, Any]], other: str) -> str:
    """The leg that this one was bridged with, if both may still be; the list does not always say with whom a leg is."""
    return other if other in listed and all(each.get("state") in MEDIA for each in (row, listed[other])) else ""


def _to(number: object, dialplan: object, before: str) -> str:
    """What was called. A leg that was only parted or joined (park, intercept) has what was called before."""
    found = cut(number)
    moved = dialplan == "inline" and (found == "park" or found.startswith("intercept:"))
    return before if moved and before else found


def rows_of(data: object) -> list[Mapping[str, Any]]:
    """The rows in the output of `show channels as json`. ValueError for anything else."""
    try:
        table = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        table = None
    rows = table.get("rows", []) if isinstance(table, dict) and "row_count" in table else None
    if not isinstance(rows, list):
        raise ValueError("FreeSWITCH answered with something else than a table")
    return [row for row in rows if isinstance(row, dict)]


def phones_of(data: object) -> list[str]:
    """Who is registered, by the output of `show registrations as json`: name@domain, each once. ValueError as above."""
    found = {(cut(row.get("reg_user"), 64), cut(row.get("realm"), 128)) for row in rows_of(data)}
    return [f"{user}@{realm}" if realm else user for user, realm in sorted(found) if user]
