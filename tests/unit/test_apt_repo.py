"""The apt repository: what apt itself says of it. apt runs with folders of its own and as nobody in particular."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MISSING = [name for name in ("apt-get", "dpkg-deb", "dpkg-scanpackages", "gpg") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(not (ROOT / "tools").exists(), reason="not a checkout"),
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}"),
]
if (ROOT / "tools").exists():
    sys.path.append(str(ROOT / "tools"))
    import apt_repo
    from setup_venv import SetupError


def package(folder: Path, version: str) -> Path:
    """An event-agent with nothing in it."""
    control = folder / version / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: event-agent\nVersion: {version}\nArchitecture: amd64\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: nothing\n"
    )
    path = folder / f"event-agent_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(folder / version), str(path)], check=True)
    return path


class Apt:
    """apt that knows one repository and one key."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "etc", "dpkg"):
            (folder / name).mkdir(parents=True)
        (folder / "dpkg/status").touch()
        self.key = folder / "key.asc"
        shutil.copy(repository / apt_repo.PUBLIC, self.key)
        (folder / "sources.list").write_text(f"deb [signed-by={self.key}] file:{repository} bookworm main\n")

    def __call__(self, *arguments: str) -> str:
        top = self._folder
        options = {
            "Dir::Etc": f"{top}/etc", "Dir::Etc::sourcelist": f"{top}/sources.list", "Dir::Etc::sourceparts": "-",
            "Dir::State": str(top), "Dir::State::Lists": f"{top}/lists", "Dir::State::status": f"{top}/dpkg/status",
            "Dir::Cache": f"{top}/cache", "APT::Architecture": "amd64", "APT::Sandbox::User": "",
            "Acquire::AllowInsecureRepositories": "false",
        }  # fmt: skip
        command = [*arguments[:1], *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        done = subprocess.run(
            [*command, *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        return f"{done.stdout}\nexit {done.returncode}"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A repository with one package, and its secret key."""
    out, key = tmp_path / "apt", tmp_path / "keys" / "secret.asc"
    apt_repo.publish(out, key, {"bookworm": [package(tmp_path, "1.0.0+deb12")]})
    return out, key


def test_apt_takes_it_and_sees_all_versions(made: tuple[Path, Path], tmp_path: Path) -> None:
    out, key = made
    assert key.stat().st_mode & 0o777 == 0o600 and b"PRIVATE KEY" in key.read_bytes()
    assert b"PUBLIC KEY" in (out / apt_repo.PUBLIC).read_bytes()
    apt_repo.publish(out, key, {"bookworm": [package(tmp_path, "1.1.0+deb12")]})
    apt = Apt(tmp_path / "user", out)
    assert "exit 0" in (said := apt("apt-get", "update")) and "W:" not in said, said
    policy = apt("apt-cache", "policy", "event-agent")
    assert "Candidate: 1.1.0+deb12" in policy and "1.0.0+deb12" in policy
    uris = apt("apt-get", "download", "--print-uris", "event-agent")
    (line,) = [each for each in uris.splitlines() if "file:" in each]
    uri = line.split("'")[1].removeprefix("file:").replace("%2b", "+")
    assert Path(uri).read_bytes() == (tmp_path / "event-agent_1.1.0+deb12_amd64.deb").read_bytes()


def test_what_was_changed_or_is_signed_by_others_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    out, _ = made
    other = tmp_path / "other"
    apt_repo.publish(other, tmp_path / "keys" / "other.asc", {"bookworm": [package(tmp_path / "o", "1.0.0+deb12")]})
    apt = Apt(tmp_path / "user", out)
    shutil.copy(other / apt_repo.PUBLIC, apt.key)
    apt("apt-get", "update")
    assert "1.0.0" not in apt("apt-cache", "policy", "event-agent")
    shutil.copy(out / apt_repo.PUBLIC, apt.key)
    apt("apt-get", "update")
    assert "1.0.0" in apt("apt-cache", "policy", "event-agent")
    packages = out / "dists/bookworm/main/binary-amd64/Packages"
    for path in (packages, packages.with_suffix(".gz")):
        path.unlink()
    packages.write_text("Package: evil\n\n")
    again = Apt(tmp_path / "again", out)
    assert "exit 100" in again("apt-get", "update")


def test_one_without_a_signature_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    out, _ = made
    for name in ("InRelease", "Release.gpg"):
        (out / "dists/bookworm" / name).unlink()
    said = Apt(tmp_path / "user", out)("apt-get", "update")
    assert "exit 100" in said and "is not signed" in said, said


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n"])
def test_a_broken_key_is_one_line(tmp_path: Path, text: str) -> None:
    key = tmp_path / "secret.asc"
    key.write_text(text)
    with pytest.raises(SetupError, match="secret.asc ") as caught:
        apt_repo.publish(tmp_path / "apt", key, {})
    assert "\n" not in str(caught.value)


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert apt_repo.main(["--suite", "bookworm", "--key", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"apt-repo: there is no file {tmp_path}/none\n"
    monkeypatch.setattr(apt_repo, "own_suite", lambda: "sid")
    assert apt_repo.main([]) == 1
    assert capsys.readouterr().err == "apt-repo: sid is none of bookworm, trixie: give --suite\n"
