"""The table's schema: what it lets through, and what it says of the rest."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from roofcast.data import measurements
from roofcast.data.columns import STORED
from roofcast.data.errors import BadRows

ROW = {
    "row_id": "r1",
    "source": "mine",
    "gpu": "h100-sxm",
    "model": "llama-3.1-8b",
    "engine": "vllm",
    "mode": "closed-loop",
    "num_gpus": 1,
    "osl": 128.0,
    "tpot_ms": 7.5,
}


def frame(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **changes}])


def test_a_minimal_row_is_completed_with_defaults_and_unknowns() -> None:
    row = measurements.validate(frame()).iloc[0]
    assert list(measurements.validate(frame()).columns) == list(STORED)
    assert (row["weight_precision"], row["weight"], row["disagg"]) == ("bf16", 1.0, 0.0)
    assert math.isnan(row["ttft_ms"])
    assert row["kv_precision"] == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tpot_ms": -1.0}, "tpot_ms = -1.0"),
        ({"tpot_ms": math.inf}, "tpot_ms = inf"),
        ({"osl": "many"}, "osl = 'many': a number"),
        ({"osl": 0}, "osl = 0.0"),
        ({"num_gpus": math.nan}, "num_gpus = nan: not missing"),
        ({"mode": "fast"}, "mode = 'fast': one of static-batch"),
        ({"gpu": ""}, "gpu = '': not empty"),
        ({"weight_precision": "fp16"}, "weight_precision = 'fp16'"),
        ({"tpot_ms": math.nan}, "no throughput, TTFT or TPOT"),
        ({"prefix_cached_frac": 1.5}, "prefix_cached_frac = 1.5"),
    ],
)
def test_a_bad_value_is_named_with_file_line_and_column(changes: dict[str, object], said: str) -> None:
    rows = pd.concat([frame(), frame(**{"row_id": "r2", **changes})], ignore_index=True)
    with pytest.raises(BadRows, match=r"my\.csv") as caught:
        measurements.validate(rows, file="my.csv")
    assert [line for line, _ in caught.value.rows] == [2]
    assert said in caught.value.rows[0][1]


def test_every_fault_of_every_row_is_reported_at_once() -> None:
    rows = pd.concat(
        [frame(osl=-1, mode="x"), frame(row_id="r2"), frame(row_id="r3", gpu="")], ignore_index=True
    )
    found = measurements.faults(measurements.complete(rows))
    assert {i: [fault.column for fault in faults] for i, faults in found.items()} == {
        0: ["mode", "osl"],
        2: ["gpu"],
    }


def test_row_ids_are_unique() -> None:
    rows = pd.concat([frame(), frame()], ignore_index=True)
    assert set(measurements.faults(measurements.complete(rows))) == {0, 1}


def test_unknown_and_missing_columns_are_refused_by_name() -> None:
    with pytest.raises(BadRows, match="unknown column tps"):
        measurements.validate(frame(tps=3.0))
    with pytest.raises(BadRows, match="missing column gpu"):
        measurements.validate(frame().drop(columns="gpu"))
