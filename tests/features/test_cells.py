"""Columns read the same from a frame and from lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.features.cells import Rows
from roofcast.features.request import normalise

ODD: list[object] = [8, 8.0, "8", " 8 ", "", None, np.nan, pd.NA, "x", "1_0", "inf", -1, True, np.float32(2)]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_number_reads_the_same_from_a_list_and_a_frame(value: object) -> None:
    table = {"tp": [value, 4]}
    (number, given), (other, also) = (
        Rows(table).read_numbers("tp"),
        Rows(pd.DataFrame(table)).read_numbers("tp"),
    )
    np.testing.assert_array_equal(number, other)
    np.testing.assert_array_equal(given, also)


@pytest.mark.parametrize("value", ["b200", " B200 ", "", None, np.nan, pd.NA, 7], ids=repr)
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_a_text_reads_the_same_from_a_list_and_a_frame(value: object, dtype: str) -> None:
    table = {"gpu": [value, "h100", value]}
    codes, values = Rows(table).text("gpu")
    series = pd.Series(table["gpu"], dtype=object).where(lambda s: s.notna(), None)
    other, others = Rows(pd.DataFrame({"gpu": series.astype(dtype)})).text("gpu")
    assert [values[code] for code in codes] == [others[code] for code in other]


def test_an_absent_column_is_missing_throughout() -> None:
    columns = Rows(pd.DataFrame(index=range(3)))
    assert np.isnan(columns.number("tp")).all()
    assert columns.text("gpu")[1] == [""]
    assert columns.n == 3


def test_a_mapping_and_a_frame_are_the_same_requests() -> None:
    table = {
        "model": ["qwen2.5-72b", "nope", "deepseek-r1", None],
        "gpu": ["h100-sxm", "b200", None, "mi300x"],
        "tp": [8, None, 3, 0],
        "isl": [100, -3, None, "many"],
        "concurrency": [None, 4, 8, np.inf],
    }
    one, other = normalise(table), normalise(pd.DataFrame(table))
    np.testing.assert_array_equal(one.valid, other.valid)
    for name in ("tp", "isl", "osl", "concurrency", "num_gpus", "weight_precision", "mode"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [r.replace("nan", "") for r in one.reason] == [r.replace("nan", "") for r in other.reason]
