"""The command lane: threads, sockets and the lock around the scheduler, which knows the rules (`scheduler.py`).

What happens is told to the scheduler with the lock held. What is to be sent takes its place in its pipe's outbox before
the lock is let go of, so that it leaves in the order in which it was scheduled; everything else is carried out without
the lock.

Threads: `submit` and `flush` are called by the threads that bring commands; the loop's thread reads the answers;
`esl-lane` connects, and connects again, and a second one opens each further pipe; `esl-watch` lets time pass.
`done` and `failed` of a command are called on whichever of them, or of the workers, learns of its end.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command, Executed, Failure, fault_of
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.effects import (
    ClosePipe,
    Crowded,
    Done,
    Effect,
    Effects,
    Failed,
    LinkLost,
    OpenPipe,
    Room,
    Run,
    Send,
)
from event_agent.freeswitch.frames import Frame
from event_agent.freeswitch.pipe import Pipe
from event_agent.freeswitch.pool import STOPPING, WorkerPool
from event_agent.freeswitch.scheduler import Limits, Scheduler
from event_agent.freeswitch.side_by_side import SideBySide
from event_agent.freeswitch.turns import Turns
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import STUCK, Echo, Rounds, Signs, Watched
from event_agent.runtime.link import Link, keep_connected
from event_agent.runtime.log import Seldom, clean
from event_agent.runtime.loop import Loop

log = logging.getLogger(__name__)

ROUND = 5.0  # seconds between two signs of life of esl-lane
# With many commands under way each wake-up would bring one answer, and cost more CPU than the answer itself; and so on
# at the NATS server and at the client, which get in one piece what the loop lets gather.
MANY = 6  # commands under way from which it does
GATHER = 0.000015  # seconds for each of them: FreeSWITCH takes 25 µs and more, so it does not run out of work
# More than some forty answers in one piece saves little, and FreeSWITCH is to have work while they are passed on.
GATHER_LEAST, GATHER_MOST = 0.0002, 0.0006  # seconds
SUBSCRIBE_LIMIT = 5.0  # seconds FreeSWITCH has to subscribe a pipe to the ends of jobs


class _Line:
    """A pipe's connection, and what waits to be sent on it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.outbox: deque[str] = deque()  # filled with the lane's lock held, so that the order is the scheduler's
        self.read_in = -1  # the loop's round in which it was last read together with others
        self._sending = threading.Lock()
        self._ended = False

    def drain(self) -> None:
        """Send what waits. If another thread is at it, that one sends this too."""
        outbox = self.outbox
        while outbox and self._sending.acquire(blocking=False):
            try:
                while outbox and not self._ended:
                    text = outbox.popleft()
                    self.connection.send(text)
            except LinkError:
                self.connection.abort()  # its reader reports
                outbox.clear()
            finally:
                self._sending.release()
            if self._ended:
                return

    def end(self) -> None:
        """Close the connection. On the thread that reads from it."""
        self.connection.abort()  # a sender is through now
        with self._sending:
            self._ended = True
            self.connection.close()


class _End:
    """Why the link ends."""

    def __init__(self) -> None:
        self.lost = threading.Event()  # the pipe that takes commands is gone
        self.fault = LinkError("")  # and why
        self.aborted: LinkError | None = None  # why we broke it off ourselves


class _Watcher:
    """The thread that lets time pass: how it waits."""

    def __init__(self) -> None:
        self.hurry = threading.Event()  # it should not wait for its next round
        self.resting = False  # it waits for long


class _Bad:
    """Commands that were not one frame, and not said in the log."""

    def __init__(self) -> None:
        self.count = 0
        self.say = Seldom()


class CommandLane:
    """Takes commands in order and gets each of them answered, refused or timed out."""

    def __init__(
        self,
        loop: Loop,
        connect: Callable[[bool], Connection],
        pool: WorkerPool,
        batch: AbstractContextManager[object],
        link: Link,
        limits: Limits,
        on_room: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        """`connect(fresh)`: fresh is True for a new link, False for a further connection of one that is up.

        `batch` is entered while the commands of one read are answered. `link` is kept, and observed, on the `esl-lane`
        thread. `on_room` is called, on any thread, when a caller that paused because the lane was `full` may go on.
        """
        self._loop = loop
        self._connect = connect
        self._pool = pool
        self._batch = batch
        self.link = link
        self._limits = limits
        self._on_room = on_room
        # All that the lane is given is answered within a command's time limit, behind others that had theirs before.
        self._patience = 2 * limits.timeout + STUCK
        self._backoff = backoff or Backoff(0.2, 10.0)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # a pipe has ended
        self.scheduler = (SideBySide if limits.reads > 1 else Scheduler)(limits, pool.workers)
        self.lines: dict[Pipe, _Line] = {}
        self._threads: set[threading.Thread] = set()
        self.stopping = threading.Event()
        self._watcher = _Watcher()
        self._turns = Turns(limits.soon)
        self._end = _End()
        self._bad = _Bad()

    # -- for the daemon

    def start(self) -> None:
        """Start connecting; never blocks."""
        self._spawn(self._keep_connected, name="esl-lane")
        self._spawn(self._watch, name="esl-watch")

    def stop(self, timeout: float) -> None:
        """End all threads and connections within `timeout` seconds; what is still unanswered fails.

        The loop must still run.
        """
        self.stopping.set()
        self._watcher.hurry.set()
        self._end.lost.set()
        self._happened(self.scheduler.stop)
        deadline = time.monotonic() + timeout
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("thread %s did not end in time", thread.name)
        with self._changed:
            if not self._changed.wait_for(lambda: not self.lines, max(0.0, deadline - time.monotonic())):
                log.warning("%d connections to FreeSWITCH did not end in time", len(self.lines))

    def abort(self, fault: LinkError | None = None) -> None:
        """Break all connections: commands under way fail at once, and the lane connects again. `fault` is why."""
        with self._lock:
            self._end.aborted = fault
            for line in self.lines.values():
                line.connection.abort()

    def ask(self, answered: Callable[[], None]) -> None:
        """Have the loop's thread call back, by way of FreeSWITCH if that is connected."""
        self.submit(Command(wire.PROBE, "filter", lambda _: answered(), lambda _: answered(), patient=True))
        self.flush()

    def signs(self) -> Signs:
        """By which its threads are known to be alive."""
        own = (
            Watched("the command lane", self._patience, Echo(self.ask)),
            Watched("thread esl-watch", STUCK, Rounds("esl-watch")),
        )
        return self.link.signs("esl-lane") + Signs(("esl-watch",), own)

    @property
    def connected(self) -> bool:
        """True while commands are taken."""
        return self.scheduler.up

    @property
    def pending(self) -> int:
        """Commands not answered yet, wherever they wait."""
        return self.scheduler.pending

    @property
    def connections(self) -> int:
        """Connections that take commands: one, or more with `lanes_read`."""
        return len(self.scheduler.pipes())

    @property
    def full(self) -> bool:
        """True while the caller should pause until `on_room`.

        More are taken all the same, some thousands (`Limits.queue`); what comes then is refused.
        """
        return self.scheduler.flow.full

    # -- a command enters

    def submit(self, command: Command) -> None:
        """Take a command; it is sent at the next `flush`. Its `failed` may be called before this returns."""
        if fault := fault_of(command.text):
            self._refuse(command, fault)
            return
        with self._lock:
            effects = self.scheduler.submit(command, time.monotonic())
            if effects:
                self._queued(effects)
        if effects:
            self._carry_out(effects)

    def flush(self) -> bool:
        """Send what was submitted; False if the caller should pause until `on_room`.

        Raises nothing: a broken link is its reader's to report.
        """
        with self._lock:
            effects = self._queued(self.scheduler.flush(time.monotonic()))
        if effects:
            self._carry_out(effects)
        return not self.scheduler.flow.full

    def _refuse(self, command: Command, fault: str) -> None:
        """It is not exactly one frame: a fault of ours, or somebody's attack that got that far. Never sent."""
        with self._lock:
            self._bad.count += 1
            count = self._bad.count if self._bad.say.due() else 0
            self._bad.count -= count
        if count:
            log.error("%d commands were not sent (%s): %s", count, clean(command.verb), BadCommand(fault))
        command.failed(Failure(str(BadCommand(fault)), Executed.NO))

    # -- an answer arrives

    def _readable(self, pipe: Pipe) -> None:
        """Take what has come on a pipe, or its end. On the loop's thread."""
        line = self.lines.get(pipe)
        if line is None:
            return
        try:
            frames = line.connection.receive(0.0)
            if pipe.for_jobs:
                self._jobs_ended(frames)
            elif frames:
                self._answered(pipe, frames)
        except LinkError as fault:
            self._ended(pipe, line, fault)

    def _readable_beside(self, pipe: Pipe) -> None:
        """The same with `lanes_read`: what has come on the pipes that take commands leaves in one write."""
        line, pipes, now = self.lines.get(pipe), self.scheduler.pipes(), self._loop.round
        if line is None or line.read_in == now:  # it was read with another one
            return
        if pipe not in pipes:
            self._readable(pipe)
            return
        with self._batch:
            for each in pipes:
                if (line := self.lines.get(each)) is not None:
                    line.read_in = now
                    self._readable(each)

    def _answered(self, pipe: Pipe, frames: list[Frame]) -> None:
        texts = []
        for frame in frames:
            head = frame.head
            if head.startswith(b"Content-Type: api/response"):
                body = frame.body
                texts.append(body.decode() if body.isascii() else body.decode(errors="replace"))  # a third
            elif head.startswith(b"Content-Type: command/reply"):
                texts.append(frame.text)
            # Else a text/disconnect-notice: the end of file that follows says the rest.
        with self._lock:
            effects = self._queued(self.scheduler.answered(pipe, texts, time.monotonic()))
        self._carry_out(effects)

    def _jobs_ended(self, frames: list[Frame]) -> None:
        """Raises LinkError."""
        for frame in frames:
            if frame.content_type == b"text/event-json":
                self._happened(self.scheduler.job_ended, *_job(frame.body))

    def _worked(self, command: Command, text: str, why: str) -> None:
        """A worker is through with a command; on its thread."""
        self._happened(self.scheduler.worked, command, text, why)

    # -- effects

    def _happened(self, what: Callable[..., Effects], *facts: object) -> None:
        """Tell the scheduler, and do what comes of it. The paths of a command say it themselves, a call shorter."""
        with self._lock:
            effects = self._queued(what(*facts, time.monotonic()))
        self._carry_out(effects)

    def _queued(self, effects: Effects) -> Effects:
        """Lock held: what is to be sent takes its place in the order."""
        for effect in effects:
            if type(effect) is Send and (line := self.lines.get(effect.pipe)) is not None:
                line.outbox.append(effect.text)
        scheduler = self.scheduler
        many = 0 if scheduler.active is None else len(scheduler.active.inflight)
        if many != self._turns.many:
            self._loop.awake_until = self._turns.now(many, time.monotonic())
        self._loop.gather = 0.0 if many < MANY else min(max(many * GATHER, GATHER_LEAST), GATHER_MOST)
        watcher = self._watcher
        if (scheduler.hurry or (watcher.resting and scheduler.pressing)) and not watcher.hurry.is_set():
            watcher.hurry.set()
        return effects

    def _carry_out(self, effects: Effects) -> None:
        """Lock not held: callbacks may submit again. What is to be sent goes first, then FreeSWITCH has work."""
        if len(effects) == 1 and type(answer := effects[0]) is Done:  # of a command that was alone: no batch
            answer.command.done(answer.text)
            return
        ended: list[Done | Failed] = []
        for effect in effects:  # and those that come of them: `_others` may add some
            if type(effect) is Send:
                if (line := self.lines.get(effect.pipe)) is not None:
                    line.drain()
            elif type(effect) is Done or type(effect) is Failed:
                ended.append(effect)
            else:
                self._others(effect, effects)
        if ended:
            with self._batch:
                for end in ended:
                    if type(end) is Done:
                        end.command.done(end.text)
                    elif type(end) is Failed:
                        end.command.failed(end.failure)

    def _others(self, effect: Effect, effects: Effects) -> None:
        """What comes seldom."""
        if isinstance(effect, Run):
            if not self._pool.run(effect.command, self._worked):
                with self._lock:
                    effects += self._queued(
                        self.scheduler.worked(effect.command, "", STOPPING, time.monotonic())
                    )
        elif isinstance(effect, OpenPipe):
            self._spawn(self._open, effect.pipe, name="esl-lane")
        elif isinstance(effect, ClosePipe):
            if (line := self.lines.get(effect.pipe)) is not None:
                line.connection.abort()  # the loop's thread finds its end
        elif isinstance(effect, LinkLost):
            self._end.fault = self._end.aborted or effect.fault
            self._end.lost.set()
        elif isinstance(effect, Room):
            self._on_room()
        elif isinstance(effect, Crowded):
            log.warning("%d slow commands are waiting for a worker", effect.waiting)

    # -- connections come and go

    def _keep_connected(self) -> None:
        """The esl-lane thread."""
        keep_connected(self._connect_link, self._serve, self._backoff, self.stopping, self.link)

    def _connect_link(self) -> Pipe:
        """A new link, which takes commands from now on. Raises LinkError."""
        connection = self._connect(True)
        self._end.aborted = None
        self._end.lost.clear()
        pipe = Pipe()
        with self._lock:
            self._watch_pipe(pipe, connection)
            effects = self._queued(self.scheduler.link_up(pipe, time.monotonic()))
        self._carry_out(effects)
        return pipe

    def _serve(self, _: Pipe) -> None:
        """Wait for the end of the link. Raises LinkError."""
        while not self.stopping.is_set() and not self._end.lost.wait(ROUND):
            self.link.beat = time.monotonic()
        if not self.stopping.is_set():
            raise self._end.fault

    def _open(self, pipe: Pipe) -> None:
        """An esl-lane thread of its own: open a further pipe. The loop's thread goes on with it."""
        try:
            connection = self._connect(False)
            if pipe.for_jobs:
                _subscribe(connection)
        except LinkError as fault:
            self._happened(self.scheduler.pipe_lost, pipe, fault)
        else:
            with self._lock:
                self._watch_pipe(pipe, connection)
            self._loop.call(lambda: self._opened(pipe))

    def _opened(self, pipe: Pipe) -> None:
        """It is there. On the loop's thread."""
        for each in list(self.lines):  # an answer that came meanwhile tells whether the other pipe is needed
            self._readable(each)
        self._happened(self.scheduler.pipe_up, pipe)

    def _watch_pipe(self, pipe: Pipe, connection: Connection) -> None:
        """Lock held. From now on the loop's thread owns the connection."""
        self.lines[pipe] = _Line(connection)
        readable = self._readable_beside if self._limits.reads > 1 else self._readable
        self._loop.watch(connection.fileno, partial(readable, pipe))
        self._loop.call(partial(self._readable, pipe))  # what it read while it connected

    def _ended(self, pipe: Pipe, line: _Line, fault: LinkError) -> None:
        """A pipe is through, or broke. On the loop's thread."""
        self._loop.forget(line.connection.fileno)
        with self._lock:
            effects = self._queued(self.scheduler.pipe_lost(pipe, fault, time.monotonic()))
            del self.lines[pipe]
        line.end()
        with self._changed:
            self._changed.notify_all()
        self._carry_out(effects)

    # -- time

    def _watch(self) -> None:
        """The esl-watch thread: lets time pass for the scheduler."""
        while not self.stopping.is_set():
            with self._lock:
                now = time.monotonic()
                self._watcher.resting = False
                effects = self._queued(self.scheduler.tick(now))
                pace, hurry = self.scheduler.pace(now), self.scheduler.hurry
                self._watcher.resting = pace > self._limits.late
                if not hurry:
                    self._watcher.hurry.clear()
            self._carry_out(effects)
            if hurry:
                self.stopping.wait(pace)
            else:
                self._watcher.hurry.wait(pace)

    def _spawn(self, target: Callable[..., None], *args: object, name: str) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        with self._lock:
            self._threads = {each for each in self._threads if each.is_alive()} | {thread}
            thread.start()  # here, or `stop` could find one that has not begun


def _subscribe(connection: Connection) -> None:
    """To the ends of jobs. Raises LinkError."""
    try:
        connection.ask(wire.line("event json BACKGROUND_JOB"), SUBSCRIBE_LIMIT)
    except LinkError:
        connection.close()
        raise


def _job(body: bytes) -> tuple[str, str]:
    """The Job-UUID and the output that the event of a job's end tells of. Raises LinkError."""
    try:
        event = json.loads(body.decode(errors="replace"))
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise LinkError("FreeSWITCH sent an event that is not JSON")
    return str(event.get("Job-UUID")), str(event.get("_body", ""))
