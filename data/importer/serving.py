"""Rules for results that people committed as JSON, logs or issue comments."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .raw import say


def anyscale(rows: pd.DataFrame) -> None:
    """Ray Serve runs: dp counts replicas; "XpYd" rows are prefill and decode replicas of the same width.

    "baseline" and "mixed" rows of open loop keep the rate; capped rows are closed loop.
    """
    rows["dp_means"] = "replicas"
    split = rows["disagg"] == 1
    for pool in ("prefill", "decode"):
        rows.loc[split, f"{pool}_tp"] = rows.loc[split, "tp"]
        rows.loc[split, f"{pool}_workers"] = rows[f"{pool}_gpus"][split] / rows["tp"][split]
    rows.loc[split, "dp_means"] = "inside"
    named = rows["notes"].str.extract(r"prefill TP(\d+) \+ \d+ decode TP(\d+)").astype(float)
    for place, pool in enumerate(("prefill", "decode")):
        has = split & named[place].notna()
        rows.loc[has, f"{pool}_tp"] = named.loc[has, place]
        rows.loc[has, f"{pool}_workers"] = (rows[f"{pool}_gpus"] / named[place])[has]


def gpustack(rows: pd.DataFrame) -> None:
    """gpustack's performance lab (bench_serving and guidellm).

    guidellm's own TPOT includes TTFT; the collected tpot is its ITL, whose mean is the mean TPOT. "offline"
    rows send all prompts at once: the number of prompts is no steady concurrency, and TTFT is mostly the
    drain of the queue. Closed-loop rows whose run is one wave of requests do not close Little's law to better
    than 1.3.
    """
    rows["dp_means"] = "inside"
    guide = rows["notes"].str.contains("guidellm")
    rows.loc[guide, "tpot_p50_is"] = "itl"
    rows.loc[guide, "tpot_p99_ms"] = np.nan
    natural = rows["notes"].str.contains("ShareGPT", case=False)
    rows.loc[natural, "length_kind"] = "dataset"
    rows["weight"] = 0.7
    say(rows, rows["mode"] == "offline", remark="burst of n requests")


def replicas_behind_a_proxy(rows: pd.DataFrame) -> None:
    """cloudrift and others: dp counts whole instances behind a load balancer."""
    rows["dp_means"] = "replicas"
    rows["weight"] = 0.7


def issues(rows: pd.DataFrame) -> None:
    """Figures from GitHub issues: bot-made tables are kept, unofficial or truncated ones weigh less."""
    rows["weight"] = 0.5
    nominal = rows["isl_osl_note"].str.contains("InferenceX client")
    rows.loc[nominal, "length_scale"] = 0.9
    rows.loc[nominal, "length_kind"] = "uniform"
    say(rows, rows["notes"].str.contains("thermally throttled"), reject="thermally throttled node")
    say(
        rows,
        (rows["disagg"] == 1) & rows["prefill_gpus"].isna(),
        reject="split of prefill and decode GPUs unknown",
    )
    say(rows, rows["engine"] == "", reject="engine unknown")


def azure(rows: pd.DataFrame) -> None:
    """Azure's guide: offline maximum of 1000 requests; GB300 MLPerf-style runs with one replica per GPU."""
    rows["dp_means"] = "replicas"
    task = rows["isl"].isna() & (rows["model"] == "llama-2-70b")
    rows.loc[task, "isl"] = 294.0
    rows.loc[task, "length_kind"] = "dataset"
    rows["weight"] = 0.7
