"""A drawing of an explanation: terms of both times, the three levels, and the elasticities."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import BadRequest
from .prediction import TERMS
from .render import request_line

if TYPE_CHECKING:
    from .explain import Explanation

_KINDS = (".png", ".svg", ".html")


def draw(explanation: Explanation, path: Path) -> Path:
    """Write the drawing to a .png, .svg or .html file (one that loads nothing else) and return the path.

    Raises BadRequest for another suffix or a folder that is not there.
    """
    if path.suffix not in _KINDS:
        raise BadRequest("plot", str(path), f"a file ending in {', '.join(_KINDS)}")
    if not path.parent.is_dir():
        raise BadRequest("plot", str(path), "a file in a folder that exists")
    figure = _figure(explanation)
    if path.suffix != ".html":
        figure.savefig(path, dpi=150)
        return path
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in explanation.sentences)
    title = html.escape(request_line(explanation.prediction.request))
    svg = drawing.getvalue().partition("<svg")
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<ul>{said}</ul>{svg[1]}{svg[2]}\n",
        encoding="utf-8",
    )
    return path


def _figure(explanation: Explanation) -> Any:
    from matplotlib.figure import Figure

    p = explanation.prediction
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    times = (
        ("tpot_ms", "time per output token [ms]", p.terms),
        ("ttft_ms", "first token [ms]", p.ttft_terms),
    )
    *panels, last = figure.subplots(1, 3)
    for axis, (name, words, terms) in zip(panels, times, strict=True):
        levels = {"predicted": getattr(p, name), "baseline": p.baseline[name], "floor": p.floor[name]}
        bars = {term.replace("_", " "): terms[term] for term in TERMS} | levels
        colours = ["tab:blue"] * len(TERMS) + ["tab:green", "tab:orange", "tab:gray"]
        axis.barh([*bars], [*bars.values()], color=colours)
        axis.set_xlabel(words)
    moved = {fact: values["tpot_ms"] for fact, values in explanation.sensitivity.items()}
    last.barh([*moved], [*moved.values()], color="tab:purple")
    last.set_xlabel("elasticity of a token [-]")
    for axis in figure.axes:
        axis.invert_yaxis()
    figure.suptitle(request_line(p.request), fontsize=9)
    return figure
