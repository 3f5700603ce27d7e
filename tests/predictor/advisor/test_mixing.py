"""Kinds of requests on one deployment: busy shares add up, prompts queue, percentiles and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.features.baseline import Estimate, baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.percentiles import log_percentile, spread
from roofcast.features.request import Requests, normalise
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Workload
from roofcast.predictor.advisor.outcomes import at_equal_load, in_one_queue

SHORT, LONG = (500.0, 100.0), (6000.0, 400.0)
SHARES = np.array([0.75, 0.25])
RATES = np.array([5.0, 20.0, 60.0])
BOX: dict[str, Any] = {
    "model": "llama-3.1-8b", "platform": "hgx-h100", "num_gpus": 8, "tp": 1, "engine": "vllm",
    "weight_precision": "fp8", "mode": "open-loop",
}  # fmt: skip


def _kinds(*lengths: tuple[float, float]) -> Requests:
    rows = [{**BOX, "isl": i, "osl": o, "request_rate": rate} for i, o in lengths for rate in RATES]
    return normalise(pd.DataFrame(rows))


def _queued(*lengths: tuple[float, float]) -> tuple[Estimate, Estimate]:
    """Return the kinds at equal load, each in its own queue and all in one."""
    r = at_equal_load(_kinds(*lengths), Coefficients(), SHARES)
    base = baseline(r, Coefficients())
    return base, in_one_queue(r, base, RATES, SHARES)


def test_the_times_that_the_kinds_take_add_up_to_the_load() -> None:
    """At equal load the kinds' shares of their own rates are those of one server's time."""
    found = at_equal_load(_kinds(SHORT, LONG), Coefficients(), SHARES).request_rate.reshape(2, -1)
    np.testing.assert_allclose((RATES * SHARES[:, None] / found).sum(axis=0), 1.0)
    assert (found[0] > RATES).all()
    assert (found[1] < RATES).all()


def test_short_prompts_wait_behind_long_ones_and_all_wait_the_same() -> None:
    own, together = _queued(SHORT, LONG)
    before, after = (e.terms["ttft_queue"].reshape(2, -1) for e in (own, together))
    calm = own.stable.reshape(2, -1)[0]
    assert calm.any()
    np.testing.assert_allclose(after[0][calm], after[1][calm])
    assert (before[0][calm] < after[0][calm]).all()
    np.testing.assert_allclose(together.ttft_s - own.ttft_s, (after - before).ravel(), atol=1e-12)


@pytest.mark.parametrize("rate", [20.0, 200.0])
def test_a_kind_split_in_two_is_recommended_what_the_whole_is(predictor: Predictor, rate: float) -> None:
    advisor = Advisor(predictor)
    ask: dict[str, Any] = {"model": "llama-3.1-8b", "request_rate": rate, "platforms": ("hgx-h100",)}
    whole = advisor.recommend(Workload(**ask, isl=500, osl=100)).ranked[0]
    split = advisor.recommend(Workload(**ask, mix=((500, 100, 2), (500, 100, 1)))).ranked[0]
    assert (split.what, split.layout, split.engine) == (whole.what, whole.layout, whole.engine)
    assert split.ttft_ms[""] == pytest.approx(whole.ttft_ms[""], rel=1e-6)
    assert split.output_tok_s[""] == pytest.approx(whole.output_tok_s[""], rel=1e-6)


def test_the_whole_rate_is_served_where_every_kind_keeps_up(predictor: Predictor) -> None:
    asked = Workload(model="llama-3.1-8b", request_rate=30.0, mix=((*SHORT, 3.0), (*LONG, 1.0)))
    best = Advisor(predictor).recommend(asked).ranked[0]
    tokens = 30.0 * (0.75 * SHORT[1] + 0.25 * LONG[1])
    assert 0.5 * tokens < best.output_tok_s[""] <= tokens * 1.001


def _percentile(medians: list[float], ratios: list[float], shares: list[float], percent: float) -> float:
    scales = spread(np.array([ratios]), 90.0)
    return float(np.exp(log_percentile(np.array([medians]), scales, np.array(shares), percent)[0]))


def test_one_kind_of_request_has_the_percentile_it_was_given() -> None:
    assert _percentile([100.0], [1.7], [1.0], 90.0) == pytest.approx(170.0)
    assert _percentile([100.0], [1.7], [1.0], 50.0) == pytest.approx(100.0)
    assert _percentile([100.0, 100.0], [1.7, 1.7], [0.3, 0.7], 90.0) == pytest.approx(170.0, rel=1e-6)


def test_the_percentile_of_two_far_kinds_is_that_of_the_slow_one_alone() -> None:
    # A fifth of the requests is slow: the 90th percentile of all is the median of the slow.
    assert _percentile([1.0, 1000.0], [1.2, 1.2], [0.8, 0.2], 90.0) == pytest.approx(1000.0, rel=1e-3)
