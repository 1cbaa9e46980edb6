"""Merging notebooks by cell and YAML by key: by random edits on both sides, and by git itself."""
import ast, copy, importlib, json, random, subprocess, sys

import nbformat
import pytest
import yaml

from conftest import PACKAGE, ROOT, House

merge = importlib.import_module(f"{PACKAGE}.merge")


# ---- notebooks ----

def cell(text, kind="code", *tags): return {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": text.splitlines(True), "id": "x"} | ({"outputs": [], "execution_count": None} if kind == "code" else {})
def nb(*cells): return merge.numbered(copy.deepcopy({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
def said(nb): return ["".join(c["source"]) for c in nb["cells"]]
def lines(nb): return [line for text in said(nb) for line in text.splitlines()]
def cells(*triple, side="theirs"): return merge.merge_cells(*triple, side)


WORDS = "rows price month plan region hours score model target fold".split()

def random_notebook(r, n=12):
    "Cells of prose, functions and lessons, as unlike as cells are"
    def one(i):
        kind = r.choice(["def", "def", "lesson", "prose"])
        some = " ".join(r.sample(WORDS, 5)) + f" number {i} of {r.randrange(10**6)}"
        if kind == "prose": return cell(f"## {some}\n\nWhy {some}.", "markdown")
        return cell(f"#| export\ndef f{i}(x):\n    '{some}'\n    return x + {i}" if kind == "def" else f"a{i} = '{some}'\nassert f(a{i}) == {i}")
    return nb(*(one(i) for i in range(n)))


def edited(base, r, who, may, n=4):
    "The notebook after some edits at the given places: (notebook, lines added, places deleted)"
    new, added, gone = copy.deepcopy(base["cells"]), [], set()
    for k, i in enumerate(r.sample(may, min(n, len(may)))):
        what, line = r.choice(["edit", "edit", "insert", "delete"]), f"{who}{k} = '{who} {i} {r.randrange(10**9)}'"
        if what == "edit": new[i]["source"] = [*new[i]["source"][:-1], new[i]["source"][-1].rstrip("\n") + "\n", line]; added.append(line)
        if what == "insert": new[i] = (cell(line), new[i]) if r.random() < .5 else (new[i], cell(line)); added.append(line)
        if what == "delete": new[i] = (); gone.add(i)
    return nb(*(c for x in new for c in (x if isinstance(x, tuple) else (x,)))), added, gone


@pytest.mark.parametrize("seed", range(25))
def test_edits_in_different_cells_never_conflict_and_both_are_alive(seed):
    r = random.Random(seed)
    base = random_notebook(r)
    places = list(range(len(base["cells"]))); r.shuffle(places)
    ours, mine, gone = edited(base, r, "us", places[::2])
    theirs, yours, left = edited(base, r, "them", places[1::2])
    merged, conflicts = cells(base, ours, theirs)
    assert conflicts == []
    kept = [line for i, text in enumerate(said(base)) if i not in gone | left for line in text.splitlines()]
    assert sorted(lines(merged)) == sorted(kept + mine + yours)          # nothing lost, nothing twice
    assert [c["id"] for c in merged["cells"]] == [f"cell-{i}" for i in range(len(merged["cells"]))]
    nbformat.validate(nbformat.from_dict(merged))


@pytest.mark.parametrize("seed", range(25))
def test_whatever_both_do_no_added_line_is_lost_and_the_notebook_is_one(seed):
    r = random.Random(1000 + seed)
    base = random_notebook(r)
    (ours, mine, _), (theirs, yours, _) = (edited(base, r, who, list(range(12)), 9) for who in ("us", "them"))
    for side in (ours, theirs): side["cells"].insert(r.randrange(6), side["cells"].pop(r.randrange(6)))  # and a cell is moved
    merged, conflicts = cells(base, ours, theirs, side="template")
    assert set(mine + yours) <= set(lines(merged))
    open_ones = [c for c in merged["cells"] if "conflict" in c["metadata"].get("tags", [])]
    assert len(open_ones) == len(conflicts) and all(c["cell_type"] == "markdown" for c in open_ones)
    for c in merged["cells"]: assert c["cell_type"] == "markdown" or merge.parses("".join(c["source"]))
    code = [line for c in merged["cells"] if c["cell_type"] == "code" for line in c["source"] if line.startswith("def ")]
    assert len(code) == len(set(code))                                    # no function twice
    assert cells(base, ours, base) == (merge.numbered(merge.tidied(ours)), []) and cells(base, base, theirs) == (merge.numbered(merge.tidied(theirs)), [])
    assert cells(base, ours, ours)[1] == []


def test_outputs_ids_and_counts_do_not_matter():
    base, ours = nb(cell("f(1)"), cell("g(1)")), nb(cell("f(1)"), cell("g(2)"))
    theirs = copy.deepcopy(base)
    for i, c in enumerate(theirs["cells"]): c |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}], "execution_count": i, "id": f"other-{i}"}
    assert cells(base, ours, theirs) == (ours, [])


def test_both_put_in_at_one_place():
    base, ours, theirs = nb(cell("a = 1"), cell("b = 1")), nb(cell("a = 1"), cell("ours = 1"), cell("same = 1"), cell("b = 1")), nb(cell("a = 1"), cell("same = 1", "code", "parameters"), cell("theirs = 1"), cell("b = 1"))
    merged, conflicts = cells(base, ours, theirs)
    assert said(merged) == ["a = 1", "ours = 1", "same = 1", "theirs = 1", "b = 1"] and conflicts == [] and merged["cells"][2]["metadata"]["tags"] == ["parameters"]


def test_an_edit_and_an_insertion_next_to_it():
    base, ours, theirs = nb(cell("a = 1")), nb(cell("a = 2")), nb(cell("a = 1"), cell("b = a"))
    assert (said(cells(base, ours, theirs)[0]), cells(base, ours, theirs)[1]) == (["a = 2", "b = a"], []) == (said(cells(base, theirs, ours)[0]), [])


def test_one_cell_in_different_lines_and_tags():
    text = "#| export\ndef f(x):\n    y = x\n    z = 1\n    return y"
    merged, conflicts = cells(nb(cell(text)), nb(cell(text.replace("y = x", "y = 2*x"), "code", "slow")), nb(cell(text + " + 1", "code", "parameters")))
    assert said(merged) == ["#| export\ndef f(x):\n    y = 2*x\n    z = 1\n    return y + 1"] and conflicts == [] and merged["cells"][0]["metadata"]["tags"] == ["slow", "parameters"]


def test_what_would_not_be_python_is_a_conflict():
    base, ours, theirs = "x = [\n  1,\n  2,\n  3,\n]\ny = 4\n", "x = 1\ny = 4\n", "x = [\n  1,\n  2,\n  3,\n]\ny = 4\nz = 5\n"
    assert cells(nb(cell(base)), nb(cell(ours)), nb(cell(theirs)))[1] == []                     # it can be had
    broken = "def f(x):\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n", "if x:\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n", "def f(x):\n    a = 1\n    b = 2\n    c = 3\n    return 4\n"
    merged, conflicts = cells(*(nb(cell(t)) for t in broken))
    ast.parse(said(merged)[0])
    swapped = "try:\n    f()\nexcept A:\n    g()\n", "f()\n# 1\n# 2\ng()\n", "try:\n    f()\n    h()\nexcept A:\n    g()\n"
    merged, conflicts = cells(*(nb(cell(t)) for t in swapped))
    assert said(merged)[0] == swapped[1] and len(conflicts) == 1 and "h()" in said(merged)[1]


def test_a_true_conflict_is_a_cell_to_read():
    base, ours, theirs = (nb(cell("# Start", "markdown"), cell(f"#| export\ndef rate(x): return x + {n}\nTICKS = '```'")) for n in (0, 1, 2))
    merged, (what,) = cells(base, ours, theirs, side="template")
    assert said(merged)[1] == said(ours)[1] and "rate" in what and what.startswith("cell 1: ")
    note = merged["cells"][2]
    assert note["metadata"] == {"tags": ["conflict"]} and "the template" in said(merged)[2] and "return x + 2" in said(merged)[2] and "\n````python\n" in said(merged)[2] and "delete this cell" in said(merged)[2]


def test_deleted_here_edited_there():
    base, one, gone = nb(cell("a = 1"), cell("value = 'long enough to be told'\nb = 2")), nb(cell("a = 1"), cell("value = 'long enough to be told'\nb = 3")), nb(cell("a = 1"))
    merged, conflicts = cells(base, one, gone)
    assert said(merged)[:2] == said(one) and "deleted the cell above" in said(merged)[2] and len(conflicts) == 1
    merged, conflicts = cells(base, gone, one)
    assert said(merged)[0] == "a = 1" and "b = 3" in said(merged)[1] and merged["cells"][1]["cell_type"] == "markdown" and len(conflicts) == 1


def test_a_cell_moved_on_one_side_and_edited_on_the_other():
    a, b, c = "def first(x): return x", "def second(x): return -x", "def third(x): return abs(x)"
    base, moved, other = nb(*map(cell, (a, b, c))), nb(*map(cell, (c, a, b))), nb(*map(cell, (a, b, c + " + 1")))
    for triple in ((base, moved, other), (base, other, moved)):
        merged, conflicts = cells(*triple)
        assert said(merged) == [c + " + 1", a, b] and conflicts == []


# ---- YAML ----

def random_tree(r, depth=0):
    "Nested parameters with comments: {key: [comment above, value, comment beside]}; `keep` is never touched"
    value = lambda: r.choice([r.randrange(100), r.random(), "some words", None, True, "no", [f"i{k}" for k in r.sample(range(30), 3)]])
    def one(i): return [f"above {i}" if r.random() < .3 else "", random_tree(r, depth + 1) if depth < 2 and r.random() < .4 else value(), f"beside {r.randrange(1000)}" if r.random() < .6 else ""]
    return {"keep": ["", 0, ""]} | {f"k{i}": one(i) for i in r.sample(range(20), 5)}

def written(tree, pad=""):
    out = []
    for key, (above, value, beside) in tree.items():
        if above: out.append(f"{pad}# {above}")
        remark = f" # {beside}" if beside else ""
        if isinstance(value, dict): out += [f"{pad}{key}:{remark}", *written(value, pad + "  ")]
        elif isinstance(value, list): out += [f"{pad}{key}:{remark}", *(f"{pad}  - {x}" for x in value)]
        else: out.append(f"{pad}{key}: {json.dumps(value)}{remark}")
    return out if pad else "\n".join(out) + "\n"

def changed(tree, r, who):
    "The tree after random edits"
    new = {}
    for key, (above, value, beside) in tree.items():
        if key == "keep": new[key] = [above, value, beside]; continue
        what = r.random()
        if what < .1: continue
        if isinstance(value, dict): value = changed(value, r, who)
        elif isinstance(value, list) and what < .4: value = [x for x in value if r.random() < .8] + [f"{who}{r.randrange(9)}"]
        elif what < .3: value = r.randrange(100, 110)
        if r.random() < .1: beside = f"{who} {r.randrange(1000)}"
        new[key] = [above, value, beside]
        if r.random() < .15: new[r.choice(["both", "one"]) if r.random() < .3 else f"{who}{r.randrange(10**6)}"] = ["", r.randrange(3), f"{who} new"]
    return new

GONE = object()

def expected(base, ours, theirs):
    "What the values have to be, said again and simply; conflicts are counted in the second"
    if all(isinstance(x, dict) for x in (ours, theirs)):
        base = base if isinstance(base, dict) else {}
        got = {k: expected(base.get(k, GONE), ours.get(k, GONE), theirs.get(k, GONE)) for k in [*ours, *theirs]}
        return {k: v for k, (v, _) in got.items() if v is not GONE}, sum(n for _, n in got.values())
    if isinstance(ours, list) and isinstance(theirs, list):
        base = base if isinstance(base, list) else []
        return sorted({x for x in ours if x in theirs or x not in base} | {x for x in theirs if x not in base}), 0
    if ours is GONE and base is not GONE: return GONE, 0
    if ours == theirs or theirs == base: return ours, 0
    return (theirs, 0) if ours == base else (ours, 1)

def plain(tree): return {k: plain(v[1]) if isinstance(v[1], dict) else v[1] for k, v in tree.items()}
def in_order(value): return {k: in_order(v) for k, v in value.items()} if isinstance(value, dict) else sorted(value) if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(40))
def test_the_values_are_the_three_way_merge_of_the_values(seed):
    r = random.Random(seed)
    base = random_tree(r)
    ours, theirs = changed(base, r, "us"), changed(base, r, "them")
    texts = [written(t) for t in (base, ours, theirs)]
    merged, conflicts = merge.merge_keys(*texts)
    want, n = expected(*map(plain, (base, ours, theirs)))
    assert in_order(yaml.safe_load(merged)) == in_order(want) and len(conflicts) == n == merged.count("# theirs: ")
    assert merge.merge_keys(texts[0], texts[1], texts[0]) == (texts[1], []) and merge.merge_keys(texts[0], texts[0], texts[2]) == (texts[2], [])
    known = {line.strip() for t in texts for line in t.splitlines()}
    for line in merged.splitlines():                                       # every line is somebody's, or a value and a comment of two
        assert line.strip() in known or "# theirs: " in line or {line.partition(" #")[0].strip(), line.partition(" #")[2]} <= {p for k in known for p in (k.partition(" #")[0].strip(), k.partition(" #")[2])}, line


BASE = "# head\n\na: # section\n  x: 1 # one\n  y: 2\n  z: {p: 1}\n\nb: [1, 2]\nc: |\n  text\n  more\n"

@pytest.mark.parametrize("ours, theirs, wanted", [
    (("x: 1", "x: 5"), ("# one", "# the one"), "  x: 5 # the one\n"),                           # value here, comment there
    (("x: 1 # one\n", "x: 1 # one\n  mine: 1 # m\n"), ("x: 1 # one\n", "x: 1 # one\n  yours: 1\n"), "  mine: 1 # m\n  yours: 1\n"),
    (("x: 1", "x: 5"), ("y: 2", "y: 3"), "  x: 5 # one\n  y: 3\n"),                              # neighbours
    (("  y: 2\n", ""), ("y: 2", "y: 3"), "  x: 1 # one\n  z:"),                                  # removed here, changed there: stays removed
    (("x: 1", "x: 5"), ("  y: 2\n", "  # why\n"), "  x: 5 # one\n  # why\n  z:"),
    (("# head", "# my head"), ("more", "other"), "# my head\n\na: # section"),
    (("b: [1, 2]", "b: [1, 2, 3]"), ("\nc: |", "\n# above\nc: |"), "b: [1, 2, 3]\n# above\nc: |"),
    (("b: [1, 2]\n", "b: [1, 2]\nd:\n  deep: 1\n"), ("b: [1, 2]\n", "b: [1, 2]\ne:\n  deep: 2\n"), "d:\n  deep: 1\ne:\n  deep: 2\nc: |"),
])
def test_yaml_by_key(ours, theirs, wanted):
    merged, conflicts = merge.merge_keys(BASE, BASE.replace(*ours), BASE.replace(*theirs))
    assert conflicts == [] and wanted in merged, merged
    assert BASE.replace(*ours) != BASE != BASE.replace(*theirs)


def test_a_conflict_in_yaml_is_a_comment_and_is_listed():
    merged, conflicts = merge.merge_keys(BASE, BASE.replace("x: 1", "x: 5").replace("text", "mine"), BASE.replace("x: 1 # one", "x: 7 # seven").replace("text", "yours"), "template")
    assert merged == BASE.replace("  x: 1 # one", "  # template: 7\n  x: 5 # seven").replace("c: |\n  text", "# template: c: |\n# template: yours\n# template: more\nc: |\n  mine")
    assert [c.partition(":")[0] for c in conflicts] == ["`a.x`", "`c`"]
    merged, conflicts = merge.merge_keys(BASE, BASE.replace("x: 1", "x: 5"), BASE.replace("  x: 1 # one\n", ""), "template")
    assert "  # template: removed\n  x: 5 # one\n" in merged and conflicts == ["`a.x`: the template removed it, you changed it"]


def test_named_items_and_another_indentation():
    base = "columns:\n- name: a\n  type: number\n  role: id\n- name: b\n  type: text\n"
    ours = "columns:\n    - name: a\n      type: number\n      role: feature\n    - name: b\n      type: text\nmine:\n    deep: 1\n"
    theirs = base.replace("type: number", "type: integer").replace("- name: b\n", "- name: b\n  unit: km\n") + "- name: c\n  type: text\n"
    merged, conflicts = merge.merge_keys(base, ours, theirs)
    assert conflicts == [] and yaml.safe_load(merged) == {"columns": [{"name": "a", "type": "integer", "role": "feature"}, {"name": "b", "unit": "km", "type": "text"}, {"name": "c", "type": "text"}], "mine": {"deep": 1}}


@pytest.mark.parametrize("text", ["- 1\n- 2\n- 3\n", "a: [\nb\nc\n", "a: 1\na: 2\nc: 3\n", "? a\n: 1\nb: 2\nc: 3\n", "a: 1\n---\nb: 2\nc: 3\n"])
def test_what_cannot_be_cut_is_merged_by_line(text):
    first, last = text.splitlines()[0], text.splitlines()[-1]
    merged, conflicts = merge.merge_keys(text, f"# ours\n{text}", text + "# theirs\n")
    assert merged == f"# ours\n{text}# theirs\n" and conflicts == []
    merged, conflicts = merge.merge_keys(text, text.replace(last, last + " # ours"), text.replace(last, last + " # theirs"))
    assert ("<<<<<<< ours" in merged and conflicts and " # ours" in merged and " # theirs" in merged) if "<<<<" in merged else conflicts == [], (first, merged)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_a_line_that_only_the_parser_counts_loses_nothing(mark):
    base = f"a: 'x{mark}y'\nb: 1\n# between\nc: 2\n"
    merged, conflicts = merge.merge_keys(base, base.replace("b: 1", "b: 9"), base.replace("c: 2", "c: 3"))
    assert merged == base.replace("b: 1", "b: 9").replace("c: 2", "c: 3") and conflicts == []


def test_an_item_that_is_there_twice_stays_so():
    base = "seeds:\n- 0\n- 0\n"
    assert merge.merge_keys(base, base + "- 1\n", base + "- 2\n") == (base + "- 1\n- 2\n", [])
    assert merge.merge_keys(base[:-4], "seeds:\n- 5\n- 0\n", "seeds:\n- 0\n- 5\n")[0].count("5") == 1


def test_anchors_and_aliases():
    base = "base: &base\n  x: 1\n  y: 2\none:\n  <<: *base\n  z: 3\n"
    merged, conflicts = merge.merge_keys(base, base.replace("x: 1", "x: 5"), base.replace("z: 3", "z: 4").replace("y: 2", "y: 2 # two"))
    assert merged == base.replace("x: 1", "x: 5").replace("z: 3", "z: 4").replace("y: 2", "y: 2 # two") and conflicts == []
    merged, conflicts = merge.merge_keys(base, base.replace("x: 1", "x: 5").replace("<<: *base", "w: 1"), base.replace("&base", "&new").replace("*base", "*new"))
    assert yaml.safe_load(merged)["one"] == {"w": 1, "z": 3}


def test_the_projects_own_yaml_is_cut():
    for path in [*ROOT.glob("*.y*ml"), *ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("data/contracts/*.yaml"), *ROOT.glob("deploy/*/*.yaml")]: merge.cut(path.read_text())


# ---- git ----

@pytest.fixture
def two(tmp_path, home):
    "A repository with the driver, as `make hooks` sets it up, and what two people started from"
    house = House(tmp_path/"house", home)
    house.root.mkdir()
    house.sh("git", "init", "-q", "-b", "main")
    for path in ("Makefile", ".gitattributes", ".ci/clean_notebook.py", f"{PACKAGE}/__init__.py", f"{PACKAGE}/merge.py"): house.write(path, (ROOT/path).read_text())
    house.env["PATH"] = f"{(ROOT/'.venv'/'bin') if (ROOT/'.venv').exists() else ''}:{house.env['PATH']}"
    house.sh("make", "hooks")
    house.write("nbs/01_a.ipynb", json.dumps(nb(cell("#| default_exp a"), cell("#| export\ndef f(x): return x"), cell("#| export\ndef g(x): return -x"))))
    house.write("params.yaml", "a:\n  one: 1 # first\n  two: 2\n")
    house.write("data/odd name's.yaml", "a: 1\nb: 2\n")
    house.commit("start")
    return house


def branches(house, ours, theirs):
    "Both edit; ours is checked out"
    house.sh("git", "checkout", "-qb", "theirs"); theirs(house); house.commit("theirs")
    house.sh("git", "checkout", "-q", "main"); ours(house); house.commit("ours")


def test_git_merges_notebooks_by_cell_and_parameters_by_key(two):
    def ours(h): h.edit_notebook("nbs/01_a.ipynb", "return x", "return x + 1"); h.edit("params.yaml", "one: 1", "one: 5"); h.edit("data/odd name's.yaml", "a: 1", "a: 5")
    def theirs(h): h.edit_notebook("nbs/01_a.ipynb", "return -x", "return -2*x"); h.edit("params.yaml", "two: 2", "two: 3"); h.edit("data/odd name's.yaml", "b: 2", "b: 3")
    branches(two, ours, theirs)
    two.sh("git", "merge", "-q", "--no-edit", "theirs")
    assert two.sh("git", "status", "--porcelain") == ""
    assert said(two.json("nbs/01_a.ipynb"))[1:] == ["#| export\ndef f(x): return x + 1", "#| export\ndef g(x): return -2*x"]
    assert two.text("params.yaml") == "a:\n  one: 5 # first\n  two: 3\n" and two.text("data/odd name's.yaml") == "a: 5\nb: 3\n"
    text = two.text("nbs/01_a.ipynb")
    assert subprocess.run([sys.executable, ROOT/".ci/clean_notebook.py"], input=text, capture_output=True, text=True).stdout == text


def test_a_conflict_stops_git_and_the_files_still_work(two):
    branches(two, lambda h: (h.edit_notebook("nbs/01_a.ipynb", "return x", "return x + 1"), h.edit("params.yaml", "one: 1", "one: 5")),
             lambda h: (h.edit_notebook("nbs/01_a.ipynb", "return x", "return x + 2"), h.edit("params.yaml", "one: 1", "one: 7")))
    out = two.sh("git", "merge", "--no-edit", "theirs", code=1)
    assert "nbs/01_a.ipynb: cell 1: both changed `f`" in out and "`a.one`: both changed it" in out
    assert two.text("params.yaml") == "a:\n  # theirs: 7\n  one: 5 # first\n  two: 2\n"
    nbformat.validate(nbformat.reads(two.text("nbs/01_a.ipynb"), 4))
    two.sh("git", "add", "-A"); two.sh("git", "commit", "-qm", "mended")


def test_without_the_driver_git_merges_by_line(two):
    (two.root/PACKAGE/"merge.py").unlink(); two.commit("older than the merge")
    branches(two, lambda h: h.edit("params.yaml", "a:", "a: # ours"), lambda h: h.edit("params.yaml", "two: 2", "two: 3"))
    two.sh("git", "merge", "-q", "--no-edit", "theirs")
    assert two.text("params.yaml") == "a: # ours\n  one: 1 # first\n  two: 3\n"


def test_both_add_a_file_of_one_name(two):
    branches(two, lambda h: h.write("new.yaml", "a: 1\n"), lambda h: h.write("new.yaml", "b: 1\n"))
    two.sh("git", "merge", "--no-edit", "theirs", code=1)
    assert two.text("new.yaml") == "a: 1\n" and two.sh("git", "show", ":3:new.yaml") == "b: 1\n"


def test_the_driver_imports_nothing_slow():
    code = f"import sys, {PACKAGE}.merge; print([m for m in sys.modules if m in ('pydantic', 'yaml', 'numpy', '{PACKAGE}.core')])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_house_complains_of_open_conflicts(tmp_path, home):
    check, house = importlib.import_module(f"{PACKAGE}.inspect").check_conflicts, House(tmp_path, home)
    base, old = nb(cell("def f(): return 0")), "first:\n  step: 1\n"
    def write(mine, yours, what):
        house.write("nbs/a.ipynb", json.dumps(cells(base, *(nb(cell(f"def f(): return {n}")) for n in (mine, yours)))[0], indent=1, sort_keys=True))
        house.write("params.yaml", merge.merge_keys(old, old.replace("1", str(mine)), old.replace("1", str(yours)), what)[0])
        house.write("settings.ini", merge.merge_lines("a", f"b{mine}", f"b{yours}")[0])
        house.sh("git", "add", "-A")
        return [line.partition(": a conflict")[0] for line in check(house.root)]
    house.sh("git", "init", "-q")
    assert write(2, 2, "template") == []
    for what in ("template", "theirs"): assert [line.partition(",")[0] for line in write(2, 3, what)] == ["settings.ini", "settings.ini", "params.yaml", "nbs/a.ipynb"]
    assert "# theirs: 3" in check(house.root)[2]
