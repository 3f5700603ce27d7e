"""The collected captures of real machines, where they are at hand, get their index's verdicts."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from roofcast.predictor.fabric import Report, check, report_json

AGREEMENT = 0.95
FIVE_CHECKS = {
    "topo__": "topology", "ncclinfo__": "transport", "nccltests__": "collective", "numactl__": "numa",
    "nvlink__": "link-status",
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(shared_root: Path) -> dict[str, tuple[str, Report]]:
    """The index's verdict and the report of each capture, by file."""
    folder = shared_root / "fabric"
    if not folder.is_dir():
        pytest.skip(f"no captures at {folder}")
    with (folder / "INDEX.csv").open(newline="", encoding="utf-8") as stream:
        return {
            row["file"]: (row["verdict"], check([folder / row["file"]])) for row in csv.DictReader(stream)
        }


def test_the_verdicts_agree_with_the_index(judged: dict[str, tuple[str, Report]]) -> None:
    counts = Counter((wanted, report.status) for wanted, report in judged.values())
    for wanted in ("healthy", "degraded"):
        assert counts[wanted, wanted] >= AGREEMENT * sum(
            counts[wanted, s] for s in ("healthy", "degraded", "unknown")
        )
    assert not counts["degraded", "healthy"]


@pytest.mark.parametrize(("prefix", "name"), FIVE_CHECKS.items())
def test_each_of_the_five_checks_is_made_of_its_captures(
    prefix: str, name: str, judged: dict[str, tuple[str, Report]]
) -> None:
    reports = [report_json(report) for file, (_, report) in judged.items() if file.startswith(prefix)]
    assert reports
    assert all(name in [made["check"] for made in report["checks"]] for report in reports)


def test_the_whole_folder_is_called_degraded_and_mixed(judged: object, shared_root: Path) -> None:
    report = check([shared_root / "fabric"])
    assert report.status == "degraded"
    assert len(report.gpus) > 1
