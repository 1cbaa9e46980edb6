"""What the tests share: copies of the project to break, and a house so small that a whole `dvc repro` takes seconds."""
import copy, json, os, shutil, subprocess, sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent/"shared"/"datasets"))
TOOLS = ["00_core", "90_export", "91_run", "92_inspect", "94_warm", "95_repro", "99_cli"]

EXAMPLE_FILE = next(p for p in (ROOT/"tests"/"example.yaml", ROOT/"params.yaml") if p.exists()) # a project made for other data keeps the example's values beside its own
PACKAGE = next(line.split("=")[1].strip() for line in (ROOT/"settings.ini").read_text().splitlines() if line.startswith("lib_name"))


def example_values(own, known):
    "The example's value of each parameter that the project has; of those that the example does not know, the project's own"
    return {section: {k: known.get(section, values).get(k, v) for k, v in values.items()} for section, values in own.items()}


EXAMPLE = example_values(yaml.safe_load((ROOT/"params.yaml").read_text()), yaml.safe_load(EXAMPLE_FILE.read_text()))

STAGES = [v for v in yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"] if v != "export"]
SETS = {
    "telco": dict(frame__target="Churn", collect__source=f"{DATASETS}/telco_churn/Telco-Customer-Churn.csv"),
    "bike": dict(frame__target="cnt", collect__source=f"{DATASETS}/bike_sharing/hour.csv"),
    "penguins": dict(frame__target="species", collect__source=f"{DATASETS}/penguins/penguins.csv"),
    "breast_cancer": dict(frame__target="target", collect__source="sklearn:breast_cancer"),
    "diabetes": dict(frame__target="target", collect__source="sklearn:diabetes"),
}
EXAMPLE_ONLY = dict(frame__minimum=None, frame__aim=None, frame__guardrails={}, frame__costs=None, frame__contact=None, frame__capacity=None, frame__today=None,
                    frame__metric=None, frame__positive=None, frame__sensitive=[], collect__roles={})


def needs(*verbs):
    "Skip a test where the project has left a stage out"
    return pytest.mark.skipif(not {*verbs} <= {*STAGES}, reason=f"this project has no {' and '.join(verbs)}")


def copy_tracked(root):
    "Copy what git has, or would take, of the project"
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for f in (f for f in files if f and (ROOT/f).exists()):
        (root/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/f, root/f)


def environment(home):
    "The environment of a person whose home is empty"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "PYTEST_", "GIT_", "STAGE_")) and k != "PYTHONPATH"}
    who = {f"GIT_{w}_{k}": v for w in ("AUTHOR", "COMMITTER") for k, v in (("NAME", "A"), ("EMAIL", "a@example.com"))}
    return env | who | {"HOME": str(home), "PATH": f"{BIN}:{env['PATH']}", "SHELL": "/bin/sh", "DVC_NO_ANALYTICS": "1"}


class House:
    "A project in a folder of its own"
    def __init__(self, root, home): self.root, self.env = Path(root), environment(home)

    def sh(self, *words, code=0, timeout=300):
        "Run a command; its output, after checking its exit code (None: any)"
        r = subprocess.run([str(w) for w in words], cwd=self.root, env=self.env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        out = r.stdout + r.stderr
        assert code is None or r.returncode == code, f"{' '.join(map(str, words))} ended with {r.returncode}:\n{out[-4000:]}"
        return out

    def repro(self, *words, code=0):
        "`dvc repro`; the stages that ran (not those from the cache), in order"
        out = self.sh("dvc", "repro", *words, code=code)
        return [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]

    def start(self, *words):
        "Start a command in a process group of its own and leave it running"
        return subprocess.Popen([str(w) for w in words], cwd=self.root, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def json(self, path): return json.loads((self.root/path).read_text())
    def text(self, path): return (self.root/path).read_text()
    def write(self, path, text): (self.root/path).parent.mkdir(parents=True, exist_ok=True); (self.root/path).write_text(text)

    def edit(self, path, old, new):
        "Replace a piece of a file's text; it has to be there"
        text = self.text(path)
        assert old in text, f"{old!r} is not in {path}"
        self.write(path, text.replace(old, new))

    def edit_notebook(self, path, old, new):
        "Replace a piece of a notebook's cells"
        nb = self.json(path)
        hits = [c for c in nb["cells"] if old in "".join(c["source"])]
        assert hits, f"{old!r} is in no cell of {path}"
        for c in hits: c["source"] = "".join(c["source"]).replace(old, new)
        self.write(path, json.dumps(nb))

    def commit(self, message="state"):
        self.sh("git", "add", "-A"); self.sh("git", "commit", "-qm", message)


def notebook(*cells):
    "A notebook from its cells: `# ` begins prose, `params` the cell of parameters"
    raw = [{"cell_type": "markdown" if s.startswith("# ") else "code", "id": f"c{i}", "metadata": {"tags": ["parameters"]} if s.startswith("params") else {}, "source": s}
           | ({} if s.startswith("# ") else {"outputs": [], "execution_count": None}) for i, s in enumerate(cells)]
    return json.dumps({"cells": raw, "metadata": {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5})


def stage(verb, reads, *body, exports=()):
    "A stage notebook that reads JSON, computes `out`, and writes data/<verb>/out.json"
    read = [f"x = stage.read('{r}')" for r in reads] or ["x = {'value': 0}"]
    return notebook(f"# {verb}", f"#| default_exp {verb}", f"#| export\nfrom {PACKAGE}.core import Section, Stage, read_params", "#| export\nclass Params(Section):\n    step:int\n    seconds:float=0.\n    fail:bool=False",
                    *exports, "assert True # a lesson", f"params = read_params('{verb}')",
                    "\n".join(["#| stage", "import time", "p = Params(**params)", f"stage = Stage('{verb}')", *read]),
                    "#| stage\n" + "\n".join(body),
                    f"#| stage\nstage.write(out, 'data/{verb}/out.json')\nassert not p.fail, 'told to fail'\ntime.sleep(p.seconds)", "#| stage\nstage.close()\nout")


def make_toy(root, home):
    "The tools of the real house, one ground module, three stages: alpha and beta follow first"
    house = House(root, home)
    for name in TOOLS: (house.root/"nbs").mkdir(parents=True, exist_ok=True); shutil.copy(ROOT/"nbs"/f"{name}.ipynb", house.root/"nbs")
    for name in ["settings.ini", ".gitignore", ".dvcignore"]: shutil.copy(ROOT/name, house.root)
    house.write("nbs/02_sums.ipynb", notebook("# Sums", "#| default_exp sums", "#| export\ndef one(): return 1", "#| export\ndef add(x, y):\n    'Add'\n    return x + y*one()", "#| export\ndef unused(): return 0"))
    house.write("nbs/96_agree.ipynb", notebook("# Agree", "#| default_exp agree", "#| export\ndef accept(*args): return 0\ndef print_contract(*args): return 0\ndef print_diff(*args): return 0"))
    house.write("nbs/97_compare.ipynb", notebook("# Compare", "#| default_exp compare", "#| export\ndef print_board(*args): return 0\ndef print_runs(*args): return 0"))
    house.write("nbs/11_first.ipynb", stage("first", [], "out = {'value': p.step}"))
    house.write("nbs/21_alpha.ipynb", stage("alpha", ["data/first/out.json"], "out = {'value': more(x['value'], p.step)}",
                exports=[f"#| export\nfrom {PACKAGE}.sums import add", "#| export\ndef more(x, y): return add(x, y)", "#| export\ndef mine(x): return x"]))
    house.write("nbs/22_beta.ipynb", stage("beta", ["data/first/out.json"], "out = {'value': x['value'] * p.step, 'mine': mine(1)}", exports=[f"#| export\nfrom {PACKAGE}.alpha import mine"]))
    house.write("params.yaml", "first: {step: 1}\nalpha: {step: 2}\nbeta: {step: 3}\n")
    dvc = ["stages:", f"  export: {{cmd: {PACKAGE} stage export, deps: [nbs, settings.ini], outs: [{PACKAGE}: {{cache: false, persist: true}}, data/export: {{cache: false, persist: true}}]}}"]
    for verb, dep in (("first", []), ("alpha", ["data/first/out.json"]), ("beta", ["data/first/out.json"])):
        kind = "metrics" if verb == "beta" else "outs"
        dvc.append(f"  {verb}: {{cmd: {PACKAGE} stage {verb}, deps: [{', '.join([f'data/export/{verb}.json', *dep])}], params: [{verb}], {kind}: [data/{verb}/out.json{': {cache: false}' if kind == 'metrics' else ''}]}}")
    house.write("dvc.yaml", "\n".join(dvc) + "\n")
    house.sh("git", "init", "-q")
    shutil.copytree(ROOT/".dvc", house.root/".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    return house


def clone(root, home, **values):
    "The project on the built-in example, whatever data it is for itself: with other parameters, under git, and not yet run"
    house, params = House(root, home), copy.deepcopy(EXAMPLE)
    copy_tracked(house.root)
    for f in list(house.root.glob("data/*/**/*")):
        if f.is_file() and f.name != "README.md" and f.parent.name != "export": f.unlink()
    (house.root/"dvc.lock").unlink(missing_ok=True)
    for key, value in values.items():
        section, _, name = key.partition("__")
        assert section in params or "retrain" not in STAGES, f"{section} is no section" # it may have been left out, with its phase
        assert name in params.get(section, [name]), f"{section}.{name} is no parameter"
        if section in params: params[section][name] = value
    house.write("params.yaml", yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    house.sh("git", "init", "-q"); house.commit("start")
    return house


@pytest.fixture(scope="session")
def home(tmp_path_factory): return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def _toy(tmp_path_factory, home):
    house = make_toy(tmp_path_factory.mktemp("toy")/"house", home)
    assert house.repro() == ["export", "first", "alpha", "beta"]
    house.commit()
    return house


@pytest.fixture
def toy(_toy, tmp_path, home):
    "The small house after one run and one commit, to do with as you like"
    shutil.copytree(_toy.root, tmp_path/"house", ignore=shutil.ignore_patterns("*.sock"))
    return House(tmp_path/"house", home)
