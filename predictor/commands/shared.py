"""What commands share: the types of options, how they end, and output as tables, lines, JSON or a bar.

A command ends with 0 where it answered; EXIT_BAD_INPUT where a name, a value or what a file says is wrong;
EXIT_ERROR where something cannot be read or written, or was stopped; with --check, EXIT_NO where the answer
is no: infeasible, impossible, none found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

import typer

from ...data.errors import RoofcastError

if TYPE_CHECKING:
    from ..predictor import Predictor

Text: TypeAlias = str | None
Count: TypeAlias = int | None
Number: TypeAlias = float | None
File: TypeAlias = Path | None
Many: TypeAlias = list[str] | None
EXIT_ERROR, EXIT_BAD_INPUT, EXIT_NO = 1, 2, 3
Check = Annotated[bool, typer.Option("--check", help=f"End with exit code {EXIT_NO} where the answer is no.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Bundle = Annotated[
    Text, typer.Option(help="Bundle folder or models:/roofcast@champion [default: the shipped one]")
]
Store = Annotated[File, typer.Option(help="Benchmark table to use instead of the shipped one.")]


def load(bundle: str | None) -> Predictor:
    """Return the predictor of a bundle, the shipped one unless named; imported no sooner than it is used."""
    from ..predictor import Predictor

    return Predictor.load(bundle)


def report(figures: dict[str, Any], as_json: bool) -> None:
    """Print nested figures: as JSON, or one line each, "name.name: value"."""
    if as_json:
        print_json(figures)
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            report({f"{name}.{inner}": figure for inner, figure in value.items()}, as_json)
        else:
            typer.echo(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def show(*values: Any) -> None:
    """Print results, tables or text on stdout; what draws is imported no sooner than it is used."""
    from ..show import show as draw

    draw(*values)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    from ...data.files import for_json

    typer.echo(json.dumps(for_json(value), indent=1, default=str))


@contextmanager
def progress_bar(as_json: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on stderr (none with --json) and yield what moves it: stage in words, share done 0 to 1."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<40}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def fail(message: str) -> NoReturn:
    """End the command with one line on stderr, for bad input."""
    raise RoofcastError(message)


def end(check: bool, yes: bool) -> None:
    """End an answered command: with --check by whether the answer is yes."""
    if check and not yes:
        raise typer.Exit(EXIT_NO)
