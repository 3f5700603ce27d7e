"""The group `fabric`: is this machine fit to be benchmarked?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shared import File, Json, Text, fail, print_json, show

if TYPE_CHECKING:
    from ..fabric import Verdict

app = typer.Typer(no_args_is_help=True)
_COLOURS = {"healthy": "green", "degraded": "red", "unknown": "yellow"}


@app.callback()
def group() -> None:
    """Check a machine's fabric before trusting its benchmarks."""


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, or folders of files, that hold captured output.")
    ] = None,
    platform: Annotated[Text, typer.Option(help="What the machine is, such as hgx-b200.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run the tools installed here; only reading.")] = False,
    time_limit: Annotated[float, typer.Option(help="With --run: seconds for each tool.")] = 60.0,
    measured: Annotated[
        File, typer.Option(help="Write the measured fabric here, for roofcast predict --fabric.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge captured output of nvidia-smi, NCCL, nccl-tests and numactl.

    The exit code is 0 for healthy, 1 for degraded, 2 for unknown or unreadable.
    """
    from ..fabric.check import judge, read_paths

    if not paths and not run:
        fail("nothing to check: name files or folders, or add --run")
    if time_limit <= 0.0:
        fail(f"--time-limit {time_limit:g} is not allowed: seconds above 0")
    read = read_paths(paths or [])
    if run:
        from ..fabric.running import run_tools

        read += run_tools(time_limit)
    verdict = judge(read, platform)
    if measured is not None:
        from ..fabric.fitting import measure, write_measured

        write_measured(measured, *measure(read, platform))
    if as_json:
        print_json(verdict.to_dict())
    else:
        _show(verdict)
    raise typer.Exit(verdict.exit_code)


def _show(verdict: Verdict) -> None:
    """Print the checks as a table, then what was expected and seen of each that is not healthy."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "status", "found", box=None, pad_edge=False)
    for row in verdict.checks:
        table.add_row(row.check, f"[{_COLOURS[row.status]}]{row.status}", escape(row.found))
    if verdict.checks:
        show(table)
    for row in (row for row in verdict.checks if row.status != "healthy"):
        typer.echo(f"\n{row.check} {row.status}")
        for line in row.evidence[:3]:
            typer.echo(f"  {line.file}:{line.line}: {line.text.strip()[:100]}")
        told = {"expected": row.expected, "why": row.why, "missing": row.missing, "next": row.next_command}
        for name, text in told.items():
            if text:
                typer.echo(f"  {name}: {text}")
    notes = [f"{report.file}: {report.note}" for report in verdict.files if report.note]
    for note in (*notes, *verdict.notes):
        typer.echo(note)
    typer.echo(f"\n{verdict.status}: {verdict.reason}")
