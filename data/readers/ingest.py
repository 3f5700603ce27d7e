"""The whole way from tools' files into the store: read, ask for what is missing, check, append, report."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import catalogue, schema
from ..errors import BadRequest, BadRows, BadStore, UnknownName
from ..groups import config_group
from ..importer import align, checks, layout, names, raw
from ..importer.dedupe import EQUAL, SAME_DIGITS, Floats
from ..store import STORE_VARIABLE, TABLE_FILE, BenchmarkStore
from . import mlperf, registry, table
from .draft import NUMERIC, Draft, loose, plain, refuse, remark

DEFAULT_STORE = "benchmarks.parquet"
ACCEPTED, DUPLICATE, QUARANTINED = "accepted", "duplicate", "quarantined"
# What the user may say of all rows: it fills gaps; a row whose file says otherwise is refused.
NAMES = (
    "model", "gpu", "platform", "engine", "engine_version", "weight_precision", "kv_precision", "spec_decode",
    "mode", "length_kind", "date", "source", "source_ref", "license",
)  # fmt: skip
FIGURES = (
    "num_gpus", "num_nodes", "tp", "pp", "ep", "dp", "replicas", "disagg", "prefill_gpus", "decode_gpus",
    "isl", "osl", "concurrency", "request_rate", "prefix_cached_frac",
)  # fmt: skip
COMPARED = ("output_tok_s", "ttft_ms", "tpot_ms", "ttft_mean_ms", "tpot_mean_ms", "e2e_ms")
_UNSAID = "?"  # a reader's mark for what the file hints at but does not say
_FIND: dict[str, Callable[[str], Any]] = {"gpu": catalogue.gpu, "model": catalogue.model}
_FACTS = ("weight_precision", "kv_precision", "spec_decode")
_LOADED = {"closed-loop": "concurrency", "static-batch": "concurrency", "open-loop": "request_rate"}


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


def ingest(
    files: Sequence[str | os.PathLike[str]],
    *,
    store: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
    answers: Mapping[str, Any] | None = None,
    fabric: Fabric | None = None,
    audit: checks.Audit | None = None,
) -> IngestReport:
    """Check tools' result files; append what is valid and new to a store, bad rows to its quarantine.

    files: results of the tools in `registry`. store: a Parquet file, else the one that ROOFCAST_STORE names,
    else ./benchmarks.parquet; where it does not exist it starts as a copy of the shipped table. answers: what
    the files do not say, by the names in NAMES and FIGURES. A file that cannot be read, or of which something
    is still unknown, is reported and leaves the store as it is. Raises BadRequest and UnknownName for a wrong
    answer, BadRows for a wrong mapping, BadStore where the store cannot be written.
    """
    said = checked_answers(answers or {})
    mapped = table.mapping(Path(mapping)) if mapping is not None else None
    readings, reports = _read_all([Path(file) for file in files], mapped)
    target = Path(store or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)
    shipped = Path(str(resources.files("roofcast.data").joinpath(TABLE_FILE)))
    if target.exists() and target.samefile(shipped):
        raise BadStore(f"{target} is the shipped table, which is read-only: give another --store")
    reports |= {
        place: _store_one(reading, said, target, fabric, audit) for place, reading in readings.items()
    }
    return IngestReport(
        store=str(target),
        files=tuple(report for _, report in sorted(reports.items())),
        fabric=fabric.status if fabric else "",
    )


def checked_answers(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers that were given, names as the catalogue has them. Raises BadRequest, UnknownName."""
    said = {name: value for name, value in answers.items() if value is not None and value != ""}
    if isinstance(said.get("disagg"), bool | np.bool_):  # a switch; elsewhere a truth value is no number
        said["disagg"] = float(said["disagg"])
    for name in said.keys() - {*NAMES, *FIGURES}:
        raise BadRequest(name, said[name], f"one of {', '.join((*NAMES, *FIGURES))}")
    for name in said.keys() & schema.ALLOWED.keys():
        value = names.PRECISION_ALIASES.get(str(said[name]), said[name])
        if value not in schema.ALLOWED[name]:
            raise BadRequest(name, value, f"one of {', '.join(filter(None, schema.ALLOWED[name]))}")
        said[name] = value
    for name in said.keys() & set(FIGURES):
        low, high = schema.RANGES.get(name, (1, 1e6))
        if not low <= loose(said[name]) <= high:
            raise BadRequest(name, said[name], f"a number between {low:g} and {high:g}")
    if not re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", str(said.get("date", "2000"))):
        raise BadRequest("date", said["date"], "YYYY-MM-DD or YYYY-MM")
    platform = said.pop("platform", None)
    if platform is not None:
        spec = catalogue.platform(platform)
        if catalogue.gpu(said.setdefault("gpu", spec.gpu)).name != spec.gpu:
            raise BadRequest("gpu", said["gpu"], f"{spec.gpu}, which {spec.name} has")
        said["platform_raw"] = spec.name
    for name in said.keys() & _FIND.keys():
        said[name] = _FIND[name](said[name]).name
    return said


def _read_all(
    paths: Sequence[Path], mapped: table.Mapped | None
) -> tuple[dict[int, registry.Reading], dict[int, FileReport]]:
    """Read the files; what a system description says goes to the MLPerf runs it belongs to."""
    readings: dict[int, registry.Reading] = {}
    reports: dict[int, FileReport] = {}
    for place, path in enumerate(paths):
        try:
            readings[place] = registry.read(path, mapped)
        except BadRows as error:
            line, reason = error.rows[0]
            reports[place] = FileReport(
                file=plain(str(path)), problem=f"line {line}: {reason}" if line else reason
            )
    systems = {reading.path.stem: reading.system for reading in readings.values() if reading.system}
    for reading in readings.values():
        if reading.tool == "mlperf":
            _add_system(reading, systems)
    for place in [place for place, reading in readings.items() if reading.tool == registry.SYSTEM]:
        reports[place] = FileReport(file=plain(str(readings.pop(place).path)), tool=registry.SYSTEM)
    return readings, reports


def _add_system(reading: registry.Reading, systems: Mapping[str, Draft]) -> None:
    named = [said for name, said in systems.items() if name in reading.path.parts]
    beside = mlperf.system_beside(reading.path)
    if beside and not systems:
        with suppress(BadRows):  # What it would have said is asked for.
            named = [registry.read(beside).system or {}]
    only = named or (list(systems.values()) if len(systems) == 1 else [{}])
    for draft in reading.drafts:
        draft.update({name: value for name, value in only[0].items() if value == value})


def _store_one(
    reading: registry.Reading,
    said: Mapping[str, Any],
    target: Path,
    fabric: Fabric | None,
    audit: checks.Audit | None,
) -> FileReport:
    file = plain(str(reading.path))
    drafts = [_answered(draft, said, reading.tool) for draft in reading.drafts]
    missing = list(dict.fromkeys(name for row in drafts if not row.get("reject") for name in _unsaid(row)))
    if missing:
        flags = tuple(map(_flag, missing))
        problem = f"the file does not say {', '.join(missing)}: give {', '.join(flags)}"
        return FileReport(file=file, tool=reading.tool, missing=flags, problem=problem)
    if fabric and fabric.status != "healthy":
        for draft in drafts:
            words = f"fabric {fabric.status}: {fabric.reason}".rstrip(": ")
            (refuse if fabric.status == "degraded" and not fabric.accept_degraded else remark)(draft, words)
    rows = settled(drafts, file)
    store = BenchmarkStore(target) if target.exists() else BenchmarkStore.create(target)
    copies = _copies(rows, store.load())
    kept = rows.drop(index=list(copies)).reset_index(names="position")
    rejected = {i: reason for i, reason in enumerate(kept["reject"]) if reason}
    done = store.append(
        kept[schema.COLUMNS],
        file=file,
        audit=audit,
        rejected=rejected,
        lines=kept["line"].astype(int).tolist(),
    )
    fates = {position: (DUPLICATE, words) for position, words in copies.items()}
    at = kept["position"].astype(int).tolist()
    fates |= {at[i]: (QUARANTINED, reason) for i, reason in done.reason_of.items()}
    fates |= {at[i]: (DUPLICATE, f"of {row_id}") for i, row_id in done.duplicate_of.items()}
    reports = []
    for position, row in zip(rows.index, rows.to_dict("records"), strict=True):
        fate, reason = fates.get(position, (ACCEPTED, row["notes"]))
        reports.append(RowReport(line=int(row["line"]), fate=fate, reason=reason, what=_what(row)))
    return FileReport(file=file, tool=reading.tool, rows=tuple(reports))


def _answered(draft: Draft, said: Mapping[str, Any], tool: str) -> Draft:
    """Add the user's words to a row where the file leaves a gap; refuse the row where they contradict it."""
    row = {"source": f"ingested-{tool.split()[0]}", "source_family": "ingested", **draft}
    for name in sorted(said.keys() & {*NAMES, "platform_raw"}):
        told = _told(name, row)
        if told and told != said[name]:
            refuse(row, f"the file says {name} = {told}, {_flag(name)} {said[name]}")
        else:
            row[name] = said[name]
    for name in sorted(said.keys() & set(FIGURES)):
        if not _known(row.get(name)):
            row[name] = float(said[name])
        elif not math.isclose(row[name], float(said[name]), rel_tol=0.01):
            refuse(row, f"the file says {name} = {row[name]:g}, {_flag(name)} {float(said[name]):g}")
    if row.get("disagg") == 1 and not _known(row.get("num_gpus")):
        row["num_gpus"] = row.get("prefill_gpus", math.nan) + row.get("decode_gpus", math.nan)
    row["model"] = row.get("model") or row.get("model_raw", "")
    row["spec_decode"] = row.get("spec_decode") or "none"
    if row.get("mode") == "offline":
        for name in [name for name in row if name.startswith("ttft_")]:
            del row[name]
    elif _LOADED.get(row.get("mode", "")) == "concurrency" and _known(row.get("in_flight")):
        row.setdefault("concurrency", row["in_flight"])
    requests, output, total = (row.get(f"{name}_tput", math.nan) for name in ("req", "output", "total"))
    for name, tokens in (("osl", output), ("isl", total - output)):
        if not _known(row.get(name)) and requests > 0 and tokens > 0:
            row[name] = tokens / requests
    return row


def _told(name: str, row: Draft) -> str:
    """Return the file's own word where it is a known one that the user may not replace, else ""."""
    value = str(row.get(name) or (row.get("model_raw", "") if name == "model" else ""))
    if name in _FIND:
        try:
            return str(_FIND[name](value).name)
        except UnknownName:
            return ""
    if name == "engine":
        return value
    return value if name in _FACTS and value in schema.ALLOWED[name] else ""


def _known(value: object) -> bool:
    return value not in (None, "", _UNSAID) and value == value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _unsaid(row: Draft) -> Iterable[str]:
    """Yield the names of what a row needs and neither file nor user says."""
    wanted = ["gpu", "model", "engine", "date", "mode", "isl", "osl"]
    if not names.stated_precision(row.get("model_raw", "")):
        wanted.append("weight_precision")
    if row.get("num_gpus") != 1:
        wanted.append("tp")
    if row.get("dp", 1.0) > 1 and not row.get("dp_means"):
        wanted.append("num_gpus")
    if row.get("disagg"):
        wanted += ["prefill_gpus", "decode_gpus"]
    wanted += [_LOADED[row["mode"]]] if row.get("mode") in _LOADED else []
    wanted += [name for name in ("spec_decode", "prefix_cached_frac") if row.get(name) == _UNSAID]
    return (name for name in wanted if not _known(row.get(name)))


def settled(drafts: Sequence[Draft], file: str) -> pd.DataFrame:
    """Return the rows in the table's columns, `line`, and `reject`: why a row cannot be taken, else "".

    As the importer with every collected row: names, layout, one statistic, ranges, Little's law, memory.
    """
    usual = {**dict.fromkeys(raw.TEXTS, ""), **dict.fromkeys(raw.NUMBERS, np.nan)}
    usual |= {**raw.DRAFT_NUMBERS, **raw.DRAFT_TEXTS, "kind": "measured", "source_ref": file, "file": file}
    rows = pd.DataFrame([{**usual, **draft} for draft in drafts])[[*usual, "line"]]
    rows[sorted(NUMERIC)] = rows[sorted(NUMERIC)].apply(pd.to_numeric, errors="coerce")
    for kind, find in _FIND.items():
        _resolve(rows, kind, find)
    good = rows[rows["reject"] == ""].copy()
    if len(good):
        _align(good)
    whole = pd.concat([good, rows[rows["reject"] != ""]]).sort_index()
    whole["notes"] = whole["remark"].str.slice(0, align.NOTE_LENGTH)
    return schema.complete(whole.reindex(columns=schema.COLUMNS)).assign(
        config_group=config_group(whole), reject=whole["reject"], line=whole["line"]
    )


def _align(rows: pd.DataFrame) -> None:
    names.resolve(rows)
    layout.settle(rows)
    align.lengths(rows)
    layout.check(rows)
    align.throughputs(rows)
    align.latencies(rows)
    checks.ranges(rows)
    checks.little(rows)
    for power, unit in ((3, "s"), (-3, "us"), (-6, "ns")):
        slip = (rows["little"] / 10.0**power).between(0.7, 1.4)
        raw.say(rows, slip & (rows["reject"] != ""), reject=f"as if latencies were in {unit}")
    if (rows["reject"] == "").any():
        checks.memory(rows)


def _resolve(rows: pd.DataFrame, kind: str, find: Callable[[str], Any]) -> None:
    for name in rows.loc[rows["reject"] == "", kind].unique():
        try:
            found = find(name).name
        except UnknownName as error:
            raw.say(rows, rows[kind] == name, reject=f"{error} ({_flag(kind)} NAME says which)")
        else:
            rows.loc[rows[kind] == name, kind] = found


def _copies(rows: pd.DataFrame, stored: pd.DataFrame) -> dict[int, str]:
    """Return which rows are copies of a stored row or an earlier one, and of which.

    One run in two files: the configuration is the same and all figures that both have are, to the digits that
    are usually kept where there are three figures, exactly where there are fewer.
    """
    sound = rows[rows["reject"] == ""]
    near = stored[stored["config_group"].isin(sound["config_group"])]
    groups: dict[str, list[tuple[str, Any]]] = {}
    for row in near.to_dict("records"):
        label = f"of {row['row_id']} ({row['source']}, {row['date']})"
        groups.setdefault(row["config_group"], []).append((label, _figures(row)))
    copies: dict[int, str] = {}
    for position, row in zip(sound.index, sound.to_dict("records"), strict=True):
        figures, known = _figures(row), groups.setdefault(row["config_group"], [])
        label = next((label for label, others in known if _same(figures, others)), "")
        if label:
            copies[position] = label
        else:
            known.append((f"of line {int(row['line'])} of the same file", figures))
    return copies


def _figures(row: Mapping[Any, Any]) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(np.log([float(row[name]) for name in COMPARED]))


def _same(one: Floats, other: Floats) -> bool:
    gap = np.abs(one - other)
    gap = gap[~np.isnan(gap)]
    return bool(len(gap) and (gap < SAME_DIGITS).all() and (len(gap) >= 3 or (gap < EQUAL).all()))


def _what(row: Mapping[Any, Any]) -> str:
    load = {"open-loop": ("request_rate", "requests/s"), "server": ("request_rate", "requests/s")}
    name, unit = load.get(row["mode"], ("concurrency", "in flight"))
    amount = f" {row[name]:g} {unit}" if row[name] == row[name] else ""
    return f"{row['model']} on {row['num_gpus']:g} x {row['gpu']}, {row['engine']}, {row['mode']}{amount}"
