"Rows that cannot be prepared are refused in words; rows that can are split the same way every time."
import os, shutil, subprocess, sys, time

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import datasets

from conftest import DATASETS, ROOT
from test_collect import collect
from mlcycle.contract import Column, Contract, coerce, read_contract
from mlcycle.core import SEALED, Desk, ProjectError, check_section, tidy
from mlcycle.example import make_churn
from mlcycle.mend import find_codes, find_typos, from_collect, one_letter, plot_audit
from mlcycle.prepare import Params, clean, split_rows
from mlcycle.propose import propose
from mlcycle.read import finding
from mlcycle.split import NAMES, near_duplicates, plot_periods

BASE = dict(infinite="error", copies="auto", same_key="auto", required=[], typos="flag", outliers="flag", outlier_width=10., split="auto", validation=0.12, test=0.12, production=0.3, label_delay=None, periods="auto", min_rows=30, seed=0)


def table(n=900, time=True, entity=True):
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"size":rng.normal(5, 2, n), "plan":rng.choice(["basic", "pro"], n), "left":rng.choice(["no", "yes"], n, p=[0.7, 0.3])})
    if time: t["when"] = pd.date_range("2024-01-01", periods=n//2).repeat(2)[:n]
    if entity: t["shop_id"] = [f"s{i % 90:02d}" for i in range(n)]
    return t


def prepare(t, roles={}, target="left", promises={}, **changes):
    c = propose(t, "t", target, roles)
    c = c.model_copy(update={"columns":[k.model_copy(update=promises.get(k.name, {})) for k in c.columns]})
    p = Params(**BASE | changes)
    rows, audit = clean(coerce(t, c), c, p)
    tables, report, left_out = split_rows(rows, c, p)
    return tables, report, audit + left_out, c


def refusal(words, f, *args, **kwargs):
    with pytest.raises(ProjectError) as e: f(*args, **kwargs)
    for w in words: assert w in str(e.value), f"{w!r} is not in: {e.value}"


def lines(audit, what): return [(a["column"], a["rows"]) for a in audit if what in a["what"]]


def by_split(audit, what): return {a["split"]:a["rows"] for a in audit if what in a["what"]}


def test_every_row_is_accounted_for():
    tables, report, audit, _ = prepare(table(), label_delay=20.0)
    assert sum(report["rows"].values()) == 900 == lines(audit, "rows clean")[0][1]
    keys = pd.concat([t["_row"] for t in tables.values()])
    assert keys.is_unique and {k:len(t) for k,t in tables.items()} == {k:report["rows"][k] for k in NAMES}


def test_time_split_learns_only_from_labels_that_had_arrived():
    tables, report, _, _ = prepare(table(), label_delay=20.0)
    cuts = [pd.Timestamp(report["cuts"][n]) for n in NAMES[1:]]
    for name, cut in zip(NAMES, cuts): assert tables[name].when.max() + pd.Timedelta(days=20) <= cut
    for name, cut in zip(NAMES[1:], cuts): assert tables[name].when.min() >= cut
    assert report["rows"]["gap"] == sum(report["gap"].values()) > 0 and report["delay"] == 20


def test_arrival_column_decides_and_late_labels_name_their_period():
    t = table().assign(label_known=lambda t: t.when + pd.to_timedelta(np.arange(900) % 30, unit="D"))
    t.loc[t.label_known > t.when.max(), ["left", "label_known"]] = None
    tables, report, _, c = prepare(t)
    assert c.by_role("arrival") == ["label_known"]
    assert (tables["train"].label_known <= pd.Timestamp(report["cuts"]["validation"])).all()
    later = tables["production"]
    assert later.left.isna().any() and (later._label_period.isna() == later.left.isna()).all()
    known = later.dropna(subset="left")
    assert (known._label_period >= known._period).all() and (known._label_period > known._period).any()


def test_entities_do_not_straddle_without_time_and_are_reported_with_it():
    tables, report, _, _ = prepare(table(time=False))
    assert report["kind"] == "group" and "nothing can be learned from it about drift" in report["statement"]
    shops = [set(t.shop_id) for t in tables.values()]
    assert sum(map(len, shops)) == len(set.union(*shops))
    assert prepare(table(time=False), split="random")[1]["kind"] == "group"
    assert prepare(table())[1]["entities_shared_with_train"]["shop_id"]["test"] > 0


def test_random_split_is_stratified_and_keeps_rows_where_they_are():
    t = table(2000, time=False, entity=False)
    tables, report, _, _ = prepare(t)
    assert report["kind"] == "random" and np.ptp([v["positive"] for v in report["target"].values()]) < 0.01
    more = prepare(pd.concat([t, table(100, time=False, entity=False).assign(size=lambda t: t["size"] + 0.5)], ignore_index=True))[0]
    moved = sum(len(set(tables[n]._row) - set(more[n]._row)) for n in NAMES)
    assert moved < 60
    shuffled = prepare(t.sample(frac=1, random_state=3).reset_index(drop=True))[0]
    assert all(set(tables[n]._row) == set(shuffled[n]._row) for n in NAMES)
    assert set(prepare(t, seed=1)[0]["test"]._row) != set(tables["test"]._row)


def test_twice_the_same_and_in_another_process():
    code = "import sys; sys.path.insert(0, 'tests'); from test_prepare import *; r = prepare(table()); print(pd.util.hash_pandas_object(r[0]['production']).sum(), r[1])"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    a, b = (subprocess.run([sys.executable, "-c", code], cwd=root, env=os.environ | {"PYTHONHASHSEED":s}, capture_output=True, text=True) for s in "12")
    assert a.stdout and a.stdout == b.stdout, a.stderr


@pytest.mark.parametrize("periods,labels", [(4, ["p01", "p02", "p03", "p04"]), ("quarter", ["2024-Q4", "2025-Q1"])])
def test_periods(periods, labels):
    assert list(prepare(table(), periods=periods)[1]["periods"]) == labels


def test_time_as_a_number():
    t = table().assign(when=np.arange(900))
    _, report, _, _ = prepare(t, {"when":"time"}, label_delay=10.0)
    assert report["kind"] == "time" and report["unit"] == "part" and list(report["periods"]) == [f"p{i:02d}" for i in range(1, 7)]
    assert float(report["cuts"]["test"]) - float(report["cuts"]["validation"]) >= 10


def test_copies_identifiers_and_spellings():
    t = table().assign(key_id=[f"K{i}" for i in range(900)])
    t.loc[10:19, "plan"] = t.plan[10:20].str.upper() + " "
    t = pd.concat([t, t[:7], t[7:10].assign(size=0.0)], ignore_index=True)
    tables, _, audit, c = prepare(t, {"key_id":"id"})
    assert lines(audit, "exact copy") == [("", 7)] and lines(audit, "same key again, first kept") == [("key_id", 3)] and lines(audit, "spelling") == [("plan", 10)]
    assert set(tables["train"].plan) == {"basic", "pro"} == set(c.column("plan").categories)
    assert (tables["train"]._row == tables["train"].key_id).all()


def test_spellings_of_classes():
    t = table()
    t.loc[:20, "left"] = t.left[:21].str.title()
    tables, _, audit, c = prepare(t)
    assert lines(audit, "spelling")[0][0] == "left" and c.classes == ["no", "yes"] and set(tables["train"].left) == {"no", "yes"}


def test_infinite_values():
    t = table()
    t.loc[[3, 8], "size"] = [np.inf, -np.inf]
    refusal(["size: 2 of 900 values", "rows 3, 8", "prepare.infinite: missing"], prepare, t)
    tables, _, audit, c = prepare(t, infinite="missing")
    assert lines(audit, "infinite") == [("size", 2)] and c.column("size").nullable
    assert all(not np.isinf(rows["size"]).any() for rows in tables.values())


def test_missing_labels_stay_only_in_production():
    t = table().assign(left=lambda t: t.left.where(t.index % 5 > 0))
    for kind in ("time", "random"):
        tables, report, audit, _ = prepare(t, split=kind)
        assert all(tables[n].left.notna().all() for n in NAMES[:3]) and tables["production"].left.isna().any()
        assert lines(audit, "left out: no label") == [("left", report["rows"]["unlabelled"])]


def test_rows_without_time():
    t = table()
    t.loc[5:9, "when"] = pd.NaT
    assert lines(prepare(t)[2], "has no time") == [("when", 5)]


def test_zero_rows_after_cleaning():
    t = table()
    c = propose(t, "t", "left")
    refusal(["0 of 0 collected rows", "collect.source"], clean, coerce(t[:0], c), c, Params(**BASE))
    refusal(["900 of 900", "none has a label in `left`"], clean, coerce(t.assign(left=None), c), c, Params(**BASE))


def test_one_class_where_there_must_be_two():
    late = table(entity=False).sort_values("when", ignore_index=True)
    refusal(["train has", "none of class 'yes'", "prepare.split"], prepare, late.assign(left=["no"]*600 + ["yes"]*300))
    refusal(["test has", "At least two classes"], prepare, late.assign(left=["no", "yes"]*200 + ["no"]*500))


def test_too_few_rows():
    refusal(["validation gets", "at least 30", "prepare.min_rows", "prepare.validation"], prepare, table(100))
    refusal(["had arrived", "prepare.label_delay"], prepare, table(), label_delay=2000.0)
    refusal(["train gets", "labels come up to 100 days late"], prepare, table(), label_delay=100.0)


def test_parameters_that_do_not_fit():
    refusal(["`prepare.split` is time", "collect.roles"], prepare, table(time=False), split="time")
    refusal(["`prepare.split` is group"], prepare, table(entity=False), split="group")
    refusal(["`prepare.label_delay` is 3"], prepare, table(), split="random", label_delay=3.0)
    refusal(["add up to 1.14"], prepare, table(), production=0.9)
    refusal(["`prepare.periods` is month"], prepare, table(time=False), periods="month")
    refusal(["`prepare.tests`", "did you mean `test`?"], check_section, Params, BASE | {"tests":1}, "prepare")
    refusal(["`prepare.periods"], check_section, Params, BASE | {"periods":"fortnight"}, "prepare")


def test_regression_and_several_classes():
    tables, report, _, _ = prepare(table().assign(left=lambda t: t["size"]*3 + 0.5))
    assert set(report["target"]["train"]) == {"mean", "std"}
    tables, report, _, _ = prepare(table(time=False, entity=False).assign(left=lambda t: np.array(["a", "b", "c"])[np.arange(900) % 3]))
    assert set(report["target"]["train"]) == {"a", "b", "c"}


def test_report_is_json_and_tables_survive_parquet(tmp_path):
    tables, report, audit, c = prepare(table())
    assert tidy(report)["version"] == 1 and tidy(audit)
    for n, t in tables.items():
        t.to_parquet(tmp_path/f"{n}.parquet", index=False)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path/f"{n}.parquet"), t)
    assert list(tables["train"]) == [*c.names, "_row", "_known"] and list(tables["production"]) == [*c.names, "_row", "_period", "_label_period"]
    assert read_contract(tidy(c)) == c


def test_rows_that_agree_may_be_different_cases():
    t = pd.DataFrame({"sex":["f", "m"]*600, "grade":[1, 2, 3]*400, "left":["no", "yes", "no", "no"]*300})
    with pytest.raises(ProjectError, match="prepare.copies: keep"): prepare(t)
    p, c = Params(**BASE | {"copies":"keep"}), propose(t, "t", "left")
    rows, audit = clean(coerce(t, c), c, p)
    assert len(rows) == 1200 and rows["_row"].is_unique and lines(audit, "exact copy") == []
    assert sum(split_rows(rows, c, p)[1]["rows"].values()) == 1200
    assert len(clean(coerce(t, c), c, Params(**BASE | {"copies":"drop"}))[0]) == 9


def test_a_label_that_comes_after_the_last_row_belongs_to_no_period_of_the_rows():
    t = table().assign(when=np.arange(900))
    rows = prepare(t, {"when":"time"}, label_delay=10.0)[0]["production"]
    assert (rows["_label_period"][rows.when > 889] == "p07").all() and (rows["_label_period"][rows.when <= 889] < "p07").all()


def test_a_class_that_comes_late_says_what_can_be_done():
    t = table().assign(left=lambda t: np.where(t.when > "2025-01-01", "maybe", t.left))
    with pytest.raises(ProjectError, match="put it together with another"): prepare(t)


# the account

def test_the_account_has_one_form_and_begins_with_what_reading_changed():
    tables, report, audit, c = prepare(table().assign(plan=lambda t: t.plan.where(t.index > 9, t.plan.str.upper())), label_delay=20.0)
    read = from_collect([finding("size", "3 values are nothing but blanks", "read as missing", [1, 2, 3], action=True), finding("", "the source is a database", "read")], c, 900)
    assert [(e["stage"], e["column"], e["rows"], e["example"]) for e in read] == [("collect", "size", 3, "row 1")] and "read as missing" in read[0]["what"]
    for e in read + audit:
        assert list(e) == ["stage", "what", "column", "split", "rows", "share", "example"] and 0 <= e["share"] <= 1
    assert [a["share"] for a in audit if "spelling" in a["what"]] == [10/900]


def test_the_built_in_example_gives_its_dirt_away():
    t = make_churn()
    tables, report, audit, c = prepare(t, target="churned")
    assert dict(lines(audit, "spelling")).keys() == {"payment_method", "region"}
    plain = t.assign(**{n:t[n].str.strip().str.lower() for n in ("payment_method", "region")})
    assert lines(audit, "exact copy") == [("", int(plain.duplicated().sum()))]
    assert lines(audit, "stands for a missing value") == [("logins", int((t.logins == 9999).sum() - (plain.duplicated() & (plain.logins == 9999)).sum()))]
    assert {n for n, _ in lines(audit, "far from the rest")} == {"logins", "hours_watched"}
    assert report["kind"] == "time" and lines(audit, "label came after the cut")[0][1] == report["rows"]["gap"] > 1000
    assert not lines(audit, "typing error") and not lines(audit, "later than") and not lines(audit, "same key")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_nothing_is_flagged_in_clean_data(name):
    audit = prepare(getattr(datasets, f"load_{name}")(as_frame=True).frame, target="target", min_rows=10)[2]
    assert [e for e in audit if e["what"].startswith("flagged")] == []


def test_personal_values_are_in_no_line_of_the_account():
    rng, n = np.random.default_rng(0), 600
    t = table(n).assign(secret=[*["Geheim"]*590, *["GEHEIM"]*5, *["Gehiem"]*5], pin=[*rng.integers(1, 40, n - 5), 77777, *[9999]*4], born=pd.to_datetime("1990-05-05"))
    t.loc[3, "born"] = pd.Timestamp("2031-07-07")
    hidden = {n:dict(personal=True, role="feature", categories=None) for n in ("secret", "pin", "born")}
    audit = prepare(t, promises=hidden)[2]
    assert {"secret", "pin", "born"} <= {e["column"] for e in audit}
    text = " ".join(e["what"] + e["example"] for e in audit).lower()
    assert not any(v in text for v in ("geheim", "gehiem", "77777", "9999", "2031-07"))


# repairs

def test_typing_errors_are_flagged_or_mended():
    t = table()
    t.loc[[5, 700], "plan"] = ["baisc", "basicc"]
    tables, _, audit, _ = prepare(t)
    assert lines(audit, "flagged: typing error?") == [("plan", 2)] and "'baisc'" in {repr(v) for k in tables.values() for v in k.plan}
    tables, _, audit, _ = prepare(t, typos="unify")
    assert lines(audit, "unified: typing error") == [("plan", 2)] and {v for k in tables.values() for v in k.plan} == {"basic", "pro"}
    refusal(["`prepare.typos` is 'mend'", "'flag' or 'unify'"], check_section, Params, BASE | {"typos":"mend"}, "prepare")


@pytest.mark.parametrize("a,b", [("typical", "atypical"), ("Iran", "Iraq"), ("class A", "class B"), ("18-29", "18-39"), ("type1", "type2"), ("A+", "A-"), ("-1", "1"), ("male", "female"),
    ("single", "married"), ("Austria", "Australia"), ("direct debit", "direct credit"), ("Year 2019", "Year 2018"), ("monthly", "monthly plan"), ("moral", "amoral")])
def test_categories_that_differ_on_purpose_are_no_typing_errors(a, b):
    assert not one_letter(a, b) and not one_letter(b, a)
    assert find_typos(pd.Series([a]*100 + [b])) == {}


def test_a_typing_error_in_the_target_is_never_mended():
    t = table(time=False).assign(left=lambda t: t.left.replace({"yes":"cancelled", "no":"active"}))
    t["left"] = t.left.where(t.index % 9 > 0, "paused")
    t.loc[:3, "left"] = "cancelld"
    c = propose(t, "t", "left")
    rows, audit = clean(coerce(t, c), c, Params(**BASE | {"typos":"unify"}))
    assert lines(audit, "flagged: typing error?") == [("left", 4)] and (rows.left == "cancelld").sum() == 4


def test_values_that_break_the_contract_are_repaired_or_kept_as_it_says():
    t = table()
    t.loc[[3, 8], "size"] = [-70., 4000.]
    promise = dict(minimum=-10., maximum=20., nullable=True)
    tables, _, audit, _ = prepare(t, promises={"size":promise | dict(broken="repair")})
    assert lines(audit, "missing: breaks the contract (allowed: -10 to 20)") == [("size", 2)] and tables["train"]["size"].isna().sum() == 2
    tables, _, audit, _ = prepare(t, promises={"size":promise | dict(broken="keep")})
    assert lines(audit, "kept: breaks the contract") == [("size", 2)] and not tables["train"]["size"].isna().any()
    tables, _, audit, _ = prepare(t, promises={"plan":dict(categories=["pro"], broken="repair", nullable=True, fill="pro")})
    assert lines(audit, "missing: breaks the contract (allowed: pro)") == [("plan", int((t.plan == "basic").sum()))] == lines(audit, "kept: missing, stands for 'pro' (contract)")


def test_a_repair_may_not_leave_a_gap_where_the_contract_promises_none():
    t = table()
    t.loc[3, "size"] = -70.
    refusal(["`size` is missing in 1 of 900 rows", "row 3", "`nullable: true`", "data/contracts/t.yaml", "prepare.required"], prepare, t, promises={"size":dict(minimum=-10., broken="repair", nullable=False)})
    assert lines(prepare(t, promises={"size":dict(minimum=-10., broken="repair", nullable=False)}, required=["size"])[2], "required value is missing") == [("size", 1)]


def test_rows_without_what_is_required_go():
    t = table().assign(size=lambda t: t["size"].where(t.index % 10 > 0))
    tables, report, audit, _ = prepare(t, required=["size"])
    assert lines(audit, "dropped: a required value is missing") == [("size", 90)] and sum(report["rows"].values()) == 810
    assert all(k["size"].notna().all() for k in tables.values()) and lines(audit, "kept: missing") == []
    refusal(["`prepare.required` names `seize`", "did you mean `size`?", "It has:"], prepare, t, required=["seize"])
    refusal(["`prepare.required` names `left`, the target"], prepare, t, required=["left"])
    refusal(["missing in all of the 900 rows"], prepare, t.assign(none=None), required=["none"])


def test_what_is_missing_is_kept_and_said():
    t = table().assign(size=lambda t: t["size"].where(t.index % 10 > 0))
    tables, _, audit, _ = prepare(t)
    assert [(e["rows"], e["example"]) for e in audit if e["what"] == "kept: missing, for the model"] == [(90, "size 10.0%")]
    assert tables["train"]["size"].isna().any()


# keys

def visits():
    t = table(900).assign(when=lambda t: pd.Timestamp("2024-01-01") + pd.to_timedelta(t.index // 90, unit="D"))
    return pd.concat([t, t[:6].assign(size=[50.]*3 + [60.]*3)], ignore_index=True)


def test_different_rows_of_one_entity_at_one_time():
    kept = prepare(visits())[2]
    assert lines(kept, "kept: the same key again") == [("shop_id and when", 6)]
    assert "rows 0 and 900 differ in size" in [e["example"] for e in kept]
    for how, sizes in [("first", 0), ("last", 6)]:
        tables, report, audit, _ = prepare(visits(), same_key=how)
        assert lines(audit, f"dropped: the same key again, {how} kept") == [("shop_id and when", 6)] and sum(report["rows"].values()) == 900
        assert sum(k["size"].isin([50., 60.]).sum() for k in tables.values()) == sizes
    refusal(["6 of 906 rows have the same `shop_id` and `when`", "rows 0 and 900 differ in size", "`prepare.same_key` to first or last"], prepare, visits(), same_key="error")
    refusal(["`prepare.same_key` is 'newest'", "'auto', 'first', 'last', 'keep' or 'error'"], check_section, Params, BASE | {"same_key":"newest"}, "prepare")


def test_different_rows_of_one_identifier():
    t = table().assign(key=[f"K{i}" for i in range(900)])
    t = pd.concat([t, t[:2].assign(size=99.)], ignore_index=True)
    rows = lambda **how: pd.concat(prepare(t, {"key":"id"}, outliers="flag", **how)[0].values())
    assert (rows()["size"] == 99).sum() == 0 and (rows(same_key="last")["size"] == 99).sum() == 2
    everything = rows(same_key="keep")
    assert len(everything) == 902 and everything["_row"].is_unique
    refusal(["2 of 902 rows have the same `key`"], prepare, t, {"key":"id"}, same_key="error")


# flags

@pytest.mark.parametrize("values,codes", [([*range(50), 9999, 9999], {9999:2}), ([*range(18, 70), -1, -1], {-1:2}), ([1, 2, 3, 4, 5, 99, 99]*3, {99:6}), ([*np.arange(980., 1040.), 9999.9, 9999.9], {9999.9:2}),
    ([1, 2, 9]*40, {9:40}), ([-1, 0, 1]*20, {}), ([*range(101)]*2, {}), ([*range(2000)]*2, {}), ([*np.linspace(-30, 40, 50), -1, -1, -9, -9], {}), ([*range(50), 9999], {}), ([9.99, 19.99, 99.99, 150, 250]*4, {}), ([None]*5, {}), ([7]*5, {})])
def test_codes_for_a_missing_value(values, codes):
    assert find_codes(pd.Series(values, dtype="float64")) == codes


def test_dates_that_cannot_be():
    t = table().assign(born=lambda t: t.when - pd.to_timedelta(9000 + t.index % 700, unit="D"), joined=lambda t: t.when - pd.to_timedelta(t.index % 60, unit="D"))
    assert [e for e in prepare(t)[2] if "later" in e["what"]] == []
    t.loc[3, "joined"] = t.when[3] + pd.Timedelta(days=2)
    t.loc[[5, 6], "born"] = t.joined[[5, 6]] + pd.Timedelta(days=1)
    audit = prepare(t, roles={"when":"time", "born":"feature", "joined":"feature"})[2]
    assert dict(lines(audit, "later than the row's own time, `when`"))["joined"] == 1
    assert lines(audit, "later than `joined`, in other rows never") == [("born", 2)]
    t.loc[::100, "born"] = pd.Timestamp("1900-01-01")
    assert lines(prepare(t, roles={"when":"time", "born":"feature", "joined":"feature"})[2], "stands for a missing value") == [("born", 9)]


def test_a_row_time_in_whole_days_is_not_before_the_hours_of_that_day():
    t = table().assign(seen=lambda t: t.when + pd.Timedelta(hours=9))
    assert lines(prepare(t, roles={"when":"time"})[2], "row's own time") == []
    assert lines(prepare(t.assign(when=t.when + pd.Timedelta(hours=8)), roles={"when":"time"})[2], "row's own time") == [("seen", 900)]


# outliers

def far_out():
    t = table(900, entity=False).sort_values("when", ignore_index=True).assign(count=lambda t: (t["size"].abs()*10).round().astype(int))
    t.loc[[4, 5], "count"] = [5555, 6666] # learned from
    t.loc[[890], "count"] = 7777 # production
    t.loc[[7], "size"] = -888.
    return t


def test_outliers_are_treated_in_training_rows_only_and_counted_everywhere():
    plain = prepare(far_out())
    assert by_split([e for e in plain[2] if e["column"] == "count"], "far from the rest") == {"train":2, "production":1}
    for how, verb in [("clip", "clipped"), ("missing", "missing"), ("drop", "dropped")]:
        tables, report, audit, _ = prepare(far_out(), outliers=how)
        assert by_split([e for e in audit if e["column"] == "count"], f"{verb}: far from the rest") == {"train":2}
        for n in NAMES[1:]: pd.testing.assert_frame_equal(tables[n], plain[0][n])
        train, was = tables["train"], plain[0]["train"]
        assert train["count"].dtype == was["count"].dtype and train["count"].max() < 1000 and train["size"].min() > -100
        assert len(was) - len(train) == report["rows"]["outlier"] == (3 if how == "drop" else 0)
        assert sum(report["rows"].values()) == 900 and report["rows"]["train"] == len(train)
    assert prepare(far_out(), outliers="missing")[0]["train"]["count"].isna().sum() == 2


def test_limits_are_learned_from_training_rows_and_follow_the_width():
    spoilt = far_out()
    spoilt.loc[700:, "count"] *= 1000
    what = lambda t, **how: {e["what"] for e in prepare(t, **how)[2] if e["column"] == "count" and e["split"] == "train"}
    assert what(spoilt) == what(far_out()) != what(far_out(), outlier_width=5.)
    assert what(far_out(), outlier_width=1000.) == set()
    refusal(["`prepare.outlier_width` is 0"], check_section, Params, BASE | {"outlier_width":0}, "prepare")
    refusal(["`prepare.outliers` is 'cap'", "'flag', 'clip', 'missing' or 'drop'"], check_section, Params, BASE | {"outliers":"cap"}, "prepare")


def test_outliers_of_a_target_are_only_flagged():
    t = table().assign(left=lambda t: t["size"]*3 + 0.5)
    t.loc[4, "left"] = 99999.5
    for how in ("flag", "drop"):
        tables, _, audit, _ = prepare(t, outliers=how)
        assert by_split([e for e in audit if e["column"] == "left"], "flagged: far from the rest") == {"train":1} and tables["train"].left.max() == 99999.5


def test_dropping_outliers_may_leave_too_few_rows():
    t = table(600)
    t["size"] = np.where(t.index % 3 == 0, 1e6, t["size"])
    refusal(["train gets", "prepare.min_rows"], prepare, t, outliers="drop", outlier_width=0.01, min_rows=60)


# the same cases on two sides

def twins():
    rng, n = np.random.default_rng(1), 2000
    t = pd.DataFrame({f"x{i}":rng.normal(100, 30, n) for i in range(5)} | {"kind":rng.choice(["a", "b", "c"], n), "left":rng.choice(["no", "yes"], n)})
    return pd.concat([t, t[:200].assign(x0=lambda t: t.x0*(1 + 1e-6)), t[200:400].assign(x1=0.)], ignore_index=True)


def test_near_duplicates_across_splits_are_found():
    tables, report, audit, c = prepare(twins())
    learned = {n:pd.concat([tables["train"][[f"x{i}" for i in range(2, 5)]]]).to_numpy() for n in NAMES[1:]}
    for n in NAMES[1:]: # the planted ones are those that agree in the three columns nobody touched
        at = (tables[n][[f"x{i}" for i in range(2, 5)]].to_numpy()[:, None] == learned[n][None]).all(2).any(1)
        found = report["near_duplicates"][n]
        assert found["exact"] + found["near"] == at.sum() > 20 and found["exact"] > 5 and found["near"] > 5
        assert found["share"] == at.mean() and found["chance"] == 0
        assert {found["example"]["row"], found["example"]["train"]} <= {*tables[n]["_row"], *tables["train"]["_row"]} and found["example"]["differs"] in ("", "x1")
    assert by_split(audit, "flagged: all but the same as a training row").keys() == set(NAMES[1:])
    assert "the scores are too good" in report["near_duplicates_in_words"]
    clean_rows = prepare(twins()[:2000])[1]
    assert all(f["exact"] == f["near"] == 0 for f in clean_rows["near_duplicates"].values()) and "In no split" in clean_rows["near_duplicates_in_words"]


def test_rows_of_one_entity_over_time_are_counted_apart():
    rng = np.random.default_rng(0)
    who = pd.DataFrame({f"x{i}":rng.normal(size=60) for i in range(4)} | {"shop_id":[f"s{i}" for i in range(60)]})
    t = pd.concat([who.assign(when=pd.Timestamp("2024-01-01") + pd.DateOffset(months=m), x0=rng.normal(size=60), left=rng.choice(["no", "yes"], 60)) for m in range(15)], ignore_index=True)
    found = prepare(t)[1]
    assert all(f["exact"] == f["near"] == 0 and f["same_entity"] == found["rows"][n] and f["share"] == 0 for n, f in found["near_duplicates"].items())
    assert "of their own entity" in found["near_duplicates_in_words"]
    stranger = t.assign(shop_id=[f"s{i}" for i in range(len(t))]) # the same cases under other names
    alien = prepare(stranger, {"shop_id":"group"})[1]["near_duplicates"]
    assert all(f["same_entity"] == 0 and f["share"] == 1 for f in alien.values())


def test_coarse_features_agree_by_chance_and_that_is_said():
    rng, n = np.random.default_rng(0), 3000
    t = pd.DataFrame({f"x{i}":rng.integers(0, 4, n) for i in range(5)} | {"fine":rng.normal(size=n), "left":rng.choice(["no", "yes"], n)})
    report, audit = prepare(t)[1:3]
    assert all(f["share"] > 0.5 and abs(f["share"] - f["chance"]) < 0.1 for f in report["near_duplicates"].values())
    assert not lines(audit, "all but the same as a training row")


def test_near_duplicates_are_found_fast():
    rng, n = np.random.default_rng(0), 200_000
    t = pd.DataFrame({f"x{i}":rng.normal(size=n) for i in range(20)} | {"_row":np.arange(n).astype(str)})
    c = Contract(name="t", task="regression", columns=[*[Column(name=f"x{i}", type="number") for i in range(20)], Column(name="y", type="number", role="target")])
    parts = {"train":t[:100_000], "validation":t[100_000:120_000], "test":t[120_000:140_000], "production":t[140_000:]}
    start = time.process_time()
    assert all(f["share"] == 0 for f in near_duplicates(parts, c).values())
    assert time.process_time() - start < 10


# what is said and drawn

def test_the_statement_says_what_chose_the_split_and_what_overrides():
    said = lambda *args, **how: prepare(*args, **how)[1]["statement"]
    assert "Split by `when` (the contract gives it the role time; `prepare.split` overrides)" in said(table()) and "`prepare.label_delay`" in said(table())
    assert "rows lie in the gaps" in said(table(), label_delay=20.)
    assert "Split by lot of `shop_id`" in said(table(time=False)) and "the contract names neither" in said(table(time=False, entity=False))
    assert "`prepare.split` says so" in said(table(), split="group")


@pytest.mark.parametrize("time", [True, False])
def test_figures_state_what_was_found(time):
    t = table(time=time)
    t.loc[:8, "plan"] = "PRO "
    tables, report, audit, _ = prepare(t)
    title = plot_audit(audit).axes[0].get_title(loc="right")
    assert "1 change, no warnings; the largest change: unified: spelling · plan (1.0%)" in title
    axes = plot_periods(report).axes[0]
    assert f"{report['rows']['train']:,} rows to learn from" in axes.get_title() and axes.get_ylabel() == "rows"
    assert sum(sum(v.values()) for v in report["history"].values()) == (900 if time else 0)
    assert plot_audit([]).axes[0].get_title(loc="right") == "no changes, no warnings"


def test_order_of_the_rows_changes_nothing():
    t = far_out().assign(key=lambda t: [f"K{i}" for i in t.index])
    a, b = (prepare(x, {"key":"id"}, outliers="clip") for x in (t, t.sample(frac=1, random_state=5).reset_index(drop=True)))
    for n in NAMES: pd.testing.assert_frame_equal(a[0][n].sort_values("_row", ignore_index=True), b[0][n].sort_values("_row", ignore_index=True))


def test_the_test_rows_are_sealed(tmp_path):
    "Only the last judgement, and the look back when all is decided, may open them"
    assert SEALED == {"data/prepare/test.parquet":("evaluate", "retrain")}
    (tmp_path/"data/prepare").mkdir(parents=True); (tmp_path/"data/prepare/test.parquet").touch()
    stages = yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"]
    for verb, stage in stages.items():
        desk = Desk(verb, tmp_path)
        if verb in ("evaluate", "retrain"): assert desk.input("data/prepare/test.parquet").exists()
        else: refusal([f"Stage `{verb}` may not open", "`evaluate` and `retrain`"], desk.input, "data/prepare/test.parquet")
        assert verb in ("prepare", "evaluate", "retrain") or not [d for d in stage["deps"] if "data/prepare/test.parquet" in d]


def test_blanks_of_a_real_file_are_in_the_account_and_stay_missing(tmp_path):
    file = DATASETS/"telco_churn"/"Telco-Customer-Churn.csv"
    if not file.exists(): pytest.skip(f"{file} is not there: set DATASETS to the folder of shared data sets")
    shutil.copy(file, tmp_path)
    typed, c, findings = collect(tmp_path, {"target":"Churn"}, source=file.name)
    line, = [e for e in from_collect(findings, c, len(typed)) if e["column"] == "TotalCharges"]
    assert line["rows"] == 11 and line["stage"] == "collect" and "blank" in line["what"] and "missing" in line["what"]
    p = Params(**BASE)
    rows, audit = clean(typed, c, p)
    tables = split_rows(rows, c, p)[0]
    assert sum(t.TotalCharges.isna().sum() for t in tables.values()) == 11 and any("TotalCharges 0.2%" in a["example"] for a in audit if a["what"] == "kept: missing, for the model")
