"""A real FreeSWITCH for the tests: its own configuration, its own ports, its own folder, gone at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support import free_port

MODULES = (
    "mod_console", "mod_logfile", "mod_event_socket", "mod_xml_curl", "mod_commands", "mod_dptools",
    "mod_dialplan_xml", "mod_loopback", "mod_tone_stream", "mod_sndfile", "mod_local_stream",
)  # fmt: skip

# mod_xml_curl's binding must stand on lines of its own, as must every X-PRE-PROCESS tag.
CONFIGURATION = """<?xml version="1.0"?>
<document type="freeswitch/xml">
  <X-PRE-PROCESS cmd="set" data="domain=127.0.0.1"/>
  <section name="configuration">
    <configuration name="modules.conf"><modules>
{modules}
    </modules></configuration>
    <configuration name="switch.conf"><settings>
      <param name="max-sessions" value="5000"/>
      <param name="sessions-per-second" value="1000"/>
      <param name="loglevel" value="warning"/>
      <param name="rtp-start-port" value="{rtp_start}"/>
      <param name="rtp-end-port" value="{rtp_end}"/>
    </settings></configuration>
    <configuration name="event_socket.conf"><settings>
      <param name="nat-map" value="false"/>
      <param name="listen-ip" value="127.0.0.1"/>
      <param name="listen-port" value="{port}"/>
      <param name="password" value="{password}"/>
{acl}
    </settings></configuration>
    <configuration name="acl.conf"><network-lists>
      <list name="nobody" default="deny"/>
    </network-lists></configuration>
    <configuration name="console.conf"><mappings><map name="all" value="warning"/></mappings>
      <settings><param name="loglevel" value="warning"/></settings></configuration>
    <configuration name="logfile.conf"><settings/><profiles><profile name="default">
      <settings><param name="logfile" value="{folder}/log/freeswitch.log"/></settings>
      <mappings><map name="all" value="debug,info,notice,warning,err,crit,alert"/></mappings>
    </profile></profiles></configuration>
    <configuration name="xml_curl.conf"><bindings>
{binding}
    </bindings></configuration>
    <configuration name="local_stream.conf">
{music}
    </configuration>
{sofia}
{module}
  </section>
  <section name="dialplan">
    <context name="default">
      <extension name="park"><condition field="destination_number" expression="^park$">
        <action application="answer"/><action application="park"/></condition></extension>
      <extension name="short"><condition field="destination_number" expression="^short$">
        <action application="answer"/><action application="hangup"/></condition></extension>
      <extension name="late"><condition field="destination_number" expression="^late([0-9]+)$">
        <action application="ring_ready"/><action application="sleep" data="$1"/>
        <action application="answer"/><action application="park"/></condition></extension>
      <extension name="ring"><condition field="destination_number" expression="^ring$">
        <action application="ring_ready"/><action application="sleep" data="60000"/></condition></extension>
      <extension name="disk"><condition field="destination_number" expression="^(disk|9.*)$">
        <action application="set" data="from_disk=true"/><action application="answer"/>
        <action application="sleep" data="60000"/></condition></extension>
    </context>
    <context name="public">
      <extension name="public"><condition field="destination_number" expression="^(.*)$">
        <action application="set" data="from_disk=true"/><action application="answer"/>
        <action application="sleep" data="60000"/></condition></extension>
    </context>
  </section>
</document>
"""

SOFIA = """    <configuration name="sofia.conf"><profiles><profile name="test">{gateways}<settings>
      <param name="sip-ip" value="127.0.0.1"/><param name="rtp-ip" value="127.0.0.1"/>
      <param name="sip-port" value="{sip_port}"/><param name="context" value="public"/>
      <param name="auth-calls" value="false"/><param name="dialplan" value="XML"/>
      <param name="inbound-codec-prefs" value="PCMU"/><param name="outbound-codec-prefs" value="PCMU"/>
      {more}
    </settings></profile></profiles></configuration>"""

ROOT = Path(__file__).resolve().parent.parent.parent
GROUP = "239.255.0.7"
# What these modules do not load without.
LEAST = {
    "mod_event_multicast": re.sub(
        "<!--.*?-->", "", (ROOT / "etc" / "freeswitch" / "event_multicast.conf.xml").read_text(), flags=re.DOTALL
    ),
    "mod_fifo": '    <configuration name="fifo.conf"><settings/><fifos/></configuration>',
    "mod_hash": '    <configuration name="hash.conf"><remotes/></configuration>',
    "mod_lua": '    <configuration name="lua.conf"><settings/></configuration>',
    "mod_cdr_csv": """    <configuration name="cdr_csv.conf"><settings>
      <param name="legs" value="ab"/><param name="default-template" value="all"/></settings><templates>
      <template name="all">"${uuid}","${start_uepoch}","${progress_uepoch}","${progress_media_uepoch}",\
"${answer_uepoch}","${bridge_uepoch}","${end_uepoch}","${mduration}","${billmsec}","${hangup_cause}",\
"${caller_id_number}","${destination_number}","${context}","${direction}"</template></templates></configuration>""",
    "mod_conference": """    <configuration name="conference.conf"><profiles><profile name="default">
      <param name="rate" value="8000"/><param name="interval" value="20"/></profile></profiles></configuration>""",
}


def _params(params: dict[str, str]) -> str:
    return "".join(f'<param name="{name}" value="{value}"/>' for name, value in params.items())


def _gateways(gateways: dict[str, dict[str, str]]) -> str:
    each = (f'<gateway name="{name}">{_params(params)}</gateway>' for name, params in gateways.items())
    return f"<gateways>{''.join(each)}</gateways>" if gateways else ""


def _event_agent_conf(params: dict[str, str]) -> str:
    return f'    <configuration name="event_agent.conf"><settings>{_params(params)}</settings></configuration>'


def binary() -> str | None:
    """The FreeSWITCH that FREESWITCH_BIN or PATH names, None where there is none."""
    return os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")


class RealSwitch:
    """One FreeSWITCH process; `start` returns when its event socket greets."""

    def __init__(
        self,
        *,
        password: str = "ClueCon",
        dialplan_url: str = "",
        curl_timeout: int = 2,
        music: str = "",
        sip_port: int = 0,
        deny: bool = False,
        port: int = 0,
        mod_event_agent: dict[str, str] | None = None,
        modules: tuple[str, ...] = (),
        sofia: dict[str, str] | None = None,
        rtp: tuple[int, int] | None = None,
        gateways: dict[str, dict[str, str]] | None = None,
        configuration: str = CONFIGURATION,
    ) -> None:
        """`mod_event_agent`: params for the C module of that name, loaded by the test that wants it.

        `modules`: more of them, each with the least configuration with which it loads. `sofia`: further params of the
        SIP profile. `rtp`: the first and the last port for audio, if 100 are not enough. `gateways`: of that profile,
        each with its params. `configuration`: the whole of it, with places to fill in.
        """
        found = binary()
        if found is None:
            raise RuntimeError("no FreeSWITCH: FREESWITCH_BIN and PATH name none")
        self.binary = found
        self.port = port or free_port()
        self.password = password
        self.folder = Path(tempfile.mkdtemp(prefix="event-agent-fs-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._fields = {
            "dialplan_url": dialplan_url, "curl_timeout": curl_timeout, "music": music, "sip_port": sip_port,
            "deny": deny,
        }  # fmt: skip
        self._module = mod_event_agent
        self._modules = modules
        self._configuration = configuration
        self._sofia = sofia or {}
        self._gateways = gateways or {}
        start = 20000 + (self.port % 200) * 100
        self._rtp = rtp or (start, start + 99)

    def _write(self) -> None:
        url = self._fields["dialplan_url"]
        first = [name for name in self._modules if name == "mod_event_multicast"]  # as etc/freeswitch says
        modules = [*first, *MODULES, *(["mod_sofia"] if self._fields["sip_port"] else []), *self._modules]
        modules = list(dict.fromkeys(modules))
        for name in ("conf", "log", "run", "db", "storage", "sounds"):
            (self.folder / name).mkdir(exist_ok=True)
        text = self._configuration.format(
            modules="\n".join(f'      <load module="{name}"/>' for name in modules),
            port=self.port,
            password=self.password,
            folder=self.folder,
            rtp_start=self._rtp[0],
            rtp_end=self._rtp[1],
            acl='      <param name="apply-inbound-acl" value="nobody"/>' if self._fields["deny"] else "",
            binding=(
                f'      <binding name="event-agent"><param name="gateway-url" value="{url}" bindings="dialplan"/>'
                f'<param name="timeout" value="{self._fields["curl_timeout"]}"/></binding>'
                if url
                else ""
            ),
            music=(
                f'      <directory name="moh" path="{self._fields["music"]}"><param name="rate" value="8000"/>'
                '<param name="timer-name" value="soft"/></directory>'
                if self._fields["music"]
                else ""
            ),
            sofia=(
                SOFIA.format(
                    sip_port=self._fields["sip_port"], more=_params(self._sofia), gateways=_gateways(self._gateways)
                )
                if self._fields["sip_port"]
                else ""
            ),
            module="\n".join([
                *([] if self._module is None else [_event_agent_conf(self._module)]),
                # the group's port is that of the event socket, so that two of them do not ring each other's bells
                *(LEAST[name].replace('"4242"', f'"{self.port}"') for name in self._modules if name in LEAST),
            ]),
        )  # fmt: skip
        (self.folder / "conf" / "freeswitch.xml").write_text(text)

    def start(self, timeout: float = 90.0) -> RealSwitch:
        """Start it and wait for the greeting of its event socket; RuntimeError after `timeout` seconds."""
        self._write()
        folder = str(self.folder)
        with open(self.folder / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                [
                    self.binary, "-nf", "-nonat", "-nonatmap", "-np",
                    "-conf", f"{folder}/conf", "-log", f"{folder}/log", "-run", f"{folder}/run",
                    "-db", f"{folder}/db", "-storage", f"{folder}/storage", "-sounds", f"{folder}/sounds",
                ],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.folder / "console.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"FreeSWITCH did not come up:\n{tail}")
            time.sleep(0.1)
        return self

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(2)
                greeting = probe.recv(256)
                if self._fields["deny"]:
                    return b"rude-rejection" in greeting
                probe.sendall(f"auth {self.password}\n\napi fsctl ready_check\n\nexit\n\n".encode())
                answer = b""
                while chunk := probe.recv(4096):
                    answer += chunk
                return b"\n\ntrue" in answer
        except OSError:
            return False

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; `start` may be called again, on the same port."""
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RealSwitch:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
