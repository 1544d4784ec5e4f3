"""A scikit-learn model behind kserve.Model, as KServe's own sklearnserver does it: `python kserve_server.py NAME FILE PORT`.

Latency log, access log and gRPC are off, so that KServe is at its best.
"""

import sys
from typing import Any

import joblib
import uvicorn
from kserve import InferRequest, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Served(Model):
    """One fitted model."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._fitted = joblib.load(path)
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> Any:
        return get_predict_response(payload, self._fitted.predict(get_predict_input(payload)), self.name)


class OnLoopback(uvicorn.Config):
    """KServe listens on every address of the machine and logs each request; it has settings for neither."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **{**named, "host": "127.0.0.1", "access_log": False})


if __name__ == "__main__":
    name, path, port = sys.argv[1:]
    uvicorn.Config = OnLoopback
    ModelServer(http_port=int(port), enable_grpc=False, enable_latency_logging=False, workers=1).start([Served(name, path)])
