"""Rows that lack what defines them take it from the same run, as another source lists it.

aiconfigurator's list of InferenceX runs names neither speculative decoding nor, for most disaggregated rows,
the worker counts. InferenceX's own files and database dump do, for the same configurations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..columns import COLUMNS
from ..rows.draft import note, reject, sound

BORROWERS = ("aic-silicon-inferencex",)
LENDERS = (
    "inferencex-app-fixtures", "inferencemax-official-2025-11", "inferencex-csv-export",
    "inferencex-dbdump-2026-07-20",
)  # fmt: skip
_POOLS = [name for name in COLUMNS if name.startswith(("prefill_", "decode_"))]
_SAME = ["gpu", "engine", "model", "weight_precision", "isl", "osl", "concurrency", "disagg"]
_LENT = ["num_gpus", "tp", "ep", "dp", "spec_decode", "run_id", *_POOLS]
_SWEEP = ["gpu", "engine", "model", "weight_precision", "tp", "ep", "dp", "date", "engine_version"]
UNSETTLED = "?"
EXACT = 2e-4
NEAR = 0.12
APART = 0.08


def borrow(rows: pd.DataFrame) -> None:
    """Give borrowers the speculative decoding and layout of the same run, or reject them.

    The lender is the candidate of the same configuration (as far as the borrower knows its own) whose TPOT is
    nearest: within 12 %, and 8 % nearer than any candidate with other speculation (with MTP and without lie
    37 % apart in the middle). Mean TTFT and TPOT equal to four digits make the two one run.
    """
    borrowers = rows.index[rows["source"].isin(BORROWERS) & sound(rows)]
    pairs = _candidates(rows, borrowers)
    plain_models = _models_without_speculation(rows)
    best = pairs.sort_values(["distance", "lender"]).groupby("borrower").head(1).set_index("borrower")
    other = pairs.merge(best[["spec_decode"]], left_on="borrower", right_index=True, suffixes=("", "_best"))
    rival = other[other["spec_decode"] != other["spec_decode_best"]].groupby("borrower")["distance"].min()
    rival = rival.reindex(best.index).fillna(np.inf)
    found = best[best["exact"] | ((best["distance"] <= NEAR) & (rival - best["distance"] >= APART))]
    for name in _LENT:
        known = found[name].notna() if name != "run_id" else found["exact"]
        rows.loc[found.index[known], name] = found.loc[known, name]
    note(rows, rows.index.isin(found.index), "source", value="layout and speculation of the twin run")
    plain = _unsettled(rows, borrowers) & rows["model"].isin(plain_models) & (rows["disagg"] == 0)
    rows.loc[plain, "spec_decode"] = "none"
    _take_from_the_sweep(rows, borrowers)
    unsettled = _unsettled(rows, borrowers)
    rows.loc[unsettled, "spec_decode"] = ""
    reject(rows, unsettled, "source", value="speculative decoding unknown and no twin run settles it")


def _unsettled(rows: pd.DataFrame, borrowers: pd.Index) -> pd.Series:
    return (rows["spec_decode"] == UNSETTLED) & rows.index.isin(borrowers)


def _take_from_the_sweep(rows: pd.DataFrame, borrowers: pd.Index) -> None:
    """Take speculation from the settled points of the same sweep (day, version, layout), if they agree."""
    for keys in ([*_SWEEP, "isl", "osl"], _SWEEP):
        together = rows.loc[borrowers][rows.loc[borrowers, "disagg"] == 0]
        points = together[together["spec_decode"] != UNSETTLED].groupby(keys)["spec_decode"]
        settled = points.agg(["nunique", "first"])
        agreed = settled[settled["nunique"] == 1]["first"].rename("agreed").reset_index()
        open_points = together[together["spec_decode"] == UNSETTLED]
        merged = open_points[keys].merge(agreed, on=keys, how="left").set_axis(open_points.index)
        taken = merged["agreed"].dropna()
        rows.loc[taken.index, "spec_decode"] = taken
        note(rows, rows.index.isin(taken.index), "source", value="speculation of the same sweep")


def _candidates(rows: pd.DataFrame, borrowers: pd.Index) -> pd.DataFrame:
    lenders = rows[rows["source"].isin(LENDERS) & sound(rows) & rows["num_gpus"].notna()]
    left = rows.loc[borrowers].reset_index(names="borrower")
    right = lenders.reset_index(names="lender")[
        [*_SAME, *_LENT, "lender", "tpot_mean_ms", "tpot_p50_ms", "ttft_mean_ms"]
    ]
    pairs = left[[*_SAME, *_POOLS, "borrower", "num_gpus", "tp", "ep", "tpot_mean_ms", "ttft_mean_ms"]].merge(
        right, on=_SAME, suffixes=("_own", "")
    )
    together = (pairs["tp"] == pairs["tp_own"]) & (pairs["ep"] == pairs["ep_own"])
    split = _agrees(pairs, "num_gpus")
    for name in ("prefill_tp", "decode_tp", "prefill_workers", "decode_workers"):
        split &= _agrees(pairs, name)
    pairs = pairs[np.where(pairs["disagg"] == 1, split, together)].copy()
    tpot = pairs["tpot_mean_ms"].fillna(pairs["tpot_p50_ms"])
    pairs["distance"] = _gap(pairs["tpot_mean_ms_own"], tpot)
    ttft = _gap(pairs["ttft_mean_ms_own"], pairs["ttft_mean_ms"])
    pairs["exact"] = (pairs["distance"] < EXACT) & (ttft < EXACT)
    pairs.loc[pairs["exact"], "distance"] = -1.0
    return pairs


def _gap(one: pd.Series[float], other: pd.Series[float]) -> pd.Series[float]:
    """The distance of two figures on a logarithmic scale: 0.02 is 2 %."""
    return pd.Series(np.abs(np.log(one / other)), index=one.index)


def _agrees(pairs: pd.DataFrame, name: str) -> pd.Series:
    """Equal, or unknown to the borrower."""
    own = pairs[f"{name}_own"]
    return own.isna() | (own == pairs[name])


def _models_without_speculation(rows: pd.DataFrame) -> set[str]:
    lenders = rows[rows["source"].isin(LENDERS)]
    return set(lenders["model"]) - set(lenders.loc[lenders["spec_decode"] != "none", "model"])
