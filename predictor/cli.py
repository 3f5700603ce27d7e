"""The command line: `roofcast predict`, `train`, `evaluate`, `models`, `gpus`, `platforms`.

Every command has a library twin and `--json`, which prints nothing but JSON on stdout. Expected errors are
one line on stderr and exit code 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import typer

from ..data.errors import RoofcastError

EXIT_ERROR = 2
_UNBOUNDED = 1000
app = typer.Typer(
    help="Predict how fast a large language model will be served: throughput, TTFT, TPOT, with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Text: TypeAlias = str | None
Count: TypeAlias = int | None
Number: TypeAlias = float | None
File: TypeAlias = Path | None
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Find = Annotated[str, typer.Argument(help="Show only entries whose name, alias or kind holds this text.")]
Store = Annotated[File, typer.Option(help="Benchmark table to use instead of the shipped one.")]
_NOT_REQUEST = {"frame", "out", "bundle", "as_json"}


@app.command()
def predict(
    model: Annotated[Text, typer.Option(help="Model: a catalogue name, alias or Hugging Face id.")] = None,
    gpu: Annotated[Text, typer.Option(help="GPU name, such as b200-sxm.")] = None,
    platform: Annotated[Text, typer.Option(help="Platform name, such as hgx-b200, instead of --gpu.")] = None,
    num_gpus: Annotated[Count, typer.Option(help="GPUs of the whole deployment.")] = None,
    num_nodes: Annotated[Count, typer.Option(help="Machines of the whole deployment.")] = None,
    engine: Annotated[Text, typer.Option(help="vllm, trtllm, sglang, ... [default: vllm]")] = None,
    engine_version: Annotated[Text, typer.Option(help="Version of the engine.")] = None,
    date: Annotated[Text, typer.Option(help="Age of the software, YYYY-MM [default: the newest]")] = None,
    weight_precision: Annotated[Text, typer.Option(help="bf16, fp8, fp4, int8, int4")] = None,
    kv_precision: Annotated[Text, typer.Option(help="Precision of the KV cache, as above.")] = None,
    tp: Annotated[Count, typer.Option(help="Tensor-parallel degree [default: the GPUs, to 8]")] = None,
    pp: Annotated[Count, typer.Option(help="Pipeline-parallel degree [default: 1]")] = None,
    ep: Annotated[Count, typer.Option(help="Expert-parallel degree [default: 1]")] = None,
    dp: Annotated[Count, typer.Option(help="Attention-data-parallel degree [default: 1]")] = None,
    disagg: Annotated[bool, typer.Option("--disagg", help="Prefill and decode on separate GPUs.")] = False,
    prefill_gpus: Annotated[Count, typer.Option(help="GPUs that prefill, with --disagg.")] = None,
    decode_gpus: Annotated[Count, typer.Option(help="GPUs that decode, with --disagg.")] = None,
    spec_decode: Annotated[Text, typer.Option(help="Speculation: none, mtp, eagle, draft.")] = None,
    mode: Annotated[Text, typer.Option(help="static-batch, closed-loop, open-loop, offline, server.")] = None,
    isl: Annotated[Number, typer.Option(help="Tokens in per request [default: 1024]")] = None,
    osl: Annotated[Number, typer.Option(help="Tokens out per request [default: 1024]")] = None,
    concurrency: Annotated[Number, typer.Option(help="Requests in flight, all replicas together.")] = None,
    request_rate: Annotated[Number, typer.Option(help="Requests per second (open loop).")] = None,
    prefix_cached_frac: Annotated[Number, typer.Option(help="Share of the prompt found in a cache.")] = None,
    frame: Annotated[File, typer.Option(help="CSV file with a request per row; no other request.")] = None,
    out: Annotated[File, typer.Option(help="With --frame: the CSV file to write.")] = None,
    bundle: Annotated[Text, typer.Option(help="Bundle folder or models:/roofcast@champion.")] = None,
    as_json: Json = False,
) -> None:
    """Predict one configuration, or with --frame every row of a CSV file."""
    given = {name: value for name, value in locals().items() if value is not None and value is not False}
    request = {name: value for name, value in given.items() if name not in _NOT_REQUEST}
    if frame is None:
        _predict_one(request, bundle, as_json)
    elif request:
        _fail(f"--frame takes the requests from the file: drop --{next(iter(request)).replace('_', '-')}")
    else:
        _predict_file(frame, out, bundle, as_json)


def _predict_one(request: dict[str, Any], bundle: str | None, as_json: bool) -> None:
    from .predictor import Predictor

    prediction = Predictor.load(bundle).predict(**request)
    if as_json:
        _print_json(prediction.to_dict())
    else:
        _print(prediction)


def _predict_file(path: Path, out: Path | None, bundle: str | None, as_json: bool) -> None:
    """Answer a CSV file: its columns with the answers after them, to --out or stdout."""
    import pandas as pd

    from .predictor import Predictor

    try:
        requests = pd.read_csv(path)
    except (OSError, ValueError) as error:
        _fail(f"{path} cannot be read as CSV: {error}")
    answers = Predictor.load(bundle).predict_frame(requests)
    table = pd.concat([requests.drop(columns=answers.columns, errors="ignore"), answers], axis=1)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", indent=1, double_precision=15) + "\n")
    if out is not None:
        table.to_csv(out, index=False)
    elif not as_json:
        table.to_csv(sys.stdout, index=False)


@app.command()
def train(
    store: Store = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the bundle to.")] = None,
    track: Annotated[bool, typer.Option(help="Record the training in MLflow and register its model.")] = True,
    as_json: Json = False,
) -> None:
    """Train a model on the benchmark table and write its bundle."""
    from ..training.train import train as run

    with _progress(as_json) as progress:
        result = run(store=store, out=out, track=track, progress=progress)
    figures = {"bundle": str(result.bundle), "run_id": result.run_id, "seconds": round(result.seconds, 1)}
    _report({**figures, "metrics": result.metrics}, as_json)


@app.command()
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
    from ..training.evaluate import evaluate as run
    from ..training.splits import PROTOCOLS

    with _progress(as_json) as progress:
        figures = run(store=store, out=out, protocols=tuple(protocol or PROTOCOLS), progress=progress)
    _report(figures, as_json)


@app.command()
def models(find: Find = "", as_json: Json = False) -> None:
    """List the models of the catalogue."""
    from .listings import model_rows

    _list(model_rows(find), find, as_json)


@app.command()
def gpus(find: Find = "", as_json: Json = False) -> None:
    """List the GPUs of the catalogue: memory, bandwidth, dense peaks, one-way link rates."""
    from .listings import gpu_rows

    _list(gpu_rows(find), find, as_json)


@app.command()
def platforms(find: Find = "", as_json: Json = False) -> None:
    """List the platforms of the catalogue."""
    from .listings import platform_rows

    _list(platform_rows(find), find, as_json)


def _list(rows: list[dict[str, Any]], find: str, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
    elif not rows:
        _fail(f"nothing in the catalogue holds '{find}'")
    else:
        from .render import listing

        _print(listing(rows))


def _report(figures: dict[str, Any], as_json: bool) -> None:
    """Print nested figures: as JSON, or one line each."""
    if as_json:
        _print_json(figures)
        return
    for name, value in _flat(figures):
        typer.echo(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe has no width: a table is cut for people, never for the next program.
    if not console.is_terminal:
        unbounded = console.options.update(width=_UNBOUNDED)
        console.width = max(console.width, console.measure(renderable, options=unbounded).minimum)
    console.print(renderable)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=str))


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on stderr (none with --json) and yield what moves it: stage in words, share done 0 to 1."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<40}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def _fail(message: str) -> NoReturn:
    raise RoofcastError(message)


def main() -> None:
    """Run the command line; expected errors become one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except RoofcastError as error:
        code = _complain(str(error))
    except typer.Abort:
        code = _complain("stopped")
    except Exception as error:
        # A wrong option or value: the command-line parser's own errors print themselves in one line.
        if not hasattr(error, "format_message"):
            raise
        code = _complain(" ".join(error.format_message().split()))
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    # Without any argument the help has been printed and there is nothing to add.
    if message:
        typer.echo(f"roofcast: {message}", err=True)
    return EXIT_ERROR
