"Monitoring: late labels, no look into the future, changes named rightly, broken logs told, and false alarms at the rate that is rehearsed"
import json

import numpy as np
import pandas as pd
import pytest

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from conftest import EXAMPLE
from mlcycle.concept import learn_relation
from mlcycle.contract import Column, Contract, coerce, inputs, labels, narrow
from mlcycle.core import ProjectError, check_section, tidy
from mlcycle.drift import profile_column
from mlcycle.example import CHURN_TRUTH, make_churn
from mlcycle.metrics import intervals
from mlcycle.monitor import Params, complete, cut_windows, headline, list_alerts, monitor, rehearse, replay, since, timeline, unit_of, window_of, worse
from mlcycle.package import make_profile
from mlcycle.window import Promise, live_rows, replay_rows, seen_from

LEVELS = np.array(["a", "b", "c", "d"], dtype=object)
CONTRACT = Contract(name="t", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name="x", type="number", nullable=True), Column(name="level", type="category", categories=list(LEVELS)),
    Column(name="month", type="datetime", role="time"), Column(name="left", type="category", role="target", nullable=True)])
PERIODS = ["2024-07", "2024-08", "2024-09", "2024-10"]
ALL = Params(**EXAMPLE["monitor"])
SETTINGS = ALL.model_copy(update={"performance": ALL.performance.model_copy(update={"resamples": 100, "slices": 0}), "rehearsal": ALL.rehearsal.model_copy(update={"times": 2})})


CHURN = [("customer_id", "text", "group"), ("month", "datetime", "time"), ("plan", "category", "feature"), ("price", "number", "feature"), ("discount", "number", "feature"), ("tenure_months", "integer", "feature"),
    ("payment_method", "category", "feature"), ("age_band", "category", "feature"), ("logins", "integer", "feature"), ("hours_watched", "number", "feature"), ("support_contacts", "integer", "feature"),
    ("failed_payments", "integer", "feature"), ("churn_known_on", "datetime", "arrival"), ("churned", "category", "target")]


def files(shift=None, missing=None, n=500, delay=2, seed=0, flip=0.5):
    "Four months; from the third on, `shift` moves x and the score says nothing any more, `missing` empties x; labels arrive `delay` months later, those of the first month only in part"
    rng, month = np.random.default_rng(seed), np.repeat(PERIODS, n)
    late = month >= PERIODS[2]
    x = rng.normal(size=len(month)) + (shift or 0)*late
    score = 1/(1 + np.exp(-1.5*x))
    left = np.where(rng.random(len(month)) < np.where(late & (shift is not None), flip, score), "yes", "no")
    place = np.searchsorted(PERIODS, month) + delay
    when = np.array([*PERIODS, None, None, None], dtype=object)[place]
    when[:n//5] = PERIODS[3] # a fifth of the first month take a month longer
    rows = [f"r{i}" for i in range(len(month))]
    log = pd.DataFrame({"_id": rows, "_row": rows, "_period": month, "_digest": "d1", "_label": np.where(score > 0.5, "yes", "no"), "_score": score,
        "x": np.where(late & (rng.random(len(month)) < (missing or 0)), np.nan, x), "level": rng.choice(LEVELS, len(month))})
    return log, pd.DataFrame({"_row": rows, "_label_period": when, "left": np.where(pd.isna(when), None, left), "month": pd.to_datetime(pd.Series(month))})


def table(*args, **how): return replay_rows(*files(*args, **how), CONTRACT)


@pytest.fixture(scope="module")
def promise():
    log, _ = files(seed=9, n=2000)
    columns = {"x": profile_column(log["x"].to_numpy(), "number", 10), "level": profile_column(log["level"].to_numpy(object), "category", 10)}
    profile = {"version": 1, "rows": len(log), "columns": columns, "scores": profile_column(log["_score"].to_numpy(), "number", 10), "importance": {"x": 0.3, "level": 0.}, "metrics": {"roc_auc": {"value": 0.81, "low": 0.79, "high": 0.83}}}
    return Promise(CONTRACT, profile, "d1", "t")


@pytest.fixture(scope="module")
def shifted(promise):
    rows = table(shift=1.0)
    found = monitor(rows, promise, SETTINGS)
    return rows, complete(found, replay(found, rows, promise, SETTINGS, {"owner": "the owner"}))


@pytest.fixture(scope="module")
def calm(promise): return monitor(table(), promise, SETTINGS)


def test_a_planted_shift_is_found_where_it_begins_and_named(shifted):
    _, report = shifted
    assert since(report, "drifted") == {"x": "2024-09"} and [e["score"]["drifted"] for e in report["periods"]] == [False, False, True, True]
    change, = [c for c in report["changes"] if c["kind"] == "covariate shift"]
    assert change["columns"] == ["x"] and change["since"] == "2024-09" and change["told"] in ("2024-09", "2024-10") and change["windows"] <= 1
    assert "Covariate shift since 2024-09" in report["statement"] and set(list_alerts(report)["owner"]) == {"the owner"}


def test_a_rising_share_of_missing_values_is_named(promise):
    report = complete(monitor(table(missing=0.3), promise, SETTINGS), [])
    assert [(c["kind"], c["columns"], c["since"]) for c in report["changes"]] == [("missing values", ["x"], "2024-09")]
    assert "x is missing in " in report["statement"] and any(q["rule"] == "missing rate" for q in report["periods"][2]["quality"])


def test_an_unseen_category_is_named_even_if_rare(promise):
    rows = table()
    rows.loc[rows.index[-3:], "level"] = "new"
    report = complete(monitor(rows, promise, SETTINGS), [])
    assert report["periods"][-1]["unseen"] == {"level": ["new"]} and [c["kind"] for c in report["changes"]] == ["unseen category"]
    assert "new in level, which no training row had" in report["statement"] and not since(report, "drifted")


def test_late_labels_are_counted_when_they_arrive(calm):
    first, second, third, _ = calm["periods"]
    assert first["known"] == {"2024-07": 0, "2024-08": 0, "2024-09": 0.8, "2024-10": 1} and first["known_by"] == "2024-10"
    assert second["known"]["2024-09"] == 0 and second["known_by"] == "2024-10" and second["labelled"] == 500
    assert third["known"] == {"2024-09": 0, "2024-10": 0}
    assert third["labelled"] == 0 and third["metric"]["value"] is None and third["known_by"] is None and third["relation"] is None
    assert headline(calm)["labelled"] == 1000 and timeline(calm)["labelled"].tolist() == [500, 500, 0, 0]
    assert (first["begins"], first["ends"]) == ("2024-07-01 00:00:00", "2024-07-31 23:59:59") and not first["under_way"]


def test_no_alert_looks_into_the_future(shifted, promise):
    rows, report = shifted
    heard = lambda alerts, until: sorted((a["key"], a["period"], a["since"], a["raised"]) for a in alerts if a["period"] <= until)
    assert heard(report["alerts"], PERIODS[-1])
    for period in PERIODS[2:]:
        then = seen_from(rows, period)
        assert heard(report["alerts"], period) == heard(replay(monitor(then, promise, SETTINGS), then, promise, SETTINGS, {"owner": "the owner"}), period)


def test_labels_are_judged_as_they_come(shifted, promise):
    rows, report = shifted
    late = rows.assign(_label_period=rows["_label_period"].where(rows["_period"] != "2024-09", "2024-10"), _target=rows["_target"].where(rows["_period"] != "2024-09", pd.Series(["no", "yes"]*1000)))
    found = monitor(late, promise, SETTINGS)
    assert worse(found) == ["2024-09"] and worse(report) == []
    told = [a for a in replay(found, late, promise, SETTINGS, None) if a["kind"] == "performance"]
    assert [(a["since"], a["period"]) for a in told] in ([("2024-09", "2024-10")], [])
    assert told or found["periods"][2]["metric"]["value"] > 0.6


def test_no_time_is_said_plainly(promise):
    report = complete(monitor(table(shift=1.0), promise, SETTINGS, unit="pseudo-period"), [])
    assert not report["time"] and "drawn by lot" in report["statement"] and report["changes"] == [] and "Drifted by chance: x in 2024-09." in report["statement"]


@pytest.mark.parametrize("spoil, rule", [(lambda r: pd.concat([r, r.tail(5)]), "duplicate"), (lambda r: r.assign(extra=1), "new column"), (lambda r: r.assign(_digest=["d2"]*9 + ["d1"]*(len(r) - 9)), "bundle"),
    (lambda r: r.assign(_target=r["_target"].mask(r["_target"] == "yes", "maybe")), "label"), (lambda r: r.assign(x=r["x"].astype(object).where(r.index > 3, "many")), "type"),
    (lambda r: r.assign(_at=r["_at"].where(r.index != len(r) - 1, pd.Timestamp("2020-01-01"))), "clock"), (lambda r: r.drop(columns="level"), "not logged")])
def test_a_broken_log_is_told_and_still_looked_at(spoil, rule, promise):
    report = complete(monitor(spoil(table(n=30)), promise, SETTINGS), [])
    assert rule in [q["rule"] for q in report["periods"][-1]["quality"]] and len(report["periods"]) == 4
    json.dumps(tidy(report))


@pytest.mark.parametrize("keep", [lambda r: r.head(1), lambda r: r.assign(_target=None, _known=pd.NaT, _label_period=None), lambda r: r.tail(3), lambda r: r.assign(x=np.nan)])
def test_one_row_no_labels_and_nothing_but_gaps_are_no_error(keep, promise):
    rows = keep(table(n=30))
    found = monitor(rows, promise, SETTINGS)
    report = complete(found, replay(found, rows, promise, SETTINGS, None), rehearse(rows, promise, SETTINGS))
    assert report["statement"] and headline(report)["rows"] == len(rows) and json.dumps(tidy(report))


def test_an_empty_log_a_foreign_one_and_dateless_windows_say_what_to_do(promise):
    with pytest.raises(ProjectError, match="empty"): monitor(table().head(0), promise, SETTINGS)
    with pytest.raises(ProjectError, match="dvc repro monitor"): monitor(table().assign(_digest="e1"), promise, SETTINGS)
    with pytest.raises(ProjectError, match="monitor.window.* no dates"): cut_windows(table().assign(_at=pd.NaT), "week")


def test_one_class_or_few_labels_give_no_metric(promise):
    rows = table(n=150)
    some = rows.index[rows["_target"] == "yes"][:3]
    for same in (rows["_target"].mask(rows["_target"].notna(), "no"), rows["_target"].mask(rows["_target"].eq("yes") & ~rows.index.isin(some), "no")):
        report = monitor(rows.assign(_target=same), promise, SETTINGS)
        assert report["periods"][0]["metric"]["value"] is None and not worse(report)


def test_the_cost_of_acting_counts(promise):
    costs, rows = {"true_positive": -40., "false_positive": 0., "true_negative": 0., "false_negative": 0.}, table(n=60)
    given = promise._replace(threshold=0.5, profile=promise.profile | {"target": {"classes": {"no": 1000, "yes": 1000}}})
    free, paid = (monitor(rows, given, SETTINGS, {"costs": costs, "contact": contact, "capacity": None})["worth"] for contact in (None, 10.))
    known = rows[rows["_target"].notna()]
    assert np.isclose(free["value"] - paid["value"], 10*(known["_score"] >= 0.5).mean())


def test_windows_by_time_and_by_number():
    rows = table(n=50)
    assert cut_windows(rows, "auto") is rows and cut_windows(rows, "quarter")["_period"].unique().tolist() == ["2024-Q3", "2024-Q4"]
    assert cut_windows(rows, 80)["_period"].value_counts().tolist() == [80, 80, 40]
    assert (unit_of("auto", "month"), unit_of(80, "month"), window_of("auto", "pseudo-period"), window_of("auto", "year"), window_of("day", "month")) == ("month", 80, "week", "quarter", "day")


def test_a_running_log_is_looked_at_by_the_same_code(promise):
    rng, n, day = np.random.default_rng(4), 240, pd.date_range("2026-01-01", periods=240, freq="h")
    x = rng.normal(size=n)
    text = lambda times: times.strftime("%Y-%m-%dT%H:%M:%S.%fZ").tolist()
    part = {"_at": text(day), "_id": [f"i{i}" for i in range(n)], "_row": None, "_request": "q", "_digest": "d1", "_role": "champion", "_label": "no", "_score": 1/(1 + np.exp(-1.5*x)), "_truth": ["yes" if v > 0 else "no" for v in x[:200]] + [None]*40,
        "_known": text(day[:200] + pd.Timedelta("1D")) + [None]*40, "x": x, "level": rng.choice(LEVELS, n)}
    report = monitor(live_rows([part], CONTRACT, "day"), promise, SETTINGS, unit="day", now=day[-1] + pd.Timedelta("10min"))
    assert [e["rows"] for e in report["periods"]] == [24]*10 and [e["under_way"] for e in report["periods"]] == [False]*9 + [True] and report["unit"] == "day"
    assert report["periods"][0]["known"]["2026-01-02"] == 1 and report["overall"]["value"] > 0.9 and complete(report, [])["statement"]
    late = monitor(live_rows([part], CONTRACT, 100), promise, SETTINGS, unit=100, now=day[-1] + pd.Timedelta("3D"))
    assert [(e["rows"], e["under_way"]) for e in late["periods"]] == [(100, False), (100, False), (40, True)] and [q["rule"] for q in late["periods"][-1]["quality"]] == ["freshness"]*2


def test_one_window_is_one(promise):
    rows = table(n=100, delay=0).head(80)
    report = complete(monitor(rows, promise, SETTINGS), [])
    assert report["statement"].startswith("1 window, 2024-07, 80 rows, ") and "1 windows" not in report["statement"]


def test_a_window_under_way_is_not_held_against_whole_ones(promise):
    rows = table(n=100)
    part = rows[rows.index < 310]
    assert any(q["rule"] == "volume" for q in monitor(part, promise, SETTINGS)["periods"][-1]["quality"])
    last = monitor(part, promise, SETTINGS, now=pd.Timestamp("2024-10-03"))["periods"][-1]
    assert last["under_way"] and not any(q["rule"] == "volume" for q in last["quality"])


def test_a_wrong_answer_in_the_log_is_found(promise):
    rows = table(n=60).head(120)
    good, bad = (monitor(rows, promise._replace(answer=lambda c, k=k: 1/(1 + np.exp(-k*np.nan_to_num(c["x"])))), SETTINGS)["periods"][0]["quality"] for k in (1.5, 1.6))
    assert good == [] and bad[0]["rule"] == "skew" and bad[0]["severity"] == "critical"
    told, = monitor(rows, promise, SETTINGS, collected=rows[["_row", "x", "level"]].assign(level="a"))["periods"][0]["quality"]
    assert told["rule"] == "skew" and told["column"] == "level"


def test_multiclass_and_regression():
    rng, n = np.random.default_rng(3), 600
    classes = ["a", "b", "c"]
    contract = Contract(name="t", task="multiclass", classes=classes, columns=[Column(name="x", type="number"), Column(name="kind", type="category", role="target")])
    x, kind = rng.normal(size=n), rng.integers(0, 3, n)
    scores = np.eye(3)[kind]*0.6 + 0.4/3 + rng.normal(0, 0.01, (n, 3))
    base = pd.DataFrame({"_id": [str(i) for i in range(n)], "_row": [str(i) for i in range(n)], "_period": "p1", "_digest": "d", "x": x})
    log = base.assign(_label=np.array(classes)[kind], _score=scores.max(1), **{f"_score_{c}": scores[:, i] for i, c in enumerate(classes)})
    labels = pd.DataFrame({"_row": base["_row"], "_label_period": "p1", "kind": np.array(classes)[kind]})
    profile = {"rows": n, "columns": {"x": profile_column(x, "number", 10)}, "scores": profile_column(scores.max(1), "number", 10), "metrics": {"balanced_accuracy": {"value": 0.9, "low": 0.88, "high": 0.92}}}
    report = complete(monitor(replay_rows(log, labels, contract), Promise(contract, profile), SETTINGS), [])
    assert report["overall"]["value"] == 1 and np.isclose(report["overall"]["constant"], 1/3) and not worse(report)

    contract = Contract(name="t", task="regression", columns=[Column(name="x", type="number"), Column(name="y", type="number", role="target")])
    labels = pd.DataFrame({"_row": base["_row"], "_label_period": "p1", "y": 3*x + rng.normal(size=n)})
    profile = {"rows": n, "columns": {"x": profile_column(x, "number", 10)}, "scores": profile_column(3*x, "number", 10), "metrics": {"rmse": {"value": 0.8, "low": 0.77, "high": 0.83}}}
    rows = replay_rows(base.assign(_value=3*x), labels, contract)
    report = complete(monitor(rows, Promise(contract, profile), SETTINGS), [], rehearse(rows, Promise(contract, profile), SETTINGS))
    assert 0.9 < report["overall"]["value"] < 1.1 < report["overall"]["constant"] and worse(report) == ["p1"] and report["rehearsal"]["relation"] is None


def test_the_rehearsal_states_false_alarms_and_delays(promise):
    rows = table(n=300)
    many = SETTINGS.model_copy(update={"rehearsal": SETTINGS.rehearsal.model_copy(update={"times": 25}), "drift": SETTINGS.drift.model_copy(update={"floor": 0.})})
    found = rehearse(rows, promise, many)
    alarms = found["false_alarms"]
    assert (alarms["of"], alarms["allowed"], alarms["raised"]) == (50, 0.05, alarms["significant"]) and alarms["rate"] <= 0.05 + 3*np.sqrt(0.05*0.95/50)
    assert {c["kind"]: c["found_after"] for c in found["planted"] if c["kind"] != "flipped"} == {"shift": 1, "renamed": 1}
    assert rehearse(rows, promise, SETTINGS) == rehearse(rows, promise, SETTINGS)
    assert rehearse(rows.assign(x=rows["x"] + 5*(rows["_period"] > PERIODS[0])), promise, SETTINGS)["false_alarms"]["raised"] <= 1 # what changed over time is dealt to all windows alike
    none = SETTINGS.model_copy(update={"rehearsal": SETTINGS.rehearsal.model_copy(update={"times": 0})})
    assert rehearse(rows, promise, none) is None and rehearse(rows.head(40), promise, SETTINGS) is None


@pytest.fixture(scope="module")
def example():
    "The built-in example, from 2024-06 on, under a model of the months before"
    table = coerce(make_churn(), (contract := Contract(name="churn", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name=n, type=t, role=r, nullable=True) for n, t, r in CHURN])))
    known = table[table["churned"].notna() & (table["churn_known_on"] <= "2024-06-01")]
    train, held, test = (known[known["month"].between(*span)] for span in (("2023-01-01", "2023-09-01"), ("2023-10-01", "2024-01-01"), ("2024-02-01", "2024-03-01")))
    contract, numbers = narrow(contract, train), [n for n, t, r in CHURN if r == "feature" and t in ("number", "integer")]
    X, y = inputs(train, contract), labels(train, contract)
    frame = lambda columns: pd.DataFrame({n: np.nan_to_num(v) if v.dtype != object else v for n, v in columns.items()})
    encode = ColumnTransformer([("n", StandardScaler(), numbers), ("c", OneHotEncoder(handle_unknown="ignore"), ["plan", "payment_method", "age_band"])])
    clip = FunctionTransformer(lambda t: t.assign(logins=np.log1p(t["logins"].clip(0, 99)), hours_watched=np.log1p(t["hours_watched"].clip(0, 99))))
    model = make_pipeline(clip, encode, LogisticRegression(max_iter=200)).fit(frame(X), y)
    answer = lambda columns: model.predict_proba(frame(columns))
    H, told = inputs(held, contract), labels(held, contract)
    profile = make_profile(X, y, answer(H)[:, 1], contract, {"roc_auc": intervals(labels(test, contract), answer(inputs(test, contract)), "binary", resamples=200, names=["roc_auc"])["roc_auc"]}, 10, H, answer(H))
    profile["relation"] = learn_relation(H, told, answer(H), contract, profile, pd.factorize(held["customer_id"])[0])
    rows = table[table["month"] >= "2024-06-01"].reset_index(drop=True)
    named = {"_row": rows.index.astype(str), "_period": rows["month"].dt.strftime("%Y-%m")}
    score = answer(inputs(rows, contract))[:, 1]
    log = rows[[c.name for c in contract.features]].assign(**named, _id=named["_row"], _digest="d", _label=np.where(score > 0.3, "yes", "no"), _score=score)
    judged = replay_rows(log, rows.assign(**named, _label_period=rows["churn_known_on"].dt.strftime("%Y-%m")), contract)
    promise = Promise(contract, profile, "d", "churn", 0.3, tolerance=1e-9, answer=lambda columns: answer(columns)[:, 1])
    found = monitor(judged, promise, SETTINGS, collected=rows.assign(**named))
    return complete(found, replay(found, judged, promise, SETTINGS, None))


@pytest.mark.chains
def test_what_was_planted_in_the_example_is_found_and_named_rightly(example):
    named = {c["kind"]: c for c in example["changes"]}
    for truth, kind, latest, until in [(CHURN_TRUTH[0], "covariate shift", "2024-10", 4), (CHURN_TRUTH[1], "concept drift", "2024-08", 3), (CHURN_TRUTH[2], "unseen category", "2024-09", 1)]:
        change = named[kind]
        assert truth["columns"][0] in change["columns"], (kind, change)
        assert change["since"] <= latest and (change["since"] >= truth["from"] or kind == "concept drift" and change["since"] == "2024-07"), change # the label of July carries half of the price rise
        assert change["told"] and change["windows"] <= until and f"{kind.capitalize()} since {change['since']} (told in {change['told']}" in example["statement"]
    assert len(example["changes"]) == 3 and not [a for a in example["alerts"] if a["period"] < "2024-07" and a["severity"] != "info"] # nothing was planted before
    assert worse(example) and not [q for e in example["periods"] for q in e["quality"] if q["rule"] == "skew"]


@pytest.mark.parametrize("path, value, says", [("window", "weekly", "allowed are auto, hour, day, week"), ("window", 0, "or a number of rows"), ("rehearsal.times", -1, "greater than or equal to 0"),
    ("rehearsal.shift", 0.0, "greater than 0"), ("rehearsal.seed", -1, "greater than or equal to 0"), ("threads", 0, "greater than or equal to 1"), ("quality.floor", 2.0, "less than or equal to 1"),
    ("drift.false_alarm", 0.05, "did you mean `false_alarms`"), ("floor", 0.1, "`monitor.floor` is not a parameter")])
def test_parameters_say_what_is_allowed(path, value, says):
    values = dict(EXAMPLE["monitor"])
    first, _, rest = path.partition(".")
    values[first] = {**values[first], rest: value} if rest else value
    with pytest.raises(ProjectError, match=says): check_section(Params, values, "monitor")
