"""The lane carries out what the scheduler wants: order, late commands, jobs."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from event_agent.freeswitch.scheduler import NOT_CONNECTED
from event_agent.freeswitch.turns import ROW
from tests.support import until
from tests.switchsim.in_process import HELD, FakeSwitch, event_frame
from tests.unit.lane.parts import CALM, SUBSCRIBE, Gate, Lanes, Sent

# -- order, and sending ahead


def test_answers_find_their_commands(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch(), CALM)
    assert lane.run(*(f"echo {number}" for number in range(300))) == [f"echo {number}" for number in range(300)]
    assert lane.first.sent == [f"api echo {number}" for number in range(300)]
    assert len(lane.switch.connections) == 2 and lane.switch.fresh == [True, False]


def test_commands_of_a_known_verb_are_sent_ahead_in_one_write(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch)
    lane.run("echo x")
    gate.held.add("echo")
    before = lane.first.sends
    sent = [Sent(f"echo {number}") for number in range(20)]
    for each in sent:
        lane.lane.submit(each.command)
    assert lane.first.sends == before, "nothing goes out before the flush"
    lane.lane.flush()
    assert lane.first.sends == before + 1 and len(lane.first.sent) == 21
    assert lane.lane.pending == 20
    batches = lane.batches
    with lane.first.changed:  # all answers in one read
        gate.let_go("echo")
    assert [each.result for each in sent] == [f"echo {number}" for number in range(20)]
    assert lane.batches == batches + 1, "the answers of one read leave together"


def test_a_callback_may_submit(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch())
    first, second = Sent("echo 1"), Sent("echo 2")
    first.then = lambda: lane.send(second)
    lane.send(first)
    assert second.result == "echo 2"
    lane.stop()
    third, fourth = Sent("echo 3"), Sent("echo 4")
    third.then = lambda: lane.send(fourth)
    lane.send(third)
    assert fourth.result == f"failed: {NOT_CONNECTED}"


def test_several_threads_send_in_the_order_in_which_they_were_scheduled(lanes: Lanes) -> None:
    """Each thread's own commands stay in order, although the thread that sends takes what others have left."""
    lane = lanes(FakeSwitch(), CALM)
    lane.run("echo x")
    sent: dict[int, list[Sent]] = {
        number: [Sent(f"echo {number} {each}") for each in range(200)] for number in range(4)
    }

    def bring(mine: list[Sent]) -> None:
        for each in mine:
            lane.send(each)

    threads = [threading.Thread(target=bring, args=(mine,)) for mine in sent.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for number, mine in sent.items():
        assert [each.result for each in mine] == [f"echo {number} {each}" for each in range(200)]
        assert [each for each in lane.first.sent if each.startswith(f"api echo {number} ")] == [
            each.command.text.strip() for each in mine
        ]


def test_nobody_waits_while_a_connection_takes_nothing(lanes: Lanes) -> None:
    """One thread is stuck in sending; the others leave their commands to it, and the lane's lock is free."""
    lane = lanes(FakeSwitch(), CALM)
    lane.run("echo x")
    stuck, let_go = threading.Event(), threading.Event()
    send = lane.first.send

    def slow_send(text: str) -> None:
        stuck.set()
        assert let_go.wait(5)
        send(text)

    lane.first.send = slow_send  # type: ignore[method-assign]
    first, second = Sent("echo 1"), Sent("echo 2")
    thread = threading.Thread(target=lane.send, args=(first,))
    thread.start()
    assert stuck.wait(5)
    lane.send(second)
    assert lane.lane.connected and lane.lane.pending == 2
    assert not second.told
    let_go.set()
    assert [first.result, second.result] == ["echo 1", "echo 2"]
    thread.join(5)


def test_room_ends_and_comes_back(lanes: Lanes) -> None:
    gate = Gate("new")
    lane = lanes(gate.switch, replace(CALM, enough=4, queue=6))
    new, echoes = Sent("new"), [Sent(f"echo {number}") for number in range(7)]
    lane.send(new)
    lane.send(*echoes)
    assert lane.lane.full and not lane.rooms
    assert echoes[6].told == ["failed: Too many commands are waiting for FreeSWITCH (6)"], "at once"
    gate.let_go("new")
    assert [each.result for each in (new, *echoes[:6])] == ["new", *(f"echo {number}" for number in range(6))]
    until(lambda: lane.rooms == 1 and not lane.lane.full, "there is room again")


def test_answers_may_gather_while_many_commands_are_under_way(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch, CALM)
    lane.run("echo x")
    gate.held.add("echo")
    few, more = [Sent(f"echo {number}") for number in range(2)], [Sent(f"echo {number}") for number in range(200)]
    lane.send(*few)
    assert lane.loop.gather == 0
    lane.send(*more)
    assert 0 < lane.loop.gather < 0.001, "FreeSWITCH is not to run out of work: it takes 25 µs for each"
    gate.let_go("echo")
    assert [each.result for each in (*few, *more)]
    assert lane.loop.gather == 0, "none is under way any more"


def test_what_has_come_side_by_side_leaves_together(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch, replace(CALM, reads=3, few=1, calm=0.0), start=False)
    lane.lane.start()
    until(lambda: lane.lane.connections == 3, "all are there")
    lane.run("version")
    gate.held.add("version")
    versions = [Sent("version") for _ in range(12)]
    lane.send(*versions)
    used = [each for each in gate.switch.connections if "api version" in each.sent]
    assert len(used) == 3
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(5)

    lane.loop.call(hold)  # it looks when all have answered
    assert held.wait(5)
    before = lane.batches
    gate.let_go("version")
    go_on.set()
    assert [each.result for each in versions] == ["version"] * 12
    until(lambda: not lane.lane.pending, "all are through")
    assert lane.batches == before + 1
    used[1].cut("gone")
    until(lambda: lane.lane.connections == 3 and len(gate.switch.connections) == 5, "another takes its place")
    assert lane.run("version", "version") == ["version"] * 2


def test_the_loop_stays_awake_while_commands_come_in_turns(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch(), replace(CALM, soon=30.0))
    for number in range(2 * ROW):
        assert lane.run(f"echo {number}") == [f"echo {number}"]
    until(lambda: lane.loop.awake_until > time.monotonic(), "it waits for the next one")
    others = [lane.run("echo a", "echo b") for _ in range(3)]
    assert others == [["echo a", "echo b"]] * 3, "it takes others as well"
    until(lambda: lane.loop.awake_until < time.monotonic(), "several at a time are no turns")


# -- late commands


def test_a_late_command_keeps_its_connection_and_the_others_get_another(lanes: Lanes) -> None:
    gate = Gate("slow")
    lane = lanes(gate.switch)
    lane.run("echo x")
    slow, echo = Sent("slow"), Sent("echo behind")
    lane.send(slow, echo)
    assert echo.result == "echo behind", "it does not wait for the slow one"
    assert not slow.told and len(gate.switch.open) == 3
    assert gate.switch.fresh.count(True) == 1 and len(lane.ups) == 1 and not lane.downs, "it is no new link"
    gate.let_go("slow")
    assert slow.result == "slow"
    until(lambda: len(gate.switch.open) == 2, "the old connection is closed once it has answered")
    assert lane.run("echo after") == ["echo after"]


def test_listed_verbs_never_touch_the_lane(lanes: Lanes) -> None:
    gate = Gate("msleep")
    lane = lanes(gate.switch, workers=4)
    sleepers = [Sent(f"msleep {number}") for number in range(5)] + [Sent("whatever", slow=True)]
    lane.send(*sleepers)
    assert lane.run("echo x") == ["echo x"]
    assert sleepers[-1].result == "whatever", "there are workers for other verbs"
    assert lane.lane.pending == 5
    assert lane.first.sent == ["api echo x"]
    gate.let_go("msleep")
    assert [each.result for each in sleepers[:-1]] == [f"msleep {number}" for number in range(5)]


def test_the_other_connection_can_not_be_had(lanes: Lanes) -> None:
    gate = Gate("slow")
    lane = lanes(gate.switch)
    gate.switch.refusal = "no more connections"
    slow, echo = Sent("slow"), Sent("echo x")
    lane.send(slow, echo)
    until(lambda: len(gate.switch.fresh) > 4, "it is tried again")
    assert lane.lane.connected and not lane.downs
    gate.switch.refusal = ""
    assert echo.result == "echo x"
    gate.let_go("slow")
    assert slow.result == "slow"


# -- jobs


def test_a_job_is_done_when_its_event_comes(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch)
    assert lane.jobs.sent == [SUBSCRIBE]
    gate.switch.answers = lambda _, command: "+OK Job-UUID: job-1" if command.startswith("bgapi") else HELD
    job, hangs = Sent("bgapi originate x", job="job-1"), Sent("hangs")
    lane.send(job)
    until(lambda: lane.jobs.nudges, "an idle connection is nudged for its events")
    lane.send(hangs)
    assert not job.told and lane.lane.pending == 2 and not lane.first.nudges
    lane.jobs.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="somebody-elses", _body="+OK no"))
    lane.jobs.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="job-1", _body="+OK the-uuid\n"))
    assert job.result == "+OK the-uuid\n", "although a command hangs on the lane"
    lane.jobs.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="job-1", _body="+OK again"))
    gate.switch.answers = lambda _, command: command
    gate.switch.pump()
    assert hangs.result == "api hangs" and len(job.told) == 1


def test_jobs_wait_for_the_connection_on_which_they_are_heard(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch(lambda _, command: "+OK" if command.startswith("bgapi") else command))
    lane.switch.refusal = "no more connections"
    lane.jobs.cut()
    until(lambda: len(lane.switch.fresh) > 4, "it is tried again")
    job = Sent("bgapi originate x", job="1")
    lane.send(job)
    assert lane.run("echo x") == ["api echo x"] and lane.first.sent == ["api echo x"] and not lane.downs
    lane.switch.refusal = ""
    until(lambda: "bgapi originate x" in lane.first.sent, "it is sent at last")
    lane.switch.connections[-1].push(event_frame(Job_UUID="1", _body="+OK"))
    assert job.result == "+OK"
