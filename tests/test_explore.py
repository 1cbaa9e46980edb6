"What explore says about training rows is true, and it says nothing of what is personal."
import numpy as np
import pandas as pd
import pytest

from mlcycle.contract import coerce, propose
from mlcycle.core import tidy
from mlcycle.explore import Params, for_plots, look, plot_segments, plot_strengths, plot_target

P = Params(segments=8, min_rows=30, suspicious=0.9)


def table(n=3000):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, n)
    return pd.DataFrame({"when":pd.date_range("2024-01-01", periods=n, freq="h"), "x":x, "noise":rng.normal(0, 1, n), "code":rng.integers(0, 90, n).astype(str) + np.full(n, "x"),
        "gap":np.where(rng.random(n) < 0.1, np.nan, rng.normal(0, 1, n)), "phone":rng.choice(["0301", "0302"], n), "y":np.where(x + rng.normal(0, 1, n) > 1, "yes", "no")})


def explore(t, target="y", roles={}):
    c = propose(t, "t", target, roles)
    return *look(coerce(t, c), c, P), c


@pytest.mark.parametrize("target", ["binary", "multiclass", "regression"])
def test_every_task(target):
    t = table()
    t["y"] = {"binary":t.y, "multiclass":np.array(["a", "b", "c"])[np.digitize(t.x, [-0.5, 0.5])], "regression":t.x*3 + t.gap.fillna(0)}[target]
    found, segments, strengths, c = explore(t)
    assert max(strengths, key=strengths.get) == "x" and strengths["noise"] < 0.1 and strengths["code"] < 0.1
    assert tidy(found)[-1]["kind"] == "target" and len(for_plots(segments, strengths))
    for figure in (plot_target(t, c), plot_strengths(strengths, c), plot_segments(segments, strengths, c)): assert figure.axes[0].get_title()
    assert plot_target(t, c.model_copy(update={"columns":[k for k in c.columns if k.name != "when"]})).axes[0].get_title()


def test_leaks_by_value_and_by_absence():
    t = table().assign(reason=lambda t: np.where(t.y == "yes", "dear", None), closed=lambda t: np.where(t.y == "yes", np.arange(3000)/7, np.nan))
    found = explore(t)[0]
    assert {f["column"] for f in found if f["kind"] == "leak"} == {"reason", "closed"} and found[0]["kind"] == "leak"


def test_personal_values_stay_hidden():
    found, segments, _, c = explore(table())
    assert c.column("phone").personal and "phone" not in set(segments["column"]) and "0301" not in str(found) + segments.to_csv()


def test_columns_with_nothing_in_training():
    t = table()
    c = propose(t, "t", "y")
    found, segments, strengths = look(coerce(t.assign(gap=np.nan, code="a"), c), c, P)
    assert {f["column"] for f in found if f["kind"] == "constant"} == {"gap", "code"} and strengths["gap"] == strengths["code"] == 0
