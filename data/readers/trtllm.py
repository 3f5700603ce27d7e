"""trtllm-bench: the JSON of --report_json, or the report it prints.

Source of the format: NVIDIA/TensorRT-LLM, tensorrt_llm/bench/dataclasses/reporting.py and statistics.py at
0249976 (1.x); 0.1x names fewer percentiles. The report does not say whether --concurrency held requests back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .base import ASK, Draft, Fields, Lines, Rows, at, fill, plain, statistics
from .records import Record

# Times in ms here (ns inside the tool). Output tokens and throughputs count the first token; TPOT is
# (end - first token) / (tokens - 1) per request, only with --streaming, as TTFT.
_PERCENTILES = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
FIELDS: Fields = {
    "engine.model": "model_raw",
    "engine.version": "engine_version",
    "engine.quantization": "weight_precision",
    "engine.dtype": "weight_precision",
    "engine.kv_cache_dtype": "kv_precision",
    "machine.name": "gpu",
    "performance.request_throughput_req_s": "req_tput",
    "performance.system_output_throughput_tok_s": "output_tput",
    "performance.system_total_throughput_tok_s": "total_tput",
    "performance.avg_request_latency_ms": "e2e_mean_ms",
    **statistics("performance.request_latency_percentiles_ms.{}", "e2e", names=_PERCENTILES),
    "streaming_metrics.avg_ttft_ms": "ttft_mean_ms",
    **statistics("streaming_metrics.ttft_percentiles.{}", "ttft", names=_PERCENTILES),
    "streaming_metrics.avg_tpot_ms": "tpot_mean_ms",
    **statistics("streaming_metrics.tpot_percentiles.{}", "tpot", names=_PERCENTILES),
    "request_info.avg_input_length": "isl",
    "request_info.avg_output_length": "osl",
    "request_info.avg_num_concurrent_requests": "in_flight",  # mean, as measured
    **{f"world_info.{name}_size": name for name in ("tp", "pp", "ep")},
    "world_info.world_size": "num_gpus",
}
# The printed report's lines, to the JSON's fields.
LINES = {
    "Model": "engine.model",
    "TensorRT LLM Version": "engine.version",
    "TensorRT-LLM Version": "engine.version",
    "Dtype": "engine.dtype",
    "KV Cache Dtype": "engine.kv_cache_dtype",
    "Quantization": "engine.quantization",
    **{f"{name} Size": f"world_info.{name.lower()}_size" for name in ("TP", "PP", "EP")},
    "Number of concurrent requests": "request_info.avg_num_concurrent_requests",
    "Average Input Length (tokens)": "request_info.avg_input_length",
    "Average Output Length (tokens)": "request_info.avg_output_length",
    "Request Throughput (req/sec)": "performance.request_throughput_req_s",
    "Total Output Throughput (tokens/sec)": "performance.system_output_throughput_tok_s",
    "Total Token Throughput (tokens/sec)": "performance.system_total_throughput_tok_s",
    "Average request latency (ms)": "performance.avg_request_latency_ms",
    "Average time-to-first-token [TTFT] (ms)": "streaming_metrics.avg_ttft_ms",
    "Average time-per-output-token [TPOT] (ms)": "streaming_metrics.avg_tpot_ms",
    **{f"[TTFT] P{p}": f"streaming_metrics.ttft_percentiles.p{p}" for p in (50, 90, 95, 99)},
    **{f"[TPOT] P{p}": f"streaming_metrics.tpot_percentiles.p{p}" for p in (50, 90, 99)},
    **{f"[Latency] P{p}": f"performance.request_latency_percentiles_ms.p{p}" for p in (50, 99)},
}
MARKS = ("= PERFORMANCE OVERVIEW", "trtllm-bench", "[TRT-LLM]")
SPECULATION = ("eagle3", "eagle", "mtp", "medusa", "draft")
_LINE = re.compile(r"((?:\[(?:TTFT|TPOT|Latency)\] )?[A-Za-z][^:]*?)\s*:\s*(.*?)\s*$")
_LOG_PREFIX = re.compile(r"^(?:\[[^\]]*\]\s*)*?(?=\[(?:TTFT|TPOT|Latency)\] |[^\[]|$)")


def knows(record: Record) -> bool:
    """Whether a record is a report of this tool."""
    return {"engine", "world_info", "request_info", "performance"} <= record.keys()


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


def knows_text(head: str) -> bool:
    """Whether a text is the printed report, or a log that holds it."""
    return any(mark in head for mark in MARKS)


def text_rows(lines: Lines) -> Rows:
    """Yield the row of each report in a log."""
    record: Record = {}
    began = 1
    machine = False
    for line_number, line in lines:
        bare = _LOG_PREFIX.sub("", line.strip(), count=1)
        if bare.startswith(("= ENGINE DETAILS", "= PYTORCH BACKEND")):
            yield from _report(record, began)
            record, began = {}, line_number
        elif bare.startswith("= DECODING STATISTICS"):
            record["decoding_stats"] = {"mode": bare.partition("(")[2].rstrip(")")}
        elif machine and bare.strip("="):
            record["machine"] = {"name": bare.partition(",")[0]}
        machine = bare.startswith("= MACHINE DETAILS") or (machine and not bare.strip("="))
        found = _LINE.match(bare)
        path = LINES.get(found.group(1).strip()) if found else None
        if path and found:
            *groups, name = path.split(".")
            inner = record
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[name] = found.group(2)
    yield from _report(record, began)


def _report(record: Record, line: int) -> Rows:
    if "performance" in record:
        yield from ((line, draft) for draft in rows(record))
