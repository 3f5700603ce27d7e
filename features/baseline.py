"""The floor nobody can beat and the calibrated baseline, for arrays of requests.

`Coefficients` are a few interpretable numbers fitted to the benchmark table (training/calibrate.py); each
has a unit, a prior from kernel measurements, bounds and the rows it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.vocabulary import ENGINES, PRECISIONS
from .facts import ARCHITECTURES, FloatArray, IntArray
from .measured import MeasuredFabric
from .memory import memory_fit
from .request import Requests
from .roofline import DRAFTED_TOKENS, Rates, fabric_of, ideal_rates
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


_FEW = 64
_Record = TypeVar("_Record", Rates, Behaviour)
ENGINE_KINDS = ("vllm", "trtllm", "sglang", "atom", "tgi", "llamacpp", "transformers", "other")
KIND_OF_ENGINE = np.array([ENGINE_KINDS.index(e if e in ENGINE_KINDS else "other") for e in ENGINES])
# Medians of measured kernels. GEMV reaches 0.6 to 0.8 of the bandwidth, decode attention 0.8 to 0.9, GEMM
# 0.7 to 0.9 of the compute peak (less in narrow formats), prefill attention 0.3 to 0.6.
_SHARE_PRIORS = {
    "weight_bandwidth": 0.7,
    "kv_bandwidth": 0.75,
    "compute_bf16": 0.65,
    "compute_fp8": 0.6,
    "compute_fp4": 0.45,
    "attention_compute": 0.4,
}
_COMPUTED = ("bf16", "fp8", "fp4")
# Kernels for these are younger: their shares are expected lower, their launches slower.
_YOUNG = ("cdna3", "cdna4", "other")


def _by_architecture() -> dict[str, Coefficient]:
    out: dict[str, Coefficient] = {}
    for arch in ARCHITECTURES:
        young = arch in _YOUNG
        for name, prior in _SHARE_PRIORS.items():
            out[f"{name}.{arch}"] = _share(prior * (0.7 if young else 1.0), 0.05)
        out[f"layer_us.{arch}"] = _us(80.0 if young else 50.0, 250.0)
        out[f"moe_layer_us.{arch}"] = _us(25.0 if young else 15.0, 300.0)
    return out


def _by_engine() -> dict[str, Coefficient]:
    out: dict[str, Coefficient] = {}
    per_thousand = Coefficient(value=2.0, unit="ms per 1000 tokens", prior=2.0, low=0.0, high=60.0)
    for engine in ENGINE_KINDS:
        out[f"layer_factor.{engine}"] = _factor(1.0, 0.3, 6.0)
        out[f"step_us.{engine}"] = _us(1000.0, 20000.0)
        out[f"sequence_us.{engine}"] = _us(5.0, 300.0)
        out[f"first_token_ms.{engine}"] = Coefficient(value=30.0, unit="ms", prior=30.0, low=0.0, high=500.0)
        out[f"handoff_ms.{engine}"] = Coefficient(value=60.0, unit="ms", prior=60.0, low=0.0, high=1000.0)
        out[f"first_token_per_ktok_ms.{engine}"] = per_thousand
        out[f"stall.{engine}"] = _factor(0.8, 0.0, 2.5)
        out[f"passes.{engine}"] = _factor(0.5, 0.0, 3.0)
        out[f"queue.{engine}"] = _factor(1.0, 0.0, 10.0)
        out[f"wave.{engine}"] = _factor(0.3, 0.0, 4.0)
        out[f"opening.{engine}"] = _factor(1.0, 0.0, 8.0)
        out[f"wait_steps.{engine}"] = _factor(1.0, 0.0, 6.0)
        out[f"offline.{engine}"] = _factor(1.1, 0.5, 4.0)
    return out


def default_coefficients() -> dict[str, Coefficient]:
    """Return the priors of all coefficients by name: medians of measured kernels, and usual overheads."""
    return {
        **_by_architecture(),
        **_by_engine(),
        "collective_latency": _factor(1.3, 0.5, 6.0),
        "collective_bandwidth": _factor(0.8, 0.2, 1.0),
        "disagg_burst": _factor(0.7, 0.01, 2.0),
        "backlog": Coefficient(value=100.0, unit="requests", prior=100.0, low=1.0, high=3000.0),
        "expert_imbalance": _factor(1.2, 1.0, 3.0),
        "expert_skew": Coefficient(value=0.3, unit="exponent", prior=0.3, low=0.01, high=0.5),
        "host_bandwidth": _share(0.95, 0.5),
        "accepted_tokens": Coefficient(value=2.2, unit="tokens per step", prior=2.2, low=1.0, high=4.0),
    }


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

    def take(self, rows: NDArray[np.intp]) -> Estimate:
        """Return the estimate of a subset of rows."""
        parts = {k: v[rows] for k, v in vars(self).items() if k != "terms"}
        return Estimate(**parts, terms={k: v[rows] for k, v in self.terms.items()})


def _spread(coefficients: Coefficients, name: str, kinds: tuple[str, ...], codes: IntArray) -> FloatArray:
    """Return the coefficient `name` of each row's kind, shape (n,)."""
    values: FloatArray = coefficients.values([f"{name}.{kind}" for kind in kinds])[codes]
    return values


def _compute_share(r: Requests, coefficients: Coefficients, architecture: IntArray) -> FloatArray:
    """Return the achieved share of the compute peak in the format that the GPU multiplies in."""
    shares = {p: _spread(coefficients, f"compute_{p}", ARCHITECTURES, architecture) for p in _COMPUTED}
    share = shares["bf16"]
    for name in ("fp8", "fp4"):
        own = (r.weight_precision == PRECISIONS.index(name)) & (getattr(r.gpu, f"units_{name}") > 0)
        share = np.where(own, shares[name], share)
    return share


def rates_of(r: Requests, coefficients: Coefficients) -> Rates:
    """Spread the coefficients over the requests: shape (n,) each, seconds and shares."""
    architecture = r.gpu.architecture.astype(np.int64)
    kind = KIND_OF_ENGINE[r.engine]

    def of_gpu(name: str) -> FloatArray:
        return _spread(coefficients, name, ARCHITECTURES, architecture)

    def of_engine(name: str) -> FloatArray:
        return _spread(coefficients, name, ENGINE_KINDS, kind)

    def of_all(name: str) -> FloatArray:
        return np.full(len(r), coefficients.entries[name].value)

    speculates = r.spec_decode > 0
    layer = (of_gpu("layer_us") + of_gpu("moe_layer_us") * (r.model.is_moe > 0)) * 1e-6
    return Rates(
        weight_bandwidth=of_gpu("weight_bandwidth"),
        kv_bandwidth=of_gpu("kv_bandwidth"),
        compute=_compute_share(r, coefficients, architecture),
        attention_compute=of_gpu("attention_compute"),
        layer_s=layer * of_engine("layer_factor"),
        step_s=of_engine("step_us") * 1e-6,
        sequence_s=of_engine("sequence_us") * 1e-6,
        collective_latency=of_all("collective_latency"),
        collective_bandwidth=of_all("collective_bandwidth"),
        expert_imbalance=of_all("expert_imbalance"),
        expert_skew=of_all("expert_skew"),
        host_bandwidth=of_all("host_bandwidth"),
        accepted=np.where(speculates, of_all("accepted_tokens"), 1.0),
        drafted=np.where(speculates, DRAFTED_TOKENS, 0.0),
        perfect_overlap=np.zeros(len(r), dtype=bool),
    )


def _behaviour(r: Requests, coefficients: Coefficients) -> Behaviour:
    kind = KIND_OF_ENGINE[r.engine]

    def of_engine(name: str) -> FloatArray:
        return _spread(coefficients, name, ENGINE_KINDS, kind)

    return Behaviour(
        first_token_s=of_engine("first_token_ms") * 1e-3,
        first_token_per_token_s=of_engine("first_token_per_ktok_ms") * 1e-6,
        stall=of_engine("stall"),
        passes=of_engine("passes"),
        queue=of_engine("queue"),
        wave=of_engine("wave"),
        opening=of_engine("opening"),
        wait_steps=of_engine("wait_steps"),
        offline=of_engine("offline"),
        backlog=np.full(len(r), coefficients.entries["backlog"].value),
        handoff_s=of_engine("handoff_ms") * 1e-3,
        disagg_burst=np.full(len(r), coefficients.entries["disagg_burst"].value),
    )


def _ideal_behaviour(r: Requests) -> Behaviour:
    nothing = {term.name: np.zeros(len(r)) for term in fields(Behaviour)}
    return Behaviour(**nothing | {"offline": np.ones(len(r))})


def _estimate(r: Requests, rates: Rates, behaviour: Behaviour, overcommit: bool = False) -> Estimate:
    with np.errstate(all="ignore"):
        fit = memory_fit(r, overcommit=overcommit)
        steady = steady_state(r, rates, behaviour, fit, fabric_of(r, rates))
    usable = r.valid & fit.fits
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
    return _estimate(_granted(r), ideal_rates(r), _ideal_behaviour(r), overcommit)


def _granted(r: Requests) -> Requests:
    """Return the requests as a floor must take them: where no cache precision is given, the 8-bit one."""
    assumed = ~r.kv_given & (r.kv_precision == PRECISIONS.index("bf16"))
    return replace(r, kv_precision=np.where(assumed, PRECISIONS.index("fp8"), r.kv_precision))


def baseline(r: Requests, coefficients: Coefficients, measured: MeasuredFabric | None = None) -> Estimate:
    """Return the calibrated physics; with `measured`, on a machine whose fabric was measured."""
    rates = rates_of(r, coefficients)
    if measured is not None:
        rates = _on_fabric(r, rates, measured)
    return _estimate(r, rates, _behaviour(r, coefficients))


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
    rates = _joined(ideal_rates(r), rates_of(r, coefficients))
    behaviour = _joined(_ideal_behaviour(r), _behaviour(r, coefficients))
    kv = np.concatenate([_granted(r).kv_precision, r.kv_precision])
    both = _estimate(replace(r.take(np.concatenate([rows, rows])), kv_precision=kv), rates, behaviour)
    return both.take(rows), both.take(rows + len(r))


def _joined(first: _Record, second: _Record) -> _Record:
    return type(first)(**{k: np.concatenate([v, vars(second)[k]]) for k, v in vars(first).items()})
