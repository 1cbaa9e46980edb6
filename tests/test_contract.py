"The contract meets bad tables and bad rows, and says what is wrong, what is allowed and what to do."
import subprocess, sys, timeit

import numpy as np
import pandas as pd
import pytest
import yaml

from mlcycle.contract import (Column, Contract, ContractBroken, check_row, check_table, coerce, enforce, inputs, labels, narrow, parse, plain, propose, read_contract)
from mlcycle.core import ProjectError, tidy


def table(n=120):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"key":[f"K{i:04d}" for i in range(n)], "when":pd.date_range("2024-01-01", periods=n), "size":rng.normal(5, 2, n),
        "count":rng.integers(0, 9, n), "plan":rng.choice(["basic", "pro"], n), "flag":rng.random(n) < 0.5, "left":rng.choice(["no", "yes"], n)})


def refusal(words, f, *args, **kwargs):
    with pytest.raises(ProjectError) as e: f(*args, **kwargs)
    for w in words: assert w in str(e.value), f"{w!r} is not in: {e.value}"


def test_imports_neither_pandas_nor_sklearn():
    code = "import sys, mlcycle.contract; assert not {'pandas', 'sklearn', 'pandera'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_proposal_fits_the_table_it_came_from():
    c = propose(table(), "t", "left")
    assert {k.name:(k.type, k.role) for k in c.columns} == dict(key=("text", "id"), when=("datetime", "time"), size=("number", "feature"),
        count=("integer", "feature"), plan=("category", "feature"), flag=("boolean", "feature"), left=("category", "target"))
    assert not len(enforce(table(), c)) and not len(enforce(coerce(table(), c), c))
    assert read_contract(yaml.safe_load(yaml.safe_dump(tidy(plain(c))))) == read_contract(tidy(c)) == Contract(**tidy(c))


def test_range_holds_the_values_it_came_from():
    t = table().assign(size=np.random.default_rng(1).normal(1e6, 1, 120) + 0.123456789)
    assert not len(check_table(t, propose(t, "t", "left")))


@pytest.mark.parametrize("target,task,classes", [
    (["yes", "no"], "binary", ["no", "yes"]), ([0, 1], "binary", ["0", "1"]), ([True, False], "binary", ["false", "true"]), ([1.0, None, 0.0], "binary", ["0", "1"]),
    (["good", "good", "bad"], "binary", ["good", "bad"]), (["a", "b", "c"], "multiclass", ["a", "b", "c"]), ([1, 2, 3], "multiclass", ["1", "2", "3"]),
    ([10, 200, 3000, 4], "regression", None), ([0.1, 0.2, 0.3], "regression", None), (["Yes", "yes ", "Yes", "no"], "binary", ["no", "Yes"])])
def test_task_and_classes(target, task, classes):
    c = propose(pd.DataFrame({"x":np.arange(60)/7, "y":(target*60)[:60]}), "t", "y")
    assert (c.task, c.classes, c.positive) == (task, classes, classes[1] if task == "binary" else None)


@pytest.mark.parametrize("change,words", [
    (dict(left="no"), ["`left` holds only 'no'", "at least two", "frame.target"]),
    (dict(left=None), ["`left` holds no value at all"]),
    (dict(left=[f"v{i}" for i in range(120)]), ["120 different values", "at most 100", "frame.target"]),
    (dict(_x=1), ["_x", "Rename"])])
def test_targets_and_names_that_do_not_do(change, words):
    refusal(words, propose, table().assign(**change), "t", "left")


def test_parameters_that_do_not_fit():
    refusal(["no column `lefft`", "did you mean `left`?", "frame.target"], propose, table(), "t", "lefft")
    refusal(["`plann`", "did you mean `plan`?", "collect.roles"], propose, table(), "t", "left", {"plann":"id"})
    refusal(["`identity`", "Allowed: feature"], propose, table(), "t", "left", {"plan":"identity"})
    refusal(["`plan` the role `time`", "of type category"], propose, table(), "t", "left", {"plan":"time"})
    refusal(["positive class 'YES'", "did you mean `yes`?"], propose, table(), "t", "left", positive="YES")
    refusal(["only a binary task"], propose, table(), "t", "size", positive="yes")
    refusal(["regression", "of type category"], propose, table(), "t", "left", task="regression")
    refusal(["No column is left"], propose, table()[["key", "left"]], "t", "left")


def test_all_missing_and_constant_columns_are_set_aside():
    c = propose(table().assign(empty=np.nan, none=None, same="x"), "t", "left")
    assert c.by_role("constant") == ["empty", "none", "same"]
    assert not {"empty", "none", "same"} & set(inputs(table(), c))


def test_copies_of_columns_and_of_the_target():
    c = propose(table().assign(again=lambda t: t["size"], answer=lambda t: t.left), "t", "left")
    assert c.column("again").role == "forbidden" and c.column("again").meaning == "duplicate of size"
    assert c.column("answer").role == "leaking"


def test_a_category_of_ten_thousand_levels_is_a_text():
    t = pd.DataFrame({"x":np.arange(20_000) % 7 + 0.5, "city":[f"c{i % 10_000}" for i in range(20_000)], "y":[0, 1]*10_000})
    c = propose(t, "t", "y")
    assert c.column("city").type == "text" and "10000 different texts" in c.column("city").meaning and "city" not in inputs(t, c)


def test_infinite_values_are_a_warning_that_later_stages_settle():
    t = table()
    t.loc[3, "size"] = np.inf
    c = propose(t, "t", "left")
    found = check_table(t, c)
    assert [(f.column, f.rule, f.level, f.rows) for _,f in found.iterrows()] == [("size", "finite", "warning", [3])]
    assert c.column("size").nullable and np.isfinite(c.column("size").maximum)


def test_integers_with_gaps_and_booleans_in_every_writing():
    assert str(parse(pd.Series([1.0, None, 3.0]), "integer")[0].dtype) == "Int64"
    for flags in ([True, False, None], [1, 0, None], ["true", "FALSE", " "], pd.array([True, False, None], dtype="boolean")):
        read, bad = parse(pd.Series(flags), "boolean")
        assert [None if pd.isna(v) else bool(v) for v in read] == [True, False, None] and not bad.any()
    t = pd.DataFrame({"x":["Yes", "No"]*30, "y":[0, 1]*30})
    assert propose(t, "t", "y", {"x":"feature"}).column("x").type == "category"


@pytest.mark.parametrize("dtype", ["category", "string[pyarrow]", "object", "str"])
def test_dtypes_of_texts(dtype):
    t = table()
    c = propose(t.assign(plan=t.plan.astype(dtype)), "t", "left")
    assert c.column("plan").categories == ["basic", "pro"]
    assert list(inputs(t.assign(plan=t.plan.astype(dtype)), c)["plan"]) == list(t.plan)


def test_broken_tables():
    c = propose(table(), "t", "left")
    t = table().astype({"count":object})
    t.loc[[2, 5], "count"] = "many"
    refusal(["count: 2 of 120 values not readable", "allowed: integer", "rows 2, 5", "'many'", "data/contracts/t.yaml"], enforce, t, c)
    refusal(["'many'"], coerce, t, c)
    refusal(["plan: no such column", "did you mean `plann`?"], enforce, table().rename(columns={"plan":"plann"}), c)
    refusal(["size: 1 of 120 values missing"], enforce, table().assign(size=lambda t: t["size"].where(t.index != 4)), c)
    refusal(["left: 1 of 120 values no class", "'maybe'"], enforce, table().assign(left=lambda t: t.left.where(t.index != 4, "maybe")), c)


def test_new_values_warn_and_reject_as_the_contract_says():
    c = propose(table(), "t", "left")
    t = table().assign(plan="family", size=1e6)
    assert sorted(enforce(t, c).rule) == ["category", "range"]
    strict = c.model_copy(update={"columns":[k.model_copy(update=dict(unseen="reject", outside="reject")) for k in c.columns]})
    refusal(["plan: 120 of 120 values not listed", "basic, pro", "out of range"], enforce, t, strict)
    assert not len(enforce(table().assign(plan=lambda t: t.plan.str.upper() + " "), c)) # spelling is prepare's business


def test_personal_values_are_never_shown():
    t = table().assign(email=[f"p{i}@x.org" for i in range(120)])
    c = propose(t, "t", "left", {"email":"feature"})
    assert c.column("email").personal and "@x.org" not in str(c)
    with pytest.raises(ContractBroken) as e: enforce(t.assign(email=None), c)
    c = c.model_copy(update={"columns":[k.model_copy(update=dict(type="integer")) if k.name == "email" else k for k in c.columns]})
    with pytest.raises(ContractBroken) as e: enforce(t, c)
    assert "@x.org" not in str(e.value) and "(masked)" in str(e.value)
    assert "@x.org" not in str(check_row({"email":"p1@x.org"}, c))


ROW = dict(size=5.0, count=3, plan="pro", flag=True)

@pytest.mark.parametrize("change,rule,words", [
    (dict(size="5"), "type", "a number"), (dict(size=True), "type", "a number"), (dict(size=[5]), "type", "a number"), (dict(size={}), "type", "a number"),
    (dict(size=float("inf")), "finite", "finite"), (dict(size=10**400), "type", "a number"), (dict(size=None), "missing", "missing"), (dict(size=float("nan")), "missing", "missing"),
    (dict(count=1.5), "type", "whole"), (dict(count=float("inf")), "finite", "finite"), (dict(count=10**400), "type", "whole"), (dict(flag="Yes"), "type", "true or false"),
    (dict(flag=2), "type", "true or false"), (dict(plan=7), "type", "basic, pro"), (dict(plan=["pro"]), "type", "a text"), (dict(plan="  "), "missing", "missing"),
    (dict(plann="pro"), "unknown", "did you mean `plan`?")])
def test_bad_rows(change, rule, words):
    errors, _ = check_row(ROW | change, propose(table(), "t", "left"))
    assert [e["rule"] for e in errors] == [rule] and words in errors[0]["message"]


def test_rows_that_only_warn():
    c = propose(table(), "t", "left")
    assert check_row(ROW, c) == check_row(ROW | dict(key="K1", left="no"), c) == check_row(ROW | dict(flag="true"), c) == check_row(ROW | dict(count=3.0), c) == ([], [])
    errors, warnings = check_row(ROW | dict(size=1e9, plan="family"), c)
    assert not errors and [w["rule"] for w in warnings] == ["range", "category"]
    assert "did you mean `pro`?" in check_row(ROW | dict(plan="PRO "), c)[1][0]["message"]


def test_dates_in_rows():
    c = Contract(name="d", task="regression", columns=[Column(name="d", type="datetime", nullable=True), Column(name="y", type="number", role="target")])
    for ok in ["2025-07-31", "2025-07", "2025-07-31T10:00:00Z", "2025-07-31 10:00", pd.Timestamp("2025-07-31").to_pydatetime(), None]: assert check_row({"d":ok}, c) == ([], [])
    for bad in ["31.7.2025", 20300, "soon", True, "2025-13-01"]: assert check_row({"d":bad}, c)[0][0]["rule"] == "type"
    assert inputs({"d":["1970-01-02T12:00:00+12:00", None]}, c)["d"].tolist()[0] == 1.0


def test_tables_and_lists_give_the_same_inputs():
    t = table()
    t["count"] = t["count"].astype("float").where(t.index != 3)
    t.loc[4, "plan"] = None
    c = propose(t, "t", "left")
    lists = {k:[None if pd.isna(v) else v for v in t[k].tolist()] for k in t}
    arrays = {k.name:t[k.name].to_numpy() for k in c.features}
    a = inputs(t, c)
    for b in (inputs(lists, c), inputs(arrays, c), inputs(coerce(t, c), c)):
        assert list(a) == list(b) == ["size", "count", "plan", "flag"]
        for k in a: np.testing.assert_array_equal(a[k], b[k]); assert a[k].dtype == b[k].dtype
    assert a["plan"][4] == "" and np.isnan(a["count"][3])


def test_inputs_refuse():
    c = propose(table(), "t", "left")
    refusal(["`plan`", "did you mean `plam`?"], inputs, {"size":[1.], "count":[1], "plam":["pro"], "flag":[True]}, c)
    refusal(["`size`", "a number"], inputs, {"size":["old"], "count":[1], "plan":["pro"], "flag":[True]}, c)


def test_one_row_is_fast():
    c = propose(table(), "t", "left")
    one = {k:[v] for k,v in ROW.items()}
    assert min(timeit.repeat(lambda: inputs(one, c), number=200, repeat=5))/200/len(one) < 100e-6 # 2 µs here; the limit is for busy machines


def test_labels():
    c = propose(table(), "t", "left")
    assert labels(table(), c).tolist() == (table().left == "yes").astype(int).tolist()
    refusal(["no readable label in 1 of 120"], labels, table().assign(left=lambda t: t.left.where(t.index != 3)), c)
    refusal(["'Yes'", "no, yes"], labels, table().assign(left="Yes"), c)


def test_narrow():
    t = table()
    c = narrow(propose(t, "t", "left"), t[t.plan == "pro"])
    assert c.column("plan").categories == ["pro"] and check_row(ROW | dict(plan="basic"), c)[1][0]["rule"] == "category"


@pytest.mark.parametrize("values,words", [
    ({}, ["no contract"]), ({"name":"t", "task":"binary", "columns":[]}, ["exactly one"]),
    ({"name":"t", "task":"guess", "columns":[{"name":"y", "type":"number", "role":"target"}]}, ["`task` is 'guess'"]),
    ({"name":"t", "task":"regression", "columns":[{"name":"y", "type":"number", "role":"target"}, {"name":"y", "type":"number"}]}, ["listed twice: y"]),
    ({"name":"t", "task":"regression", "columns":[{"name":"y", "type":"number", "rol":"target"}]}, ["column `y`", "did you mean `role`?"]),
    ({"name":"t", "task":"binary", "positive":"a", "classes":["a", "b"], "columns":[{"name":"y", "type":"category", "role":"target"}]}, ["the second being `positive`"])])
def test_edited_contracts(values, words):
    refusal(["t.yaml", *words], read_contract, values, "t.yaml")


@pytest.mark.parametrize("values,positive", [(["nein", "ja", "ja"], "ja"), (["oui", "non", "oui"], "oui"), ([1, 2, 1], "2"), ([0, 1, 1], "1"), ([-1, 1, 1], "1")])
def test_which_class_is_looked_for(values, positive):
    from mlcycle.contract import find_classes
    assert find_classes(pd.Series(values), "binary")[1] == positive


def test_a_table_without_a_header_is_suspected():
    t = pd.DataFrame({"58":[1, 2, 3], "CH":["a", "b", "c"], "yes":["no", "yes", "no"]})
    with pytest.raises(ProjectError, match="no header"): propose(t, "t", "left")
