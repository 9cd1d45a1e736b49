"""The tables of the panel's texts: each language has every name, with the same words to put in; all are in use.

And nothing that people read stands outside these tables, in the page or in its scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parent.parent.parent / "examples" / "panel" / "static"

pytestmark = pytest.mark.skipif(not STATIC.is_dir(), reason="not a checkout")

LANGUAGES = ("en", "de")
FORMS = {"en": {"one", "other"}, "de": {"one", "other"}}  # as Intl.PluralRules has them
STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'|`((?:[^`\\]|\\.)*)`')
WORDS = re.compile(r"(?<![\w-])[A-ZÄÖÜ][a-zäöüß]+|[a-zäöüß]{2,},? [a-zäöüß]{2,}")
# Names, not words: of keys, headers, products, the page's own title, and what is typed in some language.
NAMES = {"ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Enter", "Escape", "Home", "End", "PageUp", "PageDown",
         "Tab", "Content-Type", "English", "Deutsch", "NATS"}  # fmt: skip
QUICK = {"show channels", "sofia status"}  # commands of FreeSWITCH
EXAMPLES = {"user/1000", "hold_music", "default", "60"}  # placeholders that are the same in every language


def table(language: str) -> dict[str, str]:
    text = (STATIC / f"texts-{language}.js").read_text(encoding="utf-8")
    found = re.findall(r'^  "?([\w.]+)"?: "((?:[^"\\]|\\.)*)",$', text, re.MULTILINE)
    assert len(dict(found)) == len(found), "a name is there twice"
    assert len(found) == text.partition("{")[2].count("\n  "), "a line is no text"
    return dict(found)


def scripts() -> Iterator[tuple[Path, str]]:
    """The page's scripts but for the tables."""
    for path in sorted(STATIC.glob("*.js")):
        if not path.name.startswith("texts-"):
            yield path, path.read_text(encoding="utf-8")


def test_each_language_says_everything() -> None:
    english, german = table("en"), table("de")
    assert len(english) > 200 and list(english) == list(german)
    for name, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", german[name])), name
        assert german[name].strip() or not text.strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_plurals_are_whole(language: str) -> None:
    forms: dict[str, set[str]] = {}
    for name in table(language):
        base, _, form = name.rpartition(".")
        if form in ("zero", "one", "two", "few", "many", "other"):
            forms.setdefault(base, set()).add(form)
    assert len(forms) > 10 and {base: found for base, found in forms.items() if found != FORMS[language]} == {}
    code = " ".join(text for _, text in scripts())
    assert forms.keys() ^ set(re.findall(r'\bcount\("([\w.]+)"', code)) == set()
    # What counts something goes through `count`, not `t`.
    assert not re.findall(r'\bt\("[\w.]+", \{ number: [^}]*\.length', code)


def test_every_name_that_is_used_is_there_and_all_are_used() -> None:
    english = table("en")
    used, begin = set(), set()
    for path, text in [*scripts(), (STATIC / "index.html", (STATIC / "index.html").read_text(encoding="utf-8"))]:
        used |= set(re.findall(r'\bt\("([\w.]+)"', text)) | set(re.findall(r'data-t(?:-\w+)?="([\w.]+)"', text))
        for name in re.findall(r'\bcount\("([\w.]+)"', text):
            used |= {f"{name}.one", f"{name}.other"}
        begin |= set(re.findall(r"`([a-z]+\.)\$\{", text))
        if path.suffix == ".js":
            # Names that reach `t` by another way: `t(a ? "b" : "c")`, {say: "d"}.
            used |= {name for name in re.findall(r'"(\w+\.\w+)"', text) if name in english}
    for path in STATIC.parent.glob("*.py"):
        found = re.findall(r'"(act\.[a-z_]*[a-z]|login\.[a-z_]+)"', path.read_text(encoding="utf-8"))
        begin |= set(re.findall(r'f"(act\.[a-z]+_)\{', path.read_text(encoding="utf-8")))
        used |= set(found) | {f"{name}_cause" for name in found if f"{name}_cause" in english}
    assert len(used) > 150 and not used - english.keys()
    assert {"do.", "what.", "doing.", "cause.", "role.", "page."} <= begin
    assert all(any(name.startswith(each) for name in english) for each in begin)
    by_name = {name for name in english if name.startswith(tuple(begin))}
    assert english.keys() - used - by_name == set(), "said nowhere"


class Page(HTMLParser):
    """Texts of the page that no table has, and those that differ from the English table."""

    def __init__(self, english: dict[str, str]) -> None:
        super().__init__()
        self.english = english
        self.open: list[dict[str, str | None]] = []
        self.faults: list[str] = []
        self.seen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found: dict[str, str | None] = {"tag": tag, **dict(attrs)}
        if tag not in ("meta", "link", "input", "img"):
            self.open.append(found)
        self._check(found.get("placeholder"), found.get("data-t-placeholder"), EXAMPLES)
        self._check(found.get("aria-label"), found.get("data-t-label"), set())
        self._check(found.get("title") or found.get("alt"), None, set())

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = [each["tag"] for each in self.open]
        if data.strip() and "noscript" not in inside:  # without scripts there is no table
            self._check(data.strip(), self.open[-1].get("data-t"), {"event-agent"})

    def _check(self, text: str | None, name: str | None, free: set[str]) -> None:
        if not text or (name is None and text in free):
            return
        self.seen += 1
        if name is None or self.english.get(name) != text:
            self.faults.append(f"{text!r} is not {name!r} in the table")


def test_no_text_of_the_page_is_outside_the_table() -> None:
    page = Page(table("en"))
    page.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    assert page.faults == [] and page.seen > 60


def words(code: str) -> Iterator[str]:
    """Strings in a script that people could read: with two words, or a word that begins with a capital."""
    code = re.sub(r"^import .*?;$|//.*$|/\*.*?\*/", "", code, flags=re.MULTILINE | re.DOTALL)
    code = re.sub(r"/(?:[^/\\\n*]|\\.)+/[gimsuy]*(?=[.,;)])", "", code)  # regular expressions
    for double, single, template in STRING.findall(code):
        parts = [double or single] if not template else re.split(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", template)
        for part in parts:
            # Selectors, names of classes and of things in CSS are no words.
            plain = re.sub(r"\[[^\]]*\]|[#.][\w-]+|:\w[\w-]*(?:\([^)]*\))?", " ", part)
            if WORDS.search(plain) and part not in NAMES | QUICK:
                yield part


def test_no_text_of_the_scripts_is_outside_the_table() -> None:
    assert list(words('x("Go on"); y(`${n} more characters`); z("Pause")')) == ["Go on", " more characters", "Pause"]
    found = {path.name: list(words(text)) for path, text in scripts()}
    assert not {name: texts for name, texts in found.items() if texts}
