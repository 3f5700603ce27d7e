"""What readers share: a draft row in the importer's columns, its numbers and names, how load was offered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from .. import catalogue
from ..errors import UnknownName
from ..importer.names import GPU_ALIASES
from ..importer.raw import DRAFT_NUMBERS, DRAFT_TEXTS, NUMBERS, TEXTS
from .records import Record

# One measured point on its way into the table: importer/raw.py's columns, as far as they are known.
Draft = dict[str, Any]
# A tool's field, with dots into nested objects, to our column and the factor to our unit.
Fields = Mapping[str, tuple[str, float]]

NUMERIC = frozenset({*NUMBERS, *DRAFT_NUMBERS})
TEXTUAL = frozenset({*TEXTS, *DRAFT_TEXTS})
LATENCIES = tuple(name for name in NUMBERS if name.endswith("_ms"))

STATISTICS = {"mean": "mean", "median": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}

FEWEST_DONE = 0.9
AT_CAP = 0.9
RATE_REACHED = 0.8
UNSTEADY_WEIGHT = 0.5
_TEXT_LENGTH = 200
_NONE = ("", "none", "null", "n/a", "-")

_PRECISIONS = (
    ("", r"none|auto|null|no_quant|"),
    ("fp32", r"fp32|float32|float"),
    ("bf16", r"bf16|fp16|bfloat16|float16|half"),
    ("fp4", r"(nv|mx)?fp4|fp4_e2m1|modelopt_fp4|w4a8_mxfp4_fp8|mxfp4_.*"),
    ("fp8", r"fp8.*|.*_fp8|float8.*|fp8_e4m3|modelopt"),
    ("int4", r"(int4|awq|gptq|w4a16|w4a8).*"),
    ("int8", r"(int8|w8a8|w8a16).*"),
)
_ENGINES = (
    ("sglang-atom", r"sglang.*atom|atom.*sglang"),
    ("vllm-atom", r"vllm.*atom|atom.*vllm"),
    ("sglang", r"sglang|sgl\b"),
    ("vllm", r"vllm"),
    ("trtllm", r"tensorrt|\btrt"),
    *((name, name) for name in ("atom", "tgi", "lmdeploy", "deepspeed", "llamacpp", "transformers", "nim")),
)
_VENDOR_WORDS = re.compile(
    r"\b(nvidia|amd|instinct|geforce|tesla|virtualized|grace hopper superchip|blackwell|server|edition)\b"
)
_CAPACITY = re.compile(r"[-\s]*\b(\d+)\s?gi?b\b")
_MEMORY_SLACK = 0.15


def statistics(pattern: str, ours: str, factor: float = 1, names: Mapping[str, str] = STATISTICS) -> Fields:
    """Return the fields of one latency: its statistics put into a pattern, as far as we have columns."""
    wanted = {pattern.format(theirs): f"{ours}_{name}_ms" for theirs, name in names.items()}
    return {path: (column, factor) for path, column in wanted.items() if column in NUMERIC}


def at(record: Any, path: str) -> Any:
    """Return what lies at a dotted path of nested objects, None where it ends early."""
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def number(value: Any) -> float:
    """Return a finite number, NaN for what is not given (none, empty, NaN). Raises ValueError in words."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return math.nan
    try:
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise ValueError
        read = float(value.replace(",", "") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{plain(value, 40)!r} is no number") from None
    if math.isinf(read):
        raise ValueError("infinite")
    return read


def take(draft: Draft, record: Record, fields: Fields) -> None:
    """Fill numeric columns from a tool's record, in our units.

    A latency of 0 was not measured; a column that is filled already stays; what is no number is the draft's
    `reject`.
    """
    for path, (column, factor) in fields.items():
        try:
            value = number(at(record, path)) * factor
        except ValueError as error:
            refuse(draft, f"{path}: {error}")
            continue
        if not math.isnan(value) and not (value == 0 and column.endswith("_ms")):
            draft.setdefault(column, value)


def refuse(draft: Draft, reason: str) -> None:
    """Add a reason why the row cannot be taken."""
    draft["reject"] = "; ".join(filter(None, [draft.get("reject", ""), reason]))


def remark(draft: Draft, words: str) -> None:
    """Add a remark that is kept with the row."""
    draft["remark"] = "; ".join(filter(None, [draft.get("remark", ""), words]))


def plain(value: Any, length: int = _TEXT_LENGTH) -> str:
    """Return printable text of bounded length, whatever was given; no text for what is none."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    text = value if isinstance(value, str) else repr(value)[:length]
    return "".join(c if c.isprintable() else " " for c in text[:length]).strip()


def precision(value: Any) -> str:
    """Return the table's name of a number format or quantisation, "" for none stated, else the text."""
    text = plain(value).lower()
    return next((name for name, pattern in _PRECISIONS if re.fullmatch(pattern, text)), text)


def engine(value: Any) -> str:
    """Return the table's name of a serving engine, "" where the text names none."""
    text = plain(value).lower()
    return next((name for name, pattern in _ENGINES if re.search(pattern, text)), "")


def gpu(value: Any) -> str:
    """Return the catalogue's name for a GPU as drivers, submitters and clusters write it, else the text.

    >>> gpu("NVIDIA H100 80GB HBM3"), gpu("AMD Instinct MI300X 192GB HBM3"), gpu("NVIDIA A100-PCIE-40GB")
    ('h100-sxm', 'mi300x', 'NVIDIA A100-PCIE-40GB')
    """
    text = plain(value)
    bare = " ".join(_VENDOR_WORDS.sub(" ", re.sub(r"\(.*?\)", "", text.lower())).split())
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


def done(draft: Draft, completed: float, asked: float) -> None:
    """Refuse a run in which more than a tenth of the requests failed; say so where some did."""
    if completed < FEWEST_DONE * asked:
        refuse(draft, f"only {completed:g} of {asked:g} requests completed")
    elif completed < asked:
        remark(draft, f"{completed:g} of {asked:g} requests completed")


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
            remark(draft, f"held at the cap, not at {rate:g} requests/s")
            return
        served = draft.get("req_tput", math.nan)
        overrun = served * RATE_REACHED > rate
        draft.update(mode="open-loop", request_rate=served if overrun else rate)
        if overrun or served < RATE_REACHED * rate:
            draft["weight"] = UNSTEADY_WEIGHT
            came = f"more requests came than the {rate:g}/s asked for"
            remark(draft, came if overrun else "served fewer requests than came")
    elif cap > 0 and math.isfinite(cap):
        alone = requests <= cap
        draft.update(mode="static-batch" if alone else "closed-loop", concurrency=requests if alone else cap)
    else:
        draft["mode"] = "offline"
        for name in [name for name in LATENCIES if name.startswith("ttft")]:
            draft.pop(name, None)
        remark(draft, "all requests at once: TTFT left out")


def loose(value: Any) -> float:
    """Return a setting's number, infinite for "inf", NaN for anything that is none."""
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def itl_for_tpot(draft: Draft, record: Record, fields: Fields, speculative: bool) -> None:
    """Fall back on inter-token latencies where a tool gives no TPOT.

    Their mean is the mean TPOT, unless speculation sends several tokens at a time: then it is a time per
    step, which is none.
    """
    if speculative or any(name.startswith("tpot_") for name in draft):
        return
    take(draft, record, fields)
    draft.update(tpot_mean_is="itl", tpot_p50_is="itl")


def when(value: Any) -> str:
    """Return the date YYYY-MM-DD of a time stamp (20251123-101500, 2025-11-23T10:15:00, seconds), else ""."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1e9 < value < 1e10:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(value, UTC).date().isoformat()
    found = re.match(r"(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)", plain(value))
    return "-".join(found.groups()) if found else ""
