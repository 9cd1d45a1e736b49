"""An IVR with a menu and a PIN: 1 says the time, 2 records a message behind a PIN, 0 rings the front desk.

    python3 ivr.py public user/1000         calls in context "public"; the front desk is user/1000

Park mode must be set up on the nodes (docs/DIALPLAN.md). SOUNDS is the folder of the prompts (in FreeSWITCH's
sound_prefix: ivr), RECORDINGS that of the messages on the node's disk (/tmp), PINS the PINs (1234). Start it several
times, and the calls are shared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

import event_agent_client as ea

SOUNDS, RECORDINGS = os.environ.get("SOUNDS", "ivr"), os.environ.get("RECORDINGS", "/tmp")
PINS = os.environ.get("PINS", "1234").split(",")
EMERGENCY = ["112", "911"]  # never taken


async def menu(call: ea.Call, desk: str) -> None:
    await call.answer()
    await call.play(f"{SOUNDS}/welcome.wav")
    while True:
        choice = await call.digits(
            1, prompt=f"{SOUNDS}/menu.wav", invalid=f"{SOUNDS}/invalid.wav", tries=3, timeout=5, pattern="[012]"
        )
        say(call, f"chose {choice}")
        if choice == "1":
            await the_time(call)
        elif choice == "2":
            await message(call)
        elif await front_desk(call, desk):
            return


async def the_time(call: ea.Call) -> None:
    try:
        await call.say("now", kind="current_time")
    except ea.CommandFailed as failed:  # the node has no say module, or no sounds
        say(call, str(failed))


async def message(call: ea.Call) -> None:
    if await call.digits(4, prompt=f"{SOUNDS}/pin.wav", tries=3) not in PINS:
        say(call, "wrong PIN")
        await call.play(f"{SOUNDS}/invalid.wav")
        return
    recording = await call.record(f"{RECORDINGS}/{call.uuid}.wav", limit=60, silence=4)
    say(call, f"recorded {recording.seconds:g} s in {recording.path}")


async def front_desk(call: ea.Call, desk: str) -> bool:
    """Whether they have talked."""
    try:
        other = await call.bridge(desk, ring=20)
    except ea.CallFailed as failed:
        say(call, f"the front desk: {failed.cause}")
        await call.play(f"{SOUNDS}/busy.wav")
        return False
    await other.ended()
    return True


def say(call: ea.Call, text: str) -> None:
    # !r: what a caller puts into a number must not reach the terminal as it is.
    print(call.uuid, repr(call.caller_number), text, flush=True)


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("context", nargs="?", default="public")
    options.add_argument("desk", nargs="?", default="user/1000")
    given = options.parse_args()
    async with ea.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        @fs.incoming(context=given.context, audio="silence", exceptions=EMERGENCY)
        async def ivr(call: ea.Call) -> None:
            say(call, f"calls {call.destination!r}")
            try:
                await menu(call, given.desk)
            except ea.NoInput:
                say(call, "dialled nothing")
            finally:
                say(call, "is done")

        print(f"taking calls in {given.context}", flush=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
        await fs.forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
