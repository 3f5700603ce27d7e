"""Rows that lack what defines them, and the twin run in another source that has it.

aiconfigurator's list of InferenceX runs names neither speculative decoding nor, for most disaggregated rows,
the worker counts. InferenceX's own files and database dump do, for the same configurations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..schema import POOL_COLUMNS
from .raw import say

SEEKERS = ("aic-silicon-inferencex",)
GIVERS = (
    "inferencex-app-fixtures",
    "inferencemax-official-2025-11",
    "inferencex-csv-export",
    "inferencex-dbdump-2026-07-20",
)
_SAME = ["gpu", "engine", "model", "weight_precision", "isl", "osl", "concurrency", "disagg"]
_GIVEN = ["num_gpus", "tp", "ep", "dp", "spec_decode", "run_id", *POOL_COLUMNS]

EXACT = 2e-4
NEAR = 0.12
APART = 0.08


def borrow(rows: pd.DataFrame) -> None:
    """Give seekers their twin's speculative decoding and layout, or reject them.

    The twin is the candidate of the same configuration (as far as the seeker knows its own) whose TPOT is
    nearest: within 12 %, and 8 % nearer than any candidate with other speculation (with MTP and without lie
    37 % apart in the middle). Mean TTFT and TPOT equal to four digits make the two one run.
    """
    seekers = rows.index[rows["source"].isin(SEEKERS) & (rows["reject"] == "")]
    pairs = _candidates(rows, seekers)
    none_only = _models_without_speculation(rows)
    best = pairs.sort_values(["distance", "giver"]).groupby("seeker").head(1).set_index("seeker")
    other = pairs.merge(best[["spec_decode"]], left_on="seeker", right_index=True, suffixes=("", "_best"))
    rival = other[other["spec_decode"] != other["spec_decode_best"]].groupby("seeker")["distance"].min()
    rival = rival.reindex(best.index).fillna(np.inf)
    sure = best["exact"] | ((best["distance"] <= NEAR) & (rival - best["distance"] >= APART))
    found = best[sure]
    for name in _GIVEN:
        known = found[name].notna() if name != "run_id" else found["exact"]
        rows.loc[found.index[known], name] = found.loc[known, name]
    say(rows, rows.index.isin(found.index), remark="layout and speculation of the twin run")
    open_question = rows.index.isin(seekers) & (rows["spec_decode"] == "?")
    plain = open_question & rows["model"].isin(none_only) & (rows["disagg"] == 0)
    say(rows, plain, spec_decode="none")
    _ask_the_sweep(rows, seekers)
    unsettled = rows.index.isin(seekers) & (rows["spec_decode"] == "?")
    say(rows, unsettled, spec_decode="", reject="speculative decoding unknown and no twin run settles it")


def _ask_the_sweep(rows: pd.DataFrame, seekers: pd.Index) -> None:
    """Take speculation from the settled points of the same sweep (day, version, layout), if they agree."""
    sweep = ["gpu", "engine", "model", "weight_precision", "tp", "ep", "dp", "date", "engine_version"]
    for keys in ([*sweep, "isl", "osl"], sweep):
        together = rows.loc[seekers][rows.loc[seekers, "disagg"] == 0]
        settled = (
            together[together["spec_decode"] != "?"].groupby(keys)["spec_decode"].agg(["nunique", "first"])
        )
        agreed = settled[settled["nunique"] == 1]["first"].rename("said").reset_index()
        unsettled = together[together["spec_decode"] == "?"]
        said = unsettled[keys].merge(agreed, on=keys, how="left").set_axis(unsettled.index)["said"].dropna()
        rows.loc[said.index, "spec_decode"] = said
        say(rows, rows.index.isin(said.index), remark="speculation of the same sweep")


def _candidates(rows: pd.DataFrame, seekers: pd.Index) -> pd.DataFrame:
    givers = rows[rows["source"].isin(GIVERS) & (rows["reject"] == "") & rows["num_gpus"].notna()]
    left = rows.loc[seekers].reset_index(names="seeker")
    right = givers.reset_index(names="giver")[
        [*_SAME, *_GIVEN, "giver", "tpot_mean_ms", "tpot_p50_ms", "ttft_mean_ms"]
    ]
    pairs = left[
        [*_SAME, *POOL_COLUMNS, "seeker", "num_gpus", "tp", "ep", "tpot_mean_ms", "ttft_mean_ms"]
    ].merge(right, on=_SAME, suffixes=("_own", ""))
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
    """Equal, or unknown to the seeker."""
    own = pairs[f"{name}_own"]
    return own.isna() | (own == pairs[name])


def _models_without_speculation(rows: pd.DataFrame) -> set[str]:
    givers = rows[rows["source"].isin(GIVERS)]
    return set(givers["model"]) - set(givers.loc[givers["spec_decode"] != "none", "model"])
