"""The columns of a frame under inspection: values read one by one, faults and notes gathered by row.

Nothing here raises for a bad value: the row is marked invalid and says why, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.catalogue import follows_models
from ..data.errors import RoofcastError
from .columns import Columns, Table
from .facts import FloatArray, IntArray


class Rows:
    """The frame under work: columns on demand, and the notes and faults collected per row."""

    def __init__(self, frame: Table) -> None:
        self.columns = Columns(frame)
        self.n = len(self.columns)
        self.valid = np.ones(self.n, dtype=bool)
        self._notes = np.full(self.n, "", dtype=object)
        self._faults = np.full(self.n, "", dtype=object)
        self._numbers: dict[str, FloatArray] = {}

    @property
    def reason(self) -> NDArray[np.object_]:
        """Why each row is bad, or which defaults were assumed: texts joined by "; ", shape (n,)."""
        return np.where(self.valid, self._notes, self._faults)

    def note(self, rows: NDArray[np.bool_], text: str) -> None:
        """Append a note to the marked rows."""
        if rows.any():
            where = np.flatnonzero(rows)
            self.note_each(where, [text] * len(where))

    def fault(self, rows: NDArray[np.bool_], text: str) -> None:
        """Mark rows invalid, with the reason."""
        if rows.any():
            where = np.flatnonzero(rows)
            self.fault_each(where, [text] * len(where))

    def note_each(self, rows: IntArray, texts: Sequence[str]) -> None:
        """Append to the rows at these positions a note each."""
        _append(self._notes, rows, texts)

    def fault_each(self, rows: IntArray, texts: Sequence[str]) -> None:
        """Mark the rows at these positions invalid, each with its own reason."""
        _append(self._faults, rows, texts)
        self.valid[rows] = False

    def text(self, name: str) -> tuple[IntArray, list[str]]:
        """Return codes and the distinct values of a text column; missing is ''."""
        return self.columns.text(name)

    def number(self, name: str, low: float = 0.0, whole: bool = False, strict: bool = True) -> FloatArray:
        """Return a number column, NaN where missing; text, inf and out-of-range values are faults."""
        if name not in self.columns:
            return np.full(self.n, np.nan)
        if name not in self._numbers:
            self._numbers[name] = self._checked(name, low, whole, strict)
        return self._numbers[name].copy()

    def _checked(self, name: str, low: float, whole: bool, strict: bool) -> FloatArray:
        values, given = self.columns.number(name)
        unknown = np.isnan(values)
        bad = (unknown & given) | np.isinf(values) | (values < low) | ((values == low) & strict)
        if whole:
            bad |= ~unknown & (values != np.round(values))
        if bad.any():
            allowed = f"a {'whole ' if whole else ''}number {'above' if strict else 'of at least'} {low:g}"
            where = np.flatnonzero(bad)
            shown = self.columns.shown(name, where)
            self.fault_each(where, [f"{name} = {value} is not allowed: {allowed}" for value in shown])
            values[bad] = np.nan
        return values


def _append(reasons: NDArray[np.object_], rows: IntArray, texts: Sequence[str]) -> None:
    """Add one text to each of the rows, after what is there."""
    if len(rows):
        reasons[rows] = [
            f"{old}; {new}" if old else new for old, new in zip(reasons[rows], texts, strict=True)
        ]


def codes_of(
    rows: Rows, name: str, allowed: tuple[str, ...], aliases: dict[str, str], other: int | None = None
) -> IntArray:
    """Return codes of a text column into `allowed`, -1 where missing."""
    codes, values = rows.text(name)
    lookup = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(values):
        known = aliases.get(value.lower(), value.lower())
        if known in allowed:
            lookup[i] = allowed.index(known)
        elif value and other is not None:
            lookup[i] = other
            rows.note(codes == i, f"{name} {value!r} is not known: assumed like the less common ones")
        elif value:
            rows.fault(codes == i, f"{name} = {value!r} is not allowed: one of {', '.join(allowed)}")
    return lookup[codes]


@follows_models
def _places(known: Callable[[], Mapping[str, Any]]) -> dict[str, int]:
    """Return each catalogue entry's place by name."""
    return {name: place for place, name in enumerate(known())}


def entries_of(
    rows: Rows, name: str, find: Callable[[str], Any], known: Callable[[], Mapping[str, Any]]
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return catalogue codes of a name column and where a name was given; unknown names are faults."""
    codes, values = rows.text(name)
    index = _places(known)
    lookup = np.zeros(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        if not value:
            continue
        try:
            lookup[i] = index[find(value).name]
        except RoofcastError as error:
            rows.fault(codes == i, str(error))
    return lookup[codes], np.array([bool(v) for v in values], dtype=bool)[codes]


def months_of(rows: Rows) -> FloatArray:
    """Return months since 2025-01 of the date column (YYYY, YYYY-MM or YYYY-MM-DD), NaN where missing."""
    codes, values = rows.text("date")
    months = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        parts = value.split("-")
        if parts[0].isdigit() and len(parts[0]) == 4:
            month = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 6
            months[i] = (int(parts[0]) - 2025) * 12 + month - 1 if 1 <= month <= 12 else np.nan
        if value and np.isnan(months[i]):
            rows.fault(codes == i, f"date = {value!r} is not allowed: YYYY-MM or YYYY-MM-DD")
    return months[codes]


def default(values: FloatArray, default: FloatArray | float) -> FloatArray:
    """Return the values, and the default where they are NaN."""
    return np.where(np.isnan(values), default, values)


def share_of(rows: Rows, name: str, missing: float) -> FloatArray:
    """Return a column of shares from 0 to 1, with the default where missing."""
    share = default(rows.number(name, strict=False), missing)
    over = np.flatnonzero(share > 1.0)
    rows.fault_each(over, [f"{name} = {share[i]:g} is not allowed: a share from 0 to 1" for i in over])
    return np.clip(share, 0.0, 1.0)
