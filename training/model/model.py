"""The trained model: physics, learned correction, support and intervals, from requests to answers.

    answer = baseline x exp(w x correction),  correction = trees + residuals of measured rows near

w shrinks the correction where the request lies far from what training saw. TPOT, TTFT and end-to-end time
are learned; throughput follows by Little's law, output_tok_s = concurrency x osl / e2e, and `agreement` lets
the four never contradict each other. Only numpy and lightgbm are needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...data.columns import BOUNDS
from ...features.baseline import Estimate, baseline, floor_and_baseline
from ...features.coefficients import Coefficients
from ...features.facts import ARCHITECTURES, Arrays, FloatArray
from ...features.frame import feature_matrix, of_statistic
from ...features.measured import MeasuredFabric
from ...features.memory import uses_host
from ...features.request import Requests
from . import agreement
from .intervals import IntervalTable
from .residuals import MeasuredResiduals, coordinates_of, log_mass
from .support import STRATA, Strata, Support, levels, set_up_keys, stratum_codes
from .times import (
    CORRECTED,
    LEARNED,
    MEAN,
    OF,
    TAIL,
    TAILS,
    ByName,
    base_seconds,
    floor_seconds,
    log_over,
)

if TYPE_CHECKING:
    from lightgbm import Booster

    Boosters = Mapping[str, Booster]

SPREAD_BOUNDS = (0.02, 2.0)  # of the expected size of a log error
_KINDS = np.array([name if name in ("hopper", "blackwell") else "other" for name in ARCHITECTURES])


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything a prediction needs; made by training, stored as a bundle.

    boosters: LightGBM models of log(measured / baseline), by name in TREES; spreads: those of the log error's
    expected size, by name in LEARNED. By name in CORRECTED: intervals, conformal tables of the errors over
    it; blend, the weight of the correction by stratum. residuals: what the boosters leave of measured rows.
    """

    coefficients: Coefficients
    boosters: Boosters
    residuals: MeasuredResiduals
    feature_names: tuple[str, ...]
    support: Support
    blend: Mapping[str, Mapping[str, float]]
    spreads: Boosters
    intervals: Mapping[str, IntervalTable]


@dataclass(frozen=True, kw_only=True)
class _Found(Arrays):
    """Answers for n requests, each for itself."""

    values: Mapping[str, FloatArray]
    floor: Estimate
    baseline: Estimate
    stratum: Strata
    support: Strata
    base_s: ByName
    correction: ByName


@dataclass(frozen=True, kw_only=True)
class Answers(_Found):
    """Answers for n requests: `values[name]`, and bounds under name + "_lo" / "_hi"; ms and tok/s.

    By name in CORRECTED: `base_s`, the baseline's seconds; `correction`, the learned log correction applied.
    `stratum` is the support in full, `support` its short form in | near | far. `requests` are those that
    `baseline` and `correction` answer: an endless run may be answered as a closed loop, a rate as the limit
    (see `agreement`).
    """

    requests: Requests


def corrections(
    boosters: Boosters, residuals: MeasuredResiduals, r: Requests, base: Estimate, matrix: FloatArray,
    base_s: ByName | None = None,
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:  # fmt: skip
    """Return the raw learned log corrections by name, and how much was measured near, each of shape (n,).

    base_s: `base_seconds`, where they are at hand.
    """
    added, near = near_residuals(residuals, r, base)
    seconds = base_s or base_seconds(r, base)

    def learned(trees: str, name: str, statistic: str = "") -> FloatArray:
        asked = of_statistic(matrix, statistic, log_over(seconds, name)) if statistic else matrix
        return np.asarray(boosters[trees].predict(asked))

    raw = {name: learned(name, name) + added[name] for name in LEARNED}
    raw[MEAN] = learned(OF[MEAN], MEAN, "mean") + added[MEAN]
    raw |= {name: raw[of] + learned(of + TAIL, name, statistic) for name, (of, statistic) in TAILS.items()}
    return raw, near


def near_residuals(
    residuals: MeasuredResiduals, r: Requests, base: Estimate
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return `MeasuredResiduals.near` of requests; what lies in host memory has none."""
    keys = np.where(uses_host(r), np.uint64(0), set_up_keys(r))
    return residuals.near(keys, coordinates_of(r, base.concurrency))


def spread_matrix(matrix: FloatArray, raw: FloatArray, near: FloatArray, stratum: Strata) -> FloatArray:
    """Return what the spread models read: features, correction, what was measured near, stratum's code."""
    return np.column_stack([matrix, raw, log_mass(near), stratum_codes(stratum)])


def spreads(
    boosters: Boosters, matrix: FloatArray, raw: ByName, near: ByName, stratum: Strata
) -> dict[str, FloatArray]:
    """Return the expected size of each log error [-] by name, shape (n,): what intervals are scaled by."""
    size = {
        name: spread_of(booster, spread_matrix(matrix, raw[name], near[name], stratum))
        for name, booster in boosters.items()
    }
    return {name: size[OF[name]] for name in CORRECTED}


def spread_of(booster: Booster, matrix: FloatArray) -> FloatArray:
    """Return the expected size of a log error [-], shape (n,), of rows of `spread_matrix`."""
    return np.asarray(np.clip(np.exp(booster.predict(matrix)), *SPREAD_BOUNDS))


def answer(model: Model, r: Requests, fabric: MeasuredFabric | None = None) -> Answers:
    """Answer n requests, on a machine whose `fabric` was measured. Rows invalid or too large are NaN."""
    ends = agreement.endless(r)
    asked = agreement.closed_loops(r, ends)
    found = _answer(model, asked, fabric)
    floor = found.floor.take(np.arange(len(r)))  # of what was asked, whatever answers for it
    if len(ends):
        chosen = agreement.best(len(r), ends, found.values["output_tok_s"] / asked.osl)
        found, asked = found.take(chosen), asked.take(chosen)
    rows = agreement.near_limit(asked, found.baseline)
    limits = found.take(rows[:0])
    if len(rows):
        limits = _answer(model, agreement.at_the_limit(asked, found.baseline, rows), fabric)
        most = np.minimum(limits.values["output_tok_s"][: len(rows)] / r.osl[rows], floor.limit_s[rows])
        chosen, rate = agreement.chosen_by_rate(asked, found.baseline, rows, most)
        found, asked = found.followed_by(limits).take(chosen), replace(asked, request_rate=rate)
    values = agreement.served(r, found.values, rows, limits.values, floor)
    base = agreement.no_more_than_asked(r, found.baseline)
    return Answers(**vars(found) | {"values": values, "floor": floor, "baseline": base, "requests": asked})


def _answer(model: Model, r: Requests, fabric: MeasuredFabric | None) -> _Found:
    """Answer n requests, each for itself."""
    low, base = floor_and_baseline(r, model.coefficients)
    matrix, _ = feature_matrix(r, low, base)
    stratum = model.support.stratum(r)
    base_s = base_seconds(r, base)
    raw, near = corrections(model.boosters, model.residuals, r, base, matrix, base_s)
    spread = spreads(model.spreads, matrix, raw, near, stratum)
    if fabric is not None:
        # The correction was learned on healthy machines; what the fabric costs more is carried in full.
        base = baseline(r, model.coefficients, fabric)
        base_s = base_seconds(r, base)
    applied = shrink(model.blend, raw, stratum)
    times = agreement.log_times(r, low, base_s, applied)
    values, cells, least = {}, interval_keys(r, stratum), floor_seconds(low)
    for name in CORRECTED:
        lo, hi = model.intervals[name].interval(times[name], cells, spread[name])
        with np.errstate(divide="ignore"):
            lo = np.maximum(lo, np.log(least[name]))
        for suffix, value in zip(BOUNDS, (times[name], lo, hi), strict=True):
            values[f"{name}_ms{suffix}"] = np.exp(value) * 1e3
    return _Found(
        values=agreement.with_rates(r, base, low, values), floor=low, baseline=base,
        stratum=stratum, support=levels(stratum), base_s=base_s, correction=applied,
    )  # fmt: skip


def shrink(weights: Mapping[str, Mapping[str, float]], raw: ByName, stratum: Strata) -> dict[str, FloatArray]:
    """Return the corrections that are applied: raw ones times the weight of their stratum."""
    codes = stratum_codes(stratum)
    return {name: raw[name] * np.array([weights[name][s] for s in STRATA])[codes] for name in CORRECTED}


def interval_keys(r: Requests, stratum: Strata) -> Strata:
    """Return the calibration cell of each request: stratum, disaggregated or not, kind of GPU."""
    cell = np.char.add(np.where(r.disagg, "|disagg|", "|"), _KINDS[r.gpu.architecture.astype(np.int64)])
    return np.char.add(stratum, cell)
