"""tritonclient[http] against a running server; a program of its own, because the client is gevent's and patches the process.

    python -m tests.support.triton_http HOST:PORT MODEL    # reads JSON from standard input, writes JSON to standard output

Input: {"inputs": [v2 inputs as JSON]}.  Output: what each way of asking answered, `answers` by way, and what the client was
told of server and model.
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

__all__: list[str] = []

KINDS: dict[str, Any] = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def ask(client: Any, model: str, inputs: list[dict[str, Any]], binary: bool, **more: Any) -> dict[str, Any]:
    """One way of asking: outputs by name, as plain lists."""
    tensors = []
    for one in inputs:
        tensor = triton.InferInput(one["name"], one["shape"], one["datatype"])
        tensor.set_data_from_numpy(np.array(one["data"], dtype=KINDS[one["datatype"]]), binary_data=binary)
        tensors.append(tensor)
    result = client.infer(model, tensors, **more)
    names = [output["name"] for output in result.get_response()["outputs"]]
    found = {name: result.as_numpy(name) for name in names}
    plain = {name: [_text(value) for value in values.ravel().tolist()] for name, values in found.items()}
    return {"id": result.get_response()["id"], "outputs": plain, "shapes": {name: found[name].shape for name in names}}


def refusal(client: Any, model: str, inputs: list[dict[str, Any]]) -> str:
    """What the client says when a number is sent as a string."""
    tensor = triton.InferInput(inputs[0]["name"], [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, dtype=np.float32), binary_data=True)
    try:
        client.infer(model, [tensor])
    except InferenceServerException as problem:
        return f"{problem.status()}: {problem.message()}"
    return ""


def main() -> None:
    address, model = sys.argv[1:3]
    inputs = json.load(sys.stdin)["inputs"]
    client = triton.InferenceServerClient(address)

    def wanted(binary: bool, *names: str) -> list[Any]:
        return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]

    ways: dict[str, dict[str, Any]] = {
        "JSON in, binary out": {"binary": False},
        "binary in and out": {"binary": True},
        "JSON in and out": {"binary": False, "outputs": wanted(False, "predict", "predict_proba", "id")},
        "binary in, JSON out": {"binary": True, "outputs": wanted(False, "predict", "predict_proba", "id")},
        "mixed out": {"binary": True, "outputs": wanted(True, "predict_proba") + wanted(False, "predict")},
        "gzip both ways": {
            "binary": True,
            "request_compression_algorithm": "gzip",
            "response_compression_algorithm": "gzip",
        },
        "deflate both ways": {
            "binary": False,
            "request_compression_algorithm": "deflate",
            "response_compression_algorithm": "deflate",
        },
        "with an id": {"binary": True, "request_id": "mine"},
    }
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "other_ready": client.is_model_ready("another"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata(model),
        "refusal": refusal(client, model, inputs),
        "answers": {name: ask(client, model, inputs, **way) for name, way in ways.items()},
    }
    client.close()
    json.dump(told, sys.stdout)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
