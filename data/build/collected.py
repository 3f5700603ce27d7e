"""The collected CSV files as one draft frame: source columns, plus the columns that the rules fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import BadRows
from ..rows.draft import DECIDED_NUMBERS, DECIDED_TEXTS, NUMBERS, TEXTS

FILES = ("inferencex.csv", "aic_silicon.csv", "mlperf.csv", "vendor.csv", "academic.csv", "serving_json.csv")


def read(folder: Path) -> pd.DataFrame:
    """Read every collected CSV file of `folder` into one draft frame, in the order of FILES.

    Adds `file` and `line` (of the CSV file, counted from 1 with the header) and the draft columns.
    Raises BadRows where a file is missing, lacks a column or holds text in a numeric column.
    """
    frames = [_read_file(folder / name) for name in FILES]
    return pd.concat(frames, ignore_index=True)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, str(error))]) from None
    missing = sorted({*NUMBERS, *TEXTS} - set(cells.columns))
    if missing:
        raise BadRows(path, [(0, f"missing column {name}") for name in missing])
    draft: pd.DataFrame = cells[TEXTS].apply(lambda column: column.str.strip())
    for name in NUMBERS:
        draft[name] = _numbers(path, cells[name])
    draft["file"] = path.name
    draft["line"] = np.arange(2, len(cells) + 2)
    draft = draft.assign(**DECIDED_NUMBERS, **DECIDED_TEXTS)
    for name in ("faults", "remarks"):
        draft[name] = pd.Series([()] * len(draft), index=draft.index, dtype=object)
    return draft


def _numbers(path: Path, cells: pd.Series[Any]) -> pd.Series[float]:
    values = pd.to_numeric(cells, errors="coerce").astype(float)
    bad = values.isna() & (cells.str.strip() != "")
    if bad.any():
        raise BadRows(
            path, [(int(i) + 2, f"{cells.name} = {cells[i]!r} is no number") for i in cells.index[bad]]
        )
    return values
