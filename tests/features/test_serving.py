"""Each mode's steady state against what is known of it in closed form."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from roofcast.features.baseline import Estimate, floor
from roofcast.features.serving import _queue_wait
from roofcast.features.settings import MAX_SEQUENCES

from . import questions
from .questions import one

GIVEN = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16", "engine": "vllm",
         "isl": 1000, "osl": 200}  # fmt: skip


def solve(mode: str = "closed-loop", **columns: Any) -> Estimate:
    return questions.solve(**(GIVEN | {"mode": mode} | columns))


pools = partial(solve, disagg=1, num_gpus=4, prefill_gpus=2, decode_gpus=2, prefill_tp=1, decode_tp=1)


def exact_wait(demand: float, delay: float, customers: int) -> float:
    """Exact mean-value analysis (Reiser, Lavenberg 1980): an arrival finds the queue of one less."""
    queue, response = 0.0, demand
    for n in range(1, customers + 1):
        response = demand * (1 + queue)
        queue = n / (response + delay) * response
    return response - demand


@pytest.mark.parametrize(("demand", "delay", "customers", "rel", "slack"), [
    *((3.0, 0.0, n, 1e-6, 0.0) for n in (1, 2, 5, 20)),  # with no time elsewhere all wait for all others
    (3.0, 5.0, 1, 0.0, 0.0),  # one customer never waits
    *((1.0, delay, n, 0.1, 0.2) for delay, n in ((10.0, 4), (50.0, 16), (100.0, 64), (1.0, 8))),
    (1.0, 10.0, 1000, 1e-3, 0.0),  # a saturated station serves one per demand
])  # fmt: skip
def test_the_approximate_queue_is_near_the_exact_one(
    demand: float, delay: float, customers: int, rel: float, slack: float
) -> None:
    found = _queue_wait(one(demand), one(delay), one(customers), one(1))[0]
    assert found == pytest.approx(exact_wait(demand, delay, customers), rel=rel, abs=slack)


def test_a_static_batch_prefills_together_and_one_too_large_for_memory_takes_turns() -> None:
    """Twice what fits: twice the time for all of it, and the mean first token waits half a batch longer."""
    e, alone = (solve("static-batch", concurrency=n) for n in (16, 1))
    assert e.terms["queue"][0] == 0.0
    assert 10 < e.terms["ttft_compute"][0] / alone.terms["ttft_compute"][0] < 17
    most = solve("static-batch", concurrency=1, isl=8000).max_batch[0]
    once, twice = (solve("static-batch", concurrency=k * most, isl=8000) for k in (1, 2))
    assert twice.cycle_s[0] == pytest.approx(2 * once.cycle_s[0], rel=1e-9)
    assert twice.ttft_s[0] == pytest.approx(once.ttft_s[0] + once.e2e_s[0] / 2, rel=1e-9)


def test_in_a_closed_loop_prompts_of_others_stall_tokens_and_queue() -> None:
    lone, some, more = (solve(concurrency=n) for n in (1, 16, 64))
    for name in ("queue", "ttft_queue"):
        assert 0.0 == lone.terms[name][0] < some.terms[name][0] < more.terms[name][0]


def test_more_copies_than_requests_serve_no_more_than_is_in_flight() -> None:
    few, many = (solve(concurrency=8, num_gpus=n) for n in (8, 80_000))
    assert many.concurrency[0] == pytest.approx(8.0)
    assert many.output_tok_s[0] == pytest.approx(few.output_tok_s[0], rel=0.05)


def test_requests_beyond_the_memory_wait_for_a_slot() -> None:
    """By Little's law the time in the system grows with the number in it, at the same throughput."""
    full = solve(isl=8000, osl=1000, concurrency=1).max_batch[0]
    at, over = (solve(isl=8000, osl=1000, concurrency=k * full) for k in (1, 3))
    assert over.e2e_s[0] == pytest.approx(3 * at.e2e_s[0], rel=0.01)
    assert over.tpot_s[0] == pytest.approx(at.tpot_s[0], rel=1e-9)


def test_offline_fills_memory_and_scheduler() -> None:
    e = solve("offline", isl=8000)
    assert e.batch[0] == min(e.max_batch[0], MAX_SEQUENCES)
    assert solve("offline", isl=1, osl=1).batch[0] == MAX_SEQUENCES
    assert solve("offline", concurrency=8).batch[0] == 8


def test_an_open_loop_answers_as_if_alone_when_idle_and_is_stable_up_to_about_the_offline_rate() -> None:
    """A prompt that is sent finds the engine anywhere in a step: half a step sooner than in step with it."""
    idle, alone = solve("open-loop", request_rate=0.01), solve(concurrency=1)
    assert idle.ttft_s[0] == pytest.approx(alone.ttft_s[0] - 0.5 * alone.tpot_s[0], rel=1e-3)
    offline = solve("offline").request_s[0]
    calm, swamped = (solve("open-loop", request_rate=share * offline) for share in (0.5, 2.0))
    assert (calm.stable[0], swamped.stable[0]) == (True, False)
    assert swamped.request_s[0] < 2.0 * offline
    assert calm.tpot_s[0] < swamped.tpot_s[0]


def test_separate_pools_never_stall_decoding_and_more_prefill_workers_shorten_the_queue() -> None:
    few, many = pools(concurrency=64), pools(concurrency=64, num_gpus=8, prefill_gpus=6)
    assert few.terms["queue"][0] == 0.0
    assert few.tpot_s[0] < solve(concurrency=32).tpot_s[0]
    assert many.terms["ttft_queue"][0] < few.terms["ttft_queue"][0]
    assert many.tpot_s[0] > few.tpot_s[0]  # who waits less for the first token decodes with more others


def test_the_cache_travels_between_pools_over_the_links_or_the_network() -> None:
    """1000 tokens x 65,536 bytes (8-bit) over 450 GB/s inside the box, over 50 GB/s between boxes."""
    given = GIVEN | {"disagg": 1, "concurrency": 1}
    inside, apart = (floor(questions.ask(**given, num_gpus=n)).ttft_s[0] for n in (8, 16))
    assert apart - inside == pytest.approx(1000 * 65_536 * (1 / 50e9 - 1 / 450e9), rel=1e-6)


def test_the_mean_first_token_and_not_the_median_sees_the_opening_burst() -> None:
    e = solve(concurrency=64)
    assert 1.01 < e.ttft_mean_s[0] / e.ttft_s[0] < 9
    assert e.e2e_s[0] == pytest.approx(e.ttft_mean_s[0] + 199 * e.tpot_s[0])


PREFIX = {"isl": 30_000, "concurrency": 1}
CACHED = PREFIX | {"prefix_cached_frac": 0.9}


@pytest.mark.parametrize(("before", "after", "answer", "low", "high"), [
    # Replicas share the load; a server without a rate is a closed loop.
    ({"concurrency": 16}, {"concurrency": 64, "num_gpus": 4}, "tpot_s", 1, 1),
    ({"concurrency": 16}, {"concurrency": 64, "num_gpus": 4}, "output_tok_s", 4, 4),
    ({"concurrency": 8}, {"concurrency": 8, "mode": "server"}, "tpot_s", 1, 1),
    # A cached prefix brings the first token sooner.
    (PREFIX, CACHED, "ttft_s", 0, 0.5), (PREFIX, CACHED, "tpot_s", 1, 1),
    # Accepted drafts divide the time per token.
    ({"concurrency": 1}, {"concurrency": 1, "spec_decode": "eagle"}, "tpot_s", 0.95 / 2.2, 1.05 / 2.2),
])  # fmt: skip
def test_a_change_multiplies_an_answer(before: Any, after: Any, answer: str, low: float, high: float) -> None:
    ratio = getattr(solve(**after), answer)[0] / getattr(solve(**before), answer)[0]
    assert low * (1 - 1e-12) <= ratio <= high * (1 + 1e-12)
