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
    output, total, requests = rows["output_tput"], rows["total_tput"], rows["req_tput"]
    derived = output.isna() & total.notna() & share.notna()
    note(rows, derived, "output-derived", column="output_tok_s")
    rows["output_tok_s"] = output = output.fillna(total * share).fillna(requests * rows["osl"])
    rows["total_tok_s"] = total.fillna(output / share)
    rows["request_s"] = requests.fillna(output / rows["osl"])
    off = (rows["total_tok_s"] / output * share - 1).abs() > 0.15
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
            kind = rows["tpot_p50_is"].where(use_median, rows["tpot_mean_is"])
        value = median.where(use_median, mean)
        rows[f"{name}_ms"] = value
        rows[f"{name}_stat"] = np.where(value.isna(), "", np.where(use_median, "p50", "mean"))
    rows["tpot_kind"] = kind.where(rows["tpot_ms"].notna(), "")
    rows["e2e_ms"] = rows["e2e_mean_ms"].fillna(rows["e2e_p50_ms"])


def notes(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the remarks on each row as the text of its column `notes`."""
    return rows["remarks"].map(text).str.slice(0, NOTE_LENGTH)


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table's columns, in order and typed; `notes` are the remarks on the row."""
    return typed(rows.assign(notes=notes(rows)).sort_values(["source_family", "source", "file", "line"]))
