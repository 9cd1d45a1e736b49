"""Number patterns: what FreeSWITCH would match, and never for long."""

from __future__ import annotations

import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_agent.dialplan.pattern import LONGEST, PATTERN, BadPattern, compile_number
from tests.timing import cpu_of

GOOD = {
    r"^55\d{3}$": ("55123", "5512"),
    r"^(?!112$|911$)\d+$": ("5551234", "112"),
    r"^(\+|00)?49\d+$": ("+49301234", "301234"),
    r"^(100|200|3\d\d)$": ("342", "400"),
    r"support": ("support-1", "sales"),
    r"^9\d*#\d*$": ("912#34", "912"),
    r"(?i)^Help(desk)?$": ("HELPDESK", "helpme"),
    r"^(\d)\1$": ("44", "45"),
    r"^(?:\d{1,3}-){2}\d{4}$": ("1-222-3333", "1-222"),
    r"^(?>\d+)x$": ("12x", "12"),
}
EVIL = [
    r"(a+)+$", r"(a*)*b", r"(a|a)*b", r"(a|aa)+$", r"([a-z]+)*[0-9]", r"(.*)*x", r"(.*a){20}", r"(x+x+)+y",
    r"\d*\d*\d*\d*\d*\d*#", "a?" * 30 + "a" * 30, r"(?:(?:){9999}){9999}", r"(\d?){60}", r"(a|b|ab)*c", r"^(\d+)*$",
    r".*.*.*=.*", r"(?=(\d+)*x)", r"(?:a?){64}b", r"(?:(?=\d*)){50}", r"(?:\d*){2,}#", r"(\d*\d*)?(\d*\d*)?x",
]  # fmt: skip
BROKEN = ["(", "[a", "*", "a{2,1}", "(?P<n>a)(?P<n>b)", "\\", "a{99999999999999999999}", "(" * 120, "x" * (PATTERN + 1)]


@pytest.mark.parametrize("pattern", GOOD)
def test_matches_like_a_search(pattern: str) -> None:
    matches = compile_number(pattern)
    yes, no = GOOD[pattern]
    assert matches(yes) and not matches(no)


@pytest.mark.parametrize("pattern", EVIL)
def test_what_could_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="^must "):
        compile_number(pattern)


@pytest.mark.parametrize("pattern", BROKEN)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="^must "):
        compile_number(pattern)


def test_a_long_number_matches_nothing() -> None:
    assert compile_number("^1")("1" * LONGEST)
    assert not compile_number("^1")("1" * (LONGEST + 1))


PIECES = st.recursive(
    st.sampled_from(["1", "a", r"\d", ".", "[12]", "a|1", "^", "$", "(?=1)", r"\b", "", "(?!a)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2,}", "{0,9}", "{3}", "*+"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"(?={text})"),
        inner.map(lambda text: f"(?>{text})"),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(PIECES, st.sampled_from(["1" * 64, "a" * 64, "1a" * 32, "1" * 63 + "!", "a" * 32 + "1" * 32, ""]))
def test_what_is_taken_is_quick_and_means_the_same(pattern: str, number: str) -> None:
    try:
        matches = compile_number(pattern)
    except BadPattern:
        return
    assert cpu_of(partial(matches, number)) < 0.1
    assert matches(number) == bool(re.search(pattern, number))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        compile_number(text)("5551234")
    except BadPattern:
        pass
