"""What readers share: a draft row, how a tool's fields fill it, how load was offered."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from .. import catalogue
from ..errors import Fault, UnknownName
from ..rows.draft import LATENCIES, NUMERIC, TEXTUAL
from ..rows.names import GPU_ALIASES
from ..vocabulary import printed_engine, printed_precision

# One measured point on its way into the table: the columns of rows/draft.py, as far as they are known.
Draft = dict[str, Any]
# A tool's field, with dots into nested objects, to our column, or to (column, factor to our unit).
Fields = Mapping[str, str | tuple[str, float]]
Lines = Iterable[tuple[int, str]]
Rows = Iterator[tuple[int, Draft]]

MEDIAN_NAMED = {"mean": "mean", "median": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
FEWEST_DONE = 0.9
AT_CAP = 0.9
RATE_REACHED = 0.8
UNSTEADY_WEIGHT = 0.5
ASK = "?"  # for what the file hints at but does not state
_TEXT_LENGTH = 200
_NONE = ("", "none", "null", "n/a", "-")

_VENDORS = re.compile(
    r"\b(nvidia|amd|instinct|geforce|tesla|virtualized|grace hopper superchip|blackwell|server|edition)\b"
)
_CAPACITY = re.compile(r"[-\s]*\b(\d+)\s?gi?b\b")
_MEMORY_SLACK = 0.15


def statistics(
    pattern: str, ours: str, factor: float = 1, names: Mapping[str, str] = MEDIAN_NAMED
) -> dict[str, str | tuple[str, float]]:
    """Return the fields of one latency: its statistics put into a pattern, as far as we have columns."""
    columns = {pattern.format(theirs): f"{ours}_{name}_ms" for theirs, name in names.items()}
    return {path: (column, factor) for path, column in columns.items() if column in NUMERIC}


def at(record: Any, path: str) -> Any:
    """Return what lies at a dotted path of nested objects, None where it ends early."""
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def fill(draft: Draft, record: Any, fields: Fields) -> None:
    """Fill columns from a tool's record, in our names and units; a column that is filled already stays.

    A latency of 0 was not measured; what should be a number and is none becomes the draft's fault.
    """
    for path, target in fields.items():
        column, factor = (target, 1.0) if isinstance(target, str) else target
        given = at(record, path)
        if column in TEXTUAL:
            text = AS_NAMED.get(column, plain)(given)
            draft[column] = draft.get(column) or text
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
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def refuse(draft: Draft, code: str, **fields: Any) -> None:
    """Add a fault: the row cannot be taken."""
    draft["faults"] = (*draft.get("faults", ()), Fault(code=code, **fields))


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
    bare = " ".join(_VENDORS.sub(" ", re.sub(r"\(.*?\)", "", text.lower())).split())
    without_memory = re.sub(r"[-\s]*hbm\w*", "", bare)
    short = " ".join(_CAPACITY.sub("", without_memory).split())
    capacity = _CAPACITY.search(bare)
    for name in (text, bare, without_memory, short):
        try:
            spec = catalogue.gpu(GPU_ALIASES.get(name.lower(), name))
        except UnknownName:
            continue
        room = float(capacity.group(1)) * 2**30 if capacity and not spec.name.startswith("gh200") else 0.0
        if not room or abs(spec.memory_bytes / room - 1) < _MEMORY_SLACK:
            return spec.name
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


def completed(draft: Draft, good: float, asked: float) -> None:
    """Refuse a run in which more than a tenth of the requests failed; note where some did."""
    if good < FEWEST_DONE * asked:
        refuse(draft, "failed-requests", value=good, allowed=asked)
    elif good < asked:
        remark(draft, "some-failed", value=good, allowed=asked)


def in_flight(draft: Draft) -> float:
    """Return the mean number of requests in flight by Little's law, NaN where a figure is missing."""
    residence = draft.get("e2e_mean_ms", math.nan)
    if math.isnan(residence):
        ttft, tpot, osl = (draft.get(name, math.nan) for name in ("ttft_mean_ms", "tpot_mean_ms", "osl"))
        residence = ttft + tpot * (osl - 1)
    return float(draft.get("req_tput", math.nan) * residence / 1000.0)


def load(draft: Draft, *, rate: float, cap: float, requests: float = math.nan) -> None:
    """Settle the mode from the client's settings, NaN or infinite where it had none.

    No rate but a cap on requests in flight: a closed loop. All requests within the cap: a static batch.
    Neither: a burst, whose TTFT is the draining of its own queue and is dropped. A rate: an open loop, unless
    the requests in flight stood at the cap, which makes it closed. Where clearly more were served than the
    rate asks for, arrivals came in clumps and the rate is the one served.
    """
    if rate > 0 and math.isfinite(rate):
        if in_flight(draft) >= AT_CAP * cap:
            draft.update(mode="closed-loop", concurrency=cap)
            remark(draft, "held-at-cap", value=rate)
            return
        served = draft.get("req_tput", math.nan)
        overrun = served * RATE_REACHED > rate
        draft.update(mode="open-loop", request_rate=served if overrun else rate)
        if overrun or served < RATE_REACHED * rate:
            draft["weight"] = UNSTEADY_WEIGHT
            remark(draft, "more-came" if overrun else "fewer-served", value=rate)
    elif cap > 0 and math.isfinite(cap):
        alone = requests <= cap
        draft.update(mode="static-batch" if alone else "closed-loop", concurrency=requests if alone else cap)
    else:
        draft["mode"] = "offline"
        drop(draft, "ttft_")
        remark(draft, "burst")


def drop(draft: Draft, *beginnings: str) -> None:
    """Take the columns that begin so out of a draft."""
    for name in [name for name in draft if name.startswith(beginnings)]:
        del draft[name]
