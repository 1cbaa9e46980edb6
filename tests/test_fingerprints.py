"""A stage reruns when what its code means, its data or its parameters have changed, and only then; by plain `dvc repro`."""
import json

import pytest

from conftest import PACKAGE, notebook, stage


def test_nothing_changed_nothing_runs(toy):
    assert toy.repro() == []
    assert "up to date" in toy.sh("dvc", "status")


def test_outputs_metadata_prose_and_comments_rerun_only_export(toy):
    nb = toy.json("nbs/21_alpha.ipynb")
    nb["metadata"]["widgets"] = {"a": 1}
    for c in nb["cells"]:
        c["source"] = "".join(c["source"]).replace("# alpha", "# Quite another title").replace("return add(x, y)", "return add(x,  y) # as ever").replace("assert True", "assert 1 == 1")
        if c["cell_type"] == "code": c["outputs"], c["execution_count"] = [{"output_type": "stream", "name": "stdout", "text": "ran"}], 7
    toy.write("nbs/21_alpha.ipynb", json.dumps(nb))
    toy.edit_notebook("nbs/02_sums.ipynb", "'Add'", "'Add two numbers'")
    assert toy.repro() == ["export"]
    assert toy.repro() == []


def test_one_function_reruns_exactly_the_stages_that_reach_it(toy):
    toy.edit_notebook("nbs/02_sums.ipynb", "def one(): return 1", "def one(): return 10")  # add -> more -> alpha
    assert toy.repro() == ["export", "alpha"]
    assert toy.json("data/alpha/out.json") == {"value": 21}  # and the new code was used, with no command by hand
    toy.edit_notebook("nbs/02_sums.ipynb", "def unused(): return 0", "def unused(): return 1")
    assert toy.repro() == ["export"]
    toy.edit_notebook("nbs/21_alpha.ipynb", "def mine(x): return x", "def mine(x): return -x")  # alpha exports it, only beta uses it
    assert toy.repro() == ["export", "beta"]


def test_what_is_registered_at_import_counts(toy):
    "A function that nobody names, put into a table by its decorator"
    toy.edit_notebook("nbs/02_sums.ipynb", "def one(): return 1", "TABLE = {}\ndef register(f): TABLE[f.__name__] = f; return f\n@register\ndef first(): return 1\ndef one(): return TABLE['first']()")
    toy.repro()
    toy.edit_notebook("nbs/02_sums.ipynb", "def first(): return 1", "def first(): return 4")
    assert toy.repro() == ["export", "alpha"] and toy.json("data/alpha/out.json") == {"value": 9}


def test_a_star_import_is_refused(toy):
    toy.edit_notebook("nbs/21_alpha.ipynb", "sums import add", "sums import *")
    assert "one by one" in toy.sh("dvc", "repro", code=255)


def test_an_error_that_parsing_does_not_find_is_named_too(toy):
    toy.edit_notebook("nbs/21_alpha.ipynb", "def mine(x): return x", "def mine(x, x): return x")
    assert "21_alpha.ipynb, cell 6" in toy.sh("dvc", "repro", code=255)


def test_a_stage_cell_reruns_its_stage(toy):
    toy.edit_notebook("nbs/22_beta.ipynb", "x['value'] * p.step", "x['value'] * p.step + 100")
    assert toy.repro() == ["export", "beta"]
    assert toy.json("data/beta/out.json")["value"] == 103


def test_upstream_data_stops_where_bytes_agree(toy):
    toy.edit_notebook("nbs/11_first.ipynb", "out = {'value': p.step}", "out = {'value': p.step + 0}")
    assert toy.repro() == ["export", "first"]  # same bytes, so nothing after it


def test_a_syntax_error_is_named_and_mended(toy):
    before = toy.text(f"{PACKAGE}/alpha.py")
    toy.edit_notebook("nbs/21_alpha.ipynb", "def mine(x): return x", "def mine(x: return x")
    out = toy.sh("dvc", "repro", code=255)
    assert "21_alpha.ipynb, cell 6, line 2" in out and "def mine(x: return x" in out
    assert toy.text(f"{PACKAGE}/alpha.py") == before and toy.json("data/alpha/out.json") == {"value": 3}
    toy.edit_notebook("nbs/21_alpha.ipynb", "def mine(x: return x", "def mine(x): return -x")
    assert toy.repro() == ["export", "beta"]


def test_a_renamed_notebook_leaves_no_orphan(toy):
    (toy.root/"nbs/02_sums.ipynb").rename(toy.root/"nbs/03_adding.ipynb")
    toy.edit_notebook("nbs/03_adding.ipynb", "default_exp sums", "default_exp adding")
    toy.edit_notebook("nbs/21_alpha.ipynb", f"{PACKAGE}.sums", f"{PACKAGE}.adding")
    toy.repro()
    assert not (toy.root/PACKAGE/"sums.py").exists() and (toy.root/PACKAGE/"adding.py").exists()
    (toy.root/"nbs/22_beta.ipynb").unlink()
    toy.sh(PACKAGE, "stage", "export")
    assert not (toy.root/PACKAGE/"beta.py").exists() and not (toy.root/"data/export/beta.json").exists()


def test_a_name_from_a_lesson_is_refused_before_anything_runs(toy):
    toy.edit_notebook("nbs/22_beta.ipynb", "assert True # a lesson", "helper = 1")
    toy.edit_notebook("nbs/22_beta.ipynb", "x['value'] * p.step", "x['value'] * helper")
    out = toy.sh("dvc", "repro", code=255)
    assert "22_beta.ipynb" in out and "`helper`" in out


def test_experiments_run_the_code_of_their_checkout(toy):
    toy.edit_notebook("nbs/02_sums.ipynb", "def one(): return 1", "def one(): return 5")
    toy.sh("dvc", "exp", "run", "--temp", "-S", "alpha.step=3")
    assert toy.json("data/alpha/out.json") == {"value": 3}  # the checkout at hand is untouched
    rows = json.loads(toy.sh("dvc", "exp", "show", "--json"))
    assert '"step": 3' in json.dumps(rows)
    name = toy.sh("dvc", "exp", "list", "--name-only").split()[0]
    toy.sh("git", "checkout", "-q", "--", "nbs"); toy.sh("dvc", "exp", "apply", name)
    assert toy.json("data/alpha/out.json") == {"value": 16}  # 1 + 3*5: the code edited there, not that of an installed package


@pytest.mark.chains
def test_queued_experiments_run_the_code_of_their_checkout(toy):
    toy.edit_notebook("nbs/02_sums.ipynb", "def one(): return 1", "def one(): return 7")
    toy.sh("dvc", "exp", "run", "--queue", "-S", "alpha.step=4")
    toy.sh("git", "checkout", "-q", "--", "nbs")
    toy.sh("dvc", "queue", "start")
    for _ in range(120):
        if "Success" in toy.sh("dvc", "queue", "status"): break
        __import__("time").sleep(.5)
    toy.sh("dvc", "queue", "stop", code=None)
    name = toy.sh("dvc", "exp", "list", "--name-only").split()[0]
    toy.sh("dvc", "exp", "apply", name)
    assert toy.json("data/alpha/out.json") == {"value": 29}  # 1 + 4*7


def test_a_parameter_there_and_back_comes_from_the_run_cache(toy):
    toy.edit("params.yaml", "alpha: {step: 2}", "alpha: {step: 9}")
    assert toy.repro() == ["alpha"] and toy.json("data/alpha/out.json") == {"value": 10}
    toy.edit("params.yaml", "alpha: {step: 9}", "alpha: {step: 2}")
    assert toy.repro() == [] and toy.json("data/alpha/out.json") == {"value": 3}


def test_status_says_why_in_words(toy):
    assert "Everything is up to date" in toy.sh(PACKAGE, "status")
    toy.edit("params.yaml", "beta: {step: 3}", "beta: {step: 8}")
    toy.edit_notebook("nbs/02_sums.ipynb", "def one(): return 1", "def one(): return 10")
    out = toy.sh(PACKAGE, "status", code=1)
    assert "parameter `beta.step` 3 → 8" in out and "code `sums.one` changed" in out
    assert not [line for line in out.splitlines() if line.startswith("first")]
    toy.sh("dvc", "repro", "export")
    assert "code `sums.one` changed" in toy.sh(PACKAGE, "status", code=1)
    toy.repro()
    (toy.root/"data/alpha/out.json").unlink()
    assert "its output data/alpha/out.json is missing" in toy.sh(PACKAGE, "status", code=1)
