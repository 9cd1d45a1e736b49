"""What is known of verbs: which are slow, quick, may hang. Lists to begin with, and what is learned. Which only read is
in protocol/questions.py.

Verbs go by the name under which `filed_under` files them: in lower case, as FreeSWITCH finds them in any, and one that
runs another by that other's name.
"""

from __future__ import annotations

import re

# They load, fetch, wait or run scripts; how long is up to somebody else. `bgapi` and `originate` go other ways.
LISTED = frozenset({
    "bg_system", "coalesce", "curl", "curl_sendfile", "db_cache", "fsctl", "http_clear_cache", "http_get",
    "http_put", "http_tryget", "js", "jsapi", "jsrun", "load", "lua", "luarun", "msleep", "nat_map", "originate",
    "perl", "perlrun", "pool_stats", "profile", "py", "pyrun", "python", "reload", "reloadacl", "reloadmod",
    "reloadxml", "sofia", "sofia_contact", "sofia_count_reg", "sofia_gateway_data", "spawn", "spawn_stream", "stun",
    "sync_clock", "system", "time_test", "timer_test", "unload", "unloadmod", "v8", "vm_inject", "xml_locate",
})  # fmt: skip
# They work in memory and wait for nothing but a lock that is held for microseconds (mod_commands.c; for sendmsg,
# bgapi and filter mod_event_socket.c). All others may hang, however quick they have been: on a database, a name
# server, a telephone, a script.
STEADY = frozenset({
    "bgapi", "create_uuid", "echo", "eval", "event", "filter", "global_getvar", "global_setvar", "hostname", "md5",
    "module_exists", "regex", "sendmsg", "status", "strepoch", "strftime", "switchname", "uptime", "url_decode",
    "url_encode", "uuid_answer", "uuid_break", "uuid_dump", "uuid_exists", "uuid_getvar", "uuid_hold", "uuid_kill",
    "uuid_park", "uuid_pre_answer", "uuid_send_dtmf", "uuid_setvar", "uuid_setvar_multi", "uuid_transfer", "version",
})  # fmt: skip
_EXPANDS = frozenset(("expand", "xml_wrap", "eval"))
_RUNS = re.compile(r"\$\{[^}( ]*[( ]")  # `${verb(…)}` or `${verb …}`; `${name}` only reads
UNSEEN = "${}"  # filed under this: what it runs is not seen before FreeSWITCH expands it
FORGIVEN = 5  # quick runs in the pool after which a verb that was learned to be slow is tried on the lane again
LATE = 3  # times running that a verb was late, after which it counts as slow
KNOWN = 1024  # verbs remembered; clients can make up any number of them


def filed_under(verb: str, args: str) -> str:
    """The name under which it is kept what is known of a verb with these arguments."""
    name = verb.lower()
    if name == "conference":  # each of its commands is a matter of its own: `list` is quick, `dial` rings
        if "'" in args or "\\" in args or args.lstrip().startswith("^^"):
            return name  # FreeSWITCH splits it at other places (switch_utils.c, switch_separate_string)
        words = args.split(None, 2)
        return f"conference {words[min(1, len(words) - 1)].lower()}"[:64] if words else name
    if name not in _EXPANDS:
        return name
    for _ in range(8):  # `expand expand …`
        if _RUNS.search(args):
            return UNSEEN
        if name == "eval":
            return name
        name, _, args = args.strip().partition(" ")
        if name.startswith("uuid:"):  # on whose behalf
            name, _, args = args.strip().partition(" ")
        name = name.lower()
        if name not in _EXPANDS:
            return filed_under(name, args)[:64]
    return UNSEEN


class SlowVerbs:
    """What is learned. Pure, and not thread-safe: it is part of the scheduler."""

    def __init__(self, quick: float, slow: float) -> None:
        """`quick`: seconds within which a verb proves to be quick; `slow`: from when on it counts as slow."""
        self._quick_limit = quick
        self._slow_limit = slow
        self.most = KNOWN
        self.quick: set[str] = set()
        """Others may be sent behind these."""
        self.slow: set[str] = set(LISTED)
        """These belong in the worker pool."""
        self.late: dict[str, int] = {}  # not quick on the lane, so many times running
        self.learned: dict[str, int] = {}  # slow, and not in the list: quick runs until it is forgiven

    def took(self, verb: str, seconds: float) -> None:
        """It ran on the lane and took so long."""
        if seconds < self._quick_limit:
            if verb not in self.quick and verb != UNSEEN and len(self.quick) < self.most:
                self.quick.add(verb)
            if self.late:
                self.late.pop(verb, None)
            return
        late = self.late.pop(verb, 0) + 1
        if seconds >= self._slow_limit and verb not in self.quick or late >= LATE:
            self.hung(verb)
        elif len(self.late) < self.most:
            # The machine may have stalled, and the pool is no place for what clients send in thousands. If it was for
            # long, the verb has to prove itself again before anything is sent behind it.
            self.late[verb] = late
            if seconds >= self._slow_limit:
                self.quick.discard(verb)

    def hung(self, verb: str) -> None:
        """It holds others up, while FreeSWITCH is well: it is slow from now on."""
        self.quick.discard(verb)
        if verb in self.learned or len(self.learned) < self.most:
            self.learned[verb] = FORGIVEN
            self.slow.add(verb)

    def pool_took(self, verb: str, seconds: float) -> None:
        """It ran in the pool and took so long."""
        if verb in self.learned:
            left = self.learned[verb] - 1 if seconds < self._quick_limit else FORGIVEN
            if left:
                self.learned[verb] = left
            else:
                del self.learned[verb]
                if verb not in LISTED:
                    self.slow.discard(verb)
