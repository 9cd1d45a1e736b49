"""The ordered lane: commands sent ahead of their replies on one connection, replies matched in order.

FreeSWITCH runs an `api` inside the thread of its connection, so a slow command holds up what was sent behind it.
Three things keep others from waiting: verbs known to be slow go to the worker pool; nothing is sent behind a verb
that has not yet been seen to be quick; and when the command at the head is late, the connection is left to it and
a new one takes its place (the lane is then a *pipe* further). A verb found slow goes to the pool from then on.

Threads: `submit` and `flush` are called by whoever brings commands; each pipe has a reader thread that calls
`done` and `failed`; the `esl-watch` thread keeps the time limits. One lock guards all state and the sending.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from event_agent.backoff import Backoff
from event_agent.errors import LinkError
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.ordering import Command, KeyOrder, linked
from event_agent.freeswitch.slow_verbs import SlowVerbs
from event_agent.freeswitch.worker_pool import WorkerPool
from event_agent.protocol.frames import Frame

log = logging.getLogger(__name__)

WINDOW = 512  # commands sent ahead of their replies
WINDOW_BYTES = 131072  # of their text; more could fill the socket's buffer and block the sender
QUEUE = 8192  # commands that wait to be sent; a full queue holds up whoever submits, then refuses
QUEUE_WAIT = 2.0  # seconds
NEW_VERB_LATE = 0.05  # seconds after which a verb not yet known loses the lane to the others
LATE = 0.5  # the same for a verb known to be quick: a switch that stalls for a moment keeps its order
RETIRED = 16  # connections left to slow commands at one time
TICK = 0.25  # seconds between two looks at the time limits
JOB_WAKE = 0.005  # seconds between two nudges while an originate is under way
NOT_CONNECTED = "FreeSWITCH is not connected"
LOST = "The connection to FreeSWITCH was lost before it answered"


class _Pipe:
    """One connection and what was sent on it and is not answered."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inflight: deque[Command] = deque()
        self.backlog: deque[Command] = deque()  # of a retired one: what waits for the channels it is busy with
        self.bytes = 0
        self.head_since = 0.0  # when the command at the head became the head
        self.retired = False
        self.hears_jobs = False


class CommandLane:
    """Takes commands in order and gets each of them answered, refused or timed out."""

    def __init__(
        self,
        connect: Callable[[bool], Connection],
        pool: WorkerPool,
        batch: Callable[[], AbstractContextManager[object]],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        timeout: float,
    ) -> None:
        """`connect(fresh)`: fresh is True for a new link, False for a further connection of one that is up.

        `batch` wraps the answering of the commands of one read. `on_up` and `on_down` run on the pipe's thread.
        """
        self._connect = connect
        self._pool = pool
        self._batch = batch
        self._on_up = on_up
        self._on_down = on_down
        self._timeout = timeout
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._pipe: _Pipe | None = None
        self._pipes: set[_Pipe] = set()
        self._threads: set[threading.Thread] = set()
        self._queue: deque[Command] = deque()
        self._barrier: Command | None = None  # an unproven verb in flight: nothing goes behind it
        self._order = KeyOrder()
        self._verbs = SlowVerbs()
        self._jobs: dict[str, Command] = {}
        self._failures: list[tuple[Command, str]] = []  # to be told once the lock is free
        self._refusing = False  # the queue stayed full for QUEUE_WAIT: refuse at once until it moves
        self._rotating = False
        self._stopping = threading.Event()
        self._stuck = threading.Event()
        self.wake_jobs = True

    # -- for the daemon

    def start(self) -> None:
        """Start connecting; never blocks."""
        self._spawn(self._own, None, name="esl-lane")
        self._spawn(self._watch, name="esl-watch")

    def stop(self, timeout: float) -> None:
        """End all threads within `timeout` seconds; what is still unanswered fails."""
        self._stopping.set()
        self._stuck.set()
        self.abort()
        deadline = time.monotonic() + timeout
        while threads := [thread for thread in list(self._threads) if thread is not threading.current_thread()]:
            threads[0].join(max(0.0, deadline - time.monotonic()))
            if threads[0].is_alive():
                log.warning("thread %s did not end in time", threads[0].name)
                return
            self._threads.discard(threads[0])

    def abort(self) -> None:
        """Break all connections: commands under way fail at once, and the lane connects again."""
        with self._lock:
            for pipe in self._pipes:
                pipe.connection.abort()

    @property
    def connected(self) -> bool:
        """True while commands are taken."""
        return self._pipe is not None

    @property
    def pending(self) -> int:
        """Commands not answered yet, wherever they wait."""
        with self._lock:
            inflight = sum(len(pipe.inflight) + len(pipe.backlog) for pipe in self._pipes)
            return inflight + len(self._queue) + len(self._jobs) + self._order.waiting + self._pool.pending

    # -- a command enters

    def submit(self, command: Command) -> None:
        """Take a command; it is sent at the next `flush`. Its `failed` may be called before this returns."""
        command.limit = command.limit or self._timeout
        command.deadline = time.monotonic() + command.limit
        with self._lock:
            if len(self._queue) >= QUEUE and not self._refusing:
                self._fill()
                self._refusing = not self._room.wait_for(lambda: len(self._queue) < QUEUE, QUEUE_WAIT)
            if self._pipe is None:
                self._failures.append((command, NOT_CONNECTED))
            elif self._refusing or self._order.waiting >= QUEUE or len(self._jobs) >= QUEUE:
                self._failures.append((command, f"Too many commands are waiting for FreeSWITCH ({QUEUE})"))
            elif not self._waits(command) and not self._route(command):
                self._released(command)
        if self._failures:
            self._tell_failures()

    def flush(self) -> None:
        """Send what was submitted. Raises nothing: a broken link is its reader's to report."""
        with self._lock:
            self._fill()

    def _waits(self, command: Command) -> bool:
        """True when the command was put aside for another of its channel. Lock held."""
        if not self._order.blocked(command):
            return False
        self._hold_earlier(command)
        return self._order.must_wait(command)

    def _hold_earlier(self, command: Command) -> None:
        """What is on the lane for the same channels goes first. Lock held."""
        if self._pipe:
            self._order.hold_all(command, (*self._pipe.inflight, *self._queue))

    def _route(self, command: Command) -> bool:
        """To the queue, or to the pool; False when it was refused there. Lock held."""
        # A bgapi is not slow, whatever it was once: a worker would take its first answer for the end of the job.
        if command.job or not (command.slow or self._verbs.slow(command.verb)):
            self._queue.append(command)
            return True
        if command.keys and not command.held:
            self._hold_earlier(command)
            if self._order.must_wait(command):
                return True
            self._order.hold(command)
        if not self._pool.submit(command, self._pool_done):
            self._failures.append((command, "Too many slow commands are waiting for FreeSWITCH"))
            return False
        return True

    def _fill(self) -> None:
        """Send as much of the queue as may go ahead. Lock held."""
        pipe, queue = self._pipe, self._queue
        if pipe is None or not queue:
            return
        now = time.monotonic()
        texts: list[str] = []
        inflight = pipe.inflight
        while queue and self._barrier is None and len(inflight) < WINDOW and pipe.bytes < WINDOW_BYTES:
            if inflight and now - pipe.head_since > LATE:
                break
            command = queue.popleft()
            if command.job and not pipe.hears_jobs:
                pipe.hears_jobs = True
                queue.appendleft(command)
                command = self._hear_jobs()
            if not inflight:
                pipe.head_since = now
            command.sent = now
            inflight.append(command)
            pipe.bytes += len(command.text)
            texts.append(command.text)
            if not self._verbs.quick(command.verb):
                self._barrier = command
        if texts:
            try:
                pipe.connection.send("".join(texts))
            except LinkError as error:
                log.debug("send: %s", error)
                pipe.connection.abort()  # its reader thread takes it from there
        if len(queue) < QUEUE:
            self._refusing = False
            self._room.notify_all()
        if queue and not self._stuck.is_set() and len(inflight) < WINDOW:
            self._stuck.set()

    # -- an answer arrives

    def _own(self, replaces: _Pipe | None) -> None:
        """A pipe's thread: connect, read, connect again, until the pipe is retired."""
        backoff = Backoff(0.2, 10.0)
        while not self._stopping.is_set():
            try:
                connection = self._connect(replaces is None)
            except LinkError as error:
                if replaces is not None:
                    break  # the watch will try again
                self._on_down(str(error))
                self._stopping.wait(backoff.next())
                continue
            pipe = _Pipe(connection)
            if not self._install(pipe, replaces):
                connection.close()
                break
            if replaces is None:
                self._on_up()
            replaces = None
            started = time.monotonic()
            try:
                self._read(pipe)
            except LinkError as error:
                self._lost(pipe, error)
            if pipe.retired:
                break
            if time.monotonic() - started > 10.0:
                backoff.reset()  # sooner, and it is a switch that drops us as soon as it takes us
            self._stopping.wait(backoff.next())
        if replaces is not None:
            with self._lock:
                self._rotating = False

    def _install(self, pipe: _Pipe, replaces: _Pipe | None) -> bool:
        """Make it the pipe commands go to; False when the one it should replace is gone by itself."""
        with self._lock:
            if self._pipe is not replaces or self._stopping.is_set():
                return False
            if replaces is not None:
                self._rotating = False
                replaces.retired = True
                self._leave_behind(replaces)
                if not replaces.inflight:
                    replaces.connection.abort()  # its thread waits for answers that won't come
            self._barrier = None
            self._pipe = pipe
            self._pipes.add(pipe)
            if self._jobs or any(each.job for other in self._pipes for each in other.inflight):
                pipe.hears_jobs = True
                self._queue.appendleft(self._hear_jobs())
            self._fill()
        return True

    def _leave_behind(self, pipe: _Pipe) -> None:
        """A pipe retires with what was sent on it; what is queued for the same channels waits for that. Lock held."""
        keys = linked({key for each in pipe.inflight for key in each.keys}, self._queue)
        pipe.backlog.extend(each for each in self._queue if not keys.isdisjoint(each.keys))
        self._queue = deque(each for each in self._queue if keys.isdisjoint(each.keys))
        for command in (*pipe.inflight, *pipe.backlog):
            self._order.hold(command)

    def _rejoin(self, pipe: _Pipe) -> None:
        """A retired pipe has nothing more to wait for: what it kept back goes to the lane. Lock held."""
        while pipe.backlog:
            command = pipe.backlog.popleft()
            if self._pipe is not None:
                self._queue.append(command)
            else:
                self._failures.append((command, NOT_CONNECTED))
                self._released(command)

    def _hear_jobs(self) -> Command:
        """The subscription by which a pipe learns that a bgapi has ended."""
        limit = self._timeout
        ignore: Callable[[str], None] = log.debug
        return Command(
            "event json BACKGROUND_JOB\n\n", "event", ignore, ignore, limit=limit, deadline=time.monotonic() + limit
        )

    def _read(self, pipe: _Pipe) -> None:
        """Until the link breaks, or the pipe is retired and all it was asked is answered."""
        while not pipe.retired or pipe.inflight:
            self._take(pipe, pipe.connection.receive(None))
        if pipe.hears_jobs and self._jobs:  # an end that was queued behind the slow command comes right after it
            self._take(pipe, pipe.connection.receive(0.1))
        with self._lock:
            self._pipes.discard(pipe)
            pipe.connection.close()

    def _take(self, pipe: _Pipe, frames: list[Frame]) -> None:
        finished: list[tuple[Command, str]] = []
        try:
            with self._lock:
                for frame in frames:
                    self._answer(pipe, frame, finished)
                if not pipe.inflight:
                    self._rejoin(pipe)
                self._fill()
        finally:  # what came before a frame that ends the link was answered
            if finished:
                with self._batch():
                    for command, text in finished:
                        command.done(text)
        if self._failures:
            self._tell_failures()

    def _answer(self, pipe: _Pipe, frame: Frame, finished: list[tuple[Command, str]]) -> None:
        """Match one frame with what it answers. Lock held."""
        head = frame.head
        if head.startswith(b"Content-Type: api/response"):
            text = frame.body.decode(errors="replace")
        elif head.startswith(b"Content-Type: command/reply"):
            text = frame.text
        elif frame.content_type == b"text/event-json":
            self._job_ended(frame.body, finished)
            return
        else:  # text/disconnect-notice: the end of file that follows says the rest
            return
        if not pipe.inflight:
            raise LinkError("FreeSWITCH answered what it was not asked")
        command = pipe.inflight.popleft()
        pipe.bytes -= len(command.text)
        now = time.monotonic()
        self._verbs.took(command.verb, now - pipe.head_since)
        pipe.head_since = now
        if command is self._barrier:
            self._barrier = None
        if command.job and text.startswith("+OK"):
            self._jobs[command.job] = command
            if self.wake_jobs:
                self._stuck.set()
            return
        finished.append((command, text))
        self._released(command)

    def _job_ended(self, data: bytes, finished: list[tuple[Command, str]]) -> None:
        try:
            event = json.loads(data.decode(errors="replace"))
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise LinkError("FreeSWITCH sent an event that is not JSON")
        command = self._jobs.pop(str(event.get("Job-UUID")), None)
        if command is not None:  # others use bgapi too
            finished.append((command, str(event.get("_body", ""))))
            self._released(command)

    def _pool_done(self, command: Command, seconds: float) -> None:
        """The pool is through with a command; called on its thread, before `done`."""
        with self._lock:
            self._verbs.pool_took(command.verb, seconds)
            self._released(command)
            self._fill()
        self._tell_failures()

    def _released(self, command: Command) -> None:
        """Let those go that waited for its channel. Lock held."""
        ready = deque(self._order.release(command))
        while ready:  # not by calling itself: a channel may have thousands of them
            following = ready.popleft()
            if self._pipe is None:
                self._failures.append((following, NOT_CONNECTED))
                ready.extend(self._order.release(following))
            elif not self._route(following):
                ready.extend(self._order.release(following))

    def _tell_failures(self) -> None:
        """Tell callers what could not be done. Without the lock: they may submit again."""
        with self._lock:
            failures, self._failures = self._failures, []
        if failures:
            with self._batch():
                for command, message in failures:
                    command.failed(message)

    # -- time and faults

    def _lost(self, pipe: _Pipe, error: LinkError) -> None:
        """A pipe broke: fail what was on it, say so once."""
        now = time.monotonic()
        with self._lock:
            self._pipes.discard(pipe)
            pipe.connection.close()
            gone = [(each, self._timed_out(each) if each.deadline <= now else LOST) for each in pipe.inflight]
            pipe.inflight.clear()
            active = pipe is self._pipe
            if active:
                self._pipe = None
                self._barrier = None
                gone += [(each, NOT_CONNECTED) for each in self._queue]
                self._queue.clear()
                gone += [(each, LOST) for each in self._jobs.values()]
                self._jobs.clear()
                self._refusing = False
                self._room.notify_all()
            self._failures += gone
            for command, _ in gone:
                self._released(command)
            self._rejoin(pipe)
            self._fill()
        self._tell_failures()
        if active and not self._stopping.is_set():
            self._on_down(str(error))

    @staticmethod
    def _timed_out(command: Command) -> str:
        return f"Command timed out after {command.limit:g} seconds"

    def _watch(self) -> None:
        """The esl-watch thread: late commands, time limits, and nudges while a job's end is awaited."""
        while not self._stopping.is_set():
            self._stuck.wait(TICK)
            if self._stopping.is_set():
                return
            now = time.monotonic()
            with self._lock:
                pipe = self._pipe
                late = NEW_VERB_LATE if self._barrier is not None else LATE
                if pipe and pipe.inflight and now - pipe.head_since > late and not self._rotating:
                    if len(self._pipes) < RETIRED:
                        self._rotating = True
                        self._spawn(self._own, pipe, name="esl-lane")
                for each in self._pipes:
                    if each.inflight and each.inflight[0].deadline <= now:
                        each.connection.abort()  # never reused out of step; its reader reports
                for job, command in list(self._jobs.items()):
                    if command.deadline <= now:
                        del self._jobs[job]
                        self._failures.append((command, self._timed_out(command)))
                        self._released(command)
                if self._jobs and self.wake_jobs and pipe:
                    self._nudge(pipe)
                busy = bool(self._queue) or bool(self._jobs and self.wake_jobs)
                if not busy:
                    self._stuck.clear()
            self._tell_failures()
            if busy:
                self._stopping.wait(JOB_WAKE)

    def _nudge(self, pipe: _Pipe) -> None:
        # An idle connection looks at its events each 20 ms; a lone line break makes it look at once.
        try:
            pipe.connection.send("\n\n")
        except LinkError:
            pipe.connection.abort()

    def _spawn(self, target: Callable[..., None], *args: object, name: str) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._threads = {each for each in self._threads if each.is_alive()} | {thread}
        thread.start()

