"Bundles around graphs written by hand: made in milliseconds, with any contract, and their answers can be worked out in the head."
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlcycle.bundle import FILES, Meta, load_bundle, seal
from mlcycle.contract import Column, Contract
from mlcycle.core import write_file

COLUMNS = [Column(name="x", type="number", minimum=0.5, maximum=1, unit="share", meaning="how often"),
    Column(name="plan", type="category", nullable=True, categories=["basic", "pro"], unseen="reject")]
CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": None}


def graph(columns, task, interval):
    "binary: `yes` is as likely as twice x, less one; multiclass: x, x, 1 - 2x; regression: 2x - 1, and 1 less and more"
    kind = lambda c: TensorProto.STRING if c.type in ("category", "text") else TensorProto.DOUBLE
    tensors = [helper.make_tensor_value_info(c.name, kind(c), [None, 1]) for c in columns]
    node = helper.make_node
    nodes = [node("Mul", ["x", "two"], ["twice"]), node("Sub", ["twice", "one"], ["up"]), node("Sub", ["one", "up"], ["down"]), node("Sub", ["one", "twice"], ["rest"]), node("Sub", ["up", "one"], ["below"]), node("Add", ["up", "one"], ["above"])]
    parts = {"binary": ["down", "up"], "multiclass": ["x", "x", "rest"], "regression": ["up", "below", "above"] if interval else ["up"]}[task]
    nodes.append(node("Concat", parts, ["out"], axis=1))
    constants = [numpy_helper.from_array(np.array([[v]], dtype=np.float64), n) for n, v in [("one", 1), ("two", 2)]]
    made = helper.make_graph(nodes, "by_hand", tensors, [helper.make_tensor_value_info("out", TensorProto.DOUBLE, [None, len(parts)])], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def by_hand(folder, name="tiny", columns=COLUMNS, task="binary", threshold=0.3, interval=None, draft=False, profile=None):
    "A whole bundle; `columns` need a number called x"
    classes = CLASSES[task]
    contract = Contract(name=name, task=task, positive="yes" if task == "binary" else None, classes=classes,
        columns=[*columns, Column(name="customer", type="text", role="id"), Column(name="y", type="number" if task == "regression" else "category", role="target", unit="points" if task == "regression" else "")])
    features = contract.features
    meta = Meta(version=1, name=name, task=task, classes=classes, positive="yes" if task == "binary" else None, threshold=threshold if task == "binary" else None, target_scale=1., draft=draft, verdict="pass",
        estimator="by hand", inputs={c.name: c.name for c in features}, tolerance=1e-4, interval=interval)
    for file, content in {"model.onnx": graph(features, task, interval), "contract.json": contract, "bundle.json": meta, "profile.json": profile or {}}.items(): write_file(content, folder/file)
    for file in FILES: (folder/file).exists() or write_file({} if file.endswith(".json") else "by hand\n", folder/file)
    seal(folder)
    return load_bundle(folder)


def weighted(folder, weight=1., columns=("x",), name="tiny", classes=("no", "yes"), **facts):
    "The folder of a whole bundle of numbers: the second class is as likely as `weight` times the first column"
    tensor = lambda name, n: helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, n])
    constants = [numpy_helper.from_array(np.array([[v]], dtype=np.float64), n) for n, v in [("one", 1), ("weight", weight)]]
    node = helper.make_node
    nodes = [node("Mul", [columns[0], "weight"], ["yes"]), node("Sub", ["one", "yes"], ["no"]), node("Concat", ["no", "yes"], ["scores"], axis=1)]
    made = helper.make_graph(nodes, "by_hand", [tensor(c, 1) for c in columns], [tensor("scores", 2)], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    task = dict(name=name, task="binary", positive=classes[1], classes=list(classes))
    others = [Column(name="customer", type="text", role="id"), Column(name="y", type="category", role="target")]
    contract = Contract(**task, columns=[*(Column(name=c, type="number", minimum=0, maximum=1) for c in columns), *others])
    meta = Meta(**dict(version=1, threshold=0.3, target_scale=1., draft=False, verdict="pass", estimator="by hand", inputs={c: c for c in columns}, tolerance=1e-4) | task | facts)
    gate = {"verdict": meta.verdict, "reasons": [] if meta.verdict == "pass" else ["roc_auc is below 0.9"]}
    profile = {"metrics": {"roc_auc": {"value": 0.8, "low": 0.7, "high": 0.9}}}
    told = {"model.onnx": model.SerializeToString(), "contract.json": contract, "bundle.json": meta, "gate.json": gate, "profile.json": profile}
    for file in FILES: write_file(told.get(file, {} if file.endswith(".json") else "by hand\n"), folder/file)
    seal(folder)
    return folder


@pytest.fixture(scope="module")
def wide_bundle(request, tmp_path_factory):
    "The folder of a bundle around a graph written by hand, with the columns `WIDE` of the module that asks"
    folder = tmp_path_factory.mktemp("b")/"bundle"
    by_hand(folder, columns=request.module.WIDE)
    return folder
