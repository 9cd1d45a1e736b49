"""FreeSWITCH as a NATS citizen."""

__version__ = "1.1.0"
