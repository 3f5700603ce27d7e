"""The accuracy report says what the scores frame says, in JSON and on one page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofcast.training import report

Written = tuple[str, dict[str, object]]
META = {"table_fingerprint": "f00d", "rows": 400, "seconds": 12.5}


@pytest.fixture(scope="module")
def written(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Written:
    page, plain = report.write_report(report.accuracy(scores, META), tmp_path_factory.mktemp("docs"))
    assert sorted(path.name for path in page.parent.iterdir()) == ["accuracy.json", "accuracy.md"]
    return page.read_text(), json.loads(plain.read_text())


def _row(page: str, *cells: str) -> list[str]:
    """Return the cells of the first table row that begins with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    return next(row for row in rows if row[: len(cells)] == list(cells))


def test_the_page_is_made_from_the_json_alone_with_errors_beside_the_references(written: Written) -> None:
    page, figures = written
    assert report.render(figures) == page
    assert "table fingerprint f00d" in page
    row = next(r for r in figures["overall"] if (r["protocol"], r["metric"]) == ("platform", "ttft_ms"))
    shown = [f"{row[name]:.1f}" for name in ("blend_median_ape", "blend_p90_ape", "target")]
    assert _row(page, "platform", "TTFT", "400")[3:6] == shown


def test_targets_are_judged_by_the_error_and_the_worst_thirty_listed_where_one_is_missed(
    written: Written,
) -> None:
    figures = written[1]
    met = {(row["protocol"], row["metric"]): row["met"] for row in figures["overall"]}
    assert {key for key in met if met[key]} == {("configuration", "tpot_ms"), ("platform", "tpot_ms")}
    listed = {(entry["protocol"], entry["metric"]): len(entry["rows"]) for entry in figures["worst"]}
    assert listed == {key: 30 for key in met if not met[key]}


def test_coverage_out_of_bounds_is_bold(scores: pd.DataFrame) -> None:
    narrow = scores.assign(blend_lo=scores["blend"], blend_hi=scores["blend"])
    page = report.render(report.accuracy(narrow, META))
    assert "**0.0**" in _row(page, "configuration", "TPOT")


def test_the_own_ground_counts_the_rows_it_names(scores: pd.DataFrame) -> None:
    figures = report.accuracy(scores, META)["own_ground"]
    offline = [row for row in figures if row["ground"].startswith("offline")]
    dense = scores["model"].isin(["llama-3.1-8b", "qwen2.5-72b"]) & (scores["engine"] == "trtllm")
    here = dense & (scores["mode"] == "offline") & (scores["metric"] == "output_tok_s")
    assert sum(row["rows"] for row in offline) == here.sum()


def test_rows_without_an_answer_are_counted_not_hidden(scores: pd.DataFrame) -> None:
    blank = scores.assign(blend=scores["blend"].where(scores["row_id"] != "r7", np.nan))
    figures = report.accuracy(blank, META)
    assert {(row["rows"], row["unanswered"]) for row in figures["overall"]} == {(399, 1)}
    assert "8 measured figures were left without a prediction" in report.render(figures).replace("\n", " ")


def test_the_same_scores_give_the_same_report(scores: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = scores.sample(frac=1.0, random_state=0)
    once, again = (
        [path.read_bytes() for path in report.write_report(report.accuracy(rows, META), tmp_path / name)]
        for name, rows in (("a", scores), ("b", shuffled))
    )
    assert once == again


def test_plots_are_small_and_repeatable(scores: pd.DataFrame, tmp_path: Path) -> None:
    for draw in (report.draw_predictions, report.draw_residuals):
        once = draw(scores, tmp_path / "a.png")
        again = draw(scores, tmp_path / "b" / "b.png", "configuration")
        assert once.read_bytes() == again.read_bytes()
        assert 5_000 < once.stat().st_size < 150_000


def test_the_documents_page_is_that_of_its_figures_and_short(repo_root: Path) -> None:
    text = report.render(json.loads((repo_root / "docs" / "accuracy.json").read_text("utf-8")))
    assert (repo_root / "docs" / "accuracy.md").read_text("utf-8") == text
    assert len(text.split()) <= 4000
