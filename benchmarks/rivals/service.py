"BentoML: a service, as its documentation has it (docs.bentoml.com, Hello world: the model is loaded once, in `__init__`)."
import json, os

import bentoml

from model import open_model


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Served:
    def __init__(self):
        about = json.loads(os.environ["ABOUT"])
        self.ask, self.classes = open_model(about), about["classes"]

    @bentoml.api
    def predict(self, rows: list[dict]) -> list[dict]:
        scores = self.ask({c: [r[c] for r in rows] for c in rows[0]})
        return [{"label": self.classes[i], "scores": dict(zip(self.classes, s))} for i, s in zip(scores.argmax(axis=1), scores.tolist())]
