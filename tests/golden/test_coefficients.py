"""The shipped coefficients lie where they may, and where kernels measured on their own put them."""

from __future__ import annotations

import pytest

from ..docs.physics_tables import kernels, reason, shipped, verdict


def test_no_shipped_coefficient_lies_outside_its_bounds() -> None:
    slack = 1e-9
    outside = [
        name for name, c in shipped().items() if not c["low"] - slack <= c["value"] <= c["high"] + slack
    ]
    assert not outside


@pytest.mark.parametrize("measured", kernels(), ids=lambda k: f"{k['coefficient']} {k['precision']}")
def test_a_coefficient_agrees_with_its_kernels_or_has_a_reason(measured: dict[str, object]) -> None:
    name = str(measured["coefficient"])
    found = verdict(shipped()[name], measured)
    assert found == "agrees" or reason(name, found)
