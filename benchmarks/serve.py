"""How fast one row is answered: ours against MLServer, BentoML, `mlflow models serve`, and a bare FastAPI app that only echoes.

    python benchmarks/serve.py [--rivals DIR] [--systems ours,echo,mlserver,mlserver-pipeline,…] [--seconds 5] [--rounds 3] [--bundle data/package/bundle]

The same model, the same rows, one worker pinned to one core, the client on another one; the systems take turns. Ours has everything on: validation by the
contract, an API key, the prediction log (SQLite), metrics. No system writes a line for each request (ours: `serve.lines: problems`). The others run as
their documentation has it, without key or log of predictions (nor do they have a contract to check): once with the ONNX graph of the bundle, once (-pipeline) with the scikit-learn pipeline that the graph was made
from, which is what their own flavours serve. `echo` is a route as FastAPI's tutorial writes it (`body: dict`, which parses and checks), and the limit is
a share of its throughput; `echo-raw` leaves out FastAPI's checks and stands here for information. DIR holds an environment for each rival (made on first
use); their code is in benchmarks/rivals/.

Closed loop: 1 client, then 8, each asks again once it has its answer. Open loop: requests at random times at half of what the 8 clients got through, timed from
when they were due. Memory is what the process tree has (PSS, so that shared pages count once). Cold start: from the command to the first right answer.
CPU is what the server computes for one answer, with 8 clients: the figure that a busy machine changes least. Figures are medians over the rounds,
ratios medians of each round's ratio. Every system's answers are compared with the bundle's before it is measured.
"""
import argparse, http.client, json, os, shutil, socket, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent/"rivals"
sys.path.insert(0, str(ROOT))
RIVALS = {"mlserver": "mlserver==1.7.1", "bentoml": "bentoml==1.4.*", "mlflow": "mlflow==3.17.*"}
NEEDS = ["onnxruntime", "onnx", "scikit-learn", "lightgbm", "skops", "skl2onnx", "pandas", "pyyaml"] # to run the graph, and to run the pipeline
SYSTEMS = ["ours", "echo", "echo-raw", *RIVALS, *(f"{n}-pipeline" for n in RIVALS)]
LOADS = ("1 client", "8 clients", "half load")
LIMITS = {"throughput": 12, "echo": 0.6, "p50_ms": 1., "cold_s": 2., "worker_mib": 120.} # of the issue: times each rival's, times the echo's, …


# ---- what is asked ----

def read_rows(bundle, n=200):
    "Rows of the validation period without gaps (the others' formats have none), as JSON has them"
    import pandas as pd
    from mlcycle.answer import as_json
    table = pd.read_parquet(ROOT/"data"/"prepare"/"validation.parquet")
    return as_json(table.dropna(subset=[c.name for c in bundle.contract.features]).head(n), bundle.contract)


def number(value): return float(value) if isinstance(value, bool) else value


def as_tensors(row, texts):
    "A row in the Open Inference Protocol"
    return {"inputs": [{"name": c, "shape": [1, 1], "datatype": "BYTES" if c in texts else "FP64", "data": [number(v)]} for c, v in row.items()]}


# ---- the systems: command, environment, address, how a row is written and the scores are read ----

def ours(desk, about, port):
    from mlcycle.keys import open_keys
    secret = open_keys(desk/"keys.json").make("benchmark", [about["name"]])
    (desk/"limits.yaml").write_text("lines: problems\n") # as the others: no line for a request that went well
    given = {"bundle": about["bundle"], "port": port, "workers": 1, "config": desk/"limits.yaml", "keys": desk/"keys.json", "log": f"sqlite:///{desk}/log.sqlite", "state": desk}
    run = "from mlcycle.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-P", "-c", run, "serve", *(w for k, v in given.items() for w in (f"--{k}", str(v)))]
    return dict(command=command, path=f"/v1/models/{about['name']}:predict", headers={"authorization": f"Bearer {secret}"},
                write=lambda row: {"rows": [row]}, scores=lambda a: list(a["predictions"][0]["scores"].values()))


def echo(desk, about, port):
    command, path = [sys.executable, str(HERE/"echo.py"), str(port)], "/raw" if about["form"] == "raw" else "/"
    return dict(command=command, path=path, write=lambda row: {"rows": [row]}, scores=None)


def mlserver(desk, about, port):
    write = lambda name, what: (desk/name).write_text(json.dumps(what))
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    write("settings.json", {"debug": False, "host": "127.0.0.1", "parallel_workers": 0} | ports) # no process between: quicker on one core
    write("model-settings.json", {"name": "served", "implementation": "runtime.Served", "parameters": {"uri": str(desk), "version": "v1", "extra": about}})
    for f in ("runtime.py", "model.py"): shutil.copy(HERE/f, desk)
    return dict(command=["bin/mlserver", "start", str(desk)], path="/v2/models/served/versions/v1/infer",
                write=lambda row: as_tensors(row, about["texts"]), scores=lambda a: a["outputs"][0]["data"])


def bentoml(desk, about, port):
    for f in ("service.py", "model.py"): shutil.copy(HERE/f, desk)
    command = ["bin/bentoml", "serve", "service:Served", "--host", "127.0.0.1", "--port", str(port)]
    return dict(command=command, path="/predict", env={"BENTOML_DO_NOT_TRACK": "True", "ABOUT": json.dumps(about)},
                write=lambda row: {"rows": [{c: number(v) for c, v in row.items()}]}, scores=lambda a: list(a[0]["scores"].values()))


def mlflow(desk, about, port):
    save = [about["python"], str(HERE/"save.py"), json.dumps(about), str(desk/"model")]
    made = subprocess.run(save, capture_output=True, text=True, cwd=desk, env=os.environ | {"PYTHONPATH": str(ROOT)})
    if made.returncode: raise SystemExit(made.stderr[-3000:])
    forms = {"graph": dict(write=lambda row: {"inputs": {c: [[number(v)]] for c, v in row.items()}}, scores=lambda a: next(iter(a["predictions"].values()))[0]),
             "pipeline": dict(write=lambda row: {"dataframe_records": [{c: number(v) for c, v in row.items()}]}, scores=lambda a: a["predictions"][0])}
    command = ["bin/mlflow", "models", "serve", "-m", str(desk/"model"), "-p", str(port), "-w", "1", "--env-manager", "local"]
    return dict(command=command, path="/invocations", env={"MLFLOW_DISABLE_TELEMETRY": "true"}, **forms[about["form"]])


# ---- started, asked, measured ----

SERVICES = {f.__name__: f for f in (ours, echo, mlserver, bentoml, mlflow)}


def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


def ask(port, service, row):
    "Ask once: status and answer"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"content-type": "application/json"} | service.get("headers", {})
        connection.request("POST", service["path"], json.dumps(service["write"](row)).encode(), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally: connection.close()


@contextmanager
def started(name, about, rivals, desk, core):
    "Start a system on a core; give its port, how it is asked, its process and how many seconds the first right answer took"
    import psutil
    tool, _, form = name.partition("-")
    port, home = free_port(), rivals/tool
    service = SERVICES[tool](desk, about | {"python": str(home/"bin"/"python"), "form": form or "graph"}, port)
    command = [str(home/w) if w.startswith("bin/") else w for w in service["command"]]
    env = {"PATH": f"{home/'bin'}:{os.environ['PATH']}" if tool in RIVALS else os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(desk/"log.txt", "wb") as log:
        start = time.perf_counter()
        pin = lambda: os.sched_setaffinity(0, {core})
        process = psutil.Popen(command, cwd=desk, env=os.environ | env | service.get("env", {}), stdout=log, stderr=log, preexec_fn=pin)
    try:
        while True:
            try: status, answer = ask(port, service, about["rows"][0])
            except (OSError, http.client.HTTPException, ValueError): status, answer = None, None
            if status == 200: break
            if process.poll() is not None or time.perf_counter() > start + 90:
                raise SystemExit(f"{name} does not answer ({status}, {answer}):\n{(desk/'log.txt').read_text()[-3000:]}")
            time.sleep(0.01)
        yield port, service, process, time.perf_counter() - start
    finally: stop(process)


def stop(process):
    "End a process and what it started"
    import psutil
    try: family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess: return
    process.terminate()
    for p in psutil.wait_procs(family, timeout=10)[1]: p.kill()


def wrong_answers(port, service, about):
    "How many answers are not the bundle's"
    if service["scores"] is None: return sum(ask(port, service, r)[1] != service["write"](r) for r in about["rows"])
    off = lambda row, scores: max(abs(a - b) for a, b in zip(service["scores"](ask(port, service, row)[1]), scores, strict=True))
    return sum(off(r, s) > about["tolerance"] for r, s in zip(about["rows"], about["scores"]))


def memory_of(process):
    "MiB of the process tree, and of its largest process"
    family = [process, *process.children(recursive=True)]
    return sum(p.memory_full_info().pss for p in family)/2**20, max(p.memory_info().rss for p in family)/2**20


def cpu_of(process):
    "Seconds that the process tree has computed"
    return sum(p.cpu_times().user + p.cpu_times().system for p in [process, *process.children(recursive=True)])


def measure(name, about, rivals, core, seconds):
    "One round of one system"
    from mlcycle.load import closed_loop, open_loop
    with tempfile.TemporaryDirectory() as desk, started(name, about, rivals, Path(desk), core) as (port, service, process, cold):
        wrong = wrong_answers(port, service, about)
        bodies, more = [json.dumps(service["write"](r)).encode() for r in about["rows"]], dict(headers=service.get("headers"), path=service["path"])
        closed_loop(port, bodies, 8, min(1, seconds), **more)
        one, before = closed_loop(port, bodies, 1, seconds, **more), cpu_of(process)
        eight = closed_loop(port, bodies, 8, seconds, **more)
        cpu_ms = 1000*(cpu_of(process) - before)/max(len(eight.ms), 1)
        half = open_loop(port, bodies, eight.rate/2, seconds, **more)
        all_mib, worker_mib = memory_of(process)
    loads = {"1 client": figures(one), "8 clients": figures(eight), "half load": figures(half)}
    return loads | {"cpu_ms": cpu_ms, "cold_s": cold, "mib": all_mib, "worker_mib": worker_mib, "wrong": wrong}


def figures(l): return {"rate": l.rate, "p50": l.at(50), "p99": l.at(99), "failed": l.failed, "late": l.late_ms, "client": l.busy}


# ---- the table ----

def median(values): return sorted(values)[len(values)//2]


COLUMNS = { # head: which figure, and its form
    "1 client: req/s": ("1 client", "rate", ",.0f"), "p50 ms": ("1 client", "p50", ".2f"), "p99 ms": ("1 client", "p99", ".2f"),
    "8 clients: req/s": ("8 clients", "rate", ",.0f"), "p50 ms ": ("8 clients", "p50", ".2f"), "p99 ms ": ("8 clients", "p99", ".2f"),
    "half load: p50 ms": ("half load", "p50", ".2f"), "p99 ms  ": ("half load", "p99", ".2f"), "CPU ms": ("cpu_ms", None, ".3f"),
    "cold s": ("cold_s", None, ".2f"),
    "MiB": ("mib", None, ".0f"), "worker": ("worker_mib", None, ".0f"), "client busy": ("8 clients", "client", ".0%"), "wrong": ("wrong", None, ""),
}


def report(rounds):
    "Print medians, and what they are of the limits"
    of = lambda rs, k, f: median([r[k][f] if f else r[k] for r in rs])
    print("\n" + " "*17 + "  ".join(COLUMNS))
    for n, rs in rounds.items(): print(f"{n:17}" + "  ".join(f"{of(rs, k, f):{form}}".rjust(len(head)) for head, (k, f, form) in COLUMNS.items()))
    found = {n: {k: {f: of(rs, k, f) for f in v} if isinstance(v, dict) else of(rs, k, None) for k, v in rs[0].items()} for n, rs in rounds.items()}
    if "ours" not in found: return
    print()
    for said, ok in verdicts(rounds, found): print(f"{'      ' if ok is None else 'holds ' if ok else 'MISSED'}  {said}")


def verdicts(rounds, found):
    "The issue's limits, one by one; None: no limit, for information"
    mine, less = found["ours"], lambda n: found[n]["cpu_ms"]/found["ours"]["cpu_ms"]
    ratio = lambda n, k: median([a[k]["rate"]/b[k]["rate"] for a, b in zip(rounds["ours"], rounds[n])])
    for n in found:
        tool, limit = n.partition("-")[0], {"echo": LIMITS["echo"], "echo-raw": None}.get(n, LIMITS["throughput"])
        if tool == "ours": continue
        for k in LOADS[:2]: yield f"{k}: {ratio(n, k):.2f} × the throughput of {n} ({f'at least {limit}' if limit else 'no limit'})", limit and ratio(n, k) >= limit
        yield f"CPU of an answer: {less(n):.2f} × ours, {n}", None
        if tool == "echo": continue
        for k in LOADS: yield f"{k}: p99 {mine[k]['p99']:.2f} ms, {n} {found[n][k]['p99']:.2f} (below it)", mine[k]["p99"] < found[n][k]["p99"]
    yield f"p50 of one row {mine['1 client']['p50']:.2f} ms (under {LIMITS['p50_ms']:g})", mine["1 client"]["p50"] < LIMITS["p50_ms"]
    yield f"cold start to the first answer {mine['cold_s']:.2f} s (under {LIMITS['cold_s']:g})", mine["cold_s"] < LIMITS["cold_s"]
    yield f"a worker has {mine['worker_mib']:.0f} MiB (under {LIMITS['worker_mib']:g})", mine["worker_mib"] < LIMITS["worker_mib"]
    wrong, failed = (sum(r["wrong"] for rs in rounds.values() for r in rs), sum(r[k]["failed"] for rs in rounds.values() for r in rs for k in LOADS))
    yield f"{wrong} answers are wrong, {failed} requests failed, of all systems (none)", not wrong and not failed


def prepare(folder, rivals, names):
    "Read the bundle and the rows, compute the answers, make environments that are missing"
    from mlcycle.bundle import load_bundle
    from mlcycle.serve import ask_bundle
    bundle = load_bundle(folder)
    rows = read_rows(bundle)
    for n in RIVALS:
        if (rivals/n).exists() or not any(m.startswith(n) for m in names): continue
        subprocess.run([sys.executable, "-m", "venv", str(rivals/n)], check=True)
        subprocess.run([str(rivals/n/"bin"/"pip"), "install", "-q", RIVALS[n], *NEEDS], check=True)
    paths = {"bundle": Path(folder).resolve(), "graph": Path(folder).resolve()/"model.onnx", "pipeline": ROOT/"data"/"evaluate"/"pipeline.skops"}
    features = bundle.contract.features
    columns = {"columns": [c.name for c in features], "texts": [c.name for c in features if c.type == "category"], "classes": bundle.meta.classes}
    asked = {"rows": rows, "scores": ask_bundle(bundle, rows)["scores"].tolist(), "tolerance": bundle.meta.tolerance}
    return {k: str(v) for k, v in paths.items()} | {"name": bundle.meta.name} | columns | asked


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rivals", type=Path, default=Path(tempfile.gettempdir())/"mlcycle-rivals")
    p.add_argument("--systems", default=",".join(SYSTEMS))
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--bundle", type=Path, default=ROOT/"data"/"package"/"bundle")
    p.add_argument("--out", type=Path, help="all rounds, as JSON")
    args = p.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2: raise SystemExit("This needs two cores: one for the server, one for the client.")
    names = args.systems.split(",")
    about = prepare(args.bundle, args.rivals.resolve(), names)
    os.sched_setaffinity(0, {cores[1]})
    rounds = {n: [] for n in names}
    for i in range(args.rounds):
        for n in names: rounds[n].append(measure(n, about, args.rivals.resolve(), cores[0], args.seconds)); print(f"round {i + 1}: {n}", file=sys.stderr)
    report(rounds)
    if args.out: args.out.write_text(json.dumps(rounds, indent=1))


if __name__ == "__main__": main()
