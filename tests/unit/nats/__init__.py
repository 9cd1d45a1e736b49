"""The NATS driver against a small server that does what a test tells it."""
