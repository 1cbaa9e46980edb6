"""Ten bad minutes: a real server under load while everything around it changes, and every answer checked.

    python benchmarks/soak.py [--seconds 600] [--bundle data/package/bundle] [--every 3] [--workers 1] [--kill-every 0]

At 80 % of the capacity that was measured just before (key, log and metrics on, requests at random times), somebody promotes, rolls back and launches
every few seconds: shadows, A/B, canaries that are well, canaries that fail in three ways (no finite answer, a graph that breaks, too slow), and
bundles that are broken after they were promoted. PostgreSQL, which keeps the prediction log, is stopped without warning and started again. With
--kill-every, workers are killed, too (kill -9); a request whose connection is lost by that is asked again, as clients do.

Every answer is compared with what the version that it names says about the same row, asked here. At the end each answer that the server has
acknowledged (x-logged: true) has to be in the database, once, with the same version and the same score. Exit code 1 if anything is wrong, lost,
late or not logged.
"""
import argparse, http.client, json, os, random, re, select, shutil, signal, socket, subprocess, sys, tempfile, threading, time
from collections import Counter
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import orjson

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
from conftest import PACKAGE

answer, bundles, core, keys, load, registry = (import_module(f"{PACKAGE}.{m}") for m in ("answer", "bundle", "core", "keys", "load", "registry"))
GOOD = {"1.0.0": 1.0, "1.1.0": 0.9, "1.2.0": 0.8, "1.3.0": 0.7}  # Version → how far its scores lean to where the original's are
BAD = {"2.0.0": "nan", "2.1.0": "breaks", "2.2.0": "slow"}
SLACK = 5.  # Seconds after a change in which the version before may still answer


# --- versions -----------------------------------------------------------------------------------------------------------------------------------

class Sketch:
    "A graph to which nodes are added before its first output"
    def __init__(self, model):
        import onnx
        self.onnx, self.model = onnx, onnx.load_from_string(model)
        self.graph, self.n = self.model.graph, 0
        tensor = self.graph.output[0].type.tensor_type
        self.out, self.kind, self.width = self.graph.output[0].name, tensor.elem_type, tensor.shape.dim[1].dim_value or 2
        for node in self.graph.node:
            for names in (node.output, node.input): names[:] = ["soak" if name == self.out else name for name in names]

    def name(self): self.n += 1; return f"soak_{self.n}"

    def const(self, value, dtype=None):
        array = np.array(value, dtype=dtype or self.onnx.helper.tensor_dtype_to_np_dtype(self.kind))
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name := self.name()))
        return name

    def add(self, op, *inputs, output=None, **more):
        self.graph.node.append(self.onnx.helper.make_node(op, inputs, [output := output or self.name()], **more))
        return output


def edit_graph(model, lean, fault, column, beyond):
    "The same graph whose first output leans to the middle; with a fault, it fails where `column` is beyond a value, or is slow"
    g = Sketch(model)
    good = g.add("Add", g.add("Mul", "soak", g.const(lean)), g.const((1 - lean)/g.width))
    value = g.add("Cast", column, to=g.kind)
    hit = g.add("Greater", value, g.const(beyond))
    if fault == "nan": good = g.add("Where", hit, g.const(np.nan), good)
    if fault == "breaks":  # takes a column of the output that it has not
        ninth = g.add("ReduceMax", g.add("Mul", g.add("Cast", hit, to=g.onnx.TensorProto.INT64), g.const(9, np.int64)), keepdims=0)
        zero = g.add("Mul", g.add("Unsqueeze", g.add("Gather", good, ninth, axis=1), g.const([1], np.int64)), g.const(0))
        good = g.add("Add", good, zero)
    if fault == "slow":  # multiplies large matrices for nothing
        wide = g.add("Expand", g.add("ReduceMean", value, keepdims=0), g.const([500, 500], np.int64))
        good = g.add("Add", good, g.add("Mul", g.add("ReduceMean", g.add("MatMul", wide, wide), keepdims=0), g.const(0)))
    g.add("Identity", good, output=g.out)
    return g.model.SerializeToString()


def fill(stock, original, folder, column, beyond):
    "Put versions into a registry; each is loaded here, too: version → model"
    models = {}
    for version in [*GOOD, *BAD]:
        place = folder/version
        place.mkdir(parents=True)
        for name in original.files(): (place/name).write_bytes(original.raw(name))
        (place/"model.onnx").write_bytes(edit_graph(original.raw("model.onnx"), GOOD.get(version, 1.0), BAD.get(version), column, beyond))
        core.write_file(original.read("bundle.json") | {"draft": False, "verdict": "pass"}, place/"bundle.json")
        (place/bundles.SUMS).unlink(missing_ok=True)
        bundles.seal(place)
        stock.add(place, "soak", "a version to try", version)
        models[version] = answer.Model(bundles.load_bundle(place), version)
    return models


class Original:
    "A bundle, as bytes"
    def __init__(self, path):
        path = Path(path)
        self.bundle = bundles.load_bundle(path)
        self._files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    def files(self): return list(self._files)
    def raw(self, name): return self._files[name]
    def read(self, name): return json.loads(self._files[name])


def make_rows(contract, n, seed=0):
    "Rows that the contract takes"
    chance = random.Random(seed)
    def value(c, usual):
        if c.categories and c.type == "category": return chance.choice(c.categories)
        if c.type == "boolean": return chance.random() < 0.5
        if c.type not in ("number", "integer"): return usual
        low, high = (c.minimum if c.minimum is not None else 0., c.maximum if c.maximum is not None else 2*float(usual) + 1)
        return chance.randint(int(low), int(high)) if c.type == "integer" else round(chance.uniform(low, high), 3)
    example = answer.example_row(contract)
    return [{c.name: value(c, example[c.name]) for c in contract.features} for _ in range(n)]


def where_to_fail(contract, rows):
    "A column, and a value that the example is not beyond, while some of the rows are"
    example = answer.example_row(contract)
    for c in contract.features:
        if c.type in ("number", "integer"):
            beyond = sorted(r[c.name] for r in rows)[len(rows)*2//3]
            if beyond > example[c.name]: return c.name, float(beyond)
    raise SystemExit("This bundle has no number that could make a canary fail.")


# --- what runs beside ---------------------------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


class Postgres:
    "A PostgreSQL server of our own, that goes away and comes back"
    def __init__(self, folder):
        places = [Path(p).resolve().parent for p in [shutil.which("pg_ctl")] if p] + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        programs = next((p for p in places if (p/"initdb").exists()), None) or sys.exit("PostgreSQL is not installed (no pg_ctl, no /usr/lib/postgresql).")
        self.folder, self.programs, self.port, self.user = folder, programs, free_port(), []
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, 65534, 65534)
            self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self._run("initdb", "-D", folder/"db", "-U", "soak", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.url = f"postgresql://soak@127.0.0.1:{self.port}/postgres"
        self.start()

    def _run(self, program, *words):
        r = subprocess.run([*self.user, str(self.programs/program), *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           cwd=self.folder, env=os.environ | {"HOME": str(self.folder)}, timeout=120)
        if r.returncode: raise SystemExit(f"{program}: {r.stderr[-500:]}")

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", self.folder/"db", "-w", "-l", self.folder/"log", "-o", options, "start")

    def stop(self): self._run("pg_ctl", "-D", self.folder/"db", "-m", "immediate", "stop")


class Server:
    "The real server, in processes of its own"
    def __init__(self, desk, stock, log_url, workers, poll=1.):
        secret = keys.open_keys(desk/"keys.json").make("soak", ["*"], admin=True)
        self.headers = {"authorization": f"Bearer {secret}"}
        (desk/"serve.yaml").write_text(f"lines: problems\npoll: {poll}\n")
        words = ["serve", "--registry", stock, "--keys", desk/"keys.json", "--log", log_url, "--port", 0, "--workers", workers,
                 "--state", desk/"state", "--config", desk/"serve.yaml"]
        self.lines = open(desk/"server.log", "w+")
        code = f"from {PACKAGE}.cli import main; raise SystemExit(main())"
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=desk, env=env,
                                        stdout=self.lines, stderr=subprocess.STDOUT, start_new_session=True)
        self.port = self._port(desk/"server.log")

    def _port(self, path):
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            for line in path.read_text().splitlines():
                told = json.loads(line) if line.startswith("{") else {}
                if told.get("event") == "listening" and self._answers(told["port"]): return told["port"]
            time.sleep(0.05)
        self.stop(); sys.exit(f"The server did not start:\n{path.read_text()[-3000:]}")

    def _answers(self, port):
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            c.request("GET", "/health/ready", headers=self.headers)
            return c.getresponse().status == 200
        except OSError: return False

    def workers(self): return [int(p) for p in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def mib(self):
        "Memory of the largest worker"
        try: return max(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{p}/status").read_text())[1])//1024 for p in self.workers())
        except (OSError, ValueError, TypeError): return 0  # one has just gone

    def stop(self):
        if self.process.poll() is None: self.process.send_signal(signal.SIGTERM)
        try: return self.process.wait(40)
        except subprocess.TimeoutExpired: os.killpg(self.process.pid, signal.SIGKILL); return -9


# --- what changes -------------------------------------------------------------------------------------------------------------------------------

class Operator(threading.Thread):
    "Somebody who does not leave it alone"
    def __init__(self, stock, name, every, postgres, server, down, kill_every):
        super().__init__(daemon=True)
        self.stock, self.name_, self.every, self.postgres, self.server, self.down, self.kill_every = stock, name, every, postgres, server, down, kill_every
        self.until, self.done, self.failures, self.mib, self.over, self.problem = {}, Counter(), [], [], threading.Event(), None
        self.promote("1.0.0")

    def allow(self, *versions):
        "These may answer from now on; those that might until now, for a little while"
        now = time.perf_counter()
        for v, end in self.until.items(): self.until[v] = min(end, now)
        for v in versions: self.until[v] = float("inf")

    def promote(self, version):
        self.allow(version, *(v for v, end in self.until.items() if end == float("inf")))
        self.stock.promote(self.name_, version, "champion", "soak", "a switch"); self.champion = version
        self.allow(version); self.done["promoted"] += 1

    def rollback(self):
        if self.stock.state(self.name_).launch: self.stop_launch()
        version = self.stock.rollback(self.name_, "champion", "soak", "back again").aliases["champion"]
        self.champion = version; self.allow(version); self.done["rolled back"] += 1

    def launch(self, kind, version, **more):
        if version == self.champion: return
        self.allow(self.champion, *([] if kind == "shadow" else [version]))
        self.stock.set_launch(self.name_, {"kind": kind, "challenger": version, **more}, "soak", f"a {kind}"); self.done[kind] += 1

    def stop_launch(self): self.stock.set_launch(self.name_, None, "soak", "enough"); self.allow(self.champion)

    def failing(self, version, **limits):
        "A canary that has to be taken off by the server itself"
        self.launch("canary", version, share=0.2, least=20, **limits)
        end = time.monotonic() + 20
        while self.stock.state(self.name_).launch is not None and time.monotonic() < end and not self.over.wait(0.1): pass
        last = self.stock.history(self.name_)[-1]
        if (last.what, last.who) == ("rollback", "serve"): self.done[f"taken off ({BAD[version]})"] += 1
        elif not self.over.is_set(): self.failures.append(f"canary {version} ({BAD[version]}) was not taken off within 20 s")
        if self.stock.state(self.name_).launch: self.stop_launch()
        self.allow(self.champion)

    def corrupt(self, version):
        "Promote a version whose file is broken a moment later, and mend it again"
        path = Path(self.stock.url)/self.name_/"bundles"/f"{self.stock.version(self.name_, version).digest}.tar"
        whole = path.read_bytes()
        before = self.champion
        self.promote(version)
        path.chmod(0o644); path.write_bytes(whole[:len(whole)//2] + b"?" + whole[len(whole)//2 + 1:])
        self.until[before] = float("inf")  # the last good one
        self.over.wait(self.every)
        path.write_bytes(whole); self.done["corrupted"] += 1
        self.promote(before)

    def steps(self):
        yield lambda: self.promote("1.1.0")
        yield lambda: self.launch("canary", "1.2.0", share=0.2, errors=0.02)
        yield lambda: self.launch("canary", "1.2.0", share=0.6, errors=0.02)
        yield lambda: (self.stop_launch(), self.promote("1.2.0"))
        yield lambda: self.failing("2.0.0", errors=0.02)
        yield lambda: self.launch("shadow", "1.0.0", share=0.3)
        yield lambda: self.launch("ab", "1.3.0", share=0.5)
        yield lambda: (self.stop_launch(), self.rollback())
        yield lambda: self.failing("2.1.0", errors=0.02)
        yield lambda: self.promote("1.3.0")
        yield lambda: self.failing("2.2.0", latency_ms=1.)
        yield lambda: self.corrupt("1.0.0")

    def run(self):
        try:
            next_down, next_kill, up_at = time.monotonic() + 2*self.down, time.monotonic() + (self.kill_every or 10**9), None
            while not self.over.is_set():
                for step in self.steps():
                    if self.over.wait(self.every): break
                    step(); self.mib.append(self.server.mib())
                    now = time.monotonic()
                    if up_at is None and now > next_down: self.postgres.stop(); self.done["database gone"] += 1; up_at = now + self.down
                    elif up_at is not None and now > up_at: self.postgres.start(); up_at, next_down = None, now + 3*self.down
                    if now > next_kill:
                        os.kill(random.choice(self.server.workers()), signal.SIGKILL)
                        self.done["workers killed"] += 1; next_kill = now + self.kill_every
            if up_at is not None: self.postgres.start()
        except Exception as e: self.problem = f"{type(e).__name__}: {e}"


# --- what is asked ------------------------------------------------------------------------------------------------------------------------------

class Asker:
    "Requests at random times, each answer checked as it comes"
    def __init__(self, server, name, rows, models, operator):
        self.server, self.rows, self.operator = server, rows, operator
        self.bodies = [orjson.dumps({"rows": [r]}) for r in rows]
        self.expected = {v: [self._expect(m, r) for r in rows] for v, m in models.items()}
        named = {"host": "127.0.0.1", "content-type": "application/json"} | server.headers
        self.head = f"POST /v1/models/{name}:predict HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in named.items())
        self.count, self.wrong, self.acknowledged, self.ms, self.versions = Counter(), [], {}, [], Counter()

    @staticmethod
    def _expect(model, row):
        try: status, said = model.answer([row], "expected")
        except Exception: return None
        return said["predictions"][0].get("score", said["predictions"][0].get("value")) if status == 200 else None

    def request(self, i):
        body = self.bodies[i % len(self.bodies)]
        return f"{self.head}x-request-id: soak-{i}\r\nx-launch-key: c{i % 5003}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def check(self, i, line, status, sent):
        "Hold an answer against what the version that it names says here; True: ask again"
        if status in (0, 429, 503): self.count["asked again: " + {0: "connection lost", 429: "429", 503: "503"}[status]] += 1; return True
        head, _, body = line.answer.partition(b"\r\n\r\n")
        if status != 200: self.wrong.append(f"soak-{i}: {status} {body[:300]!r}"); return False
        said = orjson.loads(body)
        version, prediction = said["version"], said["predictions"][0]
        score = prediction.get("score", prediction.get("value"))
        self.versions[version] += 1
        right = self.expected[version][i % len(self.rows)]
        if right != score: self.wrong.append(f"soak-{i}: version {version} answered {score}, and here it says {right}")
        if sent > self.operator.until.get(version, 0) + SLACK: self.count["stale"] += 1
        if b"x-logged: true" in head.lower(): self.acknowledged[bytes.fromhex(prediction["id"])] = (version, score)
        else: self.count["answered, not acknowledged"] += 1
        return False

    def run(self, rate, seconds, lines=64, patience=60.):
        "Ask until all is answered, or nothing has come for a minute"
        free, busy, again = [load.Line(self.server.port) for _ in range(lines)], {}, []
        start = time.perf_counter()
        due, sent, end = (start + load.arrivals(rate, seconds)).tolist(), 0, start + patience
        while (sent < len(due) or busy or again) and (now := time.perf_counter()) < end:
            while free and (again and again[0][0] <= now or sent < len(due) and due[sent] <= now):
                when, i = again.pop(0)[1:] if again and again[0][0] <= now else (due[sent], sent)
                if i == sent: sent += 1
                line = free.pop()
                try: line.send(self.request(i), when)
                except core.ProjectError: again.append((now + 0.2, when, i)); free.append(line); continue
                busy[line] = (i, now)
            next_due = min([due[sent]] if sent < len(due) else [end], default=end)
            idle = min(next_due, again[0][0] if again else end) - time.perf_counter() if free else 1.
            for line in select.select(list(busy), [], [], min(max(idle, 0), 1.))[0]:
                try: status = line.read()
                except core.ProjectError: status = 0
                if status is None: continue
                i, went = busy.pop(line); free.append(line)
                now = time.perf_counter()
                if self.check(i, line, status, went): again.append((now + 0.2, line.due, i))
                else: self.count["answered"] += 1; self.ms.append((now - line.due)*1000); end = now + patience
        self.count["asked"], self.count["lost"] = len(due), len(due) - self.count["answered"]
        for line in [*free, *busy]: line.socket.close()


def check_log(url, asker, seconds=120.):
    "Wait until the log has come to rest; then what it lacks, has twice, or has otherwise"
    import psycopg
    count, end, before = -1, time.monotonic() + seconds, -2
    with psycopg.connect(url, autocommit=True) as db:
        while time.monotonic() < end and (count != before or count < len(asker.acknowledged)):
            before, count = count, db.execute("select count(*) from predictions where role <> 'shadow'").fetchone()[0]
            time.sleep(1.5)
    found, missing, found_twice, other, roles = set(), dict(asker.acknowledged), 0, [], Counter()
    with psycopg.connect(url) as db, db.cursor("all") as rows:
        rows.execute("select id, role, request, version, coalesce(score, value) from predictions where request like 'soak-%'")
        for id, role, request, version, score in rows:
            roles[role] += 1
            if asker.expected[version][int(request[5:]) % len(asker.rows)] != score: other.append(f"{request} as {role}: {version} {score}")
            if role == "shadow": continue
            key = bytes.fromhex(id)
            found_twice += key in found; found.add(key)
            if (version, score) == missing.get(key): del missing[key]
    return missing, found_twice, other, roles


@contextmanager
def desk_of(keep):
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp")); folder.chmod(0o711)
    try: yield folder
    finally: shutil.rmtree(folder, ignore_errors=True) if not keep else print(f"kept: {folder}")


def soak(a, desk):
    original = Original(a.bundle)
    name, contract = original.bundle.meta.name, original.bundle.contract
    rows = make_rows(contract, 200)
    stock = registry.open_registry(str(desk/"models"))
    models = fill(stock, original, desk/"bundles", *where_to_fail(contract, rows))
    postgres = Postgres(desk/"postgres")
    operator = Operator(stock, name, a.every, postgres, None, max(min(a.seconds/12, 20.), 2*a.every), a.kill_every)
    server = operator.server = Server(desk, desk/"models", postgres.url, a.workers)
    try:
        asker = Asker(server, name, rows, models, operator)
        if os.cpu_count() > 1 and a.pin: [os.sched_setaffinity(p, {0}) for p in [server.process.pid, *server.workers()]]; os.sched_setaffinity(0, {1})
        operator.launch("shadow", "1.1.0", share=0.3)  # what is borne while all are at work, the database as well
        measured = load.closed_loop(server.port, asker.bodies, 8, a.warm, server.headers, f"/v1/models/{name}:predict")
        operator.stop_launch()
        rate, mib = 0.8*measured.rate, server.mib()
        print(f"capacity {measured.rate:,.0f} requests a second (8 clients; key, log, metrics and a shadow on); {rate:,.0f} a second for {a.seconds:g} s", flush=True)
        operator.start()
        asker.run(rate, a.seconds)
        operator.over.set(); operator.join(60)
        operator.mib.append(server.mib())
        missing, twice, other, roles = check_log(postgres.url, asker)
        code = server.stop()
    finally:
        operator.over.set()
        server.stop()
        try: postgres.stop()
        except SystemExit: pass  # it was away already
    return report(asker, operator, missing, twice, other, roles, mib, code, desk)


def report(asker, operator, missing, twice, other, roles, mib, code, desk):
    c, ms = asker.count, np.array(asker.ms or [np.nan])
    bad = {"wrong answers": len(asker.wrong), "lost answers": c["lost"], "answers by a version long gone": c["stale"],
           "acknowledged, not in the log": len(missing), "twice in the log": twice, "otherwise in the log": len(other),
           "canaries that were not taken off": len(operator.failures), "server's exit code": code}
    facts = {"asked": c["asked"], "answered": c["answered"], "acknowledged": len(asker.acknowledged)}
    facts |= {k: n for k, n in sorted(c.items()) if k.startswith(("asked again", "answered,"))}
    facts |= {"p50, p99 in ms": f"{np.percentile(ms, 50):.1f}, {np.percentile(ms, 99):.1f}"}
    facts |= {"answers by version": dict(sorted(asker.versions.items())), "records by role": dict(sorted(roles.items())), "changes": dict(operator.done)}
    quarters = " ".join(str(max(part)) for part in np.array_split(operator.mib, 4) if len(part))
    facts |= {"memory of a worker, MiB": f"{mib} before, at most {quarters} in the four quarters"}
    for table in (facts, bad):
        print()
        for k, v in table.items(): print(f"{k:<44} {', '.join(f'{a} {b}' for a, b in v.items()) if isinstance(v, dict) else v}")
    for words in [*asker.wrong[:5], *other[:5], *operator.failures, *([f"operator: {operator.problem}"] if operator.problem else [])]: print("!", words)
    if any(bad.values()) or operator.problem: print((desk/"server.log").read_text()[-2000:])
    return 1 if any(bad.values()) or operator.problem else 0


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", default=ROOT/"data/package/bundle", help="folder of the bundle that the versions are made from")
    p.add_argument("--seconds", type=float, default=600., help="how long")
    p.add_argument("--every", type=float, default=3., help="seconds between two changes")
    p.add_argument("--warm", type=float, default=20., help="seconds in which the capacity is measured")
    p.add_argument("--workers", type=int, default=1, help="of the server")
    p.add_argument("--kill-every", type=float, default=0., help="seconds between two kill -9 of a worker; 0: none")
    p.add_argument("--pin", action="store_true", help="server on the first core, the rest on the second")
    p.add_argument("--keep", action="store_true", help="keep the folder with logs and database")
    a = p.parse_args()
    with desk_of(a.keep) as desk: raise SystemExit(soak(a, desk))
