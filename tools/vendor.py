"""Gets and builds what the Debian package brings along because Debian lacks it: pynats2 and python-ESL.

    python3 tools/vendor.py fetch FOLDER           download the archives that the requirements files pin
    python3 tools/vendor.py build FOLDER TARGET    make modules of them, for this Python; needs no network

debian/rules calls it; `make deb` has called `fetch` before, so that the package's build itself needs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from setup_venv import SetupError, run

ROOT = Path(__file__).resolve().parent.parent
# What else requirements.txt names is in Debian.
PARTS = {"pynats2": "requirements.txt", "python-ESL": "requirements-source.txt"}


def pin(name: str) -> str:
    """The lines of the requirements file that pin `name`: its version, and the sums its archive may have."""
    text = (ROOT / PARTS[name]).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==.*(?:\\\n.*)+", text, re.MULTILINE)
    if found is None:
        raise SetupError(f"{PARTS[name]} has no pin of {name}")
    return found[0] + "\n"


def fetch(folder: Path) -> None:
    """Download the archives; pip refuses what has another sum."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(pin(name))
            file.flush()
            options = ["--no-deps", "--require-hashes", "--no-build-isolation", "--dest", str(folder)]
            run([sys.executable, "-m", "pip", "download", *options, "-r", file.name])
        archive(folder, name)


def archive(folder: Path, name: str) -> Path:
    """The archive of `name`, which must have the sum that is pinned: between fetch and build it lay about."""
    sums = re.findall(r"--hash=sha256:([0-9a-f]{64})", pin(name))
    found = [path for path in folder.glob(f"{name}-*") if hashlib.sha256(path.read_bytes()).hexdigest() in sums]
    if len(found) != 1:
        raise SetupError(f"{folder} must hold exactly one archive of {name} with the sum in {PARTS[name]}")
    return found[0]


def build(folder: Path, target: Path) -> None:
    """Put the modules into `target`, with no metadata: it would name dependencies that are not needed."""
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive(folder, "pynats2")) as wheel:
        wheel.extractall(target, [name for name in wheel.namelist() if name.startswith("pynats2/")])
    with tempfile.TemporaryDirectory(prefix="event-agent-vendor-") as name:
        shutil.unpack_archive(archive(folder, "python-ESL"), name)
        (source,) = Path(name).iterdir()
        build_esl(source)
        for module in sorted((source / "built").iterdir()):
            shutil.copy(module, target)


def build_esl(source: Path) -> None:
    """As tools/setup_venv.py does: without an option that SWIG 4 lacks, and with the ESL.py that SWIG writes."""
    setup = source / "setup.py"
    text = setup.read_text(encoding="utf-8")
    if "'-classic', " not in text:
        raise SetupError("python-ESL's setup.py is not the one this was written for")
    setup.write_text(text.replace("'-classic', ", ""), encoding="utf-8")
    # A binary must not tell where it was built.
    flags = f"{os.environ.get('CFLAGS', '')} -ffile-prefix-map={source}=."
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "build", "--build-lib", "built"]
    done = subprocess.run(
        ["env", f"CFLAGS={flags}", *command], cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise SetupError(f"{done.stdout}\npython-ESL could not be built")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("fetch", "build"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    options = parser.parse_args()
    try:
        if options.what == "fetch":
            fetch(options.folder)
        elif options.target is None:
            parser.error("build needs TARGET")
        else:
            build(options.folder, options.target)
    except SetupError as error:
        print(f"vendor: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
