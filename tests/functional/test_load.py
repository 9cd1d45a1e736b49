"""The bench's load generator, with parts that do next to nothing: it counts right and costs little itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, NatsServer

Run = Callable[..., dict[str, Any]]
GOOD, BAD = '{"success":true,"data":"x"}', '{"success":false,"message":"x"}'


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("load") / "load"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", found, ROOT / "bench" / "load.c"], check=True)
    return found


def run(load: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run([load, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@contextmanager
def waiting(load: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One that says that it is ready."""
    command = [str(load), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.stdin.close()


@pytest.mark.parametrize("window", [1, 50, 3000])
def test_requests_are_counted_one_by_one(load: Path, nats: NatsServer, window: int) -> None:
    with waiting(load, "echo", "127.0.0.1", nats.port, "load.echo", GOOD):
        result = run(load, "commands", "127.0.0.1", nats.port, "load.echo", "{}", 3000, window)
    assert (result["count"], result["bad"]) == (3000, 0)
    assert 0 < result["p50_us"] <= result["p90_us"] <= result["p99_us"] <= result["max_us"]
    assert result["max_us"] <= result["seconds"] * 1e6 + 1
    assert result["own_cpu_us"] < (100 if window == 1 else 30)


def test_refusals_are_counted_apart(load: Path, nats: NatsServer) -> None:
    with waiting(load, "echo", "127.0.0.1", nats.port, "load.echo", BAD):
        result = run(load, "commands", "127.0.0.1", nats.port, "load.echo", "{}", 100, 7)
    assert (result["count"], result["bad"]) == (100, 100)


def test_commands_on_a_raw_event_socket(load: Path, switch: Switch) -> None:
    result = run(load, "esl", "127.0.0.1", switch.port, switch.password, "version", 300, 20)
    assert result["count"] == 300 and 0 < result["p50_us"] <= result["max_us"]


def test_events_are_fired_at_a_rate_and_seen(load: Path, switch: Switch) -> None:
    address = ("127.0.0.1", switch.port, switch.password)
    with waiting(load, "listen", *address, "bench::event", 50, 30, 2) as listener:
        fired = run(load, "fire", *address, 50, 200)
        out, _ = listener.communicate(timeout=30)
    seen = json.loads(out)
    assert fired["count"] == seen["count"] == 50
    assert fired["seconds"] >= 0.24  # 49 intervals of 5 ms
    assert 0 < seen["p50_us"] < 5e6
