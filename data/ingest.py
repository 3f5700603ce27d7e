"""The whole way from tools' files into the store: read, ask for what is missing, check, append, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from .columns import STORED
from .errors import BadRows, BadStore, RoofcastError
from .identity import config_group
from .measurements import complete, typed
from .readers import answers as asked
from .readers import mlperf, recognise, table
from .readers.base import Draft, plain, refuse, remark
from .rows import align, checks, layout, names
from .rows.draft import NUMERIC, drafts, reject, sound, text
from .rows.duplicates import duplicates
from .stated import as_said, statements
from .store import STORE_VARIABLE, TABLE_FILE, BenchmarkStore, invalid

DEFAULT_STORE = "benchmarks.parquet"
ACCEPTED, DUPLICATE, QUARANTINED = "accepted", "duplicate", "quarantined"
# Why each row is faster than physics allows, "" where it is not: roofcast.predictor.audit.impossible.
Judge = Callable[[pd.DataFrame], "pd.Series[str]"]


@dataclass(frozen=True, kw_only=True)
class RowReport:
    """What became of one row: accepted, duplicate (reason: of what) or quarantined (reason: why)."""

    line: int
    fate: str
    reason: str = ""
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of one file; `problem` says why none of it was taken, `missing` which flags it needs."""

    file: str
    tool: str = ""
    problem: str = ""
    missing: tuple[str, ...] = ()
    rows: tuple[RowReport, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What became of all files, and the store they went to."""

    store: str
    files: tuple[FileReport, ...]
    fabric: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Rows by fate, and files of which nothing was taken."""
        fates = [row.fate for report in self.files for row in report.rows]
        rows = {fate: fates.count(fate) for fate in (ACCEPTED, DUPLICATE, QUARANTINED)}
        return {**rows, "unread_files": sum(bool(report.problem) for report in self.files)}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**self.counts, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Fabric:
    """The verdict on the machine's fabric (healthy, degraded, unknown); whether degraded rows are taken."""

    status: str
    reason: str = ""
    accept_degraded: bool = False

    def mark(self, draft: Draft) -> None:
        """Refuse a row measured on a degraded fabric, unless such rows are taken; note an unknown one."""
        if self.status != "healthy":
            add = refuse if self.status == "degraded" and not self.accept_degraded else remark
            code = "fabric" if self.reason else "fabric-bare"
            add(draft, code, column=self.status, value=self.reason)


def ingest(
    files: Sequence[str | os.PathLike[str]],
    *,
    store: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
    answers: Mapping[str, Any] | None = None,
    fabric: Fabric | None = None,
    judge: Judge | None = None,
) -> IngestReport:
    """Check tools' result files; append what is valid and new to a store, bad rows to its quarantine.

    files: results of the tools in `readers.recognise`. store: a Parquet file, else the one ROOFCAST_STORE
    names, else ./benchmarks.parquet; where it does not exist it starts as a copy of the shipped table.
    answers: what the files leave open, by the names in `readers.answers`. judge: why rows are faster than
    physics allows. A file that cannot be read, or of which something is still unknown, is reported and leaves
    the store as it is. Raises BadRequest and UnknownName for a wrong answer, BadRows for a wrong mapping,
    BadStore where the store cannot be written.
    """
    given = asked.checked(answers or {})
    mapped = table.mapping(Path(mapping)) if mapping is not None else None
    readings, reports = _read_all([Path(file) for file in files], mapped)
    target = Path(store or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)
    shipped = Path(str(resources.files("roofcast.data").joinpath(TABLE_FILE)))
    if target.exists() and target.samefile(shipped):
        raise BadStore(f"{target} is the shipped table, which is read-only: give another --store")
    for i, reading in readings.items():
        reports[i] = _store_one(reading, given, target, fabric or Fabric(status="healthy"), judge)
    in_order = tuple(report for _, report in sorted(reports.items()))
    return IngestReport(store=str(target), files=in_order, fabric=fabric.status if fabric else "")


def _read_all(
    paths: Sequence[Path], mapped: table.Mapped | None
) -> tuple[dict[int, recognise.Reading], dict[int, FileReport]]:
    """Read the files; what a system description holds goes to the MLPerf runs it belongs to."""
    readings: dict[int, recognise.Reading] = {}
    reports: dict[int, FileReport] = {}
    for i, path in enumerate(paths):
        file = plain(str(path))
        try:
            readings[i] = recognise.read(path, mapped)
        except BadRows as error:
            line, reason = error.rows[0]
            reports[i] = FileReport(file=file, problem=f"line {line}: {reason}" if line else reason)
        else:
            if readings[i].tool == recognise.SYSTEM:
                reports[i] = FileReport(file=file, tool=recognise.SYSTEM)
    systems = {reading.path.stem: reading.system for reading in readings.values() if reading.system}
    for reading in readings.values():
        if reading.tool == "mlperf":
            stated = _system_of(reading.path, systems)
            for draft in reading.drafts:
                draft.update({name: value for name, value in stated.items() if value == value})
    return {i: reading for i, reading in readings.items() if i not in reports}, reports


def _system_of(path: Path, systems: Mapping[str, Draft]) -> Draft:
    """Return the system of an MLPerf run: named in its path, else beside it, else the only one given."""
    beside = mlperf.system_beside(path)
    named = [system for name, system in systems.items() if name in path.parts]
    if not named and beside and not systems:
        with suppress(BadRows):  # What it would have held is asked for.
            named = [recognise.read(beside).system or {}]
    return (named or (list(systems.values()) if len(systems) == 1 else [{}]))[0]


def _store_one(
    reading: recognise.Reading, given: Mapping[str, Any], target: Path, fabric: Fabric, judge: Judge | None
) -> FileReport:
    file = plain(str(reading.path))
    answered = [asked.answered(draft, given, reading.tool) for draft in reading.drafts]
    sound_rows = [row for row in answered if not row.get("faults")]
    missing = [*dict.fromkeys(name for row in sound_rows for name in asked.missing(row))]
    if missing:
        flags = tuple(map(asked.flag, missing))
        problem = f"the file does not say {', '.join(missing)}: give {', '.join(flags)}"
        return FileReport(file=file, tool=reading.tool, missing=flags, problem=problem)
    for draft in answered:
        fabric.mark(draft)
    rows = settled(answered, file)
    store = BenchmarkStore(target) if target.exists() else BenchmarkStore.create(target)
    fates = {i: (DUPLICATE, label) for i, label in duplicates(rows, store.load()).items()}
    kept = rows.drop(index=list(fates)).reset_index(names="position")
    lines = kept["line"].astype(int).tolist()
    done = store.append(kept[list(STORED)], file=file, rejected=_rejected(kept, judge), lines=lines)
    position = kept["position"].astype(int).tolist()
    fates |= {position[i]: (QUARANTINED, reason) for i, reason in done.reason_of.items()}
    fates |= {position[i]: (DUPLICATE, f"of {row_id}") for i, row_id in done.duplicate_of.items()}
    reports = []
    for i, row in enumerate(rows.to_dict("records")):
        fate, reason = fates.get(i, (ACCEPTED, row["notes"]))
        reports.append(RowReport(line=int(row["line"]), fate=fate, reason=reason, what=_what(row)))
    return FileReport(file=file, tool=reading.tool, rows=tuple(reports))


def _rejected(rows: pd.DataFrame, judge: Judge | None) -> dict[int, str]:
    """Return why rows are refused, by position: their faults, and the judgement of those that have none."""
    good = sound(rows)
    found = {i: reason for i, reason in enumerate(rows["faults"].map(text)) if reason}
    valid = rows.index[good & ~rows.index.isin(list(invalid(rows[list(STORED)])))]
    if judge is not None and len(valid):
        judged = judge(typed(rows.loc[valid]))
        found |= {int(i): reason for i, reason in zip(valid, judged, strict=True) if reason}
    return found


def settled(answered: Sequence[Draft], file: str) -> pd.DataFrame:
    """Return the rows in the table's columns, `line`, and `faults`: why a row cannot be taken.

    As every row of the shipped table: names, layout, one statistic, ranges, Little's law, memory.
    """
    rows = drafts([{"kind": "measured", "source_ref": file, "file": file, **row} for row in answered])
    rows[sorted(NUMERIC)] = rows[sorted(NUMERIC)].apply(pd.to_numeric, errors="coerce")
    for kind, find in asked.CATALOGUES.items():
        for name in rows.loc[sound(rows), kind].unique():
            try:
                rows.loc[rows[kind] == name, kind] = find(name).name
            except RoofcastError as error:
                reject(rows, rows[kind] == name, "name-to-say", column=kind, value=name, allowed=str(error))
    good = rows[sound(rows)].copy()
    if len(good):
        said = as_said(good)
        _align(good)
        good["stated"] = statements(said, good)
    whole = pd.concat([good, rows[~sound(rows)]]).sort_index()
    whole["notes"] = align.notes(whole)
    stored = complete(whole.reindex(columns=list(STORED)))
    return stored.assign(config_group=config_group(whole), faults=whole["faults"], line=whole["line"])


def _align(rows: pd.DataFrame) -> None:
    for step in (
        names.resolve, layout.settle, align.lengths, layout.check, align.throughputs, align.latencies,
        checks.ranges, checks.little,
    ):  # fmt: skip
        step(rows)
    ratio = checks.residence_ratio(rows)
    for factor, unit in ((1e3, "s"), (1e-3, "us"), (1e-6, "ns")):
        slip = (ratio / factor).between(0.7, 1.4)
        reject(rows, slip & ~sound(rows), "time-unit", value=unit)
    if sound(rows).any():
        checks.memory(rows)


def _what(row: Mapping[Any, Any]) -> str:
    rated = row["mode"] in ("open-loop", "server")
    load, unit = (row["request_rate"], "requests/s") if rated else (row["concurrency"], "in flight")
    amount = f" {load:g} {unit}" if load == load else ""
    return f"{row['model']} on {row['num_gpus']:g} x {row['gpu']}, {row['engine']}, {row['mode']}{amount}"
