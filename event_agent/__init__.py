"""A bridge between FreeSWITCH and NATS."""

__version__ = "1.1.0"
