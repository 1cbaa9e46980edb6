"The model on a device and in a page: the same answers and the same refusals, in fewer bytes, with what that costs"
import ast, functools, http.server, json, shutil, subprocess, sys, threading
from html import unescape
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from conftest import ROOT
from mlcycle.answer import as_json, example_row
from mlcycle.browser import MODEL_JS, PARTS, READ_JS, RUNTIME, VALUE_JS, fetch_runtime
from mlcycle.bundle import FILES, Meta, ask, load_bundle, open_graph, seal
from mlcycle.contract import Column, Contract, check_row, inputs, labels
from mlcycle.core import ProjectError, write_file
from mlcycle.device import Model, Refused, value_of
from mlcycle.edge import build, choose, fits, ensembles, only_first, place, read_trees, variants, write_folder
from mlcycle.graph import graph_inputs, make_graph
from mlcycle.metrics import main_metric
from mlcycle.models import make_band, make_blend, make_pipeline, widen
from mlcycle.propose import propose
from mlcycle.recipe import make_recipe, plan

QUICK = {"boosted": {"max_iter": 30}, "lightgbm": {"n_estimators": 30}, "forest": {"n_estimators": 20}, "tree": {}, "linear": {}}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1): yield


def table(task, n=500, seed=0):
    "Rows with every kind of column but texts, some of them missing"
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"x": rng.normal(size=n).round(3), "count": rng.integers(0, 9, n), "plan": rng.choice(["basic", "pro", "max"], n), "news": rng.random(n) < 0.5,
                      "day": pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D")})
    signal = t["x"] + t["count"]/4 + (t["plan"] == "pro") + rng.normal(0, 0.3, n)
    t["x"] = t["x"].mask(rng.random(n) < 0.1)
    t["y"] = {"binary": np.where(signal > 1.3, "yes", "no"), "multiclass": np.digitize(signal, [0.8, 1.8]).astype(str), "regression": signal}[task]
    return t


@functools.cache
def fitted(task, candidate):
    "A bundle in memory: (contract, fitted model's graph, rows)"
    rows = table(task)
    contract = propose(rows, "tiny", "y", task=task)
    X, y = pd.DataFrame(inputs(rows, contract)), labels(rows, contract)
    model = make_pipeline(make_recipe(plan(contract, X, 50)), candidate, task, QUICK[candidate]).fit(X, y)
    return contract, make_graph(model, contract), rows


@functools.cache
def bundled(folder, task, candidate):
    "A bundle in a folder"
    contract, graph, _ = fitted(task, candidate)
    meta = Meta(version=1, name="tiny", task=task, classes=contract.classes, positive=contract.positive, threshold=0.4 if task == "binary" else None, target_scale=1., draft=False, verdict="pass",
                estimator=candidate, inputs=graph_inputs(graph, contract), tolerance=1e-4)
    for name in FILES:
        write_file({"contract.json": contract, "bundle.json": meta, "model.onnx": graph.SerializeToString()}.get(name, {} if name.endswith(".json") else ""), folder/name)
    seal(folder)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory): return bundled(tmp_path_factory.mktemp("b")/"bundle", "binary", "lightgbm")


# ---- smaller trees

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("candidate", ["lightgbm", "boosted", "tree"])
def test_compact_trees_answer_as_the_whole_in_half_the_bytes(task, candidate):
    contract, graph, rows = fitted(task, candidate)
    columns, feed = inputs(rows, contract), graph_inputs(graph, contract)
    found = variants(graph, feed, columns)
    if not all(fits(read_trees(n)) for n in ensembles(graph)): # leaves for several classes
        assert list(found) == ["whole"] and (task, candidate) == ("multiclass", "tree"); return
    answers = {k: ask(open_graph(g.SerializeToString()), feed, columns) for k, g in found.items()}
    assert np.abs(answers["compact"] - answers["whole"]).max() < 1e-5
    size = {k: len(g.SerializeToString()) for k, g in found.items()}
    if candidate == "tree": assert list(found) == ["whole", "compact"] and size["compact"] < size["whole"]; return
    assert size["compact"] < 0.6*size["whole"]
    assert size["compact"] > size["half the trees"] > size["a quarter of the trees"] > size["an eighth of the trees"]


def test_a_pruned_ensemble_that_was_fitted_to_the_whole_is_nearer_than_one_that_was_only_cut():
    contract, graph, rows = fitted("binary", "lightgbm")
    columns, feed = inputs(rows, contract), graph_inputs(graph, contract)
    from mlcycle.edge import keep_trees, swap_trees
    trees = [read_trees(n) for n in ensembles(graph)]
    answers = lambda g: ask(open_graph(g.SerializeToString()), feed, columns)[:, 1]
    whole, cut, mended = answers(only_first(graph)), answers(swap_trees(graph, [keep_trees(t, 0.25) for t in trees])), answers(variants(graph, feed, columns)["a quarter of the trees"])
    assert np.abs(mended - whole).mean() < 0.7*np.abs(cut - whole).mean()


def test_a_linear_model_has_nothing_to_prune():
    contract, graph, rows = fitted("binary", "linear")
    assert list(variants(graph, graph_inputs(graph, contract), inputs(rows, contract))) == ["whole"]


def test_the_smallest_that_surely_loses_little_is_taken_and_the_charter_is_asked():
    of = lambda name, size, high, over=(): {"variant": name, "size_mib": size, "loss": {"high": high}, "over": list(over)}
    found = [of("whole", 9, 0., ["9 MiB"]), of("compact", 4, 0., ["4 MiB"]), of("half", 2, 0.02)]
    assert choose(found, 0.001)["variant"] == "compact" # none keeps the limit: the smallest that loses nothing, and its verdict says so
    assert choose(found, 0.05)["variant"] == "half"


# ---- the folder

def test_the_loader_is_short_and_needs_numpy_and_onnxruntime_alone(bundle, tmp_path):
    write_folder(tmp_path, bundle, "whole", bundle.read("model.onnx"))
    code = (tmp_path/"loader.py").read_text()
    assert len(code.splitlines()) < 100
    modules = {a.name for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Import) for a in n.names} | {n.module for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom)}
    assert {m.split(".")[0] for m in modules} - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_loader_answers_as_the_bundle(task, tmp_path):
    b = bundled(tmp_path/"bundle", task, "lightgbm")
    write_folder(tmp_path/"edge", b, "whole", b.read("model.onnx"))
    rows = table(task).head(60)
    said, asked = Model(tmp_path/"edge").predict(as_json(rows, b.contract)), b.predict(inputs(rows, b.contract))
    if task == "regression": assert [s["value"] for s in said] == asked["value"].tolist(); return
    assert [s["label"] for s in said] == asked["label"].tolist() and [list(s["scores"].values()) for s in said] == asked["scores"].tolist()


def test_what_the_contract_refuses_the_loader_refuses_and_says_why(bundle, tmp_path):
    write_folder(tmp_path, bundle, "whole", bundle.read("model.onnx"))
    model, good = Model(tmp_path), example_row(bundle.contract)
    assert model.predict([good]) and model.predict([]) == []
    for row, words in [(good | {"count": "many"}, "`count` is 'many'"), (good | {"count": 1.5}, "`count` is 1.5"), (good | {"colour": 1}, "`colour` is no column of the model; allowed: x, count"),
                       ({k: v for k, v in good.items() if k != "plan"}, "`plan` is None; allowed: a value"), (good | {"x": float("inf")}, "`x` is inf")]:
        assert check_row(row, bundle.contract)[0]
        with pytest.raises(Refused) as e: model.predict([row])
        assert words in str(e.value)


def test_a_changed_graph_is_refused(bundle, tmp_path):
    write_folder(tmp_path, bundle, "whole", bundle.read("model.onnx"))
    (tmp_path/"model.onnx").write_bytes(bundle.read("model.onnx") + b"\0")
    with pytest.raises(ValueError, match="not the graph that model.json describes"): Model(tmp_path)


# ---- the build

@pytest.fixture(scope="module")
def built(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")/"edge"
    said = []
    rows = table("binary", 600, seed=1)
    return out, build(bundle, table("binary"), rows, main_metric("binary"), {"size_mib": 0.001, "cold_ms": None}, out, say=said.append), said


def test_a_build_measures_each_variant_and_says_what_it_took_and_why(built):
    out, report, said = built
    assert report == json.loads((out/"report.json").read_text()) | {"variants": report["variants"]}
    assert report["variant"] == "compact" and len(said) == len(report["variants"]) == 5
    for v in report["variants"]: assert v["memory_mib"] > 5 and v["cold_ms"] > 1 and v["latency_ms"] > 0 and v["size_mib"] > 0
    assert report["variants"][0]["max_difference"] == 0 and report["variants"][4]["max_difference"] > 0
    assert "MiB of files, and `frame.edge.size_mib` allows 0.001" in report["verdict"]
    page = (out/"README.md").read_text()
    assert "Taken: **compact**" in page and "| an eighth of the trees |" in page and "draft" not in page
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "loader.py", "model.json", "model.onnx", "report.json"] and not list(out.parent.glob(".*"))


def test_the_readmes_lines_work_as_they_stand(built):
    out, _, _ = built
    code = (out/"README.md").read_text().split("```python\n")[1].split("```")[0].replace("\nModel", "\nprint(Model") .rstrip() + ")"
    r = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True)
    assert r.returncode == 0 and "'label'" in r.stdout, r.stderr


def test_a_folder_that_is_something_else_is_left_alone(built, tmp_path):
    (tmp_path/"notes.txt").write_text("mine")
    with pytest.raises(ProjectError, match="is no build of the edge"): place(built[0], tmp_path)
    assert (tmp_path/"notes.txt").read_text() == "mine" and built[0].exists()


def plain(folder, metric="rmse", **more):
    "A build of a model that has nothing to make smaller: quick; amounts in millions"
    bundle = bundled(folder/"bundle", "regression", "linear")
    bundle.meta = bundle.meta.model_copy(update={"target_scale": 1e6})
    return build(bundle, table("regression"), table("regression", 60, seed=1), main_metric("regression", metric), {}, **{"out": folder/"out"/"edge", **more})


@pytest.mark.parametrize("more, words", [({"most": -1.}, "--loss.* is -1; allowed: 0 or more"), ({"most": float("nan")}, "allowed: 0 or more"),
    ({"web": True, "runtime": Path("nowhere.tgz")}, "There is no file nowhere.tgz"), ({"limits": None}, None)])
def test_a_build_that_stops_says_why_and_leaves_nothing(more, words, tmp_path, monkeypatch):
    if not words: # in the middle
        more, words = {}, "out of memory"
        def broken(*_): raise ProjectError(words)
        monkeypatch.setattr("mlcycle.edge.try_out", broken)
    with pytest.raises(ProjectError, match=words): plain(tmp_path, **more)
    assert not (tmp_path/"out").exists() or list((tmp_path/"out").iterdir()) == []


def test_a_loss_of_amounts_is_held_against_their_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"here").mkdir(); monkeypatch.chdir(tmp_path/"here")
    first = plain(tmp_path, out=Path("."))
    assert first["most"] == 100 and plain(tmp_path/"r2", "r2")["most"] == 1e-4
    assert {"model.onnx", "README.md"} <= {p.name for p in (tmp_path/"here").iterdir()} and "No smaller form of it is known" in first["verdict"]
    page = (tmp_path/"here"/"README.md").read_text()
    assert " -0 " not in page and "(-0 " not in page and "| – |" in page
    assert first["variants"][0]["size_mib"]*2**20 == sum((tmp_path/"here"/f).stat().st_size for f in ("model.onnx", "model.json", "loader.py"))


# ---- the page

TINY = Contract(name="tiny", task="binary", positive="yes", classes=["no", "yes"], columns=[
    Column(name="age", type="integer", nullable=True, minimum=18, maximum=99, broken="repair", fill=40), Column(name="price", type="number", minimum=0, outside="reject"),
    Column(name="plan", type="category", categories=["basic", "pro"], nullable=True, broken="repair"), Column(name="region", type="category", categories=["north", "Straße"], unseen="reject"),
    Column(name="news", type="boolean", nullable=True), Column(name="day", type="datetime", nullable=True), Column(name="note", type="text", nullable=True, fill="Nothing said"), Column(name="y", type="category", role="target")])
ODD = ["?!", None, "", " ", "x", " Pro ", "PRO", "north", "STRASSE", "true", "False", "2025-07-31", "2025-07", "2025-07-31T10:00:00+02:00", "2025-07-31 10:00", "31.7.2025", "Grüße: 1½!  ΟΔΟΣ", "e\u0301", 0, 1, 17, 50, 3.5, -1, 1e300, True]


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_the_page_reads_values_as_the_loader_does(tmp_path):
    columns = [c.model_dump(exclude_defaults=True) for c in TINY.features]
    (tmp_path/"t.mjs").write_text(READ_JS + VALUE_JS + f"""
    const out = [];
    for (const c of {json.dumps(columns)}) for (const v of {json.dumps(ODD)}) {{
      try {{ const r = valueOf({{[c.name]: v}}, c); out.push(Number.isNaN(r) ? "gap" : r); }} catch (e) {{ if (!(e instanceof Refused)) throw e; out.push("refused"); }} }}
    console.log(JSON.stringify(out));""")
    r = subprocess.run(["node", tmp_path/"t.mjs"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    theirs, asked = json.loads(r.stdout), []
    for c in columns:
        for v in ODD:
            try: mine = value_of({c["name"]: v}, c); asked.append((c["name"], v, "gap" if mine != mine else mine))
            except Refused: asked.append((c["name"], v, "refused"))
    wrong = [(a, t) for a, t in zip(asked, theirs, strict=True) if a[2] != t]
    assert not wrong and {"refused", "gap"} < set(map(str, theirs))


def browser(): return next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


def look(folder, page, profile):
    "Open a page of a folder in a browser without a window; what it holds in the end"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *a: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        r = subprocess.run([browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}", "--virtual-time-budget=60000",
                            "--dump-dom", f"http://127.0.0.1:{server.server_port}/{page}"], capture_output=True, text=True, timeout=120)
        server.shutdown()
    return r.stdout


@pytest.mark.chains
@pytest.mark.skipif(not browser() or not shutil.which("npm"), reason="no browser, or no npm")
def test_the_page_answers_as_the_bundle_in_a_browser(bundle, tmp_path):
    rows = table("binary", 200, seed=2)
    build(bundle, table("binary"), rows, main_metric("binary"), {}, tmp_path/"edge", web=True)
    (tmp_path/"edge"/"check.html").write_text("<pre id=o></pre><script type=module>import {load} from './model.js';\n"
        f"const m = await load('.'); document.getElementById('o').textContent = JSON.stringify(await m.predict({json.dumps(as_json(rows, bundle.contract))}));</script>")
    found = json.loads(unescape(look(tmp_path/"edge", "check.html", tmp_path/"p").split('<pre id="o">')[1].split("</pre>")[0]))
    alone = Model(tmp_path/"edge").predict(as_json(rows, bundle.contract))
    asked = bundle.predict(inputs(rows, bundle.contract))
    assert [f["label"] for f in found] == [a["label"] for a in alone] == asked["label"].tolist()
    assert np.abs(np.array([list(f["scores"].values()) for f in found]) - asked["scores"]).max() < 1e-6
    page = look(tmp_path/"edge", "index.html", tmp_path/"p2")
    first = Model(tmp_path/"edge").predict([example_row(bundle.contract)])[0]
    assert f"<h2>y: {first['label']}</h2>" in page and page.count("<label>") == len(bundle.contract.features)
    assert "http" not in MODEL_JS.split("//", 1)[1].replace("http-", "") or "://" not in MODEL_JS # asks nobody else's server


def test_another_runtime_is_refused(tmp_path):
    (tmp_path/"a.tgz").write_bytes(b"other")
    with pytest.raises(ProjectError, match=f"a.tgz is not {RUNTIME[0]} {RUNTIME[1]}"): fetch_runtime(tmp_path, tmp_path/"a.tgz")
    assert not any((tmp_path/p).exists() for p in PARTS)


@pytest.mark.chains
def test_the_loader_works_where_nothing_else_is_installed(built, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path/"v"], check=True)
    pip = subprocess.run([tmp_path/"v"/"bin"/"pip", "install", "-q", "-c", ROOT/"constraints.txt", "numpy", "onnxruntime"], capture_output=True, text=True)
    assert pip.returncode == 0, pip.stderr
    row = json.loads((built[0]/"model.json").read_text())["example"]
    r = subprocess.run([tmp_path/"v"/"bin"/"python", "-c", f"from loader import Model; print(Model().predict([{row!r}]))"], cwd=built[0], capture_output=True, text=True)
    assert r.returncode == 0 and "'label'" in r.stdout, r.stderr
