"""guidellm's JSON report: one benchmark per rate or number of streams.

Source of the format: vllm-project/guidellm (before: neuralmagic/guidellm) 0.8.1 (run against a mock server),
src/guidellm/benchmark/benchmark.py for the versions before 0.4, which keep the strategy under `args`.
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import Draft, Fields, Record, at, fill, has, plain, refuse, setting, statistics
from .runs import completed, load

# Their time_per_output_token divides the whole request, with the first token, by its tokens: not ours. Their
# inter_token_latency is (last - first token) / (tokens - 1) of a request: TPOT; its statistics weigh each
# request by its tokens. request_latency is in s, the rest in ms.
_STATISTICS = {"mean": "mean", "median": "p50", **{f"percentiles.{p}": p for p in ("p90", "p95", "p99")}}
FIELDS: Fields = {
    "metrics.requests_per_second.successful.mean": "req_tput",
    "metrics.output_tokens_per_second.successful.mean": "output_tput",
    "metrics.tokens_per_second.successful.mean": "total_tput",
    "metrics.prompt_token_count.successful.mean": "isl",
    "metrics.output_token_count.successful.mean": "osl",
    **statistics("metrics.time_to_first_token_ms.successful.{}", "ttft", names=_STATISTICS),
    **statistics("metrics.inter_token_latency_ms.successful.{}", "tpot", names=_STATISTICS),
    **statistics("metrics.request_latency.successful.{}", "e2e", 1000.0, _STATISTICS),
    "start_time": "date",
    "run_stats.start_time": "date",
    "config.backend.model": "model_raw",
    "worker.backend.model": "model_raw",
    "worker.backend_model": "model_raw",
}
REPORT_FIELDS: Fields = {"args.backend.model": "model_raw", "args.model": "model_raw"}
RATES = {"constant", "poisson", "async"}

knows = has("benchmarks.0.metrics.requests_per_second.successful")


def rows(record: Record) -> Iterator[Draft]:
    """Yield a row for each benchmark of the report."""
    for benchmark in record["benchmarks"]:
        draft: Draft = {}
        fill(draft, benchmark, FIELDS)
        fill(draft, record, REPORT_FIELDS)
        totals = at(benchmark, "metrics.request_totals") or at(benchmark, "request_totals")
        good = setting(at(totals, "successful"))
        completed(draft, good, good + setting(at(totals, "errored")))
        strategy = at(benchmark, "config.strategy") or at(benchmark, "args.strategy")
        kind, cap = plain(at(strategy, "type_")), at(strategy, "max_concurrency")
        streams = {"synchronous": 1, "concurrent": at(strategy, "streams"), "throughput": cap}
        if kind in streams:
            load(draft, cap=streams[kind], requests=good)
        elif kind in RATES:
            load(draft, rate=at(strategy, "rate"), cap=cap)
        else:
            refuse(draft, "load-kind", value=kind)
        yield draft
