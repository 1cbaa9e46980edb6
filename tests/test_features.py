"""The recipe: steps and their graphs, what is chosen for each column, texts, and that nothing of the answer gets in."""
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, TargetEncoder
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

from mlcycle import features, recipe, steps
from mlcycle.bundle import open_graph
from mlcycle.contract import Column, Contract, bare_words, check_row, inputs, labels
from mlcycle.core import ProjectError, check_section
from mlcycle.folds import cross_predict, fold_data, make_folds, score_folds
from mlcycle.graph import NoGraph, graph_inputs, hard_rows, insist, make_graph, parity
from mlcycle.models import load_model, make_pipeline, save_model
from mlcycle.recipe import Choices, made_columns, make_recipe, plan, say_tree

SAID = dict(categories="auto", onehot_levels=20, identifier=0.5, rare=0.01, gaps=0.01, skew=2,
    dates=["age", "year", "week", "day", "between"], texts="auto", terms=40, declare={}, columns={}, seed=0)
TEXTS = ["too slow, too dear", "GOOD plan!", "the app crashes", "crashes: again & again", "日本語 はい", "¡Qué lástima!", "🦆 duck duck", "", "naïve café", "it’s fine"]


def customers(n=400, seed=0, task="binary"):
    "Every type of column, with gaps, odd names, a skewed number, two dates, many towns, texts"
    rng = np.random.default_rng(seed)
    since = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), unit="D")
    t = pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(n)], "log ins": rng.poisson(4, n).astype(float), "größe/cm": rng.normal(170, 9, n), "spent": np.exp(2*rng.normal(size=n)),
        "since": since, "last seen": since + pd.to_timedelta(rng.integers(0, 9000, n), unit="h"), "plan": rng.choice(["basic", "pro", None], n), "size": rng.choice(["small", "large", "medium"], n),
        "town": rng.choice([f"town {i}" for i in range(60)], n), "active": rng.random(n) < 0.5, "note": [f"{TEXTS[i]} {TEXTS[j]} {k}" for i, j, k in rng.integers(0, [10, 10, 90], (n, 3))]})
    signal = t["log ins"] - 4 + (t.plan == "pro") + t.note.str.contains("slow") + rng.normal(size=n)
    t["y"] = {"binary": np.where(signal > 0.5, "yes", "no"), "multiclass": np.select([signal < -1, signal < 1], ["low", "mid"], "high"), "regression": 100 + 10*signal}[task]
    t.loc[::7, "log ins"] = np.nan
    t.loc[::9, "last seen"] = pd.NaT
    return t


def contract_of(task="binary", **changes):
    types = {"customer_id": "text", "log ins": "number", "größe/cm": "number", "spent": "number", "since": "datetime", "last seen": "datetime", "plan": "category", "size": "category", "town": "category", "active": "boolean", "note": "text"}
    classes = {"binary": ["no", "yes"], "multiclass": ["high", "low", "mid"], "regression": None}[task]
    columns = [Column(name=n, type=t, nullable=True, **({"role": "id"} if n == "customer_id" else {}) | changes.get(n, {})) for n, t in types.items()]
    return Contract(name="tiny", task=task, positive="yes" if task == "binary" else None, classes=classes, columns=[*columns, Column(name="y", type="number" if task == "regression" else "category", role="target")])


def made(task="binary", n=400, seed=0, **changes):
    t, c = customers(n, seed, task), contract_of(task, **changes)
    return c, pd.DataFrame(inputs(t, c)), labels(t, c)


def chosen(**changes): return Choices(**SAID | changes)


FULL = dict(declare={"a login": "spent / `log ins`", "stay": "`last seen` - since", "mix": "plan * size"}, columns={"size": ["small", "medium", "large"], "größe/cm": "rank"})


# the whole recipe leaves as a graph

@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("candidate", ["linear", "boosted"])
def test_the_whole_recipe_becomes_a_graph_that_answers_alike(task, candidate):
    contract, X, y = made(task)
    planned = plan(contract, X, choices=chosen(**FULL))
    assert {p["way"] for p in planned} == {"out", "plain", "log", "rank", "dates", "onehot", "order", "target", "words", "formula", "cross"}
    model = make_pipeline(make_recipe(planned), candidate, task, {"max_iter": 20} if candidate == "boosted" else {}).fit(X, y)
    onnx, columns = make_graph(model, contract), {c: X[c].to_numpy() for c in X}
    scale, centre = (1., None) if contract.classes else (y.std(), y.mean())
    for rows in (columns, hard_rows(columns, contract, 2)): insist(parity(onnx, model, contract, rows, scale, centre, 1e-4), rows, contract, "rows", 0.01)
    assert features.check_graph(model["recipe"], contract, X, y)["difference"] < 1e-6


def test_characters_become_a_graph_too():
    contract, X, y = made()
    fitted = make_recipe(plan(contract, X, choices=chosen(columns={"note": "chars"} | {c: "out" for c in X if c != "note"}))).fit(X, y)
    assert features.check_graph(fitted, contract, X, y)["difference"] < 1e-6
    assert {len(m["what"]) - 2 for m in made_columns(fitted) if m["what"].startswith("'")} <= {2, 3, 4}


@pytest.mark.parametrize("step, says", [(SplineTransformer(), "`odd` \\(SplineTransformer\\) for \\['spent'\\].*use `rank`"), (FunctionTransformer(np.log1p), "use formulas in `features.declare`")])
def test_a_step_that_does_not_convert_is_named_with_what_to_use(step, says):
    contract, X, y = made()
    fitted = ColumnTransformer([("fine", recipe.make_step("plain", {}, ["spent"], ["spent"]), ["spent"]), ("odd", step, ["spent"])]).fit(X, y)
    with pytest.raises(NoGraph, match=says): features.check_graph(fitted, contract, X, y)


def test_a_step_that_converts_wrongly_is_named(monkeypatch):
    contract, X, y = made()
    monkeypatch.setitem(steps.CONVERTERS, steps.Bend, steps._ranks)
    monkeypatch.setattr(steps.Bend, "at_", [np.array([0., 1.])], raising=False); monkeypatch.setattr(steps.Bend, "share_", [np.array([0., 1.])], raising=False)
    with pytest.raises(NoGraph, match="other numbers of `spent` \\(its logarithm"): features.check_graph(make_recipe(plan(contract, X, choices=chosen())).fit(X, y), contract, X, y)


# steps

def in_graph(step, X):
    kind = StringTensorType if X.dtype == object else DoubleTensorType
    graph = convert_sklearn(step, initial_types=[("x", kind([None, X.shape[1]]))], target_opset={"": 18, "ai.onnx.ml": 3}, custom_conversion_functions=steps.CONVERTERS, custom_shape_calculators=steps.SHAPES)
    return open_graph(graph.SerializeToString()).run(None, {"x": X})[0]


@pytest.mark.parametrize("step", [steps.Bend(), steps.Ranks(), steps.Ranks(7), steps.Gaps(), steps.Dates()], ids=str)
@pytest.mark.parametrize("values", [[0.]*9, [np.nan]*9, [5.] + [0.]*8, [-1e12, 1e12] + [1.]*7, list(range(9)), [1e-300, 1.7e9, -3.5, 20_000.25, 20_001., 20_400.5, 20_801., 0., np.nan]], ids=str)
def test_odd_columns_do_no_harm(step, values):
    X = np.array([values, values[::-1]], dtype=float).T
    with np.errstate(all="ignore"): out = clone(step).fit(X).transform(X)
    assert len(out) == 9 and not np.isinf(out).any() and np.allclose(out, in_graph(clone(step).fit(X), X), rtol=1e-12, atol=1e-12, equal_nan=True)


def test_bends_and_ranks_keep_the_order_and_lead_back():
    x = np.exp(3*np.random.default_rng(0).normal(size=500))
    for step in (steps.Bend(), steps.Ranks(500)):
        z = step.fit(x[:, None]).transform(x[:, None])[:, 0]
        assert (np.diff(z[np.argsort(x)]) >= 0).all() and np.allclose(step.undo(z, 0), x, rtol=1e-6)


def test_dates_are_where_they_are():
    day = (pd.to_datetime(["2024-01-01 06:00", "2024-07-01 18:00", "2025-01-01", "2023-05-15 12:00", "2023-03-04"], format="ISO8601") - pd.Timestamp(0))/pd.Timedelta(days=1)
    step = steps.Dates(["week", "day"]).fit(np.array(day)[:, None])
    monday, other = step.transform(np.array(day)[:2, None])
    assert np.allclose(monday[:2], other[:2]) and np.allclose(monday[2:], [1, 0], atol=1e-9) and np.allclose(other[2:], [-1, 0], atol=1e-9)      # both Mondays; six, and eighteen o'clock


@pytest.mark.parametrize("text, value", [("a / b", 2.), ("a + b * 2 - 1", 11.), ("-(a - b) / +2", -1.5), ("log1p(abs(-b))", np.log(4)), ("min(a, max(b, 4))", 4.), ("a / 0", np.nan), ("a / (b - 3)", np.nan),
    ("1 / (a / 0)", np.nan), ("log1p(-b)", np.nan), ("a * 1e200 * 1e200", np.nan), ("`a` / 'b'", 2.), (" a ", 6.), ("a - a", 0.), ("min(a, 0 / 0 + b)", np.nan)])
def test_formulas_compute(text, value):
    step = steps.Formulas({"x": text}, ["a", "b"]).fit(None)
    X = np.array([[6., 3.], [np.nan, 3.]])
    assert np.allclose(step.transform(X)[0, 0], value, equal_nan=True) and np.allclose(step.transform(X), in_graph(step, X), equal_nan=True)


@pytest.mark.parametrize("text, says", [("", "a slip"), ("a +", "a slip"), ("a ** 2", "operator Pow"), ("a // 2", "operator FloorDiv"), ("not a", "operator Not"), ("a < 2", "no arithmetic \\(Compare\\)"), ("(lambda: a)()", "function `something odd`"),
    ("__import__('os')", "function `__import__`"), ("a.__class__", "no arithmetic \\(Attribute\\)"), ("a[0]", "no arithmetic"), ("[a for a in a]", "no arithmetic"), ("log(a)", "function `log`"), ("lgo1p(a)", "did you mean `log1p`"), ("abs(a, a)", "it takes 1"),
    ("max(a)", "it takes 2"), ("abs(x=a)", "`abs` with 1"), ("1 + 2", "no column"), ("True + a", "True, which is no number"), ("1j * a", "1j, which is no number"), ("1e999 * a", "a number that is too large"), ("("*200 + "a", "a slip"), ("a\0", "a slip"), ("a := 2", "a slip"),
    ("f'{a}'", "no arithmetic"), ("a" * 301, "301 characters. Allowed: 300"), ("*a", "slip|no arithmetic"), ("a; b", "a slip"), ("min(*a, a)", "no arithmetic")])
def test_what_is_no_formula_says_why(text, says):
    with pytest.raises(ProjectError, match=says) as e: steps.read_formula("cost", text)
    assert "cost" in str(e.value) and "llowed: " in str(e.value)


def test_levels_have_one_order_whatever_order_they_come_in():
    assert steps.in_order(["10", "9", "-1e3"]) == ["-1e3", "9", "10"] and steps.in_order(["b", "10", "9"]) == ["10", "9", "b"]
    for levels in (["3", "nan", "1", "2"], ["1", "nan", "3", "2"], ["nan", "2", "3", "1"]): assert steps.in_order(levels) == ["1", "2", "3", "nan"]


def test_the_target_of_a_level_is_told_by_other_rows():
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame({"town": np.repeat([f"t{i}" for i in range(300)], 2).astype(object)}), rng.integers(0, 2, 600)
    towns = make_recipe([{"column": "town", "way": "target", "with": {"target": "binary", "seed": 0}, "why": "", "gaps": False}])
    fold = fold_data(towns, X, y, make_folds(y, "binary", 3, 0)[0])[0]
    assert abs(np.corrcoef(fold["learn"][:, 0], fold["y_learn"])[0, 1]) < 0.15
    assert np.corrcoef(clone(towns).fit(X, y).transform(X)[:, 0], y)[0, 1] > 0.5            # as it would be if the learning rows were encoded like new ones


@pytest.mark.parametrize("task, cv", [("binary", StratifiedKFold), ("multiclass", StratifiedKFold), ("continuous", KFold)])
def test_target_encoding_converts_for_every_task(task, cv):
    rng = np.random.default_rng(0)
    X = rng.choice(["a", "b", "", "日本"], (200, 2)).astype(object)
    y = {"binary": rng.integers(0, 2, 200), "multiclass": rng.integers(0, 4, 200), "continuous": rng.normal(size=200)*1e6 + 1e9}[task]
    step, new = TargetEncoder(target_type=task, cv=cv(5, shuffle=True, random_state=0)).fit(X, y), np.vstack([X, [["unseen", "a"]]]).astype(object)
    assert np.allclose(step.transform(new), in_graph(step, new), rtol=1e-14, atol=0) and step.transform(new).shape[1] == (8 if task == "multiclass" else 2)


def test_a_fold_that_lacks_one_of_three_classes_encodes_the_others():
    contract, X, y = made("multiclass")
    towns = make_recipe(plan(contract, X, choices=chosen(columns={c: "out" for c in X if c != "town"})))
    two = np.flatnonzero(y < 2)
    assert towns.fit_transform(X, y).shape[1] == 3 and clone(towns).fit_transform(X.iloc[two], y[two]).shape == (len(two), 1)
    whole = towns.fit(X, y)
    assert features.check_graph(whole, contract, X, y)["difference"] < 1e-6


# what is chosen

def test_the_rule_picks_a_way_by_the_rows_not_by_the_target():
    contract, X, y = made()
    ways = {p["column"]: p["way"] for p in plan(contract, X, choices=chosen())}
    assert ways == {"customer_id": "out", "log ins": "plain", "größe/cm": "plain", "spent": "log", "since": "dates", "last seen": "dates", "plan": "onehot", "size": "onehot", "town": "target", "active": "plain", "note": "words", "y": "out"}
    assert {p["column"] for p in plan(contract, X, choices=chosen()) if p["gaps"]} == {"log ins", "last seen"}
    assert not any(p["gaps"] for p in plan(contract, X, choices=chosen(gaps=None))) and all(p["way"] != "log" for p in plan(contract, X, choices=chosen(skew=None)))


def test_with_many_classes_levels_stay_columns_as_long_as_that_is_fewer():
    contract, X, y = made("multiclass")
    for levels, way in [(2, "onehot"), (3, "target")]:
        X["plan"] = [f"p{i % (levels + 1)}" for i in range(len(X))]
        assert {p["column"]: p["way"] for p in plan(contract, X, choices=chosen(onehot_levels=2))}["plan"] == way


def test_noise_is_not_better_than_chance():
    contract, X, _ = made()
    rich, found = make_recipe(plan(contract, X, choices=chosen(**FULL))), []
    for seed in range(100, 104):
        y = np.random.default_rng(seed).integers(0, 2, len(X))
        data = fold_data(rich, X, y, make_folds(y, "binary", 3, 0)[0])
        found.append([np.mean(score_folds(data, cross_predict(c, "binary", data, 2, s), "binary")["roc_auc"]) for c, s in [("linear", {}), ("boosted", {"max_iter": 20})]])
    assert (np.abs(np.mean(found, axis=0) - 0.5) < 0.05).all()


def test_the_plain_recipe_is_what_it_was():
    contract, X, y = made()
    p = plan(contract, X, 50)
    assert [q["column"] for q in p if not q["why"]] == ["log ins", "größe/cm", "spent", "since", "last seen", "plan", "size", "active"]
    fitted = make_recipe(p).fit(X)
    assert [(n, list(c)) for n, _, c in fitted.transformers_ if n != "remainder"] == [("number", ["log ins", "größe/cm", "spent", "since", "last seen", "active"]), ("category", ["plan", "size"])]
    assert {q["column"]: q["why"] for q in p}["town"] == "it has 60 levels, and 50 are allowed" and "free text" in {q["column"]: q["why"] for q in p}["note"]


@pytest.mark.parametrize("role", ["id", "leaking", "forbidden", "constant", "group"])
def test_what_has_another_role_never_enters(role):
    contract, X, y = made(spent={"role": role})
    assert "spent" not in X and "spent" not in {m["column"] for m in made_columns(make_recipe(plan(contract, X, choices=chosen())).fit(X, y))}
    for changes in (dict(columns={"spent": "log"}), dict(declare={"x": "spent * 2"})):
        with pytest.raises(ProjectError, match=f"`spent`, which has the role `{role}`"): plan(contract, X, choices=chosen(**changes))


def test_what_is_nearly_an_identifier_is_left_out_with_the_reason():
    contract, X, y = made()
    X["town"] = [f"t{i}" for i in range(len(X))]
    out = {p["column"]: p["why"] for p in plan(contract, X, choices=chosen())}
    assert out["town"] == "it is nearly an identifier: 400 levels in 400 rows (`features.identifier` is 0.5)"
    assert not {p["column"]: p["why"] for p in plan(contract, X, choices=chosen(columns={"town": "target"}))}["town"]  # a person may insist


def test_rare_levels_share_a_column_and_unseen_ones_join_them():
    contract, X, y = made()
    X.loc[:2, "plan"] = ["odd", "odder", "oddest"]
    fitted = make_recipe(plan(contract, X, choices=chosen(columns={c: "out" for c in X if c != "plan"}))).fit(X, y)
    assert [m["what"] for m in made_columns(fitted)] == ["is it missing?", "is it 'basic'?", "is it 'pro'?", "is it rare or unseen?"]
    assert fitted.transform(X.head(1).assign(plan="never"))[0].tolist() == [0, 0, 0, 1] == fitted.transform(X.head(1))[0].tolist()
    assert features.check_graph(fitted, contract, X, y)["difference"] == 0


def test_gaps_that_come_together_are_told_once():
    contract, X, y = made()
    X.loc[X["log ins"].isna(), "spent"] = np.nan
    assert [p["column"] for p in plan(contract, X, choices=chosen()) if p["gaps"]] == ["log ins", "last seen"]


@pytest.mark.parametrize("changes, says", [
    ({"columns": {"spnet": "log"}}, "names `spnet`, which is no column of the contract; did you mean `spent`"),
    ({"columns": {"spent": "onehot"}}, "wants `onehot` for `spent`, of type number. Allowed: plain, log, rank, out"),
    ({"columns": {"plan": "words"}}, "Allowed: onehot, target, order, out, or a list of levels in order"),
    ({"columns": {"size": ["small", "large"]}}, "an order without 'medium', found in the training rows"),
    ({"columns": {"size": ["small", "large", "medium", "small"]}}, "twice: small"),
    ({"columns": {"spent": ["a"]}}, "only a category has levels"),
    ({"declare": {"x": "spnet * 2"}}, "names `spnet`, which is no column of the contract; did you mean `spent`"),
    ({"declare": {"spent": "active * 2"}}, "has the name of a column"),
    ({"declare": {"_x": "spent * 2"}}, "starts with `_`"),
    ({"declare": {"x": "spent * note"}}, "computes with `note` \\(text\\)"),
    ({"declare": {"x": "plan + size"}}, "computes with `plan` \\(category\\), `size` \\(category\\)"),
    ({"declare": {"x": "plan * plan"}}, "crosses one column"),
    ({"declare": {"x": "spent **"}}, "a slip")])
def test_a_choice_that_does_not_fit_says_why(changes, says):
    contract, X, y = made()
    with pytest.raises(ProjectError, match=says): plan(contract, X, choices=chosen(**changes))


@pytest.mark.parametrize("key, value", [("categories", "hot"), ("onehot_levels", 1), ("identifier", 0), ("rare", 0.5), ("gaps", 2), ("skew", 0), ("dates", []), ("dates", ["month"]), ("texts", "all"), ("terms", 0), ("declare", ["a"]), ("declare", {"x": ""}),
    ("columns", {"a": 3}), ("seed", "x"), ("bins", 1)])
def test_parameters_are_checked(key, value):
    with pytest.raises(ProjectError, match=f"`features.{key}"): check_section(features.Params, SAID | {"bins": 10, key: value}, "features")
    with pytest.raises(ProjectError, match="did you mean"): check_section(features.Params, SAID | {"bins": 10, key + "z": value}, "features")


# texts

@pytest.mark.parametrize("text, words", [("  Hello,\tWORLD!\n", "hello world"), ("ﬁne Ⅷ ①", "fine viii 1"), ("Straße STRASSE", "strasse strasse"), ("e\u0301t\u00e9", "été"), ("a_b-c/d", "a b c d"), ("हिन्दी में", "हिन्दी में"), ("日本語、はい。", "日本語 はい"), ("\ud800\x00\u200b", ""), ("5 € + 3 %", "5 3")])
def test_texts_become_bare_words(text, words):
    assert bare_words(text).split() == [bare_words(w) for w in words.split()] and bare_words(bare_words(text)) == bare_words(text)


def test_texts_are_the_same_in_a_table_a_list_and_a_row():
    contract, t = contract_of(), customers(50)
    one = inputs({c.name: t[c.name].tolist() for c in contract.features}, contract)["note"]
    assert one.tolist() == inputs(t, contract)["note"].tolist() == [bare_words(v) for v in t["note"]]
    assert inputs({"note": [None, " ", 3, True]}, contract)["note"].tolist() == ["", "", "3", "true"]
    assert check_row({"note": ["a"]}, contract)[0][0]["column"] == "note" and not check_row({"note": "a"}, contract)[0]


def test_texts_of_persons_never_enter():
    contract, X, y = made(note={"personal": True})
    assert "note" not in X and {p["column"]: p["why"] for p in plan(contract, X, choices=chosen())}["note"] == "it is free text of a person"
    with pytest.raises(ProjectError, match="a text that reaches a person"): plan(contract, X, choices=chosen(columns={"note": "words"}))


def test_texts_that_recur_are_categories_and_texts_without_words_harmless():
    contract, X, y = made()
    X["note"] = np.resize(["too slow", "good", ""], len(X)).astype(object)
    assert {p["column"]: p["way"] for p in plan(contract, X, choices=chosen())}["note"] == "target"
    X["note"] = [f"word{i//2} and{i} so{i}" for i in range(len(X))]                             # no word in five texts
    assert {p["column"]: p["why"] for p in plan(contract, X, choices=chosen())}["note"] == "none of its words is in 5 texts or more"
    X["note"] = [f"name{i//3} {i//3}" for i in range(len(X))]                                   # names that come three times each
    assert {p["column"]: p["way"] for p in plan(contract, X, choices=chosen())}["note"] == "target"
    lost = make_recipe([{"column": "note", "way": "words", "with": {"terms": 9}, "why": "", "gaps": False}]).fit(X, y)   # as in a fold where the words are gone
    assert [m["what"] for m in made_columns(lost)] == ["nothing", "how many are its words"] and features.check_graph(lost, contract, X, y)["difference"] < 1e-6


# told, kept, shown

def test_every_made_column_is_named_and_its_source_is():
    contract, X, y = made()
    planned = plan(contract, X, choices=chosen(**FULL))
    fitted = make_recipe(planned)
    out = fitted.fit_transform(X, y)
    names = made_columns(fitted)
    assert out.dtype == np.float32 and out.shape[1] == len(names) and {m["column"] for m in names} == {p["column"] for p in planned if not p["why"]}
    assert len({(m["column"], m["what"]) for m in names}) == len(names)
    told = features.count_made(features.tell(planned, X, y, "binary", 10), features.tell_made(fitted, out, y, contract, 10))
    assert sum(t["made"] for t in told) == out.shape[1] and features.as_table(told)["why"].iloc[-1] != ""


def test_dollar_signs_are_no_formula(tmp_path):
    fig = features.plot_information([{"column": "a$b_{$", "what": "is it '$1 to $2'?", "information": .3}, {"column": "b", "what": "its value", "information": 0.}])
    fig.savefig(tmp_path/"f.png")
    assert "a$b_{$" in fig.axes[0].get_title().replace("\\$", "$")


def test_levels_of_personal_columns_are_masked():
    contract, X, y = made(plan={"personal": True})
    planned = plan(contract, X, choices=chosen())
    fitted = make_recipe(planned)
    told = features.tell_made(fitted, fitted.fit_transform(X, y), y, contract, 10)
    assert {f["what"] for f in told if f["column"] == "plan"} == {"(masked)"} and "basic" not in str(features.tell(planned, X, y, "binary", 10))
    with pytest.raises(ProjectError, match="reaches a person: plan"): plan(contract, X, choices=chosen(declare={"mix": "plan * size"}))


def test_trees_are_said_in_the_columns_own_units():
    contract, X, y = made()
    def said(column, truth, **changes):
        planned = plan(contract, X, choices=chosen(**changes, columns={c: "out" for c in X if c != column} | changes.get("columns", {})))
        return say_tree(make_pipeline(make_recipe(planned), "rule", "binary").fit(X, truth.astype(int)), contract)[0]
    spent = float(said("spent", X["spent"] > 3).split("≤ ")[1].split(":")[0].split(" or")[0])
    assert abs(spent - 3) < 0.2 and "`since` ≤ 2022" in said("since", X["since"] > 19_000, dates=["age"])
    assert "`plan` is " in said("plan", X["plan"] == "pro") and "slow" in said("note", X["note"].str.contains("slow"))


def test_a_recipe_is_kept_in_the_same_bytes(tmp_path):
    contract, X, y = made()
    for name in "ab": save_model(make_recipe(plan(contract, X, choices=chosen(**FULL))), tmp_path/name)
    assert (tmp_path/"a").read_bytes() == (tmp_path/"b").read_bytes()
    model = make_pipeline(load_model(tmp_path/"a"), "linear", "binary").fit(X, y)
    save_model(model, tmp_path/"c"); save_model(make_pipeline(make_recipe(plan(contract, X, choices=chosen(**FULL))), "linear", "binary").fit(X, y), tmp_path/"d")
    assert (tmp_path/"c").read_bytes() == (tmp_path/"d").read_bytes()
    assert np.array_equal(load_model(tmp_path/"c").predict_proba(X), model.predict_proba(X))
