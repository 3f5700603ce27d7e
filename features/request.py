"""A request for a prediction, or a million of them: columns in, defaults filled, bad rows marked.

`normalise` is the one door: training rows and users' questions pass through the same rules, so that a
feature means the same in both. No row raises here: a bad one is marked invalid with its reason.

Defaults for a missing value: `gpu` from the platform; `tp` the GPUs not used by `pp` (at most the heads
allow) or 1; `num_gpus` from the platform, else tp x pp; `engine` vllm; `weight_precision` the model's own,
or bf16 where the GPU has no units for it; `kv_precision` fp8 with fp8 or fp4 weights under trtllm, else bf16;
`pp`, `ep`, `dp` 1; `mode` from what is given: request_rate open-loop, concurrency closed-loop, else offline;
`isl`, `osl` 1024; `concurrency` 32 where the mode needs one; `date` 2026-07 (the newest engines measured).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.errors import RoofcastError
from .columns import Columns, Table
from .facts import PRECISIONS, Facts, FloatArray, IntArray, gpu_columns, model_columns

REQUEST_COLUMNS = (
    "model", "gpu", "platform", "num_gpus", "num_nodes", "engine", "engine_version", "date",
    "weight_precision", "kv_precision", "tp", "pp", "ep", "dp", "disagg", "prefill_gpus", "decode_gpus",
    "spec_decode", "mode", "isl", "osl", "concurrency", "request_rate", "prefix_cached_frac",
)  # fmt: skip
# Layout of the two pools of a disaggregated deployment; benchmark rows know it, users may say it.
POOL_COLUMNS = (
    "prefill_tp", "prefill_ep", "prefill_dp", "prefill_workers",
    "decode_tp", "decode_ep", "decode_dp", "decode_workers",
)  # fmt: skip
MODES = ("static-batch", "closed-loop", "open-loop", "offline", "server")
ENGINES = ("vllm", "trtllm", "sglang", "atom", "tgi", "llamacpp", "deepspeed", "transformers", "other")
ENGINE_OF = {
    "tensorrt-llm": "trtllm", "nim": "trtllm", "dynamo-trtllm": "trtllm",
    "vllm-atom": "atom", "sglang-atom": "atom", "llm-d/vllm": "vllm", "llm-d": "vllm", "vllm-tpu": "vllm",
    "1cat-vllm": "vllm", "dynamo-vllm": "vllm", "dynamo-sglang": "sglang", "tgis": "tgi",
    "deepspeed-mii": "deepspeed", "lmdeploy": "other", "llama.cpp": "llamacpp",
}  # fmt: skip
SPECULATION = ("none", "mtp", "eagle", "draft")
SPECULATION_OF = {"eagle/mtp": "mtp", "eagle3": "eagle", "medusa": "eagle", "": "none"}
_LARGEST_ASSUMED_TP = 8.0
_POSITION_STRETCH = 4.0  # rotary scaling (YaRN) serves up to about this many times the trained length
_NEEDS_UNITS = ("fp8", "fp4", "int8")
DEFAULT_DATE_MONTHS = 18.0  # 2026-07, counted from 2025-01
_WEIGHT_ALIASES = {"fp16": "bf16", "nvfp4": "fp4", "mxfp4": "fp4", "awq": "int4", "gptq": "int4", "": ""}


@dataclass(frozen=True, kw_only=True)
class Requests:
    """n requests as arrays of shape (n,); names as codes into the tuples of this module.

    `valid` is False where a row cannot be answered; `reason` says why, or which default was assumed.
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
    tp: FloatArray
    pp: FloatArray
    ep: FloatArray
    dp: FloatArray
    replicas: FloatArray
    disagg: NDArray[np.bool_]
    prefill_gpus: FloatArray
    prefill_tp: FloatArray
    prefill_ep: FloatArray
    prefill_dp: FloatArray
    prefill_workers: FloatArray
    spec_decode: IntArray
    mode: IntArray
    isl: FloatArray
    osl: FloatArray
    concurrency: FloatArray
    request_rate: FloatArray
    prefix_cached_frac: FloatArray
    mean_ttft: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    reason: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Requests:
        """Return the requests of a subset of rows."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        taken = {k: v.take(rows) if isinstance(v, Facts) else v[rows] for k, v in parts.items()}
        return Requests(**taken)

    def is_mode(self, *names: str) -> NDArray[np.bool_]:
        """Return a mask of the rows in any of the named modes."""
        return np.isin(self.mode, [MODES.index(name) for name in names])


class _Rows:
    """The frame under work: columns on demand, and the notes and faults collected per row."""

    def __init__(self, frame: Table) -> None:
        self.columns = Columns(frame)
        self.n = len(self.columns)
        self.valid = np.ones(self.n, dtype=bool)
        self.reason = np.full(self.n, "", dtype=object)
        self._numbers: dict[str, FloatArray] = {}

    def note(self, rows: NDArray[np.bool_], text: str | Sequence[str]) -> None:
        """Append a note to the marked rows."""
        if rows.any():
            texts = np.broadcast_to(np.asarray(text, dtype=object), self.n)[rows]
            old = self.reason[rows]
            self.reason[rows] = [f"{a}; {b}" if a else b for a, b in zip(old, texts, strict=True)]

    def fault(self, rows: NDArray[np.bool_], text: str | Sequence[str]) -> None:
        """Mark rows invalid, with the reason."""
        self.note(rows, text)
        self.valid[rows] = False

    def note_each(self, rows: IntArray, texts: Sequence[str]) -> None:
        """Append to the rows at these positions a note each."""
        if len(rows):
            old = self.reason[rows]
            self.reason[rows] = [f"{a}; {b}" if a else b for a, b in zip(old, texts, strict=True)]

    def fault_each(self, rows: IntArray, texts: Sequence[str]) -> None:
        """Mark the rows at these positions invalid, each with its own reason."""
        self.note_each(rows, texts)
        self.valid[rows] = False

    def text(self, name: str) -> tuple[IntArray, list[str]]:
        """Return codes and the distinct values of a text column; missing is ''."""
        return self.columns.text(name)

    def number(self, name: str, low: float = 0.0, whole: bool = False, strict: bool = True) -> FloatArray:
        """Return a number column, NaN where missing; text, inf and out-of-range values are faults."""
        if name not in self.columns:
            return np.full(self.n, np.nan)
        if name not in self._numbers:
            self._numbers[name] = self._checked(name, low, whole, strict)
        return self._numbers[name].copy()

    def _checked(self, name: str, low: float, whole: bool, strict: bool) -> FloatArray:
        values, given = self.columns.number(name)
        unknown = np.isnan(values)
        bad = (unknown & given) | np.isinf(values) | (values < low) | ((values == low) & strict)
        if whole:
            bad |= ~unknown & (values != np.round(values))
        if bad.any():
            allowed = f"a {'whole ' if whole else ''}number {'above' if strict else 'of at least'} {low:g}"
            where = np.flatnonzero(bad)
            shown = self.columns.shown(name, where)
            self.fault_each(where, [f"{name} = {value} is not allowed: {allowed}" for value in shown])
            values[bad] = np.nan
        return values


def _codes(
    rows: _Rows, name: str, allowed: tuple[str, ...], aliases: dict[str, str], other: int | None = None
) -> IntArray:
    """Return codes of a text column into `allowed`, -1 where missing."""
    codes, values = rows.text(name)
    lookup = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(values):
        known = aliases.get(value.lower(), value.lower())
        if known in allowed:
            lookup[i] = allowed.index(known)
        elif value and other is not None:
            lookup[i] = other
        elif value:
            rows.fault(codes == i, f"{name} = {value!r} is not allowed: one of {', '.join(allowed)}")
    return lookup[codes]


def _entries(
    rows: _Rows, name: str, find: Callable[[str], Any], specs: Sequence[Any]
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return catalogue codes of a name column and where a name was given; unknown names are faults."""
    codes, values = rows.text(name)
    index = {spec.name: i for i, spec in enumerate(specs)}
    lookup = np.zeros(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        if not value:
            continue
        try:
            lookup[i] = index[find(value).name]
        except RoofcastError as error:
            rows.fault(codes == i, str(error))
    return lookup[codes], np.array([bool(v) for v in values])[codes]


def _months(rows: _Rows) -> FloatArray:
    """Return months since 2025-01 of the date column (YYYY, YYYY-MM or YYYY-MM-DD), NaN where missing."""
    codes, values = rows.text("date")
    months = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        parts = value.split("-")
        if parts[0].isdigit() and len(parts[0]) == 4:
            month = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 6
            months[i] = (int(parts[0]) - 2025) * 12 + month - 1
        elif value:
            rows.fault(codes == i, f"date = {value!r} is not allowed: YYYY-MM or YYYY-MM-DD")
    return months[codes]


def _default(values: FloatArray, default: FloatArray | float) -> FloatArray:
    return np.where(np.isnan(values), default, values)


def _hardware(rows: _Rows) -> tuple[Facts, dict[str, FloatArray]]:
    """Resolve gpu and platform: GPU facts, and the platform's size, domain and network per row."""
    gpu_specs = tuple(catalogue.gpus().values())
    platform_specs = tuple(catalogue.platforms().values())
    platform, has_platform = _entries(rows, "platform", catalogue.platform, platform_specs)
    gpu, has_gpu = _entries(rows, "gpu", catalogue.gpu, gpu_specs)
    names = [spec.name for spec in gpu_specs]
    of_platform = np.array([names.index(p.gpu) for p in platform_specs])[platform]
    rows.fault(has_platform & has_gpu & (gpu != of_platform), "gpu and platform disagree: give one of them")
    rows.fault(~has_platform & ~has_gpu, "gpu or platform is required")
    gpu = np.where(has_platform & ~has_gpu, of_platform, gpu)
    facts = Facts(columns=gpu_columns(), codes=gpu)
    sizes = np.array([float(p.num_gpus) for p in platform_specs])[platform]
    domains = np.array([float(p.scale_up_domain) for p in platform_specs])[platform]
    nics = np.array([p.nic_bandwidth or 50e9 for p in platform_specs])[platform]
    return facts, {
        "platform_gpus": np.where(has_platform, sizes, np.nan),
        "domain": np.where(has_platform, domains, facts.link_domain),
        "nic_bandwidth": np.where(has_platform, nics, 50e9),
    }


def _precisions(rows: _Rows, model: Facts, gpu: Facts, engine: IntArray) -> tuple[IntArray, IntArray]:
    weight = _codes(rows, "weight_precision", PRECISIONS, _WEIGHT_ALIASES)
    native = model.native_precision.astype(np.int64)
    units = np.stack([getattr(gpu, f"units_{p}") for p in PRECISIONS], axis=1) > 0
    fits = units[np.arange(rows.n), native] | (native == PRECISIONS.index("int4"))
    missing = weight < 0
    weight = np.where(missing, np.where(fits, native, 0), weight)
    for code, name in enumerate(PRECISIONS):
        rows.note(missing & (weight == code), f"weight_precision assumed {name}")
    rows.fault(~missing & (weight == 1) & ~units[:, 1] & (gpu.architecture > 4),
               "weight_precision = fp8 is not allowed: this GPU has no units and no engine path for it")
    for code, name in enumerate(PRECISIONS):
        if name in _NEEDS_UNITS:
            widened = ~missing & (weight == code) & ~units[:, code] & rows.valid
            rows.note(widened, f"this GPU has no {name} units: weights are widened and multiplied in 16 bits")
    kv = _codes(rows, "kv_precision", PRECISIONS, _WEIGHT_ALIASES)
    quantised = ((weight == 1) | (weight == 2)) & (engine == ENGINES.index("trtllm"))
    return weight, np.where(kv < 0, np.where(quantised, 1, 0), kv)


def _layout(rows: _Rows, model: Facts, platform_gpus: FloatArray) -> dict[str, FloatArray]:
    """Fill num_gpus, tp, pp, ep, dp and replicas from what is given."""
    tp, pp = rows.number("tp", whole=True), _default(rows.number("pp", whole=True), 1.0)
    given = rows.number("num_gpus", whole=True)
    pool = rows.number("prefill_gpus", whole=True) + rows.number("decode_gpus", whole=True)
    given = np.where(np.isnan(given), pool, given)
    num = np.where(np.isnan(given), platform_gpus, given)
    assumed = np.isnan(tp)
    room = np.where(np.isnan(num), 1.0, np.maximum(num // pp, 1.0))
    tp = np.where(assumed, 2.0 ** np.floor(np.log2(np.clip(room, 1.0, _LARGEST_ASSUMED_TP))), tp)
    num = np.where(np.isnan(num), tp * pp, num)
    rows.note(assumed & rows.valid & (tp > 1), "tp assumed from num_gpus")
    ep = _default(rows.number("ep", whole=True), 1.0)
    dp = rows.number("dp", whole=True)
    spread = np.isnan(dp) & (model.n_heads % np.maximum(tp, 1.0) != 0) & (model.is_moe > 0) & (tp <= num)
    rows.note(spread, "attention data parallelism assumed: tp does not divide the heads")
    dp = np.where(spread, tp, _default(dp, 1.0))
    return {"num_gpus": num, "tp": tp, "pp": pp, "ep": ep, "dp": dp}


def _pools(rows: _Rows, layout: dict[str, FloatArray], disagg: NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Lay out the prefill and decode pools; rows without disaggregation use the one layout for both."""
    num, tp = layout["num_gpus"], layout["tp"]
    prefill = _default(rows.number("prefill_gpus", whole=True), np.maximum(num // 2, 1.0))
    prefill = np.where(disagg, np.minimum(prefill, np.maximum(num - 1, 1)), num)
    decode = np.where(disagg, np.maximum(_default(rows.number("decode_gpus", whole=True), num - prefill), 1.0), num)
    decode_tp = np.where(disagg, np.minimum(_default(rows.number("decode_tp", whole=True), tp), decode), tp)
    prefill_tp = _default(rows.number("prefill_tp", whole=True), np.minimum(decode_tp, prefill))
    prefill_tp = np.where(disagg, np.minimum(prefill_tp, prefill), tp)
    workers = np.maximum(np.floor(prefill / prefill_tp), 1.0)
    decode_ep = np.where(disagg, _default(rows.number("decode_ep", whole=True), layout["ep"]), layout["ep"])
    decode_dp = np.where(disagg, _default(rows.number("decode_dp", whole=True), layout["dp"]), layout["dp"])
    return {
        "num_gpus": np.where(disagg, prefill + decode, num),
        "tp": decode_tp,
        "pp": layout["pp"],
        "ep": np.minimum(decode_ep, decode_tp),
        "dp": np.minimum(decode_dp, decode_tp),
        "replicas": np.maximum(np.floor(decode / (decode_tp * layout["pp"])), 1.0),
        "prefill_gpus": prefill,
        "prefill_tp": prefill_tp,
        "prefill_ep": np.where(disagg, np.minimum(_default(rows.number("prefill_ep"), 1.0), prefill_tp), layout["ep"]),
        "prefill_dp": np.where(disagg, np.minimum(_default(rows.number("prefill_dp"), 1.0), prefill_tp), layout["dp"]),
        "prefill_workers": np.where(disagg, workers, 1.0),
    }


def _load(rows: _Rows) -> dict[str, Any]:
    """Fill mode, lengths, concurrency and request rate."""
    concurrency, rate = rows.number("concurrency"), rows.number("request_rate")
    mode = _codes(rows, "mode", MODES, {})
    guess = np.where(~np.isnan(rate), 2, np.where(~np.isnan(concurrency), 1, 3))
    mode = np.where(mode < 0, guess, mode)
    needs = np.isin(mode, [0, 1]) & np.isnan(concurrency)
    rows.note(needs, "concurrency assumed 32")
    rows.fault((mode == 2) & np.isnan(rate) & np.isnan(concurrency), "mode = open-loop needs request_rate")
    isl, osl = rows.number("isl", low=1.0, strict=False), rows.number("osl", low=1.0, strict=False)
    rows.note(np.isnan(isl) & rows.valid, "isl assumed 1024")
    rows.note(np.isnan(osl) & rows.valid, "osl assumed 1024")
    cached = _default(rows.number("prefix_cached_frac", strict=False), 0.0)
    rows.fault(cached > 1.0, "prefix_cached_frac is not allowed above 1")
    return {
        "mode": mode,
        "isl": _default(isl, 1024.0),
        "osl": _default(osl, 1024.0),
        "concurrency": np.where(needs, 32.0, concurrency),
        "request_rate": rate,
        "prefix_cached_frac": np.clip(cached, 0.0, 1.0),
    }


def _check(rows: _Rows, model: Facts, parts: dict[str, Any]) -> None:
    """Mark what no engine would start: layouts that do not divide, lengths past the model's limit."""
    share = parts["tp"] / np.maximum(parts["dp"], 1.0)
    uneven = np.flatnonzero((share > 1) & (model.n_heads % np.maximum(share, 1.0) != 0))
    pairs = zip(share[uneven], model.n_heads[uneven], strict=True)
    rows.fault_each(uneven, [f"tp = {t:g} does not divide the {h:g} attention heads" for t, h in pairs])
    rows.fault(parts["pp"] > model.n_layers, "pp is not allowed above the number of layers")
    length = parts["isl"] + parts["osl"]
    long = np.flatnonzero(length > 1.02 * model.max_position)
    limits = model.max_position[long]
    rows.note_each(long, [f"isl + osl passes the model's limit of {limit:g} tokens" for limit in limits])
    rows.fault(length > _POSITION_STRETCH * model.max_position, "no engine serves that length")
    short = parts["num_gpus"] < parts["tp"] * parts["pp"]
    rows.fault(short & ~parts["disagg"], "num_gpus is not allowed below tp x pp")


def normalise(frame: Table) -> Requests:
    """Turn a frame with any subset of REQUEST_COLUMNS (and POOL_COLUMNS) into requests, row for row.

    frame: (n, k) pandas frame, or a mapping from names to lists of length n (which needs no pandas); NaN,
    None or "" mean the default of this module's docstring. Other columns are ignored. Returns requests of
    length n; never raises for a bad row.
    """
    rows = _Rows(frame)
    model_specs = tuple(catalogue.models().values())
    model_codes, has_model = _entries(rows, "model", catalogue.model, model_specs)
    rows.fault(~has_model, "model is required")
    model = Facts(columns=model_columns(), codes=model_codes)
    gpu, hardware = _hardware(rows)
    engine = _codes(rows, "engine", ENGINES, ENGINE_OF, other=ENGINES.index("other"))
    rows.note(engine < 0, "engine assumed vllm")
    engine = np.maximum(engine, 0)
    weight, kv = _precisions(rows, model, gpu, engine)
    disagg = _default(rows.number("disagg", strict=False), 0.0) > 0
    stat, stats = rows.text("ttft_stat")
    mean_ttft = np.array([name == "mean" for name in stats])[stat]
    spec = np.maximum(_codes(rows, "spec_decode", SPECULATION, SPECULATION_OF), 0)
    parts = _pools(rows, _layout(rows, model, hardware.pop("platform_gpus")), disagg) | _load(rows) | {"disagg": disagg}
    _check(rows, model, parts)
    return Requests(
        model=model, gpu=gpu, engine=engine, months=_default(_months(rows), DEFAULT_DATE_MONTHS),
        mean_ttft=mean_ttft,
        weight_precision=weight, kv_precision=kv, spec_decode=spec,
        valid=rows.valid, reason=rows.reason, **hardware, **parts,
    )  # fmt: skip
