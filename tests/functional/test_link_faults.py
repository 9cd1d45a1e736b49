"""The torture of both links: faults upon faults under a load of which everything is accounted for."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional.conftest import Switch
from tests.functional.load import Account, Load
from tests.functional.parts import SCALE, Agent, Client, Events, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim

Start = Callable[..., Agent]
AnySwitch = RealSwitch | SwitchSim
Clients = Callable[..., Client]


@pytest.fixture
def load() -> Iterator[Callable[..., Load]]:
    """Starts loads that end with the test."""
    loads: list[Load] = []

    def make(*arguments: Any, **options: Any) -> Load:
        loads.append(Load(*arguments, **options).start())
        return loads[-1]

    yield make
    for each in loads:
        each.stop()


Loads = Callable[..., Load]


def check(found: Account, agent: Agent) -> None:
    """Nothing is lost in silence but requests on their way to the agent."""
    answered = found.good + found.bad
    assert answered + found.unconfirmed + found.dropped >= found.received, f"replies are missing: {found}"
    assert found.unseen is not None
    missing = found.fired - found.came - found.dropped - found.unconfirmed - found.unseen
    # An announcement may be among the messages that are counted as lost, and with it its figure.
    untold = len(agent.logged("FreeSWITCH events: subscribed")) - 1 - found.told
    assert missing <= 0 or 0 < untold <= found.dropped + found.unconfirmed, f"events are missing: {found}, {untold}"


def grown(agent: Agent, before: float) -> float:
    """Megabytes since then."""
    return agent.memory() - before


def test_faults_of_both_links_upon_one_another(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, load: Loads
) -> None:
    """Cut, stalled, trickling, delayed, refused, and the agent stopped for a moment: in any order, for a while."""
    rng = random.Random(11)
    with Proxy(nats.port) as broker, Proxy(switch.port) as event_socket:
        agent = start_agent(
            nats, event_socket, url=broker.url, subject_prefix="torture", command_timeout="3", reconnect_wait="0.05",
            ping_interval="0.5", workers="2",
        )  # fmt: skip
        threads = len(_lasting(agent))
        running = load(connect(nats.url), switch, "torture")
        until(lambda: running.numbers()[20:] and len(running.replies()) > 10, "the load runs")
        memory = agent.memory()

        def stalled(proxy: Proxy) -> None:
            proxy.stall()
            time.sleep(rng.uniform(0.1, 1.5))  # the fault lasts so long
            proxy.stall(False)

        def trickling(proxy: Proxy) -> None:
            proxy.trickle = True
            time.sleep(0.5)  # the fault lasts so long
            proxy.trickle = False

        def delayed(proxy: Proxy) -> None:
            proxy.delay = rng.uniform(0.01, 0.2)
            time.sleep(0.5)  # the fault lasts so long
            proxy.delay = 0.0

        def refused(proxy: Proxy) -> None:
            proxy.refusing = True
            proxy.cut()
            time.sleep(rng.uniform(0.1, 0.6))  # the fault lasts so long
            proxy.refusing = False

        def stopped(_: Proxy) -> None:
            agent.signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.1, 0.8))  # the fault lasts so long
            agent.signal(signal.SIGCONT)

        for number in range(16 * SCALE):
            fault = [Proxy.cut, stalled, trickling, delayed, refused, stopped, Proxy.cut, refused][number % 8]
            fault(rng.choice([broker, event_socket]))
            time.sleep(rng.uniform(0.0, 0.4))  # until the next fault
        running.mended = time.monotonic()
        running.back_after()
        until(lambda: running.status()["freeswitch"]["events"], "events again", 30)
        found = running.account()
        check(found, agent)
        assert found.good > 20 and found.came > 50, found
        until(lambda: len(_lasting(agent, 2)) <= threads + 1, lambda: f"no thread is left: {agent.threads()}", 20)
        assert grown(agent, memory) < 8 + SCALE
        assert agent.stop() == 0


def test_a_blackhole_on_either_side(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, load: Loads
) -> None:
    """Connections that stay open and on which nothing comes and nothing goes: half-open ones."""
    with Proxy(nats.port) as broker, Proxy(switch.port) as event_socket:
        agent = start_agent(
            nats, event_socket, url=broker.url, subject_prefix="hole", command_timeout="2", ping_interval="0.5",
            reconnect_wait="0.1",
        )  # fmt: skip
        running = load(connect(nats.url), switch, "hole")
        until(lambda: running.numbers()[10:], "the load runs")
        event_socket.stall()
        (line,) = agent.logged("FreeSWITCH is unreachable", timeout=20)
        cpu, began = agent.cpu(), time.monotonic()
        until(lambda: agent.threads() and time.monotonic() - began > 2, "it waits")
        assert (agent.cpu() - cpu) / (time.monotonic() - began) < 0.2, "it waits without work"
        event_socket.drop()
        agent.logged("FreeSWITCH connected", 2, timeout=30)
        until(lambda: _told(running), "the loss and the return are told", 30)
        broker.stall()
        agent.logged("NATS lost: the server did not answer a PING within")
        broker.drop()
        agent.logged("NATS connected", 2)
        running.mended = time.monotonic()
        running.back_after()
        found = running.account()
        check(found, agent)
        assert found.bad > 0, "what was under way at the switch was answered with an error"


def of_the_link(events: Events) -> list[dict[str, Any]]:
    """What was said of the link to the switch."""
    return [event for event in events.parsed() if event["event_name"] in ("AGENT_CONNECTED", "AGENT_DISCONNECTED")]


def _told(running: Load) -> bool:
    """The last that was said of the link to the switch is that it is back."""
    names = [event["event_name"] for event in of_the_link(running.events)]
    return names[-2:] == ["AGENT_DISCONNECTED", "AGENT_CONNECTED"]


def test_a_broker_that_restarts_each_second(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients
) -> None:
    """The log has a few lines, the agent its few threads, and the events that waited come."""
    agent = start_agent(own_nats, switch)
    threads, memory = len(_lasting(agent)), agent.memory()
    deadline, restarts = time.monotonic() + 15 * SCALE, 0
    while time.monotonic() < deadline:
        own_nats.kill()
        time.sleep(0.5)  # how long it is away
        own_nats.start()
        time.sleep(0.5)  # how long it is there
        restarts += 1
    client = connect(own_nats.url)
    until(lambda: _answers(client), "an answer", 20)
    lines = [line for line in agent.log.splitlines() if "NATS" in line]
    assert restarts >= 8 and len(lines) <= 2 + 4 * min(restarts, 4 + SCALE * 3), "\n".join(lines)
    until(lambda: len(_lasting(agent)) <= threads + 1, lambda: f"its few threads: {agent.threads()}")
    assert grown(agent, memory) < 6


def _lasting(agent: Agent, workers: int = 8) -> list[str]:
    """Its threads but for the workers, which come when they are needed, some maybe a moment after the start.

    `workers`: the setting. There are twice as many at most.
    """
    names = agent.threads()
    lasting = [each for each in names if not each.startswith("esl-worker")]
    assert len(names) - len(lasting) <= 2 * workers, names
    return lasting


def _answers(client: Client) -> bool:
    try:
        return bool(client.request("version", _timeout=1)["success"])
    except Exception:
        return False


def test_a_switch_that_restarts_again_and_again(
    nats: NatsServer, own_switch: AnySwitch, start_agent: Start, connect: Clients
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="flap")
    client = connect(nats.url)
    events = client.events("flap.events.agent.>")
    threads, memory = len(_lasting(agent)), agent.memory()
    deadline, restarts = time.monotonic() + 15 * SCALE, 0
    while time.monotonic() < deadline:
        own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
        time.sleep(0.3)  # how long it is away
        own_switch.start()
        time.sleep(0.7)  # how long it is there
        restarts += 1
    until(lambda: client.request("version", None, "flap.api")["success"], "an answer", 30)
    until(lambda: client.request("agent.status", None, "flap.api")["data"]["freeswitch"]["events"], "events", 30)
    lines = [line for line in agent.log.splitlines() if "FreeSWITCH" in line]
    assert restarts >= 3 and len(lines) <= 2 + 5 * restarts, "\n".join(lines)
    until(lambda: len(_lasting(agent)) <= threads + 1, lambda: f"no thread is left: {agent.threads()}", 30)
    assert grown(agent, memory) < 6
    until(lambda: of_the_link(events)[-1]["event_name"] == "AGENT_CONNECTED", "told that it is back")
    names = [event["event_name"] for event in of_the_link(events)]
    assert all(one != other for one, other in zip(names, names[1:], strict=False)), "each is told once, in turn"


def test_the_agent_itself_stopped_for_ten_seconds(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, load: Loads
) -> None:
    """A machine that was paused: what came meanwhile is done, and that events are late is said."""
    agent = start_agent(own_nats, switch, subject_prefix="paused", exclude="API")
    running = load(connect(own_nats.url), switch, "paused", padding=20000)
    until(lambda: running.numbers()[10:], "the load runs")
    agent.signal(signal.SIGSTOP)
    time.sleep(10)  # the fault itself
    agent.signal(signal.SIGCONT)
    running.mended = time.monotonic()
    running.back_after()
    agent.logged("events are .* s behind FreeSWITCH")
    agent.logged("events are up to date again")
    found = running.account()
    check_whole(found)
    assert len(agent.logged("NATS connected")) == len(agent.logged("FreeSWITCH connected")) == 1


def check_whole(found: Account) -> None:
    """Nothing is lost at all."""
    assert (found.good, found.came) == (found.asked, found.fired), found


def test_a_broker_to_which_we_are_too_slow(
    switch: Switch, start_agent: Start, connect: Clients, load: Loads
) -> None:
    """It closes the link, and the log tells that from a broker that just goes."""
    server = NatsServer(config='write_deadline: "500ms"\nmax_payload: 500000\nmax_pending: 1000000\n').start()
    try:
        agent = start_agent(server, switch, subject_prefix="slow")
        client = connect(server.url)
        payload = b'{"command":"version","async":true,"filler":"%b"}' % (b"x" * 60000)
        for lost in range(1, 6):  # how much waits to be read when the link is reset is the kernel's choice
            for _ in range(20):  # the kernel gives a connection a large buffer when it has been read much
                for _ in range(5):
                    client.publish("slow.api", payload)
                assert client.request("version", None, "slow.api")["success"] is True
            before = server.log.count("Slow Consumer")
            agent.signal(signal.SIGSTOP)
            for _ in range(200):
                client.publish("slow.api", payload)
            until(
                lambda before=before: server.log.count("Slow Consumer") > before,  # type: ignore[misc]
                "the server closes the link",
            )
            agent.signal(signal.SIGCONT)
            agent.logged("NATS lost: ", lost)
            agent.logged("NATS connected", 1 + lost)
            if "too slow for it" in agent.log:
                break
        agent.logged(r"NATS lost: .*too slow for it")
        assert client.request("version", None, "slow.api")["success"] is True
        ends = len(agent.logged("NATS lost: "))
        server.signal(signal.SIGTERM)
        # A reset, if the server had not read all that we sent (RFC 1122, 4.2.2.13).
        assert "too slow" not in agent.logged("NATS lost: (the server closed the conn|Connection reset)", ends + 1)[-1]
    finally:
        server.stop()


def test_a_broker_that_takes_no_further_connection(switch: Switch, start_agent: Start) -> None:
    server = NatsServer(config="max_connections: 1\n").start()
    first = Client(server.url)
    try:
        agent = start_agent(server, switch, ready=False, reconnect_wait="0.1")
        agent.logged("(?i)NATS at .*maximum connections exceeded; retrying")
        time.sleep(1)  # it has tried again meanwhile
    finally:
        first.close()
    try:
        agent.logged("NATS connected")
        assert len(agent.logged("NATS at .*; retrying")) == 1
    finally:
        server.stop()


def test_a_broker_that_comes_back_with_another_max_payload(
    switch: Switch, start_agent: Start, connect: Clients
) -> None:
    """What waits and is too large for it is dropped and counted: sent, it would end the link, again and again."""
    server = NatsServer(config="max_payload: 500000\n").start()
    try:
        agent = start_agent(server, switch, include="load::n", reconnect_wait="0.1")
        server.kill()
        agent.logged("NATS lost")
        with RawEvents(switch.port, switch.password) as raw:
            for number, size in enumerate((10, 30000, 10, 30000, 30000, 10)):
                raw.command(f"sendevent CUSTOM\nEvent-Subclass: load::n\nX-N: {number}\nX-L: {'x' * size}\n")
        server.config = "max_payload: 20000\n"
        time.sleep(0.5)  # the last of them is in the agent's buffer
        watcher = NatsServer(config=server.config, port=server.port).start()
        try:
            agent.logged("3 messages are larger than this NATS server takes")
            data = connect(server.url).request("agent.status")["data"]
            assert data["nats"]["messages_dropped"] == 3
            assert data["nats"]["messages_unconfirmed"] <= 1, "the announcement of the start, and nothing since"
            reply = connect(server.url).request("echo", "x" * 19900)
            assert reply["message"].startswith("Reply too large")
            assert len(agent.logged("NATS connected")) == 2, "the link was cut"
        finally:
            watcher.stop()
    finally:
        server.stop()


def test_a_login_that_is_withdrawn(switch: Switch, start_agent: Start, connect: Clients) -> None:
    """The broker ends the link because of our authorization, and the log says that."""
    users = 'authorization {{ users = [ {{user: other, password: other}}, {{user: {0}, password: {0}}} ] }}\n'
    server = NatsServer(config=users.format("agent")).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:agent@127.0.0.1:{server.port}", reconnect_wait="0.1")
        (server.folder / "conf").write_text(users.format("gone"))

        def sent_away() -> bool:
            server.signal(signal.SIGHUP)  # again: one that came too early does nothing
            time.sleep(0.3)  # until it is asked for again
            return "NATS lost: the server closed the connection" in agent.log  # it says no more to whom it sends away

        until(sent_away, "sent away", 15.0)
        agent.logged("(?i)NATS at .*authorization violation.*; retrying")
        time.sleep(0.5)  # it has tried again meanwhile
        assert len(agent.logged("(?i)authorization violation")) == 1
        (server.folder / "conf").write_text(users.format("agent"))
        server.signal(signal.SIGHUP)
        agent.logged("NATS connected", 2)
        assert connect(server.url, user="other", password="other").request("version")["success"] is True
    finally:
        server.stop()


def test_what_we_may_not_publish_is_said_with_its_subject(
    switch: Switch, start_agent: Start, connect: Clients
) -> None:
    """Once for each subject, however many events go there; they are counted, and the link goes on."""
    config = """authorization { users = [
        {user: agent, password: agent, permissions: {subscribe: ">", publish: {deny: "freeswitch.events.custom.>"}}},
        {user: all, password: all} ] }\n"""
    server = NatsServer(config=config).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:agent@127.0.0.1:{server.port}", include="load::n")
        with RawEvents(switch.port, switch.password) as raw:
            for number in range(50):
                raw.command(f"sendevent CUSTOM\nEvent-Subclass: load::n\nX-N: {number}\n")
        agent.logged('Permissions Violation for Publish to "freeswitch.events.custom.load.n"')
        client = connect(server.url, user="all", password="all")
        until(lambda: client.request("agent.status")["data"]["nats"]["messages_refused"] >= 50, "counted")
        assert len(agent.logged("Permissions Violation")) == 1 and len(agent.logged("NATS connected")) == 1
    finally:
        server.stop()


def test_sixteen_servers_of_which_one_lives(nats: NatsServer, switch: Switch, start_agent: Start) -> None:
    urls = [f"nats://127.0.0.1:{free_port()}" for _ in range(14)]
    urls += [f"nats://no-such-host.invalid:{nats.port}", nats.url]
    agent = start_agent(nats, switch, ready=False, url=" , ".join(urls), subject_prefix="sixteen")
    agent.logged(r"NATS configured with 16 servers \(cluster failover\)")
    agent.logged("NATS connected")
    assert len(agent.logged("NATS at .*Connection refused; retrying")) == 1
    assert len(agent.logged("NATS at nats://no-such-host.invalid:.*; retrying")) == 1


def test_a_wait_for_the_next_try_ends_with_the_agent(switch: Switch, start_agent: Start) -> None:
    agent = start_agent(NatsServer(), switch, ready=False, reconnect_wait="3600")
    agent.logged("NATS at .* retrying")
    assert agent.stop() == 0


def test_what_is_no_request_but_a_status(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    """A `no responders` that comes in on a command lane is nobody's command, and no reason to end."""
    agent = start_agent(nats, switch, subject_prefix="status")
    got = client.gather("status.answer")
    client.publish("status.nobody.there", b"{}", reply="status.api")  # the server says 503 to our lane
    client.run(client.nc.publish("status.api", b"", reply="status.answer", headers={"Status": "503"}))
    until(lambda: got, "the empty one is answered as such")
    assert json.loads(got[0].data)["message"].startswith("Empty payload")
    assert got[0].headers and got[0].headers["Nats-Service-Error"].startswith("Empty payload")
    assert client.request("version", None, "status.api")["success"] is True
    assert len(agent.logged("NATS connected")) == 1


def test_a_reply_too_large_is_forwarded_as_it_is(switch: Switch, start_agent: Start, connect: Clients) -> None:
    server = NatsServer(config="max_payload: 2000\n").start()
    try:
        agent = start_agent(server, switch)
        client = connect(server.url)
        copies = client.gather("copies")
        message = client.raw("freeswitch.api", json.dumps(
            {"command": "echo", "args": "x" * 1900, "forward_to": "copies"}).encode())  # fmt: skip
        until(lambda: copies, "the copy")
        assert copies[0].data == message.data and b"Reply too large" in message.data
        marked = client.raw("freeswitch.api", json.dumps(
            {"command": "no_such_verb", "forward_to": "copies"}).encode(), headers={"X": "1"})  # fmt: skip
        until(lambda: copies[1:], "the copy")
        assert copies[1].data == marked.data and not copies[1].headers
        assert len(agent.logged("NATS connected")) == 1
    finally:
        server.stop()


def test_two_nodes_of_which_one_has_no_switch(
    nats: NatsServer, switch: Switch, own_switch: AnySwitch, start_agent: Start, connect: Clients
) -> None:
    """The healthy one takes all of `any`; the other goes on answering errors on its own lanes."""
    start_agent(nats, switch, subject_prefix="pair", node_id="one")
    other = start_agent(nats, own_switch, subject_prefix="pair", node_id="two")
    client = connect(nats.url)
    until(lambda: {client.request("version", None, "pair.any")["node_id"] for _ in range(20)} == {"one", "two"}, "both")
    answers = client.gather("pair.answers.*")
    for number in range(200):
        client.publish("pair.any", b'{"command":"version"}', reply=f"pair.answers.{number}")
    until(lambda: len(answers) >= 200, "each is answered")
    client.run(client.nc.flush())
    assert len({message.subject for message in answers}) == len(answers) == 200, "by exactly one of them"
    own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
    other.logged("FreeSWITCH is unreachable")
    taken = [client.request("version", None, "pair.any") for _ in range(50)]
    assert all(reply["success"] and reply["node_id"] == "one" for reply in taken)
    for lane in ("pair.node.two", "pair.api.two"):
        assert client.request("version", None, lane)["message"] == "FreeSWITCH is not connected"
    own_switch.start()
    other.logged("FreeSWITCH connected", 2, timeout=30)
    until(lambda: {client.request("version", None, "pair.any")["node_id"] for _ in range(20)} == {"one", "two"}, "both")


def test_a_node_without_a_name(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    """It says `unknown`, and has no lane of its own."""
    start_agent(nats, switch, subject_prefix="nameless", node_id="")
    assert client.request("version", None, "nameless.api")["node_id"] == "unknown"
    for lane in ("nameless.node.unknown", "nameless.api.unknown", "nameless.node", "nameless.node.fs_node_01"):
        with pytest.raises(Exception, match="no responders"):
            client.request("version", None, lane)


def test_what_is_reported_after_a_lost_link(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients
) -> None:
    """The same switch, with a call in progress: who it is, its channels, and how many events were not seen."""
    with Proxy(switch.port) as event_socket:
        client = connect(nats.url)
        events = client.events("told.events.agent.>")
        agent = start_agent(nats, event_socket, subject_prefix="told")
        (first,) = events.wait("AGENT_CONNECTED")
        assert first["events_unseen"] is None, "nothing is known of the time before"
        call = client.request("originate", None, "told.api", endpoint="loopback/park/default", destination="&park()")
        uuid = call["data"]["uuid"]
        event_socket.refusing = True
        event_socket.cut()
        (lost,) = events.wait("AGENT_DISCONNECTED")
        with RawEvents(switch.port, switch.password) as raw:
            for number in range(7):
                raw.command(f"sendevent CUSTOM\nEvent-Subclass: load::n\nX-N: {number}\n")
        event_socket.refusing = False
        back = events.wait("AGENT_CONNECTED", 2, 30)[1]
        assert lost["reason"] and lost["node_id"] == back["node_id"] == "FS-Node-01"
        assert back["headers"] == lost["headers"] and len(back["headers"]["Core-UUID"]) == 36
        assert 7 <= back["events_unseen"] < 200 and back["events_dropped"] == 0
        (channel,) = [each for each in back["channels"] if each["uuid"] == uuid]
        assert set(channel) == {"uuid", "direction", "state", "callstate", "cid_num", "dest"}
        client.request("hangup", None, "told.api", uuid=uuid)
        assert agent.stop() == 0
