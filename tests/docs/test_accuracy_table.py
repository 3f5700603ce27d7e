"""docs/accuracy.md and the README's table are made from docs/accuracy.json; `--regenerate` rewrites both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from roofcast.training.metrics import NAMES
from roofcast.training.report import render

ROOT = Path(__file__).resolve().parents[2]
TABLE = re.compile(r"(?<=on the same rows\.\n\n)\|.*?\n\n", re.DOTALL)
UNSEEN = {
    "configuration": "this configuration",
    "family": "this GPU × model × engine",
    "platform": "this GPU",
    "model": "this model",
    "source": "this source of measurements",
}
COLUMNS = {"blend": "roofcast", "baseline": "physics alone", "pure_ml": "ML alone", "neighbour": "look-up"}


def _table(errors: list[dict[str, Any]]) -> str:
    heads = ["never seen in training", "", "rows", *COLUMNS.values(), "90 % interval covers"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    by_key = {(e["protocol"], e["metric"]): e for e in errors}
    for protocol, words in UNSEEN.items():
        for metric, name in NAMES.items():
            figures = by_key[protocol, metric]
            shown = [f"{figures[f'{column}_median_ape']:.1f} %" for column in COLUMNS]
            cells = [words, name, f"{figures['rows']:,}", *shown, f"{100 * figures['coverage']:.0f} %"]
            lines.append("| " + " | ".join(cells) + " |")
            words = ""
    return "\n".join(lines) + "\n\n"


def test_the_readme_shows_the_figures_of_the_accuracy_report(regenerate: bool) -> None:
    report = json.loads((ROOT / "docs/accuracy.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = _table(report["overall"])
    if regenerate:
        (ROOT / "README.md").write_text(TABLE.sub(lambda _: table, readme), encoding="utf-8")
        return
    (shown,) = TABLE.findall(readme)
    assert shown == table


def test_the_accuracy_page_is_that_of_the_figures(regenerate: bool) -> None:
    page = ROOT / "docs/accuracy.md"
    text = render(json.loads((ROOT / "docs/accuracy.json").read_text(encoding="utf-8")))
    if regenerate:
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text
    assert len(text.splitlines()) <= 150
