"""The search: the same whoever fits and however often it is killed, honest, within its budget; and the stage around it."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import EXAMPLE, PACKAGE, ROOT, clone

from mlcycle import board, search, train
from mlcycle.contract import inputs, labels
from mlcycle.core import ProjectError, check_section
from mlcycle.folds import fold_data, fold_ratio, make_folds, ties
from mlcycle.metrics import main_metric, score
from mlcycle.models import CANDIDATES, find_band, load_model, predict, predict_band, save_model
from mlcycle.propose import propose
from mlcycle.recipe import make_recipe, plan

WISH = {"nodes": None, "size_mib": None, "qualify": {"metrics": {}, "slices": {}}}
QUICK = ["dummy", "linear", "lightgbm"]


def customers(seed=0, n=150, task="binary", signal=1.):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"logins": rng.poisson(5, n).astype(float), "age": rng.normal(40, 9, n), "plan": rng.choice(["basic", "pro", None], n)})
    value = signal*(t.logins - 5 + 2*(t.plan == "pro")) + rng.normal(0, 1, n)
    t["y"] = {"binary": np.where(value > 0.5, "yes", "no"), "multiclass": np.select([value < -1, value < 1], ["low", "mid"], "high"), "regression": 100 + 10*value}[task]
    t.loc[rng.random(n) < 0.1, "logins"] = np.nan
    return t


class World:
    "Rows, folds and all else that a search takes"
    def __init__(self, task="binary", table=None, folds=3, **roles):
        table = customers(task=task) if table is None else table
        self.contract = propose(table, "tiny", "y", roles=roles)
        self.X, self.y, self.task = pd.DataFrame(inputs(table, self.contract)), labels(table, self.contract), self.contract.task
        self.tied, self.metric, self.k = ties(table, self.contract), main_metric(task), len(self.contract.classes or []) or None
        self.recipe = make_recipe(plan(self.contract, self.X, 50))
        self.parts, self.rule = make_folds(self.y, task, folds, 0, **self.tied)
        self.data = search.with_ties(fold_data(self.recipe, self.X, self.y, self.parts), **self.tied)

    def search(self, candidates=QUICK, trials=9, **how): return search.search(self.data, self.task, self.k, self.metric, candidates, trials, **{"batch": 3} | how)

    def rank(self, done, most=3):
        return board.rank_trials(train.with_blend(done, board.blend_trial(done, self.parts, self.y, self.task, self.metric, most)), self.parts, self.y, self.task, self.metric, WISH)


def small(): return World(table=customers().assign(day=pd.date_range("2025-01-01", periods=150)), day="time") # by time: one part is watched for rounds, not five


def facts(done):
    "All of a search that must not differ from run to run"
    return json.dumps([[t["trial"], t["candidate"], t["settings"], t["status"], t["error"], t["results"].to_dict("list"), [p.tobytes().hex() for p in t["predictions"]], t["rounds"], t["nodes"], t["size_kib"]] for t in done])


@pytest.fixture(scope="module")
def world(): return small()


@pytest.fixture(scope="module")
def alone(world): return world.search()


# the same, whoever fits

def test_one_process_or_two_find_the_same(tmp_path):
    n, some = 1200, ["linear", "forest", "boosted"]
    big = World(table=customers(n=n).assign(day=np.arange(n)), day="time")            # large enough for the folds to be memory-mapped
    assert big.data[-1]["learn"].nbytes > 10_000
    left = tmp_path/"folds"/"joblib_memmapping_folder_1_x"/"a.pkl"                    # of a search that was killed
    left.parent.mkdir(parents=True); left.write_text("")
    one, two = big.search(some, 7), big.search(some, 7, workers=2, journal=tmp_path/"j.jsonl")
    assert facts(one) == facts(two) and {t["candidate"] for t in one if t["status"] == "finished"} == set(some)
    assert (tmp_path/"folds").is_dir() and not left.parent.exists() and not [p for p in (tmp_path/"folds").rglob("*") if p.is_file()]


@pytest.mark.chains
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_one_process_or_two_find_the_same_with_every_candidate(task):
    w = World(task, customers(n=1500, task=task))
    one, two = w.search(CANDIDATES, 24), w.search(CANDIDATES, 24, workers=2)
    assert facts(one) == facts(two) and not [t["error"] for t in one if t["error"]]


@pytest.mark.chains
def test_a_dask_cluster_finds_the_same(world, alone):
    from distributed import LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert facts(world.search(compute="dask", scheduler=cluster.scheduler_address)) == facts(alone)


def test_a_cluster_with_other_libraries_is_refused(monkeypatch):
    class Client:
        closed = False
        def __init__(self, *args, **kwargs): pass
        def run(self, f): return {"tcp://w": search.libraries() | {"lightgbm": "1.0"}}
        def close(self): Client.closed = True
    monkeypatch.setattr("distributed.Client", Client)
    with pytest.raises(ProjectError, match=r"worker tcp://w has lightgbm 1.0 \(here 4"): search.connect("tcp://s")
    monkeypatch.setattr(Client, "run", lambda self, f: {"tcp://w": search.libraries() | {"code": "0ther"}})
    with pytest.raises(ProjectError, match="worker tcp://w has code 0ther .*the same code"): search.connect("tcp://s")
    def lacks(self, f): raise ModuleNotFoundError("No module named 'mlcycle'")
    monkeypatch.setattr(Client, "run", lacks)
    with pytest.raises(ProjectError, match="lack what a fit takes .*'mlcycle'.*pip install"): search.connect("tcp://s")
    monkeypatch.setattr(Client, "run", lambda self, f: {})
    with pytest.raises(ProjectError, match="has no workers. Start some: `dask worker tcp://s`"): search.connect("tcp://s")
    assert Client.closed


def test_a_cluster_that_is_not_there_says_what_to_do(world, monkeypatch):
    with pytest.raises(ProjectError, match="`train.scheduler` is null"): world.search(compute="dask")
    with pytest.raises(ProjectError, match="No Dask scheduler answers .* tcp://127.0.0.1:9 .*set `train.compute: local`"): search.connect("tcp://127.0.0.1:9", wait=0.3)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ProjectError, match=r"pip install .*\[dask\]"): search.connect("tcp://127.0.0.1:9")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_board_and_pipeline_are_the_same_bytes_twice(task, tmp_path):
    w, found = World(task, customers(task=task).assign(day=np.arange(150)), day="time"), []
    for _ in range(2):
        ranked = w.rank(w.search(candidates=["tree", "linear"], trials=6))
        made = board.leaderboard(ranked, w.parts, w.metric, board.claim(ranked, w.parts, w.y, w.metric, resamples=20), w.rule, board.fold_hash(w.parts, w.y))
        pipeline = train.fit_winner(w.recipe, w.X, w.y, task, ranked, 0, interval=0.9)
        save_model(pipeline, tmp_path/"p.skops")
        found.append((json.dumps(made, default=str), (tmp_path/"p.skops").read_bytes()))
    assert found[0] == found[1]
    again = load_model(tmp_path/"p.skops")
    assert np.array_equal(predict(again, w.X, w.k), predict(pipeline, w.X, w.k)) and (find_band(again) is not None) == (task == "regression")
    if task == "regression": assert (predict_band(again, w.X)[:, 0] <= predict(again, w.X)).all()


# the journal

KILLED = """
import sys; sys.path.insert(0, "tests")
from pathlib import Path
from test_search import facts, small
if __name__ == "__main__":
    done = small().search(trials=12, workers=int(sys.argv[3]), journal=Path(sys.argv[1]), say=lambda line: print(line, flush=True))
    Path(sys.argv[2]).write_text(facts(done))
"""


def killed(times, folder, workers, seed):
    "Kill a search by SIGKILL so many times while it is fitting, then let it end; its facts"
    rng, journal, out = np.random.default_rng(seed), folder/"j.jsonl", folder/"facts"
    (folder/"run.py").write_text(KILLED)
    start = lambda: subprocess.Popen([sys.executable, folder/"run.py", journal, out, str(workers)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = lambda: journal.read_bytes().count(b"\n") if journal.exists() else 0
    for _ in range(times):
        p, before = start(), lines()
        while lines() < before + rng.integers(1, 4) and p.poll() is None: time.sleep(0.002)
        time.sleep(rng.random()*0.05)
        below = psutil.Process(p.pid).children(recursive=True) if p.poll() is None else []
        p.send_signal(signal.SIGKILL); p.wait()
        assert psutil.wait_procs(below, timeout=15)[1] == [], "workers outlived the search"
    assert start().wait(timeout=120) == 0
    return out.read_text()


def test_a_search_killed_twice_ends_the_same(world, tmp_path): assert killed(2, tmp_path, 1, 0) == facts(world.search(trials=12))


@pytest.mark.chains
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_killed_ten_times_ends_the_same_and_leaves_no_process(world, tmp_path, workers):
    assert killed(10, tmp_path, workers, 1) == facts(world.search(trials=12))


def test_what_the_journal_has_is_not_fitted_again(world, alone, tmp_path, monkeypatch):
    fits = []
    monkeypatch.setattr(search, "fit_fold", lambda *args, f=search.fit_fold: fits.append(1) or f(*args))
    assert facts(world.search(journal=tmp_path/"j.jsonl")) == facts(alone) and fits
    fits.clear()
    more = world.search(trials=12, journal=tmp_path/"j.jsonl")
    assert facts(more[:9]) == facts(alone) and 0 < len(fits) <= 9                     # three more trials, three folds
    whole = (tmp_path/"j.jsonl").read_bytes()
    for cut in (whole[:-7], whole[:len(whole)//2], whole + b'{"key": "x", "sco', whole[:40] + b"\n" + whole):
        (tmp_path/"j.jsonl").write_bytes(cut)
        assert facts(world.search(journal=tmp_path/"j.jsonl")) == facts(alone)


def test_the_journals_name_is_about_what_matters(world):
    code = {"models.fit": "1", "train.plot": "2", "train: stage cell 1": "3", "board.rank": "4"}
    key = lambda code=code, data=world.data, **values: search.journal_key(code, data, {"seed": 0} | values)
    assert key() == key(code | {"train.plot": "9", "train: stage cell 1": "9", "board.rank": "9"})
    other = lambda f, **changes: [d | changes if i == f else d for i, d in enumerate(world.data)]         # whoever changed it: the folds, the recipe, a cell of the stage
    learn = world.data[1]["learn"].copy(); learn[3, 0] = 7
    found = [key(), key(code | {"models.fit": "9"}), key(seed=1), key(data=world.data[:2]), key(data=other(1, learn=learn)), key(data=other(0, time=None)), key(data=other(2, y_judge=1 - world.data[2]["y_judge"]))]
    assert len(set(found)) == len(found)


def test_a_line_of_the_journal_that_is_no_fit_ends_it(world, alone, tmp_path):
    world.search(journal=tmp_path/"j.jsonl")
    whole = (tmp_path/"j.jsonl").read_bytes().splitlines(keepends=True)
    for odd in (b"5\n", b"null\n", b'{"key": "x"}\n', b'{"key": "x", "predictions": ["AAAA", 7]}\n', b"\0"*40):
        (tmp_path/"j.jsonl").write_bytes(b"".join(whole[:4]) + odd + b"".join(whole[4:]))
        notes = search.Journal(tmp_path/"j.jsonl", 2); notes.close()
        assert len(notes.done) == 4 and (tmp_path/"j.jsonl").read_bytes() == b"".join(whole[:4])


def test_old_journals_go(tmp_path):
    for i in range(8): (tmp_path/f"{i}.jsonl").write_text(""); os.utime(tmp_path/f"{i}.jsonl", (i, i))
    search.tidy_journals(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["5.jsonl", "6.jsonl", "7.jsonl"]


# what is tried

def test_standard_settings_come_first_and_nothing_twice(world):
    some = ["dummy", "rule", "tree", "linear", "lightgbm"]
    done = world.search(candidates=some, trials=16, batch=5)
    assert len(done) == 16 == search.planned(world.data, "binary", world.metric, some, 16)
    assert {t["candidate"] for t in done[:8]} == set(some) and [t["trial"] for t in done] == list(range(16))
    assert len({json.dumps([t["candidate"], t["settings"]]) for t in done}) == 16
    assert not [t["error"] for t in done if t["error"]]


def test_the_candidate_that_leads_has_half_of_the_trials_and_others_some():
    asker, asked = search.Asker(search.Task("binary", 2, 0, 1), main_metric("binary"), ["linear", "forest", "lightgbm"], 300), []
    worth = {"linear": 0.6, "forest": 0.7, "lightgbm": 0.8}
    for _ in range(12):
        for t in (batch := asker.batch(4)): t.status, t.folds = "finished", {0: {"scores": {"roc_auc": worth[t.candidate]}, "error": None}}
        asker.tell(batch)
        asked += [t.candidate for t in batch if t.asked]
    assert len(asked) == 44 and 22 <= asked.count("lightgbm") <= 28 and asked.count("forest") >= 10 and asked.count("linear") >= 4
    one = search.Asker(search.Task("binary", 2, 0, 1), main_metric("binary"), ["linear"], 300)
    batches = [len(one.batch(9)) for _ in range(5)]
    assert batches == [2, 9, 9, 2, 0]                                                       # one setting: nothing worth trying after twenty


def test_more_trials_begin_with_those_of_fewer(world, alone):
    assert facts(world.search(trials=6)) == facts(alone[:6])


def test_only_earlier_batches_prune(world):
    done = world.search(trials=12)
    assert all(t["status"] == "finished" for t in done[:6]) and any(t["status"] == "pruned" for t in done[6:])
    assert all(t["status"] == "finished" for t in world.search(trials=12, prune=False))


def test_a_candidate_that_fails_does_not_stop_the_others(world, monkeypatch):
    def fails(candidate, *args, f=search.fit_candidate, **kwargs):
        if candidate == "linear": raise ValueError("no luck\nat all")
        return f(candidate, *args, **kwargs)
    monkeypatch.setattr(search, "fit_candidate", fails)
    done = world.search()
    assert {t["status"] for t in done if t["candidate"] == "linear"} == {"failed"} and {t["error"] for t in done if t["candidate"] == "linear"} == {"ValueError: no luck"}
    assert world.rank(done)[0]["candidate"] != "linear"
    with pytest.raises(ProjectError, match="Every trial failed: linear: ValueError: no luck"): world.search(candidates=["linear"])


# honesty

def test_judged_rows_choose_nothing(monkeypatch):
    "What a fit is given is what it learns from, with its own times and groups; judged rows never"
    w, seen = World(table=customers().assign(day=pd.date_range("2025-01-01", periods=150)), day="time"), []
    def spy(candidate, task, settings, X, y, seed, threads, time, groups, quick, f=search.fit_candidate):
        seen.append((len(X), time.max()))
        return f(candidate, task, settings, X, y, seed, threads, time, groups, quick)
    monkeypatch.setattr(search, "fit_candidate", spy)
    w.search(candidates=["lightgbm"], trials=1, prune=False)
    first = [w.tied["time"][b].min() for _, b in w.parts]
    assert seen[:3] == [(len(a), w.tied["time"][a].max()) for a, _ in w.parts] and all(s[1] < t for s, t in zip(seen, first))


def test_on_noise_the_claim_is_no_better_than_chance():
    "Quick; twenty seeds with all candidates are in the chains"
    found = []
    for seed in range(4):
        w = World(table=customers(seed, signal=0.))
        ranked = w.rank(w.search(candidates=["dummy", "linear", "tree"], trials=12))
        found.append(board.claim(ranked, w.parts, w.y, w.metric, resamples=100, seed=seed))
    assert sum(c["low"] > 0.5 for c in found) == 0 and np.mean([c["value"] for c in found]) < 0.55


@pytest.mark.chains
def test_twenty_tables_of_noise_claim_nothing():
    found = []
    for seed in range(20):
        w = World(table=customers(seed, 300, signal=0.))
        ranked = w.rank(w.search(candidates=CANDIDATES, trials=20))
        found.append(board.claim(ranked, w.parts, w.y, w.metric, seed=seed))
    print([round(c["value"], 3) for c in found])
    assert sum(c["low"] > 0.5 for c in found) <= 2 and np.mean([c["value"] for c in found]) < 0.52


@pytest.mark.chains
def test_two_hundred_columns_of_noise_do_not_flatter():
    t = customers(1, 1200)
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(1200, 200)), columns=[f"n{i}" for i in range(200)])
    t = pd.concat([t, noise], axis=1)
    w = World(table=t.iloc[:600])
    ranked = w.rank(w.search(candidates=CANDIDATES, trials=20))
    claimed = board.claim(ranked, w.parts, w.y, w.metric)
    rest = t.iloc[600:]
    p = predict(train.fit_winner(w.recipe, w.X, w.y, "binary", ranked, 0), pd.DataFrame(inputs(rest, w.contract)), 2)
    assert claimed["low"] <= score(labels(rest, w.contract), p, "binary")["roc_auc"] <= claimed["high"] + 0.03


# budget

def test_a_budget_of_time_is_kept(world):
    start, seconds = time.perf_counter(), 4
    done = world.search(candidates=["linear", "lightgbm", "forest"], trials=10_000, deadline=start + seconds, finals=3)
    train.fit_winner(world.recipe, world.X, world.y, "binary", world.rank(done), 0)
    assert seconds*0.4 < time.perf_counter() - start < seconds*1.1 + 0.3 and 1 <= len(done) < 10_000


@pytest.mark.chains
@pytest.mark.parametrize("workers", [1, 2])
def test_a_minute_is_kept_to_a_tenth(workers):
    start, w = time.perf_counter(), World(table=customers(n=8000), folds=5)
    done = w.search(candidates=CANDIDATES, trials=10_000, batch=4, deadline=start + 60, finals=5, workers=workers)
    train.fit_winner(w.recipe, w.X, w.y, "binary", w.rank(done, 5), 0)
    assert 48 < time.perf_counter() - start < 66


@pytest.mark.parametrize("prune", [True, False])
def test_without_any_time_the_first_candidate_is_finished(world, alone, prune):
    said = []
    done = world.search(deadline=time.perf_counter(), prune=prune, say=said.append)
    assert said[1].startswith("2 of 9: linear, no time left, best 0.5, 0.0 s, 0 s left")
    assert facts(done) == facts(alone[:1]) and done[0]["candidate"] == "dummy" and len(done) < search.planned(world.data, "binary", world.metric, QUICK, 9)
    assert [t["candidate"] for t in world.search(candidates=["tree", "linear"], deadline=time.perf_counter())] == ["linear"]    # the cheaper one; no fit for another
    assert train.fit_winner(world.recipe, world.X, world.y, "binary", world.rank(done), 0).predict_proba(world.X).std() < 0.5


def test_predictions_that_are_no_numbers_fail_and_do_not_win(world, monkeypatch):
    monkeypatch.setattr(search, "predict", lambda model, X, k, f=search.predict: f(model, X, k)*(np.nan if "linear" in type(model[-1]).__module__ else 1))
    done = world.search(trials=5)
    assert {t["error"] for t in done if t["candidate"] == "linear"} == {"ValueError: it predicts what is no number"} and world.rank(done)[0]["candidate"] != "linear"


def test_predictions_beyond_the_memory_lie_on_disk_and_are_the_same(world, alone, monkeypatch):
    monkeypatch.setattr(search.lay_aside, "__defaults__", (4000,))
    done = world.search()
    assert facts(done) == facts(alone) and any(isinstance(p, np.memmap) for t in done for p in t["predictions"]) and world.rank(done)[0]["trial"] == world.rank(alone)[0]["trial"]


# the stage

@pytest.mark.parametrize("change, message", [({"trials": 0}, "`train.trials` is 0"), ({"candidates": ["florest"]}, "`train.candidates.0` is 'florest'"), ({"interval": 1.0}, "`train.interval` is 1.0"), ({"blend": -1}, "`train.blend`"),
    ({"compute": "cloud"}, "`train.compute` is 'cloud'"), ({"workers": 0}, "`train.workers`"), ({"seconds": 0.}, "`train.seconds`"), ({"batch": 0}, "`train.batch`"), ({"folds": 2}, "`train.folds` is 2"), ({"trails": 3}, "did you mean `trials`"), ({"scheduler": 5}, "`train.scheduler`")])
def test_parameters_are_checked(change, message):
    with pytest.raises(ProjectError, match=message): check_section(train.Params, EXAMPLE["train"] | change, "train")


def test_a_class_without_training_rows_is_an_error():
    w = World("multiclass")
    with pytest.raises(ProjectError, match="No training row has the class 'low'"): train.check_classes(w.y[w.y != w.contract.classes.index("low")], w.contract)


@pytest.mark.chains
def test_the_stage_killed_ten_times_ends_with_the_same_leaderboard(tmp_path, home):
    small = dict(collect__rows=3000, train__trials=14, train__folds=3)
    a, b = clone(tmp_path/"a", home, **small), clone(tmp_path/"b", home, **small)
    a.sh(PACKAGE, "run", "train", timeout=600); b.sh(PACKAGE, "run", "features", timeout=600)
    rng, kills, folder = np.random.default_rng(0), 0, b.root/"data/runs/trials"
    lines = lambda: sum(p.read_bytes().count(b"\n") for p in folder.glob("*.jsonl")) if folder.exists() else 0
    while kills < 10:
        p, before, until = b.start(PACKAGE, "run", "train"), lines(), time.time() + 120
        while lines() < before + rng.integers(1, 4) and p.poll() is None and time.time() < until: time.sleep(0.01)
        if p.poll() is not None: break
        time.sleep(rng.random())
        os.killpg(p.pid, signal.SIGKILL); p.wait(); kills += 1
    assert kills >= 5
    b.sh(PACKAGE, "run", "train", timeout=600)
    for f in ("leaderboard.json", "leaderboard.csv", "history.csv", "metrics.json", "pipeline.skops"): assert (a.root/"data/train"/f).read_bytes() == (b.root/"data/train"/f).read_bytes(), f
