"""Incoming calls for asyncio: park mode is set, and each parked call is taken by one program."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import uuid as uuids
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from event_agent_client import core
from event_agent_client._wire import Message
from event_agent_client.calls import Call
from event_agent_client.core import GATHER, SETTLE, Payload, failure_of, slug
from event_agent_client.errors import (
    AgentError,
    Hangup,
    LinkError,
    Refused,
)
from event_agent_client.events import Event, event_of
from event_agent_client.state import CallState

if TYPE_CHECKING:
    from event_agent_client.aio import Client, Handler

log = logging.getLogger("event_agent_client")


Router = Callable[["RouteRequest"], "Awaitable[Mapping[str, Any]] | Mapping[str, Any]"]


async def set_on_nodes(client: Client, lane: str, what: str, payloads: list[Payload]) -> None:
    """Have these settings on all nodes. One that can't is logged; if none can, `forever` raises why."""
    try:
        for payload in payloads:
            replies = await client._gather(lane, payload.data, GATHER, SETTLE)
            faults = [failure_of(reply) for reply in replies if not reply.ok]
            for reply in replies:
                if not reply.ok:
                    log.error("%s could not be set on node %s: %s", what, reply.node, reply.message)
            if faults and len(faults) == len(replies):
                client._give_up(faults[0])
                return
    except LinkError as error:
        log.info("%s is set when NATS is back: %s", what, error)
    except AgentError as error:
        client._give_up(error)


class RouteRequest(dict[str, Any]):
    """A new call, about which FreeSWITCH asks; see "A program decides" in docs/DIALPLAN.md."""

    @property
    def uuid(self) -> str:
        return str(self.get("uuid", ""))

    @property
    def node(self) -> str:
        return str(self.get("node_id", ""))

    @property
    def caller_number(self) -> str:
        return str(self.get("caller_id_number") or "")

    @property
    def caller_name(self) -> str:
        return str(self.get("caller_id_name") or "")

    @property
    def destination(self) -> str:
        """The number dialled."""
        return str(self.get("destination") or "")

    @property
    def context(self) -> str:
        return str(self.get("context") or "")

    @property
    def variables(self) -> dict[str, Any]:
        """Those that were asked for."""
        found = self.get("variables")
        return found if isinstance(found, dict) else {}

    def park(self) -> dict[str, Any]:
        """Park it, as `incoming` has it."""
        return {"action": "park"}

    def dialplan(self) -> dict[str, Any]:
        """Leave it to FreeSWITCH's dialplan."""
        return {"action": "dialplan"}

    def transfer(self, extension: str, *, context: str | None = None, dialplan: str | None = None) -> dict[str, Any]:
        """Send it to this extension."""
        more = {"context": context, "dialplan": dialplan}
        return {"action": "transfer", "extension": extension} | {key: each for key, each in more.items() if each}

    def hangup(self, cause: str = "NORMAL_CLEARING") -> dict[str, Any]:
        """End it."""
        return {"action": "hangup", "cause": cause}

    def apps(self, *apps: tuple[str, str], expand: bool = False) -> dict[str, Any]:
        """Run these applications, each with its arguments; with `expand` FreeSWITCH expands `${…}` in them."""
        found: dict[str, Any] = {"action": "apps", "apps": [{"app": app, "args": args} for app, args in apps]}
        return found | ({"expand": True} if expand else {})


class Routes:
    """One router."""

    def __init__(
        self, client: Client, router: Router, fields: dict[str, Any], subject: str, group: str, node: str | None
    ) -> None:
        self._client = client
        self._router = router
        self._fields = fields
        self._subject, self._group, self._node = subject, group, node

    async def _begin(self) -> None:
        """Listen, then have calls routed."""
        self._client._link.subscribe(self._subject, self._asked, self._group)
        await self._again()

    async def _again(self) -> None:
        """Have it on all nodes."""
        client = self._client
        lane = core.lane_of(client.prefix, self._node or "")
        await set_on_nodes(client, lane, "routing", [Payload(command="dialplan.route", **self._fields)])

    def _asked(self, message: Message) -> None:
        try:
            request = RouteRequest(json.loads(message.data))
        except (ValueError, TypeError):
            return
        self._client._spawn(self._decide(request, message.reply), f"route {request.uuid}")

    async def _decide(self, request: RouteRequest, reply: str) -> None:
        answer: object = None
        try:
            answer = self._router(request)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception:
            log.exception("call %s: the router failed", request.uuid)
        # What is no answer is taken for one at once: the agent goes by its fallback then, and counts it.
        data = Payload(answer).data if isinstance(answer, Mapping) else b'{"action":null}'
        if reply:
            with suppress(AgentError):
                self._client._link.publish(reply, data)


class Incoming:
    """One handler of incoming calls."""

    def __init__(
        self, client: Client, handler: Handler, contexts: list[str], number: str, audio: str, music: str, answer: bool,
        never: list[str], group: str | None, node: str | None,
    ) -> None:  # fmt: skip
        self._client = client
        self._handler = handler
        self.contexts, self.number = contexts, number
        self._audio, self._music, self._answer, self._never = audio, music, answer, never
        self._node = node
        scope = f"{'-'.join(sorted(contexts))}.{number}"
        self._group = f"ea-{uuids.uuid5(uuids.NAMESPACE_URL, group or scope).hex[:16]}"
        self._listening = False

    async def _begin(self) -> None:
        """Listen, then have calls parked."""
        client = self._client
        if not self._listening:
            self._listening = True
            client._link.subscribe(f"{client.prefix}.events.channel.park", self._parked, self._group)
        await self._again()

    async def _again(self) -> None:
        """Set park mode, on all nodes that are there. Those that come later have it set when they say so."""
        client = self._client
        scope = core.union_of_scopes((each.contexts, each.number) for each in client._incoming)
        never = [each for one in client._incoming for each in one._never]
        if never:
            scope["except"] = list(dict.fromkeys(never))
        audio: dict[str, Any] = {"command": "dialplan.audio", "mode": self._audio}
        if self._music:
            audio["music_class"] = self._music
        lane = core.lane_of(client.prefix, self._node or "")
        await set_on_nodes(client, lane, "park mode", [
            Payload(audio),
            Payload(command="dialplan.autoanswer", enabled=self._answer),
            Payload(command="dialplan.enable", **scope),
        ])  # fmt: skip
        await self._look_at_filters()

    async def _look_at_filters(self) -> None:
        """Say so if a node parks calls and does not publish CHANNEL_PARK; if none does, `forever` raises Refused."""
        with suppress(AgentError):
            statuses = await self._client.gather("agent.status", wait=GATHER)
            if self._node:
                statuses = [each for each in statuses if slug(each.node) == slug(self._node)]
            kept = {}
            for each in statuses:
                filters = each.data.get("events") if isinstance(each.data, dict) else None
                if isinstance(filters, dict) and (why := core.kept_back("CHANNEL_PARK", filters)):
                    kept[each.node] = f"{each.node}: {why}"
                    log.error("calls parked on node %s: CHANNEL_PARK is not published: %s", each.node, why)
            if kept and len(kept) == len(statuses):
                said = "; ".join(kept.values())
                fault = f"calls are parked, and nobody hears of it: CHANNEL_PARK is not published ({said})"
                self._client._give_up(Refused(fault, field="events"))

    def _parked(self, message: Message) -> None:
        event = event_of(message.data)
        if event is None or not event.uuid or not event.variable("event_agent_parked"):
            return
        whole = "Caller-Destination-Number" in event.headers  # what an event carries can be chosen (event_fields)
        if event.uuid in self._client._calls or (whole and not core.matches(self.contexts, self.number, event)):
            return
        if event.variable("event_agent_worker"):
            return  # somebody has it already
        call = Call(self._client, CallState(event.uuid, event.node, event))
        self._client._enter(call)
        self._client._spawn(self._handle(call), f"call {call.uuid}")

    async def _ours(self, call: Call) -> bool:
        """Whether it is one that was asked for; FreeSWITCH is asked who calls whom."""
        dump = json.loads(str((await call.request("uuid_dump", f"{call.uuid} json")).data))
        call._state.last = Event(event_name="CHANNEL_DATA", uuid=call.uuid, node_id=call.node, headers=dump)
        return core.matches(self.contexts, self.number, call.event)

    async def _handle(self, call: Call) -> None:
        try:
            await call._watch_first()
            if "Caller-Destination-Number" not in call.event.headers and not await self._ours(call):
                call.let_go()
                call._ended()
                return
            await call.execute("set", f"event_agent_worker={self._client._inbox[-12:]}", wait=0)
            result = self._handler(call)
            if inspect.isawaitable(result):
                await result
        except Hangup:
            pass
        except asyncio.CancelledError:
            raise
        except AgentError as error:
            log.warning("call %s: %s: %s", call.uuid, type(error).__name__, error)
        except Exception:
            log.exception("call %s: the handler failed", call.uuid)
        finally:
            if call.up and not call._let_go and not self._client._link._closed:
                self._client._spawn(call._end_quietly(), "hang up")
