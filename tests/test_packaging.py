"What is installed, what git sees, what nobody is told: the files around the notebooks"
import ast, json, os, re, shutil, subprocess, sys, tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml

from conftest import PACKAGE, ROOT, needs

DISTRIBUTIONS = packages_distributions()
PROJECT = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def plain(name): return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def imported(path, top_only=False):
    "Third-party modules that a file imports; only those of its top level if asked"
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names} | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    return {m.split(".")[0] for m in found} - set(sys.stdlib_module_names) - {PACKAGE}


def undeclared(modules, declared):
    return {m for m in modules if not {plain(d) for d in DISTRIBUTIONS.get(m, [m])} & declared}


def test_every_import_is_a_declared_dependency():
    declared = {plain(d) for d in PROJECT["dependencies"] + EXTRAS["run"]}
    missing = {f.name: bad for f in sorted((ROOT/PACKAGE).glob("*.py")) if (bad := undeclared(imported(f), declared))}
    assert not missing, f"imported, but in no extra of pyproject.toml: {missing}"


def there(modules): return [m for m in modules if (ROOT/PACKAGE/f"{m}.py").exists()] # phases may have been left out


LIGHT = ["core", "contract", "bundle", "shares", "reasons", "answer", "oip", "page", "quick", "keys", "log", "launch", "roster", "registry", "web", "ship", "cli"] # what serving loads
BATCH = ["source", "stream"] # and what predicts files


@pytest.mark.parametrize("module, extra", [(m, extra) for extra, modules in (("serve", LIGHT), ("batch", BATCH)) if extra in EXTRAS for m in there(modules)])
def test_what_works_without_a_project_imports_no_more_than_it_declares(module, extra):
    path = ROOT/PACKAGE/f"{module}.py"
    declared = {plain(d) for d in PROJECT["dependencies"] + EXTRAS[extra]}
    assert not undeclared(imported(path, top_only=True), declared)


@needs("serve")
def test_what_works_without_a_project_is_all_looked_at(): assert there(LIGHT + BATCH) == LIGHT + BATCH


def test_what_works_without_a_project_loads_nothing_heavy():
    "Not by way of another module either"
    code = f"import sys; import {', '.join(f'{PACKAGE}.{m}' for m in there(LIGHT + BATCH))}; print([m for m in ('pandas', 'sklearn', 'scipy', 'matplotlib', 'onnx', 'lightgbm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_dependency_is_locked_without_urls():
    lines = [l for l in (ROOT/"constraints.txt").read_text().splitlines() if l and not l.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", l) for l in lines)
    locked = {plain(l) for l in lines}
    wanted = {plain(d) for d in sum(EXTRAS.values(), PROJECT["dependencies"])}
    assert not wanted - locked, f"not in constraints.txt: {wanted - locked}"


def test_every_dependency_says_why():
    lines = (ROOT/"pyproject.toml").read_text().split("[project.scripts]")[0].splitlines()
    bare = [l for l in lines if re.match(r'\s+"[a-z]', l) and "::" not in l and "#" not in l]
    assert not bare


@pytest.fixture
def repo(tmp_path):
    "An empty repository with this project's rules for git"
    for f in [".gitignore", ".gitattributes"]: shutil.copy(ROOT/f, tmp_path)
    shutil.copytree(ROOT/".ci", tmp_path/".ci")
    def git(*words, **more): return subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True, **more)
    git("init", "-q", check=True)
    return tmp_path, git


def test_git_ignores_what_dvc_keeps_and_tracks_the_small_results(repo):
    _, git = repo
    for stage in yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"].values():
        for out in [o for kind in ("outs", "metrics", "plots") for o in stage.get(kind, [])]:
            name, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            assert (git("check-ignore", "-q", name).returncode == 0) == options.get("cache", True), name
    for kept in ["data/contracts/churn.yaml", "data/raw/a.csv.dvc"]: assert git("check-ignore", "-q", kept).returncode == 1
    for left in ["data/raw/a.csv", "data/runs/22_train.ipynb"]: assert git("check-ignore", "-q", left).returncode == 0


def test_raw_data_under_dvc_is_pushed_and_pulled(repo, tmp_path_factory):
    folder, git = repo
    for f in [".dvcignore", ".dvc"]: (shutil.copytree if (ROOT/f).is_dir() else shutil.copy)(ROOT/f, folder/f, **({"ignore": shutil.ignore_patterns("cache", "tmp")} if (ROOT/f).is_dir() else {}))
    def dvc(*words, at=folder): return subprocess.run([sys.executable, "-m", "dvc", *map(str, words)], cwd=at, check=True, capture_output=True)
    there = tmp_path_factory.mktemp("there")
    (folder/"data"/"raw").mkdir(parents=True); (folder/"data"/"raw"/"c.csv").write_text("a\n1\n")
    dvc("remote", "add", "-d", "r", there/"remote"); dvc("add", "data/raw/c.csv"); dvc("push")
    git("add", "-A", check=True); git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "raw", check=True)
    assert "data/raw/c.csv" not in git("ls-files").stdout.split()
    subprocess.run(["git", "clone", "-q", folder, there/"clone"], check=True)
    dvc("pull", at=there/"clone")
    assert (there/"clone"/"data"/"raw"/"c.csv").read_text() == "a\n1\n"


NOTEBOOK = {"cells": [
    {"cell_type": "markdown", "id": "a", "metadata": {"collapsed": True}, "source": "# Größe\n\nText"},
    {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"], "execution": {"start": 1}}, "source": ["x = 1\n", "x"], "execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["SECRET"]}]},
], "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}, "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


def test_staged_notebook_has_no_outputs_and_keeps_its_tag(repo):
    root, git = repo
    command = re.search(r'git config (filter\.\S+) "([^"]+)"', (ROOT/"Makefile").read_text())
    git("config", command[1], command[2], check=True)
    (root/"a.ipynb").write_text(json.dumps(NOTEBOOK, ensure_ascii=False), encoding="utf-8")
    git("add", "a.ipynb", check=True)
    staged = git("show", ":a.ipynb", check=True).stdout
    cell = json.loads(staged)["cells"][1]
    assert "SECRET" not in staged and cell["outputs"] == [] and cell["execution_count"] is None and cell["metadata"] == {"tags": ["parameters"]}
    assert "Größe" in staged and "SECRET" in (root/"a.ipynb").read_text(encoding="utf-8") # the working copy keeps its outputs
    (root/"a.ipynb").write_text(staged, encoding="utf-8")
    git("add", "a.ipynb", check=True)
    assert git("show", ":a.ipynb").stdout == staged # clean is clean


def test_git_works_without_the_filter_and_with_a_broken_notebook(repo):
    root, git = repo
    (root/"a.ipynb").write_text("<<<<<<< half a merge")
    assert git("add", "a.ipynb").returncode == 0 # no filter set up
    git("config", "filter.notebook.clean", "python3 .ci/clean_notebook.py")
    (root/"b.ipynb").write_text("<<<<<<< half a merge")
    assert git("add", "b.ipynb").returncode == 0 and git("show", ":b.ipynb").stdout == "<<<<<<< half a merge"


def test_sources_are_as_the_filter_leaves_them():
    sys.path.insert(0, str(ROOT/".ci"))
    try: from clean_notebook import clean
    finally: sys.path.remove(str(ROOT/".ci"))
    for f in sorted((ROOT/"nbs").glob("*.ipynb")):
        once = clean(f.read_text(encoding="utf-8"))
        assert clean(once) == once, f.name


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_without_a_python_says_what_to_do(tmp_path):
    for f in ["Makefile", "pyproject.toml", "constraints.txt"]: shutil.copy(ROOT/f, tmp_path)
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
    r = subprocess.run(["make", "run", "PYTHON=no-such-python"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert r.returncode and f"{PROJECT['requires-python'].removeprefix('>=')} or later is needed" in r.stdout and "make PYTHON=" in r.stdout
    assert not (tmp_path/".venv").exists()
    assert "make run" in subprocess.run(["make"], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
