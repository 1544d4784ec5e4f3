"""MLflow's REST API, as much of it as a run is told by: no MLflow here, and nothing that can hang for long."""

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MLflowError", "Run", "Server", "batches", "clean"]

MOST_METRICS = 500
MOST_PARAMETERS = 100
MOST_TAGS = 100
MOST_BYTES = 500_000
"""Of a batch; the server's limits are 1000 metrics, 100 parameters, 100 tags and 1 MB."""
LONGEST_NAME = 250
LONGEST_PARAMETER = 6000
LONGEST_TAG = 5000
MOST_ANSWER = 16 << 20
NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)


class MLflowError(Exception):
    """The server did not do what it was asked; the message names the server and the reason."""

    def __init__(self, message: str, code: str = "", *, final: bool = False) -> None:
        super().__init__(message)
        self.code = code
        """MLflow's error_code."""
        self.final = final
        """Asking again would give the same answer."""


@dataclass(frozen=True)
class Run:
    """A run as the server knows it."""

    id: str
    status: str
    parameters: Mapping[str, str]
    steps: Mapping[str, int]
    """The newest step of each metric."""
    tags: Mapping[str, str]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another host must not get the token."""

    def redirect_request(self, *_: Any) -> None:
        """Give the redirect itself to the caller, as an error."""


class Server:
    """A tracking server; each request takes `timeout_seconds` at most for each answer of the network."""

    def __init__(self, uri: str, keys: Mapping[str, str] | None = None, timeout_seconds: float = 3.0) -> None:
        """`keys` holds token, or username and password; raises ValueError for a URI that is none."""
        parts = urllib.parse.urlsplit(uri)
        if not parts.hostname:
            raise ValueError(f"tracking.mlflow.uri {uri} has no host")
        host = parts.netloc.rpartition("@")[2]
        self.uri = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        """Without credentials: for messages."""
        keys = keys or {}
        name, password = keys.get("username") or parts.username, keys.get("password") or parts.password
        self._headers = {"Content-Type": "application/json", "User-Agent": "kaizen"}
        if keys.get("token"):
            self._headers["Authorization"] = f"Bearer {keys['token']}"
        elif name:
            basic = base64.b64encode(f"{name}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        self._timeout = timeout_seconds
        self._opener = urllib.request.build_opener(_NoRedirects)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made when there is none."""
        query = urllib.parse.urlencode({"experiment_name": name})
        for _ in range(2):
            try:
                return str(self._ask("GET", f"experiments/get-by-name?{query}")["experiment"]["experiment_id"])
            except MLflowError as problem:
                if problem.code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            try:
                return str(self._ask("POST", "experiments/create", {"name": name})["experiment_id"])
            except MLflowError as problem:
                if problem.code != "RESOURCE_ALREADY_EXISTS":  # another run was first
                    raise
        raise MLflowError(f"MLflow at {self.uri} neither has the experiment {name} nor makes it", final=True)

    def create(self, experiment: str, name: str, tags: Mapping[str, str], start: int) -> Run:
        """A new run; `start` in milliseconds since 1970."""
        body = {"experiment_id": experiment, "run_name": name, "start_time": start, "tags": _tags(tags)}
        return _run(self._ask("POST", "runs/create", body)["run"])

    def find(self, experiment: str, tags: Mapping[str, str], most: int = 1) -> list[Run]:
        """The newest runs with all of these tags; the values must not hold quotes."""
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        body = {"experiment_ids": [experiment], "filter": wanted, "max_results": most, "order_by": ["attributes.start_time DESC"]}
        return [_run(run) for run in self._ask("POST", "runs/search", body).get("runs", [])]

    def update(self, run: str, status: str, end: int | None = None) -> None:
        """RUNNING, FINISHED, FAILED or KILLED; `end` in milliseconds since 1970."""
        self._ask("POST", "runs/update", {"run_id": run, "status": status, **({} if end is None else {"end_time": end})})

    def log(
        self,
        run: str,
        parameters: Mapping[str, Any] | None = None,
        metrics: Sequence[tuple[str, int, float, int]] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Parameters, metrics as (name, step, value, milliseconds since 1970) and tags, in batches that the server takes."""
        for batch in batches(parameters or {}, metrics, tags or {}):
            self._ask("POST", "runs/log-batch", {"run_id": run, **batch})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.uri}/api/2.0/mlflow/{path}"
        request = urllib.request.Request(url, data, self._headers, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                found = json.loads(answer.read(MOST_ANSWER) or b"{}")
        except urllib.error.HTTPError as problem:
            with problem:
                raise self._refused(problem) from problem
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "reason", None) or problem
            raise MLflowError(f"MLflow at {self.uri} does not answer: {_line(reason) or type(reason).__name__}") from problem
        if not isinstance(found, dict):
            raise MLflowError(f"MLflow at {self.uri} answers something else than MLflow does", final=True)
        return found

    def _refused(self, problem: urllib.error.HTTPError) -> MLflowError:
        try:
            said = json.loads(problem.read(1 << 16))
        except (OSError, ValueError):
            said = {}
        said = said if isinstance(said, dict) else {}
        code, message = str(said.get("error_code", "")), _line(said.get("message", "")) or str(problem.reason)
        final = 300 <= problem.code < 500 and problem.code not in (408, 429)
        if problem.code in (401, 403):
            message = f"it refuses the credentials ({problem.code} {problem.reason}): see tracking.mlflow.secretName"
            return MLflowError(f"MLflow at {self.uri}: {message}", code, final=True)
        return MLflowError(f"MLflow at {self.uri} answers {problem.code}: {message[:300]}", code, final=final)


def batches(
    parameters: Mapping[str, Any], metrics: Iterable[tuple[str, int, float, int]], tags: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Bodies of log-batch within the server's limits; names and texts are cut and cleaned as it wants them."""
    listed: dict[str, list[dict[str, Any]]] = {
        "params": [{"key": clean(name), "value": str(value)[:LONGEST_PARAMETER]} for name, value in parameters.items()],
        "metrics": [{"key": clean(name), "step": step, "value": value, "timestamp": at} for name, step, value, at in metrics],
        "tags": _tags(tags),
    }
    most = {"params": MOST_PARAMETERS, "metrics": MOST_METRICS, "tags": MOST_TAGS}
    batch: dict[str, list[dict[str, Any]]] = {}
    size = 0
    for kind, items in listed.items():
        for item in items:
            length = len(json.dumps(item)) + 2
            if batch and (size + length > MOST_BYTES or len(batch.get(kind, ())) == most[kind]):
                yield batch
                batch, size = {}, 0
            batch.setdefault(kind, []).append(item)
            size += length
    if batch:
        yield batch


def clean(name: str) -> str:
    """A name as MLflow wants it: parts of a path, none of them empty or of dots."""
    parts = NOT_IN_A_NAME.sub("_", name).split("/")
    return "/".join(part for part in parts if part.strip(". "))[:LONGEST_NAME].rstrip("/") or "_"


def _run(document: Mapping[str, Any]) -> Run:
    try:
        data = document.get("data", {})
        return Run(
            id=str(document["info"]["run_id"]),
            status=str(document["info"].get("status", "")),
            parameters={one["key"]: one["value"] for one in data.get("params", ())},
            steps={one["key"]: int(one.get("step", 0)) for one in data.get("metrics", ())},
            tags={one["key"]: one["value"] for one in data.get("tags", ())},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise MLflowError("MLflow answers with a run that is none", final=True) from problem


def _tags(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": clean(name), "value": str(value)[:LONGEST_TAG]} for name, value in tags.items() if value]


def _line(text: object) -> str:
    return " ".join(str(text).split()).rstrip(".")
