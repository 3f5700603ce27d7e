"""Whether two rows of one configuration are the same run, from their figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .draft import sound

Floats = npt.NDArray[np.float64]

# Copies of one run agree to the digits that were kept; repeats of a configuration differ by 1 to 4 % in TPOT.
SAME_DIGITS = 5e-4
EQUAL = 1e-5
COMPARED = ("output_tok_s", "ttft_ms", "tpot_ms", "ttft_mean_ms", "tpot_mean_ms", "e2e_ms")


def same_digits(gaps: Floats) -> bool:
    """Whether figures agree to the digits kept; gaps: |log(one / other)| each, NaN where one is unknown."""
    known = gaps[~np.isnan(gaps)]
    return bool(len(known) and (known < SAME_DIGITS).all())


def same_run(gaps: Floats) -> bool:
    """Whether figures are those of one run: the same digits in three of them, or all of them equal."""
    known = gaps[~np.isnan(gaps)]
    return same_digits(gaps) and bool(len(known) >= 3 or (known < EQUAL).all())


def duplicates(rows: pd.DataFrame, stored: pd.DataFrame) -> dict[int, str]:
    """Return which sound rows repeat a stored run or one of an earlier row, and which run that is."""
    new = rows[sound(rows)]
    groups: dict[str, list[tuple[str, Floats]]] = {}
    for row in stored[stored["config_group"].isin(new["config_group"])].to_dict("records"):
        label = f"of {row['row_id']} ({row['source']}, {row['date']})"
        groups.setdefault(row["config_group"], []).append((label, _figures(row)))
    found: dict[int, str] = {}
    for position, row in zip(new.index, new.to_dict("records"), strict=True):
        figures, known = _figures(row), groups.setdefault(row["config_group"], [])
        label = next((label for label, other in known if same_run(np.abs(figures - other))), "")
        if label:
            found[position] = label
        else:
            known.append((f"of line {int(row['line'])} of the same file", figures))
    return found


def _figures(row: Mapping[Any, Any]) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(np.log([float(row[name]) for name in COMPARED]))
