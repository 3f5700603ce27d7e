"""trtllm-bench: the JSON of --report_json, or the report it prints.

Source of the format: NVIDIA/TensorRT-LLM, tensorrt_llm/bench/dataclasses/reporting.py and statistics.py at
0249976 (1.x); 0.1x names fewer percentiles. The report does not say whether --concurrency held requests back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .base import ASK, Draft, Fields, Lines, Record, Rows, at, fill, has, plain, statistics

# Times in ms here (ns inside the tool). Output tokens and throughputs count the first token; TPOT is
# (end - first token) / (tokens - 1) per request, only with --streaming, as TTFT.
_PERCENTILES = {name: name for name in ("p50", "p90", "p95", "p99")}
_PRINTED = {name.upper(): name for name in _PERCENTILES}
DONE = "Request Throughput (req/sec)"
# The JSON's fields, and the labels of the printed report.
FIELDS: Fields = {
    **dict.fromkeys(("engine.model", "Model"), "model_raw"),
    **dict.fromkeys(("engine.version", "TensorRT LLM Version", "TensorRT-LLM Version"), "engine_version"),
    **dict.fromkeys(("engine.quantization", "Quantization", "engine.dtype", "Dtype"), "weight_precision"),
    **dict.fromkeys(("engine.kv_cache_dtype", "KV Cache Dtype"), "kv_precision"),
    "machine.name": "gpu",
    **dict.fromkeys(("performance.request_throughput_req_s", DONE), "req_tput"),
    "performance.system_output_throughput_tok_s": "output_tput",
    "Total Output Throughput (tokens/sec)": "output_tput",
    "performance.system_total_throughput_tok_s": "total_tput",
    "Total Token Throughput (tokens/sec)": "total_tput",
    **dict.fromkeys(("performance.avg_request_latency_ms", "Average request latency (ms)"), "e2e_mean_ms"),
    **statistics("performance.request_latency_percentiles_ms.{}", "e2e", names=_PERCENTILES),
    **statistics("[Latency] {}", "e2e", names=_PRINTED),
    "streaming_metrics.avg_ttft_ms": "ttft_mean_ms",
    "Average time-to-first-token [TTFT] (ms)": "ttft_mean_ms",
    **statistics("streaming_metrics.ttft_percentiles.{}", "ttft", names=_PERCENTILES),
    **statistics("[TTFT] {}", "ttft", names=_PRINTED),
    "streaming_metrics.avg_tpot_ms": "tpot_mean_ms",
    "Average time-per-output-token [TPOT] (ms)": "tpot_mean_ms",
    **statistics("streaming_metrics.tpot_percentiles.{}", "tpot", names=_PERCENTILES),
    **statistics("[TPOT] {}", "tpot", names=_PRINTED),
    **dict.fromkeys(("request_info.avg_input_length", "Average Input Length (tokens)"), "isl"),
    **dict.fromkeys(("request_info.avg_output_length", "Average Output Length (tokens)"), "osl"),
    "request_info.avg_num_concurrent_requests": "in_flight",  # mean, as measured
    "Number of concurrent requests": "in_flight",
    **{f"world_info.{name}_size": name for name in ("tp", "pp", "ep")},
    **{f"{name.upper()} Size": name for name in ("tp", "pp", "ep")},
    "world_info.world_size": "num_gpus",
}
SPECULATION = ("eagle3", "eagle", "mtp", "medusa", "draft")
_LINE = re.compile(r"((?:\[(?:TTFT|TPOT|Latency)\] )?[A-Za-z][^:]*?)\s*:\s*(.*?)\s*$")
_LOG_PREFIX = re.compile(r"^(?:\[[^\]]*\]\s*)*?(?=\[(?:TTFT|TPOT|Latency)\] |[^\[]|$)")

knows = has("engine", "world_info", "request_info", "performance")
knows_text = re.compile(r"= PERFORMANCE OVERVIEW|trtllm-bench|\[TRT-LLM\]").search


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a report; its mode is for the user to say."""
    draft: Draft = {"engine": "trtllm"}
    fill(draft, record, FIELDS)
    if "num_gpus" not in draft and {"tp", "pp"} <= draft.keys():
        draft["num_gpus"] = draft["tp"] * draft["pp"]
    mode = plain(at(record, "decoding_stats.mode")).lower()
    if mode:
        draft["spec_decode"] = next((kind for kind in SPECULATION if kind in mode), ASK)
    yield draft


def text_rows(lines: Lines) -> Rows:
    """Yield the row of each report in a log."""
    reports: list[tuple[int, Record]] = [(1, {})]
    machine = False
    for line_number, line in lines:
        bare = _LOG_PREFIX.sub("", line.strip(), count=1)
        if bare.startswith(("= ENGINE DETAILS", "= PYTORCH BACKEND")):
            reports.append((line_number, {}))
        record = reports[-1][1]
        found = _LINE.match(bare)
        if bare.startswith("= DECODING STATISTICS"):
            record["decoding_stats"] = {"mode": bare.partition("(")[2].rstrip(")")}
        elif machine and bare.strip("="):
            record["machine"] = {"name": bare.partition(",")[0]}
        elif found and found[1] in FIELDS:
            record[found[1]] = found[2]
        machine = bare.startswith("= MACHINE DETAILS") or (machine and not bare.strip("="))
    yield from ((line, draft) for line, record in reports if DONE in record for draft in rows(record))
