"Candidates, rounds, blends, bands, and the graphs made of them"
import numpy as np
import optuna
import pandas as pd
import pytest
from skl2onnx.sklapi import CastTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mlcycle.bundle import ask as ask_graph
from mlcycle.bundle import open_graph
from mlcycle.contract import inputs, labels
from mlcycle.core import ProjectError
from mlcycle.graph import NoGraph, answer, expect, graph_inputs, hard_rows, insist, make_graph, parity
from mlcycle.metrics import METRICS, main_metric, score
from mlcycle.models import (CANDIDATES, EXPLAINABLE, ROUNDS, TINY, TRUSTED, blend_weights, count_rounds, describe, drop_band, find_band, fit_candidate, fix_rounds, list_trees, load_model, logits,
    make_band, make_blend, make_steps, measure, predict, predict_band, save_model, say_model, settings_space, standard, suggest, walk, watched, widen)
from mlcycle.propose import propose

TASKS = ["binary", "multiclass", "regression"]
QUICK = {"boosted": {"max_iter": 15}, "lightgbm": {"n_estimators": 15}, "forest": {"n_estimators": 8}}
DRAWN = {"binary": {"extra": True, "n_estimators": 8}, "multiclass": {"n_estimators": 8, "balanced": True}, "regression": {"extra": True, "n_estimators": 8}}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1): yield


def numbers(seed=0, n=240, gaps=0.1):
    "Rows as a recipe makes them, and a target for each task"
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 3, n)
    signal = X[:, 0].astype(float) + X[:, 1]*X[:, 3] + rng.normal(0, 0.5, n)
    X[rng.random((n, 4)) < gaps] = np.nan
    return X, {"binary": (signal > 0).astype(int), "multiclass": np.digitize(signal, [-1, 1]), "regression": 2e6 + 50*signal}


def steps_of(name, task):
    if name == "blend": return make_blend([make_steps("linear", task), make_steps("forest", task, DRAWN[task]), make_steps("lightgbm", task, QUICK["lightgbm"] | ({"root": True} if task == "regression" else {}))], [0.5, 0.3, 0.2], task)
    return make_steps(name, task, QUICK.get(name, {}))


def classes(task): return {"binary": 2, "multiclass": 3}.get(task)


# candidates

@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [*CANDIDATES, "blend"])
def test_candidates_fit_predict_and_come_back_the_same(name, task, tmp_path):
    X, y = numbers()
    model, again = (Pipeline(steps_of(name, task)).fit(X, y[task]) for _ in "12")
    p = predict(model, X, classes(task))
    assert p.shape == ((240,) if task == "regression" else (240, classes(task))) and np.isfinite(p).all()
    if task != "regression": assert np.allclose(p.sum(1), 1) and np.array_equal(model.predict(X), model.classes_[p.argmax(1)])
    save_model(model, tmp_path/"a.skops"), save_model(again, tmp_path/"b.skops")
    assert (tmp_path/"a.skops").read_bytes() == (tmp_path/"b.skops").read_bytes()
    back = load_model(tmp_path/"a.skops")
    assert np.array_equal(predict(back, X, classes(task)), p) and measure(back) == measure(model) and describe(back) == describe(model)


def test_what_is_trusted_is_known():
    assert len(set(TRUSTED)) == len(TRUSTED) and not [t for t in TRUSTED if t.startswith(("builtins", "os", "subprocess", "__main__"))]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["forest", "lightgbm"])
def test_threads_change_nothing(name, task):
    X, y = numbers(1)
    one, two = (predict(Pipeline(make_steps(name, task, QUICK[name], threads=t)).fit(X, y[task]), X, classes(task)) for t in (1, 2))
    assert np.array_equal(one, two)


def test_lightgbm_learns_a_large_target_to_its_decimals():
    X, y = numbers(2, gaps=0)
    target = 2e6 + 0.05*X[:, 0].astype(float)
    assert np.abs(Pipeline(make_steps("lightgbm", "regression")).fit(X, target).predict(X) - target).max() < 0.1
    bent = Pipeline(make_steps("lightgbm", "regression", {"root": True})).fit(X, np.where(X[:, 1] > 0, 1, -1)*(3 + X[:, 0].astype(float))**2)
    assert np.abs(bent.predict(X) - np.where(X[:, 1] > 0, 1, -1)*(3 + X[:, 0].astype(float))**2).mean() < 1
    same = Pipeline(make_steps("lightgbm", "regression", QUICK["lightgbm"])).fit(X, np.full(240, 7.))
    assert (same.predict(X) == 7).all()


def test_weights_make_classes_count_alike():
    X, y = numbers(3, 400)
    rare = ((X[:, 0] > 0.8) & (np.arange(400) % 2 == 0)).astype(int)
    for name in ["tree", "linear", "forest", "boosted", "lightgbm"]:
        plain, even = (Pipeline(make_steps(name, "binary", QUICK.get(name, {}) | {"balanced": b})).fit(X, rare).predict_proba(X)[:, 1].mean() for b in (False, True))
        assert abs(plain - rare.mean()) < 0.05 and even > plain + 0.05, name


@pytest.mark.parametrize("ask,says", [
    (lambda: make_steps("forrest", "binary"), "`forrest` is no candidate; did you mean `forest`. Allowed: dummy, rule"),
    (lambda: Pipeline(make_steps("lightgbm", "regression", {"num_leafs": 3})).fit(np.eye(9), np.arange(9.)), "no setting `num_leafs`; did you mean `num_leaves`. Allowed: alpha, balanced")])
def test_what_is_misspelt_is_named(ask, says):
    with pytest.raises(ProjectError, match=says.replace(".", ".{1,2}")): ask()


def test_lightgbm_of_one_class_is_an_error():
    with pytest.raises(ValueError, match="all 9 rows have the class 1"): Pipeline(make_steps("lightgbm", "binary")).fit(np.eye(9), np.ones(9, int))


def test_a_class_that_was_never_met_has_no_chance():
    X, y = numbers(4)
    for name in ["forest", "lightgbm", "boosted", "blend"]:
        p = predict(Pipeline(steps_of(name, "multiclass")).fit(X, np.where(y["binary"], 2, 0)), X, 3)
        assert (p[:, 1] == 0).all() and np.allclose(p.sum(1), 1)


# trees in the open

@pytest.mark.parametrize("gaps", [0., 0.2])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["forest", "boosted", "lightgbm"])
def test_trees_are_read_as_they_were_grown(name, task, gaps):
    X, y = numbers(5, gaps=gaps)
    new = numbers(6, gaps=0.3)[0]                                                    # gaps where learning met none
    new[::9] *= 1e6
    for settings in [QUICK[name], DRAWN[task] if name == "forest" else QUICK[name] | ({"extra_trees": True, "subsample": 0.6} if name == "lightgbm" else {"max_features": 0.5})]:
        model = make_steps(name, task, settings)[0][1].fit(X, y[task])
        k = classes(task) or 1
        found = walk(list_trees(model), new, k if name == "forest" or k > 2 else 1)
        if name == "forest": expected = predict(model, new, classes(task))
        elif name == "boosted": found, expected = found + model._baseline_prediction, model._raw_predict(new)
        else: expected = model._raw(new)
        assert np.allclose(found.squeeze(), expected.squeeze(), rtol=1e-12)


def test_trees_without_any_question_are_read():
    X = np.zeros((50, 2), dtype=np.float32)
    for task, y in [("binary", np.arange(50) % 2), ("multiclass", np.arange(50) % 3), ("regression", np.arange(50.))]:
        light = make_steps("lightgbm", task, QUICK["lightgbm"])[0][1].fit(X, y)
        assert np.allclose(walk(list_trees(light), X, 3 if task == "multiclass" else 1).squeeze(), light._raw(X))


def test_native_categories_are_refused():
    X, y = numbers(7)
    hist = make_steps("boosted", "binary", {"max_iter": 3, "categorical_features": [3]})[0][1].fit(np.nan_to_num(X), y["binary"])
    with pytest.raises(ProjectError, match="native categories"): list_trees(hist)


def test_sizes():
    X, y = numbers(8)
    sizes = {name: measure(Pipeline(steps_of(name, "binary")).fit(X, y["binary"])) for name in CANDIDATES}
    assert sizes["dummy"] == {"nodes": 2, "size_kib": 0.016} and sizes["rule"]["nodes"] == 3 and sizes["linear"]["nodes"] == 5 and sizes["tree"]["nodes"] <= 15
    assert 100 < sizes["lightgbm"]["nodes"] <= 15*61 and sizes["forest"]["size_kib"] > sizes["tree"]["size_kib"]
    assert measure(make_steps("lightgbm", "multiclass", QUICK["lightgbm"])[0][1].fit(X, y["multiclass"]))["nodes"] > 2*sizes["lightgbm"]["nodes"]


# rounds

@pytest.mark.parametrize("candidate", list(ROUNDS))
@pytest.mark.parametrize("task", TASKS)
def test_rounds_are_few_where_there_is_nothing_to_learn(candidate, task):
    X, y = numbers(9, 300)
    rng = np.random.default_rng(9)
    noise = rng.normal(size=300) if task == "regression" else rng.integers(0, classes(task), 300)
    assert fit_candidate(candidate, task, {"learning_rate": 0.2}, X, noise)[1] < 15 < fit_candidate(candidate, task, {"learning_rate": 0.05}, X, y[task])[1]


@pytest.mark.parametrize("candidate", list(ROUNDS))
def test_rounds_are_the_best_of_the_rows_watched(candidate):
    X, y = numbers(10, 400)
    learn, watch = (X[:300], y["binary"][:300]), (X[300:], y["binary"][300:])
    rounds, model = count_rounds(candidate, "binary", {"learning_rate": 0.1}, learn, watch)
    if model is not None: assert len(list_trees(model)) == rounds
    loss = lambda n: score(watch[1], predict(Pipeline(make_steps(candidate, "binary", {"learning_rate": 0.1, ROUNDS[candidate]: n})).fit(*learn), watch[0], 2), "binary")["log_loss"]
    assert loss(rounds) <= min(loss(n) for n in {max(1, rounds - 5), rounds + 1, rounds + 12}) + 2e-4


def test_many_classes_and_small_gains_do_not_go_on_for_ever():
    rng = np.random.default_rng(18)
    y = np.arange(400) % 8
    X = (np.eye(8)[y] + rng.normal(0, 0.01, (400, 8))).astype(np.float32)
    for candidate in ROUNDS:
        assert count_rounds(candidate, "multiclass", {"learning_rate": 0.02, "max_leaf_nodes" if candidate == "boosted" else "num_leaves": 4}, (X[:300], y[:300]), (X[300:], y[300:]))[0] <= 187
        assert count_rounds(candidate, "binary", {"learning_rate": 0.15}, (X[:300], y[:300] % 2), (X[300:], y[300:] % 2))[0] < 200


def test_quick_fits_do_with_the_rows_not_watched():
    X, y = numbers(12, 4200)
    (a, b), = watched(y["binary"], "binary", 0)
    (quick, n), (full, m) = (fit_candidate("lightgbm", "binary", {"learning_rate": 0.2}, X, y["binary"], quick=q) for q in (True, False))
    again = Pipeline(make_steps("lightgbm", "binary", {"learning_rate": 0.2, ROUNDS["lightgbm"]: n})).fit(X[a], y["binary"][a])
    assert n == m and np.array_equal(predict(quick, X, 2), predict(again, X, 2)) and not np.array_equal(predict(quick, X, 2), predict(full, X, 2))


def test_rounds_that_are_given_are_taken():
    X, y = numbers(11)
    for candidate, name in ROUNDS.items():
        model, rounds = fit_candidate(candidate, "binary", {name: 4}, X, y["binary"])
        assert rounds is None and len(list_trees(model[-1])) == 4
    assert fit_candidate("linear", "binary", {}, X, y["binary"])[1] is None
    assert fix_rounds("boosted", {"max_leaf_nodes": 4}, [3, 4, 8]) == {"max_leaf_nodes": 4, "max_iter": 5} and fix_rounds("lightgbm", {}, [0]) == {"n_estimators": 1}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_watched_is_not_learned_from(seed):
    rng = np.random.default_rng(seed)
    n = 500
    y, time, groups = rng.integers(0, 3, n), rng.integers(0, 40, n), rng.integers(0, 60, n)
    for parts, apart in [(watched(y, "multiclass", seed), np.arange(n)), (watched(y, "multiclass", seed, groups=groups), groups), (watched(y, "multiclass", seed, time=time, groups=groups), time)]:
        assert parts and all(not set(apart[a]) & set(apart[b]) and len(np.unique(y[a])) == 3 for a, b in parts)
    (a, b), = watched(y, "multiclass", seed, time=time)
    assert time[a].max() < time[b].min() and n//6 <= len(b) <= n//6 + 30
    assert [len(watched(np.zeros(n)*1., "regression", 0)) for n in (11, 1000, 3000, 5000)] == [0, 5, 3, 1]


# settings

def ask(space):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=space)).ask()


@pytest.mark.parametrize("rows", [30, 800, 16_000, 1_000_000])
@pytest.mark.parametrize("task", TASKS)
def test_settings_lie_in_their_space(task, rows):
    inside = lambda v, span: v in span if isinstance(span, list) else span[0]*0.99 <= v <= span[1]*1.01
    for candidate in CANDIDATES:
        for metric in [None, *(m.name for m in METRICS[task])]:
            space = settings_space(candidate, task, rows, metric)
            for settings in [suggest(ask(seed), candidate, task, rows, metric) for seed in range(3)] + (standard(candidate, task, rows, metric) if space else []):
                assert set(settings) == set(space) and all(inside(v, space[k]) for k, v in settings.items()), (candidate, settings)
            assert ("balanced" in space) == (candidate in ("linear", "forest", "boosted", "lightgbm") and (metric or METRICS[task][0].name) in ("f1", "accuracy", "balanced_accuracy", "f1_macro"))


def test_settings_asked_for_can_be_fitted():
    X, y = numbers(12, 90)
    for candidate in CANDIDATES:
        for task in TASKS:
            for settings in [suggest(ask(1), candidate, task, 72), *standard(candidate, task, 72, "mae" if task == "regression" else None)]:
                quick = QUICK.get(candidate, {}) if candidate != "forest" else {"n_estimators": 3}
                Pipeline(make_steps(candidate, task, settings | quick)).fit(X, y[task])
    assert [standard("linear", "multiclass", 72, m)[0].get("balanced") for m in (None, "accuracy", "log_loss")] == [True, False, None]
    assert all(s["max_samples"] == 50_000 and s["bootstrap"] for s in standard("forest", "regression", 10**6)) and "bootstrap" not in standard("forest", "regression", 5000)[0]
    assert standard("dummy", "regression", 72, "mae") == [{"strategy": "median"}] and standard("dummy", "binary", 72) == [{}]


# blends

@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_a_blend_is_not_worse_than_its_best_member_on_the_rows_it_was_chosen_by(task, seed):
    rng = np.random.default_rng(seed)
    X, y = numbers(seed, 200)
    truth = y[task] if task == "regression" else np.eye(classes(task))[y[task]]
    predictions = [truth + rng.normal(0, s*truth.std(), truth.shape) for s in (0.5, 0.6, 0.6, 3)]
    if task != "regression": predictions = [(e := np.exp(p))/e.sum(1, keepdims=True) for p in predictions]
    for metric in METRICS[task]:
        value = lambda p: score(y[task], p, task)[metric.name]*(1 if metric.higher else -1)
        weights = blend_weights(predictions, y[task], task, metric, most=3)
        assert np.isclose(weights.sum(), 1) and (weights >= 0).all() and (weights > 0).sum() <= 3
        assert value(sum(w*p for w, p in zip(weights, predictions))) >= max(map(value, predictions)) - 1e-12
        assert np.array_equal(weights, blend_weights(predictions, y[task], task, metric, most=3))


def test_of_equal_models_the_first_is_taken():
    X, y = numbers(13)
    p = np.column_stack([1 - y["binary"], y["binary"]]).astype(float)
    assert blend_weights([p, p, p], y["binary"], "binary", main_metric("binary")).tolist() == [1, 0, 0]
    assert blend_weights([p[:, ::-1], p], y["binary"], "binary", main_metric("binary"), most=1).tolist() == [0, 1]


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [1., 0.], [1.5, -0.5]])
def test_weights_that_do_not_add_up_are_an_error(weights):
    X, y = numbers(14)
    with pytest.raises(ValueError, match="one weight above 0 for each member"): Pipeline(make_blend([make_steps("linear", "binary")]*2, weights, "binary")).fit(X, y["binary"])


def test_scores_are_logits_and_calibration_does_not_bend_what_is_straight():
    X, y = numbers(15, 3000, gaps=0)
    p = 1/(1 + np.exp(-2*X[:, 0].astype(float)))
    truth = (np.random.default_rng(15).random(3000) < p).astype(int)
    model = Pipeline(make_blend([make_steps("linear", "binary"), make_steps("linear", "binary", {"C": 0.5})], [0.5, 0.5], "binary")).fit(X[:1500], truth[:1500])
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(X[1500:], truth[1500:])
    sigmoid = calibrated.calibrated_classifiers_[0].calibrators[0]
    assert abs(sigmoid.a_ + 1) < 0.15 and abs(sigmoid.b_) < 0.15 and np.abs(predict(calibrated, X, 2)[:, 1] - p).mean() < 0.03
    for task in ["binary", "multiclass"]:
        for name in ["blend", "forest"]:
            model = Pipeline(steps_of(name, task)).fit(X[:200], y[task][:200])
            assert np.allclose(model.decision_function(X), logits(model.predict_proba(X)))
    assert np.array_equal(logits(np.array([[1., 0.]])), [np.log(TINY)])


def test_models_are_named():
    X, y = numbers(16)
    model = Pipeline(steps_of("blend", "regression")).fit(X, y["regression"])
    assert say_model(model) == "0.5 Ridge + 0.3 extra trees + 0.2 LightGBM"
    assert describe(model)["members"][2]["settings"] == {"n_estimators": 15, "root": True, "seed": 0, "threads": 1} and describe(Pipeline(make_steps("rule", "binary")).fit(X, y["binary"]))["settings"]["max_depth"] == 1


# bands

@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("candidate", ["dummy", "linear", "lightgbm"])
def test_bands_hold_what_they_promise(candidate, level):
    held = []
    for seed in range(6):
        X, y = numbers(20 + seed, 900)
        band = Pipeline(make_band(make_steps(candidate, "regression", QUICK.get(candidate, {})), candidate, level, 300)).fit(X[:300], y["regression"][:300])
        wide = widen(band, X[300:600], y["regression"][300:600], level)
        low, high = predict_band(wide, X[600:]).T
        assert (low <= wide.predict(X[600:])).all() and (wide.predict(X[600:]) <= high).all()
        assert find_band(band).level_ is None and find_band(wide).level_ == level and (find_band(band).low_ is None) == (candidate in EXPLAINABLE)
        held.append(((low <= y["regression"][600:]) & (y["regression"][600:] <= high)).mean())
    assert level - 0.03 < np.mean(held) < level + (0.05 if candidate != "lightgbm" else 0.1)


def test_a_band_adapts_where_it_can():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (2000, 1)).astype(np.float32)
    y = rng.normal(size=2000)*(0.1 + 2*(X[:, 0] > 0))
    wide = widen(Pipeline(make_band(make_steps("lightgbm", "regression", QUICK["lightgbm"]), "lightgbm", 0.9, 1000)).fit(X[:1000], y[:1000]), X[1000:], y[1000:], 0.9)
    width = np.diff(predict_band(wide, np.array([[-0.5], [0.5]], dtype=np.float32)))[:, 0]
    assert width[1] > 3*width[0]


def test_bands_that_cannot_be_settled_say_so():
    X, y = numbers(17)
    band = Pipeline(make_band(make_steps("linear", "regression"), "linear", 0.9, 240)).fit(X, y["regression"])
    assert find_band(widen(band, X[:9], y["regression"][:9], 0.9)).offset_ > 0
    with pytest.raises(ProjectError, match="8 rows cannot settle an interval that holds 90% of all: it takes 9 at least"): widen(band, X[:8], y["regression"][:8], 0.9)
    with pytest.raises(ProjectError, match="has no band to widen.*train.interval"): widen(drop_band(band), X, y["regression"], 0.9)
    assert np.array_equal(drop_band(band).predict(X), band.predict(X)) and predict_band(drop_band(band), X) is None


# graphs

def customers(seed, task, n=300):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame({"logins": rng.poisson(5, n).astype(float), "größe/cm": rng.normal(170, 10, n), "plan": rng.choice(["basic", "pro", None], n)})
    signal = t.logins - 5 + 2*(t.plan == "pro") + rng.normal(0, 1, n)
    t["y"] = {"binary": np.where(signal > 0.5, "yes", "no"), "multiclass": np.select([signal < -1, signal < 1], ["low", "mid"], "high"), "regression": 2e6 + 50*signal}[task]
    t.loc[rng.random(n) < 0.1, "logins"] = np.nan
    contract = propose(t, "customers", "y")
    return contract, inputs(t, contract), labels(t, contract)


def recipe(): return ColumnTransformer([("number", Pipeline([("scale", StandardScaler()), ("cast", CastTransformer(dtype=np.float32))]), ["logins", "größe/cm"]),
    ("category", OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), ["plan"])])


def finished(name, task, X, y):
    "As evaluate leaves it: calibrated, or with a settled interval"
    if task != "regression": return CalibratedClassifierCV(FrozenEstimator(Pipeline([("recipe", recipe()), *steps_of(name, task)]).fit(X[:200], y[:200])), method="sigmoid").fit(X[200:], y[200:])
    band = make_band(steps_of(name, task), name, 0.9, 200)
    return widen(Pipeline([("recipe", recipe()), *band]).fit(X[:200], y[:200]), X[200:], y[200:], 0.9)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["dummy", "tree", "linear", "forest", "boosted", "lightgbm", "blend"])
def test_the_graph_answers_as_the_pipeline_does(name, task):
    contract, columns, y = customers(30, task)
    X = pd.DataFrame(columns)
    model = finished(name, task, X, y)
    scale, centre = (1., None) if contract.classes else (y.std(), y.mean())
    onnx, hard = make_graph(model, contract), hard_rows(columns, contract, 3)
    figures = insist(parity(onnx, model, contract, hard, scale, centre, 1e-6 if contract.classes else 1e-4), hard, contract, "hard rows", 0.)
    assert figures["over"] == 0 and expect(model, X, classes(task)).shape[1] == (3 if task == "regression" else classes(task))
    assert make_graph(model, contract).SerializeToString(deterministic=True) == onnx.SerializeToString(deterministic=True)
    if task != "regression": # uncalibrated, too
        plain = Pipeline([("recipe", recipe()), *steps_of(name, task)]).fit(X, y)
        assert np.abs(answer(make_graph(plain, contract), contract, columns) - predict(plain, X, classes(task))).max() < 1e-6


def test_a_blend_of_five_answers_at_once():
    from time import perf_counter
    contract, columns, y = customers(33, "binary")
    members = [("linear", standard("linear", "binary", 5000)[0]), ("forest", standard("forest", "binary", 5000)[0]), *(("lightgbm", s) for s in standard("lightgbm", "binary", 5000))]
    steps = make_blend([make_steps(c, "binary", s) for c, s in members], [0.2]*5, "binary")
    onnx = make_graph(Pipeline([("recipe", recipe()), *steps]).fit(pd.DataFrame(columns), y), contract)
    session, names, one, took = open_graph(onnx.SerializeToString()), graph_inputs(onnx, contract), {c: v[:1] for c, v in columns.items()}, []
    for _ in range(200):
        start = perf_counter()
        ask_graph(session, names, one)
        took.append(perf_counter() - start)
    assert len(members) == 5 and min(took) < 0.001


def test_splits_are_exact_in_the_graph():
    "Numbers that lie on a split, and one step of float32 beside it, go where they went in learning"
    contract, columns, y = customers(31, "binary")
    X = pd.DataFrame(columns)
    for name in ["forest", "boosted", "lightgbm"]:
        model = Pipeline([("recipe", recipe()), *steps_of(name, "binary")]).fit(X, y)
        cuts = np.unique(np.concatenate([t["threshold"][(t["feature"] == 1) & (t["left"] >= 0)] for t in list_trees(model[-1])]))
        scaler = model["recipe"].named_transformers_["number"]["scale"]
        near = np.concatenate([(c*scaler.scale_[1] + scaler.mean_[1])*np.array([1 - 2e-8, 1, 1 + 2e-8]) for c in cuts[:60]])
        rows = {"logins": np.full(len(near), 5.), "größe/cm": near, "plan": np.full(len(near), "pro", dtype=object)}
        assert np.abs(answer(make_graph(model, contract), contract, rows) - predict(model, pd.DataFrame(rows), 2)).max() < 1e-6, name


def test_graphs_that_cannot_be_made_say_why():
    contract, columns, y = customers(32, "regression")
    X = pd.DataFrame(columns)
    open_end = Pipeline([("recipe", recipe()), *make_band(make_steps("linear", "regression"), "linear", 0.9, 300)]).fit(X, y)
    with pytest.raises(ProjectError, match="interval was never settled"): make_graph(open_end, contract)
    scaled = Pipeline([("recipe", recipe()), *make_blend([[("scale", StandardScaler(with_mean=False)), *make_steps("lightgbm", "regression", QUICK["lightgbm"])]], [1.], "regression")]).fit(X, y)
    with pytest.raises(ProjectError, match="starts with StandardScaler; only gaps may be filled"): make_graph(scaled, contract)
    from sklearn.preprocessing import FunctionTransformer
    odd = Pipeline([("recipe", ColumnTransformer([("number", FunctionTransformer(np.log1p), ["logins"])])), *make_steps("lightgbm", "regression", QUICK["lightgbm"])]).fit(X, y)
    with pytest.raises(NoGraph, match="FunctionTransformer"): make_graph(odd, contract)
