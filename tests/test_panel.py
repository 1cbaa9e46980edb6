"The monitoring report as a page: what it says of all kinds of reports, and what a click does in a real browser."
import json, random, re

import pytest
from browser import FOUND, Browser

from mlcycle.panel import render_report, say_state

EVIL = '<img src=x onerror="window.caught=1">"\'&'


def span(value, width=0.03): return {"value": value, "low": value - width, "high": value + width}


def look(name, at, rng, moved=False, unseen=(), importance=0.1):
    "A column's comparison in a period"
    effect = 0.6 if moved else rng.random()*0.1
    return {"column": name, "psi": effect**2, "share": effect/2, "effect": effect, "floor": 0.12, "p": 1e-12 if moved else rng.random(), "q": 0.5, "unseen": list(unseen), "missing": 0.02, "missing_then": 0.01, "drifted": moved,
        "importance": importance, "recent": {"effect": 0.03, "p": 0.4, "drifted": False}}


def some_report(names=("price", "plan", "logins"), n=6, task="binary", labels=True, time=True, moved=("plan",), bins=12, **more):
    "A report of n periods, in which columns move half-way"
    rng, metric = random.Random(0), {"binary": "roc_auc", "regression": "rmse"}[task]
    periods = [f"2025-{1 + i%12:02d}" if n <= 12 else f"w{i:03d}" for i in range(n)] if time else [f"p{i}" for i in range(n)]
    def entry(i, period):
        there, late = labels and i < max(n - 2, 1), i >= n//2
        return {"period": period, "rows": 1000 + i, "labelled": 1000 + i if there else 0, "complete": 1. if there else 0., "known_by": period if there else None, "begins": None, "ends": None,
            "metric": span(0.8) | {"constant": 0.5} if there else dict.fromkeys(["value", "low", "high", "constant"]),
            "realised": {"all": {"brier": span(0.1)}, "worth": span(1.) if there else None, "calibration": {"ece": span(0.05), "by_chance": 0.02} if there else None, "warning": None,
                "slices": [{"column": names[0], "level": "low", "rows": 90, "metric": span(0.7), "against": span(0.1, 0.05)}], "groups": [{"column": "age", "level": a, "rows": 90, "metric": span(0.7), "gap": span(0. if a == "old" else 0.1), "called": span(0.25), "called_more": span(-0.1)} for a in ("young", "old")]} if there else None,
            "estimate": {"metric": span(0.78), "all": {}, "worth": span(0.9), "trusted": not late, "why": ["It is blind to concept drift."]}, "quality": [], "causes": [], "relation": None, "unseen": {}, "joint": None,
            "columns": [look(c, i, rng, late and c in moved, importance=1/(1 + k)) for k, c in enumerate(names)], "score": look("_score", i, rng), "drifted": [c for c in names if late and c in moved]}
    shares = lambda: [round(1/bins + rng.random()/50, 4) for _ in range(bins)] + [0., 0.02]
    profile = {c: {"edges": [float(e) for e in range(bins + 1)], "then": shares(), "now": {p: shares() for p in periods}} for c in [*names, "_score"]}
    return {"version": 2, "name": "made up", "task": task, "metric": metric, "higher": task == "binary", "time": time, "unit": "month", "money": "EUR", "threshold": 0.3, "interval": None, "reference": span(0.81), "reference_worth": span(1.1),
        "overall": span(0.8), "worth": span(1.), "estimate_error": {"ours": 0.02, "naive": 0.05, "windows": 4}, "periods": [entry(i, p) for i, p in enumerate(periods)], "stream": [], "alerts": [], "rehearsal": None,
        "profile_columns": profile, "statement": "A sentence."} | more


def alert(severity="warning", key="drift:plan", **more):
    return {"key": key, "kind": key.split(":")[0], "severity": severity, "what": f"{key} is up", "where": "column `plan`", "how_much": "0.6, at least 0.12", "since": "2025-04", "period": "2025-05", "raised": "2025-05", "do": "Ask.", "owner": "A. Person", "cleared": None} | more


def text_of(page):
    "What a person reads, without the script and the style"
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", re.sub(r"(?s)<(script|style)[^>]*>.*?</\1>", "", page)))


def test_the_state_is_a_word_and_a_sentence():
    report = some_report()
    assert say_state(report)[0] == "well" and 'class="mark well">well<' in render_report(report)
    report["alerts"] = [alert(), alert("critical", "drift:price", since="2025-01"), alert("critical", "performance:", what="roc_auc fell.", since="2025-03"), alert("info", "joint:")]
    assert say_state(report) == ("act", "roc_auc fell, since 2025-03. 3 more alerts are open.")
    page = text_of(render_report(report))
    for said in ("what where since to do owner", "critical roc_auc fell. 0.6, at least 0.12 plan 2025-03 Ask. A. Person"): assert said in page, said
    assert page.index("roc_auc fell.", 100) < page.index("drift:price is up") < page.index("drift:plan is up") < page.index("joint: is up")
    report["alerts"][2]["severity"] = "warning"
    assert say_state(report)[1].startswith("drift:price is up")  # the gravest first, and only then what does harm
    for a in report["alerts"]: a["cleared"] = "2025-06"
    assert say_state(report)[0] == "well" and "Open alerts" not in render_report(report) and "All alerts so far: 4" in render_report(report)
    report["alerts"].append(alert("info", "joint:"))
    assert say_state(report) == ("well", "No warning is open after 6 periods; labels tell how well it predicts up to 2025-04.") and "Open alerts" in render_report(report)
    report["alerts"].append(alert())  # it came back
    assert say_state(report)[0] == "look"


def test_nobody_says_well_without_knowing():
    report = some_report(labels=False)
    for e in report["periods"]: e["estimate"]["trusted"] = False
    assert say_state(report)[0] == "look" and "nobody knows how well it predicts" in render_report(report)
    for e in report["periods"]: e["estimate"] = None
    assert "nobody knows" in render_report(report) and "no labels yet" in render_report(report)
    report["periods"][0]["estimate"] = {"metric": span(0.8), "trusted": True, "why": []}
    assert say_state(report)[0] == "look"  # it was to be trusted once
    report["periods"][-1]["estimate"] = {"metric": span(0.8), "trusted": True, "why": []}
    assert say_state(report) == ("well", "No warning is open after 6 periods; no label has come, and the estimate can be trusted.")


@pytest.mark.parametrize("more", [{}, {"time": False}, {"labels": False}, {"n": 1}, {"n": 2}, {"task": "regression"}, {"n": 40}, {"names": ["only"]}, {"profile_columns": {}}])
def test_all_kinds_of_reports(more):
    report = some_report(**more)
    page = render_report(report, {"metric": "roc_auc", "minimum": 0.7})
    assert page == render_report(json.loads(json.dumps(report)), {"metric": "roc_auc", "minimum": 0.7})  # the same report is the same bytes
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text_of(page) + "".join(re.findall(r'[ "](?:d|x|y|cx|cy|x1|y1|width|height)="[^"]*"', page)))
    assert ("drawn by lot" in page) == (more.get("time") is False) and ("the least, by the charter: 0.7" in page) == (more.get("task") != "regression")
    assert ("less is better" in page) == (more.get("task") == "regression") and len(page) < 400_000
    for e in report["periods"]: assert f">{e['period']}</" in page


def test_a_running_log():
    report = some_report(at="2025-06-14T10:30:00Z")
    assert "monitoring, 2025-01 to 2025-06, seen 2025-06-14 10:30" in text_of(render_report(report)) and "not over yet" not in render_report(report)
    report["periods"][-1]["under_way"] = True
    assert "2025-06 is not over yet." in render_report(report)


def test_nothing_to_show():
    assert "Nothing has been predicted yet" in render_report(some_report(n=0)) and "<script" not in render_report(some_report(n=0))
    bare = {"name": "bare", "metric": "rmse", "periods": [{"period": "p1", "rows": 0, "labelled": 0}]}
    assert "nobody knows how well it predicts" in render_report(bare) and "0 of 0 predictions" in text_of(render_report(bare))


def test_a_gap_is_not_bridged():
    "Labels are there, missing, and there again: two lines of the estimate, no line across; the points as many as there are labels"
    report = some_report(n=5)
    report["periods"][2]["estimate"], report["periods"][2]["metric"] = None, dict.fromkeys(["value", "low", "high", "constant"])
    page = render_report(report)
    line = re.search(r'<path d="([^"]+)" class="guess doubt">', page)[1]
    assert line.count("M") == 2 and line.count("L") == 2 and len(re.findall(r"<circle[^>]*><title>[^<]*: roc_auc", page)) == 2


def test_what_the_data_holds_stays_text():
    names = [f"a{EVIL}", "</script><script>window.caught=1</script>", "plan"]
    report = some_report(names, moved=names, alerts=[alert("critical", f"x:{EVIL}", where=f"column `{names[0]}`", do=EVIL, owner=EVIL)], name=EVIL, statement=EVIL, money=EVIL, stream=[{"period": "p", "words": EVIL}])
    report["profile_columns"]["plan"] = {"levels": [EVIL, "basic"], "then": [0.5, 0.5], "now": {e["period"]: [0.4, 0.6] for e in report["periods"]}}
    for e in report["periods"]:
        e["quality"] = [{"rule": EVIL, "column": names[0], "found": EVIL, "allowed": EVIL, "count": 1, "share": 0.1, "severity": "warning"}]
        if e["realised"]: e["realised"]["slices"] = [{"column": "plan", "level": EVIL, "rows": 3, "metric": span(0.7), "against": span(0.1)}]
        e["causes"] = [{"column": "plan", "level": EVIL, "rows": 3, "share_of_loss": 0.1, "words": EVIL}]
        e["relation"] = {"moved": True, "words": EVIL}
        e["columns"][0]["unseen"] = [EVIL]
    page = render_report(report, {"metric": EVIL})
    assert "<img" not in page and page.count("<script") == 2 and page.count("</script>") == 2 and not re.search(r"https?://|\sstyle=|<[^>]*\son\w+=\"", page)


def test_personal_columns_do_not_appear():
    "What has no histogram is personal: neither its name nor its values are shown"
    report = some_report(["price", "mail"], moved=["mail"])
    del report["profile_columns"]["mail"]
    for e in report["periods"]:
        e["columns"][1]["unseen"] = ["ann@example.org"]
        if e["realised"]: e["realised"]["slices"] = [{"column": "mail", "level": "ann@example.org", "rows": 3, "metric": span(0.7), "against": span(0.1)}]
        e["causes"] = [{"column": "mail", "level": "ann@example.org", "rows": 3, "share_of_loss": 0.1, "words": "mail ann@example.org"}]
        e["unseen"] = {"mail": ["ann@example.org"]}
    report["changes"] = [{"kind": "unseen category", "columns": ["mail"], "since": "2025-04", "told": None, "windows": None, "words": "ann@example.org in mail"}]
    report["rehearsal"] = {"false_alarms": {"of": 9, "raised": 1, "rate": 1/9, "allowed": 0.05}, "relation": None, "planted": [{"kind": "renamed", "column": "mail", "what": "mail renamed", "found_after": 1}]}
    page = render_report(report)
    assert "mail" not in page and "example.org" not in page and "0 of 1" in page


def test_what_has_changed_and_how_far_to_rely_on_it():
    changes = [{"kind": "covariate shift", "columns": ["plan"], "since": "2025-03", "told": "2025-04", "windows": 1, "words": "plan is distributed otherwise."}, {"kind": "concept drift", "columns": [], "since": "2025-03", "told": None, "windows": None, "words": "it no longer follows."}]
    planted = [{"kind": "shift", "column": "plan", "what": "plan moved", "found_after": 2}, {"kind": "flipped", "column": "price", "what": "labels flipped", "found_after": None}]
    rate = {"of": 200, "raised": 6, "rate": 0.03, "allowed": 0.05}
    page = text_of(render_report(some_report(changes=changes, rehearsal={"false_alarms": rate, "relation": rate | {"raised": 7}, "planted": planted})))
    for said in ("Covariate shift since 2025-03 (told in 2025-04, 1 period later): plan is distributed otherwise.", "Concept drift since 2025-03 (not told): it no longer follows.",
        "False alarms of drift: 6 in 200 periods into which the rows were dealt by lot (3 %; allowed 5 %).", "False alarms of concept drift: 7", "Planted: plan moved: found after 2 periods.", "Planted: labels flipped: not found.",
        "The estimate was off by 0.02 on average over 4 periods with labels; the guess that nothing changes, by 0.05."): assert said in page, said


def test_what_is_wrong_with_the_data_is_told_once():
    report = some_report()
    for i, e in enumerate(report["periods"][2:]): e["quality"] = [{"rule": "unseen", "column": "plan", "found": f"family in {i} rows", "allowed": "basic", "count": i, "share": 0.1, "severity": "warning"}]
    report["periods"][1]["quality"] = [{"rule": "volume", "column": None, "found": "9 rows", "allowed": "about 1,000", "count": 9, "share": 0., "severity": "critical"}]
    page = render_report(report)
    table = text_of(page[page.index("<h2>Data quality"):])
    assert "warning unseen plan family in 3 rows basic 10 % 2025-03 to 2025-06, in 4" in table and "critical volume all 9 rows about 1,000 – 2025-02" in table and "family in 2 rows" not in table


def test_what_is_looked_at_like_a_column():
    "The score, the predicted class and what goes together; with their histogram where there is one; a pair with a personal column stays unsaid"
    report = some_report()
    for e in report["periods"]:
        e["joint"] = look("_joint", 0, random.Random(0), True) | {"pairs": [{"columns": ["price", "logins"]}, {"columns": ["price", "mail"]}]}
        e["label"] = look("_label", 0, random.Random(0))
    report["profile_columns"]["_label"] = report["profile_columns"]["_score"]
    page = render_report(report)
    assert "how columns go together (price and logins), " in text_of(page) and "mail" not in page
    rows = re.search(r'<div class="rows">(.*?)</div>', page)[1]
    assert re.sub("<[^>]+>", "|", rows).split("||") == ["|what it answers", "which class it answers", "how columns go together", "price", "plan", "logins|"]
    assert re.search(r'id="c4" class="column"><summary><b>which class it answers</b>', page) and 'id="c5"' not in page


def test_groups_of_people():
    page = text_of(render_report(some_report(n=1)))
    assert "column value rows roc_auc than the others called than the others age young 90 0.7 (0.67 to 0.73) surely worse 25 % surely less age old 90 0.7 (0.67 to 0.73) perhaps chance 25 % surely less" in page
    assert "roc_auc by age ● old ● young" in page


def test_the_colour_says_how_many_times_what_counts():
    "Of three columns and the score only one moved, by 5 times its floor, in half of the periods; in these a square says that it counts"
    page = render_report(some_report())
    dark, flags = re.search(r'<path d="([^"]+)" class="s5">', page)[1], re.search(r'<path d="([^"]+)" class="flag">', page)[1]
    assert page.count('class="s5"') == 2 and dark.count("M") == flags.count("M") == 3  # one more in the legend
    assert not re.search('<path d="[^"]+" class="s[34]">', page)


def test_three_hundred_columns_and_sixty_periods():
    "The page stays small; columns that never moved are folded away"
    names = [f"column_{i:03d}" for i in range(300)]
    report = some_report(names, 60, moved=names[100:105], bins=14)
    page = render_report(report)
    assert len(page.encode()) < 3_000_000, len(page)
    assert "270 more columns that never moved" in page
    first = page[:page.index("270 more columns")]
    assert all(f">{c}</a>" in first for c in names[100:105]) and ">column_200</a>" not in first


def test_many_levels_are_folded_and_cannot_push_the_moved_one_out():
    levels = [f"l{i}" for i in range(44)]
    then, now = [1/43]*43 + [0.], [0.5/43]*43 + [0.5]  # the last one is new
    report = some_report(["shop"], 2)
    report["profile_columns"]["shop"] = {"levels": levels, "then": then + [0., 0.], "now": {e["period"]: now + [0., 0.] for e in report["periods"]}}
    page = text_of(render_report(report))
    assert "(32 others)" in page and "l43" in page and "0 % → 50 %" in page


needs_browser = pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("websocket")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def opened(browser, tmp_path, report):
    (tmp_path/"report.html").write_text(render_report(report, {"metric": "roc_auc", "minimum": 0.7}), encoding="utf-8")
    browser.console.clear()
    browser.go((tmp_path/"report.html").as_uri())
    browser.wait("document.readyState === 'complete' && document.documentElement.classList.contains('js')")


def seen(browser, css): return browser.js(f"[...document.querySelectorAll({json.dumps(css)})].filter(e => e.checkVisibility()).map(e => e.id)")


def click(browser, js_point):
    x, y = browser.js(f"(() => {{ {js_point} }})()")
    for kind in ("mousePressed", "mouseReleased"): browser.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


CELL = "const s = document.querySelector('svg.heat'); s.scrollIntoView({block: 'center'}); const b = s.getBoundingClientRect(), n = data.periods.length; return [b.left + b.width*(%d + .5)/n, b.top + 20*(%d + .5)];"


@needs_browser
def test_a_click_leads_to_a_column_and_to_a_period(browser, tmp_path):
    report = some_report(["price", f"plan{EVIL}", "logins"], moved=[f"plan{EVIL}"], alerts=[alert(where=f"column `plan{EVIL}`")])
    report["periods"][5]["columns"][1]["unseen"] = [EVIL]
    opened(browser, tmp_path, report)
    assert seen(browser, "details.column") == ["c1"] and seen(browser, "details.period") == ["t5"]  # the one that moved, the newest period
    click(browser, CELL % (1, 1))  # rows of the heat map: what it answers, price, plan, logins
    assert seen(browser, "details.column") == ["c0"] and browser.js("$('c0').open && document.activeElement.closest('details').id") == "c0"
    assert seen(browser, "details.period") == ["t1"] and "2025-02" in browser.js("$('c0').innerText") and browser.js("$('when').value + $('which').value") == "10"
    shares, then = report["profile_columns"]["price"]["now"]["2025-02"], report["profile_columns"]["price"]["then"]
    assert browser.js("$('c0').querySelector('.shares tspan').textContent") == f"{round(1000*then[0])/10:g} % → {round(1000*shares[0])/10:g} %"
    browser.js("document.querySelector('a[data-c=\"2\"]').focus()")
    browser.do("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert seen(browser, "details.column") == ["c2"] and browser.js("document.activeElement.closest('details').id") == "c2"
    click(browser, "const s = document.querySelector('svg.over[role=img]'); s.scrollIntoView({block: 'center'}); const b = s.getBoundingClientRect(); return [b.left + b.width*3.5/6, b.top + 5];")
    assert seen(browser, "details.period") == ["t3"] and "1,003" in browser.js("$('t3').innerText") and set(browser.js("[...document.querySelectorAll('rect.now')].map(r => r.getAttribute('x'))")) == {"360"}
    assert "yes" in browser.js("choose(1, 5, ''); $('c1').querySelector('dd').textContent") and EVIL in browser.js("$('c1').innerText")
    assert browser.console == [] and browser.js("window.caught") is None and browser.js("document.images.length") == 0
    blocked = browser.js("new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective)); const s = document.createElement('script'); s.textContent = 'window.caught = 1'; document.head.append(s); })")
    assert blocked == "script-src-elem" and browser.js("window.caught") is None  # so the policy is in force


@needs_browser
def test_other_periods_are_drawn_as_the_first_was(browser, tmp_path):
    "What the script draws for the newest period is what was written into the page"
    opened(browser, tmp_path, some_report())
    draw = "JSON.stringify([...document.querySelectorAll('details.column')].map(d => [d.querySelector('path.bar').getAttribute('d'), d.querySelector('.shares').textContent, [...d.querySelectorAll('dd')].map(e => e.textContent)]))"
    written = browser.js(draw)
    browser.js("for (const t of [2, data.periods.length - 1]) { period = t; data.columns.forEach((_, c) => draw($('c' + c), c)); }")
    assert browser.js(draw) == written
    browser.js("period = 2; data.columns.forEach((_, c) => draw($('c' + c), c))")
    assert browser.js(draw) != written


@needs_browser
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_a_phone_and_a_desk(browser, tmp_path, width):
    "Only the figures scroll sideways, and the newest period is in sight"
    opened(browser, tmp_path, some_report(alerts=[alert()], n=12))
    browser.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.go((tmp_path/"report.html").as_uri())
    browser.wait("document.documentElement.classList.contains('js')")
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    assert browser.js("(() => { const b = [...document.querySelectorAll('.names text')].at(-1).getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth; })()")
    browser.do("Emulation.clearDeviceMetricsOverride")


@needs_browser
def test_it_reads_without_the_script(browser, tmp_path):
    browser.do("Emulation.setScriptExecutionDisabled", value=True)
    try:
        (tmp_path/"plain.html").write_text(render_report(some_report(alerts=[alert()])), encoding="utf-8")
        browser.go((tmp_path/"plain.html").as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelector('details.column')")
        assert len(seen(browser, "details.column")) == 4 and len(seen(browser, "details.period")) == 6 and "drift:plan is up" in browser.js("document.body.innerText")
        assert seen(browser, ".choice") == []
    finally: browser.do("Emulation.setScriptExecutionDisabled", value=False)
