"""Whom to try next: the configured servers, and those the cluster told us of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.nats.servers import MAX_SERVERS, ServerPool

A, B, C = "nats://a:1", "nats://b:2", "nats://c:3"


def test_those_configured_are_tried_first_and_the_last_one_used_last_of_its_kind() -> None:
    pool = ServerPool((A, B, C))
    assert len(pool) == 3 and pool.round() == pool.round() == [A, B, C]
    pool.used(A, short=False)
    assert pool.round() == [B, C, A]
    pool.used(B, short=False)
    assert pool.round() == [C, A, B]
    pool.discovered(["x:1"])
    assert pool.round() == [C, A, B, "nats://x:1"]
    pool.used("nats://x:1", short=False)
    assert pool.round() == [A, B, C, "nats://x:1"]
    pool.used("nats://y:1", short=True)
    assert pool.round() == [A, B, C, "nats://x:1"], "one that is not known any more"
    assert ServerPool((A, B, A)).round() == [A, B]


def test_a_server_that_had_us_for_a_moment_only_comes_last_of_all() -> None:
    pool = ServerPool((A, B))
    pool.discovered(["x:1"])
    pool.used(A, short=True)
    assert pool.round() == [B, "nats://x:1", A]
    pool.used(A, short=False)
    assert pool.round() == [B, A, "nats://x:1"]


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
    assert sorted(pool.round()) == ["nats://[::1]:3", "nats://a:1", "nats://b:2"]


def test_discovered_servers_take_over_scheme_and_credentials() -> None:
    pool = ServerPool(("tls://me:se%40cret@a:1", "tls://b:2"))
    pool.discovered(["c:3", "A:1", "b:2", "c:3", "[::1]:4"])
    found = pool.round()
    assert found[:2] == ["tls://me:se%40cret@a:1", "tls://b:2"]
    assert sorted(found[2:]) == ["tls://me:se%40cret@[::1]:4", "tls://me:se%40cret@c:3"]
    pool.discovered(["d:5"])
    assert pool.round()[2:] == ["tls://me:se%40cret@d:5"], "a new list replaces the old one"
    pool.discovered([])
    assert len(pool) == 2, "those configured stay"


@given(st.lists(st.text(max_size=12), max_size=90))
def test_whatever_a_server_tells(addresses: list[str]) -> None:
    pool = ServerPool((A, B))
    pool.discovered(addresses)
    assert 2 <= len(pool) <= MAX_SERVERS and len(pool.round()) == len(pool)
    assert pool.round()[:2] == [A, B]


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
    names = {url: pool.tls_name(url) for url in pool.round()}
    assert names == {
        "tls://nats.example.com:4222": "",
        "tls://10.0.0.9:4222": "",  # configured as an address: it must prove just that
        "tls://10.0.0.1:4222": "nats.example.com",
        "tls://[::1]:4222": "nats.example.com",
        "tls://other.example.com:4222": "",
    }
