"""A client of the agents, for programs: `from event_agent.client import Client`."""

import event_agent.client.carried  # noqa: F401, I001  # before what needs event_agent_client
from event_agent.client.client import (
    AgentTimeout,
    Client,
    CommandFailed,
    Event,
    EventStream,
    NoAgent,
    NoneReady,
    NotAllowed,
    Reply,
    event_pattern,
)

__all__ = ["AgentTimeout", "Client", "CommandFailed", "Event", "EventStream", "NoAgent", "NoneReady", "NotAllowed",
           "Reply", "event_pattern"]  # fmt: skip
