"""Keeps what takes minutes and root out of a plain `make test`; `make test-package` asks for it."""

import os

collect_ignore = [] if os.environ.get("EVENT_AGENT_TEST_PACKAGE") else ["test_package.py"]
