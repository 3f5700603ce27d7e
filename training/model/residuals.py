"""What the trees leave of measured rows, carried to other loads and lengths of the same set-up.

The trees see what a set-up is made of, not which one it is. What they leave of its measured rows is what
nobody wrote down: flags, driver, the engine's state. A request takes the mean of its own set-up's residuals,
each weighted by exp(-distance): interpolated residuals of a regression (regression kriging, Hengl, Heuvelink
and Rossiter 2007). Where nothing was measured near, it takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features.facts import FloatArray
from ...features.request import Requests

# Distances: per factor e in requests in flight, tokens in and tokens out; per month; from no prefix cached to
# all of it. Held-out errors move by 3 % of themselves if all are halved.
_PER_E, _PER_MONTH, _PREFIX = 2.5, 1.0, 2.5
_NUGGET = 0.004  # of the weight, what "no difference" has: rows about 5.5 away count half
_LARGEST = 1.0  # residual of one row, in log
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class MeasuredResiduals:
    """Residuals of measured rows: sorted set-up `keys` (m,), `coordinates` (m, k), `weight` (m,).

    residuals: log(measured / predicted) by name in RESIDUAL, shape (m,), NaN where nothing was measured.
    """

    keys: NDArray[np.uint64]
    coordinates: FloatArray
    weight: FloatArray
    residuals: Mapping[str, FloatArray]

    def near(
        self, keys: NDArray[np.uint64], coordinates: FloatArray
    ) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Return what to add to each request's log times, and how much was measured near it, by name, (n,).

        keys (n,), coordinates (n, k): of the requests, from `support.set_up_keys` and `coordinates_of`.
        """
        first = np.searchsorted(self.keys, keys, "left")
        count = np.searchsorted(self.keys, keys, "right") - first
        asked = np.repeat(np.arange(len(keys)), count)
        known = np.arange(len(asked)) + np.repeat(first - np.cumsum(count) + count, count)
        distance = np.abs(self.coordinates[known] - coordinates[asked]).sum(axis=1)
        likeness = np.exp(-distance) * self.weight[known]
        added, mass = {}, {}
        for name, values in self.residuals.items():
            here = values[known]
            weight = np.where(np.isfinite(here), likeness, 0.0)
            mass[name] = np.bincount(asked, weight, len(keys)).astype(np.float64)
            added[name] = np.bincount(asked, weight * np.nan_to_num(here), len(keys)) / (mass[name] + _NUGGET)
        return added, mass

    def to_dict(self) -> dict[str, Any]:
        """Return columns as texts of numbers, for JSON: read three times as fast as lists."""
        return {
            "keys": _text(self.keys),
            "coordinates": [_text(column) for column in self.coordinates.T],
            "weight": _text(self.weight),
            "residuals": {name: _text(values) for name, values in self.residuals.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> MeasuredResiduals:
        """Rebuild from `to_dict`'s output. Raises ValueError where the columns are not of one length."""
        keys = np.fromstring(data["keys"], dtype=np.uint64, sep=" ")
        *columns, weight = (np.fromstring(text, sep=" ") for text in (*data["coordinates"], data["weight"]))
        residuals = {name: np.fromstring(text, sep=" ") for name, text in data["residuals"].items()}
        if {len(column) for column in (*columns, weight, *residuals.values())} != {len(keys)}:
            raise ValueError("the columns of the residuals differ in length")
        coordinates = np.column_stack(columns)
        return MeasuredResiduals(keys=keys, coordinates=coordinates, weight=weight, residuals=residuals)


def _text(values: NDArray[Any]) -> str:
    return " ".join(map(repr, values.tolist()))


def residuals_of(
    keys: NDArray[np.uint64], coordinates: FloatArray, weight: FloatArray, residuals: Mapping[str, FloatArray]
) -> MeasuredResiduals:
    """Return measured rows' residuals sorted by key; arguments as the fields of MeasuredResiduals."""
    order = np.argsort(keys, kind="stable")
    clipped = {k: np.clip(v[order], -_LARGEST, _LARGEST).round(_DIGITS) for k, v in residuals.items()}
    rounded = coordinates[order].round(_DIGITS)
    return MeasuredResiduals(keys=keys[order], coordinates=rounded, weight=weight[order], residuals=clipped)


def coordinates_of(r: Requests, concurrency: FloatArray) -> FloatArray:
    """Return each request's coordinates within its set-up, (n, 5); concurrency: requests in flight, (n,)."""
    logs = np.log(np.maximum([concurrency, r.isl, r.osl], 1e-3)) * _PER_E
    rest = (r.months * _PER_MONTH, r.prefix_cached_frac * _PREFIX)
    return np.column_stack([*logs, *rest])


def log_mass(mass: FloatArray) -> FloatArray:
    """Return the logarithm of how much was measured near, never under that of next to nothing."""
    return np.asarray(np.log(mass + _NUGGET))
