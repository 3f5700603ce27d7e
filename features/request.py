"""A request for a prediction, or a million of them: columns in, defaults filled, bad rows marked.

`normalise` is the one door: training rows and users' questions pass through the same rules, so that a
feature means the same in both. No row raises here: a bad one is marked invalid with its reason.

A name means what `names` says. Defaults for a missing value: `gpu` from the platform; `tp` the most of 8, 4,
2, 1 that the GPUs not used by `pp` and the attention heads allow (where nothing of the layout is given,
`layout_open` says that the predictor may choose one); `num_gpus` from the platform, else tp x pp; `engine`
vllm; `weight_precision` what the model's name states, else the published checkpoint's own, or bf16 where no
engine runs it on the GPU; `kv_precision` fp8 with fp8 or fp4 weights under trtllm on a GPU with fp8 units,
else bf16; `pp`, `ep`, `dp` 1; `mode` open-loop with a request_rate, offline with arrival burst, else
closed-loop; `arrival` poisson at a rate, burst where a number of prompts is sent offline, else steady; `isl`,
`osl` 1024; `concurrency` 32 where the mode needs one; `date` the month in which the engine's version came
out, else 2026-07 (the newest engines measured). Everything lies in HBM unless a tier column says otherwise.
"""

from __future__ import annotations

import datetime
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.columns import TIER_COLUMNS, default_of
from ..data.vocabulary import (
    ARRIVALS,
    ENGINES,
    MODES,
    PRECISIONS,
    TIERS,
    length_spread,
)
from .cells import Rows, Table, default
from .degrees import layout_of, pools_of, split_in_pools
from .facts import BOX, Arrays, BoolArray, Facts, FloatArray, IntArray, facts_of, runs_precisions
from .names import engine_codes, hardware_codes, model_codes, months_of_releases
from .notes import Notes
from .settings import Settings, cached_share, settings_of, speculation_of

_POSITION_STRETCH = 4.0  # rotary scaling (YaRN) serves up to about this many times the trained length
_NEEDS_UNITS = ("fp8", "fp4", "int8")
_OF_PLATFORM = ("num_gpus", "domain", "nic_bandwidth", "host_bandwidth", "host_bytes")
DEFAULT_DATE_MONTHS = 18.0  # 2026-07, counted from 2025-01
_DEFAULT = {name: default_of(name) for name in ("isl", "osl")}
_STEADY, _BURST, _POISSON, _CONSTANT = range(len(ARRIVALS))
_OFFLINE = MODES.index("offline")
_ASSUMED_CONCURRENCY = default_of("concurrency")
_NVIDIA_ONLY = np.array([term.nvidia_only for term in ENGINES.terms])


@dataclass(frozen=True, kw_only=True)
class Requests(Arrays):
    """n requests as arrays of shape (n,); names as codes into the vocabularies.

    isl, osl are means over requests; `spread` is 1 - shortest / longest, NaN where it is not said. `valid` is
    False where a row cannot be answered; `notes` say why, or which default was assumed; `source` is a hash of
    who measured, 0 where it is not said; `layout_open`, `gpus_open`: no layout, no number of GPUs was given,
    and a search may choose.
    """

    model: Facts
    gpu: Facts
    num_gpus: FloatArray
    domain: FloatArray
    nic_bandwidth: FloatArray
    engine: IntArray
    months: FloatArray
    weight_precision: IntArray
    kv_precision: IntArray
    kv_given: BoolArray
    tp: FloatArray
    pp: FloatArray
    ep: FloatArray
    dp: FloatArray
    layout_open: BoolArray
    gpus_open: BoolArray
    replicas: FloatArray
    disagg: BoolArray
    prefill_gpus: FloatArray
    prefill_tp: FloatArray
    prefill_ep: FloatArray
    prefill_dp: FloatArray
    prefill_workers: FloatArray
    spec_decode: IntArray
    mode: IntArray
    isl: FloatArray
    osl: FloatArray
    spread: FloatArray
    concurrency: FloatArray
    request_rate: FloatArray
    arrival: IntArray
    settings: Settings
    ttft_limit_s: FloatArray
    tpot_limit_s: FloatArray
    prefix_cached_frac: FloatArray
    prefix_on_host: BoolArray
    kv_hot_tokens: FloatArray
    kv_reread_every: FloatArray
    experts_resident_frac: FloatArray
    host_bandwidth: FloatArray
    host_bytes: FloatArray
    source: NDArray[np.uint64]
    valid: BoolArray
    notes: Notes

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def burst(self) -> BoolArray:
        """Whether all prompts in flight are sent at once and none follows."""
        return np.asarray(self.arrival == _BURST)

    @property
    def reason(self) -> NDArray[np.object_]:
        """Why each request cannot be answered, else what was assumed of it, in words, shape (n,)."""
        return self.notes.texts()

    def is_mode(self, *names: str) -> BoolArray:
        """Return a mask of the rows in any of the named modes."""
        found: BoolArray = self.mode == MODES.index(names[0])
        for name in names[1:]:
            found = found | (self.mode == MODES.index(name))
        return found


def _hardware(rows: Rows) -> tuple[Facts, dict[str, Any]]:
    """Resolve gpu and platform: GPU facts, and of the platform, else of the GPU, size, network and host."""
    named = hardware_codes(rows)
    has_platform = named.platform >= 0
    platform, gpu = facts_of("platform", np.maximum(named.platform, 0)), facts_of("gpu", named.gpu)
    rows.number("num_nodes", whole=True)
    hardware = {
        name: np.where(has_platform, getattr(platform, name), getattr(gpu, name)) for name in _OF_PLATFORM
    }
    hardware["num_gpus"] = np.where(np.isnan(named.num_gpus), hardware["num_gpus"], named.num_gpus)
    return gpu, hardware


def _precisions(
    rows: Rows, model: Facts, gpu: Facts, engine: IntArray, weight: IntArray, kv: IntArray
) -> dict[str, Any]:
    """Fill the precisions of weights and cache where they are missing (-1)."""
    native = model.native_precision.astype(np.int64)
    units = (np.stack([gpu.columns[f"units_{p}"] for p in PRECISIONS], axis=1) > 0)[gpu.codes]
    runs, missing = runs_precisions(gpu), weight < 0
    published = runs[np.arange(rows.n), native]
    weight = np.where(missing, np.where(published, native, 0), weight)
    for code in np.unique(weight[missing]) if missing.any() else ():
        rows.note(missing & published & (weight == code), "assumed", "weight_precision", PRECISIONS[code])
    names = np.array(PRECISIONS, dtype=object)[native]
    rows.note(missing & ~published, "converted", "weight_precision", PRECISIONS[0], names)
    for name in _NEEDS_UNITS:
        code = PRECISIONS.index(name)
        foreign = (weight == code) & ~units[:, code]
        rows.fault(foreign & ~runs[:, code], "no-units", "weight_precision", name)
        rows.note(foreign & rows.valid, "widened", "weight_precision", name)
    quantised = ((weight == 1) | (weight == 2)) & (engine == ENGINES.index("trtllm")) & units[:, 1]
    kv_filled = np.where(kv < 0, np.where(quantised, 1, 0), kv)
    return {"weight_precision": weight, "kv_precision": kv_filled, "kv_given": kv >= 0}


def _arrival(rows: Rows, given: IntArray, mode: IntArray, counted: BoolArray, rated: BoolArray) -> IntArray:
    """Return how requests come: as given where the mode knows that, else the mode's own way."""
    at_rate, offline = rated & ((mode == 2) | (mode == MODES.index("server"))), mode == _OFFLINE
    own = np.where(at_rate, _POISSON, np.where(offline & counted, _BURST, _STEADY))
    rows.note((given < 0) & (own == _BURST), "assumed", "arrival", ARRIVALS[_BURST])
    for where, allowed in ((at_rate, (_POISSON, _CONSTANT)), (mode == 0, (_STEADY,)),
                           (~at_rate & (mode != 0), (_STEADY, _BURST))):  # fmt: skip
        words = np.array(ARRIVALS, dtype=object)[np.maximum(given, 0)]
        other = where & (given >= 0) & ~np.isin(given, allowed)
        rows.fault(other, "unknown-word", "arrival", words, " or ".join(ARRIVALS[a] for a in allowed))
    return np.where(given < 0, own, given)


def _load(rows: Rows) -> dict[str, Any]:
    """Fill mode, arrival, lengths, concurrency and rate; without any load 32 requests are in flight."""
    concurrency, rate = rows.number("concurrency"), rows.number("request_rate", endless=True)
    rows.note(np.isinf(rate), "endless-rate", "request_rate")
    rate = np.where(np.isinf(rate), np.nan, rate)
    mode, arrival = rows.word("mode", MODES), rows.word("arrival", ARRIVALS)
    mode = np.where(mode < 0, np.where(~np.isnan(rate), 2, 1), mode)
    # All at once and none after: an offline run, as which bursts are measured and learned.
    at_rate = ~np.isnan(rate) & ((mode == 2) | (mode == 4))
    mode = np.where((arrival == _BURST) & ~at_rate & (mode != 0), _OFFLINE, mode)
    words = np.array(MODES, dtype=object)[mode]
    rows.note(~np.isnan(rate) & ~at_rate, "rate-unused", "request_rate", rate, words)
    rows.note(at_rate & ~np.isnan(concurrency), "rate-rules", "concurrency", concurrency, rate)
    needs = ((mode == 0) | (mode == 1) | (arrival == _BURST)) & np.isnan(concurrency)
    rows.note(needs, "assumed", "concurrency", _ASSUMED_CONCURRENCY)
    rows.note(concurrency < 1.0, "assumed", "concurrency", 1.0)
    rows.fault((mode == 2) & np.isnan(rate) & np.isnan(concurrency), "required-rate", "mode")
    concurrency = np.maximum(np.where(needs, _ASSUMED_CONCURRENCY, concurrency), 1.0)
    arrival = _arrival(rows, arrival, mode, ~np.isnan(concurrency), ~np.isnan(rate))
    isl, osl = rows.number("isl", low=1.0, strict=False), rows.number("osl", low=1.0, strict=False)
    for name, values in (("isl", isl), ("osl", osl)):
        rows.note(np.isnan(values) & rows.valid, "assumed", name, _DEFAULT[name])
    scale, spread = _length_spread(rows)
    rows.note((scale != 1.0) & rows.valid, "mean-lengths", "length_spread", scale)
    return {
        "mode": mode, "isl": np.maximum(default(isl, _DEFAULT["isl"]) * scale, 1.0),
        "osl": np.maximum(default(osl, _DEFAULT["osl"]) * scale, 1.0), "spread": spread,
        "concurrency": concurrency, "request_rate": rate, "arrival": arrival,
        "prefix_cached_frac": cached_share(rows),
        "ttft_limit_s": default(rows.number("ttft_limit_ms") / 1e3, np.inf),
        "tpot_limit_s": default(rows.number("tpot_limit_ms") / 1e3, np.inf),
    }  # fmt: skip


def _length_spread(rows: Rows) -> tuple[FloatArray, FloatArray]:
    """Return what the lengths given are multiplied by to be means, and how far they spread (NaN: unsaid).

    Measured rows, whose lengths are means, say of what kind these are.
    """
    name = "length_spread" if "length_spread" in rows.table else "length_kind"
    codes, values = rows.text(name)
    unsaid, wrong = (1.0, np.nan), (np.nan, np.nan)
    known = np.array([(length_spread(value) or wrong) if value else unsaid for value in values])
    scale, spread = known[codes].T
    shown, allowed = np.array(values, dtype=object)[codes], "fixed, dataset, inferencex or a range as 0.8-1"
    rows.fault(np.isnan(scale), "not-allowed", name, shown, allowed)
    return default(scale, 1.0), spread


def _tiers(rows: Rows, model: Facts, hardware: dict[str, Any]) -> dict[str, Any]:
    """Fill what lies in host memory, and the host's size and rate per GPU."""
    if not any(name in rows.table for name in TIER_COLUMNS):  # most requests: all of it lies in HBM
        one, none = np.ones(rows.n), np.zeros(rows.n, dtype=bool)
        return {"kv_hot_tokens": np.inf * one, "kv_reread_every": one, "prefix_on_host": none,
                "experts_resident_frac": one}  # fmt: skip
    hot = default(rows.number("kv_hot_tokens", strict=False), np.inf)
    spilled = np.isfinite(hot)
    reread = rows.number("kv_reread_every", strict=False, whole=True)
    rows.note(spilled & np.isnan(reread), "assumed-every-step", "kv_reread_every")
    rows.note(spilled & ~np.isnan(reread) & (reread != 1.0), "skips", "kv_reread_every")
    alone = ~np.isnan(reread) & ~spilled
    rows.fault(alone, "not-allowed", "kv_reread_every", reread, "only beside kv_hot_tokens")
    resident = rows.share("experts_resident_frac", 1.0)
    rows.fault((resident < 1.0) & (model.is_moe == 0), "no-experts", "experts_resident_frac")
    on_host = rows.word("prefix_tier", TIERS) == TIERS.index("host")
    rate = rows.number("host_bandwidth_gb_s") * 1e9
    hardware["host_bandwidth"] = default(rate, hardware["host_bandwidth"])
    hardware["host_bytes"] = default(rows.number("host_memory_gb") * 1e9, hardware["host_bytes"])
    used = spilled | (resident < 1.0) | on_host
    rows.fault(used & (hardware["host_bandwidth"] <= 0.0), "required-host", "host_bandwidth_gb_s")
    reread = np.where(reread == 0.0, np.inf, default(reread, 1.0))
    return {"kv_hot_tokens": hot, "kv_reread_every": reread, "prefix_on_host": on_host,
            "experts_resident_frac": resident}  # fmt: skip


def _check(rows: Rows, model: Facts, parts: dict[str, Any]) -> None:
    """Mark what no engine would start: layouts that do not divide, lengths past the model's limit."""
    exact = parts["tp"] / np.maximum(parts["dp"], 1.0)
    share = np.round(exact)
    rows.fault(exact != share, "divisor", "dp", parts["dp"], parts["tp"])
    uneven = (share > 1) & (model.n_heads % np.maximum(share, 1.0) != 0)
    rows.fault(uneven, "heads", "tp", share, model.n_heads)
    rows.fault(parts["pp"] > model.n_layers, "layers", "pp", parts["pp"], model.n_layers)
    length, most = parts["isl"] + parts["osl"], model.max_position
    rows.note(length > 1.02 * most, "long", "isl", length, most)
    for name, longer in (("isl", parts["isl"] >= parts["osl"]), ("osl", parts["isl"] < parts["osl"])):
        rows.fault(longer & (length > _POSITION_STRETCH * most), "too-long", name, length, most)
    needed = parts["tp"] * parts["pp"]
    short = (parts["num_gpus"] < needed) & ~parts["disagg"]
    rows.fault(short, "degrees", "num_gpus", parts["num_gpus"], needed)
    idle = parts["num_gpus"] - parts["replicas"] * needed
    at_rest = (idle > 0.0) & ~parts["disagg"] & ~parts["layout_open"]
    rows.note(at_rest, "idle", "num_gpus", idle, parts["num_gpus"])


def _months_now() -> float:
    """Return months since 2025-01 of this month."""
    today = datetime.date.today()
    return (today.year - 2025) * 12.0 + today.month - 1


def normalise(frame: Table) -> Requests:
    """Turn a frame with any subset of REQUEST_COLUMNS (and POOL_COLUMNS) into requests, row for row.

    frame: (n, k) pandas frame, or a mapping from names to lists of length n (which needs no pandas); NaN,
    None or "" mean the default of this module's docstring. Other columns are ignored. Returns requests of
    length n; never raises for a bad row.
    """
    rows = Rows(frame)
    named = model_codes(rows)
    model = facts_of("model", named.model)
    gpu, hardware = _hardware(rows)
    engine = engine_codes(rows)
    rows.note(engine < 0, "assumed", "engine", ENGINES[0])
    engine = np.maximum(engine, 0)
    foreign = rows.valid & _NVIDIA_ONLY[engine] & (gpu.is_nvidia == 0)
    others = ", ".join(term.name for term in ENGINES.terms if not term.nvidia_only)
    rows.fault(foreign, "nvidia-only", "engine", np.array(ENGINES, dtype=object)[engine], others)
    precisions = _precisions(rows, model, gpu, engine, named.weight, named.kv)
    disagg = split_in_pools(rows)
    layout = layout_of(rows, model, engine, hardware.pop("num_gpus"), disagg)
    parts: dict[str, Any] = {**layout, **pools_of(rows, model, layout, disagg), "disagg": disagg}
    parts |= _load(rows)
    parts |= _tiers(rows, model, hardware)
    _check(rows, model, parts)
    nodes = default(rows.number("num_nodes"), 1.0)
    shared = (nodes > 1.0) & (hardware["domain"] <= BOX)
    per_node = np.maximum(np.ceil(parts["num_gpus"] / nodes), 1.0)
    hardware["domain"] = np.where(shared, np.minimum(hardware["domain"], per_node), hardware["domain"])
    months = months_of_releases(rows, rows.months("date"))
    rows.note(months > _months_now(), "future", "date")
    spec_decode, accepted, drafted = speculation_of(rows)
    who, sources = rows.text("source")
    hashes = np.array([zlib.crc32(source.lower().encode()) for source in sources], dtype=np.uint64)
    return Requests(
        model=model, gpu=gpu, engine=engine, months=default(months, DEFAULT_DATE_MONTHS),
        source=hashes[who], spec_decode=spec_decode, settings=settings_of(rows, accepted, drafted),
        valid=rows.valid, notes=rows.notes, **precisions, **hardware, **parts,
    )  # fmt: skip
