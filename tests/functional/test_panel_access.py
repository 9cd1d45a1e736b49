"""Whether everybody can use the panel: contrast as measured, the keyboard alone, labels, another language."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel, call, my_phone, row_of, see
from tests.functional.parts import Agent, Client
from tests.support import until

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")

# WCAG 2.2, 1.4.3: text against what lies behind it, by the formula of relative luminance; 3 : 1 for large text.
CONTRAST = """
const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(colour(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own && !element.placeholder) continue;
  if (!element.checkVisibility({ opacityProperty: true }) || element.closest('.unseen, option, noscript')) continue;
  const style = getComputedStyle(element, own ? null : '::placeholder');
  const ground = behind(element);
  const [a, b] = [luminance(over(colour(style.color), ground)), luminance(ground)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  const size = parseFloat(style.fontSize);
  if (ratio < (size >= 24 ? 3 : 4.5)) {
    poor.push([element.tagName, element.className, element.textContent.trim().slice(0, 20), ratio.toFixed(2)].join());
  }
}
return poor;
"""
# 2.5.8: a target has 24 by 24 px.
SMALL = """return [...document.querySelectorAll('button, select, input')].filter((e) => e.checkVisibility())
    .filter((e) => !['checkbox', 'radio'].includes(e.type)).filter((e) => e.getBoundingClientRect().height < 24
    || e.getBoundingClientRect().width < 24).map((e) => e.outerHTML)"""


@pytest.fixture
def light(browser: Browser) -> Iterator[Browser]:
    """The browser, in light colours again at the end."""
    yield browser
    browser.scheme(False)


def test_contrast_in_both_themes_and_views(light: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    browser = light
    see(browser, panel)
    row = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    call(client, "9196", caller_id_name="Echo")
    until(lambda: browser.count(f"{row}[data-state=parked]"), "the call is there", 20)
    browser.js("""const rows = [...document.querySelectorAll('#calls-rows tr')];
        const copies = [['urgency', '1'], ['urgency', '2'], ['doubt', ''], ['state', 'ended']].map(([name, value]) => {
          const copy = rows[0].cloneNode(true); copy.dataset[name] = value; copy.dataset.copy = '';
          if (name === 'doubt') copy.querySelectorAll('button').forEach((each) => { each.disabled = true; });
          return copy; });
        document.querySelector('#calls-table').append(...copies);
        const trouble = document.querySelector('#trouble');
        trouble.hidden = false;
        trouble.textContent = 'Trouble';""")
    for dark in (False, True):
        browser.scheme(dark)
        for view in ("supervisor", "engineer"):
            browser.js("location.hash = arguments[0]", view)
            until(partial(browser.count, f"body[data-view={view}]"), "the view is shown", 20)
            assert browser.js(CONTRAST) == [], (view, dark)
            assert browser.js(SMALL) == []
    browser.js("document.querySelectorAll('[data-copy]').forEach((each) => each.remove())")
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_taken_and_transferred_by_keyboard_alone(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    my_phone(browser, "loopback/park/default")
    first = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    second = row_of(call(client, "park", caller_id_name="Grace Hopper"))
    until(lambda: browser.count(f"{second}[data-state=parked]"), "both wait", 20)
    browser.js("document.activeElement.blur()")
    browser.keys("/")
    assert browser.js("return document.activeElement.id") == "calls-filter"
    browser.press("down")
    assert browser.js("return document.activeElement.matches(arguments[0])", first)
    browser.press("down")
    assert browser.js("return document.activeElement.matches(arguments[0])", second)
    # One row alone is in the way of the tab key, however many there are.
    assert browser.count("#calls-rows [tabindex='0']:not([hidden])") == 5
    browser.press("enter")
    until(lambda: browser.count(f"{second}[data-state=active]"), "the first action is Take", 20)
    until(lambda: browser.js("return document.activeElement.matches(arguments[0])", second), "the focus stays", 20)
    for _ in range(5):
        browser.press("right")
        if browser.js("return document.activeElement.dataset.act") == "transfer":
            break
    browser.press("enter")
    until(lambda: browser.count("#transfer[open]"), "it is asked where to", 20)
    browser.keys("nosuch")
    browser.press("enter")
    browser.sees("#notices .bad", "nosuch does not exist", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)


def test_in_german(browser: Browser, panel: Panel, agent: Agent, client: Client) -> None:
    see(browser, panel, view="supervisor")
    browser.click("#prefs-open")
    browser.js("document.querySelector('#prefs [name=language]').value = 'de'")
    browser.click("#prefs .main")
    browser.sees("#calls-empty", "Keine Anrufe.", 20)
    row = row_of(call(client, "park", caller_id_name="Ada Lovelace"))
    browser.sees(f"{row} .badge", "Wartet", 20)
    browser.sees(f"{row} [data-act=hangup]", "Auflegen", 20)
    assert browser.js("return document.documentElement.lang") == "de"
    browser.click("#prefs-open")
    browser.js("document.querySelector('#prefs [name=language]').value = 'en'")
    browser.click("#prefs .main")
    browser.sees(f"{row} .badge", "Waits", 20)
    client.request("hupall")
    browser.sees("#calls-empty", "No calls.", 20)
