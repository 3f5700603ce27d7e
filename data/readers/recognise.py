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
from .base import Draft, Lines, Rows, refuse
from .records import Record

JSON_READERS: dict[str, tuple[Callable[[Record], bool], Callable[[Record], Iterator[Draft]]]] = {
    "vllm": (vllm.knows, vllm.rows),
    "sglang": (sglang.knows, sglang.rows),
    "inferencex": (inferencex.knows, inferencex.rows),
    "aiperf": (aiperf.knows, aiperf.rows),
    "guidellm": (guidellm.knows, guidellm.rows),
    "trtllm-bench": (trtllm.knows, trtllm.rows),
}
TEXT_READERS: dict[str, tuple[Callable[[str], bool], Callable[[Lines], Rows]]] = {
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
        if mapped is not None:
            return _text(path, "csv", partial(table.text_rows, mapped=mapped))
        if _JSON.match(head):
            return _json(path)
        for tool, (knows, rows) in TEXT_READERS.items():
            if knows(head):
                return _text(path, tool, rows)
    except (OSError, csv.Error) as error:
        raise BadRows(path, [(0, f"cannot be read: {error}")]) from None
    hint = "; a CSV of other columns needs --mapping" if "," in head.partition("\n")[0] else ""
    raise BadRows(path, [(0, UNKNOWN + hint)])


def _json(path: Path) -> Reading:
    drafts: list[Draft] = []
    broken: list[tuple[int, str]] = []
    tools: list[str] = []
    system: Draft | None = None
    known = False  # whether any record is JSON at all
    for line, record in records.json_records(path):
        found: list[Draft] = [{}]
        if isinstance(record, str):
            broken.append((line, record))
            refuse(found[0], "no-record", value=record)
        elif mlperf.is_system(record):
            system, found = mlperf.system(record), []
        else:
            known = True
            tool = next((name for name, (knows, _) in JSON_READERS.items() if knows(record)), "")
            if tool:
                tools.append(tool)
                found = list(JSON_READERS[tool][1](record))
            else:
                refuse(found[0], "unknown-tool")
        drafts.extend({**draft, "line": line} for draft in found)
        _bounded(path, drafts)
    if not tools and system is None:
        raise BadRows(path, (broken if not known else []) or [(0, UNKNOWN)])
    return Reading(path=path, tool=" ".join(sorted({*tools})) or SYSTEM, drafts=tuple(drafts), system=system)


def _text(path: Path, tool: str, rows: Callable[[Lines], Rows]) -> Reading:
    drafts: list[Draft] = []
    for line, draft in rows(records.text_lines(path)):
        drafts.append({**draft, "line": line})
        _bounded(path, drafts)
    if not drafts:
        raise BadRows(path, [(0, f"{tool}: no result in it")])
    return Reading(path=path, tool=tool, drafts=tuple(drafts))


def _bounded(path: Path, drafts: list[Draft]) -> None:
    if len(drafts) > MOST_ROWS:
        raise BadRows(path, [(0, f"more than {MOST_ROWS} rows: split the file")])
