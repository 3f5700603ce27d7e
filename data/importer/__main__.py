"""`python -m roofcast.data.importer FOLDER`: rebuild the shipped table from the collected files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import RoofcastError
from . import build, report


def main(arguments: list[str] | None = None) -> int:
    """Write benchmarks.parquet, quarantine.parquet and SOURCES.md; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m roofcast.data.importer", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of collected CSV files (../shared/benchmarks)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parents[1], help="default: the package"
    )
    given = parser.parse_args(arguments)
    try:
        result = build.run(given.folder)
        build.write(result, given.out)
    except RoofcastError as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command's one line)
        return 1
    (given.out / "SOURCES.md").write_text(report.sources(result.account), encoding="utf-8")
    fates = result.account["fate"].value_counts()
    print(", ".join(f"{count} {fate}" for fate, count in fates.items()))  # noqa: T201 (a command's answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
