"""The table's schema: what it lets through, and what it says of the rest."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from roofcast.data import measurements
from roofcast.data.columns import STORED
from roofcast.data.errors import BadRows

ROW = {
    "row_id": "r1", "source": "mine", "gpu": "h100-sxm", "model": "llama-3.1-8b", "engine": "vllm",
    "mode": "closed-loop", "num_gpus": 1, "osl": 128.0, "tpot_ms": 7.5,
}  # fmt: skip


def frame(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes or [{}]])


def found(rows: pd.DataFrame) -> dict[int, list[tuple[str, str]]]:
    """Return code and column of each fault by row."""
    faults = measurements.faults(measurements.complete(rows))
    return {row: [(fault.code, fault.column) for fault in each] for row, each in faults.items()}


def test_a_minimal_row_is_completed_with_defaults_and_unknowns() -> None:
    rows = measurements.validate(frame())
    assert list(rows.columns) == list(STORED)
    columns = ["weight_precision", "weight", "disagg", "kv_precision"]
    assert rows[columns].to_numpy().tolist() == [["bf16", 1.0, 0.0, ""]]
    assert math.isnan(rows["ttft_ms"][0])


@pytest.mark.parametrize(("column", "value"), [
    ("tpot_ms", -1.0), ("tpot_ms", math.inf), ("osl", "many"), ("osl", 0), ("num_gpus", math.nan),
    ("mode", "fast"), ("gpu", ""), ("weight_precision", "fp16"), ("prefix_cached_frac", 1.5),
])  # fmt: skip
def test_a_bad_value_is_a_fault_of_its_column(column: str, value: object) -> None:
    assert found(frame({column: value})) == {0: [("value", column)]}


def test_every_fault_of_every_row_is_found_at_once_and_raised_with_file_and_line() -> None:
    bad = ({"osl": -1, "mode": "x"}, {}, {"gpu": ""}, {"tpot_ms": math.nan})
    rows = frame(*bad).assign(row_id=list("abcd"))
    assert found(rows) == {
        0: [("value", "mode"), ("value", "osl")], 2: [("value", "gpu")], 3: [("no-figure", "")],
    }  # fmt: skip
    with pytest.raises(BadRows) as caught:
        measurements.validate(rows, file="my.csv")
    assert (caught.value.file, [line for line, _ in caught.value.rows]) == ("my.csv", [1, 3, 4])


def test_row_ids_are_unique_and_unknown_and_missing_columns_are_refused_by_name() -> None:
    assert set(found(frame({}, {}))) == {0, 1}
    for rows, name in ((frame({"tps": 3.0}), "tps"), (frame().drop(columns="gpu"), "gpu")):
        with pytest.raises(BadRows, match=name):
            measurements.validate(rows)
