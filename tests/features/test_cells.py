"""Columns read the same from a frame and from lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.features.cells import Rows


@pytest.mark.parametrize(
    "value", [8, "8", " 8 ", "", None, np.nan, pd.NA, "x", "1_0", "inf", -1, True, np.float32(2)], ids=repr
)
def test_a_number_reads_the_same_from_a_list_and_a_frame(value: object) -> None:
    table = {"tp": [value, 4]}
    read = (Rows(each).read_numbers("tp") for each in (table, pd.DataFrame(table)))
    for one, other in zip(*read, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", ["b200", " B200 ", "", None, np.nan, pd.NA, 7], ids=repr)
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_a_text_reads_the_same_from_a_list_and_a_frame(value: object, dtype: str) -> None:
    given = [value, "h100", value]
    series = pd.Series(given, dtype=object).where(lambda s: s.notna(), None).astype(dtype)
    (codes, values), (other, others) = (Rows({"gpu": g}).text("gpu") for g in (given, series))
    assert [values[code] for code in codes] == [others[code] for code in other]


def test_an_absent_column_is_missing_throughout() -> None:
    columns = Rows(pd.DataFrame(index=range(3)))
    assert np.isnan(columns.number("tp")).all()
    assert (columns.n, columns.text("gpu")[1]) == (3, [""])
