"What stands between a socket and an answer: who may ask, how much, how long; what is told afterwards; and who takes over when a process dies."
import http.client, json, os, re, shutil, signal, socket, sqlite3, subprocess, sys, threading, time
from contextlib import contextmanager

import pytest
from bundles import by_hand
from conftest import EXAMPLE, PACKAGE, ROOT, needs

from mlcycle.contract import Column
from mlcycle.core import ProjectError
from mlcycle.keys import open_keys
from mlcycle.roster import Pick, Roster
from mlcycle import serve as serve_stage
from mlcycle.cli import main
from mlcycle.web import HEAD, REST, SMALL, STAGE, Crew, Lines, Meters, Settings, is_loopback, listen, make_app, read_settings, running, serve

pytestmark = needs("serve")

ROW = {"x": 0.9, "plan": "pro"}
PATH = "/v1/models/tiny:predict"


class Caller:
    "One connection, kept open"
    def __init__(self, port): self.port, self.c = port, http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __call__(self, method, path, body=None, **headers):
        self.c.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        r = self.c.getresponse()
        data = r.read()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, json.loads(data) if "json" in (r.getheader("content-type") or "") else data

    def ask(self, *rows, path=PATH, **headers): return self("POST", path, json.dumps({"rows": list(rows or [ROW])}).encode(), **headers)


@pytest.fixture(scope="module")
def desk(tmp_path_factory): return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def folder(desk): by_hand(desk/"bundle"); return desk/"bundle"


@pytest.fixture(scope="module")
def roster(folder):
    r = Roster(folder)
    r.start()
    yield r
    r.stop()


@contextmanager
def server(roster, keys=None, log=None, local=False, counts=None, **settings):
    "A server in this process: how to call it, its app, and what its own log holds"
    read, write = os.pipe()
    app = make_app(roster, Settings(**settings), keys, log, local, Lines(write), counts)
    def told():
        app.lines.close(); os.write(write, b"\n")
        return [json.loads(l) for l in os.read(read, 1 << 20).splitlines() if l.strip()]
    try:
        with running(app) as port:
            call = Caller(port)
            call.app, call.told = app, told
            yield call
    finally: os.close(read); app.lines.close(); os.close(write)


@pytest.fixture
def call(roster):
    with server(roster, local=True, max_rows=5, max_kib=4, seconds=0.5) as c: yield c


def raw(port, *parts, wait=0.):
    "Send bytes as they are, one part after the other; what comes back until the other side closes"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        got = b""
        try:
            for p in parts: s.sendall(p); time.sleep(wait)
        except (BrokenPipeError, ConnectionResetError): pass
        try:
            while part := s.recv(65536): got += part
        except ConnectionResetError: pass
        return got


# ---- answers


def test_an_answer_names_its_request_and_its_version(call, roster):
    status, headers, body = call.ask(x_request_id="order-17")
    assert status == 200 and headers["x-request-id"] == "order-17" == body["request"] and headers["x-model-version"] == body["version"] == roster.pick("tiny").model.version
    assert body["predictions"][0]["label"] == "yes" and body["predictions"][0]["score"] == pytest.approx(0.8)
    assert call.ask(x_request_id="order-17")[2] == body # the same request again has the same ids
    one, two = (call.ask()[1]["x-request-id"] for _ in range(2))
    assert one != two and re.fullmatch("[0-9a-f]{24}", one)


@pytest.mark.parametrize("odd", ["a b", "x"*65, "é", "a;b", ""])
def test_a_request_id_that_is_no_plain_word_is_not_taken_over(call, odd):
    assert re.fullmatch("[0-9a-f]{24}", call.ask(x_request_id=odd.encode("latin-1"))[1]["x-request-id"])


def test_a_version_by_name(call, roster):
    version = roster.pick("tiny").model.version
    assert call.ask(path=f"/v1/models/tiny/versions/{version}:predict")[0] == 200
    status, _, body = call.ask(path="/v1/models/tiny/versions/9.9.9:predict")
    assert status == 404 and version in body["message"]
    assert call("GET", f"/v1/models/tiny/versions/{version}")[2]["digest"] == call("GET", "/v1/models/tiny")[2]["digest"]


def test_both_ways_of_the_protocol(call):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.9]}, {"name": "plan", "shape": [1], "datatype": "BYTES", "data": ["pro"]}]}).encode()
    status, headers, said = call("POST", "/v2/models/tiny/infer", body)
    assert status == 200 and headers["x-model-version"] == said["model_version"] and {o["name"]: o["data"] for o in said["outputs"]}["label"] == ["yes"]
    for path, body, code in [("/v2/models/tiny/infer", b"{", 422), ("/v2/models/nope/infer", b"{}", 404), ("/v2/models/tiny/infer", b" "*5000, 413)]:
        status, _, said = call("POST", path, body)
        assert status == code and list(said) == ["error"]
    assert call("GET", "/v2/models/nope")[2].keys() == {"error"} and call("GET", "/v2/models/tiny")[2]["name"] == "tiny" and call("GET", "/v2/models/tiny/ready")[0] == 200
    assert call("GET", "/v2")[0] == call("GET", "/v2/health/live")[0] == call("GET", "/v2/health/ready")[0] == 200


def test_what_is_not_there(call):
    for method, path, code, words in [("GET", "/nowhere", 404, "/openapi.json"), ("GET", PATH, 405, "POST"), ("DELETE", "/v1/models", 405, "DELETE"), ("POST", "/v1/models/tyni:predict", 404, "did you mean `tiny`"),
                                      ("GET", "/v1/models/tyni", 404, "did you mean `tiny`"), ("POST", "/" + "a"*5000, 404, "/openapi.json"), ("GET", "/../../etc/passwd", 404, ""), ("GET", "/v1/models/..%2f..%2fetc", 404, "")]:
        status, headers, body = call(method, path, b"{}" if method == "POST" else None)
        assert status == code and words in body["message"] and body["request"] == headers["x-request-id"], (path, body)
    assert call("GET", PATH)[1]["allow"] == "POST"
    status, headers, page = call("GET", "/")
    assert status == 200 and b"<html" in page.lower() and "default-src" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


def test_a_connection_takes_many_requests_even_before_they_are_answered(call):
    request = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    body = json.dumps({"rows": [ROW]})
    got = raw(call.port, ((request % len(body) + body)*20 + "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").encode())
    assert got.count(b"HTTP/1.1 200 OK") == 21 and got.endswith(b'{"status":"live"}')


# ---- limits


def test_a_body_is_read_up_to_its_limit(call):
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    declared = raw(call.port, (head + "content-length: 5000000\r\n\r\n").encode(), b"{")
    assert declared.startswith(b"HTTP/1.1 413") and b"serve.max_kib" in declared # without waiting for it
    streamed = raw(call.port, (head + "transfer-encoding: chunked\r\n\r\n").encode(), *[b"400\r\n" + b" "*1024 + b"\r\n"]*6, b"0\r\n\r\n")
    assert streamed.startswith(b"HTTP/1.1 413")
    exact = json.dumps({"rows": [ROW]}).encode().ljust(4*1024)
    assert call("POST", PATH, exact)[0] == 200 and call("POST", PATH, exact + b" ")[0] == 413 and call.ask()[0] == 200 # and the connection goes on


def test_what_is_sent_after_a_refusal_is_not_read_for_ever(roster):
    with server(roster, seconds=60) as c: # it is the amount that ends it, not the time
        got = raw(c.port, f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n".encode(), *[b"x"*(1 << 20)]*(REST//(1 << 20) + 2))
        assert got.startswith(b"HTTP/1.1 413") or got == b"" # and the other side has closed: `raw` came back


def test_rows_and_numbers(call):
    assert call.ask(*[ROW]*5)[0] == 200
    status, _, body = call.ask(*[ROW]*6)
    assert status == 413 and "serve.max_rows" in body["message"] and body["errors"][0]["allowed"] == "5 rows"
    status, _, body = call("POST", PATH, b'{"rows": [{"x": NaN, "plan": "pro"}]}')
    assert status == 422 and body["errors"][0]["rule"] == "finite"
    assert call.ask(ROW, {"x": "many", "plan": "pr"})[2]["errors"][0]["row"] == 1


def test_nan_may_be_taken_as_missing(desk):
    by_hand(desk/"gaps", columns=[Column(name="x", type="number", nullable=True, minimum=0, maximum=1)])
    r = Roster(desk/"gaps"); r.start()
    with server(r, nonfinite="null") as c: assert "NaN" not in str(c("POST", PATH, b'{"rows": [{"x": NaN}]}')[2]) and c("POST", PATH, b'{"rows": [{"x": 0.7}]}')[0] == 200
    r.stop()


def test_who_is_too_slow_is_told_so(call):
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n".encode()
    start = time.monotonic()
    got = raw(call.port, head, b'{"rows"')
    assert got.startswith(b"HTTP/1.1 408") and b"serve.seconds" in got and b"connection: close" in got and time.monotonic() - start < 5
    assert raw(call.port, head[:40]) == b"" and raw(call.port) == b"" # no head, or nothing at all: closed
    drip = raw(call.port, *[bytes([b]) for b in head], wait=0.02)
    assert drip == b"" or drip.startswith(b"HTTP/1.1 408") # a byte at a time does not help
    assert [t["status"] for t in call.told() if t["event"] == "request"].count(408) >= 1 and call.ask()[0] == 200


def test_a_head_has_a_limit(roster):
    with server(roster, seconds=60) as c:
        got = raw(c.port, b"POST / HTTP/1.1\r\n", *[b"x-more: " + b"y"*8000 + b"\r\n"]*(HEAD//8000 + 2), wait=0.01)
        assert got.startswith(b"HTTP/1.1 431") or got == b"" # closed while it was still sending
        assert raw(c.port, b"GARBAGE\r\n\r\n").startswith(b"HTTP/1.1 400") and c.ask()[0] == 200


class Slow:
    "A roster whose model takes its time with more than one row"
    def __init__(self, roster, seconds): self._r, self._s = roster, seconds
    def __getattr__(self, name): return getattr(self._r, name)
    def ask(self, name, pick, do):
        said = self._r.ask(name, pick, do)
        if len(said[0][1].get("predictions", ())) > 1: time.sleep(self._s)
        return said


BIG = b" "*SMALL


def test_what_takes_too_long_is_given_up_and_small_requests_do_not_wait_for_it(roster):
    with server(Slow(roster, 2), seconds=0.5) as c:
        took, body, big = [], json.dumps({"rows": [ROW]*2}).encode() + BIG, []
        t = threading.Thread(target=lambda: big.append(Caller(c.port)("POST", PATH, body)))
        t.start()
        while t.is_alive(): start = time.monotonic(); assert c.ask()[0] == 200; took.append(time.monotonic() - start)
        status, headers, said = big[0]
        assert status == 503 and "serve.seconds" in said["message"] and int(headers["retry-after"]) >= 1
        assert len(took) > 20 and sorted(took)[len(took)//2] < 0.1


def test_more_than_it_can_bear_is_sent_away_and_health_is_still_told(roster):
    with server(roster, concurrency=3, seconds=3) as c:
        head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n".encode()
        waiting = [socket.create_connection(("127.0.0.1", c.port)) for _ in range(3)]
        for s in waiting: s.sendall(head)
        time.sleep(0.3)
        status, headers, body = c.ask()
        assert status == 503 and headers["retry-after"] == "1" and "serve.concurrency" in body["message"]
        assert c("GET", "/health/live")[0] == c("GET", "/health/ready")[0] == 200
        for s in waiting: s.close()
        time.sleep(0.2)
        assert c.ask()[0] == 200 and 499 in [t["status"] for t in c.told()] # those that have left are no more in hand


def test_who_does_not_read_the_answers_stops_nobody_and_is_shown_the_door(roster, monkeypatch):
    monkeypatch.setattr("mlcycle.web.LINE", 1000)
    with server(roster, concurrency=5, seconds=1) as c:
        deaf = []
        for _ in range(10): # more than may be at work: each waits until its answers can be written
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", c.port))
            deaf.append(s)
        for _ in range(400):
            for s in deaf:
                s.setblocking(False)
                try: s.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                except (BlockingIOError, ConnectionError): pass
        assert c.ask()[0] == 200 == c.ask(path="/v1/models/tiny:predict?explain=false")[0]
        time.sleep(1.5)
        for s in deaf:
            s.settimeout(2) # not closed, all answers would come, and then nothing more
            try:
                while s.recv(1 << 16): pass
            except ConnectionError: pass


def test_what_is_sent_ahead_without_end_is_not_queued(roster):
    with server(roster) as c:
        one = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert raw(c.port, one*10 + one.replace(b"host:", b"connection: close\r\nhost:")).count(b"200 OK") == 11
        assert raw(c.port, one*500).count(b"200 OK") < 30


def test_a_body_that_is_lost_since_another_protocol_is_asked_for_is_told(call):
    status, _, said = call.ask(connection="Upgrade, HTTP2-Settings", upgrade="h2c")
    assert status == 400 and "Leave out `Upgrade`" in said["message"]


# ---- the way of small requests


def test_a_small_request_in_one_piece_is_answered_without_a_task_and_everything_else_with_one(roster, monkeypatch):
    body, head = json.dumps({"rows": [ROW]}).encode(), f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nx-request-id: r1\r\ncontent-length: %d\r\n"
    with server(roster) as c:
        tasks, before = [], c.app.predict
        async def predict(*args): tasks.append(1); await before(*args)
        monkeypatch.setattr(c.app, "predict", predict)
        def sent(*parts, more="connection: close\r\n", b=body): return raw(c.port, *[p for p in ((head % len(b) + more + "\r\n").encode() + b,) if not parts], *parts, wait=0.05)
        whole = sent()
        assert not tasks and whole.startswith(b"HTTP/1.1 200 OK\r\ndate: ") and b"connection: close" in whole
        strip = lambda said: re.sub(rb"date: [^\r]*\r\n", b"", said)
        pieces = sent((head % len(body)).encode() + b"connection: close\r\n\r\n" + body[:5], body[5:])
        assert len(tasks) == 1 and strip(pieces) == strip(whole) # the same answer, byte by byte
        assert b" 200 OK" in sent(b=body + BIG) and len(tasks) == 2
        assert b"100 Continue" in sent((head % len(body)).encode() + b"expect: 100-continue\r\nconnection: close\r\n\r\n", body) and len(tasks) == 3
        one = (head % len(body)).encode() + b"\r\n" + body
        assert raw(c.port, one*3 + one.replace(b"x-request", b"connection: close\r\nx-request")).count(b" 200 OK") == 4 # sent ahead: in their order
        assert raw(c.port, one.replace(b"HTTP/1.1", b"HTTP/1.0")).count(b"connection: close") == 1
        assert b" 422 " in sent(b=b'{"rows": [{"x": "a"}]}') and b" 422 " in sent(b=b"{")
        monkeypatch.setattr(c.app, "work", lambda *a: 1/0)
        assert b" 500 " in sent() and b"ZeroDivision" not in sent()


# ---- who may ask


@pytest.fixture
def guarded(roster, tmp_path):
    keys = open_keys(tmp_path/"keys.json")
    secrets = {"all": keys.make("all", admin=True), "tiny": keys.make("tiny", ["tiny"]), "other": keys.make("other", ["other"]), "slow": keys.make("slow", rate="1/h"), "few": keys.make("few", quota="3/day")}
    with server(roster, keys) as c: yield c, secrets


def test_without_a_key_nothing_but_health_and_the_page(guarded):
    c, _ = guarded
    for method, path in [("POST", PATH), ("POST", "/v2/models/tiny/infer"), ("GET", "/v1/models"), ("GET", "/v1/models/tiny"), ("GET", "/openapi.json"), ("POST", "/v1/models/tiny/feedback"), ("GET", "/v2/models/tiny")]:
        status, headers, _ = c(method, path, b"{}" if method == "POST" else None)
        assert status == 401 and headers["www-authenticate"] == "Bearer", path
    assert c("GET", "/health/live")[0] == c("GET", "/")[0] == 200
    status, _, body = c("GET", "/health/ready")
    assert status == 200 and body == {"status": "ready"} # no names of models
    assert c.ask(x_api_key="key_00000000_" + "a"*43)[0] == 401


def test_only_rows_use_up_a_quota_of_rows(guarded):
    c, s = guarded
    for _ in range(5): assert c("GET", "/v1/models/tiny", x_api_key=s["few"])[0] == c("GET", "/v2/models/tiny/ready", x_api_key=s["few"])[0] == 200
    assert [c.ask(x_api_key=s["few"])[0] for _ in range(4)] == [200, 200, 200, 429] and c("GET", "/v1/models/tiny", x_api_key=s["few"])[0] == 200


def test_readiness_shows_a_key_its_models_only(guarded):
    c, s = guarded
    told = {who: c("GET", "/health/ready", x_api_key=s[who])[2] for who in ("tiny", "other", "all")}
    assert (list(told["tiny"]["models"]), told["other"]["models"], told["all"]["keys"]) == (["tiny"], {}, "ok") and "log" not in told["tiny"]
    assert c("GET", "/v1/models/", x_api_key=s["tiny"], host="evil.example")[0] == 404 # no way on to whatever the caller calls this machine


def test_a_key_opens_its_models_only(guarded):
    c, s = guarded
    assert c.ask(x_api_key=s["tiny"])[0] == c.ask(authorization=f"Bearer {s['tiny']}")[0] == c.ask(authorization=f"bearer {s['all']}")[0] == 200
    assert c.ask(x_api_key=s["other"])[0] == c("GET", "/v1/models/tiny", x_api_key=s["other"])[0] == 403 == c.ask(path="/v1/models/secret:predict", x_api_key=s["other"])[0]
    assert c("GET", "/v1/models", x_api_key=s["other"])[2] == {"models": []}
    assert "tiny" not in json.dumps(c("GET", "/openapi.json", x_api_key=s["other"])[2]["paths"]) and "tiny" in json.dumps(c("GET", "/openapi.json", x_api_key=s["tiny"])[2]["paths"])
    status, _, body = c.ask(path="/v1/models/other:predict", x_api_key=s["other"])
    assert status == 404 and "tiny" not in body["message"] # it learns of no other model
    assert "tiny" in c("GET", "/health/ready", x_api_key=s["all"])[2]["models"]


def test_rates_and_quotas(guarded):
    c, s = guarded
    assert c.ask(x_api_key=s["slow"])[0] == 200
    status, headers, body = c.ask(x_api_key=s["slow"])
    assert status == 429 and int(headers["retry-after"]) > 60 and "1/h" in body["message"]
    assert c.ask(ROW, ROW, x_api_key=s["few"])[0] == 200 and c.ask(ROW, ROW, x_api_key=s["few"])[0] == 429


def test_counts_are_for_this_machine_and_for_keys_made_for_that(guarded):
    c, s = guarded
    assert c("GET", "/metrics")[0] == 401 # from this machine, too: a proxy or a page in a browser may be what asks
    assert c("GET", "/metrics", x_api_key=s["tiny"])[0] == 403 and c("GET", "/metrics", x_api_key=s["all"])[0] == 200


def test_without_keys_no_page_from_elsewhere_may_ask(call, roster):
    for headers in [{"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example:80"}]:
        for ask in (lambda: call.ask(**headers), lambda: call("GET", "/v1/models", **headers), lambda: call("GET", "/metrics", **headers)): assert ask()[0] == 403, headers
    assert call.ask(origin=f"http://127.0.0.1:{call.port}")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_it_does_not_listen_beyond_this_machine_without_keys(folder, tmp_path, host):
    with pytest.raises(ProjectError, match="keys make NAME"): serve(folder, host=host, port=0, folder=tmp_path)
    (tmp_path/"keys.json").write_text('{"version": 1, "keys": []}')
    with pytest.raises(ProjectError, match="no key in"): serve(folder, host=host, port=0, keys=tmp_path/"keys.json", folder=tmp_path)


def test_what_is_this_machine():
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost") and not is_loopback("0.0.0.0") and not is_loopback("")
    with pytest.raises(ProjectError, match="No machine is known"): is_loopback("no.such.machine.invalid")


# ---- what is told


class Broken:
    "A roster whose model fails in a way that nobody has thought of"
    def __init__(self, roster): self._r = roster
    def __getattr__(self, name): return getattr(self._r, name)
    def ask(self, *args): raise RuntimeError("plan pro and x 0.9 are too much for me")


def test_nothing_of_a_failure_gets_out_but_its_number(roster):
    with server(Broken(roster)) as c:
        status, headers, body = c.ask(x_request_id="order-18")
        assert status == 500 and "order-18" in body["message"] and body["errors"] == [] and "RuntimeError" not in str(body) and "Traceback" not in str(body)
        told = c.told()
        broken = next(t for t in told if t["event"] == "broken")
        assert broken["request"] == "order-18" and broken["error"] == "RuntimeError" and any("test_web" in t for t in broken["trace"])
        assert "too much" not in str(told) # the words of an error may hold what went in
        assert next(t for t in told if t["event"] == "request")["status"] == 500


def test_the_same_on_the_long_way(roster):
    class Worse(Broken):
        def names(self): raise RuntimeError("secret")
    with server(Worse(roster)) as c:
        status, headers, body = c("GET", "/v1/models")
        assert status == 500 and body["request"] == headers["x-request-id"] and "secret" not in str(body) + str(c.told())


def test_a_line_for_each_request_and_nothing_of_what_went_in(call):
    call.ask(x_request_id="one"); call.ask({"x": 0.123456, "plan": "hunter2"}, x_request_id="two"); call("GET", "/health/live"); call("GET", "/geheim?x=0.5")
    told = [t for t in call.told() if t["event"] == "request"]
    assert [(t["request"], t["status"]) for t in told[:2]] == [("one", 200), ("two", 422)] and told[0]["rows"] == 1 and told[0]["model"] == "tiny" and told[0]["role"] == "champion" and 0 < told[0]["ms"] < 1000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told[0]["at"]) and [t["what"] for t in told] == ["predict", "predict", "/health/live", "other"]
    assert not any(word in str(told) for word in ["hunter2", "0.123456", "geheim", "pro"])


def test_only_problems_are_told_if_that_is_wanted(roster):
    with server(roster, lines="problems") as c: c.ask(); assert c.told() == []


def metrics(call): return {k: float(v) for k, v in (l.rsplit(" ", 1) for l in call("GET", "/metrics")[2].decode().splitlines() if not l.startswith("#"))}


def test_counts(call, roster):
    v = roster.pick("tiny").model.version
    for rows in [[ROW], [ROW, {"x": 0.6, "plan": None}], [{"x": 1.5, "plan": "pro"}], [{"x": 0.9, "plan": "pr"}], [{"hunter2": 1}]]: call.ask(*rows)
    call.ask(path="/v1/models/nobody-knows:predict")
    m = metrics(call)
    named = lambda name, **labels: m.get(name + "{" + ",".join(f'{k}="{labels[k]}"' for k in sorted(labels)) + "}")
    who = dict(model="tiny", version=v, role="champion")
    assert named("model_requests_total", what="predict", status="200", **who) == 3 == named("model_request_seconds_count", what="predict", status="200", **who)
    assert named("model_requests_total", what="predict", status="422", **who) == 2 and named("model_predictions_total", answer="yes", **who) == 3 and named("model_predictions_total", answer="no", **who) == 1
    assert named("model_score_bucket", le="0.2", **who) == 1 and named("model_score_bucket", le="+Inf", **who) == 4
    assert named("model_faults_total", model="tiny", column="plan", rule="category", kind="refused") == 1 == named("model_faults_total", model="tiny", column="x", rule="range", kind="warned")
    assert not any("hunter2" in k or "nobody" in k for k in m) # what strangers make up is not kept
    assert named("model_info", model="tiny", version=v, digest=roster.pick("tiny").model.digest) == 1 == m["model_ready"] == m["model_log_ok"]


def test_quantities_are_counted_by_bin(desk):
    from mlcycle.bundle import seal
    by_hand(desk/"quantity", task="regression")
    (desk/"quantity"/"profile.json").write_text(json.dumps({"scores": {"edges": [0.5, 0.7], "counts": [1]}})); seal(desk/"quantity")
    r = Roster(desk/"quantity"); r.start()
    with server(r) as c:
        c.ask(ROW, {"x": 0.6, "plan": None}, {"x": 0.8, "plan": None})
        assert sorted(k.split('answer="')[1].split('"')[0] for k in metrics(c) if k.startswith("model_predictions")) == ["above", "up to 0.5", "up to 0.7"]
    r.stop()


def test_whichever_worker_is_asked_answers_for_all(tmp_path):
    mine, other = Meters(tmp_path), Meters(tmp_path)
    for m in (mine, other): m.count("model_unlogged"); m.observe(("model_score", "a"), 0.25, (0.5,))
    other.write()
    (tmp_path/f"{os.getpid()}.counts").rename(tmp_path/"1.counts") # of another process, that may be dead by now
    assert mine.total() == ({("model_unlogged",): 2}, {("model_score", "a"): [0.5, 2, 0]})
    mine.write()
    assert mine.total()[0] == {("model_unlogged",): 2} # its own file is not counted twice


def test_nobody_waits_for_who_reads_the_lines(roster):
    "Nothing reads this server's own log: a pipe holds 64 KiB of it, then writing stands still"
    with server(roster) as c:
        for _ in range(600): assert c.ask()[0] == 200
        assert metrics(c)["model_lines_dropped"] == 0 # they wait; there is room for some thousands


# ---- the prediction log


class Log:
    "A prediction log that says what it is told to say"
    def __init__(self, good=True): self.good, self.records, self.learnt, self.known = good, [], [], set()
    problem = property(lambda self: None if self.good else "the disk is full")
    def know(self, digest, contract): self.known.add(digest)
    def put(self, records): self.records += records if self.good else []; return self.good
    def feedback(self, items): self.learnt += items if self.good else []; return self.good


TENSORS = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.9]}, {"name": "plan", "shape": [1], "datatype": "BYTES", "data": ["pro"]}]}).encode()


def test_an_answer_that_cannot_be_written_is_not_kept(roster, monkeypatch):
    log = Log()
    with server(roster, log=log) as c:
        assert c("POST", "/v2/models/tiny/infer", TENSORS)[0] == 200 and len(log.records) == 1
        monkeypatch.setattr("mlcycle.web.write_infer", lambda *a: 1/0)
        assert c("POST", "/v2/models/tiny/infer", TENSORS)[0] == 500 and len(log.records) == 1


def test_what_can_be_asked_for_says_the_champion_and_not_whoever_was_drawn_first(roster, monkeypatch):
    class Drawn:
        def __getattr__(self, name): return getattr(roster, name)
        def pick(self, *about): first = roster.pick(*about); return Pick("a challenger of another form", "canary", None, "share", first.model)
        def ask(self, name, pick, do): return do(pick.spare), pick._replace(model=pick.spare, spare=None)
    with server(Drawn()) as c: assert c("POST", "/v2/models/tiny/infer", TENSORS)[0] == 200


def test_what_is_answered_is_logged_first(roster, tmp_path):
    keys = open_keys(tmp_path/"keys.json"); secret = keys.make("shop")
    with server(roster, keys, log := Log()) as c:
        status, headers, body = c.ask(ROW, {"x": 0.6, "plan": None}, x_request_id="r1", x_api_key=secret)
        assert headers["x-logged"] == "true" and [r["id"] for r in log.records] == [p["id"] for p in body["predictions"]]
        r = log.records[1]
        assert (r["request"], r["row"], r["model"], r["role"], r["key"], r["label"], r["inputs"]) == ("r1", 1, "tiny", "champion", "shop", "no", {"x": 0.6, "plan": None}) and r["digest"] in log.known and r["at"].endswith("Z")
        c.ask({"x": "?"}, x_api_key=secret)
        assert len(log.records) == 2 # what was refused is no prediction
        assert [t.get("logged") for t in c.told()] == [True, None]


def test_a_log_that_fails_is_told(roster):
    with server(roster, log=Log(False)) as c:
        status, headers, _ = c.ask()
        assert status == 200 and headers["x-logged"] == "false" and metrics(c)["model_unlogged_total"] == 1 and metrics(c)["model_log_ok"] == 0
        status, _, body = c("GET", "/health/ready")
        assert status == 200 and body["log"] == "the disk is full"
        for good in (False, False, True): c.app.log.good = good; c.app.look()
        assert [(l["level"], l["event"], l["problem"]) for l in c.told() if "problem" in l] == [("error", "problem", "the disk is full"), ("info", "well again", "")]
    with server(roster, log=Log(False)) as c: assert c("POST", "/v1/models/tiny/feedback", b'{"feedback": [{"id": "%s", "label": "yes"}]}' % (b"a"*24))[0] == 503


def test_without_a_record_there_may_be_no_answer(roster):
    log = Log(False)
    app = make_app(roster, Settings(log={"required": True}), log=log, lines=Lines(os.open(os.devnull, os.O_WRONLY)))
    with running(app) as port:
        c = Caller(port)
        status, headers, body = c.ask()
        assert status == 503 and "serve.log.required" in body["message"] and headers["retry-after"] == "5" and c("GET", "/health/ready")[0] == 503
        log.good = True
        assert c.ask()[0] == 200 == c("GET", "/health/ready")[0]


def test_what_turned_out_to_be_true(roster):
    with server(roster, log=(log := Log())) as c:
        id = c.ask()[2]["predictions"][0]["id"]
        send = lambda *items, path="/v1/models/tiny/feedback": c("POST", path, json.dumps({"feedback": list(items)}).encode())
        assert send({"id": id, "label": "no"})[2]["accepted"] == 1 and log.learnt[0]["id"] == id and log.learnt[0]["model"] == "tiny"
        status, _, body = send({"id": id, "label": "maybe"})
        assert status == 422 and "no" in body["message"] and len(log.learnt) == 1
        assert send({"id": id, "label": "no"}, path="/v1/models/nobody/feedback")[0] == 404 and send()[0] == 422
        assert c("POST", "/v1/models/tiny/feedback", b" "*(2 << 20))[0] == 413
    with server(roster) as c: assert c("POST", "/v1/models/tiny/feedback", json.dumps({"feedback": [{"id": id, "label": "no"}]}).encode())[0] == 503


def test_a_shadow_is_logged_and_never_returned(roster, desk):
    by_hand(desk/"shadow", threshold=0.95)
    other = Roster(desk/"shadow"); other.start()
    shadow, champion = other.pick("tiny").model, roster.pick("tiny").model

    class Beside(Broken):
        def pick(self, name, version=None, key=None): return Pick(champion, "champion", shadow, "share")
        def ask(self, name, pick, do): return do(pick.model), pick
    with server(Beside(roster), log=(log := Log())) as c:
        body = c.ask()[2]
        deadline = time.monotonic() + 5
        while len(log.records) < 2 and time.monotonic() < deadline: time.sleep(0.01)
        assert body["digest"] == champion.digest and [(r["role"], r["label"], r["id"]) for r in log.records] == [("champion", "yes", body["predictions"][0]["id"]), ("shadow", "no", body["predictions"][0]["id"])]
        roster.beside.room, room = 0, roster.beside.room
        try: c.ask()
        finally: roster.beside.room = room
        assert metrics(c)["model_shadows_dropped_total"] == 1
    other.stop()


# ---- settings


def test_settings_of_a_project_of_a_file_and_by_default(tmp_path):
    (tmp_path/"dvc.yaml").write_text("{}"); (tmp_path/"params.yaml").write_text("serve: {max_rows: 7, rows: 200, log: {required: true}}")
    assert read_settings(tmp_path).max_rows == 7 and read_settings(None).max_rows == 1000
    got = read_settings(tmp_path, workers=3, log="none")
    assert (got.workers, got.log.url, got.log.required) == (3, "none", True)
    for text, words in [("max_rows: 0", "serve.max_rows"), ("max_row: 1", "did you mean `max_rows`"), ("nonfinite: drop", "reject"), ("- 1", "Allowed: max_rows"), ("a: [", "cannot be read")]:
        (tmp_path/"own.yaml").write_text(text)
        with pytest.raises(ProjectError) as e: read_settings(None, str(tmp_path/"own.yaml"))
        assert words in str(e.value) and "own.yaml" in str(e.value)
    with pytest.raises(ProjectError, match="There is no file .*none.yaml"): read_settings(None, str(tmp_path/"none.yaml"))
    (tmp_path/"params.yaml").write_text("serve: {maxrows: 7, rows: 200}")
    with pytest.raises(ProjectError, match="`serve.maxrows` .*did you mean `max_rows`"): read_settings(tmp_path)


def test_the_stages_own_keys_are_known():
    assert STAGE == set(serve_stage.Params.model_fields) - set(Settings.model_fields)


def test_the_parameters_of_the_example_are_the_defaults(tmp_path):
    (tmp_path/"params.yaml").write_text(json.dumps({"serve": EXAMPLE["serve"]}))
    assert read_settings(tmp_path) == Settings()


# ---- processes


class Served:
    "A real `mlcycle serve`"
    def __init__(self, tmp_path, *words, **more):
        env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        self.err = open(tmp_path/"err", "w+")
        self.p = subprocess.Popen([sys.executable, "-c", f"from {PACKAGE}.cli import main; raise SystemExit(main())", "serve", "--port", "0", "--state", str(tmp_path/"state"), *map(str, words)], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=self.err, **more)
        self.state = tmp_path/"state"

    def lines(self): return [json.loads(l) for l in open(self.err.name) if l.startswith("{")]
    def text(self): return open(self.err.name).read()

    def call(self, seconds=30):
        deadline = time.monotonic() + seconds
        while not (said := [l for l in self.lines() if l["event"] == "listening"]) and self.p.poll() is None and time.monotonic() < deadline: time.sleep(0.02)
        assert said, self.text()
        return Caller(said[0]["port"])

    def workers(self): return sorted(map(int, open(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read().split())) # and who empties the spools

    def __enter__(self): return self
    def __exit__(self, *_):
        self.p.terminate()
        try: self.p.wait(30)
        except subprocess.TimeoutExpired: self.p.kill(); raise
        finally: self.err.close()


def test_it_starts_answers_is_light_and_ends(folder, tmp_path):
    with Served(tmp_path, "--bundle", folder) as s:
        call = s.call()
        status, headers, body = call.ask()
        assert status == 200 and headers["x-logged"] == "true"
        for pid in s.workers():
            maps, status = open(f"/proc/{pid}/maps").read(), open(f"/proc/{pid}/status").read()
            assert not any(w in maps for w in ["pandas/", "sklearn/", "matplotlib/", "scipy/"])
            assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 120*1024
        s.p.send_signal(signal.SIGTERM)
        assert s.p.wait(20) == 0
    with pytest.raises(OSError): socket.create_connection(("127.0.0.1", call.port), timeout=2)
    rows = sqlite3.connect(s.state/"predictions.sqlite").execute("select id, label from predictions").fetchall()
    assert rows == [(body["predictions"][0]["id"], "yes")] # all that was acknowledged is in the database at the end
    assert any(l["event"] == "request" for l in s.lines()) and "Traceback" not in s.text()
    assert not list(s.state.glob("*.spool"))


@pytest.mark.parametrize("words, reason", [(["--bundle", "nowhere"], "No bundle at"), (["--registry", "nowhere"], "champion"), (["--bundle", "bundle", "--log", "mysql://x"], "llowed: sqlite"), (["--bundle", "broken"], "was changed")])
def test_what_cannot_start_says_why_and_ends(folder, tmp_path, words, reason):
    if words[1] in ("bundle", "broken"): shutil.copytree(folder, tmp_path/words[1])
    if "broken" in words: (tmp_path/"broken"/"bundle.json").write_text("{}")
    with Served(tmp_path, *words) as s:
        assert s.p.wait(30) == 2, s.text()
        assert reason in s.text() and "Traceback" not in s.text()


@pytest.mark.parametrize("words, reason", [(["--bundle", "b", "--host", "0.0.0.0"], "keys make"), (["--config", "x.yaml"], "There is no file x.yaml"), ([], "No bundle was named"), (["--bundle", "b", "--workers", "0"], "`--workers` is 0"),
    (["--bundle", "b", "--keys", "none.json"], "no key in"), (["--bundle", "b", "--host", "no.such.machine.invalid"], "No machine is known")])
def test_what_is_wrong_with_the_command_is_said_at_once(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_REGISTRY", raising=False)
    assert main(["serve", "--port", "0", *words]) == 2 and reason in capsys.readouterr().err


def test_a_draft_is_served_to_this_machine_only(desk, tmp_path):
    by_hand(desk/"draft", draft=True)
    open_keys(tmp_path/"own"/"keys.json").make("shop")
    with Served(tmp_path, "--bundle", desk/"draft") as s: assert s.call().ask()[0] == 200
    with Served(tmp_path, "--bundle", desk/"draft", "--host", "0.0.0.0", "--keys", tmp_path/"own"/"keys.json") as s:
        assert s.p.wait(30) == 2 and "draft" in s.text()


def test_a_taken_port_is_told(folder, tmp_path):
    with listen("127.0.0.1", 0) as taken, pytest.raises(ProjectError, match="cannot be had.*--port"): listen("127.0.0.1", taken.getsockname()[1])


def hammer(port, stop, done, failed):
    "Ask until told to stop; a connection that breaks is opened again"
    call = Caller(port)
    while not stop.is_set():
        try: status, headers, body = call.ask()
        except (OSError, http.client.HTTPException) as e: failed.append(repr(e)); call = Caller(port); continue
        assert status == 200 and headers["x-logged"] == "true"
        done.append(body["predictions"][0]["id"])


def test_killed_workers_are_replaced_and_traffic_goes_on(folder, tmp_path):
    with Served(tmp_path, "--bundle", folder, "--workers", 2) as s:
        port, stop, done, failed = s.call().port, threading.Event(), [], []
        Caller(port).ask()
        threads = [threading.Thread(target=hammer, args=(port, stop, done, failed)) for _ in range(4)]
        for t in threads: t.start()
        killed = 0
        for _ in range(4):
            time.sleep(0.7)
            workers = s.workers() # one of them is who empties the spools
            os.kill(workers[killed % len(workers)], signal.SIGKILL); killed += 1
            before = len(done)
            deadline = time.monotonic() + 10
            while len(done) < before + 20 and time.monotonic() < deadline: time.sleep(0.01)
            assert len(done) >= before + 20 # somebody goes on answering
        stop.set()
        for t in threads: t.join(20)
        assert killed == 4 and len(failed) <= 4*4 # at most what the killed had in hand: one request a connection
        deadline = time.monotonic() + 10
        while len([l for l in s.lines() if l["event"] == "process died"]) < 4 and time.monotonic() < deadline: time.sleep(0.05)
        assert {l["code"] for l in s.lines() if l["event"] == "process died"} == {-9}
        assert Caller(port).ask()[0] == 200
        total = sum(v for k, v in metrics(Caller(port)).items() if k.startswith("model_requests_total") and 'what="predict"' in k)
        assert total <= len(done) + 16 + 1
    kept = {r[0] for r in sqlite3.connect(s.state/"predictions.sqlite").execute("select id from predictions")}
    assert set(done) <= kept # every acknowledged prediction, of the killed as well
    print(len(done), "answered,", len(failed), "broken off,", killed, "killed")


def test_workers_end_when_their_parent_is_killed(folder, tmp_path):
    with Served(tmp_path, "--bundle", folder, "--workers", 2) as s:
        s.call().ask()
        workers = s.workers()
        for pid in workers: os.kill(pid, signal.SIGKILL) # the pipe that tells the end is one that does not wait by now
        deadline = time.monotonic() + 10
        while (set(s.workers()) & set(workers) or len(s.workers()) < 3) and time.monotonic() < deadline: time.sleep(0.05)
        time.sleep(1)
        workers = s.workers()
        s.p.kill()
        deadline = time.monotonic() + 20
        alive = lambda p: os.path.exists(f"/proc/{p}") and open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
        while any(map(alive, workers)) and time.monotonic() < deadline: time.sleep(0.05)
        assert not any(map(alive, workers))


def test_who_ends_the_server_waits_for_what_is_in_hand(folder, tmp_path):
    with Served(tmp_path, "--bundle", folder) as s:
        call = s.call()
        call.ask()
        body = json.dumps({"rows": [ROW]}).encode()
        with socket.create_connection(("127.0.0.1", call.port), timeout=10) as c:
            c.sendall(f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:5])
            time.sleep(0.2)
            s.p.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            c.sendall(body[5:])
            assert c.recv(65536).startswith(b"HTTP/1.1 200")
        assert s.p.wait(20) == 0


def test_who_dies_again_and_again_is_replaced_less_and_less_often(tmp_path):
    told = tmp_path/"told"
    def job(ready, ending): ready(); raise RuntimeError("not my day")
    def tell(**facts):
        with open(told, "a") as f: f.write(json.dumps(facts) + "\n")
    pid = os.fork()
    if pid == 0:
        try: os._exit(Crew([job], 1., tell).run())
        finally: os._exit(9)
    time.sleep(2); os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    said = [json.loads(l) for l in told.read_text().splitlines()]
    assert [s["again_in"] for s in said][:3] == [0.1, 0.2, 0.4] and len(said) <= 5 and "RuntimeError" in said[0]["problem"] and "not my day" not in said[0]["problem"]


def test_who_cannot_begin_is_not_tried_again():
    def job(ready, ending): raise RuntimeError("not my day")
    pid = os.fork()
    if pid == 0:
        try: os._exit(Crew([job], 1., lambda **facts: None).run())
        finally: os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_lines_may_be_closed_while_the_first_one_is_written(tmp_path, monkeypatch):
    lines, start = Lines(os.open(tmp_path/"lines", os.O_CREAT | os.O_RDWR)), threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (time.sleep(0.1), start(self)) if self.name == "lines" else start(self))
    writer = threading.Thread(target=lines.put, kwargs={"what": "first"})
    writer.start(); time.sleep(0.03); lines.close(); writer.join(); lines.close()
    assert (tmp_path/"lines").read_text() == '{"what":"first"}\n'
