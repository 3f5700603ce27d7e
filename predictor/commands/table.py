"""Commands on the benchmark table: `rebuild`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from .shared import File, Json, report


def rebuild(
    folder: Annotated[Path, typer.Argument(help="The folder of collected CSV files (../shared/benchmarks).")],
    out: Annotated[
        File, typer.Option(help="Folder to write the table, the quarantine and SOURCES.md to.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuild the shipped benchmark table from the collected files; what physics forbids is quarantined."""
    from ...data.importer import build
    from ...data.importer.report import sources
    from ..audit import impossible

    target = out or Path(str(files("roofcast.data")))
    result = build.run(folder, impossible)
    build.write(result, target)
    (target / "SOURCES.md").write_text(sources(result.account), encoding="utf-8")
    report({str(fate): int(count) for fate, count in result.account["fate"].value_counts().items()}, as_json)
