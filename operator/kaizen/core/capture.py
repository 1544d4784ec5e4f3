"""What a served version's servers are told of the rows that they keep."""

import json
from typing import Any

from kaizen.api.inference_service import InferenceServiceSpec

__all__ = ["environment", "given"]


def given(spec: InferenceServiceSpec) -> dict[str, Any]:
    """What a spec says of it that concerns servers; empty when it says nothing.  Retention is the operator's."""
    if spec.capture is None:
        return {}
    return {"capture": spec.capture.model_dump(mode="json", exclude={"retention_seconds"})}


def environment(spec: InferenceServiceSpec) -> dict[str, str]:
    """As the server reads it."""
    if spec.capture is None:
        return {}
    return {
        "KAIZEN_CAPTURE_SHARE": f"{spec.capture.sample_share:.12g}",
        "KAIZEN_CAPTURE_EXCLUDE": json.dumps(spec.capture.exclude),
        "KAIZEN_CAPTURE_HASH": json.dumps(spec.capture.hash),
    }
