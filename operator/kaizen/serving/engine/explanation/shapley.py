"""Exact Shapley values of ensembles of trees (Lundberg et al. 2020, path-dependent), for one row, in NumPy.

What leaf v adds to the value of input i is v · (o_i - z_i) · ∫ ∏ (t · o_j + (1 - t) · z_j) dt over the other inputs j on its
path: o says whether the row goes the leaf's way at the splits on an input, z which share of the training rows did.  The
integrand is a polynomial in t, so a few Gauss-Legendre points integrate it exactly, and all factors are positive, so nothing
cancels.  At each point the products are the same for all leaves below a node; one pass down the trees multiplies them, one up
adds leaves together, and each edge then says what its split did.  All trees go together, level by level.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine.base import Matrix

__all__ = ["AT_ONCE", "Nodes", "Tree", "join"]

AT_ONCE = 1 << 18
"""Numbers of one array while a row is explained: nodes times points."""
SMALLEST = 1e-30
"""For a share of 0: nothing is divided by 0, and nothing of it remains in a sum."""
LEAF, NUMBERS, CATEGORIES = 0, 1, 2
"""Treelite's kinds of nodes."""

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Tree:
    """One tree, an entry of each array for each node, the root first."""

    kind: Whole
    left: Whole
    right: Whole
    feature: Whole
    threshold: Matrix
    """A number up to and including it goes left; of categories nothing."""
    missing_left: Flags
    listed_right: Flags
    """Whether the listed categories go right."""
    listed: Whole
    """(2, …): nodes, and a category listed there."""
    cover: Matrix
    """How many training rows came by."""
    value: Matrix
    """Of leaves, (nodes, values)."""
    output: int
    """The first that the values count for."""


@dataclass(frozen=True)
class Nodes:
    """Some trees, level by level: first their roots, then the children of each inner node of a level, left and right."""

    levels: tuple[int, ...]
    """Where each level begins, and the end."""
    inner: Whole
    """Those with children, in order."""
    parent: Whole
    same: Whole
    """The nearest node above whose edge splits the same feature; 0, a root, which changes nothing, for none."""
    is_left: Flags
    feature: Whole
    """Of the edge above: what its parent splits."""
    share: Matrix
    """Of the training rows that came to the parent; times that of `same`."""
    split: Whole
    """The feature that a node itself splits, of inner nodes."""
    threshold: Matrix
    missing_left: Flags
    categorical: Whole
    """Places in `inner` of splits by category."""
    listed_right: Flags
    """Of those."""
    listed: Whole
    """(2, …): places in `categorical`, and a category listed there."""
    leaves: Whole
    value: Matrix
    """Of leaves, (leaves, values)."""
    output: Whole
    """Of each node."""
    depth: int
    """Different features on one path, at most."""

    @property
    def base(self) -> Any:
        """Pairs of outputs and what leaves add to them on average, (leaves,) and (leaves, values)."""
        reached = np.ones(len(self.parent))
        for first, end in self._slices():
            above = self.same[first:end]
            reached[first:end] = reached[self.parent[first:end]] * self.share[first:end] / self.share[above]
        return self.output[self.leaves], self.value * reached[self.leaves][:, None]

    def explain(self, row: Matrix) -> Iterator[Matrix]:
        """For each value of leaves: what each edge adds to it, (nodes,)."""
        times, weights = _points(self.depth)
        ways = self._ways(row)
        factor = ways[:, None] * times + self.share[:, None] * (1.0 - times)
        product = np.ones_like(factor)
        for first, end in self._slices():
            product[first:end] = product[self.parent[first:end]] * factor[first:end] / factor[self.same[first:end]]
        effect = (ways - self.share)[:, None] * weights / factor
        effect = effect - effect[self.same]
        below = np.empty_like(product)
        for values in self.value.T:
            below[self.leaves] = product[self.leaves] * values[:, None]
            for first, end in reversed(list(self._slices())):
                pairs = below[first:end].reshape(-1, 2, below.shape[1])
                below[self.parent[first:end:2]] = pairs[:, 0] + pairs[:, 1]
            yield np.einsum("nk,nk->n", below, effect)

    def _slices(self) -> Iterator[tuple[int, int]]:
        """Of levels below the roots."""
        return pairwise(self.levels[1:])

    def _ways(self, row: Matrix) -> Matrix:
        """1 where the row takes this edge and all above it that split the same feature, else 0."""
        given = row[self.split]
        goes_left = given <= self.threshold
        if len(self.categorical):
            goes_left[self.categorical] = self._listed(given[self.categorical]) != self.listed_right
        goes_left = np.where(np.isnan(given), self.missing_left, goes_left)
        left = np.zeros(len(self.parent), dtype=bool)
        left[self.inner] = goes_left
        ways = np.ones(len(self.parent))
        for first, end in self._slices():
            ways[first:end] = (left[self.parent[first:end]] == self.is_left[first:end]) * ways[self.same[first:end]]
        return ways

    def _listed(self, given: Matrix) -> Flags:
        places, categories = self.listed
        whole = np.where(given >= 0, np.trunc(given), -1.0)
        return np.bincount(places[whole[places] == categories], minlength=len(given)) > 0


@cache
def _points(depth: int) -> tuple[Matrix, Matrix]:
    """Points between 0 and 1 and their weights, exact for a polynomial of a degree below `depth`."""
    points, weights = np.polynomial.legendre.leggauss(max(1, (depth + 1) // 2))
    return (points + 1.0) / 2.0, weights / 2.0


def join(trees: Sequence[Tree]) -> Nodes:
    """Some trees as one."""
    starts = np.cumsum([0, *(len(tree.kind) for tree in trees)])

    def all_of(name: str, shift: bool = False) -> Any:
        arrays = [getattr(tree, name) for tree in trees]
        return np.concatenate([array + start for array, start in zip(arrays, starts, strict=False)] if shift else arrays)

    kind, left, right = all_of("kind"), all_of("left", True), all_of("right", True)
    output = np.repeat([tree.output for tree in trees], np.diff(starts))
    order, parents, levels = _by_level(starts[:-1], kind != LEAF, left, right)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = place[parents]
    split, cover = all_of("feature"), all_of("cover")
    feature = split[parents]
    feature[: levels[1]] = -1
    same = _nearest(parent, feature, levels[1])
    share, depth = _shares(cover[order], parent, same, levels)
    is_inner = kind[order] != LEAF
    inner, leaves = np.flatnonzero(is_inner), np.flatnonzero(~is_inner)
    found = order[inner]
    categorical = np.flatnonzero(kind[found] == CATEGORIES)
    listed = np.concatenate([tree.listed + np.array([[start], [0]]) for tree, start in zip(trees, starts, strict=False)], axis=1)
    among = np.zeros(len(order), dtype=np.int64)
    among[found[categorical]] = np.arange(len(categorical))
    is_left = np.zeros(len(order), dtype=bool)
    is_left[levels[1] :: 2] = True
    return Nodes(
        levels=levels,
        inner=inner,
        parent=parent,
        same=same,
        is_left=is_left,
        feature=feature,
        share=share,
        split=split[found],
        threshold=all_of("threshold")[found],
        missing_left=all_of("missing_left")[found],
        categorical=categorical,
        listed_right=all_of("listed_right")[found[categorical]],
        listed=np.stack([among[listed[0]], listed[1]]),
        leaves=leaves,
        value=all_of("value")[order[leaves]],
        output=output[order],
        depth=depth,
    )


def _by_level(roots: Whole, is_inner: Flags, left: Whole, right: Whole) -> tuple[Whole, Whole, tuple[int, ...]]:
    """All nodes in order, their parents (of a root itself), and where levels begin."""
    order, parents, levels = [roots], [roots], [0, len(roots)]
    while True:
        above = order[-1][is_inner[order[-1]]]
        if not len(above):
            break
        order.append(np.column_stack([left[above], right[above]]).ravel())
        parents.append(np.repeat(above, 2))
        levels.append(levels[-1] + 2 * len(above))
    return np.concatenate(order), np.concatenate(parents), tuple(levels)


def _nearest(parent: Whole, feature: Whole, roots: int) -> Whole:
    """Of each node the nearest one above whose edge splits the same feature; 0 for none."""
    same = np.zeros(len(parent), dtype=np.int64)
    left = np.arange(roots, len(parent))
    above = parent[left]
    while len(left):
        found = feature[above] == feature[left]
        same[left[found]] = above[found]
        on = ~found & (above >= roots)
        left, above = left[on], parent[above[on]]
    return same


def _shares(cover: Matrix, parent: Whole, same: Whole, levels: tuple[int, ...]) -> tuple[Matrix, int]:
    """See Nodes.share and Nodes.depth."""
    above = cover[parent]
    share = np.maximum(np.divide(cover, above, out=np.ones_like(cover), where=above > 0), SMALLEST)
    different = np.zeros(len(parent), dtype=np.int64)
    share[: levels[1]] = 1.0
    for first, end in pairwise(levels[1:]):
        share[first:end] *= share[same[first:end]]
        different[first:end] = different[parent[first:end]] + (same[first:end] == 0)
    return share, int(different.max())
