"""What is calibrated: a few interpretable numbers, and the rates that each request's physics runs at.

`Coefficients` are fitted to the benchmark table (training/calibrate.py); each has a unit, a prior from kernel
measurements, bounds and the rows it was fitted on. With `ideal_rates` every share is 1, every overhead 0, and
terms overlap perfectly: that is the floor.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from ..data.vocabulary import ENGINES, PRECISIONS
from .cells import default
from .facts import ARCHITECTURES, Arrays, BoolArray, FloatArray
from .request import Requests

_MOST_DRAFTED = 7.0  # by any engine's speculation that was measured: what the floor grants
# The floor must hold for routing that favours some experts: the strongest skew seen in served models.
_FLOOR_SKEW = 0.5


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


ENGINE_KINDS = tuple(term.name for term in ENGINES.terms if term.calibrated)
KIND_OF_ENGINE = np.array([ENGINE_KINDS.index(e if e in ENGINE_KINDS else "other") for e in ENGINES])


def default_coefficients() -> dict[str, Coefficient]:
    """Return the priors of all coefficients by name, as data/priors.toml has them."""
    table = tomllib.loads(files("roofcast.data").joinpath("priors.toml").read_text("utf-8"))
    found = [
        (f"{name}.{kind}", entry, kind in table["young"])
        for group, kinds in (("architecture", ARCHITECTURES), ("engine", ENGINE_KINDS))
        for kind in kinds
        for name, entry in table[group].items()
    ] + [(name, entry, False) for name, entry in table["all"].items()]
    out: dict[str, Coefficient] = {}
    for name, entry, young in found:
        prior = entry["prior"]
        if young:
            prior = entry.get("young_prior", prior * entry.get("young_factor", 1.0))
        bounds = {key: entry[key] for key in ("unit", "low", "high")}
        out[name] = Coefficient(value=prior, prior=prior, **bounds)
    return out


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
class Rates(Arrays):
    """Achieved shares of the hardware's rates, overheads and habits of scheduling per request, shape (n,).

    first_token_per_token_s: per prompt token; handoff_s: between separate pools; backlog: requests that an
    overloaded server gathers; accepted and drafted: tokens per step; stall, passes, queue, wave, opening,
    wait_steps, offline, disagg_burst: factors on the terms of `serving.steady_state`.
    """

    weight_bandwidth: FloatArray
    kv_bandwidth: FloatArray
    compute: FloatArray
    attention_compute: FloatArray
    layer_s: FloatArray
    step_s: FloatArray
    sequence_s: FloatArray
    collective_latency: FloatArray
    collective_bandwidth: FloatArray
    expert_imbalance: FloatArray
    expert_skew: FloatArray
    host_bandwidth: FloatArray
    accepted: FloatArray
    drafted: FloatArray
    first_token_s: FloatArray
    first_token_per_token_s: FloatArray
    handoff_s: FloatArray
    stall: FloatArray
    passes: FloatArray
    queue: FloatArray
    wave: FloatArray
    opening: FloatArray
    wait_steps: FloatArray
    offline: FloatArray
    backlog: FloatArray
    disagg_burst: FloatArray
    perfect_overlap: BoolArray


# Fields of Rates that are a coefficient as it is fitted, and those that are 1 at the peaks.
_AS_FITTED = (
    "weight_bandwidth", "kv_bandwidth", "attention_compute", "collective_latency", "collective_bandwidth",
    "expert_imbalance", "expert_skew", "host_bandwidth", "stall", "passes", "queue", "wave", "opening",
    "wait_steps", "offline", "backlog", "disagg_burst",
)  # fmt: skip
_PEAKS = ("weight_bandwidth", "kv_bandwidth", "compute", "attention_compute", "collective_bandwidth",
          "expert_imbalance", "host_bandwidth", "offline")  # fmt: skip


def ideal_rates(r: Requests) -> Rates:
    """Return rates at datasheet peaks without overheads; speculation accepts all draft tokens unless told."""
    told = np.where(np.isnan(r.settings.accepted), _MOST_DRAFTED, r.settings.accepted - 1.0)
    one, drafted = np.ones(len(r)), np.where(r.spec_decode > 0, told, 0.0)
    values: dict[str, Any] = dict.fromkeys(Rates.__dataclass_fields__, np.zeros(len(r)))
    values |= dict.fromkeys(_PEAKS, one) | {"perfect_overlap": np.ones(len(r), dtype=bool)}
    accepted = default(r.settings.accepted, 1.0 + drafted)
    return Rates(**values | {"expert_skew": _FLOOR_SKEW * one, "accepted": accepted, "drafted": drafted})


def rates_of(r: Requests, coefficients: Coefficients) -> Rates:
    """Spread the coefficients over the requests: shape (n,) each, seconds and shares."""
    entries, speculates = coefficients.entries, r.spec_decode > 0
    architecture, engine = r.gpu.architecture.astype(np.int64), KIND_OF_ENGINE[r.engine]

    def of(name: str) -> FloatArray:
        """Return a coefficient of all, of each row's architecture or of its engine."""
        if name in entries:
            return np.full(len(r), entries[name].value)
        by_gpu = f"{name}.{ARCHITECTURES[0]}" in entries
        kinds, codes = (ARCHITECTURES, architecture) if by_gpu else (ENGINE_KINDS, engine)
        return coefficients.values([f"{name}.{kind}" for kind in kinds])[codes]

    compute = of("compute_bf16")
    for name in ("fp8", "fp4"):  # the format that the GPU multiplies in
        own = (r.weight_precision == PRECISIONS.index(name)) & (getattr(r.gpu, f"units_{name}") > 0)
        compute = np.where(own, of(f"compute_{name}"), compute)
    accepted = default(r.settings.accepted, np.minimum(of("accepted_tokens"), 1.0 + r.settings.drafted))
    return Rates(
        **{name: of(name) for name in _AS_FITTED},
        compute=compute,
        layer_s=(of("layer_us") + of("moe_layer_us") * (r.model.is_moe > 0)) * 1e-6 * of("layer_factor"),
        step_s=of("step_us") * 1e-6,
        sequence_s=of("sequence_us") * 1e-6,
        first_token_s=of("first_token_ms") * 1e-3,
        first_token_per_token_s=of("first_token_per_ktok_ms") * 1e-6,
        handoff_s=of("handoff_ms") * 1e-3,
        accepted=np.where(speculates, accepted, 1.0),
        drafted=np.where(speculates, r.settings.drafted, 0.0),
        perfect_overlap=np.zeros(len(r), dtype=bool),
    )
