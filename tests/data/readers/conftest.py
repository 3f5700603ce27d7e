"""One run as every tool would report it, built from the tools' documented formats.

The run: llama-3.1-8b in bf16 on one H100 under vLLM, 8 requests in flight, 1024 tokens in and 256 out. Mean
TTFT 60 ms and TPOT 9 ms keep a request 60 + 255 x 9 = 2355 ms, so that 8 / 2.355 = 3.397 requests/s come out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from roofcast.data.readers.ingest import IngestReport, ingest
from roofcast.data.store import BenchmarkStore

TakeIn = Callable[..., IngestReport]

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TTFT = {"mean": 60.0, "p50": 58.0, "p90": 70.0, "p95": 75.0, "p99": 90.0}
TPOT = {"mean": 9.0, "p50": 8.9, "p90": 9.5, "p95": 9.7, "p99": 10.0}
E2E = {"mean": 2355.0, "p50": 2330.0, "p90": 2450.0, "p95": 2500.0, "p99": 2600.0}
REQUESTS_S = 8 / 2.355
OUTPUT_TOK_S = 256 * REQUESTS_S
TOTAL_TOK_S = 1280 * REQUESTS_S


def _flat(end: str, values: dict[str, float], scale: float = 1.0) -> dict[str, float]:
    named = {"median" if name == "p50" else name: value for name, value in values.items()}
    return {f"{name}_{end}": value * scale for name, value in named.items()}


def vllm(**changes: Any) -> dict[str, Any]:
    """A result of `vllm bench serve --save-result`."""
    return {
        "date": "20260701-101500", "endpoint_type": "openai", "backend": "openai", "label": None,
        "model_id": MODEL, "tokenizer_id": MODEL, "num_prompts": 80, "request_rate": "inf", "burstiness": 1.0,
        "max_concurrency": 8, "duration": 23.55, "completed": 80, "failed": 0,
        "total_input_tokens": 80 * 1024, "total_output_tokens": 80 * 256,
        "request_throughput": REQUESTS_S, "request_goodput": None, "output_throughput": OUTPUT_TOK_S,
        "total_token_throughput": TOTAL_TOK_S,
        **_flat("ttft_ms", TTFT), **_flat("tpot_ms", TPOT), **_flat("itl_ms", TPOT),
        **changes,
    }  # fmt: skip


def sglang(**changes: Any) -> dict[str, Any]:
    """A line of `sglang.bench_serving`."""
    return {
        "backend": "sglang", "dataset_name": "random", "request_rate": float("inf"), "max_concurrency": 8,
        "sharegpt_output_len": None, "random_input_len": 1024, "random_output_len": 256,
        "random_range_ratio": 1.0, "duration": 23.55, "completed": 80, "total_input_tokens": 80 * 1024,
        "total_output_tokens": 80 * 256, "total_output_tokens_retokenized": 80 * 255,
        "request_throughput": REQUESTS_S, "input_throughput": 1024 * REQUESTS_S,
        "output_throughput": OUTPUT_TOK_S,
        **_flat("e2e_latency_ms", E2E), **_flat("ttft_ms", TTFT), **_flat("tpot_ms", TPOT),
        **_flat("itl_ms", TPOT), "concurrency": 7.9, "accept_length": None,
        "server_info": {
            "model_path": MODEL, "tp_size": 1, "pp_size": 1, "dp_size": 1, "ep_size": 1, "quantization": None,
            "enable_dp_attention": False, "kv_cache_dtype": "auto", "disaggregation_mode": "null",
            "speculative_algorithm": None, "version": "0.5.23", "internal_states": [{}],
        },
        **changes,
    }  # fmt: skip


def _metric(unit: str, values: dict[str, float], scale: float = 1.0) -> dict[str, Any]:
    named = {"avg" if name == "mean" else name: value * scale for name, value in values.items()}
    return {"unit": unit, **named}


def aiperf(unit: str = "ms", scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A profile_export_aiperf.json."""
    return {
        "schema_version": "1.4", "aiperf_version": "0.13.0",
        "request_throughput": {"unit": "requests/sec", "avg": REQUESTS_S},
        "request_latency": _metric(unit, E2E, scale), "time_to_first_token": _metric(unit, TTFT, scale),
        "inter_token_latency": _metric(unit, TPOT, scale),
        "request_count": {"unit": "requests", "avg": 80.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": OUTPUT_TOK_S},
        "output_sequence_length": {"unit": "tokens", "avg": 256.0},
        "input_sequence_length": {"unit": "tokens", "avg": 1024.0},
        "input_config": {
            "models": {"items": [{"name": MODEL}]},
            "phases": [{"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": 8}],
        },
        "telemetry_data": {"endpoints": {"a": {"gpus": {"0": {"gpu_name": "NVIDIA H100 80GB HBM3"}}}}},
        "was_cancelled": False, "is_complete": True, "start_time": "2026-07-01T10:15:00.123",
        **changes,
    }  # fmt: skip


def aiperf_csv() -> str:
    """The CSV beside a profile_export_aiperf.json."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["Metric", "avg", "p50", "p90", "p95", "p99"])
    for name, values in (("Request Latency (ms)", E2E), ("Time to First Token (ms)", TTFT)):
        table.writerow([name, *(f"{value:,.2f}" for value in values.values())])
    table.writerow(["Inter Token Latency (ms)", *TPOT.values()])
    table.writerow(["Input Sequence Length (tokens)", "1,024.00", *[1024] * 4])
    table.writerow(["Output Sequence Length (tokens)", *[256] * 5])
    table.writerow([])
    table.writerow(["Metric", "Value"])
    table.writerow(["Output Token Throughput (tokens/sec)", f"{OUTPUT_TOK_S:.2f}"])
    table.writerow(["Request Throughput (requests/sec)", f"{REQUESTS_S:.2f}"])
    return out.getvalue()


def _spread(values: dict[str, float], scale: float = 1.0) -> dict[str, Any]:
    scaled = {name: value * scale for name, value in values.items()}
    return {"successful": {"mean": scaled["mean"], "median": scaled["p50"], "percentiles": scaled}}


def guidellm(strategy: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A report of guidellm with one benchmark."""
    per_token = {name: E2E[name] / 256 for name in E2E}
    config = {"strategy": strategy or {"type_": "concurrent", "streams": 8}, "backend": {"model": MODEL}}
    return {
        "metadata": {"version": 2, "guidellm_version": "0.8.1"},
        "benchmarks": [
            {
                "config": config, "start_time": 1782900900.5,
                "metrics": {
                    "request_totals": {"successful": 80, "errored": 0, "incomplete": 0, "total": 80},
                    "requests_per_second": _spread(dict.fromkeys(TTFT, REQUESTS_S)),
                    "output_tokens_per_second": _spread(dict.fromkeys(TTFT, OUTPUT_TOK_S)),
                    "prompt_token_count": _spread(dict.fromkeys(TTFT, 1024.0)),
                    "output_token_count": _spread(dict.fromkeys(TTFT, 256.0)),
                    "time_to_first_token_ms": _spread(TTFT), "inter_token_latency_ms": _spread(TPOT),
                    "time_per_output_token_ms": _spread(per_token), "request_latency": _spread(E2E, 1e-3),
                },
                **changes,
            }
        ],
    }  # fmt: skip


def trtllm(**changes: Any) -> dict[str, Any]:
    """A report of trtllm-bench --report_json --streaming."""
    percentiles = {"minimum": 1.0, "maximum": 9e3}
    return {
        "engine": {"model": MODEL, "version": "1.2.0", "backend": "Pytorch", "dtype": "bfloat16",
                   "kv_cache_dtype": None, "quantization": None},
        "machine": {"name": "NVIDIA H100 80GB HBM3", "memory.total": 79.19, "clocks.mem": 2.619},
        "world_info": {"tp_size": 1, "pp_size": 1, "ep_size": None, "world_size": 1, "issue_rate": 1e6},
        "request_info": {"num_requests": 80, "avg_num_concurrent_requests": 8.0, "avg_input_length": 1024.0,
                         "avg_output_length": 256.0},
        "performance": {
            "request_throughput_req_s": REQUESTS_S, "system_output_throughput_tok_s": OUTPUT_TOK_S,
            "system_total_throughput_tok_s": TOTAL_TOK_S, "avg_request_latency_ms": E2E["mean"],
            "request_latency_percentiles_ms": {**E2E, **percentiles},
        },
        "streaming_metrics": {
            "avg_ttft_ms": TTFT["mean"], "avg_tpot_ms": TPOT["mean"],
            "ttft_percentiles": {**TTFT, **percentiles}, "tpot_percentiles": {**TPOT, **percentiles},
        },
        **changes,
    }  # fmt: skip


def trtllm_log(prefix: str = "[07/01/2026-10:15:00] [TRT-LLM] [I] ") -> str:
    """What trtllm-bench prints, behind the logger's prefix."""
    bar = "=" * 59
    ttft = "\n".join(f"[TTFT] {name.upper():<7}: {value:.4f}" for name, value in TTFT.items())
    tpot = "\n".join(f"[TPOT] {name.upper():<7}: {value:.4f}" for name, value in TPOT.items())
    latency = "\n".join(f"[Latency] {name.upper():<7}: {value:.4f}" for name, value in E2E.items())
    return f"""{prefix}Starting benchmark
{prefix}

{bar}
= PYTORCH BACKEND
{bar}
Model:\t\t\t{MODEL}
TensorRT LLM Version:\t1.2.0
Dtype:\t\t\tbfloat16
KV Cache Dtype:\t\tNone
Quantization:\t\tNone

{bar}
= MACHINE DETAILS
{bar}
NVIDIA H100 80GB HBM3, memory 79.19 GB, 2.62 GHz

{bar}
= WORLD + RUNTIME INFORMATION
{bar}
TP Size:                1
PP Size:                1
EP Size:                None

{bar}
= REQUEST DETAILS
{bar}
Number of requests:             80
Number of concurrent requests:  8.0000
Average Input Length (tokens):  1024.0000
Average Output Length (tokens): 256.0000
{bar}
= PERFORMANCE OVERVIEW
{bar}
Request Throughput (req/sec):                     {REQUESTS_S:.4f}
Total Output Throughput (tokens/sec):             {OUTPUT_TOK_S:.4f}
Total Token Throughput (tokens/sec):              {TOTAL_TOK_S:.4f}
Average request latency (ms):                     {E2E["mean"]:.4f}
Average time-to-first-token [TTFT] (ms):          {TTFT["mean"]:.4f}
Average time-per-output-token [TPOT] (ms):        {TPOT["mean"]:.4f}

{tpot}
{ttft}
{latency}
"""


def inferencex(**changes: Any) -> dict[str, Any]:
    """An agg_*.json; its nominal lengths stand for means of 0.9 of them."""
    return {
        "hw": "h100", "conc": 8, "image": "vllm/vllm-openai:v0.19.0", "model": MODEL,
        "infmax_model_prefix": "llama8b", "framework": "vllm", "precision": "bf16", "spec_decoding": "none",
        "disagg": False, "isl": 1024 / 0.9, "osl": 256 / 0.9, "is_multinode": False, "tp": 1, "ep": 1,
        "dp_attention": "false", "tput_per_gpu": TOTAL_TOK_S, "output_tput_per_gpu": OUTPUT_TOK_S,
        **_flat("ttft", TTFT, 1e-3), **_flat("tpot", TPOT, 1e-3), **_flat("e2el", E2E, 1e-3),
        **changes,
    }  # fmt: skip


def mlperf(scenario: str = "Server", result: str = "VALID", mode: str = "PerformanceOnly") -> str:
    """LoadGen's summary of a token-latency run."""
    rates = {
        "Server": f"Completed samples per second    : {REQUESTS_S:.4f}",
        "Offline": f"Samples per second: {REQUESTS_S:.4f}\nTokens per second: {OUTPUT_TOK_S:.4f}",
    }
    latencies = "\n".join(
        f"{'Mean' if name == 'mean' else name[1:] + '.00 percentile'} {words} (ns)   : {value * 1e6:.0f}"
        for words, values in (("latency", E2E), ("first token latency", TTFT), ("time to output token", TPOT))
        for name, value in values.items()
    )
    return f"""================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : {scenario}
Mode     : {mode}
{rates.get(scenario, "")}
Result is : {result}
  Performance constraints satisfied : Yes

================================================
Additional Stats
================================================
Scheduled samples per second : {REQUESTS_S * 1.01:.4f}
{latencies}
Completed tokens per second                 : {OUTPUT_TOK_S:.4f}

================================================
Test Parameters Used
================================================
samples_per_query : 1
target_qps : 3.4
"""


def mlperf_system() -> dict[str, Any]:
    """A system description of a submission."""
    return {
        "division": "closed", "submitter": "Us", "system_name": "ONE-H100", "number_of_nodes": "1",
        "accelerator_model_name": "NVIDIA H100-SXM-80GB", "accelerators_per_node": "1",
        "framework": "vLLM 0.19.0, CUDA 12.9",
    }  # fmt: skip


def plain_csv() -> str:
    """A table of someone's own, latencies in s, throughput per GPU."""
    return (
        "Model,System,In,Out,Users,tok/s/GPU,TTFT mean (s),TTFT (s),TPOT (ms),TPOT mean (ms)\n"
        f"{MODEL},h100-sxm,1024,256,8,{OUTPUT_TOK_S},0.060,0.058,8.9,9.0\n"
    )


MAPPING = """
[columns]
model = "Model"
gpu = "System"
isl = "In"
osl = "Out"
concurrency = "Users"
output_tput = { column = "tok/s/GPU", unit = "per_gpu" }
ttft_mean_ms = { column = "TTFT mean (s)", unit = "s" }
ttft_p50_ms = { column = "TTFT (s)", unit = "s" }
tpot_p50_ms = "TPOT (ms)"
tpot_mean_ms = "TPOT mean (ms)"

[values]
engine = "vllm"
mode = "closed-loop"
num_gpus = 1
"""
ANSWERS = {"gpu": "h100-sxm", "tp": 1, "engine": "vllm", "weight_precision": "bf16", "date": "2026-07-01"}


def only_row(store: BenchmarkStore) -> dict[str, Any]:
    """Return the one row of a store."""
    (row,) = store.load().to_dict("records")
    return row


def fates(report: IngestReport) -> list[tuple[str, str]]:
    """Return what became of every row, and why."""
    return [(row.fate, row.reason) for file in report.files for row in file.rows]


@pytest.fixture(scope="session")
def build() -> SimpleNamespace:
    """The builders, the run's figures, and what the files leave to be said."""
    return SimpleNamespace(**globals())


@pytest.fixture(scope="session")
def samples() -> dict[str, bytes]:
    """A valid file of every format."""
    documents = {f.__name__: f() for f in (vllm, sglang, aiperf, guidellm, trtllm, inferencex, mlperf_system)}
    texts = {f.__name__: f() for f in (aiperf_csv, trtllm_log, mlperf)}
    texts["csv"] = f"model,gpu,osl,output_tput\n{MODEL},h100-sxm,256,{OUTPUT_TOK_S}\n"
    return {
        **{name: json.dumps(document, indent=1).encode() for name, document in documents.items()},
        **{name: text.encode() for name, text in texts.items()},
    }


@pytest.fixture
def store(tmp_path: Path) -> BenchmarkStore:
    """An empty store."""
    named = ("row_id", "source", "gpu", "model", "engine", "mode", "num_gpus", "osl")
    return BenchmarkStore.create(tmp_path / "mine.parquet", pd.DataFrame(columns=list(named)))


@pytest.fixture
def take_in(store: BenchmarkStore, tmp_path: Path) -> TakeIn:
    """Write a document and ingest it: take_in(document, answers, name="a.json", ...)."""

    def run(
        document: Any, answers: dict[str, Any] | None = None, name: str = "a.json", **how: Any
    ) -> IngestReport:
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / name).write_text(text, encoding="utf-8")
        given = ANSWERS if answers is None else answers
        return ingest([tmp_path / name], store=store.path, answers=given, **how)

    return run
