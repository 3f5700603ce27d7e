"""Step times term by term: which limit holds where, and that the terms add up."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from roofcast.features.coefficients import Coefficients, ideal_rates, rates_of
from roofcast.features.request import Requests
from roofcast.features.roofline import StepTime, decode_step, prefill_time, system

from . import questions
from .questions import one

HEAD = 128_256 * 4096  # parameters of Llama 8B's head, and of its embedding table
PRIORS = Coefficients()
ask = partial(
    questions.ask, model="llama-3.1-8b", gpu="h100-sxm", tp=1, weight_precision="bf16", kv_precision="bf16"
)


def decode(r: Requests, batch: float, context: float = 1000.0, ideal: bool = False) -> StepTime:
    return decode_step(system(r, ideal_rates(r) if ideal else rates_of(r, PRIORS)), one(batch), one(context))


def prefill_s(tokens: float, *, prompts: float = 1.0, **columns: Any) -> float:
    """Return the ideal time of prefilling [s]."""
    r = ask(**({"isl": tokens} | columns))
    return float(prefill_time(system(r, ideal_rates(r)), one(tokens), one(prompts)).total[0])


def test_a_small_batch_waits_for_the_weights_and_a_large_one_for_the_arithmetic() -> None:
    """Llama 8B in BF16: 15.0 GB read (all but the embedding table) / 3.35 TB/s = 4.5 ms at best."""
    small, large = (decode(ask(), batch, context=1, ideal=True) for batch in (1, 4000))
    assert small.total[0] == pytest.approx((2 * (8.03e9 - HEAD) + 131_072) / 3.35e12, rel=1e-3)
    assert small.compute[0] < small.weights[0] * 0.01
    assert large.weights[0] == 0.0
    assert large.compute[0] == pytest.approx(4000 * 2 * (8.03e9 - HEAD) / 989e12, rel=0.01)


def test_the_ideal_step_overlaps_perfectly_and_moves_each_message_once_over_the_full_links() -> None:
    """Two all-reduces of 64 x 4096 x 2 bytes in 32 layers over 450 GB/s; one GPU talks to nobody."""
    step = decode(ask(tp=8, num_gpus=8), 64, ideal=True)
    assert step.launch[0] == 0.0
    assert step.communication[0] == pytest.approx(32 * 2 * 64 * 4096 * 2 / 450e9, rel=1e-12)
    assert step.total[0] == max(step.weights[0] + step.kv[0], step.communication[0])
    assert {decode(ask(), 64, ideal=ideal).communication[0] for ideal in (False, True)} == {0.0}


EAGLE, FP8_A100 = {"spec_decode": "eagle"}, {"gpu": "a100", "weight_precision": "fp8"}


@pytest.mark.parametrize(("term", "before", "after", "low", "high"), [
    ("kv", ({}, 32, 1000), ({}, 32, 4000), 4, 4), ("kv", ({}, 32, 1000), ({}, 64, 1000), 2, 2),
    # Narrower weights are read sooner, and multiplied as before where the GPU has no units for them.
    ("weights", ({"gpu": "a100"}, 1, 1000), (FP8_A100, 1, 1000), 0, 0.6),
    ("compute", ({"gpu": "a100"}, 4000, 1000), (FP8_A100, 4000, 1000), 1, 1),
    # Drafts are verified in the same step.
    ("total", ({}, 1, 1000), (EAGLE, 1, 1000), 0.99, 1.01),
    ("compute", ({}, 2000, 1000), (EAGLE, 2000, 1000), 3.9, 4.1),
    # Pipeline stages each take their part of the batch.
    ("kv", ({}, 32, 1000), ({"pp": 2, "num_gpus": 2}, 64, 1000), 1, 1),
    ("weights", ({}, 32, 1000), ({"pp": 2, "num_gpus": 2}, 64, 1000), 1, 1),
])  # fmt: skip
def test_a_term_grows_as_its_cause(term: str, before: Any, after: Any, low: float, high: float) -> None:
    old, new = (getattr(decode(ask(**c), batch, context), term)[0] for c, batch, context in (before, after))
    assert low * (1 - 1e-9) <= new / old <= high * (1 + 1e-9)


def test_prefill_is_linear_in_short_prompts_and_quadratic_in_long_ones_less_so_in_eight_bits() -> None:
    """Llama 8B: 2 x 6.98e9 x t FLOP of products, 2 x 32 layers x t^2 / 2 x 32 heads x 256 of attention."""
    for tokens in (4_000, 100_000):
        linear = 2 * tokens * (8.03e9 - 2 * HEAD) + 2 * HEAD
        attention = 2 * 32 * tokens**2 / 2 * 32 * 256
        assert prefill_s(tokens) == pytest.approx((linear + attention) / 989e12, rel=1e-3)
    assert prefill_s(100_000, kv_precision="fp8") < prefill_s(100_000)


def test_a_cached_prefix_is_attended_to_but_not_computed() -> None:
    whole, half, alone = prefill_s(20_000), prefill_s(10_000, isl=20_000), prefill_s(10_000)
    assert alone < half < whole
    assert half - alone == pytest.approx(2 * 32 * 10_000 * 10_000 * 32 * 256 / 989e12, rel=1e-6)


def test_short_prompts_prefilled_together_share_the_weights_and_long_ones_nothing() -> None:
    assert prefill_s(8, prompts=16) == prefill_s(8)
    assert prefill_s(8000, prompts=16) == pytest.approx(16 * prefill_s(8000), rel=1e-9)
