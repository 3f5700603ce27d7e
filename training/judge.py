"""What is new in the table, whether known ground has shifted, and whether a challenger takes over.

On known ground (new rows whose setup or family the champion has seen) its own answers are tested by
configuration: whether log(measured / predicted) lies about zero (signed ranks, Wilcoxon 1945) and inside the
90 % interval as often as promised (exact binomial). A challenger takes over if no protocol gets worse by more
than a margin, neither over all rows nor over those the champion knew, and the new rows get better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..features.facts import FloatArray
from . import splits
from .fit import sample_of
from .metrics import METRICS
from .model.model import Model, answer

COLUMNS = ("gpu", "platform_raw", "model", "engine", "engine_version", "weight_precision", "mode", "source")
KNOWN_GROUND = ("setup", "family")
PROMISED = 0.9
SURE = 0.01  # the error of the first kind of both tests
SMALLEST_SHIFT = 0.05  # of the log: a smaller one is no news however sure
_FEWEST = 6  # configurations; fewer cannot reach SURE in a signed-rank test
FEWEST_JUDGED = 30  # rows; a protocol's metric with fewer is shown but does not decide
_MEASURE = ["row_id", "protocol", "metric"]


def novelties(table: pd.DataFrame, new: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """Return, by column, the values that only new rows have, with their number of rows, most rows first."""
    found = {}
    for column in COLUMNS:
        text = table["engine"] + " " + table[column] if column == "engine_version" else table[column]
        fresh = text[new & ~text.isin(text[~new]) & (table[column] != "")].value_counts()
        if len(fresh):
            found[column] = {str(value): int(rows) for value, rows in fresh.items()}
    return found


def shift(model: Model, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, by metric, how the new rows on known ground lie to the champion's answers.

    Figures: rows, configurations, median_log (of log(measured / predicted)), p_value, coverage (share of
    configurations inside the interval), coverage_p_value, and shifted. Metrics without rows are left out.
    """
    sample = sample_of(rows)
    if not len(sample.table):
        return {}
    answers = answer(model, sample.requests)
    known = np.isin(answers.stratum, KNOWN_GROUND)
    configs = splits.configuration_labels(sample.table)[known]
    found = {}
    for metric in METRICS:
        measured = sample.table[metric].to_numpy(dtype=np.float64)
        low, high = (answers.values[f"{metric}{end}"] for end in ("_lo", "_hi"))
        with np.errstate(all="ignore"):
            logs = np.log(np.stack([measured, low, high], axis=1) / answers.values[metric][:, None])[known]
        medians = pd.DataFrame(logs).groupby(configs).median().dropna()
        if len(medians):
            found[metric] = {"rows": int(np.isfinite(logs[:, 0]).sum()), **_tests(*medians.to_numpy().T)}
    return found


def _tests(off: FloatArray, low: FloatArray, high: FloatArray) -> dict[str, Any]:
    """Test log(measured / predicted) of configurations against zero and against the interval's bounds."""
    from scipy import stats

    inside = int(((low <= off) & (off <= high)).sum())
    enough = len(off) >= _FEWEST and bool(np.any(off))
    p_value = float(stats.wilcoxon(off).pvalue) if enough else 1.0
    misses = float(stats.binomtest(inside, len(off), PROMISED, alternative="less").pvalue)
    moved = p_value < SURE and abs(np.median(off)) > SMALLEST_SHIFT
    return {
        "configurations": len(off), "median_log": float(np.median(off)), "p_value": p_value,
        "coverage": inside / len(off), "coverage_p_value": misses, "shifted": bool(moved or misses < SURE),
    }  # fmt: skip


def judge(champion: pd.DataFrame, challenger: pd.DataFrame, new: set[str]) -> pd.DataFrame:
    """Return median errors [%] of two scores frames by part (all, known, new), protocol and metric."""
    kept = champion[[*_MEASURE, "measured", "blend"]].rename(columns={"blend": "champion"})
    both = kept.merge(challenger[[*_MEASURE, "blend"]].rename(columns={"blend": "challenger"}), on=_MEASURE)
    for name in ("champion", "challenger"):
        both[name] = 100 * (both[name] / both["measured"] - 1).abs()
    both = both.dropna(subset=["champion", "challenger"])
    fresh = both["row_id"].isin(new)
    parts = pd.concat({"all": both, "known": both[~fresh], "new": both[fresh]}, names=["part"])
    by = parts.groupby(["part", "protocol", "metric"], sort=False)
    medians: pd.DataFrame = by[["champion", "challenger"]].median().assign(rows=by.size()).reset_index()
    return medians


def decide(judged: pd.DataFrame, margin: float) -> tuple[bool, str]:
    """Return whether the challenger takes over, and why; `judged` as from `judge`.

    A protocol's change is the geometric mean over its metrics of challenger / champion.
    """
    ratio = np.maximum(judged["challenger"], 1e-6) / np.maximum(judged["champion"], 1e-6)
    rows = judged.assign(log=np.log(ratio))
    new = rows[rows["part"] == "new"]
    binding = rows[(rows["part"] != "new") & (rows["rows"] >= FEWEST_JUDGED)]
    changes = np.exp(binding.groupby(["part", "protocol"])["log"].mean())
    if len(changes) and changes.max() > 1 + margin:
        part, protocol = changes.idxmax()
        here = binding[(binding["part"] == part) & (binding["protocol"] == protocol)]
        columns = here[["metric", "champion", "challenger"]].itertuples(index=False)
        errors = "; ".join(f"{metric} {old:.1f} % to {now:.1f} %" for metric, old, now in columns)
        worse = f"protocol {protocol} gets worse on {part} rows by a factor of {changes.max():.3f}"
        return False, f"{worse}, the margin is {1 + margin:g}: {errors}"
    if not len(new):
        return False, "no new row has a measurement that both can answer"
    gain = float(np.exp(new["log"].mean()))
    if gain >= 1:
        return False, f"the new rows get no better: their errors change by a factor of {gain:.3f}"
    return True, f"the errors of the new rows change by a factor of {gain:.3f}, no protocol gets worse"
