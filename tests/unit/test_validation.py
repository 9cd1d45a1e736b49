"""Each rule: what it lets through, and the one message it gives for everything else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import CommandError
from event_agent.protocol.validation import (
    BODY,
    TEXT,
    WORD,
    boolean,
    enum,
    mapping,
    number,
    scalar,
    spelled,
    strict_subject,
    string,
    strings,
    subject,
    word,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates too


def outcome(rule: Callable[[dict[str, object]], object], value: object) -> object:
    """The rule's value, or its message."""
    try:
        return rule({"f": value})
    except CommandError as error:
        return error


def message(rule: Callable[[dict[str, object]], object], payload: dict[str, object]) -> str:
    with pytest.raises(CommandError) as caught:
        rule(payload)
    return caught.value.message


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (string("endpoint", 1, 255), "endpoint must be between 1 and 255 characters"),
        (string("extension", 1, 255), "extension must be between 1 and 255 characters"),
        (string("context", high=127), "context must be 127 characters or fewer"),
        (string("uuid", 2, 63), "uuid must be between 2 and 63 characters"),
        (string("cause", high=63), "cause must be 63 characters or fewer"),
        (string("args"), "args must be a string"),
        (string("code", 4), "code must be a string of 4 characters or more"),
        (enum("mode", "silence", "ringback", "music"), "mode must be silence, ringback, or music"),
        (enum("leg", "a", "b"), "leg must be a or b"),
        (string("music_class", high=63), "music_class must be 63 characters or fewer"),
        (boolean("enabled"), "enabled must be true or false"),
        (number("timeout", 1, 600), "timeout must be between 1 and 600"),
        (number("n", low=1), "n must be 1 or more"),
        (number("n", high=9), "n must be 9 or less"),
        (number("n"), "n must be a number"),
        (mapping("variables"), "variables must be an object of strings, numbers, and booleans"),
        (subject("forward_to"),
         "forward_to must be a plain subject, without wildcards, spaces, control characters, or empty tokens"),
    ],
)
def test_absent_null_and_wrong_type_get_the_same_message(rule: Any, expected: str) -> None:
    assert message(rule, {}) == expected
    for value in (None, [1], math.nan):
        assert message(rule, {rule.name: value}) == expected


def test_optional() -> None:
    rule = string("f", high=3).optional("dflt")
    assert rule({}) == "dflt"
    assert rule({"f": "abc"}) == "abc"
    assert rule({"f": ""}) == ""
    assert message(rule, {"f": None}) == message(rule, {"f": "abcd"}) == "f must be 3 characters or fewer"
    assert boolean("f").optional(None)({}) is None


def test_empty_as_absent() -> None:
    rule = string("f", high=3, form=WORD).optional("dflt", empty=True)
    assert rule({}) == rule({"f": ""}) == "dflt" and rule({"f": "abc"}) == "abc"
    assert message(rule, {"f": None}) == "f must be 3 characters or fewer"


def test_an_alias_counts_where_the_name_itself_is_absent() -> None:
    rule = string("f", 1, 3).alias("g", "h")
    assert rule({"f": "a", "g": "b"}) == "a" and rule({"g": "b", "h": "c"}) == "b" and rule({"h": "c"}) == "c"
    assert message(rule, {}) == message(rule, {"f": "", "g": "b"}) == "f must be between 1 and 3 characters"
    assert message(rule, {"g": "", "h": "c"}) == "g must be between 1 and 3 characters"
    assert message(rule, {"h": "a\nb"}) == "h must not contain line breaks or NUL"


@pytest.mark.parametrize("white", [" ", "\t", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000"])
def test_one_word(white: str) -> None:
    for text in (white, f"a{white}b", f"a{white}", f"{white}a"):
        assert message(string("f", form=WORD), {"f": text}) == "f must not contain white space"
        assert message(string("f", form=word("; so")), {"f": text}) == "f must not contain white space; so"
    assert message(string("f", form=WORD), {"f": "a \n"}) == "f must not contain line breaks or NUL"
    assert string("f", form=WORD)({"f": "\u200b\x7f"}) == "\u200b\x7f"  # odd, and no white space


def test_spelled() -> None:
    rule = string("f", 1, 3, form=spelled(re.compile("[a-z]*\\Z"), "hold letters only", {}, ""))
    assert rule({"f": "abc"}) == "abc" and message(rule, {"f": "a1"}) == "f must hold letters only"
    assert message(rule, {"f": "a\n"}) == "f must not contain line breaks or NUL"
    assert message(rule, {"f": "abcd"}) == "f must be between 1 and 3 characters"


def test_one_or_several() -> None:
    rule = strings("f", 1, 3, 2)
    assert rule({"f": "a"}) == ("a",) and rule({"f": ["a", "b"]}) == ("a", "b")
    for value in ([], ["a"] * 3):
        assert message(rule, {"f": value}) == "f must be a string or a list of 1 to 2 of them"
    wrong: tuple[object, ...] = ("abcd", ["a", "abcd"], 5, ["a", 5], None)
    for each in wrong:
        assert message(rule, {"f": each}) == "f must be 3 characters or fewer"
    assert message(rule, {"f": ["a", ""]}) == message(rule, {"f": ""}) == "f must not be empty"
    assert message(rule, {"f": ["a", "\n"]}) == "f must not contain line breaks or NUL"


@given(JSON | st.floats())
def test_scalar_property(value: object) -> None:
    result = outcome(scalar("f"), value)
    if isinstance(result, CommandError):
        assert result.message == "f must be a string or a number"
        assert isinstance(value, bool) or not isinstance(value, (str, int, float)) or not math.isfinite(float(value))
    else:
        assert result is value and not isinstance(value, bool)


@pytest.mark.parametrize("bad", ["\r", "\n", "\0"])
def test_line_breaks(bad: str) -> None:
    text = f"a{bad}b"
    assert message(string("f", 1, 9), {"f": text}) == "f must not contain line breaks or NUL"
    assert message(mapping("f"), {"f": {"k": text}}) == "f must not contain line breaks or NUL"
    assert message(mapping("f"), {"f": {text: "v"}}) == "f must not contain line breaks or NUL"
    body = string("f", form=BODY)
    if bad == "\0":
        assert message(body, {"f": text}) == "f must not contain NUL"
    else:
        assert body({"f": text}) == text


def test_lone_surrogates() -> None:
    text = json.loads('"a\\ud800"')
    for rule, value in ((string("f"), text), (string("f", form=BODY), text), (mapping("f"), {"k": text})):
        assert message(rule, {"f": value}) == "f must be valid Unicode text"
    assert string("f")({"f": json.loads('"\\ud83d\\ude00"')}) == "\N{GRINNING FACE}"


@given(JSON | ANY_TEXT, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_string_property(value: object, low: int, extra: int, line_breaks: bool) -> None:
    high = low + extra
    result = outcome(string("f", low, high, form=BODY if line_breaks else TEXT), value)
    fits = isinstance(value, str) and low <= len(value) <= high
    if isinstance(result, CommandError):
        unfit = isinstance(value, str) and any(c in "\r\n\0" or "\ud800" <= c <= "\udfff" for c in value)
        assert not fits or unfit
        assert result.message.startswith("f must ")
    else:
        assert fits and result == value
        assert isinstance(result, str) and "\0" not in result
        assert line_breaks or not set("\r\n") & set(result)
        result.encode()


@given(JSON | st.integers() | st.floats(), st.integers(-9, 9), st.integers(0, 9))
def test_number_property(value: object, low: int, extra: int) -> None:
    result = outcome(number("f", low, low + extra), value)
    if type(value) in (int, float) and low <= value <= low + extra:  # type: ignore[operator]
        assert result is value
    else:
        assert isinstance(result, CommandError) and result.message == f"f must be between {low} and {low + extra}"


@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, "1", None])
def test_no_number(value: object) -> None:
    assert isinstance(outcome(number("f"), value), CommandError)


def test_huge_numbers() -> None:
    assert number("f")({"f": 10**400}) == 10**400
    assert isinstance(outcome(number("f", 1, 600), 10**400), CommandError)


@given(JSON)
def test_boolean_property(value: object) -> None:
    result = outcome(boolean("f"), value)
    assert result is value if isinstance(value, bool) else isinstance(result, CommandError)


@given(JSON | st.sampled_from(["a", "b", "c", "A", "a "]))
def test_enum_property(value: object) -> None:
    result = outcome(enum("f", "a", "b", "c"), value)
    if isinstance(value, str) and value in ("a", "b", "c"):
        assert result == value
    else:
        assert isinstance(result, CommandError) and result.message == "f must be a, b, or c"


@given(JSON | st.dictionaries(ANY_TEXT, st.booleans() | st.integers() | st.floats() | ANY_TEXT, max_size=4))
def test_mapping_property(value: object) -> None:
    result = outcome(mapping("f"), value)
    if isinstance(result, CommandError):
        assert result.message.startswith("f must ")
        return
    assert result == value and result is not value
    assert isinstance(result, dict)
    assert all(isinstance(item, str | int | float | bool) for item in result.values())
    "".join(str(part) for pair in result.items() for part in pair).encode()
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("text", ["a", "metrics.voip.pagd", "_INBOX.x-1", "$JS.API.x", "caf\u00e9.x", "a" * 1024])
def test_plain_subjects(text: str) -> None:
    assert strict_subject(text)
    assert subject("f")({"f": text}) == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", "*", "a.*", "a.>", ">", "a*b", "a b", "a\tb", "a\r\nPUB x 1", "a\0", "a\x7f", "a\x85",
     "a\u00a0b", "a\u2028b", "a\ud800", "a" * 1025, "\u00e9" * 513],
)
def test_no_plain_subjects(text: str) -> None:
    assert not strict_subject(text)
    assert message(subject("f"), {"f": text}).startswith("f must be a plain subject")


@given(st.text(st.sampled_from("ab.*> \t\r\n\0\ud800\u00a0"), max_size=8) | ANY_TEXT)
def test_subject_property(text: str) -> None:
    if strict_subject(text):
        text.encode()
        assert all(token and token.isprintable() or not token.isascii() for token in text.split("."))
        assert not any(c in "*>" or c.isspace() or ord(c) < 33 for c in text)
    else:
        assert isinstance(outcome(subject("f"), text), CommandError)
