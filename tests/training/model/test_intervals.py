"""The probability that a limit holds follows from the interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofcast.training.model.intervals import probability


def test_the_interval_bounds_are_missed_by_half_of_alpha_each() -> None:
    bounds = probability(np.array([-0.4, 0.0, 0.7]), np.full(3, -0.4), np.full(3, 0.7), 0.08)
    assert bounds.tolist() == pytest.approx([0.04, 0.5, 0.96])


@given(st.floats(-3, 3), st.floats(0.001, 2), st.floats(0.01, 2), st.floats(0.01, 2))
def test_more_room_never_lowers_the_probability(room: float, more: float, low: float, high: float) -> None:
    odds = probability(np.array([room, room + more]), np.full(2, -low), np.full(2, high), 0.1)
    assert 0.0 <= odds[0] <= odds[1] <= 1.0
