"""Calls and events of FreeSWITCH for programs, over NATS and event-agent: `import event_agent_client as ea`.

    async with ea.connect("nats://127.0.0.1:4222") as fs:
        async with fs.dial("user/1000", ring=20) as call:
            await call.play("tone_stream://%(300,100,800)")

`ea.connect` is for asyncio, `ea.sync.connect` the same for threads, without `await`.

What stands here is imported when it is first used: event_agent.client, and with it event-agentctl, has subjects,
replies and errors of this package, and does not load asyncio for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from event_agent_client import sync
    from event_agent_client.aio import (
        Call,
        Cdrs,
        Client,
        Dial,
        End,
        Events,
        Live,
        LiveCall,
        Node,
        Record,
        Recording,
        RouteRequest,
        connect,
    )
    from event_agent_client.errors import (
        AgentError,
        Busy,
        CallFailed,
        CommandFailed,
        ConfigError,
        Hangup,
        LinkError,
        NoAgent,
        NoAnswer,
        NoInput,
        NoReply,
        NoRoute,
        NotAllowed,
        NotRegistered,
        Refused,
    )
    from event_agent_client.events import (
        AgentConnected,
        AgentStopping,
        BackgroundJob,
        Cdr,
        ChannelAnswer,
        ChannelBridge,
        ChannelCreate,
        ChannelDestroy,
        ChannelExecuteComplete,
        ChannelHangup,
        ChannelHangupComplete,
        ChannelPark,
        ChannelProgress,
        ChannelUnbridge,
        Custom,
        Dtmf,
        Event,
        Gap,
        PlaybackStop,
        RecordStop,
    )
    from event_agent_client.replies import Reply

__version__ = "1.1.0"
__all__ = [
    "AgentConnected", "AgentError", "AgentStopping", "BackgroundJob", "Busy", "Call", "CallFailed", "Cdr", "Cdrs",
    "ChannelAnswer", "ChannelBridge", "ChannelCreate", "ChannelDestroy", "ChannelExecuteComplete", "ChannelHangup",
    "ChannelHangupComplete", "ChannelPark", "ChannelProgress", "ChannelUnbridge", "Client", "CommandFailed",
    "ConfigError", "Custom", "Dial", "Dtmf", "End", "Event", "Events", "Gap", "Hangup", "LinkError", "Live",
    "LiveCall", "NoAgent", "NoAnswer", "NoInput", "NoReply", "NoRoute", "Node", "NotAllowed", "NotRegistered",
    "PlaybackStop", "Record", "Recording", "RecordStop", "Refused", "Reply", "RouteRequest", "connect", "sync",
]  # fmt: skip
_PLACES = ("errors", "events", "replies", "aio")  # in this order: the first three load quickly

if not TYPE_CHECKING:  # a type checker is to know which names there are

    def __getattr__(name: str) -> object:
        if name == "sync":
            return import_module("event_agent_client.sync")
        if name in __all__:
            for place in _PLACES:
                module = import_module(f"event_agent_client.{place}")
                if hasattr(module, name):
                    return globals().setdefault(name, getattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
