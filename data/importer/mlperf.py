"""Rules for MLPerf Inference results (datacenter LLM tasks, rounds v4.0 to v6.0)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .raw import say

# Tasks that share their prompts: GPT-J and Llama 3.1 8B summarise CNN/DailyMail, the others answer OpenOrca.
SAME_PROMPTS = {"gpt-j-6b": "llama-3.1-8b", "llama-2-7b": "llama-2-70b", "llama-3.1-70b": "llama-2-70b"}


def results(rows: pd.DataFrame) -> None:
    """Server and offline scenarios, tuned by the submitter to a latency limit; lengths of a data set.

    dp counts replicas; attention dp (DeepSeek-R1) is in the notes and spans tp. Max batch and client
    concurrency in the notes are settings, not requests in flight: the number in flight is unknown in both
    scenarios (server: Little's law gives it). TTFT and TPOT percentiles come from the load generator. What
    round v5.0's export leaves out is taken from the other rounds, where it hardly varies: mean lengths by
    task, precision and parallelism by GPU and task. Where no engine is named it is NVIDIA's TensorRT-LLM
    code, which every other NVIDIA submission of that round runs, or PyTorch where the system's name says
    "reference".
    """
    rows["length_kind"] = "dataset"
    rows["weight"] = 0.8
    say(rows, rows["notes"].str.contains("open division"), weight=0.5, remark="open division")
    _lengths(rows)
    reference = rows["platform_raw"].str.contains("reference-gpu-pytorch")
    say(rows, (rows["engine"] == "") & reference, engine="transformers")
    say(rows, rows["engine"] == "", engine="trtllm", remark="engine assumed")
    _precision(rows)
    _parallelism(rows)
    rows.loc[rows["mode"] == "offline", ["ttft_mean_ms", "ttft_p50_ms", "tpot_mean_ms", "tpot_p50_ms"]] = (
        np.nan
    )
    _attention_dp(rows)
    _disaggregated(rows)


def _attention_dp(rows: pd.DataFrame) -> None:
    attention = rows["notes"].str.contains("attention-dp on|adp=True")
    rows["replicas"] = rows["dp"].where(rows["tp"].notna())
    rows["dp"] = rows["tp"].where(attention, 1.0)
    rows["dp_means"] = "inside"
    for pool in ("prefill", "decode"):
        rows.loc[rows["disagg"] == 1, f"{pool}_dp"] = np.nan


def _lengths(rows: pd.DataFrame) -> None:
    for name in ("isl", "osl"):
        task = rows["model"] if name == "osl" else rows["model"].replace(SAME_PROMPTS)
        usual = rows.groupby("model")[name].median()
        guess = task.map(usual)
        filled = rows[name].isna() & guess.notna()
        rows.loc[filled, name] = guess[filled]
        say(rows, filled, remark=f"{name}: mean of the task")


def _precision(rows: pd.DataFrame) -> None:
    for keys in (["gpu", "model"], ["gpu"]):
        guess = _usual(rows, "weight_precision", keys, rows["weight_precision"] != "")
        found = (rows["weight_precision"] == "") & guess.notna()
        rows.loc[found, "weight_precision"] = guess[found]
        say(rows, found, remark="precision as in other rounds")


def _parallelism(rows: pd.DataFrame) -> None:
    """Take tp and pp of the same GPU and task where they divide num_gpus; the rest stays unknown."""
    stated = rows["tp"].notna() & (rows["disagg"] != 1)
    tp = _usual(rows, "tp", ["gpu", "model"], stated)
    pp = _usual(rows.fillna({"pp": 1.0}), "pp", ["gpu", "model"], stated)
    missing = rows["tp"].isna() & (rows["disagg"] != 1)
    found = missing & (rows["num_gpus"] % (tp * pp) == 0)
    rows.loc[found, "tp"] = tp[found]
    rows.loc[found, "pp"] = pp[found]
    rows.loc[found, "dp"] = (rows["num_gpus"] / (tp * pp))[found]
    say(rows, found, remark="tp as in other rounds")


def _usual(rows: pd.DataFrame, column: str, keys: list[str], stated: pd.Series) -> pd.Series:
    """The most frequent stated value of the same keys, for every row; NaN where nobody states one."""
    counts = rows[stated].groupby([*keys, column]).size().reset_index(name="rows")
    best = counts.sort_values(["rows", column], ascending=[False, True]).drop_duplicates(keys)
    return rows[keys].merge(best, on=keys, how="left").set_axis(rows.index)[column]


def _disaggregated(rows: pd.DataFrame) -> None:
    """Read "14 prefill servers x tp4 + 2 decode servers x tp8" and "prefill 2x(tp4,...), decode 4x(tp16"."""
    for pattern in (
        r"(\d+) prefill servers x tp(\d+) \+ (\d+) decode servers x tp(\d+)",
        r"prefill (\d+)x\(tp(\d+).*?decode (\d+)x\(tp(\d+)",
    ):
        found = rows["notes"].str.extract(pattern).astype(float)
        has = found[0].notna()
        for place, name in enumerate(("prefill_workers", "prefill_tp", "decode_workers", "decode_tp")):
            rows.loc[has, name] = found.loc[has, place]
        rows.loc[has, "disagg"] = 1
        rows.loc[has, "tp"] = found.loc[has, 3]
