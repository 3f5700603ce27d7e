"""Percentiles against queues known in closed form, and against the measured ones of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import FloatArray
from roofcast.features.percentiles import itl_ratio, tpot_ratio, ttft_ratio
from roofcast.features.request import Requests, normalise


def ask(**columns: Any) -> Requests:
    given = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "isl": 1000, "osl": 200, **columns}
    return normalise({name: [value] for name, value in given.items()})


@pytest.mark.parametrize("ratio", [ttft_ratio, tpot_ratio, itl_ratio])
@pytest.mark.parametrize("load", [{"request_rate": 4.0}, {"concurrency": 64}, {"request_rate": 1e4}])
def test_a_higher_percentile_is_never_lower(ratio: Any, load: dict[str, float]) -> None:
    r = ask(**load)
    base = baseline(r, Coefficients())
    values = [float(ratio(r, base, p)[0]) for p in (50, 75, 90, 95, 99, 99.9)]
    assert values == sorted(values)
    assert values[0] > 0.0


def test_an_idle_server_has_no_tail_but_the_machines_own() -> None:
    r = ask(request_rate=0.01)
    assert ttft_ratio(r, baseline(r, Coefficients()), 99)[0] == pytest.approx(np.exp(0.10 * 2.326), rel=1e-3)


def test_the_tail_of_the_first_token_grows_with_the_load() -> None:
    tails = []
    for rate in (1.0, 4.0, 16.0):
        r = ask(request_rate=rate)
        tails.append(float(ttft_ratio(r, baseline(r, Coefficients()), 99)[0]))
    assert tails == sorted(tails)
    assert tails[-1] > 1.2 * tails[0]


def test_a_static_batch_has_one_time_for_all() -> None:
    r = ask(mode="static-batch", concurrency=8)
    assert ttft_ratio(r, baseline(r, Coefficients()), 99)[0] == 1.0


def test_a_step_with_a_prefill_is_the_longest_gap_between_tokens() -> None:
    """64 in flight, 200 tokens each: a prompt every third step, so the 99th gap holds one."""
    r = ask(concurrency=64)
    base = baseline(r, Coefficients())
    assert itl_ratio(r, base, 99)[0] > tpot_ratio(r, base, 99)[0]


@pytest.mark.parametrize(
    ("mode", "metric", "percentile", "allowed"),
    [
        ("open-loop", "ttft", 99, 0.50),
        ("server", "ttft", 99, 0.50),
        ("server", "tpot", 99, 0.06),
        ("closed-loop", "tpot", 99, 0.08),
        ("open-loop", "tpot", 90, 0.10),
    ],
)
def test_the_measured_tails_are_near(mode: str, metric: str, percentile: int, allowed: float) -> None:
    """Median error of the logarithm of percentile over median, on the shipped table's rows of the mode."""
    table = BenchmarkStore(None).load()
    table = table[(table["mode"] == mode) & table[f"{metric}_p{percentile}_ms"].notna()]
    table = table[table["ttft_stat"] == "p50"]
    r = normalise(table)
    ratio: dict[str, Any] = {"ttft": ttft_ratio, "tpot": tpot_ratio}
    found: FloatArray = ratio[metric](r, baseline(r, Coefficients()), percentile)
    measured = (table[f"{metric}_p{percentile}_ms"] / table[f"{metric}_ms"]).to_numpy(dtype=np.float64)
    assert np.nanmedian(np.abs(np.log(found / measured))) < allowed
