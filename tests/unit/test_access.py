"""Whether a user can read a file, and what is said if not."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path

import pytest

from event_agent.config.access import fault

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that anybody may enter."""
    path = Path("/tmp") / f"event-agent-access-{os.getpid()}-{tmp_path.name}"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def removed(folder: Path) -> object:
    yield None
    shutil.rmtree(folder)


def put(path: Path, mode: int) -> str:
    path.write_text("x")
    path.chmod(mode)
    return str(path)


def test_what_can_be_read(folder: Path) -> None:
    assert fault(put(folder / "a", 0o644), "nobody") == ""
    assert fault(put(folder / "b", 0o600)) == ""
    assert fault(put(folder / "b", 0o600), ME) == ""


def test_what_is_not_there(folder: Path) -> None:
    assert fault(f"{folder}/none", "nobody") == f"{folder}/none does not exist"
    assert fault(f"{folder}/none/more", "nobody") == f"{folder}/none/more does not exist"
    assert fault(str(folder), "nobody") == f"{folder} is a folder, not a file"
    os.symlink("/nowhere", folder / "link")
    assert fault(f"{folder}/link", "nobody") == f"{folder}/link is a link to nothing, /nowhere"
    assert fault(f"{folder}/x", "no-such-user") == f"{folder}/x can't be read: there is no user no-such-user"


@pytest.mark.parametrize("by_mode", [False, True])
def test_a_file_of_somebody_else(folder: Path, by_mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_mode:  # as anybody but root has to find out
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    path = put(folder / "ca.pem", 0o600)
    owner = f"{ME}:{grp.getgrgid(os.getegid()).gr_name}"
    assert fault(path, "nobody") == (
        f"{path} can't be read by user nobody ({owner} 600): sudo chgrp nobody {path}; sudo chmod 640 {path}"
    )
    closed = folder / "closed dir"
    closed.mkdir(mode=0o700)
    inner = put(closed / "ca.pem", 0o644)
    assert fault(inner, "nobody") == (
        f"{inner} can't be read by user nobody, who may not enter {closed} ({owner} 700): "
        f"sudo chgrp nobody '{closed}'; sudo chmod g+x '{closed}'"
    )


def test_folders_that_the_service_does_not_have() -> None:
    assert fault("/home/me/ca.pem", "nobody", ("/home", "/root")) == (
        "/home/me/ca.pem can't be read by the service, which has no /home (ProtectHome=, PrivateTmp=): "
        "sudo install -g event-agent -m 640 /home/me/ca.pem /etc/event-agent/"
    )
    assert fault("/homes/x", "", ("/home",)) == "/homes/x does not exist"
