"""The command `curve`: one configuration at every load."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ...data.files import replace_text
from ...data.identity import LOAD
from .advise import WORKLOAD
from .ask import Fabric
from .options import REQUEST, Option, takes
from .shared import Bundle, Check, File, Json, Number, Text, end, fail, load, print_json, show

if TYPE_CHECKING:
    from ..load_curve import Curve

TERMINAL = "-"
CONFIGURATION: dict[str, Option] = {name: option for name, option in REQUEST.items() if name not in LOAD}
LIMITS: dict[str, Option] = {
    "ttft_ms": (Number, "Say which load holds this limit of the first token."),
    "tpot_ms": (Number, "Say which load holds this limit per output token."),
    "percentile": WORKLOAD["percentile"],
}


class LonePlot(TyperCommand):
    """A command whose --plot may stand alone: it then means the terminal."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, a lone --plot with its value after it."""
        whole = []
        for word, after in zip(args, [*args[1:], "--"], strict=True):
            whole += [word, TERMINAL] if word == "--plot" and after.startswith("--") else [word]
        return super().parse_args(ctx, whole)


@takes(CONFIGURATION | LIMITS)
def curve(
    request: dict[str, Any],
    concurrency: Annotated[
        Text, typer.Option(help="Requests in flight: 1,2,8 or 1-64 [default: 1 to all that it holds]")
    ] = None,
    rates: Annotated[
        Text,
        typer.Option("--rates", "--request-rate", help="Requests per second instead: 1,2,8, 1-64 or auto."),
    ] = None,
    measured: Annotated[bool, typer.Option(help="Show measured points of the same setup.")] = True,
    out: Annotated[File, typer.Option(help="Write the points to a .csv or .json file.")] = None,
    plot: Annotated[
        Text, typer.Option(help="Draw it: a .png, .svg or .html file; alone or -, in the terminal.")
    ] = None,
    fabric: Fabric = None,
    check: Check = False,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Predict one configuration at every load, to saturation, and say which load holds limits."""
    limits = {name: request.pop(name) for name in LIMITS if name in request}
    for name in LIMITS:  # a limit of goodput is one that loads are to hold, too
        if (goodput := f"{name.removesuffix('_ms')}_limit_ms") in request:
            limits.setdefault(name, request[goodput])
    percentile = {limits["percentile"]} if "percentile" in limits else set()
    if percentile and len(limits) == 1:
        fail("--percentile is the one that limits hold at: add --ttft-ms or --tpot-ms")
    if out is not None and out.suffix not in (".csv", ".json"):
        fail(f"--out {out} is not allowed: a file ending in .csv or .json")
    if plot == TERMINAL and as_json:
        fail("--plot in the terminal and --json go both to stdout: name a file")
    from ..prediction import CURVE_PERCENTILES

    found = load(bundle).curve(
        concurrency=concurrency, rates=rates, fabric=fabric, measured=measured,
        percentiles=sorted({*CURVE_PERCENTILES, *percentile}), **request,
    )  # fmt: skip
    held = found.largest(**limits) if limits else None
    answer = found.to_dict() | ({"largest": held.to_dict()} if held else {})
    if out is not None:
        _write(found, answer, out)
    if plot not in (None, TERMINAL):
        from ..pictures import draw_curve

        draw_curve(found, Path(plot), held)
    print_json(answer) if as_json else show(found, *([held] if held else ()))
    if plot == TERMINAL:
        from ..pictures import plot_text

        for line in plot_text(found):
            typer.echo(line)
    end(check, found.feasible and (held is None or held.load is not None))


def _write(found: Curve, answer: dict[str, Any], path: Path) -> None:
    """Write the shown loads as CSV, or the whole answer as JSON."""
    if path.suffix == ".json":
        text = json.dumps(answer, indent=1) + "\n"
    else:
        lines = csv.DictWriter(page := io.StringIO(), [*found.columns], lineterminator="\n")
        lines.writeheader()
        lines.writerows(found.points)
        text = page.getvalue()
    replace_text(path, text)
