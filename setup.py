"""Packaging. The launcher event_agent.py is for a checkout only: installed, it would stand beside the package of the
same name, so it is neither a script nor a module here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

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


setup(
    name="event-agent",
    version=version(),
    description="Bridges FreeSWITCH and NATS: commands and events as JSON",
    long_description=description(),
    long_description_content_type="text/markdown",
    author="event-agent contributors",
    license="MIT",
    python_requires=">=3.11",
    # event_agent_client is a distribution of its own as well. event_agent.client stands on it, and this one is to be
    # installed alone. If both are installed, each brings the same files.
    packages=find_packages(include=["event_agent", "event_agent.*", "event_agent_client", "event_agent_client.sync"]),
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
