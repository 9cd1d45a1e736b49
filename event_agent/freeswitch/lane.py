"""The ordered lane: commands sent ahead of their replies on one connection, replies matched in order.

FreeSWITCH runs an `api` inside the thread of its connection, so a slow command holds up what was sent behind it.
Three things keep others from waiting: verbs known to be slow go to the worker pool; nothing is sent behind a verb
that has not yet been seen to be quick; and when the command at the head is late, the connection is left to it and
a new one takes its place (the lane is then a *pipe* further). A verb found slow goes to the pool from then on.

Threads: `submit` and `flush` are called by whoever brings commands; the loop's thread reads the answers and calls
`done` and `failed`; `esl-lane` connects, and connects again; `esl-watch` keeps the time limits. One lock guards all
state and the sending.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command, fault_of, timed_out
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.frames import Frame
from event_agent.freeswitch.lane_queue import NOT_CONNECTED, LaneQueue
from event_agent.freeswitch.pipe import Jobs, Pipe
from event_agent.freeswitch.pool import WorkerPool
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.log import clean
from event_agent.runtime.loop import Loop

log = logging.getLogger(__name__)

QUEUE = 8192  # commands that wait to be sent; a full queue holds up whoever submits, then refuses
QUEUE_WAIT = 2.0  # seconds
DRAIN_LOOK = 0.05  # seconds at most between two looks at all connections while the queue is full
ROUND = 5.0  # seconds between two signs of life of esl-lane
RETIRED = 16  # connections left to slow commands at one time
LINGER = 0.1  # seconds a connection that is through is kept for the end of a job that may stand behind
TICK = 0.25  # seconds between two looks at the time limits while something is under way
IDLE = 1.0  # the same while nothing is
JOB_WAKE = 0.005  # seconds between two nudges while an originate is under way
MANY = 6  # commands under way from which the loop lets answers gather
GATHER = 0.00002  # seconds for each of them: FreeSWITCH takes 10 to 50 µs a command, so it does not run out of work
GATHER_LEAST, GATHER_MOST = 0.0002, 0.004  # seconds
SAID_AGAIN = 60.0  # seconds between two lines about commands that were not sent
LOST = "The connection to FreeSWITCH was lost before it answered"


class CommandLane:
    """Takes commands in order and gets each of them answered, refused or timed out."""

    def __init__(
        self,
        loop: Loop,
        connect: Callable[[bool], Connection],
        pool: WorkerPool,
        batch: Callable[[], AbstractContextManager[object]],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        timeout: float,
    ) -> None:
        """`connect(fresh)`: fresh is True for a new link, False for a further connection of one that is up.

        `batch` wraps the answering of the commands of one read. `on_up` and `on_down` run on the `esl-lane` thread.
        `timeout`, in seconds, is for commands without a limit of their own.
        """
        self._loop = loop
        self._connect = connect
        self._pool = pool
        self._batch = batch
        self._on_up = on_up
        self._on_down = on_down
        self._timeout = timeout
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # there is room in the queue, or a pipe has ended
        self._queue = LaneQueue(pool, self._pool_done, self._hear_jobs)
        self._jobs = Jobs()
        self._pipes: set[Pipe] = set()
        self._threads: set[threading.Thread] = set()
        self._refusing = False  # the queue stayed full for QUEUE_WAIT: refuse at once until it moves
        self._draining = False  # the loop's thread waits for room
        self._moving = False
        self._stopping = threading.Event()
        self._stuck = threading.Event()  # something waits that the watch must see to
        self._gone = threading.Event()  # the pipe that commands go to has broken
        self._reason = ""
        self._bad = 0  # commands that were not one frame, and not said in the log
        self._bad_said = 0.0  # time.monotonic() before which nothing more is said of them
        self.wake_jobs = True

    # -- for the daemon

    def start(self) -> None:
        """Start connecting; never blocks."""
        self._spawn(self._keep_connected, name="esl-lane")
        self._spawn(self._watch, name="esl-watch")

    def stop(self, timeout: float) -> None:
        """End all threads and connections within `timeout` seconds; what is still unanswered fails.

        The loop must still run.
        """
        self._stopping.set()
        self._stuck.set()
        self._gone.set()
        self.abort()
        deadline = time.monotonic() + timeout
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("thread %s did not end in time", thread.name)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pipes, max(0.0, deadline - time.monotonic())):
                log.warning("%d connections to FreeSWITCH did not end in time", len(self._pipes))

    def abort(self) -> None:
        """Break all connections: commands under way fail at once, and the lane connects again."""
        with self._lock:
            for pipe in self._pipes:
                pipe.connection.abort()

    @property
    def connected(self) -> bool:
        """True while commands are taken."""
        return self._queue.pipe is not None

    @property
    def pending(self) -> int:
        """Commands not answered yet, wherever they wait."""
        with self._lock:
            inflight = sum(len(pipe.inflight) + len(pipe.backlog) for pipe in self._pipes)
            queued = len(self._queue.commands) + self._queue.waiting
            return inflight + queued + len(self._jobs) + self._pool.pending

    def pause(self) -> float:
        """Seconds the loop may let answers gather.

        With many under way each wake-up would bring one answer, and cost more CPU than the answer itself; and so on
        at the NATS server and at the client, which get what we gather in one piece.
        """
        pipe = self._queue.pipe
        count = 0 if pipe is None else len(pipe.inflight)
        return min(max(count * GATHER, GATHER_LEAST), GATHER_MOST) if count >= MANY else 0.0

    # -- a command enters

    def submit(self, command: Command) -> None:
        """Take a command; it is sent at the next `flush`. Its `failed` may be called before this returns."""
        if fault := fault_of(command.text):
            self._refuse(command, fault)
            return
        command.limit = command.limit or self._timeout
        command.deadline = time.monotonic() + command.limit
        queue = self._queue
        if len(queue.commands) >= QUEUE and not self._refusing:
            self._wait_for_room()
        with self._lock:
            if queue.pipe is None:
                queue.failures.append((command, NOT_CONNECTED))
            elif self._refusing or queue.waiting >= QUEUE or len(self._jobs) >= QUEUE:
                queue.failures.append((command, f"Too many commands are waiting for FreeSWITCH ({QUEUE})"))
            else:
                queue.put(command)
        if queue.failures:
            self._tell_failures()

    def _refuse(self, command: Command, fault: str) -> None:
        """It is not exactly one frame: a fault of ours, or somebody's attack that got that far. Never sent."""
        with self._lock:
            self._bad += 1
            now = time.monotonic()
            count, self._bad = (self._bad, 0) if now >= self._bad_said else (0, self._bad)
            if count:
                self._bad_said = now + SAID_AGAIN
        if count:
            log.error("%d commands were not sent (%s): %s", count, clean(command.verb), BadCommand(fault))
        command.failed(str(BadCommand(fault)))

    def flush(self) -> None:
        """Send what was submitted. Raises nothing: a broken link is its reader's to report."""
        with self._lock:
            self._fill()

    def _fill(self) -> None:
        """Lock held."""
        if self._queue.fill():
            self._stuck.set()
        if self._refusing and len(self._queue.commands) < QUEUE:
            self._refusing = False

    def _wait_for_room(self) -> None:
        """Hold up whoever submits, and so whoever sends us so much; for QUEUE_WAIT at most."""
        reads = self._loop.here  # nobody else reads the answers that make room
        if reads and self._draining:
            return
        if reads:
            self._draining = True
        deadline = time.monotonic() + QUEUE_WAIT
        while True:
            with self._changed:
                self._fill()
                left = deadline - time.monotonic()
                if len(self._queue.commands) < QUEUE or self._queue.pipe is None:
                    break
                if left <= 0:
                    self._refusing = True
                    break
                if not reads:
                    self._changed.wait(min(left, DRAIN_LOOK))
                pipes = list(self._pipes)
            if reads:
                for pipe in pipes:
                    self._readable(pipe, DRAIN_LOOK if pipe is self._queue.pipe else 0.0)
        if reads:
            self._draining = False

    # -- an answer arrives, on the loop's thread

    def _readable(self, pipe: Pipe, wait: float = 0.0) -> None:
        """Take what has come on a pipe, or its end, which may take `wait` seconds."""
        if pipe not in self._pipes:
            return
        try:
            self._take(pipe, pipe.connection.receive(wait))
        except LinkError as error:
            self._ended(pipe, str(error))
            return
        if pipe.retired and not pipe.inflight and not (pipe.hears_jobs and self._jobs):
            self._ended(pipe, "it is through")

    def _take(self, pipe: Pipe, frames: list[Frame]) -> None:
        finished: list[tuple[Command, str]] = []
        try:
            with self._lock:
                for frame in frames:
                    self._answer(pipe, frame, finished)
                if pipe.backlog and not pipe.inflight:
                    self._queue.rejoin(pipe)
                self._fill()
        finally:  # what came before a frame that ends the link was answered
            if finished:
                with self._batch():
                    for command, text in finished:
                        command.done(text)
        if self._queue.failures:
            self._tell_failures()

    def _answer(self, pipe: Pipe, frame: Frame, finished: list[tuple[Command, str]]) -> None:
        """Match one frame with what it answers. Lock held."""
        head = frame.head
        if head.startswith(b"Content-Type: api/response"):
            text = frame.body.decode(errors="replace")
        elif head.startswith(b"Content-Type: command/reply"):
            text = frame.text
        elif frame.content_type == b"text/event-json":
            if job := self._jobs.ended(frame):  # others use bgapi too
                finished.append(job)
                self._queue.released(job[0])
            return
        else:  # text/disconnect-notice: the end of file that follows says the rest
            return
        command, took = pipe.answered(time.monotonic())
        self._queue.answered(command, took)
        if command.job and text.startswith("+OK"):
            self._jobs.add(command)
            if self.wake_jobs:
                self._stuck.set()
            return
        finished.append((command, text))
        self._queue.released(command)

    def _pool_done(self, command: Command, seconds: float) -> None:
        """The pool is through with a command; called on its thread, before `done`."""
        with self._lock:
            self._queue.pool_took(command, seconds)
            self._fill()
        self._tell_failures()

    def _tell_failures(self) -> None:
        """Tell callers what could not be done. Without the lock: they may submit again."""
        with self._lock:
            failures, self._queue.failures = self._queue.failures, []
        if failures:
            with self._batch():
                for command, message in failures:
                    command.failed(message)

    # -- connections come and go

    def _keep_connected(self) -> None:
        """The esl-lane thread: connect, wait for the end of the link, connect again."""
        backoff = Backoff(0.2, 10.0)
        while not self._stopping.is_set():
            try:
                connection = self._connect(True)
            except LinkError as error:
                self._on_down(str(error))
                self._stopping.wait(backoff.next())
                continue
            started = time.monotonic()
            if not self._install(Pipe(connection), None):
                return
            self._on_up()
            while not self._gone.wait(ROUND):
                pass  # it comes round now and then: the health check sees a thread that does not
            if self._stopping.is_set():
                return
            self._on_down(self._reason)
            if time.monotonic() - started > 10.0:
                backoff.reset()  # sooner, and it is a switch that drops us as soon as it takes us
            self._stopping.wait(backoff.next())

    def _move(self, pipe: Pipe) -> None:
        """An esl-lane thread of its own: leave the pipe to the command that is late on it, go on with a new one."""
        with suppress(LinkError):  # the watch will try again
            self._install(Pipe(self._connect(False)), pipe)
        with self._lock:
            self._moving = False

    def _install(self, pipe: Pipe, replaces: Pipe | None) -> bool:
        """Make it the pipe commands go to; False when the one it should replace is gone by itself."""
        with self._lock:
            if self._queue.pipe is not replaces or self._stopping.is_set():
                pipe.connection.close()
                return False
            jobs = bool(self._jobs) or any(each.job for other in self._pipes for each in other.inflight)
            self._queue.move_to(pipe, hears_jobs=jobs)
            if replaces is not None and not replaces.inflight:
                replaces.connection.abort()  # its reader waits for answers that won't come
            self._gone.clear()
            self._pipes.add(pipe)
            self._loop.watch(pipe.connection.fileno, lambda: self._readable(pipe))
            self._loop.call(lambda: self._readable(pipe))  # what it read while it connected
            self._fill()
        return True

    def _hear_jobs(self) -> Command:
        """The subscription by which a pipe learns that a bgapi has ended."""
        limit = self._timeout
        ignore: Callable[[str], None] = log.debug
        return Command(
            wire.line("event json BACKGROUND_JOB"), "event", ignore, ignore, limit=limit,
            deadline=time.monotonic() + limit,
        )

    def _ended(self, pipe: Pipe, reason: str) -> None:
        """A pipe is through, or broke: fail what was on it; connect again where it was the one commands go to."""
        self._loop.forget(pipe.connection.fileno)
        queue = self._queue
        with self._lock:
            now = time.monotonic()
            late = [each for each in pipe.inflight if each.deadline <= now]
            lost = [each for each in pipe.inflight if each.deadline > now]
            if late and late[0] is pipe.inflight[0]:  # it is us who broke it off
                reason = f"FreeSWITCH did not answer a command within {late[0].limit:g} s: frozen?"
            queued: list[Command] = []
            pipe.inflight.clear()
            active = pipe is queue.pipe
            if active:
                queued = queue.lost()
                lost += self._jobs.take_all()
                self._refusing = False
            for each in late:
                queue.fail([each], timed_out(each))
            queue.fail(lost, LOST)
            queue.fail(queued, NOT_CONNECTED)
            queue.rejoin(pipe)
            self._fill()
        self._tell_failures()
        with self._changed:
            self._pipes.discard(pipe)
            pipe.connection.close()
            self._changed.notify_all()
        if active:
            self._reason = reason
            self._gone.set()

    # -- time

    def _watch(self) -> None:
        """The esl-watch thread: late commands, time limits, and nudges while a job's end is awaited."""
        active = True
        while not self._stopping.is_set():
            self._stuck.wait(TICK if active else IDLE)
            if self._stopping.is_set():
                return
            with self._lock:
                self._look(time.monotonic())
                waiting = bool(self._queue.commands)
                active = waiting or bool(self._jobs or self._pool.pending or self._queue.waiting)
                active = active or any(pipe.inflight or pipe.retired for pipe in self._pipes)
                busy = waiting or bool(self._jobs and self.wake_jobs)
                if not busy:
                    self._stuck.clear()
            self._tell_failures()
            if busy:
                self._stopping.wait(JOB_WAKE)

    def _look(self, now: float) -> None:
        """See to what is late. Lock held."""
        queue = self._queue
        if (pipe := queue.held_up) and not self._moving and len(self._pipes) < RETIRED:
            self._moving = True
            self._spawn(self._move, pipe, name="esl-lane")
        for each in self._pipes:
            if each.inflight and each.inflight[0].deadline <= now:
                each.connection.abort()  # never reused out of step; its reader reports
            elif each.retired and not each.inflight and now - each.head_since > LINGER:
                each.connection.abort()
        for command in self._jobs.take_late(now):
            queue.fail([command], timed_out(command))
        queue.fail_late(now, self._pipes)
        if self._jobs and self.wake_jobs and queue.pipe:
            queue.pipe.send(wire.NUDGE)  # an idle connection looks at its events each 20 ms; this makes it look at once

    def _spawn(self, target: Callable[..., None], *args: object, name: str) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._threads = {each for each in self._threads if each.is_alive()} | {thread}
        thread.start()
