"""event-agentctl, the command line for all nodes: a program of its own, built on `event_agent.client`."""

from event_agent.ctl.program import main

__all__ = ["main"]
