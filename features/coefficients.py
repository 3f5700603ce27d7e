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
from .facts import ARCHITECTURES, Arrays, BoolArray, FloatArray, IntArray
from .request import Requests

# Draft tokens verified per step under speculation: the depth of nearly all measured MTP and EAGLE runs.
DRAFTED_TOKENS = 3.0
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
_COMPUTED = ("bf16", "fp8", "fp4")


def default_coefficients() -> dict[str, Coefficient]:
    """Return the priors of all coefficients by name, as data/priors.toml has them."""
    table = tomllib.loads(files("roofcast.data").joinpath("priors.toml").read_text("utf-8"))
    out: dict[str, Coefficient] = {}

    def enter(name: str, entry: Mapping[str, Any], young: bool = False) -> None:
        prior = entry["prior"]
        if young:
            prior = entry.get("young_prior", prior * entry.get("young_factor", 1.0))
        bounds = {key: entry[key] for key in ("unit", "low", "high")}
        out[name] = Coefficient(value=prior, prior=prior, **bounds)

    for kind in ARCHITECTURES:
        for name, entry in table["architecture"].items():
            enter(f"{name}.{kind}", entry, kind in table["young"])
    for kind in ENGINE_KINDS:
        for name, entry in table["engine"].items():
            enter(f"{name}.{kind}", entry)
    for name, entry in table["all"].items():
        enter(name, entry)
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

    layer_s, step_s, sequence_s, first_token_s, first_token_per_token_s (per prompt token) and handoff_s
    (between separate pools) in seconds; backlog: requests that an overloaded server gathers; accepted and
    drafted: tokens per step; stall, passes, queue, wave, opening, wait_steps, offline, disagg_burst: factors
    on the terms of `serving.steady_state`.
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


# Field of Rates to the coefficient's name: by architecture, by engine, or one for all.
_OF_GPU = ("weight_bandwidth", "kv_bandwidth", "attention_compute")
_OF_ENGINE = ("stall", "passes", "queue", "wave", "opening", "wait_steps", "offline")
_OF_ALL = (
    "collective_latency", "collective_bandwidth", "expert_imbalance", "expert_skew", "host_bandwidth",
    "backlog", "disagg_burst",
)  # fmt: skip
_PEAKS = ("weight_bandwidth", "kv_bandwidth", "compute", "attention_compute", "collective_bandwidth",
          "expert_imbalance", "host_bandwidth", "offline")  # fmt: skip


def ideal_rates(r: Requests) -> Rates:
    """Return rates at datasheet peaks without overheads; speculation accepts every draft token."""
    one, drafted = np.ones(len(r)), np.where(r.spec_decode > 0, _MOST_DRAFTED, 0.0)
    values: dict[str, Any] = dict.fromkeys(Rates.__dataclass_fields__, np.zeros(len(r))) | dict.fromkeys(
        _PEAKS, one
    )
    values |= {"expert_skew": _FLOOR_SKEW * one, "accepted": 1.0 + drafted, "drafted": drafted}
    return Rates(**values | {"perfect_overlap": np.ones(len(r), dtype=bool)})


def rates_of(r: Requests, coefficients: Coefficients) -> Rates:
    """Spread the coefficients over the requests: shape (n,) each, seconds and shares."""
    architecture, kind = r.gpu.architecture.astype(np.int64), KIND_OF_ENGINE[r.engine]

    def of_gpu(name: str) -> FloatArray:
        return _by_kind(coefficients, name, ARCHITECTURES, architecture)

    def of_engine(name: str) -> FloatArray:
        return _by_kind(coefficients, name, ENGINE_KINDS, kind)

    def of_all(name: str) -> FloatArray:
        return np.full(len(r), coefficients.entries[name].value)

    speculates = r.spec_decode > 0
    layer = (of_gpu("layer_us") + of_gpu("moe_layer_us") * (r.model.is_moe > 0)) * 1e-6
    return Rates(
        **{name: of_gpu(name) for name in _OF_GPU},
        **{name: of_engine(name) for name in _OF_ENGINE},
        **{name: of_all(name) for name in _OF_ALL},
        compute=_compute_share(r, coefficients, architecture),
        layer_s=layer * of_engine("layer_factor"),
        step_s=of_engine("step_us") * 1e-6,
        sequence_s=of_engine("sequence_us") * 1e-6,
        first_token_s=of_engine("first_token_ms") * 1e-3,
        first_token_per_token_s=of_engine("first_token_per_ktok_ms") * 1e-6,
        handoff_s=of_engine("handoff_ms") * 1e-3,
        accepted=np.where(speculates, of_all("accepted_tokens"), 1.0),
        drafted=np.where(speculates, DRAFTED_TOKENS, 0.0),
        perfect_overlap=np.zeros(len(r), dtype=bool),
    )


def _by_kind(coefficients: Coefficients, name: str, kinds: tuple[str, ...], codes: IntArray) -> FloatArray:
    """Return the coefficient `name` of each row's kind, shape (n,)."""
    return coefficients.values([f"{name}.{kind}" for kind in kinds])[codes]


def _compute_share(r: Requests, coefficients: Coefficients, architecture: IntArray) -> FloatArray:
    """Return the achieved share of the compute peak in the format that the GPU multiplies in."""
    shares = {p: _by_kind(coefficients, f"compute_{p}", ARCHITECTURES, architecture) for p in _COMPUTED}
    share = shares["bf16"]
    for name in ("fp8", "fp4"):
        own = (r.weight_precision == PRECISIONS.index(name)) & (getattr(r.gpu, f"units_{name}") > 0)
        share = np.where(own, shares[name], share)
    return share
