"""What the house costs: a whole run, a run with nothing to do, and the overhead of DVC, papermill and notebooks a stage.

    python benchmarks/overhead.py [--rows 40000] [--repeats 3]

Everything is measured in one go on a copy of the project; each figure is the median, and stands beside its limit or its peer.
"""
import argparse, ast, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"))
from conftest import PACKAGE, clone

PLAIN = '''
import json, sys, time
sys.path.insert(0, ".")
from {package}.export import read_notebooks
from pathlib import Path
import matplotlib; matplotlib.use("agg")
t = time.perf_counter()
from {package}.warm import BASE, libraries, preload
nbs = [nb for nb in read_notebooks(Path("nbs")) if nb.is_stage]
names = sorted(set(BASE).union(*(libraries(Path("{package}"), nb.module) for nb in nbs)) - {{"papermill", "papermill.engines", "nbclient"}})
preload(names)
imports, took = time.perf_counter() - t, {{}}
def display(*a, **k): pass
import contextlib, io
for nb in nbs:
    t, space = time.perf_counter(), {{"__name__": "stage", "display": display}}
    with contextlib.redirect_stdout(io.StringIO()):
        for c in nb.of("export", "parameters", "stage"): exec(compile(c.source, nb.path.name, "exec"), space)
    took[nb.module] = time.perf_counter() - t
    import matplotlib.pyplot as plt; plt.close("all")
print(json.dumps([imports, took]))
'''


def seconds(house, *words, repeats=1, **env):
    "Median wall time of a command"
    times, keep = [], dict(house.env)
    for _ in range(repeats):
        house.env.update(env); t = time.perf_counter(); house.sh(*words, timeout=1800, code=None if "status" in words else 0); times.append(time.perf_counter() - t); house.env.clear(); house.env.update(keep)
    return statistics.median(times)


def line(what, value, limit, against):
    print(f"{what:<58} {value:8.2f} s   {against:<34} {limit:8.2f} s   ratio {value/limit:5.2f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=None, help="rows of the example (default: all)")
    p.add_argument("--repeats", type=int, default=3, help="repeats of the short measurements")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        home = Path(d)/"home"; home.mkdir()
        house = clone(Path(d)/"house", home, **({"collect__rows": args.rows} if args.rows else {}))
        first = seconds(house, PACKAGE, "run")
        line(f"first `{PACKAGE} run`, empty home, after installation", first, 60, "limit")
        status = seconds(house, "dvc", "status", repeats=args.repeats)
        noop = seconds(house, "dvc", "repro", repeats=args.repeats)
        line("`dvc repro` with nothing to do", noop, status, "`dvc status`")
        help_ = seconds(house, PACKAGE, "--help", repeats=args.repeats)
        line(f"`{PACKAGE} --help`", help_, .3, "limit")
        warm = seconds(house, "dvc", "repro", "--force")
        plain = subprocess.run([sys.executable, "-c", PLAIN.format(package=PACKAGE)], cwd=house.root, env=house.env, capture_output=True, text=True)
        assert plain.returncode == 0, plain.stderr[-3000:]
        imports, took = json.loads(plain.stdout.splitlines()[-1])
        functions, n = sum(took.values()), len(took)
        line("`dvc repro --force`, warm engine", warm, functions, "the same cells in one process")
        line("  of which overhead a stage", (warm - functions - imports - noop)/n, .8, "limit")
        print(f"  ({n} stages; imports once {imports:.2f} s, `dvc repro` with nothing to do {noop:.2f} s, both taken off before dividing)", flush=True)
        standard = seconds(house, "dvc", "repro", "--force", STAGE_ENGINE="nbclient")
        line("`dvc repro --force`, papermill's standard engine", standard, warm, "warm engine")
        line("  of which overhead a stage", (standard - functions - imports - noop)/n, (warm - functions - imports - noop)/n, "warm engine")


if __name__ == "__main__": main()
