"""Rules for vendors' and engines' published tables: TensorRT-LLM, ROCm, SGLang, Qwen, Dynamo and others."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .raw import say


def trtllm_docs(rows: pd.DataFrame) -> None:
    """TensorRT-LLM's performance overview: mostly maximum throughput with all requests queued, fixed lengths.

    "DEP4" is attention data parallel 4 with expert parallel 4 beside tp=1, times pp where the row says so.
    gptSessionBenchmark rows are static batches; "first-token latency" rows are one prefill (osl 1). The
    Triton rows are open loop and their ITL is a mean, which is the mean TPOT.
    """
    dep = rows["notes"].str.contains("DEP")
    attention = dep & (rows["tp"] == 1)
    rows.loc[attention, "tp"] = rows.loc[attention, "ep"]
    rows.loc[attention, "dp_means"] = "inside"
    pipeline = attention & (rows["num_gpus"] == rows["tp"])
    rows.loc[pipeline, "pp"] = 1
    rows["weight"] = 0.8
    say(
        rows,
        rows["notes"].str.contains("CUDA graphs were unintentionally DISABLED"),
        weight=0.3,
        remark="no CUDA graphs",
    )
    say(rows, rows["notes"].str.contains("possibly withdrawn"), weight=0.4)
    say(rows, rows["notes"].str.contains("beta, not finalized"), weight=0.5)
    unlisted = rows["notes"].str.contains("values not listed per row") & rows["model"].str.contains(
        "deepseek|qwen3|gpt-oss|mixtral|maverick|scout"
    )
    say(rows, unlisted, remark="ep and attention dp not stated")
    rows.loc[unlisted, ["ep", "dp"]] = np.nan
    say(rows, rows["notes"].str.contains("ITL meaningless"), tpot_mean_ms=np.nan)
    burst = rows["notes"].str.contains("requests sent at once") & (rows["mode"] == "open-loop")
    say(rows, burst, mode="offline", request_rate=np.nan)


def rocm_docker(rows: pd.DataFrame) -> None:
    """vLLM's benchmark_latency (one static batch) and benchmark_throughput (max-num-seqs requests queued)."""
    rows["weight"] = 0.9
    rows.loc[rows["mode"] == "offline", "concurrency"] = np.nan


def sglang_cookbook(rows: pd.DataFrame) -> None:
    """SGLang's documents and cookbooks (bench_serving).

    "tpot p50 = median ITL" rows have a true mean TPOT, which is used. Where the configuration's GPU count was
    itself derived from Little's law the throughput is exact only to that rounding. The queue of the rows
    whose running batch is capped by the KV memory is in TTFT. Image prompts: tokens counted in isl.
    """
    rows["dp_means"] = "inside"
    rows.loc[rows["isl_osl_note"].str.contains("uniform"), "length_kind"] = "uniform"
    rows.loc[rows["isl_osl_note"].str.contains("sharegpt"), "length_kind"] = "dataset"
    rows.loc[rows["notes"].str.contains("tpot p50 = median ITL"), "tpot_p50_is"] = "itl"
    rows["weight"] = 0.8
    say(rows, rows["notes"].str.contains("only 1?[0-9] requests"), weight=0.6)
    derived = rows["notes"].str.contains("derived from the row|inferred from Little")
    say(rows, derived, weight=0.7, remark="GPU count derived from Little's law")
    image = rows["isl_osl_note"].str.contains("image") | rows["model_raw"].str.contains(
        r"\bVL\b|-VL-|Omni", case=False
    )
    say(rows, rows["isl_osl_note"].str.contains("image"), reject="image prompts: encoder work is not in isl")
    say(
        rows,
        image & ~rows["isl_osl_note"].str.contains("image"),
        remark="text-only use of a multimodal model",
    )


def qwen_speed(rows: pd.DataFrame) -> None:
    """Qwen's speed tables: batch 1, 2048 tokens generated; throughput over prefill and decode.

    Hugging Face transformers over several GPUs is a naive layer split: a pipeline of depth num_gpus. It is no
    serving engine (kept, with a low weight).
    """
    naive = rows["engine"] == "transformers"
    say(rows, naive, weight=0.3)
    rows.loc[naive, "pp"] = rows.loc[naive, "num_gpus"]
    rows.loc[naive & rows["tp"].isna(), "tp"] = 1
    unset = rows["tp"].isna()
    rows.loc[unset, "tp"] = rows.loc[unset, "num_gpus"]


def neuron(rows: pd.DataFrame) -> None:
    """AWS Neuron counts tp in NeuronCores, two per chip. Six rows of batch 1 disagree with themselves."""
    rows["tp"] = rows["tp"] / 2
    rows["weight"] = 0.6


def dynamo_presweep(rows: pd.DataFrame) -> None:
    """NVIDIA Dynamo's profiler: prefill one request at a time; decode batches over cached prompts.

    The decode rows' concurrency was set, their ITL is a mean. Their throughput is per GPU of a full node (off
    by 8/tp) and leaves prefill out: it is dropped, and so they are static batches with every prompt cached.
    """
    decode = rows["osl"] > 1
    rows["mode"] = "static-batch"
    say(rows, decode, output_tput=np.nan, prefix_cached_frac=1.0, remark="decode only, prompts cached")
    say(rows, ~decode, total_tput=np.nan)
    rows["weight"] = 0.6


def dynamo_recipes(rows: pd.DataFrame) -> None:
    """Dynamo's recipes: agentic traces; only median lengths are known, and 90 % of the prompt is cached.

    Throughput from a mean OSL of about 2300 beside a median of 400: nothing of this is a steady state that
    (isl, osl) describe.
    """
    rows.loc[rows["notes"].str.contains("replicas|agg 8x TP1"), "dp_means"] = "replicas"
    say(
        rows,
        rows["isl_osl_note"].str.contains("MEDIANS"),
        reject="lengths are medians of a heavy-tailed agentic trace",
    )


def vllm_documents(rows: pd.DataFrame) -> None:
    """vLLM's blog and recipes: chart labels and pasted bench output.

    One-sided rows (decode or prefill GPUs only of a disaggregated system) have no whole-system throughput.
    """
    rows["weight"] = 0.6
    sided = rows["notes"].str.contains("decode-side only|prefill side only|decode side only", case=False)
    say(rows, sided, reject="one side of a disaggregated system only")
    say(rows, rows["notes"].str.contains("unreliable|compilation"), reject="warm-up in the measurement")
    say(
        rows,
        rows["notes"].str.contains("chart calls this"),
        reject="unclear whether output or total throughput",
    )
    rows.loc[rows["notes"].str.contains("tpot p50 = median ITL"), "tpot_p50_is"] = "itl"
    prefill = (rows["osl"] <= 1) & (rows["concurrency"] > 1)
    say(rows, prefill, remark="prefill only, requests queue")


def lmdeploy(rows: pd.DataFrame) -> None:
    """LMDeploy's tables: static inference with per-token latency percentiles (ITL); ShareGPT throughput."""
    rows.loc[rows["isl_osl_note"].str.contains("ShareGPT"), "length_kind"] = "dataset"
    rows["tpot_p50_is"] = "itl"
    rows["tpot_p99_ms"] = np.nan
    rows.loc[(rows["mode"] == "closed-loop"), "mode"] = "static-batch"
    rows["weight"] = 0.5


def phase_only(rows: pd.DataFrame) -> None:
    """LMSYS large-scale EP posts: throughput of the prefill or the decode pool alone."""
    say(rows, rows["notes"].str.contains("PHASE ONLY"), reject="one side of a disaggregated system only")


def documents(rows: pd.DataFrame) -> None:
    """Vendors' tables with nothing to align: figures typed from pages, settings in part unstated."""
    rows["weight"] = 0.6
    rows.loc[rows["isl_osl_note"].str.contains("dataset default"), "length_kind"] = "dataset"


def trtllm_blog(rows: pd.DataFrame) -> None:
    """TensorRT-LLM's blog: batch-1 optimisation ladders (MTP steps) and launch figures called preliminary."""
    rows["dp_means"] = "inside"
    rows["weight"] = 0.5
