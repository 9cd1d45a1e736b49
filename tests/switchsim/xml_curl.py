"""mod_xml_curl's part: the listener on a port is asked about each new call."""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from urllib.parse import urlencode

from .dialplan import Extension


class XmlCurl:
    """A DialplanHook that asks; whatever goes wrong, the switch's own dialplan is used."""

    def __init__(self, port: int, path: str = "/dialplan") -> None:
        self.port = port
        self.path = path
        self.timeout = 20.0  # seconds; the two of FreeSWITCH's configuration may be too few on a busy machine

    def __call__(self, params: dict[str, str]) -> Extension | None:
        """What the call is to do; None if the listener leaves it to the switch."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            client.request("POST", self.path, urlencode(params))
            answer = client.getresponse()
            root = ET.fromstring(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ET.ParseError):
            return None
        finally:
            client.close()
        context = None if root is None else root.find("./section[@name='dialplan']/context")
        if context is None or context.get("name") != params["Hunt-Context"]:
            return None
        return [(each.get("application", ""), each.get("data", "")) for each in context.iter("action")]
