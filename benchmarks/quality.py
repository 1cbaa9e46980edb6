"""How good the found models are: ours against FLAML, AutoGluon, and LightGBM and HistGradientBoosting as they come.

    python benchmarks/quality.py [--data telco,credit] [--seconds 60] [--seeds 3] [--systems ours,flaml]

Every system gets the same table, the same hold-out of a fifth of the rows and the same seconds on the same cores, one after another.
Errors are 1 - ROC AUC, log loss or RMSE on the hold-out: less is better. FLAML and AutoGluon run in environments of their own, made
on first use in --rivals (AutoGluon wants pandas < 2.4). Ours is `features`, `train` and the ONNX graph, as the stages call them.

DATASETS names the folder of the shared data sets (default: ../shared/datasets); scikit-learn's own need none.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RIVALS = {"flaml": ["flaml[automl]", "pandas", "pyarrow", "scikit-learn"], "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost]", "pandas<2.4", "pyarrow"]}
SYSTEMS = ["ours", "flaml", "autogluon", "lightgbm", "boosted"]


# ---- the data ----

def _csv(path, target, drop=()):
    import pandas as pd
    table = pd.read_csv(Path(os.environ.get("DATASETS", ROOT.parent/"shared"/"datasets"))/path, na_values=[" "])
    return table.drop(columns=list(drop)).dropna(subset=[target]).rename(columns={target: "target"})

def _sklearn(name):
    import sklearn.datasets
    return getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame

DATA = { # name: (task, how it is read)
    "telco": ("binary", lambda: _csv("telco_churn/Telco-Customer-Churn.csv", "Churn", ["customerID"])),
    "credit": ("binary", lambda: _csv("credit_data/credit_data.csv", "Status", ["rownames"])),
    "noaa": ("binary", lambda: _csv("noaa_weather/noaa_weather.csv", "rain", ["seq"])),
    "bike": ("regression", lambda: _csv("bike_sharing/hour.csv", "cnt", ["instant", "dteday", "casual", "registered"])),
    "digits": ("multiclass", lambda: _sklearn("digits")),
    "diabetes": ("regression", lambda: _sklearn("diabetes")),
    "breast_cancer": ("binary", lambda: _sklearn("breast_cancer")),
    "penguins": ("multiclass", lambda: _csv("penguins/penguins.csv", "species", ["rownames"])),
    "taxi": ("binary", lambda: _csv("chicago_taxi_tips/taxi.csv", "tip", ["rownames"])),
}
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}


def lay_out(name, seed, folder):
    "Write learn.parquet and judge.parquet (without the answers), truth.parquet and about.json"
    from sklearn.model_selection import train_test_split
    task, read = DATA[name]
    table = read()
    if task != "regression": table["target"] = table["target"].astype(str)
    learn, judge = train_test_split(table, test_size=0.2, random_state=seed, stratify=None if task == "regression" else table["target"])
    learn.reset_index(drop=True).to_parquet(folder/"learn.parquet")
    judge.drop(columns="target").reset_index(drop=True).to_parquet(folder/"judge.parquet")
    judge[["target"]].reset_index(drop=True).to_parquet(folder/"truth.parquet")
    classes = None if task == "regression" else sorted(table["target"].unique())
    (folder/"about.json").write_text(json.dumps({"name": name, "task": task, "classes": classes, "rows": len(learn)}))


# ---- the systems: each learns within the seconds, and gives how to ask it and how long it took ----

def ours(learn, judge, about, seconds, seed, cores):
    import yaml, numpy as np, pandas as pd
    sys.path.insert(0, str(ROOT))
    from mlcycle import board, features, search, train
    from mlcycle.bundle import ask, open_graph
    from mlcycle.contract import inputs, labels
    from mlcycle.folds import fold_data, make_folds
    from mlcycle.graph import graph_inputs, make_graph
    from mlcycle.metrics import main_metric
    from mlcycle.propose import propose
    from mlcycle.recipe import make_recipe, plan
    params = yaml.safe_load((ROOT/"params.yaml").read_text())
    p = train.Params(**params["train"] | {"seconds": 0.93*seconds - 1, "workers": cores, "trials": 10_000, "interval": None})
    start, task = time.perf_counter(), about["task"]
    deadline = train.deadline_of(p.seconds)
    contract = propose(learn, "table", "target", task=task)
    metric, k, goal = main_metric(task, METRIC[task]), len(contract.classes or []) or None, {"nodes": None, "size_mib": None, "qualify": {"metrics": {}, "slices": {}}}
    X, y = pd.DataFrame(inputs(learn, contract)), labels(learn, contract)
    recipe = make_recipe(plan(contract, X, choices=features.Params(**params["features"])))
    parts, _ = make_folds(y, task, p.folds, seed)
    data = search.with_ties(fold_data(recipe, X, y, parts))
    done = search.search(data, task, k, metric, p.candidates, p.trials, p.batch, seed, p.threads, p.workers, deadline=deadline, finals=train.finals(p.blend, None, task))
    ranked = board.rank_trials(train.with_blend(done, board.blend_trial(done, parts, y, task, metric, p.blend)), parts, y, task, metric, goal)
    graph = make_graph(train.fit_winner(recipe, X, y, task, ranked, seed, cores), contract)
    session, names = open_graph(graph.SerializeToString(), cores), graph_inputs(graph, contract)
    took = time.perf_counter() - start
    for t in ranked[:8]: print(t["rank"], t["candidate"], t["mean"], t["settings"], file=sys.stderr)
    print(len(done), "trials", file=sys.stderr)
    order = [0] if task == "regression" else [contract.classes.index(c) for c in about["classes"]]
    def answer(rows):
        p = ask(session, names, inputs(rows, contract))[:, order]
        return p[:, 0] if task == "regression" else p
    return answer, took


def flaml(learn, judge, about, seconds, seed, cores):
    import numpy as np
    from flaml import AutoML
    start, model = time.perf_counter(), AutoML()
    kind = {"task": "regression", "metric": "rmse"} if about["task"] == "regression" else {"task": "classification", "metric": "roc_auc" if about["task"] == "binary" else "log_loss"}
    y = learn.pop("target") if about["task"] == "regression" else learn.pop("target").map({c: i for i, c in enumerate(about["classes"])})
    model.fit(learn, y, time_budget=seconds, seed=seed, n_jobs=cores, verbose=0, **kind)
    took = time.perf_counter() - start
    return lambda rows: np.asarray(model.predict(rows) if about["task"] == "regression" else model.predict_proba(rows)), took


def autogluon(learn, judge, about, seconds, seed, cores):
    from autogluon.tabular import TabularPredictor
    start = time.perf_counter()
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "root_mean_squared_error"}[about["task"]]
    model = TabularPredictor("target", problem_type=about["task"], eval_metric=metric, verbosity=0, path=tempfile.mkdtemp()).fit(learn, time_limit=seconds, num_cpus=cores)
    took = time.perf_counter() - start
    return lambda rows: (model.predict(rows) if about["task"] == "regression" else model.predict_proba(rows)[about["classes"]]).to_numpy(), took


def _as_it_comes(model, learn, judge, about):
    "Fit a model with categories as they are, nothing tuned"
    import pandas as pd
    for c in learn.columns.drop("target"):
        if not pd.api.types.is_numeric_dtype(learn[c]):
            kinds = pd.CategoricalDtype(sorted(learn[c].dropna().unique()))
            learn[c], judge[c] = learn[c].astype(kinds), judge[c].astype(kinds)
    start = time.perf_counter()
    y = learn.pop("target") if about["task"] == "regression" else learn.pop("target").map({c: i for i, c in enumerate(about["classes"])})
    model.fit(learn, y)
    took = time.perf_counter() - start
    return model.predict if about["task"] == "regression" else model.predict_proba, took


def lightgbm(learn, judge, about, seconds, seed, cores):
    from lightgbm import LGBMClassifier, LGBMRegressor
    return _as_it_comes((LGBMRegressor if about["task"] == "regression" else LGBMClassifier)(random_state=seed, n_jobs=cores, verbose=-1), learn, judge, about)


def boosted(learn, judge, about, seconds, seed, cores):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    model = HistGradientBoostingRegressor if about["task"] == "regression" else HistGradientBoostingClassifier
    return _as_it_comes(model(random_state=seed, categorical_features="from_dtype"), learn, judge, about)


# ---- running them ----

def work(system, folder, seconds, seed, cores):
    "One system on one table, in this process"
    import numpy as np, pandas as pd
    folder, about = Path(folder), json.loads((Path(folder)/"about.json").read_text())
    learn, judge = pd.read_parquet(folder/"learn.parquet"), pd.read_parquet(folder/"judge.parquet")
    answer, took = globals()[system](learn, judge, about, seconds, seed, cores)
    answer(judge[:1])                                  # the first answer of a process loads and compiles
    start = time.perf_counter()
    p = answer(judge)
    answering, start = time.perf_counter() - start, time.perf_counter()
    for i in range(30): answer(judge[i:i + 1])
    np.save(folder/f"{system}.npy", np.asarray(p, dtype=float))
    (folder/f"{system}.json").write_text(json.dumps({"took": took, "answering": answering, "one": (time.perf_counter() - start)/30}))


def environment(system, rivals):
    "The Python that a system runs in; a rival's is made on first use"
    if system not in RIVALS: return sys.executable
    python = rivals/system/"bin"/"python"
    if not python.exists():
        print(f"Making an environment for {system} in {rivals/system} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", rivals/system], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *RIVALS[system]], check=True)
    return str(python)


def error(folder, system, about):
    "1 - ROC AUC, log loss or RMSE on the hold-out"
    import numpy as np, pandas as pd
    from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
    truth, p = pd.read_parquet(folder/"truth.parquet")["target"], np.load(folder/f"{system}.npy")
    if about["task"] == "regression": return root_mean_squared_error(truth, p)
    y, p = truth.map({c: i for i, c in enumerate(about["classes"])}).to_numpy(), p/p.sum(1, keepdims=True)
    return 1 - roc_auc_score(y, p[:, 1]) if about["task"] == "binary" else log_loss(y, np.clip(p, 1e-15, 1), labels=range(len(about["classes"])))


def run(name, seed, systems, seconds, cores, rivals, verbose=False):
    "All systems on one table and hold-out: a line each"
    with tempfile.TemporaryDirectory() as d:
        folder, out = Path(d), []
        lay_out(name, seed, folder)
        about = json.loads((folder/"about.json").read_text())
        for system in systems:
            env = os.environ | {"OMP_NUM_THREADS": str(cores)}
            r = subprocess.run([environment(system, rivals), __file__, "--work", system, d, str(seconds), str(seed), str(cores)], env=env, capture_output=True, text=True, timeout=10*seconds + 600)
            if r.returncode: print(f"{name} seed {seed}: {system} failed: {r.stderr.strip().splitlines()[-1][:300]}", flush=True); continue
            if verbose: print(r.stderr)
            took = json.loads((folder/f"{system}.json").read_text())
            out.append({"data": name, "seed": seed, "system": system, "error": error(folder, system, about), **took})
            print("{data:<14} seed {seed}  {system:<10} error {error:.5f}  learned in {took:6.1f} s  answered all in {answering:7.4f} s, one in {one:.5f} s".format(**out[-1]), flush=True)
        return out


def report(lines, seconds):
    "Mean rank over all tables, error against ours (geometric mean), the budget kept, the speed of answers"
    import numpy as np, pandas as pd
    t = pd.DataFrame(lines)
    mean = t.pivot_table(index="data", columns="system", values="error")
    print(f"\nMean error on the hold-outs, {seconds:.0f} s:\n{mean.round(5).to_string()}")
    rank = mean.rank(axis=1).mean()
    took, all_rows, one_row = t.groupby("system")["took"].max(), *(t.pivot_table(index="data", columns="system", values=v) for v in ("answering", "one"))
    for s in rank.sort_values().index:
        ratio = np.exp(np.log(mean[s]/mean["ours"]).mean()) if "ours" in mean else float("nan")
        slower, slow = (np.exp(np.log(v[s]/v["ours"]).mean()) if "ours" in mean else float("nan") for v in (all_rows, one_row))
        print(f"{s:<10} mean rank {rank[s]:.2f}   error against ours {ratio:.4f}   longest learning {took[s]:6.1f} s (limit {1.1*seconds:.0f})   all answers take {slower:6.2f} × ours, one {slow:6.1f} ×")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="telco,credit,noaa,bike,digits,diabetes", help=f"of {', '.join(DATA)}, or all")
    p.add_argument("--systems", default=",".join(SYSTEMS))
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--cores", type=int, default=os.cpu_count())
    p.add_argument("--rivals", type=Path, default=Path.home()/".cache"/"rivals", help="where the rivals' environments are")
    p.add_argument("--verbose", action="store_true", help="also what the systems say")
    p.add_argument("--out", type=Path, help="a JSON file for the lines")
    p.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.work:
        system, folder, seconds, seed, cores = args.work
        return work(system, folder, float(seconds), int(seed), int(cores))
    lines = []
    for name in DATA if args.data == "all" else args.data.split(","):
        for seed in range(args.seeds):
            lines += run(name, seed, args.systems.split(","), args.seconds, args.cores, args.rivals, args.verbose)
            if args.out: args.out.write_text(json.dumps(lines))
    report(lines, args.seconds)


if __name__ == "__main__": main()
