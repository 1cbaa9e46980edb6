"MLServer: a custom runtime, as its documentation has it (mlserver.readthedocs.io, Custom Inference Runtimes)."
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from model import open_model


class Served(MLModel):
    async def load(self):
        about = self.settings.parameters.extra
        self.ask, self.classes = open_model(about), about["classes"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {c.name: (StringCodec.decode_input(c) if c.datatype == "BYTES" else NumpyCodec.decode_input(c).ravel()) for c in payload.inputs}
        scores = self.ask(columns)
        labels = [self.classes[i] for i in scores.argmax(axis=1)]
        outputs = [NumpyCodec.encode_output("scores", scores), StringCodec.encode_output("label", labels)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
