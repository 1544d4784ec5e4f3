"""Reading a spec: what the schema let pass long ago may not fit today's models."""

from typing import TypeVar

from pydantic import ValidationError

from kaizen.api.base import Model
from kaizen.core.plan import Object, Terminal

Spec = TypeVar("Spec", bound=Model)


def read_spec(owner: Object, model: type[Spec]) -> Spec | Terminal:
    """The spec as its model, or the outcome that says in one sentence which field is wrong."""
    try:
        return model.model_validate(owner["spec"])
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("spec", *first["loc"]))
        return Terminal("InvalidSpec", f"{field}: {first['msg']}.")
