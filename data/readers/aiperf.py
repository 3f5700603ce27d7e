"""NVIDIA's aiperf and its predecessor genai-perf: profile_export_*.json, or the CSV beside it.

Source of the format: ai-dynamo/aiperf 0.13.0 (schema 1.4, run against a mock server; earlier versions by
common/models/export_models.py), triton-inference-server/perf_analyzer genai-perf 0.0.16
(export_data/json_exporter.py, csv_exporter.py). An object per metric with its unit and statistics.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from .base import Draft, Fields, Lines, Record, Rows, at, fill, gpu, has, plain, refuse, setting, statistics
from .runs import completed, load

# Their metric.statistic. Latencies are per request; inter_token_latency is (end to end - TTFT) / (tokens -
# 1): TPOT (the time between chunks is inter_chunk_latency). Lengths are means, by the client's tokenizer.
FIELDS: Fields = {
    "start_time": "date",
    "input_config.models.items.0.name": "model_raw",
    "input_config.models.items.0": "model_raw",
    "input_config.endpoint.model_names.0": "model_raw",
    "input_config.model_names.0": "model_raw",  # genai-perf
    "request_throughput.avg": "req_tput",
    "output_token_throughput.avg": "output_tput",
    "total_token_throughput.avg": "total_tput",
    "input_sequence_length.avg": "isl",
    "output_sequence_length.avg": "osl",
}
LATENCIES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
MS = {"": 1.0, "ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3, "s": 1e3}
# Where the client's load stands: aiperf's earlier form, genai-perf.
LOADS = ("input_config.loadgen", "input_config.perf_analyzer.stimulus")

knows = has("request_throughput.unit", "request_latency")
knows_text = re.compile(r"Metric,\s*avg,").match


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {}
    endpoints = _values(at(record, "telemetry_data.endpoints"))
    cards = {plain(at(card, "gpu_name")) for endpoint in endpoints for card in _values(at(endpoint, "gpus"))}
    draft["gpu"] = gpu(cards.pop()) if len(cards) == 1 else ""
    fill(draft, record, FIELDS)
    for theirs, ours in LATENCIES.items():
        unit = plain(at(record, f"{theirs}.unit"))
        if unit in MS:
            fill(draft, record, statistics(theirs + ".{}", ours, MS[unit], STATISTICS))
        else:
            refuse(draft, "unit", column=theirs, value=unit)
    good = setting(at(record, "request_count.avg"))
    completed(draft, good, good + setting(at(record, "error_request_count.avg")))
    if record.get("was_cancelled") or record.get("is_complete") is False:
        refuse(draft, "cut-short")
    phases = at(record, "input_config.phases")
    profiling = [p for p in phases if at(p, "kind") == "profiling"] if isinstance(phases, list) else []
    settings = profiling[-1:] + [found for path in LOADS if isinstance(found := at(record, path), dict)]
    if settings:  # The CSV does not say: asked for.
        rate = settings[0].get("rate", settings[0].get("request_rate"))
        load(draft, rate=rate, cap=settings[0].get("concurrency"), requests=good)
    yield draft


def _values(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, dict) else []


def text_rows(lines: Lines) -> Rows:
    """Yield the one row of a CSV export, read as the JSON export it stands beside."""
    record: Record = {}
    header: list[str] = []
    for cells in csv.reader(line for _, line in lines):
        named = re.fullmatch(r"([^(]*?)\s*(?:\((.*)\))?", cells[0]) if cells else None
        if cells[:1] == ["Metric"]:
            header = ["avg" if name == "Value" else name for name in cells]
        elif cells[:1] == ["Endpoint"]:
            break  # GPU telemetry follows.
        elif named and header:
            given = zip(header[1:], cells[1:], strict=False)
            values = {name: value for name, value in given if value != "N/A"}
            metric = named.group(1).lower().replace(" ", "_")
            record.setdefault(metric, {**values, "unit": named.group(2) or ""})
    yield from ((1, draft) for draft in rows(record))
