"""What passes from step to step while a pipeline is compiled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.transforms.common import Takes

__all__ = [
    "Flow",
    "Uncovered",
    "doubles_only",
    "finite",
    "is_a",
    "is_known",
    "is_sklearn",
    "numbers_only",
    "takes",
]


class Uncovered(Exception):
    """Leaves the compilation from any depth with the reason."""


@dataclass(frozen=True)
class Flow:
    """A table on its way: how wide it is, and of what."""

    datatypes: list[str]
    """Of each column: those of inputs at first, or NumPy's type of dates; then FP64, or BYTES as long as strings stay strings."""
    missing: list[Any]
    """What a missing value of each column is to scikit-learn: None or NaN."""
    values: list[frozenset[float] | None] = field(default_factory=list)
    """The numbers that a column can hold besides NaN, where an encoder bounds them."""
    sparse: bool = False
    """Whether scikit-learn passes a sparse matrix on."""
    absent: bool = False
    """Whether it holds no zeros: to XGBoost what a sparse matrix does not hold is missing, and a zero that it holds is not."""
    flat: bool = False
    """Whether scikit-learn passes one column as an array of one dimension, as it does for texts."""
    single: bool = False
    """Whether scikit-learn passes numbers of 32 bits on, in which it would then reckon."""
    objects: bool = False
    """Whether scikit-learn passes Python's objects on, of which it does not look for infinite ones."""
    frame: bool = False
    """Whether it is still the DataFrame of the request."""
    places: list[int] = field(default_factory=list)
    """Where scikit-learn's columns are in the engine's table, which lacks the ones that nothing reads."""

    most: ClassVar[int] = 10_000
    """Columns: a wider table costs more as lists and matrices than scikit-learn's sparse ones do."""

    @classmethod
    def numbers(
        cls,
        width: int,
        values: Sequence[frozenset[float] | None] | None = None,
        *,
        sparse: bool = False,
        absent: bool = False,
        single: bool = False,
    ) -> "Flow":
        """So many columns of numbers."""
        return cls(
            ["FP64"] * width, [np.nan] * width, list(values or [None] * width), sparse=sparse, absent=absent, single=single
        )

    @property
    def width(self) -> int:
        """How many columns scikit-learn has here."""
        return len(self.datatypes)

    @property
    def table_width(self) -> int:
        """How many columns the engine's table has here."""
        return sum(place >= 0 for place in self.places) if self.places else self.width

    def of(self, columns: Sequence[int], *, flat: bool = False) -> "Flow":
        """Some of the columns, as a table of their own."""
        kinds, missing = [self.datatypes[i] for i in columns], [self.missing[i] for i in columns]
        values = [self.values[i] for i in columns] if self.values else []
        objects = "BYTES" in kinds if self.frame else self.objects
        return replace(self, datatypes=kinds, missing=missing, values=values, flat=flat, objects=objects, places=[])

    @property
    def objects_to_numpy(self) -> bool:
        """Whether NumPy makes an array of objects of it; of booleans beside numbers scikit-learn itself makes numbers."""
        return self.objects or (self.frame and "BOOL" in self.datatypes and len(set(self.datatypes)) > 1)

    def place(self, columns: Sequence[int]) -> list[int]:
        """Positions in the engine's table of scikit-learn's columns."""
        return [self.places[i] for i in columns] if self.places else [int(i) for i in columns]


def is_sklearn(thing: Any) -> bool:
    """Whether a class is scikit-learn's own."""
    return type(thing).__module__.split(".")[0] == "sklearn"


def is_known(thing: Any) -> bool:
    """Whether a class is of one of the packages whose estimators can be compiled."""
    return type(thing).__module__.split(".")[0] in ("sklearn", "lightgbm", "xgboost")


def is_a(thing: Any, name: str) -> bool:
    """Whether it is scikit-learn's class of this name."""
    return type(thing).__name__ == name and is_sklearn(thing)


def numbers_only(flow: Flow, what: str) -> None:
    """Raises Uncovered when strings or dates would reach `what`."""
    other = next((kind for kind in flow.datatypes if kind not in ("FP64", "INT64", "BOOL")), None)
    if other is not None:
        raise Uncovered(f"{'strings' if other == 'BYTES' else 'dates'} that reach {what} without an encoder are not compiled")


def doubles_only(flow: Flow, what: str) -> None:
    """Raises Uncovered when anything but numbers of 64 bits would reach `what`."""
    numbers_only(flow, what)
    if flow.single:
        raise Uncovered(f"numbers of 32 bits that reach {what} are not compiled")


def finite(numbers: Any, transformer: Any) -> list[float]:
    """As a list.  Raises Uncovered when a parameter is not a number, as of a column that had no value in training."""
    made: list[float] = np.asarray(numbers, dtype=np.float64).tolist()
    if not np.isfinite(made).all():
        raise Uncovered(f"{type(transformer).__name__} that learned no finite number of a column is not compiled")
    return made


def takes(flow: Flow, usual: Takes) -> Takes:
    """Which numbers a scikit-learn transformer lets pass; among Python's objects it finds no infinite ones."""
    return "Present" if flow.objects and usual == "Finite" else usual
