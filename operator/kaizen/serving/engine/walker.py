"""Trees walked by a few lines of C of our own (walk.c), in a fifth of the time that Treelite's interpreter takes.

The trees stay in Treelite's file and are loaded by its library; here their nodes are laid out anew.  Nothing is believed of that:
Treelite is asked the same rows, on the thresholds and beside them, and only where every sum has the same bits is it relieved.
The library is made where the environment is made (hack/environment.py, images/shared/compile.sh); without it, and for trees that
walk.c does not know, Treelite answers as before.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATEGORY", "LIBRARY", "SOURCE", "Walker", "agreeing"]

SOURCE = Path(__file__).with_name("walk.c")
LIBRARY = Path(sys.prefix) / "lib" / "libkaizenwalk.so"
"""`cc -O3 -ffp-contract=off -shared -fPIC -o LIBRARY SOURCE`."""

MOST_NODES = 500_000
"""Laying out takes a microsecond a node, and memory for a moment; trees beyond are waiting for memory anyway."""
MOST_WORDS = 4_000_000
"""Of bits for categories: 16 MB."""
COMPARED_ROWS = 256
COMPARED_ALONE = 16

_MISSING_RIGHT, _CATEGORICAL, _MATCH_RIGHT = 1 << 31, 1 << 30, 1 << 29
CATEGORY, _LESS_OR_EQUAL = 2, 3
"""Treelite's kind of node, and of comparison."""
_NODE = np.dtype([("split", "f8"), ("column", "u4"), ("child", "i4")])

Field = Callable[[str, int], NDArray[Any]]
Sums = Callable[[NDArray[Any]], NDArray[Any]]


class _Forest(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("nodes", "leaves", "values", "roots", "depths", "firsts", "bits")),
        *((name, ctypes.c_int64) for name in ("trees", "width", "outputs", "values_width", "has_categories")),
        ("divisor", ctypes.c_double),
    )


class Unknown(Exception):
    """Trees that walk.c does not know."""


def agreeing(field: Field, header: Callable[[str], NDArray[Any]], sums: Sums, width: int, outputs: int) -> "Walker | None":
    """A walker that adds up the very bits that `sums` does, or None.

    Args:
        field: a field of a tree, by Treelite's name and the tree's number.
        header: a field of the ensemble.
        sums: Treelite's sums for a matrix.
        width: columns of that.
        outputs: of the sums.
    """
    function = _function()
    if function is None:
        return None
    try:
        made = Walker(function, field, header, width, outputs)
    except Unknown:
        return None
    rows = made.hostile()
    wanted = sums(rows)
    same = np.array_equal(made.many(rows), wanted)
    alone = [made.many(rows[i : i + 1]) for i in range(COMPARED_ALONE)]
    return made if same and np.array_equal(np.concatenate(alone), wanted[:COMPARED_ALONE]) else None


@cache
def _function() -> Any:
    """Keeps the interpreter: a slice of rows takes less time than to get it back might."""
    try:
        function = ctypes.PyDLL(os.fspath(LIBRARY)).kaizen_walk
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_int
    return function


class Walker:
    """An ensemble as walk.c reads it."""

    def __init__(self, function: Any, field: Field, header: Callable[[str], NDArray[Any]], width: int, outputs: int) -> None:
        """Raises Unknown."""
        self.function, self._width, self._outputs = function, width, outputs
        trees = int(header("num_tree")[0])
        lefts = [field("cleft", tree) for tree in range(trees)]
        sizes = np.array([len(one) for one in lefts])
        if not trees or sizes.sum() > MOST_NODES or width >= _MATCH_RIGHT or np.any(header("base_scores")):
            raise Unknown

        def all_of(name: str) -> NDArray[Any]:
            return np.concatenate([field(name, tree) for tree in range(trees)])

        tree = np.repeat(np.arange(trees), sizes)
        roots = np.cumsum(sizes) - sizes
        left, right = (roots[tree] + children for children in (np.concatenate(lefts), all_of("cright")))
        inner = np.concatenate(lefts) >= 0
        kinds, columns = all_of("node_type"), all_of("split_index")
        if not np.all((all_of("cmp") == _LESS_OR_EQUAL) | ~inner | (kinds == CATEGORY)):
            raise Unknown
        if columns[inner].max(initial=0) >= width or np.any(2 * np.bincount(tree, inner) + 1 != sizes):
            raise Unknown
        place, child = _places(roots, tree, left, right, inner)
        column = np.where(inner, columns, 0).astype(np.uint32)
        column[inner & (all_of("default_left") == 0)] |= np.uint32(_MISSING_RIGHT)
        split = np.where(inner, all_of("threshold"), np.inf)  # a leaf goes left, to itself
        bits = _categories(field, np.flatnonzero(inner & (kinds == CATEGORY)), tree, roots, column, split)
        self._nodes = np.zeros(len(tree), dtype=_NODE)
        for name, values in (("split", split), ("column", column), ("child", child)):
            self._nodes[name][place] = values
        leaves = np.zeros(len(tree), dtype=np.int32)
        leaves[place[~inner]] = np.arange((~inner).sum())
        values, firsts, divisor = self._values(all_of, header, inner, trees)
        self._arrays = (
            self._nodes,
            leaves,
            values,
            roots.astype(np.int32),
            _depths(left, right, roots, tree, inner),
            firsts,
            bits,
        )
        addresses = (array.ctypes.data for array in self._arrays)
        forest = _Forest(*addresses, trees, width, outputs, values.shape[1], len(bits) > 0, divisor)
        self._forest, self._pointer = forest, ctypes.byref(forest)

    def arguments(self, row: NDArray[np.float64], out: NDArray[np.float64]) -> tuple[Any, ...]:
        """What `function` takes for one row, from one kept buffer into another."""
        return self._pointer, ctypes.c_void_p(row.ctypes.data), ctypes.c_int64(1), ctypes.c_void_p(out.ctypes.data)

    def many(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums (rows, outputs) for a contiguous matrix (rows, width)."""
        sums = np.empty((len(matrix), self._outputs))
        source, target = ctypes.c_void_p(matrix.ctypes.data), ctypes.c_void_p(sums.ctypes.data)
        self.function(self._pointer, source, ctypes.c_int64(len(matrix)), target)
        return sums

    def hostile(self) -> NDArray[np.float64]:
        """Rows on the thresholds and one step beside them, small whole numbers as categories are, missing and infinite values."""
        random = np.random.default_rng(0)
        shape = (COMPARED_ROWS, self._width)
        rows = random.integers(-2, 40, shape).astype(np.float64)
        seen = self._nodes[(self._nodes["split"] != np.inf) & (self._nodes["column"] & _CATEGORICAL == 0)]
        columns = seen["column"] & (_MATCH_RIGHT - 1)
        order = np.argsort(columns, kind="stable")
        columns, thresholds = columns[order], seen["split"][order]
        for column in np.unique(columns):
            first, last = np.searchsorted(columns, (column, column + 1))
            chosen = random.choice(thresholds[first:last], COMPARED_ROWS)
            ways = (
                chosen,
                np.nextafter(chosen, np.inf),
                np.nextafter(chosen, -np.inf),
                chosen + random.normal(size=COMPARED_ROWS),
            )
            rows[:, column] = np.choose(random.integers(0, len(ways), COMPARED_ROWS), ways)
        for value, share in ((np.nan, 0.02), (np.inf, 0.005), (-np.inf, 0.005), (1e300, 0.005), (0.5, 0.01)):
            rows[random.random(shape) < share] = value
        return rows

    def _values(
        self, all_of: Callable[[str], NDArray[Any]], header: Callable[[str], NDArray[Any]], inner: NDArray[Any], trees: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int32], float]:
        """Leaves (leaves, values), the output to which a tree's values are added from, and what the sums are divided by."""
        average = bool(header("average_tree_output")[0])
        vectors = all_of("leaf_vector")
        if len(vectors):
            # One a leaf, in the order of the nodes: so the builders and importers write them.
            if len(vectors) != (~inner).sum() * self._outputs:
                raise Unknown
            values = vectors.astype(np.float64).reshape(-1, self._outputs)
            return values, np.zeros(trees, dtype=np.int32), float(trees if average else 0)
        firsts = np.maximum(header("class_id"), 0).astype(np.int32)
        if len(firsts) != trees or np.any(header("target_id") > 0) or firsts.max() >= self._outputs:
            raise Unknown
        values = np.ascontiguousarray(all_of("leaf_value")[~inner].astype(np.float64)[:, None])
        return values, firsts, trees / self._outputs if average else 0.0


def _places(
    roots: NDArray[Any], tree: NDArray[Any], left: NDArray[Any], right: NDArray[Any], inner: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where each node goes, and where its left child is, right beside the other: a leaf's is itself.

    Of a tree's inner nodes the k-th has its children at 1 + 2k and 2 + 2k behind the root.
    """
    before = np.cumsum(inner) - inner
    first = roots[tree] + 1 + 2 * (before - before[roots][tree])
    place = roots[tree].copy()
    place[left[inner]], place[right[inner]] = first[inner], first[inner] + 1
    return place, np.where(inner, first, place)


def _depths(
    left: NDArray[Any], right: NDArray[Any], roots: NDArray[Any], tree: NDArray[Any], inner: NDArray[Any]
) -> NDArray[np.int32]:
    """Of each tree."""
    depths = np.zeros(len(roots), dtype=np.int32)
    level, nodes = 0, roots[inner[roots]]
    while len(nodes):
        level += 1
        depths[tree[nodes]] = level
        nodes = np.concatenate((left[nodes], right[nodes]))
        nodes = nodes[inner[nodes]]
    return depths


def _categories(
    field: Field, nodes: NDArray[Any], tree: NDArray[Any], roots: NDArray[Any], column: NDArray[Any], split: NDArray[Any]
) -> NDArray[np.uint32]:
    """The matching categories of all nodes that ask for some, as bits; puts their place into `split` and flags into `column`."""
    words: list[NDArray[np.uint32]] = []
    used = 0
    for number in np.unique(tree[nodes]):
        matching, begins, ends, to_right = (
            field(name, int(number))
            for name in ("category_list", "category_list_begin", "category_list_end", "category_list_right_child")
        )
        for node in nodes[tree[nodes] == number]:
            at = node - roots[number]
            matches = matching[int(begins[at]) : int(ends[at])].tolist()
            if used + max(matches, default=0) // 32 >= MOST_WORDS:  # a bit for each number up to the largest category
                raise Unknown
            mask = _bits(matches)
            column[node] |= np.uint32(_CATEGORICAL | (_MATCH_RIGHT if to_right[at] else 0))
            split[node] = np.array((used, len(mask)), dtype=np.uint32).view(np.float64)[0]
            words.append(mask)
            used += len(mask)
    return np.concatenate(words) if words else np.zeros(0, dtype=np.uint32)


def _bits(numbers: Sequence[int]) -> NDArray[np.uint32]:
    mask = np.zeros(max(numbers, default=0) // 32 + 1, dtype=np.uint32)
    for number in numbers:
        mask[number // 32] |= np.uint32(1 << number % 32)
    return mask
