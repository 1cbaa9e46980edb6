"""What a contract costs: a table of a million rows, and one row, held against it; beside pandera on the same promises.

    python benchmarks/contract.py [--rows 1000000] [--repeats 3]

Everything is measured in one go: each figure is the median, and stands beside its peer. Both check types, missing values, ranges and
categories of the same table of 12 columns, and both must find the same broken values.
"""
import argparse, statistics, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = next(line.split("=")[1].strip() for line in (ROOT/"settings.ini").read_text().splitlines() if line.startswith("lib_name"))
sys.path.insert(0, str(ROOT))

import numpy as np
import pandas as pd
import pandera.pandas as pa
from importlib import import_module

contract, proposing = import_module(f"{PACKAGE}.contract"), import_module(f"{PACKAGE}.propose")


def make_table(rows, seed=0):
    "12 columns of all kinds, some with gaps"
    rng = np.random.default_rng(seed)
    some = lambda values, share: pd.Series(values).where(rng.random(rows) > share)
    return pd.DataFrame({
        "id": pd.Series([f"R{i:08d}" for i in range(rows)], dtype="str"), "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D"),
        "amount": rng.gamma(2, 50, rows), "share": rng.random(rows), "balance": some(rng.normal(0, 100, rows), .1), "age": rng.integers(18, 99, rows), "visits": some(rng.poisson(3, rows), .05).astype("Int64"),
        "plan": pd.Series(rng.choice(["basic", "plus", "pro", "max"], rows), dtype="str"), "region": some(pd.Series(rng.choice([f"r{i:02d}" for i in range(40)], rows), dtype="str"), .02),
        "card": pd.Series(rng.choice(["visa", "master", "debit"], rows), dtype="str"), "active": rng.random(rows) < .7, "left": pd.Series(rng.choice(["no", "yes"], rows, p=[.9, .1]), dtype="str")})


def break_it(table):
    "Three broken promises, in known rows"
    table = table.copy()
    table.loc[7, "amount"], table.loc[[11, 13], "plan"], table.loc[17, "age"] = -1., "gold", -4
    return table


KINDS = {"number": "float64", "integer": "int64", "boolean": "bool", "category": "str", "text": "str", "datetime": "datetime64[us]"}

def same_promises(c):
    "The contract as a pandera schema"
    def column(k):
        checks = [pa.Check.ge(k.minimum)] if k.minimum is not None else []
        checks += [pa.Check.le(k.maximum)] if k.maximum is not None else []
        checks += [pa.Check.isin(k.categories)] if k.categories is not None else []
        return pa.Column("Int64" if k.type == "integer" and k.nullable else KINDS[k.type], checks, nullable=k.nullable, unique=k.unique)
    return pa.DataFrameSchema({k.name: column(k) for k in c.columns})


def theirs(schema, table):
    "What pandera finds: (column, row)"
    try: schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as e: return {(str(f.column), int(f["index"])) for _, f in e.failure_cases.iterrows()}
    return set()


def ours(c, table):
    "What our check finds: (column, row)"
    return {(f.column, r) for _, f in contract.check_table(table, c).iterrows() for r in f.rows}


def median(f, repeats):
    times = []
    for _ in range(repeats):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return statistics.median(times)


def line(what, value, peer, unit, scale):
    print(f"{what:<52} {value*scale:9.2f} {unit}   pandera {peer*scale:9.2f} {unit}   ratio {value/peer:7.4f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    p.add_argument("--repeats", type=int, default=3, help="repeats of the long measurements")
    args = p.parse_args()
    table = make_table(args.rows)
    begin = time.perf_counter()
    c = proposing.propose(table, "bench", "left")
    proposed = time.perf_counter() - begin
    schema, broken = same_promises(c), break_it(table)
    assert not ours(c, table) and not theirs(schema, table), "the table keeps its contract"
    assert ours(c, broken) == theirs(schema, broken) == {("amount", 7), ("plan", 11), ("plan", 13), ("age", 17)}, "both find what is broken"
    size = f"{args.rows:,} rows x {len(c.columns)} columns"
    line(f"{size}, nothing broken", median(lambda: ours(c, table), args.repeats), median(lambda: theirs(schema, table), args.repeats), "s ", 1)
    line(f"{size}, four values broken", median(lambda: ours(c, broken), args.repeats), median(lambda: theirs(schema, broken), args.repeats), "s ", 1)
    features = [k.name for k in c.columns if k.role == "feature"]
    row, one = {n: v.item() if hasattr(v, "item") else v for n, v in table.loc[0, features].items()}, table.loc[[0], features]
    assert contract.check_row(row, c) == ([], [])
    few = pa.DataFrameSchema({n: schema.columns[n] for n in features})
    line("one row, as a server meets it", median(lambda: contract.check_row(row, c), 200), median(lambda: few.validate(one, lazy=True), 20), "ms", 1e3)
    print(f"{f'proposing the contract, {size}':<52} {proposed:9.2f} s", flush=True)
    start = lambda module: median(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True), args.repeats)
    line("starting Python with it imported", start(f"{PACKAGE}.contract"), start("pandera.pandas"), "s ", 1)


if __name__ == "__main__": main()
