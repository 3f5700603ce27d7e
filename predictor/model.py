"""The trained model: physics, learned correction, support and intervals, from requests to answers.

    answer = baseline x exp(w x correction),  correction = trees + what they left of measured siblings

w shrinks the correction where the request lies far from what training saw. TPOT, TTFT and end-to-end time
are learned; throughput follows from them by Little's law, output_tok_s = concurrency x osl / e2e, so the
three never disagree. Only numpy and lightgbm are needed here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..features.baseline import Coefficients, Estimate, baseline, floor_and_baseline
from ..features.facts import ARCHITECTURES, FloatArray
from ..features.frame import feature_matrix
from ..features.measured import MeasuredFabric
from ..features.request import Requests
from ..features.tiers import uses_host
from .intervals import IntervalTable
from .siblings import Siblings, log_mass, places_of

if TYPE_CHECKING:
    from lightgbm import Booster

_KNOWN = ("setup", "family", "parts", "model", "gpu")
NEW_SOURCE = "+source"
STRATA = (*_KNOWN, *(name + NEW_SOURCE for name in _KNOWN))
_LEVEL = {"setup": "in", "family": "near", "parts": "near", "model": "far", "gpu": "far"}
LEVEL_OF = {name: _LEVEL[name.removesuffix(NEW_SOURCE)] for name in STRATA}
_SORTED_STRATA = np.array(sorted(STRATA))
_PLACES = np.array([STRATA.index(str(name)) for name in _SORTED_STRATA], dtype=np.float64)
_SORTED_LEVELS = np.array([LEVEL_OF[str(name)] for name in _SORTED_STRATA])
_ODD, _SHIFT, _ONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(29), np.uint64(1)
_SUPPORT = ("gpus", "shapes", "families", "setups", "sources")
CORRECTED = ("tpot", "ttft", "e2e")
SPREAD_BOUNDS = (0.02, 2.0)  # of the expected size of a log error
_KINDS = np.array([name if name in ("hopper", "blackwell") else "other" for name in ARCHITECTURES])


def shape_key(spec: catalogue.ModelSpec) -> str:
    """Return a model's shape as text: models of one shape are served alike."""
    fields = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "n_experts", "d_ff_expert")
    return "-".join(str(getattr(spec, field)) for field in fields)


@catalogue.follows_models
def _name_hashes() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return stable hashes of the catalogue's GPU names and model shapes, in catalogue order."""
    gpus = [zlib.crc32(name.encode()) for name in catalogue.gpus()]
    shapes = [zlib.crc32(shape_key(spec).encode()) for spec in catalogue.models().values()]
    return np.array(gpus, dtype=np.uint64), np.array(shapes, dtype=np.uint64)


def _mix(first: NDArray[np.uint64], *parts: NDArray[Any]) -> NDArray[np.uint64]:
    """Return one hash per row of a hash and whole-number columns (63 bits, so that JSON readers agree)."""
    rest = np.array(parts, dtype=np.float64).astype(np.int64).astype(np.uint64)
    key = np.zeros(len(first), dtype=np.uint64)
    for part in (first, *rest):
        key = (key ^ part) * _ODD
        key ^= key >> _SHIFT
    return key >> _ONE


def two_digits(values: FloatArray) -> FloatArray:
    """Return lengths rounded to two significant digits; 921.6 is 920."""
    scale = 10.0 ** (np.floor(np.log10(np.maximum(values, 1.0))) - 1.0)
    return np.round(values / scale) * scale


@dataclass(frozen=True, kw_only=True)
class Support:
    """What training saw, as sorted hashes: GPUs, model shapes, families and setups.

    A family is (gpu, shape, engine); a setup adds precision, layout, speculation, mode and lengths to two
    digits, all but the load. Strata, best first: `setup` seen at another load; `family` seen in another
    setup; `parts`, GPU and shape both seen but not together under that engine; `model` or `gpu` never seen.
    "+source" is added where the request names a source of measurements that is none of `sources`: it brings
    definitions and limits of its own. What lies in host memory was never measured: `gpu`.
    """

    gpus: NDArray[np.uint64]
    shapes: NDArray[np.uint64]
    families: NDArray[np.uint64]
    setups: NDArray[np.uint64]
    sources: NDArray[np.uint64]

    def stratum(self, r: Requests) -> NDArray[np.str_]:
        """Return the stratum of each request, shape (n,): one of STRATA."""
        gpu, shape, family, setup = support_keys(r)
        seen_gpu, seen_shape = _among(gpu, self.gpus), _among(shape, self.shapes)
        out = np.where(seen_gpu & seen_shape, "parts", np.where(seen_gpu, "model", "gpu"))
        out = np.where(_among(family, self.families), "family", out)
        out = np.where(_among(setup, self.setups), "setup", out)
        out = np.where(uses_host(r), "gpu", out)
        new = (r.source > 0) & ~_among(r.source, self.sources)
        return np.where(new, np.char.add(out, NEW_SOURCE), out)

    def to_dict(self) -> dict[str, list[int]]:
        """Return lists of whole numbers, for JSON."""
        return {name: getattr(self, name).tolist() for name in _SUPPORT}

    @staticmethod
    def from_dict(data: Mapping[str, Sequence[int]]) -> Support:
        """Rebuild from `to_dict`'s output."""
        return Support(**{name: np.array(data[name], dtype=np.uint64) for name in _SUPPORT})


def _among(keys: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[place] == keys)


def support_keys(r: Requests) -> tuple[NDArray[np.uint64], ...]:
    """Return the hashes of GPU, shape, family and setup of each request, each of shape (n,)."""
    gpu_names, shapes = _name_hashes()
    gpu, shape = gpu_names[r.gpu.codes], shapes[r.model.codes]
    setup = _mix(set_up_keys(r), two_digits(r.isl), two_digits(r.osl))
    return gpu, shape, _mix(gpu, shape, r.engine), setup


def set_up_keys(r: Requests) -> NDArray[np.uint64]:
    """Return the hash of each request's setup without its lengths, shape (n,): what siblings share."""
    gpu_names, shapes = _name_hashes()
    layout = (r.weight_precision, r.tp, r.pp, r.ep, r.dp, r.num_gpus, r.disagg, r.prefill_gpus)
    return _mix(gpu_names[r.gpu.codes], shapes[r.model.codes], r.engine, *layout, r.spec_decode, r.mode)


def support_of(r: Requests) -> Support:
    """Return the support that training on these requests gives."""
    gpu, shape, family, setup = (np.unique(keys) for keys in support_keys(r))
    source = np.unique(r.source[r.source > 0])
    return Support(gpus=gpu, shapes=shape, families=family, setups=setup, sources=source)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything a prediction needs; made by training, stored as a bundle.

    boosters: LightGBM models of log(measured / baseline) by name in CORRECTED; siblings: what they left of
    the measured rows; blend: weight of the correction by name and level; spreads: LightGBM models of the
    expected size of the log error, and intervals: conformal table of the errors over it, by name in
    CORRECTED.
    """

    coefficients: Coefficients
    boosters: Mapping[str, Booster]
    siblings: Siblings
    feature_names: tuple[str, ...]
    support: Support
    blend: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, Booster]
    intervals: Mapping[str, IntervalTable]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers for n requests: `values[name]`, and bounds under name + "_lo" / "_hi"; ms and tok/s.

    `correction[name]` is the learned log correction applied, for name in CORRECTED; `stratum` is the support
    in full, `support` its short form in | near | far.
    """

    values: Mapping[str, FloatArray]
    floor: Estimate
    baseline: Estimate
    stratum: NDArray[np.str_]
    support: NDArray[np.str_]
    correction: Mapping[str, FloatArray]


def corrections(
    boosters: Mapping[str, Booster], siblings: Siblings, r: Requests, base: Estimate, matrix: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the raw learned log corrections by name, and how much was measured near, each of shape (n,)."""
    added, near = near_siblings(siblings, r, base)
    raw = {name: np.asarray(b.predict(matrix)) + added[name] for name, b in boosters.items()}
    return raw, near


def near_siblings(
    siblings: Siblings, r: Requests, base: Estimate
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return `Siblings.near` of requests; what lies in host memory has none."""
    keys = np.where(uses_host(r), np.uint64(0), set_up_keys(r))
    return siblings.near(keys, places_of(r, base.concurrency))


def spread_matrix(
    matrix: FloatArray, raw: FloatArray, near: FloatArray, stratum: NDArray[np.str_]
) -> FloatArray:
    """Return what the spread models read: features, correction, what was measured near, stratum's place."""
    place = _PLACES[np.searchsorted(_SORTED_STRATA, stratum)]
    return np.column_stack([matrix, raw, log_mass(near), place])


def spreads(
    boosters: Mapping[str, Booster],
    matrix: FloatArray,
    raw: Mapping[str, FloatArray],
    near: Mapping[str, FloatArray],
    stratum: NDArray[np.str_],
) -> dict[str, FloatArray]:
    """Return the expected size of each log error [-] by name, shape (n,): what intervals are scaled by."""
    return {
        name: spread_of(booster, spread_matrix(matrix, raw[name], near[name], stratum))
        for name, booster in boosters.items()
    }


def spread_of(booster: Booster, matrix: FloatArray) -> FloatArray:
    """Return the expected size of a log error [-], shape (n,), of rows of `spread_matrix`."""
    size: FloatArray = np.clip(np.exp(booster.predict(matrix)), *SPREAD_BOUNDS)
    return size


def answer(model: Model, r: Requests, fabric: MeasuredFabric | None = None) -> Answers:
    """Answer n requests, on a machine whose `fabric` was measured. Rows invalid or too large are NaN."""
    low, base = floor_and_baseline(r, model.coefficients)
    matrix, _ = feature_matrix(r, low, base)
    stratum = model.support.stratum(r)
    raw, near = corrections(model.boosters, model.siblings, r, base, matrix)
    spread = spreads(model.spreads, matrix, raw, near, stratum)
    if fabric is not None:
        # The correction was learned on healthy machines; what the fabric costs more is carried in full.
        base = baseline(r, model.coefficients, fabric)
    return blend(model, r, low, base, raw, spread, stratum)


def levels(stratum: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the short form of each stratum: in, near or far."""
    return _SORTED_LEVELS[np.searchsorted(_SORTED_STRATA, stratum)]


def shrink(
    weights: Mapping[str, Mapping[str, float]], raw: Mapping[str, FloatArray], stratum: NDArray[np.str_]
) -> dict[str, FloatArray]:
    """Return the corrections that are applied: raw ones times the weight of their stratum."""
    place = np.searchsorted(_SORTED_STRATA, stratum)
    return {
        name: raw[name] * np.array([weights[name][str(s)] for s in _SORTED_STRATA])[place]
        for name in CORRECTED
    }


def log_times(
    r: Requests, low: Estimate, base_s: Mapping[str, FloatArray], correction: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return the log seconds of TPOT, TTFT and e2e: corrected, never under the floor, consistent.

    base_s: the baseline's seconds by name in CORRECTED, shape (n,). In a closed
    loop e2e is the geometric mean of its own answer and ttft + (osl - 1) x tpot.
    """
    with np.errstate(all="ignore"):
        out = {
            name: np.log(np.maximum(base_s[name] * np.exp(correction[name]), getattr(low, f"{name}_s")))
            for name in CORRECTED
        }
        together = np.log(np.exp(out["ttft"]) + np.exp(out["tpot"]) * np.maximum(r.osl - 1.0, 0.0))
    steady = r.is_mode("closed-loop") & (r.osl > 1.0)
    out["e2e"] = np.where(steady, 0.5 * (out["e2e"] + together), out["e2e"])
    return out


def blend(
    model: Model,
    r: Requests,
    low: Estimate,
    base: Estimate,
    raw: Mapping[str, FloatArray],
    spread: Mapping[str, FloatArray],
    stratum: NDArray[np.str_],
) -> Answers:
    """Shrink the corrections by stratum, apply them, and put the intervals round them."""
    applied = shrink(model.blend, raw, stratum)
    times = log_times(r, low, {name: getattr(base, f"{name}_s") for name in CORRECTED}, applied)
    values: dict[str, FloatArray] = {}
    cells = interval_keys(r, stratum)
    for name in CORRECTED:
        lo, hi = model.intervals[name].interval(times[name], cells, spread[name])
        with np.errstate(divide="ignore"):
            lo = np.maximum(lo, np.log(getattr(low, f"{name}_s")))
        for suffix, value in (("", times[name]), ("_lo", lo), ("_hi", hi)):
            values[f"{name}_ms{suffix}"] = np.exp(value) * 1e3
    rate = {k: base.concurrency * 1e3 / values[f"e2e_ms{k}"] for k in ("", "_lo", "_hi")}
    asked = r.is_mode("open-loop", "server") & ~np.isnan(r.request_rate)
    if asked.any():
        # What is sent is served, up to what the deployment sustains; the residence is that of one request.
        rate = {k: np.where(asked, np.minimum(v, r.request_rate), v) for k, v in rate.items()}
        alone = values["ttft_ms"] + values["tpot_ms"] * (r.osl - 1.0)
        for k in ("_lo", "_hi", ""):
            values[f"e2e_ms{k}"] = np.where(
                asked, alone * values[f"e2e_ms{k}"] / values["e2e_ms"], values[f"e2e_ms{k}"]
            )
    for metric, each in (("output_tok_s", r.osl), ("total_tok_s", r.isl + r.osl)):
        for here, there in (("", ""), ("_lo", "_hi"), ("_hi", "_lo")):
            values[metric + here] = rate[there] * each
    return Answers(
        values=values, floor=low, baseline=base, stratum=stratum, support=levels(stratum), correction=applied
    )


def interval_keys(r: Requests, stratum: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the calibration cell of each request: stratum, disaggregated or not, kind of GPU."""
    cell = np.char.add(np.where(r.disagg, "|disagg|", "|"), _KINDS[r.gpu.architecture.astype(np.int64)])
    return np.char.add(stratum, cell)
