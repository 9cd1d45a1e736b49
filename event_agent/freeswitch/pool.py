"""Slow commands: a bounded pool of threads, each with a connection of its own.

concurrent.futures waits at exit for a thread that is stuck, and its queue has no bound, so the pool is our own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch.command import Command, timed_out
from event_agent.freeswitch.connection import Connection

log = logging.getLogger(__name__)

QUEUE = 1024  # slow commands that wait for a worker
IDLE = 30.0  # seconds after which a worker's idle connection is closed, and an idle worker comes round
CONNECTING = 120.0  # seconds a worker may take to connect: a name is resolved, addresses are tried


class WorkerPool:
    """Runs commands that may take their time. `submit` may be called from any thread."""

    def __init__(self, connect: Callable[[], Connection], workers: int) -> None:
        self._connect = connect
        self._workers = workers
        self._queue: deque[tuple[Command, Callable[[Command, float], None]]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._connections: set[Connection] = set()
        self._idle = 0
        self._running = 0
        self._stopping = False
        self._due: dict[str, float] = {}  # worker: time.monotonic() by which it comes round

    def submit(self, command: Command, finished: Callable[[Command, float], None]) -> bool:
        """Queue a command; False when the queue is full. `finished(command, seconds)` comes before its `done`."""
        with self._changed:
            if len(self._queue) >= QUEUE or self._stopping:
                return False
            self._queue.append((command, finished))
            if len(self._queue) > self._idle and len(self._threads) < self._workers:
                name = f"esl-worker-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            elif self._idle:
                self._changed.notify()
            elif len(self._queue) == QUEUE // 2:
                log.warning("%d slow commands are waiting: all %d workers are busy", QUEUE // 2, self._workers)
        return True

    @property
    def pending(self) -> int:
        """Commands that wait or run."""
        return len(self._queue) + self._running

    def take_late(self, now: float) -> list[Command]:
        """Commands that have waited for a worker for all of their time; they are no longer in the queue."""
        with self._changed:
            late = [command for command, _ in self._queue if command.deadline <= now]
            if late:
                self._queue = deque(each for each in self._queue if each[0].deadline > now)
        return late

    def overdue(self) -> float:
        """Seconds since a worker should have come round: idle, connecting, or with its command. 0 where all is well."""
        with self._changed:
            first = min(self._due.values(), default=0.0)
        return max(0.0, time.monotonic() - first) if first else 0.0

    def abort(self) -> None:
        """Break all connections: what runs fails at once."""
        with self._changed:
            for connection in self._connections:
                connection.abort()

    def stop(self, timeout: float) -> None:
        """End all threads within `timeout` seconds; what runs or waits fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.abort()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("thread %s did not end in time", thread.name)

    def _next(self, timeout: float) -> tuple[Command, Callable[[Command, float], None]] | None:
        """The next command; None when there is none for `timeout` seconds, or at the end."""
        with self._changed:
            self._due[threading.current_thread().name] = time.monotonic() + timeout
            self._idle += 1
            self._changed.wait_for(lambda: self._queue or self._stopping, timeout)
            self._idle -= 1
            if not self._queue:
                return None
            self._running += 1
            return self._queue.popleft()

    def _work(self) -> None:
        connection: Connection | None = None
        while True:
            task = self._next(IDLE)
            if task is None:
                self._drop(connection)
                connection = None
                if self._stopping:
                    return
                continue
            command, finished = task
            started = time.monotonic()
            name = threading.current_thread().name
            answer, failure = "", ""
            try:
                if self._stopping or started >= command.deadline:
                    raise TimeoutError
                if connection is not None and connection.ended:
                    self._drop(connection)
                    connection = None
                if connection is None:
                    self._due[name] = started + CONNECTING
                    connection = self._open()
                # A command that came late still has its whole time.
                self._due[name] = time.monotonic() + command.deadline - started
                answer = connection.ask(command.text, command.deadline - started).text
            except LinkError as error:
                failure = timed_out(command) if time.monotonic() >= command.deadline else str(error)
                self._drop(connection)
                connection = None
            except BadCommand as error:
                failure = str(error)
            except TimeoutError:
                failure = f"{timed_out(command)}: no worker was free"
            with self._changed:
                self._running -= 1
            finished(command, time.monotonic() - started)
            if failure:
                command.failed(failure)
            else:
                command.done(answer)

    def _open(self) -> Connection:
        connection = self._connect()
        with self._changed:
            self._connections.add(connection)
        return connection

    def _drop(self, connection: Connection | None) -> None:
        if connection is not None:
            with self._changed:
                self._connections.discard(connection)
                connection.close()
