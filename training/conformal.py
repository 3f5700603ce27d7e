"""Split conformal calibration by support level (Mondrian; Vovk, Gammerman and Shafer 2005).

Of n held-out scores each side's bound is the ceil((n + 1)(1 - alpha / 2))-th smallest: an interval so bounded
misses a row like them at most alpha of the time. The rows must be held out with all of their group (one
platform, one model): calibrated within groups already seen, intervals come out far too narrow for a new one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import errors
from .model.intervals import IntervalTable, Level

Floats = NDArray[np.float64]
POOLED = "*"


def fit_intervals(
    residual_log: Floats,
    support: NDArray[Any],
    *,
    alpha: float = 0.1,
    spent: Mapping[str, float] | None = None,
    scale: Floats | None = None,
) -> IntervalTable:
    """Fit the quantiles of log(measured / predicted), shape (n,), per support level and pooled (level "*").

    The residuals must come from models that saw none of the row's group. `spent`: by level, what to miss of
    these rows in place of alpha, where new ones are known to err more. `scale` (n,) divides the residuals
    first. Each side misses half. Rows with a residual that is not finite are ignored. A level with too few
    rows for its promise takes the wider of its own extremes and the pooled quantiles.

    Raises BadRequest if alpha is not in (0, 1) or no residual is finite.
    """
    score = residual_log if scale is None else residual_log / scale
    known = np.isfinite(score)
    if not 0 < alpha < 1 or not known.any():
        raise errors.BadRequest("alpha", alpha, f"in (0, 1), with finite residuals (not {known.sum()})")
    score, support, spent = score[known], np.asarray(support)[known].astype(str), spent or {}
    pooled = _level(score, min([alpha, *spent.values()]))
    levels = {POOLED: pooled}
    for name in map(str, np.unique(support)):
        level = _level(score[support == name], spent.get(name, alpha))
        if not level.guaranteed:
            lower, upper = min(level.lower, pooled.lower), max(level.upper, pooled.upper)
            level = replace(level, lower=lower, upper=upper)
        levels[name] = level
    return IntervalTable(alpha=alpha, levels=levels)


def _level(score: Floats, alpha: float) -> Level:
    """Return the bounds that leave alpha / 2 beyond each, or the extremes where only infinity would."""
    ordered = np.sort(score)
    place = math.ceil((len(ordered) + 1) * (1.0 - alpha / 2.0) - 1e-9)
    inside = min(place, len(ordered))
    return Level(
        lower=float(ordered[len(ordered) - inside]), upper=float(ordered[inside - 1]), rows=len(ordered),
        guaranteed=place <= len(ordered),
    )  # fmt: skip
