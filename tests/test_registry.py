"""The registry: versions that never change, names that move, and nothing half done, whoever is quicker, killed or mistaken."""
import json, os, re, resource, shutil, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bundles import weighted
from conftest import PACKAGE, ROOT, House, environment
from mlcycle import bundle as bundles
from mlcycle import cli, core, registrar, registry
RegistryError, Overtaken, Unreachable, BundleBroken = registry.RegistryError, registry.Overtaken, registry.Unreachable, bundles.BundleBroken
WHY = ("Ann", "to see")


def make(folder, *args, **kwargs):
    "A bundle in the place of whatever was there"
    shutil.rmtree(folder, ignore_errors=True)
    return weighted(folder, *args, **kwargs)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    "Four bundles"
    d = tmp_path_factory.mktemp("bundles")
    return [make(d/str(i), weight=1/(i + 1)) for i in range(4)]


@pytest.fixture
def stock(tmp_path, shelf):
    "A registry with 1.0.0, 1.1.0, 1.2.0; nothing is promoted"
    r = registry.open_registry(str(tmp_path/"models"))
    for b in shelf[:3]: r.add(b, *WHY)
    return r


def refused(words, do, *args, **kwargs):
    "The words of the refusal"
    with pytest.raises(core.ProjectError) as e: do(*args, **kwargs)
    for w in [words] if isinstance(words, str) else words: assert w in str(e.value), str(e.value)
    return e.value


def whole(r, name="tiny"):
    "Everything that a reader may meet, now: it has to be in order"
    entries, numbers = r.history(name), [v.version for v in r.versions(name)]
    assert [e.sequence for e in entries] == list(range(1, len(entries) + 1))
    assert all(v in numbers for e in entries for v in e.aliases.values())
    for a, b in zip(entries, entries[1:]):
        if b.alias: assert b.before == a.aliases.get(b.alias) and {k: v for k, v in a.aliases.items() if k != b.alias} == {k: v for k, v in b.aliases.items() if k != b.alias}
    return entries


# ---- versions

def test_versions_never_change(stock, shelf, tmp_path):
    first = stock.version("tiny", "1.0.0")
    assert [v.version for v in stock.versions("tiny")] == ["1.0.0", "1.1.0", "1.2.0"] and stock.names() == ["tiny"]
    assert (first.who, first.why, first.draft, first.verdict, first.metrics["roc_auc"]["value"]) == ("Ann", "to see", False, "pass", 0.8)
    assert stock.add(shelf[0], "Bob", "again") == first  # the same bundle is the same version
    refused(["is version 1.0.0", "one number"], stock.add, shelf[0], *WHY, version="3.0.0")
    refused(["another bundle", "versions never change"], stock.add, shelf[3], *WHY, version="1.1.0")
    refused(["no version", "such as 1.2.0"], stock.add, shelf[3], *WHY, version="1.2")
    assert stock.add(shelf[3], *WHY, version="4.0.0", revision="0a1b2c3").revision == "0a1b2c3"
    assert stock.load("tiny", "1.0.0").digest == first.digest and stock.load("tiny", "v1.1.0").predict({"x": np.array([0.5])})["scores"][0, 1] == 0.25
    files = sorted(p for p in (tmp_path/"models").rglob("*") if p.is_file())
    assert all(not p.stat().st_mode & 0o222 for p in files) and len(files) == 8  # nobody writes into one by mistake
    one = tmp_path/"one.tar"
    bundles.pack(shelf[1], one)
    assert stock.add(one, *WHY).version == "1.1.0"  # a folder and the file of it are the same bundle


@pytest.mark.parametrize("old, new, number", [({}, {"weight": 0.5}, "1.1.0"), ({}, {"threshold": 0.4}, "1.0.1"), ({}, {"columns": ("x", "z")}, "2.0.0"), ({"columns": ("x", "z")}, {}, "2.0.0"), ({}, {"threshold": 0.4, "draft": True}, "1.0.1")])
def test_the_next_number(tmp_path, old, new, number):
    r = registry.open_registry(str(tmp_path/"models"))
    assert r.add(make(tmp_path/"a", **old), *WHY).version == "1.0.0" and r.add(make(tmp_path/"b", **new), *WHY).version == number


def test_numbers_are_ordered_as_numbers(tmp_path, shelf):
    r = registry.open_registry(str(tmp_path/"models"))
    for b, n in zip(shelf, ["1.9.0", "1.10.0", "1.2.0"]): r.add(b, *WHY, version=n)
    assert [v.version for v in r.versions("tiny")] == ["1.2.0", "1.9.0", "1.10.0"] and r.add(shelf[3], *WHY).version == "1.11.0"


@pytest.mark.parametrize("harm, words", [(lambda p: p.write_bytes(p.read_bytes().replace(b'"threshold": 0.3', b'"threshold": 0.9')), "bundle.json was changed"),
    (lambda p: p.write_bytes(p.read_bytes()[:1500]), "not as it was added"), (lambda p: p.write_bytes(b""), "not as it was added"), (lambda p: p.unlink(), "its file is gone"),
    (lambda p: shutil.copy(next(q for q in p.parent.iterdir() if q != p), p), "another bundle")])
def test_a_changed_bundle_is_refused(stock, shelf, tmp_path, harm, words):
    stock.promote("tiny", "1.1.0", "champion", *WHY)
    file = tmp_path/"models"/"tiny"/"bundles"/f"{stock.version('tiny', '1.0.0').digest}.tar"
    file.chmod(0o644); harm(file)
    for do, *args in [(stock.load, "tiny", "1.0.0"), (stock.promote, "tiny", "1.0.0", "champion", *WHY), (stock.pull, "tiny", "1.0.0", tmp_path/"out"),
                      (stock.set_launch, "tiny", {"kind": "ab", "challenger": "1.0.0", "share": 0.5}, *WHY)]:
        assert isinstance(refused([words, "mends it"], do, *args), BundleBroken)
    assert stock.state("tiny").aliases == {"champion": "1.1.0"} and not (tmp_path/"out").exists()
    assert stock.add(shelf[0], *WHY).version == "1.0.0"  # the same bundle, added again
    assert stock.promote("tiny", "1.0.0", "champion", *WHY).aliases == {"champion": "1.0.0"}


def test_a_place_that_cannot_be_written_to(shelf, tmp_path):
    (tmp_path/"file").write_text("")
    assert isinstance(refused(["cannot be written", "a folder that you may write to"], registry.open_registry(str(tmp_path/"file")).add, shelf[0], *WHY), Unreachable)
    (tmp_path/"models"/"tiny").mkdir(parents=True); (tmp_path/"models"/"tiny"/"bundles").write_text("")
    refused("cannot be written", registry.open_registry(str(tmp_path/"models")).add, shelf[0], *WHY)


def test_without_hard_links(shelf, tmp_path, monkeypatch):
    "Some mounts have none"
    def link(*args): raise OSError(95, "Operation not supported")
    monkeypatch.setattr(os, "link", link)
    refused(["Operation not supported", "hard links", "a bucket"], registry.open_registry(str(tmp_path/"models")).add, shelf[0], *WHY)
    assert [p for p in (tmp_path/"models").rglob("*") if p.is_file()] == []


def test_what_is_no_bundle_is_not_added(stock, shelf, tmp_path):
    refused("No bundle", stock.add, tmp_path/"nowhere", *WHY)
    (tmp_path/"text.tar").write_text("no tar")
    refused("not readable", stock.add, tmp_path/"text.tar", *WHY)
    b = make(tmp_path/"b", weight=0.1)
    (b/"contract.json").write_text("{}")
    refused("contract.json was changed", stock.add, b, *WHY)
    assert len(stock.versions("tiny")) == 3


@pytest.mark.parametrize("file, harm", [("versions/1.0.0.json", "{"), ("versions/1.0.0.json", '{"name": "tiny"}'), ("history/00000001.json", "[]"), ("history/00000001.json", "")])
def test_changed_records_are_refused_in_words(stock, tmp_path, file, harm):
    stock.promote("tiny", "1.1.0", "champion", *WHY)
    path = tmp_path/"models"/"tiny"/file
    path.chmod(0o644); path.write_text(harm)
    fresh = registry.open_registry(stock.url)
    refused([path.name, "Somebody has changed it"], lambda: (fresh.versions("tiny"), fresh.history("tiny")))


def test_moved_records_are_refused(stock, tmp_path):
    models = tmp_path/"models"/"tiny"
    for v in ("1.0.0", "1.1.0", "1.2.0"): stock.promote("tiny", v, "champion", *WHY)
    shutil.copy(models/"versions/1.0.0.json", models/"versions/7.0.0.json")
    refused("speaks of tiny 1.0.0", registry.open_registry(stock.url).version, "tiny", "7.0.0")
    (models/"versions/7.0.0.json").unlink(); (models/"history/00000002.json").unlink()
    fresh = registry.open_registry(stock.url)
    assert fresh.state("tiny").aliases == {"champion": "1.2.0"}  # what is in use is known all the same
    refused("the history has a hole", fresh.history, "tiny")


def test_a_disk_that_has_gone_away_is_no_wish(stock, tmp_path):
    "What is served goes on: a mount that is not there any more is not an empty registry"
    stock.promote("tiny", "1.0.0", "champion", *WHY)
    (tmp_path/"models").rename(tmp_path/"away")
    assert isinstance(refused(["is empty, and held tiny", "mounted"], stock.names), Unreachable) and stock.state("tiny").aliases == {"champion": "1.0.0"}
    (tmp_path/"models").mkdir()
    refused("is empty, and held tiny", stock.names)
    (tmp_path/"models").rmdir(); (tmp_path/"away").rename(tmp_path/"models")
    assert stock.names() == ["tiny"]


# ---- drafts

def test_drafts_and_failed_gates_are_never_promoted(tmp_path):
    r = registry.open_registry(str(tmp_path/"models"))
    r.add(make(tmp_path/"b"), *WHY)
    r.promote("tiny", "1.0.0", "champion", *WHY)
    draft, failed, overridden = [r.add(make(tmp_path/"b", weight=w, **facts), *WHY).version for w, facts in [(0.5, dict(draft=True)), (0.4, dict(draft=True, verdict="fail")), (0.3, dict(draft=False, verdict="fail"))]]
    for alias in registry.ALIASES:
        refused(["a draft", "frame.status: launch"], r.promote, "tiny", draft, alias, *WHY)
        refused(["its gate failed (roc_auc is below 0.9)", "frame.override"], r.promote, "tiny", failed, alias, *WHY)
    for v in (draft, failed): refused("looked at", r.set_launch, "tiny", {"kind": "shadow", "challenger": v}, *WHY)
    assert r.state("tiny").aliases == {"champion": "1.0.0"} and r.load("tiny", draft).meta.draft  # to look at, it can be had
    assert r.promote("tiny", overridden, "champion", *WHY).aliases == {"champion": overridden}  # a person has launched it in spite of the gate
    (tmp_path/"models"/"tiny"/"versions"/f"{draft}.json").chmod(0o644)
    path = tmp_path/"models"/"tiny"/"versions"/f"{draft}.json"
    path.write_text(path.read_text().replace('"draft": true', '"draft": false'))  # whoever edits the record …
    refused("a draft", registry.open_registry(r.url).promote, "tiny", draft, "champion", *WHY)  # … meets the bundle's own word


# ---- aliases, history

def test_aliases_and_their_history(stock):
    assert stock.state("tiny") == registry.State() and stock.history("tiny") == []
    stock.promote("tiny", "1.0.0", "champion", "Ann", "to begin with")
    stock.promote("tiny", "1.1.0", "challenger", "Bob", "promising")
    stock.promote("tiny", "challenger", "champion", "Ann", "better\nin the\x1b[2J pilot")
    assert stock.promote("tiny", "1.1.0", "champion", "Ann", "again").sequence == 3  # nothing to do, nothing is written
    state = stock.promote("tiny", "v1.2.0", "champion", "Ann", "better still")
    assert state.aliases == {"champion": "1.2.0", "challenger": "1.1.0"} and state.sequence == 4
    assert [(e.what, e.alias, e.version, e.before, e.who, e.why) for e in whole(stock)] == [("promote", "champion", "1.0.0", None, "Ann", "to begin with"), ("promote", "challenger", "1.1.0", None, "Bob", "promising"),
        ("promote", "champion", "1.1.0", "1.0.0", "Ann", "better in the [2J pilot"), ("promote", "champion", "1.2.0", "1.1.0", "Ann", "better still")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", e.when) for e in stock.history("tiny"))
    back = [stock.rollback("tiny", "champion", "Bob", "complaints").aliases["champion"] for _ in range(2)]
    assert back == ["1.1.0", "1.0.0"]  # once more goes back once more
    refused("none to go back to", stock.rollback, "tiny", "champion", "Bob", "complaints")
    assert stock.promote("tiny", "1.2.0", "champion", *WHY).aliases["champion"] == "1.2.0" and stock.rollback("tiny", "champion", *WHY).aliases["champion"] == "1.0.0"
    assert "challenger" not in stock.rollback("tiny", "challenger", *WHY).aliases  # nothing before, nothing after
    refused(["has no challenger", "--as challenger"], stock.rollback, "tiny", "challenger", *WHY)
    assert registry.open_registry(stock.url).state("tiny") == stock.state("tiny") and whole(stock)[-1].version is None


def test_who_and_why_are_needed(stock):
    for who, why, what in [("", "x", "who"), ("Ann", " \n", "why"), (None, "x", "who"), ("Ann", None, "why")]:
        refused(f"`{what}` is empty", stock.promote, "tiny", "1.0.0", "champion", who, why)
    assert stock.history("tiny") == []


def test_a_broken_bundle_is_not_rolled_back_to(stock, tmp_path):
    for v in ("1.0.0", "1.1.0"): stock.promote("tiny", v, "champion", *WHY)
    (tmp_path/"models"/"tiny"/"bundles"/f"{stock.version('tiny', '1.0.0').digest}.tar").unlink()
    refused("its file is gone", stock.rollback, "tiny", "champion", *WHY)
    (tmp_path/"models"/"tiny"/"bundles"/f"{stock.version('tiny', '1.1.0').digest}.tar").unlink()
    assert stock.promote("tiny", "1.2.0", "champion", *WHY).aliases["champion"] == "1.2.0"  # a broken champion keeps nobody from replacing it


def test_launches(stock, tmp_path):
    canary = {"kind": "canary", "challenger": "v1.1.0", "share": 0.1, "errors": 0.02, "latency_ms": 50.}
    refused("no champion", stock.set_launch, "tiny", canary, *WHY)
    stock.promote("tiny", "1.0.0", "champion", *WHY)
    state = stock.set_launch("tiny", canary, *WHY)
    assert state.launch == {"kind": "canary", "challenger": "1.1.0", "share": 0.1, "key": None, "errors": 0.02, "latency_ms": 50., "least": 100}
    refused("its own challenger", stock.set_launch, "tiny", canary | {"challenger": "champion"}, *WHY)
    refused("has no challenger", stock.set_launch, "tiny", canary | {"challenger": "challenger"}, *WHY)
    refused("has no version `7.7.7`", stock.set_launch, "tiny", canary | {"challenger": "7.7.7"}, *WHY)
    refused("`shares` is no part of it; did you mean `share`?", stock.set_launch, "tiny", canary | {"shares": 1}, *WHY)
    refused("no column", stock.set_launch, "tiny", canary | {"key": "shop"}, *WHY)
    stock.add(make(tmp_path/"b", columns=("x", "z")), *WHY, version="2.0.0")
    refused("z", stock.set_launch, "tiny", canary | {"challenger": "2.0.0"}, *WHY)
    off = stock.set_launch("tiny", None, "serve", "5 of 100 requests failed", what="rollback", since=state.sequence)
    assert off.launch is None and stock.set_launch("tiny", None, *WHY) == off  # ended is ended
    assert [(e.what, e.version, e.before, e.who) for e in whole(stock)[1:]] == [("launch", "1.1.0", None, "Ann"), ("rollback", None, "1.1.0", "serve")]
    stock.promote("tiny", "1.1.0", "challenger", *WHY)
    stock.set_launch("tiny", {"kind": "ab", "challenger": "challenger", "share": 0.5}, *WHY)
    assert stock.promote("tiny", "1.2.0", "canary", *WHY).launch and stock.promote("tiny", "1.2.0", "champion", *WHY).launch  # it goes on beside another champion
    assert stock.promote("tiny", "challenger", "champion", *WHY).launch is None  # the challenger has won
    stock.rollback("tiny", "champion", *WHY)
    stock.set_launch("tiny", {"kind": "ab", "challenger": "challenger", "share": 0.5}, *WHY)
    assert stock.promote("tiny", "2.0.0", "champion", *WHY).launch is None  # they no longer take the same requests
    stock.rollback("tiny", "champion", *WHY)
    stock.set_launch("tiny", {"kind": "ab", "challenger": "challenger", "share": 0.5}, *WHY)
    assert stock.rollback("tiny", "challenger", *WHY).launch is None  # there is no challenger any more


# ---- names

BAD = ["..", "../tiny", "tiny/../tiny", "/etc", "tiny\0", ".tiny", "", "a"*65, "tiny ", "ti/ny", "ti%2fny", "ti\nny", "-tiny", "tíny"]

@pytest.mark.parametrize("bad", BAD)
def test_no_name_leads_anywhere(stock, shelf, tmp_path, bad):
    secret = tmp_path/"secret.json"
    secret.write_text("{}")
    before = sorted(p for p in tmp_path.rglob("*"))
    for do in [lambda: stock.state(bad), lambda: stock.versions(bad), lambda: stock.history(bad), lambda: stock.load(bad, "1.0.0"), lambda: stock.promote(bad, "1.0.0", "champion", *WHY),
               lambda: stock.rollback(bad, "champion", *WHY), lambda: stock.set_launch(bad, {"kind": "ab", "challenger": "1.0.0", "share": 0.5}, *WHY), lambda: stock.pull(bad, "1.0.0", tmp_path/"out")]:
        refused("cannot be the name of a model", do)
    refused("no version", stock.load, "tiny", bad or "..")
    refused("no version", stock.load, "tiny", f"../versions/{bad}")
    refused("is no alias", stock.promote, "tiny", "1.0.0", bad, *WHY)
    refused("is no version", stock.add, shelf[3], *WHY, version=bad or "../x")
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_a_bundle_does_not_choose_its_place(stock, tmp_path):
    refused("cannot be the name of a model", stock.add, make(tmp_path/"b", name="../evil"), *WHY)
    b = make(tmp_path/"b", weight=0.1)
    import io, tarfile
    (b/"evil").write_text("x"); bundles.seal(b)
    sums = (b/"SHA256SUMS").read_text().replace("  evil", "  ../../evil")
    with tarfile.open(tmp_path/"evil.tar", "w") as tar:
        for p in sorted(b.iterdir()):
            data = sums.encode() if p.name == "SHA256SUMS" else p.read_bytes()
            entry = tarfile.TarInfo("../../evil" if p.name == "evil" else p.name); entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    try: stock.add(tmp_path/"evil.tar", *WHY)
    except core.ProjectError: return
    refused("might lead elsewhere", stock.pull, "tiny", stock.versions("tiny")[-1].version, tmp_path/"deep"/"er"/"out")
    assert not list(tmp_path.rglob("evil")) or list(tmp_path.rglob("evil")) == [b/"evil"]


def test_pull(stock, tmp_path):
    stock.promote("tiny", "1.1.0", "champion", *WHY)
    assert stock.pull("tiny", "champion", tmp_path/"out").version == "1.1.0" and bundles.load_bundle(tmp_path/"out").digest == stock.version("tiny").digest
    refused("not empty", stock.pull, "tiny", "champion", tmp_path/"out")
    (tmp_path/"file").write_text("")
    refused("not empty", stock.pull, "tiny", "champion", tmp_path/"file")
    refused("cannot be made: Not a directory", stock.pull, "tiny", "champion", tmp_path/"file"/"out")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # stands for a full disk
    try: refused(["cannot be made", "there is room"], stock.pull, "tiny", "champion", tmp_path/"full")
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (tmp_path/"empty").mkdir()
    assert stock.pull("tiny", "1.0.0", tmp_path/"empty").version == "1.0.0" and not list(tmp_path.glob(".*"))


# ---- at the same time

def scramble(url, people=6, turns=6):
    "Many who promote, roll back and launch at once, each with a connection of their own; wins and losses"
    won, lost = [], []
    def person(i):
        mine = registry.open_registry(url)
        for turn in range(turns):
            alias, version = registry.ALIASES[turn % 3], f"1.{(i + turn) % 3}.0"
            try:
                before = mine.state("tiny")
                after = mine.promote("tiny", version, alias, f"person {i}", f"turn {turn}", since=before.sequence)
                if after != before: won.append((i, turn))
            except Overtaken: lost.append((i, turn))
    with ThreadPoolExecutor(people) as all: list(all.map(person, range(people)))
    return won, lost


def test_each_change_has_one_winner(stock):
    won, lost = scramble(stock.url)
    entries = whole(stock)
    assert sorted((int(e.who.split()[1]), int(e.why.split()[1])) for e in entries) == sorted(won)  # whoever was told yes is there once, nobody else is


def test_the_slower_one_is_told_by_whom(stock):
    mine, hers = registry.open_registry(stock.url), registry.open_registry(stock.url)
    seen = mine.state("tiny").sequence
    hers.promote("tiny", "1.0.0", "champion", "Ann", "the pilot")
    words = refused(["Ann was quicker", "champion is 1.0.0", "the pilot", "decide again"], mine.promote, "tiny", "1.1.0", "champion", "Bob", "x", since=seen)
    assert isinstance(words, Overtaken) and mine.state("tiny").aliases == {"champion": "1.0.0"}


def test_two_add_at_once(tmp_path, shelf):
    url = str(tmp_path/"models")
    with ThreadPoolExecutor(8) as all: found = list(all.map(lambda i: registry.open_registry(url).add(shelf[i % 4], f"person {i}", "x"), range(8)))
    r = registry.open_registry(url)
    assert len({v.digest for v in r.versions("tiny")}) == len(r.versions("tiny")) == 4 == len({v.version for v in found})


# ---- killed

def test_killed_at_any_step(stock, shelf, tmp_path):
    "The process ends at each of its steps on the file system in turn: before or after, never half; and the next one can go on"
    fresh = shelf[3]
    def attempt(step, do):
        "Do it in a child that dies at its step-th call; has it come to the end?"
        pid = os.fork()
        if pid == 0:
            calls = [0]
            def mortal(f):
                def call(*args, **kwargs):
                    calls[0] += 1
                    if calls[0] == step: os.kill(os.getpid(), signal.SIGKILL)
                    return f(*args, **kwargs)
                return call
            for f in ("open", "link", "replace", "fsync", "makedirs", "unlink"): setattr(os, f, mortal(getattr(os, f)))
            registry._write = mortal(half)
            try: do()
            finally: os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write = registry._write
    def half(path, data): path.write_bytes(data[:len(data)//2]); path.unlink(); write(path, data)  # what dies in it leaves half a file
    seen = set()
    for do in (lambda: stock.add(fresh, *WHY), lambda: stock.promote("tiny", "1.2.0", "champion", *WHY)):
        for step in range(1, 60):
            done = attempt(step, do)
            reader = registry.open_registry(stock.url)
            entries = whole(reader)
            for v in reader.versions("tiny"): assert reader.load("tiny", v.version).digest == v.digest
            seen.add((len(reader.versions("tiny")), len(entries)))
            if done: break
        assert done and step > 5
    assert seen == {(3, 0), (4, 0), (4, 1)}
    left = [p for p in (tmp_path/"models").rglob(".*") if p.is_file()]
    for p in left: os.utime(p, (0, 0))
    stock.promote("tiny", "1.0.0", "champion", *WHY)
    assert left and not [p for p in (tmp_path/"models"/"tiny"/"history").glob(".*")]  # what the killed have left is swept up


KILLED = """
import sys, itertools
from {package}.registry import open_registry, Overtaken
r = open_registry(sys.argv[1])
r.state("tiny"); print("ready", flush=True)
for i in itertools.count():
    for b in sys.argv[2:]: r.add(b, "Ann", "x")
    try: r.promote("tiny", f"1.{{i % 3}}.0", "champion", "Ann", f"{{i}}")
    except Overtaken: pass
"""

def kill_writers(url, shelf, rounds, seed):
    "Two that write for ever are killed again and again; a third reads all the time"
    import random
    rng, stop, wrong, reads = random.Random(seed), threading.Event(), [], [0]
    def read():
        while not stop.is_set():
            try:
                r = registry.open_registry(url)
                whole(r); reads[0] += 1
                for v in r.versions("tiny"): r.load("tiny", v.version)
            except Exception as e: wrong.append(e)
    reader = threading.Thread(target=read); reader.start()
    try:
        for _ in range(rounds):
            both = [subprocess.Popen([sys.executable, "-c", KILLED.format(package=PACKAGE), url, *map(str, shelf)], cwd=ROOT, stdout=subprocess.PIPE, env=environment(ROOT) | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]
            for p in both: p.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            for p in both: p.kill(); p.wait(); p.stdout.close()
    finally: stop.set(); reader.join()
    assert not wrong, wrong[:3]
    return reads[0]


@pytest.mark.chains
def test_killed_while_writing(stock, shelf):
    assert kill_writers(stock.url, shelf, 30, seed=2) > 0
    assert stock.promote("tiny", "1.1.0", "canary", *WHY).aliases["canary"] == "1.1.0" and whole(stock)


def test_a_full_disk(stock, shelf):
    "No room: said, and nothing is half there"
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try: stock.promote("tiny", "1.0.0", "champion", *WHY)
        except Unreachable as e: os._exit(0 if "cannot be written" in str(e) and "room" in str(e) else 1)
        except BaseException: os._exit(2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert stock.history("tiny") == [] and stock.promote("tiny", "1.0.0", "champion", *WHY).sequence == 1


# ---- the price

def test_asking_for_the_state_costs_nothing(stock):
    "The server asks every second: at most 1 ms, over a folder with 200 changes; and a new change is seen at once"
    for i in range(200): stock._change("tiny", None, "promote", *WHY, "champion", f"1.{i % 3}.0")
    mine = registry.open_registry(stock.url)
    start = time.process_time(); mine.state("tiny"); first = time.process_time() - start
    start = time.process_time()
    for _ in range(200): mine.state("tiny")
    assert (time.process_time() - start)/200 < 0.001 and first < 0.05
    stock.promote("tiny", "1.0.0", "canary", *WHY)
    assert mine.state("tiny").aliases["canary"] == "1.0.0"


def test_the_serving_path_stays_light():
    code = f"import sys, {PACKAGE}.registry; print([m for m in sys.modules if m.split('.')[0] in ('pandas', 'sklearn', 'matplotlib', 'fsspec', 's3fs', 'rich', 'gto', 'dvc')])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


# ---- the commands

@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    "Run a command of the registry outside any project; what it prints"
    monkeypatch.chdir(tmp_path); monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path/"gitconfig"))
    for name in ("MODEL_REGISTRY", "GIT_AUTHOR_NAME"): monkeypatch.delenv(name, raising=False)
    (tmp_path/"gitconfig").write_text("[user]\n\tname = A. Person\n")
    def run(*words, code=0, at=tmp_path/"models"):
        assert cli.main(["registry", *map(str, words), *(["--registry", str(at)] if at else [])]) == code
        out = capsys.readouterr()
        return out.err if code else out.out
    return run


def test_the_commands_from_first_to_last(say, shelf, tmp_path):
    assert "No models yet" in say("list") and say("list", "--json") == "[]\n"
    out = say("add", shelf[0])
    assert "tiny 1.0.0 is in the registry" in out and "added by A. Person" in out and "registry promote tiny 1.0.0 --why" in out
    assert "The same requests and answers as 1.0.0's, from another model." in say("add", shelf[1], "--why", "half as sure")
    assert "tiny 1.1.0 is in the registry" in (again := say("add", shelf[1])) and "already" in again
    assert json.loads(say("add", shelf[2], "--version", "1.5.0", "--revision", "0a1b2c3", "--json"))["revision"] == "0a1b2c3"
    assert "Nothing was ever promoted" in say("history", "tiny")
    out = say("promote", "tiny", "1.0.0", "--why", "to begin with")
    assert "champion is 1.0.0 now." in out and "git was not told: there is no project here" in out
    assert "git" not in say("promote", "tiny", "1.1.0", "--why", "better", "--no-git")
    assert "champion is 1.1.0 already; nothing was changed" in say("promote", "tiny", "1.1.0", "--why", "x", "--no-git")
    assert "champion is 1.0.0 now, was 1.1.0" in say("rollback", "tiny", "--why", "complaints", "--who", "Bob", "--no-git")
    assert "challenger is 1.5.0 now" in say("promote", "tiny", "1.5.0", "--as", "challenger", "--why", "x", "--no-git")
    assert "no launch" in say("launch", "tiny")
    assert "canary of 1.5.0, 10 % of the requests, off above 2 % errors, off above 50 ms" in say("launch", "tiny", "canary", "challenger", "--share", "0.1", "--errors", "0.02", "--latency-ms", "50", "--least", "20", "--why", "x")
    table = say("list")
    assert re.search(r"model +champion +challenger +canary +launch +newest +versions", table) and re.search(r"tiny +1\.0\.0 +1\.5\.0 +canary of 1\.5\.0, 10 %", table)
    rows = say("show", "tiny").splitlines()
    assert rows[0].split()[:3] == ["version", "stands", "for"] and "challenger" in rows[1] and "roc_auc 0.8 (0.7 to 0.9)" in rows[1] and "0a1b2c3" in rows[1] and "champion" in rows[3] and "half as sure" in rows[2]
    one = say("show", "tiny@champion")
    assert "tiny 1.0.0 (champion)" in one and "asks for" in one and "yes from a score of 0.3 on, else no" in one
    past = say("history", "tiny").splitlines()
    assert [line.split()[0] for line in past[1:]] == ["5", "4", "3", "2", "1"] and re.search(r"Bob +rollback +champion is 1\.0\.0, was 1\.1\.0 +complaints", past[3])
    assert [e["what"] for e in json.loads(say("history", "tiny", "--json"))] == ["promote", "promote", "rollback", "promote", "launch"]
    assert "The launch has ended: canary of 1.5.0" in say("promote", "tiny", "challenger", "--why", "it has won", "--no-git")
    assert "serve --bundle" in say("pull", "tiny@1.1.0", tmp_path/"out") and bundles.load_bundle(tmp_path/"out")
    told = json.loads(say("show", "tiny", "--json"))
    assert told["state"]["aliases"]["champion"] == "1.5.0" and [v["version"] for v in told["versions"]] == ["1.0.0", "1.1.0", "1.5.0"]
    say("launch", "tiny", "ab", "1.0.0", "--share", "0.5", "--why", "x")
    assert "no launch" in say("launch", "tiny", "off", "--why", "enough")
    assert "Callers have to change: `z` is new." in say("add", make(tmp_path/"b", columns=("x", "z")))
    assert "Callers have to change: `z` is new." in say("promote", "tiny", "2.0.0", "--why", "x", "--no-git")
    assert "A draft" in say("add", make(tmp_path/"b", weight=0.01, draft=True))


def test_the_commands_refuse_in_words(say, shelf, tmp_path, capsys):
    say("add", shelf[0])
    for words, told in [(["promote", "tyni", "1.0.0", "--why", "x"], "did you mean `tiny`?"), (["promote", "tiny", "1.0.0", "--as", "champoin", "--why", "x"], "did you mean `champion`?"), (["promote", "tiny", "9.0.0", "--why", "x"], "There are: 1.0.0"),
                        (["promote", "tiny", "1.0.0", "--why", " "], "`why` is empty"), (["rollback", "tiny", "--why", "x"], "has no champion"), (["show", "../tiny"], "cannot be the name"), (["launch", "tiny", "--share", "0.1"], "What is to be launched?"),
                        (["launch", "tiny", "canary", "1.0.0", "--share", "0.1", "--why", "x"], "no champion"), (["pull", "tiny", tmp_path/"out"], "has no champion"), (["add", tmp_path/"nowhere"], "No bundle"), (["history", "tyni"], "did you mean `tiny`?")]:
        assert told in say(*words, code=2)
    assert "No registry was named" in say("list", at=None, code=2) and "No bundle was named" in say("add", code=2)
    for words in (["promote", "tiny", "1.0.0"], ["rollback", "tiny"], []):
        with pytest.raises(SystemExit): cli.main(["registry", *words])
    assert "required: --why" in capsys.readouterr().err


def test_the_environment_names_the_registry(say, shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path/"shared"))
    assert "1.0.0" in say("add", shelf[0], at=None) and registry.open_registry(str(tmp_path/"shared")).names() == ["tiny"]


def test_tables_without_rich():
    "Where only the serve extra is installed"
    code = f"import sys; sys.modules['rich'] = None; from {PACKAGE}.registrar import print_table; print_table(['model', 'champion'], [['tiny', '1.0.0']])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "model  champion\ntiny   1.0.0\n"


# ---- git and DVC

@pytest.fixture
def checkout(tmp_path, home, shelf):
    "A project under git and DVC whose chain makes a bundle, and does nothing else"
    house = House(tmp_path/"house", home)
    house.write("dvc.yaml", "stages: # as ever\n  package: {cmd: 'true', outs: [data/package/bundle: {persist: true}]}\n")
    house.write("params.yaml", "package: {}\n"); house.write(".gitignore", "/data/\n")
    shutil.copytree(ROOT/".dvc", house.root/".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    house.sh("git", "init", "-q")
    def bundle(i, commit=True):
        shutil.rmtree(house.root/"data/package/bundle", ignore_errors=True)
        shutil.copytree(shelf[i], house.root/"data/package/bundle")
        house.sh("dvc", "commit", "-q", "-f")
        if commit: house.commit(f"bundle {i}")
    house.bundle = bundle
    return house


def tags(house): return sorted(house.sh("git", "tag").split())


def test_a_promotion_by_command_is_a_tag(checkout, shelf, monkeypatch, capsys):
    "A project whose dvc.lock is written by hand; the same with DVC itself, and a clone, is the next test"
    monkeypatch.chdir(checkout.root)
    for name in ("MODEL_REGISTRY", "PYTHONPATH"): monkeypatch.delenv(name, raising=False)
    for name, value in checkout.env.items(): monkeypatch.setenv(name, value)
    def say(*words): assert cli.main(["registry", *map(str, words)]) == 0; return capsys.readouterr().out
    def made(i): checkout.write("dvc.lock", f"stages: {{package: {{outs: [{{path: {registrar.PLACE}, md5: {registrar.folder_hash(shelf[i])}}}]}}}}\n"); say("add", shelf[i])
    made(0)
    assert "git commit -a" in say("promote", "tiny", "1.0.0", "--why", "to begin with") and tags(checkout) == []
    checkout.commit("one")
    assert "tagged tiny@v1.0.0, tiny#prod#1" in say("promote", "tiny", "1.0.0", "--why", "to begin with")
    made(1); checkout.commit("two")
    assert "tagged tiny@v1.1.0, tiny#prod#2" in say("promote", "tiny", "1.1.0", "--why", "better")
    assert "tagged tiny#prod#3" in say("rollback", "tiny", "--why", "complaints")  # although another bundle lies in the tree
    assert checkout.sh("git", "log", "-1", "--format=%s", "tiny#prod#3").strip() == "one"
    from gto import api
    stands = lambda: [v["version"] for v in api.show(str(checkout.root), "tiny#prod")]  # what `gto show tiny#prod` tells
    assert stands() == ["v1.0.0"] and "nothing to tag" in say("promote", "tiny", "1.0.0", "--why", "x")
    assert "tagged tiny#prod#4" in say("promote", "tiny", "1.1.0", "--why", "better after all") and stands() == ["v1.1.0"]  # it has been there before
    assert tags(checkout) == [*(f"tiny#prod#{i}" for i in range(1, 5)), "tiny@v1.0.0", "tiny@v1.1.0"]


@pytest.mark.chains
def test_a_promoted_model_is_an_artefact_and_a_tag(checkout, tmp_path):
    us = (PACKAGE, "registry")
    (tmp_path/"remote").mkdir(); checkout.sh("dvc", "remote", "add", "-d", "-f", "shared", tmp_path/"remote")
    checkout.bundle(0, commit=False)
    out = checkout.sh(*us, "add")
    assert "added by A" in out
    out = checkout.sh(*us, "promote", "tiny", "1.0.0", "--why", "to begin with")
    assert "champion is 1.0.0 now" in out and "git was not told yet" in out and "git commit -a" in out and tags(checkout) == []
    assert checkout.text("dvc.yaml").startswith("stages: # as ever\n") and "artifacts: # models" in checkout.text("dvc.yaml")  # what was there is as it was
    checkout.commit("one")
    out = checkout.sh(*us, "promote", "tiny", "1.0.0", "--why", "to begin with")
    assert "nothing was changed" in out and "tagged tiny@v1.0.0, tiny#prod#1" in out
    checkout.bundle(1)
    assert json.loads(checkout.sh(*us, "add", "--json"))["revision"] == checkout.sh("git", "rev-parse", "HEAD").strip()
    assert "tagged tiny@v1.1.0, tiny#staging#2" in checkout.sh(*us, "promote", "tiny", "1.1.0", "--as", "challenger", "--why", "promising")
    assert "tagged tiny#prod#3" in checkout.sh(*us, "promote", "tiny", "challenger", "--why", "better")
    assert "tagged tiny#prod#4" in checkout.sh(*us, "rollback", "tiny", "--why", "complaints")  # although another bundle lies in the tree
    assert checkout.sh("git", "log", "-1", "--format=%s", "tiny@v1.0.0").strip() == "one" and "complaints" in checkout.sh("git", "tag", "-n1", "tiny#prod#4")
    assert [v["version"] for v in json.loads(checkout.sh("gto", "show", "tiny#prod", "--json"))] == ["v1.0.0"]  # what `churn#prod` means to GTO
    shown = json.loads(checkout.sh("gto", "show", "--json"))["tiny"]
    assert shown["version"] == "v1.1.0" and shown["stage"] == {"prod": "v1.0.0", "staging": "v1.1.0"}
    # somebody else, from a clone
    checkout.sh("dvc", "push", "--all-tags"); checkout.sh("git", "clone", "-q", ".", tmp_path/"clone")
    checkout.sh("dvc", "artifacts", "get", tmp_path/"clone", "tiny", "--stage", "prod", "-o", tmp_path/"theirs")
    assert bundles.load_bundle(tmp_path/"theirs").digest == registry.open_registry(checkout.root/"data"/"registry").version("tiny", "champion").digest
    assert "tagged tiny#staging!#5" in checkout.sh(*us, "rollback", "tiny", "--as", "challenger", "--why", "enough")
    assert json.loads(checkout.sh("gto", "show", "--json"))["tiny"]["stage"] == {"prod": "v1.0.0"}


def test_what_git_cannot_be_told_is_said(checkout, shelf):
    "The registry has its change all the same; nothing fails"
    r = registry.open_registry(str(checkout.root/"data"/"registry"))
    r.add(shelf[3], *WHY); r.promote("tiny", "1.0.0", "champion", *WHY)
    tell = lambda alias="champion", root=checkout.root: registrar.tell_git(root, r, "tiny", alias, "why")[0]
    assert "there is no project here" in tell(root=None)
    lock, dvc = f"stages: {{package: {{outs: [{{path: {registrar.PLACE}, md5: {registrar.folder_hash(shelf[3])}}}]}}}}\n", checkout.text("dvc.yaml")
    checkout.write("dvc.lock", lock.replace(".dir", ".other")); checkout.commit()
    assert "no commit's dvc.lock records this bundle" in tell() and "artifacts:" in checkout.text("dvc.yaml")
    checkout.write("dvc.lock", lock)
    assert "not told yet" in tell() and tags(checkout) == []
    checkout.commit()
    checkout.sh("git", "tag", "-a", "-m", "x", "tiny@v1.0.0", "HEAD~1")
    assert "the tag tiny@v1.0.0 is on another bundle" in tell()
    checkout.sh("git", "tag", "-d", "tiny@v1.0.0")
    sys.modules["gto"], real = None, sys.modules.pop("gto", None)
    try: assert "the package gto is not installed" in tell()
    finally: del sys.modules["gto"]; real and sys.modules.update(gto=real)
    assert "nothing to tag, tiny#staging is as it was" in tell("challenger") and tags(checkout) == []
    checkout.write("dvc.yaml", "artifacts: {tiny: {path: elsewhere}}\n" + dvc); checkout.write("dvc.lock", ""); checkout.commit()
    assert "has another artefact of that name" in tell()
    shutil.rmtree(checkout.root/".git")
    assert "not under git" in tell()


@pytest.mark.chains
def test_a_folder_is_hashed_as_dvc_does(checkout):
    b = checkout.root/"data/package/bundle"
    checkout.bundle(0, commit=False)
    for name in ("Z", "a-b", "a/b", "a.b", "ä"): core.write_file(b"x", b/f"{name}.bin")
    checkout.sh("dvc", "commit", "-q", "-f")
    assert registrar.folder_hash(b) in checkout.text("dvc.lock")


@pytest.mark.chains
def test_a_project_in_a_folder_of_a_repository(checkout, tmp_path):
    "The artefact's name then holds the folder, as GTO has it"
    checkout.bundle(0, commit=False)
    shutil.rmtree(checkout.root/".git")
    (tmp_path/"big"/"ml").mkdir(parents=True); shutil.rmtree(checkout.root/".dvc")
    for p in checkout.root.iterdir(): shutil.move(p, tmp_path/"big"/"ml")
    big, small = House(tmp_path/"big", checkout.env["HOME"]), House(tmp_path/"big"/"ml", checkout.env["HOME"])
    small.write("dvc.yaml", registrar.add_artifact(small.text("dvc.yaml"), "tiny"))
    big.sh("git", "init", "-q"); big.commit("one")
    small.sh(PACKAGE, "registry", "add")
    assert "tagged ml=tiny@v1.0.0, ml=tiny#prod#1" in small.sh(PACKAGE, "registry", "promote", "tiny", "1.0.0", "--why", "x")
    assert json.loads(big.sh("gto", "show", "--json"))["ml:tiny"]["stage"] == {"prod": "v1.0.0"}


# ---- in a bucket

@pytest.fixture(scope="module")
def server():
    "A server that speaks S3, on loopback; it looks whether there is a key and puts it in one go, as S3 does"
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto[server] is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from werkzeug.serving import make_server
    app, lock = moto.DomainDispatcherApplication(moto.create_backend_app), threading.Lock()
    def one_by_one(environ, start):
        with lock: return [b"".join(app(environ, start))]
    import logging
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s = make_server("127.0.0.1", 0, one_by_one, True, request_handler=moto.MotoRequestHandler)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{s.server_port}"
    s.shutdown()


@pytest.fixture
def s3(server, monkeypatch):
    "An empty bucket"
    keys = dict(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="hunter2", AWS_ENDPOINT_URL=server, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    for key, value in keys.items(): monkeypatch.setenv(key, value)
    import s3fs
    s3fs.S3FileSystem.clear_instance_cache()
    fs, name = s3fs.S3FileSystem(use_listings_cache=False), f"bucket{os.urandom(4).hex()}"
    fs.mkdir(name)
    yield fs, f"s3://{name}/models"
    fs.rm(name, recursive=True)


def test_a_registry_in_s3(s3, shelf, tmp_path):
    fs, url = s3
    mine, hers = registry.open_registry(url), registry.open_registry(url)
    assert mine.names() == [] and mine.state("tiny") == registry.State()
    assert [mine.add(b, *WHY).version for b in shelf[:3]] == ["1.0.0", "1.1.0", "1.2.0"] and hers.add(shelf[1], "Bob", "again").version == "1.1.0"
    mine.promote("tiny", "1.0.0", "champion", *WHY)
    assert hers.state("tiny").aliases == {"champion": "1.0.0"} and hers.names() == ["tiny"] and [v.who for v in hers.versions("tiny")] == ["Ann"]*3
    hers.promote("tiny", "1.1.0", "champion", "Bob", "better")
    assert mine.state("tiny").sequence == 2 and mine.rollback("tiny", "champion", *WHY).aliases == {"champion": "1.0.0"}
    assert hers.set_launch("tiny", {"kind": "shadow", "challenger": "1.2.0"}, *WHY).launch["kind"] == "shadow"
    assert [e.what for e in whole(mine)] == ["promote", "promote", "rollback", "launch"]
    assert mine.load("tiny", "champion").digest == mine.version("tiny", "1.0.0").digest
    assert hers.pull("tiny", "1.2.0", tmp_path/"out").version == "1.2.0" and bundles.load_bundle(tmp_path/"out").predict({"x": np.array([0.3])})["scores"][0, 1] == pytest.approx(0.1)
    refused("another bundle", hers.add, shelf[3], *WHY, version="1.0.0")
    tar = f"{url}/tiny/bundles/{mine.version('tiny', '1.2.0').digest}.tar"
    fs.pipe_file(tar, fs.cat_file(tar).replace(b'"threshold": 0.3', b'"threshold": 0.9'))
    refused(["bundle.json was changed", "mends it"], registry.open_registry(url).promote, "tiny", "1.2.0", "champion", *WHY)
    mine.add(shelf[2], *WHY)
    assert registry.open_registry(url).promote("tiny", "1.2.0", "champion", *WHY).aliases == {"champion": "1.2.0"}


@pytest.mark.chains
def test_in_s3_each_change_has_one_winner(s3, shelf):
    _, url = s3
    r = registry.open_registry(url)
    for b in shelf[:3]: r.add(b, *WHY)
    won, lost = scramble(url, people=3, turns=2)
    assert won and sorted((int(e.who.split()[1]), int(e.why.split()[1])) for e in whole(r)) == sorted(won)


def test_a_store_that_overwrites_is_found_out(s3, shelf):
    "Some stores that speak S3 pass over If-None-Match: there, two could win"
    fs, url = s3
    r = registry.open_registry(url)
    r.files._new = lambda path, data: fs.pipe_file(r.files._at(path), data) and None
    refused(["overwrites", "If-None-Match"], r.add, shelf[0], *WHY)
    assert registry.open_registry(url).names() == []


def test_an_answer_that_was_lost_is_no_defeat(s3, shelf):
    "The driver asks again when no answer comes, and finds its own change there: that is a success, not somebody else's"
    fs, url = s3
    r = registry.open_registry(url)
    r.add(shelf[0], *WHY)
    new = r.files._new
    r.files._new = lambda path, data: (new(path, data), new(path, data))[1]
    assert r.promote("tiny", "1.0.0", "champion", *WHY).sequence == 1 == len(whole(r))


@pytest.mark.chains
def test_a_conflict_is_tried_again(s3, shelf):
    "S3 answers 409 while somebody else's conditional put is under way, and then there may be nothing after all"
    _, url = s3
    r = registry.open_registry(url)
    r.add(shelf[0], *WHY)
    new, said = r.files._new, [OSError(16, "conflict"), OSError(16, "conflict")]
    r.files._new = lambda path, data: said.pop() if said else new(path, data)
    assert r.promote("tiny", "1.0.0", "champion", *WHY).sequence == 1 and not said
    r.files._new = lambda path, data: OSError(16, "conflict")
    assert isinstance(refused("conflict", r.promote, "tiny", "1.0.0", "canary", *WHY), Unreachable) and len(whole(r)) == 1


@pytest.mark.chains
def test_a_fork_has_a_connection_of_its_own(s3, shelf):
    "The server's workers are forks of a process that has looked already"
    _, url = s3
    r = registry.open_registry(url)
    r.add(shelf[0], *WHY); r.promote("tiny", "1.0.0", "champion", *WHY)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try: os._exit(0 if r.state("tiny").aliases == {"champion": "1.0.0"} and r.load("tiny", "champion").digest else 1)
        except BaseException: os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_stores_that_cannot_be_reached(monkeypatch, s3, shelf):
    for do, *words in [(registry.open_registry("s3://nobodys-bucket/models").add, shelf[0], *WHY), (registry.open_registry("s3://nobodys-bucket/models").names,)]: refused("bucket does not exist", do, *words)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs
    s3fs.S3FileSystem.clear_instance_cache()
    start = time.monotonic()
    error = refused(["cannot be read", "endpoint"], registry.open_registry("s3://bucket/models").state, "tiny")
    assert isinstance(error, Unreachable) and "hunter2" not in str(error) and time.monotonic() - start < 10


@pytest.mark.parametrize("url, words", [("s3://key:hunter2@bucket/models", "holds credentials"), ("ftp://host/models", "cannot be kept at ftp://"), ("https://host/models", "a folder, or a store"), ("s4://bucket", "did you mean `s3`?"), ("s3://", "names no bucket")])
def test_addresses(url, words): assert "hunter2" not in str(refused(words, registry.open_registry, url))
