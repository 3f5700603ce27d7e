"""Commands that ask about configurations: `predict`, `explain`, `audit`."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.identity import LOAD
from .options import CLAIM, REQUEST, takes
from .shared import Bundle, Check, File, Json, Text, end, fail, load, print_json, show

# With none of these a request says nothing of the load.
LOADED = {*LOAD, "mode", "arrival"}
Fabric = Annotated[File, typer.Option(help="This machine's fabric, from roofcast fabric check --measured.")]


@takes(REQUEST)
def predict(
    request: dict[str, Any],
    frame: Annotated[File, typer.Option(help="CSV file with a request per row; no other request.")] = None,
    out: Annotated[File, typer.Option(help="With --frame: the CSV file to write.")] = None,
    fabric: Fabric = None,
    check: Check = False,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Predict one configuration, without a load its curve, or with --frame every row of a CSV file."""
    if frame is not None:
        _refuse_options(request, "--frame")
        end(check, _predict_file(frame, out, fabric, bundle, as_json))
    elif out is not None:
        fail("--out is the file that --frame's answers go to; --json prints one answer")
    elif not LOADED & set(request):
        from ..show import show_short

        curve = load(bundle).curve(fabric=fabric, measured=as_json, **request)
        print_json(curve.to_dict()) if as_json else show_short(curve)
        end(check, curve.feasible)
    else:
        prediction = load(bundle).predict(fabric=fabric, **request)
        print_json(prediction.to_dict()) if as_json else show(prediction)
        end(check, prediction.feasible)


def _refuse_options(request: dict[str, Any], source: str) -> None:
    if request:
        fail(f"{source} takes the requests from the file: drop --{next(iter(request)).replace('_', '-')}")


def _predict_file(path: Path, out: File, fabric: File, bundle: Text, as_json: bool) -> bool:
    """Answer a CSV file, its columns and then the answers, to --out or stdout; tell whether all fit."""
    import pandas as pd

    try:
        requests = pd.read_csv(path)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read as CSV: {error}")
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        answers = load(bundle).predict_frame(requests, fabric=fabric)
    for doubt in doubts:
        typer.echo(f"roofcast: {doubt.message}", err=True)
    table = pd.concat([requests.drop(columns=answers.columns, errors="ignore"), answers], axis=1)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", indent=1, double_precision=15) + "\n")
    if out is not None or not as_json:
        table.to_csv(sys.stdout if out is None else out, index=False)
    return bool(answers["feasible"].all())


@takes(REQUEST)
def explain(
    request: dict[str, Any],
    against: Annotated[
        Text, typer.Option(help="Compare: what else would be, such as gpu=h200-sxm,tp=4.")
    ] = None,
    plot: Annotated[File, typer.Option(help="Draw it to a .png, .svg or .html file.")] = None,
    fabric: Fabric = None,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Explain a prediction: where the time goes, the correction, like measurements, what would change it."""
    from ..explain import compare, with_changes

    predictor, comparison = load(bundle), None
    explanation = predictor.explain(fabric=fabric, **request)
    if against is not None:
        changes, first = _changes(against), explanation.prediction
        # What was measured on this machine says nothing of another one.
        there = None if {"gpu", "platform"} & set(changes) else fabric
        comparison = compare(first, predictor.predict(fabric=there, **with_changes(request, changes, first)))
    if plot is not None:
        from ..pictures import draw

        draw(explanation, plot)
    if as_json:
        print_json(explanation.to_dict() | ({"against": comparison.to_dict()} if comparison else {}))
        return
    show(explanation)
    if comparison:
        show(comparison)


def _changes(text: str) -> dict[str, str]:
    changes = {}
    for part in text.split(","):
        name, _, value = (words.strip() for words in part.partition("="))
        if not (name and value):
            fail(f"--against = {text!r} is not allowed: NAME=VALUE, more after commas")
        changes[name.replace("-", "_")] = value
    return changes


@takes(REQUEST | CLAIM)
def audit(
    claim: dict[str, Any],
    file: Annotated[File, typer.Argument(help="CSV file of claims: request columns and figures.")] = None,
    check: Check = False,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Judge claimed figures, of one setup or of a CSV file: impossible, suspicious or plausible, and why."""
    from ..audit import audit as judge
    from ..audit import audit_file

    if file is None:
        found = judge(load(bundle), **claim)
        print_json([finding.to_dict() for finding in found]) if as_json else show(found)
        end(check, all(finding.verdict != "impossible" for finding in found))
        return
    _refuse_options(claim, "a file")
    counts: Counter[str] = Counter()
    before = "["
    for finding in chain.from_iterable(audit_file(load(bundle), file)):
        counts[finding.verdict] += 1
        if as_json:
            typer.echo(f"{before}{json.dumps(finding.to_dict())}", nl=False)
            before = ",\n"
        elif finding.verdict != "plausible":
            typer.echo(f"line {finding.row}: {finding.verdict}: {finding}")
    if as_json:
        typer.echo("]" if counts else "[]")
    else:
        typer.echo(", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())))
    end(check, not counts["impossible"])
