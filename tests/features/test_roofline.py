"""Step times term by term: which limit holds where, and that the terms add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofcast.features.coefficients import Coefficients, ideal_rates, rates_of
from roofcast.features.facts import FloatArray
from roofcast.features.request import Requests, normalise
from roofcast.features.roofline import StepTime, decode_step, prefill_time, system


def ask(model: str = "llama-3.1-8b", gpu: str = "h100-sxm", tp: int = 1, **columns: Any) -> Requests:
    given = {"model": model, "gpu": gpu, "tp": tp, "weight_precision": "bf16", "kv_precision": "bf16"}
    r = normalise({name: [value] for name, value in (given | columns).items()})
    assert r.valid[0], r.reason[0]
    return r


def one(value: float) -> FloatArray:
    return np.array([float(value)])


def decode(r: Requests, batch: float, context: float = 1000.0, ideal: bool = False) -> StepTime:
    rates = ideal_rates(r) if ideal else rates_of(r, Coefficients())
    return decode_step(system(r, rates), one(batch), one(context))


def prefill(r: Requests, tokens: float, ideal: bool = False, prompts: float = 1.0) -> StepTime:
    rates = ideal_rates(r) if ideal else rates_of(r, Coefficients())
    return prefill_time(system(r, rates), one(tokens), one(prompts))


def total(step: StepTime) -> float:
    return float((step.weights + step.kv + step.compute + step.communication + step.launch)[0])


def test_a_small_batch_waits_for_the_weights() -> None:
    """Llama 8B in BF16: 15.0 GB read (all but the embedding table) / 3.35 TB/s = 4.5 ms at best."""
    step = decode(ask(), 1, context=1, ideal=True)
    read = 2 * (8.03e9 - 128_256 * 4096) + 131_072
    assert step.total[0] == pytest.approx(read / 3.35e12, rel=1e-3)
    assert step.compute[0] < step.weights[0] * 0.01


def test_a_large_batch_waits_for_the_arithmetic() -> None:
    step = decode(ask(), 4000, context=1, ideal=True)
    assert step.weights[0] == 0.0
    assert step.compute[0] == pytest.approx(4000 * 2 * (8.03e9 - 128_256 * 4096) / 989e12, rel=0.01)


def test_kv_grows_with_batch_and_context() -> None:
    assert decode(ask(), 32, 4000).kv[0] == pytest.approx(4 * decode(ask(), 32, 1000).kv[0], rel=1e-9)
    assert decode(ask(), 64, 1000).kv[0] == pytest.approx(2 * decode(ask(), 32, 1000).kv[0], rel=1e-9)


@pytest.mark.parametrize("batch", [1, 64, 2000])
def test_the_terms_of_a_step_add_up(batch: float) -> None:
    for r in (ask(), ask("deepseek-r1", "b200-sxm", 8, dp=8, ep=8, weight_precision="fp8")):
        step = decode(r, batch)
        assert total(step) == pytest.approx(step.total[0], rel=1e-12)
        first = prefill(r, 700)
        assert total(first) == pytest.approx(first.total[0], rel=1e-12)


def test_the_ideal_step_overlaps_perfectly() -> None:
    r = ask(tp=8, num_gpus=8)
    step = decode(r, 64, ideal=True)
    assert step.launch[0] == 0.0
    assert step.total[0] == max(step.weights[0] + step.kv[0], step.communication[0])


def test_ideal_collectives_move_each_message_once_over_the_full_links() -> None:
    """Two all-reduces of 64 x 4096 x 2 bytes in 32 layers over 450 GB/s."""
    step = decode(ask(tp=8, num_gpus=8), 64, ideal=True)
    assert step.communication[0] == pytest.approx(32 * 2 * 64 * 4096 * 2 / 450e9, rel=1e-12)
    assert decode(ask(), 64, ideal=True).communication[0] == 0.0


def test_one_gpu_talks_to_nobody() -> None:
    assert decode(ask(), 64).communication[0] == 0.0
    assert decode(ask(tp=2, num_gpus=2), 64).communication[0] > 0.0


def test_narrower_weights_speed_up_decoding_even_without_units() -> None:
    wide, narrow = decode(ask(gpu="a100"), 1), decode(ask(gpu="a100", weight_precision="fp8"), 1)
    assert narrow.weights[0] < 0.6 * wide.weights[0]
    busy = decode(ask(gpu="a100", weight_precision="fp8"), 4000)
    assert busy.compute[0] == pytest.approx(decode(ask(gpu="a100"), 4000).compute[0], rel=1e-9)


def test_drafts_are_verified_in_the_same_step() -> None:
    plain, drafting = ask(), ask(spec_decode="eagle")
    assert decode(drafting, 1).total[0] == pytest.approx(decode(plain, 1).total[0], rel=0.01)
    assert decode(drafting, 2000).compute[0] > 3.9 * decode(plain, 2000).compute[0]


def test_pipeline_stages_each_take_their_part_of_the_batch() -> None:
    deep, flat = ask(pp=2, num_gpus=2), ask()
    assert decode(deep, 64).kv[0] == pytest.approx(decode(flat, 32).kv[0], rel=1e-12)
    assert decode(deep, 64).weights[0] == decode(flat, 32).weights[0]


def test_prefill_is_linear_in_short_prompts_and_quadratic_in_long_ones() -> None:
    """Llama 8B: 2 x 6.98e9 x t FLOP of products, 2 x 32 layers x t^2 / 2 x 32 heads x 256 of attention."""
    for tokens in (4_000, 100_000):
        linear = 2 * tokens * (8.03e9 - 2 * 128_256 * 4096) + 2 * 128_256 * 4096
        attention = 2 * 32 * tokens**2 / 2 * 32 * 256
        found = prefill(ask(isl=tokens), tokens, ideal=True).total[0]
        assert found == pytest.approx((linear + attention) / 989e12, rel=1e-3)


def test_a_cached_prefix_is_attended_to_but_not_computed() -> None:
    whole = prefill(ask(isl=20_000), 20_000, ideal=True).total[0]
    half = prefill(ask(isl=20_000), 10_000, ideal=True).total[0]
    alone = prefill(ask(isl=10_000), 10_000, ideal=True).total[0]
    pairs = 2 * 32 * 10_000 * 10_000 * 32 * 256
    assert alone < half < whole
    assert half - alone == pytest.approx(pairs / 989e12, rel=1e-6)


def test_short_prompts_prefilled_together_share_the_weights() -> None:
    r = ask(isl=8)
    alone, all_at_once = prefill(r, 8, ideal=True), prefill(r, 8, ideal=True, prompts=16)
    assert all_at_once.total[0] == alone.total[0]
    long = ask(isl=8000)
    assert prefill(long, 8000, ideal=True, prompts=16).total[0] == pytest.approx(
        16 * prefill(long, 8000, ideal=True).total[0], rel=1e-9
    )


def test_eight_bit_cache_lets_attention_run_on_eight_bit_units() -> None:
    wide, narrow = ask(isl=100_000), ask(isl=100_000, kv_precision="fp8")
    assert prefill(narrow, 100_000, ideal=True).total[0] < prefill(wide, 100_000, ideal=True).total[0]


def test_experts_out_of_balance_slow_expert_parallel_steps_only() -> None:
    spread = ask("deepseek-r1", "b200-sxm", 8, ep=8, weight_precision="fp8")
    whole = ask("deepseek-r1", "b200-sxm", 8, weight_precision="fp8")
    for r, slower in ((spread, True), (whole, False)):
        even = replace(rates_of(r, Coefficients()), expert_imbalance=one(1))
        uneven = replace(even, expert_imbalance=one(2))
        times = [decode_step(system(r, x), one(64), one(500)).weights[0] for x in (even, uneven)]
        assert (times[1] > times[0]) == slower
