"""Batches: rows a second and memory of `predict`, beside the scikit-learn pipeline fed by pandas in chunks; same model, same rows, same cores, same run.

    python benchmarks/predict.py [--rows 5000000] [--memory 1000000 10000000]

The model is the one that the project has packaged (`data/package/bundle`) and the pipeline it was made from (`data/evaluate/pipeline.skops`): run the chain first. The rows
are made column by column from those of production, numbers a little moved, so that hardly two are alike. The rival reads chunks with pandas (for CSV its fastest reader for
chunks, the C engine), checks nothing, and writes the same columns; it is measured with one thread of LightGBM, as the project's models are set, and with two, which is what
these cores allow at best. Ours checks every row against the contract, names every prediction and can be interrupted. Each runs in a process of its own.
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
LEAST, LIMIT = 4, 1024 # times as fast; MiB
RIVAL = """
import sys
sys.path.insert(0, {root!r})
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq
from mlcycle.bundle import load_bundle
from mlcycle.contract import inputs
from mlcycle.models import load_model
source, out, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
bundle, model, chunk = load_bundle({bundle!r}), load_model({pipeline!r}), 200_000
def widen(m, seen):
    if id(m) in seen: return
    seen.add(id(m))
    if "threads" in getattr(m, "__dict__", {{}}): m.threads = threads
    for v in (list(vars(m).values()) if hasattr(m, "__dict__") else m if isinstance(m, (list, tuple)) else []):
        if hasattr(v, "__dict__") or isinstance(v, (list, tuple)): widen(v, seen)
widen(model, set())
def answer(t):
    p = model.predict_proba(pd.DataFrame(inputs(t, bundle.contract)))[:, 1]
    return t.assign(_label=pd.Series(p >= bundle.meta.threshold, index=t.index).map({{True: bundle.meta.classes[1], False: bundle.meta.classes[0]}}), _score=p)
if source.endswith(".csv"):
    for i, t in enumerate(pd.read_csv(source, chunksize=chunk)): answer(t).to_csv(out, mode="a" if i else "w", header=not i, index=False)
else:
    writer = None
    with pq.ParquetFile(source) as f:
        for b in f.iter_batches(chunk):
            t = pa.Table.from_pandas(answer(b.to_pandas()), preserve_index=False)
            writer = writer or pq.ParquetWriter(out, t.schema)
            writer.write_table(t.cast(writer.schema))
    writer.close()
"""


def measure(words, **kwargs):
    "Run a command: its wall time and its CPU time in seconds, the peak of its memory in MiB"
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        p = subprocess.Popen([str(w) for w in words], stdout=said, stderr=subprocess.STDOUT, **kwargs)
        _, status, used = os.wait4(p.pid, 0)
        said.seek(0)
        assert status == 0, said.read()[-3000:]
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss/1024


def make(folder, rows, step=500_000):
    "Write the same rows as CSV and as Parquet"
    rng, seen = np.random.default_rng(0), pd.read_parquet(ROOT/"data/prepare/production.parquet")
    seen = seen[[c for c in seen if not c.startswith("_") and c not in ("cancel_reason", "churn_known_on", "churned")]]
    seen = seen[seen["plan"].isin(["basic", "standard", "premium"])] if "plan" in seen else seen
    writer = None
    for i in range(0, rows, step):
        n = min(step, rows - i)
        t = pd.DataFrame({c: seen[c].to_numpy()[rng.integers(0, len(seen), n)] for c in seen})
        for c in t.select_dtypes("float"):
            if t[c].nunique() > 50: t[c] = np.round(t[c]*rng.uniform(.9, 1.1, n), 0 if (seen[c].dropna() % 1 == 0).all() else 2)
        t.to_csv(folder/f"{rows}.csv", mode="a" if i else "w", header=not i, index=False)
        table = pa.Table.from_pandas(t, preserve_index=False)
        writer = writer or pq.ParquetWriter(folder/f"{rows}.parquet", table.schema)
        writer.write_table(table.cast(writer.schema))
    writer.close()


def ours(folder, rows, form):
    "Times and memory of our command"
    out = folder/f"ours.{form}"
    out.unlink(missing_ok=True)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mlcycle.cli import main; raise SystemExit(main())"
    result = measure([sys.executable, "-c", code, "predict", folder/f"{rows}.{form}", out, "--bundle", ROOT/"data/package/bundle", "--quiet"], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return *result, out


def rival(folder, rows, form, threads):
    "Times and memory of the pipeline"
    out = folder/f"rival.{form}"
    out.unlink(missing_ok=True)
    code = RIVAL.format(root=str(ROOT), bundle=str(ROOT/"data/package/bundle"), pipeline=str(ROOT/"data/evaluate/pipeline.skops"))
    return *measure([sys.executable, "-c", code, folder/f"{rows}.{form}", out, threads], cwd=folder), out


def read(path, columns=("_label", "_score")): return pd.read_csv(path, usecols=list(columns)) if path.suffix == ".csv" else pd.read_parquet(path, columns=list(columns))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=5_000_000, help="rows for speed")
    p.add_argument("--memory", type=int, nargs="*", default=[1_000_000, 10_000_000], help="rows of the runs whose memory is compared")
    p.add_argument("--forms", nargs="+", default=["csv", "parquet"], help="csv, parquet")
    args, failed = p.parse_args(), False
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)
        make(folder, args.rows)
        print(f"{args.rows:,} rows, {len(pd.read_csv(folder/f'{args.rows}.csv', nrows=1).columns)} columns, {(folder/f'{args.rows}.csv').stat().st_size >> 20} MiB of CSV; {len(os.sched_getaffinity(0))} cores", flush=True)
        for form in args.forms:
            seconds, work, peak, out = ours(folder, args.rows, form)
            print(f"{form + ' to ' + form:<20} ours        {args.rows/seconds:10,.0f} rows/s {seconds:7.1f} s, CPU {work:6.1f} s {peak:6.0f} MiB", flush=True)
            for threads in (1, 2):
                other, effort, theirs, there = rival(folder, args.rows, form, threads)
                print(f"{'':<20} pipeline, {threads} {args.rows/other:10,.0f} rows/s {other:7.1f} s, CPU {effort:6.1f} s {theirs:6.0f} MiB   ratio {other/seconds:5.1f} (CPU {effort/work:4.1f}), at least {LEAST}", flush=True)
                failed |= other/seconds < LEAST
            a, b = read(out), read(there)
            print(f"{'':<22} largest difference of a score {np.abs(a['_score'] - b['_score']).max():.1e}, labels that differ {(a['_label'].astype(str) != b['_label'].astype(str)).sum()}", flush=True)
            failed |= peak > LIMIT
        for f in folder.iterdir(): f.unlink()
        for rows in args.memory:
            make(folder, rows)
            for form in args.forms:
                seconds, _, peak, _ = ours(folder, rows, form)
                print(f"memory, {form:<14} {rows:>12,} rows {peak:6.0f} MiB   limit {LIMIT} MiB   {rows/seconds:10,.0f} rows/s", flush=True)
                failed |= peak > LIMIT
            for f in folder.iterdir(): f.unlink()
    raise SystemExit(int(failed))


if __name__ == "__main__": main()
