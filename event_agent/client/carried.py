"""Finds event_agent_client, on which this client stands: the one that is installed, else a copy of our own.

The wheel and the Debian package of event-agent have that copy in `lib`, where nothing else looks. So neither of the two
distributions has files of the other, and each can be installed, upgraded and removed alone.
"""

import os
import sys
from importlib.util import find_spec

if find_spec("event_agent_client") is None:
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
