"""The tables of docs/fabric.md, of the collected captures."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from roofcast.data.fabric_parts import gpus_of
from roofcast.features.nccl import predicted_us
from roofcast.predictor import Predictor
from roofcast.predictor.fabric import check
from roofcast.predictor.fabric.capture import Capture, read_paths
from roofcast.predictor.fabric.check import measure

from ..markdown import markdown_table

STATUSES = ("healthy", "degraded", "unknown")
OFF_NVLINK = "nccltests__hgx-h200__degraded__nebius-8gpu-48-p2p-off.txt"
ASKED: dict[str, Any] = {
    "model": "qwen2.5-72b", "gpu": "h200-sxm", "engine": "vllm", "weight_precision": "fp8", "isl": 2048,
    "osl": 512, "concurrency": 32,
}  # fmt: skip
SHOWN = {"tpot_ms": "TPOT [ms]", "ttft_ms": "TTFT [ms]", "output_tok_s": "output [tok/s]"}


def confusion(folder: Path) -> str:
    """Count verdicts by the index's verdict."""
    with (folder / "INDEX.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    counts = Counter((row["verdict"], check([folder / row["file"]]).status) for row in rows)
    table = {wanted: [counts[wanted, status] for status in STATUSES] for wanted in STATUSES}
    share = {wanted: f"{100 * counts[wanted, wanted] / sum(row):.0f} %" for wanted, row in table.items()}
    rows = [[wanted, *map(str, row), share[wanted]] for wanted, row in table.items()]
    return markdown_table(["index says", *STATUSES, "agreement"], rows)


def collectives(folder: Path) -> str:
    """Compare the best rate of each table with a named GPU with the model's."""
    table: dict[str, list[tuple[int, str]]] = {}
    for capture in read_paths([folder]):
        for run in capture.tests.found if isinstance(capture, Capture) else ():
            spec = next((gpu.spec for gpu in gpus_of(run.names).values() if gpu.spec), None)
            if spec and run.measured:
                row = max(run.rows, key=lambda row: row.bus_gb_s)
                share = predicted_us(spec, run.operation, row.bytes, run.size) / row.time_us
                rates = f"{run.size}: {row.bus_gb_s:.0f}/{row.bus_gb_s / share:.0f}"
                table.setdefault(spec.name, []).append((run.size, rates))
    rows = [[name, ", ".join(rates for _, rates in sorted(runs))] for name, runs in sorted(table.items())]
    return markdown_table(["GPU", "ranks: measured/predicted"], rows)


def example(folder: Path) -> str:
    """Predict with and without the fabric of a machine that lost its NVLink."""
    fabric, _ = measure([c for c in read_paths([folder / OFF_NVLINK]) if isinstance(c, Capture)])
    predictor = Predictor.load()
    table = []
    for tp in (1, 8):
        nominal = predictor.predict(tp=tp, num_gpus=tp, **ASKED)
        here = predictor.predict(tp=tp, num_gpus=tp, fabric=fabric, **ASKED)
        for name, words in SHOWN.items():
            healthy, sick = getattr(nominal, name), getattr(here, name)
            table.append([f"TP={tp} {words}", f"{healthy:,.1f}", f"{sick:,.1f}", f"{sick / healthy:.2f}"])
    here = f"bandwidth x {fabric.bandwidth_scale:.2f}"
    return markdown_table(["", "healthy", here, "ratio"], table)
