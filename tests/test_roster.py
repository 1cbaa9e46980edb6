"""Which versions answer: launches, switches under load, broken bundles, and what readiness says about them."""
import gc, http.client, importlib, json, os, shutil, signal, sqlite3, subprocess, sys, threading, time, weakref
from pathlib import Path

import pytest

from bundles import weighted
from conftest import PACKAGE, ROOT, environment, needs
from mlcycle import core, registry, roster

pytestmark = needs("serve")
SLOPES = {"1.0.0": 0.2, "1.1.0": 0.4, "1.2.0": 0.6, "1.3.0": 0.8}


@pytest.fixture(scope="module")
def _stock(tmp_path_factory):
    "A registry with four versions"
    place = tmp_path_factory.mktemp("stock")
    stock = registry.open_registry(str(place/"models"))
    for version, slope in SLOPES.items(): stock.add(weighted(place/version, slope), "A. Person", "a test", version)
    return place


@pytest.fixture
def stock(_stock, tmp_path):
    "The same, to do with as you like; 1.0.0 is the champion"
    shutil.copytree(_stock/"models", tmp_path/"models")
    stock = registry.open_registry(str(tmp_path/"models"))
    stock.promote("tiny", "1.0.0", "champion", "A. Person", "the first")
    return stock


@pytest.fixture
def served(stock):
    "A roster over it, and the registry as somebody else's process sees it"
    r = roster.Roster(registry.open_registry(stock.url), every=0.02)
    r.start()
    yield r, stock
    r.stop()


def promote(stock, version, alias="champion"): stock.promote("tiny", version, alias, "A. Person", "a test")
def set_launch(stock, launch): stock.set_launch("tiny", launch, "A. Person", "a test")
def wait(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
def pick(r, customer="c1", version=None, header=None): return r.pick("tiny", version, r.key_of("tiny", header, [{"customer": customer}], "r1"))
def score(model, x=0.5): return model.answer([{"x": x}], "r1")[1]["predictions"][0]["score"]
def told(r): return r.ready()[1]["tiny"]


def test_a_switch_and_back(served):
    "Blue/green: promote and roll back without a restart; going back loads nothing"
    r, stock = served
    assert (pick(r).model.version, pick(r).role, pick(r).shadow) == ("1.0.0", "champion", None) and score(pick(r).model) == pytest.approx(0.1)
    first = pick(r).model
    promote(stock, "1.1.0"); wait(lambda: pick(r).model.version == "1.1.0")
    assert score(pick(r).model) == pytest.approx(0.2) and told(r)["before"] == "1.0.0"
    stock.rollback("tiny", "champion", "A. Person", "a test"); wait(lambda: pick(r).model.version == "1.0.0")
    assert pick(r).model is first and told(r)["before"] == "1.1.0"


def test_versions_by_name(served):
    r, stock = served
    promote(stock, "1.2.0", "challenger"); wait(lambda: "1.2.0" in r.models("tiny"))
    assert [(pick(r, version=v).model.version, pick(r, version=v).role, pick(r, version=v).by) for v in ("1.0.0", "1.2.0", "challenger", "champion")] == \
        [("1.0.0", "champion", "version"), ("1.2.0", "named", "version"), ("1.2.0", "named", "version"), ("1.0.0", "champion", "version")]
    with pytest.raises(roster.Unknown, match="No version `1.1.0` of `tiny` answers here; did you mean `1.2.0`"): pick(r, version="1.1.0")
    with pytest.raises(roster.Unknown, match="No model `tyni` answers here; did you mean `tiny`"): r.pick("tyni")
    for odd in ("../1.0.0", "", "1.0.0\0", "a"*5000):
        if odd:
            with pytest.raises(roster.Unknown): pick(r, version=odd)


def test_launches_change_without_a_restart(served):
    "Shadow, canary, A/B, a greater share, the end: all by what the registry says"
    r, stock = served
    people = [f"c{i}" for i in range(2000)]
    def sides(challenger="1.1.0"): return {p for p in people if challenger in (pick(r, p).model.version, getattr(pick(r, p).shadow, "version", None))}
    set_launch(stock, {"kind": "shadow", "challenger": "1.1.0", "share": 0.5, "key": "customer"}); wait(lambda: told(r)["launch"])
    assert {(p.model.version, p.role, p.spare) for p in map(lambda c: pick(r, c), people)} == {("1.0.0", "champion", None)} and 900 < len(sides()) < 1100
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 0.05, "key": "customer"}); wait(lambda: told(r)["launch"]["kind"] == "canary")
    few = sides()
    assert 60 < len(few) < 150 and {(pick(r, p).role, pick(r, p).spare.version) for p in few} == {("canary", "1.0.0")}
    assert {pick(r, p).role for p in set(people) - few} == {"champion"}
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 0.3, "key": "customer"}); wait(lambda: told(r)["launch"]["share"] == 0.3)
    assert few < sides() and 500 < len(sides()) < 700
    promote(stock, "1.1.0", "challenger")
    set_launch(stock, {"kind": "ab", "challenger": "challenger", "share": 0.5, "key": "customer"}); wait(lambda: told(r)["launch"]["kind"] == "ab")
    assert {(p.model.version, p.role) for p in map(lambda c: pick(r, c), people)} == {("1.0.0", "a"), ("1.1.0", "b")} and few < sides()
    assert pick(r, "c1", header="h") == pick(r, "c2", header="h") and {pick(r, "c1", header=f"h{i}").role for i in range(50)} == {"a", "b"}
    assert pick(r, version="1.1.0").role == "named"  # whoever names a version gets it
    set_launch(stock, None); wait(lambda: told(r)["launch"] is None)
    assert r.key_of("tiny", "h", [], "r1") is None and {pick(r, p).role for p in people} == {"champion"}


def test_promoting_the_challenger_ends_its_launch(served):
    r, stock = served
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 0.5}); wait(lambda: told(r)["launch"])
    promote(stock, "1.1.0"); wait(lambda: told(r)["version"] == "1.1.0")
    assert {pick(r, header=f"h{i}").role for i in range(50)} == {"champion"} and told(r)["launch"] is None


def hammer(r, stop, wrong, done, versions):
    "Ask as fast as may be; each answer has to be what its version says"
    i = 0
    while not stop.is_set():
        i += 1
        x = i % 100/100
        try:
            (status, said), who = r.ask("tiny", pick(r, f"c{i}"), lambda m: m.answer([{"x": x}], "r1"))
            right = SLOPES[said["version"]]*x
            if status != 200 or said["version"] != who.model.version or abs(said["predictions"][0]["score"] - right) > 1e-9: wrong.append(said)
            versions.add(said["version"])
        except Exception as e: wrong.append(e)
        done[0] += 1


def test_hot_reload_loses_no_request(served):
    "Forty switches under load, with launches that come and go: every request is answered, and rightly"
    r, stock = served
    stop, wrong, done, versions = threading.Event(), [], [0], set()
    threads = [threading.Thread(target=hammer, args=(r, stop, wrong, done, versions)) for _ in range(3)]
    for t in threads: t.start()
    for i in range(40):
        version, other = list(SLOPES)[i % 4], list(SLOPES)[(i + 1) % 4]
        if i % 4 == 1: set_launch(stock, {"kind": ("canary", "ab", "shadow")[i//4 % 3], "challenger": other, "share": 0.5, "key": "customer"})
        promote(stock, version)
        if i % 4 == 3: set_launch(stock, None)
        wait(lambda: told(r)["version"] == version)
    stop.set()
    for t in threads: t.join()
    assert wrong == [] and done[0] > 100 and versions == set(SLOPES)


def test_what_is_not_needed_is_let_go(served):
    "Switches leave nothing behind: the champion, the one before, and what an alias names"
    r, stock = served
    gone = weakref.ref(pick(r).model)
    for version in ("1.1.0", "1.2.0", "1.3.0"): promote(stock, version); wait(lambda: told(r)["version"] == version)
    gc.collect()
    assert told(r)["loaded"] == ["1.3.0", "1.2.0"] and gone() is None


def test_a_canary_that_fails_is_taken_off(served, caplog):
    "No caller loses an answer; it is off here at once, in the history soon, and then in every other worker"
    r, stock = served
    other = roster.Roster(registry.open_registry(stock.url), every=0.02)
    other.start()
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 0.5, "key": "customer", "errors": 0.1, "least": 20})
    wait(lambda: told(r)["launch"] and told(other)["launch"])
    def fail(model):
        if model.version == "1.1.0": raise RuntimeError("out of luck")
        return model.answer([{"x": 0.5}], "r1")
    answers = [r.ask("tiny", pick(r, f"c{i}"), fail) for i in range(100)]
    assert all(said[0] == 200 and said[1]["version"] == "1.0.0" for said, _ in answers)
    assert [p.by for _, p in answers].count("spare") == 20 and pick(r).role == "champion"
    wait(lambda: stock.state("tiny").launch is None and told(other)["launch"] is None)
    last = stock.history("tiny")[-1]
    assert (last.what, last.who) == ("rollback", "serve") and "20 of 20 answers failed; at most 0.1 of all may (`errors`)" in last.why
    assert [e.what for e in stock.history("tiny")] == ["promote", "launch", "rollback"]
    broke = [l for l in caplog.records if "broke" in l.message]
    assert len(broke) == 1 and "out of luck" not in broke[0].message and broke[0].exc_info[0] is RuntimeError  # once, and no words that may hold inputs
    other.stop()


@pytest.mark.parametrize("kind, role", [("canary", "canary"), ("ab", "b")])
def test_a_slow_challenger_is_taken_off(served, kind, role):
    r, stock = served
    set_launch(stock, {"kind": kind, "challenger": "1.1.0", "share": 0.5, "latency_ms": 5.0, "least": 30}); wait(lambda: told(r)["launch"])
    for i in range(29): r.observe("tiny", role, 0.006, False)
    for _ in range(100): r.observe("tiny", "champion", 9.0, True); r.observe("tiny", "a", 9.0, True); r.observe("tiny", "shadow", 9.0, True)
    assert told(r)["launch"]["slow"] == 29
    for _ in range(100): r.observe("tiny", role, 0.006, False, "1.3.0") # of the launch before this one
    assert told(r)["launch"]["slow"] == 29
    r.observe("tiny", role, 0.006, False, "1.1.0")
    wait(lambda: stock.state("tiny").launch is None)
    assert f"1.1.0 as {role}: 30 of 30 answers took longer than 5 ms; at most 5% of all may (`latency_ms`)" in stock.history("tiny")[-1].why


def test_a_challenger_that_refuses_what_the_champion_takes_fails(served):
    "A refusal is the caller's fault only if the champion refuses, too"
    r, stock = served
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 1.0, "errors": 0.5, "least": 1000}); wait(lambda: told(r)["launch"])
    refuse = lambda all: lambda m: (422, {}) if all or m.version == "1.1.0" else (200, {})
    assert r.ask("tiny", pick(r), refuse(False))[1][1:4:2] == ("champion", "spare") and told(r)["launch"]["failed"] == 1
    assert r.ask("tiny", pick(r), refuse(True))[0][0] == 422 and told(r)["launch"] | {"failed": 1, "seen": 2} == told(r)["launch"]


def test_what_a_person_has_set_meanwhile_stays(stock):
    "A worker undoes the launch it has judged, and no other"
    mine = registry.open_registry(stock.url)
    r = roster.Roster(mine)
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 1.0, "errors": 0.1, "least": 5})
    r.look()
    for _ in range(5): r.observe("tiny", "canary", 0.001, True)
    assert pick(r).role == "champion"
    set_launch(stock, {"kind": "canary", "challenger": "1.2.0", "share": 1.0}); r.look()
    assert (pick(r).model.version, pick(r).role) == ("1.2.0", "canary") and stock.history("tiny")[-1].what == "launch"


class Ill:
    "A registry that can be made to fail"
    def __init__(self, inner): self.inner, self.fails = inner, set()
    def __getattr__(self, name):
        def call(*args, **kwargs):
            if name in self.fails: raise OSError(f"{name}: the bucket is gone")
            return getattr(self.inner, name)(*args, **kwargs)
        return call


def test_a_registry_that_goes_away(stock):
    "What answers goes on, readiness says what is wrong, and all is well when it comes back"
    ill = Ill(stock)
    r = roster.Roster(ill)
    r.look()
    for fails in ({"names"}, {"state"}):
        ill.fails = fails; r.look()
        ok, all_told = r.ready()
        assert ok and pick(r).model.version == "1.0.0" and any("the bucket is gone" in (t["problem"] or "") for t in all_told.values())
    ill.fails, ill.state = set(), lambda name: None; r.look()  # nonsense does not end the thread, either
    assert r.ready()[0] and "AttributeError" in told(r)["problem"]
    del ill.state
    promote(stock, "1.1.0"); ill.fails = {"load"}; r.look()
    assert pick(r).model.version == "1.0.0" and (told(r)["wanted"], told(r)["version"]) == ("1.1.0", "1.0.0") and "the bucket is gone" in told(r)["problem"]
    ill.fails = set(); wait(lambda: r.look() or told(r)["version"] == "1.1.0")
    assert told(r)["problem"] is None and "*" not in r.ready()[1]


def test_a_challenger_stays_off_though_nobody_can_write_that_down(stock, caplog):
    ill = Ill(stock)
    r = roster.Roster(ill, every=0.02)
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 1.0, "errors": 0.1, "least": 5})
    r.look()
    ill.fails = {"set_launch"}
    for _ in range(5): r.observe("tiny", "canary", 0.001, True)
    promote(stock, "1.2.0", "challenger"); r.look(); r.look()
    assert caplog.text.count("could not be written down") == 1 and "the bucket is gone" in told(r)["problem"]
    assert pick(r).role == "champion" and "which is not yet in the registry's history" in told(r)["problem"]
    ill.fails = set(); r.look()
    assert stock.state("tiny").launch is None and told(r)["problem"] is None


def break_tar(stock, version):
    path = Path(stock.url)/"tiny"/"bundles"/f"{stock.version('tiny', version).digest}.tar"
    path.chmod(0o644)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"by_hand", b"by_hann"))
    assert path.read_bytes() != whole
    return path, whole


def test_a_corrupted_bundle(stock, caplog):
    "It is told; the last good version answers; mended, it is taken by itself"
    r = roster.Roster(stock, every=0.02)
    r.look()
    promote(stock, "1.1.0")
    path, whole = break_tar(stock, "1.1.0")
    r.start()
    assert r.ready()[0] and pick(r).model.version == "1.0.0" and score(pick(r).model) == pytest.approx(0.1)
    assert (told(r)["version"], told(r)["wanted"]) == ("1.0.0", "1.1.0") and "model.onnx was changed" in told(r)["problem"]
    time.sleep(0.2)
    assert caplog.text.count("model.onnx was changed") == 1 # told once, not at every look
    path.write_bytes(whole); wait(lambda: told(r)["version"] == "1.1.0")
    assert told(r)["problem"] is None
    r.stop()


def test_a_corrupted_bundle_from_the_start(stock):
    "Nothing good was ever there: not ready, and it says why"
    break_tar(stock, "1.0.0")
    r = roster.Roster(stock)
    r.look()
    ok, all_told = r.ready()
    assert not ok and all_told["tiny"]["version"] is None and "model.onnx was changed" in all_told["tiny"]["problem"]
    with pytest.raises(roster.Unknown, match="Here are: none"): r.pick("tiny")
    promote(stock, "1.1.0"); r.look()
    assert r.ready()[0]


def test_a_worker_that_begins_while_the_champion_is_broken(stock):
    "Killed and started again, it goes on with the champion before, as the others do, and says so"
    for version in ("1.1.0", "1.2.0", "1.3.0"): promote(stock, version)
    for version in ("1.2.0", "1.3.0"): path, whole = break_tar(stock, version)
    r = roster.Roster(stock, every=0.)
    r.look()
    assert r.ready()[0] and score(pick(r).model) == pytest.approx(0.2)
    assert (told(r)["version"], told(r)["wanted"]) == ("1.1.0", "1.3.0") and "version 1.3.0 cannot be used" in told(r)["problem"]
    path.write_bytes(whole); r.look()
    assert (told(r)["version"], told(r)["before"], told(r)["problem"]) == ("1.3.0", "1.1.0", None)


def test_a_corrupted_challenger_does_not_hurt_the_champion(stock):
    r = roster.Roster(stock)
    set_launch(stock, {"kind": "canary", "challenger": "1.2.0", "share": 1.0})
    break_tar(stock, "1.2.0"); r.look()
    assert r.ready()[0] and pick(r).role == "champion" and told(r)["launch"] is None and "model.onnx was changed" in told(r)["problem"]


def test_a_challenger_that_cannot_stand_in_is_not_launched(stock, tmp_path):
    stock.add(weighted(tmp_path/"more", 0.5, columns=("x", "z")), "A", "a test", "2.0.0")
    stock.add(weighted(tmp_path/"classes", 0.5, classes=("no", "perhaps")), "A", "a test", "3.0.0")
    r = roster.Roster(stock)
    r.look()
    for launch, words in [({"challenger": "2.0.0"}, "`z` is new"), ({"challenger": "3.0.0"}, "answers no or perhaps, looking for perhaps, the champion no or yes, looking for yes"),
                          ({"challenger": "1.1.0", "key": "custmer"}, "did you mean `customer`"), ({"challenger": "9.9.9"}, "9.9.9"),
                          ({"challenger": "1.1.0", "kind": "shdow"}, "'shadow'")]:
        launch = {"kind": "canary", "share": 1.0} | launch
        with pytest.raises(core.ProjectError) as e: set_launch(stock, launch)  # the registry refuses it
        assert words in str(e.value)
        r._follow("tiny", registry.State(sequence=99, aliases={"champion": "1.0.0"}, launch=launch))  # and the server, should one have got in
        assert r.ready()[0] and pick(r).role == "champion" and words in told(r)["problem"], launch


def test_drafts_stay_at_home(tmp_path):
    weighted(tmp_path/"bundle", 0.2, draft=True)
    home, abroad = roster.Roster(tmp_path/"bundle"), roster.Roster(tmp_path/"bundle", drafts=False)
    home.look(); abroad.look()
    assert home.ready()[0] and told(home)["draft"] and not abroad.ready()[0]
    assert "is a draft, and drafts answer on this machine only" in told(abroad)["problem"]
    shutil.rmtree(tmp_path/"bundle"); weighted(tmp_path/"bundle", 0.4); abroad.look()
    assert abroad.ready()[0]
    shutil.rmtree(tmp_path/"bundle"); weighted(tmp_path/"bundle", 0.6, draft=True); abroad.look()
    assert abroad.ready()[0] and score(pick(abroad).model) == pytest.approx(0.2) and "is a draft" in told(abroad)["problem"]


def test_the_folder_of_one_bundle(tmp_path):
    "Made anew, broken, gone, and whole again"
    r = roster.Roster(weighted(tmp_path/"bundle", 0.2), every=0.02)
    r.start()
    first = told(r)["version"]
    assert len(first) == 12 and score(pick(r).model) == pytest.approx(0.1)
    weighted(tmp_path/"next", 0.4); os.rename(tmp_path/"bundle", tmp_path/"old"); os.rename(tmp_path/"next", tmp_path/"bundle")
    wait(lambda: told(r)["version"] != first)
    assert score(pick(r).model) == pytest.approx(0.2) and told(r)["before"] == first
    (tmp_path/"bundle"/"model.onnx").write_bytes(b"swapped on the way")
    broken = lambda: " ".join(t["problem"] or "" for t in r.ready()[1].values())
    wait(lambda: "model.onnx was changed" in broken())
    assert r.ready()[0] and score(pick(r).model) == pytest.approx(0.2)
    shutil.rmtree(tmp_path/"bundle"); wait(lambda: "No bundle" in broken())
    assert r.ready()[0] and score(pick(r).model) == pytest.approx(0.2)
    os.rename(tmp_path/"old", tmp_path/"bundle"); wait(lambda: told(r)["version"] == first)
    assert broken().strip() == ""
    r.stop()


def test_version_and_problem_are_told_together(tmp_path):
    "Whoever asks while a change is under way hears of the state before it, or of the one after"
    r = roster.Roster(weighted(tmp_path/"bundle", 0.2))
    all_of = lambda: (told(r)["version"], [t["problem"] for t in r.ready()[1].values() if t["problem"]])
    r.look()
    first = told(r)["version"]
    os.rename(tmp_path/"bundle", tmp_path/"old"); r.look()
    assert "No bundle" in all_of()[1][0]
    weighted(tmp_path/"bundle", 0.4); (tmp_path/"bundle"/"model.onnx").write_bytes(b"swapped on the way"); r.look()
    assert "model.onnx was changed" in all_of()[1][0]
    shutil.rmtree(tmp_path/"bundle"); r.look()
    keep, heard, over = r._fault, [], threading.Event()
    r._fault = lambda *args: (time.sleep(0.1), keep(*args))
    asker = threading.Thread(target=lambda: [heard.append(all_of()) or time.sleep(0.005) for _ in iter(over.is_set, True)])
    weighted(tmp_path/"bundle", 0.6)
    asker.start(); r.look(); over.set(); asker.join()
    assert told(r)["version"] != first and all_of()[1] == [] and len(heard) > 10
    assert not [h for h in heard if h[0] != first and h[1]]


def test_only_the_models_that_are_wanted(stock):
    r = roster.Roster(stock, names=["tiny", "other"])
    r.look()
    assert not r.ready()[0] and r.names() == ["tiny"] and r.ready()[1]["other"]["version"] is None and "other" in r.ready()[1]["other"]["problem"]
    assert pick(r).model.version == "1.0.0"


def test_a_registry_without_a_champion(tmp_path):
    stock = registry.open_registry(str(tmp_path/"models"))
    stock.add(weighted(tmp_path/"bundle", 0.2), "A", "a test", "1.0.0")
    r = roster.Roster(stock)
    r.look()
    assert not r.ready()[0] and "champion" in str(r.ready()[1])


def test_a_lookup_costs_next_to_nothing(served):
    "In the way of every request: at most 3 µs of CPU without a launch"
    r, stock = served
    def cost(n=20_000):
        start = time.thread_time()
        for _ in range(n): r.pick("tiny", None, r.key_of("tiny", None, None, "r1"))
        return (time.thread_time() - start)/n*1e6
    plain = min(cost() for _ in range(3))
    set_launch(stock, {"kind": "canary", "challenger": "1.1.0", "share": 0.5, "key": "customer"}); wait(lambda: told(r)["launch"])
    assert plain < 3 and min(cost() for _ in range(3)) < 10


@pytest.fixture
def server(stock, tmp_path):
    "The real server over it, in a process of its own, with a key and a log"
    sys.path.append(str(ROOT/"benchmarks"))
    s = importlib.import_module("soak").Server(tmp_path, stock.url, f"sqlite:///{tmp_path}/log.sqlite", 1, poll=0.2)
    yield s
    s.stop()


def ask(server, path, body=None):
    "Ask the server: status, JSON"
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    c.request("POST" if body else "GET", path, body and json.dumps(body), server.headers | {"content-type": "application/json"})
    r = c.getresponse()
    return r.status, json.loads(r.read())


def test_launches_by_command_while_serving(server, stock, tmp_path):
    "From the command line to the answers and the log, without a restart; then a bundle that breaks after it was promoted"
    def command(*words):
        code, more = f"from {PACKAGE}.cli import main; raise SystemExit(main())", ["--registry", stock.url, "--why", "a test", "--who", "A"]
        env = environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, "registry", *words, *more], cwd=tmp_path, env=env, capture_output=True, check=True)
    def version(customer): return ask(server, "/v1/models/tiny:predict", {"rows": [{"x": 0.5, "customer": customer}]})[1]["version"]
    def versions(n=60): return {c: version(c) for c in (f"c{i}" for i in range(n))}
    def roles():
        sql = "select role, version from predictions group by role, version having count(*) > 5"
        with sqlite3.connect(tmp_path/"log.sqlite") as db: return {tuple(r) for r in db.execute(sql)}
    def ready(): return ask(server, "/health/ready")[1]["models"]["tiny"]
    command("launch", "tiny", "shadow", "1.1.0"); wait(lambda: ready()["launch"])
    assert set(versions().values()) == {"1.0.0"}
    wait(lambda: roles() == {("champion", "1.0.0"), ("shadow", "1.1.0")})
    limits = ["--errors", "0.1", "--latency-ms", "500", "--least", "1000"]
    command("launch", "tiny", "canary", "1.1.0", "--share", "0.5", "--key", "customer", *limits); wait(lambda: ready()["launch"]["kind"] == "canary")
    sides = versions()
    assert sides == versions() and 10 < list(sides.values()).count("1.1.0") < 50
    wait(lambda: ("canary", "1.1.0") in roles())
    command("launch", "tiny", "off"); wait(lambda: not ready()["launch"])
    for pid in server.workers(): os.kill(pid, signal.SIGSTOP)
    promote(stock, "1.2.0"); break_tar(stock, "1.2.0")
    for pid in server.workers(): os.kill(pid, signal.SIGCONT)
    wait(lambda: ready()["problem"])
    assert ready()["version"] == "1.0.0" and ready()["wanted"] == "1.2.0" and "model.onnx was changed" in ready()["problem"]
    assert ask(server, "/health/ready")[0] == 200 and set(versions(5).values()) == {"1.0.0"}


@pytest.mark.chains
def test_soak(tmp_path):
    "Half a minute of what benchmarks/soak.py does for ten"
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    words = ["--bundle", weighted(tmp_path/"bundle", 0.9), "--seconds", "40", "--every", "1", "--warm", "1", "--kill-every", "9"]
    r = subprocess.run([sys.executable, ROOT/"benchmarks/soak.py", *words], capture_output=True, text=True, timeout=300)
    if "PostgreSQL is not installed" in r.stderr: pytest.skip("PostgreSQL is not installed")
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-1000:]
    for words in ("taken off (nan) ", "taken off (breaks) ", "taken off (slow) ", "database gone ", "workers killed ", "corrupted "): assert words in r.stdout
