"""Prometheus's text format, version 0.0.4: metrics in, the text of a scrape out.

Source: "Text-based format" of Prometheus's documentation on exposition formats. Not made with prometheus_client:
importing that takes 7 MB of memory (ssl, http.server, email and more come along), a quarter of what the whole agent
has. The tests read this text with its parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Page:
    """Gathers metric families, each given whole and once. Names and help texts are ours, label values anybody's."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, help: str, value: float, **labels: str) -> None:
        """A value that goes up and down."""
        self.gauges(name, help, [(labels, value)])

    def gauges(self, name: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """Several of one name, told apart by labels."""
        self._several(name, "gauge", help, samples)

    def counter(self, name: str, help: str, value: float) -> None:
        """A value that only grows; `name` ends with _total."""
        self.counters(name, help, [({}, value)])

    def counters(self, name: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """Several of one name, told apart by labels."""
        self._several(name, "counter", help, samples)

    def _several(self, name: str, kind: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._family(name, kind, help)
        for labels, value in samples:
            self._sample(name, labels, value)

    def histograms(
        self, name: str, help: str, bounds: Sequence[float], samples: Iterable[tuple[Labels, Sequence[int], int, float]]
    ) -> None:
        """For each: labels, how many were at or below each bound, how many in all, and their sum."""
        self._family(name, "histogram", help)
        for labels, below, count, total in samples:
            for bound, number in zip((*map(_number, bounds), "+Inf"), (*below, count), strict=True):
                self._sample(f"{name}_bucket", {**labels, "le": bound}, number)
            self._sample(f"{name}_sum", labels, total)
            self._sample(f"{name}_count", labels, count)

    def _family(self, name: str, kind: str, help: str) -> None:
        self._lines.append(f"# HELP {name} {help}\n# TYPE {name} {kind}\n")

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        self._lines.append(f"{name}{{{pairs}}} {_number(value)}\n" if pairs else f"{name} {_number(value)}\n")

    def add(self, text: bytes) -> None:
        """Families that another page has made."""
        self._lines.append(text.decode())

    def text(self) -> bytes:
        """All of it; a lone surrogate, which UTF-8 can't hold, becomes a question mark."""
        return "".join(self._lines).encode(errors="replace")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)
