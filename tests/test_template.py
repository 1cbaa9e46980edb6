"""The repository is a template: rendered with the default answers it is itself, and what is made of it runs and passes its own tests.

Made projects do not have this file, so that their tests make no projects."""
import importlib, json, os, shutil, subprocess, sys, venv
from pathlib import Path

import pytest
import yaml

from conftest import BIN, DATASETS, PACKAGE, ROOT, House, environment

new, answers, start = (importlib.import_module(f"{PACKAGE}.{m}") for m in ("new", "answers", "start"))
ProjectError = importlib.import_module(f"{PACKAGE}.core").ProjectError
QUESTIONS = {k: v for k, v in yaml.safe_load((ROOT/"copier.yml").read_text()).items() if not k.startswith("_") and v.get("when") is not False}


def copy_of(root, folder, home):
    "The working tree, committed"
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    house = House(folder, home)
    for f in (f for f in files if f and (root/f).is_file()):
        (house.root/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/f, house.root/f)
    house.sh("git", "init", "-q", "-b", "main"); house.commit("the template")
    return house


@pytest.fixture(scope="module")
def template(tmp_path_factory, home): return copy_of(ROOT, tmp_path_factory.mktemp("t")/PACKAGE, home)


def tree(root): return {str(p.relative_to(root)): p.read_bytes() for p in Path(root).rglob("*") if p.is_file() and ".git" not in p.relative_to(root).parts}


def test_one_source_of_questions():
    "What Copier, cookiecutter, the command and the code know of the questions is the same"
    asked = {k: list(q["choices"].values() if isinstance(q["choices"], dict) else q["choices"]) for k, q in QUESTIONS.items() if "choices" in q}
    assert asked == answers.CHOICES
    entry = json.loads((ROOT/".cookiecutter/cookiecutter.json").read_text())
    assert [*entry] == [*QUESTIONS] and {k: v for k, v in entry.items() if isinstance(v, list)} == asked
    shown = importlib.import_module(f"{PACKAGE}.template").CHOICES
    for k, values in asked.items():
        assert all(v in shown[k] for v in values) and f"{values[0]} (default)" in shown[k] and QUESTIONS[k]["default"] == values[0]
    assert {*QUESTIONS} | {"params"} == {*answers.DEFAULTS}


def test_rendered_with_the_defaults_it_is_this_repository(template, tmp_path, home):
    "Byte for byte, but for what copier.yml leaves out and the record of how it was made"
    from pathspec import PathSpec
    House(tmp_path, home).sh(BIN/"copier", "copy", "--trust", "--defaults", "--quiet", "--vcs-ref", "HEAD", template.root, tmp_path/PACKAGE)
    made, own = tree(tmp_path/PACKAGE), tree(template.root)
    left_out = PathSpec.from_lines("gitignore", [line for line in yaml.safe_load((ROOT/"copier.yml").read_text())["_exclude"] if "{%" not in line] + ["/.gitlab-ci.yml"])
    assert {f for f in own if f not in made} == {f for f in own if left_out.match_file(f)}
    assert {f for f in made if made[f] != own.get(f)} == {new.RECORD}
    assert yaml.safe_load(made[new.RECORD])["_commit"] == template.sh("git", "rev-parse", "HEAD").strip()
    assert subprocess.run(["git", "log", "--format=%s"], cwd=tmp_path/PACKAGE, capture_output=True, text=True).stdout.startswith(f"Make {PACKAGE} from {template.root}")


@pytest.mark.parametrize("said,words", [("class", "a word of Python's own"), ("2fast", "project_2fast"), ("json", "a module of Python's own"), ("pandas", "a library"), ("nbs", "a folder of every project"),
    ("客户", "no letter or digit"), ("sed", "a command of this machine"), ("x"*60, "50 are the most"), ("match", "a word of Python's own")])
def test_names_that_break_things_are_refused(said, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError) as e: start.place_of(said)
    assert words in str(e.value) and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("said,folder,name", [("my-churn", "my-churn", "my_churn"), ("My Churn 2", "my_churn_2", "my_churn_2"), ("Kündigung", "kundigung", "kundigung"), ("sub/Churn", "sub/Churn", "churn"), ("a__b.c", "a__b.c", "a_b_c")])
def test_names_that_only_look_odd_are_made_safe(said, folder, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert start.place_of(said) == (tmp_path/folder, name)


def test_what_is_there_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"churn").mkdir(); (tmp_path/"churn/mine").write_text("mine"); (tmp_path/"empty").mkdir(); (tmp_path/"a_file").write_text("")
    for said in ("churn", "a_file"):
        with pytest.raises(ProjectError, match="is there already, and not empty"): start.place_of(said)
    assert start.place_of("empty") == (tmp_path/"empty", "empty")


def begin(tmp_path, home, monkeypatch, **answers):
    "What becomes of a small template, with these answers"
    for k, v in environment(home).items(): monkeypatch.setenv(k, v)
    monkeypatch.setattr(new, "apply", lambda *a: None); monkeypatch.setattr(new, "leave", lambda *a: None)
    root = tmp_path/"made"
    for path, text in {"settings.ini": f"[DEFAULT]\nlib_name = {PACKAGE}\n", f"{PACKAGE}/__init__.py": "", "params.yaml": "frame:\n  target: x\n", "tests/a.py": "", "data/raw/README.md": ""}.items():
        (root/path).parent.mkdir(parents=True, exist_ok=True); (root/path).write_text(text)
    monkeypatch.chdir(root)
    return root, new.main([json.dumps({"name": "made_here", "_folder": str(tmp_path)} | answers)])


def test_a_token_in_the_templates_address_is_not_kept(tmp_path, home, monkeypatch):
    root, code = begin(tmp_path, home, monkeypatch, _src_path="https://me:t0ken@host/t.git", _commit="v1")
    assert code == 0 and "_src_path: https://host/t.git" in (root/new.RECORD).read_text()
    assert "from https://host/t.git v1" in subprocess.run(["git", "log", "--format=%s"], cwd=root, capture_output=True, text=True).stdout


def test_a_commit_that_fails_is_said_and_the_project_stays(tmp_path, home, monkeypatch, capsys):
    for k, v in {"COUNT": "1", "KEY_0": "commit.gpgsign", "VALUE_0": "true"}.items(): monkeypatch.setenv(f"GIT_CONFIG_{k}", v)
    root, code = begin(tmp_path, home, monkeypatch, _src_path="t")
    assert code == 0 and "git has failed" in capsys.readouterr().out and (root/"made_here").is_dir()


def test_a_template_that_cannot_be_had_is_said_in_a_line(tmp_path):
    with pytest.raises(ProjectError, match="Nothing was made: .*nobody"): start.copy_template("file:///nobody/has/this.git", None, tmp_path/"churn", {})
    assert not [*tmp_path.iterdir()]


def settle(project, home):
    "The environment that `make env` makes, without another installation: this one's libraries, the project's own package"
    house, venv_ = House(project, home), project/".venv"
    venv.create(venv_, with_pip=False, symlinks=True)
    site = next(venv_.glob("lib/python*/site-packages"))
    (site/"libraries.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
    hidden = site/f"{PACKAGE}-0.dist-info" # the template's own entry points are none of the project's
    hidden.mkdir()
    (hidden/"METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0\n"); (hidden/"entry_points.txt").write_text("")
    for script in (p for p in BIN.iterdir() if p.is_file() and not (venv_/"bin"/p.name).exists() and p.read_bytes()[:2] == b"#!"):
        head, _, rest = script.read_bytes().partition(b"\n")
        if b"python" in head: (venv_/"bin"/script.name).write_bytes(f"#!{venv_}/bin/python\n".encode() + rest); (venv_/"bin"/script.name).chmod(0o755)
    house.sh(BIN/"python", "-m", "pip", "--python", venv_/"bin/python", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-e", project)
    (venv_/"share").symlink_to(BIN.parent/"share") # where nbconvert's templates are
    (venv_/"installed").touch()
    house.env |= {"PATH": f"{venv_}/bin:{os.defpath}", "DATASETS": str(DATASETS)}
    return house


SOURCES = {"telco": ("telco_churn/Telco-Customer-Churn.csv", "Churn"), "bikes": ("bike_sharing/hour.csv", "cnt"), "penguins": ("penguins/penguins.csv", "species"), "raw_penguins": ("penguins/penguins_raw.csv", "Species"),
    "weather": ("noaa_weather/noaa_weather.csv", "rain"), "credit": ("credit_data/credit_data.csv", "Status"), "tips": ("chicago_taxi_tips/taxi.csv", "tip"),
    "cancer": ("sklearn:breast_cancer", "target"), "diabetes": ("sklearn:diabetes", "target")}


def made(name, template, folder, home):
    "A project made from data by the command, and its environment"
    data, target = SOURCES[name]
    if ":" not in data and not (DATASETS/data).exists(): pytest.skip(f"no {DATASETS/data}")
    out = House(template.root, home).sh(sys.executable, "-c", f"from {PACKAGE}.cli import main; raise SystemExit(main())", "new", folder/name, "--data", data if ":" in data else DATASETS/data, "--target", target)
    assert f"`{target}`" in out and out.rstrip().endswith("make run")
    return settle(folder/name, home)


@pytest.mark.template
@pytest.mark.parametrize("name", SOURCES)
def test_a_project_from_data_runs_unedited(name, template, tmp_path, home):
    "Made, run to the end, and as its house rules want it, without an edit"
    house = made(name, template, tmp_path, home)
    house.sh("make", "run", timeout=600)
    assert "The house agrees with itself." in house.sh(name, "check") and house.json("data/package/bundle/bundle.json")["draft"]
    assert "Everything is up to date" in house.sh(name, "status")
    assert not [line for line in house.sh("git", "status", "--porcelain").splitlines() if not line[3:].startswith(("data/", "dvc.lock"))]
    house.sh("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_house.py", "tests/test_packaging.py", "tests/test_ci.py", timeout=600)


@pytest.mark.template
def test_a_project_passes_all_its_tests(template, tmp_path, home):
    house = made("penguins", template, tmp_path, home)
    house.sh("make", "run", timeout=600)
    assert " passed" in house.sh("make", "test", timeout=3000)


@pytest.mark.template
@pytest.mark.parametrize("name", ["churn", "subscriptions"])
def test_what_is_exported_is_there_already(name, template, tmp_path, home):
    "Package and fingerprints are as the notebooks say, even if the name is a word of the code, as in example:churn"
    House(tmp_path, home).sh(BIN/"copier", "copy", "--trust", "--defaults", "--quiet", "--vcs-ref", "HEAD", f"-dname={name}", template.root, tmp_path/name)
    house = House(tmp_path/name, home)
    house.env |= {"PYTHONPATH": str(house.root), "PYTHONDONTWRITEBYTECODE": "1"}
    house.sh(sys.executable, "-c", f"from pathlib import Path; from {name}.export import export; assert export(Path.cwd()) == []")
    assert house.sh("git", "status", "--porcelain") == ""


@pytest.mark.template
def test_the_entry_of_cookiecutter(template, tmp_path, home):
    "It makes what Copier makes, out of the same files; this takes an index of packages"
    house = House(tmp_path, home)
    house.sh(BIN/"cookiecutter", "--no-input", template.root, "--directory", ".cookiecutter", "name=pengu", "license=MIT", timeout=600)
    house.sh(BIN/"copier", "copy", "--trust", "--defaults", "--quiet", "--vcs-ref", "HEAD", "-dname=pengu", "-dlicense=MIT", template.root, tmp_path/"other")
    assert tree(tmp_path/"pengu") == tree(tmp_path/"other") and subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path/"pengu", capture_output=True, text=True).stdout == ""
