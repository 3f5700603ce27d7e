"""Rows of the benchmark table: completed to its columns, checked against them, typed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .columns import COLUMNS, FIGURES, STORED, STORED_NUMBERS, STORED_TEXTS, Column
from .errors import BadRows, Fault


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with every stored column, in order; what is not given is default or unknown.

    Raises BadRows for a column that the table does not have and for one that it cannot do without.
    """
    strange = sorted(set(map(str, rows.columns)) - set(STORED))
    needed = {name for name in STORED if COLUMNS[name].required} - {"row_id"}
    faults = [Fault(code="unknown-column", column=name) for name in strange]
    faults += [Fault(code="missing-column", column=n) for n in STORED if n in needed and n not in rows]
    if faults:
        raise BadRows("rows", [(0, str(fault)) for fault in faults])
    full = rows.copy()
    for name in STORED:
        column = COLUMNS[name]
        if name not in full:
            full[name] = empty(column)
        elif column.missing is not None or column.is_text:
            full[name] = full[name].where(full[name].notna(), empty(column))
    return full[list(STORED)]


def empty(column: Column) -> float | str:
    """Return what a stored row holds in a column where nothing is given."""
    if column.missing is not None:
        return column.missing
    return "" if column.is_text else np.nan


def faults(rows: pd.DataFrame) -> dict[int, list[Fault]]:
    """Return what is wrong with each row, by position from 0; sound rows are absent."""
    numbered = rows.reset_index(drop=True)
    found: dict[int, list[Fault]] = {}
    for name in STORED:
        shown, checks = _checks(numbered[name], COLUMNS[name])
        for wrong, allowed in checks:
            for position in map(int, np.flatnonzero(wrong)):
                fault = Fault(code="value", column=name, value=shown.iloc[position], allowed=allowed)
                found.setdefault(position, []).append(fault)
    blind = numbered[list(FIGURES)].apply(pd.to_numeric, errors="coerce").isna().all(axis=1)
    for position in map(int, np.flatnonzero(blind)):
        found.setdefault(position, []).append(Fault(code="no-figure"))
    return dict(sorted(found.items()))


def _checks(
    values: pd.Series[Any], column: Column
) -> tuple[pd.Series[Any], list[tuple[pd.Series[bool], str]]]:
    """Return the values as they are shown, and (which are wrong, what is allowed) by check."""
    if not column.is_text:
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        no_number = numbers.isna() & values.notna()
        outside = (numbers < column.low) | (numbers > column.high)
        needed = [(values.isna(), "not missing")] if column.required else []
        between = f"between {column.low:g} and {column.high:g}"
        shown = numbers.astype(object).where(~no_number, values)
        return shown, [(no_number, "a number"), *needed, (outside, between)]
    shown = values.astype(str)
    checks = [(shown.duplicated(keep=False), "unique")] if column.name == "row_id" else []
    if column.allowed:
        allowed = "one of " + ", ".join(name or "empty" for name in column.allowed)
        checks.append((~shown.isin(column.allowed), allowed))
    elif column.required:
        checks.append((shown == "", "not empty"))
    return shown, checks


def validate(rows: pd.DataFrame, file: str = "rows") -> pd.DataFrame:
    """Return complete, typed rows, or raise BadRows: file, line (1 = the first row), column, reason."""
    full = complete(rows)
    wrong = faults(full)
    if wrong:
        raise BadRows(file, [(position + 1, joined(found)) for position, found in wrong.items()])
    return typed(full)


def joined(faults: list[Fault]) -> str:
    """Return a row's faults in one text."""
    return "; ".join(dict.fromkeys(map(str, faults)))


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose `ttft_ms` is a median: what is said to be a mean stands in `ttft_mean_ms` alone."""
    if "ttft_stat" not in rows or "ttft_ms" not in rows:
        return rows
    median = rows["ttft_stat"] != "mean"
    means = rows["ttft_mean_ms"] if "ttft_mean_ms" in rows else pd.Series(np.nan, index=rows.index)
    mean = means.where(median | means.notna(), rows["ttft_ms"])
    return rows.assign(ttft_ms=rows["ttft_ms"].where(median), ttft_mean_ms=mean)


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table's columns as text and float64, in order."""
    kinds = dict.fromkeys(STORED_TEXTS, str) | dict.fromkeys(STORED_NUMBERS, float)
    return rows[list(STORED)].astype(kinds).reset_index(drop=True)
