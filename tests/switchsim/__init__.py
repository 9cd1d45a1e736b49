"""An event-socket simulator of FreeSWITCH, made from recorded conversations with the real one.

    with SwitchSim() as sim:
        connect("127.0.0.1", sim.port, "ClueCon")

Modules, from the wire inwards: server (sockets, threads) - session (the protocol of a connection) - framing, events,
subscription (bytes and values) - switch (API verbs, variables) - api, api_calls, api_show (the verbs) - originate,
execution, applications, calls, channel, dialplan (calls) - bus, workers, text, names, interfaces (the ground).
in_process stands apart: no simulator, but a connection whose answers a test makes up. So does xml_curl: for a
simulator that asks a listener for its dialplan.
"""

from .channel import Channel
from .dialplan import DialplanHook, Extension
from .sim import SwitchSim
from .xml_curl import XmlCurl

__all__ = ["Channel", "DialplanHook", "Extension", "SwitchSim", "XmlCurl"]
