"""call_queue.py with threads: callers wait with music, the one who waits longest gets the next agent who is free.

    python3 call_queue_sync.py --context public --number '^4930' user/1000 user/1001

Park mode must be set up on the nodes (docs/DIALPLAN.md). An agent who does not answer, or is busy, is left alone for
--rest seconds, and the caller keeps the first place. After a talk an agent has --wrap-up seconds. One process has a
queue: a second one would not know which agents are free. Callers outlast it: when it is started again it goes on with
those who wait. Each caller and each agent has a thread; of callers 200, and further ones wait before the queue.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections import deque
from contextlib import suppress

import event_agent_client as ea

EMERGENCY = ["112", "911"]  # never taken
MARK = "call_queue"  # the channel variable that names the queue of those who wait
TALKED = "talked"  # its value for others
RINGS_FOR = "call_queue_caller"  # the variable of an agent's channel that names the caller for whom it rings
LOST = 8  # times in a row that nobody knows of a call, some 15 seconds each, until it is given up
LOOK = 2.0  # seconds between two looks at what else may have ended a wait


class Caller:
    """Somebody who waits, or talks."""

    def __init__(self, call: ea.sync.Call) -> None:
        self.call = call
        self.since = time.monotonic()
        self.rings = False  # an agent's telephone does
        self.talks = False
        self.done = threading.Event()  # has talked
        self.gone = threading.Event()  # has hung up, or has talked


class Queue:
    """Who waits. Each agent is a thread that takes the first of them, again and again."""

    def __init__(self, fs: ea.sync.Client, given: argparse.Namespace) -> None:
        self._fs, self._given = fs, given
        self._waiting: deque[Caller] = deque()
        self._known: set[str] = set()
        self._more = threading.Condition()
        self._over = threading.Event()

    def start(self) -> None:
        for agent in self._given.agents:
            threading.Thread(target=self._serve, args=(agent,), name=agent, daemon=True).start()
        threading.Thread(target=self._take_up, name="take up", daemon=True).start()

    def stop(self) -> None:
        """Ends no call."""
        self._over.set()

    def wait(self, call: ea.sync.Call) -> None:
        """A caller's time here: returns when they have talked, or the caller has hung up."""
        with self._more:
            self._known.add(call.uuid)
        caller = Caller(call)
        try:
            call.set(**{MARK: self._given.name})
            self._enter(caller, len(self._waiting))
            say(call, f"waits, {len(self._waiting)} in the queue")
            self._until_over(call, caller.done)
        finally:
            caller.gone.set()
            with self._more:
                self._known.discard(call.uuid)
                with suppress(ValueError):
                    self._waiting.remove(caller)
            if caller.rings and not caller.talks:
                self._cancel(call)
            say(call, "has talked" if caller.talks else "is gone")

    def _enter(self, caller: Caller, place: int) -> None:
        with self._more:
            self._waiting.insert(place, caller)
            self._more.notify()

    def _until_over(self, call: ea.sync.Call, other: threading.Event) -> None:
        """Until the call has ended, or the other thing has happened. A lost link, or an agent, ends no call."""
        lost = 0
        while call.up and lost < LOST and not other.is_set() and not self._over.is_set():
            try:
                call.ended(wait=LOOK)
            except ea.NoAgent:
                lost += 1
            except ea.NoReply:
                pass
            except ea.AgentError:
                self._over.wait(0.5)

    def _cancel(self, call: ea.sync.Call) -> None:
        """The telephone that rings for this caller, if one does, rings no longer."""
        if not self._over.is_set():
            with suppress(ea.AgentError):
                self._fs.node(call.node).api(f"hupall ORIGINATOR_CANCEL {RINGS_FOR} {call.uuid}")

    def _serve(self, agent: str) -> None:
        """An agent's day."""
        while not self._over.is_set():
            with self._more:
                self._more.wait_for(lambda: self._waiting)
                caller = self._waiting.popleft()
            place, caller.rings = 0, True
            try:
                self._talk(agent, caller)
            except (ea.CallFailed, ea.Hangup) as error:
                print(agent, error.cause, flush=True)
            except ea.AgentError as error:  # NATS, the node or its agent is away: that may be the caller's node only
                print(agent, f"{type(error).__name__}: {error}", flush=True)
                place = len(self._waiting)
            caller.rings = False
            if not caller.talks and not caller.gone.is_set():
                self._enter(caller, place)
            self._over.wait(self._given.wrap_up if caller.talks else self._given.rest)

    def _talk(self, agent: str, caller: Caller) -> None:
        """Ring the agent, on the caller's node, and hand the caller over."""
        call = caller.call
        with self._fs.dial(
            agent, ring=self._given.ring, caller_id=("Queue", call.caller_number), node=call.node,
            variables={RINGS_FOR: call.uuid},
        ) as other:  # fmt: skip
            call.bridge(other)
            caller.talks = True
            say(call, f"talks to {agent} after {time.monotonic() - caller.since:.0f} s")
            with suppress(ea.AgentError):  # they end together, also without this program
                call.set(park_after_bridge=False, hangup_after_bridge=True, **{MARK: TALKED})
                other.set(park_after_bridge=False, hangup_after_bridge=True)
            self._until_over(other, caller.gone)
            if self._over.is_set():
                other.let_go()
            caller.done.set()

    def _take_up(self) -> None:
        """Callers who are left of an earlier life, now and then."""
        while not self._over.wait(self._given.look):
            with suppress(ea.AgentError):
                for reply in self._fs.gather("dialplan.status", calls=True):
                    found = reply.data.get("calls") if reply.ok and isinstance(reply.data, dict) else None
                    for uuid in found or ():
                        if uuid not in self._known:
                            threading.Thread(target=self._left, args=(uuid, reply.node), name=uuid, daemon=True).start()

    def _left(self, uuid: str, node: str) -> None:
        try:
            call = self._fs.take(uuid, node)
            if call.get(MARK) == self._given.name and uuid not in self._known:
                self.wait(call)
                call.hangup()
        except ea.AgentError as error:
            print(uuid, f"{type(error).__name__}: {error}", flush=True)


def say(call: ea.sync.Call, text: str) -> None:
    # !r: what a caller puts into a number must not reach the terminal as it is.
    print(call.uuid, repr(call.caller_number), text, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("agents", nargs="+", metavar="AGENT", help="an endpoint, such as user/1000")
    options.add_argument("--context", default="public")
    options.add_argument("--number", default="", help="a regular expression; without it all numbers")
    options.add_argument("--name", default="queue", help="of the queue, if there are several")
    options.add_argument("--music", default="", help="a class of music (local_stream)")
    options.add_argument("--ring", type=float, default=20.0, help="seconds for which an agent's telephone rings")
    options.add_argument("--rest", type=float, default=20.0, help="seconds until one who did not answer is rung again")
    options.add_argument("--wrap-up", type=float, default=10.0, help="seconds between two talks")
    options.add_argument("--look", type=float, default=10.0, help="seconds between two looks for callers left behind")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ea.sync.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        queue = Queue(fs, given)
        fs.incoming(
            context=given.context, number=given.number, audio="music", music=given.music, answer=True,
            exceptions=EMERGENCY, group=given.name,
        )(queue.wait)  # fmt: skip
        print(f"{len(given.agents)} agents for calls in {given.context}", flush=True)
        queue.start()
        try:
            fs.forever()
        finally:
            queue.stop()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
