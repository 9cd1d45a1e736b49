"""A web page for the operator of one or more switches, built on event_agent.client. README.md tells about it."""
