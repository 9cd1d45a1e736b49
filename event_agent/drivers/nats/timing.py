"""How long the link to NATS waits for what, in seconds. One set of values is in use; tests pass others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The values of one link."""

    connect: float = 5.0  # for each step of connecting
    blame: float = 2.0  # for which a complaint of the server explains the end of the link
    slow: float = 1.0  # without a read: then a closed link is likely to be the server's cure for that
    settle: float = 0.5  # for the server to take over subscriptions, or to hand on what was on its way to one that ends
    crossing: float = 0.1  # for a message to get from one server of a cluster to another
    round: float = 5.0  # at most between two signs of life of nats-link; also between two tries of what was refused
    again_first: float = 5.0  # until a lane of calls that was refused is tried again
    again_most: float = 60.0  # the same, after many tries


DEFAULT = Timing()
