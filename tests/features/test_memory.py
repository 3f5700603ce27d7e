"""What fits into HBM and into host memory behind it, and what the host costs, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from roofcast.features import memory, settings
from roofcast.features.baseline import floor

from . import questions
from .questions import one


def fit(model: str, gpu: str, tp: int, **columns: Any) -> memory.MemoryFit:
    given = {"num_gpus": tp, "weight_precision": "bf16", "kv_precision": "bf16", "isl": 2048, "osl": 512}
    return memory.memory_fit(questions.ask(model=model, gpu=gpu, tp=tp, **(given | columns)))


def pools(gpus: int) -> dict[str, int]:
    return {"disagg": 1, "decode_gpus": 8, "decode_tp": 8, "prefill_gpus": gpus, "prefill_tp": gpus}


@pytest.mark.parametrize(("model", "gpu", "tp", "columns", "fits"), [
    ("llama-3.1-405b", "h100-sxm", 8, {}, False),  # 812 GB of weights, 8 x 78 usable
    ("llama-3.1-405b", "h200-sxm", 8, {}, True),  # 8 x 140
    ("llama-3.1-405b", "h100-sxm", 8, {"weight_precision": "fp8"}, True),
    ("llama-3.1-405b", "h100-sxm", 16, {}, True), ("qwen2.5-72b", "h100-sxm", 1, {}, False),  # 145 GB
    ("qwen2.5-72b", "b200-sxm", 1, {}, True),
    ("deepseek-r1", "h100-sxm", 8, {"weight_precision": "fp8"}, False),  # 673 GB
    ("gpt-oss-120b", "h100-sxm", 1, {"weight_precision": "fp4"}, True),  # 69 GB
    # Both pools of a disaggregated deployment must hold the weights.
    *(("deepseek-r1", "h200-sxm", 8, {"weight_precision": "fp8", **pools(n)}, n == 8) for n in (8, 4)),
])  # fmt: skip
def test_which_models_fit_where(model: str, gpu: str, tp: int, columns: Any, fits: bool) -> None:
    assert fit(model, gpu, tp, **columns).fits[0] == fits


def test_the_largest_batch_is_the_room_beside_the_weights() -> None:
    found = fit("qwen2.5-72b", "h100-sxm", 2)
    weights, sequence = 2 * 72.705e9 / 2, 2560 * 327_680 / 2
    available = 85.5e9 * settings.USABLE_SHARE - memory.WORKSPACE_BYTES
    assert found.weight_bytes[0] == pytest.approx(weights, rel=1e-6)
    assert found.sequence_bytes[0] == sequence
    assert found.available_bytes[0] == pytest.approx(available, rel=1e-3)
    held = (2048 + 256) * 327_680 / 2  # on average half of the answer is there
    assert found.max_batch[0] == (available - weights) // held == 14
    whole = fit("qwen2.5-72b", "h100-sxm", 2, engine="trtllm")
    assert whole.max_batch[0] == (available - weights) // sequence == 13


@pytest.mark.parametrize(("asked", "changes", "weights", "cache"), [
    (("qwen2.5-72b", "h100-sxm", 4), {"tp": 8}, 1 / 2, 1 / 2),
    (("qwen2.5-72b", "h100-sxm", 8), {"tp": 16}, 1 / 2, 1),  # beyond the 8 KV heads
    (("qwen2.5-72b", "b200-sxm", 8), {"kv_precision": "fp8"}, 1, 1 / 2),
    (("llama-3.1-405b", "h200-sxm", 8), {"pp": 2, "num_gpus": 16}, 1 / 2, 1 / 2),
])  # fmt: skip
def test_degrees_and_precisions_share_memory(asked: Any, changes: Any, weights: float, cache: float) -> None:
    before, after = fit(*asked), fit(*asked[:2], **({"tp": asked[2]} | changes))
    assert after.weight_bytes[0] == weights * before.weight_bytes[0]
    assert after.sequence_bytes[0] == cache * before.sequence_bytes[0]


def test_attention_data_parallelism_gives_an_mla_model_room_and_a_sequence_lies_on_one_group() -> None:
    """23 GB of KV, 8 x 7.7 GB beside the weights: enough in sum, too little on each GPU."""
    together, apart = (fit("deepseek-r1", "h200-sxm", 8, weight_precision="fp8", dp=dp) for dp in (1, 8))
    assert apart.weight_bytes[0] > together.weight_bytes[0]
    assert apart.max_batch[0] > 6 * together.max_batch[0]
    assert apart.max_batch[0] % 8 == 0
    found = fit("qwen3-235b-a22b", "h100-sxm", 8, dp=8, isl=120_000, osl=1000)
    room = found.available_bytes[0] - found.weight_bytes[0]
    assert room < found.sequence_bytes[0] < 8 * room
    assert not found.fits[0]


# ---- host memory as a second tier

KV_BYTES = 2 * 8 * 128 * 80  # per token of Qwen2.5-72B, FP8
LONG: dict[str, Any] = {
    "model": "qwen2.5-72b", "platform": "gb200-superchip", "tp": 2, "weight_precision": "fp4",
    "kv_precision": "fp8", "engine": "vllm", "mode": "closed-loop", "concurrency": 16, "isl": 127_000,
    "osl": 1000,
}  # fmt: skip
ask, solve = partial(questions.ask, **LONG), partial(questions.solve, **LONG)


def test_the_host_is_shared_by_its_gpus_and_a_pcie_one_reached_at_the_cards_rate() -> None:
    assert (ask().host_bytes[0], ask().host_bandwidth[0]) == (240e9, 389e9 / 2)
    assert ask(platform="hgx-h100", tp=8).host_bandwidth[0] == pytest.approx(64e9, rel=0.05)


def test_sixteen_users_of_128k_tokens_fit_only_with_a_warm_tier_until_the_host_limits_them() -> None:
    """336 GB of KV cache in 2 x 0.95 x 186 GB less 45 GB of weights: 14 users; 42 GB hot, 295 GB cold fit."""
    assert memory.memory_fit(ask()).max_batch[0] < 16
    found = memory.memory_fit(ask(kv_hot_tokens=16_000))
    assert found.max_batch[0] >= 16
    assert found.needed_host_bytes[0] * 2 == pytest.approx(112_000 * KV_BYTES, rel=1e-6)
    assert found.available_host_bytes[0] == 240e9 * memory.HOST_USABLE_SHARE
    small = memory.memory_fit(ask(kv_hot_tokens=1000, host_memory_gb=50))
    assert small.host_limits[0]
    assert small.max_batch[0] == np.floor(50e9 * memory.HOST_USABLE_SHARE / (126_500 * KV_BYTES / 2))


@pytest.mark.parametrize(("every", "rate", "milliseconds"), [
    (1, None, 749.0), (16, None, 46.8), (0, None, 0.0),
    (1, 450, 325.0),  # 900 GB/s for both is often quoted
])  # fmt: skip
def test_cold_tokens_cost_their_read_over_the_link(every: int, rate: Any, milliseconds: float) -> None:
    """16 x 111.5k x 164 KB = 292 GB over 389 GB/s: 750 ms every step, 47 ms at one in 16, 0 for never."""
    low = floor(ask(kv_hot_tokens=16_000, kv_reread_every=every, host_bandwidth_gb_s=rate))
    assert low.terms["host"][0] * 1e3 == pytest.approx(milliseconds, rel=0.01)


def test_a_spilled_cache_is_never_faster_than_one_that_fits_nor_slower_on_a_host_as_fast_as_hbm() -> None:
    fits, spilled = solve(concurrency=4), solve(concurrency=4, kv_hot_tokens=16_000)
    assert spilled.tpot_s[0] > fits.tpot_s[0]
    assert spilled.output_tok_s[0] < fits.output_tok_s[0]
    r = ask(kv_hot_tokens=16_000, kv_reread_every=1)
    same = replace(r, host_bandwidth=r.gpu.bandwidth)
    assert floor(same).tpot_s[0] <= floor(ask(kv_hot_tokens=200_000)).tpot_s[0] * 1.001


def test_experts_in_the_host_leave_room_in_hbm_and_are_missed() -> None:
    """Half of DeepSeek-R1's 654e9 routed parameters at 0.5625 B: 184 GB off the GPUs.

    256 experts, 8 per token, 16 tokens: 1 - (31/32)^16 = 0.398 of the 64 that are not resident; skewed
    routing misses fewer of the unpopular ones.
    """
    whole, half, most = (ask(model="deepseek-r1", isl=1000, experts_resident_frac=x) for x in (1, 0.5, 0.75))
    moved = memory.memory_fit(whole).weight_bytes - memory.memory_fit(half).weight_bytes
    assert moved[0] * 2 / 1e9 == pytest.approx(0.5 * 654e9 * 0.5625 / 1e9, rel=0.01)
    assert memory.memory_fit(half).needed_host_bytes[0] == moved[0]
    even, skewed = (memory.missed_experts(most, one(16), *skew)[0] for skew in ((), (0.6,)))
    assert even == pytest.approx(64 * (1 - (31 / 32) ** 16), rel=1e-9)
    assert skewed < even


def test_a_prefix_is_loaded_or_computed_whichever_is_sooner() -> None:
    """Loading 0.5 x 32,000 tokens x 164 KB = 2.6 GB, half on each GPU, at 194.5 GB/s each: 6.7 ms."""
    half = ask(isl=32_000, prefix_cached_frac=0.5, prefix_tier="host")
    assert memory.prefix_load_s(half)[0] * 1e3 == pytest.approx(6.74, rel=0.01)
    long = partial(solve, concurrency=1, isl=32_000, prefix_cached_frac=0.9, prefix_tier="host")
    whole, hit, slow = (
        long(**change).ttft_s[0]
        for change in ({"prefix_cached_frac": 0.0}, {}, {"host_bandwidth_gb_s": 0.001})
    )
    assert hit < 0.5 * whole
    assert slow == pytest.approx(whole, rel=1e-9)
