"""Which reader reads a file: decided by what stands in it, never by its name."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..errors import BadRows
from . import aiperf, guidellm, inferencex, mlperf, records, sglang, table, trtllm, vllm
from .base import Draft, Rows, refuse
from .records import unread

# What has knows(record) and rows(record); what has knows_text(head) and text_rows(lines).
JSON_READERS: dict[str, ModuleType] = {
    "vllm": vllm, "sglang": sglang, "inferencex": inferencex, "aiperf": aiperf, "guidellm": guidellm,
    "trtllm-bench": trtllm,
}  # fmt: skip
TEXT_READERS = {"mlperf": mlperf, "trtllm-bench": trtllm, "aiperf": aiperf, "csv": table}
SYSTEM = "mlperf system"
_JSON = re.compile(r"\s*(\{|\[\s*[\[{\]])")  # a log line may begin with a bracket too
MOST_ROWS = 200_000
UNKNOWN = "no result of a known tool: " + ", ".join(dict.fromkeys([*JSON_READERS, *TEXT_READERS]))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file holds: the tool, its rows (each with its `line`), or the description of a system."""

    path: Path
    tool: str
    drafts: tuple[Draft, ...] = ()
    system: Draft | None = None


def read(path: Path, mapped: table.Mapped | None = None) -> Reading:
    """Read one file, by the mapping where one is given. Raises BadRows where it holds nothing known."""
    head = records.head(path)
    try:
        if mapped is not None:
            return _text(path, "csv", table.text_rows(records.text_lines(path), mapped))
        if _JSON.match(head):
            return _json(path)
        for tool, reader in TEXT_READERS.items():
            if reader.knows_text(head):
                return _text(path, tool, reader.text_rows(records.text_lines(path)))
    except (OSError, csv.Error) as error:
        raise unread(path, f"cannot be read: {error}") from None
    hint = "; a CSV of other columns needs --mapping" if "," in head.partition("\n")[0] else ""
    raise unread(path, UNKNOWN + hint)


def _text(path: Path, tool: str, rows: Rows) -> Reading:
    drafts = _collected(path, rows)
    if not drafts:
        raise unread(path, f"{tool}: no result in it")
    return Reading(path=path, tool=tool, drafts=drafts)


def _json(path: Path) -> Reading:
    tools: list[str] = []
    systems: list[Draft] = []
    broken: list[tuple[int, str]] = []

    def rows() -> Rows:
        for line, record in records.json_records(path):
            if isinstance(record, str):
                broken.append((line, record))
                yield line, refuse({}, "no-record", value=record)
            elif mlperf.is_system(record):
                systems.append(mlperf.system(record))
            else:
                tool = next((name for name, reader in JSON_READERS.items() if reader.knows(record)), "")
                tools.append(tool)
                found = JSON_READERS[tool].rows(record) if tool else [refuse({}, "unknown-tool")]
                yield from ((line, draft) for draft in found)

    drafts = _collected(path, rows())
    if not any(tools) and not systems:
        raise BadRows(path, ([] if tools else broken) or [(0, UNKNOWN)])
    named = " ".join(sorted({*filter(None, tools)})) or SYSTEM
    return Reading(path=path, tool=named, drafts=drafts, system=systems[-1] if systems else None)


def _collected(path: Path, rows: Rows) -> tuple[Draft, ...]:
    drafts: list[Draft] = []
    for line, draft in rows:
        drafts.append({**draft, "line": line})
        if len(drafts) > MOST_ROWS:
            raise unread(path, f"more than {MOST_ROWS} rows: split the file")
    return tuple(drafts)
