"""The whole way from the collected files to the table, the quarantine and the account of every row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..identity import config_group
from ..rows import align, checks, layout, names
from ..rows.draft import reject, sound, text
from ..stated import statements
from ..store import QUARANTINE_COLUMNS
from . import borrowing, collected, folding, inferencex_rules, sources
from .statements import said

# Why each row is faster than physics allows, "" where it is not: roofcast.predictor.audit.impossible.
Judge = Callable[[pd.DataFrame], "pd.Series[str]"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """What became of the collected rows: accepted, folded, rejected; together they are all rows read."""

    table: pd.DataFrame
    quarantine: pd.DataFrame
    account: pd.DataFrame


def run(folder: Path, judge: Judge) -> Build:
    """Build everything from the CSV files in `folder`. Raises BadRows where a file cannot be read."""
    rows = checked(folder, judge)
    rows["reason"] = rows["faults"].map(text)
    bad, good = rows[~sound(rows)], rows[sound(rows)].copy()
    good["config_group"] = config_group(good)
    good = folding.fold(good)
    kept = good[good["folded_into"] == ""].copy()
    inferencex_rules.drop_standstills(kept)
    align.latencies(kept)
    account = rows[["file", "line", "row_id", "source", "source_family", "source_ref", "license", "reason"]]
    account = account.assign(fate="accepted")
    account.loc[bad.index, "fate"] = "rejected"
    account.loc[good.index[good["folded_into"] != ""], "fate"] = "folded"
    return Build(
        table=align.finish(kept),
        quarantine=bad[QUARANTINE_COLUMNS].reset_index(drop=True),
        account=account.reset_index(drop=True),
    )


def checked(folder: Path, judge: Judge) -> pd.DataFrame:
    """Return all rows aligned and checked, `faults` holding why not; before copies are folded."""
    cells = collected.read(folder)
    rows = sources.align(cells)
    terms = said(cells, rows)
    names.resolve(rows)
    layout.settle(rows)
    align.lengths(rows)
    borrowing.borrow(rows)
    rows["stated"] = statements(terms, rows)
    layout.check(rows)
    align.throughputs(rows)
    align.latencies(rows)
    checks.ranges(rows)
    checks.little(rows)
    checks.memory(rows)
    reasons = judge(rows[sound(rows)]).reindex(rows.index, fill_value="")
    for reason in sorted(set(reasons) - {""}):
        reject(rows, reasons == reason, "physics", allowed=reason)
    return rows
