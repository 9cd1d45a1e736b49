"""How long an originate may take. What a real FreeSWITCH takes: tests/functional/test_originate.py."""

from __future__ import annotations

import math

import pytest

from event_agent.freeswitch.dialreader import read
from event_agent.freeswitch.ringing import longest

SECONDS = {
    "loopback/x": 60,
    "{originate_timeout=2}loopback/x": 2,
    "{Originate_Timeout=2}loopback/x": 2,
    "{originate_timeout=0}loopback/x": 60,
    "{originate_timeout=x}loopback/x": 60,
    "{originate_timeout=30}{originate_timeout=2}loopback/x": 2,  # the last counts
    "[originate_timeout=2]loopback/x": 60,  # not one of a leg's
    "{originate_timeout=5}a/1,b/2,c/3": 5,
    "{originate_timeout=5}loopback/1|loopback/2|loopback/3": 19,
    "{originate_timeout=8}[leg_timeout=3]loopback/1|[leg_timeout=3]loopback/2": 12,
    "{originate_timeout=8}[leg_timeout=3]loopback/1,[leg_timeout=4]loopback/2": 6,
    "{originate_timeout=8}[leg_timeout=3]loopback/1,loopback/2": 8,
    "{originate_timeout=8}[leg_timeout=3,leg_delay_start=2]loopback/1": 7,
    "{leg_timeout=3}[leg_timeout=50]loopback/1": 5,  # what all have overwrites a leg's own
    "{leg_timeout=3,local_var_clobber=true}[leg_timeout=50]loopback/1": 52,
    "{originate_timeout=5,originate_retries=3}loopback/1": 21,
    "{originate_timeout=5,originate_retries=3,originate_retry_sleep_ms=3000}loopback/1": 25,
    "{originate_timeout=5,originate_retries=3,originate_retry_min_period_ms=4000}loopback/1": 27,
    "{originate_timeout=5,originate_retries=101}loopback/1": 5,  # too many, so FreeSWITCH ignores them
    "{originate_timeout=5,originate_retries=1000,originate_retry_timeout=20}loopback/1": 30,
    "{originate_timeout=5,originate_delay_start=10000}loopback/1": 17,
    "{originate_timeout=5}user/1000": 10,  # an originate in the originate
    "{originate_timeout=5}[call_timeout=90]user/1000": 10,
    "[leg_timeout=90]user/1000": 150,
    "user/1000": 120,
    "user/1000,user/1001": 60,  # not waited for, where there are several
    "{forked_dial=true}user/1000": 60,
    "{originate_timeout=5,fail_on_single_reject=true}a/1,b/2": 5,
    "{originate_timeout=5,fail_on_single_reject=USER_BUSY}a/1,b/2": math.inf,
    "{originate_timeout=5,fail_on_single_reject=USER_BUSY}[leg_timeout=9]a/1,[leg_timeout=3]b/2": 11,
}


@pytest.mark.parametrize("endpoint", SECONDS)
def test_how_long_it_may_take(endpoint: str) -> None:
    dial = read(endpoint)
    assert longest(dial.variables, dial) == SECONDS[endpoint]
