"""Fit the baseline's coefficients to measured rows: robust, bounded, with priors from kernel measurements.

Minimises soft-L1 of log(baseline / measured) over TPOT, TTFT and output throughput, plus one weak pull per
coefficient towards its prior in log space, by trust-region least squares on the logarithms of the values
(scipy.optimize.least_squares). Only the rows given are seen: protocols pass their training groups alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix

from ..features.baseline import ENGINE_KINDS, KIND_OF_ENGINE, Coefficient, Coefficients, Estimate, baseline
from ..features.facts import ARCHITECTURES, FloatArray
from ..features.request import Requests, normalise
from .metrics import METRICS

_IMPORTANCE = {"tpot_ms": 1.0, "ttft_ms": 0.6, "output_tok_s": 0.6}
_PRIOR_STRENGTH = 6.0  # a coefficient's prior weighs as much as this many rows at an error of its own size
_MOST_ROWS = 5000
_SMALLEST = 1e-3


def predicted(estimate: Estimate) -> dict[str, FloatArray]:
    """Return an estimate's answers under the table's target names: ms and tokens per second."""
    return {
        "tpot_ms": estimate.tpot_s * 1e3,
        "ttft_ms": estimate.ttft_s * 1e3,
        "output_tok_s": estimate.output_tok_s,
    }


def _subsample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return at most _MOST_ROWS rows, few of each family of rows, so that no source outvotes the others."""
    if len(table) <= _MOST_ROWS:
        return table
    kin = ["gpu", "model", "engine", "source_family"]
    size = table.groupby(kin, observed=True)["weight"].transform("size").to_numpy(dtype=np.float64)
    chance = 1.0 / np.sqrt(size)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(table), size=_MOST_ROWS, replace=False, p=chance / chance.sum())
    return table.iloc[np.sort(rows)]


def _touches(name: str, r: Requests) -> FloatArray:
    """Return which rows a coefficient can move, shape (n,)."""
    suffix = name.rpartition(".")[2]
    touched: FloatArray = np.ones(len(r))
    if suffix in ARCHITECTURES:
        touched = np.asarray(r.gpu.architecture == ARCHITECTURES.index(suffix), dtype=np.float64)
    elif suffix in ENGINE_KINDS:
        touched = np.asarray(KIND_OF_ENGINE[r.engine] == ENGINE_KINDS.index(suffix), dtype=np.float64)
    return touched


def _with_values(entries: dict[str, Coefficient], logs: FloatArray) -> Coefficients:
    values = np.exp(logs)
    return Coefficients(
        entries={k: replace(c, value=float(v)) for (k, c), v in zip(entries.items(), values, strict=True)}
    )


def calibrate(table: pd.DataFrame, *, seed: int = 0, max_evaluations: int = 12) -> Coefficients:
    """Fit all coefficients to the rows of `table` (contract columns, targets in ms and tok/s).

    Returns coefficients with standard errors (from the Gauss-Newton covariance) and rows per coefficient.
    """
    rows = _subsample(table, seed)
    r = normalise(rows)
    measured = {t: np.log(rows[t].to_numpy(dtype=np.float64)) for t in METRICS}
    weight = np.sqrt(rows["weight"].to_numpy(dtype=np.float64))
    entries = dict(Coefficients().entries)
    names = list(entries)
    low = np.log([max(c.low, _SMALLEST * c.prior) for c in entries.values()])
    high = np.log([c.high for c in entries.values()])
    prior = np.log([c.prior for c in entries.values()])

    def residuals(logs: FloatArray) -> FloatArray:
        answer = predicted(baseline(r, _with_values(entries, logs)))
        parts = []
        for target in METRICS:
            with np.errstate(all="ignore"):
                error = (np.log(answer[target]) - measured[target]) * weight * _IMPORTANCE[target]
            parts.append(np.where(np.isfinite(error), error, 0.0))
        return np.concatenate([*parts, np.sqrt(_PRIOR_STRENGTH) * 0.3 * (logs - prior)])

    touches = np.stack([_touches(name, r) for name in names], axis=1)
    sparsity = lil_matrix(np.vstack([touches, touches, touches, np.eye(len(names))]))
    result = least_squares(
        residuals, np.clip(prior, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1", f_scale=0.25,
        jac_sparsity=sparsity, max_nfev=max_evaluations, x_scale=0.3, diff_step=1e-3,
    )  # fmt: skip
    jacobian = np.asarray(result.jac.todense())
    spread = float(np.median(np.abs(result.fun[: 3 * len(r)][result.fun[: 3 * len(r)] != 0.0]))) * 1.48
    errors = spread * np.sqrt(np.maximum(np.diag(np.linalg.pinv(jacobian.T @ jacobian)), 0.0))
    moved = (np.abs(jacobian[: 3 * len(r)]).reshape(3, len(r), -1) > 0.0).any(axis=0)
    fitted = _with_values(entries, result.x).entries
    return Coefficients(
        entries={
            name: replace(c, standard_error=float(errors[i] * c.value), rows=int(moved[:, i].sum()))
            for i, (name, c) in enumerate(fitted.items())
        }
    )
