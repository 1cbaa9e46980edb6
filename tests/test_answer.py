"Rows in, answers out: the short way says what the long way says, and nothing odd gets an answer or a crash."
import json, random, re, subprocess, sys, timeit
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from bundles import COLUMNS, by_hand
from conftest import PACKAGE, ROOT

from mlcycle.answer import MOST, MOST_EXPLAINED, Answer, Model, Reader, Refusal, answer_id, column_schema, describe, example_row, openapi, read_feedback, read_rows, request_schema
from mlcycle.bundle import load_bundle, prediction_id
from mlcycle.contract import Column, Contract, check_row, inputs

LIMITS = SimpleNamespace(max_rows=100, max_kib=64, seconds=10.)
WIDE = [Column(name="x", type="number", minimum=0.5, maximum=1), Column(name="age", type="integer", minimum=18, maximum=99, nullable=True, outside="reject"),
    Column(name="free", type="number", nullable=True), Column(name="paid", type="boolean"), Column(name="asked", type="boolean", nullable=True),
    Column(name="plan", type="category", categories=["basic", "pro"]), Column(name="code", type="category", categories=["1", "2", "true"], nullable=True, unseen="reject"),
    Column(name="open", type="category"), Column(name="town", type="category", nullable=True, fill="nowhere"), Column(name="mended", type="category", categories=["a b"], broken="repair", nullable=True),
    Column(name="filled", type="integer", fill=40, minimum=18), Column(name="capped", type="number", maximum=9, broken="repair", nullable=True), Column(name="day", type="datetime"),
    Column(name="gone", type="datetime", nullable=True, fill="2025-01-01"), Column(name="note", type="text"), Column(name="more", type="text", nullable=True, fill="None!"), Column(name="letter", type="text", personal=True, nullable=True)]
GOOD = {"x": 0.75, "age": 40, "free": -1.5, "paid": True, "asked": False, "plan": "pro", "code": "2", "open": "any", "town": "Graz", "mended": "a b", "filled": 20, "capped": 3, "day": "2025-07-31", "gone": "2025-07-31T12:00:00+02:00",
    "note": "Too SLOW.", "more": "Ünder №5", }
VALUES = [None, "", "  ", "\u2003", nan, inf, -inf, 0, 1, -0.0, 1.0, 0.75, 2, 40, 40.0, 40.5, 150, 17, 10**30, 1e300, 2**53 + 1, True, False, "true", " FALSE ", "1", "2", "3", "40", "pro", "PRO", "pro ", "a b", "A  b", "basic",
    "2025-07", "2025-07-31", "2025-07-31T10:00", "31.7.2025", "0001-01-01", [], ["a"], {}, {"a": 1}, "\x00", "日本", "x"*300]


def wide(): return Contract(name="wide", task="binary", positive="yes", classes=["no", "yes"], columns=[*WIDE, Column(name="customer", type="text", role="id"), Column(name="y", type="category", role="target")])


def the_long_way(rows, contract):
    "What the contract's own functions say, row by row"
    checked = [check_row(r, contract) for r in rows]
    errors = [{"row": i, **e} for i, (wrong, _) in enumerate(checked) for e in wrong]
    columns = None if errors else inputs({c.name: [r.get(c.name) for r in rows] for c in contract.features}, contract)
    return columns, errors, [[{"row": i, **w} for w in warnings] for i, (_, warnings) in enumerate(checked)]


def same(a, b):
    if a is None or b is None: return a is b
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and np.array_equal(a[k], b[k], equal_nan=a[k].dtype != object) for k in a)


def changed(rng):
    "A good row with none, one or a few things changed"
    row = dict(GOOD)
    for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 5])):
        name = rng.choice([*GOOD, "letter", "customer", "y", "strange"])
        if rng.random() < 0.2: row.pop(name, None)
        else: row[name] = rng.choice(VALUES)
    items = list(row.items()); rng.shuffle(items)
    return dict(items)


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_says_what_the_long_way_says(seed):
    "3,000 requests of odd rows: the same arrays, the same faults, the same warnings"
    rng, contract = random.Random(seed), wide()
    reader, answered = Reader(contract), 0
    for _ in range(750):
        rows = [changed(rng) for _ in range(rng.choice([1, 1, 1, 2, 5]))]
        columns, errors, warnings = reader.read(rows)
        said = the_long_way(rows, contract)
        assert errors == said[1] and warnings == said[2] and same(columns, said[0]), rows
        answered += columns is not None
    assert 100 < answered < 700


def test_each_value_of_each_column_alone():
    contract = wide()
    reader = Reader(contract)
    for name in [*GOOD, "letter"]:
        for value in VALUES:
            rows = [GOOD | {name: value}]
            columns, errors, warnings = reader.read(rows)
            said = the_long_way(rows, contract)
            assert errors == said[1] and warnings == said[2] and same(columns, said[0]), (name, value)


def test_contracts_of_one_column_and_of_one_kind():
    for column, value in [(Column(name="a", type="number"), 1.5), (Column(name="a", type="category"), "b"), (Column(name="a", type="boolean"), True), (Column(name="a", type="text"), "b c"), (Column(name="a", type="datetime"), "2025-01-01"), (Column(name="a", type="integer", nullable=True), None)]:
        contract = Contract(name="one", task="regression", columns=[column, Column(name="y", type="number", role="target")])
        for n in (1, 3): assert same(Reader(contract).read([{"a": value}]*n)[0], the_long_way([{"a": value}]*n, contract)[0])


def test_rows_in_order_take_the_short_way(monkeypatch):
    "Also with columns that are passed over, in another order, without those that may be missing, with whole numbers written 40.0"
    reader = Reader(wide())
    monkeypatch.setitem(Reader.read.__globals__, "read_long", lambda *_: pytest.fail("the long way"))
    full = GOOD | {"letter": None}
    for row in [full, dict(reversed(full.items())), full | {"customer": "c1"}, {k: v for k, v in full.items() if k not in ("age", "asked", "free", "code", "mended", "capped", "letter")}, full | {"age": 40.0, "paid": 1}, full | {"age": None, "code": None}]:
        assert reader.read([row])[0] and reader.read([row]*3)[0]


def test_the_short_way_is_short():
    "A third of the time of checking value by value, or less"
    columns = [c for c in WIDE if c.type not in ("text", "datetime")]
    contract, rows = wide().model_copy(update={"columns": columns}), [{c.name: GOOD[c.name] for c in columns}]
    reader = Reader(contract)
    fast, slow = (min(timeit.repeat(f, number=200, repeat=7)) for f in (lambda: reader.read(rows), lambda: the_long_way(rows, contract)))
    assert slow > 3*fast, (slow/200, fast/200)


def test_hostile_rows_cost_little():
    "Thousands of strange names, names as long as books, a thousand bad rows: answered with a list that ends, in well under a second each"
    reader = Reader(wide())
    hostile = [[GOOD | {f"k{i}": 1 for i in range(50_000)}], [GOOD | {"n"*500_000: 1}], [GOOD | {"plan": "p"*500_000}], [{f"k{j}{i}": 1 for i in range(50)} for j in range(1000)], [GOOD | {"plan": f"{i}" + "q"*1000} for i in range(1000)]]
    for rows in hostile:
        seconds = timeit.timeit(lambda: reader.read(rows), number=1)
        columns, errors, warnings = reader.read(rows)
        assert seconds < 3 and len(errors) <= MOST and len(orjson.dumps([errors, warnings])) < 2_000_000, (seconds, len(errors))


# ---- reading

@pytest.mark.parametrize("body, status, words", [(b"", 422, "no JSON"), (b"{", 422, "no JSON"), (b"\xff\xfe{}", 422, "no JSON"), ('{"rows": [{}]}'.encode("utf-16"), 422, "no JSON"), (b'\xef\xbb\xbf{"rows": [{}]}', 422, "no JSON"), (b"["*100_000, 422, "no JSON"),
    (b'{"rows": [NaN', 422, "no JSON"), (b'{"a":' * 2000 + b"NaN" + b"}"*2000, 422, "no JSON"), (b'{"rows": [{"x": "\\ud800"}]}', 422, "no JSON"), (b'{"rows": [{"x": "\\ud800", "n": NaN}]}', 422, "no JSON"),
    (b"[1]", 422, "another form"), (b"null", 422, "another form"), (b'{"rows": {}}', 422, "another form"), (b'{"rows": []}', 422, "another form"), (b'{"rows": [{}, 1]}', 422, "another form"), (b'{"rows": [{}], "x": 1}', 422, "another form"),
    (b'{"rows": [{}, {}, {}, {}]}', 413, "`serve.max_rows`"), (b'{"rows": [{"x": NaN}]}', 422, "`x` is NaN"), (b'{"rows": [{"x": 1}, {"x": -Infinity}]}', 422, "`x` is -Infinity"), (b'{"rows": [{"x": 1e999}]}', 422, "`x` is Infinity")])
def test_what_is_no_request_is_refused_in_words(body, status, words):
    rows, refusal = read_rows(body, 3)
    assert rows is None and refusal[0] == status and words in refusal[1]["message"]
    Refusal(**refusal[1]); orjson.dumps(refusal[1])


def test_numbers_that_are_none():
    "`nonfinite: reject` names row and column; `null` takes them as missing, and leaves texts alone"
    body = b'{"rows": [{"x": 1}, {"x": NaN, "plan": "NaN, Infinity", "more": [1, -Infinity]}]}'
    errors = read_rows(body, 9)[1][1]["errors"]
    assert [(e["row"], e["column"], e["found"]) for e in errors] == [(1, "x", "NaN"), (1, "more", "-Infinity")]
    assert read_rows(body, 9, "null") == ([{"x": 1}, {"x": None, "plan": "NaN, Infinity", "more": [1, None]}], None)
    assert read_rows(b'{"rows": [{"x": "NaN"}]}', 9) == ([{"x": "NaN"}], None)
    assert read_rows(b'{"rows": [{"x": 123456789012345678901234567890, "y": NaN}]}', 9, "null")[0] == [{"x": 1.2345678901234568e29, "y": None}]


# ---- answering

@pytest.fixture(scope="module")
def model(tmp_path_factory): return Model(by_hand(tmp_path_factory.mktemp("b")/"bundle"), "1.2.0")


def test_an_answer_says_what_the_bundle_says(tmp_path):
    "All tasks, one row and many, to the last digit; the words around it are typed"
    for task, interval in [("binary", None), ("multiclass", None), ("regression", None), ("regression", 0.9)]:
        bundle = by_hand(tmp_path/f"{task}{interval}", name=task, task=task, interval=interval)
        model, rows = Model(bundle, "2.0.0"), [{"x": x, "plan": p, "customer": "c"} for x, p in zip(np.linspace(0.5, 1, 7).tolist(), ["pro", None]*4)]
        out = bundle.predict(inputs({k: [r[k] for r in rows] for k in ("x", "plan")}, bundle.contract))
        for part in (rows[:1], rows):
            status, body = model.answer(part, "r1")
            said = Answer(**orjson.loads(orjson.dumps(body))).predictions
            assert status == 200 and (body["model"], body["version"], body["digest"], body["request"]) == (task, "2.0.0", bundle.digest, "r1")
            for i, p in enumerate(said):
                if task == "regression": assert [p.value] + ([p.low, p.high] if interval else []) == [float(out[k][i]) for k in out] and p.label is None
                else: assert p.label == out["label"][i] and list(p.scores.values()) == out["scores"][i].tolist() and p.score == (out["scores"][i, 1] if task == "binary" else out["scores"][i].max())


def test_one_bad_row_and_there_is_no_answer(model):
    status, body = model.answer([{"x": 0.6}, {"x": "a", "plan": "gold", "z": 1}, {}], "r1")
    assert status == 422 and [(e["row"], e["column"], e["rule"]) for e in body["errors"]] == [(1, "x", "type"), (1, "plan", "category"), (1, "z", "unknown"), (2, "x", "missing")]
    assert (body["model"], body["version"], body["request"]) == ("tiny", "1.2.0", "r1") and "2 of 3 rows" in body["message"]
    assert "basic, pro" in body["errors"][1]["allowed"] and Refusal(**body)


def test_unusual_is_answered_with_a_warning_unless_the_contract_rejects_it(model, tmp_path):
    status, body = model.answer([{"x": 0.6}, {"x": 7}], "r1")
    assert status == 200 and [len(p["warnings"]) for p in body["predictions"]] == [0, 1] and body["predictions"][1]["warnings"][0] == {"row": 1, "column": "x", "rule": "range", "found": "7", "allowed": "0.5 to 1", "message": "`x` is 7; allowed: 0.5 to 1"}
    strict = by_hand(tmp_path/"b", columns=[COLUMNS[0].model_copy(update={"outside": "reject"})])
    assert Model(strict, "1").answer([{"x": 7}], "r1")[0] == 422


def test_too_large_to_compute_is_no_crash(model):
    status, body = model.answer([{"x": 0.6}, {"x": 1.7e308}], "r1")
    assert status == 422 and body["errors"][0]["rule"] == "finite" and body["errors"][0]["row"] == 1


def test_prediction_ids(model):
    "Twins have two ids, the order of columns makes none, a request sent again has the same, other requests and other bundles have others"
    twin = {"x": 0.6, "plan": "pro"}
    ids = lambda rows, request="r1": [p["id"] for p in model.answer(rows, request)[1]["predictions"]]
    assert ids([twin, twin]) == ids([twin, {"plan": "pro", "x": 0.6}]) and len({*ids([twin, twin]), *ids([twin, twin], "r2"), *ids([twin | {"x": 0.7}])}) == 5
    assert ids([twin])[0] == prediction_id(model.digest, 'r1/0/{"plan":"pro","x":0.6}') == answer_id(model.digest, "r1", 0, twin) != answer_id("other", "r1", 0, twin)
    assert all(re.fullmatch("[0-9a-f]{24}", i) for i in ids([twin]*50))


def test_personal_values_are_in_no_words(tmp_path):
    bundle = by_hand(tmp_path/"b", columns=[*COLUMNS, Column(name="income", type="number", maximum=10, personal=True)])
    for income in (1e6, "Ann Smith"): assert "1000000" not in (text := json.dumps(Model(bundle, "1").answer([{"x": 0.6, "income": income}], "r"))) and "Ann" not in text and "(masked)" in text


def test_reasons_are_told_for_a_few_rows(model, monkeypatch):
    from mlcycle import reasons
    monkeypatch.setattr(reasons, "explain", lambda bundle, columns: [{"x": v, "plan": 0.} for v in columns["x"].tolist()])
    said = model.answer([{"x": 0.6}, {"x": 0.7}], "r1", explain=True)[1]["predictions"]
    assert [p["contributions"] for p in said] == [{"x": 0.6, "plan": 0.}, {"x": 0.7, "plan": 0.}]
    assert "contributions" not in model.answer([{"x": 0.6}], "r1")[1]["predictions"][0]
    status, body = model.answer([{"x": 0.6}]*(MOST_EXPLAINED + 1), "r1", explain=True)
    assert status == 422 and str(MOST_EXPLAINED) in body["message"]


# ---- what came true

@pytest.mark.parametrize("change, column", [({"id": "x"}, "id"), ({"id": None}, "id"), ({"id": "A"*24}, "id"), ({"label": "Yes"}, "label"), ({"label": None}, "label"), ({"label": []}, "label"), ({"value": 1}, None)])
def test_feedback_is_held_against_the_contract(model, change, column):
    good, contract = {"id": "0"*24, "label": "yes"}, model.bundle.contract
    assert read_feedback(orjson.dumps({"feedback": [good]}), contract, 5) == ([good], None)
    entries, (status, body) = read_feedback(orjson.dumps({"feedback": [good, good | change]}), contract, 5)
    assert entries is None and status == 422 and [(e["row"], e["column"]) for e in body["errors"]] == [(1, column)]


def test_feedback_for_quantities_and_of_other_forms(tmp_path):
    contract = by_hand(tmp_path/"b", task="regression").contract
    for value, fine in [(1, True), (-2.5, True), ("1", False), (True, False), (None, False)]: assert (read_feedback(orjson.dumps({"feedback": [{"id": "0"*24, "value": value}]}), contract, 5)[1] is None) == fine
    for body, status in [(b"", 422), (b"[]", 422), (b'{"feedback": []}', 422), (b'{"feedback": [1]}', 422), (orjson.dumps({"feedback": [{}]*6}), 413), (b'{"feedback": [{"id": "000000000000000000000000", "value": NaN}]}', 422)]: assert read_feedback(body, contract, 5)[1][0] == status


# ---- the interface on paper

def test_schemas_say_what_the_contract_says():
    columns = {c.name: column_schema(c) for c in WIDE}
    assert columns["age"]["type"] == ["integer", "null"] and (columns["age"]["minimum"], columns["age"]["maximum"]) == (18, 99) and "minimum" not in columns["x"]
    assert columns["code"]["enum"] == ["1", "2", "true", "", None] and "enum" not in columns["plan"] and "basic, pro" in columns["plan"]["description"]
    assert "In share." in column_schema(COLUMNS[0])["description"] and "how often" in column_schema(COLUMNS[0])["description"]
    assert check_row(example_row(wide()), wide()) == ([], [])


def test_openapi_is_valid_and_holds_examples_that_are_answered(model, tmp_path):
    from jsonschema import Draft202012Validator
    other = Model(by_hand(tmp_path/"b", name="other", task="regression"), "3.0.0")
    described = openapi([model, other], LIMITS, keys=True)
    for name, schema in described["components"]["schemas"].items(): Draft202012Validator.check_schema(schema)
    for m in (model, other):
        request = described["components"]["schemas"][f"{m.name}_request"]
        assert request["examples"] == [{"rows": [m.example]}] and m.answer(request["examples"][0]["rows"], "r")[0] == 200
        assert {f"/v1/models/{m.name}:predict", f"/v1/models/{m.name}/versions/{m.version}:predict", f"/v1/models/{m.name}/feedback", f"/v2/models/{m.name}/infer"} <= set(described["paths"])
    references = set(re.findall(r'"#/components/(\w+)/([\w.]+)"', json.dumps(described)))
    assert all(name in described["components"][part] for part, name in references)
    names = [o["operationId"] for path in described["paths"].values() for o in path.values()]
    assert len(names) == len(set(names)) and described["security"] == [{"bearer": []}, {"key": []}] and openapi([model], LIMITS)["security"] == []


def test_a_caller_reads_nothing_of_models_that_are_not_the_callers(model, tmp_path):
    other = Model(by_hand(tmp_path/"b", name="secret", task="regression"), "3.0.0")
    assert "secret" not in json.dumps(openapi([model], LIMITS)) and "secret" in json.dumps(openapi([model, other], LIMITS))


def test_describe(model):
    said = describe(model)
    assert said["columns"][0] == {"name": "x", "type": "number", "nullable": False, "unit": "share", "meaning": "how often", "minimum": 0.5, "maximum": 1., "categories": None, "outside": "warn", "unseen": "warn", "example": 0.5}
    assert (said["target"], said["version"], said["draft"]) == ("y", "1.2.0", False) and orjson.dumps(said)


def test_what_answers_imports_little():
    code = f"import sys, {PACKAGE}.answer, {PACKAGE}.oip, {PACKAGE}.page; print([m for m in ('pandas', 'sklearn', 'matplotlib', 'fastapi', 'onnx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"
