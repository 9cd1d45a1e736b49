"""The scheduler keeps the order of commands, sends ahead, and goes on elsewhere if one is late."""

from __future__ import annotations

import pytest

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.effects import Send
from event_agent.freeswitch.pipe import PipeState
from event_agent.freeswitch.scheduler import LOST, NOT_CONNECTED, Limits
from tests.unit.scheduler.parts import TOO_MANY_SLOW, Bench, never, state_of

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


def test_what_is_asked_for_a_channel_that_others_link_with_the_stalled_one_is_not_asked_again(bench: Bench) -> None:
    """Else those others, which wait here for the stalled one, would pass the question."""
    bench.know("uuid_kill", "uuid_getvar")
    bench.put("uuid_kill a", "uuid_getvar b", "uuid_getvar d")
    bench.wait(0.06)
    bench.put("uuid_bridge b c", "uuid_bridge a c")
    before = bench.move()
    assert bench.sent_on(bench.lane) == ["uuid_getvar d"]
    bench.answer("a", "of b", "again", pipe=before)
    assert bench.sent_on(bench.lane) == ["uuid_getvar d", "uuid_bridge b c"]


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


def test_a_steady_command_that_is_for_no_channel_is_not_passed_because_the_machine_is_busy(bench: Bench) -> None:
    bench.know("global_setvar", "global_getvar")
    bench.put("global_setvar a=1", "global_setvar a=2", "global_getvar a")
    bench.wait(0.9)
    bench.put("global_setvar a=3")
    assert not bench.opening and len(bench.sent_on(bench.lane)) == 3, "they wait for it"
    bench.answer("+OK")
    assert bench.sent_on(bench.lane)[3:] == ["global_setvar a=3"]
    bench.wait(1.1)
    assert bench.opening, "it hangs after all"


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


def test_a_crowd_is_reported_once() -> None:
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
