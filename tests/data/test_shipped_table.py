"""The workshop over the collected files: every row is accounted for, and the shipped table is theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from roofcast.data import catalogue, measurements
from roofcast.data.build import account, collected, pipeline
from roofcast.data.columns import STORED
from roofcast.data.errors import BadRows
from roofcast.data.identity import config_group
from roofcast.data.rows import checks
from roofcast.data.rows.draft import text
from roofcast.data.store import BenchmarkStore, fingerprint
from roofcast.predictor.audit import impossible


@pytest.fixture(scope="module")
def folder(shared_root: Path) -> Path:
    return shared_root / "benchmarks"


@pytest.fixture(scope="module")
def result(folder: Path) -> pipeline.Build:
    return pipeline.run(folder, impossible)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return BenchmarkStore().load()


def test_rows_are_accepted_folded_or_rejected_by_source(folder: Path, result: pipeline.Build) -> None:
    for name in collected.FILES:
        ids = pd.read_csv(folder / name, usecols=["row_id", "source"], dtype=str)
        here = result.account[result.account["file"] == name]
        assert sorted(here["row_id"]) == sorted(ids["row_id"])
    fates = result.account["fate"].value_counts()
    counts = {"accepted": len(result.table), "rejected": len(result.quarantine)}
    assert fates.to_dict() == counts | {"folded": result.table["duplicates"].sum()}
    assert set(result.table["row_id"]).isdisjoint(result.quarantine["row_id"])
    assert (result.quarantine["reason"] != "").all()
    assert (result.quarantine["line"] >= 2).all()


def test_what_is_shipped_is_what_the_files_give(result: pipeline.Build, repo_root: Path) -> None:
    shipped = BenchmarkStore(repo_root / "data" / "benchmarks.parquet")
    assert shipped.snapshot()[1] == fingerprint(result.table)
    assert shipped.quarantine().equals(result.quarantine)
    assert (repo_root / "data" / "SOURCES.md").read_text(encoding="utf-8") == account.sources(result.account)


def test_the_table_is_valid_and_names_only_what_the_catalogue_knows(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(STORED)
    assert measurements.faults(table) == {}
    assert set(table["gpu"]) <= set(catalogue.gpus())
    assert set(table["model"]) <= set(catalogue.models())


def test_layouts_multiply_to_the_number_of_gpus(table: pd.DataFrame) -> None:
    together = table[(table["disagg"] == 0) & table["tp"].notna()]
    assert (together["tp"] * together["pp"] * together["replicas"] == together["num_gpus"]).all()
    assert ((table["tp"] % table["dp"] == 0) | table["tp"].isna()).all()
    pools = table["prefill_gpus"] + table["decode_gpus"]
    assert (pools.isna() | (pools == table["num_gpus"]))[table["disagg"] == 1].all()
    for pool in ("prefill", "decode"):
        counted, gpus = table[f"{pool}_tp"] * table[f"{pool}_workers"], table[f"{pool}_gpus"]
        assert (counted.isna() | gpus.isna() | (counted == gpus)).all()


def test_closed_loops_obey_little_s_law(table: pd.DataFrame) -> None:
    ratio = checks.residence_ratio(table)[(table["mode"] == "closed-loop") & table["ttft_ms"].notna()]
    assert ratio.dropna().between(1 / checks.LITTLE, checks.LITTLE).all()
    runs = table["source"].isin(["inferencex-app-fixtures", "inferencemax-official-2025-11", "rocm-atom-ci"])
    assert ratio[runs.reindex(ratio.index)].median() == pytest.approx(1.03, abs=0.02)


def test_the_judge_s_reason_is_the_row_s(folder: Path) -> None:
    def judge(rows: pd.DataFrame) -> pd.Series:
        return pd.Series("too fast", index=rows.index).where(rows["tpot_ms"] < 10.0, "")

    assert (pipeline.checked(folder, judge)["faults"].map(text) == "too fast").sum() > 1000


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRows, match=r"inferencex\.csv"):
        collected.read(tmp_path)
    (tmp_path / "inferencex.csv").write_text("row_id,source\n1,2\n", encoding="utf-8")
    with pytest.raises(BadRows, match="missing column"):
        collected.read(tmp_path)


def test_a_model_entered_since_moves_no_row_to_another_configuration() -> None:
    few = BenchmarkStore().load().query("model == 'qwen2.5-72b'")
    before = config_group(few)
    known = catalogue.model("qwen2.5-72b")
    catalogue.add_model(replace(known, name="a-model-of-that-shape", aliases=(), hf_id=""))
    assert config_group(few).equals(before)
