"""The collected captures of real machines, where they are at hand, get their index's verdicts."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from roofcast.predictor.fabric import check, report_json

AGREEMENT = 0.95
FIVE_CHECKS = {
    "topo__": "topology",
    "ncclinfo__": "transport",
    "nccltests__": "collective",
    "numactl__": "numa",
    "nvlink__": "link-status",
}


@pytest.fixture(scope="module")
def judged(shared_root: Path) -> list[tuple[dict[str, str], str, set[str]]]:
    """Index row, verdict and the names of the checks of each capture."""
    folder = shared_root / "fabric"
    if not folder.is_dir():
        pytest.skip(f"no captures at {folder}")
    with (folder / "INDEX.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    verdicts = [check([folder / row["file"]]) for row in rows]
    return [
        (row, v.status, {c["check"] for c in report_json(v)["checks"]})
        for row, v in zip(rows, verdicts, strict=True)
    ]


def test_healthy_and_degraded_captures_agree_with_the_index(
    judged: list[tuple[dict[str, str], str, set[str]]],
) -> None:
    for wanted in ("healthy", "degraded"):
        counts = Counter(status for row, status, _ in judged if row["verdict"] == wanted)
        assert counts[wanted] >= AGREEMENT * counts.total(), counts


def test_a_degraded_capture_is_never_called_healthy(
    judged: list[tuple[dict[str, str], str, set[str]]],
) -> None:
    wrong = [row["file"] for row, status, _ in judged if (row["verdict"], status) == ("degraded", "healthy")]
    assert not wrong


@pytest.mark.parametrize(("prefix", "name"), FIVE_CHECKS.items())
def test_each_of_the_five_checks_is_made_of_its_captures(
    prefix: str, name: str, judged: list[tuple[dict[str, str], str, set[str]]]
) -> None:
    made = [checks for row, _, checks in judged if row["file"].startswith(prefix)]
    assert made
    assert all(name in checks for checks in made)


def test_the_whole_folder_is_called_degraded_and_mixed(shared_root: Path) -> None:
    if not (shared_root / "fabric").is_dir():
        pytest.skip("no captures")
    verdict = check([shared_root / "fabric"])
    assert verdict.status == "degraded"
    assert len(verdict.gpus) > 1
