"""The whole way from the collected files to the table, the quarantine and the account of every row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..groups import config_group
from ..store import QUARANTINE_COLUMNS, QUARANTINE_FILE, TABLE_FILE, write_table
from . import align, checks, dedupe, families, layout, names, raw, twins


@dataclass(frozen=True, kw_only=True)
class Import:
    """What became of the collected rows: accepted, folded, rejected; together they are all rows read."""

    table: pd.DataFrame
    quarantine: pd.DataFrame
    account: pd.DataFrame


def run(folder: Path, audit: checks.Audit = checks.simple_audit) -> Import:
    """Build everything from the CSV files in `folder`.

    `audit` says of a frame of aligned rows why each is faster than physics allows ("" where it is not): the
    simple bound of `checks`, or the physics of a later room. Raises BadRows where a file cannot be read.
    """
    rows = checked(folder, audit)
    good = rows[rows["reject"] == ""].copy()
    good["config_group"] = config_group(good)
    good = dedupe.fold(good)
    kept = good[good["folded_into"] == ""].copy()
    checks.stalls(kept)
    align.latencies(kept)
    bad = rows[rows["reject"] != ""]
    quarantine = bad.assign(reason=bad["reject"])[QUARANTINE_COLUMNS]
    account = rows[["file", "line", "row_id", "source", "source_family", "source_ref", "license"]].copy()
    account["reason"] = rows["reject"]
    account["fate"] = "accepted"
    account.loc[bad.index, "fate"] = "rejected"
    account.loc[good.index[good["folded_into"] != ""], "fate"] = "folded"
    return Import(
        table=align.finish(kept),
        quarantine=quarantine.reset_index(drop=True),
        account=account.reset_index(drop=True),
    )


def checked(folder: Path, audit: checks.Audit = checks.simple_audit) -> pd.DataFrame:
    """Return all rows aligned and checked, `reject` saying why not; before copies are folded."""
    rows = families.apply_rules(raw.read(folder))
    names.resolve(rows)
    layout.settle(rows)
    align.lengths(rows)
    twins.borrow(rows)
    layout.check(rows)
    align.throughputs(rows)
    align.latencies(rows)
    checks.ranges(rows)
    checks.little(rows)
    checks.memory(rows)
    checks.physics(rows, audit)
    return rows


def write(result: Import, folder: Path) -> None:
    """Write the table and the quarantine into `folder`, each in one step. Raises BadStore where it cannot."""
    write_table(result.table, folder / TABLE_FILE)
    write_table(result.quarantine, folder / QUARANTINE_FILE)
