"""The panel in a real browser, against a real nats-server, the daemon, and the simulator or a real FreeSWITCH."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.functional import browser as browser_module
from tests.functional import real_switch
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, hang_up, has_row, press, row_of, row_to, see, untroubled
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim, XmlCurl

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")

Start = Callable[..., Agent]
Switch = RealSwitch | SwitchSim
HOSTILE = (
    "<img src=x onerror=window.pwned=1>",
    "\"'><script>window.pwned=1</script>",
    "{{7*7}} ${7*7} javascript:pwned",
    "safe\u202egnp.exe\u202c",
)


@pytest.fixture
def curl_port() -> int:
    return free_port()


@pytest.fixture
def parking(real: bool, curl_port: int) -> Iterator[Switch]:
    """A switch that asks port `curl_port` for its dialplan."""
    if real:
        with RealSwitch(dialplan_url=f"http://127.0.0.1:{curl_port}/dialplan") as switch:
            yield switch
        return
    with SwitchSim(dialplan_hook=XmlCurl(curl_port)) as sim:
        yield sim


@pytest.fixture
def agent(nats: NatsServer, parking: Switch, start_agent: Start, curl_port: int) -> Agent:
    return start_agent(nats, parking, http_listen=f"127.0.0.1:{curl_port}")


def test_a_call_is_parked_answered_transferred_and_hung_up(
    browser: Browser, panel: Panel, agent: Agent, client: Client
) -> None:
    see(browser, panel)
    browser.sees("#calls-empty", "No calls.")
    browser.sees("#park-states", "off")
    browser.click("#park [name=enabled]")
    browser.type("#park [name=context]", "default")
    browser.type("#park [name=number]", "^70")
    browser.type("#park [name=except]", "112, 0900*")
    browser.click("#park .main")
    browser.sees("#park-states", "on · ringback · only default · only ^70 (begins with 70) · never 112, 0900*")
    status = client.request("dialplan.status")["data"]
    assert status | {"mode": "park", "context": ["default"], "number": "^70", "except": ["112", "0900*"]} == status
    variables = "{origination_caller_id_name='Ada Lovelace',origination_caller_id_number=5551234}"
    assert client.request("bgapi", f"originate {variables}loopback/7001/default &park()")["success"]
    row = row_to(browser, "7001", "parked")
    assert browser.text(f"{row} .name") == "Ada Lovelace" and browser.text(f"{row} .sub") == "5551234"
    browser.sees("#calls-count", "waiting")
    browser.sees("#park-states", "1 parked now")
    uuid = row.partition('"')[2].rstrip('"]')

    press(browser, row, "answer")
    browser.sees("#notices", "Ada Lovelace 5551234: answered")
    browser.sees(f"{row} .now", "answered")
    assert "ANSWERED" in client.request("uuid_dump", uuid)["data"].upper()

    # A server that comes new finds it parked, although FreeSWITCH's list says that it hears something.
    assert panel.stop() == 0
    browser.sees("#trouble", "out of date")
    panel.start()
    untroubled(browser)
    until(lambda: browser.count(f'{row}[data-state="parked"]'), "it is known to be parked")

    press(browser, row, "transfer")
    browser.sees("#transfer-who", "Ada Lovelace 5551234")
    browser.type("#transfer [name=target]", "no such thing")
    browser.click("#transfer .main")
    browser.sees("#transfer-fault", "No blanks")
    browser.type("#transfer [name=target]", "9196")
    browser.press("enter")
    browser.sees("#notices", "Ada Lovelace 5551234: is at 9196", 20)
    until(lambda: browser.count(f'{row}[data-state="active"]'), "it is parked no longer")
    browser.sees(f"{row} .c-to", "9196")
    browser.sees("#park-states", "0 parked now")

    hang_up(browser, row)
    browser.sees(f"{row}", "Ended")
    until(lambda: not client.request("uuid_exists", uuid)["data"].startswith("true"), "it has ended")
    until(lambda: not browser.count("#calls-rows tr"), "the rows go")
    browser.sees("#calls-empty", "No calls.")
    browser.click("#park [name=enabled]")
    browser.click("#park .main")
    browser.sees("#park-states", "off")


@pytest.mark.skipif(real_switch.binary() is None, reason="FREESWITCH_BIN and PATH name no FreeSWITCH")
def test_a_transfer_to_a_phone(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    row = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    press(browser, row, "transfer")
    browser.click("#transfer [value=phone]")
    browser.type("#transfer [name=target]", "loopback/park/default/xml")
    browser.press("enter")
    browser.sees(row, "Talking")
    browser.sees(f"{row} .now", "with park")
    # The other side is sent elsewhere: this one is alone again, and ends.
    press(browser, row, "transfer")
    browser.click("#transfer-other input")
    browser.type("#transfer [name=target]", "9196")
    browser.press("enter")
    until(lambda: '"dest":"9196"' in client.request("show", "channels as json")["data"], "it is there", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_routing_is_shown(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    browser.sees("#park-states", "off")
    assert not browser.count("#park-states .routing:not(:empty)")
    assert client.request("dialplan.route", timeout=1)["success"]
    browser.sees("#park-states", "freeswitch.route decides over new calls · 0 decided · 0 took the fallback (dialplan)")
    assert client.request("bgapi", "originate loopback/7001/default &park()")["success"]
    browser.sees("#park-states", "1 took the fallback (dialplan) · last: no program listens on freeswitch.route")
    assert client.request("dialplan.route", enabled=False)["success"]
    until(lambda: not browser.count("#park-states .routing:not(:empty)"), "it is shown no longer", 20)


def test_a_node_is_drained_and_its_load_shown(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    # What it carries is not known at once, and until then the button is dark.
    until(lambda: browser.count("#nodes-rows button:enabled"), "it can be drained", 20)
    browser.sees("#nodes-rows", "sessions", 20)
    browser.click("#nodes-rows button")
    browser.sees("#nodes-rows", "drained", 20)
    assert client.request("agent.status")["data"]["readiness"]["drained"] is True
    browser.sees("#trouble", "takes no new calls (drained)", 20)
    until(lambda: browser.text("#nodes-rows button") == "Undrain", "it can be taken back", 20)
    browser.click("#nodes-rows button")
    until(lambda: browser.text("#nodes-rows button") == "Drain", "it is back", 20)


def test_park_settings(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    browser.sees("#park-states", "off")
    assert not browser.js("return document.querySelector('#park .main').matches(':enabled')")
    browser.js("const audio = document.querySelector('#park [name=audio]'); audio.value = 'music';"
               "audio.dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
    browser.type("#park [name=music_class]", "moh")
    browser.click("#park [name=auto_answer]")
    browser.click("#park .main")
    browser.sees("#park-states", "off · music (moh) · answers")
    status = client.request("dialplan.status")["data"]
    assert status | {"mode": "disabled", "audio": "music", "music_class": "moh", "auto_answer": True} == status
    # What another client sets is seen here too, and does not take away what is being typed.
    browser.type("#park [name=number]", "^0900")
    assert client.request("dialplan.enable", number="^1")["success"]
    browser.sees("#park-states", "only ^1")
    assert browser.value("#park [name=number]") == "^0900"
    browser.click("#park [type=reset]")
    assert browser.value("#park [name=number]") == "^1"
    # A refusal is shown as the agent words it.
    browser.type("#park [name=number]", "(a+)+")
    browser.click("#park .main")
    browser.sees("#notices .bad", "number must be a simpler regular expression")


def test_a_call_from_the_form(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    browser.type("#dial [name=endpoint]", "loopback/park/default")
    browser.type("#dial [name=extension]", "&park()")
    browser.click("#dial summary")
    browser.type("#dial [name=caller_id_name]", "Front desk")
    browser.type("#dial [name=caller_id_number]", "100")
    browser.click("#dial .main")
    browser.sees("#notices", "loopback/park/default has answered")
    row = row_to(browser, "park", "parked")
    assert browser.text(f"{row} .name") == "Front desk"
    hang_up(browser, row)
    until(lambda: not browser.count("#calls-rows tr"), "both legs go")
    browser.type("#dial [name=endpoint]", "loopback/ring/default")
    browser.type("#dial [name=timeout]", "1")
    browser.click("#dial .main")
    browser.sees("#notices .bad", "-ERR NO_ANSWER")
    browser.click("#notices .bad button")
    until(lambda: not browser.count("#notices .bad"), "it can be dismissed")


def test_events_filter_pause_and_detail(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    call(client, "park", caller_id_name="Grace Hopper")
    browser.sees("#events-rows", "CHANNEL_ANSWER")
    browser.type("#events-filter", "channel -state -execute 5551234")
    until(lambda: "CHANNEL_STATE" not in browser.text("#events-rows"), "some are filtered out")
    assert "CHANNEL_ANSWER" in browser.text("#events-rows")
    browser.click('#events-rows li[data-event="CHANNEL_ANSWER"] button')
    browser.sees("#events-rows .whole", "Grace Hopper")
    browser.sees("#events-rows .whole", "Caller-Caller-ID-Name")
    browser.type("#events-filter", "no event says this")
    browser.sees("#events-empty", "No event matches")
    browser.type("#events-filter", "hangup")
    browser.click("#events-pause")
    client.request("hupall")
    browser.sees("#events-count", "new")
    assert "CHANNEL_HANGUP" not in browser.text("#events-rows")
    browser.click("#events-pause")
    browser.sees("#events-rows", "CHANNEL_HANGUP")
    # However many come, the list has its bound.
    event = {"event_name": "HEARTBEAT", "timestamp": 1, "node_id": "FS-Node-01", "headers": {"Event-Info": "hangup"}}
    many = [json.dumps(event | {"timestamp": number}).encode() for number in range(3000)]
    client.publish_all("freeswitch.events.heartbeat", many)
    until(lambda: "CHANNEL_HANGUP" not in browser.text("#events-rows"), "old ones go")
    assert browser.count("#events-rows li") <= 250
    browser.click("#events-clear")
    until(lambda: not browser.count("#events-rows li"), "it is clear")


def test_console(browser: Browser, panel: Panel, agent: Agent) -> None:
    see(browser, panel)
    last = "#console-out li:last-child"
    browser.type("#console-line", "show channels count")
    browser.press("enter")
    browser.sees(f"{last} pre", "0 total.")
    browser.sees(f"{last} .where", "FS-Node-01")
    browser.type("#console-line", "no_such_verb x")
    browser.click("#console-form .main")
    browser.sees(f"{last} pre[data-result=bad]", "-ERR no_such_verb Command not found!")
    browser.type("#console-line", '{"command":"agent.status","correlation_id":7}')
    browser.press("enter")
    browser.sees(f"{last} pre[data-result=ok]", '"requests_received"')
    browser.type("#console-line", '{"command":')
    browser.press("enter")
    browser.sees(f"{last} pre[data-result=bad]", "not a JSON object")
    browser.click("#console-quick button")
    browser.sees(f"{last} pre", "UP ")
    # The lines of before, also after a reload; what was being typed comes back.
    see(browser, panel)
    browser.type("#console-line", "half a li")
    browser.press("up")
    assert browser.value("#console-line") == "status"
    browser.press("up", "up", "up", "up", "up", "up")
    assert browser.value("#console-line") == "show channels count"
    browser.press("down")
    assert browser.value("#console-line") == "no_such_verb x"
    browser.press("down", "down", "down", "down")
    assert browser.value("#console-line") == "half a li"


def test_callers_choose_their_names(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    for name in HOSTILE:
        # Originate refuses names that FreeSWITCH would change.
        has_row(browser, call(client, "park", caller_id_name=name.translate(dict.fromkeys(map(ord, "${}")))))
    shown = browser.js("return [...document.querySelectorAll('.name')].map((each) => each.textContent)")
    assert HOSTILE[0] in shown and HOSTILE[1] in shown
    # Straight from NATS, past all that FreeSWITCH would make of it.
    headers = {
        "Channel-State": "CS_EXECUTE", "Channel-Call-State": "RINGING", "Call-Direction": "inbound",
        "Caller-Destination-Number": HOSTILE[1], "Channel-Name": HOSTILE[0], "Application": HOSTILE[1],
        HOSTILE[0]: HOSTILE[1], "Hangup-Cause": HOSTILE[0],
    }  # fmt: skip
    names: list[object] = [*HOSTILE, "x" * 10_000, "W" * 126, "\u202e\u2066\u0000\u001b[31m", "a\nb\tc"]
    names += [["an", "array"], 5, None]
    for number, each in enumerate(names):
        event = {
            "event_name": "CHANNEL_EXECUTE", "timestamp": 1, "node_id": HOSTILE[number % 2], "uuid": f"h-{number}",
            "headers": headers | {"Caller-Caller-ID-Name": each, "Caller-Caller-ID-Number": each}, "body": HOSTILE[0],
        }  # fmt: skip
        client.publish("freeswitch.events.channel.execute", json.dumps(event).encode())
    has_row(browser, f"h-{len(names) - 1}")
    browser.type("#events-filter", "h-0")
    until(lambda: browser.count("#events-rows li") == 1, "its event is found")
    browser.click("#events-rows button")
    browser.sees("#events-rows .whole", "onerror")
    for width in (1440, 390):
        browser.resize(width, 844)
        assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), f"{width} px: it is too wide"
    assert browser.js("return window.pwned === undefined")
    assert browser.count("body img, body script, body iframe") == 1  # the icon
    titles = browser.js("return [...document.querySelectorAll('[title]')].map((each) => each.title).join()")
    text = titles + browser.js("return document.body.textContent")
    assert not set("\u202e\u2066\u0000\u001b") & set(text)
    longest = browser.js("""return Math.max(...[...document.querySelectorAll('#calls *')]
        .filter((e) => !e.children.length).map((e) => Math.max(e.textContent.length, e.title.length)))""")
    assert longest <= 450
    client.request("hupall")


def test_two_nodes(
    browser: Browser,
    panel: Panel,
    agent: Agent,
    client: Client,
    nats: NatsServer,
    own_switch: Switch,
    start_agent: Start,
) -> None:
    second = start_agent(nats, own_switch, node_id="Berlin 2")
    see(browser, panel, "FS-Node-01", "Berlin 2")
    call(client, "park", caller_id_name="in one")
    call(client, "park", "berlin_2", caller_id_name="in two")
    browser.sees("#calls-rows", "in one")
    browser.sees("#calls-rows", "in two")
    browser.sees("#calls-rows", "Berlin 2")
    width = "return document.querySelector('[data-t=\"calls.now\"]').clientWidth"
    for language in ("de", "en"):
        assert browser.js(f"document.documentElement.lang = arguments[0]; {width}", language) >= 110
    browser.sees("#dial .chip", "any node")
    browser.js("const node = document.querySelector('#scope'); node.value = 'Berlin 2';"
               "node.dispatchEvent(new Event('change'))")  # fmt: skip
    until(lambda: "in one" not in browser.text("#calls-rows"), "only one node's calls are shown")
    browser.sees("#dial .chip", "Berlin 2")
    browser.type("#console-line", "hostname")
    browser.press("enter")
    browser.sees("#console-out .where", "Berlin 2")
    browser.type("#dial [name=endpoint]", "loopback/park/default")
    browser.type("#dial [name=extension]", "&park()")
    browser.click("#dial .main")
    until(lambda: client.request("show", "channels count", "freeswitch.node.berlin_2")["data"].strip() == "4 total.",
          "it is there")  # fmt: skip
    browser.sees("#park-states", "not available")
    second.kill()
    browser.sees("#trouble", "Berlin 2: its agent does not answer", 20)
    browser.click("#trouble button")
    until(lambda: not browser.count('[data-link="Berlin 2"]'), "it is off the page")
    browser.sees("#calls-rows", "in one")
    client.request("hupall")


def test_connections_that_come_back(
    browser: Browser, own_nats: NatsServer, own_switch: Switch, start_agent: Start
) -> None:
    start_agent(own_nats, own_switch)
    client = Client(own_nats.url)
    panel = Panel(own_nats.url).start()
    try:
        see(browser, panel)
        call(client, "park", caller_id_name="before")
        browser.sees("#calls-rows", "before")

        assert panel.stop() == 0
        browser.sees("#trouble", "This page is out of date")
        assert browser.count('[data-link="page"][data-state="bad"]')
        until(lambda: not browser.count("#calls-rows button:enabled"), "nothing can be pressed that can't work")
        call(client, "park", caller_id_name="meanwhile")
        panel.start()
        untroubled(browser)
        browser.sees("#calls-rows", "meanwhile")
        browser.sees("#calls-rows", "before")

        own_nats.kill()
        browser.sees("#trouble", "No connection to NATS")
        browser.type("#console-line", "status")
        browser.press("enter")
        browser.sees("#console-out pre[data-result=bad]", "NATS")
        own_nats.start()
        untroubled(browser)
        browser.sees("#calls-rows", "before")

        (own_switch.kill if isinstance(own_switch, RealSwitch) else own_switch.stop)()
        browser.sees("#trouble", "FreeSWITCH is unreachable", 20)
        own_switch.start()
        untroubled(browser)
        browser.sees("#calls-empty", "No calls.", 20)
    finally:
        client.close()
        panel.remove()


def test_on_a_phone_and_by_keyboard(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    browser.resize(390, 844)
    see(browser, panel)
    call(client, "park", caller_id_name="Barbara Liskov, of a very long name that goes on and on")
    browser.sees("#calls-rows", "Barbara")
    for tab, part in (("control", "#park"), ("events", "#events"), ("console", "#console"), ("calls", "#calls")):
        browser.click(f".tabs [data-tab={tab}]")
        browser.find(part)
        assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), tab
        small = browser.js("""return [...document.querySelectorAll('main button, nav button')]
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 26).map((e) => e.textContent)""")
        assert not small
    # Everything has a name for those who do not see it, and can be reached and used without a mouse.
    for tab in ("control", "events", "console", "calls"):
        browser.click(f".tabs [data-tab={tab}]")
        nameless = browser.js("""return [...document.querySelectorAll('button, input, select')].filter((e) =>
            !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)""")
        assert not nameless
    browser.js("document.querySelector('#calls-filter').focus()")
    for _ in range(10):
        browser.press("tab")
        if browser.js("return document.activeElement.matches('.end')"):
            break
    browser.press("enter")
    assert browser.js("return document.activeElement.textContent") == "Sure?"
    browser.press("enter")
    until(lambda: browser.count(".end[data-armed=ready]"), "it can be pressed again")
    assert client.request("show", "channels count")["data"].strip() == "2 total."
    browser.press("enter")
    browser.sees("#notices", "hung up")
    until(lambda: not browser.count("#calls-rows tr"), "it is gone")
