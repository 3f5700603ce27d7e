"""The accuracy report says what the scores frame says, in JSON and in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofcast.training import plots, report
from roofcast.training.report_markdown import markdown_table

META = {"table_fingerprint": "f00d", "rows": 400, "seconds": 12.5}


@pytest.fixture(scope="module")
def written(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    studies = {"platform": "Most of them queue."}
    markdown, plain = report.write_report(
        report.accuracy(scores, META), tmp_path_factory.mktemp("docs"), studies
    )
    assert sorted(path.name for path in markdown.parent.iterdir()) == ["accuracy.json", "accuracy.md"]
    return markdown.read_text(), json.loads(plain.read_text())


def test_every_section_is_there(written: tuple[str, dict[str, object]]) -> None:
    text, _ = written
    for title in (
        "Targets",
        "Beside the references",
        "Interval coverage",
        "Slices",
        "Where a target is missed",
    ):
        assert f"\n## {title}" in text
    assert "- table fingerprint: f00d" in text


def test_targets_are_judged_by_the_measured_error(written: tuple[str, dict[str, object]]) -> None:
    verdict = {(row["protocol"], row["metric"]): row["met"] for row in written[1]["targets"]}
    assert verdict == {
        ("configuration", "tpot_ms"): True, ("configuration", "ttft_ms"): False,
        ("configuration", "output_tok_s"): False, ("platform", "tpot_ms"): True,
        ("platform", "ttft_ms"): False, ("platform", "output_tok_s"): False,
    }  # fmt: skip


def test_the_worst_thirty_are_listed_where_a_target_was_missed(
    written: tuple[str, dict[str, object]],
) -> None:
    text, figures = written
    listed = {(entry["protocol"], entry["metric"]): len(entry["rows"]) for entry in figures["worst"]}
    assert set(listed) == {(p, m) for p in ("configuration", "platform") for m in ("ttft_ms", "output_tok_s")}
    assert set(listed.values()) == {30}
    assert "Most of them queue." in text


def test_coverage_out_of_bounds_is_bold(scores: pd.DataFrame, tmp_path: Path) -> None:
    narrow = scores.assign(blend_lo=scores["blend"], blend_hi=scores["blend"])
    markdown, _ = report.write_report(report.accuracy(narrow, META), tmp_path)
    assert "| configuration | TPOT | **0.0** | **0.0** |" in markdown.read_text()


def test_the_own_ground_counts_the_rows_it_names(scores: pd.DataFrame) -> None:
    figures = report.accuracy(scores, META)["own_ground"]
    offline = [row for row in figures if row["ground"].startswith("offline")]
    dense = scores["model"].isin(["llama-3.1-8b", "qwen2.5-72b"]) & (scores["engine"] == "trtllm")
    here = dense & (scores["mode"] == "offline") & (scores["metric"] == "output_tok_s")
    assert sum(row["rows"] for row in offline) == here.sum()


def test_rows_without_an_answer_are_counted_not_hidden(scores: pd.DataFrame, tmp_path: Path) -> None:
    blank = scores.assign(blend=scores["blend"].where(scores["row_id"] != "r7", np.nan))
    overall = report.accuracy(blank, META)["overall"]
    assert {(row["rows"], row["unanswered"]) for row in overall} == {(399, 1)}


def test_the_same_scores_give_the_same_report(scores: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = scores.sample(frac=1.0, random_state=0)
    once, again = (
        [path.read_bytes() for path in report.write_report(report.accuracy(rows, META), tmp_path / name)]
        for name, rows in (("a", scores), ("b", shuffled))
    )
    assert once == again


def test_a_table_keeps_its_columns_whatever_the_text() -> None:
    lines = markdown_table(["a", "b"], [["x|y", None], [True, 0.12345], [float("nan"), 12_345]]).splitlines()
    assert lines[2:] == ["| x\\|y | - |", "| True | 0.123 |", "| - | 12,345 |"]


def test_plots_are_small_and_repeatable(scores: pd.DataFrame, tmp_path: Path) -> None:
    for draw in (plots.predicted_against_measured, plots.residuals):
        once, again = (
            draw(scores, tmp_path / "a.png"),
            draw(scores, tmp_path / "b" / "b.png", "configuration"),
        )
        assert once.read_bytes() == again.read_bytes()
        assert 5_000 < once.stat().st_size < 150_000
