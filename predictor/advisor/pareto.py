"""Pareto fronts of two figures, both to be large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...features.facts import FloatArray


def front(x: FloatArray, y: FloatArray) -> NDArray[np.int64]:
    """Return the places of the points that no other beats in both, by falling x; NaN is never on it.

    >>> front(np.array([1.0, 2.0, 3.0, 2.5]), np.array([9.0, 5.0, 1.0, 5.0])).tolist()
    [2, 3, 0]
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    order = known[np.lexsort((-y[known], -x[known]))]
    best = np.maximum.accumulate(y[order])
    first = np.ones(len(order), dtype=bool)
    first[1:] = y[order][1:] > best[:-1]
    return order[first]


def near(points: FloatArray, best: FloatArray, factor: float) -> NDArray[np.bool_]:
    """Return which points, shape (2, n), no point of a front is `factor` times better than in both.

    best: (2, k) the front, the first figure falling and the second rising.

    >>> near(np.array([[1.0, 1.6], [1.0, 1.6]]), np.array([[3.0], [3.0]]), 2.0).tolist()
    [False, True]
    """
    better = np.searchsorted(-best[0], -factor * points[0], side="right")
    reached = np.concatenate([[-np.inf], best[1]])[better]
    close: NDArray[np.bool_] = (reached < factor * points[1]) & np.isfinite(points).all(axis=0)
    return close
