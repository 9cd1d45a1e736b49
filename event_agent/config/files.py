"""Why a file can't be read by this process, and what to do about it. Looks at the disk; keeps nothing."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat


def readable(path: str) -> bool:
    """True for a file whose content this process may read."""
    return os.path.isfile(path) and os.access(path, os.R_OK)


def missing(path: str) -> str:
    """Why there is no file of that name, as far as we can see; "" if there is one."""
    path = os.path.abspath(path)
    if os.path.isfile(path):
        return ""
    if os.path.isdir(path):
        return f"{path} is a folder, not a file"
    if os.path.exists(path):
        return f"{path} is not a file"
    if os.path.islink(path):
        return f"{path} is a link to nothing, {os.readlink(path)}"
    if not os.path.isdir(folder := os.path.dirname(path)):
        return f"{path} does not exist, nor does its folder {folder}"
    return f"{path} does not exist"


def forbidden(path: str) -> str:
    """One sentence with the way out if it is permissions that keep us from reading `path`; "" if it is not.

    Such as: F can't be read by user event-agent (root:root 600): sudo chgrp event-agent F; sudo chmod 640 F
    """
    path = os.path.abspath(path)
    if os.access(path, os.R_OK):
        return ""
    user, group = user_name(os.geteuid()), _group(os.getegid())
    head = f"{path} can't be read by user {user}"
    if (folder := _closed_folder(path)) is not None:
        return f"{head}: the folder {folder} ({owners(os.stat(folder))}) does not let it in; move the file elsewhere"
    try:
        found = os.stat(path)
    except OSError:
        return ""  # it is not there
    if _may_read(found):
        return f"{head} ({owners(found)}), although its mode allows it: an ACL, AppArmor or a sandbox does not"
    file = shlex.quote(path)
    ours = found.st_gid in (os.getegid(), *os.getgroups())
    regroup = "" if ours else f"sudo chgrp {shlex.quote(group)} {file}; "
    return f"{head} ({owners(found)}): {regroup}sudo chmod 640 {file}"


def _closed_folder(path: str) -> str | None:
    """The first folder on the way that can't be passed."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth]) or "/"
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            return folder
    return None


def _may_read(found: os.stat_result) -> bool:
    """What its mode says, which is not all that counts."""
    if os.geteuid() == 0:
        return True
    if found.st_uid == os.geteuid():
        return bool(found.st_mode & stat.S_IRUSR)
    if found.st_gid in (os.getegid(), *os.getgroups()):
        return bool(found.st_mode & stat.S_IRGRP)
    return bool(found.st_mode & stat.S_IROTH)


def owners(found: os.stat_result) -> str:
    """`root:root 600`."""
    return f"{user_name(found.st_uid)}:{_group(found.st_gid)} {stat.S_IMODE(found.st_mode):o}"


def user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
