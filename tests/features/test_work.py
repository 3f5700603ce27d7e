"""FLOPs and bytes of published models: every figure is worked by hand beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.features import work as w
from roofcast.features.request import Requests

from . import questions
from .questions import one


def ask(model: str, **columns: Any) -> Requests:
    given = {"gpu": "b200", "tp": 1, "weight_precision": "bf16", "kv_precision": "bf16"}
    return questions.ask(model=model, **(given | columns))


def layout(tp: float = 1.0, dp: float = 1.0) -> w.Layout:
    return w.Layout(tp=one(tp), ep=one(1), dp=one(dp), pp=one(1))


def step(r: Requests, over: w.Layout | None = None, tokens: float = 1, sequences: float = 0) -> Any:
    return w.step_work(r, over or layout(), one(tokens), one(sequences or tokens), one(1000))


def prefill(r: Requests, tokens: float = 1000, prompts: float = 1) -> Any:
    return w.prefill_work(r, layout(), one(tokens), one(0), one(prompts))


GQA_72B = 80 * 2 * 8 * 128  # values per token of Qwen2.5-72B
LATENT = 61 * (512 + 64)  # of DeepSeek-R1: MLA keeps the latent and the rotary part, once
STATE = 45 * 1_085_440 * 4  # of Qwen3.5's linear layers, in FP32
FAR = 100_000  # a context beyond every window


# Bytes stored and read by one sequence, at a precision and a context.
@pytest.mark.parametrize(("model", "kv", "context", "stored", "read"), [
    *(("qwen2.5-72b", kv, 1, GQA_72B * each, None)  # 4 bits with an 8-bit scale per 16
      for kv, each in (("bf16", 2), ("fp8", 1), ("int8", 1), ("fp4", 0.5625), ("int4", 0.5625))),
    ("llama-3.1-8b", "bf16", FAR, FAR * 32 * 2 * 8 * 128 * 2, None),  # 128 KiB a token
    ("deepseek-r1", "bf16", FAR, FAR * LATENT * 2, None),  # 57 times less than 128 heads x (128 + 128)
    # A window is kept and read to its end: of 36 layers 18 are full, of Gemma 3's 62 ten.
    ("gpt-oss-120b", "bf16", 100, 36 * 100 * 2048, None),
    ("gpt-oss-120b", "bf16", 1000, (18 * 1000 + 18 * 128) * 2048, None),
    ("gemma-3-27b", "bf16", 131_072, (10 * 131_072 + 52 * 1024) * 8192, None),  # 11.2 GB, in full 66.6
    # A linear layer's state is kept whatever the context, read and written at each step.
    *(("qwen3.5-397b-a17b", "bf16", n, 30_720 * n + STATE, 30_720 * n + 2 * STATE) for n in (1000, FAR)),
    # Sparse attention keeps the indexer's key too, and reads the chosen keys and all of the indexer's.
    ("deepseek-v3.2", "bf16", 1000, 61 * 1000 * 704 * 2, None),
    ("deepseek-v3.2", "bf16", FAR, 61 * FAR * 704 * 2, 61 * (2048 * 576 + FAR * 128) * 2),
])  # fmt: skip
def test_the_cache_of_a_sequence(model: str, kv: str, context: int, stored: float, read: Any) -> None:
    r = ask(model, kv_precision=kv)
    assert w.kv_bytes_stored(r, one(context))[0] == stored
    assert w.kv_bytes_read(r, one(context))[0] == (read or stored)


TOTAL, EMBEDDED, HEAD = 72.705e9, 2.491e9, 152_064 * 8192  # parameters of Qwen2.5-72B


@pytest.mark.parametrize(("model", "precision", "each", "attention", "stored"), [
    ("qwen2.5-72b", "bf16", 2, 2, 2 * TOTAL),
    ("qwen2.5-72b", "fp4", 0.5625, 0.5625, (TOTAL - EMBEDDED) * 0.5625 + EMBEDDED * 2),
    # Four-bit expert models keep attention in 8 bits; gpt-oss, published in four, in 16 and never wider.
    ("deepseek-r1", "fp8", 1, 1, 672.9e9), ("deepseek-r1", "fp4", 0.5625, 1.0, None),
    ("gpt-oss-120b", "bf16", 0.53125, 2.0, None),
])  # fmt: skip
def test_weights_take_the_bytes_of_their_format_and_embeddings_16_bits(
    model: str, precision: str, each: float, attention: float, stored: float | None
) -> None:
    r = ask(model, weight_precision=precision)
    assert (w.weight_bytes_each(r)[0], w.attention_bytes_each(r)[0]) == (each, attention)
    assert stored is None or w.stored_weight_bytes(r, layout())[0] == pytest.approx(stored, rel=2e-4)


@pytest.mark.parametrize(("model", "precision", "tokens", "expected"), [
    ("qwen2.5-72b", "bf16", 1, 2 * (TOTAL - EMBEDDED + HEAD)),  # no embedding table
    ("mixtral-8x7b", "bf16", 1, 2 * (12.88e9 - 32_000 * 4096)),  # the active ones
    ("deepseek-r1", "fp8", 4096, 671.0e9),  # a large batch reads all experts
    # One token: dense and shared layers, 8 of 256 experts, attention, in 8 bits; the head in 16.
    ("deepseek-r1", "fp8", 1, 1.189e9 + 2.554e9 + 20.435e9 + 11.52e9 + 2 * 0.927e9),
])  # fmt: skip
def test_a_step_reads_what_it_touches(model: str, precision: str, tokens: float, expected: float) -> None:
    found = w.step_weight_bytes(ask(model, weight_precision=precision), layout(), one(tokens))[0]
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
    found = w.distinct_experts(one(experts), one(chosen), one(tokens), skew)[0]
    assert found == pytest.approx(touched, rel=0.02 * (skew > 0), abs=0.05)


def test_distinct_experts_agree_with_drawing_and_with_summing_them() -> None:
    """64 experts drawn; 256 by rank, chosen as rank^-0.5: the sum of 1 - (1 - p)^tokens, expert by expert."""
    rng = np.random.default_rng(0)
    drawn = [len({e for _ in range(20) for e in rng.choice(64, 6, replace=False)}) for _ in range(400)]
    assert w.distinct_experts(one(64), one(6), one(20))[0] == pytest.approx(np.mean(drawn), rel=0.01)
    ranks = (np.arange(256) + 0.5) ** -0.5
    chance = ranks / ranks.sum() * 8
    for tokens in (4, 32, 256):
        exact = float((1 - (1 - chance) ** tokens).sum())
        assert w.distinct_experts(one(256), one(8), one(tokens), 0.5)[0] == pytest.approx(exact, rel=0.02)


LLAMA_HEAD = 128_256 * 4096


@pytest.mark.parametrize(("model", "work", "attention", "linear"), [
    ("llama-3.1-8b", prefill, 2 * 32 * 500_000 * 32 * 256, 2000 * (8.03e9 - 2 * LLAMA_HEAD) + 2 * LLAMA_HEAD),
    ("llama-3.1-8b", step, 32 * 1000 * 32 * 4 * 128, 2 * (8.03e9 - LLAMA_HEAD)),  # 2 FLOP per parameter
    # MLA is unfolded in prefill, 2.5 TFLOP, and absorbed in decoding, which works on the latent: 17 GFLOP.
    ("deepseek-r1", prefill, 61 * 500_000 * 128 * 2 * (128 + 64 + 128), None),
    ("deepseek-r1", step, 61 * 1000 * 128 * 2 * (2 * 512 + 64), None),
    # 18 layers see all and 18 their window of 128; linear layers have no pairs.
    ("gpt-oss-120b", prefill, 18 * (500_000 + 128 * 64 + 872 * 128) * 64 * 2 * 128, None),
    ("qwen3.5-397b-a17b", prefill, 15 * 500_000 * 32 * 2 * 512, None),
])  # fmt: skip
def test_flops_of_a_thousand_tokens(model: str, work: Any, attention: float, linear: float | None) -> None:
    """Of a prompt of 1,000 tokens, or of one token after as many."""
    found = work(ask(model))
    assert found.attention_flops[0] == attention
    assert linear is None or found.linear_flops[0] == pytest.approx(linear, rel=1e-3)
    if work is prefill:
        assert found.weight_bytes[0] == w.step_weight_bytes(ask(model), layout(), one(1000))[0]


FIELDS = ("weight_bytes", "kv_bytes", "linear_flops", "attention_flops")


def test_work_grows_as_its_causes() -> None:
    r = ask("llama-3.1-8b", tp=4)
    for before, after, factors in (
        (step(r, layout(1), tokens=16), step(r, layout(4), tokens=16), (1 / 4,) * 4),
        (
            step(r, tokens=8),
            step(r, tokens=32, sequences=8),
            (1, 1, 4, 4),
        ),  # 4 drafts a sequence: no more cache
        (prefill(r), prefill(r, prompts=4), (1, 4, 4, 4)),  # the weights are read once
    ):
        ratios = [getattr(after, name)[0] / getattr(before, name)[0] for name in FIELDS]
        assert ratios == pytest.approx(factors, rel=1e-12)


def test_attention_data_parallelism_copies_attention_weights_and_the_fullest_group_sets_the_pace() -> None:
    r = ask("deepseek-r1", tp=8, dp=8)
    together, apart = (step(r, layout(8, dp), tokens=64) for dp in (1, 8))
    assert apart.kv_bytes[0] == together.kv_bytes[0] / 8
    copied = 11.519812864e9 * 7 / 8 * w.attention_bytes_each(r)[0]
    assert apart.weight_bytes[0] - together.weight_bytes[0] == pytest.approx(copied, rel=1e-9)
    single, eight = (step(r, layout(8, 8), tokens=n).kv_bytes[0] for n in (1, 8))
    assert single == eight
