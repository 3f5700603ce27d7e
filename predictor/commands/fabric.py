"""The group `fabric`: is this machine fit to be benchmarked?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .shared import Check, File, Json, Text, end, fail, print_json

app = typer.Typer(no_args_is_help=True)


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
    strict: Check = False,
    as_json: Json = False,
) -> None:
    """Judge captured output of nvidia-smi, NCCL, nccl-tests and numactl.

    The exit code is 0 for healthy, 1 for degraded, 2 for unknown or unreadable; with --check 3 for both.
    """
    from rich.console import Console

    from .. import fabric

    if not paths and not run:
        fail("nothing to check: name files or folders, or add --run")
    if time_limit <= 0.0:
        fail(f"--time-limit {time_limit:g} is not allowed: seconds above 0")
    report = fabric.check(paths or [], platform, run=run, time_limit_s=time_limit, measured=measured)
    if as_json:
        print_json(fabric.report_json(report))
    else:
        # A pipe has no width: a line is folded for people, never for the next program.
        Console(highlight=False, width=None if sys.stdout.isatty() else 10_000).print(fabric.show(report))
    end(strict, not report.exit_code)
    raise typer.Exit(report.exit_code)
