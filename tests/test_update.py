"""Updating a project from its template: on a template as small as can be, and on this one."""
import importlib, json, os, shutil, subprocess, sys

import nbformat
import pytest
import yaml

from conftest import BIN, PACKAGE, ROOT, House, environment, notebook

update = importlib.import_module(f"{PACKAGE}.update")
copier = pytest.importorskip("copier")

EXPORTER = """#| export
import json
from pathlib import Path

def export(root):
    for p in sorted(Path(root, "nbs").glob("*.ipynb")):
        cells = [c["source"] if isinstance(c["source"], str) else "".join(c["source"]) for c in json.loads(p.read_text())["cells"] if c["cell_type"] == "code"]
        (Path(root)/"tiny"/f"{p.stem.partition('_')[2]}.py").write_text("\\n".join(c for c in cells if c.startswith("#| export")) + "\\n")"""

TASK = """import json, sys
answers = json.loads(sys.argv[1])
open('.copier-answers.yml', 'w').write('# record\\n' + ''.join(f'{k}: {json.dumps(v)}\\n' for k, v in answers.items()))
open('README.md', 'a').write(f"\\nBy {answers['author']}, {answers.get('colour', 'grey')}\\n")
"""

COPIER = """_preserve_symlinks: true
_exclude: [.git, copier.yml, CHANGELOG.md]
name: {type: str, default: tiny}
author: {type: str, default: ""}
_tasks:
  - ["{{ _copier_python }}", task.py, "{{ dict(_src_path=template | default('?'), _commit=version | default(_copier_conf.vcs_ref_hash), name=name, author=author, params=params | default({})) | to_json }}"]
"""


def f(name, value): return f"#| export\ndef {name}(x): return {value}"


@pytest.fixture(scope="module")
def template(tmp_path_factory, home):
    "A template with the tags v0 and v1"
    t = House(tmp_path_factory.mktemp("t")/"template", home)
    t.root.mkdir()
    for path, text in {"copier.yml": COPIER, "task.py": TASK, "settings.ini": "[DEFAULT]\nlib_name = tiny\n", "README.md": "# Tiny\n\nWords.\n\nMore words.\n", "CHANGELOG.md": "# 0\n\n- Old.\n",
                       "params.yaml": "a:\n  one: 1 # first\n  two: 2\n", "tool.py": "one = 1\ntwo = 2\nthree = 3\n", "old.txt": "old\n", "leave.txt": "1\n2\n3\n", "run.sh": "echo\n", "tiny/__init__.py": ""}.items(): t.write(path, text)
    (t.root/"pic.bin").write_bytes(b"\0\1"); (t.root/"link").symlink_to("tool.py"); (t.root/"run.sh").chmod(0o755)
    t.write("nbs/01_a.ipynb", notebook("# Title", f("f", "x"), "assert f(1) == 1", f("g", "-x")))
    t.write("nbs/02_b.ipynb", notebook("# Long title", f("b", "1")))
    t.write("nbs/90_export.ipynb", notebook("# Export", EXPORTER))
    subprocess.run([sys.executable, "-c", EXPORTER + "\nPath('tiny').mkdir(exist_ok=True); export('.')"], cwd=t.root, check=True)
    t.sh("git", "init", "-q", "-b", "main"); t.commit("v0"); t.sh("git", "tag", "v0")
    t.edit_notebook("nbs/01_a.ipynb", "return -x", "return -2*x")
    t.edit_notebook("nbs/90_export.ipynb", ".write_text(", ".write_text('# newly made\\n' + ")
    t.edit("params.yaml", "two: 2", "two: 3 # second"); t.edit("tool.py", "three = 3", "three = 4"); t.edit("README.md", "More words", "Better words"); t.edit("CHANGELOG.md", "# 0", "# 1\n\n- Twice as much.\n\n# 0"); t.edit("leave.txt", "2\n", "two\n")
    t.edit("copier.yml", "_tasks:", "colour: {type: str, default: blue}\n_tasks:"); t.edit("copier.yml", "default({}))", "default({}), colour=colour)")
    (t.root/"old.txt").unlink(); t.write("sub/new file.txt", "new\n"); (t.root/"pic.bin").write_bytes(b"\0\2"); (t.root/"more link").symlink_to("run.sh"); t.write("go.sh", "echo\n"); (t.root/"go.sh").chmod(0o755)
    t.write("nbs/03_b.ipynb", t.text("nbs/02_b.ipynb").replace("return 1", "return 2")); (t.root/"nbs/02_b.ipynb").unlink()
    t.commit("v1"); t.sh("git", "tag", "v1")
    return t


@pytest.fixture(scope="module")
def _made(template, tmp_path_factory, home):
    made = House(tmp_path_factory.mktemp("m")/"made", home)
    copier.run_copy(str(template.root), made.root, data={"author": "Jane <jane@example.org>", "template": str(template.root), "version": "v0"}, vcs_ref="v0", defaults=True, unsafe=True, quiet=True)
    made.sh("git", "init", "-q", "-b", "main"); made.commit("made")
    return made


def state(house): return house.sh("git", "status", "--porcelain", "--ignored") + house.sh("git", "rev-parse", "HEAD") + house.sh("git", "ls-files", "-s")


@pytest.fixture
def made(_made, tmp_path, home, monkeypatch):
    "A project made from v0"
    for k in [k for k in os.environ if k.startswith("GIT_")]: monkeypatch.delenv(k)
    for k, v in environment(home).items(): monkeypatch.setenv(k, v)
    shutil.copytree(_made.root, tmp_path/"made", symlinks=True)
    house = House(tmp_path/"made", home)
    house.said = []
    house.update = lambda to=None: (house.said.clear(), update.update(house.root, to, house.said.append))[1]
    house.words = lambda: "\n".join(house.said)
    return house


def test_what_both_did_is_there_in_one_commit_that_can_be_reverted(made):
    made.edit_notebook("nbs/01_a.ipynb", "return x", "return x + 1"); made.edit_notebook("nbs/01_a.ipynb", "assert f(1) == 1", "assert f(1) == 2")
    made.edit("params.yaml", "one: 1", "one: 5"); made.edit("tool.py", "one = 1", "one = 7"); made.edit("README.md", "Words.", "My words."); made.write("tiny/a.py", "stale\n")
    (made.root/"nbs/02_b.ipynb").rename(made.root/"nbs/04_b.ipynb"); (made.root/"leave.txt").unlink(); made.write("mine.txt", "mine\n"); made.commit("mine")
    before = made.sh("git", "rev-parse", "HEAD^{tree}")
    assert made.update() == 0, made.words()
    assert "- Twice as much." in made.words() and "- Old." not in made.words() and "v0 to v1" in made.words() and "leave.txt: the template has changed it; you have deleted it" in made.words()
    assert made.sh("git", "log", "--format=%s", "-2").splitlines() == ["Update from the template: v0 to v1", "mine"] and made.sh("git", "status", "--porcelain", "--ignored") == ""
    assert made.text("tiny/a.py") == "# newly made\n" + "\n".join([f("f", "x + 1"), f("g", "-2*x")]) + "\n"      # the new exporter, on what both wrote
    assert made.text("params.yaml") == "a:\n  one: 5 # first\n  two: 3 # second\n" and made.text("tool.py") == "one = 7\ntwo = 2\nthree = 4\n"
    assert made.text("README.md") == "# Tiny\n\nMy words.\n\nBetter words.\n\nBy Jane <jane@example.org>, blue\n" and made.text("mine.txt") == "mine\n"
    assert sorted(p.name for p in (made.root/"nbs").iterdir()) == ["01_a.ipynb", "04_b.ipynb", "90_export.ipynb"] and "return 2" in made.text("nbs/04_b.ipynb")  # renumbered by both
    assert not (made.root/"old.txt").exists() and not (made.root/"leave.txt").exists() and made.text("sub/new file.txt") == "new\n" and (made.root/"pic.bin").read_bytes() == b"\0\2"
    assert os.readlink(made.root/"more link") == "run.sh" and os.access(made.root/"go.sh", os.X_OK) and os.access(made.root/"run.sh", os.X_OK)
    record = yaml.safe_load(made.text(".copier-answers.yml"))
    assert record["_commit"] == "v1" and record["author"] == "Jane <jane@example.org>" and record["colour"] == "blue"
    assert made.update() == 0 and "Up to date" in made.words()
    made.sh("git", "revert", "--no-edit", "HEAD")
    assert made.sh("git", "rev-parse", "HEAD^{tree}") == before


def test_true_conflicts_are_listed_and_nothing_of_the_users_is_lost(made, tmp_path, home):
    made.edit_notebook("nbs/01_a.ipynb", "return -x", "return -3*x"); made.edit("params.yaml", "two: 2", "two: 9"); made.edit("tool.py", "three = 3", "three = 5")
    (made.root/"pic.bin").write_bytes(b"\0mine"); made.edit("old.txt", "old", "my old"); made.write("sub/new file.txt", "my own\n"); made.commit("mine")
    before = state(made)
    assert made.update() == 1
    words = made.words()
    for piece in ["cell 3: both changed `g`", "`a.two`: both changed it", "1 place between <<<<<<< and >>>>>>>", "git checkout --theirs -- pic.bin", "the template has deleted it, you have changed it", "sub/new file.txt", "git reset --hard", "tiny stage export"]: assert piece in words, f"{piece}: {words}"
    nb = nbformat.read(made.root/"nbs/01_a.ipynb", 4)
    assert nb.cells[3].source == f("g", "-3*x") and nb.cells[4].metadata.tags == ["conflict"] and "-2*x" in nb.cells[4].source
    assert made.text("tiny/a.py").endswith(f("g", "-3*x") + "\n") and made.text("params.yaml") == "a:\n  one: 1 # first\n  # template: 3\n  two: 9 # second\n"
    assert "three = 5" in made.text("tool.py") and "<<<<<<< yours" in made.text("tool.py") and ">>>>>>> template" in made.text("tool.py")
    assert (made.root/"pic.bin").read_bytes() == b"\0mine" and made.text("old.txt") == "my old\n" and "my own" in made.text("sub/new file.txt")
    made.sh("git", "checkout", "--theirs", "--", "pic.bin"); assert (made.root/"pic.bin").read_bytes() == b"\0\2"
    assert made.update() == 2 and "not committed" in made.words()
    copy = House(tmp_path/"copy", home)
    shutil.copytree(made.root, copy.root, symlinks=True)
    copy.sh("git", "reset", "-q", "--hard")
    assert state(copy) == before
    made.sh("git", "add", "-A"); made.sh("git", "commit", "-q", "--no-edit")                       # the other way on: mended
    assert made.sh("git", "log", "-1", "--format=%s") == "Update from the template: v0 to v1\n" and made.update() == 0


def test_a_hook_that_refuses_the_commit_leaves_it_to_the_user(made):
    before = state(made)
    hook = made.root/".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True); hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n"); hook.chmod(0o755)
    assert made.update() == 1 and "not today" in made.words() and "staged and not committed" in made.words()
    hook.unlink()
    made.sh("git", "commit", "-q", "--no-edit")
    assert made.sh("git", "log", "-1", "--format=%s") == "Update from the template: v0 to v1\n" and made.sh("git", "status", "--porcelain") == "" and made.update() == 0
    made.sh("git", "reset", "-q", "--hard", "HEAD~1"); assert state(made) == before


def test_an_old_git_is_refused_by_its_version(made, monkeypatch):
    monkeypatch.setattr(update, "OLDEST", (99, 1))
    before = state(made)
    assert made.update() == 2 and "git 99.1 or later" in made.words() and state(made) == before


def test_killed_at_any_moment_a_reset_brings_everything_back(made, monkeypatch):
    made.edit("tool.py", "one = 1", "one = 7"); made.commit("mine")
    before, real, steps = state(made), update.git, []
    class Killed(BaseException): pass
    merged = tree = None
    def write(top, m, t): nonlocal merged, tree; merged, tree = m, t; raise Killed
    monkeypatch.setattr(update, "write_tree", write)
    with pytest.raises(Killed): made.update()
    assert state(made) == before                                                                  # all was done aside
    monkeypatch.undo()
    for bad in ("go.sh", "sub"):                                                                   # ignored by git, and in the way of what the template brings
        made.write(".git/info/exclude", f"{bad}\n"); made.write(bad, "mine")
        with pytest.raises(ValueError, match=f"{bad} is there, where git ignores it"): update.check_ways(made.root, tree)
        (made.root/bad).unlink()
    made.write(".git/info/exclude", "")
    for n in range(3, 6):
        count = iter(range(100))
        def dying(root, *words, **more):
            if next(count) == n: raise Killed
            if words[0] == "checkout-index" and n == 4: more["input"] = more["input"][:more["input"].index("\0") + 1]; real(root, *words, **more); raise Killed
            return real(root, *words, **more)
        update.git = dying
        try: update.write_tree(made.root, merged, tree)
        except Killed: pass
        finally: update.git = real
        made.sh("git", "reset", "-q", "--hard")
        assert state(made) == before, n


@pytest.mark.parametrize("spoil, to, said", [
    (lambda m: m.write("note.txt", "new"), None, "note.txt"),
    (lambda m: m.edit("tool.py", "1", "2"), None, "tool.py"),
    (lambda m: m.write(".git/MERGE_HEAD", "x"), None, "a merge under way"),
    (lambda m: shutil.rmtree(m.root/".git"), None, "not under git"),
    (lambda m: ((m.root/".copier-answers.yml").unlink(), m.commit()), None, "no .copier-answers.yml"),
    (lambda m: (m.edit(".copier-answers.yml", "_commit", "commit"), m.commit()), None, "does not say _commit"),
    (lambda m: (m.write(".copier-answers.yml", "_src_path: ../nowhere\n_commit: v0\n"), m.commit()), None, "Tried: git clone"),
    (lambda m: (m.edit(".copier-answers.yml", '_commit: "v0"', '_commit: "v9"'), m.commit()), None, "no longer has the version v9"),
    (lambda m: None, "v7", "no version v7. It has v1, v0"),
    (lambda m: None, "--upload-pack=x", "no version --upload-pack"),
    (lambda m: None, "v0", "Up to date"),
], ids=["untracked", "dirty", "merge", "no git", "no record", "no version", "no template", "lost version", "unknown", "dash", "same"])
def test_it_refuses_before_it_touches_anything(made, spoil, to, said):
    spoil(made)
    before = {p: p.read_bytes() for p in made.root.rglob("*") if p.is_file() and ".git" not in p.parts}
    assert made.update(to) == (0 if said == "Up to date" else 2) and said in made.words(), made.words()
    assert {p: p.read_bytes() for p in made.root.rglob("*") if p.is_file() and ".git" not in p.parts} == before


def test_back_only_when_asked(made, template, monkeypatch):
    template.sh("git", "commit", "-q", "--allow-empty", "-m", "later")
    made.edit(".copier-answers.yml", '"v0"', json.dumps(template.sh("git", "rev-parse", "HEAD").strip())); made.commit()
    assert made.update() == 2 and "--to v1" in made.words()


def test_a_project_in_a_folder_of_a_repository_and_nobody_known(made, tmp_path, monkeypatch):
    for k in [k for k in os.environ if k.startswith("GIT_")]: monkeypatch.delenv(k)
    shutil.rmtree(made.root/".git"); (tmp_path/"all").mkdir(); (made.root).rename(tmp_path/"all"/"in")
    made.root = tmp_path/"all"; made.write("other.txt", "1\n"); made.sh("git", "init", "-q"); made.commit()
    assert update.update(made.root/"in", None, made.said.append) == 0, made.words()
    assert made.text("in/tool.py") == "one = 1\ntwo = 2\nthree = 4\n" and made.text("in/tiny/a.py").startswith("# newly made") and made.text("other.txt") == "1\n" and made.sh("git", "status", "--porcelain") == ""
    assert made.sh("git", "log", "-1", "--format=%an %ae") == "Jane jane@example.org\n"


# ---- this template ----

def cell_with(house, path, flag, word=""):
    "The first cell of a notebook that begins so and holds the word"
    return next(text for c in house.json(path)["cells"] if (text := "".join(c["source"])).startswith(flag) and word in text)

def only(root, pattern): return next(str(p.relative_to(root)) for p in root.glob(pattern))


@pytest.fixture(scope="module")
def churn(tmp_path_factory, home):
    "A project made from a made-up version of this template before now, with its own environment"
    if not (ROOT/"copier.yml").exists(): pytest.skip("a project made from a template is no template")
    from test_template import copy_of, settle
    t = copy_of(ROOT, tmp_path_factory.mktemp("t")/PACKAGE, home)
    now = t.sh("git", "rev-parse", "HEAD").strip()
    metrics, prepare = only(t.root, "nbs/*_metrics.ipynb"), only(t.root, "nbs/*_prepare.ipynb")
    last = [c for c in t.json(metrics)["cells"] if "".join(c["source"]).startswith("#| export\ndef ")][-1]
    t.edit_notebook(metrics, "".join(last["source"]), "".join(last["source"]) + "\n\ndef then(): return 0")
    t.edit_notebook(prepare, cell_with(t, prepare, "# "), "# Before\n\nAs it was.")
    t.edit("params.yaml", "# of the folds, the settings and the candidates' draws", "# as it was")
    t.write("README.md", t.text("README.md").replace("**Anything else looks odd**", "**As it was**"))
    (t.root/"CONTRIBUTING.md").unlink(); t.write("gone.txt", "gone\n")
    t.commit("before"); t.sh("git", "tag", "v0")
    t.sh("git", "revert", "--no-edit", "HEAD"); t.sh("git", "tag", "v1")
    assert t.sh("git", "diff", now, "v1") == ""
    house = House(tmp_path_factory.mktemp("c")/"churn", home)
    House(t.root, home).sh(BIN/"copier", "copy", "--trust", "--defaults", "--quiet", "--vcs-ref", "v0", "-dname=churn", t.root, house.root, timeout=600)
    house.metrics, house.prepare = metrics, prepare
    house.env = settle(house.root, home).env
    return house


def back(house):
    "The project, as it was made"
    house.sh("git", "reset", "-q", "--hard", house.sh("git", "rev-list", "--max-parents=0", "HEAD").strip())
    return house


@pytest.mark.template
def test_an_edited_project_comes_up_to_date(churn):
    "The issue's own words: a function, a stage cell, a parameter and prose are edited, and alive after the update; all is green"
    h = back(churn)
    assert "def then()" in h.text(h.metrics) and "As it was." in h.text(h.prepare)
    first, step = cell_with(h, h.metrics, "#| export", "def "), cell_with(h, h.prepare, "#| stage")
    h.edit_notebook(h.metrics, first, first + "\n\ndef ours(): return 1")
    h.edit_notebook(h.prepare, step, step.replace("#| stage\n", "#| stage\nours = 1\n", 1))
    h.edit_notebook(h.prepare, cell_with(h, h.prepare, "## "), cell_with(h, h.prepare, "## ") + "\n\nOur words.")
    h.write("params.yaml", importlib.import_module(f"{PACKAGE}.edit").set_values(h.text("params.yaml"), {"train.trials": 1, "collect.rows": 4000}, "params.yaml"))
    h.sh("churn", "stage", "export"); h.commit("ours")
    before = h.sh("git", "rev-parse", "HEAD^{tree}")
    out = h.sh("churn", "update", timeout=900)
    assert "Done: one commit" in out and h.sh("git", "log", "-1", "--format=%s") == "Update from the template: v0 to v1\n" and h.sh("git", "status", "--porcelain") == ""
    assert "def ours()" in h.text("churn/metrics.py") and "def then()" not in h.text("churn/metrics.py") and "def then()" not in h.text(h.metrics)
    assert "ours = 1" in h.text(h.prepare) and "Our words." in h.text(h.prepare) and "As it was." not in h.text(h.prepare)
    values = yaml.safe_load(h.text("params.yaml"))
    assert values["train"]["trials"] == 1 and values["collect"]["rows"] == 4000 and "# as it was" not in h.text("params.yaml")
    assert "**As it was**" not in h.text("README.md") and (h.root/"CONTRIBUTING.md").exists() and not (h.root/"gone.txt").exists()
    h.sh("git", "revert", "--no-edit", "HEAD")
    assert h.sh("git", "rev-parse", "HEAD^{tree}") == before
    h.sh("git", "reset", "-q", "--hard", "HEAD~1")
    h.sh("churn", "run", timeout=600); h.commit("run")
    assert "The house agrees with itself." in h.sh("churn", "check")
    h.sh("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_house.py", "tests/test_merge.py", "tests/test_fingerprints.py", timeout=900)


@pytest.mark.template
def test_a_true_conflict_leaves_a_project_that_works(churn):
    h = back(churn)
    last = cell_with(h, h.metrics, "#| export", "def then()")
    h.edit_notebook(h.metrics, "def then(): return 0", "def then(): return 2")
    h.sh("churn", "stage", "export"); h.commit("ours")
    out = h.sh("churn", "update", code=1, timeout=900)
    assert h.metrics in out and "both changed" in out and "then" in out and "git reset --hard" in out
    nb = nbformat.read(h.root/h.metrics, 4)
    nbformat.validate(nb)
    here = next(i for i, c in enumerate(nb.cells) if "def then(): return 2" in c.source)
    assert nb.cells[here + 1].metadata.tags == ["conflict"] and last[:40].splitlines()[1] in nb.cells[here + 1].source
    assert "def then(): return 2" in h.text("churn/metrics.py")
    assert "a conflict is open" in h.sh("churn", "check", code=2)
    h.sh("churn", "stage", "export"); h.sh("dvc", "repro", "--force", "--single-item", "frame")
    h.sh("git", "reset", "-q", "--hard")
    assert h.sh("git", "status", "--porcelain", "-uno") == ""
