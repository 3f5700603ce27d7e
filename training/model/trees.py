"""Boosted trees at serving time: LightGBM's own library, called without its Python package.

`import lightgbm` brings scikit-learn, scipy and pandas along: two seconds where a whole cold prediction may
take one and a half. The few calls needed here belong to LightGBM's C API
(https://lightgbm.readthedocs.io/en/stable/C-API.html): load a model from text, predict a matrix, free.

A booster remembers which of its trees the last call asked for, whichever thread called: two threads that walk
different trees of one booster answer with each other's. So all trees at once are asked of one booster, for
which that memory never changes, and parts of them of a booster that nobody else holds meanwhile. What the
library prepares for single rows has buffers of its own, and is likewise held by one thread at a time.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from ...data import errors

Floats = NDArray[np.float64]

_FLOAT64, _ROW_MAJOR, _RAW, _CONTRIBUTIONS = 1, 1, 1, 3
# Many rows walk a few trees at a time, which then stay in the processor's nearest cache: half the time.
_MANY_ROWS, _LEAVES_AT_ONCE = 1024, 1600
_OPTIONS = b"num_threads=1 verbosity=-1"
_TREE = re.compile(r"Tree=(?P<number>\d+)\nnum_leaves=(?P<leaves>\d+)\nnum_cat=.*\nleaf_value=", re.DOTALL)
_LIBRARIES = ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")


class Trees:
    """One boosted-tree model read from LightGBM's text format.

    Raises BadBundle if the text is not such a model. Predictions are LightGBM's own, up to the last bit (the
    trees of many rows are summed in groups).
    """

    def __init__(self, text: str, name: str = "model") -> None:
        self.text, (self.rounds, leaves) = text, _size(text, name)
        self._whole = self._load()
        self._spare: SimpleQueue[ctypes.c_void_p] = SimpleQueue()
        self._prepared: SimpleQueue[ctypes.c_void_p] = SimpleQueue()
        self._step = max(1, _LEAVES_AT_ONCE * self.rounds // leaves)

    def _load(self) -> ctypes.c_void_p:
        rounds, free = ctypes.byref(ctypes.c_int()), "LGBM_BoosterFree"
        return self._made("LGBM_BoosterLoadModelFromString", self.text.encode(), rounds, free=free)

    def _made(self, make: str, *arguments: object, free: str) -> ctypes.c_void_p:
        """Return the handle that a call makes, freed with this object.

        Not at the process's end, when threads may still walk the trees.
        """
        handle = ctypes.c_void_p()
        _call(make, *arguments, ctypes.byref(handle))
        weakref.finalize(self, getattr(_library(), free), handle).atexit = False
        return handle

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names in the order of the matrix's columns, as the text gives them."""
        line = next(part for part in self.text.split("\n", 32) if part.startswith("feature_names="))
        return tuple(line.removeprefix("feature_names=").split())

    def predict(self, data: Floats) -> Floats:
        """Return one number per row of a (n, k) matrix, k the number of features."""
        matrix = np.ascontiguousarray(data, dtype=np.float64)
        if len(matrix) <= 1:
            return self._one(matrix) if len(matrix) else np.zeros(0)
        if len(matrix) < _MANY_ROWS:
            return self._scores(self._whole, matrix, 0, self.rounds)

        def summed(booster: ctypes.c_void_p) -> Floats:
            total = np.zeros(len(matrix))
            for first in range(0, self.rounds, self._step):
                total += self._scores(booster, matrix, first, self._step)
            return total

        return _holding(self._spare, self._load, summed)

    def contributions(self, data: Floats) -> Floats:
        """Return what each feature adds to each row's number (TreeSHAP), shape (n, k + 1).

        The last column is the mean that they are counted from: each row sums to its prediction.
        """
        matrix = np.ascontiguousarray(data, dtype=np.float64)
        shape = len(matrix), matrix.shape[1] + 1
        return self._scores(self._whole, matrix, 0, self.rounds, _CONTRIBUTIONS, shape[1]).reshape(shape)

    def _one(self, matrix: Floats) -> Floats:
        """Score one row by the library's prepared path: no options to read, no predictor to build."""
        return _holding(
            self._prepared,
            lambda: self._prepare(matrix.shape[1]),
            lambda held: _filled(1, "LGBM_BoosterPredictForMatSingleRowFast", held, _data(matrix)),
        )

    def _prepare(self, features: int) -> ctypes.c_void_p:
        """Return what the library makes ready for single rows of the whole booster."""
        return self._made(
            "LGBM_BoosterPredictForMatSingleRowFastInit", self._whole, _RAW, 0, self.rounds, _FLOAT64,
            features, _OPTIONS, free="LGBM_FastConfigFree",
        )  # fmt: skip

    def _scores(
        self, booster: ctypes.c_void_p, matrix: Floats, first: int, rounds: int, kind: int = _RAW,
        columns: int = 1,
    ) -> Floats:  # fmt: skip
        """Return `columns` numbers of a kind (LightGBM's predict types) per row, one after another."""
        rows, features = matrix.shape
        return _filled(
            rows * columns, "LGBM_BoosterPredictForMat", booster, _data(matrix), _FLOAT64, rows, features,
            _ROW_MAJOR, kind, first, rounds, _OPTIONS,
        )  # fmt: skip

    def model_to_string(self) -> str:
        """Return the model as LightGBM text, as a Booster's method of this name does."""
        return self.text


def _holding(
    pool: SimpleQueue[ctypes.c_void_p],
    make: Callable[[], ctypes.c_void_p],
    use: Callable[[ctypes.c_void_p], Floats],
) -> Floats:
    """Use a handle that no other thread holds: one of the pool, else a new one; the pool gets it back."""
    try:
        handle = pool.get_nowait()
    except Empty:
        handle = make()
    try:
        return use(handle)
    finally:
        pool.put(handle)


def _size(text: str, name: str) -> tuple[int, int]:
    """Return how many trees and leaves there are; each tree must lie where the header's sizes say.

    Raises BadBundle where one does not: given a cut text, LightGBM would end the process.
    """
    header, _, _ = text.partition("\n\n")
    fields = dict(line.split("=", 1) for line in header.splitlines() if "=" in line)
    sizes = [int(size) for size in fields.get("tree_sizes", "").split() if size.isdigit()]
    at, leaves, sound = len(header) + 2, 0, header.startswith("tree\n") and "feature_names" in fields
    for number, size in enumerate(sizes):
        found = _TREE.match(text[at : at + size])
        sound = sound and found is not None and int(found["number"]) == number
        leaves += int(found["leaves"]) if found else 0
        at += size
    if not (sound and sizes and text.startswith("end of trees\n", at)):
        raise errors.BadBundle(f"{name} is not a whole LightGBM model")
    return len(sizes), leaves


def _data(array: Floats) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def _filled(size: int, name: str, *arguments: object) -> Floats:
    """Return the numbers that a call writes: their count and the array are its last arguments."""
    out = np.zeros(size)
    _call(name, *arguments, ctypes.byref(ctypes.c_int64()), _data(out))
    return out


def _call(name: str, *arguments: object) -> None:
    library = _library()
    if getattr(library, name)(*arguments) != 0:
        raise errors.BadBundle(f"LightGBM refused the model: {library.LGBM_GetLastError().decode()}")


@cache
def _library() -> ctypes.CDLL:
    """Open LightGBM's shared library, found where the package keeps it; else let the package find it."""
    spec = importlib.util.find_spec("lightgbm")
    folders = (spec and spec.submodule_search_locations) or ()
    places = [Path(folder, sub) for folder in folders for sub in ("lib", "bin", "..")]
    paths = (place / name for place in places for name in _LIBRARIES)
    found = next((path for path in paths if path.is_file()), None)
    library = ctypes.CDLL(str(found)) if found else importlib.import_module("lightgbm.libpath")._LIB
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    library.LGBM_BoosterFree.argtypes = library.LGBM_FastConfigFree.argtypes = [ctypes.c_void_p]
    return library
