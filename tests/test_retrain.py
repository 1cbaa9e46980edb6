"Retraining: policies compared on what was known then, and a rule that decides as it says"
import numpy as np
import pandas as pd
import pytest

from mlcycle.contract import Column, Contract
from mlcycle.core import ProjectError, check_section
from mlcycle.drift import DriftSettings
from mlcycle.estimate import PerformanceSettings, learn_estimate
from mlcycle.metrics import cost_each, intervals, main_metric
from mlcycle.models import make_pipeline, predict
from mlcycle.package import make_profile
from mlcycle.policies import NO_TIME, ONE_CLASS, TOO_LATE, Watch, drifted_at, profile_at, realised_worse, replay_policies
from mlcycle.recipe import make_recipe, plan
from mlcycle.replay import Learned, Matrix, begin_of, find_points, joint_intervals, judge_all, learn_again, line_up, make_ground, recommend, surely_better, walk_policy
from mlcycle.retrain import Params, ask_charter, find_previous, judge, newest_places, plot_earned, plot_gains, policy_table, render, value_now

CONTRACT = Contract(name="t", task="binary", positive="yes", classes=["no", "yes"], columns=[
    Column(name="day", type="datetime", role="time"), Column(name="who", type="text", role="group"), Column(name="logins", type="number", nullable=True), Column(name="plan", type="category"),
    Column(name="left", type="category", role="target")])
AMOUNT = Contract(name="t", task="regression", columns=[Column(name="seq", type="number", role="time"), Column(name="x", type="number"), Column(name="y", type="number", role="target")])
P = Params(policy="auto", periods=2, tolerance=0., drift=0.5, windows=[None, 2], held_out=0.2, refits=4, rows=5000, label_delay=None, cost=None, previous=None, resamples=200, level=0.95, seed=0, threads=1)
SETTINGS = DriftSettings(false_alarms=0.05, floor=0.1, recent=0), PerformanceSettings(least=50, resamples=100, level=0.95, slices=0, outside=0.1, seed=0)
COSTS = {"true_positive": -30., "false_positive": 10., "true_negative": 0., "false_negative": 0.}
GOAL = {"costs": COSTS, "capacity": 0.3, "metric": None, "today": {"column": "logins", "at_most": -1.}}


def world(change="2024-01", shift=0., n=150, delay=1, seed=0):
    "Months 2023-01 to 2024-04, production from 2023-07 on; from `change` on, logins say the opposite, and are shifted"
    rng, months = np.random.default_rng(seed), pd.period_range("2023-01", "2024-04", freq="M")
    month = np.repeat(np.arange(len(months)), n)
    late = month >= len(months) if change is None else np.asarray(months >= pd.Period(change, "M"))[month]
    x = rng.normal(size=len(month))
    yes = rng.random(len(month)) < 1/(1 + np.exp(np.where(late, -2, 2)*x))
    t = pd.DataFrame({"_row": [f"r{i}" for i in range(len(month))], "day": months.to_timestamp()[month], "who": [f"c{i}" for i in rng.integers(0, 400, len(month))], "logins": x + shift*late,
        "plan": rng.choice(["a", "b"], len(month)), "left": np.where(yes, "yes", "no")})
    later = t[month >= 6].assign(_period=months.astype(str)[month[month >= 6]], _label_period=(months + delay).astype(str)[month[month >= 6]])
    unknown = later["_label_period"] > "2024-04"
    later.loc[unknown, ["left", "_label_period"]] = None
    return [t[month < 4].reset_index(drop=True), t[(month >= 4) & (month < 6)].reset_index(drop=True)], later.reset_index(drop=True)


def champion_of(ground):
    taught, held = np.flatnonzero(ground.rows["_taught"]), np.flatnonzero((ground.rows["_window"] < 0) & ~ground.rows["_taught"])
    pipeline = make_pipeline(make_recipe(plan(ground.contract, ground.X.iloc[taught], 50)), "linear", ground.contract.task).fit(ground.X.iloc[taught], ground.y[taught])
    model = Learned(predict(pipeline, ground.X, ground.k), 0.25 if ground.k else None, taught, held)
    columns, answers = (lambda places: {n: ground.X[n].to_numpy()[places] for n in ground.X}), model.answers[held].reshape(len(held), -1)
    name = main_metric(ground.contract.task).name
    promised = intervals(ground.y[held], model.answers[held], ground.contract.task, model.threshold, resamples=200, names=[name])
    profile = make_profile(columns(taught), ground.y[taught], answers[:, -1], ground.contract, promised, 10)
    return pipeline, model, profile | {"estimate": learn_estimate(columns(held), ground.y[held], answers, ground.contract)}


def compared(p=P, goal=GOAL, unit="month", contract=CONTRACT, table=None, **how):
    rows, names = line_up(*(table or world(**how)), contract, p.label_delay)
    ground = make_ground(rows, contract, goal)
    pipeline, champion, profile = champion_of(ground)
    return ground, names, champion, replay_policies(ground, names, unit, champion, profile, pipeline, main_metric(contract.task), p, SETTINGS, calibrated=True)


def policy(found, name): return next(e for e in found["policies"] if e["name"] == name)


@pytest.fixture(scope="module")
def turned(): return compared()


# ---- what was known when ----

def test_a_model_learns_from_nothing_that_was_not_known_then():
    rows, _ = line_up(*world(delay=2), CONTRACT)
    ground = make_ground(rows, CONTRACT, GOAL)
    pipeline, *_ = champion_of(ground)
    for at, newest in ((3, None), (5, 2)):
        model = learn_again(pipeline, ground, at, newest, 0.2, 10**6, True)
        used = rows.iloc[np.r_[model.fit, model.held]]
        assert (used["_label_period"].fillna("") <= f"{pd.Period('2023-07', 'M') + at}").all() and used["_window"].max() == at - 2
        assert used["day"].max() > rows["day"].iloc[model.fit].max() and rows["day"].iloc[model.fit].max() <= rows["day"].iloc[model.held].min()
        if newest: assert rows["day"].iloc[model.fit].min() >= pd.Timestamp("2023-09-01")
        asked = np.flatnonzero(~np.isnan(model.answers[:, 0]))
        assert set(asked) == set(model.held) | set(np.flatnonzero(rows["_window"].between(at + 1, 7)))


def test_labels_of_the_future_change_nothing(turned):
    "The same walk, whatever the labels that come later say: a policy that looks ahead would decide otherwise"
    other = world()
    other[1].loc[(other[1]["_label_period"] > "2024-01") & other[1]["left"].notna(), "left"] = "yes"
    a, b = turned[3], compared(table=other)[3]
    upto = lambda found, name: [m for m in policy(found, name)["when"] if m <= "2024-01"]
    assert all(upto(a, n) == upto(b, n) for n in ("monthly", "quarterly", "drift", "estimate", "realised", "drift_or_realised")) and upto(a, "monthly")


def test_an_assumed_delay_moves_what_could_be_learned():
    rows = {d: line_up(*world(delay=0), CONTRACT, d)[0] for d in (0., 45.)}
    assert find_points(rows[0.], 9, 99) == list(range(9)) and find_points(rows[45.], 9, 99) == list(range(9)) and (rows[45.]["_seen"] - rows[45.]["_window"])[rows[45.]["_window"].between(0, 7)].min() == 1
    seen = rows[45.].groupby("_window")["_seen"].agg(["min", "max"])
    assert seen.loc[0].tolist() == [1, 1] and seen.loc[7, "max"] <= 10


def test_rows_without_time_are_known_as_their_labels_came_even_if_a_delay_is_assumed():
    bare, (past, later) = CONTRACT.model_copy(update={"columns": CONTRACT.columns[1:]}), world()
    for delay in (None, 30.):
        rows, names = line_up([t.drop(columns="day") for t in past], later.drop(columns="day"), bare, delay)
        assert (rows["_seen"] - rows["_window"])[rows["_window"].between(0, 8)].eq(1).all() and (rows.loc[rows["_window"] < 0, "_seen"] == -1).all()
    found = replay_policies(make_ground(rows, bare, GOAL), names, "pseudo-period", None, {}, None, main_metric("binary"), P, SETTINGS, calibrated=True)
    assert found["why"] == NO_TIME and found["windows"] == 10


def test_windows_of_the_monitor_need_not_be_those_of_the_replay():
    rows, names = line_up(*world(), CONTRACT)
    ground = make_ground(rows, CONTRACT, GOAL)
    by_name = newest_places(ground, names, [{"period": "2024-02"}, {"period": "2024-03"}])
    by_time = newest_places(ground, names, [{"period": "2024-W05", "begins": "2024-01-29 00:00:00", "ends": "2024-02-04 23:59:59"}, {"period": "2024-W09", "begins": "2024-02-26", "ends": "2024-03-03 23:59:59"}])
    assert len(by_name) == 300 and (by_name == by_time).all() and len(newest_places(ground, names, [])) == 1350


def test_points_and_windows():
    rows, _ = line_up(*world(), CONTRACT)
    assert find_points(rows, 8, 99) == list(range(1, 8)) and find_points(rows, 8, 3) == [1, 4, 7] and find_points(rows, 1, 3) == []
    assert str(pd.Timestamp(begin_of(rows, 3, 2), unit="D"))[:10] == "2023-08-01"


# ---- what a policy would have earned ----

def test_a_policys_earnings_are_those_of_its_models_added_up_by_hand(turned):
    ground, names, champion, found = turned
    pipeline, *_ = champion_of(ground)
    entry, total, n = policy(found, "monthly"), 0., 0
    assert entry["when"] == [names[at] for at in (1, 3, 5, 7)] and entry["retrainings"] == 4
    newest = found["newest"]
    for w in range(9):
        model = champion if w < 2 else learn_again(pipeline, ground, w - 1 - w % 2, newest, P.held_out, P.rows, True)
        here = np.flatnonzero((ground.rows["_window"] == w) & ground.rows["left"].notna())
        s = model.answers[here, 1]
        most = np.argsort(-s, kind="stable")[:int(0.3*len(here) + 1e-9)]
        acted = np.isin(np.arange(len(here)), most) & (s >= model.threshold)
        total, n = total - cost_each(ground.y[here], acted.astype(int), "binary", COSTS).sum(), n + len(here)
    assert np.isclose(entry["worth"]["value"], total/n) and n == found["rows"]
    assert np.isclose(entry["in_all"]["value"], entry["over_never"]["value"]*n) and np.isclose(entry["curve"][-1], entry["in_all"]["value"])


def test_after_a_change_learning_again_surely_earns_more(turned):
    found = turned[3]
    assert policy(found, "monthly")["over_never"]["low"] > 0 and policy(found, "never") | {"worth": 0} == {"name": "never", "retrainings": 0, "fits": 0, "worth": 0, "over_never": dict(value=0, low=0, high=0),
        "in_all": dict(value=0, low=0, high=0), "when": [], "curve": [0.]*5}
    assert policy(found, "realised")["when"] and policy(found, "realised")["when"][0] >= "2024-02"     # the change shows in labels one month after it
    assert not policy(found, "drift")["when"]                                                         # inputs have not moved
    assert found["recommended"][0] != "never" and policy(found, found["recommended"][0])["over_never"]["low"] > 0
    assert found["newest"] == 2 and found["since"] == "2024-02-01"
    assert found["over"]["always over never"]["low"] > 0


def test_drift_of_inputs_is_what_the_policy_drift_goes_by():
    found = compared(shift=2.)[3]
    assert policy(found, "drift")["when"][0] == "2024-02" and set(policy(found, "drift_or_realised")["when"]) >= set(policy(found, "drift")["when"][:1])


def test_where_nothing_changed_nothing_is_learned_again():
    found = compared(change=None)[3]
    assert found["recommended"][0] == "realised" and not policy(found, "realised")["when"] and "no policy surely earns more" in found["recommended"][1]
    assert found["newest"] is None and found["since"] is None


def test_the_cost_of_a_retraining_is_subtracted(turned):
    found, dear = turned[3], compared(P.model_copy(update={"cost": 5000.}))[3]
    assert dear["over"] == found["over"] and policy(dear, "never") == policy(found, "never")     # all else the same, to the last digit
    for name in ("monthly", "realised"):
        a, b = policy(found, name), policy(dear, name)
        assert np.isclose(a["over_never"]["value"] - b["over_never"]["value"], 5000*a["retrainings"]/found["rows"])
        assert np.isclose(b["curve"][-1], b["in_all"]["value"]) and b["curve"][0] == a["curve"][0] == 0
    assert dear["recommended"][0] in ("realised", "never") and policy(dear, "monthly")["over_never"]["high"] < 0
    assert plot_earned(decided(entry("p1", 0.8), found=dear)).axes[0].get_title() == "No policy would have earned more than never"


def test_policies_are_compared_after_what_their_retrainings_cost():
    rng = np.random.default_rng(0)
    parts = {name: np.column_stack([np.r_[0., rng.normal(scale=0.01, size=200)], np.r_[v, rng.normal(v, 0.01, size=200)]]) for name, v in (("champion", 0.), ("a", 2.), ("b", 1.))}
    matrix = Matrix(parts, 100, [50, 50], True)
    gap = lambda price: surely_better(["champion", "a"], ["champion", "b"], matrix, True, price=price)
    assert gap(0.)["low"] > 0 and gap(200.)["high"] < 0 and np.isclose(gap(200.)["value"], gap(0.)["value"] - 2)


def test_a_stretch_with_a_single_class_has_no_metric_and_counts_for_no_policy():
    rows, names = line_up(*world(n=60), CONTRACT)
    ground = make_ground(rows, CONTRACT, GOAL | {"costs": None})
    champion = champion_of(ground)[1]
    whole = judge_all({"champion": champion}, ground, [4], main_metric("binary"), 100).parts["champion"]
    ground.y[rows["_window"].between(5, 9) & (ground.y >= 0)] = 0
    cut = judge_all({"champion": champion}, ground, [4], main_metric("binary"), 100).parts["champion"]
    assert (cut[:, 1] == 0).all() and np.isclose(cut[0, 0]*5/9, whole[0, 0])


@pytest.mark.parametrize("held_out, costs", [(0.2, COSTS), (0.8, None)]) # nothing can be held out; there is no metric
def test_labels_of_one_class_alone_are_nothing_to_compare_by(held_out, costs):
    table = world(n=60)
    table[1].loc[table[1]["left"].notna(), "left"] = "no"
    found = compared(P.model_copy(update={"held_out": held_out, "refits": 1}), GOAL | {"costs": costs}, table=table)[3]
    assert found["why"] == ONE_CLASS and found["policies"] == []


def test_amounts_of_one_moment_alone_are_not_learned_from():
    "The newest window is a single moment: nothing of it could be held out"
    table = pd.DataFrame({"_row": [f"r{i}" for i in range(400)], "seq": np.repeat(np.arange(8.), 50), "x": np.arange(400.), "y": np.arange(400.)})
    later = table[200:].assign(_period=np.repeat(["p1", "p2", "p3", "p4"], 50), _label_period=np.repeat(["p1", "p2", "p3", "p4"], 50))
    ground = make_ground(line_up([table[:150], table[150:200]], later, AMOUNT)[0], AMOUNT, GOAL | {"costs": None})
    pipeline, *_ = champion_of(ground)
    assert learn_again(pipeline, ground, 1, 1, 0.2, 5000, False) is None and learn_again(pipeline, ground, 1, 3, 0.2, 5000, False).fit.size


def test_without_costs_the_metric_decides_and_less_is_better_for_errors():
    rng, seq = np.random.default_rng(0), np.arange(2400)
    x = rng.normal(size=2400)
    table = pd.DataFrame({"_row": [f"r{i}" for i in seq], "seq": seq.astype(float), "x": x, "y": np.where(seq >= 1500, 3 - 2*x, 2*x) + rng.normal(size=2400)/2})
    part = lambda i: f"p{i:02d}"
    later = table[1000:].assign(_period=[part(1 + i//200) for i in range(1400)], _label_period=[part(2 + i//200) for i in range(1400)])
    later.loc[2200:, ["y", "_label_period"]] = None
    found = compared(goal=GOAL | {"costs": None}, unit="part", contract=AMOUNT, table=([table[:800], table[800:1000]], later))[3]
    entry, never = policy(found, "every_window"), policy(found, "never")
    assert not found["money"] and entry["metric"]["value"] < never["metric"]["value"] and entry["over_never"]["low"] > 0 and "in_all" not in entry
    assert "recalibrated over never" not in found["over"] and [e["name"] for e in found["policies"]][1:3] == ["every_window", "every_3_windows"]
    assert policy(found, "realised")["when"] and np.isclose(entry["curve"][-1], entry["over_never"]["value"])
    paid = compared(goal=GOAL | {"costs": {"over": 1., "under": 1.}, "capacity": None, "today": None}, unit="part", contract=AMOUNT, table=([table[:800], table[800:1000]], later))[3]
    assert paid["money"] and policy(paid, "every_window")["over_never"]["low"] > 0 and np.isfinite(policy(paid, "realised")["curve"]).all()


def test_intervals_of_entities_hold_together():
    rows, _ = line_up(*world(n=60), CONTRACT)
    ground = make_ground(rows, CONTRACT, GOAL)
    pipeline, champion, _ = champion_of(ground)
    same = make_ground(ground.rows.assign(who=[f"c{i}" for i in range(len(ground.rows))]), CONTRACT, GOAL)
    models = {"champion": champion, "again": learn_again(pipeline, ground, 6, None, 0.2, 5000, False)}
    wide, narrow = (judge_all(models, g, [6], main_metric("binary"), 400, 0) for g in (ground, same))
    assert np.isclose(wide.parts["champion"][0].sum(), narrow.parts["champion"][0].sum()) and not np.allclose(wide.parts["champion"][1:], narrow.parts["champion"][1:])
    drawn = np.random.default_rng(0).normal(size=(6, 2000))
    held = joint_intervals({i: np.r_[0., d] for i, d in enumerate(drawn)})
    inside = np.mean([all(held[i]["low"] <= v <= held[i]["high"] for i, v in enumerate(draw)) for draw in drawn.T])
    assert 0.94 < inside < 0.96


@pytest.mark.parametrize("value, width, times, won", [((2, 1.9), 1, (6, 2), "b"), ((2, 1.9), 1, (2, 2), "a"), ((2, 0.5), 1, (6, 2), "a"), ((0.5, 0.4), 1, (6, 2), "realised")])
def test_the_cheapest_of_those_that_surely_earn_more_is_recommended(value, width, times, won):
    tried = [{"name": n, "retrainings": t, "over_never": {"value": v, "low": v - width, "high": v + width}} for n, v, t in zip("ab", value, times)]
    assert recommend(tried, lambda best, other: False)[0] == won


def test_a_policy_keeps_the_model_where_none_could_be_learned():
    assert walk_policy(lambda at, since: True, [1, 2, 3], lambda at: at != 2) == [-1, 1, 1, 3]
    table = world()
    table[1].loc[table[1]["_label_period"] <= "2023-10", "left"] = "no"      # the newest windows have one class for a while
    found = compared(table=table)[3]
    assert found["why"] is None and all(np.isfinite(e["over_never"]["value"]) for e in found["policies"])


@pytest.mark.parametrize("how, why", [(dict(unit="pseudo-period"), NO_TIME), (dict(delay=9), TOO_LATE), (dict(delay=99), TOO_LATE)])
def test_where_nothing_can_be_compared_it_says_why(how, why):
    ground, names, champion, found = compared(**how)
    decision = decided(entry("p1", 0.8), found=found)
    assert decision["policy"]["name"] == "drift_or_realised" and why in decision["policy"]["why"] and decision["policies"] == [] and plot_gains(decision) is None is plot_earned(decision)


@pytest.mark.parametrize("rows", [1, 150])
def test_no_label_yet_is_nothing_yet(rows):
    "Just launched: one row, or one month, and no label"
    past, later = world()
    ground, names, champion, found = compared(table=(past, later.head(rows).assign(left=None, _label_period=None)))
    assert found["why"] == TOO_LATE and value_now(ground, champion, newest_places(ground, names, []), P) == {}
    assert decided(entry("2023-07", None), found=found)["verdict"] == "keep"


def test_the_model_in_force_is_held_against_its_own_rows(turned):
    ground, names, champion, _ = turned
    pipeline, _, profile = champion_of(ground)
    models = {-1: champion, 7: learn_again(pipeline, ground, 7, 2, 0.2, 5000, True)}
    watch = Watch(ground, models, profile, main_metric("binary"), P, *SETTINGS)
    assert profile_at(watch, 7)["rows"] == len(models[7].fit) and profile_at(watch, -1) is profile
    assert realised_worse(watch, 8, -1) and not drifted_at(watch, 8, 7)


# ---- the decision ----

REPORT = {"metric": "roc_auc", "higher": True, "task": "binary", "unit": "month", "time": True, "money": "EUR", "reference": {"value": 0.8, "low": 0.77, "high": 0.83}}
AGREED = {"owner": "Head of care", "minimum": 0.75, "without_ml": "Call those who have not logged in."}
MOVED = {"relation": {"moved": True, "words": "It comes true more often than it says."}, "realised": {"all": {"roc_auc": {"value": 0.8, "low": 0.76, "high": 0.84}}}}
PROMISED = {"roc_auc": {"value": 0.8, "low": 0.77, "high": 0.83}}


def entry(period, value, width=0.04, labelled=500, drifted=(), constant=0.5, **more):
    metric = dict(value=value, low=value - width, high=value + width, constant=constant) if value else dict.fromkeys(["value", "low", "high", "constant"])
    return {"period": period, "rows": 500, "labelled": labelled if value else 0, "metric": metric, "drifted": list(drifted), "columns": [{}]*4, "score": {"drifted": False}} | more


def decided(*periods, p=P, report={}, **more): return judge(REPORT | report | {"periods": list(periods)}, p, **more)


@pytest.mark.parametrize("periods, verdict", [
    ([entry("p1", 0.80), entry("p2", 0.79)], "keep"),
    ([entry("p1", 0.80), entry("p2", 0.70), entry("p3", 0.69)], "retrain"),
    ([entry("p1", 0.82), entry("p2", 0.75)], "keep"), # one bad month is not enough
    ([entry("p1", 0.50), entry("p2", 0.49)], "stop"),
    ([entry("p1", None, drifted="abc")], "retrain"), # labels are silent, but the world has changed
    ([entry("p1", None, score={"drifted": True})], "retrain"),
    ([entry("p1", None)], "keep"),
    ([entry("p1", 0.8, **MOVED), entry("p2", 0.8, **MOVED)], "recalibrate"),
    ([entry("p1", 0.8), entry("p2", 0.8, **MOVED)], "keep")])
def test_the_rule(periods, verdict):
    decision = decided(*periods, promised=PROMISED, cut="2023-05-01")
    assert decision["verdict"] == verdict and decision["version"] == 2 and decision["rule"]
    assert decision["window"] == {"retrain": {"since": None, "until": None}, "recalibrate": {"since": None, "until": "2023-05-01"}}.get(verdict)
    assert all(r.endswith(".") for r in decision["reasons"]) and render(decision).startswith(f"**{verdict}**")


def test_periods_drawn_by_lot_say_nothing_about_drift():
    assert decided(entry("p1", None, drifted="abc"), report={"time": False})["verdict"] == "keep"


def test_errors_are_better_when_they_are_small():
    rmse = {"metric": "rmse", "higher": False, "task": "regression", "reference": {"value": 100, "low": 95, "high": 105}}
    assert [decided(entry("p1", v, width=5, constant=180), report=rmse)["verdict"] for v in (130, 99, 190)] == ["retrain", "keep", "stop"]


def test_a_ranking_that_is_lost_asks_for_more_than_a_calibration():
    lost = MOVED | {"realised": {"all": {"roc_auc": {"value": 0.7, "low": 0.66, "high": 0.74}}}}
    assert decided(entry("p1", 0.7, **lost), entry("p2", 0.7, **lost), promised=PROMISED)["verdict"] == "retrain"
    better = {"why": None, "policies": [], "over": {"always over recalibrated": {"value": 1, "low": 0.5, "high": 2}}, "recommended": ("monthly", "it earns more"), "judged": ["p1"], "rows": 9, "points": ["p1"]}
    assert decided(entry("p1", 0.8, **MOVED), entry("p2", 0.8, **MOVED), promised=PROMISED, found=better)["verdict"] == "retrain"      # trees learned again were surely better


@pytest.mark.parametrize("name, periods, verdict", [
    ("never", [entry("p1", 0.7), entry("p2", 0.69)], "keep"), ("monthly", [entry("p1", 0.8)], "keep"), ("monthly", [entry("p1", 0.8), entry("p2", 0.8)], "retrain"), ("quarterly", [entry("p1", 0.8), entry("p2", 0.8)], "keep"),
    ("quarterly", [entry(f"p{i}", 0.8) for i in range(4)], "retrain"), ("drift", [entry("p1", 0.8, drifted="abc")], "retrain"), ("realised", [entry("p1", 0.8, drifted="abc")], "keep"),
    ("drift", [entry("p1", 0.7), entry("p2", 0.69)], "keep"), # to the letter
    ("estimate", [entry("p1", None, estimate={"trusted": True, "metric": {"value": 0.6, "low": 0.58, "high": 0.62}})], "retrain"),
    ("estimate", [entry("p1", None, estimate={"trusted": False, "metric": {"value": 0.6, "low": 0.58, "high": 0.62}})], "keep")])
def test_a_policy_that_is_set_is_followed(name, periods, verdict):
    decision = decided(*periods, p=P.model_copy(update={"policy": name}))
    assert decision["verdict"] == verdict and decision["policy"]["name"] == name and "`retrain.policy` says so" in decision["policy"]["why"]


@pytest.mark.parametrize("name, unit", [("monthly", "quarter"), ("monthly", "part"), ("every_window", "month")])
def test_a_schedule_that_the_windows_do_not_have(name, unit):
    with pytest.raises(ProjectError, match=f"`retrain.policy` is {name}, but a window here is a {unit}. Allowed are auto, never"):
        decided(entry("p1", 0.8), p=P.model_copy(update={"policy": name}), report={"unit": unit})


def test_reasons_are_few_and_all_that_was_asked_is_kept():
    decision = ask_charter(decided(entry("p1", 0.70), entry("p2", 0.69), worth={"nothing": {"gain": {"value": 1., "low": 0.5, "high": 2.}}}), AGREED, True)
    assert [r[:9] for r in decision["reasons"]] == ["The polic", "roc_auc i", "The chart"] and len(decision["reasons"][0]) < 100
    assert "1 (0.5 to 2) EUR a case" in decision["evidence"]["answers"]["Does it surely earn no more than would be earned without it?"]["found"] and len(decision["evidence"]["answers"]) == 7


def test_the_recommended_policy_decides_and_its_figures_are_drawn(turned):
    found = turned[3]
    decision = decided(*(entry(m, 0.8) for m in turned[1]), found=found)
    assert decision["policy"]["name"] == found["recommended"][0] and "Recommended by the replay of 2023-07 to 2024-03" in decision["policy"]["why"]
    fallen = decided(entry("p1", 0.7), entry("p2", 0.69), found=found)
    assert fallen["verdict"] == "retrain" and fallen["window"] == {"since": "2024-02-01", "until": None} and found["window"] in fallen["reasons"]
    assert len(policy_table(fallen)) == 7 and "surely earn more than never" in plot_gains(fallen).axes[0].get_title() and plot_earned(fallen).axes[0].get_title().startswith("At best")


def test_what_is_no_longer_worth_it_stops_unless_learning_again_was(turned):
    ground, names, champion, found = turned
    lost = {"nothing": {"gain": {"value": -1., "low": -2., "high": -0.1}}}
    assert decided(entry("p1", 0.8), worth=lost)["verdict"] == "stop" and decided(entry("p1", 0.8), worth=lost, found=found)["verdict"] == "retrain"
    assert decided(entry("p1", 0.8), worth={"nothing": {"gain": {"value": -1., "low": -2., "high": 0.1}}})["verdict"] == "keep"     # not surely
    now = value_now(ground, champion, newest_places(ground, names, [{"period": n} for n in names[-3:]]), P)
    assert set(now) == {"model", "acted", "nothing", "today"} and now["nothing"]["gain"]["high"] < 0 and now["acted"] <= 0.3
    stopped = ask_charter(decided(entry("p1", 0.5)), AGREED, True)
    assert stopped["charter"] == AGREED and "Without the model: Call those" in stopped["reasons"][-1] and "0.5 would no longer do" in stopped["reasons"][-1]


@pytest.mark.parametrize("low, verdict", [(0.1, "rollback"), (-0.1, "keep")])
def test_roll_back_where_the_bundle_before_it_is_surely_better(low, verdict):
    assert decided(entry("p1", 0.8), previous={"value": 1., "low": low, "high": 2., "unit": "roc_auc", "rows": 300})["verdict"] == verdict


def test_small_windows_are_judged_together():
    few = [entry(f"p{i}", None) | {"labelled": 20} for i in range(3)]
    decision = judge(REPORT | {"periods": few, "overall": entry("", 0.7)["metric"]}, P)
    assert decision["verdict"] == "retrain" and decision["evidence"]["realised"]["labelled"] == 60 and "all labels are judged together" in decision["reasons"][-1]


def test_what_params_may_say():
    values = P.model_dump()
    for wrong, words in ({"policy": "weekly"}, "weekly"), ({"windows": []}, "windows"), ({"held_out": 0.}, "held_out"), ({"cost": -1.}, "cost"), ({"refits": 0}, "refits"), ({"drfit": 0.1}, "did you mean `drift`"):
        with pytest.raises(ProjectError, match=words): check_section(Params, values | wrong, "retrain")


@pytest.mark.parametrize("path, words", [("../elsewhere", "does not lie in the project"), ("/etc", "does not lie in the project"), ("data/none", "no bundle in that folder")])
def test_a_previous_bundle_that_is_none(tmp_path, path, words):
    with pytest.raises(ProjectError, match=words): find_previous(tmp_path, path)
