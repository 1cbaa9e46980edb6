"Drift: distances that are SciPy's, false alarms at the rate that is promised, and the power that is left"
import numpy as np
import pandas as pd
import pytest
from scipy.special import rel_entr
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2_contingency, fisher_exact, mannwhitneyu, norm, poisson, wasserstein_distance

from conftest import EXAMPLE
from mlcycle.contract import Column, Contract, count_words, inputs
from mlcycle.core import tidy
from mlcycle.drift import (Counts, DriftSettings, compare, count_columns, count_values, count_window, distances, encode, flag, learn_joint, line_up, look_drift,
    p_levels, p_missing, p_order, p_value, pearson, profile_column, read_columns, reference_counts)
from mlcycle.package import make_profile

SETTINGS = DriftSettings(false_alarms=0.05, floor=0.1, recent=2)
LEVELS = np.array(["a", "b", "c", "d"], dtype=object)
ZIPF = 1/np.arange(1, 45)**1.3 # 44 levels, some of them rare
KINDS = {"normal": None, "skewed": None, "counts": poisson.pmf(np.arange(15), 2), "two-level": np.array([0.85, 0.15]), "44-level": ZIPF/ZIPF.sum()}
SIZES = (100, 1000, 10_000, 100_000)


def draw(rng, n, columns=10): return {f"c{i}": rng.normal(size=n) if i % 2 else rng.choice(LEVELS, n) for i in range(columns)}


def profiled(table, bins=10): return {n: profile_column(v, "number" if v.dtype == float else "category", bins) for n, v in table.items()}


def held_against(now, then, rows=1, floor=0.1): return flag(compare(count_columns(now, then), {n: reference_counts(c, rows) for n, c in then.items()}, then), 0.05, floor)


def sample(rng, kind, then, now, missing=0.02):
    "Counts of a profile and of a window without drift, and whether there is an order; without the rows, so that many can be drawn: the bins of a profile's number hold exactly a tenth each, and their true shares are a Dirichlet's"
    gone = rng.binomial(then, missing), rng.binomial(now, missing)
    if kind in ("normal", "skewed"): # skewed: three in ten are zero and have a bin of their own, seven bins hold the others
        zeros = rng.binomial(then - gone[0], 0.3)*(kind == "skewed")
        known = np.diff(np.linspace(0, then - gone[0] - zeros, 8 if zeros else 11).astype(int))
        shares = np.append(0.3, 0.7*rng.dirichlet(known)) if zeros else rng.dirichlet(known)
        return Counts(np.append(zeros, known) if zeros else known, gone[0]), Counts(rng.multinomial(now - gone[1], shares), gone[1]), True
    shares = KINDS[kind]/KINDS[kind].sum()
    old, new = rng.multinomial(then - gone[0], shares), rng.multinomial(now - gone[1], shares)
    if kind == "counts": # a number that the profile did not hold goes to the next smaller one
        place = np.maximum(np.cumsum(old > 0) - 1, 0)
        return Counts(old[old > 0], gone[0]), Counts(np.bincount(place, new, place[-1] + 1), gone[1]), True
    unseen = {f"l{i}": int(new[i]) for i in np.flatnonzero((old == 0) & (new > 0))}
    return Counts(old[old > 0], gone[0]), Counts(new[old > 0], gone[1], unseen), False


# ---- distances and tests are those of SciPy ----

@pytest.mark.parametrize("seed", range(5))
def test_distances_and_tests_equal_scipys(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(3, 12))
    middles = np.sort(rng.normal(size=k)*10)
    column = {"edges": [*(middles - 0.01), middles[-1] + 1], "middles": middles.tolist(), "counts": []}
    pair = rng.multinomial(3000, rng.dirichlet(np.full(k, 8)), size=1)[0] + 60, rng.multinomial(700, rng.dirichlet(np.full(k, 8)))  + 10
    then, now = (np.repeat(middles, c) for c in pair)
    found, (p, q) = distances(Counts(pair[0]), Counts(pair[1]), column), (c/c.sum() for c in pair)
    halves = [(c + 0.5)/(c + 0.5).sum() for c in pair]
    assert abs(found["psi"] - (rel_entr(*halves) + rel_entr(*halves[::-1])).sum()) < 1e-9
    assert abs(found["js"] - jensenshannon(p, q)) < 1e-9 and abs(found["share"] - abs(p - q).max()) < 1e-9 and found["effect"] == found["psi"]**0.5
    assert abs(found["wasserstein"] - wasserstein_distance(then, now)/then.std()) < 1e-9
    both = line_up(Counts(pair[0]), Counts(pair[1]), True)
    assert abs(p_order(both)[0]/mannwhitneyu(then, now, use_continuity=False, method="asymptotic").pvalue - 1) < 1e-9
    assert abs(pearson(both)/chi2_contingency(both, correction=False).statistic - 1) < 1e-9
    assert abs(p_levels(line_up(Counts(pair[0]), Counts(pair[1]), False))[0]/chi2_contingency(both, correction=False).pvalue - 1) < 1e-9
    few, many = np.array([[300, 2], [100, 3]]), np.array([[300, 20], [100, 30]])
    assert p_missing(few)[0] == fisher_exact(few).pvalue and abs(p_missing(many)[0]/chi2_contingency(many, correction=False).pvalue - 1) < 1e-9


def test_distances_of_categories_count_levels_that_are_new():
    then, now = Counts(np.array([600, 400])), Counts(np.array([300, 200]), 0, {"c": 500})
    found = distances(then, now, {"categories": {"a": 600, "b": 400}})
    assert np.isnan(found["wasserstein"]) and abs(found["share"] - 0.5) < 1e-12 and abs(found["js"] - jensenshannon([0.6, 0.4, 0], [0.3, 0.2, 0.5])) < 1e-9


# ---- false alarms ----

def rate(rng, kind, then, now, times): return np.mean([p_value(*sample(rng, kind, then, now)) <= 0.05 for _ in range(times)])


@pytest.mark.parametrize("kind", KINDS)
def test_p_values_keep_their_promise(kind):
    "Few repeats of many sizes; all of them in the next test"
    rng, times = np.random.default_rng(1), 25
    found = np.mean([rate(rng, kind, then, now, times) for then in (300, 3000, 100_000) for now in SIZES])
    n = times*12
    assert binom.ppf(0.0005, n, 0.05) <= found*n <= binom.ppf(0.9995, n, 0.05)


@pytest.mark.chains
@pytest.mark.parametrize("kind", KINDS)
def test_p_values_keep_their_promise_at_every_size(kind):
    rng, times = np.random.default_rng(2), 1600 # so that a rate of 5 % is not found to be 7.5 % by chance
    table = pd.DataFrame({now: {then: rate(rng, kind, then, now, times) for then in (300, 1000, 10_000, 100_000)} for now in SIZES})
    print(f"\n{kind}: share of p <= 0.05 without drift; rows of the profile (line), of the window (column)\n{table.round(3)}")
    assert table.to_numpy().max() <= 0.075 and 0.035 < table.to_numpy().mean() < 0.06


def windows_with_alarms(rng, now, times, then=3000, floor=0.):
    "Share of windows of ten columns without drift that raise an alarm"
    alarms, kinds = 0, [*KINDS]*2
    for _ in range(times):
        drawn = {f"{kind}{i}": sample(rng, kind, then, now) for i, kind in enumerate(kinds)}
        columns = {n: {"edges": list(range(len(d[0].known) + 1)), "counts": []} if d[2] else {"categories": {}} for n, d in drawn.items()}
        alarms += flag(compare({n: d[1] for n, d in drawn.items()}, {n: d[0] for n, d in drawn.items()}, columns), 0.05, floor)["drifted"].any()
    return alarms/times


def test_windows_raise_false_alarms_at_the_promised_rate_even_without_a_floor():
    rate = np.mean([windows_with_alarms(np.random.default_rng(3), now, 20) for now in SIZES])
    assert rate*80 <= binom.ppf(0.9995, 80, 0.05)


@pytest.mark.chains
@pytest.mark.parametrize("now", SIZES)
def test_windows_of_every_size_raise_false_alarms_at_the_promised_rate(now):
    rates = {f"{then:,} rows in the profile, floor {floor}": windows_with_alarms(np.random.default_rng(4), now, 400, then, floor) for then in (500, 10_000, 100_000) for floor in (0., 0.1)}
    print(f"\nwindows of {now:,}: " + "; ".join(f"{k}: {v:.1%}" for k, v in rates.items()))
    assert max(rates.values()) <= 0.075


def kinds_of_rows(rng, n):
    return {"normal": rng.normal(size=n), "skewed": rng.lognormal(size=n), "counts": rng.poisson(2, n).astype(float), "two-level": (rng.random(n) < 0.15).astype(float),
        "44-level": rng.choice(np.array([f"l{i:02}" for i in range(44)], dtype=object), n, p=ZIPF/ZIPF.sum())}


@pytest.mark.parametrize("then, now", [(500, 100), (2000, 1000)])
def test_real_rows_raise_false_alarms_at_the_promised_rate(then, now, times=40):
    rng, found = np.random.default_rng(5), []
    for _ in range(times): found.append(held_against(kinds_of_rows(rng, now), profiled(kinds_of_rows(rng, then)), floor=0.))
    p = pd.concat(found)
    assert (p["p"] <= 0.05).sum() <= binom.ppf(0.9995, times*5, 0.05) and sum(f["drifted"].any() for f in found) <= binom.ppf(0.9995, times, 0.05)


@pytest.mark.chains
@pytest.mark.parametrize("then, now, times", [(500, 100, 400), (2000, 1000, 400), (10_000, 10_000, 100), (20_000, 100_000, 20)])
def test_real_rows_of_every_size(then, now, times): test_real_rows_raise_false_alarms_at_the_promised_rate(then, now, times)


def test_customers_that_come_again_raise_no_more_alarms():
    "Twenty rows of each of fifty customers are no thousand rows"
    rng, then = np.random.default_rng(6), profiled({"stays": np.random.default_rng(7).normal(size=5000), "plan": np.random.default_rng(7).choice(LEVELS, 5000)})
    groups, alarms = np.repeat(np.arange(50), 20), {"rows": 0, "customers": 0}
    reference = {n: reference_counts(c) for n, c in then.items()}
    for _ in range(100):
        now = {"stays": rng.normal(size=50)[groups], "plan": rng.choice(LEVELS, 50)[groups]}
        for told, of in (("rows", None), ("customers", groups)): alarms[told] += flag(compare(count_columns(now, then, of), reference, then), 0.05, 0.)["drifted"].any()
    assert alarms["rows"] > 75 and alarms["customers"] <= binom.ppf(0.9995, 100, 0.05)
    once = count_columns({"stays": rng.normal(size=1000), "plan": rng.choice(LEVELS, 1000)}, then, groups)
    assert all(c.alike < 1.4 for c in once.values()) # what changes from row to row keeps its rows


def of_customers(rng, kind, customers, each, tie):
    "Rows of customers that come again; `tie`: the part of a row's variance that is the customer's"
    of = np.repeat(np.arange(customers), each)
    z = np.sqrt(tie)*rng.normal(size=customers)[of] + np.sqrt(1 - tie)*rng.normal(size=len(of))
    if kind == "missing": return np.where(z > 1, np.nan, rng.normal(size=len(z))), of
    return (z if kind == "number" else np.char.add("l", np.searchsorted((ZIPF/ZIPF.sum()).cumsum()[:-1], norm.cdf(z)).astype(str)).astype(object)), of


@pytest.mark.parametrize("kind, each, tie", [("number", 5, 0.5), ("number", 20, 0.5), ("missing", 20, 1.), ("44-level", 12, 1.)])
def test_customers_that_are_rather_alike_raise_no_more_alarms(kind, each, tie, times=60):
    "A customer's logins are always rather many: single bins hardly show it, the mean rank does (29 % of p <= 0.05 if only bins were asked)"
    rng, found = np.random.default_rng(26), []
    for i in range(times):
        (old, of), (new, at) = of_customers(rng, kind, 300, each, tie), of_customers(rng, kind, 80, each, tie)
        column = profile_column(old, "category" if kind == "44-level" else "number", 10, of)
        found.append(p_value(reference_counts(column), count_values(new, column, at), kind != "44-level") <= 0.05)
    print(f"{kind}, {each} rows a customer: {np.mean(found):.1%} of p <= 0.05")
    assert sum(found) <= binom.ppf(0.9995, times, 0.05)


@pytest.mark.chains
@pytest.mark.parametrize("kind", ["number", "missing", "44-level"])
@pytest.mark.parametrize("each, tie", [(5, 0.2), (5, 0.5), (20, 0.2), (20, 0.8), (12, 0.), (12, 1.)])
def test_customers_of_every_kind(kind, each, tie): test_customers_that_are_rather_alike_raise_no_more_alarms(kind, each, tie, 400)


@pytest.mark.parametrize("draw", [lambda rng, n: rng.integers(0, 7, n)/3, lambda rng, n: rng.integers(0, 10, n)*1e9/3, lambda rng, n: np.where(rng.random(n) < 0.2, np.inf, rng.normal(size=n))])
def test_a_profile_that_went_through_json_says_the_same(draw):
    "Two thirds become 0.6666666667, a hair above what the window's rows have; what is infinite is missing on both sides"
    rng = np.random.default_rng(27)
    then = tidy(profile_column(draw(rng, 3000), "number", 10))
    assert p_value(reference_counts(then), count_values(draw(rng, 1000), then), True) > 0.001


def test_the_profile_says_how_much_its_own_rows_tell():
    "Where customers come again among the training rows, the profile counts for less, too"
    groups = np.repeat(np.arange(100), 10)
    rows = people(np.random.default_rng(23), 1000).assign(a=np.random.default_rng(24).normal(size=100)[groups])
    columns, s = inputs(rows, CONTRACT), rows["_score"].to_numpy()
    alone, often = (make_profile(columns, groups, s, CONTRACT, {}, 10, groups=g) for g in ((None, None), (groups, groups)))
    assert "alike" not in alone["columns"]["a"] and 8 < often["columns"]["a"]["alike"] < 13 and often["columns"]["b"]["alike"] < 1.5
    shifted = count_values(np.random.default_rng(25).normal(0.15, 1, 1000), alone["columns"]["a"])
    p = [p_value(reference_counts(told["columns"]["a"]), shifted, True) for told in (alone, often)]
    assert p[1] > 10*p[0]


@pytest.mark.parametrize("wrong", [{"false_alarms": 0}, {"false_alarms": 1}, {"floor": -0.1}, {"recent": -1}, {"recent": 1.5}, {"flor": 0.1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))): DriftSettings(**{"false_alarms": 0.05, "floor": 0.1, "recent": 2} | wrong)


# ---- power ----

DEFAULT = EXAMPLE["monitor"]["drift"]["floor"]


def power(shift, now, then=10_000, columns=10, times=30, seed=8):
    "Of a shift in one of ten columns: share of p <= 0.05, share flagged with a floor of 0.1 and with the default one, share of p <= 0.05 by the chi-square alone"
    rng, found, calm = np.random.default_rng(seed), [], {n: {"edges": list(range(11)), "counts": []} for n in map(str, range(columns))}
    for _ in range(times):
        drawn = {n: sample(rng, "normal", then, now, 0.) for n in calm}
        old = drawn["0"][0].known
        edges = norm.ppf(np.append(0, rng.dirichlet(old).cumsum().clip(max=1))) # where the edges are if the bins hold these shares
        drawn["0"] = (Counts(old), Counts(rng.multinomial(now, np.diff(norm.cdf(edges - shift)).clip(0))), True)
        table = compare({n: d[1] for n, d in drawn.items()}, {n: d[0] for n, d in drawn.items()}, calm)
        flagged = [flag(table, 0.05, floor)["drifted"][0] for floor in (0.1, DEFAULT)]
        found.append((table["p"][0] <= 0.05, *flagged, chi2_contingency(line_up(*drawn["0"]), correction=False).pvalue <= 0.05))
    return np.mean(found, axis=0)


def test_shifts_are_found():
    names = ["p <= 0.05", "floor 0.1", "default", "chi-square"]
    table = pd.DataFrame({(shift, now): power(shift, now) for shift in (0.1, 0.2) for now in (100, 1000, 10_000)}, index=names).T
    print(f"\npower at a shift of 0.1 and 0.2 standard deviations, by rows of the window (10,000 in the profile); the default floor is {DEFAULT}\n{table.round(2)}")
    assert table.loc[(0.2, 1000), "p <= 0.05"] > 0.95 and table.loc[(0.2, 1000), "floor 0.1"] > 0.9 and table.loc[(0.1, 10_000), "p <= 0.05"] > 0.95
    assert (table["p <= 0.05"] >= table["chi-square"] - 0.05).all() and table.loc[(0.1, 1000), "p <= 0.05"] > table.loc[(0.1, 1000), "chi-square"] + 0.1
    assert table.loc[(0.2, 10_000), "default"] < 0.1 # below the floor: never flagged, however many rows


def test_the_floor_is_what_it_says():
    "With so many rows that chance plays no part, a bell curve that moved by more than the floor is flagged, by less is not"
    rng, then = np.random.default_rng(9), profiled({"x": np.random.default_rng(10).normal(size=100_000)})
    found = {d: held_against({"x": rng.normal(d, 1, 100_000)}, then, floor=0.3) for d in (0.2, 0.25, 0.35, 0.4)}
    assert [bool(t["drifted"][0]) for t in found.values()] == [False, False, True, True] and all(t["q"][0] < 1e-6 for t in found.values())
    assert 0.3 < found[0.2]["floor"][0] < 0.301 < held_against({"x": rng.normal(size=100)}, then, floor=0.3)["floor"][0] # it grows where rows are few


def test_large_shift_in_few_rows_is_no_alarm():
    rng = np.random.default_rng(2)
    found = [held_against(draw(rng, 20), profiled(draw(rng, 5000))) for _ in range(20)]
    assert np.mean([t["effect"].max() > 0.1 for t in found]) > 0.9 # an effect alone would cry wolf
    assert sum(t["drifted"].any() for t in found) <= binom.ppf(0.9995, 20, 0.05)


def test_a_column_that_was_mostly_zero_or_quite_missing_can_drift():
    rng = np.random.default_rng(0)
    spent = np.where(rng.random(2000) < 0.04, rng.gamma(2, 50, 2000), 0.)
    then = profiled({"spent": spent, "new": np.full(2000, np.nan)})
    assert len(then["spent"]["counts"]) > 1 and sum(then["spent"]["counts"]) == 2000
    found = held_against({"spent": np.where(rng.random(500) < 0.5, 40., 0.), "new": rng.normal(size=500)}, then, 2000)
    assert found["drifted"].tolist() == [True, True]
    assert held_against({"spent": rng.permutation(spent)[:500], "new": np.full(500, np.nan)}, then, 2000)["drifted"].tolist() == [False, False]


def test_rare_levels_that_nobody_had_seen_are_no_drift_and_a_frequent_one_is():
    rng, words = np.random.default_rng(11), np.array([f"w{i}" for i in range(400)], dtype=object)
    then, calm = profiled({"w": rng.choice(words, 600)}), rng.choice(words, 2000)
    seen = count_columns({"w": calm}, then)["w"]
    assert len(seen.unseen) > 50 and sum(seen.unseen.values()) > 300 and held_against({"w": calm}, then)["p"][0] > 0.01
    assert held_against({"w": np.where(rng.random(2000) < 0.1, "novel", calm)}, then)["drifted"][0]


# ---- a window: columns, score, predicted classes, what goes together ----

CONTRACT = Contract(name="t", task="binary", positive="yes", classes=["no", "yes"], columns=[*(Column(name=n, type="number", nullable=True) for n in ("a", "b", "c")),
    Column(name="level", type="category", nullable=True), Column(name="when", type="datetime", nullable=True), Column(name="note", type="text", nullable=True),
    Column(name="on", type="boolean", nullable=True), Column(name="mail", type="category", personal=True, nullable=True), Column(name="left", type="category", role="target")])


def people(rng, n, together=0.8, level=LEVELS):
    a = rng.normal(size=n)
    table = pd.DataFrame({"a": a, "b": together*a + np.sqrt(1 - together**2)*rng.normal(size=n), "c": rng.lognormal(size=n), "level": rng.choice(level, n),
        "when": pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "h"), "note": rng.choice(["", "too slow", "I am glad"], n), "on": rng.random(n) < 0.3, "mail": [f"{i}@b.org" for i in range(n)]})
    table.loc[::9, ["c", "level", "when"]] = None
    return table.assign(_score=1/(1 + np.exp(-table["a"])), _label=np.where(table["a"] > 1, "yes", "no"))


def make(contract=CONTRACT, seed=12, **more):
    rng = np.random.default_rng(seed)
    learned, held = inputs(people(rng, 3000), contract), people(rng, 1500)
    s = held["_score"].to_numpy()
    return make_profile(learned, np.zeros(3000, dtype=int), s, contract, {}, 10, held=inputs(held, contract), answers=np.column_stack([1 - s, s]), **more)


@pytest.fixture(scope="module")
def profile(): return make()


def test_columns_are_read_as_the_model_reads_them():
    rows = people(np.random.default_rng(13), 300)
    names = {c.name for c in CONTRACT.features}
    for table in (rows, rows.astype({"level": "category", "on": "object"}), rows.drop(columns=["note", "b"])):
        whole, one = inputs(table, CONTRACT), dict(read_columns(table, CONTRACT, names))
        whole["note"] = count_words(whole["note"])
        assert list(one) == list(whole) and all(np.array_equal(v, np.asarray(one[n]), equal_nan=v.dtype.kind == "f") for n, v in whole.items())


def test_columns_that_part_company_are_found_though_each_stays_as_it_was(profile):
    found = look_drift(people(np.random.default_rng(14), 1000, together=0.), [], CONTRACT, profile, SETTINGS)
    assert found["drifted"] == [] and not found["score"]["drifted"] and found["joint"]["drifted"] and found["joint"]["value"] > found["joint"]["expected"]
    assert found["joint"]["pairs"][0]["columns"] == ["a", "b"] and found["joint"]["pairs"][0]["then"] > 0.7 > 0.2 > abs(found["joint"]["pairs"][0]["now"])


def test_strangeness_raises_false_alarms_at_the_promised_rate():
    alarms, times = 0, 40
    profiles = [make(seed=100 + i) for i in range(4)]
    for i in range(times):
        alarms += look_drift(people(np.random.default_rng(i), 300), [], CONTRACT, profiles[i % 4], SETTINGS)["joint"]["p"] <= 0.05
    assert alarms <= binom.ppf(0.9995, times, 0.05)


def test_nothing_personal_is_in_the_profile_or_told(profile):
    found = look_drift(people(np.random.default_rng(15), 500), [], CONTRACT, profile, SETTINGS)
    assert "mail" not in {n for n, _ in profile["joint"]["encoded"]} | set(profile["columns"]) | set(found["counts"]) and "@b.org" not in str(found) + str(profile)
    assert "note" not in {n for n, _ in profile["joint"]["encoded"]} and "slow" not in str(found) + str(profile)


def test_drifted_columns_come_in_the_order_of_what_they_matter():
    rows = people(np.random.default_rng(16), 2000).assign(a=lambda t: t["a"] + 0.4, c=lambda t: t["c"]*3)
    for importance, first in [({"a": 0.2, "c": 0.1}, "a"), ({"a": 0.1, "c": 0.2}, "c")]:
        found = look_drift(rows, [], CONTRACT, make(importance=importance), SETTINGS)
        assert found["drifted"] == sorted("ac", key=lambda c: c != first) and {c["column"]: c["importance"] for c in found["columns"]}["a"] == importance["a"]


def test_a_drift_that_came_to_stay_is_news_once(profile):
    rng = np.random.default_rng(17)
    rows = [people(rng, 1500).assign(a=lambda t: t["a"] + d) for d in (0, 0, 0.5, 0.5)]
    counted = [count_window(r, CONTRACT, profile) for r in rows]
    of_a = [look_drift(w, counted[:i], CONTRACT, profile, SETTINGS)["columns"][0] for i, w in enumerate(counted)]
    assert [a["drifted"] for a in of_a] == [False, False, True, True] and [a["recent"] and a["recent"]["drifted"] for a in of_a[:3]] == [None, False, True]
    assert look_drift(rows[3], rows[2:3], CONTRACT, profile, SETTINGS)["columns"][0]["recent"]["drifted"] is False
    assert look_drift(counted[3], counted[:3], CONTRACT, profile, DriftSettings(false_alarms=0.05, floor=0.1, recent=0))["columns"][0]["recent"] is None


def test_predicted_classes_and_amounts_are_watched():
    rng, classes = np.random.default_rng(18), ["low", "mid", "high"]
    many = Contract(name="t", task="multiclass", classes=classes, columns=[Column(name="x", type="number"), Column(name="y", type="number"), Column(name="kind", type="category", role="target")])
    def answered(n, shares): return rng.choice(3, n, p=shares), {"x": rng.normal(size=n), "y": rng.normal(size=n)}
    place, columns = answered(2000, [0.5, 0.3, 0.2])
    answers = np.eye(3)[place]*0.4 + 0.2
    profile = make_profile(columns, place, answers.max(1), many, {}, 10, columns, answers)
    for shares, drifted in (([0.5, 0.3, 0.2], False), ([0.2, 0.3, 0.5], True)): # the score is 0.6 all the time
        place, columns = answered(1000, shares)
        found = look_drift(pd.DataFrame(columns).assign(_score=0.6, _label=np.array(classes)[place]), [], many, profile, SETTINGS)
        assert found["label"]["drifted"] is drifted and found["score"]["drifted"] is False
    amounts = Contract(name="t", task="regression", columns=[Column(name="x", type="number"), Column(name="y", type="number"), Column(name="z", type="number", role="target")])
    profile = make_profile(columns, place*1., columns["x"]*3, amounts, {}, 10, columns, columns["x"][:, None]*3)
    found = look_drift(pd.DataFrame(columns).assign(_value=columns["x"]*3 + 2), [], amounts, profile, SETTINGS)
    assert found["score"]["drifted"] and found["label"] is None and found["drifted"] == []


def test_a_profile_of_an_older_make_is_looked_at_without_what_it_lacks(profile):
    old = {k: v for k, v in profile.items() if k in ("version", "rows", "columns", "scores")}
    for c in old["columns"].values(): assert "alike" not in c
    old["columns"] = {n: {k: v for k, v in c.items() if k != "middles"} for n, c in old["columns"].items()}
    found = look_drift(people(np.random.default_rng(19), 500).assign(a=9.), [], CONTRACT, old, SETTINGS)
    assert found["drifted"] == ["a"] and found["joint"] is None and found["label"] is None and found["columns"][0]["importance"] is None
    less = CONTRACT.model_copy(update={"columns": [c for c in CONTRACT.columns if c.name != "b"]}) # a log that keeps no b
    found = look_drift(people(np.random.default_rng(19), 500).drop(columns="b"), [], less, profile, SETTINGS)
    assert found["joint"] is None and "b" not in found["counts"] and found["score"]["drifted"] is False


def test_empty_windows_one_row_and_columns_that_went_missing(profile):
    rows = people(np.random.default_rng(20), 400)
    for few in (rows.head(0), rows.head(1)):
        found = look_drift(few, [rows.head(0)], CONTRACT, profile, SETTINGS)
        assert found["drifted"] == [] and not found["score"]["drifted"] and not any(c["recent"] and c["recent"]["drifted"] for c in found["columns"])
    found = look_drift(rows.assign(a=np.nan, level=None), [], CONTRACT, profile, SETTINGS)
    assert {"a", "level"} == set(found["drifted"]) and {c["column"]: c["missing"] for c in found["columns"]}["a"] == 1


def test_the_order_of_rows_and_levels_changes_nothing(profile):
    rows = people(np.random.default_rng(21), 700, level=np.array([*"abcdefgh"], dtype=object))
    one, two = (look_drift(r, [], CONTRACT, profile, SETTINGS) for r in (rows, rows.sample(frac=1, random_state=0)))
    assert [(c["column"], c["p"], c["effect"], c["drifted"]) for c in one["columns"]] == [(c["column"], c["p"], c["effect"], c["drifted"]) for c in two["columns"]]
    assert set(one["unseen"]["level"]) == set("efgh")


def test_more_columns_than_the_correlations_take():
    rng = np.random.default_rng(22)
    columns = {f"c{i}": rng.normal(size=200) if i % 2 else rng.choice(np.array([*"abcdefgh"], dtype=object), 200) for i in range(80)}
    known = profiled(columns)
    joint = learn_joint(columns, columns, known, ["c79", *known], 10)
    assert len(joint["encoded"]) == 100 and joint["encoded"][0] == ["c79", None] and sum(n == "c0" for n, _ in joint["encoded"]) == 4
    assert np.isnan(encode({"c0": np.array(["a", "", "new"], dtype=object)}, known, [("c0", "a")])).ravel().tolist() == [False, True, True]
    assert learn_joint({"c1": columns["c1"]}, {"c1": columns["c1"]}, known, ["c1"], 10) is None
