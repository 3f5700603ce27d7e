"""Memory: does the model fit, and how many sequences fit beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .facts import FloatArray
from .request import Requests
from .work import Layout, decode_layout, kv_bytes_stored, kv_share, prefill_layout, stored_weight_bytes

# Share of the memory an engine may fill (vLLM's gpu_memory_utilization default is 0.9; 0.95 is common in
# benchmarks), and what CUDA context, graphs and activations take of it.
USABLE_SHARE = 0.95
WORKSPACE_BYTES = 3.0e9


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """Bytes per GPU [B] and sequences per replica, shape (n,)."""

    weight_bytes: FloatArray
    sequence_bytes: FloatArray
    needed_bytes: FloatArray
    available_bytes: FloatArray
    max_batch: FloatArray
    fits: NDArray[np.bool_]


def _free(r: Requests, layout: Layout) -> tuple[FloatArray, FloatArray]:
    available = r.gpu.memory_bytes * USABLE_SHARE - np.minimum(WORKSPACE_BYTES, 0.1 * r.gpu.memory_bytes)
    return available, stored_weight_bytes(r, layout)


def memory_fit(r: Requests) -> MemoryFit:
    """Return whether weights and one sequence fit on each GPU, and the largest batch per replica.

    max_batch = (available - weights) / KV of one full sequence on its GPUs x attention-data-parallel groups.
    Qwen2.5-72B in BF16 needs 145 GB of weights: infeasible on one H100, feasible on two.
    """
    layout = decode_layout(r)
    available, weights = _free(r, layout)
    sequence = kv_bytes_stored(r, r.isl + r.osl) * kv_share(r, layout) / layout.pp
    room = np.maximum(available - weights, 0.0)
    max_batch = np.floor(room / np.maximum(sequence, 1.0)) * layout.dp
    needed = weights + sequence
    prefill_available, prefill_weights = _free(r, prefill_layout(r))
    fits = (max_batch >= 1.0) & (prefill_weights <= prefill_available)
    return MemoryFit(
        weight_bytes=weights,
        sequence_bytes=sequence,
        needed_bytes=np.maximum(needed, prefill_weights),
        available_bytes=available,
        max_batch=np.maximum(max_batch, 1.0),
        fits=fits,
    )
