"""The floor nobody can beat and the calibrated baseline, for arrays of requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data import catalogue
from ..data.vocabulary import PRECISIONS
from .coefficients import Coefficients, Rates, ideal_rates, rates_of
from .measured import MeasuredFabric
from .request import Requests
from .roofline import system
from .serving import Estimate as Estimate
from .serving import steady_state

_FEW = 64


def _estimate(r: Requests, rates: Rates, overcommit: bool = False) -> Estimate:
    with np.errstate(all="ignore"):
        return steady_state(system(r, rates, overcommit=overcommit))


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
    if measured is None:
        return _estimate(r, rates)
    same = r.gpu.codes == list(catalogue.gpus()).index(catalogue.gpu(measured.gpu).name)
    latency = rates.collective_latency * np.where(same, measured.alpha_scale, 1.0)
    bandwidth = rates.collective_bandwidth * np.where(same, measured.bandwidth_scale, 1.0)
    return _estimate(r, replace(rates, collective_latency=latency, collective_bandwidth=bandwidth))


def floor_and_baseline(r: Requests, coefficients: Coefficients) -> tuple[Estimate, Estimate]:
    """Return `floor` and `baseline`; of a few requests in one pass, whose cost is calls, not numbers."""
    if len(r) > _FEW:
        return floor(r), baseline(r, coefficients)
    rows = np.arange(len(r))
    rates = ideal_rates(r).followed_by(rates_of(r, coefficients))
    kv = np.concatenate([_granted(r).kv_precision, r.kv_precision])
    both = _estimate(replace(r.take(np.concatenate([rows, rows])), kv_precision=kv), rates)
    return both.take(rows), both.take(rows + len(r))
