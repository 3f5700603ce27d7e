"""NVIDIA's aiperf and its predecessor genai-perf: profile_export_*.json, or the CSV beside it.

Source of the format: ai-dynamo/aiperf 0.13.0 (schema 1.4, run against a mock server; earlier versions by
common/models/export_models.py), triton-inference-server/perf_analyzer genai-perf 0.0.16
(export_data/json_exporter.py, csv_exporter.py). An object per metric with its unit and statistics.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from .draft import Draft, Fields, at, done, gpu, load, loose, plain, refuse, statistics, take, when
from .records import Record

# Their metric.statistic. Latencies are per request; inter_token_latency is (end to end - TTFT) / (tokens -
# 1): TPOT (the time between chunks is inter_chunk_latency). Lengths are means, by the client's tokenizer.
FIELDS: Fields = {
    "request_throughput.avg": ("req_tput", 1.0),
    "output_token_throughput.avg": ("output_tput", 1.0),
    "total_token_throughput.avg": ("total_tput", 1.0),
    "input_sequence_length.avg": ("isl", 1.0),
    "output_sequence_length.avg": ("osl", 1.0),
}
LATENCIES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
MS = {"": 1.0, "ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3, "s": 1e3}
# Where the client's load stands: aiperf's phases, its earlier form, genai-perf.
LOADS = ("input_config.loadgen", "input_config.perf_analyzer.stimulus")
MODELS = ("input_config.endpoint.model_names", "input_config.model_names")


def knows(record: Record) -> bool:
    """Whether a record is an export of these tools."""
    return bool(at(record, "request_throughput.unit")) and "request_latency" in record


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {"model_raw": _model(record), "date": when(record.get("start_time"))}
    cards = [
        card for endpoint in _values(record, "telemetry_data.endpoints") for card in _values(endpoint, "gpus")
    ]
    names = {plain(at(card, "gpu_name")) for card in cards}
    draft["gpu"] = gpu(names.pop()) if len(names) == 1 else ""
    take(draft, record, FIELDS)
    for theirs, ours in LATENCIES.items():
        unit = plain(at(record, f"{theirs}.unit"))
        if unit in MS:
            take(draft, record, statistics(theirs + ".{}", ours, MS[unit], STATISTICS))
        else:
            refuse(draft, f"{theirs}: unknown unit '{unit}'")
    failed = loose(at(record, "error_request_count.avg"))
    good = loose(at(record, "request_count.avg"))
    if failed > 0:
        done(draft, good, good + failed)
    if record.get("was_cancelled") or record.get("is_complete") is False:
        refuse(draft, "the run was cut short")
    _load(draft, record, good)
    yield draft


def _values(record: Any, path: str) -> list[Any]:
    found = at(record, path)
    return list(found.values()) if isinstance(found, dict) else []


def _load(draft: Draft, record: Record, requests: float) -> None:
    phases = at(record, "input_config.phases")
    profiling = [p for p in phases if at(p, "kind") == "profiling"] if isinstance(phases, list) else []
    settings = profiling[-1:] + [found for path in LOADS if isinstance(found := at(record, path), dict)]
    if not settings:
        return  # The CSV does not say: asked for.
    rate = loose(settings[0].get("rate", settings[0].get("request_rate")))
    load(draft, rate=rate, cap=loose(settings[0].get("concurrency")), requests=requests)


def _model(record: Record) -> str:
    items = at(record, "input_config.models.items")
    if isinstance(items, list) and items:
        return plain(at(items[0], "name"))
    for path in MODELS:
        names = at(record, path)
        if isinstance(names, list) and names:
            return plain(names[0])
    return ""


def knows_text(head: str) -> bool:
    """Whether a text is the CSV export: a header of statistics."""
    return bool(re.match(r"Metric,\s*avg,", head))


def text_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Draft]]:
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
            metric = named.group(1).lower().replace(" ", "_")
            values = {
                name: value for name, value in zip(header[1:], cells[1:], strict=False) if value != "N/A"
            }
            record.setdefault(metric, {**values, "unit": named.group(2) or ""})
    for draft in rows(record):
        yield 1, draft
