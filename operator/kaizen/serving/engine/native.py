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

from kaizen.serving.engine.base import EngineError, Matrix

__all__ = ["LIBRARY_VARIABLE", "Trees", "find"]

LIBRARY_VARIABLE = "KAIZEN_TREELITE_LIBRARY"
"""Environment: where the library is, when Treelite is not installed as a package."""

_NAME = "libtreelite.so"
_CONFIGURATION = json.dumps({"predict_type": "raw", "nthread": 1}).encode()
_FLOAT64 = b"float64"


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


class Trees:
    """An ensemble of trees, answering with the sums (or means) of the leaves that rows reach.

    `row_in` (width,) and `row_out` (outputs,) are the kept buffers of `one`.
    """

    def __init__(self, path: Path, width: int, outputs: int) -> None:
        """Raises EngineError when the file holds other trees than those described."""
        self._free, held = _libraries()
        self._model = ctypes.c_void_p()
        self._configuration = ctypes.c_void_p()
        _check(self._free.TreeliteDeserializeModelFromFile(os.fsencode(path), ctypes.byref(self._model)))
        _check(self._free.TreeliteGTILParseConfig(_CONFIGURATION, ctypes.byref(self._configuration)))
        self.width, self.outputs = width, outputs
        self._verify(path)
        self.row_in = np.zeros(width)
        self.row_out = np.zeros(outputs)
        self._arguments = (
            self._model,
            ctypes.c_void_p(self.row_in.ctypes.data),
            _FLOAT64,
            ctypes.c_uint64(1),
            ctypes.c_void_p(self.row_out.ctypes.data),
            self._configuration,
        )
        self._predict_held = held.TreeliteGTILPredict

    def one(self) -> Matrix:
        """The sums for the row in `row_in`; the array returned is `row_out`, overwritten by the next call."""
        if self._predict_held(*self._arguments):
            _check(1)
        return self.row_out

    def many(self, matrix: Matrix) -> Matrix:
        """The sums, shape (rows, outputs), for a matrix (rows, width)."""
        rows, width = matrix.shape
        if width != self.width:
            raise EngineError(f"the trees take {self.width} columns, not {width}")
        given = np.ascontiguousarray(matrix, dtype=np.float64)
        sums = np.zeros((rows, self.outputs))
        _check(
            self._free.TreeliteGTILPredict(
                self._model,
                ctypes.c_void_p(given.ctypes.data),
                _FLOAT64,
                ctypes.c_uint64(rows),
                ctypes.c_void_p(sums.ctypes.data),
                self._configuration,
            )
        )
        return sums

    def _verify(self, path: Path) -> None:
        library, width = self._free, ctypes.c_size_t()
        _check(library.TreeliteQueryNumFeature(self._model, ctypes.byref(width)))
        for query in (library.TreeliteGetInputType, library.TreeliteGetOutputType):
            kind = ctypes.c_char_p()
            _check(query(self._model, ctypes.byref(kind)))
            if kind.value != _FLOAT64:
                raise EngineError(f"{path.name} holds trees of {kind.value!r}; only {_FLOAT64!r} is exact")
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
