"""What the tests of routing are made of: programs that decide over calls, and callers that look like mod_xml_curl."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from nats.aio.msg import Msg

from tests.functional.parts import Client
from tests.functional.streams import taken

Call = dict[str, Any]
Decide = Callable[[Call], Any]  # what is answered: an object, bytes as they stand, None for no answer


class Program:
    """Decides over calls, by somebody else's client; it subscribes as docs/DIALPLAN.md says."""

    def __init__(
        self, client: Client, decide: Decide, *, subject: str = "freeswitch.route", queue: str = "routers",
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        """`seconds` that an answer takes."""
        self.calls: list[Call] = []
        self._client = client
        self._decide = decide
        self._seconds = seconds

        async def came(message: Msg) -> None:
            call = json.loads(message.data)
            self.calls.append(call)
            task = asyncio.get_running_loop().create_task(self._answer(message, call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        async def go() -> Any:
            subscription = await client.nc.subscribe(subject, queue, came)
            await taken(client.nc)
            return subscription

        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription = client.run(go())

    async def _answer(self, message: Msg, call: Call) -> None:
        if self._seconds:
            await asyncio.sleep(self._seconds)  # as slow as the test wants it
        answer = self._decide(call)
        if answer is not None:
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            await self._client.nc.publish(message.reply, data)

    def close(self) -> None:
        """Decide no more."""

        async def go() -> None:
            await self._subscription.unsubscribe()
            await taken(self._client.nc)

        self._client.run(go())


def asked(port: int, uuid: str, number: str = "7000", timeout: float = 20.0, **more: str) -> list[tuple[str, str]]:
    """What mod_xml_curl is told about a call: applications and data; an empty list for its own dialplan."""
    params = {
        "section": "dialplan", "Unique-ID": uuid, "Call-Direction": "inbound", "Hunt-Context": "default",
        "Hunt-Destination-Number": number, "Caller-Profile-Index": "1", "Answer-State": "ringing", **more,
    }  # fmt: skip
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        client.request("POST", "/dialplan", urlencode(params))
        answer = client.getresponse()
        assert answer.status == 200
        root = ET.fromstring(answer.read())
    finally:
        client.close()
    assert root.find("./section/context") is not None or root.find("./section[@name='result']/result") is not None
    return [(each.get("application", ""), each.get("data", "")) for each in root.iter("action")]


def on_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    """All at one time; what they return."""
    found: list[Any] = [None] * len(jobs)

    def run(at: int) -> None:
        found[at] = jobs[at]()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found
