"""Whether a run would only make again what is there: the operator knows the versions of its recipe, the run its data and code."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["already_trained"]


def already_trained(environment: Mapping[str, str], data_digest: str, code_digest: str | None = None) -> dict[str, Any] | None:
    """{version, digest} of the newest version that this recipe made of these data by this code; None when there is none.

    KAIZEN_KNOWN lists the versions of the recipe, newest first.  `code_digest` None: the recipe pins the code.
    """
    try:
        known = json.loads(environment.get("KAIZEN_KNOWN") or "[]")
    except ValueError:
        return None
    for one in known if isinstance(known, list) else ():
        if one.get("dataDigest") == data_digest and (code_digest is None or one.get("codeDigest") == code_digest):
            return {"version": one["version"], "digest": one["digest"]}
    return None
