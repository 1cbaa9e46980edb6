"The model as each tool gets it: the ONNX graph of the bundle, or the scikit-learn pipeline that the graph was made from."
import numpy as np


def open_model(
    about,  # form, graph, pipeline, texts: as `serve.py` gives it
):  # {column: values} → scores (n, k)
    "Load the model once, one thread"
    kind = {c: object if c in about["texts"] else np.float64 for c in about["columns"]}
    if about["form"] == "graph":
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(about["graph"], options, providers=["CPUExecutionProvider"])
        return lambda columns: session.run(None, {c: np.array(columns[c], dtype=k).reshape(-1, 1) for c, k in kind.items()})[0]
    import pandas as pd
    from mlcycle.models import load_model
    pipeline = load_model(about["pipeline"])
    return lambda columns: pipeline.predict_proba(pd.DataFrame({c: np.array(columns[c], dtype=k) for c, k in kind.items()}))
