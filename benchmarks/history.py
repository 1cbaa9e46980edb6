"""What history costs: columns of earlier rows on a million rows, against pandas' groupby with shift and rolling, values compared.

    python benchmarks/history.py [--rows 1000000] [--entities 50000]

Ours reads the columns from a table on disk (`Shelf`) and writes them back; pandas has the whole table in memory, sorted by time, and gets
what it needs for free: times that no two rows of an entity share, labels known at once, no gaps. Each in a process of its own.
"""
import argparse, json, resource, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/"tests")]

ENTRIES = {"last": dict(take="lag"), "mean_of_5": dict(take="mean", back=5), "sum_90_days": dict(take="sum", back="90D"), "std_so_far": dict(take="std")}


def write(path, rows, entities):
    "A table with more columns than history needs"
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.choice(86_400*730, rows, replace=rows > 86_400*730))
    table = pd.DataFrame({"who": pd.Series(rng.integers(0, entities, rows)).astype(str).astype("str"),
                          "at": (pd.Timestamp("2023-01-01") + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us]"), "paid": rng.lognormal(0, 1, rows)})
    table = table.assign(**{f"x{i}": rng.normal(size=rows) for i in range(10)}).sample(frac=1, random_state=0, ignore_index=True)
    table.to_parquet(path, index=False, row_group_size=1 << 17)


def ours(path, out):
    "Seconds, seconds of the processor, and GiB more at the peak than before"
    from conftest import PACKAGE
    from importlib import import_module
    contract, history, read = (import_module(f"{PACKAGE}.{n}") for n in ("contract", "history", "read"))
    shelf = read.Shelf(Path(path).parent/"shelf")
    for part in pd.read_parquet(path).pipe(lambda t: (t.iloc[i:i + read.PART] for i in range(0, len(t), read.PART))): shelf.append(part)
    columns = {n: contract.Column(name=n, type=t, role=r) for n, t, r in [("who", "text", "group"), ("at", "datetime", "time"), ("paid", "number", "feature")]}
    del part; before, t, cpu = memory(), time.perf_counter(), time.process_time()
    history.make_history(shelf, {n: history.History(of="paid", by="who", **e) for n, e in ENTRIES.items()}, history.Facts(columns))
    seconds, cpu, gib = time.perf_counter() - t, time.process_time() - cpu, peak() - before
    pd.DataFrame({n: shelf[n] for n in ENTRIES}).to_parquet(out)
    return seconds, cpu, gib


def peer(path, out):
    "The same by groupby, shift and rolling"
    table = pd.read_parquet(path)[["who", "at", "paid"]]
    before, t, cpu = memory(), time.perf_counter(), time.process_time()
    rows = table.sort_values("at", kind="stable")
    groups, dated = rows.groupby("who", sort=False)["paid"], rows.set_index("at").groupby("who", sort=False)["paid"]
    earlier = groups.shift(1).groupby(rows["who"], sort=False)
    made = {"last": groups.shift(1), "mean_of_5": earlier.rolling(5, min_periods=1).mean().droplevel(0)}
    made["std_so_far"] = earlier.expanding(min_periods=2).std().droplevel(0)
    spans = dated.rolling("90D", closed="left", min_periods=0).sum()
    order = rows.assign(_place=groups.ngroup()).sort_values(["_place", "at"], kind="stable").index # as groupby.rolling leaves them
    made["sum_90_days"] = pd.Series(spans.to_numpy(), order).fillna(0)
    made = pd.DataFrame({n: made[n].reindex(table.index) for n in ENTRIES})
    seconds, cpu, gib = time.perf_counter() - t, time.process_time() - cpu, peak() - before
    made.to_parquet(out)
    return seconds, cpu, gib


def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
def memory(): return int(Path("/proc/self/statm").read_text().split()[1])*resource.getpagesize()/2**30


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=1_000_000)
    p.add_argument("--entities", type=int, default=50_000)
    p.add_argument("--only", choices=["ours", "peer"], help=argparse.SUPPRESS)
    p.add_argument("--folder", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.only: print(json.dumps({"ours": ours, "peer": peer}[args.only](f"{args.folder}/t.parquet", f"{args.folder}/{args.only}.parquet"))); return
    with tempfile.TemporaryDirectory() as d:
        write(f"{d}/t.parquet", args.rows, args.entities)
        result = {}
        for who in ("ours", "peer"):
            r = subprocess.run([sys.executable, __file__, "--only", who, "--folder", d], capture_output=True, text=True)
            assert r.returncode == 0, r.stderr[-3000:]
            result[who] = json.loads(r.stdout.splitlines()[-1])
        (t, cpu, gib), (pt, pcpu, pgib) = result["ours"], result["peer"]
        print(f"{args.rows:,} rows of {args.entities:,} entities, {len(ENTRIES)} columns: {', '.join(ENTRIES)}")
        print(f"{'history':<12} {t:7.2f} s   pandas groupby {pt:7.2f} s   ratio {t/pt:5.2f}")
        print(f"{'  processor':<12} {cpu:7.2f} s   pandas         {pcpu:7.2f} s   ratio {cpu/pcpu:5.2f}")
        print(f"{'  memory':<12} {gib:7.2f} GiB pandas         {pgib:7.2f} GiB ratio {gib/pgib:5.2f}   (more at the peak than before)")
        a, b = (pd.read_parquet(f"{d}/{who}.parquet").astype("float64") for who in ("ours", "peer"))
        for n in ENTRIES:
            gaps, far = int((a[n].isna() != b[n].isna()).sum()), float(((a[n] - b[n]).abs()/b[n].abs().clip(lower=1e-9)).max())
            print(f"{'  ' + n:<16} largest relative difference {far:.1e}, {gaps} gaps differ")


if __name__ == "__main__": main()
