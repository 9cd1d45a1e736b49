"""Agents that are none: one connection to NATS that answers for many nodes, and makes calls come and go on them.

For the panel with more nodes than a machine carries switches. What they say has the form and the size of what real
agents say; nothing else is behind it.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import threading
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

FILLER = {f"variable_filler_{number:02}": "x" * 40 for number in range(22)}  # an event has some 2.5 kB
PHONES = 5  # registered on each node
LATE = 0.5  # seconds by which the load may be behind before it is given up


class Fleet:
    """`nodes` agents with `channels` between them; `rate` calls a second begin, each in the place of an old one."""

    def __init__(self, url: str, nodes: int = 100, channels: int = 10_000, rate: float = 50.0) -> None:
        where = urlsplit(url)
        self.names = [f"fs-{number:03}" for number in range(nodes)]
        self.rate = rate
        self.made = 0
        """Calls made since the start."""
        self.sent = 0
        """Events sent."""
        self._slugs = {name.replace("-", "_"): name for name in self.names}
        self._socket = socket.create_connection((where.hostname or "127.0.0.1", where.port or 4222), 10)
        self._file = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._numbers = itertools.count(1)
        self._sequence = itertools.count(1)
        self._chance = random.Random(1)
        self._calls: dict[str, deque[tuple[dict[str, str], ...]]] = {name: deque() for name in self.names}
        self._order: deque[str] = deque()
        for _ in range(channels // 2):
            self._add(self._chance.choice(self.names))
        self._put(b'CONNECT {"verbose":false,"protocol":1,"headers":true,"no_responders":true}\r\n'
                  b"SUB freeswitch.api 1\r\nSUB freeswitch.node.> 2\r\nPING\r\n")  # fmt: skip
        while self._file.readline().strip() != b"PONG":
            pass
        self._socket.settimeout(None)
        self._threads = [threading.Thread(target=self._answer, name="fleet-answers", daemon=True)]
        if rate:
            self._threads.append(threading.Thread(target=self._churn, name="fleet-calls", daemon=True))

    def start(self) -> Fleet:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Fleet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- calls

    def _add(self, node: str) -> tuple[dict[str, str], ...]:
        number = next(self._numbers)
        now = str(time.time_ns() // 1000 - self._chance.randrange(120_000_000))
        caller = f"4930{number:07}"
        waits = number % 5 == 0
        first = {
            "Unique-ID": f"a0000000-0000-4000-8000-{number:012}", "Channel-Name": f"sofia/internal/{caller}@10.0.0.1",
            "Call-Direction": "inbound", "Caller-Caller-ID-Name": f"Caller {number}",
            "Caller-Caller-ID-Number": caller, "Caller-Destination-Number": f"7{number % 40:03}",
            "Caller-Context": "public", "Caller-Channel-Created-Time": now, "Channel-Call-UUID": f"a-{number}",
        }  # fmt: skip
        legs: tuple[dict[str, str], ...] = (first,)
        if not waits:
            second = first | {
                "Unique-ID": f"b0000000-0000-4000-8000-{number:012}", "Call-Direction": "outbound",
                "Channel-Name": f"sofia/internal/{1000 + number % 500}@10.0.0.2", "Other-Type": "originator",
                "Other-Leg-Unique-ID": first["Unique-ID"], "Channel-Call-UUID": first["Unique-ID"],
            }  # fmt: skip
            legs = (first, second)
        self._calls[node].append(legs)
        self._order.append(node)
        return legs

    def _call(self, node: str) -> list[tuple[str, bytes]]:
        """The events of a new call, and of the end of an old one."""
        ended = self._order.popleft()
        gone = self._calls[ended].popleft()
        found = [self._event("CHANNEL_HANGUP_COMPLETE", ended, leg, state="CS_REPORTING", call="HANGUP",
                             more={"Hangup-Cause": "NORMAL_CLEARING"}) for leg in gone]  # fmt: skip
        legs = self._add(node)
        for leg in legs:
            found += [self._event(name, node, leg, state="CS_INIT", call="RINGING")
                      for name in ("CHANNEL_CREATE", "CHANNEL_STATE", "CHANNEL_CALLSTATE")]  # fmt: skip
        if len(legs) == 1:
            return [*found, self._event("CHANNEL_PARK", node, legs[0], state="CS_EXECUTE", call="RINGING")]
        ends = dict(zip(("Bridge-A-Unique-ID", "Bridge-B-Unique-ID"), (leg["Unique-ID"] for leg in legs), strict=True))
        for name in ("CHANNEL_ANSWER", "CHANNEL_EXECUTE"):
            found += [self._event(name, node, leg, state="CS_EXECUTE", call="ACTIVE") for leg in legs]
        found.append(self._event("CHANNEL_BRIDGE", node, legs[0], state="CS_EXECUTE", call="ACTIVE", more=ends))
        return found

    def _event(
        self, name: str, node: str, leg: dict[str, str], *, state: str, call: str, more: dict[str, str] | None = None
    ) -> tuple[str, bytes]:
        now = time.time_ns() // 1000
        headers = {"Event-Name": name, "Event-Sequence": str(next(self._sequence)), "Event-Date-Timestamp": str(now),
                   "Channel-State": state, "Channel-Call-State": call, **leg, **(more or {}), **FILLER}  # fmt: skip
        event = {"event_name": name, "timestamp": now, "node_id": node, "uuid": leg["Unique-ID"], "headers": headers}
        return "freeswitch.events." + name.lower().replace("_", "."), json.dumps(event).encode()

    def _churn(self) -> None:
        began = time.monotonic()
        for number in itertools.count(1):
            late = time.monotonic() - began - number / self.rate
            if late > LATE:
                began += late  # the machine can't carry it: what was missed is not made up for
            if self._stopping.wait(max(0.0, -late)):
                return
            events = self._call(self._chance.choice(self.names))
            self.made += 1
            self.sent += len(events)
            self._put(b"".join(_publish(subject, data) for subject, data in events))

    # -- answers

    def _put(self, data: bytes) -> None:
        with self._lock:
            self._socket.sendall(data)

    def _answer(self) -> None:
        while line := self._file.readline():
            if line.startswith(b"PING"):
                self._put(b"PONG\r\n")
            if not line.startswith((b"MSG ", b"HMSG ")):
                continue
            words = line.decode().split()
            body = self._file.read(int(words[-1]) + 2)
            start = int(words[-2]) if words[0] == "HMSG" else 0
            lane, reply = words[1], words[3]
            request = json.loads(body[start:])
            names = self.names if lane == "freeswitch.api" else [self._slugs.get(lane.rpartition(".")[2], "")]
            for name in names:
                if name:
                    self._reply(reply, name, request)

    def _phones(self, name: str) -> str:
        first = self.names.index(name) * PHONES
        rows = [{"reg_user": str(1000 + number), "realm": "10.0.0.2"} for number in range(first, first + PHONES)]
        return json.dumps({"row_count": len(rows), "rows": rows})

    def _reply(self, inbox: str, name: str, request: dict[str, Any]) -> None:
        calls = list(self._calls[name])
        data: object = ""
        if request["command"] == "agent.status":
            sessions = sum(map(len, calls))
            data = {
                "version": "1.1.0", "uptime": 60, "events_dropped": 0, "applications_waiting": 0,
                "freeswitch": {"connected": True, "version": "1.10.12", "since": 1},
                "readiness": {"ready": True, "reasons": [], "sessions": sessions, "max_sessions": 1000,
                              "idle_cpu": 90.0, "sessions_per_second": 1, "drained": False},
                "dialplan": {"available": True, "mode": "park", "audio": "ringback", "auto_answer": False,
                             "context": [], "number": "", "except": [], "binding": "ok",
                             "calls_parked": 0, "calls_parked_total": self.made},
            }  # fmt: skip
        elif request.get("args") == "channels as json":
            rows = [_row(leg, legs) for legs in calls for leg in legs]
            data = json.dumps({"row_count": len(rows), "rows": rows})
        elif request["command"] == "show":
            data = self._phones(name)
        answer = json.dumps({"success": True, "message": "done", "node_id": name, "data": data}).encode()
        self._put(_publish(inbox, answer))


def _publish(subject: str, data: bytes) -> bytes:
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(data), data)


def _row(leg: dict[str, str], legs: tuple[dict[str, str], ...]) -> dict[str, str]:
    return {
        "uuid": leg["Unique-ID"], "direction": leg["Call-Direction"], "name": leg["Channel-Name"],
        "created_epoch": leg["Caller-Channel-Created-Time"][:-6], "state": "CS_EXECUTE",
        "cid_name": leg["Caller-Caller-ID-Name"], "cid_num": leg["Caller-Caller-ID-Number"],
        "dest": leg["Caller-Destination-Number"], "context": leg["Caller-Context"],
        "application": "park" if len(legs) == 1 else "bridge", "application_data": "",
        "callstate": "RINGING" if len(legs) == 1 else "ACTIVE", "call_uuid": legs[0]["Unique-ID"],
        "initial_cid_name": leg["Caller-Caller-ID-Name"], "initial_cid_num": leg["Caller-Caller-ID-Number"],
    }  # fmt: skip
