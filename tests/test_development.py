"""Assess, features, train, evaluate and the ground they stand on, on tables of a few hundred rows."""
import hashlib, json, os, subprocess, sys

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from conftest import PACKAGE, ROOT

from mlcycle import assess, evaluate, features, metrics, train
from mlcycle.contract import inputs, labels, propose
from mlcycle.core import ProjectError, check_section, load_params, write_file
from mlcycle.folds import cross_validate, fold_data, fold_ratio, make_folds, ties
from mlcycle.recipe import TRUSTED, load_model, make_pipeline, make_recipe, plan, predict, save_model

CANDIDATES = ["dummy", "rule", "linear", "boosted"]


def customers(seed=0, n=300, task="binary", signal=True):
    "Gaps, a category with gaps, a constant, an identifier; and a target that depends on them, or on nothing"
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(n)], "logins": rng.poisson(5, n).astype(float), "age": rng.normal(40, 9, n),
        "plan": rng.choice(["basic", "pro", None], n), "shop": "web"})
    signal = (t.logins - 5 + 2*(t.plan == "pro") if signal else 0) + rng.normal(0, 1, n)
    t["y"] = {"binary": np.where(signal > 0.5, "yes", "no"), "multiclass": np.select([signal < -1, signal < 1], ["low", "mid"], "high"), "regression": 100 + 10*signal}[task]
    t.loc[rng.random(n) < 0.1, "logins"] = np.nan
    return t


def made(table, target="y", **roles):
    contract = propose(table, "tiny", target, roles=roles)
    return contract, pd.DataFrame(inputs(table, contract)), labels(table, contract)


# metrics

@pytest.mark.parametrize("k", [2, 3, 5])
def test_class_metrics_are_scikit_learns(k):
    rng = np.random.default_rng(k)
    for n in (30, 400):
        y, p = rng.integers(0, k, n), rng.dirichlet(np.ones(k), n).round(2)
        y[:k] = range(k)
        p = (p + 1e-3)/(p + 1e-3).sum(1, keepdims=True)
        found, d = metrics.score(y, p, "binary" if k == 2 else "multiclass"), p.argmax(1)
        asked = {"accuracy": sk.accuracy_score(y, d), "balanced_accuracy": sk.balanced_accuracy_score(y, d), "log_loss": sk.log_loss(y, p)}
        if k == 2: asked |= {"roc_auc": sk.roc_auc_score(y, p[:, 1]), "average_precision": sk.average_precision_score(y, p[:, 1]), "brier": sk.brier_score_loss(y, p[:, 1])}
        found_f1 = found["f1"] if k == 2 else found["f1_macro"]
        d_f1 = metrics.decide(p)
        assert found_f1 == pytest.approx(sk.f1_score(y, d_f1) if k == 2 else sk.f1_score(y, d_f1, average="macro"))
        for name, value in asked.items(): assert found[name] == pytest.approx(value), name


def test_metrics_without_a_class_are_as_scikit_learn_has_them():
    y, p = np.array([0, 0, 2, 2, 0]), np.array([[.8, .1, .1], [.1, .8, .1], [.1, .1, .8], [.2, .2, .6], [.5, .2, .3]])
    found = metrics.score(y, p, "multiclass")
    assert found["f1_macro"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"))
    assert found["balanced_accuracy"] == pytest.approx((2/3 + 1)/2)
    assert np.isnan(metrics.score(np.ones(4, int), p[:4, :2]/p[:4, :2].sum(1, keepdims=True), "binary")["roc_auc"])


def test_amount_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    y = rng.normal(1e6, 3, 200); p = y + rng.normal(0, 2, 200)
    found = metrics.score(y, p, "regression")
    assert found == pytest.approx({"rmse": sk.root_mean_squared_error(y, p), "mae": sk.mean_absolute_error(y, p), "r2": sk.r2_score(y, p)})


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_bootstrap_is_seeded_and_does_not_depend_on_chunks(task):
    rng = np.random.default_rng(0)
    k = {"binary": 2, "multiclass": 3}.get(task)
    y, p = (rng.integers(0, k, 150), rng.dirichlet(np.ones(k), 150)) if k else (rng.normal(size=150), rng.normal(size=150))
    a, b, c = (metrics.intervals(y, p, task, resamples=150, seed=s) for s in (1, 1, 2))
    assert a == b != c
    assert all(v["low"] <= v["high"] for v in a.values())
    by_hand = [metrics.score(y[i], p[i], task) for i in (np.repeat(np.arange(150), w.astype(int)) for w in next(metrics.resample(150, 100, seed=1))[:5])]
    main = metrics.main_metric(task)
    direct = main.compute(y, p, metrics.decide(p), next(metrics.resample(150, 100, seed=1))[:5])
    assert direct == pytest.approx([v[main.name] for v in by_hand])


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(ProjectError, match="did you mean `roc_auc`"): metrics.main_metric("binary", "rocauc")


# folds

def test_folds_respect_groups():
    groups, y = np.repeat(np.arange(40), 5), np.tile([0, 1], 100)
    parts, rule = make_folds(y, "binary", 5, 0, groups=groups)
    assert rule == "by group" and len(parts) == 5
    for learn, judge in parts: assert not set(groups[learn]) & set(groups[judge])


def test_folds_go_forward_in_time_and_learn_only_what_was_known():
    time = np.repeat(np.arange(20.), 10); known = time + 3
    parts, rule = make_folds(np.tile([0, 1], 100), "binary", 4, 0, time=time, groups=np.arange(200), known=known)
    assert rule == "forward in time" and len(parts) == 4
    for learn, judge in parts: assert known[learn].max() <= time[judge].min()


def test_folds_use_the_contract():
    t = customers().assign(day=pd.date_range("2025-01-01", periods=300), who=np.arange(300)//3)
    contract, X, y = made(t, day="time", who="group")
    tied = ties(t, contract)
    assert len(np.unique(tied["groups"])) == 100 and (np.diff(tied["time"]) > 0).all() and tied["known"] is None
    assert make_folds(y, "binary", 5, 0, **tied)[1] == "forward in time"


@pytest.mark.parametrize("y", [np.zeros(40, int), np.array([0]*40 + [1]), np.array([0, 1])])
def test_folds_that_can_judge_nothing_are_an_error(y):
    with pytest.raises(ProjectError, match="folds"): make_folds(y, "binary", 5, 0)


def test_a_column_that_is_missing_in_a_whole_fold_does_no_harm():
    t = customers(); t.loc[:200, "age"] = np.nan
    contract, X, y = made(t.assign(day=np.arange(300)), day="time")
    parts, _ = make_folds(y, "binary", 4, 0, time=np.arange(300.))
    data = fold_data(make_recipe(plan(contract, X, 50)), X, y, parts)
    for c in CANDIDATES: assert np.isfinite(cross_validate(c, "binary", data, 2)["roc_auc"]).all()


# assess

def verdict(table, folds=5):
    contract, X, y = made(table)
    results, ratio, _ = assess.try_ways(X, y, contract, folds, seed=0)
    return assess.decide_go(results, metrics.main_metric(contract.task), ratio, gain=0, level=0.95)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_noise_is_a_no_go(task):
    assert [verdict(customers(seed, task=task, signal=False))["verdict"] for seed in range(5)] == ["no-go"]*5


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_signal_is_a_go(task):
    decision = verdict(customers(1, 600, task))
    assert decision["verdict"] == "go" and decision["difference"]["low"] > 0
    assert set(decision["baselines"]) == {"constant", "rule", "linear", "boosted"}


def test_a_target_that_is_a_rule_needs_no_model():
    t = customers(2)
    decision = verdict(t.assign(logins=t.logins.fillna(5)).assign(y=lambda t: np.where(t.logins <= 3, "yes", "no")))
    assert decision["verdict"] == "no-go" and decision["reasons"][-1] == "Use the rule."


# features

def test_each_column_that_is_left_out_says_why():
    contract, X, y = made(customers().assign(note=lambda t: [f"text number {i} of many" for i in range(len(t))], empty=np.nan))
    planned = {p["column"]: p for p in plan(contract, X, 50)}
    assert {c for c, p in planned.items() if not p["why"]} == {"logins", "age", "plan"}
    assert planned["plan"]["levels"] == ["", "basic", "pro"] and planned["customer_id"]["why"] and planned["shop"]["why"]


def test_a_category_with_too_many_levels_says_what_to_do():
    t = customers(n=400).assign(street=lambda t: [f"Street {i % 200}" for i in range(len(t))])
    contract = propose(t, "tiny", "y", max_levels=10_000)
    X = pd.DataFrame(inputs(t, contract))
    with pytest.raises(ProjectError, match="`street` has 200 in 400 training rows, and `features.max_levels` allows 100"): features.refuse_wide(contract, X, 100)


def test_personal_levels_are_not_written_down():
    t = customers().assign(address=lambda t: np.where(t.age > 40, "a", "b"))
    contract, X, y = made(t, address="feature")
    told = {p["column"]: p for p in features.tell(plan(contract, X, 50), X, y, "binary", 10)}
    assert contract.column("address").personal and told["address"]["levels"] is None and told["address"]["made"] == 2


def test_information_is_a_share():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2000)
    noise = [features.information(features.codes(rng.normal(size=2000), 10), y) for _ in range(20)]
    assert np.mean(noise) < 0.004 and features.information(y, y) > 0.99


# train

def boards(task, tmp_path, candidates=("dummy", "linear", "boosted")):
    contract, X, y = made(customers(3, 250, task))
    recipe, metric, k = make_recipe(plan(contract, X, 50)), metrics.main_metric(task), len(contract.classes or []) or None
    data = fold_data(recipe, X, y, make_folds(y, task, 3, 0)[0])
    ranked = train.rank(train.run_trials(data, task, k, metric, list(candidates), 2, seed=0), metric)
    write_file(train.leaderboard(ranked, metric), tmp_path/"board.json")
    write_file(train.winner_metrics(ranked, task, fold_ratio(data), len(X)), tmp_path/"metrics.json")
    return contract, X, y, ranked, train.fit_winner(recipe, X, y, task, ranked, 0)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_leaderboard_is_the_same_bytes_twice(task, tmp_path):
    found = []
    for i in range(2):
        pipeline = boards(task, tmp_path)[-1]
        save_model(pipeline, tmp_path/"pipeline.skops")
        found.append([hashlib.sha256((tmp_path/f).read_bytes()).hexdigest() for f in ("board.json", "metrics.json", "pipeline.skops")])
    assert found[0] == found[1]
    board = json.loads((tmp_path/"board.json").read_text())
    assert [b["rank"] for b in board] == list(range(1, 6)) and set(board[0]) == {"rank", "candidate", "settings", "metric", "mean", "std", "folds"}
    assert board[-1]["candidate"] == "dummy" and board[0]["mean"] == pytest.approx(np.mean(board[0]["folds"]))


def test_of_equals_the_first_tried_wins():
    results = pd.DataFrame({"rmse": [1., 1.]})
    metric = metrics.main_metric("regression")
    done = [{"candidate": c, "settings": {}, "results": r} for c, r in [("a", results + 1), ("b", results), ("c", results), ("d", results*np.nan)]]
    assert [t["candidate"] for t in train.rank(done, metric)] == ["b", "c", "a", "d"]


def test_a_class_without_training_rows_is_an_error():
    contract, X, y = made(customers(task="multiclass"))
    with pytest.raises(ProjectError, match="No training row has the class 'low'"): train.check_classes(y[y != contract.classes.index("low")], contract)


def test_models_are_the_same_bytes_in_another_process(tmp_path):
    code = f"""
import numpy as np, pandas as pd, sys
from {PACKAGE}.contract import inputs, propose
from {PACKAGE}.recipe import make_pipeline, make_recipe, plan, save_model
t = pd.DataFrame({{"a": np.arange(60.), "b": list("xyz")*20, "y": ["no", "yes"]*30}})
c = propose(t, "t", "y"); X = pd.DataFrame(inputs(t, c))
save_model(make_pipeline(make_recipe(plan(c, X, 9)), "boosted", "binary", {{"max_iter": 3}}).fit(X, np.arange(60) % 2), sys.argv[1])"""
    for i in "12": subprocess.run([sys.executable, "-c", code, str(tmp_path/i)], env=os.environ | {"PYTHONHASHSEED": i}, cwd=ROOT, check=True, timeout=120)
    assert (tmp_path/"1").read_bytes() == (tmp_path/"2").read_bytes()


# evaluate

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_final_pipelines_come_back_from_skops_with_trusted_types_only(task, candidate, tmp_path):
    import skops.io
    contract, X, y = made(customers(4, 200, task))
    k = len(contract.classes or []) or None
    pipeline = make_pipeline(make_recipe(plan(contract, X, 50)), candidate, task, {"max_iter": 10} if candidate == "boosted" else {}).fit(X, y)
    final, done = evaluate.calibrate(pipeline, X, y, task)
    assert (final is pipeline) == (task == "regression")
    save_model(final, tmp_path/"final.skops")
    assert set(skops.io.get_untrusted_types(file=tmp_path/"final.skops")) <= set(TRUSTED)
    assert np.array_equal(predict(load_model(tmp_path/"final.skops"), X, k), predict(final, X, k))


def test_a_model_of_unknown_types_is_refused(tmp_path):
    from fractions import Fraction
    from sklearn.preprocessing import FunctionTransformer
    save_model(FunctionTransformer(Fraction), tmp_path/"odd.skops")
    with pytest.raises(ProjectError, match="fractions.Fraction"): load_model(tmp_path/"odd.skops")


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 60); s = np.clip(rng.normal(0.4 + 0.2*y, 0.2), 0, 1).round(1)
    costs = dict(zip(["true_positive", "false_positive", "true_negative", "false_negative"], rng.normal(0, 10, 4).tolist()))
    def at(t): return (s >= t).astype(int)
    cheapest, fairest = evaluate.choose_threshold(y, s, costs)["threshold"], evaluate.choose_threshold(y, s)["threshold"]
    everywhere = np.linspace(-0.01, 1.02, 200)
    assert metrics.cost(y, at(cheapest), costs) <= min(metrics.cost(y, at(t), costs) for t in everywhere if 0 <= t <= 1) + 1e-9
    assert sk.f1_score(y, at(fairest)) >= max(sk.f1_score(y, at(t), zero_division=0) for t in everywhere) - 1e-9
    assert not np.isin([cheapest, fairest], s[(s > 0) & (s < 1)]).any()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_evaluate_judges_every_task(task, tmp_path):
    contract, X, y, ranked, pipeline = boards(task, tmp_path)
    other = customers(5, 250, task)
    Xt, yt, k = pd.DataFrame(inputs(other, contract)), labels(other, contract), len(contract.classes or []) or None
    final, _ = evaluate.calibrate(pipeline, Xt, yt, task)
    p, metric = predict(final, Xt, k), metrics.main_metric(task)
    cut = evaluate.settle_threshold(yt, p, task)
    assert (cut["threshold"] is not None) == (task == "binary")
    found = evaluate.final_metrics(yt, p, task, cut["threshold"], None, resamples=100, seed=0)
    base = metrics.score(yt, metrics.constant(yt, len(yt), k), task)[metric.name]
    gate = evaluate.judge_gate(found, metric, base)
    assert gate["verdict"] == "pass" and set(gate["requirements"][0]) == {"name", "required", "found", "low", "high", "passed"}
    assert evaluate.judge_gate(found, metric, base, minimum=0.9999 if metric.higher else 0.001)["verdict"] == "fail"
    assert evaluate.calibration(yt, p)["rows"].sum() == 250
    assert evaluate.mistakes(yt, p, contract, cut["threshold"]).to_numpy().sum() > 0
    slices = evaluate.judge_slices(evaluate.slice_rows(other, contract, 20), yt, p, task, metric, cut["threshold"])
    assert {"logins", "age", "plan"} == set(slices["column"]) and len(slices) > 8


def test_a_constant_model_fails_the_gate():
    y = np.tile([0, 1], 100)
    found = metrics.intervals(y, metrics.constant(y, 200, 2), "binary", resamples=100)
    assert evaluate.judge_gate(found, metrics.main_metric("binary"), 0.5)["verdict"] == "fail"


# parameters

@pytest.mark.parametrize("stage", [assess, features, train, evaluate], ids=lambda m: m.__name__.split(".")[-1])
def test_parameters_are_checked(stage):
    name = stage.__name__.split(".")[-1]
    values = load_params(ROOT)[name]
    check_section(stage.Params, values, name)
    first = next(iter(values))
    with pytest.raises(ProjectError, match="did you mean"): check_section(stage.Params, values | {first + "z": 1}, name)
    with pytest.raises(ProjectError, match=f"`{name}.{first}`"): check_section(stage.Params, values | {first: {}}, name)


# honest comparisons

@pytest.mark.parametrize("task,metric", [("regression", "mae"), ("binary", "f1")])
def test_the_constant_to_beat_is_the_best_one_by_the_metric(task, metric):
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"x": rng.normal(size=400), "y": np.exp(rng.normal(0, 2, 400)) if task == "regression" else np.where(rng.random(400) < 0.3, "yes", "no")})
    contract, X, y = made(t)
    k = 2 if task == "binary" else None
    best, plain = (metrics.score(y, metrics.constant(y, 400, k, m), task)[metric] for m in (metric, ""))
    assert metrics.better(best, plain, metrics.main_metric(task, metric))
    results, ratio, _ = assess.try_ways(X, y, contract, 5, seed=0, metric=metric)
    assert results["constant"][metric].mean() == pytest.approx(best, rel=0.1)
    assert assess.decide_go(results, metrics.main_metric(task, metric), ratio, 0, 0.95)["verdict"] == "no-go"  # noise
    trial = train.run_trials([{"learn": X.to_numpy(), "judge": X.to_numpy(), "y_learn": y, "y_judge": y}], task, k, metrics.main_metric(task, metric), ["dummy"], 1, 0)[0]
    if task == "regression": assert trial["settings"] == {"strategy": "median"} and trial["results"][metric][0] == pytest.approx(best)


def test_resamples_without_a_rare_class_do_not_widen_the_interval_upwards():
    y = np.array([0]*40 + [1]*40 + [2]); d = np.where(y == 2, 1, y)
    p = np.eye(3)[d]*0.9 + 0.1/3
    for name in ("balanced_accuracy", "f1_macro"):  # the rare class is never found: 2 of 3 at best, whatever is drawn
        assert metrics.intervals(y, p, "multiclass", names=[name])[name]["high"] <= 2/3 + 1e-9


def test_rows_without_an_entity_stand_alone():
    t = customers().assign(who=[None if i % 5 == 0 else f"w{i//3}" for i in range(300)])
    groups = ties(t, made(t, who="group")[0])["groups"]
    assert len(np.unique(groups[::5])) == 60 and groups[1] == groups[2]
    assert np.isfinite(metrics.intervals(np.tile([0, 1], 150), np.full((300, 2), 0.5), "binary", groups=groups, resamples=100)["log_loss"]["low"])


@pytest.mark.parametrize("dated", [True, False])
def test_folds_know_a_fixed_label_delay(dated):
    from mlcycle import prepare
    n = 1200
    t = customers(n=n).assign(day=pd.date_range("2024-01-01", periods=n) if dated else np.arange(n)*1.)
    contract, values = propose(t, "t", "y", roles={"day": "time"}), load_params(ROOT)["prepare"] | {"label_delay": 40.}
    p = prepare.Params(**values)
    rows = prepare.split_rows(prepare.clean(t, contract, "error")[0], contract, p)[0]["train"]
    parts, rule = make_folds(labels(rows, contract), "binary", 3, 0, **ties(rows, contract))
    day = (rows.day - pd.Timestamp("2024-01-01")).dt.days if dated else rows.day
    assert rule == "forward in time" and all(day[b].min() - day[a].max() >= 40 for a, b in parts)


def test_a_column_of_mostly_zeros_still_tells():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.05, rng.gamma(2, 5, 2000), 0.)
    assert features.information(features.codes(x, 10), (x > 0).astype(int)) > 0.9


def test_the_gate_says_when_a_class_has_too_few_test_rows():
    y = np.array([0]*300 + [1]*3); p = np.column_stack([1 - y*0.8 - 0.1, y*0.8 + 0.1])
    gate = evaluate.judge_gate(metrics.intervals(y, p, "binary", resamples=100), metrics.main_metric("binary"), 0.5, rarest=3)
    assert "3 test rows" in gate["reasons"][-1]
