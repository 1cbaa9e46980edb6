"""The loop: each verdict is carried out, nothing is lost by a kill, nothing is taken along that is not its own.

The quick tests replace `dvc repro` by a function that makes what the chain would leave: files, a sealed bundle and a dvc.lock that depend on the dials alone.
Git, tags, registry and files are real. The slow ones run the real chain, and kill it."""
import argparse, fcntl, hashlib, json, os, random, shutil, signal, subprocess, time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bundles import weighted
from conftest import EXAMPLE_FILE, PACKAGE, ROOT, House, clone
from mlcycle import alert, collect, core, registrar, registry, turn
from mlcycle import prepare as prepare_module

PARAMS = """# mine
frame: {status: launch, owner: Ann}
collect:
  source: example:tiny
  name: tiny
  until: null # time travel
prepare:
  cut: null # by share
  learn: {since: null, until: null} # all
evaluate:
  champion: null # none yet
retrain:
  previous: null # to go back to
loop:
  approval: false
  win: better
  launch: null
"""
STORY = {"2024-06-01": {"verdict": "keep"}, "2024-07-01": {"verdict": "retrain", "window": {"since": "2024-02-01", "until": None}}, "2024-08-01": {"verdict": "recalibrate", "window": None},
         "2024-09-01": {"verdict": "rollback"}, "2024-10-01": {"verdict": "stop"}}


def make_chain(root, words=(), brief=False):
    "What the chain leaves, from the dials alone; after a change of the champion the verdict is keep, until there is news"
    root, params, story = Path(root), yaml.safe_load((Path(root)/"params.yaml").read_text()), json.loads((Path(root)/"story.json").read_text())
    dials = turn.read_dials(params)
    until, cut = dials["collect"]["until"] or "2024-06-01", dials["prepare"]["cut"] or "2024-04-01"
    put = lambda obj, path: core.write_file(obj, root/"data"/path)
    if story.get("break") == until: return 2
    put({"cuts": {} if story.get("timeless") else {"validation": "2024-02-01", "test": "2024-03-01", "production": cut}}, "prepare/split.json")
    if list(words) == ["prepare"]: return 0
    put({"columns": [{"name": "day", "role": "time"}]}, "collect/contract.json")
    put(pd.DataFrame({"day": pd.date_range(cut, until, freq="MS").astype("datetime64[us]")}), "prepare/production.parquet")
    made_of = json.dumps([cut, dials["prepare"]["learn"], dials["evaluate"], params["frame"]])
    weight = 0.5 + int(hashlib.sha256(made_of.encode()).hexdigest()[:6], 16)/2**26
    shutil.rmtree(root/"data/package/bundle", ignore_errors=True)
    weighted(root/"data/package/bundle", weight)
    found = story.get(until, {"verdict": "keep"}) if cut < until and not (story.get(until, {}).get("verdict") == "rollback" and not dials["evaluate"]["champion"]) else {"verdict": "keep"}
    put({"window": None, "reasons": [f"the story at {until}"]} | found, "retrain/decision.json")
    put({"verdict": found["verdict"], "until": until}, "retrain/metrics.json")
    put({"verdict": "pass", "reasons": []} | story.get("gate", {}), "evaluate/gate.json")
    gap = {"value": 0.02, "low": 0.01, "high": 0.03} | story.get("gap", {})
    put({"champion": {"rows": 900, "difference": gap["value"], "intervals": {"difference": [gap["low"], gap["high"]]}} if dials["evaluate"]["champion"] else {}}, "evaluate/metrics.json")
    (root/"dvc.lock").write_text(f"stages: {{package: {{outs: [{{path: {registrar.PLACE}, md5: {registrar.folder_hash(root/registrar.PLACE)}}}]}}}}\n# {until}\n")
    return 0


class Small(House):
    "A project whose chain is replaced, under git"
    def loop(self, until=None, word=None, why=None, who=None): return argparse.Namespace(until=until, word=word, why=why, who=who, registry=None, what=None)

    def turn(self, *args, **kwargs):
        "One call of the command; its exit code"
        try:
            with turn.alone(self.root): return turn.take_turn(self.root, self.loop(*args, **kwargs))
        except turn.Ended as e: print(e); return e.code

    @property
    def registry(self): return registry.open_registry(str(self.root/"data"/"registry"))

    def champion(self, name="tiny"): return self.registry.state(name).aliases.get("champion")

    def tags(self): return self.sh("git", "tag").split()

    def story(self, **more): self.write("story.json", json.dumps(STORY | more)); self.commit("story")

    def end(self):
        "What a turn leaves, but for clocks and revisions"
        digest = {v.version: v.digest for v in self.registry.versions("tiny")}
        history = [(e.what, e.alias, e.version, e.launch, e.why) for e in self.registry.history("tiny")] if digest else []
        trees = {t: self.sh("git", "rev-parse", f"{t}^{{tree}}").strip() for t in self.tags()}
        subjects = self.sh("git", "log", "--format=%s").splitlines()
        return dict(versions=digest, history=history, trees=trees, subjects=subjects, status=self.sh("git", "status", "--porcelain"), open=(self.root/turn.OPEN).exists())


@pytest.fixture(scope="module")
def empty(tmp_path_factory, home):
    house = Small(tmp_path_factory.mktemp("loop")/"house", home)
    house.write("params.yaml", PARAMS); house.write("story.json", json.dumps(STORY))
    house.write("dvc.yaml", "stages:\n  package: {cmd: 'true', outs: [data/package/bundle]}\n")
    house.write(".gitignore", "/data/*/?*\n!/data/*/metrics.json\n")
    house.sh("git", "init", "-q"); house.commit("start")
    return house


@pytest.fixture
def small(empty, tmp_path, home, monkeypatch):
    "A small house before its first turn"
    shutil.copytree(empty.root, tmp_path/"house")
    house = Small(tmp_path/"house", home)
    for name in ("MODEL_REGISTRY", "PYTHONPATH"): monkeypatch.delenv(name, raising=False)
    for name, value in house.env.items(): monkeypatch.setenv(name, value)
    monkeypatch.setattr(turn, "reproduce", lambda root, words=(), brief=False: (make_chain(root, words, brief), {}))
    return house


# ---- each verdict

def test_the_verdicts_are_carried_out_one_after_the_other(small, capsys):
    assert small.turn("2024-05-01") == 0 and small.champion() == "1.0.0" and "cut: '2024-04-01' # by share" in small.text("params.yaml")
    assert {"loop-0001", "tiny@v1.0.0", "tiny#prod#1"} == {*small.tags()}
    assert small.turn("2024-06-01") == 0 and small.champion() == "1.0.0"                     # keep
    assert small.turn("2024-07-01") == 0 and small.champion() == "1.1.0"                     # retrain
    dials = turn.read_dials(yaml.safe_load(small.text("params.yaml")))
    assert dials["prepare"] == {"cut": "2024-07-01", "learn": {"since": "2024-02-01", "until": None}} and dials["evaluate"]["champion"]["version"] == "tiny@v1.0.0"
    assert turn.load_bundle(small.root/dials["retrain"]["previous"]).digest == dials["evaluate"]["champion"]["digest"]
    assert dials["evaluate"]["champion"]["digest"] == small.registry.version("tiny", "1.0.0").digest
    assert small.turn("2024-08-01") == 0 and small.champion() == "1.2.0"                     # recalibrate: the training rows stay
    assert turn.read_dials(yaml.safe_load(small.text("params.yaml")))["prepare"] == {"cut": "2024-08-01", "learn": {"since": "2024-02-01", "until": "2024-02-01"}}
    assert small.turn("2024-09-01") == 0 and small.champion() == "1.1.0"                     # back, and so are the dials
    dials = turn.read_dials(yaml.safe_load(small.text("params.yaml")))
    assert dials["prepare"]["cut"] == "2024-07-01" and Path(dials["retrain"]["previous"]).name == small.registry.version("tiny", "1.0.0").digest
    assert turn.bundle_here(small.root).digest == small.registry.version("tiny", "champion").digest
    capsys.readouterr()
    assert small.turn("2024-10-01") == 3 and "Ann decides" in capsys.readouterr().out        # stop
    assert small.turn("2024-10-01") == 3 and "Nothing is new since turn 6" in capsys.readouterr().out
    assert small.sh("git", "status", "--porcelain") == "" and small.text("params.yaml").count("#") == PARAMS.count("#")
    assert [t for t in small.tags() if t.startswith("loop")] == [f"loop-000{i}" for i in range(1, 7)]
    assert turn.tell_history(small.root, small.loop()) == 0 and turn.tell_status(small.root, small.loop()) == 0
    said = capsys.readouterr().out
    assert "rollback" in said and "git worktree add ../loop-0006" in said and "champion: tiny 1.1.0" in said


def test_nothing_new_leaves_nothing(small, capsys):
    small.turn("2024-05-01"); before = small.end()
    for _ in range(2): assert small.turn() == 0
    assert small.end() == before and "Nothing is new since turn 1" in capsys.readouterr().out


@pytest.mark.parametrize("more, words", [({"gap": {"value": -0.01, "low": -0.02, "high": 0.01}}, "has to be better"), ({"gate": {"verdict": "fail", "reasons": ["too slow"]}}, "too slow")])
def test_a_challenger_that_loses_leaves_the_champion_where_it_was(small, capsys, more, words):
    small.story(**more); small.turn("2024-05-01"); small.turn("2024-07-01")
    assert words in capsys.readouterr().out and small.champion() == "1.0.0" and [v.version for v in small.registry.versions("tiny")] == ["1.0.0"]
    dials = turn.read_dials(yaml.safe_load(small.text("params.yaml")))
    assert dials["prepare"]["cut"] == "2024-04-01" and dials["collect"]["until"] == "2024-07-01" and dials["evaluate"]["champion"] is None
    assert turn.bundle_here(small.root).digest == small.registry.version("tiny", "champion").digest
    assert "cut: '2024-07-01'" in small.sh("git", "show", "HEAD~1:params.yaml")               # what was tried can be looked at


def test_data_that_break_the_contract_change_nothing(small, capsys):
    small.story(**{"break": "2024-06-01"}); small.turn("2024-05-01"); before = small.end()
    assert small.turn("2024-06-01") == 2 and "the champion goes on" in capsys.readouterr().out and small.end() == before
    small.story(); assert small.turn("2024-06-01") == 0


def test_a_canary_stands_its_time_and_is_promoted_by_a_later_turn(small, monkeypatch, capsys):
    small.turn("2024-05-01")
    small.edit("params.yaml", "launch: null", "launch: {kind: canary, share: 0.1, hours: 1000, errors: 0.05}"); small.commit("canary")
    assert small.turn("2024-07-01") == 0 and small.champion() == "1.0.0" and small.registry.state("tiny").launch["challenger"] == "1.1.0"
    assert turn.bundle_here(small.root).digest == small.registry.version("tiny", "1.0.0").digest       # the champion is watched meanwhile
    before = small.end(); assert small.turn() == 0 and small.end() == before                          # its time is not over
    assert small.turn("2024-08-01") == 0 and "waits for the end of the launch" in capsys.readouterr().out and small.champion() == "1.0.0"
    small.edit("params.yaml", "hours: 1000", "hours: 0"); small.story(**{"2024-08-01": {"verdict": "keep"}})
    assert small.turn() == 0 and small.champion() == "1.1.0" and small.registry.state("tiny").launch is None
    assert turn.bundle_here(small.root).digest == small.registry.version("tiny", "1.1.0").digest and "tiny#prod#2" in small.tags()


def test_a_canary_that_was_taken_off_is_told(small, capsys):
    small.edit("params.yaml", "launch: null", "launch: {kind: canary, share: 0.1, hours: 0, errors: 0.05}"); small.commit("canary")
    small.turn("2024-05-01"); small.turn("2024-07-01")
    small.registry.set_launch("tiny", None, "a server", "7 of 100 answers failed", "rollback")
    assert small.turn() == 0 and small.champion() == "1.0.0" and "7 of 100 answers failed" in capsys.readouterr().out


def test_a_person_has_the_last_word(small, capsys):
    small.turn("2024-05-01"); small.edit("params.yaml", "approval: false", "approval: true"); small.commit("ask")
    assert small.turn("2024-07-01") == 4 and small.champion() == "1.0.0" and "loop --approve" in capsys.readouterr().out
    assert small.turn() == 4 and turn.tell_status(small.root, small.loop()) == 4
    assert small.turn(word=True) == 2 and "needs its reason" in capsys.readouterr().out
    (small.root/turn.OPEN).unlink()                                                        # another machine has only what git has
    assert small.turn(word=True, why="seen its card", who="Bob") == 0 and small.champion() == "1.1.0"
    assert small.registry.history("tiny")[-1].who == "Bob" and small.turn(word=True, why="x") == 2
    assert small.turn("2024-08-01") == 4 and small.turn(word=False, why="too soon", who="Bob") == 0 and small.champion() == "1.1.0"
    assert "refused by Bob: too soon" in capsys.readouterr().out and small.sh("git", "status", "--porcelain") == ""
    assert turn.bundle_here(small.root).digest == small.registry.version("tiny", "champion").digest


def test_while_a_turn_waits_nobody_s_changes_are_taken_along_and_asking_can_be_ended(small, capsys):
    small.turn("2024-05-01"); small.edit("params.yaml", "approval: false", "approval: true"); small.commit("ask")
    assert small.turn("2024-07-01") == 4
    small.edit("params.yaml", "approval: true", "approval: false")
    assert small.turn() == 2 and "Not committed: params.yaml" in capsys.readouterr().out
    small.commit("ask no more"); assert small.turn() == 0 and small.champion() == "1.1.0"


def test_only_what_was_judged_is_added(small, monkeypatch, capsys):
    small.turn("2024-05-01")
    monkeypatch.setitem(turn.STEPS, "add", lambda house, t: shutil.rmtree(house.root/turn.PLACE) or weighted(house.root/turn.PLACE, 0.123) and turn.add(house, t))
    assert small.turn("2024-07-01") == 2 and "is not the challenger that turn 2 has judged" in capsys.readouterr().out
    assert [v.version for v in small.registry.versions("tiny")] == ["1.0.0"]


def test_a_window_that_is_the_champion_s_own_makes_nothing(small, capsys):
    small.story(**{"2024-07-15": {"verdict": "retrain", "window": {"since": "2024-02-01", "until": None}}})
    small.turn("2024-05-01"); small.turn("2024-07-01")
    assert small.turn("2024-07-15") == 0 and small.champion() == "1.1.0" and "no row is newer than its window" in capsys.readouterr().out


def test_stop_reaches_whoever_gets_the_alerts(small, monkeypatch, capsys):
    sent = []
    monkeypatch.setattr(turn, "deliver", lambda alerts, urls, name: sent.append((alerts, urls, name)) or {"${OPS}": "${OPS} is not set"})
    small.edit("params.yaml", "loop:\n", "monitor: {alerts: {urls: ['${OPS}']}}\nloop:\n"); small.commit("urls")
    small.turn("2024-05-01"); small.turn("2024-06-01"); assert sent == []
    assert small.turn("2024-10-01") == 3 and small.turn("2024-10-01") == 3 and "${OPS} is not set" in capsys.readouterr().out
    ([news], urls, name), = sent
    assert urls == ["${OPS}"] and name == "tiny" and news["owner"] == "Ann" and "not worth it" in alert.say_alert(news)


def test_a_canary_that_is_taken_off_at_the_last_moment_is_not_promoted(small, monkeypatch):
    small.edit("params.yaml", "launch: null", "launch: {kind: canary, share: 0.1, hours: 0, errors: 0.05}"); small.commit("canary")
    small.turn("2024-05-01"); small.turn("2024-07-01")
    crown = turn._crown
    def late(house, *rest): small.registry.set_launch("tiny", None, "a server", "7 of 100 answers failed", "rollback"); return crown(house, *rest)
    monkeypatch.setattr(turn, "_crown", late)
    assert small.turn() == 0 and small.champion() == "1.0.0" and small.registry.state("tiny").launch is None


def test_a_turn_that_another_machine_has_closed_is_closed_here(small):
    small.turn("2024-05-01"); small.edit("params.yaml", "approval: false", "approval: true"); small.commit("ask")
    small.turn("2024-07-01"); stale = small.text(turn.OPEN)
    assert small.turn(word=True, why="good") == 0
    small.write(turn.OPEN, stale); before = small.end() | {"open": False}
    assert small.turn() == 0 and small.end() == before


# ---- refused before anything is touched

def test_what_cannot_go_well_is_refused_first(small, capsys, monkeypatch):
    def refused(*words, undo=None):
        before = small.text("params.yaml")
        assert small.turn("2024-05-01") == 2 and small.text("params.yaml") == before and not (small.root/turn.OPEN).exists()
        said = capsys.readouterr().out
        for w in words: assert w in said, (w, said)
        small.sh("git", "checkout", "-q", "."); small.sh("git", "clean", "-fdq")
    small.edit("params.yaml", "# mine", "# my own"); refused("Not committed: params.yaml", "git stash")
    small.write("nbs/50_mine.ipynb", "x"); refused("nbs/50_mine.ipynb")
    small.edit("params.yaml", "status: launch", "status: draft"); refused("frame.status: launch")
    small.edit("params.yaml", "source: example:tiny", "source: data/raw/x.csv\n  rows: 100"); refused("`collect.rows` is 100")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null"); monkeypatch.setenv("GIT_CONFIG_COUNT", "1"); monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly"); monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    for w in ("AUTHOR", "COMMITTER"): monkeypatch.delenv(f"GIT_{w}_NAME"); monkeypatch.delenv(f"GIT_{w}_EMAIL")
    refused("git config user.name")
    shutil.rmtree(small.root/".git"); assert small.turn() == 2 and "git init" in capsys.readouterr().out


def test_a_lock_of_git_is_removed_only_after_a_turn_was_killed(small, capsys):
    small.turn("2024-05-01"); lock = small.root/".git/index.lock"; lock.touch()
    with pytest.raises(core.ProjectError, match="index.lock"): small.turn("2024-06-01")
    assert lock.exists() and small.turn("2024-06-01") == 0 and not lock.exists()             # that turn is open now


def test_a_table_without_time_is_no_loop(small, capsys):
    small.story(timeless=True); before = small.end()
    assert small.turn() == 2 and "role `time`" in capsys.readouterr().out and small.end() == before


def test_a_clock_that_goes_backwards_is_refused(small, capsys):
    small.turn("2024-05-01"); small.turn("2024-06-01"); before = small.end()
    assert small.turn("2024-05-15") == 2 and "2024-06-01 or later" in capsys.readouterr().out
    assert small.turn("2024-7-1") == 2 and "Allowed: a date such as" in capsys.readouterr().out
    assert small.turn(None) == 0 and small.end() == before


@pytest.mark.parametrize("gap, champion", [({"value": -0.001, "low": -0.01, "high": 0.01}, "1.1.0"), ({"value": -0.05, "low": -0.08, "high": -0.01}, "1.0.0")])
def test_a_change_in_the_repository_makes_a_challenger(small, capsys, gap, champion):
    small.story(gap=gap); small.turn("2024-05-01")
    small.edit("params.yaml", "owner: Ann", "owner: Eve"); small.commit("another model")
    assert small.turn() == 0 and small.champion() == champion and "code, contract or parameters have changed" in capsys.readouterr().out
    assert turn.read_dials(yaml.safe_load(small.text("params.yaml")))["prepare"]["cut"] == "2024-04-01"


def test_two_at_once_and_a_run_beside_it(small, capsys):
    with turn.alone(small.root): assert small.turn() == 5 and f"process {os.getpid()}" in capsys.readouterr().out
    (small.root/"data/runs").mkdir(parents=True)
    with open(small.root/"data/runs/.train.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(turn.Ended, match="notebook"): turn.wait_free(small.root, 0.2)


def test_with_a_fixed_cut_new_rows_leave_what_is_learned_from_byte_by_byte(tmp_path):
    from test_prepare import prepare, refusal, table
    rows = table().assign(known=lambda t: t.when + pd.to_timedelta(20 + t.index % 11, unit="D"))
    rows.loc[rows.index % 50 == 0, "known"] = None                                          # labels whose arrival nobody wrote down
    rows.loc[890, "known"] = pd.Timestamp("2029-01-01")                                     # later than all before: no business of what lies before the cut
    dials = dict(cut="2025-01-01", learn=prepare_module.Learn(since="2024-02-01"))
    def made(n):
        tables, report, *_ = prepare(rows[:n], **dials)
        for name, part in tables.items(): part.to_parquet(tmp_path/f"{name}.parquet", index=False)
        return [(tmp_path/f"{name}.parquet").read_bytes() for name in ("train", "validation", "test")] + [prepare_module.learned_part(report)], report["rows"]
    (some, few), (whole, many) = made(760), made(900)
    assert some == whole and few["production"] < many["production"] and few["outside"] == many["outside"] > 0
    refusal(["`prepare.cut` is 2030-01-01", "Allowed: after 2024-01-01, up to", "to null"], prepare, rows, cut="2030-01-01")
    refusal(["`prepare.learn.since` is", "Allowed: before 2025-01-01"], prepare, rows, cut="2025-01-01", learn=prepare_module.Learn(since="2025-01-01"))
    refusal(["`prepare.cut` is 'soon'", "a date in quotes"], prepare, rows, cut="soon")
    refusal(["no label had arrived before", "Set `prepare.cut` to a later moment"], prepare, rows, cut="2024-01-05")
    refusal(["`prepare.cut` is 2025-01-01, and a group split knows no time"], prepare, table(time=False), cut="2025-01-01")
    refusal(["a date needs quotes"], core.check_section, prepare_module.Learn, {"since": pd.Timestamp("2024-01-01").date()}, "prepare.learn")


def test_what_is_known_by_now_makes_no_other_model():
    "All parameters of collect but `until` are part of a bundle"
    named = yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"]["package"]["params"]
    assert {n.removeprefix("collect.") for n in named if n.startswith("collect")} == {*collect.Params.model_fields} - {"until"}


def test_a_time_that_is_a_number_keeps_its_digits():
    import numpy as np
    from test_prepare import prepare, table
    rows = table().assign(when=lambda t: 1712345678. + 3600*np.arange(len(t)))
    cut = prepare(rows, {"when":"time"})[1]["cuts"]["production"]
    assert turn.as_moment(cut) in set(rows["when"]) and prepare(rows, {"when":"time"}, cut=turn.as_moment(cut))[1]["cuts"]["production"] == cut


def test_dials_keep_comments_and_refuse_what_they_cannot_keep():
    text = EXAMPLE_FILE.read_text()
    new = turn.turn_dials(text, {"collect": {"until": "2024-10-01"}, "prepare": {"cut": "2024-06-01", "learn": {"since": None, "until": "2024-01-01T12:00:00"}}, "evaluate": {"champion": {"version": "churn@v1.0.0", "digest": "0f"*32}}})
    assert new.count("#") == text.count("#") and len(new.splitlines()) == len(text.splitlines()) and turn.turn_dials(new, turn.read_dials(yaml.safe_load(text))) == text
    old = text.replace('  until: null # rows and labels', '  # rows and labels')
    assert yaml.safe_load(turn.turn_dials(old, {"collect": {"until": 3.5}}))["collect"]["until"] == 3.5   # a file from before there was such a key
    with pytest.raises(core.ProjectError): core.check_section(turn.Params, {"approval": "maybe", "win": "better", "launch": None}, "loop")


# ---- killed

def kill_at(small, k, *args):
    "Make a turn in a child that is killed at its k-th effect; did it live?"
    child = os.fork()
    if child: return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = [k]
    def counted(f):
        def wrapped(*a, **kw):
            left[0] -= 1
            if left[0] == 0: os._exit(9)       # before it
            out = f(*a, **kw)
            left[0] -= 1
            if left[0] == 0: os._exit(9)       # after it
            return out
        return wrapped
    os.replace, os.link, subprocess.run = counted(os.replace), counted(os.link), counted(subprocess.run)
    try: os._exit(0 if small.turn(*args) in (0, 3, 4) else 1)
    except BaseException: import traceback; traceback.print_exc()
    os._exit(1)


def sound(small, digests):
    "Never two champions, never a half-promoted bundle"
    state = small.registry.state("tiny")
    if not state.aliases: return
    assert small.registry.load("tiny", "champion").digest in digests            # every byte is checked
    assert (state.launch or {}).get("challenger") != state.aliases["champion"]


TURNS = [("2024-05-01",), ("2024-07-01",), ("2024-08-01",), ("2024-09-01",)]


def test_killed_further_and_further_the_end_is_that_of_an_undisturbed_run(small, empty, tmp_path, home):
    "A retrain that is promoted; the child is killed at its 1st, 18th, 35th … effect until it lives"
    for at in TURNS[:2]: assert small.turn(*at) == 0
    wanted = small.end()
    shutil.copytree(empty.root, tmp_path/"other"); other = Small(tmp_path/"other", home)
    assert other.turn(*TURNS[0]) == 0
    k = 1
    while not kill_at(other, k, *TURNS[1]): sound(other, wanted["versions"].values()); k += 17
    assert k > 30 and other.end() == wanted


@pytest.mark.chains
@pytest.mark.parametrize("launch", ["null", "{kind: canary, share: 0.1, hours: 0}"])
def test_killed_all_along(small, empty, tmp_path, home, launch):
    "Four turns (begin, retrain, recalibrate, roll back), each killed at every fifth effect, in all its length"
    def fresh(name):
        shutil.copytree(empty.root, tmp_path/name); house = Small(tmp_path/name, home)
        if launch != "null": house.edit("params.yaml", "launch: null", f"launch: {launch}"); house.commit("launch")
        return house
    plain, before, kills = fresh("plain"), tmp_path/"before", 0
    for i, at in enumerate(TURNS):
        shutil.rmtree(before, ignore_errors=True); shutil.copytree(plain.root, before)
        assert plain.turn(*at) == 0
        wanted, k, lived = plain.end(), 1 + i, False
        while not lived:
            shutil.rmtree(tmp_path/"other", ignore_errors=True); shutil.copytree(before, tmp_path/"other")
            other = Small(tmp_path/"other", home)
            lived = kill_at(other, k, *at)
            sound(other, wanted["versions"].values())
            assert lived or other.turn(*at) == 0, (at, k)
            assert other.end() == wanted, (at, k)
            k, kills = k + 5, kills + 1
    assert kills > 50


# ---- the real chain

SMALL = dict(frame__status="launch", frame__costs="Not known.", frame__contact=None, frame__today=None, frame__capacity=None, frame__minimum=0.5, frame__aim=0.6, frame__constraints=dict.fromkeys(["latency_ms", "size_mib", "nodes"]) | {"explainable": False},
    collect__rows=4000, assess__folds=3, assess__orders=1, assess__rows=2000, train__trials=1, train__candidates=["linear"], train__folds=3, train__blend=0, train__workers=1, evaluate__resamples=200, evaluate__asked_rows=200, evaluate__baseline_rows=2000,
    serve__step=0.1, serve__rows=20, serve__batch=10, retrain__policy="monthly", loop__win="not surely worse")


@pytest.fixture(scope="module")
def real(tmp_path_factory, home):
    "The built-in example after its first turn, in June 2024"
    house = Small(tmp_path_factory.mktemp("real")/"house", home)
    clone(house.root, home, **SMALL)
    house.sh("git", "config", "user.name", "A"); house.sh("git", "config", "user.email", "a@example.com")
    house.sh(PACKAGE, "loop", "--until", "2024-06-01", timeout=900)
    return house


def lived(house):
    "What the turns have left, but for clocks and revisions"
    r = house.registry
    return dict(versions={v.version: v.digest for v in r.versions("churn")}, history=[(e.what, e.alias, e.version, e.why) for e in r.history("churn")],
        trees={t: house.sh("git", "rev-parse", f"{t}^{{tree}}").strip() for t in house.sh("git", "tag").split()}, subjects=house.sh("git", "log", "--format=%s").splitlines(),
        status=house.sh("git", "status", "--porcelain"), open=(house.root/turn.OPEN).exists(), decision=house.text("data/retrain/decision.json"), dvc=house.sh("dvc", "status"))


@pytest.mark.chains
def test_new_rows_lengthen_production_and_make_no_other_model(real, tmp_path, home):
    shutil.copytree(real.root, tmp_path/"house", symlinks=True); house = Small(tmp_path/"house", home)
    kept = [house.root/f for f in ("data/prepare/train.parquet", "data/prepare/validation.parquet", "data/prepare/test.parquet", "data/prepare/learned.json", "data/package/bundle/SHA256SUMS")]
    before = [f.read_bytes() for f in kept]
    house.edit("params.yaml", "until: '2024-06-01'", "until: '2024-07-01'")
    assert house.repro() == ["collect", "prepare", "predict", "monitor", "retrain"] and [f.read_bytes() for f in kept] == before


@pytest.mark.chains
def test_a_new_category_stops_the_turn_until_a_person_takes_it_in(real, tmp_path, home):
    shutil.copytree(real.root, tmp_path/"house", symlinks=True); house = Small(tmp_path/"house", home)
    assert "break the contract" in house.sh(PACKAGE, "loop", "--until", "2024-10-01", code=2, timeout=900) and house.sh("git", "status", "--porcelain") == ""
    house.sh(PACKAGE, "contract", "accept", "plan"); house.commit("the family plan")
    out = house.sh(PACKAGE, "loop", "--until", "2024-10-01", timeout=900)
    assert "contract or parameters have changed" in out and house.champion("churn") == "1.0.1" # the same graph, another contract


def watch_turn(house, until):
    "Make a turn, undisturbed; [(step, seconds)]"
    p, path, seen = house.start(PACKAGE, "loop", "--until", until), house.root/turn.OPEN, []
    while p.poll() is None:
        step = step_at(path)
        if step and (not seen or step != seen[-1][0]): seen.append((step, time.monotonic()))
        time.sleep(.002)
    out = p.communicate()[0]
    assert p.returncode == 0, out
    return [(step, after - at) for (step, at), (_, after) in zip(seen, [*seen[1:], ("done", time.monotonic())])]


def step_at(path):
    try: return json.loads(path.read_text())["step"]
    except FileNotFoundError: return None


def kill_in(house, until, steps, wait):
    "Make a turn in a process group that is killed some seconds after it has come to one of these steps; was it? A turn that goes on writes its file anew"
    path = house.root/turn.OPEN
    written = lambda: path.stat().st_mtime_ns if path.exists() else None
    before, p = written(), house.start(PACKAGE, "loop", "--until", until)
    while p.poll() is None and (written() in (None, before) or step_at(path) not in steps): time.sleep(.002)
    try: p.communicate(timeout=wait); return False
    except subprocess.TimeoutExpired: pass
    try: os.killpg(p.pid, signal.SIGKILL); return True
    except ProcessLookupError: return False # it was over just then
    finally: p.communicate()


@pytest.mark.chains
def test_killed_thirty_times_the_end_is_that_of_an_undisturbed_run(real, tmp_path, home):
    "Two turns that promote a challenger; at each of their steps the loop is killed at random moments, more often at the short ones, where registry and git change"
    plain, other = (Small(tmp_path/n, home) for n in ("plain", "other"))
    for house in (plain, other): shutil.copytree(real.root, house.root, symlinks=True)
    moments = ["2024-06-15", "2024-07-01"]
    turns = [watch_turn(plain, moment) for moment in moments]
    wanted, rng, kills = lived(plain), random.Random(0), []
    assert len(wanted["versions"]) == 3 and len(set(wanted["versions"].values())) == 3
    for moment, steps in zip(moments, turns):
        for i, (step, seconds) in enumerate(steps):
            times, within = (3, seconds) if seconds > 5 else (4, seconds/2) # a short step may be over sooner here than it was there
            for _ in range(times):
                if kill_in(other, moment, [s for s, _ in steps[i:]], rng.uniform(0, within)): kills.append(step)
                state, found = other.registry.state("churn"), {v.version: other.registry.load("churn", v.version).digest for v in other.registry.versions("churn")}
                assert found.items() <= wanted["versions"].items() and state.aliases.keys() == {"champion"} and not other.registry.version("churn", "champion").draft
        other.sh(PACKAGE, "loop", "--until", moment, timeout=900)
    print(len(kills), "kills at", {s: kills.count(s) for s in kills}, "of", turns)
    assert len(kills) >= 30 and {"look", "learn", "commit", "add", "launch"} <= {*kills} and lived(other) == wanted
