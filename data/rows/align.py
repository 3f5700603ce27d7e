"""What every source goes through after its own rule: one statistic, one throughput, glossary names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..measurements import typed
from .draft import note, reject, text

NOTE_LENGTH = 160


def lengths(rows: pd.DataFrame) -> None:
    """Make isl and osl real means: nominal x length_scale. A prefill-only run generates one token."""
    for name in ("isl", "osl"):
        rows[name] = rows[name] * rows["length_scale"]
    none = rows["osl"] == 0
    rows.loc[none, "osl"] = 1.0
    note(rows, none, "prefill-only", column="osl")


def throughputs(rows: pd.DataFrame) -> None:
    """Fill output, total and request throughput from one another: total = output x (isl+osl)/osl."""
    share = rows["osl"] / (rows["isl"] + rows["osl"])
    for name, given in (
        ("output_tok_s", "output_tput"),
        ("total_tok_s", "total_tput"),
        ("request_s", "req_tput"),
    ):
        rows[name] = rows[given]
    derived = rows["output_tok_s"].isna() & rows["total_tok_s"].notna() & share.notna()
    rows.loc[derived, "output_tok_s"] = (rows["total_tok_s"] * share)[derived]
    note(rows, derived, "output-derived", column="output_tok_s")
    by_requests = rows["output_tok_s"].isna() & rows["request_s"].notna() & rows["osl"].notna()
    rows.loc[by_requests, "output_tok_s"] = (rows["request_s"] * rows["osl"])[by_requests]
    rows["total_tok_s"] = rows["total_tok_s"].fillna(rows["output_tok_s"] / share)
    rows["request_s"] = rows["request_s"].fillna(rows["output_tok_s"] / rows["osl"])
    off = (rows["total_tok_s"] / rows["output_tok_s"] * share - 1).abs() > 0.15
    reject(rows, off, "throughputs-disagree", column="total_tok_s")


def latencies(rows: pd.DataFrame) -> None:
    """Choose one TTFT and one TPOT: the median where known, else the mean; `*_mean_ms` keeps the mean.

    Inter-token latencies: their mean over all tokens is the mean TPOT, their median is not (it leaves out
    steps stalled by prefill; with speculative decoding it is a time per chunk), so a mean goes before a
    median ITL.
    """
    for name in ("ttft", "tpot"):
        median, mean = rows[f"{name}_p50_ms"], rows[f"{name}_mean_ms"]
        use_median = median.notna()
        if name == "tpot":
            use_median &= (rows["tpot_p50_is"] == "tpot") | mean.isna()
            median_itl = use_median & (rows["tpot_p50_is"] == "itl")
            mean_itl = ~use_median & mean.notna() & (rows["tpot_mean_is"] == "itl")
            rows["tpot_kind"] = np.where(median_itl | mean_itl, "itl", "tpot")
        value = median.where(use_median, mean)
        rows[f"{name}_ms"] = value
        rows[f"{name}_stat"] = np.where(value.isna(), "", np.where(use_median, "p50", "mean"))
    rows["tpot_kind"] = rows["tpot_kind"].where(rows["tpot_ms"].notna(), "")
    rows["e2e_ms"] = rows["e2e_mean_ms"].fillna(rows["e2e_p50_ms"])


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table's columns, in order and typed; `notes` are the remarks on the row."""
    table = rows.copy()
    table["notes"] = notes(table)
    return typed(table.sort_values(["source_family", "source", "file", "line"]))


def notes(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the remarks on each row as the text of its column `notes`."""
    return rows["remarks"].map(text).str.slice(0, NOTE_LENGTH)
