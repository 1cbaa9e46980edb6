"""Look for drift as Evidently's or NannyML's documentation has it, in an environment of theirs: python drift.py evidently|nannyml time|alarms REFERENCE.parquet NOW.parquet

`time`: the whole table is one window. `alarms`: the column `_window` says which window a row belongs to; how many of their columns are said to have drifted, by kind (the column's name without its number).
"""
import json, re, resource, sys, time, warnings

warnings.filterwarnings("ignore")
import pandas as pd


def evidently(reference, windows):
    "Each window through DataDriftPreset: which columns fail its test"
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset
    numbers = [c for c in reference if reference[c].dtype.kind in "fi"]
    define = DataDefinition(numerical_columns=numbers, categorical_columns=[c for c in reference if c not in numbers])
    old = Dataset.from_pandas(reference, data_definition=define)
    for window in windows:
        told = Report([DataDriftPreset()], include_tests=True).run(Dataset.from_pandas(window, data_definition=define), old).dict()["tests"]
        yield [t["metric_config"]["params"]["column"] for t in told if "column" in t["metric_config"]["params"] and str(t["status"].value) == "FAIL"]


def nannyml(reference, windows):
    "Each window as one chunk, thresholds by chunks of the reference that are as large (at most a tenth of it); of one window ten chunks, as is the default"
    import nannyml as nml
    texts = [c for c in reference if reference[c].dtype.kind not in "fi"]
    chunks = {"chunk_size": min(len(windows[0]), len(reference)//10)} if len(windows) > 1 else {}
    learned = nml.UnivariateDriftCalculator(column_names=list(reference), treat_as_categorical=texts, **chunks).fit(reference)
    found = learned.calculate(pd.concat(windows, ignore_index=True)).filter(period="analysis").to_df()
    alerts = found.loc[:, [c for c in found.columns if c[2] == "alert"]]
    for _, line in alerts.iterrows(): yield [c[0] for c, alarm in line.items() if alarm]


def main():
    tool, what, reference, now = sys.argv[1:]
    reference, now = pd.read_parquet(reference), pd.read_parquet(now)
    windows = [w.drop(columns="_window") for _, w in now.groupby("_window")] if what == "alarms" else [now]
    __import__(tool) # before the clock starts
    start, cpu = time.perf_counter(), time.process_time()
    found = list({"evidently": evidently, "nannyml": nannyml}[tool](reference, windows))
    took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024}
    kinds = pd.Series([re.sub(r"\d+$", "", c) for c in reference]).value_counts()
    flagged = pd.Series([re.sub(r"\d+$", "", c) for f in found for c in f], dtype=object).value_counts().reindex(kinds.index, fill_value=0)
    print(json.dumps(took | {"windows": sum(bool(f) for f in found)/len(found), "columns": (flagged/kinds/len(found)).to_dict()}))


if __name__ == "__main__": main()
