"""Rules for aiconfigurator's accuracy sample: TTFT and TPOT of InferenceX runs and of NVIDIA's own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import layout
from .inferencex import client_lengths
from .raw import say

# The sample gives no dates for NVIDIA's own runs; the month in which the engine version came out stands in.
RELEASED = {
    "1.0.0rc3": "2025-07",
    "0.5.1.post1": "2025-08",
    "0.12.0": "2025-12",
    "0.5.6.post2": "2025-12",
    "1.2.0rc6.post1": "2025-12",
    "0.5.8.post1": "2026-02",
    "0.5.9": "2026-02",
    "1.3.0rc1": "2026-01",
    "1.3.0rc5": "2026-02",
}


def _statistics_are_means(rows: pd.DataFrame) -> None:
    """The sample's "ttft" and "tpot" are means, although collected as p50.

    472 of its rows equal the MEAN TTFT and MEAN TPOT of the same InferenceX run to four digits; none equals
    the medians. (With the client's opening burst the mean TTFT is up to ten times the median.)
    """
    for name in ("ttft", "tpot"):
        rows[f"{name}_mean_ms"] = rows[f"{name}_p50_ms"]
        rows[f"{name}_p50_ms"] = np.nan


def inferencex_part(rows: pd.DataFrame) -> None:
    """InferenceX runs as aiconfigurator lists them.

    The sample's tp excludes attention dp. In part of its MoE rows tp (or dp) was multiplied by ep once more
    (16 for TP4 EP4, 64 for TP8 EP8; 4 x 4 with ep 16): the name in source_ref, the exact twins in
    InferenceX's files and the row counts per layout in its database dump all say the root is meant.
    Speculative decoding is not recorded and a quarter of the rows that have an exact twin ran MTP: it is
    taken from the twin (twins.py). GB200 rows that call themselves aggregated with tp above 8 are
    InferenceX's early disaggregated rows, whose tp is the total number of GPUs.
    """
    client_lengths(rows)
    _statistics_are_means(rows)
    width = rows["tp"] * rows["dp"].fillna(1)
    together = rows["disagg"] == 0
    doubled = (rows["ep"] > 1) & (width == rows["ep"] ** 2)
    both = (rows["tp"] > 1) & (rows["tp"] == rows["dp"]) & (rows["ep"] == width)
    squared = together & (doubled | both)
    root = width**0.5
    attention_dp = rows["dp"] > rows["tp"]
    rows.loc[squared, "ep"] = root[squared]
    rows.loc[squared, "num_gpus"] = root[squared]
    rows.loc[squared, "tp"] = root[squared]
    rows.loc[squared, "dp"] = root.where(attention_dp, 1.0)[squared]
    rows["dp_means"] = np.where(squared, "inside", "outside")
    total = together & ~squared & (rows["tp"] > 8)
    rows.loc[total, "num_gpus"] = rows.loc[total, "tp"]
    rows.loc[total, "disagg"] = 1
    rows.loc[total, ["tp", "ep", "dp"]] = np.nan
    layout.pools_in_aic_notes(rows)
    rows.loc[rows["spec_decode"] == "", "spec_decode"] = "?"
    rows["weight"] = 0.9


def nvidia_part(rows: pd.DataFrame) -> None:
    """NVIDIA's own runs (fixed synthetic lengths); dates from the engine version's month of release.

    Concurrency is missing in four disaggregated rows, which say nothing without it. moe_tp x ep above tp (17
    rows of a model too large for tp GPUs) means attention dp that the column dp leaves out.
    """
    _statistics_are_means(rows)
    moe_width = rows["notes"].str.extract(r"moe_tp=([\d.]+)")[0].astype(float) * rows["ep"]
    hidden = (rows["disagg"] == 0) & (moe_width > rows["tp"] * rows["dp"].fillna(1))
    rows.loc[hidden, "dp"] = (moe_width / rows["tp"])[hidden]
    rows.loc[hidden, "num_gpus"] = moe_width[hidden]
    rows["dp_means"] = "outside"
    layout.pools_in_aic_notes(rows)
    undated = rows["date"] == ""
    rows.loc[undated, "date"] = rows.loc[undated, "engine_version"].map(RELEASED).fillna("2025-12")
    rows["spec_decode"] = rows["spec_decode"].replace("", "none")
    rows["weight"] = 0.9
    say(rows, rows["concurrency"].isna(), reject="closed loop of unknown concurrency")
