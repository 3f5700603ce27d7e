"""What readers share: a draft row, how a tool's fields fill it, how load was offered."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from .. import catalogue
from ..errors import Fault, UnknownName
from ..rows.draft import LATENCIES, NUMERIC, TEXTUAL
from ..vocabulary import printed_engine, printed_precision

Record = dict[str, Any]  # one result as its tool wrote it
Draft = dict[str, Any]  # one measured point on its way into the table, by the columns of rows/draft.py
# A tool's field, with dots into nested objects and lists, to our column, or to (column, factor to our unit).
Fields = Mapping[str, str | tuple[str, float]]
Lines = Iterable[tuple[int, str]]
Rows = Iterator[tuple[int, Draft]]

MEDIAN_NAMED = {"mean": "mean", "median": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
ASK = "?"  # for what the file hints at but does not state
_TEXT_LENGTH = 200
_NONE = ("", "none", "null", "n/a", "-")


def statistics(
    pattern: str, ours: str, factor: float = 1, names: Mapping[str, str] = MEDIAN_NAMED
) -> dict[str, str | tuple[str, float]]:
    """Return the fields of one latency: its statistics put into a pattern, as far as we have columns."""
    columns = {pattern.format(theirs): f"{ours}_{name}_ms" for theirs, name in names.items()}
    return {path: (column, factor) for path, column in columns.items() if column in NUMERIC}


def at(record: Any, path: str) -> Any:
    """Return what lies at a dotted path of nested objects and lists, None where it ends early."""
    for name in path.split("."):
        if isinstance(record, list) and name.isdecimal():
            record = record[int(name)] if int(name) < len(record) else None
        else:
            record = record.get(name) if isinstance(record, dict) else None
    return record


def has(*paths: str) -> Callable[[Record], bool]:
    """Return whether a record is a tool's result: something lies at each of these paths."""
    return lambda record: all(at(record, path) is not None for path in paths)


def fill(draft: Draft, record: Any, fields: Fields) -> None:
    """Fill columns from a tool's record, in our names and units; a column that is filled already stays.

    A latency of 0 was not measured; what should be a number and is none becomes the draft's fault.
    """
    for path, target in fields.items():
        column, factor = (target, 1.0) if isinstance(target, str) else target
        given = at(record, path)
        if column in TEXTUAL:
            draft[column] = draft.get(column) or AS_NAMED.get(column, plain)(given)
            continue
        try:
            value = number(given) * factor
        except ValueError:
            refuse(draft, "not-a-number", column=path, value=plain(given, 40))
            continue
        if math.isinf(value):
            refuse(draft, "infinite", column=path)
        elif not math.isnan(value) and not (value == 0 and column in LATENCIES):
            draft.setdefault(column, value)


def number(value: Any) -> float:
    """Return a number, NaN for what is not given (none, empty, NaN). Raises ValueError for anything else."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return math.nan
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError("no number")
    try:
        return float(value.replace(",", "") if isinstance(value, str) else value)
    except (TypeError, OverflowError):
        raise ValueError("no number") from None


def setting(value: Any) -> float:
    """Return a setting's number, infinite for "inf", NaN for anything that is none."""
    with suppress(ValueError):
        return number(value)
    return math.nan


def refuse(draft: Draft, code: str, **fields: Any) -> Draft:
    """Return the draft with a fault more: the row cannot be taken."""
    draft["faults"] = (*draft.get("faults", ()), Fault(code=code, **fields))
    return draft


def remark(draft: Draft, code: str, **fields: Any) -> None:
    """Add a remark that is kept with the row."""
    draft["remarks"] = (*draft.get("remarks", ()), Fault(code=code, **fields))


def plain(value: Any, length: int = _TEXT_LENGTH) -> str:
    """Return printable text of bounded length, whatever was given; no text for what is none."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    text = value if isinstance(value, str) else repr(value)[:length]
    return "".join(c if c.isprintable() else " " for c in text[:length]).strip()


def gpu(value: Any) -> str:
    """Return the catalogue's name for a GPU as drivers, submitters and clusters write it, else the text.

    >>> gpu("NVIDIA H100 80GB HBM3"), gpu("AMD Instinct MI300X 192GB HBM3"), gpu("NVIDIA A100-PCIE-40GB")
    ('h100-sxm', 'mi300x', 'NVIDIA A100-PCIE-40GB')
    """
    text = plain(value)
    with suppress(UnknownName):
        return catalogue.gpu(re.sub(r"\(.*?\)", "", text)).name
    return text


def when(value: Any) -> str:
    """Return the date YYYY-MM-DD of a time stamp (20251123-101500, 2025-11-23T10:15:00, seconds), else ""."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1e9 < value < 1e10:
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    found = re.match(r"(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)", plain(value))
    return "-".join(found.groups()) if found else ""


AS_NAMED: Mapping[str, Callable[[Any], str]] = {
    "gpu": gpu,
    "date": when,
    "engine": lambda value: printed_engine(plain(value)),
    "weight_precision": lambda value: printed_precision(plain(value)),
    "kv_precision": lambda value: printed_precision(plain(value)),
}


def drop(draft: Draft, *beginnings: str) -> None:
    """Take the columns that begin so out of a draft."""
    for name in [name for name in draft if name.startswith(beginnings)]:
        del draft[name]
