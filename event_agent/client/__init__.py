"""A client of the agents, for programs: `from event_agent.client import Client`."""

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
