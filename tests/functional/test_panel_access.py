"""Whether everybody can use the panel: contrast as measured, the keyboard alone, labels, another language."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, row_of, see
from tests.functional.parts import Agent, Client
from tests.support import until

PHONE = "loopback/park/default"

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")

# WCAG 2.2, 1.4.3: text against what lies behind it, by the formula of relative luminance; 3 : 1 for large text.
RATIO = """
const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(colour(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const ratio = (text, ground) => {
  const [a, b] = [luminance(over(colour(text), ground)), luminance(ground)].sort((x, y) => y - x);
  return (a + .05) / (b + .05);
};
const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const name = (e) => [e.tagName, e.id, e.className, e.name ?? '', e.textContent.trim().slice(0, 20)].join();
"""
CONTRAST = RATIO + """
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own && !element.placeholder && !element.value) continue;
  if (!seen(element) || element.closest('.unseen, option, noscript')) continue;
  if (['checkbox', 'radio'].includes(element.type)) continue;
  const placeholder = !own && element.placeholder && !element.value;
  const style = getComputedStyle(element, placeholder ? '::placeholder' : null);
  const found = ratio(style.color, behind(element));
  if (found < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) poor.push(`${name(element)} ${found.toFixed(2)}`);
}
return poor;
"""
# 1.4.11: the edge of a control, and a mark that has a meaning, have a contrast of 3 : 1 to the colour next to them.
SIGNS = RATIO + """
const poor = [];
const look = (css, pick) => {
  for (const element of document.querySelectorAll(css)) {
    if (!seen(element)) continue;
    const found = ratio(pick(getComputedStyle(element)), behind(element.parentElement));
    if (found < 3) poor.push(`${name(element)} ${found.toFixed(2)}`);
  }
};
look('input:not([type=checkbox], [type=radio]), select, dialog, .notice', (style) => style.borderTopColor);
look('button:not(.quiet, .main, .line, .tabs *, .views [aria-current])', (style) => style.borderTopColor);
look('button.main:enabled, .views [aria-current], [role=switch]', (style) => style.backgroundColor);
look('.notice', (style) => style.borderLeftColor);
look('.states li', (style) => style.borderLeftColor);
look('[data-state=ok] > .dot, [data-state=warn] > .dot, [data-state=unknown] > .dot', (style) => style.backgroundColor);
look('[data-state=bad] > .dot', (style) => style.borderTopColor);
look('.sign', (style) => style.color);
return poor;
"""
# 2.4.7, 2.4.11, 1.4.11: the outline of what has the focus.
FOCUS = RATIO + """
const poor = [];
const inside = document.querySelector('dialog[open]') ?? document;
for (const element of inside.querySelectorAll('button, input, select, summary, tr[tabindex="0"]')) {
  if (!seen(element) || element.disabled || element.closest('[inert]')) continue;
  element.focus();
  const style = getComputedStyle(element);
  const bare = style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2;
  if (document.activeElement !== element || bare) poor.push(`${name(element)} does not show that it has the focus`);
  else {
    const beside = parseFloat(style.outlineOffset) < 0 ? element : element.parentElement;
    const found = ratio(style.outlineColor, behind(beside));
    if (found < 3) poor.push(`${name(element)} ${found.toFixed(2)}`);
  }
}
return poor;
"""
# 2.5.8: a target has 24 by 24 px; of a box to be ticked the label is part.
SMALL = """return [...document.querySelectorAll('button, select, input, summary')].filter((e) => e.checkVisibility())
    .map((e) => ['checkbox', 'radio'].includes(e.type) ? e.labels[0] : e)
    .filter((e) => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)
    .map((e) => e.outerHTML)"""
# What stands in a row and its buttons, on a card's head and in a dialog: none of it cut off by what it stands in. Names
# and numbers of callers may be: they are as long as somebody has made them, and can be read in full where one points.
CUT = """
const cut = [];
const texts = 'button, .badge, .time, h2, .count, label > span, legend, summary, th';
for (const element of document.querySelectorAll(texts)) {
  if (!seen(element) || element.closest('.unseen, .log, .tabs') || element.matches('.c-from')) continue;
  const box = element.getBoundingClientRect();
  if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth) cut.push(`${name(element)} is too long`);
  for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
    if (getComputedStyle(at).overflowX === 'visible' || at.matches('.scroll, .side')) continue;
    const frame = at.getBoundingClientRect();
    const edge = frame.right - (at.matches('td, th') ? parseFloat(getComputedStyle(at).paddingRight) : 0);
    if (box.left < frame.left - .5 || box.right > edge + .5) {
      cut.push(`${name(element)} is cut off by ${at.className}: ${[box.left, box.right, frame.left, frame.right]}`);
    }
  }
}
for (const element of document.querySelectorAll('.c-now')) {
  if (element.scrollHeight > element.clientHeight + 1) cut.push(`${name(element)} is too high`);
}
if (document.documentElement.scrollWidth > innerWidth) cut.push('the page is too wide');
return cut;
"""
# Each action that a row may offer first, with the longest badge.
LONGEST = """
const { Row } = await import('/rows.js');
const { store } = await import('/store.js');
const since = (Date.now() - 7200_000) * 1000;
const leg = (uuid, more) => ({ node: store.nodes[0].id, uuid, since, waits: since, name: uuid, number: '5551234',
  to: '9', channel: '', app: '', other: '', parked: false, answered: 1, direction: 'outbound', state: 'active',
  taking: '', consult: null, cause: null, ...more });
const asks = { with: 'o', to: 'p', phone: 'x', ended: false };
const caller = (more) => leg('c', { direction: 'inbound', ...more });
const calls = [[caller({ parked: true })], [caller({ other: 'o' }), leg('o')],
  [caller({ state: 'ringing', answered: 0 })], [caller({ state: 'held' })], [caller()], [leg('o', { state: 'new' })],
  [caller({ parked: true, consult: asks }), leg('o', { other: 'p' }), leg('p', { other: 'o' })]];
for (const [index, legs] of calls.entries()) {
  const row = new Row(`longest-${index}`, () => {});
  const [main, partner] = legs;
  row.show({ id: row.id, node: main.node, main, legs, partner: partner ?? null, listeners: [], version: 1 });
  row.element.dataset.urgency = '2';
  document.querySelector('#calls-rows').append(row.element);
}
document.querySelector('#calls-count').textContent = `${document.querySelector('#calls-count').textContent} · 10.000`;
"""
# Everything that a page may show at once: rows in each state, all that can be said in the corner, all that is dark.
STAGE = """
const rows = [...document.querySelectorAll('#calls-rows tr:not(.space)')];
const states = [['ended', 'state'], ['held', 'state'], ['ringing', 'state'], ['1', 'urgency'], ['2', 'urgency'],
  ['', 'doubt']];
const copies = states.map(([value, name]) => {
  const copy = rows[0].cloneNode(true);
  copy.dataset[name] = value;
  if (name === 'doubt') copy.querySelectorAll('button').forEach((each) => { each.disabled = true; });
  if (name === 'urgency') copy.querySelector('.end').dataset.armed = 'ready';
  return copy;
});
document.querySelector('#calls-table').append(...copies);
const trouble = document.querySelector('#trouble');
trouble.hidden = false;
trouble.textContent = 'Trouble';
trouble.append(Object.assign(document.createElement('button'), { textContent: 'Take off' }));
for (const state of ['ok', 'warn', 'bad', 'unknown']) {
  const item = document.querySelector('#links li').cloneNode(true);
  item.dataset.state = state;
  document.querySelector('#links').append(item);
}
for (const state of ['free', 'rings', 'talks']) {
  const line = document.createElement('li');
  line.dataset.phone = state;
  for (const part of ['sign', 'name', 'sub']) {
    line.append(Object.assign(document.createElement('span'), { className: part, textContent: state }));
  }
  document.querySelector('#people-rows').append(line);
}
const { notice } = await import('/notices.js');
for (const kind of ['info', 'done', 'bad', 'wait']) notice(`This is ${kind}`, kind);
document.querySelector('#transfer-fault').textContent = document.querySelector('#login-fault').textContent = 'A fault';
document.querySelectorAll('details').forEach((each) => { each.open = true; });
"""
DARK = """const controls = document.querySelectorAll('main :is(button, input, select)');
controls.forEach((each) => { each.disabled = arguments[0]; });"""


@pytest.fixture
def light(browser: Browser) -> Iterator[Browser]:
    """The browser, in light colours again at the end."""
    yield browser
    browser.scheme(False)


def measured(browser: Browser, what: object) -> None:
    """Nothing that is seen now is too pale or too small."""
    assert browser.js(CONTRAST) == [], what
    assert browser.js(SIGNS) == [], what
    assert browser.js(SMALL) == [], what


def test_contrast_of_everything_in_both_themes(light: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    browser = light
    see(browser, panel)
    row = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    call(client, "9196", caller_id_name="Echo")
    until(lambda: browser.count(f"{row}[data-state=parked]"), "the call is there", 20)
    browser.js(STAGE)
    browser.press("tab")  # from now on the keyboard is at work: what has the focus shows it
    for dark in (False, True):
        browser.scheme(dark)
        for view in ("supervisor", "engineer"):
            browser.js("location.hash = arguments[0]", view)
            until(partial(browser.count, f"body[data-view={view}]"), "the view is shown", 20)
            measured(browser, (view, dark))
            assert browser.js(FOCUS) == [], (view, dark)
            browser.js(DARK, True)
            measured(browser, (view, dark, "all is dark"))
            browser.js(DARK, False)
        for dialog in ("transfer", "login", "menu", "prefs"):
            if dialog == "menu":
                browser.js("document.querySelector('#calls-rows .more').click()")
            else:
                browser.js("document.querySelector(`#${arguments[0]}`).showModal()", dialog)
            measured(browser, (dialog, dark))
            assert browser.js(FOCUS) == [], (dialog, dark)
            browser.js("document.querySelector(`#${arguments[0]}`).close()", dialog)
    client.request("hupall")


@pytest.mark.parametrize("language", ["en", "de"])
def test_nothing_is_cut_off(browser: Browser, panel: Panel, agent: Agent, client: Client, language: str) -> None:
    call(client, "park", caller_id_name="Ada Lovelace")
    script = "localStorage.setItem('event-agent-panel.prefs', JSON.stringify({ language: arguments[0] }))"
    browser.open(panel.url)
    browser.js(script, language)
    try:
        for width in (1440, 1024, 390):
            browser.resize(width, 844)
            for view in ("supervisor", "engineer"):
                see(browser, panel, view=view)
                until(partial(browser.count, "#calls-rows tr[data-state=parked]"), "the call is there", 20)
                assert browser.js("return document.documentElement.lang") == language
                browser.js(LONGEST)
                for tab in ("calls", "people", "control", "events", "console") if width < 700 else ("",):
                    if tab and browser.js(f"return document.querySelector('.tabs [data-tab={tab}]').checkVisibility()"):
                        browser.click(f".tabs [data-tab={tab}]")
                    assert browser.js(RATIO + CUT) == [], (width, view, tab)
            for dialog in ("transfer", "login", "prefs"):
                browser.js("document.querySelector(`#${arguments[0]}`).showModal()", dialog)
                assert browser.js(RATIO + CUT) == [], (width, dialog)
                browser.js("document.querySelector(`#${arguments[0]}`).close()", dialog)
    finally:
        browser.js(script, "en")
        browser.resize(1440, 900)
        client.request("hupall")


def focus(browser: Browser, css: str) -> None:
    """Wait until that has the focus; and it is seen to have it."""
    script = "return document.activeElement.matches(arguments[0])"
    until(lambda: browser.js(script, css), lambda: f"the focus is at {css}, and not at {active(browser)}", 20)
    assert browser.js("return document.activeElement.matches(':focus-visible')"), css


def active(browser: Browser) -> str:
    return str(browser.js("return document.activeElement.outerHTML.slice(0, 200)"))


def go(browser: Browser, row: str, action: str) -> None:
    """From a row to one of its buttons, or to what is behind the last of them; and press it."""
    here = f"{row} [data-act={action}]:not([hidden])"
    wanted = here if browser.count(here) else f"{row} .more"
    browser.press("left", "left", "left", "left")
    focus(browser, row)
    for _ in range(5):
        if browser.js("return document.activeElement.matches(arguments[0])", wanted):
            break
        browser.press("right")
    focus(browser, wanted)
    # One that has just come to mean this does nothing for a moment.
    settled = "return !(document.activeElement.settled > performance.now())"
    until(lambda: browser.js(settled), "it can be pressed", 20)
    browser.press("enter")
    if wanted == here:
        return
    for _ in range(8):
        if browser.js("return document.activeElement.dataset.act") == action:
            break
        browser.press("down")
    focus(browser, f"#menu [data-act={action}]")
    browser.press("enter")


def test_a_day_at_the_desk_by_keyboard_alone(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    """Take, whisper, consult and back, consult and connect, transfer, hang up: no mouse, no script."""
    see(browser, panel, view="supervisor")
    browser.js("localStorage.clear()")
    see(browser, panel, view="supervisor")
    call(client, "park", caller_id_name="Ada Lovelace")
    row = row_of(call(client, "park", caller_id_name="Grace Hopper"))
    until(lambda: browser.count(f"{row}[data-state=parked]"), "she waits", 20)
    browser.keys("/")
    focus(browser, "#calls-filter")
    browser.keys("grace")
    until(lambda: browser.count("#calls-rows tr:not(.space)") == 1, "the others are not shown", 20)
    browser.press("down")
    focus(browser, row)
    # One row alone is in the way of the tab key, however many there are.
    assert browser.count("#calls-rows [tabindex='0']:not([hidden])") == 5
    # No phone is set: it is asked for. Escape closes, and the focus is where it was.
    browser.press("enter")
    focus(browser, "#prefs [name=phone]")
    browser.press("escape")
    focus(browser, row)
    assert browser.count(f"{row}[data-state=parked]")
    browser.press("enter")
    focus(browser, "#prefs [name=phone]")
    # The tab key goes round and does not leave the dialog.
    reached = set()
    for _ in range(12):
        browser.press("tab")
        assert browser.js("return document.querySelector('#prefs').contains(document.activeElement)"), active(browser)
        reached.add(active(browser))
    assert len(reached) == 7
    while not browser.js("return document.activeElement.name === 'phone'"):
        browser.press("tab")
    browser.keys(PHONE)
    browser.press("enter")
    browser.sees("#notices", f"talks to {PHONE}", 20)
    until(lambda: browser.count(f"{row}[data-state=active]"), "it is taken", 20)
    focus(browser, row)

    go(browser, row, "whisper")
    browser.sees("#notices", f"{PHONE} listens; our side hears it", 20)
    browser.sees(f"{row} .now", "listens", 20)
    go(browser, row, "consult")
    focus(browser, "#transfer [name=target]")
    browser.press("escape")
    focus(browser, f"{row} .more")
    for step, said in (("back", "back with the caller"), ("connect", f"talks to {PHONE}")):
        go(browser, row, "consult")
        browser.keys(PHONE)
        browser.press("enter")
        browser.sees(f"{row} .now", f"on hold while {PHONE} is asked", 20)
        until(lambda: browser.count(f"{row} [data-act=connect]:enabled"), "it has answered", 20)
        go(browser, row, step)
        browser.sees("#notices .notice:last-child", said, 20)
        # Until its events have come the row still has the buttons of the consultation.
        until(lambda: browser.count(f"{row}[data-state=active] [data-act=transfer]:not([hidden])"), "they talk", 20)

    go(browser, row, "transfer")
    focus(browser, "#transfer [name=target]")
    browser.keys("park")
    browser.press("enter")
    browser.sees("#notices .notice:last-child", "waits at park", 20)
    focus(browser, f"{row} [data-act=transfer]")
    go(browser, row, "hangup")
    focus(browser, f"{row} .end[data-armed=ready]")
    browser.press("enter")
    browser.sees("#notices .notice:last-child", "hung up", 20)
    client.request("hupall")
    browser.sees("#calls-count", "", 20)


# All that is read on the page and is, word for word, English of the table; but for what is the same in German.
ENGLISH = """
const [{ texts: en }, { texts: de }] = await Promise.all([import('/texts-en.js'), import('/texts-de.js')]);
const english = new Set(Object.keys(en).filter((name) => en[name] !== de[name]).map((name) => en[name]));
Object.values(de).forEach((text) => english.delete(text));
const found = [...document.querySelectorAll('body *')].flatMap((e) => [e.placeholder, e.ariaLabel, e.title,
  ...[...e.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent.trim())]);
return found.filter((text) => text && english.has(text));
"""


def test_in_german(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel)
    row = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    browser.sees(f"{row} .badge", "Waits", 20)
    assert browser.js(ENGLISH) != []
    browser.click("#prefs-open")
    browser.js("document.querySelector('#prefs [name=language]').value = 'de'")
    browser.click("#prefs .main")
    browser.sees(f"{row} .badge", "Wartet", 20)
    browser.sees(f"{row} [data-act=hangup]", "Auflegen", 20)
    assert browser.js("return document.documentElement.lang") == "de"
    browser.sees("#park-title", "Parkmodus", 20)
    browser.sees("#park-states", "nicht verfügbar", 20)
    browser.sees("#calls-count", "1 Anruf", 20)
    until(lambda: browser.js(ENGLISH) == [], lambda: f"these are English: {browser.js(ENGLISH)}", 20)
    explain = "const { explain } = await import('/pattern.js'); return explain(arguments[0])"
    pattern = r"^(?:00|\+)49(30|89)\d{3,}"
    said = "beginnt mit entweder 00 oder +, dann 49, dann entweder 30 oder 89, dann eine Ziffer mindestens 3-mal"
    assert browser.js(explain, pattern) == said
    browser.click("#prefs-open")
    browser.js("document.querySelector('#prefs [name=language]').value = 'en'")
    browser.click("#prefs .main")
    browser.sees(f"{row} .badge", "Waits", 20)
    said = "begins with either 00 or +, then 49, then either 30 or 89, then a digit at least 3 times"
    assert browser.js(explain, pattern) == said
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)
