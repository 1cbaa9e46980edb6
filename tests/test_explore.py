"What explore says about training rows is true, and it says nothing of what is personal."
import json, subprocess, sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from conftest import DATASETS, ROOT
from mlcycle.contract import coerce, inputs, labels
from mlcycle.core import ProjectError, check_section, tidy
from mlcycle.example import make_churn
from mlcycle.explore import KINDS, Params, for_plots, look, plot_alike, plot_distributions, plot_drift, plot_gaps, plot_segments, plot_strengths, plot_target, show_findings
from mlcycle.propose import propose
from mlcycle.strength import add_up, segment, strength, suspects

P = Params(segments=8, min_rows=30, suspicious=0.9, alike=0.95, moved=0.1, shown=6, seed=0)


def table(n=3000):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, n)
    return pd.DataFrame({"when":pd.date_range("2024-01-01", periods=n, freq="h"), "x":x, "noise":rng.normal(0, 1, n), "code":rng.integers(0, 90, n).astype(str) + np.full(n, "x"),
        "gap":np.where(rng.random(n) < 0.1, np.nan, rng.normal(0, 1, n)), "phone":rng.choice(["0301", "0302"], n), "y":np.where(x + rng.normal(0, 1, n) > 1, "yes", "no")})


def explore(t, target="y", roles={}, p=P, **settings):
    c = propose(t, "t", target, roles, **settings)
    rows = coerce(t, c)
    return look(rows[rows[target].notna()].reset_index(drop=True), c, p), c


def figures(seen, c, p=P):
    return [plot_target(seen, c), plot_strengths(seen, c, p), plot_segments(seen, c, p), plot_distributions(seen, c, p), plot_gaps(seen, p), plot_alike(seen, p), plot_drift(seen, p)]


def of(seen, kind): return {f["column"]: f for f in seen.findings if f["kind"] == kind}


TARGETS = {"binary": lambda t: t.y, "multiclass": lambda t: np.array(["a", "b", "c"])[np.digitize(t.x, [-0.5, 0.5])], "regression": lambda t: t.x*3 + t.gap.fillna(0)}


# --- how much one column says ---

@pytest.mark.parametrize("task", TARGETS)
def test_no_false_alarms(task):
    "Row numbers, noise, categories of hundreds of levels say nothing, whatever the seed; nor do the tables of which nothing can be said"
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(60, 3000))
        y = {"binary": rng.random(n) < 0.1, "multiclass": rng.integers(0, 4, n), "regression": rng.lognormal(0, 1, n)}[task]
        t = pd.DataFrame({"i":np.arange(n), "noise":rng.normal(size=n), "heavy":rng.standard_t(1.5, n), "street":rng.integers(0, n//2, n).astype(str),
            "few":rng.choice(["a", "b"], n), "y":y if task == "regression" else np.char.add("c", y.astype(int).astype(str))})
        c = propose(t, "t", "y", {"i":"feature", "street":"feature"}, task, max_levels=5000)
        assert suspects(coerce(t, c), c, seed) == {}
        chance = 0.15 if task == "regression" else 3/np.sqrt(min(np.bincount(labels(t, c)))) # five standard errors of a Gini coefficient
        assert max(strength(v, labels(t, c), task, seed) for v in inputs(coerce(t, c), c).values()) < chance


@pytest.mark.parametrize("task", TARGETS)
def test_what_tells_all_is_near_one(task):
    rng = np.random.default_rng(1)
    y = {"binary": rng.random(4000) < 0.01, "multiclass": np.minimum(rng.poisson(1, 4000), 3), "regression": rng.lognormal(0, 1.5, 4000)}[task]
    y = y if task == "regression" else y.astype(int)
    assert strength(y*3. - 1, y, task) > 0.99                                         # the same, otherwise written
    assert strength(np.where(rng.random(4000) < 0.02, np.nan, y*1.), y, task) > 0.9    # with gaps
    if task != "regression":
        assert strength(np.array(["x", "y", "z", "w"], dtype=object)[y], y, task) > 0.99
        assert strength(np.where(y > 0, rng.normal(size=4000), np.nan), y, task) > (0.99 if task == "binary" else 0.3) # only a gap tells


def test_a_rare_class_among_many_rows_is_not_lost():
    y = (np.arange(300_000) % 3000 == 0).astype(int)                                  # a hundred
    x = np.random.default_rng(0).normal(size=len(y)) + 4*y
    assert strength(x, y, "binary") > 0.95 and strength(x, y, "binary") == strength(x, y, "binary", 0)


def test_copies_are_no_leak():
    "A row that is there twice is not known because its copy was learned from"
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"x":rng.normal(size=400), "y":rng.choice(["a", "b"], 400)})
    t = pd.concat([t, t.head(390)])
    c = propose(t, "t", "y")
    assert suspects(coerce(t, c), c) == {}


def test_suspects_of_a_shelf():
    "It is enough that columns can be taken by their names"
    t = table().assign(reason=lambda t: np.where(t.y == "yes", "dear", None))
    c = propose(t, "t", "y")
    class Shelf(dict): pass
    shelf = Shelf({n: v for n, v in coerce(t, c).items()})
    assert list(suspects(shelf, c)) == ["reason"] and "ROC AUC 1.000" in suspects(shelf, c)["reason"]


def test_suspects_of_next_to_nothing():
    c = propose(table(), "t", "y")
    for few in [table().head(0), table().head(3), table().assign(y="no"), table().assign(y=None)]: assert suspects(coerce(few, c), c) == {}


def test_parts_of_the_target_are_suspects():
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"casual":rng.poisson(5, 500), "registered":rng.poisson(60, 500)**2, "warm":rng.normal(size=500)}).assign(cnt=lambda t: t.casual + t.registered)
    c = propose(t, "t", "cnt", task="regression")
    found = suspects(coerce(t, c), c)
    assert set(found) == {"casual", "registered"} and "casual + registered" in found["casual"]
    assert add_up({"a":np.ones(100), "b":np.arange(100.)}, np.arange(100.)*2) == ["b"]


def test_segments():
    codes, names = segment(np.array([np.inf, -np.inf, 1, 2, 3, np.nan]), 2)
    assert names[-1] == "missing" and codes[-1] == len(names) - 1 and codes[0] == len(names) - 2 and codes[1] == 0
    assert segment(np.array([], dtype=float), 3)[0].tolist() == [] and segment(np.array(["b", "a", "b", "c", "c", "b"], dtype=object), 2)[1] == ["b", "all others", "missing"]
    assert segment(np.array([0, 366.0]), 3, "datetime")[1][:2] == ["1970-01-01", "1971-01-02"] and segment(np.array([0, 1.]), 3, "boolean")[1][:2] == ["false", "true"]


# --- what is found ---

@pytest.mark.parametrize("target", TARGETS)
def test_every_task(target):
    t = table()
    t["y"] = TARGETS[target](t)
    seen, c = explore(t)
    assert c.task == target and list(seen.views)[0] == "x" and seen.views["noise"].facts["strength"] < 0.1 and seen.views["code"].facts["strength"] < 0.1
    assert tidy(seen.findings)[-1]["kind"] == "target" and len(for_plots(seen)) and list(of(seen, "strong"))[0] == "x"
    for figure in figures(seen, c): assert figure.get_suptitle()
    assert json.dumps(tidy(seen.findings)) == json.dumps(tidy(explore(t)[0].findings))


def test_leaks_by_value_and_by_absence():
    t = table().assign(reason=lambda t: np.where(t.y == "yes", "dear", None), closed=lambda t: np.where(t.y == "yes", np.arange(3000)/7, np.nan))
    seen, c = explore(t)
    assert set(of(seen, "leak")) == {"reason", "closed"} and seen.findings[0]["kind"] == "leak" and "missing" in of(seen, "leak")["closed"]["finding"]
    settled, _ = explore(t, roles={"reason":"leaking", "closed":"leaking"})
    assert not of(settled, "leak") and of(settled, "kept out")["closed"]["number"] == 1


def test_the_example_untold():
    "What was planted in the example is found in the raw table by one who does not know it"
    t = make_churn(rows=8000)
    seen, c = explore(t, "churned")
    assert list(of(seen, "leak")) == ["cancel_reason"] and seen.findings[0]["column"] == "cancel_reason" and "ROC AUC 1.000" in seen.findings[0]["finding"]
    assert set(of(seen, "entity")) == {"customer_id"} and {"logins", "hours_watched"} <= set(of(seen, "outlier"))
    assert "price" in str(list(of(seen, "drift")) + list(of(seen, "alike"))) and "logins" in of(seen, "strong")


def test_a_contrast_is_what_pandas_says():
    t = table().assign(plan=lambda t: np.where(t.x > 1, "basic", "pro"))
    seen, c = explore(t)
    f = of(seen, "strong")["plan"]
    yes = (t.y == "yes").groupby(t.plan).mean()
    assert f["number"] == pytest.approx(yes["basic"]/yes["pro"]) or f["number"] == pytest.approx(yes["pro"]/yes["basic"])
    assert f"{max(yes)/min(yes):.1f} times as" in f["finding"] and f"{100*yes['basic']:.1f} %" in f["finding"]
    s = seen.segments[seen.segments["column"] == "plan"].set_index("segment")
    assert (s.rows == t.plan.value_counts()[s.index]).all() and (s.low < s.target).all() and (s.target < s.high).all()


def test_noise_makes_no_contrasts():
    "Of forty columns of noise and 300 segments, not one is said to differ"
    said = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        t = pd.DataFrame({f"n{i}":rng.normal(size=1000) for i in range(40)} | {"y":rng.choice(["no", "yes"], 1000)})
        said += len(of(explore(t)[0], "strong"))
    assert said == 0


def test_the_rarer_class_is_spoken_of():
    t = table().assign(y=lambda t: np.where(t.x < 1.2, "yes", "no"))
    seen, _ = explore(t, positive="yes")
    assert list(seen.target.answers) == ["no"] and "`y` is `no`" in str(seen.findings)


def test_drift_and_a_moving_target():
    t = table()
    late = np.arange(3000) > 1500
    t["level"], t["y"] = np.where(late, "new", "old"), np.where(np.random.default_rng(0).random(3000) < np.where(late, 0.5, 0.1), "yes", "no")
    seen, _ = explore(t)
    assert list(of(seen, "drift")) == ["level"] and "100.0 %" in of(seen, "drift")["level"]["finding"] and "when" in of(seen, "time")
    none, c = explore(table().drop(columns="when"))
    assert not of(none, "drift") and none.time is None and "nobody can say" in plot_drift(none, P).get_suptitle()
    assert not of(explore(table())[0], "drift")


def test_gaps_that_come_together_and_mean_something():
    t = table()
    away = t.y == "yes"
    away &= np.random.default_rng(1).random(3000) < 0.5
    t["income"], t["wealth"] = np.where(away, np.nan, t.noise), np.where(away, np.nan, 1 + t.x)
    seen, _ = explore(t)
    (pair, f), = of(seen, "together").items()
    assert set(pair.split(", ")) == {"income", "wealth"} and f["number"] == 1
    assert "100.0 %" in of(seen, "missing")["income"]["finding"] and "about the same" in of(seen, "missing")["gap"]["finding"]
    assert "`income` and `wealth`" in plot_gaps(seen, P).get_suptitle() and "missing together" in plot_gaps(seen, P).get_suptitle()


def test_columns_alike_whatever_their_type():
    t = table().assign(double=lambda t: t.noise*2 + 1, sort=lambda t: np.where(t.code.str[0] < "5", "low", "high"), kind=lambda t: np.where(t.code.str[0] < "5", "l", "h"))
    found = of(explore(t)[0], "alike")
    assert {frozenset(k.split(", ")) for k in found} == {frozenset(("noise", "double")), frozenset(("sort", "kind"))}


def test_personal_values_stay_hidden():
    c = propose(table(), "t", "y", {"phone":"feature"})
    c = c.model_copy(update={"columns":[k.model_copy(update={"personal":True}) if k.name == "phone" else k for k in c.columns]})
    seen = look(coerce(table(), c), c, P)
    shown = str(seen.findings) + seen.segments.to_csv() + seen.profile.to_csv() + show_findings(seen.findings).to_csv()
    assert "phone" in seen.views and "phone" in shown and "0301" not in shown and "0302" not in shown
    for f in figures(seen, c): assert "0301" not in str([x.get_text() for x in f.findobj(lambda a: hasattr(a, "get_text"))])


def test_columns_with_nothing_in_training():
    t = table()
    c = propose(t, "t", "y")
    seen = look(coerce(t.assign(gap=np.nan, code="a"), c), c, P)
    assert set(of(seen, "constant")) == {"gap", "code"} and seen.views["gap"].facts["strength"] == seen.views["code"].facts["strength"] == 0
    figures(seen, c)


@pytest.mark.parametrize("rows", [2, 5, 40])
@pytest.mark.parametrize("target", TARGETS)
def test_few_rows_are_no_crash(target, rows):
    t = table(300)
    t["y"] = TARGETS[target](t)
    c = propose(t, "t", "y")
    seen = look(coerce(t.groupby("y", group_keys=False).head(rows) if target != "regression" else t.head(rows), c), c, P)
    assert of(seen, "target") and figures(seen, c)


def test_no_feature_is_no_crash():
    t = table()[["x", "y"]].assign(note=[f"text {i}" for i in range(3000)])
    c = propose(t, "t", "y", {"note":"feature"})
    c = c.model_copy(update={"columns":[k for k in c.columns if k.name != "x"]})
    seen = look(coerce(t.drop(columns="x"), c), c, P)
    assert not seen.views and "No column can be learned from" in str(seen.findings) and "`note` is text: 3,000 different values, 2.0 words" in str(seen.findings)
    assert len(for_plots(seen)) == 1 and seen.profile["column"].tolist() == ["note"] and figures(seen, c)


def test_of_each_kind_the_first_are_shown():
    t = table().assign(**{f"const{i}":np.where(np.arange(3000) < 2990 + i, 1., np.nan) for i in range(9)})
    shown = show_findings(explore(t)[0].findings, 3)
    assert (shown.kind == "missing").sum() == 4 and any("7 more of this kind" in f for f in shown.finding)
    assert shown["to do"][shown.kind.duplicated()].eq("").all() and set(shown.kind) <= set(KINDS)


# --- figures ---

@pytest.mark.parametrize("target", TARGETS)
def test_figures_can_be_read(target):
    "Every figure states something above it, every axis with numbers has a name, no two names on an axis cover each other, nothing is cut off"
    t = table()
    t["a_column_with_a_rather_long_name_that_does_not_end"] = t.noise.round()
    t["many"] = [f"a level with a long name {i}" for i in np.random.default_rng(0).integers(0, 30, 3000)]
    t["y"] = TARGETS[target](t)
    seen, c = explore(t)
    for f in figures(seen, c):
        FigureCanvasAgg(f).draw()
        drawn, page = f.canvas.get_renderer(), f.bbox
        title = f._suptitle.get_window_extent(drawn)
        assert title.x0 >= page.x0 and title.x1 <= page.x1, f.get_suptitle()
        for ax in (ax for ax in f.axes if ax.axison):
            assert ax.get_xlabel() or ax.get_ylabel() or ax.images, f.get_suptitle() # the axes of a picture of pairs are the columns themselves
            for axis in (ax.xaxis, ax.yaxis):
                boxes = [x.get_window_extent(drawn) for x in axis.get_ticklabels() if x.get_text() and x.get_rotation() == 0]
                pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i+1:i+2]]
                assert not any(a.shrunk(0.8, 0.8).overlaps(b.shrunk(0.8, 0.8)) for a, b in pairs), f"{f.get_suptitle()}: {[x.get_text() for x in axis.get_ticklabels()]}"


# --- parameters ---

@pytest.mark.parametrize("key, value, said", [("segments", 1, "greater than or equal to 2"), ("suspicious", 1.5, "less than or equal to 1"), ("alike", 0, "greater than 0"),
    ("moved", -1, "greater than or equal to 0"), ("shown", 0, "greater than or equal to 1"), ("shwon", 3, "did you mean `shown`"), ("seed", "x", "integer")])
def test_wrong_parameters(key, value, said):
    with pytest.raises(ProjectError) as e: check_section(Params, P.model_dump() | {key: value}, "explore")
    assert f"`explore.{key}`" in str(e.value) and said in str(e.value)


# --- real files ---

@pytest.mark.parametrize("name, target, settings, first", [
    ("bike_sharing/hour.csv", "cnt", dict(task="regression"), "leak"), ("telco_churn/Telco-Customer-Churn.csv", "Churn", {}, "sensitive"),
    ("penguins/penguins.csv", "species", {}, "sensitive"), ("noaa_weather/noaa_weather.csv", "rain", dict(roles={"seq":"time"}), "drift"),
    ("credit_data/credit_data.csv", "Status", {}, "sensitive"), ("chicago_taxi_tips/taxi.csv", "tip", {}, "strong")])
def test_real_files(name, target, settings, first):
    if not (DATASETS/name).exists(): pytest.skip(f"{DATASETS/name} is not there")
    seen, c = explore(pd.read_csv(DATASETS/name), target, **settings)
    assert seen.findings[0]["kind"] == first
    if target == "cnt": assert set(of(seen, "leak")) == {"casual", "registered"}
    else: assert not of(seen, "leak")
    if target == "Status": assert "57.0 %" in of(seen, "missing")["Income"]["finding"] # missing incomes are bad risks
    if target in ("cnt", "species"): assert all(f.get_suptitle() for f in figures(seen, c))


def test_the_benchmark_runs():
    out = subprocess.run([sys.executable, ROOT/"benchmarks"/"explore.py", "--rows", "5000", "--columns", "12"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-2000:]
    assert "ratio" in out.stdout and "GiB" in out.stdout
