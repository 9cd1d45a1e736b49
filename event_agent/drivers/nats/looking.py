"""Whether a stream would take our events, asked by a driver that is started for that alone and stopped again.

Nothing on disk is touched, nothing is subscribed to but the answer, nothing is published but the question.
"""

from __future__ import annotations

import logging
import time

from event_agent.drivers.nats.driver import NatsDriver
from event_agent.drivers.nats.options import NatsOptions
from event_agent.drivers.nats.stream import StreamEvents
from event_agent.runtime.loop import Loop

LOOK = 7.0  # seconds: JetStream has 5 to answer
SOON = 0.02  # seconds between two looks


def stream_faults(options: NatsOptions) -> list[str]:
    """What is wrong, in a line; empty if all is well. `options` are for delivery at least once, without a spool."""
    logging.disable()  # what is wrong is returned
    loop = Loop()
    driver = NatsDriver(options, loop)
    events = driver.events
    assert isinstance(events, StreamEvents)
    loop.start()
    driver.start()
    try:
        deadline = time.monotonic() + LOOK
        while time.monotonic() < deadline and not (events.fault or events.stored or driver.status.reason):
            time.sleep(SOON)
        link, fault, stored = driver.status, events.fault, events.stored
    finally:
        driver.stop(1.0)
        loop.stop(1.0)
        logging.disable(logging.NOTSET)
    if stored or fault:  # the stream is known before the link counts as up
        return [fault] if fault else []
    if not link.up:
        return [f"no stream was looked for, as NATS can't be reached: {link.reason or 'no answer'}"]
    return ["events wait: JetStream did not answer"]
