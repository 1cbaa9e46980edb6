"""Files of real life load right or are refused in words; columns get the right types and roles; nothing private gets out."""
import gzip, json, sqlite3, tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import DATASETS
from mlcycle.collect import (Params, about_leaks, as_of, about_roles, about_values, check_agreement, contract_for, hold, leave_record, load, make_room, mask_found, merge_findings,
    overview, plot_missing, provenance, read_known, show_findings, write_parts)
from mlcycle.contract import ContractBroken, check_table, plain, read_contract
from mlcycle.core import ProjectError, check_section, read_file, write_file
from mlcycle.example import CHURN_TRUTH, make_churn
from mlcycle.gather import fill_in
from mlcycle.propose import observed_contract

DEFAULTS = dict(source="t.csv", name="t", query=None, join={}, rows=None, seed=0, roles={}, max_levels=100, encoding=None, separator=None, decimal=None, thousands=None)
GOAL = dict(target="y", task=None, positive=None, sensitive=[], forbidden=[], guardrails={}, qualify=dict(metrics={}, slices={}), fairness={}, costs=None, today=None)


def put(folder, text, name="t.csv", encoding="utf-8"):
    (folder/name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder


def read(folder, **changes):
    "The table as it is loaded, and what was found"
    loaded = load(Params(**(DEFAULTS | changes)), folder, Path(tempfile.mkdtemp()))
    return loaded.table.take(), " | ".join(f"{n['column']}: {n['found']} -> {n['done']} {n['rows']} {n['samples']}" for n in loaded.notes)


def collect(folder, goal={}, known=None, **changes):
    "All that the stage does between reading and writing"
    p, goal = Params(**(DEFAULTS | changes)), GOAL | goal
    loaded = load(p, folder, Path(tempfile.mkdtemp()), known)
    contract = contract_for(loaded, p, goal, known)
    typed, warnings = hold(loaded.table, contract, check_table(loaded.table, contract))
    findings = merge_findings(loaded.notes + warnings + about_leaks(typed, contract) + about_roles(typed, contract) + about_values(typed, contract), contract)
    return typed.take(), contract, findings


def refused(folder, *words, text=None, **changes):
    "Loading fails, and the message has these words"
    if text is not None: put(folder, text)
    with pytest.raises(ProjectError) as e: read(folder, **changes)
    for w in words: assert w in str(e.value)


def test_the_past_is_as_it_was_whatever_came_later(tmp_path):
    day = pd.date_range("2024-01-01", periods=400, freq="D")
    t = rows(400, day=day, known=day + pd.to_timedelta(np.arange(400) % 20, unit="D"))
    t.loc[t.index % 7 == 0, "known"] = None                          # labels whose arrival nobody wrote down
    t.loc[350, "known"] = pd.Timestamp("2030-01-01")                 # years late, and nobody knew that then
    def then(n, **changes):
        put(tmp_path, t[:n].to_csv(index=False))
        p = Params(**(DEFAULTS | {"until":"2024-07-01", "roles":{"day":"time", "known":"arrival"}} | changes))
        at = Path(tempfile.mkdtemp())
        loaded, now = as_of(load(p, tmp_path, at, None), p, GOAL, None, at)
        return loaded.table.take(), now
    (early, now), (late, _) = then(183), then(400)
    pd.testing.assert_frame_equal(early, late)
    assert now == 19905 and len(late) == 183 and late["y"].isna().sum() == late["y"][-20:].isna().sum() > 5 and late["y"][:160].notna().all()
    assert not (pd.to_datetime(late["known"]) > "2024-07-01").any()
    for words, changes in [("no column says when", dict(roles={"day":"id"})), ("no row of `day` is as old", dict(until="2020-01-01")), ("a date in quotes", dict(until=7.))]:
        with pytest.raises(ProjectError, match=words): then(400, **changes)


def rows(n=60, **columns):
    "A table with a target that can be learned a little"
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    return pd.DataFrame({"x":np.round(y + rng.normal(size=n), 3), **columns, "y":np.where(y, "yes", "no")})


# ---- CSV files that load right

@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators(tmp_path, encoding, separator):
    put(tmp_path, f"näme{separator}x\nMüller{separator}1\nЖ{separator}2\n" if encoding.startswith("utf") else f"näme{separator}x\nMüller{separator}1\n", encoding=encoding)
    table, said = read(tmp_path)
    assert list(table) == ["näme", "x"] and table.iloc[0].tolist() == ["Müller", "1"]
    assert ("not UTF-8" in said) == (encoding in ("latin-1", "cp1252"))


def test_euro_sign_of_cp1252(tmp_path):
    assert read(put(tmp_path, "a,b\nno €,1\n", encoding="cp1252"))[0].a[0] == "no €"


def test_encoding_given(tmp_path):
    put(tmp_path, "a,b\nМир,1\n", encoding="cp1251")
    assert read(tmp_path, encoding="cp1251")[0].a[0] == "Мир"
    refused(tmp_path, "collect.encoding", encoding="klingon")
    refused(tmp_path, "collect.encoding", encoding="utf-8")


def test_quotes(tmp_path):
    table, _ = read(put(tmp_path, 'a,b\n"line 1\nline 2",1\n"say ""hi"", all",2\n\n'))
    assert table.a.tolist() == ["line 1\nline 2", 'say "hi", all'] and table.b.tolist() == ["1", "2"]


def test_windows_line_ends_no_last_one_and_gzip(tmp_path):
    put(tmp_path, gzip.compress(b"a,b\r\n1,x\r\n2,y"), "t.csv.gz")
    assert read(tmp_path, source="t.csv.gz")[0].values.tolist() == [["1", "x"], ["2", "y"]]


def test_commas_in_texts_of_a_semicolon_file(tmp_path):
    assert read(put(tmp_path, "id;note\n1;hello, you\n2;well, yes, no\n3;x\n"))[0].shape == (3, 2)


def test_separator_given(tmp_path):
    assert list(read(put(tmp_path, "a~b\n1~2\n"), separator="~")[0]) == ["a", "b"]


def test_decimal_commas_and_thousands(tmp_path):
    table, said = read(put(tmp_path, "p;q;r;n\n1.234,50;1.234;0,5;-3\n3,5;20.000;1;7\n"))
    assert table.p.tolist() == ["1234.50", "3.5"] and table.q.tolist() == ["1234", "20000"] and table.r.tolist() == ["0.5", "1"] and table.n.tolist() == ["-3", "7"]
    assert "numbers are written like 1.234,50" in said


def test_thousands_commas(tmp_path):
    table, said = read(put(tmp_path, 'a,b\n"1,234",2.5\n"1,234,567",3\n'))
    assert table.a.tolist() == ["1234", "1234567"] and "written like 1,234" in said


def test_what_is_ambiguous_is_said_and_can_be_decided(tmp_path):
    put(tmp_path, 'a,b\n"1,234",x\n"5,678",y\n')
    table, said = read(tmp_path)
    assert table.a.tolist() == ["1234", "5678"] and "could be meant otherwise" in said
    assert read(tmp_path, decimal=",")[0].a.tolist() == ["1.234", "5.678"]
    assert read(tmp_path, thousands=",")[0].a.tolist() == ["1234", "5678"]


def test_thousandths_are_no_thousands(tmp_path):
    assert read(put(tmp_path, "a;b\n0.123;1\n0.456;2\n"))[0].a.tolist() == ["0.123", "0.456"]


@pytest.mark.parametrize("mark", ["", "NA", "NaN", "NULL", "n/a"])
def test_missing(tmp_path, mark):
    table, _ = read(put(tmp_path, f"a,b\n1,{mark}\n{mark},x\n"))
    assert table.isna().values.tolist() == [[False, True], [True, False]]


def test_blanks_among_numbers_are_missing_and_counted(tmp_path):
    put(tmp_path, rows(TotalCharges=["29.85"]*49 + [" "]*11).to_csv(index=False))
    typed, contract, findings = collect(tmp_path)
    assert contract.column("TotalCharges").type == "number" and typed.TotalCharges.isna().sum() == 11
    said = next(n for n in findings if n["column"] == "TotalCharges")
    assert "11 of 60 values are nothing but blanks" in said["found"] and said["rows"] == [49, 50, 51, 52, 53]


def test_marks_for_missing_only_among_numbers(tmp_path):
    table, said = read(put(tmp_path, "a,b\n1,None\n?,x\n-,y\n"))
    assert table.a.isna().tolist() == [False, True, True] and table.b.tolist() == ["None", "x", "y"] and "'?'" in said


def test_mixed_columns_stay_text_and_are_said(tmp_path):
    table, said = read(put(tmp_path, "a,b\n" + "1,x\n"*8 + "1 kg,x\nmany,x\n"))
    assert table.a.tolist()[-2:] == ["1 kg", "many"] and "8 numbers and 2 other texts" in said and "[8, 9] ['1 kg', 'many']" in said


def test_codes_keep_their_zeros(tmp_path):
    table, said = read(put(tmp_path, "zip,b\n01067,1\n80331,2\n"))
    assert table.zip.tolist() == ["01067", "80331"] and "leading zeros" in said


@pytest.mark.parametrize("text, want", [("31.12.2024", "2024-12-31"), ("12/31/2024", "2024-12-31"), ("31/12/2024 23:59", "2024-12-31 23:59"), ("2024/12/31", "2024-12-31")])
def test_dates(tmp_path, text, want):
    assert read(put(tmp_path, f"d,b\n{text},1\n"))[0].d[0] == pd.Timestamp(want)


def test_day_or_month_first(tmp_path):
    table, said = read(put(tmp_path, "d,b\n01/02/2024,1\n"))
    assert table.d[0] == "01/02/2024" and "day or month first?" in said


def test_names_that_come_twice(tmp_path):
    table, said = read(put(tmp_path, "a,a,b,b\n1,2,3,3\n"))
    assert list(table) == ["a", "a_2", "b"] and "there before" in said and "twice, with the same values" in said


def test_odd_names(tmp_path):
    table, said = read(put(tmp_path, " a ,_row,,\n1,2,3,\n"))
    assert list(table) == ["a", "row", "unnamed_3"] and "'_row'" in said and "neither a name nor values" in said


# ---- CSV files that are refused

@pytest.mark.parametrize("text, words", [
    ("", ["t.csv is empty (0 bytes)"]),
    ("\n\n", ["nothing but blank lines"]),
    ("a,b\n", ["has a header (a, b) and no rows"]),
    ("a,b,c\n1,2,3\n4,5", ["breaks off in its last line", "line 3 has 2 of 3 fields"]),
    ("a,b\n1,2\n1,2,3\n4,5\n", ["the header has 2 fields", "line 3 has 3", "double quotes"]),
    ("a,b,c\n1,2,3\n4,5\n6,7,8\n", ["line 3 has 2"]),
    ('a,b\n"x",2\n"y', ["t.csv"]),
    (b"PK\x03\x04\x00\x00", ["no text file"]),
])
def test_broken_csv(tmp_path, text, words): refused(tmp_path, *words, text=text)


def test_no_such_file(tmp_path):
    put(tmp_path, "a\n1\n", "customers.csv")
    refused(tmp_path, "no such file", "did you mean `customers.csv`", source="custommers.csv")
    refused(tmp_path, "no file matches", source="data/*.csv")
    refused(tmp_path, "a folder", source=".")
    refused(put(tmp_path, "x", "t.docx"), "Allowed: .csv", source="t.docx")


def test_files_that_differ(tmp_path):
    put(tmp_path, "a,b\n1,2\n", "p1.csv"); put(tmp_path, "b,a\n4,3\n", "p2.csv")
    assert read(tmp_path, source="p*.csv")[0].values.tolist() == [["1", "2"], ["3", "4"]]
    put(tmp_path, "a,c\n5,6\n", "p3.csv")
    refused(tmp_path, "p3.csv misses b; has c besides", source="p*.csv")


# ---- other sources

def test_parquet_jsonl_excel(tmp_path):
    table = rows(day=pd.date_range("2024-01-01", periods=60))
    table.to_parquet(tmp_path/"t.parquet"); table.to_json(tmp_path/"t.jsonl", orient="records", lines=True, date_format="iso"); table.to_excel(tmp_path/"t.xlsx", index=False)
    got = {end:collect(tmp_path, source=f"t.{end}")[0] for end in ("parquet", "jsonl", "xlsx")}
    for t in got.values(): pd.testing.assert_frame_equal(t, got["parquet"])
    put(tmp_path, '{"a":1}\n{"a":\n', "u.jsonl")
    refused(tmp_path, "line 2 of 2", source="u.jsonl")
    for name in ("u.parquet", "u.xlsx"): refused(put(tmp_path, "nonsense", name), name, "no readable", source=name)


def test_sqlite(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path/"shop.db") as db: rows().to_sql("sales", db, index=False)
    db.close()
    sql = dict(source="sqlite:///${SHOP}", query="select x, y from sales")
    refused(tmp_path, "environment variable SHOP", **sql)
    monkeypatch.setenv("SHOP", "shop.db")
    typed, contract, _ = collect(tmp_path, **sql)
    pd.testing.assert_frame_equal(typed, rows().astype({"y":"str"}))
    assert "shop.db" not in json.dumps(provenance(Params(**(DEFAULTS | sql)), typed, [], []))
    for change, words in [(dict(query=None), "collect.query"), (dict(query="select * from sails"), "no such table"), (dict(query="select * from sales where x > 99"), "no rows"), (dict(source="sqlite:///shap.db"), "there is none")]:
        refused(tmp_path, words, **(sql | change))


def test_passwords_stay_out(tmp_path, monkeypatch):
    refused(tmp_path, "holds a password", source="postgresql://me:hunter2@host/db", query="select 1")
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    assert fill_in("postgresql://me:${DB_PASSWORD}@host/db", {"DB_PASSWORD":"hunter2@"}) == "postgresql://me:hunter2%40@host/db"
    with pytest.raises(ProjectError) as e: read(tmp_path, source="postgresql://me:${DB_PASSWORD}@127.0.0.1:1/db", query="select 1")
    assert "hunter2" not in str(e.value)


def test_sklearn(tmp_path):
    typed, contract, _ = collect(tmp_path, dict(target="target"), source="sklearn:iris")
    assert contract.task == "multiclass" and contract.classes == ["setosa", "versicolor", "virginica"] and len(contract.features) == 4
    assert collect(tmp_path, dict(target="target"), source="sklearn:diabetes")[1].task == "regression"
    refused(tmp_path, "did you mean `wine`", source="sklearn:wines")


def test_sources_that_are_none(tmp_path):
    refused(tmp_path, "example:churn", source="example:chrun")
    refused(put(tmp_path, "a\n1\n"), "collect.query", query="select 1")


def test_rows(tmp_path):
    put(tmp_path, rows().to_csv(index=False))
    some = read(tmp_path, rows=10)[0]
    assert len(some) == 10 and some.equals(read(tmp_path, rows=10)[0])
    assert 1500 < len(read(tmp_path, source="example:churn", rows=2000)[0]) < 2500


# ---- targets

@pytest.mark.parametrize("change, goal, words", [
    ({}, dict(target="z"), ["no column `z`", "frame.target"]),
    ({}, dict(target="yy"), ["did you mean `y`"]),
    (dict(y="no"), {}, ["only 'no'", "nothing to learn"]),
    (dict(y=None), {}, ["no value at all"]),
    ({}, dict(positive="ja"), ["'ja'", "no, yes"]),
    ({}, dict(task="regression"), ["regression", "numbers"]),
    ({}, dict(sensitive=["agee"], target="y"), ["frame.sensitive", "agee"]),
])
def test_targets(tmp_path, change, goal, words):
    put(tmp_path, rows().assign(**change).to_csv(index=False))
    with pytest.raises(ProjectError) as e: collect(tmp_path, goal)
    for w in words: assert w in str(e.value)


def test_a_kept_contract_needs_two_classes_too(tmp_path):
    put(tmp_path, rows().to_csv(index=False))
    contract = collect(tmp_path)[1]
    put(tmp_path, rows().assign(y="no").to_csv(index=False))
    with pytest.raises(ProjectError, match="nothing to learn"): collect(tmp_path, known=contract)


def test_missing_labels_are_said(tmp_path):
    put(tmp_path, rows().assign(y=lambda t: t.y.where(t.index < 50)).to_csv(index=False))
    _, contract, findings = collect(tmp_path)
    assert contract.target.nullable and any("10 of 60 labels are missing" in n["found"] for n in findings)


# ---- roles

def test_roles_are_found_and_told(tmp_path):
    table = rows(customerID=[f"C{i:03d}" for i in range(60)], day=pd.date_range("2024-01-01", periods=60), empty=None, land="DE")
    table["copy"], table["note"] = table.x, [f"text {i}" for i in range(60)]
    put(tmp_path, table.to_csv(index=False))
    _, contract, findings = collect(tmp_path, max_levels=20)
    roles = {c.name:c.role for c in contract.columns}
    assert roles == dict(x="feature", customerID="id", day="time", empty="constant", land="constant", copy="forbidden", note="id", y="target")
    said = {n["column"]:n["found"] + n["done"] for n in findings}
    assert "no value at all" in said["empty"] and "fill it in the source" in said["empty"] and "same in all rows" in said["land"] and "duplicate of x" in said["copy"]


def test_leaks(tmp_path):
    table = rows(200).assign(reason=lambda t: np.where(t.y == "yes", "moved", None), closed=lambda t: np.where(t.y == "yes", "2024-05-01", None))
    _, contract, findings = collect(put(tmp_path, table.to_csv(index=False)))
    assert contract.by_role("leaking") == ["reason", "closed"] and any("on its own" in n["found"] for n in findings)
    trusted = collect(tmp_path, roles={"reason":"feature"})
    assert trusted[1].by_role("leaking") == ["closed"] and any("a feature all the same" in n["done"] for n in trusted[2])


def test_parts_of_a_sum(tmp_path):
    a, b, c = np.random.default_rng(0).poisson(9, (3, 300))
    _, contract, findings = collect(put(tmp_path, pd.DataFrame(dict(a=a, b=b, c=c, y=a + b)).to_csv(index=False)))
    assert contract.task == "regression" and contract.by_role("leaking") == ["a", "b"] and any("a + b give the target" in n["found"] for n in findings)


def test_noise_does_not_leak(tmp_path):
    table = rows(300, u=np.arange(300)**2 % 97, v=[f"k{i % 90}" for i in range(300)])
    assert collect(put(tmp_path, table.to_csv(index=False)))[1].by_role("leaking") == []


# ---- privacy

def test_personal_columns(tmp_path):
    table = rows(reach=[f"name{i}@example.org" for i in range(60)], line=[f"+49 170 {1234500 + i % 40}" for i in range(60)], phone=[f"{i}-x" for i in range(59)] + ["7"])
    typed, contract, findings = collect(put(tmp_path, table.to_csv(index=False)))
    for name in ("reach", "line", "phone"): assert contract.column(name).personal and contract.column(name).role != "feature"
    shown = overview(typed, contract).to_csv() + show_findings(findings).to_csv() + json.dumps(plain(contract)) + json.dumps(findings)
    for secret in ("@example", "+49", "58-x"): assert secret not in shown
    assert collect(tmp_path, roles={"reach":"feature"})[1].column("reach").role == "feature"


def test_personal_values_in_findings(tmp_path):
    table = rows(phone=[f"0049 89 {i}" if i < 10 else f"30{i}" for i in range(60)], PhoneService=["yes", "no", "no"]*20)
    _, contract, findings = collect(put(tmp_path, table.to_csv(index=False)))
    assert any("numbers and 10 other texts" in n["found"] for n in findings) and "0049" not in json.dumps(findings)
    assert not contract.column("PhoneService").personal and contract.column("PhoneService").categories == ["no", "yes"]


# ---- the contract that is kept

def test_a_kept_contract_is_used_and_decides(tmp_path):
    put(tmp_path, rows(day=pd.date_range("2024-01-01", periods=60)).to_csv(index=False))
    first = collect(tmp_path)[1]
    write_file(plain(first), tmp_path/"t.yaml")
    known = read_known(tmp_path/"t.yaml")
    assert known == first # what is proposed is what is read the next time
    assert collect(tmp_path, known=known)[1] is known
    for goal, roles, words in [(dict(target="x"), {}, "frame.target"), (dict(task="regression"), {}, "frame.task"), (dict(positive="no"), {}, "frame.positive"),
                               ({}, {"day":"feature"}, "day is feature"), ({}, {"dya":"time"}, "did you mean `day`"), (dict(sensitive=["x"]), {}, "frame.sensitive")]:
        with pytest.raises(ProjectError, match=words) as e: check_agreement(known, GOAL | goal, roles)
        assert "data/contracts/t.yaml" in str(e.value) and "collect.name" in str(e.value)


def test_a_broken_contract_stops(tmp_path):
    put(tmp_path, rows().to_csv(index=False))
    contract = collect(tmp_path)[1]
    put(tmp_path, rows().assign(x=lambda t: t.x.astype(object).where(t.index != 3, "much")).to_csv(index=False))
    with pytest.raises(ContractBroken) as e: collect(tmp_path, known=contract)
    for w in ("x ", "'much'", "  3  ", "data/contracts/t.yaml", "collect.name"): assert w in str(e.value)
    put(tmp_path, rows().rename(columns={"x":"xx"}).to_csv(index=False))
    with pytest.raises(ContractBroken, match="did you mean `xx`"): collect(tmp_path, known=contract)


def test_contract_files_that_are_wrong(tmp_path):
    for text, words in [("name: [", "not readable as YAML"), ("a: 1", "no contract"), ("", "no contract")]:
        (tmp_path/"t.yaml").write_text(text)
        with pytest.raises(ProjectError, match=words): read_known(tmp_path/"t.yaml")


# ---- the rest

def test_provenance_is_the_same_twice(tmp_path):
    put(tmp_path, rows().to_csv(index=False))
    def record():
        p = Params(**DEFAULTS)
        loaded = load(p, tmp_path, tmp_path/".shelves")
        contract = contract_for(loaded, p, GOAL, None)
        return provenance(p, hold(loaded.table, contract, check_table(loaded.table, contract))[0], loaded.sources, loaded.notes)
    assert record() == record() and record()["sources"][0]["files"][0]["name"] == "t.csv" and record()["rows"] == 60
    before = record()["sha256"]
    put(tmp_path, rows().assign(x=lambda t: t.x + 1).to_csv(index=False))
    assert record()["sha256"] != before


def test_infinite_and_wide(tmp_path):
    table = rows(200, many=[f"level {i}" for i in range(100)]*2).assign(x=lambda t: t.x.where(t.index != 5, np.inf))
    typed, contract, findings = collect(put(tmp_path, table.to_csv(index=False)), max_levels=50)
    assert contract.column("many").type == "text" and any("too many levels" in n["found"] for n in findings)
    assert any("infinite" in n["found"] and n["rows"] == [5] for n in findings)


def test_params():
    with pytest.raises(ProjectError, match="did you mean `separator`"): check_section(Params, DEFAULTS | {"seperator":";"}, "collect")
    with pytest.raises(ProjectError, match="collect.name"): check_section(Params, DEFAULTS | {"name":"../x"}, "collect")
    with pytest.raises(ProjectError, match="collect.rows"): check_section(Params, DEFAULTS | {"rows":"5"}, "collect")


def test_the_example_has_what_it_says():
    churn = make_churn()
    known = churn.dropna(subset="churned")
    assert 38_000 < len(churn) < 42_000 and 0.1 < (known.churned == "yes").mean() < 0.2
    assert (churn.plan == "family").groupby(churn.month).any().idxmax() == pd.Timestamp(CHURN_TRUTH[2]["from"])
    assert (known.churn_known_on == known.month + pd.DateOffset(months=2)).all() and known.month.max() == pd.Timestamp("2024-10-01")


REAL = {"telco_churn/Telco-Customer-Churn.csv":("Churn", "binary", dict(customerID="id")),
    "bike_sharing/hour.csv":("cnt", "regression", dict(instant="id", dteday="time", casual="leaking", registered="leaking")),
    "penguins/penguins.csv":("species", "multiclass", dict(rownames="id")),
    "penguins/penguins_raw.csv":("Species", "multiclass", {"rownames":"id", "Region":"constant", "Stage":"constant", "Date Egg":"time", "Individual ID":"group"}),
    "noaa_weather/noaa_weather.csv":("rain", "binary", dict(seq="id")),
    "credit_data/credit_data.csv":("Status", "binary", dict(rownames="id")),
    "chicago_taxi_tips/taxi.csv":("tip", "binary", dict(rownames="id"))}

@pytest.mark.parametrize("name", REAL)
def test_real_files(name):
    if not (DATASETS/name).exists(): pytest.skip(f"{DATASETS/name} is not there")
    target, task, roles = REAL[name]
    typed, contract, _ = collect(DATASETS, dict(target=target), source=name)
    assert contract.task == task and {c.name:c.role for c in contract.columns if c.role not in ("feature", "target")} == roles
    if "TotalCharges" in typed: assert contract.column("TotalCharges").type == "number" and typed.TotalCharges.isna().sum() == 11


# ---- what a second look found

def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path/".shelves.old").mkdir(); (tmp_path/".collect.lock").touch()
    with make_room(tmp_path) as room: assert {p.name for p in tmp_path.iterdir()} == {".collect.lock", room.rpartition("/")[2]}
    assert [p.name for p in tmp_path.iterdir()] == [".collect.lock"]


def test_slips_that_are_taken_as_missing_are_actions(tmp_path):
    _, first, _ = collect(put(tmp_path, rows(size=range(60)).assign(size=lambda t: t["size"] % 7).to_csv(index=False)))
    kept = read_contract(plain(first) | {"columns":[c | ({"broken":"repair", "fill":0} if c["name"] == "size" else {}) for c in plain(first)["columns"]]})
    typed, _, findings = collect(put(tmp_path, rows(size=["3"]*59 + ["many"]).to_csv(index=False)), known=kept)
    assert [(n["column"], n["count"], n["samples"]) for n in findings if n["action"]] == [("size", 1, ["'many'"])] and typed["size"].isna().sum() == 1


def test_a_contract_that_leaves_nothing_to_learn_from(tmp_path):
    _, first, _ = collect(put(tmp_path, rows().to_csv(index=False)))
    kept = read_contract(plain(first) | {"columns":[c | ({"role":"forbidden"} if c["name"] == "x" else {}) for c in plain(first)["columns"]]})
    with pytest.raises(ProjectError, match="leaves no column to learn from: x is forbidden"): collect(tmp_path, known=kept)


def test_personal_values_in_the_wrong_column_are_masked(tmp_path):
    _, first, _ = collect(put(tmp_path, rows(plan=["a", "b"]*30).to_csv(index=False)))
    table = load(Params(**DEFAULTS), put(tmp_path, rows(plan=[f"anna{i}@example.org" for i in range(60)]).to_csv(index=False)), tmp_path/".shelves", first).table
    found, wary = mask_found(check_table(table, first), table, first)
    leave_record(tmp_path/"runs", observed_contract(table, wary), found)
    with pytest.raises(ContractBroken) as e: hold(table, first, found)
    assert "plan" in str(e.value) and "anna" not in str(e.value) + "".join(p.read_text() for p in (tmp_path/"runs").iterdir())


def test_parquet_of_pandas(tmp_path):
    rows(list=[[1, 2]]*30 + [[3]]*30).set_index("x").to_parquet(tmp_path/"t.parquet")
    table, _ = read(tmp_path, source="t.parquet")
    assert sorted(table) == ["list", "x", "y"] and table["list"].tolist() == ["[1, 2]"]*30 + ["[3]"]*30 # an index with a name is a column
    rows().query("x > 0").to_parquet(tmp_path/"t.parquet")
    assert list(read(tmp_path, source="t.parquet")[0]) == ["x", "y"] # one without is none


def test_numbers_too_long_for_any_type(tmp_path):
    table, _ = read(put(tmp_path, '{"a":1, "b":"x"}\n{"a":123456789012345678901234567890, "b":"y"}\n', "t.jsonl"), source="t.jsonl")
    assert table.a.tolist() == ["1", "123456789012345678901234567890"]
