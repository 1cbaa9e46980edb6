"The bundle and what serves it: sealed, the same as the pipeline it was made from, and polite to bad rows."
import json, os, random, subprocess, sys
from contextlib import contextmanager

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import PACKAGE, ROOT
from test_features import contract_of, customers
from skl2onnx.sklapi import CastTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mlcycle.bundle import FILES, BundleBroken, Meta, ask, load_bundle, open_graph, prediction_id, seal
from mlcycle.contract import Column, Contract, check_row, count_words, inputs
from mlcycle.core import ProjectError, tidy
from mlcycle.drift import count_values
from mlcycle.graph import NoGraph, NoParity, answer, graph_inputs, hard_rows, insist, make_graph, parity
from mlcycle.package import Params as Packaging
from mlcycle.package import make_meta, make_profile, make_provenance, scale_of, who_approved, write_bundle
from mlcycle.predict import predict_file
from mlcycle.models import make_band, make_pipeline, make_steps, predict, widen
from mlcycle.answer import Answer, Model, as_json, column_schema, example_row
from mlcycle.roster import Roster
from mlcycle.serve import Asker, Params, Trial, at_peak, bad_requests, check_answers, check_log, connect, NotConform, send, started, try_out, write_plan
from mlcycle.serve import insist as insist_on
from mlcycle.load import Latencies
from mlcycle.web import Settings, make_app, running

NUMBERS, CATEGORIES = ["a b", "a/b", "a_b", "größe", "scores", "label", "constant"], ["Plan", "plan", "日本 (x)"]
CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": None}
P = Packaging(tolerance=1e-4, near_splits=0.01, hard_rows=3, bins=10, threads=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(1): yield


def table(n=400, seed=0):
    "Names that are no names, three that become the same, gaps, and a column as large as time stamps"
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({c: rng.normal(i, 1 + i, n) for i, c in enumerate(NUMBERS)})
    t["scores"] = 1.7e9 + rng.integers(0, 10**7, n)
    t["since"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**6, n), unit="min")
    t["flag"] = pd.array(rng.choice([True, False, None], n), "boolean")
    for i, c in enumerate(CATEGORIES): t[c] = rng.choice(["x", "y", "ü|ß"] + [f"l{j}" for j in range(3*i)], n)
    t.loc[::5, "a b"] = np.nan
    t.loc[::6, "plan"] = None
    signal = t["a/b"] - t["a_b"] + (t["scores"] - 1.705e9)/3e6 + 2*(t["plan"] == "x") + t["a b"].fillna(2) + rng.normal(size=n)
    return t, {"binary": (signal > 0).to_numpy().astype(int), "multiclass": np.digitize(signal, [-2, 2]), "regression": 1e4 + 50*signal.to_numpy()}


def contract(task="binary", **columns):
    t, _ = table(20)
    kind = lambda c: "category" if c in CATEGORIES else {"since": "datetime", "flag": "boolean"}.get(c, "number")
    made = [Column(name=c, type=kind(c), nullable=c in ("a b", "plan", "flag"), **columns.get(c, {})) for c in t]
    return Contract(name="odd", task=task, classes=CLASSES[task], positive="yes" if task == "binary" else None, columns=[*made, Column(name="target", type="number" if task == "regression" else "category", role="target")])


def scheme(encoder=None):
    numbers = Pipeline([("scale", StandardScaler()), ("cast", CastTransformer(dtype=np.float32))])
    return ColumnTransformer([("number", numbers, [*NUMBERS, "since", "flag"]), ("category", encoder or OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), CATEGORIES)])


def fit(candidate="boosted", task="binary", encoder=None, **settings):
    t, y = table()
    X = pd.DataFrame(inputs(t, contract(task)))
    model = make_pipeline(scheme(encoder), candidate, task, ({"max_iter": 15} if candidate == "boosted" else {}) | settings).fit(X[:300], y[task][:300])
    return model if task == "regression" else CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(X[300:], y[task][300:])


def gate(model, task="binary", rows=None, c=None):
    t, y = table()
    c = c or contract(task)
    rows = hard_rows(inputs(t, c), c, 3) if rows is None else rows
    return insist(parity(make_graph(model, c), model, c, rows, *scale_of(y[task], c), 1e-4), rows, c, "rows", 0.01)


def make_bundle(folder, model, c, threshold=0.4):
    t, y = table()
    onnx, X = make_graph(model, c), inputs(t, c)
    scores = answer(onnx, c, X)
    origin = make_provenance([], [], {"package": P.model_dump()}, {"source": "example:odd", "rows": len(t)}, who_approved({"status": "launch"}, {"verdict": "pass"}), model)
    meta = make_meta(model, onnx, c, {"threshold": threshold if c.task == "binary" else None}, {"verdict": "pass"}, {}, {"status": "launch"}, scale_of(y[c.task], c)[0], P)
    profile = make_profile(X, y[c.task], scores[:, -1], c, {}, 10)
    return write_bundle(folder, {"model.onnx": onnx.SerializeToString(deterministic=True), "contract.json": c, "bundle.json": meta, "profile.json": profile, "metrics.json": {}, "gate.json": {},
                                 "provenance.json": origin})


def fit_with_band():
    t, y = table()
    X = pd.DataFrame(inputs(t, contract("regression")))
    steps = make_band(make_steps("lightgbm", "regression", {"n_estimators": 15}), "lightgbm", 0.9, 300)
    return widen(Pipeline([("recipe", scheme()), *steps]).fit(X[:300], y["regression"][:300]), X[300:], y["regression"][300:], 0.9)


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression", "band"])
def bundle(request, tmp_path_factory):
    folder, task = tmp_path_factory.mktemp(request.param)/"bundle", request.param.replace("band", "regression")
    make_bundle(folder, fit_with_band() if request.param == "band" else fit(task=task), contract(task))
    return load_bundle(folder)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")/"bundle"
    ranges = {"a/b": dict(minimum=-3., maximum=5., outside="reject"), "a_b": dict(minimum=-1., maximum=2.), "Plan": dict(categories=["x", "y", "ü|ß"], unseen="reject"), "日本 (x)": dict(categories=["x", "y"]), "label": dict(personal=True, minimum=-1e9, maximum=0., outside="reject")}
    make_bundle(folder, fit(), contract(**ranges))
    return folder


# ---- the bundle


@pytest.mark.parametrize("harm, words", [
    (lambda d: (d/"bundle.json").write_text((d/"bundle.json").read_text().replace("0.4", "0.9")), "bundle.json was changed"),
    (lambda d: (d/"model.onnx").write_bytes((d/"model.onnx").read_bytes()[:-1]), "model.onnx was changed"),
    (lambda d: (d/"gate.json").unlink(), "gate.json is missing"),
    (lambda d: (d/"extra.py").write_text(""), "extra.py was added"),
    (lambda d: ((d/"sub").mkdir(), (d/"sub"/"x").write_text("")), "sub/x was added"),
    (lambda d: (d/"SHA256SUMS").write_text("nonsense"), "no list of checksums"),
    (lambda d: (d/"SHA256SUMS").unlink(), "No bundle at"),
    (lambda d: (d/"SHA256SUMS").write_text("".join(l for l in (d/"SHA256SUMS").read_text().splitlines(True) if "gate" not in l)), "gate.json was added"),
])
def test_a_bundle_that_was_touched_is_refused(sealed, tmp_path, harm, words):
    import shutil
    folder = tmp_path/"bundle"
    shutil.copytree(sealed, folder)
    assert load_bundle(folder).digest == load_bundle(sealed).digest
    harm(folder)
    with pytest.raises(BundleBroken) as e: load_bundle(folder)
    assert words in str(e.value) and "dvc repro package" in str(e.value) or "Get the bundle again" in str(e.value)


def test_sums_are_what_sha256sum_reads(sealed):
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=sealed).returncode == 0


def test_what_serves_needs_neither_pandas_nor_scikit_learn(sealed):
    code = f"""
import sys
from {PACKAGE}.answer import Model, example_row
from {PACKAGE}.bundle import load_bundle
import {PACKAGE}.web
b = load_bundle({str(sealed)!r})
assert Model(b, "1.0.0").answer([example_row(b.contract)], "r1")[0] == 200
print([m for m in ("pandas", "sklearn", "skl2onnx", "onnx", "pyarrow", "matplotlib") if m in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_nothing_is_sent_home(sealed, tmp_path):
    "ONNX Runtime reports its use to its makers unless it is told not to before it is loaded: it would keep a number for this machine in the user's cache"
    code = f"from {PACKAGE}.bundle import load_bundle; load_bundle({str(sealed)!r})"
    env = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    assert [p.name for p in tmp_path.rglob("*") if "onnxruntime" in str(p)] == []


def test_the_same_model_is_the_same_bytes_in_another_process(sealed, tmp_path):
    code = "import sys; sys.path.insert(0, 'tests'); import test_deployment as t; from threadpoolctl import threadpool_limits; threadpool_limits(1); print(t.make_bundle(sys.argv[1], t.fit(), t.contract()))"
    digests = {subprocess.run([sys.executable, "-c", code, tmp_path/seed], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}).stdout.strip() for seed in "12"}
    assert len(digests) == 1


def test_one_row_is_answered_as_many(bundle):
    X = inputs(table(150, seed=3)[0], bundle.contract)
    key = "value" if bundle.meta.classes is None else "scores"
    together = bundle.predict(X)[key]
    for size in (1, 3, 7): assert np.array_equal(np.concatenate([bundle.predict({c: v[i:i+size] for c, v in X.items()})[key] for i in range(0, 150, size)]), together)
    assert len(bundle.predict({c: v[:0] for c, v in X.items()})[key]) == 0


def test_the_threshold_is_applied_by_the_bundle(sealed):
    b = load_bundle(sealed)
    out = b.predict(inputs(table()[0], b.contract))
    assert b.meta.threshold == 0.4 and ((out["scores"][:, 1] >= 0.4) == (out["label"] == "yes")).all() and 0 < (out["label"] == "yes").mean() < 1


# ---- the graph and its gate


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("candidate", ["dummy", "rule", "linear", "forest", "boosted", "lightgbm"])
def test_graph_answers_as_the_pipeline_on_hard_rows_of_odd_columns(candidate, task):
    figures = gate(fit(candidate, task), task)
    assert figures["over"] == figures["near_splits"] == 0 and figures["used_of_allowed"] < 0.1


def test_columns_that_become_the_same_name_keep_apart():
    names = graph_inputs(make_graph(fit(), contract()), contract())
    assert list(names) == [c.name for c in contract().features] and len(set(names.values())) == len(names)


def test_gate_refuses_native_categories():
    t, y = table()
    X = pd.DataFrame(inputs(t, contract()))
    recipe = scheme(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32))
    model = make_pipeline(recipe, "boosted", "binary", {"max_iter": 15, "categorical_features": [len(NUMBERS)+2+i for i in range(3)]}).fit(X, y["binary"])
    with pytest.raises(ProjectError, match="native categories .`categorical_features`., which no graph has: let the recipe encode them"): gate(model, rows=inputs(t, contract()))


def test_gate_refuses_isotonic_calibration():
    t, y = table()
    X = pd.DataFrame(inputs(t, contract()))
    model = Pipeline([("recipe", scheme()), ("model", CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=15), method="isotonic", cv=3))]).fit(X, y["binary"])
    with pytest.raises(NoParity) as e: gate(model, rows=inputs(t, contract()))
    for words in ["differs from the pipeline in", "Worst is row", "0.0001 is allowed", "'größe'", "isotonic calibration"]: assert words in str(e.value)


def test_gate_refuses_a_graph_of_another_model():
    "Whatever is wrong, the rows say so: here the graph is of a model that differs by a little"
    t, y = table()
    c, X = contract("regression"), inputs(table()[0], contract("regression"))
    model, other = fit("linear", "regression"), fit("linear", "regression", alpha=30.)
    with pytest.raises(NoParity): insist(parity(make_graph(other, c), model, c, X, *scale_of(y["regression"], c), 1e-4), X, c, "rows", 0.01)


def test_gate_masks_personal_values():
    c = contract(größe=dict(personal=True))
    t, y = table()
    X = pd.DataFrame(inputs(t, c))
    model = Pipeline([("recipe", scheme()), ("model", CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=15), method="isotonic", cv=3))]).fit(X, y["binary"])
    with pytest.raises(NoParity, match=r"'größe': '\(masked\)'"): gate(model, rows=inputs(t, c), c=c)


@pytest.mark.parametrize("unknown", ["ignore", "infrequent_if_exist"])
@pytest.mark.parametrize("limit", [{}, {"max_categories": 4}, {"min_frequency": 40}])
def test_unseen_and_rare_categories(unknown, limit):
    model = fit("linear", "regression", OneHotEncoder(handle_unknown=unknown, sparse_output=False, dtype=np.float32, **limit))
    assert gate(model, "regression")["over"] == 0


def test_what_does_not_convert_says_so():
    t, y = table()
    X = pd.DataFrame(inputs(t, contract("regression")))
    model = make_pipeline(ColumnTransformer([("number", FunctionTransformer(np.log1p), NUMBERS[1:2])]), "linear", "regression").fit(X, y["regression"])
    with pytest.raises(NoGraph, match="FunctionTransformer is not supported.*nbs/05_recipe.ipynb"): make_graph(model, contract("regression"))


def test_answers_carry_their_interval(bundle):
    status, body = Model(bundle, "1.0.0").answer([example_row(bundle.contract)]*2, "r1")
    first = Answer(**body).predictions[0]
    assert status == 200 and body["interval"] == bundle.meta.interval
    assert first.low < first.value < first.high if bundle.meta.interval else first.low is first.high is None


def test_without_categories_without_numbers_and_with_columns_left_out():
    t, y = table()
    X = pd.DataFrame(inputs(t, contract()))
    both = scheme()
    for parts in (both.transformers[:1], both.transformers[1:], [(n, s, c[:1]) for n, s, c in both.transformers]):
        assert gate(make_pipeline(ColumnTransformer(parts), "boosted", "binary", {"max_iter": 10}).fit(X, y["binary"]))["over"] == 0


def test_hard_rows_stay_few_in_wide_tables():
    c = Contract(name="wide", task="regression", columns=[*(Column(name=f"x{i}", type="number") for i in range(600)), Column(name="y", type="number", role="target")])
    rows = hard_rows({f"x{i}": np.arange(20.) for i in range(600)}, c, 5)
    assert 5_000 < len(rows["x0"]) <= 20_000 and all(np.isnan(v).any() for v in list(rows.values())[:3])


def test_the_profile_leaves_personal_columns_out(sealed):
    profile = load_bundle(sealed).read("profile.json")
    assert "label" not in profile["columns"] and set(profile["columns"]) == {c.name for c in contract().features} - {"label"}
    for c in profile["columns"].values(): assert "categories" in c or len(c["edges"]) == len(c["counts"]) + 1


# ---- the API


@pytest.fixture(scope="module")
def api(sealed):
    with client(sealed, max_rows=60, max_kib=64) as c: yield c


@contextmanager
def client(folder, **settings):
    "A server in this process, and somebody who asks it"
    roster = Roster(folder, drafts=True)
    roster.start()
    try:
        with running(make_app(roster, Settings(**settings))) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as c: yield c
    finally: roster.stop()


def row(**changes):
    good = {"a b": 1.0, "a/b": 1.0, "a_b": 1, "größe": 3.0, "scores": 1.7e9, "label": -5.0, "constant": 6, "since": "2024-05-01", "flag": True, "Plan": "x", "plan": None, "日本 (x)": "y"}
    return {k: v for k, v in (good | changes).items() if v != "drop"}


def ask_api(api, *rows, request="r1"): return api.post("/v1/models/odd:predict", json={"rows": list(rows)}, headers={"x-request-id": request})


def test_answers_are_typed_and_the_same_each_time(api, sealed):
    first = ask_api(api, row(), row(plan="x"))
    assert first.status_code == 200 and first.json() == ask_api(api, row(), row(plan="x")).json()
    body, b = first.json(), load_bundle(sealed)
    assert body["digest"] == b.digest and body["threshold"] == 0.4 and body["draft"] is False
    one, two = body["predictions"]
    assert one["id"] != two["id"] and one["warnings"] == [] and one["score"] == one["scores"]["yes"] and (one["label"] == "yes") == (one["score"] >= 0.4)


@pytest.mark.parametrize("changes, column, rule, words", [
    ({"a/b": "many"}, "a/b", "type", "a number"), ({"a/b": True}, "a/b", "type", "a number"), ({"a/b": [1]}, "a/b", "type", "a number"),
    ({"a/b": 7}, "a/b", "range", "-3 to 5"), ({"a/b": None}, "a/b", "missing", "a number"), ({"a/b": "drop"}, "a/b", "missing", "a number"),
    ({"a/b": 10**400}, "a/b", None, "a"), ({"since": "yesterday"}, "since", "type", "a date"), ({"flag": "perhaps"}, "flag", "type", "true or false"),
    ({"Plan": "X"}, "Plan", "category", "did you mean `x`"), ({"Plan": {"x": 1}}, "Plan", "type", "text"), ({"constan": 6}, "constan", "unknown", "did you mean `constant`"),
])
def test_a_bad_value_is_refused_in_words(api, changes, column, rule, words):
    r = ask_api(api, row(), row(**changes))
    assert r.status_code == 422
    [fault] = r.json()["errors"]
    assert fault["row"] == 1 and fault["column"] == column and words in fault["message"] and (rule is None or fault["rule"] == rule)


def test_all_faults_of_all_rows_are_listed(api):
    r = ask_api(api, row(**{"a/b": "x", "Plan": "z"}), row(), row(since=3))
    assert [(e["row"], e["column"]) for e in r.json()["errors"]] == [(0, "a/b"), (0, "Plan"), (2, "since")]
    assert r.json()["message"].startswith("2 of 3 rows")


def test_warnings_come_with_the_answer(api):
    r = ask_api(api, row(**{"a_b": 100, "日本 (x)": "neu"})).json()
    assert [(w["column"], w["rule"]) for w in r["predictions"][0]["warnings"]] == [("a_b", "range"), ("日本 (x)", "category")]


def test_personal_values_are_not_repeated(api):
    r = ask_api(api, row(label=123456789.0))
    assert r.status_code == 422 and "123456789" not in r.text and "(masked)" in r.text


@pytest.mark.parametrize("body, status", [(b"", 422), (b"{", 422), (b"null", 422), (b"[]", 422), (b'{"rows": {}}', 422), (b'{"rows": [1]}', 422), (b'{"rows": [], "x": 1}', 422), (b"\xff\xfe{", 422),
    (b'{"rows": [{"a/b": NaN}]}', 422), (b'{"rows": [{"Plan": "\\ud800"}]}', 422), (b"["*60_000, 422), (b'{"rows": [' + b"9"*5000 + b"]}", 422), (b" "*70_000, 413), (json.dumps({"rows": [{}]*61}).encode(), 413)])
def test_a_bad_request_is_refused(api, body, status):
    r = api.post("/v1/models/odd:predict", content=body)
    assert r.status_code == status and r.json()["message"]


def test_a_body_that_hides_its_length_is_cut_off(api):
    r = api.post("/v1/models/odd:predict", content=(b" "*1000 for _ in range(100)))
    assert r.status_code == 413


def test_whatever_is_sent_nothing_breaks(api):
    "Random values in random columns: an answer or a refusal, never an error of the server"
    rng = random.Random(0)
    odd = [None, True, 0, -1, 1e308, -1e308, 1e-320, 10**30, "", " ", "x", "日本", "\0", "1e5", "NaN", [], {}, [None], "2024-02-30", "9999-12-31", "0001-01-01", "x"*5000]
    for _ in range(200):
        r = ask_api(api, *(row(**{c: rng.choice(odd) for c in rng.sample(list(row()), rng.randint(0, 4))}) for _ in range(rng.randint(1, 3))))
        assert r.status_code in (200, 422), r.text
        assert r.json().get("errors") if r.status_code == 422 else all(0 <= p["score"] <= 1 for p in r.json()["predictions"])


def test_numbers_beyond_float32_are_refused_not_guessed(tmp_path):
    make_bundle(tmp_path/"bundle", fit("linear", "regression"), contract("regression"))
    with client(tmp_path/"bundle") as api:
        r = ask_api(api, row(), row(**{"a/b": 1e300}))
        assert r.status_code == 422 and r.json()["errors"][0]["row"] == 1 and r.json()["errors"][0]["rule"] == "finite"
        assert isinstance(ask_api(api, row()).json()["predictions"][0]["value"], float)


def test_the_interface_describes_itself(api):
    spec = api.get("/openapi.json").json()
    named = spec["paths"]["/v1/models/odd:predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    asked = spec["components"]["schemas"][named.rpartition("/")[2]]
    columns = asked["properties"]["rows"]["items"]
    assert columns["properties"]["a/b"]["minimum"] == -3 and columns["properties"]["Plan"]["enum"] == ["x", "y", "ü|ß"] and "Expected: from -1 to 2" in columns["properties"]["a_b"]["description"]
    assert "plan" not in columns["required"] and "Plan" in columns["required"]
    assert ask_api(api, *asked["examples"][0]["rows"]).status_code == 200
    assert api.get("/v1/models/odd").json()["columns"][0]["name"] == "a b" and api.get("/v1/models/od").status_code == 404 and "did you mean `odd`" in api.get("/v1/models/od").text
    assert api.get("/health/live").status_code == api.get("/health/ready").status_code == 200 and api.get("/docs").status_code == 404


# ---- the stage: the server tried for real

TRIED = Params(rows=30, batch=20, step=0.05, headroom=0.5, machine={"cores": 2, "price": 0.1, "spare": 1}, max_rows=60, max_kib=4) # fewer KiB than a batch would have: it is sent in smaller parts


def asked(n=30): return table(n, seed=9)[0].assign(label=-1., **{"a/b": 1.}).fillna({"Plan": "x"}).assign(Plan="x")


def test_a_server_stops_whatever_happens(sealed, tmp_path):
    with pytest.raises(RuntimeError), started(sealed, TRIED, tmp_path) as server:
        assert send(connect(server.port), "/health/live")[0] == 200 and server.process.poll() is None
        raise RuntimeError("something")
    assert server.process.poll() is not None
    with pytest.raises(ConnectionRefusedError): send(connect(server.port), "/health/live")


def test_a_server_that_does_not_start_says_why(sealed, tmp_path):
    import shutil
    shutil.copytree(sealed, tmp_path/"bundle")
    (tmp_path/"desk").mkdir()
    tried = TRIED.model_copy(update={"max_rows": 0})
    with pytest.raises(ProjectError, match="(?s)did not stay.*`serve.max_rows` is 0"):
        with started(tmp_path/"bundle", tried, tmp_path/"desk"): pass


def test_every_kind_of_model_conforms_and_what_is_tracked_is_the_same_each_time(bundle, tmp_path):
    folder = bundle_folder(bundle, tmp_path)
    first = try_out(folder, asked(), TRIED, {"requests": 5, "rows": 2, "growth": 1})
    found = insist_on(first.checks)
    assert found["failed"] == 0 and found["passed"] > 30
    assert first.mib > 20 and first.batches > 0 and all(s.failed == 0 for s in first.measured[:2])
    if bundle.meta.task != "binary": return
    again = try_out(folder, asked(), TRIED, None)
    assert json.dumps(tidy([first.checks, first.schema])) == json.dumps(tidy([again.checks, again.schema]))  # no clock, no port, no id


def bundle_folder(b, tmp_path):
    "A bundle's folder, written again from what was read"
    folder = tmp_path/"again"
    for name, content in b._files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True); (folder/name).write_bytes(content)
    seal(folder)
    assert load_bundle(folder).digest == b.digest
    return folder


def test_a_wrong_answer_and_a_missing_record_are_found(sealed, tmp_path):
    "The server has another threshold and another graph than the bundle that it is compared with"
    other = tmp_path/"other"
    make_bundle(other, fit(max_iter=5), contract(), threshold=0.9)
    (tmp_path/"desk").mkdir()
    rows = as_json(asked(10), load_bundle(sealed).contract)
    with started(sealed, TRIED, tmp_path/"desk") as server:
        asker = Asker(server, load_bundle(other))
        assert check_answers(asker, rows, 5) == {"check": "5 rows a request", "rows": 10, "answered": 10, "different": 10, "passed": False}
        right = Asker(server, load_bundle(sealed))
        assert check_answers(right, rows, 5)["passed"] and len(right.logged) == 10
        right.named = {"authorization": "Bearer none"}
        assert check_answers(right, rows, 5)["answered"] == 0  # refused: nothing is taken for right
    assert check_log(tmp_path/"desk"/"log.sqlite", right.logged)["passed"]
    assert check_log(tmp_path/"desk"/"log.sqlite", right.logged | {"f"*24}) == {"check": "what was acknowledged is in the log", "predictions": 11, "missing": 1, "passed": False}
    assert not check_log(tmp_path/"desk"/"log.sqlite", set())["passed"]
    with pytest.raises(NotConform, match="1 of 1 checks.*missing"): insist_on([check_log(tmp_path/"desk"/"log.sqlite", {"f"*24})])


def test_the_plan_follows_from_the_charter_and_what_was_measured():
    step = lambda asked, p95: Latencies(np.full(asked, float(p95)), seconds=1., asked=float(asked))
    trial = Trial([], {}, [Latencies(np.full(1000, 1.), 1.), step(200, 1), step(400, 2), step(600, 60)], 1e4, 90., 0.5)
    charter = {"constraints": {"latency_ms": 50.}, "load": {"requests": 100, "rows": 1, "growth": 3}, "currency": "EUR"}
    made = write_plan(trial, TRIED, charter)
    assert (made["plan"]["borne"], made["plan"]["workers"], made["plan"]["machines"], made["share"]) == (400, 2, 2, 75) and "EUR a month" in made["said"]
    json.dumps(tidy(made), allow_nan=False)
    assert at_peak(trial.measured, made["share"]).asked == 200 and at_peak(trial.measured, 201).asked == 400 and at_peak(trial.measured, 9999).asked == 600
    none = write_plan(trial, TRIED, charter | {"load": None})
    assert none["plan"]["workers"] is None and none["share"] is None and "`frame.load`" in none["said"]
    never = write_plan(trial, TRIED, charter | {"constraints": {"latency_ms": 0.5}})
    assert never["plan"]["machines"] is None and "No number of machines" in never["said"]


# ---- batches


def batches(t, folder, b, size):
    rows = t.assign(_row=[f"r{i}" for i in range(len(t))], _period=np.where(np.arange(len(t)) < len(t)//2, "p1", "p2"))
    rows.to_parquet(folder/"rows.parquet")
    return predict_file(folder/"rows.parquet", b, size, folder/"log.parquet", folder/"rejected.parquet")


def test_batches_say_what_the_api_says(sealed, tmp_path):
    b = load_bundle(sealed)
    t = table(120, seed=9)[0].assign(label=-1.)
    summary = batches(t, tmp_path, b, 7)
    log, rejected = (pd.read_parquet(tmp_path/n).set_index("_row") for n in ("log.parquet", "rejected.parquet"))
    assert len(log) + len(rejected) == 120 and 0 < len(rejected) < 60 and summary["scored"] == len(log)
    for i, r in enumerate(as_json(t, b.contract)):
        errors, _ = check_row(r, b.contract)
        assert (f"r{i}" in rejected.index) == bool(errors)
        if errors: assert rejected.loc[f"r{i}", "_reasons"] == "; ".join(e["message"] for e in errors)
        else: assert log.loc[f"r{i}", "_id"] == prediction_id(b.digest, f"r{i}")
    kept = t.iloc[[int(r[1:]) for r in log.index]]
    assert np.array_equal(log["_score"], b.predict(inputs(kept, b.contract))["scores"][:, 1])
    assert all(np.array_equal(v, inputs(kept, b.contract)[c], equal_nan=v.dtype.kind == "f") for c, v in inputs(log, b.contract).items())  # what monitoring reads is what was scored


def test_batches_of_all_tasks_and_any_size(bundle, tmp_path):
    t = table(50)[0]
    first = batches(t, tmp_path, bundle, 3), (tmp_path/"log.parquet").read_bytes()
    assert first == (batches(t, tmp_path, bundle, 3), (tmp_path/"log.parquet").read_bytes())
    log = pd.read_parquet(tmp_path/"log.parquet")
    assert tidy(batches(t, tmp_path, bundle, 1000)) == tidy(first[0]) and pd.read_parquet(tmp_path/"log.parquet").equals(log)
    form = {"binary": ["_label", "_score"], "multiclass": ["_label", "_score", "_score_a", "_score_b", "_score_c"], "regression": ["_value", "_low", "_high"] if bundle.meta.interval else ["_value"]}[bundle.meta.task]
    assert [c for c in log if c.startswith("_")] == ["_id", "_row", "_period", "_digest", *form]


def test_rows_of_a_wrong_type_are_set_apart(sealed, tmp_path):
    b = load_bundle(sealed)
    t = table(10)[0].assign(label=-1., **{"a/b": 1.}).astype({"größe": object})
    t.loc[3, "größe"] = None
    t["größe"] = t["größe"].map(lambda v: "many" if v is None else str(v))
    summary = batches(t, tmp_path, b, 4)
    assert summary["rejected"] == 10 and summary["rejections"]["größe"] == {"type": 10} and len(pd.read_parquet(tmp_path/"log.parquet")) == 0
    assert "`größe` is 'many'; allowed: a number" in pd.read_parquet(tmp_path/"rejected.parquet")["_reasons"][3]


def test_a_column_that_is_not_there_stops_with_its_name(sealed, tmp_path):
    with pytest.raises(ProjectError, match="no column `größe`"): batches(table(10)[0].rename(columns={"größe": "grösse"}), tmp_path, load_bundle(sealed), 4)


def test_texts_are_served_and_watched_by_their_length():
    contract = contract_of()
    assert check_row(example_row(contract), contract) == ([], []) and {"string", "null"} <= set(column_schema(contract.column("note"))["type"])
    cases = {what: code for what, _, code, column in bad_requests(contract, 10, 10) if column == "note"}
    assert cases == {"a wrong type (text)": 422}
    columns, n = inputs(customers(60), contract), 60
    profile = make_profile(columns, np.arange(n) % 2, np.linspace(0, 1, n), contract, {}, 5)["columns"]["note"]
    assert profile["type"] == "text" and sum(profile["counts"]) == n and "crashes" not in str(profile)
    assert count_values(count_words(columns["note"]), profile).known.tolist() == profile["counts"]
