"""The scheduler when verbs that only read may run side by side on several pipes (`lanes_read`).

Beside the active pipe there are others, the sides. No client can tell them from one pipe:

1. On a side is only what reads (`BESIDE` in protocol/questions.py), and of that only verbs that were seen to be quick.
2. A read sees what was done before it: it goes to a side only while nothing that acts is in flight. Behind that it goes
   on the active pipe, as without sides.
3. What acts waits for the reads before it: it is sent when nothing is in flight on the sides, on the active pipe.
4. Two reads of one thing go to one pipe while the first is in flight, so that their answers are in order: of a channel,
   of a user or variable that they name, of the switch as a whole. Those that hang on nothing (`TIMELESS`) go anywhere.
5. To wait for the sides costs time, so reads stay on the active pipe for `Limits.calm` seconds after what acts; and
   until `Limits.few` are in flight there, as each further pipe is one more thread of FreeSWITCH to be woken.
6. A side whose head is late is replaced and left as the active pipe is; if that can't be, FreeSWITCH is frozen. One
   that breaks fails what was sent on it, and is opened again. With the active pipe all of them end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.effects import Effects, OpenPipe, Send
from event_agent.freeswitch.pipe import Pipe, PipeState
from event_agent.freeswitch.scheduler import Limits, Scheduler
from event_agent.freeswitch.slow_verbs import STEADY
from event_agent.protocol.questions import BESIDE, OF_ONE, READING, TIMELESS

SWITCH = ("",)  # the switch as a whole


def things_of(read: Command) -> tuple[str, ...]:
    """What its answer tells of."""
    if read.keys or read.verb in TIMELESS:
        return read.keys
    return (read.text,) if read.verb in OF_ONE else SWITCH


class SideBySide(Scheduler):
    """The rules above, and the scheduler's."""

    def __init__(self, limits: Limits, workers: int) -> None:
        """See Scheduler."""
        super().__init__(limits, workers)
        self._sides: list[Pipe] = []
        self._awaited: set[Pipe] = set()  # sides that are being opened
        self._sides_at = 0.0  # before that none is opened again
        self._acting: Command | None = None  # the last in flight that is more than a read
        self._acted_at = 0.0  # when that was sent
        self._where: dict[str, tuple[Pipe, int]] = {}  # of each thing, the pipe on which it is read, and by how many

    @property
    def ahead(self) -> int:
        """Commands in flight where more are sent."""
        return super().ahead + sum(len(side.inflight) for side in self._sides)

    def pipes(self) -> tuple[Pipe, ...]:
        """See Scheduler."""
        return () if self.active is None else (self.active, *self._sides)

    # -- what happens

    def answered(self, pipe: Pipe, texts: Sequence[str], now: float) -> Effects:
        """See Scheduler."""
        if self._where or self._acting is not None:
            for command in islice(pipe.inflight, len(texts)):
                if command is self._acting:
                    self._acting = None
                for thing in command.things:
                    where, reads = self._where.get(thing, (None, 0))
                    if where is pipe and reads > 1:
                        self._where[thing] = pipe, reads - 1
                    elif where is pipe:
                        del self._where[thing]
        return super().answered(pipe, texts, now)

    def pipe_up(self, pipe: Pipe, now: float) -> Effects:
        """See Scheduler."""
        if pipe not in self._awaited:
            return super().pipe_up(pipe, now)
        self._awaited.discard(pipe)
        pipe.state = PipeState.ACTIVE
        self._sides.append(pipe)
        self._fill(now)
        return self._effects(now)

    def pipe_lost(self, pipe: Pipe, fault: LinkError, now: float) -> Effects:
        """See Scheduler."""
        if pipe in self._awaited:
            self._awaited.discard(pipe)
            self._sides_at = now + self._limits.again
        return super().pipe_lost(pipe, fault, now)

    # -- a command's way

    def _fill(self, now: float) -> None:
        active, queue = self.active, self._queue
        self.flow.held_up = False
        if active is None or not queue:
            return
        if len(queue) == 1 and not active.inflight and not any(side.inflight for side in self._sides):
            self._send_only(active, queue.popleft(), now)
            return
        out: dict[Pipe, list[str]] = {}
        quick, choice = self._verbs.quick, self._choice(now)
        while queue and active.barrier is None:
            command = queue[0]
            if command.verb in TIMELESS and self._acting is None and command.verb in quick and not command.keys:
                pipe = next(choice, None)
                if pipe is None:
                    break
            else:
                pipe = self._pipe_for(command, active, choice)
                if pipe is None or not self._takes_more(pipe, now):
                    break
            queue.popleft()
            text, inflight = command.text, pipe.inflight
            if not inflight:
                pipe.head_since = now
            inflight.append(command)
            pipe.size += len(text)
            command.sent, command.sent_at = True, now
            for thing in command.things:
                self._where[thing] = pipe, self._where.get(thing, (pipe, 0))[1] + 1
            if pipe is active:
                self._goes_first(active, command, now)
            if pipe in out:
                out[pipe].append(text)
            else:
                out[pipe] = [text]
        for pipe, texts in out.items():
            self.flow.moved = now
            self._out.append(Send(pipe, texts[0] if len(texts) == 1 else "".join(texts)))
        self.flow.held_up = bool(queue) and self._has_room(active)

    def _send_only(self, active: Pipe, command: Command, now: float) -> None:
        """The same for one if nothing is in flight anywhere and nothing else waits."""
        active.head_since = now
        if command.verb in BESIDE:
            command.things = things_of(command)
            for thing in command.things:
                self._where[thing] = active, 1
        else:
            self._acting, self._acted_at = command, now
        self._send_lone(active, command, now)

    def _choice(self, now: float) -> Iterator[Pipe]:
        """A pipe for each read that may go anywhere: so many to one that all of them have as much to do."""
        pipes = list(self.pipes()) if now - self._acted_at >= self._limits.calm else [self.active]
        usable = [pipe for pipe in pipes if pipe is not None and self._takes_more(pipe, now)]
        waiting = len(self._queue) + sum(len(pipe.inflight) for pipe in usable)
        limits = self._limits
        for level in (max(limits.few, -(-waiting // max(1, len(usable)))), limits.window):
            most = min(level, limits.window)
            for pipe in usable:
                while len(pipe.inflight) < most and pipe.size < limits.window_size:
                    yield pipe

    def _pipe_for(self, command: Command, active: Pipe, choice: Iterator[Pipe]) -> Pipe | None:
        """Where it may be sent now, None if nowhere."""
        verb = command.verb
        if verb not in BESIDE:
            waits = active.doubtful is not None and verb not in READING
            return None if waits or any(side.inflight for side in self._sides) else active
        command.things = things_of(command)
        if command.things and (found := {self._where[each][0] for each in command.things if each in self._where}):
            pipe = found.pop()
            return pipe if not found and (pipe is active or verb in self._verbs.quick) else None
        return next(choice, None) if self._acting is None and verb in self._verbs.quick else active

    def _has_room(self, pipe: Pipe) -> bool:
        return len(pipe.inflight) < self._limits.window and pipe.size < self._limits.window_size

    def _takes_more(self, pipe: Pipe, now: float) -> bool:
        """Whether there is room, and it moves."""
        return self._has_room(pipe) and (not pipe.inflight or now - pipe.head_since <= self._limits.late)

    def _goes_first(self, active: Pipe, command: Command, now: float) -> None:
        """It is sent on the active pipe: what that means for those behind it."""
        verb = command.verb
        if verb not in BESIDE:
            self._acting, self._acted_at = command, now
        if command.job:
            self._jobs.under_way[command.job] = command
        if verb not in STEADY:
            active.doubtful = command
        if verb not in self._verbs.quick:
            active.barrier = command

    # -- a pipe's way

    def _in_flight(self) -> Iterable[Command]:
        return chain.from_iterable(pipe.inflight for pipe in self.pipes())

    def _silent(self, now: float) -> float:
        return max((pipe.silent(now) for pipe in self.pipes()), default=0.0)

    def _late_pipe(self, now: float) -> Pipe | None:
        return next((pipe for pipe in self.pipes() if self._is_late(pipe, now)), None)

    def _frozen_for(self, now: float) -> float:
        return max((self._overdue(pipe, now) for pipe in self.pipes()), default=0.0)

    def _replace(self, pipe: Pipe, other: Pipe) -> None:
        self._forget(pipe)
        if pipe is self.active:
            self._acting = None
            super()._replace(pipe, other)
        else:
            other.state = PipeState.ACTIVE
            self._sides[self._sides.index(pipe)] = other

    def _lose(self, pipe: Pipe, fault: LinkError | None, now: float) -> None:
        ended = [pipe]
        if pipe is self.active:
            ended += self._sides
            self._sides = []
            self._awaited.clear()
            self._acting, self._sides_at = None, 0.0
        elif pipe in self._sides:
            self._sides.remove(pipe)
            self._sides_at = now + self._limits.again
        for each in ended:
            self._forget(each)
            if each is not pipe:
                self._close(each)
            super()._lose(each, fault, now)

    def _rejoin(self, pipe: Pipe, now: float) -> None:
        """What must wait for another pipe that was left is kept there."""
        kept, pipe.backlog = pipe.backlog, deque()
        busy = {
            left: {key for each in (*left.inflight, *left.backlog) if not each.ended for key in each.keys}
            for left in self._left
        }
        for command in kept:
            for left, keys in busy.items():
                if not keys.isdisjoint(command.keys):
                    left.backlog.append(command)
                    keys.update(command.keys)
                    break
            else:
                pipe.backlog.append(command)
        super()._rejoin(pipe, now)

    def _forget(self, pipe: Pipe) -> None:
        """What is read on it is no matter for others any more."""
        self._where = {thing: where for thing, where in self._where.items() if where[0] is not pipe}

    def _want_pipes(self, now: float) -> None:
        super()._want_pipes(now)
        if self.active is not None and now >= self._sides_at:
            while 1 + len(self._sides) + len(self._awaited) < self._limits.reads:
                pipe = Pipe()
                self._awaited.add(pipe)
                self._out.append(OpenPipe(pipe))
