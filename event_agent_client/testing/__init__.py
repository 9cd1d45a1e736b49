"""For tests of programs that use this client: an agent that is none, with calls that a test controls.

    async with FakeAgent(url) as agent:                     # a nats-server is needed, no FreeSWITCH
        agent.digits("1234")                                # what the next callers dial
        call = await agent.incoming("4930", context="public")
        ...                                                 # the program under test answers, plays, asks
        assert [app for app, _ in call.applications] == ["answer", "play_and_get_digits", "playback"]

`RealAgent` is event-agent itself, if it is installed, on a simulated FreeSWITCH. `event_agent_client.pytest_plugin` has
fixtures: `nats_url`, `fake_agent`, `real_agent`.
"""

from event_agent_client.testing.agent import FakeAgent, FakeCall
from event_agent_client.testing.real import RealAgent
from event_agent_client.testing.server import MissingPart, Nats, free_port

__all__ = ["FakeAgent", "FakeCall", "MissingPart", "Nats", "RealAgent", "free_port"]
