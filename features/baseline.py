"""The floor nobody can beat and the calibrated baseline, for arrays of requests.

`Coefficients` are a few interpretable numbers fitted to the benchmark table (training/calibrate.py); each
has a unit, a prior from kernel measurements, bounds and the rows it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .facts import ARCHITECTURES, PRECISIONS, FloatArray
from .memory import memory_fit
from .request import ENGINES, Requests
from .roofline import Rates, fabric_of, ideal_rates
from .serving import Behaviour, Steady, steady_state


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One fitted number: value, unit, prior and bounds (in that unit), standard error, rows it rests on."""

    value: float
    unit: str
    prior: float
    low: float
    high: float
    standard_error: float = float("nan")
    rows: int = 0


def _share(prior: float, low: float = 0.1, high: float = 1.0) -> Coefficient:
    return Coefficient(value=prior, unit="share of peak", prior=prior, low=low, high=high)


def _us(prior: float, high: float) -> Coefficient:
    return Coefficient(value=prior, unit="us", prior=prior, low=0.0, high=high)


def _factor(prior: float, low: float, high: float) -> Coefficient:
    return Coefficient(value=prior, unit="factor", prior=prior, low=low, high=high)


ENGINE_KINDS = ("vllm", "trtllm", "sglang", "atom", "other")
KIND_OF_ENGINE = np.array([ENGINE_KINDS.index(e if e in ENGINE_KINDS else "other") for e in ENGINES])
_SHARES = ("weight_bandwidth", "kv_bandwidth", "compute_bf16", "compute_fp8", "compute_fp4", "attention_compute")


def default_coefficients() -> dict[str, Coefficient]:
    """Return the priors: medians of measured kernels (GEMM 0.7 to 0.9 of peak, GEMV 0.6 to 0.8, decode
    attention 0.8 to 0.9, prefill attention 0.3 to 0.6) and usual overheads."""
    c: dict[str, Coefficient] = {}
    for arch in ARCHITECTURES:
        slow = 0.7 if arch.startswith("cdna") or arch == "other" else 1.0
        priors = (0.7, 0.75, 0.65, 0.6, 0.45, 0.4)
        for name, prior in zip(_SHARES, priors, strict=True):
            c[f"{name}.{arch}"] = _share(prior * slow, 0.05)
        c[f"layer_us.{arch}"] = _us(50.0 if slow == 1.0 else 80.0, 250.0)
        c[f"moe_layer_us.{arch}"] = _us(15.0 if slow == 1.0 else 25.0, 300.0)
    for engine in ENGINE_KINDS:
        c[f"layer_factor.{engine}"] = _factor(1.0, 0.3, 6.0)
        c[f"step_us.{engine}"] = _us(1000.0, 20000.0)
        c[f"sequence_us.{engine}"] = _us(5.0, 300.0)
        c[f"first_token_ms.{engine}"] = Coefficient(value=30.0, unit="ms", prior=30.0, low=0.0, high=500.0)
        c[f"first_token_per_ktok_ms.{engine}"] = Coefficient(value=2.0, unit="ms per 1000 tokens", prior=2.0, low=0.0, high=60.0)
        c[f"stall.{engine}"] = _factor(0.8, 0.0, 2.5)
        c[f"queue.{engine}"] = _factor(1.0, 0.0, 10.0)
        c[f"wave.{engine}"] = _factor(0.3, 0.0, 2.0)
        c[f"opening.{engine}"] = _factor(1.0, 0.0, 5.0)
        c[f"wait_steps.{engine}"] = _factor(1.0, 0.0, 6.0)
        c[f"offline.{engine}"] = _factor(1.1, 0.5, 4.0)
    c["collective_latency"] = _factor(1.3, 0.5, 6.0)
    c["collective_bandwidth"] = _factor(0.8, 0.2, 1.0)
    c["expert_imbalance"] = _factor(1.2, 1.0, 3.0)
    c["accepted_tokens"] = Coefficient(value=2.2, unit="tokens per step", prior=2.2, low=1.0, high=4.0)
    return c


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """The calibrated numbers of the baseline by name ("weight_bandwidth.hopper", "step_us.vllm")."""

    entries: Mapping[str, Coefficient] = field(default_factory=default_coefficients)

    def values(self, names: list[str]) -> FloatArray:
        """Return the values of several coefficients, in order."""
        return np.array([self.entries[name].value for name in names])

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain dictionaries, for JSON."""
        return {name: dict(vars(entry)) for name, entry in self.entries.items()}

    @staticmethod
    def from_dict(data: Mapping[str, Mapping[str, Any]]) -> Coefficients:
        """Rebuild from `to_dict`'s output."""
        return Coefficients(entries={name: Coefficient(**entry) for name, entry in data.items()})


@dataclass(frozen=True, kw_only=True)
class Estimate:
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


def rates_of(r: Requests, coefficients: Coefficients) -> Rates:
    """Spread the coefficients over the requests."""
    architecture = r.gpu.architecture.astype(np.int64)
    kind = KIND_OF_ENGINE[r.engine]

    def by_architecture(name: str) -> FloatArray:
        return coefficients.values([f"{name}.{a}" for a in ARCHITECTURES])[architecture]

    def by_engine(name: str) -> FloatArray:
        return coefficients.values([f"{name}.{e}" for e in ENGINE_KINDS])[kind]

    table = np.stack([by_architecture(f"compute_{p}") for p in ("bf16", "fp8", "fp4")], axis=1)
    units = np.stack([getattr(r.gpu, f"units_{p}") for p in PRECISIONS], axis=1)[np.arange(len(r)), r.weight_precision]
    column = np.where((r.weight_precision == 1) & (units > 0), 1, np.where((r.weight_precision == 2) & (units > 0), 2, 0))
    layer = (by_architecture("layer_us") + by_architecture("moe_layer_us") * (r.model.is_moe > 0)) * 1e-6
    accepted = np.where(r.spec_decode > 0, coefficients.entries["accepted_tokens"].value, 1.0)
    one = np.ones(len(r))
    return Rates(
        weight_bandwidth=by_architecture("weight_bandwidth"),
        kv_bandwidth=by_architecture("kv_bandwidth"),
        compute=table[np.arange(len(r)), column],
        attention_compute=by_architecture("attention_compute"),
        layer_s=layer * by_engine("layer_factor"),
        step_s=by_engine("step_us") * 1e-6,
        sequence_s=by_engine("sequence_us") * 1e-6,
        collective_latency=one * coefficients.entries["collective_latency"].value,
        collective_bandwidth=one * coefficients.entries["collective_bandwidth"].value,
        expert_imbalance=one * coefficients.entries["expert_imbalance"].value,
        accepted=accepted,
        drafted=np.where(r.spec_decode > 0, 3.0, 0.0),
    )


def _behaviour(r: Requests, coefficients: Coefficients) -> Behaviour:
    kind = KIND_OF_ENGINE[r.engine]

    def by_engine(name: str) -> FloatArray:
        return coefficients.values([f"{name}.{e}" for e in ENGINE_KINDS])[kind]

    return Behaviour(
        first_token_s=by_engine("first_token_ms") * 1e-3,
        first_token_per_token_s=by_engine("first_token_per_ktok_ms") * 1e-6,
        stall=by_engine("stall"),
        queue=by_engine("queue"),
        wave=by_engine("wave"),
        opening=by_engine("opening"),
        wait_steps=by_engine("wait_steps"),
        offline=by_engine("offline"),
    )


def _ideal_behaviour(r: Requests) -> Behaviour:
    one, zero = np.ones(len(r)), np.zeros(len(r))
    return Behaviour(
        first_token_s=zero, first_token_per_token_s=zero, stall=zero, queue=zero, wave=zero, opening=zero,
        wait_steps=zero, offline=one,
    )


def _estimate(r: Requests, rates: Rates, behaviour: Behaviour) -> Estimate:
    with np.errstate(all="ignore"):
        fit = memory_fit(r)
        steady = steady_state(r, rates, behaviour, fit, fabric_of(r, rates))
    usable = r.valid & fit.fits
    values = {name: np.where(usable, getattr(steady, name), np.nan) for name in ("ttft_s", "tpot_s", "e2e_s", "request_s")}
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
    names = ("weights", "kv", "compute", "communication", "launch")
    terms = {name: getattr(steady.decode, name) / rates.accepted for name in names}
    terms["queue"] = steady.stall_s
    terms |= {f"ttft_{name}": getattr(steady.prefill, name) for name in names}
    terms["ttft_queue"] = steady.queue_s
    terms["ttft_launch"] = np.maximum(ttft - steady.prefill.total - steady.queue_s, 0.0) + steady.prefill.launch
    return terms


def floor(r: Requests) -> Estimate:
    """Return the ideal roofline: datasheet peaks, perfect overlap, no overhead, no queue."""
    return _estimate(r, ideal_rates(r), _ideal_behaviour(r))


def baseline(r: Requests, coefficients: Coefficients) -> Estimate:
    """Return the calibrated physics."""
    return _estimate(r, rates_of(r, coefficients), _behaviour(r, coefficients))
