"""What no row may break: ranges, Little's law, the physical floor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .. import catalogue
from ..schema import TARGETS
from .raw import say

# Why each row is faster than physics allows, "" where it is not.
Audit = Callable[[pd.DataFrame], "pd.Series[str]"]

# A measurement may lie this much beyond a floor before it is impossible: clocks and lengths are rounded.
TOLERANCE = 0.95
LITTLE = 1.5
STALL, STANDSTILL_MS = 4.0, 1000.0  # mean over median TTFT, opening bursts reach 3; and above it
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}
# More tokens per step than any speculative decoder here can accept (MTP drafts 1 to 4, EAGLE up to 7).
TOKENS_PER_SPECULATIVE_STEP = 8.0

RANGES = {
    "isl": (1, 2e6),
    "osl": (1, 2e5),
    "concurrency": (0.5, 1e6),
    "request_rate": (1e-4, 1e5),
    "output_tok_s": (1e-2, 1e8),
    "ttft_ms": (0.1, 1e7),
    "tpot_ms": (0.05, 1e5),
    "num_gpus": (1, 4096),
}


def ranges(rows: pd.DataFrame) -> None:
    """Reject values that are not positive and finite, and rows that lack what their mode needs."""
    for name, (low, high) in RANGES.items():
        value = rows[name]
        wrong = value.notna() & ~value.between(low, high)
        say(rows, wrong, reject=f"{name} out of range")
    say(rows, rows["num_gpus"].isna(), reject="number of GPUs unknown")
    say(rows, rows["osl"].isna() & (rows["reject"] == ""), reject="output length unknown")
    loaded = rows["mode"].isin(["closed-loop", "static-batch"])
    say(rows, loaded & rows["concurrency"].isna() & (rows["reject"] == ""), reject="concurrency unknown")
    say(rows, rows[list(TARGETS)].isna().all(axis=1), reject="no throughput, TTFT or TPOT")


def residence_ratio(rows: pd.DataFrame) -> pd.Series:
    """Return concurrency x osl / output_tok_s over TTFT + TPOT x (osl - 1); 1 by Little's law.

    Means where known; a median TTFT understates the mean, so that ratios up to 1.3 are clean. 1.00 to 1.07 in
    sources with means. Unknown TTFT counts as 0: then only a ratio below 1 says something.
    """
    ttft = rows["ttft_mean_ms"].fillna(rows["ttft_ms"])
    tpot = rows["tpot_mean_ms"].fillna(rows["tpot_ms"])
    residence = ttft.fillna(0.0) + tpot * (rows["osl"] - 1)
    return rows["concurrency"] * rows["osl"] / rows["output_tok_s"] * 1000.0 / residence


def little(rows: pd.DataFrame) -> None:
    """Reject steady rows whose concurrency, throughput and latency cannot belong together."""
    ratio = residence_ratio(rows)
    steady = rows["mode"].isin(["closed-loop", "static-batch"])
    low = steady & (ratio < 1 / LITTLE)
    high = steady & (ratio > LITTLE) & rows["ttft_ms"].notna()
    say(rows, low | high, reject="throughput, latency and concurrency break Little's law")
    rows["little"] = ratio


def stalls(rows: pd.DataFrame) -> None:
    """Drop what a standstill spoilt: the mean TTFT and the throughput of a run whose server stopped once.

    The InferenceX client counts its first requests in, and a server that compiles kernels for them stops for
    a minute: the tenth of the requests that wait move the mean TTFT from tenths of a second to seconds and
    take a third of the throughput. The median TTFT and the time per token are of the others, and stay. Of
    the same week's runs without pools that report the mean alone, those with such a mean stood still too.
    """
    known = rows["source_family"].str.startswith("inferencex") & (rows["mode"] == "closed-loop")
    median, mean = rows["ttft_p50_ms"], rows["ttft_mean_ms"]
    stood = known & (mean > STALL * median) & (mean - median > STANDSTILL_MS)
    week = pd.to_datetime(rows["date"], errors="coerce", format="ISO8601").dt.to_period("W").astype(str)
    kin = rows[["gpu", "model", "engine", "weight_precision"]].agg("|".join, axis=1) + "|" + week
    usual = median.fillna(kin.map(median[stood].groupby(kin[stood]).max()))
    alone = known & (rows["disagg"] != 1) & median.isna() & (mean - usual > STANDSTILL_MS)
    spoilt = stood | alone
    unharmed = mean - usual < 0.05 * rows["tpot_ms"] * (rows["osl"] - 1)
    rows.loc[spoilt, "ttft_mean_ms"] = np.nan
    rows.loc[spoilt & ~unharmed, ["output_tok_s", "total_tok_s", "request_s"]] = np.nan
    say(rows, spoilt, remark="stood still once: mean TTFT (and throughput) dropped")


def simple_floor(rows: pd.DataFrame) -> pd.DataFrame:
    """A lower bound that needs no model of serving: floor_tpot_ms, floor_ttft_ms, ceiling_output_tok_s.

    TPOT: active weights (embedding and head left out) read once per step by the tp GPUs of one instance,
    shared by up to 8 accepted tokens with speculation. TTFT: 2 FLOP per active parameter and uncached prompt
    token at the dense peak. Throughput: the same FLOPs for prompt and output on all GPUs, and concurrency /
    floor TPOT.
    """
    gpus, models = catalogue.gpus(), catalogue.models()
    known = rows["gpu"].isin(gpus) & rows["model"].isin(models)
    spec = rows[known]
    active = spec["model"].map(lambda m: max(models[m].params_active - models[m].params_embedding, 1e6))
    size = spec["weight_precision"].map(BYTES).fillna(0.5)
    bandwidth = spec["gpu"].map(lambda g: gpus[g].memory_bandwidth)
    peak = pd.Series(
        [_peak(gpus[g], p) for g, p in zip(spec["gpu"], spec["weight_precision"], strict=True)],
        index=spec.index,
    )
    width = spec["decode_tp"].fillna(spec["tp"]).fillna(spec["num_gpus"])
    tokens = np.where(spec["spec_decode"].isin(["none"]), 1.0, TOKENS_PER_SPECULATIVE_STEP)
    tpot: pd.Series[float] = active * size / (width * bandwidth) / tokens
    front = (spec["prefill_tp"].fillna(spec["tp"]) * spec["pp"]).fillna(spec["num_gpus"])
    fresh = spec["isl"] * (1 - spec["prefix_cached_frac"].fillna(0.0))
    work = 2.0 * active
    ceiling = spec["num_gpus"] * peak / (work * (fresh.fillna(0.0) / spec["osl"] + 1))
    floor = pd.DataFrame(index=rows.index)
    floor["floor_tpot_ms"] = 1000.0 * tpot
    floor["floor_ttft_ms"] = 1000.0 * work * fresh / (front * peak)
    floor["ceiling_output_tok_s"] = np.fmin(ceiling, spec["concurrency"] / tpot)
    return floor


def _peak(gpu: catalogue.GpuSpec, precision: str) -> float:
    """The fastest unit that could be meant: fp4 and fp8 checkpoints may compute in either."""
    formats = {"fp4": ("fp4", "fp8", "bf16"), "fp8": ("fp8", "bf16"), "int8": ("int8", "bf16")}.get(
        precision, ("bf16",)
    )
    return max(gpu.flops.get(name, 0.0) for name in formats) or max(gpu.flops.values())


def memory(rows: pd.DataFrame) -> None:
    """Reject what the GPUs' memory cannot hold: the weights, or with them the KV of the requests in flight.

    Requests in decode are concurrency x decode time / residence; each holds isl + osl/2 tokens on average, at
    8 bit per value or what the row says, full-attention layers only. Rows with cached prefixes share KV: left
    out.
    """
    gpus, models = catalogue.gpus(), catalogue.models()
    spec = rows[rows["gpu"].isin(gpus) & rows["model"].isin(models) & (rows["reject"] == "")]
    room = spec["gpu"].map(lambda g: gpus[g].memory_bytes) * spec["decode_gpus"].fillna(spec["num_gpus"])
    weights = spec["model"].map(lambda m: models[m].params_total) * spec["weight_precision"].map(BYTES)
    say(rows, rows.index.isin(spec.index[weights > room]), reject="weights larger than the memory")
    ttft, tpot = spec["ttft_mean_ms"].fillna(spec["ttft_ms"]), spec["tpot_ms"] * (spec["osl"] - 1)
    decoding = spec["concurrency"] * tpot / (ttft + tpot)
    size = np.where(spec["kv_precision"].isin(["fp4", "int4"]), 0.5, 1.0)
    kv = decoding * (spec["isl"] + spec["osl"] / 2) * spec["model"].map(_kv_values) * size
    steady = (spec["mode"] == "closed-loop") & ~(spec["prefix_cached_frac"] > 0)
    full = steady & (weights * spec["replicas"].fillna(1) + kv > 1.05 * room)
    full &= weights <= room
    say(rows, rows.index.isin(spec.index[full]), reject="more KV in flight than the memory holds")


def _kv_values(model: str) -> float:
    """KV values per token that every engine must keep: full-attention layers x (K and V, or MLA's latent)."""
    spec = catalogue.models()[model]
    layers = spec.n_full_attention_layers or (0 if spec.n_sliding_layers else spec.n_layers)
    if spec.kv_values_per_token_layer:
        return layers * spec.kv_values_per_token_layer
    latent = spec.mla_kv_rank + spec.mla_rope_dim
    return layers * (latent if spec.mla_kv_rank else 2 * spec.n_kv_heads * spec.head_dim)


def simple_audit(rows: pd.DataFrame) -> pd.Series[str]:
    """Return what passes `simple_floor`; not by the TTFT of data sets, whose median prompt is no mean.

    What applies where nothing better is passed in, such as `roofcast.predictor.audit.impossible`.
    """
    bound = simple_floor(rows)
    fast = rows["tpot_ms"] < TOLERANCE * bound["floor_tpot_ms"]
    early = (rows["length_kind"] != "dataset") & (rows["ttft_ms"] < TOLERANCE * bound["floor_ttft_ms"])
    much = rows["output_tok_s"] > bound["ceiling_output_tok_s"] / TOLERANCE
    reasons = pd.Series("", index=rows.index)
    reasons[much] = "throughput above the physical ceiling"
    reasons[early] = "TTFT below the physical floor"
    reasons[fast] = "TPOT below the physical floor"
    return reasons


def physics(rows: pd.DataFrame, audit: Audit) -> None:
    """Reject what is faster than physics allows, by the audit's reason, among the rows not rejected yet."""
    good = rows[rows["reject"] == ""]
    if good.empty:
        return
    reasons = audit(good)
    rows["reject"] = reasons.reindex(rows.index, fill_value="").where(rows["reject"] == "", rows["reject"])
