"Who is told what, when, and over which wire; and what never leaves: secrets, the same thing twice, what flickers."
import json, logging, socketserver, threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlcycle.alert import DO, EARLY, KINDS, AlertSettings, check_addresses, deliver, fold_alerts, open_alerts, raise_alerts, say_alert, to_prometheus
from mlcycle.core import ProjectError

FACTS = {"name": "churn", "metric": "roc_auc", "higher": True, "reference": {"value": 0.80, "low": 0.77, "high": 0.83}, "reference_worth": {"value": 2., "low": 1.5, "high": 2.5}, "money": "EUR", "interval": 0.9}
CHARTER = {"owner": "the head of care", "stakeholders": [{"name": "data science", "deployment": "consulted"}, {"name": "IT operations", "deployment": "owns"}], "minimum": 0.7}
SECRET = "sesame-T0KEN-open"


def column(name="plan", drifted=True, effect=0.2, importance=0.1): return {"column": name, "drifted": drifted, "effect": effect, "floor": 0.1, "importance": importance, "missing": 0., "missing_then": 0.}


def window(n, *columns, **more):
    "A window in which nothing is known but the columns"
    return {"period": f"2026-01-{n:02}", "rows": 500, "labelled": 0, "quality": [], "columns": list(columns) or [column(drifted=False)], "drifted": [c["column"] for c in columns if c["drifted"]], "unseen": {},
            "score": {"drifted": False}, "joint": None, "metric": {"value": None}, "realised": {}, "estimate": None, "relation": None} | more


def play(entries, settings, charter=None, facts=FACTS):
    "Look after each window; what was told at each"
    state, out = {}, []
    for i in range(len(entries)):
        told, state = raise_alerts(entries[:i + 1], state, settings, charter, f"2026-01-{i + 2:02}T00:00:00Z", facts)
        out.append([(a["key"], a["news"]) for a in told])
    return out, state


def series(text): return [window(i + 1, column(drifted=s == "x")) for i, s in enumerate(text)]


def count(out, news): return sum(n == news for told in out for _, n in told)


# ---- when


@pytest.mark.parametrize("text, raise_after, clear_after, new, over", [("x.x.x.x.x.x.", 2, 2, 0, 0), ("x.x.x.x.x.x.", 1, 2, 1, 0), ("x.x.x.x.x.x.", 1, 1, 6, 6), (".xx.x.x.x..", 2, 2, 1, 1), ("xxx..xx..x..", 2, 2, 2, 2),
                                                                       ("xxxxxx", 3, 2, 1, 0), ("xx", 3, 2, 0, 0), ("......", 1, 1, 0, 0)])
def test_what_flickers_is_told_once_or_never(text, raise_after, clear_after, new, over):
    out, state = play(series(text), AlertSettings(raise_after=raise_after, clear_after=clear_after, again_after=99))
    assert (count(out, "new"), count(out, "over")) == (new, over) and count(out, "still") == count(out, "worse") == 0
    assert bool(state["up"]) == (new > over)


@pytest.mark.parametrize("text", ["x.x.xx...x", "xx.x.x..xx", ".xxxx.xx..", "xx........"])
def test_a_late_look_ends_where_many_looks_end(text):
    "Whoever begins to watch today has the same alerts up as whoever watched all the time; looking twice tells nothing twice"
    settings, entries = AlertSettings(), series(text)
    _, state = play(entries, settings)
    told, fresh = raise_alerts(entries, {}, settings, None, "2026-01-11T00:00:00Z", FACTS)
    assert set(fresh["up"]) == set(state["up"]) and {k: a["since"] for k, a in fresh["up"].items()} == {k: a["since"] for k, a in state["up"].items()}
    assert raise_alerts(entries, fresh, settings, None, "2026-01-11T00:05:00Z", FACTS) == ([], fresh) and all(a["news"] == "new" for a in told)


def test_an_alert_that_stays_is_told_again_only_after_so_long():
    out, _ = play(series("xxxxxxxxxxxx"), AlertSettings(again_after=4))
    assert [i for i, told in enumerate(out) if told] == [1, 5, 9] and [told[0][1] for told in out if told] == ["new", "still", "still"]


def test_a_clock_that_was_set_back_tells_nothing_twice():
    settings, entries = AlertSettings(again_after=1), series("xx")
    _, state = raise_alerts(entries, {}, settings, None, "2026-03-01T00:00:00Z", FACTS)
    assert raise_alerts(entries, state, settings, None, "2026-01-01T00:00:00Z", FACTS)[0] == []
    assert raise_alerts(entries, state, settings, None, "p07", FACTS)[0] == [] # a window without time


def test_worse_is_told_and_better_is_not():
    effects, unneeded = [0.2, 0.2, 0.9, 0.2, 0.2, 0.9, 0.2], column("main", False, importance=1.) # a warning from 0.5 on, since the model hardly needs it
    out, state = play([window(i + 1, column(effect=e, importance=0.005), unneeded) for i, e in enumerate(effects)], AlertSettings(again_after=99))
    assert [told for told in out if told] == [[("drift/plan", "new")], [("drift/plan", "worse")], [("drift/plan", "worse")]] and state["up"]["drift/plan"]["severity"] == "warning" # of the last two windows


def test_what_is_critical_waits_for_no_second_window():
    out, _ = play([window(1), window(2, metric={"value": 0.66, "low": 0.63, "high": 0.69, "constant": 0.65})], AlertSettings(raise_after=5))
    assert out[1] == [("performance", "new")]


def test_a_window_that_cannot_say_changes_nothing():
    good, bad, unknown = {"value": 0.8, "low": 0.77, "high": 0.83}, {"value": 0.73, "low": 0.705, "high": 0.755}, {"value": None}
    out, state = play([window(i + 1, metric=m) for i, m in enumerate([bad, unknown, unknown, bad, unknown, unknown, unknown])], AlertSettings(again_after=99))
    assert [i for i, told in enumerate(out) if told] == [3] and state["up"]["performance"]["since"] == "2026-01-01"
    out, _ = play([window(i + 1, metric=m) for i, m in enumerate([bad, bad, unknown, good, unknown, good])], AlertSettings(again_after=99))
    assert [told for told in out if told] == [[("performance", "new")], [("performance", "over")]]


def test_a_label_that_comes_late_may_end_an_alert():
    "The windows are judged anew: what was bad by the first labels is not so by all of them"
    bad, good = {"value": 0.73, "low": 0.705, "high": 0.755}, {"value": 0.8, "low": 0.77, "high": 0.83}
    _, state = play([window(1, metric=bad), window(2, metric=bad)], AlertSettings())
    told, state = raise_alerts([window(1, metric=good), window(2, metric=good)], state, AlertSettings(), None, "2026-02-01", FACTS)
    assert [a["news"] for a in told] == ["over"] and state == {"up": {}}


def test_slices_raise_nothing_and_groups_of_people_do():
    "Among rows that are alike in what the model goes by, any ranking is worse: that is no news"
    part = {"level": "pro", "rows": 200, "metric": {"value": 0.6, "low": 0.5, "high": 0.7}}
    worse = {"value": 0.2, "low": 0.1, "high": 0.3}
    realised = {"slices": [part | {"column": "plan", "against": worse}], "groups": [part | {"column": "sex", "gap": worse}]}
    told, _ = raise_alerts([window(n, realised=realised) for n in (1, 2)], {}, AlertSettings(), CHARTER, "x", FACTS)
    assert [a["key"] for a in told] == ["fairness/sex/pro"]


def test_a_window_under_way_raises_only_what_is_plainly_wrong():
    fault = {"column": "age", "found": "-1", "allowed": "0 to 120", "count": 3, "share": 0.1, "severity": "critical"}
    rules = ("contract: range", "skew", "freshness", "volume")
    open_ = window(2, column(effect=0.9), under_way=True, score={"drifted": True, "effect": 2., "floor": 0.1}, metric={"value": 0.5, "low": 0.4, "high": 0.55}, quality=[fault | {"rule": r} for r in rules])
    told, _ = raise_alerts([window(1), open_], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    assert {a["kind"] for a in told} == set(EARLY) and "volume" not in EARLY
    told, _ = raise_alerts([window(1), open_ | {"under_way": False}], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    assert {a["kind"] for a in told} == {*EARLY, "volume", "drift", "score", "performance"}


def test_what_is_wrong_with_the_log_itself_is_so_now_or_not():
    stale = {"rule": "freshness", "column": None, "found": "3 days", "allowed": "1 day", "count": 0, "share": 0., "severity": "warning"}
    twice = stale | {"rule": "duplicate"}
    told, state = raise_alerts([window(1), window(2, quality=[stale, twice], under_way=True)], {}, AlertSettings(), None, "x", FACTS)
    assert [a["key"] for a in told] == ["quality/duplicate", "freshness"]
    told, state = raise_alerts([window(1), window(2, quality=[twice], under_way=True)], state, AlertSettings(), None, "x", FACTS)
    assert [(a["key"], a["news"], a["cleared"]) for a in told] == [("freshness", "over", "2026-01-02")] and list(state["up"]) == ["quality/duplicate"]
    told, state = raise_alerts([window(1), window(2), window(3, quality=[twice])], state, AlertSettings(), None, "x", FACTS) # the newest window is another, the fault the same
    assert told == [] and list(state["up"]) == ["quality/duplicate"]


# ---- what


GROUP = {"column": "age_band", "level": "60+", "rows": 90, "gap": {"value": 0.2, "low": 0.1, "high": 0.3}}
CALIBRATION = {"ece": {"value": 0.08, "low": 0.06, "high": 0.1}, "by_chance": 0.01, "said": 0.11, "so": 0.19}
EVERYTHING = window(1, column(), labelled=300, unseen={"plan": ["family"]}, drifted=[], score={"drifted": True, "effect": 0.3, "floor": 0.1}, joint={"effect": 0.4, "floor": 0.1, "drifted": True, "pairs": [{"columns": ["price", "plan"]}]},
    quality=[{"rule": r, "column": c, "found": "3 rows", "allowed": "none", "count": 3, "share": 0.1, "severity": "warning"} for r, c in [("unseen", "plan"), ("volume", None), ("freshness", None), ("skew: inputs", "plan")]],
    metric={"value": 0.6, "low": 0.55, "high": 0.65, "constant": 0.5}, estimate={"metric": {"value": 0.7, "low": 0.68, "high": 0.72}, "trusted": True, "why": ["It is blind to concept drift."]},
    relation={"p": 0.001, "moved": True, "words": "17 % instead of 11 %", "segment": {"column": "plan", "level": "pro"}},
    realised={"worth": {"value": -1., "low": -2., "high": -0.5}, "calibration": CALIBRATION, "groups": [GROUP]})


def test_every_kind_says_what_where_how_much_since_and_what_to_do():
    told, _ = raise_alerts([EVERYTHING], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    assert {a["kind"] for a in told} == set(KINDS) == set(DO)
    for a in told:
        assert all(a[k] for k in ("what", "where", "how_much", "since", "period", "raised", "do")) and a["owner"] == "IT operations" and "NAME" not in a["do"]
        assert a["what"].endswith(".") and all(w in say_alert(a) for w in (a["what"], a["how_much"], a["do"], "IT operations"))
    assert "family" in next(a for a in told if a["kind"] == "drift")["how_much"] and "registry rollback churn" in next(a for a in told if a["kind"] == "performance")["do"]


def test_the_order_is_fixed_and_the_gravest_come_first():
    turned = EVERYTHING | {"quality": EVERYTHING["quality"][::-1], "columns": [column("zeta"), *EVERYTHING["columns"]]}
    told, state = raise_alerts([turned], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    severities = [a["severity"] for a in told]
    assert severities == sorted(severities, key=["critical", "warning", "info"].index) and list(state["up"]) == sorted(state["up"])
    again = raise_alerts([turned | {"quality": EVERYTHING["quality"], "columns": turned["columns"][::-1]}], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    assert json.dumps([told, state]) == json.dumps(again)


@pytest.mark.parametrize("entry, key, severity", [
    (window(1, column(importance=0.005), column("main", False, importance=1.)), "drift/plan", "info"), (window(1, column(importance=0.2), column("main", False, importance=1.)), "drift/plan", "warning"),
    (window(1, column(effect=0.6, importance=0.2), column("main", False, importance=1.)), "drift/plan", "warning"), (window(1, column(effect=0.6, importance=0.005), column("main", False, importance=1.)), "drift/plan", "warning"),
    (window(1, column(importance=None)), "drift/plan", "warning"), # nobody knows how much the model needs it
    (window(1, metric={"value": 0.75, "low": 0.73, "high": 0.77, "constant": 0.5}), "performance", "warning"), # below the reference
    (window(1, metric={"value": 0.66, "low": 0.63, "high": 0.69, "constant": 0.5}), "performance", "critical"), # below the charter's minimum
    (window(1, metric={"value": 0.69, "low": 0.66, "high": 0.72, "constant": 0.5}), "performance", "critical"), # worse for sure, and short of it, if by chance
    (window(1, metric={"value": 0.73, "low": 0.70, "high": 0.76, "constant": 0.71}), "performance", "critical"), # a constant might be as good
    (window(1, metric={"value": 0.79, "low": 0.76, "high": 0.82, "constant": 0.5}), "performance", None), # by chance
    (window(1, estimate={"metric": {"value": 0.7, "low": 0.68, "high": 0.72}, "trusted": False, "why": ["Few rows."]}), "estimate", "info"),
    (window(1, estimate={"metric": {"value": 0.8, "low": 0.78, "high": 0.82}, "trusted": True, "why": []}), "estimate", None),
    (window(1, realised={"worth": {"value": 0.5, "low": 0.1, "high": 0.9}}), "value", "warning"), (window(1, realised={"worth": {"value": -0.5, "low": -0.9, "high": -0.1}}), "value", "critical"),
    (window(1, realised={"worth": {"value": 1.8, "low": 1.2, "high": 2.4}}), "value", None), (window(1, realised={"groups": [GROUP | {"gap": {"value": 0.2, "low": -0.1, "high": 0.5}}]}), "fairness/age_band/60+", None),
    (window(1, realised={"groups": [GROUP]}), "fairness/age_band/60+", "info"), # the charter has no limits
    (window(1, realised={"calibration": CALIBRATION | {"ece": {"value": 0.015, "low": 0.012, "high": 0.02}}}), "calibration", None), # too small to matter
    (window(1, realised={"calibration": {"coverage": {"value": 0.8, "low": 0.75, "high": 0.85}, "then": 0.9}}), "calibration", "warning"),
    (window(1, realised={"calibration": {"coverage": {"value": 0.87, "low": 0.83, "high": 0.91}, "then": 0.9}}), "calibration", None),
    (window(1, column(), joint={"effect": 0.4, "floor": 0.1, "drifted": True, "pairs": [{"columns": ["price", "plan"]}]}), "joint", None)]) # the columns explain it
def test_how_grave_it_is(entry, key, severity):
    told, _ = raise_alerts([entry], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)
    assert {a["key"]: a["severity"] for a in told}.get(key) == severity


def test_of_an_error_less_is_better():
    facts = FACTS | {"metric": "rmse", "higher": False, "reference": {"value": 10., "low": 9., "high": 11.}}
    worse, better = ({"value": v, "low": v - 1, "high": v + 1, "constant": 30.} for v in (14., 6.))
    severity = lambda metric, minimum: [a["severity"] for a in raise_alerts([window(1, metric=metric)], {}, AlertSettings(raise_after=1), {"minimum": minimum}, "x", facts)[0]]
    assert severity(worse, 20.) == ["warning"] and severity(worse, 12.) == ["critical"] and severity(better, 12.) == []


def test_the_stream_of_errors_raises_at_once():
    event = {"row": "r7", "at": "2026-01-02", "period": "2026-01-02", "known": "2026-01-02", "since": "2025-12-20", "words": "errors rose from 0.1 to 0.2"}
    out, _ = play([window(1), window(2), window(3), window(4)], AlertSettings(raise_after=3), facts=FACTS | {"stream": [event]})
    assert [told for told in out if told] == [[("concept/stream", "new")]]


def test_without_an_owner_of_deployment_it_is_the_projects():
    owners = [raise_alerts(series("xx"), {}, AlertSettings(), c, "x", FACTS)[0][0]["owner"] for c in ({"owner": "Ann", "stakeholders": []}, {}, None)]
    assert owners == ["Ann", None, None]


# ---- over which wire


@contextmanager
def webhook(codes=()):
    "A server that keeps what is posted, and answers these codes first"
    got, codes = [], list(codes)
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(codes.pop(0) if codes else 200); self.end_headers()
        def log_message(self, *about): pass
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try: yield f"json://me:{SECRET}@127.0.0.1:{server.server_port}/hook/{SECRET}", got
    finally: server.shutdown(); server.server_close()


@contextmanager
def mailbox():
    "A mail server that takes everything; what was said to it"
    said = []
    class Talk(socketserver.StreamRequestHandler):
        def handle(self):
            answer = lambda line: self.wfile.write(line.encode() + b"\r\n")
            answer("220 here")
            while line := self.rfile.readline().decode().strip():
                said.append(line)
                verb = line.split()[0].upper()
                if verb == "EHLO": answer("250-here"); answer("250 AUTH PLAIN LOGIN")
                elif verb == "AUTH": answer("235 yes")
                elif verb == "DATA":
                    answer("354 go on")
                    while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".": said.append(part)
                    answer("250 taken")
                elif verb == "QUIT": answer("221 bye"); return
                else: answer("250 yes")
    server = socketserver.TCPServer(("127.0.0.1", 0), Talk)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try: yield server.server_address[1], said
    finally: server.shutdown(); server.server_close()


@pytest.fixture
def alerts(): return raise_alerts([EVERYTHING], {}, AlertSettings(raise_after=1), CHARTER, "2026-01-02", FACTS)[0]


def test_a_webhook_gets_all_of_it_in_one_message(alerts, monkeypatch):
    with webhook() as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        assert deliver(alerts, ["${ALERT_URL}"], "churn") == {} and deliver([], ["${ALERT_URL}"]) == {}
    assert len(got) == 1 and got[0]["title"].startswith("churn: 2 critical, ") and got[0]["type"] == "failure"
    assert all(a["what"] in got[0]["message"] and a["do"] in got[0]["message"] for a in alerts)


def test_good_news_is_no_failure(alerts, monkeypatch):
    with webhook() as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        deliver([alerts[0] | {"news": "over", "cleared": "2026-01-05"}], ["${ALERT_URL}"], "churn")
    assert got[0]["title"] == "churn: 1 over" and got[0]["type"] == "info" and "no longer in 2026-01-05" in got[0]["message"]


def test_a_mail(alerts, monkeypatch):
    with mailbox() as (port, said):
        monkeypatch.setenv("MAIL_PASSWORD", "p@ss/word")
        assert deliver(alerts[:1], [f"mailto://me:${{MAIL_PASSWORD}}@127.0.0.1:{port}?from=me@example.com&to=you@example.com&mode=insecure&format=text"], "churn") == {}
    text = "\n".join(said)
    assert "you@example.com" in text and "churn: 1 critical" in text and any("p@ss/word" in b64decode(line.split()[-1] + "==").decode(errors="replace") for line in said if line.startswith("AUTH"))


@pytest.mark.parametrize("codes, words", [((500,), "it answered 500"), ((403,), "it answered 403")])
def test_what_an_address_refuses_is_told_without_its_secret(alerts, monkeypatch, capfd, caplog, codes, words):
    caplog.set_level(logging.DEBUG)
    with webhook(codes) as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        problems = deliver(alerts, ["${ALERT_URL}"], "churn")
    assert list(problems) == ["${ALERT_URL}"] and words in problems["${ALERT_URL}"] and len(got) == 1
    told = json.dumps(problems) + "".join(capfd.readouterr()) + caplog.text
    assert SECRET not in told and "127.0.0.1" not in told and "json" in told


@pytest.mark.parametrize("value, words", [(f"json://me:{SECRET}@127.0.0.1:1/{SECRET}", "nobody listens there"), (f"nothing://{SECRET}", "no address that Apprise knows"), (SECRET, "no address that Apprise knows"), ("", "which is not set"),
                                          (f"slack://{SECRET}", "no address that Apprise knows")])
def test_an_address_that_cannot_be(alerts, monkeypatch, capfd, caplog, value, words):
    monkeypatch.setenv("ALERT_URL", value)
    why, = deliver(alerts[:1], ["${ALERT_URL}"]).values()
    assert words in why and SECRET not in why + "".join(capfd.readouterr()) + caplog.text and "ALERT_URL" in why


def test_one_address_that_fails_does_not_keep_it_from_another(alerts, monkeypatch):
    with webhook() as (url, got):
        monkeypatch.setenv("GOOD", url); monkeypatch.setenv("BAD", "json://127.0.0.1:1/")
        assert list(deliver(alerts, ["${BAD}", "${GOOD}"])) == ["${BAD}"] and len(got) == 1


def test_a_secret_in_params_is_refused_and_not_repeated():
    with pytest.raises(ProjectError, match="entry 2 names no variable") as e: check_addresses(["${ALERT_URL}", f"slack://{SECRET}"])
    assert SECRET not in str(e.value) and "ALERT_URL" in str(e.value)


def test_without_apprise_it_says_what_to_install(alerts, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "extra `monitor`" in deliver(alerts, ["${ALERT_URL}"])["${ALERT_URL}"]


# ---- for Prometheus


def test_prometheus_reads_it_whatever_things_are_called(alerts):
    odd = 'a "b"\\\nc{}'
    entry = EVERYTHING | {"columns": [column(odd), column("none", effect=None)]}
    report = FACTS | {"name": odd, "periods": [window(0), entry, window(2, under_way=True)], "alerts": fold_alerts(alerts), "at": "2026-01-02T00:00:00Z"}
    found = {f.name: {tuple(sorted(s.labels.items())): s.value for s in f.samples} for f in text_string_to_metric_families(to_prometheus(report))}
    value = lambda name, **labels: found[name][tuple(sorted({"model": odd, **labels}.items()))]
    assert value("model_drift", column=odd) == 0.2 and value("model_drifted", column=odd) == 1 and len(found["model_drift"]) == 1
    assert value("model_performance", metric="roc_auc", of="value") == 0.6 and value("model_performance_reference", metric="roc_auc", of="high") == 0.83 and value("model_worth", of="low") == -2
    assert value("model_alerts", severity="critical") == 2 == sum(a["severity"] == "critical" for a in open_alerts(report["alerts"])) and value("model_labelled_share") == 0.6
    assert value("model_monitor_time_seconds") == 1767312000 and value("model_data_faults", rule="volume", column="") == 3


def test_what_nobody_knows_has_no_line():
    found = {f.name: f.samples for f in text_string_to_metric_families(to_prometheus({"name": "churn", "periods": [window(1)], "alerts": []} | FACTS))}
    assert found["model_performance"] == found["model_performance_estimate"] == found["model_worth"] == [] and [s.value for s in found["model_alerts"]] == [0, 0, 0]
    assert to_prometheus({"periods": [], "alerts": []})
