"""How requests come: all at once, at random or at even distances."""

from __future__ import annotations

import numpy as np
import pytest

from roofcast.features.percentiles import ttft_ratio

from . import questions

GIVEN = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16", "engine": "vllm",
         "isl": 2048, "osl": 200}  # fmt: skip


def test_in_a_burst_the_mean_prompt_waits_for_half_of_the_others_and_the_last_for_all() -> None:
    alone, many = (questions.solve(**GIVEN, concurrency=n, arrival="burst") for n in (1, 64))
    waited = many.terms["ttft_queue"][0]
    assert alone.terms["ttft_queue"][0] == 0.0
    assert waited == pytest.approx(many.burst_s[0] / 2.0)
    steady = questions.solve(**GIVEN, concurrency=64)
    assert waited > 2.0 * steady.terms["ttft_queue"][0]
    r = questions.ask(**GIVEN, concurrency=64, arrival="burst")
    own = many.ttft_s[0] - waited
    last = many.ttft_s[0] * ttft_ratio(r, many, 99.9)[0]
    assert last == pytest.approx(own + 2.0 * waited, rel=0.5)


def test_a_burst_is_served_until_its_last_request_is_done_in_waves_where_memory_is_full() -> None:
    """Once the prompts are prefilled nobody stops the last: it takes its wait and its own tokens."""
    e = questions.solve(**GIVEN, concurrency=64, arrival="burst")
    assert e.e2e_s[0] < e.last_s[0] < 2.0 * e.e2e_s[0]
    full = questions.solve(**GIVEN | {"isl": 8000}, concurrency=1).max_batch[0]
    once, thrice = (
        questions.solve(**GIVEN | {"isl": 8000}, concurrency=k * full, arrival="burst") for k in (1, 3)
    )
    assert thrice.last_s[0] == pytest.approx(3.0 * once.last_s[0], rel=1e-9)
    assert thrice.output_tok_s[0] == pytest.approx(once.output_tok_s[0], rel=1e-9)
    assert thrice.ttft_s[0] > once.last_s[0]


def test_who_comes_at_even_distances_waits_less_than_who_comes_at_random() -> None:
    random, even = (questions.solve(**GIVEN, request_rate=8, arrival=a) for a in ("poisson", "constant"))
    assert even.terms["ttft_queue"][0] == 0.0 < random.terms["ttft_queue"][0]
    assert even.tpot_s[0] == random.tpot_s[0]


def test_an_arrival_is_assumed_of_the_mode_and_one_that_it_does_not_know_is_refused() -> None:
    burst = questions.ask(**GIVEN, mode="offline", concurrency=64)
    assert burst.burst[0]
    assert "arrival assumed burst" in burst.reason[0]
    for given in ({"mode": "offline"}, {"concurrency": 8}, {"request_rate": 2.0}, {"mode": "static-batch"}):
        assert not questions.ask(**GIVEN, **given).burst[0]
    for given, allowed in (
        ({"request_rate": 2.0, "arrival": "burst"}, "poisson or constant"),
        ({"concurrency": 2, "arrival": "poisson"}, "steady or burst"),
        ({"mode": "static-batch", "arrival": "burst"}, "steady"),
    ):
        refused = questions.asked(**GIVEN, **given)
        assert not refused.valid[0]
        assert allowed in refused.reason[0]


def test_a_burst_is_asked_alike_by_its_arrival_and_as_an_offline_run_of_so_many() -> None:
    said, meant = (
        questions.solve(**GIVEN, concurrency=64, **how) for how in ({"arrival": "burst"}, {"mode": "offline"})
    )
    for name in ("ttft_s", "tpot_s", "e2e_s", "output_tok_s"):
        np.testing.assert_array_equal(getattr(said, name), getattr(meant, name))
