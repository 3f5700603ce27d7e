"""Which reader reads a file: decided by what stands in it, never by its name."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import BadRows
from . import aiperf, guidellm, inferencex, mlperf, records, sglang, table, trtllm, vllm
from .base import Draft, Lines, Record, Rows, refuse
from .records import unread

JSON_READERS: dict[str, tuple[Callable[[Record], bool], Callable[[Record], Iterator[Draft]]]] = {
    "vllm": (vllm.knows, vllm.rows),
    "sglang": (sglang.knows, sglang.rows),
    "inferencex": (inferencex.knows, inferencex.rows),
    "aiperf": (aiperf.knows, aiperf.rows),
    "guidellm": (guidellm.knows, guidellm.rows),
    "trtllm-bench": (trtllm.knows, trtllm.rows),
}
TEXT_READERS: dict[str, tuple[Callable[[str], object], Callable[[Lines], Rows]]] = {
    "mlperf": (mlperf.knows_text, mlperf.text_rows),
    "trtllm-bench": (trtllm.knows_text, trtllm.text_rows),
    "aiperf": (aiperf.knows_text, aiperf.text_rows),
    "csv": (table.knows_text, table.text_rows),
}
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
        if mapped is None and _JSON.match(head):
            return _json(path)
        readers = TEXT_READERS if mapped is None else {}
        known = [(tool, rows) for tool, (knows, rows) in readers.items() if knows(head)]
        if mapped is not None:
            known = [("csv", partial(table.text_rows, mapped=mapped))]
        for tool, rows in known[:1]:
            drafts = _collected(path, rows(records.text_lines(path)))
            if not drafts:
                raise unread(path, f"{tool}: no result in it")
            return Reading(path=path, tool=tool, drafts=drafts)
    except (OSError, csv.Error) as error:
        raise unread(path, f"cannot be read: {error}") from None
    hint = "; a CSV of other columns needs --mapping" if "," in head.partition("\n")[0] else ""
    raise unread(path, UNKNOWN + hint)


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
                tool = next((name for name, (knows, _) in JSON_READERS.items() if knows(record)), "")
                tools.append(tool)
                found = JSON_READERS[tool][1](record) if tool else [refuse({}, "unknown-tool")]
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
