"""A plain CSV is read through its mapping; wrong cells and wrong mappings say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roofcast.data.errors import BadRequest, BadRows
from roofcast.data.store import BenchmarkStore

from .conftest import FILES, MODEL, OUTPUT_TOK_S, TakeIn, only_report, only_row, sample

BF16 = {"date": "2026-07-01", "weight_precision": "bf16"}


def mapped(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "map.toml").write_text(text)
    return {"name": "t.csv", "mapping": tmp_path / "map.toml"}


def test_a_plain_csv_is_read_through_its_mapping_whose_values_hold_for_every_row(
    store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    text = sample("plain.toml", {"[values]": "[values]\ndate = 2026-07-01\ndisagg = false"})
    report = take_in(sample("plain.csv"), {"weight_precision": "bf16"}, **mapped(tmp_path, text))
    assert only_report(report) == ("accepted", "")
    row = only_row(store)
    figures = {
        "output_tok_s": OUTPUT_TOK_S,
        "ttft_ms": 58.0,
        "ttft_mean_ms": 60.0,
        "tpot_ms": 8.9,
        "disagg": 0,
    }
    assert {name: row[name] for name in figures} == pytest.approx(figures)
    assert (row["date"], row["disagg"]) == ("2026-07-01", 0.0)


def test_figures_may_bear_the_names_of_the_answers(store: BenchmarkStore, take_in: TakeIn) -> None:
    text = (
        "model,gpu,num_gpus,tp,engine,weight_precision,mode,date,isl,osl,concurrency,output_tok_s,ttft_ms,tpot_ms\n"
        "llama-3.1-8b,h100-sxm,1,1,vllm,bf16,closed-loop,2026-07-01,1000,1000,16,2000,80,7.9\n"
    )
    assert only_report(take_in(text, {}, name="own.csv")) == ("accepted", "")
    row = only_row(store)
    assert [row[name] for name in ("output_tok_s", "ttft_ms", "tpot_ms")] == [2000.0, 80.0, 7.9]


def test_a_csv_with_our_names_needs_no_mapping(take_in: TakeIn) -> None:
    header = "model,gpu,isl,osl,concurrency,output_tput,mode"
    report = take_in(f"{header}\n{MODEL},h100-sxm,1024,256,8,869,closed-loop\n", name="t.csv")
    assert only_report(report) == ("accepted", "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"h100-sxm": "=HYPERLINK(1)"}, "gpu: '=HYPERLINK(1)' looks like a formula"),
        ({"0.058": "=1+1"}, "ttft_p50_ms: '=1+1' is no number"),
        ({",8,": ",8,9,"}, "more or fewer cells"),
        ({",256,": ",2_56,"}, "osl: '2_56' is no number"),
        ({"h100-sxm": "h1000"}, "unknown gpu 'h1000'"),
        ({"0.058": "58", "0.060": "60", "8.9,9.0": "8900,9000"}, "as if latencies were in us"),
    ],
)
def test_a_wrong_cell_puts_its_row_into_quarantine_by_line_column_and_value(
    changes: dict[str, str], reason: str, take_in: TakeIn
) -> None:
    report = take_in(sample("plain.csv", changes), BF16, name="t.csv", mapping=FILES["plain.toml"])
    fate, why = only_report(report)
    assert (fate, report.files[0].rows[0].line) == ("quarantined", 2)
    assert reason in why


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("columns = 1", BadRequest, "tables"),
        ('[columns]\nmodell = "Model"', BadRequest, "model"),
        ('[columns]\nttft_p50_ms = { column = "TTFT (s)", unit = "days" }', BadRequest, "unit"),
        ("[columns", BadRows, r"map\.toml"),
    ],
)
def test_a_wrong_mapping_is_named(
    text: str, error: type[Exception], match: str, tmp_path: Path, take_in: TakeIn
) -> None:
    with pytest.raises(error, match=match):
        take_in("a,b\n", {}, **mapped(tmp_path, text))


def test_a_mapped_column_that_is_not_there_is_named(take_in: TakeIn) -> None:
    report = take_in("Model,x\na,b\n", {}, name="t.csv", mapping=FILES["plain.toml"])
    assert "no column 'In'" in report.files[0].problem
