"""Prediction intervals: quantiles of log residuals by support level, as `training.trust` fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import errors

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Level:
    """Quantiles of log(measured / predicted) at one support level, and how many rows they rest on.

    `guaranteed` is False where the rows were too few for the promised coverage: the bounds are a stand-in.
    """

    lower: float
    upper: float
    rows: int
    guaranteed: bool


@dataclass(frozen=True, kw_only=True)
class IntervalTable:
    """Conformal quantiles by support level, for intervals that miss at most `alpha` of the time.

    >>> level = Level(lower=-0.1, upper=0.2, rows=100, guaranteed=True)
    >>> lo, hi = IntervalTable(alpha=0.1, levels={"in": level}).interval(np.log([100.0]), np.array(["in"]))
    >>> np.exp(lo).round(1).tolist(), np.exp(hi).round(1).tolist()
    ([90.5], [122.1])
    """

    alpha: float
    levels: Mapping[str, Level]

    def interval(
        self, pred_log: Floats, support: NDArray[Any], scale: Floats | float = 1.0
    ) -> tuple[Floats, Floats]:
        """Lower and upper bound in log units, shape (n,): pred_log + scale x quantile of the row's level.

        `scale` (n,), > 0, is the spread the residuals were divided by when fitted (1: they were not). A
        level that the table does not know gets the widest bounds it has.
        """
        names, lower, upper = self._sorted
        at = np.minimum(np.searchsorted(names, support), len(names) - 1)
        known = names[at] == support
        below, above = np.where(known, lower[at], lower.min()), np.where(known, upper[at], upper.max())
        return pred_log + below * scale, pred_log + above * scale

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.str_], Floats, Floats]:
        names = sorted(self.levels)
        bounds = np.array([(self.levels[name].lower, self.levels[name].upper) for name in names])
        return np.array(names), bounds[:, 0], bounds[:, 1]

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON-ready plain values."""
        return {"alpha": self.alpha, "levels": {name: asdict(level) for name, level in self.levels.items()}}

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> IntervalTable:
        """The table from `to_dict`'s output; raises BadBundle if anything is missing or not finite."""
        try:
            alpha, levels = float(payload["alpha"]), {k: Level(**v) for k, v in payload["levels"].items()}
            sound = all(-np.inf < v.lower <= v.upper < np.inf for v in levels.values())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise errors.BadBundle(f"calibration table is malformed: {error!r}") from error
        if not (levels and sound and 0 < alpha < 1):
            raise errors.BadBundle("calibration table is empty or its bounds are out of order")
        return cls(alpha=alpha, levels=levels)


def probability(room: Floats, lower: Floats, upper: Floats, alpha: float) -> Floats:
    """Return the probability that the log error stays under `room`, shape (n,).

    lower < 0 < upper: log bounds of the interval around the prediction that misses alpha / 2 on each side.
    The log error is taken as logistic on either side, through the bounds:

        P(error > x) = 1 / (1 + exp(k x / upper)),  P(error < -x) = 1 / (1 + exp(-k x / lower)),
        k = log(2 / alpha - 1)

    Held-out errors over their interval follow that law more closely than the normal or the Laplace one; what
    was promised stands beside what was kept in docs/accuracy.md, under "As advice".

    >>> probability(np.array([-0.5, 0.0, 0.5]), np.full(3, -0.5), np.full(3, 0.5), 0.1).round(2).tolist()
    [0.05, 0.5, 0.95]
    """
    width = np.maximum(np.where(room < 0, -lower, upper), 1e-9)
    steps = np.log(2.0 / alpha - 1.0) * np.abs(room) / width
    tail = np.exp(-np.logaddexp(0.0, steps))
    return np.asarray(np.where(room < 0, tail, 1.0 - tail))
