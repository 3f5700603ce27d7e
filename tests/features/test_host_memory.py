"""Host memory as a second tier: bytes, rates and policies against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofcast.features.baseline import Estimate, baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.memory import (
    HOST_USABLE_SHARE,
    memory_fit,
    missed_experts,
    prefix_load_s,
    uses_host,
)
from roofcast.features.request import Requests, normalise
from roofcast.features.work import distinct_experts

KV_BYTES = 2 * 8 * 128 * 80  # per token of Qwen2.5-72B, FP8
LONG: dict[str, Any] = {
    "model": "qwen2.5-72b", "platform": "gb200-superchip", "tp": 2, "weight_precision": "fp4",
    "kv_precision": "fp8", "engine": "vllm", "mode": "closed-loop", "concurrency": 16, "isl": 127_000,
    "osl": 1000,
}  # fmt: skip


def ask(**columns: Any) -> Requests:
    return normalise({name: [value] for name, value in (LONG | columns).items()})


def solve(**columns: Any) -> Estimate:
    r = ask(**columns)
    assert r.valid[0], r.reason[0]
    return baseline(r, Coefficients())


def test_the_superchip_shares_one_grace_between_two_gpus() -> None:
    r = ask()
    assert r.host_bytes[0] == 240e9
    assert r.host_bandwidth[0] == 389e9 / 2


def test_a_pcie_host_is_reached_at_the_cards_rate() -> None:
    assert ask(platform="hgx-h100", tp=8).host_bandwidth[0] == pytest.approx(64e9, rel=0.05)


def test_sixteen_users_of_128k_tokens_fit_only_with_a_warm_tier() -> None:
    """336 GB of KV cache in 2 x 0.95 x 186 GB less 45 GB of weights: 14 users; 42 GB hot, 295 GB cold fit."""
    assert memory_fit(ask()).max_batch[0] < 16
    fit = memory_fit(ask(kv_hot_tokens=16_000))
    assert fit.max_batch[0] >= 16
    assert fit.needed_host_bytes[0] * 2 == pytest.approx(112_000 * KV_BYTES, rel=1e-6)
    assert fit.available_host_bytes[0] == 240e9 * HOST_USABLE_SHARE


@pytest.mark.parametrize(("every", "milliseconds"), [(1, 749.0), (16, 46.8), (0, 0.0)])
def test_cold_tokens_cost_their_read_over_the_host_link(every: int, milliseconds: float) -> None:
    """16 x 111.5k x 164 KB = 292 GB over 389 GB/s: 750 ms every step, 47 ms at one in 16, 0 for never."""
    low = floor(ask(kv_hot_tokens=16_000, kv_reread_every=every))
    assert low.terms["host"][0] * 1e3 == pytest.approx(milliseconds, rel=0.01)


def test_the_quoted_rate_of_900_gb_s_can_be_asked_for() -> None:
    """295 GB over 900 GB/s: 325 ms."""
    low = floor(ask(kv_hot_tokens=16_000, kv_reread_every=1, host_bandwidth_gb_s=450))
    assert low.terms["host"][0] * 1e3 == pytest.approx(325.0, rel=0.01)


def test_a_spilled_cache_is_never_faster_than_one_that_fits() -> None:
    fits, spilled = solve(concurrency=4), solve(concurrency=4, kv_hot_tokens=16_000)
    assert spilled.tpot_s[0] > fits.tpot_s[0]
    assert spilled.output_tok_s[0] < fits.output_tok_s[0]


def test_a_host_as_fast_as_hbm_would_cost_what_hbm_costs() -> None:
    r = ask(kv_hot_tokens=16_000, kv_reread_every=1)
    same = replace(r, host_bandwidth=r.gpu.bandwidth)
    assert floor(same).tpot_s[0] <= floor(ask(concurrency=16, kv_hot_tokens=200_000)).tpot_s[0] * 1.001


def test_the_host_can_be_what_limits_the_batch() -> None:
    fit = memory_fit(ask(kv_hot_tokens=1000, host_memory_gb=50))
    assert fit.host_limits[0]
    assert fit.max_batch[0] == np.floor(50e9 * HOST_USABLE_SHARE / (126_500 * KV_BYTES / 2))


def test_experts_in_the_host_leave_room_in_hbm() -> None:
    """Half of DeepSeek-R1's 654e9 routed parameters at 0.5625 B: 184 GB off the GPUs."""
    whole = ask(model="deepseek-r1", isl=1000)
    half = ask(model="deepseek-r1", isl=1000, experts_resident_frac=0.5)
    moved = memory_fit(whole).weight_bytes - memory_fit(half).weight_bytes
    assert moved[0] * 2 / 1e9 == pytest.approx(0.5 * 654e9 * 0.5625 / 1e9, rel=0.01)
    assert memory_fit(half).needed_host_bytes[0] == moved[0]


def test_missed_experts_are_the_touched_ones_among_the_rest() -> None:
    """256 experts, 8 per token, 16 tokens: 1 - (31/32)^16 = 0.398 of the 64 that are not resident."""
    r = ask(model="deepseek-r1", isl=1000, experts_resident_frac=0.75)
    assert missed_experts(r, np.array([16.0]))[0] == pytest.approx(64 * (1 - (31 / 32) ** 16), rel=1e-9)


def test_skewed_routing_misses_fewer_of_the_unpopular_experts() -> None:
    r = ask(model="deepseek-r1", isl=1000, experts_resident_frac=0.75)
    even, skewed = (missed_experts(r, np.array([16.0]), skew)[0] for skew in (0.0, 0.6))
    assert skewed < even


def test_skew_is_the_sum_over_a_zipf_ranking() -> None:
    """256 experts by rank, chosen as rank^-0.5: the sum of 1 - (1 - p)^tokens, expert by expert."""
    ranks = (np.arange(256) + 0.5) ** -0.5
    chance = ranks / ranks.sum() * 8
    for tokens in (4, 32, 256):
        exact = float((1 - (1 - chance) ** tokens).sum())
        found = distinct_experts(np.array([256.0]), np.array([8.0]), np.array([float(tokens)]), 0.5)[0]
        assert found == pytest.approx(exact, rel=0.02)


def test_a_prefix_is_loaded_or_computed_whichever_is_sooner() -> None:
    question: dict[str, Any] = {"concurrency": 1, "isl": 32_000, "prefix_cached_frac": 0.9}
    whole = solve(**question | {"prefix_cached_frac": 0.0})
    hit = solve(**question, prefix_tier="host")
    slow = solve(**question, prefix_tier="host", host_bandwidth_gb_s=0.001)
    assert hit.ttft_s[0] < 0.5 * whole.ttft_s[0]
    assert slow.ttft_s[0] == pytest.approx(whole.ttft_s[0], rel=1e-9)


def test_loading_a_prefix_takes_its_bytes_over_the_link() -> None:
    """0.5 x 32,000 tokens x 164 KB = 2.6 GB, half on each GPU, at 194.5 GB/s each: 6.7 ms."""
    r = ask(isl=32_000, prefix_cached_frac=0.5, prefix_tier="host")
    assert prefix_load_s(r)[0] * 1e3 == pytest.approx(6.74, rel=0.01)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"kv_hot_tokens": -1}, "kv_hot_tokens = -1"),
        ({"kv_hot_tokens": 1000, "kv_reread_every": 1.5}, "a whole number"),
        ({"kv_reread_every": 4}, "kv_hot_tokens"),
        ({"experts_resident_frac": 0.5}, "no experts"),
        ({"experts_resident_frac": 1.5, "model": "deepseek-r1"}, "from 0 to 1"),
        ({"prefix_tier": "disk"}, "one of hbm, host"),
        ({"host_bandwidth_gb_s": 0}, "above 0"),
    ],
)
def test_an_impossible_tier_says_why(columns: dict[str, Any], words: str) -> None:
    r = ask(**columns)
    assert not r.valid[0]
    assert words in r.reason[0]


def test_a_request_without_tier_columns_uses_no_host() -> None:
    assert not uses_host(ask())[0]
    assert uses_host(ask(kv_hot_tokens=1000))[0]
    assert not uses_host(ask(prefix_tier="host"))[0]
    assert uses_host(ask(prefix_tier="host", prefix_cached_frac=0.5))[0]
