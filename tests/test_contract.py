"The contract meets bad tables and bad rows, and says what is wrong, what is allowed and what to do; only a person widens it."
import importlib, os, subprocess, sys, timeit

import numpy as np
import pandas as pd
import pytest
import yaml

from mlcycle.agree import accept, print_contract, print_diff, rewrite
from mlcycle.contract import Column, Contract, ContractBroken, check_row, check_table, coerce, enforce, hashes, inputs, labels, narrow, parse, plain, read_contract
from mlcycle.core import ProjectError, read_file, read_yaml, tidy, write_file
from mlcycle.inspect import check_contract
from mlcycle.propose import find_classes, infer_type, observed_contract, propose, why_personal


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
    assert c.column("city").type == "text" and "10000 different texts" in c.column("city").meaning and inputs(t, c)["city"][0] == "c0"


def test_infinite_values_are_a_warning_that_later_stages_settle():
    t = table()
    t.loc[3, "size"] = np.inf
    c = propose(t, "t", "left")
    found = check_table(t, c)
    assert [(f.column, f.rule, f.level, f.rows) for _,f in found.iterrows()] == [("size", "finite", "warning", [3])]
    assert c.column("size").nullable and np.isfinite(c.column("size").observed["most"])


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
    refusal(["in 1 way:", "count   type  2 of 120 values not readable  integer  2, 5          'many'", "`mlcycle contract diff`", "`mlcycle contract accept [COLUMN]`", "data/contracts/t.yaml"], enforce, t, c)
    refusal(["'many'"], coerce, t, c)
    refusal(["plan    column  no such column; did you mean `plann`?"], enforce, table().rename(columns={"plan":"plann"}), c)
    refusal(["size    missing  1 of 120 values missing"], enforce, table().assign(size=lambda t: t["size"].where(t.index != 4)), c)
    refusal(["left    class  1 of 120 values no class", "'maybe'"], enforce, table().assign(left=lambda t: t.left.where(t.index != 4, "maybe")), c)


def altered(contract, **changes):
    return contract.model_copy(update={"columns":[k.model_copy(update=changes.get(k.name, {}) | changes.get("every", {})) for k in contract.columns]})


def test_new_values_stop_unless_the_column_says_otherwise():
    c = altered(propose(table(), "t", "left"), size=dict(maximum=100.))
    t = table().assign(plan="family", size=1e6)
    refusal(["in 2 ways:", "plan    category  120 of 120 values not listed    basic, pro", "size    range     120 of 120 values out of range  0 to 100"], enforce, t, c)
    for how in ("keep", "repair"): assert sorted(enforce(t, altered(c, every=dict(broken=how))).rule) == ["category", "range"]
    strict = altered(c, every=dict(broken="keep", unseen="reject", outside="reject"))
    refusal(["not listed", "out of range"], enforce, t, strict)
    assert not len(enforce(table().assign(plan=lambda t: t.plan.str.upper() + " "), c)) # spelling is prepare's business


def test_ranges_are_promises_not_observations():
    n = 120
    t = table().assign(share=np.linspace(0.2, 0.9, n), amount=np.linspace(5, 900, n), balance=np.linspace(-5, 5, n), flag01=[0, 1]*(n//2), year=2024, code=-7)
    ranges = {k.name:(k.minimum, k.maximum) for k in propose(t, "t", "left").columns}
    assert ranges["share"] == (0, 1) and ranges["amount"] == ranges["count"] == ranges["flag01"] == (0, None) and ranges["balance"] == (None, None)
    assert ranges["year"] == (2024, 2024) and ranges["code"] == (-7, -7)
    c = propose(t, "t", "left")
    assert not len(enforce(t.assign(amount=1e9), c)) and (c.column("amount").observed["least"], c.column("amount").observed["most"]) == (5, 900)
    refusal(["share   range  1 of 120 values out of range  0 to 1   3", "'1.01'"], enforce, t.assign(share=t.share.where(t.index != 3, 1.01)), c)
    refusal(["amount  range", "0 or more", "'-3'"], enforce, t.assign(amount=t.amount.where(t.index != 3, -3)), c)
    refusal(["year", "2024 to 2024"], enforce, t.assign(year=2025), c)


def test_more_gaps_are_told_and_can_be_made_to_stop():
    t = table().assign(size=lambda t: t["size"].where(t.index % 20 > 0))
    c = propose(t, "t", "left")
    assert c.column("size").observed["missing"] == 0.05 and not len(enforce(t.assign(size=t["size"].where(t.index % 8 > 0)), c))
    worse = t.assign(size=t["size"].where(t.index % 2 > 0))
    found = enforce(worse, c)
    assert [tuple(f[k] for k in ("rule", "level", "count", "rows")) for _, f in found.iterrows()] == [("gaps", "warning", 60, [0, 2, 4, 6, 8])]
    refusal(["size    gaps  60 of 120 values missing, 50 %  missing in 20 % at most"], enforce, worse, altered(c, size=dict(gaps=0.2)))


def test_fill_and_repair_are_the_same_for_tables_and_requests():
    c = altered(propose(table(), "t", "left"), size=dict(broken="repair", minimum=0., maximum=100., nullable=True), count=dict(nullable=True, fill=0), plan=dict(broken="repair", fill="basic", nullable=True), flag=dict(fill="true", nullable=True))
    rows = {"size":[1., -1., 1e3, None], "count":[1, None, 2, 3], "plan":["pro", "gold", None, "PRO"], "flag":[None, False, True, True]}
    a, b = inputs(rows, c), inputs(pd.DataFrame(rows), c)
    for k in a: np.testing.assert_array_equal(a[k], b[k])
    np.testing.assert_array_equal(a["size"], [1, np.nan, np.nan, np.nan])
    assert a["count"].tolist() == [1, 0, 2, 3] and a["plan"].tolist() == ["pro", "basic", "basic", "PRO"] and a["flag"].tolist() == [1, 0, 1, 1]
    kept = narrow(c, table())
    assert (kept.column("size").minimum, kept.column("size").maximum) == (0, 100) and inputs({"size":[1.], "plan":["pro"]}, kept)["count"].tolist() == [0]
    assert narrow(altered(c, size=dict(broken="stop")), table()).column("size").maximum < 100


def test_a_few_slips_can_be_taken_as_missing_but_not_a_whole_column():
    c = altered(propose(table(), "t", "left"), count=dict(broken="repair"))
    t = table().astype({"count":object})
    few, many = t.assign(count=t["count"].where(t.index > 3, "three")), t.assign(count=t["count"].where(t.index > 30, "three"))
    found = enforce(few, c)
    assert [(f["rule"], f["level"], f["count"], f["samples"]) for _, f in found.iterrows()] == [("type", "warning", 4, ["'three'"])] and coerce(few, c)["count"].isna().sum() == 4
    refusal(["count   type  31 of 120 values not readable"], enforce, many, c)
    with pytest.raises(ContractBroken): coerce(many, c)
    with pytest.raises(ContractBroken): enforce(few, altered(c, count=dict(broken="keep"))) # what is not readable cannot be kept


@pytest.mark.parametrize("keys,words", [
    (dict(broken="ignore"), "'stop', 'repair' or 'keep'"), (dict(fill="many"), "`fill` is 'many'; allowed: a whole number"), (dict(fill=1.5), "`fill` is 1.5; allowed: a whole number"), (dict(gaps=2), "less than or equal to 1"),
    (dict(fill=float("inf")), "`fill` is inf"), (dict(fill=1, nullable=False), "take one of the two out"), (dict(type="category", fill=False), "write it in quotes"),
    (dict(minimum=float("nan")), "finite number"), (dict(type="boolean", minimum=0), "are for numbers, and the type is boolean"), (dict(categories=["1"]), "are for the type category"),
    (dict(minimum=3, maximum=2), "`minimum` 3 is above `maximum` 2"), (dict(type="category", personal=True, categories=["Ann Lee"]), "lists no values: take `categories` out")])
def test_promises_that_make_no_sense(keys, words):
    values = {"name":"t", "task":"regression", "columns":[{"name":"x", "type":"integer"} | keys, {"name":"y", "type":"number", "role":"target"}]}
    refusal(["t.yaml", "column `x`", words], read_contract, values, "t.yaml")


@pytest.mark.parametrize("keys,words", [(dict(role="time"), "`x` is the time and of type category"), (dict(role="arrival", type="integer"), "`x` is the arrival and of type integer; allowed for it: datetime"),
    (dict(role="target"), "`x` is the target and of type category; allowed for it: number, integer")])
def test_roles_that_a_type_cannot_have(keys, words):
    other = {"name":"y", "type":"number", "role":"feature" if keys["role"] == "target" else "target"}
    refusal(["t.yaml", words], read_contract, {"name":"t", "task":"regression", "columns":[{"name":"x", "type":"category"} | keys, other]}, "t.yaml")


def test_what_stands_for_a_missing_value_lets_it_be_missing():
    c = read_contract({"name":"t", "task":"regression", "columns":[{"name":"x", "type":"integer", "fill":3}, {"name":"y", "type":"number", "role":"target"}]})
    assert not len(check_table(pd.DataFrame({"x":[1, None], "y":1.}), c)) and check_row({}, c) == ([], []) == check_row({"x":None}, c)
    assert inputs({"x":[1, None]}, c)["x"].tolist() == [1, 3] == inputs(pd.DataFrame({"x":[1, None]}), c)["x"].tolist()
    assert read_contract(read_yaml(yaml.safe_dump(plain(c)))) == c


NAMES = [f"{a} {b}" for a in ("Anna", "Bo", "Chen", "Dana", "Eve", "Faruk") for b in ("Adams", "van Berg", "O'Connor", "Du Pont", "Weiß-Blau", "Ng")]

@pytest.mark.parametrize("name,values,why", [
    ("reach", [f"p{i}@x.org" for i in range(30)], "mail addresses"), ("line", [f"+49 170 12345{i:02d}" for i in range(30)], "telephone numbers"),
    ("konto", [f"DE89 3704 0044 0532 0130 {i:02d}" for i in range(30)], "account numbers (IBAN)"), ("host", [f"10.0.0.{i}" for i in range(30)], "addresses of machines (IP)"),
    ("Name", NAMES, "names of people"), ("customer_name", NAMES, "names of people"), ("CustomerContact", NAMES, "names of people"), ("passenger", [f"{n.split()[-1]}, Mr. {n.split()[0]}" for n in NAMES], "names of people"),
    ("lastName", [f"Name{chr(97 + i % 26)}{i}" for i in range(40)], "personal, by its name"), ("first_name", NAMES, "personal, by its name"), ("surname", ["Adams", "Berg", "Ng", "Weiß", "Roe", "Du"]*9, "personal, by its name"), ("dob", [str(d) for d in range(40)], "personal, by its name"),
    ("product_name", NAMES, ""), ("name", ["basic plan", "pro plan"]*20, ""), ("title", NAMES, ""), ("phone", ["yes", "no"]*20, ""), ("logins", [str(i) for i in range(40)], ""), ("day", [f"{i}/12/2024 10:00" for i in range(1, 29)], "")])
def test_personal_columns_are_found_by_name_and_content(name, values, why):
    assert why_personal(name, pd.Series(values, dtype="str"), "text") == why
    t = table(len(values)).assign(**{name:values})
    c = propose(t, "t", "left").column(name)
    assert c.personal == bool(why) and (c.role != "feature" or not why)
    if why: assert not any(v in str(c) for v in values if len(v) > 3)


def test_a_person_decides_what_is_personal():
    c = propose(table(36).assign(name=NAMES), "t", "left", {"name":"group"}).column("name")
    assert c.personal and c.role == "group" and c.categories is None
    refusal(["36 different values (masked)", "frame.target"], propose, table(36).assign(name=NAMES), "t", "name")


class Columns:
    "A table by column, as on disk: not a DataFrame, one column at a time"
    def __init__(self, table): self.table, self.read = table, []
    def __iter__(self): return iter(self.table.columns)
    def __contains__(self, name): return name in self.table.columns
    def __len__(self): return len(self.table)
    def __getitem__(self, name): self.read.append(name); return self.table[name]
    columns = property(lambda self: list(self.table.columns))


def test_a_table_by_column_is_enough():
    t = table().assign(again=lambda t: t["size"], known=lambda t: t.when + pd.Timedelta(days=3))
    t = pd.concat([t, t[:3]], ignore_index=True)
    assert propose(Columns(t), "t", "left") == propose(t, "t", "left")
    assert propose(t, "t", "left").column("key").role == "id" and propose(t, "t", "left").column("again").meaning == "duplicate of size"
    c, odd = propose(t, "t", "left"), t.assign(plan="gold").drop(columns="size")
    assert check_table(Columns(odd), c).to_dict("records") == check_table(odd, c).to_dict("records") and len(check_table(odd, c)) == 3
    assert plain(observed_contract(Columns(odd), c)) == plain(observed_contract(odd, c))


def test_hashes_are_the_same_in_pieces():
    for values in (["a", "b", None, "a"]*5, [1.5, None, 2.]*5, [1, 2, 3]*5, [True, False]*5):
        s = pd.Series(values)
        assert (hashes(s, 3) == hashes(s)).all() and hashes(s)[0] == hashes(s[:1])[0] and len(set(hashes(s))) == s.nunique(dropna=False)


def test_types_need_all_values():
    assert infer_type(pd.Series(["1"]*150_000 + ["x"])) == "category" and infer_type(pd.Series([str(i) for i in range(150_000)] + ["1.5"])) == "number"
    assert infer_type(pd.Series([f"v{i}" for i in range(150_000)])) == "text"


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
    errors, warnings = check_row(ROW | dict(count=-1, plan="family"), c)
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
    assert find_classes(pd.Series(values), "binary")[1] == positive


def test_a_table_without_a_header_is_suspected():
    t = pd.DataFrame({"58":[1, 2, 3], "CH":["a", "b", "c"], "yes":["no", "yes", "no"]})
    with pytest.raises(ProjectError, match="no header"): propose(t, "t", "left")


# ---- the second delivery: told, looked at, decided

def second():
    "Everything that can go wrong in a delivery"
    t = table().assign(plan=lambda t: t.plan.where(t.index > 1, "gold"), count=lambda t: t["count"].where(t.index != 7, -2), bonus=1.5, mail=[f"p{i}@x.org" for i in range(120)])
    return t.assign(size=t["size"].astype(object).where(t.index != 4, "n/a")).drop(columns="flag")


@pytest.fixture
def project(tmp_path):
    "A project whose contract has just been broken"
    for name, text in {"dvc.yaml":"", "params.yaml":"collect: {name: t}\n"}.items(): (tmp_path/name).write_text(text)
    c = propose(table().assign(key=table().key), "t", "left")
    write_file(plain(c), tmp_path/"data/contracts/t.yaml")
    path = tmp_path/"data/contracts/t.yaml"
    path.write_text("# ours\n" + path.read_text().replace("- name: plan\n", "# what they pay for\n- name: plan # basic or pro\n"))
    deliver(tmp_path, second())
    return tmp_path


def deliver(root, t):
    "What the stage `collect` leaves"
    c, folder = read_contract(read_file(root/"data/contracts/t.yaml")), root/"data/runs/contract"
    write_file(plain(observed_contract(t, c)), folder/"t.yaml")
    (folder/"t.broken.json").unlink(missing_ok=True)
    try: enforce(t, c)
    except ContractBroken as e: write_file(e.findings.to_dict("records"), folder/"t.broken.json"); return e
    finally: os.utime(root/"data/contracts/t.yaml", (1, 1))


def test_the_second_delivery_is_told_with_column_rule_count_rows_and_samples(project, capsys):
    assert print_diff(project) == 1
    out = " ".join(capsys.readouterr().out.split())
    for words in ["size type number text, read as words yes 1 in rows 4: 'n/a'", "count range 0 or more -2 to 8 yes 1 in rows 7: '-2'", "plan category basic, pro also gold yes 2 in rows 0, 1: 'gold'", "flag column boolean, feature gone yes",
                  "bonus unknown no such column number", "mail unknown no such column", "personal no", "`mlcycle contract accept`"]: assert words in out, f"{words}\n{out}"
    assert "x.org" not in out and "x.org" not in "".join(p.read_text() for p in (project/"data").rglob("*.*") if p.is_file())


def test_accept_writes_what_broke_and_nothing_else(project, capsys):
    path = project/"data/contracts/t.yaml"
    before = path.read_text()
    assert accept(project, ["plan"]) == 0
    assert path.read_text() == before.replace("  - pro\n", "  - pro\n  - gold\n", 1)
    assert print_diff(project) == 1 and accept(project) == 0
    after = read_contract(read_yaml(path.read_text()))
    assert after.names == ["key", "when", "size", "count", "plan", "left"] and after.column("count").minimum == -2 and after.column("size").type == "text" and after.column("size").minimum is None
    assert [line for line in path.read_text().splitlines() if "#" in line] == ["# ours", "# what they pay for", "- name: plan # basic or pro"]
    capsys.readouterr()
    assert accept(project) == 0 and "Nothing to accept" in capsys.readouterr().out and print_diff(project) == 0
    assert deliver(project, second()) is None and not len(check_table(second(), after).query("level == 'error'"))


def test_accept_by_name_takes_what_breaks_nothing_too(project):
    assert accept(project, ["bonus", "mail"]) == 0
    c = read_contract(read_file(project/"data/contracts/t.yaml"))
    assert c.column("bonus").role == "constant" and c.column("mail").personal and c.column("mail").role != "feature" and "x.org" not in str(c)
    assert c.column("plan").categories == ["basic", "pro"] and c.column("flag")
    refusal(["In `plann` contract and data do not differ", "did you mean `plan`?"], accept, project, ["plann"])


def test_slips_that_are_repaired_are_told_and_not_accepted(project, capsys):
    path = project/"data/contracts/t.yaml"
    path.write_text(path.read_text().replace("- name: size\n", "- name: size\n  broken: repair\n"))
    assert deliver(project, second()) and print_diff(project) == 1
    assert "size type number text, read as words no" in " ".join(capsys.readouterr().out.split())
    assert accept(project) == 0 and read_contract(read_file(path)).column("size").type == "number" and print_diff(project) == 0


def test_a_column_that_was_renamed_is_told_beside_its_new_name(project, capsys):
    deliver(project, table().assign(key=table().key).rename(columns={"size":"Size"}))
    assert print_diff(project) == 1 and "gone; did you mean `Size`?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("text", ["version: [", "columns: []", ""])
def test_a_contract_that_is_torn_is_a_complaint_everywhere(project, text, monkeypatch):
    monkeypatch.setattr("mlcycle.inspect.project_module", lambda root, verb: importlib.import_module(f"mlcycle.{verb}"))
    (project/"settings.ini").write_text("[DEFAULT]\nlib_name = mlcycle\n")
    path = project/"data/contracts/t.yaml"
    path.write_text(text or path.read_text().replace("name: t\n", "name: other\n", 1))
    os.utime(project/"data/runs/contract/t.broken.json", (1, 1))
    with pytest.raises(ProjectError, match="data/contracts/t.yaml") as e: print_diff(project)
    assert check_contract(project) == [str(e.value)]


@pytest.mark.parametrize("seed", range(12))
def test_any_change_leaves_all_comments_in_their_order(seed):
    rng = np.random.default_rng(seed)
    c, lines = propose(second(), "t", "left"), []
    for i, line in enumerate(yaml.safe_dump(tidy(plain(c)), sort_keys=False).splitlines()):
        if rng.random() < 0.2: lines.append(f"{' '*int(rng.integers(0, 5))}# above {i}")
        lines.append(line + (f" # beside {i}" if rng.random() < 0.2 else ""))
    text = "\n".join(lines) + "\n"*int(rng.integers(0, 3))
    old = read_contract(read_yaml(text))
    new = altered(old, plan=dict(categories=["basic", "gold", "pro", "no", "# hash", "a: b"]), count=dict(minimum=-2.5, maximum=7.), mail=dict(gaps=0.25), size=dict(type="category", categories=["x"], minimum=None))
    gaps = [k.model_copy(update=dict(nullable=True, observed=k.observed | {"missing":0.5})) for k in new.columns]
    new = new.model_copy(update={"columns":[*gaps, Column(name="new: one", type="number")]})
    result = rewrite(text, old, new)
    assert read_contract(read_yaml(result)) == new
    comments = lambda t: [line[line.index("# "):] for line in t.splitlines() if "# above" in line or "# beside" in line]
    assert comments(result) == comments(text)


@pytest.mark.parametrize("change,words", [
    (dict(left=["maybe"] + ["no", "yes"]*59 + ["no"]), "`left`, class: the contract says no, yes, the data show also maybe"), (None, "`left`, column"), (dict(when="soon"), "`when`, type: the contract says datetime, the data show category")])
def test_what_would_be_another_task_is_left_to_a_person(project, capsys, change, words):
    deliver(project, table().assign(**change) if change else table().drop(columns="left"))
    before = (project/"data/contracts/t.yaml").read_text()
    assert accept(project) == 1
    assert words in " ".join(capsys.readouterr().out.split()) and (project/"data/contracts/t.yaml").read_text() == before


def test_classes_of_many_are_widened(tmp_path):
    t = pd.DataFrame({"x":np.arange(60)/7, "y":["a", "b", "c"]*20})
    for name, text in {"dvc.yaml":"", "params.yaml":"collect: {name: t}\n"}.items(): (tmp_path/name).write_text(text)
    write_file(plain(propose(t, "t", "y")), tmp_path/"data/contracts/t.yaml")
    assert deliver(tmp_path, t.assign(y=["d"] + ["a", "b", "c"]*19 + ["a", "b"])) and accept(tmp_path) == 0
    c = read_contract(read_file(tmp_path/"data/contracts/t.yaml"))
    assert c.classes == c.target.categories == ["a", "b", "c", "d"]


def test_a_range_that_is_personal_is_left_to_a_person(project, capsys):
    path = project/"data/contracts/t.yaml"
    path.write_text(path.read_text().replace("- name: count\n", "- name: count\n  personal: true\n"))
    deliver(project, table().assign(count=lambda t: t["count"].where(t.index != 7, -222)))
    assert print_diff(project) == 1 and accept(project) == 1
    out = capsys.readouterr().out
    assert "1 of 120 values out of range" in out and "(masked)" in out and "-222" not in out


def test_what_the_contract_promises_is_a_table(project, capsys):
    assert print_contract(project) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Contract t: 7 columns, to predict left (binary, no or yes)" in out and "plan category feature no basic, pro stop 2 different" in out and "break it in 4 ways: `mlcycle contract diff`" in out


def test_there_has_to_be_something_to_compare(project):
    (project/"data/runs/contract/t.yaml").unlink()
    refusal(["nothing to compare data/contracts/t.yaml with", "`mlcycle run collect`"], print_diff, project)
    refusal(["nothing to compare"], accept, project)
    assert print_contract(project) == 0
    (project/"data/contracts/t.yaml").write_text("columns: [")
    refusal(["t.yaml is not readable as YAML"], print_diff, project)
    (project/"data/contracts/t.yaml").unlink()
    refusal(["no contract data/contracts/t.yaml", "`collect.name`", "`mlcycle run collect`"], print_contract, project)
    write_file({}, project/"data/contracts/tt.yaml")
    refusal(["did you mean `tt`?"], print_contract, project)


def test_a_contract_in_one_line_is_not_torn(project):
    path = project/"data/contracts/t.yaml"
    path.write_text(yaml.safe_dump(read_yaml(path.read_text()), default_flow_style=True, width=10**6))
    before = path.read_text()
    refusal(["data/contracts/t.yaml", "cannot change safely", "by hand"], accept, project)
    assert path.read_text() == before and accept(project, ["plan"]) == 0 and "basic, pro, gold" in path.read_text()


def test_check_tells_of_data_that_break_the_contract(project):
    (project/"settings.ini").write_text("[DEFAULT]\nlib_name = mlcycle\n")
    assert check_contract(project) == ["The data last collected break data/contracts/t.yaml: see `mlcycle contract diff`"]


def test_the_command_teaches_and_ends_with_codes(project):
    run = lambda *words: subprocess.run([sys.executable, "-c", "import sys; from mlcycle.cli import main; sys.exit(main())", *words], cwd=project, capture_output=True, text=True)
    assert run("contract").returncode == 0 and run("contract", "diff").returncode == 1
    assert run("contract", "accept", "nobody").returncode == 2 and "do not differ" in run("contract", "accept", "nobody").stderr
    assert run("contract", "accept").returncode == 0 == run("contract", "diff").returncode
    assert "nothing widens it but you" in run("contract", "--help").stdout and "a new column is added" in run("contract", "accept", "--help").stdout
