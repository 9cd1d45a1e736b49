"""Where a command goes, and when: the lane's queue, the worker pool, or a place behind others of its channel.

What is sent where others wait must be quick: verbs known to be slow go to the pool, and nothing is sent behind a verb
that has not yet been seen to be quick. No threads, and no lock of its own: the lane calls all of it with its lock held.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from event_agent.freeswitch.command import Command, timed_out
from event_agent.freeswitch.ordering import KeyOrder, linked
from event_agent.freeswitch.pipe import Pipe
from event_agent.freeswitch.pool import WorkerPool
from event_agent.freeswitch.slow_verbs import SlowVerbs

NEW_VERB_LATE = 0.05  # seconds after which a verb not yet known loses the lane to the others
LATE = 0.5  # the same for a verb known to be quick: a switch that stalls for a moment keeps its order
BUSY = "its channel was busy"
GRACE = 1.0  # seconds at least for a command whose turn has come, however long it has waited
NOT_CONNECTED = "FreeSWITCH is not connected"


class LaneQueue:
    """What waits for its turn, and what is known of verbs and channels."""

    def __init__(
        self, pool: WorkerPool, pool_done: Callable[[Command, float], None], hear_jobs: Callable[[], Command]
    ) -> None:
        """`hear_jobs` makes the command that a pipe needs before the first `bgapi`."""
        self._pool = pool
        self._pool_done = pool_done
        self._hear_jobs = hear_jobs
        self._order = KeyOrder()
        self._verbs = SlowVerbs()
        self._barrier: Command | None = None  # an unproven verb in flight: nothing goes behind it
        self.pipe: Pipe | None = None  # where commands go to
        self.commands: deque[Command] = deque()
        self.failures: list[tuple[Command, str]] = []  # to be told once the lock is free

    @property
    def waiting(self) -> int:
        """Commands that wait for others of their channel."""
        return self._order.waiting

    # -- a command comes

    def put(self, command: Command) -> None:
        """Give it its place; where there is none it fails."""
        if self._order.blocked(command):
            self._hold_earlier(command)
            if self._order.must_wait(command):
                return
        if not self._route(command):
            self.released(command)

    def _hold_earlier(self, command: Command) -> None:
        """What is on the lane for the same channels goes first."""
        if self.pipe:
            self._order.hold_all(command, (*self.pipe.inflight, *self.commands))

    def _route(self, command: Command) -> bool:
        """To the queue, or to the pool; False when it was refused there."""
        # A bgapi is not slow, whatever it was once: a worker would take its first answer for the end of the job.
        if command.job or not (command.slow or self._verbs.slow(command.verb)):
            self.commands.append(command)
            return True
        if command.keys and not command.held:
            self._hold_earlier(command)
            if self._order.must_wait(command):
                return True
            self._order.hold(command)
        if not self._pool.submit(command, self._pool_done):
            self.failures.append((command, "Too many slow commands are waiting for FreeSWITCH"))
            return False
        return True

    def fill(self) -> bool:
        """Send as much as may go ahead; True where more could go, were it not for what is under way."""
        pipe, commands = self.pipe, self.commands
        if pipe is None or not commands:
            return False
        now = time.monotonic()
        texts: list[str] = []
        while commands and self._barrier is None and not pipe.full:
            if pipe.inflight and now - pipe.head_since > LATE:
                break
            command = commands.popleft()
            if command.job and not pipe.hears_jobs:
                pipe.hears_jobs = True
                commands.appendleft(command)
                command = self._hear_jobs()
            pipe.put(command, now)
            texts.append(command.text)
            if not self._verbs.quick(command.verb):
                self._barrier = command
        if texts:
            pipe.send("".join(texts))
        return bool(commands) and not pipe.full

    # -- a command is through

    def answered(self, command: Command, seconds: float) -> None:
        """FreeSWITCH has answered it, on the lane."""
        self._verbs.took(command.verb, seconds)
        if command is self._barrier:
            self._barrier = None

    def pool_took(self, command: Command, seconds: float) -> None:
        """The pool is through with it."""
        self._verbs.pool_took(command.verb, seconds)
        self.released(command)

    def released(self, command: Command) -> None:
        """Let those go that waited for its channel."""
        if not command.held:
            return
        ready = deque(self._order.release(command))
        while ready:  # not by calling itself: a channel may have thousands of them
            following = ready.popleft()
            if following.dead:
                ready.extend(self._order.release(following))
                continue
            # Its time went by while it waited. It gets a little to run in: a command that is late breaks a connection.
            following.deadline = max(following.deadline, time.monotonic() + GRACE)
            if self.pipe is None:
                self.failures.append((following, NOT_CONNECTED))
                ready.extend(self._order.release(following))
            elif not self._route(following):
                ready.extend(self._order.release(following))

    # -- time, and connections that come and go

    def fail_late(self, now: float, pipes: Iterable[Pipe]) -> None:
        """Fail those whose time was over before their turn came; `pipes` are all there are."""
        for command in self._pool.take_late(now):
            self.fail([command], f"{timed_out(command)}: no worker was free")
        for command in self._order.take_late(now):
            self.failures.append((command, f"{timed_out(command)}: {BUSY}"))
        for pipe in pipes:
            late = [command for command in pipe.backlog if command.deadline <= now]
            for command in late:
                pipe.backlog.remove(command)
                self.fail([command], f"{timed_out(command)}: {BUSY}")
        while self.commands and self.commands[0].deadline <= now:  # they have come in the order of their deadlines
            command = self.commands.popleft()
            self.fail([command], timed_out(command))

    @property
    def held_up(self) -> Pipe | None:
        """The pipe, where the command at its head is late."""
        pipe = self.pipe
        limit = NEW_VERB_LATE if self._barrier is not None else LATE
        return pipe if pipe and pipe.inflight and time.monotonic() - pipe.head_since > limit else None

    def move_to(self, pipe: Pipe, hears_jobs: bool) -> None:
        """Commands go to this pipe from now on. The one before keeps what is on it and what must wait for that."""
        before, self.pipe, self._barrier = self.pipe, pipe, None
        if before is not None:
            before.retired = True
            keys = linked({key for each in before.inflight for key in each.keys}, self.commands)
            before.backlog.extend(each for each in self.commands if not keys.isdisjoint(each.keys))
            self.commands = deque(each for each in self.commands if keys.isdisjoint(each.keys))
            for command in (*before.inflight, *before.backlog):
                self._order.hold(command)
        if hears_jobs:
            pipe.hears_jobs = True
            self.commands.appendleft(self._hear_jobs())

    def rejoin(self, pipe: Pipe) -> None:
        """A retired pipe has nothing more to wait for: what it kept back goes to the lane."""
        while pipe.backlog:
            command = pipe.backlog.popleft()
            command.deadline = max(command.deadline, time.monotonic() + GRACE)
            if self.pipe is not None:
                self.commands.append(command)
            else:
                self.failures.append((command, NOT_CONNECTED))
                self.released(command)

    def fail(self, commands: list[Command], message: str) -> None:
        """They fail; what waited for them goes on."""
        self.failures += [(command, message) for command in commands]
        for command in commands:
            self.released(command)

    def lost(self) -> list[Command]:
        """There is no pipe any more; returns what was queued, for `fail`."""
        self.pipe = self._barrier = None
        queued, self.commands = list(self.commands), deque()
        return queued
