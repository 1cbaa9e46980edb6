"""What training costs in memory: the whole stage's work on a million rows of fifty columns with a budget of five trials.

    python benchmarks/train.py [--rows 1000000] [--columns 50] [--trials 5] [--workers 2]

One process of its own (and its workers) does what the stage does: recipe, folds, search, blend, board, final fit. Printed are the peak
of the memory of all its processes together, counted once where they share it (PSS), its ratio to the table's size in memory, and what
a plain LightGBM on the same table takes in the same run.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]

DATA = '''
import sys, numpy as np, pandas as pd
rows, columns, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng, t = np.random.default_rng(0), {}
for i in range(columns - 1): t[f"x{i}"] = rng.choice(list("abcde"), rows) if i % 10 == 9 else rng.normal(size=rows)
score = t["x0"] + t["x1"]*t["x2"] + (t["x9"] == "a")
t["y"] = np.where(score + rng.normal(size=rows) > 1, "yes", "no")
pd.DataFrame(t).to_parquet(path)
'''

OURS = '''
import sys, json; from pathlib import Path; from time import perf_counter
import pandas as pd
from mlcycle.board import blend_trial, claim, rank_trials
from mlcycle.contract import inputs, labels
from mlcycle.folds import fold_data, make_folds
from mlcycle.metrics import main_metric
from mlcycle.propose import propose
from mlcycle.recipe import make_recipe, plan
from mlcycle.search import search, with_ties
from mlcycle.train import fit_winner, with_blend

if __name__ == "__main__":
    path, trials, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    table = pd.read_parquet(path)
    size, start = int(table.memory_usage(deep=True).sum()), perf_counter()
    contract = propose(table.head(20_000), "big", "y")
    X, y, metric = pd.DataFrame(inputs(table, contract)), labels(table, contract), main_metric("binary")
    recipe, (parts, rule) = make_recipe(plan(contract, X, 100)), make_folds(y, "binary", 5, 0)
    data = with_ties(fold_data(recipe, X, y, parts))
    done = search(data, "binary", 2, metric, ["dummy", "linear", "lightgbm"], trials, workers=workers, say=lambda line: print(line, file=sys.stderr, flush=True))
    wish = {"nodes": None, "size_mib": None, "qualify": {"metrics": {}, "slices": {}}}
    ranked = rank_trials(with_blend(done, blend_trial(done, parts, y, "binary", metric, 3)), parts, y, "binary", metric, wish)
    claimed = claim(ranked, parts, y, metric)
    fit_winner(recipe, X, y, "binary", ranked, 0)
    print(json.dumps({"seconds": round(perf_counter() - start), "table_gib": size/2**30, "trials": len(done), "claimed": claimed}))
'''

PEER = '''
import sys, json; from time import perf_counter
import lightgbm, pandas as pd
table, start = pd.read_parquet(sys.argv[1]), perf_counter()
X = table.drop(columns="y").apply(lambda c: c if c.dtype == float else c.astype("category"))
lightgbm.LGBMClassifier(n_jobs=1, verbose=-1).fit(X, table["y"])
print(json.dumps({"seconds": round(perf_counter() - start)}))
'''


def memory(root):
    "Bytes of a process and all below it; what they share counts once"
    total = 0
    for p in [root, *root.children(recursive=True)]:
        try: total += p.memory_full_info().pss
        except psutil.Error: pass
    return total


def watch(code, *words):
    "Run code in a process of its own; what it printed, and its peak in GiB"
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/"run.py").write_text(code)
        p = subprocess.Popen([sys.executable, f"{d}/run.py", *map(str, words)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
        peak, process = 0, psutil.Process(p.pid)
        while p.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.2)
        out = p.stdout.read().strip()
        if p.returncode: raise SystemExit(p.returncode)
        return json.loads(out) | {"peak_gib": round(peak/2**30, 2)} if out else {}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1_000_000), ("columns", 50), ("trials", 5), ("workers", 2)): ask.add_argument(f"--{name}", type=int, default=default)
    a = ask.parse_args()
    with tempfile.TemporaryDirectory() as d:
        watch(DATA, a.rows, a.columns, f"{d}/t.parquet")
        ours, peer = watch(OURS, f"{d}/t.parquet", a.trials, a.workers), watch(PEER, f"{d}/t.parquet")
    print(f"train: {ours['trials']} trials on {a.rows:,} rows × {a.columns} columns in {ours['seconds']} s, {a.workers} processes")
    print(f"peak {ours['peak_gib']} GiB (limit 8), {ours['peak_gib']/ours['table_gib']:.1f} times the table's {ours['table_gib']:.2f} GiB; plain LightGBM, one fit: {peer['peak_gib']} GiB, {peer['seconds']} s")
    raise SystemExit(ours["peak_gib"] > 8)


if __name__ == "__main__": main()
