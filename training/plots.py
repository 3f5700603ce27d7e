"""Pictures of a scores frame: predicted against measured, residuals, error by support; small PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .metrics import METRICS, NAMES, answered, by_support
from .model.support import STRATA

UNITS = {"tpot_ms": "ms", "ttft_ms": "ms", "output_tok_s": "tok/s"}
INCHES = (12.0, 4.2)
DPI = 72


def predicted_against_measured(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
    """Write a panel per metric, blend against measured on log axes, with the diagonal; returns `path`."""
    figure, panels = _panels(scores, protocol)
    for axes, metric, rows in panels:
        axes.hexbin(
            rows["measured"], rows["blend"], gridsize=50, mincnt=1, linewidths=0, cmap="viridis",
            bins="log", xscale="log", yscale="log",
        )  # fmt: skip
        ends = [rows["measured"].min(), rows["measured"].max()]
        axes.plot(ends, ends, color="crimson", linewidth=1)
        title = f"{NAMES[metric]} [{UNITS[metric]}]"
        axes.set(xlabel=f"measured {title}", ylabel=f"predicted {title}")
        error = 100 * (rows["blend"] / rows["measured"] - 1).abs().median()
        axes.set_title(f"{len(rows)} rows, median error {error:.1f} %", fontsize=10)
    return _save(figure, path)


def residuals(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
    """Write a panel per metric, the spread of log(measured / blend) per GPU; returns `path`."""
    figure, panels = _panels(scores, protocol)
    for axes, metric, rows in panels:
        gpus = rows["gpu"].value_counts().head(12).index
        off = np.log(rows["measured"] / rows["blend"])
        groups = [off[rows["gpu"] == gpu].to_numpy() for gpu in gpus]
        axes.boxplot(groups, orientation="horizontal", tick_labels=gpus, showfliers=False, whis=(5, 95))
        axes.axvline(0.0, color="crimson", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(f"log(measured / predicted), {NAMES[metric]}", fontsize=9)
    return _save(figure, path)


def error_by_support(scores: pd.DataFrame, path: Path) -> Path:
    """Write a panel per metric: median error of baseline, whole correction and blend by stratum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    table = by_support(scores)
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        rows = table[table["metric"] == metric].set_index("stratum")
        rows = rows.reindex([name for name in STRATA if name in rows.index])
        for name, colour in (("baseline", "gray"), ("corrected", "tab:orange"), ("blend", "tab:blue")):
            axes.plot(rows.index, rows[name], marker="o", color=colour, label=name)
        axes.tick_params(axis="x", rotation=45, labelsize=8)
        axes.set_title(f"median error [%], {NAMES[metric]}", fontsize=9)
        axes.set_ylim(bottom=0.0)
        axes.legend(fontsize=8)
    return _save(figure, path)


def _panels(scores: pd.DataFrame, protocol: str) -> tuple[Any, list[tuple[Any, str, pd.DataFrame]]]:
    from matplotlib.figure import Figure

    rows = answered(scores[scores["protocol"] == protocol])
    by_metric = {metric: rows[rows["metric"] == metric] for metric in METRICS}
    drawn = [metric for metric in METRICS if len(by_metric[metric])]
    figure = Figure(figsize=INCHES, layout="constrained")
    figure.suptitle(f"protocol: {protocol}", fontsize=11)
    axes = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
    return figure, [(axis, metric, by_metric[metric]) for axis, metric in zip(axes, drawn, strict=False)]


def _save(figure: Any, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    # No software line in the file: the same scores give the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
