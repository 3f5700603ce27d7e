"""Columns of a request table as numpy arrays, from a pandas frame or from a mapping of lists.

One question is a mapping of lists of length 1: it is read without pandas, whose import alone would take a
third of the time that a cold prediction may cost. Both ways give the same arrays for the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .facts import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | Mapping[str, Sequence[Any]]"


class Columns:
    """Named columns of equal length; a name that is absent reads as missing throughout."""

    def __init__(self, table: Table) -> None:
        self._lists: dict[str, list[Any]] | None = None
        if isinstance(table, Mapping):
            self._lists = {name: list(values) for name, values in table.items()}
            self._length = len(next(iter(self._lists.values()), ()))
        else:
            self._frame = table
            self._length = len(table)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: str) -> bool:
        return name in (self._lists if self._lists is not None else self._frame)

    def text(self, name: str) -> tuple[IntArray, list[str]]:
        """Return codes of shape (n,) and the distinct values they stand for, stripped; missing is ''.

        >>> Columns({"gpu": ["h100 ", None, "h100 "]}).text("gpu")
        (array([0, 1, 0]), ['h100', ''])
        """
        if name not in self:
            return np.zeros(self._length, dtype=np.int64), [""]
        if self._lists is not None:
            values = ["" if _missing(v) else str(v).strip() for v in self._lists[name]]
            distinct = {value: code for code, value in enumerate(dict.fromkeys(values))}
            return np.array([distinct[v] for v in values], dtype=np.int64), list(distinct)
        import pandas as pd

        codes, found = pd.factorize(self._frame[name])
        return codes.astype(np.int64) + 1, ["", *(str(value).strip() for value in found)]

    def number(self, name: str) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return a new array of numbers (n,), NaN where missing or not a number, and where one was given.

        >>> values, given = Columns({"tp": ["8", None, "x"]}).number("tp")
        >>> values.tolist(), given.tolist()
        ([8.0, nan, nan], [True, False, True])
        """
        if name not in self:
            return np.full(self._length, np.nan), np.zeros(self._length, dtype=bool)
        if self._lists is not None:
            values = self._lists[name]
            given = [not (_missing(v) or v == "") for v in values]
            numbers = [_number(v) if there else np.nan for v, there in zip(values, given, strict=True)]
            return np.array(numbers, dtype=np.float64), np.array(given, dtype=bool)
        import pandas as pd

        column = self._frame[name]
        raw = column if column.dtype.kind in "biufc" else column.astype(object)
        array = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan).copy()
        unknown = np.isnan(array)
        if unknown.any():
            unknown &= (column.isna() | (raw == "")).to_numpy(dtype=bool)
        return array, ~unknown

    def shown(self, name: str, rows: IntArray) -> list[str]:
        """Return the values of some rows as a person would write them."""
        if self._lists is not None:
            return [_words(self._lists[name][row]) for row in rows]
        return [_words(value) for value in self._frame[name].iloc[rows].to_numpy(object)]


def _words(value: Any) -> str:
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
