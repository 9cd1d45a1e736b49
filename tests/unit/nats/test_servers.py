"""Whom to try next: the configured servers, and those the cluster told us of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.nats.servers import MAX_SERVERS, ServerPool


def round_of(pool: ServerPool) -> list[str]:
    """All URLs until the round is done."""
    found = [pool.next()]
    while not pool.round_done:
        found.append(pool.next())
        assert len(found) <= MAX_SERVERS
    return found


def test_one_after_the_other() -> None:
    pool = ServerPool(("nats://a:1", "nats://b:2", "nats://c:3"))
    assert len(pool) == 3
    assert round_of(pool) == round_of(pool) == ["nats://a:1", "nats://b:2", "nats://c:3"]
    single = ServerPool(("nats://a:1",))
    assert [single.next(), single.round_done, single.next(), single.round_done] == ["nats://a:1", True] * 2


@pytest.mark.parametrize(
    "address",
    [
        "", ":", "c", "c:", ":1", "c:0", "c:65536", "c:x", "c:1x", "c:1\n", "a b:1", "c:1?x", "c:1/", "u@c:1", "nats://c:1",
        "[", "]", "[]:1", "[::g]:1", "[:::]:1", "[c]:1", "::1:4", "\xe9:1", "c:\u0661", "x" * 254 + ":1",
        5, None, True, ["c:1"],
    ],
)  # fmt: skip
def test_what_is_no_address_is_left_out(address: object) -> None:
    pool = ServerPool(("nats://a:1",))
    pool.discovered([address, "b:2", address, "[::1]:3"])
    assert sorted(round_of(pool)) == ["nats://[::1]:3", "nats://a:1", "nats://b:2"]


def test_discovered_servers_take_over_scheme_and_credentials() -> None:
    pool = ServerPool(("tls://me:se%40cret@a:1", "tls://b:2"))
    pool.discovered(["c:3", "A:1", "b:2", "c:3", "[::1]:4"])
    found = round_of(pool)
    assert found[:2] == ["tls://me:se%40cret@a:1", "tls://b:2"]
    assert sorted(found[2:]) == ["tls://me:se%40cret@[::1]:4", "tls://me:se%40cret@c:3"]
    pool.discovered(["d:5"])
    assert round_of(pool)[2:] == ["tls://me:se%40cret@d:5"], "a new list replaces the old one"
    pool.discovered([])
    assert len(pool) == 2, "those configured stay"


def test_a_list_that_shrinks_does_not_lose_the_place() -> None:
    pool = ServerPool(("nats://a:1", "nats://b:2"))
    pool.discovered([f"x{number}:1" for number in range(10)])
    for _ in range(9):
        pool.next()
    pool.discovered([])
    assert pool.next() in ("nats://a:1", "nats://b:2")
    assert set(round_of(pool)) | set(round_of(pool)) == {"nats://a:1", "nats://b:2"}


@given(st.lists(st.text(max_size=12), max_size=90), st.integers(0, 100))
def test_whatever_a_server_tells(addresses: list[str], steps: int) -> None:
    pool = ServerPool(("nats://a:1", "nats://b:2"))
    for _ in range(steps):
        pool.next()
    pool.discovered(addresses)
    assert 2 <= len(pool) <= MAX_SERVERS
    seen = {pool.next() for _ in range(len(pool))}
    assert {"nats://a:1", "nats://b:2"} <= seen


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://a:1", "nats://a:1"), ("nats://user:secret@a:1", "nats://a:1"), ("nats://token@a:1", "nats://a:1"),
        ("tls://u:p@ss@[::1]:4222", "tls://[::1]:4222"), ("nats://a:1/path?token=secret", "nats://a:1"),
    ],
)  # fmt: skip
def test_what_is_shown_is_not_secret(url: str, shown: str) -> None:
    assert ServerPool.shown(url) == shown


def test_a_discovered_address_must_prove_that_it_is_the_configured_name() -> None:
    pool = ServerPool(("tls://nats.example.com:4222", "tls://10.0.0.9:4222"))
    pool.discovered(["10.0.0.1:4222", "[::1]:4222", "other.example.com:4222"])
    names = {url: pool.tls_name(url) for url in round_of(pool)}
    assert names == {
        "tls://nats.example.com:4222": "",
        "tls://10.0.0.9:4222": "",  # configured as an address: it must prove just that
        "tls://10.0.0.1:4222": "nats.example.com",
        "tls://[::1]:4222": "nats.example.com",
        "tls://other.example.com:4222": "",
    }
