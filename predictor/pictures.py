"""Pictures of an explanation and of a load curve: files that load nothing else, and text for a terminal."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.columns import COLUMNS
from ..data.errors import BadRequest
from ..features.facts import FloatArray
from .explain import Explanation
from .load_axis import IN_FLIGHT
from .load_curve import USERS, Curve, LargestLoad, percentile_name
from .show import LABELS, TIMES, curve_lines, largest_line, plain, request_line, short, shown_terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWINGS = (".png", ".svg", ".html")
_PANELS = ("output_tok_s", "ttft_ms", "tpot_ms")
_WIDTH, _HEIGHT = 64, 8  # of a terminal's plot, in characters
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a Braille character, by row
_BRAILLE = 0x2800
_MEASURED = "x"


def draw(explanation: Explanation, path: Path) -> None:
    """Draw terms, levels and elasticities to a .png, .svg or .html file (one that loads nothing else).

    Raises BadRequest for another suffix or a folder that is not there.
    """
    from matplotlib.figure import Figure

    _check(path)
    p, figure = explanation.prediction, Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    shown = shown_terms(p.terms, p.ttft_terms)
    colours = ["tab:blue"] * len(shown) + ["tab:green", "tab:orange", "tab:gray"]
    times = (("tpot_ms", "time per output token [ms]", p.terms), ("ttft_ms", TIMES[1], p.ttft_terms))
    for axis, (name, label, terms) in zip(panels, times, strict=False):
        bars = {LABELS[term]: terms[term] for term in shown}
        bars |= {"predicted": getattr(p, name), "baseline": p.baseline[name], "floor": p.floor[name]}
        axis.barh([*bars], [*bars.values()], color=colours)
        axis.set_xlabel(label)
    moved = [values["tpot_ms"] for values in explanation.sensitivity.values()]
    panels[-1].barh([*explanation.sensitivity], moved, color="tab:purple")
    panels[-1].set_xlabel("elasticity of a token [-]")
    for axis in panels:
        axis.invert_yaxis()
    _save(figure, path, request_line(p.request), explanation.sentences)


def draw_curve(curve: Curve, path: Path, held: LargestLoad | None = None) -> None:
    """Draw a curve with its intervals, measured points, saturation and limits, to a file as `draw` does.

    Of a configuration that does not fit the reason alone. Raises BadRequest as `draw` does.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    _check(path)
    figure, points = Figure(figsize=(11, 4.2), layout="constrained"), curve.points
    if not points:
        figure.text(0.5, 0.5, f"infeasible: {curve.reason}", ha="center", wrap=True)
        _save(figure, path, request_line(curve.request), ())
        return
    loads = [point[curve.over] for point in points]
    for axis, name in zip(figure.subplots(1, 3), _PANELS, strict=True):
        low, middle, high = ([point[name + bound] for point in points] for bound in ("_lo", "", "_hi"))
        axis.fill_between(loads, low, high, color="tab:blue", alpha=0.2, label="90 % interval")
        axis.plot(loads, middle, color="tab:blue", marker=".", label="predicted")
        measured = [(row.load, row.measured[name]) for row in curve.measured if row.measured[name]]
        if measured:
            axis.plot(*zip(*measured, strict=True), "x", color="tab:red", label="measured")
        axis.axvline(curve.saturation, color="tab:gray", linestyle=":", label="saturation")
        if held and name in held.limits:
            at_percentile = [point[USERS + percentile_name(name, held.percentile)] for point in points]
            axis.plot(loads, at_percentile, color="tab:green", label=f"p{held.percentile:g}")
            axis.axhline(held.limits[name], color="tab:green", linestyle="--", label="limit")
            if held.load:
                axis.axvline(held.load, color="tab:green", linestyle="--")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda load, _: plain(load))
        if name != _PANELS[0]:
            axis.set_yscale("log")
            for each in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                each(LogFormatter())
        axis.set_xlabel(_load_label(curve))
        axis.set_ylabel(f"{COLUMNS[name].label} [{COLUMNS[name].unit}]")
        axis.legend(fontsize=7)
    said = (*curve_lines(curve), *([largest_line(held)] if held else ()))
    _save(figure, path, request_line(curve.request), said)


def plot_text(curve: Curve) -> Iterator[str]:
    """Yield a curve as lines for a terminal: three plots, of dots the prediction, sparser its interval."""
    loads = [point[curve.over] for point in curve.points]
    for name in _PANELS if loads else ():
        measured = [(row.load, row.measured[name] or math.nan) for row in curve.measured]
        lines = {b: [point[name + b] for point in curve.points] for b in ("", "_lo", "_hi")}
        yield f"{COLUMNS[name].label} [{COLUMNS[name].unit}]"
        yield from _plot(loads, lines, measured, logarithmic=name != _PANELS[0])
    yield f"{'':8}{_load_label(curve)}; dotted: 90 % interval" + ("; x: measured" if curve.measured else "")


def _plot(
    loads: Sequence[float], lines: Mapping[str, Sequence[float]], measured: Sequence[tuple[float, float]],
    logarithmic: bool,
) -> Iterator[str]:  # fmt: skip
    """Yield one plot over the logarithm of the load; lines: by bound, the prediction under ""."""
    seen = [(load, value) for load, value in measured if value > 0.0]
    values = np.array([*chain(*lines.values()), *(value for _, value in seen)])
    least, most = float(values.min()) if logarithmic else 0.0, float(values.max())
    places = np.log(np.array([*loads, *(load for load, _ in seen)]))

    def across(load: FloatArray) -> FloatArray:
        part = (np.log(load) - places.min()) / max(float(np.ptp(places)), 1e-9)
        return np.asarray(part * (2 * _WIDTH - 1))

    def down(value: FloatArray) -> FloatArray:
        part = np.log(value / least) / max(math.log(most / least), 1e-9) if logarithmic else value / most
        return np.asarray((1.0 - part) * (4 * _HEIGHT - 1))

    dots = np.zeros((4 * _HEIGHT, 2 * _WIDTH), dtype=bool)
    x = across(np.array(loads))
    columns = np.arange(round(x.min()), round(x.max()) + 1)
    for bound, line in lines.items():
        y = np.round(np.interp(columns, x, down(np.array(line)))).astype(int)
        before = np.append(y[0], y[:-1])
        for column, a, b in zip(columns, before, y, strict=True):
            if not bound:
                dots[min(a, b) : max(a, b) + 1, column] = True
            elif column % 3 == 0:
                dots[b, column] = True
    cells = (dots.reshape(_HEIGHT, 4, _WIDTH, 2) * _DOTS[:, None]).sum(axis=(1, 3))
    text = [[chr(_BRAILLE + cell) for cell in row] for row in cells]
    for load, value in seen:
        row, column = down(np.array(value)) // 4, across(np.array(load)) // 2
        text[int(row)][int(column)] = _MEASURED
    for number, line_of_text in enumerate(text):
        label = short(most) if number == 0 else short(least) if number == _HEIGHT - 1 else ""
        yield f"{label:>6} |{''.join(line_of_text)}"
    ends = [plain(math.exp(place), 4) for place in (places.min(), places.max())]
    yield f"{'':6} +{ends[0]}{ends[1]:->{_WIDTH - len(ends[0])}}"


def _load_label(curve: Curve) -> str:
    return "requests in flight" if curve.over == IN_FLIGHT else "requests per second"


def _check(path: Path) -> None:
    if path.suffix not in _DRAWINGS:
        raise BadRequest("plot", str(path), f"a file ending in {', '.join(_DRAWINGS)}")
    if not path.parent.is_dir():
        raise BadRequest("plot", str(path), "a file in a folder that exists")


def _save(figure: Figure, path: Path, title: str, sentences: Sequence[str]) -> None:
    """Write a figure under its title; sentences: what stands above it on an HTML page."""
    figure.suptitle(title, fontsize=9)
    if path.suffix != ".html":
        figure.savefig(path, dpi=150)
        return
    figure.savefig(drawing := io.StringIO(), format="svg")
    svg, head = drawing.getvalue(), html.escape(title)
    listed = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    page = f'<!doctype html><meta charset="utf-8"><title>{head}</title><h1>{head}</h1><ul>{listed}</ul>'
    path.write_text(f"{page}{svg[svg.index('<svg') :]}\n", encoding="utf-8")
