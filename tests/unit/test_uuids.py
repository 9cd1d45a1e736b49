"""Random UUIDs."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from event_agent.runtime.uuids import new_uuid


def test_they_are_of_version_4_and_differ() -> None:
    made = [new_uuid() for _ in range(1000)]
    assert len(set(made)) == 1000
    for each in made:
        read = UUID(each)
        assert str(read) == each and read.version == 4 and read.variant == RFC_4122
    assert {each[19] for each in made} == set("89ab")
