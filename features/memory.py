"""Memory: does the model fit, and how many sequences fit beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.vocabulary import ENGINES
from .facts import FloatArray
from .request import Requests
from .tiers import HOST_USABLE_SHARE, cold_expert_bytes, cold_kv_bytes
from .work import Layout, decode_layout, kv_bytes_stored, kv_share, prefill_layout, stored_weight_bytes

# Share of the memory an engine may fill (vLLM's gpu_memory_utilization default is 0.9; 0.95 is common in
# benchmarks), and what CUDA context, graphs and activations take of it.
USABLE_SHARE = 0.95
WORKSPACE_BYTES = 3.0e9


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """Bytes per GPU [B] and sequences per replica, shape (n,).

    host_bytes of needed_host_bytes [B] lie in the host's memory; host_limits: it, not HBM, sets max_batch.
    """

    weight_bytes: FloatArray
    sequence_bytes: FloatArray
    needed_bytes: FloatArray
    available_bytes: FloatArray
    needed_host_bytes: FloatArray
    available_host_bytes: FloatArray
    host_limits: NDArray[np.bool_]
    max_batch: FloatArray
    fits: NDArray[np.bool_]


def _free(r: Requests, layout: Layout) -> tuple[FloatArray, FloatArray]:
    available = r.gpu.memory_bytes * USABLE_SHARE - np.minimum(WORKSPACE_BYTES, 0.1 * r.gpu.memory_bytes)
    return available, stored_weight_bytes(r, layout) - cold_expert_bytes(r, layout)


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
    in_hbm = np.where(sequence <= room, np.floor(room / np.maximum(of_gpu(held), 1.0)), 0.0)
    host = r.host_bytes * HOST_USABLE_SHARE
    cold, experts = cold_kv_bytes(r, layout, held), cold_expert_bytes(r, layout)
    in_host = np.where(cold > 0.0, np.floor(np.maximum(host - experts, 0.0) / np.maximum(cold, 1.0)), np.inf)
    max_batch = np.minimum(in_hbm, in_host) * layout.dp
    prefill_available, prefill_weights = _free(r, prefill_layout(r))
    fits = (max_batch >= 1.0) & (prefill_weights <= prefill_available) & (experts <= host)
    return MemoryFit(
        weight_bytes=weights,
        sequence_bytes=sequence,
        needed_bytes=np.maximum(weights + sequence, prefill_weights),
        available_bytes=available,
        needed_host_bytes=experts + cold_kv_bytes(r, layout, full),
        available_host_bytes=host,
        host_limits=in_host < in_hbm,
        max_batch=np.maximum(max_batch, 1.0),
        fits=fits,
    )
