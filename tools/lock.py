"""Writes the requirements files: every package pinned, every file that may be installed with its sum.

Run it when a version below changes: .venv/bin/python tools/lock.py
pip itself resolves the lists, once for each Python and machine the project is used on, and says which files it would
take; the union of their sums is what `make setup` accepts (pip install --require-hashes --no-deps).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent

PYTHONS = ("3.11", "3.13")  # Debian 12's and Debian 13's
MACHINES = ("x86_64", "aarch64")
GLIBC_MINORS = range(36, 16, -1)  # Debian 12's, down to what manylinux2014 stands for

RUN_TIME = ["PyNaCl==1.6.2"]
# Its metadata asks for pbr, which it does not import.
RUN_TIME_ALONE = ["pynats2==0.9.0"]
DEVELOPMENT = [
    "hypothesis==6.170.15",
    "jsonschema==4.26.0",
    "mypy==2.4.1",
    "nats-py==2.16.0",
    "prometheus_client==0.26.0",
    "pytest==9.2.0",
    "PyYAML==6.0.4",
    "ruff==0.17.6",
    "setuptools==84.2.1",
]
# Has only a source distribution, which tools/setup_venv.py changes before it builds it.
SOURCE = ["python-ESL==1.4.18"]

Pins = dict[str, set[str]]  # "name==version" -> sha256 sums


def resolve(requirements: list[str], *options: str) -> Pins:
    """What pip would install for `requirements`, here, unless `options` name another target."""
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", *options, *requirements]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    pins: Pins = {}
    for item in report["install"]:
        download = item["download_info"]
        print("  " + unquote(urlsplit(download["url"]).path.rsplit("/", 1)[1]))
        pin = f"{item['metadata']['name']}=={item['metadata']['version']}"
        pins.setdefault(pin, set()).add(download["archive_info"]["hashes"]["sha256"])
    return pins


def resolve_everywhere(requirements: list[str]) -> Pins:
    """The union of resolve() over all PYTHONS and MACHINES."""
    pins: Pins = {}
    for python in PYTHONS:
        for machine in MACHINES:
            print(f"Python {python}, {machine}:")
            tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
            # pip wants --target with --platform; --dry-run leaves it alone.
            options = ["--only-binary=:all:", "--python-version", python, "--target", str(ROOT / "build")]
            for tag in tags:
                options += ["--platform", tag]
            for pin, sums in resolve(requirements, *options).items():
                pins.setdefault(pin, set()).update(sums)
    return pins


def write(name: str, what: str, pins: Pins) -> None:
    lines = [f"# {what}", "# Written by tools/lock.py, where the versions stand."]
    for pin in sorted(pins, key=str.lower):
        lines.append(" \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in sorted(pins[pin]))]))
    (ROOT / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {name}: {len(pins)} packages")


def main() -> None:
    run_time = resolve_everywhere(RUN_TIME) | resolve(RUN_TIME_ALONE, "--no-deps")
    development = resolve_everywhere(DEVELOPMENT)
    source = resolve(SOURCE, "--no-deps", "--no-binary=:all:", "--no-build-isolation")
    write("requirements.txt", "What the daemon runs with, beside python-ESL.", run_time)
    write("requirements-dev.txt", "What builds, tests and checks it.", development)
    write("requirements-source.txt", "What is built from its source.", source)


if __name__ == "__main__":
    main()
