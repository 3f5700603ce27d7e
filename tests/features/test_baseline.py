"""Coefficients act where they should; infeasible and bad rows answer NaN; the floor is ideal."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients, default_coefficients, rates_of
from roofcast.features.request import normalise

from . import questions
from .questions import with_values

GIVEN = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "tp": 8, "weight_precision": "bf16", "isl": 1000,
         "osl": 200, "concurrency": 8}  # fmt: skip
ask, solve = partial(questions.ask, **GIVEN), partial(questions.solve, **GIVEN)


@pytest.mark.parametrize(("gpu", "precision", "share"), [
    ("h100", "bf16", "compute_bf16.hopper"), ("h100", "fp8", "compute_fp8.hopper"),
    ("h100", "fp4", "compute_bf16.hopper"), ("h100", "int4", "compute_bf16.hopper"),
    ("a100", "fp8", "compute_bf16.ampere"), ("b200", "fp4", "compute_fp4.blackwell"),
    ("l40s", "fp8", "compute_fp8.ampere"), ("mi355x", "fp4", "compute_fp4.cdna4"),
    ("v100", "bf16", "compute_bf16.other"),
])  # fmt: skip
def test_the_compute_share_is_that_of_the_units_used(gpu: str, precision: str, share: str) -> None:
    assert rates_of(ask(gpu=gpu, weight_precision=precision), with_values({share: 0.123})).compute[0] == 0.123


# A larger share of a peak is faster, a larger overhead slower, another architecture's nothing.
@pytest.mark.parametrize(("name", "answer", "slower"), [
    *((f"{name}.hopper", "tpot_s", -1) for name in ("weight_bandwidth", "kv_bandwidth")),
    *((f"{name}.hopper", "ttft_s", -1) for name in ("compute_bf16", "attention_compute")),
    ("collective_bandwidth", "ttft_s", -1), ("collective_latency", "tpot_s", 1),
    ("layer_us.hopper", "tpot_s", 1),
    *((f"{name}.vllm", "tpot_s", 1) for name in ("layer_factor", "step_us", "sequence_us", "stall")),
    *((f"{name}.vllm", "ttft_s", 1) for name in ("first_token_ms", "queue", "wait_steps")),
    ("first_token_per_ktok_ms.vllm", "ttft_s", 1), ("weight_bandwidth.cdna3", "tpot_s", 0),
])  # fmt: skip
def test_a_coefficient_moves_the_answer_its_own_way(name: str, answer: str, slower: int) -> None:
    before, after = solve(), solve(with_values({name: 1.2 * default_coefficients()[name].value}))
    assert np.sign(getattr(after, answer)[0] - getattr(before, answer)[0]) == slower


def test_what_does_not_fit_is_nan_with_the_bytes() -> None:
    e = solve(tp=1)
    assert not e.feasible[0]
    assert np.isnan([e.ttft_s[0], e.tpot_s[0], e.e2e_s[0], e.output_tok_s[0], e.total_tok_s[0]]).all()
    assert e.bytes_needed[0] > 145e9 > e.bytes_available[0] > 70e9
    assert np.isnan(floor(ask(tp=1)).tpot_s[0])


def test_a_bad_row_is_nan_and_its_neighbour_is_not() -> None:
    r = normalise({"model": ["nope", "qwen2.5-72b"], "gpu": ["h100-sxm"] * 2, "tp": [8, 8], "osl": [9, 9]})
    e = baseline(r, Coefficients())
    assert e.feasible.tolist() == [False, True] == (~np.isnan(e.ttft_s)).tolist()


def test_the_floor_has_no_overhead_no_queue_and_no_fabric_but_the_datasheets() -> None:
    """An L40S box with a poor PCIe tree may be slow; what its links allow is not."""
    terms = floor(ask(concurrency=64)).terms
    assert max(terms[name][0] for name in ("launch", "queue", "ttft_launch", "ttft_queue")) < 1e-12
    low = floor(ask(gpu="l40s", weight_precision="fp8", concurrency=256))
    assert low.terms["communication"][0] == pytest.approx(80 * 2 * 256 * 8192 * 2 / 32e9, rel=1e-9)
