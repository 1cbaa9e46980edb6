"""Columns made of earlier rows: right against a plain loop, never a look ahead, and told to everybody who has to know."""
import json, tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import DATASETS, EXAMPLE_ONLY, PACKAGE, SETS, clone, needs
from mlcycle.agree import Case, agreed, choose, compare
from mlcycle.collect import Params, about_leaks, check_history, contract_for, hold, load, provenance, remember, with_meaning
from mlcycle.contract import Column, Contract, check_row, check_table, inputs, narrow, plain, read_contract
from mlcycle.core import ProjectError, Section, check_section, tidy
from mlcycle.history import Facts, History, make, make_history, settle
from mlcycle.mend import from_collect
from mlcycle.propose import observed_contract
from mlcycle.read import Shelf

DEFAULTS = dict(source="t.csv", name="t", query=None, join={}, rows=None, seed=0, roles={}, max_levels=100, encoding=None, separator=None,
                decimal=None, thousands=None)
GOAL = dict(target="y", task=None, positive=None, sensitive=[], forbidden=[], guardrails={}, qualify=dict(metrics={}, slices={}), fairness={},
            costs=None, today=None)
DAY = pd.Timedelta(days=1)
COLUMNS = {c.name: c for c in [
    Column(name="who", type="text", role="group"), Column(name="area", type="category"), Column(name="day", type="datetime", role="time"),
    Column(name="step", type="integer"), Column(name="paid", type="number", unit="EUR"), Column(name="visits", type="integer"),
    Column(name="member", type="boolean"), Column(name="first", type="datetime"), Column(name="known", type="datetime", role="arrival"),
    Column(name="y", type="category", role="target")]}
YESTERDAY = {"yesterday": {"of": "y", "take": "lag", "delay": "1D"}}


def table(n=400, seed=0, ties=True):
    "Customers and their days, with gaps everywhere; without ties, no two rows of one moment"
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 90, n) if ties else rng.permutation(n)/4
    t = pd.DataFrame({
        "who": rng.choice(list("abcdef"), n), "area": rng.choice(["north", "North ", "south"], n),
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(day, unit="D"), "step": day.astype(int), "paid": rng.lognormal(0, 2, n),
        "visits": pd.array(rng.integers(0, 9, n), "Int64"), "member": pd.array(rng.random(n) < 0.5, "boolean"),
        "first": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, n), unit="D"), "y": rng.choice(["no", "yes"], n)})
    t["known"] = t.day + pd.to_timedelta(rng.integers(0, 30, n), unit="D")
    for column, share in dict(who=.05, area=.05, day=.05, paid=.2, visits=.2, y=.1, known=.1).items(): t[column] = t[column].mask(rng.random(n) < share)
    return t


def made(rows, facts=Facts(COLUMNS, "yes"), **entry):
    "The column as it is made"
    return make(rows, settle("x", History(**entry), facts), facts).values


def slow(rows, take, of=None, by=None, back=None, delay=0, late=False):
    "The same by the definition, row by row"
    keys, out = [by] if isinstance(by, str) else by or [], []
    value = {"yes": 1., "no": 0.}.get if of == "y" else lambda v: v
    records = rows.assign(area=rows.area.str.strip().str.casefold()).astype(object)
    records = records.where(records.notna(), None).to_dict("records")
    for row in records:
        if row["day"] is None or any(row[k] is None for k in keys): out.append(np.nan); continue
        earlier = []
        for other in records:
            if other["day"] is None or not other["day"] < row["day"] or any(row[k] != other[k] for k in keys): continue
            if of and other[of] is None or late and other["known"] is None: continue
            moment = max(other["day"] + delay*DAY, other["known"] if late else other["day"], other["day"] + pd.Timedelta(1, "us"))
            begin = row["day"] - pd.Timedelta(back if isinstance(back, str) else "9999D")
            if begin < moment <= row["day"]: earlier.append((moment, other["day"], other[of] if of else 1))
        earlier = [(d, v) for _, d, v in sorted(earlier, key=lambda e: e[:2])]
        if take in ("lag", "days_since"):
            k = back or 1
            out.append(np.nan if len(earlier) < k else earlier[-k][1] if take == "lag" else (row["day"] - earlier[-k][0])/DAY)
            continue
        v = pd.Series([float(value(v)) if take != "count" else 1. for _, v in (earlier[-back:] if isinstance(back, int) else earlier)], dtype="float64")
        out.append(len(v) if take == "count" else v.sum() if take == "sum" else getattr(v, take)() if len(v) else np.nan)
    return pd.Series(out)


# ---- right, by the definition

SMALL = table(110, 1, ties=False)
ASKED = [
    dict(of="paid", take="mean", by="who"), dict(of="paid", take="std", by="who", back=4), dict(of="paid", take="sum", back="9D"),
    dict(of="visits", take="max", by="area", back="12D"), dict(of="visits", take="sum", by=["who", "area"]), dict(of="paid", take="min", back=3, delay="5D"),
    dict(of="member", take="mean", by="area"), dict(of="paid", take="lag", by="who"), dict(of="visits", take="lag", by="who", back=3),
    dict(take="days_since", by="who"), dict(of="paid", take="days_since", back=2), dict(take="count", by="who"),
    dict(of="paid", take="count", back="20D", by="area"), dict(of="y", take="mean", by="area"), dict(of="y", take="sum", back=5),
    dict(of="y", take="count", by="who", back="15D"), dict(of="y", take="mean", delay="5D"), dict(of="paid", take="lag", delay="7D"),
    dict(of="paid", take="sum", back="4D", delay="3D")]

@pytest.mark.parametrize("entry", ASKED, ids=str)
def test_each_column_is_what_its_definition_says(entry):
    expected = slow(SMALL, **entry | dict(delay=int(entry.get("delay", "0D")[:-1])), late=entry.get("of") == "y")
    found = made(SMALL, **entry).astype("float64")
    assert found.notna().sum() > 30
    np.testing.assert_allclose(found, expected.astype("float64"), rtol=1e-9, atol=1e-12)


def test_rows_of_one_moment_do_not_count_for_one_another():
    rows = table(150, 2)
    for entry in [dict(of="paid", take="mean", by="who"), dict(take="count"), dict(of="paid", take="sum", back="9D"), dict(take="days_since", by="who")]:
        np.testing.assert_allclose(made(rows, **entry).astype("float64"), slow(rows, **entry).astype("float64"), rtol=1e-9, atol=1e-12)
    same = rows.assign(day=pd.Timestamp("2024-01-01"))
    assert made(same, of="paid", take="lag").isna().all() and (made(same, take="count") == 0).all()


def test_values_keep_their_type_and_nobody_has_a_history_at_first():
    rows = table(200, ties=False)
    types = dict(paid="float64", visits="Int64", member="boolean", first="datetime64[us]", area="str")
    assert {c: str(made(rows, of=c, take="lag").dtype) for c in types} == types
    assert str(made(rows, take="count").dtype) == str(made(rows, of="visits", take="sum").dtype) == "Int64"
    first = rows.day.idxmin()
    assert all(pd.isna(made(rows, of="paid", take=t)[first]) for t in ("lag", "mean", "min", "max", "std"))
    assert made(rows, of="paid", take="sum")[first] == 0 == made(rows, take="count")[first]
    assert made(rows.iloc[:0].reset_index(drop=True), of="paid", take="mean").empty
    assert made(rows.assign(day=pd.NaT), of="paid", take="mean").isna().all()
    assert made(rows.assign(paid=np.nan), of="paid", take="lag").isna().all()


# ---- never a look ahead

EVERY = [dict(of="paid", take=t, by=b, back=k) for t in ("mean", "sum", "min", "max", "std", "count") for b in ("who", None) for k in (None, 4, "11D")]
EVERY += [dict(of=o, take=t, by=b) for o, t in (("paid", "lag"), ("area", "lag"), ("y", "mean"), ("y", "lag"), (None, "days_since")) for b in ("who", None)]
EVERY += [dict(of="y", take="mean", by="area", delay="3D", back=7)]

@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_changes_no_bit(seed):
    rows = table(seed=seed)
    mixed = np.random.default_rng(seed).permutation(len(rows))
    for entry in EVERY: assert made(rows, **entry).iloc[mixed].reset_index(drop=True).equals(made(rows.iloc[mixed].reset_index(drop=True), **entry)), entry


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_future_brings_changes_no_bit_of_the_past(seed):
    rows = table(seed=seed)
    rng, cut = np.random.default_rng(seed), pd.Timestamp("2024-02-10")
    past = (rows.day < cut).to_numpy()
    other = rows.assign(paid=rows.paid.where(past, -1e200))
    for c in ("who", "area", "visits", "member", "y"): other[c] = rows[c].where(past, rows[c].iloc[rng.permutation(len(rows))].reset_index(drop=True))
    late = (rows.known >= cut).to_numpy()                                        # a label that comes later may become another
    other["y"] = other.y.mask(late, "yes")
    fewer = rows[past].reset_index(drop=True)
    for entry in EVERY:
        now = made(rows, **entry)[past].reset_index(drop=True)
        assert now.equals(made(other, **entry)[past].reset_index(drop=True)) and now.equals(made(fewer, **entry)), entry


def test_the_row_itself_says_nothing():
    rows = table(seed=4)
    own = rows.assign(paid=rows.paid.where(rows.index != 7, 1e9), y=rows.y.mask(rows.index == 7, "yes"))
    for entry in EVERY: assert pd.isna(a := made(rows, **entry)[7]) and pd.isna(made(own, **entry)[7]) or a == made(own, **entry)[7]


def test_labels_count_from_their_arrival_on():
    day = pd.date_range("2024-01-01", periods=6)
    rows = pd.DataFrame({"day": day, "y": ["yes", "yes", "no", "no", "yes", None], "known": [day[2], day[5], None, day[3], day[1], None]})
    assert made(rows, of="y", take="count").tolist() == [0, 0, 1, 1, 2, 4]      # the third never; the fourth and the fifth once their own days are past
    assert made(rows, of="y", take="lag").tolist()[2:] == ["yes", "yes", "no", "yes"]
    assert made(rows, of="y", take="count", delay="2D").tolist() == [0, 0, 1, 1, 1, 3] # the later of the two
    notes, _ = make_history(shelf(rows), {"x": History(of="y", take="mean")}, Facts(COLUMNS, "yes"))
    assert [n["found"] for n in notes if "no date of arrival" in n["found"]] == ["1 values of `y` have no date of arrival"]


def test_another_entitys_huge_values_do_not_blur_the_sum():
    n = 2000
    rows = pd.DataFrame({"who": ["big", "small"]*n, "day": np.repeat(pd.date_range("2020-01-01", periods=n), 2), "paid": np.tile([1e300, 0.1], n)})
    sums = made(rows, of="paid", take="sum", by="who")[rows.who == "small"].to_numpy()
    np.testing.assert_allclose(sums, np.arange(n)*0.1, rtol=1e-14)


def test_what_the_contract_takes_as_missing_is_missing_in_history_too():
    rows = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=4), "paid": [1., 9999, np.inf, 3], "area": ["north", "mars", "North", "south"]})
    strict = COLUMNS | {"paid": Column(name="paid", type="number", maximum=100, broken="repair"),
                        "area": Column(name="area", type="category", categories=["north", "south"], broken="repair")}
    assert made(rows, of="paid", take="max").tolist()[1:] == [1, 9999, 9999]
    assert made(rows, Facts(strict), of="paid", take="max").tolist()[1:] == [1, 1, 1]
    assert made(rows, Facts(strict), take="count", by="area").fillna(-1).tolist() == [0, -1, 1, 0]


# ---- what is asked wrongly

class Demo(Section): history: dict[str, History]

@pytest.mark.parametrize("entry, words", [
    (dict(take="mean"), ["`of` is missing", "count and days_since"]),
    (dict(take="lag", of="paid", back=0), ["at least 1"]),
    (dict(take="lag", of="paid", back="7D"), ["counts rows", "`delay: 7D`"]),
    (dict(take="median", of="paid"), ["collect.history.x.take", "median"]),
    (dict(take="lag", off="paid"), ["did you mean `of`"]),
    (dict(take="lag", of="piad"), ["collect.history.x.of", "did you mean `paid`"]),
    (dict(take="lag", of="paid", by="whom"), ["collect.history.x.by", "did you mean `who`"]),
    (dict(take="lag", of="paid", by=["who", "arae"]), ["did you mean `area`"]),
    (dict(take="lag", of="paid", time="dey"), ["did you mean `day`"]),
    (dict(take="mean", of="area"), ["of type category", "lag, count, days_since"]),
    (dict(take="lag", of="paid", time="area"), ["of type category", "datetime (written 2025-07-31), integer or number"]),
    (dict(take="sum", of="paid", back="3M"), ["collect.history.x.back", "'3M'", "90D"]),
    (dict(take="lag", of="paid", delay=60), ["collect.history.x.delay", "60", "90D"]),
    (dict(take="lag", of="paid", time="step", delay="1D"), ["units of the time, such as 24"]),
    (dict(take="lag", of="y", time="step"), ["the target", "nothing says when", "`delay: 1`"]),
    (dict(take="count", by="y"), ["is target", "own answer"]),
    (dict(take="lag", of="visits"), ["charter forbids"]), (dict(take="count", by="visits"), ["charter forbids"])], ids=str)
def test_wrong_entries_are_refused_in_words(entry, words):
    facts = Facts(COLUMNS, "yes", ("visits",))
    with pytest.raises(ProjectError) as e: make_history(shelf(table(20)), check_section(Demo, {"history": {"x": entry}}, "collect").history, facts)
    for w in words: assert w in str(e.value)


def test_without_a_time_or_an_arrival_it_says_what_to_use_instead():
    asked = History(of="y", take="mean", by="area")
    bare = {n: c for n, c in COLUMNS.items() if c.role not in ("time", "arrival")}
    with pytest.raises(ProjectError, match="no column has the role `time`.*collect.roles.*target encoding"): settle("x", asked, Facts(bare, "yes"))
    bare = {n: c for n, c in COLUMNS.items() if c.role != "arrival"}
    with pytest.raises(ProjectError, match="is `y`, the target, and nothing says when.*`delay: 60D`.*role arrival"): settle("x", asked, Facts(bare, "yes"))


def test_what_is_forbidden_or_leaking_has_its_rules_here_too():
    barred = COLUMNS | {"paid": Column(name="paid", type="number", role="forbidden"),
                        "who": Column(name="who", type="text", role="forbidden", personal=True)}
    with pytest.raises(ProjectError, match="`paid`, which has the role forbidden"): settle("x", History(of="paid", take="mean"), Facts(barred))
    assert settle("x", History(take="count", by="who"), Facts(barred))          # whose rows they are may be asked, though nothing is learned from it
    leaking = COLUMNS | {"paid": Column(name="paid", type="number", role="leaking")}
    rows = table(ties=False)
    as_target = made(rows.assign(y=np.where(rows.paid.notna(), "no", None)), of="y", take="count")
    assert made(rows, Facts(leaking), of="paid", take="count").equals(as_target)


def test_nothing_personal_is_carried_on():
    rows = table(60).assign(mail=lambda t: t.who.fillna("x") + "@example.org")
    columns = COLUMNS | {"mail": Column(name="mail", type="text")}
    private = COLUMNS | {"paid": Column(name="paid", type="number", personal=True)}
    for of, known in [("mail", columns), ("paid", private)]:
        with pytest.raises(ProjectError, match="names or reaches a person.*count and days_since") as e:
            make_history(shelf(rows), {"x": History(of=of, take="lag")}, Facts(known))
        assert "@example" not in str(e.value)
    for take in ("max", "min", "sum", "mean"): # of one value that is the value
        with pytest.raises(ProjectError, match=f"takes the {take} of `paid`, which names or reaches a person"): make_history(shelf(rows), {"x": History(of="paid", take=take, back=1)}, Facts(private))
    assert make_history(shelf(rows), {"x": History(of="mail", take="count", by="mail")}, Facts(columns))[1]["x"].column.type == "integer"
    sensitive = COLUMNS | {"paid": Column(name="paid", type="number", sensitive=True)}
    assert make_history(shelf(rows), {"x": History(of="paid", take="mean")}, Facts(sensitive))[1]["x"].column.sensitive


# ---- said to those who have to know

def shelf(rows): s = Shelf(); s.append(rows); return s


def collect(folder, table=None, goal={}, known=None, **changes):
    "All that the stage does up to the typed table"
    if table is not None: table.to_csv(folder/"t.csv", index=False)
    p, goal, desk = Params(**DEFAULTS | changes), GOAL | goal, Path(tempfile.mkdtemp())
    loaded = remember(load(p, folder, desk, known), p, goal, known, desk)
    contract = contract_for(loaded, p, goal, known)
    found = check_table(loaded.table, contract)
    seen = with_meaning(observed_contract(loaded.table, contract, p.max_levels), loaded.history)
    try: check_history(contract, loaded.history)
    except ProjectError as e: e.seen = seen; raise
    typed, _ = hold(loaded.table, contract, found)
    return typed.take(), contract, loaded


def sales(n=300, seed=0):
    "Nothing but a day and what was sold"
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"day": pd.date_range("2024-01-01", periods=n).strftime("%Y-%m-%d"), "y": np.round(50 + np.cumsum(rng.normal(size=n)), 2)})


def test_a_series_without_any_other_column_can_be_learned_from_its_past(tmp_path):
    with pytest.raises(ProjectError, match="No column is left to learn from"): collect(tmp_path, sales())
    history = YESTERDAY | {"week": {"of": "y", "take": "mean", "back": "7D", "delay": "1D"}}
    rows, contract, loaded = collect(tmp_path, history=history)
    assert [c.name for c in contract.features] == ["yesterday", "week"] and contract.task == "regression"
    assert rows.yesterday.iloc[1:].tolist() == rows.y.iloc[:-1].tolist() and pd.isna(rows.yesterday.iloc[0]) and contract.column("yesterday").nullable
    expected = rows.y.rolling(8, min_periods=2).apply(lambda v: v.iloc[:-1].mean())
    np.testing.assert_allclose(rows.week.iloc[8:], expected.iloc[8:], rtol=1e-12)
    again, kept, _ = collect(tmp_path, known=contract, history=history)
    pd.testing.assert_frame_equal(again, rows)


def test_the_meaning_tells_a_caller_what_to_supply_and_as_of_when(tmp_path):
    _, contract, loaded = collect(tmp_path, sales(), history={"mean_of_5": {"of": "y", "take": "mean", "back": 5, "delay": "2D"}})
    c = contract.column("mean_of_5")
    for words in ["mean of the newest 5 values of `y`", "earlier `day`", "each counted from 2D after its `day` on",
                  "whoever asks for a prediction supplies it, as of `day`"]: assert words in c.meaning
    assert read_contract(plain(contract)) == contract
    assert check_row({"mean_of_5": 50.}, contract) == ([], []) == check_row({"mean_of_5": None}, contract)
    assert np.isnan(inputs({"mean_of_5": [None]}, contract)["mean_of_5"][0])
    assert narrow(contract, pd.DataFrame({"mean_of_5": [1., 2.]})).column("mean_of_5").meaning == c.meaning


def test_the_record_and_prepares_account_say_how_it_was_made(tmp_path):
    rows, contract, loaded = collect(tmp_path, sales(), history=YESTERDAY)
    record = provenance(Params(**DEFAULTS), loaded.table, loaded.sources, loaded.notes, loaded.history)
    meaning = contract.column("yesterday").meaning
    assert record["history"]["yesterday"] == dict(take="lag", of="y", time="day", delay="1D", arrival=None, made=299, meaning=meaning)
    assert tidy(record) == record
    line, = from_collect(record["findings"], contract, len(rows))
    assert line["column"] == "yesterday" and line["rows"] == 299
    assert "made: newest value of `y`" in line["what"] and "what `prepare` mends later is still in it" in line["what"]
    assert loaded.units == {} and collect(tmp_path, history=YESTERDAY | {"since": {"take": "days_since"}})[1].column("since").unit == "days"


def test_history_that_the_contract_does_not_know_is_refused_until_it_is_accepted(tmp_path):
    rows = sales().assign(x=range(300))
    _, contract, _ = collect(tmp_path, rows, roles={"x": "feature"})
    with pytest.raises(ProjectError, match=f"makes `yesterday`, and data/contracts/t.yaml has no such column.*`{PACKAGE} contract accept yesterday`") as e:
        collect(tmp_path, known=contract, history=YESTERDAY)
    case = Case("t", tmp_path/"t.yaml", contract, {c.name: c for c in e.value.seen.columns}, datetime(2025, 7, 31), [])
    take, left = choose(compare(case), ["yesterday"])
    accepted = agreed(case, take)
    assert not left and accepted.column("yesterday").nullable and accepted.column("yesterday").role == "feature"
    assert "yesterday" in collect(tmp_path, known=accepted, history=YESTERDAY)[0]
    with pytest.raises(ProjectError, match="is not what data/contracts/t.yaml says of it: 'newest value.*Write into its `meaning`: 'value of `y` 2 back"):
        collect(tmp_path, known=accepted, history={"yesterday": YESTERDAY["yesterday"] | {"back": 2}})
    own = [c.model_copy(update={"meaning": f"Sales of the day before: {c.meaning}"}) if c.name == "yesterday" else c for c in accepted.columns]
    assert "yesterday" in collect(tmp_path, known=accepted.model_copy(update={"columns": own}), history=YESTERDAY)[0] # one's own words may stand around it
    with pytest.raises(ProjectError, match="yesterday +column +no such column"): collect(tmp_path, known=accepted) # gone from params.yaml alone


def test_an_identifier_that_counts_may_be_the_time_before_and_after_there_is_a_contract(tmp_path):
    rows = sales().assign(row_id=range(1000, 1300), x=np.arange(300) % 7)
    history = {"before": {"of": "y", "take": "lag", "time": "row_id", "delay": 1}}
    first, contract, loaded = collect(tmp_path, rows.drop(columns="day"), history=history)
    assert "`row_id` can get the role" in str(loaded.notes)
    assert contract.column("row_id").role == "id" and contract.column("row_id").type == "text" and first.before.iloc[1:].tolist() == rows.y.iloc[:-1].tolist()
    pd.testing.assert_frame_equal(collect(tmp_path, known=contract, history=history)[0], first)


def test_rows_are_drawn_after_history_is_made(tmp_path):
    whole, part = collect(tmp_path, sales(), history=YESTERDAY)[0], collect(tmp_path, history=YESTERDAY, rows=100)[0]
    assert len(part) == 100 and part.merge(whole, on=["day", "y"], suffixes=("", "_whole")).pipe(lambda t: t.yesterday.equals(t.yesterday_whole))


def test_roles_and_the_charter_may_name_a_column_of_history(tmp_path):
    rows, history = sales().assign(x=np.arange(300) % 7), YESTERDAY | {"before": {"of": "x", "take": "lag"}}
    goal = dict(today={"column": "yesterday"}, sensitive=["before"])
    _, contract, _ = collect(tmp_path, rows, goal=goal, history=history, roles={"before": "forbidden"})
    assert contract.column("before").role == "forbidden" and contract.column("before").sensitive
    assert contract.column("yesterday").role == "feature"
    with pytest.raises(ProjectError, match="charter forbids"): collect(tmp_path, rows, goal=dict(forbidden=["x"]), history=history)


def test_what_is_known_only_with_the_answer_is_not_taken_as_known_at_once(tmp_path):
    rng, rows = np.random.default_rng(0), sales()
    part = np.round(rng.gamma(2, 9, 300), 2)
    rows = rows.assign(part=part, rest=np.round(rows.y - part, 2), x=rng.normal(size=300).round(3))
    history = {"part_before": {"of": "part", "take": "mean"}}
    with pytest.raises(ProjectError, match="made of `part`, which seems to know the answer.*`part: leaking`.*`part: feature`"):
        collect(tmp_path, rows, history=history)
    with pytest.raises(ProjectError, match="known only with the answer, and nothing says when.*delay"):
        collect(tmp_path, rows, history=history, roles={"part": "leaking"})
    _, contract, _ = collect(tmp_path, rows, history={"part_before": {"of": "part", "take": "mean", "delay": "1D"}}, roles={"part": "leaking"})
    assert contract.column("part_before").role == "feature" and contract.column("part").role == "leaking"


def test_a_past_that_nearly_is_the_answer_is_a_feature_and_told(tmp_path):
    rng = np.random.default_rng(0)
    rows = sales().assign(y=np.round(np.linspace(0, 500, 300) + rng.normal(0, .01, 300), 3), x=rng.normal(size=300).round(3))
    typed, contract, loaded = collect(tmp_path, rows, history=YESTERDAY)
    note, = about_leaks(typed, contract, history=loaded.history)
    assert contract.column("yesterday").role == "feature" and "made of earlier rows" in note["done"] and "delay" in note["done"]


def test_ties_idle_columns_and_times_that_disagree_are_told():
    rows = table(300)
    asked = {"last": dict(take="lag", by="who"), "mean": dict(take="mean", by="who"), "none": dict(take="lag", delay="900D"),
             "odd": dict(take="mean", time="first")}
    notes, told = make_history(shelf(rows), {n: History(of="paid", **e) for n, e in asked.items()}, Facts(COLUMNS, "yes"))
    said = {(n["column"], n["found"].split(" ", 1)[1][:24]) for n in notes if not n["action"]}
    assert ("last", "rows share their `day` a") in said and not any(c == "mean" for c, _ in said) and ("odd", "rows lie before an earli") in said
    assert told["none"].column.role == "constant" and told["last"].column.unit == "EUR" and told["none"].record["made"] == 0
    with pytest.raises(ProjectError, match="the table has a column of that name"): settle("paid", History(of="paid", take="lag"), Facts(COLUMNS))


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared data sets are not there: set DATASETS to their folder")
def test_rentals_an_hour_a_day_and_a_week_ago():
    bike = pd.read_csv(DATASETS/"bike_sharing"/"hour.csv", parse_dates=["dteday"]).sample(frac=1, random_state=0).reset_index(drop=True)
    columns = {n: Column(name=n, type="integer") for n in ("instant", "hr")} | {"dteday": Column(name="dteday", type="datetime", role="time"),
                                                                              "cnt": Column(name="cnt", type="integer", role="target")}
    of = dict(of="cnt", take="lag")
    hour, day, week = (made(bike, Facts(columns), **of, **how) for how in (dict(time="instant", delay=1), dict(by="hr", delay="1D"), dict(by="hr", delay="7D")))
    rows = bike.assign(hour=hour, day=day, week=week).sort_values("instant")
    assert rows.hour.iloc[1:].tolist() == rows.cnt.iloc[:-1].tolist()
    then = bike.set_index(["dteday", "hr"]).cnt
    for name, back in (("day", 1), ("week", 7)):
        value = pd.Series(then.reindex(pd.MultiIndex.from_arrays([rows.dteday - back*DAY, rows.hr])).to_numpy(), rows.index)
        there = value.notna()
        assert there.mean() > 0.97 and (rows[name][there].astype(float) == value[there]).all() # where an hour is missing, the newest before it
    correlation = rows[["hour", "day", "week"]].astype("float64").corrwith(rows.cnt)
    assert correlation.min() > 0.7 and correlation["hour"] > 0.8


@pytest.mark.chains
@pytest.mark.skipif(not DATASETS.exists(), reason="the shared data sets are not there: set DATASETS to their folder")
@needs("evaluate", "package")
def test_a_whole_chain_gets_clearly_better_by_what_was_rented_an_hour_ago(tmp_path, home):
    house = clone(tmp_path/"house", home, **EXAMPLE_ONLY | SETS["bike"] | dict(collect__name="bike"))
    house.sh(PACKAGE, "run", "evaluate", timeout=600)
    before = house.json("data/evaluate/metrics.json")
    house.edit("params.yaml", "history: {}", "history: {an_hour_ago: {of: cnt, take: lag, time: instant, delay: 1}}")
    assert f"{PACKAGE} contract accept an_hour_ago" in house.sh(PACKAGE, "run", "collect", code=None) # there is a contract, and it is a person's
    house.sh(PACKAGE, "contract", "accept", "an_hour_ago")
    house.sh(PACKAGE, "run", timeout=600)
    after, record = house.json("data/evaluate/metrics.json"), house.json("data/collect/provenance.json")
    print(before["rmse"], before["intervals"]["rmse"], after["rmse"], after["intervals"]["rmse"])
    assert after["intervals"]["rmse"][1] < 0.8*before["intervals"]["rmse"][0] and record["history"]["an_hour_ago"]["made"] == record["rows"] - 1
    assert "newest value of `cnt`" in next(c["meaning"] for c in house.json("data/package/bundle/contract.json")["columns"] if c["name"] == "an_hour_ago")
    assert "what `prepare` mends later" in json.dumps(house.json("data/prepare/audit.json")) and house.repro() == []
