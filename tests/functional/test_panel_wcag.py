"""What WCAG 2.2 AA asks of the panel besides contrast: what has the focus is seen, nothing moves or chatters, names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, row_of, see
from tests.functional.parts import Agent, Client
from tests.support import until

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")

SIZES = {"desktop": (1440, 900), "zoomed to 200 %": (720, 450), "phone": (390, 844)}
TABS = {"supervisor": ("calls", "people", "control"), "engineer": ("calls", "control", "events", "console")}

# 2.4.11: how what has the focus is seen, looked at when the tab key is about to go on. Where nothing of it is seen
# while it stands somewhere, that is a fault. `stops` has all that the tab key should come to.
WATCH = """
window.hiddenStops = [];
window.visited = new Set();
const name = (e) => `${e.tagName}#${e.id}.${e.className} ${(e.ariaLabel ?? e.name ?? e.textContent).slice(0, 40)}`;
window.lookAt = (e) => {
  if (!e || e === document.body) return;
  window.visited.add(e);
  const box = e.getBoundingClientRect();
  const shares = [.1, .5, .9];
  const seen = shares.flatMap((x) => shares.map((y) => [x, y]))
    .filter(([x, y]) => {
      const top = document.elementFromPoint(box.left + x * box.width, box.top + y * box.height);
      return top && (e.contains(top) || top.closest('label')?.control === e);
    });
  if (seen.length < 6) window.hiddenStops.push(`${name(e)}: ${seen.length} of 9 points are seen`);
};
window.stops = () => [...(document.querySelector('dialog[open]') ?? document)
  .querySelectorAll('button, input, select, summary, tr')].filter((e) => e.tabIndex >= 0 && !e.disabled
    && e.checkVisibility({ visibilityProperty: true }) && !e.closest('[inert]')
    && !(e.type === 'radio' && !e.checked));
if (!window.watched) document.addEventListener('keydown', (event) => {
  if (event.key === 'Tab') window.lookAt(document.activeElement);
}, true);
window.watched = true;
return window.stops().length;
"""
SEEN = """
window.lookAt(document.activeElement);
const missed = window.stops().filter((e) => !window.visited.has(e));
return [...window.hiddenStops, ...missed.map((e) => `${e.outerHTML.slice(0, 120)}: not reached`)];
"""


# Messages that stay until they are dismissed lie over the page.
NOTICES = """const { notice } = await import('/notices.js');
for (let number = 0; number < 3; number++) notice('A fault', 'bad');"""


# A list in which lines go, and buttons become dark.
ROVING = """
const { roving } = await import('/roving.js');
const list = document.createElement('ul');
list.append(...['first', 'second', 'third'].map((name) => {
  const line = document.createElement('li');
  line.append(Object.assign(document.createElement('button'), { textContent: name }));
  return line;
}));
document.body.append(list);
const settle = roving(list);
const buttons = [...list.querySelectorAll('button')];
const stops = () => [...list.querySelectorAll('button')].map((each) => each.tabIndex);
const found = [];
settle();
found.push(stops());
buttons[1].focus();
found.push(stops());
buttons[0].disabled = true;
buttons[1].parentElement.remove();
settle(true); // the focus was on what has gone: it stays in the list
found.push(document.activeElement.textContent, stops());
buttons[0].disabled = false;
settle(true);
found.push(document.activeElement.textContent);
buttons[2].disabled = true;
settle();
found.push(stops());
list.remove();
return found;
"""


def walked(browser: Browser, *, back: bool = False) -> list[str]:
    """What the tab key does not reach, or reaches without its being seen; from here all around.

    From the end of the page the focus comes back to its beginning by way of the browser, beside the keys: on a busy
    machine it is then set once more, some stops back. So what one time around does not reach, a further one may.
    """
    stops = browser.js(WATCH)
    assert stops > 1
    found: list[str] = []
    for _ in range(3):
        browser.press(*["tab"] * (stops + 3), held="shift" if back else "")
        found = [str(each) for each in browser.js(SEEN)]
        if not found:
            break
    return found


@pytest.fixture
def sized(browser: Browser) -> Iterator[Browser]:
    """The browser, whose window, colours and settings are as before at the end."""
    yield browser
    browser.scheme(False)
    browser.js("localStorage.clear()")


@pytest.fixture
def row(client: Client) -> Iterator[str]:
    """Some callers wait; the row of the last."""
    for number in range(3):
        uuid = call(client, "park", caller_id_name=f"Caller {number}")
    yield f"{row_of(uuid)}[data-state=parked]"
    client.request("hupall")
    until(lambda: client.request("show", "channels count")["data"].strip() == "0 total.", "all have gone", 20)


def views(browser: Browser, panel: Panel, row: str) -> Iterator[tuple[str, str]]:
    """Each view, and on a phone each part of it: the browser shows it, with the calls."""
    for view, tabs in TABS.items():
        see(browser, panel, view=view)
        until(lambda: browser.count(row), "the calls are there", 20)
        for tab in tabs if browser.js("return innerWidth < 700") else ("",):
            if tab:
                browser.click(f".tabs [data-tab={tab}]")
            yield view, tab


def dialogs(browser: Browser) -> Iterator[str]:
    """Each dialog, as it is open."""
    browser.js("document.querySelector('.tabs [data-tab=calls]').click()")
    for dialog in ("transfer", "login", "menu", "prefs"):
        if dialog in ("transfer", "menu"):
            button = "[data-act=transfer]" if dialog == "transfer" else ".more"
            browser.js("document.querySelector(`#calls-rows ${arguments[0]}`).click()", button)
        else:
            browser.js("document.querySelector(`#${arguments[0]}`).showModal()", dialog)
        yield dialog
        browser.js("document.querySelector(`#${arguments[0]}`).close()", dialog)


def test_what_has_the_focus_is_seen(sized: Browser, panel: Panel, agent: Agent, row: str) -> None:
    browser = sized
    for size, (width, height) in SIZES.items():
        browser.resize(width, height)
        for view, tab in views(browser, panel, row):
            browser.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            browser.js(NOTICES)
            for back in (False, True):
                assert walked(browser, back=back) == [], (size, view, tab, back)
        for dialog in dialogs(browser):
            assert walked(browser) == [], (size, dialog)


def test_a_long_list_is_one_stop_of_the_tab_key(browser: Browser, panel: Panel, agent: Agent, row: str) -> None:
    see(browser, panel)
    until(lambda: browser.count("#events-rows li") > 20, "events are there", 20)
    browser.click("#events-pause")
    browser.click("#events-filter")
    browser.press("tab", "tab", "tab")
    at = "return [...document.querySelectorAll('#events-rows button')].indexOf(document.activeElement)"
    assert browser.js(at) == 0
    browser.press("down", "down", "up", "down")
    assert browser.js(at) == 2
    browser.press("enter")
    until(lambda: browser.count("#events-rows li:nth-child(3) dl"), "all of it is shown", 20)
    browser.press("end")
    assert browser.js(at) == browser.count("#events-rows button") - 1
    browser.press("tab")
    until(lambda: browser.js("return Boolean(document.activeElement.closest('#console'))"), "the list is left", 20)
    browser.press("tab", held="shift")
    assert browser.js(at) == browser.count("#events-rows button") - 1
    browser.press("home")
    assert browser.js(at) == 0
    assert browser.js(ROVING) == [[0, -1, -1], [-1, 0, -1], "third", [-1, 0], "third", [0, -1]]


# 2.3.3: what moves although that is not wanted.
MOVES = """
window.moves = [];
for (const kind of ['transitionrun', 'animationstart']) {
  document.addEventListener(kind, ({ target, pseudoElement }) => {
    window.moves.push(`${kind} of ${target.tagName}${pseudoElement}`);
  }, true);
}
"""
SMOOTH = """return [...document.querySelectorAll('*')]
    .filter((e) => getComputedStyle(e).scrollBehavior !== 'auto').map((e) => e.outerHTML)"""


def test_nothing_moves_if_that_is_not_wanted(
    sized: Browser, panel: Panel, agent: Agent, client: Client, row: str
) -> None:
    browser = sized

    def moved(still: bool) -> set[str]:
        """What moves while things are switched, said, opened and ended, in each view."""
        browser.scheme(False, still=still)
        found: set[str] = set()
        for view, _ in views(browser, panel, row):
            browser.js(MOVES)
            browser.js(NOTICES)
            browser.js("document.querySelector('#park [name=enabled]').click()")
            for _ in dialogs(browser):
                pass
            assert browser.js(SMOOTH) == [], view
            gone = call(client, "park", caller_id_name="Ada Lovelace")
            until(partial(browser.count, row_of(gone)), "she is there", 20)
            client.request("hangup", fields={"uuid": gone})
            there = f"{row_of(gone)}:not([data-state=ended])"
            until(partial(browser.count, there), "she has gone", 20, holds=lambda count: not count)
            frames = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
            found |= set(browser.js(f"{frames} return window.moves"))
            if still:
                assert browser.js("return document.getAnimations().length") == 0, view
        return found

    assert moved(True) == set()
    assert moved(False) == {"transitionrun of INPUT", "transitionrun of INPUT::after"}


# How often something is put into a place that is read out, and what.
LIVE = """
window.said = [];
const places = '[aria-live], [role=status], [role=alert], [role=log]';
new MutationObserver((records) => {
  for (const { target, addedNodes, type } of records) {
    const place = (target.nodeType === 1 ? target : target.parentElement)?.closest(places);
    const text = type === 'characterData' ? target.data : [...addedNodes].map((node) => node.textContent).join('');
    if (place && text) window.said.push([place.id, text]);
  }
}).observe(document.body, { childList: true, characterData: true, subtree: true });
"""


def test_what_is_read_out_is_little(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="engineer")
    pause = browser.js("""const { pace } = await import('/announce.js');
        const usual = pace.pause;
        pace.pause = 2000;
        return usual""")
    assert pause == 10_000
    browser.js(LIVE)
    began = browser.js("return performance.now()")
    for number in range(50):
        uuid = call(client, "park", caller_id_name=f"Caller {number}")
        client.request("hangup", fields={"uuid": uuid})
    until(lambda: not browser.count("#calls-rows tr:not([data-state=ended])"), "all have gone", 20)
    said = browser.js("return window.said")
    seconds = (browser.js("return performance.now()") - began) / 1000
    # One announcement in each pause, and nothing but that callers wait.
    assert len(said) <= 1 + seconds / 2, said
    assert all(place == "announce" and "wait" in text for place, text in said), said

    # The next caller is said as well, although the words are those of before.
    browser.js("const { pace } = await import('/announce.js'); pace.settles = pace.pause = 200; window.said = []")
    for _ in range(2):
        uuid = call(client, "park", caller_id_name="Ada Lovelace")
        until(lambda: browser.js("return window.said") == [["announce", "1 caller waits"]], "it is said once", 20)
        client.request("hangup", fields={"uuid": uuid})
        until(lambda: not browser.text("#announce"), "it is not said any more", 20)
        browser.js("window.said = []")

    # Of a long reply the beginning is read out, and how long it is.
    browser.type("#console-line", "show modules")
    browser.press("enter")
    until(lambda: browser.count("#console-out [data-result=ok]"), "there is a reply", 20)
    [[place, text]] = browser.js("return window.said")
    assert place == "console-said" and len(text) < 250
    browser.type("#console-line", "global_getvar core_uuid")
    browser.press("enter")
    until(lambda: browser.count("#console-out [data-result=ok]") == 2, "there is a reply", 20)
    assert browser.js("return window.said.length") == 2


def test_a_loss_is_read_out_once(browser: Browser, panel: Panel, agent: Agent) -> None:
    see(browser, panel, view="supervisor")
    browser.js("const { pace } = await import('/announce.js'); pace.settles = pace.pause = 200")
    browser.js(LIVE)
    browser.js("""window.tries = 0;
        window.EventSource = class extends EventSource {
          constructor(...all) {
            super(...all);
            window.tries++;
          }
        };""")
    panel.stop()
    until(lambda: browser.js("return window.tries") > 3, "it has tried again", 20)
    [[place, text]] = browser.js("return window.said")
    assert place == "alarm" and text.startswith("This page is out of date: the panel’s server does not answer since")
    panel.start()
    until(lambda: browser.js("return window.said.length") == 2, "it is said that it has come back", 20)
    assert browser.js("return window.said[1]") == ["alarm", "All is well again."]
    assert not browser.text("#trouble")


# 2.5.8: a target has 24 by 24 px; of a box to be ticked the label is part. 1.4.10: the page is as wide as the window,
# and nothing in it has to be scrolled sideways but what FreeSWITCH has set in columns.
NARROW = """
const page = document.documentElement;
const seen = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('.unseen'));
const small = seen.filter((e) => e.matches('button, select, input, summary'))
  .map((e) => (['checkbox', 'radio'].includes(e.type) ? e.labels[0] : e)).filter((e) => {
    const { width, height } = e.getBoundingClientRect();
    return width < 24 || height < 24;
  });
const scrolls = seen.filter((e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
  && e.scrollWidth > e.clientWidth + 1 && !e.matches('.talk pre'));
const beyond = seen.filter((e) => {
  const { left, right, width } = e.getBoundingClientRect();
  return width && (left < -.5 || right > page.clientWidth + .5) && !e.closest('.talk pre');
});
return [...small.map((e) => `too small: ${e.outerHTML}`), ...scrolls.map((e) => `scrolls: ${e.outerHTML.slice(0, 99)}`),
  ...beyond.map((e) => `beyond the edge: ${e.outerHTML.slice(0, 99)}`),
  ...(page.scrollWidth > innerWidth ? [`the page has ${page.scrollWidth} px`] : [])];
"""


@pytest.mark.parametrize(("language", "height"), [("en", 640), ("de", 256)])
def test_on_a_narrow_window_nothing_is_scrolled_sideways(
    sized: Browser, panel: Panel, agent: Agent, row: str, language: str, height: int
) -> None:
    """320 px wide, as a window of 1280 px is at 400 %."""
    browser = sized
    browser.open(panel.url)
    script = "localStorage.setItem('event-agent-panel.prefs', JSON.stringify({ language: arguments[0] }))"
    browser.js(script, language)
    browser.resize(320, height)
    for view, tab in views(browser, panel, row):
        browser.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        browser.js(NOTICES)
        if tab == "events":
            until(lambda: browser.count("#events-rows button"), "events are there", 20)
            for each in ("#events-pause", "#events-rows button"):
                browser.js("document.querySelector(arguments[0]).click()", each)
            until(lambda: browser.count("#events-rows dl"), "an event is shown", 20)
        if tab == "console":
            browser.js("document.querySelector('#console-quick button').click()")
            until(lambda: browser.count("#console-out [data-result=ok]"), "there is a reply", 20)
        assert browser.js(NARROW) == [], (height, view, tab)
    for dialog in dialogs(browser):
        assert browser.js(NARROW) == [], (height, dialog)


# What has to have a name for those who do not see it, by the browser's own tree of what it tells them.
NAMED = {
    "button", "textbox", "searchbox", "spinbutton", "checkbox", "switch", "radio", "combobox", "option", "meter",
    "table", "dialog", "navigation", "region", "DisclosureTriangle", "log", "columnheader", "rowheader",
}  # fmt: skip
# That what refers to something does, that no id is there twice, and that states are of those that there are.
REFERS = """
const all = [...document.querySelectorAll('*')];
const poor = [];
for (const name of ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for']) {
  for (const element of document.querySelectorAll(`[${name}]`)) {
    for (const id of element.getAttribute(name).split(' ')) {
      if (!document.getElementById(id)) poor.push(`${name}=${id} is nowhere`);
    }
  }
}
const ids = all.map((e) => e.id).filter(Boolean);
poor.push(...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `${id} is there twice`));
const states = { 'aria-expanded': ['true', 'false'], 'aria-pressed': ['true', 'false'], 'aria-current': ['page'],
  'aria-hidden': ['true'], 'aria-invalid': ['true'], 'aria-haspopup': ['dialog'] };
for (const [name, values] of Object.entries(states)) {
  for (const element of document.querySelectorAll(`[${name}]`)) {
    if (!values.includes(element.getAttribute(name))) poor.push(element.outerHTML);
  }
}
for (const nav of document.querySelectorAll('nav')) {
  if (nav.checkVisibility() && nav.querySelectorAll('[aria-current]').length !== 1) poor.push(nav.outerHTML);
}
for (const element of document.querySelectorAll('[aria-hidden=true] :is(button, input, select, [tabindex="0"])')) {
  poor.push(`it can be reached and is not read out: ${element.outerHTML}`);
}
return poor;
"""


# There is no park mode here; its form is to be looked at all the same.
PARK = """
const form = document.querySelector('#park-form');
form.inert = false;
Object.defineProperty(form, 'inert', { get: () => false, set() {}, configurable: true });
"""


def unnamed(browser: Browser) -> tuple[list[str], set[str]]:
    """Of what is read out, what has no name; and all its roles."""
    browser.cdp("Accessibility.enable")
    nodes = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    browser.cdp("Accessibility.disable")
    read = [each for each in nodes if not each["ignored"]]
    found = []
    for node in read:
        if node["role"]["value"] in NAMED and not node.get("name", {}).get("value", "").strip():
            what = browser.cdp("DOM.describeNode", backendNodeId=node["backendDOMNodeId"])["node"]
            found.append(f"{node['role']['value']} {what['nodeName']} {what.get('attributes')}")
    return found, {str(each["role"]["value"]) for each in read}


def test_everything_has_a_name_and_a_state(sized: Browser, panel: Panel, agent: Agent, row: str) -> None:
    browser = sized
    roles: set[str] = set()
    for size in ("desktop", "phone"):
        browser.resize(*SIZES[size])
        for view, tab in views(browser, panel, row):
            browser.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            browser.js(NOTICES)
            browser.js(PARK)
            poor, found = unnamed(browser)
            assert poor == [], (size, view, tab)
            assert browser.js(REFERS) == [], (size, view, tab)
            if not tab or tab == "calls":  # a list of calls is a table also as it stands on a phone
                assert {"table", "row", "rowheader", "cell"} <= found, (size, view)
            roles |= found
        for dialog in dialogs(browser):
            poor, found = unnamed(browser)
            assert poor == [] and "dialog" in found, (size, dialog)
            roles |= found
    assert roles >= NAMED, NAMED - roles


def test_a_fault_is_said_of_its_field(browser: Browser, panel: Panel, agent: Agent, row: str) -> None:
    """3.3.1: where the fault is, and the focus goes there."""
    see(browser, panel, view="supervisor")
    until(lambda: browser.count(row), "the calls are there", 20)
    browser.js("document.querySelector('#calls-rows [data-act=transfer]').click()")
    wrong = "return [...document.querySelectorAll('[aria-invalid]')].map((e) => [e.name, e === document.activeElement])"
    described = "return document.querySelector('[aria-invalid]').getAttribute('aria-describedby').split(' ')"
    for target, context, field in (("a b", "", "target"), ("1000", "-x", "context"), ("-1000", "a b", "target")):
        browser.type("#transfer [name=target]", target)
        browser.type("#transfer [name=context]", context)
        browser.press("enter")
        until(lambda: browser.text("#transfer-fault"), "a fault is said", 20)
        assert browser.js(wrong) == [[field, True]], (target, context)
        assert "transfer-fault" in browser.js(described)
    browser.js("document.querySelector('#transfer').close()")
    browser.js("document.querySelector('#calls-rows [data-act=transfer]').click()")
    assert browser.js(wrong) == []
