"""The NATS driver."""
