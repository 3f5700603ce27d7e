"""The floor nobody can beat and the calibrated baseline, for arrays of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.vocabulary import PRECISIONS
from .coefficients import Coefficients, Rates, ideal_rates, rates_of
from .facts import Arrays, FloatArray
from .measured import MeasuredFabric
from .request import Requests
from .roofline import system
from .serving import Steady, steady_state

_FEW = 64


@dataclass(frozen=True, kw_only=True)
class Estimate(Arrays):
    """What floor or baseline answer, shape (n,): seconds, rates of the whole deployment, terms in seconds.

    `terms` holds seconds per output token (weights, kv, compute, communication, launch, queue) and, prefixed
    ttft_, seconds until the first token. Infeasible or invalid rows are NaN.
    """

    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    output_tok_s: FloatArray
    total_tok_s: FloatArray
    request_s: FloatArray
    concurrency: FloatArray
    batch: FloatArray
    burst_s: FloatArray
    max_batch: FloatArray
    bytes_needed: FloatArray
    bytes_available: FloatArray
    feasible: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    terms: Mapping[str, FloatArray]


def _estimate(r: Requests, rates: Rates, overcommit: bool = False) -> Estimate:
    with np.errstate(all="ignore"):
        s = system(r, rates, overcommit=overcommit)
        steady = steady_state(s)
    fit, usable = s.fit, r.valid & s.fit.fits
    values = {
        name: np.where(usable, getattr(steady, name), np.nan)
        for name in ("ttft_s", "tpot_s", "e2e_s", "request_s")
    }
    return Estimate(
        **values,
        output_tok_s=values["request_s"] * r.osl,
        total_tok_s=values["request_s"] * (r.isl + r.osl),
        concurrency=steady.concurrency,
        batch=steady.batch,
        burst_s=steady.burst_s,
        max_batch=fit.max_batch,
        bytes_needed=fit.needed_bytes,
        bytes_available=fit.available_bytes,
        feasible=usable,
        stable=steady.stable,
        terms=_terms(steady, rates, values["ttft_s"]),
    )


def _terms(steady: Steady, rates: Rates, ttft: FloatArray) -> dict[str, FloatArray]:
    names = ("weights", "kv", "compute", "communication", "launch", "host")
    terms = {name: getattr(steady.decode, name) / rates.accepted for name in names}
    terms["queue"] = steady.stall_s
    terms |= {f"ttft_{name}": getattr(steady.prefill, name) for name in names}
    terms["ttft_queue"] = steady.queue_s
    terms["ttft_launch"] = (
        np.maximum(ttft - steady.prefill.total - steady.queue_s, 0.0) + steady.prefill.launch
    )
    return terms


def floor(r: Requests, *, overcommit: bool = False) -> Estimate:
    """Return the ideal roofline: datasheet peaks, perfect overlap, no overhead, no queue.

    overcommit: let every engine fill its memory with what sequences hold on average (see `memory_fit`).
    """
    return _estimate(_granted(r), ideal_rates(r), overcommit)


def _granted(r: Requests) -> Requests:
    """Return the requests as a floor must take them: where no cache precision is given, the 8-bit one."""
    assumed = ~r.kv_given & (r.kv_precision == PRECISIONS.index("bf16"))
    return replace(r, kv_precision=np.where(assumed, PRECISIONS.index("fp8"), r.kv_precision))


def baseline(r: Requests, coefficients: Coefficients, measured: MeasuredFabric | None = None) -> Estimate:
    """Return the calibrated physics; with `measured`, on a machine whose fabric was measured."""
    rates = rates_of(r, coefficients)
    if measured is not None:
        rates = _on_fabric(r, rates, measured)
    return _estimate(r, rates)


def _on_fabric(r: Requests, rates: Rates, measured: MeasuredFabric) -> Rates:
    """Return the rates with the collectives of the measured GPU's rows scaled; a lone GPU has none."""
    same = r.gpu.codes == list(catalogue.gpus()).index(catalogue.gpu(measured.gpu).name)
    return replace(
        rates,
        collective_latency=rates.collective_latency * np.where(same, measured.alpha_scale, 1.0),
        collective_bandwidth=rates.collective_bandwidth * np.where(same, measured.bandwidth_scale, 1.0),
    )


def floor_and_baseline(r: Requests, coefficients: Coefficients) -> tuple[Estimate, Estimate]:
    """Return `floor` and `baseline`; of a few requests in one pass, whose cost is calls, not numbers."""
    if len(r) > _FEW:
        return floor(r), baseline(r, coefficients)
    rows = np.arange(len(r))
    rates = ideal_rates(r).followed_by(rates_of(r, coefficients))
    kv = np.concatenate([_granted(r).kv_precision, r.kv_precision])
    both = _estimate(replace(r.take(np.concatenate([rows, rows])), kv_precision=kv), rates)
    return both.take(rows), both.take(rows + len(r))
