"""The accuracy report: docs/accuracy.json holds every figure, docs/accuracy.md the same for readers.

Both are written from a scores frame (one row per table row, protocol and metric) and a `meta` mapping that
says where it came from; nothing in them is typed by hand but the `studies` of missed targets that the caller
passes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..data import catalogue
from ..data.files import replace_text
from .metrics import by_support, slices, summarise, worst
from .report_markdown import COVERAGE_GPUS, Records, render

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

WORST_COLUMNS = (
    "row_id", "model", "gpu", "engine", "weight_precision", "mode", "source", "support", "measured", "blend",
    "ape",
)  # fmt: skip
SLICE_COLUMNS = (
    "protocol", "metric", "slice", "value", "rows", "blend_median_ape", "blend_p90_ape",
    "baseline_median_ape", "coverage", "coverage_error", "median_width",
)  # fmt: skip
COMMON_COLUMNS = ("source", "gpu", "engine", "model", "mode")


def accuracy(
    scores: pd.DataFrame,
    meta: Mapping[str, Any],
    advice: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Every figure of the report as JSON-ready values; `advice` is `advice.advice_tables`' frame."""
    overall = summarise(scores)
    return {
        "meta": dict(meta),
        "targets": _targets(overall),
        "overall": _records(overall),
        "coverage_by_gpu": _coverage_by_gpu(scores),
        "baseline_against_floor": _baseline_gain(overall),
        "by_support": _records(by_support(scores)) if "corrected" in scores else [],
        "own_ground": _own_ground(scores),
        "slices": _records(slices(scores)[list(SLICE_COLUMNS)]),
        "worst": _worst_where_missed(scores, overall),
        "advice": [] if advice is None else _records(advice),
    }


def write_report(
    report: Mapping[str, Any], folder: Path, studies: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write accuracy.md and accuracy.json into `folder`, each whole or not at all; returns their paths.

    `report` is of `accuracy`; `studies` maps a protocol to what its worst rows showed (markdown).
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown, plain = folder / "accuracy.md", folder / "accuracy.json"
    replace_text(plain, json.dumps(report, indent=1, allow_nan=False) + "\n")
    replace_text(markdown, render(report, studies or {}))
    return markdown, plain


def _targets(overall: pd.DataFrame) -> Records:
    found = {(row["protocol"], row["metric"]): row for row in _records(overall)}
    rows: Records = []
    for (protocol, metric), (target, crude) in TARGETS.items():
        row = found.get((protocol, metric))
        if row:
            got = row["blend_median_ape"]
            entry = {"protocol": protocol, "metric": metric, "rows": row["rows"], "median_ape": got}
            rows.append({**entry, "target": target, "crude": crude, "met": got <= target})
    return rows


def _coverage_by_gpu(scores: pd.DataFrame) -> Records:
    here = scores[scores["gpu"].isin(COVERAGE_GPUS)]
    columns = ["protocol", "metric", "gpu", "rows", "coverage", "median_width"]
    return _records(summarise(here, ("protocol", "metric", "gpu"))[columns])


def _baseline_gain(overall: pd.DataFrame) -> Records:
    frame = overall[["protocol", "metric", "rows", "floor_median_ape", "baseline_median_ape"]].copy()
    frame["factor"] = frame["floor_median_ape"] / frame["baseline_median_ape"]
    return _records(frame)


def _own_ground(scores: pd.DataFrame) -> Records:
    from_aic = scores["source"].astype(str).str.startswith("aic")
    dense = scores["model"].isin([name for name, spec in catalogue.models().items() if not spec.n_experts])
    offline = (scores["mode"] == "offline") & (scores["engine"] == "trtllm") & dense
    grounds = {
        "aiconfigurator sample": scores[from_aic & scores["metric"].isin(["tpot_ms", "ttft_ms"])],
        "offline, dense, TensorRT-LLM": scores[offline & (scores["metric"] == "output_tok_s")],
    }
    return [_beside_theirs(name, row) for name, here in grounds.items() for row in _records(summarise(here))]


def _beside_theirs(ground: str, row: dict[str, Any]) -> dict[str, Any]:
    theirs = PROFILE_BASED[row["metric"]]
    figures = {name: row[name] for name in ("protocol", "metric", "rows", "unanswered")}
    got = row["blend_median_ape"]
    return {"ground": ground, **figures, "median_ape": got, "theirs": list(theirs), "beats": got < theirs[0]}


def _worst_where_missed(scores: pd.DataFrame, overall: pd.DataFrame) -> Records:
    result: Records = []
    for missed in (target for target in _targets(overall) if not target["met"]):
        key = {"protocol": missed["protocol"], "metric": missed["metric"]}
        rows = worst(scores[(scores["protocol"] == key["protocol"]) & (scores["metric"] == key["metric"])])
        common = {column: rows[column].value_counts().head(3).to_dict() for column in COMMON_COLUMNS}
        result.append({**key, "common": common, "rows": _records(rows[list(WORST_COLUMNS)])})
    return result


def _records(frame: pd.DataFrame) -> Records:
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value
