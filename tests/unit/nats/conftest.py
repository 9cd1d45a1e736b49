"""A server, and drivers that are stopped after the test and leave no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.nats import Driven, FakeNats
from tests.support import until

Start = Callable[..., Driven]


@pytest.fixture
def server() -> Iterator[FakeNats]:
    found = FakeNats()
    yield found
    found.close()
    assert not [fault for link in found.links for fault in link.faults], "bytes that are no NATS were sent"


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes drivers; all are stopped after the test, and leave no thread."""
    made: list[Driven] = []

    def make(*servers: str, **options: Any) -> Driven:
        made.append(Driven(*servers, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()

    def left() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith(("nats-", "io"))]

    until(lambda: not left(), "no thread is left")
