"""The broker drivers, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from event_agent.config.table import Settings
from event_agent.drivers.base import Driver, Observer
from event_agent.runtime.loop import Loop

if TYPE_CHECKING:  # a driver is imported when it is needed
    from event_agent.drivers.nats.options import NatsOptions


def _nats(settings: Settings, loop: Loop, observer: Observer) -> Driver:
    from event_agent.drivers.nats.driver import NatsDriver

    return NatsDriver(_nats_options(settings), loop, observer)


def _nats_stream_faults(settings: Settings) -> list[str]:
    from event_agent.drivers.nats.looking import stream_faults

    # Nothing on disk is touched: an agent may be at work with it.
    return stream_faults(_nats_options(replace(settings, spool_max_bytes=0, max_reconnect=-1)))


def _nats_options(settings: Settings) -> NatsOptions:
    from event_agent.drivers.nats.auth import credentials
    from event_agent.drivers.nats.options import NatsOptions, StreamOptions
    from event_agent.drivers.nats.socket import TlsOptions

    stream = None
    if settings.events_delivery == "at_least_once":
        stream = StreamOptions(
            subject=f"{settings.subject_prefix}.events.>",
            records=f"{settings.subject_prefix}.cdr.>" if settings.cdr else "",
            stream=settings.stream,
            max_pending=settings.event_max_pending,
            ack_timeout=settings.event_ack_timeout,
            buffer=settings.event_buffer_size,
            spool=settings.spool_folder,
            spool_most=settings.spool_max_bytes,
            spool_sync=settings.spool_sync,
            spool_always=settings.spool_mode == "always",
        )
    return NatsOptions(
        servers=settings.url,
        credentials=credentials(settings.token, settings.nkey_seed, settings.creds),
        tls=TlsOptions(settings.tls_ca, settings.tls_cert, settings.tls_key, settings.tls_verify),
        max_reconnect=settings.max_reconnect,
        reconnect_wait=settings.reconnect_wait,
        buffer=settings.reconnect_buf_size,
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
        ignore_discovered=settings.ignore_discovered,
        events=f"{settings.subject_prefix}.events.",
        gaps=f"{settings.subject_prefix}.events.agent.gap",
        stream=stream,
    )


DRIVERS: dict[str, Callable[[Settings, Loop, Observer], Driver]] = {"nats": _nats}
STREAM_FAULTS: dict[str, Callable[[Settings], list[str]]] = {"nats": _nats_stream_faults}


def make_driver(settings: Settings, loop: Loop, observer: Observer | None = None) -> Driver:
    """The driver that the settings name. `loop` is there to read on. Raises ConfigError if it can't be made of them."""
    return DRIVERS[settings.driver](settings, loop, observer or Observer())


def delivery_faults(settings: Settings, connect: bool) -> list[str]:
    """Without an agent: what would keep events from being stored, one line each. `connect`: ask the broker, too."""
    if settings.events_delivery != "at_least_once":
        return []
    from event_agent.drivers.outbox import faults as spool_faults

    found = spool_faults(settings.spool_folder) if settings.spool_folder else []
    look = STREAM_FAULTS.get(settings.driver)
    return found + (look(settings) if connect and look is not None else [])
