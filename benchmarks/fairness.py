"""What measuring fairness costs: all gaps of a sensitive column with their intervals, against its limit and against fairlearn's bootstrap.

    python benchmarks/fairness.py [--rows 100000] [--resamples 100] [--groups 5] [--seconds 60]

Both get the same rows and give the same gaps. Ours measures more: precision, the main metric (ROC AUC) of each group with its interval,
what chance alone gives. fairlearn's `MetricFrame` gets the four rates that its own gaps are made of. If fairlearn would take longer
than `--seconds`, it draws fewer resamples, and its time is scaled up (it is proportional to them; the line says so).
"""
import argparse, sys, time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"))
from conftest import PACKAGE

sys.path.insert(0, str(ROOT))
contract, fair = (import_module(f"{PACKAGE}.{m}") for m in ("contract", "fair"))


def make(rows, groups):
    "People in groups, a model that calls one group more often; their contract"
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"group": rng.integers(0, groups, rows).astype(str), "age": rng.integers(18, 90, rows)})
    s = np.clip(rng.normal(0.5, 0.2, rows) + 0.05*(table.group == "0"), 0.001, 0.999).to_numpy()
    y = (rng.random(rows) < s).astype(int)
    columns = [contract.Column(name="group", type="category", sensitive=True), contract.Column(name="age", type="integer"), contract.Column(name="y", type="category", role="target")]
    return table, y, np.column_stack([1 - s, s]), (s >= 0.5).astype(int), contract.Contract(name="people", task="binary", positive="yes", classes=["no", "yes"], columns=columns)


def timed(f, *args, **kwargs):
    "What it gives, seconds, seconds of the processor"
    t, cpu = time.perf_counter(), time.process_time()
    return f(*args, **kwargs), time.perf_counter() - t, time.process_time() - cpu


def of_fairlearn(table, y, d, resamples):
    "The same rates, gaps and intervals"
    import fairlearn.metrics as fl
    from sklearn.metrics import accuracy_score
    ask = {"selection_rate": fl.selection_rate, "true_positive_rate": fl.true_positive_rate, "false_positive_rate": fl.false_positive_rate, "accuracy": accuracy_score}
    frame = fl.MetricFrame(metrics=ask, y_true=y, y_pred=d, sensitive_features=table["group"], n_boot=resamples, ci_quantiles=[0.025, 0.975], random_state=0)
    return frame.difference(), frame.difference_ci()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=100_000)
    p.add_argument("--resamples", type=int, default=100)
    p.add_argument("--groups", type=int, default=5)
    p.add_argument("--seconds", type=float, default=60, help="how long fairlearn may take")
    args = p.parse_args()
    table, y, scores, d, promised = make(args.rows, args.groups)
    fair.measure_fairness(table.head(1000), y[:1000], scores[:1000], d[:1000], promised, "binary", resamples=100)   # imports and caches
    of_fairlearn(table.head(1000), y[:1000], d[:1000], 2)
    print(f"{args.rows:,} rows, {args.groups} groups, {args.resamples} resamples", flush=True)

    found, t, cpu = timed(fair.measure_fairness, table, y, scores, d, promised, "binary", resamples=args.resamples)
    (theirs, _), one, _ = timed(of_fairlearn, table, y, d, 2)
    resamples = max(2, min(args.resamples, int(2*args.seconds/one)))
    (theirs, ends), pt, pcpu = timed(of_fairlearn, table, y, d, resamples)
    pt, pcpu = (v*args.resamples/resamples for v in (pt, pcpu))
    scaled = "" if resamples == args.resamples else f" (scaled up from {resamples} resamples)"
    print(f"{'seconds':<24} {t:7.2f} s  limit 2 s  ratio {t/2:5.2f}   fairlearn {pt:7.2f} s{scaled}  ratio {t/pt:6.3f}")
    print(f"{'  of the processor':<24} {cpu:7.2f} s                         fairlearn {pcpu:7.2f} s  ratio {cpu/pcpu:6.3f}")

    gaps = found["gaps"].set_index("measure")
    for measure, rate in [("demographic_parity_difference", "selection_rate"), ("equal_opportunity_difference", "true_positive_rate"), ("error_difference", "accuracy")]:
        g, (low, high) = gaps.loc[measure], (e[rate] for e in ends)
        print(f"{measure:<30} {g['value']:.4f} ({g['low']:.4f} to {g['high']:.4f}; chance {g['chance']:.4f}, {'sure' if g['sure'] else 'not sure'})   fairlearn {theirs[rate]:.4f} ({low:.4f} to {high:.4f})")
        assert abs(g["value"] - theirs[rate]) < 1e-9, "the two do not agree"


if __name__ == "__main__": main()
