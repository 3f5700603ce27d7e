"""Which reader reads a file: decided by what stands in it, never by its name."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import BadRows
from . import aiperf, guidellm, inferencex, mlperf, records, sglang, table, trtllm, vllm
from .draft import Draft
from .records import Record

Lines = Iterable[tuple[int, str]]

JSON_READERS: dict[str, tuple[Callable[[Record], bool], Callable[[Record], Iterator[Draft]]]] = {
    "vllm": (vllm.knows, vllm.rows),
    "sglang": (sglang.knows, sglang.rows),
    "inferencex": (inferencex.knows, inferencex.rows),
    "aiperf": (aiperf.knows, aiperf.rows),
    "guidellm": (guidellm.knows, guidellm.rows),
    "trtllm-bench": (trtllm.knows, trtllm.rows),
}
TEXT_READERS: dict[str, tuple[Callable[[str], bool], Callable[[Lines], Iterator[tuple[int, Draft]]]]] = {
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
    """What a file holds: the tool, its rows (each with its `line`), or what it says of a system."""

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
    tools: set[str] = set()
    system: Draft | None = None
    for line, record in records.json_records(path):
        if isinstance(record, str):
            drafts.append({"reject": record, "line": line})
        elif mlperf.is_system(record):
            system = mlperf.system(record)
        else:
            tool = next((name for name, (knows, _) in JSON_READERS.items() if knows(record)), "")
            tools.add(tool)
            found = JSON_READERS[tool][1](record) if tool else iter([{"reject": "no result of a known tool"}])
            drafts.extend({**draft, "line": line} for draft in found)
        _bounded(path, drafts)
    known = sorted(filter(None, tools))
    if not known and system is None:
        broken = [(draft["line"], draft["reject"]) for draft in drafts] if not tools else []
        raise BadRows(path, broken or [(0, UNKNOWN)])
    return Reading(path=path, tool=" ".join(known) or SYSTEM, drafts=tuple(drafts), system=system)


def _text(path: Path, tool: str, rows: Callable[[Lines], Iterator[tuple[int, Draft]]]) -> Reading:
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
