"""The trained model: physics, learned correction, support and intervals, from requests to answers.

    answer = baseline x exp(w x correction),  correction = trees + residuals of measured rows near

w shrinks the correction where the request lies far from what training saw. TPOT, TTFT and end-to-end time
are learned; throughput follows from them by Little's law, output_tok_s = concurrency x osl / e2e, so the
three never disagree. Only numpy and lightgbm are needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...data.columns import BOUNDS
from ...features.baseline import Estimate, baseline, floor_and_baseline
from ...features.coefficients import Coefficients
from ...features.facts import ARCHITECTURES, Arrays, FloatArray
from ...features.frame import feature_matrix
from ...features.measured import MeasuredFabric
from ...features.memory import uses_host
from ...features.request import Requests
from .intervals import IntervalTable
from .residuals import MeasuredResiduals, coordinates_of, log_mass
from .support import STRATA, Strata, Support, levels, set_up_keys, stratum_codes

if TYPE_CHECKING:
    from lightgbm import Booster

    Boosters = Mapping[str, Booster]

ByName = Mapping[str, FloatArray]  # arrays (n,) by name in CORRECTED
CORRECTED = ("tpot", "ttft", "e2e")
SPREAD_BOUNDS = (0.02, 2.0)  # of the expected size of a log error
_KINDS = np.array([name if name in ("hopper", "blackwell") else "other" for name in ARCHITECTURES])


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything a prediction needs; made by training, stored as a bundle.

    By name in CORRECTED: boosters, LightGBM models of log(measured / baseline); spreads, those of the
    log error's expected size; intervals, conformal tables of the errors over it; blend, the weight of the
    correction by stratum. residuals: what the boosters leave of the measured rows.
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
class Answers(Arrays):
    """Answers for n requests: `values[name]`, and bounds under name + "_lo" / "_hi"; ms and tok/s.

    `correction[name]` is the learned log correction applied, for name in CORRECTED; `stratum` is the support
    in full, `support` its short form in | near | far.
    """

    values: Mapping[str, FloatArray]
    floor: Estimate
    baseline: Estimate
    stratum: Strata
    support: Strata
    correction: ByName


def corrections(
    boosters: Boosters, residuals: MeasuredResiduals, r: Requests, base: Estimate, matrix: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the raw learned log corrections by name, and how much was measured near, each of shape (n,)."""
    added, near = near_residuals(residuals, r, base)
    raw = {name: np.asarray(b.predict(matrix)) + added[name] for name, b in boosters.items()}
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
    return {
        name: spread_of(booster, spread_matrix(matrix, raw[name], near[name], stratum))
        for name, booster in boosters.items()
    }


def spread_of(booster: Booster, matrix: FloatArray) -> FloatArray:
    """Return the expected size of a log error [-], shape (n,), of rows of `spread_matrix`."""
    return np.asarray(np.clip(np.exp(booster.predict(matrix)), *SPREAD_BOUNDS))


def answer(model: Model, r: Requests, fabric: MeasuredFabric | None = None) -> Answers:
    """Answer n requests, on a machine whose `fabric` was measured. Rows invalid or too large are NaN."""
    low, base = floor_and_baseline(r, model.coefficients)
    matrix, _ = feature_matrix(r, low, base)
    stratum = model.support.stratum(r)
    raw, near = corrections(model.boosters, model.residuals, r, base, matrix)
    spread = spreads(model.spreads, matrix, raw, near, stratum)
    if fabric is not None:
        # The correction was learned on healthy machines; what the fabric costs more is carried in full.
        base = baseline(r, model.coefficients, fabric)
    applied = shrink(model.blend, raw, stratum)
    times = log_times(r, low, {name: getattr(base, f"{name}_s") for name in CORRECTED}, applied)
    values, cells = {}, interval_keys(r, stratum)
    for name in CORRECTED:
        lo, hi = model.intervals[name].interval(times[name], cells, spread[name])
        with np.errstate(divide="ignore"):
            lo = np.maximum(lo, np.log(getattr(low, f"{name}_s")))
        for suffix, value in zip(BOUNDS, (times[name], lo, hi), strict=True):
            values[f"{name}_ms{suffix}"] = np.exp(value) * 1e3
    return Answers(
        values=_with_rates(r, base, values), floor=low, baseline=base, stratum=stratum,
        support=levels(stratum), correction=applied,
    )  # fmt: skip


def _with_rates(r: Requests, base: Estimate, times: ByName) -> dict[str, FloatArray]:
    """Return the times with the throughput that they give by Little's law, and the bounds of each."""
    values = dict(times)
    rate = {k: base.concurrency * 1e3 / values[f"e2e_ms{k}"] for k in BOUNDS}
    asked = r.is_mode("open-loop", "server") & ~np.isnan(r.request_rate)
    if asked.any():
        # What is sent is served, up to what the deployment sustains; the residence is that of one request.
        rate = {k: np.where(asked, np.minimum(v, r.request_rate), v) for k, v in rate.items()}
        middle, alone = values["e2e_ms"], values["ttft_ms"] + values["tpot_ms"] * (r.osl - 1.0)
        for e2e in (f"e2e_ms{k}" for k in BOUNDS):
            values[e2e] = np.where(asked, alone * values[e2e] / middle, values[e2e])
    for metric, each in (("output_tok_s", r.osl), ("total_tok_s", r.isl + r.osl)):
        for here, there in (("", ""), ("_lo", "_hi"), ("_hi", "_lo")):
            values[metric + here] = rate[there] * each
    return values


def shrink(weights: Mapping[str, Mapping[str, float]], raw: ByName, stratum: Strata) -> dict[str, FloatArray]:
    """Return the corrections that are applied: raw ones times the weight of their stratum."""
    codes = stratum_codes(stratum)
    return {name: raw[name] * np.array([weights[name][s] for s in STRATA])[codes] for name in CORRECTED}


def log_times(r: Requests, low: Estimate, base_s: ByName, correction: ByName) -> dict[str, FloatArray]:
    """Return the log seconds of TPOT, TTFT and e2e: corrected, never under the floor, consistent.

    base_s: the baseline's seconds by name in CORRECTED, shape (n,). In a closed loop e2e is the geometric
    mean of its own answer and ttft + (osl - 1) x tpot.
    """
    with np.errstate(all="ignore"):
        times = {name: base_s[name] * np.exp(correction[name]) for name in CORRECTED}
        out = {name: np.log(np.maximum(time, getattr(low, f"{name}_s"))) for name, time in times.items()}
        together = np.log(np.exp(out["ttft"]) + np.exp(out["tpot"]) * np.maximum(r.osl - 1.0, 0.0))
    steady = r.is_mode("closed-loop") & (r.osl > 1.0)
    out["e2e"] = np.where(steady, 0.5 * (out["e2e"] + together), out["e2e"])
    return out


def interval_keys(r: Requests, stratum: Strata) -> Strata:
    """Return the calibration cell of each request: stratum, disaggregated or not, kind of GPU."""
    cell = np.char.add(np.where(r.disagg, "|disagg|", "|"), _KINDS[r.gpu.architecture.astype(np.int64)])
    return np.char.add(stratum, cell)
