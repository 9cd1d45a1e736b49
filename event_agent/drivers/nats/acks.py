"""What a JetStream stream answers to a message. Bytes only.

Sources: NATS docs, "JetStream API reference" and ADR-1; nats-server's errors.json for the codes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass


@dataclass(slots=True)
class Ack:
    """What a server said of a message."""

    stream: str = ""
    duplicate: bool = False
    code: int = 0  # 0: stored; NOBODY, GARBAGE; else the server's err_code
    text: str = ""


NOBODY, GARBAGE = 503, -1


def read_ack(data: bytes, headers: bytes) -> Ack:
    """The acknowledgement of a message; GARBAGE if it can't be read as one."""
    if headers.startswith(b"NATS/1.0 503"):
        return Ack(code=NOBODY, text="no stream takes it")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return Ack(code=GARBAGE, text="an acknowledgement that is not JSON")
    if not isinstance(value, dict):
        return Ack(code=GARBAGE, text="an acknowledgement that is no object")
    error = value.get("error")
    if isinstance(error, dict):
        code = error.get("err_code", error.get("code"))
        text = str(error.get("description", ""))[:200]
        return Ack(code=code if isinstance(code, int) and code > 0 else GARBAGE, text=text)
    if isinstance(value.get("stream"), str) and isinstance(value.get("seq"), int):
        return Ack(value["stream"], value.get("duplicate") is True)
    return Ack(code=GARBAGE, text="an acknowledgement without stream and seq")


# What nearly all acknowledgements are: stored, and no duplicate. Looking takes a tenth of what read_ack does.
is_plain_ack = re.compile(
    rb'\{"stream":"[^"\\]{1,255}",(?: ?"domain":"[^"\\]{1,255}",)? ?"seq": ?\d{1,20}(?:, ?"domain":"[^"\\]{1,255}")?\}'
).fullmatch
