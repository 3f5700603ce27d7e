"""The command line: its commands put together, and how it ends.

Every command has a library twin and `--json`, which prints nothing but JSON on stdout. Expected errors are
one line on stderr; the exit codes are those of `commands.shared`.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ..data.columns import SPELLED
from ..data.errors import BadBundle, BadStore, RoofcastError
from .commands import advise, ask, curve, fabric, intake, learn, look
from .commands.shared import EXIT_BAD_INPUT, EXIT_ERROR


def _option_named(word: str) -> str:
    """Return the name of an option that engines call otherwise: tensor-parallel-size is tp."""
    return SPELLED.get(word.replace("-", "_"), word).replace("_", "-")


app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every command: they inherit it
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # as markup, "[default: 32]" in a help text would be a style and not be shown
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"roofcast {version('roofcast')}")
        raise typer.Exit()


@app.callback()
def roofcast(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Predict how fast a large language model will be served: throughput, TTFT, TPOT, with intervals."""


for command in (
    ask.predict, curve.curve, advise.recommend, advise.sweep, ask.explain, ask.audit, look.coefficients,
    learn.train, learn.evaluate, learn.tune, learn.retrain, learn.rollback, learn.suggest, learn.ui,
    intake.ingest, look.models, look.gpus, look.platforms,
):  # fmt: skip
    own = curve.LonePlot if command is curve.curve else None
    app.command(cls=own, context_settings={"token_normalize_func": _option_named})(command)
app.add_typer(fabric.app, name="fabric")


def main() -> None:
    """Run the command line; expected errors become one line on stderr and the exit code of their kind."""
    code: object = EXIT_BAD_INPUT
    try:
        code, message = app(standalone_mode=False), ""
    except (RoofcastError, OSError) as error:
        message = str(error)
        code = EXIT_ERROR if isinstance(error, BadBundle | BadStore | OSError) else code
    except typer.Abort:
        code, message = EXIT_ERROR, "stopped"
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
