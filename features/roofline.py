"""Step times: the work of `work.py` over the rates of the hardware, term by term.

    decode step = max(weights, compute) + KV + communication + launch        [s]
    prefill     = max(compute, weights) + attention + communication + launch [s]

`Rates` says what share of each datasheet rate is reached and what each step costs besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..data import catalogue
from ..data.vocabulary import PRECISIONS
from .coefficients import Rates
from .collectives import Fabric, all_gather_s, all_reduce_s, all_to_all_s, domain_of, fabric_index, tables
from .facts import BOX, Arrays, FloatArray, IntArray
from .memory import MemoryFit, memory_fit, most_at_once, streamed_bytes, streamed_weight_bytes
from .request import Requests
from .work import Layout, Work, decode_layout, peak_flops, prefill_layout, prefill_work, step_work

_BF16 = PRECISIONS.index("bf16")
_FP8 = PRECISIONS.index("fp8")
FloatArrays = tuple[FloatArray, ...]
# Seconds per layer of a step whose kernels are launched one by one, however little they do: 20.6 ms for the
# 40 layers of Qwen3-14B (A100, one stream: vllm-project/vllm issue 20469), 22 ms for the 28 layers of
# Qwen2.5-Omni-7B (A800: vllm-project/vllm-omni issue 7960).
EAGER_LAYER_S = 0.55e-3


@dataclass(frozen=True, kw_only=True)
class StepTime(Arrays):
    """Seconds of one step by term, shape (n,); of a prefill pass, `each` is what one more prompt adds."""

    weights: FloatArray
    kv: FloatArray
    compute: FloatArray
    communication: FloatArray
    launch: FloatArray
    host: FloatArray
    total: FloatArray
    each: FloatArray


@dataclass(frozen=True, kw_only=True)
class System(Arrays):
    """n requests on their hardware: at what rates, over which fabric, in how much memory."""

    r: Requests
    rates: Rates
    fabric: Fabric
    fit: MemoryFit

    @property
    def decode(self) -> Layout:
        """The layout of the GPUs that decode."""
        return decode_layout(self.r)

    @property
    def prefill(self) -> Layout:
        """The layout of the GPUs that prefill."""
        return prefill_layout(self.r)

    @property
    def context(self) -> FloatArray:
        """Mean context [tokens] of a sequence that is being decoded, shape (n,)."""
        return self.r.isl + self.r.osl / 2.0

    @property
    def most(self) -> FloatArray:
        """Sequences that memory and the engine hold at once per replica, shape (n,)."""
        return most_at_once(self.r, self.fit)


def system(r: Requests, rates: Rates, *, overcommit: bool = False) -> System:
    """Return requests on their hardware, at these rates; overcommit: as in `memory_fit`."""
    return System(r=r, rates=rates, fabric=fabric_of(r, rates), fit=memory_fit(r, overcommit=overcommit))


def fabric_of(r: Requests, rates: Rates) -> Fabric:
    """Return the fabric that each request's GPUs talk over, scaled by the calibrated shares."""
    code = _fabric_codes()[(r.domain > BOX).astype(np.int64), r.gpu.codes]
    return Fabric(
        code=code,
        link_bandwidth=np.maximum(r.gpu.link_bandwidth, r.gpu.pcie_bandwidth),
        domain=domain_of(code, r.domain),
        nic_bandwidth=r.nic_bandwidth,
        nic_alpha_s=np.full(len(r), tables().hop_s),
        alpha_scale=np.maximum(rates.collective_latency, 1e-9),
        efficiency_scale=rates.collective_bandwidth,
    )


@cache
def _fabric_codes() -> IntArray:
    """Return each GPU's row of the collectives' table, shape (2, GPUs): within a box, in a rack."""
    links = [spec.link or "pcie4" for spec in catalogue.gpus().values()]
    return np.stack([fabric_index(links, domain, "engine") for domain in (BOX, 9.0 * BOX)])


def communication_s(s: System, layout: Layout, tokens: FloatArray) -> FloatArray:
    """Return the seconds of all layers' collectives for `tokens` tokens per replica.

    Two all-reduces of tokens x d_model x 2 bytes per layer (16 KB each for d_model 8192 and one token).
    With attention data parallelism the tokens are gathered before and scattered after the experts; with
    expert parallelism, top-k copies of each token travel there and back.
    """
    r, rates, fabric, m = s.r, s.rates, s.fabric, s.r.model
    message = tokens * m.d_model * 2.0
    own = message / layout.dp
    ideal = _ideal_communication(r, layout, message)
    if rates.perfect_overlap.all():
        return ideal
    attention = all_reduce_s(own, layout.attention_tp, fabric)
    feed_forward = attention  # without data parallelism: the same message over the same group
    shared = layout.dp > 1
    if shared.any():
        group = np.where(shared, layout.tp, 1.0)
        gather = 2.0 * all_gather_s(message, group, fabric)
        copies = np.minimum(np.maximum(m.experts_per_token, 1.0), layout.ep)
        scatter = 2.0 * all_to_all_s(own * copies / layout.attention_tp, group, fabric)
        spread = np.where((layout.ep > 1) & (m.is_moe > 0), np.minimum(gather, scatter), gather)
        feed_forward = np.where(shared, spread, attention)
    stages = np.where(layout.pp > 1, (layout.pp - 1.0) * (own / r.gpu.pcie_bandwidth + 10e-6), 0.0)
    return np.where(rates.perfect_overlap, ideal, m.n_layers * (attention + feed_forward) + stages)


def _ideal_communication(r: Requests, layout: Layout, message: FloatArray) -> FloatArray:
    """Return the least seconds of the collectives: a GPU's share once over its full links, as with SHARP."""
    link = np.maximum(r.gpu.link_bandwidth, r.gpu.pcie_bandwidth)
    shared = np.where(layout.tp > 1, message, 0.0) * np.where(layout.dp > 1, 1.0 / layout.tp, 1.0)
    attention = np.where(layout.attention_tp > 1, message / layout.dp, 0.0)
    least: FloatArray = r.model.n_layers * (attention + shared) / link
    return least


def _rooflines(s: System, work: Work, layout: Layout) -> FloatArrays:
    """Return seconds of weight reads, matrix products, KV reads and attention products."""
    r, rates = s.r, s.rates
    imbalance = np.where((layout.ep > 1) & (r.model.is_moe > 0), rates.expert_imbalance, 1.0)
    weights = work.weight_bytes * imbalance / (r.gpu.bandwidth * rates.weight_bandwidth)
    compute = work.linear_flops * imbalance / (peak_flops(r, r.weight_precision) * rates.compute)
    kv = work.kv_bytes / (r.gpu.bandwidth * rates.kv_bandwidth)
    precision = np.where(r.kv_precision == _FP8, np.where(r.gpu.units_fp8 > 0, _FP8, _BF16), _BF16)
    attention = work.attention_flops / (peak_flops(r, precision) * rates.attention_compute)
    return weights, compute, kv, attention


def _step(
    s: System, rooflines: FloatArrays, communication: FloatArray, launch: FloatArray, streamed: FloatArray
) -> StepTime:
    """Return a step of these seconds and `streamed` bytes [B] from the host, all in turn or overlapped."""
    weights, compute, kv, attention = rooflines
    linear, cache = np.maximum(weights, compute), np.maximum(kv, attention)
    host = streamed / np.maximum(s.r.host_bandwidth * s.rates.host_bandwidth, 1.0)
    launched = s.r.settings.eager & ~s.rates.perfect_overlap
    if launched.any():  # the processor launches while the GPU works, and is the slower one of small steps
        busy = linear + cache + communication + launch
        launch = launch + np.where(launched, np.maximum(s.r.model.n_layers * EAGER_LAYER_S - busy, 0.0), 0.0)
    overlapped = np.maximum(np.maximum(weights + kv, compute + attention), np.maximum(communication, host))
    total = np.where(s.rates.perfect_overlap, overlapped, linear + cache + communication + launch + host)
    return StepTime(
        weights=np.where(weights >= compute, linear, 0.0),
        compute=np.where(weights >= compute, 0.0, linear) + np.maximum(attention - kv, 0.0),
        kv=np.minimum(kv, cache), communication=communication, launch=launch, host=host,
        total=total, each=total,
    )  # fmt: skip


def decode_step(s: System, batch: FloatArray, context: FloatArray) -> StepTime:
    """Return the time of one decode step with `batch` sequences per replica at mean context [tokens].

    Under pipeline parallelism batch / pp sequences pass each stage together. Draft tokens of speculative
    decoding are verified in the same step; the caller divides by the accepted length.
    """
    r, rates, layout = s.r, s.rates, s.decode
    sequences = np.maximum(batch / layout.pp, 1.0)
    tokens = sequences * (1.0 + rates.drafted)
    work = step_work(r, layout, tokens, sequences, context, rates.expert_skew, rates.perfect_overlap)
    launch = r.model.n_layers * rates.layer_s + rates.step_s + rates.sequence_s * sequences
    streamed = streamed_bytes(r, layout, tokens, sequences, context, rates.expert_skew)
    return _step(s, _rooflines(s, work, layout), communication_s(s, layout, tokens), launch, streamed)


def prefill_time(s: System, tokens: FloatArray, prompts: FloatArray | float = 1.0) -> StepTime:
    """Return the time to prefill `prompts` prompts of `tokens` new tokens together on one replica.

    What is cached of each prompt (r.isl - tokens) is attended to but not computed again. What one more prompt
    adds leaves out the time in which, alone on one attention group of `dp`, a prompt keeps the others
    waiting.
    """
    r, rates, layout = s.r, s.rates, s.prefill
    together = np.maximum(prompts / layout.dp, 1.0) * layout.dp
    prompts = np.asarray(prompts, dtype=np.float64)
    cached, least = np.maximum(r.isl - tokens, 0.0), rates.perfect_overlap
    work = prefill_work(r, layout, tokens, cached, prompts, rates.expert_skew, least)
    weights, compute, kv, attention = _rooflines(s, work, layout)
    communication = communication_s(s, layout, tokens * together) * (prompts / together)
    launch = r.model.n_layers * rates.layer_s + rates.step_s
    streamed = streamed_weight_bytes(r, layout, tokens * prompts, rates.expert_skew)
    step = _step(s, (weights, compute, np.zeros_like(kv), attention), communication, launch, streamed)
    moved = _ideal_communication(r, layout, tokens * r.model.d_model * 2.0) / rates.collective_bandwidth
    idle = 2.0 * tokens * r.model.attention_params / layout.attention_tp * (1.0 - 1.0 / layout.dp)
    share = (1.0 - idle / np.maximum(work.linear_flops, 1.0)) / layout.pp
    each = share * compute + (attention / layout.dp + np.minimum(2.0 * moved, communication)) / layout.pp
    return replace(step, each=np.minimum(each, step.total))
