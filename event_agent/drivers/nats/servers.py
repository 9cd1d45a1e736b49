"""The servers of a cluster: those configured, and those that the cluster advertises."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

MAX_SERVERS = 64  # configured and discovered together
MAX_NAME = 253  # characters of a host's name
_ADDRESS = re.compile(rf"(?P<host>[A-Za-z0-9._-]{{1,{MAX_NAME}}}|\[[0-9A-Fa-f:.]{{2,45}}\]):(?P<port>[0-9]{{1,5}})\Z")


class ServerPool:
    """In which order to try them. `discovered` may come from another thread than the rest."""

    def __init__(self, configured: tuple[str, ...]) -> None:
        self._configured = list(dict.fromkeys(configured))
        self._discovered: list[str] = []
        self._last = ""  # the one that had us last
        self._short = False  # and not for long
        # Credentials and scheme of a discovered server are those of the first configured one.
        first = urlsplit(configured[0])
        self._name = first.hostname or ""
        user = first.netloc.rpartition("@")[0]
        self._pattern = f"{first.scheme}://{user + '@' if user else ''}{{}}"

    def __len__(self) -> int:
        return len(self._configured) + len(self._discovered)

    def round(self) -> list[str]:
        """All URLs in the order in which to try them: those configured first, and the last used one last of its kind.

        One that had us for a moment only may take us just to drop us, so it comes last of all.
        """
        order = _behind(self._configured, self._last) + _behind(self._discovered, self._last)
        return _behind(order, self._last, alone=True) if self._short else order

    def used(self, url: str, short: bool) -> None:
        """The link to this one has ended, after a `short` time or not."""
        self._last, self._short = url, short

    def discovered(self, addresses: Iterable[object]) -> None:
        """The cluster's own list, `host:port` each; it replaces what was discovered before.

        What is no such address is left out: no URL can be made of it, and that would end the thread that connects.
        """
        known = {urlsplit(url).netloc.rpartition("@")[2].lower() for url in self._configured}
        fit = [each for each in addresses if isinstance(each, str) and _is_fit(each)]
        new = [each for each in dict.fromkeys(fit) if each.lower() not in known]
        random.shuffle(new)  # a fleet should not fall upon one survivor
        self._discovered = [self._pattern.format(each) for each in new][: MAX_SERVERS - len(self._configured)]

    def tls_name(self, url: str) -> str:
        """What a server's certificate must stand for; "" for the host in its URL.

        A cluster tells of its servers by address, certificates are for names. So a discovered address has to prove
        that it is the configured name.
        """
        return self._name if url not in self._configured and _is_address(url) else ""

    @staticmethod
    def shown(url: str) -> str:
        """The URL without what is secret in it."""
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _behind(urls: list[str], last: str, alone: bool = False) -> list[str]:
    """Beginning behind `last`, or with it `alone` moved to the end."""
    if last not in urls:
        return urls
    at = urls.index(last)
    return [*urls[:at], *urls[at + 1 :], last] if alone else urls[at + 1 :] + urls[: at + 1]


def _is_fit(address: str) -> bool:
    """Whether it is `host:port`, with an IPv6 address in brackets."""
    match = _ADDRESS.match(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        return False
    return match["host"][0] != "[" or _is_address(f"//{address}")


def _is_address(url: str) -> bool:
    try:
        ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True
