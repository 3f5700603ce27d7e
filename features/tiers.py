"""Host memory as a second tier below HBM: Grace over NVLink-C2C, or an x86 host over PCIe.

Three things may lie there: cold blocks of the KV cache, prefixes kept for later prompts, experts that seldom
fire. All are counted per GPU [B]; `Requests.host_bandwidth` is the one-way rate per GPU [B/s] when all GPUs
read at once. Nothing is overlapped: the baseline adds the stream to the step, only the floor hides it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .facts import FloatArray
from .request import Requests
from .work import (
    Layout,
    distinct_experts,
    kv_bytes_read,
    kv_bytes_stored,
    kv_share,
    prefill_layout,
    weight_bytes_each,
)

HOST_USABLE_SHARE = 0.9  # of the host's memory; the rest is the system's


def uses_host(r: Requests) -> NDArray[np.bool_]:
    """Return where anything lies in host memory."""
    prefix = r.prefix_on_host & (r.prefix_cached_frac > 0.0)
    used: NDArray[np.bool_] = np.isfinite(r.kv_hot_tokens) | (r.experts_resident_frac < 1.0) | prefix
    return used


def cold_kv_bytes(r: Requests, layout: Layout, context: FloatArray) -> FloatArray:
    """Return the KV bytes [B] that a sequence of `context` tokens keeps in host memory, per GPU."""
    if not np.any(np.isfinite(r.kv_hot_tokens)):
        return np.zeros(len(r))
    hot = kv_bytes_stored(r, np.minimum(context, r.kv_hot_tokens))
    cold: FloatArray = (kv_bytes_stored(r, context) - hot) * kv_share(r, layout) / layout.pp
    return cold


def cold_expert_bytes(r: Requests, layout: Layout) -> FloatArray:
    """Return the bytes [B] of routed experts that each GPU keeps in host memory."""
    experts = r.model.experts_total / layout.tp * weight_bytes_each(r) / layout.pp
    cold: FloatArray = (1.0 - r.experts_resident_frac) * experts
    return cold


def missed_experts(r: Requests, tokens: FloatArray, skew: FloatArray | float = 0.0) -> FloatArray:
    """Return the expected experts per layer that a step of `tokens` tokens needs and HBM lacks.

    The most popular ones are resident: those missed are the touched ones among the rest.
    """
    m = r.model
    missed: FloatArray = distinct_experts(
        m.n_experts, m.experts_per_token, tokens, skew, r.experts_resident_frac
    )
    return missed


def streamed_bytes(
    r: Requests,
    layout: Layout,
    tokens: FloatArray,
    sequences: FloatArray,
    context: FloatArray,
    skew: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the bytes [B] that one decode step reads from host memory, per GPU.

    Cold keys are read every `kv_reread_every` steps, on average 1 / k of them per step; missed experts at
    once. 16 users of 128k tokens with 16k hot, FP8, Qwen2.5-72B: 294 GB cold, 18 GB per step with k = 16.
    """
    experts = streamed_expert_bytes(r, layout, tokens, skew)
    if not np.any(np.isfinite(r.kv_hot_tokens)):
        return experts
    own = np.maximum(sequences / layout.dp, 1.0)
    cold = kv_bytes_read(r, context) - kv_bytes_read(r, np.minimum(context, r.kv_hot_tokens))
    cold = own * cold * kv_share(r, layout) / r.kv_reread_every
    return cold + experts


def streamed_expert_bytes(
    r: Requests, layout: Layout, tokens: FloatArray, skew: FloatArray | float = 0.0
) -> FloatArray:
    """Return the bytes [B] of experts that a pass of `tokens` tokens reads from host memory, per GPU."""
    if not np.any(r.experts_resident_frac < 1.0):
        return np.zeros(len(r))
    each = r.model.expert_params * r.model.moe_layers / layout.tp * weight_bytes_each(r)
    return missed_experts(r, tokens, skew) * each


def prefix_load_s(r: Requests, bandwidth_share: FloatArray | float = 1.0) -> FloatArray:
    """Return the seconds to bring a prompt's cached prefix from host memory, each GPU its own part."""
    layout = prefill_layout(r)
    cached = kv_bytes_stored(r, r.isl * r.prefix_cached_frac) * kv_share(r, layout) / layout.pp
    load: FloatArray = cached / np.maximum(r.host_bandwidth * bandwidth_share, 1.0)
    return load
