"""The board: who may win, who is as good, what the winner may claim; and the boards of other commits and experiments."""
import json, re, subprocess, sys, time

import numpy as np
import pandas as pd
import pytest
from conftest import BIN, PACKAGE, ROOT, House, clone

from mlcycle import board as boards
from mlcycle import cli, compare
from mlcycle.board import blend_trial, board_table, claim, cut_slices, fold_hash, leaderboard, plot_board, rank_trials, say_board, shortfalls, so_far
from mlcycle.contract import Column, Contract
from mlcycle.core import ProjectError, write_file
from mlcycle.folds import fold_interval, make_folds
from mlcycle.metrics import decide, main_metric, score

NO_WISH = {"nodes": None, "size_mib": None, "qualify": {"metrics": {}, "slices": {}}}
AUC, RMSE = main_metric("binary"), main_metric("regression")


def wish(metrics={}, slices={}, **limits): return NO_WISH | limits | {"qualify": {"metrics": metrics, "slices": slices}}


def world(seed=0, n=600, folds=5, task="binary"):
    rng = np.random.default_rng(seed)
    y = {"binary": rng.integers(0, 2, n), "multiclass": rng.integers(0, 3, n), "regression": rng.normal(10, 3, n)}[task]
    return y, make_folds(y, task, folds, seed)[0], rng


def judge(y, parts, p, task, names=None):
    "All metrics fold by fold, or only one: quicker"
    if names is None: return pd.DataFrame([score(y[b], q, task) for (_, b), q in zip(parts, p)])
    return pd.DataFrame({m.name: [float(m.compute(y[b], q, decide(q), np.ones((1, len(b))))[0]) for (_, b), q in zip(parts, p)] for m in names})


def trial(number, y, parts, task, seen, seed=None, candidate="boosted", folds=None, names=None, **facts):
    "What a model that sees so much of the truth would have predicted"
    rng, p = np.random.default_rng(number if seed is None else seed), []
    for _, b in parts[:folds]:
        if task == "regression": p.append(10 + seen*(y[b] - 10) + rng.normal(0, 1, len(b))); continue
        s = np.exp(seen*np.eye(3 if task == "multiclass" else 2)[y[b]] + rng.normal(size=(len(b), 3 if task == "multiclass" else 2)))
        p.append(s/s.sum(1, keepdims=True))
    results = judge(y, parts, p, task, names)
    return {"trial": number, "candidate": candidate, "settings": {"x": number}, "status": "pruned" if folds else "finished", "results": results, "predictions": p, "nodes": 100*number, "size_kib": 512.*number} | facts


def failed(number): return {"trial": number, "candidate": "forest", "settings": {}, "status": "failed", "results": pd.DataFrame(), "predictions": [], "nodes": None, "size_kib": None, "error": "MemoryError: no room"}


def board_of(ranked, parts, y, metric, cut_short=False, rule="by chance"):
    return leaderboard(ranked, parts, metric, claim(ranked, parts, y, metric, resamples=100), rule, fold_hash(parts, y), cut_short)


# who wins

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_best_wins_whichever_way_the_metric_is_up(task):
    y, parts, _ = world(task=task)
    metric = main_metric(task)
    done = [trial(1, y, parts, task, 0.), trial(2, y, parts, task, .9), trial(3, y, parts, task, .4), failed(4), trial(5, y, parts, task, .9, folds=2)]
    ranked = rank_trials(done, parts, y, task, metric, NO_WISH)
    assert [t["trial"] for t in ranked] == [2, 3, 1, 5, 4] and [t["rank"] for t in ranked] == [1, 2, 3, 4, 5]
    assert ranked[0]["qualified"] and not ranked[0]["tied"] and ranked[0]["difference"] is None
    assert all(t["low"] <= t["mean"] <= t["high"] for t in ranked[:3])
    for t in ranked[1:3]: # the paired difference, as `folds` has it
        d = fold_interval(t["results"][metric.name] - ranked[0]["results"][metric.name], np.mean([len(b)/len(a) for a, b in parts]))
        assert t["difference"] == d and t["tied"] == (d["low"] <= 0 <= d["high"])
    assert "stopped after 2 of 5 folds" in ranked[3]["why"][0] and ranked[4]["why"] == ["MemoryError: no room"] and np.isnan(ranked[4]["mean"])
    assert (turn := [t["mean"] for t in ranked[:3]]) == sorted(turn, reverse=metric.higher)


def test_of_equals_the_first_tried_wins_and_the_other_is_tied():
    y, parts, _ = world()
    ranked = rank_trials([trial(7, y, parts, "binary", 1., seed=3), trial(2, y, parts, "binary", 1., seed=3)], parts, y, "binary", AUC, NO_WISH)
    assert [t["trial"] for t in ranked] == [7, 2] and ranked[1]["tied"] and ranked[1]["difference"]["value"] == 0


@pytest.mark.parametrize("place", [2, 3])
def test_a_blend_goes_before_a_leader_that_is_not_surely_better(place):
    y, parts, _ = world()
    done = [trial(i, y, parts, "binary", 1., seed=7) for i in range(1, place)]
    blend = trial(9, y, parts, "binary", 1., seed=7, candidate="blend") | {"trial": "blend"}
    less = lambda by: blend | {"results": blend["results"] - by*np.linspace(-0.5, 2.5, 5)[:, None]}                        # worse by `by` on average
    first = lambda b, goal=NO_WISH: rank_trials([*done, b], parts, y, "binary", AUC, goal)
    assert [t["trial"] for t in first(less(0.001))] == ["blend", *range(1, place)] and all(t["tied"] for t in first(less(0.001))[1:])
    surely = first(blend | {"results": blend["results"] - 0.05})
    assert surely[0]["trial"] == 1 and surely[place - 1]["trial"] == "blend" and not surely[place - 1]["tied"]
    assert first(less(0.001), wish(nodes=800))[0]["trial"] == 1                                # it may not win


def test_a_real_difference_is_not_called_noise_and_noise_is():
    tied = {1.0: 0, 1.15: 0, 2.0: 0}
    for seed in range(20):
        y, parts, _ = world(seed)
        for seen in tied: tied[seen] += rank_trials([trial(1, y, parts, "binary", 1., seed, names=[AUC]), trial(2, y, parts, "binary", seen, 100 + seed, names=[AUC])], parts, y, "binary", AUC, NO_WISH)[1]["tied"]
    assert tied[1.0] >= 17 and tied[2.0] == 0, tied


def test_trials_that_all_failed_are_an_error_that_says_why():
    y, parts, _ = world()
    with pytest.raises(ProjectError, match="None of 2 trials finished. The first one: MemoryError: no room.*`train.candidates`"): rank_trials([failed(0), failed(1)], parts, y, "binary", AUC, NO_WISH)
    assert rank_trials([trial(1, y, parts, "binary", 1.), failed(0) | {"error": None}], parts, y, "binary", AUC, NO_WISH)[1]["why"] == ["roc_auc is not defined in every fold"]


# who may win

@pytest.mark.parametrize("goal, words", [
    (wish(nodes=250), "300 nodes, and at most 250 may win (`frame.constraints.nodes`)"),
    (wish(size_mib=1.2), "1.5 MiB, and at most 1.2 may win (`frame.constraints.size_mib`)"),
    (wish(metrics={"f1": 0.99}), "and 0.99 is needed (`frame.qualify.metrics`)"),
    (wish(metrics={"brier": 0.001}), "and 0.001 is needed (`frame.qualify.metrics`)"),
    (wish(slices={"plan": 0.95}), "where `plan` is pro, and 0.95 is needed (`frame.qualify.slices`)"),
])
def test_whoever_misses_what_the_charter_asks_cannot_win(goal, words):
    y, parts, rng = world(n=900)
    contract, table = tiny(y, rng)
    best = trial(3, y, parts, "binary", 2.5)
    best["predictions"] = [np.where((table.plan.to_numpy()[b] == "pro")[:, None], 0.5, p) for (_, b), p in zip(parts, best["predictions"])] # of no use for some
    small = trial(1, y, parts, "binary", .3)
    ranked = rank_trials([small, best], parts, y, "binary", AUC, goal, table, contract)
    last = next(t for t in ranked if t["trial"] == 3)
    assert not last["qualified"] and any(w.endswith(words) for w in last["why"]), last["why"]
    if ranked[0]["qualified"]: assert ranked[0]["trial"] == 1 and last["mean"] > ranked[0]["mean"]
    else: assert ranked[0]["trial"] == 3          # nobody may: the best leads


def tiny(y, rng, **how):
    table = pd.DataFrame({"plan": rng.choice(["basic", "pro"], len(y), p=[.7, .3]), "age": rng.normal(40, 9, len(y)).round(1), "note": "a text", "left": np.where(y, "yes", "no")})
    columns = [Column(name="plan", type="category", **how), Column(name="age", type="number", nullable=True), Column(name="note", type="text"), Column(name="left", type="category", role="target")]
    return Contract(name="tiny", task="binary", positive="yes", classes=["no", "yes"], columns=columns), table


@pytest.mark.parametrize("name, words", [("plam", "did you mean `plan`? Columns: plan, age, note, left"), ("left", "which is the target and cannot be cut"), ("note", "which is a text and cannot be cut")])
def test_a_slice_that_cannot_be_cut_says_so(name, words):
    y, parts, rng = world()
    contract, table = tiny(y, rng)
    with pytest.raises(ProjectError) as e: rank_trials([trial(1, y, parts, "binary", 1.)], parts, y, "binary", AUC, wish(slices={name: 0.6}), table, contract)
    assert words in str(e.value) and "`frame.qualify.slices`" in str(e.value)


def test_collect_says_at_once_that_a_slice_is_no_column():
    from mlcycle.collect import _check_charter
    goal = {"sensitive": [], "forbidden": [], "today": None, "qualify": {"metrics": {}, "slices": {"plam": 0.6}}}
    with pytest.raises(ProjectError, match=r"`frame.qualify.slices` names `plam`.*did you mean `plan`.*to \{\} until"): _check_charter(pd.DataFrame({"plan": ["a"], "left": ["no"]}), goal, {})


def test_slices_hold_every_row_once_and_only_those_with_enough_rows_count():
    y, parts, rng = world(n=900)
    contract, table = tiny(y, rng)
    table.loc[::3, "age"] = np.nan
    rows = np.concatenate([b for _, b in parts])
    (names, places), few = cut_slices(table, contract, ["age"], rows)["age"], cut_slices(table, contract, ["plan"], rows, least=500)["plan"]
    assert len(names) == 5 and names[-1] == "missing" and sorted(np.concatenate(places)) == [*range(900)] and len(places[-1]) == 300
    assert few[0] == ["basic"] and len(few[1]) == 1
    seldom = rank_trials([trial(1, y, parts, "binary", 1.)], parts, y, "binary", AUC, wish(slices={"plan": 0.999}), table, contract, least=10_000)
    assert seldom[0]["why"] == ["no slice of `plan` has enough rows to be judged (`frame.qualify.slices`)"]     # what nobody could look at was not reached


def test_slices_of_many_levels_take_little_memory():
    import tracemalloc
    n = 60_000
    y, parts, rng = world(n=n)
    table = pd.DataFrame({"plan": rng.integers(0, 1000, n).astype(str), "left": np.where(y, "yes", "no")})
    contract = Contract(name="tiny", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name="plan", type="category"), Column(name="left", type="category", role="target")])
    done = [trial(1, y, parts, "binary", 1., names=[AUC])]
    tracemalloc.start()
    ranked = rank_trials(done, parts, y, "binary", AUC, wish(slices={"plan": 0.99}), table, contract)
    peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert "where `plan` is" in ranked[0]["why"][0] and peak < 100*2**20, peak/2**20                 # one weight for each level and row would be 480 MB


def test_values_of_personal_columns_stay_out_of_the_reasons():
    y, parts, rng = world(n=900)
    contract, table = tiny(y, rng, personal=True)
    ranked = rank_trials([trial(1, y, parts, "binary", .2)], parts, y, "binary", AUC, wish(slices={"plan": 0.9}), table, contract)
    assert "slice" in ranked[0]["why"][0] and not re.search("basic|pro\\b", json.dumps(ranked[0]["why"]))


def test_a_metric_that_cannot_be_computed_is_not_reached():
    y, parts, _ = world()
    t = trial(1, y, parts, "binary", 1.)
    t["results"]["f1"] = np.nan
    assert shortfalls(t, y[np.concatenate([b for _, b in parts])], AUC, "binary", wish(metrics={"f1": 0.}))[0].startswith("f1 nan")


# the blend

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_blend_is_judged_by_weights_that_other_folds_chose(task):
    y, parts, _ = world(task=task)
    metric, done = main_metric(task), [trial(i, y, parts, task, .5, candidate=c) for i, c in enumerate(["linear", "boosted", "forest", "lightgbm"])]
    blend = blend_trial(done, parts, y, task, metric, most=3)
    members = blend["settings"]["members"]
    assert len(members) <= 3 and sum(m["weight"] for m in members) == pytest.approx(1) and [m["weight"] for m in members] == sorted((m["weight"] for m in members), reverse=True)
    assert blend["nodes"] == sum(100*m["trial"] for m in members) and {m["candidate"] for m in members} <= {"linear", "boosted", "forest", "lightgbm"}
    lied = y.copy(); b = parts[2][1]
    lied[b] = y[b][::-1]                          # another truth in one fold: what is said there must not change
    again = blend_trial([t | {"results": pd.DataFrame([score(lied[b], p, task) for (_, b), p in zip(parts, t["predictions"])])} for t in done], parts, lied, task, metric, most=3)
    assert again is None or np.array_equal(again["predictions"][2], blend["predictions"][2])
    assert again is None or not np.array_equal(again["predictions"][0], blend["predictions"][0])
    better = blend["results"][metric.name].mean() - np.array([t["results"][metric.name].mean() for t in done])
    assert (better > 0).all() if metric.higher else (better < 0).all()


def test_there_is_no_blend_where_one_is_enough():
    y, parts, _ = world()
    done = [trial(0, y, parts, "binary", 4.), trial(1, y, parts, "binary", 0.), failed(2), trial(3, y, parts, "binary", 4., folds=1)]
    assert blend_trial(done[:1], parts, y, "binary", AUC, 5) is None is blend_trial(done, parts, y, "binary", AUC, 1) is blend_trial(done[:1] + done[2:], parts, y, "binary", AUC, 5)


def test_a_blend_of_noise_may_claim_nothing():
    "Twenty guesses, blended and then chosen from: the blend's own line is honest, too"
    found, shown = [], []
    for seed in range(12):
        y, parts, _ = world(1000 + seed, n=400, folds=3)
        done = [trial(i, y, parts, "binary", 0., seed=77_777 + 1000*seed + i, names=[AUC]) for i in range(20)]
        blend = blend_trial(done, parts, y, "binary", AUC, 5)
        shown.append(max(t["results"].roc_auc.mean() for t in done)); found.append(blend["results"].roc_auc.mean())
    assert abs(np.mean(found) - 0.5) < 0.03 and np.mean(shown) > 0.53, (found, shown)


# what the winner may claim

def guess(seed, task="binary", n=300, columns=60, tried=40):
    "Least squares on some of many columns of noise: learned on each fold, judged on the other rows"
    y, parts, rng = world(seed, n=n, folds=3, task=task)
    X, done = rng.normal(size=(n, columns)), []
    for i in range(tried):
        some, p = rng.permutation(columns)[:6], []
        for a, b in parts:
            s = X[np.ix_(b, some)] @ np.linalg.lstsq(X[np.ix_(a, some)], y[a] - y[a].mean(), rcond=None)[0]
            p.append(np.column_stack([0.5 - s, 0.5 + s]) if task == "binary" else s + y[a].mean())
        done.append({"trial": i, "candidate": "linear", "settings": {}, "status": "finished", "results": judge(y, parts, p, task, [main_metric(task)]), "predictions": p, "nodes": 7, "size_kib": 1.})
    return rank_trials(done, parts, y, task, main_metric(task), NO_WISH), parts, y


@pytest.mark.parametrize("task, luck", [("binary", 0.05), ("regression", 0.03)])
def test_the_best_of_forty_guesses_claims_no_more_than_chance(task, luck):
    "20 seeds of noise: what the board shows for the winner is better than chance, what it claims is not"
    shown, value, held, turn = [], [], 0, 1 if task == "binary" else -1
    for seed in range(20):
        ranked, parts, y = guess(seed, task, tried=30)
        c, chance = claim(ranked, parts, y, main_metric(task), resamples=60), np.mean([t["mean"] for t in ranked]) # all of them only guess
        shown.append(turn*(ranked[0]["mean"] - chance)); value.append(turn*(c["value"] - chance)); held += c["low"] <= chance <= c["high"]
    assert np.mean(shown) > luck and -luck < np.mean(value) < luck/10 and held >= 19, (np.mean(shown), np.mean(value), held)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_one_trial_alone_claims_what_it_reached(task):
    y, parts, _ = world(task=task, n=1000)
    metric = main_metric(task)
    ranked = rank_trials([trial(1, y, parts, task, .8)], parts, y, task, metric, NO_WISH)
    c = claim(ranked, parts, y, metric)
    assert c["value"] == pytest.approx(ranked[0]["mean"], abs=0.1*(c["high"] - c["low"])) and c["low"] < ranked[0]["mean"] < c["high"]


def test_the_claim_holds_what_is_true():
    "Candidates of known worth: the interval holds the truth of the one that wins, and the value is not flattered"
    from math import erf
    held, off = 0, []
    for seed in range(20):
        y, parts, rng = world(seed, n=400, folds=4)
        seen = rng.normal(.7, .1, 20)             # the AUC of such a one is Φ(seen)
        ranked = rank_trials([trial(i, y, parts, "binary", s, seed=500*seed + i, names=[AUC]) for i, s in enumerate(seen)], parts, y, "binary", AUC, NO_WISH)
        truth, c = 0.5*(1 + erf(seen[ranked[0]["trial"]]/np.sqrt(2))), claim(ranked, parts, y, AUC, resamples=100)
        held += c["low"] <= truth <= c["high"]; off.append((c["value"] - truth, ranked[0]["mean"] - truth))
    mine, naive = np.mean(off, axis=0)
    assert held >= 18 and -0.03 < mine < 0.003 < 0.015 < naive, (held, mine, naive)


def test_trials_that_were_stopped_early_take_part():
    "Left out, the unlucky ones of the first fold would be missing"
    y, parts, _ = world(n=900)
    done = [trial(i, y, parts, "binary", 0., folds=None if i % 2 else 2) for i in range(30)]
    ranked = rank_trials(done, parts, y, "binary", AUC, NO_WISH)
    whole, part = (claim(r, parts, y, AUC, resamples=100) for r in (ranked, [t for t in ranked if t["status"] != "pruned"]))
    assert whole != part and whole["low"] < 0.5


def test_a_claim_is_the_same_every_time_and_allows_for_rows_that_go_together():
    y, parts, rng = world(n=400)
    twice = np.tile(y, 4); parts = [(np.concatenate([a + 400*i for i in range(4)]), np.concatenate([b + 400*i for i in range(4)])) for a, b in parts]
    base = [trial(i, y, [(a[a < 400], b[b < 400]) for a, b in parts], "binary", .6) for i in range(5)]
    done = [t | {"predictions": [np.tile(p, (4, 1)) for p in t["predictions"]]} for t in base]
    ranked = rank_trials(done, parts, twice, "binary", AUC, NO_WISH)
    alone, again, together = (claim(ranked, parts, twice, AUC, groups=g) for g in (None, None, np.tile(np.arange(400), 4)))
    width = lambda c: c["high"] - c["low"]
    assert alone == again and width(together) > 1.5*width(alone)


def test_few_of_many_rows_say_nearly_the_same():
    y, parts, _ = world(n=6000)
    ranked = rank_trials([trial(i, y, parts, "binary", .5) for i in range(6)], parts, y, "binary", AUC, NO_WISH)
    every, some = (claim(ranked, parts, y, AUC, rows=r) for r in (20_000, 2000))
    assert some["value"] == pytest.approx(every["value"], abs=0.01) and (some["high"] - some["low"])/(every["high"] - every["low"]) == pytest.approx(1, abs=0.35)
    grouped = claim(ranked, parts, y, AUC, groups=np.arange(6000)//3, rows=2000)
    assert grouped["low"] < every["value"] < grouped["high"]


def test_the_claim_is_quick():
    "40 trials × 10,000 rows × 200 resamples (about 1.5 s of a quiet core)"
    y, parts, _ = world(n=10_000)
    ranked = rank_trials([trial(i, y, parts, "binary", .5, names=[AUC]) for i in range(40)], parts, y, "binary", AUC, NO_WISH)
    start = time.process_time()
    claim(ranked, parts, y, AUC)
    assert time.process_time() - start < 5


# on paper

def full(seed=0, cut_short=False, goal=NO_WISH, blended=True):
    y, parts, _ = world(seed)
    done = [trial(i, y, parts, "binary", s, candidate=c) for i, (s, c) in enumerate([(0., "dummy"), (.6, "linear"), (1., "boosted"), (1.02, "lightgbm")])] + [trial(4, y, parts, "binary", .1, folds=1), failed(5)]
    ranked = rank_trials([*done, blend_trial(done, parts, y, "binary", AUC, 3)][:7 if blended else 6], parts, y, "binary", AUC, goal)
    return board_of(ranked, parts, y, AUC, cut_short), ranked


def test_a_board_is_the_same_bytes_twice_and_says_all(tmp_path):
    board, ranked = full()
    for name in "ab": write_file(full()[0], tmp_path/f"{name}.json"); write_file(board_table(full()[0]), tmp_path/f"{name}.csv")
    assert (tmp_path/"a.json").read_bytes() == (tmp_path/"b.json").read_bytes() and (tmp_path/"a.csv").read_bytes() == (tmp_path/"b.csv").read_bytes()
    back = json.loads((tmp_path/"a.json").read_text())
    assert set(back) == {"version", "metric", "higher", "rule", "folds", "reach", "cut_short", "claimed", "winner", "trials"} and back["version"] == 2 and back["winner"] == "blend"
    assert [t["rank"] for t in back["trials"]] == list(range(1, 8)) and back["trials"][-1]["mean"] is None and set(back["trials"][0]["metrics"]) == set(ranked[0]["results"])
    table = pd.read_csv(tmp_path/"a.csv")
    assert table.columns[:13].tolist() == ["rank", "trial", "candidate", "mean", "low", "high", "nodes", "size_kib", "qualified", "tied", "status", "metric", "folds"] and len(table) == 7


def test_another_boards_trials_can_be_compared_by_the_table_alone():
    board, ranked = full()
    lines = compare.parse_board(board_table(board).to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    for line, t in list(zip(lines, ranked))[1:5]: assert compare.is_tied(lines[0], line) == t["tied"]
    assert compare.is_tied(lines[0], lines[5]) is None and lines[6]["status"] == "failed"     # stopped early: not on the same folds


def test_folds_are_named_by_rows_truth_and_cuts():
    y, parts, _ = world()
    names = {fold_hash(parts, y), fold_hash(parts, 1 - y), fold_hash(parts[::-1], y), fold_hash(parts, y, range(600)), fold_hash([(a, b[::-1]) for a, b in parts], y)}
    assert len(names) == 5 and fold_hash(parts, y) == fold_hash([(a.astype(np.int32), b) for a, b in parts], y.astype(np.int32))


def test_the_words_say_who_why_and_when_not_to_trust_them():
    assert "wins with roc_auc" in (said := say_board(full(blended=False)[0])) and "may claim" in said and "no more than noise" in said and "Nobody" not in said and "train.seconds" not in said
    assert "`train.seconds`" in say_board(full(cut_short=True)[0])
    assert "may not win: blend: " in say_board(full(goal=wish(nodes=250))[0])
    nobody, ranked = full(goal=wish(metrics={"f1": 1.}))
    assert "**Nobody qualifies**" in say_board(nobody) and not ranked[0]["qualified"] and nobody["trials"][0]["why"]


def test_the_best_so_far_never_falls():
    y, parts, _ = world(task="regression")
    ranked = rank_trials([trial(i, y, parts, "regression", s) for i, s in enumerate([.1, .8, .3, .9])] + [trial(4, y, parts, "regression", .9, folds=1)], parts, y, "regression", RMSE, NO_WISH)
    found = so_far(ranked, RMSE)
    assert found.trial.tolist() == [0, 1, 2, 3] and (found.best.diff().dropna() <= 0).all() and found.best.iloc[-1] == ranked[0]["mean"]


def test_the_figure_shows_what_the_title_says():
    import matplotlib
    matplotlib.use("Agg")
    board, _ = full(goal=wish(nodes=250))
    fig = plot_board(board, "points", most=4)
    ax, = fig.axes
    assert f"{board['trials'][0]['candidate']} leads with" in ax.get_title(loc="left") and "roc_auc (points)" in ax.get_xlabel() and "3 more not shown" in ax.get_xlabel()
    assert any("may not win" in t.get_text() for t in ax.get_yticklabels())


# boards of other commits and experiments

LINE = "rank,trial,candidate,mean,low,high,nodes,size_kib,qualified,tied,status,metric,folds,reach,scores\n"


class Repo:
    "A project as small as can be, with results as a run would leave them"
    def __init__(self, root):
        self.root = root
        self.git("init", "-q")
        for name in ("dvc.yaml", "params.yaml"): self.write(name, "{}")
        self.write("settings.ini", f"[DEFAULT]\nlib_name = {PACKAGE}\n")

    def write(self, path, text): (self.root/path).parent.mkdir(parents=True, exist_ok=True); (self.root/path).write_text(text)
    def git(self, *words): return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=self.root, capture_output=True, text=True, check=True).stdout.strip()
    def commit(self, says): self.git("add", "-A"); self.git("commit", "-qm", says); return self.git("rev-parse", "HEAD")

    def run(self, mean, metric="roc_auc", qualified=True, folds="a1b2", test=None, params="{}", spread=.01):
        scores = " ".join(str(round(mean + d, 4)) for d in (-spread, 0, spread))
        self.write(compare.BOARD, LINE + f"1,0,linear,{mean},{mean - .02},{mean + .02},9,1,{qualified},False,finished,{metric},{folds},3.9,{scores}\n")
        if test: self.write(compare.FOUND, json.dumps({"metric": metric, metric: test, "intervals": {metric: [test - .01, test + .01]}}))
        self.write("params.yaml", params)

    def experiment(self, name, base, **run):
        self.run(**run); rev = self.commit("dvc: commit experiment")
        self.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", rev); self.git("reset", "-q", "--hard", base)
        return rev


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


def asked(capsys, *words):
    code = cli.main(["leaderboard", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_nothing_there_says_what_to_do(repo, capsys):
    code, said = asked(capsys)
    assert code == 2 and "data/train/leaderboard.csv is missing" in said and f"`{PACKAGE} run train`" in said
    code, said = asked(capsys, "--all")
    assert code == 2 and "no commit and no experiment holds" in said
    repo.commit("Start")
    assert asked(capsys, "--all")[0] == 2
    code, said = asked(capsys, "--rev", "HEAD")
    assert code == 2 and "(Start) holds no data/train/leaderboard.csv" in said
    repo.run(.8); repo.commit("A run"); repo.git("tag", "good")
    code, said = asked(capsys, "--rev", "goood")
    assert code == 2 and "`goood` is no commit, branch, tag or experiment" in said and "`dvc exp show`" in said


def test_without_git_the_own_board_is_still_shown(tmp_path, monkeypatch, capsys):
    repo = Repo(tmp_path); repo.run(.8)
    import shutil
    shutil.rmtree(tmp_path/".git")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert asked(capsys)[0] == 0
    code, said = asked(capsys, "--all")
    assert code == 2 and "`git for-each-ref` failed" in said and "not a git repository" in said


def test_runs_of_commits_and_experiments_are_ranked(repo, capsys):
    repo.run(.80, test=.78, params="train: {trials: 6}"); first = repo.commit("First")
    repo.run(.805, test=.79, params="train: {trials: 7}", spread=.02); base = repo.commit("Second")
    repo.experiment("brave-owl", base, mean=.85, test=.83, params="train: {trials: 30}")
    repo.experiment("too-big", base, mean=.99, qualified=False, test=.9)
    repo.experiment("other-rows", base, mean=.849, folds="c3d4", test=.8)
    repo.git("update-ref", "refs/exps/stash", base)                       # the queue, no result
    repo.run(.70, test=.5)
    code, said = asked(capsys, "--all", "--json")
    runs = json.loads(said)
    assert code == 0 and [(r["name"], r["kind"], r["place"], r["noise"]) for r in runs] == [("brave-owl", "experiment", 1, None), ("other-rows", "experiment", 2, None), (base[:7], "commit", 3, False), (first[:7], "commit", 4, False),
        ("workspace", "workspace", 5, False), ("too-big", "experiment", 6, False)]
    assert runs[0]["says"] == "train.trials=30" and runs[0]["test"] == {"value": .83, "low": .82, "high": .84} and runs[2]["says"] == "Second"
    code, said = asked(capsys, "--all")
    assert code == 0 and re.search(r"1\s+brave-owl .*train.trials=30.*0\.85 \(0\.83 to 0\.87\).*0\.83 \(0\.82 to 0\.84\)", said) and "other rows or folds" in said and "does not qualify" in said
    code, said = asked(capsys, "--rev", "brave-owl")
    assert code == 0 and "1 trial of experiment brave-owl, by roc_auc, more is better" in said and "linear" in said
    code, said = asked(capsys, "--rev", "HEAD~1", "brave-owl")
    assert code == 0 and said.startswith("2 runs") and "Second" not in said


def test_a_difference_that_is_noise_is_marked(repo, capsys):
    repo.run(.80); repo.commit("First")
    repo.write(compare.BOARD, (repo.root/compare.BOARD).read_text().replace("0.79 0.8 0.81", "0.81 0.78 0.80").replace(",0.8,", ",0.7967,")); repo.commit("Second")
    assert "as good: noise" in asked(capsys, "--all")[1]


def test_commits_that_changed_nothing_are_not_listed_twice(repo, capsys):
    repo.run(.80, test=.78); first = repo.commit("First")
    repo.write("README.md", "more"); repo.commit("Prose")
    repo.run(.70, test=.6); repo.commit("Worse")
    repo.run(.80, test=.78); repo.commit("Back again")
    runs = json.loads(asked(capsys, "--all", "--json")[1])
    assert [r["says"] for r in runs] == ["First", "Worse"]


def test_less_is_better_where_it_is_and_other_metrics_stand_apart(repo, capsys):
    repo.run(.80); repo.commit("A classifier")
    repo.run(120., metric="rmse", test=130.); repo.commit("Worse")
    repo.run(100., metric="rmse", test=110.); repo.commit("Better")
    runs = json.loads(asked(capsys, "--all", "--json")[1])
    assert [(r["says"], r["place"]) for r in runs] == [("Better", 1), ("Worse", 2), ("A classifier", None)]
    assert "measured by roc_auc" in asked(capsys, "--all")[1] and "less is better" in asked(capsys)[1]


def test_a_board_of_an_older_version_is_read(repo, capsys):
    repo.write(compare.BOARD, "rank,candidate,mean,std\n1,boosted,0.78,0.01\n2,dummy,0.5,0\n"); repo.commit("Old")
    assert asked(capsys)[0] == 0 and "metric not recorded" not in asked(capsys, "--all")[1]
    repo.run(.8); repo.commit("New")
    runs = json.loads(asked(capsys, "--all", "--json")[1])
    assert [(r["says"], r["place"]) for r in runs] == [("New", 1), ("Old", None)] and "metric not recorded" in asked(capsys, "--all")[1]


def test_names_of_branches_with_odd_texts_do_no_harm(repo, capsys):
    repo.run(.8); repo.commit("A [bold]tag[/bold]\tand a tab")
    assert "[bold]tag[/bold]" in asked(capsys, "--all")[1].replace("\n", " ")


def test_the_own_board_says_why_somebody_may_not_win(repo, capsys):
    board, _ = full(goal=wish(nodes=250), cut_short=True)
    repo.write(compare.BOARD, board_table(board).to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    write_file(board, repo.root/"data/train/leaderboard.json")
    code, said = asked(capsys)
    assert code == 0 and "7 trials of this run" in said and re.search(r"may not win: [0-9]+ nodes, and at most 250", said) and "may claim" in said and "A limit in time" in said and re.search(r"pruned\s*$", said, re.M)
    assert [t["trial"] for t in json.loads(asked(capsys, "--json")[1])][:2] == [2, 1]


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit): cli.main(["leaderboard", "--help"])
    said = capsys.readouterr().out
    for piece in ("leaderboard --all", "leaderboard --rev brave-owl", "as good: noise", "`frame.qualify`", "dvc exp run -S train.trials=30", "--json", "Exit code"): assert piece in said, piece


def test_the_command_needs_no_pandas(repo):
    repo.run(.8, test=.7); repo.commit("First")
    code = f"import sys; from {PACKAGE}.cli import main\nfor words in ([], ['--all'], ['--rev', 'HEAD']): assert main(['leaderboard', *words]) == 0\nprint([m for m in sys.modules if m.split('.')[0] in ('pandas', 'sklearn', 'scipy', 'dvc')])"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo.root, capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"


@pytest.mark.chains
def test_experiments_run_queue_and_show(tmp_path, home):
    "`dvc exp run` with changed parameters: in a copy, and queued; all of them in `dvc exp show` and on the leaderboard"
    house = clone(tmp_path/"house", home, collect__rows=1500, train__trials=2)
    house.sh(PACKAGE, "run", "evaluate", timeout=600); house.commit("First run")
    house.sh("dvc", "exp", "run", "--temp", "-n", "in-a-copy", "-S", "train.trials=3", "evaluate", timeout=900)
    for name, trials in (("queued-4", 4), ("queued-1", 1)): house.sh("dvc", "exp", "run", "--queue", "-n", name, "-S", f"train.trials={trials}", "evaluate")
    house.sh("dvc", "exp", "run", "--run-all", timeout=900)
    shown = house.sh("dvc", "exp", "show", "--csv")
    runs = {r["name"]: r for r in json.loads(house.sh(PACKAGE, "leaderboard", "--all", "--json"))}
    for name, trials in (("in-a-copy", 3), ("queued-4", 4), ("queued-1", 1)):
        assert re.search(rf"^.*{name}.*,{trials},", shown, re.M), shown
        assert runs[name]["kind"] == "experiment" and runs[name]["says"] == f"train.trials={trials}" and runs[name]["test"]["value"] > 0.5 and runs[name]["folds"] == runs["in-a-copy"]["folds"]
    assert [r["place"] for r in runs.values()] == list(range(1, len(runs) + 1))
    assert "in-a-copy" in house.sh(PACKAGE, "leaderboard", "--all") and house.sh("git", "status", "--short") == ""
