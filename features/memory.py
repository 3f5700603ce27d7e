"""Memory: does the model fit, how many sequences fit beside it, and what lies in the host's memory instead.

Below HBM lies a second tier: Grace over NVLink-C2C, or an x86 host over PCIe. Three things may be there: cold
blocks of the KV cache, prefixes kept for later prompts, experts that seldom fire. All are counted per GPU
[B]; `Requests.host_bandwidth` is the one-way rate per GPU [B/s] when all GPUs read at once. Nothing is
overlapped: the baseline adds the stream to the step, only the floor hides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.vocabulary import ENGINES
from .facts import Arrays, BoolArray, FloatArray
from .request import Requests
from .work import (
    Layout,
    decode_layout,
    distinct_experts,
    kv_bytes_read,
    kv_bytes_stored,
    kv_share,
    prefill_layout,
    stored_weight_bytes,
    weight_bytes_each,
)

# What CUDA context, graphs and activations take of the memory that an engine may fill.
WORKSPACE_BYTES = 3.0e9
HOST_USABLE_SHARE = 0.9  # of the host's memory; the rest is the system's


@dataclass(frozen=True, kw_only=True)
class MemoryFit(Arrays):
    """Bytes per GPU [B] and sequences per replica, shape (n,); host_limits: not HBM sets max_batch.

    sequence_bytes: of one whole sequence; held_bytes: of one in the batch, as the engine counts it.
    """

    weight_bytes: FloatArray
    sequence_bytes: FloatArray
    held_bytes: FloatArray
    needed_bytes: FloatArray
    available_bytes: FloatArray
    needed_host_bytes: FloatArray
    available_host_bytes: FloatArray
    host_limits: BoolArray
    max_batch: FloatArray
    fits: BoolArray


def _free(r: Requests, layout: Layout) -> tuple[FloatArray, FloatArray]:
    memory = r.gpu.memory_bytes
    available = memory * r.settings.memory_share - np.minimum(WORKSPACE_BYTES, 0.1 * memory)
    return available, stored_weight_bytes(r, layout) - cold_weight_bytes(r, layout)


def memory_fit(r: Requests, *, overcommit: bool = False) -> MemoryFit:
    """Return whether weights and one sequence fit on each GPU, and the largest batch per replica.

    max_batch = (available - weights) / KV of one sequence on its GPUs x attention-data-parallel groups, and
    likewise for what lies in host memory. TensorRT-LLM keeps room for each sequence's full length, the other
    engines (and all of them with `overcommit`) fill memory with what sequences hold, on average half of their
    output, and pause one where it runs out. Qwen2.5-72B in BF16 needs 145 GB of weights: infeasible on one
    H100, feasible on two.
    """
    layout = decode_layout(r)
    available, weights = _free(r, layout)
    full = r.isl + r.osl
    reserved = (r.engine == ENGINES.index("trtllm")) & (not overcommit)
    held = np.where(reserved, full, r.isl + 0.5 * r.osl)

    def of_gpu(tokens: FloatArray) -> FloatArray:
        hot = np.minimum(tokens, r.kv_hot_tokens)
        return kv_bytes_stored(r, hot) * kv_share(r, layout) / layout.pp

    room = np.maximum(available - weights, 0.0)
    sequence = of_gpu(full)
    each = of_gpu(held)
    in_hbm = np.where(sequence <= room, np.floor(room / np.maximum(each, 1.0)), 0.0)
    host = r.host_bytes * HOST_USABLE_SHARE
    cold, experts = cold_kv_bytes(r, layout, held), cold_weight_bytes(r, layout)
    in_host = np.where(cold > 0.0, np.floor(np.maximum(host - experts, 0.0) / np.maximum(cold, 1.0)), np.inf)
    max_batch = np.minimum(in_hbm, in_host) * layout.dp
    prefill_available, prefill_weights = _free(r, prefill_layout(r))
    fits = (max_batch >= 1.0) & (prefill_weights <= prefill_available) & (experts <= host)
    return MemoryFit(
        weight_bytes=weights, sequence_bytes=sequence, held_bytes=each,
        needed_bytes=np.maximum(weights + sequence, prefill_weights), available_bytes=available,
        needed_host_bytes=experts + cold_kv_bytes(r, layout, full), available_host_bytes=host,
        host_limits=in_host < in_hbm, max_batch=np.maximum(max_batch, 1.0), fits=fits,
    )  # fmt: skip


def most_at_once(r: Requests, fit: MemoryFit) -> FloatArray:
    """Return the sequences that memory and the engine hold at once per replica, shape (n,)."""
    return np.minimum(fit.max_batch, r.settings.max_sequences * r.dp)


def uses_host(r: Requests) -> BoolArray:
    """Return where anything lies in host memory."""
    prefix = r.prefix_on_host & (r.prefix_cached_frac > 0.0)
    weights = (r.experts_resident_frac < 1.0) | (r.settings.offloaded_bytes > 0.0)
    return np.isfinite(r.kv_hot_tokens) | weights | prefix


def cold_kv_bytes(r: Requests, layout: Layout, context: FloatArray) -> FloatArray:
    """Return the KV bytes [B] that a sequence of `context` tokens keeps in host memory, per GPU."""
    if not np.any(np.isfinite(r.kv_hot_tokens)):
        return np.zeros(len(r))
    hot = kv_bytes_stored(r, np.minimum(context, r.kv_hot_tokens))
    return (kv_bytes_stored(r, context) - hot) * kv_share(r, layout) / layout.pp


def cold_weight_bytes(r: Requests, layout: Layout) -> FloatArray:
    """Return the bytes [B] of routed experts and offloaded weights that each GPU keeps in host memory."""
    experts = r.model.experts_total / layout.tp * weight_bytes_each(r) / layout.pp
    cold = (1.0 - r.experts_resident_frac) * experts
    return cold + np.minimum(r.settings.offloaded_bytes, stored_weight_bytes(r, layout) - cold)


def missed_experts(r: Requests, tokens: FloatArray, skew: FloatArray | float = 0.0) -> FloatArray:
    """Return the experts per layer [-] that `tokens` tokens touch beyond the most popular, resident ones."""
    m = r.model
    return distinct_experts(m.n_experts, m.experts_per_token, tokens, skew, r.experts_resident_frac)


def streamed_bytes(
    r: Requests,
    layout: Layout,
    tokens: FloatArray,
    sequences: FloatArray,
    context: FloatArray,
    skew: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the bytes [B] that one decode step reads from host memory, per GPU.

    Cold keys are read every `kv_reread_every` steps, on average 1 / k of them per step; missed experts and
    offloaded weights at once. 16 users of 128k tokens with 16k hot, FP8, Qwen2.5-72B: 294 GB cold, 18 GB per
    step with k = 16.
    """
    experts = streamed_weight_bytes(r, layout, tokens, skew)
    if not np.any(np.isfinite(r.kv_hot_tokens)):
        return experts
    own = np.maximum(sequences / layout.dp, 1.0)
    cold = kv_bytes_read(r, context) - kv_bytes_read(r, np.minimum(context, r.kv_hot_tokens))
    return own * cold * kv_share(r, layout) / r.kv_reread_every + experts


def streamed_weight_bytes(
    r: Requests, layout: Layout, tokens: FloatArray, skew: FloatArray | float = 0.0
) -> FloatArray:
    """Return the bytes [B] of weights that a pass of `tokens` tokens reads from host memory, per GPU.

    Offloaded weights (`cpu_offload_gb`) all pass the link, whatever the tokens: of each stage its own.
    """
    whole = np.minimum(r.settings.offloaded_bytes, stored_weight_bytes(r, layout)) * layout.pp
    if not np.any(r.experts_resident_frac < 1.0):
        return whole
    each = r.model.expert_params * r.model.moe_layers / layout.tp * weight_bytes_each(r)
    return missed_experts(r, tokens, skew) * each + whole


def prefix_load_s(r: Requests, bandwidth_share: FloatArray | float = 1.0) -> FloatArray:
    """Return the seconds to bring a prompt's cached prefix from host memory, each GPU its own part."""
    layout = prefill_layout(r)
    cached = kv_bytes_stored(r, r.isl * r.prefix_cached_frac) * kv_share(r, layout) / layout.pp
    return cached / np.maximum(r.host_bandwidth * bandwidth_share, 1.0)
