"""For all tests."""

import contextlib
import os
import signal

import pytest
from hypothesis import settings

from tests.support import nats_server

# In the background of a shell SIGINT is ignored, and would be by all programs that tests start and end with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that is run twice must not fail because the machine was busy once.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")


def pytest_configure(config: pytest.Config) -> None:
    """The nats-server that NATS_SERVER_BIN names, else that of PATH."""
    chosen = contextlib.ExitStack()
    try:
        chosen.enter_context(nats_server(os.environ.get("NATS_SERVER_BIN", "")))
    except FileNotFoundError as error:
        raise pytest.UsageError(f"NATS_SERVER_BIN: {error}") from None
    config.add_cleanup(chosen.close)
