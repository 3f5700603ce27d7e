"""InferenceX (formerly InferenceMAX) results: agg_*.json, one object or a list of them.

Source of the format: SemiAnalysisAI/InferenceX, utils/process_result.py and collect_results.py (2025-10 to
2026-07; layouts of prefill and decode pools since 2025-12). They are made from results of vLLM's client.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .base import Draft, Fields, at, drop, fill, gpu, plain, refuse, setting, statistics
from .records import Record

# Latencies in s, TPOT after the first token; `intvty` is 1 / TPOT.
FIELDS: Fields = {
    "model": "model_raw",
    "framework": "engine",
    "image": "engine_version",
    "hw": "platform_raw",
    "precision": "weight_precision",
    **statistics("{}_ttft", "ttft", 1000.0),
    **statistics("{}_tpot", "tpot", 1000.0),
    **statistics("{}_e2el", "e2e", 1000.0),
    "conc": "concurrency",
    **{name: name for name in ("isl", "osl", "tp", "pp", "ep")},
}
# Throughputs are per GPU: of all GPUs; the output too, but of the decode GPUs alone where they are apart.
PER_GPU = {"tput_per_gpu": "total_tput", "avg_power_w": "power_w"}
PER_DECODE_GPU = {"output_tput_per_gpu": "output_tput"}
POOL = {"{}_ep": "{}_ep", "{}_num_workers": "{}_workers", "num_{}_gpu": "{}_gpus"}
# The client draws lengths from 0.8 to 1.0 of the nominal ones, which the file repeats.
LENGTHS = {"length_scale": 0.9, "length_kind": "uniform"}


def knows(record: Record) -> bool:
    """Whether a record is an aggregated result."""
    return {"hw", "conc", "framework", "precision", "tput_per_gpu"} <= record.keys()


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a result."""
    draft: Draft = {"mode": "closed-loop", "dp_means": "inside", **LENGTHS}
    draft["gpu"] = _gpu(plain(record["hw"]))
    draft["spec_decode"] = plain(record.get("spec_decoding") or record.get("mtp")).lower() or "none"
    fill(draft, record, FIELDS)
    prefill_gpus, decode_gpus = (setting(record.get(f"num_{pool}_gpu")) for pool in ("prefill", "decode"))
    if _yes(record.get("is_multinode")) or _yes(record.get("disagg")):
        _pools(draft, record, prefill_gpus, decode_gpus)
    else:
        draft["num_gpus"] = draft.get("tp", math.nan) * draft.get("pp", 1.0)
        if _yes(record.get("dp_attention")):
            draft["dp"] = draft.get("tp", math.nan)
    gpus = draft["num_gpus"]
    fill(draft, record, {theirs: (ours, gpus) for theirs, ours in PER_GPU.items()})
    decoding = decode_gpus if draft.get("disagg") else gpus
    fill(draft, record, {theirs: (ours, decoding) for theirs, ours in PER_DECODE_GPU.items()})
    yield draft


def _pools(draft: Draft, record: Record, prefill_gpus: float, decode_gpus: float) -> None:
    """Fill the pools: a worker is as wide as its share of the GPUs, whatever notation tp is in."""
    draft["num_gpus"] = prefill_gpus + decode_gpus
    if not draft["num_gpus"] > 0:
        refuse(draft, "pools-unknown")
        return
    apart = decode_gpus > 0
    for pool, gpus in (("prefill", prefill_gpus), ("decode", decode_gpus))[: 1 + apart]:
        fill(draft, record, {theirs.format(pool): ours.format(pool) for theirs, ours in POOL.items()})
        workers = draft.get(f"{pool}_workers", math.nan)
        width = gpus / workers if workers > 0 else setting(record.get(f"{pool}_tp"))
        draft[f"{pool}_tp"] = width
        draft[f"{pool}_dp"] = width if _yes(at(record, f"{pool}_dp_attention")) else 1.0
        draft.update({name: draft.get(f"{pool}_{name}", math.nan) for name in ("tp", "ep", "dp")})
    if apart:
        draft["disagg"] = 1.0
    else:
        drop(draft, "prefill_")


def _gpu(hardware: str) -> str:
    """Runner types put the cluster after the chip: b200-nb, h200-cw."""
    found = gpu(hardware)
    return found if found != hardware else gpu(hardware.split("-")[0].split("_")[0])


def _yes(value: object) -> bool:
    return value is True or plain(value).lower() == "true"
