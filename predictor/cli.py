"""The command line: its commands put together, and how it ends.

Every command has a library twin and `--json`, which prints nothing but JSON on stdout. Expected errors are
one line on stderr and exit code 2.
"""

from __future__ import annotations

import sys

import typer

from ..data.errors import RoofcastError
from .commands import advise, ask, curve, fabric, intake, learn, look

EXIT_ERROR = 2
app = typer.Typer(
    help="Predict how fast a large language model will be served: throughput, TTFT, TPOT, with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # as markup, "[default: 32]" in a help text would be a style and not be shown
)
for command in (
    ask.predict, curve.curve, advise.recommend, advise.sweep, ask.explain, ask.audit, look.coefficients,
    learn.train, learn.evaluate, learn.tune, learn.retrain, learn.rollback, learn.suggest, learn.ui,
    intake.ingest, look.models, look.gpus, look.platforms,
):  # fmt: skip
    app.command(cls=curve.LonePlot if command is curve.curve else None)(command)
app.add_typer(fabric.app, name="fabric")


def main() -> None:
    """Run the command line; expected errors become one line on stderr and exit code 2."""
    code: object = EXIT_ERROR
    try:
        code, message = app(standalone_mode=False), ""
    except (RoofcastError, OSError) as error:
        message = str(error)
    except typer.Abort:
        message = "stopped"
    except Exception as error:
        # A wrong option or value: the command-line parser's own errors print themselves in one line.
        if not hasattr(error, "format_message"):
            raise
        message = " ".join(error.format_message().split())
        if type(error).__name__ == "NoArgsIsHelpError":  # no argument: its words are the help
            typer.echo(error.format_message())
            message = ""
    if message:
        typer.echo(f"roofcast: {message}", err=True)
    sys.exit(code if isinstance(code, int) else 0)
