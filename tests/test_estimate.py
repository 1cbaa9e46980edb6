"Performance without labels: the interval holds what is measured later, covariate shift is followed, and what cannot be seen is said"
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from mlcycle.contract import Column, Contract
from mlcycle.core import ProjectError, check_section
from mlcycle.estimate import (MOST, PerformanceSettings, amount_outcomes, class_outcomes, estimate, expect_metrics, fit_restating, known_windows, learn_errors, learn_estimate, restate)
from mlcycle.metrics import METRICS, decide, score

SETTINGS = PerformanceSettings(least=50, resamples=200, level=0.95, slices=5, outside=0.1, seed=0)
YES = Contract(name="t", task="binary", positive="yes", classes=["no", "yes"], columns=[
    Column(name="x", type="number", nullable=True), Column(name="plan", type="category"), Column(name="left", type="category", role="target")])
THREE = Contract(name="t", task="multiclass", classes=["a", "b", "c"], columns=[Column(name="x", type="number"), Column(name="kind", type="category", role="target")])
MUCH = Contract(name="t", task="regression", columns=[Column(name="x", type="number", nullable=True), Column(name="plan", type="category"), Column(name="spent", type="number", role="target")])
QUICK = SETTINGS.model_copy(update={"resamples": 100})
OFFER = {"true_positive": -30., "false_positive": 10., "true_negative": 0., "false_negative": 0.}


def two(s): return np.column_stack([1 - s, s])


def toss(rng, p): return (rng.random(len(p))[:, None] > np.cumsum(p[:, :-1], axis=1)).sum(1)


def pick(task, *names): return [m for m in METRICS[task] if m.name in names]


def columns(rng, n, move=0.): return {"x": rng.normal(move, 1, n), "plan": rng.choice(np.array(["basic", "pro"], dtype=object), n)}


def amounts(rng, n, move=0.):
    "Errors that grow with x and are twice as large for one plan"
    X = columns(rng, n, move)
    value = 100 + 10*X["x"]
    return X, value, value + rng.normal(size=n)*np.exp(0.4*X["x"])*np.where(X["plan"] == "pro", 2, 1)


TIMES = pytest.mark.parametrize("times", [20, pytest.param(400, marks=pytest.mark.chains)])


def least(rate, times): return rate - 3*np.sqrt(rate*(1 - rate)/times)


def held(hoped, came): return {m: hoped[m]["low"] <= came[m] <= hoped[m]["high"] for m in hoped}


# ---- the interval keeps its word ----

@TIMES
def test_where_the_score_is_the_probability_the_interval_holds_the_metric_at_the_stated_rate(times):
    rng, found = np.random.default_rng(0), []
    ask = pick("binary", "roc_auc", "brier", "f1")
    for i in range(times): # every time a bundle of its own, which learned from 2,000 validation rows
        p, then = two(rng.beta(1, 4, 400)), two(rng.beta(1, 4, 2000))
        learned = learn_estimate({}, toss(rng, then), then, YES)
        hoped = expect_metrics(class_outcomes(p, learned), p, decide(p, 0.3), ask, 100, i, 0.95)
        found.append(held(hoped, score(toss(rng, p), p, "binary", 0.3)))
    rate = pd.DataFrame(found).mean()
    print(rate.to_dict())
    assert (rate > least(0.95, times)).all() and rate.mean() < 0.99 # neither too narrow, nor so wide that it says nothing


@TIMES
def test_a_narrower_promise_is_kept_as_well(times):
    rng, found = np.random.default_rng(1), []
    for i in range(times):
        p, then = two(rng.beta(2, 3, 300)), two(rng.beta(2, 3, 1000))
        learned = learn_estimate({}, toss(rng, then), then, YES)
        hoped = expect_metrics(class_outcomes(p, learned), p, decide(p, 0.5), pick("binary", "accuracy", "log_loss"), 100, i, 0.6)
        found.append(held(hoped, score(toss(rng, p), p, "binary", 0.5)))
    assert (np.abs(pd.DataFrame(found).mean() - 0.6) < 3*np.sqrt(0.6*0.4/times)).all()


@TIMES
def test_doubt_about_the_scores_is_part_of_the_interval(times):
    rng, found, without = np.random.default_rng(2), [], []
    for i in range(times): # overconfident scores, learned from few rows: the doubt is larger than the noise of the window
        true, then = two(rng.beta(1, 4, 1500)), two(rng.beta(1, 4, 200))
        p, known = restate(true, [1.6, 0.4]), restate(then, [1.6, 0.4])
        learned = learn_estimate({}, toss(rng, then), known, YES)
        came = score(toss(rng, true), p, "binary", 0.3)
        for out, how in ((found, learned), (without, learned | {"covariance": np.zeros((2, 2))})):
            out.append(held(expect_metrics(class_outcomes(p, how), p, decide(p, 0.3), pick("binary", "brier", "precision"), 100, i, 0.95), came))
    assert pd.DataFrame(found).mean().min() > least(0.95, times) and pd.DataFrame(without).mean().max() < 0.85


@TIMES
def test_three_classes_and_amounts_keep_it_too(times):
    rng, classes, errors = np.random.default_rng(3), [], []
    for i in range(times):
        p, then = rng.dirichlet([1, 2, 3], 300), rng.dirichlet([1, 2, 3], 1500)
        hoped = expect_metrics(class_outcomes(p, learn_estimate({}, toss(rng, then), then, THREE)), p, decide(p), pick("multiclass", "balanced_accuracy", "log_loss"), 100, i, 0.95)
        classes.append(held(hoped, score(toss(rng, p), p, "multiclass")))
        (X, value, y), (X0, value0, y0) = amounts(rng, 300), amounts(rng, 1200)
        hoped = expect_metrics(amount_outcomes(X, value, learn_errors(X0, y0, value0, MUCH)), value, value, pick("regression", "rmse", "mae"), 100, i, 0.95)
        errors.append(held(hoped, score(y, value, "regression")))
    print(pd.DataFrame(classes).mean().to_dict(), pd.DataFrame(errors).mean().to_dict())
    assert pd.DataFrame(classes).mean().min() > least(0.95, times) and pd.DataFrame(errors).mean().min() > least(0.95, times)


# ---- the value is right ----

def test_the_estimate_is_the_expected_confusion_matrix_and_ranking():
    p = two(np.random.default_rng(4).beta(1, 4, 500).round(2))
    plain = {"by": [1., 0.], "covariance": np.zeros((2, 2)), "scatter": 0.}
    hoped = expect_metrics(class_outcomes(p, plain), p, decide(p, 0.3), pick("binary", "roc_auc", "average_precision", "f1", "accuracy"), 100, 0, 0.95)
    y, twice, weight = np.repeat([0, 1], 500), np.tile(p[:, 1], 2), np.append(p[:, 0], p[:, 1])
    assert np.isclose(hoped["roc_auc"]["value"], roc_auc_score(y, twice, sample_weight=weight), atol=1e-9)
    assert np.isclose(hoped["average_precision"]["value"], average_precision_score(y, twice, sample_weight=weight), atol=1e-9)
    assert np.isclose(hoped["f1"]["value"], f1_score(y, twice >= 0.3, sample_weight=weight), atol=1e-9)
    assert np.isclose(hoped["accuracy"]["value"], np.where(p[:, 1] >= 0.3, p[:, 1], p[:, 0]).mean(), atol=1e-9)


def bundle(contract, rng, n=3000):
    "A profile as `package` makes it, of a model whose scores are true"
    if contract is MUCH:
        X, value, y = amounts(rng, n)
        return {"metrics": {"rmse": {}}, "columns": spans(X), "target": {"edges": [0., 100, 200], "counts": [500, 500]}, "estimate": learn_estimate(X, y, value[:, None], MUCH)}
    X = columns(rng, n)
    p = chance(X)
    return {"metrics": {"roc_auc": {}}, "columns": spans(X), "target": {"classes": {"no": 700, "yes": 300}}, "estimate": learn_estimate(X, toss(rng, p), p, YES)}


def chance(X): return two(1/(1 + np.exp(1.5 - 1.5*X["x"])))


def spans(X): return {"x": {"type": "number", "edges": [X["x"].min() - 1, 0., X["x"].max() + 1], "counts": [1, 1]}, "plan": {"type": "category", "categories": {"basic": 1, "pro": 1}}}


def window(rng, n, move=0., period="p1", fog=0.):
    "Rows whose scores are true; of a share `fog` the label has nothing to do with them"
    X = columns(rng, n, move)
    p = chance(X)
    so = np.where(rng.random(n) < fog, rng.random(n) < 0.3, toss(rng, p) == 1)
    return pd.DataFrame({**X, "_score": p[:, 1], "_target": np.where(so, "yes", "no"), "_period": period, "_group": [f"{period}{i}" for i in range(n)]})


def test_covariate_shift_is_followed_while_the_test_performance_stays():
    rng = np.random.default_rng(5)
    profile, goal, ours, naive, inside = bundle(YES, rng), {"costs": OFFER, "capacity": None}, [], [], []
    for move in (0., -0.5, -1., 0.5, 1.):
        rows = window(rng, 2000, move)
        found, came = estimate(rows.assign(_target=None), YES, profile, 0.25, goal, QUICK), score((rows._target == "yes").astype(int).to_numpy(), two(rows._score.to_numpy()), "binary", 0.25)
        assert found["metric"] == found["all"]["roc_auc"]
        inside += held(found["all"], came).values()
        earned = (rows._score >= 0.25).where(rows._target == "yes", 0).mean()*30 - ((rows._score >= 0.25) & (rows._target == "no")).mean()*10
        assert found["worth"]["low"] - 0.2 < earned < found["worth"]["high"] + 0.2
        ours.append(abs(found["all"]["f1"]["value"] - came["f1"])); naive.append(came["f1"])
    assert np.mean(inside) > 0.85
    assert np.mean(ours) < 0.2*np.mean(np.abs(np.array(naive) - naive[0])[1:]) # the naive guess: as in the first
    much, off = bundle(MUCH, rng, 4000), []
    for move in (0., 0.7, 1.2):
        X, value, y = amounts(rng, 3000, move)
        found = estimate(pd.DataFrame({**X, "_value": value}), MUCH, much, None, None, QUICK)
        off.append((found["metric"]["value"], score(y, value, "regression")["rmse"]))
    assert off[1][1] > 1.3*off[0][1] and abs(off[1][0]/off[1][1] - 1) < 0.15 and off[2][0] > 1.2*off[0][0]


# ---- what it cannot see ----

def test_concept_drift_is_not_seen_and_that_is_said_until_labels_have_come():
    rng = np.random.default_rng(6)
    profile, foggy = bundle(YES, rng), [window(rng, 1500, period=p, fog=0.6) for p in ("p1", "p2", "p3")]
    came = score((foggy[2]._target == "yes").astype(int).to_numpy(), two(foggy[2]._score.to_numpy()), "binary")["roc_auc"]
    blind = estimate(foggy[2], YES, profile, None, None, SETTINGS)
    assert blind["metric"]["low"] > came and "blind to concept drift" in blind["why"][-1] and blind["trusted"]
    late = pd.concat([foggy[0], foggy[1].assign(_target=None)])
    seen = estimate(foggy[2], YES, profile, None, None, SETTINGS, late)
    assert seen["metric"]["low"] < came < seen["metric"]["high"] and abs(seen["metric"]["value"] - came) < 0.04 and "after p1" in seen["why"][-1] and "otherwise" in seen["why"][-2]
    same = estimate(foggy[2], YES, profile, None, None, SETTINGS, window(rng, 1500, period="p1"))
    assert "as it did" in same["why"][-2] and same["metric"]["high"] - same["metric"]["low"] <= 1.05*(blind["metric"]["high"] - blind["metric"]["low"])


def test_larger_errors_of_late_are_followed():
    rng = np.random.default_rng(7)
    profile, (X, value, y) = bundle(MUCH, rng), amounts(rng, 1200)
    recent = pd.DataFrame({**X, "_value": value, "_target": value + 3*(y - value), "_period": "p1", "_group": [str(i) for i in range(1200)]})
    alone, followed = (estimate(recent.assign(_period="p2"), MUCH, profile, None, None, SETTINGS, r)["metric"] for r in (None, recent))
    true = score(recent._target.to_numpy(), value, "regression")["rmse"]
    assert alone["high"] < true and followed["low"] < true < followed["high"]


def test_the_bins_of_the_test_rows_are_the_first_news():
    rng = np.random.default_rng(15)
    p, bins = chance(columns(rng, 3000)), pd.DataFrame({"predicted": [0.1, 0.3, 0.6], "rows": [700, 700, 700]})
    alone, same, other = (learn_estimate({}, toss(np.random.default_rng(0), p), p, YES, None, b) for b in (None, bins.assign(observed=bins.predicted), bins.assign(observed=bins.predicted/2)))
    assert np.array(same["covariance"])[0, 0] < np.array(alone["covariance"])[0, 0] and same["moved"] == 0
    assert restate(two(np.array([0.3])), other["by"])[0, 1] == pytest.approx(0.15, abs=0.03) # the newer count


def test_the_first_labels_of_a_window_are_not_taken_for_all():
    rows = window(np.random.default_rng(8), 1000)
    assert known_windows(rows.assign(_target=rows._target.where(rows._target == "yes")), YES) == [] and len(known_windows(rows, YES)[0]) == 1000


def test_each_reason_not_to_trust_it_is_said():
    rng = np.random.default_rng(9)
    profile, rows = bundle(YES, rng), window(rng, 400)
    say = lambda rows, profile=profile: estimate(rows, YES, profile, None, None, SETTINGS)
    assert say(rows)["trusted"] and len(say(rows)["why"]) == 1
    assert "fewer than `monitor.performance.least`" in say(rows.head(20))["why"][0] and not say(rows.head(20))["trusted"]
    assert "`plan`" in say(rows.assign(plan="gold"))["why"][0] and "100 %" in say(rows.assign(plan="gold"))["why"][0]
    old = say(rows, {k: v for k, v in profile.items() if k != "estimate"}) # a bundle from before still has an estimate
    assert abs(old["metric"]["value"] - say(rows)["metric"]["value"]) < 0.02 and not old["trusted"] and "dvc repro package" in old["why"][0]
    p = chance(columns(rng, 2000))
    odd = learn_estimate({}, (np.abs(p[:, 1] - 0.5) < 0.2).astype(int), p, YES) # no stretching mends that
    assert "off by" in say(rows, profile | {"estimate": odd})["why"][0]
    assert MUCH.task == "regression" and estimate(pd.DataFrame({"x": [1.], "plan": ["pro"], "_value": [1.]}), MUCH, {"metrics": {"rmse": {}}}, None, None, SETTINGS)["metric"]["value"] is None


def test_a_restless_world_makes_intervals_wider():
    rng, n = np.random.default_rng(10), 4000
    X = columns(rng, n)
    p, mood = chance(X), np.repeat(rng.normal(0, 0.6, 10), n//10) # months that no input tells apart
    calm, restless = learn_estimate(X, toss(rng, p), p, YES), learn_estimate(X, toss(rng, two(1/(1 + np.exp(-np.log(p[:, 1]/p[:, 0]) - mood)))), p, YES)
    assert calm["scatter"] == 0 and 0.2 < restless["scatter"] < 1.2
    _, value, y = amounts(rng, n)
    assert learn_errors(X, value + (y - value)*np.repeat(np.exp(rng.normal(0, 0.5, 10)), n//10), value, MUCH)["scatter"] > 0.1


# ---- odd input ----

@pytest.mark.parametrize("rows", [0, 1, 2])
def test_no_row_and_one_row(rows):
    rng = np.random.default_rng(11)
    for contract, table in ((YES, window(rng, 2)), (MUCH, pd.DataFrame({"x": [1., np.nan], "plan": ["pro", None], "_value": [3., 4.]}))):
        found = estimate(table.head(rows), contract, bundle(contract, rng), None, {"costs": None, "capacity": None}, SETTINGS)
        assert not found["trusted"] and json.dumps(found, allow_nan=False) and (rows or found["metric"]["value"] is None)


def test_rows_without_an_answer_are_left_out_and_perfect_scores_do_no_harm():
    rng = np.random.default_rng(12)
    profile, rows = bundle(YES, rng), window(rng, 300)
    assert estimate(pd.concat([rows, rows.head(5).assign(_score=np.nan)]), YES, profile, None, None, SETTINGS) == estimate(rows, YES, profile, None, None, SETTINGS)
    sure = np.repeat([0, 1], 500)
    by, cov = fit_restating(sure, np.eye(2)[sure])
    assert np.isfinite(by).all() and np.isfinite(cov).all()
    one = learn_estimate({}, np.zeros(300, int), two(np.full(300, 0.1)), YES) # no positive case among the validation rows
    assert np.isfinite(one["by"]).all() and json.dumps(one, allow_nan=False)


def test_a_column_that_is_not_logged_is_taken_for_missing():
    rng = np.random.default_rng(16)
    profile, (X, value, _) = bundle(MUCH, rng), amounts(rng, 300)
    assert any(n.get("column") == "plan" for n in profile["estimate"]["nodes"])
    bare = MUCH.model_copy(update={"columns": [c for c in MUCH.columns if c.name != "plan"]})
    assert estimate(pd.DataFrame({"x": X["x"], "_value": value}), bare, profile, None, None, QUICK)["metric"]["value"] > 0


def test_the_profile_holds_no_row_of_anybody_and_is_plain():
    rng = np.random.default_rng(13)
    X, value, y = amounts(rng, 3000)
    learned = learn_estimate(X, y, value[:, None], MUCH)
    assert json.loads(json.dumps(learned)) == learned and len(learned["kinds"]) <= 16
    errors = np.round(y - value, 6)
    assert not {round(e, 6) for k in learned["kinds"] for e in k["errors"]} & {*errors}
    secret = MUCH.model_copy(update={"columns": [c.model_copy(update={"personal": True}) if c.name == "plan" else c for c in MUCH.columns]})
    assert "plan" not in json.dumps(learn_estimate(X, y, value[:, None], secret))


def test_the_same_seed_gives_the_same_and_many_rows_are_thinned():
    rng = np.random.default_rng(14)
    profile, rows = bundle(YES, rng), window(rng, 3*MOST)
    one = estimate(rows, YES, profile, 0.3, None, QUICK)
    few = lambda seed: estimate(rows.head(300), YES, profile, 0.3, None, QUICK.model_copy(update={"seed": seed}))
    assert few(0) == few(0) != few(1)
    came = score((rows._target == "yes").astype(int).to_numpy(), two(rows._score.to_numpy()), "binary", 0.3)
    assert one["metric"]["low"] < came["roc_auc"] < one["metric"]["high"]


def test_parameters_say_what_is_allowed():
    good = SETTINGS.model_dump()
    for key, value, words in (("least", 5, "greater than or equal to 10"), ("resamples", 10, "100"), ("level", 95., "less than 1"), ("slices", -1, "0"), ("outside", 2., "less than or equal to 1"), ("sed", 1, "did you mean `seed`")):
        with pytest.raises(ProjectError, match=words): check_section(PerformanceSettings, good | {key: value}, "monitor.performance")
