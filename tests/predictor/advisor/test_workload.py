"""Workloads are checked at the door."""

from __future__ import annotations

from typing import Any

import pytest

from roofcast.data.errors import BadRequest
from roofcast.predictor.advisor import Workload

GOOD: dict[str, Any] = {"model": "qwen2.5-72b", "users": 10}


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0}, {"users": -3}, {"users": 2e7}, {"users": None}, {"request_rate": 2.0}, {"ttft_ms": 0},
        {"tpot_ms": float("nan")}, {"percentile": 100}, {"isl": 0}, {"prefix_cached_frac": 1.5},
        {"budget_usd": -1}, {"context": 100, "isl": 200}, {"mix": ((1000, 100, 0.0),)},
        {"mix": ((1000, 100, 1.0),) * 40},
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Workload(**{**GOOD, **wrong})


def test_the_shares_of_a_mix_add_up_to_one() -> None:
    kinds = Workload(**GOOD, mix=((1000, 100, 3), (4000, 200, 1))).kinds
    assert [kind.share for kind in kinds] == [0.75, 0.25]


def test_a_conversation_is_a_long_prompt_that_is_cached_but_for_what_is_new() -> None:
    (kind,) = Workload(**GOOD, isl=1000, osl=500, context=10_500).kinds
    assert (kind.isl, kind.osl) == (10_000, 500)
    assert kind.isl * (1 - kind.cached) == pytest.approx(1000)
