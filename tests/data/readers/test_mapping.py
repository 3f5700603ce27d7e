"""A plain CSV is read through its mapping; wrong cells and wrong mappings say what is wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from roofcast.data.errors import BadRequest, BadRows
from roofcast.data.store import BenchmarkStore

from .conftest import TakeIn, fates, only_row


def mapped(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "map.toml"
    path.write_text(text)
    return path


def test_a_plain_csv_is_read_through_its_mapping(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    said = {"date": "2026-07-01", "weight_precision": "bf16"}
    how = {"name": "t.csv", "mapping": mapped(tmp_path, build.MAPPING)}
    assert take_in(build.plain_csv(), said, **how).counts["accepted"] == 1
    row = only_row(store)
    assert row["output_tok_s"] == pytest.approx(build.OUTPUT_TOK_S)
    assert (row["ttft_ms"], row["ttft_mean_ms"], row["tpot_ms"]) == (58.0, 60.0, 8.9)


def test_a_date_and_a_truth_of_the_mapping_hold_for_every_row(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    text = build.MAPPING.replace("[values]", "[values]\ndate = 2026-07-01\ndisagg = false")
    assert "[values]" in text
    how = {"name": "t.csv", "mapping": mapped(tmp_path, text)}
    assert take_in(build.plain_csv(), {"weight_precision": "bf16"}, **how).counts["accepted"] == 1
    assert (only_row(store)["date"], only_row(store)["disagg"]) == ("2026-07-01", 0.0)


def test_a_csv_with_our_names_needs_no_mapping(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    text = (
        f"model,gpu,isl,osl,concurrency,output_tput,mode\n{build.MODEL},h100-sxm,1024,256,8,869,closed-loop\n"
    )
    assert take_in(text, name="t.csv").counts["accepted"] == 1
    assert len(store.load()) == 1


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("h100-sxm", "=HYPERLINK(1)", "looks like a formula"),
        ("0.058", "=1+1", "'=1+1' is no number"),
        (",8,", ",8,9,", "more or fewer cells"),
        (",256,", ",2_56,", "'2_56' is no number"),
        ("h100-sxm", "h1000", "unknown gpu 'h1000'"),
        ("0.058", "58", "as if"),
    ],
)
def test_a_wrong_cell_puts_its_row_into_quarantine(
    old: str, new: str, reason: str, build: SimpleNamespace, take_in: TakeIn, tmp_path: Path
) -> None:
    how = {"name": "t.csv", "mapping": mapped(tmp_path, build.MAPPING)}
    text = build.plain_csv().replace(old, new)
    if reason == "as if":
        text = text.replace("0.060", "60").replace("8.9,9.0", "8900,9000")
    report = take_in(text, {"date": "2026-07-01", "weight_precision": "bf16"}, **how)
    ((fate, why),) = fates(report)
    assert (fate, reason in why) == ("quarantined", True), why
    assert report.files[0].rows[0].line == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("columns = 1", "tables"),
        ('[columns]\nmodell = "Model"', "model"),
        ('[columns]\nttft_p50_ms = { column = "TTFT (s)", unit = "days" }', "unit"),
    ],
)
def test_a_wrong_mapping_is_told_apart(text: str, words: str, tmp_path: Path, take_in: TakeIn) -> None:
    with pytest.raises(BadRequest, match=words):
        take_in("a,b\n", {}, mapping=mapped(tmp_path, text))


def test_a_mapping_that_is_no_toml_is_named(tmp_path: Path, take_in: TakeIn) -> None:
    with pytest.raises(BadRows, match=r"map\.toml"):
        take_in("a,b\n", {}, mapping=mapped(tmp_path, "[columns"))


def test_a_mapped_column_that_is_not_there_is_named(
    build: SimpleNamespace, tmp_path: Path, take_in: TakeIn
) -> None:
    report = take_in("Model,x\na,b\n", {}, name="t.csv", mapping=mapped(tmp_path, build.MAPPING))
    assert "no column 'In'" in report.files[0].problem
