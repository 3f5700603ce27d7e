"""A plain CSV file, a row per measured point, with a TOML file that says what its columns are.

    [columns]
    model = "Model"
    ttft_p50_ms = { column = "TTFT (s)", unit = "s" }
    output_tput = { column = "tok/s/GPU", unit = "per_gpu" }

    [values]
    engine = "vllm"

Under [columns] stand our names, as in docs/ingest.md, and theirs; under [values] what holds for every row.
Without a mapping the columns must bear our names.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import BadRequest, BadRows, nearest_names
from .draft import NUMERIC, TEXTUAL, Draft, Fields, engine, gpu, plain, precision, refuse, take

# Unit to the factor of our own: ms, tokens/s, W, shares. per_gpu multiplies by the row's num_gpus.
UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "k": 1e3, "percent": 1e-2, "per_gpu": 1.0}
COLUMNS = (NUMERIC | TEXTUAL) - {"row_id", "reject", "remark", "length_scale", "weight", "kind"}
MEASURED = frozenset(name for name in NUMERIC if name.endswith(("tput", "_ms")))
_FORMULA = re.compile(r"[=+@\t]|-(?![\d.])")
_AS_NAMED: dict[str, Callable[[str], str]] = {
    "gpu": gpu,
    "engine": lambda text: engine(text) or text.lower(),
    "weight_precision": precision,
    "kv_precision": precision,
}


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """What a mapping says: our column to (theirs, unit), and the values of every row."""

    columns: Mapping[str, tuple[str, str]]
    values: Mapping[str, object] = field(default_factory=dict)


def mapping(path: Path) -> Mapped:
    """Read a mapping file. Raises BadRows where it is no TOML, BadRequest for an unknown name or unit."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, f"not a mapping in TOML: {error}")]) from None
    strange = set(given) - {"columns", "values"}
    if strange or not isinstance(given.get("columns"), dict) or not isinstance(given.get("values", {}), dict):
        raise BadRequest("mapping", ", ".join(sorted(strange)) or str(path), "tables [columns] and [values]")
    columns = {_ours(name): _theirs(name, said) for name, said in given["columns"].items()}
    values = {_ours(name): _as_text(said) for name, said in given.get("values", {}).items()}
    return Mapped(columns=columns, values=values)


def _as_text(said: object) -> object:
    """Return a date or a truth value of the mapping as a cell would hold it."""
    if isinstance(said, bool):
        return int(said)
    return said.isoformat()[:10] if isinstance(said, date) else said


def _ours(name: str) -> str:
    if name not in COLUMNS:
        raise BadRequest(
            "mapping", name, f"one of our columns, such as {', '.join(nearest_names(name, COLUMNS)) or 'isl'}"
        )
    return name


def _theirs(name: str, said: object) -> tuple[str, str]:
    if isinstance(said, str):
        return said, ""
    if isinstance(said, dict) and isinstance(said.get("column"), str) and said.get("unit", "ms") in [*UNITS]:
        return said["column"], said.get("unit", "")
    raise BadRequest(
        f"mapping of {name}", said, f"a column, or {{column, unit}} with a unit of {', '.join(UNITS)}"
    )


def knows_text(head: str) -> bool:
    """Whether a text's header bears our column names: the model and a figure at least."""
    names = set(next(csv.reader(head.splitlines()[:1]), []))
    return "model" in names and bool(names & MEASURED)


def text_rows(lines: Iterable[tuple[int, str]], mapped: Mapped | None = None) -> Iterator[tuple[int, Draft]]:
    """Yield a row for each line of the table. Raises BadRows where a mapped column is missing."""
    stream = iter(lines)
    _, first = next(stream, (1, ""))
    header = [name.strip() for name in next(csv.reader([first]), [])]
    mapped = mapped or Mapped(columns={name: (name, "") for name in header if name in COLUMNS})
    missing = sorted({theirs for theirs, _ in mapped.columns.values()} - set(header))
    if missing:
        raise BadRows(
            "table", [(1, f"no column '{name}'; there are {', '.join(header)[:200]}") for name in missing]
        )
    for number, line in stream:
        cells = next(csv.reader([line]), [])
        if cells:
            yield number, _draft(dict(zip(header, cells, strict=False)), mapped, len(cells) == len(header))


def _draft(cells: dict[str, str], mapped: Mapped, whole: bool) -> Draft:
    record: dict[str, Any] = {
        ours: cells.get(theirs, "").strip() for ours, (theirs, _) in mapped.columns.items()
    }
    record |= {name: value for name, value in mapped.values.items() if record.get(name, "") == ""}
    draft: Draft = {}
    units = {ours: unit for ours, (_, unit) in mapped.columns.items()}
    fields: Fields = {name: (name, UNITS.get(units.get(name, ""), 1.0)) for name in record if name in NUMERIC}
    take(draft, {k: v for k, v in record.items() if k in NUMERIC}, fields)
    for name in record.keys() & TEXTUAL:
        text = plain(record[name])
        if _FORMULA.match(text):
            refuse(draft, f"{name}: {text[:30]!r} looks like a formula")
        draft[name] = _AS_NAMED[name](text) if name in _AS_NAMED else text
    if "model" in draft:
        draft.setdefault("model_raw", draft["model"])
    for name in [name for name, unit in units.items() if unit == "per_gpu" and name in draft]:
        draft[name] *= draft.get("num_gpus", float("nan"))
    if not whole:
        refuse(draft, "more or fewer cells than the header has")
    return draft
