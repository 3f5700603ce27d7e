"""One run as every tool reports it (one_run/, from the tools' documented formats), and what reads it.

The run: llama-3.1-8b in bf16 on one H100 under vLLM, 8 requests in flight, 1024 tokens in and 256 out. Mean
TTFT 60 ms and TPOT 9 ms keep a request 60 + 255 x 9 = 2355 ms, so that 8 / 2.355 = 3.397 requests/s come out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roofcast.data.ingest import IngestReport, ingest, settled
from roofcast.data.readers import recognise
from roofcast.data.readers.answers import answered
from roofcast.data.store import BenchmarkStore

TakeIn = Callable[..., IngestReport]
ReadRows = Callable[..., list[dict[str, Any]]]
Changes = Mapping[str, Any]

ONE_RUN = Path(__file__).parent / "one_run"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
REQUESTS_S = 8 / 2.355
OUTPUT_TOK_S = 256 * REQUESTS_S
TOTAL_TOK_S = 1280 * REQUESTS_S
ANSWERS = {"gpu": "h100-sxm", "tp": 1, "engine": "vllm", "weight_precision": "bf16", "date": "2026-07-01"}
FILES = {path.stem + path.suffix.replace(".json", ""): path for path in sorted(ONE_RUN.iterdir())}


def sample(tool: str, changes: Changes | None = None, **more: Any) -> str:
    """The tool's file with changes: values by dotted paths of a JSON document, or texts replaced."""
    text = FILES[tool].read_text(encoding="utf-8")
    changed = {**(changes or {}), **more}
    if FILES[tool].suffix != ".json":
        for old, new in changed.items():
            assert old in text
            text = text.replace(old, new)
        return text
    document = json.loads(text)
    for path, value in changed.items():
        *groups, name = path.split(".")
        inner = document
        for group in groups:
            inner = inner[int(group)] if isinstance(inner, list) else inner[group]
        inner[name] = value
    return json.dumps(document)


def without(name: str) -> dict[str, Any]:
    return {other: value for other, value in ANSWERS.items() if other != name}


def only_row(store: BenchmarkStore) -> dict[str, Any]:
    (row,) = store.load().to_dict("records")
    return row


def only_report(report: IngestReport) -> tuple[str, str]:
    """What became of the one row of a report, and why."""
    ((row,),) = (file.rows for file in report.files)
    return row.fate, row.reason


@pytest.fixture
def store(tmp_path: Path) -> BenchmarkStore:
    named = ["row_id", "source", "gpu", "model", "engine", "mode", "num_gpus", "osl"]
    return BenchmarkStore.create(tmp_path / "mine.parquet", pd.DataFrame(columns=named))


@pytest.fixture
def take_in(store: BenchmarkStore, tmp_path: Path) -> TakeIn:
    """Write a text and ingest it: take_in(text, answers, name="a.json", ...)."""

    def run(text: str, answers: Changes = ANSWERS, name: str = "a.json", **how: Any) -> IngestReport:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return ingest([tmp_path / name], store=store.path, answers=answers, **how)

    return run


@pytest.fixture
def read_rows(tmp_path: Path) -> ReadRows:
    """Read a text up to the store: the rows, `codes` of their faults and `remarks` beside the columns."""

    def run(text: str, answers: Changes = ANSWERS) -> list[dict[str, Any]]:
        (tmp_path / "a").write_text(text, encoding="utf-8")
        reading = recognise.read(tmp_path / "a")
        drafts = [answered(draft, answers, reading.tool) for draft in reading.drafts]
        rows = settled(drafts, "a").to_dict("records")
        for row, draft in zip(rows, drafts, strict=True):
            row["codes"] = [fault.code for fault in row["faults"]]
            row["remarks"] = [remark.code for remark in draft.get("remarks", ())]
        return rows

    return run
