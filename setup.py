"""Packaging. The launcher event_agent.py is for a checkout only: installed, it would stand beside the package of the
same name, so it is neither a script nor a module here."""

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """event_agent.__version__, read and not imported: what the package imports may not be installed yet."""
    text = (HERE / "event_agent" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise SystemExit("setup.py: no __version__ in event_agent/__init__.py")
    return match[1]


def description() -> str:
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


PACKAGES = find_packages(include=["event_agent", "event_agent.*"])
SHARED = find_packages(include=["event_agent_client", "event_agent_client.sync"])  # no agent for tests
# event_agent_client is a distribution of its own. event_agent.client stands on it, and this one is to be installed
# alone, so it has a copy in a folder where nobody else looks: if both distributions owned the same files, removing one
# would break the other. An editable installation has the package itself.
COPY = {f"event_agent.client.lib.{name}": name.replace(".", "/") for name in SHARED}
if "editable_wheel" in sys.argv:
    COPY = {}

# What each event passes, compiled. Without a compiler the package is installed all the same: it works without. With
# EVENT_AGENT_COMPILED in the environment that is an error.
QUICK = Extension(
    "event_agent._quick", sorted(f"compiled/{path.name}" for path in (HERE / "compiled").glob("*.c")),
    depends=["compiled/quick.h"],
    optional="EVENT_AGENT_COMPILED" not in os.environ,
)  # fmt: skip


setup(
    name="event-agent",
    version=version(),
    description="Bridges FreeSWITCH and NATS: commands and events as JSON",
    long_description=description(),
    long_description_content_type="text/markdown",
    author="event-agent contributors",
    license="MIT",
    python_requires=">=3.11",
    packages=PACKAGES + (list(COPY) or SHARED),
    package_dir=COPY,
    ext_modules=[QUICK],
    install_requires=[
        "pynats2>=0.9.0",
        "python-ESL>=1.4.18",
        "PyNaCl>=1.5.0",
    ],
    entry_points={
        "console_scripts": [
            "event-agent=event_agent.__main__:main",
            "event-agentctl=event_agent.ctl:main",
        ],
    },
)
