"""Rules for academic and community measurements: Argonne, ATOM, ML.ENERGY, LLM-Pilot and others."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .raw import say


def argonne(rows: pd.DataFrame) -> None:
    """Argonne LLM-Inference-Bench: one static batch, (input + output) tokens over its latency.

    llama.cpp's "batch size" is the prompt micro-batch of one sequence (the collected concurrency is 1
    already) and its layer split over GPUs is a pipeline. Batches beyond the KV memory run in turns: the
    latency then includes a queue. Where tp x pp leaves GPUs over (expert-parallel and speculation studies) tp
    spans the rest: those rows' figures are the TP4 ones of the same model. Rows of 4096 tokens in all for
    models that stop at 2048 or 4096 are a thousand times too fast (no output): the physical ceiling throws
    them out.
    """
    llama_cpp = rows["engine"] == "llamacpp"
    rows.loc[llama_cpp, "tp"] = 1
    rows.loc[llama_cpp, "pp"] = rows.loc[llama_cpp, "num_gpus"]
    short = rows["tp"] * rows["pp"].fillna(1) < rows["num_gpus"]
    rows.loc[short, "tp"] = (rows["num_gpus"] / rows["pp"].fillna(1))[short]
    rows["weight"] = 0.7
    say(rows, llama_cpp, weight=0.4)
    one = llama_cpp & rows["notes"].str.contains(r"-b 1:")
    say(rows, one, reject="prompt fed token by token (llama.cpp n_batch 1)")
    say(rows, rows["concurrency"] > 1, remark="static batch; beyond the KV memory it queues")


def atom_ci(rows: pd.DataFrame) -> None:
    """ROCm ATOM's nightly CI: lengths uniform from 0.8 to 1.0 of nominal, so the mean is 0.9.

    Weight falls with the throughput's spread over the nights (the row is the latest night). "-PD-" rows with
    one run and a Little's-law ratio of 18 are broken runs. DSpark and TBO are scheduler options. "DPA" is
    attention dp.
    """
    rows["length_scale"] = 0.9
    rows["length_kind"] = "uniform"
    rows["dp_means"] = "inside"
    spread = rows["notes"].str.extract(r"throughput CV ([\d.]+)%")[0].astype(float).fillna(10.0)
    rows["weight"] = (0.9 - spread / 50.0).clip(0.4, 0.9)
    say(rows, spread > 8, remark="nights differ by more than 8 %")
    say(rows, rows["isl"] == 0, reject="lengths are zero in the source")
    bare = (rows["weight_precision"] == "") & (rows["model"] == "qwen3.5-397b-a17b")
    say(rows, bare, reject="precision not stated; faster than fp8 and on the floor of bf16")


def ml_energy(rows: pd.DataFrame) -> None:
    """ML.ENERGY v3: a server kept saturated; concurrency is the mean RUNNING batch, so there is no queue.

    Published latency is the median ITL, which leaves out the steps that a prefill stalls (up to 16 times
    below the mean). Running batch / output throughput is the mean time per output token of a running request
    by Little's law, so that is taken as the mean TPOT. Input lengths are unpublished: small in chat and GPQA,
    but dominant in code completion, whose rows say too little.
    """
    mean = 1000.0 * rows["concurrency"] / rows["output_tput"]
    rows["tpot_mean_ms"] = mean
    for name in ("tpot_p50_ms", "tpot_p90_ms", "tpot_p99_ms"):
        rows[name] = np.nan
    rows["length_kind"] = "dataset"
    rows["weight"] = 0.6
    say(rows, rows["weight"] > 0, remark="TPOT = running batch / throughput")
    fill_in = rows["notes"].str.contains("task sourcegraph-fim")
    say(rows, fill_in, reject="input length unknown and dominant (code completion)")


def ml_energy_multimodal(rows: pd.DataFrame) -> None:
    """Image and video prompts whose tokens are counted nowhere."""
    say(rows, rows["isl"].isna(), reject="image/video tokens not counted in isl")


def llm_pilot(rows: pd.DataFrame) -> None:
    """IBM LLM-Pilot (TGIS, 2023): pooled inter-token latencies over requests of a few tokens each.

    Its median ITL leaves prefill stalls out and Little's law fails with it; the pooled mean is the
    token-weighted mean TPOT and closes it to 1 %: that one is used. Most outputs are one to 20 tokens long,
    so a tail of rows
    (mean osl below 4, or mostly failed requests) says nothing about decoding.
    """
    rows["length_kind"] = "dataset"
    rows["tpot_p50_is"] = "itl"
    for name in ("tpot_p90_ms", "tpot_p99_ms"):
        rows[name] = np.nan
    served = rows["notes"].str.extract(r"(\d+) ok requests of (\d+)").astype(float)
    say(rows, served[0] < 0.8 * served[1], reject="more than a fifth of the requests failed")
    rows["weight"] = 0.4


def accelmark(rows: pd.DataFrame) -> None:
    """AccelMark offline suites: n requests at once through the engine's own queue; n is no concurrency limit.

    tp=1 with several GPUs: independent copies (the throughput per GPU is that of the single GPU).
    """
    rows["length_kind"] = "dataset"
    rows["concurrency"] = np.nan
    rows["weight"] = 0.6


def shared_requests(rows: pd.DataFrame) -> None:
    """Open-loop runs, most with ShareGPT-like or shared-prefix prompts (llm-d, io.net, dstack, simon-mo).

    Short runs sent fast are bursts: the rate finished is below the rate sent and TTFT is mostly queueing. The
    share of cached prefix is unknown where prefix caching was on.
    """
    natural = rows["isl_osl_note"].str.contains("ShareGPT|sharegpt|LMBench|shared_prefix|shared-prefix")
    rows.loc[natural, "length_kind"] = "dataset"
    rows["weight"] = 0.7
    unknown = (rows["mode"] == "open-loop") & rows["request_rate"].isna()
    say(rows, unknown, reject="open loop of unknown request rate")
    overload = rows["request_rate"] > 1.1 * rows["req_tput"]
    say(rows, overload, weight=0.5, remark="sent faster than served")
    cached = rows["notes"].str.contains("prefix caching (?:ON|on)|LMBench|prefix caching at engine default")
    say(rows, cached & rows["prefix_cached_frac"].isna(), weight=0.4, remark="prefix hits unknown")


def client_runs(rows: pd.DataFrame) -> None:
    """Closed-loop runs of ordinary clients; `offline` ones send all prompts at once."""
    rows.loc[rows["isl_osl_note"].str.contains("ShareGPT|shared-prefix|sharegpt"), "length_kind"] = "dataset"
    rows["weight"] = 0.8


def splitwise(rows: pd.DataFrame) -> None:
    """Splitwise's static batches (vLLM 2023, medians of repeats); power-capped rows are another machine."""
    rows["weight"] = 0.7
    say(rows, rows["notes"].str.contains("power-capped"), reject="power-capped GPU, cap unknown")


def lambda_vllm(rows: pd.DataFrame) -> None:
    """Lambda's ShareGPT tables: neither isl nor osl; 320 prompts at once."""
    rows["length_kind"] = "dataset"
    rows["weight"] = 0.4
    rows["tpot_mean_is"] = "itl"
    say(rows, rows["osl"].isna(), reject="lengths unknown")
