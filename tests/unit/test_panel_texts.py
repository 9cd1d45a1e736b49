"""The tables of the panel's texts: each language has every name, with the same words to put in; all are in use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parent.parent.parent / "examples" / "panel" / "static"

pytestmark = pytest.mark.skipif(not STATIC.is_dir(), reason="not a checkout")


def table(language: str) -> dict[str, str]:
    text = (STATIC / f"texts-{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  "?([\w.]+)"?: "((?:[^"\\]|\\.)*)",$', text, re.MULTILINE))


def test_each_language_says_everything() -> None:
    english, german = table("en"), table("de")
    assert len(english) > 200 and list(english) == list(german)
    for name, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", german[name])), name
        assert german[name].strip() or not text.strip()


def test_every_name_that_is_used_is_there() -> None:
    english = table("en")
    used = set()
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r'\bt\("([\w.]+)"', text)) | set(re.findall(r'data-t(?:-\w+)?="([\w.]+)"', text))
        used |= {f"{name}.one" for name in re.findall(r'\bcount\("([\w.]+)"', text)}
    python = (STATIC.parent / "actions.py").read_text(encoding="utf-8")
    used |= set(re.findall(r'"(act\.[a-z_]*[a-z])"', python))
    assert len(used) > 100 and not used - english.keys()
