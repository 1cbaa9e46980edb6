"""A launch: what a person may ask for, who gets the challenger, and when it is taken off."""
import os, random, subprocess, sys, threading, time
from types import SimpleNamespace

import pytest

from conftest import PACKAGE, ROOT

from mlcycle import launch
from mlcycle.core import ProjectError
GOOD = {"kind": "canary", "challenger": "1.3.0", "share": 0.1}


@pytest.mark.parametrize("values, words", [
    ({"kind": "canari"}, "`kind` is 'canari': input should be 'shadow', 'canary' or 'ab'"), ({"kind": None}, "`kind` is None"),
    ({"challenger": ""}, "`challenger` is ''"), ({"challenger": 1.3}, "`challenger` is 1.3: input should be a valid string"),
    ({"share": 0.0}, "`share` is 0.0: input should be greater than 0"),
    ({"share": 1.5}, "`share` is 1.5: input should be less than or equal to 1"), ({"share": "0.1"}, "`share` is '0.1'"),
    ({"key": 7}, "`key` is 7"),
    ({"errors": 1.0}, "`errors` is 1.0: input should be less than 1"), ({"errors": 0.0}, "`errors` is 0.0: input should be greater than 0"),
    ({"latency_ms": -1.0}, "`latency_ms` is -1.0: input should be greater than 0"), ({"least": 0}, "`least` is 0: input should be greater than or equal to 1"),
    ({"sahre": 0.1}, "`sahre` is no part of it; did you mean `share`? Allowed: kind, challenger, share"),
    ({"kind": "shadow", "errors": 0.1}, "a shadow answers nobody, so it has no limits to break")])
def test_every_option_is_checked_in_words(values, words):
    with pytest.raises(ProjectError, match="This launch cannot be") as e: launch.read_launch(GOOD | values)
    assert words in str(e.value)


def test_what_is_missing_is_said():
    with pytest.raises(ProjectError, match="`kind` is missing; `challenger` is missing"): launch.read_launch({})
    with pytest.raises(ProjectError, match="A launch is keys and values; found 'canary'"): launch.read_launch("canary")
    for kind in ("canary", "ab"):
        with pytest.raises(ProjectError, match="`share` is missing: which share of the requests"): launch.read_launch({"kind": kind, "challenger": "1.3.0"})
    assert launch.read_launch({"kind": "shadow", "challenger": "1.3.0"}).share == 1
    assert launch.read_launch(GOOD).model_dump() == GOOD | {"key": None, "errors": None, "latency_ms": None, "least": 100}


def test_sticky_and_monotone():
    "The same key is always on the same side; as the share grows nobody leaves the challenger"
    salt, keys = launch.salt_of("churn", "1.3.0"), [f"c{i}" for i in range(20_000)]
    before = set()
    for share in (0.01, 0.05, 0.1, 0.3, 0.7, 1.0):
        now = {k for k in keys if launch.draw_lot(salt, k) < share}
        assert before <= now and abs(len(now)/len(keys) - share) <= 4*(share*(1 - share)/len(keys))**0.5
        before = now
    assert before == set(keys)


def test_every_process_draws_the_same():
    "Nothing is remembered, so workers and machines have to agree by themselves"
    code = f"from {PACKAGE}.launch import *; print([draw_lot(salt_of('churn', '1.3.0'), k) for k in ('c1', 'ä', '\\ud800')])"
    env = lambda seed: os.environ | {"PYTHONHASHSEED": seed}
    said = {subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env(s), capture_output=True, text=True, check=True).stdout for s in ("1", "2")}
    assert len(said) == 1 and str(launch.draw_lot(launch.salt_of("churn", "1.3.0"), "c1")) in said.pop()


def test_other_challengers_meet_other_people():
    keys = [f"c{i}" for i in range(20_000)]
    a, b, c = ({k for k in keys if launch.draw_lot(launch.salt_of(*who), k) < 0.1} for who in [("churn", "1.3.0"), ("churn", "1.4.0"), ("fraud", "1.3.0")])
    assert all(120 < len(x & y) < 280 for x, y in [(a, b), (a, c), (b, c)])  # 200 by chance


def test_by_which_key():
    by = launch.sticky_key
    assert by("id", "from the header", [{"id": "c1"}], "r1") == "from the header"
    assert by("id", None, [{"id": "c1"}, {"id": "c2"}], "r1") == "c1"
    for case in [("id", None, [{"id": None}]), ("id", "", [{}]), ("id", None, []), ("id", None, None), (None, None, [{"id": "c1"}])]: assert by(*case, "r1") == "r1"
    assert by("n", None, [{"n": 7}], "r1") == by("n", None, [{"n": 7.0}], "r1") == "7"  # JSON has one kind of number


def test_both_give_the_same_kind_of_answer():
    "A caller who is told an interval is told one by either side"
    def bundle(**meta): return SimpleNamespace(contract=SimpleNamespace(names=["x"], features=[]), meta=SimpleNamespace(**{"classes": None, "positive": None, "interval": None} | meta))
    kinds = [bundle(), bundle(interval=0.9), bundle(classes=["a", "b"], positive="b"), bundle(classes=["a", "b"], positive="a"), bundle(classes=["a", "b", "c"])]
    for old in kinds:
        for new in kinds:
            if old is new: launch.check_launch(launch.read_launch(GOOD), old, new)
            else:
                with pytest.raises(ProjectError, match="callers could not read both"): launch.check_launch(launch.read_launch(GOOD), old, new)


def judged(answers, **limits):
    "After how many answers a canary is taken off, and why"
    probation = launch.Probation(launch.Launch(kind="canary", challenger="1.3.0", share=0.1, **limits))
    return next(((i, why) for i, (seconds, failed) in enumerate(answers, 1) if (why := probation.count(seconds, failed))), (None, None))


def test_not_one_bad_request_and_not_too_soon():
    assert judged([(0.001, True)]*49, errors=0.01, least=50) == (None, None)
    assert judged([(0.001, True)]*50, errors=0.01, least=50)[0] == 50
    assert judged([(0.001, i == 60) for i in range(2000)], errors=0.01, least=50) == (None, None)
    assert judged([(9.0, i == 60) for i in range(2000)], least=1) == (None, None)  # no limits, no verdict


LIMITS = [({"errors": 0.05}, lambda hit: (0.001, hit)), ({"latency_ms": 20.0}, lambda hit: (0.050 if hit else 0.001, False))]

@pytest.mark.parametrize("limits, bad", LIMITS, ids=["errors", "latency"])
def test_how_often_it_is_wrong_and_how_soon_it_is_right(limits, bad):
    "At the limit itself hardly ever taken off, though judged after each answer; at three times as many soon"
    chance = random.Random(7)
    runs = lambda share, n, times: [judged([bad(chance.random() < share) for _ in range(n)], least=50, **limits)[0] for _ in range(times)]
    assert sum(r is not None for r in runs(0.05, 2000, 200)) <= 2
    late = sorted(runs(0.15, 1500, 50), key=lambda r: r or 10**9)
    assert late[25] < 250 and late[-1] is not None and late[-1] < 1000


def test_a_good_past_does_not_shield():
    first, why = judged([(0.001, False)]*100_000 + [(0.001, True)]*1000, errors=0.02, least=50)
    assert first < 100_100 and "answers failed; at most 0.02 of all may (`errors`)" in why
    first, why = judged([(0.001, False)]*100_000 + [(0.2, False)]*1000, latency_ms=100.0, least=50)
    assert first < 100_200 and "took longer than 100 ms; at most 5% of all may (`latency_ms`)" in why


def test_counted_by_many_threads():
    probation = launch.Probation(launch.Launch(kind="ab", challenger="1.3.0", share=0.5, least=10_000))
    threads = [threading.Thread(target=lambda: [probation.count(0.001, i % 4 == 0) for i in range(2000)]) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert probation.lately() == (16_000, 4_000, 0)


def test_beside_never_makes_anybody_wait():
    beside, gate = launch.Beside(room=10), threading.Event()
    start = time.perf_counter()
    took = [beside.put(gate.wait, 20) for _ in range(1000)]
    assert time.perf_counter() - start < 2 and 10 <= sum(took) <= 11 and beside.dropped == 1000 - sum(took)
    gate.set(); beside.stop()
    assert beside.done == sum(took)


def test_beside_goes_on_after_a_failure_and_finishes_what_is_in_line():
    beside, got = launch.Beside(), []
    for i in range(20): beside.put(lambda i=i: got.append(1/(i - 3)))
    beside.stop()
    assert (beside.done, beside.failed, len(got)) == (19, 1, 19) and beside.problem == "ZeroDivisionError"
    assert beside.put(got.append, 0) and (beside.stop() or got[-1] == 0)  # and may begin again


def test_looking_up_needs_no_pandas():
    code = f"import sys, {PACKAGE}.roster; print([m for m in ('pandas', 'sklearn', 'matplotlib', 'fsspec') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"
