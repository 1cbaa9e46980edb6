"The bundle in one file, its second answer, its provenance, its card, and the reasons that are given from it"
import io, itertools, json, os, re, subprocess, sys, tarfile, time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLE, PACKAGE, ROOT
from skl2onnx.sklapi import CastTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mlcycle.bundle import FILES, BundleBroken, load_bundle, pack, read_sealed, seal
from mlcycle.card import SECTIONS, Sources, make_card, render_card, say_spread
from mlcycle.contract import Column, Contract, inputs, narrow
from mlcycle.core import write_file
from mlcycle.graph import NoParity, answer, expect_raw, hard_rows, insist, make_graph, parity
from mlcycle.models import make_pipeline
from mlcycle.package import Params, make_meta, make_profile, make_provenance, main_score, profile_column, scale_of, who_approved, write_bundle
from mlcycle.reasons import explain, say_scores, usual_answer, usual_cases

CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": None}
P = Params(tolerance=1e-4, near_splits=0.01, hard_rows=3, bins=10, threads=1)
LAUNCH, PASSED = {"status": "launch", "owner": "A. Owner", "decides": "the board", "currency": "EUR"}, {"verdict": "pass"}
NONE = {k: [] for k in ("slices", "segments", "groups", "gaps", "importance", "calibration")}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(1): yield


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"logins": rng.poisson(5, n).astype(float), "price": rng.normal(20, 5, n).round(2), "plan": rng.choice(["basic", "pro", ""], n, p=[.6, .3, .1]), "phone": rng.choice(["0301", "0302"], n)})
    t.loc[::7, "price"] = np.nan
    signal = 5 - t["logins"] + 2*(t["plan"] == "basic")*(t["logins"] < 4) + rng.normal(size=n)
    return t, {"binary": (signal > 0).to_numpy().astype(int), "multiclass": np.digitize(signal, [-2, 2]), "regression": 100 + 10*signal.to_numpy()}


def contract(task="binary"):
    return Contract(name="tiny", task=task, positive="yes" if task == "binary" else None, classes=CLASSES[task], columns=[*(Column(name=c, type="number", nullable=True) for c in ("logins", "price")),
        Column(name="plan", type="category", nullable=True, sensitive=True), Column(name="phone", type="category", personal=True), Column(name="left", type="category" if task != "regression" else "number", role="target")])


def fit(task="binary", candidate="boosted", calibrated=True):
    t, y = rows()
    X = pd.DataFrame(inputs(t, contract(task)))
    recipe = ColumnTransformer([("number", Pipeline([("scale", StandardScaler()), ("cast", CastTransformer(dtype=np.float32))]), ["logins", "price"]),
        ("category", OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), ["plan", "phone"])])
    model = make_pipeline(recipe, candidate, task, {"max_iter": 20} if candidate == "boosted" else {}).fit(X[:300], y[task][:300])
    return model if task == "regression" or not calibrated else CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(X[300:], y[task][300:])


def sources(model, task="binary", charter=LAUNCH, gate=PASSED, metrics={}, tables=NONE, threshold={"threshold": 0.4, "rule": "it pays"}):
    (t, y), c = rows(), contract(task)
    onnx, columns = make_graph(model, c), inputs(t, c)
    origin = make_provenance([], [], {"package": P.model_dump()}, {"source": "x.csv", "rows": len(t)}, who_approved(charter, gate), model)
    meta = make_meta(model, onnx, c, threshold if task == "binary" else {"threshold": None}, gate, metrics, charter, scale_of(y[task], c)[0], P)
    profile = make_profile(columns, y[task], main_score(answer(onnx, c, columns), c), c, {}, 10)
    return onnx, Sources(meta, c, charter, {"calibration": None}, metrics, gate, profile, origin, {}, tables)


def write(folder, model, task="binary", **more):
    onnx, s = sources(model, task, **more)
    card = make_card(s)
    return write_bundle(folder, {"model.onnx": onnx.SerializeToString(deterministic=True), "contract.json": s.contract, "bundle.json": s.meta, "profile.json": s.profile, "metrics.json": s.metrics,
        "gate.json": s.gate, "provenance.json": s.origin, "card.json": card, "card.html": render_card(card)})


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")/"bundle"
    write(folder, fit())
    return folder


# ---- one file


def test_a_file_of_a_bundle_is_the_same_bundle(sealed, tmp_path):
    pack(sealed, tmp_path/"one.tar")
    a, b, X = load_bundle(sealed), load_bundle(tmp_path/"one.tar"), inputs(rows(50, 1)[0], contract())
    assert a.digest == b.digest and a.meta == b.meta and np.array_equal(a.predict(X)["scores"], b.predict(X)["scores"]) and a.read("card.html") == b.read("card.html")
    subprocess.run(["tar", "xf", tmp_path/"one.tar", "-C", tmp_path], check=True) # a person's own tar reads it
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path).returncode == 0


def test_the_file_has_the_same_bytes_whoever_makes_it_and_when(sealed, tmp_path):
    pack(sealed, tmp_path/"one.tar")
    for f in sealed.iterdir(): os.utime(f, (1, 1)); f.chmod(0o600)
    code = f"import os, sys; os.umask(0o077); from {PACKAGE}.bundle import pack; pack({str(sealed)!r}, sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path/"two.tar"], cwd=ROOT, check=True, env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert (tmp_path/"one.tar").read_bytes() == (tmp_path/"two.tar").read_bytes()


def hostile(tmp_path, sealed, *members, mode="w"):
    "A bundle's .tar with more in it"
    path = tmp_path/"odd.tar"
    with tarfile.open(path, mode) as tar:
        for f in sorted(sealed.iterdir()): tar.add(f, f.name)
        for m in members: tar.addfile(m, io.BytesIO(b"x"*m.size))
    return path


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    m = tarfile.TarInfo(name)
    m.type, m.linkname, m.size = kind, link, size
    return m


@pytest.mark.parametrize("odd, words", [
    (member("../outside.txt", size=1), r"\.\./outside.txt was added"), (member("/tmp/outside.txt", size=1), "outside.txt was added"), (member("extra.py", size=1), "extra.py was added"),
    (member("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' in it is no plain file"), (member("hard", tarfile.LNKTYPE, "model.onnx"), "no plain file"), (member("dev", tarfile.CHRTYPE), "no plain file"),
    (member("folder", tarfile.DIRTYPE), "no plain file"), (member("bundle.json", size=1), "or there twice"), (member("SHA256SUMS", size=1), "or there twice")])
def test_a_hostile_file_is_refused_and_writes_nothing(sealed, tmp_path, monkeypatch, odd, words):
    path, here = hostile(tmp_path, sealed, odd), tmp_path/"here"
    here.mkdir(); monkeypatch.chdir(here)
    with pytest.raises(BundleBroken, match=words): load_bundle(path)
    assert list(here.iterdir()) == [] and [p.name for p in tmp_path.iterdir()] == ["here", "odd.tar"] or sorted(p.name for p in tmp_path.iterdir()) == ["here", "odd.tar"]


def test_a_broken_file_is_refused_in_words(sealed, tmp_path):
    pack(sealed, tmp_path/"one.tar")
    whole = (tmp_path/"one.tar").read_bytes()
    for harm, words in [(whole[:5000], "not readable as a bundle's .tar"), (b"", "not readable|No bundle"), (b"nonsense"*500, "not readable"), (whole.replace(b'"threshold": 0.4', b'"threshold": 0.9', 1), "bundle.json was changed")]:
        (tmp_path/"one.tar").write_bytes(harm)
        with pytest.raises(BundleBroken, match=words): load_bundle(tmp_path/"one.tar")
    with pytest.raises(BundleBroken, match="not compressed"): load_bundle(hostile(tmp_path, sealed, mode="w:gz"))
    with pytest.raises(BundleBroken, match="No bundle at .*`dvc repro package` makes one"): load_bundle(tmp_path/"nowhere.tar")
    for cut in range(0, 40_000, 1777): # wherever it ends
        (tmp_path/"one.tar").write_bytes(whole[:cut])
        with pytest.raises(BundleBroken): load_bundle(tmp_path/"one.tar")


@pytest.mark.parametrize("file, content, words", [("model.onnx", b"nonsense", "no graph that this onnxruntime can load"), ("contract.json", b"{", "contract.json cannot be read"),
    ("bundle.json", b"[]", "has the version None"), ("bundle.json", b"\xff", "bundle.json cannot be read")])
def test_nonsense_that_was_sealed_is_refused_in_words(sealed, tmp_path, file, content, words):
    for f in FILES: (tmp_path/f).write_bytes(content if f == file else (sealed/f).read_bytes())
    seal(tmp_path)
    with pytest.raises(BundleBroken, match=words): load_bundle(tmp_path)


def test_a_bundle_of_an_earlier_form_still_answers(sealed, tmp_path):
    "As the first version wrote it: a card as text, no second answer, no middles of the bins, fewer facts"
    import onnx
    (tmp_path/"old").mkdir()
    for f in FILES: (tmp_path/"old"/f).write_bytes((sealed/f).read_bytes())
    meta, profile, graph = (json.loads((sealed/"bundle.json").read_text()), json.loads((sealed/"profile.json").read_text()), onnx.load(sealed/"model.onnx"))
    for k in ("rule", "worth", "money", "raw"): del meta[k]
    for c in profile["columns"].values(): c.pop("middles", None)
    del graph.graph.output[1]
    for content, name in [(meta, "bundle.json"), (profile, "profile.json"), (graph.SerializeToString(), "model.onnx"), ("# tiny\n", "card.md")]: write_file(content, tmp_path/"old"/name)
    seal(tmp_path/"old")
    old, new, X = load_bundle(tmp_path/"old"), load_bundle(sealed), inputs(rows(20, 1)[0], contract())
    assert np.array_equal(old.predict(X)["scores"], new.predict(X)["scores"]) and old.meta.worth is None and len(explain(old, X)) == 20
    with pytest.raises(BundleBroken, match="no scores before calibration.*Make it anew"): old.raw(X)


def test_nothing_is_reported_to_anybody(sealed, tmp_path):
    "ONNX Runtime keeps a number of the machine and a file of what it wants to send, if it may"
    code = f"from {PACKAGE}.bundle import load_bundle; load_bundle({str(sealed)!r})"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_", "CI", "GITHUB"))} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=clean)
    assert list(tmp_path.rglob("*")) == []


# ---- before calibration


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("candidate", ["boosted", "linear", "forest", "lightgbm"])
def test_the_second_answer_is_the_score_before_calibration(task, candidate, tmp_path):
    X = inputs(rows(80, 2)[0], contract(task))
    for calibrated in (True, False):
        if task == "regression" and calibrated: continue
        model = fit(task, candidate, calibrated)
        write(tmp_path/str(calibrated), model, task)
        b = load_bundle(tmp_path/str(calibrated))
        after = b.predict(X)["scores"] if task != "regression" else b.predict(X)["value"][:, None]
        assert np.allclose(b.raw(X), expect_raw(model, pd.DataFrame(X), b.meta.classes and len(b.meta.classes)), atol=1e-5 if task != "regression" else 1e-2)
        if calibrated: assert not np.allclose(b.raw(X), after, atol=1e-3) and np.allclose(b.raw(X).sum(axis=1), 1) and (np.corrcoef(b.raw(X)[:, -1], after[:, -1])[0, 1] > 0.9 or task == "multiclass")
        else: assert np.array_equal(b.raw(X), after)


def test_a_wrong_second_answer_does_not_pass_the_gate():
    (t, _), c, model = rows(), contract(), fit()
    onnx, columns = make_graph(model, c), hard_rows(inputs(t, c), c, 3)
    assert insist(parity(onnx, model, c, columns, 1., None, 1e-4), columns, c, "rows", 0.01)["over"] == 0
    onnx.graph.output[1].name = onnx.graph.output[0].name + "_off"
    onnx.graph.node.add(op_type="Sin", input=[onnx.graph.output[0].name], output=[onnx.graph.output[1].name])
    with pytest.raises(NoParity, match="differs from the pipeline"): insist(parity(onnx, model, c, columns, 1., None, 1e-4), columns, c, "rows", 0.01)


# ---- what it says of itself


def test_the_threshold_says_why_and_what_it_is_worth():
    gain = {"value": 0.9, "low": 0.7, "high": 1.1}
    meta = sources(fit(), metrics={"worth": {"model": -0.9, "called": 0.1, "nothing": {"cost": 0., "gain": gain}}})[1].meta
    assert (meta.threshold, meta.rule, meta.worth, meta.money, meta.raw) == (0.4, "it pays", {"nothing": gain}, "EUR", True)
    assert sources(fit("regression"), "regression")[1].meta.worth is None


@pytest.mark.parametrize("charter, gate, by, draft", [
    (LAUNCH, PASSED, "A. Owner", False), (LAUNCH | {"status": "draft"}, PASSED, None, True), (LAUNCH, {"verdict": "fail"}, None, True),
    (LAUNCH, {"verdict": "fail", "override": {"of": "gate", "by": "D. Decider", "day": "2026-03-31", "why": "A pilot."}}, "D. Decider", False)])
def test_who_approved_is_in_the_provenance_and_a_draft_is_one(charter, gate, by, draft):
    charter = charter | {"override": gate.get("override")}
    s = sources(fit(), charter=charter, gate=gate)[1]
    page = render_card(make_card(s))
    assert s.origin["approval"]["by"] == by and s.meta.draft == draft and ("Not for decisions" in page) == draft and (by is None or by in page)


def test_provenance_changes_with_data_code_and_parameters_and_with_nothing_else(tmp_path):
    for name in ("data.parquet", "train.json"): (tmp_path/name).write_text("1")
    model, approval = fit(), who_approved(LAUNCH, PASSED)
    def made(settings={"package": P.model_dump(), "train": {"trials": 16}}): return make_provenance([tmp_path/"data.parquet"], [tmp_path/"train.json"], settings, {"source": "x.csv"}, approval, model)
    first = made()
    assert first == made() and set(first) == {"version", "data", "files", "code", "parameters", "model", "package", "approval", "libraries"} and list(first["code"]) == ["train"]
    assert not re.search(r"\b20\d\d-\d\d-\d\d|\b[0-9a-f]{40}\b", json.dumps(first)), "no clock, no revision"
    (tmp_path/"data.parquet").write_text("2")
    assert made()["files"] != first["files"] and made()["code"] == first["code"]
    (tmp_path/"train.json").write_text("2")
    assert made()["code"] != first["code"]
    other = made({"package": P.model_dump(), "train": {"trials": 17}})
    assert other["parameters"]["train"] != first["parameters"]["train"] and other["parameters"]["package"] == first["parameters"]["package"]


# ---- the card


class Seen(HTMLParser):
    def __init__(self): super().__init__(); self.tags, self.links, self.open = [], [], []
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag); self.links += [v for k, v in attrs if k in ("src", "href", "action")]
        if tag != "meta": self.open.append(tag)
    def handle_endtag(self, tag): assert self.open.pop() == tag


def seen(page): s = Seen(); s.feed(page); assert s.open == []; return s


@pytest.mark.parametrize("task", CLASSES)
def test_the_card_has_the_nine_sections_and_needs_nothing(task):
    "Also where nobody has said anything"
    for charter in (LAUNCH, {}):
        s = sources(fit(task), task, charter=charter)[1]
        page, card = render_card(make_card(s)), make_card(s)
        found = seen(page)
        assert list(SECTIONS) == [k for k in card if k in SECTIONS] and len(SECTIONS) == 9 and found.tags.count("section") >= 10
        assert "script" not in found.tags and "img" not in found.tags and "link" not in found.tags and all(l.startswith("#") for l in found.links) and "http" not in page.replace("http-equiv", "")
        assert page == render_card(json.loads(json.dumps(card))) and ("not said" in page) and not re.search(r"\b(nan|None|inf)\b", page)


def test_the_card_names_the_largest_value_there_is():
    "Where many rows share the largest value, its bin ends beyond it; where they share the last but one, it does not"
    many = profile_column(np.append(np.arange(160)/10, np.full(60, 16.)), "number", 8)
    tail = profile_column(np.append(np.arange(160)/10, [16.]*30 + [20.]), "number", 8)
    assert many["edges"][-1] > 16 and say_spread(many, 16.) == "0 to 16" and say_spread(tail, 20.) == "0 to 20"
    s = sources(fit())[1]
    told = make_card(s._replace(contract=narrow(s.contract, rows()[0])))["factors"]["columns"]
    assert {c["column"]: c["largest"] for c in told} == {"logins": rows()[0]["logins"].max(), "price": rows()[0]["price"].max(), "plan": None, "phone": None}


def test_the_card_leaves_out_what_was_not_cut_into_parts():
    all_rows = {"segment": "all rows", "share": 1., "loss": 3867.4, "times": 1., "sure": False}
    page = lambda *segments: render_card(make_card(sources(fit(), tables=NONE | {"segments": list(segments)})[1]))
    assert "Where it errs most" not in page(all_rows) and "results are shown apart for</dt><dd>none" in page(all_rows)
    assert "Where it errs most" in page(all_rows, all_rows) and "3,867" in page(all_rows, all_rows)


def test_the_card_says_whose_probability_is_drawn():
    for task, words in [("binary", "What it answers for the validation rows"), ("multiclass", "The probability of the likeliest class for the validation rows")]:
        assert words in render_card(make_card(sources(fit(task), task)[1]))


def test_what_people_wrote_runs_nothing():
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`"
    charter = LAUNCH | {k: evil for k in ("problem", "decision", "users", "owner", "unit", "horizon", "currency", "without_ml")} | {"risks": [{"risk": evil, "owner": evil}], "stakeholders": [{"name": evil, "deployment": "approves"}]}
    tables = NONE | {"slices": [{"column": evil, "slice": evil, "rows": 3, "value": 0.5, "low": 0.4, "high": 0.6, "worse": True}], "importance": [{"column": evil, "loss": 0.1, "low": 0., "high": 0.2}],
        "gaps": [{"column": evil, "measure": evil, "value": 0.1, "low": 0., "high": 0.2, "chance": 0.1, "sure": True, "lowest": evil, "highest": evil}], "segments": [{"segment": evil, "share": 0.1, "loss": 1., "times": 2., "sure": True}]}
    page = render_card(make_card(sources(fit(), charter=charter, gate=PASSED | {"reasons": [evil]}, tables=tables)[1]))
    assert not {"script", "img"} & set(seen(page).tags) and "&lt;script&gt;" in page and "default-src 'none'" in page


def test_the_card_quotes_the_charter_and_what_it_earns():
    gain = lambda v, a, b: {"cost": 0., "gain": {"value": v, "low": a, "high": b}}
    over = {"by": "A. Person", "day": "2026-03-31", "why": "The pilot is cheap.", "of": "assess"}
    s = sources(fit(), charter=LAUNCH | {"status": "draft", "risks": [{"risk": "Prices change.", "owner": "Sales"}, {"risk": "Habits change.", "owner": None}], "override": over},
        gate=PASSED | {"open": ["owner"]}, metrics={"metric": "roc_auc", "roc_auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "rows": 12, "worth": {"nothing": gain(1., 0.5, 1.5), "today": gain(0.5, 0.1, 0.9)}})[1]
    page = re.sub("<[^>]+>", "", render_card(make_card(s._replace(limits=["the model's graph has 6 MiB; the charter allows 5"]))))
    for piece in ["0.5 EUR a case (0.1 to 0.9) against what is done today", "The charter leaves open: owner.", "The model&#x27;s graph has 6 MiB", "Prices change.Sales", "Habits change.not said", "A. Person decided on 2026-03-31", "The pilot is cheap."]:
        assert piece in page, piece


def test_values_of_people_are_not_in_the_bundle(sealed):
    "A personal column has no profile, no example, no figure"
    for f in ("profile.json", "card.json", "card.html", "contract.json"): assert "0301" not in (sealed/f).read_text(), f
    assert "personal: not shown" in (sealed/"card.html").read_text()


# ---- reasons


@pytest.mark.parametrize("task", CLASSES)
def test_reasons_add_up_and_do_not_depend_on_company(task, tmp_path):
    write(tmp_path/"bundle", fit(task), task)
    b, X = load_bundle(tmp_path/"bundle"), inputs(rows(12, 3)[0], contract(task))
    reasons, scores, usual = explain(b, X), say_scores(b, X), usual_answer(b)[1]
    for i, r in enumerate(reasons):
        assert list(r) == ["logins", "price", "plan", "phone"] and abs(sum(r.values()) - (scores[i].max() - usual[:, scores[i].argmax()].mean())) < 1e-9
        assert r == explain(b, {c: v[i:i+1] for c, v in X.items()})[0]
    assert np.mean([max(r, key=lambda c: abs(r[c])) == "logins" for r in reasons]) > 0.8 and all(isinstance(v, float) for v in reasons[0].values())
    assert explain(b, {c: v[:0] for c, v in X.items()}) == []


def test_reasons_are_shapleys(sealed):
    "All orders, all usual cases, worked out one by one"
    b = load_bundle(sealed)
    X, draws, names = inputs(rows(3, 4)[0], b.contract), 32, ["logins", "price", "plan", "phone"]
    cases = usual_answer(b, draws)[0]
    for i, found in enumerate(explain(b, X, draws)):
        exact = dict.fromkeys(names, 0.)
        for order in itertools.permutations(names):
            now = {c: v.copy() for c, v in cases.items()}
            before = say_scores(b, now)[:, 0]
            for c in order:
                now[c][:] = X[c][i]
                after = say_scores(b, now)[:, 0]
                exact[c] += (after - before).mean()/24; before = after
        assert max(abs(found[c] - exact[c]) for c in names) < 0.03*max(abs(v) for v in exact.values()) + 0.01, (found, exact)


def test_usual_cases_are_as_the_profile_says_and_nobodys(sealed):
    b = load_bundle(sealed)
    cases, t = usual_cases(b.read("profile.json"), b.contract, 400), rows()[0]
    assert set(cases["phone"]) == {""} and abs((cases["plan"] == "pro").mean() - (t["plan"] == "pro").mean()) < 0.01 and abs(np.isnan(cases["price"]).mean() - t["price"].isna().mean()) < 0.01
    assert abs(np.nanmean(cases["price"]) - t["price"].mean()) < 0.5 and abs(cases["logins"].mean() - t["logins"].mean()) < 0.2
    assert abs(usual_answer(b)[1].mean() - say_scores(b, cases)[:, 0].mean()) < 0.03


def test_reasons_need_neither_pandas_nor_scikit_learn(sealed):
    code = f"""
import sys
from {PACKAGE}.bundle import load_bundle
from {PACKAGE}.contract import inputs
from {PACKAGE}.reasons import explain
b = load_bundle({str(sealed)!r})
print(len(explain(b, inputs({{"logins": [3.], "price": [None], "plan": ["pro"], "phone": ["1"]}}, b.contract))), [m for m in ("pandas", "sklearn", "onnx", "scipy", "matplotlib") if m in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "1 []"


def test_reasons_of_thirteen_columns_take_less_than_ten_milliseconds():
    "On the example's own bundle, where a run has made one; CPU time, since others may be at work"
    folder = ROOT/"data/package/bundle"
    b = load_bundle(folder) if folder.exists() else None
    if b is None or b.meta.name != EXAMPLE["collect"]["name"]: pytest.skip("no bundle of the example: it has not been run here")
    X = {c: v[:20] for c, v in usual_cases(b.read("profile.json"), b.contract, 20, seed=1).items()}
    explain(b, {c: v[:1] for c, v in X.items()})
    start = time.process_time()
    explain(b, X)
    assert len(b.contract.features) == 13 and (time.process_time() - start)/20 < 0.01
