"The judged table: one form for files and logs, windows that stay as they are, broken logs told and mended, and warnings about data at the rate that is promised"
import numpy as np
import pandas as pd
import pytest

from conftest import EXAMPLE
from mlcycle.contract import Column, Contract
from mlcycle.core import ProjectError, check_section
from mlcycle.frame import Params, charter, goal
from mlcycle.log import now_text, open_log, read_log
from mlcycle.window import (QualitySettings, answer_skew, check_rows, contract_breaks, freshness, goal_of, input_skew, live_rows, look_quality, missing_rates, name_windows, out_of_range,
    replay_rows, seen_from, unseen_categories, volume)

QUALITY = QualitySettings(false_alarms=0.05, floor=0.01, volume=0.3, sample=100, pause=3, seed=0)
COLUMNS = [Column(name="logins", type="number", nullable=True, minimum=0, maximum=30, observed={"missing": 0.1}), Column(name="plan", type="category", categories=["basic", "pro"]),
    Column(name="phone", type="category", personal=True, nullable=True)]
CONTRACT = Contract(name="churn", task="binary", positive="yes", classes=["no", "yes"], columns=[*COLUMNS, Column(name="day", type="datetime", role="time"), Column(name="race", type="category", role="forbidden", sensitive=True),
    Column(name="customer", type="text", role="group"), Column(name="known_on", type="datetime", role="arrival"), Column(name="left", type="category", role="target", nullable=True)])


def files(n=40, seed=0):
    "A replay's two files: four windows of ten rows, labels a window later, the last ones not yet"
    rng, period = np.random.default_rng(seed), np.repeat(["2024-07", "2024-08", "2024-09", "2024-10"], n//4)
    day = pd.to_datetime(pd.Series(period)) + pd.to_timedelta(rng.integers(0, 28, n), unit="D")
    known = day + pd.Timedelta("31D")
    late = pd.Series(period == "2024-10")
    production = pd.DataFrame({"_row": [f"r{i}" for i in range(n)], "day": day, "known_on": known, "customer": [f"c{i % 7}" for i in range(n)], "race": rng.choice(["a", "b"], n),
        "left": pd.Series(rng.choice(["no", "yes"], n)).mask(late), "_label_period": known.dt.strftime("%Y-%m")})
    log = pd.DataFrame({"_id": [f"i{i}" for i in range(n)], "_row": production["_row"], "_period": period, "_digest": "d1", "_label": "no", "_score": rng.random(n), "logins": rng.integers(0, 20, n)*1., "plan": rng.choice(["basic", "pro"], n)})
    return log, production


def rows(): return replay_rows(*files(), CONTRACT)


def part(n=6, role="champion", **changed):
    "What `read_log` gives: one answer a day"
    at = pd.date_range("2026-01-01", periods=n, freq="D").strftime("%Y-%m-%dT%H:%M:%S.%fZ").tolist()
    return {"_at": at, "_id": [f"i{i}" for i in range(n)], "_request": ["q"]*n, "_row": [f"q/{i}" for i in range(n)], "_digest": ["d1"]*n, "_role": [role]*n, "_label": ["no"]*n, "_score": [0.2]*n,
        "_truth": ["yes"] + [None]*(n - 1), "_known": [at[min(2, n - 1)]] + [None]*(n - 1), "logins": [3]*n, "plan": ["pro"]*n} | changed


def rules(found): return [f["rule"] for f in found]


def test_replay_gives_each_prediction_time_label_and_group():
    table = rows()
    assert table["_period"].is_monotonic_increasing and table["_group"].nunique() == 7 and set(table["race"]) == {"a", "b"}
    assert table["_target"].notna().sum() == 30 and table["_known"].isna().sum() == 10 and table["_label_period"].isna().sum() == 10
    assert (table["_known"] - table["_at"]).dropna().eq(pd.Timedelta("31D")).all()
    assert table.columns.tolist() == replay_rows(*files(), CONTRACT).columns.tolist()


def test_a_label_that_is_dated_but_missing_is_not_known():
    log, production = files()
    table = replay_rows(log, production.assign(left=None), CONTRACT)
    assert table[["_target", "_known", "_label_period"]].isna().all().all()


def test_a_log_of_other_data_says_what_to_do():
    log, production = files()
    with pytest.raises(ProjectError, match="30 predictions are of rows .*dvc repro monitor"): replay_rows(log, production.head(10), CONTRACT)


def test_rows_without_dates_have_none():
    plain = CONTRACT.model_copy(update={"columns": [c for c in CONTRACT.columns if c.role not in ("time", "arrival")]})
    table = replay_rows(*files(), plain)
    assert table["_at"].isna().all() and table["_known"].isna().all() and table["_label_period"].notna().sum() == 30


def test_nothing_is_seen_before_it_came():
    table = rows()
    for period in sorted(set(table["_period"])):
        then = seen_from(table, period)
        assert (then["_period"] <= period).all() and len(then) == (table["_period"] <= period).sum()
        there = then["_target"].notna()
        assert (then.loc[there, "_label_period"] <= period).all() and then.loc[~there, ["_known", "_label_period"]].isna().all().all()
        assert there.sum() == (table["_label_period"] <= period).sum()
    assert seen_from(table, "2024-01").empty and seen_from(table, "2025-01").equals(table)


def test_a_servers_log_becomes_the_same_table(tmp_path):
    log = open_log(None, tmp_path)
    log.know("ab", CONTRACT)
    asked = lambda i, role="champion": {"id": f"{i:03}", "request": "r", "row": f"r/{i}", "at": now_text(), "model": "churn", "version": "1", "digest": "ab", "role": role, "key": "shop", "label": "yes", "score": 0.7,
        "scores": {"no": 0.3, "yes": 0.7}, "inputs": {"plan": "pro", "logins": i, "phone": "555-0199"}, "warnings": []}
    assert log.put([asked(i) for i in range(5)] + [asked(9, "shadow")])
    for told in ("no", "yes"): assert log.feedback([{"id": "001", "model": "churn", "label": told, "at": now_text(), "key": "shop", "request": told}])
    log.close()
    table, told = check_rows(live_rows(read_log(None, "churn", folder=tmp_path, size=2), CONTRACT, 3), CONTRACT, "ab")
    assert table["_id"].tolist() == [f"{i:03}" for i in range(5)] and table["_period"].tolist() == ["w000001"]*3 + ["w000002"]*2
    assert table["_target"].fillna("").tolist() == ["", "yes", "", "", ""] and (table["_known"] >= table["_at"]).sum() == 1 and table["_label_period"][1] == "w000002" # the label that came last
    assert table["logins"].tolist() == [0, 1, 2, 3, 4] and "phone" not in table and rules(told) == ["not logged"]
    assert len(live_rows(read_log(None, "churn", folder=tmp_path), CONTRACT, "day", ("shadow",))) == 1


def test_windows_stay_as_they_are_when_the_log_grows():
    short, long = (live_rows([part(n)], CONTRACT, 2) for n in (5, 9))
    assert long["_period"][:5].tolist() == short["_period"].tolist() == ["w000001"]*2 + ["w000002"]*2 + ["w000003"] and short["_label_period"][0] == "w000002"
    assert live_rows([part(3), part(9)], CONTRACT, "week")["_period"].tolist()[-1] == "2026-W02"
    many = name_windows(pd.Series(pd.date_range("2026-01-01", periods=12_000, freq="min")), 1)
    assert list(many) == sorted(many)


def test_other_windows_and_empty_logs_say_what_is_allowed():
    with pytest.raises(ProjectError, match="did you mean `month`.*number of rows"): live_rows([part()], CONTRACT, "mont")
    for parts in ([], [part(role="canary")]):
        with pytest.raises(ProjectError, match="nothing to monitor yet"): live_rows(parts, CONTRACT, "day")
    with pytest.raises(ProjectError, match="1 answers without a readable time"): live_rows([part(2, _at=["2026-01-01T00:00:00Z", "soon"])], CONTRACT, "day")
    with pytest.raises(ProjectError, match="is empty"): check_rows(rows().head(0), CONTRACT)


def test_one_row_and_no_labels_are_no_fault():
    for table in (rows().head(1), rows().assign(_target=None, _known=pd.NaT, _label_period=None)):
        mended, told = check_rows(table, CONTRACT, "d1")
        assert rules(told) == ["not logged"] and len(mended) == len(table) # `phone` is not in the log


def test_the_same_prediction_twice_counts_once():
    table = rows()
    mended, told = check_rows(pd.concat([table, table.head(3).assign(_score=0.99)]), CONTRACT)
    assert rules(told)[0] == "duplicate" and told[0]["count"] == 3 and len(mended) == len(table) and not (mended["_score"] == 0.99).any()


def test_a_clock_that_goes_backwards_is_told():
    table = live_rows([part(6)], CONTRACT, "day")
    back = table.assign(_at=table["_at"].where(table.index != 3, pd.Timestamp("2025-12-01")), _known=table["_known"].where(table.index != 0, pd.Timestamp("2025-01-01")))
    mended, told = check_rows(back, CONTRACT, now=pd.Timestamp("2026-01-05"))
    assert [(f["rule"], f["count"]) for f in told if f["rule"] == "clock"] == [("clock", 1), ("clock", 1), ("clock", 1)] # backwards, a label before its question, a day that is yet to come
    assert mended["_period"].is_monotonic_increasing and not (mended["_known"] < mended["_at"]).any()
    backwards = part(4, _at=["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"])
    assert live_rows([backwards], CONTRACT, "day")["_period"].tolist() == ["2026-01-03", "2026-01-04", "2026-01-04", "2026-01-05"] # never a window that was over


def test_answers_of_another_bundle_are_left_out_and_told():
    table = rows()
    mended, told = check_rows(table.assign(_digest=["other"]*5 + ["d1"]*35), CONTRACT, "d1")
    assert len(mended) == 35 and told[0]["rule"] == "bundle" and told[0]["count"] == 5
    with pytest.raises(ProjectError, match="written by the bundle d1, and the one to be monitored is a0a0"): check_rows(table, CONTRACT, "a0"*32)


def test_labels_that_are_none_are_told_and_forgotten():
    table = rows()
    mended, told = check_rows(table.assign(_target=["perhaps", "NO"] + ["no"]*38), CONTRACT)
    assert told[0] | {"found": ""} == {"rule": "label", "column": "left", "found": "", "allowed": "no, yes", "count": 2, "share": 0.05, "severity": "warning"} and "'perhaps'" in told[0]["found"]
    assert mended["_target"].isna().sum() == 2 and mended["_known"].isna().sum() >= 2
    price = Contract(name="price", task="regression", columns=[COLUMNS[0], Column(name="price", type="number", role="target", personal=True)])
    mended, told = check_rows(table.assign(_target=["12.5", "dear", "inf"] + [None]*37), price)
    assert mended["_target"].dropna().tolist() == [12.5] and "dear" not in told[0]["found"] and told[0]["count"] == 2


def test_new_columns_and_unreadable_values_are_told():
    table = live_rows([part(4, planned="x", plan=["pro", 3, "gold", "pro"], logins=[1, "many", None, 2.5])], CONTRACT, "day")
    mended, told = check_rows(table, CONTRACT)
    assert sorted(rules(told)) == ["new column", "not logged", "type"] and "planned" not in mended and mended["plan"].tolist() == ["pro", "3", "gold", "pro"] and mended["logins"].isna().tolist() == [False, True, True, False]


def week(rng, n=400, gone=0.1, high=20, plan=("basic", "pro"), **more):
    return pd.DataFrame({"logins": np.where(rng.random(n) < gone, np.nan, rng.integers(0, high, n)), "plan": rng.choice(plan, n)} | more)


def test_warnings_about_missing_values_and_ranges_come_at_the_promised_rate():
    rng, times, wide = np.random.default_rng(0), 150, QUALITY.model_copy(update={"floor": 0.})
    many = CONTRACT.model_copy(update={"columns": [Column(name=f"c{i}", type="number", nullable=True) for i in range(6)] + [CONTRACT.target]})
    gaps = ranges = 0
    for _ in range(times):
        then, now = (pd.DataFrame(np.where(rng.random((n, 6)) < 0.2, np.nan, rng.normal(size=(n, 6))), columns=[f"c{i}" for i in range(6)]) for n in (600, 300))
        seen = many.model_copy(update={"columns": [c.model_copy(update={"minimum": float(then[c.name].min()), "maximum": float(then[c.name].max()), "observed": {"missing": float(then[c.name].isna().mean())}}) if c.role == "feature" else c for c in many.columns]})
        gaps += bool(missing_rates(now, seen, 600, wide))
        ranges += any(f["severity"] == "warning" for f in out_of_range(now, seen, 600, wide))
    assert 0 < gaps/times < 0.05 + 3*np.sqrt(0.05*0.95/times) > ranges/times


def test_more_missing_values_are_found_if_they_matter():
    rng = np.random.default_rng(1)
    assert [f["column"] for f in missing_rates(week(rng, gone=0.3), CONTRACT, 5000, QUALITY)] == ["logins"]
    assert missing_rates(week(rng, 50_000, gone=0.106), CONTRACT, 50_000, QUALITY) == [] # more than chance, and less than a percent


def test_unseen_levels_and_ranges_are_named_and_people_are_not():
    rng = np.random.default_rng(2)
    personal = CONTRACT.model_copy(update={"columns": [c.model_copy(update={"personal": True}) if c.name in ("plan", "logins") else c for c in CONTRACT.columns]})
    odd = week(rng, plan=("basic", "pro", "family")).assign(logins=lambda r: r.logins.mask(r.index < 100, 777.), _target=None)
    told = {f["rule"]: f for f in look_quality(odd, [], CONTRACT, {"rows": 5000}, QUALITY)}
    assert "family in" in told["unseen"]["found"] and told["unseen"]["severity"] == "warning" and "100 above 30" in told["range"]["found"]
    assert "family" not in str(look_quality(odd, [], personal, {"rows": 5000}, QUALITY)) and "777" not in str(look_quality(odd, [], personal, {"rows": 5000}, QUALITY))
    few = week(rng).assign(plan=lambda r: r.plan.mask(r.index < 2, "family"))
    assert unseen_categories(few, CONTRACT, QUALITY)[0]["severity"] == "info"


def test_what_a_person_made_binding_is_always_told():
    strict = CONTRACT.model_copy(update={"columns": [c.model_copy(update={"outside": "reject"}) if c.name == "logins" else c for c in CONTRACT.columns]})
    one = week(np.random.default_rng(3)).assign(logins=lambda r: r.logins.mask(r.index == 0, 31.))
    assert out_of_range(one, strict, 5000, QUALITY)[0]["severity"] == "warning" and out_of_range(one, CONTRACT, 5000, QUALITY)[0]["severity"] == "info"
    assert [(f["rule"], f["severity"]) for f in contract_breaks(one.assign(plan=one.plan.mask(one.index < 2), _target="perhaps"), strict)] == [("contract: missing", "critical"), ("contract: class", "critical")]


def test_volume_is_held_against_how_much_it_wanders():
    rng = np.random.default_rng(4)
    any_size = QUALITY.model_copy(update={"volume": 0.})
    calm = [bool(volume(int(c[-1]), c[:-1].tolist(), any_size)) for c in rng.poisson(300, (1000, 7))]
    wild = [bool(volume(int(c[-1]), c[:-1].tolist(), any_size)) for c in rng.poisson(300*rng.gamma(16, 1/16, (1000, 7)))]
    assert np.mean(calm) < 0.06 and np.mean(wild) < 0.07
    assert volume(0, [300, 310, 290, 305], QUALITY)[0]["found"].startswith("0 rows") and volume(310, [300, 310, 290, 305], QUALITY) == [] == volume(0, [300, 310], QUALITY)


def test_a_young_log_may_be_silent_for_longer_than_so_far():
    at = lambda *moments: pd.DataFrame({"_at": pd.to_datetime([f"2026-01-{m}" for m in moments]), "_known": pd.NaT})
    stale = lambda table, now: [f["found"] for f in freshness(table, pd.Timestamp(f"2026-{now}"), QUALITY)]
    burst = at("05 10:00", "05 10:01", "05 10:02", "05 10:05")
    assert stale(burst, "01-06 10:05") == stale(burst, "01-26 10:00") == [] and stale(burst, "01-26 10:06") == ["the last answer came 21 days ago, on 2026-01-05 10:05"]
    week = at(*[f"{d:02} {h:02}:00" for d in (5, 6, 7, 8, 9) for h in range(9, 18)]) # Monday to Friday, by day
    assert stale(week, "01-12 09:00") == [] and len(stale(week, "01-12 17:30")) == 1
    month = at(*[f"{d:02} {h:02}:00" for d in range(1, 12) for h in range(24)])
    assert len(stale(pd.concat([month, at("30 00:00")]), "01-12 02:30")) == 1 # a clock that was wrong once does not hide it
    assert stale(month, "01-12 01:30") == [] and len(stale(month, "01-12 02:30")) == 1 # one that has run for a week is held to its own pauses


def test_a_silent_log_is_stale():
    table = live_rows([part(10)], CONTRACT, "day")
    assert freshness(table, pd.Timestamp("2026-01-12"), QUALITY) == []
    assert "the last answer came 10 days ago" in freshness(table, pd.Timestamp("2026-01-20"), QUALITY)[0]["found"]


def test_skew_between_training_and_serving_is_found():
    rng = np.random.default_rng(5)
    contract = CONTRACT.model_copy(update={"columns": [c for c in CONTRACT.columns if c.name != "phone"]})
    served = week(rng).assign(_row=lambda r: r.index.astype(str), _score=lambda r: r.logins.fillna(0)/30)
    model = lambda columns: np.nan_to_num(columns["logins"])/30
    assert answer_skew(served, contract, model, 1e-9, QUALITY) == [] and input_skew(served, contract, served, QUALITY) == []
    assert answer_skew(served.assign(_score=np.nan), contract, model, 1e-9, QUALITY)[0]["count"] == 100
    told = input_skew(served, contract, pd.DataFrame({"_row": ["3", "3", "5", "none"], "logins": [99., 1., np.nan, 2.]}), QUALITY)
    assert [(f["column"], f["count"], f["severity"]) for f in told] == [("logins", 2, "critical")] and input_skew(served, contract, pd.DataFrame({"_row": ["x"], "logins": [1.]}), QUALITY) == []
    assert answer_skew(served.drop(columns="plan"), contract, model, 1e-9, QUALITY) == [] # cannot be asked again


@pytest.mark.parametrize("key, value, says", [("false_alarms", 1.0, "less than 1"), ("floor", -0.1, "greater than or equal to 0"), ("volume", -1.0, "greater than or equal to 0"),
    ("sample", -1, "greater than or equal to 0"), ("pause", 0.5, "greater than or equal to 1"), ("seed", "0", "valid integer"), ("sampel", 1, "did you mean `sample`")])
def test_settings_say_what_is_allowed(key, value, says):
    with pytest.raises(ProjectError, match=says): check_section(QualitySettings, QUALITY.model_dump() | {key: value}, "monitor.quality")


def test_outcomes_are_worth_what_the_other_stages_are_told():
    p = Params(**EXAMPLE["frame"] | {"task": "binary", "costs": {"true_positive": -40., "false_positive": 0., "true_negative": 0., "false_negative": 0.}, "contact": 10., "capacity": 0.1, "currency": "EUR"})
    for q in (p, p.model_copy(update={"costs": None, "contact": None}), p.model_copy(update={"contact": None})):
        assert goal_of(charter(q)) == {k: goal(q)[k] for k in ("costs", "capacity")}
    assert goal_of(charter(p))["costs"]["true_positive"] == -30
