"""Calls and events of FreeSWITCH for programs, over NATS and event-agent: `import event_agent_client as ea`.

    async with ea.connect("nats://127.0.0.1:4222") as fs:
        async with fs.dial("user/1000", ring=20) as call:
            await call.play("tone_stream://%(300,100,800)")

`ea.connect` is for asyncio, `ea.sync.connect` the same for threads, without `await`.
"""

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
from event_agent_client.core import Reply
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

__version__ = "1.1.0"
__all__ = [
    "AgentConnected", "AgentError", "AgentStopping", "BackgroundJob", "Busy", "Call", "CallFailed", "Cdr", "Cdrs",
    "ChannelAnswer", "ChannelBridge", "ChannelCreate", "ChannelDestroy", "ChannelExecuteComplete", "ChannelHangup",
    "ChannelHangupComplete", "ChannelPark", "ChannelProgress", "ChannelUnbridge", "Client", "CommandFailed",
    "ConfigError", "Custom", "Dial", "Dtmf", "End", "Event", "Events", "Gap", "Hangup", "LinkError", "Live",
    "LiveCall", "NoAgent", "NoAnswer", "NoInput", "NoReply", "NoRoute", "Node", "NotAllowed", "NotRegistered",
    "PlaybackStop", "Record", "Recording", "RecordStop", "Refused", "Reply", "RouteRequest", "connect", "sync",
]  # fmt: skip
