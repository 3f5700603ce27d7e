"""A table of requests, read column by column into arrays, with notes and faults gathered by row.

Nothing here raises for a bad value: the row is marked invalid and says why, the others go on. One question is
a mapping of lists of length 1: it is read without pandas, whose import alone would take a third of the time
that a cold prediction may cost. Both ways give the same arrays for the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..data.columns import COLUMNS
from ..data.vocabulary import SWITCHES, Vocabulary
from .facts import BoolArray, FloatArray, IntArray
from .notes import Note, Notes

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | Mapping[str, Sequence[Any]]"


class Rows:
    """The table under work: columns on demand, missing throughout if absent; notes and faults by row."""

    def __init__(self, table: Table) -> None:
        self.table: Any = table
        self._lists = isinstance(table, Mapping)
        self.n = len(next(iter(table.values()), ())) if isinstance(table, Mapping) else len(table)
        self.valid = np.ones(self.n, dtype=bool)
        self.notes = Notes(self.n)
        self._numbers: dict[str, FloatArray] = {}

    def text(self, name: str) -> tuple[IntArray, list[str]]:
        """Return codes of shape (n,) and the distinct values they stand for, stripped; missing is ''.

        >>> Rows({"gpu": ["h100 ", None, "h100 "]}).text("gpu")
        (array([0, 1, 0]), ['h100', ''])
        """
        if name not in self.table:
            return np.zeros(self.n, dtype=np.int64), [""]
        if self._lists:
            values = ["" if _missing(v) else str(v).strip() for v in self.table[name]]
            distinct = {value: code for code, value in enumerate(dict.fromkeys(values))}
            return np.array([distinct[v] for v in values], dtype=np.int64), list(distinct)
        codes, found = factorized(self.table[name])
        return codes + 1, ["", *(str(value).strip() for value in found)]

    def read_numbers(self, name: str) -> tuple[FloatArray, BoolArray]:
        """Return a new array of numbers (n,), NaN where missing or not a number, and where one was given.

        >>> values, given = Rows({"tp": ["8", None, "x"]}).read_numbers("tp")
        >>> values.tolist(), given.tolist()
        ([8.0, nan, nan], [True, False, True])
        """
        column = self.table[name]
        if self._lists:
            given = [not (_missing(v) or v == "") for v in column]
            numbers = [_number(v) if there else np.nan for v, there in zip(column, given, strict=True)]
            return np.array(numbers, dtype=np.float64), np.array(given, dtype=bool)
        import pandas as pd

        raw = column if column.dtype.kind in "biufc" else column.astype(object)
        try:
            array = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan).copy()
        except TypeError:  # a list or a mapping in some cell
            array = np.array([np.nan if _missing(v) else _number(v) for v in raw], dtype=np.float64)
        unknown = np.isnan(array)
        if unknown.any():
            unknown &= (column.isna() | (raw == "")).to_numpy(dtype=bool)
        return array, ~unknown

    def note(self, where: BoolArray, code: str, column: str = "", value: Any = None, limit: Any = "") -> None:
        """Add a note to the marked rows; value and limit are one for all, or arrays of shape (n,)."""
        if where.any():
            rows = np.flatnonzero(where)
            value, limit = (v[rows] if isinstance(v, np.ndarray) else v for v in (value, limit))
            self.notes.add(rows, Note(code=code, column=column, value=value, limit=limit))

    def fault(self, where: BoolArray, code: str, *about: Any) -> None:
        """Mark rows invalid, with the reason; arguments as in `note`."""
        self.note(where, code, *about)
        self.valid[where] = False

    def number(
        self, name: str, low: float = 0.0, whole: bool = False, strict: bool = True,
        words: BoolArray | bool = False, endless: bool = False,
    ) -> FloatArray:  # fmt: skip
        """Return a number column, NaN where missing; text, inf and out-of-range values are faults.

        words: where a word stands that is read otherwise, which is no fault; endless: inf may stand.
        """
        if name not in self.table:
            return np.full(self.n, np.nan)
        if name not in self._numbers:
            values, given = self.read_numbers(name)
            values, given = np.where(words, np.nan, values), given & ~np.asarray(words)
            unknown = np.isnan(values)
            high = COLUMNS[name].high if COLUMNS[name].kind != "share" else np.inf
            great = (values > high) & ~(np.isinf(values) & endless)
            bad = (unknown & given) | (np.isinf(values) & ~np.array(endless)) | great
            bad |= (values < low) | ((values == low) & strict)
            if whole:
                bad |= ~unknown & (values != np.round(values))
            if bad.any():
                allowed = (
                    f"a {'whole ' if whole else ''}number {'above' if strict else 'of at least'} {low:g}"
                    + (f", {high:g} at most" if (great & np.isfinite(values)).any() else "")
                )
                column = self.table[name] if self._lists else self.table[name].array
                shown = np.full(self.n, "", dtype=object)
                shown[bad] = [_as_written(column[row]) for row in np.flatnonzero(bad)]
                self.fault(bad, "not-allowed", name, shown, allowed)
                values[bad] = np.nan
            self._numbers[name] = values
        return self._numbers[name].copy()

    def share(self, name: str, missing: float) -> FloatArray:
        """Return a column of shares from 0 to 1, with a default where missing."""
        share = default(self.number(name, strict=False), missing)
        self.fault(share > 1.0, "not-allowed", name, share, "a share from 0 to 1")
        return np.clip(share, 0.0, 1.0)

    def word(self, name: str, vocabulary: Vocabulary[Any]) -> IntArray:
        """Return codes of a text column in a vocabulary, -1 where missing; unknown words are faults."""
        codes, values = self.text(name)
        lookup = np.full(len(values), -1, dtype=np.int64)
        for i, value in enumerate(values):
            found = vocabulary.find(value)
            if found:
                lookup[i] = vocabulary.index(found)
            elif value:
                self.fault(codes == i, "unknown-word", name, value, ", ".join(vocabulary))
        return lookup[codes]

    def flag(self, name: str) -> tuple[BoolArray, BoolArray]:
        """Return where a switch is on, and where it is given; words that are no switch are faults."""
        codes = self.word(name, SWITCHES)
        return codes == SWITCHES.index("on"), codes >= 0

    def months(self, name: str) -> FloatArray:
        """Return months since 2025-01 of a date column (YYYY, YYYY-MM or YYYY-MM-DD), NaN where missing."""
        codes, values = self.text(name)
        months = np.full(len(values), np.nan)
        for i, value in enumerate(values):
            parts = value.split("-")
            if parts[0].isdigit() and len(parts[0]) == 4:
                month = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 6
                months[i] = (int(parts[0]) - 2025) * 12 + month - 1 if 1 <= month <= 12 else np.nan
            if value and np.isnan(months[i]):
                self.fault(codes == i, "not-allowed", name, repr(value), "YYYY-MM or YYYY-MM-DD")
        return months[codes]


def factorized(column: pd.Series) -> tuple[IntArray, pd.Index[Any]]:
    """Return the codes of a column's values, -1 where missing, and the distinct values; a list as text."""
    import pandas as pd

    try:
        codes, found = pd.factorize(column)
    except TypeError:  # some cell holds a list or a mapping
        codes, found = pd.factorize(column.map(lambda value: None if _missing(value) else str(value)))
    return codes.astype(np.int64), found


def default(values: FloatArray, default: FloatArray | float) -> FloatArray:
    """Return the values, and the default where they are NaN."""
    return np.where(np.isnan(values), default, values)


def _as_written(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    return f"{plain:g}" if isinstance(plain, float) else repr(plain)


def _missing(value: Any) -> bool:
    """Tell None, NaN, NaT and pandas' NA, which answers no comparison, from values."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True


def _number(value: Any) -> float:
    """Read a number as pandas does: NaN for what is none."""
    try:
        return float(value) if not isinstance(value, str) or "_" not in value else np.nan
    except (TypeError, ValueError):
        return np.nan
