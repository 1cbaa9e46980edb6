"Concept drift and causes: false alarms at the rate that is promised, the power that is left, segments named, labels watched as they come, a rise that adds up"
import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import binom, norm
from sklearn.linear_model import LogisticRegression

from conftest import EXAMPLE
from mlcycle import concept
from mlcycle.bins import list_segments, place_judged, profile_of, read_answers, read_truth, watched_score
from mlcycle.cause import Parts, explain_loss, split_rise
from mlcycle.concept import ConceptSettings, adwin, cusum, has_river, label_order, learn_relation, leave_over, look_relation, run_since, watch_errors
from mlcycle.contract import Column, Contract, inputs
from mlcycle.core import ProjectError, check_section
from mlcycle.drift import profile_column
from mlcycle.errors import row_losses
from mlcycle.example import make_churn

SETTINGS = ConceptSettings(**EXAMPLE["monitor"]["concept"]).model_copy(update={"detector": "cusum"})
BARE = SETTINGS.model_copy(update={"floor": 0.}) # whatever is more than chance
LEVELS = np.array(["a", "b", "c", "d", "e"], dtype=object)
river = pytest.mark.skipif(not has_river(), reason="river is not installed")
DETECTORS = ["cusum", pytest.param("adwin", marks=river)]


def contract_of(task, **target):
    classes = {"binary": ["no", "yes"], "multiclass": ["red", "green", "blue"], "regression": None}[task]
    return Contract(name="t", task=task, positive="yes" if task == "binary" else None, classes=classes, columns=[Column(name="x", type="number", nullable=True, unit="EUR"), Column(name="z", type="number"), Column(name="level", type="category"),
        Column(name="y", type="number" if task == "regression" else "category", role="target", nullable=True, **target)])


def judged(rng, n, task="binary", rate=0.1, shift=0., where=None, slope=1., off=0., groups=1, wider=1., period="2024-01"):
    "A window: `shift` (in standard deviations of what the score leaves open) moves labels `where` it says; the score is `off` by as much everywhere and always; `groups` rows share their luck"
    entity = np.arange(n)//groups
    x, z, level = rng.normal(size=n), np.round(rng.exponential(2, n)), LEVELS[rng.integers(0, 4, n)]
    row = np.char.add(f"{period}/", np.arange(n).astype(str))
    rows = pd.DataFrame({"_id": row, "_row": row, "_at": pd.Timestamp(period), "_period": period, "_group": entity.astype(str), "_known": pd.Timestamp(period) + pd.Timedelta("40D"), "_label_period": period,
        "x": np.where(rng.random(n) < 0.1, np.nan, x), "z": z, "level": level})
    inside = np.ones(n, bool) if where is None else where(rows).to_numpy()
    luck, depth = rng.normal(size=n), 0.6*x + 0.3*(level == "b") + 0.3*rng.normal(size=n)
    if groups > 1: luck = np.sqrt(0.2)*luck + np.sqrt(0.8)*rng.normal(size=entity[-1] + 1)[entity]
    if task == "regression":
        size = 1 + np.abs(depth)
        return rows.assign(_value=20 + 5*depth + off, _target=20 + 5*depth*slope + size*wider*luck + shift*size*inside)
    if task == "multiclass":
        odds = np.column_stack([depth, -depth, np.zeros(n)])
        p, true = (np.exp(k*odds)/np.exp(k*odds).sum(1, keepdims=True) for k in (1, slope))
        true = true + shift*inside[:, None]*np.array([-.5, -.5, 1])*0.4
        y = (rng.random(n)[:, None] > np.clip(true, 0.01, 1).cumsum(1)).sum(1).clip(0, 2)
        return rows.assign(_score=p.max(1), **{f"_score_{c}": p[:, i] for i, c in enumerate(["red", "green", "blue"])}, _target=np.array(["red", "green", "blue"])[y])
    line = norm.ppf(rate)*np.sqrt(1.5) + depth
    return rows.assign(_score=norm.cdf(line + off), _target=np.where(luck < line*slope + (1 - slope)*norm.ppf(rate)*np.sqrt(1.5) + shift*inside, "yes", "no"))


def remember(rows, contract):
    "The profile of these rows"
    columns, answers = inputs(rows, contract), read_answers(rows, contract)
    profile = {"columns": {n: profile_column(v, contract.column(n).type, 10) for n, v in columns.items()}, "scores": profile_column(watched_score(answers), "number", 10)}
    return profile | {"relation": learn_relation(columns, read_truth(rows, contract), answers.reshape(len(rows), -1), contract, profile, rows["_group"].to_numpy())}


def tries(times, window, task="binary", then=1500, each=1, changed={}, **how):
    "In how many of many windows something is said to have moved; `each` windows share a reference"
    contract, found = contract_of(task), 0
    for i in range(times):
        rng = np.random.default_rng(i)
        if i % each == 0: profile = remember(judged(rng, then, task, **how), contract)
        found += look_relation(judged(rng, window, task, **how | changed), contract, profile, BARE)["moved"]
    return found


@pytest.fixture(scope="module")
def memory(): return {task: remember(judged(np.random.default_rng(99), 5000, task, rate=0.2), contract_of(task)) for task in ("binary", "multiclass", "regression")}


# ---- windows ----

def test_the_false_alarm_rate_holds_without_any_floor():
    found = tries(400, 400, each=8)
    print(f"{found} false alarms in 400 windows of 400 labels, 5 % asked for")
    assert found <= binom.isf(0.001, 400, 0.05) and found/400 <= 0.075


@pytest.mark.chains
@pytest.mark.parametrize("task, how", [("binary", {"rate": 0.02}), ("binary", {"off": 0.3}), ("binary", {"groups": 5}), ("regression", {}), ("regression", {"groups": 5}), ("multiclass", {})])
@pytest.mark.parametrize("window", [200, 3000])
def test_the_false_alarm_rate_holds_for_each_kind_of_label(task, how, window):
    found = tries(400, window, task, then=3000, each=8, **how)
    print(f"{task} {how}, windows of {window}: {found/400:.3f}")
    assert found/400 <= 0.075


@pytest.mark.chains
def test_power():
    for window in (500, 2000):
        for shift in (0.1, 0.2):
            everywhere, inside = tries(100, window, then=5000, each=10, changed={"shift": shift}), tries(100, window, then=5000, each=10, changed={"shift": 2*shift, "where": lambda r: r["x"] > 0.5})
            print(f"{window} labels: a shift of {shift} standard deviations found in {everywhere} %, of {2*shift} in three tenths of the rows in {inside} %")
    assert everywhere >= 95 and inside >= 90


def test_groups_are_not_taken_for_independent_rows():
    "Twenty rows share their luck: without their groups, half of the quiet windows would be alarms"
    contract, alarms = contract_of("binary"), np.zeros(2)
    for i in range(24):
        rng = np.random.default_rng(i)
        then, rows = judged(rng, 2000, groups=20), judged(rng, 2000, groups=20)
        alarms += [look_relation(now, contract, remember(past, contract), BARE)["moved"] for past, now in ((then, rows), [t.assign(_group=t["_row"]) for t in (then, rows)])]
    assert alarms[0] <= 4 and alarms[1] >= 9, alarms


def test_a_model_that_has_always_been_off_is_no_alarm(memory):
    rng, contract = np.random.default_rng(3), contract_of("binary")
    rows = judged(rng, 4000, rate=0.2, off=0.4)
    crooked = remember(judged(rng, 5000, rate=0.2, off=0.4), contract)
    assert not look_relation(rows, contract, crooked, SETTINGS)["moved"] and look_relation(rows, contract, memory["binary"], SETTINGS)["moved"]


def test_inputs_that_move_are_no_concept_drift(memory):
    "Only high x, a mix of its own: the label follows the score all the same"
    rows = judged(np.random.default_rng(4), 9000, rate=0.2)
    found = look_relation(rows[(rows["x"] > 0.3) & (rows["level"] != "c")], contract_of("binary"), memory["binary"], SETTINGS)
    assert not found["moved"] and "as it did" in found["words"] and found["labelled"] < 3000


def test_the_segment_is_named_and_the_rest_is_not(memory):
    rows = judged(np.random.default_rng(5), 3000, rate=0.2, shift=0.8, where=lambda r: r["x"] > 0.67)
    found = look_relation(rows, contract_of("binary"), memory["binary"], SETTINGS)
    segment = found["segment"]
    assert found["moved"] and segment["column"] == "x" and segment["level"].startswith("≥ 0.") and segment["level"].endswith(" EUR") and segment["p"] < 0.001
    low, high = float(segment["level"].split()[1]), rows[rows["x"] >= float(segment["level"].split()[1])]
    assert 0.4 < low < 1 and segment["rows"] == pytest.approx(len(high), abs=3) and segment["observed"] == pytest.approx((high["_target"] == "yes").mean(), abs=0.01)
    assert f"Where `x` {segment['level']}" in found["words"] and "have `y` = yes where the score says" in found["words"]


def test_what_moves_everywhere_has_no_segment(memory):
    found = look_relation(judged(np.random.default_rng(6), 3000, rate=0.2, shift=0.3), contract_of("binary"), memory["binary"], SETTINGS)
    assert found["moved"] and found["segment"] is None and found["shift"] > 0.04 and found["words"].startswith("Of all 3,000 rows")


def test_a_level_never_seen_is_told_as_one(memory):
    rng = np.random.default_rng(7)
    rows = judged(rng, 3000, rate=0.2)
    new = np.arange(3000) % 8 == 0
    rows.loc[new, ["level", "_target"]] = np.column_stack([np.full(new.sum(), "family"), np.where(rng.random(new.sum()) < 0.6, "yes", "no")])
    found = look_relation(rows, contract_of("binary"), memory["binary"], SETTINGS)
    assert found["segment"]["unseen"] and found["segment"]["column"] == "level" and "which the model has never learned" in found["words"]


@pytest.mark.parametrize("task, changed, words", [("binary", {"slope": 0.4}, "prediction"), ("regression", {"shift": 0.2}, "on average where the predictions say"), ("regression", {"wider": 1.4}, "predictions are off by"),
    ("regression", {"slope": 0.9}, ""), ("multiclass", {"shift": 0.4}, "have `y` = blue where the score says"), ("multiclass", {"slope": 0.3}, "")])
def test_each_kind_of_change_is_seen(task, changed, words, memory):
    rate = {"rate": 0.2} if task == "binary" else {}
    found = look_relation(judged(np.random.default_rng(8), 3000, task, **rate, **changed), contract_of(task), memory[task], SETTINGS)
    assert found["moved"] and words in found["words"], found["words"]


def test_what_is_significant_and_too_small_is_no_alarm(memory):
    rows = judged(np.random.default_rng(9), 21_000, rate=0.2, shift=0.12)
    moved = look_relation(rows, contract_of("binary"), memory["binary"], BARE)
    assert moved["moved"] and "of 20,000 rows drawn from 21,000, " in moved["words"].lower() and moved["labelled"] == 21_000
    found = look_relation(rows, contract_of("binary"), memory["binary"], SETTINGS.model_copy(update={"floor": 0.2}))
    assert found["p"] < 0.05 and not found["moved"]


def test_too_few_labels_one_class_and_an_old_bundle(memory):
    rng, contract, profile = np.random.default_rng(10), contract_of("binary"), memory["binary"]
    rows = judged(rng, 1000)
    late = rows.assign(_target=rows["_target"].where(rows.index < 60))
    assert look_relation(late, contract, profile, SETTINGS)["p"] is None and "60 labels are too few" in look_relation(late, contract, profile, SETTINGS)["words"]
    assert look_relation(rows.assign(_target=None), contract, profile, SETTINGS)["moved"] is False
    assert look_relation(rows.assign(_target="no"), contract, profile, SETTINGS)["moved"] and look_relation(rows.drop(columns="z"), contract, profile, SETTINGS)["p"] is not None
    assert "dvc repro package" in look_relation(rows, contract, {k: v for k, v in profile.items() if k != "relation"}, SETTINGS)["words"]


def test_nothing_is_remembered_or_said_of_people(memory):
    rng = np.random.default_rng(11)
    hidden = contract_of("binary", personal=True)
    hidden.columns.append(Column(name="phone", type="category", personal=True))
    rows = judged(rng, 3000, rate=0.2, shift=1.2, where=lambda r: r["x"] > 0.5).assign(phone=lambda r: np.where(r["x"] > 0.5, "0301", "0302"))
    profile = memory["binary"]
    found = look_relation(rows, hidden, profile, SETTINGS)
    assert found["moved"] and "(masked)" in found["words"] and "= yes" not in found["words"] and "phone" not in str([found, explain_loss(rows, hidden, profile, SETTINGS)])
    few = judged(rng, 2000, rate=0.2).assign(level=lambda r: np.where(r.index == 7, "Ann", r["level"]))
    relation = remember(few, contract_of("binary"))
    place = list(relation["columns"]["level"]["categories"]).index("Ann")
    assert all(not np.any(values[place]) for values in relation["relation"]["columns"]["level"].values()) # one row's label would be its


def test_since_when():
    entries = [{"period": f"p{i}", "relation": {"p": p, "moved": moved, "words": "It moved."}} for i, (p, moved) in enumerate([(.5, False), (.01, True), (None, False), (.01, True), (.9, False), (.01, True)])]
    assert [e["relation"].get("since") for e in run_since(entries)] == [None, "p1", None, "p1", None, "p5"] and run_since(run_since(entries)) == run_since(entries)
    assert run_since(entries)[3]["relation"]["words"] == "It moved (since p1)." and run_since([{"period": "p0", "relation": None}])[0]["relation"] is None


# ---- the built-in example: prices rise in 2024-08, and labels of 2024-07 look two months ahead ----

@pytest.fixture(scope="module")
def churn():
    "Judged rows of the example from 2024-06 on, by a model that was learned until then; the profile of half a year before"
    from lightgbm import LGBMClassifier
    seen = ["plan", "price", "discount", "tenure_months", "age_band", "logins", "hours_watched", "support_contacts", "failed_payments", "payment_method"]
    table = make_churn().drop_duplicates().dropna(subset="churned").assign(payment_method=lambda t: t["payment_method"].str.strip().str.lower()).reset_index(drop=True)
    texts = ["plan", "age_band", "payment_method"]
    contract = Contract(name="churn", task="binary", positive="yes", classes=["no", "yes"], columns=[*(Column(name=c, type="category" if c in texts else "number", nullable=True) for c in seen),
        Column(name="churned", type="category", role="target", nullable=True)])
    X, month = table[seen].assign(**{c: table[c].astype("category").cat.codes for c in texts}), table["month"].dt.strftime("%Y-%m").to_numpy()
    learn, then = month < "2023-12", (month >= "2023-12") & (month < "2024-06")
    raw = LGBMClassifier(n_estimators=60, num_leaves=15, min_child_samples=40, n_jobs=1, verbose=-1).fit(X[learn], table["churned"][learn] == "yes").predict_proba(X)[:, 1]
    line = LogisticRegression().fit(logit(raw[then])[:, None], table["churned"][then])
    known = table["churn_known_on"]
    rows = table[seen].assign(_id=np.arange(len(table)).astype(str), _row=np.arange(len(table)).astype(str), _at=table["month"], _period=month, _known=known, _label_period=known.dt.strftime("%Y-%m"),
        _group=table["customer_id"], _score=line.predict_proba(logit(raw)[:, None])[:, 1], _target=table["churned"])
    return rows[month >= "2024-06"].reset_index(drop=True), contract, remember(rows[then], contract)


def test_the_price_rise_of_the_example_is_found_in_time_and_in_the_right_rows(churn):
    rows, contract, profile = churn
    windows = {name: look_relation(part, contract, profile, SETTINGS) for name, part in rows.groupby("_period")}
    for name, found in windows.items(): print(name, found["words"])
    assert [name for name, found in windows.items() if found["moved"]] == ["2024-07", "2024-08", "2024-09", "2024-10"]
    assert windows["2024-08"]["segment"]["column"] == "tenure_months" and windows["2024-08"]["segment"]["level"].startswith("≥") # those of long standing leave
    causes = {name: explain_loss(part, contract, profile, SETTINGS) for name, part in rows.groupby("_period")}
    assert causes["2024-06"] == [] and any(c["column"] == "tenure_months" and c["harder"] > c["mix"] for c in causes["2024-08"])


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_stream_finds_the_price_rise_with_its_first_labels(detector, churn):
    rows, contract, profile = churn
    found = watch_errors(rows, contract, profile, SETTINGS.model_copy(update={"detector": detector}))[0]
    print(found["words"])
    assert found["told"] == "2024-09" and found["since"] == "2024-07" and found["larger"]


# ---- label by label ----

def stream(rng, months=6, n=1500, change=4, **changed):
    return pd.concat([judged(rng, n, rate=0.2, period=f"2024-0{i}", **(changed if i >= change else {})) for i in range(1, months + 1)], ignore_index=True)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_jump_of_the_errors_is_found_and_dated(detector, task, memory):
    rng, settings = np.random.default_rng(12), SETTINGS.model_copy(update={"detector": detector})
    rows = pd.concat([judged(rng, 1500, task, period=f"2024-0{i}", **({"rate": 0.2} if task == "binary" else {}), **({"shift": 0.5 if task == "binary" else 1.} if i >= 4 else {})) for i in range(1, 7)], ignore_index=True)
    found = watch_errors(rows, contract_of(task), memory[task], settings)
    print(found[0]["words"])
    assert [a["since"] for a in found] == ["2024-04"] and found[0]["told"] in ("2024-04", "2024-05") and found[0]["known"].startswith("2024-05" if found[0]["told"] == "2024-04" else "2024-06")
    assert found[0]["larger"] and found[0]["error"] > found[0]["expected"] and detector.upper() in found[0]["words"] and found[0]["row"] in set(rows["_row"])


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_comes_and_goes_again_is_told_twice(detector, memory):
    rng = np.random.default_rng(21)
    rows = pd.concat([judged(rng, 3000, rate=0.2, period=f"2024-0{i}", shift=0.8*(3 <= i <= 5)) for i in range(1, 9)], ignore_index=True)
    found = watch_errors(rows, contract_of("binary"), memory["binary"], SETTINGS.model_copy(update={"detector": detector}))
    assert [(a["since"], a["larger"]) for a in found] == [("2024-03", True), ("2024-06", False)]


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_quiet_stream_has_no_alarm(detector, memory):
    settings = SETTINGS.model_copy(update={"detector": detector})
    assert sum(len(watch_errors(stream(np.random.default_rng(i), change=9), contract_of("binary"), memory["binary"], settings)) for i in range(5)) <= 1 # 45,000 labels: less than one on average


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_run_length_is_at_least_what_is_stated(detector):
    "Labels to the first false alarm, of streams four times as long as is stated"
    length, ends = 5000, []
    for i in range(40 if detector == "cusum" else 15):
        rng = np.random.default_rng(i)
        p = rng.beta(2, 18, 4*length)
        left, sure = leave_over((rng.random(len(p)) < p).astype(int), np.column_stack([1 - p, p])), {"mean": 0., "together": 1., "doubt": 0., "rows": 100_000}
        then = sure | {"variance": float(left.error_chance.mean())}
        alarms = adwin(left.error, then, length) if detector == "adwin" else cusum(left.error, left.error_chance, then, length)
        ends.append(alarms[0][0] if alarms else np.inf)
    ends, alarms = np.minimum(ends, 4*length), np.isfinite(ends).sum()
    print(f"{detector}: {alarms} alarms, one in {ends.sum()/max(alarms, 1):,.0f} labels; {length:,} stated")
    assert ends.sum()/max(alarms, 1) > 0.75*length # within the chance of so few streams


@river
def test_adwin_knows_what_was_before_the_first_label(memory):
    "It is shown the reference: what has been wrong since the first label is found, too"
    rows = stream(np.random.default_rng(13), months=3, change=1, shift=0.5)
    found = watch_errors(rows, contract_of("binary"), memory["binary"], SETTINGS.model_copy(update={"detector": "adwin"}))
    assert found and found[0]["since"] == "2024-01" and found[0]["told"] == "2024-01"


def test_labels_are_taken_in_the_order_in_which_they_came():
    rows = judged(np.random.default_rng(14), 200)
    late = pd.concat([rows, rows.assign(_id=rows["_id"] + "b", _period="2024-02", _label_period="2024-02", _known=pd.Timestamp("2024-02-01"))], ignore_index=True)
    late.loc[:50, ["_label_period", "_known"]] = ["2024-03", pd.Timestamp("2024-03-05")]
    order = label_order(late)
    assert set(order[-51:]) == set(range(51)) and late["_label_period"].iloc[order].is_monotonic_increasing
    by_level = late.sort_values("level", kind="stable").reset_index(drop=True) # those that came together are in an order by lot, not the file's
    assert by_level["_id"].iloc[label_order(by_level)].tolist() == late["_id"].iloc[order].tolist() and not late["level"].iloc[order[:100]].is_monotonic_increasing
    assert len(label_order(late.assign(_known=pd.NaT, _at=pd.NaT))) == 400


def test_a_detector_that_is_not_there_is_told(monkeypatch, memory):
    rows = stream(np.random.default_rng(15), months=2)
    assert watch_errors(rows.assign(_target=None), contract_of("binary"), memory["binary"], SETTINGS) == [] == watch_errors(rows, contract_of("binary"), {}, SETTINGS)
    monkeypatch.setattr(concept, "has_river", lambda: False)
    with pytest.raises(ProjectError, match="river is not installed.*cusum"): watch_errors(rows, contract_of("binary"), memory["binary"], SETTINGS.model_copy(update={"detector": "adwin"}))
    assert concept.choose_detector("auto") == "cusum"


@pytest.mark.parametrize("key, value, words", [("false_alarms", 0, "greater than 0"), ("floor", -1, "greater than or equal to 0"), ("least", 5, "greater than or equal to 20"), ("segment_rows", 1, "greater than or equal to 10"),
    ("detector", "ddm", "auto"), ("run_length", 10, "greater than or equal to 1000")])
def test_wrong_settings_are_told(key, value, words):
    with pytest.raises(ProjectError, match=key) as e: check_section(ConceptSettings, SETTINGS.model_dump() | {key: value}, "monitor.concept")
    assert words in str(e.value)


# ---- causes ----

def test_the_split_adds_up_to_the_whole(memory):
    "Mix and harder, over the bins of every column: the rise, to the last digit"
    rng, contract = np.random.default_rng(16), contract_of("binary")
    past = judged(rng, 4000, rate=0.2)
    profile, rows = remember(past, contract), judged(rng, 3000, rate=0.2, shift=0.5, where=lambda r: r["level"] == "b").query("x > -0.5 or z > 2")
    losses = row_losses(read_truth(rows, contract), read_answers(rows, contract), "binary")
    whole = losses.mean() - row_losses(read_truth(past, contract), read_answers(past, contract), "binary").mean()
    for name, place in place_judged(rows, contract, profile).items():
        then = profile["relation"]["columns"][name]
        size = len(then["rows"])
        parts = split_rise(Parts(*(np.array(then[k]) for k in ("rows", "loss", "loss_noise"))), Parts(np.bincount(place, minlength=size), np.bincount(place, losses, size), np.ones(size)))
        assert (parts["mix"] + parts["harder"]).sum() == pytest.approx(whole, abs=1e-12), name


def test_a_harder_kind_is_told_from_more_of_a_hard_kind(memory):
    rng, contract, profile = np.random.default_rng(17), contract_of("binary"), memory["binary"]
    harder = explain_loss(judged(rng, 3000, rate=0.2, shift=1., where=lambda r: r["level"] == "a"), contract, profile, SETTINGS)
    assert harder[0]["column"] == "level" and harder[0]["level"] == "is 'a'" and harder[0]["share_of_loss"] > 0.7 and harder[0]["harder"] > 5*abs(harder[0]["mix"]) and "harder than they were" in harder[0]["words"]
    many = judged(rng, 6000, rate=0.2)
    more = explain_loss(many[(many["x"] > 0.5) | (rng.random(6000) < 0.3)], contract, profile, SETTINGS)
    assert more[0]["column"] == "x" and more[0]["mix"] > 2*abs(more[0]["harder"]) and any(w in more[0]["words"] for w in ("more of these hard rows", "fewer of these easy rows"))
    unlabelled = explain_loss(many[many["x"] > 0.5].assign(_target=None), contract, profile, SETTINGS)
    assert unlabelled[0]["column"] == "x" and unlabelled[0]["words"].startswith("By the scores alone") and unlabelled[0]["loss_now"] > 0


def test_regression_has_causes_too(memory):
    rng, contract, profile = np.random.default_rng(18), contract_of("regression"), memory["regression"]
    found = explain_loss(judged(rng, 3000, "regression", shift=2., where=lambda r: r["z"] >= 3), contract, profile, SETTINGS)
    assert found[0]["column"] == "z" and found[0]["level"].startswith("≥") and found[0]["p"] < 0.01
    assert explain_loss(judged(rng, 3000, "regression").query("x > 1").assign(_target=np.nan), contract, profile, SETTINGS)[0]["column"] == "x"


def test_nothing_is_explained_where_nothing_has_risen(memory):
    contract, profile = contract_of("binary"), memory["binary"]
    told = [explain_loss(judged(np.random.default_rng(100 + i), 800, rate=0.2), contract, profile, SETTINGS) for i in range(40)]
    assert sum(bool(t) for t in told) <= 5 # at most 5 % of the quiet windows
    better = judged(np.random.default_rng(19), 2000, rate=0.2).query("x < -0.5")
    assert explain_loss(better, contract, profile, SETTINGS) == [] == explain_loss(better.head(30), contract, profile, SETTINGS) == explain_loss(better, contract, {}, SETTINGS)


def test_a_segment_is_what_its_words_say(memory):
    rows, contract, profile = judged(np.random.default_rng(20), 500), contract_of("binary"), memory["binary"]
    place, checks = place_judged(rows, contract, profile)["x"], 0
    for words, inside in list_segments(profile_of(profile)["x"]):
        if words.startswith(("<", "≥")):
            edge = next(e for e in profile["columns"]["x"]["edges"] if f"{e:.4g}" == words.split()[1])
            so, checks = (rows["x"] < edge) if words[0] == "<" else (rows["x"] >= edge), checks + 1
        elif words == "is missing": so, checks = rows["x"].isna(), checks + 1
        else: continue
        assert np.array_equal(inside[place], so.to_numpy()), words
    assert checks == 19
