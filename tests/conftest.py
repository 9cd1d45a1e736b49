"""For all tests."""

from hypothesis import settings

# A test that is run twice must not fail because the machine was busy once.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
