"""The charter: typed, checked against itself and against the data, and rendered as a page that a person could sign."""
import datetime, json, re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLE

from mlcycle import frame, metrics
from mlcycle.core import ProjectError, check_section

SAID = EXAMPLE["frame"]
MONEY = dict(true_positive=-40, false_positive=0, true_negative=0, false_negative=0)
NO_MONEY = dict(costs=None, contact=None, capacity=None, today=None)


def charter(**changes): return check_section(frame.Params, SAID | changes, "frame")


def complaint(**changes):
    with pytest.raises(ProjectError) as e: charter(**changes)
    return str(e.value)


# what a person may write

def test_the_example_leaves_nothing_open():
    assert frame.undecided(charter()) == [] and charter().status == "draft"
    assert "Every question" in frame.say_open(charter())


@pytest.mark.parametrize("changes, words", [
    (dict(costs={"true_positive": 1, "false_positive": 1, "true_negative": 0}), ["`frame.costs`", "binary: true_positive, false_positive, true_negative, false_negative", "a sentence"]),
    (dict(costs={"over": 1, "under": 2}, task="binary", contact=None, capacity=None), ["costs of a regression task", "true_positive"]),
    (dict(costs=MONEY | {"true_positive": "a lot"}), ["`true_positive` must be a number"]),
    (dict(costs=MONEY | {"true_positive": 40}), ["`frame.contact`", "is a sign wrong"]),
    (dict(contact=None), ["it would pay to act on everybody", "`frame.contact`"]),
    (dict(contact=-1), ["`frame.contact` is -1", "greater than or equal to 0"]),
    (dict(NO_MONEY, costs={"over": -1, "under": 2}), ["0 or more"]),
    (dict(NO_MONEY, costs={"right": 0, "wrong": 0}), ["must cost more than a right one"]),
    (dict(NO_MONEY, costs=[1, 2]), ["the keys must be those of one task"]),
    (dict(NO_MONEY, capacity=0.1), ["`frame.capacity`", "costs of two classes", "not known", "null"]),
    (dict(NO_MONEY, costs="Nobody pays for it.", contact=3), ["`frame.contact`", "of another kind"]),
    (dict(capacity=10), ["`frame.capacity` is 10", "less than or equal to 1"]),
    (dict(metric="rocauc"), ["did you mean `roc_auc`", "Allowed: "]),
    (dict(metric="rmse", task="binary"), ["`rmse` is no metric of a binary task"]),
    (dict(minimum=70), ["`frame.minimum` is 70", "lies between 0 and 1; a per cent is a hundredth"]),
    (dict(aim=0.6), ["`frame.aim` is 0.6", "0.7", "more is better"]),
    (dict(metric="rmse", minimum=100.0, aim=120.0), ["`frame.aim`", "less is better"]),
    (dict(guardrails={"breir": 0.1}), ["did you mean `brier`"]),
    (dict(guardrails={"brier": 3.0}), ["brier lies between 0 and 1"]),
    (dict(today={"column": "logins", "at_most": 0, "at_least": 2}), ["one condition is allowed"]),
    (dict(today={"column": "logins"}, task="binary"), ["one of at_least, at_most and is_in"]),
    (dict(NO_MONEY, today={"column": "logins", "at_most": 0}, task="regression", metric=None, guardrails={}, minimum=None, aim=None), ["the column alone"]),
    (dict(NO_MONEY, today={"column": "logins"}, task="multiclass", metric=None), ["more than two classes", "`frame.without_ml`"]),
    (dict(today={"colum": "logins", "at_most": 0}), ["`frame.today.column` is missing", "did you mean `column`"]),
    (dict(stakeholders=[{"name": n, "discovery": "owns"} for n in "AB"]), ["discovery is owned by A and B"]),
    (dict(stakeholders=[{"name": "A", "discovery": "own"}]), ["`frame.stakeholders.0.discovery`", "'owns'"]),
    (dict(risks=["Prices change."]), ["`frame.risks.0`"]),
    (dict(constraints={"latency_ms": 0, "size_mib": None, "nodes": None, "explainable": False}), ["`frame.constraints.latency_ms`", "greater than 0"]),
    (dict(constraints={"latency_ms": None, "size_mib": None, "nodes": 0, "explainable": False}), ["`frame.constraints.nodes` is 0", "greater than 0"]),
    (dict(constraints={"latency_ms": None, "size_mib": None, "nodes": 2.5, "explainable": False}), ["`frame.constraints.nodes` is 2.5", "integer"]),
    (dict(load={"requests": 0, "rows": 1, "growth": 1}), ["`frame.load.requests` is 0", "greater than 0"]),
    (dict(load={"requests": 20, "rows": 0.5, "growth": 1}), ["`frame.load.rows` is 0.5", "integer"]),
    (dict(load={"requests": 20, "rows": 1, "growth": 0.5}), ["`frame.load.growth` is 0.5", "greater than or equal to 1"]),
    (dict(load={"requests": 20, "rows": 1, "grwth": 2}), ["`frame.load.growth` is missing", "did you mean `growth`"]),
    (dict(edge={"size_mib": 0, "memory_mib": None, "latency_ms": None, "cold_ms": None}), ["`frame.edge.size_mib` is 0", "greater than 0"]),
    (dict(edge={"size_mib": None, "memory_mib": None, "latency_ms": None}), ["`frame.edge.cold_ms` is missing"]),
    (dict(qualify={"metrics": {"briar": 0.1}, "slices": {}}), ["`frame.qualify`", "did you mean `brier`", "Allowed: "]),
    (dict(qualify={"metrics": {"rmse": 5.0}, "slices": {}}, task="binary"), ["`rmse` is no metric of a binary task"]),
    (dict(qualify={"metrics": {"brier": 3.0}, "slices": {}}), ["brier lies between 0 and 1"]),
    (dict(qualify={"metrics": {}, "slices": {"region": 60.0}}), ["`frame.qualify`", "a per cent is a hundredth"]),
    (dict(qualify={"metrics": {}, "slices": {"churned": 0.6}}), ["`churned` is the target"]),
    (dict(qualify={"metrics": {}}), ["`frame.qualify.slices` is missing"]),
    (dict(qualify={"metrics": {"f1": "high"}, "slices": {}}), ["`frame.qualify.metrics.f1` is 'high'"]),
    (dict(qualify={"metrics": {}, "slice": {}}), ["`frame.qualify.slice` is not a parameter; did you mean `slices`"]),
    (dict(fairness={"demographic_parity": 0.1}), ["`frame.fairness`", "did you mean `demographic_parity_difference`", "Allowed: "]),
    (dict(fairness={"equalized_odds_difference": 5.0}), ["equalized_odds_difference is 5", "a per cent is a hundredth"]),
    (dict(fairness={"error_difference": -0.1}), ["error_difference is -0.1", "0 or more"]),
    (dict(NO_MONEY, fairness={"equalized_odds_difference": 0.1}, task="regression", metric=None, minimum=None, aim=None), ["no measure of fairness of a regression task", "error_difference"]),
    (dict(capacity=None, guardrails={"recall_at_capacity": 0.2}), ["`frame.capacity`", "`frame.guardrails.recall_at_capacity` needs the share"]),
    (dict(override={"of": "gates", "by": "A", "day": "2026-03-31", "why": "B"}), ["`frame.override.of` is 'gates'", "'assess', 'gate' or 'both'"]),
    (dict(forbidden=["churned"]), ["`churned` is the target"]),
    (dict(override={"by": "A", "day": "soon", "why": "B"}), ["`frame.override.day` is 'soon'", "\"2026-03-31\""]),
    (dict(override={"by": "A", "day": datetime.date(2026, 3, 31), "why": "B"}), ["put the day in quotes: day: \"2026-03-31\""]),
    (dict(override={"by": "A", "day": "2026-03-31"}), ["`frame.override.why` is missing"]),
    (dict(override={"by": "", "day": "2026-03-31", "why": "B"}), ["`frame.override.by`"]),
])
def test_a_charter_that_contradicts_itself_says_how(changes, words):
    said = complaint(**changes)
    assert all(w in said for w in words), said


def test_an_override_is_on_the_page():
    page = frame.render_page(charter(override={"by": "A. Person", "day": "2026-03-31", "why": "The pilot is cheap."}))
    assert all(piece in page for piece in ("A. Person", "2026-03-31", "The pilot is cheap.", "whatever the assessment says"))
    said = {of: frame.render(charter(override={"of": of, "by": "A", "day": "2026-03-31", "why": "B"})) for of in ("gate", "both")}
    assert "go on whatever the gate says: B" in said["gate"] and "whatever the assessment and the gate say: B" in said["both"]


def test_what_a_winner_must_reach_is_on_the_page():
    page = frame.render(charter(qualify={"metrics": {"brier": 0.1}, "slices": {"region": 0.6}}, fairness={"equal_opportunity_difference": 0.1},
                                constraints={"latency_ms": None, "size_mib": None, "nodes": 2000, "explainable": False}, guardrails={"recall_at_capacity": 0.2}))
    for piece in ("brier 0.1", "0.6 in every level of `region`", "equal opportunity difference of at most 0.1", "2,000 tree nodes and coefficients", "| recall_at_capacity | 0.2 |"): assert piece in page, piece


@pytest.mark.parametrize("changes, task, words", [
    ({}, "regression", "`frame.costs` are true_positive"),
    (dict(NO_MONEY, guardrails={"brier": 0.1}), "regression", "`frame.guardrails.brier` is no metric of a regression task"),
    (dict(NO_MONEY, today={"column": "logins", "at_most": 0}), "regression", "the column alone"),
    (dict(NO_MONEY, today={"column": "logins", "at_most": 0}), "multiclass", "more than two classes"),
    (dict(NO_MONEY, qualify={"metrics": {"brier": 0.1}, "slices": {}}), "regression", "`frame.qualify.metrics.brier` is no metric of a regression task"),
    (dict(NO_MONEY, fairness={"equalized_odds_difference": 0.1}), "regression", "`frame.fairness.equalized_odds_difference` is no measure of a regression task"),
    (dict(today={"column": "logins"}), "binary", "one of at_least"),
    (dict(NO_MONEY, costs={"right": 0, "wrong": 1}), "binary", "takes true_positive"),
])
def test_a_charter_about_another_task_is_refused_when_the_data_are_known(changes, task, words):
    with pytest.raises(ProjectError, match=re.escape(words)): frame.check_goal(frame.goal(charter(**changes)), task)


def test_a_charter_about_this_task_is_taken():
    frame.check_goal(frame.goal(charter()), "binary")
    frame.check_goal(frame.goal(charter(**NO_MONEY | dict(costs={"over": 1, "under": 3.5}))), "regression")
    frame.check_goal(frame.goal(charter(**NO_MONEY | dict(costs="Nobody pays."))), "multiclass")


# what is handed on

def test_the_goal_has_the_cost_of_acting_folded_in():
    found = frame.goal(charter())
    assert found["costs"] == {"true_positive": -30.0, "false_positive": 10.0, "true_negative": 0.0, "false_negative": 0.0}
    assert frame.charter(charter())["costs"]["true_positive"] == -40 and found["today"] == {"column": "logins", "at_least": None, "at_most": 0.0, "is_in": None}
    assert set(found) == {"version", "target", "task", "positive", "metric", "minimum", "aim", "guardrails", "costs", "capacity", "today", "horizon", "unit", "sensitive", "forbidden", "explainable", "nodes", "size_mib", "qualify", "fairness"}
    assert found["nodes"] is None and found["size_mib"] == 5 and found["qualify"] == {"metrics": {}, "slices": {}} and found["fairness"] == {}
    assert frame.goal(charter(**NO_MONEY | dict(costs="Nobody pays.")))["costs"] is None
    assert "costs" not in frame.undecided(charter(**NO_MONEY | dict(costs="Nobody pays.")))


@pytest.mark.parametrize("key", ["problem", "why", "decision", "decides", "users", "owner", "without_ml", "unit", "horizon", "minimum", "aim"])
def test_a_question_without_an_answer_is_open(key):
    assert frame.undecided(charter(**{key: None})) == [key]
    assert f"`frame.{key}`" in frame.render(charter(**{key: None}))
    assert "the gate will stay shut" in frame.say_open(charter(**{key: None}, status="launch"))


def test_half_an_answer_is_none():
    assert frame.undecided(charter(risks=[{"risk": "Prices change.", "owner": None}])) == ["risks"]
    assert frame.undecided(charter(stakeholders=[{"name": "A", "discovery": "owns", "development": "owns", "deployment": "approves"}])) == ["stakeholders"]


# on paper

class Page(HTMLParser):
    def __init__(self, text): super().__init__(); self.tags, self.text, self.bad = [], "", []; self.feed(text)
    def handle_starttag(self, tag, attrs): self.tags.append(tag); self.bad += [a for a in attrs if a[0].startswith("on") or "javascript:" in str(a[1])]
    def handle_data(self, data): self.text += data


def test_the_page_says_what_the_charter_says():
    page = Page(frame.render_page(charter()))
    for piece in ["10 % of customers", "the head of customer care", "owns", "EUR", "25 %", "Data protection", "-30", "0.75", "within 50 ms", "Nothing: every question"]: assert piece in page.text or piece.replace("Data", "data") in page.text, piece
    assert "input" not in page.tags and page.tags.count("section") == 10
    assert Page(frame.render_page(charter(minimum=None, owner=None))).tags.count("input") == 2


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1)) | * `"


@pytest.mark.parametrize("changes", [{k: EVIL} for k in ("target", "problem", "why", "decision", "decides", "users", "owner", "without_ml", "unit", "horizon", "positive", "currency")]
                         + [dict(NO_MONEY, costs=EVIL), dict(risks=[{"risk": EVIL, "owner": EVIL}]), dict(stakeholders=[{"name": EVIL, "discovery": "approves"}]), dict(forbidden=[EVIL]), dict(sensitive=[EVIL]),
                            dict(today={"column": EVIL, "is_in": [EVIL]}), dict(override={"by": EVIL, "day": "2026-03-31", "why": EVIL})], ids=lambda c: list(c)[-1])
def test_what_a_person_writes_is_text(changes):
    page = Page(frame.render_page(charter(**changes)))
    assert not {"script", "img"} & set(page.tags) and not page.bad and "alert(1)" in page.text
    assert page.tags.count("table") == Page(frame.render_page(charter())).tags.count("table") - ("costs" in changes)  # a bar does not break a table


def test_the_charter_is_quoted():
    quoted = frame.quote_charter(frame.charter(charter(owner=None, guardrails={"brier": 0.1})), "owner", "minimum", "guardrails", "decision")
    assert "answers for it: _open_" in quoted and "to launch: 0.7" in quoted and "brier 0.1" in quoted and "10 % of customers" in quoted


# limits

@pytest.mark.parametrize("key, found", [("size_mib", 5.2), ("latency_ms", 51.0)])
def test_a_broken_limit_is_said_in_a_draft_and_stops_a_launch(key, found):
    draft, launch = (json.loads(json.dumps(frame.charter(charter(status=s)))) for s in ("draft", "launch"))
    assert "**too much**" in frame.hold_limit(draft, key, found) and f"frame.constraints.{key}" in frame.hold_limit(draft, key, found)
    assert "too much" not in frame.hold_limit(launch, key, found/2)
    with pytest.raises(ProjectError, match=f"frame.constraints.{key}.*frame.status: draft"): frame.hold_limit(launch, key, found)
    assert "no limit" in frame.hold_limit(launch | {"constraints": {key: None}}, key, found)


@pytest.mark.parametrize("key", ["size_mib", "memory_mib", "latency_ms", "cold_ms"])
def test_the_charter_tells_the_limits_of_the_device(key):
    tight = dict.fromkeys(("size_mib", "memory_mib", "latency_ms", "cold_ms")) | {key: 4}
    assert "on a device: " in frame.say_limits(charter(edge=tight)) and "on a device" not in frame.say_limits(charter(edge=dict.fromkeys(tight)))


# money

def test_acting_by_the_costs_is_the_cheapest_if_the_probabilities_are_true():
    rng = np.random.default_rng(0)
    p = rng.beta(1, 5, 4000)
    y = (rng.random(4000) < p).astype(int)
    for seed in range(5):
        tp, fp, tn, fn = np.random.default_rng(seed).normal(0, 10, 4)
        costs = dict(true_positive=min(tp, fn), false_negative=max(tp, fn), false_positive=max(fp, tn), true_negative=min(fp, tn))
        expected = lambda d: float(np.where(d == 1, p*costs["true_positive"] + (1 - p)*costs["false_positive"], p*costs["false_negative"] + (1 - p)*costs["true_negative"]).mean())
        chosen = metrics.act(p, costs)
        assert expected(chosen) <= min(expected((p >= t).astype(int)) for t in np.linspace(0, 1.01, 300)) + 1e-12
        assert ((p > metrics.break_even(costs)) == chosen).all()
        assert metrics.cost(y, chosen, "binary", costs) == pytest.approx(expected(chosen), abs=0.3*max(abs(v) for v in costs.values())**0.5)
        few = metrics.act(p, costs, 0.05)
        assert few.sum() == min(200, chosen.sum()) and (few.sum() == 0 or p[few == 1].min() >= p[(chosen == 1) & (few == 0)].max(initial=0))


@pytest.mark.parametrize("capacity, n, most", [(0.29, 100, 29), (1/3, 9, 3), (0.07, 100, 7), (0.001, 10, 0), (1.0, 7, 7), (None, 7, 7)])
def test_capacity_counts_whole_cases(capacity, n, most):
    costs = dict(true_positive=-1., false_positive=0.1, true_negative=0., false_negative=0.)
    assert metrics.act(np.full(n, 0.9), costs, capacity).sum() == most
    assert metrics.act(np.full(n, 0.9), costs, capacity)[:most].all()  # of equals the first


def test_costs_of_every_task_are_what_they_say():
    assert metrics.cost(np.array([0, 1, 2]), np.array([0, 2, 2]), "multiclass", {"right": -1, "wrong": 5}) == pytest.approx(1)
    assert metrics.cost(np.array([1., 5.]), np.array([3., 1.]), "regression", {"over": 2, "under": 10}) == pytest.approx((4 + 40)/2)
    y = np.random.default_rng(0).lognormal(0, 1, 2001)
    costs = {"over": 1., "under": 4.}
    best = metrics.do_nothing(y, len(y), "regression", costs)
    assert metrics.cost(y, best, "regression", costs) <= min(metrics.cost(y, np.full(len(y), v), "regression", costs) for v in np.linspace(0, 20, 500))


@pytest.mark.parametrize("today, called", [
    ({"column": "n", "at_least": 2}, [0, 1, 0]), ({"column": "n", "at_most": 1}, [1, 0, 0]), ({"column": "n", "is_in": [2]}, [0, 1, 0]),
    ({"column": "x", "at_most": 0.5}, [1, 0, 0]), ({"column": "t", "is_in": ["b", "c"]}, [0, 1, 0]), ({"column": "t", "is_in": [7]}, [1, 0, 0]), ({"column": "f", "is_in": [True]}, [0, 1, 0]), ({"column": "f", "at_least": 1}, [0, 1, 0])])
def test_todays_way_calls_where_the_condition_holds(today, called):
    t = pd.DataFrame({"n": pd.array([1, 2, None], "Int64"), "x": [0.5, 1.5, np.nan], "t": pd.array(["7", "b", None], "str"), "f": pd.array([False, True, None], "boolean")})
    assert metrics.todays_way(t, today, "binary").tolist() == called


@pytest.mark.parametrize("today, task, words", [
    ({"column": "nn", "at_most": 1}, "binary", "did you mean `n`"), ({"column": "t", "at_least": 1}, "binary", "Use `is_in`"), ({"column": "t"}, "regression", "no numbers"),
    ({"column": "n"}, "binary", "one of at_least"), ({"column": "n", "at_most": 3}, "regression", "the column alone"), ({"column": "n"}, "multiclass", "Set it to null")])
def test_todays_way_that_cannot_be_computed_says_why(today, task, words):
    t = pd.DataFrame({"n": [1, 2], "t": ["a", "b"]})
    with pytest.raises(ProjectError, match=re.escape(words)): metrics.todays_way(t, today, task)
