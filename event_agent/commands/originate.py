"""originate: creates a call, and answers with how it went."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from uuid import uuid4

from event_agent.commands.api import api_outcome
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.errors import CommandError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialreader import Dial
from event_agent.freeswitch.dialstring import (
    MAX_BLOCK,
    Scalar,
    as_text,
    check_call,
    check_extension,
    quoted,
    read_endpoint,
    variable_block,
)
from event_agent.protocol.validation import VALUE, WORD, Declaration, mapping, number, spelled, string

Submit = Callable[[Command], None]

RING_LIMIT = 60  # seconds FreeSWITCH lets a call ring when it is not told (switch_ivr_originate.c)
GRACE = 10.0  # seconds more for it to say so

_PLAIN_UUID = spelled(
    re.compile(r"[A-Za-z0-9_.:@-]+\Z", re.ASCII), "contain only letters, digits and _ . : @ -",
    {"not": {"pattern": "[^A-Za-z0-9_.:@-]|^ARRAY::"}}, "letters, digits, `_ . : @ -`",
)  # fmt: skip

ENDPOINT = string(
    "endpoint", 1, 255, form=WORD, help="a dial string: `user/1000`, `sofia/gateway/gw/5551234`"
)
EXTENSION = string(
    "extension", 1, 255, help="where the answered call goes: an extension, or `&app(args)`"
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
).optional(None, shown=f"FreeSWITCH's own, {RING_LIMIT}")
VARIABLES = mapping(
    "variables", values=VALUE, help=f"channel variables; at most {MAX_BLOCK:,} characters together, after escaping",
    names={"maxLength": 128, "pattern": "^[A-Za-z_]", "not": {"pattern": "[^A-Za-z0-9_.:-]"}},
).optional(None)  # fmt: skip
OWN_UUID = string("uuid", 2, 63, form=_PLAIN_UUID, help="the new channel's uuid").optional("", shown="a new one")
FIELDS = Declaration(
    "originate",
    "Makes a call, and answers when it is answered or has failed.",
    (ENDPOINT, EXTENSION, CONTEXT, DIALPLAN, CALLER_ID_NAME, CALLER_ID_NUMBER, TIMEOUT, VARIABLES, OWN_UUID),
    ({"endpoint": "user/1000", "destination": "&park", "timeout": 30, "caller_id_name": "Front desk",
      "caller_id_number": "5551234", "variables": {"ticket": "4711, urgent", "retries": 2, "recorded": True}},),
)  # fmt: skip


class Originate:
    """Creates a call with bgapi, so that any number can ring at once; answers with how it went."""

    def __init__(self, submit: Submit, guards: Guards) -> None:
        self._submit = submit
        self._guards = guards

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        payload = invocation.payload
        endpoint, destination = ENDPOINT(payload), EXTENSION(payload)
        where = "destination" if "extension" not in payload else "extension"
        check_extension(where, destination)
        context, dialplan = CONTEXT(payload), DIALPLAN(payload)
        name, digits, timeout = CALLER_ID_NAME(payload), CALLER_ID_NUMBER(payload), TIMEOUT(payload)
        own = VARIABLES(payload) or {}
        uuid = OWN_UUID(payload)
        dial = read_endpoint(endpoint)
        own_text = {key: as_text(value) for key, value in own.items()}
        others = {
            where: destination, "context": context, "dialplan": dialplan, "caller_id_name": name,
            "caller_id_number": digits,
        }  # fmt: skip
        check_call(dial, own_text, others)
        # What has a field of its own goes first: a variable of the same name is more particular, and wins.
        variables: dict[str, Scalar] = {}
        if chosen := _chosen_uuid(uuid, own_text, dial):
            variables["origination_uuid"] = uuid = chosen
        if name:
            variables["origination_caller_id_name"] = name
        if digits:
            variables["origination_caller_id_number"] = digits
        if timeout is not None:
            variables["originate_timeout"] = int(timeout) or 1
        variables |= own
        self._guards.check_call(endpoint, destination, own_text, dialplan, context)
        job = str(uuid4())
        text = f"{variable_block(variables)}{endpoint} {quoted(destination)} {quoted(dialplan)} {quoted(context)}"

        def done(answer: str) -> None:
            if not answer.startswith("+OK"):
                invocation.finish(api_outcome(answer or "-ERR no answer"))
                return
            data = {"uuid": answer[3:].strip() or uuid, "endpoint": endpoint, "destination": destination}
            invocation.finish(Outcome("Call originated successfully", data))

        limit = (timeout or RING_LIMIT) + GRACE
        text = wire.bgapi("originate", text, job)
        self._submit(Command(text, "bgapi", done, invocation.fail, job=job, limit=limit))


def _chosen_uuid(uuid: str, own: Mapping[str, str], dial: Dial) -> str:
    """The uuid that the agent gives the call; empty when the client's variables choose it. Raises CommandError."""
    for field, pairs in (("variables", own.items()), ("endpoint", dial.pairs())):
        others = [value for name, value in pairs if name.lower() == "origination_uuid" and value]
        if others and uuid and others != [uuid]:
            raise CommandError(f"uuid is not the origination_uuid in {field}")
        if others and not uuid:
            return ""
    return uuid or str(uuid4())
