"""Who may use the panel: a file of users with their roles, passwords kept as scrypt makes them.

One user a line: `name:role:scrypt$N$r$p$salt$key`, and a `#` begins a comment. The file is read again when it changes.
It must belong to root or to the panel's own user, and nobody else may read or write it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROLES = ("viewer", "supervisor", "engineer")  # each may do what those before it may
COST = (2**14, 8, 1)  # N, r, p: 16 MB, some 50 ms
POWERS = frozenset(2**each for each in range(10, 18))  # what N may be
MEMORY = 2**29  # bytes at most; the largest N and r take half of it
LONGEST = 1024  # characters of a password
SHORTEST = 8
MOST = 1_000_000  # bytes of the file

_NAME = re.compile(r"[\w.@+-]{1,64}")


class UsersError(Exception):
    """The file can't be used; the text says what, and where."""


@dataclass(frozen=True)
class User:
    """Somebody who may log in."""

    name: str
    role: str
    secret: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def secret_of(password: str) -> str:
    """What the file keeps of a password."""
    salt = os.urandom(16)
    number, size, parallel = COST
    key = hashlib.scrypt(password.encode(), salt=salt, n=number, r=size, p=parallel, maxmem=2**26)
    return f"scrypt${number}${size}${parallel}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def taken_apart(secret: str) -> tuple[int, int, int, bytes, bytes]:
    """N, r, p, salt and key. ValueError for a secret that is none."""
    kind, *numbers, salt, key = secret.split("$")
    number, size, parallel = map(int, numbers)
    if kind != "scrypt" or number not in POWERS or not (1 <= size <= 16 and 1 <= parallel <= 4) or not key:
        raise ValueError("not a secret made by this panel")
    return number, size, parallel, base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)


def matches(password: str, secret: str) -> bool:
    """Whether that was the password. ValueError for a secret that is none."""
    number, size, parallel, salt, wanted = taken_apart(secret)
    found = hashlib.scrypt(password.encode(), salt=salt, n=number, r=size, p=parallel, maxmem=MEMORY, dklen=len(wanted))
    return hmac.compare_digest(found, wanted)


NOBODY = secret_of("")  # compared with for a name that there is not, so that this takes as long


class Users:
    """See the module's text. Any thread. Raises UsersError where the file can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._users: Mapping[str, User] = {}
        self.read()

    def read(self) -> None:
        """Read the file if it has changed."""
        with self._lock:
            try:
                found = self.path.stat()
            except OSError as error:
                raise UsersError(f"{self.path} can't be read: {error.strerror}") from None
            seen = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)
            if seen != self._seen:
                self._users = parse(_text(self.path), str(self.path))
                self._seen = seen

    def get(self, name: str) -> User | None:
        """A user as the file has it now; nobody while the file can't be used."""
        try:
            self.read()
        except UsersError:
            return None
        return self._users.get(name)

    def check(self, name: str, password: str) -> User | None:
        """The user, if that is the password. Raises UsersError."""
        self.read()
        user = self._users.get(name)
        right = matches(password[:LONGEST], user.secret if user else NOBODY)
        return user if right else None

    def __len__(self) -> int:
        return len(self._users)


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            fault = rights(found)
            if fault:
                raise UsersError(f"{path} {fault}")
            return file.read(MOST).decode()
    except OSError as error:
        raise UsersError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsersError(f"{path} is not a text in UTF-8") from None


def rights(found: os.stat_result) -> str:
    """What is wrong with the rights of the file, and how to mend it; "" for nothing."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}, who could let anybody in: chown it to yours ({os.geteuid()}) or root"
    if found.st_mode & 0o077:
        return f"can be read or written by others ({stat.S_IMODE(found.st_mode):o}): chmod 600"
    return ""


def parse(text: str, path: str) -> dict[str, User]:
    """The users in a file's text. Raises UsersError that names the line."""
    found: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = line.strip().split(":")
        where = f"{path}:{number}"
        if len(parts) != 3:
            raise UsersError(f"{where}: a line is name:role:secret")
        name, role, secret = parts
        if not _NAME.fullmatch(name):
            raise UsersError(f"{where}: a name has 1 to 64 letters, digits and . _ @ + -")
        if role not in ROLES:
            raise UsersError(f"{where}: the role must be one of {', '.join(ROLES)}")
        if name in found:
            raise UsersError(f"{where}: {name} is there twice")
        try:
            taken_apart(secret)  # not tried: with many users that would take seconds at each change
        except ValueError:
            raise UsersError(f"{where}: the secret is not one that --user makes") from None
        found[name] = User(name, role, secret)
    if not found:
        raise UsersError(f"{path} has no user in it: --user NAME --role ROLE adds one")
    return found


def put(path: Path, name: str, role: str, password: str) -> None:
    """Add a user, or set another role and password. Raises UsersError."""
    if not _NAME.fullmatch(name):
        raise UsersError("a name has 1 to 64 letters, digits and . _ @ + -")
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsersError(f"a password has {SHORTEST} to {LONGEST} characters")
    lines = _text(path).splitlines() if path.exists() else []
    lines = [line for line in lines if line.strip().split(":")[0] != name]
    lines.append(f"{name}:{role}:{secret_of(password)}")
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        fresh.replace(path)
    except OSError as error:
        raise UsersError(f"{path} can't be written: {error.strerror}") from None
