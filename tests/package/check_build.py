"""Run by debian/rules on what it has built: python3 -I check_build.py MODULES VERSION, in the source's folder.

The modules that were built for the package must do, with the Python that builds it; versions must agree.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [".", sys.argv[1]]

import ESL  # noqa: E402
import pynats2  # noqa: E402

from event_agent import __version__, quick  # noqa: E402
from event_agent.__main__ import main  # noqa: E402
from event_agent.client import Client  # noqa: E402

if quick.compiled is None:
    raise SystemExit("event_agent._quick was not built")
for module in (ESL, pynats2):
    if not Path(str(module.__file__)).resolve().is_relative_to(Path(sys.argv[1]).resolve()):
        raise SystemExit(f"{module.__name__} comes from {module.__file__}")
if Client().prefix != "freeswitch":
    raise SystemExit("the client does not work")
if ESL.ESLevent("CUSTOM").getType() != "CUSTOM":
    raise SystemExit("ESL does not work")
if sys.argv[2].partition("+deb")[0] != __version__:  # +deb12: built for that Debian
    raise SystemExit(f"debian/changelog is of {sys.argv[2]}, event_agent of {__version__}")
sys.exit(main(["--check", "--quiet", "-c", "etc/event_agent.conf.xml"]))  # all parts can be put together
