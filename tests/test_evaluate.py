"""Evaluation beyond the basics: what is asked once, thresholds, calibration, baselines, the champion, the gate."""
import json, shutil

import numpy as np
import pandas as pd
import pytest
import yaml
import sklearn.metrics as sk
from sklearn.calibration import CalibratedClassifierCV

from conftest import EXAMPLE, EXAMPLE_ONLY, PACKAGE, House, clone, needs
from mlcycle import champion, evaluate, gate, judge, metrics
from mlcycle.bundle import FILES, Meta, seal
from mlcycle.contract import Column, Contract, inputs, labels
from mlcycle.core import ProjectError, check_section, write_file
from mlcycle.models import make_pipeline, predict
from mlcycle.propose import propose
from mlcycle.recipe import make_recipe, plan
from mlcycle.robust import overfit, tell_shift

VALUES = EXAMPLE["evaluate"]
OFFER = {"true_positive": -30., "false_positive": 10., "true_negative": 0., "false_negative": 0.}
GOAL = {"metric": None, "minimum": None, "aim": None, "guardrails": {}, "costs": None, "capacity": None, "today": None, "explainable": False}


def table(task="binary", n=500, seed=0):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"logins": rng.poisson(5, n).astype(float), "age": rng.normal(40, 9, n), "plan": rng.choice(["basic", "pro", None], n)})
    signal = t.logins - 5 + 2*(t.plan == "pro") + rng.normal(0, 1, n)
    return t.assign(y={"binary": np.where(signal > 0.5, "yes", "no"), "multiclass": np.select([signal < -1, signal < 1], ["low", "mid"], "high"), "regression": 100 + 10*signal}[task])


def learned(task, candidate="linear", **settings):
    t = table(task)
    contract = propose(t, "tiny", "y")
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    return contract, make_pipeline(make_recipe(plan(contract, X, 50)), candidate, task, settings).fit(X, y)


def scores(n=400, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n); s = np.clip(rng.normal(0.4 + 0.2*y, 0.2), 0.01, 0.99).round(2)  # ties
    return y, np.column_stack([1 - s, s])


# asked once

@pytest.mark.parametrize("capacity", [0.05, 0.1, 0.37, 1.])
def test_the_few_that_can_be_acted_on_are_judged_as_by_hand_in_every_resample(capacity):
    y, p = scores(200)
    found = judge.at_capacity(y, p, capacity, resamples=100, seed=3)
    drawn = np.concatenate(list(metrics.resample(200, 100, 3))).astype(int)
    order = np.argsort(-p[:, 1], kind="stable")
    def by_hand(times):
        listed = np.repeat(y[order], times[order])[:int(capacity*times.sum() + 1e-9)]
        return listed.mean(), listed.sum()/(y*times).sum()
    for i, name in enumerate(("precision_at_capacity", "recall_at_capacity")):
        assert found[name]["value"] == pytest.approx(by_hand(np.ones(200, int))[i])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(np.quantile([by_hand(t)[i] for t in drawn], [0.025, 0.975]))


def test_a_band_is_judged_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    y, low = rng.normal(size=300), rng.normal(-1, 0.2, 300); high = low + rng.uniform(1, 3, 300)
    found = judge.judge_band(y, low, high, 0.8, resamples=100)
    assert found["pinball"]["value"] == pytest.approx((sk.mean_pinball_loss(y, low, alpha=0.1) + sk.mean_pinball_loss(y, high, alpha=0.9))/2)
    assert found["interval_coverage"]["value"] == np.mean((y >= low) & (y <= high)) and found["interval_width"]["value"] == pytest.approx(np.mean(high - low))


@pytest.mark.parametrize("k", [2, 4])
def test_the_calibration_error_is_that_of_the_bins(k):
    rng = np.random.default_rng(k)
    p = rng.dirichlet(np.ones(k), 600).round(2); p /= p.sum(1, keepdims=True)
    y = np.array([rng.choice(k, p=v) for v in p])
    bins = evaluate.calibration(y, p)
    found = judge.calibration_error(y, p, resamples=200)
    assert found["ece"]["value"] == pytest.approx(np.average((bins.predicted - bins.observed).abs(), weights=bins.rows))
    assert found["ece"]["low"] <= found["ece"]["value"] <= found["ece"]["high"] and found["ece"]["value"] < 2.5*found["ece_by_chance"]
    sure = p**8/(p**8).sum(1, keepdims=True)
    assert judge.calibration_error(y, sure, resamples=100)["ece"]["low"] > found["ece"]["high"]


def test_true_probabilities_give_what_chance_gives_and_the_interval_holds_it():
    held, rng = 0, np.random.default_rng(0)
    for seed in range(40):
        s = rng.random(400); y = (rng.random(400) < s).astype(int)
        v = judge.calibration_error(y, np.column_stack([1 - s, s]), resamples=100, seed=seed)
        held += v["ece"]["low"] <= v["ece_by_chance"] <= v["ece"]["high"]
    assert held >= 34


def test_equal_scores_share_a_bin(): assert judge.bin_of(np.array([.5]*90 + [.1, .2]), 10).tolist() == [2]*90 + [0, 1]


@pytest.mark.parametrize("task, name", [("binary", "roc_auc"), ("binary", "log_loss"), ("binary", "f1"), ("multiclass", "roc_auc_ovr"), ("regression", "mae"), ("regression", "median_absolute_error")])
def test_the_difference_of_two_models_is_that_of_each_resample(task, name):
    rng = np.random.default_rng(0)
    k = {"binary": 2, "multiclass": 3}.get(task)
    y = rng.integers(0, k, 120) if k else rng.normal(size=120)
    p, q = ((rng.dirichlet(np.ones(k), 120), rng.dirichlet(np.ones(k), 120)) if k else (y + rng.normal(size=120), y + rng.normal(0, 2, 120)))
    metric, cut = metrics.main_metric(task, name), 0.4 if k == 2 else None
    found = judge.difference(y, p, q, task, metric, cut, None, resamples=100, seed=1)
    turn = 1 if metric.higher else -1
    assert found["value"] == pytest.approx(turn*(metrics.score(y, p, task, cut)[name] - metrics.score(y, q, task)[name]))
    pieces = [np.repeat(np.arange(120), t.astype(int)) for t in np.concatenate(list(metrics.resample(120, 100, 1)))]
    drawn = [turn*(metrics.score(y[i], p[i], task, cut)[name] - metrics.score(y[i], q[i], task)[name]) for i in pieces]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


# thresholds

@pytest.mark.parametrize("name, judged", [("f1", lambda y, d: sk.f1_score(y, d, zero_division=0)), ("accuracy", sk.accuracy_score), ("balanced_accuracy", sk.balanced_accuracy_score)])
@pytest.mark.parametrize("seed", range(2))
def test_without_costs_the_threshold_is_best_by_the_charters_metric(name, judged, seed):
    y, p = scores(80, seed)
    at = gate.settle_threshold(y, p, "binary", GOAL | {"metric": name})["threshold"]
    assert judged(y, (p[:, 1] >= at).astype(int)) >= max(judged(y, (p[:, 1] >= t).astype(int)) for t in np.linspace(-0.01, 1.02, 100)) - 1e-9


@pytest.mark.parametrize("goal", [dict(costs=OFFER), dict(costs=OFFER, capacity=0.2), dict(metric="balanced_accuracy"), dict()], ids=["costs", "capacity", "balanced", "f1"])
def test_the_curve_says_what_each_threshold_is_worth(goal):
    y, p = scores()
    goal = GOAL | goal
    curve = gate.value_curve(y, p, "binary", goal, points=20, resamples=100, seed=1)
    for c in curve.itertuples():
        d = metrics.decide_within(p, "binary", c.threshold, goal["capacity"])
        by_hand = -metrics.cost(y, d, "binary", OFFER) if goal["costs"] else sk.balanced_accuracy_score(y, d) if goal["metric"] else sk.f1_score(y, d, zero_division=0)
        assert c.value == pytest.approx(by_hand, abs=1e-9) and c.acted == d.mean() and c.low <= c.high
    assert curve.equals(gate.value_curve(y, p, "binary", goal, points=20, resamples=100, seed=1))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_task_without_a_threshold_has_an_empty_curve_with_its_columns(task):
    curve = gate.value_curve(np.zeros(5), np.zeros(5), task, GOAL)
    assert list(curve) == ["threshold", "acted", "value", "low", "high"] and not len(curve) and gate.plot_value(curve, None, GOAL) is None


# calibration

def told(task, candidate, settings={}, n=400, seed=7, **changes):
    contract, pipeline = learned(task, candidate, **settings)
    t = table(task, n, seed)
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    p = evaluate.Params(**VALUES | changes)
    return pipeline, *evaluate.calibrate(pipeline, X, y, contract, metrics.main_metric(task), p), X, y


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibration_is_used_where_it_helps_and_left_out_where_not(task):
    pipeline, final, words, X, y = told(task, "boosted", dict(max_iter=40, learning_rate=0.3))
    assert isinstance(final, CalibratedClassifierCV) and "before" in words and "cross-fitted" in words
    k = len(pipeline.classes_)
    fresh = table(task, 1000, seed=8)
    contract = propose(table(task), "tiny", "y")
    X, y = pd.DataFrame(inputs(fresh, contract)), labels(fresh, contract)
    assert sk.log_loss(y, predict(final, X, k)) < sk.log_loss(y, predict(pipeline, X, k))
    pipeline, final, words, *_ = told(task, "dummy", n=500, seed=0)  # the shares of these very rows
    assert final is pipeline and "does not help" in words


def test_calibration_does_what_the_parameter_says():
    assert isinstance(told("binary", "dummy", calibrate="sigmoid")[1], CalibratedClassifierCV)
    pipeline, final, words, *_ = told("binary", "boosted", dict(max_iter=40), calibrate="none")
    assert final is pipeline and "`evaluate.calibrate` is none" in words
    pipeline, final, words, *_ = told("multiclass", "linear", n=30)
    assert final is pipeline and "`evaluate.calibrate_rows` asks for 20" in words
    pipeline, final, words, *_ = told("regression", "linear")
    assert final is pipeline and "as they are predicted" in words


@pytest.mark.parametrize("change, message", [(dict(calibrate="isotonic"), "`evaluate.calibrate`"), (dict(baseline_rows=5), "`evaluate.baseline_rows`"), (dict(worst=0), "`evaluate.worst`"),
    (dict(explained=0), "`evaluate.explained`"), (dict(asked_rows=1), "`evaluate.asked_rows`"), (dict(champion={"version": "v1"}), "`evaluate.champion.digest` is missing"),
    (dict(champion={"version": "v1", "digest": "v1"}), "64 hexadecimal digits"), (dict(champion={"version": "", "digest": "0f"*32}), "`evaluate.champion.version`"),
    (dict(champion={"version": "v1", "digest": "0f"*32, "name": "x"}), "did you mean|Allowed: version, digest")])
def test_parameters_are_checked(change, message):
    with pytest.raises(ProjectError, match=message): check_section(evaluate.Params, VALUES | change, "evaluate")


# beside simple ways

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_simple_ways_learn_again_and_are_judged_on_the_same_rows(task):
    contract, pipeline = learned(task)
    known, rows = table(task, 300, 1), table(task, 300, 2)
    X, y, k, metric = pd.DataFrame(inputs(rows, contract)), labels(rows, contract), len(contract.classes or []) or None, metrics.main_metric(task)
    goal = GOAL | {"today": {"binary": {"column": "logins", "at_least": 5}, "regression": {"column": "age"}}.get(task)}
    ways = evaluate.answer_simply(evaluate.learn_baselines(table(task), contract), known, rows, contract, goal)
    p = predict(pipeline, X, k)
    found = evaluate.beside(y, p, ways, task, metric, None, resamples=100)
    assert list(found) == (["today"] if goal["today"] else []) + ["rule", "tree", "linear", "boosted"]
    assert found["linear"]["gain"]["value"] == pytest.approx(0, abs=1e-9) and found["rule"]["gain"]["low"] > 0
    assert all(r["passed"] for r in gate.ask_better({metric.name: dict.fromkeys(("value", "low", "high"), 1e9 if metric.higher else -1e9)}, metric, 0., evaluate.simpler_than("linear", found)))
    worse = evaluate.beside(y, metrics.constant(y, len(y), k), ways, task, metric, None, resamples=100)
    asked = gate.ask_better({metric.name: dict.fromkeys(("value", "low", "high"), 0.5)}, metric, 0., evaluate.simpler_than("boosted", worse))
    failed = [r for r in asked if not r["passed"] and "linear" in r["name"]]
    assert failed and failed[0]["short"] > 0 and "lie below 0" in failed[0]["rule"]
    shown = evaluate.beside_table({"value": 0.7}, 0.5, found, {"rule": {"value": 0.6}}, 0.65)
    assert shown.loc["rule", "folds of training rows"] == "0.6" and shown.loc["final model"].tolist() == ["0.7", "", "", "", "0.65"] and len(shown) == 2 + len(found)


def test_a_rule_need_not_beat_what_takes_more_effort_but_a_blend_must_hold_beside_all():
    found = {way: {"test": 0.5, "gain": {}} for way in ("today", "rule", "tree", "linear", "boosted")}
    asked = {c: len(evaluate.simpler_than(c, found)) for c in ("dummy", "rule", "tree", "linear", "boosted", "forest", "blend")}
    assert asked == {"dummy": 5, "rule": 2, "tree": 3, "linear": 4, "boosted": 5, "forest": 5, "blend": 5}


# the gate

def test_a_gap_between_groups_must_stay_below_the_limit_with_its_upper_end():
    line = {"column": "age_band", "measure": "error_difference", "value": 0.05, "low": 0.01, "high": 0.09}
    gaps = pd.DataFrame([line, line | {"column": "age_band × sex", "value": np.nan, "low": np.nan, "high": np.nan}])
    assert [r["passed"] for r in gate.ask_fair(gaps, {"error_difference": 0.1})] == [True]                 # a pair with too few rows is left out
    failed, = gate.ask_fair(gaps, {"error_difference": 0.06})
    assert failed["short"] == pytest.approx(0.03) and "upper end" in failed["rule"]
    unmeasured, = gate.ask_fair(gaps[1:], {"error_difference": 0.1})
    assert not unmeasured["passed"] and unmeasured["found"] == "not measured" and "`frame.sensitive`" in unmeasured["rule"]


def test_guardrails_may_name_what_is_asked_once_and_say_what_it_takes_to_measure():
    found = {"roc_auc": {"value": .8, "low": .75, "high": .85}, "ece": {"value": .02, "low": .01, "high": .04}}
    goal = GOAL | {"guardrails": {"ece": 0.03, "recall_at_capacity": 0.3}}
    ece, recall = gate.ask_charter(found, metrics.main_metric("binary"), goal)
    assert not ece["passed"] and ece["short"] == pytest.approx(0.01)
    assert not recall["passed"] and "`frame.capacity`" in recall["rule"] and "train.interval" in gate.ask_charter(found, metrics.main_metric("regression", "rmse"), GOAL | {"guardrails": {"pinball": 1.}})[0]["rule"]


def test_the_gate_tells_what_failed_first_and_by_how_much_and_prints_an_override():
    charter = dict.fromkeys(["decision", "decides", "owner", "without_ml", "minimum", "aim", "costs", "capacity"]) | {"guardrails": {}, "undecided": [], "override": {"of": "both", "by": "A. Person", "day": "2026-03-31", "why": "A pilot."}}
    found = {"roc_auc": {"value": .72, "low": .68, "high": .76}}
    asked = gate.ask_charter(found, metrics.main_metric("binary"), GOAL | {"minimum": 0.7}) + gate.ask_better(found, metrics.main_metric("binary"), 0.5) + gate.ask_winner({"candidate": "forest", "qualified": False, "why": ["20,000 nodes, and `frame.constraints.nodes` allows 5,000"]}, GOAL)
    out = gate.judge_gate(asked[::-1], charter)
    assert out["verdict"] == "fail" and out["override"]["by"] == "A. Person"
    assert out["reasons"][0].startswith("qualified in training: failed; asked qualified, found 20,000 nodes") and out["reasons"][1].startswith("roc_auc of the charter: failed by 0.02; asked 0.7, found 0.72 (0.68 to 0.76)")
    assert out["reasons"][2].startswith("1 of 3 requirements passed") and out["reasons"][-1].startswith("Override: A. Person decided on 2026-03-31")
    assert gate.judge_gate(asked, charter | {"override": charter["override"] | {"of": "assess"}})["override"] is None


def test_what_cannot_be_computed_is_not_reached():
    line, = gate.ask_better({"roc_auc": dict.fromkeys(("value", "low", "high"), np.nan)}, metrics.main_metric("binary"), 0.5)
    assert not line["passed"] and line["short"] is None and "failed; asked 0.5, found nothing that can be computed" in gate.say_line(line)


def test_a_difference_that_cannot_be_computed_is_no_pass():
    "Test rows of one class: nobody can say which of two ranks better"
    y, p = np.zeros(60, int), np.column_stack([np.linspace(1, 0, 60), np.linspace(0, 1, 60)])
    gap = judge.difference(y, p, p[:, ::-1], "binary", metrics.main_metric("binary"), resamples=100)
    lines = gate.ask_better({"roc_auc": {"value": .8, "low": .7, "high": .9}}, metrics.main_metric("binary"), 0.5, {"the linear model": gap})
    assert np.isnan(gap["value"]) and [a["passed"] for a in lines] == [True, False] and "nothing that can be computed" in gate.say_line(lines[1])
    out = gate.judge_gate(lines, dict.fromkeys(["decision", "decides", "owner", "without_ml", "minimum", "aim", "guardrails", "costs", "capacity"]) | {"undecided": []})
    assert out["verdict"] == "fail" and gate.gate_table(out).index[0] == lines[1]["name"] and gate.gate_table(out)["passed"].tolist() == ["no", "yes"]
    nothing = overfit({"value": .8, "low": .7, "high": .9}, dict.fromkeys(("value", "low", "high"), np.nan), metrics.main_metric("binary"))
    assert nothing["verdict"] == "unknown" and "cannot be computed" in nothing["words"]
    assert not any("nan" in line for line in gate.remarks({"roc_auc": nothing["found"]}, metrics.main_metric("binary"), GOAL | {"minimum": .7, "aim": .8}, 0, nothing))


def test_each_sensitive_column_must_be_measured_where_the_charter_sets_a_limit():
    rows = [("sex", .02, .05), ("age", np.nan, np.nan), ("sex × age", np.nan, np.nan)]
    gaps = pd.DataFrame([{"column": c, "measure": "equal_opportunity_difference", "value": v, "low": v, "high": h} for c, v, h in rows])
    limits = {"equal_opportunity_difference": 0.1}
    lines = {a["name"].split(" of ")[1]: a for a in gate.ask_fair(gaps, limits, ["sex", "age", "only one group"])}
    assert {c: a["passed"] for c, a in lines.items()} == {"sex": True, "age": False, "only one group": False} # a pair of few rows is no obstacle
    assert lines["age"]["found"] == "not measured" and "`evaluate.slice_rows`" in lines["age"]["rule"]
    nobody, = gate.ask_fair(gaps[:0], limits, [])
    assert not nobody["passed"] and "`frame.sensitive`" in nobody["rule"]


@pytest.mark.parametrize("task, groups", [("multiclass", lambda y: np.where(y == 2, 0, np.arange(len(y))//10 + 1)), ("binary", lambda y: y), ("binary", lambda y: 2*y + np.arange(len(y)) % 2)], ids=["a class in one group", "two groups", "four groups"])
@pytest.mark.parametrize("asked", ["auto", "sigmoid"])
def test_groups_that_hold_whole_classes_do_not_stop_the_calibration(task, groups, asked):
    contract, pipeline = learned(task)
    t = table(task, 300, 3)
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    p = evaluate.Params(**VALUES | {"calibrate": asked, "calibrate_rows": 5})
    final, done = evaluate.calibrate(pipeline, X, y, contract, metrics.main_metric(task), p, groups(y))
    assert np.isfinite(predict(final, X, len(contract.classes))).all() and isinstance(final, CalibratedClassifierCV) == done.startswith("Calibrated")
    if task == "binary": assert ("too few groups" if asked == "auto" else "cannot say") in done


@pytest.mark.parametrize("name", ["rmse", "mae", "wape", "mape", "smape", "median_absolute_error"])
def test_the_constant_of_amounts_is_the_best_there_is(name):
    y = np.random.default_rng(0).lognormal(0, 1.5, 600) + 0.1
    metric = metrics.main_metric("regression", name)
    reached = lambda v: float(metric.compute(y, np.full(600, v), None, np.ones((1, 600)))[0])
    best = min(reached(v) for v in np.append(np.quantile(y, np.linspace(0, 1, 400)), y.mean()))
    assert reached(metrics.constant(y, 1, None, name)[0]) <= best*1.01


def test_the_constant_by_precision_calls_everybody():
    y = np.repeat([0, 1], [80, 20])
    base = metrics.score(y, metrics.constant(y, 100, 2, "precision"), "binary")["precision"]
    assert base == 0.2 # it was nan, and no model could be better
    assert gate.ask_better({"precision": {"value": .6, "low": .5, "high": .7}}, metrics.main_metric("binary", "precision"), base)[0]["passed"]


@pytest.mark.parametrize("y, lines", [(np.full(50, 5.), 1), (np.repeat([0., 7.], 25), 2), (np.arange(50.), 10)])
def test_mistakes_of_amounts_that_hardly_differ(y, lines):
    contract = Contract(name="t", task="regression", columns=[Column(name="v", type="number", role="target")])
    found = evaluate.mistakes(y, y + 1, contract)
    assert len(found) == lines and found["rows"].sum() == 50 and np.allclose(found["error"], 1)


def test_what_grew_since_is_told_beside_a_promise_that_was_not_kept():
    contract = Contract(name="bike", task="regression", columns=[Column(name="day", type="datetime", role="time"), Column(name="cnt", type="number", role="target")])
    days = pd.DataFrame({"day": pd.date_range("2011-01-01", "2012-05-31")})
    told = tell_shift(days[:343], days[430:], contract, np.full(343, 145.9), np.full(len(days) - 430, 247.5))
    assert told == "The test rows lie 88 to 174 days after the last training row. `cnt` is 145.9 on average in the training rows, 247.5 in the test rows."
    rmse, claimed, found = metrics.main_metric("regression"), {"value": 46., "low": 43., "high": 49.}, {"value": 137., "low": 132., "high": 142.}
    assert overfit(claimed, found, rmse, told)["words"].endswith(told) and told not in overfit(claimed, claimed, rmse, told)["words"]


def test_the_gate_says_what_was_promised_and_not_kept():
    found = {"rmse": {"value": 137., "low": 132., "high": 142.}, "interval_coverage": {"value": .78, "low": .76, "high": .8}, "promised": .9}
    metric, goal = metrics.main_metric("regression"), GOAL | {"minimum": 150.}
    lost = overfit({"value": 46., "low": 43., "high": 49.}, found["rmse"], metric)
    said = gate.remarks(found, metric, goal, promise=lost)
    assert "claimed rmse 46, the test rows give 137" in said[0] and "hold 90 % of the amounts and hold 78 % (76 to 80 %)" in said[1]
    assert gate.remarks(found | {"interval_coverage": {"value": .89, "low": .86, "high": .91}}, metric, goal, promise=overfit(found["rmse"], found["rmse"], metric)) == []


# the champion

def by_hand(folder):
    "A whole bundle around a graph of one column: the more logins, the likelier"
    from onnx import TensorProto, helper, numpy_helper
    nodes = [helper.make_node("Mul", ["x", "tenth"], ["yes"]), helper.make_node("Sub", ["one", "yes"], ["no"]), helper.make_node("Concat", ["no", "yes"], ["scores"], axis=1)]
    value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, n])
    constants = [numpy_helper.from_array(np.array([[v]]), n) for n, v in [("one", 1.), ("tenth", 0.1)]]
    graph = helper.make_model(helper.make_graph(nodes, "by_hand", [value("x", 1)], [value("scores", 2)], constants), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    contract = Contract(name="tiny", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name="logins", type="number"), Column(name="y", type="category", role="target")])
    meta = Meta(version=1, name="tiny", task="binary", classes=["no", "yes"], positive="yes", threshold=0.3, target_scale=1., draft=True, verdict="pass", estimator="by hand", inputs={"logins": "x"}, tolerance=1e-4)
    for name, content in {"model.onnx": graph.SerializeToString(), "contract.json": contract, "bundle.json": meta}.items(): write_file(content, folder/name)
    for name in FILES: (folder/name).exists() or write_file({}, folder/name)
    return seal(folder)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory, home):
    "A project whose tag v1 has a bundle, and the rows that it learned from"
    house = House(tmp_path_factory.mktemp("champion")/"house", home)
    house.root.mkdir()
    house.sh("git", "init", "-q"); house.sh("dvc", "init", "-q"); house.write("empty", ""); house.commit("before"); house.sh("git", "tag", "v0")
    digest = by_hand(house.root/champion.BUNDLE)
    for i, path in enumerate(champion.LEARNED): write_file(pd.DataFrame({"_row": [f"r{i}{j}" for j in range(50)]}), house.root/path)
    house.sh("dvc", "add", "-q", champion.BUNDLE, *champion.LEARNED); house.commit("v1"); house.sh("git", "tag", "v1")
    return house, champion.Champion(version="v1", digest=digest)


def test_a_champion_is_fetched_checked_and_judged(pinned):
    house, which = pinned
    rows = table("binary", 300, 3).assign(_row=[f"r1{j}" for j in range(300)])
    contract = propose(table(), "tiny", "y")
    y, metric = labels(rows, contract), metrics.main_metric("binary")
    knows = np.column_stack([1 - y*0.8 - 0.1, y*0.8 + 0.1])
    found = champion.meet_champion(house.root, which, rows, contract, y, knows, metric, 0.5, 30, resamples=100)
    assert found["left_out"] == 50 and found["rows"] == 250 and found["difference"]["low"] > 0 and "surely better than the champion v1" in found["words"]
    assert found["champion"]["value"] == pytest.approx(sk.roc_auc_score(y[50:], rows.logins[50:])) and found["digest"] == which.digest
    turned = champion.meet_champion(house.root, which, rows, contract, y, knows[:, ::-1], metric, 0.5, 30, resamples=100)
    line = gate.ask_better({"roc_auc": found["model"]}, metric, 0.5, champion.beside_champion(turned))[1]
    assert line["name"] == "roc_auc not surely worse than the champion v1" and not line["passed"]
    few = champion.meet_champion(house.root, which, rows[:60], contract, y[:60], knows[:60], metric, 0.5, 30, resamples=100)
    assert "difference" not in few and not gate.ask_better({"roc_auc": found["model"]}, metric, 0.5, champion.beside_champion(few))[1]["passed"]
    assert champion.meet_champion(house.root, None, rows, contract, y, knows, metric, 0.5, 30) == {} == champion.beside_champion({})


@pytest.mark.parametrize("change, message", [
    (lambda c: c | {"version": "v9"}, "git knows no such revision.*`git fetch --tags`"),
    (lambda c: c | {"version": "v0"}, "that revision has no data/package/bundle.*dvc.lock"),
    (lambda c: c | {"digest": "0f"*32}, "whose bundle has the digest .*Was the tag moved")])
def test_a_champion_that_cannot_be_had_says_why(pinned, change, message):
    house, which = pinned
    shutil.rmtree(house.root/"data/runs/champions", ignore_errors=True)
    with pytest.raises(champion.NoChampion, match=message): champion.fetch_champion(house.root, champion.Champion(**change(which.model_dump())))
    assert not list((house.root/"data/runs/champions").iterdir())      # nothing half-fetched


def test_a_champion_that_is_in_no_cache_or_was_changed_is_not_used(pinned):
    house, which = pinned
    champion.fetch_champion(house.root, which)
    kept = house.root/"data/runs/champions"/which.digest
    (kept/"bundle/gate.json").write_text("better than it was")
    with pytest.raises(champion.NoChampion, match="not whole, and was deleted: run again"): champion.fetch_champion(house.root, which)
    (house.root/".dvc/cache").rename(house.root/".dvc/away")
    with pytest.raises(champion.NoChampion, match="neither in DVC's cache nor in a remote.*`dvc fetch --all-tags"): champion.fetch_champion(house.root, which)
    (house.root/".dvc/away").rename(house.root/".dvc/cache")
    assert champion.fetch_champion(house.root, which)[0].digest == which.digest


@pytest.mark.parametrize("change, words", [
    (dict(task="regression", classes=None, positive=None), "its task is binary, not regression"), (dict(classes=["no", "perhaps", "yes"], task="binary"), "its classes are no, yes, not no, perhaps, yes"),
    (dict(columns=[Column(name="logins", type="category"), Column(name="y", type="category", role="target")]), "`logins` was number and is category"),
    (dict(columns=[Column(name="logins", type="number"), Column(name="z", type="category", role="target")]), "its target is y, not z")])
def test_a_champion_that_answers_another_question_is_refused(change, words):
    own = Contract(name="tiny", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name="logins", type="number"), Column(name="y", type="category", role="target")])
    with pytest.raises(champion.NoChampion, match=words): champion.check_champion(own, own.model_copy(update=change), ["logins", "y"])
    with pytest.raises(champion.NoChampion, match="`logins` is no longer there"): champion.check_champion(own, own, ["y"])


# tables for plots

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_tables_for_plots_have_their_columns_whatever_the_task(task):
    contract, pipeline = learned(task)
    t = table(task, 200, 4)
    y = labels(t, contract)
    p = predict(pipeline, pd.DataFrame(inputs(t, contract)), len(contract.classes or []) or None)
    listed = evaluate.list_mistakes(evaluate.mistakes(y, p, contract), task)
    assert list(listed) == ["case", "true", "called", "rows"] and listed["rows"].sum() == (0 if task == "regression" else 200)
    assert set(evaluate.calibration(y, p)) == {"predicted", "observed", "rows"}


def test_slices_hold_no_personal_column_and_few_rows_are_left_out():
    t = table()
    contract = propose(t, "tiny", "y")
    contract = contract.model_copy(update={"columns": [c.model_copy(update={"personal": c.name == "plan", "sensitive": False}) for c in contract.columns]})
    found = evaluate.slice_rows(t, contract, 40)
    assert {c for c, _, _ in found} == {"logins", "age"} and all(inside.sum() >= 40 for _, _, inside in found)
    contract = contract.model_copy(update={"columns": [c.model_copy(update={"sensitive": c.name == "age"}) for c in contract.columns]})
    assert "age" not in {c for c, *_ in evaluate.slice_rows(t, contract, 40)}   # its groups are judged in `fair`


# the whole stage (slow): every plot is drawn, and the model just made stands beside itself as the champion

DRAWN = {"train/leaderboard", "train/history", "evaluate/calibration", "evaluate/importance", "evaluate/dependence", "evaluate/robustness"}
TASKS = {"binary": (dict(collect__rows=3000), {"evaluate/value", "evaluate/confusion", "evaluate/fairness", "evaluate/stability"}),
    "multiclass": (dict(EXAMPLE_ONLY, frame__target="target", collect__source="sklearn:wine", collect__name="wine", prepare__validation=0.2, prepare__test=0.2, evaluate__slice_rows=30), {"evaluate/confusion"}),
    "regression": (dict(EXAMPLE_ONLY, frame__target="target", collect__source="sklearn:diabetes", collect__name="diabetes"), set())}


@pytest.mark.chains
@needs("package")
@pytest.mark.parametrize("task", TASKS)
def test_every_plot_is_drawn_and_a_champion_is_met(task, tmp_path, home):
    values, more = TASKS[task]
    house = clone(tmp_path/"house", home, train__trials=3, **values)
    def drawn(*words):
        said = json.loads(next(line for line in house.sh("dvc", "plots", *words, "--json").splitlines() if line.startswith("{")))
        return {key.split("data/")[1].removesuffix(".csv") for key in said.get("data", said)}
    house.sh(PACKAGE, "run", "package", timeout=600); house.sh("dvc", "repro", "-q", "explore"); house.commit("first"); house.sh("git", "tag", "v1")
    digest = house.json("data/runs/package.json")["digest"]
    assert DRAWN | more <= drawn("show")
    values = yaml.safe_load(house.text("params.yaml"))
    values["evaluate"] |= {"champion": {"version": "v1", "digest": digest}, "seed": 1}
    house.write("params.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    house.repro("evaluate"); house.commit("second")
    assert DRAWN | more <= drawn("diff", "v1", "HEAD")
    found, board = house.json("data/evaluate/metrics.json"), house.json("data/train/leaderboard.json")
    assert abs(found["champion"]["difference"]) < 1e-4*max(1, abs(found["champion"]["model"])) and found["champion"]["left_out"] == 0
    assert any("the champion v1" in r["name"] and r["passed"] for r in house.json("data/evaluate/gate.json")["requirements"])
    assert found["champion"]["model"] == found[found["metric"]] and found["training"]["claimed"] == pytest.approx(board["claimed"]["value"])
    if task == "regression": assert 0.8 <= found["interval_coverage"] <= 1 and found["promised"] == 0.9
