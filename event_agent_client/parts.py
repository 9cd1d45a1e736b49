"""Pure: replies that come in parts, put together. Each has `part`, `parts`, its piece of `data`, and else the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from event_agent_client.errors import CommandFailed
from event_agent_client.replies import Reply

MOST_PARTS: Final = 1000  # of one reply
MOST_REPLIES: Final = 1000  # that are incomplete at one time


class Parts:
    """The parts that have come for one request, of one agent or several."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], dict[int, Reply]] = {}

    def add(self, reply: Reply) -> Reply | None:
        """The whole reply, if this one completes it or is one itself; else None. Raises CommandFailed for nonsense."""
        if "parts" not in reply or "part" not in reply:
            return reply
        part, count = reply["part"], reply["parts"]
        if not (type(part) is type(count) is int and 1 <= part <= count <= MOST_PARTS):
            raise _nonsense("the reply has parts that can't be", reply)
        found = self._found.setdefault((reply.get("node_id"), reply.get("timestamp"), count), {})
        found[part] = reply
        if len(self._found) > MOST_REPLIES:
            raise _nonsense("too many replies in parts", reply)
        return self._whole(found) if len(found) == count else None

    @property
    def missing(self) -> str:
        """What has not come of a reply that has begun; "" if none has."""
        for (_, _, count), found in self._found.items():
            if len(found) < count:
                lost = [number for number in range(1, count + 1) if number not in found]
                shown = ", ".join(map(str, lost[:5])) + (", …" if len(lost) > 5 else "")
                return f"part{'s' if len(lost) > 1 else ''} {shown} of {count}"
        return ""

    @property
    def late(self) -> str:
        """The same as the end of a sentence that says what did not come in time."""
        return f": {self.missing} of the reply did not come" if self.missing else ""

    @staticmethod
    def _whole(found: dict[int, Reply]) -> Reply:
        first = found[1]
        data: Any = "".join(str(found[number].get("data", "")) for number in range(1, len(found) + 1))
        if first.get("json") is True:
            try:
                data = json.loads(data)
            except (ValueError, RecursionError):
                raise _nonsense("the parts of the reply do not fit together", first) from None
        common = {key: value for key, value in first.items() if key not in ("part", "parts", "json")}
        return Reply(common | {"data": data})


def _nonsense(message: str, reply: Mapping[str, Any]) -> CommandFailed:
    """For a reply that can't be read: whether the command was carried out is not known."""
    return CommandFailed(message, {**reply, "success": False, "executed": "unknown", "message": message})
