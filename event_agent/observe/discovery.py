"""The NATS micro services protocol: how `nats micro` and other tools find this node, and what they are told of it.

Source: ADR-32 of nats-io/nats-architecture-and-design. Questions come on nine subjects and are answered on the
driver's reader thread, from counters that are kept anyway; while FreeSWITCH is unreachable, too. The endpoints are the
command lanes that the node listens on at the moment, with their true queue groups.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import Any

from event_agent import __version__
from event_agent.config.table import Settings
from event_agent.drivers.base import Message, Replies, Reply, RequestSource
from event_agent.freeswitch.link import Switch
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import LANES, Endpoint
from event_agent.runtime.health import Signs
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

NAME = "event-agent"
DESCRIPTION = "FreeSWITCH on NATS: commands in, events out, as JSON"
ROOT = "$SRV"
TYPE = "io.nats.micro.v1"


class Discovery:
    """Answers PING, INFO and STATS, each asked of all services, of those of our name, or of this one."""

    name = "discovery"

    def __init__(
        self,
        settings: Settings,
        source: RequestSource,
        replies: Replies,
        stats: Stats,
        switch: Switch,
        endpoints: list[Endpoint],
        takes_any: Callable[[], bool],
        not_ready: Callable[[], list[str]],
        refused: Callable[[], Container[str]],
    ) -> None:
        """`takes_any`: whether the node listens on the lane `any`; `not_ready`: why it should not.

        `refused`: the subjects on which the broker does not let us listen.
        """
        self._source, self._replies = source, replies
        self._counted = stats
        self._switch = switch
        self._endpoints = endpoints
        self._takes_any = takes_any
        self._not_ready = not_ready
        self._refused = refused
        for each in endpoints:
            stats.count_apart(each.subject)
        self.id = os.urandom(11).hex()  # of this process, for as long as it lives
        self._started = rfc3339(time.time())
        self._metadata = {
            "node_id": settings.node_id or "unknown",
            "subject_prefix": settings.subject_prefix,
            "hostname": socket.gethostname(),
        }

    def start(self) -> None:
        """Subscribe. It ends with the driver: a node that drains still says what it does."""
        for verb, fields in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            answer = partial(self._answer, f"{TYPE}.{verb.lower()}_response", fields)
            for rest in ("", f".{NAME}", f".{NAME}.{self.id}"):
                self._source.subscribe(f"{ROOT}.{verb}{rest}", answer)

    def stop(self, timeout: float) -> None:
        """Its subscriptions end with the driver."""

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    def _answer(self, kind: str, fields: Callable[[], dict[str, Any]], messages: list[Message]) -> None:
        """The questions of one read, all of one kind. Never raises: it would end the loop's watch."""
        try:
            metadata = self._metadata
            if version := self._switch.version:
                metadata = {**metadata, "freeswitch_version": version[:64]}
            head = {"type": kind, "name": NAME, "id": self.id, "version": __version__, "metadata": metadata}
            answer = to_utf8(dump_json({**head, **fields()}))
            replies: list[Reply] = [(message, answer, "") for message in messages if message.reply]
            if replies:
                self._replies.send(replies)
        except Exception:
            log.exception("%s could not be answered", kind)

    def _listening(self) -> Iterator[tuple[Endpoint, dict[str, Any]]]:
        refused = self._refused()
        for each in self._endpoints:
            if each.subject not in refused and (each.lane != "any" or self._takes_any()):
                yield each, {"name": each.name, "subject": each.subject, "queue_group": each.queue}

    @staticmethod
    def _ping() -> dict[str, Any]:
        return {}

    def _info(self) -> dict[str, Any]:
        endpoints = [{**what, "metadata": {"takes": LANES[each.name]}} for each, what in self._listening()]
        return {"description": DESCRIPTION, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        # In `data` stands what changes; metadata is meant to stay, and only a FreeSWITCH of another version changes it.
        data = {
            "freeswitch_connected": self._switch.connected, "freeswitch_events": self._switch.events.connected,
            "not_ready": self._not_ready(),
        }  # fmt: skip
        endpoints, lanes_now = [], self._counted.lanes()
        for each, what in self._listening():
            lane = lanes_now[each.subject]
            requests, nanoseconds = lane.requests, int(lane.seconds * 1e9)
            what |= {
                "num_requests": requests,
                "num_errors": lane.errors,
                "last_error": lane.last_error,
                "processing_time": nanoseconds,
                "average_processing_time": nanoseconds // requests if requests else 0,
                "data": data,
            }
            endpoints.append(what)
        return {"started": self._started, "endpoints": endpoints}


def rfc3339(seconds: float) -> str:
    """A time as ADR-32 has it: in UTC, and with a fraction, without which nats-py would not read it."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"
