"""What out-of-fold errors teach: how far to trust the correction, and how sure to be.

Blend weights and intervals are learned by stratum of support (see `model.support`) from the records of all
protocols; to judge a fold, its rows are left out of that (cross-conformal prediction, Vovk 2015). Intervals
are split conformal by stratum (Mondrian; Vovk, Gammerman and Shafer 2005): of n held-out scores each side's
bound is the ceil((n + 1)(1 - alpha / 2))-th smallest, so a row like them is missed at most alpha of the time.
Rows must be held out with their whole group, or the intervals are far too narrow for a new one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.errors import BadRequest
from ..features.facts import FloatArray
from . import crossfit
from .crossfit import Records, joined
from .fit import REPEATABLE
from .metrics import LEARNED_AS
from .model.agreement import log_times
from .model.intervals import IntervalTable, Level
from .model.model import interval_keys, shrink, spread_matrix, spread_of, spreads
from .model.support import STRATA, levels
from .model.times import CORRECTED, LEARNED, OF, floor_seconds

# What intervals may miss, and what calibration spends of it: all where the same set-up was measured at other
# loads. Farther off, groups held out together differ less among themselves than from the next one.
ALPHA = 0.1
_SPENT = {stratum: ALPHA if stratum == "setup" else 0.07 for stratum in STRATA}
POOLED = "*"
_WEIGHTS = np.linspace(0.0, 1.2, 13)
# Where the blend is learned: the most that a log error counts, and by what share a weight may be worse.
_MOST_OFF, _AS_GOOD = 0.5, 0.02
_FEWEST_ROWS = 200  # a stratum with fewer records takes the next farther stratum's blend weight
# Of the spread: the mean of the log size (L2), regularised so that it stays out of the single rows.
_SPREAD_PARAMETERS: dict[str, Any] = {
    "objective": "l2", "learning_rate": 0.12, "num_leaves": 12, "min_data_in_leaf": 80,
    "feature_fraction": 0.5, "max_bin": 31, "bin_construct_sample_cnt": 3000,
    **REPEATABLE, "seed": 1, "num_threads": 1,
}  # fmt: skip
_SPREAD_TREES, _SPREAD_ROWS, _SPREAD_LEAST, _SPREAD_PARTS = 30, 12_000, 0.02, 2


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What records teach, by name in CORRECTED: weight of the correction by stratum, spread and intervals."""

    blend: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, lgb.Booster]
    intervals: Mapping[str, IntervalTable]


def learn_trust(records: Sequence[Records], leave_out: Iterable[int] = (), *, bounds: bool = True) -> Trust:
    """Learn blend weights and (bounds) intervals from the records of all protocols but `leave_out` rows."""
    left = np.fromiter(leave_out, dtype=np.intp)
    kept = [one.take(np.flatnonzero(~np.isin(one.rows, left))) for one in records]
    every = joined(kept)
    blend = {name: _blend_weights(every, name) for name in CORRECTED}
    if not bounds:
        return Trust(blend=blend, spreads={}, intervals={})
    applied = shrink(blend, every.raw, every.stratum)
    predicted = log_times(every.held.requests, every.held.floor, every.base_s, applied)
    keys = interval_keys(every.held.requests, every.stratum)
    spent = {str(key): _SPENT[str(key).partition("|")[0]] for key in np.unique(keys)}
    # The folds that are kept, in turn: each protocol has some in every part.
    turns = [np.unique(one.fold, return_inverse=True)[1] + number for number, one in enumerate(kept)]
    part = np.concatenate(turns) % _SPREAD_PARTS
    with np.errstate(all="ignore"):
        residual = {name: np.log(every.measured_s[name]) - predicted[name] for name in CORRECTED}
    # A statistic that nobody measured is as sure as the time that it is one of.
    residual |= {k: residual[OF[k]] for k, gap in residual.items() if not np.isfinite(gap).any()}
    boosters, scales = {}, {}
    for name in LEARNED:
        seen = spread_matrix(every.matrix, every.raw[name], every.near[name], every.stratum)
        boosters[name], scale = _fit_spread(seen, residual[name]), np.ones(len(keys))
        for number in np.unique(part):
            # By a model that saw no row of this part.
            here = part == number
            if np.isfinite(residual[name][~here]).any():
                scale[here] = spread_of(_fit_spread(seen[~here], residual[name][~here]), seen[here])
        scales[name] = scale
    intervals = {
        name: fit_intervals(residual[name], keys, spent=spent, scale=scales[OF[name]]) for name in CORRECTED
    }
    return Trust(blend=blend, spreads=boosters, intervals=intervals)


def _blend_weights(records: Records, name: str) -> dict[str, float]:
    """Return, per stratum, the weight of least mean absolute log error; of weights as good, the mean.

    Errors count up to `_MOST_OFF`: beyond, a row shows a server in another state, not the correction.
    """
    with np.errstate(all="ignore"):
        gap = np.log(records.measured_s[name] / records.base_s[name])
    raw, weights, farther = records.raw[name], {}, 1.0
    for stratum in reversed(STRATA):
        here = (records.stratum == stratum) & np.isfinite(gap)
        if here.sum() >= _FEWEST_ROWS:
            misses = np.abs(gap[here] - _WEIGHTS[:, None] * raw[here])
            off = np.minimum(misses, _MOST_OFF).mean(axis=1)
            farther = float(_WEIGHTS[off <= (1.0 + _AS_GOOD) * off.min()].mean())
        weights[stratum] = farther
    return weights


def _fit_spread(matrix: FloatArray, residual: FloatArray) -> lgb.Booster:
    """Fit the logarithm of the size that a row's error is expected to have.

    matrix: `model.spread_matrix`, (n, k); residual: log errors of held-out rows, (n,), NaN unknown. Few and
    shallow trees on some of the rows: it tells cases apart, not rows.
    """
    known = np.flatnonzero(np.isfinite(residual))
    if len(known) > _SPREAD_ROWS:
        known = np.sort(np.random.default_rng(1).choice(known, _SPREAD_ROWS, replace=False))
    size = np.log(np.abs(residual[known]) + _SPREAD_LEAST)
    return lgb.train(_SPREAD_PARAMETERS, lgb.Dataset(matrix[known], size), num_boost_round=_SPREAD_TREES)


def fit_intervals(
    residual_log: FloatArray, support: NDArray[Any], *, alpha: float = ALPHA,
    spent: Mapping[str, float] | None = None, scale: FloatArray | float = 1.0,
) -> IntervalTable:  # fmt: skip
    """Fit the quantiles of log(measured / predicted), shape (n,), per support level and pooled (level "*").

    spent: by level, what to miss of these rows in place of alpha, half on each side. scale (n,) divides the
    residuals; those not finite are ignored. A level with too few rows takes the wider of its own extremes and
    the pooled quantiles. Raises BadRequest if alpha is not in (0, 1) or no residual is finite.
    """
    score = residual_log / scale
    known = np.isfinite(score)
    if not 0 < alpha < 1 or not known.any():
        raise BadRequest("alpha", alpha, f"in (0, 1), with finite residuals (not {known.sum()})")
    score, support, spent = score[known], np.asarray(support)[known].astype(str), spent or {}
    pooled = _level(score, min([alpha, *spent.values()]))
    found = {POOLED: pooled}
    for name in map(str, np.unique(support)):
        level = _level(score[support == name], spent.get(name, alpha))
        if not level.guaranteed:
            lower, upper = min(level.lower, pooled.lower), max(level.upper, pooled.upper)
            level = replace(level, lower=lower, upper=upper)
        found[name] = level
    return IntervalTable(alpha=alpha, levels=found)


def _level(score: FloatArray, alpha: float) -> Level:
    """Return the bounds that leave alpha / 2 beyond each, or the extremes where only infinity would."""
    ordered = np.sort(score)
    place = math.ceil((len(ordered) + 1) * (1.0 - alpha / 2.0) - 1e-9)
    inside = min(place, len(ordered))
    return Level(
        lower=float(ordered[len(ordered) - inside]), upper=float(ordered[inside - 1]), rows=len(ordered),
        guaranteed=place <= len(ordered),
    )  # fmt: skip


def all_scores(records: Sequence[Records], *, bounds: bool = True) -> pd.DataFrame:
    """Return the scores frame of all protocols, two at a time; bounds: with intervals."""
    run = joblib.Parallel(n_jobs=crossfit.WORKERS)
    parts = run(joblib.delayed(protocol_scores)(records, number, bounds) for number in range(len(records)))
    scores: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return scores


def protocol_scores(records: Sequence[Records], number: int, bounds: bool = True) -> pd.DataFrame:
    """Return the scores of one of the protocols: a row per table row and metric that was measured.

    Each fold is judged by what the records of all other rows taught.
    """
    one = records[number]
    parts = [one.take(np.flatnonzero(one.fold == fold)) for fold in np.unique(one.fold)]
    scores = (fold_scores(part, learn_trust(records, part.rows, bounds=bounds)) for part in parts)
    return pd.concat(itertools.chain.from_iterable(scores), ignore_index=True)


def fold_scores(part: Records, trust: Trust) -> Iterator[pd.DataFrame]:
    """Yield the scores of one fold's rows, a frame per metric; with bounds where `trust` has intervals."""
    requests, floor = part.held.requests, part.held.floor
    least = floor_seconds(floor)
    columns = part.held.table[["row_id", "gpu", "model", "engine", "weight_precision", "mode", "source"]]
    applied = shrink(trust.blend, part.raw, part.stratum)
    logs, whole = (log_times(requests, floor, part.base_s, each) for each in (applied, part.raw))
    keys = interval_keys(requests, part.stratum)
    bounds = bool(trust.intervals)
    scale = spreads(trust.spreads, part.matrix, part.raw, part.near, part.stratum) if bounds else {}
    for metric, name in LEARNED_AS.items():
        times = {
            "measured": part.measured_s[name], "blend": np.exp(logs[name]), "corrected": np.exp(whole[name]),
            "baseline": part.base_s[name], "floor": least[name],
        }  # fmt: skip
        if bounds:
            ends = trust.intervals[name].interval(logs[name], keys, scale[name])
            # The rate of the longest time is the lowest.
            ends = ends[::-1] if metric == "output_tok_s" else ends
            times |= {"blend_lo": np.exp(ends[0]), "blend_hi": np.exp(ends[1])}
        rate = metric == "output_tok_s"
        tokens = part.in_flight * requests.osl
        compared = [name for name in ("neighbour", "pure_ml") if f"{name}_{metric}" in part.references]
        frame = columns.assign(
            protocol=part.protocol, fold=part.fold, metric=metric, row=part.rows,
            support=levels(part.stratum), stratum=part.stratum,
            **{k: tokens / s if rate else s * 1e3 for k, s in times.items()},
            **{name: part.references[f"{name}_{metric}"] for name in compared},
        )  # fmt: skip
        yield frame.loc[np.isfinite(frame["measured"])]
