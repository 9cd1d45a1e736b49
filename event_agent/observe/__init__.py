"""What is seen of the agent from outside: discovery, /health, /metrics."""
