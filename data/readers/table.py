"""A plain CSV file, a row per measured point, with a TOML file that says what its columns are.

    [columns]
    model = "Model"
    ttft_ms = { column = "TTFT (s)", unit = "s" }
    output_tok_s = { column = "tok/s/GPU", unit = "per_gpu" }

    [values]
    engine = "vllm"

Under [columns] stand our names, as in docs/ingest.md, and theirs; under [values] what holds for every row.
Without a mapping the columns must bear our names.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from ..errors import BadRequest, BadRows, nearest_names
from ..rows.draft import NUMERIC, TEXTUAL
from .base import Draft, Lines, Record, Rows, fill, plain, refuse

# Unit to the factor of our own: ms, tokens/s, W, shares. per_gpu multiplies by the row's num_gpus.
UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "k": 1e3, "percent": 1e-2, "per_gpu": 1.0}
# What answers and the stored table call a figure, to what it is on its way there.
ANSWERED = {
    "output_tok_s": "output_tput", "total_tok_s": "total_tput", "request_s": "req_tput",
    "ttft_ms": "ttft_p50_ms", "tpot_ms": "tpot_p50_ms", "e2e_ms": "e2e_mean_ms",
}  # fmt: skip
COLUMNS = (NUMERIC | TEXTUAL | ANSWERED.keys()) - {"row_id", "length_scale", "weight", "kind"}
MEASURED = frozenset(name for name in COLUMNS if name.endswith(("tput", "_ms")) or name in ANSWERED)
_FORMULA = re.compile(r"[=+@\t]|-(?![\d.])")


class Mapped(NamedTuple):
    """What a mapping holds: our column to (theirs, unit), and the values of every row."""

    columns: Mapping[str, tuple[str, str]]
    values: Mapping[str, object]


def mapping(path: Path) -> Mapped:
    """Read a mapping file. Raises BadRows where it is no TOML, BadRequest for an unknown name or unit."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, f"not a mapping in TOML: {error}")]) from None
    strange = set(given) - {"columns", "values"}
    if strange or not isinstance(given.get("columns"), dict) or not isinstance(given.get("values", {}), dict):
        raise BadRequest("mapping", ", ".join(sorted(strange)) or str(path), "tables [columns] and [values]")
    for name in (*given["columns"], *given.get("values", {})):
        if name not in COLUMNS:
            near = ", ".join(nearest_names(name, COLUMNS)) or "isl"
            raise BadRequest("mapping", name, f"one of our columns, such as {near}")
    values = {
        name: int(value) if isinstance(value, bool) else str(value) if isinstance(value, date) else value
        for name, value in given.get("values", {}).items()
    }
    columns = {ANSWERED.get(name, name): _theirs(name, value) for name, value in given["columns"].items()}
    return Mapped(columns, values)


def _theirs(name: str, value: object) -> tuple[str, str]:
    cell = {"column": value} if isinstance(value, str) else value if isinstance(value, dict) else {}
    column, unit = cell.get("column"), cell.get("unit", "")
    if not isinstance(column, str) or (unit not in [*UNITS] and "unit" in cell):
        allowed = f"a column, or {{column, unit}} with a unit of {', '.join(UNITS)}"
        raise BadRequest(f"mapping of {name}", value, allowed)
    return column, unit


def knows_text(head: str) -> bool:
    """Whether a text's header bears our column names: the model and a figure at least."""
    names = set(next(csv.reader(head.splitlines()[:1]), []))
    return "model" in names and bool(names & MEASURED)


def text_rows(lines: Lines, mapped: Mapped | None = None) -> Rows:
    """Yield a row for each line of the table. Raises BadRows where a mapped column is missing."""
    stream = iter(lines)
    _, first = next(stream, (1, ""))
    header = [name.strip() for name in next(csv.reader([first]), [])]
    own = {ANSWERED.get(name, name): (name, "") for name in header if name in COLUMNS}
    mapped = mapped or Mapped(own, {})
    missing = sorted({theirs for theirs, _ in mapped.columns.values()} - set(header))
    if missing:
        there = ", ".join(header)[:200]
        raise BadRows("table", [(1, f"no column '{name}'; there are {there}") for name in missing])
    for line_number, line in stream:
        cells = next(csv.reader([line]), [])
        if cells:
            draft = _draft(dict(zip(header, cells, strict=False)), mapped)
            if len(cells) != len(header):
                refuse(draft, "cells")
            yield line_number, draft


def _draft(cells: dict[str, str], mapped: Mapped) -> Draft:
    record: Record = {ours: cells.get(theirs, "").strip() for ours, (theirs, _) in mapped.columns.items()}
    record |= {name: value for name, value in mapped.values.items() if record.get(name, "") == ""}
    units = {ours: unit for ours, (_, unit) in mapped.columns.items()}
    draft: Draft = {}
    fill(draft, record, {name: (name, UNITS.get(units.get(name, ""), 1.0)) for name in record})
    for name in record.keys() & TEXTUAL:
        if _FORMULA.match(plain(record[name])):
            refuse(draft, "formula", column=name, value=plain(record[name], 30))
    # A month or a year is a date here, and an engine may be one that prints no name of its own.
    draft["date"] = plain(record.get("date"))
    draft["engine"] = draft.get("engine") or plain(record.get("engine")).lower()
    draft["model_raw"] = draft.get("model_raw", draft.get("model", ""))
    for name in [name for name, unit in units.items() if unit == "per_gpu" and name in draft]:
        draft[name] *= draft.get("num_gpus", math.nan)
    return draft
