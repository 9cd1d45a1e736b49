"""Starts the panel: python3 examples/panel"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    # Run as a folder, Python looks for modules in it; the panel is a package, to be found beside it.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from panel.app import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
