"""The fronts of a sweep as one self-contained HTML page: bands for intervals, measured points on top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data import catalogue
from ...data.files import replace_file
from .sweep import Sweep, SweepSpace

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f")
# Fronts by figure: name, x, y, and their titles.
_PANELS = (
    ("speed", "tok_s_per_user", "tok_s_per_gpu", "tokens/s per user", "output tokens/s per GPU"),
    ("cost", "ttft_ms", "usd_per_m_output", "time to first token [ms]", "$ per million output tokens"),
)
_CLOSE = 1.3  # measured lengths within this factor are shown beside a predicted pair
_HOVER = "%{text}<br>%{x:.4g}, %{y:.4g}"


def measured_points(space: SweepSpace, store: Path | None = None) -> pd.DataFrame:
    """Return the benchmark rows of the model's shape on the swept GPUs, with the sweep's figures.

    Rows of closed loops with both output rate and TPOT, of the kinds that were swept (no pools apart).
    Columns gpu, isl, osl, tok_s_per_gpu, tok_s_per_user, ttft_ms, what (its configuration), source.
    """
    from ...data.store import BenchmarkStore

    table = BenchmarkStore(store).load()
    shape = catalogue.model(space.grid.model).shape_key
    alike = {name for name, spec in catalogue.models().items() if spec.shape_key == shape}
    gpus = {catalogue.platform(name).gpu for name in set(space.grid.per_offer("platform"))}
    rows = table[table["model"].isin(alike) & table["gpu"].isin(gpus) & (table["mode"] == "closed-loop")]
    rows = rows[rows["output_tok_s"].notna() & rows["tpot_ms"].notna() & (rows["disagg"] != 1)]
    rows = rows[rows["spec_decode"].replace("", "none").isin(space.spec_decode)]
    ways = zip(rows["engine"], rows["weight_precision"], rows["tp"], rows["concurrency"], strict=True)
    return rows[["gpu", "isl", "osl", "ttft_ms", "source"]].assign(
        tok_s_per_gpu=rows["output_tok_s"] / rows["num_gpus"],
        tok_s_per_user=1e3 / rows["tpot_ms"],
        what=[f"{engine} {weight} tp{tp:.0f}, {load:.0f} in flight" for engine, weight, tp, load in ways],
    )


def write_chart(sweep: Sweep, space: SweepSpace, path: Path, measured: pd.DataFrame | None = None) -> Path:
    """Write the page: both fronts for every pair of lengths (a menu chooses), one colour per platform."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    of_lengths: list[int] = []
    for number, (isl, osl) in enumerate(space.lengths):
        front = sweep.front[(sweep.front["isl"] == isl) & (sweep.front["osl"] == osl)]
        for column, trace in _traces(front, _near(measured, isl, osl)):
            figure.add_trace(trace.update(visible=number == 0), row=1, col=column)
            of_lengths.append(number)
    for column, (_, _, _, x, y) in enumerate(_PANELS, start=1):
        figure.update_xaxes(title_text=x, type="log", row=1, col=column)
        figure.update_yaxes(title_text=y, type="log", row=1, col=column)
    titles = [
        f"{space.grid.model}: fronts over all configurations, 90 % intervals as bands, {isl:g} tokens in, "
        f"{osl:g} out"
        for isl, osl in space.lengths
    ]
    buttons = [
        {
            "label": f"{isl:g} / {osl:g}", "method": "update",
            "args": [{"visible": [n == number for n in of_lengths]}, {"title.text": titles[number]}],
        }
        for number, (isl, osl) in enumerate(space.lengths)
    ]  # fmt: skip
    menu = [{"buttons": buttons, "x": 1.0, "y": 1.12, "xanchor": "right"}] if len(buttons) > 1 else []
    figure.update_layout(title_text=titles[0], template="plotly_white", updatemenus=menu)
    replace_file(path, lambda fresh: figure.write_html(fresh, include_plotlyjs=True, full_html=True))
    return path


def _near(measured: pd.DataFrame | None, isl: float, osl: float) -> pd.DataFrame | None:
    """Return the measured rows of about these lengths."""
    if measured is None:
        return None
    ratio = np.maximum(np.abs(np.log(measured["isl"] / isl)), np.abs(np.log(measured["osl"] / osl)))
    near: pd.DataFrame = measured[ratio <= np.log(_CLOSE)]
    return near


def _traces(front: pd.DataFrame, measured: pd.DataFrame | None) -> Iterator[tuple[int, Any]]:
    """Yield each platform's 90 % band, front and measured points, with the column of the panel."""
    from plotly.graph_objects import Scatter

    for column, (name, x, y, _, _) in enumerate(_PANELS, start=1):
        for number, platform in enumerate(sorted(front["platform"].unique())):
            rows = front[(front["platform"] == platform) & front[f"on_{name}_front"]].sort_values(x)
            colour = _COLOURS[number % len(_COLOURS)]
            text = [
                f"{row['engine']} {row['weight_precision']}, tp{row['tp']} pp{row['pp']} ep{row['ep']} "
                f"dp{row['dp']} on {row['num_gpus']:.0f} GPUs, {row['concurrency']:.0f} in flight "
                f"({row['support']})"
                for row in rows.to_dict("records")
            ]
            shared = {"legendgroup": platform, "name": platform}
            yield column, Scatter(
                x=np.concatenate([rows[x], rows[x][::-1]]), showlegend=False, hoverinfo="skip", opacity=0.15,
                y=np.concatenate([rows[f"{y}_lo"], rows[f"{y}_hi"][::-1]]), fill="toself", fillcolor=colour,
                line={"width": 0}, **shared,
            )  # fmt: skip
            yield column, Scatter(
                x=rows[x], y=rows[y], text=text, mode="lines+markers", line={"color": colour},
                marker={"size": 5}, hovertemplate=_HOVER, showlegend=column == 1, **shared,
            )  # fmt: skip
            if measured is None or column > 1:
                continue
            points = measured[measured["gpu"] == catalogue.platform(platform).gpu]
            if len(points):
                yield column, Scatter(
                    x=points[x], y=points[y], mode="markers", hovertemplate=_HOVER, legendgroup=platform,
                    text=points["gpu"] + ", " + points["what"] + ", " + points["source"],
                    marker={"symbol": "x", "size": 6, "color": colour}, name=f"{platform}, measured",
                )  # fmt: skip
