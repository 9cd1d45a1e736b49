"""Which requests the panel answers: those of its own pages, and no others'. Pure functions.

A login (sessions.py) there is only with a file of users. In any case these keep other web sites, open in the same
browser, from giving commands:
- Host must be a name the panel goes by. A site whose name was made to point to 127.0.0.1 (DNS rebinding) has another.
- Origin, which a browser puts into every POST and no page can change, must be such a name too.
- Sec-Fetch-Site, where the browser sends it, must say that the request comes from our own page.
- A command is application/json, which a form of another site can't send.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

LONGEST = 65_536  # bytes of a command's body, the agents' own limit

Refusal = tuple[HTTPStatus, str]


def hosts(address: str, port: int, names: Iterable[str] = ()) -> frozenset[str]:
    """What may stand in Host: what we listen on, loopback's names, and `names` as they were given."""
    found = {name.lower() for name in names}
    for host in (address, "127.0.0.1", "localhost", "::1"):
        if host in ("", "0.0.0.0", "::"):
            continue  # listening on all addresses says nothing of names
        host = f"[{host}]" if ":" in host else host.lower()
        found |= {f"{host}:{port}"} | ({host} if port == 80 else set())
    return frozenset(found)


def refused(method: str, path: str, headers: Message, ours: frozenset[str]) -> Refusal | None:
    """Why a request is not answered, None where it is."""
    given = headers.get_all("Host", [])
    if len(given) != 1 or given[0].strip().lower() not in ours:
        return HTTPStatus.MISDIRECTED_REQUEST, "the panel does not go by this name (--name)"
    site = headers.get("Sec-Fetch-Site", "")
    if site and site not in ("same-origin", "none") and not (method == "GET" and path == "/"):
        return HTTPStatus.FORBIDDEN, "a request of another site"
    if method == "POST":
        origins = headers.get_all("Origin", [])
        if len(origins) != 1 or not _is_ours(origins[0], ours):
            return HTTPStatus.FORBIDDEN, "a command must come from the panel's own page (Origin)"
        if headers.get_content_type() != "application/json" or "Content-Type" not in headers:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a command must be application/json"
    return None


def _is_ours(origin: str, ours: frozenset[str]) -> bool:
    try:
        parts = urlsplit(origin.strip())
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and not parts.path and parts.netloc.lower() in ours


def length(headers: Message) -> int | Refusal:
    """How many bytes a command's body has."""
    text = headers.get("Content-Length", "")
    if "Transfer-Encoding" in headers or not (text.isascii() and text.isdecimal()) or len(text) > 12:
        return HTTPStatus.LENGTH_REQUIRED, "Content-Length is needed"
    if int(text) > LONGEST:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a command may have {LONGEST:,} bytes"
    return int(text)
