"""Attention and experts of published models: each figure is worked by hand in the test's docstring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.features.request import Requests, normalise
from roofcast.features.work import (
    Layout,
    causal_pairs,
    distinct_experts,
    kv_bytes_read,
    kv_bytes_stored,
    prefill_work,
    step_weight_bytes,
    step_work,
    stored_weight_bytes,
)

ONE = np.ones(1)
ALONE = Layout(tp=ONE, ep=ONE, dp=ONE, pp=ONE)


def ask(model: str, **columns: Any) -> Requests:
    given = {"model": model, "gpu": "b200", "tp": 1, "weight_precision": "bf16", "kv_precision": "bf16"}
    r = normalise({name: [value] for name, value in (given | columns).items()})
    assert r.valid[0], r.reason[0]
    return r


def stored(r: Requests, tokens: float) -> float:
    return float(kv_bytes_stored(r, tokens * ONE)[0])


def test_a_latent_cache_is_57_times_smaller_than_the_heads_it_stands_for() -> None:
    """DeepSeek-R1: 512 + 64 values instead of 128 heads x (128 + 128) = 32,768; 61 layers, 16 bits.

    61 x 576 x 2 B = 70,272 B per token; 128k tokens (131,072): 9.21 GB.
    """
    assert stored(ask("deepseek-r1"), 131_072) == 131_072 * 70_272
    assert pytest.approx(56.9, abs=0.05) == 128 * (128 + 128) / 576


def test_latent_attention_is_unfolded_in_prefill_and_absorbed_in_decode() -> None:
    """DeepSeek-R1, 1,000 tokens. Prefill: 61 x 500,000 pairs x 128 heads x 2 x (128 + 64 + 128) = 2.5 TFLOP.

    Decode: 61 x 1,000 x 128 x 2 x (2 x 512 + 64) = 17.0 GFLOP per token, 3.4 times the 320-wide 5.0.
    """
    r = ask("deepseek-r1")
    prompt = prefill_work(r, ALONE, 1000 * ONE, 0 * ONE, ONE).attention_flops[0]
    token = step_work(r, ALONE, ONE, ONE, 1000 * ONE).attention_flops[0]
    assert prompt == 61 * 500_000 * 128 * 2 * 320
    assert token == 61 * 1000 * 128 * 2 * 1088
    assert token / (61 * 1000 * 128 * 2 * 320) == 3.4


def test_a_long_context_costs_gemma_a_sixth_of_what_full_attention_would() -> None:
    """Gemma 3 27B: 62 layers of 2 x 16 x 128 values; 52 keep 1,024 tokens, 10 keep all 131,072.

    (10 x 131,072 + 52 x 1,024) x 8,192 B = 11.17 GB; 62 x 131,072 x 8,192 B = 66.6 GB in full.
    """
    kept = stored(ask("gemma-3-27b"), 131_072)
    assert kept == (10 * 131_072 + 52 * 1024) * 8192
    assert 62 * 131_072 * 8192 / kept == pytest.approx(5.96, abs=0.01)


def test_queries_of_a_sliding_layer_see_their_window_only() -> None:
    """gpt-oss-120b, 8,192 tokens: 18 layers x 8,192^2 / 2, 18 x (128^2 / 2 + 8,064 x 128): 1 in 32.

    18 x (33,554,432 + 1,040,384) pairs x 64 heads x 2 x 128 = 10.2 TFLOP.
    """
    r = ask("gpt-oss-120b")
    work = prefill_work(r, ALONE, 8192 * ONE, 0 * ONE, ONE)
    assert work.attention_flops[0] == 18 * (33_554_432 + 1_040_384) * 64 * 2 * 128
    assert causal_pairs(8192 * ONE, 0 * ONE, 128 * ONE)[0] == 1_040_384


def test_linear_layers_make_a_long_context_cheap_and_a_short_one_dear() -> None:
    """Qwen3.5-397B: 15 full layers of 2 x 2 x 256 values; 45 states of 1,085,440 FP32 values: 195.4 MB.

    256k tokens: 15 x 262,144 x 2,048 B = 8.05 GB + 0.2; as 60 full layers 32.2 GB. 1,000 tokens: 226 MB
    instead of 123. A prompt's attention is that of 15 layers: its linear layers have no pairs.
    """
    r, state = ask("qwen3.5-397b-a17b"), 45 * 1_085_440 * 4
    full = 2 * 2 * 256 * 2
    assert stored(r, 262_144) == 15 * 262_144 * full + state
    assert stored(r, 1000) == pytest.approx(226e6, rel=0.01)
    assert 60 * 1000 * full == 122_880_000
    pairs = prefill_work(r, ALONE, 1000 * ONE, 0 * ONE, ONE).attention_flops[0]
    assert pairs == 15 * 500_000 * 32 * 2 * 512


@pytest.mark.parametrize(
    ("precision", "per_token"),
    [("bf16", 327_680), ("fp8", 163_840), ("int8", 163_840), ("fp4", 92_160), ("int4", 92_160)],
)
def test_the_cache_takes_the_bytes_of_its_precision(precision: str, per_token: float) -> None:
    """Qwen2.5-72B: 80 layers x 2 x 8 heads x 128 = 163,840 values; 4 bits with an 8-bit scale per 16."""
    r = ask("qwen2.5-72b", kv_precision=precision)
    assert stored(r, 1) == per_token
    assert kv_bytes_read(r, ONE)[0] == per_token


@pytest.mark.parametrize("skew", [0.0, 0.2, 0.3])
def test_two_tokens_meet_on_popular_experts(skew: float) -> None:
    """8 of 256. Two tokens touch 16 less the shared ones, the sum of p^2 over the ranking.

    p(u) = 8/256 (1 - s) u^-s: 256 x (1/32)^2 x (1 - s)^2 / (1 - 2s) = 0.25 x 1.0 at s = 0 (15.75 left),
    x 1.0667 at 0.2 (15.733), x 1.225 at 0.3 (15.694).
    """
    shared = 0.25 * (1 - skew) ** 2 / (1 - 2 * skew)
    assert distinct_experts(256 * ONE, 8 * ONE, 2 * ONE, skew)[0] == pytest.approx(16 - shared, abs=0.02)


@pytest.mark.parametrize(("experts", "chosen", "skew"), [(256, 8, 0.3), (256, 8, 0.5), (8, 2, 0.3)])
def test_one_token_touches_its_own_experts_however_skewed(experts: int, chosen: int, skew: float) -> None:
    """8 of 256 and 2 of 8: popularity moves which ones, not how many."""
    assert distinct_experts(experts * ONE, chosen * ONE, ONE, skew)[0] == pytest.approx(chosen, rel=0.02)


def test_dense_and_shared_layers_are_read_whole_by_every_token() -> None:
    """DeepSeek-R1 as published, 8 bits, 7,168 wide. One token reads 35.70e9 parameters and the 16-bit head:

    3 dense layers 3 x 3 x 7,168 x 18,432 = 1.189e9; shared 58 x 3 x 7,168 x 2,048 = 2.554e9; routed
    58 x 8 x 44.04e6 = 20.435e9; attention the rest of 671.0e9, 11.52e9; head 129,280 x 7,168 = 0.927e9.
    Together the 37.55e9 active ones less an embedding table as large as the head.
    """
    r, matrix = ask("deepseek-r1"), 3 * 7168
    dense, shared, routed = 3 * matrix * 18_432, 58 * matrix * 2048, 58 * 8 * matrix * 2048
    assert r.model.dense_params[0] == pytest.approx(dense, rel=1e-9)
    assert r.model.shared_params[0] == shared
    attention = 671.025e9 - 1.853e9 - dense - 257 * shared
    body, head = dense + shared + routed + attention, 129_280 * 7168
    assert step_weight_bytes(r, ALONE, ONE)[0] == pytest.approx(body + 2 * head, rel=1e-6)
    assert body + head == pytest.approx(37.551e9 - head, rel=0.001)


def test_a_large_batch_reads_all_experts_and_stores_no_fewer() -> None:
    """DeepSeek-R1 in FP8, 4,096 tokens: 1 - (31/32)^4096 = 1 of 653.9e9 routed parameters.

    All but the embedding table, 671.0e9 - 0.93e9 of 1 B, the head in 2 B: 671.0 GB read, 672.9 GB stored.
    """
    r = ask("deepseek-r1", weight_precision="fp8")
    assert step_weight_bytes(r, ALONE, 4096 * ONE)[0] / 1e9 == pytest.approx(671.0, abs=0.1)
    assert stored_weight_bytes(r, ALONE)[0] / 1e9 == pytest.approx(672.9, abs=0.1)
