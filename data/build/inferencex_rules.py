"""What is computed of InferenceX's files, of runs with its client, and of aiconfigurator's list of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..rows.draft import note, reject

NOMINAL = r"nominal; InferenceX client|nominal; lengths drawn uniform"
# The dump's config_id counts configurations in order of first run; days on which dated sources ran some.
_FIRST_RUN = {
    1: "2025-09-29", 50: "2025-10-29", 150: "2025-11-18", 250: "2025-12-15", 350: "2026-01-29",
    450: "2026-02-06", 550: "2026-02-12", 650: "2026-03-15", 750: "2026-04-17", 850: "2026-04-21",
    1250: "2026-05-20", 1350: "2026-06-11", 2060: "2026-07-18",
}  # fmt: skip
_LAST_RUN = "2026-07-18"
# The sample gives no dates for NVIDIA's own runs; the month in which the engine version came out stands in.
_RELEASED = {
    "1.0.0rc3": "2025-07", "0.5.1.post1": "2025-08", "0.12.0": "2025-12", "0.5.6.post2": "2025-12",
    "1.2.0rc6.post1": "2025-12", "0.5.8.post1": "2026-02", "0.5.9": "2026-02", "1.3.0rc1": "2026-01",
    "1.3.0rc5": "2026-02",
}  # fmt: skip
_UNKNOWN_RELEASE = "2025-12"
STALL, STANDSTILL_MS = 4.0, 1000.0  # mean over median TTFT, opening bursts reach 3; and above it


def client_lengths(rows: pd.DataFrame) -> None:
    """The InferenceX client draws each length uniformly from 0.8 to 1.0 of the nominal one: the mean is 0.9.

    Where a source reports the lengths it measured they are such means already (922 and 929 for 1024).
    """
    rows.loc[rows["isl_osl_note"].str.contains(NOMINAL), "length_scale"] = 0.9
    rows["length_kind"] = "uniform"


def run_numbers(rows: pd.DataFrame) -> None:
    """Read the run's number on GitHub."""
    rows["run_id"] = rows["notes"].str.extract(r"actions/runs/(\d+)")[0].fillna("")


def dates_of_configurations(rows: pd.DataFrame) -> None:
    """Date by config_id: the interpolated day of the first run, plus 30: most runs follow the first."""
    number = rows["notes"].str.extract(r"config_id=(\d+)")[0].astype(float)
    days = np.array(list(_FIRST_RUN.values()), dtype="datetime64[D]").astype(float)
    first = np.interp(number, list(_FIRST_RUN), days)
    last = np.datetime64(_LAST_RUN).astype(float)
    rows["date"] = np.minimum(first + 30.0, last).astype(int).astype("datetime64[D]").astype(str)


def concurrency_of_another_point(rows: pd.DataFrame) -> None:
    """Reject rows that repeat another concurrency's throughput and TPOT, by Little's law of decode alone."""
    output = rows["total_tput"] * rows["osl"] / (rows["isl"] + rows["osl"])
    decode = rows["tpot_p50_ms"] * rows["osl"] / 1000.0
    stuck = rows["concurrency"] * rows["osl"] / output > 1.5 * decode
    reject(rows, stuck, "little", column="concurrency")


def medians_are_means(rows: pd.DataFrame) -> None:
    """aiconfigurator's "ttft" and "tpot" are means, although collected as p50.

    472 of its rows equal the MEAN TTFT and MEAN TPOT of the same InferenceX run to four digits; none equals
    the medians. (With the client's opening burst the mean TTFT is up to ten times the median.)
    """
    for name in ("ttft", "tpot"):
        rows[f"{name}_mean_ms"] = rows[f"{name}_p50_ms"]
        rows[f"{name}_p50_ms"] = np.nan


def squared_widths(rows: pd.DataFrame) -> None:
    """Undo tp (or dp) multiplied by ep once more, and read the early disaggregated rows.

    The sample's tp excludes attention dp. In part of its MoE rows tp was multiplied (16 for TP4 EP4, 64 for
    TP8 EP8; 4 x 4 with ep 16): the name in source_ref, the same runs in InferenceX's files and the row counts
    per layout in its database dump all say the root is meant. GB200 rows that call themselves aggregated with
    tp above 8 are InferenceX's early disaggregated rows, whose tp is the total number of GPUs.
    """
    width = rows["tp"] * rows["dp"].fillna(1)
    together = rows["disagg"] == 0
    doubled = (rows["ep"] > 1) & (width == rows["ep"] ** 2)
    both = (rows["tp"] > 1) & (rows["tp"] == rows["dp"]) & (rows["ep"] == width)
    squared = together & (doubled | both)
    root = width**0.5
    attention_dp = rows["dp"] > rows["tp"]
    for name in ("ep", "num_gpus", "tp"):
        rows.loc[squared, name] = root[squared]
    rows.loc[squared, "dp"] = root.where(attention_dp, 1.0)[squared]
    rows["dp_means"] = np.where(squared, "inside", "outside")
    total = together & ~squared & (rows["tp"] > 8)
    rows.loc[total, "num_gpus"] = rows.loc[total, "tp"]
    rows.loc[total, "disagg"] = 1
    rows.loc[total, ["tp", "ep", "dp"]] = np.nan


def unstated_attention_dp(rows: pd.DataFrame) -> None:
    """moe_tp x ep above tp (17 rows of a model too large for tp GPUs) is attention dp that dp leaves out."""
    moe_width = rows["notes"].str.extract(r"moe_tp=([\d.]+)")[0].astype(float) * rows["ep"]
    hidden = (rows["disagg"] == 0) & (moe_width > rows["tp"] * rows["dp"].fillna(1))
    rows.loc[hidden, "dp"] = (moe_width / rows["tp"])[hidden]
    rows.loc[hidden, "num_gpus"] = moe_width[hidden]


def dates_of_releases(rows: pd.DataFrame) -> None:
    """Date what has no date by the month of release of the engine's version."""
    released = rows["engine_version"].map(_RELEASED).fillna(_UNKNOWN_RELEASE)
    rows["date"] = rows["date"].where(rows["date"] != "", released)


def drop_standstills(rows: pd.DataFrame) -> None:
    """Drop what a standstill spoilt: the mean TTFT and the throughput of a run whose server stopped once.

    The InferenceX client counts its first requests in, and a server that compiles kernels for them stops for
    a minute: the tenth of the requests that wait move the mean TTFT from tenths of a second to seconds and
    take a third of the throughput. The median TTFT and the time per token are of the others, and stay. Of
    the same week's runs without pools that report the mean alone, those with such a mean stood still too.
    """
    client = rows["source_family"].str.startswith("inferencex") & (rows["mode"] == "closed-loop")
    median, mean = rows["ttft_p50_ms"], rows["ttft_mean_ms"]
    stood = client & (mean > STALL * median) & (mean - median > STANDSTILL_MS)
    week = pd.to_datetime(rows["date"], errors="coerce", format="ISO8601").dt.to_period("W").astype(str)
    group = rows[["gpu", "model", "engine", "weight_precision"]].agg("|".join, axis=1) + "|" + week
    usual = median.fillna(group.map(median[stood].groupby(group[stood]).max()))
    mean_only = client & (rows["disagg"] != 1) & median.isna() & (mean - usual > STANDSTILL_MS)
    spoilt = stood | mean_only
    unharmed = mean - usual < 0.05 * rows["tpot_ms"] * (rows["osl"] - 1)
    rows.loc[spoilt, "ttft_mean_ms"] = np.nan
    rows.loc[spoilt & ~unharmed, ["output_tok_s", "total_tok_s", "request_s"]] = np.nan
    note(rows, spoilt, "source", value="stood still once: mean TTFT (and throughput) dropped")
