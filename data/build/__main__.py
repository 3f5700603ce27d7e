"""Rebuilds the shipped table, its quarantine and SOURCES.md: `python -m roofcast.data.build FOLDER`.

A workshop of the repository, not installed. FOLDER holds the collected CSV files (../shared/benchmarks).
Reading order: `collected` (the files as one draft frame), `sources` (sources.toml and its application), the
rule modules that it names, `borrowing`, `folding`, `pipeline`, `account`.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.resources import files
from pathlib import Path

from ..store import QUARANTINE_FILE, TABLE_FILE, write_table
from .account import sources
from .pipeline import run


def main(arguments: list[str]) -> None:
    """Rebuild from FOLDER into the repository, or into --out."""
    from roofcast.predictor.audit import impossible  # the workshop stands beside the house, not in it

    parser = argparse.ArgumentParser(prog="python -m roofcast.data.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="the collected CSV files (../shared/benchmarks)")
    parser.add_argument("--out", type=Path, help="where to write instead of data/")
    given = parser.parse_args(arguments)
    target = given.out or Path(str(files("roofcast.data")))
    result = run(given.folder, impossible)
    write_table(result.table, target / TABLE_FILE)
    write_table(result.quarantine, target / QUARANTINE_FILE)
    (target / "SOURCES.md").write_text(sources(result.account), encoding="utf-8")
    fates = result.account["fate"].value_counts()
    sys.stdout.write(json.dumps({str(fate): int(count) for fate, count in fates.items()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
