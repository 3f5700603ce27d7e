"""What sources say in their own terms is kept where the table says otherwise, and can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.stated import SPREAD, as_stated, statements
from roofcast.data.store import BenchmarkStore

NAN = np.nan
ROW: dict[str, Any] = {
    "model": "llama-3.3-70b", "weight_precision": "fp8", "engine": "trtllm", "spec_decode": "none",
    "date": "2025-09-15", "tp": 8.0, "pp": 1.0, "dp": 1.0, "isl": 921.6, "osl": 921.6, "concurrency": 64.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return BenchmarkStore().load()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, None),
        ({"isl": 1024.0, SPREAD: "0.8-1"}, {"isl": 1024.0, SPREAD: "0.8-1"}),
        (
            {"tp": NAN, "weight_precision": "", "date": ""},
            {"tp": None, "weight_precision": None, "date": None},
        ),
        ({"model": "nvidia/Llama-3.3-70B-Instruct-FP8"}, {"model": "nvidia/Llama-3.3-70B-Instruct-FP8"}),
        ({"engine": "TensorRT-LLM", "date": "2025-09", "pp": NAN, "dp": NAN, "spec_decode": ""}, None),
        ({"date": "2025-10"}, {"date": "2025-10"}),
    ],
)
def test_only_what_differs_in_meaning_is_kept(said: dict[str, Any], kept: dict[str, Any] | None) -> None:
    rows = pd.DataFrame([ROW])
    (text,) = statements(pd.DataFrame([ROW | said]), rows)
    assert (json.loads(text) if text else None) == kept


def test_a_question_takes_its_source_s_terms_and_no_source() -> None:
    said = {"isl": 1024.0, "tp": None, "model": "meta-llama/Llama-3.3-70B-Instruct", "date": None}
    rows = pd.DataFrame(
        [ROW | {"stated": json.dumps(said), "source": "x"}, ROW | {"stated": "", "source": "y"}]
    )
    asked = as_stated(rows)
    assert asked["isl"].tolist() == [1024.0, 921.6]
    assert asked["tp"].isna().tolist() == [True, False]
    assert asked[["model", "date", "source"]].to_numpy().tolist() == [
        ["meta-llama/Llama-3.3-70B-Instruct", "", ""], ["llama-3.3-70b", "2025-09-15", ""],
    ]  # fmt: skip
    lengths = as_stated(rows, roles=("load",))
    assert lengths["isl"].tolist() == [1024.0, 921.6]
    assert lengths.drop(columns="isl").equals(rows[list(lengths)].drop(columns="isl"))


def test_how_lengths_spread_is_said_as_the_source_does_beside_its_lengths_and_else_as_the_row_does() -> None:
    said = json.dumps({"isl": 1024.0, SPREAD: "0.8-1"})
    drawn = {"length_kind": "uniform", "stated": said}
    rows = pd.DataFrame([ROW | drawn, ROW | {"length_kind": "fixed", "stated": ""}])
    assert as_stated(rows)[SPREAD].tolist() == ["0.8-1", "fixed"]
    assert as_stated(rows, roles=("layout",))[SPREAD].tolist() == ["uniform", "fixed"]


def test_a_name_that_nobody_knows_and_a_number_of_gpus_that_nobody_states_stay_the_table_s() -> None:
    said = '{"model": "in-house 70b", "num_gpus": null}'
    asked = as_stated(pd.DataFrame([ROW | {"num_gpus": 8.0, "stated": said}]))
    assert asked[["model", "num_gpus"]].to_numpy().tolist() == [["llama-3.3-70b", 8.0]]


def test_the_shipped_table_knows_nominal_lengths_spreads_and_which_layouts_were_not_stated(
    table: pd.DataFrame,
) -> None:
    said = table["stated"].map(lambda text: json.loads(text) if text else {})
    inferencex = said[table["source"] == "inferencex-app-fixtures"]
    assert {each[SPREAD] for each in inferencex} == {"0.8-1"}
    assert {each["isl"] for each in inferencex if "isl" in each} == {1024.0, 8192.0}
    layered = said[(table["engine"] == "llamacpp") & (table["pp"] > 1)]
    assert all(each["tp"] is None and each["pp"] is None for each in layered)


def test_a_table_of_an_earlier_version_says_nothing_more(table: pd.DataFrame, tmp_path: Path) -> None:
    table.head(5).drop(columns="stated").to_parquet(tmp_path / "old.parquet")
    assert BenchmarkStore(tmp_path / "old.parquet").load()["stated"].tolist() == [""] * 5
