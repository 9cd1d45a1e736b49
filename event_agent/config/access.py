"""Whether a user can read a file, and if not, why and what to do: `--check` runs as root, the service does not.

Root asks the kernel: a child becomes that user and opens the file. Any other user asks for itself, and for another user
goes by the modes of the files. Only called by programs of one thread: it forks.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Callable, Iterable

from event_agent.config.files import missing, owners, user_name

HERE = "/etc/event-agent"  # where a file that the service is to read is best put


def fault(path: str, user: str = "", hidden: Iterable[str] = ()) -> str:
    """Why this file can't be read by `user` (empty: by ourselves), and what to do; empty if it can.

    `hidden`: folders that the service does not have, whatever their modes are.
    """
    path = os.path.abspath(path)
    if folder := next((each for each in hidden if path.startswith(f"{each}/")), ""):
        return f"{path} can't be read by the service, which has no {folder} (ProtectHome=, PrivateTmp=): {_move(path)}"
    known = _entry(user) if user else None
    if user and known is None:
        return f"{path} can't be read: there is no user {user}"
    if known is None or known.pw_uid == os.geteuid():
        barrier, why = _barrier(path, _may)
    elif os.geteuid() == 0:
        barrier, why = _as_user(path, known)
    else:
        groups = set(os.getgrouplist(known.pw_name, known.pw_gid))
        barrier, why = _barrier(path, lambda each, mode: _by_mode(each, mode, known.pw_uid, groups))
    if not barrier:
        return ""
    return _text(path, barrier, why, user or user_name(os.geteuid()))


def _text(path: str, barrier: str, why: str, user: str) -> str:
    if why:
        return why
    shown, owner = shlex.quote(barrier), owners(os.stat(barrier))
    if barrier == path:
        return f"{path} can't be read by user {user} ({owner}): sudo chgrp {user} {shown}; sudo chmod 640 {shown}"
    if barrier in ("/root", "/home") or barrier.startswith("/home/"):
        return f"{path} can't be read by user {user}, who may not enter {barrier} ({owner}): {_move(path)}"
    return (
        f"{path} can't be read by user {user}, who may not enter {barrier} ({owner}): "
        f"sudo chgrp {user} {shown}; sudo chmod g+x {shown}"
    )


def _move(path: str) -> str:
    return f"sudo install -g event-agent -m 640 {shlex.quote(path)} {HERE}/"


def _barrier(path: str, may: Callable[[str, int], bool]) -> tuple[str, str]:
    """The first of the folders on the way, or the file, that may not be used, and why if it is not its mode."""
    folders = path.split("/")[1:-1]
    for count in range(len(folders) + 1):
        folder = "/" + "/".join(folders[:count])
        if not os.path.isdir(folder):
            return (folder, f"{path} " + ("is not below a folder" if os.path.lexists(folder) else "does not exist"))
        if not may(folder, os.X_OK):
            return folder, ""
    if why := missing(path):
        return path, why
    return ("", "") if may(path, os.R_OK) else (path, "")


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _by_mode(path: str, mode: int, uid: int, groups: set[int]) -> bool:
    found = os.stat(path)
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
    return uid == 0 or bool(found.st_mode >> shift & (4 if mode == os.R_OK else 1))


def _as_user(path: str, known: pwd.struct_passwd) -> tuple[str, str]:
    """As `_barrier`, found out by a process of that user."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups(os.getgrouplist(known.pw_name, known.pw_gid))
            os.setresgid(known.pw_gid, known.pw_gid, known.pw_gid)
            os.setresuid(known.pw_uid, known.pw_uid, known.pw_uid)
            os.write(writing, "\0".join(_barrier(path, _may)).encode(errors="surrogateescape"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode(errors="surrogateescape")
    os.waitpid(child, 0)
    barrier, _, why = answer.partition("\0")
    return barrier, why


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return None
