"""What /metrics says, also where no broker can be asked through."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(port: int) -> list[Metric]:
    """What the agent on this port says, now."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:  # noqa: S310
        return list(text_string_to_metric_families(page.read().decode()))


def metric(port: int, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    found = [
        each.value for family in families(port) for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]  # fmt: skip
    assert found, f"no {name} with {labels}"
    return sum(found)


def taken(port: int) -> int:
    """How many events the agent has taken."""
    return int(metric(port, "event_agent_events_published_total"))
