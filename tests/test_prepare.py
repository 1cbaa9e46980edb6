"Rows that cannot be prepared are refused in words; rows that can are split the same way every time."
import os, subprocess, sys

import numpy as np
import pandas as pd
import pytest

from mlcycle.contract import coerce, propose, read_contract
from mlcycle.core import ProjectError, check_section, tidy
from mlcycle.prepare import NAMES, Params, clean, split_rows

BASE = dict(infinite="error", split="auto", validation=0.12, test=0.12, production=0.3, label_delay=None, periods="auto", min_rows=30, seed=0)


def table(n=900, time=True, entity=True):
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"size":rng.normal(5, 2, n), "plan":rng.choice(["basic", "pro"], n), "left":rng.choice(["no", "yes"], n, p=[0.7, 0.3])})
    if time: t["when"] = pd.date_range("2024-01-01", periods=n//2).repeat(2)[:n]
    if entity: t["shop_id"] = [f"s{i % 90:02d}" for i in range(n)]
    return t


def prepare(t, roles={}, target="left", **changes):
    c = propose(t, "t", target, roles)
    p = Params(**BASE | changes)
    rows, audit = clean(coerce(t, c), c, p.infinite)
    tables, report, left_out = split_rows(rows, c, p)
    return tables, report, audit + left_out, c


def refusal(words, f, *args, **kwargs):
    with pytest.raises(ProjectError) as e: f(*args, **kwargs)
    for w in words: assert w in str(e.value), f"{w!r} is not in: {e.value}"


def lines(audit, what): return [(a["column"], a["rows"]) for a in audit if what in a["what"]]


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
    assert lines(audit, "exact copy") == [("", 7)] and lines(audit, "same identifier") == [("key_id", 3)] and lines(audit, "spelling") == [("plan", 10)]
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
    refusal(["0 of 0 collected rows", "collect.source"], clean, coerce(t[:0], c), c, "error")
    refusal(["900 of 900", "none has a label in `left`"], clean, coerce(t.assign(left=None), c), c, "error")


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
    p, c = Params(**BASE, copies="keep"), propose(t, "t", "left")
    rows, audit = clean(coerce(t, c), c, p.infinite, p.copies)
    assert len(rows) == 1200 and rows["_row"].is_unique and lines(audit, "exact copy") == []
    assert sum(split_rows(rows, c, p)[1]["rows"].values()) == 1200
    assert len(clean(coerce(t, c), c, p.infinite, "drop")[0]) == 9


def test_a_label_that_comes_after_the_last_row_belongs_to_no_period_of_the_rows():
    t = table().assign(when=np.arange(900))
    rows = prepare(t, {"when":"time"}, label_delay=10.0)[0]["production"]
    assert (rows["_label_period"][rows.when > 889] == "p07").all() and (rows["_label_period"][rows.when <= 889] < "p07").all()


def test_a_class_that_comes_late_says_what_can_be_done():
    t = table().assign(left=lambda t: np.where(t.when > "2025-01-01", "maybe", t.left))
    with pytest.raises(ProjectError, match="put it together with another"): prepare(t)
