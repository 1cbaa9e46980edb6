"The page, in a real browser: what a person sees, types and reads, with a key and without, and with names that try to break out."
import json, re

import pytest
from bundles import COLUMNS, by_hand
from browser import FOUND, Browser

from mlcycle.contract import Column
from mlcycle.keys import open_keys
from mlcycle.page import PAGE, PAGE_POLICY
from mlcycle.registry import open_registry
from mlcycle.roster import Roster
from mlcycle.web import Settings, make_app, running

pytest.importorskip("websocket")
pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine")

EVIL = '<img src=x onerror="window.caught=1">'
WIDE = [*COLUMNS, Column(name="logins_a_week", type="integer", nullable=True, minimum=0, maximum=9, unit="a week"), Column(name="paid", type="boolean"), Column(name="note", type="text", nullable=True), Column(name="since", type="datetime", nullable=True),
    Column(name=f"a{EVIL}", type="category", categories=[EVIL, "b"], meaning=f"a trap {EVIL}", nullable=True)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "Three models and a key for two of them"
    desk = tmp_path_factory.mktemp("page")
    registry = open_registry(str(desk/"registry"))
    for name, task, more in [("tiny", "binary", {"columns": WIDE}), ("kinds", "multiclass", {}), ("amount", "regression", {"interval": 0.9}), ("hidden", "binary", {})]:
        by_hand(desk/name, name=name, task=task, **more)
        version = registry.add(desk/name, "A", "first")
        registry.promote(name, version.version, "champion", "A", "it is good")
    roster = Roster(registry)
    roster.start()
    keys = open_keys(desk/"keys.json")
    secret = keys.make("ann", models=["tiny", "kinds", "amount"])
    with running(make_app(roster, Settings(max_rows=50), keys=keys)) as locked, running(make_app(roster, Settings(max_rows=50), local=True)) as free: yield locked, free, secret
    roster.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def opened(browser, port, model=None):
    browser.console.clear()
    browser.go(f"http://127.0.0.1:{port}/")
    browser.wait("document.readyState === 'complete' && (!$('work').hidden || !$('door').hidden)")
    if model:
        browser.js(f"model = null; $('model').value = '{model}'; $('model').dispatchEvent(new Event('change'))")
        browser.wait(f"model && model.model === '{model}'")


def fill(browser, **values):
    for name, value in values.items(): browser.js(f"fields.get({json.dumps(name)}).input.value = {json.dumps(value)}")
    browser.js("$('said').replaceChildren(); document.querySelector('button.main').click()")
    browser.wait("$('said').textContent")
    return browser.js("$('said').innerText")


def test_a_form_made_from_the_contract(browser, served):
    opened(browser, served[1], "tiny")
    text = browser.js("document.body.innerText")
    for words in ("tiny, version 1.0.0", "how often: 0.5 to 1", "x (share)", "logins a week (a week)", "0 to 9, whole number, may be left empty", "a date such as 2025-07-31", "The model answers “y”: no or yes."): assert words in text, text
    assert browser.js("fields.get('plan').input.tagName") == "SELECT" and browser.js("[...fields.get('plan').input.options].map(o => o.text)") == ["(not known)", "basic", "pro"]
    assert browser.js("fields.get('x').input.value") == "0.5" and browser.js("[...fields.get('paid').input.options].map(o => o.text)") == ["yes", "no"]


def test_the_answer_in_words(browser, served):
    opened(browser, served[1], "tiny")
    text = fill(browser, x="0.9", plan="pro", paid="true", since="2025-07-31", note="hello")
    assert re.search(r"y:\s*yes", text) and "The probability of “yes” is 80.0 %" in text and "from 30.0 % on" in text and "Unusual" not in text
    assert browser.js("document.querySelector('#said .bar .fill').style.width") == "80%" and browser.js("document.querySelector('#said .bar .mark').style.left") == "30%"
    assert re.search(r"prediction [0-9a-f]{24}", text) and f"curl 'http://127.0.0.1:{served[1]}/v1/models/tiny:predict' -H" in browser.js("document.querySelector('pre').textContent")
    text = fill(browser, x="0.4", logins_a_week="")
    assert "Unusual" in text and "x is 0.4; known: 0.5 to 1" in text and browser.js("fields.get('x').box.className") == "unusual"
    browser.js("document.getElementById('form').dispatchEvent(new Event('input', {bubbles: true}))")
    assert browser.js("$('said').classList.contains('older')")  # an answer to other values than the form now shows


def test_what_cannot_be_answered(browser, served):
    opened(browser, served[1], "tiny")
    text = fill(browser, x="0,9", logins_a_week="1.5", since="yesterday")
    assert "No answer" in text and "logins a week is 1.5; allowed: a whole number" in text and "since is 'yesterday'" in text
    assert browser.js("fields.get('x').fault.textContent") == "not possible; allowed: a number, with a point: 0.9" and browser.js("fields.get('since').box.className") == "wrong"
    assert "x is missing" in fill(browser, x="", logins_a_week="", since="") and browser.js("fields.get('since').box.className") == ""
    assert re.search(r"y:\s*yes", fill(browser, x="0.9"))


def test_reasons_if_asked(browser, served, monkeypatch):
    from mlcycle import reasons
    monkeypatch.setattr(reasons, "explain", lambda bundle, columns: [{k: {"x": 0.25, "plan": -0.125}.get(k, 0.) for k in columns}])
    opened(browser, served[1], "tiny")
    browser.js("$('why').checked = true")
    text = fill(browser, x="0.9")
    assert "Usual is 67.5 %; with all of this it is 80.0 %." in text and "+25.0" in text and "−12.5" in text and "The other 5 values make next to no difference." in text
    assert ":predict?explain=true'" in browser.js("document.querySelector('pre').textContent")
    monkeypatch.setattr(reasons, "explain", lambda bundle, columns: [dict.fromkeys(columns, float("nan"))])
    assert "No reasons can be given for this answer." in fill(browser, x="0.9")


def test_other_kinds_of_answers(browser, served):
    opened(browser, served[1], "kinds")
    assert re.search(r"y:\s*a\s+a\s+60.0 %\s+b\s+60.0 %\s+c\s+−?-?20.0 %", fill(browser, x="0.6"))
    opened(browser, served[1], "amount")
    assert re.search(r"0.8 points\s+Between -0.2 and 1.8 points in 90.0 % of such cases.", fill(browser, x="0.9")) and "estimates “y” in points" in browser.js("document.body.innerText")


def test_with_a_key(browser, served):
    "Asked for, refused if wrong, kept in no store, and only its models are offered"
    locked, _, secret = served
    opened(browser, locked)
    assert "This server asks for a key" in browser.js("document.body.innerText") and browser.js("$('work').hidden")
    def use(key): browser.js(f"$('key').value = '{key}'; document.querySelector('#door button').click()")
    use("ключ")
    browser.wait("$('trouble').textContent.includes('a key that is known here')")
    use("wrong")
    browser.wait("$('trouble').textContent && !$('trouble').textContent.includes('asks for a key')")
    assert browser.js("$('work').hidden")
    use(secret)
    browser.wait("!$('work').hidden")
    assert browser.js("[...$('model').options].map(o => o.value).sort()") == ["amount", "kinds", "tiny"]
    browser.js("$('model').value = 'tiny'; $('model').dispatchEvent(new Event('change'))"); browser.wait("model && model.model === 'tiny'")
    assert re.search(r"y:\s*yes", fill(browser, x="0.9")) and secret not in browser.js("document.body.innerText") + browser.js("document.querySelector('pre').textContent") and "YOUR_KEY" in browser.js("document.querySelector('pre').textContent")
    assert browser.js("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_names_that_try_to_break_out(browser, served):
    "Shown as the text that they are; the policy has nothing to complain about, and nothing comes from elsewhere"
    opened(browser, served[1], "tiny")
    fill(browser, x="0.9")
    assert EVIL in browser.js("document.body.innerText") and browser.js("window.caught") is None and browser.js("document.images.length") == 0
    assert browser.console == []
    assert browser.js("performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin) || e.name.startsWith('data:'))")
    blocked = browser.js("new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective)); const s = document.createElement('style'); s.textContent = 'a {}'; document.head.append(s); })")
    assert blocked == "style-src-elem"  # so the policy is in force


def test_the_page_comes_with_its_policy(served):
    import urllib.request
    answer = urllib.request.urlopen(f"http://127.0.0.1:{served[0]}/")
    assert answer.read() == PAGE and answer.headers["content-security-policy"] == PAGE_POLICY and answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in PAGE_POLICY and "default-src 'none'" in PAGE_POLICY and not re.search(rb"https?://", PAGE)
