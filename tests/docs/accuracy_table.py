"""The README's table of errors, of docs/accuracy.json."""

from __future__ import annotations

import json
from pathlib import Path

METRICS = {"tpot_ms": "TPOT", "ttft_ms": "TTFT", "output_tok_s": "throughput"}
UNSEEN = {
    "configuration": "configuration",
    "family": "GPU × model × engine",
    "platform": "GPU",
    "model": "model",
    "source": "source of measurements",
}
REFERENCES = ("baseline", "pure_ml", "neighbour")


def table(report: Path) -> str:
    """Return the median errors by what training never saw, with the coverage of the intervals."""
    text = report.read_text(encoding="utf-8")
    found = {(e["protocol"], e["metric"]): e for e in json.loads(text)["overall"]}
    heads = [f"{name}, {found['source', metric]['rows']:,} rows" for metric, name in METRICS.items()]
    lines = ["| never seen | " + " | ".join(heads) + " | covered |", "|---" * 5 + "|"]
    for protocol, words in UNSEEN.items():
        cells, covered = [words], []
        for metric in METRICS:
            figures = found[protocol, metric]
            others = ", ".join(f"{figures[f'{name}_median_ape']:.1f}" for name in REFERENCES)
            cells.append(f"**{figures['blend_median_ape']:.1f}** ({others})")
            covered.append(round(100 * figures["coverage"]))
        cells.append(f"{min(covered)} to {max(covered)}" if min(covered) < max(covered) else str(covered[0]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
