"""The process's HTTP listener; routes are registered by others."""
