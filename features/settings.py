"""Engine settings that decide results: what the door reads of them, and what engines do by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.columns import default_of
from ..data.vocabulary import SPECULATION, SWITCHES
from .cells import Rows, default
from .facts import Arrays, BoolArray, FloatArray, IntArray

# Share of the memory an engine may fill (vLLM's gpu_memory_utilization default is 0.9; 0.95 is common in
# benchmarks).
USABLE_SHARE = default_of("gpu_memory_utilization")
# Sequences an engine schedules at once unless told otherwise (vLLM v1 max_num_seqs on 80 GB cards: 1024;
# TensorRT-LLM max_batch_size 2048; SGLang is bounded by memory).
MAX_SEQUENCES = default_of("max_num_seqs")
# Prompt tokens one pass takes (vLLM's max_num_batched_tokens, SGLang's chunked_prefill_size on 80 GB cards).
PASS_TOKENS = default_of("max_num_batched_tokens")
# Draft tokens verified per step under speculation: the depth of nearly all measured MTP and EAGLE runs.
DRAFTED_TOKENS = default_of("draft_tokens")
_ASSUMED_SPECULATION = SPECULATION.index("eagle")


@dataclass(frozen=True, kw_only=True)
class Settings(Arrays):
    """Settings of n requests, shape (n,).

    accepted: tokens per step under speculation, NaN as calibrated; drafted: tokens drafted per step;
    max_sequences: scheduled at once by one engine; pass_tokens: prompt tokens of one pass; memory_share: of
    the memory that may be filled; eager: kernels are launched one by one; offloaded_bytes: weights per GPU
    that lie in host memory [B].
    """

    accepted: FloatArray
    drafted: FloatArray
    max_sequences: FloatArray
    pass_tokens: FloatArray
    memory_share: FloatArray
    eager: BoolArray
    offloaded_bytes: FloatArray


def speculation_of(rows: Rows) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the kind of speculation, and tokens accepted (NaN: as calibrated) and drafted per step.

    accept_rate is the accepted share of the drafted tokens, as vLLM's metrics print it:
    accept_length = 1 + accept_rate x draft_tokens.
    """
    kind, length = rows.word("spec_decode", SPECULATION), rows.number("accept_length", low=1.0, strict=False)
    given, rate = rows.number("draft_tokens", whole=True), rows.share("accept_rate", np.nan)
    told = ~(np.isnan(length) & np.isnan(given) & np.isnan(rate))
    rows.note(told & (kind < 0), "assumed", "spec_decode", SPECULATION[_ASSUMED_SPECULATION])
    kind = np.where(told & (kind < 0), _ASSUMED_SPECULATION, np.maximum(kind, 0))
    rows.fault(told & (kind == 0), "not-allowed", "spec_decode", "none", "a kind, beside accept_length")
    drafted = default(given, np.maximum(DRAFTED_TOKENS, np.ceil(default(length, 1.0)) - 1.0))
    accepted = default(length, 1.0 + rate * drafted)
    rows.fault(accepted > 1.0 + drafted, "accepts", "accept_length", accepted, 1.0 + drafted)
    return kind, accepted, drafted


def settings_of(rows: Rows, accepted: FloatArray, drafted: FloatArray) -> Settings:
    """Return the settings of each row, what it leaves out as engines have it."""
    share = default(rows.number("gpu_memory_utilization"), USABLE_SHARE)
    rows.fault(share > 1.0, "not-allowed", "gpu_memory_utilization", share, "a share above 0 and up to 1")
    return Settings(
        accepted=accepted, drafted=drafted, memory_share=share,
        max_sequences=default(rows.number("max_num_seqs", whole=True), MAX_SEQUENCES),
        pass_tokens=default(rows.number("max_num_batched_tokens", whole=True), PASS_TOKENS),
        eager=rows.flag("enforce_eager")[0],
        offloaded_bytes=default(rows.number("cpu_offload_gb", strict=False), 0.0) * 2.0**30,
    )  # fmt: skip


def cached_share(rows: Rows) -> FloatArray:
    """Return the share of the prompt that is found in a cache: none where the cache is off."""
    share, switch = rows.share("prefix_cached_frac", 0.0), rows.word("prefix_caching", SWITCHES)
    rows.note((switch == 0) & (share > 0.0), "cache-off", "prefix_cached_frac")
    unknown = (switch == 1) & np.isnan(rows.number("prefix_cached_frac", strict=False))
    rows.note(unknown, "assumed", "prefix_cached_frac", 0.0)
    return np.where(switch == 0, 0.0, share)
