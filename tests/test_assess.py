"""Is it the right tool: what noise, rules, signals, costs and charters lead to, on tables of a few hundred rows."""
import json, re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import DATASETS, EXAMPLE, PACKAGE, clone, needs
from threadpoolctl import threadpool_limits

from mlcycle import assess, ways
from mlcycle.contract import coerce, inputs, labels
from mlcycle.propose import propose
from mlcycle.core import ProjectError, check_section
from mlcycle.folds import draw_order, forward_folds, make_folds, ties
from mlcycle.metrics import main_metric, todays_way
from mlcycle.models import CANDIDATES, make_pipeline
from mlcycle.recipe import make_recipe, plan, say_tree

AIM = ways.Aim(main_metric("binary"))
OFFER = {"true_positive": -30., "false_positive": 10., "true_negative": 0., "false_negative": 0.}
SAID = EXAMPLE["assess"]
P = assess.Params(**SAID)


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1): yield


def table(seed=0, n=300):
    "Columns of all kinds, with gaps, and no target yet"
    r = np.random.default_rng(seed)
    t = pd.DataFrame({"x": r.normal(size=n), "z": r.exponential(size=n), "count": r.poisson(4, n), "plan": r.choice(["a", "b", "c"], n), "region": r.choice(list("nsew"), n)})
    t.loc[r.random(n) < 0.05, "z"] = np.nan
    return t


def noise(seed, n=300, share=0.3, task="binary"):
    r = np.random.default_rng(1000 + seed)
    return table(seed, n).assign(y={"binary": np.where(r.random(n) < share, "yes", "no"), "multiclass": r.choice(["p", "q", "r"], n, p=[.5, .3, .2]), "regression": r.exponential(10, n)}[task])


def ruled(seed, wrong=0.1, n=300, task="binary"):
    r, t = np.random.default_rng(2000 + seed), table(seed, n)
    so = (t.x <= 0.3).to_numpy()
    if task == "regression": return t.assign(y=10*so + r.normal(0, 5, n))
    return t.assign(y=np.where(so ^ (r.random(n) < wrong), "yes", "no"))


def sums(seed=0, n=800, task="binary"):
    "A weighted sum: no single question finds it"
    r, t = np.random.default_rng(3000 + seed), table(seed, n)
    s = t.x + t.z.fillna(1) - 1 + (t["count"] - 4)/2 + (t.plan == "a") + r.normal(0, .8, n)
    return t.assign(y={"binary": np.where(s > 0.4, "yes", "no"), "multiclass": np.select([s < -.5, s < 1], ["low", "mid"], "high"), "regression": 100 + 10*s}[task])


def judged(t, aim=AIM, today=None, **roles):
    "Verdict, reasons, and all that they rest on"
    contract = propose(t, "t", "y", roles=roles)
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    aim = aim if contract.task == "binary" else replace(aim, metric=main_metric(contract.task))
    tried = ways.try_ways(X, y, contract, 5, orders=2, tied=ties(t, contract), metric=aim.metric.name, today=None if today is None else todays_way(t, today, contract.task))
    found = ways.weigh(tried, aim)
    return assess.make_decision(tried, found, aim, {"owner": "Care"}), tried, found, (contract, X, y)


def verdict(t, aim=AIM, **kw): return judged(t, aim, **kw)[0]["verdict"]


# noise

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_noise_is_a_no_go(task): assert [verdict(noise(s, task=task)) for s in range(2)] == ["no-go"]*2


@pytest.mark.chains
@pytest.mark.parametrize("kind", ["binary", "rare", "money", "multiclass", "regression", "groups", "time"])
def test_noise_is_a_no_go_twenty_times(kind):
    def one(seed):
        if kind in ("multiclass", "regression"): return verdict(noise(seed, task=kind))
        if kind == "rare": return verdict(noise(seed, 400, 0.04))
        if kind == "money": return verdict(noise(seed), replace(AIM, costs=OFFER))
        if kind == "time": return verdict(noise(seed, 480).assign(month=np.repeat(pd.date_range("2024-01-01", periods=12, freq="MS"), 40)), month="time")
        who, r = np.repeat(np.arange(40), 10), np.random.default_rng(seed)
        same = {c: v.to_numpy()[who] for c, v in table(seed, 40)[["x", "plan"]].items()}   # columns and label belong to the group
        return verdict(table(seed, 400).assign(**same, who=who.astype(str), y=np.where(r.random(40) < .35, "yes", "no")[who]), who="group")
    assert [one(s) for s in range(20)] == ["no-go"]*20


@pytest.mark.chains
@pytest.mark.parametrize("wrong", [0, 0.1])
def test_a_rule_is_found_nineteen_times_of_twenty(wrong): assert sum(verdict(ruled(s, wrong)) == "simpler rule" for s in range(20)) >= 19


@pytest.mark.chains
def test_shuffled_telco_is_a_no_go_and_telco_is_a_go():
    if not DATASETS.exists(): pytest.skip(f"{DATASETS} is not there: set DATASETS to the folder of shared data sets")
    t = pd.read_csv(DATASETS/"telco_churn"/"Telco-Customer-Churn.csv", na_values=[" "]).rename(columns={"Churn": "y"}).drop(columns="customerID")
    part = t.sample(1000, random_state=0).reset_index(drop=True)
    assert [verdict(part.assign(y=np.random.default_rng(s).permutation(part.y))) for s in range(20)] == ["no-go"]*20
    decision = judged(t, replace(AIM, costs=OFFER, capacity=0.2))[0]
    assert decision["verdict"] == "go" and decision["value"]["ways"][decision["best"]]["low"] > 0


def test_luck_that_is_in_all_rows_is_not_learned_and_judged_at_once():
    y = np.random.default_rng(0).integers(0, 2, 200)
    parts, which, rule = forward_folds(y, "binary", 5, 0, orders=2)
    assert which == [0]*5 + [1]*5 and "2 random orders" in rule
    order = draw_order(y, "binary", 0)
    for learn, judge in parts[:5]: assert order[learn].max() < order[judge].min() and abs(y[judge].mean() - y.mean()) < 0.06
    groups = np.arange(200)//4
    for learn, judge in forward_folds(y, "binary", 5, 0, 2, groups=groups)[0]: assert not set(groups[learn]) & set(groups[judge])


# verdicts

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_weighted_sum_is_a_go(task):
    decision = judged(sums(task=task))[0]
    assert decision["verdict"] == "go" and decision["difference"]["low"] > 0 and decision["best"] in ("linear", "boosted") and decision["use"] is None
    assert set(decision["baselines"]) == {"constant", "rule", "tree", "linear", "boosted"} and decision["simplest"]["value"] < 0.95


@pytest.mark.parametrize("task,wrong", [("binary", 0), ("binary", 0.1), ("regression", 0)])
def test_a_rule_needs_no_model(task, wrong):
    decision = judged(ruled(0, wrong, task=task))[0]
    assert decision["verdict"] == "simpler rule" and decision["use"] == "rule" and decision["simplest"]["way"] == "rule"


def test_costs_decide_where_there_are_costs():
    t = sums()
    dear = judged(t, replace(AIM, costs=OFFER | {"true_positive": 20.}))[0]         # an offer that loses money on everybody
    assert dear["verdict"] == "no-go" and dear["baselines"]["linear"]["low"] > 0.7 and "a case" in dear["reasons"][0]
    free = judged(t, replace(AIM, costs=OFFER | {"false_positive": -1.}))[0]        # an offer that earns on everybody: give it to all
    assert free["verdict"] == "no-go" and "the same for all" in free["reasons"][0]
    assert free["value"]["ways"]["constant"]["low"] > 0


def test_value_is_what_the_decisions_earn():
    decision, tried, found, (contract, X, y) = judged(sums(), replace(AIM, costs=OFFER, capacity=0.2), today={"column": "count", "at_least": 6})
    assert {"constant", "today", "rule", "tree", "linear", "boosted"} == set(decision["value"]["ways"])
    for i, d in enumerate(tried["data"][:5]):
        acted = ways.decide_way(tried, i, tried["guessed"]["linear"][i], replace(AIM, costs=OFFER, capacity=0.2))
        assert acted.sum() <= 0.2*len(acted)
        assert found["won"]["linear"][i, 0] == pytest.approx(np.where(y[d["judged"]] == 1, 30, -10)[acted == 1].sum()/len(acted))
    assert decision["value"]["today"] == decision["value"]["ways"]["today"]
    shown = assess.value_table(decision)
    assert shown.loc["linear", "1,000 cases"] == pytest.approx(1000*decision["value"]["ways"]["linear"]["value"], abs=1)


def test_what_is_done_today_has_to_be_beaten():
    t = ruled(1, 0.1).assign(old=lambda t: (t.y == "yes") ^ (np.random.default_rng(0).random(300) < 0.02))   # today's way is nearly perfect
    decision = judged(t, today={"column": "old", "at_least": 1}, old="forbidden")[0]
    assert decision["verdict"] == "no-go" and decision["difference"]["than"] == "today" and "today's way" in decision["reasons"][0]


def test_a_minimum_out_of_reach_is_a_no_go_or_asks_for_more_rows():
    decision = judged(sums(), replace(AIM, metric=main_metric("binary", "accuracy"), minimum=0.999))[0]
    assert decision["verdict"] in ("no-go", "collect more data") and "accuracy 0.999, which the charter asks for, is surely out of reach" in decision["reasons"][1]
    found = {"won": {}, "sure": ["linear"], "best": "linear", "reach": [], "short": 0.02, "idle": "constant",
             "over": {"linear": {"than": "constant", "value": .3, "low": .2, "high": .4}}}
    rising = {"way": "boosted", "doubling": {"value": .01, "low": .005, "high": .02}, "by_metric": {"value": .01, "low": .005, "high": .02}}
    said, reasons = assess.settle(found, rising, None, replace(AIM, minimum=0.9))
    assert said == "collect more data" and "4 times the rows" in reasons[-1]
    assert assess.settle(found | {"short": 0.05}, rising, None, replace(AIM, minimum=0.9))[0] == "no-go"


@pytest.mark.parametrize("rises,said", [(0.01, "collect more data"), (-0.01, "no-go")])
def test_what_looks_better_and_surely_rises_asks_for_more_rows(rises, said):
    found = {"sure": [], "best": "linear", "reach": ["linear"], "over": {"linear": {"than": "constant", "value": .05, "low": -.01, "high": .11}}}
    grown = {"way": "linear", "doubling": {"value": .02, "low": rises, "high": .05}, "by_metric": None}
    assert assess.settle(found, grown, None, AIM)[0] == said


def test_a_model_that_has_to_explain_itself_is_not_boosted():
    t = sums()
    t["y"] = np.where((t.x > 0) ^ (t["count"] > 4) ^ (t.plan == "a"), "yes", "no")  # boosting finds it, a sum does not
    free, bound = judged(t)[0], judged(t, replace(AIM, explainable=True))[0]
    assert free["best"] == "boosted" and bound["best"] != "boosted" and "explain itself" in bound["reasons"][-1]


def test_the_charter_is_quoted_and_the_decision_is_json():
    decision = judged(sums(n=400), replace(AIM, minimum=0.7))[0]
    assert decision["version"] == 2 and decision["charter"]["owner"] == "Care" and decision["charter"]["minimum"] == 0.7
    assert any("asks for roc_auc 0.7" in r for r in decision["reasons"])
    json.dumps(decision)
    flat = assess.as_metrics(decision, 400)
    assert flat["roc_auc"]["tree"]["value"] == decision["baselines"]["tree"]["metric"]
    page = assess.say_decision(decision | {"rules": {"rule": [], "tree": []}, "checks": [assess.check("ASSESS-01", True, 1, "`x`: knows")]})
    assert "Owner: Care" in page and "ASSESS-01 leakage" in page


def test_a_no_go_names_what_was_left_out_as_leaking():
    t = noise(0).assign(reason=lambda t: np.where(t.y == "yes", "price", "none"))
    decision, _, _, (contract, _, _) = judged(t, reason="leaking")
    left_out = assess.say_left_out(decision["verdict"], contract)
    assert decision["verdict"] == "no-go" and "`reason`" in left_out[0] and "role `feature` in data/contracts/t.yaml" in left_out[0]
    assert assess.say_left_out("go", contract) == [] == assess.say_left_out("no-go", judged(noise(0))[3][0])
    check = assess.check_leaks(coerce(t, contract), contract, P)
    assert not check["found"] and "Left out already, by the role `leaking`: `reason`" in check["words"]
    assert verdict(t, reason="feature") == "simpler rule"


def test_what_looks_better_says_how_many_rows_it_takes_to_be_sure():
    reasons = judged(ruled(3, 0, n=60), replace(AIM, costs=OFFER, capacity=0.1))[0]["reasons"]
    assert re.search(r"If the difference is real, it takes about [\d.]+ times the rows", reasons[1])
    over = {"than": "constant", "value": 1., "low": -1., "high": 3.}
    assert "about 4 times the rows" in assess._more_rows(over, AIM) and assess._more_rows(over | {"value": -1.}, AIM) == ""


def test_only_ways_that_surely_help_can_reach_the_minimum():
    found = judged(noise(1), replace(AIM, minimum=0.55))[2]
    assert found["sure"] == found["reach"] == []
    some = judged(sums(n=400), replace(AIM, minimum=0.55))[2]
    assert set(some["reach"]) <= set(some["sure"]) != set()


def test_capacity_holds_over_all_windows_of_an_order():
    aim = replace(AIM, costs=OFFER, capacity=0.15)
    _, tried, _, _ = judged(ruled(4, 0, n=60), aim)
    for order in (0, 1):
        windows = [i for i, o in enumerate(tried["which"]) if o == order]
        rows, acted = (sum(v) for v in zip(*((len(tried["data"][i]["judged"]), ways.decide_way(tried, i, np.tile([0., 1.], (len(tried["data"][i]["judged"]), 1)), aim).sum()) for i in windows)))
        assert acted == int(0.15*rows) > sum(int(0.15*len(tried["data"][i]["judged"])) for i in windows)   # windows of six rows have no room for whole rows


def test_amounts_with_lopsided_costs_say_what_means_cannot_do():
    decision = judged(sums(task="regression"), replace(AIM, costs={"over": 1., "under": 199.}))[0]
    assert decision["verdict"] == "no-go" and "an amount that 99.5 % of the cases stay below" in " ".join(decision["reasons"])
    assert not any("margin" in r for r in judged(sums(task="regression"), replace(AIM, costs={"over": 1., "under": 1.}))[0]["reasons"])


# few entities

@pytest.mark.parametrize("entities", [2, 3, 4, 5])
def test_few_entities_are_never_on_both_sides(entities):
    groups, y = np.arange(240) % entities, np.random.default_rng(0).integers(0, 2, 240)
    for parts in (make_folds(y, "binary", 5, 0, groups=groups)[0], forward_folds(y, "binary", 5, 0, 2, groups=groups)[0]):
        assert parts and all(not set(groups[a]) & set(groups[b]) for a, b in parts)
    assert "by group in 2 random orders" in forward_folds(y, "binary", 5, 0, 2, groups=groups)[2]


def test_an_early_and_a_late_entity_are_no_crash():
    t = sums(n=200).assign(day=pd.date_range("2024-01-01", periods=200), who=np.where(np.arange(200) < 100, "a", "b"))
    contract = propose(t, "t", "y", roles={"day": "time", "who": "group"})
    assert "different entities" in assess.check_shift(pd.DataFrame(inputs(t, contract)), contract, ties(t, contract), P)["words"]


# intervals

def test_intervals_hold_the_truth(monkeypatch):
    "AUC of a fixed column: what 60 tables say, against what a large table says"
    def made(seed, n):
        r = np.random.default_rng(seed); y = r.integers(0, 2, n)
        return pd.DataFrame({"x": r.normal(y, 1)}), y
    monkeypatch.setattr(ways, "WAYS", {w: ways.WAYS[w] for w in ("constant", "linear")})
    held, truth = 0, 0.7602
    for s in range(60):
        X, y = made(s, 200)
        contract = propose(X.assign(y=np.where(y, "yes", "no")), "t", "y")
        tried = ways.try_ways(X, y, contract, 3, s, orders=1)
        v = ways.interval(ways.wins(tried, tried["guessed"]["linear"], AIM), tried, 0.95)
        held += v["low"] <= truth <= v["high"]
    assert 53 <= held <= 60


def test_rows_that_belong_together_make_the_interval_wider():
    t = sums(n=300)
    twice = pd.concat([t.assign(who=t.index.astype(str))]*3, ignore_index=True)
    alone, together = (judged(x, **roles)[0]["baselines"]["linear"] for x, roles in ((twice.drop(columns="who"), {}), (twice, {"who": "group"})))
    assert together["high"] - together["low"] > 1.2*(alone["high"] - alone["low"])


# what is left to win

def test_wrong_labels_are_counted():
    for wrong in (0, 0.3):
        _, tried, found, (_, _, y) = judged(ruled(0, wrong, n=600))
        v = ways.label_noise(tried, found, y)
        assert v["low"] <= wrong <= v["high"] and assess.check_labels(v, propose(ruled(0), "t", "y"), P)["found"] == (wrong > 0)
    _, tried, found, (_, _, y) = judged(noise(0))
    assert ways.label_noise(tried, found, y)["share"] is None


def test_the_ceiling_is_that_of_rows_that_are_alike():
    X = pd.DataFrame({"a": np.tile(np.arange(4.), 50)}); y = np.where(np.arange(200) < 150, X.a > 1, X.a <= 1).astype(int)   # one in four is the other way round
    bound = ways.ceiling(X, y, "binary", main_metric("binary", "accuracy"))
    assert bound["value"] == 0.75 and "accuracy 0.75" in bound["words"]
    assert ways.ceiling(X, y*3., "regression", main_metric("regression"))["value"] == pytest.approx(3*np.sqrt(.75*.25), rel=0.01)
    assert ways.ceiling(pd.DataFrame({"a": np.arange(200.)}), y, "binary", AIM.metric) is None and "Hardly any two rows" in ways.say_ceiling(None)


# checks

def test_each_check_has_a_code_an_explanation_and_a_remedy():
    assert list(assess.CHECKS) == [f"ASSESS-{i:02}" for i in range(1, 12)] and all(name and remedy for name, remedy in assess.CHECKS.values())
    found = assess.check("ASSESS-05", True, 0.01, "1 % are rare.")
    assert set(found) == {"code", "name", "found", "number", "words", "remedy"}
    page = assess.say_checks([assess.check("ASSESS-01", False, 0, "Nothing."), found])
    assert page.index("ASSESS-05") < page.index("ASSESS-01") and found["remedy"] in page and assess.CHECKS["ASSESS-01"][1] not in page


def test_checks_speak_up_on_what_they_look_for():
    t = sums(n=400)
    leak = t.assign(reason=np.where(t.y == "yes", "price", ""))
    assert "`reason`" in assess.check_leaks(leak, propose(leak, "t", "y"), P)["words"]
    _, tried, found, (contract, X, y) = judged(ruled(0, 0))
    golden = assess.check_golden(X, y, tried, found, P)
    assert golden["found"] and "`x`" in golden["words"] and golden["number"] > 0.95
    _, tried, found, (contract, X, y) = judged(sums())
    assert not assess.check_golden(X, y, tried, found, P)["found"] and not assess.check_leaks(sums(), contract, P)["found"]
    assert not assess.check_worse(tried, found, AIM)["found"] and not assess.check_overfit(tried, found, AIM, P)["found"]
    rare = assess.check_balance(np.array([1]*5 + [0]*195), contract, P)
    assert rare["found"] and rare["number"] == 0.025 and "2.5 %" in rare["words"]
    few = assess.check_rows({"rows": 900, "rarest": 300, "entities": 12, "words": "900 rows"}, P)
    assert few["found"] and few["number"] == 12


def test_a_model_that_learned_noise_by_heart_is_told():
    _, tried, found, _ = judged(noise(3, 200))
    assert assess.check_overfit(tried, found | {"mean": {"linear": 0, "boosted": 1}}, AIM, P)["found"]


def test_rows_that_move_in_time_are_told():
    t = sums(n=400).assign(day=pd.date_range("2024-01-01", periods=400), seen=lambda t: t.day - pd.Timedelta(days=3), level=np.arange(400.))
    t.loc[5:8, "seen"] = pd.Timestamp("2026-01-01")
    contract = propose(t, "t", "y", roles={"day": "time", "seen": "feature", "level": "feature"})
    X, tied = pd.DataFrame(inputs(t, contract)), ties(t, contract)
    moved = assess.check_shift(X, contract, tied, P)
    assert moved["found"] and moved["number"] > 0.95 and "`level`" in moved["words"]
    assert assess.check_dates(X, t, contract)["number"] == 0.01
    still = contract.model_copy(update={"columns": [c for c in contract.columns if c.name not in ("level", "seen")]})
    assert not assess.check_shift(X.drop(columns=["level", "seen"]), still, tied, P)["found"]
    assert "No column says when" in assess.check_shift(X, contract, tied | {"time": None}, P)["words"]


# rules in words

def test_the_tree_in_words_is_what_the_tree_does():
    t = sums(3, 500).assign(ok=lambda t: t.x > 0)
    contract = propose(t, "t", "y")
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    model = make_pipeline(make_recipe(plan(contract, X, 50)), "tree", "binary").fit(X, y)
    lines, p, seen = say_tree(model, contract), model.predict_proba(X)[:, 1], 0
    for line in lines:
        said, share, rows = re.fullmatch(r"if (.*): yes in ([\d.e-]+) % \(([\d,]+) rows\)", line).groups()
        here = np.ones(len(X), bool)
        for part in said.split(" and "):
            missing = part.endswith(" or missing"); part = part.removesuffix(" or missing")
            if m := re.fullmatch(r"`(\w+)` is (not )?'?([^']*)'?", part):
                so = X[m[1]].astype(bool) == (m[3] == "true") if m[1] == "ok" else X[m[1]] == m[3]
                here &= ~so if m[2] else so
            else:
                name = re.search(r"`(\w+)`", part)[1]
                v, bound = X[name], eval(re.sub(r"`\w+`", "X[name]", part.replace("≤", "<=").replace("≥", ">=").replace(" = ", " == "))) if part.count("≤") + part.count("<") < 2 else None
                if bound is None: a, _, _, _, b = part.split(" "); bound = (v >= float(a)) & (v <= float(b)) if part.split(" ")[1] == "≤" else (v > float(a)) & (v <= float(b))
                here &= bound | (v.isna() & missing)
        assert abs(here.sum() - int(rows.replace(",", ""))) <= 2          # a cut is written with four digits
        assert p[here].mean()*100 == pytest.approx(float(share), abs=1.5)
        seen += here.sum()
    assert abs(seen - len(X)) <= 4 and len(lines) == model["model"].get_n_leaves() <= 8


def test_personal_levels_are_masked_in_rules():
    t = table(0, 300).assign(address=lambda t: t.plan).drop(columns="plan").assign(y=lambda t: np.where(t.address == "a", "yes", "no"))
    contract = propose(t, "t", "y", roles={"address": "feature"})
    contract = contract.model_copy(update={"columns": [c.model_copy(update={"personal": c.name == "address"}) for c in contract.columns]})
    X, y = pd.DataFrame(inputs(t, contract)), labels(t, contract)
    lines = say_tree(make_pipeline(make_recipe(plan(contract, X, 50)), "rule", "binary").fit(X, y), contract)
    assert "(masked)" in lines[0] and "'a'" not in " ".join(lines)


def test_an_unknown_candidate_is_an_error():
    assert CANDIDATES == ["dummy", "rule", "tree", "linear", "forest", "boosted", "lightgbm"]
    with pytest.raises(ProjectError, match="`florest` is no candidate; did you mean `forest`. Allowed: dummy, rule, tree"): make_pipeline(None, "florest", "binary")


# parameters

@pytest.mark.parametrize("key,value,says", [("enough", 2, "enough"), ("risk", 0.7, "risk"), ("folds", 2, "folds"), ("rows", 3, "rows"), ("gain", -1, "gain")])
def test_parameters_out_of_range_are_named(key, value, says):
    with pytest.raises(ProjectError, match=f"`assess.{says}`"): check_section(assess.Params, SAID | {key: value}, "assess")


def test_limits_are_checked():
    with pytest.raises(ProjectError, match="rare"): check_section(assess.Params, SAID | {"limits": SAID["limits"] | {"rare": 0.9}}, "assess")
    with pytest.raises(ProjectError, match="raer"): check_section(assess.Params, SAID | {"limits": SAID["limits"] | {"raer": 0.9}}, "assess")


# the same later stages

@pytest.mark.chains
@needs("train", "package", "predict")
def test_a_simpler_rule_is_served_like_any_model(tmp_path, home):
    (tmp_path/"rows.csv").write_text(ruled(5, 0.1, 1200).to_csv(index=False))
    house = clone(tmp_path/"house", home, frame__target="y", frame__minimum=None, frame__costs=None, frame__contact=None, frame__capacity=None, frame__today=None,
                  frame__metric=None, frame__positive=None, frame__sensitive=[], collect__source=str(tmp_path/"rows.csv"), collect__name="ruled", collect__roles={})
    house.sh(PACKAGE, "run", timeout=600)
    decision = house.json("data/assess/decision.json")
    assert decision["verdict"] == "simpler rule" and decision["use"] == "rule" and re.match(r"if `x` ≤ 0\.(29|30|3)", decision["rule"])
    assert [t["candidate"] for t in house.json("data/train/leaderboard.json")["trials"]] == ["rule"]
    assert (house.root/"data/package/bundle/model.onnx").exists() and len(pd.read_parquet(house.root/"data/predict/predictions.parquet")._score.unique()) == 2
