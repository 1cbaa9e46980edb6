"""What exploring costs: the whole stage on a million rows of fifty mixed columns, against its limits and against pandas alone.

    python benchmarks/explore.py [--rows 1000000] [--columns 50] [--task binary]

The stage's cells run in one process of their own on a copy of the project, reading and writing and drawing included. The peer,
measured in the same run, only describes and correlates: `describe(include="all")`, `nunique` and the correlation of ranks.
"""
import argparse, json, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"))
from conftest import PACKAGE, clone

STAGE = '''
import json, resource, sys, time
sys.path.insert(0, ".")
t = time.perf_counter()
import matplotlib; matplotlib.use("agg")
import io
from pathlib import Path
from {package}.export import read_notebooks
from matplotlib.figure import Figure
nb = next(nb for nb in read_notebooks(Path("nbs")) if nb.module == "explore")
space = {{"__name__": "stage"}}
for c in nb.of("export"): exec(compile(c.source, nb.path.name, "exec"), space)
imports, t = time.perf_counter() - t, time.perf_counter()
for c in nb.of("parameters", "stage"):
    *body, last = c.source.rstrip().split(chr(10))
    exec(chr(10).join(body), space)
    try: shown = eval(last, space)
    except SyntaxError: exec(last, space)
    else:
        if isinstance(shown, Figure): shown.savefig(io.BytesIO(), format="png")
print(json.dumps([time.perf_counter() - t, imports, time.process_time() - imports, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20]))
'''

PEER = '''
import json, resource, time
t = time.perf_counter()
import pandas as pd
imports, t = time.perf_counter() - t, time.perf_counter()
rows = pd.read_parquet("data/prepare/train.parquet")
rows.describe(include="all"); rows.nunique(); rows.select_dtypes("number").corr(method="spearman")
print(json.dumps([time.perf_counter() - t, imports, time.process_time() - imports, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20]))
'''


def make(rows, columns, task, folder):
    "A table of numbers, whole numbers, categories, dates, booleans and a text, with gaps, time, an entity and a target; its contract"
    from importlib import import_module
    contract = import_module(f"{PACKAGE}.contract")
    rng, spec, table = np.random.default_rng(0), [], {}
    def add(name, type, values, **kwargs): table[name] = values; spec.append(contract.Column(name=name, type=type, **kwargs))
    when = pd.Timestamp("2023-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 700*24, rows)), unit="h")
    add("customer", "text", pd.Series(rng.integers(0, max(rows//10, 1), rows)).astype(str).astype("str"), role="group")
    add("when", "datetime", when.astype("datetime64[us]"), role="time")
    score = np.zeros(rows)
    for i in range(columns - 4):
        kind, gaps = i % 5, rng.random(rows) < (0.1 if i % 3 == 0 else 0)
        x = rng.normal(size=rows) + (0.3*np.arange(rows)/rows if i % 7 == 0 else 0)
        if i % 6 == 0: score += x
        if kind in (0, 1): add(f"number_{i}", "number", np.where(gaps, np.nan, np.exp(x) if kind else x), nullable=True)
        if kind == 2: add(f"count_{i}", "integer", pd.array(rng.poisson(np.exp(x/2)), "Int64"), nullable=True)
        if kind == 3: add(f"level_{i}", "category", pd.Series(np.array([f"level {k}" for k in range(500)])[np.clip(np.abs(x)*(5 if i % 2 else 120), 0, 499).astype(int)]).mask(gaps).astype("str"), nullable=True)
        if kind == 4: add(f"date_{i}", "datetime", (pd.Timestamp("2015-01-01") + pd.to_timedelta((x*300).astype(int), unit="D")).astype("datetime64[us]"))
    add("note", "text", pd.Series(np.char.add("said ", rng.integers(0, rows, rows).astype(str))).astype("str"))
    noisy = score + rng.normal(size=rows)
    if task == "regression": add("y", "number", noisy, role="target"); extra = {}
    else: add("y", "category", pd.Series(np.where(noisy > 2, "yes", "no")).astype("str"), role="target"); extra = dict(positive="yes", classes=["no", "yes"])
    (folder/"data/prepare").mkdir(parents=True); (folder/"data/collect").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_parquet(folder/"data/prepare/train.parquet", index=False)
    made = contract.Contract(name="large", task=task, columns=spec, **extra)
    (folder/"data/collect/contract.json").write_text(json.dumps(made.model_dump()))
    return len(spec)


def measure(code, house):
    "Seconds, seconds of the imports before, seconds of processor, GiB at the peak; in a process of its own"
    r = subprocess.run([sys.executable, "-c", code], cwd=house.root, env=house.env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-3000:]
    return json.loads(r.stdout.splitlines()[-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=1_000_000)
    p.add_argument("--columns", type=int, default=50)
    p.add_argument("--task", choices=["binary", "regression"], default="binary")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        (home := Path(d)/"home").mkdir()
        house = clone(Path(d)/"house", home)
        columns = make(args.rows, args.columns, args.task, house.root)
        print(f"{args.rows:,} rows × {columns} columns, {args.task}", flush=True)
        (t, imports, cpu, gib), (pt, pimports, pcpu, pgib) = measure(STAGE.format(package=PACKAGE), house), measure(PEER, house)
        print(f"{'explore, the whole stage':<36} {t:7.2f} s  limit 60 s   ratio {t/60:5.2f}   pandas describe, nunique, corr {pt:7.2f} s  ratio {t/pt:5.2f}")
        print(f"{'  of the processor':<36} {cpu:7.2f} s                             pandas {pcpu:7.2f} s   (imports before: {imports:.2f} s, {pimports:.2f} s)")
        print(f"{'  memory at its peak':<36} {gib:7.2f} GiB limit 4 GiB  ratio {gib/4:5.2f}   pandas {pgib:7.2f} GiB  ratio {gib/pgib:5.2f}")
        found = json.loads((house.root/"data/explore/findings.json").read_text())
        print(f"{'  findings':<36} {len(found):7d}")


if __name__ == "__main__": main()
