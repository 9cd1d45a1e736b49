"""originate: creates a call, and answers with how it went."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

from event_agent.commands.api import api_outcome
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialstring import Scalar, as_text, quoted, variable_block
from event_agent.protocol.validation import mapping, number, one_word, string

Submit = Callable[[Command], None]

ENDPOINT = string("endpoint", 1, 255)
EXTENSION = string("extension", 1, 255)
DESTINATION = string("destination", 1, 255)
CONTEXT = string("context", high=127).optional("")
DIALPLAN = string("dialplan", high=63).optional("")
CALLER_ID_NAME = string("caller_id_name", high=127).optional("")
CALLER_ID_NUMBER = string("caller_id_number", high=63).optional("")
TIMEOUT = number("timeout", 1, 600).optional(None)
VARIABLES = mapping("variables").optional(None)
OWN_UUID = string("uuid", 2, 63).optional("")

RING_LIMIT = 60  # seconds FreeSWITCH lets a call ring when it is not told (switch_ivr_originate.c)
GRACE = 10.0  # seconds more for it to say so

_PLAIN_UUID = re.compile(r"[A-Za-z0-9_.:@-]+\Z", re.ASCII)


class Originate:
    """Creates a call with bgapi, so that any number can ring at once; answers with how it went."""

    def __init__(self, submit: Submit, guards: Guards) -> None:
        self._submit = submit
        self._guards = guards

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        payload = invocation.payload
        endpoint = one_word("endpoint", ENDPOINT(payload))
        where = DESTINATION if "destination" in payload and "extension" not in payload else EXTENSION
        destination = where(payload)
        context = one_word("context", CONTEXT(payload)) or "default"
        dialplan = one_word("dialplan", DIALPLAN(payload)) or "XML"
        name, digits, timeout = CALLER_ID_NAME(payload), CALLER_ID_NUMBER(payload), TIMEOUT(payload)
        own = VARIABLES(payload) or {}
        uuid = OWN_UUID(payload) or str(uuid4())
        if not _PLAIN_UUID.match(uuid):
            raise CommandError("uuid must contain only letters, digits and _ . : @ -")
        # What has a field of its own goes first: a variable of the same name is more particular, and wins.
        variables: dict[str, Scalar] = {"origination_uuid": uuid}
        if name:
            variables["origination_caller_id_name"] = name
        if digits:
            variables["origination_caller_id_number"] = digits
        if timeout is not None:
            variables["originate_timeout"] = int(timeout) or 1
        variables |= own
        own_text = {key: as_text(value) for key, value in own.items()}
        self._guards.check_call(endpoint, destination, own_text, dialplan, context)
        job = str(uuid4())
        dial = f"{variable_block(variables)}{endpoint} {quoted(destination)} {quoted(dialplan)} {quoted(context)}"

        def done(answer: str) -> None:
            if not answer.startswith("+OK"):
                invocation.finish(api_outcome(answer or "-ERR no answer"))
                return
            data = {"uuid": answer[3:].strip() or uuid, "endpoint": endpoint, "destination": destination}
            invocation.finish(Outcome("Call originated successfully", data))

        limit = (timeout or RING_LIMIT) + GRACE
        text = f"bgapi originate {dial}\nJob-UUID: {job}\n\n"
        self._submit(Command(text, "bgapi", done, invocation.fail, job=job, limit=limit))
