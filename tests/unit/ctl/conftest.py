"""event-agentctl on the fake client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from event_agent.ctl import check as ctl_check
from event_agent.ctl import program as ctl
from tests.unit.ctl.parts import FakeClient, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs event-agentctl with a fake client; returns exit code, stdout and stderr."""

    def go(client: FakeClient, *argv: str) -> tuple[int, str, str]:
        for module in (ctl, ctl_check):
            monkeypatch.setattr(module, "client", lambda options, environ: client)
        try:
            code = ctl.main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield go
