"""Numbers as callers dial them: what is compared, and which calls are never taken.

FreeSWITCH's destination is the user part of the Request-URI with its escapes decoded and its parameters left in
(mod_sofia, sofia.c, sofia_handle_sip_i_invite): `112;phone-context=+49`, `112#`, `1-1-2`, and with
full-id-in-dialplan `112@host:port`. For `urn:service:sos` it is the To user, or the caller's own number; only the
variables sip_req_uri and sip_to_uri have `nobody@service:sos` then. Pure functions; each is linear in its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

EXCEPTIONS = 64  # numbers in an `except`
EXCEPTION = 64  # characters of one
# A digit or a letter in it, so that something is left to compare, and `*` alone does not stand for all calls.
SPELLING = re.compile(r"(?=[^0-9A-Za-z]*[0-9A-Za-z])[0-9A-Za-z+*#(). _-]*\Z")
URIS = ("variable_sip_req_uri", "variable_sip_to_uri")  # a routed emergency call may have its service in To only

_SERVICE = re.compile(r"(?:^|[@:])service:(?:test\.)?sos", re.IGNORECASE)  # RFC 5031, and RFC 6881 for test calls
_PARAMETERS = re.compile(r";[^@]*")
_SHORT = re.compile(r"\d{2,3}\Z", re.ASCII)  # every emergency number there is
_SCHEMES = ("sip:", "sips:", "tel:")
_SEPARATORS = str.maketrans("", "", "-.() \t")  # RFC 3966, visual separators; and blanks


def is_emergency(params: Mapping[str, str]) -> bool:
    """True for a call to `urn:service:sos` or a service below it, by what mod_xml_curl posts of it."""
    return any(name in params and _SERVICE.search(params[name]) for name in URIS)


def bare(number: str) -> str:
    """A destination without URI parameters; this is what `number` is searched in."""
    return _PARAMETERS.sub("", number) if ";" in number else number


def plain(number: str) -> str:
    """A destination without all that does not tell numbers apart, in lower case.

    Gone are the scheme, parameters, the host, visual separators, a leading `+` and `#` at the end.
    """
    text = number.lower()
    for scheme in _SCHEMES:
        text = text.removeprefix(scheme)
    text = text.partition("@")[0].partition(";")[0].replace("%23", "#").replace("%2b", "+").translate(_SEPARATORS)
    return text.removeprefix("+").rstrip("#")


def tried(number: str) -> tuple[str, ...]:
    """What `number`'s expression must be found in, all of them: `112#` is 112 too, for a pattern that keeps out 112."""
    once = bare(number)
    short = plain(number)
    return (once, short) if once != short and _SHORT.match(short) else (once,)


def compile_exceptions(entries: Sequence[str]) -> Callable[[str], bool]:
    """A function that tells whether a destination is one of these; a `*` at the end of one stands for any rest."""
    whole = frozenset(plain(each) for each in entries if not each.endswith("*"))
    begins = tuple(plain(each.rstrip("*")) for each in entries if each.endswith("*"))

    def is_one(number: str) -> bool:
        text = plain(number)
        return text in whole or text.startswith(begins)

    return is_one
