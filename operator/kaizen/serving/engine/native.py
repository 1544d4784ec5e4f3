"""Treelite's native library, without its Python package: find it, load trees, add up their leaves.

The wheel's package imports SciPy (143 MB); its library needs nothing.  GTIL checks no width and, once used with more than
one thread, hangs in a forked child: the width is checked here and the kept configuration says one thread.
"""

import ctypes
import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine.base import EngineError
from kaizen.serving.engine.walker import Walker, agreeing

__all__ = ["LIBRARY_VARIABLE", "Trees", "find"]

LIBRARY_VARIABLE = "KAIZEN_TREELITE_LIBRARY"
"""Environment: where the library is, when Treelite is not installed as a package."""

_NAME = "libtreelite.so"
_FLOAT64, _FLOAT32 = b"float64", b"float32"


def find() -> Path:
    """The path of the library.  Raises EngineError: neither named by the environment nor installed."""
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        return Path(named)
    package = importlib.util.find_spec("treelite")  # of a top-level name: finds the package without importing it
    if package is None or package.origin is None:
        raise EngineError(f"Treelite is not installed and {LIBRARY_VARIABLE} is not set; it must name {_NAME}")
    return Path(package.origin).parent / "lib" / _NAME


@cache
def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The library twice: calls through the first let other threads run, calls through the second do not.

    One row takes microseconds; giving up the interpreter for it could cost milliseconds to get back.
    """
    path = find()
    try:
        free, held = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
    except OSError as error:
        raise EngineError(f"{path} cannot be loaded: {error}") from error
    for library in (free, held):
        library.TreeliteGetLastError.restype = ctypes.c_char_p
    return free, held


def _check(status: int) -> None:
    if status != 0:
        raise EngineError(_libraries()[0].TreeliteGetLastError().decode(errors="replace"))


class _Frame(ctypes.Structure):
    """Treelite's view of an array of its own."""

    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("format", ctypes.c_char_p),
        ("itemsize", ctypes.c_size_t),
        ("items", ctypes.c_size_t),
    )


_KINDS = {**dict.fromkeys(b"BHLQ", "u"), **dict.fromkeys(b"bhlq", "i"), **dict.fromkeys(b"fd", "f")}
"""Of numbers, by the letter of their format."""


class Trees:
    """An ensemble of trees, answering with the sums (or means) of the leaves that rows reach.

    `row_in` (width,) and `row_out` (outputs,) are the kept buffers of `one`.
    """

    def __init__(self, path: Path, width: int, outputs: int, *, single: bool = False, each: bool = False) -> None:
        """Load a file that Treelite wrote.

        Args:
            path: the file.
            width: columns that the trees take.
            outputs: numbers that they give.
            single: whether all of it is in float32.
            each: give what each tree says instead of their sum.

        Raises:
            EngineError: the file holds other trees than those described.
        """
        self._free, held = _libraries()
        self._model = ctypes.c_void_p()
        self._configuration = ctypes.c_void_p()
        configuration = json.dumps({"predict_type": "score_per_tree" if each else "raw", "nthread": 1}).encode()
        _check(self._free.TreeliteDeserializeModelFromFile(os.fsencode(path), ctypes.byref(self._model)))
        _check(self._free.TreeliteGTILParseConfig(configuration, ctypes.byref(self._configuration)))
        self.width, self.outputs = width, outputs
        self._kind = _FLOAT32 if single else _FLOAT64
        self._dtype = np.dtype(self._kind.decode())
        self._verify(path)
        self.row_in: NDArray[Any] = np.zeros(width, dtype=self._dtype)
        self.row_out: NDArray[Any] = np.zeros(outputs, dtype=self._dtype)
        self._arguments: tuple[Any, ...] = (
            self._model,
            ctypes.c_void_p(self.row_in.ctypes.data),
            self._kind,
            ctypes.c_uint64(1),
            ctypes.c_void_p(self.row_out.ctypes.data),
            self._configuration,
        )
        self._predict_held = held.TreeliteGTILPredict
        self._walker: Walker | None = None
        if not single and not each and (walker := agreeing(self.field, self.field, self.many, width, outputs)):
            self._walker, self._predict_held = walker, walker.function
            self._arguments = walker.arguments(self.row_in, self.row_out)

    def one(self) -> NDArray[Any]:
        """The sums for the row in `row_in`; the array returned is `row_out`, overwritten by the next call."""
        if self._predict_held(*self._arguments):
            _check(1)
        return self.row_out

    def many(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """The sums, shape (rows, outputs), for a matrix (rows, width)."""
        rows, width = matrix.shape
        if width != self.width:
            raise EngineError(f"the trees take {self.width} columns, not {width}")
        given = np.ascontiguousarray(matrix, dtype=self._dtype)
        if self._walker is not None:
            return self._walker.many(given)
        sums = np.zeros((rows, self.outputs), dtype=self._dtype)
        _check(
            self._free.TreeliteGTILPredict(
                self._model,
                ctypes.c_void_p(given.ctypes.data),
                self._kind,
                ctypes.c_uint64(rows),
                ctypes.c_void_p(sums.ctypes.data),
                self._configuration,
            )
        )
        return sums

    def field(self, name: str, tree: int | None = None) -> NDArray[Any]:
        """A copy of a field of one tree, or of the ensemble, by its name in Treelite's files."""
        frame = _Frame()
        if tree is None:
            _check(self._free.TreeliteGetHeaderField(self._model, name.encode(), ctypes.byref(frame)))
        else:
            _check(self._free.TreeliteGetTreeField(self._model, ctypes.c_uint64(tree), name.encode(), ctypes.byref(frame)))
        dtype = np.dtype(f"{_KINDS[frame.format[-1]]}{frame.itemsize}")
        content = ctypes.string_at(frame.buffer, frame.items * frame.itemsize) if frame.items else b""
        return np.frombuffer(content, dtype=dtype)

    def _verify(self, path: Path) -> None:
        library, width = self._free, ctypes.c_size_t()
        _check(library.TreeliteQueryNumFeature(self._model, ctypes.byref(width)))
        for query in (library.TreeliteGetInputType, library.TreeliteGetOutputType):
            kind = ctypes.c_char_p()
            _check(query(self._model, ctypes.byref(kind)))
            if kind.value != self._kind:
                raise EngineError(f"{path.name} holds trees of {kind.value!r}; only {self._kind!r} is exact here")
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        one: Any = ctypes.c_uint64(1)
        _check(
            library.TreeliteGTILGetOutputShape(
                self._model, one, self._configuration, ctypes.byref(shape), ctypes.byref(dimensions)
            )
        )
        outputs = int(np.prod([shape[i] for i in range(dimensions.value)]))
        if width.value != self.width or outputs != self.outputs:
            described = f"{self.width} columns and {self.outputs} outputs"
            raise EngineError(f"{path.name} holds trees of {width.value} columns and {outputs} outputs, not {described}")

    def __del__(self) -> None:
        if getattr(self, "_configuration", None):
            self._free.TreeliteGTILDeleteConfig(self._configuration)
        if getattr(self, "_model", None):
            self._free.TreeliteFreeModel(self._model)
