"""InferenceX (formerly InferenceMAX) results: agg_*.json, one object or a list of them.

Source of the format: SemiAnalysisAI/InferenceX, utils/process_result.py and collect_results.py (2025-10 to
2026-07; layouts of prefill and decode pools since 2025-12). They are made from results of vLLM's client.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .base import Draft, Fields, Record, drop, fill, gpu, has, plain, refuse, setting, statistics

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
STATED = {
    "mode": "closed-loop", "dp_means": "inside", "length_scale": 0.9, "length_kind": "uniform",
    "length_spread": "0.8-1",
}  # fmt: skip

knows = has("hw", "conc", "framework", "precision", "tput_per_gpu")


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a result."""
    hardware = plain(record["hw"])  # runner types put the cluster after the chip: b200-nb, h200-cw
    draft: Draft = {**STATED, "gpu": gpu(hardware)}
    if draft["gpu"] == hardware:
        draft["gpu"] = gpu(hardware.split("-")[0].split("_")[0])
    draft["spec_decode"] = plain(record.get("spec_decoding") or record.get("mtp")).lower() or "none"
    fill(draft, record, FIELDS)
    pools = {pool: setting(record.get(f"num_{pool}_gpu")) for pool in ("prefill", "decode")}
    if _yes(record.get("is_multinode")) or _yes(record.get("disagg")):
        _pools(draft, record, pools)
    else:
        draft["num_gpus"] = draft.get("tp", math.nan) * draft.get("pp", 1.0)
        if _yes(record.get("dp_attention")):
            draft["dp"] = draft.get("tp", math.nan)
    gpus = draft["num_gpus"]
    decoding = pools["decode"] if draft.get("disagg") else gpus
    for fields, times in ((PER_GPU, gpus), (PER_DECODE_GPU, decoding)):
        fill(draft, record, {theirs: (ours, times) for theirs, ours in fields.items()})
    yield draft


def _pools(draft: Draft, record: Record, pools: dict[str, float]) -> None:
    """Fill the pools: a worker is as wide as its share of the GPUs, whatever notation tp is in."""
    draft["num_gpus"] = sum(pools.values())
    if not draft["num_gpus"] > 0:
        refuse(draft, "pools-unknown")
        return
    for pool, gpus in pools.items():
        if pool == "decode" and not gpus > 0:  # prefill's pool is the whole
            drop(draft, "prefill_")
            return
        fill(draft, record, {theirs.format(pool): ours.format(pool) for theirs, ours in POOL.items()})
        workers = draft.get(f"{pool}_workers", math.nan)
        width = gpus / workers if workers > 0 else setting(record.get(f"{pool}_tp"))
        draft[f"{pool}_tp"] = width
        draft[f"{pool}_dp"] = width if _yes(record.get(f"{pool}_dp_attention")) else 1.0
        draft.update({name: draft.get(f"{pool}_{name}", math.nan) for name in ("tp", "ep", "dp")})
    draft["disagg"] = 1.0


def _yes(value: object) -> bool:
    return value is True or plain(value).lower() == "true"
