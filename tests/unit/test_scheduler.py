"""The scheduler's rules, one after the other: no thread, no socket, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from event_agent.errors import Frozen, LinkError
from event_agent.freeswitch.command import Command, Executed
from event_agent.freeswitch.scheduler import (
    LOST,
    NOT_CONNECTED,
    ClosePipe,
    Crowded,
    Done,
    Effect,
    Effects,
    Failed,
    Limits,
    LinkLost,
    OpenPipe,
    Pipe,
    PipeState,
    Room,
    Run,
    Scheduler,
    Send,
)
from event_agent.freeswitch.wire import NUDGE

TOO_MANY_SLOW = "Too many slow commands are waiting for FreeSWITCH"


def never(_: object) -> None:
    raise AssertionError("the scheduler calls nobody")


class Bench:
    """A scheduler, what it has asked for, and what became of each command."""

    def __init__(self, limits: Limits | None = None, workers: int = 4, up: bool = True) -> None:
        self.limits = limits or Limits()
        self.scheduler = Scheduler(self.limits, workers)
        self.now = 100.0
        self.sent: dict[Pipe, list[str]] = {}
        self.running: list[Command] = []
        self.opening: list[Pipe] = []
        self.closed: list[Pipe] = []
        self.results: dict[str, str] = {}
        self.executed: dict[str, str] = {}  # of those that failed
        self.ran: set[str] = set()  # by workers
        self.lost: list[LinkError] = []
        self.crowded: list[int] = []
        self.rooms = 0
        self.nudges = 0
        if up:
            self.link_up()

    def link_up(self, jobs: bool = True) -> Pipe:
        """A link; returns its pipe."""
        pipe = Pipe()
        self.did(self.scheduler.link_up(pipe, self.now))
        if jobs:
            (self.jobs,) = [each for each in self.opening if each.for_jobs]
            self.opened(self.jobs)
        self.lane = pipe
        return pipe

    def did(self, effects: Effects) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.pipe.state is PipeState.ACTIVE and effect.text
                if effect.text == NUDGE:
                    assert effect.pipe.for_jobs
                    self.nudges += 1
                else:
                    assert not effect.pipe.for_jobs
                    texts = effect.text.split("\n\n")[:-1]
                    found = [each.removeprefix("api ").removeprefix("bgapi ") for each in texts]
                    assert not self.executed.keys() & set(found), "its client was told that it has failed"
                    self.sent.setdefault(effect.pipe, []).extend(found)
            elif isinstance(effect, Run):
                self.running.append(effect.command)
            elif isinstance(effect, (Done, Failed)):
                name = name_of(effect.command)
                assert name not in self.results, f"{name} ended twice"
                if isinstance(effect, Done):
                    self.results[name] = effect.text
                else:
                    self.results[name] = f"failed: {effect.failure}"
                    self.executed[name] = effect.failure.executed.value
                    sent = name in self.ran or any(name in each for each in self.sent.values())
                    assert (effect.failure.executed is Executed.UNKNOWN) == sent, name
            elif isinstance(effect, OpenPipe):
                self.opening.append(effect.pipe)
            elif isinstance(effect, ClosePipe):
                assert effect.pipe not in self.closed, "closed twice"
                self.closed.append(effect.pipe)
            elif isinstance(effect, LinkLost):
                self.lost.append(effect.fault)
            elif isinstance(effect, Crowded):
                self.crowded.append(effect.waiting)
            else:
                assert isinstance(effect, Room)
                self.rooms += 1
        return list(effects)

    def put(
        self, *texts: str, keys: tuple[str, ...] = (), job: str = "", slow: bool = False, limit: float = 0.0
    ) -> None:
        """Submit commands, named by their text, and flush. `uuid_x a` is a command for channel a."""
        for text in texts:
            words = text.split()
            own = keys or (tuple(words[1:]) if words[0].startswith("uuid_") else ())
            verb = "bgapi" if job else words[0]
            text = f"bgapi {text}\n\n" if job else f"api {text}\n\n"
            self.did(self.scheduler.submit(Command(text, verb, never, never, own, job, slow, limit), self.now))
        self.did(self.scheduler.flush(self.now))

    def know(self, *verbs: str) -> None:
        """Have these verbs prove to be quick."""
        for verb in verbs:
            self.put(verb)
            self.answer(verb)
            del self.results[verb]
        self.sent[self.lane].clear()

    def answer(self, *texts: str, pipe: Pipe | None = None) -> None:
        self.did(self.scheduler.answered(pipe or self.lane, texts, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.did(self.scheduler.tick(self.now))

    def room(self) -> tuple[int, int]:
        """How much there is, and how often it was said to be there again."""
        return self.scheduler.room, self.rooms

    def opened(self, pipe: Pipe) -> None:
        self.opening.remove(pipe)
        self.did(self.scheduler.pipe_up(pipe, self.now))

    def move(self) -> Pipe:
        """The lane moves on to another pipe; returns the old one."""
        (pipe,) = self.opening
        self.opened(pipe)
        before, self.lane = self.lane, pipe
        return before

    def end(self, pipe: Pipe, why: str = "broke") -> None:
        self.did(self.scheduler.pipe_lost(pipe, LinkError(why), self.now))

    def worked(self, text: str, answer: str = "+OK", why: str = "", sent: bool = True) -> None:
        (command,) = [each for each in self.running if name_of(each) == text]
        self.running.remove(command)
        if sent:
            command.sent = True
            self.ran.add(text)
        self.did(self.scheduler.worked(command, answer, why, self.now))

    def sent_on(self, pipe: Pipe) -> list[str]:
        return self.sent.get(pipe, [])

    @property
    def at_work(self) -> list[str]:
        return [name_of(each) for each in self.running]


def state_of(pipe: Pipe) -> PipeState:
    return pipe.state


def name_of(command: Command) -> str:
    return command.text.removesuffix("\n\n").removeprefix("api ").removeprefix("bgapi ")


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- order, and sending ahead


def test_answers_find_their_commands(bench: Bench) -> None:
    bench.know("echo")
    names = [f"echo {number}" for number in range(100)]
    bench.put(*names)
    assert bench.sent_on(bench.lane) == names and bench.scheduler.ahead == 100
    bench.answer(*names[:60])
    bench.answer(*names[60:])
    assert list(bench.results.items()) == list(zip(names, names, strict=True))
    assert bench.scheduler.pending == 0


def test_nothing_is_sent_before_the_flush_and_then_in_one_piece(bench: Bench) -> None:
    bench.know("echo")
    for number in range(3):
        command = Command(f"api echo {number}\n\n", "echo", never, never)
        assert not bench.scheduler.submit(command, bench.now)
    (effect,) = bench.scheduler.flush(bench.now)
    assert effect == Send(bench.lane, "api echo 0\n\napi echo 1\n\napi echo 2\n\n")


def test_no_more_is_sent_ahead_than_the_window() -> None:
    bench = Bench(Limits(window=4, window_size=100))
    bench.know("echo")
    bench.put(*(f"echo {number}" for number in range(10)))
    assert len(bench.sent_on(bench.lane)) == 4
    bench.answer("0", "1")
    assert len(bench.sent_on(bench.lane)) == 6
    bench.answer(*"2345")
    bench.answer(*"6789")
    bench.put(*(f"echo {'x' * 60}{number}" for number in range(4)))
    assert len(bench.sent_on(bench.lane)) == 10 + 2, "their size counts too"


def test_nothing_goes_behind_an_unproven_verb(bench: Bench) -> None:
    bench.know("echo")
    bench.put("strange", "echo 1", "strange 2")
    assert bench.sent_on(bench.lane) == ["strange"]
    bench.answer("+OK")
    assert bench.sent_on(bench.lane) == ["strange", "echo 1", "strange 2"]


# -- late commands


def test_the_lane_moves_on_when_its_head_is_late(bench: Bench) -> None:
    bench.know("echo")
    bench.put("slow", "echo 1")
    bench.wait(0.04)
    assert not bench.opening
    bench.wait(0.02)
    assert len(bench.opening) == 1
    bench.wait(0.02)
    assert len(bench.opening) == 1, "once"
    before = bench.move()
    assert bench.sent_on(bench.lane) == ["echo 1"] and state_of(before) is PipeState.LEFT
    bench.answer("+OK")
    bench.answer("late", pipe=before)
    assert bench.results == {"echo 1": "+OK", "slow": "late"}
    assert bench.closed == [before] and not bench.lost
    bench.end(before)
    assert state_of(before) is PipeState.GONE and bench.scheduler.up


def test_what_was_sent_behind_a_stalled_command_is_answered_there_or_asked_again(bench: Bench) -> None:
    bench.know("uuid_kill", "uuid_getvar", "echo", "bgapi")
    bench.put("uuid_kill a", "echo 1", "uuid_kill b", "uuid_getvar b", "uuid_getvar c", "uuid_getvar a")
    bench.wait(0.06)
    bench.put("echo 2")
    before = bench.move()
    assert len(bench.sent_on(before)) == 6
    assert bench.sent_on(bench.lane) == ["echo 1", "uuid_getvar c", "echo 2"], "b and a are spoken to on the old one"
    bench.answer("1", "c", "2")
    assert bench.results == {"echo 1": "1", "uuid_getvar c": "c", "echo 2": "2"}
    bench.answer("a", "again", "b", "of b", "again", "of a", pipe=before)
    assert [bench.results[each] for each in ("uuid_kill a", "uuid_kill b", "uuid_getvar b", "uuid_getvar a")] == [
        "a", "b", "of b", "of a",
    ]  # fmt: skip
    assert bench.closed == [before] and not bench.scheduler.pending


def test_what_is_asked_again_fails_once_with_the_pipe_on_which_it_is(bench: Bench) -> None:
    bench.know("uuid_kill", "echo")
    bench.put("uuid_kill a", "echo 1")
    bench.wait(0.06)
    before = bench.move()
    bench.end(before)
    assert bench.results == {"uuid_kill a": f"failed: {LOST}"}
    bench.answer("1")
    assert bench.results["echo 1"] == "1"


def test_nothing_that_acts_goes_behind_a_verb_that_may_hang(bench: Bench) -> None:
    """However quick it has been: what FreeSWITCH has received it will carry out."""
    bench.know("show", "echo", "uuid_kill", "bgapi")
    bench.put("show", "echo 1", "uuid_kill a", "echo 2")
    assert bench.sent_on(bench.lane) == ["show", "echo 1"]
    bench.answer("+OK")
    assert bench.sent_on(bench.lane) == ["show", "echo 1", "uuid_kill a", "echo 2"]
    bench.answer("1", "a", "2")
    bench.put("show 2")
    bench.put("originate x", job="1")
    assert bench.sent_on(bench.lane)[-1] == "show 2"
    bench.wait(0.06)
    bench.move()
    assert bench.sent_on(bench.lane) == ["originate x"]


def test_a_stall_of_the_switch_moves_nothing(bench: Bench) -> None:
    """If the command has been answered by the time another pipe is there, it was not the command."""
    bench.know("uuid_kill")
    bench.put("uuid_kill a")
    bench.wait(0.06)
    (pipe,) = bench.opening
    bench.answer("+OK")
    bench.put("uuid_kill b")
    bench.opened(pipe)
    assert bench.closed == [pipe] and bench.sent_on(bench.lane) == ["uuid_kill a", "uuid_kill b"]
    bench.put("uuid_kill c")
    assert bench.sent_on(bench.lane)[2:] == ["uuid_kill c"], "the verb is not slow for that"
    bench.wait(0.06)
    assert len(bench.opening) == 1, "another may be opened"


def test_a_verb_is_slow_from_its_first_hang_on(bench: Bench) -> None:
    bench.put("hangs 1", "hangs 2", "echo")
    bench.wait(0.06)
    bench.move()
    assert bench.at_work == ["hangs 2"] and bench.sent_on(bench.lane) == ["echo"]
    bench.put("hangs 3")
    assert bench.at_work == ["hangs 2", "hangs 3"]


def test_nothing_more_is_sent_behind_a_stalled_command(bench: Bench) -> None:
    bench.know("known")
    bench.put("known 1")
    bench.now += 0.6
    bench.put("known 2")
    assert bench.sent_on(bench.lane) == ["known 1"]
    assert bench.scheduler.hurry, "the watch should look"
    bench.answer("+OK")
    assert bench.sent_on(bench.lane) == ["known 1", "known 2"] and not bench.scheduler.hurry


def test_a_verb_that_was_slow_goes_to_the_workers(bench: Bench) -> None:
    bench.put("slow 1")
    bench.now += 0.3
    bench.answer("+OK")
    bench.sent[bench.lane].clear()
    bench.put("slow 2")
    assert bench.at_work == ["slow 2"] and not bench.sent_on(bench.lane)
    bench.worked("slow 2", "done")
    assert bench.results == {"slow 1": "+OK", "slow 2": "done"}


def test_slow_verbs_never_touch_the_lane_and_run_as_many_at_a_time_as_there_are_workers(bench: Bench) -> None:
    bench.put("msleep 1", "msleep 2", "msleep 3")
    assert bench.at_work == ["msleep 1", "msleep 2"] and not bench.sent_on(bench.lane)
    bench.put("whatever", slow=True)
    assert bench.at_work == ["msleep 1", "msleep 2", "whatever"], "there are more workers for other verbs"
    bench.worked("msleep 2", why="it broke")
    assert bench.at_work == ["msleep 1", "whatever", "msleep 3"]
    bench.worked("msleep 1")
    bench.worked("msleep 3")
    bench.worked("whatever")
    assert bench.results == {"msleep 1": "+OK", "msleep 2": "failed: it broke", "msleep 3": "+OK", "whatever": "+OK"}


def test_more_slow_commands_than_may_wait() -> None:
    bench = Bench(Limits(slow_queue=4), workers=2)
    bench.put("msleep 1", "msleep 2", "msleep 3")
    bench.put("msleep a", keys=("a",))
    bench.put("uuid_y a")
    assert bench.results == {"msleep a": f"failed: {TOO_MANY_SLOW}"} and bench.executed == {"msleep a": "no"}
    assert bench.sent_on(bench.lane) == ["uuid_y a"], "the channel is free again"
    bench.put("lua 1", "lua 2")
    assert bench.at_work == ["msleep 1", "lua 1"] and len(bench.results) == 1, "other verbs have their share"


def test_a_crowd_is_told_of_once() -> None:
    bench = Bench(Limits(slow_queue=16), workers=2)
    bench.put(*(f"msleep {number}" for number in range(8)))
    assert bench.crowded == [4]
    bench.worked("msleep 0")
    bench.put("msleep 8", "msleep 9")
    assert bench.crowded == [4]
    for number in range(1, 8):
        bench.worked(f"msleep {number}")
    bench.put(*(f"msleep {number}" for number in range(10, 14)))
    assert bench.crowded == [4, 4]


def test_a_limit_to_the_pipes() -> None:
    bench = Bench(Limits(pipes=2))
    bench.put("s0", "s1", "s2")
    bench.wait(0.1)
    first = bench.move()
    bench.wait(0.1)
    assert bench.sent_on(bench.lane) == ["s1"] and not bench.opening
    bench.answer("+OK", pipe=first)
    bench.wait(0.1)
    bench.move()
    assert bench.sent_on(bench.lane) == ["s2"]


def test_another_pipe_can_not_be_had(bench: Bench) -> None:
    bench.put("slow", "echo")
    bench.wait(0.1)
    bench.end(bench.opening.pop())
    assert bench.scheduler.up and not bench.lost and not bench.closed
    bench.wait(0.1)
    bench.move()
    assert bench.sent_on(bench.lane) == ["echo"]


def test_the_head_is_answered_while_the_other_pipe_is_opened(bench: Bench) -> None:
    bench.put("slow", "echo")
    bench.wait(0.1)
    bench.answer("+OK")
    (pipe,) = bench.opening
    bench.opened(pipe)
    assert bench.sent_on(bench.lane) == ["slow", "echo"] and bench.closed == [pipe]
    bench.answer("+OK")
    assert bench.results == {"slow": "+OK", "echo": "+OK"}


# -- commands for one channel


def test_a_channel_keeps_its_order_when_the_lane_moves_on(bench: Bench) -> None:
    bench.know("uuid_kill", "echo")
    bench.put("uuid_slow a", "uuid_kill a", "echo 1", "uuid_kill b")
    bench.wait(0.1)
    before = bench.move()
    bench.put("uuid_last a", "echo 2")
    assert bench.sent_on(bench.lane) == ["echo 1", "uuid_kill b", "echo 2"]
    bench.answer("slow", pipe=before)
    assert bench.sent_on(bench.lane)[3:] == ["uuid_kill a"], "one after the other now"
    bench.answer("1", "b", "2", "kill")
    assert bench.sent_on(bench.lane)[4:] == ["uuid_last a"]
    bench.answer("last")
    assert list(bench.results) == ["uuid_slow a", "echo 1", "uuid_kill b", "echo 2", "uuid_kill a", "uuid_last a"]
    assert not bench.scheduler.pending


def test_a_channel_keeps_its_order_around_the_workers(bench: Bench) -> None:
    bench.put("uuid_one a")
    bench.put("uuid_two a", slow=True)
    bench.put("uuid_three a", "uuid_three b")
    assert not bench.running
    bench.answer("+OK")
    assert bench.sent_on(bench.lane) == ["uuid_one a", "uuid_three b"] and bench.at_work == ["uuid_two a"]
    bench.worked("uuid_two a")
    bench.answer("+OK")
    assert bench.sent_on(bench.lane) == ["uuid_one a", "uuid_three b", "uuid_three a"]


def test_a_command_for_two_channels_overtakes_neither(bench: Bench) -> None:
    bench.know("uuid_known")
    bench.put("uuid_slow c", slow=True)
    bench.put("uuid_known a")
    bench.put("uuid_both a c", slow=True)
    assert bench.at_work == ["uuid_slow c"]
    bench.worked("uuid_slow c")
    assert not bench.running
    bench.answer("+OK")
    assert bench.at_work == ["uuid_both a c"]


@pytest.mark.parametrize("fate", ["answered", "lost", "no room"])
def test_thousands_may_wait_for_one_channel(fate: str) -> None:
    bench = Bench(Limits(slow_queue=0) if fate == "no room" else None, workers=2)
    if fate == "no room":
        bench.put("uuid_slow a")
    else:
        bench.put("uuid_slow a", slow=True)
    names = [f"uuid_x{number} a" for number in range(3000)]
    for name in names:
        bench.put(name, slow=fate == "no room")
    if fate == "lost":
        bench.end(bench.lane)
        bench.worked("uuid_slow a")
        assert {bench.results[name] for name in names} == {f"failed: {NOT_CONNECTED}"}
    elif fate == "no room":
        bench.answer("+OK")
        assert {bench.results[name] for name in names} == {f"failed: {TOO_MANY_SLOW}"}
    else:
        bench.worked("uuid_slow a")
        for _ in names:
            bench.answer("+OK")
        assert list(bench.results)[1:] == names
    assert not bench.scheduler.pending


def test_too_many_wait_for_one_channel() -> None:
    bench = Bench(Limits(queue=3))
    bench.put("uuid_slow a", slow=True)
    bench.put(*(f"uuid_x{number} a" for number in range(4)))
    assert bench.results == {"uuid_x3 a": "failed: Too many commands are waiting for FreeSWITCH (3)"}
    bench.put("uuid_x b")
    assert bench.sent_on(bench.lane) == ["uuid_x b"], "other channels are not concerned"


# -- jobs


def test_a_job_ends_when_its_event_comes(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK Job-UUID: 1")
    assert not bench.results and bench.scheduler.pending == 1
    bench.wait(0.01)
    bench.wait(0.01)
    assert bench.nudges == 2, "so that its end is heard at once"
    bench.did(bench.scheduler.job_ended("somebody-elses", "+OK", bench.now))
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    bench.did(bench.scheduler.job_ended("1", "+OK again", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}
    bench.wait(0.01)
    assert bench.nudges == 2 and not bench.scheduler.hurry


def test_without_nudges(bench: Bench) -> None:
    bench.scheduler.nudged = False
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.wait(0.01)
    assert not bench.nudges and not bench.scheduler.hurry


def test_the_end_of_a_job_may_be_heard_before_its_answer(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    bench.answer("+OK Job-UUID: 1")
    bench.put("echo")
    bench.answer("y")
    assert bench.results == {"originate x": "+OK uuid", "echo": "y"}


def test_the_end_of_a_job_is_heard_while_a_command_hangs(bench: Bench) -> None:
    """On the lane's own pipe FreeSWITCH would hold back the event until the command has ended."""
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("hangs")
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}


def test_a_job_that_is_refused_ends_at_once(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("-ERR no")
    assert bench.results == {"originate x": "-ERR no"} and not bench.scheduler.hurry


def test_a_job_without_an_end_fails(bench: Bench) -> None:
    bench.put("originate x", job="1", limit=2.0)
    bench.answer("+OK")
    bench.wait(2.1)
    assert bench.results == {"originate x": "failed: Command timed out after 2 seconds"}
    assert bench.scheduler.up and not bench.closed


def test_a_job_is_no_job_for_a_worker(bench: Bench) -> None:
    """Even if FreeSWITCH was once slow to take one: a worker would take the first answer for the last."""
    bench.put("originate x", job="1")
    bench.wait(0.3)
    bench.answer("+OK")
    bench.put("originate y", job="2")
    assert not bench.running and bench.sent_on(bench.lane)[-1:] == ["originate y"]


def test_jobs_wait_until_their_ends_can_be_heard() -> None:
    bench = Bench(up=False)
    bench.link_up(jobs=False)
    bench.put("originate x", job="1")
    bench.put("echo")
    assert bench.sent_on(bench.lane) == ["echo"]
    bench.answer("+OK")
    bench.end(bench.opening.pop(), "no more connections")
    bench.wait(0.1)
    assert not bench.opening, "not at once"
    bench.wait(1.0)
    (pipe,) = bench.opening
    bench.opened(pipe)
    assert bench.sent_on(bench.lane) == ["echo", "originate x"]


def test_jobs_fail_with_the_pipe_that_hears_of_them(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("echo")
    bench.end(bench.jobs)
    assert bench.results == {"originate x": f"failed: {LOST}"} and bench.scheduler.up
    assert bench.executed == {"originate x": "unknown"}
    bench.answer("y")
    bench.put("originate y", job="2")
    bench.wait(1.1)
    bench.opened(bench.opening[0])
    bench.answer("+OK")
    bench.did(bench.scheduler.job_ended("2", "+OK uuid", bench.now))
    assert bench.results["originate y"] == "+OK uuid"


def test_jobs_outlive_the_pipe_on_which_they_were_sent(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.end(bench.lane)
    assert not bench.results
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}


def test_a_job_that_no_pipe_hears_of_times_out() -> None:
    bench = Bench(up=False)
    bench.link_up(jobs=False)
    bench.put("originate x", job="1", limit=2.0)
    bench.wait(2.1)
    why = "Command timed out after 2 seconds: there is no connection on which its end would be heard"
    assert bench.results == {"originate x": f"failed: {why}"}
    bench.opened(bench.opening[0])
    assert not bench.sent_on(bench.lane)


# -- links


def test_nothing_is_taken_without_a_link() -> None:
    bench = Bench(up=False)
    bench.put("echo", "msleep 1")
    assert bench.results == {"echo": f"failed: {NOT_CONNECTED}", "msleep 1": f"failed: {NOT_CONNECTED}"}
    assert not bench.scheduler.pending


def test_a_lost_link_fails_what_was_on_it(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("new a", keys=("a",))
    bench.put("echo", "msleep a")
    bench.put("originate y", job="2")
    bench.end(bench.lane, "it broke")
    assert bench.results == {
        "new a": f"failed: {LOST}", "echo": f"failed: {NOT_CONNECTED}", "originate y": f"failed: {NOT_CONNECTED}",
    }  # fmt: skip
    assert [str(fault) for fault in bench.lost] == ["it broke"] and not bench.scheduler.up
    bench.worked("msleep a")
    assert bench.results["msleep a"] == "+OK", "workers have connections of their own"
    bench.link_up(jobs=False)
    bench.put("echo 2")
    assert bench.sent_on(bench.lane) == ["echo 2"]


def test_what_waits_for_a_channel_fails_with_the_link(bench: Bench) -> None:
    bench.put("uuid_slow a", "uuid_kill a")
    bench.wait(0.1)
    before = bench.move()
    bench.end(bench.lane)
    bench.end(before)
    assert bench.results == {"uuid_slow a": f"failed: {LOST}", "uuid_kill a": f"failed: {NOT_CONNECTED}"}


def test_an_answer_that_nobody_asked_for_ends_the_link(bench: Bench) -> None:
    bench.put("echo")
    bench.answer("y", "one too many", "and another")
    assert bench.results == {"echo": "y"}
    assert bench.closed == [bench.lane] and str(bench.lost[0]) == "FreeSWITCH answered what it was not asked"
    bench.answer("still", "more")
    bench.end(bench.lane)
    assert len(bench.lost) == 1


def test_a_pipe_that_comes_too_late_is_closed(bench: Bench) -> None:
    bench.put("slow")
    bench.wait(0.1)
    (late,) = bench.opening
    bench.end(bench.lane)
    bench.opened(late)
    assert bench.closed == [late] and not bench.scheduler.up
    bench.end(late)
    assert len(bench.lost) == 1


def test_a_pipe_that_ends_before_it_is_used(bench: Bench) -> None:
    bench.put("slow")
    bench.wait(0.1)
    (pipe,) = bench.opening
    bench.end(pipe)
    bench.opened(pipe)
    assert not bench.closed and state_of(pipe) is PipeState.GONE
    bench.wait(0.1)
    bench.move()
    assert bench.scheduler.up


def test_the_end_fails_all_that_is_under_way(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("slow")
    bench.wait(0.1)
    before = bench.move()
    bench.put("uuid_x a", "echo", "msleep 1", "msleep 2", "msleep 3")
    bench.did(bench.scheduler.stop(bench.now))
    assert set(bench.closed) == {bench.lane, before, bench.jobs}
    bench.put("late")
    for pipe in list(bench.closed):
        bench.end(pipe)
    for name in list(bench.at_work):
        bench.worked(name, why="the end")
    assert len(bench.results) == 8 and not bench.scheduler.pending
    assert all(result.startswith("failed: ") for result in bench.results.values())
    late = Pipe()
    bench.did(bench.scheduler.link_up(late, bench.now))
    assert bench.closed[-1] is late and not bench.scheduler.up
    bench.wait(10)
    assert not bench.opening


# -- time


def test_a_command_without_an_answer(bench: Bench) -> None:
    bench.put("never", "echo")
    bench.wait(0.1)
    before = bench.move()
    bench.answer("y")
    bench.wait(30)
    assert bench.results == {"echo": "y", "never": "failed: Command timed out after 30 seconds"}
    assert bench.closed == [before] and not bench.lost
    bench.answer("after all", pipe=before)
    assert len(bench.results) == 2


def test_what_was_sent_behind_a_command_without_an_answer_may_still_be_answered(bench: Bench) -> None:
    bench.know("uuid_kill")
    bench.put("uuid_kill a")
    bench.put("uuid_kill b", limit=100.0)
    bench.wait(0.06)
    before = bench.move()
    bench.wait(30)
    assert bench.results == {"uuid_kill a": "failed: Command timed out after 30 seconds"} and not bench.closed
    assert bench.executed == {"uuid_kill a": "unknown"}
    bench.answer("after all", "b", pipe=before)
    assert bench.results["uuid_kill b"] == "b" and bench.closed == [before]


def test_a_frozen_switch(bench: Bench) -> None:
    bench.know("echo")
    bench.put("echo 1")
    bench.wait(20)
    bench.put("echo 2")
    bench.wait(10.1)
    (fault,) = bench.lost
    assert isinstance(fault, Frozen) and str(fault) == "FreeSWITCH did not answer a command within 30 s: frozen?"
    assert bench.results == {
        "echo 1": "failed: Command timed out after 30 seconds", "echo 2": f"failed: {NOT_CONNECTED}",
    }  # fmt: skip
    assert bench.closed == [bench.lane]


def test_what_waits_for_its_channel_has_its_time(bench: Bench) -> None:
    bench.put("uuid_slow a", limit=60.0)
    bench.put("uuid_kill a", limit=1.0)
    bench.wait(0.1)
    before = bench.move()
    bench.put("uuid_kill2 a", limit=1.0)
    bench.put("uuid_last a", limit=50.0)
    bench.wait(1.0)
    busy = "failed: Command timed out after 1 seconds: its channel was busy"
    assert bench.results == {"uuid_kill a": busy, "uuid_kill2 a": busy}
    bench.answer("+OK", pipe=before)
    assert bench.sent_on(bench.lane) == ["uuid_last a"], "what has failed is not carried out"


def test_a_command_whose_turn_comes_late_gets_a_little_time(bench: Bench) -> None:
    bench.put("uuid_slow a", slow=True, limit=60.0)
    bench.put("uuid_kill a", limit=5.0)
    bench.now += 5.5
    bench.worked("uuid_slow a")
    assert bench.sent_on(bench.lane) == ["uuid_kill a"]
    bench.wait(0.9)
    bench.answer("+OK")
    assert bench.results["uuid_kill a"] == "+OK"


def test_what_waits_behind_a_command_without_answer_runs_at_last(bench: Bench) -> None:
    bench.put("uuid_never a", limit=1.0)
    bench.put("uuid_kill a")
    bench.wait(0.1)
    bench.move()
    bench.wait(1.0)
    assert bench.sent_on(bench.lane) == ["uuid_kill a"]
    assert bench.results == {"uuid_never a": "failed: Command timed out after 1 seconds"}


def test_what_waits_for_a_worker_has_its_time() -> None:
    bench = Bench(workers=2)
    bench.put("msleep 1", limit=60.0)
    bench.put("msleep b", keys=("b",), limit=1.0)
    bench.put("uuid_kill b")
    bench.wait(1.1)
    assert bench.results == {"msleep b": "failed: Command timed out after 1 seconds: no worker was free"}
    assert bench.sent_on(bench.lane) == ["uuid_kill b"]


def test_what_waits_to_be_sent_has_its_time(bench: Bench) -> None:
    bench.put("new", limit=60.0)
    bench.put("echo 1", limit=5.0)
    bench.put("echo 2", limit=1.0)
    bench.now += 1.1
    bench.wait(0)
    assert bench.results == {"echo 2": "failed: Command timed out after 1 seconds"}


def test_the_pace(bench: Bench) -> None:
    limits, scheduler = bench.limits, bench.scheduler
    bench.wait(2)
    assert scheduler.pace(bench.now) == limits.idle
    bench.put("new")
    assert scheduler.pace(bench.now) == limits.late and not scheduler.hurry
    bench.now += 0.03
    assert scheduler.pace(bench.now) == pytest.approx(limits.late - 0.03), "then the command is late"
    bench.put("echo")
    assert scheduler.pace(bench.now) == limits.hurry
    bench.answer("+OK")
    bench.answer("+OK")
    assert scheduler.pace(bench.now) == limits.late, "more may come soon"
    bench.put("msleep 5")
    bench.now += 2
    assert scheduler.pace(bench.now) == limits.tick
    bench.worked("msleep 5")
    assert scheduler.pace(bench.now) == limits.idle


# -- room


def flood(bench: Bench, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        bench.did(bench.scheduler.submit(Command(f"api echo {number}\n\n", "echo", never, never), bench.now))


def test_room_ends_and_comes_back() -> None:
    bench = Bench(Limits(enough=4, queue=10, window=2))
    bench.know("echo")
    flood(bench, 1)
    assert bench.room() == (3, 0)
    flood(bench, 9, 1)
    assert bench.room() == (0, 0) and not bench.results, "one read may bring more than enough"
    bench.put()
    while bench.room()[0] < 2:
        assert not bench.rooms
        bench.answer("y")
    assert bench.room() == (2, 1)
    flood(bench, 20, 10)
    refused = [result for result in bench.results.values() if result.startswith("failed")]
    assert set(refused) == {"failed: Too many commands are waiting for FreeSWITCH (10)"} and len(refused) == 12


def test_a_switch_that_takes_nothing_does_not_stop_the_reading_for_long() -> None:
    bench = Bench(Limits(enough=4, queue=8))
    bench.put("new")
    flood(bench, 8)
    bench.wait(1.9)
    assert bench.room() == (0, 0)
    bench.wait(0.2)
    assert bench.room() == (8, 1), "what comes now is refused at once"
    flood(bench, 1, 8)
    assert bench.results["echo 8"] == "failed: Too many commands are waiting for FreeSWITCH (8)"


@pytest.mark.parametrize("end", [lambda bench: bench.end(bench.lane), lambda bench: bench.wait(31)])
def test_room_comes_back_when_the_link_is_lost(end: Callable[[Bench], None]) -> None:
    bench = Bench(Limits(enough=4, pause=100))
    bench.put("new")
    flood(bench, 5)
    end(bench)
    assert bench.rooms == 1 and bench.lost
