"""How wrong the predictions were: one row of figures per protocol, metric and slice, from a scores frame.

All errors are absolute percentage errors [%], 100 |predicted / measured - 1|, on the rows that every compared
column answers; `unanswered` counts the measured rows that the blend itself left without a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..data.columns import COLUMNS, FIGURES
from .model.times import CORRECTED, TAILS

METRICS = FIGURES
NAMES = dict(zip(METRICS, ("TPOT", "TTFT", "output throughput", "mean TTFT"), strict=True))
NAMES |= {f"{name}_ms": f"{NAMES[f'{of}_ms']} {statistic}" for name, (of, statistic) in TAILS.items()}
UNITS = {name: COLUMNS[name].unit for name in METRICS}
# The time that each metric is learned as: throughput is end-to-end time, by Little's law.
LEARNED_AS = {f"{name}_ms": name for name in CORRECTED if name != "e2e"} | {"output_tok_s": "e2e"}
PREDICTIONS = ("blend", "baseline", "floor", "neighbour", "pure_ml")
_LEVELS = ("baseline", "corrected", "blend")
SLICES = ("gpu", "engine", "weight_precision", "mode")
_FAMILY = ("gpu", "model", "engine")


def answered(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows with a measurement and a finite positive number in every prediction column present."""
    values = scores[["measured", *_present(scores)]].to_numpy(np.float64)
    complete: pd.DataFrame = scores.loc[(np.isfinite(values) & (values > 0)).all(axis=1)]
    return complete


def summarise(scores: pd.DataFrame, by: Sequence[str] = ("protocol", "metric")) -> pd.DataFrame:
    """Error figures per group of `by`, one row each, sorted by `by`.

    Columns: rows, unanswered, then per prediction `<name>_median_ape`, `_mean_ape`, `_p90_ape` [%] and
    `_bias` (median of log(predicted / measured)), `coverage` [share of rows inside the interval], its
    standard error `coverage_error`, and `median_width` [% of the blend]. Rows of one family (GPU, model,
    engine) err together: they count as one draw in that error (Liang and Zeger 1986).
    """
    keys, rows = list(by), answered(scores)
    named = [rows[key] for key in keys]
    result = rows.groupby(keys, observed=True).size().to_frame("rows")
    blank = scores[~(np.isfinite(scores["blend"]) & (scores["blend"] > 0))]
    result["unanswered"] = blank.groupby(keys, observed=True).size().reindex(result.index, fill_value=0)
    for name in _present(scores):
        ratio = rows[name].astype(float) / rows["measured"].astype(float)
        error = (100 * (ratio - 1).abs()).groupby(named, observed=True)
        result[f"{name}_median_ape"], result[f"{name}_mean_ape"] = error.median(), error.mean()
        result[f"{name}_p90_ape"] = error.quantile(0.9)
        result[f"{name}_bias"] = pd.Series(np.log(ratio)).groupby(named, observed=True).median()
    inside = rows["measured"].between(rows["blend_lo"], rows["blend_hi"]).astype(float)
    result["coverage"] = inside.groupby(named, observed=True).mean()
    families = rows[list(dict.fromkeys([*keys, *_FAMILY]))]
    apart = inside - inside.groupby(named, observed=True).transform("mean")
    drawn = apart.groupby([families[name] for name in families], observed=True).sum() ** 2
    result["coverage_error"] = np.sqrt(drawn.groupby(keys, observed=True).sum()) / result["rows"]
    width = 100 * (rows["blend_hi"] - rows["blend_lo"]) / rows["blend"]
    result["median_width"] = width.groupby(named, observed=True).median()
    return result.reset_index()


def slices(scores: pd.DataFrame, columns: Sequence[str] = SLICES, min_rows: int = 20) -> pd.DataFrame:
    """`summarise` per protocol, metric and value of each slice column; under `min_rows` rows: left out."""
    parts = []
    for column in columns:
        part = summarise(scores, ("protocol", "metric", column))
        part = part[part["rows"] >= min_rows].rename(columns={column: "value"})
        part.insert(2, "slice", column)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def by_support(scores: pd.DataFrame, min_rows: int = 100) -> pd.DataFrame:
    """Median error [%] of baseline, whole correction and blend by metric and stratum of support.

    Columns: metric, stratum, rows, baseline, corrected, blend, and `worse`, by how much the blend's error
    exceeds the lesser of the other two [share, negative where it is the best]. All protocols together;
    strata of fewer than `min_rows` rows are left out.
    """
    rows = scores[np.isfinite(scores["corrected"]) & np.isfinite(scores["baseline"])]
    named = {name: 100 * (rows[name] / rows["measured"] - 1).abs() for name in _LEVELS}
    frame = rows[["metric", "stratum"]].assign(rows=1, **named)
    grouped = frame.groupby(["metric", "stratum"], observed=True)
    result = grouped[list(_LEVELS)].median().join(grouped.size().rename("rows"))
    result["worse"] = result["blend"] / result[["baseline", "corrected"]].min(axis=1) - 1
    large: pd.DataFrame = result[result["rows"] >= min_rows].reset_index()
    return large


def worst(scores: pd.DataFrame, n: int = 30) -> pd.DataFrame:
    """The `n` rows with the largest |log(blend / measured)|, worst first, with their `ape` [%]."""
    rows = answered(scores)
    ratio = rows["blend"].astype(float) / rows["measured"].astype(float)
    ranked = rows.assign(ape=100 * (ratio - 1).abs(), off=np.abs(np.log(ratio)))
    return ranked.sort_values(["off", "row_id"], ascending=[False, True]).head(n).drop(columns="off")


def _present(scores: pd.DataFrame) -> list[str]:
    return [name for name in PREDICTIONS if name in scores]
