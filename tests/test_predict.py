"Batches: from any form to any form, every row once, whatever stops the machine."
import csv, gzip, io, json, os, random, signal, sqlite3, subprocess, sys, threading, time
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PACKAGE, ROOT, needs
from onnx import TensorProto, helper, numpy_helper
from test_sources import port, postgres  # noqa: F401, a server

from mlcycle import quick as quick_module
from mlcycle import source as source_module
from mlcycle import stream
from mlcycle.bundle import FILES, Meta, load_bundle, open_graph, prediction_id, seal
from mlcycle.contract import Column, Contract, check_row, inputs
from mlcycle.core import ProjectError, write_file
from mlcycle.quick import Coded, Quick, combine, make_tables, read_ensemble
from mlcycle.source import Options, plan_text, read_csv, read_head, record_ends, split_records
from mlcycle.stream import predict_files

pytestmark = needs("predict")

CONTRACT = Contract(name="shop", task="binary", positive="yes", classes=["no", "yes"], columns=[
    Column(name="id", type="text", role="id"), Column(name="u", type="number", minimum=-3, maximum=3, outside="reject"), Column(name="n", type="integer", nullable=True, minimum=0, maximum=90),
    Column(name="flag", type="boolean", nullable=True), Column(name="day", type="datetime", nullable=True), Column(name="plan", type="category", categories=["a", "b", "ü,\"x\""], unseen="reject"),
    Column(name="band", type="category", nullable=True, categories=["x", "y"]), Column(name="bought", type="category", role="target")])


def grow(rng, trees, columns, depth, low=-3., high=3.):
    "An ensemble by chance, as a node of a graph"
    rows = []
    def add(tree, level):
        me = {"tree": tree, "id": sum(r["tree"] == tree for r in rows), "feature": int(rng.integers(columns)), "cut": float(np.float32(round(rng.uniform(low, high), 1))), "gaps": int(rng.integers(2)), "yes": 0, "no": 0, "leaf": level == 0 or rng.random() < .1}
        rows.append(me)
        if not me["leaf"]: me["yes"], me["no"] = add(tree, level - 1), add(tree, level - 1)
        return me["id"]
    for t in range(trees): add(t, depth)
    leaves, of = [r for r in rows if r["leaf"]], lambda k: [int(r[k]) for r in rows]
    return helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, aggregate_function="SUM", post_transform="NONE", nodes_treeids=of("tree"), nodes_nodeids=of("id"), nodes_featureids=of("feature"),
        nodes_truenodeids=of("yes"), nodes_falsenodeids=of("no"), nodes_missing_value_tracks_true=of("gaps"), nodes_modes=["LEAF" if r["leaf"] else "BRANCH_LEQ" for r in rows],
        nodes_values_as_tensor=numpy_helper.from_array(np.array([r["cut"] for r in rows]), "c"), target_treeids=[r["tree"] for r in leaves], target_nodeids=[r["id"] for r in leaves], target_ids=[0]*len(leaves),
        target_weights_as_tensor=numpy_helper.from_array(rng.normal(size=len(leaves)), "w"))


def make_bundle(folder, trees=40, contract=CONTRACT):
    "A bundle by hand: categories become numbers, trees add up, a sigmoid makes it a probability"
    features = [c for c in contract.features]
    nodes, parts = [], []
    for c in features:
        if c.type != "category": parts.append(c.name); continue
        nodes += [helper.make_node("LabelEncoder", [c.name], [f"{c.name}#"], domain="ai.onnx.ml", keys_strings=c.categories, values_int64s=list(range(1, 1 + len(c.categories))), default_int64=0), helper.make_node("Cast", [f"{c.name}#"], [f"{c.name}="], to=TensorProto.DOUBLE)]
        parts.append(f"{c.name}=")
    nodes += [helper.make_node("Concat", parts, ["wide"], axis=1), helper.make_node("Div", ["wide", "scale"], ["x"]), grow(np.random.default_rng(0), trees, len(features), 5), helper.make_node("Cast", ["y"], ["z"], to=TensorProto.DOUBLE),
        helper.make_node("Sigmoid", ["z"], ["yes"]), helper.make_node("Sub", ["one", "yes"], ["no"]), helper.make_node("Concat", ["no", "yes"], ["scores"], axis=1)]
    constants = [numpy_helper.from_array(np.array([[1.]]), "one"), numpy_helper.from_array(np.array([[1., 30., 1., 10000., 1., 1.]])[:, :len(features)], "scale")]
    tensors = [helper.make_tensor_value_info(c.name, TensorProto.STRING if c.type == "category" else TensorProto.DOUBLE, [None, 1]) for c in features]
    graph = helper.make_model(helper.make_graph(nodes, "by_hand", tensors, [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, 2])], constants), opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9)
    meta = Meta(version=1, name="shop", task="binary", classes=["no", "yes"], positive="yes", threshold=0.4, target_scale=1., draft=True, verdict="pass", estimator="by hand", inputs={c.name: c.name for c in features}, tolerance=1e-4)
    for name, content in {"model.onnx": graph.SerializeToString(), "contract.json": contract, "bundle.json": meta}.items(): write_file(content, folder/name)
    for name in FILES: (folder/name).exists() or write_file({}, folder/name)
    seal(folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory): return make_bundle(tmp_path_factory.mktemp("bundle")/"bundle")


@pytest.fixture(scope="session")
def bundle(folder): return load_bundle(folder)


def table(n, seed=0, faults=0.1):
    "Rows as JSON has them; some break the contract"
    rng = random.Random(seed)
    def row(i):
        r = {"id": f"k{i}", "u": round(rng.uniform(-3, 3), 2), "n": rng.choice([None, 0, 7, 90, 91]), "flag": rng.choice([True, False, None]), "day": rng.choice([None, "2025-01-02", "2024-02-29T12:30:00"]), "plan": rng.choice(["a", "b", 'ü,"x"']), "band": rng.choice(["x", "y", None, "z"])}
        if rng.random() < faults: r[rng.choice(["u", "plan"])] = None
        elif rng.random() < faults: r |= rng.choice([{"u": 3.5}, {"plan": "gold"}, {"u": -99.}])
        return r
    return [row(i) for i in range(n)]


def oracle(rows, bundle):
    "Row by row: `check_row`, then one prediction"
    out = {}
    for r in rows:
        errors, _ = check_row(r, bundle.contract)
        found = None if errors else bundle.predict(inputs({c.name: [r[c.name]] for c in bundle.contract.features}, bundle.contract))
        out[r["id"]] = (None, "; ".join(e["message"] for e in errors)) if errors else (found["label"][0], float(found["scores"][0, 1]))
    return out


def put(rows, path):
    "Write rows in the form that the ending says"
    t = pd.DataFrame(rows).astype({"n": "Int64", "flag": "boolean"})
    if path.suffix == ".csv": t.to_csv(path, index=False)
    elif path.suffix == ".jsonl": path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    elif path.suffix == ".parquet": t.assign(day=pd.to_datetime(t["day"], format="ISO8601")).to_parquet(path, index=False, row_group_size=37)
    else:
        with sqlite3.connect(path) as db: t.astype({"flag": "Int64"}).to_sql("rows", db, index=False)
    return path


def got(path, query="select * from scores"):
    "What was written: id → label and score"
    if path.suffix == ".csv": t = pd.read_csv(path, dtype={"id": "str"})
    elif path.suffix == ".jsonl": t = pd.DataFrame([json.loads(l) for l in path.read_text().splitlines()])
    elif path.suffix == ".parquet": t = pd.read_parquet(path)
    else:
        with sqlite3.connect(path) as db: t = pd.read_sql(query, db)
    return t


FORMS = [".csv", ".jsonl", ".parquet", ".db"]


@pytest.mark.parametrize("out", FORMS)
@pytest.mark.parametrize("into", FORMS)
def test_any_form_to_any_form(bundle, tmp_path, into, out, monkeypatch):
    monkeypatch.setattr(quick_module, "FEW", 0)
    rows = table(200)
    wanted = oracle(rows, bundle)
    source, target = put(rows, tmp_path/f"rows{into}"), tmp_path/f"scores{out}"
    words = {"query": "select * from rows"} if into == ".db" else {}
    url = lambda p: f"sqlite:///{p}" if p.suffix == ".db" else p
    monkeypatch.chdir(tmp_path)
    summary = predict_files(url(source), url(target), bundle, Options(batch=33, threads=2, table="scores" if out == ".db" else None, **words))
    t = got(target)
    good = {k: v for k, v in wanted.items() if v[0] is not None}
    assert list(t["id"]) == list(good) and summary["rows"] == 200 and summary["rejected"] == 200 - len(good) > 10
    assert list(t["_label"]) == [v[0] for v in good.values()] and t["_score"].to_numpy() == pytest.approx([v[1] for v in good.values()], rel=1e-14)
    assert list(t["_id"]) == [prediction_id(bundle.digest, k) for k in good]
    lost = Path(summary["rejected_file"])
    lost = pd.read_parquet(lost) if lost.suffix == ".parquet" else pd.read_csv(lost) if lost.suffix == ".csv" else pd.DataFrame([json.loads(l) for l in lost.read_text().splitlines()])
    said = dict(zip(lost["_row"], lost["_reasons"]))
    assert set(said) == set(wanted) - set(good)
    if into not in (".csv", ".db"): assert said == {k: v[1] for k, v in wanted.items() if v[0] is None}
    assert sorted(p.name for p in tmp_path.iterdir() if "unfinished" in p.name) == []


def test_lines_are_kept_as_they_came(bundle, tmp_path):
    "Blanks, quotes, line ends in quotes, another separator, decimal commas, CRLF, a BOM, empty lines, no line end at the end"
    text = ('\ufeffid;u;n;flag;day;plan;band;more\r\n'
            'k1; 1,5 ;07;true;2025-01-02;a;x;"two\r\nlines; and a ""quote"""\r\n\r\n'
            'k2;-0,25;NA;0;;"ü,""x""";;=1+1\n'
            'k3;many;1;;;a;;\n'
            'k4;1;1;;;a\n'
            'k5;1e0;;FALSE;2025-01;b;y;last')
    (tmp_path/"in.csv").write_text(text, newline="")
    for batch in (1, 2, 100):
        summary = predict_files(tmp_path/"in.csv", tmp_path/"out.csv", bundle, Options(batch=batch, decimal=",", replace=True))
        lines = (tmp_path/"out.csv").read_bytes().decode().split("\n")
        assert lines[0] == "id;u;n;flag;day;plan;band;more;_id;_label;_score"
        assert lines[1] == 'k1; 1,5 ;07;true;2025-01-02;a;x;"two\r' and lines[2].startswith('lines; and a ""quote""";' + prediction_id(bundle.digest, "k1")) and lines[3].startswith('k2;-0,25;NA;0;;"ü,""x""";;=1+1;') and lines[4].startswith("k5;1e0;")
        x = inputs({"u": [1.5, -0.25, 1.], "n": [7, None, None], "flag": [True, False, False], "day": ["2025-01-02", None, "2025-01"], "plan": ["a", 'ü,"x"', "b"], "band": ["x", None, "y"]}, bundle.contract)
        assert pd.read_csv(tmp_path/"out.csv", sep=";")["_score"].to_numpy() == pytest.approx(bundle.predict(x)["scores"][:, 1], abs=0)
        assert (tmp_path/"out.rejected.csv").read_text().splitlines() == ["_row;_reasons;id;u;n;flag;day;plan;band;more", "k3;`u` is 'many'; allowed: a number;k3;many;1;;;a;;".replace("`u` is 'many'; allowed: a number", "\"`u` is 'many'; allowed: a number\""),
            "in.csv:4;the line has 6 fields, and the head has 8;k4;1;1;;;a"]
        assert summary["rejections"] == {"the row": {"line": 1}, "u": {"type": 1}} and summary["scored"] == 3


def test_a_file_of_another_encoding_is_told(bundle, tmp_path):
    (tmp_path/"in.csv").write_bytes("id,u,n,flag,day,plan,band\nk1,1,,,,a,\nk2,1,,,,ü,\n".encode("latin-1"))
    summary = predict_files(tmp_path/"in.csv", tmp_path/"out.csv", bundle)
    assert summary["scored"] == 1 and "iconv" in (tmp_path/"out.rejected.csv").read_bytes().decode("latin-1")


def test_texts_by_chance_are_cut_and_read_like_pythons_csv(bundle, tmp_path):
    rng = random.Random(3)
    for trial in range(30):
        rows = [[f"k{i}", rng.choice(["1", "-2.5", "x", "", " 3"]), rng.choice(["", "1", "1.5"]), "", "", rng.choice(["a", "b", "a\nb", 'ü,"x"', ""]), rng.choice(["", "x"])] for i in range(rng.randint(0, 40))]
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator=rng.choice(["\n", "\r\n"]), quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows([["id", "u", "n", "flag", "day", "plan", "band"], *rows])
        path = tmp_path/f"{trial}.csv"
        path.write_bytes(out.getvalue().encode())
        head = read_head(path, bundle.contract)
        for size in (40, 97, 1 << 20):
            cuts = list(plan_text(path, head, size))
            assert cuts[0][0] == len(head.line) and cuts[-1][1] == path.stat().st_size and all(a[1] == b[0] for a, b in zip(cuts, cuts[1:]))
            seen = 0
            for start, stop, before in cuts:
                assert before == seen
                seen += len(split_records(path.read_bytes()[start:stop], True))
            assert seen == len(rows)
        first = None
        for batch in (1, 7, 1000):
            s = predict_files(path, tmp_path/f"{trial}.{batch}.csv", bundle, Options(batch=batch))
            t = got(tmp_path/f"{trial}.{batch}.csv")
            scores, now = t.pop("_score").to_numpy(), (t.to_csv(), s["rejected_file"] and Path(s["rejected_file"]).read_bytes())
            assert s["rows"] == len(rows) and (first is None or now == first[0] and scores == pytest.approx(first[1], rel=1e-14)) # a sigmoid's last bit is another in another batch
            first = now, scores
        def value(t, kind): return None if not t.strip() else float(t) if kind == "number" and t.strip() != "x" else t
        fine = [r[0] for r in rows if not check_row({"u": value(r[1], "number"), "n": value(r[2], "number"), "plan": value(r[5], "text"), "band": value(r[6], "text")}, bundle.contract)[0]]
        assert list(pd.read_csv(tmp_path/f"{trial}.7.csv")["id"]) == fine


def test_json_lines_that_are_none(bundle, tmp_path):
    rows = table(3, faults=0)
    lines = [json.dumps(rows[0]), "[1, 2]", "{", json.dumps(rows[1] | {"u": "1.0"}), json.dumps(rows[2] | {"more": {"deep": [1, None]}}) + "  "]
    (tmp_path/"in.ndjson").write_text("\n".join(lines))
    predict_files(tmp_path/"in.ndjson", tmp_path/"out.jsonl", bundle)
    out, lost = ([json.loads(l) for l in (tmp_path/n).read_text().splitlines()] for n in ("out.jsonl", "out.rejected.jsonl"))
    assert [r["id"] for r in out] == ["k0", "k2"] and out[1]["more"] == {"deep": [1, None]} and list(out[0])[-3:] == ["_id", "_label", "_score"]
    assert [(r["_row"], r["_line"]) for r in lost] == [("in.ndjson:2", "[1, 2]"), ("in.ndjson:3", "{"), ("k1", lines[3])] and "`u` is '1.0'; allowed: a number" == lost[2]["_reasons"]


def test_globs_packed_files_and_what_is_kept(bundle, tmp_path):
    rows = table(90, faults=0)
    for i in (2, 0, 1): put(rows[30*i:30*i + 30], tmp_path/f"part-{i}.csv")
    (tmp_path/"all.csv.gz").write_bytes(gzip.compress(b"".join((tmp_path/f"part-{i}.csv").read_bytes()[(i > 0)*len((tmp_path/"part-0.csv").read_bytes().splitlines(True)[0]):] for i in range(3))))
    predict_files(f"{tmp_path}/part-*.csv", tmp_path/"a.csv", bundle)
    predict_files(tmp_path/"all.csv.gz", tmp_path/"b.csv", bundle, Options(batch=7))
    assert (tmp_path/"a.csv").read_bytes() == (tmp_path/"b.csv").read_bytes() and len(got(tmp_path/"a.csv")) == 90
    predict_files(tmp_path/"all.csv.gz", tmp_path/"c.parquet", bundle, Options(keep="key"))
    predict_files(tmp_path/"all.csv.gz", tmp_path/"d.csv", bundle, Options(keep="none"))
    assert list(got(tmp_path/"c.parquet")) == ["_row", "_id", "_label", "_score"] and list(got(tmp_path/"d.csv")) == ["_id", "_label", "_score"]
    (tmp_path/"part-3.csv").write_text("id,u,n,flag,day,plan\n")
    with pytest.raises(ProjectError, match="part-3.csv has other columns than part-0.csv: band"): predict_files(f"{tmp_path}/part-*.csv", tmp_path/"e.csv", bundle)
    assert not list(tmp_path.glob("*unfinished"))


def test_packed_files_of_one_name_are_several(bundle, tmp_path, monkeypatch):
    rows = table(60, faults=0)
    for i in range(2):
        (tmp_path/f"day{i}").mkdir()
        (tmp_path/f"day{i}/new.csv.gz").write_bytes(gzip.compress(put(rows[30*i:30*i + 30], tmp_path/"one.csv").read_bytes()))
    predict_files(f"{tmp_path}/day*/new.csv.gz", tmp_path/"out.csv", bundle)
    assert got(tmp_path/"out.csv")["id"].tolist() == [r["id"] for r in rows]
    import fsspec
    memory = fsspec.filesystem("memory")
    for i in range(2): memory.pipe(f"/b/day{i}/new.csv.gz", (tmp_path/f"day{i}/new.csv.gz").read_bytes())
    monkeypatch.setattr(source_module, "REMOTE", ("memory://",))
    predict_files("memory://b/day*/new.csv.gz", tmp_path/"far.csv", bundle)
    assert got(tmp_path/"far.csv")["id"].tolist() == [r["id"] for r in rows]


def test_a_packed_source_that_has_changed_is_another_one(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "EVERY", 0)
    write = lambda seed: (tmp_path/"in.csv.gz").write_bytes(gzip.compress(put(table(100, seed, 0), tmp_path/"one.csv").read_bytes()))
    def tell(rows, *_):
        if rows >= 40: raise KeyboardInterrupt
    write(0)
    with pytest.raises(KeyboardInterrupt): predict_files(tmp_path/"in.csv.gz", tmp_path/"out.csv", bundle, Options(batch=10), tell)
    write(1)
    with pytest.raises(ProjectError, match="another source"): predict_files(tmp_path/"in.csv.gz", tmp_path/"out.csv", bundle, Options(batch=10))


def test_nothing_is_written_over_unasked(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = put(table(30), tmp_path/"in.csv").read_bytes()
    for words, said in [(dict(out="./in.csv", replace=True), "the same file"), (dict(rejected="in.csv", replace=True), "the same file"), (dict(rejected="out.csv"), "both the answers"), (dict(rejected="no/x.csv"), "no folder no"), (dict(source="i*.csv", out="in.csv", replace=True), "the same file")]:
        with pytest.raises(ProjectError, match=said): predict_files(words.pop("source", "in.csv"), words.pop("out", "out.csv"), bundle, Options(**words))
    predict_files("in.csv", "out.csv", bundle)
    Path("out.csv").unlink()
    with pytest.raises(ProjectError, match="out.rejected.csv is there already"): predict_files("in.csv", "out.csv", bundle)
    put(table(30, faults=0), tmp_path/"fine.csv")
    predict_files("fine.csv", "out.csv", bundle, Options(replace=True))
    assert len(got(tmp_path/"out.rejected.csv")) == 0 and Path("in.csv").read_bytes() == source # not the rejects of the run before


def test_rows_without_a_name_are_named_by_place(bundle, tmp_path):
    t = pd.DataFrame(table(5, faults=0)).drop(columns="id")
    t.to_csv(tmp_path/"in.csv", index=False)
    predict_files(tmp_path/"in.csv", tmp_path/"out.csv", bundle, Options(batch=2, keep="key"))
    assert got(tmp_path/"out.csv")["_row"].tolist() == [f"in.csv:{i}" for i in range(1, 6)]
    predict_files(tmp_path/"in.csv", tmp_path/"out2.csv", bundle, Options(keep="key", key="u"))
    assert got(tmp_path/"out2.csv")["_row"].astype(float).tolist() == t["u"].tolist()


@pytest.mark.parametrize("words, said", [
    (dict(source="nowhere.csv"), "no such file"), (dict(source="*.nothing"), "no file's name is like that"), (dict(source="in.csv", out="in.csv"), "the same file"), (dict(out="there.csv"), "is there already.*--replace"),
    (dict(out="no/folder.csv"), "no folder"), (dict(out="x.xlsx"), "Known: .csv"), (dict(out="x.csv.gz"), "are not packed"), (dict(key="idd"), "did you mean `id`"), (dict(source="sqlite:///x.db"), "--query"),
    (dict(out="sqlite:///x.db"), "--table"), (dict(source="sqlite:///x.db", query="select 1 from nowhere"), "no such table"), (dict(source="nosuch://x", query="select 1"), "neither a database"), (dict(source="twice.csv"), "names columns twice: u"),
    (dict(source="lacks.csv"), "no column `plan`; did you mean `plam`"), (dict(source="ours.csv"), "has a column `_score`"), (dict(compute="dask"), "`scheduler` is empty"), (dict(compute="dask", scheduler="tcp://127.0.0.1:1"), "No Dask scheduler answers"),
    (dict(source="postgresql://me:${NO_SUCH_PASSWORD}@h/d", query="select 1"), "no such variable"), (dict(source="broken.parquet"), "Not readable as Parquet"), (dict(source="endless.csv"), "never closed")])
def test_what_cannot_be_done_is_said(bundle, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path); monkeypatch.setattr(stream, "WAIT", 0.5)
    put(table(3), tmp_path/"in.csv")
    for name, text in {"there.csv": "x", "twice.csv": "id,u,u,plan\n", "lacks.csv": "id,u,plam\n", "ours.csv": "id,u,plan,_score\nk,1,a,1\n", "broken.parquet": "PAR1", "endless.csv": 'id,u,plan\nk,1,"' + "x\n"*20000}.items(): Path(name).write_text(text)
    words = {"source": "in.csv", "out": "out.csv"} | words
    with pytest.raises(ProjectError, match=said): predict_files(words.pop("source"), words.pop("out"), bundle, Options(batch=10, **words))
    assert Path("there.csv").read_text() == "x" and not list(tmp_path.glob("*unfinished"))


def test_a_password_is_not_told(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_PASSWORD", "geheim123")
    with pytest.raises(ProjectError) as e: predict_files("postgresql://me:${SHOP_PASSWORD}@127.0.0.1:1/shop", "out.csv", bundle, Options(query="select 1"))
    assert "geheim123" not in str(e.value) and "geheim123" not in "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())


# ---- stops


DRIVER = """import sys
sys.path.insert(0, {root!r})
from mlcycle import quick, stream
from mlcycle.bundle import load_bundle
stream.EVERY, quick.FEW = 0, 0
words = {{k: int(v) if v.isdigit() else v for k, v in (w.split("=", 1) for w in sys.argv[4:])}}
print(stream.predict_files(*sys.argv[1:3], load_bundle(sys.argv[3]), stream.Options(**words))["resumed"])"""


def start(cwd, *words): return subprocess.Popen([sys.executable, "-c", DRIVER.format(root=str(ROOT)), *map(str, words)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(cwd, words, folder, kills, rng):
    "Run, kill -9 once a bit more is done, run again, until it has ended; how often it was killed and how many rows it did not have to do again"
    done, n = 0, 0
    while True:
        p = start(cwd, *words)
        until = time.monotonic() + 60
        aim = done + rng.randint(1, 3)
        while n < kills and p.poll() is None and time.monotonic() < until:
            try: now = json.loads((folder/"record.json").read_text())["done"]
            except (OSError, ValueError): now = 0
            if now >= aim: time.sleep(rng.random()*0.02); p.kill(); break
            time.sleep(0.002)
        out, err = p.communicate(timeout=120)
        if p.returncode == 0: return n, int(out)
        assert p.returncode == -signal.SIGKILL, err
        n, done = n + 1, now


def stopped(folder, tmp_path, into, out, kills, rows=3000):
    put(table(rows), tmp_path/f"in{into}")
    url = lambda n: f"sqlite:///{tmp_path/n}" if n.endswith(".db") else str(tmp_path/n)
    words = ["batch=100", "threads=2", *(["query=select * from rows order by rowid"] if into == ".db" else []), *(["table=scores"] if out == ".db" else [])]
    p = start(tmp_path, url(f"in{into}"), url(f"whole{out}"), folder, *words)
    assert p.communicate(timeout=120) and p.returncode == 0
    work = tmp_path/("scores.unfinished" if out == ".db" else f"out{out}.unfinished")
    n, resumed = killed(tmp_path, [url(f"in{into}"), url(f"out{out}"), folder, *words], work, kills, random.Random(5))
    assert n and resumed > 0 and not work.exists()
    a, b = got(tmp_path/f"whole{out}"), got(tmp_path/f"out{out}")
    assert a.equals(b) and len(a) > rows/2
    if out in (".csv", ".jsonl"): assert (tmp_path/f"whole{out}").read_bytes() == (tmp_path/f"out{out}").read_bytes()
    return n


def test_a_kill_loses_and_repeats_nothing(folder, tmp_path): stopped(folder, tmp_path, ".csv", ".csv", 2)


@pytest.mark.chains
@pytest.mark.parametrize("into, out", [(".csv", ".csv"), (".jsonl", ".jsonl"), (".parquet", ".parquet"), (".db", ".db"), (".csv", ".parquet"), (".parquet", ".csv")])
def test_twelve_kills_lose_and_repeat_nothing(folder, tmp_path, into, out): assert stopped(folder, tmp_path, into, out, 12, 8000) >= 6


@pytest.fixture
def interrupted(bundle, tmp_path, monkeypatch):
    "A run that ended by an error after some pieces"
    monkeypatch.setattr(stream, "EVERY", 0)
    put(table(100, faults=0), tmp_path/"in.csv")
    seen = []
    def tell(rows, *_):
        seen.append(rows)
        if len(seen) == 4: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): predict_files(tmp_path/"in.csv", tmp_path/"out.csv", bundle, Options(batch=10), tell)
    assert not (tmp_path/"out.csv").exists() and (tmp_path/"out.csv.unfinished/record.json").exists()
    return tmp_path


def test_an_interrupted_run_is_gone_on_with_or_refused(bundle, interrupted):
    for words, said in [(dict(options=Options(batch=11)), "another options"), (dict(options=Options(batch=10, keep="none")), "another options")]:
        with pytest.raises(ProjectError, match=said): predict_files(interrupted/"in.csv", interrupted/"out.csv", bundle, **words)
    before = (interrupted/"in.csv").stat().st_mtime_ns
    os.utime(interrupted/"in.csv", ns=(1, 1))
    with pytest.raises(ProjectError, match="another source.*--restart"): predict_files(interrupted/"in.csv", interrupted/"out.csv", bundle, Options(batch=10))
    os.utime(interrupted/"in.csv", ns=(before, before))
    with open(interrupted/"out.csv.unfinished/answers", "ab") as f: f.write(b"half a li")
    summary = predict_files(interrupted/"in.csv", interrupted/"out.csv", bundle, Options(batch=10, threads=3))
    assert summary["resumed"] >= 30 and got(interrupted/"out.csv")["id"].tolist() == [f"k{i}" for i in range(100)] and summary["rows"] == summary["scored"] == 100


def test_restart_throws_away(bundle, interrupted):
    assert predict_files(interrupted/"in.csv", interrupted/"out.csv", bundle, Options(restart=True))["resumed"] == 0


def test_two_at_once_are_refused(bundle, interrupted):
    run = stream.Run(interrupted/"out.csv.unfinished")
    with pytest.raises(ProjectError, match="Another process is predicting"): predict_files(interrupted/"in.csv", interrupted/"out.csv", bundle, Options(batch=10))
    run.leave()


def test_a_stop_between_the_files_is_gone_on_with(bundle, tmp_path, monkeypatch):
    put(table(60), tmp_path/"in.csv")
    whole = predict_files(tmp_path/"in.csv", tmp_path/"whole.csv", bundle)
    for cut in ("answers", "rejected", "leave"):
        real = stream.TextFile.place
        def place(self, target):
            if self.path.name == cut: raise KeyboardInterrupt
            real(self, target)
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(stream.TextFile, "place", place)
            if cut == "leave": m.setattr(stream.shutil, "rmtree", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
            predict_files(tmp_path/"in.csv", tmp_path/f"{cut}.csv", bundle)
        again = predict_files(tmp_path/"in.csv", tmp_path/f"{cut}.csv", bundle)
        assert (tmp_path/f"{cut}.csv").read_bytes() == (tmp_path/"whole.csv").read_bytes() and (tmp_path/f"{cut}.rejected.csv").exists()
        assert again["rows"] == whole["rows"] and again["periods"] == whole["periods"]


def test_into_a_table_twice_is_once(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(table(50), tmp_path/"in.csv")
    for _ in range(2): summary = predict_files(tmp_path/"in.csv", f"sqlite:///{tmp_path}/s.db", bundle, Options(table="scores", batch=9))
    assert len(got(tmp_path/"s.db")) == summary["scored"] == 50 - summary["rejected"] < 50
    with sqlite3.connect(tmp_path/"s.db") as db: db.execute("create table other (x int)")
    with pytest.raises(ProjectError, match="The database says"): predict_files(tmp_path/"in.csv", f"sqlite:///{tmp_path}/s.db", bundle, Options(table="other"))


def test_without_an_order_an_interrupted_query_begins_anew(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "EVERY", 0)
    put(table(100, faults=0), tmp_path/"in.db")
    for query, resumed in [("select * from rows", 0), ("select * from rows Order  By rowid", 40)]:
        def tell(rows, *_):
            if rows >= 40: raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt): predict_files(f"sqlite:///{tmp_path}/in.db", tmp_path/f"{resumed}.csv", bundle, Options(batch=10, query=query), tell)
        summary = predict_files(f"sqlite:///{tmp_path}/in.db", tmp_path/f"{resumed}.csv", bundle, Options(batch=10, query=query))
        assert summary["resumed"] == resumed and len(got(tmp_path/f"{resumed}.csv")) == 100 == summary["rows"]


def test_parts_of_a_stopped_run_do_not_come_back(bundle, tmp_path, monkeypatch):
    "A query that begins anew and selects less than before"
    monkeypatch.setattr(stream, "EVERY", 0); monkeypatch.chdir(tmp_path)
    put(table(100, faults=0), tmp_path/"in.db")
    def tell(rows, *_):
        if rows >= 80: raise KeyboardInterrupt
    words = f"sqlite:///{tmp_path}/in.db", f"sqlite:///{tmp_path}/out.db", bundle, Options(batch=10, query="select * from rows", table="scores")
    with pytest.raises(KeyboardInterrupt): predict_files(*words, tell)
    with sqlite3.connect(tmp_path/"in.db") as db: db.execute("delete from rows where id >= 'k2'")
    summary = predict_files(*words)
    assert len(got(tmp_path/"out.db")) == summary["rows"] < 30


# ---- quick


@pytest.mark.parametrize("trees, columns, depth", [(1, 1, 0), (1, 2, 3), (30, 4, 6), (130, 9, 5), (5, 20, 8)])
def test_tables_say_what_the_trees_say(trees, columns, depth):
    rng = np.random.default_rng(trees)
    node = grow(rng, trees, columns, depth)
    f = make_tables(read_ensemble(node)) if depth else None
    if f is None: return
    x = np.where(rng.random((5000, columns)) < .1, np.nan, rng.uniform(-4, 4, (5000, columns)).round(1).astype(np.float32).astype(float))
    x[0], x[1] = np.inf, -np.inf
    g = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, columns])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])])
    session = open_graph(helper.make_model(g, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9).SerializeToString())
    assert np.array_equal(f(x), session.run(None, {"x": x})[0])


@pytest.mark.parametrize("rows", [1, 2, 2049])
def test_tables_add_up_in_the_order_of_the_trees(rows):
    "The first and the last tree cancel each other out: what is left is how the others were rounded on the way"
    rng = np.random.default_rng(rows)
    node = grow(rng, 130, 9, 5)
    trees, weights = (next(a for a in node.attribute if a.name == f"target_{n}") for n in ("treeids", "weights_as_tensor"))
    large = np.select([np.array(trees.ints) == 0, np.array(trees.ints) == 129], [1e16, -1e16], numpy_helper.to_array(weights.t))
    weights.t.CopyFrom(numpy_helper.from_array(large, "w"))
    x = rng.uniform(-4, 4, (rows, 9)).astype(np.float32).astype(float)
    g = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 9])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])])
    session = open_graph(helper.make_model(g, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9).SerializeToString())
    assert np.array_equal(make_tables(read_ensemble(node))(x), session.run(None, {"x": x})[0])


def test_a_forest_is_left_to_walking_at_once(monkeypatch):
    "Thresholds alone say that its tables would be too many: none is begun"
    monkeypatch.setattr(quick_module, "_states", lambda *_: pytest.fail("began to make tables"))
    assert make_tables(read_ensemble(grow(np.random.default_rng(2), 4, 12, 9))) is None


def test_what_would_take_too_many_tables_is_left_to_walking(monkeypatch):
    monkeypatch.setattr(quick_module, "CELLS", 64)
    node = grow(np.random.default_rng(1), 3, 12, 7)
    assert make_tables(read_ensemble(node)) is None


SMALL = {"lightgbm": {"n_estimators": 40}, "boosted": {"max_iter": 20}, "forest": {"n_estimators": 8, "max_leaf_nodes": 12}}


@pytest.mark.parametrize("candidate, task", [*((c, t) for c in ("dummy", "tree", "linear", "forest", "boosted", "lightgbm", "blend") for t in ("binary", "multiclass", "regression")), ("calibrated", "binary"), ("calibrated", "multiclass"), ("band", "regression")])
def test_quick_is_the_graph_for_models_as_they_are(candidate, task, monkeypatch):
    "To the last bit, with gaps, infinities, values right on and beside thresholds, huge ones, and categories that were never seen"
    from types import SimpleNamespace
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from skl2onnx.sklapi import CastTransformer
    from mlcycle.graph import graph_inputs, make_graph
    from mlcycle.models import make_band, make_blend, make_steps, widen
    monkeypatch.setattr(quick_module, "FEW", 0)
    rng, n = np.random.default_rng(0), 900
    classes = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}.get(task)
    c = Contract(name="m", task=task, classes=classes, positive="yes" if task == "binary" else None, columns=[*(Column(name=f"x{i}", type="number", nullable=True) for i in range(4)), Column(name="k", type="category", categories=["u", "v", "w"]), Column(name="l", type="category", nullable=True),
        Column(name="t", type="number" if task == "regression" else "category", role="target")])
    X = pd.DataFrame({f"x{i}": np.where(rng.random(n) < .1, np.nan, rng.normal(size=n).round(1)) for i in range(4)} | {"k": rng.choice(["u", "v", "w"], n), "l": rng.choice(["", "p", "q"], n)}).astype({"k": object, "l": object})
    y = X["x0"].fillna(0) + (X["k"] == "u") + rng.normal(size=n)/3
    y = y.to_numpy() if task == "regression" else np.digitize(y, [0.3] if task == "binary" else [0, 0.7])
    scheme = ColumnTransformer([("n", Pipeline([("s", StandardScaler()), ("c", CastTransformer(dtype=np.float32))]), [f"x{i}" for i in range(4)]), ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), ["k", "l"])])
    one = lambda kind: make_steps(kind, task, SMALL.get(kind, {}))
    steps = {"blend": lambda: make_blend([one("lightgbm"), one("tree"), one("linear")], [.5, .3, .2], task), "band": lambda: make_band(one("lightgbm"), "lightgbm", .8, n), "calibrated": lambda: one("lightgbm")}.get(candidate, lambda: one(candidate))()
    model = Pipeline([("recipe", scheme), *steps]).fit(X, y)
    if candidate == "band": model = widen(model, X, y, .8)
    if candidate == "calibrated": model = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(X, y)
    graph = make_graph(model, c)
    columns = {k: X[k].to_numpy() for k in X}
    for k in ("x0", "x1", "x2", "x3"): columns[k] = rng.choice([*columns[k], np.inf, -np.inf, 1e300, -0., 1e-310, *np.nextafter(columns[k], 9.), *np.nextafter(columns[k], -9.), *(columns[k] + .05)], 3*n)
    columns |= {k: rng.choice(np.array([*"uvwpq", "", "never", "ü, seen"], dtype=object), 3*n) for k in "kl"}
    b = SimpleNamespace(read=lambda name: graph.SerializeToString(), meta=SimpleNamespace(inputs=graph_inputs(graph, c), classes=classes, threshold=None))
    whole = open_graph(graph.SerializeToString()).run(None, {name: columns[k].reshape(-1, 1) for k, name in b.meta.inputs.items()})[0]
    quick = Quick(b)
    out = quick.predict({k: Coded(*np.unique(v, return_inverse=True)) if v.dtype == object else v for k, v in columns.items()})
    assert np.array_equal(out["scores"] if classes else np.column_stack(list(out.values())), whole, equal_nan=True) and (not classes or len(whole[0]) == len(classes))
    assert bool(quick._parts.tables) == (task != "multiclass" and candidate not in ("dummy", "linear")) # of several classes and more: ONNX Runtime walks


# ---- the command


def command(cwd, *words, code=0, env=None):
    r = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\nclass No:\n    def find_spec(self, name, *rest):\n        if name.split('.')[0] in ('pandas', 'sklearn', 'matplotlib', 'scipy'): raise ModuleNotFoundError(name)\nsys.meta_path.insert(0, No())\nfrom {PACKAGE}.cli import main; raise SystemExit(main())", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | (env or {}))
    assert r.returncode == code, r.stdout + r.stderr
    return r


def test_the_command_works_outside_a_project_and_stays_light(folder, tmp_path):
    put(table(300), tmp_path/"in.csv")
    r = command(tmp_path, "predict", "in.csv", "out.parquet", "--bundle", folder, "--batch", 50)
    assert "rows predicted by shop" in r.stdout and "rejected, with reasons: out.rejected.csv" in r.stdout
    r = command(tmp_path, "predict", "in.csv", "out.parquet", "--bundle", folder, code=2)
    assert "is there already" in r.stderr
    said = json.loads(command(tmp_path, "predict", "in.csv", "out.parquet", "--bundle", folder, "--replace", "--json", "--quiet").stdout)
    assert said["rows"] == 300 and said["rejected"] + said["scored"] == 300
    assert "--batch is 0" in command(tmp_path, "predict", "in.csv", "o.csv", "--bundle", folder, "--batch", 0, code=2).stderr
    assert "there is no project here" in command(tmp_path, "predict", "in.csv", "o.csv", code=2).stderr
    assert "Give the same command again" in command(tmp_path, "predict", "--help").stdout


# ---- long


@pytest.mark.chains
def test_memory_does_not_grow_with_the_rows(folder, tmp_path):
    peaks = []
    for n in (200_000, 2_000_000):
        rows = pd.DataFrame(table(20_000, faults=0.01))
        path = tmp_path/f"{n}.csv"
        for i in range(n//20_000): rows.to_csv(path, mode="a", header=not i, index=False)
        code = DRIVER.format(root=str(ROOT)).replace("quick.FEW = 0, 0", "quick.FEW = 1, 0") + "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        for out in ("csv", "parquet"):
            r = subprocess.run([sys.executable, "-c", code, path, tmp_path/f"{n}.out.{out}", folder], capture_output=True, text=True, timeout=300)
            assert r.returncode == 0, r.stderr
            peaks.append(int(r.stdout.split()[-1])/1024)
        path.unlink()
    assert max(peaks) < 1024 and peaks[2] < peaks[0]*1.25 and peaks[3] < peaks[1]*1.25, peaks


@pytest.mark.chains
def test_a_cluster_says_the_same(folder, bundle, tmp_path):
    from distributed import LocalCluster
    rows = table(5000)
    for form in (".csv", ".parquet", ".db"): put(rows, tmp_path/f"in{form}")
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        for form, query in ((".csv", None), (".parquet", None), (".db", "select * from rows order by rowid")):
            source = f"sqlite:///{tmp_path}/in.db" if query else tmp_path/f"in{form}"
            a = predict_files(source, tmp_path/"here.csv", bundle, Options(batch=300, replace=True, query=query))
            b = predict_files(source, tmp_path/"there.csv", bundle, Options(batch=300, replace=True, query=query, compute="dask", scheduler=cluster.scheduler_address))
            assert (tmp_path/"here.csv").read_bytes() == (tmp_path/"there.csv").read_bytes() and {k: v for k, v in a.items() if k not in ("seconds", "rejected_file", "periods")} == {k: v for k, v in b.items() if k not in ("seconds", "rejected_file", "periods")}


@pytest.mark.chains
def test_postgresql_in_and_out(bundle, tmp_path, postgres, monkeypatch):
    import sqlalchemy as sa
    monkeypatch.setenv("DB_PASSWORD", "hunter2@"); monkeypatch.chdir(tmp_path)
    engine = stream.engine_of(postgres)
    pd.DataFrame(table(500)).astype({"n": "Int64", "flag": "boolean"}).assign(day=lambda t: pd.to_datetime(t["day"], format="ISO8601")).to_sql("shop_rows", engine, index=False)
    query = "select *, u::numeric as price, '{\"a\": 1}'::jsonb as details, gen_random_uuid() as token from shop_rows order by id"
    here = predict_files(put(table(500), tmp_path/"in.csv"), tmp_path/"here.csv", bundle)
    for url in (postgres, postgres.replace("+psycopg", "")):
        summary = predict_files(url, url, bundle, Options(query=query, table="shop_scores", batch=60))
        assert summary["scored"] == here["scored"] and summary["rejections"] == here["rejections"]
    with engine.connect() as c: t = pd.read_sql(sa.text("select * from shop_scores"), c).set_index("id")
    wanted = got(tmp_path/"here.csv").set_index("id").loc[t.index]
    assert len(t) == here["scored"] and list(t["_label"]) == list(wanted["_label"]) and t["_score"].to_numpy() == pytest.approx(wanted["_score"].to_numpy(), rel=1e-14) and t["details"].iloc[0] == '{"a": 1}'
    monkeypatch.setenv("DB_PASSWORD", "wrong-one")
    with pytest.raises(ProjectError) as e: predict_files(postgres, "x.csv", bundle, Options(query=query))
    assert "authentication failed" in str(e.value) and "wrong-one" not in str(e.value)
