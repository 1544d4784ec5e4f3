"""What an ensemble of trees says, input by input: its trees as Treelite holds them, for Shapley values.

Treelite keeps how many training rows came by each node: their weights or, of XGBoost, second derivatives (`sum_hess`), else their
number (`data_count`).  These are what shap reads from the fitted estimators, so nothing more is written down for them.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.explanation.common import Sources, Unit, no_explanations, places
from kaizen.serving.engine.explanation.shapley import AT_ONCE, CATEGORIES, Nodes, Tree, join
from kaizen.serving.engine.models.trees import Boosting, Forest, XGBoost
from kaizen.serving.engine.native import Trees
from kaizen.serving.engine.transforms import Table

__all__ = ["OfTrees"]

MOST_NODES = 500_000
"""Explaining a row goes through all of them, while no other request is answered."""
POINTS = 8
"""Expected of deep trees; only decides how many go together."""
CLOSE = {"float64": 1e-6, "float32": 1e-3}
"""How near explanations must come to the sums that they explain, relative to the largest."""
_LESS, _LESS_OR_EQUAL = 2, 3
"""Treelite's comparisons."""


class OfTrees:
    """Shapley values of the margins of boosted trees, or of the means of a forest."""

    def __init__(self, model: Boosting | Forest | XGBoost, sources: Sources, inputs: Sequence[str], unit: Unit) -> None:
        self._model, self._sources, self._inputs = model, sources, inputs
        self._divisor = model.divisor if isinstance(model, Forest) else 1.0
        self.outputs, self.unit = model.outputs, unit

    @cached_property
    def base(self) -> Matrix:
        """What is answered when nothing is known of a row."""
        sums = np.zeros(self.outputs)
        for nodes, _ in self._parts:
            outputs, added = nodes.base
            for place, values in enumerate(added.T):
                sums += np.bincount(outputs + place, weights=values, minlength=self.outputs)
        return sums / self._whole

    def values(self, table: Table) -> Matrix:
        """What inputs add, (rows, outputs, inputs)."""
        given = self._model.given(table)
        width = len(self._inputs)
        made = np.zeros((len(given), self.outputs, width))
        for row, sums in zip(given.astype(np.float64), made, strict=True):
            for nodes, sources in self._parts:
                for place, added in enumerate(nodes.explain(row)):
                    at = (nodes.output + place) * width + sources
                    sums += np.bincount(at, weights=added, minlength=sums.size).reshape(sums.shape)
        made /= self._whole
        self._check(made, given)
        return made

    def _check(self, made: Matrix, given: Any) -> None:
        """An explanation that does not add up to the answer is none."""
        told = self._model.ensemble.many(given) / self._divisor
        if not np.abs(self.base + made.sum(axis=2) - told).max() <= CLOSE[told.dtype.name] * max(1.0, np.abs(told).max()):
            raise no_explanations("what its trees add up to is not what its inputs are found to add")

    @cached_property
    def _whole(self) -> float:
        """What sums of leaves are divided by."""
        trees = self._model.ensemble
        return self._divisor * (int(trees.field("num_tree")[0]) if trees.field("average_tree_output")[0] else 1)

    @cached_property
    def _parts(self) -> list[tuple[Nodes, Any]]:
        """Trees that are explained together, and the place of the input that each of their edges asks for."""
        trees = self._model.ensemble
        count = int(trees.field("num_tree")[0])
        sizes = [int(trees.field("num_nodes", number)[0]) for number in range(count)]
        if sum(sizes) > MOST_NODES:
            raise no_explanations(f"its trees have {sum(sizes)} nodes, and explaining one row takes too long beyond {MOST_NODES}")
        classes = trees.field("class_id")
        read = [_read(trees, number, max(0, int(classes[number]))) for number in range(count)]
        used = {int(feature) for tree in read for feature in np.unique(tree.feature[tree.left >= 0])}
        place = places(self._sources, used, self._inputs)
        parts = []
        group: list[Tree] = []
        for number, tree in enumerate(read):
            group.append(tree)
            if number + 1 == count or sum(len(one.kind) for one in group) + sizes[number + 1] > AT_ONCE // POINTS:
                nodes = join(group)
                parts.append((nodes, np.where(nodes.feature < 0, 0, place[nodes.feature])))
                group = []
        return parts


def _read(trees: Trees, number: int, output: int) -> Tree:
    def field(name: str) -> Any:
        return trees.field(name, number)

    kind, left, threshold = field("node_type"), field("cleft"), field("threshold")
    comparison = field("cmp")[(kind != CATEGORIES) & (left >= 0)]
    if (comparison == _LESS).all():
        threshold = np.nextafter(threshold, -np.inf, dtype=threshold.dtype)
    elif not (comparison == _LESS_OR_EQUAL).all():
        raise no_explanations("its trees compare in a way that is not explained")
    first, end = field("category_list_begin").astype(np.int64), field("category_list_end").astype(np.int64)
    listing = np.repeat(np.arange(len(kind)), end - first)
    return Tree(
        kind=kind.astype(np.int64),
        left=left.astype(np.int64),
        right=field("cright").astype(np.int64),
        feature=field("split_index").astype(np.int64),
        threshold=threshold.astype(np.float64),
        missing_left=field("default_left") != 0,
        listed_right=field("category_list_right_child") != 0,
        listed=np.stack([listing, field("category_list").astype(np.int64)]),
        cover=_cover(field),
        value=_values(field, kind),
        output=output,
    )


def _cover(field: Any) -> Matrix:
    for name in ("sum_hess", "data_count"):
        present = field(f"{name}_present")
        if len(present) and present.all():
            made: Matrix = field(name).astype(np.float64)
            return made
    raise no_explanations("its trees do not say how many training rows came by their nodes")


def _values(field: Any, kind: Any) -> Matrix:
    vector = field("leaf_vector")
    if not len(vector):
        made: Matrix = field("leaf_value").astype(np.float64)[:, None]
        return made
    first, end = field("leaf_vector_begin").astype(np.int64), field("leaf_vector_end").astype(np.int64)
    leaves = np.flatnonzero(kind == 0)
    values = np.zeros((len(kind), int((end - first).max())))
    values[leaves] = vector[first[leaves][:, None] + np.arange(values.shape[1])]
    return values
