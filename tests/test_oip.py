"The Open Inference Protocol: clients written for other servers, unchanged, and every odd request refused in its form."
import random, struct

import numpy as np
import orjson
import pytest
from bundles import COLUMNS, by_hand, wide_bundle # a fixture

from mlcycle.answer import Model
from mlcycle.contract import Column
from mlcycle.oip import SIZES, as_v2, metadata, outputs_of, read_infer, server_metadata, write_infer
from mlcycle.roster import Roster
from mlcycle.web import Settings, make_app, running

WIDE = [*COLUMNS, Column(name="age", type="integer"), Column(name="seen", type="integer", nullable=True), Column(name="paid", type="boolean"), Column(name="note", type="text"), Column(name="day", type="datetime")]


@pytest.fixture(scope="module")
def model(wide_bundle):
    from mlcycle.bundle import load_bundle
    return Model(load_bundle(wide_bundle), "1.2.0")


@pytest.fixture(scope="module")
def port(wide_bundle):
    roster = Roster(wide_bundle)
    roster.start()
    with running(make_app(roster, Settings(max_rows=50), local=True)) as port: yield port
    roster.stop()


ROWS = [{"x": 0.6, "plan": "pro", "age": 40, "seen": 3, "paid": True, "note": "Grüß dich", "day": "2025-07-31"}, {"x": 0.9, "plan": None, "age": 41, "seen": None, "paid": False, "note": "日本", "day": "2025-07-31T10:00"}]
KINDS = {"x": "FP64", "plan": "BYTES", "age": "INT64", "seen": "FP64", "paid": "BOOL", "note": "BYTES", "day": "BYTES"}


def tensors(rows=ROWS, **kinds):
    return [{"name": c, "datatype": kinds.get(c, KINDS[c]), "shape": [len(rows), 1], "data": [r[c] for r in rows]} for c in KINDS]


def said(model, request, headers={}, nonfinite="reject"):
    asked, refusal = read_infer(model, request if isinstance(request, bytes) else orjson.dumps(request), headers, 1000, nonfinite)
    status, answer = refusal or model.answer(asked.rows, "r1")
    if status != 200: return status, orjson.loads(as_v2(answer)), None, None
    return 200, orjson.loads(write_infer(model, asked, answer)[0]), asked.rows, answer


# ---- the client from PyPI, unchanged

http = pytest.importorskip("tritonclient.http")
TRITON = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def asked(binary, rows=ROWS):
    made = []
    for c, kind in KINDS.items():
        gone = "" if kind == "BYTES" else np.nan
        values = np.array([gone if r[c] is None else r[c] for r in rows], dtype=TRITON[kind]).reshape(-1, 1)
        made.append(http.InferInput(c, list(values.shape), kind))
        made[-1].set_data_from_numpy(values, binary_data=binary)
    return made


@pytest.fixture(scope="module")
def triton(port):
    client = http.InferenceServerClient(f"localhost:{port}")
    yield client
    client.close()


def test_tritonclient_finds_its_way(triton, model):
    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready("tiny") and not triton.is_model_ready("none")
    assert triton.get_server_metadata() == server_metadata()
    told = triton.get_model_metadata("tiny")
    assert told | {"versions": ["1.2.0"]} == metadata(model) and triton.get_model_metadata("tiny", told["versions"][0]) == told and triton.is_model_ready("tiny", told["versions"][0])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritonclient_asks_and_reads(triton, model, binary_in, binary_out):
    "Tensors binary (its default) and in JSON, both ways; without asking for outputs, all of them come"
    outputs = None if binary_out is None else [http.InferRequestedOutput(n, binary_data=binary_out) for n in outputs_of(model)]
    rows = ROWS if binary_in else [r | {"seen": 3} for r in ROWS] # NaN, which stands for a missing number, is no JSON
    result = triton.infer("tiny", asked(binary_in, rows), outputs=outputs, request_id="mine-1")
    status, answer = model.answer(rows, "r1")
    predictions = answer["predictions"]
    text = lambda name: [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy(name).tolist()]
    assert status == 200 and result.get_response()["id"] == "mine-1" and result.get_response()["model_name"] == "tiny"
    assert text("label") == [p["label"] for p in predictions] == ["no", "yes"] and result.as_numpy("score").tolist() == [p["score"] for p in predictions]
    assert result.as_numpy("scores").tolist() == [list(p["scores"].values()) for p in predictions] and result.as_numpy("scores").shape == (2, 2)
    assert text("warnings") == ["", ""] and all(len(i) == 24 for i in text("id"))


def test_tritonclient_is_told_what_is_wrong(triton):
    from tritonclient.utils import InferenceServerException
    for rows, words in [([ROWS[0] | {"plan": "gold"}], "`plan` is 'gold'; allowed: basic, pro"), ([ROWS[0] | {"x": np.nan}], "`x` is missing"), ([ROWS[0] | {"x": np.inf}], "`x` is inf; allowed: a finite number"), (ROWS*26, "allowed are 50")]:
        with pytest.raises(InferenceServerException, match=words): triton.infer("tiny", asked(True, rows))
    with pytest.raises(InferenceServerException): triton.infer("other", asked(True))
    warned = triton.infer("tiny", asked(True, [ROWS[0] | {"x": 7.}])).as_numpy("warnings")
    assert warned.tolist() == [b"`x` is 7.0; allowed: 0.5 to 1"]


def test_tritonclient_compressed_is_refused_in_words(triton):
    from tritonclient.utils import InferenceServerException
    with pytest.raises(InferenceServerException, match="compressed"): triton.infer("tiny", asked(True), request_compression_algorithm="gzip")


# ---- the same answers as v1

def test_answers_are_those_of_v1(model, tmp_path):
    status, body, rows, answer = said(model, {"inputs": tensors()})
    assert status == 200 and rows == ROWS and answer == model.answer(ROWS, "r1")[1]
    for task, interval, names in [("regression", None, ["value"]), ("regression", 0.9, ["value", "low", "high"]), ("multiclass", None, ["label", "score", "scores"])]:
        other = Model(by_hand(tmp_path/f"{task}{interval}", task=task, interval=interval), "1")
        status, body, _, answer = said(other, {"inputs": tensors()[:2]})
        assert status == 200 and [o["name"] for o in body["outputs"]] == [*names, "id", "warnings"] == [o["name"] for o in metadata(other)["outputs"]]
        assert body["outputs"][0]["data"] == [p[names[0]] for p in answer["predictions"]]
    assert body["outputs"][2]["shape"] == [2, 3] and body["id"] == "r1" and body["parameters"]["digest"] == other.digest


@pytest.mark.parametrize("kinds", [{"x": "FP32"}, {"x": "FP16"}, {"age": "INT32"}, {"age": "UINT8"}, {"age": "FP64"}, {"age": "FP32"}, {"seen": "FP32"}, {"paid": "INT8"}])
def test_every_type_is_taken_where_the_value_fits(model, kinds):
    "In JSON and binary alike"
    rows = [r | {"x": 0.75, "paid": 1 if "paid" in kinds else r["paid"]} for r in ROWS]
    made = tensors(rows, **kinds)
    assert said(model, {"inputs": made})[0] == 200
    tail, (name, kind) = b"", next(iter(kinds.items()))
    for t in made:
        if t["name"] == name:
            tail = np.array([np.nan if v is None else v for v in t.pop("data")], dtype=SIZES[kind]).tobytes()
            t["parameters"] = {"binary_data_size": len(tail)}
    text = orjson.dumps({"inputs": made})
    status, _, rows, _ = said(model, text + tail, {"inference-header-content-length": str(len(text))})
    assert status == 200 and [r["age"] for r in rows] == [40, 41]


def test_outputs_are_those_that_were_asked_for(model):
    ask = lambda **more: said(model, {"inputs": tensors()} | more)
    assert [o["name"] for o in ask(outputs=[{"name": "score"}, {"name": "label"}])[1]["outputs"]] == ["score", "label"]
    assert [o["name"] for o in ask(outputs=[])[1]["outputs"]] == list(outputs_of(model))
    for odd in [[{"name": "no"}], [{}], "score", [1], [{"name": "score", "parameters": 3}]]: assert ask(outputs=odd)[0] == 422
    assert ask(id="x"*500)[1]["id"] == "x"*200 and ask(id=None, parameters=None, outputs=None)[1]["id"] == "r1" and ask(id=7)[0] == ask(parameters=[])[0] == 422


@pytest.mark.parametrize("request_, words", [(b"", "no JSON"), (b"\xff", "no JSON"), ({}, "no `inputs`"), ({"inputs": {}}, "no `inputs`"), ({"inputs": [1]}, "no `name`"), ({"inputs": [{"name": 1}]}, "no `name`"),
    ({"inputs": [{"name": "x", "datatype": [], "shape": [1], "data": [1]}]}, "datatype"), ({"inputs": [{"name": "x", "datatype": "FP64", "shape": "1", "data": [1]}]}, "shape"), ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}, "shape"),
    ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [True], "data": [1]}]}, "shape"), ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [10**12], "parameters": {"binary_data_size": 0}}]}, "binary data of `x` are 0 bytes"),
    ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [True]}]}, "no FP64"), ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1.5]}]}, "no INT64"), ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [[[1]]]}]}, "no FP64"),
    ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1], "parameters": [1]}]}, "parameters"), ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": -1}}]}, "binary_data_size"),
    ({"inputs": tensors() + tensors()[:1]}, "twice"), ({"inputs": tensors() + [{"name": "z", "datatype": "FP64", "shape": [1], "data": [1]}]}, "different numbers of rows"), ({"inputs": tensors() + [{"name": "z", "datatype": "FP64", "shape": [2], "data": [1, 2]}]}, "`z` is no column"),
    (b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [NaN]}]}', "NaN")])
def test_what_is_no_request_is_refused_in_words(model, request_, words):
    status, body, rows, answer = said(model, request_)
    assert status == 422 and list(body) == ["error"] and words in body["error"] and rows is answer is None


def test_a_challenger_of_another_form_answers_what_it_has(tmp_path):
    "Read by the champion's form (an interval), answered by one that has none: by default all of its own, else what it has of those that were asked for"
    champion, other = (Model(by_hand(tmp_path/str(i), task="regression", interval=i), "1") for i in (0.9, None))
    for outputs, binary, names in [(None, False, ["value", "id", "warnings"]), ([{"name": "low"}, {"name": "value"}], False, ["value"]), (None, True, ["value", "id", "warnings"])]:
        request = {"inputs": tensors()[:2], "outputs": outputs, "parameters": {"binary_data_output": binary}}
        asked, _ = read_infer(champion, orjson.dumps(request), {}, 10)
        body, headers = write_infer(other, asked, other.answer(asked.rows, "r1")[1])
        head = orjson.loads(body[:int(headers.get("inference-header-content-length", len(body)))])
        assert [o["name"] for o in head["outputs"]] == names and all(("data" in o) != binary for o in head["outputs"])


def test_lengths_are_never_trusted(model):
    "2,000 requests with broken binary parts: refused, or answered, and nothing else happens"
    rng, pack = random.Random(0), lambda t: struct.pack("<I", len(t)) + t
    good = [("x", "FP64", np.array([0.6, 0.9]).tobytes()), ("plan", "BYTES", pack(b"pro") + pack(b"")), ("age", "INT64", np.array([1, 2]).tobytes()), ("paid", "BOOL", b"\1\0"), ("note", "BYTES", pack("ü".encode())*2), ("day", "BYTES", pack(b"2025-07-31")*2)]
    answered = 0
    for _ in range(2000):
        parts = [(n, k, bytes(b)) for n, k, b in good]
        for _ in range(rng.choice([0, 1, 1, 2])):
            i = rng.randrange(len(parts)); n, k, b = parts[i]
            b = bytearray(b)
            how = rng.randrange(4)
            if how == 0 and b: b[rng.randrange(len(b))] = rng.choice([0, 1, 255, rng.randrange(256)])
            elif how == 1: b = b[:rng.randrange(len(b) + 1)]
            elif how == 2: b += rng.randbytes(rng.randrange(1, 9))
            else: k = rng.choice([*SIZES, "BYTES"])
            parts[i] = (n, k, bytes(b))
        shift = rng.choice([0]*7 + [1, -1, 2**31])
        head = orjson.dumps({"inputs": [{"name": n, "datatype": k, "shape": [2], "parameters": {"binary_data_size": max(0, len(b) + shift)}} for n, k, b in parts]})
        length = rng.choice([str(len(head))]*9 + ["", "x", "1e3", "٣", str(10**30), str(len(head) + 1), "0"])
        status, body, *_ = said(model, head + b"".join(b for *_, b in parts), {"inference-header-content-length": length})
        assert status in (200, 422) and ("error" in body) == (status != 200)
        answered += status == 200
    assert 200 < answered < 1800


def test_nan_policy_and_missing(model):
    "In JSON, NaN goes by the policy; in a binary tensor nothing else could say that a value is missing"
    inputs = tensors()
    body = orjson.dumps({"inputs": inputs}).replace(b"[3,null]", b"[3,NaN]")
    status, refused, *_ = said(model, body)
    assert b"NaN" in body and status == 422 and "`seen` is NaN" in refused["error"] and said(model, body, nonfinite="null")[2] == ROWS
    rows, refusal = read_infer(model, orjson.dumps({"inputs": inputs}), {}, 1)
    assert rows is None and refusal[0] == 413 and b"serve.max_rows" in as_v2(refusal[1])
