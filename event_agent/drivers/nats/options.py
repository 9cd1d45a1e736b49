"""The settings of the link to NATS."""

from __future__ import annotations

from dataclasses import dataclass, field

from event_agent.drivers.nats.auth import Credentials
from event_agent.drivers.nats.connection import PING_TIMEOUT
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.drivers.nats.timing import DEFAULT, Timing

PAUSE = 4.0  # seconds; nats-server ends the link of a client that takes nothing for 10 s (its write_deadline)
HEADERS = 512  # bytes of an event's headers at most; they count towards what a server takes


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Settings of at-least-once delivery; sizes in bytes, durations in seconds."""

    subject: str  # a pattern of all events
    records: str = ""  # a pattern of all call records; empty if there are none
    stream: str = ""
    max_pending: int = 4000
    ack_timeout: float = 5.0
    buffer: int = 4194304
    spool: str = ""  # the folder, empty for none
    spool_most: int = 268435456
    spool_sync: str = "interval"
    spool_always: bool = False


@dataclass(frozen=True)
class NatsOptions:
    """The link's settings; durations in seconds, sizes in bytes."""

    servers: tuple[str, ...]
    credentials: Credentials = field(default_factory=Credentials)
    tls: TlsOptions = field(default_factory=TlsOptions)
    max_reconnect: int = -1
    reconnect_wait: float = 1.0
    buffer: int = 8388608
    ping_interval: float = 30.0
    ping_timeout: float = PING_TIMEOUT
    ignore_discovered: bool = False
    pause: float = PAUSE
    events: str = ""  # how the subjects of events begin
    gaps: str = ""  # the subject on which losses are announced: its own refusal is not one
    timing: Timing = DEFAULT
    stream: StreamOptions | None = None  # how events are delivered at least once; None: at most once
