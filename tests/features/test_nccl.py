"""NCCL's own time: in the order of what is measured, and the same work told in nccl-tests' words."""

from __future__ import annotations

import pytest

from roofcast.data import catalogue
from roofcast.features.nccl import MODELLED, predicted_us

H100 = catalogue.gpu("h100-sxm")


def test_an_all_reduce_over_eight_h100_runs_at_the_measured_rate() -> None:
    size = 8 << 30
    assert 1.75 * size / predicted_us(H100, "all_reduce", size, 8) * 1e-3 == pytest.approx(480, rel=0.05)


@pytest.mark.parametrize("operation", MODELLED)
def test_a_larger_message_never_takes_less_time(operation: str) -> None:
    times = [predicted_us(H100, operation, 1 << n, 8) for n in range(10, 34, 4)]
    assert times == sorted(times)


def test_a_broadcast_moves_the_whole_message_of_an_all_gathers_share() -> None:
    assert predicted_us(H100, "broadcast", 1 << 30, 8) == pytest.approx(
        predicted_us(H100, "all_gather", 1 << 30, 8) * 8 / 7
    )
