"""What the advisor and a sweep found: tables and text for people, the fronts as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from ...data import catalogue
from ...data.files import replace_file
from ..neighbours import CLOSE_LENGTHS
from .recommendation import Deployment, Recommendation
from .sweep import Sweep, SweepSpace

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

_RANKING = ("", "replica", "engine", "output tok/s", "TTFT ms", "TPOT ms", "hold", "$/h", "cost")
_SWEPT = {
    "concurrency": "in flight", "tok_s_per_gpu": "tok/s/GPU", "tok_s_per_user": "tok/s/user",
    "ttft_ms": "TTFT ms", "usd_per_m_output": "$/M out",
}  # fmt: skip
_ROWS = 24  # about so many of a sweep's speed fronts are printed
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f")
# Fronts by figure: name, x, y, and their titles.
_PANELS = (
    ("speed", "tok_s_per_user", "tok_s_per_gpu", "tokens/s per user", "output tokens/s per GPU"),
    ("cost", "ttft_ms", "usd_per_m_output", "time to first token [ms]", "$ per million output tokens"),
)
_HOVER = "%{text}<br>%{x:.4g}, %{y:.4g}"


def recommendation_tables(r: Recommendation) -> Iterable[RenderableType]:
    """Yield the question, the ranking, the economics of the first, the crossovers and what was rejected."""
    w = r.workload
    limits = f"TTFT to {w.ttft_ms:g} ms and TPOT to {w.tpot_ms:g} ms at p{w.percentile:g}"
    asked = f"{r.model}: {w.load_text()}, {limits}, with probability {r.confidence:g} or more"
    yield Text(asked, style="bold")
    if not r.best:
        closest = "; the closest" if r.closest else ""
        yield Text(f"no deployment holds these limits{closest}: {r.limited_by}", style="red")
    if shown := r.ranked or ((r.closest,) if r.closest else ()):
        yield _table(_RANKING, 3, ((
            d.what, f"{d.layout} {d.weight_precision} x {d.replicas}", d.engine,
            *(_number(times[""]) for times in (d.output_tok_s, d.ttft_ms, d.tpot_ms)), f"{d.probability:.0%}",
            f"{d.cost.usd_per_hour:,.2f}", "-" if math.isnan(d.cost_ratio) else f"{d.cost_ratio:.2f}x",
        ) for d in shown))  # fmt: skip
    if r.best:
        yield Text(r.reason(r.best))
        yield Text(_economics(r.best))
    for cross in r.crossovers:
        yield Text(f"{cross.direction} about {w.load_text(cross.load)}: {cross.platform}")
    platforms: dict[str, list[str]] = {}
    for platform, reason in r.rejected.items():
        platforms.setdefault(str(reason), []).append(platform)
    yield from (Text(f"not {', '.join(names)}: {reason}") for reason, names in platforms.items())
    yield from (Text(f"note: {note}") for note in r.notes)


def sweep_tables(sweep: Sweep) -> Iterable[RenderableType]:
    """Yield what a sweep did, and its speed fronts, thinned."""
    yield Text(
        f"{sweep.valid:,} valid of {sweep.rows:,} configurations, {sweep.corrected:,} corrected, in "
        f"{sweep.seconds:.1f} s; parts, front.parquet and sweep.html in {sweep.folder}"
    )
    fast = sweep.front[sweep.front["on_speed_front"]]
    fast = fast.sort_values(["platform", "isl", "osl", "tok_s_per_user"])
    yield _table(("platform", "in/out", "replica", "engine", *_SWEPT.values()), 4, ((
        r["platform"], f"{r['isl']:g}/{r['osl']:g}", f"tp{r['tp']} {r['weight_precision']}", r["engine"],
        *(_number(r[name]) for name in _SWEPT),
    ) for r in fast.iloc[:: max(1, math.ceil(len(fast) / _ROWS))].to_dict("records")))  # fmt: skip


def _table(header: Sequence[str], left: int, rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose first `left` columns are text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number < left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _economics(d: Deployment) -> str:
    def interval(values: Mapping[str, float]) -> str:
        return f"{_number(values[''])} ({_number(values['_lo'])} to {_number(values['_hi'])})"

    c = d.cost
    share = c.break_even_utilisation  # no number where nobody rents it out
    owning = "" if math.isnan(share) else f"; owning beats renting above {share:.0%} of the hours"
    return (
        f"90 % intervals: output {interval(d.output_tok_s)} tok/s, TTFT {interval(d.ttft_ms)} ms, TPOT "
        f"{interval(d.tpot_ms)} ms; batch {d.batch:,.3g} per replica; limited by {d.bottleneck}; support "
        f"{d.support}\nbought for ${c.purchase_usd:,.0f} (${_number(c.usd_per_tok_s)} per tok/s); per "
        f"million tokens ${_number(c.usd_per_m_output)} out ({_number(c.usd_per_m_output_lo)} to "
        f"{_number(c.usd_per_m_output_hi)}), ${_number(c.usd_per_m_total)} in and out; "
        f"{_number(c.tokens_per_joule)} tokens per joule{owning}"
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measured_points(space: SweepSpace) -> pd.DataFrame:
    """Return the benchmark rows of the model's shape on the swept GPUs, with the sweep's figures.

    Rows of closed loops with both output rate and TPOT, of the kinds that were swept (no pools apart).
    Columns gpu, isl, osl, tok_s_per_gpu, tok_s_per_user, ttft_ms, what (its configuration), source.
    """
    from ...data.store import BenchmarkStore

    table = BenchmarkStore(None).load()
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


def write_chart(sweep: Sweep, space: SweepSpace, path: Path, measured: pd.DataFrame | None = None) -> None:
    """Write the page: both fronts for every pair of lengths (a menu chooses), one colour per platform."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    for column, (_, _, _, x, y) in enumerate(_PANELS, start=1):
        figure.update_xaxes(title_text=x, type="log", row=1, col=column)
        figure.update_yaxes(title_text=y, type="log", row=1, col=column)
    lengths_of: list[int] = []  # of each trace
    for number, (isl, osl) in enumerate(space.lengths):
        front, points = sweep.front[(sweep.front["isl"] == isl) & (sweep.front["osl"] == osl)], measured
        if points is not None:
            ratio = np.maximum(np.abs(np.log(points["isl"] / isl)), np.abs(np.log(points["osl"] / osl)))
            points = points[ratio <= np.log(CLOSE_LENGTHS)]
        for column, trace in _traces(front, points):
            figure.add_trace(trace.update(visible=number == 0), row=1, col=column)
            lengths_of.append(number)
    title = f"{space.grid.model}: fronts over all configurations, 90 % intervals as bands, "
    titles = [f"{title}{isl:g} tokens in, {osl:g} out" for isl, osl in space.lengths]
    buttons = [
        {
            "label": f"{isl:g} / {osl:g}", "method": "update",
            "args": [{"visible": [n == number for n in lengths_of]}, {"title.text": titles[number]}],
        }
        for number, (isl, osl) in enumerate(space.lengths)
    ]  # fmt: skip
    menu = [{"buttons": buttons, "x": 1.0, "y": 1.12, "xanchor": "right"}] if len(buttons) > 1 else []
    figure.update_layout(title_text=titles[0], template="plotly_white", updatemenus=menu)
    replace_file(path, lambda fresh: figure.write_html(fresh, include_plotlyjs=True, full_html=True))


def _traces(front: pd.DataFrame, measured: pd.DataFrame | None) -> Iterator[tuple[int, Any]]:
    """Yield each platform's 90 % band, front and measured points, with the column of the panel."""
    from plotly.graph_objects import Scatter

    for column, (name, x, y, _, _) in enumerate(_PANELS, start=1):
        for number, platform in enumerate(sorted(front["platform"].unique())):
            rows = front[(front["platform"] == platform) & front[f"on_{name}_front"]].sort_values(x)
            colour = _COLOURS[number % len(_COLOURS)]
            way = "{engine} {weight_precision}, tp{tp} pp{pp} ep{ep} dp{dp} on {num_gpus:.0f} GPUs, "
            way += "{concurrency:.0f} in flight ({support})"
            text = [way.format(**row) for row in rows.to_dict("records")]
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
