"""Secrets of our own that outlast a restart, and the seal that is made with one of them.

A call that was parked here carries a seal, made of its uuid and a secret: whoever makes a call may set any variable
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
from contextlib import suppress

log = logging.getLogger(__name__)

SEAL_FILE = "seal.key"
KEY_FILE = "dialplan.key"
QUERY = 16384  # characters of a query that are looked at
AUTO = "auto"  # a key that is made, and kept
_KEPT = re.compile(r"[0-9a-f]{64}\n?\Z", re.ASCII)
_SEAL_SIZE = 32  # hexadecimal digits


def kept_secret(folder: str, name: str, make: bool = True) -> str:
    """64 hexadecimal digits from the file `name`, which is made where there is none; empty without `make`.

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
    """What a question has to bear, so that it is known to be FreeSWITCH's. Any thread, after `load`."""

    def __init__(self, folder: str, wanted: str) -> None:
        """`wanted`: the key itself, empty for none, or AUTO."""
        self._folder = folder
        self._wanted = wanted
        self.text = "" if wanted == AUTO else wanted

    def load(self) -> None:
        """Take up the key that is kept, or make one. Reads and writes the disk."""
        if self._wanted == AUTO:
            self.text = kept_secret(self._folder, KEY_FILE)

    def fits(self, query: str) -> bool:
        """True if the query of a URL bears it, or if none is wanted."""
        if not self.text:
            return True
        given = [pair.removeprefix("key=") for pair in query[:QUERY].split("&") if pair.startswith("key=")]
        return bool(given) and same(given[0].encode(errors="replace"), self.text.encode())


class Seal:
    """Makes the seals of calls, and tells whether one is right. Any thread.

    Its secret is made with the first seal: an agent whose park mode is never used leaves no file.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._key = b""

    def load(self, make: bool = False) -> None:
        """Take up the secret that is kept; `make` one where there is none. Reads and writes the disk."""
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
