"""How long FreeSWITCH may take until an originate has been answered or has failed: an upper bound.

FreeSWITCH has no limit for an originate as a whole. `originate_timeout` counts anew for each alternative (`a|b`), a leg
may have a limit of its own, attempts may be repeated with pauses between them, and `user/` and `group/` are originates
inside the originate. A client has to wait for all of that, or the call is answered with nobody there.

Source: FreeSWITCH 1.10.12, switch_ivr_originate.c, switch_ivr_originate and check_per_channel_timeouts;
mod_dptools.c, user_outgoing_channel and group_outgoing_channel. Times there are whole seconds of the clock, and some
limits are passed only by the next one, hence TICK. Pure functions.
"""

from __future__ import annotations

import math

from event_agent.freeswitch.dialreader import Dial, Leg, Pairs, number, true

RING = 60.0  # seconds an alternative may ring when nothing is said (SWITCH_DEFAULT_TIMEOUT)
TICK = 2.0  # seconds by which the end of an alternative may be later than its limit says
FEW = 100  # retries without a limit of their own; more are ignored
# What creates its leg without waiting for anybody. Others may be an originate of their own (user, group, lcr).
PLAIN = frozenset(("loopback", "sofia", "error", "null", "verto", "rtc", "pickup", "skinny", "portaudio", "alsa"))
_KNOWN = frozenset((
    "originate_timeout", "call_timeout", "leg_timeout", "leg_delay_start", "local_var_clobber", "forked_dial",
    "fail_on_single_reject", "originate_retries", "originate_retry_timeout", "originate_retry_sleep_ms",
    "originate_retry_min_period_ms", "originate_delay_start",
))  # fmt: skip


def longest(common: Pairs, dial: Dial) -> float:
    """Seconds, infinite if FreeSWITCH would wait until the other side has had enough.

    `common`: the variables of all legs in FreeSWITCH's order, in which the last of a name counts.
    """
    said: dict[str, str] = {}
    for name, value in common:
        key = name.lower()
        if key in _KNOWN and value:
            said[key] = value
    ring = _positive(said, "originate_timeout") or RING
    forked = len(dial.alternatives) > 1 or any(len(group) > 1 for group in dial.alternatives)
    forked = forked or true(said.get("forked_dial", ""))
    # With a list of causes in fail_on_single_reject the limit of an alternative ends nothing.
    causes = said.get("fail_on_single_reject", "")
    endless = bool(causes) and not true(causes)
    once = TICK * max(0, len(dial.alternatives) - 1)
    for group in dial.alternatives:
        once += max((_leg(leg, said, math.inf if endless else ring) for leg in group), default=0.0)
        if not forked and group and group[0].kind not in PLAIN:
            once += _nested(group[0], said)
    return _between(said, "originate_delay_start", 1, 2**31) / 1000 * 1.2 + _tries(said, once, len(dial.alternatives))


def _leg(leg: Leg, common: dict[str, str], ring: float) -> float:
    """Seconds until one leg is given up; `ring` is the limit of its alternative."""
    said = _of(leg, common)
    limit = _positive(said, "leg_timeout")
    return min(ring, limit + (_positive(said, "leg_delay_start") or 0) + TICK) if limit else ring


def _of(leg: Leg, common: dict[str, str]) -> dict[str, str]:
    """What is said of a leg: its own variables are overwritten by those of all, unless local_var_clobber."""
    own = {name.lower(): value for name, value in leg.variables}
    return common | own if true(common.get("local_var_clobber", "")) else own | common


def _nested(leg: Leg, common: dict[str, str]) -> float:
    """Seconds of the originate that a leg such as `user/1000` is by itself, with one alternative."""
    said = {name.lower(): value for name, value in leg.variables} | common
    ring = _positive(said, "originate_timeout") or _positive(said, "call_timeout") or _positive(said, "leg_timeout")
    return _tries(said, ring or RING, 1)


def _tries(said: dict[str, str], once: float, alternatives: int) -> float:
    """Seconds of all attempts, each of which takes `once`."""
    limit = _positive(said, "originate_retry_timeout") or 0
    tries = _between(said, "originate_retries", 1, 2**31 if limit else FEW) or 1
    if tries == 1:
        return once
    sleep = _between(said, "originate_retry_sleep_ms", 500, 60000) or 1000
    period = _between(said, "originate_retry_min_period_ms", 500, 300000) or 1000
    again = once + TICK + (sleep * alternatives + max(0, period - sleep)) / 1000
    total = once + (tries - 1) * again
    return min(total, limit + TICK + again) if limit else total


def _positive(said: dict[str, str], name: str) -> float | None:
    value = number(said.get(name, ""))
    return float(value) if value > 0 else None


def _between(said: dict[str, str], name: str, low: int, high: int) -> int:
    """The number if it is in range; 0 otherwise: FreeSWITCH then goes by its default."""
    value = number(said.get(name, ""))
    return value if low <= value <= high else 0
