"""`python -m event_agent.ctl` is event-agentctl."""

import sys

from event_agent.ctl.program import main

sys.exit(main())
