"""Fit the baseline's coefficients to measured rows: robust, bounded, with priors from kernel measurements.

Minimises soft-L1 of log(baseline / measured) over TPOT, TTFT and output throughput, plus one weak pull per
coefficient towards its prior in log space, by trust-region least squares on the logarithms of the values
(scipy.optimize.least_squares). Only the rows given are seen: protocols pass their training groups alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.sparse import csr_array

from ..features.baseline import Estimate, baseline
from ..features.coefficients import ENGINE_KINDS, KIND_OF_ENGINE, Coefficient, Coefficients
from ..features.facts import ARCHITECTURES, FloatArray, IntArray
from ..features.request import Requests, normalise
from .metrics import METRICS

_IMPORTANCE = {"tpot_ms": 1.0, "ttft_ms": 0.6, "output_tok_s": 0.6, "ttft_mean_ms": 0.6}
_PRIOR_STRENGTH = 6.0  # a coefficient's prior weighs as much as this many rows at an error of its own size
_MOST_ROWS = 5000
_SMALLEST = 1e-3
_STEP = 1e-3  # in the logarithm of a coefficient, for slopes


def predicted(estimate: Estimate) -> dict[str, FloatArray]:
    """Return an estimate's answers under the table's target names: ms and tokens per second."""
    times = (estimate.tpot_s, estimate.ttft_s, estimate.ttft_mean_s)
    tpot_ms, ttft_ms, ttft_mean_ms = (time * 1e3 for time in times)
    figures = (tpot_ms, ttft_ms, estimate.output_tok_s, ttft_mean_ms)
    return dict(zip(METRICS, figures, strict=True))


def _owners(names: list[str], r: Requests) -> dict[str, IntArray]:
    """Return by quantity ("step_us") which coefficient each row reads, (n,): all can be moved in one step."""
    by_engine = {kind: KIND_OF_ENGINE[r.engine] == i for i, kind in enumerate(ENGINE_KINDS)}
    by_chip = {kind: r.gpu.architecture == i for i, kind in enumerate(ARCHITECTURES)}
    owners: dict[str, IntArray] = {}
    for position, name in enumerate(names):
        quantity, _, kind = name.partition(".")
        kinds = by_engine if f"{quantity}.{ENGINE_KINDS[0]}" in names else by_chip  # both have an "other"
        here = kinds[kind] if kind else np.ones(len(r), dtype=bool)
        owners.setdefault(quantity, np.full(len(r), -1))[here] = position
    return owners


def _with_values(entries: dict[str, Coefficient], logs: FloatArray) -> Coefficients:
    pairs = zip(entries.items(), np.exp(logs), strict=True)
    return Coefficients(entries={name: replace(entry, value=float(v)) for (name, entry), v in pairs})


@dataclass(frozen=True)
class _Measured:
    """Requests with the logarithms of what was measured and their weights, shape (targets, n) each."""

    requests: Requests
    logs: FloatArray
    weight: FloatArray

    def errors(self, coefficients: Coefficients) -> FloatArray:
        """Return the weighted log errors of the baseline, 0 where nothing was measured."""
        answer = predicted(baseline(self.requests, coefficients))
        with np.errstate(all="ignore"):
            gaps = (np.log(np.array([answer[t] for t in METRICS])) - self.logs) * self.weight
        known: FloatArray = np.nan_to_num(gaps, nan=0.0, posinf=0.0, neginf=0.0)
        return known


class _Slopes:
    """Derivatives of the errors by differences, each quantity on the rows that it moves at the start."""

    def __init__(self, whole: _Measured, entries: dict[str, Coefficient]) -> None:
        self.whole, self.entries = whole, entries
        self.owners = _owners(list(entries), whole.requests)
        self.reach: dict[str, tuple[IntArray, _Measured]] = {}

    def __call__(self, logs: FloatArray, here: FloatArray) -> FloatArray:
        """Return d errors / d logs, shape (targets, n, coefficients); here: the errors at `logs`."""
        out = np.zeros((*here.shape, len(logs)))
        for name, owners in self.owners.items():
            rows, part = self.reach.get(name, (np.arange(len(owners)), self.whole))
            if not len(rows):
                continue
            owner = owners[rows]
            step = np.zeros(len(logs))
            step[owner] = _STEP
            change = (part.errors(_with_values(self.entries, logs + step)) - here[:, rows]) / _STEP
            out[:, rows, owner] = change
            if name not in self.reach:
                moved = np.flatnonzero((change != 0.0).any(axis=0))
                some = _Measured(part.requests.take(moved), part.logs[:, moved], part.weight[:, moved])
                self.reach[name] = (moved, some)
        return out


def calibrate(table: pd.DataFrame, *, seed: int = 0, max_evaluations: int = 12) -> Coefficients:
    """Fit all coefficients to the rows of `table` (contract columns, targets in ms and tok/s).

    Returns coefficients with standard errors (from the Gauss-Newton covariance) and rows per coefficient.
    """
    if len(table) > _MOST_ROWS:
        # Few of each family of rows, so that no source outvotes the others.
        by = table.groupby(["gpu", "model", "engine", "source_family"], observed=True)["weight"]
        chance = 1.0 / np.sqrt(by.transform("size").to_numpy(dtype=np.float64))
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(table), size=_MOST_ROWS, replace=False, p=chance / chance.sum())
        table = table.iloc[np.sort(rows)]
    weight = np.sqrt(table["weight"].to_numpy(dtype=np.float64))
    measured = np.log(table[list(METRICS)].to_numpy(dtype=np.float64).T)
    whole = _Measured(normalise(table), measured, np.array([_IMPORTANCE[t] * weight for t in METRICS]))
    entries = dict(Coefficients().entries)
    n, names, derive = len(whole.requests), list(entries), _Slopes(whole, entries)
    low = np.log([max(c.low, _SMALLEST * c.prior) for c in entries.values()])
    high = np.log([c.high for c in entries.values()])
    prior = np.log([c.prior for c in entries.values()])
    pull = np.sqrt(_PRIOR_STRENGTH) * 0.3

    @lru_cache(maxsize=1)  # the solver asks for slopes where it has just asked for errors
    def misses(logs: bytes) -> FloatArray:
        return whole.errors(_with_values(entries, np.frombuffer(logs)))

    def residuals(logs: FloatArray) -> FloatArray:
        return np.concatenate([misses(logs.tobytes()).ravel(), pull * (logs - prior)])

    def slopes(logs: FloatArray) -> csr_array:
        change = derive(logs, misses(logs.tobytes())).reshape(-1, len(names))
        return csr_array(np.vstack([change, pull * np.eye(len(names))]))

    result = least_squares(
        residuals, np.clip(prior, low + 1e-6, high - 1e-6), jac=slopes, bounds=(low, high), loss="soft_l1",
        f_scale=0.25, max_nfev=max_evaluations, x_scale=0.3,
    )  # fmt: skip
    jacobian, measures = result.jac.toarray(), len(METRICS) * n
    spread = float(np.median(np.abs(result.fun[:measures][result.fun[:measures] != 0.0]))) * 1.48
    errors = spread * np.sqrt(np.maximum(np.diag(np.linalg.pinv(jacobian.T @ jacobian)), 0.0))
    moved = (np.abs(jacobian[:measures]).reshape(len(METRICS), n, -1) > 0.0).any(axis=0)
    fitted = {
        name: replace(c, standard_error=float(error * c.value), rows=int(reached))
        for (name, c), error, reached in zip(
            _with_values(entries, result.x).entries.items(), errors, moved.sum(axis=0), strict=True
        )
    }
    return Coefficients(entries=fitted)
