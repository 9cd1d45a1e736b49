"""Commands for one channel run in the order in which they arrived, whichever connection they run on.

On one pipelined connection order comes by itself. `KeyOrder` is for what leaves it: a command that runs elsewhere
holds its keys (channel uuids), and later commands with one of these keys wait here until it is done. As soon as a key
is held or waited for, all commands on the lane that have it must hold it too: see `hold_all`.
Pure, and not thread-safe: it is part of the scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from event_agent.freeswitch.command import Command


def linked(keys: set[str], commands: Collection[Command]) -> set[str]:
    """`keys`, and those that commands share with them, directly or by way of others."""
    while more := {key for each in commands if not keys.isdisjoint(each.keys) for key in each.keys} - keys:
        keys |= more
    return keys


@dataclass(slots=True)
class _Hold:
    holders: int = 1
    waiting: deque[Command] = field(default_factory=deque)


class KeyOrder:
    """Who holds which key, and who waits for it."""

    def __init__(self) -> None:
        self.held: dict[str, _Hold] = {}  # the keys; while there are none, nobody need be asked for a command's
        self._holders: set[Command] = set()  # of all their keys, or of those that were free when they began to wait
        self._waiting: dict[Command, int] = {}  # and for how many keys

    @property
    def waiting(self) -> int:
        """Commands that wait."""
        return len(self._waiting)

    def waiting_past(self, now: float) -> list[Command]:
        """Those that have waited for all of their time and have not ended. They keep their place."""
        return [command for command in self._waiting if command.deadline <= now and not command.ended]

    def holds(self, command: Command) -> bool:
        """True when the command holds its keys."""
        return command in self._holders

    def blocked(self, command: Command) -> bool:
        """True when one of its keys is held."""
        return bool(self.held) and any(key in self.held for key in command.keys)

    def hold_all(self, command: Command, lane: Collection[Command]) -> None:
        """Those on the lane that must be done before `command` runs elsewhere, or waits, hold their keys from now."""
        keys = linked(set(command.keys), lane)
        for each in lane:
            if not keys.isdisjoint(each.keys):
                self.hold(each)

    def must_wait(self, command: Command) -> bool:
        """True when the command was put aside; `release` will hand it out."""
        holds = self.held
        if not holds or not any(key in holds for key in command.keys):
            return False
        waits = 0
        for key in command.keys:
            if (hold := holds.get(key)) is not None:
                hold.waiting.append(command)
                waits += 1
            else:
                holds[key] = _Hold()  # it holds its free keys while it waits, or a later one could pass it
        self._holders.add(command)
        self._waiting[command] = waits
        return True

    def hold(self, command: Command) -> None:
        """The command now runs away from the lane."""
        if not command.keys or command in self._holders:
            return
        self._holders.add(command)
        for key in command.keys:
            if (hold := self.held.get(key)) is not None:
                hold.holders += 1
            else:
                self.held[key] = _Hold()

    def release(self, command: Command) -> list[Command]:
        """The command is done; returns those that may run now, in order."""
        ready: list[Command] = []
        if command not in self._holders:
            return ready
        self._holders.remove(command)
        for key in command.keys:
            hold = self.held[key]
            hold.holders -= 1
            if hold.holders:
                continue
            if not hold.waiting:
                del self.held[key]
                continue
            following = hold.waiting.popleft()
            hold.holders = 1
            self._waiting[following] -= 1
            if not self._waiting[following]:
                del self._waiting[following]
                ready.append(following)
        return ready
