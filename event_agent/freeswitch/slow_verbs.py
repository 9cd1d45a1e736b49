"""Which verbs are slow: a list to begin with, and what is learned from how long they took."""

from __future__ import annotations

# They load, fetch, wait or run scripts; how long is up to somebody else. `bgapi` and `originate` go other ways.
LISTED = frozenset({
    "bg_system", "coalesce", "curl", "curl_sendfile", "db_cache", "fsctl", "http_clear_cache", "http_get",
    "http_put", "http_tryget", "js", "jsapi", "jsrun", "load", "lua", "luarun", "msleep", "nat_map", "originate",
    "perl", "perlrun", "pool_stats", "profile", "py", "pyrun", "python", "reload", "reloadacl", "reloadmod",
    "reloadxml", "sofia", "sofia_contact", "sofia_count_reg", "sofia_gateway_data", "spawn", "spawn_stream", "stun",
    "sync_clock", "system", "time_test", "timer_test", "unload", "unloadmod", "v8", "vm_inject", "xml_locate",
})  # fmt: skip
FORGIVEN = 5  # quick runs in the pool after which a verb that was learned to be slow is tried on the lane again
KNOWN = 1024  # verbs remembered; clients can make up any number of them


class SlowVerbs:
    """What is known of verbs. Pure, and not thread-safe: it is part of the scheduler."""

    def __init__(self, quick: float, slow: float) -> None:
        """`quick`: seconds within which a verb proves to be quick; `slow`: from when on it counts as slow."""
        self._quick_limit = quick
        self._slow_limit = slow
        self._quick: set[str] = set()
        self._learned: dict[str, int] = {}

    def slow(self, verb: str) -> bool:
        """It belongs in the worker pool."""
        return verb in LISTED or verb in self._learned

    def quick(self, verb: str) -> bool:
        """Others may be sent behind it."""
        return verb in self._quick

    def took(self, verb: str, seconds: float) -> None:
        """It ran on the lane and took so long."""
        if seconds < self._quick_limit:
            if verb not in self._quick and len(self._quick) < KNOWN:
                self._quick.add(verb)
        elif seconds >= self._slow_limit:
            if verb in self._quick:
                # The machine may have stalled, and the pool is no place for what clients send in thousands. It has
                # to prove itself again before anything is sent behind it; slow a second time, it is slow.
                self._quick.remove(verb)
            elif len(self._learned) < KNOWN:
                self._learned[verb] = FORGIVEN

    def pool_took(self, verb: str, seconds: float) -> None:
        """It ran in the pool and took so long."""
        if verb in self._learned:
            left = self._learned[verb] - 1 if seconds < self._quick_limit else FORGIVEN
            if left:
                self._learned[verb] = left
            else:
                del self._learned[verb]
