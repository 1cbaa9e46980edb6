"What measures the server: waiting is counted, failures are counted, and the plan follows."
import json, select, socket, threading, time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from mlcycle.core import ProjectError
from mlcycle.load import STEPS, Latencies, arrivals, bears, capacity, closed_loop, compose, open_loop, plan, rising_load, say_plan, status_of

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def server(answer=OK, pause=0., stop_at=None, heard=None):
    "One thread for all. `answer`: bytes, or a function of how many came; `stop_at`: (when, for how long) it sleeps once"
    listener, lines, state = socket.create_server(("127.0.0.1", 0), backlog=200), [], {"n": 0, "slept": False, "start": time.perf_counter()}
    def one(s):
        got = s.recv(1 << 20)
        if not got: lines.remove(s); s.close(); return
        if heard is not None: heard.append(got)
        if stop_at and not state["slept"] and time.perf_counter() - state["start"] > stop_at[0]: state["slept"] = True; time.sleep(stop_at[1])
        if pause: time.sleep(pause)
        state["n"] += 1
        for part in answer(state["n"]) if callable(answer) else [answer]:
            if part is None: lines.remove(s); s.close(); return
            s.sendall(part)
    def serve():
        with suppress(OSError, ValueError):
            while True:
                for s in select.select([listener, *lines], [], [], 0.02)[0]:
                    if s is listener: lines.append(s.accept()[0]); lines[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    else: one(s)
    thread = threading.Thread(target=serve, daemon=True); thread.start()
    try: yield listener.getsockname()[1]
    finally: listener.close(); thread.join(2)


def test_a_pause_of_the_server_is_counted_by_the_open_loop_and_hidden_by_the_closed_one():
    with server(stop_at=(0.1, 0.3)) as port: closed = closed_loop(port, [b"{}"], clients=1, seconds=0.6)
    with server(stop_at=(0.1, 0.3)) as port: opened = open_loop(port, [b"{}"], rate=400, seconds=0.6)
    assert closed.at(95) < 20 and closed.at(100) > 250  # one request of thousands
    assert opened.at(75) > 50 and opened.failed == 0    # half of the arrivals came while it slept: they waited 150 ms on average
    assert 0.7 < opened.rate/opened.asked < 1.3


def test_latency_is_counted_from_when_a_request_was_due_even_if_no_line_was_free():
    with server(pause=0.005) as port: found = open_loop(port, [b"{}"], rate=1000, seconds=0.3, lines=4)  # 200 a second is all it can do
    assert len(found.ms) + found.failed == 300
    assert found.at(95) > 500 and found.late_ms > 100 and found.failed == 0 or found.failed > 0
    assert not bears(found, None)


def test_every_request_is_sent_in_turn_with_its_headers():
    heard = []
    with server(heard=heard) as port:
        found = closed_loop(port, [b'{"a": 1}', b'{"b": "\xc3\xbc"}'], clients=1, seconds=0.05, headers={"X-Api-Key": "k"}, path="/v1/models/m:predict")
    assert len(heard) == len(found.ms) > 4 and [h.split(b"\r\n\r\n")[1] for h in heard[:4]] == [b'{"a": 1}', b'{"b": "\xc3\xbc"}']*2
    assert heard[1].startswith(b"POST /v1/models/m:predict HTTP/1.1\r\n") and b"x-api-key: k\r\n" in heard[1] and b"content-length: 11\r\n" in heard[1]


@pytest.mark.parametrize("answer, good", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", True), (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True), (None, False)])
@pytest.mark.parametrize("loop", [lambda port: closed_loop(port, [b"{}"], 2, 0.05), lambda port: open_loop(port, [b"{}"], 200, 0.05)], ids=["closed", "open"])
def test_what_is_not_200_has_failed(answer, good, loop):
    with server(lambda n: [answer]) as port: found = loop(port)
    assert (len(found.ms) > 0, found.failed > 0) == (good, not good)


def test_an_answer_in_pieces_is_one_answer():
    pieces = [OK[:5], OK[5:30], OK[30:]]
    def slowly(n):
        for p in pieces: yield p; time.sleep(0.002)
    with server(slowly) as port: found = closed_loop(port, [b"{}"], 1, 0.1)
    assert found.failed == 0 and len(found.ms) > 5 and found.at(50) > 3
    assert all(status_of(OK[:n]) is None for n in range(len(OK))) and status_of(OK) == 200


def test_a_server_that_hangs_up_now_and_then_costs_one_request_each():
    with server(lambda n: [None if n % 10 == 0 else OK]) as port: found = closed_loop(port, [b"{}"], 1, 0.2)
    assert found.failed > 0 and abs(len(found.ms)/found.failed - 9) < 1.5


def test_a_server_that_is_gone_is_told():
    with server() as port: pass
    with pytest.raises(ProjectError, match=f"Nobody answers on port {port}.*running"): open_loop(port, [b"{}"], 10, 0.1)


def test_arrivals_are_random_as_asked_and_the_same_each_time():
    times = arrivals(1000, 5)
    gaps = np.diff(times)
    assert len(times) == 5000 and np.array_equal(times, arrivals(1000, 5)) and times[-1] <= 5
    assert abs(gaps.std()/gaps.mean() - 1) < 0.05  # exponential: as spread as they are long
    assert len(arrivals(0.1, 1)) == 1


def test_measuring_takes_little_of_the_time():
    with server(pause=0.001) as port: found = closed_loop(port, [b"{}"], 4, 0.2)
    assert found.busy < 0.5


def test_rising_load_ends_where_the_server_does_not_keep_up():
    busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    with server(lambda n: [OK if n < 200 else busy], pause=0.002) as port: found = rising_load(port, [b"{}"], seconds=0.2)
    assert len(found) < 1 + len(STEPS) and found[-1].failed > 0 and capacity(found[1:], None) <= found[-1].asked


def test_rising_load_finds_what_one_worker_bears():
    with server(pause=0.004) as port: found = rising_load(port, [b"{}"], seconds=0.3)
    most, steps = found[0], found[1:]
    assert most.asked is None and 100 < most.rate < 251 and [round(s.asked/most.rate, 2) for s in steps] == list(STEPS[:len(steps)])
    assert 0.15*most.rate < capacity(steps, 200) <= 0.9*most.rate and capacity(steps, 1) == 0


def test_rising_load_measures_what_is_planned_for_as_well():
    with server(pause=0.002) as port: found = rising_load(port, [b"{}"], seconds=0.1, wanted=50)
    assert found[1].asked == 50 and len(found[1].ms) == 100 and found[2].asked == STEPS[0]*found[0].rate
    with server(pause=0.002) as port: assert all(s.asked < 1e5 for s in rising_load(port, [b"{}"], seconds=0.05, wanted=1e6)[1:])  # more than one worker will ever do


STEP = lambda asked, p95, failed=0, share=1.: Latencies(np.full(int(asked*share), float(p95)), seconds=1., failed=failed, asked=float(asked))


@pytest.mark.parametrize("steps, limit, borne", [
    ([STEP(100, 1), STEP(200, 5), STEP(300, 60)], 50, 200), ([STEP(100, 1), STEP(200, 5), STEP(300, 60)], None, 300), ([STEP(100, 60), STEP(200, 5)], 50, 0),
    ([STEP(100, 1), STEP(200, 1, failed=1), STEP(300, 1)], 50, 100), ([STEP(100, 1), STEP(200, 1, share=0.8)], 50, 100), ([STEP(100, 1, share=0)], None, 0)])
def test_what_a_worker_bears_is_the_last_step_before_the_first_that_fails(steps, limit, borne): assert capacity(steps, limit) == borne


MACHINE = {"cores": 4, "price": 0.2, "spare": 1}


@pytest.mark.parametrize("borne, load, headroom, machine, workers, machines, cost", [
    (1000, dict(requests=100, growth=1), 0.5, MACHINE, 1, 2, 292), (1000, dict(requests=500, growth=1), 0.5, MACHINE, 1, 2, 292),
    (1000, dict(requests=501, growth=1), 0.5, MACHINE, 2, 2, 292), (1000, dict(requests=100, growth=100), 0.5, MACHINE, 20, 6, 876),
    (1000, dict(requests=100, growth=100), 0., MACHINE | dict(spare=0, price=None), 10, 3, None)])
def test_the_plan(borne, load, headroom, machine, workers, machines, cost):
    found = plan(borne, load, headroom, machine)
    assert (found["workers"], found["machines"], found["cost"] and round(found["cost"])) == (workers, machines, cost) and found["used"] <= 1 - headroom + 1e-9
    json.dumps(found, allow_nan=False)
    said = say_plan(found, machine, 50, "EUR")
    assert f"{workers} worker{'s' if workers > 1 else ''}, so" in said
    assert ("EUR a month" in said) == (cost is not None) and ("may fail" in said) == bool(machine["spare"])


def test_a_plan_says_what_it_lacks():
    assert "`frame.load`" in say_plan(plan(1000, None, 0.5, MACHINE), MACHINE, None)
    assert "No number of machines" in say_plan(plan(0, dict(requests=1, growth=1), 0.5, MACHINE), MACHINE, 2)
    assert "`frame.constraints.latency_ms`" in say_plan(plan(0, None, 0.5, MACHINE), MACHINE, 2)


def test_compose_counts_bytes_not_letters():
    assert b"content-length: 2\r\n" in compose(1, "/", "ü".encode())
