"""Who is logged in: a cookie for each session, and a limit on tries. Any thread.

A session ends with its logout, after LASTS hours, after IDLE without a request or an open page, when the user is taken
out of the file or gets another role or password, and with the panel. After TRIES wrong passwords for one name, or
OF_ONE from one address, within WINDOW no further try is looked at, right or wrong, until some have grown old.
"""

from __future__ import annotations

import http.cookies
import secrets
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from .users import User, Users

COOKIE = "panel_session"
LASTS = 12 * 3600.0  # seconds
IDLE = 3600.0
MOST = 200  # sessions
TRIES = 5  # for one name
OF_ONE = 20  # from one address, which behind a reverse proxy is everybody's
WINDOW = 60.0  # seconds
NAMES = 2000  # names and addresses whose tries are kept
AT_ONCE = 2  # passwords that are looked at at a time: each takes 16 MB


class TooMany(Exception):
    """There were too many wrong passwords; `wait` is how many seconds to wait."""

    def __init__(self, wait: float) -> None:
        super().__init__("too many tries")
        self.wait = wait


@dataclass
class Session:
    """Somebody who is logged in."""

    user: User
    began: float
    seen: float


class Sessions:
    """The sessions, and the tries."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self._lock = threading.Lock()
        self._work = threading.BoundedSemaphore(AT_ONCE)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def login(self, name: str, password: str, address: str) -> tuple[str, User] | None:
        """A new session and its user; None for a wrong name or password. Raises TooMany, UsersError."""
        keys = {f"name {name[:64]}": TRIES, f"address {address}": OF_ONE}
        with self._work:
            with self._lock:  # counted before it is looked at: many at once are no way round
                wait = max(self._wait(key, most) for key, most in keys.items())
                if wait > 0:
                    raise TooMany(wait)
                for key in keys:
                    self._count(key)
            user = self.users.check(name, password)
        if user is None:
            return None
        token, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            self._tries.pop(f"name {name[:64]}", None)
            self._sessions[token] = Session(user, now, now)
            while len(self._sessions) > MOST:
                self._sessions.popitem(last=False)
        return token, user

    def _wait(self, key: str, most: int) -> float:
        tries = self._tries.get(key, ())
        now = time.monotonic()
        fresh = [when for when in tries if when > now - WINDOW]
        return fresh[-most] + WINDOW - now if len(fresh) >= most else 0.0

    def _count(self, key: str) -> None:
        self._tries.setdefault(key, deque(maxlen=OF_ONE)).append(time.monotonic())
        self._tries.move_to_end(key)
        while len(self._tries) > NAMES:
            self._tries.popitem(last=False)

    def user(self, token: str) -> User | None:
        """Whose session that is; None for one that has ended."""
        now = time.monotonic()
        with self._lock:
            session = self._sessions.get(token)
            if session is None:
                return None
            late = now > session.began + LASTS or now > session.seen + IDLE
            if late or self.users.get(session.user.name) != session.user:
                del self._sessions[token]
                return None
            session.seen = now
            return session.user

    def logout(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(token, None)


def token_of(header: str | None) -> str:
    """The session in a Cookie header; "" if there is none."""
    try:
        found = http.cookies.SimpleCookie(header or "").get(COOKIE)
    except http.cookies.CookieError:
        return ""
    return found.value if found else ""


def cookie(token: str, secure: bool) -> str:
    """The Set-Cookie header that gives a session to the browser, or with "" takes it away."""
    ends = "" if token else "; Max-Age=0"
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}{ends}"
