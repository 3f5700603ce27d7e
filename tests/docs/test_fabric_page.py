"""The fabric page's tables come from the collected captures; `--regenerate` rewrites them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from roofcast.data.fabric_parts import gpu_of
from roofcast.features.nccl import predicted_us
from roofcast.predictor import Predictor
from roofcast.predictor.fabric import check, report_json
from roofcast.predictor.fabric.capture import Capture, read_paths
from roofcast.predictor.fabric.check import measure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fabric.md"
STATUSES = ("healthy", "degraded", "unknown")
OFF_NVLINK = "nccltests__hgx-h200__degraded__nebius-8gpu-48-p2p-off.txt"
ASKED: dict[str, Any] = {
    "model": "qwen2.5-72b", "gpu": "h200-sxm", "engine": "vllm", "weight_precision": "fp8", "isl": 2048,
    "osl": 512, "concurrency": 32,
}  # fmt: skip
SHOWN = {"tpot_ms": "TPOT [ms]", "ttft_ms": "TTFT [ms]", "output_tok_s": "output [tok/s]"}


@pytest.fixture(scope="module")
def folder(shared_root: Path) -> Path:
    path = shared_root / "fabric"
    if not path.is_dir():
        pytest.skip(f"no captures at {path}")
    return path


def _lines(*rows: list[str]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, *body)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def confusion(folder: Path) -> str:
    """Count verdicts by the index's verdict."""
    with (folder / "INDEX.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    counts = Counter((row["verdict"], check([folder / row["file"]]).status) for row in rows)
    table = [
        [wanted, *(str(counts[wanted, status]) for status in STATUSES),
         f"{100 * counts[wanted, wanted] / sum(counts[wanted, s] for s in STATUSES):.0f} %"]
        for wanted in STATUSES
    ]  # fmt: skip
    return _lines(["index says", *(f"roofcast says {s}" for s in STATUSES), "agreement"], *table)


def collectives(folder: Path) -> str:
    """Compare the best rate of each table with a named GPU with the model's."""
    table = []
    for path in sorted(folder.glob("nccltests__*.txt")):
        (capture,) = read_paths([path])
        for run in capture.tests.found if isinstance(capture, Capture) else ():
            part = next((p for name in sorted(run.names) if (p := gpu_of(name)) and p.spec), None)
            if not part or not part.spec or not run.rows or run.size < 2:
                continue
            row = max(run.rows, key=lambda row: row.bus_gb_s)
            time = predicted_us(part.spec, run.operation, row.bytes, run.size)
            cells = [part.spec.name, str(run.size), run.operation, f"{row.bytes >> 20:,} MiB"]
            share = time / row.time_us
            table.append(
                [
                    *cells,
                    f"{row.bus_gb_s:.0f}",
                    f"{row.bus_gb_s / share:.0f}",
                    f"{share:.2f}",
                    check([path]).status,
                ]
            )
    head = ["GPU", "ranks", "operation", "message", "measured [GB/s]", "predicted [GB/s]", "ratio", "verdict"]
    return _lines(head, *sorted(table, key=lambda cells: (cells[0], int(cells[1]), cells[4])))


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
            table.append([f"TP={tp}", words, f"{healthy:,.1f}", f"{sick:,.1f}", f"{sick / healthy:.2f}"])
    head = [
        "layout",
        "",
        "healthy platform",
        f"this machine (bandwidth x {fabric.bandwidth_scale:.2f})",
        "ratio",
    ]
    return _lines(head, *table)


@pytest.mark.parametrize("make", [confusion, collectives, example], ids=lambda make: make.__name__)
def test_the_page_shows_what_the_captures_give(make: Any, folder: Path, regenerate: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    opening = f"<!-- {make.__name__} -->\n"
    before, rest = text.split(opening)
    shown, after = rest.split("<!-- end -->", 1)
    made = f"\n{make(folder)}\n"
    if regenerate:
        PAGE.write_text(f"{before}{opening}{made}<!-- end -->{after}", encoding="utf-8")
    else:
        assert shown == made


def test_the_page_names_every_check_and_every_field_of_the_json(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    checks = (
        "topology",
        "transport",
        "collective",
        "numa",
        "link-status",
        "link-errors",
        "fabric-state",
    )
    assert all(f"`{check}`" in text for check in (*checks, "driver"))
    (tmp_path / "links").write_text("GPU 0: NVIDIA B200 (UUID: GPU-1)\n Link 0: <inactive>\n")
    found = report_json(check([tmp_path]))
    assert all(f"`{name}`" in text or f"`{name}[]`" in text for name in found)
    assert all(f"`{name}`" in text or f"`{name}[]`" in text for name in found["checks"][0])
    assert all(f"`{name}`" in text for name in found["files"][0])
