"Monitoring and retraining: alarms at the rate that is promised, late labels, and a rule that decides as it says"
import numpy as np
import pandas as pd
import pytest

from mlcycle.contract import Column, Contract
from mlcycle.core import ProjectError
from mlcycle.monitor import Params, compare, drop, flag, headline, known, monitor, since, timeline, worse
from mlcycle.retrain import Params as Rule, judge

LEVELS = np.array(["a", "b", "c", "d"], dtype=object)
SETTINGS = Params(false_alarms=0.05, floor=0.1, least=50, resamples=200, seed=0, threads=1)
CONTRACT = Contract(name="t", task="binary", positive="yes", classes=["no", "yes"], columns=[
    Column(name="x", type="number", nullable=True), Column(name="level", type="category"), Column(name="left", type="category", role="target")])
PERIODS = ["2024-07", "2024-08", "2024-09", "2024-10"]


def number(values):
    edges = np.quantile(values, np.linspace(0, 1, 9))
    return {"type": "number", "missing": 0.0, "edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist()}


def category(values): return {"type": "category", "missing": 0.0, "categories": pd.Series(values).value_counts().to_dict()}


def draw(rng, n, columns=10): return {f"c{i}": rng.normal(size=n) if i % 2 else rng.choice(LEVELS, n) for i in range(columns)}


def profiled(table): return {n: number(v) if v.dtype == float else category(v) for n, v in table.items()}


def production(shift=None, missing=None, n=500, delay=2, seed=0):
    "Four months; from the third on, `shift` moves x and the score says nothing any more, `missing` empties x; labels arrive `delay` months later, those of the first month only in part"
    rng, month = np.random.default_rng(seed), np.repeat(PERIODS, n)
    late = month >= PERIODS[2]
    x = rng.normal(size=len(month)) + (shift or 0)*late
    score = 1/(1 + np.exp(-1.5*x))
    left = np.where(rng.random(len(month)) < np.where(late & bool(shift), 0.5, score), "yes", "no")
    place = np.searchsorted(PERIODS, month) + delay
    when = np.array([*PERIODS, None, None, None], dtype=object)[place]
    when[:100] = PERIODS[3] # a hundred of the first month take a month longer
    rows = [f"r{i}" for i in range(len(month))]
    log = pd.DataFrame({"_row": rows, "_period": month, "_score": score, "x": np.where(late & (rng.random(len(month)) < (missing or 0)), np.nan, x), "level": rng.choice(LEVELS, len(month))})
    return log, pd.DataFrame({"_row": rows, "_label_period": when, "left": np.where(pd.isna(when), None, left)})


def reference(seed=9):
    log, _ = production(seed=seed, n=2000)
    return {"version": 1, "rows": len(log), "columns": {"x": number(log.x.to_numpy()), "level": category(log.level)},
        "scores": number(log["_score"].to_numpy()), "metrics": {"roc_auc": {"value": 0.81, "low": 0.79, "high": 0.83}}}


def test_false_alarms_come_at_the_promised_rate():
    rng, alarms, times = np.random.default_rng(0), 0, 300
    for _ in range(times): # the profile is a sample too, and no larger than the period
        then = draw(rng, 600)
        alarms += flag(compare(draw(rng, 600), profiled(then)), 0.05, 0.0).drifted.any()
    assert 0.01 < alarms/times < 0.05 + 3*np.sqrt(0.05*0.95/times)


def test_small_shift_is_significant_but_no_alarm_below_the_floor():
    rng = np.random.default_rng(1)
    then, now = draw(rng, 50_000), draw(rng, 50_000)
    now["c1"] = now["c1"] + 0.1
    table = flag(compare(now, profiled(then)), 0.05, 0.1).set_index("column")
    assert table.q["c1"] < 1e-6 and not table.drifted.any()


def test_large_shift_in_few_rows_is_no_alarm():
    rng = np.random.default_rng(2)
    alarms = [flag(compare(draw(rng, 20), profiled(draw(rng, 5000))), 0.05, 0.1) for _ in range(100)]
    assert np.mean([t.psi.max() > 0.1 for t in alarms]) > 0.9 # a PSI alone would cry wolf
    assert np.mean([t.drifted.any() for t in alarms]) < 0.13


def test_planted_shift_is_found_where_it_begins():
    report = monitor(*production(shift=1.0), CONTRACT, reference(), None, "month", SETTINGS)
    assert since(report, "drifted") == {"x": "2024-09"}
    assert [e["score"]["drifted"] for e in report["periods"]] == [False, False, True, True]


def test_rising_share_of_missing_values_is_named():
    report = monitor(*production(missing=0.3), CONTRACT, reference(), None, "month", SETTINGS)
    assert since(report, "drifted") == {"x": "2024-09"}
    assert "missing 0% → " in report["statement"]


def test_unseen_category_is_named_even_if_rare():
    log, labels = production()
    log.loc[log.index[-3:], "level"] = "new"
    report = monitor(log, labels, CONTRACT, reference(), None, "month", SETTINGS)
    assert report["periods"][-1]["unseen"] == {"level": ["new"]} and "new in level" in report["statement"]
    assert not since(report, "drifted")


def test_late_labels_are_counted_when_they_arrive():
    log, labels = production()
    report = monitor(log, labels, CONTRACT, reference(), None, "month", SETTINGS)
    first, second, third, _ = report["periods"]
    assert first["known"] == {"2024-07": 0, "2024-08": 0, "2024-09": 0.8, "2024-10": 1} and first["known_by"] == "2024-10"
    assert second["known"]["2024-09"] == 0 and second["known_by"] == "2024-10" and second["labelled"] == 500
    assert third["labelled"] == 0 and third["metric"]["value"] is None and third["known_by"] is None
    assert headline(report)["labelled"] == 1000 and timeline(report).labelled.tolist() == [500, 500, 0, 0]


def test_label_that_is_dated_but_missing_never_counts_as_known():
    log, labels = production()
    report = monitor(log, labels.assign(_label_period=PERIODS[3]), CONTRACT, reference(), None, "month", SETTINGS)
    assert report["periods"][2]["labelled"] == 0 and report["periods"][2]["known"]["2024-10"] == 0


def test_no_time_is_said_plainly():
    report = monitor(*production(shift=1.0), CONTRACT, reference(), None, "pseudo-period", SETTINGS)
    assert not report["time"] and "drawn by lot" in report["statement"]
    assert "drift" not in judge(report, Rule(periods=2, tolerance=0, drift=0.0))["verdict"]


def test_empty_log_and_foreign_log_say_what_to_do():
    log, labels = production()
    with pytest.raises(ProjectError, match="empty"): monitor(log.head(0), labels, CONTRACT, reference(), None, "month", SETTINGS)
    with pytest.raises(ProjectError, match="other data"): monitor(log, labels.head(10), CONTRACT, reference(), None, "month", SETTINGS)


def test_one_class_or_few_labels_give_no_metric():
    log, labels = production()
    same = labels.assign(left=labels.left.where(labels.left.isna(), "no"))
    report = monitor(log, same, CONTRACT, reference(), None, "month", SETTINGS)
    assert report["periods"][0]["metric"]["value"] is None
    assert not worse(report) and judge(report, Rule(periods=1, tolerance=0, drift=0.5))["verdict"] == "keep"


def test_multiclass_and_regression():
    rng, n = np.random.default_rng(3), 600
    classes = ["a", "b", "c"]
    contract = Contract(name="t", task="multiclass", classes=classes, columns=[Column(name="x", type="number"), Column(name="kind", type="category", role="target")])
    x, kind = rng.normal(size=n), rng.integers(0, 3, n)
    scores = np.eye(3)[kind]*0.6 + 0.4/3
    log = pd.DataFrame({"_row": [str(i) for i in range(n)], "_period": "p1", "x": x, "_score": scores.max(1)} | {f"_score_{c}": scores[:, i] for i, c in enumerate(classes)})
    labels = pd.DataFrame({"_row": log["_row"], "_label_period": "p1", "kind": np.array(classes)[kind]})
    profile = {"columns": {"x": number(x)}, "scores": {"edges": [0, 0.5, 1], "counts": [0, n]}, "metrics": {"balanced_accuracy": {"value": 0.9, "low": 0.88, "high": 0.92}}}
    report = monitor(log, labels, contract, profile, None, "month", SETTINGS)
    assert report["overall"]["value"] == 1 and np.isclose(report["overall"]["constant"], 1/3) and not worse(report)

    contract = Contract(name="t", task="regression", columns=[Column(name="x", type="number"), Column(name="y", type="number", role="target")])
    log = pd.DataFrame({"_row": log["_row"], "_period": "p1", "x": x, "_value": 3*x})
    labels = pd.DataFrame({"_row": log["_row"], "_label_period": "p1", "y": 3*x + rng.normal(size=n)})
    profile = {"columns": {"x": number(x)}, "scores": number(3*x), "metrics": {"rmse": {"value": 0.8, "low": 0.77, "high": 0.83}}}
    report = monitor(log, labels, contract, profile, None, "month", SETTINGS)
    assert 0.9 < report["overall"]["value"] < 1.1 < report["overall"]["constant"] and worse(report) == ["p1"]


def test_drop_knows_both_directions():
    old, new = dict(value=1.0, low=0.9, high=1.1), dict(value=1.5, low=1.4, high=1.6)
    assert drop(old, new, False)["low"] > 0 > drop(old, new, True)["high"]


@pytest.mark.parametrize("shift, verdict", [(None, "keep"), (1.0, "retrain")])
def test_rule_end_to_end(shift, verdict):
    log, labels = production(shift=shift, delay=0, n=1500)
    report = monitor(log, labels, CONTRACT, reference(), None, "month", SETTINGS)
    decision = judge(report, Rule(periods=4, tolerance=0, drift=0.9))
    assert decision["verdict"] == verdict
    assert decision["rule"] and all(any(ch.isdigit() for ch in r) for r in decision["reasons"])


def test_a_column_that_was_mostly_zero_or_quite_missing_can_drift():
    from mlcycle.package import profile_column
    rng = np.random.default_rng(0)
    spent = np.where(rng.random(2000) < 0.04, rng.gamma(2, 50, 2000), 0.)
    then = {"spent": profile_column(spent, "number", 10), "new": profile_column(np.full(2000, np.nan), "number", 10)}
    assert len(then["spent"]["counts"]) > 1 and sum(then["spent"]["counts"]) == 2000
    found = flag(compare({"spent": np.where(rng.random(500) < 0.5, 40., 0.), "new": rng.normal(size=500)}, then, 2000), 0.05, 0.1)
    assert found.drifted.tolist() == [True, True]
    calm = flag(compare({"spent": rng.permutation(spent)[:500], "new": np.full(500, np.nan)}, then, 2000), 0.05, 0.1)
    assert calm.drifted.tolist() == [False, False]


def test_a_handful_of_positives_gives_no_metric():
    log, labels = production()
    first = labels.index[labels.left == "yes"][:3]
    few = labels.assign(left=labels.left.where(labels.left.isna() | labels.index.isin(first), "no"))
    assert monitor(log, few, CONTRACT, reference(), None, "month", SETTINGS)["periods"][0]["metric"]["value"] is None


def test_small_periods_are_judged_together():
    log, labels = production(n=40)
    report = monitor(log, labels, CONTRACT, reference(), None, "month", SETTINGS)
    assert all(e["metric"]["value"] is None for e in report["periods"]) and report["overall"]["value"] is not None
    decision = judge(report, Rule(periods=2, tolerance=0, drift=1.0))
    assert decision["evidence"]["realised"]["labelled"] == 100 and "all labels are judged together" in decision["reasons"][-1]


def test_f1_is_compared_with_calling_everybody():
    from mlcycle.monitor import best_constant
    assert best_constant(np.array([0, 0, 0, 1]), CONTRACT, "f1") == 0.4
