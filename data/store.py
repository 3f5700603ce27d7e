"""The benchmark store: a Parquet file of validated measurements, and beside it what was rejected and why."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from . import catalogue, measurements
from .columns import COLUMNS, STORED, STORED_NUMBERS
from .errors import BadStore, Fault, UnknownName
from .files import replace_file
from .identity import config_group, row_ids
from .specs import GpuSpec, ModelSpec

STORE_VARIABLE = "ROOFCAST_STORE"
TABLE_FILE = "benchmarks.parquet"
QUARANTINE_FILE = "quarantine.parquet"
CAME_LATER = ("stated",)  # columns that files of earlier versions lack
QUARANTINE_COLUMNS = ["file", "line", "row_id", "source", "source_ref", "reason"]
_LOCK_SECONDS = 10.0
_SHIPPED = Path(str(files(__package__).joinpath(TABLE_FILE)))
_FIND: Mapping[str, Callable[[str], GpuSpec | ModelSpec]] = {"gpu": catalogue.gpu, "model": catalogue.model}


@dataclass(frozen=True, kw_only=True)
class AppendReport:
    """What became of the rows of one `append`: added + duplicates + rejected is their number.

    By position from 0: `reason_of` rejected rows, and `duplicate_of`, the row_id that a duplicate shares.
    """

    added: int
    duplicates: int
    rejected: int
    reason_of: Mapping[int, str]
    duplicate_of: Mapping[int, str]


class BenchmarkStore:
    """A table of measurements on disk.

    Without a path it is the file named by the environment variable ROOFCAST_STORE, else the table that ships
    with the package, which can be read but not appended to.

    >>> store = BenchmarkStore()
    >>> len(store.load()) > 10_000
    True
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = path or os.environ.get(STORE_VARIABLE)
        self.shipped = not chosen
        self.path = Path(chosen or _SHIPPED)

    @classmethod
    def create(cls, path: str | os.PathLike[str], rows: pd.DataFrame | None = None) -> BenchmarkStore:
        """Start a store at `path`, with `rows` or the shipped table.

        Raises BadStore if a file is there, BadRows if one of the rows is invalid.
        """
        store = cls(path)
        given = None if rows is None else _identified(measurements.complete(rows))
        first = cls(_SHIPPED).load() if given is None else measurements.validate(given, str(store.path))
        store.path.parent.mkdir(parents=True, exist_ok=True)
        with store._locked():
            if store.path.exists():
                raise BadStore(f"{store.path}: a store is there already")
            write_table(first, store.path)
        return store

    @property
    def quarantine_path(self) -> Path:
        """quarantine.parquet beside benchmarks.parquet, else NAME.quarantine.parquet beside NAME.parquet."""
        named = QUARANTINE_FILE if self.path.name == TABLE_FILE else f"{self.path.stem}.quarantine.parquet"
        return self.path.with_name(named)

    def load(self) -> pd.DataFrame:
        """Return all rows in the columns of `STORED`; of a file written before one came, it is empty.

        Raises BadStore for a file that is no benchmark table.
        """
        table = _read(self.path)
        came_later = {name: measurements.empty(COLUMNS[name]) for name in CAME_LATER if name not in table}
        table = table.assign(**came_later)
        missing = [name for name in STORED if name not in table.columns]
        if missing:
            raise BadStore(f"{self.path}: not a benchmark table: no column {', '.join(missing[:3])}")
        return measurements.typed(table)

    def quarantine(self) -> pd.DataFrame:
        """Return the rejected rows: file, line, row_id, source, source_ref, reason."""
        if not self.quarantine_path.exists():
            empty = dict.fromkeys(QUARANTINE_COLUMNS, pd.Series(dtype=str))
            return pd.DataFrame({**empty, "line": pd.Series(dtype=int)})
        return _read(self.quarantine_path)[QUARANTINE_COLUMNS]

    def append(
        self, rows: pd.DataFrame, file: str = "rows", *, rejected: Mapping[int, str] | None = None,
        lines: Sequence[int] | None = None,
    ) -> AppendReport:  # fmt: skip
        """Add the rows that are valid and new; put the invalid ones into the quarantine with their reasons.

        A row without row_id gets one from its content; a row whose id is stored already counts as a
        duplicate. `rejected` (reason by position) is what the caller refuses, such as what physics forbids;
        `lines` are the rows' lines in the file. Either all valid rows are added or, on a crash, none, and no
        stored row is lost. Raises BadRows for columns the table does not know, BadStore where the store
        cannot be read or written.
        """
        if self.shipped:
            allowed = f"BenchmarkStore.create(path) or set {STORE_VARIABLE}"
            raise BadStore(f"the shipped table is read-only: {allowed}")
        given = _identified(measurements.complete(rows))
        numbered = given.assign(file=file, line=lines or range(1, len(given) + 1))
        with self._locked():
            stored = self.load()
            reasons = dict(sorted({**invalid(given), **(rejected or {})}.items()))
            good = given.drop(index=list(reasons))
            new = good[~good["row_id"].isin(stored["row_id"])].drop_duplicates("row_id")
            if reasons:
                bad = numbered.loc[list(reasons)].assign(reason=list(reasons.values()))[QUARANTINE_COLUMNS]
                bad = bad.astype(dict.fromkeys(("row_id", "source", "source_ref"), str))
                both = pd.concat([self.quarantine(), bad], ignore_index=True)
                write_table(both.drop_duplicates(["file", "line", "row_id", "reason"]), self.quarantine_path)
            if len(new):
                write_table(pd.concat([stored, measurements.typed(new)], ignore_index=True), self.path)
        repeated = {int(i): str(good.at[i, "row_id"]) for i in good.index.difference(new.index)}
        return AppendReport(
            added=len(new), duplicates=len(repeated), rejected=len(reasons), reason_of=reasons,
            duplicate_of=repeated,
        )  # fmt: skip

    def snapshot(self) -> tuple[pd.DataFrame, str]:
        """Return `load`'s rows and their `fingerprint`, of one reading."""
        table = self.load()
        return table, fingerprint(table)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock (released by the system if this process dies) and clear what a crash left."""
        try:
            held = FileLock(f"{self.path}.lock", timeout=_LOCK_SECONDS).acquire()
        except Timeout:
            reason = f"another process has been writing for {_LOCK_SECONDS:g} s"
            raise BadStore(f"{self.path}: {reason}") from None
        except OSError as error:
            raise BadStore(f"{self.path}: cannot lock: {error.strerror}") from None
        with held:
            for target in (self.path, self.quarantine_path):
                for leftover in target.parent.glob(f".{target.name}.*.tmp"):
                    leftover.unlink(missing_ok=True)
            yield


def fingerprint(table: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) of a table's content: independent of the order of rows and columns."""
    ordered = table.sort_values("row_id", kind="stable")
    total = hashlib.sha256()
    for name in sorted(STORED):
        total.update(name.encode() + b"\0")
        if name in STORED_NUMBERS:
            values = ordered[name].to_numpy(dtype="<f8", copy=True)
            values[np.isnan(values)] = np.nan
            total.update(values.tobytes())
        else:
            total.update("\0".join(ordered[name]).encode())
    return total.hexdigest()


def _identified(rows: pd.DataFrame) -> pd.DataFrame:
    """Number the rows from 0, use the catalogue's names, fill in row_id and config_group."""
    rows = rows.reset_index(drop=True)
    for kind, find in _FIND.items():
        rows[kind] = [_catalogue_name(find, name) for name in rows[kind]]
    numbers = rows[list(STORED_NUMBERS)].apply(pd.to_numeric, errors="coerce")
    rows["config_group"] = config_group(rows.assign(**numbers))
    rows["row_id"] = rows["row_id"].where(rows["row_id"] != "", row_ids(rows))
    return rows


def _catalogue_name(find: Callable[[str], GpuSpec | ModelSpec], name: str) -> str:
    try:
        return find(name).name
    except (UnknownName, ValueError):
        return name


def invalid(rows: pd.DataFrame) -> dict[int, str]:
    """Return why rows cannot be stored, by position: their columns' faults, names no catalogue knows."""
    found = measurements.faults(rows.assign(row_id=[str(i) for i in range(len(rows))]))
    for kind, find in _FIND.items():
        names = rows[kind].astype(str)
        for name in names.unique():
            try:
                find(name)
            except UnknownName as error:
                fault = Fault(code="unknown-name", column=kind, value=name, allowed=str(error))
                for position in map(int, np.flatnonzero(names == name)):
                    found.setdefault(position, []).append(fault)
    return {position: measurements.joined(faults) for position, faults in found.items()}


def _read(path: Path) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    if not path.exists():
        raise BadStore(f"no benchmark store at {path}: BenchmarkStore.create starts one")
    try:
        frame: pd.DataFrame = pyarrow.parquet.read_table(path).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BadStore(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return frame


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Replace `path` in one step: a reader sees the old file or the new one, whatever happens in between."""
    write = partial(frame.to_parquet, compression="zstd", compression_level=19, index=False)
    try:
        replace_file(path, write)
    except OSError as error:
        raise BadStore(f"{path}: cannot write: {error.strerror}") from None
