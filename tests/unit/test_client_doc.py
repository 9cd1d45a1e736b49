"""docs/CLIENT.md: its reference is that of the docstrings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "CLIENT.md"
TOOL = ROOT / "tools" / "client_doc.py"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="not a checkout")


def test_the_reference_is_that_of_the_docstrings() -> None:
    code = "import client_doc as doc; text = doc.PAGE.read_text(); assert doc.page(text) == text, 'run it'"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOOL.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
