"""Fit the learned correction: LightGBM on log(measured / baseline) for TPOT, TTFT and end-to-end time.

Throughput is learned as end-to-end time, for Little's law ties them: e2e = concurrency x osl / output_tok_s.
A row that reports both the mean and the median TTFT teaches twice, each under its own flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.errors import BadRequest
from ..features.baseline import Estimate, baseline, floor
from ..features.coefficients import Coefficients
from ..features.facts import FloatArray
from ..features.frame import feature_matrix
from ..features.request import Requests, normalise
from .calibrate import calibrate
from .metrics import METRICS
from .model.agreement import CORRECTED, seconds
from .model.residuals import MeasuredResiduals, coordinates_of, residuals_of
from .model.support import set_up_keys

DEFAULT_PARAMETERS: dict[str, Any] = {
    "objective": "l1", "learning_rate": 0.07, "num_leaves": 95, "min_data_in_leaf": 12, "max_bin": 63,
    "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 2.0,
}  # fmt: skip
REPEATABLE = {"verbosity": -1, "deterministic": True, "force_row_wise": True}
_LARGEST_RATIO = 2.5  # of |log(measured / baseline)|: beyond, the row says more of its labels than of speed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a training may vary: LightGBM parameters, trees by name in CORRECTED, seed, threads, fit steps.

    The trees are a budget: they are four fifths of the time of a prediction.
    """

    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_PARAMETERS))
    trees: Mapping[str, int] = field(default_factory=lambda: {"tpot": 280, "ttft": 280, "e2e": 150})
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
    """Return the rows of the table that the physics can answer (known names, fits in memory)."""
    requests = normalise(table)
    low = floor(requests)
    usable = np.flatnonzero(requests.valid & low.feasible)
    whole = Sample(table=table, requests=requests, floor=low)
    return whole if len(usable) == len(table) else whole.take(usable)


def measured_seconds(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return the measured times by name in CORRECTED, NaN where unknown; shape (n,), seconds.

    e2e is Little's law on the throughput; offline with the baseline's own number in flight.
    """
    tpot_ms, ttft_ms, output_tok_s = (sample.table[name].to_numpy(np.float64) for name in METRICS)
    e2e = base.concurrency * sample.requests.osl / output_tok_s
    return {"tpot": tpot_ms * 1e-3, "ttft": ttft_ms * 1e-3, "e2e": e2e}


def targets(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return log(measured / baseline) by name in CORRECTED, NaN where unknown."""
    measured, predicted = measured_seconds(sample, base), seconds(base)
    with np.errstate(all="ignore"):
        return {name: np.log(measured[name] / predicted[name]) for name in CORRECTED}


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
    table = sample.table
    both = (table["ttft_stat"] != "mean") & table["ttft_mean_ms"].notna() & table["ttft_ms"].notna()
    means = table[both].assign(ttft_stat="mean", tpot_ms=np.nan, output_tok_s=np.nan)
    # A mean TTFT known beside the median is another row.
    rows = sample_of(pd.concat([table, means.assign(ttft_ms=means["ttft_mean_ms"])], ignore_index=True))
    base = baseline(rows.requests, coefficients)
    matrix, names = feature_matrix(rows.requests, rows.floor, base)
    target = {k: np.clip(v, -_LARGEST_RATIO, _LARGEST_RATIO) for k, v in targets(rows, base).items()}
    weight = rows.table["weight"].to_numpy(dtype=np.float64)
    parameters = {**settings.parameters, **REPEATABLE, "seed": settings.seed, "num_threads": settings.threads}
    boosters = {}
    for name in CORRECTED:
        known = np.flatnonzero(np.isfinite(target[name]))
        if not len(known):
            raise BadRequest("rows", f"none with {name}", f"some with each of {', '.join(CORRECTED)}")
        data = lgb.Dataset(matrix[known], target[name][known], weight=weight[known], feature_name=list(names))
        boosters[name] = lgb.train(parameters, data, num_boost_round=settings.trees[name])
    keys, coordinates = set_up_keys(rows.requests), coordinates_of(rows.requests, base.concurrency)
    kept = np.arange(len(keys)) if asked is None else np.flatnonzero(np.isin(keys, set_up_keys(asked)))
    left = {name: np.zeros(0) for name in CORRECTED}
    if len(kept):
        threads: dict[str, Any] = {"num_threads": settings.threads}
        left = {k: target[k][kept] - b.predict(matrix[kept], **threads) for k, b in boosters.items()}
    residuals = residuals_of(keys[kept], coordinates[kept], weight[kept], left)
    return Fitted(coefficients=coefficients, boosters=boosters, residuals=residuals, names=names)
