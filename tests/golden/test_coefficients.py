"""The shipped coefficients lie where they may, and where kernels measured on their own put them."""

from __future__ import annotations

from ..docs.physics_tables import kernels, reason, shipped, verdict


def test_no_shipped_coefficient_lies_outside_its_bounds() -> None:
    for name, entry in shipped().items():
        assert entry["low"] - 1e-9 <= entry["value"] <= entry["high"] + 1e-9, name


def test_a_coefficient_agrees_with_its_kernels_or_has_a_reason() -> None:
    for measured in kernels():
        found = verdict(shipped()[measured["coefficient"]], measured)
        assert found == "agrees" or reason(measured["coefficient"], found)
