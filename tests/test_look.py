"""What is said of data before a project is made of them is true, hurts nobody, and makes a params.yaml with which the whole chain runs."""
import copy, gzip, shutil, sqlite3
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import DATASETS, EXAMPLE, PACKAGE, STAGES, clone
from mlcycle.collect import Params as CollectParams
from mlcycle.collect import load
from mlcycle.core import ProjectError, check_section
from mlcycle.folds import make_folds
from mlcycle.frame import Params as FrameParams
from mlcycle.look import COLLECT, PREPARE, data_name, first_lines, is_headless, look, name_target, proposal, report
from mlcycle.prepare import Params as PrepareParams


# ---- odd files, made here

def table(n, seed=0, rate=0.3):
    "A table from which a target `y` can be learned a little"
    rng = np.random.default_rng(seed)
    x, k, plan = rng.normal(size=n), rng.integers(0, 50, n), rng.choice(["basic", "pro", "max"], n)
    risk = x + 0.03*k + (plan == "pro") + rng.normal(size=n)
    return pd.DataFrame({"x":x.round(4), "k":k, "plan":plan, "y":np.where(risk > np.quantile(risk, 1 - rate), "yes", "no")})


def spell(folder, frame, name="t.csv", **how):
    "Write a table as CSV; the path"
    frame.to_csv(folder/name, **{"index":False} | how)
    return str(folder/name)


def bare(folder): return spell(folder, table(400), header=False), "-1"


def german(folder):
    "cp1252, semicolons, decimal commas, days written 31.12.2024, names with everything in them"
    t = table(600)
    t["Datum"] = pd.date_range("2023-01-01", periods=600).strftime("%d.%m.%Y")
    t = t.rename(columns={"x":"Größe (cm²)", "k":"Anzahl [Stück]", "plan":'Tarif, "neu".2024', "y":"gekündigt?"})
    t = t.replace({"gekündigt?":{"yes":"ja", "no":"nein"}})
    return spell(folder, t, sep=";", decimal=",", encoding="cp1252"), "gekündigt?"


def indexed(folder):
    "pandas' own index, a BOM, a column without values, one that is always the same, a logical target with gaps"
    t = table(500).assign(empty=None, land="DE")
    t["y"] = (t.y == "yes").astype(object).where(np.arange(500) % 9 > 0)
    return spell(folder, t, index=True, encoding="utf-8-sig"), "y"


def ten(folder):
    t = table(900)
    return spell(folder, t.assign(y=np.floor(pd.qcut(t.x, 10, labels=False) % 10).astype(int))), "y"


def rare(folder, n=10_000, positives=20):
    t = table(n, rate=positives/n)
    return spell(folder, t.assign(y=(t.y == "yes").astype(int))), "y"


def scarce(folder):
    "Five classes, one of them with four rows"
    t = table(700)
    return spell(folder, t.assign(y=np.where(np.arange(700) % 175 == 0, "e", pd.qcut(t.x, 4, labels=list("abcd")).astype(str)))), "y"


def members(folder):
    "Several rows of each customer, and no time"
    t = table(600).assign(customer_id=[f"C{i//4}" for i in range(600)])
    return spell(folder, t), "y"


def wordy(folder):
    "Hardly anything but texts"
    rng, t = np.random.default_rng(1), table(600)
    words = "the bill is wrong again please call me about my new contract it works fine thanks a lot for help".split()
    t["complaint"] = [" ".join(rng.choice(words, 12)) + (" angry" if y == "yes" and rng.random() < 0.7 else "") for y in t.y]
    t["subject"] = [" ".join(rng.choice(words, 3)) for _ in t.y]
    return spell(folder, t[["complaint", "subject", "plan", "y"]]), "y"


def sixty(folder): return spell(folder, table(60)), "y"


def sixty_amounts(folder):
    t = table(60)
    return spell(folder, t.assign(y=(10*t.x + t.k).round(2))), "y"


def wide(folder):
    noise = pd.DataFrame(np.random.default_rng(2).normal(size=(600, 200)).round(3), columns=[f"f{i}" for i in range(200)])
    return spell(folder, pd.concat([noise, table(600)], axis=1)), "y"


def doubled(folder): return spell(folder, pd.concat([table(300)[["plan", "k", "y"]].assign(k=lambda t: t.k % 4)]*3)), "y"


def leaky(folder):
    "A copy of the target, a column filled only for positives"
    t = table(800)
    return spell(folder, t.assign(copy=t.y, closed_on=np.where(t.y == "yes", "2024-05-01", None), mail=[f"a{i}@example.org" for i in range(800)])), "y"


def summed(folder):
    rng = np.random.default_rng(3)
    a, b, hour = rng.poisson(20, 900), rng.poisson(50, 900), np.arange(900) % 24
    return spell(folder, pd.DataFrame({"hour":hour, "casual":a + hour, "member":b, "all":a + b + hour})), "all"


def ordered(folder):
    "All of one class came before the other: a split by time has no second class to learn from"
    t = table(500).assign(day=pd.date_range("2023-01-01", periods=500))
    return spell(folder, t.assign(y=np.where(np.arange(500) < 350, "no", "yes"))), "y"


def panel(folder):
    "Customers by month"
    t = table(1200).assign(customer_id=[f"C{i % 100}" for i in range(1200)], month=np.repeat(pd.date_range("2023-01-01", periods=12, freq="MS"), 100))
    return spell(folder, t), "y"


def booked(folder):
    "Excel with dates, among them gaps"
    t = table(300).assign(day=pd.date_range("2024-01-01", periods=300))
    t.loc[::7, "x"] = np.nan
    t.to_excel(folder/"Größe 1.xlsx", index=False)
    return str(folder/"Größe 1.xlsx"), "y"


ODD = {f.__name__:f for f in (bare, german, indexed, ten, scarce, members, rare, wordy, sixty, sixty_amounts, wide, doubled, leaky, summed, ordered, panel,
                              booked)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    "What is seen of an odd file; each is looked at once"
    @cache
    def found(name): folder = tmp_path_factory.mktemp(name); return look(*ODD[name](folder), folder)
    return found


def refused(source, target, folder, *words):
    with pytest.raises(ProjectError) as e: look(source, target, folder)
    for w in words: assert w in str(e.value)
    return str(e.value)


# ---- the first line

HEADS = {"words over numbers": "id,price\n1,3.5\n2,4\n3,5", "years": "land,2019,2020,2021\nDE,5,2020,7\nFR,7,8,2019\nIT,1,2,3",
         "only years": "2019,2020\n5,6\n7,8\n2019,1",
         "years with gaps": "2010,2015,2020\n1,2,3\n4,5,6\n7,8,9", "pandas' own": "0,1,2\n5.1,6,7\n8,9,1\n1,2,3", "with an index": ",0,1\n0,5,6\n1,8,9\n2,1,1",
         "all words": "city,mood\nRome,good\nOslo,bad\nRome,bad", "one row": "1,2\n3,4",
         "a name that is a level too": "A,size\nA,1\nB,2\nA,3", "blank": ",,\n1,2,3\n4,5,6", "dates over words": "2024-01-01,b\nx,y\nz,w\nu,v"}
BARE = {"iris": "5.1,3.5,setosa\n4.9,3.0,setosa\n6.1,2.8,virginica\n5,3,virginica", "all numbers": "1,85,66,0\n8,183,64,1\n0,137,40,1\n5,116,74,0",
        "days": "01.02.2024,no\n05.02.2024,yes\n07.02.2024,no",
        "gaps": "39,?,State-gov,<=50K\n50,7,Private,<=50K\n38,8,State-gov,>50K",
        "levels": "red,round,yes\nblue,round,no\nred,flat,yes", "decimal commas": "1.5,no\n2.5,yes\n3.5,no",
        "free text beside": "1,Braund,male,7.25\n3,Heikkinen,female,7.925\n2,Allen,male,8.05"}


@pytest.mark.parametrize("text, bare", [*((t, False) for t in HEADS.values()), *((t, True) for t in BARE.values())], ids=[*HEADS, *BARE])
def test_a_first_line_is_a_header_unless_it_is_plainly_a_row(tmp_path, text, bare):
    (tmp_path/"t.csv").write_text(text)
    assert is_headless(first_lines(tmp_path/"t.csv")) == bare
    with gzip.open(tmp_path/"t.tsv.gz", "wt") as f: f.write(text.replace(",", "\t"))
    assert is_headless(first_lines(tmp_path/"t.tsv.gz")) == bare


def test_collect_reads_a_file_without_header_if_told(tmp_path):
    (tmp_path/"t.csv").write_text("1,x,0\n2,y,1\n3,z,0\n")
    pd.DataFrame([[1, "x"], [2, "y"]]).to_excel(tmp_path/"t.xlsx", header=False, index=False)
    def read(name, **how): return load(CollectParams(**COLLECT | {"source":name, "name":"t"} | how), tmp_path, tmp_path/"shelves").table.take()
    assert read("t.csv", header=False).values.tolist() == [["1", "x", "0"], ["2", "y", "1"], ["3", "z", "0"]] and len(read("t.csv")) == 2
    assert list(read("t.xlsx", header=False)) == ["column_1", "column_2"] and len(read("t.xlsx", header=False)) == 2
    from mlcycle.propose import propose
    with pytest.raises(ProjectError, match="no header, add one, or set `collect.header: false`"): propose(read("t.csv"), "t", "left")


def test_a_column_without_a_name_is_named_by_its_place(tmp_path):
    t = table(80)
    t.to_csv(tmp_path/"t.csv", header=False, index=False)
    numbered = t.set_axis(["column_1", "column_2", "column_3", "column_4"], axis=1)
    assert [name_target(n, numbered, True) for n in ("4", "-1", "column_4", "1", "-4")] == ["column_4"]*3 + ["column_1"]*2
    for wrong in ("0", "5", "-5", "1.0", "y"):
        with pytest.raises(ProjectError, match=f"no column `{wrong}`.*--target 1"): name_target(wrong, numbered, True)
    l = look("t.csv", "-1", tmp_path)
    assert l.contract.target.name == "column_4" and l.table["rows"] == 80 and proposal(l)["collect.header"] is False and "no header" in report(l)
    refused("t.csv", None, tmp_path, "`column_4` (two values, the last column)", "no header")


def test_a_number_names_no_place_where_columns_have_names(tmp_path):
    refused(spell(tmp_path, table(100)), "-1", tmp_path, "no column `-1`")
    years = table(100).rename(columns={"x":"2019", "k":"2020"})
    assert look(spell(tmp_path, years), "2019", tmp_path).contract.target.name == "2019"


# ---- what is found

def test_a_target_that_is_missing_or_wrong_is_asked_for(tmp_path):
    t = table(200).rename(columns={"y":"Churn"}).assign(last=range(200))
    said = refused(spell(tmp_path, t), None, tmp_path, "Which column", "`Churn` (called so, two values)", "--target 'Churn'")
    assert said.index("`Churn`") < said.index("`last`") < said.index("`x`") and "0.1" not in said
    refused(spell(tmp_path, t), "churn", tmp_path, "no column `churn`", "did you mean `Churn`")


BAD = {"empty": (b"", "y", "is empty (0 bytes)"), "cut off": (b"a,y\n1,no\n2", "y", "breaks off in its last line"),
       "only a header": (b"a,y\n", "y", "and no rows"), "binary": (b"\x89PNG\0\0", "y", "no text file"),
       "one value": (b"x,y\n" + b"".join(b"%d,no\n" % i for i in range(40)), "y", "only 'no'"),
       "no label": (b"x,y\n" + b"".join(b"%d,\n" % (i % 7) for i in range(40)), "y", "no value at all"),
       "two rows": (b"x,y\n1,no\n2,yes\n", "y", "2 rows with a label, 1 of the rarest class, are too few"),
       "a name as target": (b"x,y\n" + b"".join(b"%d,n%d\n" % (i % 7, i) for i in range(300)), "y", "too many for classes")}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_words_and_left_as_it_is(tmp_path, name):
    content, target, words = BAD[name]
    (tmp_path/"t.csv").write_bytes(content)
    refused("t.csv", target, tmp_path, words)
    assert [f.name for f in tmp_path.iterdir()] == ["t.csv"] and (tmp_path/"t.csv").read_bytes() == content


def test_what_is_not_there(tmp_path):
    spell(tmp_path, table(60), "sales.csv")
    refused("sale.csv", "y", tmp_path, "no such file", "sales.csv")
    refused("sklearn:irs", "y", tmp_path, "sklearn:iris")
    refused("sqlite:///none.db", "y", tmp_path, "query")


def test_any_source(tmp_path):
    t = table(300)
    for i in (1, 2): spell(tmp_path, t[150*i - 150:150*i], f"p{i}.csv")
    t.to_parquet(tmp_path/"t.parquet"), t.to_json(tmp_path/"t.jsonl", orient="records", lines=True), spell(tmp_path, t, "t.csv.gz")
    t.to_excel(tmp_path/"t.xlsx", index=False)
    spell(tmp_path, t, "t.tsv", sep="\t")
    for name in ("p*.csv", "t.parquet", "t.jsonl", "t.csv.gz", "t.xlsx", f"file://{tmp_path}/t.tsv"):
        l = look(name, "y", tmp_path)
        assert (l.table["rows"], l.table["counts"]) == (300, {"no":210, "yes":90}), name
        assert proposal(l)["collect.source"] == (name if "://" in name else f"data/raw/{name}")
    assert [f.name for f in look("p*.csv", "y", tmp_path).files] == ["p1.csv", "p2.csv"]
    with sqlite3.connect(tmp_path/"t.db") as db: t.to_sql("t", db, index=False)
    l = look(f"sqlite:///{tmp_path}/t.db", "y", tmp_path, "select * from t")
    assert l.table["rows"] == 300 and proposal(l)["collect.query"] == "select * from t" and l.name == "t"
    assert proposal(look("sklearn:iris", "target", tmp_path))["collect.source"] == "sklearn:iris"


def test_leaks_sums_copies_and_constants_are_said(seen):
    page = report(seen("leaky"))
    assert "`copy`: the same as the target" in page and "`closed_on`: whether it is missing" in page
    assert "nothing is learned from what is suspicious; one that is known in time: role `feature`" in page and "suspicious" not in report(seen("german"))
    assert "`mail`: shown nowhere" in page and "example.org" not in page
    assert "casual + member give the target exactly" in report(seen("summed"))
    page = report(seen("indexed"))
    assert "`empty`, `land`: the same" in page and "56 rows have no label" in page and "UTF-8 with BOM" in page and "`unnamed_1`: names a row" in page
    assert "exact copies are kept" in report(seen("doubled"))


def test_a_german_file_is_read_right(seen):
    l = seen("german")
    assert l.form == "cp1252, separated by semicolons" and l.contract.by_role("time") == ["Datum"]
    assert l.contract.positive == "ja" and l.contract.column("Größe (cm²)").type == "number"


@pytest.mark.parametrize("name, settings, words", [("rare", [], "(1 in 500)"),
    ("sixty", ["prepare.min_rows", "prepare.production", "prepare.test", "prepare.validation"], "parts of as few as 6"),
    ("ordered", ["collect.roles"], "not by `day`, which is set aside"), ("ten", [], "10 classes"), ("members", [], "divided       by `customer_id`")])
def test_few_rows_and_rare_classes_are_divided_all_the_same(seen, name, settings, words):
    l = seen(name)
    assert sorted(l.settings) == settings and words in report(l)


def test_too_few_of_a_class_are_refused(tmp_path):
    refused(*rare(tmp_path, 3000, 6), tmp_path, "3000 rows with a label, 6 of the rarest class", "10 of each class", "put classes together")


def test_few_rows_of_a_class_make_fewer_folds():
    y = np.array([0]*500 + [1]*3)
    for seed in range(20): assert all(y[b].sum() == 1 for _, b in make_folds(y, "binary", 5, seed)[0])


def test_a_class_in_several_spellings_is_one(tmp_path):
    t = table(300)
    t["y"] = np.where(t.y == "no", "no", np.where(t.k % 2, "Yes", "yes "))
    assert {*look(spell(tmp_path, t), "y", tmp_path).table["counts"].values()} == {210, 90}


def test_infinite_values_are_taken_as_missing(tmp_path):
    t = table(300)
    t["y"] = t.x.where(t.k < 45, np.inf)
    assert look(spell(tmp_path, t), "y", tmp_path).settings == {"prepare.infinite":"missing"}


def test_a_target_may_be_called_as_in_the_file(tmp_path):
    source = spell(tmp_path, table(300).rename(columns={"y":" _left  early"}))
    assert look(source, " _left  early", tmp_path).contract.target.name == "left early"


def test_sentences_name_nothing(seen):
    l = seen("wordy")
    assert l.contract.column("complaint").role == "feature" and l.contract.by_role("id") == [] and "nearly an identifier" in report(l)


# ---- what is proposed

def test_the_templates_own_values_are_what_look_takes_for_granted():
    assert EXAMPLE["prepare"] == PREPARE and {k:EXAMPLE["collect"][k] for k in COLLECT} == COLLECT
    PrepareParams(**PREPARE)


@pytest.mark.parametrize("name", ["panel", "leaky", "sixty_amounts", "german", "bare"])
def test_params_filled_in_are_valid_and_say_nothing_of_the_example(seen, name):
    params, was = copy.deepcopy(EXAMPLE), EXAMPLE["frame"]
    for key, value in proposal(seen(name)).items(): section, _, parameter = key.partition("."); params[section][parameter] = value
    for section, schema in {"frame":FrameParams, "collect":CollectParams, "prepare":PrepareParams}.items(): check_section(schema, params[section], section)
    kept = [k for k, v in params["frame"].items() if v == was[k] and v not in (None, [], {})]
    assert {*kept} <= {"status", "constraints", "edge", "metric", "positive", "qualify"}, kept
    assert yaml.safe_load(yaml.safe_dump(params)) == params


def test_a_unit_is_said_only_where_the_data_say_it(seen, tmp_path):
    assert proposal(seen("panel"))["frame.unit"] == "one customer_id at one month"
    assert proposal(seen("leaky"))["frame.unit"] is None                      # mail addresses name people
    named = table(200).assign(customerID=[f"C{i}" for i in range(200)], rownames=range(1, 201))
    assert proposal(look(spell(tmp_path, named), "y", tmp_path))["frame.unit"] == "one customerID"
    assert proposal(look(spell(tmp_path, named.drop(columns="customerID")), "y", tmp_path))["frame.unit"] is None


def test_risks_are_those_that_the_data_show(seen):
    risks = [r["risk"] for r in proposal(seen("leaky"))["frame.risks"]]
    assert len(risks) == 2 and "`copy`, `closed_on`" in risks[0] and "`mail`" in risks[1]
    assert "Only 20 of 10000" in proposal(seen("rare"))["frame.risks"][0]["risk"] and proposal(seen("bare"))["frame.risks"] == []


def test_a_page_stays_a_page(tmp_path):
    blank, names = {f"was blank {i}":[" ", "1"]*100 for i in range(12)}, {f"full_name_{i}":[f"Anna {i} Schmidt {j}" for j in range(200)] for i in range(4)}
    t = pd.concat([table(200), pd.DataFrame(blank)], axis=1).assign(**names)
    page = report(look(spell(tmp_path, t), "y", tmp_path))
    assert len(page.splitlines()) <= 40 and max(map(len, page.splitlines())) < 200 and "Schmidt" not in page


@pytest.mark.parametrize("source, name", [("Größe 1.xlsx", "Groe_1"), ("-x-.csv", "x"), ("数据.csv", "data"), ("a b.csv.gz", "a_b"),
    ("https://host/t.parquet?key=1", "t"), ("sklearn:breast_cancer", "breast_cancer"), ("x"*90 + ".csv", "x"*60)])
def test_data_get_a_safe_name(source, name):
    assert data_name(source) == name
    CollectParams(**COLLECT | {"source":"t.csv", "name":name})


# ---- slow: the whole chain with what is proposed, on real and on odd data

REAL = {"telco": ("telco_churn/Telco-Customer-Churn.csv", "Churn"), "bike": ("bike_sharing/hour.csv", "cnt"), "penguins": ("penguins/penguins.csv", "species"),
        "penguins_raw": ("penguins/penguins_raw.csv", "Species"),
        "noaa": ("noaa_weather/noaa_weather.csv", "rain"), "credit": ("credit_data/credit_data.csv", "Status"), "taxi": ("chicago_taxi_tips/taxi.csv", "tip"),
        "breast_cancer": ("sklearn:breast_cancer", "target"), "diabetes": ("sklearn:diabetes", "target")}


def run_on(tmp_path, home, source, target, **quicker):
    "A copy of the project on these data, run through to the end and checked"
    l = look(source, target, tmp_path)
    house = clone(tmp_path/"house", home, **quicker | {k.replace(".", "__", 1):v for k, v in proposal(l).items()})
    for f in l.files: (house.root/"data"/"raw").mkdir(parents=True, exist_ok=True); shutil.copy(f, house.root/"data"/"raw")
    house.sh(PACKAGE, "run", timeout=900)
    house.sh(PACKAGE, "check")
    assert all((house.root/"data"/verb).is_dir() for verb in STAGES)
    return house


@pytest.mark.chains
@pytest.mark.parametrize("name", REAL)
def test_the_whole_chain_runs_on_real_data(name, tmp_path, home):
    source, target = REAL[name]
    if "sklearn:" not in source and not DATASETS.exists(): pytest.skip(f"{DATASETS} is not there: set DATASETS to the folder of shared data sets")
    run_on(tmp_path, home, source if "sklearn:" in source else str(DATASETS/source), target)


@pytest.mark.chains
@pytest.mark.parametrize("name", ODD)
def test_the_whole_chain_runs_on_odd_data(name, tmp_path, home):
    run_on(tmp_path, home, *ODD[name](tmp_path), train__trials=4)
