"""One run, one row: copies of a run in several sources are folded into the richest of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..rows.duplicates import Floats, same_digits, same_run
from .sources import SOURCE_RANK, USUAL_RANK

# Repeats of a configuration differ by 1 to 4 % in TPOT; copies of one run agree to the digits that were kept.
CLOSE = {"tpot": 0.02, "tput": 0.02, "ttft": 0.05, "e2e": 0.02}

# The InferenceX database dump holds medians over runs; the other InferenceX sources hold runs.
MEDIANS = frozenset({"inferencex-dbdump-2026-07-20"})
UNDATED_RUNS = frozenset({"inferencemax-official-2025-11"})
RUNS = UNDATED_RUNS | {"inferencex-app-fixtures", "inferencex-csv-export", "aic-silicon-inferencex"}
ROUNDED_COPIES = frozenset({"sglang-docs"})
CONFIRMED = 0.05
CONFIRMED_WEIGHT = 0.7

COMPARED = {
    "tpot_p50_ms": "tpot", "tpot_mean_ms": "tpot", "ttft_p50_ms": "ttft", "ttft_mean_ms": "ttft",
    "output_tok_s": "tput", "e2e_mean_ms": "e2e", "e2e_p50_ms": "e2e",
}  # fmt: skip
FILLED = [
    *COMPARED,
    *["total_tok_s", "request_s", "ttft_p90_ms", "ttft_p99_ms", "tpot_p90_ms", "tpot_p99_ms", "power_w"],
]
# A median over runs lends a single run no latency of its own.
THROUGHPUTS = np.isin(FILLED, ["output_tok_s", "total_tok_s", "request_s"])
LIMITS = np.array([CLOSE[kind] for kind in COMPARED.values()])


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The columns that decide, in folding order; `figures` has one column per name in FILLED."""

    figures: Floats
    load: Floats
    source: npt.NDArray[Any]
    family: npt.NDArray[Any]
    run: npt.NDArray[Any]
    date: npt.NDArray[Any]


def fold(rows: pd.DataFrame) -> pd.DataFrame:
    """Fold copies within each config_group; sets `folded_into` (row_id, "" for kept rows) and `duplicates`.

    The kept row is that of the best source rank, then with the most figures; figures it lacks come from its
    copies. Runs of the same configuration on other days stay as rows of their own. See `_one_run`.
    """
    rows = rows.copy()
    rank = rows["source"].map(SOURCE_RANK).fillna(USUAL_RANK)
    known = rows[list(COMPARED)].notna().sum(axis=1)
    order = (
        rows.assign(rank=rank, known=-known)
        .sort_values(["config_group", "rank", "known", "date", "row_id"])
        .index
    )
    ordered = rows.loc[order].reset_index(drop=True)
    cells = _Rows(
        figures=ordered[FILLED].to_numpy(dtype=float, copy=True),
        load=ordered[["concurrency", "osl"]].to_numpy(dtype=float),
        source=ordered["source"].to_numpy(),
        family=ordered["source_family"].to_numpy(),
        run=ordered["run_id"].to_numpy(),
        date=ordered["date"].to_numpy(),
    )
    home = np.full(len(ordered), -1)
    for positions in ordered.groupby("config_group").indices.values():
        _fold_group(np.asarray(positions), cells, home)
    copies = home >= 0
    folded_into = np.where(copies, ordered["row_id"].to_numpy()[home], "")
    rows.loc[order, "folded_into"] = folded_into
    rows.loc[order, "duplicates"] = np.bincount(home[copies], minlength=len(ordered)).astype(float)
    rows.loc[order, FILLED] = cells.figures
    _confirm(rows)
    return rows


def _fold_group(positions: npt.NDArray[np.intp], cells: _Rows, home: npt.NDArray[np.intp]) -> None:
    kept: list[int] = []
    for here in positions:
        target = next((k for k in kept if _one_run(cells, k, here)), None)
        if target is None:
            kept.append(int(here))
            continue
        home[here] = target
        own, copy = cells.figures[target], cells.figures[here]
        lent = THROUGHPUTS if cells.source[here] in MEDIANS else np.ones(len(FILLED), dtype=bool)
        cells.figures[target] = np.where(np.isnan(own) & lent, copy, own)


def _one_run(cells: _Rows, a: int, b: int) -> bool:
    """Whether two rows of one configuration are one run.

    - Two rows of one source, or of unrelated sources: every figure both have is equal (tables printed again),
      and the run numbers do not differ.
    - InferenceX runs from two of its sources: same day, and equal digits, or TPOT within 2 % where one knows
      the median and the other the mean only.
    - A median of the database dump and an InferenceX run: TPOT and throughput within 2 %; where the run has
      no throughput, the median's must satisfy Little's law with the run's latencies.
    - SGLang's tables print one result with different rounding: all figures within 2 % (TTFT 5 %).
    """
    compared = len(COMPARED)
    gap = np.abs(np.log(cells.figures[a][:compared] / cells.figures[b][:compared]))
    both = ~np.isnan(gap)
    close = bool((gap[both] <= LIMITS[both]).all())
    if cells.run[a] and cells.run[b] and cells.run[a] != cells.run[b]:
        return False
    pair = {cells.source[a], cells.source[b]}
    if len(pair) == 2 and cells.family[a] == cells.family[b] == "inferencex":
        if pair & MEDIANS and pair & RUNS:
            return close and _tpot_gap(cells, a, b) <= CLOSE["tpot"] and _closes(cells, a, b)
        if pair <= RUNS:
            same_day = cells.date[a] == cells.date[b] or bool(pair & UNDATED_RUNS)
            mixed = not both.any() and _tpot_gap(cells, a, b) <= CLOSE["tpot"]
            return same_day and (same_digits(gap) or mixed)
    if len(pair) == 2 and cells.family[a] == cells.family[b] and cells.family[a] in ROUNDED_COPIES:
        return close and bool(both.any())
    return same_run(gap)


def _tpot_gap(cells: _Rows, a: int, b: int) -> float:
    """The TPOT gap, of median to mean (1 % apart in the middle) where no statistic is common."""
    own, other = cells.figures[a][:2], cells.figures[b][:2]
    gaps = np.abs(np.log(np.concatenate([own / other, own / other[::-1]])))
    gaps = gaps[~np.isnan(gaps)]
    return float(gaps[0]) if len(gaps) else np.inf


def _closes(cells: _Rows, a: int, b: int) -> bool:
    """Little's law of one row's mean latencies and the other's throughput: 0.97 to 1.09 in clean runs."""
    names = list(COMPARED)
    pair = cells.figures[[a, b]]
    tpot, ttft, rate = (
        pair[:, names.index(name)] for name in ("tpot_mean_ms", "ttft_mean_ms", "output_tok_s")
    )
    concurrency, osl = cells.load[a]
    residence = np.nanmax(ttft + tpot * (osl - 1), initial=-np.inf) / 1000.0
    ratio = concurrency * osl / np.nanmax(rate, initial=-np.inf) / residence
    return not residence > 0 or not ratio > 0 or 0.97 <= ratio <= 1.09


def _confirm(rows: pd.DataFrame) -> None:
    """Raise the weight of a database median that a run of another source confirms within 5 %."""
    kept = rows["folded_into"] == ""
    median = kept & rows["source"].isin(MEDIANS)
    tpot = rows["tpot_p50_ms"].fillna(rows["tpot_mean_ms"])
    runs = tpot[kept & ~median].groupby(rows.loc[kept & ~median, "config_group"]).median()
    typical = rows.loc[median, "config_group"].map(runs).astype(float)
    confirmed = (np.log(tpot[median] / typical).abs() < CONFIRMED) | (rows.loc[median, "duplicates"] > 0)
    rows.loc[confirmed.index[confirmed], "weight"] = CONFIRMED_WEIGHT
