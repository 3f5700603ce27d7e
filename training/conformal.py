"""Split conformal calibration on whole held-out groups, by support level.

Rows of one group (one platform, one model) err together, so a quantile over rows promises too much for a
group never seen. Hierarchical conformal prediction (Lee, Barber and Willett, arXiv:2306.06342) gives group k
of K with n_k rows the weight 1 / ((K + 1) n_k) per row and the mass 1 / (K + 1) at infinity: coverage 1 -
alpha for a row of a new group. With every row a group of its own this is plain split conformal, the ceil((n +
1)(1 - alpha))-th smallest score.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import errors
from ..predictor.intervals import IntervalTable, Level

Floats = NDArray[np.float64]
POOLED = "*"


def fit_intervals(
    residual_log: Floats,
    support: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    alpha: float = 0.1,
    scale: Floats | None = None,
    weighting: Literal["groups", "rows"] = "groups",
    symmetric: bool = False,
) -> IntervalTable:
    """Fit the quantiles of log(measured / predicted), shape (n,), per support level and pooled (level "*").

    The residuals must come from models that saw none of the row's group. `groups` (n,) are those held-out
    groups (None: rows are exchangeable). `weighting` "groups" lets each group count once and promises
    1 - alpha for a row of a new group, which costs width where groups are few; "rows" is plain split
    conformal, right on average over rows like these. `scale` (n,) divides the residuals
    first. `symmetric` takes one
    quantile of the absolute residual for both sides, which needs half as many groups; otherwise each side
    misses at most alpha / 2. Rows with a residual that is not finite are ignored. A level with too few groups
    for its promise takes the wider of its own extremes and the pooled quantiles.

    Raises BadRequest if alpha is not in (0, 1) or no residual is finite.
    """
    score = residual_log if scale is None else residual_log / scale
    known = np.isfinite(score)
    if not 0 < alpha < 1 or not known.any():
        raise errors.BadRequest("alpha", alpha, f"in (0, 1), with finite residuals (not {known.sum()})")
    code = np.arange(len(score)) if groups is None else pd.factorize(groups)[0]
    score, code, support = score[known], code[known], np.asarray(support)[known]
    pooled = _level(score, code, alpha, weighting, symmetric)
    levels = {POOLED: pooled}
    for name in np.unique(support.astype(str)):
        here = support == name
        level = _level(score[here], code[here], alpha, weighting, symmetric)
        levels[str(name)] = level if level.guaranteed else _wider(level, pooled)
    return IntervalTable(alpha=alpha, levels=levels)


def conformal_quantile(
    values: Floats, weights: Floats, level: float, mass_at_infinity: float
) -> tuple[float, bool]:
    """The weighted `level` quantile when `mass_at_infinity` of the distribution lies above every value.

    Returns the quantile and True, or the largest value and False where only infinity would keep the promise.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum() * (1 - mass_at_infinity)
    position = int(np.searchsorted(reached, level - 1e-12))
    if position >= len(values):
        return float(values[order[-1]]), False
    return float(values[order[position]]), True


def _level(score: Floats, code: NDArray[np.intp], alpha: float, weighting: str, symmetric: bool) -> Level:
    _, group_of, size = np.unique(code, return_inverse=True, return_counts=True)
    weights = 1.0 / size[group_of] if weighting == "groups" else np.ones(len(score))
    beyond = 1.0 / ((len(size) if weighting == "groups" else len(score)) + 1)
    if symmetric:
        upper, sure = conformal_quantile(np.abs(score), weights, 1 - alpha, beyond)
        lower, sure_below = -upper, sure
    else:
        upper, sure = conformal_quantile(score, weights, 1 - alpha / 2, beyond)
        negated, sure_below = conformal_quantile(-score, weights, 1 - alpha / 2, beyond)
        lower = -negated
    return Level(lower=lower, upper=upper, rows=len(score), groups=len(size), guaranteed=sure and sure_below)


def _wider(level: Level, pooled: Level) -> Level:
    return Level(
        lower=min(level.lower, pooled.lower), upper=max(level.upper, pooled.upper),
        rows=level.rows, groups=level.groups, guaranteed=False,
    )  # fmt: skip
