"""The house agrees with itself."""
import json, re, stat, subprocess, sys

import pytest
import yaml

from conftest import BIN, EXAMPLE, PACKAGE, ROOT, STAGES, House, copy_tracked
from mlcycle import cli, inspect, new


@pytest.mark.parametrize("rule", [f for name, f in inspect.CHECKS.items() if name != "contract"], ids=lambda f: f.__name__)
def test_rule(rule): assert rule(ROOT) == []


def test_each_rule_can_fail(toy):
    "A rule that cannot complain is no rule"
    assert inspect.check_names(toy.root) == [] == inspect.check_imports(toy.root) == inspect.check_chain(toy.root) == inspect.check_parameters(toy.root)
    toy.edit("params.yaml", "beta: {step: 3}", "betta: {step: 3}")
    assert "betta" in inspect.check_names(toy.root)[0]
    toy.edit_notebook("nbs/11_first.ipynb", "out = {'value': p.step}", f"from {PACKAGE}.alpha import mine\nout = {{'value': mine(p.step)}}")
    assert "imports go down only" in inspect.check_imports(toy.root)[0]
    toy.edit("dvc.yaml", "deps: [data/export/beta.json, data/first/out.json]", "deps: [data/export/beta.json]")
    assert "reads data/first/out.json but does not depend on it" in inspect.check_chain(toy.root)[0]
    nb = toy.json("nbs/22_beta.ipynb")
    for c in nb["cells"]: c["metadata"].pop("tags", None)
    toy.write("nbs/22_beta.ipynb", json.dumps(nb))
    assert inspect.check_parameters(toy.root) == ["nbs/22_beta.ipynb has 0 cells tagged `parameters`; a stage needs exactly one"]
    assert inspect.check_cells(toy.root) == []
    toy.edit_notebook("nbs/02_sums.ipynb", "def unused(): return 0", "def unused():\n" + "    0\n"*(inspect.LONGEST - 2) + "    return 0")
    toy.edit_notebook("nbs/21_alpha.ipynb", "out = {'value': more(x['value'], p.step)}", "out = {'value': more(x['value'], p.step)}\nif p.fail: out = {}")
    toy.edit_notebook("nbs/22_beta.ipynb", "out = {'value': x['value'] * p.step", "for _ in x: pass\nout = {'value': x['value'] * p.step")
    long, branch, loop = inspect.check_cells(toy.root)
    assert "nbs/02_sums.ipynb" in long and f"exports {inspect.LONGEST + 1} lines" in long
    assert all("stage cell with an `if` or a loop" in line for line in (branch, loop)) and "21_alpha" in branch and "22_beta" in loop
    toy.write(f"{PACKAGE}/orphan.py", "")
    assert any("orphan.py" in line for line in inspect.check_export(toy.root))
    assert "betta" in toy.sh(PACKAGE, "check", code=2)



@pytest.mark.skipif((ROOT/".copier-answers.yml").exists(), reason="a project has its name once it is made")
def test_everything_renamed_still_runs(tmp_path, home):
    "The name occurs only where the rename reaches it: a renamed copy exports, checks and runs"
    house = House(tmp_path/"copy", home)
    copy_tracked(house.root)
    house.sh("git", "init", "-q"); house.commit()
    new.rename(house.root, PACKAGE, "subscriptions")
    house.commit("renamed")
    left = house.sh("git", "grep", "-il", PACKAGE, code=None).split()
    assert left == [], f"the name is left in {left}"
    command = tmp_path/"bin"/"subscriptions"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom subscriptions.cli import main\nraise SystemExit(main())\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    house.env |= {"PATH": f"{command.parent}:{house.env['PATH']}", "PYTHONPATH": str(house.root)}
    before = {p.name: p.read_text() for p in (ROOT/"data/export").glob("*.json")}
    assert "exported" in house.sh("subscriptions", "stage", "export")
    assert {p.name: p.read_text() for p in (house.root/"data/export").glob("*.json")} == before  # so caches survive a rename
    house.sh("dvc", "repro", "--force", "--single-item", "frame")
    assert (house.root/"data/frame/charter.json").exists()
    assert "The house agrees with itself." in house.sh("subscriptions", "check")


def test_readme_names_only_commands_that_exist():
    text = (ROOT/"README.md").read_text()
    blocks = "\n".join(re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.S)) + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", text))
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT/"Makefile").read_text(), re.M))
    ours = {c for action in cli.parser()._actions for c in action.choices or ()}
    dvc = set(re.findall(r"\b([a-z-]+)\b", subprocess.run([BIN/"dvc", "--help"], capture_output=True, text=True).stdout))
    for word, known in (("make", targets), (PACKAGE, ours), ("dvc", dvc)):
        used = set(re.findall(rf"^\s*(?:\$ )?(?:\.venv/bin/)?{word} ([a-z][a-z-]*)", blocks, re.M))
        assert used - known == set(), f"README names {word} {used - known}"
    assert {"run", "test"} <= set(re.findall(r"\bmake ([a-z][a-z-]*)", text))


def test_a_borrowed_charter_is_told(toy):
    "Whoever brings other data and keeps the example's charter hears of it"
    frame = EXAMPLE["frame"]
    for source, unit, told in [("data/raw/t.csv", frame["unit"], 1), ("example:churn", frame["unit"], 0), ("data/raw/t.csv", "one visit", 0)]:
        toy.write("params.yaml", yaml.safe_dump({"frame": frame | {"unit": unit}, "collect": {"source": source}}))
        assert len(inspect.check_charter(toy.root)) == told


def test_running_and_serving_do_not_import_the_workshop():
    "nbdev is a tool of the workshop: what runs or serves does not import it"
    modules = ", ".join(f"{PACKAGE}.{m}" for m in ("run", "warm", *STAGES))
    code = f"import sys, {modules}; print([m for m in sys.modules if m.split('.')[0] in ('nbdev', 'fastcore', 'execnb', 'jupyterlab')])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


def test_nothing_is_unpickled():
    "No module of the project loads a pickle"
    bad = [p.name for p in (ROOT/PACKAGE).glob("*.py") if re.search(r"\b(pickle|joblib\.load|cloudpickle|dill)\b", "\n".join(line for line in p.read_text().splitlines() if not line.strip().startswith(("#", '"'))))]
    assert bad == []
