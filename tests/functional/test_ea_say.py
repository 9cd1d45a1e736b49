"""`call.say`: FreeSWITCH's say module plays what it is to say, or the program learns that nothing was said."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator

import pytest

import event_agent_client as ea
from tests.functional.park_parts import needs_freeswitch
from tests.functional.parts import Agent, NatsServer
from tests.functional.real_switch import CONFIGURATION, RealSwitch
from tests.functional.test_ea_client import LIMIT, PARK, run
from tests.switchsim import SwitchSim

LANGUAGE = """  <section name="languages"><language name="en" say-module="en" sound-prefix="{folder}/sounds">
    <phrases><macros/></phrases></language></section>
</document>"""
WITH_LANGUAGE = CONFIGURATION.replace("</document>", LANGUAGE)


@pytest.fixture
def speaking() -> Iterator[RealSwitch]:
    """A FreeSWITCH that can say digits."""
    with RealSwitch(modules=("mod_say_en",), configuration=WITH_LANGUAGE) as found:
        folder = found.folder / "sounds" / "digits"
        folder.mkdir(parents=True)
        for digit in "47":
            with wave.open(str(folder / f"{digit}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
                file.writeframes(bytes(1600))
        yield found


@needs_freeswitch
def test_a_number_is_said(speaking: RealSwitch, nats: NatsServer, start_agent: Callable[..., Agent]) -> None:
    start_agent(nats, speaking, node_id="say-1", subject_prefix="say")

    async def work() -> None:
        async with ea.connect(nats.url, prefix="say") as fs, fs.dial(PARK) as call:
            events = call.events()
            for text, kind in (("47", "number"), ("4 7", "telephone_number")):
                await call.say(text, kind=kind, method="iterated")
                played = ""
                while not played:
                    event = await events.next()
                    if isinstance(event, ea.PlaybackStop):
                        played = event.path
                assert played.startswith("file_string://digits/4.wav!") and played.endswith("!digits/7.wav")
            for text, kind in (("four", "number"), ("4 7", "number"), ("47", "nonsense"), ("8", "number")):
                with pytest.raises(ea.CommandFailed, match=f"or '{text}' is no {kind}"):
                    await call.say(text, kind=kind, method="iterated")
            await call.say("7")  # the call goes on

    run(work(), LIMIT * 2)


def test_what_can_not_be_said(
    nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Callable[..., Agent], real: bool
) -> None:
    """The simulator says all; this FreeSWITCH has no say module."""
    start_agent(nats, own_switch, node_id="say-2", subject_prefix="mute")
    with ea.sync.connect(nats.url, prefix="mute") as fs, fs.dial(PARK) as call:
        call.play("silence_stream://10")
        if real:
            with pytest.raises(ea.CommandFailed, match="no say module, language or sound files for 'en'"):
                call.say("47")
        else:
            call.say("47")
            assert call.get("playback_ms") == "0"
        assert call.up
