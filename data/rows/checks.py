"""What no measurement can break: ranges, Little's law, the memory of its GPUs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import catalogue
from ..columns import FIGURES
from .draft import reject, sound

LITTLE = 1.5
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}
# Narrower than the columns' own: what lies between was never seen in a result that was read rightly.
RANGES = {
    "isl": (1, 2e6), "osl": (1, 2e5), "concurrency": (0.5, 1e6), "request_rate": (1e-4, 1e5),
    "output_tok_s": (1e-2, 1e8), "ttft_ms": (0.1, 1e7), "tpot_ms": (0.05, 1e5), "num_gpus": (1, 4096),
}  # fmt: skip
STEADY = ("closed-loop", "static-batch")


def ranges(rows: pd.DataFrame) -> None:
    """Reject values that are not positive and finite, and rows that lack what their mode needs."""
    for name, (low, high) in RANGES.items():
        wrong = rows[name].notna() & ~rows[name].between(low, high)
        reject(rows, wrong, "range", column=name, allowed=(low, high))
    reject(rows, rows["num_gpus"].isna(), "missing", column="num_gpus", allowed="number of GPUs")
    reject(rows, rows["osl"].isna() & sound(rows), "missing", column="osl", allowed="output length")
    loaded = rows["mode"].isin(STEADY) & rows["concurrency"].isna()
    reject(rows, loaded & sound(rows), "missing", column="concurrency", allowed="concurrency")
    reject(rows, rows[list(FIGURES)].isna().all(axis=1), "no-figure")


def residence_ratio(rows: pd.DataFrame) -> pd.Series:
    """Return concurrency x osl / output_tok_s over TTFT + TPOT x (osl - 1); 1 by Little's law.

    Means where known; a median TTFT understates the mean, so that ratios up to 1.3 are clean. 1.00 to 1.07 in
    sources with means. Unknown TTFT counts as 0: then only a ratio below 1 tells anything.
    """
    ttft = rows["ttft_mean_ms"].fillna(rows["ttft_ms"])
    tpot = rows["tpot_mean_ms"].fillna(rows["tpot_ms"])
    residence = ttft.fillna(0.0) + tpot * (rows["osl"] - 1)
    return rows["concurrency"] * rows["osl"] / rows["output_tok_s"] * 1000.0 / residence


def little(rows: pd.DataFrame) -> None:
    """Reject steady rows whose concurrency, throughput and latency cannot belong together."""
    ratio = residence_ratio(rows)
    off = (ratio < 1 / LITTLE) | ((ratio > LITTLE) & rows["ttft_ms"].notna())
    reject(rows, rows["mode"].isin(STEADY) & off, "little", column="concurrency", allowed=LITTLE)


def memory(rows: pd.DataFrame) -> None:
    """Reject what the GPUs' memory cannot hold: the weights, or with them the KV of the requests in flight.

    Requests in decode are concurrency x decode time / residence; each holds isl + osl/2 tokens on average, at
    8 bit per value or what the row states, full-attention layers only. Rows with cached prefixes share KV:
    left out.
    """
    gpus, models = catalogue.gpus(), catalogue.models()
    spec = rows[rows["gpu"].isin(gpus) & rows["model"].isin(models) & sound(rows)]
    room = spec["gpu"].map(lambda g: gpus[g].memory_bytes) * spec["decode_gpus"].fillna(spec["num_gpus"])
    weights = spec["model"].map(lambda m: models[m].params_total) * spec["weight_precision"].map(BYTES)
    reject(rows, rows.index.isin(spec.index[weights > room]), "weights-memory", column="num_gpus")
    ttft, tpot = spec["ttft_mean_ms"].fillna(spec["ttft_ms"]), spec["tpot_ms"] * (spec["osl"] - 1)
    decoding = spec["concurrency"] * tpot / (ttft + tpot)
    size = np.where(spec["kv_precision"].isin(["fp4", "int4"]), 0.5, 1.0)
    kv = decoding * (spec["isl"] + spec["osl"] / 2) * spec["model"].map(_kv_values) * size
    steady = (spec["mode"] == "closed-loop") & ~(spec["prefix_cached_frac"] > 0)
    full = steady & (weights * spec["replicas"].fillna(1) + kv > 1.05 * room) & (weights <= room)
    reject(rows, rows.index.isin(spec.index[full]), "kv-memory", column="concurrency")


def _kv_values(model: str) -> float:
    """KV values per token that every engine must keep: full-attention layers x (K and V, or MLA's latent)."""
    spec = catalogue.models()[model]
    layers = spec.n_full_attention_layers or (0 if spec.n_sliding_layers else spec.n_layers)
    if spec.kv_values_per_token_layer:
        return layers * spec.kv_values_per_token_layer
    latent = spec.mla_kv_rank + spec.mla_rope_dim
    return layers * (latent if spec.mla_kv_rank else 2 * spec.n_kv_heads * spec.head_dim)
