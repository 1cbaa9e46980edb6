"""How near an estimate without labels comes to what is measured once they are there, window by window, beside the naive guess and NannyML.

    python benchmarks/estimate.py [--data churn,noaa,bike,telco] [--houses DIR] [--rivals DIR]

On each data set the project itself is run, up to the predictions of the rows kept back as production; then every window is estimated as it would
have been on its last day, with the labels that had come by then. Off by: the mean distance to the metric realised in the end, over windows. Beside it

    naive     the metric of the sealed test rows stays
    last      the metric of the newest earlier window whose labels had come stays (until there is one: naive)
    bundle    our estimate from what the bundle carries alone: no label that came since is looked at
    nannyml   CBPE, or direct loss estimation for amounts, fitted on the validation rows; an environment with NannyML 0.13.1 in --rivals

Labels come as they came (built-in example: two months later), else in the window after. Telco has no time: its windows are drawn by lot, so that nothing
moves in them. DATASETS names the folder of the shared data sets (default: ../shared/datasets). With --houses the projects stay there, and a second run only measures.
"""
import argparse, json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent/"shared"/"datasets"))

NOT_SAID = dict(frame__minimum=None, frame__aim=None, frame__guardrails={}, frame__costs=None, frame__contact=None, frame__capacity=None, frame__today=None,
                frame__metric=None, frame__positive=None, frame__sensitive=[])
DATA = { # name: parameters
    "churn": {},
    "noaa": NOT_SAID | dict(collect__name="noaa", frame__target="rain", collect__source=f"{DATASETS}/noaa_weather/noaa_weather.csv", collect__roles={"seq": "time"}),
    "bike": NOT_SAID | dict(collect__name="bike", frame__target="cnt", collect__source=f"{DATASETS}/bike_sharing/hour.csv", collect__roles={"instant": "id"}),
    "telco": NOT_SAID | dict(collect__name="telco", frame__target="Churn", collect__source=f"{DATASETS}/telco_churn/Telco-Customer-Churn.csv"),
}


def run(name, folder):
    "Run the project on a data set, up to its predictions"
    from conftest import House, clone
    house = House(folder, folder.parent/"home")
    if not (folder/"data/predict/predictions.parquet").exists():
        (folder.parent/"home").mkdir(parents=True, exist_ok=True)
        house = clone(folder, folder.parent/"home", **DATA[name])
        house.sh("dvc", "repro", "predict", timeout=3600)
    return folder/"data"


def read(data):
    "What a finished run left: the judged rows, oldest window first, and what the bundle says"
    import pandas as pd
    from mlcycle.bundle import load_bundle
    from mlcycle.window import replay_rows
    bundle = load_bundle(data/"package/bundle")
    rows = replay_rows(pd.read_parquet(data/"predict/predictions.parquet"), pd.read_parquet(data/"prepare/production.parquet"), bundle.contract)
    names = sorted(rows["_period"].unique())
    later = dict(zip(names, [*names[1:], None]))
    if not bundle.contract.by_role("arrival"): rows["_label_period"] = rows["_period"].map(later) # known in the window after
    return bundle, rows


def measure(bundle, rows, goal, settings):
    "Estimate every window as on its last day; {window: {way: value}}, with the realised metric"
    from mlcycle.estimate import estimate
    from mlcycle.realised import realise
    from mlcycle.window import seen_from
    profile, contract, out, last = bundle.read("profile.json"), bundle.contract, {}, {}
    name, reference = next(iter(profile["metrics"].items()))
    how = (contract, profile, bundle.meta.threshold, goal, settings)
    for period, window in rows.groupby("_period"):
        last[period] = realise(window, *how)["metric"]
        if last[period]["value"] is None: continue
        seen = seen_from(rows, period)
        before = seen[seen["_period"] != period]
        known = [p for p, w in before.groupby("_period") if w["_target"].notna().mean() > 0.9 and last[p]["value"] is not None]
        ours, alone = estimate(window.assign(_target=None), *how, recent=before), estimate(window.assign(_target=None), *how)
        out[period] = {"rows": len(window), "realised": last[period]["value"], "ours": ours["metric"]["value"], "low": ours["metric"]["low"], "high": ours["metric"]["high"], "bundle": alone["metric"]["value"],
            "naive": reference["value"], "last": last[known[-1]]["value"] if known else reference["value"], "worth": ours["worth"], "trusted": ours["trusted"]}
    return name, out


# ---- NannyML, in an environment of its own ----

NANNY = '''
import json, sys, warnings
warnings.filterwarnings("ignore")
import pandas as pd, nannyml as nml
about = json.load(open(sys.argv[1] + "/about.json"))
reference, now, out = pd.read_parquet(sys.argv[1] + "/reference.parquet"), pd.read_parquet(sys.argv[1] + "/now.parquet"), {}
for period, window in now.groupby("_period"):
    how = dict(y_true="y", metrics=[about["metric"]], chunk_size=len(window)) # the window is one chunk
    if about["task"] == "regression": calc = nml.DLE(feature_column_names=about["features"], y_pred="said", **how)
    else: calc = nml.CBPE(problem_type="classification_binary", y_pred_proba="said", y_pred="called", **how)
    calc.fit(reference)
    found = calc.estimate(window.drop(columns="_period")).filter(period="analysis").to_df()
    out[period] = float(found[about["metric"]]["value"].iloc[0])
json.dump(out, open(sys.argv[1] + "/out.json", "w"))
'''

def nannyml(python, data, bundle, rows):
    "NannyML's estimates of the same windows, fitted on the validation rows; None where it has no such task"
    import pandas as pd
    from mlcycle.contract import inputs, labels
    contract, name = bundle.contract, next(iter(bundle.read("profile.json")["metrics"]))
    if contract.task == "multiclass": return None
    known = pd.read_parquet(data/"prepare/validation.parquet")
    X, answers = inputs(known, contract), bundle.predict(inputs(known, contract))
    value = lambda a: a["value"] if contract.task == "regression" else a["scores"][:, 1]
    cut = bundle.meta.threshold or 0.5
    now = inputs(rows, contract)
    said = rows["_value" if contract.task == "regression" else "_score"].to_numpy(float)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        pd.DataFrame(X).assign(said=value(answers), called=(value(answers) >= cut).astype(int), y=labels(known, contract)).to_parquet(d/"reference.parquet")
        pd.DataFrame(now).assign(said=said, called=(said >= cut).astype(int), _period=rows["_period"].astype(object)).to_parquet(d/"now.parquet")
        (d/"about.json").write_text(json.dumps({"task": contract.task, "metric": name, "features": list(X)}))
        (d/"run.py").write_text(NANNY)
        done = subprocess.run([str(python), str(d/"run.py"), str(d)], capture_output=True, text=True)
        if done.returncode: print(done.stderr[-2000:], file=sys.stderr); return None
        return json.loads((d/"out.json").read_text())


# ---- the table ----

WAYS = ["ours", "bundle", "naive", "last", "nannyml"]

def main():
    import yaml
    from mlcycle.estimate import PerformanceSettings
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", default=",".join(DATA)); ask.add_argument("--houses"); ask.add_argument("--rivals")
    ask = ask.parse_args()
    settings = PerformanceSettings(**yaml.safe_load((ROOT/"params.yaml").read_text())["monitor"]["performance"])
    total, held, of = {}, 0, 0
    with tempfile.TemporaryDirectory() as spare:
        for data in ask.data.split(","):
            folder = run(data, Path(ask.houses or spare)/data)
            bundle, rows = read(folder)
            name, windows = measure(bundle, rows, json.loads((folder/"frame/goal.json").read_text()), settings)
            rival = nannyml(Path(ask.rivals)/"nannyml/bin/python", folder, bundle, rows) if ask.rivals else None
            print(f"\n{data}: {name}\n{'window':>10} {'rows':>6} {'realised':>9} {'ours':>9} {'[low':>9} {'high]':>9} " + " ".join(f"{w:>9}" for w in WAYS[1:]) + "  trusted")
            for period, w in windows.items():
                w["nannyml"] = (rival or {}).get(period, float("nan"))
                held, of = held + (w["low"] <= w["realised"] <= w["high"]), of + 1
                print(f"{period:>10} {w['rows']:>6} " + " ".join(f"{w[k]:>9.4f}" for k in ["realised", "ours", "low", "high", *WAYS[1:]]) + f"  {'yes' if w['trusted'] else 'no'}")
            off = {way: sum(abs(w[way] - w["realised"]) for w in windows.values())/len(windows) for way in WAYS}
            print(f"{'off by':>10} {'':>6} {'':>9} {off['ours']:>9.4f} {'':>9} {'':>9} " + " ".join(f"{off[w]:>9.4f}" for w in WAYS[1:]))
            for way in WAYS: total.setdefault(way, []).append(off[way]/off["naive"])
    print(f"\noff by, the naive guess being 1 (mean over data sets): " + ", ".join(f"{way} {sum(v)/len(v):.2f}" for way, v in total.items()))
    print(f"our {100*settings.level:g} % intervals held {held} of {of} windows")


if __name__ == "__main__": main()
