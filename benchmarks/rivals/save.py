"MLflow: the model in one of its flavours (ONNX with a signature of named tensors, scikit-learn with data frames), to be served by `mlflow models serve`."
import json, sys

import numpy as np

about, folder = json.loads(sys.argv[1]), sys.argv[2]
if about["form"] == "graph":
    import mlflow.onnx, onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    columns = [TensorSpec(np.dtype(str if c in about["texts"] else np.float64), (-1, 1), c) for c in about["columns"]]
    one_thread = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    mlflow.onnx.save_model(onnx.load(about["graph"]), folder, signature=ModelSignature(inputs=Schema(columns)), onnx_session_options=one_thread)
else:
    import mlflow.sklearn
    from mlcycle.models import load_model
    mlflow.sklearn.save_model(load_model(about["pipeline"]), folder, serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba")
