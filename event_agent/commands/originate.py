"""originate: creates a call, and answers with how it went."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from event_agent.commands.api import api_outcome
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.commands.watch import Watches, events_to
from event_agent.errors import CommandError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.freeswitch.dialreader import Dial, Pairs
from event_agent.freeswitch.dialstring import (
    MARK,
    MAX_BLOCK,
    Scalar,
    as_text,
    as_word,
    check_call,
    destination_text,
    quoted,
    read_endpoint,
    variable_block,
    with_uuid,
)
from event_agent.freeswitch.ringing import PLAIN, RING, longest
from event_agent.protocol.validation import VALUE, WORD, Declaration, boolean, mapping, number, spelled, string
from event_agent.runtime.uuids import new_uuid

log = logging.getLogger(__name__)

Submit = Callable[[Command], None]

KILL_LIMIT = 5.0  # seconds to take a call down
KILL_AGAIN = 60  # seconds for which FreeSWITCH goes on taking down what it begins, where it may begin more
GRACE = 10.0  # seconds more than FreeSWITCH may take for it to say so
MOST = 3600.0  # seconds at most, however long FreeSWITCH may take
# These variables say whether early media counts as answered. If the request has one, the agent sets none. If not, it
# sets the second, which has no other effect. ignore_early_media stays on the channel, and a bridge from there would go
# by it as well: the caller would not hear "the number you have called".
EARLY = frozenset(("ignore_early_media", "group_confirm_early_ok"))
ANSWERED_ONLY = "group_confirm_early_ok"

_PLAIN_UUID = spelled(
    re.compile(r"[A-Za-z0-9_.:@-]+\Z", re.ASCII), "contain only letters, digits and _ . : @ -",
    {"not": {"pattern": "[^A-Za-z0-9_.:@-]|^ARRAY::"}}, "letters, digits, `_ . : @ -`",
)  # fmt: skip

ENDPOINT = string(
    "endpoint", 1, 4096, form=WORD, help="a dial string: `user/1000`, `sofia/gateway/gw/5551234`"
)
ENDPOINT.typed = as_word
EXTENSION = string(
    "extension", 1, 4096, help="where the answered call goes: an extension, or `&app(args)`"
).alias("destination")
CONTEXT = string("context", high=127, form=WORD, help="context of the extension").optional("default", empty=True)
DIALPLAN = string("dialplan", high=63, form=WORD, help="dialplan of the extension").optional("XML", empty=True)
CALLER_ID_NAME = string(
    "caller_id_name", high=127, form=VALUE, help="sets `origination_caller_id_name`"
).optional("")
CALLER_ID_NUMBER = string(
    "caller_id_number", high=63, form=VALUE, help="sets `origination_caller_id_number`"
).optional("")
TIMEOUT = number(
    "timeout", 1, 600, help="seconds it may ring, whole ones (fractions are cut off); sets `originate_timeout`"
).optional(None, shown=f"FreeSWITCH's own, {RING:g}")
VARIABLES = mapping(
    "variables", values=VALUE, help=f"channel variables; at most {MAX_BLOCK:,} characters together, after escaping",
    names={"maxLength": 128, "pattern": "^[A-Za-z_]", "not": {"pattern": "[^A-Za-z0-9_.:-]"}},
).optional(None)  # fmt: skip
EARLY_MEDIA = boolean(
    "early_media", help="true: early media, such as a ringing tone, counts as answered"
).optional(False)
EVENTS_TO = events_to("all events of the call are also published below this subject, see call.watch, from its first on")
OWN_UUID = string("uuid", 2, 63, form=_PLAIN_UUID, help="the new channel's uuid").optional("", shown="a new one")
FIELDS = Declaration(
    "originate",
    "Makes a call, and answers when it is answered or has failed.",
    (ENDPOINT, EXTENSION, CONTEXT, DIALPLAN, CALLER_ID_NAME, CALLER_ID_NUMBER, TIMEOUT, VARIABLES, OWN_UUID,
     EARLY_MEDIA, EVENTS_TO),
    ({"endpoint": "user/1000", "destination": "&park", "timeout": 30, "caller_id_name": "Front desk",
      "caller_id_number": "5551234", "variables": {"ticket": "4711, urgent", "retries": 2, "recorded": True}},
     {"args": "user/1000 &park XML default 'Front desk' 5551234 30"},
     {"endpoint": "user/1000", "destination": "&park", "uuid": "dialler-4711", "events_to": "dialler.4711"}),
    console=(ENDPOINT, EXTENSION, DIALPLAN, CONTEXT, CALLER_ID_NAME, CALLER_ID_NUMBER, TIMEOUT),
)  # fmt: skip


class Originate:
    """Creates a call with bgapi, so that any number can ring at once; answers with how it went."""

    def __init__(
        self,
        submit: Submit,
        guards: Guards,
        send: Callable[[Sequence[Command]], None],
        watches: Watches,
        began: Callable[[str], None] = log.debug,
    ) -> None:
        """`submit` takes a command for the next flush, `send` sends at once, from any thread.

        `began` is told the uuid of each call before the reply says it.
        """
        self._submit = submit
        self._guards = guards
        self._send = send
        self._watches = watches
        self._began = began

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        payload = invocation.payload
        endpoint, destination = ENDPOINT(payload), EXTENSION(payload)
        where = "destination" if "extension" not in payload else "extension"
        sent, its_dialplan = destination_text(where, destination)
        context, dialplan = CONTEXT(payload), DIALPLAN(payload)
        name, digits, timeout = CALLER_ID_NAME(payload), CALLER_ID_NUMBER(payload), TIMEOUT(payload)
        own = VARIABLES(payload) or {}
        uuid, early, watched = OWN_UUID(payload), EARLY_MEDIA(payload), EVENTS_TO(payload)
        dial = read_endpoint(endpoint)
        own_text = {key: as_text(value) for key, value in own.items()}
        others = {
            where: destination, "context": context, "dialplan": dialplan, "caller_id_name": name,
            "caller_id_number": digits,
        }  # fmt: skip
        check_call(dial, own_text, others)
        uuid, own = _chosen_uuid(uuid, own, dial)
        legs, job, to = dial.legs, new_uuid(), endpoint
        variables: dict[str, Scalar] = {}
        if not _names_uuid(dial.pairs()):
            if uuid and len(legs) > 1:
                to = with_uuid(endpoint, uuid)
            elif uuid or (len(legs) == 1 and legs[0].kind in PLAIN):
                variables["origination_uuid"] = uuid = uuid or job
        if watched:
            uuid = uuid or _only(_names_uuid(dial.pairs()))
            watched = self._watches.place(uuid, watched, EVENTS_TO.name)
        if uuid != job:
            variables[MARK] = job
        named = {key.lower() for key in own}
        for key, value in (
            ("origination_caller_id_name", name), ("origination_caller_id_number", digits),
            ("originate_timeout", timeout and (int(timeout) or 1)),
        ):  # fmt: skip
            # A variable of the same name is more particular than a field, and wins.
            if value and key not in named:
                variables[key] = value
        if invocation.trace is not None:
            variables |= {key: value for key, value in invocation.trace.variables.items() if key not in named}
        variables |= own
        if not early and EARLY.isdisjoint(named) and EARLY.isdisjoint(key.lower() for key, _ in dial.variables):
            variables[ANSWERED_ONLY] = "false"
        self._guards.check_call(endpoint, destination, own_text, dialplan, context)
        block = variable_block(variables, "<>" if endpoint.startswith("<") else "{}")
        text = f"{block}{to} {quoted(sent)} {quoted(its_dialplan or dialplan)} {quoted(context)}"

        def done(answer: str) -> None:
            if not answer.startswith("+OK"):
                if watched:
                    self._watches.end_soon(uuid, watched)
                invocation.finish(api_outcome(answer or "-ERR no answer"))
                return
            if watched:
                self._watches.arrived(uuid)
            data = {"uuid": answer[3:].strip() or uuid, "endpoint": endpoint, "destination": destination}
            self._began(data["uuid"])
            invocation.finish(Outcome("Call originated successfully", data))

        common = [(key, as_text(value)) for key, value in variables.items()] + dial.variables
        most = longest(common, dial) + GRACE
        mark = ("origination_uuid" if uuid == job else MARK, job)

        def failed(why: Failure) -> None:
            if watched:
                self._watches.end_soon(uuid, watched)
            if why.executed is Executed.NO:
                invocation.fail(why)
            else:
                self._take_down(invocation, why, mark, again=len(legs) > 1 or most > MOST)

        text = wire.bgapi("originate", text, job)
        invocation.sent = command = Command(text, "bgapi", done, failed, job=job, limit=min(most, MOST))
        if not watched:
            self._submit(command)
            return

        def begun(why: Failure | None) -> None:
            if why is not None:
                invocation.fail(why)
            else:
                self._send([command])

        self._watches.begin(uuid, watched, begun, coming=True)

    def _take_down(self, invocation: Invocation, why: Failure, mark: tuple[str, str], again: bool) -> None:
        """Nobody waits for this call any longer, so it must not be answered later.

        `again`: FreeSWITCH may go on to the next leg, so the hang-up is repeated each second.
        """
        kill = f"RECOVERY_ON_TIMER_EXPIRE {mark[0]} {mark[1]}"

        def done(answer: str) -> None:
            told = answer.startswith("+OK")
            invocation.fail(Failure(f"{why}; the call was taken down", why.executed) if told else why)

        def failed(_: Failure) -> None:
            invocation.fail(why)

        commands = [Command(wire.api("hupall", kill), "hupall", done, failed, limit=KILL_LIMIT)]
        if again:
            for args in (f"@1 {mark[1]} hupall {kill}", f"+{KILL_AGAIN} none sched_del {mark[1]}"):
                commands.append(Command(wire.api("sched_api", args), "sched_api", log.debug, log.debug))
        self._send(commands)


def _only(uuids: list[str]) -> str:
    """The one uuid that there is. Raises CommandError."""
    if len(set(uuids)) != 1:
        raise CommandError("events_to must come with uuid: this endpoint may become several calls", field="events_to")
    return uuids[0]


def _chosen_uuid(uuid: str, own: dict[str, Scalar], dial: Dial) -> tuple[str, dict[str, Scalar]]:
    """The uuid that the request asks for in a field or a variable, and the other variables. Raises CommandError."""
    others = {key: value for key, value in own.items() if key.lower() != "origination_uuid"}
    for key, value in own.items():
        if key not in others and value != "":
            if uuid and uuid != as_text(value):
                raise CommandError("uuid is not the origination_uuid in variables", field="uuid")
            uuid = as_text(value)
    if uuid and any(value != uuid for value in _names_uuid(dial.pairs())):
        raise CommandError("uuid is not the origination_uuid in endpoint", field="uuid")
    return uuid, others


def _names_uuid(pairs: Pairs) -> list[str]:
    return [value for name, value in pairs if name.lower() == "origination_uuid" and value]
