"""Makes connections to FreeSWITCH, and asks at each new link which FreeSWITCH it is."""

from __future__ import annotations

from event_agent.errors import LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.connection import Connection

LIMIT = 5.0  # seconds for each step of connecting
_IDENTITY = (("version", "version"), ("core_uuid", "global_getvar core_uuid"), ("hostname", "hostname"))


class Dialer:
    """Knows where FreeSWITCH is, and which one it is, or was when it was last there. Any thread may connect."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self._address = host, port, password
        self.identity = {name: "" for name, _ in _IDENTITY}

    def further(self) -> Connection:
        """A further connection of a link that is up. Raises LinkError."""
        return Connection(*self._address, LIMIT)

    def fresh(self) -> Connection:
        """A connection for a new link; FreeSWITCH has told who it is. Raises LinkError.

        What is asked is answered from memory: a FreeSWITCH whose database is locked takes calls all the same.
        """
        connection = self.further()
        try:
            identity = {}
            for name, verb in _IDENTITY:
                answer = connection.ask(wire.api(verb), LIMIT).text.strip()
                if answer.startswith("-ERR"):  # mod_commands is loaded after mod_event_socket
                    raise LinkError("FreeSWITCH is still starting")
                identity[name] = answer
        except BaseException:
            connection.close()
            raise
        self.identity = identity
        return connection

    def connect(self, fresh: bool) -> Connection:
        """Either of the two."""
        return self.fresh() if fresh else self.further()

    @property
    def version(self) -> str:
        """FreeSWITCH's version number, such as 1.10.12-release; empty until it was there."""
        return self.identity["version"].removeprefix("FreeSWITCH Version ").partition(" ")[0].partition("~")[0]
