"""Storage, databases, several sources joined by keys, units, and tables that are larger than memory: collected right or refused in words."""
import contextlib, json, os, shutil, socket, subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlcycle.collect import check_agreement, leave_record, write_parts
from mlcycle.contract import Column, check_table
from mlcycle.core import ProjectError, check_section, read_file
from mlcycle.gather import Join, fill_in, join_source
from mlcycle.propose import observed_contract
from mlcycle.read import PART, Shelf, read_files, type_texts
from test_collect import DEFAULTS, GOAL, Params, collect, load, put, read, refused, rows

QUIET = dict(say=lambda *a: None)


def shelf_of(table, folder=None):
    shelf = Shelf(folder)
    shelf.append(table)
    return shelf


# ---- a table on disk

def test_a_shelf_is_a_table_by_column():
    table = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": pd.to_datetime(["2024-01-01", None, "2024-01-03"])})
    shelf = shelf_of(table[:2])
    shelf.append(table[2:].reset_index(drop=True))
    assert list(shelf) == shelf.columns == ["a", "b", "c"] and len(shelf) == 3 and "a" in shelf and "z" not in shelf
    pd.testing.assert_frame_equal(shelf.take(), table)
    shelf.put("a", shelf["a"] / 2)
    shelf.keep({"c": "when", "a": "half"})
    assert shelf.take().to_dict("list")["half"] == [0.5, 1, 1.5] and list(shelf) == ["when", "half"]
    with pytest.raises(ValueError, match="3 rows"): shelf.put("d", pd.Series([1]))
    with pytest.raises(KeyError): shelf["b"]


def test_parts_are_the_whole(tmp_path):
    n = 2*PART + 7
    table = pd.DataFrame({"a": np.arange(n), "b": (np.arange(n) % 5).astype(str)})
    shelf = Shelf()
    for name in table: shelf.put(name, table[name])
    assert [len(p) for p in shelf.parts()] == [PART, PART, 7]
    write_parts(shelf, tmp_path/"t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path/"t.parquet"), table)


def test_what_is_odd_far_down_is_seen(tmp_path):
    "Columns are looked at piece by piece; what the last piece holds decides with the others"
    n = PART + 10
    table = pd.DataFrame({"a": ["1"]*n, "b": ["3,5"]*n, "c": ["31.12.2024"]*n, "d": ["80 kg"]*n})
    table.loc[n - 1] = ["x", "?", "yesterday", "11 lb"]
    table.loc[n - 2, "a"] = " "
    shelf = shelf_of(table)
    notes, units = type_texts(shelf, **QUIET)
    said = {n["column"]: n for n in notes}
    assert shelf["a"].iloc[-1] == "x" and said["a"]["found"].startswith(f"{n - 2} numbers and 1 other") and said["a"]["rows"] == [n - 1]
    assert shelf["b"].iloc[0] == "3.5" and pd.isna(shelf["b"].iloc[-1]) and shelf["c"].iloc[-1] == "yesterday"
    assert units == {"d": "kg"} and shelf["d"].iloc[-1] == pytest.approx(4.98952, abs=1e-5) and said["d"]["count"] == n


def test_long_files_are_read_part_by_part(tmp_path):
    n = PART + 3
    pd.DataFrame({"k": np.arange(n), "x": "a"}).to_csv(tmp_path/"t.csv", index=False)
    (tmp_path/"t.jsonl").write_text("".join(f'{{"k":{i}}}\n' for i in range(n)) + '{"x":"late"}\n')
    assert read_files([tmp_path/"t.csv"], **QUIET)[0]["k"].tolist() == [str(i) for i in range(n)]
    late = read_files([tmp_path/"t.jsonl"], **QUIET)[0]
    assert late["x"].isna().sum() == n and late["x"].iloc[-1] == "late" and len(late) == n + 1


def test_long_tables_are_typed_early_and_mean_the_same(tmp_path, monkeypatch):
    import mlcycle.read as module
    table = rows(n=60).assign(whole=range(60, 0, -1), gaps=[None, "3"]*30, day="2024-05-01", code="007", exact=["1.50", "2.00", "3.25"]*20, plan=["1", "2", "3"]*20)
    put(tmp_path, table.to_csv(index=False))
    short, contract, _ = collect(tmp_path)
    kept = contract.model_copy(update={"columns": [c.model_copy(update={"type": "category", "categories": None}) if c.name == "exact" else c for c in contract.columns]})
    texts = collect(tmp_path, known=kept)[0].exact
    monkeypatch.setattr(module, "LONG", 10)
    assert load(Params(**DEFAULTS), tmp_path, tmp_path/".s").table["x"].dtype == "float64"
    again, same, _ = collect(tmp_path)
    pd.testing.assert_frame_equal(again, short)
    assert same == contract and collect(tmp_path, known=kept)[0].exact.equals(texts) and texts[0] == "1.50"


def test_long_reads_tell_how_far_they_are(tmp_path, monkeypatch):
    import mlcycle.read as module
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    said = []
    read_files([Path(put(tmp_path, "a,b\n1,2\n")/"t.csv")], say=said.append)
    assert any("1 rows so far" in s for s in said) and any("lines looked over" in s for s in said)


# ---- units

@pytest.mark.parametrize("texts, want, unit", [
    (["12 %", "7.5%"], [12, 7.5], "%"), (["€ 3,50", "1.200,00 €"], [3.5, 1200], "EUR"), (["$1,200.50", "$-3"], [1200.5, -3], "$"),
    (["80 kg", "81 kg"], [80, 81], "kg"), (["1 km", "500 m", "2 km"], [1, 0.5, 2], "km"), (["20 °C", "68 °F", "21 °C"], [20, 20, 21], "°C"), (["36 months", "60 months"], [36, 60], "months")])
def test_units(tmp_path, texts, want, unit):
    table = rows(size=[texts[i % len(texts)] for i in range(60)])
    typed, contract, findings = collect(put(tmp_path, table.to_csv(index=False, sep=";")))
    assert typed["size"].tolist()[:len(want)] == pytest.approx(want) and contract.column("size").unit == unit and contract.column("size").type in ("number", "integer")
    note = next(n for n in findings if n["column"] == "size" and n["action"])
    assert "carry units" in note["found"] and note["count"] == 60 and texts[0] in note["done"]


@pytest.mark.parametrize("texts, words", [(["5 kg", "3 m"], "different kinds"), (["€5", "$3"], "different kinds"), (["5 kg", "3 lb", "2"], "without one"), (["12A", "14B"], "")])
def test_units_that_stay_text(tmp_path, texts, words):
    table, said = read(put(tmp_path, pd.DataFrame({"size": texts*4, "b": 1}).to_csv(index=False)))
    assert table["size"].tolist()[:2] == texts[:2] and words in said


def test_the_contract_says_which_unit(tmp_path):
    put(tmp_path, rows(size=[f"{3*i} kg" for i in range(60)]).to_csv(index=False))
    first = collect(tmp_path)[1]
    put(tmp_path, rows(size=[f"{3000*i} g" for i in range(60)]).to_csv(index=False))
    typed, _, findings = collect(tmp_path, known=first)
    assert typed["size"].tolist() == pytest.approx([3*i for i in range(60)]) and any("unit kg" in n["done"] for n in findings)


def test_findings_say_whether_a_value_was_changed(tmp_path):
    found = collect(put(tmp_path, rows(total=["29.85"]*49 + [" "]*11, note=[f"{i} and more" for i in range(60)], zip="01067").to_csv(index=False)))[2]
    assert [(n["column"], n["count"]) for n in found if n["action"]] == [("total", 11)]


def test_personal_values_are_quoted_nowhere(tmp_path):
    table = rows(birth_date=[f"{1 + i % 28}.{1 + i % 12}.{1950 + i % 50}" for i in range(60)], phone=[f"0049 89 {i}" if i < 10 else f"30{i}" for i in range(60)])
    _, contract, findings = collect(put(tmp_path, table.to_csv(index=False)))
    assert contract.column("birth_date").personal and any("dates are written like (masked)" in n["found"] for n in findings)
    assert "1.1950" not in json.dumps(findings) and "0049" not in json.dumps(findings) + json.dumps(contract.model_dump())


# ---- several sources

def two(folder, right, **join):
    "A table `t.csv` of 60 rows with the key k, and a source `labels` beside it"
    put(folder, rows(k=[f"{i:03d}" for i in range(60)]).drop(columns="y").to_csv(index=False))
    put(folder, right.to_csv(index=False), "labels.csv")
    return dict(join={"labels": {"source": "labels.csv", "on": ["k"], **join}})


def answers(n=60, **columns):
    return pd.DataFrame({"k": np.arange(n)[::-1], "y": rows(60).y.to_numpy()[:n][::-1], **columns})


def test_labels_of_their_own_with_a_time_of_arrival(tmp_path):
    days = pd.date_range("2024-01-01", periods=60).astype(str)
    more = two(tmp_path, answers(50, known=days[:50]), unmatched=0.2, arrival="known")
    typed, contract, findings = collect(tmp_path, **more)
    assert typed.y.tolist()[:50] == rows(60).y.tolist()[:50] and typed.y.isna().sum() == 10 # 007 there is 7 here
    assert contract.column("known").role == "arrival" and contract.target.name == "y"
    said = {n["found"]: n for n in findings}
    assert said["10 of 60 rows have no match in the source `labels`"]["rows"] == [50, 51, 52, 53, 54]
    assert any("written differently" in f and n["action"] for f, n in said.items())
    with pytest.raises(ProjectError, match="known is arrival"):
        check_agreement(contract.model_copy(update={"columns": [c.model_copy(update={"role": "feature"}) if c.name == "known" else c for c in contract.columns]}), GOAL, {}, {"known": "arrival"})


def test_a_join_is_on_record(tmp_path):
    loaded = load(Params(**(DEFAULTS | two(tmp_path, answers(z=1).assign(k=lambda t: t.k.map("{:03d}".format))))), tmp_path, tmp_path/".s")
    table, labels = loaded.sources
    assert (table["name"], labels["name"], labels["rows"], labels["join"]) == ("table", "labels", 60, {"on": {"k": "k"}, "how": "left", "unmatched": 0, "unused": 0, "rows_before": 60, "rows_after": 60})
    assert labels["source"] == "labels.csv" and len(labels["sha256"]) == 64 and labels["bytes"] == (tmp_path/"labels.csv").stat().st_size


def test_inner_leaves_rows_out(tmp_path):
    typed, _, findings = collect(tmp_path, **two(tmp_path, answers(55), unmatched=0.2, how="inner"))
    assert len(typed) == 55 and any(n["done"] == "left out" and n["action"] and n["count"] == 5 for n in findings)


def test_names_that_both_have(tmp_path):
    loaded = load(Params(**(DEFAULTS | two(tmp_path, answers(x=5)))), tmp_path, tmp_path/".s")
    assert "labels_x" in loaded.table and any("called `labels_x` here" in n["done"] for n in loaded.notes)


@pytest.mark.parametrize("change, join, words", [
    (lambda t: pd.concat([t, t[:2]]), {}, ["4 of its 62 rows share their key", "k 59 (row 0)", "One row a key is wanted"]),
    (lambda t: t[:30], {}, ["no match for 30 of 60 rows (50 %)", "allows 5 %", "k 0"]),
    (lambda t: t.assign(k="C" + t.k.astype(str)), {}, ["no match for 60 of 60", "Its own keys begin with: k C59"]),
    (lambda t: t, dict(on=["kk"]), ["collect.join.labels.on", "did you mean `k`"]),
    (lambda t: t, dict(on={"k": "key"}), ["the source `labels` does not have"]),
    (lambda t: t, dict(arrival="knwon"), ["collect.join.labels.arrival"]),
    (lambda t: t, dict(arrival="y"), ["is of type category", "2025-07-31"]),
    (lambda t: t, dict(source="lables.csv"), ["collect.join.labels.source", "did you mean `labels.csv`"]),
    (lambda t: t, dict(query="select 1"), ["collect.join.labels.query"]),
    (lambda t: t, dict(source="example:churn"), ["not joined to anything"]),
])
def test_joins_that_are_refused(tmp_path, change, join, words):
    refused(tmp_path, *words, **two(tmp_path, change(answers()), **join))


def test_personal_keys_are_masked(tmp_path):
    more = two(tmp_path, answers().assign(mail=lambda t: t.k.map("m{}@example.org".format)), on={"mail": "mail"})
    put(tmp_path, rows(mail=[f"x{i}@example.org" for i in range(60)]).drop(columns="y").to_csv(index=False))
    with pytest.raises(ProjectError) as e: read(tmp_path, **more)
    assert "(masked)" in str(e.value) and "example.org" not in str(e.value)


def test_keys_that_the_contract_calls_personal_are_masked(tmp_path):
    shelves = [Shelf(), Shelf()]
    for shelf, first in zip(shelves, (0, 900)): shelf.append(pd.DataFrame({"k":[f"{first + i}" for i in range(60)], f"v{first}":range(60)}))
    def refusal(**kept):
        with pytest.raises(ProjectError) as e: join_source(*shelves, Join(source="x", on=["k"]), "labels", **kept)
        return str(e.value)
    assert "k 900" in refusal() and "(masked)" in (hidden := refusal(kept={"k":Column(name="k", type="text", personal=True)})) and "k 900" not in hidden


def test_keys_that_came_as_floats(tmp_path):
    table, said = read(tmp_path, **two(tmp_path, answers().assign(k=lambda t: t.k.astype(float))))
    assert table.y.notna().all() and "compared as numbers" in said


def test_two_arrivals_are_one_too_many(tmp_path):
    more = two(tmp_path, answers(known=pd.date_range("2024-03-01", periods=60)), arrival="known")
    with pytest.raises(ProjectError, match="2 columns have the role `arrival`"): collect(tmp_path, join=more["join"] | {"again": more["join"]["labels"]})


def test_a_sign_has_one_meaning(tmp_path): refused(tmp_path, "`collect.decimal` and `collect.thousands` are both ','", text="a,b\n1,x\n", decimal=",", thousands=",")


def test_a_join_is_no_path():
    with pytest.raises(ProjectError, match="should match pattern"): check_section(Params, DEFAULTS | {"join": {"../..": {"source": "a.csv", "on": ["k"]}}}, "collect")


def test_joins_in_the_parameters():
    good = {"labels": {"source": "x.csv", "on": ["k"]}}
    assert check_section(Params, DEFAULTS | dict(join=good), "collect").join["labels"].unmatched == 0.05
    for change, words in [({"on": []}, "collect.join.labels.on"), ({"how": "outer"}, "'left' or 'inner'"), ({"unmatched": 5}, "less than or equal to 1"), ({"unmached": 0.1}, "unmached")]:
        with pytest.raises(ProjectError) as e: check_section(Params, DEFAULTS | dict(join={"labels": good["labels"] | change}), "collect")
        assert words in str(e.value)


# ---- the charter, and the contract's record

def test_what_the_charter_forbids(tmp_path):
    put(tmp_path, rows(race=["a", "b", "c"]*20).to_csv(index=False))
    contract = collect(tmp_path, dict(forbidden=["race"], sensitive=["race"]))[1]
    assert contract.column("race").role == "forbidden" and contract.column("race").sensitive
    for goal, roles, words in [(dict(forbidden=["rase"]), {}, "did you mean `race`"), (dict(forbidden=["race"]), {"race": "feature"}, "Take it out of one of the two")]:
        with pytest.raises(ProjectError, match=words): collect(tmp_path, goal, roles=roles)
    with pytest.raises(ProjectError, match="frame.forbidden"): collect(tmp_path, dict(forbidden=["race"]), known=collect(tmp_path)[1])


def test_what_the_data_show_is_left_for_a_person(tmp_path):
    put(tmp_path, rows().to_csv(index=False))
    contract = collect(tmp_path)[1]
    for y, broken in [("maybe", True), ("no", False)]:
        table = shelf_of(rows().assign(y=lambda t: t.y.where(t.index != 3, y)))
        found = check_table(table, contract)
        leave_record(tmp_path/"runs", observed_contract(table, contract), found)
        assert (tmp_path/"runs/t.broken.json").exists() == broken and read_file(tmp_path/"runs/t.yaml")["name"] == "t"
        if broken: assert read_file(tmp_path/"runs/t.broken.json")[0]["rows"] == [3]


# ---- storage

def test_storage_through_fsspec(tmp_path):
    import fsspec
    memory = fsspec.filesystem("memory")
    memory.pipe({"/shop/a.csv": b"k,v\n1,x\n", "/shop/b.csv": b"k,v\n2,y\n"})
    loaded = load(Params(**(DEFAULTS | dict(source="memory://shop/*.csv"))), tmp_path, tmp_path/".s")
    assert loaded.table["k"].tolist() == ["1", "2"] and [f["name"] for f in loaded.sources[0]["files"]] == ["a.csv", "b.csv"]
    assert any("outside data/raw" in n["found"] for n in loaded.notes)
    refused(tmp_path, "no such file in that storage", source="memory://shop/c.csv")
    refused(tmp_path, "no such file in that storage", source="memory://shop/*.tsv")


def test_storage_that_nothing_reads(tmp_path):
    refused(tmp_path, "pip install gcsfs", source="gs://bucket/t.csv")
    refused(tmp_path, "neither a database nor a storage", source="s4://bucket/t.csv", query="select 1")
    refused(tmp_path, "pip install mysqlclient", source="mysql://host/db", query="select 1")


@pytest.mark.parametrize("source", ["https://me:hunter2@host/t.csv", "https://host/t.csv?X-Amz-Signature=hunter2", "s3://key:hunter2@bucket/t.csv", "postgresql://me:hunter2@host/db"])
def test_credentials_in_addresses_are_refused(tmp_path, source):
    with pytest.raises(ProjectError) as e: read(tmp_path, source=source, query="select 1")
    assert "hunter2" not in str(e.value) and "${DB_PASSWORD}" in str(e.value)


@pytest.fixture(scope="module")
def port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


@pytest.fixture
def s3(monkeypatch, tmp_path):
    "A server that speaks S3, on loopback"
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in dict(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="hunter2", AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true").items(): monkeypatch.setenv(key, value)
    import s3fs
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_s3(tmp_path, s3):
    s3.mkdir("shop")
    table = rows(200)
    for i, part in enumerate([table[:120], table[120:]]): s3.pipe(f"shop/2024/part{i}.csv", part.to_csv(index=False).encode())
    typed, contract, findings = collect(tmp_path, source="s3://shop/2024/*.csv")
    pd.testing.assert_frame_equal(typed, table.astype({"y": "str"}))
    record = load(Params(**(DEFAULTS | dict(source="s3://shop/2024/*.csv"))), tmp_path, tmp_path/".s").sources[0]
    assert record["source"] == "s3://shop/2024/*.csv" and record["bytes"] == sum(s3.size(f"shop/2024/part{i}.csv") for i in (0, 1)) and "hunter2" not in json.dumps(record)
    refused(tmp_path, "no such file in that storage", source="s3://shop/2025.csv")


# ---- PostgreSQL, a real server

def _postgres():
    "Where PostgreSQL's programs are"
    places = [Path(p).parent for p in [shutil.which("initdb")] if p] + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p/"initdb").exists() and (p/"pg_ctl").exists()), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory, port):
    "A PostgreSQL server of our own, in a folder of its own, run by another user if we are root"
    programs = _postgres()
    if not programs: pytest.skip("PostgreSQL is not installed (no initdb in PATH or /usr/lib/postgresql)")
    folder = Path(tmp_path_factory.mktemp("postgres"))
    as_user = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"): pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
        for p in [folder, *folder.parents]:
            if str(p).startswith(str(Path("/tmp")/"pytest-of")): p.chmod(p.stat().st_mode | 0o011)
        shutil.chown(folder, 65534, 65534)
        as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    def run(*words): return subprocess.run([*as_user, *map(str, words)], capture_output=True, text=True, cwd=folder, env=os.environ | {"HOME": str(folder)}, timeout=120)
    (folder/"password").write_text("hunter2@")
    made = run(programs/"initdb", "-D", folder/"db", "-U", "tester", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync", "-E", "UTF8", "--locale=C")
    if made.returncode: pytest.skip(f"initdb does not work here: {made.stderr[-300:]}")
    started = run(programs/"pg_ctl", "-D", folder/"db", "-w", "-l", folder/"log", "-o", f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off", "start")
    assert started.returncode == 0, (folder/"log").read_text()[-2000:]
    yield f"postgresql+psycopg://tester:${{DB_PASSWORD}}@127.0.0.1:{port}/postgres"
    run(programs/"pg_ctl", "-D", folder/"db", "-m", "immediate", "stop")


def test_postgresql(tmp_path, postgres, monkeypatch):
    import sqlalchemy as sa
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    table = rows(300, day=pd.date_range("2024-01-01", periods=300), size=np.where(np.arange(300) % 7, np.arange(300.), np.nan))
    engine = sa.create_engine(fill_in(postgres, os.environ))
    table.to_sql("sales", engine, index=False)
    with engine.begin() as c: c.execute(sa.text("create table more as select size, y, 12.5::numeric as price, '{\"a\": 1}'::jsonb as details, true as paid from sales"))
    sql = dict(source=postgres, query="select * from sales order by day")
    typed, contract, _ = collect(tmp_path, **sql)
    pd.testing.assert_frame_equal(typed[["x", "day", "y"]], table[["x", "day", "y"]].astype({"y": "str", "day": "datetime64[us]"}))
    assert contract.column("size").type == "integer" and contract.column("day").role == "time"
    plain_url = postgres.replace("+psycopg", "")
    odd = read(tmp_path, source=plain_url, query="select * from more")[0]
    assert float(odd.price[0]) == 12.5 and odd.details[0] == '{"a": 1}' and bool(odd.paid[0]) is True
    record = json.dumps(load(Params(**(DEFAULTS | sql)), tmp_path, tmp_path/".s").sources)
    assert "hunter2" not in record and "${DB_PASSWORD}" in record


def test_postgresql_and_a_file_joined(tmp_path, postgres, monkeypatch):
    import sqlalchemy as sa
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    engine = sa.create_engine(fill_in(postgres, os.environ))
    answers(60).to_sql("answers", engine, index=False)
    more = two(tmp_path, answers(), source=postgres, query="select k, y from answers")
    assert collect(tmp_path, **more)[0].y.tolist() == rows(60).y.tolist()


def test_postgresql_in_words(tmp_path, postgres, monkeypatch):
    monkeypatch.delenv("DB_PASSWORD", raising=False)
    refused(tmp_path, "environment variable DB_PASSWORD", source=postgres, query="select 1")
    monkeypatch.setenv("DB_PASSWORD", "wrong-one")
    with pytest.raises(ProjectError) as e: read(tmp_path, source=postgres, query="select 1")
    assert "authentication failed" in str(e.value) and "wrong-one" not in str(e.value)
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    for query, words in [("select * from sails", "sails"), ("select 1 where false", "selects no rows"), (None, "collect.query")]: refused(tmp_path, words, source=postgres, query=query)


def test_a_query_changes_nothing(tmp_path, postgres, monkeypatch):
    import sqlalchemy as sa
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    engine = sa.create_engine(fill_in(postgres, os.environ))
    with engine.begin() as c: c.execute(sa.text("create table kept as select 1 as a"))
    with contextlib.suppress(ProjectError): read(tmp_path, source=postgres, query="delete from kept returning a")
    with engine.connect() as c: assert c.execute(sa.text("select count(*) from kept")).scalar() == 1
