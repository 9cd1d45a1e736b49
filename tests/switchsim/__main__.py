"""Runs the simulator by itself: python -m tests.switchsim [--host H] [--port N] [--password P] [--demo]."""

from __future__ import annotations

import argparse
import signal
import sys
from itertools import count, cycle

from .sim import SwitchSim

_DEMO_SECONDS = 5.0
"""Between the calls of the demo, and half as long each call lasts."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="switchsim", description="Event-socket simulator of FreeSWITCH.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8021)
    parser.add_argument("--password", default="ClueCon")
    parser.add_argument("--demo", action="store_true", help="make a short call now and then")
    options = parser.parse_args(arguments)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # sigwait takes them
    sim = SwitchSim(options.port, options.password, host=options.host, heartbeat=20.0)
    try:
        sim.start()
    except OSError as error:
        print(f"switchsim: can't listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"switchsim listens on {sim.host}:{sim.port}", flush=True)
    if options.demo:
        _demo(sim)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    sim.stop()
    return 0


def _demo(sim: SwitchSim) -> None:
    """Lets a caller call again and again, talk to the echo for a while, and hang up."""
    numbers = count(1)
    causes = cycle(("NORMAL_CLEARING", "NORMAL_CLEARING", "ORIGINATOR_CANCEL"))
    workers = sim.switch.workers

    def one_call() -> None:
        number = 1000 + next(numbers) % 100
        caller = f"{{origination_caller_id_name=Demo,origination_caller_id_number={number}}}"
        uuid = sim.call(f"{caller}loopback/9196/default", "&park()")
        workers.later(_DEMO_SECONDS / 2, lambda: hang_up(uuid))
        workers.later(_DEMO_SECONDS, one_call)

    def hang_up(uuid: str) -> None:
        sim.api(f"uuid_kill {uuid} {next(causes)}")

    workers.later(1.0, one_call)


if __name__ == "__main__":
    sys.exit(main())
