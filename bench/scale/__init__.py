"""Many agents on one nats-server: `python -m bench.scale`."""
