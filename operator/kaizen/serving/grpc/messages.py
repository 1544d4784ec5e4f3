"""The messages of the Open Inference Protocol's gRPC service, and of gRPC's health check, as tables for protobuf.py."""

from collections.abc import Mapping

__all__ = ["HEALTH", "INFERENCE", "INFERENCE_METHODS"]

INFERENCE_METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
)

_MODEL = {1: "string name", 2: "string version"}
_TENSOR = {
    1: "string name",
    2: "string datatype",
    3: "repeated int64 shape",
    4: "map InferParameter parameters",
    5: "InferTensorContents contents",
}
_METADATA = {1: "string name", 2: "string datatype", 3: "repeated int64 shape", 4: "map InferParameter parameters"}

INFERENCE: Mapping[str, Mapping[int, str]] = {
    "InferParameter": {
        1: "oneof bool bool_param",
        2: "oneof int64 int64_param",
        3: "oneof string string_param",
        4: "oneof double double_param",
        5: "oneof uint64 uint64_param",
    },
    "InferTensorContents": {
        1: "repeated bool bool_contents",
        2: "repeated int32 int_contents",
        3: "repeated int64 int64_contents",
        4: "repeated uint32 uint_contents",
        5: "repeated uint64 uint64_contents",
        6: "repeated float fp32_contents",
        7: "repeated double fp64_contents",
        8: "repeated bytes bytes_contents",
    },
    "ServerLiveRequest": {},
    "ServerLiveResponse": {1: "bool live"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {1: "bool ready"},
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": {1: "bool ready"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {1: "string name", 2: "string version", 3: "repeated string extensions"},
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": {
        1: "string name",
        2: "repeated string versions",
        3: "string platform",
        4: "repeated ModelMetadataResponse.TensorMetadata inputs",
        5: "repeated ModelMetadataResponse.TensorMetadata outputs",
    },
    "ModelMetadataResponse.TensorMetadata": _METADATA,
    "ModelInferRequest": {
        1: "string model_name",
        2: "string model_version",
        3: "string id",
        4: "map InferParameter parameters",
        5: "repeated ModelInferRequest.InferInputTensor inputs",
        6: "repeated ModelInferRequest.InferRequestedOutputTensor outputs",
        7: "repeated bytes raw_input_contents",
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {1: "string name", 2: "map InferParameter parameters"},
    "ModelInferResponse": {
        1: "string model_name",
        2: "string model_version",
        3: "string id",
        4: "map InferParameter parameters",
        5: "repeated ModelInferResponse.InferOutputTensor outputs",
        6: "repeated bytes raw_output_contents",
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "RepositoryIndexRequest": {1: "string repository_name", 2: "bool ready"},
    "RepositoryIndexResponse": {1: "repeated RepositoryIndexResponse.ModelIndex models"},
    "RepositoryIndexResponse.ModelIndex": {1: "string name", 2: "string version", 3: "string state", 4: "string reason"},
}

HEALTH: Mapping[str, Mapping[int, str]] = {
    "HealthCheckRequest": {1: "string service"},
    "HealthCheckResponse": {1: "int32 status"},  # an enumeration, which travels as an int32
}
