"""Work of one serving step: FLOPs and bytes per GPU, from the model's shape and its layout on GPUs.

Everything here is counted per GPU of one replica, for arrays of requests; no hardware rate enters.
Formulas: 2 FLOP per parameter and token for matrix products; 2 x heads x width FLOP per query-key pair for
attention (score and value widths of the model, latent widths for absorbed MLA decoding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.vocabulary import MXFP4_WEIGHT_BYTES, PRECISIONS
from .facts import ARCHITECTURES, BoolArray, FloatArray, IntArray, runs_precisions
from .request import Requests

_WEIGHT_BYTES = np.array([term.weight_bytes for term in PRECISIONS.terms])
_KV_BYTES = np.array([term.kv_bytes for term in PRECISIONS.terms])
_SURE = 1.0 - 1e-12
_POINTS, _WEIGHTS = (half / 2.0 for half in np.polynomial.legendre.leggauss(6))
_POINTS = _POINTS + 0.5  # of Gauss-Legendre quadrature over [0, 1]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one replica lies on its GPUs: degrees per request, shape (n,)."""

    tp: FloatArray
    ep: FloatArray
    dp: FloatArray
    pp: FloatArray

    @property
    def attention_tp(self) -> FloatArray:
        """GPUs that share one sequence's attention (the others hold other sequences)."""
        return np.maximum(self.tp / self.dp, 1.0)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work of one step per GPU: bytes [B] and FLOPs, shape (n,)."""

    weight_bytes: FloatArray
    kv_bytes: FloatArray
    linear_flops: FloatArray
    attention_flops: FloatArray


def decode_layout(r: Requests) -> Layout:
    """Return the layout of the GPUs that decode."""
    return Layout(tp=r.tp, ep=r.ep, dp=r.dp, pp=_stages(r))


def prefill_layout(r: Requests) -> Layout:
    """Return the layout of the GPUs that prefill (the same ones without disaggregation)."""
    return Layout(tp=r.prefill_tp, ep=r.prefill_ep, dp=r.prefill_dp, pp=_stages(r))


def _stages(r: Requests) -> FloatArray:
    """Return layers over those of the largest pipeline stage: 61 layers in 2 stages are 1.97."""
    layers = r.model.n_layers
    return np.asarray(layers / np.ceil(layers / r.pp))


def weight_bytes_each(r: Requests) -> FloatArray:
    """Return stored bytes per quantised parameter [B]: as asked for, never wider than published.

    But where no engine runs the published format on the GPU: there weights are converted.
    """
    native = r.model.native_precision.astype(np.int64)
    runs = runs_precisions(r.gpu)[np.arange(len(r)), native]
    asked = _WEIGHT_BYTES[r.weight_precision]
    each = np.where(runs, np.minimum(asked, _WEIGHT_BYTES[native]), asked)
    # MXFP4, one scale byte per 32 values, where the model is published so or the GPU multiplies it (CDNA 4).
    mx = (r.model.native_mxfp4 > 0) | (r.gpu.architecture == ARCHITECTURES.index("cdna4"))
    return np.where(mx & (each == PRECISIONS.term("fp4").weight_bytes), MXFP4_WEIGHT_BYTES, each)


def attention_bytes_each(r: Requests) -> FloatArray:
    """Return stored bytes per attention parameter [B]."""
    each = weight_bytes_each(r)
    # Four-bit checkpoints of expert models quantise the experts; attention stays in 8 bits (16 for gpt-oss).
    four_bit = (each < 0.9) & (r.model.is_moe > 0)
    return np.where(four_bit, np.where(r.model.attention_bf16 > 0, 2.0, 1.0), each)


def distinct_experts(
    n_experts: FloatArray,
    per_token: FloatArray,
    tokens: FloatArray,
    skew: FloatArray | float = 0.0,
    first: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the expected number of distinct experts that `tokens` tokens touch in one layer.

    E x (1 - (1 - k/E)^tokens) for uniform routing. With `skew` s in [0, 1) the expert at share u of the
    ranking is chosen (1 - s) u^-s times as often as the mean (Zipf's law): fewer are touched. `first` counts
    only the experts after that share of the ranking.

    >>> distinct_experts(np.array([256.0]), np.array([8.0]), np.array([32.0]), np.array([0.0, 0.5])).round(1)
    array([163.3, 143.7])
    """
    if not np.any(n_experts):
        return np.zeros(np.broadcast_shapes(np.shape(n_experts), np.shape(tokens)))
    share = np.where(n_experts > 0, per_token / np.maximum(n_experts, 1.0), 0.0)
    tokens = np.maximum(tokens, 0.0)
    rest = 1.0 - np.asarray(first, dtype=np.float64)
    if not np.any(np.asarray(skew) > 0.0):
        touched = -np.expm1(tokens * np.log1p(-np.minimum(share, _SURE)))
        return np.asarray(n_experts * rest * touched)
    total = np.zeros(np.broadcast_shapes(share.shape, np.shape(skew)))
    for point, weight in zip(_POINTS, _WEIGHTS, strict=True):
        # A squared grid is dense where the ranking is steep: u = first + rest x point^2.
        popularity = (1.0 - skew) * (first + rest * point**2) ** -np.asarray(skew)
        log_miss = np.log1p(-np.minimum(share * popularity, _SURE))
        total = total - 2.0 * point * weight * np.expm1(tokens * log_miss)
    return np.asarray(n_experts * rest * total)


def kv_share(r: Requests, layout: Layout) -> FloatArray:
    """Return the share of a sequence's KV cache that each of its GPUs holds: one KV head at least."""
    return np.ceil(r.model.n_kv_heads / layout.attention_tp) / r.model.n_kv_heads


def kv_bytes_read(r: Requests, context: FloatArray) -> FloatArray:
    """Return the KV bytes [B] that one new token of one sequence reads in all layers (before sharing).

    Full layers read the context, or the indexer's keys and the chosen top-k; sliding layers the window;
    linear layers read and write their state (fp32).
    """
    m, each = r.model, _KV_BYTES[r.kv_precision]
    full = np.minimum(context, m.sparse_topk) * (m.kv_values - m.index_values) + context * m.index_values
    window = np.minimum(context, m.window) * m.kv_values
    state = m.linear_layers * m.linear_state_values * 8.0
    read: FloatArray = (m.full_layers * full + m.sliding_layers * window) * each + state
    return read


def kv_bytes_stored(r: Requests, context: FloatArray) -> FloatArray:
    """Return the KV bytes [B] that one sequence of `context` tokens keeps in all layers (before sharing).

    Qwen2.5-72B in FP8: 2 x 8 x 128 = 2 KB per layer and token, 164 KB per token over 80 layers.
    """
    m = r.model
    tokens = m.full_layers * context + m.sliding_layers * np.minimum(context, m.window)
    state = m.linear_layers * m.linear_state_values * 4.0
    stored: FloatArray = tokens * m.kv_values * _KV_BYTES[r.kv_precision] + state
    return stored


def stored_weight_bytes(r: Requests, layout: Layout) -> FloatArray:
    """Return the weight bytes [B] that each GPU of a replica holds (LM head and embedding in 16 bits)."""
    m = r.model
    feed_forward = (m.dense_params + m.shared_params + m.experts_total) / layout.tp * weight_bytes_each(r)
    attention = m.attention_params / layout.attention_tp * attention_bytes_each(r)
    return (feed_forward + attention + 2.0 * m.embedding_params / layout.tp) / layout.pp


def step_weight_bytes(
    r: Requests,
    layout: Layout,
    tokens: FloatArray,
    skew: FloatArray | float = 0.0,
    least: BoolArray | bool = False,
) -> FloatArray:
    """Return the weight bytes [B] that each GPU reads for one pass of `tokens` tokens: each weight once.

    The LM head is kept in 16 bits; with `least`, as a floor must allow, in the weights' own precision.
    """
    head_bytes = np.where(least, weight_bytes_each(r), 2.0)
    m = r.model
    experts = distinct_experts(m.n_experts, m.experts_per_token, tokens, skew)
    touched = experts * m.expert_params * m.moe_layers
    feed_forward = (m.dense_params + m.shared_params + touched) / layout.tp * weight_bytes_each(r)
    attention = m.attention_params / layout.attention_tp * attention_bytes_each(r)
    return feed_forward + attention + head_bytes * m.head_params / layout.tp


def step_work(
    r: Requests,
    layout: Layout,
    tokens: FloatArray,
    sequences: FloatArray,
    context: FloatArray,
    skew: FloatArray | float = 0.0,
    least: BoolArray | bool = False,
) -> Work:
    """Return the work of one decode step over `tokens` new tokens of `sequences` sequences per replica.

    tokens equals sequences unless several draft tokens per sequence are verified at once. All layers are
    counted, whatever the pipeline: a token passes every stage. With attention data parallelism the group
    that holds the most sequences sets the pace: at least one.
    """
    m = r.model
    own = np.maximum(sequences / layout.dp, 1.0)
    drafts = tokens / sequences
    hot = np.minimum(context, r.kv_hot_tokens)
    read = hot + (context - hot) / r.kv_reread_every
    pairs = m.full_layers * np.minimum(read, m.sparse_topk)
    pairs = pairs + m.sliding_layers * np.minimum(context, m.window)
    shared = tokens * (m.passed_params + m.head_params) / layout.tp
    return Work(
        weight_bytes=step_weight_bytes(r, layout, tokens, skew, least),
        kv_bytes=own * kv_bytes_read(r, hot) * kv_share(r, layout),
        linear_flops=2.0 * (shared + own * drafts * m.attention_params / layout.attention_tp),
        attention_flops=2.0 * own * drafts * pairs * m.n_heads * m.decode_width / layout.attention_tp,
    )


def causal_pairs(tokens: FloatArray, cached: FloatArray, limit: FloatArray) -> FloatArray:
    """Return the query-key pairs of one layer [-]: `tokens` queries that see `limit` keys at most.

    `cached` keys lie before the first query.

    >>> causal_pairs(np.array([1000.0, 1000.0]), np.array([0.0, 0.0]), np.array([1e12, 200.0])).tolist()
    [500000.0, 180000.0]
    """
    growing = np.clip(limit - cached, 0.0, tokens)
    return growing * (cached + growing / 2.0) + (tokens - growing) * limit


def prefill_work(
    r: Requests,
    layout: Layout,
    tokens: FloatArray,
    cached: FloatArray,
    prompts: FloatArray,
    skew: FloatArray | float = 0.0,
    least: BoolArray | bool = False,
) -> Work:
    """Return the work of prefilling `prompts` prompts per replica of `tokens` tokens after `cached` ones.

    Weights are read once for all; attention is causal. A prompt runs on one attention-parallel group, the
    prompts spread over the groups; the feed-forward layers are spread over the whole replica.
    """
    m = r.model
    own = np.maximum(prompts / layout.dp, 1.0)
    pairs = m.full_layers * causal_pairs(tokens, cached, m.sparse_topk)
    pairs = pairs + m.sliding_layers * causal_pairs(tokens, cached, m.window)
    shared = prompts * m.passed_params / layout.tp
    linear = 2.0 * tokens * (shared + own * m.attention_params / layout.attention_tp)
    return Work(
        weight_bytes=step_weight_bytes(r, layout, tokens * prompts, skew, least),
        kv_bytes=own * kv_bytes_stored(r, cached + tokens) * kv_share(r, layout),
        linear_flops=linear + 2.0 * prompts * m.head_params / layout.tp,
        attention_flops=own * 2.0 * pairs * m.n_heads * m.score_width / layout.attention_tp,
    )


def peak_flops(r: Requests, precision: IntArray) -> FloatArray:
    """Return the dense peak [FLOP/s] of each request's GPU for weights stored in `precision` (codes)."""
    return np.stack([r.gpu.columns[f"peak_{p}"] for p in PRECISIONS], axis=1)[r.gpu.codes, precision]
