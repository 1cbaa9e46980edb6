"""The prediction log keeps its promise: what was acknowledged is in the database, once, whatever is killed, full or away."""
import contextlib, http.client, itertools, json, os, random, resource, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, threading, time
from pathlib import Path

import pytest

from bundles import by_hand
from conftest import PACKAGE, ROOT

from mlcycle import answer, bundle, core
from mlcycle import contract as contracts
from mlcycle import keys as all_keys
from mlcycle import log as logs

Column = contracts.Column
CHURN = contracts.Contract(name="churn", task="binary", positive="yes", classes=["no", "yes"], columns=[Column(name="plan", type="category"), Column(name="logins", type="integer", nullable=True),
    Column(name="phone", type="text", personal=True), Column(name="left", type="category", role="target")])


def record(id, **more):
    return {"id": str(id), "request": f"q{id}", "row": 0, "at": logs.now_text(), "model": "churn", "version": "1.2.0", "digest": "ab", "role": "champion", "key": "shop", "label": "yes", "score": 0.7,
        "scores": {"no": 0.3, "yes": 0.7}, "inputs": {"plan": "pro", "logins": 3, "phone": "555-0199", "left": "yes"}, "warnings": []} | more


def opened(folder, url=None, **more):
    log = logs.open_log(url, Path(folder), **more)
    log.know("ab", CHURN)
    return log


def rows(folder, sql="select id from predictions order by id"):
    with contextlib.closing(sqlite3.connect(Path(folder)/"predictions.sqlite")) as db: return db.execute(sql).fetchall()


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.02)
    return found


def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


def example_row(folder): return answer.example_row(bundle.load_bundle(folder).contract)


def left(folder): return sorted(p.name for p in Path(folder).iterdir() if p.name.endswith(".spool"))


# ---- kill -9

def writer(folder, name, told, url=None, size=1):
    "In a process of its own: put as fast as possible, and tell each acknowledged id through a pipe"
    log = opened(folder, url)
    for n in itertools.count():
        ids = [f"{name}-{n}-{i}" for i in range(size)]
        if log.put([record(i) for i in ids]): os.write(told, f"{ids[0]}\n".encode())
        time.sleep(0.0002)


def fork(work, *args):
    pid = os.fork()
    if pid: return pid
    try: work(*args)
    finally: os._exit(1)


def killed(folder, names, seconds, url=None, size=1):
    "Let writers write, kill -9 all of them at once, and say what they were acknowledged"
    ours, theirs = os.pipe()
    resource_ = [fork(writer, folder, n, theirs, url, size) for n in names]
    os.close(theirs)
    os.set_blocking(ours, False)
    end, out = time.monotonic() + seconds, b""
    while time.monotonic() < end:
        time.sleep(0.002)
        with contextlib.suppress(BlockingIOError): out += os.read(ours, 1 << 20)
    for pid in resource_: os.kill(pid, signal.SIGKILL)
    for pid in resource_: os.waitpid(pid, 0)
    os.set_blocking(ours, True)
    while more := os.read(ours, 1 << 20): out += more
    os.close(ours)
    return [f"{line[:-1]}{i}" for line in out.decode().split() for i in range(size)]


def test_killed_twenty_times(tmp_path):
    "kill -9 of the writer, which also brings its records into the database: twenty times, at any moment; every acknowledged record is there once"
    chance, acknowledged = random.Random(0), []
    for n in range(20): acknowledged += killed(tmp_path, [f"w{n}"], chance.uniform(0.02, 0.25), size=chance.choice([1, 1, 7]))
    opened(tmp_path).close(60) # the next start
    found = [i for i, in rows(tmp_path)]
    assert len(acknowledged) > 2000 and len(found) == len(set(found)) and set(acknowledged) <= set(found)
    assert len(found) - len(acknowledged) <= 20*7 # written, and killed before it was told
    assert left(tmp_path) == [] and rows(tmp_path, "pragma integrity_check") == [("ok",)]


def test_all_workers_killed_at_once(tmp_path):
    acknowledged = killed(tmp_path, ["a", "b", "c"], 0.6)
    assert {i[0] for i in acknowledged} == {"a", "b", "c"}
    opened(tmp_path).close(60)
    found = [i for i, in rows(tmp_path)]
    assert len(found) == len(set(found)) and set(acknowledged) <= set(found)


def test_the_living_empty_the_spools_of_the_dead(tmp_path):
    "The worker that brings the records of all is killed: another one takes over, without a restart"
    ours, theirs = os.pipe()
    first = fork(writer, tmp_path, "first", theirs)
    os.read(ours, 100)
    wait_for(lambda: (tmp_path/"predictions.sqlite").exists() and rows(tmp_path, "select name from sqlite_master where name = 'predictions'") and rows(tmp_path))
    log = opened(tmp_path)
    assert log.put([record("mine")])
    time.sleep(0.5)
    assert not log.drain.mine and ("mine",) in wait_for(lambda: rows(tmp_path)) # the other one has brought it
    os.kill(first, signal.SIGKILL); os.waitpid(first, 0); os.close(theirs)
    wait_for(lambda: log.drain.mine)
    acknowledged = set((b"".join(iter(lambda: os.read(ours, 1 << 20), b""))).decode().split()[1:])
    wait_for(lambda: acknowledged <= {i for i, in rows(tmp_path)})
    os.close(ours)
    log.close()
    assert left(tmp_path) == []


def test_a_line_without_its_end_is_passed_over(tmp_path):
    "What a write that was cut short has left behind, and a line that is none of ours"
    log = opened(tmp_path)
    log._stop.set(); log._thread.join()
    assert log.put([record("a"), record("b")])
    os.write(log._spool._file, b'[["half","champ')
    log._spool.close(); log.drain.close()
    (tmp_path/"1-other.spool").write_bytes(b"no JSON\n" + logs.line_of([logs.record_list(record("c"), ["plan"]), b'["too","short"]']) + b"[7]\n")
    log = opened(tmp_path)
    log.close()
    assert rows(tmp_path) == [("a",), ("b",), ("c",)] and left(tmp_path) == []
    assert log.state()["set_aside"] == 3 and (tmp_path/"refused.jsonl").read_text() == 'no JSON\n[["too","short"]]\n[7]\n'


def test_what_was_left_before_it_had_a_name_goes(tmp_path):
    "Killed between making a spool and naming it: nothing is in it"
    (tmp_path/".1-a.new").touch(); (tmp_path/".1-b.new").touch()
    os.utime(tmp_path/".1-a.new", (0, 0))
    opened(tmp_path).close()
    assert [p.name for p in tmp_path.glob(".*.new")] == [".1-b.new"]


def test_another_process_brings_the_records(tmp_path):
    "A worker that only writes, and a process that only brings: what wrongs the one is known to the other"
    def bring():
        logs.Drain(None, tmp_path).run(threading.Event())
    log = opened(tmp_path, drains=False)
    assert log.put([record("a")])
    pid = fork(bring)
    wait_for(lambda: (tmp_path/"predictions.sqlite").exists() and log.state()["stored"] == 1 and rows(tmp_path) == [("a",)])
    assert log.problem is None and not log.drain.mine
    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
    log._since = 0.; log._other["when"] = 0.
    assert log.put([record("b")]) and "Is the process still there" in log.problem
    log.close()
    assert len(left(tmp_path)) == 1
    opened(tmp_path).close() # whoever comes next
    assert rows(tmp_path) == [("a",), ("b",)] and left(tmp_path) == []


@pytest.mark.chains
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_killed_under_load(tmp_path, workers):
    "The real server, keys on: the whole of it is killed under load, again and again; each answer with `x-logged: true` is in the database, once"
    keys = all_keys.open_keys(tmp_path/"keys.json")
    secret, port, acknowledged, stop = keys.make("shop", rate="100000/s"), free_port(), [], threading.Event()
    by_hand(tmp_path/"bundle")
    body = json.dumps({"rows": [example_row(tmp_path/"bundle")]})
    words = ["serve", "--bundle", tmp_path/"bundle", "--port", port, "--workers", workers, "--keys", tmp_path/"keys.json", "--state", tmp_path/"state"]
    def server(): # outside of any project, as in a container
        code = f"import sys; from {PACKAGE}.cli import main; sys.exit(main())"
        with open(tmp_path/"said", "ab") as said:
            return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=said, stdout=said, start_new_session=True)
    def ask():
        while not stop.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                while not stop.is_set():
                    connection.request("POST", "/v1/models/tiny:predict", body, {"content-type": "application/json", "authorization": f"Bearer {secret}"})
                    answer = connection.getresponse()
                    told = json.loads(answer.read())
                    if answer.status == 200 and answer.headers["x-logged"] == "true": acknowledged.append(told["predictions"][0]["id"])
            except (OSError, http.client.HTTPException, ValueError): time.sleep(0.02)
    clients = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for c in clients: c.start()
    for _ in range(5):
        had, running = len(acknowledged), server()
        wait_for(lambda: len(acknowledged) > had + 100 or running.poll() is not None, 30)
        with contextlib.suppress(ProcessLookupError): os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert len(acknowledged) > had + 100, (tmp_path/"said").read_text()[-2000:]
    stop.set()
    for c in clients: c.join(10)
    last = server()
    found = wait_for(lambda: (f := [i for i, in rows(tmp_path/"state")]) and set(acknowledged) <= set(f) and f, 30)
    last.terminate(); last.wait(30)
    assert len(found) == len(set(found)) >= len(acknowledged) > 500


# ---- a disk that is full

@pytest.fixture
def small_disk(tmp_path):
    "A file system of one MiB"
    place = tmp_path/"disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode == 0
    if not mounted: pytest.skip("no file system can be mounted here; the limit on the size of files stands for it")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk(small_disk):
    "Spool and database on a disk that is full: `put` says so, the answer need not wait, and what was acknowledged before and after is there"
    log = opened(small_disk)
    acknowledged = [i for i in range(50) if log.put([record(i)])]
    ballast = small_disk/"ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as f:
        while f.write(b"x"*4096): pass
    refused = 0
    for n in itertools.count(50):
        if log.put([record(f"{n}-{i}") for i in range(3)]): acknowledged += [f"{n}-{i}" for i in range(3)]
        else: refused += 1
        if refused > 20: break
        assert n < 5000
    assert "No space left" in log.problem or "no room" in log.problem
    assert log.state()["refused"] == 3*refused
    ballast.unlink()
    wait_for(lambda: log.problem is None) # nobody has to ask for it: a server that is not ready gets no requests
    assert log.put([record("after")])
    log.close()
    found = [i for i, in rows(small_disk)]
    assert sorted(found) == sorted([*map(str, acknowledged), "after"])


def test_a_limit_on_files_stands_for_a_full_disk(tmp_path):
    log = opened(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log._spool.size + 1000, before[1]))
    try: said = [log.put([record(n, request="x"*100) for n in range(at, at + 2)]) for at in (0, 2, 4)]
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said == [True, False, False] and "cannot be written" in log.problem
    wait_for(lambda: log.problem is None)
    log.close()
    assert rows(tmp_path) == [("0",), ("1",)]


def test_the_spool_has_a_limit(tmp_path):
    "A database that stays away does not fill the disk"
    log = opened(tmp_path, "postgresql://nobody@127.0.0.1:1/none", most_mib=1)
    assert log.put([record("x", request="y"*(2 << 20))])
    wait_for(lambda: not log.put([record("z")]))
    assert "more than `log.most_mib` allows" in log.problem
    wait_for(lambda: "refused" in log.problem.lower())
    log.close()


def test_a_lock_that_cannot_be_made_is_tried_again(tmp_path, monkeypatch):
    "A disk without room for an empty file, at the wrong moment: the thread lives on"
    real = os.open
    def full(path, *more, **named):
        if str(path).endswith("drain.lock") and not room: raise OSError(28, "No space left on device")
        return real(path, *more, **named)
    monkeypatch.setattr(logs.os, "open", full)
    room = []
    log = opened(tmp_path)
    assert log.put([record("a")]) and "No space left" in wait_for(lambda: log.problem)
    room.append(1)
    wait_for(lambda: log.state()["stored"] == 1 and log.problem is None)
    log.close()


# ---- a database that goes away

class Server:
    "A PostgreSQL server of our own that can be stopped and started; run by another user if we are root"
    def __init__(self, programs, folder, port):
        self.programs, self.folder, self.port, self.user = programs, folder, port, []
        if os.geteuid() == 0:
            shutil.chown(folder, 65534, 65534)
            self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        (folder/"password").write_text("hunter2@")
        self.run("initdb", "-D", folder/"db", "-U", "tester", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync", "-E", "UTF8", "--locale=C")

    def run(self, program, *words):
        done = subprocess.run([*self.user, self.programs/program, *map(str, words)], capture_output=True, text=True, cwd=self.folder, env=os.environ | {"HOME": str(self.folder)}, timeout=120)
        assert done.returncode == 0, done.stderr + ((self.folder/"log").read_text()[-1000:] if (self.folder/"log").exists() else "")

    def start(self): self.run("pg_ctl", "-D", self.folder/"db", "-w", "-l", self.folder/"log", "-o", f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}", "start")
    def stop(self): self.run("pg_ctl", "-D", self.folder/"db", "-w", "-m", "immediate", "stop") # as a crash

    @property
    def url(self): return f"postgresql+psycopg://tester:${{DB_PASSWORD}}@127.0.0.1:{self.port}/postgres"

    def ask(self, sql):
        import psycopg
        with psycopg.connect(f"postgresql://tester:hunter2%40@127.0.0.1:{self.port}/postgres", autocommit=True) as db:
            done = db.execute(sql)
            return done.fetchall() if done.description else None


@pytest.fixture(scope="module")
def postgres():
    places = [Path(p).parent for p in [shutil.which("initdb")] if p] + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    programs = next((p for p in places if (p/"initdb").exists() and (p/"pg_ctl").exists()), None)
    if not programs: pytest.skip("PostgreSQL is not installed (no initdb in PATH or /usr/lib/postgresql)")
    if os.geteuid() == 0 and not shutil.which("setpriv"): pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
    with tempfile.TemporaryDirectory(prefix="postgres", ignore_cleanup_errors=True) as folder: # pytest's own folders are for their owner alone
        server = Server(programs, Path(folder), free_port())
        server.start()
        yield server
        with contextlib.suppress(AssertionError): server.stop()


@pytest.fixture
def database(postgres, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter2@")
    postgres.ask("drop table if exists predictions, feedback, log_schema")
    return postgres


def test_postgresql_goes_away_and_comes_back(tmp_path, database):
    "Stopped as by a crash while records come in: nothing is lost, nothing is there twice, and what is wrong is said"
    log = opened(tmp_path, database.url)
    acknowledged = []
    def put(n):
        for _ in range(n):
            assert log.put([record(len(acknowledged))]); acknowledged.append(str(len(acknowledged))); time.sleep(0.001)
    put(200)
    wait_for(lambda: log.state()["stored"] >= 100)
    database.stop()
    put(200)
    said = wait_for(lambda: log.problem)
    assert "database has not taken anything since" in said and "it is tried again" in said and "hunter2" not in said
    put(100)
    database.start()
    put(100)
    wait_for(lambda: log.problem is None)
    assert log.feedback([{"id": "7", "model": "churn", "label": "no", "at": logs.now_text(), "key": "shop", "request": "q"}])
    log.close()
    assert left(tmp_path) == [] and sorted(i for i, in database.ask("select id from predictions")) == sorted(acknowledged)
    part, = logs.read_log(database.url, "churn")
    assert len(part["_id"]) == 600 and part["_truth"][part["_id"].index("7")] == "no" and part["plan"] == ["pro"]*600 and part["_at"] == sorted(part["_at"])
    assert sum(len(p["_id"]) for p in logs.read_log(database.url, "churn", since=part["_at"][300], size=7)) == 300
    assert "hunter2" not in "".join(p.read_text(errors="replace") for p in tmp_path.iterdir())


def test_both_databases_give_the_same_to_read(tmp_path, database):
    "Labels with the time at which they came, the newest of several, a part at a time"
    at = lambda i: f"2026-03-0{1 + i//4}T10:00:{i % 4:02}.{i:06}Z"
    tables = []
    for url in (None, database.url):
        log = opened(tmp_path/str(bool(url)), url)
        assert log.put([record(f"{i:02}", at=at(i), role="shadow" if i == 7 else "champion", inputs={"plan": None, "logins": i}) for i in range(9, -1, -1)])
        for day, label in ((5, "no"), (7, "yes")): assert log.feedback([{"id": i, "model": "churn", "label": label, "at": f"2026-03-0{day}T00:00:00.000000Z", "key": "shop", "request": f"f{i}{day}"} for i in ("01", "02")[:day - 4]])
        log.close()
        tables.append([p for p in logs.read_log(url, "churn", at(2), tmp_path/str(bool(url)), size=3)])
    assert tables[0] == tables[1] and [len(p["_id"]) for p in tables[1]] == [3, 3, 2]
    assert tables[1][0]["_known"] == ["2026-03-07T00:00:00.000000Z", None, None] and tables[1][0]["_truth"] == ["yes", None, None] and tables[1][0]["_at"][0] == at(2)


def test_killed_while_postgresql_is_away(tmp_path, database):
    "The worst at once: no database, and every worker killed; the next start brings all of it"
    database.stop()
    acknowledged = killed(tmp_path, ["a", "b"], 0.5, database.url)
    database.start()
    opened(tmp_path, database.url).close(60)
    found = [i for i, in database.ask("select id from predictions")]
    assert len(acknowledged) > 100 and len(found) == len(set(found)) and set(acknowledged) <= set(found) and left(tmp_path) == []


def test_two_servers_share_a_database(tmp_path, database):
    "Two machines, one PostgreSQL: the tables are made once, and the same request sent to both is there once"
    both = [opened(tmp_path/n, database.url) for n in "ab"]
    for log in both: assert log.put([record(i) for i in range(50)])
    for log in both: log.close()
    assert database.ask("select count(*), count(distinct id) from predictions") == [(50, 50)] and database.ask("select version from log_schema") == [(1,)]


def test_postgresql_takes_whatever_was_sent(tmp_path, database):
    log = opened(tmp_path, database.url)
    assert log.put([record("odd", inputs={"plan": "a\0b'\"\\u0000\n", "logins": 2**70}, row="\ud800", score=float("nan"), warnings=[{"message": "x\0"}])])
    assert log.put([record("bad", at="some day"), record("good")]) # a mistake of ours stops nothing, and is not lost
    log.close()
    assert database.ask("select id, row, score, inputs->>'plan', inputs->>'logins' from predictions where id = 'odd'") == [("odd", "?", None, "a\ufffdb'\"\\u0000\n", str(2**70))]
    assert database.ask("select id from predictions order by id") == [("good",), ("odd",)] and b'"bad"' in (tmp_path/"refused.jsonl").read_bytes()


def test_retention_in_postgresql(tmp_path, database):
    log = opened(tmp_path, database.url, keep_days=30)
    assert log.put([record(n, at=f"2020-01-01T00:00:{n % 60:02}Z", model=f"m{n % 3}") for n in range(2500)] + [record("new")])
    assert log.feedback([{"id": "1", "model": "m1", "label": "no", "at": "2020-01-02T00:00:00Z", "request": "q"}])
    log.drain._cleaned = 0.
    wait_for(lambda: log.state()["stored"] == 2502)
    log.drain._cleaned = 0.
    wait_for(lambda: database.ask("select id from predictions") == [("new",)] and database.ask("select count(*) from feedback") == [(0,)])
    log.close()


# ---- SQLite, and what is kept

def test_a_locked_database_is_waited_for(tmp_path):
    "Somebody writes to the file for a while: records wait, requests do not"
    opened(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path/"predictions.sqlite", isolation_level=None)) as db:
        db.execute("begin immediate")
        log = opened(tmp_path)
        start = time.thread_time()
        assert all(log.put([record(i)]) for i in range(100))
        assert time.thread_time() - start < 0.1 and rows(tmp_path) == []
        db.execute("rollback")
    wait_for(lambda: len(rows(tmp_path)) == 100)
    log.close()


def test_nothing_personal_is_written(tmp_path):
    "Neither personal columns, nor those of `unlogged`, nor the answer that is looked for: not in the spool, not in the database"
    log = opened(tmp_path, unlogged=["logins"])
    log._stop.set(); log._thread.join() # the spool stays as it is
    assert log.put([record("a", inputs={"plan": "pro", "logins": 424242, "phone": "555-0199", "left": "yes", "more": "555-0199"})])
    assert log.put([record("b", digest="of another model", inputs={"plan": "555-0199"})]) # nobody has said what may be kept of it
    spool, = [p.read_bytes() for p in tmp_path.glob("*.spool")]
    assert b"pro" in spool and b"555-0199" not in spool and b"424242" not in spool
    log.close()
    assert rows(tmp_path, "select id, inputs from predictions order by id") == [("a", '{"plan":"pro"}'), ("b", "{}")]
    log = opened(tmp_path, unlogged=["*"])
    assert log.put([record("c")]) and log.problem is None
    log.close()
    assert rows(tmp_path, "select inputs from predictions where id = 'c'") == [("{}",)]


def test_only_its_owner_may_read_it(tmp_path):
    "Spools, database and what it did not take hold what people have sent"
    before = os.umask(0)
    try:
        log = opened(tmp_path)
        assert log.put([record("a")]) and log.put([record("bad", version=None, at=None)])
        wait_for(lambda: log.state()["stored"] == log.state()["set_aside"] == 1)
        assert [p.name for p in tmp_path.iterdir() if p.stat().st_mode & 0o077 and p.name != logs.TELLS] == []
        log.close()
    finally: os.umask(before)


def test_a_column_that_nobody_has_is_told(tmp_path):
    "A slip in `unlogged` would log what was not to be"
    log = opened(tmp_path, unlogged=["phnoe"])
    assert log.problem == "`log.unlogged` names the column `phnoe`, which no model has; did you mean `phone`?"
    log.close()


def test_the_same_prediction_is_there_once(tmp_path):
    log = opened(tmp_path)
    for role in ("champion", "shadow", "champion"): assert log.put([record("a", role=role)])
    assert log.put([]) and log.feedback([])
    log.close()
    assert rows(tmp_path, "select id, role from predictions order by role") == [("a", "champion"), ("a", "shadow")] and log.state()["stored"] == 2


def test_the_last_label_counts_and_only_for_its_model(tmp_path):
    log = opened(tmp_path)
    assert log.put([record("a"), record("b")])
    for n, (label, model) in enumerate([("no", "churn"), ("yes", "churn"), ("no", "risk")]): assert log.feedback([{"id": "a", "model": model, "label": label, "at": f"2026-01-0{n + 1}T00:00:00Z", "request": f"q{n}"}])
    assert log.feedback([{"id": "a", "model": "churn", "label": "no", "at": "2027-01-01T00:00:00Z", "request": "q1"}]) # the request q1 again
    log.close()
    part, = logs.read_log(None, "churn", folder=tmp_path)
    assert part["_truth"] == ["yes", None]


def test_a_label_without_a_request_is_there_once(tmp_path):
    "A spool that is read again, as after a kill, makes no second line of it"
    log = opened(tmp_path)
    log._stop.set(); log._thread.join()
    for label in ("no", "yes"): assert log.feedback([{"id": "a", "model": "churn", "label": label, "at": logs.now_text()}])
    for again in (0, 1):
        while log.drain.step(): pass
        log.drain._offsets = {}
    while log.drain.step(): pass
    log.close()
    assert rows(tmp_path, "select label from feedback order by at") == [("no",), ("yes",)]


def test_two_servers_with_one_folder_and_two_databases(tmp_path):
    "One would bring the other's records into its own database: it is told"
    one = opened(tmp_path)
    wait_for(lambda: (tmp_path/"drain.json").exists())
    other = opened(tmp_path, f"sqlite:///{tmp_path}/other.sqlite")
    assert "Give each server a folder of its own" in wait_for(lambda: other.problem) and one.problem is None
    other.close(); one.close()


def test_reading_gives_the_form_of_the_batch_log(tmp_path):
    log = opened(tmp_path)
    log.know("cd", CHURN)
    values = dict(label=None, score=None, scores=None, model="price", digest="cd")
    assert log.put([record(n, value=n/3, low=0., high=9., **values) for n in range(5)]) and log.put([record("k", model="kinds", scores={"a": 0.1, "b": 0.2, "c": 0.7}, label="c")])
    log.close()
    parts = list(logs.read_log(None, "price", folder=tmp_path, size=2))
    assert [len(p["_id"]) for p in parts] == [2, 2, 1] and [v for p in parts for v in p["_value"]] == [n/3 for n in range(5)]
    part, = logs.read_log(None, "kinds", folder=tmp_path)
    assert part["_score_c"] == [0.7] and part["_label"] == ["c"] and part["plan"] == ["pro"] and not any(n.startswith("_score_") for n in parts[0])
    batch = {"_id", "_row", "_digest", "_label", "_score", "_value", "_low", "_high"}
    assert batch <= set(part) and list(logs.read_log(None, "none", folder=tmp_path)) == []
    import pandas as pd
    assert len(pd.DataFrame(parts[0])) == 2


def test_retention_goes_in_small_steps(tmp_path):
    "What is too old goes, a thousand rows at a time, while new records come in; what is deleted is not legible in the file"
    log = opened(tmp_path, keep_days=30)
    assert log.put([record(n, at="2020-01-01T00:00:00Z", row="long-forgotten", model=f"m{n % 3}") for n in range(2500)] + [record("new")])
    wait_for(lambda: log.state()["stored"] == 2501)
    log.drain._cleaned = 0.
    wait_for(lambda: rows(tmp_path) == [("new",)])
    log.close()
    assert b"long-forgotten" not in (tmp_path/"predictions.sqlite").read_bytes()


def test_a_database_of_a_newer_form_is_left_alone(tmp_path):
    opened(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path/"predictions.sqlite")) as db, db: db.execute("insert into log_schema values (2)")
    log = opened(tmp_path)
    assert log.put([record("a")])
    assert "has the form 2, and this code writes 1" in wait_for(lambda: log.problem)
    log.close()
    assert rows(tmp_path) == [] and len(left(tmp_path)) == 1 # it waits for code that can
    with pytest.raises(core.ProjectError, match="has the form 2"): next(logs.read_log(None, "churn", folder=tmp_path))


def test_a_database_of_an_older_form_is_brought_up_to_date(tmp_path, monkeypatch):
    log = opened(tmp_path)
    assert log.put([record("a")])
    log.close()
    now = logs.steps
    monkeypatch.setattr(logs, "VERSION", 2)
    monkeypatch.setattr(logs, "steps", lambda types: now(types) | {2: [f"alter table predictions add column place {types['text']}"]})
    opened(tmp_path).close(); opened(tmp_path).close()
    assert rows(tmp_path, "select id, place from predictions") == [("a", None)] and rows(tmp_path, "select version from log_schema") == [(1,), (2,)]


def test_queries_go_by_an_index(tmp_path):
    opened(tmp_path).close()
    for sql in ["select id from predictions where id = 'a'", "select * from predictions where model = 'm' and (at, id) > ('a', 'b') order by at, id limit 5", "select model from predictions where model > 'a' order by model limit 1"]:
        plan = str(rows(tmp_path, f"explain query plan {sql}"))
        assert "USING" in plan and "INDEX" in plan and "TEMP" not in plan


# ---- the event loop

def test_put_is_cheap_and_never_raises(tmp_path):
    "A record of the example's 13 columns: at most 15 µs of CPU in the event loop; and whatever the values are, there is a yes or a no"
    names = [f"column_{n}" for n in range(13)]
    log = opened(tmp_path)
    log.know("13", contracts.Contract(name="c", task="regression", columns=[*(Column(name=n, type="number") for n in names), Column(name="y", type="number", role="target")]))
    wide = record("0"*24, digest="13", inputs=dict.fromkeys(names, 12.34))
    least = 1.
    for part in range(5):
        start = time.thread_time()
        for n in range(400): log.put([wide | {"id": f"{part}-{n}"}])
        least = min(least, (time.thread_time() - start)/400)
    assert least < 15e-6, f"{least*1e6:.1f} µs"
    for odd in (2**80, float("inf"), b"bytes", object(), {1: 2}, "\ud800", "\0", Path("x"), [[]]): assert log.put([record(f"odd {odd!r}"[:20], inputs={"plan": odd})])
    log.close()
    assert log.state()["stored"] + log.state()["set_aside"] == 2009 and not log.put([record("late")])


def test_the_light_path_stays_light():
    code = f"import sys, {PACKAGE}.log, {PACKAGE}.keys; print([m for m in ('pandas', 'sklearn', 'matplotlib', 'psycopg', 'sqlalchemy', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


# ---- in words

@pytest.mark.parametrize("url, words", [("mysql://me:hunter2@host/db", "allowed: sqlite:///file"), ("postgresql://me:hunter2@host/db", "holds a password"), ("postgresql://host/db?password=hunter2", "holds a password"),
    ("postgresql://me:${NO_SUCH}@host/db", "environment variable NO_SUCH"), ("sqlite:////no/such/folder/p.sqlite", "there is no such folder"), ("predictions.sqlite", "allowed: sqlite:///file")])
def test_urls_in_words(tmp_path, url, words):
    with pytest.raises(core.ProjectError, match=words) as e: logs.open_log(url, tmp_path)
    assert "hunter2" not in str(e.value)


@pytest.mark.parametrize("values, words", [({"keep_days": 0}, "greater than or equal to 1"), ({"required": "yes"}, "boolean"), ({"unlogged": "phone"}, "list"), ({"most_mib": 0}, "greater than or equal to 1"), ({"keep": 3}, "did you mean `keep_days`"), ({"url": 5}, "string")])
def test_settings_in_words(values, words):
    with pytest.raises(core.ProjectError, match=words): core.check_section(logs.LogSettings, values, "log")


def test_a_folder_that_cannot_be_written_in_words():
    with pytest.raises(core.ProjectError, match="Name a folder that can be written"): logs.open_log(None, Path("/proc/none"))
