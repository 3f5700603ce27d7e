"""Judge the product: all grouped protocols beside the references, as figures, a page of them and pictures.

accuracy.json holds every figure, made from a scores frame (one row per table row, protocol and metric);
accuracy.md shows the most telling ones, made from the JSON alone by filling in accuracy_page.md.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import catalogue
from ..data.files import for_json, replace_text
from ..data.progress import Progress, silent
from ..data.store import BenchmarkStore
from .advice import advice_tables
from .crossfit import cross_fit
from .fit import Settings, sample_of
from .metrics import METRICS, NAMES, UNITS, answered, by_support, slices, summarise, worst
from .model.support import STRATA
from .splits import PROTOCOLS
from .trust import all_scores

# Median absolute percentage error [%]: (target, a crude roofline with an untuned LightGBM).
TARGETS: dict[tuple[str, str], tuple[float, float | None]] = {
    ("configuration", "tpot_ms"): (5.5, 6.9),
    ("configuration", "ttft_ms"): (14.0, 20.0),
    ("configuration", "output_tok_s"): (5.5, None),
    ("family", "tpot_ms"): (11.0, 13.7),
    ("family", "ttft_ms"): (30.0, 42.0),
    ("family", "output_tok_s"): (11.0, None),
    ("platform", "tpot_ms"): (14.0, 16.2),
    ("platform", "ttft_ms"): (32.0, 46.0),
    ("platform", "output_tok_s"): (14.0, None),
    ("model", "tpot_ms"): (18.0, 19.4),
    ("model", "ttft_ms"): (36.0, 44.0),
    ("model", "output_tok_s"): (18.0, None),
}
# The best profile-based estimator, median absolute percentage error [%] (best, worst).
PROFILE_BASED = {"tpot_ms": (15.0, 17.0), "ttft_ms": (45.0, 50.0), "output_tok_s": (8.0, 8.0)}
COVERAGE_TARGET = (0.86, 0.94)
_LARGE_SLICE, _SHOWN_SLICES = 100, 10
WORST_COLUMNS = (
    "row_id", "model", "gpu", "engine", "weight_precision", "mode", "source", "support", "measured", "blend",
    "ape",
)  # fmt: skip
SLICE_COLUMNS = (
    "protocol", "metric", "slice", "value", "rows", "blend_median_ape", "blend_p90_ape",
    "baseline_median_ape", "coverage", "coverage_error", "median_width",
)  # fmt: skip
COMMON_COLUMNS = ("source", "gpu", "engine", "model", "mode")
_INCHES, _DPI = (12.0, 4.2), 72
Records = list[dict[str, Any]]


def evaluate(
    *,
    store: Path | None = None,
    out: Path = Path("docs"),
    protocols: Sequence[str] = PROTOCOLS,
    settings: Settings | None = None,
    n_folds: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Rerun the protocols on the table in `store`; write accuracy.md, accuracy.json and the plots to `out`.

    Returns the report's figures. Takes about 9 minutes on 2 cores.
    """
    start = time.perf_counter()
    settings = settings or Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    records = cross_fit(sample, protocols, settings, n_folds=n_folds, references=True, progress=progress)
    scores = all_scores(records)
    meta = {
        "fingerprint": fingerprint, "table_rows": len(table),
        "rows_that_physics_refuses": len(table) - len(sample.table), "roofcast": version("roofcast"),
        "lightgbm": version("lightgbm"), "python": platform.python_version(),
        "minutes": round((time.perf_counter() - start) / 60.0, 1),
    }  # fmt: skip
    figures = accuracy(scores, meta, advice_tables(scores, sample.table))
    write_report(figures, out)
    draw_predictions(scores, out / "predicted_against_measured.png")
    draw_residuals(scores, out / "residuals.png", "family")
    return figures


def accuracy(
    scores: pd.DataFrame, meta: Mapping[str, Any], advice: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Return every figure of the report as JSON-ready values; `advice` is `advice.advice_tables`' frame."""
    overall = _records(summarise(scores))
    for row in overall:
        target, crude = TARGETS.get((row["protocol"], row["metric"]), (None, None))
        met = None if target is None else row["blend_median_ape"] <= target
        row |= {"target": target, "crude": crude, "met": met}
    return {
        "meta": dict(meta),
        "overall": overall,
        "by_support": _records(by_support(scores)) if "corrected" in scores else [],
        "own_ground": list(_own_ground(scores)),
        "slices": _records(slices(scores)[list(SLICE_COLUMNS)]),
        "worst": list(_worst_where_missed(scores, overall)),
        "advice": [] if advice is None else _records(advice),
    }


def write_report(report: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write accuracy.md and accuracy.json of `accuracy`'s figures, each whole or not; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, plain = folder / "accuracy.md", folder / "accuracy.json"
    replace_text(plain, json.dumps(report, indent=1, allow_nan=False) + "\n")
    replace_text(page, render(report))
    return page, plain


def _own_ground(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the figures on the rows that the profile-based estimator publishes its own for."""
    from_aic = scores["source"].astype(str).str.startswith("aic")
    dense = scores["model"].isin([name for name, spec in catalogue.models().items() if not spec.n_experts])
    offline = (scores["mode"] == "offline") & (scores["engine"] == "trtllm") & dense
    grounds = {
        "aiconfigurator sample": scores[from_aic & scores["metric"].isin(["tpot_ms", "ttft_ms"])],
        "offline, dense, TensorRT-LLM": scores[offline & (scores["metric"] == "output_tok_s")],
    }
    for ground, here in grounds.items():
        for row in _records(summarise(here)):
            got, theirs = row["blend_median_ape"], PROFILE_BASED[row["metric"]]
            figures = {name: row[name] for name in ("protocol", "metric", "rows", "unanswered")}
            beats = got < theirs[0]
            yield {"ground": ground, **figures, "median_ape": got, "theirs": list(theirs), "beats": beats}


def _worst_where_missed(scores: pd.DataFrame, overall: Records) -> Iterator[dict[str, Any]]:
    """Yield, where a target is missed, the worst rows and what is most common among them."""
    for row in (row for row in overall if row["met"] is False):
        key = {"protocol": row["protocol"], "metric": row["metric"]}
        rows = worst(scores[(scores["protocol"] == key["protocol"]) & (scores["metric"] == key["metric"])])
        common = {column: rows[column].value_counts().head(3).to_dict() for column in COMMON_COLUMNS}
        yield {**key, "common": common, "rows": _records(rows[list(WORST_COLUMNS)])}


def _records(frame: pd.DataFrame) -> Records:
    """Return rows as JSON-ready values of six digits."""
    rows: Records = for_json(frame.to_dict("records"))
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


_OVERALL = {
    "protocol": "protocol", "metric": "metric", "rows": "rows", "blend_median_ape": "roofcast",
    "blend_p90_ape": "p90", "target": "target", "crude": "crude", "baseline_median_ape": "baseline",
    "floor_median_ape": "floor", "neighbour_median_ape": "look-up", "pure_ml_median_ape": "ML alone",
    "coverage": "coverage %", "median_width": "width %",
}  # fmt: skip


def render(report: Mapping[str, Any]) -> str:
    """Return the page of `accuracy`'s figures, in markdown."""
    overall = pd.DataFrame(report["overall"])
    page = files("roofcast.training").joinpath("accuracy_page.md").read_text(encoding="utf-8")
    return page.format(
        meta=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["meta"].items()),
        unanswered=int(overall["unanswered"].sum()), least=_LARGE_SLICE,
        overall=_table(overall.assign(coverage=overall["coverage"].map(_judged)), _OVERALL),
        support=_support_table(report["by_support"]), **_slices_part(report["slices"], overall),
        worst=_worst_table(report["worst"]), ground=_ground_table(report["own_ground"]),
        advice=_advice_table(report["advice"]),
    )  # fmt: skip


def _table(frame: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """Return columns of a frame, renamed, in markdown, ordered by protocol, metric and stratum."""
    if frame.empty:
        return "None."
    order = {"protocol": PROTOCOLS, "metric": METRICS, "stratum": STRATA}
    ranks = {name: frame[name].map(values.index) for name, values in order.items() if name in frame}
    shown = frame.iloc[np.lexsort([*ranks.values()][::-1])] if ranks else frame
    shown = shown[[name for name in columns if name in shown]].replace({"metric": NAMES})
    shown = shown.astype(object).where(shown.notna(), None).rename(columns=dict(columns))
    return str(shown.to_markdown(index=False, floatfmt=".1f", intfmt=",", missingval="-"))


def _judged(coverage: float) -> str:
    inside = COVERAGE_TARGET[0] <= coverage <= COVERAGE_TARGET[1]
    return f"{100 * coverage:.1f}" if inside else f"**{100 * coverage:.1f}**"


def _support_table(rows: Records) -> str:
    """Return a line per stratum, with baseline, blend and their comparison for each metric."""
    lines: dict[str, dict[str, Any]] = {}
    parts = ("physics", "roofcast", "over the better")
    for row in rows:
        line = lines.setdefault(row["stratum"], {"stratum": row["stratum"]})
        cells = (row["baseline"], row["blend"], f"{100 * row['worse']:+.1f} %")
        line |= {f"{NAMES[row['metric']]}: {part}": cell for part, cell in zip(parts, cells, strict=True)}
    heads = ["stratum", *(f"{NAMES[metric]}: {part}" for metric in METRICS for part in parts)]
    return _table(pd.DataFrame(lines.values()), dict(zip(heads, heads, strict=True)))


def _slices_part(rows: Records, overall: pd.DataFrame) -> dict[str, Any]:
    """Return how many large slices have the wanted coverage, and a table of those that err most."""
    frame = pd.DataFrame(rows)
    frame = frame[frame["rows"] >= _LARGE_SLICE]
    (low, high), covered, doubt = COVERAGE_TARGET, frame["coverage"], 2.0 * frame["coverage_error"]
    whole = overall.set_index(["protocol", "metric"])["blend_median_ape"].rename("whole")
    frame = frame.join(whole, on=["protocol", "metric"])
    frame["times"] = frame["blend_median_ape"] / frame["whole"]
    far = frame.nlargest(_SHOWN_SLICES, "times").assign(coverage=lambda x: x["coverage"].map(_judged))
    columns = {
        "protocol": "protocol", "metric": "metric", "slice": "slice", "value": "value", "rows": "rows",
        "blend_median_ape": "error %", "times": "times the protocol's", "baseline_median_ape": "baseline %",
        "coverage": "coverage %",
    }  # fmt: skip
    return {
        "large": len(frame), "inside": int(covered.between(low, high).sum()),
        "outside": int((~covered.between(low - doubt, high + doubt)).sum()), "far": _table(far, columns),
    }  # fmt: skip


def _worst_table(entries: Records) -> str:
    lines = []
    for entry in entries:
        most = {k: next(iter(counts.items())) for k, counts in entry["common"].items() if counts}
        common = {k: f"{value or 'unknown'} ({count})" for k, (value, count) in most.items()}
        first, unit = entry["rows"][0], UNITS[entry["metric"]]
        figures = f"{first['measured']:,.1f} as {first['blend']:,.1f} {unit}"
        lines.append({**entry, **common, "first": figures})
    columns = ("protocol", "metric", "model", "gpu", "engine", "source", "mode")
    heads = dict(zip(columns, columns, strict=True)) | {"first": "worst of all: measured as predicted"}
    return _table(pd.DataFrame(lines), heads)


def _ground_table(rows: Records) -> str:
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["published"] = [" to ".join(f"{x:g}" for x in dict.fromkeys(row)) for row in frame["theirs"]]
        frame["better"] = np.where(frame["beats"], "yes", "**no**")
        frame = frame.sort_values("ground", kind="stable")
    columns = {
        "protocol": "protocol", "metric": "metric", "ground": "rows of", "rows": "rows",
        "unanswered": "unanswered", "median_ape": "roofcast %", "published": "theirs %", "better": "better",
    }  # fmt: skip
    return _table(frame, columns)


def _advice_table(rows: Records) -> str:
    frame = pd.DataFrame(rows)
    shares = ("success", "promised", "regret")
    heads = {"protocol": "protocol", "metric": "limit on", "questions": "questions", "method": "chosen by"}
    if len(frame):
        frame[list(shares)] = 100.0 * frame[list(shares)].astype(float)
    return _table(frame, {**heads, **{name: f"{name} %" for name in shares}})


def draw_predictions(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
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


def draw_residuals(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
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


def _panels(scores: pd.DataFrame, protocol: str) -> tuple[Any, list[tuple[Any, str, pd.DataFrame]]]:
    from matplotlib.figure import Figure

    rows = answered(scores[scores["protocol"] == protocol])
    by_metric = {metric: rows[rows["metric"] == metric] for metric in METRICS}
    drawn = [metric for metric in METRICS if len(by_metric[metric])]
    figure = Figure(figsize=_INCHES, layout="constrained")
    figure.suptitle(f"protocol: {protocol}", fontsize=11)
    axes = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
    return figure, [(axis, metric, by_metric[metric]) for axis, metric in zip(axes, drawn, strict=False)]


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No software line in the file: the same scores give the same bytes.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    return path
