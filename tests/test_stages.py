"Stages put in, renamed, taken out: all that names them follows, nothing else moves, and what fails costs nothing."
import ast, json, shutil, subprocess, sys

import pytest
import yaml
from conftest import PACKAGE, ROOT, House, clone, copy_tracked, make_toy, needs

from mlcycle import inspect, stages
from mlcycle.core import ProjectError
from mlcycle.export import export

RULES = (inspect.check_names, inspect.check_imports, inspect.check_parameters, inspect.check_cells, inspect.check_chain)
README = """# Toy

| notebook | question |
|---|---|
| **One** | |
| `11_first` | What? |
| **Two** | |
| `21_alpha` | How? `data/alpha/out.json` |
| `22_beta` | And? See nbs/22_beta.ipynb |

Three, with alpha and beta; `alpha` is a letter. `{package} run alpha`, alpha.step
"""


def tree(root):
    "Every file that git would take, with its bytes"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True).stdout
    return {p: (root/p).read_bytes() for p in listed.split("\0") if p and (root/p).exists()}


def told(root): return [line for rule in RULES for line in rule(root)]


@pytest.fixture(scope="module")
def _small(tmp_path_factory, home):
    house = make_toy(tmp_path_factory.mktemp("small")/"house", home)
    house.write("README.md", README.format(package=PACKAGE))
    house.write("tests/test_alpha.py", f"from {PACKAGE}.alpha import more\n\ndef test_more(): assert more(1, 2) == 3\n")
    house.write("tests/test_sums.py", f"from {PACKAGE}.sums import one\nfrom {PACKAGE}.alpha import mine\n\ndef test_one(): assert one() == 1\n\ndef test_mine(): assert mine(1) == one()\n")
    house.write("benchmarks/speed.py", f"from {PACKAGE}.alpha import more\nprint(more(1, 2))\n")
    export(house.root)
    house.commit()
    return house


@pytest.fixture
def small(_small, tmp_path, home):
    "The toy house, exported and committed, not run"
    shutil.copytree(_small.root, tmp_path/"house")
    return House(tmp_path/"house", home)


def test_put_in_and_taken_out_again_leaves_no_trace(small):
    before, said = tree(small.root), []
    prints = {p: t for p, t in before.items() if p.startswith("data/export/")}
    changed = stages.add(small.root, "gamma", "alpha", said.append)
    assert told(small.root) == [] and {"nbs/22_gamma.ipynb", "nbs/22_beta.ipynb", "nbs/23_beta.ipynb", f"{PACKAGE}/gamma.py", "data/export/gamma.json"} <= {*changed}
    assert list(yaml.safe_load(small.text("params.yaml"))) == ["first", "alpha", "gamma", "beta"] and "nbs/23_beta.ipynb" in small.text("README.md")
    assert small.text("README.md").index("`22_gamma`") < small.text("README.md").index("`23_beta`") and any("README.md:11" in s for s in said)
    after = tree(small.root)
    assert {p: after[p] for p in prints} == prints, "a number is no part of what a stage means"
    small.commit()
    stages.remove(small.root, ["gamma"], said.append)
    assert tree(small.root) == before


def test_a_stage_that_others_use_is_renamed_with_them(small, monkeypatch):
    monkeypatch.setattr(stages, "_exported", lambda root: [])
    small.write("data/alpha/out.json", '{"value": 2}')
    small.write("data/runs/21_alpha.ipynb", "{}")
    said = []
    stages.rename_stage(small.root, "alpha", "gain", said.append)
    assert told(small.root) == [] and f"from {PACKAGE}.gain import mine" in small.text("nbs/22_beta.ipynb")
    assert small.json("data/gain/out.json") == {"value": 2} and (small.root/"data/runs/21_gain.ipynb").exists() and not (small.root/"data/alpha").exists()
    assert all(f"from {PACKAGE}.gain import" in small.text(p) for p in ("tests/test_alpha.py", "tests/test_sums.py", "benchmarks/speed.py"))
    text = small.text("README.md")
    assert "`21_gain` | How? `data/gain/out.json`" in text and f"`{PACKAGE} run gain`, gain.step" in text
    assert "Three, with alpha and beta; `alpha` is a letter." in text and "README.md, line 11" in said[-1], "a bare word is left, and shown where it may be the stage"


def test_what_is_needed_stays_until_all_that_needs_it_goes(small):
    with pytest.raises(ProjectError) as e: stages.remove(small.root, ["alpha"])
    assert "nbs/22_beta.ipynb imports from `alpha`" in str(e.value)
    with pytest.raises(ProjectError) as e: stages.remove(small.root, ["first"])
    assert "stage `alpha` depends on data/first/out.json" in str(e.value) and "stage `beta` depends" in str(e.value)
    small.write("data/alpha/mine.txt", "the only copy")
    said, changed = [], stages.remove(small.root, ["alpha", "beta"])
    assert told(small.root) == [] and list(yaml.safe_load(small.text("params.yaml"))) == ["first"] and "Two**" not in small.text("README.md")
    assert {"tests/test_alpha.py", "benchmarks/speed.py"} <= {*changed} and not (small.root/"benchmarks").exists()
    assert small.text("tests/test_sums.py") == f"from {PACKAGE}.sums import one\n\ndef test_one(): assert one() == 1\n"
    assert small.text("data/alpha/mine.txt") == "the only copy", "no cache has it"
    assert inspect.check_export(small.root) == []


def test_results_that_are_kept_elsewhere_go(small):
    import hashlib
    small.write("data/alpha/out.json", "kept"); small.write("data/beta/out.json", "kept, too"); small.write("data/beta/own.json", "by me")
    for text in ("kept", "kept, too"):
        md5 = hashlib.md5(text.encode()).hexdigest()
        small.write(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}", text)
    said = []
    assert stages.clear_results(small.root, ["alpha", "beta"], said.append) == ["data/alpha"]
    assert not (small.root/"data/alpha").exists() and (small.root/"data/beta/out.json").exists() and "data/beta/own.json" in said[0]


def refusals(root):
    return [(lambda verb=verb: stages.add(root, verb, "alpha"), words) for verb, words in [("Balance", "lower-case"), ("two words", "lower-case"), ("../up", "lower-case"), ("class", "Python's own"),
        ("1st", "letter first"), ("alpha", "a stage already"), ("sums", "a module already"), ("export", "already"), ("raw", "a folder below data/"), ("restore", "a command"), (PACKAGE, "the package")]] + [
        (lambda: stages.add(root, "gamma", "alhpa"), "did you mean `alpha`"), (lambda: stages.rename_stage(root, "alhpa", "gamma"), "did you mean `alpha`"),
        (lambda: stages.rename_stage(root, "alpha", "beta"), "a stage already"), (lambda: stages.remove(root, ["alhpa"]), "did you mean `alpha`"),
        (lambda: stages.remove(root, ["first", "alpha", "beta"]), "at least one"), (lambda: stages.leave(root, 4), "1, 2 or 3")]


def test_what_cannot_be_is_refused_before_anything_is_touched(_small):
    before = tree(_small.root)
    for call, words in refusals(_small.root):
        with pytest.raises(ProjectError, match=words): call()
    assert tree(_small.root) == before


def test_a_stage_without_a_notebook_is_left_alone(small):
    small.write("dvc.yaml", small.text("dvc.yaml") + "  plain:\n    cmd: echo\n"); small.commit()
    for call in (lambda: stages.remove(small.root, ["plain"]), lambda: stages.rename_stage(small.root, "plain", "other"), lambda: stages.add(small.root, "gamma", "plain")):
        with pytest.raises(ProjectError, match="no stage `plain` with a notebook"): call()


def test_no_number_left(_small, tmp_path):
    shutil.copytree(_small.root, tmp_path/"full")
    for n in range(23, 30): (tmp_path/f"full/nbs/{n}_x{n}.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(ProjectError, match="No number is left for a notebook after 21_alpha"): stages.add(tmp_path/"full", "gamma", "alpha")


def test_what_git_could_not_bring_back_is_not_touched(small):
    small.edit("README.md", "Three,", "Four,")
    for call in (lambda: stages.remove(small.root, ["beta"]), lambda: stages.rename_stage(small.root, "beta", "gamma")):
        with pytest.raises(ProjectError, match="README.md\nCommit them"): call()
    stages.add(small.root, "gamma", "alpha")
    small.sh("git", "commit", "-qam", "all but what is new")
    with pytest.raises(ProjectError, match=r"\?\? nbs/22_gamma.ipynb"): stages.remove(small.root, ["gamma"])
    shutil.rmtree(small.root/".git")
    with pytest.raises(ProjectError, match="not under git"): stages.remove(small.root, ["gamma"])
    assert (small.root/"nbs/22_gamma.ipynb").exists()


@pytest.mark.parametrize("call", [lambda r: stages.add(r, "gamma", "first"), lambda r: stages.add(r, "gamma", "alpha"), lambda r: stages.rename_stage(r, "alpha", "gamma"), lambda r: stages.remove(r, ["alpha", "beta"])])
def test_what_fails_half_way_is_put_back(small, monkeypatch, call):
    small.write("data/alpha/out.json", "mine")
    before, folders = tree(small.root), sorted((small.root/"data").iterdir())
    def fails(*args): raise OSError("no room is left")
    monkeypatch.setattr(stages, "_exported", fails); monkeypatch.setattr(stages, "close_gap", fails)
    with pytest.raises(OSError): call(small.root)
    assert tree(small.root) == before and sorted((small.root/"data").iterdir()) == folders and small.text("data/alpha/out.json") == "mine"


def test_nothing_that_stays_imports_what_goes():
    "Lessons included, for every number of phases"
    from mlcycle.export import read_notebooks
    nbs = read_notebooks(ROOT/"nbs")
    uses = {nb.module: {m for c in nb.cells for m in stages._cell_imports(c, PACKAGE)} for nb in nbs}
    for phases in (1, 2):
        gone = stages.later_modules(nbs, PACKAGE, phases)
        assert {m: uses[m] & gone for m in uses if m not in gone and uses[m] & gone} == {}
        assert not {"core", "cli", "export", "run", "inspect", "repro"} & gone and all(int(nb.path.name[0]) in (0, *range(1, phases + 1), 9) for nb in nbs if nb.module not in gone)


BARE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "pandas", "nbdev", "IPython", "dvc", "papermill", "sklearn"): raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
from pathlib import Path
from PACKAGE.stages import leave
print(len(leave(Path("."), int(sys.argv[1]))))
""".replace("PACKAGE", PACKAGE)


def test_all_phases_are_left_as_they_are_with_nothing_installed():
    r = subprocess.run([sys.executable, "-c", BARE, "3"], cwd=ROOT, capture_output=True, text=True)
    assert r.stdout == "0\n", r.stderr


@pytest.mark.chains
@pytest.mark.parametrize("phases", [pytest.param(2, marks=needs("package")), pytest.param(1, marks=needs("features"))])
def test_fewer_phases_are_a_whole_project(tmp_path, home, phases):
    "Without git and without nbdev; what is left agrees with itself, its tests can be collected, its chain runs"
    house = House(tmp_path/"copy", home)
    copy_tracked(house.root)
    house.sh(PACKAGE, "stage", "export")
    shutil.rmtree(house.root/"data"/"monitor", ignore_errors=True)
    house.env["PATH"], path = str(tmp_path), house.env["PATH"] # no git
    assert int(house.sh(sys.executable, "-c", BARE, phases).split()[-1]) > 50
    house.env["PATH"] = path
    house.sh("git", "init", "-q"); house.commit()
    assert "The house agrees with itself." in house.sh(PACKAGE, "check")
    assert "error" not in house.sh(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider").lower().split("tests collected")[-1]
    verbs = [v for v in yaml.safe_load(house.text("dvc.yaml"))["stages"] if v != "export"]
    assert len(verbs) == {1: 5, 2: 8}[phases] == len(list((house.root/"nbs").glob("[1-8][1-9]_*.ipynb")))
    gone = "|".join({"package", "serve", "predict", "monitor", "retrain", "loop"} | ({"features", "train", "evaluate"} if phases == 1 else set()))
    assert house.sh("git", "grep", "-nE", rf"\b[0-9][0-9]_({gone})\b|\bdata/({gone})\b|\b{PACKAGE} ({gone})\b", "--", "Makefile", "dvc.yaml", "params.yaml", code=None) == ""
    assert verbs[-1] in house.sh(PACKAGE, "run", verbs[-1] if phases == 1 else "features", timeout=600)


@pytest.mark.chains
def test_a_stage_in_the_real_chain(tmp_path, home):
    "Put in: only it runs. Renamed, taken out: as before, byte for byte"
    own, other = "own_step", "other_step" # no words that a project's own stages have
    house = clone(tmp_path/"copy", home, collect__rows=2000, explore__shown=1)
    house.repro("explore"); house.commit()
    before, prints = tree(house.root), {p.name: p.read_bytes() for p in (house.root/"data/export").glob("*.json")}
    call = lambda code: house.sh(sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.'); from pathlib import Path; from {PACKAGE} import stages; stages.{code}")
    call(f"add(Path('.'), '{own}', 'prepare')")
    assert "The house agrees with itself." in house.sh(PACKAGE, "check")
    assert {p.name: p.read_bytes() for p in (house.root/"data/export").glob("*.json") if p.stem != own} == prints
    assert house.repro("explore", own) == ["export", own]
    assert (house.root/"data"/own/"gaps.csv").exists()
    house.commit()
    call(f"rename_stage(Path('.'), '{own}', '{other}')")
    assert (house.root/"data"/other/"gaps.csv").exists() and house.repro("explore", other) == ["export", other]
    house.commit()
    call(f"remove(Path('.'), ['{other}'])")
    assert not (house.root/"data"/other).exists() and "The house agrees with itself." in house.sh(PACKAGE, "check")
    assert house.repro("explore") == ["export"] and tree(house.root) == before


def test_a_stage_called_like_a_library_takes_no_file_with_it():
    "`import json` is no use of a stage `json`, though modules are named in parts beside it"
    code = ast.parse(f"import json\nfrom csv import reader\nfor m in ('train',): importlib.import_module(f'{PACKAGE}.{{m}}')")
    assert stages.imported(code, PACKAGE) == {"train"}
