"""What is computed of MLPerf Inference results (datacenter LLM tasks, rounds v4.0 to v6.0)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..rows.draft import note

# Tasks that share their prompts: GPT-J and Llama 3.1 8B summarise CNN/DailyMail, the others answer OpenOrca.
SAME_PROMPTS = {"gpt-j-6b": "llama-3.1-8b", "llama-2-7b": "llama-2-70b", "llama-3.1-70b": "llama-2-70b"}


def replicas_and_attention_dp(rows: pd.DataFrame) -> None:
    """dp counts replicas; attention dp is noted, and spans tp."""
    attention = rows["notes"].str.contains("attention-dp on|adp=True")
    rows["replicas"] = rows["dp"].where(rows["tp"].notna())
    rows["dp"] = rows["tp"].where(attention, 1.0)
    rows["dp_means"] = "inside"
    for pool in ("prefill", "decode"):
        rows.loc[rows["disagg"] == 1, f"{pool}_dp"] = np.nan


def lengths_of_tasks(rows: pd.DataFrame) -> None:
    """Fill the mean lengths of the task."""
    for name in ("isl", "osl"):
        task = rows["model"] if name == "osl" else rows["model"].replace(SAME_PROMPTS)
        usual = rows.groupby("model")[name].median()
        guess = task.map(usual)
        filled = rows[name].isna() & guess.notna()
        rows.loc[filled, name] = guess[filled]
        note(rows, filled, "task-mean", column=name)


def precision_of_other_rounds(rows: pd.DataFrame) -> None:
    """Fill the usual precision of the same GPU and task, or GPU."""
    for keys in (["gpu", "model"], ["gpu"]):
        guess = _usual(rows, "weight_precision", keys, rows["weight_precision"] != "")
        found = (rows["weight_precision"] == "") & guess.notna()
        rows.loc[found, "weight_precision"] = guess[found]
        note(rows, found, "source", value="precision as in other rounds")


def parallelism_of_other_rounds(rows: pd.DataFrame) -> None:
    """Take tp and pp of the same GPU and task where they divide num_gpus; the rest stays unknown."""
    stated = rows["tp"].notna() & (rows["disagg"] != 1)
    tp = _usual(rows, "tp", ["gpu", "model"], stated)
    pp = _usual(rows.fillna({"pp": 1.0}), "pp", ["gpu", "model"], stated)
    missing = rows["tp"].isna() & (rows["disagg"] != 1)
    found = missing & (rows["num_gpus"] % (tp * pp) == 0)
    rows.loc[found, "tp"] = tp[found]
    rows.loc[found, "pp"] = pp[found]
    rows.loc[found, "dp"] = (rows["num_gpus"] / (tp * pp))[found]
    note(rows, found, "source", value="tp as in other rounds")


def _usual(rows: pd.DataFrame, column: str, keys: list[str], stated: pd.Series) -> pd.Series:
    """The most frequent stated value of the same keys, for every row; NaN where nobody states one."""
    counts = rows[stated].groupby([*keys, column]).size().reset_index(name="rows")
    best = counts.sort_values(["rows", column], ascending=[False, True]).drop_duplicates(keys)
    return rows[keys].merge(best, on=keys, how="left").set_axis(rows.index)[column]
