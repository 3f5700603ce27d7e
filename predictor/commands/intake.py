"""The command that takes in benchmark tools' result files: `ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.columns import COLUMNS
from .options import REQUEST, takes
from .shared import Count, File, Json, Text, fail, print_json

_SHOWN = 20  # rows a file's report lists in full; --json lists all
ANSWERS: dict[str, tuple[Any, str]] = {
    **{name: (kind, COLUMNS[name].help) for name, (kind, _) in REQUEST.items()},
    "engine": (Text, "The engine that served: vllm, trtllm, sglang, ..."),
    "date": (Text, "Day of the measurement, YYYY-MM-DD or YYYY-MM."),
    "replicas": (Count, "Independent copies of the model behind one address."),
    "length_kind": (Text, COLUMNS["length_kind"].help),
    "source": (Text, "Who measured, one word [default: ingested-TOOL]"),
    "source_ref": (Text, "Where the figures come from [default: the file]"),
    "license": (Text, "Licence of the figures."),
}


@takes(ANSWERS)
def ingest(
    answers: dict[str, Any],
    files: Annotated[list[Path], typer.Argument(help="Result files of benchmark tools.")],
    store: Annotated[
        File, typer.Option(help="Table to add to [default: $ROOFCAST_STORE or ./benchmarks.parquet]")
    ] = None,
    mapping: Annotated[File, typer.Option(help="TOML file that says what a CSV's columns are.")] = None,
    fabric: Annotated[File, typer.Option(help="Folder with captures of the machine's fabric checks.")] = None,
    accept_degraded: Annotated[
        bool, typer.Option("--accept-degraded", help="Take rows from a degraded fabric too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check benchmark tools' result files and add what is valid and new to a store.

    What a file says is read from it; the options say the rest, for all files.
    """
    from ...data.ingest import Fabric
    from ...data.ingest import ingest as run
    from .. import fabric as checks
    from ..audit import impossible

    verdict = None
    if fabric is not None:
        found = checks.check([fabric])
        reason = checks.reason(found)
        verdict = Fabric(status=found.status, reason=reason, accept_degraded=accept_degraded)
    report = run(files, store=store, mapping=mapping, answers=answers, fabric=verdict, judge=impossible)
    if as_json:
        print_json(report.to_dict())
    else:
        for file in report.files:
            typer.echo(f"{file.file}: {file.problem or file.tool}")
            for row in file.rows[:_SHOWN]:
                typer.echo(f"  line {row.line}: {row.fate}" + f" {row.reason}".rstrip() + f" [{row.what}]")
            if len(file.rows) > _SHOWN:
                typer.echo(f"  and {len(file.rows) - _SHOWN} more rows: --json lists them")
        counts = ", ".join(f"{count} {fate.replace('_', ' ')}" for fate, count in report.counts.items())
        typer.echo(f"{report.store}: {counts}")
    problems = [f"{file.file}: {file.problem}" for file in report.files if file.problem]
    if problems:
        fail(problems[0] + (f"; and {len(problems) - 1} more" if problems[1:] else ""))
