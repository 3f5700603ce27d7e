"""What is computed of the other sources: Argonne, ATOM, ML.ENERGY, LLM-Pilot, TensorRT-LLM, Qwen, Neuron."""

from __future__ import annotations

import pandas as pd

from ..rows.draft import note, reject


def layer_split_is_a_pipeline(rows: pd.DataFrame) -> None:
    """Lay out Argonne's rows.

    llama.cpp's "batch size" is the prompt micro-batch of one sequence (the collected concurrency is 1
    already) and its layer split over GPUs is a pipeline. Where tp x pp leaves GPUs over (expert-parallel and
    speculation studies) tp spans the rest: those rows' figures are the TP4 ones of the same model.
    """
    llama_cpp = rows["engine"] == "llamacpp"
    rows.loc[llama_cpp, "tp"] = 1
    rows.loc[llama_cpp, "pp"] = rows.loc[llama_cpp, "num_gpus"]
    short = rows["tp"] * rows["pp"].fillna(1) < rows["num_gpus"]
    rows.loc[short, "tp"] = (rows["num_gpus"] / rows["pp"].fillna(1))[short]


def naive_split_is_a_pipeline(rows: pd.DataFrame) -> None:
    """Hugging Face transformers over several GPUs is a naive layer split: a pipeline of depth num_gpus."""
    naive = rows["engine"] == "transformers"
    rows.loc[naive, "pp"] = rows.loc[naive, "num_gpus"]
    rows.loc[naive & rows["tp"].isna(), "tp"] = 1
    rows["tp"] = rows["tp"].fillna(rows["num_gpus"])


def attention_dp_in_dep(rows: pd.DataFrame) -> None:
    """Read DEP4: attention data parallel 4 with expert parallel 4 beside tp=1, times any pp."""
    attention = rows["notes"].str.contains("DEP") & (rows["tp"] == 1)
    rows.loc[attention, "tp"] = rows.loc[attention, "ep"]
    rows.loc[attention, "dp_means"] = "inside"
    rows.loc[attention & (rows["num_gpus"] == rows["tp"]), "pp"] = 1


def two_cores_a_chip(rows: pd.DataFrame) -> None:
    """Count tp in chips, not in NeuronCores."""
    rows["tp"] = rows["tp"] / 2


def spread_over_nights(rows: pd.DataFrame) -> None:
    """Let the weight fall with the throughput's spread over the nights (the row is the latest night)."""
    spread = rows["notes"].str.extract(r"throughput CV ([\d.]+)%")[0].astype(float).fillna(10.0)
    rows["weight"] = (0.9 - spread / 50.0).clip(0.4, 0.9)
    note(rows, spread > 8, "source", value="nights differ by more than 8 %")


def tpot_of_the_running_batch(rows: pd.DataFrame) -> None:
    """Take the mean TPOT from the running batch and the output throughput."""
    rows["tpot_mean_ms"] = 1000.0 * rows["concurrency"] / rows["output_tput"]


def failed_requests(rows: pd.DataFrame) -> None:
    """Reject runs in which more than a fifth of the requests failed."""
    served = rows["notes"].str.extract(r"(\d+) ok requests of (\d+)").astype(float)
    failed = served[0] < 0.8 * served[1]
    reject(rows, failed, "source", value="more than a fifth of the requests failed")


def sent_faster_than_served(rows: pd.DataFrame) -> None:
    """Short runs sent fast are bursts: the rate finished is below the rate sent; TTFT is mostly queueing."""
    overload = rows["request_rate"] > 1.1 * rows["req_tput"]
    rows.loc[overload, "weight"] = 0.5
    note(rows, overload, "source", value="sent faster than served")
