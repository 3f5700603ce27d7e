"""Percentiles against queues known in closed form, and against the measured ones of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.percentiles import itl_ratio, tpot_ratio, ttft_ratio
from roofcast.features.request import normalise

from . import questions


def tail(ratio: Any, percentile: float, **load: Any) -> float:
    """Return a percentile over the median of Llama 8B on one GPU."""
    r = questions.ask(model="llama-3.1-8b", gpu="h100-sxm", tp=1, isl=1000, osl=200, **load)
    return float(ratio(r, baseline(r, Coefficients()), percentile)[0])


@pytest.mark.parametrize("ratio", [ttft_ratio, tpot_ratio, itl_ratio])
@pytest.mark.parametrize("load", [{"request_rate": 4.0}, {"concurrency": 64}, {"request_rate": 1e4}])
def test_a_higher_percentile_is_never_lower(ratio: Any, load: dict[str, float]) -> None:
    values = [tail(ratio, p, **load) for p in (50, 75, 90, 95, 99, 99.9)]
    assert values[0] > 0.0
    assert values == sorted(values)


def test_the_tail_of_the_first_token_grows_from_the_machines_own_with_the_load() -> None:
    tails = [tail(ttft_ratio, 99, request_rate=rate) for rate in (0.01, 1.0, 4.0, 16.0)]
    assert tails[0] == pytest.approx(np.exp(0.10 * 2.326), rel=1e-3)
    assert tails == sorted(tails)
    assert tails[-1] > 1.2 * tails[1]
    assert tail(ttft_ratio, 99, mode="static-batch", concurrency=8) == 1.0  # one time for all


def test_who_waits_for_a_slot_waits_about_as_long_as_everyone() -> None:
    """4,096 in flight where hundreds are held: slots are given in turn, only machines spread."""
    assert tail(ttft_ratio, 99, concurrency=4096) == pytest.approx(np.exp(0.10 * 2.326), rel=0.1)


def test_a_step_with_a_prefill_is_the_longest_gap_between_tokens() -> None:
    """64 in flight, 200 tokens each: a prompt every third step, so the 99th gap holds one."""
    assert tail(itl_ratio, 99, concurrency=64) > tail(tpot_ratio, 99, concurrency=64)


@pytest.mark.parametrize(("mode", "metric", "percentile", "allowed"), [
    ("open-loop", "ttft", 99, 0.50), ("server", "ttft", 99, 0.50), ("server", "tpot", 99, 0.06),
    ("closed-loop", "tpot", 99, 0.08), ("open-loop", "tpot", 90, 0.10),
])  # fmt: skip
def test_the_measured_tails_are_near(mode: str, metric: str, percentile: int, allowed: float) -> None:
    """Median error of the logarithm of percentile over median, on the shipped table's rows of the mode."""
    table, column = BenchmarkStore(None).load(), f"{metric}_p{percentile}_ms"
    table = table[(table["mode"] == mode) & table[column].notna() & (table["ttft_stat"] == "p50")]
    r = normalise(table)
    found = {"ttft": ttft_ratio, "tpot": tpot_ratio}[metric](r, baseline(r, Coefficients()), percentile)
    measured = (table[column] / table[f"{metric}_ms"]).to_numpy(dtype=np.float64)
    assert np.nanmedian(np.abs(np.log(found / measured))) < allowed
