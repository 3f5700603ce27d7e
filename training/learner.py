"""Fit the learned correction: LightGBM on log(measured / baseline) for TPOT, TTFT and end-to-end time.

Throughput is learned as end-to-end time, for Little's law ties them: e2e = concurrency x osl / output_tok_s.
A row that reports both the mean and the median TTFT teaches twice, each under its own flag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

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
from .model.model import CORRECTED
from .model.residuals import Siblings, places_of, siblings_of
from .model.support import set_up_keys

DEFAULT_PARAMETERS: dict[str, Any] = {
    "objective": "l1",
    "learning_rate": 0.07,
    "num_leaves": 95,
    "min_data_in_leaf": 12,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 2.0,
    "max_bin": 63,
}
# Of the spread: the mean of the log size (L2), regularised so that it stays out of the single rows.
_SPREAD_PARAMETERS: dict[str, Any] = {
    "objective": "l2", "learning_rate": 0.12, "num_leaves": 12, "min_data_in_leaf": 80,
    "feature_fraction": 0.5, "max_bin": 31, "bin_construct_sample_cnt": 3000,
}  # fmt: skip
_SPREAD_TREES, _SPREAD_ROWS, _SPREAD_LEAST = 30, 12_000, 0.02
_FIXED = {"verbosity": -1, "deterministic": True, "force_row_wise": True}
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


Frame: TypeAlias = Callable[[Sample, Estimate], tuple[FloatArray, tuple[str, ...], Mapping[str, FloatArray]]]


def sample_of(table: pd.DataFrame) -> Sample:
    """Return the rows of the table that the physics can answer (known names, fits in memory)."""
    requests = normalise(table)
    low = floor(requests)
    usable = np.flatnonzero(requests.valid & low.feasible)
    whole = Sample(table=table, requests=requests, floor=low)
    return whole if len(usable) == len(table) else whole.take(usable)


def measured_seconds(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return the measured times by name in CORRECTED, NaN where unknown; shape (n,), seconds.

    Where the number in flight was measured, e2e is Little's law on the throughput; offline, the baseline's
    own number in flight stands for the unknown one, so that predicted and measured rates compare.
    """
    column = {
        name: sample.table[name].to_numpy(dtype=np.float64) for name in ("tpot_ms", "ttft_ms", "output_tok_s")
    }
    return {
        "tpot": column["tpot_ms"] * 1e-3,
        "ttft": column["ttft_ms"] * 1e-3,
        "e2e": base.concurrency * sample.requests.osl / column["output_tok_s"],
    }


def targets(sample: Sample, base: Estimate) -> dict[str, FloatArray]:
    """Return log(measured / baseline) by name in CORRECTED, NaN where unknown."""
    measured = measured_seconds(sample, base)
    with np.errstate(all="ignore"):
        return {name: np.log(measured[name] / getattr(base, f"{name}_s")) for name in CORRECTED}


def learning_frame(
    sample: Sample, base: Estimate
) -> tuple[FloatArray, tuple[str, ...], dict[str, FloatArray]]:
    """Return features, shape (n, k), their names, and what is to be learned by name in CORRECTED, (n,)."""
    matrix, names = feature_matrix(sample.requests, sample.floor, base)
    clipped = {k: np.clip(v, -_LARGEST_RATIO, _LARGEST_RATIO) for k, v in targets(sample, base).items()}
    return matrix, names, clipped


def _first_token_rows(sample: Sample) -> Sample:
    """Return the sample followed by the rows whose mean TTFT is known beside the median, as mean rows."""
    if "ttft_mean_ms" not in sample.table:
        return sample
    twice = (
        (sample.table["ttft_stat"] != "mean")
        & sample.table["ttft_mean_ms"].notna()
        & sample.table["ttft_ms"].notna()
    )
    rows = np.flatnonzero(twice.to_numpy())
    extra = sample.take(rows)
    table = extra.table.assign(
        ttft_ms=extra.table["ttft_mean_ms"], ttft_stat="mean", tpot_ms=np.nan, output_tok_s=np.nan
    )
    both = pd.concat([sample.table, table], ignore_index=True)
    return sample_of(both)


def fit_boosters(
    matrix: FloatArray,
    target: Mapping[str, FloatArray],
    weight: FloatArray,
    names: tuple[str, ...],
    settings: Settings,
) -> dict[str, lgb.Booster]:
    """Fit one booster per name in CORRECTED on the rows whose target is known.

    matrix: features, shape (n, k); target: logs, shape (n,), NaN unknown; weight: shape (n,). Raises
    BadRequest where a name is known of no row.
    """
    parameters = {**settings.parameters, **_FIXED, "seed": settings.seed, "num_threads": settings.threads}
    boosters = {}
    for name in CORRECTED:
        known = np.flatnonzero(np.isfinite(target[name]))
        if not len(known):
            raise BadRequest("rows", f"none with {name}", f"some with each of {', '.join(CORRECTED)}")
        data = lgb.Dataset(matrix[known], target[name][known], weight=weight[known], feature_name=list(names))
        boosters[name] = lgb.train(parameters, data, num_boost_round=settings.trees[name])
    return boosters


def fit_spread(matrix: FloatArray, residual: FloatArray, seed: int = 1) -> lgb.Booster:
    """Fit the logarithm of the size that a row's error is expected to have.

    matrix: `model.spread_matrix`, shape (n, k); residual: log errors of held-out rows, shape (n,),
    NaN unknown. Few and shallow trees on some of the rows: it tells cases apart, not rows.
    """
    known = np.flatnonzero(np.isfinite(residual))
    if len(known) > _SPREAD_ROWS:
        known = np.sort(np.random.default_rng(seed).choice(known, _SPREAD_ROWS, replace=False))
    size = np.log(np.abs(residual[known]) + _SPREAD_LEAST)
    parameters = {**_SPREAD_PARAMETERS, **_FIXED, "seed": seed, "num_threads": 1}
    return lgb.train(parameters, lgb.Dataset(matrix[known], size), num_boost_round=_SPREAD_TREES)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Coefficients and boosters fitted on one set of rows, and what they leave of it."""

    coefficients: Coefficients
    boosters: Mapping[str, lgb.Booster]
    siblings: Siblings
    names: tuple[str, ...]


def fit(
    sample: Sample,
    settings: Settings | None = None,
    coefficients: Coefficients | None = None,
    frame: Frame = learning_frame,
    asked: Requests | None = None,
) -> Fitted:
    """Calibrate the baseline on the sample (None given), then fit the correction on what it leaves.

    asked: the only requests that will be answered, where they are known; the others' siblings are not kept.
    """
    settings = settings or Settings()
    coefficients = coefficients or calibrate(
        sample.table, seed=settings.seed, max_evaluations=settings.calibration_steps
    )
    doubled = _first_token_rows(sample)
    base = baseline(doubled.requests, coefficients)
    matrix, names, target = frame(doubled, base)
    weight = doubled.table["weight"].to_numpy(dtype=np.float64)
    boosters = fit_boosters(matrix, target, weight, names, settings)
    keys, places = set_up_keys(doubled.requests), places_of(doubled.requests, base.concurrency)
    kin = np.arange(len(keys)) if asked is None else np.flatnonzero(np.isin(keys, set_up_keys(asked)))
    left = {name: np.zeros(0) for name in CORRECTED}
    if len(kin):
        options: dict[str, Any] = {"num_threads": settings.threads}
        left = {
            k: target[k][kin] - np.asarray(b.predict(matrix[kin], **options)) for k, b in boosters.items()
        }
    siblings = siblings_of(keys[kin], places[kin], weight[kin], left)
    return Fitted(coefficients=coefficients, boosters=boosters, siblings=siblings, names=names)
