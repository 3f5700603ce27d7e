"""FLOPs and bytes of published models: every figure is worked by hand beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.features.request import Requests
from roofcast.features.work import (
    Layout,
    attention_bytes_each,
    causal_pairs,
    decode_layout,
    distinct_experts,
    kv_bytes_read,
    kv_bytes_stored,
    kv_share,
    peak_flops,
    prefill_layout,
    prefill_work,
    step_weight_bytes,
    step_work,
    stored_weight_bytes,
    weight_bytes_each,
)

from . import questions
from .questions import one


def ask(model: str, **columns: Any) -> Requests:
    given = {"gpu": "b200", "tp": 1, "weight_precision": "bf16", "kv_precision": "bf16"}
    return questions.ask(model=model, **(given | columns))


def layout(tp: float = 1.0, dp: float = 1.0) -> Layout:
    return Layout(tp=one(tp), ep=one(1), dp=one(dp), pp=one(1))


def step(r: Requests, over: Layout | None = None, tokens: float = 1, sequences: float = 0) -> Any:
    return step_work(r, over or layout(), one(tokens), one(sequences or tokens), one(1000))


def prefill(r: Requests, tokens: float = 1000, prompts: float = 1) -> Any:
    return prefill_work(r, layout(), one(tokens), one(0), one(prompts))


# ---- the cache

GQA_72B = 80 * 2 * 8 * 128  # values per token of Qwen2.5-72B
LATENT = 61 * (512 + 64)  # of DeepSeek-R1: MLA keeps the latent and the rotary part, once
STATE = 45 * 1_085_440 * 4  # of Qwen3.5's linear layers, in FP32


@pytest.mark.parametrize(("model", "kv", "expected"), [
    ("qwen2.5-72b", "bf16", GQA_72B * 2), ("qwen2.5-72b", "fp8", GQA_72B),
    ("qwen2.5-72b", "int8", GQA_72B),
    ("qwen2.5-72b", "fp4", GQA_72B * 0.5625),  # an 8-bit scale per 16
    ("qwen2.5-72b", "int4", GQA_72B * 0.5625),
    ("llama-3.1-8b", "bf16", 32 * 2 * 8 * 128 * 2),  # 128 KiB
    ("llama-3.1-405b", "bf16", 126 * 2 * 8 * 128 * 2),
    ("deepseek-r1", "bf16", LATENT * 2),  # 57 times less than 128 heads x (128 + 128)
    ("deepseek-v3.2", "bf16", (LATENT + 61 * 128) * 2),  # and the indexer's key
    ("gpt-oss-120b", "bf16", 18 * 2 * 8 * 64 * 2),  # past the window only the 18 full layers grow
    ("gemma-3-27b", "bf16", 10 * 2 * 16 * 128 * 2),  # 10 full layers of 62
    ("qwen3.5-397b-a17b", "bf16", 15 * 2 * 2 * 256 * 2),  # 15 full layers of 60
])  # fmt: skip
def test_a_token_far_into_a_context_takes_its_heads_times_its_precision(
    model: str, kv: str, expected: float
) -> None:
    r = ask(model, kv_precision=kv)
    assert kv_bytes_stored(r, one(20_001))[0] - kv_bytes_stored(r, one(20_000))[0] == expected


@pytest.mark.parametrize(("model", "context", "stored", "read"), [
    ("qwen2.5-72b", 1, GQA_72B * 2, GQA_72B * 2),
    ("gpt-oss-120b", 100, 36 * 100 * 2048, 36 * 100 * 2048),  # within every window
    ("gpt-oss-120b", 1000, (18 * 1000 + 18 * 128) * 2048, (18 * 1000 + 18 * 128) * 2048),
    # Gemma 3: 11.17 GB where 62 full layers would keep 66.6, a sixth.
    ("gemma-3-27b", 131_072, (10 * 131_072 + 52 * 1024) * 8192, (10 * 131_072 + 52 * 1024) * 8192),
    # A linear layer's state is kept whatever the context, read and written at each step.
    ("qwen3.5-397b-a17b", 1000, 15 * 1000 * 2048 + STATE, 15 * 1000 * 2048 + 2 * STATE),
    ("qwen3.5-397b-a17b", 262_144, 15 * 262_144 * 2048 + STATE, 15 * 262_144 * 2048 + 2 * STATE),
    # Sparse attention reads the chosen keys, and all of the indexer's.
    ("deepseek-v3.2", 1000, 61 * 1000 * 704 * 2, 61 * 1000 * 704 * 2),
    ("deepseek-v3.2", 50_000, 61 * 50_000 * 704 * 2, 61 * (2048 * 576 + 50_000 * 128) * 2),
])  # fmt: skip
def test_layers_keep_and_read_what_their_kind_says(
    model: str, context: float, stored: float, read: float
) -> None:
    r = ask(model)
    assert (kv_bytes_stored(r, one(context))[0], kv_bytes_read(r, one(context))[0]) == (stored, read)


@pytest.mark.parametrize(("model", "tp", "dp", "share"), [
    *(("qwen2.5-72b", tp, 1, 1 / min(tp, 8)) for tp in (1, 4, 8, 16, 64)),
    ("deepseek-r1", 8, 1, 1),  # a latent is never split
    ("deepseek-r1", 8, 8, 1),
])  # fmt: skip
def test_kv_heads_are_split_to_one_per_gpu_and_then_copied(
    model: str, tp: int, dp: int, share: float
) -> None:
    assert kv_share(ask(model, tp=tp, num_gpus=64), layout(tp, dp))[0] == share


# ---- weights

TOTAL, EMBEDDED, HEAD = 72.705e9, 2.491e9, 152_064 * 8192  # parameters of Qwen2.5-72B


@pytest.mark.parametrize(("model", "columns", "each", "attention"), [
    ("qwen2.5-72b", {"weight_precision": "fp4"}, 0.5625, 0.5625),
    # Four-bit expert models keep attention in 8 bits; gpt-oss, published in four, in 16 and never wider.
    ("deepseek-r1", {"weight_precision": "fp4"}, 0.5625, 1.0),
    ("gpt-oss-120b", {"gpu": "h100"}, 0.53125, 2.0),
])  # fmt: skip
def test_weights_take_the_bytes_of_their_format(
    model: str, columns: dict[str, str], each: float, attention: float
) -> None:
    r = ask(model, **columns)
    assert (weight_bytes_each(r)[0], attention_bytes_each(r)[0]) == (each, attention)


@pytest.mark.parametrize(("model", "precision", "tp", "expected"), [
    ("qwen2.5-72b", "bf16", 1, 2 * TOTAL), ("qwen2.5-72b", "bf16", 8, 2 * TOTAL / 8),
    ("qwen2.5-72b", "fp4", 1, (TOTAL - EMBEDDED) * 0.5625 + EMBEDDED * 2),
    ("deepseek-r1", "fp8", 1, 672.9e9),
])  # fmt: skip
def test_stored_weights_leave_the_embeddings_in_16_bits(
    model: str, precision: str, tp: int, expected: float
) -> None:
    found = stored_weight_bytes(ask(model, weight_precision=precision), layout(tp))[0]
    assert found == pytest.approx(expected, rel=2e-4)


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
    assert step_weight_bytes(r, layout(), one(1))[0] == pytest.approx(body + 2 * head, rel=1e-6)
    assert body + head == pytest.approx(37.551e9 - head, rel=0.001)


@pytest.mark.parametrize(("model", "precision", "tokens", "expected"), [
    ("qwen2.5-72b", "bf16", 1, 2 * (TOTAL - EMBEDDED + HEAD)),  # no embedding table
    ("mixtral-8x7b", "bf16", 1, 2 * (12.88e9 - 32_000 * 4096)),  # the active ones
    ("deepseek-r1", "fp8", 4096, 671.0e9),  # a large batch reads all experts
])  # fmt: skip
def test_a_step_reads_the_weights_that_its_tokens_touch(
    model: str, precision: str, tokens: float, expected: float
) -> None:
    found = step_weight_bytes(ask(model, weight_precision=precision), layout(), one(tokens))[0]
    assert found == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("experts", "chosen", "tokens", "skew", "touched"), [
    (256, 8, 1, 0.0, 8.0), (256, 8, 2, 0.0, 8 + 8 * (1 - 8 / 256)), (256, 8, 32, 0.0, 163.3),
    (128, 4, 10_000, 0.0, 128.0), (8, 2, 0, 0.0, 0.0), (0, 0, 5, 0.0, 0.0), (4, 4, 1, 0.0, 4.0),
    # One token touches its own, however skewed: popularity moves which ones, not how many.
    (256, 8, 1, 0.3, 8.0), (256, 8, 1, 0.5, 8.0), (8, 2, 1, 0.3, 2.0),
    # Two meet on popular ones: 16 less the sum of p^2 with p(u) = 8/256 (1 - s) u^-s.
    (256, 8, 2, 0.2, 16 - 0.25 * 0.8**2 / 0.6), (256, 8, 2, 0.3, 16 - 0.25 * 0.7**2 / 0.4),
])  # fmt: skip
def test_distinct_experts(experts: float, chosen: float, tokens: float, skew: float, touched: float) -> None:
    found = distinct_experts(one(experts), one(chosen), one(tokens), skew)[0]
    assert found == pytest.approx(touched, rel=0.02 * (skew > 0), abs=0.05)


def test_distinct_experts_agree_with_drawing_and_with_summing_them() -> None:
    """64 experts drawn; 256 by rank, chosen as rank^-0.5: the sum of 1 - (1 - p)^tokens, expert by expert."""
    rng = np.random.default_rng(0)
    drawn = [len({e for _ in range(20) for e in rng.choice(64, 6, replace=False)}) for _ in range(400)]
    assert distinct_experts(one(64), one(6), one(20))[0] == pytest.approx(np.mean(drawn), rel=0.01)
    ranks = (np.arange(256) + 0.5) ** -0.5
    chance = ranks / ranks.sum() * 8
    for tokens in (4, 32, 256):
        exact = float((1 - (1 - chance) ** tokens).sum())
        assert distinct_experts(one(256), one(8), one(tokens), 0.5)[0] == pytest.approx(exact, rel=0.02)


# ---- FLOPs


@pytest.mark.parametrize(("tokens", "cached", "limit", "pairs"), [
    (1000, 0, 1e12, 500_000),  # t^2 / 2
    (1000, 1000, 1e12, 1_500_000),  # t (c + t / 2)
    (1000, 0, 200, 200 * 100 + 800 * 200),  # grows to the window, then stays
    (1000, 500, 200, 1000 * 200), (100, 0, 200, 5_000), (8192, 0, 128, 1_040_384),
])  # fmt: skip
def test_causal_pairs(tokens: float, cached: float, limit: float, pairs: float) -> None:
    assert causal_pairs(one(tokens), one(cached), one(limit))[0] == pairs


@pytest.mark.parametrize(("model", "tokens", "flops"), [
    ("llama-3.1-8b", 1000, 2 * 32 * 500_000 * 32 * 256),
    ("deepseek-r1", 1000, 61 * 500_000 * 128 * 2 * (128 + 64 + 128)),  # MLA unfolded: 2.5 TFLOP
    # gpt-oss: 18 layers x 8,192^2 / 2 and 18 that see their window of 128 only: 10.2 TFLOP.
    ("gpt-oss-120b", 8192, 18 * (33_554_432 + 1_040_384) * 64 * 2 * 128),
    ("qwen3.5-397b-a17b", 1000, 15 * 500_000 * 32 * 2 * 512),  # linear layers have no pairs
])  # fmt: skip
def test_a_prompts_attention_is_that_of_its_pairs(model: str, tokens: float, flops: float) -> None:
    assert prefill(ask(model), tokens).attention_flops[0] == flops


def test_absorbed_mla_decoding_works_on_the_latent() -> None:
    """DeepSeek-R1 after 1,000 tokens: 61 x 1,000 x 128 x 2 x (2 x 512 + 64) = 17.0 GFLOP per token."""
    assert step(ask("deepseek-r1")).attention_flops[0] == 61 * 1000 * 128 * 2 * (2 * 512 + 64)


def test_a_dense_step_takes_two_flop_per_parameter_and_token() -> None:
    r, head = ask("llama-3.1-8b"), 128_256 * 4096
    work = step(r, tokens=16)
    assert work.linear_flops[0] == pytest.approx(16 * 2 * (8.03e9 - head), rel=1e-3)
    assert work.attention_flops[0] == 16 * 32 * 1000 * 32 * 4 * 128
    assert work.kv_bytes[0] == 16 * 1000 * 131_072
    prompt = prefill(r)
    assert prompt.linear_flops[0] == pytest.approx(2 * 1000 * (8.03e9 - 2 * head) + 2 * head, rel=1e-3)
    assert prompt.weight_bytes[0] == step_weight_bytes(r, layout(), one(1000))[0]


FIELDS = ("weight_bytes", "kv_bytes", "linear_flops", "attention_flops")


@pytest.mark.parametrize(("what", "factors"), [
    ("tp 4 instead of 1", (1 / 4, 1 / 4, 1 / 4, 1 / 4)),
    ("4 drafts a sequence", (1, 1, 4, 4)),  # no more cache
    ("4 prompts at once", (1, 4, 4, 4)),  # the weights are read once
])  # fmt: skip
def test_work_grows_as_its_causes(what: str, factors: tuple[float, ...]) -> None:
    r = ask("llama-3.1-8b", tp=4)
    before, after = {
        "tp 4 instead of 1": lambda: (step(r, layout(1), tokens=16), step(r, layout(4), tokens=16)),
        "4 drafts a sequence": lambda: (step(r, tokens=8), step(r, tokens=32, sequences=8)),
        "4 prompts at once": lambda: (prefill(r), prefill(r, prompts=4)),
    }[what]()
    ratios = [getattr(after, name)[0] / getattr(before, name)[0] for name in FIELDS]
    assert ratios == pytest.approx(factors, rel=1e-12)


def test_attention_data_parallelism_copies_attention_weights_and_the_fullest_group_sets_the_pace() -> None:
    r = ask("deepseek-r1", tp=8, dp=8)
    together, apart = (step(r, layout(8, dp), tokens=64) for dp in (1, 8))
    assert apart.kv_bytes[0] == together.kv_bytes[0] / 8
    copied = 11.519812864e9 * 7 / 8 * attention_bytes_each(r)[0]
    assert apart.weight_bytes[0] - together.weight_bytes[0] == pytest.approx(copied, rel=1e-9)
    single, eight = (step(r, layout(8, 8), tokens=n).kv_bytes[0] for n in (1, 8))
    assert single == eight


def test_layouts_of_the_two_pools() -> None:
    r = ask("deepseek-r1", num_gpus=24, disagg=1, prefill_gpus=8, decode_gpus=16, prefill_tp=8, decode_tp=16,
            decode_dp=16, prefill_dp=1)  # fmt: skip
    found = [(pool.tp[0], pool.attention_tp[0]) for pool in (prefill_layout(r), decode_layout(r))]
    assert found == [(8, 8), (16, 1)]


@pytest.mark.parametrize(
    ("gpu", "precision", "peak"),
    [("h100", "fp4", "bf16"), ("h100", "fp8", "fp8"), ("a100", "fp8", "bf16"), ("b200", "fp4", "fp4")],
)
def test_the_peak_is_that_of_the_units_used(gpu: str, precision: str, peak: str) -> None:
    r = ask("qwen2.5-72b", gpu=gpu, weight_precision=precision)
    assert peak_flops(r, r.weight_precision)[0] == getattr(r.gpu, f"peak_{peak}")[0]
