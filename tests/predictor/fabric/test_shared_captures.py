"""The collected captures of real machines, where they are at hand, get their index's verdicts."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from roofcast.predictor.fabric import check, report_json

FIVE_CHECKS = {
    "topo": "topology", "ncclinfo": "transport", "nccltests": "collective", "numactl": "numa",
    "nvlink": "link-status",
}  # fmt: skip


def test_the_verdicts_agree_with_the_index_and_each_of_the_five_checks_is_made(shared_root: Path) -> None:
    index = (shared_root / "fabric" / "INDEX.csv").read_text(encoding="utf-8")
    counts: Counter[tuple[str, str]] = Counter()
    for row in csv.DictReader(index.splitlines()):
        report = check([shared_root / "fabric" / row["file"]])
        counts[row["verdict"], report.status] += 1
        wanted = FIVE_CHECKS.get(row["file"].partition("__")[0])
        assert wanted in (None, *(made["check"] for made in report_json(report)["checks"])), row["file"]
    for wanted in ("healthy", "degraded"):
        others = [n for (verdict, _), n in counts.items() if verdict == wanted]
        assert counts[wanted, wanted] >= 0.95 * sum(others) > 0
    assert not counts["degraded", "healthy"]


def test_the_whole_folder_is_called_degraded_and_mixed(shared_root: Path) -> None:
    report = check([shared_root / "fabric"])
    assert (report.status, len(report.gpus) > 1) == ("degraded", True)
