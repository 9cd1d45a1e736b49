"""Where each command goes, and when. Pure: no lock, no thread, no socket, no clock.

The lane (`lane.py`) says what has happened and gets back what is to be done about it, as effects. Each
method is one thing that can happen; `now` is the time in seconds of a clock that never goes back.

A pipe is one connection to FreeSWITCH. FreeSWITCH runs the `api` commands of a connection one after the other inside
that connection's own thread, so commands may be sent ahead of their answers, the answers come in order, and a slow
command holds up what was sent behind it (mod_event_socket.c, listener_run).

    state    meaning                                                      next
    OPENING  OpenPipe was returned                                        ACTIVE, GONE
    ACTIVE   it takes commands, or the ends of jobs; one pipe for each    LEFT, CLOSING, GONE
    LEFT     left to a command that is late: it gets no more commands     CLOSING, GONE
    CLOSING  ClosePipe was returned; what comes on it is not listened to  GONE
    GONE     its connection has ended                                     -

    a command is   because                                                          next
    queued         it waits to be sent on the active pipe                           sent
    sent           its answer is awaited                                            ended, a job
    a job          bgapi took it; a BACKGROUND_JOB event will tell its end          ended
    aside          it would be a job, and there is no pipe yet that hears its end   queued
    slow           its verb is slow: it waits for a worker                          run
    run            a worker has it                                                  ended
    held back      an earlier command for the same channel is away from the lane    queued, slow
    ended          Done or Failed was returned for it                               -

Rules
1. Each command ends exactly once. A failure tells whether FreeSWITCH may have carried it out; if it says `no`, it
   never will.
2. Queued commands are sent in the order in which they came, as many ahead as fit into the window.
3. Nothing is sent behind a command whose verb has not been seen to be quick, until that is answered. Behind a verb
   that may hang although it has been quick (it is not STEADY) only what READING verbs ask is sent.
4. When the command at the head of the active pipe is late, another pipe is opened. If the command is still not answered
   when that is there, FreeSWITCH is well and the command holds the others up: the new pipe takes the place of the old
   one, and the verb is slow from now on. What FreeSWITCH has received it will carry out, whatever becomes of the
   connection (mod_event_socket.c, read_packet: what is in the socket's buffer is read before its end is seen). So
   what acts stays where it was sent, and is answered there; what only asks is asked again on the new pipe. A STEADY
   one for no channel is late much later: it waits for a processor, and those behind it would lose their order.
5. A slow verb never touches the lane: a worker runs it, on a connection of its own. No verb takes more than its share
   of the workers (shares.py).
6. Commands for one channel run in the order in which they came, wherever they run (ordering.py).
7. A command whose time is over fails. If it was not sent it never will be. If it is at the head of the active pipe,
   which could not be replaced and has been silent for five seconds, FreeSWITCH is frozen: the link is lost.
8. When the active pipe ends, what was sent on it and what is queued fails. Workers and jobs are not concerned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf as INFINITY

from event_agent.errors import Frozen, LinkError
from event_agent.freeswitch.command import Command, Executed, Failure, timed_out
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
from event_agent.freeswitch.flow import Flow
from event_agent.freeswitch.jobs import Jobs
from event_agent.freeswitch.ordering import KeyOrder
from event_agent.freeswitch.pipe import ASKED_ELSEWHERE, Pipe, PipeState
from event_agent.freeswitch.shares import Shares
from event_agent.freeswitch.slow_verbs import STEADY, SlowVerbs
from event_agent.freeswitch.wire import NUDGE
from event_agent.protocol.questions import READING

NOT_CONNECTED = "FreeSWITCH is not connected"
LOST = "The connection to FreeSWITCH was lost before it answered"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, and how many. In seconds, unless a line says otherwise."""

    timeout: float = 30.0  # a command's time, unless it has its own
    late: float = 0.05  # after this another pipe is opened, so that the others need not wait
    stalled: float = 1.0  # the same for one that is steady and for no channel: see `_is_late`
    quick: float = 0.05  # within this a verb proves to be quick
    slow: float = 0.25  # from this on it counts as slow
    frozen: float = 5.0  # seconds without an answer on a pipe at whose head a command's time is over
    grace: float = 1.0  # at least this much for a command whose turn has come, however long it has waited
    tick: float = 0.25  # between two calls of `tick` while something is under way
    idle: float = 1.0  # the same while nothing is
    awake: float = 0.2  # after something was sent, while more may come: that need not wake a thread
    hurry: float = 0.005  # the same while something waits that only `tick` can set going, or the end of a job
    again: float = 1.0  # between two tries to open the pipe for jobs
    queue: int = 8192  # commands that wait to be sent, or for channels, or as jobs: what comes then is refused
    enough: int = 2048  # commands that wait to be sent from which on the caller should pause
    pause: float = 2.0  # at most for so long while nothing is sent: then it is refused, as FreeSWITCH does not move
    slow_queue: int = 2048  # commands that wait for a worker; of one verb half as many
    window: int = 512  # commands sent ahead of their answers
    window_size: int = 65536  # characters of their text; with one more of any size the socket's buffer takes them
    pipes: int = 16  # that take commands, or were left to slow ones
    reads: int = 1  # pipes on which verbs that only read may run side by side: see side_by_side.py
    calm: float = 0.05  # after a command that acts: so long they stay on the active pipe
    few: int = 6  # in flight on the active pipe, up to which they stay there
    soon: float = 0.0  # of an answer, and of the next command after it: see turns.py
    nudge: bool = True  # the pipe for jobs, while a job is under way, so that its end is heard at once


class Scheduler:
    """The rules above. Not thread-safe: one call at a time, and effects are carried out in the order of the calls."""

    def __init__(self, limits: Limits, workers: int) -> None:
        """`workers`: how many commands may run away from the lane; of one verb half as many."""
        self._limits = limits
        self._verbs = SlowVerbs(limits.quick, limits.slow)
        self._order = KeyOrder()
        self._queue: deque[Command] = deque()
        self.active: Pipe | None = None  # to be looked at; it is changed here only
        self._opening: Pipe | None = None  # to replace the active one
        self._left: set[Pipe] = set()
        self._jobs = Jobs()
        self._slow = Shares(workers, limits.slow_queue)
        self.flow = Flow(limits.window, limits.enough, limits.pause)
        """`flow.full` is True while the caller should pause until Room is returned."""
        self.hurry = False
        """True while `tick` should be called soon."""
        self._look_at = 0.0  # when to look next for what is late
        self._stopping = False
        self._out: list[Effect] = []
        self.pending = 0
        """Commands that have not ended, wherever they are."""

    # -- to be asked at any time

    @property
    def up(self) -> bool:
        """True while commands are taken."""
        return self.active is not None

    @property
    def ahead(self) -> int:
        """Commands in flight on the active pipe."""
        active = self.active
        return 0 if active is None else len(active.inflight)

    @property
    def pressing(self) -> bool:
        """True if somebody waits for what is in flight, so that `tick` should soon look whether it is late."""
        return any(not each.patient for each in self._in_flight())

    def pipes(self) -> tuple[Pipe, ...]:
        """That take commands, the active one first."""
        return () if self.active is None else (self.active,)

    def pace(self, now: float) -> float:
        """Seconds within which `tick` is to be called."""
        limits = self._limits
        if self.hurry:
            return limits.hurry
        # While commands come, or each would have to wake somebody.
        if self.ahead or now - self.flow.moved < limits.awake:
            return min(limits.tick, max(limits.hurry, limits.late - self._silent(now)))
        return limits.tick if self.pending or self._left else limits.idle

    # -- commands

    def submit(self, command: Command, now: float) -> Effects:
        """A command came. It is sent at the next `flush`, if not before."""
        if not command.limit:
            command.limit = self._limits.timeout
        command.deadline = now + command.limit
        self.pending += 1
        queue = self._queue
        if self.active is None:
            self._end(command, NOT_CONNECTED)
        elif len(queue) >= self._limits.queue:
            self._refuse(command)
        elif self._order.held or command.slow or command.job or command.verb in self._verbs.slow:
            self._put(command, now)
        else:
            queue.append(command)
            if len(queue) <= self.flow.few:
                return []  # as nearly always: it waits for `flush`
        if len(queue) > self._limits.window:
            self._fill(now)  # so that one read that brings thousands finds room
        return self._effects(now)

    def flush(self, now: float) -> Effects:
        """All that came at a time has been submitted."""
        self._fill(now)
        return self._effects(now)

    def answered(self, pipe: Pipe, texts: Sequence[str], now: float) -> Effects:
        """Answers came on a pipe, in this order."""
        inflight, out, held, verbs = pipe.inflight, self._out, self._order.held, self._verbs
        since, limit, quick, late = pipe.head_since, self._limits.quick, verbs.quick, verbs.late
        if texts:
            pipe.head_since = now
        for text in texts:
            if not inflight:
                if pipe.state in (PipeState.ACTIVE, PipeState.LEFT):
                    self._close(pipe)
                    self._lose(pipe, LinkError("FreeSWITCH answered what it was not asked"), now)
                break
            command = inflight.popleft()
            pipe.size -= len(command.text)
            seconds, since = now - since, now
            if command is ASKED_ELSEWHERE:
                continue
            if seconds >= limit or late or command.verb not in quick:  # else nothing is learned of it
                verbs.took(command.verb, seconds)
            if command is pipe.doubtful:
                pipe.doubtful = None
            if command is pipe.barrier:
                pipe.barrier = None
            if command.job and (text.startswith("+OK") or self._jobs.under_way.pop(command.job, None) is None):
                continue  # its end is told by an event, or was
            if not command.ended:  # as `_done` does it; a call for each is a tenth of all this
                command.ended = True
                self.pending -= 1
                out.append(Done(command, text))
                if held:
                    self._release(command, now)
        if not inflight and pipe.state is PipeState.LEFT:
            self._through(pipe, now)
        if self._queue:
            self._fill(now)
        else:
            self.flow.held_up = False
        return self._effects(now)

    def job_ended(self, job: str, text: str, now: float) -> Effects:
        """An event told that a job has ended; others use bgapi too."""
        command = self._jobs.under_way.pop(job, None)
        if command is not None:
            self._done(command, text, now)
            self._fill(now)
        return self._effects(now)

    def worked(self, command: Command, text: str, why: str, now: float) -> Effects:
        """A worker is through with a command: it was answered with `text`, or failed if there is a `why`.

        `command.sent` tells whether it was sent.
        """
        self._verbs.pool_took(command.verb, now - self._slow.ended(command))
        if why:
            self._fail(command, why, now)
        else:
            self._done(command, text, now)
        self._set_to_work(now)
        self._fill(now)
        return self._effects(now)

    # -- pipes

    def link_up(self, pipe: Pipe, now: float) -> Effects:
        """A new link: commands go to this pipe from now on."""
        if self._stopping:
            self._close(pipe)
        else:
            self._use(pipe)
            self._want_pipes(now)
        return self._effects(now)

    def pipe_up(self, pipe: Pipe, now: float) -> Effects:
        """A pipe that was asked for is there."""
        if pipe.state is PipeState.GONE:  # no longer
            return self._effects(now)
        if pipe is self._jobs.pipe:
            pipe.state = PipeState.ACTIVE
            self._queue.extend(self._jobs.aside)
            self._jobs.aside.clear()
        elif pipe is self._opening and (late := self._late_pipe(now)) is not None:
            self._opening = None
            self._leave(late, pipe, now)
        else:  # it is not wanted any more
            if pipe is self._opening:
                self._opening = None
            pipe.state = PipeState.CLOSING
            self._out.append(ClosePipe(pipe))
        self._fill(now)
        return self._effects(now)

    def pipe_lost(self, pipe: Pipe, fault: LinkError, now: float) -> Effects:
        """A pipe has ended, or could not be opened."""
        state, pipe.state = pipe.state, PipeState.GONE
        if pipe is self._opening:
            self._opening = None  # `tick` will ask for another
        elif state is not PipeState.CLOSING:
            self._lose(pipe, fault, now)
        self._fill(now)
        return self._effects(now)

    def stop(self, now: float) -> Effects:
        """No more commands, no more pipes: what is under way fails, but for what workers run."""
        self._stopping = True
        for pipe in (self.active, self._jobs.pipe, *self._left):
            if pipe is not None:
                self._close(pipe)
                self._lose(pipe, None, now)
        self._opening = None
        for command in (*self._slow.take(INFINITY), *self._jobs.aside):
            self._fail(command, NOT_CONNECTED, now)
        self._jobs.aside.clear()
        return self._effects(now)

    # -- time

    def tick(self, now: float) -> Effects:
        """Time has passed."""
        active, limits = self.active, self._limits
        if active is not None and self._opening is None and len(self._left) + 1 < limits.pipes:
            if self._late_pipe(now) is not None:
                self._opening = Pipe()
                self._out.append(OpenPipe(self._opening))
        if active is not None and (limit := self._frozen_for(now)):
            self._close(active)
            self._lose(active, Frozen(f"FreeSWITCH did not answer a command within {limit:g} s: frozen?"), now)
        for pipe in list(self._left):
            self._fail_late_on(pipe, now)
            if all(command.ended for command in pipe.inflight):
                self._through(pipe, now)
        if now >= self._look_at:  # not each time that `tick` is called to nudge
            self._look_at = now + 0.8 * limits.tick
            self._fail_late(now)
        self._want_pipes(now)
        jobs = self._jobs
        if jobs.under_way and limits.nudge and jobs.pipe is not None and jobs.heard:
            self._out.append(Send(jobs.pipe, NUDGE))
        self._fill(now)
        return self._effects(now)

    def _fail_late_on(self, pipe: Pipe, now: float) -> None:
        """Fail what is late on a pipe that was left."""
        for command in pipe.inflight:
            if command.deadline <= now and not command.job:
                self._fail(command, timed_out(command), now)
        for command in [each for each in pipe.backlog if each.deadline <= now]:
            pipe.backlog.remove(command)
            self._fail(command, f"{timed_out(command)}: its channel was busy", now)

    def _fail_late(self, now: float) -> None:
        """Fail what is late elsewhere."""
        for job, command in list(self._jobs.under_way.items()):
            if command.deadline <= now:
                del self._jobs.under_way[job]
                self._fail(command, timed_out(command), now)
        for command in self._order.waiting_past(now):
            self._end(command, f"{timed_out(command)}: its channel was busy")
        for command in self._slow.take(now):
            self._fail(command, f"{timed_out(command)}: no worker was free", now)
        for queue, why in (
            (self._queue, ""),
            (self._jobs.aside, ": there is no connection on which its end would be heard"),
        ):
            if queue and min(each.deadline for each in queue) <= now:
                late = [each for each in queue if each.deadline <= now]
                kept = [each for each in queue if each.deadline > now]
                queue.clear()
                queue.extend(kept)
                for command in late:
                    self._fail(command, timed_out(command) + why, now)

    # -- a command's way

    def _put(self, command: Command, now: float) -> None:
        """Give it its place."""
        if self._order.blocked(command):
            if self._order.waiting >= self._limits.queue:
                self._refuse(command)
                return
            self._hold_earlier(command)
            if self._order.must_wait(command):
                return
        if not self._route(command, now):
            self._release(command, now)

    def _hold_earlier(self, command: Command) -> None:
        """What is on the lane for the same channels goes first."""
        if self.active is not None:
            self._order.hold_all(command, (*self._in_flight(), *self._queue))

    def _route(self, command: Command, now: float) -> bool:
        """To the queue, or to the workers; False if there is no room, then it has failed."""
        # A bgapi is not slow, whatever it was once: a worker would take its first answer for the end of the job.
        if command.job:
            if len(self._jobs) >= self._limits.queue:
                self._refuse(command)
                return False
            (self._queue if self._jobs.heard else self._jobs.aside).append(command)
        elif not (command.slow or command.verb in self._verbs.slow):
            self._queue.append(command)
        elif not self._must_wait_for_turn(command):
            if self._stopping or not self._slow.put(command):
                self._end(command, "Too many slow commands are waiting for FreeSWITCH")
                return False
            self._set_to_work(now)
            if self._slow.crowd():
                self._out.append(Crowded(len(self._slow)))
        return True

    def _must_wait_for_turn(self, command: Command) -> bool:
        """It is to run away from the lane. True if it was put aside behind others for its channel; else it holds it."""
        if command.keys and not self._order.holds(command):
            self._hold_earlier(command)
            if self._order.must_wait(command):
                return True
            self._order.hold(command)
        return False

    def _set_to_work(self, now: float) -> None:
        while self._slow and (command := self._slow.next(now)) is not None:
            command.deadline = max(command.deadline, now + self._limits.grace)
            self._out.append(Run(command))
        self._slow.thin_out()

    def _fill(self, now: float) -> None:
        """Send as much as may go ahead."""
        pipe, queue = self.active, self._queue
        self.flow.held_up = False
        if pipe is None or not queue:
            return
        limits, quick, inflight = self._limits, self._verbs.quick, pipe.inflight
        if not inflight:
            pipe.head_since = now
            if len(queue) == 1:
                self._send_lone(pipe, queue.popleft(), now)
                return
        elif now - pipe.head_since > limits.late:  # it does not move
            self.flow.held_up = len(inflight) < limits.window and pipe.size < limits.window_size
            return
        texts: list[str] = []
        room, size, most, doubtful = limits.window - len(inflight), pipe.size, limits.window_size, pipe.doubtful
        while queue and room > 0 and size < most and pipe.barrier is None:
            command = queue[0]
            verb = command.verb
            if doubtful is not None and verb not in READING:
                break
            queue.popleft()
            inflight.append(command)
            text = command.text
            texts.append(text)
            size += len(text)
            room -= 1
            command.sent, command.sent_at = True, now
            if command.job:
                self._jobs.under_way[command.job] = command
            if verb not in STEADY:
                pipe.doubtful = doubtful = command
            if verb not in quick:
                pipe.barrier = command
        if texts:
            pipe.size = size
            self.flow.moved = now
            self._out.append(Send(pipe, texts[0] if len(texts) == 1 else "".join(texts)))
        self.flow.held_up = bool(queue) and room > 0 and size < most

    def _send_lone(self, pipe: Pipe, command: Command, now: float) -> None:
        """The same for one if nothing is in flight and nothing else waits: no rule can hold it back."""
        pipe.inflight.append(command)
        pipe.size = len(command.text)
        command.sent, command.sent_at = True, now
        if command.job:
            self._jobs.under_way[command.job] = command
        if command.verb not in STEADY:
            pipe.doubtful = command
        if command.verb not in self._verbs.quick:
            pipe.barrier = command
        self.flow.moved = now
        self._out.append(Send(pipe, command.text))

    def _done(self, command: Command, text: str, now: float) -> None:
        command.ended = True
        self.pending -= 1
        self._out.append(Done(command, text))
        if self._order.held:
            self._release(command, now)

    def _fail(self, command: Command, why: str, now: float) -> None:
        """It fails, and what waited for it goes on."""
        if not command.ended:
            self._end(command, why)
        if self._order.held:
            self._release(command, now)

    def _refuse(self, command: Command) -> None:
        self._end(command, f"Too many commands are waiting for FreeSWITCH ({self._limits.queue})")

    def _end(self, command: Command, why: str) -> None:
        command.ended = True
        self.pending -= 1
        executed = Executed.UNKNOWN if command.sent else Executed.NO
        self._out.append(Failed(command, Failure(why, executed, why == NOT_CONNECTED)))

    def _release(self, command: Command, now: float) -> None:
        """Let those go that waited for its channel."""
        ready = deque(self._order.release(command))
        while ready:  # not by calling itself: a channel may have thousands of them
            following = ready.popleft()
            if following.ended:  # it has failed while it waited, and only makes way for the next
                ready.extend(self._order.release(following))
                continue
            # Its time went by while it waited. It gets a little to run in: a command that is late breaks a connection.
            following.deadline = max(following.deadline, now + self._limits.grace)
            if self.active is None:
                self._end(following, NOT_CONNECTED)
                ready.extend(self._order.release(following))
            elif not self._route(following, now):
                ready.extend(self._order.release(following))

    # -- a pipe's way

    def _use(self, pipe: Pipe) -> None:
        pipe.state = PipeState.ACTIVE
        self.active = pipe

    # These know of one pipe that takes commands; side_by_side.py knows more.

    def _replace(self, pipe: Pipe, other: Pipe) -> None:
        """The other takes its place."""
        self._use(other)

    def _in_flight(self) -> Iterable[Command]:
        """What was sent and is not answered, but for what pipes were left to."""
        return self.active.inflight if self.active is not None else ()

    def _silent(self, now: float) -> float:
        """Seconds for which nothing has been answered that should be."""
        return 0.0 if self.active is None else self.active.silent(now)

    def _late_pipe(self, now: float) -> Pipe | None:
        """The pipe that is to be left, if that is so."""
        return self.active if self.active is not None and self._is_late(self.active, now) else None

    def _frozen_for(self, now: float) -> float:
        """The time limit that has passed for a command at the head of a silent pipe, 0 if that is not so."""
        return 0.0 if self.active is None else self._overdue(self.active, now)

    def _overdue(self, pipe: Pipe, now: float) -> float:
        """The same of this pipe."""
        if not pipe.inflight or pipe.inflight[0].deadline > now:
            return 0.0
        head = pipe.inflight[0]
        if pipe.silent(now) >= min(head.limit, self._limits.frozen):
            return head.limit
        self._fail_late_on(pipe, now)  # answers come, but too late for it
        return 0.0

    def _is_late(self, pipe: Pipe, now: float) -> bool:
        """Whether the command at its head has had its time.

        One that is steady and for no channel can only be waiting for a processor; to go on without it would cost the
        order of what is for no channel.
        """
        if not pipe.inflight:
            return False
        head, limits = pipe.inflight[0], self._limits
        return pipe.silent(now) > (limits.stalled if head.verb in STEADY and not head.keys else limits.late)

    def _leave(self, pipe: Pipe, other: Pipe, now: float) -> None:
        """Leave a pipe to what is on it, and use the other. It keeps what must wait for what acts on it."""
        pipe.state = PipeState.LEFT
        self._left.add(pipe)
        self._verbs.hung(pipe.inflight[0].verb)
        again, keys = pipe.take_questions(self._queue)
        if keys:
            pipe.backlog.extend(each for each in self._queue if not keys.isdisjoint(each.keys))
            self._queue = deque(each for each in self._queue if keys.isdisjoint(each.keys))
        for command in (*pipe.inflight, *pipe.backlog):
            self._order.hold(command)
        self._queue.extendleft(reversed(again))
        self._replace(pipe, other)
        # A second one of the verb would hang as well. One for a channel keeps its place: it has an order to keep.
        queued, self._queue = self._queue, deque()
        for command in queued:
            if not command.keys and command.verb in self._verbs.slow:
                self._route(command, now)
            else:
                self._queue.append(command)

    def _through(self, pipe: Pipe, now: float) -> None:
        """A pipe that was left has nothing more to be waited for."""
        self._left.discard(pipe)
        self._close(pipe)
        self._rejoin(pipe, now)

    def _rejoin(self, pipe: Pipe, now: float) -> None:
        """What a pipe kept back goes to the lane."""
        kept, pipe.backlog = pipe.backlog, deque()
        for command in kept:
            command.deadline = max(command.deadline, now + self._limits.grace)
            if self.active is not None:
                self._queue.append(command)
            else:
                self._fail(command, NOT_CONNECTED, now)

    def _lose(self, pipe: Pipe, fault: LinkError | None, now: float) -> None:
        """A pipe can't be used any more: fail what was on it. Without a `fault` it is us who ends."""
        lost = [(each, timed_out(each) if each.deadline <= now else LOST) for each in pipe.take()]
        if pipe is self.active:
            self.active = self._opening = None
            lost += [(each, NOT_CONNECTED) for each in (*self._queue, *self._jobs.aside)]
            self._queue.clear()
            self._jobs.aside.clear()
            if fault is not None:
                self._out.append(LinkLost(fault))
        elif pipe is self._jobs.pipe:
            self._jobs.pipe, self._jobs.open_at = None, now + self._limits.again
            lost += [(each, LOST) for each in self._jobs.under_way.values()]
        self._left.discard(pipe)
        for command, why in lost:
            if command.job:
                self._jobs.under_way.pop(command.job, None)
            self._fail(command, why, now)
        self._rejoin(pipe, now)

    def _close(self, pipe: Pipe) -> None:
        if pipe.state is not PipeState.CLOSING:
            pipe.state = PipeState.CLOSING
            self._out.append(ClosePipe(pipe))

    def _want_pipes(self, now: float) -> None:
        if self._jobs.pipe is None and self.active is not None and now >= self._jobs.open_at:
            self._jobs.pipe = Pipe(for_jobs=True)
            self._out.append(OpenPipe(self._jobs.pipe))

    def _effects(self, now: float) -> Effects:
        flow, waiting = self.flow, len(self._queue)
        if (flow.since is not None or waiting >= self._limits.enough) and flow.look(waiting, now):
            self._out.append(Room())
        self.hurry = flow.held_up or (self._limits.nudge and bool(self._jobs.under_way))
        effects, self._out = self._out, []
        return effects
