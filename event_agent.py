#!/usr/bin/env python3
"""Runs the daemon from a checkout: .venv/bin/python event_agent.py -c etc/event_agent.conf.xml

The package event_agent/ stands beside this file and wins on import.
"""

import sys

from event_agent.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
