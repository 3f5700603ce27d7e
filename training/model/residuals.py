"""What the trees left of measured rows, carried to other loads and lengths of the same set-up.

The trees see what a set-up is made of, not which one it is. What they leave of its measured rows is what
nobody wrote down: flags, driver, the engine's state. A request takes the mean of what was left of its own
set-up, each row weighted by exp(-distance): interpolated residuals of a regression (regression kriging,
Hengl, Heuvelink and Rossiter 2007). Where nothing was measured near, it takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features.facts import FloatArray
from ...features.request import Requests

# Distances: per factor e in requests in flight, tokens in and tokens out; per month; from mean to median
# TTFT; from no prefix cached to all of it. Held-out errors move by 3 % of themselves if all are halved.
_PER_E, _PER_MONTH, _OTHER_STATISTIC, _PREFIX = 2.5, 1.0, 2.0, 2.5
# Of the weight, what "no difference" has: rows about 5.5 away count half.
_FAINT = 0.004
_MOST = 1.0  # that one row's remainder says, in log
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Siblings:
    """Measured rows by set-up: sorted `keys` (m,), their `places` (m, k), `weight` (m,), and what was left.

    left: log(measured / predicted) by name in CORRECTED, shape (m,), NaN where nothing was measured.
    """

    keys: NDArray[np.uint64]
    places: FloatArray
    weight: FloatArray
    left: Mapping[str, FloatArray]

    def near(
        self, keys: NDArray[np.uint64], places: FloatArray
    ) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Return what to add to each request's log times, and how much was measured near it, by name, (n,).

        keys (n,) and places (n, k): of the requests, from `model.set_up_keys` and `places_of`.
        """
        first = np.searchsorted(self.keys, keys, "left")
        count = np.searchsorted(self.keys, keys, "right") - first
        asked = np.repeat(np.arange(len(keys)), count)
        known = np.arange(len(asked)) + np.repeat(first - np.cumsum(count) + count, count)
        likeness = np.exp(-np.abs(self.places[known] - places[asked]).sum(axis=1)) * self.weight[known]
        added, mass = {}, {}
        for name, left in self.left.items():
            here = left[known]
            told = np.where(np.isfinite(here), likeness, 0.0)
            mass[name] = np.bincount(asked, told, len(keys)).astype(np.float64)
            sums = np.bincount(asked, told * np.nan_to_num(here), len(keys))
            added[name] = sums / (mass[name] + _FAINT)
        return added, mass

    def none(self) -> Siblings:
        """Return the siblings of a model that knows no set-up."""
        left = {name: values[:0] for name, values in self.left.items()}
        return Siblings(keys=self.keys[:0], places=self.places[:0], weight=self.weight[:0], left=left)

    def to_dict(self) -> dict[str, Any]:
        """Return columns as texts of numbers, for JSON: read three times as fast as lists."""
        left = {name: _text(values) for name, values in self.left.items()}
        places = [_text(column) for column in self.places.T]
        return {"keys": _text(self.keys), "places": places, "weight": _text(self.weight), "left": left}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Siblings:
        """Rebuild from `to_dict`'s output. Raises ValueError where the columns are not of one length."""
        keys = np.fromstring(data["keys"], dtype=np.uint64, sep=" ")
        columns = [np.fromstring(text, sep=" ") for text in (*data["places"], data["weight"])]
        left = {name: np.fromstring(text, sep=" ") for name, text in data["left"].items()}
        if {len(column) for column in (*columns, *left.values())} != {len(keys)}:
            raise ValueError("the columns of the siblings differ in length")
        places = np.column_stack(columns[:-1])
        return Siblings(keys=keys, places=places, weight=columns[-1], left=left)


def _text(values: NDArray[Any]) -> str:
    return " ".join(map(repr, values.tolist()))


def siblings_of(
    keys: NDArray[np.uint64], places: FloatArray, weight: FloatArray, left: Mapping[str, FloatArray]
) -> Siblings:
    """Return measured rows as siblings, in the order of their keys; arguments as the fields of Siblings."""
    order = np.argsort(keys, kind="stable")
    kept = {name: np.clip(values[order], -_MOST, _MOST).round(_DIGITS) for name, values in left.items()}
    places = places[order].round(_DIGITS)
    return Siblings(keys=keys[order], places=places, weight=weight[order], left=kept)


def places_of(r: Requests, concurrency: FloatArray) -> FloatArray:
    """Return where each request lies among its siblings, (n, 6); concurrency: requests in flight, (n,)."""
    logs = np.log(np.maximum([concurrency, r.isl, r.osl], 1e-3)) * _PER_E
    rest = (r.months * _PER_MONTH, r.mean_ttft * _OTHER_STATISTIC, r.prefix_cached_frac * _PREFIX)
    return np.column_stack([*logs, *rest])


def log_mass(mass: FloatArray) -> FloatArray:
    """Return the logarithm of how much was measured near, never under that of next to nothing."""
    out: FloatArray = np.log(mass + _FAINT)
    return out
