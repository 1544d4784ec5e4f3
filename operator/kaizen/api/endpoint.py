"""How requests reach an InferenceService: who may ask, over what, and how much at once."""

from typing import Annotated

from pydantic import ConfigDict, Field

from kaizen.api.base import AS_SET, Model, ObjectName, rules

__all__ = ["TLS", "Authentication", "Endpoint"]

Origin = Annotated[str, Field(max_length=253, pattern=r"^(\*|https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?)$")]


class Authentication(Model):
    """Only requests with a token (`Authorization: Bearer TOKEN`) are answered."""

    secret_name: ObjectName
    """Secret of which every value is such a token; read anew when it changes."""


class TLS(Model):
    """https instead of http, and gRPC likewise."""

    secret_name: ObjectName
    """Secret with tls.crt and tls.key; read anew when it changes."""


class Endpoint(Model):
    """What clients may do; more than one server process takes on is refused at once."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "!has(self.corsOrigins) || !('*' in self.corsOrigins) || size(self.corsOrigins) == 1",
            "endpoint.corsOrigins must be either * alone or a list of origins",
        ),
    ))  # fmt: skip

    grpc: bool = False
    """Also inference.GRPCInferenceService, at port 8081."""
    cors_origins: Annotated[list[Origin], Field(min_length=1, max_length=64, json_schema_extra=AS_SET)] | None = None
    """Of web pages that may ask, such as https://app.example.com; * for all."""
    body_bytes_at_most: Annotated[int, Field(ge=1024, le=1_073_741_824)] = 8_388_608
    """Of one request: 413."""
    connections_at_most: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    """At the same time."""
    waiting_at_most: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Unfinished requests: 503."""
