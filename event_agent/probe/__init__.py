"""Tries the two links with the agent's settings, beside the agent, for a person who wants to know what is wrong.

Used by `event-agent --check --connect` and `event-agentctl doctor`. Nothing is changed on either side, no request is
taken away from an agent, and each wait has a limit.
"""
