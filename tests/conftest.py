"""For all tests."""

import signal

from hypothesis import settings

# In the background of a shell SIGINT is ignored, and would be by all programs that tests start and end with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that is run twice must not fail because the machine was busy once.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
