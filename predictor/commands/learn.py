"""What the maintainer runs: `train`, `evaluate`, `tune`, `retrain`, `rollback`, `suggest`, `ui`."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import shared
from .options import completion
from .shared import Bundle, File, Json, Many, Number, Store, Text, print_json, progress_bar, report, show

if TYPE_CHECKING:
    from ...training.tracking import Serving


def serving() -> Serving:
    """Return how a registered model answers: the Predictor behind MLflow's interface, with all it imports."""
    from ...training.tracking import Serving
    from ..predictor import ANSWER_COLUMNS

    kinds = {"support": "string", "laid_out": "string", "reason": "string", "feasible": "boolean"}
    return Serving(
        code=Path(__file__).parents[1] / "pyfunc_model.py",
        packages=("roofcast.data", "roofcast.features", "roofcast.training.model", "roofcast.predictor"),
        answered={name: kinds.get(name, "double") for name in ANSWER_COLUMNS},
        example={
            "model": ["qwen2.5-72b", "llama-3.3-70b"], "platform": ["hgx-b200", "hgx-h200"], "tp": [8, 4],
            "weight_precision": ["fp4", "fp8"], "engine": ["trtllm", "vllm"], "isl": [2048, 1000],
            "osl": [512, 1000], "concurrency": [32, 64],
        },
    )  # fmt: skip


def train(
    store: Store = None,
    out: Annotated[File, typer.Option(help="Folder to write the bundle to.")] = None,
    track: Annotated[bool, typer.Option(help="Record the training in MLflow and register its model.")] = True,
    as_json: Json = False,
) -> None:
    """Train a model on the benchmark table and write its bundle."""
    from ...training.train import train as run

    with progress_bar(as_json) as progress:
        result = run(store=store, out=out, serving=serving() if track else None, progress=progress)
    figures = {"bundle": str(result.bundle), "run_id": result.run_id, "seconds": round(result.seconds, 1)}
    report({**figures, "metrics": result.metrics}, as_json)


def evaluate(
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder for accuracy.md and accuracy.json.")] = Path("docs"),
    protocol: Annotated[
        Many,
        typer.Option(
            help="Protocol to run: configuration, family, platform, model, source; may repeat [default: all]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rerun the grouped protocols and write the accuracy report."""
    from ...training.report import evaluate as run
    from ...training.splits import PROTOCOLS

    shipped = shared.load(None)
    with progress_bar(as_json) as progress:
        figures = run(
            store=store, out=out, protocols=tuple(protocol or PROTOCOLS), ask=shipped.laid_out,
            answer=shipped.predict_frame, progress=progress,
        )  # fmt: skip
    report(figures, as_json)


def tune(
    trials: Annotated[int, typer.Option(help="Trials to add to the study.")] = 30,
    storage: Annotated[
        str, typer.Option(help="Journal file or database URL of the study, to go on with or to share.")
    ] = "study.journal",
    store: Store = None,
    out: Annotated[File, typer.Option(help="Folder for tuning.png and tuning.csv.")] = None,
    track: Annotated[bool, typer.Option(help="Record each trial in MLflow.")] = True,
    as_json: Json = False,
) -> None:
    """Search the learner's parameters; the study may be stopped, continued and shared."""
    from ...training.tune import tune as run

    with progress_bar(as_json) as progress:
        result = run(trials=trials, storage=storage, store=store, out=out, track=track, progress=progress)
    report(asdict(result), as_json)


def retrain(
    store: Store = None,
    margin: Annotated[
        Number, typer.Option(help="Share of itself by which an error may grow [default: 0.03]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train though nothing is new.")] = False,
    as_json: Json = False,
) -> None:
    """Train a challenger on the table's new rows too; promote it if it is better than the champion."""
    from ...training.retrain import MARGIN
    from ...training.retrain import retrain as run

    bundle = as_file(files("roofcast.predictor").joinpath("bundle"))
    with progress_bar(as_json) as progress, bundle as shipped:
        result = run(
            serving=serving(), shipped=shipped, store=store, margin=MARGIN if margin is None else margin,
            force=force, progress=progress,
        )  # fmt: skip
    report(asdict(result), as_json)


def rollback(
    to: Annotated[Text, typer.Option(help="Version to go to [default: the champion before]")] = None,
    as_json: Json = False,
) -> None:
    """Return to the champion before this one, or to any registered version."""
    from ...training.registry import rollback as run

    report(run(to=to), as_json)


def suggest(
    platform: Annotated[
        str,
        typer.Option(help="Platform to measure on, such as hgx-b200.", autocompletion=completion("platform")),
    ],
    budget: Annotated[int, typer.Option(help="Setups that can be measured.")] = 10,
    model: Annotated[
        Many, typer.Option(help="Model to ask about; may repeat [default: the catalogue's]")
    ] = None,
    store: Store = None,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Suggest what to measure next: the setups that would narrow the intervals most."""
    from ...training.suggest import suggest as run
    from ..show import listing

    rows = run(shared.load(bundle).model, platform=platform, budget=budget, models=model or (), store=store)
    records = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    if as_json:
        print_json(records)
    elif records:
        show(listing([{**row, "narrowed": f"{100 * row['narrowed']:.2f} %"} for row in records]))
    else:
        typer.echo("no setup of this platform would narrow an interval")


def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    only_show: Annotated[bool, typer.Option("--show", help="Print the command, do not run it.")] = False,
    as_json: Json = False,
) -> None:
    """Open MLflow's page on the runs and models in ./mlruns (or ROOFCAST_MLRUNS)."""
    from ...training.tracking import ui_command

    command = ui_command(host=host, port=port)
    if only_show or as_json:
        report({"command": shlex.join(command)}, as_json)
        return
    typer.echo(f"http://{host}:{port} (Ctrl-C ends it)", err=True)
    # In this process's place: signals and the exit code are the server's own. A page needs no job workers.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(command[0], command, {**quiet, **os.environ})
