"""What collecting costs in memory: a CSV file of five million rows becomes the typed table, the contract and the record in at most 1 GiB.

    python benchmarks/collect.py [--rows 5000000]

The file is made in a temporary folder, the stage runs in a copy of the project, and beside it stands, in the same run, what pandas takes to read
the same file whole and write it as Parquet. Memory is the peak of the process and of all that it starts, imports included.
"""
import argparse, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"))
from conftest import PACKAGE, clone

LIMIT = 1024 # MiB
PLAIN = "import sys, pandas as pd; pd.read_csv(sys.argv[1]).to_parquet(sys.argv[2])"


def make(path, rows, step=250_000):
    "Write orders with twelve mixed columns, about 92 bytes a row"
    rng = np.random.default_rng(0)
    for i in range(0, rows, step):
        n = min(step, rows - i)
        k = np.arange(i, i + n)
        table = pd.DataFrame({
            "order_id": np.char.add("O", (10_000_000 + k).astype(str)), "customer_id": np.char.add("C", rng.integers(100_000, 900_000, n).astype(str)),
            "placed": pd.Timestamp("2022-01-01") + pd.to_timedelta(k*15, unit="s"), "price": np.round(rng.gamma(2, 30, n), 2), "weight": np.round(rng.gamma(3, 2, n), 3),
            "items": rng.integers(1, 12, n), "country": rng.choice(["DE", "FR", "IT", "ES", "PL"], n), "channel": rng.choice(["web", "app", "shop", "phone"], n),
            "voucher": rng.choice([True, False], n), "discount": pd.Series(np.round(rng.random(n)*20, 1)).mask(rng.random(n) < .3),
            "email": np.char.add(np.char.add("u", rng.integers(0, 900_000, n).astype(str)), "@example.org")})
        table["returned"] = np.where(rng.random(n) < 1/(1 + np.exp(2 - table.price/60)), "yes", "no")
        table.to_csv(path, mode="a" if i else "w", header=not i, index=False)


def measure(words, **kwargs):
    "Run a command; its wall time, and the peak of the memory of all its processes together, in MiB"
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs) as p:
        me = psutil.Process(p.pid)
        while p.poll() is None:
            now = 0
            for q in [me, *me.children(recursive=True)]:
                try: now += q.memory_info().rss
                except psutil.NoSuchProcess: pass
            peak = max(peak, now)
            time.sleep(.02)
        out = p.stdout.read()
    assert p.returncode == 0, out[-3000:]
    return time.perf_counter() - start, peak/2**20


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=5_000_000, help="rows of the file")
    rows = p.parse_args().rows
    with tempfile.TemporaryDirectory() as d:
        home = Path(d)/"home"; home.mkdir()
        house = clone(Path(d)/"house", home)
        raw = house.root/"data/raw/orders.csv"
        raw.parent.mkdir(parents=True, exist_ok=True)
        make(raw, rows)
        params = yaml.safe_load(house.text("params.yaml"))
        free = {k: None for k in ("costs", "contact", "capacity", "today", "minimum", "aim") if k in params["frame"]} | {"guardrails": {}, "forbidden": [], "sensitive": []}
        params["frame"] |= {k: v for k, v in free.items() if k in params["frame"]} | {"target": "returned", "positive": None}
        params["collect"] |= {"source": "data/raw/orders.csv", "name": "orders"}
        house.write("params.yaml", yaml.safe_dump(params, sort_keys=False))
        house.sh(PACKAGE, "stage", "frame")
        print(f"{rows:,} rows, {raw.stat().st_size/2**20:.0f} MiB of CSV", flush=True)
        peer_s, peer = measure([sys.executable, "-c", PLAIN, raw, Path(d)/"plain.parquet"])
        ours_s, ours = measure([PACKAGE, "stage", "collect"], cwd=house.root, env=house.env)
        print(f"{'peak memory of the stage `collect`':<40} {ours:7.0f} MiB   limit {LIMIT:7} MiB   ratio {ours/LIMIT:5.2f}")
        print(f"{'':<40} {ours:7.0f} MiB   pandas {peer:6.0f} MiB   ratio {ours/peer:5.2f}")
        print(f"{'time':<40} {ours_s:7.1f} s     pandas {peer_s:6.1f} s     ratio {ours_s/peer_s:5.2f}")
        table = house.root/"data/collect/table.parquet"
        print(f"{'typed table':<40} {table.stat().st_size/2**20:7.0f} MiB, {len(pd.read_parquet(table, columns=['returned'])):,} rows")
        sys.exit(ours > LIMIT)


if __name__ == "__main__": main()
