"""gRPC as others' clients speak it: tritonclient, and its generated messages, against real server processes."""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import descriptor_pb2  # type: ignore[import-untyped]
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from kaizen.serving.grpc.messages import INFERENCE
from kaizen.serving.protobuf import describe
from tests.support import certificates, models
from tests.support.ports import free_ports
from tests.support.rawhttp import ask
from tests.support.server_process import ServerProcess, server_process
from tests.support.wait import until

FRAME = models.flights(40, seed=3)[list(models.COLUMNS)]
KINDS: dict[str, Any] = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}


@contextmanager
def serving(model: Path, **options: Any) -> Iterator[tuple[ServerProcess, str]]:
    (port,) = free_ports(1)
    with server_process(model, grpc_port=port, **options) as server:
        yield server, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> models.MadeModel:
    """A compiled model."""
    return models.make_model(tmp_path_factory.mktemp("model") / "model", "linear")


@pytest.fixture(scope="module")
def server(made: models.MadeModel) -> Iterator[tuple[ServerProcess, str]]:
    """A server with version 3 of it, and its gRPC address."""
    with serving(made.directory, version=3) as found:
        yield found


@pytest.fixture(scope="module")
def address(server: tuple[ServerProcess, str]) -> str:
    """Of its gRPC."""
    return server[1]


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    """Triton's."""
    with triton.InferenceServerClient(address) as made:
        yield made


def inputs(frame: Any) -> list[Any]:
    found = []
    for name, column in frame.items():
        tensor = triton.InferInput(name, [len(column)], models.DATATYPES[name])
        tensor.set_data_from_numpy(column.to_numpy().astype(KINDS[models.DATATYPES[name]]))
        found.append(tensor)
    return found


def typed(frame: Any, **more: Any) -> Any:
    """The request with typed contents."""
    fields = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
    request = service_pb2.ModelInferRequest(model_name=models.MODEL, **more)
    for name, column in frame.items():
        datatype = models.DATATYPES[name]
        values = [value.encode() if isinstance(value, str) else value for value in column.tolist()]
        contents = {fields[datatype]: values}
        request.inputs.add(name=name, datatype=datatype, shape=[len(column)], contents=contents)
    return request


def call(address: str, request: Any, **options: Any) -> Any:
    with grpc.insecure_channel(address) as channel:
        return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10, **options)


def refusal(address: str, request: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(address, request, **options)
    return refused.value.code().name, refused.value.details()


def test_messages_are_those_that_clients_were_generated_from() -> None:
    theirs = descriptor_pb2.FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(theirs)

    def fields(message: Any) -> set[Any]:
        own = {(one.number, one.name, one.type, one.label, one.type_name.lstrip(".")) for one in message.field}
        return own | {(inner.name, *field) for inner in message.nested_type for field in fields(inner)}

    known = {message.name: message for message in theirs.message_type}
    for message in describe("inference", INFERENCE).message_type:
        extra = {one for one in fields(message) if "arameters" not in str(one) or message.name != "ModelMetadataResponse"}
        assert extra <= fields(known[message.name]), message.name


def test_server_and_model_are_described(client: Any, server: tuple[ServerProcess, str]) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(models.MODEL)
    assert client.is_model_ready(models.MODEL, "3")
    assert client.get_server_metadata(as_json=True)["name"] == "kaizen"
    found = client.get_model_metadata(models.MODEL, as_json=True)
    rest = json.loads(ask(server[0].port, f"/v2/models/{models.MODEL}").body)
    assert [(one["name"], one["datatype"], one["shape"]) for one in found["inputs"]] == [
        (one["name"], one["datatype"], [str(size) for size in one["shape"]]) for one in rest["inputs"]
    ]
    assert [one["name"] for one in found["outputs"]] == ["predict", "predict_proba", "id"]
    assert found["versions"] == ["3"]
    (index,) = client.get_model_repository_index(as_json=True)["models"]
    assert index == {"name": models.MODEL, "version": "3", "state": "READY"}


def test_raw_tensors_get_scikit_learns_answers(client: Any, made: models.MadeModel) -> None:
    result = client.infer(models.MODEL, inputs(FRAME), model_version="3", request_id="mine")
    labels, probabilities = made.expected(FRAME)
    assert result.as_numpy("predict").tolist() == labels
    assert np.allclose(result.as_numpy("predict_proba").ravel(), probabilities or [], rtol=0, atol=1e-12)
    assert result.as_numpy("id").tolist() == [f"mine-{row}".encode() for row in range(len(FRAME))]
    assert result.get_response().raw_output_contents
    assert (result.get_response().id, result.get_response().model_version) == ("mine", "3")


def test_typed_tensors_get_typed_answers_and_outputs_are_chosen(address: str, made: models.MadeModel) -> None:
    request = typed(FRAME, outputs=[{"name": "predict_proba"}, {"name": "predict"}])
    response = call(address, request)
    outputs = {one.name: one for one in response.outputs}
    labels, probabilities = made.expected(FRAME)
    assert set(outputs) == {"predict", "predict_proba"}
    assert not response.raw_output_contents
    assert list(outputs["predict"].contents.bool_contents) == labels
    assert np.allclose(outputs["predict_proba"].contents.fp64_contents, probabilities or [], rtol=0, atol=1e-12)
    assert list(outputs["predict_proba"].shape) == [len(FRAME), 2]
    assert outputs["predict_proba"].parameters["classes"].string_param == "[false,true]"


def changed(change: Any) -> Any:
    request = typed(FRAME.head(2))
    change(request)
    return request


def as_single(request: Any) -> None:
    request.inputs[1].datatype = "FP32"
    request.inputs[1].contents.Clear()
    request.inputs[1].contents.fp32_contents.extend([1.0, 2.0])


WRONG: dict[str, tuple[Any, str, str]] = {
    "another model": (
        lambda request: setattr(request, "model_name", "other"), "NOT_FOUND",
        'there is no model "other" here; this server has "flight-delay"',
    ),
    "another version": (
        lambda request: setattr(request, "model_version", "9"), "NOT_FOUND",
        'there is no version "9" of this model here; this server has version 3',
    ),
    "an input too few": (lambda request: request.inputs.pop(), "INVALID_ARGUMENT", 'input "hour" is missing'),
    "an input twice": (
        lambda request: request.inputs.append(request.inputs[0]), "INVALID_ARGUMENT", 'input "carrier" is there twice'
    ),
    "single precision": (as_single, "INVALID_ARGUMENT", 'input "distance" is FP32, but the model was trained in double'),
    "values elsewhere": (
        lambda request: setattr(request.inputs[1], "datatype", "INT32"), "INVALID_ARGUMENT",
        'input "distance" is INT32, but its contents have no int_contents',
    ),
    "no such datatype": (
        lambda request: setattr(request.inputs[1], "datatype", "FP128"), "INVALID_ARGUMENT", '"distance" is "FP128"; known are'
    ),
    "half precision typed": (
        lambda request: setattr(request.inputs[1], "datatype", "FP16"), "INVALID_ARGUMENT", "send raw_input_contents"
    ),
    "another shape": (lambda request: request.inputs[1].shape.append(1 << 62), "INVALID_ARGUMENT", 'input "distance" has shape'),
    "endless dimensions": (
        lambda request: request.inputs[1].shape.extend([1 << 62] * 300), "INVALID_ARGUMENT", 'input "distance" has shape'
    ),
    "many inputs": (
        lambda request: request.inputs.extend([request.inputs[0]] * 100), "INVALID_ARGUMENT", "the request has 104 inputs"
    ),
    "nothing": (lambda request: request.Clear(), "NOT_FOUND", 'there is no model ""'),
    "raw and typed": (
        lambda request: request.raw_input_contents.extend([b""] * 4), "INVALID_ARGUMENT", "send one of them"
    ),
    "raw for some": (
        lambda request: request.raw_input_contents.append(b""), "INVALID_ARGUMENT", "has 1 entries for 4 inputs"
    ),
    "no such output": (
        lambda request: request.outputs.add(name="logits"), "INVALID_ARGUMENT", 'no output "logits"; the model has predict'
    ),
    "explanations of none": (
        lambda request: setattr(request.parameters["explain"], "string_param", "yes"), "INVALID_ARGUMENT",
        'the parameter "explain" must be true or false',
    ),
    "bytes that are no text": (
        lambda request: request.inputs[0].contents.bytes_contents.__setitem__(0, b"\xff"), "INVALID_ARGUMENT", 'input "carrier"'
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_as_by_rest(change: Any, code: str, words: str, address: str) -> None:
    found, said = refusal(address, changed(change))
    assert found == code
    assert words in said


def test_what_never_reached_a_model_counts_as_no_failure_of_it(server: tuple[ServerProcess, str]) -> None:
    process, address = server

    def counted(wrong: str, times: int) -> float:
        before = process.metric("model_infer_request_failure_total")
        for _ in range(times):
            refusal(address, changed(WRONG[wrong][0]))
        return process.metric("model_infer_request_failure_total") - before

    assert counted("another version", 2) == counted("another model", 2) == 0
    assert counted("an input too few", 3) == 3


def test_bytes_that_are_no_message_and_messages_that_are_too_long(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(f"/{'inference.GRPCInferenceService'}/ModelInfer")
        for content, code, words in (
            (b"\xff\xff", "INVALID_ARGUMENT", "the message is no ModelInferRequest"),
            (b"\x3a" + b"\x80\x80\x80\x08" + bytes(1 << 24), "RESOURCE_EXHAUSTED", "larger than max"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                method(content, timeout=10)
            assert refused.value.code().name == code
            assert words in refused.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/inference.GRPCInferenceService/ModelStreamInfer")(b"", timeout=10)
        assert refused.value.code().name == "UNIMPLEMENTED"


def test_health_check_of_grpc(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refused:
            check(b"\x0a\x05other", timeout=10)
        assert refused.value.code().name == "NOT_FOUND"


def test_many_at_once_each_get_their_own_answer(address: str, made: models.MadeModel) -> None:
    expected = made.expected(FRAME)[0]

    def one(row: int) -> tuple[bool, str]:
        response = call(address, typed(FRAME.iloc[row : row + 1], id=f"row{row}"))
        return response.outputs[0].contents.bool_contents[0], response.id

    with ThreadPoolExecutor(8) as threads:
        rows = list(range(len(FRAME))) * 2
        assert list(threads.map(one, rows)) == [(expected[row], f"row{row}") for row in rows]


def test_libraries_are_loaded_for_who_asks_only(server: tuple[ServerProcess, str], made: models.MadeModel) -> None:
    assert "cygrpc" in Path(f"/proc/{server[0].process.pid}/maps").read_text()
    with server_process(made.directory) as without:
        maps = Path(f"/proc/{without.process.pid}/maps").read_text()
        assert "cygrpc" not in maps
        assert "protobuf" not in maps


def lives(address: str, trusted: Path) -> bool:
    """Whether a server with this certificate answers there."""
    with triton.InferenceServerClient(address, ssl=True, root_certificates=str(trusted)) as client:
        try:
            return bool(client.is_server_live())
        except InferenceServerException:
            return False


def test_tokens_and_tls_are_those_of_rest(made: models.MadeModel, tmp_path: Path) -> None:
    certificates.mount(tmp_path / "tls", certificates.made("first"))
    certificates.mount(tmp_path / "tokens", {"alice": b"wonderland\n"})
    options = {"tls_directory": str(tmp_path / "tls"), "tokens_directory": str(tmp_path / "tokens")}
    (tmp_path / "first.crt").write_bytes(certificates.made("first")["tls.crt"])
    (tmp_path / "second.crt").write_bytes(certificates.made("second")["tls.crt"])
    with serving(made.directory, **options) as (_, address):

        def connected(name: str) -> Any:
            return triton.InferenceServerClient(address, ssl=True, root_certificates=str(tmp_path / f"{name}.crt"))

        with connected("first") as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            for headers in ({}, {"authorization": "Bearer looking-glass"}):
                with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED.*must be `Bearer`"):
                    client.infer(models.MODEL, inputs(FRAME), headers=headers)
            result = client.infer(models.MODEL, inputs(FRAME), headers={"authorization": "Bearer wonderland"})
            assert result.as_numpy("predict").tolist() == made.expected(FRAME)[0]
        certificates.mount(tmp_path / "tls", certificates.made("second"))
        until("the new certificate is used", lambda: lives(address, tmp_path / "second.crt"), 10)


def test_a_broken_certificate_hides_no_good_one_before_it(made: models.MadeModel, tmp_path: Path) -> None:
    first, second = certificates.made("first"), certificates.made("second")
    certificates.mount(tmp_path / "tls", first)
    certificates.mount(tmp_path / "tokens", {"alice": b"wonderland"})
    (tmp_path / "second.crt").write_bytes(second["tls.crt"])
    options = {"tls_directory": str(tmp_path / "tls"), "tokens_directory": str(tmp_path / "tokens")}
    with serving(made.directory, **options) as (server, address):
        certificates.mount(tmp_path / "tls", second)
        until("HTTP uses the second", lambda: server.metric("kaizen_server_tls_reloads_total") == 1, 10, server.log)
        certificates.mount(tmp_path / "tokens", {"alice": b"wonderland", "bob": b"builder"})
        until("a second has passed", lambda: server.metric("kaizen_server_token_reloads_total") == 1, 10, server.log)
        certificates.mount(tmp_path / "tls", {**second, "tls.key": first["tls.key"]})
        until("the broken one was seen", lambda: "is not the key of" in server.log(), 10, server.log)
        assert lives(address, tmp_path / "second.crt")


def as_onnx(made: models.MadeModel, directory: Path) -> Path:
    """The same model as an ONNX graph, whose calls are joined."""
    directory.mkdir()
    for path in made.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    kinds = {name: StringTensorType if name == "carrier" else FloatTensorType for name in models.COLUMNS}
    types = [(name, kind([None, 1])) for name, kind in kinds.items()]
    graph = to_onnx(made.pipeline, initial_types=types, options={"zipmap": False})
    (directory / "model.onnx").write_bytes(graph.SerializeToString())
    taken = [
        {"name": one.name, "type": "tensor(string)" if one.name == "carrier" else "tensor(float)", "columns": [i], "flat": False}
        for i, one in enumerate(graph.graph.input)
    ]
    document = json.loads((directory / "engine.json").read_text())
    document |= {"kind": "onnx", "graph": {"inputs": taken, "label": "label", "scores": "probabilities", "form": "columns"}}
    (directory / "engine.json").write_text(json.dumps(document))
    models.seal(directory)
    return directory


def test_calls_of_a_slow_engine_are_joined_and_the_end_loses_none(made: models.MadeModel, tmp_path: Path) -> None:
    directory = as_onnx(made, tmp_path / "model")
    expected = made.expected(FRAME)[0]
    stopped = threading.Event()
    failures: list[str] = []

    def ask_on(row: int) -> int:
        answered = 0
        with grpc.insecure_channel(address) as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            request = typed(FRAME.iloc[row : row + 1])
            while not stopped.is_set():
                try:
                    response = infer(request, timeout=10)
                except grpc.RpcError as problem:
                    failures.append(f"{problem.code().name}: {problem.details()}")
                    return answered
                answered += response.outputs[0].contents.bool_contents[0] == expected[row]
        return answered

    with serving(directory, drain_seconds=1) as (server, address), ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(ask_on, row) for row in range(6)]
        until("some are answered", lambda: server.metric("kaizen_server_rows_total") >= 60, 20)
        server.process.send_signal(signal.SIGTERM)
        with triton.InferenceServerClient(address) as client:
            until("it is not ready any more", lambda: not client.is_server_ready(), 5)
            client.infer(models.MODEL, inputs(FRAME))
            assert server.process.poll() is None
        stopped.set()
        assert server.process.wait(20) == 0
        assert sum(one.result() for one in asking) >= 60
        assert failures == []


def test_port_that_is_taken_ends_the_server_with_a_sentence(made: models.MadeModel, server: tuple[ServerProcess, str]) -> None:
    port = int(server[1].rpartition(":")[2])
    for workers in (1, 2):
        with server_process(made.directory, grpc_port=port, workers=workers, ready=False) as second:
            assert second.process.wait(20) == 1
            assert f"cannot listen on port {port}" in second.log()


def test_workers_share_the_port(made: models.MadeModel) -> None:
    with serving(made.directory, workers=2) as (server, address):

        def some() -> bool:
            for _ in range(4):
                call(address, typed(FRAME.head(1)))
            return server.metric("kaizen_server_rows_total") >= 16

        until("both answer", some, 20)
        assert len(server.workers()) == 2
        assert "cygrpc" not in Path(f"/proc/{server.process.pid}/maps").read_text()
