"""Judge the product: all grouped protocols beside the references, as figures, a page of them and pictures.

accuracy.json holds every figure, made from a scores frame (one row per table row, protocol and metric);
accuracy.md shows the most telling ones, made from the JSON alone by filling in accuracy_page.md.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import catalogue
from ..data.files import for_json, replace_text
from ..data.progress import Progress, silent
from ..data.stated import names_stated
from ..data.store import BenchmarkStore
from ..features.request import normalise
from .advice import METHODS, advice_tables
from .crossfit import cross_fit
from .fit import Settings, sample_of
from .metrics import METRICS, NAMES, UNITS, answered, by_support, slices, summarise, worst
from .model.support import STRATA
from .posts import Answer, posts_compared, posts_shown
from .splits import PROTOCOLS
from .stated import (
    PROTOCOL,
    RATIO_TARGET,
    Ask,
    names_shown,
    reworded,
    stated_figures,
    stated_scores,
    stated_shown,
)
from .trust import all_scores

# Wanted: median absolute percentage error [%] by protocol, of TPOT, TTFT, throughput and mean TTFT.
_TARGETS: dict[str, Sequence[float]] = {
    "configuration": (5.5, 14.0, 5.5, 14.0), "family": (11.0, 30.0, 11.0, 30.0),
    "platform": (14.0, 32.0, 14.0, 32.0), "model": (18.0, 36.0, 18.0, 36.0),
}  # fmt: skip
# The best profile-based estimator, median absolute percentage error [%].
PROFILE_BASED = {"tpot_ms": "15 to 17", "ttft_ms": "45 to 50", "output_tok_s": "8"}
COVERAGE_TARGET = (0.86, 0.94)
_LARGE_SLICE, _SHOWN_SLICES = 100, 10
WORST_COLUMNS = [
    "row_id", "model", "gpu", "engine", "weight_precision", "mode", "source", "support", "measured", "blend",
    "ape",
]  # fmt: skip
SLICE_COLUMNS = [
    "protocol", "metric", "slice", "value", "rows", "blend_median_ape", "blend_p90_ape",
    "baseline_median_ape", "coverage", "coverage_error", "median_width",
]  # fmt: skip
Records = list[dict[str, Any]]


def evaluate(
    *, store: Path | None = None, out: Path = Path("docs"), protocols: Sequence[str] = PROTOCOLS,
    settings: Settings | None = None, n_folds: int | None = None, ask: Ask = normalise,
    answer: Answer | None = None, progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """Rerun the protocols on the table in `store`; write page, JSON and plots to `out`; return figures.

    ask: how rows asked as their sources state them become requests. answer: the predictor that is asked the
    posted measurements (None: they are left out).
    """
    start = time.perf_counter()
    settings = settings or Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    again = {PROTOCOL: reworded(sample, ask)} if PROTOCOL in protocols else {}
    records = cross_fit(
        sample, protocols, settings, n_folds=n_folds, references=True, reworded=again, progress=progress
    )
    records, answered_again = records[: len(protocols)], records[len(protocols) :]
    scores = all_scores(records)
    stated = stated_figures(stated_scores(records, answered_again)) if again else None
    meta = {
        "fingerprint": fingerprint, "table_rows": len(table),
        "rows_that_physics_refuses": len(table) - len(sample.table), "roofcast": version("roofcast"),
        "lightgbm": version("lightgbm"), "python": platform.python_version(),
        "minutes": round((time.perf_counter() - start) / 60.0, 1),
    }  # fmt: skip
    posts = posts_compared(answer) if answer else None
    more = {"advice": advice_tables(scores, sample.table), "stated": stated, "posts": posts}
    figures = accuracy(scores, meta, more, names_stated(table))
    write_report(figures, out)
    draw_predictions(scores, out / "predicted_against_measured.png")
    draw_residuals(scores, out / "residuals.png", "family")
    return figures


def accuracy(
    scores: pd.DataFrame, meta: Mapping[str, Any], more: Mapping[str, pd.DataFrame | None] | None = None,
    names: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return every figure of the report as JSON-ready values.

    more: the frames of `advice.advice_tables`, `stated.stated_figures` and `posts.posts_compared`, as advice,
    stated and posts; names: `stated.names_stated`.
    """
    overall = _records(summarise(scores))
    for row in overall:
        wanted = dict(zip(METRICS, _TARGETS.get(row["protocol"], ()), strict=False)).get(row["metric"])
        row["target"], row["met"] = wanted, row["blend_median_ape"] <= wanted if wanted else None
    return {
        "meta": dict(meta),
        "overall": overall,
        "by_support": _records(by_support(scores)) if "corrected" in scores else [],
        "own_ground": list(_own_ground(scores)),
        "slices": _records(slices(scores)[SLICE_COLUMNS]),
        "worst": list(_worst_where_missed(scores, overall)),
        **{name: [] for name in ("advice", "stated", "posts")},
        **{name: _records(frame) for name, frame in (more or {}).items() if frame is not None},
        "names": dict(names or {}),
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
            kept = {name: row[name] for name in ("protocol", "metric", "rows", "unanswered")}
            yield {"ground": ground, **kept, "median_ape": row["blend_median_ape"]}


def _worst_where_missed(scores: pd.DataFrame, overall: Records) -> Iterator[dict[str, Any]]:
    """Yield the worst rows of each missed target."""
    for key in ({name: row[name] for name in _KEYS} for row in overall if row["met"] is False):
        rows = worst(scores[(scores[list(key)] == pd.Series(key)).all(axis=1)])
        yield {**key, "rows": _records(rows[WORST_COLUMNS])}


def _records(frame: pd.DataFrame) -> Records:
    """Return rows as JSON-ready values of six digits."""
    rows: Records = for_json(frame.to_dict("records"))
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def render(report: Mapping[str, Any]) -> str:
    """Return the page of `accuracy`'s figures, in markdown."""
    overall, sliced = pd.DataFrame(report["overall"]), pd.DataFrame(report["slices"])
    sliced = sliced[sliced["rows"] >= _LARGE_SLICE]
    (low, high), doubt = COVERAGE_TARGET, 2.0 * sliced["coverage_error"]
    whole = overall.set_index(["protocol", "metric"])["blend_median_ape"].rename("whole")
    times = sliced["blend_median_ape"] / sliced.join(whole, on=["protocol", "metric"])["whole"]
    far = sliced.assign(times=times).nlargest(_SHOWN_SLICES, "times")
    support = _wide(report["by_support"], ["stratum"], "metric", ["blend", "worse"])
    advice = _wide(
        report["advice"], ["protocol", "metric", "questions"], "method", ["success", "promised", "regret"]
    )
    ground = _wide(report["own_ground"], ["protocol"], "metric", ["median_ape"])
    posts, errors = posts_shown(report["posts"])
    stated, families = stated_shown(report["stated"])
    page = files("roofcast.training").joinpath("accuracy_page.md").read_text(encoding="utf-8")
    return page.format(
        meta=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["meta"].items()),
        unanswered=int(overall["unanswered"].sum()), least=_LARGE_SLICE, large=len(sliced),
        inside=int(sliced["coverage"].between(low, high).sum()),
        outside=int((~sliced["coverage"].between(low - doubt, high + doubt)).sum()),
        overall=_table(overall, _OVERALL), support=_table(support, _SUPPORT), far=_table(far, _FAR),
        ground=_table(ground, _GROUND), advice=_table(advice, _ADVICE),
        ratio=RATIO_TARGET, stated=_markdown(stated), families=_markdown(families),
        names=names_shown(report["names"]),
        posts=_markdown(posts), posts_errors=errors,
    )  # fmt: skip


def _wide(rows: Records, index: list[str], by: str, values: list[str]) -> pd.DataFrame:
    """Return a row for each `index`, with columns "value name" for each name in `by`."""
    if not rows:
        return pd.DataFrame()
    wide = pd.DataFrame(rows).pivot(index=index, columns=by, values=values).astype(float)
    return wide.set_axis(wide.columns.map(" ".join), axis=1).reset_index()


_KEYS = {"protocol": "protocol", "metric": "metric"}
_OVERALL = {
    **_KEYS, "rows": "rows", "blend_median_ape": "roofcast", "blend_p90_ape": "p90", "target": "target",
    "baseline_median_ape": "baseline", "neighbour_median_ape": "look-up",
    "pure_ml_median_ape": "ML alone", "coverage": "coverage %", "median_width": "width %",
}  # fmt: skip
_SUPPORT = {"stratum": "stratum"} | {
    f"{name} {metric}": f"{NAMES[metric]}{head}"
    for metric in METRICS
    for name, head in (("blend", " %"), ("worse", ": over the better"))
}
_FAR = {
    **_KEYS, "value": "value", "rows": "rows", "blend_median_ape": "error %",
    "times": "times the protocol's", "coverage": "coverage %",
}  # fmt: skip
_GROUND = {"protocol": "protocol"} | {
    f"median_ape {metric}": f"{NAMES[metric]} % (theirs: {theirs})"
    for metric, theirs in PROFILE_BASED.items()
}
_ADVICE = {"protocol": "protocol", "metric": "limit on", "questions": "questions"} | {
    **{f"success {method}": f"{method}: success" for method in METHODS},
    "promised roofcast": "promised", "regret roofcast": "regret",
}  # fmt: skip


def _table(frame: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """Return columns of a frame, renamed, in markdown; by protocol, metric and stratum in their order."""
    if frame.empty:
        return _markdown(frame)
    order = {"protocol": PROTOCOLS, "metric": tuple(NAMES), "stratum": STRATA}
    ranks = [frame[name].map(values.index) for name, values in order.items() if name in columns]
    shown = frame.iloc[np.lexsort(ranks[::-1])]
    shown = shown[[name for name in columns if name in shown]].replace({"metric": NAMES})
    if "coverage" in shown:
        marks = np.where(shown["coverage"].between(*COVERAGE_TARGET), "", "**")
        shown["coverage"] = marks + (100 * shown["coverage"]).map("{:.1f}".format) + marks
    shares = {name: "{:.1%}" for name in shown if str(name).startswith(("success", "promised", "regret"))}
    shares |= {name: "{:+.1%}" for name in shown if str(name).startswith("worse")}
    for name, form in shares.items():
        shown[name] = shown[name].map(form.format)
    return _markdown(shown.rename(columns=dict(columns)))


def _markdown(frame: pd.DataFrame) -> str:
    """Return a frame in markdown, "-" where nothing is known."""
    if frame.empty:
        return "None."
    known = frame.astype(object).where(frame.notna(), None)
    return str(known.to_markdown(index=False, floatfmt=".1f", intfmt=",", missingval="-"))


def draw_predictions(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
    """Write a panel per metric, blend against measured on log axes, with the diagonal; returns `path`."""
    with _panels(scores, path, protocol) as panels:
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
    return path


def draw_residuals(scores: pd.DataFrame, path: Path, protocol: str = "configuration") -> Path:
    """Write a panel per metric, the spread of log(measured / blend) per GPU; returns `path`."""
    with _panels(scores, path, protocol) as panels:
        for axes, metric, rows in panels:
            gpus = rows["gpu"].value_counts().head(12).index
            off = np.log(rows["measured"] / rows["blend"])
            groups = [off[rows["gpu"] == gpu].to_numpy() for gpu in gpus]
            axes.boxplot(groups, orientation="horizontal", tick_labels=gpus, showfliers=False, whis=(5, 95))
            axes.axvline(0.0, color="crimson", linewidth=1)
            axes.invert_yaxis()
            axes.set_title(f"log(measured / predicted), {NAMES[metric]}", fontsize=9)
    return path


@contextmanager
def _panels(scores: pd.DataFrame, path: Path, protocol: str) -> Iterator[list[tuple[Any, str, pd.DataFrame]]]:
    """Yield axes, metric and rows of each panel of a figure that is written to `path` at the end."""
    from matplotlib.figure import Figure

    rows = answered(scores[scores["protocol"] == protocol])
    drawn = [metric for metric in METRICS if (rows["metric"] == metric).any()]
    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    figure.suptitle(f"protocol: {protocol}", fontsize=11)
    axes = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
    yield [(axis, name, rows[rows["metric"] == name]) for axis, name in zip(axes, drawn, strict=False)]
    path.parent.mkdir(parents=True, exist_ok=True)
    # No software line in the file: the same scores give the same bytes.
    figure.savefig(path, dpi=72, metadata={"Software": None})
