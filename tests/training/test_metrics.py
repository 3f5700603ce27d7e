"""The error figures, checked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.training import metrics


def _frame() -> pd.DataFrame:
    """Five rows: errors of the blend 0, 10, 20, 50 % and one row without an answer."""
    return pd.DataFrame(
        {
            "row_id": list("abcde"), "protocol": "configuration", "metric": "tpot_ms", "measured": 100.0,
            "blend": [100.0, 110.0, 80.0, 150.0, np.nan], "blend_lo": [90.0, 90.0, 70.0, 120.0, np.nan],
            "blend_hi": [110.0, 120.0, 90.0, 180.0, np.nan], "baseline": 200.0, "floor": 50.0,
            "neighbour": 100.0, "pure_ml": 130.0, "model": "m", "gpu": ["x", "x", "y", "y", "y"],
            "engine": "vllm", "weight_precision": "fp8", "mode": "offline",
        }
    )  # fmt: skip


def test_figures_of_four_rows_by_hand() -> None:
    row = metrics.summarise(_frame()).iloc[0]
    expected = {
        "rows": 4, "unanswered": 1, "blend_median_ape": 15.0, "blend_mean_ape": 20.0, "blend_p90_ape": 41.0,
        "blend_bias": np.log(1.1) / 2, "baseline_median_ape": 100.0, "floor_median_ape": 50.0,
        "neighbour_median_ape": 0.0, "coverage": 0.5, "median_width": 100 * (30 / 110 + 20 / 80) / 2,
    }  # fmt: skip
    assert row[list(expected)].to_dict() == pytest.approx(expected)


def test_slices_add_up_small_ones_are_left_out_and_the_worst_rows_are_a_factor_over_or_under() -> None:
    found = metrics.slices(_frame(), ("gpu", "engine"), min_rows=2)
    assert found[found["slice"] == "gpu"]["rows"].sum() == 4
    assert set(metrics.slices(_frame(), min_rows=3)["value"]) == {"vllm", "fp8", "offline"}
    frame = _frame().assign(blend=[100.0, 190.0, 50.0, 150.0, np.nan])
    assert metrics.worst(frame, 3)["row_id"].tolist() == ["c", "b", "d"]


def test_references_that_are_absent_are_left_out(scores: pd.DataFrame) -> None:
    figures = metrics.summarise(scores.drop(columns=["neighbour", "pure_ml"]))
    assert "neighbour_median_ape" not in figures
    assert len(figures) == 8
    assert figures["coverage"].between(0.86, 0.94).all()


def test_rows_of_one_family_count_as_one_draw_in_the_error_of_coverage() -> None:
    """Two families, one all inside and one all outside: the error is that of two draws, 0.5 / sqrt(2)."""
    rows = pd.DataFrame({"gpu": ["a"] * 50 + ["b"] * 50, "model": "m", "engine": "e"})
    rows = rows.assign(protocol="family", metric="tpot_ms", measured=1.0, blend=1.0, blend_hi=2.0)
    rows["blend_lo"] = [0.5] * 50 + [1.5] * 50
    (found,) = metrics.summarise(rows).to_dict("records")
    assert found["coverage"] == 0.5
    assert found["coverage_error"] == pytest.approx(0.5 / 2**0.5)
