"""The fronts of a sweep as one self-contained HTML page: bands for intervals, measured points on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data import catalogue
from ...data.files import replace_file
from .sweep import Sweep, SweepSpace

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f")
# Fronts by figure: name, x, y, and which bound of y is drawn as a band.
_PANELS = (
    ("speed", "tok_s_per_user", "tok_s_per_gpu", "tokens/s per user", "output tokens/s per GPU"),
    ("cost", "ttft_ms", "usd_per_m_output", "time to first token [ms]", "$ per million output tokens"),
)
_CLOSE = 1.3  # measured lengths within this factor are shown beside a predicted pair


def measured_points(space: SweepSpace, store: Path | None = None) -> pd.DataFrame:
    """Return the benchmark rows of the model's shape on the swept GPUs, with the sweep's figures.

    Rows of closed loops with both output rate and TPOT, of the kinds that were swept (no pools apart).
    Columns gpu, isl, osl, tok_s_per_gpu, tok_s_per_user, ttft_ms, what (in words), source.
    """
    from ...data.store import BenchmarkStore

    table = BenchmarkStore(store).load()
    shape = space.spec.shape_key
    alike = {name for name, spec in catalogue.models().items() if spec.shape_key == shape}
    gpus = {catalogue.platform(c.offer.platform).gpu for c in space.rows}
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
    pairs: list[tuple[float, float]] = []
    for isl, osl in space.lengths:
        here = sweep.front[(sweep.front["isl"] == isl) & (sweep.front["osl"] == osl)]
        for column, panel in enumerate(_PANELS, start=1):
            for number, platform in enumerate(sorted(here["platform"].unique())):
                rows = here[(here["platform"] == platform) & here[f"on_{panel[0]}_front"]]
                colour = _COLOURS[number % len(_COLOURS)]
                for trace in _traces(rows.sort_values(panel[1]), panel, str(platform), colour, column == 1):
                    figure.add_trace(trace, row=1, col=column)
                    pairs.append((isl, osl))
                points = _near(measured, isl, osl, str(platform)) if column == 1 else None
                if points is not None and len(points):
                    figure.add_trace(_points(points, str(platform), colour), row=1, col=1)
                    pairs.append((isl, osl))
    _dress(figure, space, pairs)
    replace_file(path, lambda fresh: figure.write_html(fresh, include_plotlyjs=True, full_html=True))
    return path


def _traces(
    rows: pd.DataFrame, panel: tuple[str, ...], platform: str, colour: str, legend: bool
) -> list[Any]:
    """Return the band of the 90 % interval and the line of one platform's front."""
    from plotly.graph_objects import Scatter

    _, x, y, _, _ = panel
    low, high = rows[f"{y}_lo"], rows[f"{y}_hi"]
    ways = zip(rows["engine"], rows["weight_precision"], rows["tp"], rows["pp"], rows["ep"], rows["dp"],
               rows["concurrency"], rows["num_gpus"], rows["support"], strict=True)  # fmt: skip
    text = [
        f"{engine} {weight}, tp{tp} pp{pp} ep{ep} dp{dp} on {gpus:.0f} GPUs, {load:.0f} in flight ({support})"
        for engine, weight, tp, pp, ep, dp, load, gpus, support in ways
    ]
    shared = {"legendgroup": platform, "name": platform}
    band = Scatter(
        x=np.concatenate([rows[x], rows[x][::-1]]), y=np.concatenate([low, high[::-1]]), fill="toself",
        fillcolor=colour, opacity=0.15, line={"width": 0}, hoverinfo="skip", showlegend=False, **shared,
    )  # fmt: skip
    line = Scatter(
        x=rows[x], y=rows[y], mode="lines+markers", text=text, line={"color": colour}, marker={"size": 5},
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}", showlegend=legend, **shared,
    )  # fmt: skip
    return [band, line]


def _near(measured: pd.DataFrame | None, isl: float, osl: float, platform: str) -> pd.DataFrame | None:
    """Return the measured rows of about these lengths on the platform's GPU."""
    if measured is None:
        return None
    ratio = np.maximum(np.abs(np.log(measured["isl"] / isl)), np.abs(np.log(measured["osl"] / osl)))
    here = (ratio <= np.log(_CLOSE)) & (measured["gpu"] == catalogue.platform(platform).gpu)
    rows: pd.DataFrame = measured[here]
    return rows


def _points(rows: pd.DataFrame, platform: str, colour: str) -> Any:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=rows["tok_s_per_user"], y=rows["tok_s_per_gpu"], mode="markers", name=f"{platform}, measured",
        text=rows["gpu"] + ", " + rows["what"] + ", " + rows["source"], legendgroup=platform,
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}", marker={"symbol": "x", "size": 6, "color": colour},
    )  # fmt: skip


def _dress(figure: Any, space: SweepSpace, pairs: list[tuple[float, float]]) -> None:
    """Put axes, title and the menu of lengths on the figure; the first pair is shown."""
    for column, (_, _, _, x, y) in enumerate(_PANELS, start=1):
        figure.update_xaxes(title_text=x, type="log", row=1, col=column)
        figure.update_yaxes(title_text=y, type="log", row=1, col=column)
    title = f"{space.name}: fronts over all configurations, 90 % intervals as bands, {{}} tokens in, {{}} out"
    buttons = [
        {
            "label": f"{isl:g} / {osl:g}", "method": "update",
            "args": [
                {"visible": [pair == (isl, osl) for pair in pairs]},
                {"title.text": title.format(f"{isl:g}", f"{osl:g}")},
            ],
        }
        for isl, osl in space.lengths
    ]  # fmt: skip
    first = space.lengths[0]
    for trace, pair in zip(figure.data, pairs, strict=True):
        trace.visible = pair == first
    menu = [{"buttons": buttons, "x": 1.0, "y": 1.12, "xanchor": "right"}] if len(buttons) > 1 else []
    figure.update_layout(
        title_text=title.format(f"{first[0]:g}", f"{first[1]:g}"), template="plotly_white", updatemenus=menu
    )
