"""Keys: nothing of a secret is kept, limits hold over all workers, and whoever has no key gets nowhere."""
import json, os, signal, stat, subprocess, sys, time
from pathlib import Path

import pytest

from conftest import PACKAGE, ROOT, needs

from mlcycle import core
from mlcycle import keys as keys_

pytestmark = needs("serve")


@pytest.fixture
def path(tmp_path): return tmp_path/"keys.json"


def forked(n, work, folder):
    "Run work(i) in n processes; what each returns"
    pids = []
    for i in range(n):
        if pid := os.fork(): pids.append(pid); continue
        code = 1
        try: (folder/f"{i}.json").write_text(json.dumps(work(i))); code = 0
        finally: os._exit(code)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0]*n
    return [json.loads((folder/f"{i}.json").read_text()) for i in range(n)]


def test_nothing_of_a_secret_is_kept(path, tmp_path):
    keys = keys_.open_keys(path)
    secret = keys.make("shop", ["churn"])
    keys.check(secret, "churn")
    name, rest = secret[4:12], secret[13:]
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert secret.encode() not in kept and rest.encode() not in kept and name.encode() in kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 == stat.S_IMODE((tmp_path/"meter").stat().st_mode)
    assert secret not in str(keys.list()) and keys_.hash_secret(secret) not in str(keys.list()) + keys_.as_table(keys.list())
    assert len(rest) == 43 # 32 random bytes


def test_who_may_pass(path):
    keys = keys_.open_keys(path)
    one, every = keys.make("one", ["churn", "risk"]), keys.make("every", admin=True)
    assert keys.check(one, "churn") == keys_.Grant("one", frozenset({"churn", "risk"}), False) and keys.check(every, "whatever").admin
    assert keys.check(one).covers("risk") and not keys.check(one).covers("other") and keys.check(every).covers("other")
    assert keys.check(one, "other").status == 403 == keys.check(one, "no such model").status
    stranger = one[:13] + every[13:] # the one's name, the other's secret
    for wrong in [None, "", "key_", one[:-1], one + "x", one.upper(), stranger, "ключ", "\ud800"*30, "x"*100_000, f"key_{'0'*8}_{'a'*43}"]: assert keys.check(wrong, "churn").status == 401
    assert keys.check(None).status == 401


def test_secrets_are_compared_in_constant_time(path, monkeypatch):
    "Each secret is hashed and compared by `hmac.compare_digest`, an unknown key's as well"
    keys, seen = keys_.open_keys(path), []
    secret = keys.make("shop")
    whole = keys_.hmac.compare_digest
    monkeypatch.setattr(keys_.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or whole(a, b))
    for asked in (secret, secret[:-1] + "_", f"key_{'0'*8}_{'a'*43}"): keys.check(asked, "churn")
    assert len(seen) == 3 and all(len(a) == len(b) == 64 for a, b in seen)


def test_a_rate_holds_over_all_workers(path, tmp_path):
    "Four processes ask as fast as they can: together they get what one bucket gives, to the request"
    secret = keys_.open_keys(path).make("shop", rate="200/s")
    def work(i):
        keys, granted = keys_.open_keys(path), 0
        start = time.monotonic()
        while time.monotonic() < start + 0.7: granted += type(keys.check(secret, "churn")) is keys_.Grant
        return [granted, start, time.monotonic()]
    done = forked(4, work, tmp_path)
    took = max(d[2] for d in done) - min(d[1] for d in done)
    assert 200 + 200*0.6 <= sum(d[0] for d in done) <= 200 + 200*took + 1 and min(d[0] for d in done) > 0


def test_a_quota_holds_over_all_workers_and_restarts(path, tmp_path):
    "Exactly the quota, however many ask at once; rows count, requests that are too large are refused whole"
    secret = keys_.open_keys(path).make("shop", quota="1000/month")
    def work(i):
        keys, rows = keys_.open_keys(path), 0
        for _ in range(400):
            grant = keys.check(secret, "churn")
            if type(grant) is keys_.Grant: rows += 1 + (2 if keys.charge(grant, 3) is None else 0)
        return rows
    assert sum(forked(4, work, tmp_path)) == 1000
    keys = keys_.open_keys(path) # as after a restart
    denied = keys.check(secret, "churn")
    assert denied.status == 429 and denied.retry_after > 0 and "quota is 1000/month" in denied.message
    entry, = keys.list()
    assert entry["used"] == 1000 and entry["refused"] > 0


def test_counts_outlive_kill_9(path, tmp_path):
    "Killed at any moment: no count is lost, and the lock is free"
    secret = keys_.open_keys(path).make("shop", quota="1000000/day")
    granted = 0
    for _ in range(5):
        ours, theirs = os.pipe()
        if not (pid := os.fork()):
            keys = keys_.open_keys(path)
            while type(keys.check(secret, "churn")) is keys_.Grant: os.write(theirs, b"1")
            os._exit(1)
        os.close(theirs)
        granted += len(os.read(ours, 4096))
        os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
        while more := os.read(ours, 1 << 16): granted += len(more)
        os.close(ours)
    assert granted <= keys_.open_keys(path).list()[0]["used"] <= granted + 5


def test_a_bucket_fills_up_again(path):
    keys = keys_.open_keys(path)
    secret = keys.make("shop", rate="20/s")
    ask = lambda: type(keys.check(secret, "churn")) is keys_.Grant
    assert sum(ask() for _ in range(100)) in (20, 21) # one may have come while we asked
    time.sleep(0.26)
    assert sum(ask() for _ in range(100)) in (5, 6)
    assert keys.check(secret, "churn").retry_after == 1


def test_a_clock_that_began_anew_shuts_nobody_out(path):
    "After a restart of the machine its clock counts from zero: what was written before lies far ahead"
    keys = keys_.open_keys(path)
    secret = keys.make("shop", rate="10/s")
    lock = keys._named["shop"]
    keys.meter.write(0, lock.id, time.monotonic() + 1e6, 0, 0, 0, 0, 0.)
    assert keys.check(secret, "churn").status == 429
    time.sleep(0.12)
    keys.meter.write(0, lock.id, time.monotonic() + 1e6, 0, 0, 0, 0, 0.)
    wait = keys.check(secret, "churn").retry_after
    assert wait == 1 # one bucket at most, not eleven days


def test_what_has_no_rows_takes_none_of_the_quota(path):
    "A description, or what came true: a request, but no row, and possible when no row is left"
    keys = keys_.open_keys(path)
    secret = keys.make("shop", quota="1/day")
    assert keys.check(secret, "churn") and keys.check(secret, "churn").status == 429
    assert type(keys.check(secret, "churn", 0)) is type(keys.check(secret, rows=0)) is keys_.Grant
    entry, = keys.list()
    assert (entry["used"], entry["requests"], entry["refused"]) == (1, 3, 1)


def test_a_quota_begins_anew_with_its_period(path, monkeypatch):
    keys = keys_.open_keys(path)
    secret = keys.make("shop", quota="2/day")
    assert keys.check(secret, "churn") and keys.check(secret, "churn") and keys.check(secret, "churn").status == 429
    tomorrow = time.time() + 86400
    monkeypatch.setattr(keys_.time, "time", lambda: tomorrow)
    assert type(keys.check(secret, "churn")) is keys_.Grant and keys.list()[0]["used"] == 1


def test_changes_reach_running_servers(path):
    "Made, revoked: within a second, without a restart; the place in the meter starts from zero for whoever gets it next"
    server, desk = keys_.open_keys(path), keys_.open_keys(path)
    secret = desk.make("shop", quota="5/day")
    server._next = 0.
    assert type(server.check(secret, "churn")) is keys_.Grant
    desk.revoke("shop")
    time.sleep(1.1)
    assert server.check(secret, "churn").status == 401
    other = desk.make("other", quota="5/day")
    assert desk.list()[0]["used"] == 0 and desk._named["other"].key.slot == 0
    assert type(desk.check(other, "churn")) is keys_.Grant and desk.list()[0]["used"] == 1


def test_what_is_broken_is_told_and_closes_nothing(path):
    keys = keys_.open_keys(path)
    secret = keys.make("shop")
    whole = path.read_text()
    for text, words in [("{", "is no file of keys"), (whole.replace('"version": 1', '"version": 2'), "version"), (whole.replace('"shop"', '"../shop"'), "allowed are up to 64 letters")]:
        path.write_text(text); keys._next = 0.
        assert type(keys.check(secret, "churn")) is keys_.Grant and words in keys.problem
        with pytest.raises(core.ProjectError, match=words): keys_.open_keys(path)
    path.unlink(); keys._next = 0.
    assert type(keys.check(secret, "churn")) is keys_.Grant and "are gone" in keys.problem
    path.write_text(whole); keys._next = 0.
    assert type(keys.check(secret, "churn")) is keys_.Grant and keys.problem is None
    assert keys_.hash_secret(secret) not in str(keys.problem)


def test_a_file_that_holds_no_keys_is_left_alone(tmp_path):
    "And so is its folder: a bundle with one file more is no longer as it was sealed"
    (tmp_path/"bundle.json").write_text('{"version": 1, "name": "churn"}')
    with pytest.raises(core.ProjectError, match="is no file of keys"): keys_.open_keys(tmp_path/"bundle.json")
    assert [p.name for p in tmp_path.iterdir()] == ["bundle.json"]


def test_a_key_ends(path):
    keys = keys_.open_keys(path)
    old, new = keys.make("old", until="2020-01-31"), keys.make("new", until="2999-01-31T12:00:00Z")
    denied = keys.check(old, "churn")
    assert denied.status == 401 and "ended at 2020-01-31" in denied.message and type(keys.check(new, "churn")) is keys_.Grant


def test_two_who_make_keys_at_once(path, tmp_path):
    forked(4, lambda i: [keys_.open_keys(path).make(f"k{i}-{n}") and 0 for n in range(10)], tmp_path)
    made = keys_.read_keys(path).keys
    assert len(made) == 40 == len({k.slot for k in made}) == len({k.id for k in made})


def test_a_file_mounted_read_only(path, tmp_path):
    "Servers only read the file; what is used is counted in a folder of their own"
    secret = keys_.open_keys(path).make("shop", quota="5/day")
    keys = keys_.open_keys(path, tmp_path/"counts")
    assert type(keys.check(secret, "churn")) is keys_.Grant and keys.list()[0]["used"] == 1
    with pytest.raises(core.ProjectError, match="What keys use cannot be counted in /proc/none"): keys_.open_keys(path, Path("/proc/none"))
    with pytest.raises(core.ProjectError, match="cannot be written"), keys_.changing(Path("/proc/none/keys.json")): pass


def test_there_is_an_end_to_keys(path, monkeypatch):
    monkeypatch.setattr(keys_, "MOST", 2)
    keys = keys_.open_keys(path)
    keys.make("a"); keys.make("b")
    with pytest.raises(core.ProjectError, match="holds 2 keys, the most"): keys.make("c")


def test_a_check_is_cheap(path):
    "With rate and quota, and the meter shared: a few µs of CPU"
    keys = keys_.open_keys(path)
    for n in range(100): keys.make(f"k{n}")
    secret = keys.make("shop", rate="1000000/s", quota="1000000000/month")
    def once():
        start = time.process_time()
        for _ in range(2000): keys.check(secret, "churn")
        return (time.process_time() - start)/2000
    assert min(once() for _ in range(5)) < 12e-6


def command(folder, *words, code=0, what="keys", **more):
    env = {k: v for k, v in os.environ.items() if k not in ("MODEL_KEYS", "MODEL_REGISTRY")} | {"PYTHONPATH": str(ROOT)} | more
    done = subprocess.run([sys.executable, "-c", f"import sys; from {PACKAGE}.cli import main; sys.exit(main())", what, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_command(tmp_path):
    "make, list, revoke, outside of any project; the secret alone on stdout"
    made = command(tmp_path, "make", "shop", "--models", "churn,risk", "--rate", "100/s", "--quota", "1000000/month", "--until", "2999-01-31")
    secret = made.stdout.strip()
    assert secret.startswith("key_") and "not shown again" in made.stderr
    keys = keys_.open_keys(tmp_path/"keys.json")
    assert keys.check(secret, "risk").models == {"churn", "risk"}
    entry, = json.loads(command(tmp_path, "list", "--json").stdout)
    assert {k: entry[k] for k in ("name", "models", "rate", "quota", "used", "requests", "until")} == dict(name="shop", models=["churn", "risk"], rate="100/s", quota="1000000/month", used=1, requests=1, until="2999-01-31")
    shown = command(tmp_path, "list").stdout
    assert "1 of 1000000/month" in shown and secret not in shown
    assert "did you mean `shop`" in command(tmp_path, "revoke", "shpo", code=2).stderr
    command(tmp_path, "revoke", "shop")
    assert "There are no keys" in command(tmp_path, "list").stdout


@pytest.mark.parametrize("words, said", [(["make", "../shop"], "allowed are up to 64 letters"), (["make", "shop", "--rate", "100"], "such as 100/s"), (["make", "shop", "--rate", "5/day"], "one of s, min, h"), (["make", "shop", "--quota", "0/day"], "from 1 on"),
    (["make", "shop", "--models", ","], "`models`"), (["make", "shop", "--until", "soon"], "such as 2027-01-31"), (["make", "shop", "--models", "a/../b"], "allowed are")])
def test_options_in_words(tmp_path, words, said):
    keys = keys_.open_keys(tmp_path/"keys.json")
    what = dict(zip((w[2:] for w in words[2::2]), words[3::2]))
    if "models" in what: what["models"] = [m for m in what["models"].split(",") if m]
    with pytest.raises(core.ProjectError, match=said): keys.make(words[1], **what)
    assert len(keys_.open_keys(tmp_path/"keys.json")) == 0


@pytest.mark.parametrize("words, more, said", [([], {"MODEL_KEYS": "none.json"}, "There is no key in none.json"), (["--keys", "none.json"], {}, "There is no key in none.json"), (["--port", "70000"], {}, "--port is 70000; allowed: 1 to 65535"),
    (["--models", "churn"], {}, "--models chooses among the models of a registry"), (["--registry", "r"], {}, "not allowed with argument"), (["--host", "0.0.0.0"], {}, "Without keys this server answers this machine only")])
def test_a_server_does_not_start_with_less_than_was_asked_for(tmp_path, words, more, said):
    "Least of all without the keys that somebody named"
    assert said in command(tmp_path, "--bundle", "bundle", *words, code=2, what="serve", **more).stderr


def test_where_the_file_is(tmp_path, monkeypatch):
    monkeypatch.delenv("MODEL_KEYS", raising=False)
    assert keys_.keys_path(tmp_path, None) == tmp_path/"data/keys/keys.json" and keys_.keys_path(None, None) == Path("keys.json") and keys_.keys_path(tmp_path, "k.json") == Path("k.json")
    monkeypatch.setenv("MODEL_KEYS", "/etc/keys.json")
    assert keys_.keys_path(tmp_path) == Path("/etc/keys.json") and keys_.keys_path(tmp_path, "k.json") == Path("k.json")
    assert subprocess.run(["git", "check-ignore", "data/keys/keys.json"], cwd=ROOT, capture_output=True).returncode in (0, 128) # never committed
