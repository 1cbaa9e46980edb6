"Bodies that no client would send, to every address that takes one: no crash, no 5xx, no growth, and afterwards the right answer to the right question."
import http.client, json, os, random, re, signal, socket, subprocess, sys, time

import numpy as np
import orjson
import psutil
import pytest
from bundles import COLUMNS, by_hand, wide_bundle # a fixture
from conftest import BIN, PACKAGE, ROOT, needs

from mlcycle.contract import Column
from mlcycle.log import open_log
from mlcycle.roster import Roster
from mlcycle.web import Lines, Settings, make_app, running

pytestmark = needs("serve")

WIDE = [COLUMNS[0].model_copy(update={"minimum": 0., "outside": "reject"}), COLUMNS[1], Column(name="age", type="integer", nullable=True), Column(name="paid", type="boolean"), Column(name="note", type="text", nullable=True), Column(name="day", type="datetime", nullable=True)]
ROW = {"x": 0.6, "plan": "pro", "age": 40, "paid": True, "note": "hello", "day": "2025-07-31"}
EVIL = [None, True, 0, -1, 1.5, 1e308, -1e-320, 10**40, "", " ", "\x00", "\u202e", "ﷺ"*50, "a"*5000, "💥", "'; DROP TABLE predictions; --", "../../etc/passwd", "<script>alert(1)</script>", "{{7*7}}", "__proto__", "NaN", "2025-02-30", "9999-12-31T23:59:60Z", [], {}, [[]], [None], {"": {}}, {"rows": []}, {"x": {"x": {}}}]
TOKENS = [b"NaN", b"-Infinity", b"1e999", b"-0", b"\\ud800", b"\xff\xfe", b"\x00", b"null", b"[" * 50, b"{\"a\":" * 50, b"9" * 400, b"\"", b",", b"}", b"\r\n\r\n", b"/* */", b"\xef\xbb\xbf", b"0x10", b"'"]


def binary():
    "A request with binary tensors, and its header"
    tail = np.array([0.6]).tobytes() + b"\3\0\0\0pro\1"
    head = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}, {"name": "plan", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}, {"name": "paid", "datatype": "BOOL", "shape": [1, 1], "parameters": {"binary_data_size": 1}}],
        "outputs": [{"name": "score", "parameters": {"binary_data": True}}]})
    return head + tail, {"inference-header-content-length": str(len(head))}


GOOD = {"/v1/models/tiny:predict": {"rows": [ROW, ROW | {"plan": None}]}, "/v1/models/tiny:predict?explain=true": {"rows": [ROW]}, "/v1/models/tiny/feedback": {"feedback": [{"id": "0"*24, "label": "yes"}]},
    "/v2/models/tiny/infer": {"id": "a", "inputs": [{"name": k, "datatype": {"x": "FP64", "age": "INT64", "paid": "BOOL"}.get(k, "BYTES"), "shape": [1, 1], "data": [v]} for k, v in ROW.items()], "outputs": [{"name": "label"}]}}


def spoil_tree(rng, value, chance=0.15):
    "JSON with something replaced, dropped or added, here and there"
    if rng.random() < chance: return rng.choice(EVIL)
    if isinstance(value, dict):
        out = {(rng.choice(["", "X", "rows", "a"*300, k + " ", "\x00"]) if rng.random() < 0.05 else k): spoil_tree(rng, v, chance) for k, v in value.items() if rng.random() > 0.05}
        return out | ({rng.choice(["zz", "constructor", "id"]): rng.choice(EVIL)} if rng.random() < 0.1 else {})
    if isinstance(value, list): return [spoil_tree(rng, v, chance) for v in value]*rng.choice([1, 1, 1, 1, 0, 2, 60])
    return value


def spoil_bytes(rng, body):
    "Bytes changed, cut, doubled, mixed"
    body = bytearray(body)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, to = (rng.randrange(len(body) + 1) for _ in range(2))
        how = rng.randrange(5)
        if how == 0 and body: body[at % len(body)] = rng.randrange(256)
        elif how == 1: body[at:at] = rng.choice(TOKENS)
        elif how == 2: del body[min(at, to):max(at, to)]
        elif how == 3: body[at:at] = body[min(at, to):max(at, to)][:2000]
        else: body[at:at + 3] = rng.choice(TOKENS)
    return bytes(body)


def odd_request(rng):
    "Address, body, headers"
    path, headers = rng.choice([*GOOD, "/v2/models/tiny/infer#"]), {"content-type": rng.choice(["application/json"]*5 + ["text/plain", "", "multipart/form-data", "application/json; charset=utf-16"])}
    if path.endswith("#"): path, (body, more) = path[:-1], binary(); headers |= more
    else: body = json.dumps(spoil_tree(rng, GOOD[path])).encode() if rng.random() < 0.6 else orjson.dumps(GOOD[path])
    if rng.random() < 0.6: body = spoil_bytes(rng, body)
    if rng.random() < 0.02: body = rng.randbytes(rng.choice([1, 100, 70_000]))
    if rng.random() < 0.1: headers["inference-header-content-length"] = rng.choice(["", "-1", "5", "99999999", "1e3", "0", "abc", "9"*5000])
    if rng.random() < 0.1: headers["x-request-id"] = rng.choice(["a", "a"*500, "a b", "é", "%00", "../x", "\x7f"])
    if rng.random() < 0.05: headers["content-encoding"] = rng.choice(["gzip", "br", "identity", "x"])
    if rng.random() < 0.05: headers["x-launch-key"] = rng.choice(["", "k", "k"*5000])
    if rng.random() < 0.1: path = rng.choice([path.replace("tiny", n) for n in ("tyni", "%2e%2e", "..%2f..", "a"*2000, "tiny%00", "", "tiny/versions/9", "💥".encode().hex())] + ["/v1/models/tiny/versions/:predict", "/v2/models/tiny/versions/x/infer", "/v1/models/tiny:explode", "/v2/repository/index"])
    return path, body, headers


class Caller:
    "Somebody with a connection that is kept, and opened anew where the server has closed it"
    def __init__(self, port): self.port, self.connection = port, None

    def ask(self, path, body, headers={}):
        for again in (True, False):
            self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                self.connection.request("POST", path, body, {k: v.encode("utf-8") for k, v in headers.items()})
                answer = self.connection.getresponse()
                return answer.status, answer.read(), answer.headers
            except (http.client.HTTPException, OSError):
                self.connection.close(); self.connection = None
                if not again: raise


def judge(path, status, body, headers):
    "What may come back"
    assert 200 <= status < 500, (path, status, body)
    if status == 200 and headers["content-type"].startswith("application/octet-stream"): return
    if (status, body) in ((400, b"Invalid HTTP request received."), (431, b"")): return # not even HTTP
    said = json.loads(body)
    if status == 200: assert {"predictions", "outputs", "accepted", "models"} & set(said), said
    elif "error" in said: assert isinstance(said["error"], str)
    else: assert isinstance(said["message"], str) and isinstance(said["errors"], list)
    assert not re.search(r"Traceback|File \"|\.py\b|site-packages", body.decode("utf-8", "replace")), body


def attack(port, n, seed, at=lambda i: None):
    "Send n odd requests; how many were answered, by status"
    rng, caller, counts = random.Random(seed), Caller(port), {}
    for i in range(n):
        path, body, headers = odd_request(rng)
        status, said, back = caller.ask(path, body, headers)
        judge(path, status, said, back)
        counts[status] = counts.get(status, 0) + 1
        at(i)
    return counts


def still_right(port):
    status, body, _ = Caller(port).ask("/v1/models/tiny:predict", orjson.dumps({"rows": [ROW]}))
    assert status == 200 and json.loads(body)["predictions"][0]["label"] == "no" and abs(json.loads(body)["predictions"][0]["score"] - 0.2) < 1e-12


@pytest.fixture(scope="module")
def served(wide_bundle, tmp_path_factory):
    "A server in this process, its log (a file), and its own lines"
    desk = tmp_path_factory.mktemp("served")
    roster = Roster(wide_bundle)
    roster.start()
    log, lines = open_log(None, desk), os.open(desk/"lines", os.O_CREAT | os.O_RDWR)
    app = make_app(roster, Settings(max_rows=20, max_kib=64), log=log, local=True, lines=Lines(lines))
    with running(app) as port: yield port, desk/"lines"
    roster.stop(); log.close(); os.close(lines)


def broken_lines(path): return [line for line in path.read_text().splitlines() if '"broken"' in line or '"level":"error"' in line]


def test_500_odd_bodies(served):
    port, lines = served
    counts = attack(port, 500, seed=0)
    still_right(port)
    assert counts[422] > 100 and counts[200] > 20 and counts[404] > 5, counts
    time.sleep(0.3)
    assert broken_lines(lines) == []


RAW = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n", b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}", b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n", b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\n",
    b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", b"BREW / HTCPCP/1.0\r\n\r\n", b"GET /" + b"a"*100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n"*20_000 + b"\r\n", b"GET /%ff%fe HTTP/1.1\r\nhost: \xff\r\n\r\n", b"\r\n"*1000,
    b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: a\r\nexpect: 200-maybe\r\ncontent-length: 2\r\n\r\n{}", b"GET //evil.example/ HTTP/1.1\r\nhost: a\r\n\r\n", b"GET http://evil.example/ HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /v1/models/../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]


def test_what_is_hardly_http(served):
    "Refused or hung up on; nobody else notices"
    port, lines = served
    for raw in RAW:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            try: s.sendall(raw); s.shutdown(socket.SHUT_WR); said = s.recv(4000)
            except OSError: said = b""
        assert not said or re.match(rb"HTTP/1.1 [1234]", said), (raw[:80], said[:200])
    still_right(port)
    assert broken_lines(lines) == []


def test_a_body_larger_than_allowed_by_header_and_on_the_stream(served):
    port, _ = served
    big = b" "*(64*1024 + 1)
    for body in (big, iter([big[:40_000], big[40_000:]])):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/v1/models/tiny:predict", body, encode_chunked=not isinstance(body, bytes), headers={} if isinstance(body, bytes) else {"transfer-encoding": "chunked"})
        answer = connection.getresponse()
        assert answer.status == 413 and b"64 KiB" in answer.read()
        connection.close()


# ---- from the interface as it is written down

CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422, 429, 503]

[[operations]] # a tensor's `shape` has to fit its `data`, which JSON Schema cannot say
include-path-regex = "/infer$"
checks.positive_data_acceptance.enabled = false

[[operations]] # rows are read more kindly than the schema teaches: 0 and "true" for a boolean, "" where a value is missing
include-path-regex = ":predict$"
checks.negative_data_rejection.enabled = false
"""


def schemathesis(port, folder, examples, seed, *more):
    "All its checks: no 5xx, only statuses and forms that are written down, what fits is taken, what does not fit is refused"
    (folder/"schemathesis.toml").write_text(CONFIG)
    words = [BIN/"schemathesis", "--config-file", folder/"schemathesis.toml", "run", f"http://127.0.0.1:{port}/openapi.json", "--phases", "examples,coverage,fuzzing" if examples else "examples,coverage", "--max-examples", str(examples or 1), "--seed", str(seed), "--no-color", "--generation-database", "none", *more]
    run = subprocess.run([str(w) for w in words], cwd=folder, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-6000:]
    return re.search(r"(\d+) generated", run.stdout)[0]


def test_the_interface_is_as_it_is_written(served, tmp_path):
    port, lines = served
    print(schemathesis(port, tmp_path, 0, 0, "--exclude-path-regex", "versions"))
    assert broken_lines(lines) == []


@pytest.mark.chains
def test_the_interface_is_as_it_is_written_at_length(served, tmp_path):
    port, lines = served
    for seed in (1, 2): print(schemathesis(port, tmp_path, 100, seed))
    still_right(port)
    assert broken_lines(lines) == []


# ---- against the command, as people start it

@pytest.fixture
def server(wide_bundle, tmp_path):
    "`serve` in a process of its own, outside any project; its port and its process"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", f"from {PACKAGE}.cli import main; raise SystemExit(main())", "serve", "--bundle", str(wide_bundle), "--port", "0", "--state", str(tmp_path/"state")], cwd=tmp_path, env=env, stderr=open(tmp_path/"lines", "w"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (found := re.search(r'"port":(\d+)', (tmp_path/"lines").read_text())): assert process.poll() is None and time.monotonic() < deadline, (tmp_path/"lines").read_text(); time.sleep(0.05)
    while True:
        try: still_right(int(found[1])); break
        except OSError: assert time.monotonic() < deadline; time.sleep(0.05)
    yield int(found[1]), process, tmp_path/"lines"
    process.send_signal(signal.SIGTERM); process.wait(20)


def memory(process): # MiB, of the process and its workers
    return sum(p.memory_info().rss for p in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)])/2**20


@pytest.mark.chains
def test_20000_odd_bodies_twice(server):
    "No 5xx, no worker lost, no growth: once caches are warm, 20,000 more add less than 3 MiB"
    port, process, lines = server
    workers = {p.pid for p in psutil.Process(process.pid).children()}
    counts = attack(port, 20_000, seed=1)
    before = memory(process)
    attack(port, 20_000, seed=2)
    still_right(port)
    after = memory(process)
    print(f"statuses {counts}; memory of all processes after 20,000: {before:.1f} MiB, after 40,000: {after:.1f} MiB")
    assert after - before < 3 and {p.pid for p in psutil.Process(process.pid).children()} == workers
    assert broken_lines(lines) == []
