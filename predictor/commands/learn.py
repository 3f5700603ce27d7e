"""Commands of the maintainer: `train`, `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import Json, Store, progress_bar, report


def train(
    store: Store = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the bundle to.")] = None,
    track: Annotated[bool, typer.Option(help="Record the training in MLflow and register its model.")] = True,
    as_json: Json = False,
) -> None:
    """Train a model on the benchmark table and write its bundle."""
    from ...training.train import train as run

    with progress_bar(as_json) as progress:
        result = run(store=store, out=out, track=track, progress=progress)
    figures = {"bundle": str(result.bundle), "run_id": result.run_id, "seconds": round(result.seconds, 1)}
    report({**figures, "metrics": result.metrics}, as_json)


def evaluate(
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder for accuracy.md and accuracy.json.")] = Path("docs"),
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="Protocol to run: configuration, family, platform, model or source; may repeat."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rerun the grouped protocols and write the accuracy report."""
    from ...training.evaluate import evaluate as run
    from ...training.splits import PROTOCOLS

    with progress_bar(as_json) as progress:
        figures = run(store=store, out=out, protocols=tuple(protocol or PROTOCOLS), progress=progress)
    report(figures, as_json)
