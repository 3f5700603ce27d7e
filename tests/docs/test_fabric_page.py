"""docs/fabric.md names what the check can say."""

from __future__ import annotations

from pathlib import Path

from roofcast.predictor.fabric import check, report_json
from roofcast.predictor.fabric.findings import FINDINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fabric.md"


def test_the_page_names_every_check_and_every_field_of_the_json(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (tmp_path / "links").write_text("GPU 0: NVIDIA B200 (UUID: GPU-1)\n Link 0: <inactive>\n")
    found = report_json(check([tmp_path]))
    checks = {finding["check"] for finding in FINDINGS.values()} - {"file", "platform"}
    names = [*checks, *found, *found["checks"][0], *found["files"][0]]
    assert not [name for name in names if f"`{name}`" not in text and f"`{name}[]`" not in text]
