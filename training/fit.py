"""Fit the learned correction: LightGBM on log(measured / baseline) for TPOT, TTFT and end-to-end time.

Throughput is learned as end-to-end time, for Little's law ties them: e2e = concurrency x osl / output_tok_s.
A row that reports both the mean and the median TTFT teaches twice; one with percentiles teaches what they lie
over the median, which leaves out what both share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.errors import BadRequest
from ..data.identity import LENGTHS
from ..data.measurements import medians
from ..data.stated import as_stated
from ..features.baseline import Estimate, baseline, floor
from ..features.coefficients import Coefficients
from ..features.facts import FloatArray
from ..features.frame import feature_matrix, of_statistic
from ..features.request import Requests, normalise
from .calibrate import calibrate
from .model.residuals import MeasuredResiduals, coordinates_of, residuals_of
from .model.support import set_up_keys
from .model.times import CORRECTED, LEARNED, MEAN, OF, TAIL, TAILED, TAILS, TREES, base_seconds, log_over

DEFAULT_PARAMETERS: dict[str, Any] = {
    "objective": "l1", "learning_rate": 0.07, "num_leaves": 95, "min_data_in_leaf": 12, "max_bin": 63,
    "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 2.0,
}  # fmt: skip
REPEATABLE = {"verbosity": -1, "deterministic": True, "force_row_wise": True}
_TREES = dict(zip(TREES, (280, 280, 150, 80, 60), strict=True))
_LARGEST_RATIO = 2.5  # of |log(measured / baseline)|: beyond, the row says more of its labels than of speed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a training may vary: LightGBM parameters, trees by name in TREES, seed, threads, fit steps.

    The trees are a budget: they are four fifths of the time of a prediction.
    """

    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_PARAMETERS))
    trees: Mapping[str, int] = field(default_factory=lambda: dict(_TREES))
    seed: int = 1
    threads: int = 2
    calibration_steps: int = 12


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Measured rows ready to learn from: table, requests, and the floor they share; n rows each."""

    table: pd.DataFrame
    requests: Requests
    floor: Estimate

    def take(self, rows: NDArray[np.intp]) -> Sample:
        """Return the sample of a subset of rows."""
        table = self.table.iloc[rows].reset_index(drop=True)
        return Sample(table=table, requests=self.requests.take(rows), floor=self.floor.take(rows))


def sample_of(table: pd.DataFrame) -> Sample:
    """Return the rows of the table that the physics can answer (known names, fits in memory).

    Their `ttft_ms` is a median, their mean stands in `ttft_mean_ms`.
    """
    requests = normalise(table)
    table, low = medians(table), floor(requests)
    usable = np.flatnonzero(requests.valid & low.feasible)
    whole = Sample(table=table, requests=requests, floor=low)
    return whole if len(usable) == len(table) else whole.take(usable)


def measured_seconds(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return the measured times by name in CORRECTED, NaN where unknown; shape (n,), seconds.

    e2e is Little's law on the throughput; offline with the baseline's own number in flight.
    """
    e2e = base.concurrency * sample.requests.osl / sample.table["output_tok_s"].to_numpy(np.float64)
    times = {name: sample.table[f"{name}_ms"].to_numpy(np.float64) * 1e-3 for name in CORRECTED}
    return times | {"e2e": e2e}


def targets(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return log(measured / baseline) by name in CORRECTED, NaN where unknown."""
    measured, seconds = measured_seconds(sample, base), base_seconds(sample.requests, base)
    with np.errstate(all="ignore"):
        return {name: np.log(measured[name] / seconds[name]) for name in CORRECTED}


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Coefficients and boosters fitted on one set of rows, and what they leave of it."""

    coefficients: Coefficients
    boosters: Mapping[str, lgb.Booster]
    residuals: MeasuredResiduals
    names: tuple[str, ...]


def fit(
    sample: Sample,
    settings: Settings,
    coefficients: Coefficients | None = None,
    asked: Requests | None = None,
) -> Fitted:
    """Calibrate the baseline on the sample (None given), then fit the correction on what it leaves.

    asked: the only requests that will be answered, where they are known; the residuals of other set-ups are
    not kept. Raises BadRequest where a time was measured in no row.
    """
    coefficients = coefficients or calibrate(
        sample.table, seed=settings.seed, max_evaluations=settings.calibration_steps
    )
    count, sample = len(sample.table), _as_asked(sample, settings.seed)
    base = baseline(sample.requests, coefficients)
    seconds = base_seconds(sample.requests, base)
    matrix, names = feature_matrix(sample.requests, sample.floor, base)
    target = {k: np.clip(v, -_LARGEST_RATIO, _LARGEST_RATIO) for k, v in targets(sample, base).items()}
    weight = sample.table["weight"].to_numpy(dtype=np.float64)
    parameters = {**settings.parameters, **REPEATABLE, "seed": settings.seed, "num_threads": settings.threads}
    asked_of_mean = of_statistic(matrix, "mean", log_over(seconds, MEAN))
    taught = {name: [(matrix, target[name])] for name in LEARNED}
    taught[OF[MEAN]].append((asked_of_mean, target[MEAN]))
    taught |= {name + TAIL: [] for name in TAILED}
    for name, (of, statistic) in TAILS.items():
        over = of_statistic(matrix, statistic, log_over(seconds, name))
        taught[of + TAIL].append((over, target[name] - target[of]))
    boosters = {
        name: _grown(name, taught[name], weight, names, parameters, settings.trees[name]) for name in TREES
    }
    keys, coordinates = set_up_keys(sample.requests), coordinates_of(sample.requests, base.concurrency)
    # What is left is that of the rows as they ran.
    kept = np.arange(count) if asked is None else np.flatnonzero(np.isin(keys[:count], set_up_keys(asked)))
    left = {name: np.zeros(0) for name in (*LEARNED, MEAN)}
    if len(kept):
        threads: dict[str, Any] = {"num_threads": settings.threads}
        seen = dict.fromkeys(LEARNED, matrix) | {MEAN: asked_of_mean}
        left = {k: target[k][kept] - boosters[OF[k]].predict(x[kept], **threads) for k, x in seen.items()}
        # What is left of one statistic stands for the other where only that was measured.
        for name, other in ((MEAN, OF[MEAN]), (OF[MEAN], MEAN)):
            left[name] = np.where(np.isnan(left[name]), left[other], left[name])
    residuals = residuals_of(keys[kept], coordinates[kept], weight[kept], left)
    return Fitted(coefficients=coefficients, boosters=boosters, residuals=residuals, names=names)


def _as_asked(sample: Sample, seed: int) -> Sample:
    """Return the sample as people ask: without how lengths spread, and by nominal lengths.

    Rows whose lengths were drawn teach twice, at half the weight: as they ran, and as their client was told.
    Half of the others do not say how lengths spread.
    """
    stated, count = as_stated(sample.table, ("load",)), len(sample.table)
    nominal = {name: stated[name].to_numpy(np.float64) for name in LENGTHS}
    drawn = np.any([nominal[name] != getattr(sample.requests, name) for name in LENGTHS], axis=0)
    rows = np.concatenate([np.arange(count), np.flatnonzero(drawn)])
    again, taught = np.arange(len(rows)) >= count, sample.take(rows)
    silent = again | (~drawn[rows] & (np.random.default_rng(seed).random(len(rows)) < 0.5))
    changed: dict[str, Any] = {
        name: np.where(again, nominal[name][rows], getattr(taught.requests, name)) for name in LENGTHS
    }
    requests = replace(taught.requests, **changed, spread=np.where(silent, np.nan, taught.requests.spread))
    weight = taught.table["weight"] * np.where(drawn[rows], 0.5, 1.0)
    table = taught.table.assign(weight=weight)
    return replace(taught, table=table, requests=requests, floor=floor(requests))


def _grown(
    name: str, taught: Sequence[tuple[FloatArray, FloatArray]], weight: FloatArray, names: Sequence[str],
    parameters: dict[str, Any], trees: int,
) -> lgb.Booster:  # fmt: skip
    """Grow the trees of one name in TREES on the rows whose target is known, of each matrix and target.

    Without any measured percentile the tails are the baseline's. Raises BadRequest where a time has no row.
    """
    known = [np.flatnonzero(np.isfinite(target)) for _, target in taught]
    if not sum(map(len, known)):
        if name in LEARNED:
            raise BadRequest("rows", f"none with {name}", f"some with each of {', '.join(LEARNED)}")
        taught, known, trees = [(taught[0][0], 0.0 * weight)], [np.arange(len(weight))], 1
    pairs = list(zip(taught, known, strict=True))
    data = lgb.Dataset(
        np.concatenate([matrix[rows] for (matrix, _), rows in pairs]),
        np.concatenate([target[rows] for (_, target), rows in pairs]),
        weight=np.concatenate([weight[rows] for rows in known]), feature_name=list(names),
    )  # fmt: skip
    return lgb.train(parameters, data, num_boost_round=trees)
