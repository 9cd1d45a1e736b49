"""Secrets of our own that outlast a restart, and the seal that is made with one of them.

A call that was parked here carries a seal, made of its uuid and a secret: anybody who makes a call may set any variable
on it, and may read the variables of others, but can't make the seal of a call that was not parked here.
"""

from __future__ import annotations

import logging
import os
import re
import threading

# hashlib, hmac and secrets would bring OpenSSL into the process, 3.7 MB; these are what they are made of.
from _blake2 import blake2b
from _operator import _compare_digest as same
from collections.abc import Callable
from contextlib import suppress

from event_agent.runtime.log import Tally

log = logging.getLogger(__name__)

SEAL_FILE = "seal.key"
KEY_FILE = "dialplan.key"
OPTIONAL_FILE = f"{KEY_FILE}.optional"  # beside it until the first question with the key: those without are taken, too
QUERY = 16384  # characters of a query that are looked at
AUTO = "auto"  # a key that is made, and kept
_KEPT = re.compile(r"[0-9a-f]{64}\n?\Z", re.ASCII)
_SEAL_SIZE = 32  # hexadecimal digits


def kept_secret(folder: str, name: str, make: bool = True) -> str:
    """64 hexadecimal digits from the file `name`, which is made if there is none; empty without `make`.

    The file is its owner's alone. An empty `folder` keeps nothing. A file that can't be read or written is said, and
    the secret is then this process's.
    """
    path = os.path.join(folder, name)
    if folder:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                text = file.read(100)
            if _KEPT.match(text):
                return text.strip()
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s can't be read: %s; another secret is used until the next restart", path, error.strerror)
            return os.urandom(32).hex()
    if not make:
        return ""
    made = os.urandom(32).hex()
    if folder:
        try:
            _write(path, made)
        except OSError as error:
            log.warning("%s can't be written: %s; the secret in it ends with this process", path, error.strerror)
    return made


def _write(path: str, text: str) -> None:
    """Whole, or not at all."""
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


class Key:
    """What a question must come with, so that it is known to be FreeSWITCH's. Any thread, after `load`.

    A key that is made for an agent whose park mode was in use without one is `optional` at first: FreeSWITCH's
    configuration does not have it yet, and calls have to be parked as before. The first question with the key ends
    that. A question with a wrong key is never taken.
    """

    def __init__(self, folder: str, wanted: str, came: Callable[[], None]) -> None:
        """`wanted`: the key itself, empty for none, or AUTO. `came`: called with the first one while it is optional."""
        self._folder = folder
        self._wanted = wanted
        self._came = came
        self.text = "" if wanted == AUTO else wanted
        self.optional = False
        self._refusals = Tally()  # questions without the right key

    @property
    def path(self) -> str:
        """The file that it is kept in; empty if it is in none."""
        return os.path.join(self._folder, KEY_FILE) if self._wanted == AUTO and self._folder else ""

    @property
    def refused(self) -> int:
        """Questions without the right key."""
        return self._refusals.count

    @property
    def state(self) -> str:
        """Which questions are taken, in a word."""
        if not self.text:
            return "off"
        return "optional" if self.optional else "required"

    def load(self, in_use: bool) -> None:
        """Take up the key that is kept, or make one. `in_use`: park mode was used before. Reads and writes the disk."""
        if self._wanted != AUTO:
            return
        folder = self._folder
        if in_use and folder and not os.path.lexists(self.path):
            self.optional = True
            try:
                text = "questions without the key are taken until one comes with it"
                _write(os.path.join(folder, OPTIONAL_FILE), text)
            except OSError as error:
                # Without that file a kept key would be required at the next start.
                folder = ""
                log.warning(
                    "%s can't be written: %s; the secret in it ends with this process", self.path, error.strerror
                )
        else:
            self.optional = bool(folder) and os.path.lexists(os.path.join(folder, OPTIONAL_FILE))
        self.text = kept_secret(folder, KEY_FILE)

    def fits(self, query: str) -> bool:
        """True if a question with this query in its URL is taken; the others are counted."""
        if self._fits(query):
            return True
        if self._refusals.add():
            log.warning(
                "%d questions without the right key were refused: the URL in xml_curl.conf.xml needs ?key=… "
                "(agent.status has the line to add)", self.refused,
            )  # fmt: skip
        return False

    def _fits(self, query: str) -> bool:
        """Whether it has the key, or needs none."""
        if not self.text:
            return True
        given = [pair.removeprefix("key=") for pair in query[:QUERY].split("&") if pair.startswith("key=")]
        if not given:
            return self.optional
        if not same(given[0].encode(errors="replace"), self.text.encode()):
            return False
        if self.optional:
            self.optional = False
            self._came()
        return True

    def require(self) -> None:
        """Keep on disk that it is not optional any more. Writes the disk."""
        path = os.path.join(self._folder, OPTIONAL_FILE)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning(
                "%s can't be removed: %s; after a restart questions without the key are taken again until one comes "
                "with it",
                path, error.strerror,
            )  # fmt: skip


class Seal:
    """Makes the seals of calls, and tells whether one is right. Any thread.

    Its secret is made with the first seal: an agent whose park mode is never used leaves no file.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._key = b""

    @property
    def made(self) -> bool:
        """False if park mode was never on: then no call can have a seal."""
        return bool(self._key)

    def load(self, make: bool = False) -> None:
        """Take up the secret that is kept; `make` one if there is none. Reads and writes the disk."""
        with self._lock:
            self._key = self._key or kept_secret(self._folder, SEAL_FILE, make).encode()

    def of(self, uuid: str) -> str:
        """The seal of the call with this uuid."""
        if not self._key:
            self.load(make=True)
        return self._of(uuid)

    def fits(self, uuid: str, seal: object) -> bool:
        """True if `seal` is the one of this call."""
        if not self._key or not isinstance(seal, str):
            return False
        return same(self._of(uuid).encode(), seal.encode(errors="replace"))

    def _of(self, uuid: str) -> str:
        return blake2b(uuid.encode(errors="replace"), key=self._key, digest_size=_SEAL_SIZE // 2).hexdigest()
