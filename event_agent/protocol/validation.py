"""Fields of requests: each is declared once, with its name, type, limits, default and a text for people.

    UUID = string("uuid", 2, 63, form=WORD, help="the channel")
    CAUSE = string("cause", high=63, form=WORD).optional("NORMAL_CLEARING", empty=True)
    HANGUP = Declaration("hangup", "Ends a channel (`uuid_kill`).", (UUID, CAUSE), example={"uuid": "…"})

    uuid, cause = UUID(payload), CAUSE(payload)

A field is called with the request and gives its typed value, or raises CommandError. Called in order, the first that
fails ends the command. Its message names field and rule and never holds the value; an absent value and one of the
wrong type get the same message as a wrong one. Only an absent field takes an optional field's default: null is a wrong
value. Pure functions, made once at import; any thread may call them.

`tools/fields.py` makes docs/schemas/request.json, the tables of docs/API.md and the commands of docs/asyncapi.yaml
from the declarations, so what it needs for that stands here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeGuard, TypeVar

from event_agent.errors import CommandError

T = TypeVar("T")
D = TypeVar("D")
Payload = Mapping[str, object]
Scalar = str | int | float | bool
Schema = dict[str, Any]

# The broker cuts the link over a protocol line of more than 4096 bytes, so a subject has to stay well below that.
MAX_SUBJECT_BYTES = 1024

REQUIRED: Any = object()  # what a required field has for its default
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_BREAK = re.compile("[\r\n\0]")
_NUL = re.compile("\0")
_WHITE = re.compile(r"\s")
_NOT_IN_SUBJECT = re.compile("[*>\\s\0-\x20\x7f-\x9f\ud800-\udfff]")
# The white space of Python's `\s`, as ranges that mean the same in every language's patterns.
WHITE = "\\t-\\r\\u001c-\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


@dataclass(frozen=True)
class Form:
    """What a text must look like, its length aside."""

    check: Callable[[str, str], None]  # given the field's name and the text; raises CommandError
    schema: Schema = field(default_factory=dict)  # the same as a JSON Schema
    limits: str = ""  # the same for API.md's tables
    definition: str = ""  # the name under which the schema stands among the definitions
    says: str = ""  # its description there


ANY = Form(lambda name, text: None)  # it goes nowhere but into a reply, or others check it


class Field(Generic[T]):
    """One field: called with a request it gives its value, or raises CommandError."""

    def __init__(
        self,
        kind: str,
        name: str,
        must: str,
        check: Callable[[object, str], T | None],
        *,
        help: str = "",
        form: Form = ANY,
        **limits: Any,
    ) -> None:
        """`check` makes the value of a raw one and the field's name, or gives None if it will not do (no field's
        value is None). `kind`, `form` and `limits` tell tools/fields.py what `check` lets through.
        """
        self.kind = kind
        self.name = name
        self.must = must
        self.help = help
        self.form = form
        self.limits = limits
        self.default: Any = REQUIRED
        self.shown = ""
        self.aliases: tuple[str, ...] = ()
        self.typed: Callable[[str], object] = str  # makes a raw value of a word that somebody has typed
        self._empty = False
        self._check = check

    @property
    def required(self) -> bool:
        """True for a field that must be there."""
        return self.default is REQUIRED

    def __call__(self, payload: Payload) -> T:
        """The field's value in `payload`."""
        name = self.name
        if name not in payload:
            for alias in self.aliases:
                if alias in payload:
                    name = alias
                    break
            else:
                if self.default is not REQUIRED:
                    return self.default  # type: ignore[no-any-return]  # `optional` has made it part of T
        try:
            value = self._check(payload.get(name), name)
        except CommandError as error:
            error.field = name
            raise
        if value is None:
            raise CommandError(f"{name} must {self.must}", field=name)
        if self._empty and value == "":
            return self.default  # type: ignore[no-any-return]
        return value

    def optional(self, default: D, *, empty: bool = False, shown: str = "") -> Field[T | D]:
        """The same field, which may be absent: then its value is `default`; with `empty` an empty string's as well.

        `shown`: what API.md says of the default, if that is not the value itself.
        """
        made: Field[Any] = copy(self)
        made.default, made._empty, made.shown = default, empty, shown
        return made

    def alias(self, *names: str) -> Field[T]:
        """The same field under other names as well, of which the first that is there counts; its own goes first."""
        made = copy(self)
        made.aliases = names
        return made


@dataclass(frozen=True)
class Declaration:
    """What a command takes."""

    name: str
    does: str  # a sentence for the schemas
    fields: tuple[Field[Any], ...] = ()  # its own ones, in the order in which API.md shows them
    examples: tuple[dict[str, Any], ...] = ({},)  # for the schemas, without `command` where it is the name
    console: tuple[Field[Any], ...] = ()  # those that `args` may hold, in that order, the required ones first
    together: tuple[tuple[Field[Any], Field[Any]], ...] = ()  # a field that must come with another, which stands second

    def check(self, payload: Payload) -> None:
        """Raises CommandError for a field that came without the one that it must come with."""
        for each, other in self.together:
            if each.name in payload and other.name not in payload:
                raise CommandError(f"{each.name} must come with {other.name}", field=each.name)

    @property
    def names(self) -> set[str]:
        """The names of its fields, with other names for them."""
        return {name for each in self.fields for name in (each.name, *each.aliases)}


# -- forms


def _text(name: str, text: str) -> None:
    if text.isprintable():  # most are, and it is many times quicker than a search
        return
    if _LINE_BREAK.search(text):
        raise CommandError(f"{name} must not contain line breaks or NUL")
    if _SURROGATE.search(text):  # JSON can spell a lone one as \ud800, UTF-8 can't hold it
        raise CommandError(f"{name} must be valid Unicode text")


def _body(name: str, text: str) -> None:
    if text.isprintable():
        return
    if _NUL.search(text):
        raise CommandError(f"{name} must not contain NUL")
    if _SURROGATE.search(text):
        raise CommandError(f"{name} must be valid Unicode text")


TEXT = Form(
    _text,
    {"not": {"pattern": "[\\r\\n\\u0000]"}},
    definition="text",
    says="Text that reaches FreeSWITCH: no CR, LF or NUL.",
)
# What is escaped by freeswitch/dialstring.py, which checks the rest of the schema.
VALUE = Form(
    _text,
    {"not": {"anyOf": [
        {"title": "line breaks and NUL", "pattern": "[\\r\\n\\u0000]"},
        {"title": "FreeSWITCH would expand it", "pattern": "\\$\\{"},
        {"title": "FreeSWITCH would take it apart", "pattern": "^ARRAY::"},
    ]}},
    definition="value",
    says="Text that arrives on a channel as it stands. Braces in it must be balanced.",
)  # fmt: skip
# What travels as a body.
BODY = Form(_body, {"not": {"pattern": "\\u0000"}})


def word(hint: str = "") -> Form:
    """One argument of an API verb; `hint` follows the message for what is more than one."""

    def check(name: str, text: str) -> None:
        if text.isprintable() and " " not in text:
            return
        _text(name, text)
        if _WHITE.search(text):
            raise CommandError(f"{name} must not contain white space{hint}")

    schema = {"not": {"pattern": f"[\\u0000{WHITE}]"}}
    return Form(check, schema, "no white space", "word", "Text without white space and NUL.")


WORD = word()

# Of a uuid, which the maker of a call may choose; with sofia's inbound-use-callid-as-uuid that is any caller.
# No blank, no quote, no bracket and no brace, no `$` and no backslash: nothing that FreeSWITCH splits, unescapes or
# expands in the arguments of a verb.
CHANNEL_CHARACTERS = "A-Za-z0-9_.:@+/=~#*!%?-"
_CHANNEL = re.compile(f"[{CHANNEL_CHARACTERS}]*\\Z", re.ASCII)


def _channel(name: str, text: str) -> None:
    if not _CHANNEL.match(text):
        WORD.check(name, text)
        raise CommandError(f"{name} must contain only letters, digits and _ . : @ + / = ~ # * ! % ? -")


CHANNEL = Form(
    _channel,
    {"not": {"pattern": f"[^{CHANNEL_CHARACTERS}]"}},
    "letters, digits, `_ . : @ + / = ~ # * ! % ? -`",
    "channel",
    "A channel's uuid.",
)


def spelled(pattern: re.Pattern[str], must: str, schema: Schema, limits: str) -> Form:
    """Text that `pattern` matches; `must` ends the message for what it does not match."""

    def check(name: str, text: str) -> None:
        _text(name, text)
        if not pattern.match(text):
            raise CommandError(f"{name} must {must}")

    return Form(check, schema, limits)


# -- kinds


def string(
    name: str, low: int = 0, high: int | None = None, *, form: Form = TEXT, help: str = ""
) -> Field[str]:
    """Text of `low` to `high` characters in this form."""
    if high is None:
        must = f"be a string of {low} characters or more" if low else "be a string"
    else:
        must = f"be between {low} and {high} characters" if low else f"be {high} characters or fewer"
    fits = form.check

    def check(value: object, name: str) -> str | None:
        if not isinstance(value, str) or len(value) < low or (high is not None and len(value) > high):
            return None
        fits(name, value)
        return value

    return Field("string", name, must, check, help=help, form=form, low=low, high=high)


def strings(
    name: str, low: int, high: int, most: int, *, form: Form = TEXT, help: str = ""
) -> Field[tuple[str, ...]]:
    """A text of `low` to `high` characters in this form, or a list of 1 to `most`; the value is a tuple of them."""
    fits = form.check

    def check(value: object, name: str) -> tuple[str, ...] | None:
        items = value if isinstance(value, list) else [value]
        if not 1 <= len(items) <= most:
            raise CommandError(f"{name} must be a string or a list of 1 to {most} of them")
        for each in items:
            if not isinstance(each, str) or len(each) > high:
                return None
            fits(name, each)
        if low and "" in items:
            raise CommandError(f"{name} must not be empty")
        return tuple(items)

    must = f"be {high} characters or fewer"
    return Field("strings", name, must, check, help=help, form=form, low=low, high=high, most=most)


def number(name: str, low: float | None = None, high: float | None = None, *, help: str = "") -> Field[int | float]:
    """A finite JSON number from `low` to `high`, both allowed. True and false are no numbers."""
    if low is not None and high is not None:
        must = f"be between {low} and {high}"
    elif low is not None:
        must = f"be {low} or more"
    else:
        must = "be a number" if high is None else f"be {high} or less"

    def check(value: object, name: str) -> int | float | None:
        if not _is_number(value) or (low is not None and value < low) or (high is not None and value > high):
            return None
        return value

    field = Field("number", name, must, check, help=help, low=low, high=high)
    field.typed = _typed_number
    return field


def boolean(name: str, *, help: str = "") -> Field[bool]:
    def check(value: object, name: str) -> bool | None:
        return value if isinstance(value, bool) else None

    field = Field("boolean", name, "be true or false", check, help=help)
    field.typed = _typed_boolean
    return field


def enum(name: str, *choices: str, help: str = "") -> Field[str]:
    """One of `choices`, in just this case."""
    listed = " or ".join(choices) if len(choices) < 3 else f"{', '.join(choices[:-1])}, or {choices[-1]}"

    def check(value: object, name: str) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    return Field("enum", name, f"be {listed}", check, help=help, choices=choices)


def subject(name: str, *, help: str = "") -> Field[str]:
    """A subject that can be published to."""

    def check(value: object, name: str) -> str | None:
        return value if isinstance(value, str) and strict_subject(value) else None

    must = "be a plain subject, without wildcards, spaces, control characters, or empty tokens"
    return Field("subject", name, must, check, help=help)


def scalar(name: str, *, help: str = "") -> Field[str | int | float]:
    """A text or a number that a reply can give back."""

    def check(value: object, name: str) -> str | int | float | None:
        # 1e400 is infinite: JSON can spell what a reply could not.
        return value if isinstance(value, str) or _is_number(value) else None

    return Field("scalar", name, "be a string or a number", check, help=help)


def mapping(name: str, *, names: Schema | None = None, values: Form = TEXT, help: str = "") -> Field[dict[str, Scalar]]:
    """An object whose values are strings, numbers or booleans; no name is empty.

    `names` and `values`: what its user checks besides, for the schemas.
    """

    def check(value: object, name: str) -> dict[str, Scalar] | None:
        if not isinstance(value, dict):
            return None
        result: dict[str, Scalar] = {}
        for key, item in value.items():
            if not isinstance(key, str) or not key:
                return None
            _text(name, key)
            if isinstance(item, str):
                _text(name, item)
            elif not isinstance(item, bool) and not _is_number(item):
                return None
            result[key] = item
        return result

    must = "be an object of strings, numbers, and booleans"
    return Field("mapping", name, must, check, help=help, form=values, names=names or {})


def strict_subject(text: str) -> bool:
    """True for a subject without wildcards, white space, control characters or empty tokens, of a sane length.

    Source: NATS' subject-based messaging page. `*` and `>` are refused anywhere, also inside a token, where the
    broker would take them as they stand: who writes them means a wildcard.
    """
    return "" not in text.split(".") and not _NOT_IN_SUBJECT.search(text) and len(text.encode()) <= MAX_SUBJECT_BYTES


def _typed_number(text: str) -> object:
    return int(text) if text.isdecimal() and text.isascii() else text  # a text is refused by the field


def _typed_boolean(text: str) -> object:
    return {"true": True, "on": True, "false": False, "off": False}.get(text.lower(), text)


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
