"`monitor`: a running server's log looked at once or all the time; what it says, writes, sends and returns, whatever the log holds."
import copy, http.client, json, os, re, shutil, signal, sqlite3, subprocess, sys, threading, time, urllib.request
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from bundles import by_hand
from conftest import EXAMPLE, ROOT
from test_alert import SECRET, webhook
from test_log import database, postgres # fixtures

from mlcycle.cli import main
from mlcycle.live import Numbers, alone, look, make_job, try_look, watch
from mlcycle.log import open_log
from mlcycle.package import make_profile
from mlcycle.registry import open_registry
from mlcycle.roster import Roster
from mlcycle.web import Lines, Settings, make_app, running

NOW = datetime(2026, 3, 12, 15, tzinfo=timezone.utc) # for all but the tests with a real server, or a process


def draw(rng, n, low=0.5, plans=("basic", "pro")):
    "Rows as the bundle learned from, or moved"
    x = rng.uniform(low, 1, n)
    return {"x": x, "plan": rng.choice(np.array(plans, dtype=object), n)}, (rng.random(n) < 2*x - 1).astype(int)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    "Two bundles that answer alike, and settings that take little time"
    folder, rng = tmp_path_factory.mktemp("watch"), np.random.default_rng(0)
    plain = by_hand(folder/"plain")
    (columns, y), (held, _) = draw(rng, 2000), draw(rng, 600)
    scores = plain.predict(held)["scores"]
    profile = make_profile(columns, y, scores[:, 1], plain.contract, {"roc_auc": {"value": 0.83, "low": 0.80, "high": 0.86}}, 10, held, scores)
    section = copy.deepcopy(EXAMPLE["monitor"])
    section["performance"] |= {"resamples": 100, "slices": 0}
    section["quality"] |= {"sample": 20, "pause": 1e4}
    section["alerts"] |= {"raise_after": 2, "clear_after": 2, "tell": "warning", "urls": []}
    (folder/"params.yaml").write_text(yaml.safe_dump({"monitor": section}))
    return SimpleNamespace(folder=folder, section=section, bundle=by_hand(folder/"bundle", profile=profile), other=by_hand(folder/"other", profile=profile, threshold=0.4))


class Shop:
    "A folder of somebody whose model runs: a log, and the command"
    def __init__(self, desk, folder, capsys):
        self.desk, self.folder, self.capsys, self.rng, self.n, self.bundle = desk, folder, capsys, np.random.default_rng(1), 0, desk.bundle
        self.words = ["--bundle", str(desk.folder/"bundle"), "--state", str(folder/"log"), "--config", str(desk.folder/"params.yaml"), "--out", str(folder/"out"), "--window", "day"]

    def put(self, ago, rows=150, label=True, bundle=None, **how):
        "Log a day's predictions, so many days ago, with their labels on the next day"
        log, bundle, begin = open_log(None, self.folder/"log"), bundle or self.bundle, (NOW - timedelta(days=ago)).replace(hour=0, minute=0, second=0)
        log.know(bundle.digest, bundle.contract)
        columns, y = draw(self.rng, rows, **how)
        scores, made, said = bundle.predict(columns)["scores"], [], []
        text = lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for i, s in enumerate(scores[:, 1]):
            self.n += 1
            made.append({"id": f"{self.n:06}", "request": f"r{self.n}", "row": f"k{self.n}", "at": text(begin + timedelta(minutes=i)), "model": "tiny", "version": "1.0.0", "digest": bundle.digest, "role": "champion", "key": "shop",
                         "label": "yes" if s >= 0.3 else "no", "score": float(s), "scores": {"no": 1 - float(s), "yes": float(s)}, "inputs": {"x": float(columns["x"][i]), "plan": columns["plan"][i]}, "warnings": []})
            if label: said.append({"id": f"{self.n:06}", "model": "tiny", "label": ["no", "yes"][y[i]], "at": text(begin + timedelta(days=1)), "key": "shop", "request": f"f{self.n}"})
        assert log.put(made) and (not said or log.feedback(said))
        log.close()
        return self

    def sql(self, *words):
        "Change what is in the log"
        db = sqlite3.connect(self.folder/"log"/"predictions.sqlite")
        for w in words: assert db.execute(w).rowcount > 0, w
        db.commit(); db.close()
        return self

    def job(self, *more):
        "What the command would look at"
        from mlcycle.cli import parser
        return make_job(None, parser().parse_args(["monitor", *self.words, *more]))

    def __call__(self, *more, code=0):
        "Give the command; what it says"
        self.capsys.readouterr()
        got = main(["monitor", *self.words, *map(str, more)])
        told = self.capsys.readouterr()
        text = told.out + told.err
        assert (code is None or got == code) and "Traceback" not in text, text
        return text

    def settings(self, **alerts):
        "Change the settings of alerts"
        (self.folder/"params.yaml").write_text(yaml.safe_dump(self.desk.section | {"alerts": self.desk.section["alerts"] | alerts}))
        self.words[self.words.index("--config") + 1] = str(self.folder/"params.yaml")
        return self

    @property
    def report(self): return json.loads((self.folder/"out"/"report.json").read_text())


@pytest.fixture
def shop(desk, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlcycle.live.utc_now", lambda: NOW)
    return Shop(desk, tmp_path, capsys)


# ---- from the server's log to a page


def test_what_a_server_answered_and_heard(desk, shop, monkeypatch):
    "A real server: predictions and labels over HTTP, then the command"
    monkeypatch.undo(); monkeypatch.chdir(shop.folder) # by the true clock
    roster, log = Roster(desk.folder/"bundle"), open_log(None, shop.folder/"log")
    roster.start()
    rng, rows = np.random.default_rng(2), 180
    columns, y = draw(rng, rows, plans=("basic", "pro"))
    columns["x"][60:] = rng.uniform(0.85, 1, rows - 60) # what comes in later is not what was learned from
    with running(make_app(roster, Settings(), None, log, True, Lines(os.open(os.devnull, os.O_WRONLY)))) as port:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        def ask(path, body):
            c.request("POST", path, json.dumps(body))
            r = c.getresponse()
            assert r.status == 200, r.read()
            return json.loads(r.read())
        asked = [{"x": float(x), "plan": p} for x, p in zip(columns["x"], columns["plan"])]
        ids = [p["id"] for i in range(0, rows, 60) for p in ask("/v1/models/tiny:predict", {"rows": asked[i:i + 60]})["predictions"]]
        ask("/v1/models/tiny/feedback", {"feedback": [{"id": i, "label": ["no", "yes"][k]} for i, k in zip(ids, y)][:120]})
    log.close(); roster.stop()
    text = shop("--once", "--window", 60, code=4)
    assert "180 predictions in 3 windows (60 rows)" in text and "120 with a label (67%)" in text and "`x` is not as the model learned it" in text and "What to do" in text
    assert shop.report["under_way"] is None and [e["labelled"] for e in shop.report["periods"]] == [60, 60, 0] and shop.report["periods"][0]["metric"]["value"] is not None
    page = (shop.folder/"out"/"report.html").read_text()
    assert "<html" in page and "tiny" in page and "is not as the model learned it" in page
    facts = json.loads(shop("--window", 60, "--json", code=4))
    assert facts["exit"] == 4 and facts["rows"] == 180 and facts["told"] == [] and "drift/x" in [a["key"] for a in facts["alerts"]] # told once


def test_all_is_well(shop):
    for ago in (3, 2, 1, 0): shop.put(ago, label=ago > 0)
    text = shop()
    assert "Up: no alerts." in text and f"{NOW:%Y-%m-%d} is not over: incomplete" in text
    assert shop.report["periods"][-1]["under_way"] is True and not any(e["under_way"] for e in shop.report["periods"][:-1])


def test_exit_codes_say_how_grave_it_is(shop):
    for ago in (3, 2, 1): shop.put(ago, low=0.5 if ago == 3 else 0.6)
    text = shop(code=3)
    assert "WARNING The column `x`" in text and "CRITICAL" not in text
    shop.put(0, low=0.95) # a window under way raises nothing by statistics
    shop(code=3)


def test_the_first_look_at_an_empty_log(shop):
    assert "there is nothing to monitor" in shop() and not (shop.folder/"out"/"report.json").exists()
    open_log(None, shop.folder/"log").close()
    assert "there is nothing to monitor" in shop("--since", "30d") and json.loads(shop("--json"))["exit"] == 0


# ---- what a log may hold


def test_one_row(shop):
    text = shop.put(1, rows=1, label=False)()
    assert "1 prediction in 1 window" in text and "0 with a label (0%)" in text


def test_no_label_at_all(shop):
    for ago in (2, 1): shop.put(ago, label=False)
    assert "300 predictions in 2 windows" in (text := shop()) and "0 with a label" in text and all(e["metric"]["value"] is None for e in shop.report["periods"])


def test_a_new_column_and_one_that_is_gone(shop):
    shop.put(2).put(1).sql("update predictions set inputs = json_set(inputs, '$.plann', 'pro') where id > '000200'")
    assert "150 predictions" not in (text := shop()) and {"new column"} <= {q["rule"] for q in shop.report["periods"][-1]["quality"]} and "Traceback" not in text
    shop.sql("update predictions set inputs = json_remove(inputs, '$.plan')")
    shop(code=None)
    assert {"new column", "not logged"} <= {q["rule"] for q in shop.report["periods"][-1]["quality"]} and [c["column"] for c in shop.report["periods"][-1]["columns"]] == ["x"]


def test_ids_twice_labels_that_are_none_and_a_clock_that_goes_backwards(shop):
    fields = "id, role, request, row, at, model, version, digest, key, label, score, scores, inputs"
    shop.put(3).put(2).put(1).sql(f"insert into predictions ({fields}) select id, 'a', request, row, at, model, version, digest, key, label, score, scores, inputs from predictions where id < '000010'",
        "update feedback set label = 'perhaps' where id = '000020'", "update feedback set at = '2001-01-01T00:00:00.000000Z' where id = '000030'", f"update predictions set at = '{NOW + timedelta(days=9):%Y-%m-%dT%H:%M:%S.%fZ}' where id = '000040'",
        "update predictions set score = null where id = '000050'", "update predictions set inputs = json_set(inputs, '$.x', 'many') where id = '000060'")
    text = shop(code=3)
    wrong = [q for q in shop.report["periods"][-1]["quality"]]
    assert {"duplicate", "label", "clock", "type"} <= {q["rule"] for q in wrong} and "9 predictions are there twice" in text and "labels are none, such as 'perhaps'" in text and "dated in the future" in text


def test_answers_of_another_bundle(shop):
    shop.put(1, bundle=shop.desk.other)
    assert "was written by the bundle" in shop(code=2)
    shop.put(1)
    assert "150 predictions in 1 window" in shop()


# ---- who is told


def test_told_once_then_again_after_a_while_then_over(shop):
    for ago in (2, 1): shop.put(ago, low=0.7)
    job = shop.job()
    first = look(job, NOW)
    assert {"drift/x", "score"} <= {a["key"] for a in first.told} and all(a["news"] == "new" for a in first.told)
    assert look(job, NOW + timedelta(minutes=5)).told == []
    assert {a["news"] for a in look(job, NOW + timedelta(days=8)).told} >= {"still"}


def test_a_message_that_nobody_takes_waits(shop, monkeypatch):
    for ago in (2, 1): shop.put(ago, low=0.7)
    shop.settings(urls=["${ALERT_URL}"])
    with webhook([500]) as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        text = shop(code=3)
        assert "${ALERT_URL} (json) did not get it: it answered 500. Tried again at the next look." in text and SECRET not in text
        assert SECRET not in (shop.folder/"out"/"state.json").read_text() + (shop.folder/"out"/"report.json").read_text()
        assert "did not get it" not in shop(code=3) and len(got) == 2 and got[0]["message"] == got[1]["message"]
        shop(code=3)
        assert len(got) == 2


def test_whoever_is_killed_while_sending_sends_at_the_next_look(shop, monkeypatch):
    for ago in (2, 1): shop.put(ago, low=0.7)
    shop.settings(urls=["${ALERT_URL}"])
    with webhook() as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        with monkeypatch.context() as m, pytest.raises(SystemExit):
            m.setattr("mlcycle.alert.send", lambda *a: sys.exit(9))
            look(shop.job())
        assert got == [] and look(shop.job()).told == [] and len(got) == 1 and "`x` is not as the model learned it" in got[0]["message"] and f"Page: {shop.folder/'out'/'report.html'}" in got[0]["message"]


def test_only_what_is_grave_enough_is_sent(shop, monkeypatch):
    for ago in (2, 1): shop.put(ago, low=0.7)
    shop.settings(urls=["${ALERT_URL}"], tell="critical")
    with webhook() as (url, got):
        monkeypatch.setenv("ALERT_URL", url)
        shop(code=3)
        assert got == []


def test_a_variable_that_is_not_set_stops_it_before_it_looks(shop, monkeypatch):
    monkeypatch.delenv("ALERT_URL", raising=False)
    assert "needs the environment variable ALERT_URL" in shop.settings(urls=["${ALERT_URL}"])(code=2)
    text = shop.settings(urls=[f"slack://{SECRET}"])(code=2)
    assert "names no variable" in text and SECRET not in text


# ---- which bundle


def test_the_champion_is_followed(shop, monkeypatch):
    registry = open_registry(str(shop.folder/"models"))
    for b in ("bundle", "other"): registry.add(shop.desk.folder/b, "a", "first")
    registry.promote("tiny", "1.0.0", "champion", "a", "best")
    for ago in (2, 1): shop.put(ago, low=0.7)
    shop.words = shop.words[2:] + ["--model", "tiny", "--registry", str(shop.folder/"models")]
    job = shop.job()
    assert "drift/x" in [a["key"] for a in look(job, NOW).told]
    registry.promote("tiny", registry.versions("tiny")[-1].version, "champion", "a", "better")
    assert "has answered nobody yet" in look(job, NOW).words
    shop.put(0, rows=20, label=False, bundle=shop.desk.other)
    found = look(job, NOW + timedelta(minutes=1))
    assert found.report["digest"] == shop.desk.other.digest and [(a["key"], a["news"]) for a in found.told if a["key"] == "drift/x"] == [("drift/x", "over")] and "bundle" in found.told[0]["cleared"]


def test_in_a_project_it_takes_what_the_project_has(desk, tmp_path):
    from mlcycle.cli import parser
    serve = {"log": {"url": "sqlite:////tmp/log.sqlite"}}
    (tmp_path/"params.yaml").write_text(yaml.safe_dump({"serve": serve, "monitor": desk.section | {"window": "auto"}}))
    for path, content in {"data/frame/charter.json": {"owner": "Ann"}, "data/prepare/split.json": {"unit": "month"}}.items():
        (tmp_path/path).parent.mkdir(parents=True); (tmp_path/path).write_text(json.dumps(content))
    shutil.copytree(desk.folder/"bundle", tmp_path/"data"/"package"/"bundle")
    job = make_job(tmp_path, parser().parse_args(["monitor"]))
    assert (job.window, job.url, job.charter, job.out, job.model) == ("month", serve["log"]["url"], {"owner": "Ann"}, tmp_path/"data"/"watch", None) and job.bundle().digest == desk.bundle.digest
    job = make_job(tmp_path, parser().parse_args(["monitor", "--window", "500", "--state", "there"]))
    assert job.window == 500 and str(job.log) == "there"


# ---- what is wrong with the command


@pytest.mark.parametrize("words, told", [(["--window", "days"], "allowed: hour, day"), (["--since", "soon"], "--since is 'soon'"), (["--every", "5m"], "are for --watch"), (["--metrics-port", "9"], "are for --watch"),
    (["--bundle", "nowhere"], "No bundle at nowhere"), (["--config", "nowhere.yaml"], "There is no file nowhere.yaml"), (["--charter", "nowhere.json"], "There is no file nowhere.json"), (["--out", "/dev/null/x"], "cannot be written")])
def test_what_cannot_be_is_said(shop, words, told):
    assert told in shop.put(1, rows=3)(*words, code=2)


def test_outside_a_project_it_asks_for_what_it_needs(shop, capsys):
    assert main(["monitor", "--bundle", str(shop.desk.folder/"bundle")]) == 2 and "--config" in capsys.readouterr().err
    assert main(["monitor", "--config", str(shop.desk.folder/"params.yaml")]) == 2 and "--model NAME" in capsys.readouterr().err
    (shop.folder/"odd.yaml").write_text("monitor: {windoww: 3}\n")
    assert main(["monitor", "--config", "odd.yaml"]) == 2
    said = capsys.readouterr().err
    assert "odd.yaml" in said and "`monitor.windoww` is not a parameter; did you mean `window`?" in said


def test_a_package_that_is_not_there_is_named(shop, monkeypatch):
    monkeypatch.delitem(sys.modules, "mlcycle.monitor")
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert "needs the package threadpoolctl" in (text := shop(code=2)) and "extra `monitor`" in text


def test_a_state_that_nobody_wrote(shop):
    shop.put(1, rows=5)()
    (shop.folder/"out"/"state.json").write_text("{")
    assert "state.json is no state of a monitor" in shop(code=2)


def test_two_do_not_work_in_one_folder(shop):
    with alone(shop.folder/"out"): assert f"Another monitor (process {os.getpid()})" in shop.put(1, rows=5)(code=2)
    shop()


# ---- all the time


def test_a_log_that_goes_away_and_comes_back(shop):
    shop.put(1, rows=20)
    job, numbers, said = shop.job("--textfile", str(shop.folder/"m.prom")), Numbers(), []
    def step(): try_look(job, numbers, said.append, False); return said[-1]
    assert "20 predictions" in step() and "model_window_rows" in (text := numbers.text) and (shop.folder/"m.prom").read_text() == text
    path = shop.folder/"log"/"predictions.sqlite"
    kept = {p: p.read_bytes() for p in path.parent.glob("predictions.sqlite*")}
    for p in kept: p.unlink()
    path.write_bytes(b"this is no database, whatever it is called"*100)
    assert "This look failed: The prediction log cannot be read (DatabaseError" in step() and numbers.failed == 1 and numbers.text == text and b"failed_looks 1" in numbers.page()
    try_look(job, numbers, said.append, True)
    assert "cannot be read" in json.loads(said[-1])["error"] and numbers.failed == 2
    for p, content in kept.items(): p.write_bytes(content)
    assert "20 predictions" in step() and numbers.failed == 0
    try_look(job, numbers, said.append, True)
    assert json.loads(said[-1])["rows"] == 20 and "\n" not in said[-1]


def test_a_database_that_cannot_be_reached_does_not_show_its_password(shop, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    shop.words = [w for w in shop.words if w not in ("--state", str(shop.folder/"log"))] + ["--log", "postgresql://me:${DB_PASSWORD}@127.0.0.1:1/log"]
    assert "The prediction log cannot be read" in (text := shop(code=2)) and SECRET not in text


def test_it_watches_until_it_is_told_to_end(shop):
    "A look, numbers for Prometheus, a signal"
    job, said = shop.put(1, rows=30).job(), []
    def ask():
        while len(said) < 2: time.sleep(0.01)
        try: said.append(urllib.request.urlopen(re.search(r"http://127\.0\.0\.1:\d+/metrics", said[0])[0], timeout=10).read().decode())
        finally: os.kill(os.getpid(), signal.SIGTERM)
    before, asker = signal.getsignal(signal.SIGTERM), threading.Thread(target=ask)
    asker.start()
    assert watch(job, 3600, said.append, False, port=0) == 0 and signal.getsignal(signal.SIGTERM) is before
    asker.join()
    assert "30 predictions in 1 window" in said[1] and 'model_alerts{model="tiny",severity="critical"} 0.0' in said[2] and "failed_looks 0" in said[2] and said[3] == "Ended."


@pytest.mark.chains
def test_a_log_in_postgresql_is_looked_at_as_one_in_a_file(shop, database, monkeypatch):
    for ago in (2, 1): shop.put(ago, low=0.7)
    shop(code=3)
    of_file, i = shop.report, shop.words.index("--state")
    log, db = open_log(database.url, shop.folder/"spool"), sqlite3.connect(shop.folder/"log"/"predictions.sqlite")
    log.know(shop.bundle.digest, shop.bundle.contract)
    db.row_factory = sqlite3.Row
    read = lambda table: [{k: json.loads(r[k]) if k in ("inputs", "scores", "warnings") and r[k] else r[k] for k in r.keys()} for r in db.execute(f"select * from {table}")]
    assert log.put(read("predictions")) and log.feedback(read("feedback"))
    log.close(); db.close()
    shop.words[i:i + 2] = ["--log", database.url]
    assert "300 predictions in 2 windows" in (text := shop(code=3)) and "hunter2" not in text
    assert {k: v for k, v in shop.report.items() if k != "alerts"} == {k: v for k, v in of_file.items() if k != "alerts"}


def test_what_a_look_imports():
    "It starts fast, and where nothing is learned"
    code = "import sys, mlcycle.live, mlcycle.monitor, mlcycle.panel; print(sorted({'sklearn', 'skops', 'skl2onnx', 'onnx', 'dvc', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.chains
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_watches_ends_cleanly(shop, number):
    "A process of its own: a look, numbers for Prometheus, a second monitor that is refused, the signal"
    shop.put(1, rows=30)
    command = [sys.executable, "-c", "from mlcycle.cli import main; raise SystemExit(main())", "monitor", *shop.words, "--since", "2026-03-01", "--watch", "--every", "30s", "--metrics-port", "0"]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=shop.folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/metrics", p.stdout.readline())[0]
        assert "30 predictions in 1 window" in p.stdout.readline()
        text = urllib.request.urlopen(address, timeout=10).read().decode()
        assert 'model_alerts{model="tiny",severity="critical"} 0.0' in text and "failed_looks 0" in text
        assert f"process {p.pid}" in shop(code=2)
        p.send_signal(number)
        assert p.wait(60) == 0 and p.stdout.read().endswith("\nEnded.\n")
    finally: p.kill(); p.wait()
    shop()
