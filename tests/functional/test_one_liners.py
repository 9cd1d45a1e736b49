"""docs/API.md, "From the shell": each line as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.test_api_doc import DOCS, block


def test_each_line_does_what_it_says(
    own_nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:
    start_agent(own_nats, switch)
    client = connect(own_nats.url)
    watched, application = client.events("shop.calls.>"), client.events("shop.app.>")
    script = block((DOCS / "API.md").read_text(encoding="utf-8"), "sh one-liners")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    environ = kept | {
        "MOD_EVENT_AGENT_URL": own_nats.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script], env=environ, capture_output=True, text=True, timeout=100,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    said = done.stdout
    for words in ("Call watched", "who=alice\n", "execute_app completed", "Not drained", '"row_count":', "UP "):
        assert words in said, (words, said)
    application.wait("CHANNEL_EXECUTE_COMPLETE", timeout=20)
    assert not watched.parsed(), "unwatched before it ended"
