"""Park mode with real FreeSWITCH: the agent, the broker and FreeSWITCH away, keys, bindings, many calls."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

from event_agent.dialplan.answers import NOT_FOUND
from tests.functional import real_switch
from tests.functional.park_parts import (
    SCENARIO,
    House,
    enable,
    needs_freeswitch,
    needs_sipp,
    parked_leg,
    status,
)
from tests.functional.parts import ROOT, Agent, Client, EventSocket, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until

pytestmark = needs_freeswitch


@needs_sipp
def test_the_agent_is_killed_while_calls_are_parked(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client, "music", True)
    leg, caller, _ = parked_leg(client, "7500", lambda: house.call("7500"))
    until(lambda: caller.hear(0.3)[1], "the music plays", holds=lambda loud: loud > -40)
    agent.kill()
    caller.drain()
    packets, loud = caller.hear(1.0)
    assert packets > 25 and loud > -40  # 50 come in a second: the caller notices nothing
    late = house.call("7501")
    second = house.agent()
    until(lambda: status(client)["calls_parked"] == 1, "it is found")
    fields = status(client)
    assert fields | {"mode": "park", "audio": "music", "auto_answer": True, "calls_parked_total": 1} == fields
    until(lambda: "7501" in client.request("show", "channels")["data"], "7501 came while nobody was there")
    caller.drain()
    until(lambda: caller.hear(0.5)[1], "the music still plays", holds=lambda loud: loud > -40)
    client.request("uuid_transfer", f"{leg} disk XML default")
    until(lambda: status(client)["calls_parked"] == 0, "it is no longer parked")
    client.request("hupall")
    assert caller.ended_well() and late.ended_well()
    assert second.stop() == 0


@needs_sipp
def test_a_call_parked_in_silence_by_a_dead_agent_gets_its_audio_from_the_next(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client, "silence", True)
    _, caller, _ = parked_leg(client, "7600", lambda: house.call("7600"))
    client.request("dialplan.disable")
    agent.kill()
    state = house.folder / "dialplan.json"
    state.write_text(state.read_text().replace('"silence"', '"ringback"'))
    house.agent()
    until(lambda: status(client)["calls_parked"] == 1, "it is found, with park mode off too")
    time.sleep(0.3)  # the first packets may be silent
    caller.drain()
    assert caller.hear(0.5)[1] > -40


def test_events_that_are_not_published_are_followed(house: House, client: Client) -> None:
    house.agent(exclude="CHANNEL_PARK,CHANNEL_UNPARK,API")
    events = client.events()
    enable(client)
    client.request("bgapi", "originate loopback/7700/default &park()")
    until(lambda: status(client)["calls_parked"] == 1, "it is parked")
    until(lambda: events.named("PLAYBACK_START"), "it is heard")
    client.request("hupall")
    until(lambda: status(client)["calls_parked"] == 0, "it has gone")
    assert not events.named("CHANNEL_PARK") and not events.named("CHANNEL_UNPARK")


def test_freeswitch_is_restarted(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client)
    for number in range(3):
        client.request("bgapi", f"originate loopback/78{number}/default &park()")
    until(lambda: status(client)["calls_parked"] == 3, "three are parked")
    house.switch.kill()
    agent.logged("FreeSWITCH is unreachable")
    house.switch.start()
    agent.logged("FreeSWITCH events: subscribed", 2)
    until(lambda: status(client)["calls_parked"] == 0, "nobody is parked")
    until(lambda: client.request("agent.status")["data"]["dialplan"]["binding"] == "ok", "it is bound again")
    client.request("bgapi", "originate loopback/7809/default &park()")
    until(lambda: status(client)["calls_parked"] == 1, "park mode goes on")


@needs_sipp
def test_the_agent_is_frozen(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client)
    agent.signal(signal.SIGSTOP)
    events = EventSocket(house.switch.port)
    started = time.monotonic()
    house.call("8600")
    until(lambda: events.api("show channels"), "from disk", 30,
          holds=lambda found: "8600" in found and "sleep" in found)  # fmt: skip
    took = time.monotonic() - started
    print(f"\na frozen agent holds a call for {took:.1f} s, with a timeout of 2 s")
    assert 1.9 < took < 20
    agent.signal(signal.SIGCONT)
    until(lambda: status(client)["calls_missed"] == 1, "it is counted")
    assert status(client)["calls_intercepted"] == 0
    assert len(agent.logged("calls go past park mode, 1 so far")) == 1
    parked_leg(client, "8601", lambda: house.call("8601"))
    assert status(client) | {"calls_intercepted": 1, "calls_missed": 1} == status(client)
    events.close()


@needs_sipp
def test_the_broker_is_away(house: House, own_nats: NatsServer) -> None:
    agent = Agent(url=own_nats.url, esl_port=str(house.switch.port), http_listen=f"127.0.0.1:{house.port}")
    house.agents.append(agent)
    agent.start()
    client = Client(own_nats.url)
    enable(client, "ringback", True)
    client.close()
    own_nats.kill()
    agent.logged("NATS lost")
    caller = house.call("8700")
    until(lambda: caller.hear(0.3)[1] > -40, "it is parked, and hears it")
    own_nats.start()
    agent.logged("NATS connected", 2)
    client = Client(own_nats.url)
    assert status(client)["calls_parked"] == 1
    client.close()


def test_the_files_to_copy(tmp_path: Path, nats: NatsServer, client: Client) -> None:
    """etc/freeswitch as it stands, but for its ports, in a real FreeSWITCH."""
    listen = free_port()
    files = []
    for name in ("event_socket", "xml_curl"):
        text = (ROOT / "etc" / "freeswitch" / f"{name}.conf.xml").read_text().replace(":8092/", f":{listen}/")
        (tmp_path / f"{name}.xml").write_text(text.replace('"8021"', '"{port}"'))
        files.append(f'<X-PRE-PROCESS cmd="include" data="{tmp_path}/{name}.xml"/>')
    text = real_switch.CONFIGURATION
    for name in ("event_socket", "xml_curl"):
        text = re.sub(rf'<configuration name="{name}.conf">.*?</configuration>', "", text, flags=re.DOTALL)
    before = '<configuration name="acl.conf">'
    text = text.replace(before, "\n".join(("", *files, before)))
    switch = RealSwitch(configuration=text)
    path = tmp_path / "event_socket.xml"
    path.write_text(path.read_text().replace("{port}", str(switch.port)))
    # The files have KEY where the key goes.
    agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{listen}", dialplan_key="KEY")
    with switch:
        try:
            agent.start()
            enable(client)
            agent.logged("mod_xml_curl asks here")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
        finally:
            agent.remove()


def test_only_questions_that_bear_the_key_are_answered(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    listen = free_port()
    settings = {"http_listen": f"127.0.0.1:{listen}", "dialplan_key": "auto", "state_dir": str(tmp_path)}
    url = f"http://127.0.0.1:{listen}/dialplan"
    with RealSwitch(dialplan_url=url) as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            agent.logged("questions without the right key were refused")
            found = client.request("agent.status")["data"]["dialplan"]
            key = (tmp_path / "dialplan.key").read_text().strip()
            assert f'value="{url}?key={key}"' in found["add"] and found["questions_refused"] >= 1
            assert (tmp_path / "dialplan.key").stat().st_mode & 0o777 == 0o600
            assert not client.request("originate", endpoint="loopback/7000/default", destination="&park")["success"]
            assert status(client)["calls_parked_total"] == 0
            assert key not in agent.log
        finally:
            agent.remove()
    with RealSwitch(dialplan_url=f"{url}?key={key}") as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            agent.logged("mod_xml_curl asks here")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
        finally:
            agent.remove()


def test_a_binding_of_the_time_before_keys_goes_on_working_until_it_has_the_key(
    nats: NatsServer, client: Client, tmp_path: Path
) -> None:
    """As after an upgrade from 1.0.0 with its configuration file untouched."""
    listen = free_port()
    (tmp_path / "dialplan.json").write_text(json.dumps({  # as 1.0.0 wrote it
        "version": 1, "enabled": True, "contexts": [], "number": "", "audio": "ringback", "music_class": "",
        "autoanswer": False,
    }))  # fmt: skip
    settings = {"http_listen": f"127.0.0.1:{listen}", "dialplan_key": "auto", "state_dir": str(tmp_path)}
    url = f"http://127.0.0.1:{listen}/dialplan"
    with RealSwitch(dialplan_url=url) as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            agent.logged("mod_xml_curl asks here")
            agent.logged("park mode was in use before there was a dialplan_key")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
            assert status(client)["key"] == "optional"
            key = (tmp_path / "dialplan.key").read_text().strip()
            assert f'value="{url}?key={key}"' in client.request("agent.status")["data"]["dialplan"]["add"]
            assert key not in agent.log
        finally:
            agent.remove()
    for address, taken in ((f"{url}?key={key}", True), (url, False)):
        with RealSwitch(dialplan_url=address) as switch:
            agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
            try:
                agent.start()
                agent.logged("mod_xml_curl asks here" if taken else "questions without the right key were refused")
                until(lambda: status(client)["key"] == "required", "it has asked with the key")
                if taken:
                    client.request("bgapi", "originate loopback/7000/default &park()")
                    until(lambda: status(client)["calls_parked"] == 1, "it is parked")
            finally:
                agent.remove()


def test_a_switch_without_a_binding_is_named(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    with RealSwitch() as switch:  # without bindings the module does not load at all
        agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{free_port()}")
        try:
            agent.start()
            enable(client)
            agent.logged("no module mod_xml_curl")
            assert "load mod_xml_curl" in client.request("agent.status")["data"]["dialplan"]["add"]
        finally:
            agent.remove()
    with RealSwitch(dialplan_url="http://127.0.0.1:9/elsewhere") as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{free_port()}")
        try:
            agent.start()
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            assert 'bindings="dialplan"' in client.request("agent.status")["data"]["dialplan"]["add"]
        finally:
            agent.remove()


class Strangers(ThreadingHTTPServer):
    """Somebody else's server for mod_xml_curl; it keeps what it is asked."""

    def __init__(self) -> None:
        asked = self.asked = list[dict[str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked.append(dict(parse_qsl(body, keep_blank_values=True)))
                self.send_response(200)
                self.send_header("Content-Length", str(len(NOT_FOUND)))
                self.end_headers()
                self.wfile.write(NOT_FOUND)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever, name="strangers", daemon=True)
        self._thread.start()

    def server_close(self) -> None:
        self.shutdown()
        self._thread.join(10)
        super().server_close()


def test_nothing_is_asked_until_park_mode_is_used(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    settings = {"http_listen": f"127.0.0.1:{free_port()}", "state_dir": str(tmp_path)}
    with Strangers() as server, RealSwitch(dialplan_url=f"http://127.0.0.1:{server.server_port}/") as switch:
        calls = EventSocket(switch.port)
        for number in range(20):
            calls.api(f"bgapi originate loopback/9{number}/default &park()")
        until(lambda: calls.api("show channels count").strip().startswith("40 total"), "the calls are there", 20)
        calls.close()
        before = len(server.asked)
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            with RawEvents(switch.port, switch.password, "event json API") as witness:
                agent.start()
                for _ in range(5):
                    part = client.request("agent.status")["data"]["dialplan"]
                    assert part["binding"] == "unknown" and 'bindings="dialplan"' in part["add"]
                    time.sleep(1)  # nothing is to come: some of the looks for parked calls were made by a clock
                client.request("echo", "last")
                until(lambda: [each for each in witness.events if each["API-Command"] == "echo"], "all is here")
                verbs = {str(event["API-Command"]) for event in witness.events}
                assert not verbs & {"uuid_dump", "module_exists", "xml_locate"} and len(server.asked) == before
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            until(lambda: [each for each in server.asked[before:] if each["tag_name"] == "event-agent"], "it was asked")
        finally:
            agent.remove()


def originate_many(client: Client, number: str, count: int, rate: float) -> float:
    """Calls at a steady rate; seconds until all of them run an application, from the last one on."""
    events = client.events("freeswitch.events.channel.execute")
    started = time.monotonic()
    for at in range(count):
        time.sleep(max(0.0, started + at / rate - time.monotonic()))  # the load's pace
        client.publish("freeswitch.api", json.dumps(
            {"command": "bgapi", "args": f"originate loopback/{number}/default &park()", "async": True}
        ).encode())  # fmt: skip
    last = time.monotonic()

    def running() -> int:
        return len({e["uuid"] for e in events.parsed() if e["headers"].get("Call-Direction") == "inbound"})

    until(lambda: running() >= count, f"{count} calls run", 30)
    return time.monotonic() - last


def test_a_hundred_calls_a_second(house: House, client: Client) -> None:
    house.agent(exclude="API,BACKGROUND_JOB")
    off = originate_many(client, "9001", 200, 100)
    client.request("hupall")
    until(lambda: client.request("show", "channels count")["data"].strip().startswith("0 total"), "all ended")
    enable(client, "silence", number="^9")
    parked = originate_many(client, "9002", 200, 100)
    until(lambda: status(client)["calls_parked"] == 200, "all are parked")
    assert status(client)["calls_intercepted"] == 200
    client.request("hupall")
    until(lambda: status(client)["calls_parked"] == 0, "none is parked")
    print(f"\nthe last of 200 calls runs after {off * 1000:.0f} ms with park mode off, {parked * 1000:.0f} ms on")
    assert parked < 2


@needs_sipp
def test_no_call_fails_while_the_agent_is_killed_and_started(house: House, client: Client) -> None:
    agent = house.agent(exclude="API,BACKGROUND_JOB")
    enable(client, "silence", True)
    stop = threading.Event()

    def turn() -> None:
        nonlocal agent
        while not stop.is_set():
            agent.kill()
            agent = house.agent(exclude="API,BACKGROUND_JOB")
            stop.wait(0.3)

    # Answered and hung up by FreeSWITCH after a while, parked or not.
    killer = threading.Thread(target=turn, name="test-killer", daemon=True)
    killer.start()
    scenario = house.folder / "many.xml"
    scenario.write_text(SCENARIO.replace("MEDIA", "6000"))
    calls = subprocess.Popen(
        ["sipp", f"127.0.0.1:{house.sip}", "-sf", str(scenario), "-s", "7900", "-i", "127.0.0.1", "-p",
         str(free_port()), "-m", "45", "-l", "45", "-r", "9", "-nostdin", "-recv_timeout", "60000", "-trace_stat",
         "-stf", str(house.folder / "many.csv")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=house.folder,
    )  # fmt: skip
    time.sleep(6)  # how long the agents are killed again and again
    stop.set()
    killer.join(30)
    until(lambda: status(client)["mode"] == "park", "the last agent is there")
    found = client.request("show", "channels count")["data"]
    assert re.search(r"\b45 total", found), found  # its RTP ports are enough for 50
    parked = status(client)["calls_parked"]
    client.request("hupall")
    assert calls.wait(20) == 0  # sipp: every call was answered, and ended as it should
    print(f"\n45 calls, {parked} parked, {45 - parked} by FreeSWITCH's own dialplan, none failed")
