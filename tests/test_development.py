"""Assess, features, train, evaluate and the ground they stand on, on tables of a few hundred rows."""
import os, subprocess, sys

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from conftest import EXAMPLE, PACKAGE, ROOT

from mlcycle import assess, evaluate, features, metrics, train
from mlcycle import gate as gates
from mlcycle.contract import inputs, labels
from mlcycle.propose import propose
from mlcycle.core import ProjectError, check_section
from mlcycle.folds import cross_predict, fold_data, make_folds, score_folds, ties
from mlcycle.models import TRUSTED, constant_settings, load_model, make_pipeline, predict, save_model
from mlcycle.recipe import make_recipe, plan
from mlcycle.ways import Aim, try_ways, weigh

CANDIDATES = ["dummy", "rule", "tree", "linear", "boosted"]


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


ALWAYS = evaluate.Params(**EXAMPLE["evaluate"] | {"calibrate": "sigmoid"})
OFFER = {"true_positive": -30., "false_positive": 10., "true_negative": 0., "false_negative": 0.}


def goal_of(**changes):
    return {"metric": None, "minimum": None, "aim": None, "guardrails": {}, "costs": None, "capacity": None, "today": None, "explainable": False} | changes


def judged(found, metric, base, goal, candidate="boosted", rarest=None, undecided=()):
    charter = {"decision": None, "decides": None, "owner": None, "without_ml": None, "undecided": list(undecided)} | {k: goal[k] for k in ("minimum", "aim", "guardrails", "costs", "capacity")}
    asked = gates.ask_charter(found, metric, goal) + gates.ask_better(found, metric, base) + gates.ask_winner({"candidate": candidate}, goal)
    return gates.judge_gate(asked, charter, gates.remarks(found, metric, goal, rarest))


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
        if k == 2: asked |= {"roc_auc": sk.roc_auc_score(y, p[:, 1]), "average_precision": sk.average_precision_score(y, p[:, 1]), "brier": sk.brier_score_loss(y, p[:, 1]),
            "precision": sk.precision_score(y, d), "recall": sk.recall_score(y, d)}
        else: asked["roc_auc_ovr"] = sk.roc_auc_score(y, p, multi_class="ovr")
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
    size = np.abs(y - p)
    assert found == pytest.approx({"rmse": sk.root_mean_squared_error(y, p), "mae": sk.mean_absolute_error(y, p), "r2": sk.r2_score(y, p), "median_absolute_error": sk.median_absolute_error(y, p),
        "mape": sk.mean_absolute_percentage_error(y, p), "smape": (2*size/(np.abs(y) + np.abs(p))).mean(), "wape": size.sum()/np.abs(y).sum()})


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
    for c in CANDIDATES: assert np.isfinite(score_folds(data, cross_predict(c, "binary", data, 2), "binary")["roc_auc"]).all()


# features

def test_each_column_that_is_left_out_says_why():
    contract, X, y = made(customers().assign(note=lambda t: [f"text number {i} of many" for i in range(len(t))], empty=np.nan))
    planned = {p["column"]: p for p in plan(contract, X, 50)}
    assert {c for c, p in planned.items() if not p["why"]} == {"logins", "age", "plan"}
    assert planned["plan"]["levels"] == ["", "basic", "pro"] and planned["customer_id"]["why"] and planned["shop"]["why"]


def test_personal_levels_are_not_written_down():
    t = customers().assign(address=lambda t: np.where(t.age > 40, "a", "b"))
    contract, X, y = made(t, address="feature")
    contract = contract.model_copy(update={"columns": [c.model_copy(update={"personal": c.name == "address"}) for c in contract.columns]})
    told = {p["column"]: p for p in features.tell(plan(contract, X, 50), X, y, "binary", 10)}
    assert told["address"]["levels"] is None and told["address"]["made"] == 2


def test_information_is_a_share():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2000)
    noise = [features.information(features.codes(rng.normal(size=2000), 10), y) for _ in range(20)]
    assert np.mean(noise) < 0.004 and features.information(y, y) > 0.99


# models

def test_models_are_the_same_bytes_in_another_process(tmp_path):
    code = f"""
import numpy as np, pandas as pd, sys
from {PACKAGE}.contract import inputs
from {PACKAGE}.propose import propose
from {PACKAGE}.models import make_pipeline, save_model
from {PACKAGE}.recipe import make_recipe, plan
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
    final, done = evaluate.calibrate(pipeline, X, y, contract, metrics.main_metric(task), ALWAYS)
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
def test_the_threshold_without_costs_has_the_highest_f1(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 60); s = np.clip(rng.normal(0.4 + 0.2*y, 0.2), 0, 1).round(1)
    fairest = gates.cut_by_metric(y, s)[0]
    assert sk.f1_score(y, (s >= fairest).astype(int)) >= max(sk.f1_score(y, (s >= t).astype(int), zero_division=0) for t in np.linspace(-0.01, 1.02, 200)) - 1e-9
    assert fairest not in s[(s > 0) & (s < 1)]


@pytest.mark.parametrize("capacity", [None, 0.3, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_at_costs_decides_as_acting_does(seed, capacity):
    rng = np.random.default_rng(seed)
    s = rng.beta(2, 3, 200)
    costs = dict(true_positive=-rng.uniform(1, 30), false_positive=rng.uniform(1, 10), true_negative=0., false_negative=rng.uniform(0, 10))
    at, rule = gates.cut_by_costs(s, costs, capacity)
    assert ((s >= at) == metrics.act(s, costs, capacity)).all() and at not in s
    assert ("raised" in rule) == (metrics.act(s, costs).sum() > metrics.act(s, costs, capacity).sum())


def test_the_threshold_fits_the_capacity_even_with_ties():
    s, costs = np.array([0.9]*5 + [0.8]*5 + [0.1]*10), dict(true_positive=-10., false_positive=1., true_negative=0., false_negative=0.)
    assert [int((s >= gates.cut_by_costs(s, costs, c)[0]).sum()) for c in (None, 0.5, 0.4, 0.25, 0.2)] == [20, 10, 5, 5, 0]


def test_a_threshold_at_costs_that_nobody_reaches_calls_nobody_and_one_below_all_calls_everybody():
    s = np.array([0.2, 0.3]); costs = dict(true_positive=-10., false_positive=10., true_negative=0., false_negative=0.)
    assert gates.cut_by_costs(s, costs)[0] == 0.5                         # where acting pays, not where these two rows happen to end
    assert gates.cut_by_costs(s, costs | {"false_positive": 0.5})[0] < 0.2
    assert "never pays" in gates.cut_by_costs(s, costs | {"true_positive": 1.})[1]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_evaluate_judges_every_task(task):
    contract, X, y = made(customers(3, 250, task))
    pipeline = make_pipeline(make_recipe(plan(contract, X, 50)), "linear", task).fit(X, y)
    other = customers(5, 250, task)
    Xt, yt, k = pd.DataFrame(inputs(other, contract)), labels(other, contract), len(contract.classes or []) or None
    final, _ = evaluate.calibrate(pipeline, Xt, yt, contract, metrics.main_metric(task), ALWAYS)
    p, metric = predict(final, Xt, k), metrics.main_metric(task)
    goal = goal_of(costs={"binary": OFFER, "multiclass": {"right": 0., "wrong": 5.}, "regression": {"over": 1., "under": 3.}}[task], today={"binary": {"column": "logins", "at_most": 1}, "regression": {"column": "age"}}.get(task))
    cut = gates.settle_threshold(yt, p, task, goal)
    assert (cut["threshold"] is not None) == (task == "binary")
    others = gates.other_ways(other, yt, task, goal)
    assert set(others) == {"nothing"} | ({"everybody"} if task == "binary" else set()) | ({"today"} if task != "multiclass" else set())
    found = evaluate.final_metrics(yt, p, task, cut["threshold"], goal, others, resamples=100, seed=0)
    base = metrics.score(yt, metrics.constant(yt, len(yt), k), task)[metric.name]
    gate = judged(found, metric, base, goal)
    assert gate["verdict"] == "pass" and set(gate["requirements"][0]) == {"name", "rule", "required", "found", "low", "high", "passed", "short"}
    assert len(gate["requirements"]) == 1 + len(others) and all(found["worth"][w]["gain"]["low"] > 0 for w in others)
    assert judged(found, metric, base, goal_of(minimum=0.9999 if metric.higher else 0.001))["verdict"] == "fail"
    assert len(gates.say_worth(found["worth"], "EUR")) == 1 + len(others)
    assert evaluate.calibration(yt, p)["rows"].sum() == 250
    assert evaluate.mistakes(yt, p, contract, cut["threshold"]).to_numpy().sum() > 0
    slices = evaluate.judge_slices(evaluate.slice_rows(other, contract, 20), yt, p, task, metric, cut["threshold"])
    assert {"logins", "plan"} == set(slices["column"]) and len(slices) > 5 and contract.column("age").sensitive


def test_a_constant_model_fails_the_gate():
    y = np.tile([0, 1], 100)
    found = metrics.intervals(y, metrics.constant(y, 200, 2), "binary", resamples=100)
    assert judged(found, metrics.main_metric("binary"), 0.5, goal_of())["verdict"] == "fail"


@pytest.mark.parametrize("wish, metric, passed", [
    (dict(guardrails={"brier": 0.2}), "brier", True), (dict(guardrails={"brier": 0.01}), "brier", False), (dict(guardrails={"f1": 0.999}), "f1", False)])
def test_guardrails_hold_in_their_own_direction(wish, metric, passed):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400); s = np.clip(0.2 + 0.6*y + rng.normal(0, 0.15, 400), 0.01, 0.99)
    found = metrics.intervals(y, np.column_stack([1 - s, s]), "binary", 0.5, resamples=100)
    gate = judged(found, metrics.main_metric("binary"), 0.5, goal_of(**wish))
    line = next(r for r in gate["requirements"] if r["name"].startswith(metric))
    assert line["passed"] is passed and (gate["verdict"] == "pass") is passed


@pytest.mark.parametrize("candidate, passed", [("dummy", True), ("rule", True), ("tree", True), ("linear", True), ("boosted", False)])
def test_an_explainable_model_is_one_that_a_person_can_follow(candidate, passed):
    found = {"roc_auc": {"value": .8, "low": .75, "high": .85}}
    gate = judged(found, metrics.main_metric("binary"), 0.5, goal_of(explainable=True), candidate)
    line = gate["requirements"][-1]
    assert (line["name"], line["required"], line["found"], line["passed"]) == ("explainable", "dummy, rule, tree, linear", candidate, passed)
    assert (gate["verdict"] == "pass") is passed and (passed or any(candidate in r for r in gate["reasons"]))


def test_a_model_must_earn_more_than_what_is_done_today():
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"x": rng.normal(size=2000)})
    y = (t.x + rng.normal(0, 0.3, 2000) > 1).to_numpy().astype(int)
    weak = np.clip(0.3 + 0.2*t.x.to_numpy() + rng.normal(0, 0.3, 2000), 0.01, 0.99)
    goal = goal_of(costs=OFFER, capacity=0.5, today={"column": "x", "at_least": 1})
    others = gates.other_ways(t, y, "binary", goal)
    assert set(others) == {"nothing", "today"}                                # not everybody can be acted on
    found = evaluate.final_metrics(y, np.column_stack([1 - weak, weak]), "binary", 0.4, goal, others, resamples=200, seed=0)
    gate = judged(found, metrics.main_metric("binary"), 0.5, goal)
    assert found["worth"]["nothing"]["gain"]["low"] > 0 > found["worth"]["today"]["gain"]["high"] and gate["verdict"] == "fail"
    assert any("today's way" in r and "failed" in r for r in gate["reasons"])


def test_no_more_are_acted_on_than_can_be():
    p = np.column_stack([np.zeros(100), np.linspace(0, 1, 100)])
    assert metrics.decide_within(p, "binary", 0.5, 0.2).sum() == 20 and metrics.decide_within(p, "binary", 0.95, 0.2).sum() == 5
    found = evaluate.final_metrics(np.tile([0, 1], 50), p, "binary", 0.5, goal_of(costs=OFFER, capacity=0.2), {"nothing": np.zeros(100, int)}, resamples=100)
    assert found["worth"]["acted"] == 0.2 and found["worth"]["called"] == 0.5
    assert "calls 50 % of the test rows, and 20 % can be acted on" in gates.remarks(found, metrics.main_metric("binary"), goal_of(capacity=0.2, minimum=0.5))[0]
    worth = gates.value_case(np.ones(100, int), metrics.decide_within(p, "binary", 0.5, 0.2), {"nothing": np.zeros(100, int)}, "binary", OFFER, resamples=100)
    assert worth["acted"] == 0.2 and worth["model"] == -6 and worth["nothing"]["gain"]["value"] == 6


def test_where_today_has_no_forecast_nothing_is_done():
    t = pd.DataFrame({"forecast": [10., np.nan, 30.]})
    goal = goal_of(costs={"over": 1., "under": 1.}, today={"column": "forecast"})
    assert gates.other_ways(t, np.array([1., 2., 3.]), "regression", goal)["today"].tolist() == [10, 2, 30]


def test_the_gate_hands_on_what_the_charter_leaves_open():
    found = {"roc_auc": {"value": .8, "low": .75, "high": .85}}
    gate = judged(found, metrics.main_metric("binary"), 0.5, goal_of(aim=0.9), undecided=["owner", "aim"])
    assert gate["verdict"] == "pass" and gate["open"] == ["owner", "aim"] and "leaves open: owner, aim" in gate["reasons"][-1]
    assert any("aims at roc_auc 0.9: not reached" in r for r in gate["reasons"]) and gate["charter"]["minimum"] is None


# parameters

@pytest.mark.parametrize("stage", [assess, features, train, evaluate], ids=lambda m: m.__name__.split(".")[-1])
def test_parameters_are_checked(stage):
    name = stage.__name__.split(".")[-1]
    values = EXAMPLE[name]
    check_section(stage.Params, values, name)
    first = next(iter(values))
    with pytest.raises(ProjectError, match="did you mean"): check_section(stage.Params, values | {first + "z": 1}, name)
    with pytest.raises(ProjectError, match=f"`{name}.{first}`"): check_section(stage.Params, values | {first: {}}, name)


def test_a_model_that_has_to_explain_itself_is_simple():
    assert train.allowed(["dummy", "linear", "boosted"], None, True) == ["dummy", "rule", "tree", "linear"] # the simple ways always compete
    with pytest.raises(ProjectError, match="`frame.constraints.explainable` leaves that out"): train.allowed(["boosted"], None, True)


# honest comparisons

@pytest.mark.parametrize("task,metric", [("regression", "mae"), ("binary", "f1")])
def test_the_constant_to_beat_is_the_best_one_by_the_metric(task, metric):
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"x": rng.normal(size=400), "y": np.exp(rng.normal(0, 2, 400)) if task == "regression" else np.where(rng.random(400) < 0.3, "yes", "no")})
    contract, X, y = made(t)
    k = 2 if task == "binary" else None
    best, plain = (metrics.score(y, metrics.constant(y, 400, k, m), task)[metric] for m in (metric, ""))
    assert metrics.better(best, plain, metrics.main_metric(task, metric))
    tried = try_ways(X, y, contract, 5, metric=metric)
    assert score_folds(tried["data"], tried["guessed"]["constant"], task)[metric].mean() == pytest.approx(best, rel=0.1)
    assert weigh(tried, Aim(metrics.main_metric(task, metric)))["sure"] == []  # noise
    whole = [{"learn": X.to_numpy(), "judge": X.to_numpy(), "y_learn": y, "y_judge": y}]
    result = score_folds(whole, cross_predict("dummy", task, whole, k, constant_settings(metric)), task)
    if task == "regression": assert result[metric][0] == pytest.approx(best)


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
    contract, values = propose(t, "t", "y", roles={"day": "time"}), EXAMPLE["prepare"] | {"label_delay": 40.}
    p = prepare.Params(**values)
    rows = prepare.split_rows(prepare.clean(t, contract, p)[0], contract, p)[0]["train"]
    parts, rule = make_folds(labels(rows, contract), "binary", 3, 0, **ties(rows, contract))
    day = (rows.day - pd.Timestamp("2024-01-01")).dt.days if dated else rows.day
    assert rule == "forward in time" and all(day[b].min() - day[a].max() >= 40 for a, b in parts)


def test_a_column_of_mostly_zeros_still_tells():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.05, rng.gamma(2, 5, 2000), 0.)
    assert features.information(features.codes(x, 10), (x > 0).astype(int)) > 0.9


def test_the_gate_says_when_a_class_has_too_few_test_rows():
    y = np.array([0]*300 + [1]*3); p = np.column_stack([1 - y*0.8 - 0.1, y*0.8 + 0.1])
    gate = judged(metrics.intervals(y, p, "binary", resamples=100), metrics.main_metric("binary"), 0.5, goal_of(), rarest=3)
    assert "3 test rows" in gate["reasons"][-1]
