"""How long it takes to watch a million rows of fifty columns, and how many false alarms there are: ours beside Evidently's data-drift preset and NannyML's univariate drift.

    python benchmarks/monitor.py [--rivals DIR] [--rows 100000,300000,1000000] [--systems ours,evidently,nannyml] [--windows 100,1000,10000]

25 numbers (bell curves, skewed, heavy tails, counts, mostly zero) and 25 categories, integers and yes-or-no columns, some with gaps; no drift. The profile is of 100,000
rows. Ours is everything that `monitor` does for one window: data quality, drift of each column, of the score and of what goes together, estimated and realised performance,
whether the label still follows the score, which columns explain the loss, and the stream of errors; each part's CPU seconds are told. The others look for drift of each column,
with their defaults, on the same tables (Parquet, read before the clock starts), and have to read the reference rows each time: `ours` does not, so the
making of its profile is told beside. DIR holds an environment for each rival (made on first use); their code is in benchmarks/rivals/drift.py. Memory is the
largest that the process ever had, the table included. The limits are the issue's: 10 seconds, 2 GiB, five times as fast, linear in rows.

False alarms: windows of rows from the same world as the reference; which share of the columns, by kind, and of the windows was flagged. Ours is meant to have 5 % of the windows.
"""
import argparse, json, os, re, resource, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RIVALS = {"evidently": ["evidently==0.7.23", "pandas<3.1", "pyarrow"], "nannyml": ["nannyml==0.13.1", "statsmodels", "pyarrow"]}
LIMITS = {"seconds": 10, "mib": 2048, "ratio": 5, "linear": 1.3}
LEARNED = 100_000


# ---- rows ----

def numbers(rng, n):
    bell = rng.normal(size=n)
    for i in range(5): yield f"bell{i}", 0.5*bell + rng.normal(size=n)
    for i in range(5): yield f"skewed{i}", rng.lognormal(0, 1, n)
    for i in range(5): yield f"heavy{i}", rng.standard_t(3, n)*10**i
    for i in range(5): yield f"counts{i}", rng.poisson(1 + i, n).astype(float)
    for i in range(5): yield f"zeros{i}", rng.gamma(2, 50, n)*(rng.random(n) < 0.3)


def levels(rng, n, k):
    import numpy as np
    shares = 1/np.arange(1, k + 1)**1.1
    return np.array([f"level {i:02}" for i in range(k)], dtype=object)[rng.choice(k, n, p=shares/shares.sum())]


def make_rows(n, seed):
    "A judged table of one window"
    import numpy as np, pandas as pd
    rng = np.random.default_rng(seed)
    columns = dict(numbers(rng, n))
    for i in range(5): columns[f"bell{i}"][rng.random(n) < 0.02*i] = np.nan
    columns |= {f"few{i}": levels(rng, n, 3 + i) for i in range(5)} | {f"many{i}": levels(rng, n, 44) for i in range(10)}
    columns |= {f"whole{i}": rng.integers(0, 5*10**i, n) for i in range(5)} | {f"yes{i}": rng.random(n) < 0.1*(i + 1) for i in range(5)}
    score = 1/(1 + np.exp(2 - columns["bell0"] - 0.3*columns["counts0"]))
    score[np.isnan(score)] = 0.1
    key = pd.Series(np.arange(n)).astype("str")
    ours = {"_id": key, "_row": key, "_group": key, "_digest": "0", "_period": "2025-01", "_label_period": "2025-01", "_score": score, "_label": np.where(score > 0.5, "yes", "no"),
        "_target": np.where(rng.random(n) < score, "yes", "no"), "_at": pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(n)*2_000_000//n, "s")}
    table = pd.DataFrame(columns | ours)
    texts = {c: "str" for c in table if table[c].dtype == object or c in ("_label", "_target", "_digest", "_period", "_label_period")}
    return table.astype(texts).assign(_known=table["_at"] + pd.Timedelta("1h"))


def columns_of(table): return [c for c in table if not c.startswith("_")]


def make_contract(table):
    from mlcycle.contract import Column, Contract
    kinds = {"f": "number", "i": "integer", "b": "boolean"}
    features = [Column(name=c, type=kinds.get(table[c].dtype.kind, "category"), nullable=True) for c in columns_of(table)]
    return Contract(name="wide", task="binary", positive="yes", classes=["no", "yes"], columns=[*features, Column(name="left", type="category", role="target")])


def make_bundle(table):
    "The contract and the profile that `package` would make"
    import numpy as np
    from mlcycle.concept import learn_relation
    from mlcycle.contract import inputs
    from mlcycle.estimate import learn_estimate
    from mlcycle.package import make_profile
    contract = make_contract(table)
    columns, y, score = inputs(table, contract), (table["_target"] == "yes").to_numpy().astype(int), table["_score"].to_numpy()
    held = {c: v[:10_000] for c, v in columns.items()}
    told = held, y[:10_000], np.column_stack([1 - score, score])[:10_000], contract
    importance = {c: 1/(i + 1) for i, c in enumerate(columns)}
    profile = make_profile(columns, y, score[:10_000], contract, {"roc_auc": {"value": 0.7, "low": 0.69, "high": 0.71}}, 10, held, told[2], importance, estimate=learn_estimate(*told))
    return contract, profile | {"relation": learn_relation(*told, profile)}


# ---- each in a process of its own ----

def settings():
    import yaml
    from mlcycle.monitor import Params
    return Params(**yaml.safe_load((ROOT/"params.yaml").read_text())["monitor"])


def timed(module, names):
    "Let a module's functions note how long they take, and what they compute: [seconds, CPU seconds]"
    took = {name: [0., 0.] for name in names}
    def watch(name, f):
        def g(*args, **more):
            start = time.perf_counter(), time.process_time()
            try: return f(*args, **more)
            finally: took[name] = [t + c() - s for t, c, s in zip(took[name], (time.perf_counter, time.process_time), start)]
        return g
    for name in names: setattr(module, name, watch(name, getattr(module, name)))
    return took


PARTS = ["check_rows", "count_window", "look_drift", "look_quality", "estimate", "realise", "look_relation", "explain_loss", "watch_errors"]


def time_ours(folder, now):
    "Seconds of all parts, and the memory"
    import pandas as pd
    from mlcycle import monitor as module
    from mlcycle.contract import read_contract
    contract, profile = read_contract(json.loads((folder/"contract.json").read_text()), "contract.json"), json.loads((folder/"profile.json").read_text())
    p, rows = settings().model_copy(update={"threads": len(os.sched_getaffinity(0))}), pd.read_parquet(now)
    took = timed(module, PARTS)
    start, cpu = time.perf_counter(), time.process_time()
    module.monitor(rows, module.Promise(contract, profile), p)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024, "parts": took | {"rest": [t - sum(p[i] for p in took.values()) for i, t in enumerate((seconds, cpu))]}}


def alarms_of_ours(reference, now):
    "Which columns are flagged in windows without drift"
    import pandas as pd
    from mlcycle.contract import inputs
    from mlcycle.drift import compare, count_columns, flag, profile_column, reference_counts
    reference, now = pd.read_parquet(reference), pd.read_parquet(now)
    contract, p = make_contract(reference), settings().drift
    profile = {c.name: profile_column(v, c.type, 10) for c, v in zip(contract.features, inputs(reference, contract).values())}
    then, found = {n: reference_counts(c) for n, c in profile.items()}, []
    for _, window in now.groupby("_window"):
        table = flag(compare(count_columns(inputs(window, contract), profile), then, profile), p.false_alarms, p.floor)
        found.append(table.loc[table["drifted"], "column"].tolist())
    kind = lambda names: pd.Series([re.sub(r"\d+$", "", c) for c in names], dtype=object).value_counts()
    of = kind(profile)
    return {"windows": sum(bool(f) for f in found)/len(found), "columns": (kind([c for f in found for c in f]).reindex(of.index, fill_value=0)/of/len(found)).to_dict()}


def ask(system, what, folder, reference, now, rivals):
    "Run a system in a process of its own"
    own = [sys.executable, __file__, "--work", what, str(folder), str(reference), str(now)]
    command = own if system == "ours" else [str(rivals/system/"bin"/"python"), str(ROOT/"benchmarks"/"rivals"/"drift.py"), system, what, str(reference), str(now)]
    told = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"})
    if told.returncode: return {"failed": told.stderr.strip().splitlines()[-1][:300]}
    return json.loads(told.stdout.strip().splitlines()[-1])


# ---- the benchmark ----

def drift_of(ours): return [sum(t) for t in zip(ours["parts"]["count_window"], ours["parts"]["look_drift"])] # seconds, CPU seconds of what the others do as well


def speed(sizes, systems, folder, rivals):
    "Time each system on each size"
    reference = make_rows(LEARNED, 0)
    start = time.perf_counter()
    contract, profile = make_bundle(reference)
    print(f"The profile of {LEARNED:,} rows is made in {time.perf_counter() - start:.1f} s and has {len(json.dumps(profile))/1024:.0f} KiB.")
    from mlcycle.core import write_file
    write_file(contract, folder/"contract.json"); write_file(profile, folder/"profile.json")
    reference[columns_of(reference)].to_parquet(folder/"reference.parquet")
    found = {}
    for n in sizes:
        rows = make_rows(n, 1)
        rows.to_parquet(folder/"ours.parquet"); rows[columns_of(rows)].to_parquet(folder/"now.parquet")
        del rows
        for system in systems:
            took = found[system, n] = ask(system, "time", folder, folder/"reference.parquet", folder/("ours.parquet" if system == "ours" else "now.parquet"), rivals)
            if "failed" in took: print(f"{system:<10} {n:>9,} rows: {took['failed']}", flush=True); continue
            ours = found.get(("ours", n), {"failed": ""})
            ratio = "CPU seconds: " + ", ".join(f"{k} {v[1]:.2f}" for k, v in took["parts"].items()) if system == "ours" else "" if "failed" in ours else \
                f"{took['seconds']/drift_of(ours)[0]:.1f} × ours (CPU {took['cpu']/drift_of(ours)[1]:.1f} ×); {took['seconds']/ours['seconds']:.1f} × all that ours does (CPU {took['cpu']/ours['cpu']:.1f} ×)"
            print(f"{system:<10} {n:>9,} rows: {took['seconds']:7.2f} s (CPU {took['cpu']:7.2f} s), {took['mib']:6.0f} MiB   {ratio}", flush=True)
    return found


def verdicts(found, sizes):
    "The issue's limits, one by one"
    most = max(sizes)
    ours = found.get(("ours", most))
    if not ours or "failed" in ours: return
    yield f"{most:,} rows in {ours['seconds']:.1f} s (limit {LIMITS['seconds']} s)", ours["seconds"] <= LIMITS["seconds"]
    yield f"{most:,} rows in {ours['mib']:.0f} MiB (limit {LIMITS['mib']} MiB)", ours["mib"] <= LIMITS["mib"]
    least = min(sizes)
    if least < most:
        grows = ours["seconds"]/found["ours", least]["seconds"]/(most/least)
        yield f"{most/least:.0f} × the rows take {grows*most/least:.1f} × the time (limit {LIMITS['linear']*most/least:.0f})", grows <= LIMITS["linear"]
    for (system, n), took in found.items():
        if system != "ours" and n == most and "failed" not in took:
            ratio = took["seconds"]/drift_of(ours)[0]
            yield f"drift is told {ratio:.1f} × as fast as by {system} (at least {LIMITS['ratio']} ×)", ratio >= LIMITS["ratio"]


def false_alarms(windows, times, systems, folder, rivals):
    "Which share of columns and windows without drift each system flags"
    import numpy as np
    make_rows(10_000, 2).filter(regex="^[a-z]").to_parquet(folder/"calm.parquet")
    for n in windows:
        repeats = max(2, min(times, 400_000//n))
        rows = make_rows(n*repeats, 3).filter(regex="^[a-z]")
        rows.assign(_window=np.arange(len(rows))//n).to_parquet(folder/"windows.parquet")
        for system in systems:
            told = ask(system, "alarms", folder, folder/"calm.parquet", folder/"windows.parquet", rivals)
            said = told.get("failed") or f"{told['windows']:6.1%} of the windows; of the columns: " + ", ".join(f"{k} {v:.1%}" for k, v in told["columns"].items())
            print(f"{system:<10} {repeats} windows of {n:,} rows without drift, 10,000 in the reference: {said}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rivals", type=Path, default=Path(tempfile.gettempdir())/"mlcycle-rivals")
    p.add_argument("--rows", default="100000,300000,1000000")
    p.add_argument("--systems", default="ours,evidently,nannyml")
    p.add_argument("--windows", default="100,1000,10000")
    p.add_argument("--times", type=int, default=100, help="windows of each size, for the false alarms; 0: none")
    p.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.work:
        what, folder, reference, now = args.work
        return print(json.dumps(time_ours(Path(folder), now) if what == "time" else alarms_of_ours(reference, now)))
    systems, rivals = args.systems.split(","), args.rivals.resolve()
    for tool in [s for s in systems if s in RIVALS and not (rivals/s).exists()]:
        subprocess.run([sys.executable, "-m", "venv", str(rivals/tool)], check=True)
        subprocess.run([str(rivals/tool/"bin"/"pip"), "install", "-q", *RIVALS[tool]], check=True)
    with tempfile.TemporaryDirectory() as d:
        sizes = [int(n) for n in args.rows.split(",") if n]
        found = speed(sizes, systems, Path(d), rivals) if sizes else {}
        if args.times: false_alarms([int(n) for n in args.windows.split(",")], args.times, systems, Path(d), rivals)
    print()
    for said, ok in verdicts(found, sizes): print(f"{'holds ' if ok else 'MISSED'}  {said}")


if __name__ == "__main__": main()
