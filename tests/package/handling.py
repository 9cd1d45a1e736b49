"""The service as an operator handles it, on a booted Debian: credentials, reload, drop-ins, a second agent, doctor, a
file for a bug report, and what each mistake is answered with.

    python3 -m tests.package.handling PACKAGE.deb SOURCE
        in SOURCE and as root, in a system that may be thrown away, with nats-server installed
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.package.lifecycle import DEFAULT, surroundings
from tests.package.machine import (
    CONFIG,
    UNIT,
    Failed,
    check,
    drop_in,
    journal,
    run,
    until_answered,
    wait,
)

SECOND = "event-agent@b"
SECRET = "ClueCon"


@contextmanager
def edited(path: Path, text: str) -> Iterator[None]:
    """A file with another content, or one that is not there otherwise; then as it was."""
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")


def credential_and_reload() -> str:
    secret = Path("/etc/event-agent/esl_password")
    secret.touch(mode=0o600)
    wrong = "Environment=MOD_EVENT_AGENT_ESL_PASSWORD=wrong"
    with edited(secret, f"{SECRET}\n"), drop_in(f"LoadCredential=esl_password:{secret}", wrong):
        until_answered("with a credential")
        run("systemctl", "reload", UNIT)
        said = run("event-agent", "--check")
        check(f"(credential esl_password from {secret}" in said, said)
        run("event-agent", "--check", "--connect", "--quiet")
        since = time.time()
        with edited(CONFIG, CONFIG.read_text(encoding="utf-8").replace('"log_level"', '"log_levle"')):
            run("systemctl", "reload", UNIT, code=1)
        wait("the reason", lambda: "not reloaded" in journal(since, "-p", "err"))
        run("systemctl", "reload", UNIT)
    secret.unlink()
    return "reload works with LoadCredential=, --check has its value, and a bad file fails it"


def another_file() -> str:
    other = CONFIG.with_name("other.conf.xml")
    run("cp", "-p", str(CONFIG), str(other))
    with drop_in("ExecStart=", f"ExecStart=/usr/bin/event-agent -c {other}"):
        until_answered("with another file")
        run("systemctl", "reload", UNIT)
        with edited(other, other.read_text(encoding="utf-8").replace('"log_level"', '"log_levle"')):
            run("systemctl", "reload", UNIT, code=1)
            said = run("event-agent", "--check", "--quiet", code=2)
            check(f"{other}:" in said, said)
    other.unlink()
    return f"reload and --check look at {other}"


def files_of_root() -> str:
    ca = Path("/etc/event-agent/ca.pem")
    ca.touch(mode=0o600)
    text = DEFAULT.read_text(encoding="utf-8")
    with edited(DEFAULT, f"{text}MOD_EVENT_AGENT_TLS_CA={ca}\n"):
        said = run("event-agent", "--check", "--quiet", code=2)
    ca.unlink()
    wanted = f"{ca} can't be read by user event-agent (root:root 600): sudo chgrp event-agent {ca}; sudo chmod 640 {ca}"
    check(wanted in said, said)
    return wanted


def second_agent() -> str:
    text = CONFIG.read_text(encoding="utf-8").replace("127.0.0.1:8092", "127.0.0.1:8093")
    variables = Path("/etc/default/event-agent@b")
    with edited(CONFIG.with_name("b.conf.xml"), text), edited(variables, "MOD_EVENT_AGENT_NODE_ID=b\n"):
        run("chgrp", "event-agent", "/etc/event-agent/b.conf.xml")
        run("event-agent", "--check", "--connect", "--quiet", "--unit", SECOND)
        run("systemctl", "start", SECOND)
        wait("the second agent", lambda: '"node_id":"b"' in run("event-agentctl", "status", "--json", code=None))
        run("systemctl", "reload", SECOND)
        check(Path("/var/lib/event-agent@b").is_dir(), "no state folder of its own")
        said = run("event-agentctl", "--unit", SECOND, "check")
        check("OK - b:" in said, said)
        run("systemctl", "stop", SECOND)
    return said.partition(" |")[0]


def stopped() -> str:
    run("systemctl", "stop", UNIT)
    said = run("event-agentctl", "check", code=2)
    check(f"{UNIT} on this machine is stopped" in said, said)
    page = run("event-agentctl", "doctor", code=1)
    check(f"FAIL  service     {UNIT} is stopped" in page and "-> sudo systemctl restart" in page, page)
    run("systemctl", "start", UNIT)
    until_answered("started again")
    return said.strip()


def well() -> str:
    page = run("event-agentctl", "doctor", code=None)
    check("FAIL" not in page and "ok    service" in page and "ok    listener" in page, page)
    return f"doctor: {len(page.splitlines())} lines, no fault"


def bundle() -> str:
    secret = "pl4nted-s3cret"
    text = DEFAULT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, edited(DEFAULT, f"{text}MOD_EVENT_AGENT_TOKEN={secret}\n"):
        path = Path(folder) / "report.tar.gz"
        run("event-agentctl", "support-bundle", str(path))
        with tarfile.open(path) as archive:
            parts = {each.name.partition("/")[2]: archive.extractfile(each) for each in archive}
            texts = {name: file.read().decode() for name, file in parts.items() if file is not None}
    check(not [name for name, each in texts.items() if secret in each], "a secret is in it")
    check("FreeSWITCH connected" in texts["log.txt"] and "event-agent" in texts["unit.txt"], f"{list(texts)}")
    return ", ".join(texts)


STEPS: tuple[Callable[[], str], ...] = (
    well, credential_and_reload, another_file, files_of_root, second_agent, stopped, bundle,
)  # fmt: skip


def main() -> int:
    package, source = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        surroundings(None, source)
        run("apt-get", "install", "-y", "--no-install-recommends", str(package))
        until_answered("installed")
        for each in STEPS:
            print(f"{each.__name__}: {each()}", flush=True)
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", flush=True)
        print(run("journalctl", "--no-pager", "-n", "40", "-u", UNIT, code=None))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
