"""`python -m event_agent.config` prints the shipped configuration file."""

from event_agent.config.render import sample_file

print(sample_file(), end="")
