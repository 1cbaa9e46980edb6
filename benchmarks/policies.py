"""What learning again is worth: policies compared on real data, replayed in time order.

    python benchmarks/policies.py [--data weather,bike]

Each set goes through the project's own chain, in a temporary copy of it: half of the rows or more are kept back as production and pass window by
window; at each point in time models are learned again on what was known then (`nbs/30_replay.ipynb`). Printed for each policy: what it earns, how much more
than *never* with the interval that holds for all policies together, how many retrainings, and rows fitted; then the policy that is recommended, and the claim.

- weather: will it rain, 50 years of days (NOAA), in order; a missed rain costs 3, a false warning 1.
- bike: bikes hired in an hour (UCI), 2011 and 2012, demand grows by more than half; a bike too many costs 1, one too few 2.

DATASETS names the folder of the shared data sets (default: ../shared/datasets).
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DATASETS", ROOT.parent/"shared"/"datasets"))
PLAIN = {"minimum": None, "aim": None, "guardrails": {}, "contact": None, "capacity": None, "today": None, "metric": None, "positive": None,
    "sensitive": []} # of the charter: not the example's
DATA = { # name: {section: {key: value}}
    "weather": {"frame": {"target": "rain", "costs": {"true_positive": 0.0, "false_positive": 1.0, "true_negative": 0.0, "false_negative": 3.0}},
        "collect": {"source": f"{SHARED}/noaa_weather/noaa_weather.csv", "roles": {"seq": "time"}},
        "prepare": {"production": 0.6, "periods": 36}},
    "bike": {"frame": {"target": "cnt", "costs": {"over": 1.0, "under": 2.0}},
        "collect": {"source": f"{SHARED}/bike_sharing/hour.csv", "roles": {"dteday": "time", "casual": "leaking", "registered": "leaking"}},
        "prepare": {"production": 0.6, "periods": "month"}},
}


def copy_project(folder, changes):
    "Copy the project, with other parameters, under git"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for f in (f for f in listed.stdout.split("\0") if f and (ROOT/f).exists()):
        (folder/f).parent.mkdir(parents=True, exist_ok=True)
        (folder/f).write_bytes((ROOT/f).read_bytes())
    params = yaml.safe_load((folder/"params.yaml").read_text())
    for section, values in changes.items(): params[section] |= values
    (folder/"params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "benchmark"]): subprocess.run(["git", *command], cwd=folder, check=True)


def run_chain(folder):
    "Run what the decision needs"
    start = time.perf_counter()
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["dvc", "repro", "retrain"], cwd=folder, capture_output=True, text=True, env=env)
    if done.returncode: sys.exit(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - start


def show(name, decision, run, seconds):
    "Print what came of one set"
    about, say = decision["evidence"], lambda v: f"{v['value']:8.4g} ({v['low']:.4g} to {v['high']:.4g})"
    print(f"\n{name}: {about['rows']:,} production rows in {len(about['judged'])} windows ({about['judged'][0]} to {about['judged'][-1]}), "
        f"{len(about['points'])} points at which models were learned; the replay took {run['seconds']:.0f} s of the chain's {seconds:.0f} s")
    print(f"  {'policy':18} {'worth a case':28} {'more than never':32} {'retrainings':>11} {'rows fitted':>11}")
    for e in decision["policies"]: print(f"  {e['name']:18} {say(e['worth']):28} {say(e['over_never']):32} {e['retrainings']:11} {e['fits']:11,}")
    print(f"  {about['window']}")
    print(f"  in force: {decision['policy']['name']}. {decision['policy']['why']}")
    sure = [e for e in decision["policies"] if e["over_never"]["low"] > 0]
    won = next((e for e in sure if e["name"] == decision["policy"]["name"]), None)
    if won is None: print(f"  claim: no policy surely earns more than never on {name}.")
    else: print(f"  claim: on {name}, the policy {won['name']} earns {won['over_never']['value']:.4g} a case more than never "
        f"({won['over_never']['low']:.4g} to {won['over_never']['high']:.4g}, 95 %, for all policies at once), {won['in_all']['value']:,.0f} in all, with {won['retrainings']} retrainings.")
    print(f"  verdict now: {decision['verdict']}. {decision['reasons'][0]}")


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--data", default=",".join(DATA), help=f"of: {', '.join(DATA)}")
    for name in ask.parse_args().data.split(","):
        with tempfile.TemporaryDirectory() as d:
            changes = {s: dict(v) for s, v in DATA[name].items()}
            changes["frame"], changes["collect"] = PLAIN | changes["frame"], changes["collect"] | {"name": name}
            copy_project(Path(d), changes)
            seconds = run_chain(Path(d))
            show(name, json.loads((Path(d)/"data/retrain/decision.json").read_text()), json.loads((Path(d)/"data/runs/retrain.json").read_text()), seconds)


if __name__ == "__main__": main()
