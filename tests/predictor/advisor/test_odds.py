"""Percentiles over requests and the probability that a limit holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofcast.predictor.advisor.mixing import log_percentile, spread
from roofcast.training.model.intervals import probability


def _percentile(medians: list[float], ratios: list[float], shares: list[float], percent: float) -> float:
    scales = spread(np.array([ratios]), 90.0)
    return float(np.exp(log_percentile(np.array([medians]), scales, np.array(shares), percent)[0]))


def test_one_kind_of_request_has_the_percentile_it_was_given() -> None:
    assert _percentile([100.0], [1.7], [1.0], 90.0) == pytest.approx(170.0)
    assert _percentile([100.0], [1.7], [1.0], 50.0) == pytest.approx(100.0)


def test_kinds_that_are_alike_make_no_difference() -> None:
    alone = _percentile([100.0], [1.7], [1.0], 90.0)
    assert _percentile([100.0, 100.0], [1.7, 1.7], [0.3, 0.7], 90.0) == pytest.approx(alone, rel=1e-6)


def test_the_percentile_of_two_far_kinds_is_that_of_the_slow_one_alone() -> None:
    # A fifth of the requests is slow: the 90th percentile of all is the median of the slow.
    assert _percentile([1.0, 1000.0], [1.2, 1.2], [0.8, 0.2], 90.0) == pytest.approx(1000.0, rel=1e-3)


def test_the_interval_bounds_are_missed_by_half_of_alpha_each() -> None:
    bounds = probability(np.array([-0.4, 0.0, 0.7]), np.full(3, -0.4), np.full(3, 0.7), 0.08)
    assert bounds.tolist() == pytest.approx([0.04, 0.5, 0.96])


@given(st.floats(-3, 3), st.floats(0.001, 2), st.floats(0.01, 2), st.floats(0.01, 2))
def test_more_room_never_lowers_the_probability(room: float, more: float, low: float, high: float) -> None:
    odds = probability(np.array([room, room + more]), np.full(2, -low), np.full(2, high), 0.1)
    assert 0.0 <= odds[0] <= odds[1] <= 1.0
