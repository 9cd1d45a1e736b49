"""What event-agentctl takes as numbers."""

from __future__ import annotations

import pytest

from event_agent.ctl.program import parser


@pytest.mark.parametrize("count", [0, 1, 999_999_999, 1_000_000_000, 3_000_000_000, 10**15])
def test_a_stream_can_be_limited_to_any_number_of_bytes(count: int) -> None:
    options = parser().parse(["stream", "create", "--max-bytes", str(count)])
    assert options.max_bytes == count


@pytest.mark.parametrize("text", ["", "-1", "1.5", "3GB", "1e9", "１", "9" * 19])
def test_what_is_no_number_of_bytes_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse(["stream", "create", "--max-bytes", text])
    assert "argument --max-bytes: must be a number of bytes" in capsys.readouterr().err


def test_a_number_that_is_too_long_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse(["stream", "create", "--replicas", "1" * 10])
    assert "argument --replicas: must be a whole number of at most nine digits" in capsys.readouterr().err
