"""The whole chain once, on a small sample of the built-in example, and what DVC and git do with its results."""
import json, os, re, shutil

import pytest

from conftest import BIN, DATASETS, EXAMPLE_ONLY, PACKAGE, SETS, STAGES, House, clone, needs

SMALL = dict(collect__rows=4000, train__trials=1)


@pytest.fixture(scope="session")
def chain(tmp_path_factory, home):
    house = clone(tmp_path_factory.mktemp("chain")/"house", home, **SMALL)
    house.printed = house.sh(PACKAGE, "run")
    house.commit("first run")
    return house


def test_the_summary_says_what_ran_and_what_was_decided(chain):
    for verb in STAGES: assert re.search(rf"^{verb}\s+ran\s+[\d.]+ s\s+\d+ MiB", chain.printed, re.M), verb
    decided = {"assess": ["Worth it?"], "evaluate": ["How good?", "roc_auc", "Good enough?", "gate "], "package": ["bundle/card.html"], "retrain": ["What now?"]}
    for verb, pieces in decided.items():
        for piece in pieces: assert (piece in chain.printed) == (verb in STAGES), piece
    assert "Look at" in chain.printed


def test_what_was_planted_in_the_example_is_found_without_being_told(chain):
    assert "roles: {}" in chain.text("params.yaml") and chain.printed                    # nobody said anything, and the first run proposed the contract
    roles = {c["name"]: c["role"] for c in chain.json("data/collect/contract.json")["columns"]}
    assert {n: r for n, r in roles.items() if r != "feature"} == dict(cancel_reason="leaking", customer_id="group", month="time", churn_known_on="arrival", currency="constant", churned="target")
    why = {f["column"]: f["found"] for f in chain.json("data/collect/provenance.json")["findings"]}
    assert "predicts the target on its own" in why["cancel_reason"] and "several rows" in why["customer_id"] and "label became known" in why["churn_known_on"]
    account = {(a["what"].split(" (")[0], a["column"]): a["rows"] for a in chain.json("data/prepare/audit.json")}
    for line in [("unified: spelling", "payment_method"), ("unified: spelling", "region"), ("dropped: exact copy", ""), ("left out: label came after the cut", "churned"), ("flagged: far from the rest", "hours_watched")]:
        assert account.get(line, 0) > 0, f"{line} is not in the account: {account}"
    split = chain.json("data/prepare/split.json")
    assert split["kind"] == "time" and split["delay"] >= 59 and min(split["gap"].values()) > 0
    kept_out, = [f for f in chain.json("data/explore/findings.json") if f["kind"] == "kept out"]
    leak = next(c for c in chain.json("data/assess/decision.json")["checks"] if c["code"] == "ASSESS-01")
    assert kept_out["column"] == "cancel_reason" and kept_out["number"] > 0.99 and not leak["found"] and "`cancel_reason`" in leak["words"]


def test_nothing_changed_nothing_runs(chain):
    assert chain.repro() == []
    assert "Everything is up to date" in chain.sh(PACKAGE, "status")
    assert chain.sh("git", "status", "--short") == ""


def test_the_check_is_content(chain): assert "The house agrees with itself." in chain.sh(PACKAGE, "check")


@needs("package")
def test_the_bundle_predicts_without_pandas_and_scikit_learn(chain):
    code = f"""import sys, json
from {PACKAGE}.bundle import load_bundle
from {PACKAGE}.contract import inputs
b = load_bundle('data/package/bundle')
row = {{c.name: [None] for c in b.contract.features}}
print(json.dumps([list(map(str, b.predict(inputs(row, b.contract))['label'])), b.digest, sorted(m for m in sys.modules if m in ('pandas', 'sklearn'))]))"""
    label, digest, heavy = json.loads(chain.sh(BIN/"python", "-c", code))
    assert label[0] in chain.json("data/collect/contract.json")["classes"] and len(digest) == 64 and heavy == []


def test_small_results_are_in_git_and_large_ones_in_the_cache(chain):
    tracked = set(chain.sh("git", "ls-files", "data").split())
    assert {*(f"data/{v}/metrics.json" for v in STAGES if v in ("train", "evaluate", "retrain")), "data/contracts/churn.yaml"} <= tracked
    assert not [t for t in tracked if t.endswith((".parquet", ".skops", ".onnx")) or t.startswith("data/runs/")]
    assert sum(os.path.getsize(chain.root/t) for t in tracked) < 2_000_000
    assert not [t for t in tracked if t.endswith(".gitignore")]


def test_the_executed_copies_hold_figures_and_no_lessons_outputs(chain):
    for verb in STAGES:
        path = next((chain.root/"data/runs").glob(f"[0-9][0-9]_{verb}.ipynb"))
        cells = json.loads(path.read_text())["cells"]
        assert any(c.get("outputs") for c in cells), verb
        assert not any(o["output_type"] == "error" for c in cells for o in c.get("outputs", [])), verb
    assert "image/png" in next((chain.root/"data/runs").glob("*_explore.ipynb")).read_text()


@needs("train", "evaluate")
def test_dvc_shows_metrics_parameters_and_plots(chain):
    metrics = json.loads(chain.sh("dvc", "metrics", "show", "--json"))
    assert "roc_auc" in json.dumps(metrics)
    chain.sh("dvc", "plots", "show", "-o", "plots_here")
    assert (chain.root/"plots_here/index.html").exists()
    shutil.rmtree(chain.root/"plots_here")
    text = chain.text("params.yaml")
    chain.edit("params.yaml", "trials: 1", "trials: 2")
    assert "train.trials" in chain.sh("dvc", "params", "diff")
    chain.write("params.yaml", text)


@needs("train", "evaluate")
def test_an_experiment_runs_by_plain_dvc(chain, tmp_path, home):
    shutil.copytree(chain.root, tmp_path/"house", ignore=shutil.ignore_patterns("*.sock"))
    house = House(tmp_path/"house", home)
    house.sh("dvc", "exp", "run", "-S", "train.trials=2")
    assert house.json("data/runs/22_train.ipynb")["metadata"]["run"]["status"] == "done"
    table = house.sh("dvc", "exp", "show", "--csv")
    assert "train.trials" in table and "roc_auc" in table
    house.edit("params.yaml", "trials: 2", "trials: 1")
    assert house.repro() == []  # there and back: every stage comes from the run-cache
    house.edit("params.yaml", "trials: 1", "trials: 2")
    assert house.repro() == []
    assert "roc_auc" in house.sh("dvc", "metrics", "diff", "--all") and "train.trials" in house.sh("dvc", "params", "diff")


@needs("train", "evaluate")
def test_push_pull_and_checkout_bring_everything_back(chain, tmp_path, home):
    shutil.copytree(chain.root, tmp_path/"house", ignore=shutil.ignore_patterns("*.sock"))
    house = House(tmp_path/"house", home)
    first = house.sh("git", "rev-parse", "HEAD").strip()
    gate, lock = house.text("data/evaluate/gate.json"), house.text("dvc.lock")
    house.sh("dvc", "remote", "add", "-d", "local", tmp_path/"remote"); house.commit("remote")
    house.edit("params.yaml", "trials: 1", "trials: 2")
    house.repro(); house.commit("another"); house.sh("dvc", "push")
    house.sh("git", "checkout", "-q", first); house.sh("dvc", "checkout")
    assert house.text("data/evaluate/gate.json") == gate and house.text("dvc.lock") == lock
    assert house.repro() == []
    house.sh("git", "checkout", "-q", "-")
    house.sh("git", "clone", "-q", house.root, tmp_path/"clone")
    other = House(tmp_path/"clone", home)
    other.sh("dvc", "pull")
    assert other.repro() == []


def test_editing_prose_in_a_real_notebook_reruns_nothing(chain):
    path = next((chain.root/"nbs").glob(f"*_{STAGES[-1]}.ipynb")).relative_to(chain.root)
    before = chain.text(path)
    nb = json.loads(before)
    next(c for c in nb["cells"] if c["cell_type"] == "markdown")["source"] = "# Train\n\n> Another promise."
    chain.write(path, json.dumps(nb))
    assert chain.repro() == ["export"]
    chain.write(path, before)
    assert chain.repro() == ["export"]


@needs("features", "package")
def test_a_no_go_is_shown_in_a_draft_and_refused_at_launch(chain, tmp_path, home):
    shutil.copytree(chain.root, tmp_path/"house", ignore=shutil.ignore_patterns("*.sock"))
    house = House(tmp_path/"house", home)
    house.edit("params.yaml", "status: draft", "status: launch")
    gate = house.json("data/evaluate/gate.json")
    house.write("data/evaluate/gate.json", json.dumps(gate | {"verdict": "fail", "reasons": ["roc_auc 0.5 is below the 0.9 that the charter asks for."]}))
    out = house.sh(PACKAGE, "stage", "package", code=3)
    assert "`evaluate` says fail" in out and "0.9" in out and "frame.status: draft" in out
    decision = house.json("data/assess/decision.json")
    house.write("data/assess/decision.json", json.dumps(decision | {"verdict": "no-go", "reasons": ["Nothing beats the constant."]}))
    assert "Nothing beats the constant" in house.sh(PACKAGE, "stage", "features", code=3)


def test_pages_are_made_of_the_executed_copies(chain):
    out = chain.sh(PACKAGE, "show", STAGES[-1])
    page = out.strip().splitlines()[-1]
    assert page.endswith(f"_{STAGES[-1]}.html") and "<html" in open(page).read()[:2000].lower()


def test_bad_input_leaves_earlier_results_intact(chain):
    verdicts = ["data/assess/decision.json"] + ["data/evaluate/gate.json"]*("evaluate" in STAGES)
    decided, table = [chain.text(f) for f in verdicts], (chain.root/"data/collect/table.parquet").read_bytes()
    params = chain.text("params.yaml")
    chain.edit("params.yaml", "target: churned", "target: churnd")
    out = chain.sh(PACKAGE, "run", code=None)
    assert "churnd" in out and "churned" in out and [chain.text(f) for f in verdicts] == decided
    chain.write("params.yaml", params)
    chain.edit("params.yaml", "source: example:churn", "source: data/raw/nothing.csv")
    out = chain.sh(PACKAGE, "run", code=None)
    assert "data/raw/nothing.csv" in out and (chain.root/"data/collect/table.parquet").read_bytes() == table
    chain.write("params.yaml", params)
    assert chain.repro() == []


# ---- slow: every shared data set, determinism, Run All in kernels ----

@pytest.mark.chains
@needs("evaluate")
@pytest.mark.parametrize("name", SETS)
def test_a_whole_chain_on_real_data(name, tmp_path, home):
    if "sklearn:" not in SETS[name]["collect__source"] and not DATASETS.exists(): pytest.skip(f"{DATASETS} is not there: set DATASETS to the folder of shared data sets")
    house = clone(tmp_path/"house", home, **EXAMPLE_ONLY | SETS[name] | dict(collect__name=name))
    printed = house.sh(PACKAGE, "run", timeout=600)
    print(printed, json.dumps(house.json("data/evaluate/metrics.json"), indent=1))
    best, kind = {"telco": (.80, "roc_auc"), "bike": (200, "rmse"), "penguins": (.9, "balanced_accuracy"), "breast_cancer": (.95, "roc_auc"), "diabetes": (75, "rmse")}[name]
    metrics = house.json("data/evaluate/metrics.json")
    assert metrics[kind] <= best if kind == "rmse" else metrics[kind] >= best
    low, high = metrics["intervals"][kind]
    assert low <= metrics[kind] <= high
    assert house.repro() == []


@pytest.mark.chains
def test_the_same_bytes_twice_and_from_a_fresh_clone(tmp_path, home):
    a = clone(tmp_path/"a", home); b = clone(tmp_path/"somewhere"/"else", home)
    a.sh(PACKAGE, "run", timeout=600); b.sh("dvc", "repro", timeout=600)
    assert a.text("dvc.lock") == b.text("dvc.lock")  # the hash of every output of every stage
    before = a.text("dvc.lock")
    a.sh("dvc", "repro", "--force", timeout=600)
    assert a.text("dvc.lock") == before


@pytest.mark.chains
def test_run_all_of_every_stage_notebook_leaves_the_same_bytes(tmp_path, home):
    "Every notebook, every cell, lessons too, in a kernel of its own, from a clean clone after `dvc repro`"
    house = clone(tmp_path/"house", home, **SMALL)
    house.repro()
    house.env["PYTHONPATH"] = str(house.root)
    for path in sorted((house.root/"nbs").glob("[123]*.ipynb")):
        house.sh("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", tmp_path/"out", path)
        assert "up to date" in house.sh("dvc", "status"), path.name


@pytest.mark.chains
def test_the_standard_engine_gives_the_same_bytes(tmp_path, home):
    house = clone(tmp_path/"house", home, **SMALL)
    house.repro(); lock = house.text("dvc.lock")
    house.env["STAGE_ENGINE"] = "nbclient"
    house.sh("dvc", "repro", "--force", timeout=900)
    assert house.text("dvc.lock") == lock
