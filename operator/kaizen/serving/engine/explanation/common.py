"""What explanations share: from which inputs columns come, and the sentence for what has none."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms import Table

__all__ = ["Additive", "Sources", "Unit", "no_explanations", "places"]

Unit = Literal["answer", "log-odds", "logarithm", "score"]
"""What scores are: the answer itself, log-odds or the logarithm of it, or what it is some rising function of."""
Sources = Sequence[frozenset[int]]
"""Of each column: the inputs that it is made of, by place."""


class Additive(Protocol):
    """A model whose scores are a base and what each input adds."""

    @property
    def outputs(self) -> int:
        """Scores of a row."""

    @property
    def unit(self) -> Unit:
        """Of the scores."""

    @property
    def base(self) -> Matrix:
        """Of each output."""

    def values(self, table: Table) -> Matrix:
        """What inputs add, (rows, outputs, inputs).  Raises Refused."""


def no_explanations(reason: str) -> Refused:
    """The refusal of a model that cannot be explained exactly."""
    return Refused(f"this model explains no single answers: {reason}; which inputs matter is in its report, report.html")


def places(sources: Sources, used: Iterable[int], inputs: Sequence[str]) -> Any:
    """Of each column the place of the input that it comes from; 0 for columns that are not used.

    Raises Refused when a used column is made of several inputs.
    """
    made = np.zeros(len(sources), dtype=np.int64)
    for column in used:
        found = sorted(sources[column])
        if len(found) > 1:
            mixed = ", ".join(repr(inputs[place]) for place in found[:5]) + (", …" if len(found) > 5 else "")
            raise no_explanations(f"it reads columns that are each made of several inputs ({mixed})")
        made[column] = found[0] if found else 0  # a column that never changes adds nothing
    return made
