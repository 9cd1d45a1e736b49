"""The panel's way to the agents: four threads on one client of event_agent.

panel-events  connects, connects again after a loss, and hands on events.
panel-nodes   asks about every second who is there (agent.status), and those that do not answer once more at once: after
              two questions without an answer, 1.3 s, a node counts as away.
panel-lists   lists the channels of a node when what is known of them may be out of date: a node is new, its FreeSWITCH
              was connected again, NATS was lost, events were dropped; and once a minute, because NATS may drop an event
              without a word. Now and then it asks which phones are registered.
panel-pulse   while a page is open, has every FreeSWITCH answer a question that costs it nothing. An agent knows of one
              that is frozen after up to ten seconds; here it counts as not answering after two questions in a row.

Commands of the pages come in on their own threads (`command`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from event_agent.client import Client, CommandFailed, NoAgent, Reply
from event_agent.errors import AgentError, LinkError
from event_agent.protocol.subjects import slug
from event_agent.runtime.backoff import Backoff

from .calls import phones_of, rows_of
from .world import World

log = logging.getLogger(__name__)

POLL = 0.7  # seconds between two questions for who is there
LISTED = 60.0  # seconds after which a node's channels are listed again in any case
GAP = 1.0  # seconds between two words on events that were dropped
ANSWER = 0.8  # seconds that nodes may take for agent.status
AGAIN = 0.5  # seconds for those that did not answer, and are asked again at once
SETTLE = 0.3  # seconds without a further answer after which all have answered
PROBES = 8  # nodes that did not answer and are asked again, each by itself, in a round
REFUSED = 20.0  # seconds after which a list that was refused is asked for again
REGISTERED = 15.0  # seconds after which a node is asked again which phones are registered
PULSE = 1.0  # seconds between two questions to FreeSWITCH, all of which answer
DOUBT = 0.3  # the same after one that a FreeSWITCH has not answered
BEAT = 1.0  # seconds that FreeSWITCH may take for one
LIST = 10.0  # seconds for a list of channels


class Link:
    """See the module's text."""

    def __init__(self, client: Client, world: World, poll: float = POLL) -> None:
        self._client = client
        self._world = world
        self._poll = poll
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._stale: set[str] = set()  # slugs of nodes to be listed; guarded by the lock
        self._listed: dict[str, float] = {}  # panel-lists' own
        self._registered: dict[str, float] = {}  # panel-lists' own
        self._due = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="panel-events", daemon=True),
            threading.Thread(target=self._watch, name="panel-nodes", daemon=True),
            threading.Thread(target=self._keep_lists, name="panel-lists", daemon=True),
            threading.Thread(target=self._feel, name="panel-pulse", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        self._stopping.set()
        self._wake.set()
        self._due.set()
        self._client.close()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def command(self, request: Mapping[str, Any], node: str | None, timeout: float) -> Reply | None:
        """The reply to a page's command; None for one that wants none. Raises AgentError, ValueError."""
        lane = self._world.lane(node) if node else None
        if request.get("async") is True:
            self._client.send(request, lane)
            return None
        try:
            return self._client.call(request, lane, timeout)
        finally:
            if str(request.get("command", "")).lower().startswith("dialplan."):
                self._wake.set()  # so that all pages see soon what has changed

    # -- panel-events

    def _follow(self) -> None:
        backoff = Backoff(0.2, 5.0)
        while not self._stopping.is_set():
            try:
                self._client.connect()
                self._read(backoff)
            except LinkError as error:
                if self._stopping.is_set():
                    return
                log.info("%s", error)
                self._world.lost(str(error))
            except Exception:
                log.exception("unhandled exception in panel-events")
            self._stopping.wait(backoff.next())

    def _read(self, backoff: Backoff) -> None:
        """Until the link is lost. Raises LinkError."""
        with self._client.events(">") as stream:
            backoff.reset()
            log.info("connected to NATS")
            self._world.linked(",".join(self._client.servers).rpartition("@")[2])
            self._list(*self._world.nodes())
            self._wake.set()
            dropped, said = 0, 0.0
            while not self._stopping.is_set():
                event = stream.next(1.0)
                if event is not None:
                    self._world.event(event)
                    if event["event_name"] == "AGENT_CONNECTED":
                        self._list(str(event.get("node_id")))
                        self._wake.set()
                if stream.dropped != dropped and time.monotonic() > said + GAP:
                    said = time.monotonic()
                    self._gap(stream.dropped - dropped)
                    dropped = stream.dropped

    def _gap(self, events: int) -> None:
        """Events were lost on the way from NATS to us: say so in the list of events too."""
        text = f"{events} events came faster than the panel could read them"
        log.warning("%s", text)
        headers = {"Event-Info": text}
        now = time.time_ns() // 1000
        self._world.event({"event_name": "EVENTS_DROPPED", "node_id": "", "timestamp": now, "headers": headers})
        self._list(*self._world.nodes())

    def _list(self, *nodes: str) -> None:
        with self._lock:
            self._stale |= {slug(node) for node in nodes}

    # -- panel-nodes

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._poll)
            self._wake.clear()
            if not self._client.connected:
                continue
            try:
                self._ask()
            except AgentError as error:
                log.debug("agent.status: %s", error)
            except Exception:
                log.exception("unhandled exception in panel-nodes")

    def _ask(self) -> None:
        self._list(*self._world.answered(self._statuses(ANSWER)))
        if silent := self._world.unheard():
            self._list(*self._world.answered(self._statuses(AGAIN)))
            self._due.set()
            for node in silent[:PROBES]:
                self._probe(node)
        self._due.set()

    def _statuses(self, timeout: float) -> list[Reply]:
        try:
            return self._client.gather("agent.status", timeout=timeout, settle=SETTLE)
        except LinkError:
            raise
        except AgentError:  # nobody is there
            return []

    # -- panel-pulse

    def _feel(self) -> None:
        pause = PULSE
        while not self._stopping.wait(pause):
            nodes, pause = self._world.nodes(), PULSE
            if not self._client.connected or not nodes or not len(self._world.hub):
                continue
            try:
                found = self._client.gather("global_getvar", "core_uuid", timeout=BEAT, expect=self._world.listening())
                heard = {str(reply.get("node_id")) for reply in found}
                self._world.felt(nodes, heard)
                if not heard.issuperset(nodes):
                    pause = DOUBT
            except AgentError as error:
                log.debug("global_getvar: %s", error)
            except Exception:
                log.exception("unhandled exception in panel-pulse")

    # -- panel-lists

    def _keep_lists(self) -> None:
        while not self._stopping.is_set():
            self._due.wait(self._poll)
            self._due.clear()
            if not self._client.connected:
                continue
            try:
                self._ask_lists()
            except AgentError as error:
                log.debug("lists: %s", error)
            except Exception:
                log.exception("unhandled exception in panel-lists")

    def _ask_lists(self) -> None:
        now = time.monotonic()
        for node in self._world.nodes():
            with self._lock:
                stale = slug(node) in self._stale
                self._stale.discard(slug(node))
            if stale or now - self._listed.get(node, 0.0) > LISTED:
                self._listed[node] = now
                self._list_channels(node)
            if now - self._registered.get(node, -REGISTERED) >= REGISTERED:
                self._registered[node] = now
                self._list_phones(node)
        for node in self._world.unsure():
            try:
                self._ask_parked(node)
            except LinkError:
                raise
            except AgentError as error:  # asked again in the next round
                log.debug("dialplan.status: %s", error)

    def _probe(self, node: str) -> None:
        """Ask one that did not answer all by itself: NATS says at once if nobody listens there."""
        try:
            self._client.call({"command": "agent.status"}, self._world.lane(node), SETTLE)
        except NoAgent:
            self._world.away(node, "absent")
        except LinkError:
            raise
        except AgentError:  # it counts as away when it has been silent for some rounds
            log.debug("%s does not answer", node)

    def _list_channels(self, node: str) -> None:
        mark = self._world.mark()
        try:
            reply = self._client.request("show", "channels as json", self._world.lane(node), LIST)
            self._world.listed(node, rows_of(reply.get("data")), mark)
            self._ask_parked(node)
        except (CommandFailed, ValueError) as error:  # too many of them for one message, or it is not allowed
            self._not_listed(node, error, REFUSED)
        except AgentError as error:  # just gone; asked again in the next round
            self._not_listed(node, error, 0.0)

    def _list_phones(self, node: str) -> None:
        try:
            reply = self._client.request("show", "registrations as json", self._world.lane(node), LIST)
            self._world.registered(node, phones_of(reply.get("data")))
        except LinkError:
            raise
        except (AgentError, ValueError) as error:  # it is not allowed, or there are none: nobody is shown
            log.debug("registrations of %s: %s", node, error)

    def _ask_parked(self, node: str) -> None:
        """Which calls are parked is for the agent to say. Raises AgentError."""
        mark = self._world.mark()
        request = {"command": "dialplan.status", "calls": True}
        data = self._client.call(request, self._world.lane(node), LIST).get("data")
        if isinstance(data, dict) and isinstance(calls := data.get("calls"), list):  # else: no park mode, or 1.0
            self._world.parked(node, {each for each in calls if isinstance(each, str)}, mark)

    def _not_listed(self, node: str, error: Exception, wait: float) -> None:
        log.info("the channels of %s can't be listed: %s", node, error)
        self._world.not_listed(node, str(error))
        self._listed[node] = time.monotonic() - LISTED + wait
