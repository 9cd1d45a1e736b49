"""What the tests of park mode are made of: a FreeSWITCH with SIP and music, callers by sipp, agents as wanted."""

from __future__ import annotations

import contextlib
import math
import shutil
import socket
import struct
import subprocess
import time
import uuid
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional import real_switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim, XmlCurl

needs_freeswitch = pytest.mark.skipif(real_switch.binary() is None, reason="FREESWITCH_BIN and PATH name no FreeSWITCH")
needs_sipp = pytest.mark.skipif(shutil.which("sipp") is None, reason="no sipp")


@contextlib.contextmanager
def asking_switch(real: bool) -> Iterator[tuple[RealSwitch | SwitchSim, int]]:
    """A switch whose mod_xml_curl asks for its dialplan, and the port on which it does."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/dialplan"
    with RealSwitch(dialplan_url=url) if real else SwitchSim(dialplan_hook=XmlCurl(port)) as found:
        yield found, port


# Rings, and hears early media, until it is answered; then talks until it is hung up.
SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller">
  <send retrans="500"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]caller[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:caller@[local_ip]:[local_port]>
    Max-Forwards: 70
    Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=caller 1 1 IN IP4 [local_ip]
    s=-
    c=IN IP4 [local_ip]
    t=0 0
    m=audio MEDIA RTP/AVP 0
    a=rtpmap:0 PCMU/8000
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200" rtd="true" rrs="true"/>
  <send><![CDATA[
    ACK [next_url] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]caller[call_number]
    [last_To:]
    Call-ID: [call_id]
    CSeq: 1 ACK
    Max-Forwards: 70
    Content-Length: 0

  ]]></send>
  <recv request="BYE"/>
  <send><![CDATA[
    SIP/2.0 200 OK
    [last_Via:]
    [last_From:]
    [last_To:]
    [last_Call-ID:]
    [last_CSeq:]
    Content-Length: 0

  ]]></send>
</scenario>
"""


def _mulaw(byte: int) -> int:
    byte = ~byte & 0xFF
    value = (((byte & 0x0F) << 3) + 0x84) << ((byte & 0x70) >> 4)
    return 0x84 - value if byte & 0x80 else value - 0x84


MULAW = [_mulaw(byte) for byte in range(256)]


def level(samples: list[int] | tuple[int, ...]) -> float:
    """RMS in dB below the loudest square wave; -100 for digital silence."""
    if not samples:
        return -100.0
    rms = math.sqrt(sum(each * each for each in samples) / len(samples)) / 32768
    return 20 * math.log10(rms) if rms > 1e-5 else -100.0


class SipCaller:
    """One call by sipp; its media comes to a socket of ours, so what is measured is what a phone would play."""

    def __init__(self, port: int, number: str, folder: Path, *options: str) -> None:
        self._media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._media.bind(("127.0.0.1", 0))
        self._media.settimeout(0.2)
        scenario = folder / f"{uuid.uuid4().hex}.xml"
        scenario.write_text(SCENARIO.replace("MEDIA", str(self._media.getsockname()[1])))
        self.process = subprocess.Popen(
            ["sipp", f"127.0.0.1:{port}", "-sf", str(scenario), "-s", number, "-i", "127.0.0.1", "-p", str(free_port()),
             "-m", "1", "-nostdin", "-recv_timeout", "60000", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip

    def drain(self) -> None:
        """Forget what has come so far."""
        self._media.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._media.recv(2048)
        self._media.settimeout(0.2)

    def hear(self, seconds: float) -> tuple[int, float]:
        """Packets that come in so many seconds, and how loud they are."""
        packets, samples = 0, []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                data = self._media.recv(2048)
                if data[1] & 0x7F == 0:
                    packets += 1
                    samples += [MULAW[byte] for byte in data[12:]]
        return packets, level(samples)

    def ended_well(self, timeout: float = 30.0) -> bool:
        """Wait for the end; True when the call was answered and hung up as calls are."""
        return self.process.wait(timeout) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self._media.close()


class House:
    """A FreeSWITCH with a SIP port and music, whose mod_xml_curl asks `port`; NATS; and agents as they are wanted."""

    def __init__(self, folder: Path, nats: NatsServer, sofia: dict[str, str]) -> None:
        """`sofia`: further params of the SIP profile."""
        self.port, self.sip, self.nats, self.folder = free_port(), free_port(), nats, folder
        (folder / "music").mkdir()
        with wave.open(str(folder / "music" / "tone.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(b"".join(
                struct.pack("<h", int(12000 * math.sin(2 * math.pi * 300 * at / 8000))) for at in range(80000)
            ))  # fmt: skip
        self.switch = RealSwitch(
            dialplan_url=f"http://127.0.0.1:{self.port}/dialplan", music=str(folder / "music"), sip_port=self.sip,
            sofia=sofia, modules=("mod_conference",),
        ).start()  # fmt: skip
        self.agents: list[Agent] = []
        self.callers: list[SipCaller] = []

    def agent(self, **settings: str) -> Agent:
        """Start one; all share one state folder, as its lives on a server do."""
        settings = {"http_listen": f"127.0.0.1:{self.port}", "state_dir": str(self.folder)} | settings
        agent = Agent(url=self.nats.url, esl_port=str(self.switch.port), **settings)
        self.agents.append(agent)
        agent.start()
        agent.logged("mod_xml_curl may ask")
        return agent

    def call(self, number: str, *options: str) -> SipCaller:
        self.callers.append(SipCaller(self.sip, number, self.folder, *options))
        return self.callers[-1]

    def tidy(self, client: Client) -> None:
        """No calls, no callers, no agents, no state."""
        with contextlib.suppress(Exception):
            client.request("hupall")
        for caller in self.callers:
            caller.close()
        for agent in self.agents:
            agent.remove()
        self.callers, self.agents = [], []
        for path in self.folder.glob("dialplan.json*"):
            path.unlink()


def status(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.request("dialplan.status")["data"]
    return found


def enable(client: Client, audio: str = "ringback", answer: bool = False, **scope: Any) -> None:
    for reply in (
        client.request("dialplan.audio", mode=audio, music_class="moh" if audio == "music" else ""),
        client.request("dialplan.autoanswer", enabled=answer),
        client.request("dialplan.enable", **scope),
    ):
        assert reply["success"], reply


def parked_leg(client: Client, number: str, make: Callable[[], object]) -> tuple[str, Any, float]:
    """Make a call; the uuid of its parked leg, what `make` returned, and seconds until CHANNEL_PARK was here."""
    events = client.events("freeswitch.events.channel.park")
    started = time.monotonic()
    made = make()
    found = until(lambda: [
        event for event in events.parsed()
        if event["headers"].get("variable_event_agent_parked") == "1"
        and event["headers"].get("Caller-Destination-Number") == number
    ], f"CHANNEL_PARK of {number}")  # fmt: skip
    return found[0]["uuid"], made, time.monotonic() - started


def getvar(client: Client, leg: str, name: str) -> str:
    return str(client.request("uuid_getvar", f"{leg} {name}").get("data", ""))
